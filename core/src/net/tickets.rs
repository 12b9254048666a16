//! Tickets for this directory's [media relay](crate::relay): who is given one.
//!
//! A terminal that is registered here and of whose account records are held gets a full one. Anybody else has to show a
//! number, which costs work to make, and has the use of one small allocation for it: while a ticket for a number is good,
//! only the terminal that has it gets another.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use libp2p::PeerId;
use libp2p::request_response::ResponseChannel;
use offhook_proto::identity::TerminalId;
use offhook_proto::proof::ProofTask;
use offhook_proto::relay::{
    GUEST_LIFETIME, GuestClaim, MAX_RELAY_SERVERS, RelayClass, RelayServer, RelayTicket, RelayTransport,
    TicketIssuer,
};

use super::addr::{self, Source};
use super::codec::{Refusal, Response};
use super::driver::{Driver, Inner};
use super::limit::Limiter;
use super::service::outcome;
use crate::clock::wall_clock;
use crate::fair::FairQueue;

/// Requests per second of one peer (bursts: ten seconds' worth).
const PER_PEER: u32 = 1;

/// Claims whose proof waits to be run, altogether and of one /24 or /64; further ones are told to come again.
const MAX_WAITING: usize = 256;
const MAX_WAITING_PER_SOURCE: usize = 16;

/// Numbers for which a guest's ticket is good; further guests are told to come again.
const MAX_GUESTS: usize = 16_384;

/// Where a media relay is, and who issues tickets for it.
#[derive(Clone, Debug)]
pub struct RelayNotice {
    /// Shared with the relay.
    pub issuer: TicketIssuer,
    /// What it is served over, and the ports, on this node's external addresses. STUN is answered where it is served over
    /// UDP.
    pub listeners: Vec<(RelayTransport, u16)>,
    /// SHA-256 of the certificate that is shown where it is served over TLS.
    pub pin: Option<[u8; 32]>,
}

impl RelayNotice {
    /// Where STUN is answered.
    pub(super) fn stun_port(&self) -> Option<u16> {
        self.listeners.iter().find(|(transport, _)| *transport == RelayTransport::Udp).map(|(_, port)| *port)
    }

    /// Every listener under every address, as far as there is room.
    fn servers(&self, ips: &[IpAddr]) -> Vec<RelayServer> {
        let most = MAX_RELAY_SERVERS / self.listeners.len().max(1);
        let under = |ip: &IpAddr| {
            let ip = *ip;
            self.listeners.iter().map(move |(transport, port)| {
                let pin = self.pin.filter(|_| *transport == RelayTransport::Tls);
                RelayServer { transport: *transport, addr: SocketAddr::new(ip, *port), pin }
            })
        };
        ips.iter().take(most).flat_map(under).collect()
    }
}

/// The memory of who has tickets, and who waits for one.
pub(super) struct Tickets {
    per_peer: Limiter<PeerId>,
    waiting: FairQueue<Source, Waiting>,
    running: bool,
    guests: Arc<Mutex<Guests>>,
}

/// A claim that is good but for its proof.
struct Waiting {
    task: ProofTask,
    terminal: TerminalId,
    servers: Vec<RelayServer>,
    channel: ResponseChannel<Response>,
}

impl Tickets {
    pub(super) fn new() -> Self {
        Self {
            per_peer: Limiter::new(PER_PEER),
            waiting: FairQueue::new(MAX_WAITING, MAX_WAITING_PER_SOURCE),
            running: false,
            guests: Arc::default(),
        }
    }
}

impl Driver {
    /// Gives a ticket, now or once the asker's proof has been run, or says why not.
    pub(super) fn on_relay(
        &mut self,
        peer: PeerId,
        claim: Option<GuestClaim>,
        channel: ResponseChannel<Response>,
    ) {
        match self.judge(peer, claim) {
            Ok(Judged::Full(ticket)) => self.answer_relay(channel, Response::Ticket(ticket)),
            Ok(Judged::Guest { task, terminal, servers }) => {
                let source = self.peers.source(&peer);
                let waiting = Waiting { task, terminal, servers, channel };
                if let Some(out) = self.tickets.waiting.push(source, waiting) {
                    self.answer_relay(out.channel, Response::Busy);
                }
                self.next_claim();
            }
            Err(response) => self.answer_relay(channel, response),
        }
    }

    fn answer_relay(&mut self, channel: ResponseChannel<Response>, response: Response) {
        self.count("relay", &response);
        self.respond(channel, response);
    }

    fn judge(&mut self, peer: PeerId, claim: Option<GuestClaim>) -> Result<Judged, Response> {
        let refused = |reason| Response::Refused { reason };
        let notice = self.config.relay.as_ref().ok_or(refused(Refusal::NotServing))?;
        let terminal = addr::terminal_of(&peer).ok_or(refused(Refusal::Invalid))?;
        let mut ips: Vec<_> = self.external.iter().filter_map(addr::ip_of).collect();
        ips.sort_unstable();
        ips.dedup();
        let servers = notice.servers(&ips);
        if servers.is_empty() {
            return Err(refused(Refusal::NotServing));
        }
        let issuer = notice.issuer.clone();
        let source = self.peers.source(&peer);
        if !self.service.permit_query(source) || !self.tickets.per_peer.permit(peer, Instant::now()) {
            return Err(Response::Busy);
        }
        let now = wall_clock();
        let identity = self.service.identity_of(&peer);
        if identity.is_some_and(|identity| self.records().holds(&identity)) {
            return Ok(Judged::Full(issuer.issue(RelayClass::Full, &terminal, servers, now)));
        }
        let Some(claim) = claim else {
            // A terminal registers first and publishes then.
            return Err(if identity.is_some() { Response::Busy } else { refused(Refusal::Invalid) });
        };
        let cert = claim.cert.verify(now).map_err(|_| refused(Refusal::Invalid))?;
        if cert.terminal != terminal || cert.identity != claim.identity {
            return Err(refused(Refusal::Invalid));
        }
        let checked = claim.proof.check_held(&claim.number, &claim.identity, now);
        let (_, task) = checked.map_err(|_| refused(Refusal::Invalid))?;
        Ok(Judged::Guest { task, terminal, servers })
    }

    /// Runs the proof of the claim whose turn it is, off this task; one at a time.
    fn next_claim(&mut self) {
        let Some(notice) = self.config.relay.as_ref().filter(|_| !self.tickets.running) else { return };
        let issuer = notice.issuer.clone();
        let Some(Waiting { task, terminal, servers, channel }) = self.tickets.waiting.pop() else { return };
        self.tickets.running = true;
        let (verdicts, guests, inner) =
            (self.records().verdicts(), self.tickets.guests.clone(), self.inner.clone());
        tokio::spawn(async move {
            let response = if verdicts.verify(task.clone()).await {
                let mut guests = guests.lock().unwrap_or_else(PoisonError::into_inner);
                match guests.admit(task, terminal, Instant::now()) {
                    true => {
                        Response::Ticket(issuer.issue(RelayClass::Guest, &terminal, servers, wall_clock()))
                    }
                    false => Response::Busy,
                }
            } else {
                Response::Refused { reason: Refusal::Invalid }
            };
            // The driver may have stopped meanwhile.
            let _ = inner.send(Inner::Claimed(channel, response));
        });
    }

    /// A claim's proof has been run.
    pub(super) fn claimed(&mut self, channel: ResponseChannel<Response>, response: Response) {
        self.tickets.running = false;
        self.metrics.count("relay", outcome(&response));
        self.respond(channel, response);
        self.next_claim();
    }
}

/// What a request deserves.
enum Judged {
    Full(RelayTicket),
    Guest { task: ProofTask, terminal: TerminalId, servers: Vec<RelayServer> },
}

/// Which terminal has a guest's ticket for a number, and how long.
#[derive(Default)]
struct Guests(HashMap<ProofTask, (TerminalId, Instant)>);

impl Guests {
    /// Whether a terminal gets a ticket for a number; if so, nobody else does while that is good.
    fn admit(&mut self, number: ProofTask, terminal: TerminalId, now: Instant) -> bool {
        let has = self.0.get(&number).filter(|(_, until)| *until > now);
        if has.is_some_and(|(other, _)| *other != terminal) {
            return false;
        }
        if self.0.len() >= MAX_GUESTS && !self.0.contains_key(&number) {
            self.0.retain(|_, (_, until)| *until > now);
            if self.0.len() >= MAX_GUESTS {
                return false;
            }
        }
        self.0.insert(number, (terminal, now + GUEST_LIFETIME));
        true
    }
}

#[cfg(test)]
mod tests;
