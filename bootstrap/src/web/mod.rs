//! The site: accounts over HTTP, for pages and for programs.
//!
//! ```text
//! serve     connections: how many, from where, how slow
//! headers   what browsers are told not to do
//! gate      how fast one network may ask, whatever it asks for
//! meters    what is counted
//! limits    how often somebody may try
//! opaque    passwords (RFC 9807), which the directory never sees
//! visitor   sessions: who asks, and whether a page of ours made the browser ask
//! signed    what the identity has signed, once
//! issuer    what the directory signs
//! sign_up, login, credentials, account, chosen, numbers, records, info, descriptor    what is asked for
//! downloads files that visitors may have
//! pages     the site that browsers show
//! error     how it is refused: a stable word and a sentence
//! openapi   the description of all that
//! ```
//!
//! All of it but descriptor, downloads and pages is under `/api/v1`, JSON in and out. Bytes are base64url without padding, times are Unix milliseconds.

mod account;
mod chosen;
mod credentials;
mod descriptor;
mod downloads;
mod error;
mod gate;
mod headers;
mod info;
mod issuer;
mod json;
mod limits;
mod login;
mod meters;
mod numbers;
pub mod opaque;
mod openapi;
mod pages;
mod records;
mod serve;
mod sign_up;
mod signed;
mod visitor;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{MethodRouter, delete, get, post};
use offhook::clock::wall_clock;
use offhook::net::Net;
use offhook_proto::identity::DirectoryKey;
use offhook_proto::number::ChosenNumber;
use offhook_proto::wire::UnixMillis;
use thiserror::Error;
use tokio::sync::{Semaphore, watch};
use tracing::warn;

use crate::key::KeyError;
use crate::store::{Store, StoreError};

pub use descriptor::Reach;
pub(crate) use descriptor::describe;
pub use openapi::OPENAPI;
pub use serve::Site;

use downloads::Downloads;
use error::ApiError;
use gate::Gate;
use info::Counted;
use issuer::Issuer;
use limits::{TOGETHER, Together};
pub(crate) use meters::Meters;
use opaque::Opaque;
use pages::Pages;

/// Largest body of a request, bytes.
const MAX_BODY: usize = 64 * 1024;
/// The same where a backup is sent: 256 KiB, a third more as text, and what is around it.
const MAX_BACKUP_BODY: usize = 400 * 1024;
/// Most accounts, where the settings say nothing: each has a backup of up to 256 KiB.
pub const ACCOUNTS: u64 = 100_000;
/// Proofs of numbers that are checked at a time, each a slow hash in 8 MiB.
const PROOFS: usize = 2;

/// Why there is no site.
#[derive(Debug, Error)]
pub enum SiteError {
    /// The address is taken, or not this host's.
    #[error("cannot serve the site on {addr}: {error}")]
    Listen {
        /// Where.
        addr: SocketAddr,
        /// The system's error.
        error: std::io::Error,
    },
    /// The secret that passwords are checked with.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The secret file holds something else.
    #[error("{0} is damaged: restore it from a backup; without it nobody can log in any more")]
    OpaqueKey(std::path::PathBuf),
    /// What it keeps.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something that browsers would not take for an address.
    #[error("\"{0}\" is not the address of a site: https://NAME")]
    Url(String),
    /// Something that is not a DNS name.
    #[error("\"{0}\" is not the name of a directory, which is a DNS name")]
    Name(String),
}

/// How a site is to be.
#[derive(Clone)]
pub struct SiteConfig {
    /// The directory's DNS name; without it there are no chosen numbers.
    pub name: Option<String>,
    /// Whether browsers reach it by TLS. Cookies are for TLS only then.
    pub is_https: bool,
    /// The address that browsers use, without a slash at the end.
    pub url: Option<String>,
    /// Whether strangers may sign up.
    pub is_open: bool,
    /// Most accounts; about, where several processes take them at once.
    pub accounts: u64,
    /// Reverse proxies whose word counts about where a request comes from.
    pub proxies: Vec<IpAddr>,
    /// Where the directory is reached, as it changes.
    pub reach: watch::Receiver<Reach>,
    /// Its node, once it runs: it finds and publishes the records of accounts.
    pub node: watch::Receiver<Option<Net>>,
    /// Folder of what visitors may download.
    pub downloads: Option<PathBuf>,
}

impl SiteConfig {
    /// Checks and normalises the name.
    ///
    /// # Errors
    /// [`SiteError::Name`].
    pub fn new(name: Option<&str>) -> Result<Self, SiteError> {
        let normalise = |name: &str| {
            let number = ChosenNumber::new("a", Some(name)).map_err(|_| SiteError::Name(name.to_owned()))?;
            number.directory().map(str::to_owned).ok_or_else(|| SiteError::Name(name.to_owned()))
        };
        let name = name.map(normalise).transpose()?;
        let (reach, node) = (watch::channel(Reach::default()).1, watch::channel(None).1);
        Ok(Self {
            name,
            is_https: false,
            url: None,
            is_open: true,
            accounts: ACCOUNTS,
            proxies: Vec::new(),
            reach,
            node,
            downloads: None,
        })
    }
}

/// What every request needs.
#[derive(Clone)]
struct App(Arc<Inner>);

struct Inner {
    config: SiteConfig,
    store: Store,
    opaque: Opaque,
    issuer: Issuer,
    proofs: Arc<Semaphore>,
    pace: Together,
    pages: Pages,
    downloads: Downloads,
    accounts: Counted,
    /// The same, with those that were made here since.
    room: Counted,
    started: UnixMillis,
    gate: Gate,
    meters: Meters,
    /// What time it is. Tests have a clock of their own.
    clock: Clock,
}

/// Tells Unix time.
pub type Clock = Arc<dyn Fn() -> UnixMillis + Send + Sync>;

/// The system's clock.
pub fn system_clock() -> Clock {
    Arc::new(wall_clock)
}

impl App {
    fn now(&self) -> UnixMillis {
        (self.0.clock)()
    }

    /// Takes one of the attempts that all together may make.
    fn in_pace(&self) -> Result<(), ApiError> {
        self.0.pace.attempt(self.now()).inspect_err(|_| self.0.meters.out_of_pace(TOGETHER))
    }
}

/// The site, to be served by [`Site::start`]. `signing` is the key whose public half the directory is known by.
///
/// # Errors
/// [`SiteError::Name`].
pub fn router(
    config: SiteConfig,
    store: Store,
    opaque: Opaque,
    signing: DirectoryKey,
    clock: Clock,
) -> Result<Router, SiteError> {
    metered_router(config, store, opaque, signing, clock, Meters::default())
}

/// The same, counted with `meters`.
pub(crate) fn metered_router(
    config: SiteConfig,
    store: Store,
    opaque: Opaque,
    signing: DirectoryKey,
    clock: Clock,
    meters: Meters,
) -> Result<Router, SiteError> {
    let is_https = config.is_https;
    let issuer = Issuer::new(signing, config.name.as_deref())?;
    let (proofs, pace) = (Arc::new(Semaphore::new(PROOFS)), Together::default());
    let pages = Pages::built();
    if pages.is_empty() {
        warn!(
            "built without web pages: `cargo xtask site`, then build again; the API is served all the same"
        );
    }
    let inner = Inner {
        gate: Gate::default(),
        downloads: Downloads::new(config.downloads.clone()),
        accounts: Counted::default(),
        room: Counted::default(),
        started: clock(),
        config,
        store,
        opaque,
        issuer,
        proofs,
        pace,
        pages,
        meters,
        clock,
    };
    let app = App(Arc::new(inner));
    let router = Router::new()
        .nest("/api/v1", api())
        .route("/.well-known/offhook", get(descriptor::descriptor))
        .route("/downloads/{name}", get(downloads::download))
        .fallback(pages::page)
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(axum::middleware::from_fn(serve::in_time))
        .layer(axum::middleware::from_fn_with_state(app.clone(), gate::pass))
        .layer(axum::middleware::from_fn_with_state(app.clone(), meters::count))
        .layer(axum::middleware::from_fn_with_state(is_https, headers::add))
        .with_state(app);
    Ok(router)
}

fn api() -> Router<App> {
    let with_backup = |route: MethodRouter<App>| route.layer(DefaultBodyLimit::max(MAX_BACKUP_BODY));
    Router::new()
        .route("/info", get(info::info))
        .route("/openapi.json", get(openapi::openapi))
        .route("/signup/start", post(sign_up::start))
        .route("/signup/finish", with_backup(post(sign_up::finish)))
        .route("/login/start", post(login::start))
        .route("/login/finish", post(login::finish))
        .route("/recover", post(credentials::recover))
        .route("/logout", post(login::log_out))
        .route("/session", get(login::session))
        .route("/account", get(account::account).delete(account::delete))
        .route("/account/backup", with_backup(get(account::backup).put(account::put_backup)))
        .route("/account/terminals", get(records::terminals))
        .route("/account/record", post(records::publish))
        .route("/account/credentials/start", post(credentials::start))
        .route("/account/credentials/finish", with_backup(post(credentials::finish)))
        .route("/account/numbers", post(chosen::claim))
        .route("/account/numbers/{number}", delete(chosen::release))
        .route("/account/numbers/{number}/renew", post(chosen::renew))
        .route("/account/numbers/{number}/transfer", post(chosen::transfer))
        .route("/numbers/{typed}", get(numbers::look_up))
        .route("/list", get(numbers::list))
        .fallback(error::not_found)
}
