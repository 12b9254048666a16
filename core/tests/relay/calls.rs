//! Two clients talk through the relay.

use std::net::SocketAddr;

use offhook::proto::relay::RelayClass;
use offhook::relay::{Relay, RelayConfig};

use crate::client::{Client, Link, issuer, ticket};

pub async fn relay_on(listen: &str) -> (Relay, SocketAddr) {
    let mut config = RelayConfig::new(issuer());
    config.listen = Some(listen.parse().unwrap());
    let relay = Relay::start(config).await.unwrap();
    let addr = relay.addr().unwrap();
    (relay, addr)
}

pub async fn relay() -> (Relay, SocketAddr) {
    relay_on("127.0.0.1:0").await
}

/// Both send some packets of all lengths each way.
async fn talk(a: (&mut Client, SocketAddr), b: (&mut Client, SocketAddr)) {
    let ((a, at_a), (b, at_b)) = (a, b);
    for length in [1, 2, 3, 4, 160, 1_200] {
        let (there, back) = (vec![7; length], vec![9; length + 1]);
        a.send(at_b, &there).await;
        assert_eq!(b.message().await, (at_a, there));
        b.send(at_a, &back).await;
        assert_eq!(a.message().await, (at_b, back));
    }
}

async fn call(a: Link, b: Link) {
    let (mut a, at_a) = Client::allocated(a, &ticket(RelayClass::Full, 1)).await;
    let (mut b, at_b) = Client::allocated(b, &ticket(RelayClass::Guest, 2)).await;
    assert_ne!(at_a, at_b);
    assert!(a.permit(at_b.ip()).await && b.permit(at_a.ip()).await);
    talk((&mut a, at_a), (&mut b, at_b)).await;
    // The same on channels.
    assert!(a.bind(at_b).await && b.bind(at_a).await);
    talk((&mut a, at_a), (&mut b, at_b)).await;
}

#[tokio::test]
async fn two_clients_talk_through_it_over_udp() {
    let (_relay, addr) = relay().await;
    call(Link::udp(addr).await, Link::udp(addr).await).await;
}

#[tokio::test]
async fn two_clients_talk_through_it_over_tcp() {
    let (_relay, addr) = relay().await;
    call(Link::tcp(addr).await, Link::tcp(addr).await).await;
}

#[tokio::test]
async fn one_client_comes_over_tcp_and_the_other_over_udp() {
    let (_relay, addr) = relay().await;
    call(Link::tcp(addr).await, Link::udp(addr).await).await;
}

#[tokio::test]
async fn two_clients_talk_through_it_over_ipv6() {
    let (_relay, addr) = relay_on("[::1]:0").await;
    call(Link::udp(addr).await, Link::tcp(addr).await).await;
}
