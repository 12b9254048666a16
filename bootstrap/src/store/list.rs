//! The list of what was issued, whose entries the directory chains and signs. Here they are bytes in an order.

use sqlx::AnyConnection;

use super::{Store, StoreError, db};

/// Most entries that are read at once.
pub const MAX_LIST_PAGE: u32 = 500;

/// Where the list ends, for whoever appends to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// How many entries there are.
    pub length: u64,
    /// The hash of the last one; zeros before the first.
    pub hash: [u8; 32],
    /// The last one, if there is one.
    pub last: Option<Vec<u8>>,
}

/// An entry made for a tail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its bytes.
    pub entry: Vec<u8>,
    /// Its hash, which the next one names.
    pub hash: [u8; 32],
    /// The signed head of the list that ends with it.
    pub head: Vec<u8>,
}

/// Makes an entry for a tail. Nobody else appends meanwhile.
pub type Append = Box<dyn FnOnce(&Tail) -> Result<Appended, StoreError> + Send>;

/// The list's signed head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListHead {
    /// How many entries there are.
    pub length: u64,
    /// Its bytes; none before the first entry.
    pub head: Vec<u8>,
}

impl Store {
    /// The list's head as it is now. Entries that it tells of can be read from now on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_head(&self) -> Result<ListHead, StoreError> {
        let (length, head) = sqlx::query_as("SELECT length, head FROM list_tail WHERE one = 1")
            .fetch_one(self.db.pool())
            .await?;
        Ok(ListHead { length: db::uint(length), head })
    }

    /// Entries from the `from`th on (the first is 0), at most [`MAX_LIST_PAGE`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list(&self, from: u64, most: u32) -> Result<Vec<Vec<u8>>, StoreError> {
        let page =
            sqlx::query_scalar("SELECT entry FROM list WHERE position >= $1 ORDER BY position LIMIT $2")
                .bind(db::int(from))
                .bind(i64::from(most.min(MAX_LIST_PAGE)));
        Ok(page.fetch_all(self.db.pool()).await?)
    }
}

/// Appends to the list, whose tail nobody else has until the transaction ends.
pub(super) async fn append(connection: &mut AnyConnection, append: Append) -> Result<(), StoreError> {
    let (length, hash): (i64, Vec<u8>) =
        sqlx::query_as("UPDATE list_tail SET length = length + 1 WHERE one = 1 RETURNING length, hash")
            .fetch_one(&mut *connection)
            .await?;
    let position = length - 1;
    let last = sqlx::query_scalar("SELECT entry FROM list WHERE position = $1")
        .bind(position - 1)
        .fetch_optional(&mut *connection)
        .await?;
    let tail = Tail { length: db::uint(position), hash: db::bytes(&hash, "the list of numbers")?, last };
    let Appended { entry, hash, head } = append(&tail)?;
    sqlx::query("INSERT INTO list (position, entry) VALUES ($1, $2)")
        .bind(position)
        .bind(entry)
        .execute(&mut *connection)
        .await?;
    sqlx::query("UPDATE list_tail SET hash = $1, head = $2 WHERE one = 1")
        .bind(hash.to_vec())
        .bind(head)
        .execute(connection)
        .await?;
    Ok(())
}
