//! What this node does for others on their request: register, pass on, find, store.
//!
//! Everybody answers `Hello`, `Deliver` and `Find`; the rest only serving nodes. Nobody gets more than their share
//! ([`Limits`](super::Limits)), and every answer comes at once, except where it has to be waited for: a packet's
//! acknowledgement, a proof, the disk.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::PeerId;
use libp2p::request_response::ResponseChannel;
use offhook_proto::identity::{IdentityId, SignedCert, TerminalId};
use offhook_proto::number::RecordKey;
use offhook_proto::signalling::MAX_BLOB_BYTES;
use tracing::debug;

use super::addr::{self, Source};
use super::client::RequestError;
use super::codec::{MAX_ADDR, Refusal, Request, Response};
use super::config::Limits;
use super::driver::{Driver, Inner};
use super::event::NetEvent;
use super::limit::{Fair, Limiter};
use super::places::{Place, Places};
use super::requests::Asker;
use super::store::{Offer, Refused};
use super::ways::Ways;
use crate::clock::wall_clock;

/// Connections to other directories per second that one /24 or /64 may cause (bursts: ten seconds' worth), and peers
/// dialled at a time when nobody may cause more: this node has business of its own, and the swarm's bound is 256.
const DIALS_PER_SOURCE: u32 = 2;
const MAX_DIALLED: usize = 64;

/// Terminals that answers are expected from, and how long after this one has written to them last. A call that rings has
/// something to say more often.
const MAX_EXPECTED: usize = 256;
const EXPECTED_FOR: Duration = Duration::from_secs(60);

/// STUN servers told to others.
const MAX_STUN: usize = 4;

/// The service's memory.
pub(super) struct Service {
    registered: Places<PeerId>,
    /// Whose the registered terminals are.
    identities: HashMap<PeerId, IdentityId>,
    first_hand: Fair<Source, PeerId>,
    second_hand: Fair<Source, PeerId>,
    deliveries: Fair<Bringer, TerminalId>,
    /// Terminals that this one has written to, and when last.
    expected: HashMap<TerminalId, Instant>,
    /// What they write, beside all others.
    answers: Limiter<(Bringer, TerminalId)>,
    queries: Limiter<Source>,
    dials: Limiter<Source>,
    in_flight: HashMap<PeerId, usize>,
    in_flight_total: usize,
    max_in_flight: usize,
    max_in_flight_per_peer: usize,
    ways: Ways,
}

impl Service {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            registered: Places::new(limits.registered, limits.registered_per_source),
            identities: HashMap::new(),
            first_hand: Fair::new(limits.forward_per_peer, limits.forward_per_source),
            second_hand: Fair::new(limits.forward_second_hand, limits.forward_per_source),
            deliveries: Fair::new(limits.forward_per_peer, limits.deliver_per_bringer),
            expected: HashMap::new(),
            answers: Limiter::new(limits.forward_per_peer),
            queries: Limiter::new(limits.queries_per_source),
            dials: Limiter::new(DIALS_PER_SOURCE),
            in_flight: HashMap::new(),
            in_flight_total: 0,
            max_in_flight: limits.in_flight,
            max_in_flight_per_peer: limits.in_flight_per_peer,
            ways: Ways::default(),
        }
    }

    pub(super) fn is_registered(&self, peer: &PeerId) -> bool {
        self.registered.contains(peer)
    }

    /// Whose a terminal is, if it is registered here.
    pub(super) fn identity_of(&self, peer: &PeerId) -> Option<IdentityId> {
        self.identities.get(peer).filter(|_| self.is_registered(peer)).copied()
    }

    pub(super) fn registered(&self) -> usize {
        self.registered.len()
    }

    /// Nobody is registered any more.
    pub(super) fn dismiss_all(&mut self) {
        for (peer, _) in self.identities.drain() {
            self.registered.leave(&peer);
        }
    }

    pub(super) fn disconnected(&mut self, peer: &PeerId) {
        self.registered.leave(peer);
        self.identities.remove(peer);
    }

    /// Whether the source may ask or store one more thing.
    pub(super) fn permit_query(&mut self, source: Source) -> bool {
        self.queries.permit(source, Instant::now())
    }

    /// This terminal writes to that one: what it answers has a share of its own.
    pub(super) fn expect(&mut self, terminal: TerminalId, now: Instant) {
        if self.expected.len() >= MAX_EXPECTED && !self.expected.contains_key(&terminal) {
            let last = self.expected.iter().min_by_key(|(_, at)| **at).map(|(terminal, _)| *terminal);
            last.map(|last| self.expected.remove(&last));
        }
        self.expected.insert(terminal, now);
    }

    /// Whether a packet for this terminal may come in.
    fn permit_delivery(&mut self, bringer: Bringer, from: TerminalId, now: Instant) -> bool {
        let written = self.expected.get(&from);
        let expected = written.is_some_and(|at| now.saturating_duration_since(*at) < EXPECTED_FOR);
        (expected && self.answers.permit((bringer, from), now)) || self.deliveries.permit(bringer, from, now)
    }

    /// Counts a packet on its way; `false` when too many are.
    fn depart(&mut self, peer: PeerId) -> bool {
        let mine = self.in_flight.get(&peer).copied().unwrap_or(0);
        if mine >= self.max_in_flight_per_peer || self.in_flight_total >= self.max_in_flight {
            return false;
        }
        self.in_flight.insert(peer, mine + 1);
        self.in_flight_total += 1;
        true
    }

    fn arrive(&mut self, peer: PeerId) {
        if let Some(mine) = self.in_flight.get_mut(&peer) {
            *mine -= 1;
            self.in_flight_total -= 1;
            if *mine == 0 {
                self.in_flight.remove(&peer);
            }
        }
    }
}

impl Driver {
    /// Answers a request, now or later.
    pub(super) fn serve(&mut self, peer: PeerId, request: Request, channel: ResponseChannel<Response>) {
        match request {
            Request::Hello => {
                let welcome = self.welcome(&peer, Vec::new());
                self.respond(channel, welcome);
            }
            Request::Register { cert } => {
                let response = self.on_register(peer, &cert);
                self.count("register", &response);
                self.respond(channel, response);
            }
            Request::Forward { to, blob, next, origin } => {
                self.on_forward(peer, Parcel { to, blob, next, origin }, channel);
            }
            Request::Deliver { blob, origin } => {
                let response = self.on_deliver(peer, blob, origin);
                self.count("deliver", &response);
                self.respond(channel, response);
            }
            Request::Find { key } => {
                let response = self.on_find(&peer, RecordKey(key));
                self.count("find", &response);
                self.respond(channel, response);
            }
            Request::Store { key, set } => self.on_store(peer, RecordKey(key), set, channel),
            Request::Seek { key, want } => self.on_seek(peer, RecordKey(key), want, channel),
            Request::Publish { key, set } => self.on_publish(peer, RecordKey(key), set, channel),
            Request::Relay { claim } => self.on_relay(peer, claim, channel),
            Request::KnockWanted { port, token, except } => {
                self.on_knock_wanted(peer, port, token, &except, channel);
            }
            Request::KnockAt { at, token } => {
                let response = self.on_knock_at(peer, at, token);
                self.count("knock_at", &response);
                self.respond(channel, response);
            }
            Request::Knock { at, token } => self.on_knock(peer, at, token, channel),
        }
    }

    pub(super) fn respond(&mut self, channel: ResponseChannel<Response>, response: Response) {
        if self.swarm.behaviour_mut().signal.send_response(channel, response).is_err() {
            debug!("the asker has gone");
        }
    }

    pub(super) fn count(&self, request: &'static str, response: &Response) {
        self.metrics.count(request, outcome(response));
    }

    fn welcome(&self, peer: &PeerId, others: Vec<String>) -> Response {
        let port = self.stun_port;
        let ips = self.external.iter().filter_map(addr::ip_of);
        let mut stun: Vec<_> = ips.filter_map(|ip| port.map(|port| (ip, port))).collect();
        stun.sort_unstable();
        stun.dedup();
        let text = |(ip, port)| std::net::SocketAddr::new(ip, port).to_string();
        let observed = self.peers.get(peer).and_then(|state| state.direct()).map(ToString::to_string);
        Response::Welcome {
            stun: stun.into_iter().take(MAX_STUN).map(text).collect(),
            stun_port: port,
            observed: observed.filter(|text| text.len() <= MAX_ADDR),
            others,
        }
    }

    fn on_register(&mut self, peer: PeerId, cert: &SignedCert) -> Response {
        if !self.serves() {
            return Response::Refused { reason: Refusal::NotServing };
        }
        let cert = cert.verify(wall_clock()).ok();
        let Some(cert) = cert.filter(|cert| addr::peer_of(&cert.terminal) == Some(peer)) else {
            return Response::Refused { reason: Refusal::Invalid };
        };
        match self.service.registered.take_for_good(peer, self.peers.source(&peer)) {
            Place::Given => {}
            Place::Instead(loser) => {
                // So it knows, and looks for another directory.
                let _ = self.swarm.disconnect_peer_id(loser);
                self.service.identities.remove(&loser);
                self.refresh_hold(loser);
            }
            Place::None => return Response::Busy,
        }
        self.service.identities.insert(peer, cert.identity);
        self.refresh_hold(peer);
        self.dirty = true;
        self.welcome(&peer, self.others(&peer))
    }

    fn on_forward(&mut self, peer: PeerId, parcel: Parcel, channel: ResponseChannel<Response>) {
        let response = match self.plan(peer, &parcel) {
            Ok(plan) => {
                let now = Instant::now();
                if let Some(origin) = parcel.origin.as_ref().and_then(addr::peer_of) {
                    self.service.ways.learn(origin, peer, now);
                    self.is_elsewhere(origin, now);
                }
                // Answers will come back through the asker's own connection.
                self.linger(peer, now);
                self.metrics.forwarded_bytes.inc_by(parcel.blob.len() as u64);
                return self.pass_on(peer, parcel, plan, channel);
            }
            Err(response) => response,
        };
        self.count("forward", &response);
        self.respond(channel, response);
    }

    /// Where a packet goes, or why it goes nowhere. Counts it as departed.
    /// A packet of a peer came through another directory. If the peer is connected here too, it may be that nobody is at the
    /// other end any more. Those who are registered have the last word where they are.
    fn is_elsewhere(&mut self, peer: PeerId, now: Instant) {
        let known = self.peers.get_mut(&peer).filter(|_| !self.service.is_registered(&peer));
        if known.is_some_and(|known| known.is_elsewhere(now)) {
            self.probe(peer);
        }
    }

    fn plan(&mut self, peer: PeerId, parcel: &Parcel) -> Result<Plan, Response> {
        if !self.serves() {
            return Err(Response::Refused { reason: Refusal::NotServing });
        }
        let target = addr::peer_of(&parcel.to).filter(|_| parcel.blob.len() <= MAX_BLOB_BYTES);
        let target = target.ok_or(Response::Refused { reason: Refusal::Invalid })?;
        let (now, source) = (Instant::now(), self.peers.source(&peer));
        // A packet is passed from one directory to another once only, so it cannot go round.
        let first = parcel.origin.is_none();
        // Whoever's packets it says they are: they count against the peer that hands them over.
        let service = &mut self.service;
        let share = if first { &mut service.first_hand } else { &mut service.second_hand };
        if !share.permit(source, peer, now) {
            return Err(Response::Busy);
        }
        let way = service.ways.to(&target, now).filter(|_| first);
        let next = parcel.next.as_deref().filter(|_| first);
        let doubted = self.peers.get(&target).is_some_and(|target| target.is_doubted(now));
        let connected = target != peer && self.peers.contains(&target);
        let plan = if connected && !(doubted && next.is_some()) {
            Plan::Deliver(target)
        } else if let Some(next) = next.and_then(|next| self.next_hop(next)) {
            if !self.may_dial_for(source, &next.0, now) {
                return Err(Response::Busy);
            }
            Plan::Next(next)
        } else if let Some(directory) = way.filter(|way| *way != peer && self.peers.contains(way)) {
            Plan::Next((directory, Vec::new()))
        } else if connected {
            Plan::Deliver(target)
        } else {
            return Err(Response::NotConnected);
        };
        if self.service.depart(peer) { Ok(plan) } else { Err(Response::Busy) }
    }

    /// The directory named as next hop. Private addresses aren't dialled for strangers.
    fn next_hop(&self, next: &str) -> Option<Hop> {
        let next: libp2p::Multiaddr = next.parse().ok().filter(|_| next.len() <= MAX_ADDR)?;
        let next = addr::relay_of(&next).map_or(next, |(_, relay)| relay);
        let peer = addr::last_peer(&next).filter(|peer| peer != self.swarm.local_peer_id())?;
        // A `dnsaddr` can stand for sixteen addresses.
        let permitted = self.private.permits(&next) && !addr::is_dnsaddr(&next);
        (permitted || self.peers.contains(&peer)).then(|| (peer, vec![next]))
    }

    /// Whether somebody may make this node connect to a peer.
    fn may_dial_for(&mut self, source: Source, peer: &PeerId, now: Instant) -> bool {
        self.peers.contains(peer)
            || self.requests_dialling() < MAX_DIALLED && self.service.dials.permit(source, now)
    }

    fn pass_on(&mut self, peer: PeerId, parcel: Parcel, plan: Plan, channel: ResponseChannel<Response>) {
        let Parcel { to, blob, .. } = parcel;
        // What is known, not what was said: so a terminal can count it, too.
        let origin = addr::terminal_of(&peer);
        let asker = Asker::Forward { channel, from: peer };
        match plan {
            Plan::Deliver(target) => {
                self.request(target, Vec::new(), Request::Deliver { blob, origin }, asker);
            }
            Plan::Next((directory, addrs)) => {
                self.linger(directory, Instant::now());
                self.request(directory, addrs, Request::Forward { to, blob, next: None, origin }, asker);
            }
        }
    }

    /// The next node has answered, or not.
    pub(super) fn forwarded(
        &mut self,
        from: PeerId,
        channel: ResponseChannel<Response>,
        result: Result<Response, RequestError>,
    ) {
        self.service.arrive(from);
        let response = match result {
            Ok(response @ (Response::Delivered | Response::Busy | Response::NotConnected)) => response,
            Ok(
                Response::Welcome { .. }
                | Response::Found { .. }
                | Response::Stored
                | Response::Sought(_)
                | Response::Published { .. }
                | Response::Ticket(_)
                | Response::Knocking
                | Response::Refused { .. },
            )
            | Err(
                RequestError::Unreachable
                | RequestError::Timeout
                | RequestError::Broken
                | RequestError::Unsupported,
            ) => Response::NotConnected,
            Err(RequestError::Busy | RequestError::Stopped) => Response::Busy,
        };
        self.count("forward", &response);
        self.respond(channel, response);
    }

    fn on_deliver(&mut self, peer: PeerId, blob: Vec<u8>, origin: Option<TerminalId>) -> Response {
        let Some(via) = addr::terminal_of(&peer).filter(|_| blob.len() <= MAX_BLOB_BYTES) else {
            return Response::Refused { reason: Refusal::Invalid };
        };
        let from = origin.unwrap_or(via);
        // The nodes that this terminal chose to be reached through are believed about whom they have packets from;
        // anybody else is counted as one sender, whatever names it gives.
        let (now, trusted) = (Instant::now(), self.links.is_registered(&peer));
        let (bringer, counted) = if trusted {
            (Bringer::Directory(peer), from)
        } else {
            (Bringer::Source(self.peers.source(&peer)), via)
        };
        let permitted = self.service.permit_delivery(bringer, counted, now);
        if !permitted || !self.tell(NetEvent::Signal { from, via, blob }) {
            return Response::Busy;
        }
        // The answer will go back the same way.
        self.linger(peer, now);
        Response::Delivered
    }

    fn on_find(&mut self, peer: &PeerId, key: RecordKey) -> Response {
        let source = self.peers.source(peer);
        if !self.service.permit_query(source) {
            return Response::Busy;
        }
        match self.records().value(&key, wall_clock()) {
            Some((set, since)) => Response::Found { set: Some(set), since: Some(since) },
            None => Response::Found { set: None, since: None },
        }
    }

    fn on_store(&mut self, peer: PeerId, key: RecordKey, set: Vec<u8>, channel: ResponseChannel<Response>) {
        let source = self.peers.source(&peer);
        let refusal = match (self.serves(), self.service.permit_query(source)) {
            (false, _) => Some(Response::Refused { reason: Refusal::NotServing }),
            (true, false) => Some(Response::Busy),
            (true, true) => None,
        };
        if let Some(response) = refusal {
            self.count("store", &response);
            return self.respond(channel, response);
        }
        let (inner, metrics) = (self.inner.clone(), self.metrics.clone());
        let reply = Box::new(move |result: Result<(), Refused>| {
            let response = stored(result);
            metrics.count("store", outcome(&response));
            // The driver may have stopped meanwhile.
            let _ = inner.send(Inner::Respond(channel, response));
        });
        self.dirty = true;
        self.records().offer(Offer { key, bytes: set, source, own: false, reply }, wall_clock());
    }
}

/// Who brings packets to this terminal.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Bringer {
    /// A directory that it is registered with.
    Directory(PeerId),
    /// Anybody else.
    Source(Source),
}

/// A packet to pass on.
struct Parcel {
    to: TerminalId,
    blob: Vec<u8>,
    next: Option<String>,
    origin: Option<TerminalId>,
}

/// A directory and how to reach it.
type Hop = (PeerId, Vec<libp2p::Multiaddr>);

/// How to pass a packet on.
enum Plan {
    Deliver(PeerId),
    Next(Hop),
}

/// The name of a response in the metrics.
pub(super) fn outcome(response: &Response) -> &'static str {
    match response {
        Response::Welcome { .. }
        | Response::Delivered
        | Response::Stored
        | Response::Published { .. }
        | Response::Ticket(_)
        | Response::Knocking => "ok",
        Response::Found { set: Some(_), .. } => "ok",
        Response::Found { set: None, .. } | Response::NotConnected => "not_found",
        Response::Sought(sought) if sought.sets.is_empty() => "not_found",
        Response::Sought(_) => "ok",
        Response::Refused { .. } => "refused",
        Response::Busy => "busy",
    }
}

/// The answer to whoever wanted records held.
pub(super) fn stored(result: Result<(), Refused>) -> Response {
    use offhook_proto::record::RecordError;
    let reason = match result {
        Ok(()) => return Response::Stored,
        Err(Refused::Full | Refused::Disk) => return Response::Busy,
        Err(Refused::Record(RecordError::Incumbent)) => Refusal::Incumbent,
        Err(Refused::Record(RecordError::Stale)) => Refusal::Stale,
        Err(Refused::Record(error)) => {
            debug!(%error, "store refused");
            Refusal::Invalid
        }
        Err(Refused::Descriptor(error)) => {
            debug!(%error, "store refused");
            Refusal::Invalid
        }
        Err(Refused::Proof) => Refusal::Invalid,
    };
    Response::Refused { reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Role;

    fn service() -> Service {
        Service::new(&Limits::for_role(Role::Terminal))
    }

    #[test]
    fn answers_come_in_beside_any_crowd_for_a_while() {
        let (mut service, start) = (service(), Instant::now());
        let bringer = Bringer::Directory(PeerId::random());
        let (answering, stranger) = (TerminalId::from_bytes([251; 32]), TerminalId::from_bytes([252; 32]));
        service.expect(answering, start);
        let mut now = start;
        for step in 0..1_500_u64 {
            now = start + Duration::from_millis(step * 20);
            for n in 0..250 {
                service.permit_delivery(bringer, TerminalId::from_bytes([n; 32]), now);
            }
            // Twenty-five a second.
            if step % 2 == 0 {
                assert!(service.permit_delivery(bringer, answering, now), "after {step} steps");
            }
        }
        let mut burst = |from| (0..200).filter(|_| service.permit_delivery(bringer, from, now)).count();
        assert!(burst(answering) > burst(stranger) * 4, "who is not expected has a stranger's share");
        let over = now + EXPECTED_FOR;
        assert!((0..500).filter(|_| service.permit_delivery(bringer, answering, over)).count() < 400);
    }

    #[test]
    fn those_from_whom_answers_are_expected_are_bounded() {
        let (mut service, start) = (service(), Instant::now());
        for n in 0..1_000_u32 {
            let mut id = [7; 32];
            id[..4].copy_from_slice(&n.to_be_bytes());
            service.expect(TerminalId::from_bytes(id), start + Duration::from_millis(n.into()));
        }
        assert_eq!(service.expected.len(), MAX_EXPECTED);
        assert!(service.expected.values().all(|at| *at >= start + Duration::from_millis(744)));
    }

    #[test]
    fn refused_packets_leave_nothing_behind() {
        let mut limits = Limits::for_role(Role::Directory);
        limits.in_flight = 1;
        let mut service = Service::new(&limits);
        let first = PeerId::random();
        assert!(service.depart(first));
        assert!(!(0..100).any(|_| service.depart(PeerId::random())));
        service.arrive(first);
        assert!(service.in_flight.is_empty() && service.in_flight_total == 0);
    }
}
