//! The call machine: any inputs in any order, from the user, the look-up, media and hostile terminals.
#![no_main]

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use libfuzzer_sys::arbitrary::{self, Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use offhook_proto::call::{
    CallConfig, CallEvent, Caller, Calls, Distrust, LegId, LocalParty, LookupEnd, Now, Output, Peer, Source,
    TextKept, TextKey,
};
use offhook_proto::identity::{IdentityId, IdentityKey, SealKey, SignedCert, TerminalId, TerminalKey};
use offhook_proto::number::{Number, PlainNumber};
use offhook_proto::proof::{NumberProof, PlainProof};
use offhook_proto::puzzle::{Challenge, PuzzleKey, Solution, Subject};
use offhook_proto::signalling::{
    ByeReason, CallId, CancelReason, Codec, Introduction, LastWord, MediaOffer, Message, Opened, Packet,
    Presence, PresenceCode, PresenceTold, RecordingState, RejectReason, Successor, TextId, Token, TransferId,
    TransferStep, VerifiedIntro,
};
use offhook_proto::wire::UnixMillis;

const WALL: UnixMillis = UnixMillis(1_800_000_000_000);

struct Party {
    intro: Arc<Introduction>,
    verified: Arc<VerifiedIntro>,
    peer: Peer,
}

static PARTIES: LazyLock<Vec<Party>> = LazyLock::new(|| (0..4).map(party).collect());

fn party(n: u8) -> Party {
    // The last two are terminals of one account.
    let identity = IdentityKey::from_seed([n.min(2); 32]);
    let terminal = TerminalKey::from_seed([n + 10; 32]).public();
    let seal = SealKey::from_seed([n; 32]).public();
    let intro = Introduction {
        number: Number::Plain(PlainNumber::from_index(u64::from(n.min(2)))),
        proof: NumberProof::Plain(PlainProof { nonce: 0 }),
        identity: identity.public(),
        cert: SignedCert::issue(&identity, terminal, seal, WALL),
        routes: Vec::new(),
        chosen: None,
    };
    let (record_key, proof) = intro.proof.check(&intro.number, &intro.identity, WALL).expect("same kinds");
    let verified = VerifiedIntro {
        number: intro.number.clone(),
        identity: intro.identity,
        cert: intro.cert.verify(WALL).expect("just issued"),
        routes: Vec::new(),
        record_key,
        proof,
        chosen: None,
    };
    let peer = Peer { identity: intro.identity, terminal, seal, routes: Vec::new() };
    Party { intro: Arc::new(intro), verified: Arc::new(verified), peer }
}

#[derive(Arbitrary, Debug)]
enum Input {
    Dial { call: u8, to: u8, contact: bool },
    TextTo { call: u8, to: u8, id: u8 },
    Found { call: u8, at: u8, cached: bool, moved: bool },
    Distrust { call: u8 },
    TextKept { kept: bool },
    LookupFinished { call: u8, end: u8 },
    Accept { call: u8 },
    Reject { call: u8, reason: u8 },
    HangUp { call: u8 },
    HangUpAll,
    Text { call: u8, id: u8 },
    Dtmf { call: u8 },
    Hold { call: u8 },
    Transfer { call: u8, to: u8, id: u8 },
    TransferTo { call: u8, with: u8, id: u8 },
    Follow { call: u8, new: u8 },
    DeclineTransfer { call: u8 },
    Presence { call: u8, to: u8, what: u8, here: bool },
    Packet(AnyPacket),
    SetOffer { leg: Leg },
    Candidates { leg: Leg, count: u8 },
    Tunnel { leg: Leg },
    MediaReady { leg: Leg },
    MediaFailed { leg: Leg },
    MediaLost { leg: Leg },
    MediaClosed { leg: Leg, code: u16 },
    SendFailed { leg: Leg },
    Time { ms: u16 },
    Timer,
    Worked { call: u8, next: u8 },
    GaveUp { call: u8 },
}

#[derive(Arbitrary, Debug)]
struct AnyPacket {
    from: u8,
    call: u8,
    seq: u8,
    ack: u8,
    age: i32,
    intro: u8,
    caller: u8,
    kind: u8,
    what: u8,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Leg {
    call: u8,
    at: u8,
}

fn who(n: u8) -> &'static Party {
    &PARTIES[usize::from(n % 4)]
}

/// Few ids, so that inputs meet.
fn call_id(n: u8) -> CallId {
    CallId::from_bytes([n % 6; 16])
}

fn leg(leg: Leg) -> LegId {
    LegId { call: call_id(leg.call), terminal: who(leg.at).peer.terminal }
}

/// Of few prices, some of them more than is ever done.
fn challenge(what: u8) -> Challenge {
    let subject = Subject::call(&IdentityId::from_bytes([1; 32]), &IdentityId::from_bytes([2; 32]));
    PuzzleKey::from_seed([3; 32]).challenge(&subject, what % 20, WALL)
}

fn offer() -> MediaOffer {
    let (ice_ufrag, ice_pwd) = ("u".repeat(4), "p".repeat(22));
    MediaOffer { ice_ufrag, ice_pwd, fingerprint: [0; 32], codecs: vec![Codec::Opus] }
}

fn message(kind: u8, what: u8, hash: [u8; 32]) -> Option<Message> {
    let list = vec!["c".to_owned(); usize::from(what % 17)];
    Some(match kind % 20 {
        0 => Message::Invite {
            offer: offer(),
            candidates: list,
            replaces: (what & 1 == 1).then(|| token(what)),
            solution: (what & 2 == 2)
                .then(|| Solution { challenge: challenge(what), nonce: u64::from(what) }),
        },
        1 => Message::Ringing { offer: offer(), candidates: list },
        2 => Message::Accept { invite_hash: if what == 0 { [0; 32] } else { hash }, candidates: list },
        3 => Message::Confirm { candidates: list },
        4 => {
            let reason = RejectReason::from_code(what % 11);
            let challenge = (reason == RejectReason::Work && what < 200).then(|| challenge(what));
            Message::Reject { reason, challenge }
        }
        5 => Message::Cancel { reason: CancelReason::from_code(what % 8) },
        6 => Message::Bye { reason: (what > 0).then(|| ByeReason::from_code(what % 8)) },
        7 => Message::Candidates { list, generation: u32::from(what / 17) },
        8 => Message::Text { id: TextId::from_bytes([what; 16]), body: "text".to_owned() },
        9 => Message::Dtmf { digit: '1', duration_ms: 100 },
        10 => Message::Hold { on: what & 1 == 0 },
        11 => Message::Mute { on: what & 1 == 0 },
        12 => Message::Tunnel { datagrams: vec![vec![what].into()] },
        13 => Message::TextRefused { id: TextId::from_bytes([what; 16]) },
        14 => {
            let peer = &who(what >> 4).peer;
            let successor = Successor { token: token(what), terminal: peer.terminal };
            let key = (what & 2 == 0).then(|| peer.identity.fingerprint());
            let number = who(what >> 4).intro.number.clone();
            let successor = (what & 4 == 0).then_some(successor);
            Message::Transfer { id: TransferId::from_bytes([what & 3; 16]), number, key, successor }
        }
        15 => {
            let (id, step) = (TransferId::from_bytes([what & 3; 16]), TransferStep::from_code(what >> 2));
            Message::TransferProgress { id, step }
        }
        17 => Message::Presence(presence(what)),
        16 => Message::Expect { token: token(what), identity: who(what >> 4).peer.identity },
        18 => Message::Recording { state: RecordingState::from_code(what % 5) },
        _ => return None,
    })
}

fn presence(what: u8) -> Presence {
    let told = PresenceTold {
        state: PresenceCode::from_code(what >> 5),
        note: "note".to_owned(),
        good_for: what.into(),
    };
    Presence { told: (what & 1 == 0).then_some(told), ask: what & 2 == 0, watch: what & 4 == 0 }
}

fn token(what: u8) -> Token {
    Token::from_bytes([what & 7; 16])
}

struct World {
    calls: Calls,
    me: TerminalId,
    now: Now,
    /// Of the last invite that was sent.
    hash: [u8; 32],
    open_media: usize,
    /// Texts that wait to be kept.
    texts: VecDeque<TextKey>,
    /// Asked of this terminal.
    work: Option<Challenge>,
}

impl World {
    fn new() -> Self {
        let me = who(0);
        let local = LocalParty { terminal: me.peer.terminal, intro: (*me.intro).clone() };
        let now = Now { instant: Instant::now(), wall: WALL };
        let config = CallConfig { max_calls: 3, ..CallConfig::default() };
        let calls = Calls::new(config, local);
        let texts = VecDeque::new();
        Self { calls, me: me.peer.terminal, now, hash: [0; 32], open_media: 0, texts, work: None }
    }

    fn input(&mut self, input: Input) {
        let now = self.now;
        let calls = &mut self.calls;
        match input {
            Input::Dial { call, to, contact } => {
                let _ = calls.dial(now, call_id(call), who(to).intro.number.clone(), contact);
            }
            Input::TextTo { call, to, id } => {
                let (number, id) = (who(to).intro.number.clone(), TextId::from_bytes([id; 16]));
                let _ = calls.text_to(now, call_id(call), number, id, "text".to_owned());
            }
            Input::Found { call, at, cached, moved } => {
                let mut peer = who(at).peer.clone();
                peer.routes
                    .extend(moved.then(|| "/ip4/192.0.2.7/udp/9/quic-v1".parse().expect("an address")));
                let source = if cached { Source::Cache } else { Source::Network };
                let _ = calls.found(now, call_id(call), peer, source);
            }
            Input::Distrust { call } => {
                let _ = calls.distrust(now, call_id(call), Distrust::Disputed);
            }
            Input::TextKept { kept } => {
                if let Some(key) = self.texts.pop_front() {
                    calls.text_kept(now, key, if kept { TextKept::Kept } else { TextKept::Failed });
                }
            }
            Input::LookupFinished { call, end } => {
                let ends =
                    [LookupEnd::WrongNumber, LookupEnd::NoTerminal, LookupEnd::Complete, LookupEnd::Failed];
                let _ = calls.lookup_finished(now, call_id(call), ends[usize::from(end % 4)]);
            }
            Input::Accept { call } => {
                let _ = calls.accept(now, call_id(call));
            }
            Input::Reject { call, reason } => {
                let _ = calls.reject(now, call_id(call), RejectReason::from_code(reason % 11));
            }
            Input::HangUp { call } => {
                let _ = calls.hang_up(now, call_id(call));
            }
            Input::HangUpAll => {
                calls.hang_up_all(now);
                assert_eq!(calls.list().count(), 0);
            }
            Input::Text { call, id } => {
                let _ = calls.text(now, call_id(call), TextId::from_bytes([id; 16]), "text".to_owned());
            }
            Input::Dtmf { call } => {
                let _ = calls.dtmf(now, call_id(call), '#', 100);
            }
            Input::Transfer { call, to, id } => {
                let (id, number) = (TransferId::from_bytes([id & 3; 16]), who(to).intro.number.clone());
                let _ = calls.transfer(now, call_id(call), id, number, None);
            }
            Input::TransferTo { call, with, id } => {
                let (id, token) = (TransferId::from_bytes([id & 3; 16]), token(id));
                let _ = calls.transfer_to(now, call_id(call), call_id(with), id, token);
            }
            Input::Follow { call, new } => {
                let _ = calls.follow(now, call_id(call), call_id(new), true);
            }
            Input::DeclineTransfer { call } => {
                let _ = calls.decline_transfer(now, call_id(call));
            }
            Input::Presence { call, to, what, here } => {
                let (call, number, what) = (call_id(call), who(to).intro.number.clone(), presence(what));
                let _ = match here {
                    true => calls.presence_at(now, call, number, who(to).peer.clone(), what),
                    false => calls.presence_to(now, call, number, what),
                };
            }
            Input::Worked { call, next } => {
                if let Some(challenge) = self.work.take() {
                    let solution = Solution { challenge, nonce: 0 };
                    let _ = calls.worked(now, call_id(call), call_id(next), solution);
                }
            }
            Input::GaveUp { call } => {
                let _ = calls.gave_up(now, call_id(call));
            }
            Input::Hold { call } => {
                let _ = calls.hold(now, call_id(call), true);
            }
            Input::Packet(packet) => self.packet(packet),
            Input::SetOffer { .. }
            | Input::Candidates { .. }
            | Input::Tunnel { .. }
            | Input::MediaReady { .. }
            | Input::MediaFailed { .. }
            | Input::MediaLost { .. }
            | Input::MediaClosed { .. }
            | Input::SendFailed { .. } => self.media(&input),
            Input::Time { ms } => self.pass(Duration::from_millis(ms.into())),
            Input::Timer => self.next_timer(),
        }
        self.drain();
    }

    fn media(&mut self, input: &Input) {
        let (now, calls) = (self.now, &mut self.calls);
        match *input {
            Input::SetOffer { leg: id } => {
                let _ = calls.set_offer(now, leg(id), offer());
            }
            Input::Candidates { leg: id, count } => {
                if count >= 200 {
                    let _ = calls.renew_candidates(leg(id));
                }
                let list = vec!["candidate".to_owned(); usize::from(count % 40)];
                let _ = calls.local_candidates(now, leg(id), list);
            }
            Input::Tunnel { leg: id } => {
                let _ = calls.tunnel(now, leg(id), vec![vec![1]]);
            }
            Input::MediaReady { leg: id } => calls.media_ready(now, leg(id)),
            Input::MediaFailed { leg: id } => calls.media_failed(now, leg(id)),
            Input::MediaLost { leg: id } => calls.media_lost(now, leg(id)),
            Input::MediaClosed { leg: id, code } => {
                calls.media_closed(now, leg(id), LastWord::from_code(code.into()));
            }
            Input::SendFailed { leg: id } => calls.send_failed(now, leg(id), &who(id.at).peer),
            Input::Dial { .. }
            | Input::TextTo { .. }
            | Input::Found { .. }
            | Input::Distrust { .. }
            | Input::TextKept { .. }
            | Input::LookupFinished { .. }
            | Input::Accept { .. }
            | Input::Reject { .. }
            | Input::HangUp { .. }
            | Input::HangUpAll
            | Input::Text { .. }
            | Input::Dtmf { .. }
            | Input::Hold { .. }
            | Input::Transfer { .. }
            | Input::TransferTo { .. }
            | Input::Follow { .. }
            | Input::DeclineTransfer { .. }
            | Input::Presence { .. }
            | Input::Packet(_)
            | Input::Worked { .. }
            | Input::GaveUp { .. }
            | Input::Time { .. }
            | Input::Timer => {}
        }
    }

    fn packet(&mut self, packet: AnyPacket) {
        let AnyPacket { from, call, seq, ack, age, intro, caller, kind, what } = packet;
        let (now, calls) = (self.now, &mut self.calls);
        let sender = who(from);
        let known = calls.knows(&call_id(call), &sender.peer.terminal);
        // 0: none; 1: somebody else's; otherwise its own.
        let intro = match intro {
            0 if known => None,
            1 => Some(who(from.wrapping_add(1))),
            _ => Some(sender),
        };
        let message = message(kind, what, self.hash);
        let unnumbered = matches!(message, Some(Message::Tunnel { .. }));
        let packet = Packet {
            call: call_id(call),
            from: sender.peer.terminal,
            to: self.me,
            seq: if unnumbered { 0 } else { u32::from(seq % 40) },
            ack: u32::from(ack % 40),
            time: UnixMillis(now.wall.0.saturating_add_signed(i64::from(age))),
            intro: intro.map(|party| Arc::clone(&party.intro)),
            message,
        };
        if packet.check().is_err() {
            return;
        }
        let payload_hash = packet.payload_hash();
        let intro = intro.map(|party| Arc::clone(&party.verified));
        let callers = [Caller::Contact, Caller::Stranger, Caller::Refused(RejectReason::Blocked)];
        let caller = callers[usize::from(caller % 3)];
        calls.handle_packet(now, Opened { packet, payload_hash, intro }, caller);
    }

    fn pass(&mut self, time: Duration) {
        self.now.instant += time;
        self.now.wall = self.now.wall.plus(time);
        self.calls.handle_timeout(self.now);
    }

    fn next_timer(&mut self) {
        if let Some(timer) = self.calls.poll_timeout() {
            self.pass(timer.saturating_duration_since(self.now.instant));
        }
    }

    fn drain(&mut self) {
        let mut outputs = 0;
        while let Some(output) = self.calls.poll_output() {
            outputs += 1;
            assert!(outputs < 300);
            match output {
                Output::Transmit { packet, .. } => {
                    packet.check().expect("what is sent is within the limits");
                    if matches!(packet.message, Some(Message::Invite { .. })) {
                        self.hash = packet.payload_hash();
                    }
                }
                Output::PrepareMedia { .. } => self.open_media += 1,
                Output::StopMedia { .. } => self.open_media -= 1,
                Output::KeepText { key, .. } => self.texts.push_back(key),
                Output::Work { challenge, .. } => self.work = Some(challenge),
                Output::Event(CallEvent::Ended { call, .. }) => assert!(self.calls.leg_of(call).is_none()),
                Output::RemoteOffer { .. }
                | Output::RemoteCandidates { .. }
                | Output::Disclose { .. }
                | Output::Tunnel { .. }
                | Output::StartAudio { .. }
                | Output::Event(_) => {}
            }
        }
        let load = self.calls.load();
        assert!(load.calls <= 14 && load.legs <= 112 && load.remembered <= 512, "{load:?}");
    }

    /// Everything comes to an end by itself.
    fn finish(&mut self) {
        self.calls.hang_up_all(self.now);
        self.drain();
        for _ in 0..500 {
            self.next_timer();
            self.drain();
        }
        assert!(self.calls.is_idle() && self.calls.poll_timeout().is_none());
        assert_eq!(self.open_media, 0);
    }
}

fuzz_target!(|data: &[u8]| {
    let mut world = World::new();
    let mut data = Unstructured::new(data);
    for _ in 0..400 {
        if data.is_empty() {
            break;
        }
        let Ok(input) = Input::arbitrary(&mut data) else { break };
        world.input(input);
    }
    world.finish();
});
