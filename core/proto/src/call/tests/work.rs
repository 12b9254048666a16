//! Callees who have strangers work before it rings.

use std::time::Duration;

use super::party::Party;
use super::world::{Act, World, call_id, craft, invite};
use crate::call::{CallConfig, CallEvent, CallState, EndReason, EndedBy, Now, Output};
use crate::puzzle::{Challenge, Purpose, PuzzleKey, Solution, Subject};
use crate::signalling::{CallId, Message, Opened, RejectReason};

const ALICE: usize = 0;
const BOB: usize = 1;
const BOB2: usize = 2;

impl World {
    /// The refusal of an invite that has not paid.
    pub(super) fn toll_of(&self, at: usize, now: Now, opened: &Opened) -> Option<Output> {
        let Message::Invite { solution, .. } = opened.packet.message.as_ref()? else {
            return None;
        };
        let bits = *self.toll.get(&at)?;
        let key = PuzzleKey::from_seed([u8::try_from(self.terminals[at].account).unwrap(); 32]);
        let subject =
            Subject::call(&self.terminals[at].party.peer.identity, &opened.intro.as_ref()?.identity);
        let purpose = Purpose::call(&opened.packet.call, &opened.packet.from);
        let check = |solution| key.check(&subject, solution, &purpose, bits + self.rise, now.wall).is_ok();
        if solution.as_ref().is_some_and(check) {
            return None;
        }
        let challenge = Some(key.challenge(&subject, bits, now.wall));
        let refusal = Message::Reject { reason: RejectReason::Work, challenge };
        self.terminals[at].calls.turn_away(now, opened, refusal)
    }
}

fn strangers(bits: u8) -> World {
    let mut world = World::new(3, &[(0, 0), (1, 0), (1, 1)], &CallConfig::default());
    world.contacts = false;
    world.record = true;
    world.toll = [(BOB, bits), (BOB2, bits)].into();
    world
}

/// Calls under which Alice has invited somebody, in order.
fn invited(world: &World) -> Vec<CallId> {
    let mut calls = Vec::new();
    for (at, packet) in &world.sent {
        let invite = matches!(packet.message, Some(Message::Invite { .. }));
        if *at == ALICE && invite && !calls.contains(&packet.call) {
            calls.push(packet.call);
        }
    }
    calls
}

fn worked(world: &World) -> Vec<u8> {
    let events = world.terminals[ALICE].seen.events.iter();
    let bits = |event: &CallEvent| match event {
        CallEvent::Working { bits, .. } => Some(*bits),
        _ => None,
    };
    events.filter_map(bits).collect()
}

#[test]
fn q8_a_stranger_works_once_for_all_terminals_and_the_call_goes_on_as_the_same() {
    let mut world = strangers(6);
    world.dial_as(ALICE, call_id(1), 1);
    world.run_ms(250);
    assert_eq!((world.rings(BOB), world.rings(BOB2)), (0, 0));
    world.run_ms(2000);
    assert_eq!((world.rings(BOB), world.rings(BOB2)), (1, 1));
    assert_eq!(world.state(ALICE, call_id(1)), Some(CallState::Ringing));
    assert_eq!(worked(&world), [6], "the other terminal has asked for the same");
    let calls = invited(&world);
    assert_eq!((calls.len(), calls[0]), (2, call_id(1)), "and so it was solved once");
    world.act(BOB2, Act::Accept { call: calls[1] });
    world.run_ms(1000);
    assert_eq!(world.state(ALICE, call_id(1)), Some(CallState::Active));
    assert_eq!(world.ended(BOB, calls[1]), Some((EndReason::AnsweredElsewhere, EndedBy::Elsewhere)));
    world.act(ALICE, Act::HangUp { call: call_id(1) });
    world.run_ms(60_000);
    assert_eq!(world.ended(BOB2, calls[1]), Some((EndReason::HungUp, EndedBy::Remote)));
    world.assert_idle();
}

#[test]
fn q8_who_wants_too_much_work_or_ever_more_of_it_is_given_up() {
    let dear = CallConfig::default().max_work + 1;
    for (bits, rise, times) in [(dear, 0, 0), (6, 8, 2)] {
        let mut world = strangers(bits);
        world.rise = rise;
        world.dial_as(ALICE, call_id(1), 1);
        world.run_ms(10_000);
        assert_eq!(world.ended(ALICE, call_id(1)), Some((EndReason::Work, EndedBy::Remote)), "{bits}");
        assert_eq!((worked(&world).len(), world.rings(BOB)), (times, 0));
        world.run_ms(60_000);
        world.assert_idle();
    }
}

#[test]
fn q8_work_that_is_given_up_or_never_done_ends_the_call() {
    for (solving, after) in [(None, 2_000), (Some(Duration::from_secs(500)), 125_000)] {
        let mut world = strangers(6);
        world.solving = solving;
        world.dial_as(ALICE, call_id(1), 1);
        world.run_ms(after);
        assert_eq!(world.ended(ALICE, call_id(1)), Some((EndReason::Work, EndedBy::Remote)));
        // What comes afterwards is too late.
        world.run_ms(600_000);
        assert_eq!(invited(&world).len(), 1);
        world.assert_idle();
    }
}

#[test]
fn who_hangs_up_while_working_calls_nobody() {
    let mut world = strangers(6);
    world.dial_as(ALICE, call_id(1), 1);
    world.run_ms(250);
    assert_eq!(worked(&world), [6]);
    world.act(ALICE, Act::HangUp { call: call_id(1) });
    world.run_ms(60_000);
    assert_eq!(world.ended(ALICE, call_id(1)), Some((EndReason::Cancelled, EndedBy::Local)));
    assert_eq!((invited(&world).len(), world.rings(BOB)), (1, 0));
    world.assert_idle();
}

#[test]
fn a_terminal_that_rings_without_work_ends_the_work() {
    let mut world = strangers(6);
    world.toll.remove(&BOB2);
    world.solving = Some(Duration::from_secs(5));
    world.dial_as(ALICE, call_id(1), 1);
    world.run_ms(20_000);
    assert_eq!((world.rings(BOB), world.rings(BOB2)), (0, 1));
    assert_eq!(world.state(ALICE, call_id(1)), Some(CallState::Ringing));
    assert_eq!(invited(&world), [call_id(1)]);
}

/// A terminal that names its price in the middle of a call, or to somebody who has not called it.
#[test]
fn q8_a_price_that_nobody_asked_for_changes_nothing() {
    let mut world = World::new(4, &[(0, 0), (1, 0)], &CallConfig::default());
    super::basics::connect(&mut world);
    let (alice, bob) = (Party::get(0, 0), Party::get(1, 0));
    let challenge = Some(challenge(6));
    let work = Message::Reject { reason: RejectReason::Work, challenge };
    let packet = craft(bob, alice, call_id(9), 1, work.clone());
    world.inject(ALICE, bob, packet, crate::call::Caller::Stranger);
    assert!(worked(&world).is_empty());
    let mut packet = craft(bob, alice, call_id(1), 30, work);
    packet.intro = None;
    world.inject(ALICE, bob, packet, crate::call::Caller::Stranger);
    assert!(worked(&world).is_empty(), "whoever refuses an answered call has left it");
    world.run_ms(60_000);
    assert_eq!(world.state(ALICE, call_id(1)), None);
}

fn challenge(bits: u8) -> Challenge {
    let (alice, bob) = (Party::get(0, 0), Party::get(1, 0));
    let subject = Subject::call(&bob.peer.identity, &alice.peer.identity);
    PuzzleKey::from_seed([1; 32]).challenge(&subject, bits, super::party::WALL)
}

#[test]
fn a_solution_that_nobody_waits_for_is_refused() {
    use crate::call::CallError;
    let mut world = World::new(5, &[(0, 0), (1, 0)], &CallConfig::default());
    world.dial_as(ALICE, call_id(1), 1);
    world.run_ms(1_000);
    let (now, solution) = (world.now(ALICE), Solution { challenge: challenge(6), nonce: 1 });
    let calls = &mut world.terminals[ALICE].calls;
    assert_eq!(calls.worked(now, call_id(1), call_id(5), solution), Err(CallError::WrongState));
    assert_eq!(calls.worked(now, call_id(2), call_id(5), solution), Err(CallError::UnknownCall));
    assert_eq!(calls.worked(now, call_id(1), call_id(1), solution), Err(CallError::Duplicate));
    assert_eq!(calls.gave_up(now, call_id(1)), Err(CallError::WrongState));
}

#[test]
fn q8_who_is_turned_away_leaves_nothing_behind() {
    let mut world = World::new(6, &[(0, 0), (1, 0)], &CallConfig::default());
    let (alice, bob) = (Party::get(0, 0), Party::get(1, 0));
    let now = world.now(BOB);
    let calls = &mut world.terminals[BOB].calls;
    let turned =
        |packet| calls.turn_away(now, &alice.opened(packet), Message::reject(RejectReason::Voicemail));
    let packet = craft(alice, bob, call_id(1), 1, invite());
    let Some(Output::Transmit { packet: answer, peer, .. }) = turned(packet.clone()) else {
        panic!("no answer")
    };
    assert_eq!((answer.seq, answer.ack, answer.to), (1, 1, alice.peer.terminal));
    assert_eq!(peer.seal, alice.peer.seal);
    // What ends a call, has been on its way for long, or is not the first of a dialog.
    let last = craft(alice, bob, call_id(1), 1, Message::reject(RejectReason::Busy));
    let mut old = packet.clone();
    old.time = crate::wire::UnixMillis(old.time.0 - 61_000);
    let later = craft(alice, bob, call_id(1), 2, invite());
    for packet in [last, old, later] {
        assert_eq!(turned(packet), None);
    }
    assert_eq!(world.terminals[BOB].calls.load(), crate::call::Load::default());
}

#[test]
fn q8_a_caller_is_told_to_leave_a_message_by_all_terminals_at_once() {
    let mut world = World::new(7, &[(0, 0), (1, 0), (1, 1)], &CallConfig::default());
    world.dial_as(ALICE, call_id(1), 1);
    world.run_ms(2_000);
    let now = world.now(BOB);
    world.terminals[BOB].calls.reject(now, call_id(1), RejectReason::Voicemail).unwrap();
    world.drain(BOB);
    world.run_ms(1_000);
    assert_eq!(world.ended(ALICE, call_id(1)), Some((EndReason::Voicemail, EndedBy::Remote)));
    assert_eq!(world.ended(BOB, call_id(1)), Some((EndReason::Voicemail, EndedBy::Local)));
    assert_eq!(world.ended(BOB2, call_id(1)), Some((EndReason::Declined, EndedBy::Elsewhere)));
    world.run_ms(60_000);
    world.assert_idle();
}

/// Each way takes 50 ms: the accept goes to the caller, and its cancel to the others.
#[test]
fn q5_the_terminals_that_do_not_answer_say_so_within_300_ms_at_a_round_trip_of_100_ms() {
    let mut late = 0;
    for seed in 0..200 {
        let mut world = World::new(seed, &[(0, 0), (1, 0), (1, 1), (1, 2)], &CallConfig::default());
        world.weather.delay = (50, 50);
        // One of twenty packets is lost.
        world.weather.loss = if seed < 100 { 0 } else { 50 };
        world.dial_as(ALICE, call_id(1), 1);
        world.run_ms(5_000);
        if (BOB..4).any(|at| world.rings(at) == 0) {
            continue;
        }
        world.act(BOB, Act::Accept { call: call_id(1) });
        world.run_ms(300);
        let elsewhere = Some((EndReason::AnsweredElsewhere, EndedBy::Elsewhere));
        let told = (BOB2..4).filter(|at| world.ended(*at, call_id(1)) == elsewhere).count();
        assert!(told == 2 || seed >= 100, "seed {seed}: {told}");
        late += 2 - told;
    }
    assert!(late <= 30, "{late} of 200 were late although hardly anything was lost");
}

#[test]
fn q5_a_terminal_that_was_put_out_stops_ringing_and_is_not_talked_to() {
    let pocket = Party::get(1, 1).peer.terminal;
    let mut world = World::new(8, &[(0, 0), (1, 0), (1, 1)], &CallConfig::default());
    world.dial_as(ALICE, call_id(1), 1);
    world.run_ms(2_000);
    assert_eq!((world.rings(BOB), world.rings(BOB2)), (1, 1));
    let now = world.now(ALICE);
    world.terminals[ALICE].calls.revoked(now, call_id(1), pocket);
    world.drain(ALICE);
    world.run_ms(1_000);
    assert!(world.ended(BOB2, call_id(1)).is_some());
    world.act(BOB2, Act::Accept { call: call_id(1) });
    world.run_ms(1_000);
    assert_eq!(world.state(ALICE, call_id(1)), Some(CallState::Ringing), "at the other one");
    // One that has answered before the record came.
    let mut world = World::new(9, &[(0, 0), (1, 0), (1, 1)], &CallConfig::default());
    world.dial_as(ALICE, call_id(1), 1);
    world.run_ms(2_000);
    world.act(BOB2, Act::Accept { call: call_id(1) });
    world.run_ms(1_000);
    let now = world.now(ALICE);
    world.terminals[ALICE].calls.revoked(now, call_id(1), pocket);
    world.drain(ALICE);
    world.run_ms(60_000);
    let failed = EndReason::Failed(crate::call::Failure::Remote);
    assert_eq!(world.ended(ALICE, call_id(1)), Some((failed, EndedBy::Local)));
    world.assert_idle();
}
