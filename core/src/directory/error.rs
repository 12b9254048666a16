//! Why something at a directory did not succeed.

use crate::api::{ApiError, ErrorCode};
use crate::storage::StorageError;
use offhook_proto::backup::{BackupError, MAX_BACKUP_BYTES};
use offhook_proto::opaque::OpaqueError;
use std::time::Duration;
use thiserror::Error;

/// Longest sentence of a directory's that is shown, characters.
const MAX_SENTENCE: usize = 300;

/// The words by which a directory's API refuses (`bootstrap/src/web/error.rs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Too often; later.
    TooMany,
    /// ID or password.
    WrongCredentials,
    /// The session is over.
    NoSession,
    /// It takes a log-in of just now.
    LoginAgain,
    /// The ID is none.
    IdInvalid,
    /// Somebody has the ID.
    IdTaken,
    /// It takes no new accounts.
    SignUpClosed,
    /// It has as many accounts as it can take.
    DirectoryFull,
    /// Its operator has closed the account.
    AccountClosed,
    /// The identity has an account there.
    IdentityTaken,
    /// The backup does not follow the one that is there.
    Version,
    /// What was asked for is not there.
    NotFound,
    /// The clocks differ.
    Clock,
    /// It was done before.
    Replayed,
    /// The number is somebody's.
    NumberTaken,
    /// The number looks like somebody's.
    LookAlike,
    /// Nobody gets the number.
    NumberInvalid,
    /// Nobody but the operator gets the number.
    Reserved,
    /// As many numbers as one may have.
    TooManyNumbers,
    /// It has no chosen numbers.
    ChosenOff,
    /// A transfer that is too old.
    Untimely,
    /// Its own trouble.
    Unavailable,
    /// Another word, or one that tells of a mistake of this program's.
    Other,
}

impl Refusal {
    pub(super) fn of(word: &str) -> Self {
        match word {
            "too_many" => Self::TooMany,
            "wrong_credentials" => Self::WrongCredentials,
            "no_session" => Self::NoSession,
            "login_again" => Self::LoginAgain,
            "id_invalid" => Self::IdInvalid,
            "id_taken" => Self::IdTaken,
            "signup_closed" => Self::SignUpClosed,
            "directory_full" => Self::DirectoryFull,
            "account_closed" => Self::AccountClosed,
            "identity_taken" => Self::IdentityTaken,
            "version" => Self::Version,
            "not_found" => Self::NotFound,
            "clock" => Self::Clock,
            "replayed" => Self::Replayed,
            "number_taken" => Self::NumberTaken,
            "look_alike" => Self::LookAlike,
            "number_invalid" => Self::NumberInvalid,
            "reserved" => Self::Reserved,
            "too_many_numbers" => Self::TooManyNumbers,
            "chosen_off" => Self::ChosenOff,
            "untimely" => Self::Untimely,
            "unavailable" | "too_slow" => Self::Unavailable,
            _ => Self::Other,
        }
    }

    fn code(self) -> ErrorCode {
        match self {
            Self::TooMany => ErrorCode::Busy,
            Self::WrongCredentials => ErrorCode::WrongPassword,
            Self::IdTaken | Self::IdentityTaken => ErrorCode::AccountExists,
            Self::IdInvalid | Self::NumberInvalid | Self::Reserved | Self::LookAlike => ErrorCode::BadInput,
            Self::NumberTaken => ErrorCode::NumberTaken,
            Self::NotFound => ErrorCode::NoAccount,
            Self::TooManyNumbers | Self::DirectoryFull => ErrorCode::Full,
            Self::NoSession
            | Self::LoginAgain
            | Self::SignUpClosed
            | Self::AccountClosed
            | Self::Version
            | Self::Clock
            | Self::Replayed
            | Self::ChosenOff
            | Self::Untimely
            | Self::Unavailable
            | Self::Other => ErrorCode::Network,
        }
    }
}

/// Why something at a directory did not succeed. The text is for the user.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// No account's or directory's address.
    #[error("\"{0}\" is no account at a directory: ID@NAME, such as ada@example.org")]
    Address(String),
    /// The account keeps no backup at a directory of that name.
    #[error("The account has no directory{}.", .0.as_ref().map(|name| format!(" {name}")).unwrap_or_default())]
    NoDirectory(Option<String>),
    /// It cannot be reached, or breaks off.
    #[error("The directory {name} can't be reached: {reason}.")]
    Unreachable {
        /// The directory.
        name: String,
        /// What happened.
        reason: String,
    },
    /// What it answers is not what a directory answers.
    #[error("The directory {name} gives an answer that is none ({what}).")]
    Answer {
        /// The directory.
        name: String,
        /// What about it.
        what: &'static str,
    },
    /// It is another one than the one of that name before.
    #[error("{0} is another directory than it was: its key has changed. Nothing was sent to it.")]
    OtherDirectory(String),
    /// It refuses.
    #[error("{message}")]
    Refused {
        /// Why.
        refusal: Refusal,
        /// The same as a sentence, by the directory.
        message: String,
        /// When it may be tried again.
        retry: Option<Duration>,
    },
    /// Its backup is older than one that was there.
    #[error(
        "The directory {name} has only version {found} of the backup, but there was a version {known}: it has lost or withheld the newer one."
    )]
    RolledBack {
        /// The directory.
        name: String,
        /// The newest version that is known.
        known: u64,
        /// The one that it has.
        found: u64,
    },
    /// Other terminals change the backup without end.
    #[error("Another terminal of this account keeps changing the backup. Try again later.")]
    Conflict,
    /// There is more to keep than a backup has room for.
    #[error(
        "The backup at {0} stays as it is: with what is new here it would be larger than {max} KiB. Remove contacts that are not needed \
         any more.", max = MAX_BACKUP_BYTES / 1024
    )]
    TooLarge(String),
    /// The backup can't be opened or sealed.
    #[error("The backup can't be used: {0}.")]
    Backup(#[from] BackupError),
    /// The certificate that it has issued is no good.
    #[error("The directory has issued a certificate that is no good.")]
    Certificate,
    /// Part of it was done.
    #[error("{done}, but {error} {how}")]
    Partly {
        /// What was done.
        done: String,
        /// Why the rest was not.
        error: Box<DirectoryError>,
        /// How to go on.
        how: String,
    },
    /// Something here cannot be kept or read.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl DirectoryError {
    /// What it refuses with, in its own words as far as they can be shown.
    pub(super) fn refused(word: &str, message: &str, retry: Option<u64>) -> Self {
        let message: String = message.chars().filter(|c| !c.is_control()).take(MAX_SENTENCE).collect();
        let message = if message.is_empty() { format!("The directory refuses ({word}).") } else { message };
        Self::Refused { refusal: Refusal::of(word), message, retry: retry.map(Duration::from_secs) }
    }

    /// Why the directory refuses, if it does.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        if let Self::Refused { refusal, .. } = self { Some(*refusal) } else { None }
    }

    /// How long the directory wants to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        if let Self::Refused { retry, .. } = self { *retry } else { None }
    }

    /// The code that programs see.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Address(_) | Self::NoDirectory(_) => ErrorCode::BadInput,
            Self::Unreachable { .. } => ErrorCode::Offline,
            Self::Refused { refusal, .. } => refusal.code(),
            Self::OtherDirectory(_) => ErrorCode::KeyChanged,
            Self::Certificate => ErrorCode::Certificate,
            Self::TooLarge(_) => ErrorCode::Full,
            Self::Answer { .. } | Self::RolledBack { .. } | Self::Conflict | Self::Backup(_) => {
                ErrorCode::Network
            }
            Self::Partly { error, .. } => error.code(),
            Self::Storage(error) => error.code(),
        }
    }

    /// Code and sentence.
    #[must_use]
    pub fn to_api(&self) -> ApiError {
        ApiError::new(self.code(), self.to_string())
    }

    /// Wrong ID or password, said in the same words wherever it is seen.
    pub(super) fn wrong_credentials() -> Self {
        Self::refused("wrong_credentials", "ID or password is wrong.", None)
    }

    pub(super) fn opaque(name: &str, error: OpaqueError) -> Self {
        match error {
            OpaqueError::WrongPassword => Self::wrong_credentials(),
            OpaqueError::Malformed => Self::Answer { name: name.to_owned(), what: "OPAQUE" },
            OpaqueError::Hash => Self::Storage(StorageError::Internal("the password could not be hashed")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_s_words_are_understood_and_its_sentences_cannot_fill_the_screen() {
        let error = DirectoryError::refused("too_many", &"x\u{1b}[2J".repeat(1_000), Some(7));
        assert_eq!(error.refusal(), Some(Refusal::TooMany));
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
        let sentence = error.to_string();
        assert!(sentence.chars().count() <= MAX_SENTENCE && !sentence.contains('\u{1b}'), "{sentence}");
        assert_eq!(DirectoryError::refused("id_taken", "", None).code(), ErrorCode::AccountExists);
        let closed = DirectoryError::refused("account_closed", "", None);
        assert_eq!((closed.refusal(), closed.code()), (Some(Refusal::AccountClosed), ErrorCode::Network));
        let full = DirectoryError::refused("directory_full", "", None);
        assert_eq!((full.refusal(), full.code()), (Some(Refusal::DirectoryFull), ErrorCode::Full));
        assert_eq!(Refusal::of("something later"), Refusal::Other);
    }
}
