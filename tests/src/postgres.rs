//! A PostgreSQL server of one's own, from Debian's package: in a temporary folder, without a port.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use crate::program::ProgramError;

/// Where Debian puts the programs, by version.
const DEBIAN: &str = "/usr/lib/postgresql";
/// The user of Debian's package. The server does not run as root.
const USER: &str = "postgres";

/// A running server. It ends with whoever has started it.
#[derive(Debug)]
pub struct Postgres {
    server: Child,
    programs: PathBuf,
    folder: TempDir,
    databases: AtomicU32,
}

impl Postgres {
    /// Starts a server, and returns when it answers.
    ///
    /// # Errors
    /// When none is installed, or it does not start.
    pub fn start() -> Result<Self, ProgramError> {
        let programs =
            programs().ok_or_else(|| failed("no server is installed: `cargo xtask setup` does so"))?;
        let folder = tempfile::Builder::new().prefix("offhook-pg-").tempdir_in("/tmp")?;
        if is_root() {
            chown(folder.path(), Some(id("-u")?), Some(id("-g")?))?;
        }
        let data = folder.path().join("data");
        let mut make = as_user(&programs.join("initdb"));
        make.args(["--auth=trust", "--username=offhook", "--no-sync", "--encoding=UTF8", "--locale=C", "-D"]);
        succeeded(make.arg(&data).output()?)?;
        let mut server = as_user(&programs.join("postgres"))
            // No crash of the machine is tested.
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=200", "-D"])
            .arg(&data)
            .arg("-k")
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let log = server.stderr.take().ok_or_else(|| failed("it has no log"))?;
        let started = Self { server, programs, folder, databases: AtomicU32::new(0) };
        let mut log = BufReader::new(log).lines();
        let mut said = Vec::new();
        while !said.last().is_some_and(|line: &String| line.contains("ready to accept connections")) {
            let line = log.next().ok_or_else(|| failed(&format!("it has ended: {said:#?}")))?;
            said.push(line?);
        }
        // A log that nobody reads would stop it.
        std::thread::spawn(move || log.for_each(drop));
        Ok(started)
    }

    /// The URL of a new, empty database.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn database(&self) -> Result<String, ProgramError> {
        let name = format!("offhook{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let mut make = Command::new(self.programs.join("createdb"));
        make.arg("--username=offhook").arg("--host").arg(self.folder.path()).arg(&name);
        succeeded(make.output()?)?;
        Ok(format!("postgres://offhook@localhost/{name}?host={}", self.folder.path().display()))
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
    rustix::process::geteuid().is_root()
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

fn id(which: &str) -> Result<u32, ProgramError> {
    let output = Command::new("id").args([which, USER]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    text.parse().map_err(|_| failed("Debian's package makes a user, which is not there"))
}

fn succeeded(output: Output) -> Result<(), ProgramError> {
    if output.status.success() { Ok(()) } else { Err(failed(&String::from_utf8_lossy(&output.stderr))) }
}

fn failed(message: &str) -> ProgramError {
    ProgramError::Failed { program: "PostgreSQL".to_owned(), message: message.to_owned() }
}
