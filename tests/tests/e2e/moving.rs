//! Calls whose network changes under them: they go on, in both directions, without having to be made anew.

use std::time::Duration;

use offhook_tests::call::{Call, hang_up};
use offhook_tests::lab::{LabError, Nat, Pair, Ports};
use offhook_tests::phone::two_speakers;
use offhook_tests::program::Event;

use crate::Outcome;

/// What is heard is judged by its median over seconds: sound that does not come back soon loses more than half of them.
const TALK: Duration = Duration::from_secs(10);
const HEARD: f64 = 0.7;

/// A direct call between port-restricted NATs goes on after `change`.
fn survives(name: &str, talk: Duration, change: impl FnOnce(&Pair) -> Result<(), LabError>) -> Outcome {
    let pair = Pair::new(name, Nat::PortRestricted, Nat::PortRestricted, 25)?;
    let folder = tempfile::tempdir()?;
    let (_directory, mut ada, mut bob) = two_speakers(&pair.directory, [&pair.a, &pair.b], folder.path())?;

    let call = Call::place(&mut ada, &mut bob)?;
    change(&pair)?;
    let until = call.talk(&ada, &bob, talk)?;
    // It is the same connection: nobody is told again that it stands.
    let again = |event: &Event| event.name() == "connected";
    for end in [&ada, &bob] {
        end.process.never("that it is connected once more", Duration::ZERO, again)?;
    }
    hang_up(&mut ada, &mut bob)?;
    let (by_ada, by_bob) = call.judge(&ada, &bob, until)?;
    assert!(by_ada.heard >= HEARD && by_bob.heard >= HEARD, "{by_ada:?} {by_bob:?}");
    Ok(())
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
fn a_call_goes_on_after_an_outage_of_five_seconds() -> Outcome {
    let outage = Duration::from_secs(5);
    survives("outage", TALK + outage, |pair| {
        let cut = pair.router_a.link().cut();
        std::thread::sleep(outage);
        drop(cut);
        Ok(())
    })
}
