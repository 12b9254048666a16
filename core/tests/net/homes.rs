//! Which nodes a terminal enters the network through, and what it tells of itself while there is none.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use offhook::net::{NetConfig, NetStatus, Role};
use offhook::proto::number::NodeAddr;
use tokio::net::TcpListener;

use crate::common::{Node, PATIENCE, directory, loopback};
use crate::fixture::{Party, now};
use crate::private::{tries, victim};
use crate::restart::{start_on, written};

fn config(party: &Party, entry: &[NodeAddr], data: Option<&Path>) -> NetConfig {
    let mut config = loopback(0, Role::Terminal);
    config.terminal_seed = *party.terminal.seed();
    config.cert = Some(party.cert(now()));
    config.entry = entry.to_vec();
    config.data = data.map(Path::to_owned);
    config
}

/// A directory that speaks TCP only: who knocks in vain knows at once.
fn tcp_directory(seed: u8, listen: &str) -> NetConfig {
    let mut config = loopback(seed, Role::Directory);
    config.listen = vec![listen.parse().unwrap()];
    config
}

async fn tcp_addr(node: &Node) -> NodeAddr {
    node.until("an address", |status| !status.addresses.is_empty()).await.addresses[0].clone()
}

/// Every address that the node would ever have published from now on.
fn published(node: &Node) -> Arc<Mutex<Vec<NodeAddr>>> {
    let all = Arc::new(Mutex::new(Vec::new()));
    let (seen, mut status) = (all.clone(), node.net.watch());
    tokio::spawn(async move {
        while status.changed().await.is_ok() {
            seen.lock().unwrap().extend(status.borrow_and_update().addresses.clone());
        }
    });
    all
}

/// Waits in a dead directory's place until somebody has knocked that often.
async fn knocks(addr: &NodeAddr, times: usize) {
    let mut parts = addr.as_str().split('/').skip(2).step_by(2);
    let socket: SocketAddr = format!("{}:{}", parts.next().unwrap(), parts.next().unwrap()).parse().unwrap();
    let listener = TcpListener::bind(socket).await.unwrap();
    let wait = async {
        for _ in 0..times {
            drop(listener.accept().await.unwrap());
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the terminal goes on trying");
}

#[tokio::test]
async fn the_only_remembered_entry_point_is_never_given_up() {
    let first = Node::start(tcp_directory(180, "/ip4/127.0.0.1/tcp/0")).await;
    let addr = tcp_addr(&first).await;
    let (dir, party) = (tempfile::tempdir().unwrap(), Party::new(0));
    let node = Node::start(config(&party, std::slice::from_ref(&addr), Some(dir.path()))).await;
    node.registered(1).await;
    written(dir.path()).await;
    node.net.shutdown().await;

    let node = Node::start(config(&party, &[], Some(dir.path()))).await;
    node.registered(1).await;
    let published = published(&node);
    first.net.shutdown().await;
    drop(first);
    node.until("the loss is noticed", |status| status.routes.is_empty()).await;
    knocks(&addr, 4).await;
    assert_eq!(node.net.addresses(), [], "its own address is nobody's business");

    let (listen, _) = addr.as_str().split_once("/p2p/").unwrap();
    let second = start_on(tcp_directory(180, listen)).await;
    node.registered(1).await;
    assert_eq!(second.net.status().registered, 1);
    let direct: Vec<_> =
        published.lock().unwrap().iter().filter(|addr| !addr.is_relayed()).cloned().collect();
    assert_eq!(direct, []);
}

#[tokio::test]
async fn a_peer_met_in_this_run_takes_the_place_of_an_entry_point_that_died() {
    let (first, second) = (directory(181).await, directory(182).await);
    let node = Node::start(config(&Party::new(0), &[first.addr().await], None)).await;
    node.registered(1).await;
    // A contact's directory.
    node.net.keep(vec![second.addr().await]).await;
    node.until("both have told what they are", |status| status.dht_nodes == 2).await;
    assert_eq!(second.net.status().registered, 0);
    first.net.shutdown().await;
    second.until("the terminal that has lost its home", |status| status.registered == 1).await;
    node.until("the new home", |status| status.routes.len() == 1).await;
    assert!(node.net.addresses().iter().all(NodeAddr::is_relayed));
    // It is a home like any other: there are circuits through it, and its loss is noticed at once.
    node.until("a reservation", |status| status.links.iter().any(|link| link.reserved)).await;
}

#[tokio::test]
async fn where_the_entry_point_is_full_another_node_becomes_the_home() {
    let mut config_full = loopback(188, Role::Directory);
    config_full.limits.registered = 0;
    let (full, other) = (Node::start(config_full).await, directory(189).await);
    let dir = tempfile::tempdir().unwrap();
    let party = Party::new(0);
    // It was met in an earlier run.
    let node = Node::start(config(&party, &[other.addr().await], Some(dir.path()))).await;
    node.registered(1).await;
    written(dir.path()).await;
    node.net.shutdown().await;
    other.until("it has gone", |status| status.registered == 0).await;
    let node = Node::start(config(&party, &[full.addr().await], Some(dir.path()))).await;
    node.registered(1).await;
    assert_eq!((full.net.status().registered, other.net.status().registered), (0, 1));
}

#[tokio::test]
async fn the_entry_points_of_a_link_become_the_home_of_a_terminal_that_has_none() {
    let (home, other) = (directory(184).await, directory(185).await);
    let node = Node::start(config(&Party::new(0), &[], None)).await;
    node.net.enter(vec![home.addr().await]).await;
    node.registered(1).await;
    assert_eq!(home.net.status().registered, 1);
    let addresses = node.net.addresses();
    assert!(!addresses.is_empty() && addresses.iter().all(NodeAddr::is_relayed), "{addresses:?}");
    // It has a home now; another link changes nothing, until that home is lost.
    node.net.enter(vec![other.addr().await]).await;
    node.net.keep(vec![other.addr().await]).await;
    node.until("the contact's directory", |status| status.links.iter().filter(|link| link.up).count() == 2)
        .await;
    assert_eq!((node.net.routes().len(), other.net.status().registered), (1, 0));
    home.net.shutdown().await;
    node.until("the other one", |status| {
        status.routes.first().is_some_and(|route| route.as_str().ends_with(&other.net.id().to_peer_id()))
    })
    .await;
    assert_eq!(other.net.status().registered, 1);
}

#[tokio::test]
async fn a_link_goes_before_all_the_dead_nodes_that_are_remembered() {
    let (dir, party) = (tempfile::tempdir().unwrap(), Party::new(0));
    Node::start(config(&party, &[], Some(dir.path()))).await.net.shutdown().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(dir.path().join("net.sqlite"));
    let mut raw = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let (silent, port) = victim().await;
    for n in 1..=10 {
        let dead =
            format!("/ip4/127.0.0.1/udp/{port}/quic-v1/p2p/{}", Party::new(n).terminal.public().to_peer_id());
        let remember = "INSERT INTO peers (addr, seen, chosen) VALUES (?, 1, 1)";
        sqlx::query(remember).bind(dead).execute(&mut raw).await.unwrap();
    }
    let node = Node::start(config(&party, &[], Some(dir.path()))).await;
    node.until("those that are remembered", |status| status.links.len() == 3).await;
    let home = directory(187).await;
    node.net.enter(vec![home.addr().await]).await;
    node.registered(1).await;
    // Each of the others keeps a terminal waiting for 3.5 s.
    assert!(tries(&silent) <= 3, "all that are remembered were tried before");
}

#[tokio::test]
async fn a_terminal_that_ever_knew_a_node_publishes_no_address_of_its_own() {
    // What it remembers leads nowhere, and no name can be resolved.
    let dir = tempfile::tempdir().unwrap();
    let party = Party::new(0);
    let start = || async {
        let mut config = config(&party, &[], Some(dir.path()));
        config.dns = Some("127.0.0.1:9".parse().unwrap());
        let node = Node::start(config).await;
        node.until("its listeners", |status| status.listen.len() == 2).await;
        node
    };
    let node = start().await;
    assert!(!node.net.addresses().is_empty(), "a network of its own");
    node.net.shutdown().await;
    drop(node);
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(dir.path().join("net.sqlite"));
    let mut raw = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let name = format!("/dns4/offhook.invalid/tcp/1/p2p/{}", Party::new(1).terminal.public().to_peer_id());
    sqlx::query("INSERT INTO peers (addr, seen, chosen) VALUES (?, 1, 1)")
        .bind(name)
        .execute(&mut raw)
        .await
        .unwrap();
    let node = start().await;
    assert_eq!(node.net.addresses(), []);
    // It knows by that name that this is the internet.
    let lan = directory(186).await;
    node.net.keep(vec![lan.addr().await]).await;
    node.net.enter(vec![lan.addr().await]).await;
    // Commands are taken in their order: when the look-up ends, the others are done.
    node.find(party.key()).await;
    assert_eq!(node.net.status().links.len(), 1, "a private address was taken from others");
    assert_eq!(lan.net.status().peers, 0);
}

#[tokio::test]
async fn however_many_own_addresses_are_published_the_way_through_the_directory_is() {
    let directory = directory(236).await;
    let mut config = config(&Party::new(0), &[directory.addr().await], None);
    (config.publish_direct, config.allow_private) = (true, Some(true));
    config.external =
        (1..=20).map(|n| format!("/ip4/192.0.2.{n}/udp/4001/quic-v1").parse().unwrap()).collect();
    let node = Node::start(config).await;
    // One for callers whose network lets UDP through, and one for the others.
    let relayed = |status: &NetStatus| {
        let relays = status.addresses.iter().filter_map(NodeAddr::relay);
        relays.map(|addr| addr.as_str().contains("/quic-v1")).collect::<Vec<_>>()
    };
    let status = node.until("two relayed addresses", |status| relayed(status) == [true, false]).await;
    assert_eq!(status.addresses.iter().filter(|addr| addr.relay().is_none()).count(), 14);
}
