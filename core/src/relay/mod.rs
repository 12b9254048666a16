//! A relay for media: a TURN server (RFC 8656) for those who hold a [ticket](offhook_proto::relay).
//!
//! ```text
//!   client --UDP--> udp ----.                        .--> relayed socket --> peer
//!          --TCP--> stream --+--> hub --> session --+
//!          --TLS--> (front) --'     |   (one client) '--> another client of this relay
//!                                   +--> gate: tickets, nonces      \
//!                                   +--> request: what is asked      } pure
//!                                   +--> policy: which peers, quota /
//! ```
//!
//! On the UDP socket STUN is answered, too, and the [courier](offhook_proto::courier) is served.
//!
//! Each client, which is an address or a connection, has a state machine of its own, so that nothing that one does can touch
//! another. Nothing at all is kept of anybody who has not shown a ticket.

mod courier;
#[doc(hidden)]
pub mod fuzz;
mod gate;
mod hub;
mod metrics;
mod policy;
mod quota;
mod request;
mod session;
mod stream;
mod udp;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use offhook_proto::relay::{RelayTransport, TicketIssuer};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UdpSocket};

pub(crate) use metrics::RelayMetrics;
pub use policy::{PeerPolicy, PeerRefusal};
pub use quota::RelayQuotas;

use crate::net::stun;
use courier::Courier;
use gate::Gate;
use hub::{Hub, Parts};
use policy::Policy;
use udp::Listener;

/// The port of STUN and TURN (RFC 8656 section 3).
pub const PORT: u16 = 3_478;

/// Ports for relayed addresses: the dynamic ones (RFC 6335).
pub const RELAYED_PORTS: (u16, u16) = (49_152, 65_535);

/// After an error of the listener: it has no more files, as a rule.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// Bytes that wait on the listening socket.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Ports that are tried where any will do and UDP and TCP must have the same.
const TRIES: usize = 16;

/// What a [`Relay`] is told when it starts.
#[derive(Clone, Debug)]
pub struct RelayConfig {
    /// Where TURN is served over UDP and TCP, and STUN over UDP. `None`: nowhere but where [`Relay::serve_stream`] is called.
    pub listen: Option<SocketAddr>,
    /// Addresses on which relayed ports are opened, the first of each family unless a client has come by another. Where the
    /// host is known by an address that it does not have (a cloud's NAT), ports are opened on all it has. Empty: those that
    /// the host has, public ones if there are any.
    pub relayed_ips: Vec<IpAddr>,
    /// Further addresses of this host, which no user may reach through the relay.
    pub own_ips: Vec<IpAddr>,
    /// First and last port for relayed addresses.
    pub ports: (u16, u16),
    /// Knows tickets again.
    pub issuer: TicketIssuer,
    /// Who may use how much.
    pub quotas: RelayQuotas,
    /// Which peers that are not on the internet are permitted. `None`: private ones if no relayed address is a public one.
    pub policy: Option<PeerPolicy>,
}

impl RelayConfig {
    /// The defaults.
    pub fn new(issuer: TicketIssuer) -> Self {
        Self {
            listen: Some(SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT))),
            relayed_ips: Vec::new(),
            own_ips: Vec::new(),
            ports: RELAYED_PORTS,
            issuer,
            quotas: RelayQuotas::default(),
            policy: None,
        }
    }
}

/// Why a relay does not start.
#[derive(Debug, Error)]
pub enum RelayError {
    /// The port is taken, or the address not this host's.
    #[error("cannot relay media on {addr}: {error}")]
    Listen {
        /// Where.
        addr: SocketAddr,
        /// The system's error.
        error: std::io::Error,
    },
    /// The host has no address to relay from.
    #[error("cannot relay media: this host has no address")]
    NoAddress,
    /// The last port before the first.
    #[error("cannot relay media: there are no ports from {0} to {1}")]
    NoPorts(u16, u16),
}

/// A running relay. It ends when the last clone is dropped, or by [`Relay::stop`].
#[derive(Clone)]
pub struct Relay {
    running: Arc<Running>,
}

struct Running {
    hub: Arc<Hub>,
    addr: Option<SocketAddr>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.hub.stop.cancel();
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Relay")
    }
}

impl Relay {
    /// Binds the sockets and serves.
    ///
    /// # Errors
    /// A [`RelayError`]; nothing runs then.
    pub async fn start(config: RelayConfig) -> Result<Self, RelayError> {
        if config.ports.0 > config.ports.1 {
            return Err(RelayError::NoPorts(config.ports.0, config.ports.1));
        }
        let listeners = match config.listen {
            Some(addr) => Some(listen(addr).await.map_err(|error| RelayError::Listen { addr, error })?),
            None => None,
        };
        let addr = listeners.as_ref().map(|(.., addr)| *addr);
        let hub = Arc::new(Hub::new(parts(config, addr)?));
        if let Some((udp, tcp, _)) = listeners {
            tokio::spawn(Listener::new(hub.clone(), Arc::new(udp)).run());
            tokio::spawn(accept(hub.clone(), tcp));
        }
        Ok(Self { running: Arc::new(Running { hub, addr }) })
    }

    /// Where it listens.
    pub fn addr(&self) -> Option<SocketAddr> {
        self.running.addr
    }

    /// The transports and ports on which it is served by its own listeners.
    pub fn listeners(&self) -> Vec<(RelayTransport, u16)> {
        let port = self.running.addr.map(|addr| addr.port());
        let both = |port| [(RelayTransport::Udp, port), (RelayTransport::Tcp, port)];
        port.into_iter().flat_map(both).collect()
    }

    /// Serves TURN over a connection that somebody else has accepted, say after a TLS handshake, until it ends. `remote` is the
    /// client's address and `local` the one that he has connected to.
    pub async fn serve_stream<S>(&self, io: S, remote: SocketAddr, local: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        stream::serve(self.running.hub.clone(), io, remote, local).await;
    }

    /// Ends it: all allocations are gone, all sockets closed.
    pub fn stop(&self) {
        self.running.hub.stop.cancel();
    }

    pub(crate) fn metrics(&self) -> &RelayMetrics {
        &self.running.hub.metrics
    }
}

/// What the relay knows of its host.
fn parts(config: RelayConfig, addr: Option<SocketAddr>) -> Result<Parts, RelayError> {
    let host: Vec<IpAddr> =
        if_addrs::get_if_addrs().unwrap_or_default().iter().map(if_addrs::Interface::ip).collect();
    let relayed_ips = match config.relayed_ips.is_empty() {
        true => relayed_ips(addr, &host),
        false => config.relayed_ips,
    };
    if relayed_ips.is_empty() {
        return Err(RelayError::NoAddress);
    }
    let private = !relayed_ips.iter().any(|ip| policy::is_public(*ip));
    let peers = config.policy.unwrap_or(PeerPolicy { private, loopback: false });
    let own = host.into_iter().chain(config.own_ips).chain(addr.map(|addr| addr.ip()));
    let policy = Policy::new(peers, own, relayed_ips.clone(), addr.map(|addr| addr.port()));
    let courier = Courier::new(config.issuer.clone());
    let gate = Gate::new(config.issuer);
    Ok(Parts { gate, courier, policy, quotas: config.quotas, relayed_ips, ports: config.ports })
}

/// The address that it listens on; if it is none in particular, the host's: the most public of each family.
fn relayed_ips(addr: Option<SocketAddr>, host: &[IpAddr]) -> Vec<IpAddr> {
    if let Some(ip) = addr.map(|addr| addr.ip()).filter(|ip| !ip.is_unspecified()) {
        return vec![ip];
    }
    let usable = host.iter().copied().filter(|ip| !is_link_local(*ip));
    let best = |v4: bool| {
        let rank = |ip: &IpAddr| (ip.is_loopback(), !policy::is_public(*ip));
        usable.clone().filter(|ip| ip.is_ipv4() == v4).min_by_key(rank)
    };
    let both: Vec<_> = [best(true), best(false)].into_iter().flatten().collect();
    // Loopback only where there is nothing else.
    let outside: Vec<_> = both.iter().copied().filter(|ip| !ip.is_loopback()).collect();
    if outside.is_empty() { both } else { outside }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// UDP and TCP on one port.
async fn listen(addr: SocketAddr) -> std::io::Result<(UdpSocket, TcpListener, SocketAddr)> {
    let mut tries = 0;
    loop {
        tries += 1;
        let udp = stun::bind(addr)?;
        // As far as the system permits: voices that come at the same moment are not to be lost.
        socket2::SockRef::from(&udp).set_recv_buffer_size(RECEIVE_BUFFER)?;
        let bound = udp.local_addr()?;
        match TcpListener::bind(bound).await {
            Ok(tcp) => return Ok((udp, tcp, bound)),
            // Any port is wanted, and this one is free for UDP only.
            Err(error)
                if addr.port() == 0 && tries < TRIES && error.kind() == std::io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
}

async fn accept(hub: Arc<Hub>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            () = hub.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, remote)) = accepted else {
            hub.metrics.dropped("socket");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Voice does not wait for fuller segments. Where that cannot be set, the connection has ended.
        let (Ok(()), Ok(local)) = (stream.set_nodelay(true), stream.local_addr()) else { continue };
        tokio::spawn(stream::serve(hub.clone(), stream, remote, local));
    }
}
