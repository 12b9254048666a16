//! A number behind which another key turns up than the known one: nothing rings either way until the user confirms.
//!
//! Nobody can make a second key for a number in the time that a test has. So one end is told the wrong key, by an
//! invitation link, and then meets the right one.

use offhook_tests::call::{STEP, hang_up, ring};
use offhook_tests::phone::Account;
use offhook_tests::program::{Event, ProgramError};

use crate::{KNOWN, Outcome, Trio, exit};

/// Fingerprint of an account's key.
fn fingerprint(account: &Account) -> Result<String, Box<dyn std::error::Error>> {
    let (code, said) = exit(&account.offhook(None, &["account", "list", "--json"])?);
    assert_eq!(code, 0, "{said}");
    let value: serde_json::Value = serde_json::from_str(said.trim())?;
    Ok(value["accounts"][0]["fingerprint"].as_str().ok_or("no fingerprint")?.to_owned())
}

/// The number as links carry it.
fn digits(number: &str) -> String {
    number.chars().filter(char::is_ascii_digit).collect()
}

fn is_incoming(event: &Event) -> bool {
    ["incoming", "text"].contains(&event.name())
}

#[test]
fn a_changed_key_is_refused_both_ways_until_it_is_confirmed() -> Outcome {
    let Trio { directory: _directory, mut ada, mut bob } = Trio::start()?;
    let (right, wrong) = (fingerprint(&bob.account)?, fingerprint(&ada.account)?);
    let number = digits(bob.number());
    let link = |key: &str| format!("offhook:{number}?key={key}");
    let (code, said) = exit(&ada.account.offhook(None, &["contact", "add", &link(&wrong), "Bob"])?);
    assert_eq!(code, 0, "{said}");

    // Out: neither a call nor a text leaves.
    let warned = |terminal: &offhook_tests::phone::Terminal| -> Result<(), ProgramError> {
        let warning = terminal.process.wait("key_changed", STEP)?;
        assert_eq!(
            (warning.text("pinned"), warning.text("offered")),
            (&*wrong, &*right),
            "{}",
            warning.value
        );
        Ok(())
    };
    ada.process.send(&format!("dial {}", bob.number()))?;
    warned(&ada)?;
    assert_eq!(ada.process.wait("ended", STEP)?.text("reason"), "key_changed");
    ada.process.send(&format!("text {} are you there?", bob.number()))?;
    warned(&ada)?;
    assert_eq!(ada.process.wait("text_failed", STEP)?.text("reason"), "key_changed");
    let (code, said) = exit(&ada.account.offhook(None, &["dial", "Bob"])?);
    assert_eq!(code, 16, "{said}");
    warned(&ada)?;
    // In: nothing is shown, and the caller is told.
    bob.process.send(&format!("dial {}", ada.number()))?;
    warned(&ada)?;
    let ended = bob.process.wait("ended", STEP)?;
    assert_eq!((ended.text("reason"), ended.text("by")), ("key_changed", "remote"), "{}", ended.value);
    bob.process.send(&format!("text {} it is me", ada.number()))?;
    warned(&ada)?;
    assert_eq!(bob.process.wait("text_failed", STEP)?.text("reason"), "key_changed");
    for terminal in [&ada, &bob] {
        terminal.process.never("a call or a text", std::time::Duration::ZERO, is_incoming)?;
    }

    let (code, said) = exit(&ada.account.offhook(None, &["contact", "confirm", "Bob"])?);
    assert_eq!(code, 0, "{said}");
    let (code, said) = exit(&ada.account.offhook(None, &["contact", "confirm", "Bob"])?);
    assert_ne!(code, 0, "nothing is left to confirm: {said}");
    ring(&mut ada, &mut bob)?;
    bob.process.send("answer")?;
    ada.process.wait("connected", STEP)?;
    bob.process.wait("connected", STEP)?;
    hang_up(&mut ada, &mut bob)?;
    ring(&mut bob, &mut ada)?;
    bob.process.send("hangup")?;
    ada.process.wait("ended", STEP)?;

    // A link with another key than the known one is not dialled, and shows which it is.
    ada.process.forget();
    let (code, said) = exit(&ada.account.offhook(None, &["dial", &link(&wrong)])?);
    assert_eq!(code, 16, "{said}");
    let warning = ada.process.wait("key_changed", STEP)?;
    assert_eq!((warning.text("pinned"), warning.text("offered")), (&*right, &*wrong), "{}", warning.value);
    bob.process.never("a call", KNOWN / 10, is_incoming)?;
    ring(&mut ada, &mut bob)?;
    Ok(())
}
