//! The tones of the dial pad: two sines a key (ITU-T Q.23).

use std::collections::VecDeque;
use std::f64::consts::TAU;

use super::{Block, SAMPLE_RATE};

/// How long a key sounds, milliseconds: receivers need 40 (ITU-T Q.24).
pub(crate) const KEY_MS: u16 = 100;
/// Silence between two keys, milliseconds: receivers need 40 (ITU-T Q.24).
const PAUSE_MS: u16 = 70;
/// Keys that may wait to sound: twice what one command presses. Further ones are told to the other end all the same, but not heard.
const MAX_KEYS: usize = 48;
/// In which a tone begins and ends, samples: 2 ms.
const RAMP: u32 = SAMPLE_RATE / 500;

/// The two frequencies of a key, Hz (Q.23 section 4); `None` for what is no key.
pub(crate) fn frequencies(key: char) -> Option<(f64, f64)> {
    let row = |at: usize| [697.0, 770.0, 852.0, 941.0][at];
    let column = |at: usize| [1209.0, 1336.0, 1477.0, 1633.0][at];
    let pad = ["123A", "456B", "789C", "*0#D"];
    let at = pad.iter().enumerate().find_map(|(y, keys)| Some((y, keys.find(key)?)));
    at.map(|(y, x)| (row(y), column(x)))
}

/// Sounds keys one after another.
#[derive(Debug, Default)]
pub(crate) struct DialTones {
    keys: VecDeque<char>,
    /// Samples of the first key and its pause that have been given.
    at: u32,
}

impl DialTones {
    /// Sounds one more key after those that wait.
    pub(crate) fn press(&mut self, key: char) {
        if self.keys.len() < MAX_KEYS {
            self.keys.push_back(key);
        }
    }

    /// Fills a block with each of the two sines at `level`; false, and nothing done, if no key sounds.
    pub(crate) fn next(&mut self, level: f32, block: &mut Block) -> bool {
        if self.keys.is_empty() {
            return false;
        }
        for sample in block.iter_mut() {
            *sample = level * self.sample();
        }
        true
    }

    fn sample(&mut self) -> f32 {
        let Some(key) = self.keys.front() else { return 0.0 };
        let (key_len, whole) = (samples(KEY_MS), samples(KEY_MS + PAUSE_MS));
        let at = self.at;
        let sound = frequencies(*key).filter(|_| at < key_len).map_or(0.0, |(low, high)| {
            let edge = f64::from(at.min(key_len - 1 - at).min(RAMP)) / f64::from(RAMP);
            let time = f64::from(at) / f64::from(SAMPLE_RATE);
            edge * ((low * time * TAU).sin() + (high * time * TAU).sin())
        });
        self.at += 1;
        if self.at == whole {
            self.at = 0;
            self.keys.pop_front();
        }
        sound as f32
    }
}

fn samples(ms: u16) -> u32 {
    u32::from(ms) * SAMPLE_RATE / 1_000
}

/// How much of a frequency there is in a piece of sound: the amplitude of its sine (Goertzel's algorithm).
#[cfg(test)]
pub(crate) fn amplitude(sound: &[f32], hz: f64) -> f64 {
    let step = hz / f64::from(SAMPLE_RATE) * TAU;
    let parts = sound.iter().enumerate().map(|(n, sample)| {
        let angle = step * n as f64;
        (f64::from(*sample) * angle.cos(), f64::from(*sample) * angle.sin())
    });
    let (re, im) = parts.fold((0.0, 0.0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
    2.0 * re.hypot(im) / sound.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::BLOCK_LEN;

    #[test]
    fn each_key_has_its_two_frequencies_of_q_23_and_is_heard_alone() {
        let keys = "1234567890*#ABCD";
        let mut tones = DialTones::default();
        keys.chars().for_each(|key| tones.press(key));
        let (mut sound, mut block) = (Vec::new(), [0.0; BLOCK_LEN]);
        while tones.next(0.2, &mut block) {
            sound.extend_from_slice(&block);
        }
        let whole = samples(KEY_MS + PAUSE_MS) as usize;
        assert_eq!(sound.len(), keys.len() * whole);
        let all = [697.0, 770.0, 852.0, 941.0, 1209.0, 1336.0, 1477.0, 1633.0];
        for (key, piece) in keys.chars().zip(sound.chunks(whole)) {
            let (tone, pause) = piece.split_at(samples(KEY_MS) as usize);
            let (low, high) = frequencies(key).unwrap();
            for hz in all {
                let there = amplitude(tone, hz);
                let expected = hz == low || hz == high;
                assert!(if expected { there > 0.17 } else { there < 0.05 }, "{key}: {hz} Hz {there}");
            }
            assert!(pause.iter().all(|sample| sample.abs() < 1e-6), "{key}: a pause follows");
        }
        assert_eq!(frequencies('x'), None);
        let steps = sound.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max);
        assert!(steps < 0.09, "no clicks: {steps}");
    }

    #[test]
    fn more_keys_than_anybody_presses_are_not_kept() {
        let mut tones = DialTones::default();
        (0..1_000).for_each(|_| tones.press('5'));
        assert_eq!(tones.keys.len(), MAX_KEYS);
    }
}
