//! Calls through routers that open ports, by a real miniupnpd, between networks that could not reach each other otherwise.

use std::time::{Duration, Instant};

use offhook_tests::call::{Call, STEP, hang_up, ring};
use offhook_tests::lab::{Nat, Opener, Opening, Pair};
use offhook_tests::phone::{Account, Directory, DirectoryPlan, Terminal, TerminalPlan};
use offhook_tests::program::ProgramError;

use crate::Outcome;

/// Long enough for a path to become direct that can be.
const SOON: Duration = Duration::from_secs(5);

/// Two homes behind symmetric NATs, between which nothing goes straight; the router of the first opens ports.
struct Scene {
    pair: Pair,
    opener: Opener,
    /// Keeps running as long as this is held.
    _directory: Directory,
    ada: Terminal,
    bob: Terminal,
}

impl Scene {
    fn start(name: &str, opening: Opening, extra: &[&str]) -> Result<Self, Box<dyn std::error::Error>> {
        let pair = Pair::new(name, Nat::Symmetric, Nat::Symmetric, 5)?;
        let opener = pair.router_a.open_ports(opening)?;
        let directory = Directory::start(Some(&pair.directory), DirectoryPlan::default())?;
        let [ada, bob] = Account::create_all(["ada", "bob"])?;
        let entry = directory.addresses.clone();
        let extra = extra.iter().map(|word| (*word).to_owned()).collect();
        let plan = TerminalPlan { entry: entry.clone(), extra, ..TerminalPlan::default() };
        let ada = Terminal::online(ada, Some(&pair.a), plan)?;
        let bob = Terminal::online(bob, Some(&pair.b), TerminalPlan { entry, ..TerminalPlan::default() })?;
        Ok(Self { pair, opener, _directory: directory, ada, bob })
    }

    /// Waits until the router has as many ports open.
    fn wait_ports(&self, count: usize) -> Result<(), Box<dyn std::error::Error>> {
        let deadline = Instant::now() + STEP;
        while self.opener.ports()? != count {
            if Instant::now() > deadline {
                return Err(format!("{} ports are open, not {count}", self.opener.ports()?).into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// A call in each direction becomes direct, and leaves no port open.
    fn calls_are_direct(&mut self) -> Outcome {
        for caller_has_router in [true, false] {
            let (caller, callee) = match caller_has_router {
                true => (&mut self.ada, &mut self.bob),
                false => (&mut self.bob, &mut self.ada),
            };
            let call = Call::place(caller, callee)?;
            assert_eq!(call.path, "direct");
            assert_eq!(self.opener.ports()?, 1);
            hang_up(caller, callee)?;
            self.wait_ports(0)?;
        }
        Ok(())
    }

    /// A call stays at the relay.
    fn call_is_relayed(&mut self) -> Result<(), ProgramError> {
        let (dialled_ns, rang_ns) = ring(&mut self.ada, &mut self.bob)?;
        Call::begin(&mut self.ada, &mut self.bob, dialled_ns, rang_ns)?;
        let is_direct = |event: &offhook_tests::program::Event| event.text("path") == "direct";
        self.ada.process.never("that the path is direct", SOON, is_direct)?;
        hang_up(&mut self.ada, &mut self.bob)
    }
}

#[test]
fn a_router_with_upnp_makes_a_call_direct_and_closes_the_port_afterwards() -> Outcome {
    Scene::start("upnp", Opening::Upnp, &[])?.calls_are_direct()
}

#[test]
fn a_router_with_pcp_makes_a_call_direct_and_closes_the_port_afterwards() -> Outcome {
    Scene::start("pcp", Opening::Pcp, &[])?.calls_are_direct()
}

#[test]
fn a_router_with_nat_pmp_makes_a_call_direct_and_closes_the_port_afterwards() -> Outcome {
    Scene::start("natpmp", Opening::NatPmp, &[])?.calls_are_direct()
}

/// It is found out when a port is wanted.
#[test]
fn a_router_with_upnp_that_has_started_again_opens_ports_too() -> Outcome {
    let mut scene = Scene::start("upnpnew", Opening::Upnp, &[])?;
    scene.calls_are_direct()?;
    scene.opener.restart()?;
    scene.calls_are_direct()
}

/// A terminal that ends in the middle of a call gives its port back, too.
#[test]
fn a_terminal_that_is_shut_down_in_a_call_leaves_no_port_open() -> Outcome {
    let mut scene = Scene::start("upnpend", Opening::Upnp, &[])?;
    Call::place(&mut scene.ada, &mut scene.bob)?;
    assert_eq!(scene.opener.ports()?, 1);
    scene.ada.process.terminate(STEP)?;
    assert_eq!(scene.opener.ports()?, 0);
    Ok(())
}

#[test]
fn whoever_wants_no_port_or_relays_only_asks_the_router_nothing() -> Outcome {
    for (name, opening, setting) in
        [("noupnp", Opening::Upnp, "--no-port-mapping"), ("nopcp", Opening::Pcp, "--relay-only")]
    {
        let mut scene = Scene::start(name, opening, &[setting])?;
        scene.call_is_relayed()?;
        assert_eq!((scene.opener.asked()?, scene.opener.ports()?), (0, 0), "{setting}");
        // That the router would have answered shows with the same terminal without the setting.
        scene.ada.plan.extra.clear();
        scene.ada.restart(Some(&scene.pair.a))?;
        scene.ada.process.wait("online", STEP)?;
        scene.calls_are_direct()?;
        assert!(scene.opener.asked()? > 0);
    }
    Ok(())
}
