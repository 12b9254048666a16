//! How loud: a factor that the user sets, and that never jumps.

use super::{BLOCK_LEN, Block};

/// Largest [`Volume`], percent.
pub const MAX_VOLUME: u16 = 200;
/// Above this a louder voice is bent instead of cut off, 1 being full scale.
const KNEE: f32 = 0.8;

/// Loudness of a loudspeaker or ringer: 100 % is sound as it comes, 0 % silence, [`MAX_VOLUME`] % twice the amplitude.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Volume(u16);

impl Default for Volume {
    fn default() -> Self {
        Volume(100)
    }
}

impl Volume {
    /// A volume in percent; `None` above [`MAX_VOLUME`].
    #[must_use]
    pub fn new(percent: u16) -> Option<Volume> {
        (percent <= MAX_VOLUME).then_some(Volume(percent))
    }

    /// In percent.
    #[must_use]
    pub fn percent(self) -> u16 {
        self.0
    }

    pub(crate) fn factor(self) -> f32 {
        f32::from(self.0) / 100.0
    }
}

/// A factor that moves to a new value within one block: a jump would click.
#[derive(Debug, Default)]
pub(crate) struct Ramp(Option<f32>);

impl Ramp {
    /// One that begins there instead of at the first value wanted.
    pub(crate) fn at(factor: f32) -> Ramp {
        Ramp(Some(factor))
    }

    /// Multiplies a block; what comes after has the factor `to`.
    pub(crate) fn apply(&mut self, to: f32, block: &mut Block) {
        let from = self.0.replace(to).unwrap_or(to);
        // The factors are set, not computed: what is the same is equal.
        #[allow(clippy::float_cmp, reason = "the same value or another one")]
        if from == to {
            if to != 1.0 {
                block.iter_mut().for_each(|sample| *sample *= to);
            }
            return;
        }
        let step = (to - from) / BLOCK_LEN as f32;
        for (n, sample) in block.iter_mut().enumerate() {
            *sample *= from + step * (n + 1) as f32;
        }
    }
}

/// Bends what is louder than [`KNEE`] so that it stays below full scale.
pub(crate) fn limit(block: &mut Block) {
    for sample in block.iter_mut().filter(|sample| sample.abs() > KNEE) {
        let over = (sample.abs() - KNEE) / (1.0 - KNEE);
        *sample = (KNEE + (1.0 - KNEE) * over.tanh()).copysign(*sample);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_has_bounds() {
        assert_eq!(Volume::new(0).map(Volume::percent), Some(0));
        assert_eq!(Volume::new(MAX_VOLUME).map(Volume::factor), Some(2.0));
        assert_eq!(Volume::new(MAX_VOLUME + 1), None);
        assert!((Volume::default().factor() - 1.0).abs() < f32::EPSILON);
    }

    #[test]
    fn a_changed_volume_does_not_click() {
        let mut ramp = Ramp::default();
        let mut sound = Vec::new();
        for factor in [1.0, 1.0, 0.0, 0.0, 2.0, 2.0] {
            let mut block = [0.4; BLOCK_LEN];
            ramp.apply(factor, &mut block);
            sound.extend_from_slice(&block);
        }
        let largest = sound.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max);
        assert!(largest < 0.002, "{largest}");
        assert!(sound[3 * BLOCK_LEN..4 * BLOCK_LEN].iter().all(|sample| *sample == 0.0));
        assert!((sound[sound.len() - 1] - 0.8).abs() < 1e-6);
    }

    #[test]
    fn what_is_too_loud_is_bent_and_never_cut() {
        let mut block = std::array::from_fn(|n| (n as f32 / 100.0).sin() * 2.0);
        let before = block;
        limit(&mut block);
        assert!(block.iter().all(|sample| sample.abs() < 1.0 + 1e-6));
        for (bent, sample) in block.iter().zip(before) {
            assert!(sample.abs() > KNEE || (bent - sample).abs() < f32::EPSILON, "quiet sound stays");
        }
    }
}
