use super::{AccountStore, StorageError, db};
use crate::api::{CallRef, EndReason};
use offhook_proto::number::Number;
use offhook_proto::wire::UnixMillis;

/// Most calls kept; the oldest go first.
pub const MAX_HISTORY: u32 = 10_000;

/// Rows are counted and the oldest erased once in so many writes.
pub(super) const TRIM_EVERY: i64 = 64;

/// One finished call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallEntry {
    /// The call.
    pub call: CallRef,
    /// The other end.
    pub number: Number,
    /// Whether this end dialled.
    pub outgoing: bool,
    /// When it was dialled or began to ring.
    pub started: UnixMillis,
    /// Talking time, milliseconds; 0 if it was not answered.
    pub duration_ms: u64,
    /// How it ended.
    pub reason: EndReason,
}

impl AccountStore {
    /// Writes a finished call down. The same call twice is kept once.
    pub async fn history_add(&self, entry: &CallEntry) -> Result<(), StorageError> {
        let reason = serde_json::to_string(&entry.reason)
            .map_err(|_| StorageError::Internal("a call's end could not be written"))?;
        let mut tx = db::write(self.pool()).await?;
        let done = sqlx::query(
            "INSERT INTO calls (call, number, outgoing, started, duration_ms, reason)
             VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (call) DO NOTHING",
        )
        .bind(&entry.call)
        .bind(entry.number.canonical())
        .bind(entry.outgoing)
        .bind(db::int(entry.started.0))
        .bind(db::int(entry.duration_ms))
        .bind(reason)
        .execute(&mut *tx)
        .await?;
        if done.last_insert_rowid() % TRIM_EVERY == 0 {
            sqlx::query(
                "DELETE FROM calls WHERE row <= (SELECT row FROM calls ORDER BY row DESC LIMIT 1 OFFSET ?)",
            )
            .bind(MAX_HISTORY)
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// The last `limit` calls, newest first.
    pub async fn history(&self, limit: u32) -> Result<Vec<CallEntry>, StorageError> {
        type Row = (String, String, bool, i64, i64, String);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT call, number, outgoing, started, duration_ms, reason FROM calls
             ORDER BY row DESC LIMIT ?",
        )
        .bind(limit)
        .fetch_all(self.pool())
        .await?;
        let entry = |(call, number, outgoing, started, duration, reason): Row| {
            Ok(CallEntry {
                call,
                number: db::number(&number)?,
                outgoing,
                started: UnixMillis(db::uint(started)),
                duration_ms: db::uint(duration),
                reason: serde_json::from_str(&reason).map_err(|_| StorageError::Damaged("the history"))?,
            })
        };
        rows.into_iter().map(entry).collect()
    }
}
