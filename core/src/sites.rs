//! The web sites of directories, where they say who they are: `https://NAME/.well-known/offhook`.
//!
//! TLS is what ties a DNS name to a directory's key when it is met for the first time. So nothing of this is asked on a stranger's word,
//! who would learn this terminal's address, but only when the user dials a number at NAME, or adds NAME.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use offhook_proto::descriptor::MAX_DESCRIPTOR_BYTES;
use thiserror::Error;

/// Where a directory's descriptor lies on its site.
const WELL_KNOWN: &str = "/.well-known/offhook";

/// How long a site may take to answer, all in all.
const FETCH_TIME: Duration = Duration::from_secs(5);

/// How long a connection to it may take.
const CONNECT_TIME: Duration = Duration::from_secs(3);

/// An authority (RFC 3986, section 3.2) without its port.
pub(crate) fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        Some(_) | None => authority,
    }
}

/// Whether an authority is of this host.
pub(crate) fn is_loopback(authority: &str) -> bool {
    let host = host_of(authority);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether the address of a site leads to this host, and so nowhere for anybody else.
pub(crate) fn is_of_this_host(url: &str) -> bool {
    url.split_once("://").is_some_and(|(_, authority)| is_loopback(authority))
}

/// Why a site told nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SiteError {
    /// It cannot be reached, or its certificate is not good for the name. It may be up again later.
    #[error("the site cannot be reached")]
    Unreachable,
    /// It is there, and is no directory's.
    #[error("the site is no directory's")]
    NoDirectory,
}

/// Asks sites for descriptors. An embedding program may have its own way to the web; see
/// [`PhoneBuilder::sites`](crate::phone::PhoneBuilder::sites).
pub trait Sites: fmt::Debug + Send + Sync {
    /// What lies at `https://NAME/.well-known/offhook`, at most [`MAX_DESCRIPTOR_BYTES`], unverified. `name` is a DNS name in lower case.
    fn descriptor(&self, name: &str) -> BoxFuture<'static, Result<Vec<u8>, SiteError>>;
}

/// The web, over TLS by the system's certificate authorities, without redirects.
#[derive(Clone, Debug, Default)]
pub struct Web {
    /// Where sites are instead of at `https://NAME`.
    elsewhere: BTreeMap<String, String>,
}

impl Web {
    /// Sites that are somewhere else than their names say: in laboratories. `url`: `http://HOST:PORT`, without a slash at the end.
    #[must_use]
    pub fn with_site(mut self, name: impl Into<String>, url: impl Into<String>) -> Self {
        self.elsewhere.insert(name.into(), url.into());
        self
    }
}

impl Sites for Web {
    fn descriptor(&self, name: &str) -> BoxFuture<'static, Result<Vec<u8>, SiteError>> {
        let base = self.elsewhere.get(name).cloned().unwrap_or_else(|| format!("https://{name}"));
        fetch(base).boxed()
    }
}

/// What the site at `base` (without a slash at the end) says that it is, unverified.
pub(crate) async fn fetch(base: String) -> Result<Vec<u8>, SiteError> {
    let unreachable = |error: reqwest::Error| {
        tracing::debug!(error = %error.without_url(), "a directory's site tells nothing");
        SiteError::Unreachable
    };
    // An error means that the program has chosen one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIME)
        .timeout(FETCH_TIME);
    // What is on this host is not asked for through somebody else.
    let builder = if base.starts_with("http://") { builder.no_proxy() } else { builder };
    let client = builder.build().map_err(unreachable)?;
    let mut answer = client.get(format!("{base}{WELL_KNOWN}")).send().await.map_err(unreachable)?;
    match answer.status() {
        status if status.is_success() => {}
        status if status.is_server_error() || status.as_u16() == 429 => return Err(SiteError::Unreachable),
        _ => return Err(SiteError::NoDirectory),
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_DESCRIPTOR_BYTES {
            return Err(SiteError::NoDirectory);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    const NAME: &str = "directory.example";

    /// A site that answers once, and what it said that was asked.
    async fn site(answer: Vec<u8>) -> (Web, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let web = Web::default().with_site(NAME, format!("http://{}", listener.local_addr().unwrap()));
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let len = stream.read(&mut request).await.unwrap();
            // Whoever has read enough hangs up.
            let _ = stream.write_all(&answer).await;
            String::from_utf8_lossy(&request[..len]).into_owned()
        });
        (web, asked)
    }

    fn response(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
        [head.as_bytes(), body].concat()
    }

    #[tokio::test]
    async fn a_site_is_asked_for_what_is_well_known() {
        let (web, asked) = site(response("200 OK", "", b"a descriptor")).await;
        assert_eq!(web.descriptor(NAME).await, Ok(b"a descriptor".to_vec()));
        assert!(asked.await.unwrap().starts_with("GET /.well-known/offhook HTTP/1.1\r\n"));
    }

    #[tokio::test]
    async fn a_site_that_is_no_directorys_is_told_from_one_that_is_down() {
        let elsewhere = "location: http://127.0.0.1:9/\r\n";
        let told = [
            (response("404 Not Found", "", b""), SiteError::NoDirectory),
            (response("302 Found", elsewhere, b""), SiteError::NoDirectory),
            (response("200 OK", "", &vec![7; MAX_DESCRIPTOR_BYTES + 1]), SiteError::NoDirectory),
            (response("503 Service Unavailable", "", b""), SiteError::Unreachable),
            (response("429 Too Many Requests", "", b""), SiteError::Unreachable),
            (b"nonsense".to_vec(), SiteError::Unreachable),
        ];
        for (answer, error) in told {
            let (web, _asked) = site(answer).await;
            assert_eq!(web.descriptor(NAME).await, Err(error));
        }
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let web = Web::default().with_site(NAME, format!("http://{}", nobody.local_addr().unwrap()));
        drop(nobody);
        assert_eq!(web.descriptor(NAME).await, Err(SiteError::Unreachable));
    }

    #[tokio::test]
    async fn a_site_without_the_right_certificate_says_nothing() {
        let (_, asked) = site(response("200 OK", "", b"a descriptor")).await;
        let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = plain.local_addr().unwrap().port();
        let serve = tokio::spawn(async move {
            let (mut stream, _) = plain.accept().await.unwrap();
            stream.write_all(&response("200 OK", "", b"a descriptor")).await
        });
        // TLS is asked for, and does not come.
        let web = Web::default().with_site(NAME, format!("https://127.0.0.1:{port}"));
        assert_eq!(web.descriptor(NAME).await, Err(SiteError::Unreachable));
        serve.abort();
        asked.abort();
    }
}
