//! Connectivity checks (ICE, RFC 8445) around the sans-IO agent of the `is` crate.
//!
//! What this adds: nothing leaves before disclosure; candidates of the other end are bounded and filtered; an
//! address counts as genuine only after a STUN message with valid MESSAGE-INTEGRITY came from it; and until a
//! pair is nominated, packets may already be sent to where an authenticated check came from (in the prototype
//! waiting for the nomination cost a second when a handshake packet got lost by it).

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use is::stun::{StunMessage, StunPacket};
use is::{Candidate, IceAgent, IceAgentEvent, IceCreds, Protocol};

use super::socket::StunIn;
use super::types::{Path, Role};

/// Candidates of the other end that are tried.
pub(super) const MAX_REMOTE: usize = 32;
/// Candidates of our own.
const MAX_LOCAL: usize = 16;
/// Longest line of a candidate in bytes; real ones are below 150.
const MAX_LINE: usize = 256;
/// Senders of authenticated checks that are remembered before disclosure.
const MAX_EARLY: usize = 8;
/// Addresses from which authenticated messages are taken. The agent remembers each of them, so a peer that
/// sends from ever new ports is cut off here.
const MAX_GENUINE: usize = 32;
/// Ta of RFC 8445 section 14: the least time between two checks. 50 ms there; we have one stream only.
const TIMING_ADVANCE: Duration = Duration::from_millis(10);
/// First retransmission of a check; measured best on lossy paths (500 ms in RFC 8445 section 14.3).
const INITIAL_RTO: Duration = Duration::from_millis(100);
/// While no pair is nominated checks go on at this pace for eight seconds, which is what a call waits for.
const SEARCH_RTO: Duration = Duration::from_millis(200);
const SEARCH_RETRANSMITS: usize = 42;
/// Afterwards each pair is checked once a second.
const KEEP_RTO: Duration = Duration::from_millis(1_000);
const KEEP_RETRANSMITS: usize = 8;

/// What ICE wants done.
pub(super) enum IceOutput {
    /// Send this STUN message.
    Transmit { local: IpAddr, remote: SocketAddr, bytes: Vec<u8> },
    /// This address has proved to be the other end's.
    Genuine(SocketAddr),
    /// QUIC packets should take this path from now on.
    Path(Path),
}

/// See the module's documentation.
pub(super) struct Ice {
    agent: IceAgent,
    disclosed: bool,
    allow_loopback: bool,
    remote: Option<IceCreds>,
    remote_addresses: Vec<SocketAddr>,
    /// Lines that came before the credentials or before disclosure.
    held: Vec<Candidate>,
    early_senders: Vec<(SocketAddr, SocketAddr)>,
    genuine: Vec<SocketAddr>,
    /// Where an authenticated check came from, and whether signalling told that address too.
    early: Option<(SocketAddr, bool)>,
    nominated: bool,
    outputs: VecDeque<IceOutput>,
}

impl Ice {
    /// An agent with fresh credentials that keeps silent until [`Ice::disclose`].
    pub(super) fn new(role: Role, allow_loopback: bool) -> Ice {
        let mut agent = IceAgent::new(IceCreds::new());
        agent.set_controlling(role == Role::Caller);
        agent.set_timing_advance(TIMING_ADVANCE);
        agent.set_initial_stun_rto(INITIAL_RTO);
        agent.set_max_stun_rto(SEARCH_RTO);
        agent.set_max_stun_retransmits(SEARCH_RETRANSMITS);
        Ice {
            agent,
            disclosed: false,
            allow_loopback,
            remote: None,
            remote_addresses: Vec::new(),
            held: Vec::new(),
            early_senders: Vec::new(),
            genuine: Vec::new(),
            early: None,
            nominated: false,
            outputs: VecDeque::new(),
        }
    }

    /// User name fragment and password of this end.
    pub(super) fn credentials(&self) -> (String, String) {
        let creds = self.agent.local_credentials();
        (creds.ufrag.clone(), creds.pass.clone())
    }

    /// Adds an address of an interface. Returns its line for the other end, unless it adds nothing new.
    pub(super) fn add_host(&mut self, address: SocketAddr) -> Option<String> {
        self.add_local(Candidate::host(address, Protocol::Udp).ok()?)
    }

    /// Adds the address under which a STUN server saw packets from `base`.
    pub(super) fn add_reflexive(&mut self, mapped: SocketAddr, base: SocketAddr) -> Option<String> {
        self.add_local(Candidate::server_reflexive(mapped, base, Protocol::Udp).ok()?)
    }

    fn add_local(&mut self, candidate: Candidate) -> Option<String> {
        let known = self.agent.local_candidates().any(|have| have.addr() == candidate.addr());
        if known || self.agent.local_candidates().count() >= MAX_LOCAL {
            return None;
        }
        self.agent.add_local_candidate(candidate).map(Candidate::to_sdp_string)
    }

    /// The other end's credentials, from signed signalling. Only the first count.
    pub(super) fn set_remote(&mut self, ufrag: String, pass: String, now: Instant) {
        if self.remote.is_none() {
            self.remote = Some(IceCreds { ufrag, pass });
            self.begin(now);
        }
    }

    /// Addresses may be shown from now on: checks begin, waiting ones are answered.
    pub(super) fn disclose(&mut self, now: Instant) {
        if !self.disclosed {
            self.disclosed = true;
            self.begin(now);
        }
    }

    /// Takes a candidate line of the other end, from signed signalling. False if it is refused.
    pub(super) fn add_remote(&mut self, line: &str, now: Instant) -> bool {
        if line.len() > MAX_LINE || self.remote_addresses.len() >= MAX_REMOTE {
            return false;
        }
        let Ok(candidate) = Candidate::from_sdp_string(line) else { return false };
        let address = candidate.addr();
        if candidate.proto() != Protocol::Udp || !self.is_usable(address) {
            return false;
        }
        if self.remote_addresses.contains(&address) {
            return true;
        }
        self.remote_addresses.push(address);
        if self.is_active() {
            self.agent.add_remote_candidate(candidate);
            self.agent.handle_timeout(now);
        } else {
            self.held.push(candidate);
        }
        true
    }

    /// Takes a STUN message that is not an answer of a server.
    pub(super) fn handle_stun(&mut self, now: Instant, message: &StunIn) {
        let Ok(stun) = StunMessage::parse(&message.bytes) else { return };
        let request = stun.is_binding_request();
        // Checks user name and MESSAGE-INTEGRITY: nobody but the other end knows the passwords.
        if !self.agent.accepts_message(&stun) {
            return;
        }
        if self.is_active() {
            if !self.prove(message.source) {
                return;
            }
            if request {
                self.consider_early(message.source, message.local);
            }
        } else if self.early_senders.len() < MAX_EARLY {
            self.early_senders.push((message.source, message.local));
        }
        let packet = StunPacket {
            proto: Protocol::Udp,
            source: message.source,
            destination: message.local,
            message: stun,
        };
        // Without the other end's credentials the agent only queues the request, so nothing leaves yet.
        self.agent.handle_packet(now, packet);
        self.handle_timeout(now);
    }

    /// Lets time pass.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.is_active() {
            self.agent.handle_timeout(now);
        }
    }

    /// When [`Ice::handle_timeout`] should be called next.
    pub(super) fn poll_timeout(&mut self) -> Option<Instant> {
        if self.is_active() { self.agent.poll_timeout() } else { None }
    }

    /// What to do now; ask until there is nothing left.
    pub(super) fn poll_output(&mut self) -> Option<IceOutput> {
        while let Some(event) = self.agent.poll_event() {
            match event {
                IceAgentEvent::NominatedSend { source, destination, .. } => {
                    self.nominate(source, destination)
                }
                IceAgentEvent::IceRestart(_)
                | IceAgentEvent::IceConnectionStateChange(_)
                | IceAgentEvent::DiscoveredRecv { .. } => {}
            }
        }
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        let transmit = self.agent.poll_transmit()?;
        Some(IceOutput::Transmit {
            local: transmit.source.ip(),
            remote: transmit.destination,
            bytes: Vec::from(transmit.contents),
        })
    }

    /// The round-trip time that the checks measured on the nominated pair.
    pub(super) fn rtt(&self) -> Option<Duration> {
        self.agent.nominated_pair_rtt()
    }

    fn is_active(&self) -> bool {
        self.disclosed && self.remote.is_some()
    }

    fn begin(&mut self, now: Instant) {
        let Some(remote) = self.remote.clone().filter(|_| self.disclosed) else { return };
        self.agent.set_remote_credentials(remote);
        for candidate in std::mem::take(&mut self.held) {
            self.agent.add_remote_candidate(candidate);
        }
        for (source, local) in std::mem::take(&mut self.early_senders) {
            self.prove(source);
            self.consider_early(source, local);
            // One waiting request is answered per call.
            self.agent.handle_timeout(now);
        }
        self.agent.handle_timeout(now);
    }

    /// Notes that an authenticated message came from `source`; false if there are too many such addresses.
    fn prove(&mut self, source: SocketAddr) -> bool {
        if self.genuine.contains(&source) {
            return true;
        }
        if self.genuine.len() == MAX_GENUINE {
            return false;
        }
        self.genuine.push(source);
        self.outputs.push_back(IceOutput::Genuine(source));
        true
    }

    /// A check that was sent to us from `source` is the best clue to a path until one is nominated. An address
    /// that signalling told as well outweighs one that only the check's sender shows.
    fn consider_early(&mut self, source: SocketAddr, local: SocketAddr) {
        if self.nominated {
            return;
        }
        let told = self.remote_addresses.contains(&source);
        let better = match self.early {
            None => true,
            Some((_, already_told)) => told && !already_told,
        };
        if better {
            self.early = Some((source, told));
            self.outputs.push_back(IceOutput::Path(Path::Direct { local, remote: source }));
        }
    }

    fn nominate(&mut self, local: SocketAddr, remote: SocketAddr) {
        if !self.nominated {
            self.nominated = true;
            self.agent.set_max_stun_rto(KEEP_RTO);
            self.agent.set_max_stun_retransmits(KEEP_RETRANSMITS);
        }
        self.prove(remote);
        self.outputs.push_back(IceOutput::Path(Path::Direct { local, remote }));
    }

    /// Where a check may be sent to: one host, with a port, and loopback only if we use it ourselves.
    fn is_usable(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        let single = match ip {
            IpAddr::V4(ip) => !ip.is_broadcast() && !ip.is_multicast() && !ip.is_unspecified(),
            IpAddr::V6(ip) => !ip.is_multicast() && !ip.is_unspecified(),
        };
        single && address.port() != 0 && (self.allow_loopback || !ip.is_loopback())
    }
}

#[cfg(test)]
mod tests;
