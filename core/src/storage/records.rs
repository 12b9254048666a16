//! What was learned about other numbers, to ring them without waiting for the DHT.

use super::{AccountStore, StorageError, db};
use crate::clock::wall_clock;
use offhook_proto::number::{NodeAddr, Number};
use offhook_proto::record::MAX_SET_BYTES;

/// Most record sets kept; the oldest goes first.
pub const MAX_CACHED_RECORDS: u32 = 2_000;
/// Most directories remembered for one number.
pub const MAX_ROUTES: usize = 8;

impl AccountStore {
    /// The record set that was last seen under a number, as encoded; the reader checks it again.
    pub async fn cached_record(&self, number: &Number) -> Result<Option<Vec<u8>>, StorageError> {
        let row: Option<(Vec<u8>,)> = sqlx::query_as("SELECT record FROM records WHERE number = ?")
            .bind(number.canonical())
            .fetch_optional(self.pool())
            .await?;
        Ok(row.map(|(record,)| record))
    }

    /// Keeps a checked record set.
    pub async fn cache_record(&self, number: &Number, record: &[u8]) -> Result<(), StorageError> {
        if record.len() > MAX_SET_BYTES {
            return Err(StorageError::TooLarge("A record"));
        }
        let mut tx = db::write(self.pool()).await?;
        sqlx::query(
            "INSERT INTO records (number, record, stored) VALUES (?, ?, ?)
             ON CONFLICT (number) DO UPDATE SET record = excluded.record, stored = excluded.stored",
        )
        .bind(number.canonical())
        .bind(record)
        .bind(db::int(wall_clock().0))
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "DELETE FROM records WHERE number IN
                 (SELECT number FROM records ORDER BY stored DESC, number LIMIT -1 OFFSET ?)",
        )
        .bind(MAX_CACHED_RECORDS)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// The directories of all contacts, the most recently used contact first, each number's together.
    pub async fn contact_routes(&self) -> Result<Vec<(Number, Vec<NodeAddr>)>, StorageError> {
        let rows: Vec<(String, String)> = sqlx::query_as(
            "SELECT r.number, r.routes FROM routes r JOIN contacts c ON c.number = r.number
             ORDER BY r.stored DESC",
        )
        .fetch_all(self.pool())
        .await?;
        rows.iter().map(|(number, text)| Ok((db::number(number)?, parse_routes(text)?))).collect()
    }

    /// The directories through which a number was reached.
    pub(crate) async fn routes_of(&self, number: &Number) -> Result<Vec<NodeAddr>, StorageError> {
        let row: Option<(String,)> = sqlx::query_as("SELECT routes FROM routes WHERE number = ?")
            .bind(number.canonical())
            .fetch_optional(self.pool())
            .await?;
        row.map_or_else(|| Ok(Vec::new()), |(text,)| parse_routes(&text))
    }

    /// Keeps the directories through which a number says it is reached; the first eight count.
    pub async fn set_routes(&self, number: &Number, routes: &[NodeAddr]) -> Result<(), StorageError> {
        let kept: Vec<String> = routes.iter().take(MAX_ROUTES).map(|addr| addr.as_str().to_owned()).collect();
        let text = serde_json::to_string(&kept)
            .map_err(|_| StorageError::Internal("routes could not be written"))?;
        let mut tx = db::write(self.pool()).await?;
        sqlx::query(
            "INSERT INTO routes (number, routes, stored) VALUES (?, ?, ?)
             ON CONFLICT (number) DO UPDATE SET routes = excluded.routes, stored = excluded.stored",
        )
        .bind(number.canonical())
        .bind(text)
        .bind(db::int(wall_clock().0))
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "DELETE FROM routes WHERE number IN (
                 SELECT number FROM routes WHERE number NOT IN (SELECT number FROM contacts)
                 ORDER BY stored DESC, number LIMIT -1 OFFSET ?)",
        )
        .bind(MAX_CACHED_RECORDS)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }
}

fn parse_routes(text: &str) -> Result<Vec<NodeAddr>, StorageError> {
    let list: Vec<String> = serde_json::from_str(text).map_err(|_| StorageError::Damaged("a route"))?;
    list.iter().map(|addr| addr.parse().map_err(|_| StorageError::Damaged("a route"))).collect()
}
