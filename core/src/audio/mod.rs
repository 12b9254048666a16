//! Sound: where it comes from, where it goes, and the codec between.
//!
//! Everything moves in blocks of 10 ms at 48 kHz, one channel. A source or sink never blocks: it says whether
//! a block is there, or how many are wanted, at a given instant. The same voice engine therefore runs on sound
//! devices, on WAV files that behave like devices, and in tests on a clock of their own.

mod check;
mod choice;
mod codec;
mod custom;
mod device;
mod dial_pad;
#[doc(hidden)]
pub mod fuzz;
mod hold_music;
mod level;
mod processing;
mod resample;
pub(crate) mod stretch;
mod tones;
mod trial;
mod volume;
mod wav;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

pub(crate) use check::utc;
pub use choice::DeviceChoice;
pub(crate) use codec::{FRAME, VoiceDecoder, VoiceEncoder, is_pause};
pub use custom::{AudioProvider, CustomDevice};
pub(crate) use device::Changes;
#[doc(hidden)]
pub use device::callbacks;
pub use device::{DeviceInfo, DeviceKind, devices};
pub(crate) use dial_pad::{DialTones, KEY_MS};
pub use hold_music::{HoldMusic, MAX_HOLD_MUSIC};
pub(crate) use hold_music::{HoldPlayer, read as read_hold_music};
pub use level::Level;
pub(crate) use level::{Meter, mean_square};
pub(crate) use processing::Processor;
pub use processing::{Processing, UnknownProcessing};
pub use tones::MAX_RINGTONE;
pub(crate) use tones::{Greeting, Overlay, Ringtone, Sounding, Tone, TonePlayer};
pub use trial::{Finding, SoundTest, TrialStep, sound_test};
pub use volume::{MAX_VOLUME, Volume};
pub(crate) use volume::{Ramp, limit};

/// Samples per second, everywhere but at the devices themselves.
pub const SAMPLE_RATE: u32 = 48_000;
/// Samples per block.
pub const BLOCK_LEN: usize = 480;
/// Time per block.
pub const BLOCK_TIME: Duration = Duration::from_millis(10);

/// 10 ms of sound, -1 to 1.
pub type Block = [f32; BLOCK_LEN];

/// A microphone.
pub trait AudioSource: Send {
    /// Begins. Returns when the first sample is spoken, usually `now`.
    ///
    /// # Errors
    /// The device or file cannot be used.
    fn start(&mut self, now: Instant) -> Result<Instant, AudioError>;

    /// Fills `block` with the next 10 ms if all of them have been spoken by `now`; otherwise returns false.
    /// Must not block. A source that has nothing for 600 ms, or in the first
    /// 1.5 s, counts as gone.
    ///
    /// # Errors
    /// The device is gone; the source is not used again.
    fn read(&mut self, now: Instant, block: &mut Block) -> Result<bool, AudioError>;

    /// When the next block is likely to be there, if that is known: it is asked for then, otherwise every 10 ms. What is
    /// fetched late is sent late.
    fn next_ready(&self, _now: Instant) -> Option<Instant> {
        None
    }
}

/// A loudspeaker.
pub trait AudioSink: Send {
    /// Begins. Returns when the first sample will be heard, usually `now`.
    ///
    /// # Errors
    /// The device or file cannot be used.
    fn start(&mut self, now: Instant) -> Result<Instant, AudioError>;

    /// How many blocks the sink needs by `now` so that it does not run dry. One that needs nothing for 600 ms,
    /// or in the first 1.5 s, counts as gone.
    fn wanted(&mut self, now: Instant) -> usize;

    /// When it will next want a block, if that is known: it is asked then, otherwise every 10 ms. What is written early
    /// waits.
    fn next_wanted(&self, _now: Instant) -> Option<Instant> {
        None
    }

    /// Takes the next block. Must not block.
    ///
    /// # Errors
    /// The device is gone or the disk is full; the sink is not used again.
    fn write(&mut self, block: &Block) -> Result<(), AudioError>;
}

/// Which microphone or loudspeaker to use. Written `default`, `none`, `file:PATH` or a device id.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum DeviceSpec {
    /// The system's default device.
    #[default]
    Default,
    /// A device by the id that [`devices`] lists.
    Id(String),
    /// A WAV file: played as microphone at its own pace, then silence; written anew by each call as loudspeaker.
    /// `{time}` and `{number}` in a loudspeaker's path stand for the beginning of the call and the other end's
    /// number, so that each call has a file of its own.
    File(PathBuf),
    /// Silence in, nothing out.
    None,
    /// What the embedding program provides.
    Custom(CustomDevice),
}

impl FromStr for DeviceSpec {
    type Err = AudioError;

    fn from_str(text: &str) -> Result<DeviceSpec, AudioError> {
        match (text, text.strip_prefix("file:")) {
            ("default", _) => Ok(DeviceSpec::Default),
            ("none", _) => Ok(DeviceSpec::None),
            ("" | "file:", _) => Err(AudioError::NoName),
            (_, Some(path)) => Ok(DeviceSpec::File(path.into())),
            (id, None) => Ok(DeviceSpec::Id(id.to_owned())),
        }
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceSpec::Default => f.write_str("default"),
            DeviceSpec::Id(id) => f.write_str(id),
            DeviceSpec::File(path) => write!(f, "file:{}", path.display()),
            DeviceSpec::None => f.write_str("none"),
            DeviceSpec::Custom(_) => f.write_str("custom"),
        }
    }
}

impl DeviceSpec {
    /// What sounds in its place while it is not there: whoever has chosen a device wants to hear and be heard in any case.
    pub(crate) fn stand_in(&self) -> Option<DeviceSpec> {
        match self {
            DeviceSpec::Id(_) => Some(DeviceSpec::Default),
            DeviceSpec::Default | DeviceSpec::File(_) | DeviceSpec::None | DeviceSpec::Custom(_) => None,
        }
    }

    /// What is done to what it records: nothing if that comes of a file.
    pub(crate) fn processing(&self, wanted: Processing) -> Processing {
        match self {
            DeviceSpec::Default | DeviceSpec::Id(_) | DeviceSpec::Custom(_) => wanted,
            DeviceSpec::File(_) | DeviceSpec::None => Processing::NONE,
        }
    }
}

/// What can go wrong with sound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AudioError {
    /// The text for a device is empty.
    #[error("no device was named; use default, none, file:PATH or an id from `devices`")]
    NoName,
    /// There is no such device, or no default one.
    #[error("there is no sound device {0}")]
    NoDevice(String),
    /// The device exists but does not work, or went away.
    #[error("the sound device {name} cannot be used: {reason}")]
    Device {
        /// Its name.
        name: String,
        /// What the system says.
        reason: String,
    },
    /// The device neither gives nor takes a sample any more.
    #[error("the sound device has stalled")]
    Stalled,
    /// The file cannot be read or written.
    #[error("cannot use the sound file {}: {reason}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The codec refused its settings.
    #[error("the voice codec does not work")]
    Codec,
}

/// Opens the microphone that `spec` names.
pub(crate) fn open_source(spec: &DeviceSpec) -> Result<Box<dyn AudioSource>, AudioError> {
    match spec {
        DeviceSpec::Default => device::open_source(None),
        DeviceSpec::Id(id) => device::open_source(Some(id)),
        DeviceSpec::File(path) => Ok(Box::new(wav::WavSource::open(path)?)),
        DeviceSpec::None => Ok(Box::new(Nothing::default())),
        DeviceSpec::Custom(device) => device.source().ok_or_else(|| AudioError::NoDevice("custom".into())),
    }
}

/// Opens the loudspeaker that `spec` names.
pub(crate) fn open_sink(spec: &DeviceSpec) -> Result<Box<dyn AudioSink>, AudioError> {
    match spec {
        DeviceSpec::Default => device::open_sink(None),
        DeviceSpec::Id(id) => device::open_sink(Some(id)),
        DeviceSpec::File(path) => Ok(Box::new(wav::WavSink::create(path)?)),
        DeviceSpec::None => Ok(Box::new(Nothing::default())),
        DeviceSpec::Custom(device) => device.sink().ok_or_else(|| AudioError::NoDevice("custom".into())),
    }
}

/// Opens the loudspeaker that `spec` names before it is needed, unless others could then not use it.
pub(crate) fn open_shared_sink(spec: &DeviceSpec) -> Option<Box<dyn AudioSink>> {
    match spec {
        DeviceSpec::Default => device::open_shared_sink(None),
        DeviceSpec::Id(id) => device::open_shared_sink(Some(id)),
        DeviceSpec::File(_) | DeviceSpec::None | DeviceSpec::Custom(_) => None,
    }
}

/// Tells when it is time to look whether what was opened as `spec` is still what sounds. `None` if it would say so itself.
pub(crate) fn changes_of(spec: &DeviceSpec) -> Option<Changes> {
    match spec {
        DeviceSpec::Id(id) => device::changes_of(id),
        DeviceSpec::Default | DeviceSpec::File(_) | DeviceSpec::None | DeviceSpec::Custom(_) => None,
    }
}

/// Blocks since a start, for sources and sinks that keep time by the clock alone.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    start: Option<Instant>,
    /// Blocks that were taken or given.
    blocks: u32,
}

impl Pace {
    /// Begins to count.
    pub(crate) fn start(&mut self, now: Instant) -> Instant {
        self.start = Some(now);
        self.blocks = 0;
        now
    }

    /// Of a source: when the next block is over.
    pub(crate) fn next_spoken(&self) -> Option<Instant> {
        Some(self.next_start()? + BLOCK_TIME)
    }

    /// When the next block begins; a sink is to have it then.
    pub(crate) fn next_start(&self) -> Option<Instant> {
        Some(self.start? + BLOCK_TIME * self.blocks)
    }

    /// Of a source: whether the next block is over at `now`; if so it is counted.
    pub(crate) fn take_spoken(&mut self, now: Instant) -> bool {
        let spoken = self.next_start().is_some_and(|start| start + BLOCK_TIME <= now);
        self.blocks += u32::from(spoken);
        spoken
    }

    /// Of a sink: counts the block that it was given, and says how many it has.
    pub(crate) fn given(&mut self) -> u32 {
        self.blocks += 1;
        self.blocks
    }

    /// Of a sink: blocks that have begun by `now` and were not given yet.
    pub(crate) fn begun(&self, now: Instant) -> usize {
        match self.next_start() {
            Some(start) if start <= now => {
                1 + (now - start).as_micros() as usize / BLOCK_TIME.as_micros() as usize
            }
            Some(_) | None => 0,
        }
    }
}

/// A microphone that is always silent, and a loudspeaker that nobody hears. They keep time like real ones.
#[derive(Debug, Default)]
pub(crate) struct Nothing(Pace);

impl AudioSource for Nothing {
    fn start(&mut self, now: Instant) -> Result<Instant, AudioError> {
        Ok(self.0.start(now))
    }

    fn read(&mut self, now: Instant, block: &mut Block) -> Result<bool, AudioError> {
        block.fill(0.0);
        Ok(self.0.take_spoken(now))
    }

    fn next_ready(&self, _now: Instant) -> Option<Instant> {
        self.0.next_spoken()
    }
}

impl AudioSink for Nothing {
    fn start(&mut self, now: Instant) -> Result<Instant, AudioError> {
        Ok(self.0.start(now))
    }

    fn wanted(&mut self, now: Instant) -> usize {
        self.0.begun(now)
    }

    fn next_wanted(&self, _now: Instant) -> Option<Instant> {
        self.0.next_start()
    }

    fn write(&mut self, _block: &Block) -> Result<(), AudioError> {
        self.0.given();
        Ok(())
    }
}

/// `at` on CLOCK_MONOTONIC in nanoseconds, which other processes of this machine can compare.
pub(crate) fn monotonic_ns(at: Instant) -> u64 {
    let now = Instant::now();
    let clock = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let nanos = clock.tv_sec as i128 * 1_000_000_000 + clock.tv_nsec as i128;
    let offset = match at.checked_duration_since(now) {
        Some(ahead) => ahead.as_nanos() as i128,
        None => -(now.saturating_duration_since(at).as_nanos() as i128),
    };
    (nanos + offset).max(0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_read_as_people_write_them() {
        assert_eq!("default".parse(), Ok(DeviceSpec::Default));
        assert_eq!("none".parse(), Ok(DeviceSpec::None));
        assert_eq!("file:/tmp/a b.wav".parse(), Ok(DeviceSpec::File("/tmp/a b.wav".into())));
        assert_eq!("alsa:pulse".parse(), Ok(DeviceSpec::Id("alsa:pulse".into())));
        assert_eq!("file:".parse::<DeviceSpec>(), Err(AudioError::NoName));
        assert_eq!("".parse::<DeviceSpec>(), Err(AudioError::NoName));
        for text in ["default", "none", "file:x.wav", "alsa:pulse"] {
            assert_eq!(text.parse::<DeviceSpec>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn q7_the_default_device_stands_in_for_one_that_is_chosen_and_nothing_for_a_file() {
        assert_eq!(DeviceSpec::Id("alsa:x".into()).stand_in(), Some(DeviceSpec::Default));
        for spec in [DeviceSpec::Default, DeviceSpec::None, DeviceSpec::File("x.wav".into())] {
            assert_eq!(spec.stand_in(), None);
        }
    }

    #[test]
    fn nothing_keeps_time() {
        let start = Instant::now();
        let (mut mic, mut speaker) = (Nothing::default(), Nothing::default());
        let mut block = [1.0; BLOCK_LEN];
        assert_eq!(AudioSource::start(&mut mic, start), Ok(start));
        assert_eq!(AudioSink::start(&mut speaker, start), Ok(start));
        assert_eq!(mic.read(start + Duration::from_millis(9), &mut block), Ok(false));
        assert_eq!(mic.read(start + BLOCK_TIME, &mut block), Ok(true));
        assert_eq!(mic.read(start + BLOCK_TIME, &mut block), Ok(false));
        assert_eq!(block, [0.0; BLOCK_LEN]);
        assert_eq!(speaker.wanted(start), 1, "the first block is heard from the start on");
        speaker.write(&block).unwrap();
        assert_eq!(speaker.wanted(start + Duration::from_millis(9)), 0);
        assert_eq!(speaker.wanted(start + Duration::from_millis(35)), 3);
    }

    #[test]
    fn monotonic_time_runs_with_instants() {
        let now = Instant::now();
        let (here, later) = (monotonic_ns(now), monotonic_ns(now + Duration::from_secs(1)));
        assert!(later.abs_diff(here + 1_000_000_000) < 50_000_000);
    }
}
