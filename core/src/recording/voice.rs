//! Voice messages that are left in mailboxes: recorded here, read from a file, and played.

use std::io::Cursor;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use offhook_proto::mailbox::letter::{MAX_VOICEMAIL_BYTES, MAX_VOICEMAIL_MS};

use super::head::Tags;
use super::mux::Mux;
use super::play::{Sound, play};
use super::{RecordingError, Track};
use crate::audio::{
    AudioError, BLOCK_LEN, BLOCK_TIME, Block, DeviceKind, DeviceSpec, Greeting, open_sink, open_source,
    read_hold_music,
};

/// Longest voice message.
pub const MAX_VOICE: Duration = Duration::from_millis(MAX_VOICEMAIL_MS as u64);
/// A microphone that gives nothing for this long has stalled.
const STALL: Duration = Duration::from_secs(1);

/// A voice message: Opus in Ogg, of one channel.
#[derive(Clone, PartialEq, Eq)]
pub struct Voice {
    /// Its bytes.
    pub audio: Vec<u8>,
    /// How long it is.
    pub duration: Duration,
}

impl std::fmt::Debug for Voice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Voice({:?}, {} bytes)", self.duration, self.audio.len())
    }
}

/// A voice message on its way into memory; it is over when it is as long as one may be.
struct Writer {
    mux: Mux<Vec<u8>>,
    blocks: u32,
}

impl Writer {
    fn new() -> Result<Self, RecordingError> {
        let title = Tags(vec![("TITLE".to_owned(), "voice message".to_owned())]);
        let mux = Mux::new(Vec::new(), &[title], rand::random()).map_err(|_| AudioError::Codec)?;
        Ok(Self { mux, blocks: 0 })
    }

    /// Whether there is room for more.
    fn push(&mut self, samples: &[i16; BLOCK_LEN]) -> Result<bool, RecordingError> {
        self.mux.push(0, samples).map_err(|_| AudioError::Codec)?;
        self.blocks += 1;
        Ok(BLOCK_TIME * (self.blocks + 1) <= MAX_VOICE)
    }

    fn finish(self) -> Result<Voice, RecordingError> {
        let duration = BLOCK_TIME * self.blocks;
        let audio = self.mux.finish().map_err(|_| AudioError::Codec)?;
        if audio.len() > MAX_VOICEMAIL_BYTES || self.blocks == 0 {
            return Err(RecordingError::VoiceLength);
        }
        Ok(Voice { audio, duration })
    }
}

fn whole(block: &Block) -> [i16; BLOCK_LEN] {
    block.map(|sample| (sample.clamp(-1.0, 1.0) * f32::from(i16::MAX)) as i16)
}

impl Voice {
    /// Plays the tone after which one speaks, and then records what the microphone hears, until `stop` is set or it is as long as a
    /// voice message may be.
    ///
    /// # Errors
    /// A device cannot be used, or nothing was heard.
    pub fn record(mic: &DeviceSpec, speaker: &DeviceSpec, stop: &AtomicBool) -> Result<Self, RecordingError> {
        mic.check(DeviceKind::Mic)?;
        let mut source = open_source(mic)?;
        beep(speaker)?;
        let mut writer = Writer::new()?;
        source.start(Instant::now())?;
        let mut block: Block = [0.0; BLOCK_LEN];
        let mut heard = Instant::now();
        while !stop.load(Relaxed) {
            if source.read(Instant::now(), &mut block)? {
                heard = Instant::now();
                if !writer.push(&whole(&block))? {
                    break;
                }
            } else if heard.elapsed() >= STALL {
                return Err(AudioError::Stalled.into());
            } else {
                std::thread::sleep(BLOCK_TIME / 2);
            }
        }
        writer.finish()
    }

    /// Reads a file: WAV if it is called so, of at most a minute, else Opus in Ogg. It is encoded anew, so nothing but its sound goes on.
    ///
    /// # Errors
    /// There is no sound in it, or more than a voice message may have.
    pub fn read(path: &Path) -> Result<Self, RecordingError> {
        let mut writer = Writer::new()?;
        if path.extension().is_some_and(|kind| kind.eq_ignore_ascii_case("wav")) {
            let file = std::fs::File::open(path).map_err(RecordingError::io(path))?;
            let samples = read_hold_music(path, file)?;
            for part in samples.chunks(BLOCK_LEN) {
                let mut block: Block = [0.0; BLOCK_LEN];
                block[..part.len()].copy_from_slice(part);
                if !writer.push(&whole(&block))? {
                    return Err(RecordingError::VoiceLength);
                }
            }
            return writer.finish();
        }
        let mut sound = Sound::open(path, Track::Both)?;
        while let Some(samples) = sound.next_samples() {
            if !writer.push(&samples)? {
                return Err(RecordingError::VoiceLength);
            }
        }
        writer.finish()
    }

    /// Plays Opus in Ogg, one's own or what has come, until it is over or `stop` is set. Answers how much was played.
    ///
    /// # Errors
    /// There is no sound in it, or the loudspeaker cannot be used.
    pub fn play(audio: Vec<u8>, speaker: &DeviceSpec, stop: &AtomicBool) -> Result<Duration, RecordingError> {
        play(Sound::of(Cursor::new(audio), Path::new("the message"), Track::Both)?, speaker, stop)
    }
}

/// The tone of an answering machine.
fn beep(speaker: &DeviceSpec) -> Result<(), RecordingError> {
    let tone = Greeting::open_or_default(None);
    let mut sink = open_sink(speaker)?;
    sink.start(Instant::now())?;
    let mut at = tone.beep_at();
    let mut taken = Instant::now();
    while at < tone.len() {
        for _ in 0..sink.wanted(Instant::now()) {
            taken = Instant::now();
            let mut block: Block = [0.0; BLOCK_LEN];
            tone.copy(at, &mut block);
            at += BLOCK_LEN;
            sink.write(&block)?;
        }
        if taken.elapsed() >= STALL {
            return Err(AudioError::Stalled.into());
        }
        std::thread::sleep(BLOCK_TIME);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn tone(path: &Path, seconds: u32) {
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: 48_000,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut wav = hound::WavWriter::create(path, spec).unwrap();
        for n in 0..seconds * 48_000 {
            wav.write_sample(((f64::from(n) * 0.05).sin() * 9_000.0) as i16).unwrap();
        }
        wav.finalize().unwrap();
    }

    #[test]
    fn p14_a_file_becomes_a_voice_message_that_can_be_played() {
        let folder = tempfile::tempdir().unwrap();
        let (wav, opus) = (folder.path().join("a.wav"), folder.path().join("a.opus"));
        tone(&wav, 2);
        let voice = Voice::read(&wav).unwrap();
        assert_eq!(voice.duration, Duration::from_secs(2));
        std::fs::write(&opus, &voice.audio).unwrap();
        let again = Voice::read(&opus).unwrap();
        assert!(again.duration.abs_diff(voice.duration) <= BLOCK_TIME, "{again:?}");
        let played = Voice::play(voice.audio, &DeviceSpec::None, &AtomicBool::new(false)).unwrap();
        assert!(played.abs_diff(Duration::from_secs(2)) <= BLOCK_TIME, "{played:?}");
        std::fs::write(&opus, b"nonsense").unwrap();
        assert!(matches!(Voice::read(&opus), Err(RecordingError::NoSound(_))));
    }

    #[test]
    fn p14_what_the_microphone_hears_after_the_tone_is_recorded_until_it_is_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let wav = folder.path().join("a.wav");
        tone(&wav, 1);
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let voice = std::thread::scope(|scope| {
            let recording =
                scope.spawn(|| Voice::record(&DeviceSpec::File(wav.clone()), &DeviceSpec::None, &stop));
            std::thread::sleep(Duration::from_millis(1_500));
            stop.store(true, Relaxed);
            recording.join().unwrap().unwrap()
        });
        assert!(voice.duration >= Duration::from_millis(200), "{voice:?}");
        assert!(!voice.audio.is_empty());
    }
}
