//! What the operator did: who, when, what, to whom. Entries are only ever added.

use offhook_proto::wire::UnixMillis;
use sqlx::AnyConnection;

use super::{MAX_PAGE, Store, StoreError, db};

/// Longest text of an entry, bytes; what is longer is cut.
pub const MAX_AUDIT_TEXT: usize = 1_024;

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// When.
    pub at: UnixMillis,
    /// Who: the operator's name on the host.
    pub actor: String,
    /// What, as a stable word.
    pub action: String,
    /// To whom or what.
    pub subject: String,
    /// More about it.
    pub details: String,
}

impl Store {
    /// Adds an entry.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_audit(&self, entry: AuditEntry) -> Result<(), StoreError> {
        let change =
            self.db.write(move |connection| Box::pin(async move { add(connection, Some(entry)).await }));
        change.await
    }

    /// Entries with their positions, the latest first, of those before the position `before`; at most [`MAX_PAGE`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn audit(&self, before: Option<i64>, most: u32) -> Result<Vec<(i64, AuditEntry)>, StoreError> {
        let rows: Vec<(i64, i64, String, String, String, String)> = sqlx::query_as(
            "SELECT position, at, actor, action, subject, details FROM audit \
             WHERE position < $1 ORDER BY position DESC LIMIT $2",
        )
        .bind(before.unwrap_or(i64::MAX))
        .bind(i64::from(most.min(MAX_PAGE)))
        .fetch_all(self.db.pool())
        .await?;
        let entry = |(position, at, actor, action, subject, details)| {
            (position, AuditEntry { at: db::at(at), actor, action, subject, details })
        };
        Ok(rows.into_iter().map(entry).collect())
    }
}

/// Adds an entry, if there is one, in the transaction of what it tells of: neither is there without the other.
pub(super) async fn add(connection: &mut AnyConnection, entry: Option<AuditEntry>) -> Result<(), StoreError> {
    let Some(entry) = entry else { return Ok(()) };
    sqlx::query("INSERT INTO audit (at, actor, action, subject, details) VALUES ($1, $2, $3, $4, $5)")
        .bind(db::time(entry.at))
        .bind(cut(entry.actor))
        .bind(cut(entry.action))
        .bind(cut(entry.subject))
        .bind(cut(entry.details))
        .execute(connection)
        .await?;
    Ok(())
}

fn cut(mut text: String) -> String {
    let end = text.floor_char_boundary(MAX_AUDIT_TEXT);
    text.truncate(end);
    text
}
