//! Mailboxes: what is left for those who are not on line.
//!
//! Who may leave what, and what goes when, is decided by the [books](offhook_proto::mailbox::quota), which every process has in memory
//! and which are read from the database at the start. A change goes through one row that whoever makes it holds: first the books hear of
//! what other processes have changed, from a log of the last changes, then the change is made, and written down with its entry in the
//! log, in one transaction. Of one that fails the books are read anew. So the database is the judge, however many processes there are.
//!
//! The file of a letter is written before the row that points to it, and erased after that is gone: a kill at any moment leaves a file too
//! many, at worst, which is swept.

mod books;
mod heard;
mod rows;

use std::sync::Arc;

use offhook_proto::identity::{IdentityId, TerminalId};
use offhook_proto::knock::Network;
use offhook_proto::mailbox::contacts::DepositRules;
use offhook_proto::mailbox::protocol::{Amount, Item, QuotaReport, Refusal};
use offhook_proto::mailbox::quota::{Deposit, QuotaError};
use offhook_proto::mailbox::{BlobId, MailboxId};
use offhook_proto::wire::UnixMillis;
use thiserror::Error;
use tokio::sync::{Mutex, MutexGuard};

use self::books::{Books, Change, Made, Unmade, stored_depositor};
use super::accounts::erase_or_leave;
use super::blobs::MAIL_FOLDER;
use super::{Store, StoreError, db};

pub use self::books::{ACCOUNT_IDLE, GUEST_IDLE, MailLimits};
pub use self::heard::Heard;
pub(super) use self::rows::renew;

/// Why something is not done in a mailbox.
#[derive(Clone, Debug, Error)]
pub enum MailError {
    /// No such mailbox is kept.
    #[error("no such mailbox")]
    NoMailbox,
    /// No more mailboxes are kept, or no more of those who have no account here.
    #[error("no more mailboxes are kept")]
    TooMany,
    /// There is no room for it.
    #[error(transparent)]
    Quota(#[from] QuotaError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl MailError {
    /// What whoever asked is told.
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::NoMailbox => Refusal::NoMailbox,
            Self::TooMany => Refusal::Full,
            Self::Quota(error) => error.refusal(),
            Self::Store(_) => Refusal::Busy,
        }
    }
}

impl From<Unmade> for MailError {
    fn from(unmade: Unmade) -> Self {
        match unmade {
            Unmade::NoMailbox => Self::NoMailbox,
            Unmade::TooMany => Self::TooMany,
            Unmade::Quota(error) => Self::Quota(error),
        }
    }
}

/// A deposit that is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The blob's number in its mailbox.
    pub number: u64,
    /// Whether it was not there before.
    pub is_new: bool,
}

/// A terminal that has entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entrant {
    /// Whose mailbox it is.
    pub identity: IdentityId,
    /// The terminal.
    pub terminal: TerminalId,
    /// Until when it is certified.
    pub until: UnixMillis,
    /// Whether a mailbox is to be opened if there is none.
    pub open: bool,
    /// Where it comes from, if the identity has no account here.
    pub guest: Option<Network>,
}

/// The mailboxes in a store. Clones are handles of one.
#[derive(Clone, Debug)]
pub struct Mail {
    store: Store,
    books: Arc<Mutex<Books>>,
}

impl Store {
    /// The mailboxes, within these limits.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn mail(&self, limits: MailLimits) -> Result<Mail, StoreError> {
        let mail = Mail { store: self.clone(), books: Arc::new(Mutex::new(Books::new(limits))) };
        mail.catch_up().await?;
        Ok(mail)
    }
}

impl Store {
    /// What is in the mailbox of an account; `None` if it has none here.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn mailbox_use(&self, identity: &IdentityId) -> Result<Option<Amount>, StoreError> {
        let mailbox = MailboxId::of(identity).as_bytes().to_vec();
        let row: Option<(i64, i64)> = sqlx::query_as(
            "SELECT CAST(COALESCE(SUM(b.size), 0) AS BIGINT), COUNT(b.id) FROM mailboxes m \
             LEFT JOIN mail_blobs b ON b.mailbox = m.mailbox WHERE m.mailbox = $1 GROUP BY m.mailbox",
        )
        .bind(mailbox)
        .fetch_optional(self.db.pool())
        .await?;
        Ok(row.map(|(bytes, count)| Amount { bytes: db::uint(bytes), count: db::uint(count) }))
    }
}

impl Mail {
    /// Brings the books up to what other processes have changed. Whoever changes something does so first anyhow.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn catch_up(&self) -> Result<(), StoreError> {
        let tail: (i64, Vec<u8>) = sqlx::query_as("SELECT length, mark FROM mail_tail WHERE one = 1")
            .fetch_one(self.store.db.pool())
            .await?;
        let known = self.books.lock().await;
        let is_known = (known.position, &known.mark) == (tail.0, &tail.1);
        drop(known);
        if is_known {
            return Ok(());
        }
        let books = Arc::clone(&self.books);
        let change = self.store.db.write_lightly(move |connection| {
            Box::pin(async move {
                let mut books = books.lock_owned().await;
                let tail = rows::hold(connection).await?;
                rows::catch_up(connection, &mut books, &tail).await
            })
        });
        change.await
    }

    /// The books, as they are everywhere.
    async fn current(&self) -> Result<MutexGuard<'_, Books>, StoreError> {
        // Nobody else changes SQLite's file but an operator's command, which can wait for a round.
        if self.store.is_shared() {
            self.catch_up().await?;
        }
        Ok(self.books.lock().await)
    }

    /// Lets a terminal in; number of the newest blob that ever came.
    ///
    /// # Errors
    /// [`MailError`].
    pub async fn enter(&self, entrant: &Entrant, now: UnixMillis) -> Result<u64, MailError> {
        let Entrant { identity, terminal, until, open, guest } = *entrant;
        let change = Change::Enter { identity, terminal, until, open, network: guest, at: now };
        self.make(change, String::new(), now).await?;
        self.books.lock().await.ledger.newest(&MailboxId::of(&identity)).ok_or(MailError::NoMailbox)
    }

    /// Keeps a blob, which is [named](BlobId::of) in the deposit. It is on disk when this returns.
    ///
    /// # Errors
    /// [`MailError`].
    pub async fn deposit(
        &self,
        deposit: &Deposit,
        blob: Vec<u8>,
        now: UnixMillis,
    ) -> Result<Kept, MailError> {
        let Deposit { mailbox, id, size, ref by, days } = *deposit;
        {
            let books = self.current().await?;
            if let Some(held) = books.ledger.get(&mailbox, &id) {
                return Ok(Kept { number: held.number, is_new: false });
            }
            if !books.owners.contains_key(&mailbox) {
                return Err(MailError::NoMailbox);
            }
        }
        let name = rows::new_name(MAIL_FOLDER, &mailbox);
        self.store.blobs.put(&name, blob).await?;
        let change = Change::Deposit { mailbox, id, size, by: stored_depositor(by), days, at: now };
        let made = self.make(change, name.clone(), now).await;
        let admitted = match made {
            Ok(made) => made.admitted.ok_or(MailError::NoMailbox),
            // Whether it was written is not known; if it was not, the file is swept later.
            Err(MailError::Store(error)) => return Err(error.into()),
            Err(error) => Err(error),
        };
        if !admitted.as_ref().is_ok_and(|admitted| admitted.is_new) {
            erase_or_leave(&self.store.blobs, &name).await;
        }
        admitted.map(|admitted| Kept { number: admitted.number, is_new: admitted.is_new })
    }

    /// A terminal has these. What all have goes.
    ///
    /// # Errors
    /// [`MailError`].
    pub async fn acknowledge(
        &self,
        mailbox: MailboxId,
        terminal: TerminalId,
        ids: Vec<BlobId>,
        now: UnixMillis,
    ) -> Result<(), MailError> {
        self.make(Change::Acknowledge { mailbox, terminal, ids }, String::new(), now).await.map(|_| ())
    }

    /// These go, whoever has them.
    ///
    /// # Errors
    /// [`MailError`].
    pub async fn erase(
        &self,
        mailbox: MailboxId,
        ids: Vec<BlobId>,
        now: UnixMillis,
    ) -> Result<(), MailError> {
        self.make(Change::Erase { mailbox, ids }, String::new(), now).await.map(|_| ())
    }

    /// A terminal is revoked: nobody waits any more for what it acknowledges.
    ///
    /// # Errors
    /// [`MailError`].
    pub async fn revoke(
        &self,
        mailbox: MailboxId,
        terminal: TerminalId,
        now: UnixMillis,
    ) -> Result<(), MailError> {
        self.make(Change::Revoke { mailbox, terminal }, String::new(), now).await.map(|_| ())
    }

    /// Sets who may deposit.
    ///
    /// # Errors
    /// [`MailError`].
    pub async fn set_rules(
        &self,
        mailbox: MailboxId,
        rules: DepositRules,
        now: UnixMillis,
    ) -> Result<(), MailError> {
        self.make(Change::Rules { mailbox, rules }, String::new(), now).await.map(|_| ())
    }

    /// Keeps a mailbox no longer, with all that is in it.
    ///
    /// # Errors
    /// [`MailError`].
    pub async fn close(&self, mailbox: MailboxId, now: UnixMillis) -> Result<(), MailError> {
        self.make(Change::Close { mailbox }, String::new(), now).await.map(|_| ())
    }

    /// Erases what is over, and closes mailboxes that nobody enters any more.
    ///
    /// # Errors
    /// [`MailError`].
    pub async fn expire(&self, now: UnixMillis) -> Result<(), MailError> {
        self.make(Change::Expire { at: now }, String::new(), now).await.map(|_| ())
    }

    /// Who may deposit in a mailbox; `None` if there is no such one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn rules(&self, mailbox: &MailboxId) -> Result<Option<DepositRules>, StoreError> {
        Ok(self.current().await?.rules.get(mailbox).cloned())
    }

    /// What is in a mailbox after the blob number `after`, at most `max`, and whether there is more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list(
        &self,
        mailbox: &MailboxId,
        after: u64,
        max: usize,
    ) -> Result<(Vec<Item>, bool), StoreError> {
        Ok(self.current().await?.ledger.list(mailbox, after, max))
    }

    /// A blob; `None` if there is no such one.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it is not what was deposited, or another [`StoreError`].
    pub async fn get(&self, mailbox: &MailboxId, id: &BlobId) -> Result<Option<Vec<u8>>, StoreError> {
        let name: Option<String> =
            sqlx::query_scalar("SELECT blob FROM mail_blobs WHERE mailbox = $1 AND id = $2")
                .bind(mailbox.as_bytes().to_vec())
                .bind(id.as_bytes().to_vec())
                .fetch_optional(self.store.db.pool())
                .await?;
        let Some(name) = name else { return Ok(None) };
        match self.store.blobs.get(&name).await? {
            Some(blob) if BlobId::of(&blob) == *id => Ok(Some(blob)),
            Some(_) => Err(StoreError::Damaged("a letter")),
            // Erased just now, by another terminal.
            None => Ok(None),
        }
    }

    /// The terminals that must acknowledge what is in a mailbox, and until when they are certified.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn terminals(&self, mailbox: &MailboxId) -> Result<Vec<(TerminalId, UnixMillis)>, StoreError> {
        Ok(self.current().await?.ledger.terminals(mailbox))
    }

    /// Whether [`Self::expire`] has something to do.
    pub async fn is_due(&self, now: UnixMillis) -> bool {
        self.books.lock().await.is_due(now)
    }

    /// What comes into mailboxes from other processes, which this one is told of at once; `None` if there are none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn heard(&self) -> Result<Option<Heard>, StoreError> {
        let Some(url) = self.store.db.url() else { return Ok(None) };
        Heard::listen(url).await.map(Some)
    }

    /// How full a mailbox is; `None` if there is no such one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn report(&self, mailbox: &MailboxId) -> Result<Option<QuotaReport>, StoreError> {
        Ok(self.current().await?.ledger.report(mailbox))
    }

    /// Number of the newest blob that ever came into each of these mailboxes; of those that are not kept, nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn newest(&self, mailboxes: &[MailboxId]) -> Result<Vec<(MailboxId, u64)>, StoreError> {
        let books = self.current().await?;
        let newest = |mailbox: &MailboxId| Some((*mailbox, books.ledger.newest(mailbox)?));
        Ok(mailboxes.iter().filter_map(newest).collect())
    }

    /// What all mailboxes hold, of contacts and of strangers, and how many mailboxes there are.
    pub async fn held(&self) -> (Amount, Amount, usize) {
        let books = self.books.lock().await;
        let (contacts, strangers) = books.ledger.held();
        (contacts, strangers, books.ledger.mailboxes())
    }

    /// Makes a change, and erases the files that nothing points to any more.
    async fn make(&self, change: Change, blob: String, now: UnixMillis) -> Result<Made, MailError> {
        let (books, is_shared) = (Arc::clone(&self.books), self.store.is_shared());
        let outcome = self.store.db.write(move |connection| {
            Box::pin(async move {
                let mut books = books.lock_owned().await;
                let tail = rows::hold(connection).await?;
                rows::catch_up(connection, &mut books, &tail).await?;
                let made = match books.make(&change) {
                    Ok(made) => made,
                    Err(unmade) => return Ok(Err(unmade)),
                };
                if !made.changed {
                    return Ok(Ok((made, Vec::new())));
                }
                // Before anything is written: if that fails they do not fit the database, and are read anew.
                books.position += 1;
                books.mark = rand::random::<[u8; 16]>().to_vec();
                let freed = rows::write(connection, &books, &change, &made, &blob).await?;
                rows::log(connection, &change, books.position, &books.mark).await?;
                if let (true, Change::Deposit { mailbox, .. }) = (is_shared, &change) {
                    heard::tell(connection, mailbox).await?;
                }
                Ok(Ok((made, freed)))
            })
        });
        let (made, freed) = match outcome.await {
            Ok(outcome) => outcome?,
            Err(error) => {
                // Otherwise what was not written is there until the next change.
                if let Err(error) = self.catch_up().await {
                    tracing::warn!(%error, "the mailboxes could not be read again");
                }
                return Err(error.into());
            }
        };
        self.erase_files(freed, now).await;
        Ok(made)
    }

    async fn erase_files(&self, freed: Vec<String>, now: UnixMillis) {
        // Asked after the change, as with backups: a copy that is not seen now begins later.
        if freed.is_empty() || !self.store.copying_until().await.is_ok_and(|until| until <= now) {
            return;
        }
        for blob in &freed {
            erase_or_leave(&self.store.blobs, blob).await;
        }
    }
}
