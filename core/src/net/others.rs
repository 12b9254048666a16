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
        for text in others.iter().take(MAX_OTHERS).filter(|text| text.len() <= MAX_ADDR) {
            let Ok(addr) = text.parse::<Multiaddr>() else { continue };
            let peer = addr::last_peer(&addr).filter(|peer| *peer != me && addr::terminal_of(peer).is_some());
            let usable = !addr::is_relayed(&addr) && !addr::is_dnsaddr(&addr) && !addr::is_peer_only(&addr);
            if let Some(peer) = peer
                && usable
                && self.private.permits(&addr)
                && !self.links.all.iter().any(|link| link.is_home() && link.peer == Some(peer))
            {
                self.links.candidates.told(addr);
            }
        }
    }
}

/// Where a node is, as far as this one has seen it itself: anybody can tell any address and have others knock there.
fn whereabouts(state: &Peer) -> Option<Multiaddr> {
    let seen = state.reached().or(state.direct())?;
    let told = known::credible(seen, &state.addrs, false).into_iter().next();
    Some(state.reached().cloned().or(told).unwrap_or_else(|| seen.clone()))
}
