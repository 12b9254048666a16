//! How often somebody has tried something lately, by the generic cell rate algorithm (ITU-T I.371): one time for each
//! subject, which every attempt moves on, and which may be so far ahead.

use std::sync::Arc;
use std::time::Duration;

use offhook_proto::wire::UnixMillis;
use sha2::{Digest as _, Sha256};
use sqlx::AnyConnection;

use super::watched::Hits;
use super::{Refused, SWEPT_AT_ONCE, Store, StoreError, db};

/// What is limited. The same account or address counts for each of them on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// Passwords tried for one ID, from wherever.
    LoginId,
    /// Passwords tried for one ID from one network.
    LoginIdNetwork,
    /// Passwords tried for one ID from a network and its neighbours.
    LoginIdWide,
    /// Passwords tried from one network.
    LoginNetwork,
    /// Passwords tried from a network and its neighbours.
    LoginWide,
    /// Networks from which an account is known to log in.
    LoginKnown,
    /// One log-in, which ends once.
    Login,
    /// Sign-ups from one network.
    SignUpNetwork,
    /// Sign-ups from a network and its neighbours.
    SignUpWide,
    /// Numbers looked up from one network.
    LookUpNetwork,
    /// Numbers looked up from a network and its neighbours.
    LookUpWide,
    /// Changes by one account.
    ChangeAccount,
    /// Numbers issued to one account.
    IssueAccount,
    /// Numbers issued to those in a network and its neighbours.
    IssueWide,
    /// One signed request, which is done once.
    Request,
}

impl Subject {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 15] = [
        Self::LoginId,
        Self::LoginIdNetwork,
        Self::LoginIdWide,
        Self::LoginNetwork,
        Self::LoginWide,
        Self::LoginKnown,
        Self::Login,
        Self::SignUpNetwork,
        Self::SignUpWide,
        Self::LookUpNetwork,
        Self::LookUpWide,
        Self::ChangeAccount,
        Self::IssueAccount,
        Self::IssueWide,
        Self::Request,
    ];

    /// A stable word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LoginId => "login id",
            Self::LoginIdNetwork => "login id network",
            Self::LoginIdWide => "login id wide",
            Self::LoginNetwork => "login network",
            Self::LoginWide => "login wide",
            Self::LoginKnown => "login known",
            Self::Login => "login",
            Self::SignUpNetwork => "sign-up network",
            Self::SignUpWide => "sign-up wide",
            Self::LookUpNetwork => "look-up network",
            Self::LookUpWide => "look-up wide",
            Self::ChangeAccount => "change account",
            Self::IssueAccount => "issue account",
            Self::IssueWide => "issue wide",
            Self::Request => "request",
        }
    }
}

/// A limit: so many at once, then one in so much time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    subject: Subject,
    /// A hash of subject and key: IDs and addresses of visitors are nobody's business.
    what: [u8; 32],
    at_once: u32,
    every: Duration,
}

impl Limit {
    /// `at_once` attempts of whoever `key` is, then one `every` so often.
    pub fn new(subject: Subject, key: &[u8], at_once: u32, every: Duration) -> Self {
        let mut hash = Sha256::new();
        hash.update(subject.name());
        hash.update([0]);
        hash.update(key);
        Self { subject, what: hash.finalize().into(), at_once, every }
    }
}

/// Something that is remembered of an account for a time; so many of one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    what: [u8; 32],
    time: Duration,
    limit: Limit,
}

impl Memory {
    /// `what` is a hash that tells nobody anything; it is remembered so long, within the limit.
    pub const fn new(what: [u8; 32], time: Duration, limit: Limit) -> Self {
        Self { what, time, limit }
    }
}

impl Store {
    /// Makes an attempt that counts for all `limits`, or for none of them if one is reached.
    ///
    /// # Errors
    /// [`Refused::TooMany`], or another [`StoreError`].
    pub async fn attempt(&self, mut limits: Vec<Limit>, now: UnixMillis) -> Result<(), StoreError> {
        // In one order, so that two attempts never wait for each other.
        limits.sort_by_key(|limit| limit.what);
        // A crash may forget the last of them: a second's worth.
        let hits = Arc::clone(&self.hits);
        let change = self.db.write_lightly(move |connection| {
            Box::pin(async move {
                for limit in &limits {
                    count(connection, limit, &hits, now).await?;
                }
                Ok(())
            })
        });
        change.await
    }

    /// Whether something is remembered until later than now: see [`NewSession::remember`](super::NewSession::remember).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remembers(&self, what: &Memory, now: UnixMillis) -> Result<bool, StoreError> {
        let due: Option<i64> = sqlx::query_scalar("SELECT due FROM attempts WHERE what = $1 AND due > $2")
            .bind(what.what.to_vec())
            .bind(db::time(now))
            .fetch_optional(self.db.pool())
            .await?;
        Ok(due.is_some())
    }

    /// The same for one that not even a crash may forget.
    ///
    /// # Errors
    /// [`Refused::TooMany`], or another [`StoreError`].
    pub async fn attempt_for_good(&self, limit: Limit, now: UnixMillis) -> Result<(), StoreError> {
        let hits = Arc::clone(&self.hits);
        let change = self
            .db
            .write(move |connection| Box::pin(async move { count(connection, &limit, &hits, now).await }));
        change.await
    }

    /// Forgets attempts that count no more.
    ///
    /// # Errors
    /// [`StoreError`]; the rest is forgotten the next time.
    pub async fn sweep_attempts(&self, now: UnixMillis) -> Result<(), StoreError> {
        let change = || {
            self.db.write_lightly(move |connection| {
                Box::pin(async move {
                    let over = sqlx::query(
                        "DELETE FROM attempts WHERE what IN (SELECT what FROM attempts WHERE due <= $1 LIMIT $2)",
                    );
                    let over = over.bind(db::time(now)).bind(SWEPT_AT_ONCE);
                    Ok(over.execute(connection).await?.rows_affected())
                })
            })
        };
        while change().await? > 0 {}
        Ok(())
    }
}

/// Remembers something, unless its account has had so much remembered lately: then the attempt is undone.
pub(super) async fn remember(
    connection: &mut AnyConnection,
    memory: &Memory,
    now: UnixMillis,
) -> Result<(), StoreError> {
    let known: Option<i64> = sqlx::query_scalar("SELECT due FROM attempts WHERE what = $1")
        .bind(memory.what.to_vec())
        .fetch_optional(&mut *connection)
        .await?;
    if known.is_none_or(|due| due <= db::time(now))
        && !try_count(connection, &memory.limit, db::time(now)).await?
    {
        return Ok(());
    }
    sqlx::query("INSERT INTO attempts (what, due) VALUES ($1, $2) ON CONFLICT (what) DO UPDATE SET due = excluded.due")
        .bind(memory.what.to_vec())
        .bind(db::time(now.plus(memory.time)))
        .execute(connection)
        .await?;
    Ok(())
}

async fn count(
    connection: &mut AnyConnection,
    limit: &Limit,
    hits: &Hits,
    now: UnixMillis,
) -> Result<(), StoreError> {
    let (now, every) = (db::time(now), db::span(limit.every));
    if try_count(connection, limit, now).await? {
        return Ok(());
    }
    hits.count(limit.subject);
    let ahead = every.saturating_mul(i64::from(limit.at_once));
    let due: i64 = sqlx::query_scalar("SELECT due FROM attempts WHERE what = $1")
        .bind(limit.what.to_vec())
        .fetch_one(connection)
        .await?;
    let wait = due.saturating_add(every).saturating_sub(ahead).saturating_sub(now);
    Err(Refused::TooMany { retry_after: Duration::from_millis(db::uint(wait)) }.into())
}

/// Whether one more is within the limit; then it is counted.
async fn try_count(connection: &mut AnyConnection, limit: &Limit, now: i64) -> Result<bool, StoreError> {
    let every = db::span(limit.every);
    let ahead = every.saturating_mul(i64::from(limit.at_once));
    let counted = sqlx::query(
        "INSERT INTO attempts (what, due) VALUES ($1, $2 + $3) ON CONFLICT (what) DO UPDATE \
         SET due = CASE WHEN attempts.due > $2 THEN attempts.due ELSE $2 END + $3 \
         WHERE CASE WHEN attempts.due > $2 THEN attempts.due ELSE $2 END + $3 - $2 <= $4",
    )
    .bind(limit.what.to_vec())
    .bind(now)
    .bind(every)
    .bind(ahead)
    .execute(&mut *connection)
    .await?;
    Ok(counted.rows_affected() > 0)
}

/// Undoes what an attempt has cost.
pub(super) async fn give_back(connection: &mut AnyConnection, paid: &[Limit]) -> Result<(), StoreError> {
    let mut paid: Vec<&Limit> = paid.iter().collect();
    paid.sort_by_key(|limit| limit.what);
    for limit in paid {
        sqlx::query("UPDATE attempts SET due = due - $2 WHERE what = $1")
            .bind(limit.what.to_vec())
            .bind(db::span(limit.every))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
