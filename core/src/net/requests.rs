//! Requests to other nodes: connecting first where needed, who waits for the answer, and for how long.
//!
//! A packet may travel asker, directory, second directory, terminal. Each hop has less time than the one before it, so
//! that an asker hears of a terminal that doesn't answer, instead of running out of time itself. Running out of time
//! says nothing about the connection (the delay may be a third party's); it is a reason to [probe](super::probe) it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::request_response::{self, OutboundFailure, OutboundRequestId, ResponseChannel};
use libp2p::swarm::ConnectionId;
use libp2p::swarm::DialError;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId};
use offhook_proto::knock::Token;
use tokio::sync::oneshot;
use tracing::debug;

use super::addr;
use super::client::RequestError;
use super::codec::{Request, Response};
use super::driver::Driver;
use crate::fair::FairQueue;

/// Requests to one peer without an answer at a time: as many streams as it will grant ([`Standing`], which is usually
/// mutual), less one for a probe and one for the DHT. More wait.
const SPARE: usize = 2;

/// Requests that wait at a time, for a connection or for others to be answered, altogether and for one peer; more fail
/// at once. Those for whom they are made take turns, and whoever has most of them gives way, so that a flood for a peer
/// keeps nobody else from it.
const MAX_WAITING: usize = 1_024;
const MAX_WAITING_PER_PEER: usize = 128;
const MAX_WAITING_PER_ASKER: usize = 64;

/// A request without an answer has failed.
pub(super) const REQUEST_TIME: Duration = Duration::from_secs(5);

/// The same for a packet handed to another directory, connecting included, and for one handed to its terminal.
const NEXT_TIME: Duration = Duration::from_millis(3_500);
const DELIVER_TIME: Duration = Duration::from_secs(2);

/// Who gets the answer.
pub(super) enum Asker {
    /// A task.
    Task(oneshot::Sender<Result<Response, RequestError>>),
    /// A peer that had us pass a packet on; its request is answered with what becomes of it.
    Forward {
        /// Its request.
        channel: ResponseChannel<Response>,
        /// The peer.
        from: PeerId,
    },
    /// This driver: the link to that peer is being registered.
    Link,
    /// This driver: it is a ticket for a link's relays.
    Ticket,
    /// Nobody: it was a greeting, identify tells the rest.
    Greeting,
    /// A peer that wants to be knocked at: its request is answered with what the knocker says.
    Knock {
        /// Its request.
        channel: ResponseChannel<Response>,
        /// The peer.
        from: PeerId,
    },
    /// This driver: it has knocked over that connection.
    Knocked(ConnectionId),
    /// This driver: it wants to be knocked at, with that token.
    Errand(Token),
}

impl Asker {
    /// The peer that the request is made for, if it is not this node's own.
    fn peer(&self) -> Option<PeerId> {
        match self {
            Self::Forward { from, .. } | Self::Knock { from, .. } => Some(*from),
            Self::Task(_)
            | Self::Link
            | Self::Ticket
            | Self::Greeting
            | Self::Knocked(_)
            | Self::Errand(_) => None,
        }
    }
}

impl From<oneshot::Sender<Result<Response, RequestError>>> for Asker {
    fn from(sender: oneshot::Sender<Result<Response, RequestError>>) -> Self {
        Self::Task(sender)
    }
}

/// Requests without an answer yet.
#[derive(Default)]
pub(super) struct Requests {
    sent: HashMap<OutboundRequestId, Sent>,
    /// How many of those to each peer.
    open: HashMap<PeerId, usize>,
    waiting: HashMap<PeerId, Waiting>,
    waiting_total: usize,
}

/// A request that is on its way.
struct Sent {
    to: PeerId,
    asker: Asker,
    until: Instant,
}

/// Requests to a peer that is not connected yet, or has enough to do.
struct Waiting {
    addrs: Vec<Multiaddr>,
    /// Whether these addresses have been dialled, and not just somebody else's attempt been joined.
    dialled: bool,
    /// Those that were left out then, for the case that the others do not work.
    left_out: Vec<Multiaddr>,
    /// By the peer that they are made for; `None` for this node's own.
    queue: FairQueue<Option<PeerId>, Delayed>,
}

/// One of them.
struct Delayed {
    request: Request,
    asker: Asker,
    until: Instant,
}

impl Driver {
    /// Sends a request, connecting first if `addrs` or what the DHT knows permits.
    pub(super) fn request(&mut self, to: PeerId, addrs: Vec<Multiaddr>, request: Request, asker: Asker) {
        let until = Instant::now() + time_for(&request, &asker);
        let connected = self.peers.contains(&to);
        if connected && !self.is_busy(&to) {
            return self.send(to, request, asker, until);
        }
        if to == *self.swarm.local_peer_id() {
            return self.answered(to, asker, Err(RequestError::Unreachable));
        }
        if self.requests.waiting_total >= MAX_WAITING {
            return self.answered(to, asker, Err(RequestError::Busy));
        }
        let known = self.requests.waiting.contains_key(&to);
        let waiting = self.requests.waiting.entry(to).or_insert_with(|| Waiting {
            addrs: Vec::new(),
            dialled: false,
            left_out: Vec::new(),
            queue: FairQueue::new(MAX_WAITING_PER_PEER, MAX_WAITING_PER_ASKER),
        });
        let out = waiting.queue.push(asker.peer(), Delayed { request, asker, until });
        for addr in addrs {
            if !waiting.addrs.contains(&addr) {
                waiting.addrs.push(addr);
            }
        }
        match out {
            Some(Delayed { asker, .. }) => self.answered(to, asker, Err(RequestError::Busy)),
            None => self.requests.waiting_total += 1,
        }
        if !known && !connected {
            self.dial_waiting(to);
        }
    }

    /// Whether a peer has been asked as much as it answers at a time.
    fn is_busy(&self, to: &PeerId) -> bool {
        let most = self.swarm.behaviour().gate.standing(to).streams() - SPARE;
        self.requests.open.get(to).is_some_and(|open| *open >= most)
    }

    fn send(&mut self, to: PeerId, request: Request, asker: Asker, until: Instant) {
        if let Asker::Task(_) = asker {
            self.expect_answer(&to, &request);
        }
        let id = self.swarm.behaviour_mut().signal.send_request(&to, request);
        self.requests.sent.insert(id, Sent { to, asker, until });
        *self.requests.open.entry(to).or_default() += 1;
    }

    /// A packet of this terminal's own goes out.
    fn expect_answer(&mut self, peer: &PeerId, request: &Request) {
        let to = match request {
            Request::Forward { to, .. } => Some(*to),
            Request::Deliver { .. } => addr::terminal_of(peer),
            Request::Hello
            | Request::Register { .. }
            | Request::Find { .. }
            | Request::Store { .. }
            | Request::Seek { .. }
            | Request::Publish { .. }
            | Request::Relay { .. }
            | Request::KnockWanted { .. }
            | Request::KnockAt { .. }
            | Request::Knock { .. } => None,
        };
        if let Some(to) = to {
            self.service.expect(to, Instant::now());
        }
    }

    /// A request is over, one way or the other: the next one may be sent.
    fn over(&mut self, sent: Sent, result: Result<Response, RequestError>) {
        if let Some(open) = self.requests.open.get_mut(&sent.to) {
            *open -= 1;
            if *open == 0 {
                self.requests.open.remove(&sent.to);
            }
        }
        self.flush_waiting(sent.to);
        self.answered(sent.to, sent.asker, result);
    }

    /// Dials a peer that requests wait for; or joins the attempt that is being made already.
    fn dial_waiting(&mut self, to: PeerId) {
        let works = self.works();
        let Some(waiting) = self.requests.waiting.get_mut(&to) else { return };
        let (addrs, left_out) = addr::likely(self.links.known.to_dial(to, &waiting.addrs), works);
        // What the DHT knows may be of no use here, and would be tried first.
        let more = addrs.is_empty() || works.is_none();
        let options =
            DialOpts::peer_id(to).condition(PeerCondition::DisconnectedAndNotDialing).addresses(addrs);
        let options = if more { options.extend_addresses_through_behaviour() } else { options }.build();
        waiting.left_out = left_out;
        match self.swarm.dial(options) {
            Ok(()) => waiting.dialled = true,
            Err(DialError::DialPeerConditionFalse(_)) => waiting.dialled = false,
            Err(error) => {
                debug!(error = addr::dial_error(&error), "cannot dial");
                self.fail_waiting(to);
            }
        }
    }

    /// An attempt to connect to the peer has failed.
    pub(super) fn on_dial_failed(&mut self, peer: PeerId) {
        match self.requests.waiting.get(&peer) {
            // That was somebody else's attempt, with other addresses.
            Some(waiting) if !waiting.dialled => self.dial_waiting(peer),
            Some(waiting) if !waiting.left_out.is_empty() => self.dial_left_out(peer),
            Some(_) => self.fail_waiting(peer),
            None => {}
        }
    }

    /// The likely addresses of a peer did not work; the others may.
    fn dial_left_out(&mut self, to: PeerId) {
        let Some(waiting) = self.requests.waiting.get_mut(&to) else { return };
        if waiting.queue.len() == 0 {
            self.requests.waiting.remove(&to);
            return;
        }
        let options = DialOpts::peer_id(to)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(std::mem::take(&mut waiting.left_out))
            .extend_addresses_through_behaviour()
            .build();
        match self.swarm.dial(options) {
            Ok(()) => {}
            Err(DialError::DialPeerConditionFalse(_)) => waiting.dialled = false,
            Err(_) => self.fail_waiting(to),
        }
    }

    /// Requests that waited for a peer get no answer.
    pub(super) fn fail_waiting(&mut self, peer: PeerId) {
        let Some(mut waiting) = self.requests.waiting.remove(&peer) else { return };
        self.requests.waiting_total -= waiting.queue.len();
        while let Some(Delayed { asker, .. }) = waiting.queue.pop() {
            self.answered(peer, asker, Err(RequestError::Unreachable));
        }
    }

    /// The peer is connected, or has answered: send what waited for that.
    pub(super) fn flush_waiting(&mut self, peer: PeerId) {
        while self.peers.contains(&peer) && !self.is_busy(&peer) {
            let Some(waiting) = self.requests.waiting.get_mut(&peer) else { return };
            // A later attempt to connect is none of theirs.
            waiting.dialled = false;
            let Some(Delayed { request, asker, until }) = waiting.queue.pop() else {
                self.requests.waiting.remove(&peer);
                return;
            };
            self.requests.waiting_total -= 1;
            self.send(peer, request, asker, until);
        }
    }

    /// Fails what has been waiting for an answer too long, and has those looked at that owe it.
    pub(super) fn tick_requests(&mut self, now: Instant) {
        let late: Vec<Sent> =
            self.requests.sent.extract_if(|_, sent| sent.until <= now).map(|(_, sent)| sent).collect();
        for sent in late {
            self.probe(sent.to);
            self.over(sent, Err(RequestError::Timeout));
        }
        let mut late = Vec::new();
        for (peer, waiting) in &mut self.requests.waiting {
            let over = waiting.queue.extract(|delayed| delayed.until <= now);
            late.extend(over.into_iter().map(|delayed| (*peer, delayed.asker)));
        }
        self.requests.waiting_total -= late.len();
        for (peer, asker) in late {
            self.answered(peer, asker, Err(RequestError::Timeout));
        }
    }

    /// Events of the request-response protocol.
    pub(super) fn on_signal(&mut self, event: request_response::Event<Request, Response>) {
        use request_response::{Event, Message};
        match event {
            Event::Message {
                peer,
                connection_id,
                message: Message::Request { request, channel, .. },
                ..
            } => {
                if matches!(request, Request::Register { .. } | Request::Forward { .. }) {
                    self.leave_older_connections(peer, connection_id, true);
                }
                if let Some(peer) = self.peers.get_mut(&peer) {
                    peer.asks(Instant::now());
                }
                self.swarm.behaviour_mut().gate.used(&peer);
                self.serve(peer, request, channel);
            }
            Event::Message { message: Message::Response { request_id, response }, .. } => {
                if let Some(sent) = self.requests.sent.remove(&request_id) {
                    self.over(sent, Ok(response));
                }
            }
            Event::OutboundFailure { request_id, error, .. } => {
                if let Some(sent) = self.requests.sent.remove(&request_id) {
                    self.on_outbound_failure(sent, &error);
                }
            }
            // The sender gave up, or sent what is no request; its stream is closed, nothing is left to do.
            Event::InboundFailure { error, .. } => debug!(%error, "inbound request failed"),
            Event::ResponseSent { .. } => {}
        }
    }

    fn on_outbound_failure(&mut self, sent: Sent, error: &OutboundFailure) {
        debug!(%error, "request failed");
        let error = match error {
            OutboundFailure::DialFailure => RequestError::Unreachable,
            OutboundFailure::Timeout => RequestError::Timeout,
            OutboundFailure::UnsupportedProtocols => RequestError::Unsupported,
            OutboundFailure::ConnectionClosed | OutboundFailure::Io(_) => RequestError::Broken,
        };
        if error == RequestError::Timeout {
            self.probe(sent.to);
        }
        self.over(sent, Err(error));
    }

    fn answered(&mut self, peer: PeerId, asker: Asker, result: Result<Response, RequestError>) {
        let held = matches!(result, Ok(Response::Stored | Response::Published { .. }));
        match asker {
            Asker::Task(reply) => {
                // The task may have lost interest.
                let _ = reply.send(result);
            }
            Asker::Forward { channel, from } => self.forwarded(from, channel, result),
            Asker::Link => self.on_registered(peer, result),
            Asker::Ticket => self.on_ticket(peer, result),
            Asker::Greeting => {}
            Asker::Knock { channel, .. } => self.knock_passed_on(channel, result),
            Asker::Knocked(connection) => self.on_knock_heard(connection),
            Asker::Errand(token) => self.on_errand(&token, &result),
        }
        if held {
            self.on_records_held(peer);
        }
    }

    /// Peers that requests wait for.
    pub(super) fn requests_dialling(&self) -> usize {
        self.requests.waiting.len()
    }

    /// Requests without an answer.
    pub(super) fn requests_open(&self) -> usize {
        self.requests.sent.len() + self.requests.waiting_total
    }
}

/// How long an asker has.
fn time_for(request: &Request, asker: &Asker) -> Duration {
    match asker {
        Asker::Forward { .. } if matches!(request, Request::Deliver { .. }) => DELIVER_TIME,
        Asker::Forward { .. } | Asker::Knock { .. } => NEXT_TIME,
        Asker::Task(_)
        | Asker::Link
        | Asker::Ticket
        | Asker::Greeting
        | Asker::Knocked(_)
        | Asker::Errand(_) => REQUEST_TIME,
    }
}
