//! From dialling to the first sign of a terminal: what the look-up brings, and when it is over.

use std::time::Duration;

use super::party::Party;
use super::world::{World, call_id, ignore};
use crate::call::{
    CallConfig, CallError, CallState, Distrust, EndReason, EndedBy, Failure, LookupEnd, Source,
};
use crate::signalling::{CallId, TextId};

const ALICE: usize = 0;
const BOB: usize = 1;

fn two() -> World {
    World::new(1, &[(0, 0), (1, 0)], &CallConfig::default())
}

/// Alice dials without the simulated look-up.
pub(super) fn dial_only(world: &mut World, call: CallId) {
    let now = world.now(ALICE);
    world.terminals[ALICE].calls.dial(now, call, Party::number(1), true).unwrap();
    world.drain(ALICE);
}

pub(super) fn found(world: &mut World, call: CallId, party: &Party) -> Result<(), CallError> {
    let now = world.now(ALICE);
    let result = world.terminals[ALICE].calls.found(now, call, party.peer.clone(), Source::Network);
    world.drain(ALICE);
    result
}

/// A terminal that an earlier call has left in the cache.
fn cached(world: &mut World, call: CallId, party: &Party) {
    let now = world.now(ALICE);
    world.terminals[ALICE].calls.found(now, call, party.peer.clone(), Source::Cache).unwrap();
    world.drain(ALICE);
}

fn lookup_finished(world: &mut World, call: CallId, end: LookupEnd) {
    let now = world.now(ALICE);
    ignore(world.terminals[ALICE].calls.lookup_finished(now, call, end));
    world.drain(ALICE);
}

#[test]
fn look_ups_that_find_nothing_end_the_call_at_once() {
    for (end, reason) in [
        (LookupEnd::WrongNumber, EndReason::WrongNumber),
        (LookupEnd::NoTerminal, EndReason::Unreachable),
        (LookupEnd::Complete, EndReason::Unreachable),
        (LookupEnd::Failed, EndReason::Failed(Failure::Lookup)),
    ] {
        let mut world = two();
        dial_only(&mut world, call_id(1));
        world.run_ms(300);
        lookup_finished(&mut world, call_id(1), end);
        assert_eq!(world.ended(ALICE, call_id(1)), Some((reason, EndedBy::Network)));
        assert_eq!(found(&mut world, call_id(1), Party::get(1, 0)), Err(CallError::UnknownCall));
        world.assert_idle();
    }
}

#[test]
fn unreachable_is_known_within_five_seconds() {
    // The terminal that was found never says a word, whenever it was found.
    for found_at in [0, 2000, 4400] {
        let mut world = two();
        world.weather.loss = 1000;
        dial_only(&mut world, call_id(1));
        world.run_ms(found_at);
        found(&mut world, call_id(1), Party::get(1, 0)).unwrap();
        world.run_ms(4490 - found_at);
        assert_eq!(world.state(ALICE, call_id(1)), Some(CallState::Inviting));
        world.run_ms(20);
        assert_eq!(world.ended(ALICE, call_id(1)), Some((EndReason::Unreachable, EndedBy::Network)));
        world.run_ms(20_000);
        world.assert_idle();
    }

    // All routes say that it is not connected.
    let mut world = two();
    world.terminals[BOB].dead = true;
    world.dial_as(ALICE, call_id(1), 1);
    world.run_ms(2000);
    assert_eq!(world.ended(ALICE, call_id(1)), Some((EndReason::Unreachable, EndedBy::Network)));
    world.assert_idle();
}

/// Nothing is known of the number then: neither that nobody has it, nor that it is off line.
#[test]
fn a_look_up_that_does_not_come_to_an_end_is_no_unreachable_number() {
    let lookup = Some((EndReason::Failed(Failure::Lookup), EndedBy::Network));
    let mut world = two();
    dial_only(&mut world, call_id(1));
    world.run_ms(4490);
    assert_eq!(world.state(ALICE, call_id(1)), Some(CallState::Searching));
    world.run_ms(20);
    assert_eq!(world.ended(ALICE, call_id(1)), lookup);

    // What the cache says is no look-up: the invite goes to where the terminal was the last time.
    for ends in [true, false] {
        let mut world = two();
        world.terminals[BOB].dead = true;
        dial_only(&mut world, call_id(1));
        cached(&mut world, call_id(1), Party::get(1, 0));
        world.run_ms(3000);
        assert_eq!(world.state(ALICE, call_id(1)), Some(CallState::Inviting), "another route may be found");
        if ends {
            lookup_finished(&mut world, call_id(1), LookupEnd::Failed);
        }
        world.run_ms(1510);
        assert_eq!(world.ended(ALICE, call_id(1)), lookup);
        world.run_ms(1000);
        world.assert_idle();
    }

    // The network knows better than the cache.
    let mut world = two();
    world.terminals[BOB].dead = true;
    dial_only(&mut world, call_id(1));
    cached(&mut world, call_id(1), Party::get(1, 0));
    world.run_ms(1000);
    lookup_finished(&mut world, call_id(1), LookupEnd::WrongNumber);
    assert_eq!(world.ended(ALICE, call_id(1)), Some((EndReason::WrongNumber, EndedBy::Network)));

    // A cached terminal that answers needs no look-up.
    let mut world = two();
    dial_only(&mut world, call_id(1));
    cached(&mut world, call_id(1), Party::get(1, 0));
    world.run_ms(1000);
    lookup_finished(&mut world, call_id(1), LookupEnd::Failed);
    world.run_ms(10_000);
    assert_eq!(world.state(ALICE, call_id(1)), Some(CallState::Ringing));
}

/// A record in the cache leads to where the terminal was; the network's record to where it is.
#[test]
fn a_new_route_is_tried_at_once_also_when_the_old_ones_have_failed() {
    let invites = |world: &World| world.kinds(ALICE).iter().filter(|kind| **kind == "invite").count();
    for (failed, stopped_at) in [(true, 100), (false, 100), (true, 3000)] {
        let mut world = two();
        world.record = true;
        world.terminals[BOB].dead = failed;
        world.filter =
            Some(|world, _, _| !world.terminals[BOB].dead && world.time < Duration::from_millis(50));
        dial_only(&mut world, call_id(1));
        cached(&mut world, call_id(1), Party::get(1, 0));
        world.run_ms(stopped_at);
        let before = invites(&world);
        world.terminals[BOB].dead = false;
        let now = world.now(ALICE);
        let mut peer = Party::get(1, 0).peer.clone();
        let calls = &mut world.terminals[ALICE].calls;
        calls.found(now, call_id(1), peer.clone(), Source::Network).unwrap();
        world.drain(ALICE);
        assert_eq!(invites(&world), before, "the same routes bring nothing new");
        peer.routes = vec!["/ip4/192.0.2.7/udp/4001/quic-v1".parse().unwrap()];
        world.terminals[ALICE].calls.found(now, call_id(1), peer, Source::Network).unwrap();
        world.drain(ALICE);
        assert_eq!(invites(&world), before + 1);
        lookup_finished(&mut world, call_id(1), LookupEnd::Complete);
        world.run_ms(100);
        assert_eq!(world.rings(BOB), 1, "one way later, not at the next repetition");
        assert_eq!(world.state(ALICE, call_id(1)), Some(CallState::Ringing));
    }
}

#[test]
fn a_text_takes_new_routes_too() {
    let mut world = two();
    world.terminals[BOB].dead = true;
    let (call, id) = (call_id(1), TextId::from_bytes([1; 16]));
    let now = world.now(ALICE);
    let calls = &mut world.terminals[ALICE].calls;
    calls.text_to(now, call, Party::number(1), id, "x".to_owned()).unwrap();
    cached(&mut world, call, Party::get(1, 0));
    world.run_ms(350);
    world.terminals[BOB].dead = false;
    let now = world.now(ALICE);
    let mut peer = Party::get(1, 0).peer.clone();
    peer.routes = vec!["/ip4/192.0.2.7/udp/4001/quic-v1".parse().unwrap()];
    world.terminals[ALICE].calls.found(now, call, peer, Source::Network).unwrap();
    world.drain(ALICE);
    world.run_ms(45);
    assert_eq!(world.terminals[BOB].seen.handed.len(), 1);
    lookup_finished(&mut world, call, LookupEnd::Complete);
    world.run_ms(4000);
    assert_eq!(world.terminals[ALICE].seen.text_results[&id], Ok(()));
    world.assert_idle();
}

/// The engine learns from the look-up that no key can be trusted, while it rings already or before.
#[test]
fn nothing_rings_under_keys_that_nobody_trusts() {
    for (why, reason) in [
        (Distrust::KeyChanged, EndReason::KeyChanged),
        (Distrust::Disputed, EndReason::Failed(Failure::Disputed)),
    ] {
        for after in [0, 2000] {
            let mut world = two();
            if after > 0 {
                world.dial_as(ALICE, call_id(1), 1);
            } else {
                dial_only(&mut world, call_id(1));
            }
            world.run_ms(after);
            let now = world.now(ALICE);
            world.terminals[ALICE].calls.distrust(now, call_id(1), why).unwrap();
            world.drain(ALICE);
            assert_eq!(world.ended(ALICE, call_id(1)), Some((reason, EndedBy::Local)));
            world.run_ms(1000);
            assert!(world.terminals[BOB].seen.live.is_empty());
            let now = world.now(ALICE);
            let calls = &mut world.terminals[ALICE].calls;
            assert_eq!(calls.distrust(now, call_id(1), why), Err(CallError::UnknownCall));
            world.assert_idle();
        }
    }
}

#[test]
fn one_terminal_that_is_gone_does_not_end_the_search() {
    let mut world = World::new(1, &[(0, 0), (1, 0), (1, 1)], &CallConfig::default());
    world.terminals[BOB].dead = true;
    dial_only(&mut world, call_id(1));
    found(&mut world, call_id(1), Party::get(1, 0)).unwrap();
    world.run_ms(1000);
    assert_eq!(world.ended(ALICE, call_id(1)), None, "the look-up still runs");
    found(&mut world, call_id(1), Party::get(1, 1)).unwrap();
    lookup_finished(&mut world, call_id(1), LookupEnd::Complete);
    world.run_ms(500);
    assert_eq!(world.state(ALICE, call_id(1)), Some(CallState::Ringing));
    let stranger = Party::get(2, 0);
    assert_eq!(found(&mut world, call_id(1), stranger), Err(CallError::OtherIdentity));
}
