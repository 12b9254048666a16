//! What a telephone says by itself: the bell, and the tones that tell a caller how a call stands.
//!
//! Tones follow the suggestions of ITU-T E.180 (cadences of table 1, 425 Hz, and the special information tone of section
//! 7). The bell is a recording of an old telephone's (`bell.wav`: made for this project by adding up the partials of two gongs
//! that are struck in turn), or a WAV file of the user's own.

mod greeting;
mod player;

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::wav::{self, WavSource};
use super::{AudioError, BLOCK_LEN, Block, SAMPLE_RATE};

pub(crate) use greeting::Greeting;
pub(crate) use player::TonePlayer;

/// Longest ringtone, seconds: what is longer is cut.
pub const MAX_RINGTONE: u32 = 30;

const BELL: &[u8] = include_bytes!("tones/bell.wav");
/// Silence between two rings (E.180: 3 to 5 s).
const BETWEEN_RINGS: u32 = 3 * SAMPLE_RATE;
/// Amplitude of a tone, 1 being full scale: well below speech.
const LEVEL: f32 = 0.08;
/// In which a tone begins and ends, samples: 5 ms, or it clicks.
const RAMP: u32 = SAMPLE_RATE / 200;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Somebody calls.
    Bell,
    /// Somebody calls while one is talking.
    CallWaiting,
    /// It rings at the other end.
    Ringback,
    /// The other end is busy, or has declined.
    Busy,
    /// The call could not be made: nobody there, no such number, a failure.
    Special,
    /// The other end has hung up.
    End,
}

/// A piece of a tone: frequency in Hz (0 is silence) and length in milliseconds.
type Piece = (f32, u32);

impl Tone {
    /// Its pieces, and how often they are repeated; `None` until it is stopped.
    fn cadence(self) -> (&'static [Piece], Option<u32>) {
        match self {
            // Played from its recording.
            Tone::Bell => (&[], Some(0)),
            Tone::CallWaiting => (&[(425.0, 400), (0.0, 9_000)], None),
            Tone::Ringback => (&[(425.0, 1_000), (0.0, 4_000)], None),
            Tone::Busy => (&[(425.0, 500), (0.0, 500)], Some(6)),
            Tone::Special => (&[(950.0, 330), (1_400.0, 330), (1_800.0, 330), (0.0, 1_000)], Some(3)),
            Tone::End => (&[(425.0, 200), (0.0, 200)], Some(3)),
        }
    }
}

/// The bell of an account.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ringtone(Arc<[f32]>);

impl Ringtone {
    /// The old telephone's.
    fn bell() -> Result<Ringtone, AudioError> {
        Ringtone::read(Path::new("bell.wav"), Cursor::new(BELL))
    }

    /// A WAV file of at most [`MAX_RINGTONE`] seconds; more is not read.
    fn open(path: &Path) -> Result<Ringtone, AudioError> {
        wav::check_kind(path)?;
        let file = std::fs::File::open(path);
        let file = file.map_err(|error| AudioError::File { path: path.into(), reason: error.to_string() })?;
        Ringtone::read(path, std::io::BufReader::new(file))
    }

    /// This one, or the old telephone's if there is none or it cannot be played: that is no reason not to ring.
    fn open_or_bell(path: Option<&Path>) -> Result<Ringtone, AudioError> {
        match path.map(Ringtone::open) {
            Some(Ok(ringtone)) => Ok(ringtone),
            Some(Err(error)) => {
                tracing::warn!(%error, "the ringtone cannot be played");
                Ringtone::bell()
            }
            None => Ringtone::bell(),
        }
    }

    /// The same of what has been opened; `path` is for errors.
    pub(crate) fn read(path: &Path, file: impl std::io::Read) -> Result<Ringtone, AudioError> {
        let samples =
            WavSource::from_reader(path, file)?.into_samples((MAX_RINGTONE * SAMPLE_RATE) as usize)?;
        if samples.is_empty() {
            return Err(AudioError::File { path: PathBuf::from(path), reason: "it is empty".into() });
        }
        Ok(Ringtone(samples.into()))
    }
}

/// A tone on its way.
#[derive(Debug)]
pub(crate) struct Sounding {
    tone: Tone,
    /// What rings, for the bell.
    ringtone: Option<Ringtone>,
    /// Samples given so far.
    at: u64,
}

impl Sounding {
    /// A tone; a bell without a ringtone is silent.
    pub(crate) fn new(tone: Tone, ringtone: Option<Ringtone>) -> Sounding {
        Sounding { tone, ringtone, at: 0 }
    }

    /// The next 10 ms; false when it is over.
    pub(crate) fn next(&mut self, block: &mut Block) -> bool {
        let begin = self.at;
        self.at += BLOCK_LEN as u64;
        if self.tone == Tone::Bell {
            let ring = self.ringtone.as_ref().map_or(&[][..], |ringtone| &ringtone.0);
            let period = ring.len() as u64 + u64::from(BETWEEN_RINGS);
            for (n, sample) in block.iter_mut().enumerate() {
                let at = (begin + n as u64) % period;
                *sample = ring.get(at as usize).copied().unwrap_or(0.0);
            }
            return true;
        }
        let (pieces, repeats) = self.tone.cadence();
        let period: u64 = pieces.iter().map(|(_, ms)| samples(*ms)).sum();
        if repeats.is_some_and(|repeats| begin >= period * u64::from(repeats)) {
            return false;
        }
        for (n, sample) in block.iter_mut().enumerate() {
            *sample = tone_at(pieces, (begin + n as u64) % period);
        }
        true
    }
}

/// A tone that is repeated again and again on top of what is heard anyway.
#[derive(Debug)]
pub(crate) struct Overlay {
    pieces: &'static [Piece],
    at: u64,
}

impl Overlay {
    /// Tells that a call is recorded: half a second of 1400 Hz every 15 s, beginning at once (Federal Standard 1037C, "recorder
    /// warning tone"; what records must make it, and the user must not be able to leave it out).
    pub(crate) fn recorded() -> Overlay {
        Overlay { pieces: &[(1_400.0, 500), (0.0, 14_500)], at: 0 }
    }

    /// Adds its next 10 ms.
    pub(crate) fn add_to(&mut self, block: &mut Block) {
        let period: u64 = self.pieces.iter().map(|(_, ms)| samples(*ms)).sum();
        for sample in block.iter_mut() {
            *sample = (*sample + tone_at(self.pieces, self.at % period)).clamp(-1.0, 1.0);
            self.at += 1;
        }
    }
}

fn samples(ms: u32) -> u64 {
    u64::from(ms) * u64::from(SAMPLE_RATE) / 1_000
}

/// The sample of a cadence that long after its beginning.
fn tone_at(pieces: &[Piece], mut at: u64) -> f32 {
    for (hz, ms) in pieces {
        let length = samples(*ms);
        if at < length {
            let edge = at.min(length - 1 - at).min(u64::from(RAMP)) as f32 / RAMP as f32;
            let turns = at as f32 * hz / SAMPLE_RATE as f32;
            return LEVEL * edge * (turns.fract() * std::f32::consts::TAU).sin();
        }
        at -= length;
    }
    0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sounded(tone: Tone, blocks: usize) -> Vec<f32> {
        let mut sounding = Sounding::new(tone, Ringtone::bell().ok());
        let (mut out, mut block) = (Vec::new(), [0.0; BLOCK_LEN]);
        while out.len() < blocks * BLOCK_LEN && sounding.next(&mut block) {
            out.extend_from_slice(&block);
        }
        out
    }

    fn power(samples: &[f32]) -> f32 {
        samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len().max(1) as f32
    }

    /// How often the sign changes to plus in a second: the frequency of a sine.
    fn frequency(samples: &[f32]) -> f32 {
        let crossings = samples.windows(2).filter(|pair| pair[0] <= 0.0 && pair[1] > 0.0).count();
        crossings as f32 * SAMPLE_RATE as f32 / samples.len() as f32
    }

    #[test]
    fn tones_have_the_frequencies_and_cadences_of_e_180() {
        let ringback = sounded(Tone::Ringback, 1_000);
        let second = SAMPLE_RATE as usize;
        assert!((frequency(&ringback[..second]) - 425.0).abs() < 2.0);
        assert!(power(&ringback[..second]) > 1e-3);
        assert!(power(&ringback[second..5 * second]) < 1e-9, "four seconds of silence");
        assert!(power(&ringback[5 * second..6 * second]) > 1e-3, "and again");
        assert_eq!(ringback.len(), 10 * second, "as long as it is wanted");

        let busy = sounded(Tone::Busy, 10_000);
        assert_eq!(busy.len(), 6 * second, "it ends by itself");
        let half = second / 2;
        assert!(power(&busy[..half]) > 1e-3 && power(&busy[half..second]) < 1e-9);

        let special = sounded(Tone::Special, 10_000);
        let piece = samples(330) as usize;
        for (n, hz) in [950.0, 1_400.0, 1_800.0].into_iter().enumerate() {
            let heard = frequency(&special[n * piece..(n + 1) * piece]);
            assert!((heard - hz).abs() < 8.0, "{heard} instead of {hz} Hz");
        }
    }

    #[test]
    fn no_tone_clicks() {
        for tone in [Tone::CallWaiting, Tone::Ringback, Tone::Busy, Tone::Special, Tone::End] {
            let steps = sounded(tone, 1_200);
            let largest = steps.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max);
            let (pieces, _) = tone.cadence();
            let highest = pieces.iter().map(|(hz, _)| *hz).fold(0.0, f32::max);
            let of_a_sine = LEVEL * std::f32::consts::TAU * highest / SAMPLE_RATE as f32;
            assert!(largest < of_a_sine * 1.2, "{tone:?}: {largest}");
        }
    }

    #[test]
    fn the_warning_tone_is_heard_every_15_seconds_beside_what_is_said() {
        let (mut overlay, mut out) = (Overlay::recorded(), Vec::new());
        for _ in 0..3_100 {
            let mut block = [0.5; BLOCK_LEN];
            overlay.add_to(&mut block);
            out.extend(block.map(|sample| sample - 0.5));
        }
        let second = SAMPLE_RATE as usize;
        for begin in [0, 15, 30] {
            let tone = &out[begin * second..begin * second + second / 2];
            assert!((frequency(tone) - 1_400.0).abs() < 3.0 && power(tone) > 1e-3);
            let rest = &out[begin * second + second / 2..out.len().min((begin + 15) * second)];
            assert!(power(rest) < 1e-9);
        }
    }

    #[test]
    fn the_bell_rings_and_pauses() {
        let rung = sounded(Tone::Bell, 1_200);
        let length = Ringtone::bell().unwrap().0.len();
        assert!((2 * SAMPLE_RATE as usize..3 * SAMPLE_RATE as usize).contains(&length), "{length}");
        assert!(power(&rung[..length]) > 1e-3);
        assert!(power(&rung[length..length + BETWEEN_RINGS as usize]) < 1e-9);
        let again = length + BETWEEN_RINGS as usize;
        assert_eq!(rung[again..again + 1_000], rung[..1_000]);
        assert!(rung.iter().all(|sample| sample.abs() <= 1.0));
    }

    #[test]
    fn a_ringtone_of_the_users_own_is_read_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, seconds: u32| {
            let path = folder.path().join(name);
            let spec = hound::WavSpec {
                channels: 2,
                sample_rate: 8_000,
                bits_per_sample: 16,
                sample_format: hound::SampleFormat::Int,
            };
            let mut writer = hound::WavWriter::create(&path, spec).unwrap();
            (0..seconds * 16_000).for_each(|n| writer.write_sample((n % 100) as i16 * 100).unwrap());
            writer.finalize().unwrap();
            path
        };
        let short = Ringtone::open(&write("short.wav", 1)).unwrap();
        assert!((45_000..55_000).contains(&short.0.len()), "{}", short.0.len());
        let long = Ringtone::open(&write("long.wav", MAX_RINGTONE + 10)).unwrap();
        assert_eq!(long.0.len(), (MAX_RINGTONE * SAMPLE_RATE) as usize);
        assert!(Ringtone::open(&write("empty.wav", 0)).is_err());
        assert!(Ringtone::open(folder.path()).is_err());
        assert!(Ringtone::open(&folder.path().join("none.wav")).is_err());
        let bell = Ringtone::bell().unwrap();
        assert_eq!(Ringtone::open_or_bell(None), Ok(bell.clone()));
        assert_eq!(
            Ringtone::open_or_bell(Some(&folder.path().join("none.wav"))),
            Ok(bell),
            "it rings all the same"
        );
    }
}
