//! What a backup takes along beside keys and numbers: contacts, settings and pinned keys, and how those of two terminals become one.

use super::contacts::{check_name, name_key};
use super::pins::{fingerprint_of, pin_backed_up};
use super::screening::{self, POLICY};
use super::settings::BACKED_UP;
use super::{AccountStore, KnownDirectory, StorageError, db, directories};
use crate::clock::wall_clock;
use data_encoding::HEXLOWER;
use offhook_proto::backup::{Backup, BackupContact, BackupPin, MAX_CONTACTS, MAX_PINS};
use offhook_proto::identity::{Fingerprint, IdentityId};
use offhook_proto::number::Number;
use offhook_proto::record::Pin;
use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;
use std::collections::{BTreeMap, BTreeSet};

/// Most pinned keys of strangers in a backup, the last met first. Those of contacts and verified people are all in it.
const MAX_STRANGERS: usize = 512;
/// How often another name is tried for a contact whose name somebody else has here.
const NAME_TRIES: u32 = 100;

/// Contacts, settings and pinned keys. Numbers are in their canonical form.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Content {
    /// Names by number.
    pub contacts: BTreeMap<String, String>,
    /// Settings by name, those that are worth taking along.
    pub settings: BTreeMap<String, String>,
    /// Pinned keys by number.
    pub pins: BTreeMap<String, PinnedKey>,
}

/// A pinned key: 64 hexadecimal digits, or its fingerprint as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedKey {
    /// The key or its fingerprint.
    pub key: String,
    /// Whether the two people have compared words.
    pub verified: bool,
}

impl PinnedKey {
    fn of(pin: &BackupPin) -> Self {
        let key = match &pin.pin {
            Pin::Key(key) => HEXLOWER.encode(key.as_bytes()),
            Pin::Fingerprint(fingerprint) => fingerprint.to_string(),
        };
        Self { key, verified: pin.verified }
    }

    fn pin(&self) -> Option<Pin> {
        let key = HEXLOWER.decode(self.key.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        match key {
            Some(key) => Some(Pin::Key(IdentityId::from_bytes(key))),
            None => self.key.parse().ok().map(Pin::Fingerprint),
        }
    }

    fn fingerprint(&self) -> Option<Fingerprint> {
        self.pin().as_ref().map(fingerprint_of)
    }

    fn is_same(&self, other: &Self) -> bool {
        self.fingerprint().is_some() && self.fingerprint() == other.fingerprint()
    }

    /// Both say the same, and one may say more: the key behind a fingerprint, or that people have compared.
    fn joined(&self, other: &Self) -> Self {
        let longer = if other.key.len() > self.key.len() { &other.key } else { &self.key };
        Self { key: longer.clone(), verified: self.verified || other.verified }
    }

    /// Which of two keys of one number counts, and the other one if the user has to decide: the one that was changed since `base`, as the
    /// user has confirmed it. Where both were, or met for the first time: the one with whom words were compared, else the one that
    /// was put into the backup first, so that all terminals come to the same.
    fn merged(&self, base: Option<&Self>, theirs: &Self) -> (Self, Option<Fingerprint>) {
        if self.is_same(theirs) {
            return (self.joined(theirs), None);
        }
        match base {
            Some(base) if base.is_same(self) => (theirs.clone(), None),
            Some(base) if base.is_same(theirs) => (self.clone(), None),
            Some(_) | None if self.verified && !theirs.verified => (self.clone(), theirs.fingerprint()),
            Some(_) | None => (theirs.clone(), self.fingerprint()),
        }
    }
}

/// What two terminals have become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Merged {
    pub(super) content: Content,
    /// Keys that lost against another one of the same number, by number: the user is asked.
    pub(super) offered: BTreeMap<String, Fingerprint>,
}

impl Content {
    /// That of a backup.
    #[must_use]
    pub fn of(backup: &Backup) -> Self {
        let contacts = backup.contacts.iter().map(|c| (c.number.canonical(), c.name.clone()));
        let settings = backup.settings.iter().filter(|(name, _)| BACKED_UP.contains(&name.as_str()));
        let pins = backup.pins.iter().map(|pin| (pin.number.canonical(), PinnedKey::of(pin)));
        Self {
            contacts: contacts.collect(),
            settings: settings.map(|(name, value)| (name.clone(), value.clone())).collect(),
            pins: pins.collect(),
        }
    }

    /// Writes it into a backup, over what that has of the same kind. Settings of other programs stay.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] if a number or key is none; it comes from the account's file.
    pub fn put_into(&self, backup: &mut Backup) -> Result<(), StorageError> {
        let contact = |(number, name): (&String, &String)| {
            Ok(BackupContact { number: db::number(number)?, name: name.clone() })
        };
        backup.contacts =
            self.contacts.iter().take(MAX_CONTACTS).map(contact).collect::<Result<_, StorageError>>()?;
        let pin = |(number, pinned): (&String, &PinnedKey)| {
            let pin = pinned.pin().ok_or(StorageError::Damaged("a pinned key"))?;
            Ok(BackupPin { number: db::number(number)?, pin, verified: pinned.verified })
        };
        backup.pins = self.pins.iter().take(MAX_PINS).map(pin).collect::<Result<_, StorageError>>()?;
        backup.settings.retain(|name, _| !BACKED_UP.contains(&name.as_str()));
        backup.settings.extend(self.settings.clone());
        Ok(())
    }

    /// What two terminals make of `base`, each with changes of its own: where both have changed the same, `self` wins. A pinned key is
    /// never lost, and of two the one that does not count is kept for the user's word.
    pub(super) fn merged(&self, base: &Self, other: &Self) -> Merged {
        let (mut pins, mut offered) = (other.pins.clone(), BTreeMap::new());
        for (number, own) in &self.pins {
            let (pin, other_key) = match other.pins.get(number) {
                Some(theirs) => own.merged(base.pins.get(number), theirs),
                None => (own.clone(), None),
            };
            pins.insert(number.clone(), pin);
            offered.extend(other_key.map(|key| (number.clone(), key)));
        }
        let mut settings = merged(&base.settings, &self.settings, &other.settings);
        // Two may have blocked different people.
        let policy = |content: &'_ Self| content.settings.get(POLICY).cloned();
        let (was, own, theirs) = (policy(base), policy(self), policy(other));
        match screening::merged(was.as_ref(), own.as_ref(), theirs.as_ref()) {
            Some(Some(policy)) => drop(settings.insert(POLICY.to_owned(), policy)),
            Some(None) => drop(settings.remove(POLICY)),
            None => {}
        }
        let content =
            Self { contacts: merged(&base.contacts, &self.contacts, &other.contacts), settings, pins };
        Merged { content, offered }
    }
}

fn merged(
    base: &BTreeMap<String, String>,
    own: &BTreeMap<String, String>,
    other: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let keys: BTreeSet<&String> = own.keys().chain(other.keys()).collect();
    let value = |key: &String| {
        let (was, mine, theirs) = (base.get(key), own.get(key), other.get(key));
        if was == mine { theirs } else { mine }.cloned()
    };
    keys.into_iter().filter_map(|key| Some((key.clone(), value(key)?))).collect()
}

impl AccountStore {
    /// What a backup takes along.
    ///
    /// # Errors
    /// [`StorageError::Database`].
    pub async fn content(&self) -> Result<Content, StorageError> {
        let mut db = self.pool().acquire().await?;
        read(&mut db).await
    }

    /// Takes up what another terminal has made of `base`, and remembers in the same moment that it was seen: a kill between the two would
    /// have it merged twice, or not at all. Nothing that is written here meanwhile is lost. Says whether anything is another way than it
    /// was.
    ///
    /// # Errors
    /// [`StorageError::Database`].
    pub(crate) async fn merge_content(
        &self,
        base: &Content,
        seen: &KnownDirectory,
    ) -> Result<bool, StorageError> {
        let there = &seen.base;
        let mut tx = db::write(self.pool()).await?;
        directories::put(&mut tx, seen).await?;
        let mut here = read(&mut tx).await?;
        // Of strangers that the backup has no room for, too, another key takes no pinned one's place unseen.
        for number in there.pins.keys() {
            if !here.pins.contains_key(number) {
                here.pins.extend(read_pin(&mut tx, number).await?.map(|pin| (number.clone(), pin)));
            }
        }
        let merged = here.merged(base, there);
        let is_news = merged.content != here || !merged.offered.is_empty();
        if is_news {
            put(&mut tx, &merged).await?;
        }
        tx.commit().await?;
        Ok(is_news)
    }
}

async fn read_pin(db: &mut SqliteConnection, number: &str) -> Result<Option<PinnedKey>, StorageError> {
    let row: Option<(String, Option<Vec<u8>>, bool)> =
        sqlx::query_as("SELECT fingerprint, identity, verified FROM pins WHERE number = ?")
            .bind(number)
            .fetch_optional(db)
            .await?;
    Ok(row.map(|(fingerprint, identity, verified)| PinnedKey {
        key: identity.map_or(fingerprint, |key| HEXLOWER.encode(&key)),
        verified,
    }))
}

async fn read(db: &mut SqliteConnection) -> Result<Content, StorageError> {
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
    type Row = (String, String, Option<Vec<u8>>, bool, bool);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT number, fingerprint, identity, verified,
                verified OR number IN (SELECT number FROM contacts) AS known
         FROM pins ORDER BY known DESC, last_seen DESC, number LIMIT ?",
    )
    .bind(i64::try_from(MAX_PINS).unwrap_or(i64::MAX))
    .fetch_all(&mut *db)
    .await?;
    let known = rows.iter().filter(|row| row.4).count();
    let mut pins = BTreeMap::new();
    for (number, fingerprint, identity, verified, _) in rows.into_iter().take(known + MAX_STRANGERS) {
        let key = identity.map_or(fingerprint, |key| HEXLOWER.encode(&key));
        pins.insert(number, PinnedKey { key, verified });
    }
    Ok(Content { contacts: contacts.into_iter().collect(), settings, pins })
}

/// Writes contacts, settings and pins in place of those that are there; pins of others stay.
pub(super) async fn put(tx: &mut db::Write, merged: &Merged) -> Result<(), StorageError> {
    let content = &merged.content;
    let held: Vec<(String, String)> =
        sqlx::query_as("SELECT number, name FROM contacts").fetch_all(&mut **tx).await?;
    for (number, name) in &held {
        // A name that changes hands must be free first.
        if content.contacts.get(number) != Some(name) {
            sqlx::query("DELETE FROM contacts WHERE number = ?").bind(number).execute(&mut **tx).await?;
        }
    }
    for (number, name) in &content.contacts {
        if !held.iter().any(|(n, old)| n == number && old == name) {
            add_contact(tx, &db::number(number)?, name).await?;
        }
    }
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
    Ok(())
}

/// Adds a contact under its name, or one like it if somebody else has that here. What is no name is told by the number.
async fn add_contact(tx: &mut db::Write, number: &Number, name: &str) -> Result<(), StorageError> {
    let name = check_name(name).unwrap_or_else(|_| format!("? {number}"));
    for n in 1..=NAME_TRIES {
        let tried = if n == 1 { name.clone() } else { format!("{name} ({n})") };
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

#[cfg(test)]
mod tests {
    use super::*;

    fn content(contacts: &[(&str, &str)]) -> Content {
        let contacts = contacts.iter().map(|(number, name)| ((*number).to_owned(), (*name).to_owned()));
        Content { contacts: contacts.collect(), ..Content::default() }
    }

    #[test]
    fn what_only_one_terminal_has_changed_is_kept_and_what_one_has_removed_is_gone() {
        let base = content(&[("1", "ada"), ("2", "bob"), ("3", "eve")]);
        let here = content(&[("1", "ada l."), ("2", "bob"), ("4", "kim")]);
        let there = content(&[("1", "ada"), ("2", "bobby"), ("3", "eve"), ("5", "lee")]);
        let merged = here.merged(&base, &there).content;
        assert_eq!(merged, content(&[("1", "ada l."), ("2", "bobby"), ("4", "kim"), ("5", "lee")]));
        let other_way = there.merged(&base, &here).content;
        assert_eq!(other_way, merged, "nothing was changed by both");
    }

    #[test]
    fn q8_of_two_terminals_that_have_blocked_different_people_neither_is_forgotten() {
        use data_encoding::BASE64;
        use offhook_proto::screening::{Blocked, Policy};
        let blocks = |numbers: &[&str], contacts_only| {
            let mut policy = Policy::default();
            if contacts_only {
                policy.contacts_only = true;
            }
            for number in numbers {
                policy.block(Blocked::Number(number.parse().unwrap())).unwrap();
            }
            let setting = BASE64.encode(&policy.to_bytes().unwrap());
            Content { settings: [(POLICY.to_owned(), setting)].into(), ..Content::default() }
        };
        let base = blocks(&["ada@a.example", "bob@a.example"], false);
        let here = blocks(&["bob@a.example", "cy@a.example"], false);
        let there = blocks(&["ada@a.example", "bob@a.example", "dan@a.example"], true);
        let merged = here.merged(&base, &there).content;
        assert_eq!(merged, blocks(&["bob@a.example", "cy@a.example", "dan@a.example"], true));
        assert_eq!(there.merged(&base, &here).content, merged);
        // Nothing at all is the default, and one that cannot be read is taken or left whole.
        assert_eq!(Content::default().merged(&base, &Content::default()).content, Content::default());
        let odd = Content { settings: [(POLICY.to_owned(), "?".to_owned())].into(), ..Content::default() };
        assert_eq!(odd.merged(&base, &base).content, odd);
    }

    #[test]
    fn pins_of_both_are_kept_and_a_key_says_more_than_its_fingerprint() {
        let key = offhook_proto::identity::IdentityKey::from_seed([1; 32]).public();
        let pinned = |key: &[u8], verified| PinnedKey { key: HEXLOWER.encode(key), verified };
        let short = |verified| PinnedKey { key: key.fingerprint().to_string(), verified };
        let pins = |pins: &[(&str, PinnedKey)]| Content {
            pins: pins.iter().map(|(n, pin)| ((*n).to_owned(), pin.clone())).collect(),
            ..Content::default()
        };
        let here = pins(&[("1", short(true)), ("2", pinned(&[2; 32], false))]);
        let there = pins(&[("1", pinned(key.as_bytes(), false)), ("3", pinned(&[3; 32], true))]);
        let merged = here.merged(&here, &there);
        let all = [
            ("1", pinned(key.as_bytes(), true)),
            ("2", pinned(&[2; 32], false)),
            ("3", pinned(&[3; 32], true)),
        ];
        assert_eq!(merged, Merged { content: pins(&all), offered: BTreeMap::new() });
    }

    #[test]
    fn q2_of_two_keys_for_a_number_all_terminals_come_to_pin_the_same_and_the_user_hears_of_the_other() {
        let key = |seed| offhook_proto::identity::IdentityKey::from_seed([seed; 32]).public();
        let of = |seed: u8, verified| Content {
            pins: [("1".to_owned(), PinnedKey { key: HEXLOWER.encode(key(seed).as_bytes()), verified })]
                .into(),
            ..Content::default()
        };
        let (nothing, pin) = (Content::default(), |merged: &Merged| merged.content.pins["1"].clone());
        let offered = |merged: &Merged| merged.offered.get("1").copied();

        // Met for the first time by both: the backup's counts, and putting nothing follows from that.
        let (here, there) = (of(1, false), of(2, false));
        let merged = here.merged(&nothing, &there);
        assert_eq!((&merged.content, offered(&merged)), (&there, Some(key(1).fingerprint())));
        // But not against words that were compared; the other terminal follows.
        let here = of(1, true);
        let merged = here.merged(&nothing, &there);
        assert_eq!((pin(&merged), offered(&merged)), (here.pins["1"].clone(), Some(key(2).fingerprint())));
        let follows = there.merged(&there, &merged.content);
        assert_eq!((&follows.content, offered(&follows)), (&here, None));

        // A key that the user has confirmed at one terminal is the other's, too, whichever way it comes.
        let (old, new) = (of(1, true), of(2, false));
        let taken = old.merged(&old, &new);
        assert_eq!((&taken.content, offered(&taken)), (&new, None));
        let kept = new.merged(&old, &old);
        assert_eq!((&kept.content, offered(&kept)), (&new, None));
    }
}
