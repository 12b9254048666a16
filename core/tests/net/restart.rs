//! What is left when nodes go and come back, and how the first one is found.

use std::net::SocketAddr;

use offhook::net::{NetConfig, NetEvent, PublishError, Role};
use offhook::proto::number::NodeAddr;
use tokio::net::UdpSocket;

use crate::common::{Node, directory, loopback, online, terminal};
use crate::fixture::{PARTIES, Party, now};

/// A directory with a disk; always the same key.
fn with_disk(dir: &std::path::Path, listen: Option<&NodeAddr>) -> NetConfig {
    let mut config = loopback(160, Role::Directory);
    config.data = Some(dir.to_owned());
    if let Some(addr) = listen {
        let (transport, _) = addr.as_str().split_once("/p2p/").unwrap();
        config.listen = vec![transport.parse().unwrap()];
    }
    config
}

/// Starts a node on a port that its predecessor in this process may not quite have left.
pub async fn start_on(config: NetConfig) -> Node {
    let start = async {
        loop {
            match offhook::net::Net::start(config.clone()).await {
                Ok((net, events)) => return Node { net, events },
                Err(offhook::net::NetError::Listen { reason, .. }) => {
                    assert!(reason.contains("in use"), "{reason}");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::time::timeout(crate::common::PATIENCE, start).await.expect("the port is free in the end")
}

#[tokio::test]
async fn a_directory_comes_back_with_its_records_and_its_terminals() {
    let dir = tempfile::tempdir().unwrap();
    let first = Node::start(with_disk(dir.path(), None)).await;
    let addr = first.addr().await;
    let entry = [addr.clone()];
    let alice = Party::new(0);
    let mut node = online(&alice, &entry).await;
    first.net.shutdown().await;
    drop(first);
    node.until("the loss is noticed", |status| status.routes.is_empty()).await;
    let second = start_on(with_disk(dir.path(), Some(&addr))).await;
    assert_eq!(second.addr().await, addr);
    node.registered(1).await;
    let mut down_and_up = (false, false);
    while let Ok(event) = node.events.try_recv() {
        down_and_up.0 |= matches!(event, NetEvent::EntryDown { .. });
        down_and_up.1 |= down_and_up.0 && matches!(event, NetEvent::EntryUp { .. });
    }
    assert_eq!(down_and_up, (true, true));
    // Nobody has published since.
    let bob = terminal(&Party::new(1), &entry).await;
    bob.registered(1).await;
    assert!(!bob.find(alice.key()).await.sets.is_empty());
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_when_a_directory_is_dropped_at_any_moment() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for n in 0..PARTIES {
        let node = Node::start(with_disk(dir.path(), None)).await;
        let party = Party::new(n);
        let publisher = online(&party, &[node.addr().await]).await;
        acknowledged.push(party.key());
        // Without a word: tasks die where they are, nothing is flushed.
        drop(node);
        drop(publisher);
    }
    let node = Node::start(with_disk(dir.path(), None)).await;
    let reader = terminal(&Party::new(0), &[node.addr().await]).await;
    reader.registered(1).await;
    for key in acknowledged {
        assert!(!reader.find(key).await.sets.is_empty(), "an acknowledged record is lost");
    }
}

/// Waits until a peer is on disk: when it has told what it is, which is not shown anywhere else.
pub async fn written(dir: &std::path::Path) {
    let written = async {
        loop {
            let options = sqlx::sqlite::SqliteConnectOptions::new().filename(dir.join("net.sqlite"));
            let mut raw = sqlx::ConnectOptions::connect(&options).await.unwrap();
            let peers: i64 =
                sqlx::query_scalar("SELECT count(*) FROM peers").fetch_one(&mut raw).await.unwrap();
            if peers > 0 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::common::PATIENCE, written).await.unwrap();
}

#[tokio::test]
async fn a_terminal_remembers_whom_it_met() {
    let directory = directory(161).await;
    let dir = tempfile::tempdir().unwrap();
    let party = Party::new(0);
    let config = |entry: Vec<NodeAddr>| {
        let mut config = loopback(0, Role::Terminal);
        config.terminal_seed = *party.terminal.seed();
        config.cert = Some(party.cert(now()));
        config.entry = entry;
        config.data = Some(dir.path().to_owned());
        config
    };
    let node = Node::start(config(vec![directory.addr().await])).await;
    node.registered(1).await;
    node.until("identified", |status| status.dht_nodes == 1).await;
    written(dir.path()).await;
    node.net.shutdown().await;
    drop(node);
    let again = Node::start(config(Vec::new())).await;
    again.registered(1).await;
}

#[tokio::test]
async fn an_entry_point_may_be_a_name() {
    let directory = directory(162).await;
    let dns = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = dns.local_addr().unwrap();
    let answer = format!("dnsaddr={}", directory.addr().await);
    tokio::spawn(serve_names(dns, TXT, vec![text(&answer)]));
    let party = Party::new(0);
    let mut config = loopback(0, Role::Terminal);
    config.terminal_seed = *party.terminal.seed();
    config.cert = Some(party.cert(now()));
    config.entry = vec!["/dnsaddr/entry.offhook.test".parse().unwrap()];
    config.dns = Some(server);
    config.allow_private = Some(true);
    let node = Node::start(config).await;
    node.registered(1).await;
    let address = node.net.addresses().remove(0);
    assert!(address.as_str().starts_with("/ip4/127.0.0.1/udp/"), "{address}");
}

/// The directories behind a name may be dead or die: the others are tried, in whichever order they are told.
#[tokio::test]
async fn a_name_leads_to_whichever_of_its_directories_is_alive() {
    let (silent, port) = crate::private::victim().await;
    let dead = Party::new(9).terminal.public().to_peer_id();
    let dead = format!("dnsaddr=/ip4/127.0.0.1/udp/{port}/quic-v1/p2p/{dead}");
    let (first, second) = (directory(163).await, directory(164).await);
    let mut alive = Vec::new();
    for node in [&first, &second] {
        alive.push(format!("dnsaddr={}", node.addr().await));
    }
    for dead_first in [true, false] {
        let dns = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut config = loopback(0, Role::Terminal);
        let party = Party::new(0);
        config.terminal_seed = *party.terminal.seed();
        config.cert = Some(party.cert(now()));
        config.entry = vec!["/dnsaddr/entry.offhook.test".parse().unwrap()];
        config.dns = Some(dns.local_addr().unwrap());
        config.allow_private = Some(true);
        let mut answers: Vec<_> = alive.iter().map(|answer| text(answer)).collect();
        answers.insert(if dead_first { 0 } else { 2 }, text(&dead));
        tokio::spawn(serve_names(dns, TXT, answers));
        let node = Node::start(config).await;
        node.registered(1).await;
        if dead_first {
            continue;
        }
        let used = [&first, &second].into_iter().find(|node| node.net.status().registered == 1).unwrap();
        used.net.shutdown().await;
        let other = if used.net.id() == first.net.id() { &second } else { &first };
        other.until("the terminal that has lost its directory", |status| status.registered == 1).await;
    }
    assert!(crate::private::tries(&silent) > 0, "the dead one was tried");
}

/// The type of a record of text (RFC 1035 section 3.3.14): a list of strings with their lengths.
const TXT: u8 = 16;

fn text(value: &str) -> Vec<u8> {
    [&[u8::try_from(value.len()).unwrap()], value.as_bytes()].concat()
}

/// A name server with some records of a type for every name, whatever it is asked (RFC 1035 section 4).
pub async fn serve_names(socket: UdpSocket, kind: u8, records: Vec<Vec<u8>>) {
    let mut buffer = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        let query = &buffer[..length];
        // The question ends four bytes after the name's closing zero.
        let Some(end) = query[12..].iter().position(|byte| *byte == 0).map(|at| 12 + at + 5) else {
            continue;
        };
        let mut reply = query[..2].to_vec();
        reply.extend([0x81, 0x80, 0, 1, 0, u8::try_from(records.len()).unwrap(), 0, 0, 0, 0]);
        reply.extend(&query[12..end]);
        for data in &records {
            // The name of the question, the type, IN, one minute.
            reply.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60]);
            reply.extend((data.len() as u16).to_be_bytes());
            reply.extend(data);
        }
        send(&socket, &reply, from).await;
    }
}

async fn send(socket: &UdpSocket, reply: &[u8], to: SocketAddr) {
    socket.send_to(reply, to).await.unwrap();
}

#[tokio::test]
async fn terminals_of_one_network_find_each_other_by_mdns() {
    let mut alice_node = neighbour(Party::new(0), &[]).await;
    let bob_node = neighbour(Party::new(1), &[]).await;
    let alice = Party::new(0);
    let addrs = alice_node.until("an address", |status| !status.addresses.is_empty()).await.addresses;
    // Nobody else holds it, so it is not on line; but it is held and served here.
    let published = alice_node.net.publish(alice.key(), alice.set(now(), &addrs)).await;
    assert_eq!(published, Err(PublishError::Offline));
    reach(&bob_node, &mut alice_node).await;
}

#[tokio::test]
async fn neighbours_find_each_other_though_their_directory_is_out_of_reach() {
    // A public one, so nobody's private address counts, but those of neighbours.
    let gone = format!("/dns4/offhook.invalid/tcp/1/p2p/{}", Party::new(9).terminal.public().to_peer_id());
    let entry = [gone.parse().unwrap()];
    let mut alice_node = neighbour(Party::new(0), &entry).await;
    let bob_node = neighbour(Party::new(1), &entry).await;
    let alice = Party::new(0);
    assert_eq!(alice_node.net.addresses(), []);
    let only_who = NodeAddr::of_peer(&alice.terminal.public());
    alice_node.net.hold(alice.key(), alice.set(now(), &[only_who])).await.unwrap();
    reach(&bob_node, &mut alice_node).await;
}

/// A terminal that looks around on the local network.
async fn neighbour(party: Party, entry: &[NodeAddr]) -> Node {
    let mut config = NetConfig::new(*party.terminal.seed(), Role::Terminal);
    config.cert = Some(party.cert(now()));
    config.entry = entry.to_vec();
    config.dns = Some("127.0.0.1:9".parse().unwrap());
    config.mdns = true;
    Node::start(config).await
}

/// Bob finds Alice and writes to her.
async fn reach(bob_node: &Node, alice_node: &mut Node) {
    let find = async {
        loop {
            let found = bob_node.find(Party::new(0).key()).await;
            if let Some(set) = found.sets.last() {
                return crate::signalling::target_of(set);
            }
        }
    };
    let target =
        tokio::time::timeout(crate::common::PATIENCE, find).await.expect("found on the local network");
    bob_node.net.signal(target, b"hello".to_vec()).await.unwrap();
    assert_eq!(alice_node.packet().await.from, Party::new(1).terminal.public());
}
