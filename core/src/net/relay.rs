//! Circuit relay v2: a terminal's reservations, and a serving node's log.
//!
//! Packets are normally passed on by the signalling protocol, which needs no circuit. The reservation makes the
//! terminal reachable for whoever has no connection to spare for that, as any libp2p node.

use std::time::{Duration, Instant};

use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId, relay};
use tracing::{debug, trace};

use super::addr;
use super::config::Role;
use super::driver::Driver;
use super::event::NetEvent;

/// A reservation that was lost, or never granted, is asked for again after this, if the connection still stands.
const RESERVE_LOST: Duration = Duration::from_secs(5);
const RESERVE_REFUSED: Duration = Duration::from_secs(60);

impl Driver {
    /// A linked node has told its protocols and addresses. Only now may a reservation be made: libp2p takes the
    /// addresses it has learnt by then.
    pub(super) fn on_link_identified(&mut self, peer: PeerId) {
        let found = self.links.all.iter().position(|link| link.is_home() && link.peer == Some(peer));
        if let Some(index) = found {
            let listed = self.peers.get(&peer).and_then(|state| state.addrs.first()).cloned();
            let link = &mut self.links.all[index];
            if link.base.is_none() {
                link.base = listed.and_then(|addr| addr.with_p2p(peer).ok());
                self.dirty = true;
            }
            self.reserve(index);
        }
    }

    /// Asks a linked node for a reservation, if it relays and there is none yet.
    pub(super) fn reserve(&mut self, index: usize) {
        let link = &mut self.links.all[index];
        let relays = link.peer.and_then(|peer| self.peers.get(&peer)).is_some_and(|state| state.relay);
        if self.config.role != Role::Terminal || !relays || !link.is_up() || link.reservation.is_some() {
            return;
        }
        let Some(base) = link.base.clone() else { return };
        match self.swarm.listen_on(base.with(Protocol::P2pCircuit)) {
            Ok(listener) => link.reservation = Some(listener),
            Err(error) => debug!(%error, "cannot ask for a reservation"),
        }
    }

    /// A listener has closed; if it was a reservation, ask for another one.
    pub(super) fn on_reservation_lost(&mut self, listener: ListenerId, now: Instant) {
        if let Some(link) = self.links.all.iter_mut().find(|link| link.reservation == Some(listener)) {
            link.reservation = None;
            let pause = if std::mem::take(&mut link.reserved) { RESERVE_LOST } else { RESERVE_REFUSED };
            link.reserve_again = Some(now + pause);
        }
    }

    pub(super) fn on_relay_client(&mut self, event: relay::client::Event) {
        match event {
            relay::client::Event::ReservationReqAccepted { relay_peer_id, renewal, .. } => {
                debug!(renewal, "reserved");
                let mut links = self.links.all.iter_mut();
                if let Some(link) =
                    links.find(|link| link.peer == Some(relay_peer_id) && link.reservation.is_some())
                {
                    link.reserved = true;
                }
                self.dirty = true;
            }
            relay::client::Event::OutboundCircuitEstablished { .. }
            | relay::client::Event::InboundCircuitEstablished { .. } => trace!("circuit"),
        }
    }

    /// The relay limits itself; its doings are of interest to nobody but the log.
    pub(super) fn on_relay_server(&mut self, event: relay::Event) {
        trace!(?event, "relay");
    }

    pub(super) fn on_listening(&mut self, address: Multiaddr) {
        if addr::is_relayed(&address) {
            self.dirty = true;
            return;
        }
        if !self.listen.contains(&address) {
            self.listen.push(address.clone());
        }
        if let Some(addr) = addr::text(&address) {
            self.tell(NetEvent::Listening { addr });
        }
        // Whoever serves others under a public address does so on the internet. A terminal has one on many a local network,
        // whose directory has none.
        if self.config.role.serves() {
            self.not_private_if_public(&address);
        }
        self.refresh_external();
        self.hurry_links(Instant::now());
    }

    pub(super) fn on_not_listening(&mut self, addresses: &[Multiaddr]) {
        let before = self.listen.len();
        self.listen.retain(|addr| !addresses.contains(addr));
        self.refresh_external();
        if self.listen.len() < before {
            // Connections from that address are dead.
            self.hurry_links(Instant::now());
        }
    }

    /// What identify tells as this node's own addresses: those configured, or the listeners of a serving node
    /// that has none configured. A terminal tells none.
    pub(super) fn refresh_external(&mut self) {
        self.dirty = true;
        let configured: Vec<_> =
            self.config.external.iter().filter_map(|addr| addr::parse(addr).ok()).collect();
        let external = match (configured.is_empty(), self.config.role.serves()) {
            (false, _) => configured.into_iter().map(addr::without_peer).collect(),
            (true, true) => addr::usable(self.listen.clone(), self.private.allowed()),
            (true, false) => Vec::new(),
        };
        for gone in self.external.iter().filter(|addr| !external.contains(addr)) {
            self.swarm.remove_external_address(gone);
        }
        for new in external.iter().filter(|addr| !self.external.contains(addr)) {
            self.swarm.add_external_address(new.clone());
        }
        self.external = external;
    }
}
