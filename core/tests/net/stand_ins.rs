//! One of several homes dies, and another node stands in for it.

use std::time::Duration;

use offhook::net::{NetConfig, Role, StandIns};
use offhook::proto::identity::DirectoryId;
use offhook::proto::number::NodeAddr;
use offhook::proto::service::{Request, Response};

use crate::common::{Node, directory, loopback};
use crate::fixture::{Party, now};
use crate::liar::{Act, Liar, Plan};
use crate::restart::start_on;
use crate::signalling::target_of;

/// As by default, but sooner.
const SOON: StandIns = StandIns {
    after: Duration::from_millis(100),
    settled: Duration::from_millis(100),
    farewell: Duration::from_millis(100),
};

/// A time that no test lives to see.
const NEVER: Duration = Duration::from_secs(3_600);

fn config(party: &Party, entry: &[NodeAddr], stand_ins: StandIns) -> NetConfig {
    let mut config = loopback(0, Role::Terminal);
    config.terminal_seed = *party.terminal.seed();
    config.cert = Some(party.cert(now()));
    config.entry = entry.to_vec();
    config.stand_ins = stand_ins;
    config
}

/// A directory that enters the DHT through all the others, each of which knows it then.
async fn joined(seed: u8, others: &[&Node]) -> Node {
    let mut config = loopback(seed, Role::Directory);
    for other in others {
        config.entry.push(other.addr().await);
    }
    let node = Node::start(config).await;
    for other in others {
        other.until("the other ones", |status| status.dht_nodes == others.len()).await;
    }
    node
}

/// A directory where it was before.
fn at(seed: u8, addr: &NodeAddr) -> NetConfig {
    let mut config = loopback(seed, Role::Directory);
    config.listen = vec![addr.as_str().split_once("/p2p/").unwrap().0.parse().unwrap()];
    config
}

/// The keys of the directories where a terminal is registered, in their order.
fn homes(node: &Node) -> Vec<String> {
    let routes = node.net.routes();
    routes.iter().map(|route| route.as_str().rsplit('/').next().unwrap().to_owned()).collect()
}

fn keys(nodes: &[&Node]) -> Vec<String> {
    nodes.iter().map(|node| node.net.id().to_peer_id()).collect()
}

#[tokio::test]
async fn a_dead_home_is_replaced_while_another_is_up() {
    let first = directory(170).await;
    let second = joined(171, &[&first]).await;
    let third = joined(172, &[&first, &second]).await;
    let bob = Party::new(1);
    let entry = [first.addr().await, second.addr().await];
    let mut node = Node::start(config(&bob, &entry, SOON)).await;
    node.registered(2).await;
    assert_eq!(third.net.status().registered, 0);
    first.net.shutdown().await;
    third.until("the terminal that has lost a home", |status| status.registered == 1).await;
    node.registered(2).await;
    assert_eq!(homes(&node), keys(&[&second, &third]));
    // It is a home like any other: told to others, and with circuits through it.
    let through = |addr: &NodeAddr| addr.as_str().contains(&third.net.id().to_peer_id());
    assert!(node.net.addresses().iter().any(through));
    node.until("a reservation", |status| status.links.iter().filter(|link| link.reserved).count() == 2).await;
    node.net.publish(bob.key(), bob.set(now(), &node.net.addresses())).await.unwrap();
    second.net.shutdown().await;
    let alice = crate::common::online(&Party::new(0), &[third.addr().await]).await;
    let found = alice.find(bob.key()).await;
    alice.net.signal(target_of(found.sets.last().unwrap()), b"hello".to_vec()).await.unwrap();
    assert_eq!(node.packet().await.blob, b"hello");
}

#[tokio::test]
async fn q15_a_node_that_its_directory_no_longer_names_is_a_home_no_more() {
    let first = directory(186).await;
    let second = joined(187, &[&first]).await;
    let third = joined(188, &[&first, &second]).await;
    let entry = [first.addr().await];
    let node = Node::start(config(&Party::new(0), &entry, SOON)).await;
    node.registered(1).await;
    let directory = DirectoryId::from_bytes([1; 32]);
    node.net.set_homes(directory, vec![second.addr().await]).await;
    second.until("the terminal", |status| status.registered == 1).await;
    // Another directory's nodes are none of its business, nor is the configured entry point.
    node.net.set_homes(DirectoryId::from_bytes([2; 32]), vec![first.addr().await]).await;
    node.net.set_homes(directory, vec![third.addr().await]).await;
    third.until("the terminal", |status| status.registered == 1).await;
    second.until("the terminal has gone", |status| status.registered == 0).await;
    node.registered(2).await;
    assert_eq!(homes(&node), keys(&[&first, &third]));
}

#[tokio::test]
async fn a_home_is_asked_for_others_if_none_has_been_told_of() {
    let first = directory(173).await;
    let second = joined(174, &[&first]).await;
    let entry = [first.addr().await, second.addr().await];
    let node = Node::start(config(&Party::new(0), &entry, SOON)).await;
    node.registered(2).await;
    let third = joined(175, &[&first, &second]).await;
    first.net.shutdown().await;
    third.until("the terminal that has lost a home", |status| status.registered == 1).await;
    node.registered(2).await;
    assert_eq!(homes(&node), keys(&[&second, &third]));
}

#[tokio::test]
async fn the_stand_in_is_let_go_when_the_home_is_back() {
    let first = directory(176).await;
    let second = joined(177, &[&first]).await;
    let third = joined(178, &[&first, &second]).await;
    let addr = first.addr().await;
    let entry = [addr.clone(), second.addr().await];
    let node = Node::start(config(&Party::new(0), &entry, SOON)).await;
    node.registered(2).await;
    first.net.shutdown().await;
    drop(first);
    third.until("the terminal that has lost a home", |status| status.registered == 1).await;
    let first = start_on(at(176, &addr)).await;
    first.until("the terminal", |status| status.registered == 1).await;
    third.until("the terminal has gone", |status| status.registered == 0).await;
    let only_its_own = |status: &offhook::net::NetStatus| status.links.len() == 2;
    node.until("nothing is left of the stand-in", only_its_own).await;
    assert_eq!(homes(&node), keys(&[&first, &second]));
    let third_too = keys(&[&third]);
    let leads_there = |addr: &NodeAddr| {
        addr.relay().is_some_and(|relay| relay.peer_id().is_some_and(|id| third_too.contains(&id.to_owned())))
    };
    assert!(!node.net.addresses().iter().any(leads_there));
    // It may stand in again.
    second.net.shutdown().await;
    third.until("the terminal is back", |status| status.registered == 1).await;
}

#[tokio::test]
async fn the_stand_in_stays_a_home_until_the_other_one_has_settled() {
    let first = directory(179).await;
    let second = joined(190, &[&first]).await;
    let third = joined(191, &[&first, &second]).await;
    let addr = first.addr().await;
    let entry = [addr.clone(), second.addr().await];
    let hasty = Node::start(config(&Party::new(0), &entry, SOON)).await;
    let patient = Node::start(config(&Party::new(1), &entry, StandIns { settled: NEVER, ..SOON })).await;
    for node in [&hasty, &patient] {
        node.registered(2).await;
    }
    first.net.shutdown().await;
    drop(first);
    third.until("the terminals that have lost a home", |status| status.registered == 2).await;
    let first = start_on(at(179, &addr)).await;
    first.until("both terminals", |status| status.registered == 2).await;
    third.until("one has gone", |status| status.registered == 1).await;
    assert_eq!(homes(&hasty), keys(&[&first, &second]));
    assert_eq!(homes(&patient), keys(&[&first, &second, &third]));
    // Two of three are enough.
    second.net.shutdown().await;
    patient.registered(2).await;
    assert_eq!(homes(&patient), keys(&[&first, &third]));
}

/// A directory that holds no more terminals.
async fn full(seed: u8) -> Liar {
    let mut plan = Plan::new([seed; 32]);
    let mut otherwise = plan.script;
    plan.script = Box::new(move |request| match request {
        Request::Register { .. } => Act::Say(Response::Busy),
        other => otherwise(other),
    });
    Liar::start(plan).await
}

#[tokio::test]
async fn nodes_that_refuse_are_asked_once_and_another_one_stands_in() {
    let first = directory(192).await;
    let second = joined(193, &[&first]).await;
    let full = [full(194).await, full(196).await];
    let entry = [first.addr().await, second.addr().await];
    let node = Node::start(config(&Party::new(0), &entry, SOON)).await;
    node.registered(2).await;
    // Contacts' directories: so they come before those that are merely told of.
    node.net.keep(full.iter().map(|full| full.addr.clone()).collect()).await;
    node.until("they are candidates", |status| status.dht_nodes == 4).await;
    let third = joined(195, &[&first, &second]).await;
    first.net.shutdown().await;
    third.until("the terminal that has lost a home", |status| status.registered == 1).await;
    let asked = |request: &&Request| matches!(request, Request::Register { .. });
    for full in &full {
        assert_eq!(full.seen.lock().unwrap().requests.iter().filter(asked).count(), 1);
        // What it was before, it is again.
        let kept = |status: &offhook::net::NetStatus| {
            status.links.iter().any(|link| link.addr == full.addr && link.up && !link.home)
        };
        node.until("a contact's directory", kept).await;
    }
}
