//! What two people do with a telephone, on loopback.

use offhook_tests::call::{Call, STEP, hang_up, ring};
use offhook_tests::phone::{Account, Directory, DirectoryPlan, READY, Terminal, TerminalPlan};
use offhook_tests::program::{Event, ProgramError};

use crate::{Outcome, Trio, exit};

fn ended(terminal: &Terminal, reason: &str) -> Result<Event, ProgramError> {
    terminal.process.wait_for(&format!("that the call ended as {reason}"), STEP, |event| {
        event.name() == "ended" && event.text("reason") == reason
    })
}

#[test]
fn texts_keys_hold_and_mute_arrive_during_a_call() -> Outcome {
    let Trio { directory: _directory, mut ada, mut bob } = Trio::start()?;
    Call::place(&mut ada, &mut bob)?;
    ada.process.send(&format!("text {} grüß dich ☎", bob.number()))?;
    let text = bob.process.wait("text", STEP)?;
    assert_eq!(text.text("body"), "grüß dich ☎");
    assert!(!text.text("call").is_empty(), "it belongs to the call: {}", text.value);
    ada.process.wait("text_delivered", STEP)?;
    bob.process.send("dtmf 5#")?;
    assert_eq!(ada.process.wait("dtmf", STEP)?.text("digit"), "5");
    assert_eq!(ada.process.wait("dtmf", STEP)?.text("digit"), "#");
    bob.process.send("hold on")?;
    assert_eq!(ada.process.wait("remote_hold", STEP)?.value["on"], true);
    bob.process.send("hold off")?;
    assert_eq!(ada.process.wait("remote_hold", STEP)?.value["on"], false);
    ada.process.send("mute on")?;
    assert_eq!(bob.process.wait("remote_mute", STEP)?.value["on"], true);
    hang_up(&mut bob, &mut ada)?;
    Ok(())
}

#[test]
fn both_ends_see_the_same_words_to_compare() -> Outcome {
    let Trio { directory: _directory, mut ada, mut bob } = Trio::start()?;
    Call::place(&mut ada, &mut bob)?;
    let mut words = Vec::new();
    for terminal in [&mut ada, &mut bob] {
        terminal.process.send("verify")?;
        let reply =
            terminal.process.wait_for("the words", STEP, |event| event.value.get("words").is_some())?;
        assert_eq!(reply.value["words"].as_array().map(Vec::len), Some(6), "{}", reply.value);
        words.push((reply.value["words"].clone(), reply.text("digits").to_owned()));
    }
    assert_eq!(words[0], words[1]);
    assert_eq!(words[0].1.len(), 20);
    hang_up(&mut ada, &mut bob)?;
    Ok(())
}

#[test]
fn texts_need_no_call() -> Outcome {
    let Trio { directory: _directory, mut ada, bob } = Trio::start()?;
    ada.process.send(&format!("text {} without a call", bob.number()))?;
    let text = bob.process.wait("text", STEP)?;
    assert_eq!((text.text("body"), text.text("call")), ("without a call", ""));
    ada.process.wait("text_delivered", STEP)?;
    Ok(())
}

#[test]
fn declined_cancelled_and_unanswered_calls_are_told_apart() -> Outcome {
    let quick = TerminalPlan { extra: vec!["--ring-timeout".into(), "3".into()], ..TerminalPlan::default() };
    let Trio { directory: _directory, mut ada, mut bob } = Trio::with(quick, TerminalPlan::default())?;
    ring(&mut ada, &mut bob)?;
    bob.process.send("reject")?;
    ended(&ada, "declined")?;
    bob.process.wait("ended", STEP)?;

    ring(&mut ada, &mut bob)?;
    ada.process.send("hangup")?;
    ended(&ada, "cancelled")?;
    ended(&bob, "cancelled")?;

    let (dialled, _) = ring(&mut ada, &mut bob)?;
    let late = ended(&ada, "no_answer")?;
    assert!(late.ms_since(dialled) >= 3_000.0, "it did not ring to the end: {}", late.value);
    bob.process.wait("ended", STEP)?;
    Ok(())
}

#[test]
fn a_third_caller_hears_busy() -> Outcome {
    let alone = TerminalPlan { extra: vec!["--no-call-waiting".into()], ..TerminalPlan::default() };
    let Trio { directory, mut ada, mut bob } = Trio::with(TerminalPlan::default(), alone)?;
    Call::place(&mut ada, &mut bob)?;
    let plan = TerminalPlan { entry: directory.addresses.clone(), ..TerminalPlan::default() };
    let mut cy = Terminal::online(Account::create("cy")?, None, plan)?;
    cy.process.send(&format!("dial {}", bob.number()))?;
    ended(&cy, "busy")?;
    let (code, said) = exit(&cy.account.offhook(None, &["dial", bob.number()])?);
    assert_eq!(code, 10, "{said}");
    hang_up(&mut ada, &mut bob)?;
    Ok(())
}

/// A terminal that is told to end (SIGTERM) hangs up first: the other end does not wait for a time-out.
#[test]
fn a_terminal_that_ends_says_goodbye() -> Outcome {
    let Trio { directory: _directory, mut ada, mut bob } = Trio::start()?;
    Call::place(&mut ada, &mut bob)?;
    assert!(bob.process.terminate(STEP)?.success());
    // A call whose other end falls silent fails; this one was hung up.
    ended(&ada, "hung_up")?;
    Ok(())
}

#[test]
fn two_who_dial_each_other_at_once_meet_in_one_call() -> Outcome {
    let Trio { directory: _directory, mut ada, mut bob } = Trio::start()?;
    let (to_bob, to_ada) = (format!("dial {}", bob.number()), format!("dial {}", ada.number()));
    ada.process.send(&to_bob)?;
    bob.process.send(&to_ada)?;
    let is_connected = |event: &Event| event.name() == "connected";
    // Either the two invites crossed and one call came of it without anybody answering, or one was first and rings.
    let first =
        ada.process.wait_for("a call", STEP, |event| is_connected(event) || event.name() == "incoming")?;
    if !is_connected(&first) {
        ada.process.send("answer")?;
        ada.process.wait_for("a call", STEP, is_connected)?;
    }
    bob.process.wait_for("a call", STEP, is_connected)?;
    ada.process.send("hangup")?;
    ended(&bob, "hung_up")?;
    Ok(())
}

#[test]
fn the_command_line_works_through_the_running_terminal() -> Outcome {
    let auto = TerminalPlan { auto_answer: true, ..TerminalPlan::default() };
    let Trio { directory: _directory, ada, bob } = Trio::with(TerminalPlan::default(), auto)?;
    let status = ada.account.offhook(None, &["status", "--json"])?;
    let (code, said) = exit(&status);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains(r#""line":"online""#), "{said}");

    let (code, said) = exit(&ada.account.offhook(None, &["lookup", bob.number()])?);
    assert_eq!(code, 0, "{said}");
    let (code, said) = exit(&ada.account.offhook(None, &["text", bob.number(), "from", "a", "script"])?);
    assert_eq!(code, 0, "{said}");
    assert_eq!(bob.process.wait("text", STEP)?.text("body"), "from a script");

    let (code, said) = exit(&ada.account.offhook(None, &["contact", "add", bob.number(), "Bob"])?);
    assert_eq!(code, 0, "{said}");
    let (_, said) = exit(&ada.account.offhook(None, &["contact", "list", "--json"])?);
    assert!(said.contains("Bob"), "{said}");

    // A whole call by the contact's name, ended by the callee.
    let caller = std::thread::scope(|scope| {
        let dialling = scope.spawn(|| ada.account.offhook(None, &["dial", "Bob", "--json"]));
        let mut bob = bob;
        bob.process.wait("connected", STEP)?;
        bob.process.send("hangup")?;
        dialling.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    assert_eq!(exit(&caller).0, 0, "{}", exit(&caller).1);
    Ok(())
}

#[test]
fn an_invitation_link_is_all_that_a_caller_needs() -> Outcome {
    let directory = Directory::start(None, DirectoryPlan::default())?;
    let [ada, bob] = Account::create_all(["ada", "bob"])?;
    let plan = TerminalPlan { entry: directory.addresses.clone(), ..TerminalPlan::default() };
    let mut bob = Terminal::online(bob, None, plan)?;
    let (code, link) = exit(&bob.account.offhook(None, &["link", "--no-qr"])?);
    assert_eq!(code, 0, "{link}");
    let link = link.trim();
    assert!(link.starts_with("offhook:") && link.contains("key=") && link.contains("via="), "{link}");
    // No entry point at all: the link carries it.
    let mut ada = Terminal::start(ada, None, TerminalPlan::default())?;
    ada.process.send(&format!("dial {link}"))?;
    bob.process.wait("incoming", STEP)?;
    ada.process.wait("ringing", STEP)?;
    ada.process.send("hangup")?;
    bob.process.wait("ended", STEP)?;
    // And it can be called from now on, through that entry point and not at its own address.
    ada.process.wait("online", READY)?;
    let (code, link) = exit(&ada.account.offhook(None, &["link", "--no-qr"])?);
    assert_eq!(code, 0, "{link}");
    let (_, node) = directory.addresses[0].split_once("/p2p/").ok_or("a directory without a key")?;
    let entries: Vec<&str> = link.trim().split("via=").skip(1).collect();
    assert!(!entries.is_empty() && entries.iter().all(|entry| entry.contains(node)), "{link}");
    ring(&mut bob, &mut ada)?;
    Ok(())
}
