//! Backups: what ID and password give back on any terminal.
//!
//! A [`Backup`] is sealed where the user sits, under a key that only ID and password give (OPAQUE's export key, RFC 9807 section 2.2).
//! Directories keep it and see bytes and a version: [`SealedBackup`]. Who owns the identity key may open it, too, so that
//! the [recovery words](RecoveryWords), which are that key, give everything back when the password is forgotten.
//!
//! The version is bound into the seal, and the newest one is in the account record: a directory cannot hand out an old backup unnoticed.

mod content;
mod seal;
mod words;

pub use content::{Backup, BackupChosen, BackupContact, BackupDirectory, BackupPin};
pub use seal::{BackupKey, Nonces, SealedBackup};
pub use words::{MAX_WORDS_BYTES, RECOVERY_WORDS, RecoveryWords, WordsError};

use thiserror::Error;

/// Most bytes of a sealed backup. A thousand contacts, each with a pinned key, take about 100 KiB.
pub const MAX_BACKUP_BYTES: usize = 256 * 1024;
/// Most contacts in a backup.
pub const MAX_CONTACTS: usize = 4_096;
/// Most bytes of a contact's name: 64 characters of four bytes.
pub const MAX_CONTACT_NAME_BYTES: usize = 256;
/// Most pinned keys in a backup.
pub const MAX_PINS: usize = 4_096;
/// Most settings in a backup.
pub const MAX_SETTINGS: usize = 256;
/// Most bytes of a setting's name.
pub const MAX_SETTING_NAME_BYTES: usize = 64;
/// Most bytes of a setting.
pub const MAX_SETTING_BYTES: usize = 64 * 1024;
/// Most directories in a backup: more than a user may sign up at, so that none gets lost when two terminals have done so at once.
pub const MAX_DIRECTORIES: usize = 8;
/// Most bytes of a directory's name, and of its site's address: `https://`, a DNS name and a port.
pub const MAX_DIRECTORY_BYTES: usize = 272;
/// Most predecessors that a backup names: who has been away for longer merges without knowing what was removed meanwhile.
pub const MAX_PREDECESSORS: usize = 128;
/// Most fields of later versions that are kept for those.
pub const MAX_UNKNOWN_FIELDS: usize = 64;

/// Why a backup cannot be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BackupError {
    /// It would be longer than [`MAX_BACKUP_BYTES`], or is.
    #[error("backup of {0} bytes")]
    TooLarge(usize),
    /// A list in it, or a part of one, is longer than permitted.
    #[error("backup with too many or too long entries")]
    TooManyEntries,
    /// It cannot be decoded.
    #[error("malformed backup")]
    Malformed,
    /// Sealed in a way that came later than this program.
    #[error("backup of a later format: this program is too old for it")]
    Format,
    /// Another key has sealed it, it is of another identity, or it was changed.
    #[error("backup that this key does not open")]
    Sealed,
    /// Older than the newest one that is known.
    #[error("backup of version {found}, but there is a version {known}")]
    RolledBack {
        /// The newest version that is known.
        known: u64,
        /// The one that came.
        found: u64,
    },
}

/// For the fuzz target.
#[doc(hidden)]
pub mod fuzz {
    use super::Backup;

    /// What a backup's content reads as, written again; `None` if it is refused, or too long.
    #[must_use]
    pub fn rewritten(plain: &[u8]) -> Option<Vec<u8>> {
        Backup::from_plain(plain).and_then(|backup| backup.to_plain()).ok().map(|plain| plain.to_vec())
    }
}

#[cfg(test)]
mod tests;
