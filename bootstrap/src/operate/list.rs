//! `offhook-directory audit list`: whether a list of numbers is as it must be: this directory's, in its store, or anybody's, from its site or from
//! a file. A head that is remembered shows whether a list was rewritten since.

mod kept;
mod source;
mod walk;

use std::path::PathBuf;

use clap::Args;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use offhook_proto::identity::DirectoryId;
use offhook_proto::list::{Audit, Head, HeadFinding};
use reqwest::Url;
use serde_json::json;

use super::{Desk, block_on, failed, say, wrong};
use crate::cli::Failure;
use crate::store::{Fact, StoreError};
use kept::{Kept, Saved, nothing_to_remember, remember, remembered};
use source::{Site, Source, pages};
use walk::{Findings, walk};

/// Which list is checked.
#[derive(Args, Debug)]
pub(crate) struct Which {
    /// Check the list of the directory with this site, say https://example.org, instead of one's own
    #[arg(long, value_name = "URL", conflicts_with = "file")]
    url: Option<Url>,

    /// Check a list in a file: what `--save` has written, or answers of /api/v1/list one after the other
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// The directory's key, 64 hexadecimal digits [default: of one's own its own; that of --head; or the one that the site tells over https]
    #[arg(long, value_name = "KEY", value_parser = key)]
    key: Option<DirectoryId>,

    /// Compare with the end of the list that is remembered in this file, if there is one, and remember the new end if all is well. What a
    /// site answers is kept beside it, in FILE.list
    #[arg(long, value_name = "FILE")]
    head: Option<PathBuf>,

    /// Write what the site answers into a new file, as evidence [default: with --head, its file's name and .list]
    #[arg(long, value_name = "FILE", requires = "url")]
    save: Option<PathBuf>,
}

fn key(text: &str) -> Result<DirectoryId, String> {
    let bytes = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    bytes
        .map(DirectoryId::from_bytes)
        .ok_or_else(|| "a key is 64 hexadecimal digits in lower case".to_owned())
}

impl Which {
    /// Whether it is a list that is not in this directory's store.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.url.is_some() || self.file.is_some()
    }
}

/// Checks the list in this directory's own store.
pub(super) async fn own(desk: &Desk, which: &Which) -> Result<(), Failure> {
    let key = desk.store.fact(Fact::SigningKey).await.map_err(|error| failed(&error))?;
    // Before the first start with a site nothing was issued.
    let Some(key) = key else {
        desk.say("0 entries", &json!({ "entries": 0, "findings": 0 }))?;
        return if which.head.is_some() { Err(nothing_to_remember()) } else { Ok(()) };
    };
    let damaged = |_| failed(&StoreError::Damaged("the list of numbers"));
    let directory = DirectoryId::from_bytes(key.try_into().map_err(damaged)?);
    let remembered = which.head.as_deref().map(remembered).transpose()?.flatten();
    let directory =
        agreed([which.key, remembered.as_ref().map(|kept| kept.head.directory), Some(directory)])?;
    let list = Listed { source: Source::Store(desk), directory, saved: None };
    check(list, remembered.as_ref(), which, desk.is_json).await
}

/// Checks a list that anybody has published.
pub(crate) fn elsewhere(which: &Which, is_json: bool) -> Result<(), Failure> {
    block_on(async {
        let remembered = which.head.as_deref().map(remembered).transpose()?.flatten();
        let known = [which.key, remembered.as_ref().map(|kept| kept.head.directory)];
        let known = if known.iter().any(Option::is_some) { Some(agreed(known)?) } else { None };
        let list = match (&which.url, &which.file) {
            (Some(url), _) => {
                let (file, saved) = Saved::of(which)?.unzip();
                let path = saved.as_ref().map(|saved| saved.path().to_owned());
                let site = Site::new(url, file.zip(path))?;
                // The site is asked again where its key is only remembered: that it has another one now is worth knowing.
                let directory = match known {
                    Some(key) if which.key.is_some() || url.scheme() != "https" => key,
                    known => agreed([known, Some(site.key().await?)])?,
                };
                Listed { source: Source::Site(site), directory, saved }
            }
            (None, Some(path)) => {
                let unknown = || wrong("nothing in a file vouches for it: name the directory's key by --key");
                let source = Source::File { pages: pages(path)?, path };
                Listed { source, directory: known.ok_or_else(unknown)?, saved: None }
            }
            (None, None) => return Err(wrong("no list was named")),
        };
        check(list, remembered.as_ref(), which, is_json).await
    })
}

/// The one key that all who name one agree upon.
fn agreed<const N: usize>(keys: [Option<DirectoryId>; N]) -> Result<DirectoryId, Failure> {
    let mut named = keys.into_iter().flatten();
    let first = named.next().ok_or_else(|| wrong("no key was named"))?;
    if named.all(|other| other == first) {
        Ok(first)
    } else {
        Err(wrong("the list is of another directory: the keys that were named differ"))
    }
}

/// A list that is checked.
struct Listed<'a> {
    source: Source<'a>,
    /// Whose it is.
    directory: DirectoryId,
    /// Where what a site answers is written.
    saved: Option<Saved>,
}

async fn check(
    Listed { mut source, directory, saved }: Listed<'_>,
    remembered: Option<&Kept>,
    which: &Which,
    is_json: bool,
) -> Result<(), Failure> {
    let seen: Vec<Head> = remembered.map(|kept| kept.head).into_iter().collect();
    let (mut audit, mut findings) = (Audit::new(directory, &seen), Findings { count: 0, is_json });
    let end = walk(&mut source, &directory, &mut audit, &mut findings).await?;
    if let Some((head, signed)) = &end {
        if let Err(finding) = audit.conclude(head) {
            findings.add(None, &finding.to_string())?;
            // Only these two are about a head that was seen earlier.
            if let (Some(kept), HeadFinding::Forked { .. } | HeadFinding::Shrunk { .. }) =
                (remembered, finding)
            {
                prove(kept, signed, is_json)?;
            }
        }
    } else if findings.count == 0 && !seen.is_empty() {
        findings.add(None, "the list once had entries and has none now")?;
    } else if findings.count == 0 && which.is_elsewhere() {
        findings.add(None, "nothing that the directory has signed vouches for the list")?;
    }
    let (length, numbers, key) = (audit.length(), audit.numbers(), HEXLOWER.encode(directory.as_bytes()));
    let count = findings.count;
    let text = format!("{length} entries, {numbers} numbers, {count} problems");
    let json = json!({ "entries": length, "numbers": numbers, "findings": count, "directory": key });
    say(is_json, &text, &json)?;
    if count > 0 {
        if let Some(saved) = &saved {
            saved.set_aside(is_json)?;
        }
        return Err(Failure { code: 1, sentence: "the list of numbers is not as it must be".to_owned() });
    }
    if which.is_elsewhere() && !is_json {
        say(false, &format!("directory {key}"), &json)?;
    }
    if let Some(saved) = &saved {
        saved.keep()?;
    }
    match (&which.head, end) {
        (Some(path), Some((head, signed))) => remember(path, &head, &signed),
        (Some(_), None) => Err(nothing_to_remember()),
        (None, _) => Ok(()),
    }
}

/// The two signatures that show that a directory has rewritten its list, for whoever is to believe it.
fn prove(kept: &Kept, signed: &[u8], is_json: bool) -> Result<(), Failure> {
    let [then, now] = [&kept.signed, signed].map(|head| BASE64URL_NOPAD.encode(head));
    let text = format!("signed then: {then}\nsigned now:  {now}");
    say(is_json, &text, &json!({ "signed_then": then, "signed_now": now }))
}
