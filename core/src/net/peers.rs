//! Who is connected, over what, and what they can do.

use std::collections::HashMap;

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};

use super::addr::{self, Source};

/// One connection.
pub(super) struct Conn {
    pub(super) id: ConnectionId,
    /// The other end's address as this node sees it.
    pub(super) remote: Multiaddr,
    /// Whether the other end made it.
    pub(super) inbound: bool,
}

/// One connected peer.
#[derive(Default)]
pub(super) struct Peer {
    pub(super) conns: Vec<Conn>,
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
    /// The address of a connection that doesn't go through a relay.
    pub(super) fn direct(&self) -> Option<&Multiaddr> {
        self.conns.iter().map(|conn| &conn.remote).find(|remote| !addr::is_relayed(remote))
    }

    /// The address under which this node reached it, as it was dialled.
    pub(super) fn reached(&self) -> Option<&Multiaddr> {
        let mut dialled = self.conns.iter().filter(|conn| !conn.inbound);
        dialled.find(|conn| !addr::is_relayed(&conn.remote)).map(|conn| &conn.remote)
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
        let entry = self.map.entry(peer).or_default();
        entry.conns.push(Conn { id, remote, inbound });
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
