//! Calls and texts when everything goes well.

use std::time::Duration;

use super::party::Party;
use super::world::{Act, HOST, RELAYED, World, call_id, craft, ignore};
use crate::call::{
    CallConfig, CallError, CallEvent, CallState, Caller, Direction, EndReason, EndedBy, LegId, Output,
    TextFailure,
};
use crate::signalling::{LimitError, Message, RecordingState, RejectReason, TextId};

const ALICE: usize = 0;
const BOB: usize = 1;
const BOB2: usize = 2;

fn two() -> World {
    World::new(1, &[(0, 0), (1, 0)], &CallConfig::default())
}

fn forked() -> World {
    World::new(2, &[(0, 0), (1, 0), (1, 1)], &CallConfig::default())
}

/// Alice calls Bob, who answers; returns when the call stands.
pub(super) fn connect(world: &mut World) {
    world.dial_as(ALICE, call_id(1), 1);
    world.run_ms(2000);
    world.act(BOB, Act::Accept { call: call_id(1) });
    world.run_ms(1000);
    assert_eq!(world.state(ALICE, call_id(1)), Some(CallState::Active));
    assert_eq!(world.state(BOB, call_id(1)), Some(CallState::Active));
}

#[test]
fn a_call_from_dialling_to_hanging_up() {
    let mut world = two();
    connect(&mut world);
    world.run_ms(10_000);
    world.act(BOB, Act::HangUp { call: call_id(1) });
    world.run_ms(1000);
    assert_eq!(world.ended(BOB, call_id(1)), Some((EndReason::HungUp, EndedBy::Local)));
    assert_eq!(world.ended(ALICE, call_id(1)), Some((EndReason::HungUp, EndedBy::Remote)));
    let names = |at: usize| -> Vec<String> {
        let events = world.terminals[at].seen.events.iter();
        events.map(|event| format!("{event:?}").split('(').next().unwrap().to_owned()).collect()
    };
    assert_eq!(names(ALICE), ["Searching", "Found", "Ringing", "Accepted", "Connected", "Ended"]);
    assert_eq!(names(BOB), ["Incoming", "Accepted", "Connected", "Ended"]);
    let Some(CallEvent::Ended { number, direction, duration: Some(duration), .. }) =
        world.terminals[BOB].seen.events.last()
    else {
        panic!("no duration")
    };
    assert_eq!((number, *direction), (&Party::number(0), Direction::Incoming));
    assert!((10.0..11.5).contains(&duration.as_secs_f64()), "{duration:?}");
    world.assert_idle();
}

#[test]
fn audio_starts_with_the_answer_whether_media_are_up_or_not() {
    for contacts in [true, false] {
        let mut world = two();
        world.contacts = contacts;
        world.dial_as(ALICE, call_id(1), 1);
        world.run_ms(3000);
        let answered = world.time;
        world.act(BOB, Act::Accept { call: call_id(1) });
        world.run_ms(15);
        // Strangers' media come up after the answer only, since their addresses are shown then.
        assert_eq!(world.state(BOB, call_id(1)), Some(CallState::Connecting));
        world.run_ms(485);
        assert_eq!(world.audio(BOB), [answered], "the callee speaks at once");
        assert_eq!(world.audio(ALICE), [answered + Duration::from_millis(20)], "the caller one way later");
        assert_eq!(world.state(BOB, call_id(1)), Some(CallState::Active));
    }
}

#[test]
fn ringback_only_after_a_real_ringing() {
    let mut world = two();
    world.filter = Some(|world, _, packet| {
        let early = world.time < Duration::from_millis(1500);
        early && matches!(packet.message, Some(Message::Ringing { .. }))
    });
    world.dial_as(ALICE, call_id(1), 1);
    world.run_ms(1400);
    assert_eq!(world.rings(BOB), 1);
    assert_eq!(world.state(ALICE, call_id(1)), Some(CallState::Inviting));
    world.run_ms(2000);
    assert_eq!(world.state(ALICE, call_id(1)), Some(CallState::Ringing));
}

#[test]
fn all_terminals_ring_and_one_answers() {
    let mut world = forked();
    world.dial_as(ALICE, call_id(1), 1);
    world.run_ms(2000);
    assert_eq!((world.rings(BOB), world.rings(BOB2)), (1, 1));
    world.act(BOB2, Act::Accept { call: call_id(1) });
    world.run_ms(1000);
    assert_eq!(world.state(BOB2, call_id(1)), Some(CallState::Active));
    assert_eq!(world.ended(BOB, call_id(1)), Some((EndReason::AnsweredElsewhere, EndedBy::Elsewhere)));
    let leg = LegId { call: call_id(1), terminal: Party::get(1, 1).local.terminal };
    assert_eq!(world.terminals[ALICE].calls.leg_of(call_id(1)), Some(leg));
    assert_eq!(world.terminals[ALICE].calls.call_of(&leg), Some(call_id(1)));
}

#[test]
fn a_decline_holds_for_all_terminals() {
    let mut world = forked();
    world.dial_as(ALICE, call_id(1), 1);
    world.run_ms(2000);
    world.act(BOB, Act::Reject { call: call_id(1) });
    world.run_ms(1000);
    assert_eq!(world.ended(ALICE, call_id(1)), Some((EndReason::Declined, EndedBy::Remote)));
    assert_eq!(world.ended(BOB, call_id(1)), Some((EndReason::Declined, EndedBy::Local)));
    assert_eq!(world.ended(BOB2, call_id(1)), Some((EndReason::Declined, EndedBy::Elsewhere)));
    world.assert_idle();
}

#[test]
fn busy_is_one_terminals_matter() {
    let mut world = World::new(3, &[(0, 0), (1, 0), (1, 1), (2, 0)], &CallConfig::default());
    let carol = 3;
    world.dial_as(carol, call_id(9), 1);
    world.run_ms(1500);
    world.act(BOB, Act::Accept { call: call_id(9) });
    world.run_ms(1000);
    world.dial_as(ALICE, call_id(1), 1);
    world.run_ms(2000);
    assert_eq!(world.rings(BOB), 1, "only Carol's call rang there");
    assert_eq!(world.state(ALICE, call_id(1)), Some(CallState::Ringing), "it rings at the other terminal");
    world.act(BOB2, Act::Reject { call: call_id(1) });
    world.run_ms(200);
    assert_eq!(world.ended(ALICE, call_id(1)), Some((EndReason::Declined, EndedBy::Remote)));

    world.terminals[BOB2].dead = true;
    world.dial_as(ALICE, call_id(2), 1);
    world.run_ms(2000);
    assert_eq!(world.ended(ALICE, call_id(2)), Some((EndReason::Busy, EndedBy::Remote)));
}

#[test]
fn one_call_at_a_time_unless_configured_otherwise() {
    let mut world = two();
    connect(&mut world);
    let now = world.now(ALICE);
    let again = world.terminals[ALICE].calls.dial(now, call_id(2), Party::number(2), true);
    assert_eq!(again, Err(CallError::TooMany));
    let same = world.terminals[ALICE].calls.dial(now, call_id(1), Party::number(2), true);
    assert_eq!(same, Err(CallError::Duplicate));

    let config = CallConfig { max_calls: 2, ..CallConfig::default() };
    let mut world = World::new(3, &[(0, 0), (1, 0), (2, 0)], &config);
    connect(&mut world);
    world.dial_as(2, call_id(2), 1);
    world.run_ms(2000);
    assert_eq!(world.rings(BOB), 2, "call waiting");

    let config = CallConfig { call_waiting: false, ..config };
    let mut world = World::new(3, &[(0, 0), (1, 0), (2, 0)], &config);
    connect(&mut world);
    world.dial_as(2, call_id(2), 1);
    world.run_ms(2000);
    assert_eq!(world.ended(2, call_id(2)), Some((EndReason::Busy, EndedBy::Remote)));
    world.dial_as(BOB, call_id(3), 2);
    assert_eq!(
        world.state(BOB, call_id(3)),
        Some(CallState::Searching),
        "one's own second call is another matter"
    );
}

#[test]
fn no_answer_after_the_ringing_time_out() {
    let mut world = two();
    world.dial_as(ALICE, call_id(1), 1);
    world.run_ms(44_000);
    assert_eq!(world.state(ALICE, call_id(1)), Some(CallState::Ringing));
    world.run_ms(3000);
    assert_eq!(world.ended(ALICE, call_id(1)).unwrap().0, EndReason::NoAnswer);
    assert_eq!(world.ended(BOB, call_id(1)).unwrap().0, EndReason::NoAnswer);
    world.assert_idle();
}

#[test]
fn each_end_applies_its_own_ringing_time_out() {
    let mut world = two();
    world.terminals[BOB].calls.config_mut().ring_timeout = Duration::from_secs(10);
    world.dial_as(ALICE, call_id(1), 1);
    world.run_ms(12_000);
    assert_eq!(world.ended(ALICE, call_id(1)), Some((EndReason::NoAnswer, EndedBy::Remote)));
}

#[test]
fn the_caller_gives_up() {
    let mut world = two();
    world.dial_as(ALICE, call_id(1), 1);
    world.run_ms(2000);
    world.act(ALICE, Act::HangUp { call: call_id(1) });
    world.run_ms(1000);
    assert_eq!(world.ended(ALICE, call_id(1)), Some((EndReason::Cancelled, EndedBy::Local)));
    assert_eq!(world.ended(BOB, call_id(1)), Some((EndReason::Cancelled, EndedBy::Remote)));
    world.assert_idle();
}

#[test]
fn the_callee_may_say_busy_or_blocked() {
    for (reason, ended) in
        [(RejectReason::Busy, EndReason::Busy), (RejectReason::Blocked, EndReason::Blocked)]
    {
        let mut world = two();
        world.dial_as(ALICE, call_id(1), 1);
        world.run_ms(2000);
        let now = world.now(BOB);
        world.terminals[BOB].calls.reject(now, call_id(1), reason).unwrap();
        world.drain(BOB);
        world.run_ms(1000);
        assert_eq!(world.ended(ALICE, call_id(1)), Some((ended, EndedBy::Remote)));
        assert_eq!(world.ended(BOB, call_id(1)), Some((ended, EndedBy::Local)));
    }
}

#[test]
fn candidates_after_a_change_of_network_take_the_place_of_all_before() {
    let mut world = two();
    world.record = true;
    connect(&mut world);
    let leg = LegId { call: call_id(1), terminal: Party::get(1, 0).local.terminal };
    world.terminals[ALICE].calls.renew_candidates(leg).unwrap();
    let now = world.now(ALICE);
    world.terminals[ALICE].calls.local_candidates(now, leg, vec![RELAYED.to_owned()]).unwrap();
    world.drain(ALICE);
    world.run_ms(1000);
    let generations = world.sent.iter().filter_map(|(at, packet)| match packet.message {
        Some(Message::Candidates { generation, .. }) if *at == ALICE => Some(generation),
        _ => None,
    });
    assert_eq!(generations.collect::<Vec<_>>().last(), Some(&1));
    let shown = |world: &World| world.terminals[BOB].media.values().next().unwrap().shown.clone();
    assert_eq!(shown(&world), [(3, false), (1, true)]);

    // One that comes late says nothing any more.
    let (alice, bob) = (Party::get(0, 0), Party::get(1, 0));
    let late = Message::Candidates { list: vec![HOST.to_owned()], generation: 0 };
    let seq = world.sent.iter().filter(|(at, _)| *at == ALICE).map(|(_, packet)| packet.seq).max().unwrap();
    world.inject(BOB, alice, craft(alice, bob, call_id(1), seq + 1, late), Caller::Contact);
    assert_eq!(shown(&world).len(), 2);
}

#[test]
fn what_strangers_have_kept_back_goes_with_the_accept_and_the_confirmation() {
    let mut world = two();
    world.contacts = false;
    world.record = true;
    connect(&mut world);
    let own = |list: &[String]| list.iter().filter(|candidate| *candidate == HOST).count();
    for at in [ALICE, BOB] {
        let sent = world.sent.iter().filter(|(from, _)| *from == at);
        let (mut with_answer, mut alone) = (0, 0);
        for message in sent.filter_map(|(_, packet)| packet.message.as_ref()) {
            match message {
                Message::Accept { candidates, .. } | Message::Confirm { candidates } => {
                    with_answer = own(candidates);
                }
                Message::Candidates { list, .. } => alone += own(list),
                _ => {}
            }
        }
        assert_eq!((with_answer, alone), (2, 0));
        let shown = &world.terminals[at].media.values().next().unwrap().shown;
        assert_eq!(shown.iter().map(|(count, _)| count).sum::<usize>(), 3, "the relayed one, and these");
    }
}

/// [`World`] checks that nothing is shown too early; here, that relayed candidates and contacts need not wait.
#[test]
fn while_it_rings_relayed_candidates_are_exchanged_and_with_contacts_all() {
    for contacts in [true, false] {
        let mut world = two();
        world.contacts = contacts;
        world.record = true;
        world.dial_as(ALICE, call_id(1), 1);
        world.run_ms(2000);
        for at in [ALICE, BOB] {
            let told = world.candidates(at);
            assert!(told.contains(&RELAYED.to_owned()));
            assert_eq!(told.contains(&HOST.to_owned()), contacts);
        }
        world.act(BOB, Act::Accept { call: call_id(1) });
        world.run_ms(1500);
        for at in [ALICE, BOB] {
            assert!(world.candidates(at).contains(&HOST.to_owned()));
        }
        assert_eq!(world.state(BOB, call_id(1)), Some(CallState::Active));
    }
}

#[test]
fn keys_hold_mute_and_texts_in_a_call() {
    let mut world = two();
    connect(&mut world);
    let now = world.now(ALICE);
    let calls = &mut world.terminals[ALICE].calls;
    let (call, id) = (call_id(1), TextId::from_bytes([5; 16]));
    calls.dtmf(now, call, '#', 120).unwrap();
    calls.hold(now, call, true).unwrap();
    calls.mute(now, call, true).unwrap();
    calls.recording(now, call, RecordingState::Wanted).unwrap();
    calls.text(now, call, id, "안녕".to_owned()).unwrap();
    assert_eq!(calls.text(now, call, id, String::new()), Err(CallError::Duplicate));
    assert_eq!(calls.dtmf(now, call, 'x', 120), Err(CallError::Limit(LimitError::Dtmf)));
    assert_eq!(
        calls.text(now, call, TextId::from_bytes([6; 16]), "x".repeat(4097)),
        Err(CallError::Limit(LimitError::Text))
    );
    world.drain(ALICE);
    world.run_ms(500);
    let heard = &world.terminals[BOB].seen.events;
    for event in [
        CallEvent::Dtmf { call, digit: '#', duration_ms: 120 },
        CallEvent::RemoteHold { call, on: true },
        CallEvent::RemoteMute { call, on: true },
        CallEvent::Recording { call, state: RecordingState::Wanted },
    ] {
        assert!(heard.contains(&event), "{event:?}");
    }
    assert_eq!(world.terminals[BOB].seen.texts, [id]);
    assert_eq!(world.terminals[ALICE].seen.text_results[&id], Ok(()));
}

#[test]
fn what_is_said_of_a_recording_waits_for_nothing() {
    let mut world = two();
    connect(&mut world);
    let now = world.now(ALICE);
    let calls = &mut world.terminals[ALICE].calls;
    calls.recording(now, call_id(1), RecordingState::Refused).unwrap();
    let output = calls.poll_output();
    let goes_out = matches!(&output, Some(Output::Transmit { packet, .. })
        if packet.message == Some(Message::Recording { state: RecordingState::Refused }));
    assert!(goes_out, "{output:?}");
}

#[test]
fn nothing_is_said_in_a_call_before_the_answer() {
    let mut world = two();
    world.dial_as(ALICE, call_id(1), 1);
    world.run_ms(2000);
    for at in [ALICE, BOB] {
        let now = world.now(at);
        assert_eq!(world.terminals[at].calls.hold(now, call_id(1), true), Err(CallError::WrongState));
    }
    let now = world.now(ALICE);
    assert_eq!(world.terminals[ALICE].calls.accept(now, call_id(1)), Err(CallError::WrongState));
    assert_eq!(world.terminals[ALICE].calls.accept(now, call_id(2)), Err(CallError::UnknownCall));
}

#[test]
fn a_text_outside_of_a_call_reaches_all_terminals() {
    let mut world = forked();
    world.act(ALICE, Act::TextTo { account: 1 });
    world.run_ms(3000);
    assert_eq!((world.terminals[BOB].seen.texts.len(), world.terminals[BOB2].seen.texts.len()), (1, 1));
    assert!(world.terminals[ALICE].seen.text_results.values().all(|result| *result == Ok(())));
    assert_eq!(world.terminals[ALICE].seen.text_results.len(), 1);
    world.assert_idle();
}

#[test]
fn texts_that_do_not_arrive() {
    let failure = |world: &World| {
        let results = &world.terminals[ALICE].seen.text_results;
        results.values().next().copied().map(Result::unwrap_err)
    };
    let mut world = two();
    world.terminals[BOB].dead = true;
    world.act(ALICE, Act::TextTo { account: 1 });
    world.run_ms(3000);
    assert_eq!(failure(&world), Some(TextFailure::Unreachable), "not connected: known at once");
    world.assert_idle();

    let mut world = two();
    world.weather.loss = 1000;
    world.act(ALICE, Act::TextTo { account: 1 });
    world.run_ms(7500);
    assert_eq!(failure(&world), None);
    world.run_ms(3000);
    assert!(matches!(failure(&world), Some(TextFailure::Unreachable | TextFailure::TimedOut)));
    world.assert_idle();

    let mut world = two();
    let now = world.now(ALICE);
    let calls = &mut world.terminals[ALICE].calls;
    let id = TextId::from_bytes([1; 16]);
    calls.text_to(now, call_id(1), Party::number(3), id, "x".to_owned()).unwrap();
    assert_eq!(calls.text_number(call_id(1)), Some(&Party::number(3)));
    ignore(calls.lookup_finished(now, call_id(1), crate::call::LookupEnd::WrongNumber));
    world.drain(ALICE);
    assert_eq!(failure(&world), Some(TextFailure::WrongNumber));
    world.assert_idle();
}

#[test]
fn a_text_that_nobody_confirms_before_the_call_ends() {
    let mut world = two();
    connect(&mut world);
    world.weather.loss = 1000;
    world.act(ALICE, Act::Text { call: call_id(1) });
    world.act(ALICE, Act::HangUp { call: call_id(1) });
    world.run_ms(20_000);
    let results: Vec<_> = world.terminals[ALICE].seen.text_results.values().collect();
    assert_eq!(results, [&Err(TextFailure::CallEnded)]);
}

#[test]
fn a_text_just_before_hanging_up_arrives() {
    let mut world = two();
    connect(&mut world);
    // Lost at first: its repetition comes after the hang-up.
    world.weather.loss = 1000;
    world.act(ALICE, Act::Text { call: call_id(1) });
    world.weather.loss = 0;
    world.act(ALICE, Act::HangUp { call: call_id(1) });
    world.run_ms(50);
    assert_eq!(world.ended(BOB, call_id(1)), Some((EndReason::HungUp, EndedBy::Remote)), "without waiting");
    world.run_ms(20_000);
    assert_eq!(world.terminals[BOB].seen.texts.len(), 1);
    assert_eq!(world.ended(BOB, call_id(1)), Some((EndReason::HungUp, EndedBy::Remote)));
    world.assert_idle();
}

#[test]
fn handshakes_are_tunnelled_while_it_rings() {
    let mut world = two();
    world.dial_as(ALICE, call_id(1), 1);
    world.run_ms(2000);
    let leg = LegId { call: call_id(1), terminal: Party::get(1, 0).local.terminal };
    let now = world.now(ALICE);
    world.record = true;
    for n in 0..64 {
        world.terminals[ALICE].calls.tunnel(now, leg, vec![vec![n; 1200]]).unwrap();
    }
    assert_eq!(world.terminals[ALICE].calls.tunnel(now, leg, vec![vec![0; 1200]]), Err(CallError::QueueFull));
    world.drain(ALICE);
    world.run_ms(5000);
    assert_eq!(world.kinds(ALICE).iter().filter(|kind| **kind == "tunnel").count(), 64, "never repeated");
    assert_eq!(world.terminals[BOB].tunnelled, 64);
    let other = LegId { call: call_id(2), ..leg };
    assert_eq!(world.terminals[ALICE].calls.tunnel(now, other, vec![vec![0]]), Err(CallError::UnknownLeg));
}

#[test]
fn a_user_calls_her_own_other_terminal() {
    let mut world = World::new(5, &[(0, 0), (0, 1)], &CallConfig::default());
    world.dial_as(ALICE, call_id(1), 0);
    world.run_ms(2000);
    assert_eq!(world.rings(1), 1);
    assert_eq!(world.rings(ALICE), 0);
    world.act(1, Act::Accept { call: call_id(1) });
    world.run_ms(1000);
    assert_eq!(world.state(ALICE, call_id(1)), Some(CallState::Active));
}

#[test]
fn debug_output_tells_no_number_and_no_address() {
    let mut world = two();
    world.record = true;
    connect(&mut world);
    world.act(ALICE, Act::Text { call: call_id(1) });
    world.run_ms(500);
    let digits = Party::number(0).canonical();
    let mut all = format!("{:?} {:?}", world.terminals[ALICE].seen.events, world.terminals[BOB].seen.events);
    all += &format!("{:?} {:?} {:?}", world.sent, world.terminals[BOB].calls, world.terminals[BOB].party);
    for secret in [digits.as_str(), "192.0.2.1", "hello", "password-of"] {
        assert!(!all.contains(secret), "{secret}");
    }
}
