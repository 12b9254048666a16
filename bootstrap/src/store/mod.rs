//! What a directory keeps of those who signed up: accounts, their backups and sessions, chosen numbers and the list of them,
//! how often somebody tried something, what is left for them in their mailboxes, and what the operator did.
//!
//! ```text
//! database    SQLite's file by default; PostgreSQL's by its URL, for several processes of one directory
//! blobs       backups and letters: a folder by default, an S3-compatible store by its URL
//! ```
//!
//! What has been acknowledged is on disk. Nothing of it opens a password or a backup: a password file (RFC 9807) cannot be
//! tried without the secret in `opaque.key`, which is not in the database, and a backup is encrypted where the user sits.
//! Times are told by whoever asks, so that tests need not wait.

mod accounts;
mod attempts;
mod audit;
mod backups;
mod blobs;
mod copy;
mod db;
mod error;
mod list;
mod mailbox;
mod numbers;
mod place;
mod processes;
mod quotas;
mod reserved;
mod sessions;
mod watched;

use std::sync::Arc;
use std::time::Duration;

use offhook_proto::wire::UnixMillis;

pub use accounts::{Account, MAX_PAGE, NewAccount, NewCredentials, PasswordFile};
pub use attempts::{Limit, Memory, Subject};
pub use audit::{AuditEntry, MAX_AUDIT_TEXT};
pub use backups::{Backup, MAX_BACKUP};
pub use error::{Refused, StoreError};
pub use list::{Append, Appended, ListHead, MAX_LIST_PAGE, Tail};
pub use mailbox::{ACCOUNT_IDLE, Entrant, GUEST_IDLE, Heard, Kept, Mail, MailError, MailLimits};
pub use numbers::{HeldNumber, Issue, MAX_NUMBERS};
pub use place::{BlobPlace, DatabasePlace, SecretUrl};
pub use processes::{MAX_PROCESS_NODES, MAX_PROCESSES};
pub use quotas::Quota;
pub use reserved::ReservedWord;
pub use sessions::{MAX_SESSIONS, NewSession, Session, TokenHash};

use blobs::Blobs;
use db::Db;
use watched::Hits;

/// A blob that no account points to is erased when it is so old. Younger ones may be about to be pointed to.
pub const ORPHAN_AGE: Duration = Duration::from_secs(3_600);

/// What is over is erased so many rows at a time: other changes wait for no more than that.
const SWEPT_AT_ONCE: i64 = 500;

/// An open store. Clones are handles of one.
#[derive(Clone, Debug)]
pub struct Store {
    db: Db,
    blobs: Blobs,
    hits: Arc<Hits>,
}

/// What the database knows of the directory itself; whoever opens it later must be the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The public half of the signing key.
    SigningKey,
    /// A hash of what passwords are checked with.
    OpaqueKey,
    /// The DNS name, which is part of every number.
    Name,
}

impl Fact {
    const fn name(self) -> &'static str {
        match self {
            Self::SigningKey => "signing key",
            Self::OpaqueKey => "opaque.key",
            Self::Name => "name",
        }
    }
}

impl Store {
    /// Opens a store and makes what is missing of it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open(database: &DatabasePlace, blobs: &BlobPlace) -> Result<Self, StoreError> {
        let blobs = Blobs::open(blobs)?;
        Ok(Self { db: Db::open(database).await?, blobs, hits: Arc::default() })
    }

    /// Whether the database is this directory's; a new one becomes so. Processes of one directory that have different keys
    /// would give one another's users no service.
    ///
    /// # Errors
    /// [`StoreError::Foreign`] if it is another's.
    pub async fn belongs_to(&self, fact: Fact, value: &[u8]) -> Result<(), StoreError> {
        let (name, value) = (fact.name(), value.to_vec());
        let known: Vec<u8> = {
            let value = value.clone();
            self.db
                .write(move |connection| {
                    Box::pin(async move {
                        sqlx::query("INSERT INTO facts (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                            .bind(name)
                            .bind(value)
                            .execute(&mut *connection)
                            .await?;
                        let known = sqlx::query_scalar("SELECT value FROM facts WHERE name = $1");
                        Ok(known.bind(name).fetch_one(&mut *connection).await?)
                    })
                })
                .await?
        };
        if known == value { Ok(()) } else { Err(StoreError::Foreign(name)) }
    }

    /// What the database says of the directory.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn fact(&self, fact: Fact) -> Result<Option<Vec<u8>>, StoreError> {
        let value = sqlx::query_scalar("SELECT value FROM facts WHERE name = $1").bind(fact.name());
        Ok(value.fetch_optional(self.db.pool()).await?)
    }

    /// Whether it is in a file, which this program copies.
    pub fn is_file(&self) -> bool {
        self.db.path().is_some()
    }

    /// Erases what nobody needs any more: sessions and attempts whose time is over, and blobs that were left behind when a
    /// process was killed. To be done at the start, and again and again.
    ///
    /// # Errors
    /// The first [`StoreError`]; the other parts are done all the same.
    pub async fn sweep(&self, now: UnixMillis) -> Result<(), StoreError> {
        let before = u64::try_from(ORPHAN_AGE.as_millis()).unwrap_or(u64::MAX);
        let before = UnixMillis(now.0.saturating_sub(before));
        let parts = [
            self.sweep_sessions(now).await,
            self.sweep_attempts(now).await,
            self.sweep_blobs(now, before).await.map(|_| ()),
            self.blobs.sweep_staged(before).await,
        ];
        parts.into_iter().collect()
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// [`StoreError`] if it does not.
    pub async fn check(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").fetch_one(self.db.pool()).await?;
        Ok(())
    }

    /// Ends all connections.
    pub async fn close(&self) {
        self.db.close().await;
    }
}
