//! Making an account: keys, number, certificate, and the directory that holds them.

use super::account::DATABASE;
use super::restore::Restored;
use super::seal::{KdfCost, SealedSeed};
use super::wipe::wipe;
use super::{AccountId, Password, StorageError, db};
use crate::clock::wall_clock;
use offhook_proto::identity::{IdentityId, IdentityKey, MailboxKey, SealKey, SignedCert, TerminalKey};
use offhook_proto::number::{Number, PlainNumber};
use offhook_proto::proof::{Miner, NumberProof, PlainProof};
use offhook_proto::record::{ACCOUNT_LIFETIME, AccountRecord};
use offhook_proto::wire::{self, UnixMillis};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Directories with this prefix are accounts that were never finished.
pub(super) const UNFINISHED: &str = ".new-";

/// How often the caller hears how many nonces were tried.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// What the user chooses for a new account.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// Told apart from the other accounts of this terminal by this.
    pub id: AccountId,
    /// Opens the identity key.
    pub password: Password,
}

/// A new account before it is written.
pub(super) struct Draft {
    pub id: AccountId,
    pub identity: IdentityKey,
    pub number: PlainNumber,
    pub proof: PlainProof,
    pub terminal: TerminalKey,
    pub seal: SealKey,
    pub mailbox: MailboxKey,
    /// Of an account that a directory has kept.
    pub restored: Option<Box<Restored>>,
}

/// Finds a number for `identity` by trying nonces from `first` on all cores: 256 slow hashes on average,
/// about a second. `progress` hears now and then how many were tried. Dropping the future stops the search.
pub async fn mine_number(
    identity: IdentityId,
    first: u64,
    mut progress: impl FnMut(u64),
) -> Result<(PlainNumber, PlainProof), StorageError> {
    let search = Arc::new(Search { next: AtomicU64::new(first), stop: AtomicBool::new(false) });
    let _stop = StopOnDrop(search.clone());
    let (found, mut result) = tokio::sync::mpsc::channel(1);
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(16);
    for _ in 0..workers {
        let (search, found) = (search.clone(), found.clone());
        tokio::task::spawn_blocking(move || search.work(&identity, &found));
    }
    drop(found);
    let mut tick = tokio::time::interval(PROGRESS_EVERY);
    loop {
        tokio::select! {
            found = result.recv() => {
                return found.ok_or(StorageError::Internal("the search for a number stopped"));
            }
            _ = tick.tick() => progress(search.next.load(Ordering::Relaxed).saturating_sub(first)),
        }
    }
}

struct Search {
    next: AtomicU64,
    stop: AtomicBool,
}

impl Search {
    fn work(&self, identity: &IdentityId, found: &tokio::sync::mpsc::Sender<(PlainNumber, PlainProof)>) {
        let mut miner = Miner::new();
        while !self.stop.load(Ordering::Relaxed) {
            let nonce = self.next.fetch_add(1, Ordering::Relaxed);
            if let Some(number) = miner.try_nonce(identity, nonce) {
                self.stop.store(true, Ordering::Relaxed);
                // A full channel means that another core was faster.
                let _ = found.try_send((number, PlainProof { nonce }));
            }
        }
    }
}

struct StopOnDrop(Arc<Search>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

impl Draft {
    /// Fresh keys and the number that belongs to them.
    pub async fn mine(id: AccountId, progress: impl FnMut(u64)) -> Result<Self, StorageError> {
        let identity = IdentityKey::from_seed(rand::random());
        let (number, proof) = mine_number(identity.public(), 0, progress).await?;
        Ok(Self::with_number(id, identity, number, proof))
    }

    /// Fresh terminal keys for a number mined before.
    pub fn with_number(id: AccountId, identity: IdentityKey, number: PlainNumber, proof: PlainProof) -> Self {
        Self {
            id,
            identity,
            number,
            proof,
            terminal: TerminalKey::from_seed(rand::random()),
            seal: SealKey::from_seed(rand::random()),
            mailbox: MailboxKey::from_seed(rand::random()),
            restored: None,
        }
    }

    /// Name of the account's directory.
    pub fn dir_name(&self) -> String {
        self.identity.public().fingerprint().to_string()
    }

    /// Writes the whole account beside the others under a name that nobody looks at, then renames it into
    /// place. The caller holds the accounts' lock.
    pub async fn write(self, accounts: &Path, password: Password) -> Result<(), StorageError> {
        let name = self.dir_name();
        let unfinished = accounts.join(format!("{UNFINISHED}{name}"));
        let written = self.write_files(&unfinished, password).await;
        let placed = written.and_then(|()| place(&unfinished, &accounts.join(name), accounts));
        if placed.is_err() {
            // Best effort: what stays is wiped when the program starts the next time.
            let _ = wipe(&unfinished);
        }
        placed
    }

    async fn write_files(self, dir: &Path, password: Password) -> Result<(), StorageError> {
        DirBuilder::new().mode(0o700).create(dir).map_err(StorageError::io(dir))?;
        let now = wall_clock();
        let (draft, sealed) = self.seal(password).await?;
        let record = draft.record(now);
        let cert = SignedCert::issue(&draft.identity, draft.terminal.public(), draft.seal.public(), now);
        let pool = db::create(&dir.join(DATABASE)).await?;
        let mut tx = db::write(&pool).await?;
        draft.insert_account(&mut tx, &sealed, &record, now).await?;
        draft.insert_terminal(&mut tx, &cert, now).await?;
        draft.insert_restored(&mut tx, now).await?;
        tx.commit().await?;
        // Closing moves the log into the file, so that the renamed directory holds one whole file.
        pool.close().await;
        sync_dir(dir)
    }

    async fn seal(self, password: Password) -> Result<(Self, SealedSeed), StorageError> {
        let work = move || {
            let identity = self.identity.public();
            let sealed =
                SealedSeed::seal(self.identity.seed(), &password, &self.id, &identity, KdfCost::DEFAULT)?;
            Ok((self, sealed))
        };
        run_blocking(work).await
    }

    fn record(&self, now: UnixMillis) -> AccountRecord {
        AccountRecord {
            number: Number::Plain(self.number),
            proof: NumberProof::Plain(self.proof),
            identity: self.identity.public(),
            mailbox: self.mailbox.public(),
            mailboxes: self.restored.as_ref().map(|kept| kept.mailboxes.clone()).unwrap_or_default(),
            revoked: self.restored.as_ref().map(|kept| kept.revoked.clone()).unwrap_or_default(),
            seq: now,
            expires: now.plus(ACCOUNT_LIFETIME),
            transfers: Vec::new(),
            backups: self.restored.as_ref().map(|kept| kept.backup_at(&self.identity)).into_iter().collect(),
        }
    }

    async fn insert_account(
        &self,
        tx: &mut db::Write,
        sealed: &SealedSeed,
        record: &AccountRecord,
        now: UnixMillis,
    ) -> Result<(), StorageError> {
        sqlx::query(
            "INSERT INTO account (one, id, number, proof, identity, created, record, record_body, sealed_seed,
                                  seal_nonce, kdf_salt, kdf_memory, kdf_passes, kdf_lanes)
             VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(self.id.as_str())
        .bind(Number::Plain(self.number).canonical())
        .bind(wire::encode(&NumberProof::Plain(self.proof)))
        .bind(self.identity.public().as_bytes().as_slice())
        .bind(db::int(self.restored.as_ref().map_or(now, |kept| kept.created).0))
        .bind(wire::encode(&record.sign(&self.identity)))
        .bind(wire::encode(record))
        .bind(&sealed.sealed)
        .bind(sealed.nonce.as_slice())
        .bind(sealed.salt.as_slice())
        .bind(sealed.cost.memory)
        .bind(sealed.cost.passes)
        .bind(sealed.cost.lanes)
        .execute(&mut **tx)
        .await?;
        Ok(())
    }

    async fn insert_terminal(
        &self,
        tx: &mut db::Write,
        cert: &SignedCert,
        now: UnixMillis,
    ) -> Result<(), StorageError> {
        sqlx::query(
            "INSERT INTO terminal (one, terminal_seed, seal_seed, mailbox_seed, cert, cert_until)
             VALUES (1, ?, ?, ?, ?, ?)",
        )
        .bind(self.terminal.seed().as_slice())
        .bind(self.seal.seed().as_slice())
        .bind(self.mailbox.seed().as_slice())
        .bind(wire::encode(cert))
        .bind(db::int(cert_until(cert, now)?.0))
        .execute(&mut **tx)
        .await?;
        Ok(())
    }
}

/// When a certificate that was just issued expires.
pub(super) fn cert_until(cert: &SignedCert, now: UnixMillis) -> Result<UnixMillis, StorageError> {
    cert.verify(now)
        .map(|cert| cert.not_after)
        .map_err(|_| StorageError::Internal("the certificate could not be issued"))
}

/// Runs slow work on a thread of its own.
pub(super) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| StorageError::Internal("a worker thread stopped"))?
}

fn place(from: &Path, to: &PathBuf, parent: &Path) -> Result<(), StorageError> {
    renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)
        .map_err(|error| StorageError::io(to)(error.into()))?;
    sync_dir(parent)
}

/// Makes new and renamed entries of a directory durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), StorageError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(StorageError::io(dir))
}
