//! Backups: versions that replace one another. The blob is written before the row that points to it, and the replaced one
//! erased after, so that a kill at any moment leaves the old backup or the new one, and at worst a blob too many.

use offhook_proto::identity::IdentityId;
use offhook_proto::wire::UnixMillis;
use sha2::{Digest as _, Sha256};
use sqlx::AnyConnection;
use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use super::accounts::erase_or_leave;
use super::blobs::Blobs;
use super::place::{BlobPlace, DatabasePlace};
use super::{Refused, Store, StoreError, db};

/// Largest backup, bytes.
pub const MAX_BACKUP: usize = 256 * 1024;

/// Reading a backup is tried so often, if it is replaced in between.
const READS: u32 = 5;

/// While a copy of the store is made, replaced blobs stay for it; a copy takes at most so long. They are swept later.
const COPY_TIME: Duration = Duration::from_secs(3_600);

/// The name of the fact that says until when a copy is made.
const COPYING: &str = "copying until";

/// A backup as it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Backup {
    /// Its version.
    pub version: u64,
    /// The encrypted bytes.
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for Backup {
    /// Without its bytes.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Backup {{ version: {}, {} bytes }}", self.version, self.bytes.len())
    }
}

/// A blob that is written, to be pointed to.
pub(super) struct Stored {
    pub(super) version: u64,
    pub(super) blob: String,
    pub(super) hash: [u8; 32],
    pub(super) stored: UnixMillis,
}

impl Store {
    /// Replaces a backup by its successor.
    ///
    /// # Errors
    /// [`Refused::Version`] unless it is the stored one's, [`Refused::NoAccount`], or another [`StoreError`].
    pub async fn put_backup(
        &self,
        identity: &IdentityId,
        version: u64,
        backup: Vec<u8>,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let stored = self.store_blob(identity, version, backup, now).await?;
        let (identity, blob) = (*identity, stored.blob.clone());
        let change = self
            .db
            .write(move |connection| Box::pin(async move { replace(connection, &identity, &stored).await }));
        self.replace_blob_if(&blob, change.await, now).await
    }

    /// The backup of an identity; `None` if it has no account.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the blob is not what was stored, or another [`StoreError`].
    pub async fn backup(&self, identity: &IdentityId) -> Result<Option<Backup>, StoreError> {
        for _ in 0..READS {
            let row: Option<(i64, String, Vec<u8>)> =
                sqlx::query_as("SELECT version, blob, hash FROM backups WHERE identity = $1")
                    .bind(identity.as_bytes().to_vec())
                    .fetch_optional(self.db.pool())
                    .await?;
            let Some((version, blob, hash)) = row else { return Ok(None) };
            // Otherwise it has been replaced in between.
            if let Some(bytes) = self.blobs.get(&blob).await? {
                if Sha256::digest(&bytes)[..] != hash[..] {
                    return Err(StoreError::Damaged("a backup"));
                }
                return Ok(Some(Backup { version: db::uint(version), bytes }));
            }
        }
        Err(StoreError::Damaged("a backup"))
    }

    pub(super) async fn store_blob(
        &self,
        identity: &IdentityId,
        version: u64,
        backup: Vec<u8>,
        now: UnixMillis,
    ) -> Result<Stored, StoreError> {
        let (blob, hash) = (Blobs::new_name(identity, version), Sha256::digest(&backup).into());
        self.blobs.put(&blob, backup).await?;
        Ok(Stored { version, blob, hash, stored: now })
    }

    /// Erases a blob again if nothing points to it, because the change did not come about.
    pub(super) async fn keep_blob_if<T>(
        &self,
        blob: &str,
        change: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        // Of another error it is not known whether the change came about; if it did not, the blob is swept later.
        if let Err(StoreError::Refused(_)) = &change {
            erase_or_leave(&self.blobs, blob).await;
        }
        change
    }

    /// The same, and erases the blob that has been replaced.
    pub(super) async fn replace_blob_if(
        &self,
        blob: &str,
        change: Result<Replaced, StoreError>,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let replaced = self.keep_blob_if(blob, change).await?;
        self.erase_replaced(replaced, now).await;
        Ok(())
    }

    pub(super) async fn erase_replaced(&self, replaced: Replaced, now: UnixMillis) {
        if replaced.copying_until <= now {
            erase_or_leave(&self.blobs, &replaced.blob).await;
        }
    }

    /// Erases blobs that nothing points to and that were written before `before`.
    pub(super) async fn sweep_blobs(&self, now: UnixMillis, before: UnixMillis) -> Result<u64, StoreError> {
        let old = self.blobs.older_than(before).await?;
        if old.is_empty() || self.copying_until().await? > now {
            return Ok(0);
        }
        let rows = sqlx::query_scalar("SELECT blob FROM backups").fetch_all(self.db.pool()).await?;
        let pointed_to: HashSet<String> = rows.into_iter().collect();
        let mut swept = 0;
        for blob in old.iter().filter(|blob| !pointed_to.contains(*blob)) {
            self.blobs.erase(blob).await?;
            swept += 1;
        }
        Ok(swept)
    }

    /// Copies the database and the backups into an empty folder, while everything goes on. The copy is of one moment. It is opened
    /// like any other store: `directory.sqlite` and `blobs` are in it.
    ///
    /// # Errors
    /// [`StoreError::OtherTools`] of PostgreSQL, or another [`StoreError`].
    pub async fn copy_to(&self, folder: &Path, now: UnixMillis) -> Result<(), StoreError> {
        if self.db.path().is_none() {
            return Err(StoreError::OtherTools);
        }
        self.set_copying(now.plus(COPY_TIME)).await?;
        let copied = self.copy_held(folder).await;
        self.set_copying(UnixMillis(0)).await?;
        copied
    }

    async fn copy_held(&self, folder: &Path) -> Result<(), StoreError> {
        use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(StoreError::io(folder))?;
        let path = folder.join("directory.sqlite");
        let name =
            path.to_str().ok_or_else(|| StoreError::NoDatabase(path.display().to_string()))?.to_owned();
        sqlx::query("VACUUM INTO $1").bind(name).execute(self.db.pool()).await?;
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, mode).map_err(StoreError::io(&path))?;
        let file = std::fs::File::open(&path).map_err(StoreError::io(&path))?;
        file.sync_all().map_err(StoreError::io(&path))?;
        let blobs = BlobPlace::Folder(folder.join("blobs"));
        let copy = Self::open(&DatabasePlace::Sqlite(path), &blobs).await?;
        let rows = sqlx::query_scalar("SELECT blob FROM backups").fetch_all(copy.db.pool()).await?;
        let rows: Vec<String> = rows;
        for blob in rows {
            let bytes = self.blobs.get(&blob).await?.ok_or(StoreError::Damaged("a backup"))?;
            copy.blobs.put(&blob, bytes).await?;
        }
        copy.set_copying(UnixMillis(0)).await?;
        copy.close().await;
        Ok(())
    }

    /// Copies the backups into `blobs` of a folder, of a database that `dump` copies first. Whatever that has seen is there: what is replaced
    /// meanwhile stays until it is copied.
    ///
    /// # Errors
    /// What `dump` says, or a [`StoreError`].
    pub async fn copy_beside<E: From<StoreError>>(
        &self,
        folder: &Path,
        now: UnixMillis,
        dump: impl AsyncFnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        self.set_copying(now.plus(COPY_TIME)).await?;
        let copied = match dump().await {
            Ok(()) => self.copy_blobs(folder).await.map_err(E::from),
            Err(error) => Err(error),
        };
        self.set_copying(UnixMillis(0)).await?;
        copied
    }

    async fn copy_blobs(&self, folder: &Path) -> Result<(), StoreError> {
        let copy = Blobs::open(&BlobPlace::Folder(folder.join("blobs")))?;
        for blob in self.blobs.older_than(UnixMillis(u64::MAX)).await? {
            // Otherwise nothing has pointed to it any more.
            if let Some(bytes) = self.blobs.get(&blob).await? {
                copy.put(&blob, bytes).await?;
            }
        }
        Ok(())
    }

    /// Whether all of SQLite's file is sound. PostgreSQL sees to its own.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it is not, or another [`StoreError`].
    pub async fn check_file(&self) -> Result<(), StoreError> {
        if !self.is_file() {
            return Ok(());
        }
        let said: String = sqlx::query_scalar("SELECT integrity_check FROM pragma_integrity_check LIMIT 1")
            .fetch_one(self.db.pool())
            .await?;
        if said == "ok" { Ok(()) } else { Err(StoreError::Damaged("the database")) }
    }

    async fn set_copying(&self, until: UnixMillis) -> Result<(), StoreError> {
        let change = self.db.write(move |connection| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO facts (name, value) VALUES ($1, $2) \
                     ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                )
                .bind(COPYING)
                .bind(until.0.to_be_bytes().to_vec())
                .execute(connection)
                .await?;
                Ok(())
            })
        });
        change.await
    }

    async fn copying_until(&self) -> Result<UnixMillis, StoreError> {
        let value: Option<Vec<u8>> =
            sqlx::query_scalar(SELECT_FACT).bind(COPYING).fetch_optional(self.db.pool()).await?;
        moment(value)
    }
}

const SELECT_FACT: &str = "SELECT value FROM facts WHERE name = $1";

fn moment(value: Option<Vec<u8>>) -> Result<UnixMillis, StoreError> {
    let value = value.map(|value| db::bytes(&value, "a time")).transpose()?;
    Ok(UnixMillis(u64::from_be_bytes(value.unwrap_or_default())))
}

/// The blob that was pointed to, and until when it may not be erased.
pub(super) struct Replaced {
    blob: String,
    copying_until: UnixMillis,
}

pub(super) async fn insert(
    connection: &mut AnyConnection,
    identity: &IdentityId,
    stored: &Stored,
) -> Result<(), StoreError> {
    let (version, blob, hash, at) = row(stored);
    sqlx::query("INSERT INTO backups (identity, version, blob, hash, stored) VALUES ($1, $2, $3, $4, $5)")
        .bind(identity.as_bytes().to_vec())
        .bind(version)
        .bind(blob)
        .bind(hash)
        .bind(at)
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn replace(
    connection: &mut AnyConnection,
    identity: &IdentityId,
    stored: &Stored,
) -> Result<Replaced, StoreError> {
    let before: Option<(i64, String)> =
        sqlx::query_as("SELECT version, blob FROM backups WHERE identity = $1")
            .bind(identity.as_bytes().to_vec())
            .fetch_optional(&mut *connection)
            .await?;
    let Some((before, replaced)) = before else { return Err(Refused::NoAccount.into()) };
    let (version, blob, hash, at) = row(stored);
    // Another may have replaced it since it was read: then no row has that version.
    let changed = sqlx::query(
        "UPDATE backups SET version = $2, blob = $3, hash = $4, stored = $5 WHERE identity = $1 AND version = $6 AND $2 = $6 + 1",
    )
    .bind(identity.as_bytes().to_vec())
    .bind(version)
    .bind(blob)
    .bind(hash)
    .bind(at)
    .bind(before)
    .execute(&mut *connection)
    .await?;
    if changed.rows_affected() == 0 {
        let stored: Option<i64> = sqlx::query_scalar("SELECT version FROM backups WHERE identity = $1")
            .bind(identity.as_bytes().to_vec())
            .fetch_optional(connection)
            .await?;
        let refused =
            stored.map_or(Refused::NoAccount, |stored| Refused::Version { stored: db::uint(stored) });
        return Err(refused.into());
    }
    let until = sqlx::query_scalar(SELECT_FACT).bind(COPYING).fetch_optional(connection).await?;
    Ok(Replaced { blob: replaced, copying_until: moment(until)? })
}

/// Takes away what points to an account's backup.
pub(super) async fn forget(
    connection: &mut AnyConnection,
    identity: &IdentityId,
) -> Result<Replaced, StoreError> {
    let blob: Option<String> = sqlx::query_scalar("DELETE FROM backups WHERE identity = $1 RETURNING blob")
        .bind(identity.as_bytes().to_vec())
        .fetch_optional(&mut *connection)
        .await?;
    let Some(blob) = blob else { return Err(Refused::NoAccount.into()) };
    let until = sqlx::query_scalar(SELECT_FACT).bind(COPYING).fetch_optional(connection).await?;
    Ok(Replaced { blob, copying_until: moment(until)? })
}

/// What is stored of a backup beside its bytes.
fn row(stored: &Stored) -> (i64, String, Vec<u8>, i64) {
    (db::int(stored.version), stored.blob.clone(), stored.hash.to_vec(), db::time(stored.stored))
}
