//! Requests to other nodes: connecting first where needed, and who waits for the answer.

use std::collections::HashMap;

use libp2p::request_response::{self, OutboundFailure, OutboundRequestId, ResponseChannel};
use libp2p::swarm::DialError;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::oneshot;
use tracing::debug;

use super::client::RequestError;
use super::codec::{Request, Response};
use super::driver::Driver;

/// Requests that wait for a connection at a time, altogether and for one peer; more fail at once.
const MAX_WAITING: usize = 1_024;
const MAX_WAITING_PER_PEER: usize = 128;

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
    /// Nobody: it was a greeting, identify tells the rest.
    Greeting,
}

impl From<oneshot::Sender<Result<Response, RequestError>>> for Asker {
    fn from(sender: oneshot::Sender<Result<Response, RequestError>>) -> Self {
        Self::Task(sender)
    }
}

/// Requests without an answer yet.
#[derive(Default)]
pub(super) struct Requests {
    sent: HashMap<OutboundRequestId, Asker>,
    waiting: HashMap<PeerId, Waiting>,
    waiting_total: usize,
}

/// Requests to a peer that is not connected yet.
struct Waiting {
    addrs: Vec<Multiaddr>,
    /// Whether these addresses have been dialled, and not just somebody else's attempt been joined.
    dialled: bool,
    queue: Vec<(Request, Asker)>,
}

impl Driver {
    /// Sends a request, connecting first if `addrs` or what the DHT knows permits.
    pub(super) fn request(&mut self, to: PeerId, addrs: Vec<Multiaddr>, request: Request, asker: Asker) {
        if self.peers.contains(&to) {
            let id = self.swarm.behaviour_mut().signal.send_request(&to, request);
            self.requests.sent.insert(id, asker);
            return;
        }
        if to == *self.swarm.local_peer_id() {
            return self.answered(to, asker, Err(RequestError::Unreachable));
        }
        let full = self.requests.waiting_total >= MAX_WAITING
            || self.requests.waiting.get(&to).is_some_and(|w| w.queue.len() >= MAX_WAITING_PER_PEER);
        if full {
            return self.answered(to, asker, Err(RequestError::Busy));
        }
        self.requests.waiting_total += 1;
        let known = self.requests.waiting.contains_key(&to);
        let waiting = self.requests.waiting.entry(to).or_insert(Waiting {
            addrs: Vec::new(),
            dialled: false,
            queue: Vec::new(),
        });
        waiting.queue.push((request, asker));
        for addr in addrs {
            if !waiting.addrs.contains(&addr) {
                waiting.addrs.push(addr);
            }
        }
        if !known {
            self.dial_waiting(to);
        }
    }

    /// Dials a peer that requests wait for; or joins the attempt that is being made already.
    fn dial_waiting(&mut self, to: PeerId) {
        let Some(waiting) = self.requests.waiting.get_mut(&to) else { return };
        let options = DialOpts::peer_id(to)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(waiting.addrs.clone())
            .extend_addresses_through_behaviour()
            .build();
        match self.swarm.dial(options) {
            Ok(()) => waiting.dialled = true,
            Err(DialError::DialPeerConditionFalse(_)) => waiting.dialled = false,
            Err(error) => {
                debug!(%error, "cannot dial");
                self.fail_waiting(to);
            }
        }
    }

    /// An attempt to connect to the peer has failed.
    pub(super) fn on_dial_failed(&mut self, peer: PeerId) {
        match self.requests.waiting.get(&peer) {
            // That was somebody else's attempt, with other addresses.
            Some(waiting) if !waiting.dialled => self.dial_waiting(peer),
            Some(_) => self.fail_waiting(peer),
            None => {}
        }
    }

    fn fail_waiting(&mut self, peer: PeerId) {
        for (_, asker) in self.take_waiting(peer) {
            self.answered(peer, asker, Err(RequestError::Unreachable));
        }
    }

    /// The peer is connected: send what waited for that.
    pub(super) fn flush_waiting(&mut self, peer: PeerId) {
        for (request, asker) in self.take_waiting(peer) {
            self.request(peer, Vec::new(), request, asker);
        }
    }

    fn take_waiting(&mut self, peer: PeerId) -> Vec<(Request, Asker)> {
        let queue = self.requests.waiting.remove(&peer).map(|waiting| waiting.queue).unwrap_or_default();
        self.requests.waiting_total -= queue.len();
        queue
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
                if matches!(request, Request::Register { .. }) {
                    self.leave_older_connections(peer, connection_id);
                }
                self.serve(peer, request, channel);
            }
            Event::Message { peer, message: Message::Response { request_id, response }, .. } => {
                if let Some(asker) = self.requests.sent.remove(&request_id) {
                    self.answered(peer, asker, Ok(response));
                }
            }
            Event::OutboundFailure { peer, request_id, error, .. } => {
                if let Some(asker) = self.requests.sent.remove(&request_id) {
                    self.on_outbound_failure(peer, asker, &error);
                }
            }
            // The sender gave up, or sent what is no request; its stream is closed, nothing is left to do.
            Event::InboundFailure { error, .. } => debug!(%error, "inbound request failed"),
            Event::ResponseSent { .. } => {}
        }
    }

    fn on_outbound_failure(&mut self, peer: PeerId, asker: Asker, error: &OutboundFailure) {
        debug!(%error, "request failed");
        let error = match error {
            OutboundFailure::DialFailure => RequestError::Unreachable,
            OutboundFailure::Timeout => RequestError::Timeout,
            OutboundFailure::ConnectionClosed
            | OutboundFailure::UnsupportedProtocols
            | OutboundFailure::Io(_) => RequestError::Broken,
        };
        // A directory that doesn't answer is gone, whatever the transport still believes: connect anew.
        if error == RequestError::Timeout && self.links.wants(&peer) {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        self.answered(peer, asker, Err(error));
    }

    fn answered(&mut self, peer: PeerId, asker: Asker, result: Result<Response, RequestError>) {
        match asker {
            Asker::Task(reply) => {
                // The task may have lost interest.
                let _ = reply.send(result);
            }
            Asker::Forward { channel, from } => self.forwarded(from, channel, result),
            Asker::Link => self.on_registered(peer, result),
            Asker::Greeting => {}
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
