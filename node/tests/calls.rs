//! Two built terminals on this machine, worked through their control sockets: one is the entry point of the
//! other. What is checked is the command line; the calls themselves are tested in `tests/`.

// In a test a panic is the report.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// For what takes milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn offhook(home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_offhook"));
    command.env("OFFHOOK_HOME", home).args(args).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A program whose output lines are read as they come. Killed when dropped.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (tx, lines) = channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| tx.send(line)));
        Self { child, lines }
    }

    /// The next line with this word in it.
    #[track_caller]
    fn wait(&self, word: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(word) => return line,
                Ok(_) => {}
                Err(error) => unreachable!("{word} did not come: {error}"),
            }
        }
    }

    fn interrupt(&self) {
        self.signal("-INT");
    }

    fn signal(&self, signal: &str) {
        let done = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
    }

    fn exit_code(&mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has usually ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Terminal {
    home: TempDir,
    number: String,
    program: Running,
}

impl Terminal {
    fn start(id: &str, flags: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut new = offhook(home.path(), &["--json", "account", "new", id, "--password-stdin"]);
        let mut child = new.stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"password\n").unwrap();
        let made: Value = serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap();
        let fixed = ["--json", "run", "--no-mdns", "--allow-private", "--speaker", "none"];
        let mic: &[&str] = if flags.contains(&"--mic") { &[] } else { &["--mic", "none"] };
        let program = Running::start(offhook(home.path(), &[&fixed[..], mic, flags].concat()));
        let terminal = Self { home, number: made["number"].as_str().unwrap().to_owned(), program };
        let start = Instant::now();
        while terminal.code(&["status"]) == 6 {
            assert!(start.elapsed() < PATIENCE, "{id} does not start");
        }
        terminal
    }

    fn run(&self, args: &[&str]) -> Output {
        offhook(self.home.path(), args).output().unwrap()
    }

    fn code(&self, args: &[&str]) -> i32 {
        self.run(args).status.code().unwrap()
    }

    #[track_caller]
    fn json(&self, args: &[&str]) -> Value {
        let output = self.run(&[&["--json"], args].concat());
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The entry point that its invitation names, as soon as it listens.
    fn via(&self) -> String {
        let start = Instant::now();
        loop {
            let link = self.json(&["link"])["link"].as_str().unwrap().to_owned();
            if let Some(via) = link.split("via=").nth(1) {
                return via.split('&').next().unwrap().to_owned();
            }
            assert!(start.elapsed() < PATIENCE, "no entry point: {link}");
        }
    }

    /// Where it serves metrics.
    fn metrics(&mut self) -> String {
        let mut err = BufReader::new(self.program.child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("/metrics") {
            line.clear();
            assert!(err.read_line(&mut line).unwrap() > 0);
        }
        line.trim().trim_start_matches("Metrics at http://").trim_end_matches("/metrics").to_owned()
    }

    /// `offhook dial`, through the running terminal.
    fn dial(&self, number: &str) -> Running {
        Running::start(offhook(self.home.path(), &["dial", number]))
    }
}

/// The entry point and the other one; both are on line.
fn pair() -> (Terminal, Terminal) {
    pair_with(&[])
}

/// The same with flags of the other one's own.
fn pair_with(flags_of_the_other: &[&str]) -> (Terminal, Terminal) {
    let listen = "/ip4/127.0.0.1/udp/0/quic-v1";
    let flags = ["--serve", "always", "--listen", listen, "--ring-timeout", "6", "--metrics", "127.0.0.1:0"];
    let entry = Terminal::start("ada", &flags);
    let fixed = ["--entry", &entry.via(), "--ring-timeout", "6"];
    let other = Terminal::start("bob", &[&fixed[..], flags_of_the_other].concat());
    other.program.wait("\"online\"");
    entry.program.wait("\"online\"");
    (entry, other)
}

#[test]
fn calls_are_made_answered_and_ended_from_the_shell() {
    let (ada, bob) = pair();

    let mut dial = bob.dial(&ada.number);
    ada.program.wait("\"incoming\"");
    assert_eq!(ada.code(&["answer"]), 0);
    dial.wait("Connected");
    ada.program.wait("\"connected\"");
    let words = |terminal: &Terminal| terminal.json(&["verify"])["words"].clone();
    assert_eq!(words(&ada), words(&bob));
    assert_eq!(words(&ada).as_array().unwrap().len(), 6);
    let status = bob.json(&["status"]);
    assert_eq!((status["account"].as_str(), status["line"].as_str()), (Some("bob"), Some("online")));
    assert_eq!(status["calls"][0]["state"].as_str(), Some("active"));
    assert_eq!(ada.code(&["text", &bob.number, "hello", "there"]), 0);
    assert!(bob.program.wait("\"text\"").contains("hello there"));
    assert_eq!(ada.code(&["hangup"]), 0);
    dial.wait("the other end hung up after");
    assert_eq!(dial.exit_code(), 0);
    assert_eq!(bob.code(&["hangup"]), 1, "nothing left to hang up");

    let mut dial = bob.dial(&ada.number);
    ada.program.wait("\"incoming\"");
    assert_eq!(ada.code(&["reject"]), 0);
    dial.wait("declined");
    assert_eq!(dial.exit_code(), 11);

    let mut dial = bob.dial(&ada.number);
    dial.wait("nobody answers");
    assert_eq!(dial.exit_code(), 12);
    ada.program.wait("\"ended\"");

    let mut dial = bob.dial(&ada.number);
    dial.wait("It rings");
    dial.interrupt();
    dial.wait("given up");
    assert_eq!(dial.exit_code(), 130);
}

#[test]
fn the_running_terminal_serves_every_command() {
    let (ada, mut bob) = pair();
    // Contacts are the running terminal's; a name stands for its number.
    assert_eq!(bob.code(&["contact", "add", &ada.number, "Ada"]), 0);
    assert_eq!(bob.json(&["contact", "list"])["contacts"][0]["name"].as_str(), Some("Ada"));
    assert_eq!(bob.json(&["lookup", "ada"])["number"].as_str(), Some(ada.number.as_str()));
    assert_eq!(bob.code(&["text", "Ada", "hi"]), 0);
    assert!(ada.program.wait("\"text\"").contains("hi"));
    assert_eq!(ada.code(&["text", &bob.number, "ho"]), 0);
    let text: Value = serde_json::from_str(&bob.program.wait("\"text\"")).unwrap();
    assert_eq!((text["name"].as_str(), text["body"].as_str()), (Some("Ada"), Some("ho")));
    assert_eq!(bob.code(&["contact", "remove", "ada"]), 0);

    // Nobody has this number; it is well formed.
    let unknown = bob.run(&["lookup", "0000 0000 0013"]);
    assert_eq!(unknown.status.code(), Some(14), "{}", String::from_utf8_lossy(&unknown.stderr));
    let mut dial = bob.dial("0000 0000 0013");
    dial.wait("nobody has this number");
    assert_eq!(dial.exit_code(), 14);
    assert_eq!(bob.code(&["dial", "0000 0000 0014"]), 2, "mistyped");
    assert_eq!(bob.code(&["dial", &bob.number]), 2, "oneself");

    // One terminal a home, one program an account.
    assert_eq!(bob.code(&["run"]), 8);
    assert_eq!(bob.code(&["status", "--account", "bob"]), 0);
    assert_eq!(bob.code(&["status", "--account", "eve"]), 2);

    bob.program.interrupt();
    assert_eq!(bob.program.exit_code(), 0);
    assert_eq!(bob.code(&["status"]), 6);
    assert!(!bob.home.path().join("control.sock").exists());
    // Who goes off line says so; the number is a number all the same.
    let gone = ada.run(&["lookup", &bob.number]);
    let said = String::from_utf8_lossy(&gone.stdout).into_owned();
    assert!(gone.status.code() == Some(13) && said.contains("not on line"), "{said}");
    assert_eq!(ada.dial(&bob.number).exit_code(), 13);
}

#[test]
fn q11_q13_a_call_is_followed_and_remembered_from_the_shell() {
    let (mut ada, mut bob) = pair();
    assert_eq!(bob.code(&["stats"]), 1, "there is no call");
    let metrics = ada.metrics();
    let mut dial = bob.dial(&ada.number);
    ada.program.wait("\"incoming\"");
    assert_eq!(ada.code(&["answer"]), 0);
    dial.wait("Connected");

    let mut lines = Running::start(offhook(bob.home.path(), &["stats"]));
    lines.wait("of 4.5) | direct | round trip ");
    let mut json = Running::start(offhook(ada.home.path(), &["stats", "--json"]));
    let told: Value = serde_json::from_str(&json.wait("\"mos\"")).unwrap();
    assert_eq!((told["event"].as_str(), told["path"].as_str()), (Some("stats"), Some("direct")));
    let numbers = [
        "rtt_ms",
        "loss",
        "loss_there",
        "burst_longest",
        "jitter_ms",
        "buffer_ms",
        "concealed",
        "sent_bps",
        "mos",
    ];
    for number in numbers {
        assert!(told[number].is_number(), "{number}: {told}");
    }
    assert!(told["copies"].is_array(), "{told}");
    let status = bob.json(&["status"])["calls"][0].clone();
    assert!(status["quality"].is_string() && status["rtt_ms"].is_number(), "{status}");
    let said = String::from_utf8(bob.run(&["status"]).stdout).unwrap();
    assert!(said.contains("active, directly, ") && said.contains(" of 4.5), round trip "), "{said}");
    let text = get(&metrics, "/metrics").1;
    assert!(text.contains("offhook_call_round_trip_seconds{call=\"0\"} "), "{text}");
    assert!(!text.contains(&bob.number), "{text}");

    assert_eq!(ada.code(&["hangup"]), 0);
    assert!(dial.wait("the other end hung up after").contains(" It sounded "));
    lines.wait("Call ended");
    assert_eq!((lines.exit_code(), dial.exit_code()), (0, 0));
    assert!(json.wait("\"ended\"").contains("\"summary\":{"));
    assert_eq!(json.exit_code(), 0);

    let dial = bob.dial(&ada.number);
    dial.wait("It rings");
    dial.interrupt();
    dial.wait("given up");
    ada.program.wait("\"cancelled\"");
    let calls = ada.json(&["history"])["calls"].clone();
    assert_eq!((calls[0]["missed"].as_bool(), calls[1]["missed"].as_bool()), (Some(true), Some(false)));
    assert_eq!(calls[1]["number"].as_str(), Some(bob.number.as_str()));
    assert!(calls[1]["summary"]["mos"].is_number() && calls[1]["duration_ms"].as_u64() > Some(0), "{calls}");
    assert_eq!(ada.json(&["history", "--limit", "1"])["calls"].as_array().unwrap().len(), 1);
    let said = String::from_utf8(ada.run(&["history"]).stdout).unwrap();
    assert!(said.contains("  missed  ") && said.contains("the caller gave up"), "{said}");
    assert_eq!(ada.code(&["history", "clear"]), 0);
    assert_eq!(ada.json(&["history"])["calls"].as_array().unwrap().len(), 0);
    // It is in the account's file, without a terminal that runs as well.
    bob.program.interrupt();
    assert_eq!(bob.program.exit_code(), 0);
    assert_eq!(bob.json(&["history"])["calls"].as_array().unwrap().len(), 2);
    assert_eq!(bob.code(&["stats"]), 6);
}

/// Status and body of an answer over HTTP.
fn get(addr: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn metrics_and_health_tell_whether_it_can_be_called() {
    let (mut ada, _bob) = pair();
    let addr = ada.metrics();
    let (status, metrics) = get(&addr, "/metrics");
    assert_eq!(status, 200);
    assert!(metrics.contains("offhook_online 1\n") && metrics.ends_with("# EOF\n"), "{metrics}");
    let (status, health) = get(&addr, "/health");
    let health: Value = serde_json::from_str(&health).unwrap();
    assert_eq!((status, health["line"].as_str()), (200, Some("online")), "{health}");
    assert_eq!(get(&addr, "/else").0, 404);
}

#[test]
fn a_terminal_that_nobody_can_call_does_not_say_that_it_is_on_line() {
    let mut ada =
        Terminal::start("ada", &["--listen", "/ip4/127.0.0.1/udp/0/quic-v1", "--metrics", "127.0.0.1:0"]);
    ada.program.wait("\"alone\"");
    assert_eq!(ada.json(&["status"])["line"].as_str(), Some("alone"));
    let addr = ada.metrics();
    let (status, health) = get(&addr, "/health");
    let health: Value = serde_json::from_str(&health).unwrap();
    assert_eq!((status, health["line"].as_str()), (503, Some("alone")), "{health}");
    assert!(get(&addr, "/metrics").1.contains("offhook_online 0\n"));
    // Nobody can be called either.
    for args in
        [&["lookup", "0000 0000 0013"][..], &["dial", "0000 0000 0013"], &["text", "0000 0000 0013", "hi"]]
    {
        assert_eq!(ada.code(args), 7, "{args:?}");
    }
}

#[test]
fn who_is_in_a_call_is_busy_and_says_farewell_when_ended() {
    let (ada, mut bob) = pair_with(&["--no-call-waiting"]);
    let eve = Terminal::start("eve", &["--entry", &ada.via()]);
    eve.program.wait("\"online\"");
    let dial = bob.dial(&ada.number);
    ada.program.wait("\"incoming\"");
    assert_eq!(ada.code(&["answer"]), 0);
    dial.wait("Connected");
    ada.program.wait("\"connected\"");

    let mut busy = eve.dial(&bob.number);
    busy.wait("busy");
    assert_eq!(busy.exit_code(), 10);

    assert_eq!(bob.json(&["verify"])["verified"].as_bool(), Some(false));
    assert_eq!(bob.json(&["verify", "--confirm"])["verified"].as_bool(), Some(true));
    assert_eq!(bob.json(&["verify"])["verified"].as_bool(), Some(true));

    // Keys, mute and hold reach the other end.
    for (args, event) in [
        (&["dtmf", "5#"][..], "\"dtmf\""),
        (&["mute", "on"], "\"remote_mute\""),
        (&["mute", "off"], "\"remote_mute\""),
        (&["hold", "on"], "\"remote_hold\""),
        (&["hold", "off"], "\"remote_hold\""),
    ] {
        assert_eq!(bob.code(args), 0, "{args:?}");
        ada.program.wait(event);
    }
    assert_eq!(bob.code(&["dtmf", "x"]), 2);

    // As the service manager ends it: the other end hears of it at once, not when its patience ends.
    bob.program.signal("-TERM");
    let ended = ada.program.wait("\"ended\"");
    assert!(ended.contains("\"hung_up\"") && ended.contains("\"remote\""), "{ended}");
    assert_eq!(bob.program.exit_code(), 0);

    // Ended from the shell, it has ended when the command has.
    assert_eq!(eve.code(&["shutdown"]), 0);
    assert_eq!(eve.code(&["status"]), 6);
}

#[test]
fn p10_the_running_terminal_is_given_other_devices() {
    let ada = Terminal::start("ada", &[]);
    let wav = ada.home.path().join("{time}.wav");
    let file = format!("file:{}", wav.display());
    assert_eq!(ada.code(&["devices", "use", "--speaker", &file]), 0);
    let told: Value = serde_json::from_str(&ada.program.wait("devices_chosen")).unwrap();
    assert_eq!((told["mic"].as_str(), told["speaker"].as_str()), (Some("none"), Some(file.as_str())));
    assert_eq!(ada.json(&["devices"])["speaker"].as_str(), Some(file.as_str()));
    assert_eq!(ada.code(&["devices", "use", "--mic", "nonsense"]), 2);
    assert_eq!(ada.json(&["devices"])["mic"].as_str(), Some("none"));
    let remembered = std::fs::read_to_string(ada.home.path().join("config.toml")).unwrap();
    assert_eq!(remembered, format!("speaker = \"{}\"\n", file));
}

/// Speech of eight seconds.
const SPEECH: &str = concat!("file:", env!("CARGO_MANIFEST_DIR"), "/../tests/data/speech-a.wav");

impl Terminal {
    /// The recordings here, once there is one of this kind that has so many milliseconds.
    #[track_caller]
    fn recorded(&self, kind: &str, ms: u64) -> Value {
        let start = Instant::now();
        loop {
            let list = self.json(&["recording", "list", "--kind", kind]);
            if list["recordings"][0]["duration_ms"].as_u64().is_some_and(|length| length >= ms) {
                return list["recordings"].clone();
            }
            assert!(start.elapsed() < PATIENCE, "nothing is recorded: {list}");
        }
    }
}

#[test]
fn p17_a_killed_terminal_leaves_a_recording_that_plays() {
    let (ada, mut bob) = pair();
    assert_eq!(bob.code(&["record", "on"]), 1, "no call");
    assert_eq!(bob.run(&["recording", "play"]).status.code(), Some(2), "nothing to play");
    let dial = bob.dial(&ada.number);
    ada.program.wait("\"incoming\"");
    assert_eq!(ada.code(&["answer"]), 0);
    dial.wait("Connected");
    bob.program.wait("\"connected\"");
    assert_eq!(bob.code(&["record", "on"]), 0);
    assert!(bob.program.wait("\"recording\"").contains("\"started\""));
    assert!(ada.program.wait("\"remote_recording\"").contains("true"));
    bob.recorded("call", 2_000);
    bob.program.signal("-KILL");
    bob.program.child.wait().unwrap();

    // Nothing runs here any more; what was written plays.
    let list = bob.json(&["recording", "list"])["recordings"].clone();
    let (name, length) = (list[0]["recording"].as_str().unwrap(), list[0]["duration_ms"].as_u64().unwrap());
    assert!(name.starts_with("call-") && length >= 2_000, "{list}");
    assert_eq!(list[0]["number"].as_str(), Some(ada.number.as_str()));
    let file = bob.home.path().join("mixed.wav");
    let exported = bob.json(&["recording", "export", "last", file.to_str().unwrap()]);
    assert!(exported["duration_ms"].as_u64().unwrap() >= 1_500, "{exported}");
    assert!(file.metadata().unwrap().len() > 1_500 * 96);
    let played = bob.json(&["recording", "play", name, "--speaker", "none", "--track", "other"]);
    assert_eq!(played["reply"].as_str(), Some("played"));
    assert_eq!(bob.code(&["recording", "play", "--speaker", "file:x.wav"]), 2);
    assert_eq!(bob.json(&["recording", "delete", &name[..16]])["recording"].as_str(), Some(name));
    assert_eq!(bob.code(&["recording", "delete", name]), 2);
    assert_eq!(bob.json(&["recording", "list"])["recordings"].as_array().unwrap().len(), 0);
}

#[test]
fn p17_who_is_asked_may_refuse_from_the_shell() {
    let (ada, bob) = pair();
    let dial = bob.dial(&ada.number);
    ada.program.wait("\"incoming\"");
    assert_eq!(ada.code(&["answer"]), 0);
    dial.wait("Connected");
    bob.program.wait("\"connected\"");
    ada.program.wait("\"connected\"");
    assert_eq!(ada.code(&["record", "refuse"]), 0);
    let refused = bob.run(&["record", "on"]);
    let said = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(refused.status.code() == Some(1) && said.contains("does not want to be recorded"), "{said}");
    dial.wait("does not want to be recorded");
    assert!(bob.program.wait("\"recording\"").contains("\"refused\""));
    assert_eq!(ada.code(&["record", "allow"]), 0);
    assert_eq!(bob.json(&["record", "on"])["state"].as_str(), Some("started"));
    assert!(bob.program.wait("\"recording\"").contains("\"started\""));
    assert_eq!(bob.json(&["record", "on"])["reply"].as_str(), Some("call"), "it goes on");
    let status = |of: &Terminal, what: &str| of.json(&["status"])["calls"][0][what].as_bool();
    assert_eq!(status(&bob, "recording"), Some(true));
    ada.program.wait("\"remote_recording\"");
    assert_eq!(status(&ada, "remote_recording"), Some(true));
    assert_eq!(ada.code(&["record", "refuse"]), 0);
    assert!(bob.program.wait("\"recording\"").contains("\"refused\""));
}

#[test]
fn q9_messages_are_left_on_the_answering_machine() {
    let flags = ["--answer", "machine", "--machine-after", "1", "--serve", "always"];
    let ada = Terminal::start("ada", &[&flags[..], &["--listen", "/ip4/127.0.0.1/udp/0/quic-v1"]].concat());
    let bob = Terminal::start("bob", &["--entry", &ada.via(), "--mic", SPEECH]);
    bob.program.wait("\"online\"");
    ada.program.wait("\"online\"");
    let dial = bob.dial(&ada.number);
    dial.wait("Connected");
    dial.wait("The other end records the call");
    ada.recorded("message", 2_000);
    assert_eq!(bob.code(&["hangup"]), 0);
    let left: Value = serde_json::from_str(&ada.program.wait("\"voice_message\"")).unwrap();
    assert_eq!(left["number"].as_str(), Some(bob.number.as_str()));
    let name = left["recording"].as_str().unwrap();
    assert!(name.starts_with("message-"), "{left}");
    let length = left["duration_ms"].as_u64().unwrap();
    assert_eq!(ada.recorded("message", length)[0]["recording"].as_str(), Some(name));
    assert_eq!(ada.json(&["recording", "list", "--kind", "call"])["recordings"].as_array().unwrap().len(), 0);
    assert_eq!(ada.code(&["recording", "delete", name]), 0);
}

#[test]
fn a_second_call_is_taken_swapped_and_ended_from_the_shell() {
    let (ada, bob) = pair();
    let eve = Terminal::start("eve", &["--entry", &ada.via()]);
    eve.program.wait("\"online\"");
    let mut first = bob.dial(&ada.number);
    ada.program.wait("\"incoming\"");
    assert_eq!(ada.code(&["answer"]), 0);
    first.wait("Connected");
    let mut second = eve.dial(&ada.number);
    ada.program.wait("\"incoming\"");
    assert_eq!(ada.code(&["answer"]), 0);
    second.wait("Connected");
    let held = || -> Vec<bool> {
        let status = ada.json(&["status"]);
        let calls = status["calls"].as_array().unwrap().iter();
        calls.map(|call| call["held"].as_bool().unwrap()).collect()
    };
    assert_eq!(held(), [true, false]);
    assert_eq!(ada.code(&["swap"]), 0);
    assert_eq!(held(), [false, true]);

    // Two are enough, which is not the callee's being busy.
    let third = ada.run(&["dial", &eve.number]);
    let said = String::from_utf8_lossy(&third.stderr).into_owned();
    assert!(third.status.code() == Some(1) && said.contains("two calls already"), "{said}");

    let volumes = ada.json(&["volume", "70"]);
    assert_eq!((volumes["speaker"].as_u64(), volumes["ringer"].as_u64()), (Some(70), Some(100)));
    assert_eq!(ada.json(&["status"])["calls"][0]["volume"].as_u64(), Some(70));
    assert_eq!(ada.json(&["volume", "--ringer", "20"])["ringer"].as_u64(), Some(20));
    assert!(String::from_utf8_lossy(&ada.run(&["volume"]).stdout).contains("70 %"));

    assert_eq!(ada.code(&["hangup"]), 0);
    first.wait("the other end hung up after");
    assert_eq!(first.exit_code(), 0);
    assert_eq!(held(), [true], "the other one waits for its user");
    assert_eq!(ada.code(&["swap"]), 1);
    assert_eq!(ada.code(&["hold", "off"]), 0);
    assert_eq!(held(), [false]);
    assert_eq!(ada.code(&["hangup"]), 0);
    assert_eq!(second.exit_code(), 0);
}

#[test]
fn a_call_is_transferred_and_presence_is_told_from_the_shell() {
    let (ada, bob) = pair();
    let eve = Terminal::start("eve", &["--entry", &ada.via()]);
    eve.program.wait("\"online\"");
    let link = |of: &Terminal| of.json(&["link"])["link"].as_str().unwrap().to_owned();
    assert_eq!(bob.code(&["contact", "add", &link(&ada), "Ada"]), 0);
    assert_eq!(ada.code(&["contact", "add", &link(&bob), "Bob"]), 0);
    assert_eq!(ada.code(&["presence", "away", "at", "lunch"]), 0);
    while !bob.program.wait("\"presence\"").contains("at lunch") {}
    let list = bob.run(&["contact", "list"]);
    assert!(String::from_utf8_lossy(&list.stdout).contains("away: at lunch"));
    assert_eq!(bob.json(&["contact", "list"])["contacts"][0]["presence"]["state"].as_str(), Some("away"));
    assert_eq!(ada.json(&["presence", "--visible-to", "verified"])["visible"].as_str(), Some("verified"));
    assert_eq!(ada.code(&["presence", "busy"]), 2);

    assert_eq!(bob.code(&["follow"]), 1, "nobody asks");
    let mut first = bob.dial(&ada.number);
    ada.program.wait("\"incoming\"");
    assert_eq!(ada.code(&["answer"]), 0);
    first.wait("Connected");
    assert_eq!(ada.code(&["transfer"]), 1, "there is no other call");
    assert_eq!(ada.code(&["transfer", &eve.number]), 0);
    assert!(bob.program.wait("\"transfer_asked\"").contains(&eve.number));
    assert_eq!(bob.code(&["follow"]), 0);
    eve.program.wait("\"incoming\"");
    assert_eq!(eve.code(&["answer"]), 0);
    while !ada.program.wait("\"transfer\"").contains("\"done\"") {}
    first.wait("transferred");
    assert_eq!(first.exit_code(), 0);
    let calls = bob.json(&["status"])["calls"].clone();
    assert_eq!(
        (calls.as_array().unwrap().len(), calls[0]["number"].as_str()),
        (1, Some(eve.number.as_str()))
    );
    assert_eq!(bob.code(&["hangup"]), 0);
}
