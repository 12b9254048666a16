//! The internet of a lab: one thread that carries IPv4 and IPv6 packets between TUN devices.
//!
//! Every access link is a TUN device in the namespace of a host or router. A packet that the kernel sends there
//! passes the sender's uplink, is routed by its destination address, passes the receiver's downlink and is
//! written to the receiver's device. There is no other way between namespaces, so counters see everything.

use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use super::LabError;
use super::link::{Channel, Fate, Impairment};
use super::sys;

/// What passed one direction of an access link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets that entered.
    pub packets: u64,
    /// Their bytes, IP headers included.
    pub bytes: u64,
    /// Packets lost by chance or in an outage.
    pub lost: u64,
    /// Packets dropped because the backlog was full.
    pub queue_full: u64,
}

/// Both directions of an access link, seen from its host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// From the host into the internet.
    pub up: Counters,
    /// From the internet to the host.
    pub down: Counters,
}

impl LinkCounters {
    /// Bytes in both directions together.
    pub fn bytes(&self) -> u64 {
        self.up.bytes + self.down.bytes
    }

    /// What was added since an earlier reading.
    pub fn since(&self, earlier: &Self) -> Self {
        let less = |now: Counters, then: Counters| Counters {
            packets: now.packets - then.packets,
            bytes: now.bytes - then.bytes,
            lost: now.lost - then.lost,
            queue_full: now.queue_full - then.queue_full,
        };
        Self { up: less(self.up, earlier.up), down: less(self.down, earlier.down) }
    }
}

/// Index of an access link.
pub(super) type PortId = usize;

/// UDP datagrams of an overheard flow that are kept: the newest.
const OVERHEARD: usize = 256;

/// The thread and what it shares with the lab.
#[derive(Debug)]
pub(super) struct Cloud {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: OwnedFd,
}

#[derive(Debug, Default)]
struct State {
    ports: Vec<Port>,
    routes: Vec<(IpAddr, u8, PortId)>,
    queue: BinaryHeap<Event>,
    next_seq: u64,
    flows: HashMap<(IpAddr, IpAddr), u64>,
    overheard: HashMap<(IpAddr, IpAddr), VecDeque<Vec<u8>>>,
    unroutable: u64,
    seed: u64,
    stop: bool,
}

#[derive(Debug)]
struct Port {
    device: OwnedFd,
    up: Direction,
    down: Direction,
    /// How many outages go on.
    cuts: u32,
}

#[derive(Debug)]
struct Direction {
    impairment: Impairment,
    channel: Channel,
    counters: Counters,
}

#[derive(Debug, PartialEq, Eq)]
struct Event {
    at: Instant,
    seq: u64,
    stage: Stage,
    packet: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Has passed its sender's uplink; to be routed.
    Core,
    /// Has passed its receiver's downlink; to be written.
    Deliver(PortId),
}

impl Ord for Event {
    /// Reversed: the heap's greatest is the earliest.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.seq).cmp(&(self.at, self.seq))
    }
}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Cloud {
    pub(super) fn start(name: &str, seed: u64) -> Result<Self, LabError> {
        let state = Mutex::new(State { seed, ..State::default() });
        let shared = Arc::new(Shared { state, wake: sys::event_fd().map_err(LabError::Io)? });
        let thread = std::thread::Builder::new()
            .name(format!("cloud-{name}"))
            .spawn({
                let shared = Arc::clone(&shared);
                move || shared.run()
            })
            .map_err(LabError::Io)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Adds an access link; packets to `prefix`/`bits` are delivered to it.
    pub(super) fn attach(&self, device: OwnedFd, impairment: &Impairment) -> PortId {
        let mut state = self.shared.lock();
        let id = state.ports.len();
        let seed = state.seed.wrapping_add(id as u64 * 2);
        let direction = |seed| Direction {
            impairment: impairment.clone(),
            channel: Channel::new(seed),
            counters: Counters::default(),
        };
        state.ports.push(Port { device, up: direction(seed), down: direction(seed + 1), cuts: 0 });
        drop(state);
        self.shared.wake();
        id
    }

    pub(super) fn route(&self, prefix: IpAddr, bits: u8, port: PortId) {
        let mut state = self.shared.lock();
        state.routes.retain(|(known, known_bits, _)| (*known, *known_bits) != (prefix, bits));
        state.routes.push((prefix, bits, port));
    }

    /// From now on packets to the prefix are nobody's.
    pub(super) fn unroute(&self, prefix: IpAddr, bits: u8) {
        self.shared.lock().routes.retain(|(known, known_bits, _)| (*known, *known_bits) != (prefix, bits));
    }

    /// Begins or ends an outage of an access link; it carries again when all have ended.
    pub(super) fn cut(&self, port: PortId, begins: bool) {
        if let Some(port) = self.shared.lock().ports.get_mut(port) {
            port.cuts = if begins { port.cuts + 1 } else { port.cuts.saturating_sub(1) };
        }
    }

    pub(super) fn impair(&self, port: PortId, up: Option<&Impairment>, down: Option<&Impairment>) {
        let mut state = self.shared.lock();
        if let Some(port) = state.ports.get_mut(port) {
            if let Some(up) = up {
                port.up.impairment = up.clone();
            }
            if let Some(down) = down {
                port.down.impairment = down.clone();
            }
        }
    }

    pub(super) fn counters(&self, port: PortId) -> LinkCounters {
        let state = self.shared.lock();
        state.ports.get(port).map_or_else(LinkCounters::default, |port| LinkCounters {
            up: port.up.counters,
            down: port.down.counters,
        })
    }

    /// Bytes that were sent from one public address to another, IP headers included.
    pub(super) fn flow(&self, from: IpAddr, to: IpAddr) -> u64 {
        self.shared.lock().flows.get(&(from, to)).copied().unwrap_or(0)
    }

    /// Keeps what is sent from one public address to another from now on.
    pub(super) fn overhear(&self, from: IpAddr, to: IpAddr) {
        self.shared.lock().overheard.entry((from, to)).or_default();
    }

    /// The payloads of the UDP datagrams that were overheard.
    pub(super) fn overheard(&self, from: IpAddr, to: IpAddr) -> Vec<Vec<u8>> {
        self.shared.lock().overheard.get(&(from, to)).into_iter().flatten().cloned().collect()
    }

    pub(super) fn unroutable(&self) -> u64 {
        self.shared.lock().unroutable
    }

    /// Puts a packet into the core as if it came from nowhere in particular.
    pub(super) fn inject(&self, packet: Vec<u8>) {
        self.shared.lock().push(Instant::now(), Stage::Core, packet);
        self.shared.wake();
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed when it happened.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        sys::write_packet(self.wake.as_fd(), &1u64.to_ne_bytes());
    }

    fn run(&self) {
        sys::prefer_this_thread();
        let mut buffer = vec![0u8; 65_536];
        let mut fds = vec![sys::poll_input(self.wake.as_raw_fd())];
        let mut due = None;
        loop {
            sys::wait_readable(
                &mut fds,
                due.map(|due: Instant| due.saturating_duration_since(Instant::now())),
            );
            if fds[0].revents != 0 {
                sys::read_packet(self.wake.as_fd(), &mut buffer);
            }
            let mut state = self.lock();
            if state.stop {
                return;
            }
            for (port, fd) in fds.iter_mut().skip(1).enumerate() {
                if fd.revents & libc::POLLIN != 0 {
                    state.read_all(port, &mut buffer);
                } else if fd.revents != 0 {
                    // The device is gone, with its namespace: poll is to pass it over.
                    fd.fd = -1;
                }
            }
            due = state.carry(Instant::now());
            let missing = state.ports.iter().skip(fds.len() - 1);
            fds.extend(missing.map(|port| sys::poll_input(port.device.as_raw_fd())));
        }
    }
}

impl State {
    /// Takes what a host has sent into its uplink. Bounded, so that one flooding host can't starve the others.
    fn read_all(&mut self, id: PortId, buffer: &mut [u8]) {
        for _ in 0..256 {
            let Some(port) = self.ports.get_mut(id) else { return };
            let Some(len) = sys::read_packet(port.device.as_fd(), buffer) else { return };
            let now = Instant::now();
            let fate = port.up.offer(now, len, port.cuts > 0);
            self.push_fate(fate, Stage::Core, &buffer[..len]);
        }
    }

    /// Moves every packet whose time has come; answers when the next one is due.
    fn carry(&mut self, now: Instant) -> Option<Instant> {
        while self.queue.peek().is_some_and(|event| event.at <= now) {
            let Some(event) = self.queue.pop() else { break };
            match event.stage {
                Stage::Core => self.forward(event.at, &event.packet),
                Stage::Deliver(id) => {
                    if let Some(port) = self.ports.get(id) {
                        sys::write_packet(port.device.as_fd(), &event.packet);
                    }
                }
            }
        }
        self.queue.peek().map(|event| event.at)
    }

    fn forward(&mut self, at: Instant, packet: &[u8]) {
        let Some((from, to)) = endpoints(packet) else { return };
        // Neighbours are looked for on every device; here there are none.
        if to.is_multicast() {
            return;
        }
        let Some(id) = self.port_of(to) else {
            self.unroutable += 1;
            return;
        };
        *self.flows.entry((from, to)).or_default() += packet.len() as u64;
        if let Some(overheard) = self.overheard.get_mut(&(from, to))
            && let Some(payload) = udp_payload(packet)
        {
            overheard.truncate(OVERHEARD - 1);
            overheard.push_front(payload.to_vec());
        }
        let Some(port) = self.ports.get_mut(id) else { return };
        let fate = port.down.offer(at, packet.len(), port.cuts > 0);
        self.push_fate(fate, Stage::Deliver(id), packet);
    }

    fn push_fate(&mut self, fate: Fate, stage: Stage, packet: &[u8]) {
        match fate {
            Fate::Lost | Fate::QueueFull => {}
            Fate::Delivered { at, copy } => {
                self.push(at, stage, packet.to_vec());
                if let Some(at) = copy {
                    self.push(at, stage, packet.to_vec());
                }
            }
        }
    }

    fn push(&mut self, at: Instant, stage: Stage, packet: Vec<u8>) {
        self.next_seq += 1;
        self.queue.push(Event { at, seq: self.next_seq, stage, packet });
    }

    fn port_of(&self, address: IpAddr) -> Option<PortId> {
        let fitting = self.routes.iter().filter(|(prefix, bits, _)| covers(*prefix, *bits, address));
        fitting.max_by_key(|(_, bits, _)| *bits).map(|(_, _, port)| *port)
    }
}

/// Whether an address lies within a prefix.
fn covers(prefix: IpAddr, bits: u8, address: IpAddr) -> bool {
    match (prefix, address) {
        (IpAddr::V4(prefix), IpAddr::V4(address)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            (u32::from(prefix) ^ u32::from(address)) & mask == 0
        }
        (IpAddr::V6(prefix), IpAddr::V6(address)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            (u128::from(prefix) ^ u128::from(address)) & mask == 0
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

impl Direction {
    fn offer(&mut self, at: Instant, len: usize, is_cut: bool) -> Fate {
        self.counters.packets += 1;
        self.counters.bytes += len as u64;
        let fate = if is_cut { Fate::Lost } else { self.channel.offer(at, len, &self.impairment) };
        match fate {
            Fate::Lost => self.counters.lost += 1,
            Fate::QueueFull => self.counters.queue_full += 1,
            Fate::Delivered { .. } => {}
        }
        fate
    }
}

/// Source and destination of an IP packet; nothing for anything else.
fn endpoints(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match packet.first()? >> 4 {
        4 => {
            let header = packet.first_chunk::<20>()?;
            let address =
                |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
            Some((address(12).into(), address(16).into()))
        }
        6 => {
            let address = |at: usize| Some(Ipv6Addr::from(*packet.get(at..)?.first_chunk::<16>()?));
            Some((address(8)?.into(), address(24)?.into()))
        }
        _ => None,
    }
}

/// What a UDP datagram without IP options, extension headers or fragments carries.
fn udp_payload(packet: &[u8]) -> Option<&[u8]> {
    match (packet.first()?, packet.get(9)?, packet.get(6)?) {
        (0x45, 17, _) => packet.get(28..),
        (first, _, 17) if first >> 4 == 6 => packet.get(48..),
        _ => None,
    }
}

/// An IPv4 packet with a UDP datagram in it, for tests that forge a sender (RFC 791, RFC 768; UDP checksum 0
/// means that none was computed).
pub(super) fn udp_packet(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let total = (28 + payload.len()) as u16;
    let mut packet = Vec::with_capacity(usize::from(total));
    packet.extend([0x45, 0]);
    packet.extend(total.to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    packet.extend(from.ip().octets());
    packet.extend(to.ip().octets());
    let sum: u32 = packet.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(from.port().to_be_bytes());
    packet.extend(to.port().to_be_bytes());
    packet.extend((8 + payload.len() as u16).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}
