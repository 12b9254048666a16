//! Directories that keep the account's backup, and the key by which a terminal does that without anybody's help.

use super::content::Content;
use super::{AccountId, AccountStore, StorageError, db};
use offhook_proto::backup;
use offhook_proto::identity::{DirectoryId, IdentityKey};
use offhook_proto::wire::UnixMillis;

/// Most directories at which an account may be signed up from one terminal. Several that have not heard of each other may come to more,
/// of which none gets lost ([`backup::MAX_DIRECTORIES`]).
pub const MAX_DIRECTORIES: usize = 3;

/// A directory that keeps the account's backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownDirectory {
    /// Its name, as it stands behind the ID.
    pub name: String,
    /// Where its API is asked, without a slash at the end.
    pub url: String,
    /// Its key.
    pub directory: DirectoryId,
    /// The account's ID there.
    pub id: AccountId,
    /// The newest backup that was seen there: an older one is not taken.
    pub version: u64,
    /// When that was put there or fetched.
    pub backed_up: UnixMillis,
    /// What is in it.
    pub base: Content,
    /// Digest of the backup that this is of ([`offhook_proto::backup::Backup::digest`]); none if nothing there was seen yet.
    pub seen: Option<[u8; 32]>,
    /// Since when the account is with it.
    pub added: UnixMillis,
    /// What is here could not be put there last: it is more than a backup has room for ([`backup::MAX_BACKUP_BYTES`]).
    pub is_too_large: bool,
}

impl AccountStore {
    /// The directories that keep the account's backup, the first one first.
    ///
    /// # Errors
    /// [`StorageError::Database`] or [`StorageError::Damaged`].
    pub async fn directories(&self) -> Result<Vec<KnownDirectory>, StorageError> {
        type Row = (String, String, Vec<u8>, String, i64, i64, String, Option<Vec<u8>>, i64, bool);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT name, url, directory, id, version, backed_up, base, seen, added, too_large FROM directories
             ORDER BY added, name",
        )
        .fetch_all(self.pool())
        .await?;
        let read = |(name, url, directory, id, version, backed_up, base, seen, added, too_large): Row| {
            Ok(KnownDirectory {
                name,
                url,
                directory: DirectoryId::from_bytes(db::bytes(&directory, "a directory")?),
                id: id.parse().map_err(|_| StorageError::Damaged("a directory"))?,
                version: db::uint(version),
                backed_up: UnixMillis(db::uint(backed_up)),
                base: serde_json::from_str(&base).map_err(|_| StorageError::Damaged("a directory"))?,
                seen: seen.map(|seen| db::bytes(&seen, "a directory")).transpose()?,
                added: UnixMillis(db::uint(added)),
                is_too_large: too_large,
            })
        };
        rows.into_iter().map(read).collect()
    }

    /// Remembers a directory, or what its newest backup is.
    ///
    /// # Errors
    /// [`StorageError::TooLarge`] for more than a backup has room for, [`StorageError::Database`].
    pub async fn put_directory(&self, directory: &KnownDirectory) -> Result<(), StorageError> {
        let mut tx = db::write(self.pool()).await?;
        put(&mut tx, directory).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Forgets a directory.
    ///
    /// # Errors
    /// [`StorageError::Database`].
    pub async fn remove_directory(&self, name: &str) -> Result<(), StorageError> {
        sqlx::query("DELETE FROM directories WHERE name = ?").bind(name).execute(self.pool()).await?;
        Ok(())
    }

    /// The identity key, if the account may use it without its password.
    ///
    /// # Errors
    /// [`StorageError::Database`] or [`StorageError::Damaged`].
    pub async fn unattended_key(&self) -> Result<Option<IdentityKey>, StorageError> {
        let row: Option<(Vec<u8>,)> =
            sqlx::query_as("SELECT identity_seed FROM unattended").fetch_optional(self.pool()).await?;
        let key = row
            .map(|(seed,)| db::bytes(&seed, "the identity key").map(IdentityKey::from_seed))
            .transpose()?;
        match key {
            Some(key) if key.public() != self.identity() => Err(StorageError::Damaged("the identity key")),
            key => Ok(key),
        }
    }

    /// Lets the account renew its papers and keep its backup up by itself from now on, or no longer.
    ///
    /// # Errors
    /// [`StorageError::Database`].
    pub async fn set_unattended(&self, key: Option<&IdentityKey>) -> Result<(), StorageError> {
        let mut tx = db::write(self.pool()).await?;
        put_unattended(&mut tx, key).await?;
        tx.commit().await?;
        // A key that was taken away must not stay readable in the log.
        self.changed();
        db::empty_log(self.pool()).await
    }
}

pub(super) async fn put(tx: &mut db::Write, directory: &KnownDirectory) -> Result<(), StorageError> {
    // One that is met by another name is the same by its key.
    sqlx::query("DELETE FROM directories WHERE directory = ? AND name <> ?")
        .bind(directory.directory.as_bytes().as_slice())
        .bind(&directory.name)
        .execute(&mut **tx)
        .await?;
    let (others,): (i64,) = sqlx::query_as("SELECT count(*) FROM directories WHERE name <> ?")
        .bind(&directory.name)
        .fetch_one(&mut **tx)
        .await?;
    if db::uint(others) >= backup::MAX_DIRECTORIES as u64 {
        return Err(StorageError::TooLarge("The list of directories"));
    }
    let base = serde_json::to_string(&directory.base)
        .map_err(|_| StorageError::Internal("a backup could not be written"))?;
    sqlx::query(
        "INSERT INTO directories (name, url, directory, id, version, backed_up, base, seen, added, too_large)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (name) DO UPDATE SET url = excluded.url, directory = excluded.directory, id = excluded.id,
             version = excluded.version, backed_up = excluded.backed_up, base = excluded.base, seen = excluded.seen,
             added = excluded.added, too_large = excluded.too_large",
    )
    .bind(&directory.name)
    .bind(&directory.url)
    .bind(directory.directory.as_bytes().as_slice())
    .bind(directory.id.as_str())
    .bind(db::int(directory.version))
    .bind(db::int(directory.backed_up.0))
    .bind(base)
    .bind(directory.seen.map(|seen| seen.to_vec()))
    .bind(db::int(directory.added.0))
    .bind(directory.is_too_large)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn put_unattended(
    tx: &mut db::Write,
    key: Option<&IdentityKey>,
) -> Result<(), StorageError> {
    match key {
        Some(key) => sqlx::query(
            "INSERT INTO unattended (one, identity_seed) VALUES (1, ?)
             ON CONFLICT (one) DO UPDATE SET identity_seed = excluded.identity_seed",
        )
        .bind(key.seed().to_vec()),
        None => sqlx::query("DELETE FROM unattended"),
    }
    .execute(&mut **tx)
    .await?;
    Ok(())
}
