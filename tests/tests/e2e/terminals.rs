//! Several terminals of one account.

use std::path::Path;

use offhook_tests::call::{STEP, ring};
use offhook_tests::lab::{Impairment, Lab};
use offhook_tests::phone::{Account, Directory, DirectoryPlan, PASSWORD, Terminal, TerminalPlan, offhook};
use offhook_tests::program::Event;
use sqlx::Connection as _;

use crate::{Outcome, exit};

/// One way between a host and the middle of the network, milliseconds.
const ACCESS_MS: u64 = 60;

/// The same account on another computer: the same keys of the account, a terminal's own in the place of the first
/// one's, and a certificate for those, which takes the password.
fn second_terminal(first: &Account) -> Result<Account, Box<dyn std::error::Error>> {
    let second = first.fresh_copy()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(new_terminal_keys(second.home()))?;
    let renew = ["account", "renew", &second.id, "--password-stdin"];
    let (code, said) = exit(&offhook(second.home(), None, &renew, &format!("{PASSWORD}\n"))?);
    assert_eq!(code, 0, "{said}");
    Ok(second)
}

async fn new_terminal_keys(home: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut accounts = std::fs::read_dir(home.join("accounts"))?.flatten();
    let account = accounts.find(|entry| entry.path().is_dir()).ok_or("no account")?;
    let url = format!("sqlite://{}", account.path().join("account.db").display());
    let mut database = sqlx::SqliteConnection::connect(&url).await?;
    sqlx::query("UPDATE terminal SET terminal_seed = randomblob(32), seal_seed = randomblob(32)")
        .execute(&mut database)
        .await?;
    database.close().await?;
    Ok(())
}

/// What Ada's call, answered or declined at one terminal of Bob's, is at the other.
fn elsewhere(terminal: &Terminal) -> Result<Event, Box<dyn std::error::Error>> {
    let ended = terminal.process.wait("ended", STEP)?;
    assert_eq!(ended.text("by"), "elsewhere", "{}", ended.value);
    Ok(ended)
}

#[test]
fn both_ring_one_answers_and_texts_reach_both() -> Outcome {
    let lab = Lab::new("fork")?;
    let access = Impairment::delay_ms(ACCESS_MS);
    let host = |name| lab.host(name, access.clone());
    let (directory_host, host_a, host_b, host_c) = (host("dir")?, host("a")?, host("b")?, host("c")?);
    let directory = Directory::start(Some(&directory_host), DirectoryPlan::default())?;
    let [ada, desk] = Account::create_all(["ada", "bob"])?;
    let pocket = second_terminal(&desk)?;
    let plan = TerminalPlan { entry: directory.addresses.clone(), ..TerminalPlan::default() };
    let mut ada = Terminal::online(ada, Some(&host_a), plan.clone())?;
    let mut desk = Terminal::online(desk, Some(&host_b), plan.clone())?;
    let mut pocket = Terminal::online(pocket, Some(&host_c), plan)?;

    ring(&mut ada, &mut desk)?;
    pocket.process.wait("incoming", STEP)?;
    let answered = desk.process.send("answer")?;
    ada.process.wait("connected", STEP)?;
    desk.process.wait("connected", STEP)?;
    let told = elsewhere(&pocket)?;
    assert_eq!(told.text("reason"), "answered_elsewhere", "{}", told.value);
    // The accept to the caller, and from there the cancel: one round trip by way of the directory. Twice as much for a
    // machine that has other things to do.
    let round_trip = 2.0 * 4.0 * ACCESS_MS as f64;
    let round_trips = told.ms_since(answered) / round_trip;
    assert!(round_trips < 3.0, "{round_trips:.1} round trips of {round_trip} ms");
    // Within the call a text goes to whom one talks with.
    ada.process.send(&format!("text {} here", desk.number()))?;
    assert_eq!(desk.process.wait("text", STEP)?.text("body"), "here");
    ada.process.wait("text_delivered", STEP)?;
    desk.process.send("hangup")?;
    ada.process.wait("ended", STEP)?;
    desk.process.wait("ended", STEP)?;

    // Outside of it, to all; the sender hears of the first that has it.
    ada.process.send(&format!("text {} everywhere", desk.number()))?;
    let texts = [desk.process.wait("text", STEP)?, pocket.process.wait("text", STEP)?];
    assert_eq!(texts.each_ref().map(|text| text.text("body")), ["everywhere"; 2]);
    assert_eq!(texts[0].text("id"), texts[1].text("id"));
    ada.process.wait("text_delivered", STEP)?;

    // A decline holds for both.
    ring(&mut ada, &mut desk)?;
    pocket.process.wait("incoming", STEP)?;
    pocket.process.send("reject")?;
    assert_eq!(ada.process.wait("ended", STEP)?.text("reason"), "declined");
    assert_eq!(elsewhere(&desk)?.text("reason"), "declined");
    Ok(())
}

/// The key of the terminal that is on line beside this one.
fn other_terminal(of: &Terminal) -> Result<String, Box<dyn std::error::Error>> {
    let (code, said) = exit(&of.account.offhook(None, &["terminals", "list", "--json"])?);
    assert_eq!(code, 0, "{said}");
    let listed: serde_json::Value = serde_json::from_str(said.trim())?;
    let terminals = listed["terminals"].as_array().ok_or("no terminals")?;
    let other = terminals.iter().find(|one| one["this"] == false && one["online"] == true);
    Ok(other.and_then(|one| one["terminal"].as_str()).ok_or("no other terminal")?.to_owned())
}

#[test]
fn q5_a_terminal_that_was_put_out_is_out_at_once_with_a_copy_of_its_files_too() -> Outcome {
    let directory = Directory::start(None, DirectoryPlan::default())?;
    let [ada, desk] = Account::create_all(["ada", "bob"])?;
    let pocket = second_terminal(&desk)?;
    let stolen = pocket.fresh_copy()?;
    let plan = TerminalPlan { entry: directory.addresses.clone(), ..TerminalPlan::default() };
    let mut ada = Terminal::online(ada, None, plan.clone())?;
    let mut desk = Terminal::online(desk, None, plan.clone())?;
    let pocket = Terminal::online(pocket, None, plan.clone())?;
    // Ada knows both, and keeps their records.
    ring(&mut ada, &mut desk)?;
    pocket.process.wait("incoming", STEP)?;
    ada.process.send("hangup")?;
    for terminal in [&ada, &desk, &pocket] {
        terminal.process.wait("ended", STEP)?;
    }
    let key = other_terminal(&desk)?;
    drop(pocket);
    let revoke = ["terminals", "revoke", &key[..16], "--password-stdin"];
    let (code, said) = exit(&offhook(desk.account.home(), None, &revoke, &format!("{PASSWORD}\n"))?);
    assert_eq!(code, 0, "{said}");
    let (code, said) = exit(&offhook(desk.account.home(), None, &revoke, &format!("{PASSWORD}\n"))?);
    assert_ne!(code, 0, "it is out already: {said}");

    // Nobody keeps the copy's record, and nobody who knows takes its calls. Of a caller with an older record it may ring until that has
    // found the newer one.
    let mut stolen = Terminal::start(stolen, None, plan)?;
    ring(&mut ada, &mut desk)?;
    ada.process.send("hangup")?;
    ada.process.wait("ended", STEP)?;
    desk.process.wait("ended", STEP)?;
    stolen.process.send(&format!("dial {}", ada.number()))?;
    let ended = stolen.process.wait("ended", STEP)?;
    assert_eq!(ended.text("reason"), "blocked", "{}", ended.value);
    Ok(())
}
