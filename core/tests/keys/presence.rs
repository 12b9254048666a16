//! Presence between contacts.

use std::sync::atomic::Ordering::SeqCst;

use offhook::api::{Command, ContactPresence, EndReason, Event, PresenceState, Reply, Visibility};
use offhook::phone::CallState;

use crate::scene::{Ear, HUMS, Person, directory, end, person, start, talk, until};

/// One gives the other a name, with the key of an invitation.
pub async fn befriend(who: &Person, whom: &Person, name: &str) {
    let Reply::Link { link } = whom.does(Command::Link).await else { panic!("a link") };
    who.does(Command::ContactAdd { number: link, name: name.to_owned() }).await;
}

async fn set(who: &Person, state: PresenceState, note: &str) {
    let note = Some(note.to_owned());
    who.does(Command::Presence { state: Some(state), note, visible: None }).await;
}

async fn sees(who: &mut Person, wanted: PresenceState) -> (String, String) {
    who.sees(&format!("{wanted:?}"), |event| match event {
        Event::Presence { name, state, note, .. } if *state == wanted => Some((name.clone(), note.clone())),
        _ => None,
    })
    .await
}

async fn listed(who: &Person) -> Option<ContactPresence> {
    match who.does(Command::Contacts).await {
        Reply::Contacts { contacts } => contacts[0].presence.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q13_contacts_are_told_how_one_is_and_nobody_else() {
    let dir = directory().await;
    let mut ada = person(0, &dir, |builder| builder).await;
    let mut bob = person(1, &dir, |builder| builder).await;
    let mut cy = person(2, &dir, |builder| builder).await;
    set(&ada, PresenceState::Away, "back at five").await;
    // Bob knows Ada, who does not know him: he learns nothing.
    befriend(&bob, &ada, "Ada").await;
    befriend(&cy, &ada, "Ada").await;
    befriend(&ada, &bob, "Bob").await;
    assert_eq!(sees(&mut bob, PresenceState::Away).await, ("Ada".to_owned(), "back at five".to_owned()));
    let away = ContactPresence { state: PresenceState::Away, note: "back at five".into() };
    assert_eq!(listed(&bob).await, Some(away));
    assert_eq!(sees(&mut ada, PresenceState::Available).await.0, "Bob");

    // A change, and a call.
    set(&ada, PresenceState::DoNotDisturb, "").await;
    sees(&mut bob, PresenceState::DoNotDisturb).await;
    set(&ada, PresenceState::Available, "").await;
    sees(&mut bob, PresenceState::Available).await;
    let call = talk(&cy, &mut ada, [HUMS[2], HUMS[0]]).await;
    sees(&mut bob, PresenceState::Busy).await;
    call.hang_up().await.unwrap();
    sees(&mut bob, PresenceState::Available).await;

    // To nobody any more; and who is a stranger to Ada has heard nothing all the time.
    let told =
        ada.does(Command::Presence { state: None, note: None, visible: Some(Visibility::Nobody) }).await;
    assert!(matches!(told, Reply::Presence(told) if told.visible == Visibility::Nobody));
    assert_eq!(listed(&cy).await, None);
    let events = cy.events.as_mut();
    let heard =
        std::iter::from_fn(|| futures::FutureExt::now_or_never(futures::StreamExt::next(events)).flatten());
    assert!(!heard.into_iter().any(|timed| matches!(timed.event, Event::Presence { .. })));
    end([ada, bob, cy], dir).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q13_a_contact_that_leaves_and_comes_back_is_seen_to() {
    let dir = directory().await;
    let ada = person(0, &dir, |builder| builder).await;
    let mut bob = person(1, &dir, |builder| builder).await;
    befriend(&ada, &bob, "Bob").await;
    befriend(&bob, &ada, "Ada").await;
    sees(&mut bob, PresenceState::Available).await;
    set(&ada, PresenceState::Away, "lunch").await;
    sees(&mut bob, PresenceState::Away).await;
    ada.phone.shutdown().await;
    sees(&mut bob, PresenceState::Offline).await;
    let ada = start(0, &dir, ada.home, |builder| builder).await;
    assert_eq!(sees(&mut bob, PresenceState::Away).await.1, "lunch", "remembered");
    let long = Command::Presence { state: None, note: Some("x".repeat(300)), visible: None };
    assert!(ada.phone.execute(long).await.is_err());
    end([ada, bob], dir).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q8_nothing_rings_for_who_does_not_want_to_be_disturbed() {
    let dir = directory().await;
    let (bell, ringer) = Ear::new();
    let ada = person(0, &dir, |builder| builder).await;
    let bob = person(1, &dir, |builder| builder.ringer(ringer)).await;
    // The presence is the switch of `offhook dnd`: there are no two of them.
    set(&bob, PresenceState::DoNotDisturb, "").await;
    let call = ada.phone.dial(bob.number()).await.unwrap();
    assert_eq!(call.ended().await, EndReason::Voicemail);
    assert_eq!((bob.status().await.calls.len(), bell.open.load(SeqCst)), (0, 0));
    let Reply::Presence(told) = bob.does(Command::Presence { state: None, note: None, visible: None }).await
    else {
        panic!("no presence")
    };
    assert_eq!(told.state, PresenceState::DoNotDisturb);
    set(&bob, PresenceState::Available, "").await;
    let mut call = ada.phone.dial(bob.number()).await.unwrap();
    assert_eq!(call.until(|state| *state == CallState::Ringing).await, CallState::Ringing);
    until("the bell", || bell.open.load(SeqCst) == 1).await;
    end([ada, bob], dir).await;
}
