//! An account that a directory has kept, made this terminal's.

use super::content::{self, Content, Merged};
use super::create::Draft;
use super::{AccountId, AccountSummary, Home, KnownDirectory, NewNumber, Password, StorageError};
use super::{chosen, db, directories};
use offhook_proto::backup::{Backup, BackupChosen};
use offhook_proto::identity::{IdentityKey, TerminalId};
use offhook_proto::number::NodeAddr;
use offhook_proto::record::BackupAt;
use offhook_proto::wire::UnixMillis;
use std::collections::BTreeMap;

/// Whether a terminal keeps the identity key where it can use it without the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unattended {
    /// It renews papers and keeps the backup up by itself. Whoever reads the account's file has the account.
    Yes,
    /// Both take the password.
    No,
}

/// What there is of an account beside its keys and number.
pub(super) struct Restored {
    /// When it was made.
    pub(super) created: UnixMillis,
    /// For the account record.
    pub(super) mailboxes: Vec<NodeAddr>,
    /// For the account record.
    pub(super) revoked: Vec<TerminalId>,
    content: Content,
    chosen: Vec<BackupChosen>,
    pub(super) directory: KnownDirectory,
    unattended: Unattended,
}

impl Restored {
    /// How new the backup is of which the account is made.
    pub(super) fn backup_at(&self, owner: &IdentityKey) -> BackupAt {
        BackupAt::new(owner, &self.directory.directory, self.directory.version)
    }
}

impl Home {
    /// Makes an account of its backup: the same identity, number, contacts and settings, with terminal keys of its own. It is there wholly
    /// or not at all, whenever the program is killed. `id` and `password` are those by which this terminal knows it.
    ///
    /// # Errors
    /// [`StorageError::AccountExists`] if the ID is taken here, or the identity is here under another one; whatever else a new account
    /// may fail of.
    pub async fn restore_account(
        &self,
        id: AccountId,
        password: Password,
        backup: &Backup,
        directory: KnownDirectory,
        unattended: Unattended,
    ) -> Result<AccountSummary, StorageError> {
        let mut draft = Draft::with_number(id, backup.identity.clone(), backup.number, backup.proof);
        draft.mailbox = backup.mailbox.clone();
        draft.restored = Some(Box::new(Restored {
            created: backup.created,
            mailboxes: backup.mailboxes.clone(),
            revoked: backup.revoked.clone(),
            content: Content::of(backup),
            chosen: backup.chosen.clone(),
            directory,
            unattended,
        }));
        self.store(draft, password).await
    }
}

impl Draft {
    /// Writes what the backup has beside keys and number.
    pub(super) async fn insert_restored(
        &self,
        tx: &mut db::Write,
        now: UnixMillis,
    ) -> Result<(), StorageError> {
        let Some(restored) = &self.restored else { return Ok(()) };
        let content = restored.content.clone();
        content::put(tx, &Merged { content, offered: BTreeMap::new() }).await?;
        for kept in &restored.chosen {
            // One that is over, or that the clock here says is, is not worth the account.
            if chosen::check(&kept.cert, &self.identity.public(), now).is_ok() {
                let new = NewNumber { cert: kept.cert.clone(), transfers: kept.transfers.clone() };
                chosen::put(tx, &self.identity, &new, now).await?;
            }
        }
        directories::put(tx, &restored.directory).await?;
        if restored.unattended == Unattended::Yes {
            directories::put_unattended(tx, Some(&self.identity)).await?;
        }
        Ok(())
    }
}
