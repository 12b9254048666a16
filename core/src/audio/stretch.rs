//! Speech made a little shorter or longer without a change of pitch: whole periods of the voice are left out or said twice, with
//! a crossfade between neighbours that look alike (pitch-synchronous overlap and add).
//!
//! Nothing is done where no neighbours are alike enough, which a listener would hear; the next frame is usually kinder.

use super::SAMPLE_RATE;

/// The shortest and longest period in samples: 2.5 ms (400 Hz; higher voices are taken two periods at a time) and 10 ms (100 Hz,
/// half of a frame; of the deepest voices some frames are alike at a harmonic of theirs).
pub(crate) const MIN_PERIOD: usize = SAMPLE_RATE as usize / 400;
pub(crate) const MAX_PERIOD: usize = SAMPLE_RATE as usize / 100;

/// How alike neighbours must be, as their normalised correlation.
const ALIKE: f32 = 0.85;
/// Mean power (full scale is 1) below which nobody hears what is done: -50 dBFS.
const QUIET: f32 = 1e-5;
/// The period is first looked for in every so many samples.
const COARSE: usize = 4;

/// Takes a period of at most `at_most` samples out of `samples`, if one is found. Answers how many were taken.
pub(crate) fn squeeze(samples: &mut Vec<f32>, at_most: usize) -> usize {
    let Some(period) = period(samples, at_most) else { return 0 };
    for at in 0..period {
        samples[at] = mixed(samples[at], samples[at + period], at, period);
    }
    samples.drain(period..2 * period);
    period
}

/// Says a period of `samples` twice, if one is found. Answers how many samples that adds.
pub(crate) fn stretch(samples: &mut Vec<f32>) -> usize {
    let Some(period) = period(samples, MAX_PERIOD) else { return 0 };
    let between: Vec<f32> =
        (0..period).map(|at| mixed(samples[at + period], samples[at], at, period)).collect();
    samples.splice(period..period, between);
    period
}

/// From one to the other while `at` goes from 0 to `length`.
fn mixed(from: f32, to: f32, at: usize, length: usize) -> f32 {
    from + (to - from) * at as f32 / length as f32
}

/// The period at the beginning of `samples` with which the crossfade is heard least.
fn period(samples: &[f32], at_most: usize) -> Option<usize> {
    let longest = at_most.min(MAX_PERIOD).min(samples.len() / 2);
    if longest < MIN_PERIOD {
        return None;
    }
    let power = super::mean_square(samples);
    if power < QUIET {
        return Some(longest);
    }
    let thinned: Vec<f32> = samples.chunks_exact(COARSE).map(|chunk| chunk.iter().sum()).collect();
    let coarse = best(&thinned, MIN_PERIOD / COARSE, longest / COARSE)?.0 * COARSE;
    let (shortest, longest) = (coarse.saturating_sub(COARSE).max(MIN_PERIOD), (coarse + COARSE).min(longest));
    best(samples, shortest, longest).filter(|(_, alike)| *alike >= ALIKE).map(|(period, _)| period)
}

/// The period between these for which the beginning is most like what comes a period later, and how alike they are, -1 to 1.
fn best(samples: &[f32], shortest: usize, longest: usize) -> Option<(usize, f32)> {
    // All are judged by as many samples, or a short piece of a long wave would look like a wave of its own.
    let window = samples.len().checked_sub(longest)?;
    let judged = |period| (period, alike(&samples[..window], &samples[period..period + window]));
    (shortest..=longest).map(judged).max_by(|a, b| a.1.total_cmp(&b.1))
}

fn alike(first: &[f32], second: &[f32]) -> f32 {
    let (mut product, mut powers) = (0.0, [0.0; 2]);
    for (a, b) in first.iter().zip(second) {
        product += a * b;
        powers[0] += a * a;
        powers[1] += b * b;
    }
    product / f32::sqrt(powers[0] * powers[1]).max(f32::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: usize = SAMPLE_RATE as usize / 50;

    fn tone(hz: f32, count: usize) -> Vec<f32> {
        (0..count).map(|n| 0.3 * (n as f32 * hz * std::f32::consts::TAU / SAMPLE_RATE as f32).sin()).collect()
    }

    fn noise(count: usize) -> Vec<f32> {
        let mut seed = 1u32;
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 16) as f32 / 65_536.0 - 0.5
        };
        (0..count).map(|_| next()).collect()
    }

    fn largest_step(samples: &[f32]) -> f32 {
        samples.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn a_voice_keeps_its_pitch_and_has_no_seam() {
        for hz in [105.0, 150.0, 220.0, 380.0] {
            let voice = tone(hz, 3 * FRAME);
            let (before, after) = (&voice[..FRAME], &voice[2 * FRAME..]);
            for squeezed in [true, false] {
                let mut frame = voice[FRAME..2 * FRAME].to_vec();
                let by = if squeezed { squeeze(&mut frame, MAX_PERIOD) } else { stretch(&mut frame) };
                assert!((MIN_PERIOD..=MAX_PERIOD).contains(&by), "{hz} Hz: {by}");
                let periods = by as f32 * hz / SAMPLE_RATE as f32;
                assert!(
                    (periods - periods.round()).abs() < 0.05 && periods > 0.5,
                    "{hz} Hz: {periods} periods"
                );
                let length = if squeezed { FRAME - by } else { FRAME + by };
                assert_eq!(frame.len(), length, "{hz} Hz");
                let whole = [before, &frame, after].concat();
                assert!(largest_step(&whole) < largest_step(&voice) * 1.1, "{hz} Hz: a click");
            }
        }
    }

    #[test]
    fn nothing_is_done_where_it_would_be_heard() {
        let mut frame = noise(FRAME);
        let same = frame.clone();
        assert_eq!((squeeze(&mut frame, MAX_PERIOD), stretch(&mut frame)), (0, 0));
        assert_eq!(frame, same);
        // A click is like nothing.
        let mut frame = vec![0.0; FRAME];
        frame[100] = 1.0;
        assert_eq!((squeeze(&mut frame, MAX_PERIOD), stretch(&mut frame)), (0, 0));
    }

    #[test]
    fn in_a_pause_as_much_as_is_wanted() {
        let mut frame = noise(FRAME).iter().map(|sample| sample * 0.005).collect();
        assert_eq!(squeeze(&mut frame, 300), 300);
        assert_eq!(frame.len(), FRAME - 300);
        assert_eq!(stretch(&mut frame), 330, "half of it");
    }

    #[test]
    fn never_more_than_allowed_and_nothing_of_nothing() {
        let voice = tone(150.0, FRAME);
        for at_most in [0, MIN_PERIOD - 1, MIN_PERIOD, 200, 330, FRAME] {
            let mut frame = voice.clone();
            assert!(squeeze(&mut frame, at_most) <= at_most);
        }
        assert_eq!(squeeze(&mut voice[..319].to_vec(), MAX_PERIOD), 0, "no two periods of 150 Hz");
        assert_eq!(squeeze(&mut Vec::new(), MAX_PERIOD), 0);
        assert_eq!(stretch(&mut Vec::new()), 0);
    }
}
