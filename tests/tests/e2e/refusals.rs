//! What a person mistypes or forgets is told in a sentence, with an exit code for scripts.

use std::time::Instant;

use offhook_tests::call::{STEP, ring};
use offhook_tests::phone::{Account, PASSWORD, Terminal, TerminalPlan, offhook};
use offhook_tests::program::Event;

use crate::{KNOWN, Outcome, Trio, exit};

/// One sentence for people: no debug output, no trace.
fn is_a_sentence(said: &str) -> bool {
    let said = said.trim();
    let looks_internal = ["Error {", "Err(", "panicked", "unwrap", "::", "RUST_BACKTRACE"];
    !said.is_empty() && said.lines().count() <= 3 && !looks_internal.iter().any(|word| said.contains(word))
}

/// The number with another last digit, so that its check digit is wrong.
fn mistyped(number: &str) -> String {
    let (rest, last) = number.split_at(number.len() - 1);
    let wrong = if last == "7" { "8" } else { "7" };
    format!("{rest}{wrong}")
}

#[test]
fn a_wrong_password_is_refused_and_changes_nothing() -> Outcome {
    let account = Account::create("ada")?;
    let change = |old: &str, new: &str| {
        offhook(
            account.home(),
            None,
            &["account", "password", "ada", "--password-stdin"],
            &format!("{old}\n{new}\n"),
        )
    };
    let (code, said) = exit(&change("not this one", "another horse")?);
    assert_eq!(code, 4, "{said}");
    assert!(is_a_sentence(&said), "{said}");
    let (code, said) = exit(&change(PASSWORD, "another horse battery")?);
    assert_eq!(code, 0, "{said}");
    let (code, _) = exit(&change(PASSWORD, "a third horse battery")?);
    assert_eq!(code, 4, "the old password is gone");
    let (code, said) = exit(&change("another horse battery", PASSWORD)?);
    assert_eq!(code, 0, "{said}");
    Ok(())
}

#[test]
fn accounts_are_listed_renamed_and_never_made_twice() -> Outcome {
    let account = Account::create("ada")?;
    let home = account.home();
    let with_password = |arguments: &[&str]| offhook(home, None, arguments, &format!("{PASSWORD}\n"));
    let (code, said) = exit(&with_password(&["account", "new", "ada", "--password-stdin"])?);
    assert_eq!(code, 5, "{said}");
    assert!(is_a_sentence(&said), "{said}");
    let (code, said) = exit(&with_password(&["account", "rename", "ada", "augusta", "--password-stdin"])?);
    assert_eq!(code, 0, "{said}");
    let (_, said) = exit(&account.offhook(None, &["account", "list", "--json"])?);
    assert!(said.contains("augusta") && !said.contains(r#""ada""#), "{said}");
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
    assert!(digits(&said).contains(&digits(&account.number)), "the number stays: {said}");
    Ok(())
}

#[test]
fn bad_input_is_refused_before_anything_is_sent() -> Outcome {
    let account = Account::create("ada")?;
    // No network is there at all: these answers come from the input alone.
    let wrong = mistyped(&account.number);
    for arguments in [
        &["dial", &wrong][..],
        &["dial", ""],
        &["dial", "offhook:"],
        &["lookup", &wrong],
        &["text", &wrong, "hello"],
        &["run", "--entry", "nowhere"],
    ] {
        let start = Instant::now();
        let (code, said) = exit(&account.offhook(None, arguments)?);
        assert_eq!(code, 2, "{arguments:?}: {said}");
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
        assert!(start.elapsed() < KNOWN, "{arguments:?} took {:?}", start.elapsed());
    }
    Ok(())
}

#[test]
fn unknown_and_offline_numbers_are_told_apart_within_five_seconds() -> Outcome {
    let Trio { directory: _directory, mut ada, mut bob } = Trio::start()?;
    // A valid number that nobody has published: an account that never went on line.
    let nobody = Account::create("nobody")?;
    let dialled = ada.process.send(&format!("dial {}", nobody.number))?;
    let ended = ada.process.wait("ended", KNOWN)?;
    assert_eq!(ended.text("reason"), "wrong_number", "{}", ended.value);
    assert!(ended.ms_since(dialled) < 5_000.0);

    bob.process.kill();
    let dialled = ada.process.send(&format!("dial {}", bob.number()))?;
    let ended = ada.process.wait("ended", 2 * KNOWN)?;
    assert_eq!(ended.text("reason"), "unreachable", "{}", ended.value);
    assert!(ended.ms_since(dialled) < 5_000.0, "{} ms", ended.ms_since(dialled));

    let code = |number: &str| -> Result<i32, Box<dyn std::error::Error>> {
        Ok(exit(&ada.account.offhook(None, &["dial", number])?).0)
    };
    assert_eq!(code(&nobody.number)?, 14);
    assert_eq!(code(bob.number())?, 13);
    Ok(())
}

/// Nothing is known of a number then, so nobody may say that it is off line.
#[test]
fn a_number_that_cannot_be_looked_up_is_not_called_unreachable() -> Outcome {
    let Trio { mut directory, mut ada, mut bob } = Trio::start()?;
    // Once, so that Bob's record is in Ada's cache.
    ring(&mut ada, &mut bob)?;
    ada.process.send("hangup")?;
    ada.process.wait("ended", STEP)?;
    let nobody = Account::create("nobody")?;
    directory.process.kill();
    bob.process.kill();
    for number in [bob.number(), &nobody.number] {
        let dialled = ada.process.send(&format!("dial {number}"))?;
        let ended = ada.process.wait("ended", 2 * KNOWN)?;
        assert_eq!((ended.text("reason"), ended.text("what")), ("failed", "lookup"), "{}", ended.value);
        assert!(ended.ms_since(dialled) < 5_000.0, "{}", ended.value);
    }
    ada.process.send(&format!("text {} hello", nobody.number))?;
    let failed = ada.process.wait("text_failed", STEP)?;
    assert_eq!((failed.text("reason"), failed.text("what")), ("failed", "lookup"), "{}", failed.value);
    let (code, said) = exit(&ada.account.offhook(None, &["dial", bob.number()])?);
    assert_eq!(code, 7, "{said}");
    let (code, said) = exit(&ada.account.offhook(None, &["text", &nobody.number, "hello"])?);
    assert_eq!(code, 7, "{said}");
    assert!(is_a_sentence(&said), "{said}");
    Ok(())
}

#[test]
fn a_home_is_used_by_one_terminal_at_a_time() -> Outcome {
    let Trio { directory, ada, bob: _bob } = Trio::start()?;
    let entry = directory.address();
    let (code, said) = exit(&ada.account.offhook(None, &["run", "--entry", &entry, "--no-mdns"])?);
    assert_eq!(code, 8, "{said}");
    assert!(is_a_sentence(&said), "{said}");
    Ok(())
}

#[test]
fn commands_for_a_running_terminal_say_that_none_runs() -> Outcome {
    let account = Account::create("ada")?;
    for arguments in [&["status"][..], &["answer"], &["hangup"]] {
        let (code, said) = exit(&account.offhook(None, arguments)?);
        assert_eq!(code, 6, "{arguments:?}: {said}");
        assert!(is_a_sentence(&said), "{said}");
    }
    Ok(())
}

#[test]
fn what_is_typed_while_it_runs_is_answered_with_a_sentence_too() -> Outcome {
    let mut ada = Terminal::start(Account::create("ada")?, None, TerminalPlan::default())?;
    let mistyped = format!("dial {}", mistyped(&ada.account.number));
    for line in ["dance", "dial", "{\"command\":\"dial\"", "mute perhaps", &mistyped, "answer"] {
        ada.process.send(line)?;
    }
    // Commands are taken in order, so this is the answer to the last of them: a refusal with a code.
    let refusal = |event: &Event| event.value.to_string().contains("no_call");
    ada.process.wait_for("that there is no call to answer", KNOWN, refusal)?;
    let said = ada.process.transcript();
    assert!(said.contains("dance") && said.contains("bad_input"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    assert!(ada.process.is_running());
    Ok(())
}
