//! Copies of all that is stored, while everything goes on, and whether a file of SQLite is sound.
//!
//! A blob is erased when it is replaced, unless a copy is being made. Each copy says so in a row of its own, with an end that it moves on for
//! as long as it lasts; a killed one's passes.

use std::collections::HashSet;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use offhook_proto::wire::UnixMillis;

use super::blobs::Blobs;
use super::place::{BlobPlace, DatabasePlace};
use super::{Store, StoreError, db};

/// What is kept for a copy stays for so long after it last said that it goes on. It is swept later.
const COPY_TIME: Duration = Duration::from_secs(3_600);
/// A copy says so often that it goes on.
const RENEW: Duration = Duration::from_secs(300);

/// What the names of facts begin with that say until when a copy is made.
const COPYING: &str = "copying ";

/// Names of all blobs that something points to.
const POINTED_TO: &str = "SELECT blob FROM backups UNION ALL SELECT blob FROM mail_blobs";

impl Store {
    /// Copies the database, the backups and the letters into a new folder, while everything goes on. The copy is of one moment. It is opened
    /// like any other store: `directory.sqlite` and `blobs` are in it.
    ///
    /// # Errors
    /// [`StoreError::OtherTools`] of PostgreSQL, [`StoreError::Io`] if the folder is there, or another [`StoreError`].
    pub async fn copy_to(&self, folder: &Path, now: UnixMillis) -> Result<(), StoreError> {
        if !self.is_file() {
            return Err(StoreError::OtherTools);
        }
        self.held(now, RENEW, self.copy_held(folder)).await
    }

    async fn copy_held(&self, folder: &Path) -> Result<(), StoreError> {
        std::fs::DirBuilder::new().mode(0o700).create(folder).map_err(StoreError::io(folder))?;
        let path = folder.join("directory.sqlite");
        self.copy_database(&path).await?;
        let blobs = BlobPlace::Folder(folder.join("blobs"));
        let copy = Self::open(&DatabasePlace::Sqlite(path), &blobs).await?;
        let copied = async {
            for blob in copy.pointed_to().await? {
                let bytes =
                    self.blobs.get(&blob).await?.ok_or(StoreError::Damaged("a backup or a letter"))?;
                copy.blobs.put(&blob, bytes).await?;
            }
            // Of the copy nobody makes one.
            copy.end_copying(format!("{COPYING}%")).await
        };
        let copied = copied.await;
        copy.close().await;
        copied
    }

    /// Copies the backups and letters into `blobs` of a folder, of a database that `dump` copies first. It is told PostgreSQL's name of the moment of
    /// which the copy is to be. Whatever was pointed to at that moment is in the copy: what is replaced meanwhile stays until it is copied.
    ///
    /// # Errors
    /// What `dump` says, [`StoreError::Damaged`] if one of them is missing, or another [`StoreError`].
    pub async fn copy_beside<E: From<StoreError>>(
        &self,
        folder: &Path,
        now: UnixMillis,
        dump: impl AsyncFnOnce(Option<String>) -> Result<(), E>,
    ) -> Result<(), E> {
        let work = async {
            let (mut moment, name) = self.moment().await?;
            let needed = sqlx::query_scalar(POINTED_TO).fetch_all(&mut *moment).await;
            let needed: Vec<String> = needed.map_err(StoreError::from)?;
            dump(name).await?;
            moment.rollback().await.map_err(StoreError::from)?;
            Ok(self.copy_blobs(folder, needed.into_iter().collect()).await?)
        };
        self.held(now, RENEW, work).await
    }

    /// A transaction that sees one moment, and the name by which others can see the same, if there is one.
    async fn moment(&self) -> Result<(sqlx::Transaction<'static, sqlx::Any>, Option<String>), StoreError> {
        if self.is_file() {
            return Ok((self.db.pool().begin().await?, None));
        }
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        let mut moment = self.db.pool().begin_with(begin).await?;
        let name = sqlx::query_scalar("SELECT pg_export_snapshot()").fetch_one(&mut *moment).await?;
        Ok((moment, Some(name)))
    }

    /// All blobs that there are; `needed` ones must be.
    async fn copy_blobs(&self, folder: &Path, mut needed: HashSet<String>) -> Result<(), StoreError> {
        let copy = Blobs::open(&BlobPlace::Folder(folder.join("blobs")))?;
        for blob in self.blobs.older_than(UnixMillis(u64::MAX)).await? {
            // Otherwise it is missing, or nothing points to it any more.
            if let Some(bytes) = self.blobs.get(&blob).await? {
                copy.put(&blob, bytes).await?;
                needed.remove(&blob);
            }
        }
        if needed.is_empty() { Ok(()) } else { Err(StoreError::Damaged("a backup or a letter")) }
    }

    /// Copies SQLite's database, as it is at one moment, into a new file, only for its owner. Nothing of it is in a log beside that.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the file is there already, or another [`StoreError`].
    pub async fn copy_database(&self, to: &Path) -> Result<(), StoreError> {
        let name = to.to_str().ok_or_else(|| StoreError::NoDatabase(to.display().to_string()))?.to_owned();
        // SQLite takes an empty file as it takes none, but leaves its mode.
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to);
        let file = file.map_err(StoreError::io(to))?;
        sqlx::query("VACUUM INTO $1").bind(name).execute(self.db.pool()).await?;
        file.sync_all().map_err(StoreError::io(to))
    }

    /// Takes the backups and letters that something points to from another place, as they are there. What is missing there is missing here.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn take_backups(&self, from: &BlobPlace) -> Result<(), StoreError> {
        let from = Blobs::open(from)?;
        for blob in self.pointed_to().await? {
            if let Some(bytes) = from.get(&blob).await? {
                self.blobs.put(&blob, bytes).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn pointed_to(&self) -> Result<Vec<String>, StoreError> {
        Ok(sqlx::query_scalar(POINTED_TO).fetch_all(self.db.pool()).await?)
    }

    /// Whether all of SQLite's file is sound. PostgreSQL sees to its own.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it is not, or another [`StoreError`].
    pub async fn check_file(&self) -> Result<(), StoreError> {
        if !self.is_file() {
            return Ok(());
        }
        let said: String = sqlx::query_scalar(db::INTEGRITY).fetch_one(self.db.pool()).await?;
        sound(&said)
    }

    /// Whether a file is a sound database of SQLite, which nobody has open. Nothing is left beside it.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it is not, or another [`StoreError`].
    pub async fn check_database(path: &Path) -> Result<(), StoreError> {
        sound(&db::check_sqlite(path).await?)
    }

    /// Does `work` while nothing that is replaced is erased.
    async fn held<T, E: From<StoreError>>(
        &self,
        now: UnixMillis,
        every: Duration,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let (name, begun) =
            (format!("{COPYING}{}", HEXLOWER.encode(&rand::random::<[u8; 16]>())), Instant::now());
        self.set_copying(&name, now).await?;
        let renewing = async {
            loop {
                tokio::time::sleep(every).await;
                if let Err(error) = self.set_copying(&name, now.plus(begun.elapsed())).await {
                    return error;
                }
            }
        };
        let done = tokio::select! {
            done = work => done,
            error = renewing => Err(error.into()),
        };
        let ended = self.end_copying(name).await;
        let done = done?;
        ended?;
        Ok(done)
    }

    /// A copy goes on; those that have ended without saying so are forgotten.
    async fn set_copying(&self, name: &str, now: UnixMillis) -> Result<(), StoreError> {
        let (name, until) = (name.to_owned(), now.plus(COPY_TIME));
        let change = self.db.write(move |connection| {
            Box::pin(async move {
                let rows: Vec<(String, Vec<u8>)> =
                    sqlx::query_as("SELECT name, value FROM facts WHERE name LIKE $1")
                        .bind(format!("{COPYING}%"))
                        .fetch_all(&mut *connection)
                        .await?;
                for (other, value) in rows {
                    if other != name && moment(&value)? <= now {
                        let forget = sqlx::query("DELETE FROM facts WHERE name = $1").bind(other);
                        forget.execute(&mut *connection).await?;
                    }
                }
                sqlx::query(
                    "INSERT INTO facts (name, value) VALUES ($1, $2) \
                     ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                )
                .bind(name)
                .bind(until.0.to_be_bytes().to_vec())
                .execute(connection)
                .await?;
                Ok(())
            })
        });
        change.await
    }

    /// Copies whose names are like this one have ended.
    async fn end_copying(&self, name: String) -> Result<(), StoreError> {
        let change = self.db.write(move |connection| {
            Box::pin(async move {
                sqlx::query("DELETE FROM facts WHERE name LIKE $1").bind(name).execute(connection).await?;
                Ok(())
            })
        });
        change.await
    }

    /// Until when what is replaced stays, for the copy that lasts longest.
    pub(super) async fn copying_until(&self) -> Result<UnixMillis, StoreError> {
        let values: Vec<Vec<u8>> = sqlx::query_scalar("SELECT value FROM facts WHERE name LIKE $1")
            .bind(format!("{COPYING}%"))
            .fetch_all(self.db.pool())
            .await?;
        let ends: Result<Vec<_>, StoreError> = values.iter().map(|value| moment(value)).collect();
        Ok(ends?.into_iter().max().unwrap_or(UnixMillis(0)))
    }
}

fn moment(value: &[u8]) -> Result<UnixMillis, StoreError> {
    Ok(UnixMillis(u64::from_be_bytes(db::bytes(value, "a time")?)))
}

fn sound(said: &str) -> Result<(), StoreError> {
    if said == "ok" { Ok(()) } else { Err(StoreError::Damaged("the database")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_copy_that_lasts_keeps_what_it_needs_for_longer() {
        let folder = tempfile::tempdir().expect("folder");
        let at = |name: &str| folder.path().join(name);
        let places = (DatabasePlace::Sqlite(at("x.sqlite")), BlobPlace::Folder(at("blobs")));
        let store = Store::open(&places.0, &places.1).await.expect("opened");
        let now = UnixMillis(1_000_000);
        let lasts = async {
            while store.copying_until().await? <= now.plus(COPY_TIME) {
                tokio::task::yield_now().await;
            }
            Ok::<_, StoreError>(())
        };
        store.held(now, Duration::from_millis(1), lasts).await.expect("it was renewed");
        assert_eq!(store.copying_until().await.expect("read"), UnixMillis(0), "it has ended");
    }
}
