//! A second call.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use offhook::api::{Command, EndReason, ErrorCode, Event, Recording, RecordingEvent};
use offhook::phone::{AnswerMode, CallState, Machine};
use offhook::storage::Home;

use crate::scene::{HUMS, Person, directory, end, person, talk, until};

const ADA: f64 = HUMS[0];
const BOB: f64 = HUMS[1];
const CY: f64 = HUMS[2];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q13_a_second_call_waits_is_answered_and_the_user_swaps_between_the_two() {
    let dir = directory().await;
    let ada = person(0, &dir, |builder| builder).await;
    let mut bob = person(1, &dir, |builder| builder).await;
    let cy = person(2, &dir, |builder| builder).await;
    let first = talk(&ada, &mut bob, [ADA, BOB]).await;
    let mut second = cy.phone.dial(bob.number()).await.unwrap();
    assert_eq!(bob.rings().await, second.id());
    bob.ear.hears("the tone that tells of a waiting call", 425.0).await;
    bob.ear.hears("and the first call beside it", ADA).await;
    assert_eq!(bob.ear.open.load(SeqCst), 1, "one call has the loudspeaker");

    bob.does(Command::Answer { call: None }).await;
    assert_eq!(second.until(|state| *state == CallState::Active).await, CallState::Active);
    bob.ear.hears("the second call", CY).await;
    cy.ear.hears("the callee", BOB).await;
    ada.ear.hears_music().await;
    ada.shows("put on hold", first.id(), |call| call.keys.remote_held).await;
    assert!(bob.call(first.id()).await.keys.held && !bob.call(second.id()).await.keys.held);
    until("one call has the loudspeaker", || bob.ear.open.load(SeqCst) == 1).await;

    bob.does(Command::Swap).await;
    bob.ear.hears("the first call", ADA).await;
    ada.ear.hears("the callee again", BOB).await;
    cy.ear.hears_music().await;
    assert!(!bob.call(first.id()).await.keys.held && bob.call(second.id()).await.keys.held);

    // Its end does not take the other one up.
    first.hang_up().await.unwrap();
    assert_eq!(first.ended().await, EndReason::HungUp);
    bob.sees("the first one's end", |event| {
        matches!(event, Event::Ended { call, .. } if call == first.id()).then_some(())
    })
    .await;
    assert!(bob.call(second.id()).await.keys.held);
    cy.ear.hears_music().await;
    assert_eq!(bob.phone.execute(Command::Swap).await.unwrap_err().code, ErrorCode::NoCall);
    bob.does(Command::Hold { call: None, on: false }).await;
    bob.ear.hears("the second call", CY).await;
    cy.ear.hears("the callee", BOB).await;
    end([ada, bob, cy], dir).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q13_a_second_number_is_dialled_while_the_first_call_is_on_hold() {
    let dir = directory().await;
    let mut ada = person(0, &dir, |builder| builder).await;
    let mut bob = person(1, &dir, |builder| builder).await;
    let mut cy = person(2, &dir, |builder| builder).await;
    let first = talk(&ada, &mut bob, [ADA, BOB]).await;
    let mut second = ada.phone.dial(cy.number()).await.unwrap();
    bob.ear.hears_music().await;
    cy.rings().await;
    ada.ear.hears("ringback of the second call", 425.0).await;
    // Declined: the first call is still there, and on hold until the user takes it back.
    cy.does(Command::Reject { call: None, voicemail: false, block: false }).await;
    assert_eq!(second.until(|_| false).await, CallState::Ended(EndReason::Declined));
    assert!(ada.call(first.id()).await.keys.held);
    let second = talk(&ada, &mut cy, [ADA, CY]).await;
    let third = ada.phone.dial(bob.number()).await.unwrap_err();
    assert_eq!(third.code, ErrorCode::Busy, "two calls, not more");
    ada.does(Command::Swap).await;
    ada.ear.hears("the first call", BOB).await;
    cy.ear.hears_music().await;
    // Without a name the call that talks is meant.
    ada.does(Command::Hangup { call: None }).await;
    assert_eq!(first.ended().await, EndReason::HungUp);
    ada.sees("which one ended", |event| {
        matches!(event, Event::Ended { call, .. } if call == first.id()).then_some(())
    })
    .await;
    assert_eq!(second.state(), CallState::Active);
    end([ada, bob, cy], dir).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q13_who_wants_no_second_call_is_busy() {
    let dir = directory().await;
    let ada = person(0, &dir, |builder| builder).await;
    let mut bob = person(1, &dir, |builder| builder.call_waiting(false)).await;
    let cy = person(2, &dir, |builder| builder.answer(AnswerMode::Auto)).await;
    let _first = talk(&ada, &mut bob, [ADA, BOB]).await;
    let second = cy.phone.dial(bob.number()).await.unwrap();
    assert_eq!(second.ended().await, EndReason::Busy);
    // Bob may dial a second one all the same; who answers by itself takes one at a time.
    let mut second = bob.phone.dial(cy.number()).await.unwrap();
    assert_eq!(second.until(|state| *state == CallState::Active).await, CallState::Active);
    let third = ada.phone.dial(cy.number()).await.unwrap();
    assert_eq!(third.ended().await, EndReason::Busy);
    end([ada, bob, cy], dir).await;
}

/// Waits until the machine records what the caller says.
async fn takes_a_message(who: &mut Person, of: &str) {
    let begun = |event: &Event| match event {
        Event::Recording(RecordingEvent::Started { call, recording, .. }) if call == of => {
            Some(recording.clone())
        }
        _ => None,
    };
    let message = who.sees("a message begins", begun).await;
    // Of a moment nothing would be kept.
    let room = Home::open(who.home.path()).unwrap().recordings(&"bob".parse().unwrap()).await.unwrap();
    let long = |one: &Recording| one.recording == message && one.duration_ms >= 500;
    until("the message grows", || room.list().is_ok_and(|list| list.iter().any(long))).await;
}

async fn has_a_message(who: &mut Person, from: &Person) {
    let number = Some(from.phone.number().clone());
    who.sees("a message", |event| match event {
        Event::VoiceMessage(message) if message.number == number => Some(()),
        _ => None,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q9_q13_the_machine_takes_a_call_beside_the_users_own() {
    let dir = directory().await;
    let machine = Machine { after: Duration::from_secs(3), ..Machine::default() };
    let ada = person(0, &dir, |builder| builder).await;
    let mut bob = person(1, &dir, |builder| builder.answer(AnswerMode::Machine).machine(machine)).await;
    let cy = person(2, &dir, |builder| builder).await;
    let first = talk(&ada, &mut bob, [ADA, BOB]).await;
    let mut second = cy.phone.dial(bob.number()).await.unwrap();
    bob.rings().await;
    bob.ear.hears("the tone that tells of a waiting call", 425.0).await;
    assert_eq!(second.until(|state| *state == CallState::Active).await, CallState::Active, "by the machine");
    takes_a_message(&mut bob, second.id()).await;
    assert!(!bob.call(first.id()).await.keys.held, "whom one talks with hears no music");
    ada.ear.hears("the callee all the time", BOB).await;
    bob.ear.hears("the first caller", ADA).await;
    // What the user does is about the call in which the user is.
    bob.does(Command::Mute { call: None, on: true }).await;
    assert!(bob.call(first.id()).await.keys.muted && !bob.call(second.id()).await.keys.muted);
    bob.does(Command::Mute { call: None, on: false }).await;
    let held = Command::Hold { call: Some(second.id().to_owned()), on: true };
    for none in [Command::Swap, Command::Transfer { call: None, to: None }, held] {
        assert_eq!(bob.phone.execute(none).await.unwrap_err().code, ErrorCode::NoCall);
    }
    second.hang_up().await.unwrap();
    has_a_message(&mut bob, &cy).await;

    // Nor does a call of the user's stop the machine.
    first.hang_up().await.unwrap();
    let mut third = cy.phone.dial(bob.number()).await.unwrap();
    assert_eq!(third.until(|state| *state == CallState::Active).await, CallState::Active);
    let _own = bob.phone.dial(ada.number()).await.unwrap();
    takes_a_message(&mut bob, third.id()).await;
    assert!(!bob.call(third.id()).await.keys.held);
    third.hang_up().await.unwrap();
    has_a_message(&mut bob, &cy).await;
    end([ada, bob, cy], dir).await;
}
