//! Calls whose network changes under them: they go on, in both directions, without having to be made anew.

use std::time::Duration;

use offhook_tests::call::{Call, STEP, hang_up, ring};
use offhook_tests::lab::{LabError, Nat, Pair, Ports};
use offhook_tests::phone::{Directory, Terminal, two_speakers};
use offhook_tests::program::Event;

use crate::Outcome;

/// What is heard is judged by its median over seconds: sound that does not come back soon loses more than half of them.
const TALK: Duration = Duration::from_secs(10);
const HEARD: f64 = 0.7;

/// Two people in a call, each behind a NAT.
struct Scene {
    pair: Pair,
    directory: Directory,
    ada: Terminal,
    bob: Terminal,
    call: Call,
    _folder: tempfile::TempDir,
}

impl Scene {
    fn start(name: &str, nat: Nat, path: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let pair = Pair::new(name, nat, nat, 25)?;
        let folder = tempfile::tempdir()?;
        let (directory, mut ada, mut bob) = two_speakers(&pair.directory, [&pair.a, &pair.b], folder.path())?;
        let (dialled, rang) = ring(&mut ada, &mut bob)?;
        let mut call = Call::begin(&mut ada, &mut bob, dialled, rang)?;
        match path {
            "direct" => call.wait_direct(&ada, &bob, STEP)?,
            _ => {
                for end in [&ada, &bob] {
                    assert_eq!(end.process.wait("connected", STEP)?.text("path"), path);
                }
            }
        }
        Ok(Self { pair, directory, ada, bob, call, _folder: folder })
    }

    /// Whatever has changed, they hear each other, and it is the same connection: nobody is told again that it stands.
    fn goes_on(mut self, talk: Duration) -> Outcome {
        let until = self.call.talk(&self.ada, &self.bob, talk)?;
        let again = |event: &Event| event.name() == "connected";
        for end in [&self.ada, &self.bob] {
            end.process.never("that it is connected once more", Duration::ZERO, again)?;
        }
        hang_up(&mut self.ada, &mut self.bob)?;
        let (by_ada, by_bob) = self.call.judge(&self.ada, &self.bob, until)?;
        assert!(by_ada.heard >= HEARD && by_bob.heard >= HEARD, "{by_ada:?} {by_bob:?}");
        Ok(())
    }
}

/// A direct call between port-restricted NATs goes on after `change`.
fn survives(name: &str, talk: Duration, change: impl FnOnce(&Pair) -> Result<(), LabError>) -> Outcome {
    let scene = Scene::start(name, Nat::PortRestricted, "direct")?;
    change(&scene.pair)?;
    scene.goes_on(talk)
}

#[test]
fn a_call_goes_on_when_a_nat_gives_other_ports() -> Outcome {
    survives("ports", TALK, |pair| pair.router_b.forget(Ports::New))
}

#[test]
fn a_call_goes_on_when_a_nat_has_forgotten_it() -> Outcome {
    survives("forgot", TALK, |pair| pair.router_a.forget(Ports::Same))
}

#[test]
fn a_call_goes_on_when_an_end_has_another_address() -> Outcome {
    survives("local", TALK, |pair| pair.a.readdress())
}

#[test]
fn a_call_goes_on_when_a_home_has_another_public_address() -> Outcome {
    survives("public", TALK, |pair| pair.router_b.readdress())
}

#[test]
fn a_call_goes_on_when_both_ends_move_at_once() -> Outcome {
    survives("both", TALK, |pair| {
        pair.router_a.readdress()?;
        pair.router_b.readdress()?;
        pair.a.readdress()?;
        pair.b.readdress()
    })
}

#[test]
fn a_call_goes_on_after_an_outage_of_five_seconds() -> Outcome {
    let outage = Duration::from_secs(5);
    // Nothing is heard in the outage, which the median must be able to bear as it bears what comes late after the other changes.
    survives("outage", TALK + 3 * outage, |pair| {
        let cut = pair.router_a.link().cut();
        std::thread::sleep(outage);
        drop(cut);
        Ok(())
    })
}

#[test]
fn a_relayed_call_goes_on_when_its_directory_starts_again() -> Outcome {
    let mut scene = Scene::start("restart", Nat::Symmetric, "relayed")?;
    scene.directory.restart(Some(&scene.pair.directory))?;
    scene.goes_on(TALK)
}
