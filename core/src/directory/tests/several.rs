//! An account at several directories, each of which counts its own versions.

use super::*;
use crate::storage::OfferedKey;
use offhook_proto::backup::BackupPin;
use offhook_proto::record::{Pin, RecordSet};

const SECOND: &str = "second.example";

async fn two_directories() -> (StandIn, StandIn) {
    let first = StandIn::start(NAME, 3, &identity(), &empty()).await;
    let second = StandIn::start(SECOND, 4, &identity(), &empty()).await;
    (first, second)
}

/// Names of its directories, sorted.
async fn names_of(terminal: &Terminal) -> Vec<String> {
    let known = terminal.store().directories().await.unwrap();
    let mut names: Vec<_> = known.into_iter().map(|known| known.name).collect();
    names.sort();
    names
}

async fn sync(terminal: &Terminal) -> Vec<(String, Synced)> {
    terminal.unlocked.sync(Older::Refuse).await.unwrap()
}

#[tokio::test]
async fn p3_a_terminal_learns_from_the_backup_with_which_directories_the_account_is() {
    let (first, second) = two_directories().await;
    let desk = Terminal::at(&first, NAME, &empty()).await;
    desk.store().put_directory(&known_at(&second, SECOND, &empty())).await.unwrap();
    sync(&desk).await;
    assert_eq!(first.backup().directories.len(), 2);
    // A terminal that logs in at the first one is with the second, too, and puts its backup there.
    let pocket = Terminal::at(&first, NAME, &first.backup()).await;
    assert_eq!(names_of(&pocket).await, [NAME, SECOND]);
    pocket.store().contact_add(&number(1), "carol", None).await.unwrap();
    assert_eq!(sync(&pocket).await.len(), 2);
    assert_eq!(
        (names(&first.backup()), names(&second.backup())),
        (vec!["carol".into()], vec!["carol".into()])
    );
    // One that was there before learns it, and forgets one that was left.
    let lap = Terminal::at(&first, NAME, &empty()).await;
    assert_eq!(names_of(&lap).await, [NAME]);
    assert_eq!(sync(&lap).await.len(), 2, "asked as soon as it is known");
    assert_eq!(names_of(&lap).await, [NAME, SECOND]);
    let known = desk.store().directories().await.unwrap();
    let left = known.into_iter().find(|known| known.name == SECOND).unwrap();
    desk.unlocked.delete_at(&left).await.unwrap();
    sync(&desk).await;
    sync(&lap).await;
    assert_eq!(names_of(&lap).await, [NAME]);
}

#[tokio::test]
async fn q3_the_backup_of_one_directory_is_not_older_for_what_another_one_counts() {
    let (first, second) = two_directories().await;
    let desk = Terminal::at(&first, NAME, &empty()).await;
    desk.store().put_directory(&known_at(&second, SECOND, &empty())).await.unwrap();
    for n in 1..5 {
        desk.store().contact_add(&number(n), &format!("friend {n}"), None).await.unwrap();
        desk.unlocked.sync_with(&desk.known().await, Older::Refuse, &mut Heard::default()).await.unwrap();
    }
    sync(&desk).await;
    assert!(first.state().version > second.state().version + 2, "each counts its own");
    desk.store().reload().await.unwrap();
    let set = RecordSet { account: Some(desk.store().account_record()), terminals: Vec::new() };
    let record = offhook_proto::wire::encode(&set.account.unwrap());
    for directory in [&first, &second] {
        directory.state().records = vec![record.clone()];
    }
    let number = desk.store().number().clone();
    for (directory, name) in [(&first, NAME), (&second, SECOND)] {
        let address = DirectoryAddress::kept(name, &directory.url).unwrap();
        let met = Directory::connect(&address, None).await.unwrap();
        let session = met.recover(&identity()).await.unwrap();
        let told = session.published_version(&identity(), &number).await;
        assert_eq!(told, directory.state().version, "{name}");
        session.backup(told).unwrap();
    }
}

#[tokio::test]
async fn q2_a_terminal_wants_to_tell_every_directory_of_a_revocation() {
    let (first, second) = two_directories().await;
    let desk = Terminal::at(&first, NAME, &empty()).await;
    desk.store().put_directory(&known_at(&second, SECOND, &empty())).await.unwrap();
    sync(&desk).await;
    sync(&desk).await;
    let changed = async || {
        let mut changed = Vec::new();
        for known in desk.store().directories().await.unwrap() {
            changed.push(desk.store().has_changed(&known).await.unwrap());
        }
        changed
    };
    assert_eq!(changed().await, [false, false]);
    let revoked = offhook_proto::identity::TerminalKey::from_seed([8; 32]).public();
    let mut backup = first.backup();
    backup.revoked = vec![revoked];
    backup.follow(first.backup().digest().unwrap());
    first.put(&backup);
    desk.unlocked.sync_with(&desk.known().await, Older::Refuse, &mut Heard::default()).await.unwrap();
    assert_eq!(changed().await, [false, true], "the second one has not heard of it");
    sync(&desk).await;
    assert_eq!(changed().await, [false, false]);
    assert_eq!(second.backup().revoked, [revoked]);
}

#[tokio::test]
async fn q2_a_key_that_another_terminal_has_met_is_told_when_it_is_kept_already() {
    let directory = StandIn::start(NAME, 3, &identity(), &empty()).await;
    let desk = Terminal::at(&directory, NAME, &empty()).await;
    let key = |seed| IdentityKey::from_seed([seed; 32]).public();
    desk.store().contact_add(&number(1), "carol", None).await.unwrap();
    desk.store().pin(&number(1), &key(40)).await.unwrap();
    let mut backup = with(vec![contact(1, "carol")]);
    backup.pins = vec![BackupPin { number: number(1), pin: Pin::Key(key(41)), verified: false }];
    directory.put(&backup);
    let synced = sync(&desk).await;
    let offered =
        OfferedKey { number: number(1), pinned: key(41).fingerprint(), offered: key(40).fingerprint() };
    assert_eq!(synced[0].1.heard.offered, [offered]);
    let carol = desk.store().contact(&number(1)).await.unwrap().unwrap();
    assert_eq!(
        (carol.fingerprint, carol.offered),
        (Some(key(41).fingerprint()), Some(key(40).fingerprint()))
    );
    assert_eq!(sync(&desk).await[0].1.heard, Heard::default(), "once");
}

/// Contacts with names of 240 bytes, a little more than a backup holds, and far fewer than a list may have.
const COUNT: u64 = 1_010;

#[tokio::test]
async fn p16_what_has_no_room_in_a_backup_is_told_and_does_not_count_as_put() {
    let directory = StandIn::start(NAME, 3, &identity(), &empty()).await;
    let letters = "\u{10400}".repeat(60);
    let contacts = (1..=COUNT).map(|n| contact(n, &format!("{letters}{n}"))).collect();
    let desk = Terminal::with(known_at(&directory, NAME, &empty()), &with(contacts)).await;
    let before = (desk.known().await, directory.state().version);
    let refused = desk.unlocked.sync(Older::Refuse).await;
    assert!(matches!(&refused, Err(DirectoryError::TooLarge(name)) if name == NAME), "{refused:?}");
    assert!(refused.unwrap_err().to_string().contains("256 KiB"));
    let known = desk.known().await;
    assert!(known.is_too_large && known.backed_up == before.0.backed_up, "{known:?}");
    assert!(desk.store().has_changed(&known).await.unwrap());
    assert_eq!(directory.state().version, before.1, "what is there stays");
    for n in 1..=30 {
        desk.store().contact_remove(&number(n)).await.unwrap();
    }
    sync(&desk).await;
    let known = desk.known().await;
    assert!(!known.is_too_large && !desk.store().has_changed(&known).await.unwrap());
}

#[tokio::test]
async fn p16_more_strangers_than_a_backup_has_room_for_come_to_rest() {
    let directory = StandIn::start(NAME, 3, &identity(), &empty()).await;
    let key = IdentityKey::from_seed([40; 32]).public();
    let met = |from: u64| {
        let pin = |n| BackupPin { number: number(n), pin: Pin::Key(key), verified: false };
        let mut backup = empty();
        backup.pins = (from..from + 600).map(pin).collect();
        backup
    };
    let known = known_at(&directory, NAME, &empty());
    let desk = Terminal::with(known.clone(), &met(1)).await;
    let pocket = Terminal::with(known, &met(1_001)).await;
    for newcomer in [5_000, 6_000] {
        desk.store().pin(&number(newcomer), &key).await.unwrap();
        pocket.store().pin(&number(newcomer + 1), &key).await.unwrap();
        for _ in 0..2 {
            sync(&desk).await;
            sync(&pocket).await;
        }
        let version = directory.state().version;
        for _ in 0..3 {
            sync(&desk).await;
            sync(&pocket).await;
        }
        assert_eq!(directory.state().version, version, "nobody puts his over the other's");
    }
    let pins = directory.backup().pins;
    let has = |n| pins.iter().any(|pin| pin.number == number(n));
    assert!(has(6_000) && has(6_001), "whom somebody met last is in it");
    assert_eq!(pins.len(), 512);
}

#[tokio::test]
async fn names_that_collide_stay_names() {
    let directory = StandIn::start(NAME, 3, &identity(), &empty()).await;
    let desk = Terminal::at(&directory, NAME, &empty()).await;
    let name = "n".repeat(61);
    desk.store().contact_add(&number(1), &name, None).await.unwrap();
    directory.put(&with(vec![contact(2, &name)]));
    sync(&desk).await;
    let contacts = desk.contacts().await;
    assert_eq!(contacts.len(), 2);
    assert!(contacts.iter().all(|name| name.chars().count() <= 64), "{contacts:?}");
    let other = contacts.iter().find(|other| **other != name).unwrap();
    assert!(other.ends_with(" (2)"), "{other}");
    desk.store().contact_rename(&number(1), "carol").await.unwrap();
    desk.store().contact_rename(&number(2), other).await.unwrap();
}
