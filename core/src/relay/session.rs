//! One client's allocation: the state machine of RFC 8656, and what the relay permits beyond it. Pure.
//!
//! What the machine does not bound is bounded here: permissions and channels, their peers, the rate, the life without a
//! packet. Requests have been [admitted](super::gate) and [read](super::request) before; the machine is given them anew.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use offhook_proto::relay::REALM;
use stun_types::TransportType;
use stun_types::attribute::Nonce;
use stun_types::message::{Message, MessageClass, MessageWrite, MessageWriteVec, TransactionId};
use stun_types::prelude::MessageWriteExt;
use turn_server_proto::api::{
    DelayedMessageOrChannelSend, SocketAllocateError, Transmit, TurnServerApi, TurnServerPollRet,
};
use turn_server_proto::server::TurnServer;
use turn_types::AddressFamily;
use turn_types::attribute::{Data, XorPeerAddress};
use turn_types::message::{ALLOCATE, DATA};
use turn_types::prelude::DelayedTransmitBuild;

use super::gate::User;
use super::quota::{Bucket, RelayQuotas};
use super::request::{Ask, No};

/// Addresses with which one allocation may exchange packets at a time, and channels; further ones are refused with 508. A
/// call needs one for each candidate of the other end.
const MAX_PERMISSIONS: usize = 64;
const MAX_CHANNELS: usize = 64;

/// How long they live without being renewed (RFC 8656 sections 9 and 12).
const PERMISSION_LIFE: Duration = Duration::from_secs(300);
const CHANNEL_LIFE: Duration = Duration::from_secs(600);

/// What the machine believes to listen on. It has one client only, and need not know.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 3_478);

/// The machine's nonces are no challenge: the gate has been passed.
const NONCE_LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Opens a relayed address of a family.
pub(super) type Open<'a> = dyn FnMut(AddressFamily) -> Result<SocketAddr, SocketAllocateError> + 'a;

/// See the [module](self).
pub(super) struct Session {
    machine: TurnServer,
    user: User,
    nonce: String,
    client: SocketAddr,
    started: Instant,
    /// The request that made the allocation, and its answer: it may have been lost.
    allocated: Option<(TransactionId, Vec<u8>)>,
    /// Where the allocation is: one address, or one of each family.
    relayed: Vec<SocketAddr>,
    permissions: Vec<(IpAddr, Instant)>,
    channels: Vec<(u16, SocketAddr, Instant)>,
    up: Bucket,
    down: Bucket,
    used: Instant,
    /// When the client sent anything last to a peer.
    sent: Option<Instant>,
    idle: Duration,
}

/// A packet for a peer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ToPeer<'a> {
    pub(super) relayed: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) data: &'a [u8],
}

impl Session {
    /// For a client at an address, without an allocation yet.
    pub(super) fn new(user: User, client: SocketAddr, quotas: &RelayQuotas, now: Instant) -> Self {
        let mut machine = TurnServer::new(TransportType::Udp, LISTEN, REALM.to_owned());
        machine.set_nonce_expiry_duration(NONCE_LIFE);
        machine.add_user(user.name.clone(), user.password.clone());
        let bucket = Bucket::new(quotas.bits(user.class), now);
        let mut session = Self {
            machine,
            user,
            nonce: String::new(),
            client,
            started: now,
            allocated: None,
            relayed: Vec::new(),
            permissions: Vec::new(),
            channels: Vec::new(),
            up: bucket,
            down: bucket,
            used: now,
            sent: None,
            idle: quotas.idle,
        };
        session.learn_nonce(now);
        session
    }

    /// The machine tells its nonce to whoever asks without credentials.
    fn learn_nonce(&mut self, now: Instant) {
        let request = Message::builder_request(ALLOCATE, MessageWriteVec::new()).finish();
        let challenge = self.feed(&request, now).unwrap_or_default();
        let nonce = Message::from_bytes(&challenge).ok();
        let nonce =
            nonce.and_then(|message| message.attribute::<Nonce>().ok().map(|nonce| nonce.nonce().to_owned()));
        self.nonce = nonce.unwrap_or_default();
    }

    /// Whose it is, and the nonce that the machine's answers carry.
    pub(super) fn known(&self) -> (&User, &str) {
        (&self.user, &self.nonce)
    }

    pub(super) fn relayed(&self) -> &[SocketAddr] {
        &self.relayed
    }

    /// The answer to an admitted request. New addresses come from `open`.
    ///
    /// # Errors
    /// [`No`], for the caller to answer.
    pub(super) fn request(
        &mut self,
        ask: &Ask,
        id: TransactionId,
        open: &mut Open<'_>,
        now: Instant,
    ) -> Result<Vec<u8>, No> {
        match (ask, &self.allocated) {
            (Ask::Allocate { .. }, Some((first, answer))) if *first == id => return Ok(answer.clone()),
            (Ask::Allocate { .. }, Some(_)) => return Err(No::Mismatch),
            (Ask::Refresh { .. } | Ask::Permit { .. } | Ask::Bind { .. }, None) => return Err(No::Mismatch),
            (Ask::Allocate { .. }, None)
            | (Ask::Refresh { .. } | Ask::Permit { .. } | Ask::Bind { .. }, Some(_)) => {}
        }
        self.make_room(ask, now)?;
        let request = ask.write(id, &self.user.name, REALM, &self.nonce, &self.user.key);
        let answer = self.feed(&request, now);
        let answer = match ask {
            Ask::Allocate { .. } => self.allocate(open, now),
            Ask::Refresh { .. } | Ask::Permit { .. } | Ask::Bind { .. } => answer,
        };
        let answer = answer.ok_or(No::Capacity)?;
        if is_success(&answer) {
            self.granted(ask, id, &answer, now);
        }
        Ok(answer)
    }

    /// Asks the machine for the sockets that it wants, until it has an answer.
    fn allocate(&mut self, open: &mut Open<'_>, now: Instant) -> Option<Vec<u8>> {
        let (at, mut last_failed) = (self.clock(now), false);
        while let TurnServerPollRet::AllocateSocket {
            transport,
            listen_addr,
            client_addr,
            allocation_transport,
            family,
        } = self.machine.poll(at)
        {
            let opened = open(family);
            last_failed = opened.is_err();
            self.relayed.extend(opened.ok());
            self.machine.allocated_socket(
                transport,
                listen_addr,
                client_addr,
                allocation_transport,
                family,
                opened,
                at,
            );
        }
        let answer = self.machine.poll_transmit(at).map(|transmit| transmit.data);
        // Of two addresses the machine takes the last one asked for as the one that counts: it would forget the other.
        answer.filter(|_| !last_failed || self.relayed.is_empty())
    }

    /// Whether there is room for what a request wants to add.
    fn make_room(&mut self, ask: &Ask, now: Instant) -> Result<(), No> {
        self.permissions.retain(|(_, until)| *until > now);
        self.channels.retain(|(_, _, until)| *until > now);
        match ask {
            Ask::Allocate { .. } | Ask::Refresh { .. } => Ok(()),
            Ask::Permit { peers } => self.room_for(peers),
            Ask::Bind { channel, peer } => {
                self.room_for(std::slice::from_ref(peer))?;
                let bound =
                    |(number, other, _): &(u16, SocketAddr, Instant)| (number == channel) != (other == peer);
                if self.channels.iter().any(bound) {
                    return Err(No::Malformed);
                }
                let new = !self.channels.iter().any(|(number, ..)| number == channel);
                if new && self.channels.len() >= MAX_CHANNELS { Err(No::Capacity) } else { Ok(()) }
            }
        }
    }

    fn room_for(&self, peers: &[SocketAddr]) -> Result<(), No> {
        let is_new = |peer: &&SocketAddr| !self.permissions.iter().any(|(ip, _)| *ip == peer.ip());
        let new = peers.iter().filter(is_new).count();
        if self.permissions.len() + new > MAX_PERMISSIONS { Err(No::Capacity) } else { Ok(()) }
    }

    fn granted(&mut self, ask: &Ask, id: TransactionId, answer: &[u8], now: Instant) {
        match ask {
            Ask::Allocate { .. } => self.allocated = Some((id, answer.to_vec())),
            Ask::Refresh { .. } => {}
            Ask::Permit { peers } => peers.iter().for_each(|peer| self.permit(peer.ip(), now)),
            Ask::Bind { channel, peer } => {
                self.permit(peer.ip(), now);
                self.channels.retain(|(number, ..)| number != channel);
                self.channels.push((*channel, *peer, now + CHANNEL_LIFE));
            }
        }
    }

    fn permit(&mut self, ip: IpAddr, now: Instant) {
        self.permissions.retain(|(other, _)| *other != ip);
        self.permissions.push((ip, now + PERMISSION_LIFE));
    }

    /// What a datagram of the client's that is no request has for a peer.
    pub(super) fn relay_out<'a>(&mut self, datagram: &'a [u8], now: Instant) -> Option<ToPeer<'a>> {
        let at = self.clock(now);
        let sent = self.machine.recv(Transmit::new(datagram, TransportType::Udp, self.client, LISTEN), at)?;
        let DelayedMessageOrChannelSend::Range(datagram, range) = sent.data else { return None };
        let data = datagram.get(range)?;
        if !self.up.take(data.len(), now) {
            return None;
        }
        (self.used, self.sent) = (now, Some(now));
        Some(ToPeer { relayed: sent.from, peer: sent.to, data })
    }

    /// Puts what a peer sends to a relayed address into `out`, as the client is to have it. `false` if he is to have nothing.
    pub(super) fn relay_in(
        &mut self,
        relayed: SocketAddr,
        peer: SocketAddr,
        data: &[u8],
        now: Instant,
        out: &mut Vec<u8>,
    ) -> bool {
        let at = self.clock(now);
        // The machine writes with 16 bits how long it is.
        if data.len() > usize::from(u16::MAX) - 64 {
            return false;
        }
        let Some(got) = self.machine.recv(Transmit::new(data, TransportType::Udp, peer, relayed), at) else {
            return false;
        };
        if !self.down.take(data.len(), now) {
            return false;
        }
        self.used = now;
        match got.data {
            DelayedMessageOrChannelSend::Channel(channel) => {
                out.resize(channel.len(), 0);
                channel.write_into(out);
            }
            DelayedMessageOrChannelSend::Message(_) => *out = data_indication(peer, data),
            DelayedMessageOrChannelSend::Owned(_) | DelayedMessageOrChannelSend::Range(..) => return false,
        }
        true
    }

    /// How long the client has sent nothing to a peer, if he ever did.
    pub(super) fn silent_for(&self, now: Instant) -> Option<Duration> {
        self.sent.map(|sent| now.saturating_duration_since(sent))
    }

    /// Lets time pass. Gives the relayed addresses that are closed now, and when to come again.
    pub(super) fn tick(&mut self, now: Instant) -> (Vec<SocketAddr>, Instant) {
        let idle_until = self.used + self.idle;
        if self.allocated.is_some() && idle_until <= now {
            return (std::mem::take(&mut self.relayed), now + self.idle);
        }
        let (at, mut closed) = (self.clock(now), Vec::new());
        let wait = loop {
            match self.machine.poll(at) {
                TurnServerPollRet::WaitUntil(until) => break until.saturating_duration_since(at),
                TurnServerPollRet::SocketClose { listen_addr, .. } => closed.push(listen_addr),
                // Never asked for: an allocation is answered at once, and TCP towards peers is refused.
                TurnServerPollRet::AllocateSocket { .. }
                | TurnServerPollRet::TcpConnect { .. }
                | TurnServerPollRet::TcpClose { .. } => {}
            }
        };
        self.relayed.retain(|addr| !closed.contains(addr));
        // The machine does not say when channels end, though it looks for those that have.
        let channels = self.channels.iter().map(|(.., until)| *until).filter(|until| *until > now);
        let next = channels.chain([now + wait]).min().unwrap_or(now + wait);
        // What ends at that moment is not over at it, but after it.
        (closed, (next + Duration::from_millis(10)).min(idle_until))
    }

    fn feed(&mut self, message: &[u8], now: Instant) -> Option<Vec<u8>> {
        let at = self.clock(now);
        let answer =
            self.machine.recv(Transmit::new(message, TransportType::Udp, self.client, LISTEN), at)?;
        Some(answer.data.build())
    }

    fn clock(&self, now: Instant) -> turn_types::Instant {
        let passed = now.saturating_duration_since(self.started).as_nanos();
        turn_types::Instant::from_nanos(i64::try_from(passed).unwrap_or(i64::MAX))
    }
}

fn is_success(answer: &[u8]) -> bool {
    Message::from_bytes(answer).is_ok_and(|answer| answer.has_class(MessageClass::Success))
}

/// RFC 8656 section 11.5.
fn data_indication(peer: SocketAddr, data: &[u8]) -> Vec<u8> {
    let mut message = Message::builder_indication(DATA, MessageWriteVec::with_capacity(data.len() + 64));
    let id = message.transaction_id();
    message.push_attribute_unchecked(&XorPeerAddress::new(peer, id));
    message.push_attribute_unchecked(&Data::new(data));
    message.finish()
}

#[cfg(test)]
mod tests;
