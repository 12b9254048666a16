//! The keys of directories: which one stands behind a DNS name.

use super::{AccountStore, StorageError, db};
use crate::clock::wall_clock;
use offhook_proto::descriptor::{Descriptor, SignedDescriptor};
use offhook_proto::identity::DirectoryId;
use offhook_proto::number::{ChosenNumber, Number};
use offhook_proto::wire::UnixMillis;
use sqlx::SqliteConnection;

/// Most directories remembered. Only what the user dials adds one; the one used longest ago goes first, never a contact's.
pub const MAX_KNOWN_DIRECTORIES: u32 = 1_000;

/// Setting under which the directory of numbers without one is kept, where the user has chosen one.
const HOME_SETTING: &str = "home_directory";

/// A directory whose key is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedDirectory {
    /// Its DNS name.
    pub name: String,
    /// Its key. Only numbers of this one are dialled.
    pub directory: DirectoryId,
    /// The latest that it said of itself, if anything is known.
    pub descriptor: Option<SignedDescriptor>,
    /// Another key that its site has named, and that waits for the user's word.
    pub offered: Option<DirectoryId>,
    /// When its site and the network were last asked.
    pub asked: UnixMillis,
}

/// How a directory's key compares with the remembered one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectoryPin {
    /// Nothing was remembered for the name before.
    New,
    /// It is the remembered key.
    Matches,
    /// It is another one, which is kept as offered.
    Differs {
        /// The remembered one.
        pinned: DirectoryId,
    },
}

type Row = (Vec<u8>, Option<Vec<u8>>, Option<Vec<u8>>, i64);

impl AccountStore {
    /// What is remembered of the directory behind a DNS name (in lower case). Those that the account itself is with are known
    /// without having been dialled.
    ///
    /// # Errors
    /// [`StorageError::Database`] or [`StorageError::Damaged`].
    pub async fn known_directory(&self, name: &str) -> Result<Option<PinnedDirectory>, StorageError> {
        let mut db = self.pool().acquire().await?;
        known(&mut db, name).await
    }

    /// All directories that are remembered, by name.
    ///
    /// # Errors
    /// [`StorageError::Database`] or [`StorageError::Damaged`].
    pub async fn known_directories(&self) -> Result<Vec<PinnedDirectory>, StorageError> {
        let names: Vec<(String,)> = sqlx::query_as(
            "SELECT name FROM known_directories UNION SELECT name FROM directories ORDER BY 1",
        )
        .fetch_all(self.pool())
        .await?;
        let mut known = Vec::with_capacity(names.len());
        for (name,) in names {
            known.extend(self.known_directory(&name).await?);
        }
        Ok(known)
    }

    /// Remembers the key of a directory if the name has none yet, with what it says of itself. Another key never takes the remembered
    /// one's place by itself: it is kept as offered. Nor does an older descriptor that of a newer one.
    ///
    /// # Errors
    /// [`StorageError::Database`] or [`StorageError::Damaged`].
    pub async fn pin_directory(
        &self,
        name: &str,
        directory: &DirectoryId,
        descriptor: Option<&SignedDescriptor>,
    ) -> Result<DirectoryPin, StorageError> {
        let mut tx = db::write(self.pool()).await?;
        let before = known(&mut tx, name).await?;
        let pin = match &before {
            Some(known) if known.directory != *directory => {
                let pinned = known.directory;
                put_known(&mut tx, name, &pinned, None, Some(directory)).await?;
                DirectoryPin::Differs { pinned }
            }
            Some(_) | None => {
                let held = before.as_ref().and_then(|known| known.descriptor.as_ref());
                let newer =
                    descriptor.filter(|told| !held.is_some_and(|held| is_newer(directory, held, told)));
                let is_new = put_known(&mut tx, name, directory, newer, None).await?;
                if is_new { DirectoryPin::New } else { DirectoryPin::Matches }
            }
        };
        tx.commit().await?;
        Ok(pin)
    }

    /// The user accepts the other key that a directory's site has named: it is the remembered one from now on.
    ///
    /// # Errors
    /// [`StorageError::NothingToConfirm`] if there is none.
    pub async fn confirm_directory(&self, name: &str) -> Result<DirectoryId, StorageError> {
        let offered = self.known_directory(name).await?.and_then(|known| known.offered);
        let offered = offered.ok_or(StorageError::NothingToConfirm)?;
        let mut tx = db::write(self.pool()).await?;
        let done = sqlx::query(
            "UPDATE known_directories SET directory = offered, descriptor = NULL, offered = NULL, asked = 0
             WHERE name = ? AND offered = ?",
        )
        .bind(name)
        .bind(offered.as_bytes().as_slice())
        .execute(&mut *tx)
        .await?;
        if done.rows_affected() == 1 {
            // It may keep the account's backup, too.
            sqlx::query("UPDATE directories SET directory = ? WHERE name = ?")
                .bind(offered.as_bytes().as_slice())
                .bind(name)
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(offered)
    }

    /// The directory of numbers without one: the one that the user has chosen, or else the account's first one, or else the one that
    /// has issued its first chosen number. One that is known by host and port only has no numbers.
    ///
    /// # Errors
    /// [`StorageError::Database`] or [`StorageError::Damaged`].
    pub async fn home_directory(&self) -> Result<Option<String>, StorageError> {
        if let Some(chosen) = self.setting(HOME_SETTING).await? {
            return Ok(Some(chosen));
        }
        let first: Option<(String,)> = sqlx::query_as(
            "SELECT name FROM (SELECT name, 0 AS rank, added FROM directories WHERE instr(name, ':') = 0
                               UNION ALL SELECT directory, 1, 0 FROM chosen)
             ORDER BY rank, added, name LIMIT 1",
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(first.map(|(name,)| name))
    }

    /// Chooses the directory of numbers without one; `None`: the account's own again.
    ///
    /// # Errors
    /// [`StorageError::Database`].
    pub async fn set_home_directory(&self, name: Option<&str>) -> Result<(), StorageError> {
        self.set_setting(HOME_SETTING, name).await
    }

    /// A number in its full form, as far as a home directory is known.
    pub(super) async fn in_full(&self, number: Number) -> Result<Number, StorageError> {
        match number {
            Number::Chosen(ref chosen) if chosen.directory().is_none() => {
                match self.home_directory().await? {
                    Some(home) => Ok(Number::Chosen(with_directory(chosen, &home)?)),
                    None => Ok(number),
                }
            }
            Number::Plain(_) | Number::Chosen(_) => Ok(number),
        }
    }

    /// Whether it is one of the account's own numbers.
    pub(super) async fn is_own(&self, number: &Number) -> Result<bool, StorageError> {
        if number == self.number() {
            return Ok(true);
        }
        let found: Option<(i64,)> = sqlx::query_as("SELECT 1 FROM chosen WHERE number = ?")
            .bind(number.canonical())
            .fetch_optional(self.pool())
            .await?;
        Ok(found.is_some())
    }
}

async fn known(db: &mut SqliteConnection, name: &str) -> Result<Option<PinnedDirectory>, StorageError> {
    let row: Option<Row> =
        sqlx::query_as("SELECT directory, descriptor, offered, asked FROM known_directories WHERE name = ?")
            .bind(name)
            .fetch_optional(&mut *db)
            .await?;
    if let Some(row) = row {
        return PinnedDirectory::from_row(name, row).map(Some);
    }
    // That of a directory that keeps the account's backup. Certificates prove nothing here: whoever issues one chooses the name in it.
    let own: Option<(Vec<u8>,)> = sqlx::query_as("SELECT directory FROM directories WHERE name = ?")
        .bind(name)
        .fetch_optional(db)
        .await?;
    own.map(|(key,)| PinnedDirectory::from_row(name, (key, None, None, 0))).transpose()
}

/// Whether one descriptor of a directory is newer than another. They may be over by now.
fn is_newer(directory: &DirectoryId, descriptor: &SignedDescriptor, other: &SignedDescriptor) -> bool {
    let key = Descriptor::key(directory);
    match (descriptor.verify_kept(&key), other.verify_kept(&key)) {
        (Ok(descriptor), Ok(other)) => descriptor.is_newer_than(&other),
        (Ok(_), Err(_)) => true,
        (Err(_), _) => false,
    }
}

/// Writes what is known of a directory; what is not given stays. Whether it is new.
async fn put_known(
    tx: &mut db::Write,
    name: &str,
    directory: &DirectoryId,
    descriptor: Option<&SignedDescriptor>,
    offered: Option<&DirectoryId>,
) -> Result<bool, StorageError> {
    let now = db::int(wall_clock().0);
    let (before,): (i64,) = sqlx::query_as("SELECT count(*) FROM known_directories WHERE name = ?")
        .bind(name)
        .fetch_one(&mut **tx)
        .await?;
    sqlx::query(
        "INSERT INTO known_directories (name, directory, descriptor, offered, asked, used)
         VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT (name) DO UPDATE SET descriptor = coalesce(excluded.descriptor, descriptor),
             offered = coalesce(excluded.offered, offered), asked = excluded.asked, used = excluded.used",
    )
    .bind(name)
    .bind(directory.as_bytes().as_slice())
    .bind(descriptor.map(SignedDescriptor::to_bytes))
    .bind(offered.map(|offered| offered.as_bytes().to_vec()))
    .bind(now)
    .bind(now)
    .execute(&mut **tx)
    .await?;
    sqlx::query(
        "DELETE FROM known_directories WHERE name IN (
             SELECT name FROM known_directories k WHERE NOT EXISTS
                 (SELECT 1 FROM contacts WHERE substr(number, instr(number, '@') + 1) = k.name)
             ORDER BY used DESC, name LIMIT -1 OFFSET ?)",
    )
    .bind(MAX_KNOWN_DIRECTORIES)
    .execute(&mut **tx)
    .await?;
    Ok(before == 0)
}

fn with_directory(chosen: &ChosenNumber, home: &str) -> Result<ChosenNumber, StorageError> {
    chosen.with_directory(home).map_err(|_| StorageError::Damaged("the home directory"))
}

impl PinnedDirectory {
    fn from_row(name: &str, (key, descriptor, offered, asked): Row) -> Result<Self, StorageError> {
        let id = |key: &[u8]| db::bytes(key, "a directory").map(DirectoryId::from_bytes);
        Ok(Self {
            name: name.to_owned(),
            directory: id(&key)?,
            // One that cannot be read any more is fetched again.
            descriptor: descriptor.and_then(|bytes| SignedDescriptor::from_bytes(&bytes).ok()),
            offered: offered.as_deref().map(id).transpose()?,
            asked: UnixMillis(db::uint(asked)),
        })
    }
}
