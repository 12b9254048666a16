//! Whom a terminal may turn to when a directory dies: other nodes that take terminals, of which every directory tells it
//! some. The directory knows them from its part of the DHT, which the terminal never enters.

use libp2p::{Multiaddr, PeerId};
use rand::seq::IteratorRandom;

use super::addr;
use super::codec::{MAX_ADDR, MAX_OTHERS};
use super::driver::Driver;
use super::known;
use super::peers::Peer;

impl Driver {
    /// Some of the serving nodes of the DHT that this node keeps connections with, others each time, so that not all
    /// terminals turn to the same.
    pub(super) fn others(&self, asker: &PeerId) -> Vec<String> {
        let serving = self.warm.peers().filter(|peer| peer != asker).filter_map(|peer| {
            let state = self.peers.get(&peer).filter(|state| state.dht && state.signal)?;
            let addr = whereabouts(state).filter(|addr| self.private.allowed() || addr::is_public(addr))?;
            Some(addr.with_p2p(peer).ok()?.to_string()).filter(|text| text.len() <= MAX_ADDR)
        });
        serving.sample(&mut rand::rng(), MAX_OTHERS)
    }

    /// A home has told of others.
    pub(super) fn on_others(&mut self, others: &[String]) {
        if !self.registers() {
            return;
        }
        let me = *self.swarm.local_peer_id();
        for text in others.iter().take(MAX_OTHERS) {
            let Some((peer, addr)) = parse(text).filter(|(peer, _)| *peer != me) else { continue };
            let home = self.links.all.iter().any(|link| link.is_home() && link.peer == Some(peer));
            if !home && self.private.permits(&addr) {
                self.links.candidates.told(addr);
            }
        }
    }
}

/// A node by its address, if that leads straight to it.
fn parse(text: &str) -> Option<(PeerId, Multiaddr)> {
    let addr: Multiaddr = text.parse().ok().filter(|_| text.len() <= MAX_ADDR)?;
    let peer = addr::last_peer(&addr).filter(|peer| addr::terminal_of(peer).is_some())?;
    let straight = !addr::is_relayed(&addr) && !addr::is_dnsaddr(&addr) && !addr::is_peer_only(&addr);
    straight.then_some((peer, addr))
}

/// Where a node is, as far as this one has seen it itself: anybody can tell any address and have others knock there.
fn whereabouts(state: &Peer) -> Option<Multiaddr> {
    let seen = state.reached().or(state.direct())?;
    let told = known::credible(seen, &state.addrs, false).into_iter().next();
    Some(state.reached().cloned().or(told).unwrap_or_else(|| seen.clone()))
}

#[cfg(test)]
mod tests {
    use libp2p::swarm::ConnectionId;

    use super::super::peers::Peers;
    use super::*;

    #[test]
    fn only_straight_ways_to_nodes_are_taken() {
        let peer = libp2p::identity::Keypair::generate_ed25519().public().to_peer_id();
        let good = format!("/ip4/192.0.2.1/udp/1/quic-v1/p2p/{peer}");
        assert_eq!(parse(&good), Some((peer, good.parse().unwrap())));
        assert!(parse(&format!("/dns4/x.example/tcp/1/p2p/{peer}")).is_some());
        let long = format!("/dns4/{}/tcp/1/p2p/{peer}", "x".repeat(MAX_ADDR));
        let relayed = format!("{good}/p2p-circuit/p2p/{peer}");
        let (name, nobody) = (format!("/dnsaddr/x.example/p2p/{peer}"), "/ip4/192.0.2.1/tcp/1".to_owned());
        let foreign = format!("/ip4/192.0.2.1/tcp/1/p2p/{}", PeerId::random());
        for bad in [long, relayed, name, nobody, foreign, format!("/p2p/{peer}"), "nonsense".to_owned()] {
            assert_eq!(parse(&bad), None, "{bad}");
        }
    }

    #[test]
    fn a_node_is_told_of_at_a_host_where_it_has_been_seen() {
        let addr = |text: &str| -> Multiaddr { text.parse().unwrap() };
        let peer = PeerId::random();
        let mut peers = Peers::default();
        let connected = |peers: &mut Peers, remote: &str, inbound: bool| {
            peers.connected(peer, ConnectionId::new_unchecked(1), addr(remote), inbound);
        };
        let here = |peers: &Peers| whereabouts(peers.get(&peer).unwrap()).map(|addr| addr.to_string());
        connected(&mut peers, "/ip4/192.0.2.1/udp/9/quic-v1", true);
        peers.get_mut(&peer).unwrap().addrs = vec![addr("/ip4/192.0.2.7/tcp/1")];
        assert_eq!(
            here(&peers).as_deref(),
            Some("/ip4/192.0.2.1/udp/9/quic-v1"),
            "not where somebody else may be"
        );
        peers.get_mut(&peer).unwrap().addrs.push(addr("/ip4/192.0.2.1/udp/4001/quic-v1"));
        assert_eq!(here(&peers).as_deref(), Some("/ip4/192.0.2.1/udp/4001/quic-v1"));
        connected(&mut peers, "/ip4/192.0.2.1/tcp/4001", false);
        assert_eq!(here(&peers).as_deref(), Some("/ip4/192.0.2.1/tcp/4001"), "where it was reached");
    }
}
