//! Nothing stored is lost or torn by `kill -9`, whenever it comes.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use ::offhook::storage::{Home, MessageState};
use offhook_tests::call::STEP;
use offhook_tests::phone::{
    Account, Directory, DirectoryPlan, PASSWORD, READY, Terminal, TerminalPlan, offhook,
};
use offhook_tests::program::{Event, Process, binary};

use crate::{Outcome, Trio, exit};

/// Moments at which programs are killed, spread over what their work takes.
fn moments(count: u32, longest: Duration) -> impl Iterator<Item = Duration> {
    (0..count).map(move |i| longest * i / count)
}

/// Starts `offhook`, tells it passwords, kills it after this time.
fn killed_after(home: &std::path::Path, arguments: &[&str], stdin: &str, after: Duration) -> Outcome {
    let mut command = Command::new(binary("offhook")?);
    command.arg("--home").arg(home).args(arguments).stdin(Stdio::piped());
    let mut process = Process::start("offhook", command, None)?;
    // It may have been quick or refuse its input: both are ends like any other here.
    let _ = process.send(stdin.trim_end());
    process.close_stdin();
    // Time is the input of this test: the kill has to come at any moment of the work.
    std::thread::sleep(after);
    process.kill();
    Ok(())
}

#[test]
fn an_account_survives_being_killed_while_its_password_changes() -> Outcome {
    let account = Account::create("ada")?;
    let change = ["account", "password", "ada", "--password-stdin"];
    let mut current = PASSWORD.to_owned();
    let time = {
        let start = std::time::Instant::now();
        let (code, said) =
            exit(&offhook(account.home(), None, &change, &format!("{current}\nfirst change now\n"))?);
        assert_eq!(code, 0, "{said}");
        current = "first change now".to_owned();
        start.elapsed()
    };
    for (round, after) in moments(24, time + time / 4).enumerate() {
        let next = format!("password number {round}");
        killed_after(account.home(), &change, &format!("{current}\n{next}\n"), after)?;
        // Exactly one of the two opens the account; never none, never both.
        let opens = |password: &str| -> Result<bool, Box<dyn std::error::Error>> {
            let (code, said) =
                exit(&offhook(account.home(), None, &change, &format!("{password}\n{password}\n"))?);
            assert!([0, 4].contains(&code), "after {after:?}: {code} {said}");
            Ok(code == 0)
        };
        let (old, new) = (opens(&current)?, opens(&next)?);
        assert!(old != new, "after {after:?}: old password {old}, new password {new}");
        if new {
            current = next;
        }
        let (code, said) = exit(&account.offhook(None, &["account", "list", "--json"])?);
        assert_eq!(code, 0, "after {after:?}: {said}");
        assert!(said.contains("ada"), "after {after:?}: {said}");
    }
    Ok(())
}

#[test]
fn a_home_survives_being_killed_while_an_account_is_made() -> Outcome {
    let account = Account::create("ada")?;
    let arguments = ["account", "new", "bob", "--password-stdin"];
    for after in moments(12, Duration::from_secs(3)) {
        killed_after(account.home(), &arguments, PASSWORD, after)?;
        let (code, said) = exit(&account.offhook(None, &["account", "list", "--json"])?);
        assert_eq!(code, 0, "after {after:?}: {said}");
        assert!(said.contains("ada"), "after {after:?}: {said}");
        if said.contains("bob") {
            // It is listed, so it is whole.
            let change = ["account", "password", "bob", "--password-stdin"];
            let same = format!("{PASSWORD}\n{PASSWORD}\n");
            let (code, said) = exit(&offhook(account.home(), None, &change, &same)?);
            assert_eq!(code, 0, "after {after:?}: {said}");
            return Ok(());
        }
    }
    // Never finished in time on this machine: then it must work undisturbed.
    let (code, said) = exit(&offhook(account.home(), None, &arguments, &format!("{PASSWORD}\n"))?);
    assert_eq!(code, 0, "{said}");
    Ok(())
}

/// Contacts and settings of a terminal that is killed while it runs, again and again.
#[test]
fn a_terminal_keeps_its_contacts_through_kills() -> Outcome {
    let directory = Directory::start(None, DirectoryPlan::default())?;
    let plan = TerminalPlan { entry: directory.addresses.clone(), ..TerminalPlan::default() };
    let [ada, bob] = Account::create_all(["ada", "bob"])?;
    let mut ada = Terminal::start(ada, None, plan)?;
    for round in 0..5 {
        let name = format!("Bob {round}");
        let (code, said) = exit(&wait_until_it_takes(&ada, &["contact", "add", &bob.number, &name])?);
        assert_eq!(code, 0, "{said}");
        ada.restart(None)?;
        let (code, said) = exit(&wait_until_it_takes(&ada, &["contact", "list", "--json"])?);
        assert_eq!(code, 0, "{said}");
        assert!(said.contains(&name), "{name} is gone: {said}");
    }
    Ok(())
}

/// What a terminal has said of texts so far: how often each was shown.
fn shown(terminal: &Terminal, times: &mut BTreeMap<String, usize>) {
    while let Ok(text) = terminal.process.wait("text", Duration::ZERO) {
        *times.entry(text.text("id").to_owned()).or_default() += 1;
    }
}

/// Whoever is told that a text was delivered can rely on it, whenever the receiver's power fails.
#[test]
fn an_acknowledged_text_survives_the_receivers_death() -> Outcome {
    let Trio { directory: _directory, mut ada, mut bob } = Trio::start()?;
    let (mut delivered, mut failed, mut times) = (Vec::new(), 0, BTreeMap::new());
    let at_once = 4;
    for (round, after) in moments(8, Duration::from_millis(160)).enumerate() {
        for n in 0..at_once {
            ada.process.send(&format!("text {} round {round}, text {n}", bob.number()))?;
        }
        // Time is the input of this test: the kill has to come at any moment of the work.
        std::thread::sleep(after);
        bob.process.kill();
        shown(&bob, &mut times);
        bob.restart(None)?;
        bob.process.wait("online", READY)?;
        for _ in 0..at_once {
            let is_result = |event: &Event| ["text_delivered", "text_failed"].contains(&event.name());
            let result = ada.process.wait_for("what became of a text", STEP, is_result)?;
            match result.name() {
                "text_delivered" => delivered.push(result.text("id").to_owned()),
                _ => failed += 1,
            }
        }
    }
    bob.process.terminate(STEP)?;
    shown(&bob, &mut times);
    println!("{} texts delivered, {failed} failed, {} shown", delivered.len(), times.len());
    let kept = received(bob.account.home())?;
    for id in &delivered {
        assert_eq!(kept.iter().filter(|kept| *kept == id).count(), 1, "{id} was acknowledged");
    }
    assert!(times.values().all(|times| *times == 1), "a text was shown twice: {times:?}");
    assert!(delivered.len() >= 8, "most of the time the receiver is there");
    Ok(())
}

/// Ids of the texts that an account has received, from its file.
fn received(home: &std::path::Path) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let home = Home::open(home)?;
        let store = home.open_account(&home.current().await?).await?;
        let messages = store.messages(None, 10_000).await?;
        store.close().await;
        let received = messages.into_iter().filter(|message| message.state == MessageState::Received);
        Ok(received.map(|message| message.id).collect())
    })
}

/// A terminal that has just been started opens its control socket a moment later.
fn wait_until_it_takes(
    terminal: &Terminal,
    arguments: &[&str],
) -> Result<std::process::Output, Box<dyn std::error::Error>> {
    let end = std::time::Instant::now() + STEP;
    loop {
        let output = terminal.account.offhook(None, arguments)?;
        if output.status.success() || std::time::Instant::now() > end {
            return Ok(output);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
