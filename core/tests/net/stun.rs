//! The STUN server, as a client sees it.

use std::time::Duration;

use offhook::net::Role;
use stun_types::attribute::XorMappedAddress;
use stun_types::message::{BINDING, Message, MessageWrite, MessageWriteVec, TransactionId};
use tokio::net::UdpSocket;

use crate::common::{Node, loopback, terminal};
use crate::fixture::Party;

async fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

fn request() -> (TransactionId, Vec<u8>) {
    let message = Message::builder_request(BINDING, MessageWriteVec::new());
    let bytes = message.finish();
    (Message::from_bytes(&bytes).unwrap().transaction_id(), bytes)
}

#[tokio::test]
async fn a_binding_request_is_answered_and_nothing_else() {
    let port = free_port().await;
    let mut config = loopback(170, Role::Directory);
    config.stun = Some(([127, 0, 0, 1], port).into());
    let directory = Node::start(config).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    // What is no request gets no answer: the first answer is that of the request at the end.
    let (_, good) = request();
    let indication = {
        let mut bytes = good.clone();
        bytes[0..2].copy_from_slice(&0x0011u16.to_be_bytes());
        bytes
    };
    let mut long = good.clone();
    long.extend([0; 2_000]);
    for bad in [&b""[..], b"hello", &good[..15], &indication, &long, &[0xff; 100]] {
        socket.send_to(bad, server).await.unwrap();
    }
    let (transaction, bytes) = request();
    socket.send_to(&bytes, server).await.unwrap();
    let mut buffer = [0; 600];
    let received = tokio::time::timeout(Duration::from_secs(10), socket.recv_from(&mut buffer)).await;
    let (length, from) = received.expect("an answer").unwrap();
    assert_eq!(from, server);
    let answer = Message::from_bytes(&buffer[..length]).unwrap();
    assert!(answer.has_class(stun_types::message::MessageClass::Success));
    assert_eq!(answer.transaction_id(), transaction);
    let mapped = answer.attribute::<XorMappedAddress>().unwrap();
    assert_eq!(mapped.addr(transaction), socket.local_addr().unwrap());
    assert!(length <= bytes.len() + 24, "{length} bytes for {}", bytes.len());
    // Terminals are told of it.
    let node = terminal(&Party::new(0), &[directory.addr().await]).await;
    node.registered(1).await;
    assert_eq!(node.net.stun_servers(), [server]);
}

#[tokio::test]
async fn one_address_gets_a_bounded_number_of_answers() {
    let port = free_port().await;
    let mut config = loopback(171, Role::Server);
    config.stun = Some(([127, 0, 0, 1], port).into());
    config.limits.stun_per_source = 2;
    let _directory = Node::start(config).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    for _ in 0..200 {
        socket.send_to(&request().1, server).await.unwrap();
    }
    let mut answers = 0;
    let mut buffer = [0; 600];
    while tokio::time::timeout(Duration::from_millis(500), socket.recv_from(&mut buffer)).await.is_ok() {
        answers += 1;
    }
    assert!((20..30).contains(&answers), "{answers} answers");
}

#[tokio::test]
async fn one_socket_answers_both_families_and_tells_their_hosts_apart() {
    let mut config = loopback(172, Role::Directory);
    config.stun = Some("[::]:0".parse().unwrap());
    config.limits.stun_per_source = 1;
    let directory = Node::start(config).await;
    let port = directory.net.stun_addr().unwrap().port();
    let ask = async |client: &UdpSocket, patience| {
        let (transaction, bytes) = request();
        let here = if client.local_addr().unwrap().is_ipv4() { "127.0.0.1" } else { "[::1]" };
        client.send_to(&bytes, format!("{here}:{port}")).await.unwrap();
        let mut buffer = [0; 600];
        let length = tokio::time::timeout(patience, client.recv(&mut buffer)).await.ok()?.unwrap();
        let answer = Message::from_bytes(&buffer[..length]).unwrap();
        Some(answer.attribute::<XorMappedAddress>().unwrap().addr(transaction))
    };
    let long = Duration::from_secs(10);
    let first = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    assert_eq!(ask(&first, long).await, Some(first.local_addr().unwrap()), "an IPv4 address as one");
    // One IPv4 host uses up what it may ask; another one is answered all the same.
    while ask(&first, Duration::from_millis(300)).await.is_some() {}
    let second = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    assert_eq!(ask(&second, long).await, Some(second.local_addr().unwrap()));
    // Not every machine has IPv6.
    if let Ok(sixth) = UdpSocket::bind("[::1]:0").await {
        assert_eq!(ask(&sixth, long).await, Some(sixth.local_addr().unwrap()));
    }
}
