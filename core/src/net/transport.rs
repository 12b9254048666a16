//! How bytes get from one node to another: QUIC, TCP, WebSocket, and circuits through relays, each with its limits.

use std::net::SocketAddr;
use std::time::Duration;

use futures::{AsyncRead, AsyncWrite};
use hickory_resolver::config::{ConnectionConfig, NameServerConfig};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::upgrade::Version;
use libp2p::dns::{ResolverConfig, ResolverOpts};
use libp2p::identity::Keypair;
use libp2p::metrics::BandwidthTransport;
use libp2p::{PeerId, Transport, dns, noise, quic, relay, tcp, yamux};
use prometheus_client::registry::Registry;

use super::budget::{Budget, FRIEND};
use super::handle::NetError;
use super::private::{Guarded, Private};

mod entrance;
mod ws;

pub use entrance::Entrance;
pub(super) use entrance::{Entering, EntranceTransport, entrance, multiaddr};
pub use ws::WS_PATH;

/// QUIC connections are kept alive through NATs (UDP mappings live 30 s and more) and given up when silent.
const QUIC_KEEP_ALIVE: Duration = Duration::from_secs(20);
const QUIC_IDLE: Duration = Duration::from_secs(60);

/// Bytes that may have come in and not been read yet, on a stream and on a connection. Nothing bulky is ever sent:
/// one message (16 KiB) with its protocol's name, and a few at a time.
const STREAM_WINDOW: u32 = 20 * 1024;
const CONNECTION_WINDOW: u32 = 64 * 1024;

/// Streams of both ends on a yamux connection; far more than the [budget](Budget) and this end's own bounds leave. It is
/// as many as share yamux's 1 GiB of windows at the least that each must have, so none is ever given a larger one.
const YAMUX_STREAMS: usize = (1 << 30) / (256 << 10);

/// A connection that has not come about by then has failed. QUIC has sent its first flight three times by then.
const CONNECT_TIME: Duration = Duration::from_millis(3_500);

/// So long all the addresses are tried that a name stands for, one after another.
const RESOLVE_TIME: Duration = Duration::from_secs(15);

/// A transport that yields connections with counted streams.
pub(super) type Counting = Boxed<(PeerId, StreamMuxerBox)>;

/// Builds the transport, and the behaviour that makes circuits.
pub(super) fn build(
    key: &Keypair,
    dns: Option<SocketAddr>,
    private: Private,
    budget: Budget,
    front: EntranceTransport,
    registry: &mut Registry,
) -> Result<(Counting, relay::client::Behaviour), NetError> {
    let noise = noise::Config::new(key).map_err(NetError::transport)?;
    let tcp = secured(tcp::tokio::Transport::new(tcp::Config::default().nodelay(true)), &noise);
    let web = secured(ws::WsTransport::new(), &noise);
    let front = secured(front, &noise);
    let quic = quic::tokio::Transport::new(quic_config(key))
        .map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)));
    let (config, options) = resolver(dns);
    let streams = tcp.or_transport(web).map(|either, _| either.into_inner());
    let streams = streams.or_transport(front).map(|either, _| either.into_inner());
    let direct = Guarded::new(streams.or_transport(quic).map(|either, _| either.into_inner()), private);
    // Each address that a name stands for has its time.
    let direct = TransportTimeout::new(direct, CONNECT_TIME);
    let direct = dns::tokio::Transport::custom(direct, config, options);
    let (circuits, relay_client) = relay::client::new(key.public().to_peer_id());
    let circuits = TransportTimeout::new(secured(circuits, &noise), CONNECT_TIME);
    let all = circuits.or_transport(direct).map(|either, _| either.into_inner());
    let counted = BandwidthTransport::new(all, registry).map(move |(peer, muxer), endpoint| {
        let counted = budget.count(peer, &endpoint, StreamMuxerBox::new(muxer));
        (peer, StreamMuxerBox::new(counted))
    });
    Ok((TransportTimeout::new(counted, RESOLVE_TIME).boxed(), relay_client))
}

/// Streams of bytes, with Noise and yamux on top.
fn secured<T>(transport: T, noise: &noise::Config) -> Counting
where
    T: Transport + Send + Unpin + 'static,
    T::Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    T::Error: Send + Sync + 'static,
    T::ListenerUpgrade: Send + 'static,
    T::Dial: Send + 'static,
{
    transport
        .upgrade(Version::V1Lazy)
        .authenticate(noise.clone())
        .multiplex(yamux_config())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        .boxed()
}

fn quic_config(key: &Keypair) -> quic::Config {
    let mut quic = quic::Config::new(key);
    quic.handshake_timeout = CONNECT_TIME;
    quic.keep_alive_interval = QUIC_KEEP_ALIVE;
    quic.max_idle_timeout = u32::try_from(QUIC_IDLE.as_millis()).unwrap_or(u32::MAX);
    quic.max_concurrent_stream_limit = u32::try_from(FRIEND).unwrap_or(u32::MAX);
    quic.max_stream_data = STREAM_WINDOW;
    quic.max_connection_data = CONNECTION_WINDOW;
    quic
}

fn yamux_config() -> yamux::Config {
    let mut config = yamux::Config::default();
    config.set_max_num_streams(YAMUX_STREAMS);
    config
}

/// The system's resolver, or the one configured. A host without name servers can still use IP addresses.
fn resolver(server: Option<SocketAddr>) -> (ResolverConfig, ResolverOpts) {
    let Some(server) = server else {
        return hickory_resolver::system_conf::read_system_conf()
            .unwrap_or_else(|_| (ResolverConfig::from_name_servers(Vec::new()), ResolverOpts::default()));
    };
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    let server = NameServerConfig::new(server.ip(), true, connections.into());
    (ResolverConfig::from_name_servers(vec![server]), ResolverOpts::default())
}
