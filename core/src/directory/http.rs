//! One request and its answer, both bounded in size and time. Redirects are not followed: what is asked holds secrets of the session.

use super::answers::{self, Failure};
use super::{DirectoryAddress, DirectoryError};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response, header};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a request with its answer may take: a backup over a slow line.
const WHOLE: Duration = Duration::from_secs(60);
/// Largest answer, bytes: a backup of 256 KiB, a third more as text, and what is around it.
const MAX_ANSWER: usize = 512 * 1024;
/// Longest pause that a directory may ask for.
const MAX_RETRY: u64 = 24 * 3_600;

/// A way to one directory.
#[derive(Clone, Debug)]
pub(super) struct Http {
    client: Client,
    name: String,
    base: String,
}

impl Http {
    pub(super) fn new(address: &DirectoryAddress) -> Result<Self, DirectoryError> {
        // The same library and authorities as everywhere here; somebody may have installed it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = Client::builder()
            .user_agent(concat!("offhook/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .referer(false)
            .connect_timeout(CONNECT)
            .timeout(WHOLE);
        // What is on this host is not asked for through somebody else.
        let builder = if address.url().starts_with("http://") { builder.no_proxy() } else { builder };
        let name = address.name().to_owned();
        let client = builder.build().map_err(|error| unreachable(&name, &error))?;
        Ok(Self { client, name, base: address.url().to_owned() })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The directory has said what it is called.
    pub(super) fn rename(&mut self, name: &str) {
        name.clone_into(&mut self.name);
    }

    /// Asks the API; `token` is the session's.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> Result<T, DirectoryError> {
        let bytes = self.call(method, path, token, body).await?;
        answers::parse(&bytes).map_err(|what| self.answer(what))
    }

    /// The same where nothing is answered.
    pub(super) async fn tell(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> Result<(), DirectoryError> {
        self.call(method, path, token, body).await.map(drop)
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> Result<Vec<u8>, DirectoryError> {
        let mut request = self.client.request(method, format!("{}/api/v1{path}", self.base));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let response = request.send().await.map_err(|error| unreachable(&self.name, &error))?;
        let status = response.status();
        let bytes = self.read(response).await?;
        if status.is_success() {
            return Ok(bytes);
        }
        let Ok(failure) = answers::parse::<Failure>(&bytes) else {
            return Err(self.answer(if status.is_redirection() {
                "a redirect"
            } else {
                "no error of the API's"
            }));
        };
        let retry = failure.retry_after_s.map(|seconds| seconds.min(MAX_RETRY));
        Err(DirectoryError::refused(&failure.error, &failure.message, retry))
    }

    async fn read(&self, mut response: Response) -> Result<Vec<u8>, DirectoryError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(&self.name, &error))? {
            if bytes.len() + chunk.len() > MAX_ANSWER {
                return Err(self.answer("it is too long"));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    pub(super) fn answer(&self, what: &'static str) -> DirectoryError {
        DirectoryError::Answer { name: self.name.clone(), what }
    }
}

/// Without the address, which may hold a number, and with the cause, which the library hides behind "error sending request".
fn unreachable(name: &str, error: &reqwest::Error) -> DirectoryError {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let reason = if error.is_timeout() { "it takes too long".to_owned() } else { cause.to_string() };
    DirectoryError::Unreachable { name: name.to_owned(), reason: reason.trim_end_matches('.').to_owned() }
}
