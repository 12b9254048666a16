//! `offhook-directory audit list`: whether a list of numbers is as it must be: this directory's, in its store, or anybody's, from its site or from
//! a file. A head that is remembered shows whether a list was rewritten since.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use offhook::clock::wall_clock;
use offhook_proto::descriptor::{MAX_DESCRIPTOR_BYTES, SignedDescriptor};
use offhook_proto::identity::DirectoryId;
use offhook_proto::list::{Audit, Head, HeadFinding, MAX_HEAD_BYTES, SignedHead};
use offhook_proto::wire;
use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Desk, block_on, failed, on, say, wrong};
use crate::cli::Failure;
use crate::store::{Fact, MAX_LIST_PAGE, StoreError};

/// A longer answer of a site is no page of a list, bytes: 500 entries of 2 KiB, as base64url in JSON, are shorter.
const MAX_ANSWER: usize = 2 * 1024 * 1024;
/// A list of more entries is not read to its end.
const MAX_ENTRIES: u64 = 10_000_000;
/// How long a site may take for a page.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// A larger file than this holds no head, bytes.
const MAX_HEAD_FILE: u64 = 4 * 1024;
/// Problems that are printed; the others are counted.
const MAX_PRINTED: u64 = 1_000;

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

    /// Compare with the end of the list that is remembered in this file, if there is one, and remember the new end if all is well
    #[arg(long, value_name = "FILE")]
    head: Option<PathBuf>,

    /// Write what the site answers into a new file, as evidence
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
    check(Source::Store(desk), directory, remembered.as_ref(), which, desk.is_json).await
}

/// Checks a list that anybody has published.
pub(crate) fn elsewhere(which: &Which, is_json: bool) -> Result<(), Failure> {
    block_on(async {
        let remembered = which.head.as_deref().map(remembered).transpose()?.flatten();
        let known = [which.key, remembered.as_ref().map(|kept| kept.head.directory)];
        let known = if known.iter().any(Option::is_some) { Some(agreed(known)?) } else { None };
        let (source, directory) = match (&which.url, &which.file) {
            (Some(url), _) => {
                let site = Site::new(url, which.save.as_deref())?;
                // The site is asked again where its key is only remembered: that it has another one now is worth knowing.
                let directory = match known {
                    Some(key) if which.key.is_some() || url.scheme() != "https" => key,
                    known => agreed([known, Some(site.key().await?)])?,
                };
                (Source::Site(site), directory)
            }
            (None, Some(path)) => {
                let file = File::open(path).map_err(on(path))?;
                let unknown = || wrong("nothing in a file vouches for it: name the directory's key by --key");
                let pages = serde_json::Deserializer::from_reader(BufReader::new(file)).into_iter();
                (Source::File { pages, path }, known.ok_or_else(unknown)?)
            }
            (None, None) => return Err(wrong("no list was named")),
        };
        check(source, directory, remembered.as_ref(), which, is_json).await
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

/// A part of a list as a site answers it.
#[derive(Deserialize)]
struct Page {
    #[serde(deserialize_with = "bytes")]
    head: Vec<u8>,
    entries: Vec<Base64>,
}

#[derive(Deserialize)]
struct Base64(#[serde(deserialize_with = "bytes")] Vec<u8>);

fn bytes<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let wrong = |_| serde::de::Error::custom("not base64url without padding");
    BASE64URL_NOPAD.decode(text.as_bytes()).map_err(wrong)
}

/// From where a list comes.
enum Source<'a> {
    Store(&'a Desk),
    Site(Site),
    File {
        pages: serde_json::StreamDeserializer<'a, serde_json::de::IoRead<BufReader<File>>, Page>,
        path: &'a Path,
    },
}

impl Source<'_> {
    /// The entries from the `from`th on; `None` at the end of a file.
    async fn page(&mut self, from: u64) -> Result<Option<Page>, Failure> {
        match self {
            Self::Store(desk) => {
                // The head first: every entry that it counts can be read then.
                let head = desk.store.list_head().await.map_err(|error| failed(&error))?;
                let entries = desk.store.list(from, MAX_LIST_PAGE).await.map_err(|error| failed(&error))?;
                Ok(Some(Page { head: head.head, entries: entries.into_iter().map(Base64).collect() }))
            }
            Self::Site(site) => site.page(from).await.map(Some),
            Self::File { pages, path } => pages.next().transpose().map_err(|error| {
                wrong(format!("{}: {error}: not what /api/v1/list answers", path.display()))
            }),
        }
    }

    /// Whether it ends by itself, rather than with what its head promises.
    fn is_file(&self) -> bool {
        matches!(self, Self::File { .. })
    }
}

/// The site of a directory.
struct Site {
    client: reqwest::Client,
    url: Url,
    saved: Option<(File, PathBuf)>,
}

impl Site {
    fn new(url: &Url, save: Option<&Path>) -> Result<Self, Failure> {
        // The web client asks for one; a program that has chosen one already keeps it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        if !matches!(url.scheme(), "https" | "http") || !url.has_host() {
            return Err(wrong("a directory's site is named by https://NAME"));
        }
        // Elsewhere is another directory's site, or nobody's.
        let redirect = reqwest::redirect::Policy::none();
        let client = reqwest::Client::builder().timeout(ANSWER_TIME).redirect(redirect).build();
        let client = client.map_err(|error| Failure { code: 1, sentence: error.to_string() })?;
        let saved = save.map(|path| {
            let file = OpenOptions::new().write(true).create_new(true).open(path).map_err(on(path))?;
            Ok::<_, Failure>((file, path.to_owned()))
        });
        Ok(Self { client, url: url.clone(), saved: saved.transpose()? })
    }

    /// The key that the site tells, which is worth what its certificate is.
    async fn key(&self) -> Result<DirectoryId, Failure> {
        if self.url.scheme() != "https" {
            return Err(wrong("without https nothing vouches for the key: name it by --key"));
        }
        let told = self.get("/.well-known/offhook", None, MAX_DESCRIPTOR_BYTES).await?;
        vouched(&told, self.url.host_str().unwrap_or_default())
    }

    async fn page(&mut self, from: u64) -> Result<Page, Failure> {
        let answer = self.get("/api/v1/list", Some(from), MAX_ANSWER).await?;
        let page = serde_json::from_slice(&answer).map_err(|error| Failure {
            code: 1,
            sentence: format!("the site's answer is no list: {error}"),
        })?;
        if let Some((file, path)) = &mut self.saved {
            file.write_all(&answer).and_then(|()| file.write_all(b"\n")).map_err(on(path))?;
        }
        Ok(page)
    }

    async fn get(&self, path: &str, from: Option<u64>, most: usize) -> Result<Vec<u8>, Failure> {
        let mut url = self.url.clone();
        url.set_path(path);
        url.set_query(from.map(|from| format!("from={from}")).as_deref());
        let unreached = |error: reqwest::Error| Failure {
            code: 1,
            sentence: format!("the site does not answer: {}", with_causes(&error)),
        };
        let response = self.client.get(url).send().await.map_err(unreached)?;
        let mut response = response.error_for_status().map_err(unreached)?;
        if !response.status().is_success() {
            let sentence = format!("the site does not answer there, but with status {}", response.status());
            return Err(Failure { code: 1, sentence });
        }
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreached)? {
            answer.extend_from_slice(&chunk);
            if answer.len() > most {
                let sentence = format!("the site's answer is longer than {most} bytes");
                return Err(Failure { code: 1, sentence });
            }
        }
        Ok(answer)
    }
}

/// The key in what a site says of itself, if it is the site of the directory with that name.
fn vouched(told: &[u8], name: &str) -> Result<DirectoryId, Failure> {
    let described =
        SignedDescriptor::from_bytes(told).and_then(|signed| signed.verify_named(name, wall_clock()));
    let unusable = |error| Failure {
        code: 1,
        sentence: format!("what the site says of itself: {error}; the directory's key can be named by --key"),
    };
    described.map(|descriptor| descriptor.directory).map_err(unusable)
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// What is found in a list, as it is printed.
struct Findings {
    count: u64,
    is_json: bool,
}

impl Findings {
    fn add(&mut self, entry: Option<u64>, problem: &str) -> Result<(), Failure> {
        self.count += 1;
        if self.count > MAX_PRINTED {
            return Ok(());
        }
        let place = entry.map_or_else(|| "head".to_owned(), |index| format!("entry {index}"));
        say(self.is_json, &format!("{place}: {problem}"), &json!({ "entry": entry, "problem": problem }))
    }
}

async fn check(
    mut source: Source<'_>,
    directory: DirectoryId,
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
        return Err(Failure { code: 1, sentence: "the list of numbers is not as it must be".to_owned() });
    }
    if which.is_elsewhere() && !is_json {
        say(false, &format!("directory {key}"), &json)?;
    }
    match (&which.head, end) {
        (Some(path), Some((head, signed))) => remember(path, &head, &signed),
        (Some(_), None) => Err(nothing_to_remember()),
        (None, _) => Ok(()),
    }
}

/// Takes all entries that the directory's heads vouch for; the last head, and its signed form. `None`: there was none that is good.
async fn walk(
    source: &mut Source<'_>,
    directory: &DirectoryId,
    audit: &mut Audit,
    findings: &mut Findings,
) -> Result<Option<(Head, Vec<u8>)>, Failure> {
    let (mut end, mut is_good) = (None, true);
    while let Some(page) = source.page(audit.length()).await? {
        // A store that has issued nothing has signed nothing.
        if page.head.is_empty() && page.entries.is_empty() {
            break;
        }
        let signed = wire::decode::<SignedHead>(&page.head, MAX_HEAD_BYTES);
        let verified = signed.map_err(|error| error.to_string());
        let head = verified
            .and_then(|signed| signed.verify(directory, wall_clock()).map_err(|error| error.to_string()));
        if let Err(problem) = &head
            && is_good
        {
            findings.add(None, problem)?;
            is_good = false;
        }
        // What has come since the head was signed is left for the next time.
        let left =
            |head: &Head| usize::try_from(head.length.saturating_sub(audit.length())).unwrap_or(usize::MAX);
        let rest = head.as_ref().map_or(usize::MAX, left);
        let is_whole = |length| head.as_ref().is_ok_and(|head| length >= head.length);
        end = head.as_ref().ok().map(|head| (*head, page.head));
        let is_empty = page.entries.is_empty();
        for Base64(entry) in page.entries.iter().take(rest) {
            let before = audit.length();
            if let Err(finding) = audit.take(entry) {
                findings.add(Some(finding.index), &finding.problem.to_string())?;
            }
            // What does not continue the chain says nothing of what comes after it.
            if audit.length() == before {
                return Ok(end);
            }
        }
        if audit.length() >= MAX_ENTRIES {
            findings.add(Some(audit.length()), "more entries than are read")?;
            return Ok(end);
        }
        if !source.is_file() && (is_empty || is_whole(audit.length())) {
            break;
        }
    }
    Ok(end)
}

/// The two signatures that show that a directory has rewritten its list, for whoever is to believe it.
fn prove(kept: &Kept, signed: &[u8], is_json: bool) -> Result<(), Failure> {
    let [then, now] = [&kept.signed, signed].map(|head| BASE64URL_NOPAD.encode(head));
    let text = format!("signed then: {then}\nsigned now:  {now}");
    say(is_json, &text, &json!({ "signed_then": then, "signed_now": now }))
}

fn nothing_to_remember() -> Failure {
    Failure { code: 1, sentence: "the list has no entries yet: there is no end to remember".to_owned() }
}

/// The end of a list as it was seen, with the directory's signature.
struct Kept {
    head: Head,
    signed: Vec<u8>,
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
fn remembered(path: &Path) -> Result<Option<Kept>, Failure> {
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
fn remember(path: &Path, head: &Head, signed: &[u8]) -> Result<(), Failure> {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use offhook_proto::descriptor::Descriptor;
    use offhook_proto::identity::DirectoryKey;

    use super::*;

    #[test]
    fn a_site_vouches_for_the_directory_of_its_own_name_only() {
        let (key, now) = (DirectoryKey::from_seed([5; 32]), wall_clock());
        let descriptor = Descriptor {
            name: "example.org".to_owned(),
            directory: key.public(),
            nodes: vec!["/ip4/192.0.2.1/udp/1/quic-v1".parse().expect("an address")],
            stun: vec![],
            turn: vec![],
            web: None,
            mailbox: false,
            issued: now,
            expires: now.plus(Duration::from_secs(3_600)),
        };
        let told = SignedDescriptor::sign(&key, &descriptor).expect("signed").to_bytes();
        assert_eq!(vouched(&told, "example.org").ok(), Some(key.public()));
        let refused = vouched(&told, "example.net").map_err(|failure| failure.sentence);
        assert!(refused.is_err_and(|sentence| sentence.contains("--key")));
    }
}
