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
    let json = home.run(&["account", "list", "--json"]);
    let current: Vec<Value> = json.done().out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(current.iter().map(|a| a["current"].as_bool().unwrap()).collect::<Vec<_>>(), [false, true]);

    let renamed =
        home.run_with(&["account", "rename", "ada", "eve", "--password-stdin", "--json"], "pw one\n", &[]);
    assert_eq!(renamed.done().json()["number"], ada["number"]);
    home.run(&["account", "use", "ada"]).refused(3, "ada");
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
    home.run(&["contact", "remove", "nobody"]).refused(1, "contact");
    home.run(&["run", "--mic", "file:"]).refused(2, "file:PATH");
    home.run(&["run", "--entry", "nonsense"]).refused(2, "nonsense");
    let json = home.run(&["status", "--json"]);
    assert_eq!((json.code, json.json()["exit"].as_u64()), (6, Some(6)));
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
    home.run(&["contact", "add", &number[..4], &number[4..8], &number[8..], "Me"]).done();
    let list = home.run(&["contact", "list"]);
    let lines: Vec<_> = list.done().out.lines().map(str::trim).collect();
    assert!(lines[0].starts_with("Bob") && lines[0].ends_with("key known"), "{lines:?}");
    assert!(lines[1].starts_with("Me") && lines[1].ends_with("not called yet"), "{lines:?}");
    home.run(&["contact", "add", &number, "bob"]).refused(2, "bob");
    home.run(&["contact", "confirm", "Bob"]).refused(1, "key");
    home.run(&["contact", "remove", "me"]).done();
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
}
