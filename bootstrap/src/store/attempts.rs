//! How often somebody has tried something lately, by the generic cell rate algorithm (ITU-T I.371): one time for each
//! subject, which every attempt moves on, and which may be so far ahead.

use std::time::Duration;

use offhook_proto::wire::UnixMillis;
use sha2::{Digest as _, Sha256};
use sqlx::AnyConnection;

use super::{Refused, Store, StoreError, db};

/// What is limited. The same account or address counts for each of them on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// Passwords tried for one ID.
    LoginId,
    /// Passwords tried from one network.
    LoginNetwork,
    /// One log-in, which ends once.
    Login,
    /// Sign-ups from one network.
    SignUpNetwork,
    /// Numbers looked up from one network.
    LookUpNetwork,
    /// Changes by one account.
    ChangeAccount,
    /// Numbers issued to one account.
    IssueAccount,
    /// One signed request, which is done once.
    Request,
}

impl Subject {
    const fn name(self) -> &'static str {
        match self {
            Self::LoginId => "login id",
            Self::LoginNetwork => "login network",
            Self::Login => "login",
            Self::SignUpNetwork => "sign-up network",
            Self::LookUpNetwork => "look-up network",
            Self::ChangeAccount => "change account",
            Self::IssueAccount => "issue account",
            Self::Request => "request",
        }
    }
}

/// A limit: so many at once, then one in so much time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
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
        Self { what: hash.finalize().into(), at_once, every }
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
        let change = self.db.write_lightly(move |connection| {
            Box::pin(async move {
                for limit in &limits {
                    count(connection, limit, now).await?;
                }
                Ok(())
            })
        });
        change.await
    }

    /// The same for one that not even a crash may forget.
    ///
    /// # Errors
    /// [`Refused::TooMany`], or another [`StoreError`].
    pub async fn attempt_for_good(&self, limit: Limit, now: UnixMillis) -> Result<(), StoreError> {
        self.db.write(move |connection| Box::pin(async move { count(connection, &limit, now).await })).await
    }

    pub(super) async fn sweep_attempts(&self, now: UnixMillis) -> Result<(), StoreError> {
        let change = self.db.write_lightly(move |connection| {
            Box::pin(async move {
                let over = sqlx::query("DELETE FROM attempts WHERE due <= $1").bind(db::time(now));
                over.execute(connection).await?;
                Ok(())
            })
        });
        change.await
    }
}

async fn count(connection: &mut AnyConnection, limit: &Limit, now: UnixMillis) -> Result<(), StoreError> {
    let (now, every) = (db::time(now), db::span(limit.every));
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
    if counted.rows_affected() > 0 {
        return Ok(());
    }
    let due: i64 = sqlx::query_scalar("SELECT due FROM attempts WHERE what = $1")
        .bind(limit.what.to_vec())
        .fetch_one(connection)
        .await?;
    let wait = due.saturating_add(every).saturating_sub(ahead).saturating_sub(now);
    Err(Refused::TooMany { retry_after: Duration::from_millis(db::uint(wait)) }.into())
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
