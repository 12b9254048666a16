//! Words that the operator keeps back: nobody gets them as a number, nor what looks like them. Who has one already keeps it.

use offhook_proto::wire::UnixMillis;
use sqlx::AnyConnection;

use super::{AuditEntry, MAX_PAGE, Refused, Store, StoreError, audit, db};

/// A word that is kept back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReservedWord {
    /// Its normal form.
    pub word: String,
    /// What the eye sees (UTS 39).
    pub skeleton: String,
    /// Since when.
    pub at: UnixMillis,
}

impl Store {
    /// Keeps a word back, and writes the deed down; whether it was not kept back before, by itself or a look-alike.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn reserve(&self, word: ReservedWord, deed: AuditEntry) -> Result<bool, StoreError> {
        let change = self.db.write(move |connection| {
            Box::pin(async move {
                let added = sqlx::query(
                    "INSERT INTO reserved (skeleton, word, at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
                );
                let added = added.bind(word.skeleton).bind(word.word).bind(db::time(word.at));
                let is_new = added.execute(&mut *connection).await?.rows_affected() > 0;
                audit::add(connection, is_new.then_some(deed)).await?;
                Ok(is_new)
            })
        });
        change.await
    }

    /// Keeps a word back no more; whether it was.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn unreserve(&self, word: &str, deed: AuditEntry) -> Result<bool, StoreError> {
        let word = word.to_owned();
        let change = self.db.write(move |connection| {
            Box::pin(async move {
                let gone = sqlx::query("DELETE FROM reserved WHERE word = $1").bind(word);
                let was = gone.execute(&mut *connection).await?.rows_affected() > 0;
                audit::add(connection, was.then_some(deed)).await?;
                Ok(was)
            })
        });
        change.await
    }

    /// Words that are kept back, in their order, from the first after `after` on, at most [`MAX_PAGE`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn reserved(&self, after: &str, most: u32) -> Result<Vec<ReservedWord>, StoreError> {
        let rows: Vec<(String, String, i64)> =
            sqlx::query_as("SELECT word, skeleton, at FROM reserved WHERE word > $1 ORDER BY word LIMIT $2")
                .bind(after.to_owned())
                .bind(i64::from(most.min(MAX_PAGE)))
                .fetch_all(self.db.pool())
                .await?;
        let word = |(word, skeleton, at)| ReservedWord { word, skeleton, at: db::at(at) };
        Ok(rows.into_iter().map(word).collect())
    }

    /// Whether the operator keeps back what looks so.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn is_reserved(&self, skeleton: &str) -> Result<bool, StoreError> {
        Ok(check(&mut *self.db.pool().acquire().await?, skeleton).await?.is_err())
    }
}

/// Whether what looks so may be given to somebody.
pub(super) async fn check(
    connection: &mut AnyConnection,
    skeleton: &str,
) -> Result<Result<(), Refused>, StoreError> {
    let word: Option<String> = sqlx::query_scalar("SELECT word FROM reserved WHERE skeleton = $1")
        .bind(skeleton.to_owned())
        .fetch_optional(connection)
        .await?;
    Ok(if word.is_some() { Err(Refused::Reserved) } else { Ok(()) })
}
