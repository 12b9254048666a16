//! The voice engine over networks that become bad at one moment, in virtual time: writes what was heard, for `phonebench onset` to
//! score. The same arguments give the same samples.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use offhook::media::trial::{self, Passing};
use offhook_tests::draws::Draws;

/// One way, before anything happens to packets.
const WAY: Duration = Duration::from_millis(50);
/// Packets that are lost in a row by `burst`.
const ROW: u32 = 5;
/// A queue holds so much; what comes beyond that is lost.
const LONGEST_QUEUE: Duration = Duration::from_millis(700);

#[derive(Debug, Parser)]
struct Cli {
    /// What is said: a WAV file
    speech: PathBuf,
    /// Where `NETWORK.f32` is written: what was heard, 48 kHz, raw
    folder: PathBuf,
    /// Length of what is said, s
    #[arg(long)]
    seconds: u32,
    /// When the network becomes bad, ms
    #[arg(long)]
    begin: u64,
    /// KIND-HOW_MUCH-SEED: loss (percent), burst (percent, five in a row), jit (ms each way), rate (kbit/s), clean
    networks: Vec<Network>,
}

/// What happens to packets from some moment on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Clean,
    Loss(f64),
    Burst(f64),
    Jitter(f64),
    Rate(f64),
}

#[derive(Clone, Debug)]
struct Network {
    name: String,
    kind: Kind,
    seed: u64,
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Network, String> {
        let wrong = || format!("{text} is not KIND-HOW_MUCH-SEED");
        let parts: Vec<&str> = text.split('-').collect();
        let [kind, much, seed] = parts[..] else { return Err(wrong()) };
        let much: f64 = much.parse().map_err(|_| wrong())?;
        let kind = match kind {
            "clean" => Kind::Clean,
            "loss" => Kind::Loss(much / 100.0),
            "burst" => Kind::Burst(much / 100.0),
            "jit" => Kind::Jitter(much / 1e3),
            "rate" if much > 0.0 => Kind::Rate(much * 1e3),
            _ => return Err(wrong()),
        };
        Ok(Network { name: text.to_owned(), kind, seed: seed.parse().map_err(|_| wrong())? })
    }
}

/// One direction.
struct Way {
    kind: Kind,
    draws: Draws,
    /// Packets of the present row that are still to be lost.
    row: u32,
    /// When the link has sent what it was given.
    free: Duration,
}

impl Way {
    fn pass(&mut self, packet: Passing) -> Option<Duration> {
        match self.kind {
            Kind::Clean => Some(WAY),
            Kind::Loss(share) => (self.draws.unit() >= share).then_some(WAY),
            Kind::Burst(share) => {
                if self.row == 0 && self.draws.unit() < share / f64::from(ROW) {
                    self.row = ROW;
                }
                let lost = self.row > 0;
                self.row = self.row.saturating_sub(1);
                (!lost).then_some(WAY)
            }
            Kind::Jitter(most) => {
                let more = self.draws.between(0.0, 2.0 * most);
                Some(WAY + Duration::from_secs_f64(more) - Duration::from_secs_f64(most))
            }
            Kind::Rate(bits) => {
                let sent =
                    self.free.max(packet.at) + Duration::from_secs_f64(packet.bytes as f64 * 8.0 / bits);
                let queued = sent - packet.at;
                (queued <= LONGEST_QUEUE).then(|| {
                    self.free = sent;
                    WAY + queued
                })
            }
        }
    }
}

/// One call; answers what is printed of it.
fn run(said: &Arc<Vec<f32>>, network: &Network, begin: Duration, folder: &Path) -> Result<String, String> {
    let way = |back: u64| Way {
        kind: network.kind,
        draws: Draws::new(network.seed << 1 | back),
        row: 0,
        free: Duration::ZERO,
    };
    let mut ways = [way(0), way(1)];
    let heard = trial::talk(said, |packet| match packet.at < begin {
        true => Some(WAY),
        false => ways[usize::from(packet.back)].pass(packet),
    });
    let heard = heard.map_err(|error| error.to_string())?;
    let path = folder.join(&network.name).with_extension("f32");
    let samples: Vec<u8> = heard.samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    std::fs::write(&path, samples).map_err(|error| error.to_string())?;
    let seconds = said.len() as f64 / 48e3;
    Ok(format!(
        "{} {} {:.1}",
        network.name,
        heard.later.as_millis(),
        heard.bytes as f64 * 8.0 / seconds / 1e3
    ))
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let said = match trial::speech(&cli.speech, cli.seconds) {
        Ok(said) => Arc::new(said),
        Err(error) => {
            eprintln!("{}: {error}", cli.speech.display());
            return ExitCode::FAILURE;
        }
    };
    for network in &cli.networks {
        match run(&said, network, Duration::from_millis(cli.begin), &cli.folder) {
            Ok(line) => println!("{line}"),
            Err(error) => {
                eprintln!("{}: {error}", network.name);
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
