//! The site's connections. All together and of one network there may be so many, and none may be slow for long.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Extension, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use offhook::web::Paced;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tracing::debug;

use super::SiteError;
use super::error::ApiError;
use super::limits::Network;

/// A request's header must be there by then, and the next request's after the last answer.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// Body and answer of a request.
const REQUEST_TIME: Duration = Duration::from_secs(20);
/// A connection is closed after this, whatever it does.
const CONNECTION_TIME: Duration = Duration::from_secs(600);
/// After the system has failed to accept a connection, mostly for want of file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Longest header of a request, bytes.
const MAX_HEADER: usize = 16 * 1024;

/// Connections at a time, and those of one network. A reverse proxy is one of them.
const MAX_CONNECTIONS: usize = 2_048;
const MAX_OF_ONE: usize = 512;

/// Who has connected.
#[derive(Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// A running site. It ends when it is dropped.
#[derive(Debug)]
pub struct Site {
    addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Site {
    /// Binds `addr` (port 0: any free one) and serves.
    ///
    /// # Errors
    /// [`SiteError::Listen`]; nothing is served then.
    pub async fn start(addr: SocketAddr, router: Router) -> Result<Self, SiteError> {
        let failed = |error| SiteError::Listen { addr, error };
        Self::serve(TcpListener::bind(addr).await.map_err(failed)?, router)
    }

    /// Serves where `listener` listens.
    ///
    /// # Errors
    /// [`SiteError::Listen`] if that is not known.
    pub fn serve(listener: TcpListener, router: Router) -> Result<Self, SiteError> {
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let addr = listener.local_addr().map_err(|error| SiteError::Listen { addr: unknown, error })?;
        Ok(Self { addr, task: tokio::spawn(accept(listener, router)) })
    }

    /// Where it serves.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, router: Router) {
    let (places, mut connections) = (Places::default(), JoinSet::new());
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                debug!(%error, "a connection to the site was not accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        // Otherwise it is closed.
        if let Some(place) = places.take(Network::of(peer.ip())) {
            let router = router.clone();
            connections.spawn(async move {
                serve(stream, peer, router).await;
                drop(place);
            });
        }
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, router: Router) {
    let service = TowerToHyperService::new(router.layer(Extension(Peer(peer))));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(MAX_HEADER)
        .serve_connection(TokioIo::new(Paced::new(stream)), service);
    match tokio::time::timeout(CONNECTION_TIME, connection).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => debug!(%error, "a connection to the site has failed"),
    }
}

/// Ends requests whose body comes too slowly.
pub(super) async fn in_time(request: Request, next: Next) -> Response {
    let answer = tokio::time::timeout(REQUEST_TIME, next.run(request)).await;
    answer.unwrap_or_else(|_| ApiError::TooSlow.into_response())
}

/// Places for connections.
#[derive(Clone, Debug, Default)]
struct Places(Arc<Mutex<HashMap<Network, usize>>>);

/// A connection's place, given back when it is dropped.
struct Place(Places, Network);

impl Places {
    fn take(&self, network: Network) -> Option<Place> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.get(&network).copied().unwrap_or_default();
        if own >= MAX_OF_ONE || taken.values().sum::<usize>() >= MAX_CONNECTIONS {
            return None;
        }
        taken.insert(network, own + 1);
        Some(Place(self.clone(), network))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.1) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_given_back() {
        let places = Places::default();
        let network = |n: u32| Network::of(std::net::Ipv4Addr::from_bits(n).into());
        let one: Vec<_> = (0..MAX_OF_ONE + 5).map_while(|_| places.take(network(1))).collect();
        assert_eq!(one.len(), MAX_OF_ONE);
        let others: Vec<_> = (2..9_999).map_while(|n| places.take(network(n))).collect();
        assert_eq!(one.len() + others.len(), MAX_CONNECTIONS);
        drop(one);
        assert!(places.take(network(1)).is_some());
        drop(others);
        assert!(places.0.lock().unwrap().is_empty());
    }
}
