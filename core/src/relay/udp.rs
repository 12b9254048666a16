//! The relay's listening UDP socket: STUN, TURN and the courier, told apart by the first byte (RFC 7983).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use offhook_proto::courier::FIRST_BYTE;
use offhook_proto::wire::canonical;
use tokio::net::UdpSocket;

use super::hub::{Client, From, Hub, MAX_DATAGRAM, Outlet};

/// After an error of the socket; doubled with every further one in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How many clients there are before those whose allocations are over are looked for; doubled by those that remain.
const SWEEP: usize = 64;

/// What a datagram is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A STUN message, TURN's among them.
    Message,
    /// For the courier.
    Courier,
    /// Data on a channel.
    Channel,
    /// Nothing that is served here.
    Unknown,
}

impl Kind {
    /// By the first byte.
    pub(super) fn of(datagram: &[u8]) -> Self {
        match datagram.first() {
            Some(0..=3) => Self::Message,
            Some(&FIRST_BYTE) => Self::Courier,
            Some(64..=79) => Self::Channel,
            Some(_) | None => Self::Unknown,
        }
    }
}

/// The clients of the socket, by their addresses.
pub(super) struct Listener {
    hub: Arc<Hub>,
    socket: Arc<UdpSocket>,
    clients: HashMap<SocketAddr, Arc<Client>>,
    sweep_at: usize,
}

impl Listener {
    pub(super) fn new(hub: Arc<Hub>, socket: Arc<UdpSocket>) -> Self {
        Self { hub, socket, clients: HashMap::new(), sweep_at: SWEEP }
    }

    /// Serves until the relay ends.
    pub(super) async fn run(mut self) {
        let (stop, socket) = (self.hub.stop.clone(), self.socket.clone());
        let mut buffer = vec![0; MAX_DATAGRAM + 1];
        let mut pause = FIRST_PAUSE;
        loop {
            let received = tokio::select! {
                () = stop.cancelled() => return,
                received = socket.recv_from(&mut buffer) => received,
            };
            match received {
                Ok((length, from)) => {
                    pause = FIRST_PAUSE;
                    self.on_datagram(&buffer[..length], from);
                }
                // ICMP errors of earlier answers; a socket that has broken down fails every time.
                Err(_) => {
                    self.hub.metrics.dropped("socket");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    fn on_datagram(&mut self, datagram: &[u8], from: SocketAddr) {
        if datagram.len() > MAX_DATAGRAM {
            return self.hub.metrics.dropped("too_long");
        }
        let client = self.client(from);
        match (Kind::of(datagram), client) {
            (Kind::Message, client) => {
                let addr = canonical(from);
                let outlet = Outlet::Udp(self.socket.clone(), from);
                let source = From { addr, local: None, outlet };
                if let Some(new) = self.hub.on_message(datagram, &source, client.as_ref()) {
                    self.sweep();
                    self.clients.insert(from, new);
                }
            }
            (Kind::Channel, Some(client)) => self.hub.on_data(&client, datagram),
            (Kind::Channel, None) => self.hub.metrics.dropped("no_way"),
            (Kind::Courier, _) => self.hub.on_courier(datagram, from, &self.socket),
            (Kind::Unknown, _) => self.hub.metrics.dropped("malformed"),
        }
    }

    /// Who has an allocation at an address.
    fn client(&mut self, from: SocketAddr) -> Option<Arc<Client>> {
        let client = self.clients.get(&from)?;
        if client.is_over() {
            self.clients.remove(&from);
            return None;
        }
        Some(client.clone())
    }

    /// Forgets clients whose allocations are over. There are never more than twice as many as have one, and a few.
    fn sweep(&mut self) {
        if self.clients.len() >= self.sweep_at {
            self.clients.retain(|_, client| !client.is_over());
            self.sweep_at = (self.clients.len() * 2).max(SWEEP);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use offhook_proto::identity::TerminalKey;
    use offhook_proto::relay::{REALM, RelayClass, TicketIssuer};

    use super::*;
    use crate::clock::wall_clock;
    use crate::relay::gate::Gate;
    use crate::relay::request::Ask;
    use crate::relay::{RelayConfig, parts};

    #[test]
    fn datagrams_are_told_apart_by_the_first_byte() {
        let kind = |first: u8| Kind::of(&[first, 0, 0, 0]);
        assert!((0..=3).all(|first| kind(first) == Kind::Message));
        assert_eq!(kind(4), Kind::Courier);
        assert!((64..=79).all(|first| kind(first) == Kind::Channel));
        assert!((5..64).chain(80..=255).all(|first| kind(first) == Kind::Unknown));
        assert_eq!(Kind::of(&[]), Kind::Unknown);
    }

    /// Whoever comes and goes, again and again from new ports.
    #[tokio::test]
    async fn clients_whose_allocations_are_over_are_forgotten() {
        let issuer = TicketIssuer::new([7; 32]);
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let mut parts = parts(RelayConfig::new(issuer.clone()), socket.local_addr().ok()).unwrap();
        parts.gate = Gate::new(issuer.clone());
        let nonce = parts.gate.nonce(wall_clock());
        let terminal = TerminalKey::from_seed([1; 32]).public();
        let ticket = issuer.issue(RelayClass::Guest, &terminal, Vec::new(), wall_clock());
        let user = parts.gate.user(&ticket.username, wall_clock()).unwrap();
        let mut listener = Listener::new(Arc::new(Hub::new(parts)), socket);
        let allocate = Ask::Allocate { family: None, additional: false, lifetime: None };
        let end = Ask::Refresh { family: None, lifetime: Some(0) };
        for n in 0..500_u16 {
            let from = SocketAddr::from((Ipv4Addr::LOCALHOST, 10_000 + n));
            let mut send = |ask: &Ask, id: u128| {
                let request = ask.write(id.into(), &user.name, REALM, &nonce, &user.key);
                listener.on_datagram(&request, from);
            };
            send(&allocate, 1);
            send(&end, 2);
            let client = listener.clients.get(&from).expect("an allocation, although the quota is one");
            assert!(client.is_over());
            assert!(listener.clients.len() <= SWEEP + 1, "{}", listener.clients.len());
        }
    }
}
