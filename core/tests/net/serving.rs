//! Terminals that serve the network once strangers are proved to reach them. On loopback everybody reaches everybody; who
//! does not is in the laboratory's tests. Each node has a /24 of its own.

use std::time::Duration;

use offhook::net::{NetConfig, Reach, Reason, Role, Serving, SignalTarget, Times};
use offhook::proto::number::NodeAddr;

use crate::common::{Node, loopback};
use crate::fixture::{Party, now};

fn in_network(n: u8, mut config: NetConfig) -> NetConfig {
    let listen = [format!("/ip4/127.0.{n}.1/udp/0/quic-v1"), format!("/ip4/127.0.{n}.1/tcp/0")];
    config.listen = listen.map(|addr| addr.parse().unwrap()).into();
    config
}

/// Directories in networks of their own that know each other.
async fn directories<const N: usize>(seed: u8) -> [Node; N] {
    let mut nodes: Vec<Node> = Vec::new();
    for n in 0..N as u8 {
        let mut config = in_network(10 + n, loopback(seed + n, Role::Directory));
        config.entry = match nodes.first() {
            Some(first) => vec![first.addr().await],
            None => Vec::new(),
        };
        nodes.push(Node::start(config).await);
    }
    for node in &nodes {
        node.until("the others", |status| status.dht_nodes == N - 1).await;
    }
    nodes.try_into().ok().unwrap()
}

/// A terminal that wants to serve.
async fn willing(n: u8, party: &Party, entry: &[NodeAddr], times: Times) -> Node {
    let mut config = in_network(n, loopback(0, Role::Terminal)).proving(times);
    config.terminal_seed = *party.terminal.seed();
    config.cert = Some(party.cert(now()));
    config.entry = entry.to_vec();
    config.stun = Some(([127, 0, n, 1], 0).into());
    Node::start(config).await
}

async fn until(node: &Node, serving: Serving) {
    node.until("that", |status| status.serving == serving).await;
}

#[tokio::test]
async fn a_terminal_that_strangers_reach_serves_and_the_network_goes_on_without_directories() {
    let directories: [Node; 3] = directories(60).await;
    let cy = willing(30, &Party::new(2), &[directories[0].addr().await], Times::default()).await;
    until(&cy, Serving::Proved).await;
    // It is a node of the DHT like any other.
    for directory in &directories {
        directory.until("one more node", |status| status.dht_nodes == 3).await;
    }
    let (alice, bob) = (Party::new(0), Party::new(1));
    let address = cy.addr().await;
    assert!(address.as_str().starts_with("/ip4/127.0.30.1/udp/"), "{address}");
    for directory in directories {
        directory.net.shutdown().await;
    }
    let times = Times::default();
    let alice_node = willing(31, &alice, std::slice::from_ref(&address), times).await;
    let mut bob_node = willing(32, &bob, std::slice::from_ref(&address), times).await;
    for (node, party) in [(&alice_node, &alice), (&bob_node, &bob)] {
        node.registered(1).await;
        assert_eq!(node.net.stun_servers().len(), 1, "it answers STUN");
        let set = party.set(now(), &node.net.addresses());
        node.net.publish(party.key(), set).await.expect("a record that is held");
    }
    assert_eq!(alice_node.find(bob.key()).await.sets.len(), 1);
    let terminal = bob.terminal.public();
    let addrs = bob_node.net.addresses();
    let target = SignalTarget { terminal, addrs, via: None, reach: Reach::Discreet, again: false };
    alice_node.net.signal(target, vec![7; 100]).await.expect("a packet that is passed on");
    assert_eq!(bob_node.packet().await.blob, [7; 100]);
    // Nobody is left who could prove the same of them.
    until(&alice_node, Serving::Unproved(Reason::NoStranger)).await;
}

#[tokio::test]
async fn one_stranger_is_not_enough() {
    let directories: [Node; 2] = directories(70).await;
    let ada = willing(30, &Party::new(0), &[directories[0].addr().await], Times::default()).await;
    until(&ada, Serving::Unproved(Reason::NoStranger)).await;
    let peers = ada.net.status().peers;
    assert!(peers <= 2, "{peers} peers");
}

#[tokio::test]
async fn whoever_the_terminal_is_connected_with_is_no_stranger() {
    let directories: [Node; 3] = directories(80).await;
    let mut entry = Vec::new();
    for directory in &directories {
        entry.push(directory.addr().await);
    }
    let ada = willing(30, &Party::new(0), &entry, Times::default()).await;
    ada.registered(3).await;
    until(&ada, Serving::Unproved(Reason::NoStranger)).await;
}

#[tokio::test]
async fn neighbours_of_the_terminal_are_no_strangers() {
    let directories: [Node; 3] = directories(90).await;
    // In the network of one of the directories.
    let ada = willing(11, &Party::new(0), &[directories[0].addr().await], Times::default()).await;
    until(&ada, Serving::Unproved(Reason::NoStranger)).await;
}

#[tokio::test]
async fn without_udp_nothing_is_proved() {
    let mut config = loopback(100, Role::Directory);
    config.listen = vec!["/ip4/127.0.10.1/tcp/0".parse().unwrap()];
    let directory = Node::start(config).await;
    let status = directory.until("an address", |status| !status.addresses.is_empty()).await;
    let ada = willing(30, &Party::new(0), &status.addresses, Times::default()).await;
    until(&ada, Serving::Unproved(Reason::NoAddress)).await;
}

#[tokio::test]
async fn a_proof_is_renewed_by_those_who_are_connected() {
    let directories: [Node; 3] = directories(110).await;
    // The directories let it be knocked at once in five seconds only.
    let soon = Duration::from_millis(200);
    let times = Times { renewal: soon, nobody: (soon, soon), ..Times::default() };
    let cy = willing(30, &Party::new(0), &[directories[0].addr().await], times).await;
    until(&cy, Serving::Proved).await;
    for directory in &directories {
        directory.until("one more node", |status| status.dht_nodes == 3).await;
    }
    // Knocks go on, and each is an answer to a request.
    let done = |node: &Node| {
        let metrics = node.net.metrics();
        let lines = metrics.lines().filter(|line| line.contains(r#"request="knock_at",result="ok""#));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum::<u64>()
    };
    let all = || directories.iter().map(&done).sum::<u64>();
    let before = all();
    let deadline = tokio::time::Instant::now() + crate::common::PATIENCE;
    while all() < before + 4 {
        assert!(tokio::time::Instant::now() < deadline, "{} knocks", all());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(cy.net.status().serving, Serving::Proved);
}

#[tokio::test]
async fn a_terminal_that_is_not_proved_any_more_lets_everybody_go() {
    let directories: [Node; 3] = directories(120).await;
    let entry = [directories[0].addr().await];
    let times = Times {
        renewal: Duration::from_millis(500),
        untested: Duration::from_secs(2),
        nobody: (Duration::from_secs(60), Duration::from_secs(60)),
        ..Times::default()
    };
    let cy = willing(30, &Party::new(0), &entry, times).await;
    until(&cy, Serving::Proved).await;
    let ada = willing(31, &Party::new(1), &[cy.addr().await], Times::default()).await;
    ada.registered(1).await;
    // There is nobody any more who could test it, and nobody comes by himself.
    for directory in directories {
        directory.net.shutdown().await;
    }
    cy.until("the end", |status| !matches!(status.serving, Serving::Proved)).await;
    ada.until("that it is let go", |status| status.routes.is_empty()).await;
    let status =
        cy.until("nothing left", |status| status.registered == 0 && status.addresses.is_empty()).await;
    assert_eq!(status.dht_nodes, 0);
}
