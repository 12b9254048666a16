//! What crosses on the wire: a regression test for each race that has a name.

use std::time::Duration;

use super::basics::connect;
use super::chance::{Rng, Weather};
use super::party::Party;
use super::world::{Act, World, call_id, craft, invite};
use crate::call::{
    CallConfig, CallEvent, CallState, Caller, Direction, EndReason, EndedBy, Source, glare_winner,
};
use crate::signalling::{CallId, Message};

const ALICE: usize = 0;
const BOB: usize = 1;
const LOW: u8 = 1;
const HIGH: u8 = 2;

fn two() -> World {
    let mut world = World::new(1, &[(0, 0), (1, 0)], &CallConfig::default());
    world.record = true;
    world
}

fn ringing(world: &mut World) {
    world.dial_as(ALICE, call_id(1), 1);
    world.run_ms(2000);
    assert_eq!(world.state(ALICE, call_id(1)), Some(CallState::Ringing));
}

/// Both ends have ended the call, with these reasons, and nothing is left.
fn both_ended(world: &mut World, alice: EndReason, bob: EndReason) {
    world.run_ms(12_000);
    assert_eq!(world.ended(ALICE, call_id(1)).map(|ended| ended.0), Some(alice));
    assert_eq!(world.ended(BOB, call_id(1)).map(|ended| ended.0), Some(bob));
    world.assert_idle();
}

#[test]
fn accept_crosses_cancel() {
    let mut world = two();
    ringing(&mut world);
    world.act(BOB, Act::Accept { call: call_id(1) });
    world.act(ALICE, Act::HangUp { call: call_id(1) });
    both_ended(&mut world, EndReason::Cancelled, EndReason::Cancelled);
    assert!(world.audio(ALICE).is_empty());
}

#[test]
fn reject_crosses_cancel() {
    let mut world = two();
    ringing(&mut world);
    world.act(BOB, Act::Reject { call: call_id(1) });
    world.act(ALICE, Act::HangUp { call: call_id(1) });
    both_ended(&mut world, EndReason::Cancelled, EndReason::Declined);
}

#[test]
fn bye_crosses_bye() {
    let mut world = two();
    connect(&mut world);
    world.act(BOB, Act::HangUp { call: call_id(1) });
    world.act(ALICE, Act::HangUp { call: call_id(1) });
    both_ended(&mut world, EndReason::HungUp, EndReason::HungUp);
    assert_eq!(world.ended(ALICE, call_id(1)).unwrap().1, EndedBy::Local);
    assert_eq!(world.ended(BOB, call_id(1)).unwrap().1, EndedBy::Local);
}

#[test]
fn bye_crosses_confirm() {
    let mut world = two();
    ringing(&mut world);
    world.act(BOB, Act::Accept { call: call_id(1) });
    world.run_ms(20); // the accept has arrived, the confirmation is on its way
    assert_eq!(world.state(ALICE, call_id(1)), Some(CallState::Active));
    world.act(BOB, Act::HangUp { call: call_id(1) });
    both_ended(&mut world, EndReason::HungUp, EndReason::HungUp);
}

/// Answered and hung up at once, and the bye overtakes the accept.
#[test]
fn bye_overtakes_accept() {
    let mut world = two();
    ringing(&mut world);
    world.filter = Some(|world, _, packet| {
        world.time < Duration::from_millis(2300) && matches!(packet.message, Some(Message::Accept { .. }))
    });
    world.act(BOB, Act::Accept { call: call_id(1) });
    world.act(BOB, Act::HangUp { call: call_id(1) });
    both_ended(&mut world, EndReason::HungUp, EndReason::HungUp);
    assert!(world.audio(ALICE).is_empty());
}

#[test]
fn accept_crosses_the_callers_time_out() {
    let mut world = two();
    world.terminals[BOB].calls.config_mut().ring_timeout = Duration::from_secs(90);
    ringing(&mut world);
    while world.ended(ALICE, call_id(1)).is_none() {
        world.run_ms(1);
    }
    world.act(BOB, Act::Accept { call: call_id(1) });
    assert_eq!(world.state(BOB, call_id(1)), Some(CallState::Connecting));
    both_ended(&mut world, EndReason::NoAnswer, EndReason::NoAnswer);
}

#[test]
fn accept_just_before_the_callers_time_out() {
    let mut world = two();
    world.terminals[ALICE].calls.config_mut().ring_timeout = Duration::from_secs(10);
    ringing(&mut world);
    let timeout = loop {
        let timer = world.terminals[ALICE].calls.poll_timeout().unwrap() - world.start;
        if timer > world.time + Duration::from_millis(21) {
            world.run_ms(1);
        } else {
            break timer;
        }
    };
    world.act(BOB, Act::Accept { call: call_id(1) });
    world.run_until(timeout + Duration::from_secs(2));
    assert_eq!(world.state(ALICE, call_id(1)), Some(CallState::Active));
    assert_eq!(world.state(BOB, call_id(1)), Some(CallState::Active));
}

#[test]
fn two_terminals_accept_at_the_same_time() {
    let mut world = World::new(7, &[(0, 0), (1, 0), (1, 1)], &CallConfig::default());
    world.dial_as(ALICE, call_id(1), 1);
    world.run_ms(2000);
    world.act(1, Act::Accept { call: call_id(1) });
    world.act(2, Act::Accept { call: call_id(1) });
    world.run_ms(2000);
    let stands = |at: usize| world.state(at, call_id(1)) == Some(CallState::Active);
    assert!(stands(ALICE) && (stands(1) != stands(2)), "one winner");
    let loser = if stands(1) { 2 } else { 1 };
    assert_eq!(world.ended(loser, call_id(1)), Some((EndReason::AnsweredElsewhere, EndedBy::Elsewhere)));
    assert_eq!(world.audio(loser).len(), 1, "it may begin to speak");
    assert_eq!(world.audio(ALICE).len(), 1, "but is not heard");
    assert!(world.terminals[loser].media_all_stopped());
}

#[test]
fn late_accept_of_a_loser() {
    let mut world = World::new(7, &[(0, 0), (1, 0), (1, 1)], &CallConfig::default());
    world.dial_as(ALICE, call_id(1), 1);
    world.run_ms(2000);
    // The cancel for the second terminal does not get through for a while.
    world.filter = Some(|world, from, packet| {
        let to_loser = packet.to == Party::get(1, 1).local.terminal;
        from == ALICE && to_loser && world.time < Duration::from_secs(5)
    });
    world.act(1, Act::Accept { call: call_id(1) });
    world.run_ms(1500);
    world.act(2, Act::Accept { call: call_id(1) });
    world.run_ms(4000);
    assert_eq!(world.state(ALICE, call_id(1)), Some(CallState::Active));
    assert_eq!(world.state(1, call_id(1)), Some(CallState::Active));
    assert_eq!(world.ended(2, call_id(1)), Some((EndReason::AnsweredElsewhere, EndedBy::Elsewhere)));
}

/// The loser comes back when the caller has long stopped repeating the cancel.
#[test]
fn accept_of_a_call_that_is_only_remembered() {
    let mut world = two();
    world.weather.no_media = 1000; // or the callee's media would notice
    world.terminals[BOB].calls.config_mut().ring_timeout = Duration::from_secs(90);
    ringing(&mut world);
    world.weather.loss = 1000;
    world.act(ALICE, Act::HangUp { call: call_id(1) });
    world.run_ms(20_000);
    assert!(world.terminals[ALICE].calls.is_idle());
    assert_eq!(world.state(BOB, call_id(1)), Some(CallState::Alerting));
    world.weather = Weather::FINE;
    world.act(BOB, Act::Accept { call: call_id(1) });
    world.run_ms(100);
    assert_eq!(world.ended(BOB, call_id(1)), Some((EndReason::Cancelled, EndedBy::Remote)));
}

#[test]
fn glare_is_decided_alike_at_both_ends() {
    let mut rng = Rng::new(1);
    for _ in 0..1000 {
        let (a, b) = (CallId::from_bytes(rng.bytes()), CallId::from_bytes(rng.bytes()));
        assert_eq!(glare_winner(a, b), glare_winner(b, a));
        assert!(glare_winner(a, b) == a || glare_winner(a, b) == b);
    }
}

/// Both have called each other under `alice` and `bob`: one call stands, under the id that each dialled, nothing
/// rang, and both are outgoing.
fn merged(world: &World, alice: CallId, bob: CallId) {
    assert_eq!(world.state(ALICE, alice), Some(CallState::Active));
    assert_eq!(world.state(BOB, bob), Some(CallState::Active));
    for at in [ALICE, BOB] {
        let infos: Vec<_> = world.terminals[at].calls.list().collect();
        assert_eq!(infos.len(), 1);
        assert_eq!(infos[0].direction, Direction::Outgoing);
        assert_eq!(world.rings(at), 0);
        assert_eq!(world.audio(at).len(), 1);
        assert_eq!(infos[0].leg.unwrap().call, glare_winner(alice, bob), "on the wire it is the winner");
        let leg = infos[0].leg.unwrap();
        assert_eq!(world.terminals[at].calls.call_of(&leg), Some(infos[0].call));
    }
}

#[test]
fn glare_with_crossing_invites_in_both_orders() {
    for (mine, theirs) in [(LOW, HIGH), (HIGH, LOW)] {
        for head_start in [0, 5, 10, 15, 19] {
            let mut world = two();
            // Equal look-up times, so that the invites cross.
            for (at, call, to) in [(ALICE, mine, 1), (BOB, theirs, 0)] {
                let now = world.now(at);
                let calls = &mut world.terminals[at].calls;
                calls.dial(now, call_id(call), Party::number(to), true).unwrap();
                let peer = Party::get(usize::from(to), 0).peer.clone();
                calls.found(now, call_id(call), peer, Source::Network).unwrap();
                calls.lookup_finished(now, call_id(call), crate::call::LookupEnd::Complete).unwrap();
                world.drain(at);
                world.run_ms(head_start);
            }
            world.run_ms(3000);
            merged(&world, call_id(mine), call_id(theirs));
            world.act(ALICE, Act::HangUp { call: call_id(mine) });
            world.run_ms(12_000);
            assert_eq!(world.ended(BOB, call_id(theirs)), Some((EndReason::HungUp, EndedBy::Remote)));
            world.assert_idle();
        }
    }
}

#[test]
fn glare_while_one_end_is_still_searching() {
    for (mine, theirs) in [(LOW, HIGH), (HIGH, LOW)] {
        let mut world = two();
        let now = world.now(ALICE);
        world.terminals[ALICE].calls.dial(now, call_id(mine), Party::number(1), true).unwrap();
        world.drain(ALICE);
        world.dial_as(BOB, call_id(theirs), 0);
        world.run_ms(3000);
        // Nobody knew of Alice's call, so there is nothing to decide: Bob's is answered.
        assert_eq!(world.state(ALICE, call_id(mine)), Some(CallState::Active));
        assert_eq!(world.state(BOB, call_id(theirs)), Some(CallState::Active));
        assert_eq!(world.rings(ALICE), 0);
    }
}

#[test]
fn glare_with_lost_packets() {
    let mut merged_calls = 0;
    for seed in 0..300 {
        let mut world = World::new(seed, &[(0, 0), (1, 0)], &CallConfig::default());
        world.weather = Weather { loss: 400, delay: (10, 300), ..Weather::FINE };
        let (mine, theirs) = if seed % 2 == 0 { (LOW, HIGH) } else { (HIGH, LOW) };
        world.dial_as(ALICE, call_id(mine), 1);
        world.dial_as(BOB, call_id(theirs), 0);
        world.run_ms(9000);
        world.weather = Weather::FINE;
        world.run_ms(90_000);
        let states = [world.state(ALICE, call_id(mine)), world.state(BOB, call_id(theirs))];
        assert!(states == [Some(CallState::Active); 2] || states == [None; 2], "seed {seed}: {states:?}");
        merged_calls += usize::from(states[0].is_some());
    }
    assert!(merged_calls > 250, "{merged_calls} of 300 got through 40 % loss");
}

#[test]
fn glare_among_terminals_of_both_accounts() {
    // Alice's first terminal calls Bob, Bob's second calls Alice; the others ring and stop.
    for (mine, theirs) in [(LOW, HIGH), (HIGH, LOW)] {
        let mut world = World::new(3, &[(0, 0), (0, 1), (1, 0), (1, 1)], &CallConfig::default());
        world.dial_as(0, call_id(mine), 1);
        world.dial_as(3, call_id(theirs), 0);
        world.run_ms(4000);
        assert_eq!(world.state(0, call_id(mine)), Some(CallState::Active));
        assert_eq!(world.state(3, call_id(theirs)), Some(CallState::Active));
        for at in [1, 2] {
            let ended: Vec<_> = world.terminals[at].seen.ended.values().collect();
            assert!(world.terminals[at].seen.live.is_empty());
            assert!(ended.iter().all(|(reason, _)| *reason == EndReason::AnsweredElsewhere), "{ended:?}");
        }
    }
}

/// Our invite wins but cannot reach the other end, whose own call is alive.
#[test]
fn a_held_call_comes_alive_when_ours_fails() {
    let mut world = two();
    world.filter = Some(|_, from, packet| {
        from == ALICE
            && packet.call == call_id(LOW)
            && !matches!(packet.message, Some(Message::Cancel { .. }))
    });
    world.dial_as(ALICE, call_id(LOW), 1);
    world.run_ms(400);
    world.dial_as(BOB, call_id(HIGH), 0);
    world.run_ms(2000);
    assert_eq!(world.rings(ALICE), 0, "held");
    assert_eq!(world.terminals[ALICE].calls.list().count(), 1, "and not shown");
    world.run_ms(10_000);
    assert_eq!(world.state(BOB, call_id(HIGH)), Some(CallState::Ringing), "ours ended as unreachable");
    assert_eq!(world.ended(ALICE, call_id(LOW)), Some((EndReason::Unreachable, EndedBy::Network)));
    assert_eq!(world.rings(ALICE), 1);
    world.act(ALICE, Act::Accept { call: call_id(HIGH) });
    world.run_ms(1000);
    assert_eq!(world.state(BOB, call_id(HIGH)), Some(CallState::Active));
}

#[test]
fn a_held_call_is_taken_when_our_leg_to_its_terminal_fails() {
    // Alice's call reaches Bob's second terminal only; his first one calls.
    let mut world = World::new(3, &[(0, 0), (1, 0), (1, 1)], &CallConfig::default());
    world.filter = Some(|_, from, packet| {
        let to_first = packet.to == Party::get(1, 0).local.terminal;
        from == ALICE && to_first && packet.call == call_id(LOW)
    });
    world.dial_as(ALICE, call_id(LOW), 1);
    world.run_ms(600);
    world.dial_as(BOB, call_id(HIGH), 0);
    world.run_ms(15_000);
    assert_eq!(world.state(ALICE, call_id(LOW)), Some(CallState::Active));
    assert_eq!(world.state(BOB, call_id(HIGH)), Some(CallState::Active));
    assert_eq!(world.ended(2, call_id(LOW)), Some((EndReason::AnsweredElsewhere, EndedBy::Elsewhere)));
}

/// Somebody else answers while it is held: its caller hears busy, and hears it at once.
#[test]
fn a_held_call_is_busy_when_ours_is_answered() {
    let mut world = World::new(3, &[(0, 0), (1, 0), (1, 1)], &CallConfig::default());
    world.filter = Some(|_, from, packet| {
        let to_first = packet.to == Party::get(1, 0).local.terminal;
        from == ALICE && to_first && packet.call == call_id(LOW)
    });
    world.dial_as(ALICE, call_id(LOW), 1);
    world.run_ms(600);
    world.dial_as(BOB, call_id(HIGH), 0);
    world.run_ms(1000);
    world.act(2, Act::Accept { call: call_id(LOW) });
    world.run_ms(500);
    assert_eq!(world.state(ALICE, call_id(LOW)), Some(CallState::Active));
    assert_eq!(world.ended(BOB, call_id(HIGH)), Some((EndReason::Busy, EndedBy::Remote)));
    assert_eq!(world.rings(ALICE), 0);
}

#[test]
fn giving_up_in_glare_lets_the_other_call_ring() {
    let mut world = two();
    world.filter = Some(|_, from, packet| from == ALICE && packet.call == call_id(LOW));
    world.dial_as(ALICE, call_id(LOW), 1);
    world.run_ms(600);
    world.dial_as(BOB, call_id(HIGH), 0);
    world.run_ms(1000);
    world.act(ALICE, Act::HangUp { call: call_id(LOW) });
    assert_eq!(world.incoming(ALICE), Some(call_id(HIGH)));
    world.run_ms(500);
    assert_eq!(world.state(BOB, call_id(HIGH)), Some(CallState::Ringing));
}

#[test]
fn dialling_who_rings_answers() {
    let mut world = two();
    world.dial_as(ALICE, call_id(1), 1);
    world.run_ms(2000);
    world.dial_as(BOB, call_id(5), 0);
    world.run_ms(2000);
    assert_eq!(world.state(ALICE, call_id(1)), Some(CallState::Active));
    assert_eq!(world.state(BOB, call_id(5)), Some(CallState::Active));
    assert_eq!(world.ended(BOB, call_id(1)), Some((EndReason::Merged, EndedBy::Local)));
    let searching = CallEvent::Searching { call: call_id(5), number: Party::number(0) };
    assert!(world.terminals[BOB].seen.events.contains(&searching));
    world.act(BOB, Act::HangUp { call: call_id(5) });
    world.run_ms(12_000);
    world.assert_idle();
}

/// Somebody else's invite under the id of a call of ours must not disturb it.
#[test]
fn an_invite_under_a_used_id_is_ignored() {
    let mut world = two();
    world.dial_as(ALICE, call_id(1), 1);
    world.run_ms(2000);
    let carol = Party::get(2, 0);
    for (at, to) in [(ALICE, Party::get(0, 0)), (BOB, Party::get(1, 0))] {
        world.inject(at, carol, craft(carol, to, call_id(1), 1, invite()), Caller::Contact);
    }
    world.act(BOB, Act::Accept { call: call_id(1) });
    world.run_ms(1000);
    assert_eq!(world.state(ALICE, call_id(1)), Some(CallState::Active));
    assert_eq!((world.rings(ALICE), world.rings(BOB)), (0, 1));
}
