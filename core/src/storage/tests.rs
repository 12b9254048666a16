//! Accounts, and what they hold. The tests with a killed child are in [`kill`].

mod book;
mod kill;
mod known;
mod letters;
mod shared;

use super::create::Draft;
use super::seal::KdfCost;
use super::*;
use crate::api::{CallSummary, Command, EndReason, Estimate, FailureCode, PathKind, Quality, Reply};
use crate::clock::wall_clock;
use offhook_proto::identity::{Fingerprint, IdentityId, IdentityKey};
use offhook_proto::number::{Number, PlainNumber};
use offhook_proto::proof::PlainProof;
use offhook_proto::record::{self, MAX_SET_BYTES, RecordSet};
use offhook_proto::wire::UnixMillis;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use tempfile::TempDir;

/// Identities with the nonce that gives them a number, found once; `draft` checks that it still does.
const MINED: [([u8; 32], u64); 2] = [([1; 32], 22), ([2; 32], 98)];

fn password(text: &str) -> Password {
    Password::new(text).unwrap()
}

fn id(text: &str) -> AccountId {
    text.parse().unwrap()
}

fn draft(which: usize, name: &str) -> Draft {
    let (seed, nonce) = MINED[which];
    let identity = IdentityKey::from_seed(seed);
    let number = offhook_proto::proof::try_nonce(&identity.public(), nonce).expect("mined before");
    Draft::with_number(id(name), identity, number, PlainProof { nonce })
}

async fn home_with_ada() -> (TempDir, Home) {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::open(dir.path().join("home")).unwrap();
    home.store(draft(0, "ada"), password("pw one")).await.unwrap();
    (dir, home)
}

fn number(index: u64) -> Number {
    Number::Plain(PlainNumber::from_index(index))
}

fn someone(seed: u8) -> IdentityId {
    IdentityKey::from_seed([seed; 32]).public()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_new_account_can_be_published_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::open(dir.path().join("home")).unwrap();
    let mut heard = 0;
    let new = NewAccount { id: id("Ada"), password: password("pw") };
    let summary = home.create_account(new, |tries| heard = tries).await.unwrap();
    assert!(summary.current, "the first account is the current one");
    assert_eq!(home.current().await.unwrap(), id("ada"));

    let store = home.open_account(&summary.id).await.unwrap();
    assert_eq!(store.number(), &summary.number);
    let now = wall_clock();
    let set = RecordSet { account: Some(store.account_record()), terminals: Vec::new() };
    let key = store.number().record_key(None).unwrap();
    let checked = record::check(&key, &set.encode(), now).unwrap();
    assert!(checked.proof_task().unwrap().run(), "the number is proven");
    let account = checked.account.unwrap();
    assert_eq!((account.identity, account.mailbox), (store.identity(), store.mailbox_key().public()));
    let cert = store.cert().verify(now).unwrap();
    assert_eq!((cert.terminal, cert.seal), (store.terminal_key().public(), store.seal_key().public()));
    assert_eq!(cert.identity, store.identity());
    assert_eq!(cert.not_after, store.cert_until());
}

#[tokio::test]
async fn only_the_owner_can_read_an_account() {
    let (_dir, home) = home_with_ada().await;
    let store = home.open_account(&id("ada")).await.unwrap();
    store.set_setting("key", Some("value")).await.unwrap();
    assert_eq!(mode(&home.dir().join("accounts")), 0o700);
    assert_eq!(mode(store.data_dir()), 0o700);
    for entry in std::fs::read_dir(store.data_dir()).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[tokio::test]
async fn one_program_at_a_time_runs_an_account() {
    let (_dir, home) = home_with_ada().await;
    let store = home.open_account(&id("ada")).await.unwrap();
    assert!(matches!(home.open_account(&id("ada")).await, Err(StorageError::InUse(_))));
    assert_eq!(home.accounts().await.unwrap().len(), 1, "a look is free");
    let clone = store.clone();
    drop(store);
    assert!(matches!(home.open_account(&id("ada")).await, Err(StorageError::InUse(_))));
    drop(clone);
    home.open_account(&id("ada")).await.unwrap();
}

#[tokio::test]
async fn accounts_are_listed_chosen_and_told_apart() {
    let (_dir, home) = home_with_ada().await;
    assert!(matches!(home.store(draft(1, "ADA"), password("x")).await, Err(StorageError::AccountExists(_))));
    let again = home.store(draft(0, "again"), password("x")).await;
    let is_named = matches!(&again, Err(StorageError::AccountExists(id)) if id == "ada");
    assert!(is_named, "the same identity twice: {again:?}");
    home.store(draft(1, "bob"), password("pw two")).await.unwrap();

    let current = async || home.current().await.unwrap().to_string();
    assert_eq!(current().await, "ada");
    home.use_account(&id("bob")).await.unwrap();
    assert_eq!(current().await, "bob");
    let list = home.accounts().await.unwrap();
    let lines: Vec<_> = list.iter().map(|a| (a.id.as_str(), a.current)).collect();
    assert_eq!(lines, [("ada", false), ("bob", true)]);
    assert_ne!(list[0].number, list[1].number);
    assert!(matches!(home.use_account(&id("eve")).await, Err(StorageError::NoAccount(_))));
    assert!(matches!(home.open_account(&id("eve")).await, Err(StorageError::NoAccount(_))));
}

#[tokio::test]
async fn without_an_account_there_is_no_current_one() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::open(dir.path()).unwrap();
    assert!(matches!(home.current().await, Err(StorageError::NoCurrentAccount)));
    assert!(home.accounts().await.unwrap().is_empty());
}

#[tokio::test]
async fn the_password_opens_the_identity_and_can_be_changed() {
    let (_dir, home) = home_with_ada().await;
    let ada = id("ada");
    let key = home.unlock(&ada, &password("pw one")).await.unwrap();
    assert_eq!(key.seed(), &[1; 32]);
    assert!(matches!(home.unlock(&ada, &password("pw 1")).await, Err(StorageError::WrongPassword)));

    let wrong = home.change_password(&ada, &password("pw 1"), &password("new")).await;
    assert!(matches!(wrong, Err(StorageError::WrongPassword)));
    home.change_password(&ada, &password("pw one"), &password("new")).await.unwrap();
    assert!(matches!(home.unlock(&ada, &password("pw one")).await, Err(StorageError::WrongPassword)));
    assert_eq!(home.unlock(&ada, &password("new")).await.unwrap().seed(), &[1; 32]);
}

#[tokio::test]
async fn an_id_changes_and_the_number_stays() {
    let (_dir, home) = home_with_ada().await;
    let before = home.accounts().await.unwrap().remove(0);
    home.store(draft(1, "bob"), password("pw two")).await.unwrap();
    let taken = home.rename(&id("ada"), &password("pw one"), &id("bob")).await;
    assert!(matches!(taken, Err(StorageError::AccountExists(_))));
    let wrong = home.rename(&id("ada"), &password("pw two"), &id("eve")).await;
    assert!(matches!(wrong, Err(StorageError::WrongPassword)));

    home.rename(&id("ada"), &password("pw one"), &id("eve")).await.unwrap();
    let after = home.accounts().await.unwrap();
    let eve = after.iter().find(|a| a.id == id("eve")).unwrap();
    assert_eq!((&eve.number, eve.current), (&before.number, true), "the current account follows its name");
    assert!(home.unlock(&id("eve"), &password("pw one")).await.is_ok());
}

#[tokio::test]
async fn renewing_makes_a_newer_record_and_a_longer_certificate() {
    let (_dir, home) = home_with_ada().await;
    let old = home.open_account(&id("ada")).await.unwrap();
    let (old_cert, old_record) = (old.cert_until(), old.account_record());
    drop(old);
    home.recertify(&id("ada"), &password("pw one")).await.unwrap();
    let new = home.open_account(&id("ada")).await.unwrap();
    assert!(new.cert_until() >= old_cert);
    let key = new.number().record_key(None).unwrap();
    let seq = |record: &record::SignedAccount| {
        let set = RecordSet { account: Some(record.clone()), terminals: Vec::new() };
        record::check(&key, &set.encode(), wall_clock()).unwrap().account.unwrap().seq
    };
    assert!(seq(&new.account_record()) > seq(&old_record), "the newer one wins everywhere");
    assert!(new.cert().verify(wall_clock()).is_ok());
}

#[tokio::test]
async fn a_running_terminal_takes_up_what_the_command_line_renews() {
    let (_dir, home) = home_with_ada().await;
    let running = home.open_account(&id("ada")).await.unwrap();
    let clone = running.clone();
    assert!(!running.reload().await.unwrap(), "nothing new");
    let (cert, record) = (running.cert(), running.account_record());
    home.rename(&id("ada"), &password("pw one"), &id("eve")).await.unwrap();
    assert_eq!(
        (running.cert(), running.account_record(), running.id()),
        (cert.clone(), record.clone(), id("ada"))
    );
    assert!(running.reload().await.unwrap());
    assert!(clone.cert() != cert && clone.account_record() != record);
    assert_eq!(clone.id(), id("eve"));
}

#[tokio::test]
async fn the_seed_is_nowhere_in_the_files() {
    let (_dir, home) = home_with_ada().await;
    home.change_password(&id("ada"), &password("pw one"), &password("pw two")).await.unwrap();
    let store = home.open_account(&id("ada")).await.unwrap();
    for entry in std::fs::read_dir(store.data_dir()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(32).any(|window| window == [1; 32]));
        assert!(!bytes.windows(6).any(|window| window == b"pw two"));
    }
    let stored: (u32, u32, u32) = sqlx::query_as("SELECT kdf_memory, kdf_passes, kdf_lanes FROM account")
        .fetch_one(store.pool())
        .await
        .unwrap();
    let cost = KdfCost::DEFAULT;
    assert_eq!(stored, (cost.memory, cost.passes, cost.lanes));
}

#[tokio::test]
async fn the_first_key_is_pinned_and_another_waits_for_the_user() {
    let (_dir, home) = home_with_ada().await;
    let store = home.open_account(&id("ada")).await.unwrap();
    let (n, first, other) = (number(5), someone(10), someone(11));
    assert_eq!(store.pinned(&n).await.unwrap(), None);
    assert!(matches!(store.confirm_key(&n).await, Err(StorageError::NothingToConfirm)));
    assert_eq!(store.pin(&n, &first).await.unwrap(), PinCheck::New);
    assert_eq!(store.pin(&n, &first).await.unwrap(), PinCheck::Matches);
    store.set_verified(&n, true).await.unwrap();

    let differs = PinCheck::Differs { pinned: first.fingerprint() };
    assert_eq!(store.pin(&n, &other).await.unwrap(), differs);
    assert_eq!(store.pinned(&n).await.unwrap(), Some(first), "the pinned key stays");
    assert!(store.pin_of(&n).await.unwrap().unwrap().verified);

    assert_eq!(store.confirm_key(&n).await.unwrap(), other.fingerprint());
    let pin = store.pin_of(&n).await.unwrap().unwrap();
    assert_eq!(
        (pin.fingerprint, pin.identity),
        (other.fingerprint(), None),
        "the key itself comes with a call"
    );
    assert_eq!((pin.verified, pin.offered), (false, None));
    assert_eq!(store.pin(&n, &first).await.unwrap(), PinCheck::Differs { pinned: other.fingerprint() });
    assert_eq!(store.pin(&n, &other).await.unwrap(), PinCheck::Matches);
    assert_eq!(store.pinned(&n).await.unwrap(), Some(other));
}

#[tokio::test]
async fn contacts_have_unique_names_and_pinned_keys() {
    let (_dir, home) = home_with_ada().await;
    let store = home.open_account(&id("ada")).await.unwrap();
    let key = someone(20);
    store.contact_add(&number(1), " Bob ", Some(&key.fingerprint())).await.unwrap();
    store.contact_add(&number(2), "Éva", None).await.unwrap();
    let taken = store.contact_add(&number(2), "bOB", None).await;
    assert!(matches!(taken, Err(StorageError::ContactExists(_))));
    for bad in ["", "  ", "a\u{202e}b", "a\nb", &"x".repeat(65)] {
        assert!(matches!(
            store.contact_add(&number(3), bad, None).await,
            Err(StorageError::BadContactName(_))
        ));
    }

    let found = store.find_contact("BOB").await.unwrap();
    assert_eq!((found.name.as_str(), found.fingerprint), ("Bob", Some(key.fingerprint())));
    assert_eq!(store.find_contact("e\u{301}va").await.unwrap().number, number(2));
    assert_eq!(store.find_contact(&number(2).to_string()).await.unwrap().name, "Éva");
    assert!(matches!(store.find_contact("carol").await, Err(StorageError::NoContact)));

    // A link's fingerprint is a pin: another key is refused, the right one completes it.
    assert!(matches!(store.pin(&number(1), &someone(21)).await.unwrap(), PinCheck::Differs { .. }));
    assert_eq!(store.pin(&number(1), &key).await.unwrap(), PinCheck::Matches);
    assert_eq!(store.pinned(&number(1)).await.unwrap(), Some(key));
    let other = Some(someone(22).fingerprint());
    let check = store.contact_add(&number(1), "Bob", other.as_ref()).await.unwrap();
    assert_eq!(check, PinCheck::Differs { pinned: key.fingerprint() }, "a link can't replace a key");
    let pin = store.pin_of(&number(1)).await.unwrap().unwrap();
    assert_eq!((pin.fingerprint, pin.offered), (key.fingerprint(), other), "but the user may");

    store.contact_rename(&number(1), "Robert").await.unwrap();
    let names: Vec<_> = store.contacts().await.unwrap().into_iter().map(|c| c.name).collect();
    assert_eq!(names, ["Robert", "Éva"]);
    store.contact_remove(&number(1)).await.unwrap();
    assert!(matches!(store.contact_remove(&number(1)).await, Err(StorageError::NoContact)));
    assert_eq!(store.pinned(&number(1)).await.unwrap(), Some(key), "the pin outlives the contact");
}

#[tokio::test]
async fn history_messages_and_settings_come_back() {
    let (_dir, home) = home_with_ada().await;
    let store = home.open_account(&id("ada")).await.unwrap();
    let call = |n: u64, reason: EndReason| CallEntry {
        call: format!("{n:032x}"),
        number: number(n),
        outgoing: n.is_multiple_of(2),
        started: UnixMillis(1_000 + n),
        duration_ms: n,
        reason,
        summary: None,
    };
    let estimate = Estimate { r: 123.4, mos: 4.12, quality: Quality::Good };
    let summary = CallSummary {
        path: Some(PathKind::Direct),
        rtt_ms: 12.5,
        packets_sent: 500,
        packets_received: 490,
        packets_lost: 10,
        packets_lost_there: -1,
        burst_mean: 2.5,
        burst_longest: 4,
        jitter_ms: 1.5,
        buffer_ms: 20.0,
        concealed: 0.25,
        restored: 7,
        estimate: Some(estimate),
    };
    let talked = CallEntry { summary: Some(summary), ..call(1, EndReason::HungUp) };
    let calls = [talked, call(2, EndReason::Failed(FailureCode::NoMediaPath))];
    for entry in [&calls[0], &calls[1], &calls[0]] {
        store.history_add(entry).await.unwrap();
    }
    assert_eq!(store.history(10).await.unwrap(), [calls[1].clone(), calls[0].clone()]);

    let text = MessageEntry {
        id: "aa".into(),
        number: number(1),
        body: "hello".into(),
        sent: UnixMillis(5),
        state: MessageState::Received,
    };
    assert!(store.message_add(&text).await.unwrap());
    assert!(!store.message_add(&text).await.unwrap(), "a repetition is noticed");
    let ours = MessageEntry { id: "bb".into(), state: MessageState::Sending, ..text.clone() };
    assert!(store.message_add(&ours).await.unwrap());
    let unsent = MessageEntry { id: "cc".into(), ..ours.clone() };
    assert!(store.message_add(&unsent).await.unwrap());
    store.message_state("bb", MessageState::Delivered).await.unwrap();
    assert_eq!(store.give_up_unsent().await.unwrap(), 1, "what an earlier run left on its way");
    assert_eq!(store.give_up_unsent().await.unwrap(), 0);
    let list = store.messages(Some(&number(1)), 10).await.unwrap();
    let failed = MessageEntry { state: MessageState::Failed, ..unsent };
    assert_eq!(list, [failed, MessageEntry { state: MessageState::Delivered, ..ours }, text.clone()]);
    assert!(store.messages(Some(&number(9)), 10).await.unwrap().is_empty());
    assert_eq!(store.messages(None, 1).await.unwrap().len(), 1);
    let long = MessageEntry { body: "x".repeat(4097), ..text };
    assert!(matches!(store.message_add(&long).await, Err(StorageError::TooLarge(_))));

    store.set_setting("ring", Some("bell")).await.unwrap();
    store.set_setting("ring", Some("chime")).await.unwrap();
    assert_eq!(store.setting("ring").await.unwrap().as_deref(), Some("chime"));
    store.set_setting("ring", None).await.unwrap();
    assert_eq!(store.setting("ring").await.unwrap(), None);
}

#[tokio::test]
async fn records_and_routes_are_cached_within_bounds() {
    let (_dir, home) = home_with_ada().await;
    let store = home.open_account(&id("ada")).await.unwrap();
    assert_eq!(store.cached_record(&number(1)).await.unwrap(), None);
    store.cache_record(&number(1), b"old").await.unwrap();
    store.cache_record(&number(1), b"new").await.unwrap();
    assert_eq!(store.cached_record(&number(1)).await.unwrap().as_deref(), Some(&b"new"[..]));
    let huge = store.cache_record(&number(1), &vec![0; MAX_SET_BYTES + 1]).await;
    assert!(matches!(huge, Err(StorageError::TooLarge(_))));

    let routes: Vec<_> =
        (0..20).map(|i| format!("/ip4/198.51.100.{i}/udp/4001/quic-v1").parse().unwrap()).collect();
    store.set_routes(&number(1), &routes).await.unwrap();
    assert!(store.contact_routes().await.unwrap().is_empty());
    store.contact_add(&number(1), "Bob", None).await.unwrap();
    assert_eq!(store.contact_routes().await.unwrap(), [(number(1), routes[..MAX_ROUTES].to_vec())]);
}

#[tokio::test]
async fn strangers_can_fill_no_table() {
    let (_dir, home) = home_with_ada().await;
    let store = home.open_account(&id("ada")).await.unwrap();
    store.contact_add(&number(0), "Bob", None).await.unwrap();
    // The tables are filled behind the store's back, in one statement each; then the store writes once.
    let fill = |sql: &'static str| sqlx::query(sql).bind(60_000).execute(store.pool());
    fill(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
         INSERT INTO pins (number, fingerprint, first_seen, last_seen) SELECT 'x' || i, 'y', i, i FROM n",
    )
    .await
    .unwrap();
    fill(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
         INSERT INTO messages (id, number, outgoing, body, sent, state)
         SELECT 'm' || i, 'x' || i, 0, 'spam', 0, 'received' FROM n",
    )
    .await
    .unwrap();
    fill(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
         INSERT INTO calls (call, number, outgoing, started, duration_ms, reason)
         SELECT 'c' || i, 'x', 0, 0, 0, '{\"reason\":\"busy\"}' FROM n",
    )
    .await
    .unwrap();
    store.pin(&number(0), &someone(30)).await.unwrap();
    for i in 0..64 {
        let message = MessageEntry {
            id: format!("own{i}"),
            number: number(0),
            body: String::new(),
            sent: UnixMillis(0),
            state: MessageState::Received,
        };
        store.message_add(&message).await.unwrap();
        let call = CallEntry {
            call: format!("own{i}"),
            number: number(0),
            outgoing: false,
            started: UnixMillis(0),
            duration_ms: 0,
            reason: EndReason::HungUp,
            summary: None,
        };
        store.history_add(&call).await.unwrap();
    }
    let count = async |sql: &'static str| {
        let (count,): (u32,) = sqlx::query_as(sql).fetch_one(store.pool()).await.unwrap();
        count
    };
    assert_eq!(count("SELECT count(*) FROM pins").await, pins::MAX_STRANGERS + 1);
    assert!(count("SELECT count(*) FROM messages WHERE body = 'spam'").await <= MAX_MESSAGES + 64);
    assert_eq!(count("SELECT count(*) FROM messages WHERE id LIKE 'own%'").await, 64, "a contact's are kept");
    assert!(count("SELECT count(*) FROM calls").await <= MAX_HISTORY + 64);
    assert_eq!(store.pinned(&number(0)).await.unwrap(), Some(someone(30)), "a contact's pin is kept");
}

#[tokio::test]
async fn q13_the_history_tells_names_and_missed_calls_and_can_be_cleared() {
    let (_dir, home) = home_with_ada().await;
    let store = home.open_account(&id("ada")).await.unwrap();
    store.contact_add(&number(2), "Zoe", None).await.unwrap();
    let ends = [EndReason::Cancelled, EndReason::Declined, EndReason::HungUp];
    for (n, reason) in (1u64..).zip(ends) {
        let call = CallEntry {
            call: format!("{n:032x}"),
            number: number(n),
            outgoing: false,
            started: UnixMillis(n),
            duration_ms: if reason == EndReason::HungUp { 5 } else { 0 },
            reason,
            summary: None,
        };
        store.history_add(&call).await.unwrap();
    }
    let past = async |limit| {
        let reply = store.execute(&Command::History { limit }).await.unwrap().unwrap();
        let Reply::History { calls } = reply else { unreachable!("{reply:?}") };
        calls
    };
    let calls = past(None).await;
    assert_eq!(calls.iter().map(|call| call.missed).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(calls.iter().map(|call| call.name.as_deref()).collect::<Vec<_>>(), [None, Some("Zoe"), None]);
    assert_eq!(past(Some(1)).await, calls[..1]);
    assert_eq!(store.execute(&Command::HistoryClear).await.unwrap(), Ok(Reply::Done));
    assert!(past(Some(u32::MAX)).await.is_empty());
    assert_eq!(store.contacts().await.unwrap().len(), 1, "contacts are not of it");
}

/// A call that an earlier version has written down tells nothing of how it went; one with a summary that is not understood
/// is shown without it.
#[tokio::test]
async fn calls_of_other_versions_stay_in_the_history() {
    let (_dir, home) = home_with_ada().await;
    let store = home.open_account(&id("ada")).await.unwrap();
    for (call, summary) in [("aa", None), ("bb", Some("{\"rtt_ms\":\"?\"}"))] {
        sqlx::query(
            "INSERT INTO calls (call, number, outgoing, started, duration_ms, reason, summary)
             VALUES (?, ?, 1, 1, 1, '{\"reason\":\"hung_up\"}', ?)",
        )
        .bind(call)
        .bind(number(1).canonical())
        .bind(summary)
        .execute(store.pool())
        .await
        .unwrap();
    }
    let calls = store.history(10).await.unwrap();
    assert_eq!(calls.len(), 2);
    assert!(calls.iter().all(|call| call.summary.is_none() && call.reason == EndReason::HungUp));
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_left_alone() {
    let (_dir, home) = home_with_ada().await;
    let store = home.open_account(&id("ada")).await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'future', 1, x'00', 0)",
    )
    .execute(store.pool())
    .await
    .unwrap();
    store.close().await;
    drop(store);
    assert!(matches!(home.open_account(&id("ada")).await, Err(StorageError::NewerVersion)));
}

#[tokio::test]
async fn a_broken_account_does_not_hide_the_others() {
    let (_dir, home) = home_with_ada().await;
    let broken = home.dir().join("accounts").join("broken");
    std::fs::create_dir(&broken).unwrap();
    std::fs::write(broken.join("account.db"), b"this is no database at all").unwrap();
    assert_eq!(home.accounts().await.unwrap().len(), 1);
    assert_eq!(home.current().await.unwrap(), id("ada"));
}

#[test]
fn fingerprints_are_the_directory_names() {
    let fingerprint: Fingerprint = draft(0, "x").dir_name().parse().unwrap();
    assert_eq!(fingerprint, IdentityKey::from_seed([1; 32]).public().fingerprint());
}
