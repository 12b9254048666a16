//! The account's SQLite file.

use super::StorageError;
use offhook_proto::number::Number;
use sqlx::ConnectOptions as _;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

/// Every version of the tables, embedded in the program.
static MIGRATIONS: Migrator = sqlx::migrate!("src/storage/migrations");

/// One connection may flush a write while the other reads; more would only cost threads and memory.
const CONNECTIONS: u32 = 2;

/// How long a write waits for another program's (the command line beside the running terminal).
const BUSY: Duration = Duration::from_secs(10);

pub(super) type Write = sqlx::Transaction<'static, sqlx::Sqlite>;

/// Makes a new, empty account file that only its owner can read. SQLite gives its journal the same mode.
pub(super) async fn create(path: &Path) -> Result<SqlitePool, StorageError> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(StorageError::io(path))?;
    open(path).await
}

/// Opens an account file and brings its tables to this program's version.
pub(super) async fn open(path: &Path) -> Result<SqlitePool, StorageError> {
    let pool = SqlitePoolOptions::new()
        .max_connections(CONNECTIONS)
        .test_before_acquire(false)
        .connect_with(options(path))
        .await?;
    MIGRATIONS.run(&pool).await.map_err(|error| {
        if matches!(error, MigrateError::VersionMissing(_) | MigrateError::VersionTooNew(..)) {
            StorageError::NewerVersion
        } else {
            StorageError::Database(Box::new(error))
        }
    })?;
    Ok(pool)
}

/// Opens an account file for a look without touching its tables.
pub(super) async fn peek(path: &Path) -> Result<sqlx::SqliteConnection, StorageError> {
    Ok(options(path).connect().await?)
}

/// Begins a transaction that writes: it takes the write lock at once, so that it can't fail half-way
/// because another program wrote after its first read.
pub(super) async fn write(pool: &SqlitePool) -> Result<Write, StorageError> {
    Ok(pool.begin_with("BEGIN IMMEDIATE").await?)
}

/// Empties the log: what was replaced or taken away must not stay readable in it.
///
/// # Errors
/// [`StorageError::LogInUse`] if others read in it for longer than [`BUSY`].
pub(super) async fn empty_log(pool: &SqlitePool) -> Result<(), StorageError> {
    // The row says how it went: "busy" is no error of SQLite's (PRAGMA wal_checkpoint).
    let (is_busy, _, _): (i64, i64, i64) =
        sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(pool).await?;
    if is_busy == 0 { Ok(()) } else { Err(StorageError::LogInUse) }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY)
        // A replaced password's sealed seed and erased messages are overwritten, not just unlinked.
        .pragma("secure_delete", "ON")
        .disable_statement_logging()
}

pub(super) fn number(text: &str) -> Result<Number, StorageError> {
    Number::from_canonical(text).map_err(|_| StorageError::Damaged("a number"))
}

/// SQLite's integers are signed; our times and counts never come near the 63rd bit.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The reverse of [`int`].
pub(super) fn uint(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

pub(super) fn bytes<const N: usize>(value: &[u8], what: &'static str) -> Result<[u8; N], StorageError> {
    value.try_into().map_err(|_| StorageError::Damaged(what))
}
