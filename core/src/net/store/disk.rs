//! `net.sqlite`: the records held and the peers to come back to. One writer task, group commit.
//!
//! Write-ahead log with `synchronous = FULL`: a transaction that has been reported as written survives a kill
//! or a power cut. Only verified records get here.

use std::path::Path;
use std::time::Duration;

use offhook_proto::number::RecordKey;
use offhook_proto::wire::UnixMillis;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

/// Writes that may wait. Beyond it the network waits for the disk.
const QUEUE: usize = 1_024;

/// Most writes in one transaction.
const BATCH: usize = 256;

/// Peers remembered; those seen longest ago are forgotten first, and those that the user chose last.
const MAX_PEERS: i64 = 64;

/// What a stored row says.
pub(super) struct Stored {
    pub(super) key: RecordKey,
    pub(super) value: Vec<u8>,
    pub(super) source: Vec<u8>,
    pub(super) since: UnixMillis,
    pub(super) own: bool,
}

/// A peer to come back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::net) struct Met {
    /// Where it was reached, ending in `/p2p`.
    pub(in crate::net) addr: String,
    /// Whether the user chose it.
    pub(in crate::net) chosen: bool,
    /// Where else it says that it is.
    pub(in crate::net) others: Vec<String>,
}

/// Something to write.
pub(super) enum Write {
    Record(Stored),
    Remove(RecordKey),
    Peer {
        met: Met,
        at: UnixMillis,
    },
    /// Nothing, but tell when everything before it is on disk.
    Flush,
}

/// Called when the write is on disk (`true`) or has failed.
pub(in crate::net) type Done = Box<dyn FnOnce(bool) + Send>;

/// The writer's inbox.
#[derive(Clone)]
pub(in crate::net) struct Disk {
    queue: mpsc::Sender<(Write, Option<Done>)>,
}

/// What was on disk.
#[derive(Default)]
pub(in crate::net) struct Loaded {
    pub(super) records: Vec<Stored>,
    /// Peers: those that the user chose first, then the one seen last first.
    pub(in crate::net) peers: Vec<Met>,
}

impl Disk {
    /// Opens or creates `net.sqlite` in `dir`, reads it, and starts the writer. A file that is damaged is set aside: the
    /// network has the records, and a telephone that doesn't start helps nobody.
    pub(in crate::net) async fn open(dir: &Path) -> Result<(Self, Loaded), sqlx::Error> {
        match Self::open_file(dir).await {
            Err(error) if is_damage(&error) => {
                error!(%error, "the record store is damaged; it is kept as net.sqlite.damaged");
                set_aside(dir)?;
                Self::open_file(dir).await
            }
            result => result,
        }
    }

    async fn open_file(dir: &Path) -> Result<(Self, Loaded), sqlx::Error> {
        let options = SqliteConnectOptions::new()
            .filename(dir.join("net.sqlite"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5))
            .pragma("cache_size", "-256")
            .disable_statement_logging();
        let mut connection = options.connect().await?;
        create(&mut connection).await?;
        let loaded = load(&mut connection).await?;
        let (queue, inbox) = mpsc::channel(QUEUE);
        tokio::spawn(write_all(connection, inbox));
        Ok((Self { queue }, loaded))
    }

    /// Queues a write without waiting. A full queue loses it, and says so to `done`.
    pub(super) fn write(&self, write: Write, done: Option<Done>) {
        if let Err(error) = self.queue.try_send((write, done)) {
            warn!("the record store's disk is too slow; a write is lost");
            let (_, done) = match error {
                mpsc::error::TrySendError::Full(item) | mpsc::error::TrySendError::Closed(item) => item,
            };
            if let Some(done) = done {
                done(false);
            }
        }
    }

    /// Remembers that a peer was reached.
    pub(in crate::net) fn remember(&self, met: Met, at: UnixMillis) {
        self.write(Write::Peer { met, at }, None);
    }

    /// Waits until everything queued so far is on disk.
    pub(in crate::net) async fn flush(&self) {
        let (sender, receiver) = oneshot::channel();
        let done: Done = Box::new(move |_| {
            // Whoever asked may have gone.
            let _ = sender.send(());
        });
        if self.queue.send((Write::Flush, Some(done))).await.is_ok() {
            let _ = receiver.await;
        }
    }
}

/// SQLITE_CORRUPT and SQLITE_NOTADB, with their extended codes.
fn is_damage(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<i32>().ok());
    code.is_some_and(|code| matches!(code & 0xff, 11 | 26))
}

/// Makes room for a new file. An older damaged one is replaced: one is enough to look at.
fn set_aside(dir: &Path) -> std::io::Result<()> {
    for rest in ["net.sqlite-wal", "net.sqlite-shm"] {
        match std::fs::remove_file(dir.join(rest)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    std::fs::rename(dir.join("net.sqlite"), dir.join("net.sqlite.damaged"))
}

/// Version of the file. Peers of the first one (0) are not worth keeping; those of 1 were known by one address each.
const VERSION: i64 = 2;
const FORGET: &str = "BEGIN; DROP TABLE IF EXISTS peers; PRAGMA user_version = 2; COMMIT";
const WIDEN: &str = "
    BEGIN;
    CREATE TABLE IF NOT EXISTS peers (
        addr TEXT PRIMARY KEY, seen INTEGER NOT NULL, chosen INTEGER NOT NULL
    ) WITHOUT ROWID;
    ALTER TABLE peers ADD COLUMN others TEXT NOT NULL DEFAULT '';
    PRAGMA user_version = 2;
    COMMIT";

async fn create(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let version: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *connection).await?;
    let change = match version {
        ..=0 => Some(FORGET),
        1 => Some(WIDEN),
        VERSION.. => None,
    };
    if let Some(change) = change {
        sqlx::raw_sql(change).execute(&mut *connection).await?;
    }
    let tables = "
        CREATE TABLE IF NOT EXISTS records (
            key BLOB PRIMARY KEY, value BLOB NOT NULL, source BLOB NOT NULL, since INTEGER NOT NULL,
            own INTEGER NOT NULL
        ) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS peers (
            addr TEXT PRIMARY KEY, seen INTEGER NOT NULL, chosen INTEGER NOT NULL,
            others TEXT NOT NULL DEFAULT ''
        ) WITHOUT ROWID;";
    sqlx::raw_sql(tables).execute(connection).await?;
    Ok(())
}

async fn load(connection: &mut SqliteConnection) -> Result<Loaded, sqlx::Error> {
    let rows =
        sqlx::query("SELECT key, value, source, since, own FROM records").fetch_all(&mut *connection).await?;
    let mut records = Vec::with_capacity(rows.len());
    for row in rows {
        let key: Vec<u8> = row.try_get(0)?;
        // A key of another length is not ours; the row is left alone.
        let Ok(key) = key.try_into() else { continue };
        let since: i64 = row.try_get(3)?;
        records.push(Stored {
            key: RecordKey(key),
            value: row.try_get(1)?,
            source: row.try_get(2)?,
            since: UnixMillis(since.unsigned_abs()),
            own: row.try_get(4)?,
        });
    }
    let peers: Vec<(String, bool, String)> =
        sqlx::query_as("SELECT addr, chosen, others FROM peers ORDER BY chosen DESC, seen DESC LIMIT ?")
            .bind(MAX_PEERS)
            .fetch_all(&mut *connection)
            .await?;
    let met = |(addr, chosen, others): (String, bool, String)| {
        // No address has a space in it.
        let others = others.split_whitespace().map(str::to_owned).collect();
        Met { addr, chosen, others }
    };
    Ok(Loaded { records, peers: peers.into_iter().map(met).collect() })
}

/// Writes batches until every sender has gone. After an error the batch is reported as not written.
async fn write_all(mut connection: SqliteConnection, mut inbox: mpsc::Receiver<(Write, Option<Done>)>) {
    let mut batch = Vec::new();
    while inbox.recv_many(&mut batch, BATCH).await > 0 {
        let (writes, done): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
        let written = match write_batch(&mut connection, writes).await {
            Ok(()) => true,
            Err(error) => {
                error!(%error, "cannot write the record store");
                false
            }
        };
        for done in done.into_iter().flatten() {
            done(written);
        }
    }
    if let Err(error) = connection.close().await {
        warn!(%error, "closing the record store");
    }
}

async fn write_batch(connection: &mut SqliteConnection, batch: Vec<Write>) -> Result<(), sqlx::Error> {
    if batch.iter().all(|write| matches!(write, Write::Flush)) {
        return Ok(());
    }
    let mut transaction = connection.begin().await?;
    for write in &batch {
        write_one(&mut transaction, write).await?;
    }
    transaction.commit().await
}

async fn write_one(connection: &mut SqliteConnection, write: &Write) -> Result<(), sqlx::Error> {
    match write {
        Write::Record(row) => {
            let since = i64::try_from(row.since.0).unwrap_or(i64::MAX);
            sqlx::query("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?)")
                .bind(&row.key.0[..])
                .bind(&row.value[..])
                .bind(&row.source[..])
                .bind(since)
                .bind(row.own)
                .execute(connection)
                .await?;
        }
        Write::Remove(key) => {
            sqlx::query("DELETE FROM records WHERE key = ?").bind(&key.0[..]).execute(connection).await?;
        }
        Write::Peer { met, at } => {
            let at = i64::try_from(at.0).unwrap_or(i64::MAX);
            let remember = "INSERT INTO peers (addr, seen, chosen, others) VALUES (?, ?, ?, ?)
                            ON CONFLICT (addr) DO UPDATE SET seen = excluded.seen,
                            chosen = max(chosen, excluded.chosen), others = excluded.others";
            sqlx::query(remember)
                .bind(&met.addr)
                .bind(at)
                .bind(met.chosen)
                .bind(met.others.join(" "))
                .execute(&mut *connection)
                .await?;
            let forget = "DELETE FROM peers WHERE addr NOT IN
                          (SELECT addr FROM peers ORDER BY chosen DESC, seen DESC LIMIT ?)";
            sqlx::query(forget).bind(MAX_PEERS).execute(connection).await?;
        }
        Write::Flush => {}
    }
    Ok(())
}
