//! What peers say of themselves (identify).

use libp2p::{Multiaddr, PeerId, identify};
use tracing::trace;

use super::addr;
use super::behaviour::{KAD, RELAY_HOP};
use super::codec::PROTOCOL;
use super::driver::Driver;
use super::known;
use super::store::Met;
use crate::clock::wall_clock;

/// Addresses taken from one peer.
const MAX_ADDRS: usize = 16;

/// Peers written to disk in one run beside the entry points.
const MAX_REMEMBERED: usize = 32;

/// Protocols looked at of one peer.
const MAX_PROTOCOLS: usize = 64;

impl Driver {
    pub(super) fn on_identify(&mut self, event: identify::Event) {
        match event {
            identify::Event::Received { peer_id, info, .. } => self.on_identified(peer_id, info),
            identify::Event::Error { error, .. } => trace!(%error, "identify"),
            identify::Event::Sent { .. } | identify::Event::Pushed { .. } => {}
        }
    }

    fn on_identified(&mut self, peer: PeerId, info: identify::Info) {
        let listed: Vec<Multiaddr> =
            info.listen_addrs.into_iter().filter(|addr| !addr::is_relayed(addr)).take(MAX_ADDRS).collect();
        let mut usable = addr::usable(listed, self.private.allowed());
        // QUIC first: one round trip less, and the first one is what is remembered and published.
        usable.sort_by_key(|addr| !addr::is_quic(addr));
        let speaks = |name: &str| info.protocols.iter().take(MAX_PROTOCOLS).any(|p| p.as_ref() == name);
        let Some(state) = self.peers.get_mut(&peer) else { return };
        state.dht = speaks(KAD.as_ref());
        state.signal = speaks(PROTOCOL.as_ref());
        state.relay = speaks(RELAY_HOP);
        state.addrs.clone_from(&usable);
        let (dht, signal) = (state.dht, state.signal);
        self.dirty = true;
        if dht {
            self.add_to_table(peer, &usable);
            self.on_guest(peer);
        } else {
            // An entry point that is no node of the DHT would count as one that does not answer.
            self.swarm.behaviour_mut().kad.remove_peer(&peer);
        }
        if dht && signal {
            self.remember(peer);
        }
        self.on_link_identified(peer);
    }

    /// Serving nodes are worth coming back to, now and in the next run: the entry points, and some of the others. Only
    /// an address under which this node has reached the peer makes it one; anybody can tell us any.
    fn remember(&mut self, peer: PeerId) {
        let Some(state) = self.peers.get(&peer) else { return };
        let Some(reached) = state.reached() else { return };
        let others = known::credible(reached, &state.addrs, self.links.wants(&peer));
        let Ok(addr) = reached.clone().with_p2p(peer) else { return };
        self.not_private_if_public(&addr);
        // A neighbour on the local network is a neighbour only as long as both are there.
        let lasting = self.private.allowed() || addr::is_public(&addr);
        let wanted = self.links.wants(&peer) || self.remembered.len() < MAX_REMEMBERED;
        if !lasting || !(wanted || self.remembered.contains(&peer)) {
            return;
        }
        self.remembered.insert(peer);
        self.links.met(addr.clone());
        if let Some(disk) = &self.disk {
            let texts = others.iter().map(ToString::to_string);
            let met =
                Met { addr: addr.to_string(), chosen: self.links.is_chosen(&peer), others: texts.collect() };
            disk.remember(met, wall_clock());
        }
        self.links.known.learn(peer, others);
    }
}
