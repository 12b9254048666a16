//! What an operator does to a directory that runs or does not: look at accounts and numbers, change them, check the list of numbers, copy all
//! of it and put it back. Every change is in the operator's log, in the same transaction.

mod audit;
mod copies;
mod health;
mod list;
mod numbers;
mod users;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use data_encoding::HEXLOWER;
use offhook::clock::wall_clock;
use offhook::storage::AccountId;
use offhook_proto::identity::IdentityId;
use offhook_proto::wire::UnixMillis;
use serde_json::Value;

use crate::cli::Failure;
use crate::settings::Settings;
use crate::store::{Account, AuditEntry, BlobPlace, DatabasePlace, Refused, Store, StoreError};

pub(crate) use audit::{AuditCommand, audit};
pub(crate) use copies::{BackupPlan, RestorePlan, backup, restore};
pub(crate) use health::{HealthPlan, health};
pub(crate) use list::elsewhere;
pub(crate) use numbers::{NumbersCommand, QuotasCommand, numbers, quotas};
pub(crate) use users::{UsersCommand, users};

/// Where the directory's data are, as its own settings say it.
#[derive(Args, Debug)]
pub(crate) struct Place {
    /// Folder of the directory's data [default: $STATE_DIRECTORY or ~/.local/share/offhook-directory]
    #[arg(long, global = true, env = "OFFHOOK_DIRECTORY_DATA", value_name = "DIR", hide_env_values = true)]
    data: Option<PathBuf>,

    /// Where accounts are kept: a file for SQLite, or postgres://USER:PASSWORD@HOST/DATABASE [default: directory.sqlite in
    /// the data folder]
    #[arg(
        long,
        global = true,
        env = "OFFHOOK_DIRECTORY_DATABASE",
        value_name = "FILE|URL",
        hide_env_values = true
    )]
    database: Option<DatabasePlace>,

    /// Where backups of users are kept: a folder, or s3://BUCKET/PREFIX [default: blobs in the data folder]
    #[arg(
        long,
        global = true,
        env = "OFFHOOK_DIRECTORY_BLOBS",
        value_name = "DIR|URL",
        hide_env_values = true
    )]
    blobs: Option<BlobPlace>,

    /// Print JSON objects, one a line
    #[arg(long, global = true)]
    json: bool,
}

impl Place {
    /// The settings that it is, and whether JSON is to be printed.
    pub(crate) fn split(self) -> (Settings, bool) {
        let Self { data, database, blobs, json } = self;
        (Settings { data, database, blobs, ..Settings::default() }, json)
    }
}

/// Where an operator works.
pub(crate) struct Desk {
    store: Store,
    is_json: bool,
}

impl Desk {
    /// Does `work` on what a directory keeps, beside the directory if it runs.
    pub(crate) fn run(
        settings: &Settings,
        is_json: bool,
        work: impl AsyncFnOnce(&Self) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        block_on(async {
            let desk = Self { store: open(settings).await?, is_json };
            let outcome = work(&desk).await;
            desk.store.close().await;
            outcome
        })
    }

    /// Prints a line, or a JSON object.
    fn say(&self, text: &str, json: &Value) -> Result<(), Failure> {
        say(self.is_json, text, json)
    }

    /// The account of an ID.
    async fn account(&self, id: &AccountId) -> Result<Account, Failure> {
        let account = self.store.account_by_id(id).await.map_err(|error| failed(&error))?;
        account.ok_or_else(|| failed(&Refused::NoAccount.into()))
    }
}

/// What the operator is about to do, for his log.
fn deed(action: &str, subject: &str, details: &str) -> AuditEntry {
    AuditEntry {
        at: wall_clock(),
        actor: actor(),
        action: action.to_owned(),
        subject: subject.to_owned(),
        details: details.to_owned(),
    }
}

/// Who it is on this host: whoever became root by sudo, or the user.
fn actor() -> String {
    let named =
        ["SUDO_USER", "USER"].iter().find_map(|name| std::env::var(name).ok().filter(|n| !n.is_empty()));
    named.unwrap_or_else(|| format!("user {}", rustix::process::geteuid().as_raw()))
}

fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure { code: 1, sentence: error.to_string() })?.block_on(work)
}

/// What is there already: an operator who has mistaken the folder shall not make a new directory in it.
async fn open(settings: &Settings) -> Result<Store, Failure> {
    let database = settings.database();
    if let DatabasePlace::Sqlite(path) = &database
        && !path.exists()
    {
        return Err(wrong(format!(
            "there is no directory at {}; name its data folder by --data",
            path.display()
        )));
    }
    Store::open(&database, &settings.blobs()).await.map_err(|error| failed(&error))
}

fn say(is_json: bool, text: &str, json: &Value) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let written = if is_json { writeln!(out, "{json}") } else { writeln!(out, "{text}") };
    written.map_err(|error| Failure { code: 1, sentence: format!("cannot print: {error}") })
}

/// What the operator has to correct ends with 2, what the system does not give with 1.
fn failed(error: &StoreError) -> Failure {
    let code = match error {
        StoreError::Refused(_)
        | StoreError::NoDatabase(_)
        | StoreError::NoBlobPlace(_)
        | StoreError::Foreign(_)
        | StoreError::NewerVersion
        | StoreError::OtherTools => 2,
        StoreError::Database(_)
        | StoreError::Migration(_)
        | StoreError::Io { .. }
        | StoreError::Blobs(_)
        | StoreError::Damaged(_)
        | StoreError::Closed => 1,
    };
    Failure { code, sentence: error.to_string() }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        failed(&error)
    }
}

/// What a file or folder does not give.
fn on(path: &Path) -> impl FnOnce(std::io::Error) -> Failure {
    let path = path.display().to_string();
    move |error| Failure { code: 1, sentence: format!("{path}: {error}") }
}

fn wrong(sentence: impl Into<String>) -> Failure {
    Failure { code: 2, sentence: sentence.into() }
}

fn hex(identity: &IdentityId) -> String {
    HEXLOWER.encode(identity.as_bytes())
}

/// RFC 3339, in UTC, to the second.
fn date(at: UnixMillis) -> String {
    let seconds = i64::try_from(at.0 / 1_000).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| at.0.to_string(), |time| time.to_string())
}
