//! The keys of everybody this account ever spoke to.

use super::{AccountStore, StorageError, db};
use crate::clock::wall_clock;
use offhook_proto::identity::{Fingerprint, IdentityId};
use offhook_proto::number::Number;
use offhook_proto::record;
use offhook_proto::wire::UnixMillis;
use sqlx::SqliteConnection;

/// Most pins kept of people who are neither contacts nor verified. The longest unseen goes first; strangers
/// who make up numbers can therefore push out other strangers, never a contact.
pub const MAX_STRANGERS: u32 = 50_000;

/// The key that belongs to a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Fingerprint of the key.
    pub fingerprint: Fingerprint,
    /// The key; `None` while only an invitation link told its fingerprint.
    pub identity: Option<IdentityId>,
    /// Whether the two people compared words or digits.
    pub verified: bool,
    /// Another key that was met under the number, or that an invitation link names, and waits for the user's word.
    pub offered: Option<Fingerprint>,
    /// When the key was first met.
    pub first_seen: UnixMillis,
}

/// How a key compares with the pinned one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PinCheck {
    /// Nothing was pinned for the number before.
    New,
    /// It is the pinned key.
    Matches,
    /// It is another key than the pinned one.
    Differs {
        /// The pinned one.
        pinned: Fingerprint,
    },
}

type PinRow = (String, Option<Vec<u8>>, bool, Option<String>, i64);

const SELECT_PIN: &str =
    "SELECT fingerprint, identity, verified, offered, first_seen FROM pins WHERE number = ?";

impl AccountStore {
    /// The pinned key of a number.
    pub async fn pinned(&self, number: &Number) -> Result<Option<IdentityId>, StorageError> {
        Ok(self.pin_of(number).await?.and_then(|pin| pin.identity))
    }

    /// All that is known about the key of a number.
    pub async fn pin_of(&self, number: &Number) -> Result<Option<Pin>, StorageError> {
        let row: Option<PinRow> =
            sqlx::query_as(SELECT_PIN).bind(number.canonical()).fetch_optional(self.pool()).await?;
        row.map(Pin::from_row).transpose()
    }

    /// Pins a key if the number has none yet. A different key never replaces the pinned one: it is kept as
    /// offered, and [`PinCheck::Differs`] is the answer.
    pub async fn pin(&self, number: &Number, identity: &IdentityId) -> Result<PinCheck, StorageError> {
        let mut tx = db::write(self.pool()).await?;
        let row: Option<PinRow> =
            sqlx::query_as(SELECT_PIN).bind(number.canonical()).fetch_optional(&mut *tx).await?;
        let pin = row.map(Pin::from_row).transpose()?;
        let check = Pin::compare(pin.as_ref(), identity);
        match check {
            PinCheck::New | PinCheck::Matches => {
                upsert_key(&mut tx, number, identity).await?;
                evict_strangers(&mut tx, MAX_STRANGERS).await?;
            }
            PinCheck::Differs { .. } => set_offered(&mut tx, number, &identity.fingerprint()).await?,
        }
        tx.commit().await?;
        if check == PinCheck::New {
            self.changed();
        }
        Ok(check)
    }

    /// Remembers that another key was met under a pinned number, or named by a link, for [`Self::confirm_key`].
    pub async fn offered_key(&self, number: &Number, offered: &Fingerprint) -> Result<(), StorageError> {
        let mut tx = db::write(self.pool()).await?;
        set_offered(&mut tx, number, offered).await?;
        tx.commit().await?;
        Ok(())
    }

    /// The user accepts the offered key: it becomes the pinned one, not verified. The next contact brings the key itself.
    pub async fn confirm_key(&self, number: &Number) -> Result<Fingerprint, StorageError> {
        let mut tx = db::write(self.pool()).await?;
        let offered: Option<(Option<String>,)> = sqlx::query_as("SELECT offered FROM pins WHERE number = ?")
            .bind(number.canonical())
            .fetch_optional(&mut *tx)
            .await?;
        let Some((Some(offered),)) = offered else { return Err(StorageError::NothingToConfirm) };
        sqlx::query(
            "UPDATE pins SET fingerprint = offered, identity = NULL, verified = 0, offered = NULL, first_seen = ?
             WHERE number = ?",
        )
        .bind(db::int(wall_clock().0))
        .bind(number.canonical())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        self.changed();
        fingerprint(&offered)
    }

    /// Whether the two people compared words or digits and found them the same.
    pub async fn set_verified(&self, number: &Number, verified: bool) -> Result<(), StorageError> {
        let done = sqlx::query("UPDATE pins SET verified = ? WHERE number = ?")
            .bind(verified)
            .bind(number.canonical())
            .execute(self.pool())
            .await?;
        self.changed();
        if done.rows_affected() == 0 { Err(StorageError::NoContact) } else { Ok(()) }
    }
}

impl Pin {
    /// In the form in which the protocol chooses among several keys for one number.
    pub fn expected(&self) -> record::Pin {
        self.identity.map_or(record::Pin::Fingerprint(self.fingerprint), record::Pin::Key)
    }

    fn from_row((fingerprint, key, verified, offered, first_seen): PinRow) -> Result<Self, StorageError> {
        Ok(Self {
            fingerprint: self::fingerprint(&fingerprint)?,
            identity: key.as_deref().map(identity).transpose()?,
            verified,
            offered: offered.as_deref().map(self::fingerprint).transpose()?,
            first_seen: UnixMillis(db::uint(first_seen)),
        })
    }

    fn compare(pin: Option<&Self>, identity: &IdentityId) -> PinCheck {
        let Some(pin) = pin else { return PinCheck::New };
        if pin.expected().matches(identity) {
            PinCheck::Matches
        } else {
            PinCheck::Differs { pinned: pin.fingerprint }
        }
    }
}

/// Pins the fingerprint that an invitation link carries. A key that was met before counts more than a
/// link, which anybody can write: then the link's is only kept as offered, and the answer tells whether they agree.
pub(super) async fn pin_fingerprint(
    db: &mut SqliteConnection,
    number: &Number,
    fingerprint: &Fingerprint,
) -> Result<PinCheck, StorageError> {
    let row: Option<PinRow> =
        sqlx::query_as(SELECT_PIN).bind(number.canonical()).fetch_optional(&mut *db).await?;
    if let Some(pin) = row.map(Pin::from_row).transpose()? {
        if pin.fingerprint == *fingerprint {
            return Ok(PinCheck::Matches);
        }
        set_offered(db, number, fingerprint).await?;
        return Ok(PinCheck::Differs { pinned: pin.fingerprint });
    }
    let now = db::int(wall_clock().0);
    sqlx::query("INSERT INTO pins (number, fingerprint, first_seen, last_seen) VALUES (?, ?, ?, ?)")
        .bind(number.canonical())
        .bind(fingerprint.to_string())
        .bind(now)
        .bind(now)
        .execute(db)
        .await?;
    Ok(PinCheck::New)
}

/// Takes up a pin as the account's terminals have agreed on it, in the place of the one that is held. `offered` is another key that one
/// of them has pinned, for the user to decide.
pub(super) async fn pin_backed_up(
    db: &mut SqliteConnection,
    number: &Number,
    pin: &record::Pin,
    is_verified: bool,
    offered: Option<&Fingerprint>,
) -> Result<(), StorageError> {
    let now = db::int(wall_clock().0);
    let key = match pin {
        record::Pin::Key(key) => Some(key.as_bytes().to_vec()),
        record::Pin::Fingerprint(_) => None,
    };
    // What was offered beside another key is answered with it.
    sqlx::query(
        "INSERT INTO pins (number, fingerprint, identity, verified, first_seen, last_seen) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT (number) DO UPDATE SET
             identity = CASE WHEN fingerprint = excluded.fingerprint THEN coalesce(excluded.identity, identity)
                             ELSE excluded.identity END,
             first_seen = CASE WHEN fingerprint = excluded.fingerprint THEN first_seen ELSE excluded.first_seen END,
             offered = CASE WHEN fingerprint = excluded.fingerprint THEN offered END,
             verified = excluded.verified, fingerprint = excluded.fingerprint",
    )
    .bind(number.canonical())
    .bind(fingerprint_of(pin).to_string())
    .bind(key)
    .bind(is_verified)
    .bind(now)
    .bind(now)
    .execute(&mut *db)
    .await?;
    match offered {
        Some(offered) => set_offered(db, number, offered).await,
        None => Ok(()),
    }
}

/// The fingerprint of a pinned key.
pub(super) fn fingerprint_of(pin: &record::Pin) -> Fingerprint {
    match pin {
        record::Pin::Key(key) => key.fingerprint(),
        record::Pin::Fingerprint(fingerprint) => *fingerprint,
    }
}

async fn upsert_key(
    db: &mut SqliteConnection,
    number: &Number,
    identity: &IdentityId,
) -> Result<(), StorageError> {
    let now = db::int(wall_clock().0);
    sqlx::query(
        "INSERT INTO pins (number, fingerprint, identity, first_seen, last_seen) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (number) DO UPDATE SET identity = excluded.identity, last_seen = excluded.last_seen",
    )
    .bind(number.canonical())
    .bind(identity.fingerprint().to_string())
    .bind(identity.as_bytes().as_slice())
    .bind(now)
    .bind(now)
    .execute(db)
    .await?;
    Ok(())
}

async fn set_offered(
    db: &mut SqliteConnection,
    number: &Number,
    offered: &Fingerprint,
) -> Result<(), StorageError> {
    sqlx::query("UPDATE pins SET offered = ? WHERE number = ?")
        .bind(offered.to_string())
        .bind(number.canonical())
        .execute(db)
        .await?;
    Ok(())
}

async fn evict_strangers(db: &mut SqliteConnection, keep: u32) -> Result<(), StorageError> {
    // The count is cheap and nearly always says that nothing is to be done.
    let (count,): (i64,) = sqlx::query_as("SELECT count(*) FROM pins").fetch_one(&mut *db).await?;
    if count <= i64::from(keep) {
        return Ok(());
    }
    sqlx::query(
        "DELETE FROM pins WHERE number IN (
             SELECT number FROM pins WHERE verified = 0 AND number NOT IN (SELECT number FROM contacts)
             ORDER BY last_seen DESC, number LIMIT -1 OFFSET ?)",
    )
    .bind(keep)
    .execute(db)
    .await?;
    Ok(())
}

fn fingerprint(stored: &str) -> Result<Fingerprint, StorageError> {
    stored.parse().map_err(|_| StorageError::Damaged("a pinned key"))
}

fn identity(stored: &[u8]) -> Result<IdentityId, StorageError> {
    Ok(IdentityId::from_bytes(db::bytes(stored, "a pinned key")?))
}
