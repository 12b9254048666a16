//! `cargo xtask demo`: a directory and two terminals as separate processes on this machine, one call by number with
//! real speech both ways, step by step with times. Exits with 1 unless both ends heard each other.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use offhook_tests::call::{Call, CallError, STEP, hang_up, ring};
use offhook_tests::phone::{Account, Directory, DirectoryPlan, Terminal, TerminalPlan};
use offhook_tests::program::{Event, ProgramError};
use offhook_tests::speech;

/// How long both speak.
const TALK: Duration = Duration::from_secs(15);
/// The least that counts as having heard each other.
const HEARD: f64 = 0.7;

fn main() -> ExitCode {
    let start = Instant::now();
    let step = |text: &str| println!("{:8.3} s  {text}", start.elapsed().as_secs_f64());
    match demo(&step) {
        Ok(line) => {
            println!("{line}");
            if line.starts_with("demo: ok") { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("{error}");
            println!("demo: failed");
            ExitCode::FAILURE
        }
    }
}

fn demo(step: &dyn Fn(&str)) -> Result<String, CallError> {
    let folder = tempfile::tempdir().map_err(ProgramError::from)?;
    let directory = Directory::start(None, DirectoryPlan::default())?;
    step(&format!("a directory runs at {}", directory.address()));
    let [ada, bob] = Account::create_all(["ada", "bob"])?;
    step(&format!("two accounts are made: ada has the number {}, bob has {}", ada.number, bob.number));

    let entry = directory.addresses.clone();
    let plan = |mic: PathBuf, name: &str| TerminalPlan::speaking(&entry, &mic, &folder.path().join(name));
    let mut ada = Terminal::start(ada, None, plan(speech::a(), "ada-heard.wav"))?;
    let mut bob = Terminal::start(bob, None, plan(speech::b(), "bob-heard.wav"))?;
    for terminal in [&ada, &bob] {
        terminal.process.wait("online", STEP)?;
        step(&format!("{} is on line: its number is published and was read back", terminal.account.id));
    }

    step(&format!("ada dials {}", bob.number()));
    let (dialled, rang) = ring(&mut ada, &mut bob)?;
    step(&format!(
        "bob's terminal rings, {:.0} ms after dialling, and ada is told that it rings",
        ms(dialled, rang)
    ));
    let call = Call::answer(&mut ada, &mut bob, dialled, rang)?;
    step(&format!(
        "bob answers; ada hears the first sound {:.0} ms later; the path is {}",
        call.answer_to_audio_ms(),
        call.path
    ));
    step("both speak for 15 s (LibriVox recordings)");
    send_text(&mut ada, &mut bob, step)?;
    let until = call.talk(&ada, &bob, TALK)?;
    hang_up(&mut ada, &mut bob)?;
    step("ada hangs up, both ends say so");

    let (by_ada, by_bob) = call.judge(&ada, &bob, until)?;
    step(&format!(
        "ada heard bob {:.0} ms, bob heard ada {:.0} ms after it was said",
        by_ada.delay_ms, by_bob.delay_ms
    ));
    let verdict = if by_ada.heard.min(by_bob.heard) >= HEARD { "ok" } else { "failed" };
    Ok(format!(
        "demo: {verdict} dial_to_ring_ms={:.0} answer_to_audio_ms={:.0} path={} heard_a={:.2} heard_b={:.2}",
        call.dial_to_ring_ms(),
        call.answer_to_audio_ms(),
        call.path,
        by_ada.heard,
        by_bob.heard
    ))
}

fn send_text(ada: &mut Terminal, bob: &mut Terminal, step: &dyn Fn(&str)) -> Result<(), CallError> {
    let message = "Do you hear me, Bob?";
    ada.process.send(&format!("text {} {message}", bob.number()))?;
    let is_ours = |event: &Event| event.name() == "text" && event.text("body") == message;
    bob.process.wait_for("the text message", STEP, is_ours)?;
    ada.process.wait("text_delivered", STEP)?;
    step(&format!("ada sends a text, bob reads: {message}"));
    Ok(())
}

fn ms(from_ns: u64, to_ns: u64) -> f64 {
    (to_ns as f64 - from_ns as f64) / 1e6
}
