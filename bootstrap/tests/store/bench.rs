//! A store to try, and people who use it.

use std::path::{Path, PathBuf};

use offhook_bootstrap::store::{
    BlobPlace, DatabasePlace, NewAccount, PasswordFile, Refused, Store, StoreError,
};
use offhook_proto::identity::{IdentityId, IdentityKey};
use offhook_proto::number::PlainNumber;
use offhook_proto::proof::PlainProof;
use offhook_proto::wire::UnixMillis;
use offhook_tests::postgres::Postgres;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};
use tempfile::TempDir;

use crate::s3;

/// Some moment. Blobs carry the system's time; everything else is told what time it is.
pub const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

pub fn minutes(minutes: u64) -> UnixMillis {
    UnixMillis(NOW.0 + minutes * 60_000)
}

pub struct Bench {
    database: DatabasePlace,
    blobs: BlobPlace,
    pub folder: TempDir,
}

impl Bench {
    fn new(database: impl FnOnce(&TempDir) -> String, blobs: impl FnOnce(&TempDir) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = database(&folder).parse().unwrap();
        let blobs = blobs(&folder).parse().unwrap();
        Self { database, blobs, folder }
    }

    pub fn sqlite() -> Self {
        Self::new(sqlite_file, blob_folder)
    }

    pub fn sqlite_and_s3(server: &s3::Server) -> Self {
        Self::new(sqlite_file, |_| server.url())
    }

    pub fn postgres(server: &Postgres) -> Self {
        let url = server.database().unwrap();
        Self::new(|_| url, blob_folder)
    }

    pub async fn try_open(&self) -> Result<Store, StoreError> {
        Store::open(&self.database, &self.blobs).await
    }

    /// Another handle each time, as another process would have.
    pub async fn open(&self) -> Store {
        self.try_open().await.unwrap()
    }

    /// The database's file.
    pub fn file(&self) -> PathBuf {
        match &self.database {
            DatabasePlace::Sqlite(path) => path.clone(),
            DatabasePlace::Postgres(url) => panic!("{} is PostgreSQL's", url.as_str()),
        }
    }

    /// Another file, with the same blobs.
    pub async fn open_at(&self, file: &Path) -> Store {
        Store::open(&DatabasePlace::Sqlite(file.to_owned()), &self.blobs).await.unwrap()
    }

    /// Does something to the database from outside.
    pub async fn execute(&self, sql: &'static str) {
        match &self.database {
            DatabasePlace::Sqlite(path) => {
                let options = SqliteConnectOptions::new().filename(path);
                options.connect().await.unwrap().execute(sql).await.unwrap();
            }
            DatabasePlace::Postgres(url) => {
                PgConnection::connect(url.as_str()).await.unwrap().execute(sql).await.unwrap();
            }
        }
    }

    pub fn postgres_url(&self) -> String {
        match &self.database {
            DatabasePlace::Postgres(url) => url.as_str().to_owned(),
            DatabasePlace::Sqlite(path) => panic!("{} is SQLite's", path.display()),
        }
    }

    /// The files of the blobs.
    pub fn blobs(&self) -> Vec<PathBuf> {
        let Ok(folders) = std::fs::read_dir(self.folder.path().join("blobs/backups")) else { return vec![] };
        let folders = folders.map(|folder| folder.unwrap().path());
        folders
            .flat_map(|folder| std::fs::read_dir(folder).unwrap())
            .map(|blob| blob.unwrap().path())
            .collect()
    }
}

fn sqlite_file(folder: &TempDir) -> String {
    // A name that has to be escaped in an address.
    folder.path().join("da ta %20?/directory.sqlite").display().to_string()
}

fn blob_folder(folder: &TempDir) -> String {
    folder.path().join("blobs").display().to_string()
}

pub fn identity(n: u8) -> IdentityId {
    IdentityKey::from_seed([n; 32]).public()
}

pub fn new_account(n: u8, id: &str) -> NewAccount {
    NewAccount {
        identity: identity(n),
        id: id.parse().unwrap(),
        number: PlainNumber::from_index(u64::from(n) + 12_345_678_901),
        proof: PlainProof { nonce: u64::MAX - u64::from(n) },
        password_file: PasswordFile(vec![n; 192]),
        backup: vec![n; 1_000],
    }
}

/// A store in which the first so many have signed up: `user1` and so on.
pub async fn with_accounts(bench: &Bench, count: u8) -> Store {
    let store = bench.open().await;
    for n in 1..=count {
        store.sign_up(new_account(n, &format!("user{n}")), NOW).await.unwrap();
    }
    store
}

pub fn refused<T: std::fmt::Debug>(outcome: Result<T, StoreError>) -> Refused {
    let error = outcome.expect_err("refused");
    error.refused().unwrap_or_else(|| panic!("{error}"))
}
