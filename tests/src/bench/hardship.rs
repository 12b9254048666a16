//! Calls where something is in the way: loss, and a record that names many addresses at which nobody is.

use std::time::Duration;

use serde::Serialize;

use super::{BenchError, Report, numbers, progress};
use crate::call::{Call, STEP, hang_up, ring};
use crate::lab::{Host, Impairment, Lab, Nat, Router};
use crate::phone::{Account, Directory, DirectoryPlan, Terminal, TerminalPlan};
use crate::program::ProgramError;
use crate::score::{median, percentile};

/// It rings for so long before somebody answers.
const RINGS: Duration = Duration::from_millis(700);
/// Share of packets that is lost between the two ends, in each direction.
const LOSS: f64 = 0.2;
/// Calls of one stranger, who may not make many more in a minute.
const CALLS_EACH: u32 = 10;
/// Addresses in the record beside the true one.
const BOGUS: usize = 15;

/// All samples.
#[derive(Debug, Default, Serialize)]
struct Samples {
    /// From the command to answer until it was direct at both ends, with loss; strangers.
    lossy_direct_ms: Vec<f64>,
    /// From the command to dial until it rang, for a caller that has just started, with one address in the record and with
    /// sixteen.
    plain_ring_ms: Vec<f64>,
    bogus_ring_ms: Vec<f64>,
}

/// Lets a terminal call another one `count` times whose record names one address and as often when it names fifteen more at
/// which nobody is, then `count` times with a fifth of all packets lost in each direction.
///
/// `lossy_direct_p95_ms` is from the command to answer until the call was direct at both ends; `bogus_slower_ms` how much later
/// it rang, by medians, because of the addresses.
///
/// # Errors
/// When a program does not start or a step of a call does not happen.
pub fn hardship(count: u32) -> Result<Report, BenchError> {
    let (mut scene, mut samples) = (Scene::start()?, Samples::default());
    samples.plain_ring_ms = scene.times(count, Scene::fresh_ring)?;
    scene.publish_bogus()?;
    samples.bogus_ring_ms = scene.times(count, Scene::fresh_ring)?;
    progress("now with loss");
    samples.lossy_direct_ms = scene.times(count, Scene::lossy_call)?;
    let slower = median(&samples.bogus_ring_ms) - median(&samples.plain_ring_ms);
    Ok(Report {
        name: "hardship",
        figures: numbers(vec![
            ("lossy_direct_p50_ms", median(&samples.lossy_direct_ms)),
            ("lossy_direct_p95_ms", percentile(&samples.lossy_direct_ms, 95.0)),
            ("plain_ring_ms", median(&samples.plain_ring_ms)),
            ("bogus_slower_ms", slower),
        ]),
        table: String::new(),
        samples: serde_json::to_value(samples).map_err(|error| BenchError::Other(error.to_string()))?,
    })
}

/// Two homes behind port-restricted NATs with a directory each; a round trip of 100 ms between any two hosts.
struct Scene {
    _lab: Lab,
    _directories: [(Host, Directory); 2],
    home_a: Router,
    host_a: Host,
    host_b: Host,
    ada: Terminal,
    bob: Terminal,
    /// Callers so far.
    callers: u32,
}

fn access() -> Impairment {
    Impairment::delay_ms(25)
}

impl Scene {
    /// Does something so many times, with another caller now and then.
    fn times(
        &mut self,
        count: u32,
        what: fn(&mut Self) -> Result<f64, ProgramError>,
    ) -> Result<Vec<f64>, ProgramError> {
        let mut samples = Vec::new();
        for n in 0..count {
            if n % CALLS_EACH == 0 {
                self.home_a.link().set(&access());
                let caller = Account::create(&format!("ada{}", self.callers))?;
                self.callers += 1;
                self.ada = Terminal::online(caller, Some(&self.host_a), self.ada.plan.clone())?;
            }
            samples.push(what(self)?);
        }
        Ok(samples)
    }

    fn start() -> Result<Self, BenchError> {
        let lab = Lab::new("hardship")?;
        let first = lab.host("dir", access())?;
        let second = lab.host("dir2", access())?;
        let d1 = Directory::start(Some(&first), DirectoryPlan::default())?;
        let entry = vec![d1.address()];
        let d2 = Directory::start(Some(&second), DirectoryPlan { entry, ..DirectoryPlan::default() })?;
        let home_a = lab.router("nata", Nat::PortRestricted, access())?;
        let host_a = home_a.host("a")?;
        let host_b = lab.router("natb", Nat::PortRestricted, access())?.host("b")?;
        let [ada, bob] = Account::create_all(["ada", "bob"])?;
        let plan = |directory: &Directory| TerminalPlan {
            entry: directory.addresses.clone(),
            ..TerminalPlan::default()
        };
        let ada = Terminal::online(ada, Some(&host_a), plan(&d1))?;
        let bob = Terminal::online(bob, Some(&host_b), plan(&d2))?;
        Ok(Self {
            _lab: lab,
            _directories: [(first, d1), (second, d2)],
            home_a,
            host_a,
            host_b,
            ada,
            bob,
            callers: 0,
        })
    }

    /// Starts the callee again with a record that names addresses at which nobody is.
    fn publish_bogus(&mut self) -> Result<(), ProgramError> {
        let nowhere: Vec<String> =
            (1..=BOGUS).map(|n| format!("/ip4/11.250.0.{n}/udp/4001/quic-v1")).collect();
        self.bob.plan.extra = vec!["--publish-address".into(), "--external".into(), nowhere.join(",")];
        self.bob.restart(Some(&self.host_b))?;
        self.bob.process.wait("online", STEP)?;
        Ok(())
    }

    /// How long it takes until it rings; the caller remembers no way.
    fn fresh_ring(&mut self) -> Result<f64, ProgramError> {
        self.ada.restart(Some(&self.host_a))?;
        self.ada.process.wait("online", STEP)?;
        self.ada.until_alone()?;
        let (dialled, rang) = ring(&mut self.ada, &mut self.bob)?;
        self.bob.process.send("reject")?;
        for terminal in [&self.ada, &self.bob] {
            terminal.process.wait("ended", STEP)?;
        }
        Ok((rang - dialled) as f64 / 1e6)
    }

    /// How long it takes from the answer until it is direct, with loss.
    fn lossy_call(&mut self) -> Result<f64, ProgramError> {
        self.home_a.link().set(&access().with_loss(LOSS));
        let (dialled, rang) = ring(&mut self.ada, &mut self.bob)?;
        self.bob.process.never("that it stopped ringing", RINGS, |event| event.name() == "ended")?;
        let call = Call::answer(&mut self.ada, &mut self.bob, dialled, rang)?;
        hang_up(&mut self.ada, &mut self.bob)?;
        Ok(call.answer_to_direct_ms().unwrap_or(f64::INFINITY))
    }
}
