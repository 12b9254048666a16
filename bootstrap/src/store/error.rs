//! Why the store does not do something.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

/// What the store does not do because of what it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// Somebody else has signed up with this ID.
    #[error("that ID is taken")]
    IdTaken,
    /// There is an account of this identity already.
    #[error("this identity has an account already")]
    IdentityTaken,
    /// Nobody has signed up with this identity, or its account has been deleted.
    #[error("there is no such account")]
    NoAccount,
    /// The log-in was begun with another password than the account has now.
    #[error("the password has been changed")]
    PasswordChanged,
    /// The operator has closed the account.
    #[error("the operator has closed this account")]
    Closed,
    /// The operator keeps the word back, or one that looks like it.
    #[error("that word is kept back")]
    Reserved,
    /// A backup must be the stored one's successor.
    #[error("the stored backup has version {stored}; the next one must follow it")]
    Version {
        /// The stored one's version.
        stored: u64,
    },
    /// The number is somebody else's, or still held for whom it was issued to.
    #[error("that number is taken")]
    NumberTaken,
    /// It looks like somebody else's.
    #[error("that number looks like one that is taken")]
    LookAlike,
    /// An account has as many numbers as it may have.
    #[error("an account may have {most} chosen numbers")]
    TooManyNumbers {
        /// How many.
        most: u64,
    },
    /// The number is not the identity's, or it has released it.
    #[error("that number is not this account's")]
    NotYours,
    /// Too many attempts.
    #[error("too many attempts; the next one may be made in {} s", retry_after.as_secs())]
    TooMany {
        /// When the next one may be made.
        retry_after: Duration,
    },
}

/// Why the store does not do something.
#[derive(Clone, Debug, Error)]
pub enum StoreError {
    /// It was asked for something that it must not do. Nothing has changed.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The text is no place of a database.
    #[error(
        "\"{0}\" is no database: name a file for SQLite, or postgres://USER:PASSWORD@HOST/DATABASE for PostgreSQL"
    )]
    NoDatabase(String),
    /// The text is no place for blobs.
    #[error("\"{0}\" is no place for backups: name a folder, or s3://BUCKET/PREFIX")]
    NoBlobPlace(String),
    /// The database does not answer, or not as it should.
    #[error("the database: {0}")]
    Database(Arc<sqlx::Error>),
    /// Its tables cannot be brought to this program's version.
    #[error("the tables of the database: {0}")]
    Migration(Arc<sqlx::migrate::MigrateError>),
    /// Its tables are from a later version of this program.
    #[error("the database was written by a newer version of offhook-directory; please update")]
    NewerVersion,
    /// The database is another directory's.
    #[error("the database belongs to a directory with another {0}")]
    Foreign(&'static str),
    /// A file or folder cannot be read or written.
    #[error("{path}: {error}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The system's error.
        error: Arc<std::io::Error>,
    },
    /// Where the backups are does not answer, or not as it should.
    #[error("the place of the backups: {0}")]
    Blobs(Arc<object_store::Error>),
    /// What was stored is not there any more, or not as it was.
    #[error("{0} in the store is damaged")]
    Damaged(&'static str),
    /// Only a database in a file is copied by this program.
    #[error("a PostgreSQL database is copied and put back by its own tools, pg_dump and pg_restore")]
    OtherTools,
    /// It is being closed.
    #[error("the store is being closed")]
    Closed,
}

impl StoreError {
    /// Why it was refused, if it was.
    pub fn refused(&self) -> Option<Refused> {
        match self {
            Self::Refused(refused) => Some(*refused),
            Self::NoDatabase(_)
            | Self::NoBlobPlace(_)
            | Self::Database(_)
            | Self::Migration(_)
            | Self::NewerVersion
            | Self::Foreign(_)
            | Self::Io { .. }
            | Self::Blobs(_)
            | Self::Damaged(_)
            | Self::OtherTools
            | Self::Closed => None,
        }
    }

    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        |error| Self::Io { path, error: Arc::new(error) }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(Arc::new(error))
    }
}

impl From<object_store::Error> for StoreError {
    fn from(error: object_store::Error) -> Self {
        Self::Blobs(Arc::new(error))
    }
}
