//! The swarm: which protocols, with which limits.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{PeerId, StreamProtocol, Swarm, connection_limits, identify, kad, mdns, relay, swarm};
use prometheus_client::registry::Registry;

use super::budget::{Budget, FRIEND};
use super::codec::{self, Codec};
use super::config::NetConfig;
use super::gate::Gate;
use super::handle::NetError;
use super::mailbox;
use super::private::Private;
use super::probe::Probes;
use super::requests::REQUEST_TIME;
use super::store::Records;
use super::transport::{self, EntranceTransport};

/// The DHT's protocol name; a network of its own.
pub(super) const KAD: StreamProtocol = StreamProtocol::new("/offhook/kad/1");

/// The relay protocol's name (circuit relay v2), by which identify tells that a peer relays.
pub(super) const RELAY_HOP: &str = "/libp2p/circuit/relay/0.2.0/hop";

/// How many peers a query asks at a time. libp2p's 3 makes a full query through 20 holders take 7 rounds.
const PARALLELISM: NonZeroUsize = NonZeroUsize::new(8).unwrap();

/// A query that has not ended by then is given up.
const QUERY_TIME: Duration = Duration::from_secs(8);

/// A connection without any use is closed. Longer than the pause between publishing and reading back.
const IDLE: Duration = Duration::from_secs(15);

/// Streams of the signalling protocol open at a time on one connection, both directions together.
const STREAMS: usize = 2 * FRIEND;

/// The DHT's self-maintenance: one look-up of the own key and one for each bucket, together up to a hundred
/// connections. Serving nodes only: terminals leave the DHT to them.
pub(super) const BOOTSTRAP_INTERVAL: Duration = Duration::from_secs(3_600);

/// Every protocol that a node speaks.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    pub(super) gate: Gate,
    pub(super) limits: connection_limits::Behaviour,
    pub(super) identify: identify::Behaviour,
    pub(super) probes: Probes,
    pub(super) kad: kad::Behaviour<Records>,
    pub(super) signal: request_response::Behaviour<Codec>,
    pub(super) mailbox: request_response::Behaviour<mailbox::Codec>,
    pub(super) relay_client: relay::client::Behaviour,
    pub(super) relay_server: Toggle<relay::Behaviour>,
    pub(super) mdns: Toggle<mdns::tokio::Behaviour>,
}

/// Builds the swarm; nothing is listened on or dialled yet.
pub(super) fn swarm(
    config: &NetConfig,
    key: &Keypair,
    records: Records,
    private: &Private,
    front: EntranceTransport,
    registry: &mut Registry,
) -> Result<Swarm<Behaviour>, NetError> {
    let id = key.public().to_peer_id();
    let budget = Budget::new(config.limits.streams, config.limits.streams_per_source);
    let mdns = config
        .mdns
        .then(|| mdns::tokio::Behaviour::new(mdns::Config::default(), id))
        .transpose()
        .map_err(NetError::Mdns)?;
    let (transport, relay_client) =
        transport::build(key, config.dns, private.clone(), budget.clone(), front, registry)?;
    let behaviour = behaviour(config, key, records, relay_client, mdns, budget);
    let swarm = swarm::Config::with_tokio_executor()
        // One round trip per request: the first message travels with the protocol's name.
        .with_substream_upgrade_protocol_override(Version::V1Lazy)
        .with_idle_connection_timeout(IDLE)
        .with_smart_dial();
    Ok(Swarm::new(transport, behaviour, id, swarm))
}

fn behaviour(
    config: &NetConfig,
    key: &Keypair,
    records: Records,
    relay_client: relay::client::Behaviour,
    mdns: Option<mdns::tokio::Behaviour>,
    budget: Budget,
) -> Behaviour {
    let id = key.public().to_peer_id();
    let limits = &config.limits;
    let connections = connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some((limits.connections / 4).max(32)))
        .with_max_pending_outgoing(Some(256))
        .with_max_established_incoming(Some(limits.connections))
        .with_max_established_outgoing(Some(limits.connections.max(256)))
        // The gate closes the older ones before.
        .with_max_established_per_peer(Some(8));
    // Listen addresses are never told: a terminal behind a relay lists its relayed addresses only, a serving
    // node the external ones.
    let identify = identify::Config::new("offhook/1".to_owned(), key.public())
        .with_agent_version(concat!("offhook/", env!("CARGO_PKG_VERSION")).to_owned())
        .with_hide_listen_addrs(true)
        .with_interval(Duration::from_secs(3_600))
        .with_cache_size(256);
    let requests = request_response::Config::default()
        .with_request_timeout(REQUEST_TIME)
        .with_max_concurrent_streams(STREAMS);
    Behaviour {
        gate: Gate::new(limits, budget),
        limits: connection_limits::Behaviour::new(connections),
        identify: identify::Behaviour::new(identify),
        probes: Probes::default(),
        kad: kademlia(id, config, records),
        signal: request_response::Behaviour::with_codec(
            Codec,
            [(codec::PROTOCOL, ProtocolSupport::Full)],
            requests,
        ),
        mailbox: mailbox::behaviour(config),
        relay_client,
        relay_server: config.may_serve().then(|| relay_server(id, config)).into(),
        mdns: mdns.into(),
    }
}

/// Relays as soon as the node serves.
fn relay_server(id: PeerId, config: &NetConfig) -> relay::Behaviour {
    let mut relay = relay::Behaviour::new(id, relay_limits(config));
    if !config.role.serves() {
        relay.set_status(Some(relay::Status::Disable));
    }
    relay
}

fn kademlia(id: PeerId, node: &NetConfig, mut records: Records) -> kad::Behaviour<Records> {
    let role = node.role;
    records.set_hand_on(role.serves());
    let mut config = kad::Config::new(KAD);
    // No disjoint query paths: libp2p asks 20 nodes on each of them, so a publication would open 60 connections
    // instead of 20. Against a key surrounded by an attacker's nodes the directories help, which always hold a copy.
    config
        .set_query_timeout(QUERY_TIME)
        .set_parallelism(PARALLELISM)
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_caching(kad::Caching::Disabled)
        // The signed expiry counts, and owners publish anew themselves; serving nodes hand records on hourly to
        // whoever is closest by then, unless somebody did it in that hour.
        .set_record_ttl(None)
        .set_publication_interval(None)
        .set_replication_interval(node.may_serve().then(|| Duration::from_secs(3_600)))
        .set_provider_publication_interval(None)
        .set_periodic_bootstrap_interval(role.serves().then_some(BOOTSTRAP_INTERVAL));
    if !role.serves() {
        // A terminal's table stays empty until it has to ask the DHT itself, or serves: whatever enters it makes libp2p
        // look the own key up, at nodes that would see the terminal's address.
        config.set_kbucket_inserts(kad::BucketInserts::Manual);
    }
    let mut kad = kad::Behaviour::with_config(id, records, config);
    // By hand, because the automatic mode believes whoever claims to see us at a public address.
    kad.set_mode(Some(if role.serves() { kad::Mode::Server } else { kad::Mode::Client }));
    kad
}

/// libp2p's defaults (128 reservations, 16 circuits of 2 minutes) are for strangers; here terminals live on it.
/// Circuits are the last resort for signalling and carry nothing else: small, but long enough for a call's
/// set-up.
fn relay_limits(config: &NetConfig) -> relay::Config {
    const fn rate(limit: u32) -> NonZeroU32 {
        match NonZeroU32::new(limit) {
            Some(limit) => limit,
            None => NonZeroU32::MIN,
        }
    }
    let per_ip = rate(config.limits.connections_per_ip);
    relay::Config {
        max_reservations: config.limits.registered,
        max_reservations_per_peer: 4,
        reservation_duration: Duration::from_secs(3_600),
        reservation_rate_limiters: Vec::new(),
        max_circuits: config.limits.registered.max(16),
        max_circuits_per_peer: 16,
        max_circuit_duration: Duration::from_secs(600),
        max_circuit_bytes: 1 << 20,
        circuit_src_rate_limiters: Vec::new(),
    }
    .reservation_rate_per_peer(rate(30), Duration::from_secs(10))
    .reservation_rate_per_ip(per_ip, Duration::from_secs(1))
    .circuit_src_per_peer(rate(30), Duration::from_secs(10))
    .circuit_src_per_ip(per_ip, Duration::from_secs(1))
}
