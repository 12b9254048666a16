//! Accounts: who signed up.

use std::fmt;

use offhook::storage::AccountId;
use offhook_proto::identity::IdentityId;
use offhook_proto::number::PlainNumber;
use offhook_proto::proof::PlainProof;
use offhook_proto::wire::UnixMillis;
use sha2::{Digest as _, Sha256};
use sqlx::AnyConnection;

use super::audit;
use super::backups;
use super::blobs::Blobs;
use super::db::{self, bytes};
use super::{AuditEntry, Refused, Store, StoreError};

/// Most accounts or numbers that are listed at once.
pub const MAX_PAGE: u32 = 1_000;

/// What the directory knows of a password (RFC 9807, the registration record): enough to tell whether it is right, not to find it.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordFile(pub Vec<u8>);

impl PasswordFile {
    /// By which a log-in tells whether the password has been changed since it was begun.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(&self.0).into()
    }
}

impl fmt::Debug for PasswordFile {
    /// Without what is in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PasswordFile({} bytes)", self.0.len())
    }
}

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Whose it is. It never changes; everything else may.
    pub identity: IdentityId,
    /// With what its user logs in.
    pub id: AccountId,
    /// The identity's plain number.
    pub number: PlainNumber,
    /// What shows that.
    pub proof: PlainProof,
    /// How the password is checked.
    pub password_file: PasswordFile,
    /// The stored backup's version.
    pub backup_version: u64,
    /// When it was made.
    pub created: UnixMillis,
    /// Since when the operator lets nobody in, if he does not.
    pub closed: Option<UnixMillis>,
}

/// A new account. Its first backup has version 1.
#[derive(Clone, Debug)]
pub struct NewAccount {
    /// Whose it is.
    pub identity: IdentityId,
    /// With what its user logs in.
    pub id: AccountId,
    /// The identity's plain number, whose proof has been checked.
    pub number: PlainNumber,
    /// What shows that.
    pub proof: PlainProof,
    /// How the password is checked.
    pub password_file: PasswordFile,
    /// The first backup, encrypted where the user sits.
    pub backup: Vec<u8>,
}

/// A new ID or password, and the backup that it opens.
#[derive(Clone, Debug)]
pub struct NewCredentials {
    /// The ID, new or as before.
    pub id: AccountId,
    /// How the password is checked.
    pub password_file: PasswordFile,
    /// The version of the backup.
    pub version: u64,
    /// The backup, encrypted under the new password.
    pub backup: Vec<u8>,
}

/// A row of an account.
type Row = (Vec<u8>, String, String, i64, Vec<u8>, i64, i64, i64);

/// What makes an [`Account`], of those that the rest of the statement says.
macro_rules! select {
    ($of:literal) => {
        concat!(
            "SELECT a.identity, a.id, a.number, a.proof_nonce, a.password_file, b.version, a.created, a.closed \
             FROM accounts a JOIN backups b ON b.identity = a.identity ",
            $of
        )
    };
}

impl Store {
    /// Makes an account.
    ///
    /// # Errors
    /// [`Refused::IdTaken`], [`Refused::IdentityTaken`], or another [`StoreError`].
    pub async fn sign_up(&self, account: NewAccount, now: UnixMillis) -> Result<(), StoreError> {
        let NewAccount { identity, id, number, proof, password_file, backup } = account;
        let stored = self.store_blob(&identity, 1, backup, now).await?;
        let blob = stored.blob.clone();
        let change = self.db.write(move |connection| {
            Box::pin(async move {
                let added = sqlx::query(
                    "INSERT INTO accounts (identity, id, number, proof_nonce, password_file, created) \
                     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
                )
                .bind(identity.as_bytes().to_vec())
                .bind(id.as_str().to_owned())
                .bind(number.as_str().to_owned())
                .bind(proof.nonce.cast_signed())
                .bind(password_file.0)
                .bind(db::time(now))
                .execute(&mut *connection)
                .await?;
                if added.rows_affected() == 0 {
                    return Err(who_is_there(connection, &id).await?.into());
                }
                backups::insert(connection, &identity, &stored).await
            })
        });
        self.keep_blob_if(&blob, change.await).await
    }

    /// The account of an ID.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn account_by_id(&self, id: &AccountId) -> Result<Option<Account>, StoreError> {
        let row: Option<Row> = sqlx::query_as(select!("WHERE a.id = $1"))
            .bind(id.as_str().to_owned())
            .fetch_optional(self.db.pool())
            .await?;
        row.map(account).transpose()
    }

    /// The account of an identity.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn account(&self, identity: &IdentityId) -> Result<Option<Account>, StoreError> {
        let identity = identity.as_bytes().to_vec();
        let row: Option<Row> = sqlx::query_as(select!("WHERE a.identity = $1"))
            .bind(identity)
            .fetch_optional(self.db.pool())
            .await?;
        row.map(account).transpose()
    }

    /// Accounts in the order of their IDs, from the first after `after` on, at most [`MAX_PAGE`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn accounts(&self, after: Option<&AccountId>, most: u32) -> Result<Vec<Account>, StoreError> {
        let after = after.map_or_else(String::new, |id| id.as_str().to_owned());
        let page = sqlx::query_as(select!("WHERE a.id > $1 ORDER BY a.id LIMIT $2"))
            .bind(after)
            .bind(i64::from(most.min(MAX_PAGE)));
        let rows: Vec<Row> = page.fetch_all(self.db.pool()).await?;
        rows.into_iter().map(account).collect()
    }

    /// How many accounts there are.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn count_accounts(&self) -> Result<u64, StoreError> {
        let count = sqlx::query_scalar("SELECT COUNT(*) FROM accounts").fetch_one(self.db.pool()).await?;
        Ok(db::uint(count))
    }

    /// Changes ID and password together with the backup that they open, and ends all sessions.
    ///
    /// # Errors
    /// [`Refused::IdTaken`], [`Refused::Version`], [`Refused::NoAccount`], or another [`StoreError`].
    pub async fn change_credentials(
        &self,
        identity: &IdentityId,
        new: NewCredentials,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let stored = self.store_blob(identity, new.version, new.backup, now).await?;
        let (identity, blob) = (*identity, stored.blob.clone());
        let change = self.db.write(move |connection| {
            Box::pin(async move {
                let changed =
                    sqlx::query("UPDATE accounts SET id = $2, password_file = $3 WHERE identity = $1")
                        .bind(identity.as_bytes().to_vec())
                        .bind(new.id.as_str().to_owned())
                        .bind(new.password_file.0)
                        .execute(&mut *connection)
                        .await;
                match changed {
                    Ok(changed) if changed.rows_affected() == 0 => return Err(Refused::NoAccount.into()),
                    Ok(_) => {}
                    Err(error) if db::is_taken(&error) => return Err(Refused::IdTaken.into()),
                    Err(error) => return Err(error.into()),
                }
                let replaced = backups::replace(connection, &identity, &stored).await?;
                sqlx::query("DELETE FROM sessions WHERE identity = $1")
                    .bind(identity.as_bytes().to_vec())
                    .execute(&mut *connection)
                    .await?;
                Ok(replaced)
            })
        });
        self.replace_blob_if(&blob, change.await, now).await
    }

    /// Erases an account with its backup, its sessions and its quotas. Its chosen numbers stay its identity's. The operator's `deed`
    /// is written down with it, if it is one.
    ///
    /// # Errors
    /// [`Refused::NoAccount`], or another [`StoreError`].
    pub async fn delete_account(
        &self,
        identity: &IdentityId,
        deed: Option<AuditEntry>,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let identity = *identity;
        let change = self.db.write(move |connection| {
            Box::pin(async move {
                // In the order of the other changes, so that two never wait for each other.
                hold_account(connection, &identity).await?;
                // First, so that it is not replaced in between.
                let forgotten = backups::forget(connection, &identity).await?;
                let gone = sqlx::query("DELETE FROM accounts WHERE identity = $1")
                    .bind(identity.as_bytes().to_vec())
                    .execute(&mut *connection)
                    .await?;
                if gone.rows_affected() == 0 {
                    return Err(Refused::NoAccount.into());
                }
                audit::add(connection, deed).await?;
                Ok(forgotten)
            })
        });
        self.erase_replaced(change.await?, now).await;
        Ok(())
    }
}

impl Store {
    /// Closes an account, and ends its sessions: nobody is let in, and nothing of it is lost. Or opens it again.
    ///
    /// # Errors
    /// [`Refused::NoAccount`], or another [`StoreError`].
    pub async fn close_account(
        &self,
        identity: &IdentityId,
        closed: Option<UnixMillis>,
        deed: AuditEntry,
    ) -> Result<(), StoreError> {
        let identity = identity.as_bytes().to_vec();
        let change = self.db.write(move |connection| {
            Box::pin(async move {
                // In this order no log-in slips in between: it holds the account as well.
                let changed = sqlx::query("UPDATE accounts SET closed = $2 WHERE identity = $1")
                    .bind(identity.clone())
                    .bind(closed.map_or(0, db::time))
                    .execute(&mut *connection)
                    .await?;
                if changed.rows_affected() == 0 {
                    return Err(Refused::NoAccount.into());
                }
                if closed.is_some() {
                    let end = sqlx::query("DELETE FROM sessions WHERE identity = $1").bind(identity);
                    end.execute(&mut *connection).await?;
                }
                audit::add(connection, Some(deed)).await
            })
        });
        change.await
    }
}

/// A blob that cannot be erased now is swept later.
pub(super) async fn erase_or_leave(blobs: &Blobs, blob: &str) {
    if let Err(error) = blobs.erase(blob).await {
        tracing::warn!(%error, "a backup that nothing points to any more could not be erased yet");
    }
}

/// Keeps other changes of an account away until this one is done.
pub(super) async fn hold_account(
    connection: &mut AnyConnection,
    identity: &IdentityId,
) -> Result<(), StoreError> {
    let held = sqlx::query("UPDATE accounts SET created = created WHERE identity = $1")
        .bind(identity.as_bytes().to_vec())
        .execute(connection)
        .await?;
    if held.rows_affected() == 0 { Err(Refused::NoAccount.into()) } else { Ok(()) }
}

async fn who_is_there(connection: &mut AnyConnection, id: &AccountId) -> Result<Refused, StoreError> {
    let taken: Option<i64> = sqlx::query_scalar("SELECT created FROM accounts WHERE id = $1")
        .bind(id.as_str().to_owned())
        .fetch_optional(connection)
        .await?;
    Ok(if taken.is_some() { Refused::IdTaken } else { Refused::IdentityTaken })
}

fn account(
    (identity, id, number, nonce, password_file, version, created, closed): Row,
) -> Result<Account, StoreError> {
    let damaged = || StoreError::Damaged("an account");
    let digits: Vec<u8> = number.bytes().map(|digit| digit.wrapping_sub(b'0')).collect();
    Ok(Account {
        identity: IdentityId::from_bytes(bytes(&identity, "an account")?),
        id: id.parse().map_err(|_| damaged())?,
        number: PlainNumber::from_digits(&digits).map_err(|_| damaged())?,
        proof: PlainProof { nonce: nonce.cast_unsigned() },
        password_file: PasswordFile(password_file),
        backup_version: db::uint(version),
        created: db::at(created),
        closed: (closed > 0).then(|| db::at(closed)),
    })
}
