//! One client of a TURN server (RFC 8656): `turn-client-proto` with what a leg needs on top: permissions and channels are
//! asked for when they are needed, and a first packet waits for them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use offhook_proto::relay::{REALM, RelayServer, RelayTransport};
use offhook_proto::wire::canonical;
use stun_types::attribute::{ErrorCode, Nonce, Realm};
use stun_types::message::{Message, MessageWrite, MessageWriteExt, MessageWriteVec};
use turn_client_proto::api::{Transmit, TurnConfig, TurnEvent, TurnPollRet, TurnRecvRet};
use turn_client_proto::client::TurnClient;
use turn_client_proto::prelude::{DelayedTransmitBuild, TurnClientApi};
use turn_client_proto::tcp::TurnClientTcp;
use turn_client_proto::udp::TurnClientUdp;
use turn_types::{AddressFamily, TransportType, TurnCredentials};

/// Peers with which one client exchanges packets: the other end's candidates, and a few addresses that nobody told.
/// Further ones are not reached through the relay.
pub(super) const MAX_PEERS: usize = 40;
/// How long a peer that the relay refuses is not asked for again.
const REFUSED: Duration = Duration::from_secs(10);
/// First retransmission over UDP; RFC 8489 section 6.2.1 starts at 500 ms, which delays a call by so much.
const INITIAL_RTO: Duration = Duration::from_millis(150);
/// What the machine leaves between two requests.
const PACE: Duration = Duration::from_millis(50);
const MAX_RTO: Duration = Duration::from_millis(1_200);
const MAX_REQUESTS: u32 = 7;
/// How long an answer over TCP may take.
const STREAM_PATIENCE: Duration = Duration::from_secs(6);
/// Steps of the machine after one input; it needs three or four.
const MAX_STEPS: usize = 32;

/// A packet that the relay passes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PeerData {
    /// Who sent it, as the relay says.
    pub(super) peer: SocketAddr,
    pub(super) bytes: Vec<u8>,
}

/// Who asks.
pub(super) struct Credentials {
    pub(super) username: String,
    pub(super) password: String,
    /// A nonce that saves the challenge, in the realm of directories.
    pub(super) nonce: Option<String>,
}

enum State {
    /// A permission is asked for; the last packet waits for it.
    Asked(Option<Vec<u8>>),
    Open,
    Refused(Instant),
}

struct Peer {
    address: SocketAddr,
    state: State,
}

/// See the module's documentation. Time goes in, and must not go back; after each input messages may come out.
pub(super) struct Client {
    turn: TurnClient,
    /// The machine counts from here.
    epoch: Instant,
    server: RelayServer,
    relayed: Vec<SocketAddr>,
    peers: Vec<Peer>,
    due: Instant,
    leaving: bool,
    closed: bool,
    known_already: bool,
    heard: Instant,
    messages: VecDeque<Vec<u8>>,
}

impl Client {
    /// Asks for an allocation. `local` is our end's address, of which only equality counts.
    pub(super) fn new(
        server: RelayServer,
        local: SocketAddr,
        credentials: &Credentials,
        now: Instant,
    ) -> Client {
        let Credentials { username, password, nonce } = credentials;
        let mut config = TurnConfig::new(TurnCredentials::new(username, password));
        // Both, so that ends with different families can meet at a relay that has both (RFC 8656 section 7.1).
        config.add_address_family(AddressFamily::IPV6);
        let turn = match server.transport {
            RelayTransport::Udp => {
                // Its clock is put forward by as much, see below.
                let initial = if nonce.is_some() { INITIAL_RTO + PACE } else { INITIAL_RTO };
                config.set_request_retransmits(initial, MAX_RTO, MAX_REQUESTS, MAX_RTO);
                TurnClient::from(TurnClientUdp::allocate(local, server.addr, config))
            }
            RelayTransport::Tcp | RelayTransport::Tls => {
                config.set_request_retransmits(STREAM_PATIENCE, STREAM_PATIENCE, 1, STREAM_PATIENCE);
                TurnClient::from(TurnClientTcp::allocate(local, server.addr, config))
            }
        };
        let mut client = Client {
            turn,
            epoch: now,
            server,
            relayed: Vec::new(),
            peers: Vec::new(),
            due: now,
            leaving: false,
            closed: false,
            known_already: false,
            heard: now,
            messages: VecDeque::new(),
        };
        client.advance(now);
        if let Some(nonce) = nonce {
            client.anticipate_challenge(nonce, now);
        }
        client
    }

    /// The machine's first request is there to be challenged. With a nonce at hand the challenge need not come from afar, and takes
    /// no round trip. If the server thinks otherwise it says so, with a nonce of its own (RFC 8489 section 9.2.4).
    fn anticipate_challenge(&mut self, nonce: &str, now: Instant) {
        let challenge = self.messages.front().and_then(|request| challenge_to(request, nonce));
        if let Some(challenge) = challenge {
            self.messages.clear();
            // It answers the request that has just been made.
            let _ = self.receive(&challenge, now);
            self.heard = now;
            // The machine keeps requests apart, but the first one was never sent: its clock goes on at once.
            let pause = self.due.saturating_duration_since(now).min(PACE);
            self.epoch = self.epoch.checked_sub(pause).unwrap_or(self.epoch);
            self.advance(now);
        }
    }

    /// The addresses that the relay has opened for us, at most one of each family.
    pub(super) fn relayed(&self) -> &[SocketAddr] {
        &self.relayed
    }

    /// When [`Client::advance`] should be called next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        (!self.closed).then_some(self.due)
    }

    /// The next message for the server.
    pub(super) fn poll_message(&mut self) -> Option<Vec<u8>> {
        self.messages.pop_front()
    }

    /// Whether nothing further will come of it.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// When anything came from the server last.
    pub(super) fn silent_since(&self) -> Instant {
        self.heard
    }

    /// Whether the server has refused an allocation because there is one between the same two addresses.
    pub(super) fn is_known_already(&self) -> bool {
        self.known_already
    }

    /// Takes a whole message that came from the server's address or on its connection. `Err` if it is not for us.
    pub(super) fn receive(&mut self, message: &[u8], now: Instant) -> Result<Option<PeerData>, NotOurs> {
        let transmit =
            Transmit::new(message, self.turn.transport(), self.server.addr, self.turn.local_addr());
        let at = self.at(now);
        let data = match self.turn.recv(transmit, at) {
            TurnRecvRet::PeerData(data) => {
                self.heard = now;
                let peer = canonical(data.peer);
                return Ok(Some(PeerData { peer, bytes: data.data().to_vec() }));
            }
            TurnRecvRet::Handled => {
                self.heard = now;
                self.known_already |= is_mismatch(message);
                Ok(None)
            }
            TurnRecvRet::PeerIcmp { .. } => Ok(None),
            TurnRecvRet::Ignored(_) => Err(NotOurs),
        };
        self.advance(now);
        data
    }

    /// The message that carries `bytes` to `peer`. `None` if a permission has to come first, and then they wait for it, or
    /// if the peer can't be reached.
    pub(super) fn send(&mut self, peer: SocketAddr, bytes: &[u8], now: Instant) -> Option<Vec<u8>> {
        self.permit(peer, now);
        let at = self.at(now);
        let known = self.peers.iter_mut().find(|known| known.address == peer)?;
        match &mut known.state {
            State::Open => self
                .turn
                .send_to(TransportType::Udp, peer, bytes, at)
                .ok()
                .flatten()
                .map(|built| built.data.build()),
            State::Asked(waiting) => {
                *waiting = Some(bytes.to_vec());
                None
            }
            State::Refused(_) => None,
        }
    }

    /// Asks the relay to let `peer` in, unless that has been done.
    pub(super) fn permit(&mut self, peer: SocketAddr, now: Instant) {
        if !self.relayed.iter().any(|relayed| relayed.is_ipv4() == peer.is_ipv4()) {
            return;
        }
        self.peers.retain(|known| !matches!(known.state, State::Refused(until) if until <= now));
        if self.peers.len() >= MAX_PEERS || self.peers.iter().any(|known| known.address == peer) {
            return;
        }
        let at = self.at(now);
        // A channel brings a permission with it. After a lapse its number rests for a while; then data go without one.
        let asked = self.turn.bind_channel(TransportType::Udp, peer, at).is_ok()
            || self.turn.create_permission(TransportType::Udp, peer.ip(), at).is_ok();
        let state = match (asked, self.turn.have_permission(TransportType::Udp, peer.ip())) {
            (_, true) => State::Open,
            (true, false) => State::Asked(None),
            (false, false) => State::Refused(now + REFUSED),
        };
        self.peers.push(Peer { address: peer, state });
        self.advance(now);
    }

    /// The other end uses this relay too: lets in whoever has an address there, so that its packets need not wait until its own
    /// address is known and a permission for that has come (permissions are for all ports of an address, RFC 8656 section 9).
    /// For one family, the older one: one way will do.
    pub(super) fn expect_company(&mut self, now: Instant) {
        let at = self.at(now);
        if let Some(relayed) = self.relayed.iter().min_by_key(|relayed| relayed.is_ipv6()) {
            // Fails if it has been asked for already.
            let _ = self.turn.create_permission(TransportType::Udp, relayed.ip(), at);
        }
        self.advance(now);
    }

    /// Gives the addresses back, at once or as soon as there are any. Closed when the server has confirmed it.
    pub(super) fn leave(&mut self, now: Instant) {
        self.leaving = true;
        if !self.relayed.is_empty() {
            self.delete(now);
        }
        self.advance(now);
    }

    fn delete(&mut self, now: Instant) {
        let at = self.at(now);
        // Fails only if there is nothing to be deleted any more.
        self.closed |= self.turn.delete(at).is_err();
    }

    /// Lets time pass.
    pub(super) fn advance(&mut self, now: Instant) {
        let at = self.at(now);
        for _ in 0..MAX_STEPS {
            let polled = self.turn.poll(at);
            let mut idle = true;
            while let Some(transmit) = self.turn.poll_transmit(at) {
                self.messages.push_back(transmit.data.to_vec());
                idle = false;
            }
            while let Some(event) = self.turn.poll_event() {
                self.on_event(event, now);
                idle = false;
            }
            match polled {
                TurnPollRet::Closed => {
                    self.closed = true;
                    return;
                }
                TurnPollRet::WaitUntil(until) => {
                    self.due = now + until.saturating_duration_since(at);
                    if idle && until > at {
                        return;
                    }
                }
                // For allocations of TCP addresses, which we never ask for.
                TurnPollRet::AllocateTcpSocket { .. } | TurnPollRet::TcpClose { .. } => {}
            }
        }
        self.due = self.due.max(now + INITIAL_RTO);
    }

    fn on_event(&mut self, event: TurnEvent, now: Instant) {
        match event {
            TurnEvent::AllocationCreated(_, relayed) => {
                self.relayed.push(canonical(relayed));
                if self.leaving {
                    self.delete(now);
                }
            }
            TurnEvent::PermissionCreated(_, ip) => self.open(|peer| peer.ip() == ip, now),
            // While a permission is asked for by itself a channel does not bring one.
            TurnEvent::ChannelCreated(_, address) => {
                if self.turn.have_permission(TransportType::Udp, address.ip()) {
                    self.open(|peer| *peer == address, now);
                }
            }
            TurnEvent::PermissionCreateFailed(_, ip) => self.refuse(|peer| peer.ip() == ip, now),
            // Without a channel data take a longer form.
            TurnEvent::ChannelCreateFailed(_, address)
                if self.turn.have_permission(TransportType::Udp, address.ip()) => {}
            TurnEvent::ChannelCreateFailed(_, address) => self.refuse(|peer| *peer == address, now),
            // The machine closes itself if no family is left.
            TurnEvent::AllocationCreateFailed(_)
            | TurnEvent::TcpConnected(_)
            | TurnEvent::TcpConnectFailed(_) => {}
        }
    }

    fn open(&mut self, which: impl Fn(&SocketAddr) -> bool, now: Instant) {
        let at = self.at(now);
        for peer in self.peers.iter_mut().filter(|peer| which(&peer.address)) {
            if let State::Asked(waiting) = std::mem::replace(&mut peer.state, State::Open)
                && let Some(bytes) = waiting
                && let Ok(Some(built)) = self.turn.send_to(TransportType::Udp, peer.address, &bytes[..], at)
            {
                self.messages.push_back(built.data.build());
            }
        }
    }

    /// The relay does not let these in. One that was open before has lapsed and is asked for again with the next packet.
    fn refuse(&mut self, which: impl Fn(&SocketAddr) -> bool, now: Instant) {
        self.peers.retain(|peer| !(which(&peer.address) && matches!(peer.state, State::Open)));
        for peer in self.peers.iter_mut().filter(|peer| which(&peer.address)) {
            peer.state = State::Refused(now + REFUSED);
        }
    }

    /// `now` on the machine's clock.
    fn at(&self, now: Instant) -> turn_types::Instant {
        let passed = now.saturating_duration_since(self.epoch).as_nanos();
        turn_types::Instant::from_nanos(i64::try_from(passed).unwrap_or(i64::MAX / 2))
    }
}

/// Whether it is an error 437, Allocation Mismatch (RFC 8656 section 7.2).
fn is_mismatch(message: &[u8]) -> bool {
    let error = Message::from_bytes(message).and_then(|message| message.attribute::<ErrorCode>());
    error.is_ok_and(|error| error.code() == ErrorCode::ALLOCATION_MISMATCH)
}

/// The server's answer to a request without credentials (RFC 8489 section 9.2.4). None if the nonce could not be one.
fn challenge_to(request: &[u8], nonce: &str) -> Option<Vec<u8>> {
    let request = Message::from_bytes(request).ok()?;
    let mut challenge = Message::builder_error(&request, MessageWriteVec::new());
    let code = ErrorCode::builder(ErrorCode::UNAUTHORIZED).build().ok()?;
    challenge.add_attribute(&code).ok()?;
    challenge.add_attribute(&Realm::new(REALM).ok()?).ok()?;
    challenge.add_attribute(&Nonce::new(nonce).ok()?).ok()?;
    Some(challenge.finish())
}

/// A message is not for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotOurs;
