use super::{AccountStore, StorageError};

/// Longest value of a setting, bytes.
const MAX_VALUE: usize = 64 * 1024;

/// Settings that belong to the user and not to the terminal, and so into a backup.
pub(super) const BACKED_UP: &[&str] = &["presence_visible", super::screening::POLICY];

impl AccountStore {
    /// A setting of this account.
    pub async fn setting(&self, key: &str) -> Result<Option<String>, StorageError> {
        let row: Option<(String,)> = sqlx::query_as("SELECT value FROM settings WHERE key = ?")
            .bind(key)
            .fetch_optional(self.pool())
            .await?;
        Ok(row.map(|(value,)| value))
    }

    /// Sets a setting; `None` takes it away.
    pub async fn set_setting(&self, key: &str, value: Option<&str>) -> Result<(), StorageError> {
        let query = match value {
            Some(value) if value.len() > MAX_VALUE => return Err(StorageError::TooLarge("A setting")),
            Some(value) => sqlx::query(
                "INSERT INTO settings (key, value) VALUES (?, ?)
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            )
            .bind(key)
            .bind(value),
            None => sqlx::query("DELETE FROM settings WHERE key = ?").bind(key),
        };
        query.execute(self.pool()).await?;
        if BACKED_UP.contains(&key) {
            self.changed();
        }
        Ok(())
    }
}
