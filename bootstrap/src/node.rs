//! A running directory.

use crate::config::Config;
use crate::http;
use crate::key::{self, KeyError};
use offhook::net::{Net, NetConfig, NetError, NetEvent, Role};
use offhook_proto::number::NodeAddr;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Addresses that may wait to be told to [`Directory::next_address`].
const ADDRESSES: usize = 64;

/// Why a directory does not start.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Its key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Its network.
    #[error(transparent)]
    Net(#[from] NetError),
    /// A configured address.
    #[error("`{0}` is not a multiaddr")]
    Address(String),
    /// The HTTP socket.
    #[error("cannot serve HTTP on {addr}: {source}")]
    Http {
        /// Where.
        addr: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
}

/// A directory that runs until [`Directory::shutdown`].
pub struct Directory {
    net: Net,
    peer_id: String,
    addresses: mpsc::Receiver<String>,
    events: JoinHandle<()>,
    http: JoinHandle<()>,
    http_addr: SocketAddr,
    stop_http: oneshot::Sender<()>,
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directory").field("peer_id", &self.peer_id).finish_non_exhaustive()
    }
}

impl Directory {
    /// Load the key, open the sockets, join the network.
    ///
    /// # Errors
    /// [`DirectoryError`]; nothing runs then.
    pub async fn bind(config: &Config) -> Result<Self, DirectoryError> {
        let seed = key::load_or_make(&config.data)?;
        let http_failed = |source| DirectoryError::Http { addr: config.http, source };
        let listener = TcpListener::bind(config.http).await.map_err(http_failed)?;
        let http_addr = listener.local_addr().map_err(http_failed)?;
        let (net, events) = Net::start(net_config(config, seed)?).await?;
        let peer_id = net.id().to_peer_id();
        let (told, addresses) = mpsc::channel(ADDRESSES);
        let events = tokio::spawn(follow(events, peer_id.clone(), told));
        let (stop_http, stopped) = oneshot::channel::<()>();
        let http_net = net.clone();
        let http = tokio::spawn(async move {
            // A dropped sender stops it as well.
            let stop = async { stopped.await.unwrap_or(()) };
            if let Err(error) = http::serve(listener, http_net, stop).await {
                tracing::error!(%error, "HTTP has ended");
            }
        });
        Ok(Self { net, peer_id, addresses, events, http, http_addr, stop_http })
    }

    /// The node's PeerId.
    pub fn peer_id(&self) -> &str {
        &self.peer_id
    }

    /// Where `/health` and `/metrics` are served.
    pub fn http_addr(&self) -> SocketAddr {
        self.http_addr
    }

    /// The next address on which the node listens, ending in `/p2p/…`, as it becomes known.
    pub async fn next_address(&mut self) -> Option<String> {
        self.addresses.recv().await
    }

    /// The network, for whoever embeds a directory.
    pub fn net(&self) -> &Net {
        &self.net
    }

    /// Close every connection, finish writing, and end.
    pub async fn shutdown(self) {
        // An error means that HTTP has ended already.
        let _ = self.stop_http.send(());
        self.net.shutdown().await;
        self.http.abort();
        self.events.abort();
    }
}

/// Log what happens, and tell the addresses. A full channel drops the address: nobody asks for them then.
async fn follow(mut events: mpsc::Receiver<NetEvent>, peer_id: String, told: mpsc::Sender<String>) {
    while let Some(event) = events.recv().await {
        match event {
            NetEvent::Listening { addr } => {
                tracing::info!(addr = addr.as_str(), "listening");
                let _ = told.try_send(format!("{}/p2p/{peer_id}", addr.as_str()));
            }
            NetEvent::EntryUp { .. } => tracing::info!("another directory is connected"),
            NetEvent::EntryDown { .. } => tracing::warn!("the connection to another directory is lost"),
            NetEvent::AddressesChanged => tracing::info!("the addresses have changed"),
            // A directory has no terminal of its own: what is sealed to it cannot be opened.
            NetEvent::Signal { .. } => tracing::debug!("a packet for the directory itself is dropped"),
        }
    }
}

fn net_config(config: &Config, seed: [u8; 32]) -> Result<NetConfig, DirectoryError> {
    let parse = |list: &[String]| -> Result<Vec<NodeAddr>, DirectoryError> {
        list.iter().map(|a| a.parse().map_err(|_| DirectoryError::Address(a.clone()))).collect()
    };
    let mut net = NetConfig::new(seed, Role::Directory);
    net.listen = parse(&config.listen)?;
    net.external = parse(&config.external)?;
    net.entry = parse(&config.entry)?;
    net.data = Some(config.data.clone());
    net.stun = Some(config.stun);
    net.allow_private = config.allow_private;
    Ok(net)
}
