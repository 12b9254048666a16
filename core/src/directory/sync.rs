//! The backup of an account at its directories: brought up to date there, and taken up here.

use super::account::Unlocked;
use super::client::{Directory, nonces};
use super::session::{Conflict, Session};
use super::{DirectoryAddress, DirectoryError};
use crate::clock::wall_clock;
use crate::storage::{CodeOf, Content, HeldNumber, KnownDirectory, NewNumber, OfferedKey, StorageError};
use offhook_proto::backup::{Backup, BackupChosen, BackupError, SealedBackup};
use offhook_proto::identity::DirectoryId;
use offhook_proto::number::Number;
use offhook_proto::proof::SignedTransfer;
use std::collections::BTreeSet;

/// How often a backup is merged and put again when another terminal was faster.
const TRIES: u32 = 5;

/// What is to be done if a directory has an older backup than there was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Older {
    /// It is not taken: what is missing in it would be lost.
    Refuse,
    /// It is taken, since the directory has lost the newer one.
    Take,
}

/// What became of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    /// Version of the backup that is there.
    pub version: u64,
    /// Something was put there.
    pub is_new: bool,
    /// What came of it here.
    pub heard: Heard,
}

/// What has changed here while a backup was brought up to date.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// Something of another terminal's came from there.
    pub has_taken: bool,
    /// The account's records were signed anew: a terminal that runs has to publish them.
    pub has_signed: bool,
    /// Other keys than the ones that count, about which the user has to be asked.
    pub offered: Vec<OfferedKey>,
}

impl Heard {
    /// Whether a terminal that runs has to take something up.
    #[must_use]
    pub fn is_news(&self) -> bool {
        self.has_taken || self.has_signed
    }
}

impl Unlocked {
    /// Brings the backup at every directory up to date, and what other terminals have put there here.
    ///
    /// # Errors
    /// The first [`DirectoryError`]; the others are tried all the same.
    pub async fn sync(&self, older: Older) -> Result<Vec<(String, Synced)>, DirectoryError> {
        let done = self.sync_each(older).await?.into_iter();
        let (mut synced, mut failed) = (Vec::new(), None);
        for (name, result) in done {
            match result {
                Ok(done) => synced.push((name, done)),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(synced), Err)
    }

    /// The same, and what came of it at each directory.
    ///
    /// # Errors
    /// [`StorageError`] if it is not known which there are.
    pub async fn sync_each(
        &self,
        older: Older,
    ) -> Result<Vec<(String, Result<Synced, DirectoryError>)>, StorageError> {
        let (mut done, mut met) = (Vec::new(), BTreeSet::new());
        // One may tell of others, with which the account is since another terminal has signed it up there.
        while let Some(known) = self.unmet(&met).await? {
            met.insert(known.directory);
            let synced = self.sync_with(&known, older, &mut Heard::default()).await;
            done.push((known.name, synced));
        }
        // One that was left by another terminal, as a later one has told, has refused for that reason.
        let left = self.store.directories().await?;
        done.retain(|(name, result)| result.is_ok() || left.iter().any(|known| known.name == *name));
        Ok(done)
    }

    async fn unmet(&self, met: &BTreeSet<DirectoryId>) -> Result<Option<KnownDirectory>, StorageError> {
        Ok(self.store.directories().await?.into_iter().find(|known| !met.contains(&known.directory)))
    }

    /// The same at one directory.
    pub(super) async fn sync_with(
        &self,
        known: &KnownDirectory,
        older: Older,
        heard: &mut Heard,
    ) -> Result<Synced, DirectoryError> {
        let _lock = self.store.sync_lock().await?;
        let mut known = self.newest(known).await?;
        let mut session = self.enter(&known).await?;
        if older == Older::Take
            && let Err(DirectoryError::RolledBack { found, .. }) = session.backup(known.version)
        {
            // Of another history than what was seen: what is missing there was not removed, and where the two differ, what is here counts.
            known = KnownDirectory { version: found, base: Content::default(), seen: None, ..known };
        }
        let synced = self.sync_in(&known, &mut session, heard).await;
        session.log_out().await;
        synced
    }

    /// What is remembered of a directory by now: another program may have been there.
    pub(super) async fn newest(&self, known: &KnownDirectory) -> Result<KnownDirectory, DirectoryError> {
        let found = self.store.directories().await?.into_iter().find(|newest| newest.name == known.name);
        found.ok_or_else(|| DirectoryError::NoDirectory(Some(known.name.clone())))
    }

    pub(super) async fn enter(&self, known: &KnownDirectory) -> Result<Session, DirectoryError> {
        let address = DirectoryAddress::kept(&known.name, &known.url)?;
        Directory::connect(&address, Some(&known.directory)).await?.recover(&self.key).await
    }

    /// Renews certificates, merges, and puts what has changed. What was heard of other terminals is heard whatever becomes of the rest.
    pub(super) async fn sync_in(
        &self,
        known: &KnownDirectory,
        session: &mut Session,
        heard: &mut Heard,
    ) -> Result<Synced, DirectoryError> {
        let mut known = self.called_there(known, session).await?;
        self.take_certificates(&known, session).await?;
        for _ in 0..TRIES {
            let sealed = session.backup(known.version)?;
            let backup = sealed.open_as_owner(&self.key)?;
            let before = backup.digest()?;
            known = self.take_up(known, (sealed.version(), &backup), heard).await?;
            let backed_up = wall_clock();
            let backup = self.filled(&known, backup, heard).await?;
            let (backup, next) = match self.next(backup, before, &sealed) {
                Err(BackupError::TooLarge(_)) => return self.is_too_large(known).await,
                next => next?,
            };
            if let Some(next) = &next
                && session.put_backup(&self.key, next).await? == Err(Conflict)
            {
                session.fetch_backup().await?;
                continue;
            }
            let version = next.as_ref().map_or(sealed.version(), SealedBackup::version);
            // Of what was written, not of what is here: the two differ if something changes meanwhile, or has no room.
            let (base, seen) = (Content::of(&backup), Some(backup.digest()?));
            known = KnownDirectory { version, base, seen, backed_up, is_too_large: false, ..known };
            self.store.put_directory(&known).await?;
            heard.has_signed |= self.store.update_record(&self.key, &[]).await?;
            return Ok(Synced { version, is_new: next.is_some(), heard: heard.clone() });
        }
        Err(DirectoryError::Conflict)
    }

    /// What is remembered of a directory, with the ID that the account has there by now.
    async fn called_there(
        &self,
        known: &KnownDirectory,
        session: &Session,
    ) -> Result<KnownDirectory, DirectoryError> {
        let called = KnownDirectory { id: session.id()?, ..known.clone() };
        if called.id != known.id {
            self.store.put_directory(&called).await?;
        }
        Ok(called)
    }

    /// Takes up what other terminals have put there since it was seen.
    async fn take_up(
        &self,
        known: KnownDirectory,
        (version, backup): (u64, &Backup),
        heard: &mut Heard,
    ) -> Result<KnownDirectory, DirectoryError> {
        let (there, digest) = (Content::of(backup), backup.digest()?);
        if known.seen == Some(digest) {
            return Ok(known);
        }
        // A version is no lineage: a directory that was put back from a copy has other ones by the same numbers.
        let descends = known.seen.is_some_and(|seen| backup.predecessors.contains(&seen));
        let base = if descends { known.base } else { Content::default() };
        let known = KnownDirectory { version, base: there, seen: Some(digest), ..known };
        let taken = self.store.merge_content(&base, &known).await?;
        heard.has_taken |= taken.is_news;
        heard.offered.extend(taken.offered);
        Ok(known)
    }

    /// The backup with what is here. As it can be kept here: a name that somebody else has, say, is another one then.
    async fn filled(
        &self,
        known: &KnownDirectory,
        mut backup: Backup,
        heard: &mut Heard,
    ) -> Result<Backup, DirectoryError> {
        // A terminal that was revoked elsewhere must not come back with the next record of this one.
        heard.has_signed |= self.store.update_record(&self.key, &backup.revoked).await?;
        self.store.content_at(known).await?.put_into(&mut backup)?;
        self.put_papers(&mut backup).await?;
        Ok(backup)
    }

    /// The backup, sealed as the one that follows; not sealed if it is the same as the one of this digest.
    fn next(
        &self,
        mut backup: Backup,
        before: [u8; 32],
        there: &SealedBackup,
    ) -> Result<(Backup, Option<SealedBackup>), BackupError> {
        if backup.digest()? == before {
            return Ok((backup, None));
        }
        backup.follow(before);
        let version = there.version().saturating_add(1);
        let next = backup.seal(&there.key_as_owner(&self.key)?, version, &nonces())?;
        Ok((backup, Some(next)))
    }

    /// What is there stays as it is, and the user is told.
    async fn is_too_large(&self, known: KnownDirectory) -> Result<Synced, DirectoryError> {
        let name = known.name.clone();
        self.store.put_directory(&KnownDirectory { is_too_large: true, ..known }).await?;
        Err(DirectoryError::TooLarge(name))
    }

    /// What the directory certifies is the account's, and what it does not certify any more is not; what is due is renewed.
    async fn take_certificates(
        &self,
        known: &KnownDirectory,
        session: &Session,
    ) -> Result<(), DirectoryError> {
        let now = wall_clock();
        let held = self.store.chosen().await?;
        let backup = session.backup(0)?.open_as_owner(&self.key)?;
        let mut certified = Vec::new();
        for mut cert in session.certificates() {
            // One that has run out is renewed: the number is the account's until the directory says otherwise.
            let Ok(said) = cert.verify_held(now) else { continue };
            if said.directory != known.directory || said.identity != self.key.public() {
                return Err(DirectoryError::Certificate);
            }
            let Number::Chosen(chosen) = &said.number else { return Err(DirectoryError::Certificate) };
            // Its key counts for the name by which it was met, and for no other.
            if chosen.directory() != Some(known.name.as_str()) {
                tracing::warn!("a directory certifies a number under a name that it has not proven");
                continue;
            }
            if said.renewal_due(now) {
                cert = session.renew(&self.key, chosen).await?;
            }
            let before = held.iter().find(|held| held.number == said.number);
            let transfers = self.way_here(&said.number, before, &backup).await?;
            if before.is_none_or(|held| held.cert != cert || held.transfers != transfers) {
                self.store.put_chosen(&self.key, NewNumber { cert, transfers }).await?;
            }
            // How it has come here is kept with the number from now on.
            self.store.remove_code(&said.number, CodeOf::Taken).await?;
            certified.push(said.number);
        }
        for held in held.iter().filter(|held| !certified.contains(&held.number)) {
            let is_theirs = held.certified(now).is_ok_and(|cert| cert.directory == known.directory);
            if is_theirs {
                self.store.remove_chosen(&held.number).await?;
            }
        }
        Ok(())
    }

    /// How a number has come to the account, by whoever knows most: this terminal, the backup, or a claim whose answer was lost.
    async fn way_here(
        &self,
        number: &Number,
        held: Option<&HeldNumber>,
        backup: &Backup,
    ) -> Result<Vec<SignedTransfer>, DirectoryError> {
        let here = held.map(|held| held.transfers.clone()).unwrap_or_default();
        let there = in_backup(backup, number).map(|kept| kept.transfers.clone()).unwrap_or_default();
        let claimed = self.store.code(number, CodeOf::Taken).await?;
        Ok([there, claimed].into_iter().fold(here, longer))
    }

    /// Chosen numbers, revoked terminals and mailboxes as they are here. How a number has come here is never forgotten for less.
    pub(super) async fn put_papers(&self, backup: &mut Backup) -> Result<(), DirectoryError> {
        let held = self.store.chosen().await?;
        let chosen = held.into_iter().map(|held| {
            let there = in_backup(backup, &held.number).map(|kept| kept.transfers.clone());
            BackupChosen { cert: held.cert, transfers: longer(held.transfers, there.unwrap_or_default()) }
        });
        backup.chosen = chosen.collect();
        let (revoked, mailboxes) = self.store.of_record().await?;
        // Their order says nothing that is worth a new version.
        let is_same = revoked.len() == backup.revoked.len()
            && revoked.iter().all(|terminal| backup.revoked.contains(terminal));
        if !is_same {
            backup.revoked = revoked;
        }
        backup.mailboxes = mailboxes;
        Ok(())
    }
}

fn in_backup<'b>(backup: &'b Backup, number: &Number) -> Option<&'b BackupChosen> {
    let now = wall_clock();
    backup.chosen.iter().find(|kept| kept.cert.verify_held(now).is_ok_and(|cert| cert.number == *number))
}

fn longer(a: Vec<SignedTransfer>, b: Vec<SignedTransfer>) -> Vec<SignedTransfer> {
    if b.len() > a.len() { b } else { a }
}
