//! What it takes to be reachable, and what a direct call costs the directories.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::bench::load::SETTLING;
use crate::bench::{BenchError, progress};
use crate::call::{Call, STEP, hang_up, ring, ring_in_the_end};
use crate::lab::{Host, Impairment, Lab, Nat, Router, monotonic_ns};
use crate::phone::{Account, Directory, DirectoryPlan, READY, Terminal, TerminalPlan};
use crate::program::ProgramError;
use crate::score::median;
use crate::speech;

/// How often each is measured.
const TIMES: usize = 5;
/// For so long it is watched what passes the directories, without a call and during one.
const WATCHED: Duration = Duration::from_secs(60);

/// All samples.
#[derive(Debug, Default, Serialize)]
pub struct Upkeep {
    /// From the start of a terminal that knows its directory, a round trip of 50 ms away, until it is on line.
    online_ms: Vec<f64>,
    /// From the moment when a terminal's router got another address until it could be rung again.
    reachable_again_ms: Vec<f64>,
    /// Bytes between both terminals and their directory without a call, a minute.
    idle_bytes_per_min: f64,
    /// The same from dialling until some seconds after it is direct, and in a minute of talking after that; what passes
    /// anyway is taken off.
    setup_bytes: Vec<f64>,
    call_bytes_per_min: Vec<f64>,
}

impl Upkeep {
    /// Measures all of it.
    pub fn measure() -> Result<Self, BenchError> {
        let mut upkeep = Self::default();
        let mut scene = Scene::start()?;
        for _ in 0..TIMES {
            upkeep.online_ms.push(scene.restart()?);
        }
        scene.calls(&mut upkeep)?;
        for _ in 0..TIMES {
            scene.home_b.readdress()?;
            let took = ring_in_the_end(&mut scene.ada, &mut scene.bob, READY)?;
            upkeep.reachable_again_ms.push(took.as_secs_f64() * 1e3);
            scene.ada.process.send("hangup")?;
            scene.bob.process.wait("ended", STEP)?;
            scene.ada.process.wait("ended", STEP)?;
        }
        progress(&format!("{upkeep:?}"));
        Ok(upkeep)
    }

    /// Medians, under the names of the closing line.
    pub fn figures(&self) -> Vec<(&'static str, f64)> {
        vec![
            ("reachable_again_ms", median(&self.reachable_again_ms)),
            ("online_ms", median(&self.online_ms)),
            ("server_setup_kb", median(&self.setup_bytes) / 1e3),
            ("server_kb_per_min", median(&self.call_bytes_per_min) / 1e3),
        ]
    }
}

/// Two terminals behind port-restricted NATs, a round trip of 50 ms away from their directory and of 100 from each other.
struct Scene {
    lab: Lab,
    directory: (Host, Directory),
    host_a: Host,
    home_b: Router,
    host_b: Host,
    ada: Terminal,
    bob: Terminal,
}

impl Scene {
    fn start() -> Result<Self, BenchError> {
        let lab = Lab::new("upkeep")?;
        let host = lab.host("dir", Impairment::default())?;
        let directory = Directory::start(Some(&host), DirectoryPlan::default())?;
        let access = Impairment::delay_ms(25);
        let host_a = lab.router("nata", Nat::PortRestricted, access.clone())?.host("a")?;
        let home_b = lab.router("natb", Nat::PortRestricted, access)?;
        let host_b = home_b.host("b")?;
        let [ada, bob] = Account::create_all(["ada", "bob"])?;
        let plan = || TerminalPlan {
            entry: directory.addresses.clone(),
            mic: Some(speech::a()),
            ..TerminalPlan::default()
        };
        let ada = Terminal::online(ada, Some(&host_a), plan())?;
        let bob = Terminal::online(bob, Some(&host_b), plan())?;
        Ok(Self { lab, directory: (host, directory), host_a, home_b, host_b, ada, bob })
    }

    /// Ends a terminal and starts it again; answers after how long it was on line.
    fn restart(&mut self) -> Result<f64, ProgramError> {
        self.ada.process.terminate(STEP)?;
        let start = monotonic_ns();
        self.ada.restart(Some(&self.host_a))?;
        Ok(self.ada.process.wait("online", READY)?.ms_since(start))
    }

    fn calls(&mut self, upkeep: &mut Upkeep) -> Result<(), BenchError> {
        for terminal in [&mut self.ada, &mut self.bob] {
            terminal.until_alone()?;
        }
        let idle = self.watch(WATCHED, |_| {
            std::thread::sleep(WATCHED);
            Ok(())
        })?;
        upkeep.idle_bytes_per_min = idle;
        for _ in 0..2 {
            let (start, before) = (Instant::now(), self.bytes());
            let (dialled, rang) = ring(&mut self.ada, &mut self.bob)?;
            let call = Call::answer(&mut self.ada, &mut self.bob, dialled, rang)?;
            call.talk(&self.ada, &self.bob, SETTLING)?;
            let anyway = idle * start.elapsed().as_secs_f64() / 60.0;
            upkeep.setup_bytes.push((self.bytes() - before) as f64 - anyway);
            let talking = self.watch(WATCHED, |scene| {
                call.talk(&scene.ada, &scene.bob, SETTLING + WATCHED)?;
                Ok(())
            })?;
            upkeep.call_bytes_per_min.push(talking - idle);
            hang_up(&mut self.ada, &mut self.bob)?;
        }
        Ok(())
    }

    /// Bytes a minute while something goes on.
    fn watch(
        &self,
        how_long: Duration,
        what: impl FnOnce(&Self) -> Result<(), ProgramError>,
    ) -> Result<f64, ProgramError> {
        let before = self.bytes();
        what(self)?;
        Ok((self.bytes() - before) as f64 * 60.0 / how_long.as_secs_f64())
    }

    /// Between the terminals and their directory so far, both directions.
    fn bytes(&self) -> u64 {
        let directory = self.directory.0.public();
        let ends = [self.host_a.public(), self.host_b.public()];
        ends.map(|end| self.lab.flow_bytes(end, directory) + self.lab.flow_bytes(directory, end)).iter().sum()
    }
}
