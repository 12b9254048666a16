//! The courier over real sockets, on the port of STUN and TURN.

use offhook::proto::courier::{FromCourier, Post};
use offhook::proto::identity::{TerminalId, TerminalKey};
use offhook::proto::relay::{RelayClass, RelayTicket};
use offhook::proto::signalling::CallId;
use tokio::net::UdpSocket;

use crate::calls::relay;
use crate::client::{PATIENCE, now, ticket};

struct Party {
    ticket: RelayTicket,
    to: TerminalId,
    time: u64,
    socket: UdpSocket,
}

impl Party {
    async fn new(n: u8, to: u8, relay: std::net::SocketAddr) -> Self {
        let to = TerminalKey::from_seed([to; 32]).public();
        let mut party = Self { ticket: ticket(RelayClass::Guest, n), to, time: now().0, socket: any().await };
        party.move_to(relay).await;
        party
    }

    async fn move_to(&mut self, relay: std::net::SocketAddr) {
        self.socket = any().await;
        self.socket.connect(relay).await.unwrap();
    }

    async fn send(&mut self, blob: Option<&[u8]>) {
        self.time += 1;
        let post = Post {
            username: self.ticket.username.clone(),
            call: CallId::from_bytes([4; 16]),
            to: self.to,
            time: offhook::proto::wire::UnixMillis(self.time),
            blob: blob.map(<[u8]>::to_vec),
        };
        self.socket.send(&post.write(&self.ticket.password)).await.unwrap();
    }

    async fn receive(&self) -> FromCourier {
        let mut buffer = [0; 2_000];
        let received = tokio::time::timeout(PATIENCE, self.socket.recv(&mut buffer)).await;
        let length = received.expect("a packet").unwrap();
        FromCourier::read(&buffer[..length], &self.ticket.password).unwrap()
    }

    async fn bound(&self) -> bool {
        let FromCourier::Bound(bound) = self.receive().await else { panic!("no answer") };
        assert_eq!(bound.observed.0, self.socket.local_addr().unwrap());
        bound.met
    }
}

async fn any() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.unwrap()
}

#[tokio::test]
async fn two_parties_find_each_other_after_both_have_moved() {
    let (_relay, addr) = relay().await;
    let (mut a, mut b) = (Party::new(1, 2, addr).await, Party::new(2, 1, addr).await);
    a.send(None).await;
    assert!(!a.bound().await);
    b.send(None).await;
    assert!(b.bound().await);
    a.move_to(addr).await;
    b.move_to(addr).await;
    b.send(None).await;
    assert!(b.bound().await, "where A was");
    a.send(Some(b"here I am")).await;
    assert!(a.bound().await);
    let FromCourier::Passed { blob, .. } = b.receive().await else { panic!("nothing passed on") };
    assert_eq!(blob, b"here I am");
}

#[tokio::test]
async fn what_is_forged_is_not_answered() {
    let (_relay, addr) = relay().await;
    let mut a = Party::new(1, 2, addr).await;
    a.ticket.password.push('x');
    a.send(None).await;
    a.ticket.password.pop();
    a.send(None).await;
    let FromCourier::Bound(bound) = a.receive().await else { panic!("no answer") };
    assert_eq!(bound.time.0, a.time, "the answer to the second");
}
