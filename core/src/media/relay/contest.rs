//! One relay: which of its servers is used. They are tried UDP first, then TCP, then TLS, each with a head start before the
//! next (as RFC 8305 does with addresses), and the first that gives an address wins. When that one is lost, all over again.
//! Nothing is kept waiting for a server that is likely to stay silent: one over UDP where directories are reached over TCP
//! alone, or one to which there is no route.
//!
//! A server over UDP does not tell that it has forgotten us, or that it does not know us under our new address. So when an
//! address is doubted, another is asked for beside it: a server that still knows us refuses that (437). A connection that has stalled is
//! replaced.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use offhook_proto::relay::{MAX_RELAY_SERVERS, RelayServer, RelayTransport};

use super::client::{Client, Credentials, NotOurs, PeerData};
use super::{Delivery, Here, Output, RelayEvent, Relayed, Route, StreamId, Wire};
use crate::media::types::Relay;

/// Head start of a server before the next: with a round trip of 50 ms the two that an address takes without a ticket's nonce fit in.
const HEAD_START: Duration = Duration::from_millis(150);
/// How long a server may take, everything included.
const PATIENCE: Duration = Duration::from_secs(6);
/// How long an address that is not needed may take to be given back.
const FAREWELL: Duration = Duration::from_secs(2);
/// Pause before all servers are tried again; it doubles up to 64 times.
const PAUSE: Duration = Duration::from_millis(500);
const MAX_DOUBLINGS: u32 = 6;
/// A connection over which nothing has come for so long may be dead.
const STALLED: Duration = Duration::from_secs(1);
/// An address that lasted for so long was no failure.
const LASTED: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// The leg's socket.
    Datagrams,
    /// A connection of its own.
    Stream(StreamId),
}

/// A server that is tried or used.
struct Runner {
    link: Link,
    server: RelayServer,
    /// From which of our addresses packets go there.
    source: Option<IpAddr>,
    /// None until the connection stands.
    client: Option<Client>,
    since: Instant,
}

/// See the module's documentation. Sans-IO.
pub(super) struct Contest {
    label: Arc<str>,
    credentials: Credentials,
    servers: Vec<RelayServer>,
    index: u16,
    shared: bool,
    reached_over: RelayTransport,
    /// Connections so far.
    streams: u16,
    /// The server whose turn is next, and when.
    next: usize,
    next_due: Instant,
    runners: Vec<Runner>,
    winner: Option<Runner>,
    /// Those that give their address back.
    leaving: Vec<Runner>,
    /// Whether the winner is to be replaced by the first that gives another address.
    doubted: bool,
    /// Times in a row that nothing came of it.
    failures: u32,
    wanted: bool,
}

impl Contest {
    /// Begins at once. `index` is the relay's place among the leg's.
    pub(super) fn new(relay: &Relay, mut servers: Vec<RelayServer>, index: u16, now: Instant) -> Contest {
        servers.truncate(MAX_RELAY_SERVERS);
        servers.sort_by_key(|server| server.transport);
        Contest {
            label: relay.label.as_str().into(),
            credentials: Credentials {
                username: relay.username.clone(),
                password: relay.password.clone(),
                nonce: relay.nonce.clone(),
            },
            servers,
            index,
            shared: relay.shared,
            reached_over: relay.reached_over,
            streams: 0,
            next: 0,
            next_due: now,
            runners: Vec::new(),
            winner: None,
            leaving: Vec::new(),
            doubted: false,
            failures: 0,
            wanted: true,
        }
    }

    pub(super) fn has_server(&self, address: SocketAddr) -> bool {
        self.servers.iter().any(|server| server.addr == address)
    }

    pub(super) fn has_stream(&self, id: StreamId) -> bool {
        self.all().any(|runner| runner.link == Link::Stream(id))
    }

    /// Whether it has opened `local` for us.
    pub(super) fn has_opened(&self, local: SocketAddr) -> bool {
        self.winner.as_ref().is_some_and(|winner| winner.relayed().contains(&local))
    }

    /// Whether nothing is left to be done.
    pub(super) fn is_over(&self) -> bool {
        !self.wanted && self.runners.is_empty() && self.winner.is_none() && self.leaving.is_empty()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let clients = self.all().filter_map(|runner| runner.client.as_ref()?.poll_timeout());
        let limits = self.runners.iter().map(|runner| runner.since + PATIENCE);
        let farewells = self.leaving.iter().map(|runner| runner.since + FAREWELL);
        let turn = self.has_turn().then_some(self.next_due);
        clients.chain(limits).chain(farewells).chain(turn).min()
    }

    /// Takes a datagram of a server.
    pub(super) fn datagram(
        &mut self,
        source: SocketAddr,
        bytes: &[u8],
        now: Instant,
    ) -> Result<Option<Delivery>, NotOurs> {
        let ours = |runner: &&mut Runner| runner.link == Link::Datagrams && runner.server.addr == source;
        let clients = self.all_mut().filter(ours).filter_map(|runner| runner.client.as_mut());
        let data = { clients }.find_map(|client| client.receive(bytes, now).ok()).ok_or(NotOurs)?;
        Ok(data.and_then(|data| self.delivery(Link::Datagrams, data)))
    }

    /// Takes a message of a connection.
    pub(super) fn message(&mut self, id: StreamId, bytes: &[u8], now: Instant) -> Option<Delivery> {
        let link = Link::Stream(id);
        let client = self.all_mut().find(|runner| runner.link == link)?.client.as_mut()?;
        // What the client does not understand is of no use to anybody else here.
        let data = client.receive(bytes, now).ok().flatten()?;
        self.delivery(link, data)
    }

    /// Only from the server in use.
    fn delivery(&self, link: Link, data: PeerData) -> Option<Delivery> {
        let winner = self.winner.as_ref().filter(|winner| winner.link == link)?;
        let local = *winner.relayed().iter().find(|relayed| relayed.is_ipv4() == data.peer.is_ipv4())?;
        Some(Delivery { local, source: data.peer, bytes: data.bytes })
    }

    /// Sends to a peer from an address at this relay.
    pub(super) fn send(&mut self, peer: SocketAddr, bytes: &[u8], now: Instant, out: &mut Output) {
        if let Some(winner) = &mut self.winner
            && let Some(client) = &mut winner.client
        {
            if let Some(message) = client.send(peer, bytes, now) {
                out.wire.push_back(winner.link.wire(winner.server, message));
            }
            winner.flush(out);
        }
    }

    /// A connection stands.
    pub(super) fn connected(&mut self, id: StreamId, local: SocketAddr, now: Instant) {
        let runner = self.runners.iter_mut().find(|runner| runner.link == Link::Stream(id));
        if let Some(runner) = runner.filter(|runner| runner.client.is_none()) {
            runner.client = Some(Client::new(runner.server, local, &self.credentials, now));
        }
    }

    /// A connection has ended.
    pub(super) fn disconnected(&mut self, id: StreamId, now: Instant, out: &mut Output) {
        let link = Link::Stream(id);
        self.runners.retain(|runner| runner.link != link);
        self.leaving.retain(|runner| runner.link != link);
        if let Some(lost) = self.winner.take_if(|winner| winner.link == link) {
            self.lose(&lost, now, out);
        }
    }

    /// Gives all back, or begins anew.
    pub(super) fn want(&mut self, wanted: bool, now: Instant, out: &mut Output) {
        if std::mem::replace(&mut self.wanted, wanted) == wanted {
            return;
        }
        (self.next, self.next_due, self.failures) = (0, now, 0);
        self.doubted = false;
        if !wanted {
            if let Some(winner) = self.winner.take() {
                winner.tell_lost(out);
                self.runners.push(winner);
            }
            self.dismiss(now, out);
        }
    }

    /// Nothing comes through the address in use, if there is one: finds out whether it is still there. Over a connection, to whose
    /// server another one is another client, that costs the address; so it has to have been silent for longer.
    pub(super) fn doubt(&mut self, now: Instant) {
        let doubtful = self.winner.as_ref().is_some_and(|winner| match winner.link {
            Link::Datagrams => true,
            Link::Stream(_) => winner.silent_since() + STALLED <= now,
        });
        if self.wanted && doubtful && self.runners.is_empty() {
            (self.doubted, self.next, self.next_due) = (true, 0, now);
        }
    }

    /// Begins anew if packets go to the server from another address of ours than before: to the server that is another client,
    /// which the old one's address can't be given to.
    pub(super) fn reroute(&mut self, route: Route, now: Instant, out: &mut Output) {
        if let Some(lost) = self.winner.take_if(|winner| winner.has_moved(route)) {
            lost.tell_lost(out);
            lost.hang_up(out);
        }
        self.runners.extract_if(.., |runner| runner.has_moved(route)).for_each(|runner| runner.hang_up(out));
        if self.winner.is_none() && self.runners.is_empty() {
            (self.next, self.next_due, self.failures) = (0, now, 0);
        }
    }

    /// Lets time pass, and follows what the clients report.
    pub(super) fn advance(&mut self, now: Instant, here: Here, out: &mut Output) {
        self.take_turns(now, here, out);
        for runner in self.all_mut() {
            runner.advance(now, out);
        }
        self.settle_winner(now, out);
        self.settle_runners(now, out);
        self.leaving.retain_mut(|runner| {
            let over = runner.is_closed() || runner.since + FAREWELL <= now;
            if over {
                runner.hang_up(out);
            }
            !over
        });
        if self.wanted && self.runners.is_empty() && self.next >= self.servers.len() {
            self.doubted = false;
            if self.winner.is_none() {
                self.start_over(now);
            }
        }
    }

    fn has_turn(&self) -> bool {
        self.wanted && self.is_open() && self.next < self.servers.len()
    }

    /// Whether somebody may win.
    fn is_open(&self) -> bool {
        self.winner.is_none() || self.doubted
    }

    fn start_over(&mut self, now: Instant) {
        self.next = 0;
        self.next_due = now + PAUSE * (1 << self.failures.min(MAX_DOUBLINGS));
        self.failures += 1;
    }

    fn take_turns(&mut self, now: Instant, here: Here, out: &mut Output) {
        while self.has_turn() {
            // The rest of a round need not wait for those that have failed.
            let alone = self.next > 0 && self.runners.is_empty();
            if self.next_due > now && !alone {
                return;
            }
            let server = self.servers[self.next];
            self.next += 1;
            let source = (here.route)(server.addr);
            let is_likely = source.is_some() && server.transport >= self.reached_over;
            self.next_due = if is_likely { now + HEAD_START } else { now };
            let (link, client) = match server.transport {
                RelayTransport::Udp => {
                    let client = Client::new(server, here.socket, &self.credentials, now);
                    (Link::Datagrams, Some(client))
                }
                RelayTransport::Tcp | RelayTransport::Tls => {
                    let id = StreamId(u32::from(self.index) << 16 | u32::from(self.streams));
                    self.streams = self.streams.wrapping_add(1);
                    out.events.push_back(RelayEvent::Connect(id, server));
                    (Link::Stream(id), None)
                }
            };
            self.runners.push(Runner { link, server, source, client, since: now });
        }
    }

    /// The first address decides.
    fn settle_runners(&mut self, now: Instant, out: &mut Output) {
        let mut index = 0;
        while index < self.runners.len() {
            let runner = &self.runners[index];
            if runner.is_closed() || runner.since + PATIENCE <= now {
                let loser = self.runners.remove(index);
                loser.hang_up(out);
                // The one in use is known there.
                self.doubted &= !loser.is_known_already();
            } else if !runner.relayed().is_empty() && self.is_open() {
                let winner = self.runners.remove(index);
                self.crown(winner, now, out);
            } else {
                index += 1;
            }
        }
        if !self.is_open() {
            self.dismiss(now, out);
        }
    }

    fn crown(&mut self, mut winner: Runner, now: Instant, out: &mut Output) {
        winner.since = now;
        if let Some(mut old) = self.winner.take() {
            old.tell_lost(out);
            // Between the same two addresses there is only one, and that is the new one.
            if old.link != winner.link || old.server != winner.server {
                old.leave(now, out);
                self.leaving.push(old);
            }
        }
        for address in winner.relayed() {
            out.events.push_back(RelayEvent::Opened(self.relayed(&winner, *address)));
        }
        if let Some(client) = winner.client.as_mut().filter(|_| self.shared) {
            client.expect_company(now);
            winner.flush(out);
        }
        (self.winner, self.doubted) = (Some(winner), false);
    }

    fn relayed(&self, winner: &Runner, address: SocketAddr) -> Relayed {
        let transport = winner.server.transport;
        let rank = rank(transport, self.shared, self.index);
        Relayed { address, relay: self.label.clone(), transport, rank }
    }

    fn settle_winner(&mut self, now: Instant, out: &mut Output) {
        if let Some(lost) = self.winner.take_if(|winner| winner.is_closed()) {
            self.lose(&lost, now, out);
            lost.hang_up(out);
        }
    }

    fn lose(&mut self, lost: &Runner, now: Instant, out: &mut Output) {
        lost.tell_lost(out);
        if lost.since + LASTED <= now {
            self.failures = 0;
        }
        self.start_over(now);
    }

    /// Those that still run give back what they have, or what they are about to get.
    fn dismiss(&mut self, now: Instant, out: &mut Output) {
        for mut runner in self.runners.drain(..) {
            if runner.client.is_some() {
                runner.leave(now, out);
                self.leaving.push(runner);
            } else {
                runner.hang_up(out);
            }
        }
    }

    fn all(&self) -> impl Iterator<Item = &Runner> {
        self.winner.iter().chain(&self.runners).chain(&self.leaving)
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Runner> {
        self.winner.iter_mut().chain(&mut self.runners).chain(&mut self.leaving)
    }
}

impl Link {
    fn wire(self, server: RelayServer, bytes: Vec<u8>) -> Wire {
        match self {
            Link::Datagrams => Wire::Datagram { server: server.addr, bytes },
            Link::Stream(id) => Wire::Stream { id, bytes },
        }
    }
}

impl Runner {
    fn advance(&mut self, now: Instant, out: &mut Output) {
        if let Some(client) = self.client.as_mut().filter(|client| client.poll_timeout() <= Some(now)) {
            client.advance(now);
        }
        self.flush(out);
    }

    fn flush(&mut self, out: &mut Output) {
        while let Some(message) = self.client.as_mut().and_then(Client::poll_message) {
            out.wire.push_back(self.link.wire(self.server, message));
        }
    }

    fn leave(&mut self, now: Instant, out: &mut Output) {
        self.since = now;
        if let Some(client) = &mut self.client {
            client.leave(now);
        }
        self.flush(out);
    }

    fn silent_since(&self) -> Instant {
        self.client.as_ref().map_or(self.since, Client::silent_since)
    }

    fn is_known_already(&self) -> bool {
        self.client.as_ref().is_some_and(Client::is_known_already)
    }

    fn relayed(&self) -> &[SocketAddr] {
        self.client.as_ref().map_or(&[], Client::relayed)
    }

    fn has_moved(&self, route: Route) -> bool {
        route(self.server.addr) != self.source
    }

    fn is_closed(&self) -> bool {
        self.client.as_ref().is_some_and(Client::is_closed)
    }

    fn tell_lost(&self, out: &mut Output) {
        out.events.extend(self.relayed().iter().copied().map(RelayEvent::Lost));
    }

    fn hang_up(&self, out: &mut Output) {
        match self.link {
            Link::Datagrams => {}
            Link::Stream(id) => out.events.push_back(RelayEvent::Disconnect(id)),
        }
    }
}

/// The place of a relay among a leg's, the best first: one over UDP, then one that both ends use, then the one told first.
pub(super) fn rank(transport: RelayTransport, shared: bool, index: u16) -> u16 {
    (transport as u16 * 2 + u16::from(!shared)) * super::MAX_RELAYS as u16 + index
}
