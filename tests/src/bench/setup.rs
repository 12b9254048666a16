//! How long it takes to call somebody: 20 DHT servers with a round trip of 100 ms between any two hosts, both
//! terminals behind port-restricted NATs, each with a directory of its own.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{BenchError, Report, numbers, progress};
use crate::call::{Call, hang_up, ring};
use crate::lab::{Host, Mesh};
use crate::phone::{Account, Directory, DirectoryPlan, Terminal, TerminalPlan};
use crate::score::median;
use crate::speech;

const SERVERS: usize = 20;
const ROUND_TRIP_MS: u64 = 100;
/// Long enough to measure the delay on a few words.
const TALK: Duration = Duration::from_secs(5);
/// It rings for so long before somebody answers, as with the peers measured by phonebench.
const RINGS: Duration = Duration::from_millis(700);

#[derive(Debug, Default, Serialize)]
struct Samples {
    cold_ms: Vec<f64>,
    stranger_audio_ms: Vec<f64>,
    warm_ms: Vec<f64>,
    contact_audio_ms: Vec<f64>,
    m2e_ms: Vec<f64>,
    heard: Vec<f64>,
    directory_kb_per_min: Vec<f64>,
}

struct Bench {
    mesh: Mesh,
    _servers: Vec<Directory>,
    entry_a: Vec<String>,
    entry_b: Vec<String>,
    folder: tempfile::TempDir,
}

/// Places `calls` cold calls (each by a terminal that has just come on line and knows nothing) and as many warm ones
/// between contacts that have spoken before.
///
/// # Errors
/// The first call that fails.
pub fn setup(calls: u32) -> Result<Report, BenchError> {
    let bench = Bench::start()?;
    let [ada, bob] = Account::create_all(["ada", "bob"])?;
    let mut samples = Samples::default();
    let mut bob = bench.terminal(bob, &bench.mesh.b, &bench.entry_b, speech::b())?;
    for round in 1..=calls {
        cold_call(&bench, &ada, &mut bob, &mut samples)?;
        progress(&format!("cold call {round} of {calls}: {:.0} ms", samples.cold_ms.last().unwrap_or(&0.0)));
    }
    let mut ada = bench.terminal(ada, &bench.mesh.a, &bench.entry_a, speech::a())?;
    make_contacts(&mut ada, &mut bob)?;
    for round in 0..=calls {
        let mut unmeasured = Samples::default();
        // The first call makes them acquainted.
        let samples = if round == 0 { &mut unmeasured } else { &mut samples };
        warm_call(&bench, &mut ada, &mut bob, samples)?;
        progress(&format!("warm call {round} of {calls}: {:.0} ms", samples.warm_ms.last().unwrap_or(&0.0)));
    }
    Ok(Report {
        name: "setup",
        figures: numbers(vec![
            ("cold_ms", median(&samples.cold_ms)),
            ("warm_ms", median(&samples.warm_ms)),
            ("answer_to_audio_ms", median(&samples.contact_audio_ms)),
            ("m2e_ms", median(&samples.m2e_ms)),
            ("stranger_answer_to_audio_ms", median(&samples.stranger_audio_ms)),
            ("heard", median(&samples.heard)),
            ("directory_kb_per_min", median(&samples.directory_kb_per_min)),
        ]),
        table: String::new(),
        samples: serde_json::to_value(&samples).map_err(|error| BenchError::Other(error.to_string()))?,
    })
}

impl Bench {
    fn start() -> Result<Self, BenchError> {
        let mesh = Mesh::new("setup", SERVERS, ROUND_TRIP_MS)?;
        let mut servers: Vec<Directory> = Vec::new();
        for host in &mesh.servers {
            let entry = servers.first().map(Directory::address).into_iter().collect();
            servers.push(Directory::start(Some(host), DirectoryPlan { entry, ..DirectoryPlan::default() })?);
        }
        progress(&format!("{SERVERS} DHT servers run"));
        let entry = |index: usize| servers.get(index).map(Directory::address).into_iter().collect();
        let (entry_a, entry_b) = (entry(1), entry(2));
        Ok(Self { mesh, entry_a, entry_b, _servers: servers, folder: tempfile::tempdir()? })
    }

    /// Bytes that have passed between the two terminals and all servers, directories among them, both directions.
    fn bytes_by_servers(&self) -> u64 {
        let flow = |a: &Host, b: &Host| self.mesh.lab.flow_bytes(a.public(), b.public());
        let ends = [&self.mesh.a, &self.mesh.b];
        let pairs =
            ends.into_iter().flat_map(|end| self.mesh.servers.iter().map(move |server| (end, server)));
        pairs.map(|(end, server)| flow(end, server) + flow(server, end)).sum()
    }

    fn terminal(
        &self,
        account: Account,
        host: &Host,
        entry: &[String],
        mic: PathBuf,
    ) -> Result<Terminal, BenchError> {
        let speaker = self.folder.path().join(format!("{}.wav", account.id));
        Ok(Terminal::online(account, Some(host), TerminalPlan::speaking(entry, &mic, Path::new(&speaker)))?)
    }
}

fn cold_call(
    bench: &Bench,
    ada: &Account,
    bob: &mut Terminal,
    samples: &mut Samples,
) -> Result<(), BenchError> {
    let mut ada = bench.terminal(ada.fresh_copy()?, &bench.mesh.a, &bench.entry_a, speech::a())?;
    // Cold: what it was connected with while it published has been let go.
    ada.until_alone()?;
    let call = rung_call(&mut ada, bob)?;
    samples.cold_ms.push(call.dial_to_ring_ms());
    samples.stranger_audio_ms.push(call.answer_to_audio_ms());
    hang_up(&mut ada, bob)?;
    Ok(())
}

/// A call that rings for a moment and is then answered.
fn rung_call(caller: &mut Terminal, callee: &mut Terminal) -> Result<Call, BenchError> {
    let (dialled_ns, rang_ns) = ring(caller, callee)?;
    callee.process.never("that it stopped ringing", RINGS, |event| event.name() == "ended")?;
    Ok(Call::answer(caller, callee, dialled_ns, rang_ns)?)
}

fn make_contacts(ada: &mut Terminal, bob: &mut Terminal) -> Result<(), BenchError> {
    let (to_bob, to_ada) =
        (format!("contact add {} Bob", bob.number()), format!("contact add {} Ada", ada.number()));
    ada.process.send(&to_bob)?;
    bob.process.send(&to_ada)?;
    Ok(())
}

fn warm_call(
    bench: &Bench,
    ada: &mut Terminal,
    bob: &mut Terminal,
    samples: &mut Samples,
) -> Result<(), BenchError> {
    let call = rung_call(ada, bob)?;
    let (start, before) = (Instant::now(), bench.bytes_by_servers());
    let until = call.talk(ada, bob, TALK)?;
    let (minutes, bytes) = (start.elapsed().as_secs_f64() / 60.0, bench.bytes_by_servers() - before);
    samples.directory_kb_per_min.push(bytes as f64 / 1024.0 / minutes);
    hang_up(ada, bob)?;
    let (by_ada, by_bob) = call.judge(ada, bob, until)?;
    samples.warm_ms.push(call.dial_to_ring_ms());
    samples.contact_audio_ms.push(call.answer_to_audio_ms());
    samples.m2e_ms.extend([by_ada.delay_ms, by_bob.delay_ms]);
    samples.heard.extend([by_ada.heard, by_bob.heard]);
    Ok(())
}
