//! `offhook-directory backup` and `restore`.
//!
//! A copy is a folder: `directory.sqlite`, `blobs`, and the keys. It gets its name when all of it is on disk. Records of the network are not in
//! it: terminals publish them again within the hour.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use offhook::clock::wall_clock;
use serde_json::json;

use super::{Desk, block_on, deed, failed, open, say, wrong};
use crate::cli::Failure;
use crate::settings::Settings;
use crate::store::{BlobPlace, DatabasePlace, MAX_PAGE, Store, StoreError};

const DATABASE: &str = "directory.sqlite";
const BLOBS: &str = "blobs";

/// Keys without which a directory is another one, or nobody can log in.
const KEYS: [&str; 2] = ["opaque.key", "signing.key"];
/// Those that a directory makes again, at the price of another address or void tickets.
const MORE_KEYS: [&str; 3] = ["directory.key", "relay.secret", "front.pem"];

/// Copies everything into a new folder, while the directory goes on.
pub(crate) async fn backup(desk: &Desk, settings: &Settings, to: &Path) -> Result<(), Failure> {
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
    if let Err(failure) = copy(desk, &data, &draft, to).await {
        // What is left of it is no copy. That it cannot be removed is not the failure to tell of.
        let _ = std::fs::remove_dir_all(&draft);
        return Err(failure);
    }
    let accounts = desk.store.count_accounts().await.map_err(|error| failed(&error))?;
    let text = format!("{accounts} accounts, their backups and the keys are in {}", to.display());
    desk.say(&text, &json!({ "to": to.display().to_string(), "accounts": accounts }))
}

async fn copy(desk: &Desk, data: &Path, draft: &Path, to: &Path) -> Result<(), Failure> {
    desk.store.copy_to(draft, wall_clock()).await.map_err(|error| failed(&error))?;
    let keys = KEYS.iter().chain(&MORE_KEYS).filter(|key| data.join(key).exists());
    for key in keys {
        copy_file(&data.join(key), &draft.join(key)).map_err(on(&draft.join(key)))?;
    }
    sync(draft)?;
    std::fs::rename(draft, to).map_err(on(to))?;
    sync(&parent(to))
}

/// Puts a copy back where no directory is.
pub(crate) fn restore(settings: &Settings, from: &Path, is_json: bool) -> Result<(), Failure> {
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
    restore_files(settings, from, &database, &blobs)?;
    block_on(finish(settings, from, is_json))
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
    // Changes that SQLite has not yet taken from its log into the file.
    let log = |file: &Path| PathBuf::from(format!("{}-wal", file.display()));
    let source = from.join(DATABASE);
    if log(&source).exists() {
        place(&log(&source), &log(database))?;
    }
    place(&source, database)?;
    sync(&parent(database))
}

/// Looks at what has been put back, and ends the sessions of then: some of them were ended since.
async fn finish(settings: &Settings, from: &Path, is_json: bool) -> Result<(), Failure> {
    let store = open(settings).await?;
    let done = deed("restore", &from.display().to_string(), "");
    store.end_all_sessions(done).await.map_err(|error| failed(&error))?;
    let (accounts, damaged) = look_through(&store).await.map_err(|error| failed(&error))?;
    store.close().await;
    let text = format!("{accounts} accounts are back; their users have to log in again");
    say(is_json, &text, &json!({ "accounts": accounts, "damaged": damaged }))?;
    if damaged.is_empty() {
        return Ok(());
    }
    let sentence = format!("the backups of these accounts are damaged: {}", damaged.join(", "));
    Err(Failure { code: 1, sentence })
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

fn on(path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let path = path.display().to_string();
    move |error| Failure { code: 1, sentence: format!("{path}: {error}") }
}
