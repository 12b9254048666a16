//! Messages for those who are not on line: left at a directory or kept, and delivered once, in order, when they are back.

use std::time::{Duration, Instant};

use offhook_tests::call::STEP;
use offhook_tests::phone::{Account, Directory, DirectoryPlan, READY, Terminal, TerminalPlan};

use crate::{Outcome, Trio, exit};

/// Until a mailbox is opened at a directory, and what was left is there.
const PATIENCE: Duration = Duration::from_secs(40);

/// Both are each other's contacts, and have mailboxes.
fn friends() -> Result<Trio, Box<dyn std::error::Error>> {
    // One that is there again at the same place after a kill.
    let port = Some(std::net::UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port());
    let directory = Directory::start(None, DirectoryPlan { port, ..DirectoryPlan::default() })?;
    let [ada, bob] = Account::create_all(["ada", "bob"])?;
    let plan = TerminalPlan { entry: directory.addresses.clone(), ..TerminalPlan::default() };
    let ada = Terminal::start(ada, None, plan.clone())?;
    let bob = Terminal::start(bob, None, plan)?;
    for terminal in [&ada, &bob] {
        terminal.process.wait("online", READY)?;
    }
    let trio = Trio { directory, ada, bob };
    for (one, other, name) in [(&trio.ada, &trio.bob, "Bob"), (&trio.bob, &trio.ada, "Ada")] {
        let (code, said) = exit(&one.account.offhook(None, &["contact", "add", other.number(), name])?);
        assert_eq!(code, 0, "{said}");
    }
    mailboxes(&trio.directory, 2)?;
    Ok(trio)
}

/// Waits until the directory keeps so many mailboxes.
fn mailboxes(directory: &Directory, wanted: usize) -> Outcome {
    let begun = Instant::now();
    loop {
        let metrics = directory.metrics()?;
        if metrics.lines().any(|line| line == format!("offhook_mailboxes {wanted}")) {
            return Ok(());
        }
        assert!(begun.elapsed() < PATIENCE, "{metrics}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn p12_texts_for_somebody_who_is_away_wait_at_the_directory_and_come_once_and_in_order() -> Outcome {
    let Trio { mut directory, mut ada, mut bob } = friends()?;
    bob.process.kill();
    for text in ["first", "second", "third"] {
        ada.process.send(&format!("text Bob {text}"))?;
        let waits = ada.process.wait("text_waits", PATIENCE)?;
        assert_eq!(waits.value["left"], true, "{}", waits.value);
    }
    // It is the directory that keeps them: the sender need not be there, and a kill takes nothing from them.
    ada.process.kill();
    directory.restart(None)?;
    bob.restart(None)?;
    for text in ["first", "second", "third"] {
        let came = bob.process.wait("text", PATIENCE)?;
        assert_eq!((came.text("body"), came.text("name")), (text, "Ada"), "{}", came.value);
    }
    bob.process.never("a text twice", Duration::from_secs(2), |event| event.name() == "text")?;
    ada.restart(None)?;
    for _ in 0..3 {
        ada.process.wait("text_delivered", PATIENCE)?;
    }
    let (code, said) = exit(&ada.account.offhook(None, &["messages", "--with", "Bob"])?);
    assert_eq!((code, said.matches("(delivered)").count()), (0, 3), "{said}");
    let (code, said) = exit(&bob.account.offhook(None, &["messages", "read", "Ada"])?);
    assert_eq!(code, 0, "{said}");
    for _ in 0..3 {
        ada.process.wait("text_read", PATIENCE)?;
    }
    Ok(())
}

#[test]
fn p12_without_a_directory_that_takes_it_a_text_waits_until_the_other_end_is_back() -> Outcome {
    let plan = DirectoryPlan { extra: vec!["--mailbox=false".to_owned()], ..DirectoryPlan::default() };
    let directory = Directory::start(None, plan)?;
    let [ada, bob] = Account::create_all(["ada", "bob"])?;
    let plan = TerminalPlan { entry: directory.addresses.clone(), ..TerminalPlan::default() };
    let mut ada = Terminal::start(ada, None, plan.clone())?;
    let mut bob = Terminal::start(bob, None, plan)?;
    for terminal in [&ada, &bob] {
        terminal.process.wait("online", READY)?;
    }
    bob.process.kill();
    ada.process.send(&format!("text {} hello", bob.number()))?;
    let waits = ada.process.wait("text_waits", PATIENCE)?;
    assert_eq!(waits.value["left"], false, "{}", waits.value);
    // Whoever is killed meanwhile has it still.
    ada.process.kill();
    ada.restart(None)?;
    ada.process.wait("online", READY)?;
    bob.restart(None)?;
    assert_eq!(bob.process.wait("text", 2 * PATIENCE)?.text("body"), "hello");
    ada.process.wait("text_delivered", STEP)?;
    Ok(())
}

#[test]
fn p14_a_voice_message_for_somebody_who_is_away_is_heard_later() -> Outcome {
    let Trio { directory: _directory, ada, mut bob } = friends()?;
    bob.process.kill();
    let folder = tempfile::tempdir()?;
    let (sound, saved) = (folder.path().join("sound.wav"), folder.path().join("saved.opus"));
    tone(&sound)?;
    let leave = ["voicemail", "leave", "Bob", "--file", sound.to_str().unwrap(), "--json"];
    let (code, said) = exit(&ada.account.offhook(None, &leave)?);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("\"left\":true"), "{said}");
    bob.restart(None)?;
    let came = bob.process.wait("voicemail", PATIENCE)?;
    assert_eq!((came.text("name"), came.number("duration_ms")), ("Ada", 40_000), "{}", came.value);
    let number = came.number("voicemail").to_string();
    let (code, said) = exit(&bob.account.offhook(None, &["voicemail", "list"])?);
    assert!(code == 0 && said.contains("new") && said.contains("Ada"), "{said}");
    let save = ["voicemail", "save", &number, saved.to_str().unwrap()];
    let (code, said) = exit(&bob.account.offhook(None, &save)?);
    assert_eq!(code, 0, "{said}");
    assert!(std::fs::read(&saved)?.starts_with(b"OggS"));
    let (code, said) = exit(&bob.account.offhook(None, &["voicemail", "list"])?);
    assert!(code == 0 && !said.contains("new"), "{said}");
    let (code, said) = exit(&bob.account.offhook(None, &["voicemail", "delete", &number])?);
    assert_eq!(code, 0, "{said}");
    let (code, said) =
        exit(&bob.account.offhook(None, &["voicemail", "play", &number, "--speaker", "none"])?);
    assert!(code != 0 && said.contains("no voice message"), "{code} {said}");
    Ok(())
}

/// Forty seconds of something: several pieces of a letter.
fn tone(path: &std::path::Path) -> Outcome {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 48_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut wav = hound::WavWriter::create(path, spec)?;
    let mut noise = 1_u32;
    for n in 0..40 * 48_000_u32 {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let hiss = f64::from(noise >> 16) / 65_536.0 - 0.5;
        wav.write_sample(((f64::from(n) * 0.05).sin() * 6_000.0 + hiss * 9_000.0) as i16)?;
    }
    wav.finalize()?;
    Ok(())
}
