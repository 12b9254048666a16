//! Unwanted calls: what does not ring, what its caller is told, and what the user can see of it.

use crate::presence::befriend;
use crate::scene::{PATIENCE, Person, directory, end, person, start};
use offhook::api::{
    BlockedCaller, Command, EndReason, Event, RefusedCall, Reply, Screening, ScreeningChange, Strangers,
};
use offhook::phone::CallState;
use offhook::proto::screening::{CALL_TARIFF, Reason};
use std::time::{Duration, Instant};

async fn screening(person: &Person, change: ScreeningChange) -> Screening {
    match person.does(Command::Screening(change)).await {
        Reply::Screening(state) => state,
        other => panic!("{other:?}"),
    }
}

async fn refused(person: &Person) -> Vec<RefusedCall> {
    match person.does(Command::Refused).await {
        Reply::Refused { calls } => calls,
        other => panic!("{other:?}"),
    }
}

async fn blocked(person: &Person) -> Vec<BlockedCaller> {
    match person.does(Command::BlockList).await {
        Reply::Blocked { blocked } => blocked,
        other => panic!("{other:?}"),
    }
}

/// How a call of one to the other ends that is not to ring.
async fn refuses(caller: &Person, callee: &Person) -> EndReason {
    let call = caller.phone.dial(callee.number()).await.unwrap();
    call.ended().await
}

/// Dials until it rings, and hangs up.
async fn rings(caller: &Person, callee: &Person) {
    let mut call = caller.phone.dial(callee.number()).await.unwrap();
    assert_eq!(call.until(|state| *state == CallState::Ringing).await, CallState::Ringing);
    call.hang_up().await.unwrap();
    call.ended().await;
    // A stranger has one call at a time.
    let end = Instant::now() + PATIENCE;
    while !callee.status().await.calls.is_empty() {
        assert!(Instant::now() < end, "it rings on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q8_nothing_rings_for_who_does_not_want_to_be_disturbed_and_the_reasons_are_kept() {
    let dir = directory().await;
    let ada = person(0, &dir, |builder| builder).await;
    let mut bob = person(1, &dir, |builder| builder).await;
    befriend(&bob, &ada, "Ada").await;
    let on = ScreeningChange { quiet: Some(true), ..ScreeningChange::default() };
    let state = screening(&bob, on).await;
    assert!(state.quiet && state.quiet_now);
    assert_eq!(refuses(&ada, &bob).await, EndReason::Voicemail);
    let told = bob
        .sees("that a call did not ring", |event| match event {
            Event::Refused(call) => Some(call.clone()),
            _ => None,
        })
        .await;
    assert_eq!((told.reason, told.name.as_deref(), told.contact), (Reason::DoNotDisturb, Some("Ada"), true));
    assert!(bob.status().await.calls.is_empty());
    // One who may always disturb does.
    let always = ScreeningChange { always: Some("Ada".into()), ..ScreeningChange::default() };
    assert_eq!(screening(&bob, always).await.always.len(), 1);
    rings(&ada, &bob).await;
    let not = ScreeningChange { not_always: Some("Ada".into()), ..ScreeningChange::default() };
    screening(&bob, not).await;
    assert_eq!(refuses(&ada, &bob).await, EndReason::Voicemail);
    // All of it is there after a restart.
    bob.phone.shutdown().await;
    let bob = start(1, &dir, bob.home, |builder| builder).await;
    let list = refused(&bob).await;
    assert_eq!(list.len(), 1);
    assert_eq!((list[0].count, list[0].reason), (2, Reason::DoNotDisturb));
    assert_eq!(refuses(&ada, &bob).await, EndReason::Voicemail);
    let off = ScreeningChange { quiet: Some(false), ..ScreeningChange::default() };
    assert!(!screening(&bob, off).await.quiet_now);
    rings(&ada, &bob).await;
    end([ada, bob], dir).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q8_a_call_that_rings_is_declined_for_ever_or_sent_to_leave_a_message() {
    let dir = directory().await;
    let ada = person(0, &dir, |builder| builder).await;
    let bob = person(1, &dir, |builder| builder).await;
    let mut call = ada.phone.dial(bob.number()).await.unwrap();
    call.until(|state| *state == CallState::Ringing).await;
    bob.does(Command::Reject { call: None, voicemail: true, block: false }).await;
    assert_eq!(call.ended().await, EndReason::Voicemail);
    let mut call = ada.phone.dial(bob.number()).await.unwrap();
    call.until(|state| *state == CallState::Ringing).await;
    bob.does(Command::Reject { call: None, voicemail: false, block: true }).await;
    assert_eq!(call.ended().await, EndReason::Blocked);
    let list = blocked(&bob).await;
    assert_eq!(list.len(), 1);
    assert!(list[0].key.is_some() && list[0].number.as_ref().is_some_and(|n| *n == *ada.phone.number()));
    // From now on nothing rings, nor is a message of hers kept; not even as a contact.
    assert_eq!(refuses(&ada, &bob).await, EndReason::Blocked);
    befriend(&bob, &ada, "Ada").await;
    assert_eq!(refuses(&ada, &bob).await, EndReason::Blocked);
    ada.does(Command::Text { number: bob.number(), body: "hear me".into() }).await;
    let mut ada = ada;
    let why = ada
        .sees("that the message is refused", |event| match event {
            Event::TextFailed { reason, .. } => Some(*reason),
            _ => None,
        })
        .await;
    assert_eq!(why, EndReason::Blocked);
    bob.does(Command::BlockRemove { number: "Ada".into() }).await;
    assert!(blocked(&bob).await.is_empty());
    rings(&ada, &bob).await;
    assert!(bob.phone.execute(Command::BlockRemove { number: "Ada".into() }).await.is_err(), "nobody");
    end([ada, bob], dir).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q8_strangers_leave_a_message_or_nothing_when_only_contacts_may_call() {
    let dir = directory().await;
    let ada = person(0, &dir, |builder| builder).await;
    let bob = person(1, &dir, |builder| builder).await;
    for (strangers, end) in
        [(Strangers::Voicemail, EndReason::Voicemail), (Strangers::Refuse, EndReason::Blocked)]
    {
        let change = ScreeningChange { strangers: Some(strangers), ..ScreeningChange::default() };
        assert_eq!(screening(&bob, change).await.strangers, strangers);
        assert_eq!(refuses(&ada, &bob).await, end);
    }
    let list = refused(&bob).await;
    assert_eq!((list.len(), list[0].count, list[0].reason), (1, 2, Reason::ContactsOnly));
    befriend(&bob, &ada, "Ada").await;
    rings(&ada, &bob).await;
    end([ada, bob], dir).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q8_a_stranger_works_for_a_call_when_many_strangers_have_called() {
    let dir = directory().await;
    let mut ada = person(0, &dir, |builder| builder).await;
    let bob = person(1, &dir, |builder| builder).await;
    for _ in 0..CALL_TARIFF.free {
        rings(&ada, &bob).await;
    }
    let mut call = ada.phone.dial(bob.number()).await.unwrap();
    let bits = ada
        .sees("that there is work", |event| match event {
            Event::Working { bits, .. } => Some(*bits),
            _ => None,
        })
        .await;
    assert_eq!(bits, CALL_TARIFF.base + 1);
    assert_eq!(call.until(|state| *state == CallState::Ringing).await, CallState::Ringing);
    bob.does(Command::Answer { call: None }).await;
    assert_eq!(call.until(|state| *state == CallState::Active).await, CallState::Active);
    call.hang_up().await.unwrap();
    call.ended().await;
    // With whom one has spoken does not.
    let mut call = ada.phone.dial(bob.number()).await.unwrap();
    call.until(|state| *state == CallState::Ringing).await;
    call.hang_up().await.unwrap();
    call.ended().await;
    let heard = std::iter::from_fn(|| {
        futures::FutureExt::now_or_never(futures::StreamExt::next(ada.events.as_mut())).flatten()
    });
    assert!(!heard.into_iter().any(|timed| matches!(timed.event, Event::Working { .. })));
    end([ada, bob], dir).await;
}
