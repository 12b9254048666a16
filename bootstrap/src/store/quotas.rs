//! What an operator grants one account more or less of than others.

use offhook_proto::identity::IdentityId;
use sqlx::AnyConnection;

use super::{AuditEntry, Refused, Store, StoreError, audit, db, mailbox};

/// What there may be more or less of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// Chosen numbers; [`MAX_NUMBERS`](super::MAX_NUMBERS) where nothing else is said.
    Numbers,
    /// Megabytes in the account's mailbox; what all mailboxes may hold where nothing else is said.
    MailboxMegabytes,
}

impl Quota {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Numbers => "numbers",
            Self::MailboxMegabytes => "mailbox megabytes",
        }
    }
}

impl Store {
    /// Grants an account so much, or what everybody has. The operator's `deed` is written down with it.
    ///
    /// # Errors
    /// [`Refused::NoAccount`], or another [`StoreError`].
    pub async fn set_quota(
        &self,
        identity: &IdentityId,
        quota: Quota,
        value: Option<u64>,
        deed: Option<AuditEntry>,
    ) -> Result<(), StoreError> {
        let identity = identity.as_bytes().to_vec();
        let change = self.db.write(move |connection| {
            Box::pin(async move {
                let there: Option<i64> =
                    sqlx::query_scalar("SELECT created FROM accounts WHERE identity = $1")
                        .bind(identity.clone())
                        .fetch_optional(&mut *connection)
                        .await?;
                if there.is_none() {
                    return Err(Refused::NoAccount.into());
                }
                if quota == Quota::MailboxMegabytes {
                    mailbox::renew(connection).await?;
                }
                let Some(value) = value else {
                    let gone = sqlx::query("DELETE FROM quotas WHERE identity = $1 AND quota = $2");
                    gone.bind(identity).bind(quota.name()).execute(&mut *connection).await?;
                    return audit::add(connection, deed).await;
                };
                sqlx::query(
                    "INSERT INTO quotas (identity, quota, value) VALUES ($1, $2, $3) \
                     ON CONFLICT (identity, quota) DO UPDATE SET value = excluded.value",
                )
                .bind(identity)
                .bind(quota.name())
                .bind(db::int(value))
                .execute(&mut *connection)
                .await?;
                audit::add(connection, deed).await
            })
        });
        change.await
    }

    /// What an account has been granted; `None`: what everybody has.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn quota(&self, identity: &IdentityId, quota: Quota) -> Result<Option<u64>, StoreError> {
        of(&mut *self.db.pool().acquire().await?, identity, quota).await
    }
}

pub(super) async fn of(
    connection: &mut AnyConnection,
    identity: &IdentityId,
    quota: Quota,
) -> Result<Option<u64>, StoreError> {
    let value: Option<i64> =
        sqlx::query_scalar("SELECT value FROM quotas WHERE identity = $1 AND quota = $2")
            .bind(identity.as_bytes().to_vec())
            .bind(quota.name())
            .fetch_optional(connection)
            .await?;
    Ok(value.map(db::uint))
}
