//! A PostgreSQL server of a test's own, from Debian's package: in a temporary folder, without a port.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use tempfile::TempDir;

/// Where Debian puts the programs, by version.
const DEBIAN: &str = "/usr/lib/postgresql";
/// The user of Debian's package. The server does not run as root.
const USER: &str = "postgres";

/// A running server. It ends with whoever has started it.
pub struct Postgres {
    server: Child,
    folder: TempDir,
    databases: AtomicU32,
}

impl Postgres {
    /// Starts a server, and returns when it answers.
    pub fn start() -> Self {
        let programs = programs().expect(
            "no PostgreSQL server is installed, which this test needs: `cargo xtask setup` installs it",
        );
        let folder = tempfile::Builder::new().prefix("offhook-pg-").tempdir_in("/tmp").unwrap();
        if is_root() {
            chown(folder.path(), Some(id("-u")), Some(id("-g"))).unwrap();
        }
        let data = folder.path().join("data");
        let made = as_user(&programs.join("initdb"))
            .args(["--auth=trust", "--username=offhook", "--no-sync", "--encoding=UTF8", "--locale=C", "-D"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let mut server = as_user(&programs.join("postgres"))
            // No crash of the machine is tested.
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=200", "-D"])
            .arg(&data)
            .arg("-k")
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(server.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        while !said.last().is_some_and(|line: &String| line.contains("ready to accept connections")) {
            let line = log.next().unwrap_or_else(|| panic!("PostgreSQL has ended: {said:#?}"));
            said.push(line.unwrap());
        }
        // A log that nobody reads would stop it.
        std::thread::spawn(move || log.for_each(drop));
        Self { server, folder, databases: AtomicU32::new(0) }
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://offhook@localhost/{database}?host={}", self.folder.path().display())
    }

    /// The URL of a new, empty database.
    pub async fn database(&self) -> String {
        let name = format!("offhook{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let mut connection = PgConnection::connect(&self.url("postgres")).await.unwrap();
        connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
        self.url(&name)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // At once, with all that it has started.
        let _ = Command::new("kill").args(["-QUIT", &self.server.id().to_string()]).status();
        let _ = self.server.wait();
    }
}

/// The folder of the latest version's programs.
fn programs() -> Option<PathBuf> {
    let version = |folder: &PathBuf| folder.file_name()?.to_str()?.parse::<u32>().ok();
    let versions = std::fs::read_dir(DEBIAN).into_iter().flatten().flatten().map(|entry| entry.path());
    let installed = versions.filter(|folder| folder.join("bin/postgres").is_file());
    let debian = installed.max_by_key(version).map(|folder| folder.join("bin"));
    debian.or_else(|| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).find(|folder| folder.join("postgres").is_file())
    })
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// A program, as a user that the server runs as, and no longer than this thread.
fn as_user(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "QUIT"]);
    if is_root() {
        command.args(["--reuid", USER, "--regid", USER, "--init-groups"]);
    }
    command.arg(program).current_dir("/");
    command
}

fn id(which: &str) -> u32 {
    let output = Command::new("id").args([which, USER]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().expect("Debian's package makes its user")
}
