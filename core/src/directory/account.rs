//! An account of this terminal and its directories.

use super::client::Directory;
use super::session::Session;
use super::{AccountAddress, DirectoryError, Heard, Older, Refusal};
use crate::clock::wall_clock;
use crate::storage::{
    AccountId, AccountStore, AccountSummary, Content, DirectoryAt, DirectoryPin, Home, KnownDirectory,
    MAX_DIRECTORIES, Password, StorageError, Unattended,
};
use offhook_proto::backup::{Backup, RecoveryWords};
use offhook_proto::identity::{IdentityKey, TerminalId};
use offhook_proto::number::Number;

/// An account whose identity key is at hand.
pub struct Unlocked {
    pub(super) store: AccountStore,
    pub(super) key: IdentityKey,
}

/// What became of a sign-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// What the directory is called here.
    pub directory: String,
    /// The account's ID there.
    pub id: AccountId,
}

impl Home {
    /// Logs in at a directory and makes its account this terminal's, called `local` here. The password is the account's here, too.
    ///
    /// # Errors
    /// [`DirectoryError`]; nothing is here then.
    pub async fn log_in(
        &self,
        address: &AccountAddress,
        local: AccountId,
        password: &Password,
        (unattended, older): (Unattended, Older),
    ) -> Result<AccountSummary, DirectoryError> {
        let directory = Directory::connect(&address.directory, None).await?;
        let (session, export_key) = directory.log_in(&address.id, password).await?;
        let sealed = session.backup(0)?;
        let backup = sealed.open(&export_key.backup_key(), &session.identity())?;
        check_age(&session, &backup, older).await?;
        let known = known(&session, sealed.version(), &backup)?;
        let account = self.restore_account(local, password.clone(), &backup, known, unattended).await;
        session.log_out().await;
        let account = account?;
        self.remember(&account.id, &directory).await;
        Ok(account)
    }

    /// Gets in by the recovery words, gives the account a new password, and makes it this terminal's.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub async fn recover(
        &self,
        address: &AccountAddress,
        local: AccountId,
        words: &RecoveryWords,
        new_password: &Password,
        (unattended, older): (Unattended, Older),
    ) -> Result<AccountSummary, DirectoryError> {
        let identity = words.identity();
        // Before the password is another one.
        self.has_room_for(&local, &identity.public()).await?;
        let directory = Directory::connect(&address.directory, None).await?;
        let session = directory.recover(&identity).await?;
        let sealed = session.backup(0)?;
        let mut backup = sealed.open_as_owner(&identity)?;
        check_age(&session, &backup, older).await?;
        backup.follow(backup.digest()?);
        let (id, version) = (session.id()?, sealed.version().saturating_add(1));
        let session = session.change_credentials(&id, new_password, &backup, version).await?;
        let known = known(&session, version, &backup)?;
        let account = self.restore_account(local, new_password.clone(), &backup, known, unattended).await;
        session.log_out().await;
        let account = account.map_err(|error| DirectoryError::Partly {
            done: "The new password counts at the directory".to_owned(),
            error: Box::new(error.into()),
            how: format!("Log in with it: `offhook account login {}`.", name_at(&id, directory.name())),
        })?;
        self.remember(&account.id, &directory).await;
        Ok(account)
    }

    /// The directory's key is remembered as that of any other whose site was asked. Without it, after a crash here, the account's own
    /// directory is known all the same.
    async fn remember(&self, id: &AccountId, directory: &Directory) {
        let remembered = async { pin(&self.beside(id).await?, directory).await };
        if let Err(error) = remembered.await {
            tracing::warn!(%error, "what the directory says of itself could not be kept");
        }
    }
}

/// Whether the directory has the newest backup that the network knows of.
async fn check_age(session: &Session, backup: &Backup, older: Older) -> Result<(), DirectoryError> {
    match older {
        Older::Refuse => {
            let number = Number::Plain(backup.number);
            session.backup(session.published_version(&backup.identity, &number).await).map(drop)
        }
        Older::Take => Ok(()),
    }
}

fn name_at(id: &AccountId, directory: &str) -> String {
    format!("{id}@{directory}")
}

/// Remembers who a directory is, if it has a name. One that is another than before is refused, whatever it says of itself.
async fn pin(store: &AccountStore, directory: &Directory) -> Result<(), DirectoryError> {
    let known = store.known_directory(directory.name()).await?;
    let is_another = known.is_some_and(|known| known.directory != directory.id());
    let descriptor = directory.descriptor();
    if descriptor.is_none() && !is_another {
        return Ok(());
    }
    match store.pin_directory(directory.name(), &directory.id(), descriptor).await? {
        DirectoryPin::New | DirectoryPin::Matches => Ok(()),
        DirectoryPin::Differs { .. } => Err(DirectoryError::OtherDirectory(directory.name().to_owned())),
    }
}

/// What is remembered of a directory whose backup is this one.
fn known(session: &Session, version: u64, backup: &Backup) -> Result<KnownDirectory, DirectoryError> {
    let (unseen, seen) = (unseen(session)?, Some(backup.digest()?));
    let kept = backup.directories.iter().find(|kept| kept.directory == unseen.directory);
    let added = kept.map_or(unseen.added, |kept| kept.added);
    Ok(KnownDirectory { version, base: Content::of(backup), seen, added, ..unseen })
}

/// What is remembered of a directory whose backup is still to be merged.
fn unseen(session: &Session) -> Result<KnownDirectory, DirectoryError> {
    let (directory, now) = (session.directory(), wall_clock());
    Ok(KnownDirectory {
        name: directory.name().to_owned(),
        url: directory.url().to_owned(),
        directory: directory.id(),
        id: session.id()?,
        version: 0,
        backed_up: now,
        base: Content::default(),
        seen: None,
        added: now,
        is_too_large: false,
    })
}

impl Unlocked {
    /// Opens an account of this terminal with its password, beside a terminal that may run it.
    ///
    /// # Errors
    /// [`StorageError::WrongPassword`], [`StorageError::NoAccount`].
    pub async fn open(home: &Home, id: &AccountId, password: &Password) -> Result<Self, StorageError> {
        let key = home.unlock(id, password).await?;
        Ok(Self { store: home.beside(id).await?, key })
    }

    /// An account that may act without its password; `None` if it may not.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn unattended(store: &AccountStore) -> Result<Option<Self>, StorageError> {
        let key = store.unattended_key().await?;
        Ok(key.map(|key| Self { store: store.clone(), key }))
    }

    /// What the account keeps here.
    #[must_use]
    pub fn store(&self) -> &AccountStore {
        &self.store
    }

    /// The words that give the account back. Whoever reads them has it.
    #[must_use]
    pub fn recovery_words(&self) -> RecoveryWords {
        RecoveryWords::of(&self.key)
    }

    /// Lets the terminal keep the backup up by itself, or no longer.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn set_unattended(&self, unattended: Unattended) -> Result<(), StorageError> {
        self.store.set_unattended((unattended == Unattended::Yes).then_some(&self.key)).await
    }

    /// Issues the terminal's certificate and the account's records anew.
    ///
    /// # Errors
    /// [`StorageError`].
    pub(super) async fn renew_papers(&self) -> Result<(), StorageError> {
        self.store.renew_papers(&self.key).await
    }

    /// Signs the account up at a directory, with the password that it has here.
    ///
    /// # Errors
    /// [`DirectoryError`]: nothing has changed then.
    pub async fn sign_up(
        &self,
        address: &AccountAddress,
        password: &Password,
    ) -> Result<Signed, DirectoryError> {
        let pinned = self.store.known_directory(address.directory.name()).await?;
        let pinned = pinned.map(|pinned| pinned.directory);
        let directory = Directory::connect(&address.directory, pinned.as_ref()).await?;
        let mut directories = self.store.directories().await?.into_iter();
        let count = directories.len();
        let before = directories.find(|known| known.name == directory.name());
        if count >= MAX_DIRECTORIES && before.is_none() {
            return Err(StorageError::TooLarge("The list of directories").into());
        }
        pin(&self.store, &directory).await?;
        let backup = self.backup_for(&directory, &address.id).await?;
        let signed_up = async {
            let begun = directory.begin_sign_up(&address.id, password).await?;
            directory.finish_sign_up(&begun, &backup).await
        };
        let known = match signed_up.await {
            // It was signed up, and the answer was lost or could not be kept.
            Err(error) if matches!(error.refusal(), Some(Refusal::IdentityTaken | Refusal::IdTaken)) => {
                return match directory.recover(&self.key).await {
                    // Not somebody else's ID, with an account of this identity under another one.
                    Ok(session) if session.id()? == address.id => self.join(before, session).await,
                    Ok(_) | Err(_) => Err(error),
                };
            }
            Err(error) => return Err(error),
            Ok(session) => {
                let sealed = session.backup(0)?;
                let known = known(&session, sealed.version(), &sealed.open_as_owner(&self.key)?)?;
                session.log_out().await;
                known
            }
        };
        self.store.put_directory(&known).await?;
        self.store.update_record(&self.key, &backup.revoked).await?;
        Ok(Signed { directory: known.name, id: known.id })
    }

    /// The account has been at the directory before: what other terminals have put there meanwhile is kept, as what is here.
    async fn join(
        &self,
        before: Option<KnownDirectory>,
        mut session: Session,
    ) -> Result<Signed, DirectoryError> {
        let _lock = self.store.sync_lock().await?;
        let known = before.map_or_else(|| unseen(&session), Ok)?;
        let synced = self.sync_in(&known, &mut session, &mut Heard::default()).await;
        let id = session.id()?;
        session.log_out().await;
        synced?;
        Ok(Signed { directory: known.name, id })
    }

    /// Gives the account another ID and password at its directories, then here. What was done is told if the rest does not succeed;
    /// the same command does the rest later.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub async fn change_credentials(
        &self,
        home: &Home,
        old: (&AccountId, &Password),
        new: (&AccountId, &Password),
    ) -> Result<(), DirectoryError> {
        let mut changed = Vec::new();
        for known in self.store.directories().await? {
            // An ID that is another one there than here stays so, unless it is what changes.
            let id = (old.0 != new.0).then_some(new.0);
            if let Err(error) = self.change_at(&known, id, new.1).await {
                return Err(partly(&changed, error));
            }
            changed.push(known.name);
        }
        let here = async {
            if old.0 != new.0 {
                home.rename(old.0, old.1, new.0).await?;
            }
            if old.1.is_same(new.1) { Ok(()) } else { home.change_password(new.0, old.1, new.1).await }
        };
        here.await.map_err(|error: StorageError| partly(&changed, error.into()))
    }

    async fn change_at(
        &self,
        known: &KnownDirectory,
        id: Option<&AccountId>,
        password: &Password,
    ) -> Result<(), DirectoryError> {
        let _lock = self.store.sync_lock().await?;
        let known = &self.newest(known).await?;
        let mut session = self.enter(known).await?;
        // Another terminal may have changed it.
        let id = id.map_or_else(|| session.id(), |id| Ok(id.clone()))?;
        // What another terminal has put there is not to be lost.
        self.sync_in(known, &mut session, &mut Heard::default()).await?;
        let sealed = session.backup(0)?;
        let mut backup = sealed.open_as_owner(&self.key)?;
        backup.follow(backup.digest()?);
        let version = sealed.version().saturating_add(1);
        let session = session.change_credentials(&id, password, &backup, version).await?;
        self.store.put_directory(&self::known(&session, version, &backup)?).await?;
        self.store.update_record(&self.key, &[]).await?;
        session.log_out().await;
        Ok(())
    }

    /// Puts a terminal out of the account: its records and calls count nowhere any more where the account's new record is known. Whoever
    /// runs the account publishes that.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub async fn revoke(&self, terminal: &TerminalId) -> Result<(), DirectoryError> {
        self.store.update_record(&self.key, &[*terminal]).await?;
        Ok(())
    }

    /// Erases the account at a directory, for good. Here it stays. One that is not there any more has been erased.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub async fn delete_at(&self, known: &KnownDirectory) -> Result<(), DirectoryError> {
        match self.enter(known).await {
            Ok(session) => session.delete_account().await?,
            Err(error) if error.refusal() == Some(Refusal::NotFound) => {}
            Err(error) => return Err(error),
        }
        self.store.remove_directory(&known.name).await?;
        self.store.update_record(&self.key, &[]).await?;
        let now = wall_clock();
        for held in self.store.chosen().await? {
            if held.certified(now).is_ok_and(|cert| cert.directory == known.directory) {
                self.store.remove_chosen(&held.number).await?;
            }
        }
        Ok(())
    }

    /// A backup of what is here, for a directory where the account is about to be.
    async fn backup_for(&self, directory: &Directory, id: &AccountId) -> Result<Backup, DirectoryError> {
        let mut backup = self.store.new_backup(&self.key).await?;
        let mut content = self.store.content().await?;
        let (name, url) = (directory.name().to_owned(), directory.url().to_owned());
        let at = DirectoryAt { name, url, id: id.to_string(), added: wall_clock().0 };
        content.join(&directory.id(), at);
        content.put_into(&mut backup)?;
        self.put_papers(&mut backup).await?;
        Ok(backup)
    }
}

/// What was done before something went wrong.
fn partly(changed: &[String], error: DirectoryError) -> DirectoryError {
    if changed.is_empty() {
        return error;
    }
    DirectoryError::Partly {
        done: format!("It is changed at {}", changed.join(" and ")),
        error: Box::new(error),
        how: "Here the old ID and password still count: give the same command once more.".to_owned(),
    }
}
