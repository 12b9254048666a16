//! The directory of an account's recordings.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use offhook_proto::number::Number;
use offhook_proto::wire::UnixMillis;
use ogg::reading::PageParser;

use super::reader::Reader;
use super::{
    MAX_CALLS, MAX_MESSAGE_BYTES, MAX_MESSAGES, MAX_MESSAGES_OF_ONE, MESSAGES_OF_CONTACTS, RecordingError,
};
use crate::api::{Recording, RecordingKind};
use crate::audio::utc;

/// Name of the directory in an account's.
const FOLDER: &str = "recordings";
const SUFFIX: &str = ".opus";
/// Longest name of a recording, bytes.
const MAX_NAME: usize = 64;
/// Files of the directory that are looked at: all that there may be, and some that somebody has put there.
const MAX_FILES: usize = 2 * (MAX_CALLS + MAX_MESSAGES);
/// Where the headers of a file are looked for, bytes.
const HEADERS: u64 = 64 * 1024;
/// Where its last pages are looked for, bytes: a page has 65,307 at most.
const TAIL: u64 = 160 * 1024;
/// Largest file that is opened: four times what the longest recording has.
const MAX_FILE: u64 = 512 * 1024 * 1024;
/// Bytes of a page's header without its segments (RFC 3533 section 6).
const PAGE_HEADER: usize = 27;

/// The recordings of an account. Cheap to clone. Its methods read files: not for a thread that must not wait.
#[derive(Debug, Clone)]
pub struct Recordings {
    dir: PathBuf,
}

/// Whose voice is to be recorded.
#[derive(Debug, Clone)]
pub(crate) struct Whose {
    pub(crate) number: Number,
    /// The number is in the contact list.
    pub(crate) contact: bool,
}

/// A file of the directory.
#[derive(Debug, Clone)]
struct Entry {
    name: String,
    kind: RecordingKind,
    path: PathBuf,
    bytes: u64,
}

impl Recordings {
    /// Those of the account whose directory this is.
    pub(crate) fn of(account: &Path) -> Recordings {
        Recordings { dir: account.join(FOLDER) }
    }

    /// All of them, the newest first.
    ///
    /// # Errors
    /// The directory cannot be read. A file that cannot be read is listed without what it would say.
    pub fn list(&self) -> Result<Vec<Recording>, RecordingError> {
        let mut all: Vec<Recording> = self.entries()?.iter().map(described).collect();
        all.sort_by(|a, b| (b.began, &b.recording).cmp(&(a.began, &a.recording)));
        Ok(all)
    }

    /// Deletes one: by its name, the beginning of it that no other has, or `last`. Answers its name.
    ///
    /// # Errors
    /// There is none of that name, or several; it is still being recorded; it cannot be deleted.
    pub fn delete(&self, typed: &str) -> Result<String, RecordingError> {
        let entry = self.find(typed)?;
        let failed = || RecordingError::io(&entry.path);
        let file = File::open(&entry.path).map_err(failed())?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(RecordingError::Recording),
            Err(TryLockError::Error(error)) => return Err(failed()(error)),
        }
        fs::remove_file(&entry.path).map_err(failed())?;
        self.sync()?;
        Ok(entry.name)
    }

    /// The file of a recording, named as for [`delete`](Self::delete).
    ///
    /// # Errors
    /// There is none of that name, or several.
    pub fn path(&self, typed: &str) -> Result<PathBuf, RecordingError> {
        Ok(self.find(typed)?.path)
    }

    /// A new file, which is locked as long as it is open, with its path and name.
    pub(super) fn create(
        &self,
        kind: RecordingKind,
        whose: &Whose,
        began: UnixMillis,
    ) -> Result<(File, PathBuf, String), RecordingError> {
        match DirBuilder::new().mode(0o700).create(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(RecordingError::io(&self.dir)(error));
            }
            Ok(()) | Err(_) => {}
        }
        if !self.has_room(kind, whose)? {
            return Err(RecordingError::Full);
        }
        let name = format!("{}{}-{:08x}", prefix(kind), utc(began), rand::random::<u32>());
        let path = self.dir.join(format!("{name}{SUFFIX}"));
        let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = new.and_then(|file| file.lock().map(|()| file)).map_err(RecordingError::io(&path))?;
        self.sync()?;
        Ok((file, path, name))
    }

    /// Whether another may be kept. Messages of one number have few places, and those of strangers leave some to contacts.
    pub(crate) fn has_room(&self, kind: RecordingKind, whose: &Whose) -> Result<bool, RecordingError> {
        let same: Vec<Entry> = self.entries()?.into_iter().filter(|entry| entry.kind == kind).collect();
        Ok(match kind {
            RecordingKind::Call => same.len() < MAX_CALLS,
            RecordingKind::Message => {
                let places = MAX_MESSAGES - if whose.contact { 0 } else { MESSAGES_OF_CONTACTS };
                let of_one = |entry: &&Entry| number(entry).as_ref() == Some(&whose.number);
                same.len() < places
                    && same.iter().map(|entry| entry.bytes).sum::<u64>() < MAX_MESSAGE_BYTES
                    && same.iter().filter(of_one).count() < MAX_MESSAGES_OF_ONE
            }
        })
    }

    /// What the file at `path` says; `None` if it is none of these.
    pub(super) fn describe(&self, path: &Path) -> Option<Recording> {
        entry(path).as_ref().map(described)
    }

    fn sync(&self) -> Result<(), RecordingError> {
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(RecordingError::io(&self.dir))
    }

    fn entries(&self) -> Result<Vec<Entry>, RecordingError> {
        match fs::read_dir(&self.dir) {
            Ok(files) => Ok(files.take(MAX_FILES).flatten().filter_map(|file| entry(&file.path())).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(RecordingError::io(&self.dir)(error)),
        }
    }

    fn find(&self, typed: &str) -> Result<Entry, RecordingError> {
        let typed = typed.trim();
        let none =
            || RecordingError::None(typed.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect());
        let mut entries = self.entries()?;
        if typed == "last" {
            let last = self.list()?.into_iter().next().ok_or_else(none)?;
            entries.retain(|entry| entry.name == last.recording);
        } else if entries.iter().any(|entry| entry.name == typed) {
            entries.retain(|entry| entry.name == typed);
        } else {
            entries.retain(|entry| !typed.is_empty() && entry.name.starts_with(typed));
        }
        match (entries.pop(), entries.is_empty()) {
            (Some(entry), true) => Ok(entry),
            (Some(_), false) => Err(RecordingError::Several(typed.to_owned())),
            (None, _) => Err(none()),
        }
    }
}

fn prefix(kind: RecordingKind) -> &'static str {
    match kind {
        RecordingKind::Call => "call-",
        RecordingKind::Message => "message-",
    }
}

/// What a file of the directory is, by its name. Links and pipes are none.
fn entry(path: &Path) -> Option<Entry> {
    let name = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?;
    let safe = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let kinds = [RecordingKind::Call, RecordingKind::Message];
    let kind = kinds.into_iter().find(|kind| name.starts_with(prefix(*kind)))?;
    let metadata = fs::symlink_metadata(path).ok()?;
    let known = name.len() <= MAX_NAME && name.chars().all(safe) && metadata.is_file();
    known.then(|| Entry { name: name.to_owned(), kind, path: path.to_owned(), bytes: metadata.len() })
}

/// Whose voice is in a file.
fn number(entry: &Entry) -> Option<Number> {
    let mut file = open(&entry.path).ok()?;
    headers(&mut file)?.1.number
}

fn described(entry: &Entry) -> Recording {
    let said = open(&entry.path).ok().map(|mut file| describe(&mut file)).unwrap_or_default();
    Recording {
        recording: entry.name.clone(),
        kind: entry.kind,
        number: said.number,
        began: said.began,
        duration_ms: said.duration_ms,
        bytes: entry.bytes,
    }
}

/// Opens a file to read. Nothing is waited for.
pub(super) fn open(path: &Path) -> Result<File, RecordingError> {
    let failed = || RecordingError::io(path);
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed())?;
    let metadata = file.metadata().map_err(failed())?;
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return Err(RecordingError::NoSound(path.to_owned()));
    }
    Ok(file)
}

/// What a file says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) number: Option<Number>,
    pub(super) began: u64,
    pub(super) duration_ms: u64,
}

pub(super) fn describe<R: Read + Seek>(file: &mut R) -> Said {
    let Some((reader, said)) = headers(file) else { return Said::default() };
    let mut samples = 0;
    for (serial, granule) in last_pages(file).unwrap_or_default() {
        let ours = reader.streams.iter().find(|stream| stream.serial() == serial);
        let heard = ours.map_or(0, |stream| granule.saturating_sub(stream.head.pre_skip.into()));
        samples = heard.max(samples);
    }
    Said { duration_ms: samples / 48, ..said }
}

/// What stands at the beginning of a file: all but how long it is.
fn headers<R: Read>(file: &mut R) -> Option<(Reader<Cursor<Vec<u8>>>, Said)> {
    let mut first = Vec::new();
    file.take(HEADERS).read_to_end(&mut first).ok()?;
    let mut reader = Reader::new(Cursor::new(first));
    reader.read_headers();
    let tags = reader.streams.iter().find_map(|stream| stream.tags.as_ref())?;
    let said = Said {
        number: tags.get("OFFHOOK_NUMBER").and_then(|text| Number::from_canonical(text).ok()),
        began: tags.get("OFFHOOK_BEGAN").and_then(|text| text.parse().ok()).unwrap_or(0),
        duration_ms: 0,
    };
    Some((reader, said))
}

/// Serials and granule positions of the whole pages at the end of a file.
fn last_pages<R: Read + Seek>(file: &mut R) -> io::Result<Vec<(u32, u64)>> {
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail)?;
    let starts = tail.windows(4).enumerate().filter(|(_, window)| window == b"OggS").map(|(at, _)| at);
    Ok(starts.filter_map(|at| page(&tail[at..])).collect())
}

/// Serial and granule position of the page with which `bytes` begins, if it is whole. One on which no packet ends has no position.
fn page(bytes: &[u8]) -> Option<(u32, u64)> {
    let (header, rest) = bytes.split_first_chunk::<PAGE_HEADER>()?;
    let (mut parser, segments) = PageParser::new(*header).ok()?;
    let (segments, rest) = rest.split_at_checked(segments)?;
    let length = parser.parse_segments(segments.to_vec());
    parser.parse_packet_data(rest.get(..length)?.to_vec()).ok()?;
    let granule = u64::from_le_bytes(*header[6..].first_chunk()?);
    let serial = u32::from_le_bytes(*header[14..].first_chunk()?);
    // Longer than any recording may be is no position either, but nonsense.
    (granule < u64::from(u32::MAX) * 48).then_some((serial, granule))
}
