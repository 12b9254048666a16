//! What is kept of a list for the next audit: its end with the directory's signature, and beside that the list itself.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use offhook::clock::wall_clock;
use offhook_proto::list::{Head, MAX_HEAD_BYTES, SignedHead};
use offhook_proto::wire;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::super::{on, say, wrong};
use super::source::{no_page, pages};
use super::{Which, key};
use crate::cli::Failure;

/// A larger file than this holds no head, bytes.
const MAX_HEAD_FILE: u64 = 4 * 1024;

/// Where a site's answers go while they are checked, and afterwards.
#[derive(Debug)]
pub(super) struct Saved {
    path: PathBuf,
    /// Of a head that is remembered: the list of then, beside it.
    beside: Option<Beside>,
}

#[derive(Debug)]
struct Beside {
    /// The last one in which nothing was wrong.
    good: PathBuf,
    /// One in which something was wrong.
    bad: PathBuf,
}

impl Saved {
    /// What was asked for; who has a head remembered has the list kept beside it, whether he has thought of it or not: two heads alone
    /// do not always prove what was done to a list, and nobody can fetch the old one any more. `None` if neither was asked for.
    pub(super) fn of(which: &Which) -> Result<Option<(File, Self)>, Failure> {
        match (&which.save, &which.head) {
            (Some(path), _) => {
                let file = OpenOptions::new().write(true).create_new(true).open(path).map_err(on(path))?;
                Ok(Some((file, Self { path: path.clone(), beside: None })))
            }
            (None, Some(head)) => {
                let at = |end: &str| PathBuf::from(format!("{}.{end}", head.display()));
                let path = at("list.part");
                // What an audit that was killed has left is of no use.
                let file = File::create(&path).map_err(on(&path))?;
                let beside = Some(Beside { good: at("list"), bad: at("list.wrong") });
                Ok(Some((file, Self { path, beside })))
            }
            (None, None) => Ok(None),
        }
    }

    /// Where the answers are being written.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Nothing is wrong: the list takes the place of the last one, of which it is a continuation.
    pub(super) fn keep(&self) -> Result<(), Failure> {
        let Some(beside) = &self.beside else { return Ok(()) };
        File::open(&self.path).and_then(|file| file.sync_all()).map_err(on(&self.path))?;
        std::fs::rename(&self.path, &beside.good).map_err(on(&self.path))
    }

    /// Something is wrong: the list is kept beside the last good one, and it is said where the two part.
    pub(super) fn set_aside(&self, is_json: bool) -> Result<(), Failure> {
        let Some(Beside { good, bad }) = &self.beside else { return Ok(()) };
        std::fs::rename(&self.path, bad).map_err(on(&self.path))?;
        if !good.exists() {
            let text = format!("what the site answered is in {}", bad.display());
            return say(is_json, &text, &json!({ "saved_now": bad }));
        }
        let parted = first_difference(good, bad)?;
        let place = parted.map_or_else(
            || "one continues the other".to_owned(),
            |index| format!("entry {index} is the first that differs"),
        );
        let text = format!(
            "the list as it was is in {}, as it is now in {}: {place}",
            good.display(),
            bad.display()
        );
        say(is_json, &text, &json!({ "saved_then": good, "saved_now": bad, "first_difference": parted }))
    }
}

impl Drop for Saved {
    /// One that was not read to its end is of no use; one that was has another name by now.
    fn drop(&mut self) {
        if self.beside.is_some() {
            // What stays is written over by the next one.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The first entry that two lists do not have in common, if both go that far.
fn first_difference(then: &Path, now: &Path) -> Result<Option<u64>, Failure> {
    let entries = |path: &Path| {
        let path = path.to_owned();
        let pages = pages(&path)?;
        Ok::<_, Failure>(pages.flat_map(move |page| match page {
            Ok(page) => page.entries.into_iter().map(|entry| Ok(entry.0)).collect::<Vec<_>>(),
            Err(error) => vec![Err(no_page(&path, &error))],
        }))
    };
    for (index, (then, now)) in (0..).zip(entries(then)?.zip(entries(now)?)) {
        if then? != now? {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

/// There is no end yet.
pub(super) fn nothing_to_remember() -> Failure {
    Failure { code: 1, sentence: "the list has no entries yet: there is no end to remember".to_owned() }
}

/// The end of a list as it was seen, with the directory's signature.
pub(super) struct Kept {
    pub(super) head: Head,
    pub(super) signed: Vec<u8>,
}

/// How it is kept: what people look for, and the signed head.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    directory: String,
    length: u64,
    head: String,
}

/// What was seen last; `None` if there is no such file yet.
pub(super) fn remembered(path: &Path) -> Result<Option<Kept>, Failure> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(on(path)(error)),
    };
    let mut text = Vec::new();
    file.take(MAX_HEAD_FILE).read_to_end(&mut text).map_err(on(path))?;
    let damaged = || wrong(format!("{} is not what was remembered of a list", path.display()));
    let written: Written = serde_json::from_slice(&text).map_err(|_| damaged())?;
    let directory = key(&written.directory).map_err(|_| damaged())?;
    let signed = BASE64URL_NOPAD.decode(written.head.as_bytes()).map_err(|_| damaged())?;
    let decoded = wire::decode::<SignedHead>(&signed, MAX_HEAD_BYTES).map_err(|_| damaged())?;
    let head = decoded.verify(&directory, wall_clock()).map_err(|_| damaged())?;
    Ok(Some(Kept { head, signed }))
}

/// Replaced as a whole, so that a kill leaves the one or the other.
pub(super) fn remember(path: &Path, head: &Head, signed: &[u8]) -> Result<(), Failure> {
    let written = Written {
        directory: HEXLOWER.encode(head.directory.as_bytes()),
        length: head.length,
        head: BASE64URL_NOPAD.encode(signed),
    };
    let text =
        serde_json::to_string(&written).map_err(|error| Failure { code: 1, sentence: error.to_string() })?;
    let draft = PathBuf::from(format!("{}.part", path.display()));
    let write = || {
        let mut file = File::create(&draft)?;
        writeln!(file, "{text}")?;
        file.sync_all()?;
        std::fs::rename(&draft, path)
    };
    write().map_err(on(path))
}
