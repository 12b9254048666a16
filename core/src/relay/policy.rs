//! With whom the relay lets its users exchange packets. Pure.
//!
//! A relay sends from inside its own network, so that whatever trusts an address there would trust its users: services on
//! the host itself, the neighbours in the data centre, the provider's metadata service. All of that is refused, in every
//! notation (RFC 4291 section 2.5.5, RFC 3056, RFC 6052). What the relay itself has handed out is permitted: both ends of
//! a call may use one relay.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

/// Which peers that nobody on the internet can reach a relay's users may exchange packets with nevertheless.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerPolicy {
    /// Those with private (RFC 1918, RFC 4193), shared (RFC 6598), documentation (RFC 5737, RFC 3849) and benchmark
    /// (RFC 2544) addresses: for a LAN of its own and for laboratories.
    pub private: bool,
    /// Those on this host's loopback addresses, except the relay's own ports: for tests in which everything runs on one
    /// host. Never on a host with services that trust it.
    pub loopback: bool,
}

/// Why a peer is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum PeerRefusal {
    /// No address of one host on the internet.
    #[error("the peer's address is not one of the internet")]
    NotPublic,
    /// One of the relay's own addresses, and no relayed one.
    #[error("the peer's address is the relay's own")]
    Own,
}

/// The policy with what it needs to know of the relay.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    peers: PeerPolicy,
    own: HashSet<IpAddr>,
    relayed: HashSet<IpAddr>,
    ports: HashSet<u16>,
}

impl Policy {
    /// `own` are all addresses of the host, under which others know them, too; `relayed` those on which relayed ports are
    /// opened; `ports` those on which the relay listens.
    pub(super) fn new(
        peers: PeerPolicy,
        own: impl IntoIterator<Item = IpAddr>,
        relayed: impl IntoIterator<Item = IpAddr>,
        ports: impl IntoIterator<Item = u16>,
    ) -> Self {
        let relayed: HashSet<_> = relayed.into_iter().collect();
        let own = own.into_iter().map(|ip| ip.to_canonical()).chain(relayed.iter().copied()).collect();
        Self { peers, own, relayed, ports: ports.into_iter().collect() }
    }

    /// Whether packets may go to and come from a peer. `is_relayed` says whether the relay has handed an address out.
    pub(super) fn check(
        &self,
        peer: SocketAddr,
        is_relayed: impl FnOnce(&SocketAddr) -> bool,
    ) -> Result<(), PeerRefusal> {
        if self.relayed.contains(&peer.ip()) && is_relayed(&peer) {
            return Ok(());
        }
        self.check_host(peer.ip())?;
        let own = self.is_own(peer.ip());
        let spared = self.peers.loopback && peer.ip().is_loopback() && !self.ports.contains(&peer.port());
        if own && !spared { Err(PeerRefusal::Own) } else { Ok(()) }
    }

    /// Whether a permission for an address, which is one for all its ports (RFC 8656 section 9), may be installed. Each packet is
    /// [checked](Self::check) all the same.
    pub(super) fn check_permission(&self, ip: IpAddr) -> Result<(), PeerRefusal> {
        if self.relayed.contains(&ip) {
            return Ok(());
        }
        self.check_host(ip)?;
        let spared = self.peers.loopback && ip.is_loopback();
        if self.is_own(ip) && !spared { Err(PeerRefusal::Own) } else { Ok(()) }
    }

    fn check_host(&self, ip: IpAddr) -> Result<(), PeerRefusal> {
        let permitted = match kind(ip) {
            Kind::Public => true,
            Kind::Private => self.peers.private,
            Kind::Loopback => self.peers.loopback,
            Kind::Never => false,
        };
        if permitted { Ok(()) } else { Err(PeerRefusal::NotPublic) }
    }

    fn is_own(&self, ip: IpAddr) -> bool {
        self.own.contains(&ip) || embedded(ip).is_some_and(|inner| self.own.contains(&IpAddr::V4(inner)))
    }
}

/// Whether anybody on the internet can have this address, and be reached under it.
pub(super) fn is_public(ip: IpAddr) -> bool {
    kind(ip) == Kind::Public
}

/// What kind of address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Public,
    Private,
    Loopback,
    Never,
}

fn kind(ip: IpAddr) -> Kind {
    match ip {
        IpAddr::V4(ip) => kind_v4(ip),
        // One that carries an IPv4 address is as good as that at most.
        IpAddr::V6(ip) => {
            embedded(IpAddr::V6(ip)).map_or(kind_v6(ip), |inner| kind_v6(ip).max(kind_v4(inner)))
        }
    }
}

/// The registry of RFC 6890, as of RFC 9637.
fn kind_v4(ip: Ipv4Addr) -> Kind {
    match ip.octets() {
        [127, ..] => Kind::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Kind::Private,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] | [198, 18..=19, ..] => Kind::Private,
        // This network; link-local; protocol assignments; 6to4 anycast; multicast, reserved and broadcast.
        [0, ..] | [169, 254, ..] | [192, 0, 0, _] | [192, 88, 99, _] | [224..=255, ..] => Kind::Never,
        _ => Kind::Public,
    }
}

fn kind_v6(ip: Ipv6Addr) -> Kind {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Kind::Loopback,
        [0xfc00..=0xfdff, ..] | [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => Kind::Private,
        // NAT64 (RFC 6052); what is inside counts.
        [0x0064, 0xff9b, 0, 0, 0, 0, _, _] => Kind::Public,
        // Teredo, benchmark, ORCHID and the rest of the protocol assignments (RFC 2928).
        [0x2001, 0..=0x01ff, ..] => Kind::Never,
        // Global unicast (RFC 4291).
        [0x2000..=0x3fff, ..] => Kind::Public,
        // Mapped addresses among the rest: no socket of the relay's has use for them.
        _ => Kind::Never,
    }
}

/// The IPv4 address inside an IPv6 one: mapped, 6to4 or NAT64.
fn embedded(ip: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(ip) = ip else { return None };
    let join = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match ip.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x0064, 0xff9b, 0, 0, 0, 0, high, low] => Some(join(high, low)),
        [0x2002, high, low, ..] => Some(join(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "198.41.0.4";

    fn policy(peers: PeerPolicy) -> Policy {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let own = [ip("192.0.33.8"), ip("2a01:4f8::7"), ip("127.0.0.1"), ip("10.0.0.5")];
        Policy::new(peers, own, [ip(OWN)], [3_478])
    }

    fn strict(peer: &str) -> Result<(), PeerRefusal> {
        policy(PeerPolicy::default()).check(SocketAddr::new(peer.parse().unwrap(), 9), |_| false)
    }

    #[track_caller]
    fn refused(peers: &[&str]) {
        for peer in peers {
            assert_eq!(strict(peer), Err(PeerRefusal::NotPublic), "{peer}");
            let ip = peer.parse().unwrap();
            let permission = policy(PeerPolicy::default()).check_permission(ip);
            assert_eq!(permission, Err(PeerRefusal::NotPublic), "{peer}");
        }
    }

    #[test]
    fn peers_on_the_internet_are_permitted() {
        for peer in
            ["8.8.8.8", "2a02::1", "2606:4700::1111", "64:ff9b::8.8.8.8", "2002:808:808::1", "100.128.0.1"]
        {
            assert_eq!(strict(peer), Ok(()), "{peer}");
        }
    }

    #[test]
    fn loopback_is_refused() {
        refused(&["127.0.0.1", "127.255.0.9", "::1"]);
    }

    #[test]
    fn private_addresses_are_refused() {
        refused(&["10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fdff::1"]);
    }

    #[test]
    fn shared_addresses_of_carriers_are_refused() {
        refused(&["100.64.0.1", "100.127.255.255"]);
    }

    #[test]
    fn link_local_addresses_are_refused() {
        refused(&["169.254.169.254", "fe80::1", "fec0::1"]);
        let lab = policy(PeerPolicy { private: true, loopback: true });
        let metadata = SocketAddr::from(([169, 254, 169, 254], 80));
        assert_eq!(lab.check(metadata, |_| false), Err(PeerRefusal::NotPublic), "in laboratories, too");
    }

    #[test]
    fn multicast_broadcast_and_unspecified_addresses_are_refused() {
        refused(&[
            "224.0.0.1",
            "239.1.1.1",
            "255.255.255.255",
            "240.0.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "ff02::1",
        ]);
    }

    #[test]
    fn documentation_and_benchmark_addresses_are_refused() {
        refused(&[
            "192.0.2.1",
            "198.51.100.1",
            "203.0.113.1",
            "198.18.0.1",
            "2001:db8::1",
            "3fff::1",
            "2001:2::1",
        ]);
    }

    #[test]
    fn mapped_6to4_and_nat64_forms_are_no_way_round() {
        refused(&["::ffff:10.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::10.0.0.1", "::8.8.8.8"]);
        refused(&[
            "2002:a00:1::1",
            "2002:7f00:1::",
            "64:ff9b::10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::8.8.8.8",
        ]);
        refused(&["2001::8.8.8.8", "2002:a9fe:a9fe::1"]);
        for own in ["2002:c629:4::1", "64:ff9b::c629:4"] {
            assert_eq!(strict(own), Err(PeerRefusal::Own), "{own}");
        }
    }

    #[test]
    fn the_relays_own_addresses_are_refused_but_for_relayed_ports() {
        for own in [OWN, "192.0.33.8", "2a01:4f8::7"] {
            assert_eq!(strict(own), Err(PeerRefusal::Own), "{own}");
        }
        for peers in [PeerPolicy::default(), PeerPolicy { private: true, loopback: true }] {
            let policy = policy(peers);
            let relayed = SocketAddr::new(OWN.parse().unwrap(), 50_000);
            assert_eq!(policy.check(relayed, |peer| *peer == relayed), Ok(()));
            let next = SocketAddr::new(OWN.parse().unwrap(), 50_001);
            assert_eq!(policy.check(next, |peer| *peer == relayed), Err(PeerRefusal::Own));
            // A permission names no port.
            assert_eq!(policy.check_permission(OWN.parse().unwrap()), Ok(()));
            assert_eq!(policy.check_permission("192.0.33.8".parse().unwrap()), Err(PeerRefusal::Own));
        }
    }

    #[test]
    fn a_laboratory_has_private_peers_but_not_the_relay_itself() {
        let lab = policy(PeerPolicy { private: true, loopback: false });
        let check = |peer: &str| lab.check(SocketAddr::new(peer.parse().unwrap(), 9), |_| false);
        for peer in ["10.1.2.3", "192.168.0.7", "100.64.0.1", "fd00::5", "203.0.113.5", "2001:db8::1"] {
            assert_eq!(check(peer), Ok(()), "{peer}");
        }
        assert_eq!(check("10.0.0.5"), Err(PeerRefusal::Own));
        assert_eq!(check("127.0.0.2"), Err(PeerRefusal::NotPublic));
    }

    #[test]
    fn on_one_host_loopback_is_permitted_but_for_the_relays_ports() {
        let host = policy(PeerPolicy { private: false, loopback: true });
        let check = |port| host.check(SocketAddr::from(([127, 0, 0, 1], port)), |_| false);
        assert_eq!((check(9), check(3_478)), (Ok(()), Err(PeerRefusal::Own)));
    }
}
