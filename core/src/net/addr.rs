//! Multiaddrs: what is private, what is relayed, who is at the end; and the two names of a key.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use libp2p::identity::ed25519;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::DialError;
use libp2p::{Multiaddr, PeerId};
use offhook_proto::identity::TerminalId;
use offhook_proto::number::NodeAddr;
use offhook_proto::relay::RelayTransport;
use thiserror::Error;

/// Why a text is not an address of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AddrError {
    /// Not a multiaddr.
    #[error("not a multiaddr such as /ip4/203.0.113.7/udp/4001/quic-v1/p2p/12D3Koo…")]
    Syntax,
    /// An entry point must say whom to expect there.
    #[error("the address must end in /p2p/ID, or be a /dnsaddr/NAME")]
    NoPeer,
    /// Offhook nodes have Ed25519 keys.
    #[error("the node's key is not an Ed25519 key")]
    KeyType,
}

/// Parses the text of an address.
pub(super) fn parse(addr: &NodeAddr) -> Result<Multiaddr, AddrError> {
    addr.as_str().parse().map_err(|_| AddrError::Syntax)
}

/// The text of an address; `None` when it is longer than a record may carry.
pub(super) fn text(addr: &Multiaddr) -> Option<NodeAddr> {
    addr.to_string().parse().ok()
}

/// The PeerId of an Ed25519 key: identity multihash of its protobuf encoding (libp2p peer-ids specification).
/// `None` when the bytes are no point on the curve.
pub(super) fn peer_of(terminal: &TerminalId) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(terminal.as_bytes()).ok()?;
    Some(libp2p::identity::PublicKey::from(key).to_peer_id())
}

/// The key inside a PeerId; `None` unless it is an inlined Ed25519 key.
pub(super) fn terminal_of(peer: &PeerId) -> Option<TerminalId> {
    TerminalId::from_peer_id_bytes(&peer.to_bytes()).ok()
}

/// The peer at the end of the address: the last `/p2p`, if the address ends in it.
pub(super) fn last_peer(addr: &Multiaddr) -> Option<PeerId> {
    match addr.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        Some(_) | None => None,
    }
}

/// Whether the address leads through a relay.
pub(super) fn is_relayed(addr: &Multiaddr) -> bool {
    addr.iter().any(|part| matches!(part, Protocol::P2pCircuit))
}

/// The relay of a relayed address and how to reach it.
pub(super) fn relay_of(addr: &Multiaddr) -> Option<(PeerId, Multiaddr)> {
    let before: Multiaddr = addr.iter().take_while(|part| !matches!(part, Protocol::P2pCircuit)).collect();
    (is_relayed(addr)).then(|| last_peer(&before).map(|peer| (peer, before))).flatten()
}

/// Without the trailing `/p2p`.
pub(super) fn without_peer(mut addr: Multiaddr) -> Multiaddr {
    if last_peer(&addr).is_some() {
        addr.pop();
    }
    addr
}

/// The IP address that the address begins with.
pub(super) fn ip_of(addr: &Multiaddr) -> Option<IpAddr> {
    match addr.iter().next() {
        Some(Protocol::Ip4(ip)) => Some(IpAddr::V4(ip)),
        Some(Protocol::Ip6(ip)) => Some(IpAddr::V6(ip)),
        Some(_) | None => None,
    }
}

/// The IP address and port that the address begins with.
pub(super) fn socket_of(addr: &Multiaddr) -> Option<SocketAddr> {
    let ip = ip_of(addr)?;
    match addr.iter().nth(1) {
        Some(Protocol::Tcp(port) | Protocol::Udp(port)) => Some(SocketAddr::new(ip, port)),
        Some(_) | None => None,
    }
}

/// Whether anybody on the internet could use the address: a global IP address or a DNS name. For a relayed
/// address this speaks of the relay.
pub(super) fn is_public(addr: &Multiaddr) -> bool {
    match addr.iter().next() {
        Some(Protocol::Ip4(ip)) => is_global(IpAddr::V4(ip)),
        Some(Protocol::Ip6(ip)) => is_global(IpAddr::V6(ip)),
        Some(Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_)) => true,
        Some(_) | None => false,
    }
}

/// Whether the address is a name behind which other addresses are found.
pub(super) fn is_dnsaddr(addr: &Multiaddr) -> bool {
    matches!(addr.iter().next(), Some(Protocol::Dnsaddr(_)))
}

/// Whether the address says nothing but who the node is.
pub(super) fn is_peer_only(addr: &Multiaddr) -> bool {
    matches!(addr.iter().next(), Some(Protocol::P2p(_)))
}

/// Whether the address is a QUIC one.
pub(super) fn is_quic(addr: &Multiaddr) -> bool {
    addr.iter().any(|part| matches!(part, Protocol::QuicV1))
}

/// What carries a connection with this address, in the terms of media relays.
pub(super) fn carrier(addr: &Multiaddr) -> RelayTransport {
    let is_tls = |part| matches!(part, Protocol::Tls | Protocol::Ws(_) | Protocol::Wss(_));
    match (is_quic(addr), addr.iter().any(is_tls)) {
        (true, _) => RelayTransport::Udp,
        (false, true) => RelayTransport::Tls,
        (false, false) => RelayTransport::Tcp,
    }
}

/// Addresses of one node that are told to others.
const MAX_OF_ONE: usize = 4;

/// The version of IP that an address belongs to; `None` where only a name says.
fn version(addr: &Multiaddr) -> Option<u8> {
    match addr.iter().next() {
        Some(Protocol::Ip4(_) | Protocol::Dns4(_)) => Some(4),
        Some(Protocol::Ip6(_) | Protocol::Dns6(_)) => Some(6),
        Some(_) | None => None,
    }
}

fn is_on_443(addr: &Multiaddr) -> bool {
    addr.iter().any(|part| part == Protocol::Tcp(443))
}

/// `base` and, of the addresses that a node has told, one for each kind of network from which `base` is of no use: another
/// version of IP, UDP blocked, everything blocked but port 443.
pub(super) fn for_every_network(base: Multiaddr, told: &[Multiaddr]) -> Vec<Multiaddr> {
    // Whoever gets through to `other` gets through to `addr`.
    let covers = |addr: &Multiaddr, other: &Multiaddr| {
        version(addr) == version(other)
            && is_quic(addr) == is_quic(other)
            && (is_quic(addr) || is_on_443(addr) || !is_on_443(other))
    };
    let mut others: Vec<_> = told.iter().filter(|addr| !is_dnsaddr(addr)).collect();
    // Where there are several of a kind, always the same one: a record is not published anew for that.
    others.sort_by_cached_key(|addr| (!is_quic(addr), !is_on_443(addr), carrier(addr), addr.to_string()));
    let mut addrs = vec![base];
    for other in others {
        if addrs.len() < MAX_OF_ONE && !addrs.iter().any(|addr| covers(addr, other)) {
            addrs.push(other.clone());
        }
    }
    addrs
}

/// The first address of each node, then the second of each, and so on.
pub(super) fn in_turn(of_each: &[Vec<Multiaddr>]) -> impl Iterator<Item = &Multiaddr> {
    let longest = of_each.iter().map(Vec::len).max().unwrap_or(0);
    (0..longest).flat_map(move |turn| of_each.iter().filter_map(move |addrs| addrs.get(turn)))
}

/// What works from this host, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Works {
    pub(super) v4: bool,
    pub(super) v6: bool,
    pub(super) udp: bool,
}

impl Works {
    /// This host's own addresses tell its versions of IP, the connections with its directories whether UDP gets out. Nothing
    /// is known before there are such connections.
    pub(super) fn here<'a>(
        listen: &[Multiaddr],
        mut connections: impl Iterator<Item = &'a Multiaddr> + Clone,
    ) -> Option<Self> {
        connections.clone().next()?;
        let has = |of: u8| {
            let own = listen.iter().any(|addr| {
                version(addr) == Some(of) && if of == 4 { !is_loopback(addr) } else { is_public(addr) }
            });
            own || connections.clone().any(|addr| version(addr) == Some(of))
        };
        let (v4, v6) = (has(4), has(6));
        // Behind a dnsaddr there can be anything.
        let udp = connections.any(|addr| is_quic(addr) || is_dnsaddr(addr));
        Some(Self { v4, v6, udp })
    }

    fn fits(self, addr: &Multiaddr) -> bool {
        let version = match version(addr) {
            Some(4) => self.v4,
            Some(6) => self.v6,
            Some(_) | None => true,
        };
        version && (self.udp || !is_quic(addr))
    }
}

/// Those addresses of a node that are likely to be of use here, and the others. libp2p tries IPv6 before IPv4 and UDP before TCP
/// and gives each a quarter of a second before the next, so the others are kept for the case that none of these works.
pub(super) fn likely(addrs: Vec<Multiaddr>, works: Option<Works>) -> (Vec<Multiaddr>, Vec<Multiaddr>) {
    let Some(works) = works else { return (addrs, Vec::new()) };
    let (likely, others): (Vec<_>, Vec<_>) = addrs.into_iter().partition(|addr| works.fits(addr));
    let useless = |addr: &Multiaddr| is_peer_only(addr);
    if likely.iter().all(useless) { ([likely, others].concat(), Vec::new()) } else { (likely, others) }
}

/// Whether the address is of use on this host only.
pub(super) fn is_loopback(addr: &Multiaddr) -> bool {
    ip_of(addr).is_some_and(|ip| ip.is_loopback())
}

/// Whether the address is a wildcard, multicast or otherwise no address of one host.
pub(super) fn is_unusable(addr: &Multiaddr) -> bool {
    ip_of(addr).is_some_and(|ip| ip.is_unspecified() || ip.is_multicast())
}

/// Whether anybody on the internet could use the address.
pub(super) fn is_global(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_global_v4(ip),
        IpAddr::V6(ip) => is_global_v6(ip),
    }
}

/// Outside the special-purpose ranges of RFC 6890 that no stranger can reach.
fn is_global_v4(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    let shared = a == 100 && (64..128).contains(&b); // RFC 6598
    let benchmark = a == 198 && (b == 18 || b == 19); // RFC 2544
    let reserved = a == 0 || a >= 240;
    !(ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_broadcast()
        || shared
        || benchmark
        || reserved)
}

/// Inside 2000::/3 (RFC 4291), which leaves out unique local, link-local and loopback addresses.
fn is_global_v6(ip: Ipv6Addr) -> bool {
    ip.segments()[0] & 0xe000 == 0x2000
}

/// One host: an IPv4 address, or an IPv6 /64, which is the least that anybody is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Host {
    /// An IPv4 address.
    V4([u8; 4]),
    /// An IPv6 /64.
    V6([u16; 4]),
}

impl Host {
    /// The host with an address. One that a dual-stack socket shows as IPv4-mapped counts as IPv4.
    pub(crate) fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip.octets()),
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

/// Whom a stranger's deeds are counted against: one customer's usual share of the address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Source {
    /// An IPv4 /24.
    V4([u8; 3]),
    /// An IPv6 /64.
    V6([u16; 4]),
    /// Behind a relay, address unknown: all of them share one.
    Relayed,
    /// This node itself.
    Local,
}

impl Source {
    /// The /24 or /64 of an address.
    pub(crate) fn of(ip: IpAddr) -> Self {
        match Host::of(ip) {
            Host::V4([a, b, c, _]) => Self::V4([a, b, c]),
            Host::V6(net) => Self::V6(net),
        }
    }

    /// For the disk.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::V4(net) => [&[4], &net[..]].concat(),
            Self::V6(net) => {
                std::iter::once(6).chain(net.iter().flat_map(|part| part.to_be_bytes())).collect()
            }
            Self::Relayed => vec![1],
            Self::Local => vec![0],
        }
    }

    /// From the disk.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [4, a, b, c] => Some(Self::V4([*a, *b, *c])),
            [6, rest @ ..] if rest.len() == 8 => {
                let part = |i: usize| u16::from_be_bytes([rest[2 * i], rest[2 * i + 1]]);
                Some(Self::V6([part(0), part(1), part(2), part(3)]))
            }
            [1] => Some(Self::Relayed),
            [0] => Some(Self::Local),
            _ => None,
        }
    }

    /// The source that a connection's remote address belongs to.
    pub(super) fn of_addr(addr: &Multiaddr) -> Self {
        match ip_of(addr) {
            Some(ip) if !is_relayed(addr) => Self::of(ip),
            Some(_) | None => Self::Relayed,
        }
    }
}

/// Keeps public addresses; private and loopback ones only where permitted, and loopback only where there is
/// nothing else.
pub(super) fn usable(addrs: Vec<Multiaddr>, allow_private: bool) -> Vec<Multiaddr> {
    let addrs: Vec<_> = addrs.into_iter().filter(|addr| !is_unusable(addr)).collect();
    if addrs.iter().any(is_public) || !allow_private {
        return addrs.into_iter().filter(is_public).collect();
    }
    if addrs.iter().all(is_loopback) {
        return addrs;
    }
    addrs.into_iter().filter(|addr| !is_loopback(addr)).collect()
}

/// What kept a connection from being made, without the addresses that were tried: those are for no log.
pub(super) fn dial_error(error: &DialError) -> &'static str {
    match error {
        DialError::LocalPeerId { .. } => "this node itself",
        DialError::NoAddresses => "no address",
        DialError::DialPeerConditionFalse(_) => "not wanted any more",
        DialError::Aborted => "given up",
        DialError::WrongPeerId { .. } => "another node",
        DialError::Denied { .. } => "not allowed",
        DialError::Transport(_) => "no way there",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_key_and_its_peer_id_name_each_other() {
        let key = libp2p::identity::Keypair::ed25519_from_bytes([7; 32]).unwrap();
        let terminal = terminal_of(&key.public().to_peer_id()).unwrap();
        assert_eq!(terminal.as_bytes(), &key.public().try_into_ed25519().unwrap().to_bytes());
        assert_eq!(peer_of(&terminal), Some(key.public().to_peer_id()));
    }

    #[test]
    fn what_carries_a_connection_shows_in_its_address() {
        let carriers = [
            ("/ip4/192.0.2.7/udp/4001/quic-v1", RelayTransport::Udp),
            ("/ip6/2a01::7/tcp/4001", RelayTransport::Tcp),
            ("/ip4/192.0.2.7/tcp/443/tls/ws", RelayTransport::Tls),
            ("/dns4/example.org/tcp/443/wss", RelayTransport::Tls),
        ];
        for (text, over) in carriers {
            assert_eq!(carrier(&addr(text)), over, "{text}");
        }
    }

    #[test]
    fn sources_survive_the_disk() {
        let v6 = Source::of("2a01:4f8:1:2:3::4".parse().unwrap());
        for source in [Source::of("192.0.2.7".parse().unwrap()), v6, Source::Relayed, Source::Local] {
            assert_eq!(Source::from_bytes(&source.to_bytes()), Some(source));
        }
        assert_eq!(Source::from_bytes(&[9, 9]), None);
    }

    #[test]
    fn a_host_is_an_ipv4_address_or_an_ipv6_64() {
        let host = |ip: &str| Host::of(ip.parse().unwrap());
        assert_eq!(host("::ffff:192.0.2.7"), host("192.0.2.7"), "as a dual-stack socket shows it");
        assert_ne!(host("::ffff:192.0.2.7"), host("::ffff:192.0.2.8"));
        assert_eq!(host("2a01:4f8:1:2:3::4"), host("2a01:4f8:1:2:ffff::1"));
        assert_ne!(host("2a01:4f8:1:2::1"), host("2a01:4f8:1:3::1"));
    }

    #[test]
    fn special_ranges_are_not_public() {
        for private in [
            "/ip4/10.1.2.3/udp/1/quic-v1",
            "/ip4/100.64.0.1/udp/1/quic-v1",
            "/ip4/192.168.1.1/tcp/1",
            "/ip4/127.0.0.1/tcp/1",
            "/ip4/169.254.1.1/tcp/1",
            "/ip4/0.0.0.0/tcp/1",
            "/ip6/fe80::1/tcp/1",
            "/ip6/fd00::1/tcp/1",
            "/ip6/::1/tcp/1",
            "/ip6/::ffff:10.0.0.1/tcp/1",
        ] {
            assert!(!is_public(&addr(private)), "{private}");
        }
        for public in ["/ip4/8.8.8.8/tcp/1", "/ip6/2a01::1/tcp/1", "/dns/example.org/tcp/1"] {
            assert!(is_public(&addr(public)), "{public}");
        }
    }

    #[test]
    fn usable_prefers_public_then_lan_then_loopback() {
        let (public, lan, lo) =
            (addr("/ip4/8.8.8.8/tcp/1"), addr("/ip4/10.0.0.1/tcp/1"), addr("/ip4/127.0.0.1/tcp/1"));
        assert_eq!(
            usable(vec![lo.clone(), lan.clone(), public.clone()], true),
            std::slice::from_ref(&public)
        );
        assert_eq!(usable(vec![lo.clone(), lan.clone()], true), std::slice::from_ref(&lan));
        assert_eq!(usable(vec![lo.clone()], true), std::slice::from_ref(&lo));
        assert_eq!(usable(vec![lo, lan], false), []);
    }

    #[test]
    fn a_directory_is_published_once_for_every_kind_of_network() {
        let told = [
            "/ip4/8.8.8.8/tcp/4001",
            "/ip4/8.8.8.8/udp/4001/quic-v1",
            "/ip6/2001:4860::8/tcp/4001",
            "/ip6/2001:4860::8/udp/4001/quic-v1",
            "/ip4/8.8.8.8/tcp/443/tls/ws",
            "/ip4/8.8.8.8/tcp/443",
            "/dnsaddr/example.org",
        ];
        let told = told.map(addr);
        let named = |base: usize, told: &[Multiaddr]| for_every_network(told[base].clone(), told);
        assert_eq!(named(1, &told), [1, 3, 5, 2].map(|n| told[n].clone()));
        assert_eq!(named(0, &told[..1]), told[..1]);
        assert_eq!(named(0, &told)[..2], [told[0].clone(), told[1].clone()]);
        assert!(named(0, &told).contains(&told[5]), "the strictest routers let only that through");
        let backwards: Vec<_> = told.iter().rev().cloned().collect();
        assert_eq!(for_every_network(told[1].clone(), &backwards), named(1, &told), "in whatever order");
        // One that lists names of every kind is not published under all of them.
        let names: Vec<_> = ["dns", "dns4", "dns6"]
            .iter()
            .flat_map(|kind| {
                ["udp/1/quic-v1", "tcp/1", "tcp/443"].map(|rest| addr(&format!("/{kind}/a/{rest}")))
            })
            .collect();
        assert_eq!(for_every_network(told[1].clone(), &names).len(), MAX_OF_ONE);
    }

    #[test]
    fn many_directories_are_each_named_before_any_is_named_twice() {
        let of = |node: u32, count: u32| -> Vec<Multiaddr> {
            (0..count).map(|n| addr(&format!("/ip4/8.8.{node}.8/tcp/{}", n + 1))).collect()
        };
        let of_each = [of(0, 4), of(1, 1), of(2, 0), of(3, 4), of(4, 2), of(5, 4), of(6, 3)];
        let named: Vec<_> = in_turn(&of_each).cloned().collect();
        assert_eq!(named.len(), 18, "all of them");
        let firsts = of_each.iter().filter_map(|addrs| addrs.first().cloned());
        assert_eq!(named[..6], firsts.collect::<Vec<_>>());
        assert_eq!(named[6..8], [of_each[0][1].clone(), of_each[3][1].clone()]);
        assert_eq!(in_turn(&[]).count(), 0);
    }

    #[test]
    fn what_does_not_work_here_is_not_waited_for() {
        let all = [
            "/ip6/2001:4860::8/udp/1/quic-v1",
            "/ip4/8.8.8.8/udp/1/quic-v1",
            "/ip6/2001:4860::8/tcp/1",
            "/ip4/8.8.8.8/tcp/1",
            "/dns/example.org/tcp/1",
            "/dnsaddr/example.org",
        ];
        let all = all.map(addr);
        let [v4, v6] = ["/ip4/192.168.0.2/udp/5/quic-v1", "/ip6/2001:4860::5/udp/5/quic-v1"].map(addr);
        let only_local = addr("/ip6/fe80::1/udp/5/quic-v1");
        let left = |listen: &[&Multiaddr], connections: &[usize]| {
            let listen: Vec<_> = listen.iter().copied().cloned().collect();
            let works = Works::here(&listen, connections.iter().map(|n| &all[*n]));
            let (likely, others) = likely(all.to_vec(), works);
            assert_eq!(likely.len() + others.len(), all.len());
            likely.iter().map(|addr| all.iter().position(|known| known == addr).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(left(&[&v4], &[1]), [1, 3, 4, 5], "IPv4");
        assert_eq!(left(&[&v4, &only_local], &[1]), [1, 3, 4, 5], "a link-local address is no IPv6");
        assert_eq!(left(&[&v6], &[0]), [0, 2, 4, 5], "IPv6");
        assert_eq!(
            left(&[&v4, &v6], &[0]),
            [0, 1, 2, 3, 4, 5],
            "both, though the directory was reached by one"
        );
        assert_eq!(left(&[&v4], &[3]), [3, 4, 5], "IPv4, UDP blocked");
        assert_eq!(left(&[&v4], &[5]), [1, 3, 4, 5], "who knows what is behind a name");
        assert_eq!(left(&[&v4], &[]), [0, 1, 2, 3, 4, 5], "nothing is known");
        let works = Works::here(std::slice::from_ref(&v4), all[3..4].iter());
        assert_eq!(
            likely(all[..3].to_vec(), works),
            (all[..3].to_vec(), Vec::new()),
            "nothing else is there"
        );
        let peer = addr(&format!("/p2p/{}", libp2p::PeerId::random()));
        let with_peer = vec![peer, all[0].clone()];
        assert_eq!(likely(with_peer, works).1, [], "an address that only says who is none");
    }

    #[test]
    fn a_relayed_address_names_its_relay() {
        let relay = libp2p::identity::Keypair::generate_ed25519().public().to_peer_id();
        let base = addr(&format!("/ip4/8.8.8.8/udp/1/quic-v1/p2p/{relay}"));
        let relayed = base.clone().with(Protocol::P2pCircuit);
        assert_eq!(relay_of(&relayed), Some((relay, base.clone())));
        assert_eq!(relay_of(&base), None);
    }
}
