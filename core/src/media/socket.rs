//! The UDP socket under QUIC.
//!
//! quinn believes that it talks to one constant address, [`PEER`]. Where its packets really go is the current
//! [`Path`], which only [`MediaSocket::set_path`] changes. Incoming packets are told apart by their first byte
//! (RFC 9443 section 3): STUN goes to the ICE agent, a courier's packets to its client, QUIC to quinn, but only from
//! addresses that have proved themselves by an authenticated STUN message; everything else is dropped, QUIC after a
//! moment's grace. quinn's own endpoint task does the reading, so the socket needs no task.
//!
//! When voice is to flow and no path is known yet, [`MediaSocket::try_out`] lets packets go to a few addresses that
//! signed signalling has told, and those of an established connection in from there, for a moment and within a budget:
//! behind two NATs that saves the round trip that the checks need. It does not change the path.
//!
//! A relay is used through the same socket. Its packets are told from others by its address, and those of a channel from
//! QUIC ones, with which they share the first byte (RFC 9443 section 2), by the channel's number.

mod flight;
mod handshake;
mod relayed;

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use offhook_proto::call::TunnelBudget;
use offhook_proto::signalling::MAX_TUNNEL_BYTES;
use offhook_proto::wire::canonical;
use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::courier::is_couriers;
use super::relay::{Datagram, Delivery};
use super::types::Path;
use flight::Flight;
pub(super) use handshake::UNDER_WAY;
use handshake::carry_over_at;
use relayed::Outlets;

/// The address that QUIC believes to talk to (from TEST-NET-1, RFC 5737, which never appears on a network).
pub(super) const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 1);
/// Addresses that may have proved themselves at a time; a peer behind a few NATs shows three or four.
const MAX_AUTHENTICATED: usize = 32;
/// QUIC packets from unknown addresses that are kept for a moment, since the STUN message that proves the
/// address may have come just before and be still with the agent.
const MAX_HELD: usize = 8;
const HOLD: Duration = Duration::from_millis(100);
/// Packets of the tunnel that are sent again on the first path if nothing has come back: what QUIC repeats comes seconds later.
const MAX_UNANSWERED: usize = 8;
/// How long packets are sent to an address on trial: a round trip to the other side of the world.
const TRIAL: Duration = Duration::from_millis(400);
/// Packets that a leg sends to addresses on trial, all together: to four addresses for twice as long, since
/// candidates trickle in.
const TRIAL_BUDGET: usize = 160;
/// Batches that are read before other tasks get their turn, since a flood would never let them.
const MAX_BATCHES: usize = 64;
/// Errors in a row that are swallowed before other tasks get their turn.
const MAX_ERRORS: usize = 32;
/// A UDP datagram with receive offload can be as long as this.
const RECEIVE_BUFFER: usize = 65_536;

/// A STUN message, or a courier's packet, from the network.
#[derive(Clone)]
pub(super) struct StunIn {
    pub(super) source: SocketAddr,
    /// The address that it was sent to, which may be at a relay.
    pub(super) local: SocketAddr,
    pub(super) bytes: Vec<u8>,
}

/// One address family.
struct Half {
    io: UdpSocket,
    state: UdpSocketState,
    bound: SocketAddr,
}

struct Inner {
    path: Path,
    /// When packets of the other end came last, from anywhere and on the path.
    heard: (Instant, Instant),
    /// Whether the watchdog has missed them since.
    silent: bool,
    /// See [`MediaSocket::has_control`].
    control: bool,
    /// Addresses on trial, and until when.
    trial: Vec<(SocketAddr, Instant)>,
    trial_sent: usize,
    authenticated: VecDeque<SocketAddr>,
    /// QUIC packets for quinn: from the tunnel, or left over from a batch.
    ready: VecDeque<Vec<u8>>,
    /// When a packet came, from where, and the packet.
    held: VecDeque<(Instant, SocketAddr, Vec<u8>)>,
    waker: Option<Waker>,
    /// Sent through the tunnel since a packet of the other end came last.
    unanswered: VecDeque<Vec<u8>>,
    flight: Flight,
    /// When what is unanswered goes on the path.
    carry_over: Option<Instant>,
    tunnel_sent: TunnelBudget,
    tunnel_received: TunnelBudget,
    buffer: Vec<u8>,
}

/// See the module's documentation.
pub(super) struct MediaSocket {
    halves: Vec<Half>,
    inner: Mutex<Inner>,
    relays: Outlets,
    stun: mpsc::Sender<StunIn>,
    tunnel: mpsc::Sender<Vec<u8>>,
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
    refused: AtomicU64,
}

impl MediaSocket {
    /// Binds one socket, or one for each address family that exists if `bind` is not given. STUN messages go to
    /// `stun`, packets for the tunnel to `tunnel`; when those are full, packets are dropped as a network would.
    pub(super) fn bind(
        bind: Option<IpAddr>,
        stun: mpsc::Sender<StunIn>,
        tunnel: mpsc::Sender<Vec<u8>>,
    ) -> io::Result<Arc<MediaSocket>> {
        let halves = match bind {
            Some(ip) => vec![Half::bind(ip)?],
            None => {
                let (v4, v6) =
                    (Half::bind(Ipv4Addr::UNSPECIFIED.into()), Half::bind(Ipv6Addr::UNSPECIFIED.into()));
                match (v4, v6) {
                    (Err(error), Err(_)) => return Err(error),
                    (v4, v6) => v4.into_iter().chain(v6).collect(),
                }
            }
        };
        let now = Instant::now();
        let inner = Inner {
            path: Path::Tunnel,
            heard: (now, now),
            silent: false,
            control: false,
            trial: Vec::new(),
            trial_sent: 0,
            authenticated: VecDeque::new(),
            ready: VecDeque::new(),
            held: VecDeque::new(),
            waker: None,
            unanswered: VecDeque::new(),
            flight: Flight::default(),
            carry_over: None,
            tunnel_sent: TunnelBudget::default(),
            tunnel_received: TunnelBudget::default(),
            buffer: vec![0; RECEIVE_BUFFER],
        };
        let bound = halves.first().map_or(PEER, |half| half.bound);
        Ok(Arc::new(MediaSocket {
            relays: Outlets::new(bound),
            halves,
            inner: Mutex::new(inner),
            stun,
            tunnel,
            bytes_sent: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }))
    }

    /// The addresses bound, one per family.
    pub(super) fn bound(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.halves.iter().map(|half| half.bound)
    }

    /// The way that QUIC packets take.
    pub(super) fn path(&self) -> Path {
        self.lock().path.clone()
    }

    /// When packets of the other end came last, from anywhere, and on the path; there not before it was chosen.
    pub(super) fn heard(&self) -> (Instant, Instant) {
        self.lock().heard
    }

    /// Nothing has been heard for too long.
    pub(super) fn set_silent(&self) {
        self.lock().silent = true;
    }

    /// Whether that was so, and nothing has come since.
    pub(super) fn is_silent(&self) -> bool {
        self.lock().silent
    }

    /// The control stream is there.
    pub(super) fn set_control(&self) {
        self.lock().control = true;
    }

    /// Whether that was so: what is sent on it before waits, at a callee that knows the connection by its voice.
    pub(super) fn has_control(&self) -> bool {
        self.lock().control
    }

    /// Changes it. Callers must have the word of ICE or of signed signalling for it.
    pub(super) fn set_path(&self, path: Path) {
        let mut inner = self.lock();
        inner.path = path;
        inner.heard.1 = Instant::now();
        inner.trial.clear();
        let now = inner.heard.1;
        let due = carry_over_at(&inner.path, now);
        // What has been waiting for another path does not begin to wait anew.
        inner.carry_over = due.map(|due| inner.carry_over.map_or(due, |earlier| earlier.min(due)));
        drop(inner);
        self.carry_over(now);
    }

    /// As long as there is no path for voice, packets go to these addresses instead of the tunnel, for a while. Callers
    /// must have the word of signed signalling for them.
    pub(super) fn try_out(&self, addresses: &[SocketAddr]) {
        let mut inner = self.lock();
        let until = Instant::now() + TRIAL;
        let since = |address| inner.trial.iter().find(|(known, _)| known == address).map(|(_, until)| *until);
        inner.trial = addresses.iter().map(|address| (*address, since(address).unwrap_or(until))).collect();
    }

    /// Whether a packet of voice that is sent now goes anywhere.
    pub(super) fn carries_voice(&self) -> bool {
        let inner = self.lock();
        inner.path.carries_voice() || inner.on_trial().next().is_some()
    }

    /// From now on QUIC packets from `address` are let in. Only for senders of authenticated STUN.
    pub(super) fn let_in(&self, address: SocketAddr) {
        let mut inner = self.lock();
        if !inner.authenticated.contains(&address) {
            if inner.authenticated.len() == MAX_AUTHENTICATED {
                inner.authenticated.pop_front();
            }
            inner.authenticated.push_back(address);
            self.expire(&mut inner);
            let (genuine, rest): (VecDeque<_>, _) =
                inner.held.drain(..).partition(|(_, source, _)| *source == address);
            inner.held = rest;
            inner.ready.extend(genuine.into_iter().map(|(_, _, packet)| packet));
            if let Some(waker) = inner.waker.take() {
                waker.wake();
            }
        }
    }

    /// Takes a QUIC packet that signed signalling has carried here.
    pub(super) fn tunnel_in(&self, packet: Vec<u8>) {
        let mut inner = self.lock();
        let sound = packet.len() <= MAX_TUNNEL_BYTES && is_quic(&packet);
        if !sound || !inner.tunnel_received.take(Instant::now()) {
            self.refused.fetch_add(1, Relaxed);
            return;
        }
        inner.unanswered.clear();
        inner.ready.push_back(packet);
        if let Some(waker) = inner.waker.take() {
            waker.wake();
        }
    }

    /// Sends a STUN message or a courier's packet, from `local` if given. Lost if the kernel refuses it, as any packet may be.
    pub(super) fn send_aside(&self, local: Option<SocketAddr>, remote: SocketAddr, bytes: &[u8]) {
        if local.is_some_and(|local| self.send_relayed(local, remote, bytes)) {
            return;
        }
        let src_ip = local.map(|local| local.ip());
        let transmit =
            Transmit { destination: remote, ecn: None, contents: bytes, segment_size: None, src_ip };
        // A full send buffer or an ICMP error reported late is not worth more than the next retransmission.
        let _ = self.send(&transmit);
    }

    /// UDP payload bytes sent and received, and packets refused.
    pub(super) fn counters(&self) -> (u64, u64, u64) {
        self.expire(&mut self.lock());
        (self.bytes_sent.load(Relaxed), self.bytes_received.load(Relaxed), self.refused.load(Relaxed))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while holding it; if something did, the fields are still consistent.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send_along(&self, path: &Path, transmit: &Transmit<'_>) -> io::Result<()> {
        let (local, remote) = match path {
            Path::Tunnel => return Ok(()),
            Path::Relayed { local, remote, .. } | Path::Direct { local, remote } => (*local, *remote),
        };
        if self.send_relayed(local, remote, transmit.contents) {
            return Ok(());
        }
        let transmit = Transmit { destination: remote, src_ip: Some(local.ip()), ..transmit.clone() };
        match self.send(&transmit) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            // Unreachable for the moment is a lost packet to QUIC, not the end of the connection.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn send_on_trial(&self, addresses: &[SocketAddr], transmit: &Transmit<'_>) {
        for address in addresses {
            // What is lost here is lost as on any network.
            let _ = self.send(&Transmit { destination: *address, src_ip: None, ..transmit.clone() });
        }
    }

    fn half_for(&self, remote: SocketAddr) -> Option<usize> {
        self.halves.iter().position(|half| half.bound.is_ipv4() == remote.is_ipv4())
    }

    fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let Some(half) = self.half_for(transmit.destination) else { return Ok(()) };
        let half = &self.halves[half];
        let source = transmit.src_ip.filter(|_| half.bound.ip().is_unspecified());
        let transmit = Transmit { src_ip: source, ..transmit.clone() };
        // `try_send` rather than `send`: the latter logs addresses.
        let try_send = || half.state.try_send((&half.io).into(), &transmit);
        match half.io.try_io(Interest::WRITABLE, try_send) {
            // The runtime has not yet seen that a new socket takes packets. A leg's first ones are worth a second try.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => try_send()?,
            sent => sent?,
        }
        self.bytes_sent.fetch_add(transmit.contents.len() as u64, Relaxed);
        Ok(())
    }

    fn send_tunnel(&self, inner: &mut Inner, packet: &[u8]) {
        if inner.tunnel_sent.take(Instant::now()) {
            if inner.unanswered.len() == MAX_UNANSWERED {
                inner.unanswered.pop_front();
            }
            inner.unanswered.push_back(packet.to_vec());
            // A full queue loses it, as any packet may be.
            let _ = self.tunnel.try_send(packet.to_vec());
        }
    }

    /// Reads one batch from `half` and sorts it: QUIC to `inner.ready`, STUN to the agent.
    fn poll_half(&self, half: &Half, inner: &mut Inner, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        for _ in 0..MAX_ERRORS {
            std::task::ready!(half.io.poll_recv_ready(cx))?;
            let mut meta = [RecvMeta::default()];
            let received = half.io.try_io(Interest::READABLE, || {
                let mut slices = [IoSliceMut::new(&mut inner.buffer)];
                half.state.recv((&half.io).into(), &mut slices, &mut meta)
            });
            // Would block, or an ICMP error for an earlier packet: whoever sent that does not decide about
            // this call.
            if received.is_err() {
                continue;
            }
            let local = SocketAddr::new(meta[0].dst_ip.unwrap_or(half.bound.ip()), half.bound.port());
            self.sort(inner, &meta[0], local);
            return Poll::Ready(Ok(()));
        }
        // Something is broken for the moment: let other tasks run before trying again.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn hold(&self, inner: &mut Inner, source: SocketAddr, packet: &[u8]) {
        if inner.held.len() == MAX_HELD {
            inner.held.pop_front();
            self.refused.fetch_add(1, Relaxed);
        }
        inner.held.push_back((Instant::now(), source, packet.to_vec()));
    }

    /// Refuses what has been held long enough.
    fn expire(&self, inner: &mut Inner) {
        while inner.held.front().is_some_and(|(at, ..)| at.elapsed() >= HOLD) {
            inner.held.pop_front();
            self.refused.fetch_add(1, Relaxed);
        }
    }

    fn sort(&self, inner: &mut Inner, meta: &RecvMeta, local: SocketAddr) {
        let buffer = std::mem::take(&mut inner.buffer);
        let source = canonical(meta.addr);
        self.bytes_received.fetch_add(meta.len as u64, Relaxed);
        for packet in buffer[..meta.len.min(buffer.len())].chunks(meta.stride.max(1)) {
            match self.unwrap_relayed(source, packet) {
                Datagram::Other => self.sort_packet(inner, source, local, packet),
                Datagram::Handled => {}
                Datagram::Data(Delivery { local, source, bytes }) => {
                    self.sort_packet(inner, source, local, &bytes)
                }
            }
        }
        inner.buffer = buffer;
    }

    fn sort_packet(&self, inner: &mut Inner, source: SocketAddr, local: SocketAddr, packet: &[u8]) {
        let known = inner.authenticated.contains(&source);
        let on_trial = inner.on_trial().any(|address| address == source);
        if is_stun(packet) || is_couriers(packet) {
            // When the agent is busy the message is lost and will be repeated.
            let _ = self.stun.try_send(StunIn { source, local, bytes: packet.to_vec() });
        } else if known && is_quic(packet) || on_trial && is_short(packet) {
            inner.note(source);
            inner.ready.push_back(packet.to_vec());
        } else if is_quic(packet) {
            self.hold(inner, source, packet);
        } else {
            self.refused.fetch_add(1, Relaxed);
        }
    }
}

impl Inner {
    fn note(&mut self, source: SocketAddr) {
        self.heard.0 = Instant::now();
        self.silent = false;
        self.unanswered.clear();
        match &self.path {
            Path::Relayed { remote, .. } | Path::Direct { remote, .. } if *remote == source => {
                self.heard.1 = self.heard.0;
            }
            Path::Tunnel | Path::Relayed { .. } | Path::Direct { .. } => {}
        }
    }

    /// The addresses on trial; none when the budget is spent.
    fn on_trial(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let left = TRIAL_BUDGET.saturating_sub(self.trial_sent);
        let open = self.trial.iter().filter(|(_, until)| *until > Instant::now());
        open.map(|(address, _)| *address).take(left)
    }

    /// The addresses on trial, for one packet.
    fn take_trial(&mut self) -> Vec<SocketAddr> {
        let addresses: Vec<_> = self.on_trial().collect();
        self.trial_sent += addresses.len();
        addresses
    }
}

/// quinn asks for it; addresses are not for logs.
impl fmt::Debug for MediaSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MediaSocket").field("path", &self.path()).finish_non_exhaustive()
    }
}

impl Half {
    fn bind(ip: IpAddr) -> io::Result<Half> {
        let domain = if ip.is_ipv4() { socket2::Domain::IPV4 } else { socket2::Domain::IPV6 };
        let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, Some(socket2::Protocol::UDP))?;
        if ip.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::new(ip, 0).into())?;
        let socket = std::net::UdpSocket::from(socket);
        let state = UdpSocketState::new((&socket).into())?;
        let io = UdpSocket::from_std(socket)?;
        let bound = io.local_addr()?;
        Ok(Half { io, state, bound })
    }
}

impl AsyncUdpSocket for MediaSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Poller { socket: self, writable: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut inner = self.lock();
        match inner.path.clone() {
            Path::Tunnel => {
                let addresses = inner.take_trial();
                if addresses.is_empty() {
                    self.send_tunnel(&mut inner, transmit.contents);
                }
                drop(inner);
                self.send_on_trial(&addresses, transmit);
                Ok(())
            }
            path @ (Path::Relayed { .. } | Path::Direct { .. }) => {
                if !is_short(transmit.contents) {
                    inner.flight.sent(transmit.contents, Instant::now());
                }
                drop(inner);
                self.send_along(&path, transmit)
            }
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.lock();
        for _ in 0..MAX_BATCHES {
            if let Some(packet) = inner.ready.pop_front() {
                let (Some(buffer), Some(meta)) = (bufs.first_mut(), meta.first_mut()) else {
                    return Poll::Ready(Ok(0));
                };
                let length = packet.len().min(buffer.len());
                buffer[..length].copy_from_slice(&packet[..length]);
                *meta = RecvMeta { addr: PEER, len: length, stride: length, ecn: None, dst_ip: None };
                return Poll::Ready(Ok(1));
            }
            let mut any = false;
            for half in &self.halves {
                match self.poll_half(half, &mut inner, cx) {
                    Poll::Ready(Ok(())) => any = true,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {}
                }
            }
            if !any {
                inner.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Virtual like [`PEER`], and of the same family: on a socket that it takes for an IPv6 one, quinn would look for the
    /// peer at its IPv4-mapped address.
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0))
    }

    /// Switches quinn's search for a larger MTU off: packets stay at 1200 bytes, which every path carries.
    fn may_fragment(&self) -> bool {
        true
    }
}

type Writable = Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>;

/// Waits until the socket of the current path takes packets again.
struct Poller {
    socket: Arc<MediaSocket>,
    writable: Option<Writable>,
}

impl UdpPoller for Poller {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let half = match self.socket.path() {
            Path::Tunnel => return Poll::Ready(Ok(())),
            // A relay's packets are lost rather than waiting.
            Path::Relayed { remote, .. } | Path::Direct { remote, .. } => self.socket.half_for(remote),
        };
        let Some(half) = half else { return Poll::Ready(Ok(())) };
        let socket = self.socket.clone();
        let writable = self
            .writable
            .get_or_insert_with(|| Box::pin(async move { socket.halves[half].io.writable().await }));
        let result = std::task::ready!(writable.as_mut().poll(cx));
        self.writable = None;
        Poll::Ready(result)
    }
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller").finish_non_exhaustive()
    }
}

/// A packet for the other end, wherever that is.
fn transmit_of(packet: &[u8]) -> Transmit<'_> {
    Transmit { destination: PEER, ecn: None, contents: packet, segment_size: None, src_ip: None }
}

/// RFC 9443 section 3: first byte 0 to 3, and the magic cookie (RFC 8489 section 5).
fn is_stun(packet: &[u8]) -> bool {
    packet.len() >= 20 && packet[0] < 4 && packet[4..8] == [0x21, 0x12, 0xa4, 0x42]
}

/// Whether it belongs to a connection whose keys are agreed (RFC 9000 section 17.3).
fn is_short(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first & 0xc0 == 0x40)
}

/// RFC 9443 section 3: 64 to 127 with a short header, 192 to 255 with a long one. 64 to 79 would be TURN
/// channels on a TURN client's socket; ours are told apart by the relay's address.
fn is_quic(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first & 0x40 != 0)
}
