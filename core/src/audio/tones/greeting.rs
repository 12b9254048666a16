//! What an answering machine says.

use std::path::Path;
use std::sync::Arc;

use super::{Piece, Ringtone, SAMPLE_RATE, samples, tone_at};
use crate::audio::{BLOCK_LEN, Block};

/// Heard if the account has no greeting of its own: three rising notes, made here, which say in no language that nobody is there.
const DEFAULT: &[Piece] = &[(659.3, 250), (0.0, 50), (784.0, 250), (0.0, 50), (987.8, 500), (0.0, 300)];
/// After which the caller may speak.
const BEEP: &[Piece] = &[(1_000.0, 400)];
/// How much louder than other tones they are: nothing else is heard with them.
const GAIN: f32 = 2.0;
/// Silence before the first word: the caller's end has just begun to listen.
const BEFORE: usize = SAMPLE_RATE as usize / 4;

/// A greeting and the beep behind it. Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Greeting {
    sound: Arc<[f32]>,
    beep_at: usize,
}

impl Greeting {
    /// A WAV file's, of at most [`MAX_RINGTONE`](super::MAX_RINGTONE) seconds, or ours if there is none or it cannot be played: that is no
    /// reason not to take a message.
    pub(crate) fn open_or_default(path: Option<&Path>) -> Greeting {
        match path.map(Ringtone::open) {
            Some(Ok(Ringtone(words))) => Greeting::of(&words),
            Some(Err(error)) => {
                tracing::warn!(%error, "the greeting cannot be played");
                Greeting::of(&sounded(DEFAULT))
            }
            None => Greeting::of(&sounded(DEFAULT)),
        }
    }

    fn of(words: &[f32]) -> Greeting {
        let mut sound = vec![0.0; BEFORE];
        sound.extend_from_slice(words);
        // Whole blocks: the beep begins with one.
        sound.resize(sound.len().next_multiple_of(BLOCK_LEN), 0.0);
        let beep_at = sound.len();
        sound.extend(sounded(BEEP));
        Greeting { sound: sound.into(), beep_at }
    }

    /// All samples.
    pub(crate) fn len(&self) -> usize {
        self.sound.len()
    }

    /// Samples before the beep.
    pub(crate) fn beep_at(&self) -> usize {
        self.beep_at
    }

    /// Copies the block that begins with sample `at`; nothing is left of it after the beep.
    pub(crate) fn copy(&self, at: usize, block: &mut Block) {
        let rest = self.sound.get(at..).unwrap_or(&[]);
        let count = rest.len().min(BLOCK_LEN);
        block[..count].copy_from_slice(&rest[..count]);
    }
}

fn sounded(pieces: &[Piece]) -> Vec<f32> {
    let length: u64 = pieces.iter().map(|(_, ms)| samples(*ms)).sum();
    (0..length).map(|at| GAIN * tone_at(pieces, at)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beep_comes_after_the_greeting_and_then_nothing() {
        let greeting = Greeting::open_or_default(None);
        let mut heard = Vec::new();
        for n in 0..300 {
            let mut block: Block = [0.0; BLOCK_LEN];
            greeting.copy(n * BLOCK_LEN, &mut block);
            heard.extend_from_slice(&block);
        }
        let beep = &heard[greeting.beep_at()..greeting.beep_at() + samples(400) as usize];
        let rises = beep.windows(2).filter(|pair| pair[0] <= 0.0 && pair[1] > 0.0).count();
        assert!((395..=405).contains(&rises), "{rises}");
        assert!(heard[greeting.beep_at() + beep.len()..].iter().all(|sample| *sample == 0.0));
        assert!(
            heard.iter().all(|sample| sample.abs() < 0.2) && greeting.beep_at().is_multiple_of(BLOCK_LEN)
        );
        let missing = Greeting::open_or_default(Some(Path::new("/nonexistent.wav")));
        assert_eq!(missing, greeting, "it answers all the same");
    }
}
