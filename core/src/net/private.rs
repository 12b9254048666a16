//! Whether private and loopback addresses are for dialling.
//!
//! Records, Kademlia's answers, packets to pass on and names in the DNS all carry addresses that strangers chose. On
//! the internet none of them may make this node knock at its own host or its own network's doors. [`Guarded`] stands
//! below the resolver, so it sees what a name has come to, whoever asked.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::{Context, Poll};

use libp2p::Multiaddr;
use libp2p::core::Transport;
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use tracing::debug;

use super::addr;

/// The rule; clones share it.
#[derive(Clone)]
pub(super) struct Private(Arc<Rule>);

struct Rule {
    allowed: AtomicBool,
    /// Whether one has been turned down since that was asked last.
    turned_down: AtomicBool,
    /// Private addresses that are dialled nevertheless.
    configured: HashSet<SocketAddr>,
    /// So are those of neighbours on the local network, whose number is bounded there.
    neighbours: RwLock<HashSet<SocketAddr>>,
    /// What has been dialled since that was asked last.
    dialled: Mutex<HashSet<SocketAddr>>,
}

/// Addresses dialled that are kept until somebody asks, which a driver does twice a second; of more only the first are
/// known.
const MAX_DIALLED: usize = 4_096;

impl Private {
    /// `configured` addresses are dialled whatever the rule.
    pub(super) fn new(allowed: bool, configured: &[Multiaddr]) -> Self {
        let configured = configured.iter().filter_map(addr::socket_of).collect();
        Self(Arc::new(Rule {
            allowed: AtomicBool::new(allowed),
            turned_down: AtomicBool::new(false),
            configured,
            neighbours: RwLock::default(),
            dialled: Mutex::default(),
        }))
    }

    /// Whether private addresses are as good as public ones: in a laboratory, or a network of its own.
    pub(super) fn allowed(&self) -> bool {
        self.0.allowed.load(Ordering::Relaxed)
    }

    /// From now on they are not: this network turns out to be the internet.
    pub(super) fn forbid(&self) {
        self.0.allowed.store(false, Ordering::Relaxed);
    }

    /// A neighbour may be reached there.
    pub(super) fn add_neighbour(&self, addr: &Multiaddr) {
        if let Some(socket) = addr::socket_of(addr) {
            self.0.neighbours.write().unwrap_or_else(PoisonError::into_inner).insert(socket);
        }
    }

    /// No longer.
    pub(super) fn remove_neighbour(&self, addr: &Multiaddr) {
        if let Some(socket) = addr::socket_of(addr) {
            self.0.neighbours.write().unwrap_or_else(PoisonError::into_inner).remove(&socket);
        }
    }

    /// Whether the address may be dialled. Names are looked at again when they have been resolved.
    pub(super) fn permits(&self, addr: &Multiaddr) -> bool {
        self.allowed()
            || addr::is_public(addr)
            || addr::socket_of(addr).is_some_and(|socket| self.knows(&socket))
    }

    /// Whether an address was turned down since this was asked last.
    pub(super) fn turned_down(&self) -> bool {
        self.0.turned_down.swap(false, Ordering::Relaxed)
    }

    /// What has been dialled since this was asked last.
    pub(super) fn take_dialled(&self) -> HashSet<SocketAddr> {
        std::mem::take(&mut *self.0.dialled.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note_dialled(&self, addr: &Multiaddr) {
        let mut dialled = self.0.dialled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(socket) = addr::socket_of(addr).filter(|_| dialled.len() < MAX_DIALLED) {
            dialled.insert(socket);
        }
    }

    fn knows(&self, socket: &SocketAddr) -> bool {
        self.0.configured.contains(socket)
            || self.0.neighbours.read().unwrap_or_else(PoisonError::into_inner).contains(socket)
    }
}

/// A transport that dials what is permitted, and notes it.
pub(super) struct Guarded<T> {
    inner: T,
    private: Private,
}

impl<T> Guarded<T> {
    pub(super) fn new(inner: T, private: Private) -> Self {
        Self { inner, private }
    }
}

impl<T: Transport + Unpin> Transport for Guarded<T> {
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = T::Dial;

    fn listen_on(&mut self, id: ListenerId, addr: Multiaddr) -> Result<(), TransportError<T::Error>> {
        self.inner.listen_on(id, addr)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(&mut self, addr: Multiaddr, opts: DialOpts) -> Result<T::Dial, TransportError<T::Error>> {
        if !self.private.permits(&addr) {
            debug!("a private address is not dialled");
            self.private.0.turned_down.store(true, Ordering::Relaxed);
            return Err(TransportError::MultiaddrNotSupported(addr));
        }
        self.private.note_dialled(&addr);
        self.inner.dial(addr, opts)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn private_addresses_are_dialled_where_nothing_is_public_and_where_they_are_known() {
        let at = |port| addr(&format!("/ip4/192.168.1.7/udp/{port}/quic-v1"));
        let private = Private::new(true, &[at(1)]);
        assert!(private.permits(&at(53)));
        private.forbid();
        assert!(private.permits(&at(1)) && private.permits(&addr("/ip4/8.8.8.8/tcp/1")));
        assert!(!private.permits(&at(53)) && !private.permits(&addr("/ip6/::1/tcp/1")));
        private.add_neighbour(&at(2));
        private.add_neighbour(&at(1));
        assert!(private.permits(&at(2)) && !private.permits(&at(53)));
        private.remove_neighbour(&at(2));
        private.remove_neighbour(&at(1));
        assert!(private.permits(&at(1)) && !private.permits(&at(2)));
    }
}
