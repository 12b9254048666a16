//! Files that the operator lets visitors download: those of one folder, with their hashes.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io::{self, Read as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path as Named, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::App;
use super::error::ApiError;
use super::json::Hex;
use super::pages::{ASK_FIRST, is_known};

/// Most files that are offered.
const MAX_FILES: usize = 64;
/// Longest name of one, bytes.
const MAX_NAME: usize = 128;
/// What is read at once, bytes.
const CHUNK: usize = 64 * 1024;

/// A file as it is offered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Download {
    name: String,
    size: u64,
    sha256: Hex,
    url: String,
}

/// A version of a file, as far as the system tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    size: u64,
    modified: SystemTime,
}

impl Version {
    fn of(metadata: &Metadata) -> io::Result<Self> {
        Ok(Self { size: metadata.len(), modified: metadata.modified()? })
    }

    /// Its name for caches.
    fn tag(&self) -> String {
        let since = self.modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        format!("\"{:x}-{:x}\"", self.size, since.as_nanos())
    }
}

/// A folder of files, each hashed once and again when it has changed.
#[derive(Debug, Default)]
pub(super) struct Downloads {
    folder: Option<PathBuf>,
    known: Arc<Mutex<BTreeMap<String, (Version, Hex)>>>,
    /// One looks at a time.
    looking: tokio::sync::Mutex<()>,
}

impl Downloads {
    pub(super) fn new(folder: Option<PathBuf>) -> Self {
        Self { folder, ..Self::default() }
    }

    /// What is there now. A folder that cannot be read is told in the log, and empty.
    pub(super) async fn list(&self) -> Vec<Download> {
        let Some(folder) = self.folder.clone() else { return Vec::new() };
        let _looking = self.looking.lock().await;
        let known = Arc::clone(&self.known);
        let looked = tokio::task::spawn_blocking(move || look(&folder, &known)).await;
        match looked {
            Ok(Ok(files)) => files,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the folder of downloads cannot be read");
                Vec::new()
            }
            Err(_) => Vec::new(),
        }
    }

    /// Opens a file that is offered.
    async fn open(&self, name: &str) -> Option<(tokio::fs::File, Version)> {
        let folder = self.folder.as_ref().filter(|_| is_name(name))?;
        let file = tokio::fs::File::open(folder.join(name)).await.ok()?;
        let metadata = file.metadata().await.ok().filter(Metadata::is_file)?;
        Some((file, Version::of(&metadata).ok()?))
    }
}

/// Whether it is the name of a file in the folder itself, which no URL and no header has to escape.
fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-~".contains(&byte);
    name.len() <= MAX_NAME && !name.is_empty() && !name.starts_with('.') && name.bytes().all(is_plain)
}

/// Lists the folder, and hashes what is new in it.
fn look(folder: &Path, known: &Mutex<BTreeMap<String, (Version, Hex)>>) -> io::Result<Vec<Download>> {
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        names.extend(entry?.file_name().into_string().ok().filter(|name| is_name(name)));
    }
    names.sort();
    names.retain(|name| std::fs::metadata(folder.join(name)).is_ok_and(|metadata| metadata.is_file()));
    names.truncate(MAX_FILES);
    let lock = || known.lock().unwrap_or_else(PoisonError::into_inner);
    lock().retain(|name, _| names.contains(name));
    let mut files = Vec::new();
    for name in names {
        // One that is taken away meanwhile is not there any more.
        let Ok(version) = std::fs::metadata(folder.join(&name)).and_then(|metadata| Version::of(&metadata))
        else {
            continue;
        };
        let held = lock().get(&name).filter(|(held, _)| *held == version).map(|(_, hash)| *hash);
        let sha256 = match held {
            Some(hash) => hash,
            None => match hash(&folder.join(&name)) {
                Ok(hash) => {
                    lock().insert(name.clone(), (version, hash));
                    hash
                }
                Err(error) => {
                    tracing::warn!(%error, name, "a file cannot be offered for download");
                    continue;
                }
            },
        };
        files.push(Download { url: format!("/downloads/{name}"), name, size: version.size, sha256 });
    }
    Ok(files)
}

fn hash(path: &Path) -> io::Result<Hex> {
    let mut file = std::fs::File::open(path)?;
    let (mut hash, mut chunk) = (Sha256::new(), vec![0; CHUNK]);
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(Hex(hash.finalize().into())),
            length => hash.update(&chunk[..length]),
        }
    }
}

/// A part of a file: from where, and how much.
type Part = (u64, u64);

/// The part that is asked for: `None` for all of it, `Err` where there is nothing of it. Several parts at once are answered by all of
/// the file, as RFC 9110 section 14.2 permits.
fn part(headers: &HeaderMap, version: &Version) -> Result<Option<Part>, ()> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let Some(range) = text(header::RANGE).and_then(|range| range.strip_prefix("bytes=")) else {
        return Ok(None);
    };
    // Of another version he has a part already.
    if text(header::IF_RANGE).is_some_and(|tag| tag != version.tag()) {
        return Ok(None);
    }
    let Some((first, last)) = range.trim().split_once('-') else { return Ok(None) };
    let size = version.size;
    let (first, end) = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if last < first => return Ok(None),
        (Ok(first), Ok(last)) => (first, last.saturating_add(1).min(size)),
        (Ok(first), Err(_)) if last.is_empty() => (first, size),
        (Err(_), Ok(length)) if first.is_empty() => (size.saturating_sub(length), size),
        (Ok(_) | Err(_), _) => return Ok(None),
    };
    if first < end { Ok(Some((first, end - first))) } else { Err(()) }
}

/// A file, or a part of it.
pub(super) async fn download(
    State(app): State<App>,
    headers: HeaderMap,
    name: Result<Named<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let Named(name) = name.map_err(|_| ApiError::NotFound)?;
    app.in_pace()?;
    let (mut file, version) = app.0.downloads.open(&name).await.ok_or(ApiError::NotFound)?;
    let tag = version.tag();
    let caching = [(header::ETAG, tag.clone()), (header::CACHE_CONTROL, ASK_FIRST.to_owned())];
    if is_known(&headers, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, caching).into_response());
    }
    let Ok(part) = part(&headers, &version) else {
        let all = [(header::CONTENT_RANGE, format!("bytes */{}", version.size))];
        return Ok((StatusCode::RANGE_NOT_SATISFIABLE, all).into_response());
    };
    let (first, length) = part.unwrap_or((0, version.size));
    file.seek(SeekFrom::Start(first)).await.map_err(|_| ApiError::NotFound)?;
    let described = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, length.to_string()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
    ];
    let body = Body::from_stream(chunks(file, length));
    let mut response = (caching, described, body).into_response();
    if part.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let range = format!("bytes {first}-{}/{}", first + length - 1, version.size);
        response
            .headers_mut()
            .extend(HeaderValue::try_from(range).map(|range| (header::CONTENT_RANGE, range)));
    }
    Ok(response)
}

/// So many bytes of a file; an error where it has become shorter.
fn chunks(file: tokio::fs::File, length: u64) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::try_unfold((file, length), |(mut file, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let mut chunk = vec![0; CHUNK.min(usize::try_from(left).unwrap_or(CHUNK))];
        let length = file.read(&mut chunk).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        chunk.truncate(length);
        let left = left - length as u64;
        Ok(Some((Bytes::from(chunk), (file, left))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_files_in_the_folder_and_need_no_escaping() {
        for good in ["offhook_0.2.0_amd64.deb", "offhook-0.2.0+1~rc.tar.gz", "a"] {
            assert!(is_name(good), "{good}");
        }
        for bad in
            ["", ".", "..", ".hidden", "a/b", "../a", "a\\b", "a b", "a\"b", "ä", "a\n", &"a".repeat(129)]
        {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[tokio::test]
    async fn files_are_hashed_once_and_again_when_they_change() {
        let folder = tempfile::tempdir().expect("folder");
        let downloads = Downloads::new(Some(folder.path().to_owned()));
        assert_eq!(downloads.list().await, []);
        let file = folder.path().join("b.deb");
        std::fs::write(&file, "abc").expect("written");
        std::fs::write(folder.path().join(".hidden"), "x").expect("written");
        std::fs::create_dir(folder.path().join("folder")).expect("made");
        std::os::unix::fs::symlink("/nowhere", folder.path().join("lost")).expect("linked");
        let list = downloads.list().await;
        let [first] = &list[..] else { panic!("{list:?}") };
        assert_eq!((&first.name[..], first.size, &first.url[..]), ("b.deb", 3, "/downloads/b.deb"));
        // FIPS 180-2, appendix B.1.
        let text = serde_json::to_value(first.sha256).expect("text");
        assert_eq!(text, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        // What is known is believed: the file is not read again.
        let key = "b.deb".to_owned();
        let made_up = Hex([7; 32]);
        downloads.known.lock().expect("known").get_mut(&key).expect("there").1 = made_up;
        assert_eq!(downloads.list().await[0].sha256, made_up);
        std::fs::write(&file, "abcd").expect("written");
        assert_ne!(downloads.list().await[0].sha256, made_up);
        std::fs::remove_file(&file).expect("removed");
        assert_eq!(downloads.list().await, []);
        assert!(downloads.known.lock().expect("known").is_empty());
    }

    #[test]
    fn a_part_is_what_is_asked_for_if_there_is_any_of_it() {
        let version = Version { size: 10, modified: UNIX_EPOCH };
        let ask = |range: &str, tag: Option<String>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, range.parse().expect("a value"));
            headers.extend(tag.map(|tag| (header::IF_RANGE, tag.parse().expect("a value"))));
            part(&headers, &version)
        };
        for (range, part) in [
            ("bytes=0-0", Ok(Some((0, 1)))),
            ("bytes=3-", Ok(Some((3, 7)))),
            ("bytes=3-99", Ok(Some((3, 7)))),
            ("bytes=-4", Ok(Some((6, 4)))),
            ("bytes=-99", Ok(Some((0, 10)))),
            ("bytes=10-", Err(())),
            ("bytes=-0", Err(())),
            ("bytes=5-3", Ok(None)),
            ("bytes=0-1,4-5", Ok(None)),
            ("bytes=x-", Ok(None)),
            ("lines=0-1", Ok(None)),
        ] {
            assert_eq!(ask(range, None), part, "{range}");
        }
        assert_eq!(ask("bytes=1-", Some(version.tag())), Ok(Some((1, 9))));
        assert_eq!(ask("bytes=1-", Some("\"other\"".to_owned())), Ok(None));
    }
}
