//! The binary as a process: what it prints, what it serves over HTTP, how it stops, and what a kill leaves.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "the relay's own tests use the rest")]
#[path = "../../core/tests/relay/client.rs"]
mod client;
#[path = "../../core/tests/net/fixture.rs"]
mod fixture;
#[path = "directory/mailbox.rs"]
mod mailbox;
#[path = "directory/reload.rs"]
mod reload;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use client::{Client, Link};
use fixture::{PARTIES, Party, now};
use offhook::net::{LookupEvent, Net, NetConfig, NetEvent, Role};
use offhook_proto::descriptor::SignedDescriptor;
use offhook_proto::identity::DirectoryKey;
use offhook_proto::number::NodeAddr;
use offhook_proto::relay::{RelayClass, TicketIssuer};
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(30);

struct Process {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(data: &std::path::Path, listen: &str, json: bool) -> Self {
        let mut command = Self::command(data, listen);
        if json {
            command.arg("--json");
        }
        Self::run(command)
    }

    /// A directory with everything, on ports that are free.
    fn command(data: &std::path::Path, listen: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_offhook-directory"));
        command.args([
            "run",
            "--listen",
            listen,
            "--stun",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
            "--front",
            "127.0.0.1:0",
            "--site",
            "127.0.0.1:0",
        ]);
        command.env("OFFHOOK_DIRECTORY_NAME", "directory.example");
        command.arg("--data");
        command.arg(data).stdout(Stdio::piped()).stderr(Stdio::null());
        command
    }

    fn run(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next line that starts so; what follows.
    fn line(&mut self, start: &str) -> String {
        loop {
            let line = self.lines.next().expect("a program that runs").unwrap();
            if let Some(rest) = line.strip_prefix(start) {
                return rest.trim().to_owned();
            }
        }
    }

    fn addr(&mut self) -> NodeAddr {
        format!("/ip4{}", self.line("/ip4")).parse().unwrap()
    }

    fn signal(&self, signal: &str) {
        let kill = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(kill.success());
    }

    /// The exit status, once it has ended.
    fn end(&mut self) -> Option<i32> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(started.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(addr: &str, path: &str) -> String {
    String::from_utf8(get_bytes(addr, path)).unwrap()
}

fn get_bytes(addr: &str, path: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(addr).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

async fn terminal(party: &Party, entry: &NodeAddr) -> (Net, mpsc::Receiver<NetEvent>) {
    let mut config = NetConfig::new(*party.terminal.seed(), Role::Terminal);
    config.cert = Some(party.cert(now()));
    config.listen = vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()];
    config.entry = vec![entry.clone()];
    Net::start(config).await.unwrap()
}

async fn registered(net: &Net) {
    let mut watch = net.watch();
    let wait = watch.wait_for(|status| !status.routes.is_empty());
    tokio::time::timeout(PATIENCE, wait).await.expect("registered").expect("runs");
}

#[tokio::test]
async fn it_prints_serves_and_stops() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::start(dir.path(), "/ip4/127.0.0.1/udp/0/quic-v1", false);
    let id = process.line("directory ");
    let http = process.line("metrics http://").replace("/metrics", "");
    let site = process.line("site http://");
    let entry = process.addr();
    assert!(entry.as_str().ends_with(&format!("/p2p/{id}")));
    let alice = Party::new(0);
    let (net, _events) = terminal(&alice, &entry).await;
    registered(&net).await;
    net.publish(alice.key(), alice.set(now(), &net.addresses())).await.unwrap();

    // What the directory says of itself is no number's record.
    let begun = Instant::now();
    let health = loop {
        let health = get(&http, "/health");
        let is_there = health.contains("\"records\":1") && health.contains("\"descriptors\":1");
        if is_there || begun.elapsed() > PATIENCE {
            break health;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(health.starts_with("HTTP/1.1 200") && health.contains("\"status\":\"ok\""), "{health}");
    assert!(health.contains("\"registered\":1") && health.contains("\"records\":1"), "{health}");
    assert!(health.contains("\"descriptors\":1"), "{health}");
    let metrics = get(&http, "/metrics");
    for needed in [
        "application/openmetrics-text",
        "libp2p_bandwidth_bytes_total{",
        "offhook_requests_total{request=\"register\",result=\"ok\"} 1",
        "offhook_requests_total{request=\"publish\",result=\"ok\"} 1",
        "offhook_registered 1",
        "# EOF",
    ] {
        assert!(metrics.contains(needed), "{needed} is missing in {metrics}");
    }
    assert!(get(&http, "/nothing").starts_with("HTTP/1.1 404"));
    let info = get(&site, "/api/v1/info");
    assert!(info.starts_with("HTTP/1.1 200") && info.contains("\"signup\":\"open\""), "{info}");
    get(&site, "/api/v1/nowhere/at/all");
    let metrics = get(&http, "/metrics");
    for needed in [
        "offhook_site_requests_total{route=\"/api/v1/info\",status=\"200\"} 1",
        "offhook_site_request_seconds_count{route=\"/api/v1/info\"} 1",
        "offhook_limits_hit_total{subject=\"login id\"} 0",
        "offhook_accounts 0",
    ] {
        assert!(metrics.contains(needed), "{needed} is missing in {metrics}");
    }
    assert!(!metrics.contains("nowhere"), "what somebody asks for is no label: {metrics}");
    assert_eq!(metrics.matches("# EOF").count(), 1);
    assert!(get(&http, "/health").contains("\"database\":\"ok\""));
    let told = get_bytes(&site, "/.well-known/offhook");
    let body = told.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let signed = SignedDescriptor::from_bytes(&told[body..]).unwrap();
    let seed = std::fs::read(dir.path().join("signing.key")).unwrap().try_into().unwrap();
    let directory = DirectoryKey::from_seed(seed).public();
    let told = signed.verify_pinned("directory.example", &directory, now()).unwrap();
    assert!(told.nodes.contains(&entry) && !told.stun.is_empty(), "{told:?}");
    // Its peers are told: a terminal knows at once, not when its connection has been silent for a minute.
    process.signal("-TERM");
    let mut watch = net.watch();
    let lost = watch.wait_for(|status| status.links.iter().all(|link| !link.up));
    tokio::time::timeout(Duration::from_secs(20), lost).await.expect("a farewell").expect("runs");
    assert_eq!(process.end(), Some(0));
}

#[tokio::test]
async fn it_relays_media_for_holders_of_its_tickets() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::start(dir.path(), "/ip4/127.0.0.1/udp/0/quic-v1", false);
    let http = process.line("metrics http://").replace("/metrics", "");
    let turn: std::net::SocketAddr = process.line("turn ").parse().unwrap();
    let secret = std::fs::read(dir.path().join("relay.secret")).unwrap().try_into().unwrap();
    let ticket = |class, n| {
        TicketIssuer::new(secret).issue(class, &Party::new(n).terminal.public(), Vec::new(), now())
    };
    let (mut a, at_a) = Client::allocated(Link::udp(turn).await, &ticket(RelayClass::Full, 0)).await;
    let (mut b, at_b) = Client::allocated(Link::tcp(turn).await, &ticket(RelayClass::Guest, 1)).await;
    assert!(a.bind(at_b).await && b.bind(at_a).await);
    a.send(at_b, b"hello").await;
    assert_eq!(b.message().await, (at_a, b"hello".to_vec()));
    let metrics = get(&http, "/metrics");
    for needed in [
        "offhook_relay_allocations{class=\"full\"} 1",
        "offhook_relay_allocations{class=\"guest\"} 1",
        "offhook_relay_bytes_total 5",
        "offhook_relay_refused_total{reason=\"unauthorized\"} 2",
    ] {
        assert!(metrics.contains(needed), "{needed} is missing in {metrics}");
    }
}

#[test]
fn scripts_get_json_and_the_key_stays() {
    let dir = tempfile::tempdir().unwrap();
    let mut ids = Vec::new();
    for _ in 0..2 {
        let mut process = Process::start(dir.path(), "/ip4/127.0.0.1/tcp/0", true);
        let ready: serde_json::Value = serde_json::from_str(&format!("{{{}", process.line("{"))).unwrap();
        assert_eq!(ready["event"], "ready");
        assert!(ready["stun"].as_str().unwrap().starts_with("127.0.0.1:"));
        assert_eq!(ready["turn"], ready["stun"]);
        ids.push(ready["peer_id"].clone());
        let listening: serde_json::Value = serde_json::from_str(&format!("{{{}", process.line("{"))).unwrap();
        assert_eq!(listening["event"], "listening");
        assert!(listening["addr"].as_str().unwrap().contains("/tcp/"));
        process.signal("-INT");
        assert_eq!(process.end(), Some(0));
    }
    assert_eq!(ids[0], ids[1]);
}

/// A terminal that is told nothing but the WebSocket's address, and what the public sees there.
#[tokio::test]
async fn its_front_lets_terminals_in_and_keeps_its_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::start(dir.path(), "/ip4/127.0.0.1/udp/0/quic-v1", false);
    let id = process.line("directory ");
    let front = process.line("front ");
    let port = front.rsplit(':').next().unwrap();
    let told = |process: &mut Process| {
        std::iter::repeat_with(|| process.addr()).find(|addr| addr.as_str().contains("/tls/ws"))
    };
    let entry = told(&mut process).unwrap();
    assert_eq!(entry.as_str(), format!("/ip4/127.0.0.1/tcp/{port}/tls/ws/p2p/{id}"));
    let (net, _events) = terminal(&Party::new(0), &entry).await;
    registered(&net).await;
    let certificate = std::fs::read(dir.path().join("front.pem")).unwrap();
    process.signal("-TERM");
    assert_eq!(process.end(), Some(0));
    let mut process = Process::start(dir.path(), "/ip4/127.0.0.1/udp/0/quic-v1", false);
    process.line("front ");
    assert_eq!(std::fs::read(dir.path().join("front.pem")).unwrap(), certificate);
    process.signal("-TERM");
    assert_eq!(process.end(), Some(0));
    // A port that is asked for must be had.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_offhook-directory"));
    command.args(["run", "--http", "none", "--stun", "127.0.0.1:0", "--listen", "/ip4/127.0.0.1/tcp/0"]);
    let output = command.args(["--front", &addr]).arg("--data").arg(dir.path()).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && words.contains("--front none"), "{words}");
}

#[test]
fn mistakes_end_with_a_sentence_and_status_2() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("settings.toml");
    std::fs::write(&file, "recods = 1").unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_offhook-directory"));
        let output = command.args(args).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, words) = run(&["config", "--config", file.to_str().unwrap()]);
    assert!(code == Some(2) && words.contains("recods"), "{code:?} {words}");
    let data = dir.path().to_str().unwrap();
    let (code, words) = run(&[
        "run",
        "--data",
        data,
        "--http",
        "none",
        "--front",
        "none",
        "--site",
        "none",
        "--entry",
        "/ip4/192.0.2.1/tcp/1",
    ]);
    assert!(code == Some(2) && words.contains("/p2p/ID"), "{code:?} {words}");
    let (code, _) = run(&["run", "--listen", "nonsense"]);
    assert_eq!(code, Some(2));
    // Somebody else has the port.
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _taken = std::net::UdpSocket::bind(taken).unwrap();
    let (code, words) = run(&[
        "run",
        "--data",
        data,
        "--http",
        "none",
        "--front",
        "none",
        "--site",
        "none",
        "--stun",
        &taken.to_string(),
    ]);
    assert!(code == Some(1) && words.contains("in use"), "{code:?} {words}");
    // A folder that can't be made is the system's affair: another start may succeed.
    let (code, words) =
        run(&["run", "--data", "/proc/offhook", "--http", "none", "--front", "none", "--site", "none"]);
    assert!(code == Some(1) && words.contains("/proc/offhook"), "{code:?} {words}");
    // A key that is damaged or open to others is not.
    std::fs::write(dir.path().join("directory.key"), "short").unwrap();
    let (code, words) = run(&["run", "--data", data, "--http", "none", "--front", "none", "--site", "none"]);
    assert!(code == Some(2) && words.contains("directory.key"), "{code:?} {words}");
}

#[test]
fn logs_in_a_file_have_no_colours() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_offhook-directory"));
    command.args([
        "run",
        "--listen",
        "/ip4/127.0.0.1/tcp/0",
        "--stun",
        "127.0.0.1:0",
        "--http",
        "none",
        "--front",
        "none",
        "--data",
    ]);
    command.arg(dir.path()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    assert!(err.read_line(&mut line).unwrap() > 0);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(line.contains("INFO") && !line.contains('\u{1b}'), "{line:?}");
}

#[test]
fn what_is_shipped_fits_the_program() {
    let dist = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("dist");
    let sample = std::fs::read_to_string(dist.join("directory.toml")).unwrap();
    let config = |text: &str| {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("directory.toml");
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_offhook-directory"));
        let output = command.args(["config", "--config"]).arg(&file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let defaults = config("");
    assert_eq!(config(&sample), defaults, "as it is shipped it changes nothing");
    // Every line that is off is a setting; but for the examples it shows the default.
    let on: Vec<&str> = sample
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|line| !line.starts_with(' '))
        .collect();
    let shown: String = on.iter().filter(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect();
    let examples = |line: &&str| {
        ["external", "entry", "front", "relay-ips", "name", "site", "downloads", "database", "blobs"]
            .iter()
            .any(|name| line.starts_with(name))
    };
    let without =
        |text: &str| text.lines().filter(|line| !examples(line)).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(without(&config(&shown)), without(&defaults));
    assert!(shown.contains("external = ") && shown.contains("records = "), "{shown}");

    // The manual page names every command.
    let help = Command::new(env!("CARGO_BIN_EXE_offhook-directory")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let manual = std::fs::read_to_string(dist.join("offhook-directory.8")).unwrap();
    let listed = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let commands = listed.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let commands: Vec<_> = commands.filter(|word| !word.is_empty() && *word != "help").collect();
    assert!(commands.contains(&"run") && commands.contains(&"health"), "{commands:?}");
    for command in commands {
        assert!(manual.contains(&format!("\n.B {command}\n")), "{command} is not in the manual page");
    }

    // So does what a container runs, by words of the program's.
    let image = std::fs::read_to_string(dist.join("Containerfile")).unwrap();
    let words =
        |line: &str| -> Vec<String> { serde_json::from_str(&line[line.find('[').unwrap()..]).unwrap() };
    let run = |start: &str| image.lines().find(|line| line.starts_with(start)).map(words).unwrap();
    assert_eq!(run("ENTRYPOINT"), ["offhook-directory"]);
    for (start, at) in [("CMD", 0), ("HEALTHCHECK", 1)] {
        let command = run(start)[at].clone();
        assert!(manual.contains(&format!("\n.B {command}\n")), "{command} is no command");
    }

    // Where there is a systemd, it understands every line of the unit.
    let unit = dist.join("offhook-directory.service");
    let Ok(verify) = Command::new("systemd-analyze").arg("verify").arg(&unit).output() else { return };
    let said = String::from_utf8_lossy(&verify.stderr).into_owned();
    let ours: Vec<_> = said
        .lines()
        .filter(|line| line.contains("offhook-directory.service"))
        // The package brings them.
        .filter(|line| !line.contains("is not executable") && !line.contains("Command 'man "))
        .collect();
    assert!(ours.is_empty(), "{ours:?}");
}

#[test]
fn whether_it_is_well_is_asked_by_a_command() {
    let dir = tempfile::tempdir().unwrap();
    let health = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_offhook-directory"));
        let output = command.arg("health").args(args).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    let mut process = Process::start(dir.path(), "/ip4/127.0.0.1/tcp/0", false);
    let http = process.line("metrics http://").replace("/metrics", "");
    let (code, said) = health(&["--http", &http, "--wait", "30"]);
    assert_eq!((code, said.as_str()), (Some(0), "well: 0 peers, 0 terminals registered\n"));
    let (_, said) = health(&["--http", &http, "--json"]);
    let told: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&told["status"], &told["database"]), (&"ok".into(), &"ok".into()));
    process.signal("-KILL");
    process.end();
    let (code, said) = health(&["--http", &http]);
    assert!(code == Some(1) && said.contains("nothing answers"), "{code:?} {said}");
    let (code, said) = health(&["--http", "none"]);
    assert!(code == Some(2) && said.contains("not served"), "{code:?} {said}");
    // Something else that answers there.
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = other.local_addr().unwrap().to_string();
    let answers = std::thread::spawn(move || {
        for answer in
            ["HTTP/1.1 503 Service Unavailable\r\n\r\n{\"status\":\"down\"}", "HTTP/1.1 200 OK\r\n\r\nhello"]
        {
            let (mut stream, _) = other.accept().unwrap();
            let mut request = [0; 1_024];
            assert!(stream.read(&mut request).unwrap() > 0);
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let (code, said) = health(&["--http", &addr]);
    assert!(code == Some(1) && said.contains("not well") && said.contains("down"), "{code:?} {said}");
    let (code, said) = health(&["--http", &addr]);
    assert!(code == Some(1) && said.contains("no directory's"), "{code:?} {said}");
    answers.join().unwrap();
}

#[test]
fn the_settings_in_effect_are_printed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("settings.toml");
    std::fs::write(&file, "records = 1\nconnections = 2\nregistered = 3\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_offhook-directory"))
        .args(["config", "--records", "7", "--config"])
        .arg(&file)
        .env("OFFHOOK_DIRECTORY_CONNECTIONS", "9")
        .env("OFFHOOK_DIRECTORY_RECORDS", "8")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // Flag before environment before file.
    let effective = ["records = 7", "connections = 9", "registered = 3"];
    assert!(effective.iter().all(|line| text.lines().any(|found| found == *line)), "{text}");
    assert!(text.contains("http = \"127.0.0.1:9464\""), "{text}");
}

/// Publishes from all accounts at once and kills the directory after `pause`; whoever was told that the record is held
/// finds it after the restart.
#[tokio::test]
async fn a_kill_at_any_moment_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::start(dir.path(), "/ip4/127.0.0.1/udp/0/quic-v1", false);
    let entry = process.addr();
    let (transport, _) = entry.as_str().split_once("/p2p/").unwrap();
    let mut nets = Vec::new();
    for n in 0..PARTIES {
        let party = Party::new(n);
        let (net, events) = terminal(&party, &entry).await;
        nets.push((net, events, party));
    }
    let mut acknowledged = 0;
    for round in 0..6u64 {
        let mut publishing = tokio::task::JoinSet::new();
        for (net, _, party) in &nets {
            registered(net).await;
            let (net, key, set, seq) = (net.clone(), party.key(), party.set(now(), &net.addresses()), now());
            publishing.spawn(async move { net.publish(key, set).await.is_ok().then_some((key, seq)) });
        }
        tokio::time::sleep(Duration::from_millis(10 + 25 * round)).await;
        process.signal("-KILL");
        process.end();
        let held: Vec<_> = publishing.join_all().await.into_iter().flatten().collect();
        acknowledged += held.len();
        process = Process::start(dir.path(), transport, false);
        assert_eq!(process.addr(), entry);
        let (reader, _events) = terminal(&Party::with_terminal(0, 250), &entry).await;
        registered(&reader).await;
        for (key, seq) in held {
            let mut lookup = reader.lookup(key, &[]);
            let mut newest = None;
            while let Some(event) = lookup.next().await {
                if let LookupEvent::Found { set, .. } = event {
                    newest = newest.max(set.account.as_ref().map(|account| account.record().seq));
                }
            }
            assert!(newest.is_some_and(|newest| newest.0 + 1_000 >= seq.0), "an acknowledged record is lost");
        }
    }
    assert!(acknowledged > 0, "nothing was ever acknowledged");
}
