use super::history::TRIM_EVERY;
use super::{AccountStore, StorageError, db};
use offhook_proto::number::Number;
use offhook_proto::signalling::MAX_TEXT_BYTES;
use offhook_proto::wire::UnixMillis;

/// Most text messages kept of people who are no contacts; the oldest go first. Contacts' are all kept.
pub const MAX_MESSAGES: u32 = 10_000;

/// Where a text message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageState {
    /// It came in.
    Received,
    /// Ours, on its way.
    Sending,
    /// Ours, left at a directory of the receiver's.
    Left,
    /// Ours, on the other terminal.
    Delivered,
    /// Ours, read by the receiver, who lets it be known.
    Read,
    /// Ours, given up.
    Failed,
}

/// One text message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageEntry {
    /// Its identifier, 32 hex digits.
    pub id: String,
    /// The other end.
    pub number: Number,
    /// What it says.
    pub body: String,
    /// When it was written.
    pub sent: UnixMillis,
    /// Where it stands.
    pub state: MessageState,
}

impl AccountStore {
    /// Keeps a message; `false` if it was there already (a repetition, not to be shown again).
    pub async fn message_add(&self, entry: &MessageEntry) -> Result<bool, StorageError> {
        if entry.body.len() > MAX_TEXT_BYTES {
            return Err(StorageError::TooLarge("A message"));
        }
        let mut tx = db::write(self.pool()).await?;
        let done = sqlx::query(
            "INSERT INTO messages (id, number, outgoing, body, sent, state) VALUES (?, ?, ?, ?, ?, ?)
             ON CONFLICT (number, outgoing, id) DO NOTHING",
        )
        .bind(&entry.id)
        .bind(entry.number.canonical())
        .bind(entry.state != MessageState::Received)
        .bind(&entry.body)
        .bind(db::int(entry.sent.0))
        .bind(entry.state.code())
        .execute(&mut *tx)
        .await?;
        let new = done.rows_affected() > 0;
        if new && done.last_insert_rowid() % TRIM_EVERY == 0 {
            sqlx::query(
                "DELETE FROM messages WHERE row IN (
                     SELECT row FROM messages WHERE number NOT IN (SELECT number FROM contacts)
                     ORDER BY row DESC LIMIT -1 OFFSET ?)",
            )
            .bind(MAX_MESSAGES)
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(new)
    }

    /// A message of ours: to whom, what it says, and when it was written.
    pub(crate) async fn own_message(
        &self,
        id: &str,
    ) -> Result<Option<(Number, String, UnixMillis)>, StorageError> {
        let row: Option<(String, String, i64)> =
            sqlx::query_as("SELECT number, body, sent FROM messages WHERE id = ? AND outgoing = 1")
                .bind(id)
                .fetch_optional(self.pool())
                .await?;
        row.map(|(number, body, sent)| Ok((db::number(&number)?, body, UnixMillis(db::uint(sent)))))
            .transpose()
    }

    /// Notes what became of a message of ours.
    pub async fn message_state(&self, id: &str, state: MessageState) -> Result<(), StorageError> {
        sqlx::query("UPDATE messages SET state = ? WHERE id = ? AND outgoing = 1")
            .bind(state.code())
            .bind(id)
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// Gives up the messages of ours that an earlier run of the program left on their way: nobody waits for their
    /// acknowledgement any more. Says how many there were.
    pub async fn give_up_unsent(&self) -> Result<u64, StorageError> {
        let done = sqlx::query(
            "UPDATE messages SET state = ? WHERE outgoing = 1 AND state = ?
             AND id NOT IN (SELECT lower(hex(id)) FROM outbox)",
        )
        .bind(MessageState::Failed.code())
        .bind(MessageState::Sending.code())
        .execute(self.pool())
        .await?;
        Ok(done.rows_affected())
    }

    /// The last `limit` messages, newest first, with one number or with all.
    pub async fn messages(
        &self,
        with: Option<&Number>,
        limit: u32,
    ) -> Result<Vec<MessageEntry>, StorageError> {
        type Row = (String, String, String, i64, String);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, number, body, sent, state FROM messages
             WHERE ?1 IS NULL OR number = ?1 ORDER BY row DESC LIMIT ?2",
        )
        .bind(with.map(Number::canonical))
        .bind(limit)
        .fetch_all(self.pool())
        .await?;
        let entry = |(id, number, body, sent, state): Row| {
            Ok(MessageEntry {
                id,
                number: db::number(&number)?,
                body,
                sent: UnixMillis(db::uint(sent)),
                state: MessageState::from_code(&state).ok_or(StorageError::Damaged("a message"))?,
            })
        };
        rows.into_iter().map(entry).collect()
    }
}

impl MessageState {
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Sending => "sending",
            Self::Left => "left",
            Self::Delivered => "delivered",
            Self::Read => "read",
            Self::Failed => "failed",
        }
    }

    fn from_code(code: &str) -> Option<Self> {
        [Self::Received, Self::Sending, Self::Left, Self::Delivered, Self::Read, Self::Failed]
            .into_iter()
            .find(|s| s.code() == code)
    }
}
