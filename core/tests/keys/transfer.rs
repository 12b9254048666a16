//! Transfers between three telephones: who hears whom in the end.

use offhook::api::{Command, EndReason, ErrorCode, Event, Reply, TransferFailure, TransferState};
use offhook::phone::{Call, CallState, TransferPolicy};

use crate::scene::{Directory, HUMS, Person, directory, end, person, talk};

const ADA: f64 = HUMS[0];
const BOB: f64 = HUMS[1];
const CY: f64 = HUMS[2];

/// Bob is with both others, who are contacts to each other as well.
async fn three() -> (Directory, Person, Person, Person) {
    let dir = directory().await;
    let ada = person(0, &dir, |builder| builder).await;
    let bob = person(1, &dir, |builder| builder).await;
    let cy = person(2, &dir, |builder| builder).await;
    for (who, others) in [(&ada, [&bob, &cy]), (&bob, [&ada, &cy]), (&cy, [&ada, &bob])] {
        for other in others {
            let name = format!("friend {}", other.number());
            who.does(Command::ContactAdd { number: other.number(), name }).await;
        }
    }
    (dir, ada, bob, cy)
}

async fn transfer(who: &Person, to: Option<&Person>) {
    who.does(Command::Transfer { call: None, to: to.map(Person::number) }).await;
}

async fn comes_to(who: &mut Person, wanted: TransferState) -> Option<TransferFailure> {
    who.sees(&format!("{wanted:?}"), |event| match event {
        Event::Transfer { state, reason, .. } if *state == wanted => Some(*reason),
        _ => None,
    })
    .await
}

/// The number that the other end asks to call.
async fn is_asked(who: &mut Person) -> (String, bool) {
    who.sees("a transfer", |event| match event {
        Event::TransferAsked { number, attended, name, .. } => {
            assert!(name.is_some(), "a contact");
            Some((number.to_string(), *attended))
        }
        _ => None,
    })
    .await
}

async fn follow(who: &Person) -> Call {
    let Reply::Call { call } = who.does(Command::Follow { call: None, yes: true }).await else {
        panic!("a call")
    };
    who.phone.call(&call).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q13_a_blind_transfer_connects_the_two_others() {
    let (dir, mut ada, mut bob, mut cy) = three().await;
    let first = talk(&ada, &mut bob, [ADA, BOB]).await;
    transfer(&ada, Some(&cy)).await;
    bob.ear.hears_music().await;
    assert_eq!(is_asked(&mut bob).await, (cy.number(), false));
    let mut new = follow(&bob).await;
    comes_to(&mut ada, TransferState::Ringing).await;
    cy.rings().await;
    cy.does(Command::Answer { call: None }).await;
    assert_eq!(new.until(|state| *state == CallState::Active).await, CallState::Active);
    comes_to(&mut ada, TransferState::Done).await;
    assert_eq!(first.ended().await, EndReason::Transferred);
    cy.ear.hears("Bob", BOB).await;
    bob.ear.hears("Cy", CY).await;
    let ended = bob
        .sees("the end of the first call", |event| match event {
            Event::Ended { call, reason, .. } if call == first.id() => Some(*reason),
            _ => None,
        })
        .await;
    assert_eq!(ended, EndReason::Transferred);
    assert_eq!(bob.status().await.calls.len(), 1);
    end([ada, bob, cy], dir).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q13_a_transfer_that_comes_to_nothing_gives_the_call_back() {
    let (dir, mut ada, mut bob, mut cy) = three().await;
    let first = talk(&ada, &mut bob, [ADA, BOB]).await;
    // The user does not want it.
    transfer(&ada, Some(&cy)).await;
    is_asked(&mut bob).await;
    bob.does(Command::Follow { call: None, yes: false }).await;
    assert_eq!(comes_to(&mut ada, TransferState::Failed).await, Some(TransferFailure::Declined));
    bob.ear.hears("Ada again", ADA).await;
    // Nor does the one called.
    transfer(&ada, Some(&cy)).await;
    is_asked(&mut bob).await;
    let new = follow(&bob).await;
    cy.rings().await;
    cy.does(Command::Reject { call: None, voicemail: false, block: false }).await;
    assert_eq!(new.ended().await, EndReason::Declined);
    assert_eq!(comes_to(&mut ada, TransferState::Failed).await, Some(TransferFailure::Rejected));
    ada.ear.hears("Bob again", BOB).await;
    bob.ear.hears("Ada again", ADA).await;
    assert_eq!(first.state(), CallState::Active);
    // Oneself is nobody to be transferred to, nor is nobody.
    for wrong in [bob.number(), ada.number(), "nobody at all".to_owned()] {
        let refused = ada.phone.execute(Command::Transfer { call: None, to: Some(wrong) }).await;
        assert!(refused.is_err());
    }
    let none = bob.phone.execute(Command::Follow { call: None, yes: true }).await.unwrap_err();
    assert_eq!(none.code, ErrorCode::NoCall);
    end([ada, bob, cy], dir).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q13_an_attended_transfer_connects_the_two_with_whom_one_has_talked() {
    let (dir, mut ada, mut bob, mut cy) = three().await;
    let first = talk(&ada, &mut bob, [ADA, BOB]).await;
    let second = talk(&ada, &mut cy, [ADA, CY]).await;
    bob.ear.hears_music().await;
    transfer(&ada, None).await;
    assert_eq!(is_asked(&mut bob).await, (cy.number(), true));
    let mut new = follow(&bob).await;
    let replaced = cy
        .sees("the call that takes the other one's place", |event| match event {
            Event::Incoming { replaces: Some(replaced), .. } => Some(replaced.clone()),
            _ => None,
        })
        .await;
    assert_eq!(replaced, second.id());
    assert_eq!(new.until(|state| *state == CallState::Active).await, CallState::Active);
    comes_to(&mut ada, TransferState::Done).await;
    assert_eq!(first.ended().await, EndReason::Transferred);
    assert_eq!(second.ended().await, EndReason::Transferred);
    cy.ear.hears("Bob, without having done anything", BOB).await;
    bob.ear.hears("Cy", CY).await;
    assert_eq!(cy.status().await.calls.len(), 1);
    assert!(ada.status().await.calls.is_empty());
    end([ada, bob, cy], dir).await;
}

/// The end of somebody else's call could otherwise open the microphone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q13_hold_and_mute_outlast_a_call_that_is_handed_over() {
    let (dir, ada, mut bob, mut cy) = three().await;
    let _first = talk(&ada, &mut bob, [ADA, BOB]).await;
    let second = talk(&ada, &mut cy, [ADA, CY]).await;
    cy.hold(second.id(), true).await;
    transfer(&ada, None).await;
    is_asked(&mut bob).await;
    let new = follow(&bob).await;
    assert_eq!(cy.rings().await, new.id());
    new.hang_up().await.unwrap();
    cy.sees("the end of the call that was to take its place", |event| {
        matches!(event, Event::Ended { call, .. } if call == new.id()).then_some(())
    })
    .await;
    assert!(cy.call(second.id()).await.keys.held, "as the user wanted it");
    ada.ear.hears_music().await;

    cy.hold(second.id(), false).await;
    cy.does(Command::Mute { call: None, on: true }).await;
    transfer(&ada, None).await;
    is_asked(&mut bob).await;
    let mut new = follow(&bob).await;
    assert_eq!(cy.rings().await, new.id());
    cy.does(Command::Answer { call: None }).await;
    assert_eq!(new.until(|state| *state == CallState::Active).await, CallState::Active);
    bob.shows("muted", new.id(), |call| call.keys.remote_muted).await;
    assert!(cy.call(new.id()).await.keys.muted);
    cy.ear.hears("Bob", BOB).await;
    bob.ear.hears_nothing("a muted microphone").await;
    end([ada, bob, cy], dir).await;
}

/// A stranger could make others' telephones call whom he likes, and learn that they do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q13_a_strangers_transfer_is_declined_unless_the_user_wants_to_be_asked() {
    let dir = directory().await;
    let mut ada = person(0, &dir, |builder| builder).await;
    let mut bob = person(1, &dir, |builder| builder).await;
    let mut cy = person(2, &dir, |builder| builder.transfers(TransferPolicy::Everybody)).await;
    let first = talk(&ada, &mut bob, [ADA, BOB]).await;
    transfer(&ada, Some(&cy)).await;
    assert_eq!(comes_to(&mut ada, TransferState::Failed).await, Some(TransferFailure::Declined));
    bob.ear.hears("Ada all the same", ADA).await;
    let none = bob.phone.execute(Command::Follow { call: None, yes: true }).await.unwrap_err();
    assert_eq!(none.code, ErrorCode::NoCall);
    first.hang_up().await.unwrap();
    first.ended().await;
    let _second = talk(&ada, &mut cy, [ADA, CY]).await;
    transfer(&ada, Some(&bob)).await;
    comes_to(&mut ada, TransferState::Asked).await;
    cy.does(Command::Follow { call: None, yes: true }).await;
    bob.rings().await;
    end([ada, bob, cy], dir).await;
}
