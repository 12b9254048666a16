use crate::api::{ApiError, ErrorCode};
use std::path::{Path, PathBuf};

/// Why something could not be kept or found. The text is for the user.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The account ID breaks a rule.
    #[error("This account ID can't be used: {0}.")]
    BadId(&'static str),
    /// The password breaks a rule.
    #[error("This password can't be used: {0}.")]
    BadPassword(&'static str),
    /// The contact's name breaks a rule.
    #[error("This contact name can't be used: {0}.")]
    BadContactName(&'static str),
    /// An account with this ID is there already.
    #[error("There is already an account \"{0}\" here.")]
    AccountExists(String),
    /// No account has this ID.
    #[error("There is no account \"{0}\" here. `offhook account list` shows which there are.")]
    NoAccount(String),
    /// No account is chosen, or there is none at all.
    #[error(
        "No account is chosen. Make one with `offhook account new ID` or choose with `offhook account use ID`."
    )]
    NoCurrentAccount,
    /// The password does not open the account.
    #[error("The password is wrong.")]
    WrongPassword,
    /// Another program has the account open.
    #[error("The account \"{0}\" is in use by another program.")]
    InUse(String),
    /// The other contact has this name already.
    #[error("Another contact is already called \"{0}\".")]
    ContactExists(String),
    /// No contact has this number or name.
    #[error("There is no such contact.")]
    NoContact,
    /// There is no changed key to confirm.
    #[error("No changed key is waiting to be confirmed for this number.")]
    NothingToConfirm,
    /// Another key than the sender's is pinned to the number.
    #[error("Another key is known for this number.")]
    OtherKey,
    /// The certificate of a chosen number is no good, or somebody else's.
    #[error("The chosen number's certificate is no good here.")]
    Number,
    /// The file cannot be heard.
    #[error("This sound can't be used: {0}.")]
    Ringtone(#[from] crate::audio::AudioError),
    /// The value is longer than the store takes.
    #[error("{0} is too large to keep.")]
    TooLarge(&'static str),
    /// It is done, but what it has replaced is still in the log of the account's file.
    #[error(
        "It is done. But another program reads the account just now, so that what was there before may still be found in its files: \
         end it, and give the same command once more."
    )]
    LogInUse,
    /// The file was written by a newer version of this program.
    #[error("The account was written by a newer version of Offhook; update this one.")]
    NewerVersion,
    /// A stored value can't be read back.
    #[error("The account's file is damaged ({0} can't be read).")]
    Damaged(&'static str),
    /// A file or directory can't be read or written.
    #[error("{path} can't be used: {source}.", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The database refuses.
    #[error("The account's database can't be used: {0}.")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Another part of the program failed underneath; a bug.
    #[error("Internal error: {0}.")]
    Internal(&'static str),
}

impl StorageError {
    /// For `map_err` on file operations.
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    /// The code that programs see.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::BadId(_)
            | Self::BadPassword(_)
            | Self::BadContactName(_)
            | Self::ContactExists(_)
            | Self::Ringtone(_) => ErrorCode::BadInput,
            Self::AccountExists(_) => ErrorCode::AccountExists,
            Self::NoAccount(_) | Self::NoCurrentAccount => ErrorCode::NoAccount,
            Self::WrongPassword => ErrorCode::WrongPassword,
            Self::NoContact => ErrorCode::NoContact,
            Self::NothingToConfirm => ErrorCode::NothingToConfirm,
            Self::OtherKey => ErrorCode::KeyChanged,
            Self::Number => ErrorCode::Certificate,
            Self::InUse(_) | Self::LogInUse => ErrorCode::InUse,
            Self::TooLarge(_)
            | Self::NewerVersion
            | Self::Damaged(_)
            | Self::Io { .. }
            | Self::Database(_) => ErrorCode::Storage,
            Self::Internal(_) => ErrorCode::Internal,
        }
    }

    /// Code and sentence.
    pub fn to_api(&self) -> ApiError {
        ApiError::new(self.code(), self.to_string())
    }
}

impl From<sqlx::Error> for StorageError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(Box::new(error))
    }
}
