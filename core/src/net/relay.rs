//! Circuit relay v2: a terminal's reservations, and a serving node's log.
//!
//! Packets are normally passed on by the signalling protocol, which needs no circuit. The reservation makes the
//! terminal reachable for whoever has no connection to spare for that, as any libp2p node.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId, relay};
use tracing::{debug, trace};

use super::addr;
use super::config::Role;
use super::driver::Driver;
use super::event::NetEvent;
use super::known;
use super::transport::multiaddr;

/// A reservation that was lost, or never granted, is asked for again after this, if the connection still stands.
const RESERVE_LOST: Duration = Duration::from_secs(5);
const RESERVE_REFUSED: Duration = Duration::from_secs(60);

impl Driver {
    /// A linked node has told its protocols and addresses. Only now may a reservation be made: libp2p takes the
    /// addresses it has learnt by then.
    pub(super) fn on_link_identified(&mut self, peer: PeerId) {
        let found = self.links.all.iter().position(|link| link.is_home() && link.peer == Some(peer));
        if let Some(index) = found {
            self.note_told(index, peer);
            let link = &mut self.links.all[index];
            let listed = link.told.first().cloned();
            // Others get through by QUIC where this terminal may not.
            let quic = |addr: &Multiaddr| addr::is_quic(addr);
            let better =
                link.base.as_ref().is_none_or(|base| !quic(base) && listed.as_ref().is_some_and(quic));
            if let Some(listed) = listed.and_then(|addr| addr.with_p2p(peer).ok()).filter(|_| better) {
                link.base = Some(listed);
                self.dirty = true;
            }
            self.reserve(index);
        }
    }

    /// Keeps what the node of a link has said first of its addresses, as far as it is believed: who stands in for a home only
    /// about the host where it was reached, since every caller would knock at others.
    pub(super) fn note_told(&mut self, index: usize, peer: PeerId) {
        let link = &mut self.links.all[index];
        let state = self.peers.get(&peer).filter(|_| link.told.is_empty());
        let Some((state, reached)) = state.and_then(|state| Some((state, state.reached()?))) else { return };
        link.told = known::credible(reached, &state.addrs, link.chosen);
        self.dirty |= !link.told.is_empty();
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
        self.on_more_listening(&address, Instant::now());
        self.refresh_external();
        self.hurry_links(Instant::now());
    }

    pub(super) fn on_not_listening(&mut self, addresses: &[Multiaddr]) {
        let before = self.listen.len();
        self.listen.retain(|addr| !addresses.contains(addr));
        self.on_less_listening(addresses, Instant::now());
        self.refresh_external();
        if self.listen.len() < before {
            // Connections from that address are dead.
            self.hurry_links(Instant::now());
        }
    }

    /// What identify tells as this node's own addresses: those configured, or the listeners of a serving node
    /// that has none configured, or where a terminal is proved to be reached. Otherwise a terminal tells none.
    pub(super) fn refresh_external(&mut self) {
        self.dirty = true;
        let configured: Vec<_> =
            self.config.external.iter().filter_map(|addr| addr::parse(addr).ok()).collect();
        let known = !configured.is_empty();
        let mut external = match (known, self.config.role.serves()) {
            (true, _) => configured.into_iter().map(addr::without_peer).collect(),
            (false, true) => addr::usable(self.listen.clone(), self.private.allowed()),
            (false, false) => self.proof.at().into_iter().collect(),
        };
        if let Some(front) = self.config.front {
            let more = front_addrs(front, &external, known);
            let fits = |addr: &Multiaddr| known || self.private.permits(addr);
            let more = more.into_iter().filter(|addr| fits(addr) && !external.contains(addr));
            let more: Vec<_> = more.collect();
            external.extend(more);
        }
        for gone in self.external.iter().filter(|addr| !external.contains(addr)) {
            self.swarm.remove_external_address(gone);
        }
        for new in external.iter().filter(|addr| !self.external.contains(addr)) {
            self.swarm.add_external_address(new.clone());
        }
        self.external = external;
    }
}

/// The addresses of a front: the ports it listens on, at the hosts of the other addresses or at its own.
fn front_addrs(front: SocketAddr, others: &[Multiaddr], configured: bool) -> Vec<Multiaddr> {
    let ip = front.ip().to_canonical();
    let mut hosts: Vec<Protocol<'_>> = Vec::new();
    if configured || ip.is_unspecified() {
        let reached = |host: &Protocol<'_>| configured || ip.is_ipv6() || !matches!(host, Protocol::Ip6(_));
        for host in others.iter().filter_map(|addr| addr.iter().next()).filter(reached) {
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
    } else {
        hosts.push(ip.into());
    }
    let at = |host: Protocol<'_>, web| {
        let port = multiaddr(front, web).iter().skip(1).map(Protocol::acquire).collect::<Vec<_>>();
        std::iter::once(host.acquire()).chain(port).collect::<Multiaddr>()
    };
    let both = |host: Protocol<'static>| [at(host.clone(), false), at(host, true)];
    hosts.into_iter().map(Protocol::acquire).flat_map(both).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(front: &str, others: &[&str], configured: bool) -> Vec<String> {
        let others: Vec<Multiaddr> = others.iter().map(|addr| addr.parse().unwrap()).collect();
        let addrs = front_addrs(front.parse().unwrap(), &others, configured);
        addrs.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_front_is_where_the_node_is() {
        let others = ["/ip4/192.0.2.1/udp/1/quic-v1", "/ip4/192.0.2.1/tcp/1", "/ip6/2001:db8::1/tcp/1"];
        let v4 = ["/ip4/192.0.2.1/tcp/443", "/ip4/192.0.2.1/tcp/443/tls/ws"];
        let v6 = ["/ip6/2001:db8::1/tcp/443", "/ip6/2001:db8::1/tcp/443/tls/ws"];
        assert_eq!(at("[::]:443", &others, false), [v4, v6].concat());
        assert_eq!(at("0.0.0.0:443", &others, false), v4);
        // Behind a NAT that passes the port on.
        assert_eq!(at("10.0.0.1:443", &others[..1], true), v4);
        assert_eq!(at("10.0.0.1:443", &others[..1], false)[0], "/ip4/10.0.0.1/tcp/443");
        let named = at("[::]:443", &["/dns4/d.example/udp/1/quic-v1"], true);
        assert_eq!(named[1], "/dns4/d.example/tcp/443/tls/ws");
    }
}
