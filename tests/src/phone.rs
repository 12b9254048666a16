//! Directories, accounts and terminals: the built programs with their flags.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::lab::Host;
use crate::program::{Event, Process, ProgramError, binary, run};
use crate::speech;

/// How long a program may take to be ready, on a busy machine.
pub const READY: Duration = Duration::from_secs(60);
/// The port of directories in the lab.
pub const PORT: u16 = 4001;
/// The password of every account here.
pub const PASSWORD: &str = "correct horse battery staple";

/// A running directory node.
#[derive(Debug)]
pub struct Directory {
    /// The program.
    pub process: Process,
    /// Its multiaddrs, each ending in `/p2p/` and its peer id.
    pub addresses: Vec<String>,
    /// `IP:PORT` of its HTTP server.
    http: String,
    /// `IP:PORT` of its site, if it has one.
    site: Option<String>,
    plan: DirectoryPlan,
    data: TempDir,
}

/// How a directory is started.
#[derive(Clone, Debug, Default)]
pub struct DirectoryPlan {
    /// Port, UDP and TCP; `None` is 4001 in the lab, where it is the least, and any free one on loopback.
    pub port: Option<u16>,
    /// Other directories and nodes to enter the network through.
    pub entry: Vec<String>,
    /// Whether it keeps accounts when it is on loopback; on a host it always does.
    pub site: bool,
    /// Port of its site on loopback, so that it is there again after a restart; `None` is any free one.
    pub site_port: Option<u16>,
    /// The data folder of another process of the same directory, whose secrets it has.
    pub like: Option<PathBuf>,
    /// Further arguments.
    pub extra: Vec<String>,
}

impl Directory {
    /// Starts a directory on a host, or on loopback.
    ///
    /// # Errors
    /// When it can't be started or does not print its address.
    pub fn start(host: Option<&Host>, plan: DirectoryPlan) -> Result<Self, ProgramError> {
        let data = tempfile::tempdir()?;
        for secret in ["opaque.key", "signing.key"] {
            if let Some(other) = &plan.like {
                std::fs::copy(other.join(secret), data.path().join(secret))?;
            }
        }
        let process = Self::launch(host, &plan, data.path())?;
        let mut directory =
            Self { process, addresses: Vec::new(), http: String::new(), site: None, plan, data };
        directory.learn_addresses(host)?;
        Ok(directory)
    }

    /// Starts it again after it was killed, with the same key, data and port.
    ///
    /// # Errors
    /// As [`Directory::start`].
    pub fn restart(&mut self, host: Option<&Host>) -> Result<(), ProgramError> {
        self.process.kill();
        self.process = Self::launch(host, &self.plan, self.data.path())?;
        self.learn_addresses(host)
    }

    /// Its first address.
    pub fn address(&self) -> String {
        self.addresses.first().cloned().unwrap_or_default()
    }

    /// Waits until nobody has an address at its relay any more.
    ///
    /// # Errors
    /// When that is not so within `time`, or it serves no `/metrics`.
    pub fn wait_relay_left(&self, host: &Host, time: Duration) -> Result<(), ProgramError> {
        let deadline = Instant::now() + time;
        loop {
            if self.metric(host, "offhook_relay_allocations")? == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(ProgramError::Failed {
                    program: self.process.name().to_owned(),
                    message: "its relay is still in use".to_owned(),
                });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A figure of its metrics: the sum over all labels.
    ///
    /// # Errors
    /// When it serves no `/metrics`, or not this one.
    pub fn metric(&self, host: &Host, name: &str) -> Result<u64, ProgramError> {
        let metrics = host.run(|| http_get(&self.http, "/metrics"))??;
        let values: Vec<u64> = metrics
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
            .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
            .collect();
        if values.is_empty() {
            let message = format!("tells of no {name}: {metrics}");
            return Err(ProgramError::Failed { program: self.process.name().to_owned(), message });
        }
        Ok(values.iter().sum())
    }

    /// Its metrics on loopback, in Prometheus's text form.
    ///
    /// # Errors
    /// When it serves no `/metrics`.
    pub fn metrics(&self) -> Result<String, ProgramError> {
        Ok(http_get(&self.http, "/metrics")?)
    }

    /// What it says of its health, on the host on which it runs.
    ///
    /// # Errors
    /// When it serves no `/health`, or something else than JSON.
    pub fn health(&self, host: Option<&Host>) -> Result<serde_json::Value, ProgramError> {
        let get = || http_get(&self.http, "/health");
        let body = match host {
            Some(host) => host.run(get)??,
            None => get()?,
        };
        serde_json::from_str(&body).map_err(|error| ProgramError::Failed {
            program: self.process.name().to_owned(),
            message: format!("{error}: {body}"),
        })
    }

    /// Its front, for those that only web traffic gets through to: over TCP and as a WebSocket, at each of its addresses.
    pub fn front(&self) -> Vec<String> {
        let of = |address: &String| {
            let (host, peer) = (address.split("/tcp/").next()?, address.split("/p2p/").nth(1)?);
            let ways = [format!("{host}/tcp/443/p2p/{peer}"), format!("{host}/tcp/443/tls/ws/p2p/{peer}")];
            address.contains("/tcp/").then_some(ways)
        };
        self.addresses.iter().filter_map(of).flatten().collect()
    }

    /// `IP:PORT` of its site, where it serves one.
    pub fn site(&self) -> Option<&str> {
        self.site.as_deref()
    }

    /// Where it keeps its key and records.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    fn launch(host: Option<&Host>, plan: &DirectoryPlan, data: &Path) -> Result<Process, ProgramError> {
        let mut command = Command::new(binary("offhook-directory")?);
        let port = plan.port.unwrap_or(if host.is_some() { PORT } else { 0 });
        let multiaddrs = Self::multiaddrs(host, port);
        command.arg("run").arg("--data").arg(data);
        for multiaddr in &multiaddrs {
            command.args(["--listen", multiaddr]);
            if port != 0 {
                command.args(["--external", multiaddr]);
            }
        }
        for entry in &plan.entry {
            command.args(["--entry", entry]);
        }
        match host {
            // Several on one host: a port each, from STUN's own (RFC 8489) up.
            Some(host) => {
                let both = host.addresses().all().count() > 1;
                let ip = if both { Ipv6Addr::UNSPECIFIED.into() } else { host.address() };
                command.args(["--stun", &SocketAddr::new(ip, port - PORT + 3478).to_string()])
            }
            None => {
                let site = format!("127.0.0.1:{}", plan.site_port.unwrap_or(0));
                let site = if plan.site { &site } else { "none" };
                command.args(["--stun", "127.0.0.1:0", "--front", "none", "--site", site, "--allow-private"])
            }
        };
        command.args(["--http", "127.0.0.1:0"]).args(&plan.extra);
        Process::start(&format!("directory{}", name_of(host)), command, host)
    }

    /// Where it listens: QUIC and TCP at each address of its host.
    fn multiaddrs(host: Option<&Host>, port: u16) -> Vec<String> {
        let ips = match host {
            Some(host) => host.addresses().all().collect(),
            None => vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        };
        let of = |ip: IpAddr| {
            let ip = if ip.is_ipv4() { format!("/ip4/{ip}") } else { format!("/ip6/{ip}") };
            [format!("{ip}/udp/{port}/quic-v1"), format!("{ip}/tcp/{port}")]
        };
        ips.into_iter().flat_map(of).collect()
    }

    /// It prints one line a multiaddr, in any order.
    fn learn_addresses(&mut self, host: Option<&Host>) -> Result<(), ProgramError> {
        let http = self.process.wait_for("its HTTP address", READY, |event| http_in(event).is_some())?;
        self.http = http_in(&http).unwrap_or_default();
        if host.is_none() && self.plan.site {
            let is_site = |event: &Event| event.value.as_str().is_some_and(|line| line.starts_with("site "));
            self.site = http_in(&self.process.wait_for("its site", READY, is_site)?);
        }
        let lines = Self::multiaddrs(host, 0)
            .iter()
            .map(|_| self.process.wait_for("its addresses", READY, |event| address_in(event).is_some()))
            .collect::<Result<Vec<_>, _>>()?;
        self.addresses = lines.iter().filter_map(address_in).collect();
        // QUIC first; of one transport IPv4 first.
        self.addresses.sort_by_key(|address| (!address.contains("/quic-v1"), !address.starts_with("/ip4/")));
        Ok(())
    }
}

/// `IP:PORT` of the first `http://` in a line of output.
fn http_in(event: &Event) -> Option<String> {
    let line = event.value.as_str()?;
    let rest = line.split_once("http://")?.1;
    Some(rest.split('/').next().unwrap_or(rest).trim().to_owned())
}

/// The body of an answer over HTTP.
fn http_get(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned()))
}

/// The first multiaddr with a peer id in a line of output, as text or within JSON.
fn address_in(event: &Event) -> Option<String> {
    let line = event.value.to_string();
    let mut words = line.split(|c: char| c.is_whitespace() || "\"',[]{}".contains(c));
    // Those of its front are the same on every host.
    let own = |word: &&str| word.starts_with('/') && word.contains("/p2p/") && !word.contains("/tcp/443/");
    words.find(own).map(str::to_owned)
}

fn name_of(host: Option<&Host>) -> String {
    host.map_or_else(String::new, |host| format!(" on {}", host.name()))
}

/// An account on disk: a home folder of the terminal with one account in it.
#[derive(Debug)]
pub struct Account {
    home: Arc<TempDir>,
    /// Its ID.
    pub id: String,
    /// Its number, as printed.
    pub number: String,
}

impl Account {
    /// Makes an account in a fresh home folder.
    ///
    /// # Errors
    /// When the program fails.
    pub fn create(id: &str) -> Result<Self, ProgramError> {
        Self::create_in(tempfile::tempdir()?.into(), id)
    }

    /// Makes another account in the home folder of this one.
    ///
    /// # Errors
    /// When the program fails.
    pub fn beside(&self, id: &str) -> Result<Self, ProgramError> {
        Self::create_in(Arc::clone(&self.home), id)
    }

    /// Signs an account up at a directory, `ID@http://IP:PORT`, from a fresh home folder.
    ///
    /// # Errors
    /// When the program fails.
    pub fn sign_up(id: &str, site: &str) -> Result<Self, ProgramError> {
        let address = format!("{id}@http://{site}");
        Self::made_by(tempfile::tempdir()?.into(), id, &["account", "signup", &address])
    }

    /// Logs in at a directory from a fresh home folder: another terminal of the account.
    ///
    /// # Errors
    /// When the program fails.
    pub fn log_in(id: &str, site: &str) -> Result<Self, ProgramError> {
        let address = format!("{id}@http://{site}");
        Self::made_by(tempfile::tempdir()?.into(), id, &["account", "login", &address])
    }

    fn create_in(home: Arc<TempDir>, id: &str) -> Result<Self, ProgramError> {
        Self::made_by(home, id, &["account", "new", id])
    }

    fn made_by(home: Arc<TempDir>, id: &str, command: &[&str]) -> Result<Self, ProgramError> {
        let arguments = [command, &["--password-stdin", "--json"]].concat();
        let output = offhook(home.path(), None, &arguments, &format!("{PASSWORD}\n"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let number = text
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .find_map(|value| Some(value.get("number")?.as_str()?.to_owned()));
        match number {
            Some(number) if output.status.success() => Ok(Self { home, id: id.to_owned(), number }),
            Some(_) | None => Err(ProgramError::Failed {
                program: format!("offhook {}", command.join(" ")),
                message: format!("{text}{}", String::from_utf8_lossy(&output.stderr)),
            }),
        }
    }

    /// Several accounts at a time: their numbers cost a second of computing each.
    ///
    /// # Errors
    /// The first failure.
    pub fn create_all<const N: usize>(ids: [&str; N]) -> Result<[Self; N], ProgramError> {
        let results = std::thread::scope(|scope| {
            ids.map(|id| scope.spawn(|| Self::create(id))).map(|thread| thread.join())
        });
        let accounts: Vec<Self> = results
            .into_iter()
            .map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect::<Result<_, _>>()?;
        accounts.try_into().map_err(|_| ProgramError::Failed {
            program: "offhook account new".to_owned(),
            message: "made another number of accounts than asked".to_owned(),
        })
    }

    /// The same account, as it was made, in another home folder: a terminal that remembers nothing.
    ///
    /// # Errors
    /// When the files can't be copied.
    pub fn fresh_copy(&self) -> Result<Self, ProgramError> {
        let home = tempfile::tempdir()?;
        copy_folder(self.home.path(), home.path())?;
        Ok(Self { home: home.into(), id: self.id.clone(), number: self.number.clone() })
    }

    /// The home folder.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Runs `offhook` with this home to its end.
    ///
    /// # Errors
    /// When it can't be started; its exit code is the caller's to judge.
    pub fn offhook(&self, host: Option<&Host>, arguments: &[&str]) -> Result<Output, ProgramError> {
        offhook(self.home(), host, arguments, "")
    }
}

/// Runs `offhook` to its end with this home folder and standard input.
///
/// # Errors
/// When it can't be started; its exit code is the caller's to judge.
pub fn offhook(
    home: &Path,
    host: Option<&Host>,
    arguments: &[&str],
    stdin: &str,
) -> Result<Output, ProgramError> {
    let mut command = Command::new(binary("offhook")?);
    command.arg("--home").arg(home).args(arguments);
    run(command, host, stdin)
}

/// Copies what is in a folder into another one.
///
/// # Errors
/// When a file can't be read or written.
pub fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            std::fs::create_dir_all(&target)?;
            copy_folder(&entry.path(), &target)?;
        } else if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// How a terminal is started.
#[derive(Clone, Debug, Default)]
pub struct TerminalPlan {
    /// Entry points into the network.
    pub entry: Vec<String>,
    /// WAV file to speak; `None` is silence.
    pub mic: Option<PathBuf>,
    /// WAV file to write what is heard to; `None` throws it away.
    pub speaker: Option<PathBuf>,
    /// Answers at once.
    pub auto_answer: bool,
    /// Looks for others on its LAN.
    pub mdns: bool,
    /// Further arguments.
    pub extra: Vec<String>,
}

impl TerminalPlan {
    /// A terminal with one entry point that speaks a file and records what it hears.
    pub fn speaking(entry: &[String], mic: &Path, speaker: &Path) -> Self {
        Self {
            entry: entry.to_vec(),
            mic: Some(mic.to_owned()),
            speaker: Some(speaker.to_owned()),
            ..Self::default()
        }
    }
}

/// A directory, and two people on line who say different things; what they hear is written into `folder`.
///
/// # Errors
/// When a program can't be started or somebody does not come on line.
pub fn two_speakers(
    directory: &Host,
    ends: [&Host; 2],
    folder: &Path,
) -> Result<(Directory, Terminal, Terminal), ProgramError> {
    let directory = Directory::start(Some(directory), DirectoryPlan::default())?;
    let [ada, bob] = Account::create_all(["ada", "bob"])?;
    let online = |account, host, mic: PathBuf, file| {
        let plan = TerminalPlan::speaking(&directory.addresses, &mic, &folder.join(file));
        Terminal::online(account, Some(host), plan)
    };
    let ada = online(ada, ends[0], speech::a(), "ada.wav")?;
    let bob = online(bob, ends[1], speech::b(), "bob.wav")?;
    Ok((directory, ada, bob))
}

/// A terminal that runs: `offhook run --json`.
#[derive(Debug)]
pub struct Terminal {
    /// The program.
    pub process: Process,
    /// Its account.
    pub account: Account,
    /// How it was started.
    pub plan: TerminalPlan,
}

impl Terminal {
    /// Starts a terminal; it may not be on line yet.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(account: Account, host: Option<&Host>, plan: TerminalPlan) -> Result<Self, ProgramError> {
        let process = Self::launch(&account, host, &plan)?;
        Ok(Self { process, account, plan })
    }

    /// Starts a terminal and waits until it can be called.
    ///
    /// # Errors
    /// When it can't be started or does not come on line.
    pub fn online(account: Account, host: Option<&Host>, plan: TerminalPlan) -> Result<Self, ProgramError> {
        let terminal = Self::start(account, host, plan)?;
        terminal.process.wait("online", READY)?;
        Ok(terminal)
    }

    /// Starts it again with the same home folder.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn restart(&mut self, host: Option<&Host>) -> Result<(), ProgramError> {
        self.process.kill();
        self.process = Self::launch(&self.account, host, &self.plan)?;
        Ok(())
    }

    /// Its number.
    pub fn number(&self) -> &str {
        &self.account.number
    }

    /// What it answers to `status`.
    ///
    /// # Errors
    /// When it does not.
    pub fn status(&mut self) -> Result<Event, ProgramError> {
        self.process.send("status")?;
        self.process.wait_for("its status", READY, |event| event.text("reply") == "status")
    }

    /// Waits until it is connected with its directories and nobody else: connections that publishing has made have ended.
    ///
    /// # Errors
    /// [`ProgramError::Failed`] when they do not end.
    pub fn until_alone(&mut self) -> Result<(), ProgramError> {
        self.until("is still connected with others", |status| {
            let (peers, directories) = (status.number("peers"), status.number("directories"));
            directories > 0 && peers <= directories
        })
    }

    /// Waits until it is registered with so many directories.
    ///
    /// # Errors
    /// [`ProgramError::Failed`] when it does not come to that.
    pub fn until_registered(&mut self, directories: u64) -> Result<(), ProgramError> {
        self.until("is not registered", |status| status.number("directories") == directories)
    }

    fn until(&mut self, or: &str, holds: impl Fn(&Event) -> bool) -> Result<(), ProgramError> {
        let end = Instant::now() + READY;
        loop {
            let status = self.status()?;
            if holds(&status) {
                return Ok(());
            }
            if Instant::now() > end {
                let program = self.process.name().to_owned();
                let message = format!("{or}: {}", status.value);
                return Err(ProgramError::Failed { program, message });
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn launch(account: &Account, host: Option<&Host>, plan: &TerminalPlan) -> Result<Process, ProgramError> {
        let mut command = Command::new(binary("offhook")?);
        command.arg("--home").arg(account.home()).args(["--json", "run"]);
        for entry in &plan.entry {
            command.args(["--entry", entry]);
        }
        let device = |file: &Option<PathBuf>| match file {
            Some(file) => format!("file:{}", file.display()),
            None => "none".to_owned(),
        };
        command.args(["--mic", &device(&plan.mic), "--speaker", &device(&plan.speaker)]);
        command.args(["--answer", if plan.auto_answer { "auto" } else { "manual" }]);
        if !plan.mdns {
            command.arg("--no-mdns");
        }
        if host.is_none() {
            command.arg("--allow-private");
        }
        command.args(&plan.extra);
        Process::start(&format!("terminal {}{}", account.id, name_of(host)), command, host)
    }
}
