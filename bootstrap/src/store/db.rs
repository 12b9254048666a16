//! The two databases, and how both are written to.
//!
//! Every statement is written once, with `$1` for its first value, which both understand; sqlx's `Any` driver carries it to
//! either. Where they differ is here: how they are opened, and how a change gets to the disk. PostgreSQL flushes what many
//! connections commit at once together. SQLite has one writer at a time, so its changes go through one task that takes
//! all that wait into one transaction, each within a savepoint of its own, and answers when that is on disk.
//!
//! Isolation is that of PostgreSQL's default, "read committed": a change first updates the row that rules what it does
//! (the account's, the list's tail), which keeps others away from it until the end.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use offhook_proto::wire::UnixMillis;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{AnyConnection, AnyPool, ConnectOptions as _, Connection as _, Executor as _};
use tokio::sync::{mpsc, oneshot};

use super::StoreError;
use super::place::{DatabasePlace, SecretUrl};

/// Every version of the tables, embedded in the program.
static SQLITE_TABLES: Migrator = sqlx::migrate!("src/store/migrations/sqlite");
static POSTGRES_TABLES: Migrator = sqlx::migrate!("src/store/migrations/postgres");

/// Connections that read SQLite's file beside the one that writes.
const SQLITE_READERS: u32 = 4;
/// Connections to PostgreSQL, whose default is to take 100 from all its clients.
const POSTGRES_CONNECTIONS: u32 = 16;

/// How long a statement waits for another program's write to SQLite's file, such as an operator's command.
const BUSY: Duration = Duration::from_secs(10);
/// How long a request waits for a connection.
const CONNECTION_TIME: Duration = Duration::from_secs(10);

/// Changes that wait for SQLite's writer, and those that it takes into one transaction. Whoever comes when so many wait,
/// waits for a place.
const WAITING: usize = 1_024;
const TOGETHER: usize = 256;

/// What each connection to SQLite is told; write-ahead logging is a property of the file. Replaced backups and sessions are
/// overwritten, not just unlinked.
const SQLITE_SETTINGS: &str = "PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 10000";
/// Acknowledged is on disk, even if the server is set up to acknowledge before.
const POSTGRES_SETTINGS: &str = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";

/// Something done to the database, for an answer.
type Work<'c, T> = BoxFuture<'c, Result<T, StoreError>>;

/// A change to apply, within its transaction.
type Apply = Box<dyn for<'c> FnOnce(&'c mut AnyConnection) -> Work<'c, ()> + Send>;

/// A change that waits for its transaction.
struct Change {
    apply: Apply,
    done: oneshot::Sender<Result<(), StoreError>>,
}

/// An open database. Clones are handles of one.
#[derive(Clone, Debug)]
pub(super) struct Db {
    pool: AnyPool,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Sqlite { path: PathBuf, writer: mpsc::Sender<Change> },
    Postgres { url: SecretUrl },
}

impl Db {
    /// Opens a database, makes SQLite's file if there is none, and brings its tables to this program's version.
    pub(super) async fn open(place: &DatabasePlace) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        match place {
            DatabasePlace::Sqlite(path) => Self::open_sqlite(path).await,
            DatabasePlace::Postgres(url) => Self::open_postgres(url).await,
        }
    }

    async fn open_sqlite(path: &Path) -> Result<Self, StoreError> {
        let folder = path.parent().unwrap_or(Path::new(""));
        if !folder.as_os_str().is_empty() {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(StoreError::io(folder))?;
        }
        private_file(path)?;
        let mut connection = sqlite_options(path).connect().await?;
        migrate(SQLITE_TABLES.run(&mut connection).await)?;
        connection.close().await?;
        let options = any_options(path)?;
        let pool =
            |most| pool(most, SQLITE_SETTINGS).test_before_acquire(false).connect_with(options.clone());
        let (writer, changes) = mpsc::channel(WAITING);
        tokio::spawn(write_together(pool(1).await?, changes));
        Ok(Self { pool: pool(SQLITE_READERS).await?, kind: Kind::Sqlite { path: path.to_owned(), writer } })
    }

    async fn open_postgres(url: &SecretUrl) -> Result<Self, StoreError> {
        let mut connection = PgConnection::connect(url.as_str()).await?;
        // Several processes may start at once; the first of them makes the tables, which the others wait for.
        migrate(POSTGRES_TABLES.run(&mut connection).await)?;
        connection.close().await?;
        let options: AnyConnectOptions = url.as_str().parse()?;
        let options = options.disable_statement_logging();
        let pool = pool(POSTGRES_CONNECTIONS, POSTGRES_SETTINGS).connect_with(options).await?;
        Ok(Self { pool, kind: Kind::Postgres { url: url.clone() } })
    }

    /// For statements that only read.
    pub(super) fn pool(&self) -> &AnyPool {
        &self.pool
    }

    /// The file, if it is one.
    pub(super) fn path(&self) -> Option<&Path> {
        match &self.kind {
            Kind::Sqlite { path, .. } => Some(path),
            Kind::Postgres { .. } => None,
        }
    }

    /// The address of PostgreSQL, if it is that.
    pub(super) fn url(&self) -> Option<&SecretUrl> {
        match &self.kind {
            Kind::Sqlite { .. } => None,
            Kind::Postgres { url } => Some(url),
        }
    }

    /// Whether commits that may be lost in a crash are worth saying so: see [`Db::write_lightly`].
    fn is_postgres(&self) -> bool {
        matches!(self.kind, Kind::Postgres { .. })
    }

    /// Changes something, all of it or, on an error, nothing. It is on disk when this returns. A change that has begun is not
    /// left half-way when nobody waits for it any more.
    pub(super) async fn write<T, F>(&self, change: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut AnyConnection) -> Work<'c, T> + Send + 'static,
    {
        let (found, mut answer) = oneshot::channel();
        let apply: Apply = Box::new(move |connection| {
            let work = change(connection);
            Box::pin(async move {
                // Whoever asked may have gone; the change is made all the same.
                let _ = found.send(work.await?);
                Ok(())
            })
        });
        let (done, outcome) = oneshot::channel();
        let change = Change { apply, done };
        match &self.kind {
            Kind::Sqlite { writer, .. } => writer.send(change).await.map_err(|_| StoreError::Closed)?,
            Kind::Postgres { .. } => {
                tokio::spawn(write_alone(self.pool.clone(), change));
            }
        }
        outcome.await.map_err(|_| StoreError::Closed)??;
        answer.try_recv().map_err(|_| StoreError::Closed)
    }

    /// The same for what a crash of the database server may undo.
    pub(super) async fn write_lightly<T, F>(&self, change: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut AnyConnection) -> Work<'c, T> + Send + 'static,
    {
        let postgres = self.is_postgres();
        self.write(move |connection| {
            Box::pin(async move {
                if postgres {
                    connection.execute("SET LOCAL synchronous_commit = off").await?;
                }
                change(connection).await
            })
        })
        .await
    }

    /// Ends all connections once what they are doing is done.
    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

fn pool(most: u32, settings: &'static str) -> AnyPoolOptions {
    AnyPoolOptions::new().max_connections(most).acquire_timeout(CONNECTION_TIME).after_connect(
        move |connection, _| {
            Box::pin(async move {
                connection.execute(settings).await?;
                Ok(())
            })
        },
    )
}

/// Makes the file if there is none, so that only its owner reads it. SQLite gives its logs the same mode.
fn private_file(path: &Path) -> Result<(), StoreError> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match made {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(StoreError::io(path)(error)),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn sqlite_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(BUSY)
        .disable_statement_logging()
}

/// What SQLite says of a file, `ok` if it is sound.
pub(super) const INTEGRITY: &str = "SELECT integrity_check FROM pragma_integrity_check LIMIT 1";

/// What SQLite says of a file that nobody has open, `ok` if it is sound.
pub(super) async fn check_sqlite(path: &Path) -> Result<String, StoreError> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true).disable_statement_logging();
    let mut connection = options.connect().await?;
    let said = sqlx::query_scalar(INTEGRITY).fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(said)
}

/// SQLite's file as the `Any` driver takes it. sqlx's own conversion into an address neither escapes `%` nor keeps the
/// case of a relative path.
fn any_options(path: &Path) -> Result<AnyConnectOptions, StoreError> {
    let path = std::path::absolute(path).map_err(StoreError::io(path))?;
    let mut url = "sqlite://".to_owned();
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~".contains(byte) {
            url.push(char::from(*byte));
        } else {
            let _ = write!(url, "%{byte:02X}");
        }
    }
    url.push_str("?mode=rw");
    Ok(url.parse::<AnyConnectOptions>()?.disable_statement_logging())
}

fn migrate(outcome: Result<(), MigrateError>) -> Result<(), StoreError> {
    outcome.map_err(|error| {
        if matches!(error, MigrateError::VersionMissing(_) | MigrateError::VersionTooNew(..)) {
            StoreError::NewerVersion
        } else {
            StoreError::Migration(Arc::new(error))
        }
    })
}

async fn write_alone(pool: AnyPool, change: Change) {
    let Change { apply, done } = change;
    let outcome = async {
        let mut transaction = pool.begin().await?;
        match apply(&mut transaction).await {
            Ok(()) => Ok(transaction.commit().await?),
            Err(error) => {
                transaction.rollback().await?;
                Err(error)
            }
        }
    };
    // Nobody may wait any more.
    let _ = done.send(outcome.await);
}

/// SQLite's writer. It ends when nobody can send changes any more.
async fn write_together(pool: AnyPool, mut changes: mpsc::Receiver<Change>) {
    let mut waiting = Vec::with_capacity(TOGETHER);
    while changes.recv_many(&mut waiting, TOGETHER).await > 0 {
        let mut applied = Vec::with_capacity(waiting.len());
        let outcome = write_batch(&pool, &mut waiting, &mut applied).await;
        for done in applied {
            // Nobody may wait any more.
            let _ = done.send(outcome.clone());
        }
        // Left over only where the batch has failed.
        for change in waiting.drain(..) {
            let _ = change.done.send(outcome.clone().and(Err(StoreError::Closed)));
        }
    }
    pool.close().await;
}

/// Applies the changes in one transaction. Those that are refused are answered at once, and undone; the others are `applied`,
/// if the outcome is good.
async fn write_batch(
    pool: &AnyPool,
    waiting: &mut Vec<Change>,
    applied: &mut Vec<oneshot::Sender<Result<(), StoreError>>>,
) -> Result<(), StoreError> {
    // The lock is taken at once: a transaction that began by reading could not write after another program has.
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    for Change { apply, done } in waiting.drain(..) {
        let mut savepoint = transaction.begin().await?;
        match apply(&mut savepoint).await {
            Ok(()) => {
                applied.push(done);
                savepoint.commit().await?;
            }
            Err(error) => {
                // What it saw of others' changes may still be undone with them: then it was refused for nothing, and may
                // ask again.
                let _ = done.send(Err(error));
                savepoint.rollback().await?;
            }
        }
    }
    Ok(transaction.commit().await?)
}

/// Whether a statement failed because such a row is there already.
pub(super) fn is_taken(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

/// The databases' integers are signed; our times, versions and counts never come near the 63rd bit.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The reverse of [`int`].
pub(super) fn uint(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// A time as it is stored.
pub(super) fn time(at: UnixMillis) -> i64 {
    int(at.0)
}

/// A span of time as it is stored.
pub(super) fn span(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The reverse of [`time`].
pub(super) fn at(stored: i64) -> UnixMillis {
    UnixMillis(uint(stored))
}

pub(super) fn bytes<const N: usize>(value: &[u8], what: &'static str) -> Result<[u8; N], StoreError> {
    value.try_into().map_err(|_| StoreError::Damaged(what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Refused;

    async fn opened(folder: &tempfile::TempDir) -> Db {
        Db::open(&DatabasePlace::Sqlite(folder.path().join("x.sqlite"))).await.expect("opened")
    }

    async fn add(db: &Db, name: String, outcome: Result<(), Refused>) -> Result<(), StoreError> {
        let change = db.write(move |connection| {
            Box::pin(async move {
                let fact = sqlx::query("INSERT INTO facts (name, value) VALUES ($1, $2)").bind(name);
                fact.bind(vec![1]).execute(connection).await?;
                Ok(outcome?)
            })
        });
        change.await
    }

    async fn count(db: &Db) -> i64 {
        sqlx::query_scalar("SELECT COUNT(*) FROM facts").fetch_one(db.pool()).await.expect("counted")
    }

    #[tokio::test]
    async fn every_connection_to_sqlite_flushes_and_overwrites() {
        let folder = tempfile::tempdir().expect("folder");
        let db = opened(&folder).await;
        let ask = "SELECT s.synchronous, d.secure_delete, f.foreign_keys FROM pragma_synchronous s, \
             pragma_secure_delete d, pragma_foreign_keys f";
        let expected = (2_i64, 1_i64, 1_i64);
        let written = db.write(move |connection| {
            Box::pin(async move { Ok(sqlx::query_as(ask).fetch_one(connection).await?) })
        });
        assert_eq!(written.await.ok(), Some(expected), "the writer");
        let read = sqlx::query_as(ask).fetch_one(db.pool()).await;
        assert_eq!(read.ok(), Some(expected), "a reader");
        let mode: String = sqlx::query_scalar("SELECT journal_mode FROM pragma_journal_mode")
            .fetch_one(db.pool())
            .await
            .expect("read");
        assert_eq!(mode, "wal");
    }

    #[tokio::test]
    async fn a_change_that_is_refused_undoes_itself_only() {
        let folder = tempfile::tempdir().expect("folder");
        let db = opened(&folder).await;
        let outcome = |n: u32| if n.is_multiple_of(3) { Err(Refused::NoAccount) } else { Ok(()) };
        let all = (0..99).map(|n| add(&db, format!("fact{n}"), outcome(n)));
        let outcomes = futures::future::join_all(all).await;
        for (n, made) in (0..).zip(outcomes) {
            assert_eq!(made.is_ok(), outcome(n).is_ok(), "{n}");
        }
        assert_eq!(count(&db).await, 66);
        assert!(add(&db, "fact1".to_owned(), Ok(())).await.is_err(), "an error of the database's own");
        add(&db, "fact0".to_owned(), Ok(())).await.expect("what was undone can be done");
    }

    #[tokio::test]
    async fn a_change_is_made_though_nobody_waits_for_it() {
        let folder = tempfile::tempdir().expect("folder");
        let db = opened(&folder).await;
        let gone = add(&db, "first".to_owned(), Ok(()));
        assert!(futures::FutureExt::now_or_never(gone).is_none());
        // The writer takes them in order.
        add(&db, "second".to_owned(), Ok(())).await.expect("made");
        assert_eq!(count(&db).await, 2);
    }
}
