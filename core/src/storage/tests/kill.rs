//! Programs killed (SIGKILL) at random moments: what was acknowledged is there, and nothing is half there.
//!
//! The child is this test program again, started with the name of the test and an environment variable.

use super::*;
use offhook_proto::wire::UnixMillis;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const CHILD: &str = "OFFHOOK_TEST_KILLED_CHILD";

fn child(test: &str, home: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([&format!("storage::tests::kill::{test}"), "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, home)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn as_child() -> Option<PathBuf> {
    std::env::var_os(CHILD).map(PathBuf::from)
}

/// Tells the parent that something is done. Unlike `println!` it is not captured by the test harness.
fn acknowledge(what: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ack {what}").unwrap();
    out.flush().unwrap();
}

fn acknowledged(child: &mut Child) -> Vec<String> {
    let out = BufReader::new(child.stdout.take().unwrap());
    let lines = out.lines().map_while(Result::ok);
    // The test harness's own words may stand before the first one on its line.
    lines.filter_map(|line| line.split_once("ack ").map(|(_, what)| what.to_owned())).collect()
}

/// Until `done`, or for at most 20 seconds.
fn wait_until(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "the child does nothing");
        std::thread::yield_now();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_is_there_wholly_or_not_at_all() {
    if let Some(home) = as_child() {
        let home = Home::open(home).unwrap();
        home.store(draft(0, "ada"), password("pw")).await.unwrap();
        acknowledge("ada");
        return;
    }
    // How long does it take from the first trace of the account to its end, on this machine, now?
    let took = {
        let dir = tempfile::tempdir().unwrap();
        let mut child = child("an_account_is_there_wholly_or_not_at_all", dir.path());
        wait_until(|| writing_began(dir.path()));
        let start = Instant::now();
        child.wait().unwrap();
        start.elapsed()
    };
    let (mut whole, mut none) = (0, 0);
    for _ in 0..30 {
        let dir = tempfile::tempdir().unwrap();
        let mut child = child("an_account_is_there_wholly_or_not_at_all", dir.path());
        wait_until(|| writing_began(dir.path()));
        std::thread::sleep(took.mul_f64(rand::random_range(0.0..1.1)));
        child.kill().unwrap();
        let acked = !acknowledged(&mut child).is_empty();
        child.wait().unwrap();

        let home = Home::open(dir.path()).unwrap();
        match home.accounts().await.unwrap().as_slice() {
            [] => {
                assert!(!acked, "an acknowledged account is gone");
                none += 1;
            }
            [account] => {
                assert!(account.current);
                assert_eq!(home.unlock(&account.id, &password("pw")).await.unwrap().seed(), &[1; 32]);
                let store = home.open_account(&account.id).await.unwrap();
                assert!(store.cert().verify(wall_clock()).is_ok());
                whole += 1;
            }
            more => unreachable!("{more:?}"),
        }
        // Whatever was left behind, the next account can be made, and nothing unfinished stays.
        let before = home.accounts().await.unwrap().len();
        home.store(draft(1, "bob"), password("pw")).await.unwrap();
        assert_eq!(home.accounts().await.unwrap().len(), before + 1);
        assert!(!unfinished(dir.path()), "an unfinished account was left lying about");
    }
    println!("killed: {none} without an account, {whole} with a whole one");
    assert!(none > 0 && whole + none == 30);
}

fn entries(home: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(home.join("accounts")) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}

fn writing_began(home: &Path) -> bool {
    entries(home).iter().any(|name| name != ".lock")
}

fn unfinished(home: &Path) -> bool {
    entries(home).iter().any(|name| name.starts_with(".new-"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p16_a_wipe_that_is_killed_is_finished_by_the_next_program() {
    if let Some(home) = as_child() {
        Home::open(home).unwrap().remove_account(&id("ada")).await.unwrap();
        return;
    }
    const RECORDINGS: usize = 200;
    for _ in 0..5 {
        let (_dir, home) = home_with_ada().await;
        let store = home.open_account(&id("ada")).await.unwrap();
        for n in 0..RECORDINGS {
            std::fs::write(store.data_dir().join(format!("{n}.opus")), [7; 4096]).unwrap();
        }
        store.close().await;
        drop(store);
        let mut child = child("p16_a_wipe_that_is_killed_is_finished_by_the_next_program", home.dir());
        wait_until(|| entries(home.dir()).iter().any(|name| name.starts_with(".gone-")));
        child.kill().unwrap();
        child.wait().unwrap();
        home.sweep_left().await.unwrap();
        assert_eq!(entries(home.dir()), [".lock"]);
        assert_eq!(home.accounts().await.unwrap(), []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_after_the_kill() {
    if let Some(home) = as_child() {
        return write_for_ever(&Home::open(home).unwrap()).await;
    }
    let (_dir, home) = home_with_ada().await;
    let mut written = 0;
    for _ in 0..20 {
        let before = written;
        let mut child = child("what_was_acknowledged_is_there_after_the_kill", home.dir());
        // Some writes, then the kill at a random moment of the ones after them.
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        for _ in 0..rand::random_range(1..20) {
            line.clear();
            while !line.contains("ack ") {
                line.clear();
                assert!(out.read_line(&mut line).unwrap() > 0, "the child ended by itself");
            }
        }
        std::thread::sleep(Duration::from_micros(rand::random_range(0..20_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        let rest: Vec<_> = out.lines().map_while(Result::ok).filter(|line| line.contains("ack ")).collect();
        let last = rest.last().unwrap_or(&line);
        let acked: u64 = last.split("ack ").nth(1).unwrap().trim().parse().unwrap();
        written = check_written(&home, acked).await;
        assert!(written > before, "every child gets further");
    }
    println!("{written} rounds of writes survived 20 kills");
}

/// Round `n` writes a call, a message, a contact with a pinned key, and the number of the round, in this
/// order, and acknowledges it.
async fn write_for_ever(home: &Home) {
    let store = home.open_account(&id("ada")).await.unwrap();
    let first = store.setting("round").await.unwrap().map_or(0, |n| n.parse::<u64>().unwrap());
    for n in first + 1.. {
        let call = CallEntry {
            call: format!("{n:032x}"),
            number: number(n),
            outgoing: true,
            started: UnixMillis(n),
            duration_ms: n,
            reason: EndReason::HungUp,
            summary: None,
        };
        store.history_add(&call).await.unwrap();
        let message = MessageEntry {
            id: format!("{n:032x}"),
            number: number(n),
            body: format!("message {n}"),
            sent: UnixMillis(n),
            state: MessageState::Received,
        };
        store.message_add(&message).await.unwrap();
        store.contact_add(&number(n), &format!("contact {n}"), None).await.unwrap();
        store.pin(&number(n), &someone(40)).await.unwrap();
        store.set_setting("round", Some(&n.to_string())).await.unwrap();
        acknowledge(&n.to_string());
    }
}

/// Opens the account as the next start of the program does and looks for everything up to `acked`.
async fn check_written(home: &Home, acked: u64) -> u64 {
    let store = home.open_account(&id("ada")).await.unwrap();
    let (check,): (String,) = sqlx::query_as("PRAGMA integrity_check").fetch_one(store.pool()).await.unwrap();
    assert_eq!(check, "ok");
    let round: u64 = store.setting("round").await.unwrap().unwrap().parse().unwrap();
    assert!(round >= acked, "round {acked} was acknowledged, {round} is there");
    assert!(round <= acked + 1, "a round is acknowledged before the next begins");
    let contacts = store.contacts().await.unwrap();
    let calls = store.history(u32::MAX).await.unwrap();
    let messages = store.messages(None, u32::MAX).await.unwrap();
    for n in 1..=round {
        assert!(calls.iter().any(|call| call.duration_ms == n), "call {n}");
        assert!(messages.iter().any(|message| message.body == format!("message {n}")), "message {n}");
        let contact = contacts.iter().find(|contact| contact.number == number(n)).expect("contact");
        assert_eq!(contact.fingerprint, Some(someone(40).fingerprint()));
    }
    store.close().await;
    round
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_the_old_or_the_new_one() {
    if let Some(home) = as_child() {
        let home = Home::open(home).unwrap();
        acknowledge("begin");
        home.change_password(&id("ada"), &password("pw one"), &password("pw two")).await.unwrap();
        acknowledge("end");
        return;
    }
    for _ in 0..10 {
        let (_dir, home) = home_with_ada().await;
        let mut child = child("a_password_is_the_old_or_the_new_one", home.dir());
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("ack begin") {
            line.clear();
            assert!(out.read_line(&mut line).unwrap() > 0);
        }
        std::thread::sleep(Duration::from_millis(rand::random_range(0..800)));
        child.kill().unwrap();
        child.wait().unwrap();
        let acked = out.lines().map_while(Result::ok).any(|line| line.contains("ack end"));
        let old = home.unlock(&id("ada"), &password("pw one")).await.is_ok();
        let new = home.unlock(&id("ada"), &password("pw two")).await.is_ok();
        assert!(old != new, "exactly one password opens");
        assert!(new || !acked, "an acknowledged change holds");
    }
}
