//! Connectivity checks (ICE, RFC 8445) around the sans-IO agent of the `is` crate.
//!
//! What this adds: nothing leaves before disclosure; candidates of the other end are bounded and filtered; an
//! address counts as genuine only after a STUN message with valid MESSAGE-INTEGRITY came from it; an answer counts
//! only from where the check went to (RFC 8445 section 7.2.5.2.1); and until a pair is nominated, packets may
//! already take the *early path* (in the prototype waiting for the nomination cost a second when a handshake packet
//! got lost by it).
//!
//! The early path follows the best [`Clue`]. Somebody on the way can copy a check and send it again from an
//! address of his own, and no signature tells the copy from a check that a NAT has sent from an unexpected port.
//! So such an address is the weakest clue: the path goes there only if nothing better is known, leaves it at once
//! when a check comes from an address that signalling told, and otherwise a round trip later, when the other end has
//! answered a check of ours; a copy that comes behind its original moves nothing at all ([`Replays`]).

mod replays;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use is::stun::{StunMessage, StunPacket};
use is::{Candidate, CandidateKind, IceAgent, IceAgentEvent, IceCreds, Protocol};

use super::socket::StunIn;
use super::types::{Path, Role};
use replays::{Replays, Verdict};

/// Candidates of the other end that are tried.
pub(super) const MAX_REMOTE: usize = 32;
/// Candidates of our own.
const MAX_LOCAL: usize = 16;
/// Longest line of a candidate in bytes; real ones are below 150.
const MAX_LINE: usize = 256;
/// Senders of authenticated checks that are remembered before disclosure.
const MAX_EARLY: usize = 8;
/// Addresses that signalling did not tell and from which authenticated messages are taken all the same. The agent
/// remembers each of them, so a peer that sends from ever new ports is cut off here.
const MAX_UNTOLD: usize = 32;
/// Addresses to which voice may be sent before any of them has proved itself.
pub(super) const MAX_TRIAL: usize = 4;
/// Ta of RFC 8445 section 14.2: the least time between two checks. 50 ms by default, 5 ms at the least; we have one
/// stream only.
const TIMING_ADVANCE: Duration = Duration::from_millis(5);
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
    /// Signalling told these addresses of the other end, best first; none has proved to lead there yet.
    Told(Vec<SocketAddr>),
    /// QUIC packets should take this path from now on.
    Path(Path),
}

/// What speaks for a path before one is nominated, from weak to strong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Clue {
    /// A check came from there, an address that nobody told: a NAT's new port, or somebody's copy.
    Shown,
    /// A check came from there, and signalling told the address.
    Told,
    /// A check of ours was answered from there.
    Answered,
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
    replays: Replays,
    /// What the path follows that packets take until one is nominated.
    early: Option<Clue>,
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
            replays: Replays::default(),
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
            self.tell_targets();
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
        let verdict = if request {
            self.replays.request(&message.bytes, message.source)
        } else {
            self.replays.answer(&message.bytes, message.source)
        };
        let told = self.remote_addresses.contains(&message.source);
        let clue = match (request, verdict) {
            (false, Verdict::Fresh) => Some(Clue::Answered),
            (false, Verdict::Copied | Verdict::Refused) => return,
            (true, Verdict::Fresh | Verdict::Copied | Verdict::Refused) if told => Some(Clue::Told),
            (true, Verdict::Fresh) => Some(Clue::Shown),
            // The genuine one may have been overtaken by its copy, so the agent answers both.
            (true, Verdict::Copied) => None,
            (true, Verdict::Refused) => return,
        };
        if self.is_active() {
            if !self.prove(message.source) {
                return;
            }
            if let Some(clue) = clue {
                self.consider(clue, message.source, message.local);
            }
        } else if clue.is_some() && self.early_senders.len() < MAX_EARLY {
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
        let bytes = Vec::from(transmit.contents);
        self.replays.sent(&bytes, transmit.destination);
        Some(IceOutput::Transmit { local: transmit.source.ip(), remote: transmit.destination, bytes })
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
        self.tell_targets();
        for (source, local) in std::mem::take(&mut self.early_senders) {
            if self.prove(source) {
                let told = self.remote_addresses.contains(&source);
                self.consider(if told { Clue::Told } else { Clue::Shown }, source, local);
            }
            // One waiting request is answered per call.
            self.agent.handle_timeout(now);
        }
        self.agent.handle_timeout(now);
    }

    /// Names the addresses that are worth a try before any check has come back.
    fn tell_targets(&mut self) {
        if self.nominated || self.remote_addresses.is_empty() {
            return;
        }
        let mut remotes: Vec<_> =
            self.agent.remote_candidates().filter(|c| self.remote_addresses.contains(&c.addr())).collect();
        // What a server saw works across NATs and is one address each; of a host's own many lead nowhere.
        remotes.sort_by_key(|candidate| candidate.kind() == CandidateKind::Host);
        let targets = remotes.iter().map(|candidate| candidate.addr()).take(MAX_TRIAL).collect();
        self.outputs.push_back(IceOutput::Told(targets));
    }

    /// Notes that an authenticated message came from `source`; false if there are too many such addresses.
    fn prove(&mut self, source: SocketAddr) -> bool {
        if self.genuine.contains(&source) {
            return true;
        }
        let told = |address: &SocketAddr| self.remote_addresses.contains(address);
        if !told(&source) && self.genuine.iter().filter(|address| !told(address)).count() >= MAX_UNTOLD {
            return false;
        }
        self.genuine.push(source);
        self.outputs.push_back(IceOutput::Genuine(source));
        true
    }

    /// Takes the path that `clue` speaks for, if nothing as good speaks for another.
    fn consider(&mut self, clue: Clue, source: SocketAddr, local: SocketAddr) {
        if !self.nominated && self.early < Some(clue) {
            self.early = Some(clue);
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

    /// Where a check may be sent to: one host, with a port, and loopback only if we use it ourselves. IPv6's
    /// link-local addresses mean nothing without their interface, and IPv4's are written as such only.
    fn is_usable(&self, address: SocketAddr) -> bool {
        let single = match address.ip() {
            IpAddr::V4(ip) => !ip.is_broadcast() && !ip.is_multicast() && !ip.is_unspecified(),
            IpAddr::V6(ip) => {
                !ip.is_multicast()
                    && !ip.is_unspecified()
                    && !ip.is_unicast_link_local()
                    && ip.to_ipv4_mapped().is_none()
            }
        };
        single && address.port() != 0 && (self.allow_loopback || !address.ip().is_loopback())
    }
}

#[cfg(test)]
mod tests;
