//! What strangers and faulty peers can make the machine keep: no more than its bounds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::basics::connect;
use super::chance::Rng;
use super::party::{Party, WALL};
use super::world::{Act, World, call_id, craft, invite};
use crate::call::{CallConfig, CallError, CallState, Caller, Calls, EndReason, EndedBy, LegId, Now, Output};
use crate::identity::{IdentityId, TerminalId};
use crate::signalling::{CallId, Message, Opened, Packet, VerifiedIntro};

const BOB: usize = 1;

/// Strangers: each invite from another one of `strangers` accounts and terminals, every id new.
struct Flood {
    rng: Rng,
    template: Opened,
    strangers: u64,
}

impl Flood {
    fn new(strangers: u64) -> Self {
        let party = Party::get(3, 0);
        let packet = craft(party, Party::get(1, 0), call_id(0), 1, invite());
        Self { rng: Rng::new(strangers), template: party.opened(packet), strangers }
    }

    fn next(&mut self, message: Option<Message>, seq: u32) -> Opened {
        let stranger = self.rng.below(self.strangers).to_be_bytes();
        let mut key = [0x55; 32];
        key[..8].copy_from_slice(&stranger);
        let mut opened = self.template.clone();
        opened.packet.call = CallId::from_bytes(self.rng.bytes());
        opened.packet.from = TerminalId::from_bytes(key);
        opened.packet.seq = seq;
        opened.packet.message = message;
        let known = opened.intro.as_deref().unwrap().clone();
        opened.intro = Some(Arc::new(VerifiedIntro { identity: IdentityId::from_bytes(key), ..known }));
        opened
    }
}

fn bob() -> Calls {
    Calls::new(CallConfig::default(), Party::get(1, 0).local.clone())
}

fn drain(calls: &mut Calls) -> usize {
    std::iter::from_fn(|| calls.poll_output()).count()
}

/// A million invites of one stranger, of a hundred, of a million: memory stays bounded, contacts get through all
/// the time, and strangers do as soon as a place is free.
#[test]
fn a_million_invites() {
    for (strangers, invites) in [(1, 300_000), (100, 300_000), (1_000_000, 400_000)] {
        let mut flood = Flood::new(strangers);
        let mut calls = bob();
        let start = Instant::now();
        let at = |n: u64| {
            // A thousand a second.
            let time = Duration::from_millis(n);
            Now { instant: start + time, wall: WALL.plus(time) }
        };
        let mut answers = 0;
        for n in 0..invites {
            let mut opened = flood.next(Some(invite()), 1);
            opened.packet.time = at(n).wall;
            calls.handle_packet(at(n), opened, Caller::Stranger);
            answers += drain(&mut calls);
            if calls.poll_timeout().is_some_and(|timer| timer <= at(n).instant) {
                calls.handle_timeout(at(n));
                drain(&mut calls);
            }
            if n % 1000 == 0 {
                let load = calls.load();
                assert!(load.calls <= 3 && load.legs <= 40, "{load:?}");
                assert!(load.remembered <= 256 && load.sources <= 256, "{load:?}");
            }
        }
        if strangers == 1 {
            assert!(answers < 500, "one stranger is soon ignored: {answers}");
        }
        let alice = Party::get(0, 0);
        let mut packet = craft(alice, Party::get(1, 0), call_id(7), 1, invite());
        packet.time = at(invites).wall;
        calls.handle_packet(at(invites), alice.opened(packet), Caller::Contact);
        assert_eq!(calls.state(call_id(7)), Some(CallState::Alerting), "a contact's call rings");
        calls.accept(at(invites), call_id(7)).unwrap();
        drain(&mut calls);
        calls.hang_up(at(invites), call_id(7)).unwrap();

        let later = at(invites + 60_000);
        calls.handle_timeout(later);
        drain(&mut calls);
        let carol = Party::get(2, 0);
        let mut packet = craft(carol, Party::get(1, 0), call_id(8), 1, invite());
        packet.time = later.wall;
        calls.handle_packet(later, carol.opened(packet), Caller::Stranger);
        assert_eq!(calls.state(call_id(8)), Some(CallState::Alerting), "a stranger's call rings");
    }
}

#[test]
fn packets_that_never_become_a_call() {
    let mut flood = Flood::new(1_000_000);
    let mut calls = bob();
    let now = Now { instant: Instant::now(), wall: WALL };
    let messages = [
        Some(Message::Candidates { list: vec!["c".to_owned(); 16], generation: 0 }),
        Some(Message::Bye { reason: None }),
        Some(Message::Text { id: crate::signalling::TextId::from_bytes([0; 16]), body: "x".repeat(4096) }),
        Some(Message::Hold { on: true }),
        None,
    ];
    for n in 0..50_000_u32 {
        let message = messages[usize::try_from(n).unwrap() % messages.len()].clone();
        calls.handle_packet(now, flood.next(message, n % 40), Caller::Stranger);
        drain(&mut calls);
        let load = calls.load();
        assert!(load.calls == 0 && load.legs <= 64 && load.remembered <= 256, "{load:?}");
    }
    for _ in 0..100 {
        let Some(timer) = calls.poll_timeout() else { break };
        calls.handle_timeout(Now { instant: timer, ..now });
        drain(&mut calls);
    }
    assert!(calls.is_idle());
}

#[test]
fn one_stranger_has_one_place_to_ring() {
    let mut calls = bob();
    let now = Now { instant: Instant::now(), wall: WALL };
    let ring = |calls: &mut Calls, account: usize, call: u8, caller: Caller| {
        let party = Party::get(account, 0);
        let packet = craft(party, Party::get(1, 0), call_id(call), 1, invite());
        calls.handle_packet(now, party.opened(packet), caller);
        calls.state(call_id(call)) == Some(CallState::Alerting)
    };
    assert!(ring(&mut calls, 0, 1, Caller::Stranger));
    assert!(!ring(&mut calls, 0, 2, Caller::Stranger), "busy");
    assert!(ring(&mut calls, 2, 3, Caller::Stranger));
    assert!(ring(&mut calls, 3, 4, Caller::Contact));
    assert!(ring(&mut calls, 3, 5, Caller::Contact), "two terminals of a contact");
}

#[test]
fn the_send_queue_is_bounded_and_a_hang_up_always_finds_room() {
    let mut world = World::new(1, &[(0, 0), (1, 0)], &CallConfig::default());
    connect(&mut world);
    world.weather.loss = 1000;
    let now = world.now(BOB);
    let calls = &mut world.terminals[BOB].calls;
    let sent = (0..100).take_while(|_| calls.dtmf(now, call_id(1), '1', 100).is_ok()).count();
    assert_eq!(sent, crate::dialog::SEND_WINDOW);
    assert_eq!(calls.dtmf(now, call_id(1), '1', 100), Err(CallError::QueueFull));
    world.drain(BOB);
    world.weather.loss = 0;
    world.act(BOB, Act::HangUp { call: call_id(1) });
    world.run_ms(100);
    assert_eq!(world.ended(0, call_id(1)), Some((EndReason::HungUp, EndedBy::Remote)));
    world.run_ms(20_000);
    world.assert_idle();
}

#[test]
fn candidates_are_bounded_on_both_sides() {
    let mut world = World::new(1, &[(0, 0), (1, 0)], &CallConfig::default());
    world.contacts = false;
    world.dial_as(0, call_id(1), 1);
    world.run_ms(2000);
    let leg = LegId { call: call_id(1), terminal: Party::get(1, 0).local.terminal };
    let now = world.now(0);
    let calls = &mut world.terminals[0].calls;
    // The world's two host candidates wait already.
    for count in [14, 16, 16, 16] {
        calls.local_candidates(now, leg, vec!["candidate".to_owned(); count]).unwrap();
    }
    let more = calls.local_candidates(now, leg, vec!["candidate".to_owned()]);
    assert_eq!(more, Err(CallError::QueueFull), "a stranger's wait for the answer");
    let too_long = calls.local_candidates(now, leg, vec!["c".repeat(257)]);
    assert!(matches!(too_long, Err(CallError::Limit(_))));

    // A peer that sends candidates without end.
    let (alice, bob) = (Party::get(0, 0), Party::get(1, 0));
    let mut calls = Calls::new(CallConfig::default(), bob.local.clone());
    let now = Now { instant: Instant::now(), wall: WALL };
    calls.handle_packet(now, alice.opened(craft(alice, bob, call_id(1), 1, invite())), Caller::Contact);
    let mut shown = 0;
    for seq in 2..200 {
        let list = vec!["candidate".to_owned(); 16];
        let packet = craft(alice, bob, call_id(1), seq, Message::Candidates { list, generation: 0 });
        calls.handle_packet(now, alice.opened(packet), Caller::Contact);
        while let Some(output) = calls.poll_output() {
            if let Output::RemoteCandidates { list, .. } = output {
                shown += list.len();
            }
        }
    }
    assert_eq!(shown, 256);
}

#[test]
fn a_remembered_call_does_not_answer_for_ever() {
    let (alice, bob) = (Party::get(0, 0), Party::get(1, 0));
    let mut calls = Calls::new(CallConfig::default(), bob.local.clone());
    let now = Now { instant: Instant::now(), wall: WALL };
    let packet: Packet = craft(alice, bob, call_id(1), 1, invite());
    let refused = Caller::Refused(crate::signalling::RejectReason::Blocked);
    let mut answers = 0;
    for _ in 0..1000 {
        calls.handle_packet(now, alice.opened(packet.clone()), refused);
        answers += drain(&mut calls);
    }
    assert!((2..=40).contains(&answers), "{answers}");
    assert!(calls.is_idle());
}
