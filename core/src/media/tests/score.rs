//! How well and how late speech arrives, by cross-correlation in windows of one second.

use std::path::Path;

use crate::audio::{BLOCK_LEN, BLOCK_TIME, DeviceSpec, open_source};

/// Rate at which files are compared: 0.125 ms per sample.
const RATE: i64 = 8_000;
const DECIMATE: usize = 6;
/// Delays that are looked at, in samples: -20 to 300 ms.
const LAGS: std::ops::Range<i64> = -RATE / 50..RATE * 3 / 10;

/// Samples per window: one second.
const WINDOW: usize = RATE as usize;
/// Mean power above which a window has speech in it (-50 dB).
const SPEECH: f64 = 1e-5;

#[derive(Debug)]
pub(in crate::media) struct Score {
    pub(in crate::media) correlation: f64,
    /// Mouth to ear.
    pub(in crate::media) delay_ms: f64,
}

/// A whole file as a microphone would say it.
pub(in crate::media) fn read(path: &Path) -> Vec<f32> {
    let seconds =
        hound::WavReader::open(path).map(|wav| wav.duration() / wav.spec().sample_rate + 1).unwrap();
    let mut source = open_source(&DeviceSpec::File(path.to_owned())).unwrap();
    let start = source.start(std::time::Instant::now()).unwrap();
    let (mut samples, mut block) = (Vec::new(), [0.0; BLOCK_LEN]);
    for _ in 0..seconds * 100 {
        source.read(start + BLOCK_TIME * (seconds * 100 + 1), &mut block).unwrap();
        samples.extend_from_slice(&block);
    }
    samples
}

fn lower(samples: &[f32]) -> Vec<f64> {
    samples.chunks(DECIMATE).map(|six| f64::from(six.iter().sum::<f32>()) / DECIMATE as f64).collect()
}

/// Compares two files: what was said from `mic_ns` on with what was heard from `speaker_ns` on.
pub(super) fn compare(said: &Path, mic_ns: u64, heard: &Path, speaker_ns: u64) -> Score {
    compare_samples(&read(said), &read(heard), speaker_ns as i64 - mic_ns as i64)
}

/// The same for samples at 48 kHz; `later_ns` is how much later the hearing began than the speaking.
pub(in crate::media) fn compare_samples(said: &[f32], heard: &[f32], later_ns: i64) -> Score {
    let (said, heard) = (lower(said), lower(heard));
    let offset = later_ns * RATE / 1_000_000_000;
    // Windows, because a jitter buffer may change the delay on the way; the median, because of pauses.
    let mut windows: Vec<(f64, f64)> = (0..heard.len() / WINDOW)
        .filter(|n| power(&heard[n * WINDOW..(n + 1) * WINDOW]) > SPEECH)
        .map(|n| best(&said, &heard, n * WINDOW, offset))
        .collect();
    windows.sort_by(|a, b| a.0.total_cmp(&b.0));
    let correlation = windows.get(windows.len() / 2).map_or(0.0, |window| window.0);
    windows.sort_by(|a, b| a.1.total_cmp(&b.1));
    let delay_ms = windows.get(windows.len() / 2).map_or(f64::NAN, |window| window.1);
    Score { correlation, delay_ms }
}

fn power(samples: &[f64]) -> f64 {
    samples.iter().map(|sample| sample * sample).sum::<f64>() / samples.len() as f64
}

/// Highest correlation of the window of `heard` that begins at `from`, and its delay in milliseconds. These are the loops that take
/// the time of these tests: every other delay is looked at first, then the neighbours of the best.
fn best(said: &[f64], heard: &[f64], from: usize, offset: i64) -> (f64, f64) {
    let window = &heard[from..heard.len().min(from + WINDOW)];
    // What was said from the longest delay before the window on, as silence where nothing was.
    let begin = from as i64 + offset - LAGS.end;
    let length = window.len() + (LAGS.end - LAGS.start) as usize;
    let at = |i: i64| usize::try_from(i).ok().and_then(|i| said.get(i)).copied().unwrap_or(0.0);
    let said: Vec<f64> = (begin..begin + length as i64).map(at).collect();
    let mut powers = vec![0.0];
    said.iter().for_each(|sample| powers.push(powers[powers.len() - 1] + sample * sample));
    let heard_power: f64 = window.iter().map(|sample| sample * sample).sum();
    let at_lag = |lag: i64| {
        let first = (LAGS.end - lag) as usize;
        let product: f64 = window.iter().zip(&said[first..]).map(|(heard, said)| heard * said).sum();
        let said_power = powers[first + window.len()] - powers[first];
        (product / (said_power * heard_power).sqrt().max(1e-9), lag)
    };
    let highest = |lags: &mut dyn Iterator<Item = i64>| {
        lags.map(at_lag).max_by(|one, other| one.0.total_cmp(&other.0)).unwrap()
    };
    let (_, near) = highest(&mut LAGS.step_by(2));
    let (correlation, lag) = highest(&mut (near - 1..=near + 1).filter(|lag| LAGS.contains(lag)));
    (correlation, lag as f64 * 1_000.0 / RATE as f64)
}
