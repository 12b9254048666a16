//! The socket's part in relays: what goes to a server and what comes from one, over UDP and over connections.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use quinn::udp::Transmit;
use tokio::sync::{Notify, mpsc};

use super::MediaSocket;
use crate::media::relay::{Datagram, RelayEvent, Relays, StreamId, Wire, stream};
use crate::media::types::Relay;

/// The relays, and the connections to them.
pub(super) struct Outlets {
    inner: Mutex<Inner>,
    /// Something has happened that the leg's task should look at.
    news: Notify,
}

struct Inner {
    relays: Relays,
    streams: HashMap<StreamId, mpsc::Sender<Vec<u8>>>,
}

impl Outlets {
    pub(super) fn new(bound: SocketAddr) -> Outlets {
        let inner = Inner { relays: Relays::new(bound, route), streams: HashMap::new() };
        Outlets { inner: Mutex::new(inner), news: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // As for the socket's own.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MediaSocket {
    /// Asks a relay for an address, now or once that is wanted. False if there are enough.
    pub(in crate::media) fn add_relay(&self, relay: &Relay) -> bool {
        let mut outlets = self.relays.lock();
        let added = outlets.relays.add(relay, Instant::now());
        self.flush(&mut outlets);
        added
    }

    /// Gives all addresses at relays back, or asks for them again.
    pub(in crate::media) fn want_relays(&self, wanted: bool) {
        let mut outlets = self.relays.lock();
        outlets.relays.want(wanted, Instant::now());
        self.flush(&mut outlets);
    }

    /// Nothing comes through the relays: finds out whether their addresses are still there.
    pub(in crate::media) fn doubt_relays(&self) {
        let mut outlets = self.relays.lock();
        outlets.relays.doubt(Instant::now());
        self.flush(&mut outlets);
    }

    /// Asks those relays again to which packets go from another of our addresses than before.
    pub(in crate::media) fn reroute_relays(&self) {
        let mut outlets = self.relays.lock();
        outlets.relays.reroute(Instant::now());
        self.flush(&mut outlets);
    }

    /// Whether no address at a relay is left.
    pub(in crate::media) fn is_rid_of_relays(&self) -> bool {
        self.relays.lock().relays.is_over()
    }

    /// When [`MediaSocket::drive_relays`] should be called next, unless [`MediaSocket::relay_news`] comes before.
    pub(in crate::media) fn relay_timeout(&self) -> Option<Instant> {
        self.relays.lock().relays.poll_timeout()
    }

    /// Waits until [`MediaSocket::drive_relays`] should be called.
    pub(in crate::media) async fn relay_news(&self) {
        self.relays.news.notified().await;
    }

    /// Lets time pass; what is to be done then.
    pub(in crate::media) fn drive_relays(&self, now: Instant) -> Vec<RelayEvent> {
        let mut outlets = self.relays.lock();
        outlets.relays.handle_timeout(now);
        self.flush(&mut outlets);
        std::iter::from_fn(|| outlets.relays.poll_event()).collect()
    }

    /// Where messages for a connection come out from now on.
    pub(in crate::media) fn open_stream(&self, id: StreamId) -> mpsc::Receiver<Vec<u8>> {
        let (sender, queue) = mpsc::channel(stream::QUEUE);
        self.relays.lock().streams.insert(id, sender);
        queue
    }

    /// The end of that; the connection's task ends by it.
    pub(in crate::media) fn close_stream(&self, id: StreamId) {
        self.relays.lock().streams.remove(&id);
    }

    /// A connection stands; `local` is our end.
    pub(in crate::media) fn stream_connected(&self, id: StreamId, local: SocketAddr) {
        let mut outlets = self.relays.lock();
        outlets.relays.connected(id, local, Instant::now());
        self.flush(&mut outlets);
        self.relays.news.notify_one();
    }

    /// A connection has ended, or could not be opened.
    pub(in crate::media) fn stream_ended(&self, id: StreamId) {
        let mut outlets = self.relays.lock();
        outlets.streams.remove(&id);
        outlets.relays.disconnected(id, Instant::now());
        self.flush(&mut outlets);
        self.relays.news.notify_one();
    }

    /// Takes a message of a connection.
    pub(in crate::media) fn stream_message(&self, id: StreamId, message: &[u8]) {
        self.bytes_received.fetch_add(message.len() as u64, Relaxed);
        let mut outlets = self.relays.lock();
        let delivery = outlets.relays.message(id, message, Instant::now());
        self.flush(&mut outlets);
        drop(outlets);
        match delivery {
            Some(delivery) => {
                let mut inner = self.lock();
                self.sort_packet(&mut inner, delivery.source, delivery.local, &delivery.bytes);
                if let Some(waker) = inner.waker.take() {
                    waker.wake();
                }
            }
            None => self.relays.news.notify_one(),
        }
    }

    /// What a datagram is, if it comes from a relay.
    pub(super) fn unwrap_relayed(&self, source: SocketAddr, packet: &[u8]) -> Datagram {
        let mut outlets = self.relays.lock();
        let datagram = outlets.relays.datagram(source, packet, Instant::now());
        if datagram == Datagram::Handled {
            self.flush(&mut outlets);
            self.relays.news.notify_one();
        }
        datagram
    }

    /// Sends a packet from our address at a relay. False if `local` is none. What a relay can't take at once is lost.
    pub(super) fn send_relayed(&self, local: SocketAddr, remote: SocketAddr, bytes: &[u8]) -> bool {
        let mut outlets = self.relays.lock();
        let sent = outlets.relays.send(local, remote, bytes, Instant::now());
        self.flush(&mut outlets);
        sent
    }

    fn flush(&self, outlets: &mut Inner) {
        while let Some(wire) = outlets.relays.poll_wire() {
            match wire {
                Wire::Datagram { server, bytes } => {
                    let transmit = Transmit {
                        destination: server,
                        ecn: None,
                        contents: &bytes,
                        segment_size: None,
                        src_ip: None,
                    };
                    // Lost as any packet may be.
                    let _ = self.send(&transmit);
                }
                Wire::Stream { id, bytes } => {
                    let length = bytes.len() as u64;
                    let queue = outlets.streams.get(&id);
                    if queue.is_some_and(|queue| queue.try_send(bytes).is_ok()) {
                        self.bytes_sent.fetch_add(length, Relaxed);
                    }
                }
            }
        }
    }
}

/// From which of our addresses packets go to `server`.
fn route(server: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr = if server.is_ipv4() { ([0; 4], 0).into() } else { ([0; 16], 0).into() };
    let socket = UdpSocket::bind(any).ok()?;
    // Sends nothing.
    socket.connect(server).ok()?;
    socket.local_addr().ok().map(|local| local.ip())
}
