//! What the terminals of one account share: contents that become one, and records that say so.

use super::*;
use offhook_proto::backup::MAX_CONTACTS;
use offhook_proto::identity::{DirectoryId, TerminalId};
use offhook_proto::record::{AccountRecord, MAX_REVOKED};

const NAME: &str = "example.org";

fn directory(name: &str, version: u64) -> KnownDirectory {
    KnownDirectory {
        name: name.to_owned(),
        url: format!("https://{name}"),
        directory: DirectoryId::from_bytes([if name == NAME { 7 } else { 6 }; 32]),
        id: id("ada"),
        version,
        backed_up: wall_clock(),
        base: Content::default(),
        seen: None,
        added: UnixMillis(1),
        is_too_large: false,
    }
}

fn record_of(store: &AccountStore) -> AccountRecord {
    let set = RecordSet { account: Some(store.account_record()), terminals: Vec::new() };
    let key = store.number().record_key(None).unwrap();
    record::check(&key, &set.encode(), wall_clock()).unwrap().account.unwrap().record().clone()
}

fn terminal(n: u8) -> TerminalId {
    offhook_proto::identity::TerminalKey::from_seed([n; 32]).public()
}

#[tokio::test]
async fn q3_the_record_names_the_backup_of_every_directory() {
    let (_dir, home) = home_with_ada().await;
    let store = home.open_account(&id("ada")).await.unwrap();
    let key = home.unlock(&id("ada"), &password("pw one")).await.unwrap();
    let told = |store: &AccountStore| {
        let record = record_of(store);
        [NAME, "example.net"].map(|name| record.backup_at(&key, &directory(name, 1).directory))
    };
    assert_eq!(told(&store), [None, None], "no directory keeps it");
    assert!(!store.update_record(&key, &[]).await.unwrap());
    store.put_directory(&directory(NAME, 7)).await.unwrap();
    store.put_directory(&directory("example.net", 4)).await.unwrap();
    let before = record_of(&store).seq;
    assert!(store.update_record(&key, &[]).await.unwrap() && store.reload().await.unwrap());
    assert_eq!(told(&store), [Some(7), Some(4)]);
    assert!(record_of(&store).seq > before, "nodes take the later record");
    assert!(!store.update_record(&key, &[]).await.unwrap(), "nothing is signed for nothing");
    store.remove_directory("example.net").await.unwrap();
    assert!(store.update_record(&key, &[]).await.unwrap() && store.reload().await.unwrap());
    assert_eq!(told(&store), [Some(7), None]);
}

#[tokio::test]
async fn q3_a_terminal_that_was_revoked_elsewhere_does_not_come_back_with_the_next_record() {
    let (_dir, home) = home_with_ada().await;
    let store = home.open_account(&id("ada")).await.unwrap();
    let key = home.unlock(&id("ada"), &password("pw one")).await.unwrap();
    assert!(store.update_record(&key, &[terminal(1)]).await.unwrap());
    assert!(!store.update_record(&key, &[terminal(1)]).await.unwrap());
    home.recertify(&id("ada"), &password("pw one")).await.unwrap();
    store.reload().await.unwrap();
    assert_eq!(record_of(&store).revoked, [terminal(1)]);
    // Of more than a record holds, the latest.
    let many: Vec<_> = (2..).take(MAX_REVOKED).map(terminal).collect();
    assert!(store.update_record(&key, &many).await.unwrap() && store.reload().await.unwrap());
    assert_eq!(record_of(&store).revoked, many);
}

#[tokio::test]
async fn q2_another_terminals_key_for_a_contact_is_shown_and_waits_or_counts_if_the_user_has_confirmed_it() {
    let (_dir, home) = home_with_ada().await;
    let store = home.open_account(&id("ada")).await.unwrap();
    let bob = number(5);
    store.contact_add(&bob, "bob", None).await.unwrap();
    let base = store.content().await.unwrap();
    store.pin(&bob, &someone(40)).await.unwrap();
    store.set_verified(&bob, true).await.unwrap();
    let pin_of = |content: &Content| content.pins[&bob.canonical()].clone();
    let there = |seed| {
        let key = data_encoding::HEXLOWER.encode(someone(seed).as_bytes());
        let pins = [(bob.canonical(), PinnedKey { key, verified: false })].into();
        Content { pins, ..base.clone() }
    };

    // Both have met him for the first time. Words were compared here, so the other key only waits.
    let seen = KnownDirectory { base: there(41), ..directory(NAME, 2) };
    assert!(store.merge_content(&base, &seen).await.unwrap().is_news);
    assert_eq!(store.directories().await.unwrap()[0].version, 2, "written down in the same moment");
    let pin = store.pin_of(&bob).await.unwrap().unwrap();
    assert_eq!((pin.identity, pin.verified), (Some(someone(40)), true));
    assert_eq!(pin.offered, Some(someone(41).fingerprint()));
    // From here on the same is in the backup, and at the other terminal the user confirms the other key.
    let agreed = store.content().await.unwrap();
    assert!(store.merge_content(&agreed, &seen).await.unwrap().is_news);
    let pin = store.pin_of(&bob).await.unwrap().unwrap();
    assert_eq!((pin.identity, pin.verified, pin.offered), (Some(someone(41)), false, None));
    let content = store.content().await.unwrap();
    assert_eq!(pin_of(&content), pin_of(&there(41)), "both have the same now: nothing is put");
    assert!(!store.merge_content(&there(41), &seen).await.unwrap().is_news);
    assert!(store.contact(&bob).await.unwrap().is_some());
}

#[tokio::test]
async fn p16_a_list_has_so_many_contacts_as_a_backup_and_no_more() {
    let (_dir, home) = home_with_ada().await;
    let store = home.open_account(&id("ada")).await.unwrap();
    // All but one, without a write to disk for each.
    let mut tx = db::write(store.pool()).await.unwrap();
    for n in 1..MAX_CONTACTS as u64 {
        let name = format!("friend {n}");
        sqlx::query("INSERT INTO contacts (number, name, name_key, added) VALUES (?, ?, ?, 0)")
            .bind(number(n).canonical())
            .bind(&name)
            .bind(&name)
            .execute(&mut *tx)
            .await
            .unwrap();
    }
    tx.commit().await.unwrap();
    store.contact_add(&number(500_000), "the last", None).await.unwrap();
    let refused = store.contact_add(&number(500_001), "one too many", None).await;
    assert!(matches!(refused, Err(StorageError::TooLarge("The list of contacts"))), "{refused:?}");
    store.contact_rename(&number(500_000), "still the last").await.unwrap();
    store.contact_remove(&number(1)).await.unwrap();
    store.contact_add(&number(500_001), "in the free place", None).await.unwrap();
    assert_eq!(store.contacts().await.unwrap().len(), MAX_CONTACTS);
}

#[tokio::test]
async fn a_directorys_other_key_counts_for_the_backup_too_when_the_user_has_confirmed_it() {
    let (_dir, home) = home_with_ada().await;
    let store = home.open_account(&id("ada")).await.unwrap();
    store.put_directory(&directory(NAME, 1)).await.unwrap();
    let other = DirectoryId::from_bytes([8; 32]);
    let differs = DirectoryPin::Differs { pinned: DirectoryId::from_bytes([7; 32]) };
    assert_eq!(store.pin_directory(NAME, &other, None).await.unwrap(), differs);
    assert_eq!(store.directories().await.unwrap()[0].directory, DirectoryId::from_bytes([7; 32]));
    store.confirm_directory(NAME).await.unwrap();
    assert_eq!(store.directories().await.unwrap()[0].directory, other);
}
