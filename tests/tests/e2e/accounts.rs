//! Accounts that a directory keeps, by the built programs: ID and password give them back on any terminal.

use std::path::Path;

use offhook_tests::call::{STEP, hang_up};
use offhook_tests::phone::{Account, Directory, DirectoryPlan, PASSWORD, Terminal, TerminalPlan, offhook};
use tempfile::TempDir;

use crate::{Outcome, exit};

pub const NAME: &str = "directory.example";
pub const FRIEND: &str = "4821 0937 5567";
pub const OTHER: &str = "9230 3871 8324";

/// A directory that keeps accounts, and how to name one of its accounts.
pub fn directory() -> Result<(Directory, String), Box<dyn std::error::Error>> {
    named(NAME)
}

fn named(name: &str) -> Result<(Directory, String), Box<dyn std::error::Error>> {
    let extra = ["--name", name].map(str::to_owned).to_vec();
    let directory = Directory::start(None, DirectoryPlan { site: true, extra, ..DirectoryPlan::default() })?;
    let ada = format!("ada@http://{}", directory.site().ok_or("no site")?);
    Ok((directory, ada))
}

/// A home folder, and a command in it.
pub struct Home(pub TempDir);

impl Home {
    pub fn new() -> Result<Self, std::io::Error> {
        tempfile::tempdir().map(Self)
    }

    /// Exit code and all that was said.
    pub fn say(&self, arguments: &[&str], stdin: &str) -> Result<(i32, String), Box<dyn std::error::Error>> {
        Ok(exit(&offhook(self.0.path(), None, arguments, stdin)?))
    }

    /// The same for what has to succeed.
    pub fn done(&self, arguments: &[&str], stdin: &str) -> Result<String, Box<dyn std::error::Error>> {
        let (code, said) = self.say(arguments, stdin)?;
        if code == 0 { Ok(said) } else { Err(format!("{arguments:?}: {code} {said}").into()) }
    }

    pub fn log_in(&self, account: &str, password: &str) -> Result<(i32, String), Box<dyn std::error::Error>> {
        self.say(&["account", "login", account, "--password-stdin"], &format!("{password}\n"))
    }
}

fn number_in(said: &str) -> Option<String> {
    let digits = |line: &str| line.chars().filter(char::is_ascii_digit).collect::<String>();
    said.lines().find(|line| line.contains("umber")).map(digits)
}

/// Whether any file below holds these bytes.
pub fn holds(folder: &Path, secret: &[u8]) -> Result<bool, std::io::Error> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let found = if path.is_dir() {
            holds(&path, secret)?
        } else {
            path.is_file() && std::fs::read(&path)?.windows(secret.len()).any(|bytes| bytes == secret)
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

#[test]
fn p4_id_and_password_give_number_contacts_and_chosen_numbers_back_on_another_terminal() -> Outcome {
    let (_directory, ada) = directory()?;
    let [first, second] = [Home::new()?, Home::new()?];
    let sign_up = ["account", "signup", &ada, "--recovery-words", "--password-stdin"];
    let said = first.done(&sign_up, &format!("{PASSWORD}\n"))?;
    assert!(said.contains("24 ") && said.contains("log in"), "{said}");
    let number = number_in(&said).ok_or("no number")?;
    first.done(&["contact", "add", FRIEND, "bob"], "")?;
    let said = first.done(&["number", "claim", "ada"], "")?;
    assert!(said.contains("ada@directory.example"), "{said}");
    first.done(&["account", "backup"], "")?;

    // What is wrong is not told: somebody else would learn who has an account.
    let (wrong, unknown) =
        (second.log_in(&ada, "wrong")?, second.log_in(&ada.replace("ada@", "eve@"), "wrong")?);
    assert_eq!(wrong, unknown);
    assert_eq!(wrong.0, 4, "{}", wrong.1);
    let (code, said) = second.log_in(&ada, PASSWORD)?;
    assert_eq!((code, number_in(&said).as_deref()), (0, Some(&*number)), "{said}");
    assert!(second.done(&["contact", "list"], "")?.contains("bob"));
    assert!(second.done(&["number", "list"], "")?.contains("ada@directory.example"));

    // Both change something; neither is lost.
    second.done(&["contact", "add", OTHER, "carol"], "")?;
    second.done(&["account", "backup"], "")?;
    first.done(&["contact", "remove", "bob"], "")?;
    let said = first.done(&["account", "backup"], "")?;
    assert!(said.contains("another terminal"), "{said}");
    second.done(&["account", "backup"], "")?;
    for home in [&first, &second] {
        let contacts = home.done(&["contact", "list"], "")?;
        assert!(contacts.contains("carol") && !contacts.contains("bob"), "{contacts}");
    }
    Ok(())
}

#[test]
fn p15_a_new_password_counts_here_and_there_and_words_replace_a_forgotten_one() -> Outcome {
    let (_directory, ada) = directory()?;
    let [first, second, third] = [Home::new()?, Home::new()?, Home::new()?];
    let sign_up = ["account", "signup", &ada, "--recovery-words", "--password-stdin", "--json"];
    let said = first.done(&sign_up, &format!("{PASSWORD}\n"))?;
    let reply = said.lines().find(|line| line.starts_with('{')).ok_or("no reply")?;
    let reply: serde_json::Value = serde_json::from_str(reply)?;
    let words = reply["recovery_words"].as_str().ok_or("no words")?.to_owned();

    let passwords = format!("{PASSWORD}\nanother long one\n");
    first.done(&["account", "password", "ada", "--password-stdin"], &passwords)?;
    assert_eq!(second.log_in(&ada, PASSWORD)?.0, 4);
    assert_eq!(second.log_in(&ada, "another long one")?.0, 0);
    let (code, said) = first.say(&["account", "password", "ada", "--password-stdin"], &passwords)?;
    assert_eq!(code, 4, "the old one is no longer good here: {said}");

    let recover = ["account", "recover", &ada, "--password-stdin"];
    let said = third.done(&recover, &format!("{words}\na third one\n"))?;
    assert_eq!(number_in(&said).as_deref(), reply["number"].as_str(), "{said}");
    assert_eq!(Home::new()?.log_in(&ada, "another long one")?.0, 4);
    assert_eq!(Home::new()?.log_in(&ada, "a third one")?.0, 0);
    Ok(())
}

#[test]
fn p16_who_logs_out_leaves_nothing_behind() -> Outcome {
    let (_directory, ada) = directory()?;
    let home = Home::new()?;
    let sign_up = ["account", "signup", &ada, "--password-stdin"];
    home.done(&sign_up, &format!("{PASSWORD}\n"))?;
    home.done(&["contact", "add", FRIEND, "bob-the-secret-friend"], "")?;
    let folder = home.0.path();
    assert!(holds(folder, b"bob-the-secret-friend")?, "the search finds what is there");
    let (code, said) = home.say(&["account", "logout", "ada"], "")?;
    assert!(code == 2 && said.contains("--yes"), "{code} {said}");
    home.done(&["account", "logout", "ada", "--yes"], "")?;
    assert!(!holds(folder, b"bob-the-secret-friend")?);
    assert!(!holds(folder, b"SQLite format 3")?, "no database, so no key");
    assert!(home.done(&["account", "list"], "")?.contains("No accounts"));
    assert_eq!(home.log_in(&ada, PASSWORD)?.0, 0, "its directory has it");
    assert!(
        home.done(&["contact", "list"], "")?.contains("bob-the-secret-friend"),
        "logging out put it there"
    );
    Ok(())
}

#[test]
fn p16_two_accounts_of_one_terminal_are_on_line_at_the_same_time_and_call_each_other() -> Outcome {
    let directory = Directory::start(None, DirectoryPlan::default())?;
    let ada = Account::create("ada")?;
    let bob = ada.beside("bob")?;
    let entry = vec![directory.address()];
    let of = |id: &str| {
        let extra = vec!["--account".to_owned(), id.to_owned()];
        TerminalPlan { entry: entry.clone(), extra, ..TerminalPlan::default() }
    };
    let number = ada.number.clone();
    let mut ada = Terminal::online(ada, None, of("ada"))?;
    let mut bob = Terminal::online(bob, None, of("bob"))?;
    bob.process.send(&format!("dial {number}"))?;
    ada.process.wait("incoming", STEP)?;
    ada.process.send("answer")?;
    bob.process.wait("accepted", STEP)?;
    hang_up(&mut bob, &mut ada)?;
    // Commands in the same folder reach the one that is named.
    let (code, said) = exit(&ada.account.offhook(None, &["--account", "bob", "status"])?);
    assert!(code == 0 && said.contains("bob"), "{code} {said}");
    Ok(())
}

#[test]
fn p3_an_account_that_several_directories_keep_comes_back_from_any_that_is_left() -> Outcome {
    let names = [NAME, "second.example", "third.example", "fourth.example"];
    let [first, second, third, fourth] = names.map(named);
    let (mut first, second, third, fourth) = (Some(first?), second?, third?, fourth?);
    let home = Home::new()?;
    let sign_up = |account: &str| {
        home.say(&["account", "signup", account, "--password-stdin"], &format!("{PASSWORD}\n"))
    };
    let adas = [first.as_ref().ok_or("gone")?.1.clone(), second.1.clone(), third.1.clone()];
    for account in &adas {
        let (code, said) = sign_up(account)?;
        assert_eq!(code, 0, "{said}");
    }
    let (code, said) = sign_up(&fourth.1)?;
    assert_ne!(code, 0, "three are enough: {said}");
    let status = home.done(&["account", "status"], "")?;
    assert!(names[..3].iter().all(|name| status.contains(name)) && !status.contains(names[3]), "{status}");

    // One is down for good: the others are kept up all the same, and the user is told of it.
    first.take();
    home.done(&["contact", "add", FRIEND, "bob"], "")?;
    let (code, said) = home.say(&["account", "backup"], "")?;
    assert!(code != 0 && said.contains(NAME), "{said}");
    for account in &adas[1..] {
        let elsewhere = Home::new()?;
        let (code, said) = elsewhere.log_in(account, PASSWORD)?;
        assert_eq!(code, 0, "{said}");
        assert!(elsewhere.done(&["contact", "list"], "")?.contains("bob"), "{account}");
    }
    Ok(())
}
