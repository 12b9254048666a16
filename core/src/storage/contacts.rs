use super::pins::{PinCheck, pin_fingerprint};
use super::{AccountStore, StorageError, db};
use crate::api;
use crate::clock::wall_clock;
use offhook_proto::backup::MAX_CONTACTS;
use offhook_proto::identity::Fingerprint;
use offhook_proto::number::{Number, NumberError};
use unicode_normalization::UnicodeNormalization as _;

/// Longest contact name, characters.
pub const MAX_CONTACT_NAME: usize = 64;

/// Somebody the user gave a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// The number.
    pub number: Number,
    /// The name, as typed.
    pub name: String,
    /// Fingerprint of the pinned key; `None` until the first contact.
    pub fingerprint: Option<Fingerprint>,
    /// Whether the two people compared words or digits.
    pub verified: bool,
    /// Another key that was met under the number and waits for the user's word.
    pub offered: Option<Fingerprint>,
}

impl From<Contact> for api::Contact {
    fn from(contact: Contact) -> Self {
        Self {
            number: contact.number,
            name: contact.name,
            fingerprint: contact.fingerprint.map(|f| f.to_string()),
            verified: contact.verified,
            offered: contact.offered.map(|f| f.to_string()),
            presence: None,
        }
    }
}

type ContactRow = (String, String, Option<String>, Option<bool>, Option<String>);

impl AccountStore {
    /// The contacts, by name.
    pub async fn contacts(&self) -> Result<Vec<Contact>, StorageError> {
        let rows: Vec<ContactRow> = sqlx::query_as(
            "SELECT c.number, c.name, p.fingerprint, p.verified, p.offered
             FROM contacts c LEFT JOIN pins p ON p.number = c.number ORDER BY c.name_key",
        )
        .fetch_all(self.pool())
        .await?;
        rows.into_iter().map(Contact::from_row).collect()
    }

    /// The contact with this number.
    pub async fn contact(&self, number: &Number) -> Result<Option<Contact>, StorageError> {
        let row: Option<ContactRow> = sqlx::query_as(
            "SELECT c.number, c.name, p.fingerprint, p.verified, p.offered
             FROM contacts c LEFT JOIN pins p ON p.number = c.number WHERE c.number = ?",
        )
        .bind(number.canonical())
        .fetch_optional(self.pool())
        .await?;
        row.map(Contact::from_row).transpose()
    }

    /// The contact that the user means by a name or a number. Names come first: a chosen number looks
    /// like a name.
    pub async fn find_contact(&self, name_or_number: &str) -> Result<Contact, StorageError> {
        let number = match self.named(name_or_number).await? {
            Some(number) => number,
            None => name_or_number.parse().map_err(|_| StorageError::NoContact)?,
        };
        self.contact(&number).await?.ok_or(StorageError::NoContact)
    }

    /// The number of the contact with this name, whichever way it is written.
    pub(super) async fn named(&self, name: &str) -> Result<Option<Number>, StorageError> {
        let row: Option<(String,)> = sqlx::query_as("SELECT number FROM contacts WHERE name_key = ?")
            .bind(name_key(name))
            .fetch_optional(self.pool())
            .await?;
        row.map(|(number,)| db::number(&number)).transpose()
    }

    /// Adds a contact, or gives the one with this number another name. `fingerprint` is what an
    /// invitation link said about the key. [`PinCheck::Differs`] means that another key is pinned: the
    /// contact is kept, its pinned key too.
    pub async fn contact_add(
        &self,
        number: &Number,
        name: &str,
        fingerprint: Option<&Fingerprint>,
    ) -> Result<PinCheck, StorageError> {
        let name = check_name(name)?;
        let mut tx = db::write(self.pool()).await?;
        let namesake: Option<(String,)> = sqlx::query_as("SELECT number FROM contacts WHERE name_key = ?")
            .bind(name_key(&name))
            .fetch_optional(&mut *tx)
            .await?;
        if namesake.is_some_and(|(other,)| other != number.canonical()) {
            return Err(StorageError::ContactExists(name));
        }
        // More would not be in the account's backup, and lost without a word.
        let (others,): (i64,) = sqlx::query_as("SELECT count(*) FROM contacts WHERE number <> ?")
            .bind(number.canonical())
            .fetch_one(&mut *tx)
            .await?;
        if db::uint(others) >= MAX_CONTACTS as u64 {
            return Err(StorageError::TooLarge("The list of contacts"));
        }
        sqlx::query(
            "INSERT INTO contacts (number, name, name_key, added) VALUES (?, ?, ?, ?)
             ON CONFLICT (number) DO UPDATE SET name = excluded.name, name_key = excluded.name_key",
        )
        .bind(number.canonical())
        .bind(&name)
        .bind(name_key(&name))
        .bind(db::int(wall_clock().0))
        .execute(&mut *tx)
        .await?;
        let check = match fingerprint {
            Some(fingerprint) => pin_fingerprint(&mut tx, number, fingerprint).await?,
            None => PinCheck::New,
        };
        tx.commit().await?;
        self.changed();
        Ok(check)
    }

    /// Gives a contact another name.
    pub async fn contact_rename(&self, number: &Number, name: &str) -> Result<(), StorageError> {
        if self.contact(number).await?.is_none() {
            return Err(StorageError::NoContact);
        }
        self.contact_add(number, name, None).await.map(drop)
    }

    /// Removes a contact. Its pinned key stays: a number that changes hands is still noticed.
    pub async fn contact_remove(&self, number: &Number) -> Result<(), StorageError> {
        let done = sqlx::query("DELETE FROM contacts WHERE number = ?")
            .bind(number.canonical())
            .execute(self.pool())
            .await?;
        self.changed();
        if done.rows_affected() == 0 { Err(StorageError::NoContact) } else { Ok(()) }
    }
}

impl Contact {
    fn from_row((number, name, fingerprint, verified, offered): ContactRow) -> Result<Self, StorageError> {
        let parse = |text: String| text.parse().map_err(|_| StorageError::Damaged("a pinned key"));
        Ok(Self {
            number: db::number(&number)?,
            name,
            fingerprint: fingerprint.map(parse).transpose()?,
            verified: verified.unwrap_or(false),
            offered: offered.map(parse).transpose()?,
        })
    }
}

pub(super) fn check_name(name: &str) -> Result<String, StorageError> {
    let name = name.trim();
    if name.is_empty() {
        return Err(StorageError::BadContactName("it is empty"));
    }
    if name.chars().count() > MAX_CONTACT_NAME {
        return Err(StorageError::BadContactName("it is longer than 64 characters"));
    }
    // Format characters that turn the text's direction could make one name look like another.
    if name.chars().any(|c| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
    {
        return Err(StorageError::BadContactName("it contains control characters"));
    }
    // Whoever dials a number wants this number, not somebody who is called so.
    let plain = matches!(name.parse(), Ok(Number::Plain(_)) | Err(NumberError::CheckDigit));
    if plain || ["offhook:", "tel:"].iter().any(|scheme| name.to_ascii_lowercase().starts_with(scheme)) {
        return Err(StorageError::BadContactName("it is a number"));
    }
    Ok(name.to_owned())
}

/// The form in which names are compared.
pub(super) fn name_key(name: &str) -> String {
    name.trim().nfkc().collect::<String>().to_lowercase()
}
