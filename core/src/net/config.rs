//! What a [`Net`](super::Net) is told when it starts.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use offhook_proto::identity::SignedCert;
use offhook_proto::knock::Times;
use offhook_proto::number::NodeAddr;
use tokio::sync::mpsc;

use super::mailbox::MailRequest;
use super::tickets::RelayNotice;

/// What a node does for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// A telephone: asks the DHT (client mode), stores only its own records, is reached through directories. It may become
    /// more than that, see [`NetConfig::prove`].
    #[default]
    Terminal,
    /// A publicly reachable terminal that also stores records, passes signalling on and answers STUN, with
    /// small limits. Needs an external address.
    Server,
    /// A directory node: the same with large limits.
    Directory,
}

impl Role {
    /// Whether the node stores records and passes signalling on for others.
    pub fn serves(self) -> bool {
        match self {
            Self::Terminal => false,
            Self::Server | Self::Directory => true,
        }
    }
}

/// Configuration of a [`Net`](super::Net).
#[derive(Clone)]
pub struct NetConfig {
    /// Seed of the terminal's Ed25519 key, which is also the libp2p key (its public half is the PeerId).
    pub terminal_seed: [u8; 32],
    /// The terminal's certificate, shown to directories to be registered there. `None` for directories.
    pub cert: Option<SignedCert>,
    /// Addresses to listen on, e.g. `/ip4/0.0.0.0/udp/4001/quic-v1`. Empty: any port, QUIC and TCP, IPv4 and,
    /// where the host has it, IPv6.
    pub listen: Vec<NodeAddr>,
    /// Addresses under which others reach this node. A serving node without any uses what it listens on.
    pub external: Vec<NodeAddr>,
    /// Entry points: multiaddrs ending in `/p2p/ID`, or `/dnsaddr/NAME`. Not hard-coded anywhere.
    pub entry: Vec<NodeAddr>,
    /// What this node does for others.
    pub role: Role,
    /// Whether to look for and answer peers on the local network (RFC 6762).
    pub mdns: bool,
    /// Whether a terminal publishes its own addresses beside the relayed ones: its user's choice.
    pub publish_direct: bool,
    /// Whether private and loopback addresses of others are used and own ones published. `None`: only while no public
    /// address is known, as in a laboratory or a LAN of its own: none is configured (`entry`, `external`) or remembered of
    /// an earlier run, none was reached in this one, and this node, if it serves others, listens on none itself.
    pub allow_private: Option<bool>,
    /// Directory for `net.sqlite` (records held, peers remembered). `None`: memory only.
    pub data: Option<PathBuf>,
    /// Where a [`Front`](super::Front) takes connections for this node. They are told to others as
    /// `/tcp/PORT` and `/tcp/PORT/tls/ws` beside the node's other addresses: at the same hosts if the IP is unspecified or
    /// external addresses are configured, else at this one.
    pub front: Option<SocketAddr>,
    /// Where to answer STUN binding requests (RFC 8489), e.g. `0.0.0.0:3478`.
    pub stun: Option<SocketAddr>,
    /// The media relay beside this node, which answers STUN then. Only for serving nodes.
    pub relay: Option<RelayNotice>,
    /// Whoever keeps the mailboxes of this directory; without it none are kept. What finds the channel full is told to come again.
    pub mailboxes: Option<mpsc::Sender<MailRequest>>,
    /// Name server to ask instead of the system's ones.
    pub dns: Option<SocketAddr>,
    /// Bounds on what strangers can make this node hold or do.
    pub limits: Limits,
    /// When a terminal replaces an entry point that is dead.
    pub stand_ins: StandIns,
    /// Whether a [terminal](Role::Terminal) looks into it whether strangers reach it, and serves others like a
    /// [`Role::Server`] while they do; and in which times. Its limits should be a server's, too.
    pub prove: Option<Times>,
}

/// When a terminal that has lost one of several entry points gets another one in its stead, and lets it go again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StandIns {
    /// How long an entry point has been missing by then: longer than a restart takes.
    pub after: Duration,
    /// How long it has been back when the stand-in is let go.
    pub settled: Duration,
    /// How long the connection with the stand-in is kept from then on: a record that still names it may be in use.
    pub farewell: Duration,
}

impl Default for StandIns {
    fn default() -> Self {
        Self {
            after: Duration::from_secs(10),
            settled: Duration::from_secs(60),
            farewell: Duration::from_secs(30),
        }
    }
}

impl NetConfig {
    /// A terminal's defaults: no entry point, any port, nothing persistent, no mDNS.
    pub fn new(terminal_seed: [u8; 32], role: Role) -> Self {
        Self {
            terminal_seed,
            cert: None,
            listen: Vec::new(),
            external: Vec::new(),
            entry: Vec::new(),
            role,
            mdns: false,
            publish_direct: false,
            allow_private: None,
            data: None,
            front: None,
            stun: None,
            relay: None,
            mailboxes: None,
            dns: None,
            limits: Limits::for_role(role),
            stand_ins: StandIns::default(),
            prove: None,
        }
    }

    /// A terminal that serves others once it is proved to be reachable.
    #[must_use]
    pub fn proving(self, times: Times) -> Self {
        Self { prove: Some(times), limits: Limits::for_role(Role::Server), ..self }
    }

    /// Whether this node serves others, or may come to.
    pub(super) fn may_serve(&self) -> bool {
        self.role.serves() || self.prove.is_some()
    }
}

impl fmt::Debug for NetConfig {
    /// Without the seed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetConfig")
            .field("listen", &self.listen)
            .field("external", &self.external)
            .field("entry", &self.entry)
            .field("role", &self.role)
            .field("mdns", &self.mdns)
            .field("allow_private", &self.allow_private)
            .field("data", &self.data)
            .field("front", &self.front)
            .field("stun", &self.stun)
            .field("relay", &self.relay)
            .field("limits", &self.limits)
            .field("stand_ins", &self.stand_ins)
            .field("prove", &self.prove)
            .finish_non_exhaustive()
    }
}

/// Bounds on everything a stranger can grow. What happens at each bound is said beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections accepted; further ones are refused.
    pub connections: u32,
    /// Connections accepted from one IPv4 address or IPv6 /64; further ones are refused.
    pub connections_per_ip: u32,
    /// Connections from one /24 or /64 whose handshake is not over; further ones are refused.
    pub handshakes_per_source: usize,
    /// Connections that this node does not keep for a reason of its own, whoever made them. When there are more, one of
    /// the /24 or /64 that has most is closed: the one used longest ago. A quarter as many may be over TCP.
    pub strangers: usize,
    /// The same from one /24 or /64.
    pub strangers_per_source: usize,
    /// Streams that others have open at a time, beyond two on each connection; further ones are reset.
    pub streams: usize,
    /// The same from one /24 or /64.
    pub streams_per_source: usize,
    /// Terminals registered at a time. When full, one of the /24 or /64 that has most gives way to one that has fewer;
    /// others are told that it is full and use another directory.
    pub registered: usize,
    /// The same from one /24 or /64; further ones are told that it is full.
    pub registered_per_source: usize,
    /// Keys held for others. When full, the source (/24 or /64) that holds most gives way with its key that was
    /// refreshed longest ago, unless the newcomer's source would then hold more than it: then it is refused.
    pub records: usize,
    /// Bytes of all records held for others, same rule.
    pub record_bytes: usize,
    /// Keys held that were first brought by one /24 or /64. Beyond it, that source's own key that was refreshed
    /// longest ago gives way.
    pub records_per_source: usize,
    /// Descriptors of directories held for others, apart from the records; the same rule when full.
    pub descriptors: usize,
    /// The same that were first brought by one /24 or /64.
    pub descriptors_per_source: usize,
    /// Records whose slow proof waits to be checked; beyond it the sender is told to come again.
    pub proof_queue: usize,
    /// The same per /24 or /64.
    pub proof_queue_per_source: usize,
    /// Signalling packets per second that one peer may have passed on (bursts: ten seconds' worth).
    pub forward_per_peer: u32,
    /// The same for packets that the peer, as a directory, passes on for its terminals.
    pub forward_second_hand: u32,
    /// The same per /24 or /64, of each kind. Half of it is for peers that send little.
    pub forward_per_source: u32,
    /// Packets per second taken from one directory, or from one /24 or /64, for this terminal itself. Half of it is for
    /// senders that send little.
    pub deliver_per_bringer: u32,
    /// Packets on their way to a terminal at a time, from one peer.
    pub in_flight_per_peer: usize,
    /// Packets on their way at a time, altogether.
    pub in_flight: usize,
    /// `Find` and `Store` requests per second from one /24 or /64 (bursts: ten seconds' worth).
    pub queries_per_source: u32,
    /// Requests per second of one peer to look up or publish in the DHT for it (bursts: ten seconds' worth); more are
    /// told to come again.
    pub delegated_per_peer: u32,
    /// The same per /24 or /64.
    pub delegated_per_source: u32,
    /// Queries of the DHT for others that run at a time, a quarter of them for one /24 or /64; more are told to come again.
    pub delegated: usize,
    /// Connections kept with nodes of the routing table, so that a query's first hop needs no handshake. Each costs
    /// about 50 kB an hour, both directions together. Twice as many are kept that others made for the same reason; the
    /// rest close when idle.
    pub warm: usize,
    /// STUN requests per second answered to one IPv4 address or IPv6 /64; more are dropped.
    pub stun_per_source: u32,
    /// Look-ups of this node's own that run at a time; further ones wait.
    pub lookups: usize,
    /// How long a look-up runs at most.
    pub lookup_time: Duration,
}

impl Limits {
    /// With other bounds on connections and registered terminals; the bounds on parts of them follow.
    #[must_use]
    pub fn with_connections(mut self, connections: u32, registered: usize) -> Self {
        self.connections = connections;
        self.handshakes_per_source = (connections as usize / 256).clamp(8, 64);
        self.strangers = connections as usize * 2 / 5;
        self.strangers_per_source = (self.strangers / 32).max(16);
        // Three times as many at most, with those that others chose: what is kept must leave room for strangers.
        self.warm = self.warm.min(connections as usize / 16);
        self.registered = registered;
        self.registered_per_source = registered.div_ceil(2);
        self
    }

    /// The defaults of a role.
    pub fn for_role(role: Role) -> Self {
        let server = Self {
            connections: 512,
            connections_per_ip: 128,
            handshakes_per_source: 16,
            strangers: 384,
            strangers_per_source: 128,
            streams: 1_024,
            streams_per_source: 256,
            registered: 64,
            registered_per_source: 32,
            records: 20_000,
            record_bytes: 32 << 20,
            records_per_source: 2_000,
            descriptors: 512,
            descriptors_per_source: 16,
            proof_queue: 512,
            proof_queue_per_source: 32,
            forward_per_peer: 30,
            forward_second_hand: 60,
            forward_per_source: 100,
            deliver_per_bringer: 100,
            in_flight_per_peer: 128,
            in_flight: 1_024,
            queries_per_source: 50,
            delegated_per_peer: 4,
            delegated_per_source: 20,
            delegated: 16,
            warm: 32,
            stun_per_source: 20,
            lookups: 16,
            lookup_time: Duration::from_secs(4),
        };
        match role {
            Role::Terminal => Self {
                connections: 128,
                connections_per_ip: 32,
                strangers: 256,
                strangers_per_source: 256,
                streams: 256,
                streams_per_source: 64,
                registered: 0,
                registered_per_source: 0,
                records: 0,
                record_bytes: 0,
                records_per_source: 0,
                descriptors: 0,
                descriptors_per_source: 0,
                proof_queue: 0,
                proof_queue_per_source: 0,
                queries_per_source: 20,
                delegated: 0,
                warm: 0,
                ..server
            },
            Role::Server => server,
            Role::Directory => Self {
                connections: 20_000,
                connections_per_ip: 2_048,
                handshakes_per_source: 64,
                strangers: 8_000,
                strangers_per_source: 250,
                streams: 8_192,
                streams_per_source: 1_024,
                registered: 10_000,
                registered_per_source: 5_000,
                records: 200_000,
                record_bytes: 512 << 20,
                records_per_source: 20_000,
                descriptors: 4_096,
                descriptors_per_source: 64,
                proof_queue: 4_096,
                proof_queue_per_source: 128,
                forward_second_hand: 300,
                forward_per_source: 1_000,
                in_flight: 16_384,
                queries_per_source: 500,
                delegated_per_source: 100,
                delegated: 64,
                warm: 128,
                stun_per_source: 100,
                ..server
            },
        }
    }
}
