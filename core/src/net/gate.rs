//! Which connections are kept open although they are idle, and how many one address may have.
//!
//! libp2p closes a connection on which no protocol is busy. Signalling needs the opposite for a few: a
//! terminal's connections to its directories, and a directory's to the terminals registered with it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::DeniedUpgrade;
use libp2p::swarm::handler::ConnectionEvent;
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    NotifyHandler, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use super::addr::{self, Host};

/// Keeps chosen connections open and bounds the connections accepted per host.
pub(super) struct Gate {
    per_host: usize,
    accepted: HashMap<Host, usize>,
    hosts: HashMap<ConnectionId, Host>,
    held: HashSet<PeerId>,
    connections: HashMap<PeerId, Vec<ConnectionId>>,
    queue: VecDeque<ToSwarm<Infallible, bool>>,
}

impl Gate {
    /// Accepts at most `per_host` connections from one IPv4 address or IPv6 /64 at a time.
    pub(super) fn new(per_host: u32) -> Self {
        Self {
            per_host: per_host as usize,
            accepted: HashMap::new(),
            hosts: HashMap::new(),
            held: HashSet::new(),
            connections: HashMap::new(),
            queue: VecDeque::new(),
        }
    }

    /// Keeps all connections to `peer`, now and later, open until [`Gate::release`].
    pub(super) fn hold(&mut self, peer: PeerId) {
        if self.held.insert(peer) {
            self.tell(peer, true);
        }
    }

    /// Lets idle connections to `peer` be closed again.
    pub(super) fn release(&mut self, peer: &PeerId) {
        if self.held.remove(peer) {
            self.tell(*peer, false);
        }
    }

    fn tell(&mut self, peer: PeerId, hold: bool) {
        for id in self.connections.get(&peer).into_iter().flatten() {
            self.queue.push_back(ToSwarm::NotifyHandler {
                peer_id: peer,
                handler: NotifyHandler::One(*id),
                event: hold,
            });
        }
    }

    fn forget(&mut self, peer: Option<PeerId>, id: ConnectionId) {
        if let Some(host) = self.hosts.remove(&id)
            && let Some(count) = self.accepted.get_mut(&host)
        {
            *count -= 1;
            if *count == 0 {
                self.accepted.remove(&host);
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

fn host_of(addr: &Multiaddr) -> Option<Host> {
    addr::ip_of(addr).filter(|_| !addr::is_relayed(addr)).map(Host::of)
}

/// One host has as many connections as it may.
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
        let Some(host) = host_of(remote) else { return Ok(()) };
        let count = self.accepted.entry(host).or_default();
        if *count >= self.per_host {
            return Err(ConnectionDenied::new(TooMany));
        }
        *count += 1;
        self.hosts.insert(id, host);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Holder { hold: self.held.contains(&peer) })
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Holder { hold: self.held.contains(&peer) })
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        if let FromSwarm::ConnectionEstablished(event) = &event {
            self.connections.entry(event.peer_id).or_default().push(event.connection_id);
            // Held or released between the making of the handler and now.
            let hold = self.held.contains(&event.peer_id);
            self.queue.push_back(ToSwarm::NotifyHandler {
                peer_id: event.peer_id,
                handler: NotifyHandler::One(event.connection_id),
                event: hold,
            });
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
