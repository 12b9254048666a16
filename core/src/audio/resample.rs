//! One channel from one sample rate to another, in a stream.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler as _, WindowFunction};

use super::BLOCK_LEN;

/// Converts what is pushed into it, in pieces of 10 ms of output or a little more.
pub(super) struct Resampler {
    /// `None` when both rates are the same.
    inner: Option<Fft<f32>>,
    input: Vec<f32>,
    output: Vec<f32>,
    /// Output samples to throw away at the beginning: the filter's own delay.
    skip: usize,
}

impl Resampler {
    /// From `from` to `to` Hz. With `aligned` the filter's delay is cut off at the beginning, so that output
    /// sample `i` is spoken at `i / to`; a live stream keeps it instead. `None` if the rates are unusable.
    pub(super) fn new(from: u32, to: u32, aligned: bool) -> Option<Resampler> {
        let mut resampler = Resampler { inner: None, input: Vec::new(), output: Vec::new(), skip: 0 };
        if from != to {
            // The filter's delay is half a piece: with an even number of input samples it is a whole number on
            // both sides, so that cutting it off leaves nothing over.
            let step = 2 * to as usize / gcd(from, to).max(1) as usize;
            let piece = step * BLOCK_LEN.div_ceil(step.max(1));
            let window = WindowFunction::BlackmanHarris2;
            let inner =
                Fft::new_custom(from as usize, to as usize, piece, 1, 1, window, FixedSync::Output).ok()?;
            resampler.skip = if aligned { inner.output_delay() } else { 0 };
            resampler.output = vec![0.0; inner.output_frames_max()];
            resampler.inner = Some(inner);
        }
        Some(resampler)
    }

    /// Whether the two rates differ.
    pub(super) fn converts(&self) -> bool {
        self.inner.is_some()
    }

    /// Takes samples and passes what comes out of them to `take`, piece by piece.
    pub(super) fn push(&mut self, samples: &[f32], mut take: impl FnMut(&[f32])) {
        let Some(inner) = &mut self.inner else { return take(samples) };
        self.input.extend_from_slice(samples);
        let mut used = 0;
        loop {
            let need = inner.input_frames_next();
            let Some(input) = self.input.get(used..used + need) else { break };
            let frames = self.output.len();
            let (Ok(input), Ok(mut output)) = (
                InterleavedSlice::new(input, 1, need),
                InterleavedSlice::new_mut(&mut self.output, 1, frames),
            ) else {
                break;
            };
            let Ok((taken, made)) = inner.process_into_buffer(&input, &mut output, None) else { break };
            used += taken;
            let cut = self.skip.min(made);
            self.skip -= cut;
            take(&self.output[cut..made]);
        }
        self.input.drain(..used);
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(rate: u32, samples: usize) -> Vec<f32> {
        (0..samples).map(|i| (i as f32 / rate as f32 * 440.0 * std::f32::consts::TAU).sin()).collect()
    }

    #[test]
    fn a_tone_stays_where_it_is_in_time() {
        for rate in [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000] {
            let mut resampler = Resampler::new(rate, 48_000, true).unwrap();
            let mut out = Vec::new();
            for piece in tone(rate, rate as usize).chunks(rate as usize / 7) {
                resampler.push(piece, |made| out.extend_from_slice(made));
            }
            let truth = tone(48_000, 48_000);
            assert!(out.len() > 44_000, "{rate}: {}", out.len());
            let worst = (2_000..out.len() - 2_000).map(|i| (out[i] - truth[i]).abs()).fold(0.0, f32::max);
            assert!(worst < 0.02, "{rate} Hz is off by {worst}");
        }
    }
}
