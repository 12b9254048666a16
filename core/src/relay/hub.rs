//! What all clients of the relay share, and how packets get from one side to the other.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use offhook_proto::relay::REALM;
use stun_types::message::{BINDING, Message, MessageClass};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use turn_server_proto::api::SocketAllocateError;
use turn_types::AddressFamily;

use super::courier::Courier;
use super::gate::{Gate, User};
use super::metrics::RelayMetrics;
use super::policy::{PeerRefusal, Policy};
use super::quota::{Bucket, Claim, Counts, Full, Quotas, RelayQuotas};
use super::request::{Ask, No};
use super::session::{Session, ToPeer};
use crate::clock::wall_clock;
use crate::net::{Host, Limiter, Source, stun};

/// Longest datagram relayed, bytes. Beyond it come only fragments.
pub(super) const MAX_DATAGRAM: usize = 4_096;

/// Ports that are tried for a relayed address before there is said to be none.
const TRIES: usize = 32;

/// A user who has sent something through an allocation, and nothing for so long, has left it behind if he asks for another. One
/// with a call sends voice 50 times a second, one that rings a check each second.
const LEFT: Duration = Duration::from_millis(1_500);

/// Where the relay's answers to a client go.
#[derive(Clone)]
pub(super) enum Outlet {
    /// The listening socket, and where the client is from there.
    Udp(Arc<UdpSocket>, SocketAddr),
    /// A connection. What does not fit its queue is dropped: it would be too late for a voice anyway.
    Stream(mpsc::Sender<Bytes>),
}

impl Outlet {
    /// Sends without waiting.
    pub(super) fn send(&self, datagram: Bytes) {
        match self {
            // A full socket buffer loses it, as any router may.
            Self::Udp(socket, to) => drop(socket.try_send_to(&datagram, *to)),
            Self::Stream(queue) => drop(queue.try_send(datagram)),
        }
    }

    fn send_relayed(&self, datagram: &[u8]) {
        match self {
            Self::Udp(socket, to) => drop(socket.try_send_to(datagram, *to)),
            Self::Stream(queue) => drop(queue.try_send(Bytes::copy_from_slice(datagram))),
        }
    }
}

/// Who sent something, and how to answer.
pub(super) struct From {
    /// The client's address, an IPv4 one as such.
    pub(super) addr: SocketAddr,
    /// The relay's address that he uses, if it is known.
    pub(super) local: Option<IpAddr>,
    pub(super) outlet: Outlet,
}

/// A client with an allocation.
pub(super) struct Client {
    session: Mutex<Session>,
    sockets: Mutex<Vec<Socket>>,
    outlet: Outlet,
    claim: Claim,
    /// Cancelled when it has no relayed address any more.
    over: CancellationToken,
}

/// A relayed address.
struct Socket {
    addr: SocketAddr,
    socket: Arc<UdpSocket>,
    closed: CancellationToken,
}

impl Client {
    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sockets(&self) -> MutexGuard<'_, Vec<Socket>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it has no relayed address any more.
    pub(super) fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    /// Waits until it has none any more.
    pub(super) async fn over(&self) {
        self.over.cancelled().await;
    }
}

/// See the [module](self).
pub(super) struct Hub {
    gate: Gate,
    courier: Mutex<Courier>,
    pub(super) policy: Policy,
    pub(super) quotas: RelayQuotas,
    pub(super) metrics: RelayMetrics,
    relayed_ips: Vec<IpAddr>,
    ports: (u16, u16),
    used: Mutex<Quotas>,
    connections: Mutex<(usize, Counts<Source>)>,
    rate: Mutex<Bucket>,
    answers: Mutex<Limiter<Host>>,
    relayed: RwLock<HashMap<SocketAddr, Arc<Client>>>,
    /// Ends everything.
    pub(super) stop: CancellationToken,
}

/// What a [`Hub`] is made of.
pub(super) struct Parts {
    pub(super) gate: Gate,
    pub(super) courier: Courier,
    pub(super) policy: Policy,
    pub(super) quotas: RelayQuotas,
    pub(super) relayed_ips: Vec<IpAddr>,
    pub(super) ports: (u16, u16),
}

impl Hub {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { gate, courier, policy, quotas, relayed_ips, ports } = parts;
        let rate = Bucket::new(quotas.total_bits, Instant::now());
        Self {
            gate,
            courier: Mutex::new(courier),
            policy,
            metrics: RelayMetrics::default(),
            relayed_ips,
            ports,
            used: Mutex::default(),
            connections: Mutex::default(),
            rate: Mutex::new(rate),
            answers: Mutex::new(Limiter::new(quotas.answers_per_host)),
            relayed: RwLock::default(),
            stop: CancellationToken::new(),
            quotas,
        }
    }

    /// A request or an indication. Gives the client that comes to be with it; `client` is who has an allocation there already.
    pub(super) fn on_message(
        self: &Arc<Self>,
        bytes: &[u8],
        from: &From,
        client: Option<&Arc<Client>>,
    ) -> Option<Arc<Client>> {
        let Ok(message) = Message::from_bytes(bytes) else {
            self.metrics.dropped("malformed");
            return None;
        };
        match message.class() {
            MessageClass::Request if message.method() == BINDING => self.on_binding(bytes, from),
            MessageClass::Request => return self.on_request(&message, from, client),
            MessageClass::Indication => client.into_iter().for_each(|client| self.on_data(client, bytes)),
            MessageClass::Success | MessageClass::Error => self.metrics.dropped("malformed"),
        }
        None
    }

    /// A packet for the courier.
    pub(super) fn on_courier(&self, packet: &[u8], from: SocketAddr, socket: &UdpSocket) {
        let mut courier = self.courier.lock().unwrap_or_else(PoisonError::into_inner);
        match courier.on_packet(packet, from, Instant::now(), wall_clock()) {
            Ok(outcome) => {
                self.metrics.couriered.inc();
                for parcel in [outcome.answer, outcome.passed].into_iter().flatten() {
                    // A full socket buffer loses it, as any router may.
                    let _ = socket.try_send_to(&parcel.packet, parcel.to);
                }
            }
            Err(ignored) => self.metrics.dropped(ignored.name()),
        }
    }

    fn on_binding(&self, bytes: &[u8], from: &From) {
        let answer = if self.may_answer(from) { stun::answer(bytes, from.addr) } else { None };
        match answer {
            Some(answer) => {
                self.metrics.bindings.inc();
                from.outlet.send(answer.into());
            }
            None => self.metrics.dropped("limited"),
        }
    }

    fn on_request(
        self: &Arc<Self>,
        message: &Message<'_>,
        from: &From,
        client: Option<&Arc<Client>>,
    ) -> Option<Arc<Client>> {
        let now = wall_clock();
        let admitted = match client {
            Some(client) => self.gate.admit(message, Some(client.session().known()), now),
            None => self.gate.admit(message, None, now),
        };
        let user = match admitted {
            Ok(user) => user,
            Err(no) => {
                if self.may_answer(from) {
                    let nonce = self.gate.nonce(now);
                    let challenge = (no != No::Malformed).then_some((REALM, &nonce[..]));
                    self.refuse(&no, no.answer(message, challenge, None), from);
                } else {
                    self.metrics.dropped("limited");
                }
                return None;
            }
        };
        match self.fulfil(message, &user, from, client) {
            Ok((answer, new)) => {
                from.outlet.send(answer.into());
                new
            }
            Err(no) => {
                self.refuse(&no, no.answer(message, None, Some(&user.key)), from);
                None
            }
        }
    }

    fn refuse(&self, no: &No, answer: Vec<u8>, from: &From) {
        self.metrics.refused(no.name());
        from.outlet.send(answer.into());
    }

    /// Whether somebody unknown gets an answer.
    fn may_answer(&self, from: &From) -> bool {
        self.answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .permit(Host::of(from.addr.ip()), Instant::now())
    }

    /// Does what an admitted request asks.
    fn fulfil(
        self: &Arc<Self>,
        message: &Message<'_>,
        user: &User,
        from: &From,
        client: Option<&Arc<Client>>,
    ) -> Result<(Vec<u8>, Option<Arc<Client>>), No> {
        let ask = Ask::read(message)?;
        self.check_peers(&ask)?;
        let id = message.transaction_id();
        match client {
            Some(client) => {
                let mut session = client.session();
                if session.known().0.name != user.name {
                    return Err(No::WrongUser);
                }
                let nothing = &mut |_| Err(SocketAllocateError::InsufficientCapacity);
                let answer = session.request(&ask, id, nothing, Instant::now())?;
                drop(session);
                self.tick(client);
                Ok((answer, None))
            }
            None => self.allocate(&ask, id, user, from).map(|(answer, client)| (answer, Some(client))),
        }
    }

    /// The policy on what a request names.
    fn check_peers(&self, ask: &Ask) -> Result<(), No> {
        let refusal = match ask {
            Ask::Allocate { .. } | Ask::Refresh { .. } => Ok(()),
            Ask::Permit { peers } => {
                peers.iter().try_for_each(|peer| self.policy.check_permission(peer.ip()))
            }
            Ask::Bind { peer, .. } => self.check_peer(*peer),
        };
        refusal.map_err(|_| No::Forbidden)
    }

    fn check_peer(&self, peer: SocketAddr) -> Result<(), PeerRefusal> {
        self.policy.check(peer, |peer| self.client_at(peer).is_some())
    }

    fn allocate(
        self: &Arc<Self>,
        ask: &Ask,
        id: stun_types::message::TransactionId,
        user: &User,
        from: &From,
    ) -> Result<(Vec<u8>, Arc<Client>), No> {
        if !matches!(ask, Ask::Allocate { .. }) {
            return Err(No::Mismatch);
        }
        let claim = Claim { class: user.class, terminal: user.terminal, source: Source::of(from.addr.ip()) };
        self.enter(claim)?;
        let now = Instant::now();
        let mut session = Session::new(user.clone(), from.addr, &self.quotas, now);
        let mut sockets = Vec::new();
        let open = &mut |family| self.open(family, from.local, &mut sockets);
        let answer = session.request(ask, id, open, now);
        let answer = match answer {
            Ok(answer) if !sockets.is_empty() && !session.relayed().is_empty() => answer,
            other => {
                self.used().leave(claim);
                return Err(other.err().unwrap_or_else(|| self.lacking(ask)));
            }
        };
        let client = Client {
            session: Mutex::new(session),
            sockets: Mutex::new(sockets),
            outlet: from.outlet.clone(),
            claim,
            over: CancellationToken::new(),
        };
        let client = Arc::new(client);
        self.begin(&client);
        Ok((answer, client))
    }

    /// Counts an allocation. A user who has as many as he may, and has moved, gets another for one that he has left behind.
    fn enter(&self, claim: Claim) -> Result<(), No> {
        let mut entered = self.used().enter(claim, &self.quotas);
        if entered == Err(Full::User)
            && let Some(left) = self.left_behind(claim)
        {
            self.leave(&left);
            entered = self.used().enter(claim, &self.quotas);
        }
        entered.map_err(|full| match full {
            Full::User | Full::Source => No::Quota,
            Full::Total => No::Capacity,
        })
    }

    /// The user's client that has been silent longest, if that is long for one with a call.
    fn left_behind(&self, claim: Claim) -> Option<Arc<Client>> {
        let now = Instant::now();
        let relayed = self.relayed.read().unwrap_or_else(PoisonError::into_inner);
        let his = |client: &&Arc<Client>| {
            (client.claim.class, client.claim.terminal) == (claim.class, claim.terminal)
        };
        let silent = relayed.values().filter(his);
        let silent = silent.filter_map(|client| Some((client.session().silent_for(now)?, client)));
        let (silence, client) = silent.max_by_key(|(silence, _)| *silence)?;
        (silence >= LEFT).then(|| client.clone())
    }

    /// Why there is no address of the family asked for.
    fn lacking(&self, ask: &Ask) -> No {
        let six = matches!(ask, Ask::Allocate { family: Some(AddressFamily::IPV6), .. });
        let has = self.relayed_ips.iter().any(|ip| ip.is_ipv6() == six);
        if has { No::Capacity } else { No::Family }
    }

    /// A socket for a relayed address.
    fn open(
        &self,
        family: AddressFamily,
        local: Option<IpAddr>,
        sockets: &mut Vec<Socket>,
    ) -> Result<SocketAddr, SocketAllocateError> {
        let fits = |ip: &&IpAddr| ip.is_ipv4() == (family == AddressFamily::IPV4);
        let mut ips = self.relayed_ips.iter().filter(fits);
        let same = ips.clone().find(|ip| Some(**ip) == local);
        let ip = *same.or_else(|| ips.next()).ok_or(SocketAllocateError::AddressFamilyNotSupported)?;
        let opened = (0..TRIES).find_map(|_| bind(ip, rand::random_range(self.ports.0..=self.ports.1)).ok());
        let (socket, port) = opened.ok_or(SocketAllocateError::InsufficientCapacity)?;
        let addr = SocketAddr::new(ip, port);
        sockets.push(Socket { addr, socket: Arc::new(socket), closed: self.stop.child_token() });
        Ok(addr)
    }

    /// Starts what waits for the peers' packets and for the end.
    fn begin(self: &Arc<Self>, client: &Arc<Client>) {
        self.metrics.allocated(client.claim.class);
        for Socket { addr, socket, closed } in client.sockets().iter() {
            self.relayed.write().unwrap_or_else(PoisonError::into_inner).insert(*addr, client.clone());
            let (hub, client) = (self.clone(), client.clone());
            tokio::spawn(serve(hub, client, *addr, socket.clone(), closed.clone()));
        }
    }

    /// A datagram of a client's that is no request: data for a peer.
    pub(super) fn on_data(&self, client: &Arc<Client>, datagram: &[u8]) {
        let now = Instant::now();
        let sent = client.session().relay_out(datagram, now);
        let Some(ToPeer { relayed, peer, data }) = sent else { return self.metrics.dropped("no_way") };
        if self.check_peer(peer).is_err() {
            return self.metrics.dropped("forbidden_peer");
        }
        if !self.may_pass(data.len(), now) {
            return self.metrics.dropped("total_rate");
        }
        // Both ends of a call may use this relay: then the packet need not go round through the system.
        if let Some(other) = self.client_at(&peer) {
            self.metrics.relayed(data.len());
            return self.deliver(&other, peer, relayed, data, now);
        }
        let socket =
            client.sockets().iter().find(|socket| socket.addr == relayed).map(|found| found.socket.clone());
        if socket.is_some_and(|socket| socket.try_send_to(data, peer).is_ok()) {
            self.metrics.relayed(data.len());
        }
    }

    /// A packet of a peer's.
    fn on_peer(&self, client: &Client, relayed: SocketAddr, peer: SocketAddr, data: &[u8]) {
        let now = Instant::now();
        if self.check_peer(peer).is_err() {
            return self.metrics.dropped("forbidden_peer");
        }
        if !self.may_pass(data.len(), now) {
            return self.metrics.dropped("total_rate");
        }
        self.metrics.relayed(data.len());
        self.deliver(client, relayed, peer, data, now);
    }

    fn deliver(&self, client: &Client, relayed: SocketAddr, peer: SocketAddr, data: &[u8], now: Instant) {
        OUT.with_borrow_mut(|out| {
            if client.session().relay_in(relayed, peer, data, now, out) {
                client.outlet.send_relayed(out);
            } else {
                self.metrics.dropped("no_permission");
            }
        });
    }

    fn may_pass(&self, bytes: usize, now: Instant) -> bool {
        self.rate.lock().unwrap_or_else(PoisonError::into_inner).take(bytes, now)
    }

    fn client_at(&self, relayed: &SocketAddr) -> Option<Arc<Client>> {
        self.relayed.read().unwrap_or_else(PoisonError::into_inner).get(relayed).cloned()
    }

    /// Lets time pass for a client; says when to come again.
    fn tick(&self, client: &Client) -> Instant {
        let (closed, next) = client.session().tick(Instant::now());
        self.close(client, |addr| closed.contains(addr));
        next
    }

    /// Ends a client's allocation, whose connection has ended.
    pub(super) fn leave(&self, client: &Client) {
        self.close(client, |_| true);
    }

    fn close(&self, client: &Client, which: impl Fn(&SocketAddr) -> bool) {
        let mut sockets = client.sockets();
        let before = sockets.len();
        for socket in sockets.extract_if(.., |socket| which(&socket.addr)) {
            socket.closed.cancel();
            self.relayed.write().unwrap_or_else(PoisonError::into_inner).remove(&socket.addr);
        }
        if before > 0 && sockets.is_empty() {
            client.over.cancel();
            self.used().leave(client.claim);
            self.metrics.ended(client.claim.class);
        }
    }

    fn used(&self) -> MutexGuard<'_, Quotas> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection from an address, if there may be one more.
    pub(super) fn connect(self: &Arc<Self>, ip: IpAddr) -> Option<Connection> {
        let source = Source::of(ip);
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let (total, sources) = &mut *connections;
        if *total >= self.quotas.connections || sources.of(&source) >= self.quotas.connections_per_source {
            self.metrics.dropped("connections");
            return None;
        }
        *total += 1;
        sources.add(source);
        Some(Connection { hub: self.clone(), source })
    }
}

/// A connection that is counted.
pub(super) struct Connection {
    hub: Arc<Hub>,
    source: Source,
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut connections = self.hub.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.0 -= 1;
        connections.1.remove(&self.source);
    }
}

thread_local! {
    /// Where packets for clients are put together.
    static OUT: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// Serves one relayed address until it is closed.
async fn serve(
    hub: Arc<Hub>,
    client: Arc<Client>,
    relayed: SocketAddr,
    socket: Arc<UdpSocket>,
    closed: CancellationToken,
) {
    let mut buffer = vec![0; MAX_DATAGRAM + 1];
    let mut next = hub.tick(&client);
    loop {
        tokio::select! {
            () = closed.cancelled() => return hub.leave_at_stop(&client),
            () = tokio::time::sleep_until(next.into()) => next = hub.tick(&client),
            received = socket.recv_from(&mut buffer) => match received {
                Ok((length, peer)) if length <= MAX_DATAGRAM => hub.on_peer(&client, relayed, peer, &buffer[..length]),
                Ok(_) => hub.metrics.dropped("too_long"),
                // What ICMP says of earlier packets appears here.
                Err(_) => hub.metrics.dropped("socket"),
            },
        }
    }
}

impl Hub {
    /// Everything ends: nothing of the client is to stay.
    fn leave_at_stop(&self, client: &Client) {
        if self.stop.is_cancelled() {
            self.leave(client);
        }
    }
}

/// A socket on an address, or if it is one that the host is only known by outside, on any of its addresses.
fn bind(ip: IpAddr, port: u16) -> std::io::Result<(UdpSocket, u16)> {
    let any = match ip {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let foreign = |error: &std::io::Error| error.kind() == std::io::ErrorKind::AddrNotAvailable;
    let socket = match stun::open(SocketAddr::new(ip, port), false) {
        Err(error) if foreign(&error) => stun::open(SocketAddr::new(any, port), false)?,
        other => other?,
    };
    let port = socket.local_addr()?.port();
    Ok((socket, port))
}
