//! A client of the relay: turn-client-proto over a UDP socket or a connection.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use offhook::proto::identity::TerminalKey;
use offhook::proto::relay::{RelayClass, RelayTicket, TicketIssuer};
use offhook::proto::wire::UnixMillis;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use turn_client_proto::api::{Transmit, TurnClientApi, TurnConfig, TurnEvent, TurnPollRet, TurnRecvRet};
use turn_client_proto::udp::TurnClientUdp;
use turn_types::prelude::DelayedTransmitBuild;
use turn_types::{AddressFamily, TransportType, TurnCredentials};

/// Longer than anything takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn issuer() -> TicketIssuer {
    TicketIssuer::new([7; 32])
}

pub fn now() -> UnixMillis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    UnixMillis(since.as_millis() as u64)
}

/// A ticket of the terminal number `n`.
pub fn ticket(class: RelayClass, n: u8) -> RelayTicket {
    issuer().issue(class, &TerminalKey::from_seed([n; 32]).public(), Vec::new(), now())
}

/// How the client reaches the relay.
pub enum Link {
    Udp(UdpSocket),
    Tcp(TcpStream, Vec<u8>),
}

impl Link {
    pub async fn udp(relay: SocketAddr) -> Self {
        let any: SocketAddr = if relay.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }.parse().unwrap();
        let socket = UdpSocket::bind(any).await.unwrap();
        socket.connect(relay).await.unwrap();
        Self::Udp(socket)
    }

    pub async fn tcp(relay: SocketAddr) -> Self {
        let stream = TcpStream::connect(relay).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::Tcp(stream, Vec::new())
    }

    pub fn local(&self) -> SocketAddr {
        match self {
            Self::Udp(socket) => socket.local_addr().unwrap(),
            Self::Tcp(stream, _) => stream.local_addr().unwrap(),
        }
    }

    fn remote(&self) -> SocketAddr {
        match self {
            Self::Udp(socket) => socket.peer_addr().unwrap(),
            Self::Tcp(stream, _) => stream.peer_addr().unwrap(),
        }
    }

    pub async fn send(&mut self, message: &[u8]) {
        match self {
            Self::Udp(socket) => drop(socket.send(message).await),
            Self::Tcp(stream, _) => {
                let mut padded = message.to_vec();
                padded.resize(message.len().next_multiple_of(4), 0);
                stream.write_all(&padded).await.unwrap();
            }
        }
    }

    /// The next message, without padding.
    pub async fn receive(&mut self) -> Vec<u8> {
        let mut chunk = [0; 4_096];
        match self {
            Self::Udp(socket) => loop {
                if let Ok(length) = socket.recv(&mut chunk).await {
                    return chunk[..length].to_vec();
                }
            },
            Self::Tcp(stream, buffer) => loop {
                if let Some(frame) = frame(buffer) {
                    return frame;
                }
                let length = stream.read(&mut chunk).await.unwrap();
                assert!(length > 0, "the relay has closed the connection");
                buffer.extend_from_slice(&chunk[..length]);
            },
        }
    }
}

fn frame(buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let said = usize::from(u16::from_be_bytes([*buffer.get(2)?, *buffer.get(3)?]));
    let length = if buffer[0] < 4 { 20 + said } else { 4 + said };
    if buffer.len() < length.next_multiple_of(4) {
        return None;
    }
    let mut frame: Vec<u8> = buffer.drain(..length.next_multiple_of(4)).collect();
    frame.truncate(length);
    Some(frame)
}

/// A client and what it has heard.
pub struct Client {
    pub turn: TurnClientUdp,
    pub link: Link,
    started: Instant,
    pub events: VecDeque<TurnEvent>,
    pub inbox: VecDeque<(SocketAddr, Vec<u8>)>,
}

impl Client {
    /// One that will ask for an allocation.
    pub fn new(link: Link, ticket: &RelayTicket, family: AddressFamily) -> Self {
        let mut config = TurnConfig::new(TurnCredentials::new(&ticket.username, &ticket.password));
        config.set_address_family(family);
        let turn = TurnClientUdp::allocate(link.local(), link.remote(), config);
        Self { turn, link, started: Instant::now(), events: VecDeque::new(), inbox: VecDeque::new() }
    }

    /// One that has an allocation, and where.
    pub async fn allocated(link: Link, ticket: &RelayTicket) -> (Self, SocketAddr) {
        let family = if link.remote().is_ipv4() { AddressFamily::IPV4 } else { AddressFamily::IPV6 };
        let mut client = Self::new(link, ticket, family);
        let event = client.event().await;
        let TurnEvent::AllocationCreated(_, relayed) = event else { panic!("no allocation: {event:?}") };
        (client, relayed)
    }

    pub fn clock(&self) -> turn_types::Instant {
        turn_types::Instant::from_nanos(self.started.elapsed().as_nanos() as i64)
    }

    /// Sends what is to be sent.
    pub async fn flush(&mut self) -> turn_types::Instant {
        let now = self.clock();
        loop {
            let polled = self.turn.poll(now);
            let mut sent = false;
            while let Some(transmit) = self.turn.poll_transmit(now) {
                self.link.send(&transmit.data).await;
                sent = true;
            }
            while let Some(event) = self.turn.poll_event() {
                self.events.push_back(event);
            }
            match polled {
                TurnPollRet::WaitUntil(until) if !sent => return until,
                TurnPollRet::Closed => return now + Duration::from_secs(1),
                TurnPollRet::WaitUntil(_)
                | TurnPollRet::AllocateTcpSocket { .. }
                | TurnPollRet::TcpClose { .. } => {}
            }
        }
    }

    /// Sends, waits for the next message or for its time, and takes it.
    pub async fn step(&mut self) {
        let until = self.flush().await;
        let wait = until.saturating_duration_since(self.clock()).max(Duration::from_millis(1));
        let Ok(message) = tokio::time::timeout(wait, self.link.receive()).await else { return };
        let (from, to) = (self.turn.remote_addr(), self.turn.local_addr());
        let transmit = Transmit::new(&message[..], TransportType::Udp, from, to);
        let now = self.clock();
        if let TurnRecvRet::PeerData(data) = self.turn.recv(transmit, now) {
            self.inbox.push_back((data.peer, data.data().to_vec()));
        }
        self.flush().await;
    }

    pub async fn event(&mut self) -> TurnEvent {
        let next = async {
            loop {
                if let Some(event) = self.events.pop_front() {
                    return event;
                }
                self.step().await;
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("an event")
    }

    pub async fn message(&mut self) -> (SocketAddr, Vec<u8>) {
        let next = async {
            loop {
                if let Some(message) = self.inbox.pop_front() {
                    return message;
                }
                self.step().await;
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("a message")
    }

    /// Asks for a permission; whether it is granted.
    pub async fn permit(&mut self, peer: IpAddr) -> bool {
        self.turn.create_permission(TransportType::Udp, peer, self.clock()).unwrap();
        matches!(self.event().await, TurnEvent::PermissionCreated(..))
    }

    /// Asks for a channel; whether it is granted.
    pub async fn bind(&mut self, peer: SocketAddr) -> bool {
        self.turn.bind_channel(TransportType::Udp, peer, self.clock()).unwrap();
        loop {
            match self.event().await {
                TurnEvent::ChannelCreated(..) => return true,
                TurnEvent::ChannelCreateFailed(..) => return false,
                TurnEvent::PermissionCreated(..) | TurnEvent::PermissionCreateFailed(..) => {}
                other @ (TurnEvent::AllocationCreated(..)
                | TurnEvent::AllocationCreateFailed(_)
                | TurnEvent::TcpConnected(_)
                | TurnEvent::TcpConnectFailed(_)) => panic!("{other:?}"),
            }
        }
    }

    pub async fn send(&mut self, peer: SocketAddr, data: &[u8]) {
        let now = self.clock();
        let sent = self.turn.send_to(TransportType::Udp, peer, data, now).unwrap().unwrap();
        let bytes = sent.data.build();
        self.link.send(&bytes).await;
    }
}
