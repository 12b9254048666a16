//! Media relays: the leg's side of TURN (RFC 8656).
//!
//! ```text
//!   Relays ── at most two relays of a leg, and what comes from them told apart   (sans-IO)
//!    └── Contest ── one relay: its servers are tried one after the other, the first that gives an address wins
//!         └── Client ── one server: turn-client-proto, permissions and channels when they are needed
//!   stream ── TCP and TLS to a server; UDP goes through the leg's own socket
//! ```
//!
//! Packets through a relay have the address that it has opened for us as their local one. Otherwise they are treated
//! like those that come straight: a relay is not trusted with anything.

mod client;
mod contest;
pub(super) mod stream;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use offhook_proto::relay::{RelayServer, RelayTransport};

use super::types::Relay;
use client::NotOurs;
use contest::Contest;

/// Relays of a leg. Further ones are ignored.
pub const MAX_RELAYS: usize = 2;

/// A connection to a server over TCP or TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct StreamId(u32);

/// A message for a server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wire {
    /// A datagram from the leg's socket.
    Datagram { server: SocketAddr, bytes: Vec<u8> },
    /// A message on a connection.
    Stream { id: StreamId, bytes: Vec<u8> },
}

/// An address that a relay has opened for us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Relayed {
    pub(super) address: SocketAddr,
    /// Label of the relay.
    pub(super) relay: Arc<str>,
    /// Between us and the relay.
    pub(super) transport: RelayTransport,
    /// How much worse than the best it is: UDP before TCP before TLS, then in the order of the relays.
    pub(super) rank: u16,
}

/// What is to be done about relays, besides messages.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RelayEvent {
    /// A connection to this server should be opened.
    Connect(StreamId, RelayServer),
    /// A connection is not needed any more.
    Disconnect(StreamId),
    /// Packets may come to and go from this address.
    Opened(Relayed),
    /// Not any more.
    Lost(SocketAddr),
}

/// A packet that came through a relay.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    /// Our address at the relay.
    pub(super) local: SocketAddr,
    /// Whence the relay had it.
    pub(super) source: SocketAddr,
    pub(super) bytes: Vec<u8>,
}

/// What a datagram is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Datagram {
    /// Not from a relay, or not as a relay's client understands it.
    Other,
    /// A relay's own business.
    Handled,
    /// A packet of a peer.
    Data(Delivery),
}

/// What comes out.
#[derive(Default)]
struct Output {
    wire: VecDeque<Wire>,
    events: VecDeque<RelayEvent>,
}

/// Tells from which of our addresses packets go to a server, if any.
pub(super) type Route = fn(SocketAddr) -> Option<IpAddr>;

/// What all servers of a leg have in common.
#[derive(Clone, Copy)]
struct Here {
    /// Any address of ours; servers on connections have their own.
    socket: SocketAddr,
    route: Route,
}

/// See the module's documentation. After each input, messages and events may come out.
pub(super) struct Relays {
    here: Here,
    contests: Vec<Contest>,
    wanted: bool,
    out: Output,
}

impl Relays {
    /// Without relays. `socket` is what the leg's socket is bound to.
    pub(super) fn new(socket: SocketAddr, route: Route) -> Relays {
        Relays { here: Here { socket, route }, contests: Vec::new(), wanted: true, out: Output::default() }
    }

    /// Asks a relay for an address, now or once that is wanted. False if there are enough already, or if it is one of those.
    pub(super) fn add(&mut self, relay: &Relay, now: Instant) -> bool {
        // Two clients on one socket would be one to the server.
        let known =
            |server: &RelayServer| self.contests.iter().any(|contest| contest.has_server(server.addr));
        let servers: Vec<_> = relay.servers.iter().filter(|server| !known(server)).copied().collect();
        if self.contests.len() >= MAX_RELAYS || servers.is_empty() {
            return false;
        }
        let index = self.contests.len() as u16;
        let mut contest = Contest::new(relay, servers, index, now);
        contest.want(self.wanted, now, &mut self.out);
        self.contests.push(contest);
        self.handle_timeout(now);
        true
    }

    /// Gives all addresses back, or asks for them again.
    pub(super) fn want(&mut self, wanted: bool, now: Instant) {
        self.wanted = wanted;
        self.contests.iter_mut().for_each(|contest| contest.want(wanted, now, &mut self.out));
        self.handle_timeout(now);
    }

    /// Nothing comes through the relays: has it found out whether their addresses are still there, and asks for others if not.
    pub(super) fn doubt(&mut self, now: Instant) {
        self.contests.iter_mut().for_each(|contest| contest.doubt(now));
        self.handle_timeout(now);
    }

    /// Begins anew with those to which packets go from another of our addresses than before.
    pub(super) fn reroute(&mut self, now: Instant) {
        self.contests.iter_mut().for_each(|contest| contest.reroute(self.here.route, now, &mut self.out));
        self.handle_timeout(now);
    }

    /// Whether no relay is used, and all addresses are given back.
    pub(super) fn is_over(&self) -> bool {
        self.contests.iter().all(Contest::is_over)
    }

    /// When [`Relays::handle_timeout`] should be called next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.contests.iter().filter_map(Contest::poll_timeout).min()
    }

    /// Lets time pass.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.contests.iter_mut().for_each(|contest| contest.advance(now, self.here, &mut self.out));
    }

    /// The next message for a server.
    pub(super) fn poll_wire(&mut self) -> Option<Wire> {
        self.out.wire.pop_front()
    }

    /// What is to be done next.
    pub(super) fn poll_event(&mut self) -> Option<RelayEvent> {
        self.out.events.pop_front()
    }

    /// Takes a datagram of the leg's socket.
    pub(super) fn datagram(&mut self, source: SocketAddr, bytes: &[u8], now: Instant) -> Datagram {
        let Some(contest) = self.contests.iter_mut().find(|contest| contest.has_server(source)) else {
            return Datagram::Other;
        };
        match contest.datagram(source, bytes, now) {
            Ok(Some(delivery)) => Datagram::Data(delivery),
            Ok(None) => {
                self.handle_timeout(now);
                Datagram::Handled
            }
            Err(NotOurs) => Datagram::Other,
        }
    }

    /// Takes a message of a connection.
    pub(super) fn message(&mut self, id: StreamId, bytes: &[u8], now: Instant) -> Option<Delivery> {
        let contest = self.contests.iter_mut().find(|contest| contest.has_stream(id))?;
        let delivery = contest.message(id, bytes, now);
        if delivery.is_none() {
            self.handle_timeout(now);
        }
        delivery
    }

    /// A connection stands; `local` is our end.
    pub(super) fn connected(&mut self, id: StreamId, local: SocketAddr, now: Instant) {
        self.contests.iter_mut().for_each(|contest| contest.connected(id, local, now));
        self.handle_timeout(now);
    }

    /// A connection has ended, or could not be opened.
    pub(super) fn disconnected(&mut self, id: StreamId, now: Instant) {
        self.contests.iter_mut().for_each(|contest| contest.disconnected(id, now, &mut self.out));
        self.handle_timeout(now);
    }

    /// Sends a packet from our address `local` at a relay. False if there is none.
    pub(super) fn send(&mut self, local: SocketAddr, peer: SocketAddr, bytes: &[u8], now: Instant) -> bool {
        let contest = self.contests.iter_mut().find(|contest| contest.has_opened(local));
        let found = contest.is_some();
        if let Some(contest) = contest {
            contest.send(peer, bytes, now, &mut self.out);
        }
        found
    }
}

#[cfg(test)]
mod tests;
