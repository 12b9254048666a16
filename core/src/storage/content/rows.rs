//! Contents in the account's file.

use super::{Content, DirectoryAt, Merged, PinnedKey, hex, revoked, unhex};
use crate::clock::wall_clock;
use crate::sites::is_of_this_host;
use crate::storage::account::decode;
use crate::storage::contacts::{check_name, name_key};
use crate::storage::pins::pin_backed_up;
use crate::storage::settings::BACKED_UP;
use crate::storage::{
    AccountId, AccountStore, KnownDirectory, MAX_CONTACT_NAME, StorageError, db, directories,
};
use data_encoding::HEXLOWER;
use offhook_proto::backup::MAX_PINS;
use offhook_proto::identity::Fingerprint;
use offhook_proto::number::Number;
use offhook_proto::record::AccountRecord;
use sqlx::SqliteConnection;
use std::collections::BTreeMap;

/// Most pinned keys of strangers in a backup. Those of contacts and verified people are all in it.
const MAX_STRANGERS: usize = 512;
/// How often another name is tried for a contact whose name somebody else has here.
const NAME_TRIES: u32 = 100;

/// Another key for a number than the one that counts, by another terminal of the account. It is kept for the user's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedKey {
    /// The number.
    pub number: Number,
    /// The key that counts until the user has confirmed the other one.
    pub pinned: Fingerprint,
    /// The other one.
    pub offered: Fingerprint,
}

/// What has come of another terminal's content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TakenUp {
    /// Something is another way here than it was.
    pub(crate) is_news: bool,
    /// Keys about which the user has to be asked. They are kept already.
    pub(crate) offered: Vec<OfferedKey>,
}

impl AccountStore {
    /// What a backup takes along.
    ///
    /// # Errors
    /// [`StorageError::Database`].
    pub async fn content(&self) -> Result<Content, StorageError> {
        let mut db = self.pool().acquire().await?;
        read(&mut db, None).await
    }

    /// The same, for the backup at a directory: of strangers, those that are in it stay.
    ///
    /// # Errors
    /// [`StorageError::Database`].
    pub async fn content_at(&self, known: &KnownDirectory) -> Result<Content, StorageError> {
        let mut db = self.pool().acquire().await?;
        read(&mut db, Some(known)).await
    }

    /// Whether something here is another way than in the backup at a directory.
    ///
    /// # Errors
    /// [`StorageError::Database`].
    pub async fn has_changed(&self, known: &KnownDirectory) -> Result<bool, StorageError> {
        Ok(self.content_at(known).await? != known.base)
    }

    /// Takes up what another terminal has made of `base`, and remembers in the same moment that it was seen: a kill between the two would
    /// have it merged twice, or not at all. Nothing that is written here meanwhile is lost.
    ///
    /// # Errors
    /// [`StorageError::Database`].
    pub(crate) async fn merge_content(
        &self,
        base: &Content,
        seen: &KnownDirectory,
    ) -> Result<TakenUp, StorageError> {
        let there = &seen.base;
        let mut tx = db::write(self.pool()).await?;
        directories::put(&mut tx, seen).await?;
        let mut here = read(&mut tx, Some(seen)).await?;
        // Of strangers that the backup has no room for, too, another key takes no pinned one's place unseen.
        for number in there.pins.keys() {
            if !here.pins.contains_key(number) {
                here.pins.extend(read_pin(&mut tx, number).await?.map(|pin| (number.clone(), pin)));
            }
        }
        let mut merged = here.merged(base, there);
        // Whoever has put something there is with it, whatever it says.
        let key = hex(seen.directory.as_bytes());
        if let Some(own) = here.directories.get(&key) {
            merged.content.directories.entry(key).or_insert_with(|| own.clone());
        }
        let is_news = merged.content != here || !merged.offered.is_empty();
        if is_news {
            put(&mut tx, &merged).await?;
        }
        tx.commit().await?;
        let offered = merged.offered.iter().map(|(number, offered)| {
            let pinned = merged.content.pins.get(number).and_then(PinnedKey::fingerprint);
            let pinned = pinned.ok_or(StorageError::Damaged("a pinned key"))?;
            Ok(OfferedKey { number: db::number(number)?, pinned, offered: *offered })
        });
        Ok(TakenUp { is_news, offered: offered.collect::<Result<_, StorageError>>()? })
    }
}

/// Number, fingerprint, key, and whether words were compared.
type PinRow = (String, String, Option<Vec<u8>>, bool);

impl PinnedKey {
    fn from_row((number, fingerprint, identity, verified): PinRow) -> (String, Self) {
        let key = identity.map_or(fingerprint, |key| HEXLOWER.encode(&key));
        (number, Self { key, verified })
    }
}

async fn read_pin(db: &mut SqliteConnection, number: &str) -> Result<Option<PinnedKey>, StorageError> {
    let row: Option<PinRow> =
        sqlx::query_as("SELECT number, fingerprint, identity, verified FROM pins WHERE number = ?")
            .bind(number)
            .fetch_optional(db)
            .await?;
    Ok(row.map(|row| PinnedKey::from_row(row).1))
}

async fn read(db: &mut SqliteConnection, known: Option<&KnownDirectory>) -> Result<Content, StorageError> {
    let contacts: Vec<(String, String)> =
        sqlx::query_as("SELECT number, name FROM contacts").fetch_all(&mut *db).await?;
    let mut settings = BTreeMap::new();
    for name in BACKED_UP {
        let value: Option<(String,)> = sqlx::query_as("SELECT value FROM settings WHERE key = ?")
            .bind(*name)
            .fetch_optional(&mut *db)
            .await?;
        settings.extend(value.map(|(value,)| ((*name).to_owned(), value)));
    }
    let (body,): (Vec<u8>,) = sqlx::query_as("SELECT record_body FROM account").fetch_one(&mut *db).await?;
    let record: AccountRecord = decode(&body, "the account record")?;
    Ok(Content {
        contacts: contacts.into_iter().collect(),
        settings,
        pins: read_pins(&mut *db, known).await?,
        directories: read_directories(db, known).await?,
        revoked: revoked(&record.revoked),
    })
}

/// Pins of contacts and verified people in an order that is the same at all terminals, should there be more than a backup has room for.
/// Of strangers those who were met since the last backup come first, then those in it, then the others: so each terminal adds somebody
/// once, and of more than there is room for no two put theirs over each other's for ever.
async fn read_pins(
    db: &mut SqliteConnection,
    known: Option<&KnownDirectory>,
) -> Result<BTreeMap<String, PinnedKey>, StorageError> {
    let rows: Vec<PinRow> = sqlx::query_as(
        "SELECT number, fingerprint, identity, verified FROM pins
         WHERE verified OR number IN (SELECT number FROM contacts)
         ORDER BY number IN (SELECT number FROM contacts) DESC, number LIMIT ?",
    )
    .bind(i64::try_from(MAX_PINS).unwrap_or(i64::MAX))
    .fetch_all(&mut *db)
    .await?;
    let there: Vec<&String> = known.map(|known| known.base.pins.keys().collect()).unwrap_or_default();
    let there = serde_json::to_string(&there)
        .map_err(|_| StorageError::Internal("a list of numbers could not be written"))?;
    let strangers: Vec<PinRow> = sqlx::query_as(
        "SELECT number, fingerprint, identity, verified FROM pins
         WHERE NOT verified AND number NOT IN (SELECT number FROM contacts)
         ORDER BY CASE WHEN number IN (SELECT value FROM json_each(?)) THEN 1 WHEN first_seen > ? THEN 0 ELSE 2 END,
                  last_seen DESC, number
         LIMIT ?",
    )
    .bind(there)
    .bind(db::int(known.map_or(u64::MAX, |known| known.backed_up.0)))
    .bind(i64::try_from(MAX_STRANGERS.min(MAX_PINS - rows.len())).unwrap_or(i64::MAX))
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().chain(strangers).map(PinnedKey::from_row).collect())
}

/// Directories, those that a backup has as it calls them. An address that leads to this host says nothing to other terminals if there
/// is a better one.
async fn read_directories(
    db: &mut SqliteConnection,
    known: Option<&KnownDirectory>,
) -> Result<BTreeMap<String, DirectoryAt>, StorageError> {
    let mut read = BTreeMap::new();
    for (key, mut at) in directory_rows(db).await? {
        if let Some(there) = known.and_then(|known| known.base.directories.get(&key)) {
            at.name = there.name.clone();
            if is_of_this_host(&at.url) {
                at.url = there.url.clone();
            }
        }
        read.insert(key, at);
    }
    Ok(read)
}

async fn directory_rows(db: &mut SqliteConnection) -> Result<BTreeMap<String, DirectoryAt>, StorageError> {
    type Row = (Vec<u8>, String, String, String, i64);
    let rows: Vec<Row> =
        sqlx::query_as("SELECT directory, name, url, id, added FROM directories").fetch_all(db).await?;
    let directory = |(key, name, url, id, added): Row| {
        (HEXLOWER.encode(&key), DirectoryAt { name, url, id, added: db::uint(added) })
    };
    Ok(rows.into_iter().map(directory).collect())
}

/// Writes contacts, settings, pins and directories in place of those that are there; pins of others stay.
pub(in crate::storage) async fn put(tx: &mut db::Write, merged: &Merged) -> Result<(), StorageError> {
    let content = &merged.content;
    put_contacts(tx, &content.contacts).await?;
    for name in BACKED_UP {
        match content.settings.get(*name) {
            Some(value) => sqlx::query(
                "INSERT INTO settings (key, value) VALUES (?, ?)
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            )
            .bind(*name)
            .bind(value),
            None => sqlx::query("DELETE FROM settings WHERE key = ?").bind(*name),
        }
        .execute(&mut **tx)
        .await?;
    }
    for (number, pinned) in &content.pins {
        let pin = pinned.pin().ok_or(StorageError::Damaged("a pinned key"))?;
        let offered = merged.offered.get(number);
        pin_backed_up(tx, &db::number(number)?, &pin, pinned.verified, offered).await?;
    }
    put_directories(tx, &content.directories).await
}

async fn put_contacts(tx: &mut db::Write, contacts: &BTreeMap<String, String>) -> Result<(), StorageError> {
    let held: Vec<(String, String)> =
        sqlx::query_as("SELECT number, name FROM contacts").fetch_all(&mut **tx).await?;
    for (number, name) in &held {
        // A name that changes hands must be free first.
        if contacts.get(number) != Some(name) {
            sqlx::query("DELETE FROM contacts WHERE number = ?").bind(number).execute(&mut **tx).await?;
        }
    }
    for (number, name) in contacts {
        if !held.iter().any(|(n, old)| n == number && old == name) {
            add_contact(tx, &db::number(number)?, name).await?;
        }
    }
    Ok(())
}

/// Adds a contact under its name, or one like it if somebody else has that here. What is no name is told by the number.
async fn add_contact(tx: &mut db::Write, number: &Number, name: &str) -> Result<(), StorageError> {
    let name = check_name(name).unwrap_or_else(|_| format!("? {number}"));
    for n in 1..=NAME_TRIES {
        let tried = if n == 1 { name.clone() } else { numbered(&name, n) };
        let done = sqlx::query(
            "INSERT INTO contacts (number, name, name_key, added) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(number.canonical())
        .bind(&tried)
        .bind(name_key(&tried))
        .bind(db::int(wall_clock().0))
        .execute(&mut **tx)
        .await?;
        if done.rows_affected() == 1 {
            return Ok(());
        }
    }
    Err(StorageError::ContactExists(name))
}

/// A name with a count, shortened so that it is still one.
fn numbered(name: &str, n: u32) -> String {
    let count = format!(" ({n})");
    let room = MAX_CONTACT_NAME.saturating_sub(count.chars().count());
    let short: String = name.chars().take(room).collect();
    short + &count
}

/// Directories that another terminal has joined or left. Of one that is new here nothing was seen yet: it is asked when the backup is
/// brought up to date the next time.
async fn put_directories(
    tx: &mut db::Write,
    directories: &BTreeMap<String, DirectoryAt>,
) -> Result<(), StorageError> {
    let held = directory_rows(tx).await?;
    for key in held.keys().filter(|key| !directories.contains_key(*key)) {
        let key = unhex(key).ok_or(StorageError::Damaged("a directory"))?;
        sqlx::query("DELETE FROM directories WHERE directory = ?")
            .bind(key.as_slice())
            .execute(&mut **tx)
            .await?;
    }
    for (key, at) in directories {
        let Ok(id) = at.id.parse::<AccountId>() else {
            tracing::warn!(name = at.name, "the account's ID at a directory is none");
            continue;
        };
        let key = unhex(key).ok_or(StorageError::Damaged("a directory"))?;
        match held.get(&hex(&key)) {
            Some(own) => {
                let url = if is_of_this_host(&at.url) { &own.url } else { &at.url };
                sqlx::query("UPDATE directories SET url = ?, id = ?, added = ? WHERE directory = ?")
                    .bind(url)
                    .bind(id.as_str())
                    .bind(db::int(at.added))
                    .bind(key.as_slice())
                    .execute(&mut **tx)
                    .await?;
            }
            None => add_directory(tx, &key, at, &id).await?,
        }
    }
    Ok(())
}

/// Another one of the same name that is here stays: the user is asked about its key when it has changed.
async fn add_directory(
    tx: &mut db::Write,
    key: &[u8; 32],
    at: &DirectoryAt,
    id: &AccountId,
) -> Result<(), StorageError> {
    let base = serde_json::to_string(&Content::default())
        .map_err(|_| StorageError::Internal("a backup could not be written"))?;
    sqlx::query(
        "INSERT INTO directories (name, url, directory, id, version, backed_up, base, added)
         VALUES (?, ?, ?, ?, 0, ?, ?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(&at.name)
    .bind(&at.url)
    .bind(key.as_slice())
    .bind(id.as_str())
    .bind(db::int(wall_clock().0))
    .bind(base)
    .bind(db::int(at.added))
    .execute(&mut **tx)
    .await?;
    Ok(())
}
