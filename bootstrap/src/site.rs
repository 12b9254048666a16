//! The site of a directory: where it is served, and what it keeps.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use offhook::clock::wall_clock;
use offhook::http::{Health, Observed};
use offhook::net::Net;
use offhook_proto::identity::DirectoryKey;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::warn;

use crate::announce::Announcer;
use crate::key::{self, Secret};
use crate::processes;
use crate::settings::{AddrOrNone, Settings};
use crate::store::{Fact, Store};
use crate::web::opaque::Opaque;
use crate::web::{self, Meters, Reach, Site, SiteConfig, SiteError};

/// Where the site is served without a word in the settings: for a reverse proxy on this host.
const DEFAULT: ([u8; 4], u16) = ([127, 0, 0, 1], 8080);

/// How often what nobody needs any more is erased.
const SWEEP: Duration = Duration::from_secs(3_600);

/// How often attempts are forgotten that count no more: a flood from many networks leaves one each.
const FORGET: Duration = Duration::from_secs(300);

/// How often accounts and sessions are counted.
const MEASURE: Duration = Duration::from_secs(60);

/// How long the database may take to answer whoever asks whether it is there.
const HEALTH_TIME: Duration = Duration::from_secs(2);

/// A site, with what it keeps.
pub(crate) struct OpenSite {
    site: Site,
    router: Router,
    store: Store,
    reach: watch::Sender<Reach>,
    node: watch::Sender<Option<Net>>,
    signing: DirectoryKey,
    name: Option<String>,
    url: Option<String>,
    net: Option<Net>,
    follower: Option<JoinHandle<()>>,
    announcer: Option<JoinHandle<()>>,
    sweeper: JoinHandle<()>,
    meters: Meters,
    measurer: JoinHandle<()>,
}

/// Opens the store and serves the site. Without a word about it in the settings the directory does without, if the port is
/// taken.
pub(crate) async fn open(settings: &Settings) -> Result<Option<OpenSite>, SiteError> {
    let listener = match settings.site {
        Some(AddrOrNone(None)) => return Ok(None),
        Some(AddrOrNone(Some(addr))) => {
            TcpListener::bind(addr).await.map_err(|error| SiteError::Listen { addr, error })?
        }
        None => match TcpListener::bind(SocketAddr::from(DEFAULT)).await {
            Ok(listener) => listener,
            Err(error) => {
                warn!(%error, port = DEFAULT.1, "no site: nobody can sign up or log in here");
                return Ok(None);
            }
        },
    };
    let mut config = config(settings)?;
    let (reach, receiver) = watch::channel(Reach::default());
    config.reach = receiver;
    let (node, receiver) = watch::channel(None);
    config.node = receiver;
    let opaque = Opaque::load_or_make(&settings.data_dir())?;
    let signing = DirectoryKey::from_seed(key::load_or_make(&settings.data_dir(), Secret::Signing)?);
    let store = Store::open(&settings.database(), &settings.blobs()).await?;
    store.belongs_to(Fact::OpaqueKey, opaque.fingerprint()).await?;
    store.belongs_to(Fact::SigningKey, signing.public().as_bytes()).await?;
    if let Some(name) = &config.name {
        store.belongs_to(Fact::Name, name.as_bytes()).await?;
    }
    let (name, url) = (config.name.clone(), config.url.clone());
    let (meters, clock) = (Meters::default(), web::system_clock());
    let router = web::metered_router(config, store.clone(), opaque, signing.clone(), clock, meters.clone())?;
    let sweeper = tokio::spawn(sweep(store.clone()));
    let measurer = tokio::spawn(measure(store.clone(), meters.clone()));
    let site = Site::serve(listener, router.clone())?;
    let (net, follower, announcer) = (None, None, None);
    Ok(Some(OpenSite {
        site,
        router,
        store,
        reach,
        node,
        signing,
        name,
        url,
        net,
        follower,
        announcer,
        sweeper,
        meters,
        measurer,
    }))
}

fn config(settings: &Settings) -> Result<SiteConfig, SiteError> {
    let mut config = SiteConfig::new(settings.name.as_deref())?;
    if let Some(url) = &settings.site_url {
        config.is_https = is_https(url).ok_or_else(|| SiteError::Url(url.clone()))?;
        config.url = Some(url.trim_end_matches('/').to_owned());
    }
    config.is_open = settings.signup != Some(false);
    config.downloads = settings.downloads.clone();
    config.accounts = settings.accounts.unwrap_or(config.accounts);
    config.proxies = settings.site_proxy.clone().unwrap_or_default();
    Ok(config)
}

/// Whether it is an address with TLS; `None` if it is none, or more than the address of a site.
fn is_https(url: &str) -> Option<bool> {
    let url = reqwest::Url::parse(url).ok()?;
    let is_bare = url.has_host() && url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    match url.scheme() {
        "https" if is_bare => Some(true),
        "http" if is_bare => Some(false),
        _ => None,
    }
}

/// Erases what nobody needs any more, at the start and then every hour; attempts more often.
async fn sweep(store: Store) {
    let (mut hours, mut often) = (tokio::time::interval(SWEEP), tokio::time::interval(FORGET));
    loop {
        tokio::select! {
            _ = hours.tick() => {
                if let Err(error) = store.sweep(wall_clock()).await {
                    warn!(%error, "old sessions and backups could not be erased; it is tried again in an hour");
                }
            }
            _ = often.tick() => {
                if let Err(error) = store.sweep_attempts(wall_clock()).await {
                    warn!(%error, "old attempts could not be forgotten; it is tried again in some minutes");
                }
            }
        }
    }
}

/// Counts accounts and sessions, at the start and then every minute.
async fn measure(store: Store, meters: Meters) {
    let mut minutes = tokio::time::interval(MEASURE);
    loop {
        minutes.tick().await;
        if let Err(error) = meters.measure(&store, wall_clock()).await {
            warn!(%error, "accounts and sessions could not be counted");
        }
    }
}

/// A directory as it is watched: its node, and its site if there is one.
#[derive(Clone)]
pub(crate) struct Watched {
    pub(crate) net: Net,
    pub(crate) site: Option<(Meters, Store)>,
}

impl Observed for Watched {
    async fn metrics(&self) -> Option<String> {
        let node = Observed::metrics(&self.net).await?;
        let Some((meters, store)) = &self.site else { return Some(node) };
        meters.note_limits(store);
        let more = meters.text();
        // Two texts make one: only the last line of all ends it.
        Some(node.trim_end().trim_end_matches("# EOF").to_owned() + &more)
    }

    async fn health(&self) -> Health {
        let mut health = self.net.health().await;
        if let Some((_, store)) = &self.site {
            let is_there = matches!(tokio::time::timeout(HEALTH_TIME, store.check()).await, Ok(Ok(())));
            health.details["database"] = Value::from(if is_there { "ok" } else { "down" });
            health.good &= is_there;
            if !is_there {
                health.details["status"] = Value::from("down");
            }
        }
        health
    }
}

impl OpenSite {
    /// What `/metrics` and `/health` tell of it.
    pub(crate) fn watched(&self) -> (Meters, Store) {
        (self.meters.clone(), self.store.clone())
    }

    /// What it keeps.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Where it is served.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.site.addr()
    }

    /// What it serves, to be served elsewhere, too.
    pub(crate) fn router(&self) -> Router {
        self.router.clone()
    }

    /// From now on the node is asked for records, and everybody is told where the directory is reached: on these ports of the hosts
    /// that the node has.
    pub(crate) fn follow(&mut self, net: &Net, ports: Reach) {
        self.node.send_replace(Some(net.clone()));
        self.net = Some(net.clone());
        let follow = processes::follow(self.store.clone(), net.clone(), ports, self.reach.clone());
        self.follower = Some(tokio::spawn(follow));
    }

    /// Has the network hold what the directory says of itself, for when its site is down: now, when it has moved, and every hour.
    /// A directory without a name has no numbers that anybody would look for.
    pub(crate) fn announce(&mut self, net: Net) {
        let Some(name) = self.name.clone() else { return };
        let announcer = Announcer {
            net,
            key: self.signing.clone(),
            name,
            url: self.url.clone(),
            reach: self.reach.subscribe(),
        };
        self.announcer = Some(tokio::spawn(announcer.run()));
    }

    /// Ends it. What has been acknowledged is on disk.
    pub(crate) async fn stop(self) {
        self.sweeper.abort();
        self.measurer.abort();
        self.node.send_replace(None);
        self.follower.iter().chain(&self.announcer).for_each(JoinHandle::abort);
        drop(self.site);
        if let Some(net) = &self.net {
            processes::leave(&self.store, net).await;
        }
        self.store.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(folder: &std::path::Path) -> Settings {
        let site = Some(AddrOrNone(Some(SocketAddr::from(([127, 0, 0, 1], 0)))));
        Settings { data: Some(folder.to_owned()), site, ..Settings::default() }
    }

    #[test]
    fn a_site_is_named_by_its_scheme_and_host() {
        assert_eq!(is_https("https://example.org"), Some(true));
        assert_eq!(is_https("http://example.org:8080/"), Some(false));
        for wrong in ["example.org", "ftp://example.org", "https://example.org/offhook", "https://"] {
            assert_eq!(is_https(wrong), None, "{wrong}");
        }
    }

    #[tokio::test]
    async fn what_is_asked_for_must_be_had_and_what_is_not_wanted_is_not() {
        let folder = tempfile::tempdir().expect("folder");
        let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut one = settings(folder.path());
        one.site = Some(AddrOrNone(taken.local_addr().ok()));
        assert!(matches!(open(&one).await, Err(SiteError::Listen { .. })));
        one.site = Some(AddrOrNone(None));
        assert!(open(&one).await.expect("opened").is_none());
        assert!(!folder.path().join("opaque.key").exists(), "nothing was made");
    }

    #[tokio::test]
    async fn a_database_is_not_served_with_another_key_or_name() {
        use crate::store::StoreError;
        let folder = tempfile::tempdir().expect("folder");
        let named = |name: &str| Settings { name: Some(name.to_owned()), ..settings(folder.path()) };
        open(&named("Example.org")).await.expect("opened").expect("a site").stop().await;
        open(&named("example.org")).await.expect("opened").expect("a site").stop().await;
        let foreign = |outcome: Result<Option<OpenSite>, SiteError>| match outcome {
            Err(SiteError::Store(StoreError::Foreign(what))) => what,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("it is served"),
        };
        assert_eq!(foreign(open(&named("example.com")).await), "name");
        assert!(matches!(open(&named("no name")).await, Err(SiteError::Name(_))));
        let signing = folder.path().join("signing.key");
        let kept = std::fs::read(&signing).expect("read");
        std::fs::write(&signing, [1; 32]).expect("written");
        assert_eq!(foreign(open(&named("example.org")).await), "signing key");
        std::fs::write(&signing, kept).expect("written");
        std::fs::remove_file(folder.path().join("opaque.key")).expect("removed");
        assert_eq!(foreign(open(&named("example.org")).await), "opaque.key");
        let key = folder.path().join("opaque.key");
        std::fs::write(&key, [1; 31]).expect("written");
        assert!(matches!(open(&named("example.org")).await, Err(SiteError::OpaqueKey(_))));
        assert_eq!(std::fs::read(&key).expect("read").len(), 31, "it is not replaced");
    }
}
