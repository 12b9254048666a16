//! A directory node as a library.

use std::net::SocketAddr;

use offhook::http::{Http, HttpError};
use offhook::net::{Front, MailRequest, Net, NetError, NetEvent, NetStatus, RelayNotice};
use offhook::relay::{Relay, RelayError};
use offhook_proto::identity::{DirectoryKey, TerminalId};
use offhook_proto::number::NodeAddr;
use offhook_proto::relay::{RelayTransport, TicketIssuer};
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{debug, info};

use crate::front::{self, FrontError};
use crate::key::{self, KeyError, Secret};
use crate::post::{self, OpenPost};
use crate::settings::Settings;
use crate::site::{self, OpenSite, Watched};
use crate::store::{Fact, Store};
use crate::web::{Reach, SiteError};

/// Why a directory doesn't start.
#[derive(Debug, Error)]
pub enum DirectoryError {
    /// Its key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Its listeners or its store.
    #[error(transparent)]
    Net(#[from] NetError),
    /// Its media relay.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// Its front.
    #[error(transparent)]
    Front(#[from] FrontError),
    /// Its HTTP server.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Its site, or what it keeps of accounts.
    #[error(transparent)]
    Site(#[from] SiteError),
}

/// A running directory node.
pub struct Directory {
    net: Net,
    relay: Option<Relay>,
    front: Option<Front>,
    http: Option<Http>,
    site: Option<OpenSite>,
    post: Option<OpenPost>,
    /// What it keeps, if it has no site.
    store: Option<Store>,
    settings: Settings,
    log: JoinHandle<()>,
}

impl Directory {
    /// Binds all sockets, with a new key if there is none yet, and starts to serve.
    ///
    /// # Errors
    /// A [`DirectoryError`]; nothing runs then.
    pub async fn bind(settings: &Settings) -> Result<Self, DirectoryError> {
        let settings = settings.clone().or(Settings::defaults());
        let seed = key::load_or_make(&settings.data_dir(), Secret::Key)?;
        let issuer = TicketIssuer::new(key::load_or_make(&settings.data_dir(), Secret::Relay)?);
        let mut config = settings.net_config(seed);
        let relay = match settings.relay_config(issuer.clone()) {
            Some(relay) => Some(Relay::start(relay).await?),
            None => None,
        };
        let bound = front::bind(&settings).await?;
        config.front = bound.as_ref().map(|bound| bound.addr);
        if let Some(relay) = &relay {
            // The relay answers it.
            config.stun = None;
            let mut listeners = relay.listeners();
            if let Some(bound) = &bound {
                let port = bound.addr.port();
                listeners.extend([(RelayTransport::Tcp, port), (RelayTransport::Tls, port)]);
            }
            let pin = bound.as_ref().map(|bound| bound.identity.pin());
            config.relay = Some(RelayNotice { issuer, listeners, pin });
        }
        // Before anybody is told of the directory: wrong settings show here.
        let mut site = site::open(&settings).await?;
        let own_store = match &site {
            Some(_) => None,
            None => open_store(&settings).await?,
        };
        let store = site.as_ref().map(OpenSite::store).or(own_store.as_ref()).cloned();
        let mut requests = None;
        if store.is_some() && settings.mail_limits().is_some() {
            let (sender, receiver) = mpsc::channel(post::WAITING);
            config.mailboxes = Some(sender);
            requests = Some(receiver);
        }
        let (net, events) = Net::start(config).await?;
        let post = match (store, requests) {
            (Some(store), Some(requests)) => Some(open_post(&settings, store, &net, requests).await?),
            (_, _) => None,
        };
        relay.iter().for_each(|relay| net.tell_counters_of(relay));
        let pages = site.as_ref().map(OpenSite::router);
        let front = bound.map(|bound| bound.serve(relay.as_ref(), pages, net.entrance())).transpose()?;
        let http = match settings.http.and_then(|http| http.0) {
            Some(addr) => {
                let watched = Watched { net: net.clone(), site: site.as_ref().map(OpenSite::watched) };
                Some(Http::bind(addr, watched).await?)
            }
            None => None,
        };
        let turn = relay.as_ref().and_then(Relay::addr).map(|addr| addr.port());
        let reach = Reach {
            nodes: Vec::new(),
            stun: turn.or(net.stun_addr().map(|addr| addr.port())),
            turn,
            front: front.as_ref().map(|front| front.addr().port()),
            mailbox: post.is_some(),
        };
        if let Some(site) = &mut site {
            site.follow(&net, reach.clone());
            site.announce(net.clone());
        }
        let log = tokio::spawn(log(events));
        Ok(Self { net, relay, front, http, site, post, store: own_store, settings, log })
    }

    /// The directory's key, which is its PeerId.
    pub fn id(&self) -> TerminalId {
        self.net.id()
    }

    /// Addresses to give to others, each ending in `/p2p/ID`. Empty until the listeners are up: see
    /// [`Directory::watch`].
    pub fn addresses(&self) -> Vec<NodeAddr> {
        self.net.addresses()
    }

    /// The node's state as it changes.
    pub fn watch(&self) -> watch::Receiver<NetStatus> {
        self.net.watch()
    }

    /// Where HTTP is served.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(Http::addr)
    }

    /// Where the site is served.
    pub fn site_addr(&self) -> Option<SocketAddr> {
        self.site.as_ref().map(OpenSite::addr)
    }

    /// Where STUN is answered.
    pub fn stun_addr(&self) -> Option<SocketAddr> {
        self.turn_addr().or(self.net.stun_addr())
    }

    /// Where the media relay is.
    pub fn turn_addr(&self) -> Option<SocketAddr> {
        self.relay.as_ref().and_then(Relay::addr)
    }

    /// Where the front is.
    pub fn front_addr(&self) -> Option<SocketAddr> {
        self.front.as_ref().map(Front::addr)
    }

    /// Reads the files of the front's certificate again and shows that to new connections; those that there are go on. `false`: there is
    /// no front, or none of its own making was configured. The media relay shows its own as before, so tickets stay good.
    ///
    /// # Errors
    /// A [`FrontError`]: the files are not what they should be, and the certificate shown is the one before.
    pub fn reload(&self) -> Result<bool, FrontError> {
        let Some(front) = &self.front else { return Ok(false) };
        let Some(identity) = front::configured(&self.settings)? else { return Ok(false) };
        front.show(identity);
        Ok(true)
    }

    /// Says farewell to everybody and finishes writing.
    pub async fn shutdown(self) {
        drop(self.front);
        if let Some(http) = self.http {
            http.stop().await;
        }
        self.net.shutdown().await;
        if let Some(post) = self.post {
            post.stop().await;
        }
        if let Some(site) = self.site {
            site.stop().await;
        }
        if let Some(store) = self.store {
            store.close().await;
        }
        self.relay.iter().for_each(Relay::stop);
        self.log.abort();
    }
}

/// What a directory without a site keeps: mailboxes.
async fn open_store(settings: &Settings) -> Result<Option<Store>, SiteError> {
    if settings.mail_limits().is_none() {
        return Ok(None);
    }
    let seed = key::load_or_make(&settings.data_dir(), Secret::Signing)?;
    let store = Store::open(&settings.database(), &settings.blobs()).await?;
    store.belongs_to(Fact::SigningKey, DirectoryKey::from_seed(seed).public().as_bytes()).await?;
    Ok(Some(store))
}

async fn open_post(
    settings: &Settings,
    store: Store,
    net: &Net,
    requests: mpsc::Receiver<MailRequest>,
) -> Result<OpenPost, SiteError> {
    let seed = key::load_or_make(&settings.data_dir(), Secret::Signing)?;
    let mail = store.mail(settings.mail_limits().unwrap_or_default()).await?;
    let signing = DirectoryKey::from_seed(seed);
    Ok(OpenPost::open(store, mail, net.clone(), &signing, &seed, requests).await?)
}

/// Takes the network's events, so that the channel never fills. Packets to the directory itself mean nothing.
async fn log(mut events: mpsc::Receiver<NetEvent>) {
    while let Some(event) = events.recv().await {
        match event {
            NetEvent::Listening { addr } => info!(%addr, "listening"),
            NetEvent::EntryUp { node, .. } => info!(node = %node.to_peer_id(), "entry point connected"),
            NetEvent::EntryDown { .. } => info!("entry point lost"),
            NetEvent::Mail { .. } => debug!("a notice for the directory itself"),
            NetEvent::Signal { .. } => debug!("a packet for the directory itself"),
        }
    }
}
