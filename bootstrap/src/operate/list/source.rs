//! From where a list of numbers comes: this directory's store, a site, or a file.

use std::fs::File;
use std::io::{BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use offhook::clock::wall_clock;
use offhook_proto::descriptor::{MAX_DESCRIPTOR_BYTES, SignedDescriptor};
use offhook_proto::identity::DirectoryId;
use reqwest::Url;
use serde::Deserialize;

use super::super::{Desk, failed, on, wrong};
use crate::cli::Failure;
use crate::store::MAX_LIST_PAGE;

/// A longer answer of a site is no page of a list, bytes: 500 entries of 2 KiB, as base64url in JSON, are shorter.
const MAX_ANSWER: usize = 2 * 1024 * 1024;
/// How long a site may take for a page.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// A part of a list as a site answers it.
#[derive(Deserialize)]
pub(super) struct Page {
    #[serde(deserialize_with = "bytes")]
    pub(super) head: Vec<u8>,
    pub(super) entries: Vec<Base64>,
}

#[derive(Deserialize)]
pub(super) struct Base64(#[serde(deserialize_with = "bytes")] pub(super) Vec<u8>);

fn bytes<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let wrong = |_| serde::de::Error::custom("not base64url without padding");
    BASE64URL_NOPAD.decode(text.as_bytes()).map_err(wrong)
}

/// Pages in a file, one after the other.
pub(super) type Pages<'a> = serde_json::StreamDeserializer<'a, serde_json::de::IoRead<BufReader<File>>, Page>;

/// What is in a file: what `--save` has written, or answers of `/api/v1/list`.
pub(super) fn pages<'a>(path: &Path) -> Result<Pages<'a>, Failure> {
    let file = File::open(path).map_err(on(path))?;
    Ok(serde_json::Deserializer::from_reader(BufReader::new(file)).into_iter())
}

/// What is no page in a file.
pub(super) fn no_page(path: &Path, error: &serde_json::Error) -> Failure {
    wrong(format!("{}: {error}: not what /api/v1/list answers", path.display()))
}

/// From where a list comes.
pub(super) enum Source<'a> {
    Store(&'a Desk),
    Site(Site),
    File { pages: Pages<'a>, path: &'a Path },
}

impl Source<'_> {
    /// The entries from the `from`th on; `None` at the end of a file.
    pub(super) async fn page(&mut self, from: u64) -> Result<Option<Page>, Failure> {
        match self {
            Self::Store(desk) => {
                // The head first: every entry that it counts can be read then.
                let head = desk.store.list_head().await.map_err(|error| failed(&error))?;
                let entries = desk.store.list(from, MAX_LIST_PAGE).await.map_err(|error| failed(&error))?;
                Ok(Some(Page { head: head.head, entries: entries.into_iter().map(Base64).collect() }))
            }
            Self::Site(site) => site.page(from).await.map(Some),
            Self::File { pages, path } => pages.next().transpose().map_err(|error| no_page(path, &error)),
        }
    }

    /// Whether it ends by itself, rather than with what its head promises.
    pub(super) fn is_file(&self) -> bool {
        matches!(self, Self::File { .. })
    }
}

/// The site of a directory.
pub(super) struct Site {
    client: reqwest::Client,
    url: Url,
    saved: Option<(File, PathBuf)>,
}

impl Site {
    /// What it answers is written into the file, if there is one.
    pub(super) fn new(url: &Url, saved: Option<(File, PathBuf)>) -> Result<Self, Failure> {
        // The web client asks for one; a program that has chosen one already keeps it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        if !matches!(url.scheme(), "https" | "http") || !url.has_host() {
            return Err(wrong("a directory's site is named by https://NAME"));
        }
        // Elsewhere is another directory's site, or nobody's.
        let redirect = reqwest::redirect::Policy::none();
        let client = reqwest::Client::builder().timeout(ANSWER_TIME).redirect(redirect).build();
        let client = client.map_err(|error| Failure { code: 1, sentence: error.to_string() })?;
        Ok(Self { client, url: url.clone(), saved })
    }

    /// The key that the site tells, which is worth what its certificate is.
    pub(super) async fn key(&self) -> Result<DirectoryId, Failure> {
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
