//! `offhook-directory backup` and `restore`.
//!
//! A copy is a folder: `directory.sqlite`, `blobs`, and the keys. It gets its name when all of it is on disk. Records of the network are not in
//! it: terminals publish them again within the hour. Of PostgreSQL the file is `directory.dump`, made by `pg_dump`.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use offhook::clock::wall_clock;
use offhook_proto::identity::DirectoryKey;
use serde_json::json;

use super::{Desk, block_on, deed, failed, on, open, say, wrong};
use crate::cli::Failure;
use crate::key::{self, Secret};
use crate::settings::Settings;
use crate::store::{BlobPlace, DatabasePlace, Fact, MAX_PAGE, SecretUrl, Store, StoreError};
use crate::web::opaque::Opaque;

/// PostgreSQL's own tool.
const PG_DUMP: &str = "pg_dump";

const DATABASE: &str = "directory.sqlite";
const DUMP: &str = "directory.dump";
const BLOBS: &str = "blobs";

/// Keys without which a directory is another one, or nobody can log in.
const KEYS: [&str; 2] = ["opaque.key", "signing.key"];
/// Those that a directory makes again, at the price of another address or void tickets.
const MORE_KEYS: [&str; 3] = ["directory.key", "relay.secret", "front.pem"];

/// Copies everything into a new folder, while the directory goes on.
pub(crate) async fn backup(desk: &Desk, settings: &Settings, plan: &BackupPlan) -> Result<(), Failure> {
    let (to, database) = (&plan.to, settings.database());
    let is_postgres = matches!(database, DatabasePlace::Postgres(_));
    if plan.without_database && !is_postgres {
        return Err(wrong("--without-database is for PostgreSQL; SQLite's file is always copied"));
    }
    let data = settings.data_dir();
    for key in KEYS {
        if !data.join(key).exists() {
            return Err(wrong(format!(
                "{} is missing: without it a copy is worth nothing",
                data.join(key).display()
            )));
        }
    }
    let is_free = match std::fs::read_dir(to) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    let name = to.file_name().filter(|_| is_free);
    let name =
        name.ok_or_else(|| wrong(format!("{} is not a new folder, nor an empty one", to.display())))?;
    let mut draft_name = name.to_owned();
    draft_name.push(format!(".part-{}", std::process::id()));
    let draft = to.with_file_name(draft_name);
    // Before, so that it is in the copy, too.
    let done = deed("backup", &to.display().to_string(), "");
    desk.store.add_audit(done).await.map_err(|error| failed(&error))?;
    let dumped = match &database {
        DatabasePlace::Postgres(url) if !plan.without_database => Some(url),
        DatabasePlace::Postgres(_) | DatabasePlace::Sqlite(_) => None,
    };
    if let Err(failure) = copy(desk, &data, &draft, to, dumped).await {
        // What is left of it is no copy. That it cannot be removed is not the failure to tell of.
        let _ = std::fs::remove_dir_all(&draft);
        return Err(failure);
    }
    let accounts = desk.store.count_accounts().await.map_err(|error| failed(&error))?;
    let place = to.display();
    let has_database = !is_postgres || dumped.is_some();
    let text = if has_database {
        format!("{accounts} accounts, their backups and the keys are in {place}")
    } else {
        format!(
            "the backups of {accounts} accounts and the keys are in {place}; the database is not: dump it with pg_dump"
        )
    };
    let json = json!({ "to": place.to_string(), "accounts": accounts, "database": has_database });
    desk.say(&text, &json)
}

/// What is copied, and where to.
#[derive(Args, Debug)]
pub(crate) struct BackupPlan {
    /// The folder, which must not be there or be empty
    to: PathBuf,

    /// Leave PostgreSQL's database out, if it is copied by other means: only the keys and the users' backups are copied
    #[arg(long)]
    without_database: bool,
}

async fn copy(
    desk: &Desk,
    data: &Path,
    draft: &Path,
    to: &Path,
    dumped: Option<&SecretUrl>,
) -> Result<(), Failure> {
    if desk.store.is_file() {
        desk.store.copy_to(draft, wall_clock()).await.map_err(|error| failed(&error))?;
    } else {
        folder(draft)?;
        let target = draft.join(DUMP);
        let dump = async || dumped.map_or(Ok(()), |url| dump(url, &target));
        desk.store.copy_beside(draft, wall_clock(), dump).await?;
    }
    let keys = KEYS.iter().chain(&MORE_KEYS).filter(|key| data.join(key).exists());
    for key in keys {
        copy_file(&data.join(key), &draft.join(key)).map_err(on(&draft.join(key)))?;
    }
    sync(draft)?;
    std::fs::rename(draft, to).map_err(on(to))?;
    sync(&parent(to))
}

/// Has PostgreSQL's own tool copy the database. The password goes by the environment: everybody reads the arguments.
fn dump(url: &SecretUrl, to: &Path) -> Result<(), Failure> {
    let hint = "; if the database is copied by other means: --without-database";
    let failed = |why: String| Failure { code: 1, sentence: format!("{why}; nothing was copied{hint}") };
    let mut url = reqwest::Url::parse(url.as_str()).map_err(|error| failed(error.to_string()))?;
    let password = url.password().map(percent_decoded);
    // Fails only for an address that cannot have one.
    let _ = url.set_password(None);
    let mut command = Command::new(PG_DUMP);
    command.arg("--format=custom").arg("--no-password").arg("--file").arg(to);
    command.arg(format!("--dbname={url}")).stdin(Stdio::null());
    if let Some(password) = password {
        command.env("PGPASSWORD", password);
    }
    let output = command
        .output()
        .map_err(|error| failed(format!("{PG_DUMP}, which copies PostgreSQL, cannot be run: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(format!("{PG_DUMP}: {}", said.trim())));
    }
    private(to).and_then(|()| File::open(to)?.sync_all()).map_err(on(to))
}

fn private(path: &Path) -> io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
}

/// A part of an address as it was before it came into one (RFC 3986 section 2.1).
fn percent_decoded(part: &str) -> OsString {
    let (mut bytes, mut rest) = (Vec::new(), part.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let byte = after.get(..2).filter(|_| *first == b'%').and_then(|two| {
            let two = std::str::from_utf8(two).ok()?;
            u8::from_str_radix(two, 16).ok()
        });
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    OsString::from_vec(bytes)
}

/// What is put back, and whether it may be damaged.
#[derive(Args, Debug)]
pub(crate) struct RestorePlan {
    /// What `backup` has made
    from: PathBuf,

    /// Put it back although backups of users are damaged: those users get in again, without what was in them
    #[arg(long)]
    accept_damaged: bool,
}

/// Puts a copy back where no directory is, if it is a whole one.
pub(crate) fn restore(settings: &Settings, plan: &RestorePlan, is_json: bool) -> Result<(), Failure> {
    let from = &plan.from;
    let (DatabasePlace::Sqlite(database), BlobPlace::Folder(blobs)) = (settings.database(), settings.blobs())
    else {
        return Err(failed(&StoreError::OtherTools));
    };
    for name in KEYS.into_iter().chain([DATABASE]) {
        if !from.join(name).is_file() {
            return Err(wrong(format!("{} is no copy of a directory: {name} is missing", from.display())));
        }
    }
    if database.exists() {
        return Err(wrong(format!(
            "there is a directory at {} already; move it away first",
            database.display()
        )));
    }
    let data = settings.data_dir();
    folder(&data)?;
    let trial = Trial::new(&data)?;
    let (accounts, damaged) = block_on(trial.check(from))?;
    drop(trial);
    if !damaged.is_empty() && !plan.accept_damaged {
        let sentence = format!(
            "the backups of these accounts are damaged: {}; nothing was put back. Take another copy, or --accept-damaged",
            damaged.join(", ")
        );
        return Err(Failure { code: 1, sentence });
    }
    restore_files(settings, from, &database, &blobs)?;
    block_on(finish(settings, from))?;
    let text = format!("{accounts} accounts are back; their users have to log in again");
    say(is_json, &text, &json!({ "accounts": accounts, "damaged": damaged }))?;
    if damaged.is_empty() {
        return Ok(());
    }
    let sentence = format!("the backups of these accounts are damaged: {}", damaged.join(", "));
    Err(Failure { code: 1, sentence })
}

/// A folder in which a copy's database is opened before anything is put into its place; removed afterwards.
struct Trial(PathBuf);

impl Drop for Trial {
    fn drop(&mut self) {
        // The next one begins by removing it.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Trial {
    fn new(data: &Path) -> Result<Self, Failure> {
        let place = data.join("restore.part");
        match std::fs::remove_dir_all(&place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(on(&place)(error)),
            Ok(()) | Err(_) => {}
        }
        folder(&place)?;
        Ok(Self(place))
    }

    /// Whether the database is sound and the keys are its own; how many accounts there are, and the IDs of those whose backup is not
    /// what was stored.
    async fn check(&self, from: &Path) -> Result<(u64, Vec<String>), Failure> {
        for name in KEYS {
            copy_file(&from.join(name), &self.0.join(name)).map_err(on(&from.join(name)))?;
        }
        let database = self.0.join(DATABASE);
        place_database(from, &database)?;
        let own = from.join(BLOBS);
        // Without accounts there are none.
        let blobs = if own.is_dir() { own } else { self.0.join(BLOBS) };
        let refused = |error: &dyn std::error::Error| Failure {
            code: 1,
            sentence: format!("{} is not a good copy: {error}; nothing was put back", from.display()),
        };
        let opaque = Opaque::load_or_make(&self.0).map_err(|error| refused(&error))?;
        let seed = key::load_or_make(&self.0, Secret::Signing).map_err(|error| refused(&error))?;
        let signing = DirectoryKey::from_seed(seed).public();
        let checked = async {
            let store = Store::open(&DatabasePlace::Sqlite(database), &BlobPlace::Folder(blobs)).await?;
            store.check_file().await?;
            store.belongs_to(Fact::OpaqueKey, opaque.fingerprint()).await?;
            store.belongs_to(Fact::SigningKey, signing.as_bytes()).await?;
            let found = look_through(&store).await;
            store.close().await;
            found
        };
        checked.await.map_err(|error: StoreError| refused(&error))
    }
}

/// The database comes last: until it is there the rest is none of any directory's, and the same can be done again.
fn restore_files(settings: &Settings, from: &Path, database: &Path, blobs: &Path) -> Result<(), Failure> {
    let data = settings.data_dir();
    folder(&data)?;
    for key in KEYS.iter().chain(&MORE_KEYS) {
        let (source, target) = (from.join(key), data.join(key));
        if !source.exists() {
            continue;
        }
        if target.exists() {
            let same = std::fs::read(&source).map_err(on(&source))?
                == std::fs::read(&target).map_err(on(&target))?;
            if !same {
                return Err(wrong(format!(
                    "{} is of another directory; move it away first",
                    target.display()
                )));
            }
            continue;
        }
        place(&source, &target)?;
    }
    sync(&data)?;
    copy_folder(&from.join(BLOBS), blobs)?;
    folder(&parent(database))?;
    place_database(from, database)?;
    sync(&parent(database))
}

/// The database of a copy appears under its name.
fn place_database(from: &Path, database: &Path) -> Result<(), Failure> {
    // Changes that SQLite has not yet taken from its log into the file.
    let log = |file: &Path| PathBuf::from(format!("{}-wal", file.display()));
    let source = from.join(DATABASE);
    if log(&source).exists() {
        place(&log(&source), &log(database))?;
    }
    place(&source, database)
}

/// Ends the sessions of then: some of them were ended since.
async fn finish(settings: &Settings, from: &Path) -> Result<(), Failure> {
    let store = open(settings).await?;
    let done = deed("restore", &from.display().to_string(), "");
    store.end_all_sessions(done).await.map_err(|error| failed(&error))?;
    store.close().await;
    Ok(())
}

/// How many accounts there are, and the IDs of those whose backup is not what was stored.
async fn look_through(store: &Store) -> Result<(u64, Vec<String>), StoreError> {
    let (mut last, mut count, mut damaged) = (None, 0, Vec::new());
    loop {
        let page = store.accounts(last.as_ref(), MAX_PAGE).await?;
        for account in &page {
            count += 1;
            match store.backup(&account.identity).await {
                Ok(_) => {}
                Err(StoreError::Damaged(_)) => damaged.push(account.id.as_str().to_owned()),
                Err(error) => return Err(error),
            }
        }
        match page.last() {
            Some(account) => last = Some(account.id.clone()),
            None => return Ok((count, damaged)),
        }
    }
}

/// A file appears whole, under its name, and only for its owner.
fn place(from: &Path, to: &Path) -> Result<(), Failure> {
    let draft = PathBuf::from(format!("{}.part", to.display()));
    copy_file(from, &draft).and_then(|()| std::fs::rename(&draft, to)).map_err(on(to))
}

fn copy_folder(from: &Path, to: &Path) -> Result<(), Failure> {
    folder(to)?;
    let entries = match std::fs::read_dir(from) {
        Ok(entries) => entries,
        // Without accounts there are none.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(on(from)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(on(from))?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type().map_err(on(from))?;
        if kind.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else if kind.is_file() {
            place(&entry.path(), &target)?;
        }
    }
    sync(to)
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?;
    let mut target = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to)?;
    io::copy(&mut source, &mut target)?;
    target.sync_all()
}

fn folder(path: &Path) -> Result<(), Failure> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(on(path))
}

fn parent(path: &Path) -> PathBuf {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

fn sync(folder: &Path) -> Result<(), Failure> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(on(folder))
}
