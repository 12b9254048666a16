//! Accounts and backups.

use std::os::unix::fs::PermissionsExt as _;

use futures::future::join_all;
use offhook_bootstrap::store::{
    Backup, BlobPlace, DatabasePlace, Fact, NewCredentials, NewSession, PasswordFile, Refused, Store,
    StoreError, TokenHash,
};
use offhook_proto::wire::UnixMillis;

use crate::bench::{Bench, NOW, identity, minutes, new_account, refused, with_accounts};
use crate::numbers::{claim, entry};

pub async fn an_account_is_kept_as_it_was_signed_up(bench: &Bench) {
    let store = bench.open().await;
    let new = new_account(1, "홍길동");
    store.sign_up(new.clone(), NOW).await.unwrap();
    for store in [store, bench.open().await] {
        let account = store.account(&new.identity).await.unwrap().expect("an account");
        assert_eq!((account.identity, &account.id, account.number), (new.identity, &new.id, new.number));
        assert_eq!((account.proof, &account.password_file), (new.proof, &new.password_file));
        assert_eq!((account.backup_version, account.created), (1, NOW));
        assert_eq!(store.account_by_id(&new.id).await.unwrap(), Some(account));
        let backup = Backup { version: 1, bytes: new.backup.clone() };
        assert_eq!(store.backup(&new.identity).await.unwrap(), Some(backup));
        assert_eq!(store.account(&identity(2)).await.unwrap(), None);
        assert_eq!(store.backup(&identity(2)).await.unwrap(), None);
        assert_eq!(store.account_by_id(&"nobody".parse().unwrap()).await.unwrap(), None);
        store.check().await.unwrap();
    }
}

pub async fn an_id_and_an_identity_sign_up_once(bench: &Bench) {
    let (one, two) = (bench.open().await, bench.open().await);
    let all = (1..=20).map(|n| {
        let store = if n % 2 == 0 { &one } else { &two };
        store.sign_up(new_account(n, "ada"), NOW)
    });
    let outcomes = join_all(all).await;
    let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    lost.into_iter().for_each(|outcome| assert_eq!(refused(outcome), Refused::IdTaken));
    assert_eq!(one.count_accounts().await.unwrap(), 1);
    let ada = one.account_by_id(&"ada".parse().unwrap()).await.unwrap().unwrap();
    let n = (1..=20).find(|n| identity(*n) == ada.identity).unwrap();
    assert_eq!(refused(two.sign_up(new_account(n, "other"), NOW).await), Refused::IdentityTaken);
    assert_eq!(bench.blobs().len(), 1, "what was refused left nothing behind");
}

pub async fn accounts_are_listed_in_order_and_page_by_page(bench: &Bench) {
    let store = bench.open().await;
    let ids = ["ada", "bob", "z", "é", "홍길동"];
    for (n, id) in (1..).zip(ids.iter().rev()) {
        store.sign_up(new_account(n, id), NOW).await.unwrap();
    }
    let mut listed = Vec::new();
    loop {
        let page = store.accounts(listed.last(), 2).await.unwrap();
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 2);
        listed.extend(page.into_iter().map(|account| account.id));
    }
    assert_eq!(listed.iter().map(ToString::to_string).collect::<Vec<_>>(), ids);
}

pub async fn a_backup_has_one_successor(bench: &Bench) {
    let (one, two) = (with_accounts(bench, 1).await, bench.open().await);
    let who = identity(1);
    for wrong in [0, 1, 3, u64::MAX] {
        let outcome = one.put_backup(&who, wrong, vec![9], NOW).await;
        assert_eq!(refused(outcome), Refused::Version { stored: 1 }, "{wrong}");
    }
    assert_eq!(refused(one.put_backup(&identity(2), 1, vec![9], NOW).await), Refused::NoAccount);
    let all = (0..10).map(|n| {
        let store = if n % 2 == 0 { &one } else { &two };
        store.put_backup(&who, 2, vec![n; 50], NOW)
    });
    let outcomes = join_all(all).await;
    let winner = outcomes.iter().position(Result::is_ok).expect("somebody wins");
    for (n, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            Ok(()) => assert_eq!(n, winner),
            lost => assert_eq!(refused(lost), Refused::Version { stored: 2 }),
        }
    }
    let bytes = vec![u8::try_from(winner).unwrap(); 50];
    assert_eq!(two.backup(&who).await.unwrap(), Some(Backup { version: 2, bytes }));
    assert!(bench.blobs().len() <= 1, "the others are erased");
}

pub async fn a_backup_that_is_replaced_while_it_is_read_is_whole(bench: &Bench) {
    let (writer, reader) = (with_accounts(bench, 1).await, bench.open().await);
    let who = identity(1);
    let writing = async {
        for version in 2..40 {
            let bytes = vec![u8::try_from(version).unwrap(); 2_000];
            writer.put_backup(&who, version, bytes, NOW).await.unwrap();
        }
    };
    let reading = async {
        let mut version = 0;
        while version < 39 {
            let backup = reader.backup(&who).await.unwrap().expect("an account");
            assert!(backup.version >= version, "no rollback");
            version = backup.version;
            let expected = if version == 1 { 1 } else { u8::try_from(version).unwrap() };
            assert!(backup.bytes.iter().all(|byte| *byte == expected), "of one version");
        }
    };
    futures::join!(writing, reading);
}

pub async fn what_was_left_behind_is_swept_and_what_is_new_is_not(bench: &Bench) {
    let store = with_accounts(bench, 2).await;
    // As a process that is killed leaves it: written, and nothing points to it.
    bench.execute("UPDATE backups SET blob = 'elsewhere' WHERE identity = (SELECT identity FROM backups ORDER BY identity LIMIT 1)").await;
    let system = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = u64::try_from(system.as_millis()).unwrap();
    let left = |n: u8| async move { bench.open().await.backup(&identity(n)).await };
    let kept = if left(1).await.is_ok() { 1 } else { 2 };
    let before = bench.blobs().len();
    store.sweep(UnixMillis(now + 1_800_000)).await.unwrap();
    assert_eq!(bench.blobs().len(), before, "half an hour old");
    // A part that fails keeps no other from being done.
    bench.execute("ALTER TABLE sessions RENAME TO away").await;
    assert!(store.sweep(UnixMillis(now + 7_200_000)).await.is_err());
    assert_eq!(bench.blobs().len(), before.saturating_sub(1), "two hours old");
    bench.execute("ALTER TABLE away RENAME TO sessions").await;
    store.sweep(UnixMillis(now + 7_200_000)).await.unwrap();
    assert_eq!(bench.blobs().len(), before.saturating_sub(1), "two hours old");
    assert!(left(kept).await.unwrap().is_some(), "what is pointed to stays");
    assert!(matches!(left(3 - kept).await, Err(StoreError::Damaged(_))));
}

pub async fn a_backup_that_was_changed_is_not_given_out(bench: &Bench) {
    let store = with_accounts(bench, 1).await;
    std::fs::write(&bench.blobs()[0], [2; 1_000]).unwrap();
    assert!(matches!(store.backup(&identity(1)).await, Err(StoreError::Damaged(_))));
}

fn credentials(id: &str, version: u64) -> NewCredentials {
    let password_file = PasswordFile(vec![7; 192]);
    NewCredentials { id: id.parse().unwrap(), password_file, version, backup: vec![77; 10] }
}

async fn log_in(store: &Store, n: u8, token: &[u8]) -> TokenHash {
    let token = TokenHash::of(token);
    let new = NewSession {
        token,
        identity: identity(n),
        expires: minutes(60),
        instead_of: None,
        password: None,
        remember: None,
    };
    store.begin_session(new, vec![], NOW).await.unwrap();
    token
}

pub async fn new_credentials_come_with_their_backup_and_end_all_sessions(bench: &Bench) {
    let store = with_accounts(bench, 2).await;
    let (own, elsewhere) = (log_in(&store, 1, b"own").await, log_in(&store, 1, b"elsewhere").await);
    let others = log_in(&store, 2, b"others").await;
    let who = identity(1);
    let before = store.account(&who).await.unwrap();
    let change = |new| store.change_credentials(&who, new, NOW);
    assert_eq!(refused(change(credentials("user2", 2)).await), Refused::IdTaken);
    assert_eq!(refused(change(credentials("ada", 3)).await), Refused::Version { stored: 1 });
    assert_eq!(store.account(&who).await.unwrap(), before, "all of it or nothing");
    assert!(store.session(&elsewhere, NOW).await.unwrap().is_some());
    change(credentials("ada", 2)).await.unwrap();
    let account = store.account_by_id(&"ada".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((account.identity, account.backup_version), (who, 2));
    assert_eq!(account.password_file, PasswordFile(vec![7; 192]));
    assert_eq!(store.account_by_id(&"user1".parse().unwrap()).await.unwrap(), None);
    assert_eq!(store.backup(&who).await.unwrap(), Some(Backup { version: 2, bytes: vec![77; 10] }));
    assert!(store.session(&own, NOW).await.unwrap().is_none());
    assert!(store.session(&elsewhere, NOW).await.unwrap().is_none());
    assert!(store.session(&others, NOW).await.unwrap().is_some());
    change(credentials("ada", 3)).await.unwrap();
    assert_eq!(bench.blobs().len(), 2, "one for each account");
}

pub async fn a_deleted_account_leaves_nothing_but_its_numbers(bench: &Bench) {
    let store = with_accounts(bench, 2).await;
    let (who, session) = (identity(1), log_in(&store, 1, b"own").await);
    store.claim_number(claim(1, "ada"), entry("ada"), NOW).await.unwrap();
    store.delete_account(&who, None, NOW).await.unwrap();
    assert_eq!(refused(store.delete_account(&who, None, NOW).await), Refused::NoAccount);
    assert_eq!(store.account(&who).await.unwrap(), None);
    assert_eq!(store.backup(&who).await.unwrap(), None);
    assert_eq!(store.session(&session, NOW).await.unwrap(), None);
    assert_eq!(bench.blobs().len(), 1);
    assert_eq!(store.number("ada").await.unwrap().unwrap().identity, who);
    assert_eq!(refused(store.claim_number(claim(2, "ada"), entry("ada"), NOW).await), Refused::NumberTaken);
    store.sign_up(new_account(1, "user1"), NOW).await.unwrap();
    assert_eq!(store.numbers_of(&who).await.unwrap().len(), 1, "whoever comes back has them");
}

pub async fn a_database_belongs_to_one_directory(bench: &Bench) {
    let store = bench.open().await;
    store.belongs_to(Fact::SigningKey, &[1; 32]).await.unwrap();
    store.belongs_to(Fact::Name, b"example.org").await.unwrap();
    let again = bench.open().await;
    again.belongs_to(Fact::SigningKey, &[1; 32]).await.unwrap();
    assert!(matches!(
        again.belongs_to(Fact::SigningKey, &[2; 32]).await,
        Err(StoreError::Foreign("signing key"))
    ));
}

pub async fn a_copy_is_a_store_of_one_moment(bench: &Bench) {
    let store = with_accounts(bench, 20).await;
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let data = std::fs::read_dir(bench.folder.path().join("da ta %20?")).unwrap();
    for file in data.map(|file| file.unwrap().path()) {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    let copy = bench.folder.path().join("copy");
    let writing = async {
        for version in 2..10 {
            for n in 1..=20 {
                store.put_backup(&identity(n), version, vec![n; 2_000], NOW).await.unwrap();
            }
        }
    };
    let (copied, ()) = futures::join!(store.copy_to(&copy, NOW), writing);
    copied.unwrap();
    let database = copy.join("directory.sqlite");
    assert_eq!(mode(&database), 0o600);
    let places = (DatabasePlace::Sqlite(database), BlobPlace::Folder(copy.join("blobs")));
    let restored = Store::open(&places.0, &places.1).await.unwrap();
    assert_eq!(restored.count_accounts().await.unwrap(), 20);
    for n in 1..=20 {
        let backup = restored.backup(&identity(n)).await.unwrap().expect("an account");
        let account = restored.account(&identity(n)).await.unwrap().expect("an account");
        assert_eq!(backup.version, account.backup_version);
        assert!(backup.bytes.iter().all(|byte| *byte == n));
    }
    assert!(store.copy_to(&copy, NOW).await.is_err(), "nothing is written over");
    let system = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let later = u64::try_from(system.as_millis()).unwrap() + 7_200_000;
    store.sweep(UnixMillis(later)).await.unwrap();
    assert_eq!(bench.blobs().len(), 20, "what was kept for the copy is gone");
}

pub async fn a_copy_has_what_its_moment_needs_though_another_copy_ends_meanwhile(bench: &Bench) {
    let store = with_accounts(bench, 1).await;
    let at = |name: &str| bench.folder.path().join(name);
    let nothing = async |_| Ok::<_, StoreError>(());
    let replace = async |_| {
        store.copy_beside(&at("other"), NOW, nothing).await?;
        store.put_backup(&identity(1), 2, b"second".to_vec(), NOW).await
    };
    let first = store.backup(&identity(1)).await.unwrap().unwrap().bytes;
    store.copy_beside(&at("copy"), NOW, replace).await.unwrap();
    let own = at("copy/blobs/backups").join(data_encoding::HEXLOWER.encode(identity(1).as_bytes()));
    let blobs = std::fs::read_dir(own).unwrap().map(|blob| std::fs::read(blob.unwrap().path()).unwrap());
    assert!(blobs.collect::<Vec<_>>().contains(&first));
    // With a backup missing it is no copy.
    store.put_backup(&identity(1), 3, b"third".to_vec(), NOW).await.unwrap();
    for blob in bench.blobs() {
        std::fs::remove_file(blob).unwrap();
    }
    let copied = store.copy_beside(&at("third"), NOW, nothing).await;
    assert!(matches!(copied, Err(StoreError::Damaged(_))), "{copied:?}");
}
