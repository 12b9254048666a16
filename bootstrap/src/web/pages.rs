//! The site's pages: what `site/` is built into, within the program (`build.rs`).
//!
//! A page is one file, `index.html`, whatever its path: its script shows the page of the path, and the one for wrong numbers where
//! there is none. Files under `assets/` have a hash in their names, and never change.

use std::sync::OnceLock;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use super::App;
use super::error::ApiError;

/// Where each page of the site lies (`site/src/lib/router.ts`).
const PATHS: [&str; 8] = ["", "signup", "login", "recover", "account", "download", "status", "about"];

/// The file that is every page.
const INDEX: &str = "index.html";
/// Where the files are whose names hold a hash.
const HASHED: &str = "assets/";

/// What programs ask for: they read no page.
const PROGRAMS: [&str; 4] = [HASHED, "api/", "downloads/", ".well-known/"];

/// How long what never changes may be kept: a year.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// What may be kept, but not shown before it was asked for whether it is still so.
pub(super) const ASK_FIRST: &str = "no-cache";

/// Bytes of a hash that name a version of a file.
const TAG: usize = 16;

/// What somebody sees where there are no pages.
const WITHOUT: &str =
    "This directory was built without its web pages; what programs ask of it is answered under /api/v1.\n";

/// A file of the built site.
#[derive(Clone, Copy)]
struct File {
    /// Its path within the site, without a slash before it.
    path: &'static str,
    plain: &'static [u8],
    br: Option<&'static [u8]>,
    gzip: Option<&'static [u8]>,
}

static BUILT: &[File] = include!(concat!(env!("OUT_DIR"), "/built.rs"));

/// Files with names for their versions, which are made when somebody asks first.
pub(super) struct Pages {
    files: &'static [File],
    tags: OnceLock<Vec<String>>,
}

impl Pages {
    /// Those that the program was built with.
    pub(super) const fn built() -> Self {
        Self { files: BUILT, tags: OnceLock::new() }
    }

    /// Whether the program was built without any.
    pub(super) const fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    fn find(&self, path: &str) -> Option<usize> {
        self.files.iter().position(|file| file.path == path)
    }

    fn tag(&self, place: usize) -> &str {
        let tags = self.tags.get_or_init(|| {
            let hashes = self.files.iter().map(|file| Sha256::digest(file.plain));
            hashes.map(|hash| HEXLOWER.encode(&hash[..TAG])).collect()
        });
        &tags[place]
    }

    /// What is at a path that begins with a slash.
    fn answer(&self, path: &str, headers: &HeaderMap) -> Response {
        let path = path.trim_start_matches('/');
        let file = self.find(path).filter(|_| path != INDEX);
        if let Some(place) = file {
            return self.file(place, StatusCode::OK, headers);
        }
        let is_page = PATHS.contains(&path.trim_end_matches('/'));
        match self.find(INDEX) {
            Some(place) if is_page || !PROGRAMS.iter().any(|start| path.starts_with(start)) => {
                let status = if is_page { StatusCode::OK } else { StatusCode::NOT_FOUND };
                self.file(place, status, headers)
            }
            None if is_page => (StatusCode::OK, [(header::CONTENT_TYPE, TEXT)], WITHOUT).into_response(),
            Some(_) | None => ApiError::NotFound.into_response(),
        }
    }

    fn file(&self, place: usize, status: StatusCode, headers: &HeaderMap) -> Response {
        let file = self.files[place];
        let (bytes, encoding) = file.encoded(headers);
        // Forms that differ in their bytes are versions of their own (RFC 9110 section 8.8.3.3).
        let tag =
            format!("\"{}{}\"", self.tag(place), encoding.map(|name| format!("-{name}")).unwrap_or_default());
        let is_known = status == StatusCode::OK && is_known(headers, &tag);
        let body = if is_known { Body::empty() } else { Body::from(bytes) };
        let mut response = Response::new(body);
        *response.status_mut() = if is_known { StatusCode::NOT_MODIFIED } else { status };
        let caching = if file.path.starts_with(HASHED) { FOR_EVER } else { ASK_FIRST };
        let mut add = |name: HeaderName, value: &'static str| {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        };
        add(header::CONTENT_TYPE, content_type(file.path));
        add(header::CACHE_CONTROL, caching);
        add(header::VARY, "accept-encoding");
        encoding.into_iter().for_each(|name| add(header::CONTENT_ENCODING, name));
        // Hexadecimal digits and a word in quotation marks.
        if let Ok(tag) = HeaderValue::try_from(tag) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    }
}

impl File {
    /// The shortest form that the client reads, and its name.
    fn encoded(&self, headers: &HeaderMap) -> (&'static [u8], Option<&'static str>) {
        let forms = [(self.br, "br"), (self.gzip, "gzip")];
        let mut forms = forms.into_iter().filter_map(|(bytes, name)| Some((bytes?, Some(name))));
        forms.find(|(_, name)| name.is_some_and(|name| accepts(headers, name))).unwrap_or((self.plain, None))
    }
}

const TEXT: &str = "text/plain; charset=utf-8";

/// What the files of a site are.
fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, end)| end) {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        "txt" => TEXT,
        _ => "application/octet-stream",
    }
}

/// Whether the client reads an encoding: it names it (or all, `*`) and not with the weight 0 (RFC 9110 section 12.5.3).
fn accepts(headers: &HeaderMap, encoding: &str) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut named = None;
    let mut all = false;
    for item in values.flat_map(|value| value.split(',')) {
        let (name, weight) = item.split_once(';').unwrap_or((item, ""));
        let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.parse::<f32>().ok());
        let is_wanted = weight.is_none_or(|weight| weight > 0.0);
        match name.trim() {
            name if name.eq_ignore_ascii_case(encoding) => named = Some(is_wanted),
            "*" => all = is_wanted,
            _ => {}
        }
    }
    named.unwrap_or(all)
}

/// Whether the client has this version already (RFC 9110 section 13.1.2: tags are compared weakly).
pub(super) fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(','));
    tags.any(|known| matches!(known.trim(), "*") || known.trim().trim_start_matches("W/") == tag)
}

/// Everything that is not the API's.
pub(super) async fn page(State(app): State<App>, request: Request) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return ApiError::MethodNotAllowed.into_response();
    }
    app.0.pages.answer(request.uri().path(), request.headers())
}

#[cfg(test)]
mod tests {
    use super::*;

    static SITE: &[File] = &[
        File { path: "assets/a-1.js", plain: b"let a = 1;", br: Some(b"brotli"), gzip: Some(b"gzip") },
        File { path: "index.html", plain: b"<!doctype html>", br: None, gzip: Some(b"zipped page") },
        File { path: "logo.svg", plain: b"<svg/>", br: None, gzip: None },
    ];

    struct Read {
        status: u16,
        headers: HeaderMap,
        body: Vec<u8>,
    }

    impl Read {
        fn header(&self, name: &str) -> &str {
            self.headers.get(name).map(|value| value.to_str().expect("text")).unwrap_or_default()
        }
    }

    async fn get(pages: &Pages, path: &str, headers: &[(HeaderName, &str)]) -> Read {
        let pairs = headers.iter().map(|(name, value)| (name.clone(), value.parse().expect("a value")));
        let response = pages.answer(path, &pairs.collect());
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body").to_vec();
        Read { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    fn site() -> Pages {
        Pages { files: SITE, tags: OnceLock::new() }
    }

    #[tokio::test]
    async fn every_page_is_the_index_and_a_wrong_path_is_it_with_404() {
        let pages = site();
        for path in ["/", "/signup", "/signup/", "/about"] {
            let page = get(&pages, path, &[]).await;
            assert_eq!((page.status, &page.body[..]), (200, &b"<!doctype html>"[..]), "{path}");
            assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
            assert_eq!(page.header("cache-control"), "no-cache");
        }
        for path in ["/nobody", "/index.html", "/signup/x", "/..", "/assets"] {
            let page = get(&pages, path, &[]).await;
            assert_eq!((page.status, &page.body[..]), (404, &b"<!doctype html>"[..]), "{path}");
        }
        for path in ["/assets/a-0.js", "/api/v2/info", "/.well-known/other", "/downloads/a/b"] {
            let lost = get(&pages, path, &[]).await;
            assert_eq!((lost.status, lost.header("content-type")), (404, "application/json"), "{path}");
        }
    }

    #[tokio::test]
    async fn hashed_files_are_kept_for_ever_and_the_shortest_form_is_sent_that_the_client_reads() {
        let pages = site();
        for (accepted, body, encoding) in [
            ("gzip, deflate, br, zstd", "brotli", "br"),
            ("gzip;q=1.0, br;q=0", "gzip", "gzip"),
            ("*", "brotli", "br"),
            ("BR", "brotli", "br"),
            ("identity", "let a = 1;", ""),
            ("", "let a = 1;", ""),
            ("*;q=0, gzip", "gzip", "gzip"),
        ] {
            let file = get(&pages, "/assets/a-1.js", &[(header::ACCEPT_ENCODING, accepted)]).await;
            assert_eq!(
                (&file.body[..], file.header("content-encoding")),
                (body.as_bytes(), encoding),
                "{accepted}"
            );
            assert_eq!(file.header("cache-control"), "public, max-age=31536000, immutable");
            assert_eq!(file.header("content-type"), "text/javascript; charset=utf-8");
            assert_eq!(file.header("vary"), "accept-encoding");
        }
    }

    #[tokio::test]
    async fn what_the_client_has_already_is_not_sent_again() {
        let pages = site();
        let gzip = (header::ACCEPT_ENCODING, "gzip");
        let (plain, zipped) =
            (get(&pages, "/", &[]).await, get(&pages, "/", std::slice::from_ref(&gzip)).await);
        assert_ne!(plain.header("etag"), zipped.header("etag"));
        let known = format!("\"x\", W/{}", zipped.header("etag"));
        let again = get(&pages, "/about", &[gzip, (header::IF_NONE_MATCH, &known)]).await;
        assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, zipped.header("etag")));
        let other = get(&pages, "/", &[(header::IF_NONE_MATCH, &known)]).await;
        assert_eq!((other.status, other.body.len()), (200, 15));
        let wrong = get(&pages, "/nobody", &[(header::IF_NONE_MATCH, plain.header("etag"))]).await;
        assert_eq!(wrong.status, 404, "whatever the client has");
    }

    #[tokio::test]
    async fn a_program_without_pages_says_so() {
        let pages = Pages { files: &[], tags: OnceLock::new() };
        assert!(pages.is_empty());
        let page = get(&pages, "/", &[]).await;
        assert_eq!((page.status, page.header("content-type")), (200, TEXT));
        assert!(String::from_utf8_lossy(&page.body).contains("without its web pages"));
        assert_eq!(get(&pages, "/logo.svg", &[]).await.status, 404);
    }

    #[test]
    fn the_paths_are_those_of_the_sites_router() {
        let source = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/site/src/lib/router.ts"));
        let source = source.expect("the router");
        let (_, paths) = source.split_once("PATHS").expect("its paths");
        let (paths, _) = paths.split_once("};").expect("their end");
        let known: Vec<&str> =
            paths.split('\'').skip(1).step_by(2).filter_map(|path| path.strip_prefix('/')).collect();
        assert_eq!(known, PATHS);
    }
}
