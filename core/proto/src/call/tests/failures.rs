//! Calls that fail, and packets that must change nothing.

use std::time::Duration;

use super::basics::connect;
use super::chance::Weather;
use super::party::{Party, WALL};
use super::search::{dial_only, found};
use super::world::{Act, World, call_id, craft, invite, offer};
use crate::call::{CallConfig, CallError, CallEvent, CallState, Caller, EndReason, EndedBy, Failure, LegId};
use crate::signalling::{ByeReason, CancelReason, LastWord, Message, RejectReason, TextId};
use crate::wire::UnixMillis;

const ALICE: usize = 0;
const BOB: usize = 1;

fn two() -> World {
    World::new(1, &[(0, 0), (1, 0)], &CallConfig::default())
}

#[test]
fn no_media_path_within_eight_seconds_of_the_answer() {
    let mut world = two();
    world.weather = Weather { no_media: 1000, ..Weather::FINE };
    world.dial_as(ALICE, call_id(1), 1);
    world.run_ms(2000);
    world.act(BOB, Act::Accept { call: call_id(1) });
    world.run_ms(7900);
    assert_eq!(world.state(ALICE, call_id(1)), Some(CallState::Connecting));
    world.run_ms(200);
    // Whoever notices first tells the other.
    for at in [ALICE, BOB] {
        let (reason, _) = world.ended(at, call_id(1)).unwrap();
        assert_eq!(reason, EndReason::Failed(Failure::NoMediaPath));
    }
    world.run_ms(1000);
    world.assert_idle();
}

/// Whatever fails in an answered call, the other end does not take it for a hang-up: not by the bye, and not by the end
/// of the media connection if the bye does not come.
#[test]
fn both_ends_say_what_failed() {
    for (said, heard) in [
        (None, EndReason::HungUp),
        (Some(ByeReason::NoMediaPath), EndReason::Failed(Failure::NoMediaPath)),
        (Some(ByeReason::MediaLost), EndReason::Failed(Failure::MediaLost)),
        (Some(ByeReason::Media), EndReason::Failed(Failure::Remote)),
        (Some(ByeReason::NotConfirmed), EndReason::Failed(Failure::NotConfirmed)),
        (Some(ByeReason::SignallingLost), EndReason::Failed(Failure::SignallingLost)),
        (Some(ByeReason::Failed), EndReason::Failed(Failure::Remote)),
        (Some(ByeReason::Other(77)), EndReason::Failed(Failure::Remote)),
    ] {
        let (alice, bob) = (Party::get(0, 0), Party::get(1, 0));
        let mut world = two();
        connect(&mut world);
        // Numbers far ahead: it overtakes whatever was said before.
        let bye = craft(bob, alice, call_id(1), 20, Message::Bye { reason: said });
        world.inject(ALICE, bob, bye, Caller::Contact);
        assert_eq!(world.ended(ALICE, call_id(1)), Some((heard, EndedBy::Remote)));

        let mut world = two();
        connect(&mut world);
        world.weather.loss = 1000;
        let leg = LegId { call: call_id(1), terminal: bob.local.terminal };
        let now = world.now(ALICE);
        world.terminals[ALICE].calls.media_closed(now, leg, Some(LastWord::Bye(said)));
        world.drain(ALICE);
        assert_eq!(world.ended(ALICE, call_id(1)), Some((heard, EndedBy::Remote)));
    }
    // Before the answer the connection repeats what the messages say that are meant for then.
    let busy = Some(LastWord::Reject(RejectReason::Busy));
    let elsewhere = Some(LastWord::Cancel(CancelReason::AnsweredElsewhere));
    for (at, last, end) in [
        (ALICE, busy, (EndReason::Busy, EndedBy::Remote)),
        (ALICE, elsewhere, (EndReason::Failed(Failure::Media), EndedBy::Network)),
        (BOB, elsewhere, (EndReason::AnsweredElsewhere, EndedBy::Elsewhere)),
        (BOB, busy, (EndReason::Failed(Failure::Media), EndedBy::Network)),
    ] {
        let mut world = two();
        world.dial_as(ALICE, call_id(1), 1);
        world.run_ms(2000);
        let now = world.now(at);
        let leg = LegId { call: call_id(1), terminal: Party::get(1 - at, 0).local.terminal };
        world.terminals[at].calls.media_closed(now, leg, last);
        world.drain(at);
        assert_eq!(world.ended(at, call_id(1)), Some(end), "{last:?}");
    }
    // A connection that ends without a word.
    let mut world = two();
    world.dial_as(ALICE, call_id(1), 1);
    world.run_ms(2000);
    let now = world.now(BOB);
    let leg = LegId { call: call_id(1), terminal: Party::get(0, 0).local.terminal };
    world.terminals[BOB].calls.media_closed(now, leg, None);
    world.drain(BOB);
    assert_eq!(world.ended(BOB, call_id(1)), Some((EndReason::Failed(Failure::Media), EndedBy::Network)));
}

#[test]
fn a_caller_that_never_confirms_is_told_so() {
    let mut world = two();
    world.filter = Some(|_, _, packet| matches!(packet.message, Some(Message::Confirm { .. })));
    world.dial_as(ALICE, call_id(1), 1);
    world.run_ms(2000);
    world.act(BOB, Act::Accept { call: call_id(1) });
    world.run_ms(7900);
    assert_eq!(world.state(ALICE, call_id(1)), Some(CallState::Active), "it knows that it has");
    world.run_ms(1000);
    let ended = |at: usize| world.ended(at, call_id(1)).unwrap();
    assert_eq!(ended(BOB), (EndReason::Failed(Failure::NotConfirmed), EndedBy::Network));
    assert_eq!(ended(ALICE), (EndReason::Failed(Failure::NotConfirmed), EndedBy::Remote));
}

#[test]
fn media_that_fail_before_and_after_the_answer() {
    let leg = LegId { call: call_id(1), terminal: Party::get(1, 0).local.terminal };
    let mut world = two();
    world.weather.no_device = 1000;
    world.dial_as(ALICE, call_id(1), 1);
    world.run_ms(2000);
    assert_eq!(world.ended(ALICE, call_id(1)), Some((EndReason::Failed(Failure::Media), EndedBy::Network)));
    assert_eq!(world.rings(BOB), 0);

    let mut world = two();
    world.dial_as(ALICE, call_id(1), 1);
    world.run_ms(2000);
    let now = world.now(BOB);
    let mirror = LegId { call: call_id(1), terminal: Party::get(0, 0).local.terminal };
    world.terminals[BOB].calls.media_failed(now, mirror);
    world.drain(BOB);
    world.run_ms(500);
    assert_eq!(world.ended(ALICE, call_id(1)), Some((EndReason::Failed(Failure::Remote), EndedBy::Remote)));

    let mut world = two();
    connect(&mut world);
    let now = world.now(ALICE);
    world.terminals[ALICE].calls.media_lost(now, leg);
    world.drain(ALICE);
    world.run_ms(500);
    assert_eq!(
        world.ended(ALICE, call_id(1)),
        Some((EndReason::Failed(Failure::MediaLost), EndedBy::Network))
    );
    assert_eq!(world.ended(BOB, call_id(1)), Some((EndReason::Failed(Failure::MediaLost), EndedBy::Remote)));
}

#[test]
fn a_call_whose_other_end_falls_silent_ends_when_something_is_to_be_said() {
    let mut world = two();
    connect(&mut world);
    world.weather.loss = 1000;
    world.act(ALICE, Act::Hold { call: call_id(1) });
    // By then the media connection has usually told.
    world.run_ms(19_900);
    assert_eq!(world.state(ALICE, call_id(1)), Some(CallState::Active));
    world.run_ms(200);
    assert_eq!(
        world.ended(ALICE, call_id(1)),
        Some((EndReason::Failed(Failure::SignallingLost), EndedBy::Network))
    );
}

#[test]
fn invites_are_repeated_with_growing_pauses_and_the_same_bytes() {
    let mut world = two();
    world.record = true;
    world.weather.loss = 1000;
    dial_only(&mut world, call_id(1));
    found(&mut world, call_id(1), Party::get(1, 0)).unwrap();
    let mut times = Vec::new();
    let invites = |world: &World| -> Vec<[u8; 32]> {
        let invites = world.sent.iter().filter(|(_, packet)| packet.seq == 1);
        invites.map(|(_, packet)| packet.payload_hash()).collect()
    };
    while world.ended(ALICE, call_id(1)).is_none() {
        let before = invites(&world).len();
        world.run_ms(10);
        times.extend((before..invites(&world).len()).map(|_| world.time.as_millis() / 100));
    }
    assert_eq!(times, [0, 4, 12, 28]);
    let hashes = invites(&world);
    assert!(hashes.iter().all(|hash| *hash == hashes[0]));
}

#[test]
fn an_invite_is_fresh_for_sixty_seconds() {
    let alice = Party::get(0, 0);
    // Age in milliseconds, and whether it rings. Negative: from the future.
    for (age, rings) in
        [(0, true), (59_999, true), (60_000, true), (60_001, false), (-60_000, true), (-60_001, false)]
    {
        let mut world = two();
        world.record = true;
        let mut packet = craft(alice, Party::get(1, 0), call_id(1), 1, invite());
        packet.time = UnixMillis(WALL.0.checked_add_signed(-age).unwrap());
        world.inject(BOB, alice, packet, Caller::Stranger);
        assert_eq!(world.rings(BOB), usize::from(rings), "age {age}");
        if !rings {
            let answer = world.sent[0].1.message.clone();
            assert_eq!(answer, Some(Message::reject(RejectReason::Expired)));
            world.assert_idle();
        }
    }
}

#[test]
fn a_wrong_clock_is_told_to_the_caller() {
    let mut world = two();
    world.terminals[BOB].skew = 100_000;
    world.dial_as(ALICE, call_id(1), 1);
    world.act(ALICE, Act::TextTo { account: 1 });
    world.run_ms(2000);
    assert_eq!(world.ended(ALICE, call_id(1)), Some((EndReason::Failed(Failure::Clock), EndedBy::Remote)));
    let texts: Vec<_> = world.terminals[ALICE].seen.text_results.values().collect();
    assert_eq!(texts, [&Err(crate::call::TextFailure::Clock)]);
    world.assert_idle();
}

#[test]
fn repeated_invites_and_texts_are_dropped() {
    let (alice, bob) = (Party::get(0, 0), Party::get(1, 0));
    let mut world = two();
    let packet = craft(alice, bob, call_id(1), 1, invite());
    world.inject(BOB, alice, packet.clone(), Caller::Stranger);
    world.inject(BOB, alice, packet.clone(), Caller::Stranger);
    assert_eq!(world.rings(BOB), 1, "while it rings");
    world.act(BOB, Act::Reject { call: call_id(1) });
    world.run_ms(15_000);
    world.record = true;
    world.inject(BOB, alice, packet.clone(), Caller::Stranger);
    assert_eq!(world.rings(BOB), 1, "when it is over");
    assert_eq!(world.sent[0].1.message, Some(Message::reject(RejectReason::Declined)));
    world.run_ms(44_000);
    world.inject(BOB, alice, packet.clone(), Caller::Stranger);
    assert_eq!(world.rings(BOB), 1, "just before it expires");
    world.run_ms(70_000);
    world.inject(BOB, alice, packet, Caller::Stranger);
    assert_eq!(world.rings(BOB), 1, "when it has expired");

    let text = Message::Text { id: TextId::from_bytes([1; 16]), body: "once".to_owned() };
    let mut packet = craft(alice, bob, call_id(2), 1, text);
    packet.time = world.now(ALICE).wall;
    for _ in 0..3 {
        world.inject(BOB, alice, packet.clone(), Caller::Stranger);
        world.run_ms(10_000);
    }
    assert_eq!(world.terminals[BOB].seen.texts.len(), 1);
}

/// The introduction of somebody else, the key of somebody else, or both.
#[test]
fn hang_up_busy_and_accept_from_the_wrong_peer_are_ignored() {
    let mallory = Party::get(2, 0);
    let alice = Party::get(0, 0);
    for message in [
        Message::Bye { reason: None },
        Message::reject(RejectReason::Busy),
        Message::Cancel { reason: CancelReason::Cancelled },
        Message::Accept { invite_hash: [0; 32], candidates: Vec::new() },
        Message::Ringing { offer: offer(), candidates: Vec::new() },
    ] {
        for seq in [1, 2, 5] {
            let mut world = two();
            world.dial_as(ALICE, call_id(1), 1);
            world.run_ms(2000);
            let from_mallory = craft(mallory, alice, call_id(1), seq, message.clone());
            world.inject(ALICE, mallory, from_mallory.clone(), Caller::Contact);
            // Bob's terminal, but with the introduction of another account.
            let mut borrowed = from_mallory;
            borrowed.from = Party::get(1, 0).local.terminal;
            world.inject(ALICE, mallory, borrowed, Caller::Contact);
            world.run_ms(100);
            assert_eq!(world.state(ALICE, call_id(1)), Some(CallState::Ringing), "{message:?}");
            assert_eq!(world.state(BOB, call_id(1)), Some(CallState::Alerting));
        }
    }
    let mut world = two();
    connect(&mut world);
    let bye = craft(mallory, alice, call_id(1), 1, Message::Bye { reason: None });
    world.inject(ALICE, mallory, bye, Caller::Contact);
    world.run_ms(1000);
    assert_eq!(world.state(ALICE, call_id(1)), Some(CallState::Active));
}

#[test]
fn a_callee_must_introduce_itself() {
    let (alice, bob) = (Party::get(0, 0), Party::get(1, 0));
    let mut world = two();
    world.filter = Some(|_, from, _| from == BOB);
    world.dial_as(ALICE, call_id(1), 1);
    world.run_ms(1000);
    let mut ringing =
        craft(bob, alice, call_id(1), 1, Message::Ringing { offer: offer(), candidates: Vec::new() });
    ringing.intro = None;
    world.inject(ALICE, bob, ringing, Caller::Contact);
    assert_eq!(world.state(ALICE, call_id(1)), Some(CallState::Inviting));
}

#[test]
fn an_accept_of_another_invite_is_no_accept() {
    let (alice, bob) = (Party::get(0, 0), Party::get(1, 0));
    let mut world = two();
    world.filter = Some(|_, from, _| from == BOB);
    world.dial_as(ALICE, call_id(1), 1);
    world.run_ms(1000);
    let ringing = Message::Ringing { offer: offer(), candidates: Vec::new() };
    world.inject(ALICE, bob, craft(bob, alice, call_id(1), 1, ringing), Caller::Contact);
    let accept = Message::Accept { invite_hash: [9; 32], candidates: Vec::new() };
    world.inject(ALICE, bob, craft(bob, alice, call_id(1), 2, accept), Caller::Contact);
    world.run_ms(5000);
    assert_eq!(world.ended(ALICE, call_id(1)), Some((EndReason::Failed(Failure::Protocol), EndedBy::Remote)));
    assert!(world.audio(ALICE).is_empty());
}

#[test]
fn refused_callers_hear_why_and_nothing_rings() {
    for (refusal, reason) in [
        (RejectReason::Blocked, EndReason::Blocked),
        (RejectReason::KeyChanged, EndReason::KeyChanged),
        (RejectReason::Busy, EndReason::Busy),
    ] {
        let mut world = two();
        world.refusal = Some(refusal);
        world.dial_as(ALICE, call_id(1), 1);
        world.act(ALICE, Act::TextTo { account: 1 });
        world.run_ms(2000);
        assert_eq!(world.ended(ALICE, call_id(1)), Some((reason, EndedBy::Remote)));
        assert!(world.terminals[BOB].seen.events.is_empty());
        assert!(world.terminals[ALICE].seen.text_results.values().all(Result::is_err));
        world.assert_idle();
    }
}

#[test]
fn what_comes_before_the_invite() {
    let (alice, bob) = (Party::get(0, 0), Party::get(1, 0));
    let candidates = || Message::Candidates { list: vec!["candidate:1".to_owned()], generation: 0 };
    let send = |world: &mut World, call: u8, seq: u32, message: Message| {
        world.inject(BOB, alice, craft(alice, bob, call_id(call), seq, message), Caller::Contact);
    };
    // Candidates are kept.
    let mut world = two();
    send(&mut world, 1, 2, candidates());
    assert_eq!(world.rings(BOB), 0);
    send(&mut world, 1, 1, invite());
    assert_eq!(world.rings(BOB), 1);

    // A cancel or a bye means that it never rings, mixed with candidates and with another call that does.
    for last in [Message::Cancel { reason: CancelReason::Cancelled }, Message::Bye { reason: None }] {
        let mut world = two();
        world.record = true;
        send(&mut world, 1, 3, last.clone());
        send(&mut world, 2, 1, invite());
        send(&mut world, 1, 2, candidates());
        send(&mut world, 1, 1, invite());
        assert_eq!(world.incoming(BOB), Some(call_id(2)));
        assert_eq!(world.rings(BOB), 1);
        world.run_ms(50);
        let acknowledged = world.sent.iter().any(|(_, packet)| packet.call == call_id(1) && packet.ack == 3);
        assert!(acknowledged, "the caller need not repeat it");
        send(&mut world, 2, 2, last);
        world.run_ms(20_000);
        assert!(world.terminals[BOB].seen.live.is_empty());
    }

    // If the invite never comes, nothing remains.
    let mut world = two();
    send(&mut world, 1, 2, candidates());
    world.run_ms(10_000);
    world.assert_idle();
}

#[test]
fn dialogs_that_begin_with_anything_else_are_closed() {
    let (alice, bob) = (Party::get(0, 0), Party::get(1, 0));
    for message in [
        Message::Ringing { offer: offer(), candidates: Vec::new() },
        Message::Accept { invite_hash: [0; 32], candidates: Vec::new() },
        Message::Confirm { candidates: Vec::new() },
        Message::Bye { reason: None },
        Message::Hold { on: true },
        Message::reject(RejectReason::Busy),
    ] {
        let mut world = two();
        world.inject(BOB, alice, craft(alice, bob, call_id(1), 1, message), Caller::Contact);
        world.inject(BOB, alice, craft(alice, bob, call_id(1), 2, invite()), Caller::Contact);
        assert_eq!(world.rings(BOB), 0);
        world.run_ms(10_000);
        world.assert_idle();
    }
}

/// The network breaks at each stage; both ends come to an end by themselves.
#[test]
fn failure_to_send_at_each_stage() {
    let stages: [fn(&mut World); 5] = [
        |_| {},
        |world| world.run_ms(350),
        |world| world.run_ms(2000),
        |world| {
            world.run_ms(2000);
            world.act(BOB, Act::Accept { call: call_id(1) });
        },
        |world| {
            world.run_ms(2000);
            world.act(BOB, Act::Accept { call: call_id(1) });
            world.run_ms(30);
        },
    ];
    for (n, stage) in stages.into_iter().enumerate() {
        for refused in [0, 1000] {
            let mut world = two();
            world.dial_as(ALICE, call_id(1), 1);
            stage(&mut world);
            world.weather =
                Weather { loss: 1000 - refused, refuse: refused, no_media: 1000, ..Weather::FINE };
            world.run_for(Duration::from_secs(70));
            assert!(world.ended(ALICE, call_id(1)).is_some(), "stage {n}");
            assert!(world.terminals[BOB].seen.live.is_empty(), "stage {n}");
            world.assert_idle();
        }
    }
}

#[test]
fn a_late_media_report_changes_nothing() {
    let mut world = two();
    connect(&mut world);
    world.act(ALICE, Act::HangUp { call: call_id(1) });
    world.run_ms(1000);
    let leg = LegId { call: call_id(1), terminal: Party::get(1, 0).local.terminal };
    let now = world.now(ALICE);
    let calls = &mut world.terminals[ALICE].calls;
    calls.media_ready(now, leg);
    calls.media_failed(now, leg);
    calls.media_lost(now, leg);
    calls.send_failed(now, leg, &Party::get(1, 0).peer);
    assert_eq!(calls.set_offer(now, leg, offer()), Err(CallError::UnknownLeg));
    assert_eq!(calls.local_candidates(now, leg, vec!["c".to_owned()]), Err(CallError::UnknownLeg));
    assert_eq!(calls.poll_output(), None);
    let ended = world.terminals[ALICE].seen.events.iter().filter(|e| matches!(e, CallEvent::Ended { .. }));
    assert_eq!(ended.count(), 1);
}
