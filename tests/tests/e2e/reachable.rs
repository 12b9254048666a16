//! Staying reachable: whatever dies without a word is noticed, and whoever comes back is found again.

use std::time::{Duration, Instant};

use offhook_tests::call::{STEP, ring, ring_in_the_end};
use offhook_tests::lab::{Mesh, Nat, Pair};
use offhook_tests::phone::{Account, Directory, DirectoryPlan, Terminal, TerminalPlan};
use offhook_tests::program::ProgramError;

use crate::{NOTICED, Outcome, Trio};

/// Two terminals behind NATs and their directory.
struct Scene {
    pair: Pair,
    directory: Directory,
    ada: Terminal,
    bob: Terminal,
}

impl Scene {
    fn start(name: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let pair = Pair::new(name, Nat::PortRestricted, Nat::PortRestricted, 5)?;
        let directory = Directory::start(Some(&pair.directory), DirectoryPlan::default())?;
        let [ada, bob] = Account::create_all(["ada", "bob"])?;
        let plan = TerminalPlan { entry: directory.addresses.clone(), ..TerminalPlan::default() };
        let ada = Terminal::online(ada, Some(&pair.a), plan.clone())?;
        let bob = Terminal::online(bob, Some(&pair.b), plan)?;
        Ok(Self { pair, directory, ada, bob })
    }
}

/// The directory waits in vain for the dead terminal's acknowledgement, which is no fault of the link between the
/// directory and the caller.
#[test]
fn a_call_to_a_killed_terminal_costs_the_caller_no_link() -> Outcome {
    let Trio { directory: _directory, mut ada, mut bob } = Trio::start()?;
    bob.process.kill();
    ada.process.send(&format!("dial {}", bob.number()))?;
    let ended = ada.process.wait("ended", STEP)?;
    assert_eq!(ended.text("reason"), "unreachable", "{}", ended.value);
    // Longer than any request lasts.
    ada.process.never("that it is off line", Duration::from_secs(8), |event| event.name() == "offline")?;
    Ok(())
}

#[test]
fn a_directory_forgets_a_killed_terminal() -> Outcome {
    let Trio { directory, ada: _ada, mut bob } = Trio::start()?;
    assert_eq!(directory.health(None)?["registered"], 2);
    bob.process.kill();
    until("it has forgotten the dead terminal", NOTICED, || Ok(directory.health(None)?["registered"] == 1))
}

/// Asks again and again.
fn until(what: &str, longest: Duration, mut holds: impl FnMut() -> Result<bool, ProgramError>) -> Outcome {
    let end = Instant::now() + longest;
    while !holds()? {
        assert!(Instant::now() < end, "waited {longest:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

#[test]
fn a_terminal_is_reachable_after_a_restart_of_its_directory() -> Outcome {
    let mut scene = Scene::start("restart")?;
    scene.directory.process.kill();
    scene.directory.restart(Some(&scene.pair.directory))?;
    ring_in_the_end(&mut scene.ada, &mut scene.bob, NOTICED)?;
    Ok(())
}

/// One of a terminal's two directories dies, and then the other one; it was never told of the third.
#[test]
fn a_terminal_whose_directories_die_one_by_one_is_reachable_through_another() -> Outcome {
    let mesh = Mesh::new("onebyone", 3, 20)?;
    let mut directories: Vec<Directory> = Vec::new();
    for host in &mesh.servers {
        let entry = directories.iter().map(Directory::address).collect();
        directories.push(Directory::start(Some(host), DirectoryPlan { entry, ..DirectoryPlan::default() })?);
    }
    let [ada, bob] = Account::create_all(["ada", "bob"])?;
    let plan = |entry: &[Directory]| TerminalPlan {
        entry: entry.iter().map(Directory::address).collect(),
        ..TerminalPlan::default()
    };
    let mut ada = Terminal::online(ada, Some(&mesh.a), plan(&directories[2..]))?;
    let mut bob = Terminal::online(bob, Some(&mesh.b), plan(&directories[..2]))?;
    bob.until_registered(2)?;
    let third = |directories: &[Directory]| directories[2].health(Some(&mesh.servers[2]));
    assert_eq!(third(&directories)?["registered"], 1);
    directories[0].process.kill();
    let noticed_and_replaced = 2 * NOTICED;
    until("the third one is home", noticed_and_replaced, || Ok(third(&directories)?["registered"] == 2))?;
    bob.until_registered(2)?;
    directories[1].process.kill();
    ring_in_the_end(&mut ada, &mut bob, NOTICED)?;
    Ok(())
}

/// Longer than the directory's transport keeps a silent connection.
const SUSPENDED: Duration = Duration::from_secs(70);

#[test]
fn a_terminal_is_reachable_after_being_suspended() -> Outcome {
    let mut scene = Scene::start("suspend")?;
    scene.bob.process.suspend();
    std::thread::sleep(SUSPENDED);
    scene.bob.process.resume();
    ring_in_the_end(&mut scene.ada, &mut scene.bob, NOTICED)?;
    Ok(())
}

#[test]
fn a_terminal_is_reachable_after_its_nat_has_forgotten_it() -> Outcome {
    let mut scene = Scene::start("forgotten")?;
    scene.pair.router_b.set_nat(Nat::PortRestricted)?;
    ring_in_the_end(&mut scene.ada, &mut scene.bob, NOTICED)?;
    // The new connection was there before the old one was given up.
    scene.bob.process.never("that it is off line", Duration::ZERO, |event| event.name() == "offline")?;
    Ok(())
}

/// A directory does not answer on a connection that goes on from another port.
#[test]
fn a_terminal_is_reachable_after_its_nat_has_given_it_another_port() -> Outcome {
    let mut scene = Scene::start("rebound")?;
    scene.pair.router_b.set_nat(Nat::Symmetric)?;
    ring_in_the_end(&mut scene.ada, &mut scene.bob, NOTICED)?;
    // The new connection was there before the old one was given up.
    scene.bob.process.never("that it is off line", Duration::ZERO, |event| event.name() == "offline")?;
    Ok(())
}

/// All it was told is where the directory's QUIC and TCP are; when nothing but the web gets through any more it remembers
/// where else it has met it, at once and after a restart.
#[test]
fn a_terminal_that_has_met_its_directory_finds_its_front_when_only_port_443_is_open() -> Outcome {
    let mut scene = Scene::start("only443")?;
    scene.pair.router_b.set_nat(Nat::OnlyTcp443)?;
    ring_in_the_end(&mut scene.ada, &mut scene.bob, NOTICED)?;
    scene.bob.restart(Some(&scene.pair.b))?;
    scene.bob.process.wait("online", STEP)?;
    let Scene { ada: from, bob: to, .. } = &mut scene;
    for _ in 0..2 {
        from.process.send(&format!("text {} through the needle's eye", to.number()))?;
        assert_eq!(to.process.wait("text", STEP)?.text("body"), "through the needle's eye");
        from.process.wait("text_delivered", STEP)?;
        std::mem::swap(from, to);
    }
    Ok(())
}

/// Probing is cheap: less than half of what an idle terminal may use altogether.
#[test]
fn an_idle_terminal_sends_and_receives_little() -> Outcome {
    const MINUTE: Duration = Duration::from_secs(60);
    let mut scene = Scene::start("idle")?;
    let before = scene.pair.b.link().counters();
    std::thread::sleep(MINUTE);
    let bytes = scene.pair.b.link().counters().since(&before).bytes();
    println!("{bytes} bytes in a minute, {} kB in an hour", bytes * 60 / 1000);
    assert!(bytes * 60 < 500_000, "{bytes} bytes in a minute");
    ring(&mut scene.ada, &mut scene.bob)?;
    Ok(())
}
