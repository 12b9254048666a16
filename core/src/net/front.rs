//! A directory's front: one TCP port, usually 443, behind which everything is found by those whose network lets nothing
//! else through. The first byte says what a connection is:
//!
//! ```text
//!   0x16      TLS (RFC 8446) --- ALPN stun.turn (RFC 7443) --> TURN
//!                            '-- anything else --------------> web server; its route /libp2p is a WebSocket --> swarm
//!   0 to 3    TURN (RFC 8656) over plain TCP (RFC 7983's demultiplexing)
//!   0x13      libp2p (the length of multistream-select's first line) ----------------------------------------> swarm
//!   other     nothing that is served here: closed
//! ```
//!
//! Until it is handed over a connection is *half open*: it has a place, of which a source (/24 or /64) may take so many,
//! and little time. When the places are taken, the one that has been there longest gives way. Connections of the web have
//! places of their own, for as long as they last, so that none of them takes one from a terminal.

mod identity;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use futures::future::BoxFuture;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use tokio_util::compat::TokioAsyncReadCompatExt;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, warn};

use super::addr::Source;
use super::places::{Place, Places};
use super::transport::{Entering, Entrance};
pub use identity::{FrontIdentity, IdentityError};

/// The ALPN names (RFC 7301): of TURN over TLS (RFC 7443), and of the web.
const ALPN_TURN: &[u8] = b"stun.turn";
const ALPN_WEB: &[u8] = b"http/1.1";

/// The first byte of TLS, a handshake record (RFC 8446 section 5.1), and of libp2p.
const FIRST_TLS: u8 = 0x16;
const FIRST_LIBP2P: u8 = 0x13;

/// So long the first byte is waited for, and then the end of the TLS handshake.
const FIRST_BYTE_TIME: Duration = Duration::from_secs(5);
const TLS_TIME: Duration = Duration::from_secs(5);

/// After the system has failed to accept a connection, mostly for want of file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Half-open connections, altogether and of one /24 or /64.
const HALF_OPEN: usize = 1_024;
const HALF_OPEN_PER_SOURCE: usize = 64;

/// Connections to the web server, altogether and of one /24 or /64.
const WEB: usize = 2_048;
const WEB_PER_SOURCE: usize = 512;

/// A connection that the front hands over.
pub type FrontStream = Box<dyn FrontIo>;

/// A stream of bytes.
pub trait FrontIo: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> FrontIo for T {}

/// The two ends of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// Who has connected.
    pub remote: SocketAddr,
    /// To which of this host's addresses.
    pub local: SocketAddr,
}

impl fmt::Debug for Ends {
    /// Without addresses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ends")
    }
}

/// Serves a connection until it ends.
pub type FrontService = Arc<dyn Fn(FrontStream, Ends) -> BoxFuture<'static, ()> + Send + Sync>;

/// What is behind a [`Front`].
#[derive(Clone)]
pub struct FrontConfig {
    /// What it shows to clients of TURN, for as long as it runs: they know it by its hash, which is in their tickets.
    pub identity: FrontIdentity,
    /// What it shows to everybody else who speaks TLS, browsers say, until [`Front::show`].
    pub web_identity: FrontIdentity,
    /// TURN. `None`: such connections are closed.
    pub turn: Option<FrontService>,
    /// The web server, over TLS. Its connections have a place until the service ends, so it must see to it that they do.
    pub web: FrontService,
    /// Connections to it altogether; beyond it the oldest of the source that has most is closed.
    pub web_places: usize,
    /// The same of one /24 or /64; beyond it the source gets no more.
    pub web_places_per_source: usize,
    /// Half-open connections altogether; beyond it the oldest of the source that has most is closed.
    pub half_open: usize,
    /// The same of one /24 or /64; beyond it the source's own oldest one is closed.
    pub half_open_per_source: usize,
}

impl FrontConfig {
    /// With one certificate for all, without TURN, and with the default bounds.
    pub fn new(identity: FrontIdentity, web: FrontService) -> Self {
        Self {
            web_identity: identity.clone(),
            identity,
            turn: None,
            web,
            web_places: WEB,
            web_places_per_source: WEB_PER_SOURCE,
            half_open: HALF_OPEN,
            half_open_per_source: HALF_OPEN_PER_SOURCE,
        }
    }
}

impl fmt::Debug for FrontConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrontConfig").field("turn", &self.turn.is_some()).finish_non_exhaustive()
    }
}

/// A running front. It ends when it is dropped, with all connections that have not entered the swarm.
pub struct Front {
    addr: SocketAddr,
    identity: FrontIdentity,
    tls: Tls,
    _stop: DropGuard,
}

/// What TLS is accepted with; replaced as a whole, so that no session of an earlier certificate is resumed.
type Tls = Arc<RwLock<TlsAcceptor>>;

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl Front {
    /// Serves what comes in at `listener`, which the caller has bound because ports below 1024 need a permission.
    ///
    /// # Errors
    /// The listener's address cannot be had.
    pub fn start(listener: TcpListener, config: FrontConfig, entrance: Entrance) -> io::Result<Self> {
        let addr = listener.local_addr()?;
        let stop = CancellationToken::new();
        let identity = config.identity;
        let tls: Tls = Arc::new(RwLock::new(acceptor(&identity, config.web_identity)));
        let shared = Arc::new(Shared {
            tls: tls.clone(),
            turn: config.turn,
            web: config.web,
            entrance,
            half_open: Room::new(config.half_open, config.half_open_per_source),
            browsing: Room::new(config.web_places, config.web_places_per_source),
            stop: stop.clone(),
        });
        tokio::spawn(stop.clone().run_until_cancelled_owned(accept(listener, shared)));
        Ok(Self { addr, identity, tls, _stop: stop.drop_guard() })
    }

    /// From now on shows another certificate to everybody but clients of TURN. Connections that there are go on with theirs.
    pub fn show(&self, web_identity: FrontIdentity) {
        *self.tls.write().unwrap_or_else(PoisonError::into_inner) = acceptor(&self.identity, web_identity);
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// Any client that can speak TLS 1.2 or 1.3 is served. Which certificate it sees is told by what it wants.
fn acceptor(identity: &FrontIdentity, web_identity: FrontIdentity) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the cipher suites of TLS 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Shown { turn: identity.clone(), web: web_identity }));
    config.alpn_protocols = vec![ALPN_TURN.to_vec(), ALPN_WEB.to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// The certificates of TURN and of the web.
#[derive(Debug)]
struct Shown {
    turn: FrontIdentity,
    web: FrontIdentity,
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // As the protocol is chosen afterwards: TURN goes first.
        let is_turn = hello.alpn().is_some_and(|mut names| names.any(|name| name == ALPN_TURN));
        Some(if is_turn { self.turn.key() } else { self.web.key() })
    }
}

struct Shared {
    tls: Tls,
    turn: Option<FrontService>,
    web: FrontService,
    entrance: Entrance,
    half_open: Room,
    /// Connections to the web server.
    browsing: Room,
    stop: CancellationToken,
}

/// Connections that have a place, and how to end them.
#[derive(Clone)]
struct Room(Arc<Mutex<Guests>>);

struct Guests {
    places: Places<u64>,
    tasks: HashMap<u64, AbortHandle>,
    next: u64,
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => shared.admit(stream, remote),
            Err(error) => {
                warn!(%error, "the front cannot accept a connection");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

impl Shared {
    /// Gives a connection a place among the half-open ones.
    fn admit(self: &Arc<Self>, stream: TcpStream, remote: SocketAddr) {
        let (source, shared) = (Source::of(remote.ip()), self.clone());
        let conduct = |place| HalfOpen { shared, place }.conduct(stream, remote);
        self.half_open.admit(&self.stop, |places, key| places.take(key, source), conduct);
    }

    /// Hands a connection to the web server. A download is worth nothing if it does not last, so that no later connection of the same
    /// source ends it.
    fn browse(&self, stream: FrontStream, ends: Ends) {
        let (source, web) = (Source::of(ends.remote.ip()), self.web.clone());
        let serve = |place: Held| async move {
            web(stream, ends).await;
            drop(place);
        };
        self.browsing.admit(&self.stop, |places, key| places.take_for_good(key, source), serve);
    }
}

impl Room {
    fn new(total: usize, per_source: usize) -> Self {
        let places = Places::new(total, per_source);
        Self(Arc::new(Mutex::new(Guests { places, tasks: HashMap::new(), next: 0 })))
    }

    fn guests(&self) -> MutexGuard<'_, Guests> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves a connection that gets a place, and ends the one that loses it.
    fn admit<F: Future<Output = ()> + Send + 'static>(
        &self,
        stop: &CancellationToken,
        take: impl FnOnce(&mut Places<u64>, u64) -> Place<u64>,
        serve: impl FnOnce(Held) -> F,
    ) {
        let mut guests = self.guests();
        guests.next += 1;
        let key = guests.next;
        let loser = match take(&mut guests.places, key) {
            Place::Given => None,
            Place::Instead(loser) => guests.tasks.remove(&loser),
            Place::None => return,
        };
        let place = Held { room: self.clone(), key };
        let task = stop.clone().run_until_cancelled_owned(serve(place));
        guests.tasks.insert(key, tokio::spawn(task).abort_handle());
        drop(guests);
        if let Some(loser) = loser {
            debug!("a connection to the front makes room");
            loser.abort();
        }
    }
}

/// A place, given back when dropped.
struct Held {
    room: Room,
    key: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut guests = self.room.guests();
        guests.places.leave(&self.key);
        guests.tasks.remove(&self.key);
    }
}

/// A connection that is not handed over yet.
struct HalfOpen {
    shared: Arc<Shared>,
    place: Held,
}

impl HalfOpen {
    /// Leads a connection to where it belongs.
    async fn conduct(self, stream: TcpStream, remote: SocketAddr) {
        // Of no use to a connection that has gone already.
        let (Ok(local), Ok(())) = (stream.local_addr(), stream.set_nodelay(true)) else { return };
        let ends = Ends { remote, local };
        let shared = self.shared.clone();
        match tokio::time::timeout(FIRST_BYTE_TIME, first_byte(&stream)).await {
            Ok(Some(FIRST_TLS)) => self.secure(stream, ends).await,
            Ok(Some(0..=3)) => self.turn(Box::new(stream), ends).await,
            Ok(Some(FIRST_LIBP2P)) => {
                drop(self);
                let io = Box::new(stream.compat());
                shared.entrance.enter(Entering { io, remote, local, web: false });
            }
            Ok(Some(_) | None) | Err(_) => {}
        }
    }

    async fn secure(self, stream: TcpStream, ends: Ends) {
        let tls = self.shared.tls.read().unwrap_or_else(PoisonError::into_inner).clone();
        let accept = tls.accept(stream);
        let Ok(Ok(stream)) = tokio::time::timeout(TLS_TIME, accept).await else { return };
        if stream.get_ref().1.alpn_protocol() == Some(ALPN_TURN) {
            self.turn(Box::new(stream), ends).await;
        } else {
            drop(self.place);
            self.shared.browse(Box::new(stream), ends);
        }
    }

    /// The relay has limits of its own.
    async fn turn(self, stream: FrontStream, ends: Ends) {
        let turn = self.shared.turn.clone();
        drop(self);
        if let Some(turn) = turn {
            turn(stream, ends).await;
        }
    }
}

/// The first byte, left where it is; `None` if none comes.
async fn first_byte(stream: &TcpStream) -> Option<u8> {
    let mut byte = [0];
    let length = stream.peek(&mut byte).await.ok()?;
    (length == 1).then_some(byte[0])
}
