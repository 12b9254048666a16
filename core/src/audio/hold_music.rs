//! What is heard by whoever is put on hold.
//!
//! The piece is our own, written for this project as the notes below, and played by a small music box that adds up decaying
//! sines: so there is no recording, no licence and no file. A user may put a WAV file in its place.

use std::f64::consts::TAU;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::wav::{self, WavSource};
use super::{AudioError, Block, SAMPLE_RATE};

/// Longest music of the user's own, seconds; what is longer is cut.
pub const MAX_HOLD_MUSIC: u32 = 60;
/// Samples of an eighth note: a quarter of a second.
const EIGHTH: u64 = SAMPLE_RATE as u64 / 4;
/// Eighth notes of the piece: eight bars.
const LENGTH: u64 = 64;
/// After which a struck tooth has faded away (e^-8), samples.
const FADED: u32 = 4 * SAMPLE_RATE;
/// Time in which a tone fades to a third, seconds.
const DECAY: f64 = 0.5;
/// In which a tone begins, samples: 3 ms, or it clicks.
const ATTACK: u32 = SAMPLE_RATE * 3 / 1_000;
/// Strength of the overtones against the lowest partial.
const PARTIALS: [f64; 3] = [1.0, 0.3, 0.1];
/// Amplitude of a tone of the melody, and of one that goes along: together well below speech.
const LEAD: f64 = 0.11;
const ACCOMPANY: f64 = 0.05;

/// The melody: when each tone begins, in eighths, and its MIDI number (69 is 440 Hz).
const MELODY: [(u64, u8); 29] = [
    (0, 76),
    (2, 79),
    (4, 84),
    (6, 83),
    (8, 81),
    (11, 79),
    (12, 76),
    (16, 77),
    (18, 81),
    (20, 84),
    (22, 81),
    (24, 79),
    (27, 77),
    (28, 74),
    (32, 76),
    (34, 79),
    (36, 84),
    (38, 86),
    (40, 88),
    (43, 86),
    (44, 83),
    (48, 81),
    (50, 84),
    (52, 83),
    (54, 79),
    (56, 79),
    (57, 77),
    (58, 74),
    (60, 72),
];
/// What goes along: the three tones of each bar's chord.
const CHORDS: [[u8; 3]; 8] = [
    [48, 55, 64],
    [45, 52, 60],
    [53, 57, 60],
    [43, 50, 59],
    [48, 55, 64],
    [40, 55, 59],
    [53, 57, 60],
    [48, 55, 60],
];
/// In which order they are played on the quarters of a bar.
const PICKED: [usize; 4] = [0, 2, 1, 2];

/// What plays while a call is on hold. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct HoldMusic(Arc<OnceLock<Arc<[f32]>>>);

impl HoldMusic {
    /// Plays a WAV file of at most [`MAX_HOLD_MUSIC`] seconds from the next hold on. Takes a while.
    ///
    /// # Errors
    /// It cannot be played; then the music box goes on.
    pub fn open(&self, path: &Path) -> Result<(), AudioError> {
        wav::check_kind(path)?;
        let file = std::fs::File::open(path);
        let file = file.map_err(|error| AudioError::File { path: path.into(), reason: error.to_string() })?;
        let samples = read(path, std::io::BufReader::new(file))?;
        // Only the first one counts; nobody opens another.
        let _ = self.0.set(samples.into());
        Ok(())
    }

    /// Begins to play.
    pub(crate) fn play(&self) -> HoldPlayer {
        match self.0.get() {
            Some(samples) => HoldPlayer::Own { samples: samples.clone(), at: 0 },
            None => HoldPlayer::Box { at: 0, sounding: Vec::new() },
        }
    }
}

/// The samples of a WAV file; `path` is for errors.
pub(crate) fn read(path: &Path, file: impl std::io::Read) -> Result<Vec<f32>, AudioError> {
    let most = (MAX_HOLD_MUSIC * SAMPLE_RATE) as usize;
    let samples = WavSource::from_reader(path, file)?.into_samples(most)?;
    if samples.is_empty() {
        return Err(AudioError::File { path: path.into(), reason: "it is empty".into() });
    }
    Ok(samples)
}

/// Music on its way. It begins anew when it is over.
#[derive(Debug)]
pub(crate) enum HoldPlayer {
    Own { samples: Arc<[f32]>, at: usize },
    Box { at: u64, sounding: Vec<Tooth> },
}

impl HoldPlayer {
    /// The next 10 ms.
    pub(crate) fn next(&mut self, block: &mut Block) {
        match self {
            HoldPlayer::Own { samples, at } => {
                for sample in block.iter_mut() {
                    *sample = samples[*at].clamp(-1.0, 1.0);
                    *at = (*at + 1) % samples.len();
                }
            }
            HoldPlayer::Box { at, sounding } => {
                for sample in block.iter_mut() {
                    if at.is_multiple_of(EIGHTH) {
                        strike(*at / EIGHTH, sounding);
                    }
                    *at = (*at + 1) % (LENGTH * EIGHTH);
                    *sample = sounding.iter_mut().map(Tooth::next).sum::<f64>() as f32;
                }
                sounding.retain(|tooth| tooth.age < FADED);
            }
        }
    }
}

/// Begins the tones of an eighth.
fn strike(eighth: u64, sounding: &mut Vec<Tooth>) {
    let melody = MELODY.iter().filter(|(at, _)| *at == eighth).map(|(_, key)| Tooth::new(*key, LEAD));
    sounding.extend(melody);
    if eighth.is_multiple_of(2) {
        let chord = CHORDS[(eighth / 8) as usize];
        let key = chord[PICKED[(eighth % 8 / 2) as usize]];
        sounding.push(Tooth::new(key, ACCOMPANY));
    }
}

/// A struck tooth of the music box.
#[derive(Debug)]
pub(crate) struct Tooth {
    /// Each partial as a point that turns and draws nearer to zero, and what turns it.
    partials: [(f64, f64); 3],
    turns: [(f64, f64); 3],
    age: u32,
}

impl Tooth {
    fn new(key: u8, level: f64) -> Tooth {
        let hz = 440.0 * ((f64::from(key) - 69.0) / 12.0).exp2();
        let turn = |partial: usize| {
            let angle = hz * (partial + 1) as f64 / f64::from(SAMPLE_RATE) * TAU;
            // Overtones fade sooner.
            let left = (-((partial + 1) as f64) / (DECAY * f64::from(SAMPLE_RATE))).exp();
            (left * angle.cos(), left * angle.sin())
        };
        Tooth { partials: PARTIALS.map(|part| (level * part, 0.0)), turns: [0, 1, 2].map(turn), age: 0 }
    }

    fn next(&mut self) -> f64 {
        let mut sum = 0.0;
        for ((re, im), (cos, sin)) in self.partials.iter_mut().zip(self.turns) {
            (*re, *im) = (*re * cos - *im * sin, *re * sin + *im * cos);
            sum += *im;
        }
        let begun = f64::from(self.age.min(ATTACK)) / f64::from(ATTACK);
        self.age += 1;
        sum * begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::BLOCK_LEN;
    use crate::audio::dial_pad::amplitude;

    fn played(music: &HoldMusic, blocks: usize) -> Vec<f32> {
        let mut player = music.play();
        let (mut sound, mut block) = (Vec::new(), [0.0; BLOCK_LEN]);
        for _ in 0..blocks {
            player.next(&mut block);
            sound.extend_from_slice(&block);
        }
        sound
    }

    #[test]
    fn the_music_box_plays_its_melody_again_and_again_without_clicks() {
        let music = HoldMusic::default();
        let whole = (LENGTH * EIGHTH) as usize;
        let sound = played(&music, 2 * whole / BLOCK_LEN);
        let loudest = sound.iter().map(|sample| sample.abs()).fold(0.0, f32::max);
        assert!((0.1..0.7).contains(&loudest), "{loudest}");
        let steps = sound.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max);
        assert!(steps < 0.1, "{steps}");
        // No pause is so long that somebody would think the call is gone.
        for piece in sound.chunks(SAMPLE_RATE as usize) {
            let power = piece.iter().map(|sample| sample * sample).sum::<f32>() / piece.len() as f32;
            assert!(power > 1e-4, "{power}");
        }
        // E5 at the beginning of each round.
        for begin in [0, whole] {
            let piece = &sound[begin + 500..begin + 8_000];
            assert!(amplitude(piece, 659.26) > 0.05, "{}", amplitude(piece, 659.26));
        }
    }

    #[test]
    fn music_of_the_users_own_takes_its_place_and_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.wav");
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: SAMPLE_RATE,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let write = |samples: u32| {
            let mut writer = hound::WavWriter::create(&path, spec).unwrap();
            (0..samples).for_each(|_| writer.write_sample(8_192_i16).unwrap());
            writer.finalize().unwrap();
        };
        let music = HoldMusic::default();
        write(0);
        assert!(music.open(&path).is_err());
        assert!(music.open(&folder.path().join("none.wav")).is_err());
        assert!(matches!(music.play(), HoldPlayer::Box { .. }), "the music box goes on");
        write(1_000);
        music.open(&path).unwrap();
        let sound = played(&music.clone(), 20);
        assert!(sound.iter().all(|sample| (sample - 0.25).abs() < 0.01), "again and again");
        write((MAX_HOLD_MUSIC + 5) * SAMPLE_RATE);
        let cut = read(&path, std::fs::File::open(&path).unwrap()).unwrap();
        assert_eq!(cut.len(), (MAX_HOLD_MUSIC * SAMPLE_RATE) as usize);
    }
}
