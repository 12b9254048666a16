//! Chosen numbers: who holds which. A number is held for longer than its certificate is good, because records that were signed
//! with it live on (see `offhook_proto::record`); only when the last of them has lapsed may somebody else have it.

use offhook_proto::identity::IdentityId;
use offhook_proto::wire::UnixMillis;
use sqlx::AnyConnection;

use super::list::{self, Append};
use super::quotas::{self, Quota};
use super::{MAX_PAGE, Refused, Store, StoreError, db};

/// Chosen numbers of an identity, where the operator has not said otherwise.
pub const MAX_NUMBERS: u64 = 8;

/// A number to issue, or to issue again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Its normal form, without the directory.
    pub name: String,
    /// What the eye sees (UTS 39).
    pub skeleton: String,
    /// For whom.
    pub identity: IdentityId,
    /// The certificate.
    pub certificate: Vec<u8>,
    /// The certificate's first moment.
    pub issued: UnixMillis,
    /// The certificate's last moment.
    pub expires: UnixMillis,
    /// Until then nobody else gets it.
    pub held_until: UnixMillis,
}

/// A number that somebody holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldNumber {
    /// Its normal form, without the directory.
    pub name: String,
    /// Whose it is.
    pub identity: IdentityId,
    /// The certificate; `None` when it has been released, and is only kept from others.
    pub certificate: Option<Vec<u8>>,
    /// The certificate's first moment.
    pub issued: UnixMillis,
    /// The certificate's last moment.
    pub expires: UnixMillis,
    /// Until then nobody else gets it.
    pub held_until: UnixMillis,
}

type Row = (String, Vec<u8>, Option<Vec<u8>>, i64, i64, i64);

impl Store {
    /// Gives a number to an account for the first time, or again after it has released it.
    ///
    /// # Errors
    /// [`Refused::NumberTaken`], [`Refused::LookAlike`], [`Refused::TooManyNumbers`], [`Refused::NoAccount`], or another
    /// [`StoreError`].
    pub async fn claim_number(
        &self,
        issue: Issue,
        append: Append,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let change = self.db.write(move |connection| {
            Box::pin(async move {
                hold_account(connection, &issue.identity).await?;
                make_room(connection, &issue, now).await?;
                check_count(connection, &issue.identity).await?;
                insert(connection, &issue).await?;
                list::append(connection, append).await
            })
        });
        change.await
    }

    /// Gives an account a new certificate of its number.
    ///
    /// # Errors
    /// [`Refused::NotYours`], or another [`StoreError`].
    pub async fn renew_number(&self, issue: Issue, append: Append) -> Result<(), StoreError> {
        let owner = issue.identity;
        let change = self.db.write(move |connection| {
            Box::pin(async move {
                reissue(connection, &issue, &owner).await?;
                list::append(connection, append).await
            })
        });
        change.await
    }

    /// Gives an account the number of another one. Whether that one has signed it is the caller's to check.
    ///
    /// # Errors
    /// [`Refused::NotYours`] if it is not `from`'s, [`Refused::TooManyNumbers`], [`Refused::NoAccount`], or another
    /// [`StoreError`].
    pub async fn transfer_number(
        &self,
        from: IdentityId,
        issue: Issue,
        append: Append,
    ) -> Result<(), StoreError> {
        let change = self.db.write(move |connection| {
            Box::pin(async move {
                hold_account(connection, &issue.identity).await?;
                check_count(connection, &issue.identity).await?;
                reissue(connection, &issue, &from).await?;
                list::append(connection, append).await
            })
        });
        change.await
    }

    /// Takes a number out of use; until `held_until` of its last issue nobody else gets it.
    ///
    /// # Errors
    /// [`Refused::NotYours`], or another [`StoreError`].
    pub async fn release_number(
        &self,
        name: &str,
        identity: &IdentityId,
        append: Append,
    ) -> Result<(), StoreError> {
        let (name, identity) = (name.to_owned(), identity.as_bytes().to_vec());
        let change = self.db.write(move |connection| {
            Box::pin(async move {
                let released = sqlx::query(
                    "UPDATE numbers SET certificate = NULL \
                     WHERE name = $1 AND identity = $2 AND certificate IS NOT NULL",
                );
                let released = released.bind(name).bind(identity).execute(&mut *connection).await?;
                if released.rows_affected() == 0 {
                    return Err(Refused::NotYours.into());
                }
                list::append(connection, append).await
            })
        });
        change.await
    }

    /// Who holds a number, if anybody does.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn number(&self, name: &str) -> Result<Option<HeldNumber>, StoreError> {
        let row: Option<Row> = sqlx::query_as(
            "SELECT name, identity, certificate, issued, expires, held_until FROM numbers WHERE name = $1",
        )
        .bind(name.to_owned())
        .fetch_optional(self.db.pool())
        .await?;
        row.map(held).transpose()
    }

    /// The number that looks like this, if there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn number_that_looks_like(&self, skeleton: &str) -> Result<Option<HeldNumber>, StoreError> {
        let row: Option<Row> = sqlx::query_as(
            "SELECT name, identity, certificate, issued, expires, held_until FROM numbers WHERE skeleton = $1",
        )
        .bind(skeleton.to_owned())
        .fetch_optional(self.db.pool())
        .await?;
        row.map(held).transpose()
    }

    /// The numbers that an identity has and has not released.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn numbers_of(&self, identity: &IdentityId) -> Result<Vec<HeldNumber>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT name, identity, certificate, issued, expires, held_until FROM numbers \
             WHERE identity = $1 AND certificate IS NOT NULL ORDER BY name",
        )
        .bind(identity.as_bytes().to_vec())
        .fetch_all(self.db.pool())
        .await?;
        rows.into_iter().map(held).collect()
    }

    /// Numbers in the order of their names, from the first after `after` on, at most [`MAX_PAGE`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn numbers(&self, after: &str, most: u32) -> Result<Vec<HeldNumber>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT name, identity, certificate, issued, expires, held_until FROM numbers \
             WHERE name > $1 ORDER BY name LIMIT $2",
        )
        .bind(after.to_owned())
        .bind(i64::from(most.min(MAX_PAGE)))
        .fetch_all(self.db.pool())
        .await?;
        rows.into_iter().map(held).collect()
    }
}

/// Keeps other changes away from an account's numbers until this one is done.
async fn hold_account(connection: &mut AnyConnection, identity: &IdentityId) -> Result<(), StoreError> {
    let held = sqlx::query("UPDATE accounts SET created = created WHERE identity = $1")
        .bind(identity.as_bytes().to_vec())
        .execute(connection)
        .await?;
    if held.rows_affected() == 0 { Err(Refused::NoAccount.into()) } else { Ok(()) }
}

/// Whether the name may be given away, and to this identity; takes away what has lapsed.
async fn make_room(connection: &mut AnyConnection, issue: &Issue, now: UnixMillis) -> Result<(), StoreError> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT name, identity, certificate, issued, expires, held_until FROM numbers WHERE name = $1 OR skeleton = $2",
    )
    .bind(issue.name.clone())
    .bind(issue.skeleton.clone())
    .fetch_all(&mut *connection)
    .await?;
    for row in rows {
        let other = held(row)?;
        let is_lapsed = other.held_until <= now;
        let is_own_released =
            other.name == issue.name && other.identity == issue.identity && other.certificate.is_none();
        if !is_lapsed && !is_own_released {
            let is_same = other.name == issue.name;
            return Err(if is_same { Refused::NumberTaken } else { Refused::LookAlike }.into());
        }
        sqlx::query("DELETE FROM numbers WHERE name = $1").bind(other.name).execute(&mut *connection).await?;
    }
    Ok(())
}

async fn check_count(connection: &mut AnyConnection, identity: &IdentityId) -> Result<(), StoreError> {
    let most = quotas::of(connection, identity, Quota::Numbers).await?.unwrap_or(MAX_NUMBERS);
    let count: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM numbers WHERE identity = $1 AND certificate IS NOT NULL")
            .bind(identity.as_bytes().to_vec())
            .fetch_one(connection)
            .await?;
    if db::uint(count) >= most { Err(Refused::TooManyNumbers { most }.into()) } else { Ok(()) }
}

async fn insert(connection: &mut AnyConnection, issue: &Issue) -> Result<(), StoreError> {
    let inserted = sqlx::query(
        "INSERT INTO numbers (name, skeleton, identity, certificate, issued, expires, held_until) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(issue.name.clone())
    .bind(issue.skeleton.clone())
    .bind(issue.identity.as_bytes().to_vec())
    .bind(issue.certificate.clone())
    .bind(db::time(issue.issued))
    .bind(db::time(issue.expires))
    .bind(db::time(issue.held_until))
    .execute(connection)
    .await;
    match inserted {
        Ok(_) => Ok(()),
        // Somebody was quicker.
        Err(error) if db::is_taken(&error) => Err(Refused::NumberTaken.into()),
        Err(error) => Err(error.into()),
    }
}

async fn reissue(
    connection: &mut AnyConnection,
    issue: &Issue,
    owner: &IdentityId,
) -> Result<(), StoreError> {
    let changed = sqlx::query(
        "UPDATE numbers SET identity = $2, certificate = $3, issued = $4, expires = $5, held_until = $6 \
         WHERE name = $1 AND identity = $7 AND certificate IS NOT NULL",
    )
    .bind(issue.name.clone())
    .bind(issue.identity.as_bytes().to_vec())
    .bind(issue.certificate.clone())
    .bind(db::time(issue.issued))
    .bind(db::time(issue.expires))
    .bind(db::time(issue.held_until))
    .bind(owner.as_bytes().to_vec())
    .execute(connection)
    .await?;
    if changed.rows_affected() == 0 { Err(Refused::NotYours.into()) } else { Ok(()) }
}

fn held((name, identity, certificate, issued, expires, held_until): Row) -> Result<HeldNumber, StoreError> {
    Ok(HeldNumber {
        name,
        identity: IdentityId::from_bytes(db::bytes(&identity, "a number")?),
        certificate,
        issued: db::at(issued),
        expires: db::at(expires),
        held_until: db::at(held_until),
    })
}
