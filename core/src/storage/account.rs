use super::create::run_blocking;
use super::home::{mailboxes, renew, sign_record};
use super::{AccountId, StorageError, db};
use crate::clock::wall_clock;
use crate::recording::Recordings;
use offhook_proto::backup::Backup;
use offhook_proto::identity::{
    CERT_LIFETIME, DirectoryId, IdentityId, IdentityKey, MailboxKey, SealKey, SignedCert, TerminalId,
    TerminalKey,
};
use offhook_proto::number::{NodeAddr, Number};
use offhook_proto::proof::NumberProof;
use offhook_proto::record::{AccountRecord, BackupAt, MAX_BACKUPS, MAX_REVOKED, SignedAccount};
use offhook_proto::wire::{self, UnixMillis};
use sqlx::SqlitePool;
use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::watch;

/// File name of the database in an account's directory.
pub(super) const DATABASE: &str = "account.db";
/// File name of the lock that the running program holds.
pub(super) const LOCK: &str = "lock";
/// File name of the lock that is held while a backup is brought up to date.
const SYNC_LOCK: &str = "sync.lock";
/// Larger blobs than this in place of a proof, certificate or record mean a damaged file.
const MAX_BLOB: usize = 16 * 1024;

/// How often and after which pauses the lock is tried: a second together.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// One account, open for the program that runs it: everything a terminal needs from day to day, without
/// the password. Cheap to clone; the account is free for other programs when the last clone is dropped.
///
/// Every write is on disk when its future is ready.
#[derive(Clone)]
pub struct AccountStore(Arc<Inner>);

struct Inner {
    pool: SqlitePool,
    dir: PathBuf,
    keys: Keys,
    /// Replaced as a whole by [`AccountStore::reload`].
    papers: RwLock<Arc<Papers>>,
    /// Counts what was changed of what belongs into a backup.
    changes: watch::Sender<u64>,
    /// Held, not read: closing the file gives the lock back. None of a program that only writes something down beside the one
    /// that runs the account.
    _lock: Option<File>,
}

/// What an account's file says about the account itself and never changes.
struct Keys {
    number: Number,
    proof: NumberProof,
    identity: IdentityId,
    terminal: TerminalKey,
    seal: SealKey,
    mailbox: MailboxKey,
}

/// What is made anew whenever the password is entered.
#[derive(Clone, PartialEq, Eq)]
struct Papers {
    id: AccountId,
    cert: SignedCert,
    cert_until: UnixMillis,
    record: SignedAccount,
}

impl AccountStore {
    /// Opens the account in `dir` and takes its lock.
    pub(super) async fn open(dir: &Path, id: &AccountId) -> Result<Self, StorageError> {
        // The program that had it may be on its way out.
        let mut tries = 0;
        let lock = loop {
            match take_lock(&dir.join(LOCK), id) {
                Err(StorageError::InUse(_)) if tries < LOCK_TRIES => tries += 1,
                result => break result?,
            }
            tokio::time::sleep(LOCK_PAUSE).await;
        };
        Self::load(dir, Some(lock)).await
    }

    /// Opens the account in `dir` beside the program that runs it.
    pub(super) async fn beside(dir: &Path) -> Result<Self, StorageError> {
        Self::load(dir, None).await
    }

    async fn load(dir: &Path, lock: Option<File>) -> Result<Self, StorageError> {
        let pool = db::open(&dir.join(DATABASE)).await?;
        let keys = Keys::load(&pool).await?;
        let papers = RwLock::new(Arc::new(Papers::load(&pool).await?));
        let changes = watch::channel(0).0;
        Ok(Self(Arc::new(Inner { pool, dir: dir.to_owned(), keys, papers, changes, _lock: lock })))
    }

    /// Takes up the certificate, account record and ID that another program (the command line) has renewed in the file.
    /// Says whether there was anything new.
    pub async fn reload(&self) -> Result<bool, StorageError> {
        let fresh = Arc::new(Papers::load(&self.0.pool).await?);
        let mut papers = self.0.papers.write().unwrap_or_else(PoisonError::into_inner);
        let changed = *papers != fresh;
        *papers = fresh;
        drop(papers);
        // Whoever has renewed them may have written more, such as a chosen number.
        self.changed();
        Ok(changed)
    }

    /// Waits until nobody else brings the account's backup up to date: the command line may, beside the terminal that runs.
    pub(crate) async fn sync_lock(&self) -> Result<File, StorageError> {
        let path = self.0.dir.join(SYNC_LOCK);
        run_blocking(move || {
            let file = open_lock(&path)?;
            file.lock().map_err(StorageError::io(&path))?;
            Ok(file)
        })
        .await
    }

    /// Something that belongs into a backup has changed.
    pub(super) fn changed(&self) {
        self.0.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Is told whenever something may have changed that belongs into a backup.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Whether half of the life of its certificate or its account record is over.
    pub(crate) fn papers_due(&self, now: UnixMillis) -> bool {
        let end = self.cert_until().0;
        let begin = end.saturating_sub(u64::try_from(CERT_LIFETIME.as_millis()).unwrap_or(u64::MAX));
        now.is_past_middle(UnixMillis(begin), UnixMillis(end))
    }

    /// Issues the certificate and the account records anew, as `Home::recertify` does with the password. Whoever runs the account takes
    /// them up by [`AccountStore::reload`].
    pub(crate) async fn renew_papers(&self, key: &IdentityKey) -> Result<(), StorageError> {
        let mut tx = db::write(self.pool()).await?;
        renew(&mut tx, key).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Signs the account's records anew if something of theirs has changed: terminals that were revoked elsewhere, or the version of
    /// the backup at a directory of the account. Says whether that was so.
    pub(crate) async fn update_record(
        &self,
        key: &IdentityKey,
        revoked: &[TerminalId],
    ) -> Result<bool, StorageError> {
        let mut tx = db::write(self.pool()).await?;
        let (body,): (Vec<u8>,) =
            sqlx::query_as("SELECT record_body FROM account").fetch_one(&mut *tx).await?;
        // Of one that another terminal has told of, nothing was seen yet.
        let versions: Vec<(Vec<u8>, i64)> = sqlx::query_as(
            "SELECT directory, version FROM directories WHERE version > 0 ORDER BY directory LIMIT ?",
        )
        .bind(i64::try_from(MAX_BACKUPS).unwrap_or(i64::MAX))
        .fetch_all(&mut *tx)
        .await?;
        let backups = versions.into_iter().map(|(directory, version)| {
            let directory = DirectoryId::from_bytes(db::bytes(&directory, "a directory")?);
            Ok(BackupAt::new(key, &directory, db::uint(version)))
        });
        let backups = backups.collect::<Result<_, StorageError>>()?;
        let before: AccountRecord = decode(&body, "the account record")?;
        let mut record = before.clone();
        record.backups = backups;
        if let Some(mailboxes) = mailboxes(&mut tx).await? {
            record.mailboxes = mailboxes;
        }
        // Nobody takes a revocation back; of too many the oldest, whose certificates end first, give way.
        record.revoked.extend(revoked.iter().filter(|terminal| !before.revoked.contains(terminal)));
        record.revoked.drain(..record.revoked.len().saturating_sub(MAX_REVOKED));
        if record == before {
            return Ok(false);
        }
        sign_record(&mut tx, key, record, wall_clock()).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// A backup with nothing but keys and number.
    pub(crate) async fn new_backup(&self, key: &IdentityKey) -> Result<Backup, StorageError> {
        let (created,): (i64,) = sqlx::query_as("SELECT created FROM account").fetch_one(self.pool()).await?;
        let keys = &self.0.keys;
        let (Number::Plain(number), NumberProof::Plain(proof)) = (&keys.number, &keys.proof) else {
            return Err(StorageError::Damaged("the account's number"));
        };
        let created = UnixMillis(db::uint(created));
        Ok(Backup::new(key.clone(), keys.mailbox.clone(), *number, *proof, created))
    }

    /// Revoked terminals and mailboxes, as the account record has them.
    pub(crate) async fn of_record(&self) -> Result<(Vec<TerminalId>, Vec<NodeAddr>), StorageError> {
        let (body,): (Vec<u8>,) =
            sqlx::query_as("SELECT record_body FROM account").fetch_one(self.pool()).await?;
        let record: AccountRecord = decode(&body, "the account record")?;
        Ok((record.revoked, record.mailboxes))
    }

    fn papers(&self) -> Arc<Papers> {
        // Whoever panicked while holding it had not half replaced it.
        Arc::clone(&self.0.papers.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn pool(&self) -> &SqlitePool {
        &self.0.pool
    }

    /// The account's ID, as of the last [`Self::reload`].
    pub fn id(&self) -> AccountId {
        self.papers().id.clone()
    }

    /// The account's number.
    pub fn number(&self) -> &Number {
        &self.0.keys.number
    }

    /// What proves that the number is this identity's.
    pub fn proof(&self) -> &NumberProof {
        &self.0.keys.proof
    }

    /// The account's public identity.
    pub fn identity(&self) -> IdentityId {
        self.0.keys.identity
    }

    /// This terminal's signing key, which is also its libp2p key.
    pub fn terminal_key(&self) -> &TerminalKey {
        &self.0.keys.terminal
    }

    /// The key to which signalling for this terminal is sealed.
    pub fn seal_key(&self) -> &SealKey {
        &self.0.keys.seal
    }

    /// The key to which messages for the account's mailbox are sealed.
    pub fn mailbox_key(&self) -> &MailboxKey {
        &self.0.keys.mailbox
    }

    /// This terminal's certificate, as of the last [`Self::reload`].
    pub fn cert(&self) -> SignedCert {
        self.papers().cert.clone()
    }

    /// When the certificate expires; `Home::recertify` renews it.
    pub fn cert_until(&self) -> UnixMillis {
        self.papers().cert_until
    }

    /// The signed account record to publish, as of the last [`Self::reload`].
    pub fn account_record(&self) -> SignedAccount {
        self.papers().record.clone()
    }

    /// The account's directory, for files of other modules (0700).
    pub fn data_dir(&self) -> &Path {
        &self.0.dir
    }

    /// Its recordings.
    pub fn recordings(&self) -> Recordings {
        Recordings::of(&self.0.dir)
    }

    /// Finishes what is being written and closes the file. Dropping the last clone does the same in the
    /// background.
    pub async fn close(&self) {
        self.0.pool.close().await;
    }
}

impl fmt::Debug for AccountStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountStore").field("number", &self.0.keys.number).finish_non_exhaustive()
    }
}

impl Keys {
    async fn load(pool: &SqlitePool) -> Result<Self, StorageError> {
        type Row = (String, Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>);
        let row: Option<Row> = sqlx::query_as(
            "SELECT a.number, a.proof, a.identity, t.terminal_seed, t.seal_seed, t.mailbox_seed
             FROM account a JOIN terminal t ON t.one = a.one",
        )
        .fetch_optional(pool)
        .await?;
        let Some((number, proof, identity, terminal, seal, mailbox)) = row else {
            return Err(StorageError::Damaged("the account"));
        };
        Ok(Self {
            number: db::number(&number)?,
            proof: decode(&proof, "the number's proof")?,
            identity: IdentityId::from_bytes(db::bytes(&identity, "the identity")?),
            terminal: TerminalKey::from_seed(db::bytes(&terminal, "the terminal's key")?),
            seal: SealKey::from_seed(db::bytes(&seal, "the terminal's key")?),
            mailbox: MailboxKey::from_seed(db::bytes(&mailbox, "the mailbox key")?),
        })
    }
}

impl Papers {
    async fn load(pool: &SqlitePool) -> Result<Self, StorageError> {
        let row: Option<(String, Vec<u8>, Vec<u8>, i64)> = sqlx::query_as(
            "SELECT a.id, a.record, t.cert, t.cert_until FROM account a JOIN terminal t ON t.one = a.one",
        )
        .fetch_optional(pool)
        .await?;
        let Some((id, record, cert, until)) = row else {
            return Err(StorageError::Damaged("the account"));
        };
        Ok(Self {
            id: id.parse().map_err(|_| StorageError::Damaged("the account's ID"))?,
            cert: decode(&cert, "the certificate")?,
            cert_until: UnixMillis(db::uint(until)),
            record: decode(&record, "the account record")?,
        })
    }
}

pub(super) fn decode<'b, T: minicbor::Decode<'b, ()>>(
    bytes: &'b [u8],
    what: &'static str,
) -> Result<T, StorageError> {
    wire::decode(bytes, MAX_BLOB).map_err(|_| StorageError::Damaged(what))
}

/// The operating system drops the lock when the program dies, however it dies.
pub(super) fn take_lock(path: &Path, id: &AccountId) -> Result<File, StorageError> {
    let file = open_lock(path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StorageError::InUse(id.to_string())),
        Err(TryLockError::Error(error)) => Err(StorageError::io(path)(error)),
    }
}

/// A file that is only there to be locked.
pub(super) fn open_lock(path: &Path) -> Result<File, StorageError> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(StorageError::io(path))
}
