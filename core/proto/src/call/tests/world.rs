//! Terminals on a virtual network with a virtual clock, and the watch over what they do.
//!
//! The network loses, repeats, delays and reorders packets, and says that a terminal is not connected, as a seeded
//! generator decides. Media connections are simulated by what the machine sees of them. [`Watch`] checks with
//! every output what must never happen.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::chance::{Rng, Weather};
pub(super) use super::crafted::{call_id, craft, ignore, invite, offer};
use super::party::{Party, WALL};
use crate::call::{
    CallConfig, CallEvent, CallState, Caller, Calls, EndReason, EndedBy, LegId, LookupEnd, Now, Output, Peer,
    Role, Source, TextFailure, TextKept, TextKey,
};
use crate::puzzle::{Challenge, Solution};
use crate::signalling::{CallId, LastWord, Message, Opened, Packet, RejectReason, TextId};
use crate::wire::UnixMillis;

/// A candidate that tells where its terminal is, and one that does not.
pub(super) const HOST: &str = "candidate:1 1 udp 1 192.0.2.1 9 typ host";
pub(super) const RELAYED: &str = "candidate:2 1 udp 1 198.51.100.1 49152 typ relay raddr 0.0.0.0 rport 9";

/// What is going to happen.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    Packet { to: usize, from: usize, packet: Box<Packet> },
    SendFailed { at: usize, leg: LegId, tried: Arc<Peer> },
    SetOffer { at: usize, leg: LegId },
    Candidates { at: usize, leg: LegId },
    MediaReady { at: usize, leg: LegId },
    MediaFailed { at: usize, leg: LegId },
    MediaLost { at: usize, leg: LegId },
    MediaClosed { at: usize, leg: LegId, last: Option<LastWord> },
    TextKept { at: usize, key: TextKey, id: TextId, outcome: TextKept },
    Found { at: usize, call: CallId, account: usize, terminal: usize, source: Source },
    LookupFinished { at: usize, call: CallId, end: LookupEnd },
    User { at: usize, act: Act },
    Worked { at: usize, call: CallId, challenge: Challenge },
}

/// What a user does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Dial { account: usize },
    Accept { call: CallId },
    Reject { call: CallId },
    HangUp { call: CallId },
    Text { call: CallId },
    TextTo { account: usize },
    Dtmf { call: CallId },
    Hold { call: CallId },
    Transfer { call: CallId, account: usize },
    TransferTo { call: CallId, with: CallId },
    Follow { call: CallId },
}

/// What the world knows of a leg's media at one terminal.
#[derive(Debug, Default)]
pub(super) struct MediaEnd {
    role: Option<Role>,
    pub disclosed: bool,
    remote_offer: bool,
    ready_at: Option<Duration>,
    stopped: bool,
    audio: bool,
    audio_at: Option<Duration>,
    /// Candidates of the other side as they came: how many, and whether they took the place of earlier ones.
    pub shown: Vec<(usize, bool)>,
}

/// What the application of one terminal has seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Calls that are announced and not ended.
    pub live: BTreeSet<CallId>,
    pub accepted: BTreeSet<CallId>,
    pub connected: BTreeSet<CallId>,
    pub ended: BTreeMap<CallId, (EndReason, EndedBy)>,
    pub events: Vec<CallEvent>,
    /// Texts that the machine handed out to be kept.
    pub handed: BTreeSet<TextId>,
    /// Texts on disk, in the order in which they came there.
    pub texts: Vec<TextId>,
    pub text_results: BTreeMap<TextId, Result<(), TextFailure>>,
    pub texts_sent: BTreeSet<TextId>,
}

pub(super) struct Terminal {
    pub calls: Calls,
    pub party: &'static Party,
    pub account: usize,
    pub seen: Seen,
    pub media: BTreeMap<LegId, MediaEnd>,
    /// Legs of which a verified accept came in (caller) or went out (callee).
    accepts: BTreeSet<LegId>,
    /// Legs on which it said that somebody hung up.
    pub hung_up: BTreeSet<LegId>,
    /// Difference of the wall clock to the true time, milliseconds.
    pub skew: i64,
    /// Its program is of a version that knows nothing of transfers.
    pub old: bool,
    /// Packets to it vanish; after a while they meet "not connected".
    pub dead: bool,
    /// Datagrams that came through the tunnel.
    pub tunnelled: usize,
    woken: (Duration, u32),
}

impl Terminal {
    pub fn media_all_stopped(&self) -> bool {
        self.media.values().all(|end| end.stopped)
    }
}

pub(super) struct World {
    pub start: Instant,
    pub time: Duration,
    pub rng: Rng,
    pub weather: Weather,
    pub terminals: Vec<Terminal>,
    /// Packets sent, kind by kind, for tests that look at the wire.
    pub sent: Vec<(usize, Packet)>,
    pub record: bool,
    /// Packets that the filter returns true for are lost.
    pub filter: Option<fn(&World, usize, &Packet) -> bool>,
    /// Accounts that are contacts of each other.
    pub contacts: bool,
    /// Everybody refuses everybody.
    pub refusal: Option<RejectReason>,
    pub users: bool,
    /// What terminals ask of whoever calls, bits; and by how much the price has risen when it is paid.
    pub toll: BTreeMap<usize, u8>,
    pub rise: u8,
    /// How long it takes to solve a puzzle; `None`: it is given up.
    pub solving: Option<Duration>,
    /// Print what happens.
    pub trace: bool,
    queue: BinaryHeap<Reverse<(Duration, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    order: u64,
}

impl World {
    /// A world of terminals (account, terminal), in fine weather.
    pub fn new(seed: u64, terminals: &[(usize, usize)], config: &CallConfig) -> Self {
        let terminals = terminals
            .iter()
            .map(|(account, terminal)| {
                let party = Party::get(*account, *terminal);
                Terminal {
                    calls: Calls::new(config.clone(), party.local.clone()),
                    party,
                    account: *account,
                    seen: Seen::default(),
                    media: BTreeMap::new(),
                    accepts: BTreeSet::new(),
                    hung_up: BTreeSet::new(),
                    skew: 0,
                    old: false,
                    dead: false,
                    tunnelled: 0,
                    woken: (Duration::ZERO, 0),
                }
            })
            .collect();
        Self {
            start: Instant::now(),
            time: Duration::ZERO,
            rng: Rng::new(seed),
            weather: Weather::FINE,
            terminals,
            sent: Vec::new(),
            record: false,
            filter: None,
            contacts: true,
            refusal: None,
            users: false,
            toll: BTreeMap::new(),
            rise: 0,
            solving: Some(Duration::from_millis(300)),
            trace: false,
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            order: 0,
        }
    }

    pub fn now(&self, at: usize) -> Now {
        let millis = i64::try_from(WALL.0).unwrap() + i64::try_from(self.time.as_millis()).unwrap();
        let wall = UnixMillis(u64::try_from(millis + self.terminals[at].skew).unwrap());
        Now { instant: self.start + self.time, wall }
    }

    pub fn schedule(&mut self, after: Duration, happening: Happening) {
        self.order += 1;
        self.queue.push(Reverse((self.time + after, self.order)));
        self.happenings.insert(self.order, happening);
    }

    pub fn act(&mut self, at: usize, act: Act) {
        self.happen(Happening::User { at, act });
    }

    /// Lets things happen until `end`, or until nothing is left to happen.
    pub fn run_until(&mut self, end: Duration) {
        loop {
            let timer = self.next_timer();
            let queued = self.queue.peek().map(|Reverse((time, _))| *time);
            let next = [timer.map(|(time, _)| time), queued].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.time = self.time.max(next);
            match timer {
                Some((time, at)) if time <= next => self.wake(at),
                Some(_) | None => {
                    let Some(Reverse((_, order))) = self.queue.pop() else { continue };
                    if let Some(happening) = self.happenings.remove(&order) {
                        self.happen(happening);
                    }
                }
            }
        }
        self.time = self.time.max(end);
    }

    pub fn run_for(&mut self, time: Duration) {
        self.run_until(self.time + time);
    }

    pub fn run_ms(&mut self, ms: u64) {
        self.run_for(Duration::from_millis(ms));
    }

    fn next_timer(&self) -> Option<(Duration, usize)> {
        let timers = self.terminals.iter().enumerate().filter_map(|(at, terminal)| {
            let time = terminal.calls.poll_timeout()?;
            Some((time.saturating_duration_since(self.start), at))
        });
        timers.min()
    }

    fn wake(&mut self, at: usize) {
        let (last, count) = self.terminals[at].woken;
        let count = if last == self.time { count + 1 } else { 0 };
        assert!(count < 10, "timers of terminal {at} never advance");
        self.terminals[at].woken = (self.time, count);
        let now = self.now(at);
        self.terminals[at].calls.handle_timeout(now);
        self.drain(at);
    }

    fn happen(&mut self, happening: Happening) {
        let at = match &happening {
            Happening::Packet { to, .. } => *to,
            Happening::SendFailed { at, .. }
            | Happening::SetOffer { at, .. }
            | Happening::Candidates { at, .. }
            | Happening::MediaReady { at, .. }
            | Happening::MediaFailed { at, .. }
            | Happening::MediaLost { at, .. }
            | Happening::MediaClosed { at, .. }
            | Happening::TextKept { at, .. }
            | Happening::Found { at, .. }
            | Happening::LookupFinished { at, .. }
            | Happening::Worked { at, .. }
            | Happening::User { at, .. } => *at,
        };
        let now = self.now(at);
        if self.trace {
            println!("{:>7} ms  {happening:?}", self.time.as_millis());
        }
        match happening {
            Happening::Packet { to, from, packet } => self.deliver(to, from, *packet),
            Happening::SendFailed { leg, tried, .. } => {
                self.terminals[at].calls.send_failed(now, leg, &tried);
            }
            Happening::SetOffer { leg, .. } => ignore(self.terminals[at].calls.set_offer(now, leg, offer())),
            Happening::Candidates { leg, .. } => {
                let list = [HOST, RELAYED, HOST].map(str::to_owned).to_vec();
                ignore(self.terminals[at].calls.local_candidates(now, leg, list));
            }
            Happening::MediaReady { leg, .. } => self.terminals[at].calls.media_ready(now, leg),
            Happening::MediaFailed { leg, .. } => self.terminals[at].calls.media_failed(now, leg),
            Happening::MediaLost { leg, .. } => self.terminals[at].calls.media_lost(now, leg),
            Happening::MediaClosed { leg, last, .. } => {
                self.terminals[at].calls.media_closed(now, leg, last);
            }
            Happening::TextKept { key, id, outcome, .. } => {
                if outcome == TextKept::Kept {
                    self.terminals[at].seen.texts.push(id);
                }
                self.terminals[at].calls.text_kept(now, key, outcome);
            }
            Happening::Found { call, account, terminal, source, .. } => {
                let peer = Party::get(account, terminal).peer.clone();
                ignore(self.terminals[at].calls.found(now, call, peer, source));
            }
            Happening::LookupFinished { call, end, .. } => {
                ignore(self.terminals[at].calls.lookup_finished(now, call, end));
            }
            Happening::Worked { call, challenge, .. } => {
                let next = CallId::from_bytes(self.rng.bytes());
                let (calls, solution) = (&mut self.terminals[at].calls, Solution { challenge, nonce: 7 });
                ignore(match self.solving {
                    Some(_) => calls.worked(now, call, next, solution),
                    None => calls.gave_up(now, call),
                });
            }
            Happening::User { act, .. } => self.user_acts(at, act),
        }
        self.drain(at);
    }

    fn deliver(&mut self, to: usize, from: usize, mut packet: Packet) {
        let unknown =
            |message: &mut Message| message.kind().contains("transfer") || message.kind() == "expect";
        if self.terminals[to].old {
            // As the decoder of such a version reads it.
            packet.message.take_if(unknown);
        }
        let leg = LegId { call: packet.call, terminal: packet.from };
        let accept = matches!(packet.message, Some(Message::Accept { .. }));
        let opened: Opened = self.terminals[from].party.opened(packet);
        let known = self.terminals[to].calls.knows(&leg.call, &leg.terminal);
        if opened.intro.is_none() && !known {
            return;
        }
        if accept {
            self.terminals[to].accepts.insert(leg);
        }
        let friend = if self.contacts { Caller::Contact } else { Caller::Stranger };
        let caller = self.refusal.map_or(friend, Caller::Refused);
        let now = self.now(to);
        if !known && let Some(output) = self.toll_of(to, now, &opened) {
            return self.carry_out(to, output);
        }
        self.terminals[to].calls.handle_packet(now, opened, caller);
    }

    pub fn drain(&mut self, at: usize) {
        let mut outputs = 0;
        while let Some(output) = self.terminals[at].calls.poll_output() {
            outputs += 1;
            assert!(outputs < 200, "one input makes hundreds of outputs");
            self.carry_out(at, output);
        }
        let load = self.terminals[at].calls.load();
        assert!(load.legs <= 128 && load.calls <= 16 && load.remembered <= 512, "bounds: {load:?}");
    }

    fn carry_out(&mut self, at: usize, output: Output) {
        if self.trace {
            match &output {
                Output::Transmit { packet, .. } => println!("{:>12} {at} sends {packet:?}", ""),
                other => println!("{:>12} {at} {other:?}", ""),
            }
        }
        match output {
            Output::Transmit { leg, peer, packet } => self.transmit(at, leg, peer, packet),
            Output::PrepareMedia { leg, role, disclose } => {
                let end = MediaEnd { role: Some(role), disclosed: disclose, ..MediaEnd::default() };
                assert!(self.terminals[at].media.insert(leg, end).is_none(), "media prepared twice");
                let delay = self.rng.ms(0, 15);
                let fails = self.rng.chance(self.weather.no_device);
                self.schedule(
                    delay,
                    if fails { Happening::MediaFailed { at, leg } } else { Happening::SetOffer { at, leg } },
                );
                self.schedule(delay + Duration::from_millis(5), Happening::Candidates { at, leg });
            }
            Output::RemoteOffer { leg, .. } => {
                let end = self.open_media(at, leg);
                assert!(!std::mem::replace(&mut end.remote_offer, true), "two offers on a leg");
                self.media_may_connect(at, leg);
            }
            Output::RemoteCandidates { leg, list, anew } => {
                self.open_media(at, leg).shown.push((list.len(), anew));
            }
            Output::Disclose { leg } => {
                let end = self.open_media(at, leg);
                assert!(!std::mem::replace(&mut end.disclosed, true), "disclosed twice");
                self.media_may_connect(at, leg);
            }
            Output::Tunnel { leg, .. } => {
                self.open_media(at, leg);
                self.terminals[at].tunnelled += 1;
            }
            Output::StartAudio { leg } => self.start_audio(at, leg),
            Output::Work { call, challenge } => {
                let delay = self.solving.unwrap_or(Duration::from_millis(100));
                self.schedule(delay, Happening::Worked { at, call, challenge });
            }
            Output::StopMedia { leg, last } => self.stop_media(at, leg, last),
            Output::KeepText { key, text } => {
                assert!(self.terminals[at].seen.handed.insert(text.id), "a text arrived twice");
                let slow = if self.rng.chance(50) { 3000 } else { 20 };
                let outcome =
                    if self.rng.chance(self.weather.no_disk) { TextKept::Failed } else { TextKept::Kept };
                let delay = self.rng.ms(0, slow);
                self.schedule(delay, Happening::TextKept { at, key, id: text.id, outcome });
            }
            Output::Event(event) => self.event(at, event),
        }
    }

    fn open_media(&mut self, at: usize, leg: LegId) -> &mut MediaEnd {
        let end = self.terminals[at].media.get_mut(&leg).expect("media were prepared before");
        assert!(!end.stopped, "media were stopped before");
        end
    }

    fn start_audio(&mut self, at: usize, leg: LegId) {
        assert!(self.terminals[at].accepts.contains(&leg), "audio before the accept");
        let time = self.time;
        let end = self.open_media(at, leg);
        assert!(!std::mem::replace(&mut end.audio, true), "audio started twice");
        end.audio_at = Some(time);
        let caller = end.role == Some(Role::Caller);
        let media = &self.terminals[at].media;
        let winners = media.iter().filter(|(id, end)| id.call == leg.call && end.audio).count();
        assert!(!caller || winners == 1, "two winners of a fork");
    }

    fn stop_media(&mut self, at: usize, leg: LegId, last: Option<LastWord>) {
        self.open_media(at, leg).stopped = true;
        let (other, mirror) = self.mirror(at, leg);
        let Some(other) = other else { return };
        // The other end's media notice sooner or later that this one is gone.
        if self.terminals[other].media.get(&mirror).is_some_and(|end| !end.stopped && end.ready_at.is_some())
        {
            let delay = self.rng.ms(30, 6000);
            let said = self.rng.chance(500);
            self.schedule(
                delay,
                if said {
                    Happening::MediaClosed { at: other, leg: mirror, last }
                } else {
                    Happening::MediaLost { at: other, leg: mirror }
                },
            );
        }
    }

    /// The other end of a leg: which terminal, and what the leg is called there.
    fn mirror(&self, at: usize, leg: LegId) -> (Option<usize>, LegId) {
        let other = self.terminals.iter().position(|terminal| terminal.party.local.terminal == leg.terminal);
        (other, LegId { call: leg.call, terminal: self.terminals[at].party.local.terminal })
    }

    /// Both ends know each other's parameters and may show their addresses: the connection comes up, or not.
    fn media_may_connect(&mut self, at: usize, leg: LegId) {
        let (Some(other), mirror) = self.mirror(at, leg) else { return };
        let open = |end: &MediaEnd| end.remote_offer && end.disclosed && !end.stopped;
        let here = self.terminals[at].media.get(&leg).is_some_and(open);
        let there = self.terminals[other].media.get(&mirror).is_some_and(open);
        if !here || !there || self.rng.chance(self.weather.no_media) {
            return;
        }
        for (at, leg) in [(at, leg), (other, mirror)] {
            let delay = self.rng.ms(20, 400);
            let ready_at = Some(self.time + delay);
            if let Some(end) = self.terminals[at].media.get_mut(&leg) {
                end.ready_at = ready_at;
            }
            self.schedule(delay, Happening::MediaReady { at, leg });
        }
        if self.rng.chance(self.weather.breaks) {
            let delay = self.rng.ms(400, 20_000);
            self.schedule(delay, Happening::MediaLost { at, leg });
        }
    }

    fn transmit(&mut self, at: usize, leg: LegId, tried: Arc<Peer>, packet: Packet) {
        packet.check().expect("what the machine sends is within the limits");
        self.check_privacy(at, leg, &packet);
        self.check_farewell(at, leg, &packet);
        if matches!(packet.message, Some(Message::Accept { .. })) {
            self.terminals[at].accepts.insert(leg);
        }
        if self.record {
            self.sent.push((at, packet.clone()));
        }
        let to = self.terminals.iter().position(|terminal| terminal.party.local.terminal == packet.to);
        let Some(to) = to.filter(|to| !self.terminals[*to].dead) else {
            let delay = self.rng.ms(50, 300);
            self.schedule(delay, Happening::SendFailed { at, leg, tried });
            return;
        };
        if self.filter.is_some_and(|lost| lost(self, at, &packet)) || self.rng.chance(self.weather.loss) {
            return;
        }
        if self.rng.chance(self.weather.refuse) {
            let delay = self.rng.ms(20, 200);
            self.schedule(delay, Happening::SendFailed { at, leg, tried });
            return;
        }
        let packet = Box::new(packet);
        if self.rng.chance(self.weather.duplicate) {
            let delay = self.rng.ms(self.weather.delay.0, self.weather.delay.1 * 2 + 500);
            self.schedule(delay, Happening::Packet { to, from: at, packet: packet.clone() });
        }
        let delay = self.rng.ms(self.weather.delay.0, self.weather.delay.1);
        self.schedule(delay, Happening::Packet { to, from: at, packet });
    }

    /// The call that began to ring last at a terminal.
    pub fn incoming(&self, at: usize) -> Option<CallId> {
        self.terminals[at].seen.events.iter().rev().find_map(|event| match event {
            CallEvent::Incoming { call, .. } => Some(*call),
            _ => None,
        })
    }

    /// How often it began to ring at a terminal.
    pub fn rings(&self, at: usize) -> usize {
        self.terminals[at]
            .seen
            .events
            .iter()
            .filter(|event| matches!(event, CallEvent::Incoming { .. }))
            .count()
    }

    /// Where a call stands that the application knows.
    pub fn state(&self, at: usize, call: CallId) -> Option<CallState> {
        self.terminals[at].calls.state(call)
    }

    /// How a call ended.
    pub fn ended(&self, at: usize, call: CallId) -> Option<(EndReason, EndedBy)> {
        self.terminals[at].seen.ended.get(&call).copied()
    }

    /// When audio started at a terminal, in order.
    pub fn audio(&self, at: usize) -> Vec<Duration> {
        let mut times: Vec<_> = self.terminals[at].media.values().filter_map(|end| end.audio_at).collect();
        times.sort();
        times
    }

    /// Kinds of the messages that a terminal sent, repetitions included, without mere acknowledgements.
    pub fn kinds(&self, from: usize) -> Vec<&'static str> {
        let sent = self.sent.iter().filter(|(at, _)| *at == from);
        sent.filter_map(|(_, packet)| packet.message.as_ref().map(Message::kind)).collect()
    }

    /// Candidates that a terminal sent, repetitions included.
    pub fn candidates(&self, from: usize) -> Vec<String> {
        let sent = self.sent.iter().filter(|(at, _)| *at == from);
        let lists = sent.filter_map(|(_, packet)| match &packet.message {
            Some(
                Message::Invite { candidates: list, .. }
                | Message::Ringing { candidates: list, .. }
                | Message::Accept { candidates: list, .. }
                | Message::Confirm { candidates: list }
                | Message::Candidates { list, .. },
            ) => Some(list.clone()),
            _ => None,
        });
        lists.flatten().collect()
    }

    /// Gives a terminal a packet as if it had arrived.
    pub fn inject(&mut self, to: usize, from: &Party, packet: Packet, caller: Caller) {
        let now = self.now(to);
        self.terminals[to].calls.handle_packet(now, from.opened(packet), caller);
        self.drain(to);
    }

    /// Nothing is left to do at any terminal.
    pub fn assert_idle(&self) {
        for (at, terminal) in self.terminals.iter().enumerate() {
            assert!(terminal.calls.is_idle(), "terminal {at}: {:?}", terminal.calls.load());
            assert_eq!(terminal.calls.poll_timeout(), None);
            assert!(terminal.seen.live.is_empty() && terminal.media_all_stopped());
        }
    }
}
