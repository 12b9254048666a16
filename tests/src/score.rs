//! Whether what one end heard is what the other end said, and how much later.
//!
//! Both recordings lie on one time axis (CLOCK_MONOTONIC). The score is the median, over the 1 s windows of what
//! was said that hold speech, of the peak of the normalised cross-correlation with what was heard, the lag
//! searched within 500 ms around the call's delay. 1 is a perfect copy. Silence, another voice and one's own voice stay
//! below 0.3, which the tests below prove on the recordings that are used.
//!
//! Correlation is done on the telephone band (up to 4 kHz), flattened by a pre-emphasis: otherwise the
//! strong, nearly periodic low end of any two voices looks alike.

use std::path::{Path, PathBuf};

use rustfft::{FftPlanner, num_complex::Complex};

/// Rate at which tracks are compared, in Hz.
const RATE: u32 = 16_000;
/// Highest frequency that counts, in Hz.
const BAND: f64 = 4_000.0;
/// One window of speech, in samples: 1 s.
const WINDOW: usize = RATE as usize;
/// How far around the call's delay a window is searched, in samples: 500 ms.
const SEARCH: usize = RATE as usize / 2;
/// Longest delay of a call that is looked for, in samples: 2 s.
const LONGEST_DELAY: usize = 2 * RATE as usize;
/// What is weaker than this (RMS, full scale 1) is silence: -66 dB.
const SILENCE: f64 = 0.0005;

/// Why a recording could not be judged.
#[derive(Debug, thiserror::Error)]
pub enum ScoreError {
    /// The file is missing or no WAV file.
    #[error("{}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: hound::Error,
    },
    /// Nothing to listen for.
    #[error("what was said holds no whole second of speech before the end of the call")]
    NothingSaid,
}

/// Mono sound on the time axis of CLOCK_MONOTONIC.
#[derive(Clone, Debug)]
pub struct Track {
    /// When the first sample was spoken or heard, in nanoseconds of CLOCK_MONOTONIC.
    pub epoch_ns: u64,
    /// Samples a second.
    pub rate: u32,
    /// Samples, full scale 1.
    pub samples: Vec<f32>,
}

impl Track {
    /// Reads a WAV file, mixing its channels. A file whose writer was killed is read as far as it goes.
    ///
    /// # Errors
    /// [`ScoreError::File`].
    pub fn read(path: &Path, epoch_ns: u64) -> Result<Self, ScoreError> {
        let wrong = |source| ScoreError::File { path: path.to_owned(), source };
        let mut reader = hound::WavReader::open(path).map_err(wrong)?;
        let spec = reader.spec();
        let all: Vec<f32> = match spec.sample_format {
            hound::SampleFormat::Float => reader.samples::<f32>().map_while(Result::ok).collect(),
            hound::SampleFormat::Int => {
                let full = (1i64 << (spec.bits_per_sample - 1)) as f32;
                reader.samples::<i32>().map_while(Result::ok).map(|sample| sample as f32 / full).collect()
            }
        };
        let channels = usize::from(spec.channels.max(1));
        let samples =
            all.chunks_exact(channels).map(|frame| frame.iter().sum::<f32>() / channels as f32).collect();
        Ok(Self { epoch_ns, rate: spec.sample_rate, samples })
    }
}

/// How well one end heard the other.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Score {
    /// Median over all windows with speech, 0 to 1.
    pub heard: f64,
    /// Mouth to ear, in milliseconds, to a sixteenth of one; meaningless if `heard` is low.
    pub delay_ms: f64,
    /// Every window: its peak, in the order of time.
    pub windows: Vec<f64>,
}

/// Judges what was heard of what was said up to `until_ns` (CLOCK_MONOTONIC), the end of the conversation. A recording
/// that ends earlier counts as silence from there on.
///
/// # Errors
/// [`ScoreError::NothingSaid`] if there is no second of speech to listen for.
pub fn score(said: &Track, heard: &Track, until_ns: u64) -> Result<Score, ScoreError> {
    let spoken_ns = until_ns.saturating_sub(said.epoch_ns);
    let mut said_band = band(said);
    said_band.truncate((spoken_ns as f64 * 1e-9 * f64::from(RATE)) as usize);
    let heard_band = on_axis_of(said, heard, said_band.len() + LONGEST_DELAY + SEARCH + WINDOW);
    let delay = call_delay(&said_band, &heard_band);
    // The last words are still under way when the conversation ends.
    said_band.truncate(said_band.len().saturating_sub(delay));
    let windows = speech_windows(&said_band);
    if windows.is_empty() {
        return Err(ScoreError::NothingSaid);
    }
    let peaks: Vec<f64> = windows
        .iter()
        .map(|start| {
            let from = (start + delay) as isize - SEARCH as isize;
            let around = cut(&heard_band, from, WINDOW + 2 * SEARCH);
            best_match(&said_band[*start..start + WINDOW], &around).1
        })
        .collect();
    Ok(Score { heard: median(&peaks), delay_ms: delay as f64 * 1e3 / f64::from(RATE), windows: peaks })
}

/// The median; 0 of nothing. For an even count the mean of the middle two.
pub fn median(values: &[f64]) -> f64 {
    percentile(values, 50.0)
}

/// A percentile (0 to 100) by linear interpolation; 0 of nothing.
pub fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let at = percent.clamp(0.0, 100.0) / 100.0 * last as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

/// The telephone band of a track at the common rate, flattened.
fn band(track: &Track) -> Vec<f32> {
    let cutoff = BAND.min(f64::from(track.rate) * 0.45);
    let narrow = resample(&track.samples, f64::from(track.rate), cutoff);
    let mut previous = 0.0;
    narrow
        .iter()
        .map(|sample| {
            let flat = sample - 0.9 * previous;
            previous = *sample;
            flat
        })
        .collect()
}

/// What was heard, laid so that index 0 is the moment at which the first sample of `said` was spoken.
fn on_axis_of(said: &Track, heard: &Track, len: usize) -> Vec<f32> {
    let later_ns = i128::from(said.epoch_ns) - i128::from(heard.epoch_ns);
    let shift = (later_ns as f64 * 1e-9 * f64::from(RATE)).round() as isize;
    cut(&band(heard), shift, len)
}

/// `len` samples from index `from`, which may lie outside; silence fills up.
fn cut(samples: &[f32], from: isize, len: usize) -> Vec<f32> {
    (from..from + len as isize)
        .map(|index| usize::try_from(index).ok().and_then(|index| samples.get(index)).copied().unwrap_or(0.0))
        .collect()
}

/// The delay, in samples, that suits the whole of what was said best.
fn call_delay(said: &[f32], heard: &[f32]) -> usize {
    let products = correlate(said, heard, LONGEST_DELAY);
    let best = products.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
    best.map_or(0, |(lag, _)| lag)
}

/// Starts of the whole seconds of which more than half is speech: 20 ms frames within 30 dB of the loudest.
fn speech_windows(said: &[f32]) -> Vec<usize> {
    let frame = RATE as usize / 50;
    let power =
        |samples: &[f32]| samples.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / samples.len() as f64;
    let loudest = said.chunks_exact(frame).map(power).fold(0.0, f64::max);
    let threshold = (loudest * 1e-3).max(SILENCE * SILENCE);
    let is_speech = |window: &[f32]| {
        let frames = window.chunks_exact(frame);
        let count = frames.len();
        frames.filter(|frame| power(frame) > threshold).count() * 2 > count
    };
    (0..said.len() / WINDOW)
        .map(|i| i * WINDOW)
        .filter(|start| is_speech(&said[*start..start + WINDOW]))
        .collect()
}

/// Lag and height of the best normalised correlation of `window` anywhere in `around`.
fn best_match(window: &[f32], around: &[f32]) -> (usize, f64) {
    let lags = around.len() - window.len();
    let energy = |samples: &[f32]| samples.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>();
    let own = energy(window).sqrt();
    let floor = SILENCE * SILENCE * window.len() as f64;
    let mut there = energy(&around[..window.len()]);
    let mut best = (0, 0.0);
    for (lag, product) in correlate(window, around, lags).into_iter().enumerate() {
        if there > floor && own > 0.0 {
            let height = product / (own * there.sqrt());
            if height > best.1 {
                best = (lag, height.min(1.0));
            }
        }
        if lag < lags {
            there += f64::from(around[lag + window.len()]).powi(2) - f64::from(around[lag]).powi(2);
        }
    }
    best
}

/// Sums of products of `short` with `long` moved by 0 to `lags` samples, by way of the frequency domain.
fn correlate(short: &[f32], long: &[f32], lags: usize) -> Vec<f64> {
    let size = (short.len() + lags + 1).next_power_of_two().max(2);
    let spectrum = |samples: &[f32], planner: &mut FftPlanner<f64>| {
        let mut line: Vec<Complex<f64>> =
            samples.iter().take(size).map(|s| Complex::new(f64::from(*s), 0.0)).collect();
        line.resize(size, Complex::new(0.0, 0.0));
        planner.plan_fft_forward(size).process(&mut line);
        line
    };
    let mut planner = FftPlanner::new();
    let short = spectrum(short, &mut planner);
    let mut product = spectrum(&long[..long.len().min(short.len())], &mut planner);
    for (long, short) in product.iter_mut().zip(&short) {
        *long *= short.conj();
    }
    planner.plan_fft_inverse(size).process(&mut product);
    product.iter().take(lags + 1).map(|value| value.re / size as f64).collect()
}

/// Band-limited interpolation to the common rate: a sinc of 16 zero crossings a side under a Hann window.
fn resample(samples: &[f32], rate: f64, cutoff: f64) -> Vec<f32> {
    let step = rate / f64::from(RATE);
    let scale = 2.0 * cutoff / rate;
    let reach = 16.0 / scale;
    let count = (samples.len() as f64 / step) as usize;
    (0..count)
        .map(|index| {
            let centre = index as f64 * step;
            let first = (centre - reach).ceil().max(0.0) as usize;
            let last = ((centre + reach) as usize).min(samples.len() - 1);
            (first..=last)
                .map(|i| {
                    let distance = i as f64 - centre;
                    let window = 0.5 + 0.5 * (std::f64::consts::PI * distance / reach).cos();
                    f64::from(samples[i]) * scale * sinc(scale * distance) * window
                })
                .sum::<f64>() as f32
        })
        .collect()
}

fn sinc(x: f64) -> f64 {
    let turn = std::f64::consts::PI * x;
    if turn.abs() < 1e-9 { 1.0 } else { turn.sin() / turn }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speech;

    const SECOND: u64 = 1_000_000_000;

    fn spoken(path: &Path) -> Track {
        Track::read(path, 100 * SECOND).unwrap()
    }

    /// The same sound, heard this much later; the recording itself began half a second before anything was said.
    fn later(said: &Track, delay_ms: f64) -> Track {
        let mut samples = vec![0.0; ((0.5 + delay_ms / 1e3) * f64::from(said.rate)).round() as usize];
        samples.extend(&said.samples);
        Track { epoch_ns: said.epoch_ns - SECOND / 2, rate: said.rate, samples }
    }

    fn until(said: &Track) -> u64 {
        said.epoch_ns + 16 * SECOND
    }

    #[test]
    fn an_exact_copy_scores_one_and_gives_its_delay() {
        let said = spoken(&speech::a());
        let result = score(&said, &later(&said, 112.5), until(&said)).unwrap();
        assert!(result.heard > 0.99, "{result:?}");
        assert!((result.delay_ms - 112.5).abs() < 0.2, "{result:?}");
        assert!(result.windows.len() >= 12, "{result:?}");
    }

    #[test]
    fn a_copy_through_a_narrow_noisy_codec_scores_high() {
        let said = spoken(&speech::b());
        let mut heard = later(&said, 180.0);
        let mut noise = 1u32;
        for (index, sample) in heard.samples.iter_mut().enumerate() {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let hiss = (noise >> 8) as f32 / (1 << 24) as f32 - 0.5;
            // Eight bits with a logarithmic curve (G.711), some noise, every twentieth 20 ms packet lost.
            let coded = (sample.abs() * 255.0).ln_1p() / 256f32.ln();
            let decoded =
                (((coded * 127.0).round() / 127.0 * 256f32.ln()).exp_m1() / 255.0).copysign(*sample);
            *sample = if (index / 320) % 20 == 7 { 0.0 } else { decoded * 0.5 + 0.01 * hiss };
        }
        let result = score(&said, &heard, until(&said)).unwrap();
        assert!(result.heard > 0.85, "{result:?}");
        assert!((result.delay_ms - 180.0).abs() < 0.2, "{result:?}");
    }

    #[test]
    fn another_rate_changes_nothing() {
        let said = spoken(&speech::a());
        // 48 kHz by repetition: its images lie above the band.
        let samples = said.samples.iter().flat_map(|sample| [*sample; 3]).collect();
        let heard = Track { epoch_ns: said.epoch_ns + SECOND / 20, rate: 48_000, samples };
        let result = score(&said, &heard, until(&said)).unwrap();
        assert!(result.heard > 0.9, "{result:?}");
        assert!((result.delay_ms - 50.0).abs() < 0.2, "{result:?}");
    }

    #[test]
    fn silence_scores_nothing() {
        let said = spoken(&speech::a());
        for level in [0.0, 1e-4] {
            let hum = (0..320_000).map(|i| level * (i as f32 * 0.02).sin()).collect();
            let heard = Track { epoch_ns: said.epoch_ns, rate: RATE, samples: hum };
            assert!(score(&said, &heard, until(&said)).unwrap().heard < 0.3);
        }
        let nothing = Track { epoch_ns: said.epoch_ns, rate: RATE, samples: Vec::new() };
        assert_eq!(score(&said, &nothing, until(&said)).unwrap().heard, 0.0);
    }

    #[test]
    fn ones_own_voice_and_noise_are_not_taken_for_the_other() {
        for (mine, other) in [(speech::a(), speech::b()), (speech::b(), speech::a())] {
            let (mine, other) = (spoken(&mine), spoken(&other));
            for delay_ms in [0.0, 60.0, 300.0] {
                let result = score(&other, &later(&mine, delay_ms), until(&other)).unwrap();
                assert!(result.heard < 0.3, "{result:?}");
            }
        }
        let said = spoken(&speech::a());
        let mut noise = 1u32;
        let samples = (0..320_000).map(|_| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 8) as f32 / (1 << 24) as f32 - 0.5
        });
        let heard = Track { epoch_ns: said.epoch_ns, rate: RATE, samples: samples.collect() };
        assert!(score(&said, &heard, until(&said)).unwrap().heard < 0.3);
    }

    #[test]
    fn what_was_not_recorded_counts_as_silence() {
        let said = spoken(&speech::a());
        let mut heard = later(&said, 80.0);
        heard.samples.truncate(6 * 16_000);
        let result = score(&said, &heard, until(&said)).unwrap();
        assert!(result.heard < 0.3, "{result:?}");
        assert!(result.windows[0] > 0.9, "{result:?}");
    }

    #[test]
    fn a_call_without_speech_can_not_be_judged() {
        let said = spoken(&speech::a());
        assert!(matches!(score(&said, &said, said.epoch_ns + SECOND / 2), Err(ScoreError::NothingSaid)));
    }

    #[test]
    fn percentiles_interpolate() {
        assert_eq!(median(&[3.0, 1.0, 2.0, 10.0]), 2.5);
        assert_eq!(percentile(&[1.0, 2.0, 3.0], 100.0), 3.0);
        assert_eq!(median(&[]), 0.0);
    }
}
