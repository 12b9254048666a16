//! An account of this terminal and its directories.

use super::client::{Directory, nonces};
use super::session::{Conflict, Session};
use super::{AccountAddress, DirectoryAddress, DirectoryError, Refusal};
use crate::clock::wall_clock;
use crate::storage::{
    AccountId, AccountStore, AccountSummary, Content, DirectoryPin, HeldNumber, Home, KnownDirectory,
    MAX_DIRECTORIES, NewNumber, Password, StorageError, Unattended,
};
use offhook_proto::backup::{Backup, BackupChosen, RecoveryWords};
use offhook_proto::identity::{IdentityId, IdentityKey};
use offhook_proto::number::{ChosenNumber, Number};
use offhook_proto::proof::{SignedTransfer, lengthen};

/// How often a backup is merged and put again when another terminal was faster.
const TRIES: u32 = 5;

/// An account whose identity key is at hand.
pub struct Unlocked {
    store: AccountStore,
    key: IdentityKey,
}

/// What is to be done if a directory has an older backup than there was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Older {
    /// It is not taken: what is missing in it would be lost.
    Refuse,
    /// It is taken, since the directory has lost the newer one.
    Take,
}

/// What became of a sign-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// What the directory is called here.
    pub directory: String,
    /// The account's ID there.
    pub id: AccountId,
}

/// What became of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synced {
    /// Version of the backup that is there.
    pub version: u64,
    /// Something was put there.
    pub is_new: bool,
    /// Something of another terminal's came from there.
    pub has_taken: bool,
    /// The account's records were signed anew: a terminal that runs has to publish them.
    pub has_signed: bool,
}

/// A number that the account has got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The number in its full form.
    pub number: Number,
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
        let directory = Directory::connect(&address.directory, None).await?;
        let session = directory.recover(&identity).await?;
        let sealed = session.backup(0)?;
        let backup = sealed.open_as_owner(&identity)?;
        check_age(&session, &backup, older).await?;
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
            session.backup(session.published_version(&Number::Plain(backup.number)).await).map(drop)
        }
        Older::Take => Ok(()),
    }
}

fn name_at(id: &AccountId, directory: &str) -> String {
    format!("{id}@{directory}")
}

/// Remembers who a directory is, if it has a name.
async fn pin(store: &AccountStore, directory: &Directory) -> Result<(), DirectoryError> {
    let Some(descriptor) = directory.descriptor() else { return Ok(()) };
    match store.pin_directory(directory.name(), &directory.id(), Some(descriptor)).await? {
        DirectoryPin::New | DirectoryPin::Matches => Ok(()),
        DirectoryPin::Differs { .. } => Err(DirectoryError::OtherDirectory(directory.name().to_owned())),
    }
}

/// What is remembered of a directory whose backup is this one.
fn known(session: &Session, version: u64, backup: &Backup) -> Result<KnownDirectory, DirectoryError> {
    let directory = session.directory();
    Ok(KnownDirectory {
        name: directory.name().to_owned(),
        url: directory.url().to_owned(),
        directory: directory.id(),
        id: session.id()?,
        version,
        backed_up: wall_clock(),
        base: Content::of(backup),
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
        let directory = Directory::connect(&address.directory, None).await?;
        let directories = self.store.directories().await?;
        let is_known = directories.iter().any(|known| known.name == directory.name());
        if directories.len() >= MAX_DIRECTORIES && !is_known {
            return Err(StorageError::TooLarge("The list of directories").into());
        }
        pin(&self.store, &directory).await?;
        let backup = self.backup().await?;
        let signed_up = async {
            let begun = directory.begin_sign_up(&address.id, password).await?;
            directory.finish_sign_up(&begun, &backup).await
        };
        let session = match signed_up.await {
            // It was signed up, and the answer was lost or could not be kept.
            Err(error) if matches!(error.refusal(), Some(Refusal::IdentityTaken | Refusal::IdTaken)) => {
                match directory.recover(&self.key).await {
                    // Not somebody else's ID, with an account of this identity under another one.
                    Ok(session) if session.id()? == address.id => session,
                    Ok(_) | Err(_) => return Err(error),
                }
            }
            other => other?,
        };
        let sealed = session.backup(0)?;
        let kept = sealed.open_as_owner(&self.key)?;
        let known = known(&session, sealed.version(), &kept)?;
        self.store.put_directory(&known).await?;
        self.store.update_record(&self.key, &kept.revoked).await?;
        session.log_out().await;
        Ok(Signed { directory: known.name, id: known.id })
    }

    /// Brings the backup at every directory up to date, and what other terminals have put there here.
    ///
    /// # Errors
    /// The first [`DirectoryError`]; the others are tried all the same.
    pub async fn sync(&self, older: Older) -> Result<Vec<(String, Synced)>, DirectoryError> {
        let (mut done, mut failed) = (Vec::new(), None);
        for known in self.store.directories().await? {
            match self.sync_with(&known, older).await {
                Ok(synced) => done.push((known.name, synced)),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(done), Err)
    }

    /// The same at one directory.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub async fn sync_with(&self, known: &KnownDirectory, older: Older) -> Result<Synced, DirectoryError> {
        let mut session = self.enter(known).await?;
        let mut known = known.clone();
        if older == Older::Take
            && let Err(DirectoryError::RolledBack { found, .. }) = session.backup(known.version)
        {
            // What is here counts, where the two differ.
            let base = Content::of(&session.backup(0)?.open_as_owner(&self.key)?);
            known = KnownDirectory { version: found, base, ..known };
        }
        let synced = self.sync_in(&known, &mut session).await;
        session.log_out().await;
        synced
    }

    async fn enter(&self, known: &KnownDirectory) -> Result<Session, DirectoryError> {
        let address = DirectoryAddress::kept(&known.name, &known.url)?;
        Directory::connect(&address, Some(&known.directory)).await?.recover(&self.key).await
    }

    /// Renews certificates, merges, and puts what has changed.
    async fn sync_in(&self, known: &KnownDirectory, session: &mut Session) -> Result<Synced, DirectoryError> {
        let mut known = KnownDirectory { id: session.id()?, ..known.clone() };
        self.take_certificates(&known, session).await?;
        let (mut has_taken, mut has_signed) = (false, false);
        for _ in 0..TRIES {
            let sealed = session.backup(known.version)?;
            let mut backup = sealed.open_as_owner(&self.key)?;
            let there = Content::of(&backup);
            if sealed.version() > known.version {
                has_taken |= self.store.merge_content(&known.base, &there).await?;
                known = KnownDirectory { version: sealed.version(), base: there.clone(), ..known };
                self.store.put_directory(&known).await?;
            }
            // As it can be kept here: a name that somebody else has, say, is another one then.
            let content = self.store.content().await?;
            let (was, chosen) = (backup.chosen.clone(), self.chosen().await?);
            content.put_into(&mut backup)?;
            // A terminal that was revoked elsewhere must not come back with the next record of this one.
            has_signed |= self.store.update_record(&self.key, &backup.revoked).await?;
            self.put_papers(&mut backup, chosen).await?;
            if content == there && backup.chosen == was {
                known = KnownDirectory { base: content, backed_up: wall_clock(), ..known };
                self.store.put_directory(&known).await?;
                has_signed |= self.store.update_record(&self.key, &[]).await?;
                return Ok(Synced { version: known.version, is_new: false, has_taken, has_signed });
            }
            let version = sealed.version().saturating_add(1);
            let next = backup.seal(&sealed.key_as_owner(&self.key)?, version, &nonces())?;
            match session.put_backup(&self.key, &next).await? {
                Ok(()) => {
                    known = KnownDirectory { version, base: content, backed_up: wall_clock(), ..known };
                    self.store.put_directory(&known).await?;
                    has_signed |= self.store.update_record(&self.key, &[]).await?;
                    return Ok(Synced { version, is_new: true, has_taken, has_signed });
                }
                Err(Conflict) => session.fetch_backup().await?,
            }
        }
        Err(DirectoryError::Conflict)
    }

    /// What the directory certifies is the account's, and what it does not certify any more is not; what is due is renewed.
    async fn take_certificates(
        &self,
        known: &KnownDirectory,
        session: &Session,
    ) -> Result<(), DirectoryError> {
        let now = wall_clock();
        let held = self.store.chosen().await?;
        let mut certified = Vec::new();
        for mut cert in session.certificates() {
            let Ok(said) = cert.verify(now) else { continue };
            if said.directory != known.directory || said.identity != self.key.public() {
                return Err(DirectoryError::Certificate);
            }
            let (due, number) = (said.renewal_due(now), said.number);
            if due && let Number::Chosen(chosen) = &number {
                cert = session.renew(&self.key, chosen).await?;
            }
            let before = held.iter().find(|held| held.number == number);
            if before.is_none_or(|held| held.cert != cert) {
                let transfers = before.map(|held| held.transfers.clone()).unwrap_or_default();
                self.store.put_chosen(&self.key, NewNumber { cert, transfers }).await?;
            }
            certified.push(number);
        }
        for held in held.iter().filter(|held| !certified.contains(&held.number)) {
            let is_theirs = held.certified(now).is_ok_and(|cert| cert.directory == known.directory);
            if is_theirs {
                self.store.remove_chosen(&held.number).await?;
            }
        }
        Ok(())
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
            let id = if old.0 == new.0 { &known.id } else { new.0 };
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
        id: &AccountId,
        password: &Password,
    ) -> Result<(), DirectoryError> {
        let mut session = self.enter(known).await?;
        // What another terminal has put there is not to be lost.
        self.sync_in(known, &mut session).await?;
        let sealed = session.backup(0)?;
        let backup = sealed.open_as_owner(&self.key)?;
        let version = sealed.version().saturating_add(1);
        let session = session.change_credentials(id, password, &backup, version).await?;
        self.store.put_directory(&self::known(&session, version, &backup)?).await?;
        self.store.update_record(&self.key, &[]).await?;
        session.log_out().await;
        Ok(())
    }

    /// Erases the account at a directory, for good. Here it stays.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub async fn delete_at(&self, known: &KnownDirectory) -> Result<(), DirectoryError> {
        self.enter(known).await?.delete_account().await?;
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

    /// Claims a chosen number; `transfers` if somebody has given it to the account, the last one to it.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub async fn claim(
        &self,
        number: &ChosenNumber,
        transfers: Vec<SignedTransfer>,
    ) -> Result<Claimed, DirectoryError> {
        let (known, directory) = self.issuer(number).await?;
        let session = directory.recover(&self.key).await?;
        let number = in_full(number, &directory)?;
        let cert = session.claim(&self.key, &number, transfers.last().cloned()).await?;
        let number = self.store.put_chosen(&self.key, NewNumber { cert, transfers }).await?;
        session.log_out().await;
        self.keep_up(&known).await;
        Ok(Claimed { number })
    }

    /// Has the certificates renewed that are due, of all numbers.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub async fn renew_numbers(&self) -> Result<Vec<HeldNumber>, DirectoryError> {
        self.sync(Older::Refuse).await?;
        Ok(self.store.chosen().await?)
    }

    /// Gives a number up.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub async fn release(&self, number: &ChosenNumber) -> Result<(), DirectoryError> {
        let (known, directory) = self.issuer(number).await?;
        let session = directory.recover(&self.key).await?;
        let number = in_full(number, &directory)?;
        session.release(&self.key, &number).await?;
        self.store.remove_chosen(&Number::Chosen(number)).await?;
        session.log_out().await;
        self.keep_up(&known).await;
        Ok(())
    }

    /// Gives a number to somebody else, who claims it with what is answered within a week.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub async fn transfer(
        &self,
        number: &ChosenNumber,
        to: IdentityId,
    ) -> Result<Vec<SignedTransfer>, DirectoryError> {
        let (known, directory) = self.issuer(number).await?;
        let session = directory.recover(&self.key).await?;
        let number = in_full(number, &directory)?;
        let held = self.store.chosen().await?;
        let held = held.into_iter().find(|held| held.number == Number::Chosen(number.clone()));
        let held = held.ok_or(StorageError::Number)?;
        let transfer = SignedTransfer::sign(&self.key, number.key(&directory.id()), to, wall_clock());
        session.transfer(&number, &transfer).await?;
        self.store.remove_chosen(&held.number).await?;
        session.log_out().await;
        self.keep_up(&known).await;
        Ok(lengthen(&held.transfers, transfer))
    }

    /// The directory that a number is of: the one that it names, else the account's first.
    async fn issuer(&self, number: &ChosenNumber) -> Result<(KnownDirectory, Directory), DirectoryError> {
        for known in self.store.directories().await? {
            let address = DirectoryAddress::kept(&known.name, &known.url)?;
            if number.directory().is_some_and(|name| name != known.name) {
                continue;
            }
            let directory = Directory::connect(&address, Some(&known.directory)).await?;
            if number.directory().is_none_or(|name| directory.info().name.as_deref() == Some(name)) {
                return Ok((known, directory));
            }
        }
        Err(DirectoryError::NoDirectory(number.directory().map(str::to_owned)))
    }

    /// The backup is to have what has changed; if that does not succeed now, it will later.
    async fn keep_up(&self, known: &KnownDirectory) {
        if let Err(error) = self.sync_with(known, Older::Refuse).await {
            tracing::warn!(%error, "the backup is not up to date");
        }
    }

    /// A backup of what is here.
    async fn backup(&self) -> Result<Backup, DirectoryError> {
        let mut backup = self.store.new_backup(&self.key).await?;
        self.store.content().await?.put_into(&mut backup)?;
        let chosen = self.chosen().await?;
        self.put_papers(&mut backup, chosen).await?;
        Ok(backup)
    }

    async fn chosen(&self) -> Result<Vec<BackupChosen>, DirectoryError> {
        let held = self.store.chosen().await?.into_iter();
        Ok(held.map(|held| BackupChosen { cert: held.cert, transfers: held.transfers }).collect())
    }

    async fn put_papers(&self, backup: &mut Backup, chosen: Vec<BackupChosen>) -> Result<(), DirectoryError> {
        backup.chosen = chosen;
        (backup.revoked, backup.mailboxes) = self.store.of_record().await?;
        Ok(())
    }
}

fn in_full(number: &ChosenNumber, directory: &Directory) -> Result<ChosenNumber, DirectoryError> {
    let name = directory.info().name.as_deref();
    let name = name.ok_or_else(|| {
        DirectoryError::refused("chosen_off", "This directory has no chosen numbers.", None)
    })?;
    number.with_directory(name).map_err(|_| StorageError::Number.into())
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
