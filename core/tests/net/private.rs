//! Whom strangers can make a node connect to.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use offhook::net::{NetConfig, Reach, Role, SignalError, SignalTarget};
use offhook::proto::number::NodeAddr;
use tokio::net::UdpSocket;

use crate::common::{Node, PATIENCE, directory, loopback, terminal};
use crate::fixture::{Party, now};
use crate::restart::serve_names;

/// A service of this host that is nobody's business. It answers nothing.
pub async fn victim() -> (UdpSocket, u16) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

/// How many connections were tried there: each begins with an Initial packet of its own destination connection ID
/// (RFC 9000 section 17.2.2).
pub fn tries(socket: &UdpSocket) -> usize {
    let (mut ids, mut buffer) = (BTreeSet::new(), [0; 2_000]);
    while let Ok((length, _)) = socket.try_recv_from(&mut buffer) {
        let id = usize::from(buffer[5]);
        assert!(length > 6 + id, "no QUIC");
        ids.insert(buffer[6..6 + id].to_vec());
    }
    ids.len()
}

/// Somebody behind a node that nobody knows.
fn target(node: &str, n: u8) -> SignalTarget {
    let relay = Party::with_terminal(0, n).terminal.public().to_peer_id();
    let addr = format!("{node}/p2p/{relay}/p2p-circuit").parse().unwrap();
    let terminal = Party::new(5).terminal.public();
    SignalTarget { terminal, addrs: vec![addr], via: None, reach: Reach::Open, again: false }
}

/// A name server in which every name is this host.
async fn names() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    tokio::spawn(serve_names(socket, 1, vec![vec![127, 0, 0, 1]]));
    addr
}

/// A directory on a port of its own, so that it has an address though private ones are not for telling.
async fn guarded_directory(seed: u8, allow_private: bool) -> (Node, NodeAddr) {
    let (socket, port) = victim().await;
    drop(socket);
    let mut config = loopback(seed, Role::Directory);
    config.listen = vec![format!("/ip4/127.0.0.1/udp/{port}/quic-v1").parse().unwrap()];
    config.external = config.listen.clone();
    config.allow_private = Some(allow_private);
    config.dns = Some(names().await);
    let node = Node::start(config).await;
    let addr = node.addr().await;
    (node, addr)
}

fn caller(entry: &NodeAddr) -> NetConfig {
    let party = Party::new(0);
    let mut config = loopback(0, Role::Terminal);
    config.terminal_seed = *party.terminal.seed();
    config.cert = Some(party.cert(now()));
    config.entry = vec![entry.clone()];
    config
}

#[tokio::test]
async fn a_stranger_cannot_make_a_directory_knock_at_its_own_doors() {
    for (seed, allow_private) in [(190, false), (191, true)] {
        let (_directory, addr) = guarded_directory(seed, allow_private).await;
        let node = Node::start(caller(&addr)).await;
        node.registered(1).await;
        let (socket, port) = victim().await;
        for place in ["/ip4/127.0.0.1", "/dns4/inside.test", "/dns/inside.test", "/dnsaddr/inside.test"] {
            // Discreet: what is further away is left to the directory.
            let target = target(&format!("{place}/udp/{port}/quic-v1"), 200);
            let target = SignalTarget { reach: Reach::Discreet, ..target };
            assert_eq!(node.net.signal(target, b"x".to_vec()).await, Err(SignalError::NotReachable));
        }
        assert_eq!(tries(&socket) > 0, allow_private, "private addresses allowed: {allow_private}");
    }
}

#[tokio::test]
async fn a_record_cannot_make_a_terminal_knock_at_its_own_doors() {
    // What the terminal leaves to its directory comes to nothing.
    let (_directory, addr) = guarded_directory(192, false).await;
    for allow_private in [false, true] {
        let mut config = caller(&addr);
        config.allow_private = Some(allow_private);
        config.dns = Some(names().await);
        let node = Node::start(config).await;
        // The configured entry point is private itself, and yet is used.
        node.until("the entry point", |status| status.links.iter().any(|link| link.registered)).await;
        let (socket, port) = victim().await;
        for (n, place) in ["/ip4/127.0.0.1", "/dns4/inside.test"].into_iter().enumerate() {
            let node_addr = format!("{place}/udp/{port}/quic-v1");
            let behind = target(&node_addr, 210 + n as u8);
            let sent = node.net.signal(behind, b"x".to_vec()).await;
            assert_eq!(sent, Err(SignalError::NotReachable));
            let straight = SignalTarget {
                addrs: vec![
                    format!("{node_addr}/p2p/{}", Party::new(5).terminal.public().to_peer_id())
                        .parse()
                        .unwrap(),
                ],
                ..target(&node_addr, 210)
            };
            let sent = node.net.signal(straight, b"x".to_vec()).await;
            assert_eq!(sent, Err(SignalError::NotReachable));
        }
        node.net
            .keep(vec![target(&format!("/ip4/127.0.0.1/udp/{port}/quic-v1"), 220).addrs[0].clone()])
            .await;
        node.find(Party::new(3).key()).await;
        assert_eq!(tries(&socket) > 0, allow_private, "private addresses allowed: {allow_private}");
    }
}

#[tokio::test]
async fn one_source_makes_a_directory_connect_to_few_others() {
    let directory = directory(193).await;
    let node = terminal(&Party::new(0), &[directory.addr().await]).await;
    node.registered(1).await;
    let (socket, port) = victim().await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..120 {
        let target = target(&format!("/ip4/127.0.0.1/udp/{port}/quic-v1"), 100 + n);
        let (net, target) = (node.net.clone(), SignalTarget { reach: Reach::Discreet, ..target });
        tasks.spawn(async move { net.signal(target, b"x".to_vec()).await });
    }
    let results = tasks.join_all().await;
    assert!(results.contains(&Err(SignalError::Busy)), "nothing was refused");
    let tries = tries(&socket);
    assert!((1..60).contains(&tries), "{tries} connections were tried");
    // Ten at once and two a second.
    let again = target(&format!("/ip4/127.0.0.1/udp/{port}/quic-v1"), 230);
    let served = async {
        loop {
            let target = SignalTarget { reach: Reach::Discreet, ..again.clone() };
            match node.net.signal(target, b"x".to_vec()).await {
                Err(SignalError::Busy) => tokio::task::yield_now().await,
                result => break result,
            }
        }
    };
    let served = tokio::time::timeout(PATIENCE, served).await.expect("later it is served again");
    assert_eq!(served, Err(SignalError::NotReachable));
}
