//! Under which addresses serving nodes are to be found, as they have told: a terminal that has met its directory over QUIC
//! finds it over TCP or as a web server when nothing else gets through, in this run and in later ones.

use std::collections::HashMap;

use libp2p::{Multiaddr, PeerId};

use super::addr::{self, Host};

/// Addresses kept of one node: four ways in, IPv4 and IPv6.
const MAX_ADDRS: usize = 8;

/// Nodes whose addresses are kept; those of further ones are not. Those remembered on disk and met in a run are fewer.
const MAX_NODES: usize = 256;

/// See the [module](self).
#[derive(Default)]
pub(super) struct Known {
    nodes: HashMap<PeerId, Vec<Multiaddr>>,
}

impl Known {
    /// What a node has told replaces what it told before.
    pub(super) fn learn(&mut self, peer: PeerId, addrs: Vec<Multiaddr>) {
        if self.nodes.len() < MAX_NODES || self.nodes.contains_key(&peer) {
            self.nodes.insert(peer, addrs);
        }
    }

    /// Where to dial a node: at `first`, and wherever else it is known to be. All begin at once but for the head starts
    /// that libp2p gives: QUIC, then TCP, then the others.
    pub(super) fn to_dial(&self, peer: PeerId, first: &[Multiaddr]) -> Vec<Multiaddr> {
        let more = self.nodes.get(&peer).into_iter().flatten();
        let mut addrs: Vec<Multiaddr> = Vec::new();
        for addr in first.iter().chain(more) {
            // One that ends in somebody else's name leads elsewhere.
            if let Ok(addr) = addr.clone().with_p2p(peer)
                && !addrs.contains(&addr)
            {
                addrs.push(addr);
            }
        }
        addrs
    }
}

/// Which of the addresses that a node tells are worth remembering. Anybody can tell any address and have others knock
/// there; so of a node that is not `linked` only those at a host where it has been `reached` count.
pub(super) fn credible(reached: &Multiaddr, told: &[Multiaddr], linked: bool) -> Vec<Multiaddr> {
    let host = |addr: &Multiaddr| addr::ip_of(addr).map(Host::of);
    let fits = |addr: &&Multiaddr| linked || (host(addr).is_some() && host(addr) == host(reached));
    told.iter().filter(fits).take(MAX_ADDRS).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_stranger_is_believed_about_hosts_where_it_has_been_reached() {
        let reached = addr("/ip4/192.0.2.1/udp/1/quic-v1");
        let told =
            ["/ip4/192.0.2.1/tcp/443/tls/ws", "/ip4/192.0.2.2/tcp/1", "/dns4/x.example/tcp/1"].map(addr);
        assert_eq!(credible(&reached, &told, false), told[..1]);
        assert_eq!(credible(&reached, &told, true), told);
        assert_eq!(credible(&reached, &vec![told[0].clone(); 100], false).len(), MAX_ADDRS);
        assert_eq!(credible(&addr("/dns4/x.example/tcp/1"), &told, false), []);
    }

    #[test]
    fn a_node_is_dialled_wherever_it_is_known_to_be_but_not_twice() {
        let (peer, other) = (PeerId::random(), PeerId::random());
        let mut known = Known::default();
        let (quic, tcp) = (addr("/ip4/192.0.2.1/udp/1/quic-v1"), addr("/ip4/192.0.2.1/tcp/443"));
        let at = |addr: &Multiaddr| addr.clone().with_p2p(peer).unwrap();
        assert_eq!(known.to_dial(peer, &[at(&quic)]), [at(&quic)]);
        known.learn(peer, vec![quic.clone(), tcp.clone(), tcp.clone().with_p2p(other).unwrap()]);
        assert_eq!(known.to_dial(peer, &[at(&quic)]), [at(&quic), at(&tcp)]);
        known.learn(peer, Vec::new());
        assert_eq!(known.to_dial(peer, &[at(&quic)]), [at(&quic)]);
    }

    #[test]
    fn there_are_only_so_many_nodes() {
        let mut known = Known::default();
        (0..1_000).for_each(|_| known.learn(PeerId::random(), Vec::new()));
        assert_eq!(known.nodes.len(), MAX_NODES);
    }
}
