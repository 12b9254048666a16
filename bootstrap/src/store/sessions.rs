//! Sessions: who is logged in. The database holds hashes of tokens, with which nobody logs in.

use std::fmt;

use offhook_proto::identity::IdentityId;
use offhook_proto::wire::UnixMillis;
use sha2::{Digest as _, Sha256};

use super::accounts::hold_account;
use super::attempts::{self, Limit, Memory};
use super::{AuditEntry, PasswordFile, Refused, SWEPT_AT_ONCE, Store, StoreError, audit, db};

/// Sessions of an account at a time; the one begun longest ago gives way.
pub const MAX_SESSIONS: u32 = 32;

/// What is stored of a session's token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenHash(pub [u8; 32]);

impl TokenHash {
    /// The hash of a token. Tokens are random: no salt is needed.
    pub fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash")
    }
}

/// A session to begin.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Of its token.
    pub token: TokenHash,
    /// Who has logged in.
    pub identity: IdentityId,
    /// When it ends by itself.
    pub expires: UnixMillis,
    /// A session that ends as this begins: the one of the same browser.
    pub instead_of: Option<TokenHash>,
    /// Of the [password file](super::PasswordFile::hash) that the account must still have; `None` where no password was asked for.
    pub password: Option<[u8; 32]>,
    /// What is to be remembered of it for some time.
    pub remember: Option<Memory>,
}

/// A session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Who is logged in.
    pub identity: IdentityId,
    /// Since when.
    pub logged_in: UnixMillis,
    /// When it ends by itself.
    pub expires: UnixMillis,
}

impl Store {
    /// Begins a session, and gives back what the attempt to log in has cost.
    ///
    /// # Errors
    /// [`Refused::PasswordChanged`], [`Refused::Closed`], [`Refused::NoAccount`], or another [`StoreError`].
    pub async fn begin_session(
        &self,
        new: NewSession,
        paid: Vec<Limit>,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let change = self.db.write(move |connection| {
            Box::pin(async move {
                // A change of the password ends the sessions that there are then, and this one is none yet.
                hold_account(connection, &new.identity).await?;
                let identity = new.identity.as_bytes().to_vec();
                let (file, closed): (Vec<u8>, i64) =
                    sqlx::query_as("SELECT password_file, closed FROM accounts WHERE identity = $1")
                        .bind(identity.clone())
                        .fetch_one(&mut *connection)
                        .await?;
                if new.password.is_some_and(|password| PasswordFile(file).hash() != password) {
                    return Err(Refused::PasswordChanged.into());
                }
                if closed > 0 {
                    return Err(Refused::Closed.into());
                }
                sqlx::query(
                    "INSERT INTO sessions (token, identity, logged_in, expires) VALUES ($1, $2, $3, $4)",
                )
                .bind(new.token.0.to_vec())
                .bind(identity.clone())
                .bind(db::time(now))
                .bind(db::time(new.expires))
                .execute(&mut *connection)
                .await?;
                if let Some(before) = new.instead_of {
                    sqlx::query("DELETE FROM sessions WHERE token = $1")
                        .bind(before.0.to_vec())
                        .execute(&mut *connection)
                        .await?;
                }
                sqlx::query(
                    "DELETE FROM sessions WHERE identity = $1 AND token NOT IN \
                     (SELECT token FROM sessions WHERE identity = $1 ORDER BY logged_in DESC, token LIMIT $2)",
                )
                .bind(identity)
                .bind(i64::from(MAX_SESSIONS))
                .execute(&mut *connection)
                .await?;
                if let Some(memory) = &new.remember {
                    attempts::remember(connection, memory, now).await?;
                }
                attempts::give_back(connection, &paid).await
            })
        });
        change.await
    }

    /// The session of a token, unless it is over.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn session(&self, token: &TokenHash, now: UnixMillis) -> Result<Option<Session>, StoreError> {
        let row: Option<(Vec<u8>, i64, i64)> = sqlx::query_as(
            "SELECT identity, logged_in, expires FROM sessions WHERE token = $1 AND expires > $2",
        )
        .bind(token.0.to_vec())
        .bind(db::time(now))
        .fetch_optional(self.db.pool())
        .await?;
        let session = |(identity, logged_in, expires): (Vec<u8>, i64, i64)| {
            Ok(Session {
                identity: IdentityId::from_bytes(db::bytes(&identity, "a session")?),
                logged_in: db::at(logged_in),
                expires: db::at(expires),
            })
        };
        row.map(session).transpose()
    }

    /// Ends a session; there may be none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_session(&self, token: &TokenHash) -> Result<(), StoreError> {
        let token = token.0.to_vec();
        let change = self.db.write(move |connection| {
            Box::pin(async move {
                sqlx::query("DELETE FROM sessions WHERE token = $1").bind(token).execute(connection).await?;
                Ok(())
            })
        });
        change.await
    }

    /// Ends all sessions of an identity; how many there were. The operator's `deed` is written down with it, if it is one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_sessions(
        &self,
        identity: &IdentityId,
        deed: Option<AuditEntry>,
    ) -> Result<u64, StoreError> {
        let identity = identity.as_bytes().to_vec();
        let change = self.db.write(move |connection| {
            Box::pin(async move {
                let ended = sqlx::query("DELETE FROM sessions WHERE identity = $1").bind(identity);
                let ended = ended.execute(&mut *connection).await?.rows_affected();
                audit::add(connection, deed).await?;
                Ok(ended)
            })
        });
        change.await
    }

    /// Ends everybody's sessions. The operator's `deed` is written down with it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_all_sessions(&self, deed: AuditEntry) -> Result<(), StoreError> {
        let change = self.db.write(move |connection| {
            Box::pin(async move {
                sqlx::query("DELETE FROM sessions").execute(&mut *connection).await?;
                audit::add(connection, Some(deed)).await
            })
        });
        change.await
    }

    /// How many sessions of an identity there are, or of all.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn count_sessions(
        &self,
        identity: Option<&IdentityId>,
        now: UnixMillis,
    ) -> Result<u64, StoreError> {
        let count: i64 = match identity {
            Some(identity) => {
                sqlx::query_scalar("SELECT COUNT(*) FROM sessions WHERE expires > $1 AND identity = $2")
                    .bind(db::time(now))
                    .bind(identity.as_bytes().to_vec())
                    .fetch_one(self.db.pool())
                    .await?
            }
            None => {
                sqlx::query_scalar("SELECT COUNT(*) FROM sessions WHERE expires > $1")
                    .bind(db::time(now))
                    .fetch_one(self.db.pool())
                    .await?
            }
        };
        Ok(db::uint(count))
    }

    pub(super) async fn sweep_sessions(&self, now: UnixMillis) -> Result<(), StoreError> {
        let change = || {
            self.db.write(move |connection| {
                Box::pin(async move {
                    let over = sqlx::query(
                        "DELETE FROM sessions WHERE token IN (SELECT token FROM sessions WHERE expires <= $1 LIMIT $2)",
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
