//! Which connections are kept open although they are idle, and how many strangers may have at a time.
//!
//! libp2p closes a connection on which no protocol is busy. Signalling needs the opposite for a few: a
//! terminal's connections to its directories, and a directory's to the terminals registered with it. These are *held*. All
//! others are *strangers'*, whoever made them (nodes of the DHT are dialled because they say that they are some): they
//! have places, of which a source (/24 or /64) may take so many; when those are taken, the connection that was used
//! longest ago is closed. So whoever fills them with idle connections keeps nobody out.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::DeniedUpgrade;
use libp2p::swarm::behaviour::ConnectionEstablished;
use libp2p::swarm::handler::ConnectionEvent;
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, NotifyHandler, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use tracing::debug;

use super::addr::{self, Host, Source};
use super::budget::{Budget, Standing};
use super::config::Limits;
use super::places::{Place, Places};

/// Connections of one peer. A new one takes the place of the oldest: of two to the same key the newer one leads to a
/// living program, the older one perhaps to one that was killed.
const MAX_PER_PEER: usize = 3;

/// Strangers over TCP have a part of the places of their own: what yamux lets the other end send before it is read
/// makes each of them dearer, up to 2 MiB.
const TCP_PART: usize = 4;

/// Keeps chosen connections open and bounds the others.
pub(super) struct Gate {
    per_host: usize,
    pending_per_source: usize,
    accepted: HashMap<Host, usize>,
    pending: HashMap<Source, usize>,
    entries: HashMap<ConnectionId, Entry>,
    strangers: Places<ConnectionId>,
    tcp_strangers: Places<ConnectionId>,
    held: HashMap<PeerId, Standing>,
    connections: HashMap<PeerId, Vec<ConnectionId>>,
    budget: Budget,
    queue: VecDeque<ToSwarm<Infallible, bool>>,
}

/// A connection that doesn't go through a relay.
struct Entry {
    /// Where it was accepted from.
    accepted: Option<Host>,
    source: Source,
    tcp: bool,
    /// Once its handshake is over.
    peer: Option<PeerId>,
}

impl Gate {
    /// With these bounds; the budget is told how peers stand.
    pub(super) fn new(limits: &Limits, budget: Budget) -> Self {
        Self {
            per_host: limits.connections_per_ip as usize,
            pending_per_source: limits.handshakes_per_source,
            accepted: HashMap::new(),
            pending: HashMap::new(),
            entries: HashMap::new(),
            strangers: Places::new(limits.strangers, limits.strangers_per_source),
            tcp_strangers: Places::new(
                limits.strangers.div_ceil(TCP_PART),
                limits.strangers_per_source.div_ceil(TCP_PART),
            ),
            held: HashMap::new(),
            connections: HashMap::new(),
            budget,
            queue: VecDeque::new(),
        }
    }

    /// How `peer` stands from now on. Unless it is a stranger, all connections to it, now and later, stay open although
    /// they are idle.
    pub(super) fn regard(&mut self, peer: PeerId, standing: Standing) {
        let before = match standing {
            Standing::Stranger => self.held.remove(&peer),
            Standing::Kept | Standing::Friend => self.held.insert(peer, standing),
        };
        let (held, hold) = (before.is_some(), standing != Standing::Stranger);
        if before != Some(standing) && (held || hold) {
            self.budget.regard(peer, standing);
        }
        if held != hold {
            self.hold(peer, hold);
        }
    }

    fn hold(&mut self, peer_id: PeerId, hold: bool) {
        for id in self.connections.get(&peer_id).cloned().unwrap_or_default() {
            self.queue.push_back(ToSwarm::NotifyHandler {
                peer_id,
                handler: NotifyHandler::One(id),
                event: hold,
            });
            if hold {
                self.strangers.leave(&id);
                self.tcp_strangers.leave(&id);
            } else {
                self.take_place(id);
            }
        }
    }

    /// How a peer stands.
    pub(super) fn standing(&self, peer: &PeerId) -> Standing {
        self.held.get(peer).copied().unwrap_or(Standing::Stranger)
    }

    /// The peer has made a request: its connections are in use.
    pub(super) fn used(&mut self, peer: &PeerId) {
        for id in self.connections.get(peer).into_iter().flatten() {
            self.strangers.used(id);
            self.tcp_strangers.used(id);
        }
    }

    fn close(&mut self, peer_id: PeerId, id: ConnectionId) {
        self.queue.push_back(ToSwarm::CloseConnection { peer_id, connection: CloseConnection::One(id) });
    }

    /// Gives a connection a stranger's place, and closes the one that loses it.
    fn take_place(&mut self, id: ConnectionId) {
        let Some(entry) = self.entries.get(&id) else { return };
        let places = if entry.tcp { &mut self.tcp_strangers } else { &mut self.strangers };
        let loser = match places.take(id, entry.source) {
            Place::Given => return,
            Place::Instead(loser) => loser,
            Place::None => id,
        };
        if let Some(peer) = self.entries.get(&loser).and_then(|entry| entry.peer) {
            debug!("a stranger's connection makes room");
            self.close(peer, loser);
        }
    }

    /// Counts a connection that is being made, if it may be.
    fn admit(&mut self, id: ConnectionId, remote: &Multiaddr) -> Result<(), TooMany> {
        let Some(host) = host_of(remote) else { return Ok(()) };
        let source = Source::of_addr(remote);
        let pending = self.pending.get(&source).copied().unwrap_or(0);
        let accepted = self.accepted.get(&host).copied().unwrap_or(0);
        if pending >= self.pending_per_source || accepted >= self.per_host {
            return Err(TooMany);
        }
        self.pending.insert(source, pending + 1);
        self.accepted.insert(host, accepted + 1);
        self.entries
            .insert(id, Entry { accepted: Some(host), source, tcp: !addr::is_quic(remote), peer: None });
        Ok(())
    }

    fn established(&mut self, event: &ConnectionEstablished<'_>) {
        let (peer, id) = (event.peer_id, event.connection_id);
        let remote = event.endpoint.get_remote_address();
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.peer = Some(peer);
            decrease(&mut self.pending, &entry.source);
        } else if host_of(remote).is_some() {
            let (source, tcp) = (Source::of_addr(remote), !addr::is_quic(remote));
            self.entries.insert(id, Entry { accepted: None, source, tcp, peer: Some(peer) });
        }
        let connections = self.connections.entry(peer).or_default();
        connections.push(id);
        let surplus = connections.len().saturating_sub(MAX_PER_PEER);
        let oldest: Vec<_> = connections.iter().copied().take(surplus).collect();
        oldest.into_iter().for_each(|id| self.close(peer, id));
        // Held or released between the making of the handler and now.
        let hold = self.held.contains_key(&peer);
        self.queue.push_back(ToSwarm::NotifyHandler {
            peer_id: peer,
            handler: NotifyHandler::One(id),
            event: hold,
        });
        if !hold {
            self.take_place(id);
        }
    }

    fn forget(&mut self, peer: Option<PeerId>, id: ConnectionId) {
        self.strangers.leave(&id);
        self.tcp_strangers.leave(&id);
        if let Some(entry) = self.entries.remove(&id) {
            if let Some(host) = entry.accepted {
                decrease(&mut self.accepted, &host);
            }
            if entry.peer.is_none() {
                decrease(&mut self.pending, &entry.source);
            }
        }
        if let Some(peer) = peer
            && let Some(ids) = self.connections.get_mut(&peer)
        {
            ids.retain(|known| *known != id);
            if ids.is_empty() {
                self.connections.remove(&peer);
            }
        }
    }
}

fn decrease<K: Eq + std::hash::Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

fn host_of(addr: &Multiaddr) -> Option<Host> {
    addr::ip_of(addr).filter(|_| !addr::is_relayed(addr)).map(Host::of)
}

/// One host or its surroundings have as many connections as they may.
#[derive(Debug)]
struct TooMany;

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many connections from one address")
    }
}

impl std::error::Error for TooMany {}

impl NetworkBehaviour for Gate {
    type ConnectionHandler = Holder;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.admit(id, remote).map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Holder { hold: self.held.contains_key(&peer) })
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Holder { hold: self.held.contains_key(&peer) })
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        if let FromSwarm::ConnectionEstablished(event) = &event {
            self.established(event);
        } else if let FromSwarm::ConnectionClosed(event) = &event {
            self.forget(Some(event.peer_id), event.connection_id);
        } else if let FromSwarm::ListenFailure(event) = &event {
            self.forget(None, event.connection_id);
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.queue.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// One connection's share: speaks no protocol, only says whether to stay.
pub(super) struct Holder {
    hold: bool,
}

impl ConnectionHandler for Holder {
    type FromBehaviour = bool;
    type ToBehaviour = Infallible;
    type InboundProtocol = DeniedUpgrade;
    type OutboundProtocol = DeniedUpgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(DeniedUpgrade, ())
    }

    fn connection_keep_alive(&self) -> bool {
        self.hold
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Self::ToBehaviour>> {
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, hold: bool) {
        self.hold = hold;
    }

    /// No stream is ever opened or accepted here, so no event concerns us.
    fn on_connection_event(&mut self, _: ConnectionEvent<Self::InboundProtocol, Self::OutboundProtocol>) {}
}
