//! Links: entry points, remembered peers and kept directories, connected again whenever they are lost.
//!
//! ```text
//!            dial            connected                 Welcome (terminals)
//!   Idle ----------> Dialing ----------> Up ------------------------------> registered
//!    ^                 |                  |                                     |
//!    '--- back-off ----'<----- lost ------'<----------------- lost -------------'
//! ```

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use libp2p::core::transport::ListenerId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError};
use libp2p::{Multiaddr, PeerId};
use offhook_proto::identity::DirectoryId;
use offhook_proto::number::NodeAddr;
use tracing::{debug, info, warn};

use super::addr;
use super::candidates::Candidates;
use super::client::RequestError;
use super::codec::{Request, Response};
use super::config::Role;
use super::driver::Driver;
use super::event::NetEvent;
use super::known::Known;
use super::renew::Renewal;
use super::requests::Asker;

/// First and longest pause between attempts; each is drawn from the upper half of its length. While no entry point is
/// up the longest is shorter, so that a directory that comes back is found within seconds; an attempt costs 5 kB.
const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(60);
const BACKOFF_ALONE: Duration = Duration::from_secs(20);

/// The links to entry points are probed in turn, one in so long, as there are others if one is dead; but each within
/// [`WATCH_HOMES`] times that. A probe costs 250 bytes altogether: 300 kB in an hour. Other links are probed seldom.
/// Whose address has changed is to be reachable again within five seconds; see [`renew`](super::renew).
const WATCH_HOME: Duration = Duration::from_secs(3);
const WATCH_HOMES: u32 = 3;
const WATCH_KEPT: Duration = Duration::from_secs(60);

/// A directory that was full, did not answer, or takes no terminals is asked again after this.
const REGISTER_FULL: Duration = Duration::from_secs(60);
const REGISTER_BROKEN: Duration = Duration::from_secs(5);
const REGISTER_REFUSED: Duration = Duration::from_secs(600);

/// STUN servers taken from one directory's welcome.
const MAX_STUN: usize = 4;

/// Why a link exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Configured.
    Entry,
    /// One of the [`Candidates`] whose turn it was.
    Candidate,
    /// The engine wants it, for a contact's sake; not registered there.
    Kept,
    /// It was a home. Packets may still come through it until then.
    Leaving { until: Instant },
}

/// See the [module](self)'s diagram.
pub(super) enum State {
    Idle { until: Instant },
    Dialing { connection: ConnectionId },
    Up,
}

/// A node this one stays connected with.
pub(super) struct Link {
    pub(super) name: NodeAddr,
    pub(super) addr: Multiaddr,
    pub(super) peer: Option<PeerId>,
    pub(super) kind: Kind,
    /// Whether the engine wants it for a contact's sake, too.
    pub(super) contact: bool,
    /// The directory of whose nodes it is one, where it is a home for that alone.
    pub(super) directory: Option<DirectoryId>,
    /// Whether the user chose it; see [`Candidate::chosen`](super::candidates::Candidate::chosen).
    pub(super) chosen: bool,
    pub(super) state: State,
    pub(super) renewal: Renewal,
    pub(super) failures: u32,
    pub(super) registered: bool,
    /// Since when, without a break.
    pub(super) registered_since: Option<Instant>,
    /// It does nothing for terminals.
    declined: bool,
    pub(super) register_again: Option<Instant>,
    /// When to ask for a ticket for its relays.
    pub(super) ticket_again: Option<Instant>,
    /// Its address in use, ending in `/p2p`. What relayed addresses begin with.
    pub(super) base: Option<Multiaddr>,
    /// What it first said of its addresses on this connection, as far as it is believed. It may say something else every second;
    /// this is published once.
    pub(super) told: Vec<Multiaddr>,
    pub(super) stun: Vec<SocketAddr>,
    pub(super) reservation: Option<ListenerId>,
    /// Whether it has been granted.
    pub(super) reserved: bool,
    pub(super) reserve_again: Option<Instant>,
}

impl Link {
    pub(super) fn new(name: NodeAddr, addr: Multiaddr, kind: Kind, now: Instant) -> Self {
        Self {
            name,
            peer: addr::last_peer(&addr),
            addr,
            kind,
            contact: kind == Kind::Kept,
            directory: None,
            chosen: kind == Kind::Entry,
            state: State::Idle { until: now },
            renewal: Renewal::None,
            failures: 0,
            registered: false,
            registered_since: None,
            declined: false,
            register_again: None,
            ticket_again: None,
            base: None,
            told: Vec::new(),
            stun: Vec::new(),
            reservation: None,
            reserved: false,
            reserve_again: None,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        match self.state {
            State::Up => true,
            State::Idle { .. } | State::Dialing { .. } => false,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        match self.state {
            State::Idle { .. } => true,
            State::Dialing { .. } | State::Up => false,
        }
    }

    /// Whether it has taken this terminal, or may yet: it has not said that it is full, or that it takes none.
    pub(super) fn is_open(&self) -> bool {
        self.registered || (!self.declined && self.register_again.is_none())
    }

    /// Whether a terminal wants to be reached through it.
    pub(super) fn is_home(&self) -> bool {
        match self.kind {
            Kind::Entry | Kind::Candidate => true,
            Kind::Kept | Kind::Leaving { .. } => false,
        }
    }

    /// When it will be left, if it was a home.
    pub(super) fn leaving(&self) -> Option<Instant> {
        match self.kind {
            Kind::Leaving { until } => Some(until),
            Kind::Entry | Kind::Candidate | Kind::Kept => None,
        }
    }

    /// Waits before the next attempt, the longer the more have failed, at most about `longest`.
    pub(super) fn pause(&mut self, longest: Duration, now: Instant) {
        let longest = BACKOFF_MIN.saturating_mul(1 << self.failures.min(16)).min(longest);
        let pause = longest.mul_f64(rand::random_range(0.5..1.0));
        self.state = State::Idle { until: now + pause };
    }

    fn back_off(&mut self, longest: Duration, now: Instant) {
        self.pause(longest, now);
        self.failures = self.failures.saturating_add(1);
        self.renewal.broken_off();
        // A name may lead to another node the next time.
        self.peer = addr::last_peer(&self.addr);
        self.base = None;
        self.told.clear();
        self.no_home();
    }

    /// This terminal is not to be reached through it; answers its reservation.
    pub(super) fn no_home(&mut self) -> Option<ListenerId> {
        (self.registered, self.registered_since) = (false, None);
        self.declined = false;
        self.register_again = None;
        self.ticket_again = None;
        self.reserved = false;
        self.reserve_again = None;
        self.reservation.take()
    }
}

/// All links.
pub(super) struct Links {
    pub(super) all: Vec<Link>,
    pub(super) candidates: Candidates,
    /// Where else they are.
    pub(super) known: Known,
    /// Whether any node was ever known that could be a home. Then this is no network of its own, and not to be
    /// reached is no reason to publish one's own address.
    pub(super) found: bool,
    pub(super) alone_since: Instant,
    /// Since when there have been fewer homes than are wanted.
    pub(super) short_since: Option<Instant>,
    /// When the homes were last asked whom else they know.
    pub(super) asked: Option<Instant>,
}

impl Links {
    /// Links to the entry points; the candidates wait for their turn.
    pub(super) fn new(
        entry: Vec<(NodeAddr, Multiaddr)>,
        candidates: Candidates,
        known: Known,
        now: Instant,
    ) -> Self {
        let all: Vec<_> =
            entry.into_iter().map(|(name, addr)| Link::new(name, addr, Kind::Entry, now)).collect();
        let found = !all.is_empty() || !candidates.is_empty();
        Self { all, candidates, known, found, alone_since: now, short_since: None, asked: None }
    }

    /// A node that serves others was reached.
    pub(super) fn met(&mut self, addr: Multiaddr) {
        self.found = true;
        let peer = addr::last_peer(&addr);
        if !self.all.iter().any(|link| link.is_home() && link.peer == peer) {
            self.candidates.met(addr);
        }
    }

    /// Whether the user chose the peer as entry point.
    pub(super) fn is_chosen(&self, peer: &PeerId) -> bool {
        self.all.iter().any(|link| link.chosen && link.peer.as_ref() == Some(peer))
    }

    /// Whether a connection to the peer is to be kept.
    pub(super) fn wants(&self, peer: &PeerId) -> bool {
        self.all.iter().any(|link| link.peer.as_ref() == Some(peer))
    }

    /// Whether the peer is an entry point that is up.
    pub(super) fn is_up(&self, peer: &PeerId) -> bool {
        self.all.iter().any(|link| link.is_home() && link.is_up() && link.peer.as_ref() == Some(peer))
    }

    /// How often a connection to the peer is probed for the links' sake.
    pub(super) fn watch(&self, peer: &PeerId) -> Option<Duration> {
        let homes = self.all.iter().filter(|link| link.is_home() && link.is_up()).count();
        let homes = u32::try_from(homes).unwrap_or(WATCH_HOMES).clamp(1, WATCH_HOMES);
        let mine = self.all.iter().filter(|link| link.peer.as_ref() == Some(peer));
        mine.map(|link| if link.is_home() { WATCH_HOME * homes } else { WATCH_KEPT }).min()
    }

    /// Whether no entry point is up.
    fn alone(&self) -> bool {
        !self.all.iter().any(|link| link.is_home() && link.is_up())
    }

    pub(super) fn longest_pause(&self) -> Duration {
        if self.alone() { BACKOFF_ALONE } else { BACKOFF_MAX }
    }

    /// The entry points that are up.
    pub(super) fn home(&self) -> impl Iterator<Item = PeerId> {
        self.all.iter().filter(|link| link.is_home() && link.is_up()).filter_map(|link| link.peer)
    }

    /// Whether the peer is an entry point that is up and may do DHT work for this terminal.
    pub(super) fn delegates(&self, peer: &PeerId) -> bool {
        self.all
            .iter()
            .any(|link| link.is_home() && link.is_up() && !link.declined && link.peer.as_ref() == Some(peer))
    }

    /// Whether there is any entry point.
    pub(super) fn has_home(&self) -> bool {
        self.all.iter().any(Link::is_home)
    }

    /// Whether the peer passes packets on to this terminal.
    pub(super) fn is_registered(&self, peer: &PeerId) -> bool {
        self.all.iter().any(|link| link.registered && link.peer.as_ref() == Some(peer))
    }

    /// The addresses of all links to one node, that of `first` before the others: UDP may be blocked, and IPv6 be none.
    pub(super) fn configured(&self, peer: PeerId, first: usize) -> Vec<Multiaddr> {
        let others = self.all.iter().enumerate().filter(|(at, link)| *at != first && link.peer == Some(peer));
        let links = self.all.get(first).into_iter().chain(others.map(|(_, link)| link));
        links.map(|link| link.addr.clone()).collect()
    }
}

impl Driver {
    /// Dials what is due, registers and reserves again, and sees that there are as many homes as are wanted.
    pub(super) fn tick_links(&mut self, now: Instant) {
        self.tick_homes(now);
        // A contact's record or a link may name this very node.
        let me = *self.swarm.local_peer_id();
        self.links.all.retain(|link| link.peer != Some(me));
        for index in 0..self.links.all.len() {
            let link = &mut self.links.all[index];
            let due = |at: &mut Option<Instant>| at.take_if(|at| *at <= now).is_some();
            let (register, reserve) = (due(&mut link.register_again), due(&mut link.reserve_again));
            if due(&mut link.ticket_again) {
                self.ask_ticket(index);
            }
            match self.links.all[index].state {
                State::Idle { until } if until <= now => self.dial_link(index, now),
                State::Up if register => self.register(index),
                State::Up if reserve => self.reserve(index),
                State::Idle { .. } | State::Dialing { .. } | State::Up => {}
            }
        }
    }

    fn dial_link(&mut self, index: usize, now: Instant) {
        let link = &mut self.links.all[index];
        let options = match link.peer {
            Some(peer) if self.peers.contains(&peer) => {
                let remote = self.peers.get(&peer).and_then(|state| state.direct()).cloned();
                return self.link_up(index, peer, remote);
            }
            Some(peer) => {
                let addrs = self.links.configured(peer, index);
                self.add_to_table(peer, &addrs);
                DialOpts::peer_id(peer)
                    .condition(PeerCondition::DisconnectedAndNotDialing)
                    .addresses(self.links.known.to_dial(peer, &addrs))
                    .build()
            }
            None => DialOpts::unknown_peer_id().address(link.addr.clone()).build(),
        };
        let connection = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => self.links.all[index].state = State::Dialing { connection },
            // Somebody else is dialling it.
            Err(DialError::DialPeerConditionFalse(_)) => {
                self.links.all[index].state = State::Idle { until: now + BACKOFF_MIN };
            }
            Err(error) => {
                debug!(error = addr::dial_error(&error), "cannot dial the entry point");
                let longest = self.links.longest_pause();
                self.links.all[index].back_off(longest, now);
            }
        }
    }

    pub(super) fn on_link_connected(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        remote: Multiaddr,
        first: bool,
    ) {
        if self.on_link_renewed(peer, connection) {
            return;
        }
        let index = self.links.all.iter().position(|link| match &link.state {
            State::Dialing { connection: mine } if *mine == connection => true,
            State::Idle { .. } | State::Dialing { .. } => link.peer == Some(peer) && first,
            State::Up => false,
        });
        if let Some(index) = index
            && !addr::is_relayed(&remote)
        {
            self.link_up(index, peer, Some(remote));
        }
    }

    fn link_up(&mut self, index: usize, peer: PeerId, remote: Option<Multiaddr>) {
        let twice =
            self.links.all.iter().enumerate().any(|(other, link)| {
                other != index && link.is_up() && link.is_home() && link.peer == Some(peer)
            });
        let link = &mut self.links.all[index];
        if twice {
            // Two names of one node: the second one is of no use while the first works.
            link.state = State::Idle { until: Instant::now() + BACKOFF_MAX };
            return;
        }
        link.state = State::Up;
        link.failures = 0;
        link.peer = Some(peer);
        // What was configured is what others can use too; a dnsaddr only says where to look. What is behind it is
        // told by identify.
        let named = |addr: &&Multiaddr| !addr::is_dnsaddr(addr);
        let base = Some(&link.addr).filter(named).or(remote.as_ref().filter(named)).cloned();
        link.base = base.and_then(|base| base.with_p2p(peer).ok());
        if let Some(base) = link.base.clone() {
            self.add_to_table(peer, &[base]);
        }
        self.note_told(index, peer);
        self.refresh_links();
        self.dirty = true;
        if self.links.all[index].is_home() {
            self.register(index);
        }
    }

    pub(super) fn on_link_dial_error(&mut self, connection: ConnectionId, error: &DialError, now: Instant) {
        if self.on_link_not_renewed(connection) {
            return;
        }
        let index = self.links.all.iter().position(|link| match &link.state {
            State::Dialing { connection: mine } => *mine == connection,
            State::Idle { .. } | State::Up => false,
        });
        let Some(index) = index else { return };
        let longest = self.links.longest_pause();
        let link = &mut self.links.all[index];
        link.back_off(longest, now);
        if self.private.turned_down() && link.kind == Kind::Entry {
            warn!("an entry point's name stands for a private address: allow private addresses to use it");
        }
        if matches!(error, DialError::LocalPeerId { .. }) {
            self.links.all.remove(index);
        }
    }

    pub(super) fn on_link_disconnected(&mut self, peer: PeerId, now: Instant) {
        self.links.all.retain(|link| link.peer != Some(peer) || link.leaving().is_none());
        for index in 0..self.links.all.len() {
            let link = &mut self.links.all[index];
            if link.peer != Some(peer) {
                continue;
            }
            if let State::Idle { until } = &mut link.state {
                // Another way to the same node, which was of no use as long as this one worked.
                *until = now.min(*until) + BACKOFF_MIN;
            }
            if !link.is_up() {
                continue;
            }
            let (home, name) = (link.is_home(), link.name.clone());
            link.back_off(BACKOFF_MAX, now);
            self.dirty = true;
            if home {
                info!("entry point lost");
                self.links.alone_since = now;
                self.tell(NetEvent::EntryDown { addr: name });
            }
        }
        self.refresh_hold(peer);
        self.refresh_links();
    }

    /// A link has come up or gone: how often each is probed depends on how many there are.
    pub(super) fn refresh_links(&mut self) {
        let peers: Vec<PeerId> = self.links.all.iter().filter_map(|link| link.peer).collect();
        peers.into_iter().for_each(|peer| self.refresh_hold(peer));
    }

    /// Registers with the link's node, or just greets it where there is nothing to register.
    pub(super) fn register(&mut self, index: usize) {
        let link = &self.links.all[index];
        let Some(peer) = link.peer else { return };
        let cert = self.cert.as_ref().filter(|_| self.registers());
        let request = cert.map_or(Request::Hello, |cert| Request::Register { cert: cert.clone() });
        self.request(peer, Vec::new(), request, Asker::Link);
    }

    /// Whether this node is one that registers.
    pub(super) fn registers(&self) -> bool {
        self.config.role == Role::Terminal && self.cert.is_some()
    }

    /// The certificate has changed.
    pub(super) fn register_everywhere(&mut self) {
        for index in 0..self.links.all.len() {
            if self.links.all[index].is_home() && self.links.all[index].is_up() {
                self.register(index);
            }
        }
    }

    /// The answer to [`Driver::register`].
    pub(super) fn on_registered(&mut self, peer: PeerId, result: Result<Response, RequestError>) {
        let terminal = self.registers();
        let remote = self.peers.get(&peer).and_then(|state| state.direct()).and_then(addr::ip_of);
        let asked = |link: &Link| link.peer == Some(peer) && link.is_up() && link.is_home();
        let Some(index) = self.links.all.iter().position(asked) else { return };
        let link = &mut self.links.all[index];
        self.dirty = true;
        match result {
            Ok(Response::Welcome { stun, stun_port, others, observed }) => {
                link.stun = stun_servers(&stun, stun_port, remote, self.private.allowed());
                link.declined = false;
                let news = link.registered != terminal || !terminal;
                link.registered = terminal;
                link.registered_since = terminal.then(|| link.registered_since.unwrap_or_else(Instant::now));
                let (addr, node) = (link.name.clone(), addr::terminal_of(&peer));
                if let Some(node) = node.filter(|_| news) {
                    self.tell(NetEvent::EntryUp { addr, node });
                }
                self.ask_ticket(index);
                self.on_others(&others);
                self.on_home(observed.as_deref(), news, Instant::now());
            }
            Ok(Response::Busy) | Err(RequestError::Busy) => {
                link.register_again = Some(Instant::now() + REGISTER_FULL);
            }
            Err(
                RequestError::Timeout
                | RequestError::Broken
                | RequestError::Unreachable
                | RequestError::Stopped,
            ) => link.register_again = Some(Instant::now() + REGISTER_BROKEN),
            // A node of the DHT that takes no terminals, or one of another kind altogether.
            Ok(
                Response::Refused { .. }
                | Response::Delivered
                | Response::NotConnected
                | Response::Found { .. }
                | Response::Stored
                | Response::Sought(_)
                | Response::Published { .. }
                | Response::Ticket(_)
                | Response::Knocking,
            )
            | Err(RequestError::Unsupported) => {
                debug!("the entry point does not register terminals");
                link.declined = true;
                link.register_again = Some(Instant::now() + REGISTER_REFUSED);
                self.held_tickets.forget(&peer);
            }
        }
    }

    /// The host's addresses have changed, or it has slept: what worked before may have failed, and what failed before
    /// may work now.
    pub(super) fn hurry_links(&mut self, now: Instant) {
        for index in 0..self.links.all.len() {
            let link = &mut self.links.all[index];
            match &mut link.state {
                State::Idle { until } => *until = now.min(*until),
                State::Up => {
                    if let Some(peer) = link.peer {
                        self.probe(peer);
                    }
                }
                State::Dialing { .. } => {}
            }
        }
        self.links.candidates.forgive();
    }
}

/// STUN servers named in a welcome; a bare port means the address the directory was reached under. Only there may one
/// be private: a directory must not make terminals send datagrams into their own networks.
fn stun_servers(
    named: &[String],
    port: Option<u16>,
    remote: Option<IpAddr>,
    allow_private: bool,
) -> Vec<SocketAddr> {
    let named = named.iter().filter_map(|text| text.parse::<SocketAddr>().ok());
    let named = named.filter(|server| allow_private || addr::is_global(server.ip()));
    let implied = port.zip(remote).map(|(port, ip)| SocketAddr::new(ip, port));
    let mut servers: Vec<_> = implied.into_iter().chain(named).filter(|addr| addr.port() != 0).collect();
    let mut seen = Vec::new();
    servers.retain(|server| {
        !seen.contains(server) && {
            seen.push(*server);
            true
        }
    });
    servers.truncate(MAX_STUN);
    servers
}

#[cfg(test)]
mod tests;
