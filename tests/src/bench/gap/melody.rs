//! A sound in which a gap can be measured: short notes, no two alike in a row, without a pause.
//!
//! A terminal that hears nothing more plays on what it heard last for a while, fading. With speech that is hard to tell from
//! speech; here it is a note that does not end. What is heard is cut into frames of 20 ms, and a frame holds sound if
//! one of the notes is in it and is not drawn out.

use std::f64::consts::TAU;
use std::path::Path;

use crate::score::Track;

/// Samples a second of what is spoken.
const RATE: u32 = 16_000;
/// Amplitude, full scale 1.
const LEVEL: f64 = 0.2;
/// Notes, a sixth apart in frequency: in a frame they are well told from each other.
const NOTES: usize = 12;
/// The lowest, in Hz; the highest has 2.2 kHz.
const LOWEST: f64 = 400.0;
const STEP: f64 = 1.17;
/// By how many notes the next one is higher, modulo their number.
const LEAP: usize = 5;
/// Nanoseconds of a frame.
const FRAME_NS: u64 = 20_000_000;
/// Frames that a note lasts. A gap is measured to within one note and a frame.
const NOTE: usize = 3;
/// A note that is heard for more frames than this is drawn out: it begins within a frame, and the jitter buffer may have put one
/// in.
const DRAWN_OUT: usize = 5;
/// So many frames without sound between others are lost packets, no gap.
const LOST: usize = 2;
/// So few frames of sound in silence are none.
const BLIP: usize = 5;
/// What is weaker (RMS, full scale 1) is silence.
const SILENCE: f64 = 0.01;
/// Share of a frame's power that a note must have in it; where one follows another each has half of it.
const SHARE: f64 = 0.3;
/// Sound has come back for good when so many frames, the last ones, are full of it: a second.
const BACK: usize = 50;

/// Writes a melody of so many seconds.
///
/// # Errors
/// When the file can't be written.
pub(super) fn write(path: &Path, seconds: u32) -> Result<(), hound::Error> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: RATE,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec)?;
    for sample in samples(seconds) {
        writer.write_sample((sample * f32::from(i16::MAX)) as i16)?;
    }
    writer.finalize()
}

/// The same as samples; the phase runs on from note to note.
fn samples(seconds: u32) -> impl Iterator<Item = f32> {
    let note_len = RATE as usize * NOTE * FRAME_NS as usize / 1_000_000_000;
    let mut phase = 0.0;
    (0..(RATE * seconds) as usize).map(move |at| {
        phase = (phase + frequency(at / note_len * LEAP % NOTES) / f64::from(RATE)).fract();
        (LEVEL * (TAU * phase).sin()) as f32
    })
}

fn frequency(note: usize) -> f64 {
    LOWEST * STEP.powi(note as i32)
}

/// What was heard from a change of the network on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Heard {
    /// The longest time without sound, in milliseconds; what of it lies before there was a usable path again is not
    /// counted.
    pub gap_ms: f64,
    /// Whether there was sound in the end.
    pub is_back: bool,
}

/// Listens to a recording from `changed_ns` to its end; from `usable_ns` on there was a usable path (CLOCK_MONOTONIC).
pub(super) fn listen(recording: &Track, changed_ns: u64, usable_ns: u64) -> Heard {
    let begin_ns = changed_ns.max(recording.epoch_ns);
    let first = (begin_ns - recording.epoch_ns) as f64 * 1e-9 * f64::from(recording.rate);
    let samples = recording.samples.get(first as usize..).unwrap_or_default();
    let frame_len = (u64::from(recording.rate) * FRAME_NS / 1_000_000_000) as usize;
    let notes = samples.chunks_exact(frame_len).map(|frame| note_in(frame, f64::from(recording.rate)));
    let sound = with_sound(&notes.collect::<Vec<_>>());
    let counted = |(from, len): (usize, usize)| {
        let end_ns = begin_ns + (from + len) as u64 * FRAME_NS;
        let from_ns = usable_ns.max(begin_ns + from as u64 * FRAME_NS);
        end_ns.saturating_sub(from_ns) as f64 / 1e6
    };
    let silent = runs(&sound).into_iter().filter(|(from, _)| !sound[*from]);
    let gap_ms = silent.map(counted).fold(0.0, f64::max);
    Heard { gap_ms, is_back: sound.len() >= BACK && sound.iter().rev().take(BACK).all(|sound| *sound) }
}

/// Which frames hold sound.
fn with_sound(notes: &[Option<usize>]) -> Vec<bool> {
    let mut sound: Vec<bool> = notes.iter().map(Option::is_some).collect();
    for (from, len) in runs(notes) {
        if len > DRAWN_OUT {
            sound[from + NOTE..from + len].fill(false);
        }
    }
    fill_short(&mut sound, false, LOST);
    fill_short(&mut sound, true, BLIP);
    sound
}

/// Turns runs of `value` that are this long at most into their contrary, except at the ends, where they may go on.
fn fill_short(sound: &mut [bool], value: bool, longest: usize) {
    let last = sound.len();
    for (from, len) in runs(sound) {
        if sound[from] == value && len <= longest && from > 0 && from + len < last {
            sound[from..from + len].fill(!value);
        }
    }
}

/// Where values begin that stay the same, and for how long they do.
fn runs<T: PartialEq>(values: &[T]) -> Vec<(usize, usize)> {
    let lengths = values.chunk_by(|a, b| a == b).map(<[T]>::len);
    lengths
        .scan(0, |end, len| {
            *end += len;
            Some((*end - len, len))
        })
        .collect()
}

/// The note that a frame holds, if it does.
fn note_in(frame: &[f32], rate: f64) -> Option<usize> {
    let power = frame.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>() / frame.len() as f64;
    if power < SILENCE * SILENCE {
        return None;
    }
    let powers = (0..NOTES).map(|note| tone_power(frame, frequency(note) / rate));
    let (note, strongest) = powers.enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b))?;
    (strongest > SHARE * power).then_some(note)
}

/// The power of a tone in a frame, by Goertzel's algorithm; its frequency is given in cycles a sample.
fn tone_power(frame: &[f32], frequency: f64) -> f64 {
    let twice_cosine = 2.0 * (TAU * frequency).cos();
    let (mut last, mut before) = (0.0, 0.0);
    for sample in frame {
        (last, before) = (f64::from(*sample) + twice_cosine * last - before, last);
    }
    let squared = last * last + before * before - twice_cosine * last * before;
    2.0 * squared / (frame.len() as f64).powi(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// A melody of ten seconds, heard 137 ms late, of which something is changed.
    fn heard(change: impl FnOnce(&mut Vec<f32>)) -> Track {
        let mut samples = vec![0.0; 137 * RATE as usize / 1_000];
        samples.extend(super::samples(10));
        change(&mut samples);
        Track { epoch_ns: 50 * SECOND, rate: RATE, samples }
    }

    fn at(ms: usize) -> usize {
        ms * RATE as usize / 1_000
    }

    /// What a codec does without packets: the last 20 ms again and again, fading.
    fn conceal(samples: &mut [f32], from_ms: usize, to_ms: usize) {
        let (from, period) = (at(from_ms), at(20));
        for index in from..at(to_ms) {
            let fading = 0.98f32.powi(((index - from) * 1_000 / RATE as usize) as i32);
            samples[index] = samples[index - period] * fading;
        }
    }

    fn is_about(heard: Heard, gap_ms: f64) -> bool {
        (heard.gap_ms - gap_ms).abs() <= 80.0
    }

    #[test]
    fn a_melody_has_no_gap() {
        let heard = listen(&heard(|_| {}), 52 * SECOND, 52 * SECOND);
        assert_eq!(heard, Heard { gap_ms: 0.0, is_back: true });
    }

    #[test]
    fn silence_is_measured() {
        for gap_ms in [100, 333, 1_000, 4_000] {
            let recording = heard(|samples| samples[at(4_000)..at(4_000 + gap_ms)].fill(0.0));
            let heard = listen(&recording, 53_900_000_000, 53_900_000_000);
            assert!(is_about(heard, gap_ms as f64) && heard.is_back, "{heard:?} instead of {gap_ms} ms");
        }
    }

    #[test]
    fn what_a_codec_plays_on_is_a_gap_too() {
        for from_ms in [4_000, 4_017, 4_031, 4_052] {
            let recording = heard(|samples| {
                samples[at(from_ms)..at(4_700)].fill(0.0);
                conceal(samples, from_ms, from_ms + 200);
            });
            let heard = listen(&recording, 53_900_000_000, 53_900_000_000);
            assert!(
                is_about(heard, (4_700 - from_ms) as f64) && heard.is_back,
                "{heard:?} from {from_ms} ms"
            );
        }
    }

    #[test]
    fn a_lost_packet_is_no_gap() {
        let recording = heard(|samples| conceal(samples, 4_000, 4_020));
        assert_eq!(listen(&recording, 52 * SECOND, 52 * SECOND).gap_ms, 0.0);
    }

    #[test]
    fn an_outage_is_not_counted_as_long_as_it_lasts() {
        let recording = heard(|samples| samples[at(3_000)..at(6_300)].fill(0.0));
        let heard = listen(&recording, 52_900_000_000, 56 * SECOND);
        assert!(is_about(heard, 300.0) && heard.is_back, "{heard:?}");
    }

    #[test]
    fn a_moment_of_sound_does_not_end_a_gap() {
        let recording = heard(|samples| {
            samples[at(4_000)..at(4_500)].fill(0.0);
            samples[at(4_580)..at(5_000)].fill(0.0);
        });
        assert!(is_about(listen(&recording, 53 * SECOND, 53 * SECOND), 1_000.0));
    }

    #[test]
    fn a_call_that_stays_silent_has_not_come_back() {
        let recording = heard(|samples| samples[at(4_000)..].fill(0.0));
        let heard = listen(&recording, 53 * SECOND, 53 * SECOND);
        assert!(!heard.is_back && is_about(heard, 6_137.0), "{heard:?}");
        assert!(!listen(&recording, 70 * SECOND, 70 * SECOND).is_back, "nothing was recorded since");
    }

    #[test]
    fn noise_and_speech_are_no_melody() {
        let speech = Track::read(&crate::speech::a(), 50 * SECOND).unwrap();
        assert!(!listen(&speech, 51 * SECOND, 51 * SECOND).is_back);
    }
}
