//! Presence between contacts: delivered like a text, and nobody hears of it who is none.

use super::party::Party;
use super::world::{World, call_id};
use crate::call::{CallConfig, CallError, CallEvent, LookupEnd, Output, Source};
use crate::signalling::{Presence, PresenceCode, PresenceTold, RejectReason};

const ALICE: usize = 0;
const BOB: usize = 1;
const BOB2: usize = 2;

fn world() -> World {
    World::new(4, &[(0, 0), (1, 0), (1, 1)], &CallConfig::default())
}

fn presence(note: &str) -> Presence {
    let told = PresenceTold { state: PresenceCode::Away, note: note.to_owned(), good_for: 60 };
    Presence { told: Some(told), ask: true, watch: true }
}

fn heard(world: &World, at: usize) -> Vec<Presence> {
    let events = world.terminals[at].seen.events.iter();
    events
        .filter_map(|event| match event {
            CallEvent::Presence { presence, from, .. } => {
                assert_eq!(*from, Party::number(0));
                Some(presence.clone())
            }
            _ => None,
        })
        .collect()
}

/// Alice tells both of Bob's terminals, as after a look-up.
fn tell(world: &mut World) {
    let now = world.now(ALICE);
    let calls = &mut world.terminals[ALICE].calls;
    calls.presence_to(now, call_id(1), Party::number(1), presence("back at five")).unwrap();
    for terminal in 0..2 {
        calls.found(now, call_id(1), Party::get(1, terminal).peer.clone(), Source::Cache).unwrap();
    }
    calls.lookup_finished(now, call_id(1), LookupEnd::Complete).unwrap();
    world.drain(ALICE);
}

#[test]
fn presence_reaches_every_terminal_once_however_bad_the_network() {
    for seed in 0..200 {
        let mut world = World::new(seed, &[(0, 0), (1, 0), (1, 1)], &CallConfig::default());
        (world.weather.loss, world.weather.duplicate) = (200, 300);
        tell(&mut world);
        world.run_ms(9000);
        for at in [BOB, BOB2] {
            assert!(heard(&world, at).len() <= 1, "seed {seed}");
        }
        world.weather.loss = 0;
        world.run_ms(20_000);
        world.assert_idle();
    }
    let mut world = world();
    tell(&mut world);
    world.run_ms(500);
    for at in [BOB, BOB2] {
        assert_eq!(heard(&world, at), [presence("back at five")]);
    }
    assert!(world.terminals[ALICE].seen.events.is_empty(), "nobody waits for what becomes of it");
    world.run_ms(9000);
    world.assert_idle();
}

#[test]
fn strangers_and_who_is_refused_tell_nothing_and_learn_nothing() {
    for refusal in [None, Some(RejectReason::KeyChanged)] {
        let mut world = world();
        world.record = true;
        world.contacts = refusal.is_some();
        world.refusal = refusal;
        tell(&mut world);
        world.run_ms(3000);
        assert!(heard(&world, BOB).is_empty());
        assert!(world.kinds(BOB).is_empty(), "acknowledged, and no more");
        world.run_ms(9000);
        world.assert_idle();
    }
}

#[test]
fn who_has_asked_is_answered_without_a_look_up() {
    let mut world = world();
    let now = world.now(ALICE);
    let (calls, bob) = (&mut world.terminals[ALICE].calls, Party::get(1, 0).peer.clone());
    calls.presence_at(now, call_id(1), Party::number(1), bob.clone(), presence("")).unwrap();
    let long = presence(&"x".repeat(257));
    assert!(matches!(
        calls.presence_at(now, call_id(2), Party::number(1), bob, long),
        Err(CallError::Limit(_))
    ));
    world.drain(ALICE);
    world.run_ms(500);
    assert_eq!((heard(&world, BOB).len(), heard(&world, BOB2).len()), (1, 0));
}

#[test]
fn presence_takes_no_place_of_a_text_and_is_bounded() {
    let mut world = world();
    let now = world.now(ALICE);
    let calls = &mut world.terminals[ALICE].calls;
    for n in 0..32 {
        calls.presence_to(now, call_id(n), Party::number(1), presence("")).unwrap();
    }
    let more = calls.presence_to(now, call_id(99), Party::number(1), presence(""));
    assert_eq!(more, Err(CallError::TooMany));
    let id = crate::signalling::TextId::from_bytes([200; 16]);
    calls.text_to(now, call_id(100), Party::number(1), id, "hi".to_owned()).unwrap();
}

#[test]
fn a_terminal_that_leaves_may_say_so_to_more_than_usual() {
    let mut world = world();
    let now = world.now(ALICE);
    let calls = &mut world.terminals[ALICE].calls;
    let usual = calls.config_mut().max_texts;
    calls.config_mut().max_texts = usual + 100;
    for n in 1..=100 {
        let to = Party::get(1, 0).peer.clone();
        calls.presence_at(now, call_id(n), Party::number(1), to, presence("")).unwrap();
    }
    let outputs = std::iter::from_fn(|| calls.poll_output());
    assert_eq!(outputs.filter(|output| matches!(output, Output::Transmit { .. })).count(), 100);
}
