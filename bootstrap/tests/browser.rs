//! The site in a browser: the program as it is shipped, the pages that are built into it, and Chromium. While the page waits, the same
//! account is used by a program in Rust: what the two make of password, backup and records has to be the same.
//!
//! `site/dev/look.ts` is what looks at the pages; its pictures are in the target directory.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "the API's own tests use the rest")]
#[path = "web/client.rs"]
mod client;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use client::{Client, backup_key, bytes};
use offhook::clock::wall_clock;
use offhook::net::{LookupEvent, Net, NetConfig, Role};
use offhook_proto::backup::{Backup, RecoveryWords, SealedBackup};
use offhook_proto::identity::{IdentityId, SealKey, SignedCert, TerminalKey};
use offhook_proto::number::{NodeAddr, Number, RecordKey};
use offhook_proto::record::{CheckedSet, RecordSet, TerminalRecord};
use serde_json::Value;

/// For one step of the network.
const PATIENCE: Duration = Duration::from_secs(30);

/// A program and what it prints. It ends with the test.
struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child =
            command.stdout(Stdio::piped()).spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next line that starts so, all of it; none if the program has ended.
    fn line(&mut self, start: &str) -> Option<String> {
        self.lines.by_ref().map(Result::unwrap).find(|line| line.starts_with(start))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn site() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("site")
}

/// A directory with a front, and a file to download.
struct Directory {
    _process: Running,
    _folder: tempfile::TempDir,
    addr: NodeAddr,
    front: String,
    site: String,
}

impl Directory {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let downloads = folder.path().join("downloads");
        std::fs::create_dir(&downloads).unwrap();
        std::fs::write(downloads.join("offhook_0.1.0_amd64.deb"), vec![7; 300_000]).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_offhook-directory"));
        command.args([
            "run",
            "--name",
            "directory.example",
            "--http",
            "none",
            "--listen",
            "/ip4/127.0.0.1/udp/0/quic-v1",
        ]);
        for service in ["--stun", "--front", "--site"] {
            command.args([service, "127.0.0.1:0"]);
        }
        command.arg("--downloads").arg(downloads).arg("--data").arg(folder.path().join("data"));
        let mut process = Running::start(command.stderr(Stdio::null()));
        let mut line = |start: &str| process.line(start).expect("a directory that runs");
        let front = line("front ").replace("front ", "https://");
        let site = line("site ").replace("site ", "");
        let addr = line("/ip4").parse().unwrap();
        Self { _process: process, _folder: folder, addr, front, site }
    }

    /// Chromium, led through the pages with everything that `site/dev/look.ts` can do.
    fn look(&self, looks: &str, walk: &str) -> (Running, ChildStdin) {
        let mut command = Command::new("node");
        command.args(["--import", "tsx", "dev/look.ts", "--wait", "--looks", looks, "--walk", walk]);
        command.args(["--directory", &self.site, "--front", &self.front, "--out"]);
        command.arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("site")).current_dir(site());
        let mut look = Running::start(command.stdin(Stdio::piped()));
        let stdin = look.child.stdin.take().unwrap();
        (look, stdin)
    }

    /// A program logs in with ID and password, and opens the backup that the page has made.
    async fn log_in(&self, id: &str, password: &str) -> (IdentityId, Backup) {
        let addr = self.site.strip_prefix("http://").unwrap().parse().unwrap();
        let mut program = Client::new(addr);
        program.stretch_like_a_browser();
        let begun = program.begin(id, password).await.expect("the password fits");
        let answer = program.finish(&begun, true).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let identity = answer.json["account"]["identity"].as_str().unwrap();
        let identity = data_encoding::HEXLOWER.decode(identity.as_bytes()).unwrap();
        let identity = IdentityId::from_bytes(identity.try_into().unwrap());
        let sealed = SealedBackup::from_bytes(&bytes(&answer.json["backup"]["data"])).unwrap();
        (identity, sealed.open(&backup_key(&begun.export_key), &identity).unwrap())
    }
}

/// A terminal of the account, on line.
struct Terminal {
    key: TerminalKey,
    net: Net,
    number: RecordKey,
}

impl Terminal {
    /// Registers at the directory, finds the record that the page has published, and publishes its own beside it.
    async fn start(directory: &Directory, backup: &Backup, seed: u8) -> Self {
        let key = TerminalKey::from_seed([seed; 32]);
        let now = wall_clock();
        let seal = SealKey::from_seed([seed; 32]).public();
        let cert = SignedCert::issue(&backup.identity, key.public(), seal, now);
        let mut config = NetConfig::new(*key.seed(), Role::Terminal);
        config.cert = Some(cert.clone());
        config.listen = vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()];
        config.entry = vec![directory.addr.clone()];
        let (net, mut events) = Net::start(config).await.unwrap();
        tokio::spawn(async move { while events.recv().await.is_some() {} });
        let mut status = net.watch();
        let registered = status.wait_for(|status| !status.routes.is_empty());
        tokio::time::timeout(PATIENCE, registered).await.expect("in time").unwrap();
        let number = Number::Plain(backup.number);
        let terminal = Self { key, net, number: number.record_key(None).unwrap() };
        let account = terminal.look_up().await.account.expect("the page has published it");
        assert_eq!(
            (&account.number, account.backups.first().map(|at| at.version)),
            (&number, Some(2)),
            "the second backup has the chosen number"
        );
        let expires = now.plus(Duration::from_secs(3_600));
        let addrs = terminal.net.addresses();
        let record = TerminalRecord { number, cert, addrs, seq: now, expires }.sign(&terminal.key);
        let set = RecordSet { account: Some(account.signed()), terminals: vec![record] };
        terminal.net.publish(terminal.number, set).await.unwrap();
        terminal
    }

    /// All that is known of the number.
    async fn look_up(&self) -> CheckedSet {
        let mut look_up = self.net.lookup(self.number, &[]);
        let mut newest = None;
        while let Some(event) = look_up.next().await {
            if let LookupEvent::Found { set, .. } = event {
                newest = Some(set);
            }
        }
        newest.expect("the directory knows the number")
    }
}

/// Somebody signs up with one look, and everybody sees the pages with all looks of a width.
async fn people_use_the_site(width: &str, walk: &str) {
    let directory = Directory::start();
    let (mut look, mut stdin) = directory.look(width, walk);
    let mut terminals = Vec::new();
    while let Some(line) = tokio::task::block_in_place(|| look.line("{")) {
        let said: Value = serde_json::from_str(&line).unwrap();
        let (id, password) = (said["id"].as_str().unwrap(), said["password"].as_str().unwrap());
        let (identity, backup) = directory.log_in(id, password).await;
        assert_eq!((backup.identity.public(), backup.chosen.len()), (identity, 1));
        let words: RecoveryWords = said["words"].as_str().unwrap().parse().unwrap();
        assert_eq!(words.identity().public(), identity, "the words are the identity");
        terminals.push(Terminal::start(&directory, &backup, 50).await);
        writeln!(stdin, "go on").unwrap();
    }
    let status = look.child.wait().unwrap();
    assert!(status.success(), "what is wrong stands above; `cargo xtask setup` installs Node and Chromium");
    let [terminal] = &terminals[..] else { panic!("nobody has signed up") };
    let known = terminal.look_up().await;
    let account = known.account.expect("an account record");
    assert_eq!(account.revoked, [terminal.key.public()], "the page has revoked it, for everybody");
    assert!(known.terminals.is_empty() && account.backups.first().map(|at| at.version) > Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_people_sign_up_and_keep_their_account_in_a_browser() {
    people_use_the_site("1280", "1280-light-en").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_people_sign_up_and_keep_their_account_on_a_small_dark_screen_in_korean() {
    people_use_the_site("320", "320-dark-ko").await;
}
