//! The network without its comfortable parts: no directory, dead directories, no entry point, a LAN alone.

use std::time::{Duration, Instant};

use offhook_tests::call::{Call, STEP, hang_up, ring, ring_in_the_end};
use offhook_tests::lab::{Impairment, Lab, Nat, Pair};
use offhook_tests::phone::{Account, Directory, DirectoryPlan, READY, Terminal, TerminalPlan};
use offhook_tests::program::ProgramError;
use offhook_tests::speech;

use crate::{KNOWN, NOTICED, Outcome};

/// Three terminals, one of them publicly reachable and known to the others; nobody runs a directory.
#[test]
fn terminals_call_each_other_without_any_directory() -> Outcome {
    let lab = Lab::new("nodir")?;
    let access = Impairment::delay_ms(10);
    let public = lab.host("cy", access.clone())?;
    let home_a = lab.router("nata", Nat::PortRestricted, access.clone())?.host("a")?;
    let home_b = lab.router("natb", Nat::PortRestricted, access)?.host("b")?;
    let [ada, bob, cy] = Account::create_all(["ada", "bob", "cy"])?;

    let address = format!("/ip4/{}/udp/4001/quic-v1", public.address());
    let extra =
        ["--serve", "always", "--listen", &address, "--external", &address].map(str::to_owned).to_vec();
    let cy = Terminal::start(cy, Some(&public), TerminalPlan { extra, ..TerminalPlan::default() })?;
    let (code, link) = crate::exit(&wait_for_link(&cy, &public)?);
    assert_eq!(code, 0, "{link}");
    let via = link.trim().split("via=").nth(1).and_then(|rest| rest.split('&').next());
    let entry = percent_decoded(via.ok_or_else(|| format!("the link names no entry point: {link}"))?);
    assert!(entry.contains("/p2p/"), "{entry}");

    let plan = TerminalPlan { entry: vec![entry], ..TerminalPlan::default() };
    let mut ada = Terminal::online(ada, Some(&home_a), plan.clone())?;
    let mut bob = Terminal::online(bob, Some(&home_b), plan)?;
    let call = Call::place(&mut ada, &mut bob)?;
    assert_eq!(call.path, "direct");
    hang_up(&mut ada, &mut bob)?;
    Ok(())
}

/// The link names an entry point as soon as the terminal listens.
fn wait_for_link(
    terminal: &Terminal,
    host: &offhook_tests::lab::Host,
) -> Result<std::process::Output, Box<dyn std::error::Error>> {
    let end = Instant::now() + READY;
    loop {
        let output = terminal.account.offhook(Some(host), &["link", "--no-qr"])?;
        let complete = String::from_utf8_lossy(&output.stdout).contains("via=");
        if complete || Instant::now() > end {
            return Ok(output);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn percent_decoded(text: &str) -> String {
    text.replace("%2F", "/").replace("%2f", "/")
}

#[test]
fn a_lan_without_internet_is_enough() -> Outcome {
    call_on_lan("lan", None, vec!["--allow-private".to_owned()])
}

/// What is configured does not answer. It is a public address, so private ones don't count, but those of neighbours do.
#[test]
fn a_lan_is_enough_when_the_configured_directory_is_out_of_reach() -> Outcome {
    let key = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    call_on_lan("lanoff", Some(format!("/ip4/11.201.1.2/udp/4001/quic-v1/p2p/{key}")), Vec::new())
}

fn call_on_lan(name: &str, entry: Option<String>, extra: Vec<String>) -> Outcome {
    let lab = Lab::new(name)?;
    let router = lab.router("home", Nat::PortRestricted, Impairment::cut())?;
    let (host_a, host_b) = (router.host("a")?, router.host("b")?);
    let [ada, bob] = Account::create_all(["ada", "bob"])?;
    let alone = entry.is_none();
    let plan =
        TerminalPlan { mdns: true, entry: entry.into_iter().collect(), extra, ..TerminalPlan::default() };
    let mut ada = Terminal::start(ada, Some(&host_a), plan.clone())?;
    let mut bob = Terminal::start(bob, Some(&host_b), plan)?;
    let (dialled, rang) = if alone {
        // Who knows no entry point is on line as soon as somebody is near, who asks it itself.
        for terminal in [&ada, &bob] {
            terminal.process.wait("online", READY)?;
        }
        ring(&mut ada, &mut bob)?
    } else {
        // They are not, for calls from the internet; but they hear of each other within seconds.
        dial_until_it_rings(&mut ada, &mut bob)?
    };
    let call = Call::answer(&mut ada, &mut bob, dialled, rang)?;
    assert_eq!(call.path, "direct");
    hang_up(&mut ada, &mut bob)?;
    Ok(())
}

/// Answers when it was dialled and when it rang.
fn dial_until_it_rings(ada: &mut Terminal, bob: &mut Terminal) -> Result<(u64, u64), ProgramError> {
    let end = Instant::now() + READY;
    loop {
        let dialled = ada.process.send(&format!("dial {}", bob.number()))?;
        match bob.process.wait("incoming", KNOWN) {
            Ok(incoming) => return Ok((dialled, incoming.t_ns)),
            Err(error) if Instant::now() > end => return Err(error),
            Err(_) => drop(ada.process.wait("ended", STEP)?),
        }
    }
}

#[test]
fn a_call_goes_on_when_the_directory_dies() -> Outcome {
    let pair = Pair::new("dies", Nat::PortRestricted, Nat::PortRestricted, 10)?;
    let folder = tempfile::tempdir()?;
    let mut directory = Directory::start(Some(&pair.directory), DirectoryPlan::default())?;
    let [ada, bob] = Account::create_all(["ada", "bob"])?;
    let entry = directory.addresses.clone();
    let plan =
        |mic: std::path::PathBuf, name: &str| TerminalPlan::speaking(&entry, &mic, &folder.path().join(name));
    let mut ada = Terminal::online(ada, Some(&pair.a), plan(speech::a(), "ada.wav"))?;
    let mut bob = Terminal::online(bob, Some(&pair.b), plan(speech::b(), "bob.wav"))?;
    let call = Call::place(&mut ada, &mut bob)?;
    directory.process.kill();
    let until = call.talk(&ada, &bob, Duration::from_secs(6))?;
    // Signalling goes on over the media connection: both ends still notice the end of the call.
    hang_up(&mut ada, &mut bob)?;
    let (by_ada, by_bob) = call.judge(&ada, &bob, until)?;
    assert!(by_ada.heard >= 0.7 && by_bob.heard >= 0.7, "{by_ada:?} {by_bob:?}");
    Ok(())
}

/// It comes back while they talk: neither the call nor the next one suffers.
#[test]
fn a_call_outlives_a_restart_of_the_directory_and_the_next_one_rings() -> Outcome {
    let pair = Pair::new("restarts", Nat::PortRestricted, Nat::PortRestricted, 10)?;
    let folder = tempfile::tempdir()?;
    let mut directory = Directory::start(Some(&pair.directory), DirectoryPlan::default())?;
    let [ada, bob] = Account::create_all(["ada", "bob"])?;
    let entry = directory.addresses.clone();
    let plan =
        |mic: std::path::PathBuf, name: &str| TerminalPlan::speaking(&entry, &mic, &folder.path().join(name));
    let mut ada = Terminal::online(ada, Some(&pair.a), plan(speech::a(), "ada.wav"))?;
    let mut bob = Terminal::online(bob, Some(&pair.b), plan(speech::b(), "bob.wav"))?;
    let call = Call::place(&mut ada, &mut bob)?;
    directory.restart(Some(&pair.directory))?;
    let until = call.talk(&ada, &bob, Duration::from_secs(6))?;
    hang_up(&mut ada, &mut bob)?;
    let (by_ada, by_bob) = call.judge(&ada, &bob, until)?;
    assert!(by_ada.heard >= 0.7 && by_bob.heard >= 0.7, "{by_ada:?} {by_bob:?}");
    ring_in_the_end(&mut ada, &mut bob, NOTICED)?;
    Ok(())
}

/// What is left of the network is a terminal that serves it; the others called it while there was a directory.
#[test]
fn a_network_without_any_directory_is_entered_again_after_a_restart() -> Outcome {
    let lab = Lab::new("gone")?;
    let access = Impairment::delay_ms(10);
    let (directory_host, public) = (lab.host("dir", access.clone())?, lab.host("cy", access.clone())?);
    let home_a = lab.router("nata", Nat::PortRestricted, access.clone())?.host("a")?;
    let home_b = lab.router("natb", Nat::PortRestricted, access)?.host("b")?;
    let mut directory = Directory::start(Some(&directory_host), DirectoryPlan::default())?;
    let [ada, bob, cy] = Account::create_all(["ada", "bob", "cy"])?;
    let address = format!("/ip4/{}/udp/4001/quic-v1", public.address());
    let extra =
        ["--serve", "always", "--listen", &address, "--external", &address].map(str::to_owned).to_vec();
    let plan = TerminalPlan { entry: directory.addresses.clone(), ..TerminalPlan::default() };
    let mut cy = Terminal::online(cy, Some(&public), TerminalPlan { extra, ..plan.clone() })?;
    let mut ada = Terminal::online(ada, Some(&home_a), plan.clone())?;
    let mut bob = Terminal::online(bob, Some(&home_b), plan)?;
    for terminal in [&mut ada, &mut bob] {
        ring(terminal, &mut cy)?;
        terminal.process.send("hangup")?;
        terminal.process.wait("ended", STEP)?;
        cy.process.wait("ended", STEP)?;
    }
    directory.process.kill();
    for (terminal, host) in [(&mut ada, &home_a), (&mut bob, &home_b)] {
        terminal.plan.entry.clear();
        terminal.process.terminate(STEP)?;
        terminal.restart(Some(host))?;
    }
    for terminal in [&ada, &bob] {
        terminal.process.wait("online", READY)?;
    }
    ring(&mut ada, &mut bob)?;
    Ok(())
}

/// Three directories; the one that both ends came in through dies before the call.
#[test]
fn a_number_is_found_through_the_dht_when_its_directory_is_dead() -> Outcome {
    let lab = Lab::new("dead")?;
    let access = Impairment::delay_ms(5);
    let hosts =
        [lab.host("d0", access.clone())?, lab.host("d1", access.clone())?, lab.host("d2", access.clone())?];
    let mut first = Directory::start(Some(&hosts[0]), DirectoryPlan::default())?;
    let known = DirectoryPlan { entry: vec![first.address()], ..DirectoryPlan::default() };
    let second = Directory::start(Some(&hosts[1]), known.clone())?;
    let third = Directory::start(Some(&hosts[2]), known)?;
    let [ada, bob] = Account::create_all(["ada", "bob"])?;
    let plan = |other: &Directory| TerminalPlan {
        entry: vec![first.address(), other.address()],
        ..TerminalPlan::default()
    };
    let (plan_a, plan_b) = (plan(&second), plan(&third));
    let home_a = lab.router("nata", Nat::PortRestricted, access.clone())?.host("a")?;
    let home_b = lab.router("natb", Nat::PortRestricted, access)?.host("b")?;
    let mut ada = Terminal::online(ada, Some(&home_a), plan_a)?;
    let mut bob = Terminal::online(bob, Some(&home_b), plan_b)?;
    bob.until_registered(2)?;
    first.process.kill();
    ring(&mut ada, &mut bob)?;
    Ok(())
}

#[test]
fn a_terminal_remembers_how_to_get_in() -> Outcome {
    let directory = Directory::start(None, DirectoryPlan::default())?;
    let plan = TerminalPlan { entry: directory.addresses.clone(), ..TerminalPlan::default() };
    let mut ada = Terminal::online(Account::create("ada")?, None, plan)?;
    ada.process.terminate(STEP)?;
    ada.plan.entry.clear();
    ada.restart(None)?;
    ada.process.wait("online", READY)?;
    Ok(())
}

/// Its only entry point is remembered from earlier and away for longer than any first attempts.
#[test]
fn a_terminal_waits_for_the_only_node_it_remembers() -> Outcome {
    let pair = Pair::new("waits", Nat::PortRestricted, Nat::PortRestricted, 5)?;
    let mut directory = Directory::start(Some(&pair.directory), DirectoryPlan::default())?;
    let plan = TerminalPlan { entry: directory.addresses.clone(), ..TerminalPlan::default() };
    let mut ada = Terminal::online(Account::create("ada")?, Some(&pair.a), plan)?;
    ada.process.terminate(STEP)?;
    ada.plan.entry.clear();
    ada.restart(Some(&pair.a))?;
    ada.process.wait("online", READY)?;
    directory.process.terminate(STEP)?;
    ada.process.wait("offline", READY)?;
    let is_online = |event: &offhook_tests::program::Event| event.name() == "online";
    ada.process.never("that it is on line by itself", Duration::from_secs(30), is_online)?;
    directory.restart(Some(&pair.directory))?;
    ada.process.wait("online", 2 * READY)?;
    // Its link names where it is reached: through the directory, not at an address of its own.
    let (code, link) = crate::exit(&ada.account.offhook(Some(&pair.a), &["link", "--no-qr"])?);
    let (_, node) = directory.addresses[0].split_once("/p2p/").ok_or("a directory without a key")?;
    let entries: Vec<&str> = link.trim().split("via=").skip(1).collect();
    assert!(code == 0 && !entries.is_empty() && entries.iter().all(|entry| entry.contains(node)), "{link}");
    Ok(())
}

/// A directory that is told to end (SIGTERM) closes its connections: terminals need not wait for a time-out (60 s).
#[test]
fn a_directory_that_ends_says_goodbye() -> Outcome {
    let mut directory = Directory::start(None, DirectoryPlan::default())?;
    let plan = TerminalPlan { entry: directory.addresses.clone(), ..TerminalPlan::default() };
    let ada = Terminal::online(Account::create("ada")?, None, plan)?;
    assert!(directory.process.terminate(STEP)?.success());
    ada.process.wait("offline", STEP)?;
    Ok(())
}

#[test]
fn a_terminal_comes_back_when_its_directory_does() -> Outcome {
    let pair = Pair::new("back", Nat::PortRestricted, Nat::PortRestricted, 5)?;
    let mut directory = Directory::start(Some(&pair.directory), DirectoryPlan::default())?;
    let [ada, bob] = Account::create_all(["ada", "bob"])?;
    let plan = TerminalPlan { entry: directory.addresses.clone(), ..TerminalPlan::default() };
    let mut ada = Terminal::online(ada, Some(&pair.a), plan.clone())?;
    let mut bob = Terminal::online(bob, Some(&pair.b), plan)?;
    let before = directory.address();
    directory.process.kill();
    // Nobody says so, but probes are no longer answered.
    bob.process.wait("offline", NOTICED)?;
    ada.process.wait("offline", NOTICED)?;
    directory.restart(Some(&pair.directory))?;
    assert_eq!(directory.address(), before, "a directory keeps its key and address");
    bob.process.wait("online", READY)?;
    ada.process.wait("online", READY)?;
    ring(&mut ada, &mut bob)?;
    Ok(())
}
