//! Connectivity checks (ICE, RFC 8445) around the sans-IO agent of the `is` crate.
//!
//! What this adds: nothing leaves before disclosure but through a relay, since until then the agent knows none of our
//! own addresses; candidates of the other end are bounded and filtered; an
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
//!
//! A path through a relay is nominated like any other, while it rings already. The agent goes on to check all pairs and
//! nominates a better one when it works; a direct path that has proved itself both ways is taken even before that.

mod candidates;
mod deferred;
mod own;
mod replays;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use is::stun::{StunMessage, StunPacket};
use is::{Candidate, CandidateKind, IceAgent, IceAgentEvent, IceCreds, Protocol};
use offhook_proto::relay::RelayTransport;

use super::relay::Relayed;
use super::socket::StunIn;
use super::types::{Path, Role};
use candidates::{is_usable, local_preference};
use deferred::Deferred;
use replays::{Replays, Verdict};

/// Candidates of the other end that are tried.
pub(super) const MAX_REMOTE: usize = 32;
/// Candidates of our own: hosts, as servers see them, and at two relays.
const MAX_LOCAL: usize = 20;
/// Pairs that are checked, the best first: those of a peer with sixteen candidates, of which we have eight hosts and two
/// relays. A pair costs a check every 200 ms while nothing is found.
const MAX_PAIRS: usize = 160;
/// Longest line of a candidate in bytes; real ones are below 150.
const MAX_LINE: usize = 256;
/// Authenticated checks that are kept until they may be answered.
const MAX_EARLY: usize = 8;
/// Addresses that signalling did not tell and from which authenticated messages are taken all the same. The agent
/// remembers each of them, so a peer that sends from ever new ports is cut off here.
const MAX_UNTOLD: usize = 32;
/// Moves of the other end that are followed in a call. The agent forgets no candidate, so each costs memory.
const MAX_MOVES: u16 = 256;
/// Addresses to which voice may be sent before any of them has proved itself.
pub(super) const MAX_TRIAL: usize = 4;
/// Ta of RFC 8445 section 14.2: the least time between two checks. 50 ms by default, 5 ms at the least; we have one
/// stream only.
const TIMING_ADVANCE: Duration = Duration::from_millis(5);
/// First retransmission of a check; measured best on lossy paths (500 ms in RFC 8445 section 14.3).
const INITIAL_RTO: Duration = Duration::from_millis(100);
/// While no pair is nominated checks go on at this pace for eight seconds at least, which is what a call waits for; the first of
/// them in [`HASTE`].
const SEARCH_RTO: Duration = Duration::from_millis(200);
const SEARCH_RETRANSMITS: usize = 60;
/// Checks go on faster for a while after addresses have been shown or told, or the direct path has died: where packets get lost,
/// this is what the time to a direct path hangs on.
const HASTE: Duration = Duration::from_secs(1);
const HASTE_RTO: Duration = Duration::from_millis(70);
/// Where both ends meet at relays when they show their addresses, a path with one end at a relay and the other at its own address is
/// little better, and each check of one passes a directory twice: a direct path is given so much time alone.
const SPARE: Duration = HASTE;
/// How long the search goes on once a path through a relay is there.
const SEARCH: Duration = Duration::from_secs(8);
/// Afterwards each pair is checked once a second.
const KEEP_RTO: Duration = Duration::from_millis(1_000);
const KEEP_RETRANSMITS: usize = 8;

/// What ICE wants done.
pub(super) enum IceOutput {
    /// Send this STUN message, from our address or from the one at a relay.
    Transmit { local: SocketAddr, remote: SocketAddr, bytes: Vec<u8> },
    /// This address has proved to be the other end's.
    Genuine(SocketAddr),
    /// Signalling told these addresses of the other end, best first; none has proved to lead there yet.
    Told(Vec<SocketAddr>),
    /// QUIC packets should take this path from now on.
    Path(Path),
}

/// What speaks for a path, from weak to strong. Behind a relay as good as before it, if nothing is nominated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Clue {
    /// A check came from there, an address that nobody told: a NAT's new port, or somebody's copy.
    Shown,
    /// A check came from there, and signalling told the address.
    Told,
    /// A check of ours was answered from there, through a relay.
    AnsweredByRelay,
    /// The caller has chosen it, through a relay.
    NominatedByRelay,
    /// A check of ours was answered from there, straight.
    Answered,
    /// The caller has chosen it, straight.
    Nominated,
}

/// See the module's documentation.
pub(super) struct Ice {
    agent: IceAgent,
    /// Whether the other end may see our own addresses.
    disclosed: bool,
    relay_only: bool,
    allow_loopback: bool,
    /// Our own addresses, which the agent does not know before disclosure.
    kept: Vec<Candidate>,
    /// An agent that never runs: it tells how the other one will name them.
    rehearsal: IceAgent,
    /// Their lines, whether they have changed since they were handed over, and those that were.
    withheld: Vec<String>,
    withheld_changed: bool,
    handed_over: Vec<String>,
    /// Our addresses at relays.
    relayed: Vec<Relayed>,
    remote: Option<IceCreds>,
    remote_addresses: Vec<SocketAddr>,
    /// Those of them that are at a relay of the other end.
    remote_relayed: Vec<SocketAddr>,
    /// Candidates that came before the credentials.
    held: Vec<Candidate>,
    /// Checks that came before they could be answered.
    early: Vec<StunIn>,
    genuine: Vec<SocketAddr>,
    /// Moves of the other end so far.
    moves: u16,
    replays: Replays,
    /// What speaks for the path in use.
    chosen: Option<Clue>,
    /// Its end on our side.
    chosen_local: Option<SocketAddr>,
    /// A path through a relay of ours that has worked.
    fallback: Option<(SocketAddr, SocketAddr)>,
    /// Until when pairs are checked often though there is a path through a relay.
    search_until: Option<Instant>,
    /// Until when even faster.
    haste_until: Option<Instant>,
    /// Until when no pair with only one end at a relay is checked.
    spare_until: Option<Instant>,
    role: Role,
    deferred: Deferred,
    outputs: VecDeque<IceOutput>,
}

/// Whom to show as the relay of a path that uses the other end's only.
const THEIR_RELAY: &str = "the other side's";

impl Ice {
    /// An agent with fresh credentials. With `relay_only` it never uses our own addresses.
    pub(super) fn new(role: Role, allow_loopback: bool, relay_only: bool) -> Ice {
        let creds = IceCreds::new();
        let rehearsal = own::rehearsal(creds.clone());
        let mut agent = IceAgent::new(creds);
        agent.set_controlling(role == Role::Caller);
        agent.set_timing_advance(TIMING_ADVANCE);
        agent.set_initial_stun_rto(INITIAL_RTO);
        agent.set_max_candidate_pairs(MAX_PAIRS);
        agent.set_local_preference(local_preference);
        let mut ice = Ice {
            agent,
            disclosed: false,
            relay_only,
            allow_loopback,
            kept: Vec::new(),
            rehearsal,
            withheld: Vec::new(),
            withheld_changed: false,
            handed_over: Vec::new(),
            relayed: Vec::new(),
            remote: None,
            remote_addresses: Vec::new(),
            remote_relayed: Vec::new(),
            held: Vec::new(),
            early: Vec::new(),
            genuine: Vec::new(),
            moves: 0,
            replays: Replays::default(),
            chosen: None,
            chosen_local: None,
            fallback: None,
            search_until: None,
            haste_until: None,
            spare_until: None,
            role,
            deferred: Deferred::default(),
            outputs: VecDeque::new(),
        };
        ice.search();
        ice
    }

    /// User name fragment and password of this end.
    pub(super) fn credentials(&self) -> (String, String) {
        let creds = self.agent.local_credentials();
        (creds.ufrag.clone(), creds.pass.clone())
    }

    /// The other end's credentials, from signed signalling. Only the first count.
    pub(super) fn set_remote(&mut self, ufrag: String, pass: String, now: Instant) {
        if self.remote.is_some() {
            return;
        }
        let remote = IceCreds { ufrag, pass };
        self.agent.set_remote_credentials(remote.clone());
        self.remote = Some(remote);
        for candidate in std::mem::take(&mut self.held) {
            self.agent.add_remote_candidate(candidate);
        }
        self.begin(now);
    }

    /// Nothing comes on the path any more. All pairs are checked anew, whatever shows a way is followed, and a path through
    /// a relay that has worked is taken at once.
    pub(super) fn suspect(&mut self, now: Instant) {
        self.agent.recreate_candidate_pairs();
        let was_direct = self.chosen >= Some(Clue::Answered);
        (self.chosen, self.chosen_local) = (None, None);
        (self.search_until, self.spare_until) = (None, None);
        self.search();
        let fallback = self.fallback.filter(|(local, _)| was_direct && self.is_relayed(*local));
        if let Some((local, remote)) = fallback {
            self.consider(Clue::Answered, remote, local);
        }
        if self.remote.is_some() {
            self.begin(now);
        }
    }

    /// The other end's candidates are these from now on, from signed signalling: it has moved. Returns how many are refused,
    /// which are all beyond [`MAX_MOVES`].
    pub(super) fn replace_remote(&mut self, lines: &[String], now: Instant) -> usize {
        if self.moves == MAX_MOVES {
            return lines.len();
        }
        self.moves += 1;
        let before = std::mem::take(&mut self.remote_addresses);
        self.remote_relayed.clear();
        self.held.clear();
        // They have to prove themselves again.
        self.genuine.clear();
        let told = |line: &String| Candidate::from_sdp_string(line).ok().map(|candidate| candidate.addr());
        let stays: Vec<_> = lines.iter().filter_map(told).collect();
        let is_gone = |c: &Candidate| before.contains(&c.addr()) && !stays.contains(&c.addr());
        let gone: Vec<_> = self.agent.remote_candidates().filter(is_gone).collect();
        for candidate in &gone {
            self.agent.invalidate_candidate(candidate);
        }
        let refused = lines.iter().filter(|line| !self.add_remote(line, now)).count();
        self.suspect(now);
        refused
    }

    /// Takes a candidate line of the other end, from signed signalling. False if it is refused.
    pub(super) fn add_remote(&mut self, line: &str, now: Instant) -> bool {
        if line.len() > MAX_LINE || self.remote_addresses.len() >= MAX_REMOTE {
            return false;
        }
        let Ok(candidate) = Candidate::from_sdp_string(line) else { return false };
        let address = candidate.addr();
        if candidate.proto() != Protocol::Udp || !is_usable(address, self.allow_loopback) {
            return false;
        }
        if self.remote_addresses.contains(&address) {
            // Its own address, if it is told as that as well.
            if candidate.kind() == CandidateKind::Host {
                self.deferred.note(address, false);
            }
            return true;
        }
        self.remote_addresses.push(address);
        self.deferred.note(address, candidate.kind() == CandidateKind::ServerReflexive);
        // Where a check has come from already, one of ours is on its way. A candidate in the place of the one that the agent has made of
        // it would have that sent anew, and its answer not counted: a round trip lost. A relay's has to be known as such.
        let shown = |c: &Candidate| c.kind() == CandidateKind::PeerReflexive && c.addr() == address;
        if candidate.kind() == CandidateKind::Relayed {
            self.remote_relayed.push(address);
        } else if self.agent.remote_candidates().any(|candidate| shown(&candidate)) {
            return true;
        }
        if self.remote.is_some() {
            self.agent.add_remote_candidate(candidate);
            self.begin(now);
        } else {
            self.held.push(candidate);
        }
        true
    }

    /// Takes a STUN message that is not an answer of a server.
    pub(super) fn handle_stun(&mut self, now: Instant, message: &StunIn) {
        for (local, remote, bytes) in self.deferred.heard(message.source) {
            self.outputs.push_back(IceOutput::Transmit { local, remote, bytes });
        }
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
        let visible = self.shows_itself() || self.is_relayed(message.local);
        if self.remote.is_some() && visible {
            self.take(now, message, stun, clue);
        } else if clue.is_some() && !self.relay_only && self.early.len() < MAX_EARLY {
            self.early.push(message.clone());
        }
    }

    /// Takes an authenticated message that may be answered.
    fn take(&mut self, now: Instant, message: &StunIn, stun: StunMessage<'_>, clue: Option<Clue>) {
        if !self.prove(message.source) {
            return;
        }
        if let Some(clue) = clue {
            self.consider(clue, message.source, message.local);
        }
        let packet = StunPacket {
            proto: Protocol::Udp,
            source: message.source,
            destination: message.local,
            message: stun,
        };
        self.agent.handle_packet(now, packet);
        self.handle_timeout(now);
    }

    /// Lets time pass.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.haste_until.take_if(|until| *until <= now).is_some() {
            self.agent.set_max_stun_rto(SEARCH_RTO);
        }
        if self.search_until.is_some_and(|until| until <= now) {
            self.keep();
        }
        if self.remote.is_some() {
            self.agent.handle_timeout(now);
        }
    }

    /// When [`Ice::handle_timeout`] should be called next.
    pub(super) fn poll_timeout(&mut self) -> Option<Instant> {
        self.remote.as_ref()?;
        self.agent.poll_timeout().into_iter().chain(self.deferred.due()).min()
    }

    /// What to do now; ask until there is nothing left.
    pub(super) fn poll_output(&mut self, now: Instant) -> Option<IceOutput> {
        while let Some(event) = self.agent.poll_event() {
            match event {
                IceAgentEvent::NominatedSend { source, destination, .. } => {
                    self.nominate(source, destination, now)
                }
                IceAgentEvent::IceRestart(_)
                | IceAgentEvent::IceConnectionStateChange(_)
                | IceAgentEvent::DiscoveredRecv { .. } => {}
            }
        }
        for (local, remote, bytes) in self.deferred.release(now) {
            self.outputs.push_back(IceOutput::Transmit { local, remote, bytes });
        }
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        loop {
            let transmit = self.agent.poll_transmit()?;
            let (local, remote, bytes) =
                (transmit.source, transmit.destination, Vec::from(transmit.contents));
            let is_check = StunMessage::parse(&bytes).is_ok_and(|message| message.is_binding_request());
            if is_check && self.is_spared(local, remote, now) {
                continue;
            }
            // It will be on its way before its answer can come.
            self.replays.sent(&bytes, remote);
            let message = (local, remote, bytes);
            let held =
                if is_check && !self.is_relayed(local) { self.deferred.hold(message) } else { Some(message) };
            if let Some((local, remote, bytes)) = held {
                return Some(IceOutput::Transmit { local, remote, bytes });
            }
        }
    }

    /// Our addresses are about to be shown: checks nothing with one end at a relay for a while, if a path with both works. See
    /// [`SPARE`].
    fn spare(&mut self, now: Instant) {
        let meets = |(local, remote): (SocketAddr, SocketAddr)| {
            self.is_relayed(local) && self.remote_relayed.contains(&remote)
        };
        let works = Some(Clue::AnsweredByRelay) <= self.chosen && self.chosen < Some(Clue::Answered);
        let is_relayed = works && self.fallback.is_some_and(meets);
        self.spare_until = is_relayed.then_some(now + SPARE);
        if let Some(rtt) = self.rtt().filter(|_| is_relayed) {
            self.deferred.begin(self.role, now, rtt);
        }
    }

    /// Whether a check stays away as if it were lost. The agent repeats it soon enough.
    fn is_spared(&mut self, local: SocketAddr, remote: SocketAddr, now: Instant) -> bool {
        self.spare_until.take_if(|until| *until <= now);
        self.spare_until.is_some() && self.is_relayed(local) != self.remote_relayed.contains(&remote)
    }

    /// The round-trip time that the checks measured on the nominated pair.
    pub(super) fn rtt(&self) -> Option<Duration> {
        self.agent.nominated_pair_rtt()
    }

    /// Whether our own addresses take part.
    fn shows_itself(&self) -> bool {
        self.disclosed && !self.relay_only
    }

    fn is_relayed(&self, local: SocketAddr) -> bool {
        self.relayed.iter().any(|relayed| relayed.address == local)
    }

    /// There are new pairs to be checked, and perhaps checks to be answered.
    fn begin(&mut self, now: Instant) {
        if self.chosen < Some(Clue::Nominated) {
            self.search();
            self.search_until = Some(now + SEARCH).filter(|_| self.chosen.is_some());
        }
        if self.shows_itself() && self.chosen < Some(Clue::Answered) {
            self.haste_until = Some(now + HASTE);
            self.agent.set_max_stun_rto(HASTE_RTO);
        }
        self.tell_targets();
        for message in std::mem::take(&mut self.early) {
            let Ok(stun) = StunMessage::parse(&message.bytes) else { continue };
            if !self.shows_itself() && !self.is_relayed(message.local) {
                self.early.push(message);
            } else if self.agent.accepts_message(&stun) {
                let told = self.remote_addresses.contains(&message.source);
                self.take(now, &message, stun, Some(if told { Clue::Told } else { Clue::Shown }));
            }
        }
        self.agent.handle_timeout(now);
    }

    fn search(&mut self) {
        self.agent.set_max_stun_rto(SEARCH_RTO);
        self.agent.set_max_stun_retransmits(SEARCH_RETRANSMITS);
    }

    fn keep(&mut self) {
        (self.search_until, self.haste_until) = (None, None);
        self.agent.set_max_stun_rto(KEEP_RTO);
        self.agent.set_max_stun_retransmits(KEEP_RETRANSMITS);
    }

    /// Names the addresses that are worth a try before any check has come back.
    fn tell_targets(&mut self) {
        if self.chosen >= Some(Clue::NominatedByRelay) || self.remote.is_none() || !self.shows_itself() {
            return;
        }
        let told =
            |c: &Candidate| self.remote_addresses.contains(&c.addr()) && c.kind() != CandidateKind::Relayed;
        let mut remotes: Vec<_> = self.agent.remote_candidates().filter(told).collect();
        // What a server saw works across NATs and is one address each; of a host's own many lead nowhere.
        remotes.sort_by_key(|candidate| candidate.kind() == CandidateKind::Host);
        let targets: Vec<_> = remotes.iter().map(|candidate| candidate.addr()).take(MAX_TRIAL).collect();
        if !targets.is_empty() {
            self.outputs.push_back(IceOutput::Told(targets));
        }
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
        let path = self.path(local, source);
        let clue = match (clue, &path) {
            (Clue::Answered, Path::Relayed { .. }) => Clue::AnsweredByRelay,
            (clue, Path::Tunnel | Path::Relayed { .. } | Path::Direct { .. }) => clue,
        };
        if clue == Clue::AnsweredByRelay {
            self.fallback = Some((local, source));
        }
        if self.chosen < Some(clue) {
            (self.chosen, self.chosen_local) = (Some(clue), Some(local));
            self.outputs.push_back(IceOutput::Path(path));
        }
    }

    fn nominate(&mut self, local: SocketAddr, remote: SocketAddr, now: Instant) {
        self.prove(remote);
        let path = self.path(local, remote);
        let clue = match path {
            Path::Tunnel | Path::Relayed { .. } => Clue::NominatedByRelay,
            Path::Direct { .. } => Clue::Nominated,
        };
        // A direct path that works both ways is as good as nominated; only its end brings a relay back.
        if self.chosen == Some(Clue::Answered) && clue == Clue::NominatedByRelay {
            return;
        }
        (self.chosen, self.chosen_local) = (Some(clue), Some(local));
        match clue {
            Clue::NominatedByRelay if self.shows_itself() => {
                self.search_until.get_or_insert(now + SEARCH);
            }
            Clue::Shown
            | Clue::Told
            | Clue::AnsweredByRelay
            | Clue::NominatedByRelay
            | Clue::Answered
            | Clue::Nominated => self.keep(),
        }
        self.outputs.push_back(IceOutput::Path(path));
    }

    fn path(&self, local: SocketAddr, remote: SocketAddr) -> Path {
        if let Some(ours) = self.relayed.iter().find(|relayed| relayed.address == local) {
            return Path::Relayed { relay: ours.relay.clone(), transport: ours.transport, local, remote };
        }
        if self.remote_relayed.contains(&remote) {
            return Path::Relayed {
                relay: Arc::from(THEIR_RELAY),
                transport: RelayTransport::Udp,
                local,
                remote,
            };
        }
        Path::Direct { local, remote }
    }
}

#[cfg(test)]
mod tests;
