//! Playing recordings, and writing them into files that others can play.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use hound::{SampleFormat, WavSpec, WavWriter};

use super::RecordingError;
use super::folder::{Recordings, open};
use super::head::Tags;
use super::mux::Mux;
use super::reader::Reader;
use crate::audio::{
    AudioError, BLOCK_LEN, BLOCK_TIME, Block, DeviceKind, DeviceSpec, SAMPLE_RATE, open_sink,
};

/// How long what the loudspeaker holds may take to be heard after the last block.
const TO_HEAR: Duration = Duration::from_millis(200);
/// A device that takes nothing for this long has stalled.
const STALL: Duration = Duration::from_secs(1);

/// Whose voice is heard of a recording.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Track {
    /// Both, mixed.
    #[default]
    Both,
    /// What this terminal sent.
    Own,
    /// What the other end said.
    Other,
}

/// The text is none of `both`, `own` and `other`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a recording has the tracks both, own and other")]
pub struct UnknownTrack;

impl FromStr for Track {
    type Err = UnknownTrack;

    fn from_str(text: &str) -> Result<Track, UnknownTrack> {
        match text {
            "both" => Ok(Track::Both),
            "own" => Ok(Track::Own),
            "other" => Ok(Track::Other),
            _ => Err(UnknownTrack),
        }
    }
}

impl Track {
    /// Whether a stream with these comments is heard.
    fn is(self, tags: &Tags) -> bool {
        let wanted = match self {
            Track::Both => return true,
            Track::Own => "own",
            Track::Other => "other",
        };
        tags.get("OFFHOOK_TRACK") == Some(wanted)
    }
}

impl Recordings {
    /// Plays a recording, named as for [`delete`](Self::delete), until it is over or `stop` is set. Answers how much was played.
    ///
    /// # Errors
    /// There is no such recording, no sound in it, or the loudspeaker cannot be used.
    pub fn play(
        &self,
        typed: &str,
        track: Track,
        speaker: &DeviceSpec,
        stop: &AtomicBool,
    ) -> Result<Duration, RecordingError> {
        play(Sound::open(&self.path(typed)?, track)?, speaker, stop)
    }

    /// Mixes a recording, named as for [`delete`](Self::delete), into a new file: Ogg Opus of one channel, or WAV if `to` is called so.
    /// Answers its length.
    ///
    /// # Errors
    /// There is no such recording, no sound in it, or the file cannot be written, or is there already.
    pub fn export(&self, typed: &str, track: Track, to: &Path) -> Result<Duration, RecordingError> {
        let kind = to.extension().and_then(|kind| kind.to_str()).map(str::to_ascii_lowercase);
        let mut sound = Sound::open(&self.path(typed)?, track)?;
        let create = || {
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to);
            file.map_err(RecordingError::io(to))
        };
        let done = match kind.as_deref() {
            Some("wav") => to_wav(&mut sound, create()?),
            Some("opus" | "ogg") => to_opus(&mut sound, create()?),
            Some(_) | None => return Err(RecordingError::Kind),
        };
        done.map_err(|error| {
            // Half a copy is worse than none; the recording is still there.
            let _ = std::fs::remove_file(to);
            RecordingError::io(to)(error)
        })
    }
}

/// Plays what is left of a sound, until it is over or `stop` is set.
pub(super) fn play<R: io::Read + io::Seek>(
    mut sound: Sound<R>,
    speaker: &DeviceSpec,
    stop: &AtomicBool,
) -> Result<Duration, RecordingError> {
    speaker.check(DeviceKind::Speaker)?;
    let mut sink = open_sink(speaker)?;
    sink.start(Instant::now())?;
    let mut block: Block = [0.0; BLOCK_LEN];
    let (mut played, mut over, mut taken): (u32, Option<Instant>, _) = (0, None, Instant::now());
    while !stop.load(Relaxed) && over.is_none_or(|at| at.elapsed() < TO_HEAR) {
        for _ in 0..sink.wanted(Instant::now()) {
            taken = Instant::now();
            if sound.next(&mut block) {
                played += 1;
            } else {
                over.get_or_insert(taken);
            }
            sink.write(&block)?;
        }
        if taken.elapsed() >= STALL {
            return Err(AudioError::Stalled.into());
        }
        std::thread::sleep(BLOCK_TIME);
    }
    Ok(BLOCK_TIME * played)
}

/// The sound of a file.
pub(super) struct Sound<R: io::Read + io::Seek> {
    reader: Reader<R>,
    track: Track,
    /// The first block, by which it is known that there is sound.
    first: Option<Block>,
}

impl Sound<io::BufReader<File>> {
    pub(super) fn open(path: &Path, track: Track) -> Result<Self, RecordingError> {
        Self::of(io::BufReader::new(open(path)?), path, track)
    }
}

impl<R: io::Read + io::Seek> Sound<R> {
    /// That of anything; `path` is for errors.
    pub(super) fn of(file: R, path: &Path, track: Track) -> Result<Self, RecordingError> {
        let reader = Reader::new(file);
        let mut sound = Sound { reader, track, first: None };
        let mut block: Block = [0.0; BLOCK_LEN];
        if !sound.next(&mut block) {
            return Err(RecordingError::NoSound(path.to_owned()));
        }
        sound.first = Some(block);
        Ok(sound)
    }

    fn next(&mut self, block: &mut Block) -> bool {
        match self.first.take() {
            Some(first) => {
                *block = first;
                true
            }
            None => self.reader.next(|tags| self.track.is(tags), block),
        }
    }

    pub(super) fn next_samples(&mut self) -> Option<[i16; BLOCK_LEN]> {
        let mut block: Block = [0.0; BLOCK_LEN];
        let more = self.next(&mut block);
        more.then(|| block.map(|sample| (sample * f32::from(i16::MAX)) as i16))
    }
}

fn to_wav<R: io::Read + io::Seek>(sound: &mut Sound<R>, file: File) -> io::Result<Duration> {
    let spec = WavSpec {
        channels: 1,
        sample_rate: SAMPLE_RATE,
        bits_per_sample: 16,
        sample_format: SampleFormat::Int,
    };
    let mut writer = WavWriter::new(BufWriter::new(file), spec).map_err(io::Error::other)?;
    let mut blocks = 0;
    while let Some(samples) = sound.next_samples() {
        blocks += 1;
        for sample in samples {
            writer.write_sample(sample).map_err(io::Error::other)?;
        }
    }
    writer.finalize().map_err(io::Error::other)?;
    Ok(BLOCK_TIME * blocks)
}

fn to_opus<R: io::Read + io::Seek>(sound: &mut Sound<R>, file: File) -> io::Result<Duration> {
    let title = Tags(vec![("TITLE".to_owned(), "mixed".to_owned())]);
    let mut mux = Mux::new(BufWriter::new(file), &[title], rand::random()).map_err(io::Error::other)?;
    let mut blocks = 0;
    while let Some(samples) = sound.next_samples() {
        blocks += 1;
        mux.push(0, &samples).map_err(io::Error::other)?;
    }
    mux.finish().map_err(io::Error::other)?.flush()?;
    Ok(BLOCK_TIME * blocks)
}
