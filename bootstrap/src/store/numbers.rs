//! Chosen numbers: who holds which. A number is held for longer than its certificate is good, because records that were signed
//! with it live on (see `offhook_proto::record`); only when the last of them has lapsed may somebody else have it.

use offhook_proto::identity::IdentityId;
use offhook_proto::wire::UnixMillis;
use sqlx::any::AnyQueryResult;
use sqlx::query::Query;
use sqlx::{Any, AnyConnection};

use super::accounts::hold_account;
use super::list::{self, Append};
use super::quotas::{self, Quota};
use super::reserved;
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
    /// When whom it is for has asked for it, or the one before has given it away. What was signed before that moves or frees it no
    /// more. A renewal changes nothing of it; somebody who had it before gets it back with no earlier time than it had then.
    pub since: UnixMillis,
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
    /// See [`Issue::since`].
    pub since: UnixMillis,
    /// Until then it is kept for whom it has been given to; long ago if it has not been.
    pub given_until: UnixMillis,
}

/// What makes a [`HeldNumber`], of those that the rest of the statement says.
macro_rules! select {
    ($of:literal) => {
        concat!(
            "SELECT name, identity, certificate, issued, expires, held_until, since, given_until FROM numbers ",
            $of
        )
    };
}

type Row = (String, Vec<u8>, Option<Vec<u8>>, i64, i64, i64, i64, i64);

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
                reserved::check(connection, &issue.skeleton).await??;
                let before = make_room(connection, &issue, now).await?;
                check_count(connection, &issue.identity).await?;
                let since = before.map_or(issue.since, |before| before.max(issue.since));
                insert(connection, &Issue { since, ..issue }).await?;
                list::append(connection, append).await
            })
        });
        change.await
    }

    /// Whether a number would be given to an account now, which changes nothing.
    ///
    /// # Errors
    /// [`Refused::NumberTaken`], [`Refused::LookAlike`], [`Refused::TooManyNumbers`], or another [`StoreError`].
    pub async fn check_claim(&self, issue: &Issue, now: UnixMillis) -> Result<(), StoreError> {
        let mut connection = self.db.pool().acquire().await?;
        reserved::check(&mut connection, &issue.skeleton).await??;
        in_the_way(&mut connection, issue, now).await?;
        check_count(&mut connection, &issue.identity).await
    }

    /// Whether an account may have one more number.
    ///
    /// # Errors
    /// [`Refused::TooManyNumbers`], or another [`StoreError`].
    pub async fn check_number_count(&self, identity: &IdentityId) -> Result<(), StoreError> {
        check_count(&mut *self.db.pool().acquire().await?, identity).await
    }

    /// Gives an account a new certificate of its number.
    ///
    /// # Errors
    /// [`Refused::NotYours`], also if it has been given away, or another [`StoreError`].
    pub async fn renew_number(
        &self,
        issue: Issue,
        append: Append,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let change = self.db.write(move |connection| {
            Box::pin(async move {
                let renew = sqlx::query(
                    "UPDATE numbers SET certificate = $3, issued = $4, expires = $5, held_until = $6 \
                     WHERE name = $1 AND identity = $2 AND certificate IS NOT NULL AND given_until <= $7",
                );
                changed_one(certified(renew, &issue).bind(db::time(now)).execute(&mut *connection).await?)?;
                list::append(connection, append).await
            })
        });
        change.await
    }

    /// Keeps a number until then for whom its owner has given it to, by something signed at `at`: the owner can neither renew nor
    /// release it. Whether he has signed is the caller's to check.
    ///
    /// # Errors
    /// [`Refused::NotYours`] if it is not `from`'s, or was not yet at that time; or another [`StoreError`].
    pub async fn give_number(
        &self,
        name: &str,
        from: &IdentityId,
        at: UnixMillis,
        until: UnixMillis,
    ) -> Result<(), StoreError> {
        let (name, from) = (name.to_owned(), from.as_bytes().to_vec());
        let change = self.db.write(move |connection| {
            Box::pin(async move {
                let given = sqlx::query(
                    "UPDATE numbers SET given_until = $4 \
                     WHERE name = $1 AND identity = $2 AND certificate IS NOT NULL AND since < $3",
                );
                let given = given.bind(name).bind(from).bind(db::time(at)).bind(db::time(until));
                changed_one(given.execute(connection).await?)
            })
        });
        change.await
    }

    /// Gives an account the number of another one. Whether that one has signed it, at [`Issue::since`], is the caller's to check.
    ///
    /// # Errors
    /// [`Refused::NotYours`] if it is not `from`'s, or was not yet at that time, [`Refused::TooManyNumbers`], [`Refused::NoAccount`], or another
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
                let transfer = sqlx::query(
                    "UPDATE numbers SET identity = $2, certificate = $3, issued = $4, expires = $5, held_until = $6, \
                     since = $7, given_until = 0 \
                     WHERE name = $1 AND identity = $8 AND certificate IS NOT NULL AND since < $7",
                );
                let transfer = certified(transfer, &issue).bind(db::time(issue.since));
                let transfer = transfer.bind(from.as_bytes().to_vec());
                changed_one(transfer.execute(&mut *connection).await?)?;
                list::append(connection, append).await
            })
        });
        change.await
    }

    /// Takes a number out of use, by a request signed at `asked`; until `held_until` of its last issue nobody else gets it.
    ///
    /// # Errors
    /// [`Refused::NotYours`], also if it has been given away or was not yet its own at that time, or another [`StoreError`].
    pub async fn release_number(
        &self,
        name: &str,
        identity: &IdentityId,
        asked: UnixMillis,
        append: Append,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let (name, identity) = (name.to_owned(), identity.as_bytes().to_vec());
        let change = self.db.write(move |connection| {
            Box::pin(async move {
                let released = sqlx::query(
                    "UPDATE numbers SET certificate = NULL, since = $5 \
                     WHERE name = $1 AND identity = $2 AND certificate IS NOT NULL AND given_until <= $3 AND since <= $4",
                );
                let released = released.bind(name).bind(identity).bind(db::time(now)).bind(db::time(asked));
                // The next one has to be later.
                let released = released.bind(db::time(UnixMillis(asked.0.saturating_add(1))));
                changed_one(released.execute(&mut *connection).await?)?;
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
        let row: Option<Row> = sqlx::query_as(select!("WHERE name = $1"))
            .bind(name.to_owned())
            .fetch_optional(self.db.pool())
            .await?;
        row.map(held).transpose()
    }

    /// The number of this name and the one that looks like it, as far as there are such: at most two.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn numbers_like(&self, name: &str, skeleton: &str) -> Result<Vec<HeldNumber>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(select!("WHERE name = $1 OR skeleton = $2"))
            .bind(name.to_owned())
            .bind(skeleton.to_owned())
            .fetch_all(self.db.pool())
            .await?;
        rows.into_iter().map(held).collect()
    }

    /// The numbers that an identity has and has not released.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn numbers_of(&self, identity: &IdentityId) -> Result<Vec<HeldNumber>, StoreError> {
        let rows: Vec<Row> =
            sqlx::query_as(select!("WHERE identity = $1 AND certificate IS NOT NULL ORDER BY name"))
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
        let rows: Vec<Row> = sqlx::query_as(select!("WHERE name > $1 ORDER BY name LIMIT $2"))
            .bind(after.to_owned())
            .bind(i64::from(most.min(MAX_PAGE)))
            .fetch_all(self.db.pool())
            .await?;
        rows.into_iter().map(held).collect()
    }
}

/// A row that makes room for a number, unless somebody is quicker.
struct InTheWay {
    name: String,
    /// Why the number is refused if it does not make room.
    refused: Refused,
    /// If it was the same identity's before, since when.
    before: Option<UnixMillis>,
}

/// Whether the name may be given away, and to this identity; the names that have lapsed.
async fn in_the_way(
    connection: &mut AnyConnection,
    issue: &Issue,
    now: UnixMillis,
) -> Result<Vec<InTheWay>, StoreError> {
    let rows: Vec<Row> = sqlx::query_as(select!("WHERE name = $1 OR skeleton = $2"))
        .bind(issue.name.clone())
        .bind(issue.skeleton.clone())
        .fetch_all(&mut *connection)
        .await?;
    let judge = |row| {
        let other = held(row)?;
        let is_lapsed = other.held_until <= now;
        let is_own_released =
            other.name == issue.name && other.identity == issue.identity && other.certificate.is_none();
        let refused = if other.name == issue.name { Refused::NumberTaken } else { Refused::LookAlike };
        if !is_lapsed && !is_own_released {
            return Err(refused.into());
        }
        Ok(InTheWay { name: other.name, refused, before: is_own_released.then_some(other.since) })
    };
    rows.into_iter().map(judge).collect()
}

/// Takes away what has lapsed, if the name may be given away, and to this identity. If it was this identity's before, since when.
async fn make_room(
    connection: &mut AnyConnection,
    issue: &Issue,
    now: UnixMillis,
) -> Result<Option<UnixMillis>, StoreError> {
    let mut since = None;
    for InTheWay { name, refused, before } in in_the_way(connection, issue, now).await? {
        since = since.max(before);
        // Its owner may have renewed or claimed it since it was read, or somebody else may have taken its place.
        let gone = sqlx::query(
            "DELETE FROM numbers WHERE name = $1 \
             AND (held_until <= $2 OR (name = $3 AND identity = $4 AND certificate IS NULL))",
        )
        .bind(name)
        .bind(db::time(now))
        .bind(issue.name.clone())
        .bind(issue.identity.as_bytes().to_vec())
        .execute(&mut *connection)
        .await?;
        if gone.rows_affected() == 0 {
            return Err(refused.into());
        }
    }
    Ok(since)
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
    let insert = sqlx::query(
        "INSERT INTO numbers (name, identity, certificate, issued, expires, held_until, skeleton, since) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    );
    let insert = certified(insert, issue).bind(issue.skeleton.clone()).bind(db::time(issue.since));
    let inserted = insert.execute(connection).await;
    match inserted {
        Ok(_) => Ok(()),
        // Somebody was quicker.
        Err(error) if db::is_taken(&error) => Err(Refused::NumberTaken.into()),
        Err(error) => Err(error.into()),
    }
}

type Update<'q> = Query<'q, Any, <Any as sqlx::Database>::Arguments>;

/// Binds `$1` to `$6`: the name, for whom, and the certificate.
fn certified<'q>(update: Update<'q>, issue: &Issue) -> Update<'q> {
    update
        .bind(issue.name.clone())
        .bind(issue.identity.as_bytes().to_vec())
        .bind(issue.certificate.clone())
        .bind(db::time(issue.issued))
        .bind(db::time(issue.expires))
        .bind(db::time(issue.held_until))
}

/// Whether there was such a number.
fn changed_one(outcome: AnyQueryResult) -> Result<(), StoreError> {
    if outcome.rows_affected() == 0 { Err(Refused::NotYours.into()) } else { Ok(()) }
}

fn held(
    (name, identity, certificate, issued, expires, held_until, since, given_until): Row,
) -> Result<HeldNumber, StoreError> {
    Ok(HeldNumber {
        name,
        identity: IdentityId::from_bytes(db::bytes(&identity, "a number")?),
        certificate,
        issued: db::at(issued),
        expires: db::at(expires),
        held_until: db::at(held_until),
        since: db::at(since),
        given_until: db::at(given_until),
    })
}
