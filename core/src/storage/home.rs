use super::account::{DATABASE, decode, open_lock};
use super::create::{Draft, cert_until, run_blocking, sync_dir};
use super::seal::{KdfCost, SealedSeed};
use super::{AccountId, AccountStore, NewAccount, Password, StorageError, chosen, db, letters};
use crate::clock::wall_clock;
use crate::recording::Recordings;
use offhook_proto::identity::{Fingerprint, IdentityId, IdentityKey, SealKey, SignedCert, TerminalKey};
use offhook_proto::number::{NodeAddr, Number};
use offhook_proto::record::{ACCOUNT_LIFETIME, AccountRecord, MAX_MAILBOXES};
use offhook_proto::wire::{self, UnixMillis};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The directory that holds a terminal's accounts.
#[derive(Debug, Clone)]
pub struct Home {
    dir: PathBuf,
    accounts: PathBuf,
}

/// One line of `offhook account list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountSummary {
    /// The account's ID.
    pub id: AccountId,
    /// Its number.
    pub number: Number,
    /// Fingerprint of its identity key.
    pub fingerprint: Fingerprint,
    /// Whether programs use it when none is named.
    pub current: bool,
    /// When this terminal's certificate expires.
    pub cert_until: UnixMillis,
}

/// An account found on disk.
struct Found {
    id: AccountId,
    number: Number,
    identity: IdentityId,
    cert_until: UnixMillis,
    /// Name of its directory.
    name: String,
}

impl Home {
    /// Opens a home directory and makes it if it is not there.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, StorageError> {
        let dir = dir.into();
        let accounts = dir.join("accounts");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&accounts)
            .map_err(StorageError::io(&accounts))?;
        Ok(Self { dir, accounts })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// All accounts that can be read, by ID. One that can't is skipped with a warning in the log.
    pub async fn accounts(&self) -> Result<Vec<AccountSummary>, StorageError> {
        let found = self.scan().await?;
        let current = self.current_name(&found);
        let summary = |account: &Found| AccountSummary {
            id: account.id.clone(),
            number: account.number.clone(),
            fingerprint: account.identity.fingerprint(),
            current: current.as_ref() == Some(&account.name),
            cert_until: account.cert_until,
        };
        Ok(found.iter().map(summary).collect())
    }

    /// The account that programs use when none is named: the one chosen with [`Self::use_account`], or
    /// the only one.
    pub async fn current(&self) -> Result<AccountId, StorageError> {
        let found = self.scan().await?;
        let name = self.current_name(&found).ok_or(StorageError::NoCurrentAccount)?;
        found.into_iter().find(|a| a.name == name).map(|a| a.id).ok_or(StorageError::NoCurrentAccount)
    }

    /// Chooses the account that programs use when none is named.
    pub async fn use_account(&self, id: &AccountId) -> Result<(), StorageError> {
        let _lock = self.lock().await?;
        let account = self.find(id).await?;
        self.set_current(&account.name)
    }

    /// Makes an account: keys, a number of its own, certificate and account record. Takes a second or two;
    /// `progress` hears how many nonces were tried. The first account becomes the current one.
    pub async fn create_account(
        &self,
        new: NewAccount,
        progress: impl FnMut(u64),
    ) -> Result<AccountSummary, StorageError> {
        // Said before the work rather than after it; the lock decides when two want the same ID.
        self.refuse_taken(&new.id, &self.scan().await?)?;
        let draft = Draft::mine(new.id, progress).await?;
        self.store(draft, new.password).await
    }

    pub(super) async fn store(
        &self,
        draft: Draft,
        password: Password,
    ) -> Result<AccountSummary, StorageError> {
        let _lock = self.lock().await?;
        self.sweep()?;
        let others = self.scan().await?;
        self.refuse_taken(&draft.id, &others)?;
        let (id, name) = (draft.id.clone(), draft.dir_name());
        // A backup is of an identity that may be here under another ID.
        if let Some(same) = others.iter().find(|account| account.name == name) {
            return Err(StorageError::AccountExists(same.id.to_string()));
        }
        // Which account is the current one must not change because another joins it.
        if let Some(current) = self.current_name(&others) {
            self.set_current(&current)?;
        }
        draft.write(&self.accounts, password).await?;
        if others.is_empty() {
            self.set_current(&name)?;
        }
        self.accounts()
            .await?
            .into_iter()
            .find(|account| account.id == id)
            .ok_or(StorageError::Internal("the new account is gone"))
    }

    /// Whether an account of this ID and identity could come here.
    ///
    /// # Errors
    /// [`StorageError::AccountExists`] if the ID is taken, or the identity is here under another one.
    pub(crate) async fn has_room_for(
        &self,
        id: &AccountId,
        identity: &IdentityId,
    ) -> Result<(), StorageError> {
        let accounts = self.scan().await?;
        self.refuse_taken(id, &accounts)?;
        match accounts.iter().find(|account| account.identity == *identity) {
            Some(same) => Err(StorageError::AccountExists(same.id.to_string())),
            None => Ok(()),
        }
    }

    /// Opens an account to run it, without its password. Only one program at a time can have it open.
    pub async fn open_account(&self, id: &AccountId) -> Result<AccountStore, StorageError> {
        let account = self.find(id).await?;
        AccountStore::open(&self.accounts.join(&account.name), id).await
    }

    /// Opens an account to write something down while a terminal may run it, which is told to take it up
    /// ([`Command::Renewed`](crate::api::Command::Renewed)).
    pub async fn beside(&self, id: &AccountId) -> Result<AccountStore, StorageError> {
        AccountStore::beside(&self.folder_of(id).await?).await
    }

    /// The identity key, for certifying and moving.
    pub async fn unlock(&self, id: &AccountId, password: &Password) -> Result<IdentityKey, StorageError> {
        let account = self.find(id).await?;
        let pool = db::open(&self.database(&account)).await?;
        let key = unseal(&pool, account.id, account.identity, password.clone()).await;
        pool.close().await;
        key
    }

    /// Gives the account another password. Renews the certificate too.
    pub async fn change_password(
        &self,
        id: &AccountId,
        old: &Password,
        new: &Password,
    ) -> Result<(), StorageError> {
        let _lock = self.lock().await?;
        let account = self.find(id).await?;
        self.reseal(&account, old, new, id).await
    }

    /// Gives the account another ID; its number stays. Renews the certificate too.
    pub async fn rename(
        &self,
        id: &AccountId,
        password: &Password,
        new: &AccountId,
    ) -> Result<(), StorageError> {
        let _lock = self.lock().await?;
        let accounts = self.scan().await?;
        if id != new {
            self.refuse_taken(new, &accounts)?;
        }
        let account = self.find(id).await?;
        self.reseal(&account, password, password, new).await
    }

    /// Issues this terminal's certificate and the account record anew, for 13 months and 400 days. A running
    /// terminal takes them up when it is told so ([`Command::Renewed`](crate::api::Command::Renewed)).
    pub async fn recertify(&self, id: &AccountId, password: &Password) -> Result<(), StorageError> {
        let account = self.find(id).await?;
        let pool = db::open(&self.database(&account)).await?;
        let done = async {
            let key = unseal(&pool, account.id.clone(), account.identity, password.clone()).await?;
            let mut tx = db::write(&pool).await?;
            renew(&mut tx, &key).await?;
            tx.commit().await.map_err(StorageError::from)
        };
        let done = done.await;
        pool.close().await;
        done
    }

    /// One transaction: sealed seed, ID, certificate and record change together or not at all.
    async fn reseal(
        &self,
        account: &Found,
        old: &Password,
        new: &Password,
        new_id: &AccountId,
    ) -> Result<(), StorageError> {
        let pool = db::open(&self.database(account)).await?;
        let done = async {
            let key = unseal(&pool, account.id.clone(), account.identity, old.clone()).await?;
            let (password, id) = (new.clone(), new_id.clone());
            let (key, sealed) = run_blocking(move || {
                let identity = key.public();
                let sealed = SealedSeed::seal(key.seed(), &password, &id, &identity, KdfCost::DEFAULT)?;
                Ok((key, sealed))
            })
            .await?;
            let mut tx = db::write(&pool).await?;
            put_sealed(&mut tx, new_id, &sealed).await?;
            renew(&mut tx, &key).await?;
            tx.commit().await?;
            // The old password's seed must not stay readable in the log.
            db::empty_log(&pool).await
        };
        let done = done.await;
        pool.close().await;
        done
    }

    /// An account's recordings, whether a terminal runs it or not.
    ///
    /// # Errors
    /// There is no such account, or the directory of accounts cannot be read.
    pub async fn recordings(&self, id: &AccountId) -> Result<Recordings, StorageError> {
        Ok(Recordings::of(&self.folder_of(id).await?))
    }

    /// Where the account's files are.
    pub(super) async fn folder_of(&self, id: &AccountId) -> Result<PathBuf, StorageError> {
        Ok(self.accounts.join(self.find(id).await?.name))
    }

    fn database(&self, account: &Found) -> PathBuf {
        self.accounts.join(&account.name).join(DATABASE)
    }

    fn refuse_taken(&self, id: &AccountId, accounts: &[Found]) -> Result<(), StorageError> {
        match accounts.iter().any(|account| account.id == *id) {
            true => Err(StorageError::AccountExists(id.to_string())),
            false => Ok(()),
        }
    }

    async fn find(&self, id: &AccountId) -> Result<Found, StorageError> {
        let found = self.scan().await?;
        found.into_iter().find(|a| a.id == *id).ok_or_else(|| StorageError::NoAccount(id.to_string()))
    }

    /// All readable accounts, by ID.
    async fn scan(&self) -> Result<Vec<Found>, StorageError> {
        let mut found = Vec::new();
        let entries = fs::read_dir(&self.accounts).map_err(StorageError::io(&self.accounts))?;
        for entry in entries {
            let entry = entry.map_err(StorageError::io(&self.accounts))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.starts_with('.') || !entry.path().is_dir() {
                continue;
            }
            match Found::read(&entry.path().join(DATABASE), name).await {
                Ok(account) => found.push(account),
                Err(error) => {
                    tracing::warn!(dir = %entry.path().display(), %error, "an account is unreadable")
                }
            }
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    fn current_name(&self, accounts: &[Found]) -> Option<String> {
        let chosen = fs::read_to_string(self.dir.join("current")).ok();
        let chosen = chosen.as_deref().map(str::trim);
        let account = accounts.iter().find(|account| Some(account.name.as_str()) == chosen);
        match (account, accounts) {
            (Some(account), _) | (None, [account]) => Some(account.name.clone()),
            (None, _) => None,
        }
    }

    fn set_current(&self, name: &str) -> Result<(), StorageError> {
        let path = self.dir.join("current");
        let new = self.dir.join(".current.new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)
            .map_err(StorageError::io(&new))?;
        writeln!(file, "{name}").and_then(|()| file.sync_all()).map_err(StorageError::io(&new))?;
        fs::rename(&new, &path).map_err(StorageError::io(&path))?;
        sync_dir(&self.dir)
    }

    /// The directory of the accounts.
    pub(super) fn accounts_dir(&self) -> &Path {
        &self.accounts
    }

    /// No account is the current one if it was this.
    pub(super) fn forget_current(&self, name: &str) -> Result<(), StorageError> {
        let path = self.dir.join("current");
        match fs::read_to_string(&path) {
            Ok(current) if current.trim() == name => fs::remove_file(&path).map_err(StorageError::io(&path)),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Waits for the lock under which accounts come and change their IDs.
    pub(super) async fn lock(&self) -> Result<File, StorageError> {
        let (file, path) = self.lock_file()?;
        run_blocking(move || {
            file.lock().map_err(StorageError::io(&path))?;
            Ok(file)
        })
        .await
    }

    /// The same lock, unless somebody has it.
    pub(super) fn try_lock(&self) -> Result<Option<File>, StorageError> {
        let (file, path) = self.lock_file()?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(StorageError::io(&path)(error)),
        }
    }

    fn lock_file(&self) -> Result<(File, PathBuf), StorageError> {
        let path = self.accounts.join(".lock");
        Ok((open_lock(&path)?, path))
    }
}

impl Found {
    async fn read(database: &Path, name: String) -> Result<Self, StorageError> {
        let mut connection = db::peek(database).await?;
        let row: Option<(String, String, Vec<u8>, i64)> = sqlx::query_as(
            "SELECT a.id, a.number, a.identity, t.cert_until
             FROM account a JOIN terminal t ON t.one = a.one",
        )
        .fetch_optional(&mut connection)
        .await?;
        sqlx::Connection::close(connection).await?;
        let Some((id, number, identity, until)) = row else {
            return Err(StorageError::Damaged("the account"));
        };
        Ok(Self {
            id: id.parse().map_err(|_| StorageError::Damaged("the account's ID"))?,
            number: db::number(&number)?,
            identity: IdentityId::from_bytes(db::bytes(&identity, "the identity")?),
            cert_until: UnixMillis(db::uint(until)),
            name,
        })
    }
}

async fn unseal(
    pool: &sqlx::SqlitePool,
    id: AccountId,
    identity: IdentityId,
    password: Password,
) -> Result<IdentityKey, StorageError> {
    type Row = (Vec<u8>, Vec<u8>, Vec<u8>, u32, u32, u32);
    let (sealed, nonce, salt, memory, passes, lanes): Row = sqlx::query_as(
        "SELECT sealed_seed, seal_nonce, kdf_salt, kdf_memory, kdf_passes, kdf_lanes FROM account",
    )
    .fetch_one(pool)
    .await?;
    let sealed = SealedSeed {
        cost: KdfCost { memory, passes, lanes },
        salt: db::bytes(&salt, "the password's salt")?,
        nonce: db::bytes(&nonce, "the identity key")?,
        sealed,
    };
    run_blocking(move || {
        let seed = sealed.open(&password, &id, &identity)?;
        let key = IdentityKey::from_seed(*seed);
        if key.public() == identity { Ok(key) } else { Err(StorageError::Damaged("the identity key")) }
    })
    .await
}

async fn put_sealed(tx: &mut db::Write, id: &AccountId, sealed: &SealedSeed) -> Result<(), StorageError> {
    sqlx::query(
        "UPDATE account SET id = ?, sealed_seed = ?, seal_nonce = ?, kdf_salt = ?,
                            kdf_memory = ?, kdf_passes = ?, kdf_lanes = ?",
    )
    .bind(id.as_str())
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

/// Signs certificate and account record for another term.
pub(super) async fn renew(tx: &mut db::Write, key: &IdentityKey) -> Result<(), StorageError> {
    let (terminal, seal, record): (Vec<u8>, Vec<u8>, Vec<u8>) = sqlx::query_as(
        "SELECT t.terminal_seed, t.seal_seed, a.record_body FROM terminal t JOIN account a ON a.one = t.one",
    )
    .fetch_one(&mut **tx)
    .await?;
    let now = wall_clock();
    let terminal = TerminalKey::from_seed(db::bytes(&terminal, "the terminal's key")?);
    let seal = SealKey::from_seed(db::bytes(&seal, "the terminal's key")?);
    let cert = SignedCert::issue(key, terminal.public(), seal.public(), now);
    let record: AccountRecord = decode(&record, "the account record")?;
    sqlx::query("UPDATE terminal SET cert = ?, cert_until = ?")
        .bind(wire::encode(&cert))
        .bind(db::int(cert_until(&cert, now)?.0))
        .execute(&mut **tx)
        .await?;
    sign_record(tx, key, record, now).await
}

/// Nodes of directories that keep the account's mailbox, if this terminal has found any.
pub(super) async fn mailboxes(tx: &mut db::Write) -> Result<Option<Vec<NodeAddr>>, StorageError> {
    let setting: Option<(String,)> = sqlx::query_as("SELECT value FROM settings WHERE key = ?")
        .bind(letters::MAILBOXES_SETTING)
        .fetch_optional(&mut **tx)
        .await?;
    let mut nodes = setting.map(|(text,)| letters::parse_mailboxes(&text));
    nodes.iter_mut().for_each(|nodes| nodes.truncate(MAX_MAILBOXES));
    Ok(nodes)
}

/// Signs the account's records, later ones than before.
pub(super) async fn sign_record(
    tx: &mut db::Write,
    key: &IdentityKey,
    mut record: AccountRecord,
    now: UnixMillis,
) -> Result<(), StorageError> {
    if let Some(mailboxes) = mailboxes(tx).await? {
        record.mailboxes = mailboxes;
    }
    record.seq = UnixMillis(now.0.max(record.seq.0.saturating_add(1)));
    record.expires = record.seq.plus(ACCOUNT_LIFETIME);
    sqlx::query("UPDATE account SET record = ?, record_body = ?")
        .bind(wire::encode(&record.sign(key)))
        .bind(wire::encode(&record))
        .execute(&mut **tx)
        .await?;
    chosen::renew(tx, key, now).await
}
