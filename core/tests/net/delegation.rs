//! Terminals that leave the DHT to their directories, and directories that don't do as they should.

use std::time::{Duration, Instant};

use libp2p::PeerId;
use offhook::net::{PublishError, Role};
use offhook::proto::number::NodeAddr;
use offhook::proto::record::RecordSet;
use offhook::proto::service::{Request, Response, Sought, SoughtSet, Want};
use offhook::proto::wire::UnixMillis;

use crate::common::{Found, Node, directory, loopback, online, terminal};
use crate::fixture::{Party, now};
use crate::liar::{Act, Liar, Plan, Script, mined, welcome};

/// Serving nodes that know each other; the first is everybody's entry point.
async fn network(seed: u8, nodes: u8) -> Vec<Node> {
    let first = directory(seed).await;
    let entry = first.addr().await;
    let mut all = vec![first];
    for n in 1..nodes {
        let mut config = loopback(seed + n, Role::Directory);
        config.entry = vec![entry.clone()];
        all.push(Node::start(config).await);
    }
    for node in &all {
        node.until("a routing table", |status| status.dht_nodes >= usize::from(nodes) - 1).await;
    }
    all
}

/// A directory that holds no records and is part of a network.
async fn holding_nothing(seed: u8, network: &[Node]) -> Node {
    let mut config = loopback(seed, Role::Directory);
    config.entry = vec![network[0].addr().await];
    config.limits.records = 0;
    let node = Node::start(config).await;
    node.until("a routing table", |status| status.dht_nodes >= network.len()).await;
    node
}

/// A directory that does no DHT work for others, and is part of a network.
async fn unwilling(seed: u8, network: &[Node]) -> Node {
    let mut config = loopback(seed, Role::Directory);
    config.entry = vec![network[0].addr().await];
    config.limits.delegated_per_peer = 0;
    config.limits.records = 0;
    let node = Node::start(config).await;
    node.until("a routing table", |status| status.dht_nodes >= network.len()).await;
    node
}

async fn registered(party: &Party, entry: &[NodeAddr]) -> Node {
    let node = terminal(party, entry).await;
    node.registered(entry.len()).await;
    node
}

fn newest(found: &Found) -> UnixMillis {
    found.sets.last().expect("a record").terminals.first().expect("a terminal").record().seq
}

#[tokio::test]
async fn a_directory_finds_what_it_does_not_hold() {
    let nodes = network(10, 4).await;
    let alice = Party::new(0);
    let _alice_node = online(&alice, &[nodes[1].addr().await]).await;
    let empty = holding_nothing(20, &nodes).await;
    let bob = registered(&Party::new(1), &[empty.addr().await]).await;
    let found = bob.find(alice.key()).await;
    assert!(found.complete && !found.sets.is_empty(), "{found:?}");
    assert_eq!(empty.net.status().records, 0);
    assert_eq!(bob.net.status().peers, 1, "nobody but the directory was asked");
    let wrong = bob.find(Party::new(2).key()).await;
    assert!(wrong.complete && wrong.sets.is_empty(), "{wrong:?}");
    assert_eq!(bob.net.status().peers, 1);
}

#[tokio::test]
async fn a_directory_publishes_to_nodes_that_the_terminal_never_meets() {
    let nodes = network(30, 5).await;
    let alice = Party::new(0);
    let node = registered(&alice, &[nodes[1].addr().await]).await;
    let set = alice.set(now(), &node.net.addresses());
    let published = node.net.publish(alice.key(), set.clone()).await.unwrap();
    assert_eq!((published.holders, published.asked, published.directories), (5, 5, 1));
    assert_eq!(node.net.held(alice.key(), &set).await.unwrap().holders, 5);
    assert_eq!(node.net.status().peers, 1);
    for holder in &nodes {
        holder.until("the record", |status| status.records == 1).await;
    }
}

#[tokio::test]
async fn every_directory_of_a_terminal_holds_a_copy() {
    let nodes = network(40, 3).await;
    let aside = directory(45).await;
    let alice = Party::new(0);
    let entry = [nodes[1].addr().await, aside.addr().await];
    let node = registered(&alice, &entry).await;
    let set = alice.set(now(), &node.net.addresses());
    let published = node.net.publish(alice.key(), set).await.unwrap();
    assert_eq!(published.directories, 2);
    assert_eq!(aside.net.status().records, 1);
}

#[tokio::test]
async fn a_directory_that_refuses_is_passed_over() {
    let nodes = network(50, 3).await;
    let alice = Party::new(0);
    let _alice_node = online(&alice, &[nodes[1].addr().await]).await;
    let no = unwilling(55, &nodes).await;
    let bob = registered(&Party::new(1), &[no.addr().await, nodes[2].addr().await]).await;
    assert!(!bob.find(alice.key()).await.sets.is_empty());
    let bobs = Party::new(1).set(now(), &bob.net.addresses());
    assert!(bob.net.publish(Party::new(1).key(), bobs).await.unwrap().holders >= 3);
    assert_eq!(bob.net.status().peers, 2, "nobody else was asked");
}

#[tokio::test]
async fn with_nobody_to_do_it_a_terminal_looks_up_by_itself_but_does_not_publish() {
    let nodes = network(60, 3).await;
    let alice = Party::new(0);
    let _alice_node = online(&alice, &[nodes[1].addr().await]).await;
    let no = unwilling(65, &nodes).await;
    let bob = Party::new(1);
    let bob_node = registered(&bob, &[no.addr().await]).await;
    // Its directory has too much to do: that is no reason to show its address to who lies in wait near its number.
    let set = bob.set(now(), &bob_node.net.addresses());
    assert_eq!(bob_node.net.publish(bob.key(), set).await, Err(PublishError::NotHeld(1)));
    assert_eq!(bob_node.net.status().peers, 1);
    let found = bob_node.find(alice.key()).await;
    assert!(!found.sets.is_empty(), "{found:?}");
    assert!(bob_node.net.status().peers > 1);
    let wrong = bob_node.find(Party::new(2).key()).await;
    assert!(wrong.complete && wrong.sets.is_empty(), "{wrong:?}");
}

/// Answers like a directory; `seek` says what to do when asked for the DHT, `publish` when asked to publish.
fn liar(seek: impl Fn(Want) -> Act + Send + 'static, publish: impl Fn() -> Act + Send + 'static) -> Script {
    Box::new(move |request| match request {
        Request::Hello | Request::Register { .. } => Act::Say(welcome()),
        Request::Find { .. } => Act::Say(Response::Found { set: None, since: None }),
        Request::Seek { want, .. } => seek(*want),
        Request::Publish { .. } => publish(),
        Request::Store { .. } => Act::Say(Response::Stored),
        Request::Forward { .. }
        | Request::Deliver { .. }
        | Request::Relay { .. }
        | Request::KnockWanted { .. }
        | Request::KnockAt { .. }
        | Request::Knock { .. } => Act::Say(Response::Busy),
    })
}

async fn lying(seed: u8, seek: impl Fn(Want) -> Act + Send + 'static) -> Liar {
    let script = liar(seek, || Act::Say(Response::Busy));
    Liar::start(Plan { script, ..Plan::new([seed; 32]) }).await
}

fn nothing() -> Response {
    Response::Sought(Sought { sets: Vec::new(), complete: true, answered: 20 })
}

fn finding(set: &RecordSet) -> Response {
    let sets = vec![SoughtSet { set: set.encode(), holders: vec![20; 1 + set.terminals.len()] }];
    Response::Sought(Sought { sets, complete: true, answered: 20 })
}

#[tokio::test]
async fn a_directory_that_dies_in_the_middle_is_made_up_for() {
    let nodes = network(70, 3).await;
    let alice = Party::new(0);
    let _alice_node = online(&alice, &[nodes[1].addr().await]).await;
    let dying = lying(75, |_| Act::HangUp).await;
    let honest = holding_nothing(76, &nodes).await;
    let bob = registered(&Party::new(1), &[dying.addr.clone(), honest.addr().await]).await;
    let found = bob.find(alice.key()).await;
    assert!(!found.sets.is_empty(), "{found:?}");
    // Alone it leaves the terminal with nobody to ask. That is not a wrong number.
    let dying = lying(77, |_| Act::HangUp).await;
    let carol = registered(&Party::new(2), std::slice::from_ref(&dying.addr)).await;
    let found = carol.find(alice.key()).await;
    assert!(found.sets.is_empty() && !found.complete, "{found:?}");
}

#[tokio::test]
async fn a_silent_directory_delays_nobody_and_hides_no_wrong_number() {
    let nodes = network(80, 3).await;
    let alice = Party::new(0);
    let _alice_node = online(&alice, &[nodes[1].addr().await]).await;
    let silent = lying(85, |_| Act::Hold).await;
    let honest = holding_nothing(86, &nodes).await;
    let bob = registered(&Party::new(1), &[silent.addr.clone(), honest.addr().await]).await;
    let found = bob.find(alice.key()).await;
    assert!(!found.sets.is_empty(), "{found:?}");
    let wrong = bob.find(Party::new(2).key()).await;
    assert!(wrong.sets.is_empty() && wrong.complete, "{wrong:?}");
    assert_eq!(bob.net.status().peers, 2);
}

#[tokio::test]
async fn lying_directories_do_no_harm() {
    let nodes = network(90, 3).await;
    let (alice, mallory) = (Party::new(0), Party::new(1));
    let long_ago = UnixMillis(now().0 - 60_000);
    let old = alice.set(long_ago, &[]);
    let _alice_node = online(&alice, &[nodes[1].addr().await]).await;
    let forged = RecordSet {
        account: Some(alice.account_record(now()).sign(&mallory.identity)),
        terminals: Vec::new(),
    };
    let mut claimed = mallory.account_record(now());
    claimed.number = alice.number.clone();
    let claimed = RecordSet { account: Some(claimed.sign(&mallory.identity)), terminals: Vec::new() };
    let lies = [
        ("an old record", finding(&old)),
        ("a forged record", finding(&forged)),
        ("a bad proof", finding(&claimed)),
        ("somebody else's record", finding(&mallory.set(now(), &[]))),
        ("nothing", nothing()),
    ];
    let honest = holding_nothing(95, &nodes).await;
    for (n, (what, lie)) in lies.into_iter().enumerate() {
        let liar = lying(180 + n as u8, move |_| Act::Say(lie.clone())).await;
        let bob = registered(&Party::new(2), &[liar.addr.clone(), honest.addr().await]).await;
        let found = bob.find(alice.key()).await;
        assert!(newest(&found) > long_ago, "{what}: {found:?}");
        let owner = |set: &offhook::proto::record::CheckedSet| set.account.as_ref().unwrap().identity;
        assert!(found.sets.iter().all(|set| owner(set) == alice.identity.public()), "{what}: {found:?}");
        assert!(liar.seen.lock().unwrap().requests.iter().any(|r| matches!(r, Request::Seek { .. })));
    }
}

/// A directory passes on what a node of the DHT sent first; if the proof turns out bad, it is asked for a proven one.
#[tokio::test]
async fn a_bad_first_find_is_followed_by_a_proven_one() {
    let (alice, mallory) = (Party::new(0), Party::new(1));
    let mut claimed = mallory.account_record(now());
    claimed.number = alice.number.clone();
    let claimed = RecordSet { account: Some(claimed.sign(&mallory.identity)), terminals: Vec::new() };
    let good = alice.set(now(), &[]);
    let hasty = lying(190, move |want| match want {
        Want::First => Act::Say(finding(&claimed)),
        Want::Proven => Act::Say(finding(&good)),
        // Its query takes its time.
        Want::All => Act::Hold,
    })
    .await;
    let bob = registered(&Party::new(2), std::slice::from_ref(&hasty.addr)).await;
    let found = bob.find(alice.key()).await;
    assert_eq!(found.sets.len(), 1, "{found:?}");
    assert_eq!(found.sets[0].account.as_ref().unwrap().identity, alice.identity.public());
}

#[tokio::test]
async fn a_directory_that_only_says_it_published_is_found_out() {
    let nodes = network(120, 3).await;
    let alice = Party::new(0);
    let set = alice.set(now(), &[]);
    let claim = finding(&set);
    let script = liar(move |_| Act::Say(claim.clone()), || Act::Say(Response::Published { nodes: 20 }));
    let liar = Liar::start(Plan { script, ..Plan::new([125; 32]) }).await;
    let entry = [liar.addr.clone(), nodes[1].addr().await];
    let node = registered(&alice, &entry).await;
    let published = node.net.publish(alice.key(), set).await.unwrap();
    assert!(published.holders >= 3, "{published:?}");
    let asked = |seen: &crate::liar::Seen| seen.requests.iter().any(|r| matches!(r, Request::Publish { .. }));
    assert!(asked(&liar.seen.lock().unwrap()), "the liar was to publish first");
    for holder in &nodes {
        holder.until("the record", |status| status.records == 1).await;
    }
}

/// A directory that finds nothing of what another one published, and does not publish it either, keeps nobody off the
/// network.
#[tokio::test]
async fn a_directory_that_denies_a_publication_stops_nobody() {
    let nodes = network(127, 3).await;
    let alice = Party::new(0);
    let denying = lying(195, |_| Act::Say(nothing())).await;
    let node = registered(&alice, &[nodes[1].addr().await, denying.addr.clone()]).await;
    let published = node.net.publish(alice.key(), alice.set(now(), &[])).await.unwrap();
    assert!(published.holders >= 3, "{published:?}");
    let asked = |seen: &crate::liar::Seen| seen.requests.iter().any(|r| matches!(r, Request::Seek { .. }));
    assert!(asked(&denying.seen.lock().unwrap()), "the denying one was asked to read back");
}

#[tokio::test]
async fn one_dead_node_among_the_closest_hides_no_wrong_number() {
    let nodes = network(130, 3).await;
    // Somebody recommends a node that takes packets and never answers.
    let hole = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = hole.local_addr().unwrap().port();
    let dead = PeerId::random();
    let recommended = vec![(dead, format!("/ip4/127.0.0.1/udp/{port}/quic-v1/p2p/{dead}").parse().unwrap())];
    let liar = Liar::start(Plan { recommended, ..Plan::new([135; 32]) }).await;
    liar.meet(&nodes[1].addr().await).await;
    nodes[1].until("the liar's acquaintance", |status| status.dht_nodes >= 3).await;
    let bob = registered(&Party::new(1), &[nodes[1].addr().await]).await;
    let started = Instant::now();
    let found = bob.find(Party::new(2).key()).await;
    assert!(found.sets.is_empty() && found.complete, "{found:?}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let mut packet = [0; 2_000];
    let tried = tokio::time::timeout(Duration::from_secs(1), hole.recv(&mut packet)).await;
    assert!(tried.is_ok(), "the dead node was not even tried: this shows nothing");
}

#[tokio::test]
async fn nobody_gets_more_than_a_share_of_a_directorys_work() {
    let busy = directory(140).await;
    let alice = Party::new(0);
    let entry = [busy.addr().await];
    let alice_node = online(&alice, &entry).await;
    let greedy = Liar::start(Plan::new([141; 32])).await;
    let peer = greedy.meet(&entry[0]).await;
    let seek = |n: u8| Request::Seek { key: [n; 32], want: Want::All };
    let mut answers = Vec::new();
    for n in 0..4 {
        answers.extend(greedy.ask_all(peer, (50 * n..50 * n + 50).map(seek).collect()).await);
    }
    let sought = answers.iter().filter(|answer| matches!(answer, Some(Response::Sought(_)))).count();
    let refused = answers.iter().filter(|answer| matches!(answer, Some(Response::Busy))).count();
    // Ten seconds' worth of four a second, and what a slow test gets beyond it.
    assert!((1..=100).contains(&sought), "{sought} of 200 were answered");
    assert!(refused >= 100 && sought + refused == 200, "{refused} of 200 were refused");
    let publish = Request::Publish { key: alice.key().0, set: alice.set(now(), &[]).encode() };
    assert_eq!(greedy.ask_all(peer, vec![publish]).await, [Some(Response::Busy)]);
    // Others are served as ever.
    let bob = registered(&Party::new(1), &entry).await;
    let found = bob.find(alice.key()).await;
    assert!(found.complete && !found.sets.is_empty(), "{found:?}");
    let newer = alice.set(now(), &alice_node.net.addresses());
    assert!(alice_node.net.publish(alice.key(), newer).await.is_ok());
}

#[tokio::test]
async fn a_source_shares_what_its_peers_may_ask() {
    let mut config = loopback(145, Role::Directory);
    config.limits.delegated_per_source = 1;
    let node = Node::start(config).await;
    let addr = node.addr().await;
    let mut sought = 0;
    for n in 0..4 {
        let peer_of_many = Liar::start(Plan::new([146 + n; 32])).await;
        let peer = peer_of_many.meet(&addr).await;
        let seek = |k: u8| Request::Seek { key: [k; 32], want: Want::First };
        let answers = peer_of_many.ask_all(peer, (0..10).map(seek).collect()).await;
        sought += answers.iter().filter(|answer| matches!(answer, Some(Response::Sought(_)))).count();
    }
    assert!((10..=25).contains(&sought), "{sought} of 40 were answered");
}

/// Two networks that know nothing of each other, and an invitation from one into the other.
#[tokio::test]
async fn a_node_named_in_an_invitation_is_asked_too() {
    let (here, there) = (directory(150).await, directory(151).await);
    let alice = Party::new(0);
    let _alice_node = online(&alice, &[there.addr().await]).await;
    let bob = registered(&Party::new(1), &[here.addr().await]).await;
    assert!(bob.find(alice.key()).await.sets.is_empty());
    let named = crate::common::collect(bob.net.lookup(alice.key(), &[there.addr().await])).await;
    assert!(!named.sets.is_empty(), "{named:?}");
}

/// The nodes closest to a number are whoever wants to be. They learn nothing of the terminals that publish it and ask
/// for it.
#[tokio::test]
async fn a_node_that_lies_in_wait_at_a_number_never_meets_its_terminal() {
    let nodes = network(160, 4).await;
    let (alice, bob) = (Party::new(0), Party::new(1));
    let mut spies = Vec::new();
    for party in [&alice, &bob] {
        let spy = Liar::start(Plan::new(mined(party.key(), 4_096))).await;
        for node in &nodes {
            spy.meet(&node.addr().await).await;
        }
        spies.push(spy);
    }
    for node in &nodes {
        node.until("the spies in the routing table", |status| status.dht_nodes >= 5).await;
    }
    let entry = [nodes[1].addr().await, nodes[2].addr().await];
    let mut alice_node = online(&alice, &entry).await;
    let bob_node = online(&bob, &entry).await;
    assert!(!alice_node.find(bob.key()).await.sets.is_empty());
    let found = bob_node.find(alice.key()).await;
    let target = crate::signalling::target_of(found.sets.last().unwrap());
    bob_node.net.signal(target, b"invite".to_vec()).await.unwrap();
    assert_eq!(alice_node.packet().await.blob, b"invite");
    let mut ports: Vec<String> = Vec::new();
    for node in [&alice_node, &bob_node] {
        let listen = node.net.status().listen;
        ports.extend(listen.iter().filter_map(|addr| addr.as_str().split('/').nth(4).map(str::to_owned)));
    }
    assert_eq!(ports.len(), 4);
    for spy in &spies {
        spy.until("the number's records", |seen| seen.puts > 0 && seen.gets > 0).await;
        let seen = spy.seen.lock().unwrap();
        let terminals = [&alice, &bob].map(|party| party.terminal.public().to_peer_id());
        for (peer, remote) in &seen.remotes {
            assert!(!terminals.contains(&peer.to_string()), "a terminal connected to a spy: {remote}");
            assert!(!ports.iter().any(|port| remote.to_string().contains(&format!("/{port}"))), "{remote}");
        }
    }
}

/// A connection without use is closed after 15 seconds; those of serving nodes with each other are not.
#[tokio::test]
async fn serving_nodes_stay_connected_with_each_other() {
    let nodes = network(170, 4).await;
    for node in &nodes {
        node.until("all others", |status| status.peers >= 3).await;
    }
    let longer_than_idle = Instant::now() + Duration::from_secs(20);
    while Instant::now() < longer_than_idle {
        for node in &nodes {
            assert!(node.net.status().peers >= 3, "a connection was given up");
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let metrics = nodes[3].net.metrics();
    assert!(metrics.lines().any(|line| line == "offhook_warm_peers 3"), "{metrics}");
}
