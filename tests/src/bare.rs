//! Hosts on which nothing of ours is installed yet: a root of their own, over that of this machine, of which nothing changes; processes,
//! a network, and a name of their own. Packages are really installed there, and commands are typed as an operator types them.
//!
//! What stands in for what a test cannot have is in `tests/data/bare`: `systemctl` and `journalctl`, since no systemd runs there,
//! and `certbot`, since there is no Let's Encrypt.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::program::{Process, ProgramError};

/// The stand-ins and the first process of a host.
const STAND_INS: [&str; 4] = ["systemctl", "journalctl", "certbot", "init.sh"];
/// How long a host may take to be there.
const READY: Duration = Duration::from_secs(20);
/// How long what is typed may take.
const TYPED: Duration = Duration::from_secs(120);

/// What hosts have in common: files that are handed in, a certificate authority that all of them trust, and a place for copies.
#[derive(Debug)]
pub struct Depot {
    input: TempDir,
    copies: TempDir,
}

/// A host, with a shell in which an operator is logged in as root. It ends when it is dropped, and leaves nothing.
#[derive(Debug)]
pub struct BareHost {
    shell: Process,
    blocks: u32,
    input: std::path::PathBuf,
    // After the shell, which is in it.
    _init: Process,
    _work: TempDir,
}

/// Whether hosts can be made here: as root of a user namespace one has no other users, of whom a package needs one.
#[must_use]
pub fn is_possible() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let count = |line: &str| line.split_whitespace().nth(2)?.parse::<u64>().ok();
    rustix::process::geteuid().is_root() && map.lines().filter_map(count).any(|users| users > 1_000)
}

impl Depot {
    /// Makes the authority.
    ///
    /// # Errors
    /// When `openssl` is missing, or a file cannot be written.
    pub fn new() -> Result<Self, ProgramError> {
        let depot = Self { input: tempfile::tempdir()?, copies: tempfile::tempdir()? };
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/bare");
        for name in STAND_INS {
            std::fs::copy(data.join(name), depot.input.path().join(name))?;
        }
        let mut make = Command::new("openssl");
        make.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "30",
        ]);
        make.args(["-subj", "/CN=Stand-in authority", "-keyout", "ca.key", "-out", "ca.crt"]);
        let output = make.current_dir(depot.input.path()).output()?;
        if output.status.success() {
            Ok(depot)
        } else {
            Err(failed(&String::from_utf8_lossy(&output.stderr)))
        }
    }

    /// The folder that every host sees as `/mnt`.
    #[must_use]
    pub fn input(&self) -> &Path {
        self.input.path()
    }

    /// A host that others reach by this name, at this address.
    ///
    /// # Errors
    /// When namespaces cannot be made.
    pub fn host(&self, name: &str, address: &str) -> Result<BareHost, ProgramError> {
        let work = tempfile::tempdir()?;
        let mut init = Command::new("unshare");
        init.args(["--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child=KILL", "sh"]);
        init.arg(self.input.path().join("init.sh")).arg(work.path());
        init.arg(self.input.path()).arg(self.copies.path()).args([name, address]);
        let init = Process::start("bare host", init, None)?;
        init.wait("ready", READY)?;
        let first = first_child(init.pid())?;
        let mut enter = Command::new("nsenter");
        enter.args(["--mount", "--net", "--pid", "--uts", "--ipc", "--root", "--wd", "--target", &first]);
        // As after a log-in: nothing of the test's environment comes in.
        enter.args(["env", "-i", "HOME=/root", "USER=root", "LANG=C.UTF-8", "TERM=dumb"]);
        enter.arg("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        enter.args(["DEBIAN_FRONTEND=noninteractive", "bash", "-e", "-u", "-o", "pipefail"]);
        let shell = Process::start("operator", enter, None)?;
        let mut host =
            BareHost { shell, blocks: 0, input: self.input.path().to_owned(), _init: init, _work: work };
        host.type_in("cd /root")?;
        Ok(host)
    }
}

/// The process that `unshare` has started: the host's first.
fn first_child(pid: u32) -> Result<String, ProgramError> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let first = children.split_whitespace().next().map(str::to_owned);
    first.ok_or_else(|| failed("it has no first process"))
}

fn failed(message: &str) -> ProgramError {
    ProgramError::Failed { program: "bare host".to_owned(), message: message.to_owned() }
}

impl BareHost {
    /// Types commands into the operator's shell, and waits until they are done; what they print on standard output. What they
    /// define is there for the next ones.
    ///
    /// # Errors
    /// When one of them fails, with what was printed last.
    pub fn type_in(&mut self, commands: &str) -> Result<String, ProgramError> {
        self.blocks += 1;
        let number = format!("{}-{}", self.shell.pid(), self.blocks);
        let (block, done) = (format!("typed-{number}"), format!("done with {number}"));
        let output = format!("{block}.out");
        std::fs::write(self.input.join(&block), commands)?;
        self.shell.send(&format!(". /mnt/{block} </dev/null >/mnt/{output}"))?;
        self.shell.send(&format!("echo '{done}'"))?;
        let said = |error| {
            let printed = std::fs::read_to_string(self.input.join(&output)).unwrap_or_default();
            ProgramError::Failed {
                program: "operator".to_owned(),
                message: format!("{commands}\n{printed}\n{error}"),
            }
        };
        self.shell.wait_for(&done, TYPED, |event| event.value == done.as_str()).map_err(said)?;
        Ok(std::fs::read_to_string(self.input.join(&output))?)
    }
}
