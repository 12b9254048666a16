//! What a terminal keeps on disk: accounts with their keys, pinned keys of others, contacts, cached
//! records, history, messages and settings.
//!
//! ```text
//! HOME/                      0700
//!   current                  directory name of the account in use; replaced by an atomic rename
//!   accounts/                0700
//!     .lock                  held while an account is created, renamed or switched
//!     .new-*                 an account being written; removed when its writer died
//!     .gone-*                an account being wiped; wiped to its end if that was interrupted
//!     FINGERPRINT/           0700, one per account, named after its identity key (an ID can change)
//!       account.db           0600, SQLite: everything below
//!       lock                 held by the program that runs the account
//! ```
//!
//! Every acknowledged write is flushed to disk (`synchronous=FULL`, write-ahead log). An account comes
//! into being by one `rename`, and changes its ID or password in one transaction, so a program killed at
//! any moment leaves the old state or the new one.
//!
//! The identity seed is encrypted under the password ([`seal`]); the terminal's own keys and the mailbox
//! key are not, so that a telephone comes on line after a restart with nobody there to type.

mod account;
mod book;
mod chosen;
mod codes;
mod contacts;
mod content;
mod create;
mod db;
mod directories;
mod directory_book;
mod error;
mod history;
mod home;
mod id;
mod known;
mod letter_book;
mod letters;
mod messages;
mod pins;
mod records;
mod restore;
mod ringtone;
mod screening;
mod seal;
mod settings;
mod voicemails;
mod wipe;

pub use account::AccountStore;
pub use book::ResolveError;
pub use chosen::{HeldNumber, NewNumber};
pub(crate) use codes::CodeOf;
pub use contacts::{Contact, MAX_CONTACT_NAME};
pub use content::{Content, DirectoryAt, OfferedKey, PinnedKey};
pub use create::{NewAccount, mine_number};
pub use directories::{KnownDirectory, MAX_DIRECTORIES};
pub use error::StorageError;
pub use history::{CallEntry, MAX_HISTORY};
pub use home::{AccountSummary, Home};
pub use id::{AccountId, MAX_ID_CHARS};
pub use known::{DirectoryPin, MAX_KNOWN_DIRECTORIES, PinnedDirectory};
pub use letters::OutLetter;
pub(crate) use letters::{SealedFor, Sender};
pub use messages::{MAX_MESSAGES, MessageEntry, MessageState};
pub use pins::{Pin, PinCheck};
pub use records::{MAX_CACHED_RECORDS, MAX_ROUTES};
pub use restore::Unattended;
pub use seal::{MAX_PASSWORD_BYTES, Password};
pub(crate) use voicemails::VoicePart;
pub use voicemails::VoicemailEntry;

#[cfg(test)]
mod tests;
