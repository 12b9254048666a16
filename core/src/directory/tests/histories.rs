//! Backups of one history and of several: what one terminal has removed is removed, and what one has never seen is not.

use super::*;
use std::time::Duration;
use tokio::time::timeout;

async fn add(terminal: &Terminal, n: u64, name: &str) {
    terminal.store().contact_add(&number(n), name, None).await.unwrap();
    terminal.unlocked.sync(Older::Refuse).await.unwrap();
}

async fn two_terminals() -> (StandIn, Terminal, Terminal) {
    let directory = StandIn::start(NAME, 3, &identity(), &empty()).await;
    let desk = Terminal::at(&directory, NAME, &empty()).await;
    let pocket = Terminal::at(&directory, NAME, &empty()).await;
    (directory, desk, pocket)
}

#[tokio::test]
async fn p16_a_contact_that_one_terminal_removes_is_removed_at_the_other() {
    let (directory, desk, pocket) = two_terminals().await;
    add(&desk, 1, "carol").await;
    add(&pocket, 2, "bob").await;
    assert_eq!(pocket.contacts().await, ["bob", "carol"]);
    pocket.store().contact_remove(&number(1)).await.unwrap();
    // Several versions later.
    for n in 3..6 {
        add(&pocket, n, &format!("friend {n}")).await;
    }
    desk.unlocked.sync(Older::Refuse).await.unwrap();
    assert_eq!(desk.contacts().await, ["bob", "friend 3", "friend 4", "friend 5"]);
    assert_eq!(names(&directory.backup()), desk.contacts().await);
}

#[tokio::test]
async fn q3_a_directory_that_was_put_back_from_a_copy_takes_no_contact_away() {
    let (directory, desk, pocket) = two_terminals().await;
    add(&desk, 1, "carol").await;
    assert_eq!(desk.known().await.version, 2);
    directory.forget(1, &empty());
    // A terminal that never saw the second version goes on from the copy, past what the other one knows.
    for n in 2..4 {
        add(&pocket, n, &format!("friend {n}")).await;
    }
    assert_eq!(directory.state().version, 3);
    desk.unlocked.sync(Older::Refuse).await.unwrap();
    assert_eq!(desk.contacts().await, ["carol", "friend 2", "friend 3"]);
    assert_eq!(names(&directory.backup()), desk.contacts().await);
}

#[tokio::test]
async fn q3_an_older_backup_is_refused_and_if_it_is_taken_nothing_is_lost() {
    let (directory, desk, _) = two_terminals().await;
    add(&desk, 1, "carol").await;
    add(&desk, 2, "bob").await;
    directory.forget(1, &with(vec![contact(3, "dave")]));
    let refused = desk.unlocked.sync(Older::Refuse).await;
    let is_told = matches!(refused, Err(DirectoryError::RolledBack { known: 3, found: 1, .. }));
    assert!(is_told, "{refused:?}");
    desk.unlocked.sync(Older::Take).await.unwrap();
    assert_eq!(desk.contacts().await, ["bob", "carol", "dave"]);
    assert_eq!(names(&directory.backup()), desk.contacts().await);
}

#[tokio::test]
async fn p16_one_program_at_a_time_brings_a_backup_up_to_date() {
    let (directory, desk, _) = two_terminals().await;
    let held = desk.store().sync_lock().await.unwrap();
    let waits = timeout(Duration::from_millis(300), desk.unlocked.sync(Older::Refuse)).await;
    assert!(waits.is_err() && directory.state().heard.is_empty(), "somebody else is at it");
    drop(held);
    desk.unlocked.sync(Older::Refuse).await.unwrap();
    assert!(!directory.state().heard.is_empty());
}
