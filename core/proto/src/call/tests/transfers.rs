//! Transfers: blind and attended, consented to and refused, and what becomes of the calls when nothing comes of it.

use std::time::Duration;

use super::basics::connect;
use super::party::Party;
use super::world::{Act, World, call_id, craft, offer};
use crate::call::{
    CallConfig, CallError, CallEvent, CallState, Caller, EndReason, EndedBy, TransferFailure, TransferPolicy,
    TransferState,
};
use crate::signalling::{CallId, Message, Token, TransferId, TransferStep};

const ALICE: usize = 0;
const BOB: usize = 1;
const CAROL: usize = 2;
const CAROL2: usize = 3;

/// Alice, who leaves, Bob, who is passed on, and Carol, who has two terminals; Alice and Bob talk.
fn three(config: &CallConfig) -> World {
    let mut world = World::new(9, &[(0, 0), (1, 0), (2, 0), (2, 1)], config);
    connect(&mut world);
    world
}

fn config() -> CallConfig {
    CallConfig { max_calls: 2, ..CallConfig::default() }
}

fn first() -> CallId {
    call_id(1)
}

/// Bob is asked to call Carol.
fn asked(world: &mut World) {
    world.act(ALICE, Act::Transfer { call: first(), account: 2 });
    world.run_ms(500);
}

/// How the transfer went, as Alice was told.
fn states(world: &World) -> Vec<TransferState> {
    let events = world.terminals[ALICE].seen.events.iter();
    events
        .filter_map(|event| if let CallEvent::Transfer { state, .. } = event { Some(*state) } else { None })
        .collect()
}

fn failed(world: &World) -> Option<TransferFailure> {
    states(world)
        .last()
        .and_then(|state| if let TransferState::Failed(why) = state { Some(*why) } else { None })
}

fn is_asked(world: &World, at: usize) -> usize {
    let events = world.terminals[at].seen.events.iter();
    events.filter(|event| matches!(event, CallEvent::TransferAsked { .. })).count()
}

#[test]
fn a_blind_transfer_leaves_the_two_others_talking() {
    let mut world = three(&config());
    asked(&mut world);
    assert_eq!((states(&world), is_asked(&world, BOB)), (vec![TransferState::Asked], 1));
    assert_eq!(world.rings(CAROL), 0, "nobody dials before the user has consented");
    let request = world.terminals[BOB].calls.transfer_request(first()).unwrap();
    assert_eq!((&request.number, request.attended), (&Party::number(2), false));
    world.follow_as(BOB, first(), call_id(5));
    world.run_ms(1500);
    assert_eq!((world.rings(CAROL), world.rings(CAROL2)), (1, 1), "it rings wherever she is");
    assert_eq!(world.state(ALICE, first()), Some(CallState::Active), "Alice stays until they talk");
    world.act(CAROL, Act::Accept { call: call_id(5) });
    world.run_ms(1500);
    let steps = [TransferState::Asked, TransferState::Trying, TransferState::Ringing, TransferState::Done];
    assert_eq!(states(&world), steps);
    for at in [BOB, CAROL] {
        assert_eq!(world.state(at, call_id(5)), Some(CallState::Active));
    }
    assert_eq!(world.ended(ALICE, first()), Some((EndReason::Transferred, EndedBy::Local)));
    assert_eq!(world.ended(BOB, first()), Some((EndReason::Transferred, EndedBy::Remote)));
    world.act(BOB, Act::HangUp { call: call_id(5) });
    world.run_ms(20_000);
    world.assert_idle();
}

#[test]
fn nobody_dials_because_a_stranger_asks() {
    let mut world = World::new(9, &[(0, 0), (1, 0), (2, 0)], &config());
    world.contacts = false;
    connect(&mut world);
    asked(&mut world);
    assert_eq!((failed(&world), is_asked(&world, BOB)), (Some(TransferFailure::Declined), 0));
    assert!(world.terminals[BOB].calls.transfer_request(first()).is_none());
    // Who wants to may be asked by everybody, or by nobody.
    world.terminals[BOB].calls.config_mut().transfers = TransferPolicy::Everybody;
    asked(&mut world);
    assert_eq!(is_asked(&world, BOB), 1);
    let mut world = three(&CallConfig { transfers: TransferPolicy::Nobody, ..config() });
    asked(&mut world);
    assert_eq!((failed(&world), is_asked(&world, BOB)), (Some(TransferFailure::Declined), 0));
    assert_eq!(world.state(BOB, first()), Some(CallState::Active), "the call goes on");
}

#[test]
fn without_consent_the_call_stays_as_it_was() {
    let mut world = three(&config());
    asked(&mut world);
    let now = world.now(BOB);
    world.terminals[BOB].calls.decline_transfer(now, first()).unwrap();
    world.drain(BOB);
    world.run_ms(500);
    assert_eq!(failed(&world), Some(TransferFailure::Declined));
    let now = world.now(BOB);
    assert_eq!(world.terminals[BOB].calls.decline_transfer(now, first()), Err(CallError::WrongState));
    assert_eq!(
        world.terminals[BOB].calls.follow(now, first(), call_id(5), true),
        Err(CallError::WrongState),
        "it is over"
    );
    // Whoever says nothing has not consented.
    asked(&mut world);
    world.run_ms(29_000);
    assert_eq!(states(&world).last(), Some(&TransferState::Asked));
    world.run_ms(2000);
    assert_eq!(failed(&world), Some(TransferFailure::Declined));
    let lapsed = world.terminals[BOB]
        .seen
        .events
        .iter()
        .filter(|event| **event == CallEvent::TransferLapsed { call: first() });
    assert_eq!(
        lapsed.count(),
        1,
        "who was asked knows that it is too late, and of the first request it was not"
    );
    for at in [ALICE, BOB] {
        assert_eq!(world.state(at, first()), Some(CallState::Active));
    }
}

#[test]
fn a_transfer_that_finds_nobody_is_told_and_the_call_is_still_there() {
    for (what, failure) in [("reject", TransferFailure::Rejected), ("dead", TransferFailure::Unreachable)] {
        let mut world = three(&config());
        for at in [CAROL, CAROL2] {
            world.terminals[at].dead = what == "dead";
        }
        asked(&mut world);
        world.follow_as(BOB, first(), call_id(5));
        world.run_ms(2000);
        if what == "reject" {
            world.act(CAROL, Act::Reject { call: call_id(5) });
        }
        world.run_ms(6000);
        assert_eq!(failed(&world), Some(failure));
        for at in [ALICE, BOB] {
            assert_eq!(world.state(at, first()), Some(CallState::Active));
        }
        // And may be transferred once more.
        for at in [CAROL, CAROL2] {
            world.terminals[at].dead = false;
        }
        asked(&mut world);
        world.follow_as(BOB, first(), call_id(6));
        world.run_ms(1500);
        world.act(CAROL, Act::Accept { call: call_id(6) });
        world.run_ms(1500);
        assert_eq!(states(&world).last(), Some(&TransferState::Done));
    }
}

/// Alice calls Carol, too, who answers at her first terminal.
fn consult(world: &mut World) {
    world.dial_as(ALICE, call_id(2), 2);
    world.run_ms(1500);
    world.act(CAROL, Act::Accept { call: call_id(2) });
    world.run_ms(1500);
    assert_eq!(world.state(CAROL, call_id(2)), Some(CallState::Active));
}

#[test]
fn an_attended_transfer_takes_the_place_of_the_call_at_the_target() {
    let mut world = three(&config());
    // Carol takes one call at a time: the new one is none too many, since the old one goes.
    world.terminals[CAROL].calls.config_mut().max_calls = 1;
    consult(&mut world);
    let rang = world.rings(CAROL2);
    world.act(ALICE, Act::TransferTo { call: first(), with: call_id(2) });
    world.run_ms(500);
    let request = world.terminals[BOB].calls.transfer_request(first()).unwrap();
    assert!(request.attended && request.key == Some(Party::get(2, 0).peer.identity.fingerprint()));
    world.follow_as(BOB, first(), call_id(5));
    world.run_ms(3000);
    assert_eq!(world.rings(CAROL2), rang, "only the terminal rings at which she talks");
    let replaced = world.terminals[CAROL].seen.events.iter().find_map(|event| match event {
        CallEvent::Incoming { call, replaces, answered, .. } if *call == call_id(5) => {
            Some((*replaces, *answered))
        }
        _ => None,
    });
    assert_eq!(replaced, Some((Some(call_id(2)), true)));
    for at in [BOB, CAROL] {
        assert_eq!(world.state(at, call_id(5)), Some(CallState::Active), "answered for the user");
    }
    assert_eq!(states(&world).last(), Some(&TransferState::Done));
    assert_eq!(world.ended(CAROL, call_id(2)), Some((EndReason::Transferred, EndedBy::Local)));
    for call in [first(), call_id(2)] {
        assert_eq!(world.ended(ALICE, call).map(|(reason, _)| reason), Some(EndReason::Transferred));
    }
    assert_eq!(world.ended(BOB, first()).map(|(reason, _)| reason), Some(EndReason::Transferred));
    world.act(CAROL, Act::HangUp { call: call_id(5) });
    world.run_ms(20_000);
    world.assert_idle();
}

#[test]
fn an_attended_transfer_of_a_stranger_rings_and_its_failure_leaves_both_calls() {
    let mut world = World::new(9, &[(0, 0), (1, 0), (2, 0)], &config());
    world.contacts = false;
    world.terminals[BOB].calls.config_mut().transfers = TransferPolicy::Everybody;
    connect(&mut world);
    consult(&mut world);
    world.act(ALICE, Act::TransferTo { call: first(), with: call_id(2) });
    world.run_ms(500);
    world.follow_as(BOB, first(), call_id(5));
    world.run_ms(3000);
    assert_eq!(world.state(CAROL, call_id(5)), Some(CallState::Alerting), "the user is asked who hears her");
    assert_eq!(world.state(CAROL, call_id(2)), Some(CallState::Active));
    world.act(CAROL, Act::Reject { call: call_id(5) });
    world.run_ms(1000);
    assert_eq!(failed(&world), Some(TransferFailure::Rejected));
    assert_eq!(world.state(ALICE, first()), Some(CallState::Active));
    assert_eq!(world.state(ALICE, call_id(2)), Some(CallState::Active));
    assert_eq!(world.state(CAROL, call_id(2)), Some(CallState::Active));
}

/// A made-up token, the right one from somebody else, one that was used, and one that is too old.
#[test]
fn a_token_is_good_once_in_time_and_from_one_account() {
    let invite = |token: Token| Message::Invite {
        offer: offer(),
        candidates: Vec::new(),
        replaces: Some(token),
        solution: None,
    };
    let (right, wrong) = (Token::from_bytes([7; 16]), Token::from_bytes([8; 16]));
    let mut world = three(&config());
    world.terminals[BOB].calls.config_mut().max_calls = 1;
    let (bob, carol) = (Party::get(1, 0), Party::get(2, 0));
    // Alice's terminal says whom to expect, as it does in an attended transfer.
    let expect = |world: &mut World| {
        let now = world.now(ALICE);
        let message = Message::Expect { token: right, identity: carol.peer.identity };
        world.terminals[ALICE].calls.send_in_call(now, first(), message).unwrap();
        world.terminals[ALICE].calls.finish(now);
        world.drain(ALICE);
        world.run_ms(500);
    };
    expect(&mut world);
    let busy = |world: &World, call: u8| world.terminals[BOB].calls.state(call_id(call)).is_none();
    let try_out = |world: &mut World, from: &Party, call: u8, token: Token| {
        let mut packet = craft(from, bob, call_id(call), 1, invite(token));
        packet.time = world.now(BOB).wall;
        world.inject(BOB, from, packet, Caller::Stranger);
    };
    try_out(&mut world, carol, 11, wrong);
    assert!(busy(&world, 11), "made up");
    try_out(&mut world, Party::get(3, 0), 12, right);
    assert!(busy(&world, 12), "somebody else's");
    try_out(&mut world, carol, 13, right);
    assert_eq!(world.state(BOB, call_id(13)), Some(CallState::Alerting), "the right one rings");
    world.act(BOB, Act::Reject { call: call_id(13) });
    try_out(&mut world, carol, 14, right);
    assert!(busy(&world, 14), "used");
    expect(&mut world);
    world.run_ms(91_000);
    try_out(&mut world, carol, 15, right);
    assert!(busy(&world, 15), "too late");
}

/// The transferee's word is about its own call, not about that with the target.
#[test]
fn a_made_up_done_does_not_part_the_transferor_from_the_target() {
    let mut world = three(&config());
    consult(&mut world);
    world.act(ALICE, Act::TransferTo { call: first(), with: call_id(2) });
    world.run_ms(500);
    let id = world.terminals[BOB].calls.transfer_id(first());
    let now = world.now(BOB);
    let message = Message::TransferProgress { id, step: TransferStep::Done };
    world.terminals[BOB].calls.send_in_call(now, first(), message).unwrap();
    world.terminals[BOB].calls.finish(now);
    world.drain(BOB);
    world.run_ms(1000);
    assert_eq!(world.ended(ALICE, first()), Some((EndReason::Transferred, EndedBy::Local)));
    world.run_ms(6000);
    for at in [ALICE, CAROL] {
        assert_eq!(world.state(at, call_id(2)), Some(CallState::Active));
    }
    assert_eq!(failed(&world), Some(TransferFailure::TimedOut), "the user knows of it");
    world.act(CAROL, Act::HangUp { call: call_id(2) });
    world.run_ms(1000);
    assert_eq!(world.ended(ALICE, call_id(2)), Some((EndReason::HungUp, EndedBy::Remote)));
}

/// The transferor gives up after 75 s, and has the call back then: no new call may stand later.
#[test]
fn who_is_called_because_of_a_transfer_is_not_rung_for_ever() {
    let mut world = three(&CallConfig { ring_timeout: Duration::from_secs(600), ..config() });
    asked(&mut world);
    world.follow_as(BOB, first(), call_id(5));
    world.run_ms(70_000);
    assert_eq!(failed(&world), Some(TransferFailure::NoAnswer));
    assert_eq!(world.state(BOB, call_id(5)), None);
    for at in [ALICE, BOB] {
        assert_eq!(world.state(at, first()), Some(CallState::Active));
    }
}

/// Whoever is on hold could otherwise come back by naming itself.
#[test]
fn nobody_takes_the_place_of_oneself() {
    let mut world = three(&config());
    world.terminals[BOB].calls.config_mut().max_calls = 1;
    let (alice, bob) = (Party::get(0, 0), Party::get(1, 0));
    let (now, token) = (world.now(ALICE), Token::from_bytes([7; 16]));
    let message = Message::Expect { token, identity: alice.peer.identity };
    world.terminals[ALICE].calls.send_in_call(now, first(), message).unwrap();
    world.terminals[ALICE].calls.finish(now);
    world.drain(ALICE);
    world.run_ms(500);
    let invite =
        Message::Invite { offer: offer(), candidates: Vec::new(), replaces: Some(token), solution: None };
    let mut packet = craft(alice, bob, call_id(11), 1, invite);
    packet.time = world.now(BOB).wall;
    world.inject(BOB, alice, packet, Caller::Contact);
    assert_eq!(world.terminals[BOB].calls.state(call_id(11)), None, "a second call like any other: busy");
}

#[test]
fn a_call_is_not_handed_over_by_itself_where_its_user_is_not_heard() {
    for what in ["hold", "mute", "machine"] {
        let mut world = three(&config());
        consult(&mut world);
        let (now, calls) = (world.now(CAROL), &mut world.terminals[CAROL].calls);
        match what {
            "hold" => calls.hold(now, call_id(2), true).unwrap(),
            "mute" => calls.mute(now, call_id(2), true).unwrap(),
            _ => calls.leave_to_machine(call_id(2)),
        }
        world.drain(CAROL);
        world.act(ALICE, Act::TransferTo { call: first(), with: call_id(2) });
        world.run_ms(500);
        world.follow_as(BOB, first(), call_id(5));
        world.run_ms(3000);
        assert_eq!(world.state(CAROL, call_id(5)), Some(CallState::Alerting), "{what}");
        assert_eq!(world.state(CAROL, call_id(2)), Some(CallState::Active), "{what}");
    }
}

#[test]
fn a_program_that_knows_no_transfers_is_noticed() {
    let mut world = three(&config());
    world.terminals[BOB].old = true;
    asked(&mut world);
    assert_eq!((states(&world), is_asked(&world, BOB)), (vec![], 0));
    let now = world.now(ALICE);
    let again = world.terminals[ALICE].calls.transfer(
        now,
        first(),
        TransferId::from_bytes([1; 16]),
        Party::number(2),
        None,
    );
    assert_eq!(again, Err(CallError::WrongState), "one at a time");
    world.run_ms(8000);
    assert_eq!(failed(&world), Some(TransferFailure::NotUnderstood));
    assert_eq!(world.state(ALICE, first()), Some(CallState::Active));
}

#[test]
fn a_nuisance_is_not_shown_for_ever() {
    let mut world = three(&config());
    for _ in 0..10 {
        asked(&mut world);
        if world.terminals[BOB].calls.transfer_request(first()).is_some() {
            let now = world.now(BOB);
            world.terminals[BOB].calls.decline_transfer(now, first()).unwrap();
            world.drain(BOB);
        }
        world.run_ms(500);
    }
    assert_eq!(is_asked(&world, BOB), 4);
    // Oneself is nobody to be transferred to.
    let mut world = three(&config());
    world.act(ALICE, Act::Transfer { call: first(), account: 1 });
    world.run_ms(500);
    assert_eq!((failed(&world), is_asked(&world, BOB)), (Some(TransferFailure::Declined), 0));
}
