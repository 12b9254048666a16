//! How numbers come from one account to another, for as long as it is not certain that both sides know: whoever is killed between the
//! directory's answer and its own writing has it here.

use super::account::decode;
use super::{AccountStore, StorageError, db};
use crate::clock::wall_clock;
use offhook_proto::number::Number;
use offhook_proto::proof::{MAX_TRANSFERS, SignedTransfer};
use offhook_proto::wire;

/// Most codes that are kept; the oldest goes first.
const MAX_CODES: u32 = 64;

/// Which way a number goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CodeOf {
    /// A number that the account claims.
    Taken,
    /// A number that it gives away.
    Given,
}

impl AccountStore {
    /// Keeps how a number comes to its next owner, oldest transfer first.
    pub(crate) async fn put_code(
        &self,
        number: &Number,
        way: CodeOf,
        transfers: &[SignedTransfer],
    ) -> Result<(), StorageError> {
        if transfers.len() > MAX_TRANSFERS {
            return Err(StorageError::Number);
        }
        let mut tx = db::write(self.pool()).await?;
        sqlx::query(
            "INSERT INTO codes (number, given, transfers, at) VALUES (?, ?, ?, ?)
             ON CONFLICT (number, given) DO UPDATE SET transfers = excluded.transfers, at = excluded.at",
        )
        .bind(number.canonical())
        .bind(way == CodeOf::Given)
        .bind(wire::encode(&transfers.to_vec()))
        .bind(db::int(wall_clock().0))
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "DELETE FROM codes WHERE rowid IN (SELECT rowid FROM codes ORDER BY at DESC LIMIT -1 OFFSET ?)",
        )
        .bind(MAX_CODES)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// What is kept of a number; nothing if there is none.
    pub(crate) async fn code(
        &self,
        number: &Number,
        way: CodeOf,
    ) -> Result<Vec<SignedTransfer>, StorageError> {
        let row: Option<(Vec<u8>,)> =
            sqlx::query_as("SELECT transfers FROM codes WHERE number = ? AND given = ?")
                .bind(number.canonical())
                .bind(way == CodeOf::Given)
                .fetch_optional(self.pool())
                .await?;
        row.map_or(Ok(Vec::new()), |(transfers,)| decode(&transfers, "a code of a number"))
    }

    /// It is no use any more.
    pub(crate) async fn remove_code(&self, number: &Number, way: CodeOf) -> Result<(), StorageError> {
        sqlx::query("DELETE FROM codes WHERE number = ? AND given = ?")
            .bind(number.canonical())
            .bind(way == CodeOf::Given)
            .execute(self.pool())
            .await?;
        Ok(())
    }
}
