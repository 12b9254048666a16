//! What a backup takes along beside keys and numbers: contacts, settings, pinned keys and directories, and how those of two terminals
//! become one. What reads and writes them is in [`rows`].

mod rows;

use super::pins::fingerprint_of;
use super::screening::{self, POLICY};
use super::settings::BACKED_UP;
use super::{StorageError, db};
use data_encoding::HEXLOWER;
use offhook_proto::backup::{
    Backup, BackupContact, BackupDirectory, BackupPin, MAX_CONTACTS, MAX_DIRECTORIES, MAX_PINS,
};
use offhook_proto::identity::{DirectoryId, Fingerprint, IdentityId, TerminalId};
use offhook_proto::record::Pin;
use offhook_proto::wire::UnixMillis;
pub use rows::OfferedKey;
pub(super) use rows::put;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Contacts, settings, pinned keys, directories and revoked terminals. Numbers are in their canonical form.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Content {
    /// Names by number.
    pub contacts: BTreeMap<String, String>,
    /// Settings by name, those that are worth taking along.
    pub settings: BTreeMap<String, String>,
    /// Pinned keys by number.
    pub pins: BTreeMap<String, PinnedKey>,
    /// Directories that the account is with, by their keys, 64 hexadecimal digits.
    pub directories: BTreeMap<String, DirectoryAt>,
    /// Keys of revoked terminals, 64 hexadecimal digits. They are of the account record, which only the identity's key changes.
    pub revoked: BTreeSet<String>,
}

/// Where a directory is, and who the account is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryAt {
    /// Its name, as it stands behind the ID.
    pub name: String,
    /// Where its API is asked.
    pub url: String,
    /// The account's ID there.
    pub id: String,
    /// Since when the account is with it, Unix milliseconds.
    pub added: u64,
}

/// A pinned key: 64 hexadecimal digits, or its fingerprint as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedKey {
    /// The key or its fingerprint.
    pub key: String,
    /// Whether the two people have compared words.
    pub verified: bool,
}

/// The key of a map entry.
fn hex(key: &[u8; 32]) -> String {
    HEXLOWER.encode(key)
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok())
}

impl PinnedKey {
    fn of(pin: &BackupPin) -> Self {
        let key = match &pin.pin {
            Pin::Key(key) => hex(key.as_bytes()),
            Pin::Fingerprint(fingerprint) => fingerprint.to_string(),
        };
        Self { key, verified: pin.verified }
    }

    fn pin(&self) -> Option<Pin> {
        match unhex(&self.key) {
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
        let directories = backup.directories.iter().map(|kept| {
            let (name, url, id) = (kept.name.clone(), kept.url.clone(), kept.id.clone());
            (hex(kept.directory.as_bytes()), DirectoryAt { name, url, id, added: kept.added.0 })
        });
        Self {
            contacts: contacts.collect(),
            settings: settings.map(|(name, value)| (name.clone(), value.clone())).collect(),
            pins: pins.collect(),
            directories: directories.collect(),
            revoked: revoked(&backup.revoked),
        }
    }

    /// Writes it into a backup, over what that has of the same kind. Settings of other programs stay. Revoked terminals are written
    /// with the account's papers, of which they are.
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
        let directory = |(key, at): (&String, &DirectoryAt)| {
            let key = unhex(key).ok_or(StorageError::Damaged("a directory"))?;
            let (name, url, id) = (at.name.clone(), at.url.clone(), at.id.clone());
            let (directory, added) = (DirectoryId::from_bytes(key), UnixMillis(at.added));
            Ok(BackupDirectory { name, url, directory, id, added })
        };
        backup.directories = self
            .directories
            .iter()
            .take(MAX_DIRECTORIES)
            .map(directory)
            .collect::<Result<_, StorageError>>()?;
        Ok(())
    }

    /// The account is with a directory.
    pub(crate) fn join(&mut self, directory: &DirectoryId, at: DirectoryAt) {
        self.directories.insert(hex(directory.as_bytes()), at);
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
        let content = Self {
            contacts: merged(&base.contacts, &self.contacts, &other.contacts),
            settings,
            pins,
            directories: first_ones(merged(&base.directories, &self.directories, &other.directories)),
            revoked: self.revoked.union(&other.revoked).cloned().collect(),
        };
        Merged { content, offered }
    }
}

/// Of more directories than a backup has room for, those with which the account was first.
fn first_ones(directories: BTreeMap<String, DirectoryAt>) -> BTreeMap<String, DirectoryAt> {
    let mut directories: Vec<_> = directories.into_iter().collect();
    directories.sort_by(|(a, at), (b, other)| at.added.cmp(&other.added).then_with(|| a.cmp(b)));
    directories.into_iter().take(MAX_DIRECTORIES).collect()
}

fn revoked(terminals: &[TerminalId]) -> BTreeSet<String> {
    terminals.iter().map(|terminal| hex(terminal.as_bytes())).collect()
}

fn merged<V: Clone + PartialEq>(
    base: &BTreeMap<String, V>,
    own: &BTreeMap<String, V>,
    other: &BTreeMap<String, V>,
) -> BTreeMap<String, V> {
    let keys: BTreeSet<&String> = own.keys().chain(other.keys()).collect();
    let value = |key: &String| {
        let (was, mine, theirs) = (base.get(key), own.get(key), other.get(key));
        if was == mine { theirs } else { mine }.cloned()
    };
    keys.into_iter().filter_map(|key| Some((key.clone(), value(key)?))).collect()
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

    fn directories(directories: &[(u8, &str, u64)]) -> Content {
        let directory = |(key, name, added): &(u8, &str, u64)| {
            let (name, id) = ((*name).to_owned(), "ada".to_owned());
            (hex(&[*key; 32]), DirectoryAt { url: format!("https://{name}"), name, id, added: *added })
        };
        Content { directories: directories.iter().map(directory).collect(), ..Content::default() }
    }

    #[test]
    fn p3_directories_that_one_terminal_has_joined_or_left_are_joined_or_left_by_all() {
        let base = directories(&[(1, "a.example", 1), (2, "b.example", 2)]);
        let here = directories(&[(1, "a.example", 1), (2, "b.example", 2), (3, "c.example", 3)]);
        let there = directories(&[(1, "a.example", 1), (4, "d.example", 4)]);
        let merged = here.merged(&base, &there).content;
        assert_eq!(merged, directories(&[(1, "a.example", 1), (3, "c.example", 3), (4, "d.example", 4)]));
        let many = |from: u8| -> Vec<(u8, &str, u64)> {
            (0..5).map(|n| (from + n, "x.example", u64::from(n) * 2 + u64::from(from / 100))).collect()
        };
        let all = directories(&many(10)).merged(&Content::default(), &directories(&many(110))).content;
        let again = directories(&many(110)).merged(&Content::default(), &directories(&many(10))).content;
        assert_eq!(
            (all.directories.len(), &all),
            (MAX_DIRECTORIES, &again),
            "the first ones, at every terminal"
        );
        assert!(all.directories.values().all(|at| at.added < 8));
    }
}
