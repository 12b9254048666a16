//! Backups: versions that replace one another. The blob is written before the row that points to it, and the replaced one
//! erased after, so that a kill at any moment leaves the old backup or the new one, and at worst a blob too many.

use offhook_proto::identity::IdentityId;
use offhook_proto::wire::UnixMillis;
use sha2::{Digest as _, Sha256};
use sqlx::AnyConnection;
use std::collections::HashSet;

use super::accounts::erase_or_leave;
use super::blobs::Blobs;
use super::{Refused, Store, StoreError, db};

/// Largest backup, bytes.
pub const MAX_BACKUP: usize = 256 * 1024;

/// Reading a backup is tried so often, if it is replaced in between.
const READS: u32 = 5;

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
        // Asked after the change: a copy that is not seen now begins later, and does without the blob. If nobody knows, it is swept later.
        if self.copying_until().await.is_ok_and(|until| until <= now) {
            erase_or_leave(&self.blobs, &replaced.0).await;
        }
    }

    /// Erases blobs that nothing points to and that were written before `before`.
    pub(super) async fn sweep_blobs(&self, now: UnixMillis, before: UnixMillis) -> Result<u64, StoreError> {
        let old = self.blobs.older_than(before).await?;
        if old.is_empty() {
            return Ok(0);
        }
        let pointed_to: HashSet<String> = self.pointed_to().await?.into_iter().collect();
        // In this order: a copy that begins later has no blob that nothing points to now.
        if self.copying_until().await? > now {
            return Ok(0);
        }
        let mut swept = 0;
        for blob in old.iter().filter(|blob| !pointed_to.contains(*blob)) {
            self.blobs.erase(blob).await?;
            swept += 1;
        }
        Ok(swept)
    }
}

/// The blob that was pointed to.
pub(super) struct Replaced(String);

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
    Ok(Replaced(replaced))
}

/// Takes away what points to an account's backup.
pub(super) async fn forget(
    connection: &mut AnyConnection,
    identity: &IdentityId,
) -> Result<Replaced, StoreError> {
    let blob: Option<String> = sqlx::query_scalar("DELETE FROM backups WHERE identity = $1 RETURNING blob")
        .bind(identity.as_bytes().to_vec())
        .fetch_optional(connection)
        .await?;
    Ok(Replaced(blob.ok_or(Refused::NoAccount)?))
}

/// What is stored of a backup beside its bytes.
fn row(stored: &Stored) -> (i64, String, Vec<u8>, i64) {
    (db::int(stored.version), stored.blob.clone(), stored.hash.to_vec(), db::time(stored.stored))
}
