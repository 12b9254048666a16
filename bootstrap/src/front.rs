//! The front on port 443: where it listens and which certificate it shows.

use std::fs::File;
use std::io::Read as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use axum::Router;
use offhook::net::{Ends, Entrance, Front, FrontConfig, FrontIdentity, FrontService, IdentityError};
use offhook::relay::Relay;
use thiserror::Error;
use tokio::net::TcpListener;
use tracing::warn;

use crate::key::{self, KeyError};
use crate::settings::{AddrOrNone, Settings};

/// The web's port, because it is open where no other is.
const PORT: u16 = 443;

/// Where the certificate that is made here is kept, with its key, in the data folder.
const FILE: &str = "front.pem";

/// More than this of a file with a certificate or a key is not read, bytes.
const MAX_PEM: u64 = 1024 * 1024;

/// Why there is no front.
#[derive(Debug, Error)]
pub enum FrontError {
    /// The port is taken, or not to be had without a permission.
    #[error("cannot listen on {addr} for the front: {error}")]
    Listen {
        /// Where.
        addr: SocketAddr,
        /// The system's error.
        error: std::io::Error,
    },
    /// A file with a certificate or a key cannot be read.
    #[error("{path}: {error}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// A file with a certificate or a key is not what it should be.
    #[error("{path}: {error}", path = path.display())]
    Identity {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        error: IdentityError,
    },
    /// The certificate that is made at the first start.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// One of them is not enough.
    #[error(
        "a certificate needs its key, and a key its certificate: set both front-cert and front-key, or neither"
    )]
    Half,
}

/// A front that does not serve yet.
pub(crate) struct Bound {
    listener: TcpListener,
    pub(crate) addr: SocketAddr,
    /// The relay's certificate: its hash is in tickets, so it stays when the web's is renewed.
    pub(crate) identity: FrontIdentity,
    web_identity: FrontIdentity,
}

/// Binds the port. Without a word about it in the settings the directory does without, if it may not have it.
pub(crate) async fn bind(settings: &Settings) -> Result<Option<Bound>, FrontError> {
    let listener = match settings.front {
        Some(AddrOrNone(None)) => return Ok(None),
        Some(AddrOrNone(Some(addr))) => {
            TcpListener::bind(addr).await.map_err(|error| FrontError::Listen { addr, error })?
        }
        None => match anywhere().await {
            Ok(listener) => listener,
            Err(error) => {
                warn!(%error, port = PORT, "no front: terminals whose network lets nothing else through cannot get here");
                return Ok(None);
            }
        },
    };
    let unnamed = SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT));
    let addr = listener.local_addr().map_err(|error| FrontError::Listen { addr: unnamed, error })?;
    let configured = configured(settings)?;
    let identity = made(settings)?;
    let web_identity = configured.unwrap_or_else(|| identity.clone());
    Ok(Some(Bound { listener, addr, identity, web_identity }))
}

/// Both families, or what the host has.
async fn anywhere() -> std::io::Result<TcpListener> {
    let both = TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)).await;
    match both {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await,
    }
}

/// The certificate of the files that the settings name, as they are now; `None` if they name none.
pub(crate) fn configured(settings: &Settings) -> Result<Option<FrontIdentity>, FrontError> {
    let (path, key) = match (&settings.front_cert, &settings.front_key) {
        (Some(path), Some(key)) => (path, key),
        (None, None) => return Ok(None),
        (Some(_), None) | (None, Some(_)) => return Err(FrontError::Half),
    };
    let identity = FrontIdentity::from_pem(&read(path)?, &read(key)?);
    identity.map(Some).map_err(|error| FrontError::Identity { path: path.clone(), error })
}

/// The certificate that is made at the first start and kept.
fn made(settings: &Settings) -> Result<FrontIdentity, FrontError> {
    let folder = settings.data_dir();
    let failed = |error| FrontError::Identity { path: folder.join(FILE), error };
    let mut made = Ok(());
    let pem = key::load_or_make_file(&folder, FILE, || {
        FrontIdentity::make_pem().map_or_else(
            |error| {
                made = Err(error);
                Vec::new()
            },
            String::into_bytes,
        )
    })?;
    made.map_err(failed)?;
    FrontIdentity::from_pem(&pem, &pem).map_err(failed)
}

fn read(path: &Path) -> Result<Vec<u8>, FrontError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_PEM).read_to_end(&mut bytes));
    read.map(|_| bytes).map_err(|error| FrontError::Read { path: path.to_owned(), error })
}

impl Bound {
    /// Begins to serve, with the site if there is one.
    pub(crate) fn serve(
        self,
        relay: Option<&Relay>,
        site: Option<Router>,
        entrance: Entrance,
    ) -> Result<Front, FrontError> {
        let web = match site {
            Some(site) => offhook::web::service_with_site(entrance.clone(), site),
            None => offhook::web::service(entrance.clone()),
        };
        let mut config = FrontConfig::new(self.identity, web);
        config.web_identity = self.web_identity;
        config.turn = relay.cloned().map(turn);
        let addr = self.addr;
        Front::start(self.listener, config, entrance).map_err(|error| FrontError::Listen { addr, error })
    }
}

fn turn(relay: Relay) -> FrontService {
    std::sync::Arc::new(move |io, Ends { remote, local }| {
        let relay = relay.clone();
        Box::pin(async move { relay.serve_stream(io, remote, local).await })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(folder: &Path) -> Settings {
        let front = Some(AddrOrNone(Some(SocketAddr::from(([127, 0, 0, 1], 0)))));
        Settings { data: Some(folder.to_owned()), front, ..Settings::default() }
    }

    #[tokio::test]
    async fn the_certificate_is_made_once_and_only_its_owner_reads_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("folder");
        let first = bind(&settings(folder.path())).await.expect("bound").expect("a front");
        let again = bind(&settings(folder.path())).await.expect("bound").expect("a front");
        assert_eq!(first.identity.pin(), again.identity.pin());
        assert_eq!(first.web_identity.pin(), first.identity.pin());
        let mode = std::fs::metadata(folder.path().join(FILE)).expect("file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_certificate_may_be_configured_but_not_half_of_it() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("own.pem");
        let pem = FrontIdentity::make_pem().expect("made");
        std::fs::write(&path, &pem).expect("written");
        let mut own = settings(folder.path());
        own.front_cert = Some(path.clone());
        assert!(matches!(bind(&own).await, Err(FrontError::Half)));
        own.front_key = Some(path.clone());
        let bound = bind(&own).await.expect("bound").expect("a front");
        let expected = FrontIdentity::from_pem(pem.as_bytes(), pem.as_bytes()).expect("read");
        assert_eq!(bound.web_identity.pin(), expected.pin());
        assert_ne!(bound.identity.pin(), expected.pin(), "the relay has its own");
        std::fs::write(&path, "nonsense").expect("written");
        assert!(matches!(bind(&own).await, Err(FrontError::Identity { .. })));
        own.front_key = Some(folder.path().join("nowhere"));
        assert!(matches!(bind(&own).await, Err(FrontError::Read { .. })));
    }

    #[tokio::test]
    async fn what_is_asked_for_must_be_had_and_what_is_not_wanted_is_not() {
        let folder = tempfile::tempdir().expect("folder");
        let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut one = settings(folder.path());
        one.front = Some(AddrOrNone(taken.local_addr().ok()));
        assert!(matches!(bind(&one).await, Err(FrontError::Listen { .. })));
        one.front = Some(AddrOrNone(None));
        assert!(bind(&one).await.expect("bound").is_none());
    }
}
