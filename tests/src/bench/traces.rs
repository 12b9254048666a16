//! `traces`: the voice engine over thousands of made-up networks, in virtual time.
//!
//! Each network comes from a seed: how far it is, what it loses, how it delays. One end says a passage of speech, the other
//! listens. What was heard is judged by `score.rs`, and by what the engine counts. No processing, no device, no clock: the same
//! seed gives the same result on any machine of a kind.

mod network;
mod picture;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use offhook::media::trial;
use serde::Serialize;

use self::network::{KINDS, Kind, Trace};
use self::picture::{Panel, Series};
use super::{BenchError, Report, numbers, progress};
use crate::score::{self, Track, median, percentile};
use crate::speech;

/// Length of a call, s.
const SECONDS: u32 = 10;
/// Rate at which what was heard is compared, Hz: the voice engine's 48,000 divided by [`DECIMATE`].
const RATE: u32 = 8_000;
const DECIMATE: usize = 6;
/// Tells how far it is after so many traces.
const TOLD_EVERY: usize = 100;

/// What came of one network.
#[derive(Clone, Debug, Serialize)]
struct Sample {
    seed: u64,
    kind: &'static str,
    /// Share of the talker's packets that were lost, percent.
    loss_pct: f64,
    /// By how much packets took longer than the quickest, 95th percentile, ms.
    variation_ms: f64,
    /// How well it was heard, 0 to 1.
    heard: f64,
    /// Mouth to ear beyond the quickest packet's way, ms.
    added_ms: f64,
    concealed_pct: f64,
    kbit_s: f64,
}

/// Runs `count` traces, of all kinds or of those whose names hold `filter`, and draws `traces.svg` beside the built programs' folder.
///
/// # Errors
/// The speech cannot be read, no kind is of that name, or the picture cannot be written.
pub fn traces(count: u32, filter: Option<&str>) -> Result<Report, BenchError> {
    let kinds: Vec<Kind> =
        KINDS.into_iter().filter(|kind| filter.is_none_or(|text| kind.name().contains(text))).collect();
    if kinds.is_empty() {
        return Err(BenchError::Other("no kind of network is of that name".to_owned()));
    }
    let said = Arc::new(trial::speech(&speech::a(), SECONDS).map_err(other)?);
    let samples = run_all(&said, &kinds, count as usize)?;
    let path = std::env::current_exe()?.with_file_name("../traces.svg");
    std::fs::write(&path, picture::draw(&panels(&samples)))?;
    progress(&format!("the picture is {}", path.display()));
    Ok(Report {
        name: "traces",
        figures: numbers(figures(&samples)),
        table: table(&kinds, &samples),
        samples: serde_json::to_value(&samples).map_err(other)?,
    })
}

/// All traces, by as many threads as there are cores, in the order of their seeds.
fn run_all(said: &Arc<Vec<f32>>, kinds: &[Kind], count: usize) -> Result<Vec<Sample>, BenchError> {
    let next = AtomicUsize::new(0);
    let worker = || -> Result<Vec<Sample>, BenchError> {
        let mut samples = Vec::new();
        loop {
            let n = next.fetch_add(1, Relaxed);
            if n >= count {
                return Ok(samples);
            }
            samples.push(run(said, kinds[n % kinds.len()], n as u64)?);
            if (n + 1).is_multiple_of(TOLD_EVERY) {
                progress(&format!("trace {} of {count}", n + 1));
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut samples = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let mut all = Vec::new();
        for worker in workers {
            let ended = worker.join().map_err(|_| other("a trace made the voice engine panic"))?;
            all.extend(ended?);
        }
        Ok::<_, BenchError>(all)
    })?;
    samples.sort_by_key(|sample| sample.seed);
    Ok(samples)
}

/// One call over the network of that kind and seed.
fn run(said: &Arc<Vec<f32>>, kind: Kind, seed: u64) -> Result<Sample, BenchError> {
    let mut trace = Trace::new(kind, seed, Duration::from_secs(SECONDS.into()));
    // What the listener reports meets a network of the same kind.
    let mut back = Trace::new(kind, !seed, Duration::from_secs(SECONDS.into()));
    let (mut delays, mut sent) = (Vec::new(), 0);
    let heard = trial::talk(said, |packet| {
        if packet.back {
            return back.pass(packet.at);
        }
        sent += 1;
        let delay = trace.pass(packet.at);
        delays.extend(delay.map(|delay| delay.as_secs_f64() * 1e3));
        delay
    });
    let heard = heard.map_err(other)?;
    let quickest = delays.iter().copied().fold(f64::INFINITY, f64::min);
    let (score, m2e_ms) = judge(said, &heard)?;
    Ok(Sample {
        seed,
        kind: kind.name(),
        loss_pct: 100.0 * (sent - delays.len()) as f64 / f64::from(sent.max(1) as u32),
        variation_ms: percentile(&delays, 95.0) - quickest,
        heard: score,
        added_ms: m2e_ms - quickest,
        concealed_pct: 100.0 * heard.concealed,
        kbit_s: heard.bytes as f64 * 8.0 / f64::from(SECONDS) / 1e3,
    })
}

/// How well it was heard, 0 to 1, and mouth to ear in ms.
fn judge(said: &[f32], heard: &trial::Heard) -> Result<(f64, f64), BenchError> {
    let said = Track { epoch_ns: 0, rate: RATE, samples: lower(said) };
    let heard = Track { epoch_ns: heard.later.as_nanos() as u64, rate: RATE, samples: lower(&heard.samples) };
    let until = Duration::from_secs(SECONDS.into()).as_nanos() as u64;
    let score = score::score(&said, &heard, until)?;
    Ok((score.heard, score.delay_ms))
}

fn lower(samples: &[f32]) -> Vec<f32> {
    samples.chunks(DECIMATE).map(|group| group.iter().sum::<f32>() / DECIMATE as f32).collect()
}

fn column(samples: &[Sample], value: impl Fn(&Sample) -> f64) -> Vec<f64> {
    samples.iter().map(value).collect()
}

fn figures(samples: &[Sample]) -> Vec<(&'static str, f64)> {
    let heard = column(samples, |sample| sample.heard);
    let added = column(samples, |sample| sample.added_ms);
    let concealed = column(samples, |sample| sample.concealed_pct);
    vec![
        ("traces", samples.len() as f64),
        ("heard_p50", median(&heard)),
        ("heard_p5", percentile(&heard, 5.0)),
        ("concealed_pct_p50", median(&concealed)),
        ("concealed_pct_p95", percentile(&concealed, 95.0)),
        ("added_ms_p50", median(&added)),
        ("added_ms_p95", percentile(&added, 95.0)),
    ]
}

/// A row for each kind of network.
fn table(kinds: &[Kind], samples: &[Sample]) -> String {
    let mut text = format!(
        "{:10} {:>6} {:>7} {:>9} {:>10} {:>9} {:>8} {:>8} {:>8} {:>7}",
        "network",
        "traces",
        "loss_%",
        "jitter_ms",
        "heard_p50",
        "heard_p5",
        "concl_%",
        "added_ms",
        "add_p95",
        "kbit_s"
    );
    for kind in kinds {
        let of_kind: Vec<Sample> =
            samples.iter().filter(|sample| sample.kind == kind.name()).cloned().collect();
        let middle = |value: fn(&Sample) -> f64| median(&column(&of_kind, value));
        let heard = column(&of_kind, |sample| sample.heard);
        let added = column(&of_kind, |sample| sample.added_ms);
        text += &format!(
            "\n{:10} {:6} {:7.1} {:9.1} {:10.3} {:9.3} {:8.2} {:8.1} {:8.1} {:7.1}",
            kind.name(),
            of_kind.len(),
            middle(|sample| sample.loss_pct),
            middle(|sample| sample.variation_ms),
            median(&heard),
            percentile(&heard, 5.0),
            middle(|sample| sample.concealed_pct),
            median(&added),
            percentile(&added, 95.0),
            middle(|sample| sample.kbit_s),
        );
    }
    text
}

/// What the picture shows: score and concealment over loss, score and delay over the variation of delay.
fn panels(samples: &[Sample]) -> Vec<Panel> {
    let of = |kinds: &[Kind], x: fn(&Sample) -> f64, y: fn(&Sample) -> f64| -> Vec<Series> {
        let points = |name: &str| -> Vec<(f64, f64)> {
            let of_kind = samples.iter().filter(|sample| sample.kind == name);
            of_kind.map(|sample| (x(sample), y(sample))).collect()
        };
        kinds.iter().map(|kind| Series { name: kind.name(), points: points(kind.name()) }).collect()
    };
    let lossy = [Kind::Random, Kind::Bursts];
    let late = [Kind::Jitter, Kind::Spikes, Kind::Steps];
    let panel = |title, x, y, x_end, y_end, series| Panel { title, x, y, x_end, y_end, series };
    let (loss, variation) = ("packets lost, %", "95 % of packets within, ms");
    vec![
        panel("Heard, over loss", loss, "0 to 1", 35.0, 1.0, of(&lossy, |s| s.loss_pct, |s| s.heard)),
        panel(
            "Heard, over delay",
            variation,
            "0 to 1",
            200.0,
            1.0,
            of(&late, |s| s.variation_ms, |s| s.heard),
        ),
        panel(
            "Concealed, over loss",
            loss,
            "frames, %",
            35.0,
            25.0,
            of(&lossy, |s| s.loss_pct, |s| s.concealed_pct),
        ),
        panel(
            "Added delay, over delay",
            variation,
            "ms",
            200.0,
            300.0,
            of(&late, |s| s.variation_ms, |s| s.added_ms),
        ),
    ]
}

fn other(error: impl std::fmt::Display) -> BenchError {
    BenchError::Other(error.to_string())
}
