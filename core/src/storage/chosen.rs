//! Chosen numbers of the account: what their directories have certified, and what is published under them.

use super::account::decode;
use super::{AccountStore, StorageError, db};
use crate::clock::wall_clock;
use offhook_proto::identity::{IdentityId, IdentityKey};
use offhook_proto::number::Number;
use offhook_proto::proof::{
    ChosenCert, MAX_CHOSEN_NUMBERS, MAX_TRANSFERS, NumberProof, PlainProof, SignedChosenCert, SignedTransfer,
};
use offhook_proto::record::{ACCOUNT_LIFETIME, AccountRecord, SignedAccount};
use offhook_proto::wire::{self, UnixMillis};
use std::collections::BTreeSet;

/// A chosen number of the account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldNumber {
    /// The number in its full form, `ada@example.org`.
    pub number: Number,
    /// The directory's certificate.
    pub cert: SignedChosenCert,
    /// How the identity has got the number from others, oldest first.
    pub transfers: Vec<SignedTransfer>,
    /// Name of the directory that has issued it.
    pub directory: String,
    /// The signed account record to publish under it.
    pub record: SignedAccount,
}

impl HeldNumber {
    /// What the certificate says, if the number is still the account's: its records may outlive it.
    ///
    /// # Errors
    /// [`StorageError::Damaged`].
    pub fn certified(&self, now: UnixMillis) -> Result<ChosenCert, StorageError> {
        self.cert.verify_held(now).map_err(|_| StorageError::Damaged("a chosen number"))
    }
}

/// A certificate of a chosen number before it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNumber {
    /// The directory's certificate.
    pub cert: SignedChosenCert,
    /// How the identity has got the number from others, oldest first.
    pub transfers: Vec<SignedTransfer>,
}

impl AccountStore {
    /// The account's chosen numbers, by number.
    ///
    /// # Errors
    /// [`StorageError::Database`] or [`StorageError::Damaged`].
    pub async fn chosen(&self) -> Result<Vec<HeldNumber>, StorageError> {
        type Row = (String, Vec<u8>, Vec<u8>, String, Vec<u8>);
        let rows: Vec<Row> =
            sqlx::query_as("SELECT number, cert, transfers, directory, record FROM chosen ORDER BY number")
                .fetch_all(self.pool())
                .await?;
        let read = |(number, cert, transfers, directory, record): Row| {
            Ok(HeldNumber {
                number: db::number(&number)?,
                cert: decode(&cert, "a chosen number")?,
                transfers: decode(&transfers, "a chosen number")?,
                directory,
                record: decode(&record, "a chosen number")?,
            })
        };
        rows.into_iter().map(read).collect()
    }

    /// Keeps a number, or its newer certificate, and signs its account record.
    ///
    /// # Errors
    /// [`StorageError::Number`] if the certificate is not good now, or somebody else's; [`StorageError::TooLarge`] if the account has as
    /// many as it may have.
    pub async fn put_chosen(&self, key: &IdentityKey, new: NewNumber) -> Result<Number, StorageError> {
        let mut tx = db::write(self.pool()).await?;
        let number = put(&mut tx, key, &new, wall_clock()).await?;
        // How it has come here is beside it from now on, and what was once given away is the account's again.
        sqlx::query("DELETE FROM codes WHERE number = ?").bind(number.canonical()).execute(&mut *tx).await?;
        tx.commit().await?;
        self.changed();
        Ok(number)
    }

    /// Forgets a number that is the account's no more.
    ///
    /// # Errors
    /// [`StorageError::Database`].
    pub async fn remove_chosen(&self, number: &Number) -> Result<(), StorageError> {
        sqlx::query("DELETE FROM chosen WHERE number = ?")
            .bind(number.canonical())
            .execute(self.pool())
            .await?;
        self.changed();
        Ok(())
    }
}

/// Checks a certificate and writes it with a record that was signed just now.
pub(super) async fn put(
    tx: &mut db::Write,
    key: &IdentityKey,
    new: &NewNumber,
    now: UnixMillis,
) -> Result<Number, StorageError> {
    let cert = check(&new.cert, &key.public(), now)?;
    let held: Vec<(String,)> = sqlx::query_as("SELECT number FROM chosen").fetch_all(&mut **tx).await?;
    let held: BTreeSet<String> = held.into_iter().map(|(number,)| number).collect();
    if held.len() >= MAX_CHOSEN_NUMBERS && !held.contains(&cert.number.canonical()) {
        return Err(StorageError::TooLarge("The list of chosen numbers"));
    }
    if new.transfers.len() > MAX_TRANSFERS {
        return Err(StorageError::Number);
    }
    let record = sign_record(tx, key, &cert, new, now).await?;
    let directory = match &cert.number {
        Number::Chosen(chosen) => chosen.directory().unwrap_or_default().to_owned(),
        Number::Plain(_) => return Err(StorageError::Number),
    };
    sqlx::query(
        "INSERT INTO chosen (number, cert, transfers, directory, record) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (number) DO UPDATE SET cert = excluded.cert, transfers = excluded.transfers,
                                            record = excluded.record",
    )
    .bind(cert.number.canonical())
    .bind(wire::encode(&new.cert))
    .bind(wire::encode(&new.transfers))
    .bind(directory)
    .bind(wire::encode(&record))
    .execute(&mut **tx)
    .await?;
    Ok(cert.number)
}

/// Signs the records of all chosen numbers anew, as far as their certificates permit it.
pub(super) async fn renew(
    tx: &mut db::Write,
    key: &IdentityKey,
    now: UnixMillis,
) -> Result<(), StorageError> {
    let rows: Vec<(Vec<u8>, Vec<u8>)> =
        sqlx::query_as("SELECT cert, transfers FROM chosen").fetch_all(&mut **tx).await?;
    for (cert, transfers) in rows {
        let new = NewNumber {
            cert: decode(&cert, "a chosen number")?,
            transfers: decode(&transfers, "a chosen number")?,
        };
        // One whose certificate is over keeps the record that it has for as long as that lives.
        if check(&new.cert, &key.public(), now).is_ok() {
            put(tx, key, &new, now).await?;
        }
    }
    Ok(())
}

/// What a certificate says, if it is this identity's and good now.
pub(super) fn check(
    cert: &SignedChosenCert,
    identity: &IdentityId,
    now: UnixMillis,
) -> Result<ChosenCert, StorageError> {
    let cert = cert.verify(now).map_err(|_| StorageError::Number)?;
    if cert.identity == *identity { Ok(cert) } else { Err(StorageError::Number) }
}

/// The account record for a chosen number: that of the plain one with another number and proof.
async fn sign_record(
    tx: &mut db::Write,
    key: &IdentityKey,
    cert: &ChosenCert,
    new: &NewNumber,
    now: UnixMillis,
) -> Result<SignedAccount, StorageError> {
    let (body,): (Vec<u8>,) = sqlx::query_as("SELECT record_body FROM account").fetch_one(&mut **tx).await?;
    let plain: AccountRecord = decode(&body, "the account record")?;
    let NumberProof::Plain(PlainProof { nonce }) = plain.proof else {
        return Err(StorageError::Damaged("the number's proof"));
    };
    // Nodes refuse one that is older than its certificate's time by more than clocks may differ.
    let seq = now.max(cert.issued).max(plain.seq);
    let record = AccountRecord {
        number: cert.number.clone(),
        proof: NumberProof::Chosen(new.cert.clone(), PlainProof { nonce }),
        seq,
        expires: seq.plus(ACCOUNT_LIFETIME),
        transfers: new.transfers.clone(),
        ..plain
    };
    Ok(record.sign(key))
}
