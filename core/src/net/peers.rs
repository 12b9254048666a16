//! Who is connected, over what, and what they can do.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};

use super::addr::{self, Source};
use super::probe::PROBE_TIME;

/// One connection.
pub(super) struct Conn {
    pub(super) id: ConnectionId,
    /// The other end's address as this node sees it.
    pub(super) remote: Multiaddr,
    /// Whether the other end made it.
    pub(super) inbound: bool,
    /// When it was there.
    pub(super) since: Instant,
}

/// A peer whose packets come through another node is doubted if nothing has come from itself for so long.
const SILENT: Duration = Duration::from_secs(5);

/// One connected peer.
pub(super) struct Peer {
    pub(super) conns: Vec<Conn>,
    /// When it connected last, or asked for something.
    heard: Instant,
    /// Until then its connections may be those of its former life: whether they are is being looked into.
    doubted: Option<Instant>,
    /// It said in identify that it stores records of the DHT.
    pub(super) dht: bool,
    /// It said that it speaks our signalling protocol.
    pub(super) signal: bool,
    /// It said that it relays.
    pub(super) relay: bool,
    /// Public (or, where permitted, private) addresses it listed in identify.
    pub(super) addrs: Vec<Multiaddr>,
}

impl Peer {
    fn new(now: Instant) -> Self {
        Self {
            conns: Vec::new(),
            heard: now,
            doubted: None,
            dht: false,
            signal: false,
            relay: false,
            addrs: Vec::new(),
        }
    }

    /// It has asked for something.
    pub(super) fn asks(&mut self, now: Instant) {
        (self.heard, self.doubted) = (now, None);
    }

    /// Somebody else has brought a packet of its. `true` if that is a reason to look whether it is there.
    pub(super) fn is_elsewhere(&mut self, now: Instant) -> bool {
        let silent = now.saturating_duration_since(self.heard) >= SILENT;
        if silent {
            self.doubted = Some(now + PROBE_TIME);
        }
        silent
    }

    /// Whether its connections may lead nowhere.
    pub(super) fn is_doubted(&self, now: Instant) -> bool {
        self.doubted.is_some_and(|until| now < until)
    }

    /// The address of a connection that doesn't go through a relay.
    pub(super) fn direct(&self) -> Option<&Multiaddr> {
        self.conns.iter().map(|conn| &conn.remote).find(|remote| !addr::is_relayed(remote))
    }

    /// The address under which this node reached it, as it was dialled.
    pub(super) fn reached(&self) -> Option<&Multiaddr> {
        let mut dialled = self.conns.iter().filter(|conn| !conn.inbound);
        dialled.find(|conn| !addr::is_relayed(&conn.remote)).map(|conn| &conn.remote)
    }

    /// Whether this node has made a connection to it that is older.
    pub(super) fn has_dialled_before(&self, id: ConnectionId) -> bool {
        self.conns.iter().any(|conn| !conn.inbound && conn.id < id)
    }

    /// Whom its deeds are counted against.
    pub(super) fn source(&self) -> Source {
        self.direct().map_or(Source::Relayed, Source::of_addr)
    }
}

/// All connected peers. As many as connections are permitted.
#[derive(Default)]
pub(super) struct Peers {
    map: HashMap<PeerId, Peer>,
}

impl Peers {
    /// Adds a connection; `true` if it is the first one to that peer.
    pub(super) fn connected(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        remote: Multiaddr,
        inbound: bool,
    ) -> bool {
        let now = Instant::now();
        let entry = self.map.entry(peer).or_insert_with(|| Peer::new(now));
        entry.asks(now);
        entry.conns.push(Conn { id, remote, inbound, since: now });
        entry.conns.len() == 1
    }

    /// Removes a connection; the peer, if it was the last one.
    pub(super) fn disconnected(&mut self, peer: &PeerId, id: ConnectionId) -> Option<Peer> {
        let entry = self.map.get_mut(peer)?;
        entry.conns.retain(|conn| conn.id != id);
        if entry.conns.is_empty() { self.map.remove(peer) } else { None }
    }

    pub(super) fn get(&self, peer: &PeerId) -> Option<&Peer> {
        self.map.get(peer)
    }

    /// One peer, for tests about it.
    #[cfg(test)]
    pub(super) fn take(&mut self, peer: &PeerId) -> Option<Peer> {
        self.map.remove(peer)
    }

    pub(super) fn get_mut(&mut self, peer: &PeerId) -> Option<&mut Peer> {
        self.map.get_mut(peer)
    }

    /// The connections to a peer.
    pub(super) fn connections(&self, peer: &PeerId) -> impl Iterator<Item = ConnectionId> {
        self.map.get(peer).into_iter().flat_map(|peer| &peer.conns).map(|conn| conn.id)
    }

    pub(super) fn contains(&self, peer: &PeerId) -> bool {
        self.map.contains_key(peer)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&PeerId, &Peer)> {
        self.map.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    /// Whom the peer's deeds are counted against.
    pub(super) fn source(&self, peer: &PeerId) -> Source {
        self.map.get(peer).map_or(Source::Relayed, Peer::source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_peer_is_doubted_when_its_packets_come_from_elsewhere_until_it_asks() {
        let start = Instant::now();
        let mut peer = Peer::new(start);
        assert!(!peer.is_elsewhere(start + SILENT / 2), "it has just been heard");
        let later = start + SILENT;
        assert!(peer.is_elsewhere(later) && peer.is_doubted(later));
        // By then its connections have been probed.
        assert!(!peer.is_doubted(later + PROBE_TIME));
        assert!(peer.is_elsewhere(later));
        peer.asks(later);
        assert!(!peer.is_doubted(later) && !peer.is_elsewhere(later));
    }
}
