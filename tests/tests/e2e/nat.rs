//! Calls between terminals behind real NATs, over links with delay and loss.

use std::error::Error;
use std::time::{Duration, Instant};

use offhook_tests::call::{Call, STEP, hang_up, ring};
use offhook_tests::lab::{Impairment, Nat, Pair};
use offhook_tests::phone::{Account, Directory, DirectoryPlan, PORT, Terminal, TerminalPlan, two_speakers};
use offhook_tests::program::Event;
use offhook_tests::speech;

use crate::Outcome;

const TALK: Duration = Duration::from_secs(6);

/// It rings for so long, as it does before a person answers.
const RINGS: Duration = Duration::from_millis(700);

/// What counts as having been heard.
const HEARD: f64 = 0.7;

/// The backbone of everything: a number, two NATs, a directory, speech both ways, nothing of it through the directory.
#[test]
fn two_terminals_behind_nats_talk_and_the_directory_carries_none_of_it() -> Outcome {
    let pair = Pair::new("talk", Nat::PortRestricted, Nat::PortRestricted, 25)?;
    let folder = tempfile::tempdir()?;
    let (directory, mut ada, mut bob) = two_speakers(&pair.directory, [&pair.a, &pair.b], folder.path())?;

    let call = Call::place(&mut ada, &mut bob)?;
    assert_eq!(call.path, "direct");
    // Both ends had an address at the relay while it rang, and give it back.
    directory.wait_relay_left(&pair.directory, STEP)?;
    let (public_a, public_b) = (pair.a.public(), pair.b.public());
    let media = || pair.lab.flow_bytes(public_a, public_b) + pair.lab.flow_bytes(public_b, public_a);
    let (before, media_before, began) = (pair.directory.link().counters(), media(), Instant::now());
    // The relay took some seconds of it to be left.
    let until = call.talk(&ada, &bob, TALK * 2)?;
    let through_directory = pair.directory.link().counters().since(&before).bytes();
    let direct = media() - media_before;
    // What the quietest voice needs one way: 50 packets a second with at least 40 bytes of headers and sound each.
    let one_way = began.elapsed().as_secs() * 50 * 40;
    assert!(direct > 2 * one_way, "{direct} bytes went directly");
    // Keep-alives of two connections, what the DHT has to say, and the last checks of addresses at the relay.
    assert!(through_directory < one_way / 2, "{through_directory} bytes went through the directory");
    hang_up(&mut ada, &mut bob)?;
    let (by_ada, by_bob) = call.judge(&ada, &bob, until)?;
    assert!(by_ada.heard >= HEARD, "{by_ada:?}");
    assert!(by_bob.heard >= HEARD, "{by_bob:?}");
    Ok(())
}

/// Whatever a call leaves at its directory for longer than it needs it, be it an address at the relay, whose checks alone
/// are a sixth of what is said, shows here.
#[test]
fn a_settled_direct_call_costs_its_directory_next_to_nothing() -> Outcome {
    let pair = Pair::new("settled", Nat::PortRestricted, Nat::PortRestricted, 25)?;
    let folder = tempfile::tempdir()?;
    let (_directory, mut ada, mut bob) = two_speakers(&pair.directory, [&pair.a, &pair.b], folder.path())?;
    let call = Call::place(&mut ada, &mut bob)?;
    call.talk(&ada, &bob, TALK)?;

    let (a, b) = (pair.a.public(), pair.b.public());
    let between = || pair.lab.flow_bytes(a, b) + pair.lab.flow_bytes(b, a);
    let (directory_before, between_before) = (pair.directory.link().counters(), between());
    call.talk(&ada, &bob, 3 * TALK)?;
    let through_directory = pair.directory.link().counters().since(&directory_before).bytes();
    let direct = between() - between_before;
    let share = through_directory as f64 / direct as f64;
    assert!(share < 0.05, "{through_directory} bytes went through the directory, {direct} directly");
    hang_up(&mut ada, &mut bob)?;
    Ok(())
}

/// Contacts show each other their addresses while it rings, so nothing but the messages themselves has to go through the
/// directory: neither the handshake nor addresses at its relay.
#[test]
fn a_call_between_contacts_is_set_up_with_few_bytes_through_the_directory() -> Outcome {
    let pair = Pair::new("thrift", Nat::PortRestricted, Nat::PortRestricted, 25)?;
    let folder = tempfile::tempdir()?;
    let (_directory, mut ada, mut bob) = two_speakers(&pair.directory, [&pair.a, &pair.b], folder.path())?;
    let through_directory = |ada: &mut Terminal, bob: &mut Terminal| -> Result<u64, Box<dyn Error>> {
        let before = pair.directory.link().counters();
        let (dialled, rang) = ring(ada, bob)?;
        bob.process.never("that it stopped ringing", RINGS, |event| event.name() == "ended")?;
        Call::answer(ada, bob, dialled, rang)?;
        let bytes = pair.directory.link().counters().since(&before).bytes();
        hang_up(ada, bob)?;
        Ok(bytes)
    };
    let strangers = through_directory(&mut ada, &mut bob)?;
    // What contacts tell each other beside calls is another matter.
    for (end, host) in [(&ada, &pair.a), (&bob, &pair.b)] {
        let told = end.account.offhook(Some(host), &["presence", "--visible-to", "nobody"])?;
        assert!(told.status.success(), "{told:?}");
    }
    ada.process.send(&format!("contact add {} Bob", bob.number()))?;
    bob.process.send(&format!("contact add {} Ada", ada.number()))?;
    let contacts = through_directory(&mut ada, &mut bob)?;
    assert!(contacts < 30_000 && contacts * 3 < strangers * 2, "{contacts} bytes, {strangers} of strangers");
    Ok(())
}

/// The connections to the directory hang in the moment of the answer, as they do where many packets get lost. Its courier waits for
/// nothing, and brings what has to be repeated.
#[test]
fn an_answer_comes_by_courier_when_the_directorys_connections_hang() -> Outcome {
    let pair = Pair::new("hang", Nat::PortRestricted, Nat::PortRestricted, 25)?;
    let folder = tempfile::tempdir()?;
    let (directory, mut ada, mut bob) = two_speakers(&pair.directory, [&pair.a, &pair.b], folder.path())?;
    let (dialled, rang) = ring(&mut ada, &mut bob)?;
    pair.directory.stall(PORT)?;
    let call = Call::answer(&mut ada, &mut bob, dialled, rang)?;
    assert_eq!(call.path, "direct");
    assert!(
        directory.metric(&pair.directory, "offhook_courier_packets_total")? > 0,
        "nothing went by courier"
    );
    call.talk(&ada, &bob, TALK)?;
    Ok(())
}

#[test]
fn speech_survives_loss_and_jitter() -> Outcome {
    let pair = Pair::new("loss", Nat::PortRestricted, Nat::PortRestricted, 25)?;
    let folder = tempfile::tempdir()?;
    let (_directory, mut ada, mut bob) = two_speakers(&pair.directory, [&pair.a, &pair.b], folder.path())?;
    let worse = Impairment::delay_ms(25).with_loss(0.03).with_jitter(Duration::from_millis(10), true);
    pair.router_a.link().set(&worse);
    pair.router_b.link().set(&worse);
    let call = Call::place(&mut ada, &mut bob)?;
    let until = call.talk(&ada, &bob, TALK)?;
    hang_up(&mut ada, &mut bob)?;
    let (by_ada, by_bob) = call.judge(&ada, &bob, until)?;
    assert!(by_ada.heard >= HEARD, "{by_ada:?}");
    assert!(by_bob.heard >= HEARD, "{by_bob:?}");
    Ok(())
}

/// Killed without a farewell, a terminal comes back from another network. Its directory must not send calls to where
/// it was: that would cost seconds until somebody notices.
#[test]
fn a_killed_terminal_is_rung_at_once_where_it_comes_back() -> Outcome {
    let pair = Pair::new("moved", Nat::PortRestricted, Nat::PortRestricted, 10)?;
    let elsewhere = pair.lab.router("natc", Nat::PortRestricted, Impairment::delay_ms(10))?.host("c")?;
    let directory = Directory::start(Some(&pair.directory), DirectoryPlan::default())?;
    let [ada, bob] = Account::create_all(["ada", "bob"])?;
    let plan = TerminalPlan { entry: directory.addresses.clone(), ..TerminalPlan::default() };
    let mut ada = Terminal::online(ada, Some(&pair.a), plan.clone())?;
    let mut bob = Terminal::online(bob, Some(&pair.b), plan)?;
    // What the directory has sent to either place.
    let sent = || [&pair.b, &elsewhere].map(|at| pair.lab.flow_bytes(pair.directory.public(), at.public()));
    assert!(sent()[0] > 0 && sent()[1] == 0, "{:?}", sent());
    bob.restart(Some(&elsewhere))?;
    bob.process.wait("online", STEP)?;
    for _ in 0..6 {
        let before = sent();
        ring(&mut ada, &mut bob)?;
        let [strayed, arrived] = [0, 1].map(|at| sent()[at] - before[at]);
        // Whether there is still somebody at the old place may be looked into; a call is far larger than that.
        assert!(strayed * 4 < arrived, "{strayed} bytes went to where it was, {arrived} to where it is");
        bob.process.send("reject")?;
        ada.process.wait("ended", STEP)?;
        bob.process.wait("ended", STEP)?;
    }
    Ok(())
}

/// The connections that it had lead nowhere; answers must not go there. It is not connected with the callee's directory of
/// its own account, but because it called before.
#[test]
fn a_killed_terminal_that_calls_again_hears_at_once() -> Outcome {
    let pair = Pair::new("again", Nat::PortRestricted, Nat::PortRestricted, 10)?;
    let other = pair.lab.host("other", Impairment::delay_ms(10))?;
    let first = Directory::start(Some(&pair.directory), DirectoryPlan::default())?;
    let plan = DirectoryPlan { entry: vec![first.address()], ..DirectoryPlan::default() };
    let second = Directory::start(Some(&other), plan)?;
    let [ada, bob] = Account::create_all(["ada", "bob"])?;
    let plan = |directory: &Directory| TerminalPlan {
        entry: directory.addresses.clone(),
        mic: Some(speech::a()),
        ..TerminalPlan::default()
    };
    let mut bob = Terminal::online(bob, Some(&pair.b), plan(&second))?;
    let mut call = || {
        // One that remembers nothing. It is killed in the end.
        let mut ada = Terminal::online(ada.fresh_copy()?, Some(&pair.a), plan(&first))?;
        ada.until_alone()?;
        let (dialled, rang) = ring(&mut ada, &mut bob)?;
        let call = Call::answer(&mut ada, &mut bob, dialled, rang)?;
        hang_up(&mut ada, &mut bob)?;
        Ok::<_, Box<dyn std::error::Error>>(call)
    };
    let (before, again) = (call()?, call()?);
    let (before, again) = (before.answer_to_audio_ms(), again.answer_to_audio_ms());
    assert!(again < before * 5.0, "{again:.0} ms from the answer to the first sound, after {before:.0} ms");
    Ok(())
}

/// Where the directory has no relay two symmetric NATs can't be pierced: said within 8 s of the answer, and nobody hangs.
#[test]
fn a_call_that_finds_no_path_ends_and_says_so() -> Outcome {
    let pair = Pair::new("nopath", Nat::Symmetric, Nat::Symmetric, 10)?;
    let plan = DirectoryPlan { extra: vec!["--relay=false".to_owned()], ..DirectoryPlan::default() };
    let directory = Directory::start(Some(&pair.directory), plan)?;
    let [ada, bob] = Account::create_all(["ada", "bob"])?;
    let plan = TerminalPlan { entry: directory.addresses.clone(), ..TerminalPlan::default() };
    let mut ada = Terminal::online(ada, Some(&pair.a), plan.clone())?;
    let mut bob = Terminal::online(bob, Some(&pair.b), plan)?;
    ring(&mut ada, &mut bob)?;
    let answered = bob.process.send("answer")?;
    // Whose time-out is first says what failed, and the other hears it.
    for terminal in [&ada, &bob] {
        let ended = terminal.process.wait("ended", STEP)?;
        assert!(ended.ms_since(answered) < 10_000.0, "{}", ended.value);
        assert_eq!(
            (ended.text("reason"), ended.text("what")),
            ("failed", "no_media_path"),
            "{}",
            ended.value
        );
    }
    Ok(())
}

/// A stranger whose call is declined has learnt no address: nothing was sent between the two routers.
#[test]
fn a_declined_stranger_learns_no_address() -> Outcome {
    let pair = Pair::new("declined", Nat::PortRestricted, Nat::PortRestricted, 10)?;
    let directory = Directory::start(Some(&pair.directory), DirectoryPlan::default())?;
    let [ada, bob] = Account::create_all(["ada", "bob"])?;
    let plan = TerminalPlan { entry: directory.addresses.clone(), ..TerminalPlan::default() };
    let mut ada = Terminal::online(ada, Some(&pair.a), plan.clone())?;
    let mut bob = Terminal::online(bob, Some(&pair.b), plan)?;
    ring(&mut ada, &mut bob)?;
    // Long enough for any connectivity check that were under way to have crossed.
    ada.process
        .never("a direct path", Duration::from_secs(1), |event: &Event| event.text("path") == "direct")?;
    bob.process.send("reject")?;
    let ended = ada.process.wait("ended", STEP)?;
    assert_eq!(ended.text("reason"), "declined");
    let (a, b) = (pair.a.public(), pair.b.public());
    assert_eq!((pair.lab.flow_bytes(a, b), pair.lab.flow_bytes(b, a)), (0, 0));
    for (terminal, other) in [(&ada, &pair.b), (&bob, &pair.a)] {
        for address in [other.public().to_string(), other.address().to_string()] {
            assert!(!terminal.process.transcript().contains(&address), "{address} was said");
            assert!(!holds(terminal.account.home(), address.as_bytes())?, "{address} was stored");
        }
    }
    Ok(())
}

/// Whether any file below a folder holds these bytes.
fn holds(folder: &std::path::Path, bytes: &[u8]) -> std::io::Result<bool> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let found = if kind.is_dir() {
            holds(&entry.path(), bytes)?
        } else {
            kind.is_file() && std::fs::read(entry.path())?.windows(bytes.len()).any(|window| window == bytes)
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}
