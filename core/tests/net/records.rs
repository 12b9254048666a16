//! Publishing and looking up.

use std::time::{Duration, Instant};

use offhook::net::{LookupEvent, PublishError, Role};

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
    assert_eq!(terminal.record().addrs, [relayed.parse().unwrap()]);
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
    let directory = directory(202).await;
    let entry = [directory.addr().await];
    let alice = Party::new(0);
    let _alice_node = online(&alice, &entry).await;
    // Somebody else claims Alice's number with the key and proof of another one.
    let mut mallory = Party::new(1);
    mallory.number = alice.number.clone();
    let node = terminal(&Party::new(1), &entry).await;
    node.registered(1).await;
    let result = node.net.publish(alice.key(), mallory.set(now(), &[])).await;
    assert_eq!(result, Err(PublishError::Proof), "refused by the claimant's own node already");
    let found = node.find(alice.key()).await;
    assert_eq!(
        found.sets.last().unwrap().account.as_ref().unwrap().record().identity,
        alice.identity.public()
    );
}

#[tokio::test]
async fn a_newer_record_reaches_a_reader_who_waits() {
    let directory = directory(203).await;
    let entry = [directory.addr().await];
    let alice = Party::new(0);
    let node = online(&alice, &entry).await;
    let moved = ["/dns/example.org/udp/1/quic-v1".parse().unwrap()];
    let newer = alice.set(now(), &moved);
    let published = node.net.publish(alice.key(), newer.clone()).await.unwrap();
    assert_eq!((published.holders, published.directories), (1, 1));
    assert_eq!(node.net.held(alice.key(), &newer).await.unwrap().holders, 1);
    let bob = terminal(&Party::new(1), &entry).await;
    bob.registered(1).await;
    let found = bob.find(alice.key()).await;
    assert_eq!(found.sets.last().unwrap().terminals[0].record().addrs, moved);
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
