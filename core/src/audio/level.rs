//! How loud something is.

use serde::{Deserialize, Serialize};

use super::{BLOCK_LEN, Block};

/// Blocks that a meter takes together: a tenth of a second.
const BLOCKS: usize = 10;
/// What silence is shown as: less than any card's own noise, dBFS.
const FLOOR: f32 = -100.0;

/// How loud a tenth of a second was, in decibels below full scale: 0 is the loudest there is, -100 is silence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Level {
    /// The largest sample, dBFS.
    pub peak: f32,
    /// Root of the mean square, dBFS; a sine of full scale has -3.
    pub rms: f32,
}

impl Level {
    /// Silence.
    pub const SILENCE: Level = Level { peak: FLOOR, rms: FLOOR };

    /// Of these samples.
    pub fn of(samples: &[f32]) -> Level {
        let (peak, power) =
            samples.iter().fold((0.0f32, 0.0f32), |(peak, sum), s| (peak.max(s.abs()), sum + s * s));
        Level::from_amplitudes(peak, (power / samples.len().max(1) as f32).sqrt())
    }

    fn from_amplitudes(peak: f32, rms: f32) -> Level {
        Level { peak: decibels(peak), rms: decibels(rms) }
    }
}

/// The mean square of samples; 0 of none.
pub(crate) fn mean_square(samples: &[f32]) -> f32 {
    samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len().max(1) as f32
}

/// An amplitude in decibels, 1 being full scale.
pub(crate) fn decibels(amplitude: f32) -> f32 {
    // Tenths are all that anybody looks at.
    ((20.0 * amplitude.log10()).max(FLOOR) * 10.0).round() / 10.0
}

/// Measures block by block.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    blocks: usize,
    peak: f32,
    power: f32,
}

impl Meter {
    /// Takes a block; answers how loud the last tenth of a second was when it is over.
    pub(crate) fn take(&mut self, block: &Block) -> Option<Level> {
        self.blocks += 1;
        for sample in block {
            self.peak = self.peak.max(sample.abs());
            self.power += sample * sample;
        }
        if self.blocks < BLOCKS {
            return None;
        }
        let whole = std::mem::take(self);
        Some(Level::from_amplitudes(whole.peak, (whole.power / (BLOCKS * BLOCK_LEN) as f32).sqrt()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sine_of_half_the_scale_is_at_minus_six_and_nine() {
        let sine: Vec<f32> = (0..4_800).map(|n| 0.5 * (n as f32 * 0.1).sin()).collect();
        let level = Level::of(&sine);
        assert!((level.peak + 6.0).abs() < 0.1 && (level.rms + 9.0).abs() < 0.1, "{level:?}");
        assert_eq!(Level::of(&[0.0; 480]), Level::SILENCE);
        assert_eq!(Level::of(&[]), Level::SILENCE);
        assert_eq!(Level::of(&[-1.0; 480]), Level { peak: 0.0, rms: 0.0 });
    }

    #[test]
    fn a_meter_tells_ten_times_a_second() {
        let mut meter = Meter::default();
        let told: Vec<Level> = (0..100).filter_map(|_| meter.take(&[0.1; BLOCK_LEN])).collect();
        assert_eq!(told, [Level { peak: -20.0, rms: -20.0 }; 10]);
        (0..9).for_each(|_| assert_eq!(meter.take(&[1.0; BLOCK_LEN]), None));
        assert_eq!(meter.take(&[0.0; BLOCK_LEN]).map(|level| level.peak), Some(0.0));
    }
}
