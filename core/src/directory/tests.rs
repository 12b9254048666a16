//! Accounts at directories that do what they are told, honest or not.

mod histories;
mod numbers;
mod several;
mod stand_in;

use super::*;
use crate::clock::wall_clock;
use crate::storage::{
    AccountId, AccountStore, Content, Home, KnownDirectory, Password, StorageError, Unattended,
};
use offhook_proto::backup::{Backup, BackupContact, RecoveryWords};
use offhook_proto::identity::{DirectoryKey, IdentityKey, MailboxKey};
use offhook_proto::number::{Number, PlainNumber};
use offhook_proto::proof::{PlainProof, try_nonce};
use stand_in::StandIn;
use tempfile::TempDir;

/// An identity with the nonce that gives it a number, found once.
const MINED: ([u8; 32], u64) = ([1; 32], 22);

const PASSWORD: &str = "pw one";

fn identity() -> IdentityKey {
    IdentityKey::from_seed(MINED.0)
}

/// The account with nothing in it.
fn empty() -> Backup {
    let (identity, nonce) = (identity(), MINED.1);
    let number = try_nonce(&identity.public(), nonce).expect("mined before");
    Backup::new(identity, MailboxKey::from_seed([9; 32]), number, PlainProof { nonce }, wall_clock())
}

fn with(contacts: Vec<BackupContact>) -> Backup {
    let mut backup = empty();
    backup.contacts = contacts;
    backup
}

fn contact(n: u64, name: &str) -> BackupContact {
    BackupContact { number: number(n), name: name.to_owned() }
}

fn number(n: u64) -> Number {
    Number::Plain(PlainNumber::from_index(n))
}

fn id(text: &str) -> AccountId {
    text.parse().unwrap()
}

fn password() -> Password {
    Password::new(PASSWORD).unwrap()
}

/// A terminal of the account, which has been at the directory when its backup was this one.
struct Terminal {
    _dir: TempDir,
    home: Home,
    unlocked: Unlocked,
}

impl Terminal {
    async fn at(directory: &StandIn, name: &str, backup: &Backup) -> Self {
        let known = known_at(directory, name, backup);
        Self::with(known, backup).await
    }

    /// A terminal that has this, whatever it has seen of the directory.
    async fn with(known: KnownDirectory, backup: &Backup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        home.restore_account(id("ada"), password(), backup, known, Unattended::Yes).await.unwrap();
        let unlocked = Unlocked::open(&home, &id("ada"), &password()).await.unwrap();
        Self { _dir: dir, home, unlocked }
    }

    fn store(&self) -> &AccountStore {
        self.unlocked.store()
    }

    async fn known(&self) -> KnownDirectory {
        self.store().directories().await.unwrap().remove(0)
    }

    /// Names of its contacts.
    async fn contacts(&self) -> Vec<String> {
        let mut names: Vec<_> = self.store().content().await.unwrap().contacts.into_values().collect();
        names.sort();
        names
    }
}

/// What a terminal knows of a directory whose backup is this one.
fn known_at(directory: &StandIn, name: &str, backup: &Backup) -> KnownDirectory {
    let state = directory.state();
    KnownDirectory {
        name: name.to_owned(),
        url: directory.url.clone(),
        directory: state.key.public(),
        id: id("ada"),
        version: state.version,
        backed_up: wall_clock(),
        base: Content::of(backup),
        seen: Some(backup.digest().unwrap()),
        added: wall_clock(),
        is_too_large: false,
    }
}

fn names(backup: &Backup) -> Vec<String> {
    let mut names: Vec<_> = backup.contacts.iter().map(|contact| contact.name.clone()).collect();
    names.sort();
    names
}

const NAME: &str = "directory.example";

#[tokio::test]
async fn p3_signing_up_again_keeps_what_other_terminals_have_put_there() {
    let directory = StandIn::start(NAME, 3, &identity(), &empty()).await;
    let terminal = Terminal::at(&directory, NAME, &empty()).await;
    terminal.store().contact_add(&number(1), "carol", None).await.unwrap();
    directory.put(&with(vec![contact(2, "bob")]));
    let address = format!("ada@{}", directory.url).parse().unwrap();
    // Met by another name than before: as if it was forgotten that the account is there.
    let signed = terminal.unlocked.sign_up(&address, &password()).await.unwrap();
    assert_eq!(signed.id, id("ada"));
    assert_eq!(terminal.contacts().await, ["bob", "carol"]);
    assert_eq!(names(&directory.backup()), ["bob", "carol"]);
}

#[tokio::test]
async fn q3_an_account_is_not_signed_up_at_a_directory_that_is_another_than_before() {
    let directory = StandIn::start(NAME, 3, &identity(), &empty()).await;
    let terminal = Terminal::at(&directory, NAME, &empty()).await;
    let called = directory.url.trim_start_matches("http://");
    // It says nothing of itself at its site, but another one was here before.
    let other = DirectoryKey::from_seed([7; 32]).public();
    terminal.store().pin_directory(called, &other, None).await.unwrap();
    let address = format!("ada@{}", directory.url).parse().unwrap();
    let refused = terminal.unlocked.sign_up(&address, &password()).await;
    assert!(matches!(refused, Err(DirectoryError::OtherDirectory(_))), "{refused:?}");
    let asked: Vec<String> = directory.state().heard.iter().map(|(asked, _)| asked.clone()).collect();
    assert_eq!(asked, ["GET /info"], "nothing else was told to it");
}

#[tokio::test]
async fn p15_a_new_password_leaves_the_id_that_another_terminal_has_given() {
    let directory = StandIn::start(NAME, 3, &identity(), &empty()).await;
    let terminal = Terminal::at(&directory, NAME, &empty()).await;
    directory.state().id = "ada.lovelace".to_owned();
    let (ada, old, new) = (id("ada"), password(), Password::new("pw two").unwrap());
    // The stand-in knows no passwords: it refuses, but hears what is asked for.
    let refused = terminal.unlocked.change_credentials(&terminal.home, (&ada, &old), (&ada, &new)).await;
    assert!(refused.is_err());
    let state = directory.state();
    let asked = state.heard.iter().find(|(asked, _)| asked == "POST /account/credentials/start").unwrap();
    assert_eq!(asked.1["new_id"], "ada.lovelace");
}

#[tokio::test]
async fn p3_an_account_that_is_erased_there_already_is_forgotten_here() {
    let directory = StandIn::start(NAME, 3, &identity(), &empty()).await;
    let terminal = Terminal::at(&directory, NAME, &empty()).await;
    directory.state().loses = Some("DELETE /account");
    let known = terminal.known().await;
    terminal.unlocked.delete_at(&known).await.unwrap_err();
    assert!(directory.state().is_gone, "it was done, and the answer lost");
    terminal.unlocked.delete_at(&known).await.unwrap();
    assert_eq!(terminal.store().directories().await.unwrap(), []);
}

#[tokio::test]
async fn p16_what_came_of_a_backup_is_told_of_each_directory() {
    let directory = StandIn::start(NAME, 3, &identity(), &empty()).await;
    let terminal = Terminal::at(&directory, NAME, &empty()).await;
    let synced = terminal.unlocked.sync_each(Older::Refuse).await.unwrap();
    assert!(matches!(&synced[..], [(name, Ok(_))] if name == NAME), "{synced:?}");
    directory.state().is_gone = true;
    let synced = terminal.unlocked.sync_each(Older::Refuse).await.unwrap();
    assert!(matches!(&synced[..], [(_, Err(_))]), "{synced:?}");
}

#[tokio::test]
async fn q2_a_recovery_of_an_account_that_is_here_already_changes_nothing_anywhere() {
    let directory = StandIn::start(NAME, 3, &identity(), &empty()).await;
    let terminal = Terminal::at(&directory, NAME, &empty()).await;
    let address = format!("ada@{}", directory.url).parse().unwrap();
    let (words, new) = (RecoveryWords::of(&identity()), Password::new("pw two").unwrap());
    let how = (Unattended::Yes, Older::Refuse);
    let refused = terminal.home.recover(&address, id("grace"), &words, &new, how).await;
    let is_told =
        matches!(&refused, Err(DirectoryError::Storage(StorageError::AccountExists(id))) if id == "ada");
    assert!(is_told, "{refused:?}");
    assert!(directory.state().heard.is_empty(), "the old password counts still");
}

/// A revocation at one directory that another one has to hear of.
#[tokio::test]
async fn q2_a_terminal_that_is_revoked_in_one_backup_is_in_that_of_every_directory() {
    let directory = StandIn::start(NAME, 3, &identity(), &empty()).await;
    let terminal = Terminal::at(&directory, NAME, &empty()).await;
    let revoked = offhook_proto::identity::TerminalKey::from_seed([8; 32]).public();
    terminal.store().update_record(&identity(), &[revoked]).await.unwrap();
    terminal.unlocked.sync(Older::Refuse).await.unwrap();
    assert_eq!(directory.backup().revoked, [revoked]);
    let version = directory.state().version;
    terminal.unlocked.sync(Older::Refuse).await.unwrap();
    assert_eq!(directory.state().version, version, "once");
}
