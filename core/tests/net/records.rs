//! Publishing and looking up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use offhook::net::{LookupEvent, PublishError, Role};
use offhook::proto::number::NodeAddr;
use offhook::proto::wire::UnixMillis;
use tokio::net::UdpSocket;

use crate::common::{Node, PATIENCE, collect, directory, loopback, online, terminal};
use crate::fixture::{Party, now};

#[tokio::test]
async fn a_published_record_is_found_by_another_terminal() {
    let directory = directory(200).await;
    let entry = [directory.addr().await];
    let (alice, bob) = (Party::new(0), Party::new(1));
    let _alice_node = online(&alice, &entry).await;
    let bob_node = terminal(&bob, &entry).await;
    bob_node.registered(1).await;
    let found = bob_node.find(alice.key()).await;
    assert!(found.complete && found.answered >= 1, "{found:?}");
    let set = found.sets.last().expect("a record");
    assert_eq!(set.account.as_ref().unwrap().record().identity, alice.identity.public());
    let terminal = &set.terminals[0];
    assert_eq!(terminal.terminal(), alice.terminal.public());
    let relayed = format!("{}/p2p-circuit/p2p/{}", entry[0], alice.terminal.public().to_peer_id());
    assert_eq!(terminal.record().addrs[0], relayed.parse().unwrap());
    let relays: Vec<_> = terminal.record().addrs.iter().map(|addr| addr.relay().unwrap()).collect();
    assert!(relays.iter().all(|relay| relay.peer_id() == entry[0].peer_id()), "{relays:?}");
}

#[tokio::test]
async fn wrong_number_and_no_network_are_told_apart() {
    let directory = directory(201).await;
    let node = terminal(&Party::new(0), &[directory.addr().await]).await;
    node.registered(1).await;
    let started = Instant::now();
    let found = node.find(Party::new(1).key()).await;
    assert!(found.sets.is_empty() && found.complete, "{found:?}");
    assert!(started.elapsed() < Duration::from_secs(5));

    let alone = terminal(&Party::new(2), &[]).await;
    let found = alone.find(Party::new(1).key()).await;
    assert!(found.sets.is_empty() && !found.complete, "{found:?}");

    // A directory that is gone says nothing about any number.
    let lost = terminal(
        &Party::new(3),
        &["/ip4/127.0.0.1/udp/9/quic-v1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
            .parse()
            .unwrap()],
    )
    .await;
    let found = lost.find(Party::new(1).key()).await;
    assert!(found.sets.is_empty() && !found.complete, "{found:?}");
    assert!(started.elapsed() < PATIENCE);
}

#[tokio::test]
async fn publishing_needs_somebody_who_holds_it() {
    let party = Party::new(0);
    let gone = "/ip4/127.0.0.1/udp/9/quic-v1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    let alone = terminal(&party, &[gone.parse().unwrap()]).await;
    let set = party.set(now(), &[]);
    assert_eq!(alone.net.publish(party.key(), set.clone()).await, Err(PublishError::Offline));
    // It is held here all the same.
    assert_eq!(alone.find(party.key()).await.sets.len(), 1);
    let wrong = Party::new(1).key();
    assert!(matches!(alone.net.publish(wrong, set).await, Err(PublishError::Invalid(_))));
}

#[tokio::test]
async fn the_incumbent_keeps_the_number() {
    // Both have a certificate for the number and a proof: only who came first decides.
    let directory = directory(202).await;
    let entry = [directory.addr().await];
    let (alice, mallory) = (Party::chosen(0), Party::chosen(1));
    assert_eq!(alice.key(), mallory.key());
    let _alice_node = online(&alice, &entry).await;
    let node = terminal(&mallory, &entry).await;
    node.registered(1).await;
    // Its own node knows nothing of Alice; the directory does.
    let result = node.net.publish(mallory.key(), mallory.set(now(), &node.net.addresses())).await;
    assert_eq!(result, Err(PublishError::Incumbent));
    let bob = terminal(&Party::new(2), &entry).await;
    bob.registered(1).await;
    let found = bob.find(alice.key()).await;
    let identities: Vec<_> =
        found.sets.iter().map(|set| set.account.as_ref().unwrap().record().identity).collect();
    assert!(!identities.is_empty());
    assert!(identities.iter().all(|identity| *identity == alice.identity.public()), "{identities:?}");
}

#[tokio::test]
async fn a_number_without_a_proof_is_refused_by_the_claimants_own_node() {
    let directory = directory(206).await;
    let entry = [directory.addr().await];
    // Somebody claims Alice's number with the key and proof of another one.
    let alice = Party::new(0);
    let mut mallory = Party::new(1);
    mallory.number = alice.number.clone();
    let node = terminal(&Party::new(1), &entry).await;
    node.registered(1).await;
    let result = node.net.publish(alice.key(), mallory.set(now(), &[])).await;
    assert_eq!(result, Err(PublishError::Proof));
    assert_eq!(directory.net.status().records, 0);
}

#[tokio::test]
async fn a_newer_record_reaches_a_reader_who_waits() {
    // Two directories that don't know each other: the near one has the old record, the far one the newer.
    let (near, far) = (directory(203).await, directory(207).await);
    let (alice, before) = (Party::new(0), UnixMillis(now().0 - 60_000));
    let places = ["/dns/old.example/udp/1/quic-v1", "/dns/new.example/udp/1/quic-v1"];
    for (holder, seq, place) in [(&near, before, places[0]), (&far, now(), places[1])] {
        let node = terminal(&alice, &[holder.addr().await]).await;
        node.registered(1).await;
        let set = alice.set(seq, &[place.parse().unwrap()]);
        let published = node.net.publish(alice.key(), set.clone()).await.unwrap();
        assert_eq!((published.holders, published.directories), (1, 1));
        assert_eq!(node.net.held(alice.key(), &set).await.unwrap().holders, 1);
        node.net.shutdown().await;
    }
    let slow = delayed(&far.addr().await, Duration::from_millis(150)).await;
    let bob = terminal(&Party::new(1), &[near.addr().await, slow]).await;
    bob.registered(2).await;
    let found = bob.find(alice.key()).await;
    let mut seen: Vec<_> = found.sets.iter().map(|set| set.terminals[0].record().addrs[0].as_str()).collect();
    // Each node that has it says since when.
    seen.dedup();
    assert_eq!(seen, places, "the old one at once, then the newer one");
}

/// The same node further away: datagrams take so long in each direction.
async fn delayed(addr: &NodeAddr, delay: Duration) -> NodeAddr {
    let port: u16 = addr.as_str().split('/').nth(4).unwrap().parse().unwrap();
    let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let back = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    back.connect(("127.0.0.1", port)).await.unwrap();
    let here = front.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut out, mut home) = ([0; 2_000], [0; 2_000]);
        let mut client = None;
        loop {
            tokio::select! {
                Ok((length, from)) = front.recv_from(&mut out) => {
                    client = Some(from);
                    let (back, packet) = (back.clone(), out[..length].to_vec());
                    tokio::spawn(async move {
                        tokio::time::sleep(delay).await;
                        let _ = back.send(&packet).await;
                    });
                }
                Ok(length) = back.recv(&mut home) => {
                    let (front, packet, to) = (front.clone(), home[..length].to_vec(), client.unwrap());
                    tokio::spawn(async move {
                        tokio::time::sleep(delay).await;
                        let _ = front.send_to(&packet, to).await;
                    });
                }
            }
        }
    });
    addr.as_str().replace(&format!("/udp/{port}/"), &format!("/udp/{here}/")).parse().unwrap()
}

#[tokio::test]
async fn a_disk_that_fails_keeps_no_number_off_the_network() {
    let directory = directory(208).await;
    let (dir, alice) = (tempfile::tempdir().unwrap(), Party::new(0));
    let mut config = loopback(0, Role::Terminal);
    config.terminal_seed = *alice.terminal.seed();
    config.cert = Some(alice.cert(now()));
    config.entry = vec![directory.addr().await];
    config.data = Some(dir.path().to_owned());
    let node = Node::start(config).await;
    node.registered(1).await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(dir.path().join("net.sqlite"));
    let mut raw = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let fill = "CREATE TRIGGER full BEFORE INSERT ON records BEGIN SELECT RAISE(ABORT, 'disk full'); END";
    sqlx::raw_sql(fill).execute(&mut raw).await.unwrap();
    let set = alice.set(now(), &node.net.addresses());
    assert_eq!(node.net.hold(alice.key(), set.clone()).await, Err(PublishError::Disk));
    assert_eq!(node.net.publish(alice.key(), set).await.unwrap().holders, 1);
}

#[tokio::test]
async fn a_terminal_whose_certificate_has_expired_is_not_published_without_itself() {
    let directory = directory(209).await;
    let alice = Party::new(0);
    let node = terminal(&alice, &[directory.addr().await]).await;
    node.registered(1).await;
    let mut record = alice.terminal_record(now(), &node.net.addresses());
    record.cert = alice.cert(UnixMillis(now().0 - 500 * 86_400_000));
    let mut set = alice.set(now(), &[]);
    set.terminals = vec![record.sign(&alice.terminal)];
    assert_eq!(node.net.publish(alice.key(), set.clone()).await, Err(PublishError::Untimely));
    assert_eq!(node.net.held(alice.key(), &set).await, Err(PublishError::Untimely));
    assert_eq!(directory.net.status().records, 0);
}

#[tokio::test]
async fn nobody_else_there_is_offline_for_the_first_node_of_a_network_too() {
    let alice = Party::new(0);
    let alone = terminal(&alice, &[]).await;
    let set = alice.set(now(), &[]);
    assert_eq!(alone.net.publish(alice.key(), set).await, Err(PublishError::Offline));
    let mut config = loopback(0, Role::Server);
    config.terminal_seed = *alice.terminal.seed();
    let first = Node::start(config).await;
    let set = alice.set(now(), &[first.addr().await]);
    assert_eq!(first.net.publish(alice.key(), set).await, Err(PublishError::Offline));
    // It is held all the same, for whoever comes.
    let bob = terminal(&Party::new(1), &[first.addr().await]).await;
    bob.until("the link", |status| status.links.iter().any(|link| link.up)).await;
    assert!(!bob.find(alice.key()).await.sets.is_empty());
}

#[tokio::test]
async fn the_first_find_is_told_before_the_search_ends() {
    let directory = directory(204).await;
    let entry = [directory.addr().await];
    let alice = Party::new(0);
    let _alice_node = online(&alice, &entry).await;
    let bob = terminal(&Party::new(1), &entry).await;
    bob.registered(1).await;
    let mut lookup = bob.net.lookup(alice.key(), &[]);
    let first = tokio::time::timeout(PATIENCE, lookup.next()).await.unwrap();
    assert!(matches!(first, Some(LookupEvent::Found { .. })));
    // Dropping it ends it, and the next one finds nothing amiss.
    drop(lookup);
    assert!(!collect(bob.net.lookup(alice.key(), &[])).await.sets.is_empty());
}

#[tokio::test]
async fn one_known_peer_is_enough_without_any_directory() {
    // A terminal with an external address, and two that know nobody but it.
    let known = Node::start(loopback(210, Role::Server)).await;
    let entry = [known.addr().await];
    let (alice, bob) = (Party::new(0), Party::new(1));
    let mut alice_node = online(&alice, &entry).await;
    let bob_node = online(&bob, &entry).await;
    let found = bob_node.find(alice.key()).await;
    let target = crate::signalling::target_of(found.sets.last().unwrap());
    bob_node.net.signal(target, b"hello".to_vec()).await.unwrap();
    assert_eq!(alice_node.packet().await.blob, b"hello");
}

#[tokio::test]
async fn the_dht_holds_what_its_publishers_directory_never_saw() {
    // Five serving nodes; Alice and Bob know different ones.
    let first = directory(220).await;
    let entry = first.addr().await;
    let mut nodes = vec![];
    for n in 1..5 {
        let mut config = loopback(220 + n, Role::Directory);
        config.entry = vec![entry.clone()];
        nodes.push(Node::start(config).await);
    }
    for node in &nodes {
        node.until("a routing table", |status| status.dht_nodes >= 3).await;
    }
    let alice = Party::new(0);
    let alice_node = online(&alice, &[nodes[0].addr().await]).await;
    let published = alice_node.net.held(alice.key(), &alice.set(now(), &[])).await;
    assert!(published.is_err(), "nobody can hold a record newer than the one published");
    let bob = terminal(&Party::new(1), &[nodes[3].addr().await]).await;
    bob.registered(1).await;
    let found = bob.find(alice.key()).await;
    assert!(found.complete && !found.sets.is_empty(), "{found:?}");
    // And without the directory that Alice is registered with.
    nodes.remove(0).net.shutdown().await;
    let found = bob.find(alice.key()).await;
    assert!(!found.sets.is_empty(), "{found:?}");
}
