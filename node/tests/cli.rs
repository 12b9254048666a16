//! The built program, from the outside: output and exit codes of everything that needs no network.

// In a test a panic is the report.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

struct Home(TempDir);

struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| unreachable!("{error}: {}", self.out))
    }

    /// One sentence on standard error, and this exit code.
    #[track_caller]
    fn refused(&self, code: i32, word: &str) {
        assert_eq!(self.code, code, "{} {}", self.out, self.err);
        assert_eq!(self.err.trim_end().lines().count(), 1, "{}", self.err);
        assert!(self.err.starts_with("offhook: ") && self.err.trim_end().ends_with('.'), "{}", self.err);
        assert!(self.err.contains(word), "{}", self.err);
        assert!(self.out.is_empty(), "{}", self.out);
    }

    #[track_caller]
    fn done(&self) -> &Self {
        assert_eq!(self.code, 0, "{} {}", self.out, self.err);
        self
    }
}

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, "", &[])
    }

    fn run_with(&self, args: &[&str], stdin: &str, env: &[(&str, &str)]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_offhook"));
        // Nothing of the machine's own settings.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("OFFHOOK_") {
                command.env_remove(name);
            }
        }
        let mut child = command
            .env("OFFHOOK_HOME", self.path())
            .env("XDG_CONFIG_HOME", self.path().join("xdg"))
            .envs(env.iter().copied())
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A program that does not read its input may have closed it.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        Ran {
            code: status.code().unwrap(),
            out: String::from_utf8(stdout).unwrap(),
            err: String::from_utf8(stderr).unwrap(),
        }
    }

    fn account(&self, id: &str, password: &str) -> Value {
        let args = ["account", "new", id, "--password-stdin", "--json"];
        self.run_with(&args, &format!("{password}\n"), &[]).done().json()
    }
}

#[test]
fn accounts_are_made_listed_chosen_and_renamed() {
    let home = Home::new();
    let empty = home.run(&["account", "list"]);
    assert!(empty.done().out.contains("account new"), "{}", empty.out);

    let ada = home.account("Ada", "pw one");
    assert_eq!((ada["id"].as_str(), ada["current"].as_bool()), (Some("ada"), Some(true)));
    let number = ada["number"].as_str().unwrap();
    assert_eq!(number.len(), 12);
    let bob = home.account("bob", "pw two");
    assert_ne!(bob["number"], ada["number"]);
    assert_eq!(bob["current"].as_bool(), Some(false));

    let list = home.run(&["account", "list"]);
    let lines: Vec<_> = list.done().out.lines().collect();
    assert!(lines[0].starts_with("* ada  "), "{lines:?}");
    assert!(lines[1].starts_with("  bob  "), "{lines:?}");
    assert_eq!(lines[0].trim_start_matches("* ada").trim().replace(' ', ""), number);

    home.run(&["account", "use", "bob"]).done();
    let json = home.run(&["account", "list", "--json"]).done().json();
    let current = json["accounts"].as_array().unwrap().iter().map(|a| a["current"].as_bool().unwrap());
    assert_eq!(current.collect::<Vec<_>>(), [false, true]);

    let renamed =
        home.run_with(&["account", "rename", "ada", "eve", "--password-stdin", "--json"], "pw one\n", &[]);
    assert_eq!(renamed.done().json()["number"], ada["number"]);
    home.run(&["account", "use", "ada"]).refused(3, "ada");
}

#[test]
fn p13_a_ringtone_is_a_wav_file_and_the_bell_comes_back() {
    let home = Home::new();
    home.account("ada", "pw");
    let bell = concat!(env!("CARGO_MANIFEST_DIR"), "/../core/src/audio/tones/bell.wav");
    let ring = |args: &[&str]| home.run(&[&["account", "ringtone"], args].concat());
    assert!(ring(&["ada", bell]).done().out.contains("from the next start on"));
    assert!(ring(&["ada", "--bell"]).done().out.contains("old telephone"));
    ring(&["ada", "--bell"]).done();
    ring(&["bob", bell]).refused(3, "bob");
    ring(&["ada", "/nonexistent.wav"]).refused(2, "/nonexistent.wav");
    ring(&["ada", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")]).refused(2, "Cargo.toml");
    for mistake in [&["ada"][..], &["ada", bell, "--bell"]] {
        assert_eq!(ring(mistake).code, 2, "{mistake:?}");
    }
}

#[test]
fn q9_a_greeting_is_a_wav_file_and_the_three_notes_come_back() {
    let home = Home::new();
    home.account("ada", "pw");
    let wav = concat!(env!("CARGO_MANIFEST_DIR"), "/../core/src/audio/tones/bell.wav");
    let greet = |args: &[&str]| home.run(&[&["account", "greeting"], args].concat());
    assert!(greet(&["ada", wav]).done().out.contains("greets callers with this"));
    assert!(greet(&["ada", "--default"]).done().out.contains("three notes"));
    greet(&["bob", wav]).refused(3, "bob");
    greet(&["ada", "/nonexistent.wav"]).refused(2, "/nonexistent.wav");
    assert_eq!(greet(&["ada"]).code, 2);
}

#[test]
fn q13_hold_music_is_a_wav_file_and_the_music_box_comes_back() {
    let home = Home::new();
    home.account("ada", "pw");
    let bell = concat!(env!("CARGO_MANIFEST_DIR"), "/../core/src/audio/tones/bell.wav");
    let music = |args: &[&str]| home.run(&[&["account", "hold-music"], args].concat());
    assert!(music(&["ada", bell]).done().out.contains("from the next start on"));
    assert!(music(&["ada", "--default"]).done().out.contains("music box"));
    music(&["bob", bell]).refused(3, "bob");
    music(&["ada", "/nonexistent.wav"]).refused(2, "/nonexistent.wav");
    music(&["ada", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")]).refused(2, "Cargo.toml");
    assert_eq!(music(&["ada"]).code, 2);
}

#[test]
fn a_new_account_is_told_in_words() {
    let home = Home::new();
    let made = home.run_with(&["account", "new", "ada", "--password-stdin"], "pw\n", &[]);
    let number = made.done().out.lines().find(|line| line.contains("number")).unwrap();
    let digits = number.trim().trim_start_matches("number").trim();
    assert_eq!(digits.split(' ').map(str::len).collect::<Vec<_>>(), [4, 4, 4], "{digits}");
    assert!(made.err.contains("Looking for a number"), "{}", made.err);
}

#[test]
fn passwords_change_and_wrong_ones_are_told() {
    let home = Home::new();
    home.account("ada", "first");
    let change = |input| home.run_with(&["account", "password", "ada", "--password-stdin"], input, &[]);
    change("wrong\nsecond\n").refused(4, "password");
    change("first\nsecond\n").done();
    change("first\nthird\n").refused(4, "password");
    change("second\n").refused(2, "empty");
    let renew = home.run_with(&["account", "renew", "ada", "--password-stdin"], "second\n", &[]);
    assert!(renew.done().out.contains("13 months"));
}

#[test]
fn bad_input_gets_a_sentence_and_a_code() {
    let home = Home::new();
    let new = |id, password| home.run_with(&["account", "new", id, "--password-stdin"], password, &[]);
    new("a/b", "pw\n").refused(2, "ID");
    new("..", "pw\n").refused(2, "ID");
    new("ada", "").refused(2, "empty");
    home.run(&["account", "new", "ada"]).refused(2, "--password-stdin");
    assert!(home.run(&["account", "list"]).done().out.contains("No accounts"), "nothing was made");
    home.account("ada", "pw");
    new("ADA", "pw\n").refused(5, "ada");

    home.run(&["answer"]).refused(6, "offhook run");
    home.run(&["status"]).refused(6, "offhook run");
    home.run(&["dial", "4821", "0937", "5563"]).refused(2, "");
    home.run(&["text", "482109375562"]).refused(2, "");
    home.run(&["contact", "add", "4821 0937 5563", "Bob"]).refused(2, "");
    home.run(&["contact", "remove", "nobody"]).refused(2, "contact");
    home.run(&["dial", "Bob", "of", "the", "hill"]).refused(2, "No contact is called \"Bob of the hill\"");
    home.run(&["text", "Bbo", "hi"]).refused(2, "No contact is called \"Bbo\"");
    home.run(&["shutdown"]).refused(6, "offhook run");
    home.run(&["mute", "on"]).refused(6, "offhook run");
    home.run_with(&["status"], "", &[("OFFHOOK_LOG", "offhook=loud")]).refused(2, "offhook=loud");
}

#[test]
fn settings_that_can_not_work_are_refused_at_the_start() {
    let home = Home::new();
    home.account("ada", "pw");
    let run = |args: &[&str]| home.run(&[&["run", "--no-mdns"], args].concat());
    run(&["--entry", "nonsense"]).refused(2, "nonsense");
    run(&["--entry", "/ip4/127.0.0.1/udp/1/quic-v1"]).refused(2, "/p2p/ID");
    run(&["--mic", "file:"]).refused(2, "file:PATH");
    run(&["--mic", "nosuch", "--speaker", "none"]).refused(2, "offhook devices");
    run(&["--mic", "file:/nonexistent.wav", "--speaker", "none"]).refused(2, "/nonexistent.wav");
    run(&["--mic", "none", "--speaker", "file:/nonexistent/x.wav"]).refused(2, "/nonexistent/x.wav");
    // Documentation addresses (RFC 5737) are nobody's own.
    let taken = run(&["--mic", "none", "--speaker", "none", "--listen", "/ip4/192.0.2.1/udp/4001/quic-v1"]);
    taken.refused(1, "192.0.2.1");
    assert_eq!(taken.err.matches("os error").count(), 1, "said once: {}", taken.err);
}

#[test]
fn without_a_network_every_command_says_so_in_the_same_way() {
    let home = Home::new();
    home.account("ada", "pw");
    for args in [
        &["dial", "0000 0000 0013", "--mic", "none", "--speaker", "none"][..],
        &["text", "0000 0000 0013", "hi"],
        &["lookup", "0000 0000 0013"],
    ] {
        let network = ["--no-mdns", "--listen", "/ip4/127.0.0.1/udp/0/quic-v1"];
        let ran = home.run(&[&args[..1], &network, &args[1..]].concat());
        ran.refused(7, "No entry point into the network is known");
    }
}

#[test]
fn scripts_read_nothing_but_json() {
    let home = Home::new();
    let objects = |ran: &Ran| -> Vec<Value> {
        ran.out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| unreachable!("{e}: {line}")))
            .collect()
    };
    let new = home.run_with(&["account", "new", "ada", "--password-stdin", "--json"], "pw\n", &[]);
    let number = objects(&new)[0]["number"].as_str().unwrap().to_owned();
    let other = format!("{:012}", 13);
    for (args, stdin, reply) in [
        (&["account", "list"][..], "", "accounts"),
        (&["account", "use", "ada"], "", "account"),
        (&["account", "password", "ada", "--password-stdin"], "pw\npw 2\n", "account"),
        (&["account", "renew", "ada", "--password-stdin"], "pw 2\n", "account"),
        (&["account", "rename", "ada", "eve", "--password-stdin"], "pw 2\n", "account"),
        (&["devices"], "", "devices"),
        (&["contact", "add", &other, "Bob"], "", "done"),
        (&["contact", "list"], "", "contacts"),
        (&["contact", "remove", "Bob"], "", "done"),
        (&["link"], "", "link"),
        (&["service"], "", "service"),
        (&["service", "--install"], "", "service"),
    ] {
        let ran = home.run_with(&[args, &["--json"]].concat(), stdin, &[]);
        let said = objects(ran.done());
        assert_eq!(said.len(), 1, "{args:?}: {}", ran.out);
        assert_eq!(said[0]["reply"].as_str(), Some(reply), "{args:?}");
    }
    for (args, exit, code) in [
        (&["status"][..], 6, "not_running"),
        (&["account", "use", "nobody"], 3, "no_account"),
        (&["dial", "0000 0000 0014"], 2, "bad_input"),
        (&["dial", number.as_str()], 2, "bad_input"),
        (&["contact", "remove", "nobody"], 2, "no_contact"),
        (&["contact", "confirm", &other], 1, "nothing_to_confirm"),
        (&["run", "--ring-timeout", "0"], 2, "bad_input"),
        (&["frobnicate"], 2, "bad_input"),
    ] {
        let ran = home.run(&[args, &["--json"]].concat());
        let said = objects(&ran);
        assert_eq!((ran.code, said.len()), (exit, 1), "{args:?}: {} {}", ran.out, ran.err);
        assert_eq!(said[0]["reply"].as_str(), Some("error"), "{args:?}");
        assert_eq!(
            (said[0]["exit"].as_i64(), said[0]["code"].as_str()),
            (Some(exit.into()), Some(code)),
            "{args:?}"
        );
        let message = said[0]["message"].as_str().unwrap();
        assert!(message.ends_with('.') && !message.contains('\n'), "{message}");
        assert!(!ran.err.is_empty(), "people are told too");
    }
}

#[test]
fn no_account_is_told_with_what_to_do() {
    let home = Home::new();
    for args in [&["run"][..], &["dial", "offhook:1004"], &["link"], &["contact", "list"]] {
        home.run(args).refused(3, "account new");
    }
    home.account("ada", "pw");
    home.run(&["contact", "list", "--account", "eve"]).refused(3, "eve");
}

#[test]
fn contacts_are_kept_without_a_running_terminal() {
    let home = Home::new();
    let number = home.account("ada", "pw")["number"].as_str().unwrap().to_owned();
    let other = Home::new();
    other.account("bob", "pw");
    let link = other.run(&["link", "--no-qr"]);
    let link = link.done().out.trim();
    assert!(link.starts_with("offhook:") && link.contains("?key="), "{link}");

    home.run(&["contact", "add", link, "Bob"]).done();
    home.run(&["contact", "add", &number, "Me"]).refused(2, "your own");
    home.run(&["contact", "add", "0000", "0000", "0013", "2nd office"]).done();
    let list = home.run(&["contact", "list"]);
    let lines: Vec<_> = list.done().out.lines().map(str::trim).collect();
    assert!(lines[0].starts_with("2nd office") && lines[0].ends_with("not called yet"), "{lines:?}");
    assert!(lines[1].starts_with("Bob") && lines[1].ends_with("key known"), "{lines:?}");
    home.run(&["contact", "add", "000000000013", "bob"]).refused(2, "bob");
    home.run(&["contact", "confirm", "Bob"]).refused(1, "key");
    home.run(&["contact", "confirm", "0000 0000 0013"]).refused(1, "key");
    home.run(&["contact", "remove", "2nd", "OFFICE"]).done();
    let list = home.run(&["contact", "list", "--json"]).done().json();
    assert_eq!(list["contacts"].as_array().unwrap().len(), 1);
}

#[test]
fn the_link_carries_number_and_key_and_a_code() {
    let home = Home::new();
    let ada = home.account("ada", "pw");
    let shown = home.run(&["link"]);
    let lines: Vec<_> = shown.done().out.lines().collect();
    let expected =
        format!("offhook:{}?key={}", ada["number"].as_str().unwrap(), ada["fingerprint"].as_str().unwrap());
    assert_eq!(lines[0], expected);
    assert!(lines.len() > 12 && lines[4].contains('█'), "a QR code");
    assert_eq!(home.run(&["link", "--json"]).done().json()["link"].as_str(), Some(expected.as_str()));
}

#[test]
fn the_configuration_file_is_read_and_its_mistakes_told() {
    let home = Home::new();
    home.account("ada", "pw");
    home.account("bob", "pw");
    std::fs::write(home.path().join("config.toml"), "account = 'bob'\n").unwrap();
    let link = |env: &[(&str, &str)]| home.run_with(&["link", "--json"], "", env).done().out.clone();
    let by_file = link(&[]);
    assert_ne!(by_file, link(&[("OFFHOOK_ACCOUNT", "ada")]), "environment before file");
    let flag = home.run_with(&["link", "--json", "--account", "bob"], "", &[("OFFHOOK_ACCOUNT", "ada")]);
    assert_eq!(flag.out, by_file, "flag before environment");

    std::fs::write(home.path().join("config.toml"), "acount = 'bob'\n").unwrap();
    let broken = home.run(&["link"]);
    assert_eq!(broken.code, 2);
    assert!(broken.err.contains("acount"), "{}", broken.err);
}

#[test]
fn help_completions_and_service_are_printed() {
    let home = Home::new();
    let help = home.run(&["--help"]);
    for word in ["account", "dial", "Exit codes", "unreachable", "Examples"] {
        assert!(help.done().out.contains(word), "{word}");
    }
    assert_eq!(home.run(&["--version"]).done().out.trim(), concat!("offhook ", env!("CARGO_PKG_VERSION")));
    assert_eq!(home.run(&["frobnicate"]).code, 2);
    for shell in ["bash", "zsh", "fish"] {
        assert!(home.run(&["completions", shell]).done().out.contains("offhook"), "{shell}");
    }
    let unit = home.run(&["service"]);
    let start = format!("ExecStart=\"{}\" --home ", env!("CARGO_BIN_EXE_offhook"));
    assert!(unit.done().out.contains(&start), "{}", unit.out);
    home.run(&["service", "--install"]).done();
    let written = std::fs::read_to_string(home.path().join("xdg/systemd/user/offhook.service")).unwrap();
    assert_eq!(written.trim_end(), unit.out.trim_end());
    verified_by_systemd(&home.path().join("xdg/systemd/user/offhook.service"));
}

/// Where there is a systemd, it understands every line of the unit.
fn verified_by_systemd(unit: &Path) {
    let mut verify = Command::new("systemd-analyze");
    let verify =
        verify.args(["--user", "verify"]).arg(unit).env("XDG_RUNTIME_DIR", unit.parent().unwrap()).output();
    let Ok(verify) = verify else { return };
    let said = String::from_utf8_lossy(&verify.stderr).into_owned();
    let ours: Vec<_> = said.lines().filter(|line| line.contains("offhook.service")).collect();
    assert!(ours.is_empty(), "{ours:?}");
}

#[test]
fn q13_a_history_without_calls_is_no_error() {
    let home = Home::new();
    home.run(&["history"]).refused(3, "account");
    home.account("ada", "pw");
    assert!(home.run(&["history"]).done().out.contains("No calls"));
    let json = home.run(&["history", "--json"]).done().json();
    assert_eq!((json["reply"].as_str(), json["calls"].as_array().map(Vec::len)), (Some("history"), Some(0)));
    assert!(home.run(&["history", "clear"]).done().out.contains("forgotten"));
    assert_eq!(home.run(&["history", "--limit", "1001"]).code, 2);
    home.run(&["stats"]).refused(6, "No terminal is running");
}

#[test]
fn p10_devices_are_chosen_and_remembered_without_a_running_terminal() {
    let home = Home::new();
    let config = home.path().join("config.toml");
    std::fs::write(&config, "# mine\nspeaker = 'none'\n").unwrap();
    home.run(&["devices", "use", "--mic", "nonsense", "--ringer", "none"]).refused(2, "nonsense");
    home.run(&["devices", "use", "--ringer", "file:bell.wav"]).refused(2, "rings into a file");
    assert_eq!(
        std::fs::read_to_string(&config).unwrap(),
        "# mine\nspeaker = 'none'\n",
        "nothing has changed"
    );
    home.run(&["devices", "use", "--mic", "none", "--ringer", "default"]).done();
    let written = std::fs::read_to_string(&config).unwrap();
    assert_eq!(written, "# mine\nspeaker = 'none'\nmic = \"none\"\nringer = \"default\"\n");
    let listed = home.run(&["devices", "--json"]).done().json();
    let named = ["mic", "speaker", "ringer"].map(|key| listed[key].as_str().unwrap().to_owned());
    assert_eq!(named, ["none", "none", "default"]);
    assert!(listed["reply"] == "devices" && listed["devices"].is_array(), "{listed}");
}

#[test]
fn p10_a_sound_test_says_what_is_wrong_and_scripts_know_it() {
    let home = Home::new();
    let test = |json: &[&str]| {
        home.run(&[&["devices", "test", "--mic", "none", "--speaker", "none"], json].concat())
    };
    let told = test(&[]);
    assert_eq!(told.code, 1, "{}", told.err);
    for sentence in ["three tones", "Say something", "hears nothing at all"] {
        assert!(told.out.contains(sentence), "{sentence}: {}", told.out);
    }
    let found = test(&["--json"]);
    let json = found.json();
    assert_eq!((found.code, json["passed"].as_bool()), (1, Some(false)));
    assert_eq!(json["findings"][0]["finding"], "mic_silent");
}
