//! `offhook-directory backup` and `restore`.
//!
//! A copy is a folder: `directory.sqlite`, `blobs`, and the keys. It gets its name when all of it is on disk. Records of the network are not in
//! it: terminals publish them again within the hour. Of PostgreSQL the file is `directory.dump`, made by `pg_dump`.

use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::Args;
use data_encoding::HEXLOWER;
use offhook::clock::wall_clock;
use offhook_proto::identity::DirectoryKey;
use serde_json::json;

use super::{Desk, block_on, deed, on, say, wrong};
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

/// What stands between the name of a copy that is not whole yet and a random number.
const DRAFT: &str = ".part-";
/// A copy that was not whole after so long never will be.
const DRAFT_TIME: Duration = Duration::from_secs(24 * 3_600);

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
    let begin = deed("begin backup", &to.display().to_string(), "");
    desk.store.add_audit(begin).await?;
    let dumped = match &database {
        DatabasePlace::Postgres(url) if !plan.without_database => Some(url),
        DatabasePlace::Postgres(_) | DatabasePlace::Sqlite(_) => None,
    };
    let copied = copy(desk, &data, name, to, dumped).await;
    let done = match &copied {
        Ok(()) => deed("backup", &to.display().to_string(), ""),
        Err(failure) => deed("backup failed", &to.display().to_string(), &failure.sentence),
    };
    let written = desk.store.add_audit(done).await;
    copied?;
    written?;
    let accounts = desk.store.count_accounts().await?;
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
    name: &OsStr,
    to: &Path,
    dumped: Option<&SecretUrl>,
) -> Result<(), Failure> {
    folder(&parent(to))?;
    remove_old_drafts(&parent(to))?;
    // Nobody else guesses it, and what is there already is not written into.
    let mut draft = name.to_owned();
    draft.push(format!("{DRAFT}{}", HEXLOWER.encode(&rand::random::<[u8; 16]>())));
    let draft = to.with_file_name(draft);
    let copied = copy_into(desk, data, &draft, to, dumped).await;
    if copied.is_err() {
        // What is left of it is no copy. That it cannot be removed is not the failure to tell of.
        let _ = std::fs::remove_dir_all(&draft);
    }
    copied
}

async fn copy_into(
    desk: &Desk,
    data: &Path,
    draft: &Path,
    to: &Path,
    dumped: Option<&SecretUrl>,
) -> Result<(), Failure> {
    if desk.store.is_file() {
        desk.store.copy_to(draft, wall_clock()).await?;
    } else {
        DirBuilder::new().mode(0o700).create(draft).map_err(on(draft))?;
        let target = draft.join(DUMP);
        let dump = async |moment: Option<String>| match dumped {
            Some(url) => dump(url, &target, moment).await,
            None => Ok(()),
        };
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

/// Removes what copies that were killed have left beside theirs.
fn remove_old_drafts(folder: &Path) -> Result<(), Failure> {
    let ours = own_user();
    for entry in std::fs::read_dir(folder).map_err(on(folder))? {
        let entry = entry.map_err(on(folder))?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.rsplit_once(DRAFT)).map(|(_, number)| number);
        let is_draft = number.is_some_and(|number| {
            number.len() == 32 && number.bytes().all(|digit| digit.is_ascii_hexdigit())
        });
        // Not one of a link, and one that is gone meanwhile is another's work.
        let is_old = |there: std::fs::Metadata| {
            let age = there.modified().ok().and_then(|at| at.elapsed().ok());
            there.is_dir() && there.uid() == ours && age.is_some_and(|age| age > DRAFT_TIME)
        };
        if is_draft && entry.metadata().is_ok_and(is_old) {
            std::fs::remove_dir_all(entry.path()).map_err(on(&entry.path()))?;
        }
    }
    Ok(())
}

/// Has PostgreSQL's own tool copy the database, as it was at a moment. The password goes by the environment: everybody reads the arguments.
async fn dump(url: &SecretUrl, to: &Path, moment: Option<String>) -> Result<(), Failure> {
    let hint = "; if the database is copied by other means: --without-database";
    let failed = move |why: String| Failure { code: 1, sentence: format!("{why}; nothing was copied{hint}") };
    let url = reqwest::Url::parse(url.as_str()).map_err(|error| failed(error.to_string()))?;
    let (url, password) = for_libpq(url);
    let mut command = Command::new(PG_DUMP);
    command.arg("--format=custom").arg("--no-password").arg("--file").arg(to);
    command.args(moment.map(|moment| format!("--snapshot={moment}")));
    command.arg(format!("--dbname={url}")).stdin(Stdio::null());
    if let Some(password) = password {
        command.env("PGPASSWORD", password);
    }
    // Beside it the store is told that the copy goes on.
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.map_err(|error| failed(error.to_string()))?;
    let output = output
        .map_err(|error| failed(format!("{PG_DUMP}, which copies PostgreSQL, cannot be run: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(format!("{PG_DUMP}: {}", said.trim())));
    }
    private(to).and_then(|()| File::open(to)?.sync_all()).map_err(on(to))
}

/// An address as PostgreSQL's own programs take it (PostgreSQL 15, 34.1.1.2 and 34.1.2), and its password. Of two passwords the program itself
/// takes that among the parameters; and it takes other parameters, and other names of them.
fn for_libpq(mut url: reqwest::Url) -> (String, Option<OsString>) {
    let mut password = url.password().map(percent_decoded);
    // Fails only for an address that cannot have one.
    let _ = url.set_password(None);
    let mut kept = Vec::new();
    for (name, value) in url.query_pairs() {
        let name = match &*name {
            "password" => {
                password = Some(value.into_owned().into());
                continue;
            }
            "ssl-mode" => "sslmode",
            "ssl-root-cert" | "ssl-ca" => "sslrootcert",
            "ssl-cert" => "sslcert",
            "ssl-key" => "sslkey",
            same @ ("sslmode" | "sslrootcert" | "sslcert" | "sslkey" | "host" | "hostaddr" | "port"
            | "dbname" | "user" | "application_name" | "options") => same,
            _ => continue,
        };
        kept.push((name.to_owned(), value.into_owned()));
    }
    url.set_query(None);
    if !kept.is_empty() {
        url.query_pairs_mut().extend_pairs(kept);
    }
    // To libpq a plus is a plus.
    let query = url.query().map(|query| query.replace('+', "%20"));
    url.set_query(query.as_deref());
    (url.into(), password)
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

/// What SQLite keeps beside its file. Left by a crash, it would be taken into whatever file has that name next.
const BESIDE: [&str; 4] = ["", "-wal", "-shm", "-journal"];

/// Puts a copy back where no directory is, if it is a whole one.
pub(crate) fn restore(settings: &Settings, plan: &RestorePlan, is_json: bool) -> Result<(), Failure> {
    let from = &plan.from;
    let DatabasePlace::Sqlite(database) = settings.database() else {
        return Err(StoreError::OtherTools.into());
    };
    let (data, blobs) = (settings.data_dir(), settings.blobs());
    for name in KEYS.into_iter().chain([DATABASE]) {
        if !from.join(name).is_file() {
            return Err(wrong(format!("{} is no copy of a directory: {name} is missing", from.display())));
        }
    }
    if let Some(there) = BESIDE.iter().map(|end| with_end(&database, end)).find(|path| path.exists()) {
        let sentence = "there is a directory at {} already, or what is left of one; move it away first, and all that has its name with -wal, -shm or -journal after it";
        return Err(wrong(sentence.replace("{}", &there.display().to_string())));
    }
    is_own(&data)?;
    is_own(&parent(&database))?;
    if let BlobPlace::Folder(blobs) = &blobs {
        is_own(blobs)?;
    }
    folder(&data)?;
    let trial = Trial::new(&data)?;
    let (accounts, damaged) = block_on(trial.check(from))?;
    if !damaged.is_empty() && !plan.accept_damaged {
        let sentence = format!(
            "the backups of these accounts are damaged: {}; nothing was put back. Take another copy, or --accept-damaged",
            damaged.join(", ")
        );
        return Err(Failure { code: 1, sentence });
    }
    restore_keys(&data, from)?;
    block_on(trial.put_back(from, &database, blobs))?;
    drop(trial);
    let text = format!("{accounts} accounts are back; their users have to log in again");
    say(is_json, &text, &json!({ "accounts": accounts, "damaged": damaged }))?;
    if damaged.is_empty() {
        return Ok(());
    }
    let sentence = format!("the backups of these accounts are damaged: {}", damaged.join(", "));
    Err(Failure { code: 1, sentence })
}

fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A directory does not start with files of another user, who in a restore is mostly root.
fn is_own(path: &Path) -> Result<(), Failure> {
    let ours = own_user();
    match std::fs::metadata(path) {
        Ok(there) if there.uid() != ours => Err(wrong(format!(
            "{} is of user {}, who runs the directory: restore as that user, not as user {ours}",
            path.display(),
            there.uid()
        ))),
        // It is made.
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(on(path)(error)),
        Ok(_) | Err(_) => Ok(()),
    }
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
        for end in ["", "-wal"] {
            let (source, target) = (with_end(&from.join(DATABASE), end), with_end(&database, end));
            // Changes that SQLite has not yet taken from its log into the file are seldom there.
            if source.exists() {
                copy_file(&source, &target).map_err(on(&source))?;
            }
        }
        let blobs = self.blobs(from);
        let refused = |error: &dyn std::error::Error| Failure {
            code: 1,
            sentence: format!("{} is not a good copy: {error}; nothing was put back", from.display()),
        };
        let opaque = Opaque::load_or_make(&self.0).map_err(|error| refused(&error))?;
        let seed = key::load_or_make(&self.0, Secret::Signing).map_err(|error| refused(&error))?;
        let signing = DirectoryKey::from_seed(seed).public();
        let checked = async {
            let store = Store::open(&DatabasePlace::Sqlite(database), &blobs).await?;
            store.check_file().await?;
            store.belongs_to(Fact::OpaqueKey, opaque.fingerprint()).await?;
            store.belongs_to(Fact::SigningKey, signing.as_bytes()).await?;
            let found = look_through(&store).await;
            store.close().await;
            found
        };
        checked.await.map_err(|error: StoreError| refused(&error))
    }

    /// Users' backups of a copy.
    fn blobs(&self, from: &Path) -> BlobPlace {
        let own = from.join(BLOBS);
        // Without accounts there are none.
        BlobPlace::Folder(if own.is_dir() { own } else { self.0.join(BLOBS) })
    }

    /// Puts users' backups into their place, and then the database, which was looked through. In it all sessions have ended already,
    /// since some of them were ended after the copy was made: a kill leaves no directory, or one that is as it must be.
    async fn put_back(&self, from: &Path, database: &Path, blobs: BlobPlace) -> Result<(), Failure> {
        let draft = with_end(database, ".part");
        folder(&parent(database))?;
        match std::fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(on(&draft)(error)),
            Ok(()) | Err(_) => {}
        }
        let store = Store::open(&DatabasePlace::Sqlite(self.0.join(DATABASE)), &blobs).await?;
        let (copied, done) = (self.blobs(from), deed("restore", &from.display().to_string(), ""));
        let made = async {
            store.take_backups(&copied).await?;
            store.end_all_sessions(done).await?;
            store.copy_database(&draft).await
        };
        let made = made.await;
        store.close().await;
        made?;
        std::fs::rename(&draft, database).map_err(on(database))?;
        sync(&parent(database))?;
        Ok(Store::check_database(database).await?)
    }
}

/// The keys come first and the database last: until it is there the rest is none of any directory's, and the same can be done again.
fn restore_keys(data: &Path, from: &Path) -> Result<(), Failure> {
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
    sync(data)
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
    let draft = with_end(to, ".part");
    copy_file(from, &draft).and_then(|()| std::fs::rename(&draft, to)).map_err(on(to))
}

/// A name with something after it.
fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_in_no_argument_and_what_only_the_program_knows_is_left_out() {
        let given = |text: &str| for_libpq(reqwest::Url::parse(text).expect("an address"));
        let secret = |text: &str| Some(OsString::from(text));
        assert_eq!(given("postgres://u@h/d"), ("postgres://u@h/d".to_owned(), None));
        assert_eq!(given("postgres://u:a%40b@h/d"), ("postgres://u@h/d".to_owned(), secret("a@b")));
        let all = "postgres://u:first@h/d?password=s%2Fecret&ssl-mode=require&statement-cache-capacity=5&application_name=a%20b";
        let expected = "postgres://u@h/d?sslmode=require&application_name=a%20b";
        assert_eq!(given(all), (expected.to_owned(), secret("s/ecret")));
    }
}
