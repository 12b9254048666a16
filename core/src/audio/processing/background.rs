//! Whether there is noise behind the voice that is worth suppressing.
//!
//! Suppression costs what is spoken something, too: clean speech scores 3.95 behind it (PESQ-WB, 4.64 at most). So it is left alone
//! where there is none. The noise is what remains when nobody speaks, the least power of the last seconds; the voice the most.

use crate::audio::Block;

/// Blocks that are taken together: 50 ms, since noise itself is uneven.
const MOMENT: u32 = 5;
/// Moments that are looked back on, 10 s; few people speak longer without a pause.
const MOMENTS: usize = 200;
/// How many of those there have to be before anything is said.
const ENOUGH: usize = 10;

/// How far below the voice noise is not heard any more, and above what it surely is; between these it stays as it was. Decibels.
const CLEAN: f32 = 40.0;
const NOISY: f32 = 36.0;
/// What a quiet voice is taken for, dBFS: its level is raised later, and that of the noise with it.
const QUIET_VOICE: f32 = -40.0;
/// No noise is as quiet as this, dBFS.
const SILENCE: f32 = -100.0;

/// See the module's documentation.
pub(super) struct Background {
    /// Sum of squares of the present moment, and its blocks.
    sum: f32,
    blocks: u32,
    /// Power of the last moments, dBFS, the oldest first.
    moments: std::collections::VecDeque<f32>,
    noisy: bool,
}

impl Background {
    pub(super) fn new() -> Background {
        Background {
            sum: 0.0,
            blocks: 0,
            moments: std::collections::VecDeque::with_capacity(MOMENTS + 1),
            // Who begins to speak in a noisy place has not paused yet.
            noisy: true,
        }
    }

    /// Whether there is noise, as far as is known.
    pub(super) fn noisy(&self) -> bool {
        self.noisy
    }

    /// Takes a block that the microphone gives.
    pub(super) fn spoken(&mut self, block: &Block) {
        self.sum += block.iter().map(|sample| sample * sample).sum::<f32>();
        self.blocks += 1;
        if self.blocks < MOMENT {
            return;
        }
        let mean = self.sum / (self.blocks as usize * block.len()) as f32;
        (self.sum, self.blocks) = (0.0, 0);
        self.moments.push_back((10.0 * mean.max(1e-20).log10()).max(SILENCE));
        if self.moments.len() > MOMENTS {
            self.moments.pop_front();
        }
        if self.moments.len() >= ENOUGH {
            self.judge();
        }
    }

    fn judge(&mut self) {
        let least = self.moments.iter().copied().fold(f32::INFINITY, f32::min);
        let most = self.moments.iter().copied().fold(QUIET_VOICE, f32::max);
        self.noisy = match most - least {
            CLEAN.. => false,
            ..NOISY => true,
            _ => self.noisy,
        };
    }
}
