//! The thread that writes a recording.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use offhook_proto::wire::UnixMillis;
use rtrb::Consumer;
use tokio::sync::oneshot;

use super::folder::{Recordings, Whose};
use super::head::Tags;
use super::mux::{Mux, MuxError};
use super::place::{Place, Put};
use super::tap::{Piece, Side, Tap};
use super::{MAX_DURATION, RecordingError};
use crate::api::{Recording, RecordingKind};
use crate::audio::{BLOCK_LEN, BLOCK_TIME, utc};

/// How often the thread looks for what has been heard.
const POLL: Duration = Duration::from_millis(50);
/// Pages after which the disk is to have them, or a power cut would cost more: about five seconds.
const SYNC_EVERY: u32 = 20;
/// Blocks by which one track may be behind the other before silence is written into it: a player that mixes them
/// has to keep what is ahead.
const STEP: u64 = 100;
/// Loudness from which on somebody is taken to speak, mean square of samples from -1 to 1: -50 dB.
const SPEECH: f64 = 1e-5;

/// What is to be recorded.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) kind: RecordingKind,
    pub(crate) call: String,
    pub(crate) whose: Whose,
    pub(crate) outgoing: bool,
    pub(crate) began: UnixMillis,
    /// At most so long, and never longer than [`MAX_DURATION`].
    pub(crate) limit: Duration,
    /// It ends when the other end has been silent for so long.
    pub(crate) silence: Option<Duration>,
}

/// A recording that has begun.
pub(crate) struct Started {
    /// What it is called.
    pub(crate) name: String,
    /// For the voice thread.
    pub(crate) tap: Tap,
    /// What became of it.
    pub(crate) done: oneshot::Receiver<Finished>,
}

/// Why the thread has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriterEnd {
    /// The tap was dropped.
    Over,
    /// It is as long as it may be.
    Full,
    /// The other end was silent for long.
    Silent,
    /// The file could not be written.
    Failed,
}

/// What became of a recording.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) end: WriterEnd,
    /// What is on the disk, if anything was heard.
    pub(crate) recording: Option<Recording>,
}

impl Recordings {
    /// Begins a recording. Takes its time on a slow disk.
    pub(crate) fn record(&self, order: &Order) -> Result<Started, RecordingError> {
        let (file, path, name) = self.create(order.kind, &order.whose, order.began)?;
        let (tap, pieces) = match order.kind {
            RecordingKind::Call => Tap::of_both(),
            RecordingKind::Message => Tap::of_other(),
        };
        let failed = RecordingError::io(&path);
        let writer = match Writer::new(Box::new(file), order) {
            Ok(writer) => writer,
            Err(error) => {
                // There is nothing in it.
                let _ = std::fs::remove_file(&path);
                return Err(failed(io::Error::other(error)));
            }
        };
        let (folder, (told, done)) = (self.clone(), oneshot::channel());
        let thread = std::thread::Builder::new().name("offhook-record".into());
        thread
            .spawn(move || {
                let finished = writer.run(pieces, &folder, path);
                // Whoever has begun it may have gone.
                let _ = told.send(finished);
            })
            .map_err(failed)?;
        Ok(Started { name, tap, done })
    }
}

/// What a recording is written to: a file, or in tests one that fails.
pub(super) trait Medium: Write + Send {
    /// Cuts it behind so many bytes.
    fn cut(&self, length: u64) -> io::Result<()>;
    /// Waits until what was written is on the disk.
    fn sync(&self) -> io::Result<()>;
}

impl Medium for File {
    fn cut(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }
}

/// The file. A page that does not fit is not left there in part.
struct Disk {
    file: Box<dyn Medium>,
    good: u64,
    pages: u32,
}

impl Write for Disk {
    fn write(&mut self, page: &[u8]) -> io::Result<usize> {
        if let Err(error) = self.file.write_all(page) {
            // Readers pass over what is left of it, if this fails too.
            let _ = self.file.cut(self.good);
            return Err(error);
        }
        self.good += page.len() as u64;
        self.pages += 1;
        if self.pages.is_multiple_of(SYNC_EVERY) {
            self.file.sync()?;
        }
        Ok(page.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.sync()
    }
}

pub(super) struct Writer {
    mux: Mux<Disk>,
    sides: &'static [Side],
    /// One for each side, from the first block on.
    places: Option<Vec<Place>>,
    limit: u64,
    silence: Option<u64>,
    /// Blocks since the other end was heard to speak.
    silent: u64,
    /// Whether it was.
    spoke: bool,
    /// Whether it is kept though it was not.
    keep_silence: bool,
}

impl Writer {
    pub(super) fn new(file: Box<dyn Medium>, order: &Order) -> Result<Writer, MuxError> {
        let sides: &[Side] = match order.kind {
            RecordingKind::Call => &[Side::Own, Side::Other],
            RecordingKind::Message => &[Side::Other],
        };
        let tags: Vec<Tags> = sides.iter().map(|side| tags(order, *side)).collect();
        let disk = Disk { file, good: 0, pages: 0 };
        let mux = Mux::new(disk, &tags, rand::random())?;
        let limit = blocks(order.limit.min(MAX_DURATION));
        let keep_silence = order.kind == RecordingKind::Call;
        Ok(Writer {
            mux,
            sides,
            places: None,
            limit,
            silence: order.silence.map(blocks),
            silent: 0,
            spoke: false,
            keep_silence,
        })
    }

    /// Writes until the tap is dropped, or it may not or can not go on.
    pub(super) fn run(mut self, mut pieces: Consumer<Piece>, folder: &Recordings, path: PathBuf) -> Finished {
        let end = loop {
            // What was pushed before the end is taken after it was seen.
            let over = pieces.is_abandoned();
            match self.take_all(&mut pieces) {
                Ok(None) if over => break WriterEnd::Over,
                Ok(None) => std::thread::sleep(POLL),
                Ok(Some(end)) => break end,
                Err(error) => {
                    tracing::warn!(%error, "a recording could not be written");
                    break WriterEnd::Failed;
                }
            }
        };
        drop(pieces);
        let heard = self.places.is_some() && (self.spoke || self.keep_silence);
        let finished = match end {
            WriterEnd::Failed => Ok(()),
            WriterEnd::Over | WriterEnd::Full | WriterEnd::Silent => self.finish(),
        };
        let end = match finished {
            Ok(()) => end,
            Err(error) => {
                tracing::warn!(%error, "a recording could not be ended");
                WriterEnd::Failed
            }
        };
        if !heard {
            // Nobody misses it.
            let _ = std::fs::remove_file(&path);
            return Finished { end, recording: None };
        }
        Finished { end, recording: folder.describe(&path) }
    }

    fn finish(self) -> Result<(), MuxError> {
        let mut disk = self.mux.finish()?;
        Ok(disk.flush()?)
    }

    fn take_all(&mut self, pieces: &mut Consumer<Piece>) -> Result<Option<WriterEnd>, MuxError> {
        while let Ok(piece) = pieces.pop() {
            let end = self.take(&piece)?;
            if end.is_some() {
                return Ok(end);
            }
        }
        Ok(None)
    }

    fn take(&mut self, piece: &Piece) -> Result<Option<WriterEnd>, MuxError> {
        let Some(track) = self.sides.iter().position(|side| *side == piece.side) else { return Ok(None) };
        let count = self.sides.len();
        let blocks = self.blocks(track);
        let places = self.places.get_or_insert_with(|| vec![Place::new(piece.at); count]);
        let silence = match places[track].put(piece.at, blocks) {
            Put::Next => 0,
            Put::After(silence) => silence,
            Put::Nowhere => return Ok(None),
        };
        if blocks + silence >= self.limit {
            return Ok(Some(WriterEnd::Full));
        }
        self.be_silent(track, silence)?;
        self.mux.push(track, &piece.samples)?;
        for other in 0..count {
            let behind = self.blocks(track).saturating_sub(self.blocks(other));
            if behind > STEP {
                self.be_silent(other, behind - STEP / 2)?;
                self.places.iter_mut().flatten().skip(other).take(1).for_each(Place::padded);
            }
        }
        Ok(self.is_silent(piece, silence).then_some(WriterEnd::Silent))
    }

    /// Whether the other end has said nothing for long.
    fn is_silent(&mut self, piece: &Piece, silence: u64) -> bool {
        if piece.side == Side::Other {
            let loud = |sample: &i16| (f64::from(*sample) / f64::from(i16::MAX)).powi(2);
            let power = piece.samples.iter().map(loud).sum::<f64>() / BLOCK_LEN as f64;
            self.spoke |= power > SPEECH;
            self.silent = if power > SPEECH { 0 } else { self.silent + silence + 1 };
        }
        self.silence.is_some_and(|most| self.silent >= most)
    }

    fn blocks(&self, track: usize) -> u64 {
        self.mux.samples(track) / BLOCK_LEN as u64
    }

    fn be_silent(&mut self, track: usize, blocks: u64) -> Result<(), MuxError> {
        (0..blocks).try_for_each(|_| self.mux.push(track, &[0; BLOCK_LEN]))
    }
}

fn blocks(time: Duration) -> u64 {
    u64::try_from(time.as_nanos() / BLOCK_TIME.as_nanos()).unwrap_or(u64::MAX)
}

/// What the file says of itself.
fn tags(order: &Order, side: Side) -> Tags {
    let track = match side {
        Side::Own => "own",
        Side::Other => "other",
    };
    let direction = if order.outgoing { "outgoing" } else { "incoming" };
    let kind = match order.kind {
        RecordingKind::Call => "call",
        RecordingKind::Message => "message",
    };
    let pairs = [
        ("TITLE", track.to_owned()),
        ("DATE", utc(order.began)),
        ("OFFHOOK_TRACK", track.to_owned()),
        ("OFFHOOK_KIND", kind.to_owned()),
        ("OFFHOOK_BEGAN", order.began.0.to_string()),
        ("OFFHOOK_NUMBER", order.whose.number.canonical()),
        ("OFFHOOK_DIRECTION", direction.to_owned()),
        ("OFFHOOK_CALL", order.call.clone()),
    ];
    Tags(pairs.map(|(name, value)| (name.to_owned(), value)).into())
}
