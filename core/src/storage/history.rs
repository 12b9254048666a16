use super::{AccountStore, StorageError, db};
use crate::api::{CallRef, CallSummary, EndReason, PastCall, is_missed};
use offhook_proto::number::Number;
use offhook_proto::wire::UnixMillis;

/// Most calls kept; the oldest go first.
pub const MAX_HISTORY: u32 = 10_000;

/// Rows are counted and the oldest erased once in so many writes.
pub(super) const TRIM_EVERY: i64 = 64;

/// One finished call.
#[derive(Debug, Clone, PartialEq)]
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
    /// How it went, if people talked.
    pub summary: Option<CallSummary>,
}

impl CallEntry {
    /// As the API tells it, under the name that the number has now.
    pub fn told(self, name: Option<String>) -> PastCall {
        let missed = is_missed(self.outgoing, self.duration_ms, self.reason);
        let CallEntry { call, number, outgoing, started, duration_ms, reason, summary } = self;
        PastCall { call, number, name, outgoing, missed, started: started.0, duration_ms, reason, summary }
    }
}

impl AccountStore {
    /// Writes a finished call down. The same call twice is kept once.
    pub async fn history_add(&self, entry: &CallEntry) -> Result<(), StorageError> {
        let reason = serde_json::to_string(&entry.reason)
            .map_err(|_| StorageError::Internal("a call's end could not be written"))?;
        let summary = entry.summary.as_ref().map(serde_json::to_string).transpose();
        let summary = summary.map_err(|_| StorageError::Internal("how a call went could not be written"))?;
        let mut tx = db::write(self.pool()).await?;
        let done = sqlx::query(
            "INSERT INTO calls (call, number, outgoing, started, duration_ms, reason, summary)
             VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (call) DO NOTHING",
        )
        .bind(&entry.call)
        .bind(entry.number.canonical())
        .bind(entry.outgoing)
        .bind(db::int(entry.started.0))
        .bind(db::int(entry.duration_ms))
        .bind(reason)
        .bind(summary)
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
        type Row = (String, String, bool, i64, i64, String, Option<String>);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT call, number, outgoing, started, duration_ms, reason, summary FROM calls
             ORDER BY row DESC LIMIT ?",
        )
        .bind(limit)
        .fetch_all(self.pool())
        .await?;
        let entry = |(call, number, outgoing, started, duration, reason, summary): Row| {
            Ok(CallEntry {
                call,
                number: db::number(&number)?,
                outgoing,
                started: UnixMillis(db::uint(started)),
                duration_ms: db::uint(duration),
                reason: serde_json::from_str(&reason).map_err(|_| StorageError::Damaged("the history"))?,
                // The call is worth more than how it went.
                summary: summary.and_then(|json| serde_json::from_str(&json).ok()),
            })
        };
        rows.into_iter().map(entry).collect()
    }

    /// Forgets all calls. What is erased is overwritten in the file.
    pub async fn history_clear(&self) -> Result<(), StorageError> {
        sqlx::query("DELETE FROM calls").execute(self.pool()).await?;
        Ok(())
    }
}
