//! Accounts of a directory while programs are killed, run side by side, give numbers away and log out.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use offhook_tests::call::{STEP, hang_up};
use offhook_tests::draws::Draws;
use offhook_tests::phone::{
    Account, Directory, DirectoryPlan, PASSWORD, READY, Terminal, TerminalPlan, copy_folder, offhook,
};
use offhook_tests::program::{Event, Process, binary, run};

use crate::accounts::{FRIEND, Home, NAME, OTHER, directory, holds};
use crate::{Outcome, exit};

/// How often a log-in is killed. Half of them while it writes.
const KILLS: u32 = 16;

/// What a running terminal does by itself is done within this time: it waits for quiet, and the machine is busy.
const KEPT_UP: Duration = Duration::from_secs(90);

/// Starts to log in.
fn begin_log_in(home: &Path, account: &str) -> Result<Process, Box<dyn std::error::Error>> {
    let mut command = Command::new(binary("offhook")?);
    command.arg("--home").arg(home).args(["account", "login", account, "--password-stdin"]);
    let mut process = Process::start("a log-in", command, None)?;
    process.send(PASSWORD)?;
    Ok(process)
}

/// What lies in the folder of accounts, but for the lock.
fn entries(home: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(home.join("accounts")) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name != ".lock").collect()
}

fn until(
    what: &str,
    longest: Duration,
    mut holds: impl FnMut() -> Result<bool, Box<dyn std::error::Error>>,
) -> Outcome {
    let end = Instant::now() + longest;
    while !holds()? {
        if Instant::now() > end {
            return Err(format!("{what}: not within {longest:?}").into());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

#[test]
fn p4_a_log_in_that_is_killed_at_any_moment_leaves_no_half_account_and_the_next_one_brings_all_of_it()
-> Outcome {
    let (_directory, ada) = directory()?;
    let first = Home::new()?;
    first.done(&["account", "signup", &ada, "--password-stdin"], &format!("{PASSWORD}\n"))?;
    first.done(&["contact", "add", FRIEND, "bob"], "")?;
    first.done(&["number", "claim", "ada"], "")?;
    first.done(&["account", "backup"], "")?;

    // How long does it take on this machine, now, all in all, and from the first trace of the account on?
    let (whole, writing) = {
        let home = Home::new()?;
        let began = Instant::now();
        let mut login = begin_log_in(home.0.path(), &ada)?;
        until("a trace of the account", STEP, || Ok(!entries(home.0.path()).is_empty()))?;
        let trace = Instant::now();
        assert!(login.wait_exit(STEP)?.success(), "{}", login.transcript());
        (began.elapsed(), trace.elapsed())
    };
    let mut draws = Draws::new(u64::from(std::process::id()));
    let (mut none, mut all) = (0, 0);
    for n in 0..KILLS {
        let home = Home::new()?;
        let folder = home.0.path();
        let mut login = begin_log_in(folder, &ada)?;
        let span = if n % 2 == 0 {
            whole
        } else {
            until("a trace of the account", STEP, || Ok(!entries(folder).is_empty()))?;
            writing
        };
        // The moment of the kill, drawn by lot.
        std::thread::sleep(span.mul_f64(draws.between(0.0, 1.1)));
        login.kill();

        let accounts = home.done(&["account", "list"], "")?;
        if accounts.contains("No accounts") {
            none += 1;
            let (code, said) = home.log_in(&ada, PASSWORD)?;
            assert_eq!(code, 0, "{said}");
        } else {
            all += 1;
        }
        // Whichever log-in it was: all of it is there, once, and nothing unfinished beside it.
        assert!(home.done(&["contact", "list"], "")?.contains("bob"));
        assert!(home.done(&["number", "list"], "")?.contains("ada@directory.example"));
        assert!(home.done(&["account", "status"], "")?.contains("up to date"));
        home.done(&["account", "backup"], "")?;
        assert_eq!(entries(folder).len(), 1, "{:?}", entries(folder));
    }
    println!("killed: {none} without an account, {all} with a whole one");
    assert!(none > 0 && none + all == KILLS);
    let said = first.done(&["account", "backup"], "")?;
    assert!(
        said.contains("was up to date"),
        "the directory's copy is whole, and none of them has put another: {said}"
    );
    Ok(())
}

/// On line with the directory, whose site is named to it.
fn plan(entry: &[String], site: &str) -> TerminalPlan {
    let extra = vec!["--directory-site".to_owned(), format!("{NAME}=http://{site}")];
    TerminalPlan { entry: entry.to_vec(), extra, ..TerminalPlan::default() }
}

/// Exit code and reply of a command in JSON.
fn json(
    account: &Account,
    arguments: &[&str],
) -> Result<(i32, serde_json::Value), Box<dyn std::error::Error>> {
    let output = account.offhook(None, &[&["--json"], arguments].concat())?;
    let reply = output.stdout.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok((output.status.code().unwrap_or(-1), serde_json::from_slice(reply)?))
}

/// Dials: whether it rings, or why not.
fn dial(caller: &mut Terminal, typed: &str) -> Result<Event, Box<dyn std::error::Error>> {
    caller.process.forget();
    caller.process.send(&format!("dial {typed}"))?;
    let is_known = |event: &Event| ["ringing", "ended"].contains(&event.name());
    Ok(caller.process.wait_for("whether it rings", STEP, is_known)?)
}

/// A call that is answered: from then on each knows the other's key.
fn talk(caller: &mut Terminal, typed: &str, callee: &mut Terminal) -> Outcome {
    callee.process.forget();
    let dialled = dial(caller, typed)?;
    assert_eq!(dialled.name(), "ringing", "{}", dialled.value);
    callee.process.wait("incoming", STEP)?;
    callee.process.send("answer")?;
    caller.process.wait("accepted", STEP)?;
    Ok(hang_up(caller, callee)?)
}

/// Dials until it is so: what a terminal publishes arrives a moment later.
fn dial_until(caller: &mut Terminal, typed: &str, is_so: impl Fn(&Event) -> bool) -> Outcome {
    let mut last = String::new();
    let dialled = until("the call", STEP, || {
        let event = dial(caller, typed)?;
        if event.name() == "ringing" {
            caller.process.send("hangup")?;
            caller.process.wait("ended", STEP)?;
        }
        last = event.value.to_string();
        Ok(is_so(&event))
    });
    dialled.map_err(|error| format!("{error}: {last}").into())
}

#[test]
fn p1_a_number_that_is_given_away_rings_at_its_new_owners_and_one_that_is_given_up_at_nobodys() -> Outcome {
    let (directory, _) = directory()?;
    let site = directory.site().ok_or("no site")?;
    let (ada, bob, carol) =
        (Account::sign_up("ada", site)?, Account::sign_up("bob", site)?, Account::create("carol")?);
    let plan = plan(&directory.addresses, site);
    let mut ada = Terminal::online(ada, None, plan.clone())?;
    let mut bob = Terminal::online(bob, None, plan.clone())?;
    let mut carol = Terminal::online(carol, None, plan)?;
    let number = "ada@directory.example";
    let (code, said) = exit(&ada.account.offhook(None, &["number", "claim", "ada"])?);
    assert_eq!(code, 0, "{said}");
    dial_until(&mut carol, number, |event| event.name() == "ringing")?;
    talk(&mut carol, number, &mut ada)?;

    // Whose key is not known cannot be given anything.
    let bobs = bob.number().to_owned();
    let give = ["number", "transfer", "ada", &bobs, "--yes"];
    let (code, reply) = json(&ada.account, &give)?;
    assert!(
        code == 2 && reply["message"].as_str().is_some_and(|text| text.contains("call them once")),
        "{reply}"
    );
    talk(&mut ada, &bobs, &mut bob)?;
    // A directory that was named by the address of its site is home by its own name: that of numbers without one.
    talk(&mut bob, "ada", &mut ada)?;
    // Her terminal may write his key down a moment after the call.
    let mut reply = serde_json::Value::Null;
    let given = until("the gift", STEP, || {
        let (code, said) = json(&ada.account, &give)?;
        reply = said;
        Ok(code == 0)
    });
    given.map_err(|error| format!("{error}: {reply}"))?;
    let transfer = reply["transfer"].as_str().ok_or("no code")?;

    // Without the code it is still somebody else's.
    let (code, said) = exit(&bob.account.offhook(None, &["number", "claim", "ada"])?);
    assert_eq!(code, 1, "{said}");
    let (code, said) = exit(&bob.account.offhook(None, &["number", "claim", "ada", "--transfer", transfer])?);
    assert!(code == 0 && said.contains(number), "{code} {said}");
    let (_, held) = json(&ada.account, &["number", "list"])?;
    assert_eq!(held["numbers"], serde_json::json!([]));

    // Carol has spoken to Ada under the number: that it has moved is told, and rings when she has confirmed it.
    dial_until(&mut carol, number, |event| event.text("reason") == "key_changed")?;
    let (code, said) = exit(&carol.account.offhook(None, &["contact", "confirm", number])?);
    assert_eq!(code, 0, "{said}");
    for process in [&ada.process, &bob.process] {
        process.forget();
    }
    dial_until(&mut carol, number, |event| event.name() == "ringing")?;
    bob.process.wait("incoming", STEP)?;
    ada.process.never("a call", Duration::ZERO, |event| event.name() == "incoming")?;

    let (code, said) = exit(&bob.account.offhook(None, &["number", "release", "ada", "--yes"])?);
    assert_eq!(code, 0, "{said}");
    dial_until(&mut carol, number, |event| ["unreachable", "wrong_number"].contains(&event.text("reason")))?;
    let (code, said) = exit(&ada.account.offhook(None, &["number", "claim", "ada"])?);
    assert_eq!(code, 1, "records of it are still about: {said}");
    Ok(())
}

fn contacts(terminal: &Terminal) -> Result<String, Box<dyn std::error::Error>> {
    Ok(exit(&terminal.account.offhook(None, &["contact", "list"])?).1)
}

/// Until the running terminal has put what has changed here.
fn until_kept(terminal: &Terminal) -> Outcome {
    until("the backup", KEPT_UP, || {
        let (_, status) = json(&terminal.account, &["account", "status"])?;
        Ok(status["directories"][0]["changed_since"] == false)
    })
}

#[test]
fn p16_what_two_running_terminals_of_one_account_change_at_the_same_time_is_kept_by_both() -> Outcome {
    let (directory, ada) = directory()?;
    let site = directory.site().ok_or("no site")?;
    let desk = Account::sign_up("ada", site)?;
    let pocket = Account::log_in("ada", site)?;
    let plan = plan(&directory.addresses, site);
    let mut desk = Terminal::online(desk, None, plan.clone())?;
    let mut pocket = Terminal::online(pocket, None, plan)?;

    desk.process.send(&format!("contact add {FRIEND} bob"))?;
    pocket.process.send(&format!("contact add {OTHER} carol"))?;
    pocket.process.send(r#"{"command":"presence","visible":"verified"}"#)?;
    until("bob", STEP, || Ok(contacts(&desk)?.contains("bob")))?;
    until("carol", STEP, || Ok(contacts(&pocket)?.contains("carol")))?;
    until_kept(&desk)?;
    until_kept(&pocket)?;
    // Whoever was first hears of the other's with the next change.
    desk.process.send(&format!("contact add {FRIEND} bob of the hill"))?;
    until("carol at the desk", KEPT_UP, || Ok(contacts(&desk)?.contains("carol")))?;
    until_kept(&desk)?;
    pocket.process.send(&format!("contact add {OTHER} carol by the sea"))?;
    until("bob in the pocket", KEPT_UP, || Ok(contacts(&pocket)?.contains("bob of the hill")))?;
    until_kept(&pocket)?;

    let third = Home::new()?;
    assert_eq!(third.log_in(&ada, PASSWORD)?.0, 0);
    let all = third.done(&["contact", "list"], "")?;
    assert!(all.contains("bob of the hill") && all.contains("carol by the sea"), "{all}");
    desk.process.forget();
    desk.process.send("presence")?;
    let told = desk.process.wait_for("who is told", STEP, |event| event.text("reply") == "presence")?;
    assert_eq!(told.text("visible"), "verified", "a setting of the other terminal's: {}", told.value);
    Ok(())
}

#[test]
fn p16_logging_out_is_refused_while_something_would_be_lost_and_forced_it_wipes_all() -> Outcome {
    let (mut directory, ada) = directory()?;
    let home = Home::new()?;
    let folder = home.0.path();

    // No directory has it at all.
    home.done(&["account", "new", "eve", "--password-stdin"], &format!("{PASSWORD}\n"))?;
    let (code, said) = home.say(&["account", "logout", "eve", "--yes"], "")?;
    assert!(code == 2 && said.contains("lost for ever") && said.contains("--force"), "{code} {said}");
    assert!(home.done(&["account", "list"], "")?.contains("eve"));
    home.done(&["account", "logout", "eve", "--yes", "--force"], "")?;
    assert!(!holds(folder, b"SQLite format 3")?);

    // A directory has it, but for what was changed while it was locked: a log-out cannot put that there by itself.
    home.done(&["account", "signup", &ada, "--password-stdin", "--locked"], &format!("{PASSWORD}\n"))?;
    home.done(&["contact", "add", FRIEND, "bob-the-secret-friend"], "")?;
    let refused = |home: &Home| -> Outcome {
        let (code, said) = home.say(&["account", "logout", "ada", "--yes"], "")?;
        assert!(
            code == 2 && said.contains("account backup ada") && said.contains("--force"),
            "{code} {said}"
        );
        assert!(home.done(&["contact", "list"], "")?.contains("bob-the-secret-friend"), "it is still there");
        Ok(())
    };
    refused(&home)?;

    // Signing up again puts it there, and leaves a locked account locked.
    home.done(&["account", "signup", &ada, "--password-stdin"], &format!("{PASSWORD}\n"))?;
    let status = home.done(&["--json", "account", "status"], "")?;
    assert!(status.contains(r#""locked":true"#) && status.contains(r#""changed_since":false"#), "{status}");

    // All of it was there once. Whether it still is cannot be told of an unlocked one while its directory is down.
    home.done(&["account", "unlock", "ada", "--password-stdin"], &format!("{PASSWORD}\n"))?;
    directory.process.kill();
    refused(&home)?;
    home.done(&["account", "logout", "ada", "--yes", "--force"], "")?;
    assert!(!holds(folder, b"bob-the-secret-friend")? && !holds(folder, b"SQLite format 3")?);
    assert!(home.done(&["account", "list"], "")?.contains("No accounts"));
    Ok(())
}

#[test]
fn p3_that_a_directory_is_full_and_that_an_operator_has_closed_an_account_is_said() -> Outcome {
    let extra = ["--name", NAME, "--accounts", "1"].map(str::to_owned).to_vec();
    let directory = Directory::start(None, DirectoryPlan { site: true, extra, ..DirectoryPlan::default() })?;
    let site = directory.site().ok_or("no site")?;
    let ada = Account::sign_up("ada", site)?;
    let (home, late) = (Home::new()?, format!("eve@http://{site}"));
    let sign_up = ["--json", "account", "signup", &late, "--password-stdin"];
    let (code, said) = home.say(&sign_up, &format!("{PASSWORD}\n"))?;
    assert!(
        code == 1 && said.contains(r#""code":"full""#) && said.contains("as many accounts"),
        "{code} {said}"
    );
    assert!(
        home.done(&["account", "list"], "")?.contains("No accounts"),
        "what was made for it alone is gone"
    );

    let mut close = Command::new(binary("offhook-directory")?);
    close.args(["users", "close", "ada", "--data"]).arg(directory.data());
    let (code, said) = exit(&run(close, None, "")?);
    assert_eq!(code, 0, "{said}");
    let (code, said) = home.log_in(&format!("ada@http://{site}"), PASSWORD)?;
    assert!(code == 1 && said.contains("closed by the operator"), "{code} {said}");
    let (code, said) = exit(&ada.offhook(None, &["account", "backup"])?);
    assert!(code == 1 && said.contains("closed by the operator"), "{code} {said}");
    let (code, said) = exit(&ada.offhook(None, &["contact", "list"])?);
    assert_eq!(code, 0, "here it is as it was: {said}");
    Ok(())
}

/// A directory that is found at the same place when it is started again.
fn lasting_directory() -> Result<Directory, Box<dyn std::error::Error>> {
    // Both are held until both are known.
    let free = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    let [port, site_port] = [free[0].local_addr()?.port(), free[1].local_addr()?.port()];
    drop(free);
    let extra = ["--name", NAME].map(str::to_owned).to_vec();
    let (port, site_port) = (Some(port), Some(site_port));
    Ok(Directory::start(
        None,
        DirectoryPlan { site: true, port, site_port, extra, ..DirectoryPlan::default() },
    )?)
}

/// Goes back to an older state of the accounts, while the network knows more.
fn put_back(directory: &mut Directory, kept: &Path) -> Outcome {
    directory.process.kill();
    for entry in std::fs::read_dir(directory.data())?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("directory.sqlite") {
            std::fs::remove_file(entry.path())?;
        }
    }
    for entry in std::fs::read_dir(kept)?.flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with("directory.sqlite") {
            std::fs::copy(entry.path(), directory.data().join(name))?;
        }
    }
    copy_folder(&kept.join("blobs"), &directory.data().join("blobs"))?;
    Ok(directory.restart(None)?)
}

#[test]
fn q3_a_directory_with_an_older_backup_than_the_network_knows_of_is_noticed_at_the_log_in_and_can_be_mended()
-> Outcome {
    let mut directory = lasting_directory()?;
    let site = directory.site().ok_or("no site")?.to_owned();
    let ada = format!("ada@http://{site}");
    let mut desk =
        Terminal::online(Account::sign_up("ada", &site)?, None, plan(&directory.addresses, &site))?;
    let kept = tempfile::tempdir()?;
    directory.process.kill();
    copy_folder(directory.data(), kept.path())?;
    directory.restart(None)?;

    desk.process.send(&format!("contact add {FRIEND} bob"))?;
    let version = |terminal: &Terminal| -> Result<u64, Box<dyn std::error::Error>> {
        let (_, status) = json(&terminal.account, &["account", "status"])?;
        Ok(status["directories"][0]["version"].as_u64().unwrap_or(0))
    };
    // Asked to, since what runs by itself waits longer after the outage.
    until("the second backup", STEP, || {
        desk.account.offhook(None, &["account", "backup"])?;
        Ok(version(&desk)? == 2)
    })?;
    put_back(&mut directory, kept.path())?;
    until("the terminal", STEP, || Ok(directory.health(None)?["registered"] == 1))?;

    // As soon as the terminal has told the network of its record again.
    let why = "only version 1 of the backup, but there was a version 2";
    let mut home = Home::new()?;
    until("that it is noticed", STEP, || {
        home = Home::new()?;
        let (code, said) = home.log_in(&ada, PASSWORD)?;
        Ok(code == 1 && said.contains(why) && said.contains("--older"))
    })?;
    assert!(home.done(&["account", "list"], "")?.contains("No accounts"), "nothing is taken");
    let older = ["account", "login", &ada, "--older", "--password-stdin"];
    home.done(&older, &format!("{PASSWORD}\n"))?;
    assert!(!home.done(&["contact", "list"], "")?.contains("bob"), "it is the older one, by the user's word");

    // Who has it still puts it there again.
    let (code, said) = exit(&desk.account.offhook(None, &["account", "backup"])?);
    assert!(code == 1 && said.contains(why) && said.contains("--older"), "{code} {said}");
    let (code, said) = exit(&desk.account.offhook(None, &["account", "backup", "--older"])?);
    assert_eq!(code, 0, "{said}");
    let home = Home::new()?;
    assert_eq!(home.log_in(&ada, PASSWORD)?.0, 0);
    assert!(home.done(&["contact", "list"], "")?.contains("bob"));
    Ok(())
}

#[test]
fn p16_all_accounts_of_a_home_run_in_one_program_that_ends_them_all() -> Outcome {
    let directory = Directory::start(None, DirectoryPlan::default())?;
    let ada = Account::create("ada")?;
    let bob = ada.beside("bob")?;
    let extra = vec!["--all".to_owned()];
    let plan = TerminalPlan { entry: vec![directory.address()], extra, ..TerminalPlan::default() };
    let mut both = Terminal::start(ada, None, plan)?;
    for id in ["ada", "bob"] {
        both.process.wait_for("that it is on line", READY, |event| {
            event.name() == "online" && event.text("account") == id
        })?;
    }
    let command = |words: &[&str]| both.account.offhook(None, words).map(|output| exit(&output));
    let (code, said) = command(&["--account", "bob", "status"])?;
    assert!(code == 0 && said.contains("bob"), "{said}");
    // One calls the other, in the same program.
    let dial = ["--account", "ada", "--json", "dial", "--mic", "none", "--speaker", "none", &bob.number];
    let call = std::thread::scope(|scope| -> Outcome {
        let call = scope.spawn(|| command(&dial));
        both.process
            .wait_for("a call", STEP, |event| event.name() == "incoming" && event.text("account") == "bob")?;
        let (code, said) = command(&["--account", "bob", "reject"])?;
        assert_eq!(code, 0, "{said}");
        let (code, said) = call.join().map_err(|_| "the call panicked")??;
        assert_eq!(code, 11, "declined: {said}");
        Ok(())
    });
    call?;
    assert_eq!(command(&["--account", "ada", "run"])?.0, 8, "it runs here already");

    // One ends by itself, and the other goes on until the program ends.
    let (code, said) = command(&["--account", "ada", "shutdown"])?;
    assert_eq!(code, 0, "{said}");
    let (code, said) = command(&["--account", "bob", "status"])?;
    assert!(code == 0 && said.contains("bob"), "{said}");
    assert!(both.process.terminate(READY)?.success());
    assert_eq!(command(&["--account", "bob", "status"])?.0, 6, "nothing runs any more");
    Ok(())
}

#[test]
fn p4_who_has_logged_in_goes_on_line_without_any_entry_point_and_knows_the_home_directory_by_its_key()
-> Outcome {
    let (directory, ada) = directory()?;
    let site = directory.site().ok_or("no site")?;
    let desk = Terminal::online(Account::sign_up("ada", site)?, None, TerminalPlan::default())?;
    let pocket = Terminal::online(Account::log_in("ada", site)?, None, TerminalPlan::default())?;
    let (_, status) = json(&desk.account, &["account", "status"])?;
    assert_eq!(status["directories"][0]["name"], NAME, "{status}");
    for terminal in [&desk, &pocket] {
        let (code, listed) = json(&terminal.account, &["directory", "list"])?;
        let known = &listed["directories"][0];
        assert_eq!((code, &known["name"], &known["home"]), (0, &NAME.into(), &true.into()), "{listed}");
        assert_eq!(known["key"].as_str().map(str::len), Some(64), "{listed}");
    }
    // By its address it is still meant, too.
    let delete = ["account", "delete", &ada, "--yes", "--password-stdin"];
    let (code, said) = exit(&offhook(pocket.account.home(), None, &delete, &format!("{PASSWORD}\n"))?);
    assert!(code == 0 && said.contains(NAME), "{code} {said}");
    Ok(())
}
