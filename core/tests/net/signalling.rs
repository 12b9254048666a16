//! Passing packets on.

use offhook::net::{NetEvent, Reach, Role, SignalError, SignalTarget};
use offhook::proto::identity::TerminalKey;
use offhook::proto::number::NodeAddr;
use offhook::proto::record::CheckedSet;
use offhook::proto::service::{Request, Response};
use offhook::proto::signalling::MAX_BLOB_BYTES;

use crate::common::{Node, PATIENCE, directory, loopback, online, terminal};
use crate::fixture::{Party, now};
use crate::liar::{Act, Liar, Plan};

/// How a caller reaches the first terminal of a set.
pub fn target_of(set: &CheckedSet) -> SignalTarget {
    let terminal = &set.terminals[0];
    SignalTarget {
        terminal: terminal.terminal(),
        addrs: terminal.record().addrs.clone(),
        via: None,
        reach: Reach::Open,
        again: false,
    }
}

#[tokio::test]
async fn a_directory_passes_a_packet_on_and_the_answer_back() {
    let directory = directory(230).await;
    let entry = [directory.addr().await];
    let (alice, bob) = (Party::new(0), Party::new(1));
    let mut alice_node = online(&alice, &entry).await;
    let mut bob_node = online(&bob, &entry).await;
    let found = bob_node.find(alice.key()).await;
    bob_node.net.signal(target_of(found.sets.last().unwrap()), b"invite".to_vec()).await.unwrap();
    let packet = alice_node.packet().await;
    assert_eq!(
        (packet.from, packet.via, &packet.blob[..]),
        (bob.terminal.public(), directory.net.id(), &b"invite"[..])
    );
    let back = SignalTarget {
        terminal: packet.from,
        addrs: Vec::new(),
        via: Some(packet.via),
        reach: Reach::Discreet,
        again: false,
    };
    alice_node.net.signal(back, b"ringing".to_vec()).await.unwrap();
    assert_eq!(bob_node.packet().await.blob, b"ringing");
}

#[tokio::test]
async fn different_directories_whoever_connects() {
    let (first, second) = (directory(231).await, directory(232).await);
    let (alice, bob) = (Party::new(0), Party::new(1));
    let mut alice_node = online(&alice, &[first.addr().await]).await;
    let mut bob_node = online(&bob, &[second.addr().await]).await;
    let addrs = alice_node.net.addresses();
    let to_alice = |reach| SignalTarget {
        terminal: alice.terminal.public(),
        addrs: addrs.clone(),
        via: None,
        reach,
        again: false,
    };
    // Bob connects to Alice's directory himself; the answer comes back over that connection.
    bob_node.net.signal(to_alice(Reach::Open), b"1".to_vec()).await.unwrap();
    let packet = alice_node.packet().await;
    assert_eq!((packet.from, packet.via), (bob.terminal.public(), first.net.id()));
    let to_bob = |via| SignalTarget {
        terminal: bob.terminal.public(),
        addrs: Vec::new(),
        via: Some(via),
        reach: Reach::Discreet,
        again: false,
    };
    alice_node.net.signal(to_bob(packet.via), b"2".to_vec()).await.unwrap();
    let packet = bob_node.packet().await;
    assert_eq!((packet.blob, packet.via), (b"2".to_vec(), first.net.id()));
}

#[tokio::test]
async fn addresses_that_seem_of_no_use_are_tried_when_the_others_do_not_work() {
    let (first, second) = (directory(245).await, directory(246).await);
    let (alice, bob) = (Party::new(0), Party::new(1));
    let mut bob_node = online(&bob, &[second.addr().await]).await;
    // All that Alice sees is that TCP works.
    let is_tcp = |addr: &&NodeAddr| addr.as_str().contains("/tcp/");
    let entry = first.net.status().addresses.iter().find(is_tcp).expect("an address of TCP").clone();
    let mut config = loopback(0, Role::Terminal);
    config.terminal_seed = *alice.terminal.seed();
    config.cert = Some(alice.cert(now()));
    config.entry = vec![entry];
    let alice_node = Node::start(config).await;
    alice_node.registered(1).await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dead = format!("/ip4/127.0.0.1/tcp/{closed}/p2p/{}", second.net.id().to_peer_id());
    let to_bob = SignalTarget {
        terminal: bob.terminal.public(),
        addrs: vec![dead.parse().unwrap(), second.addr().await],
        via: None,
        reach: Reach::Open,
        again: false,
    };
    alice_node.net.signal(to_bob, b"hello".to_vec()).await.unwrap();
    let packet = bob_node.packet().await;
    assert_eq!((&packet.blob[..], packet.from), (&b"hello"[..], alice.terminal.public()));
}

#[tokio::test]
async fn a_discreet_packet_goes_by_way_of_the_own_directory() {
    let (first, second) = (directory(233).await, directory(234).await);
    let (alice, bob) = (Party::new(0), Party::new(1));
    let mut alice_node = online(&alice, &[first.addr().await]).await;
    let mut bob_node = online(&bob, &[second.addr().await]).await;
    let before = first.net.status().peers;
    let to_alice = SignalTarget {
        terminal: alice.terminal.public(),
        addrs: alice_node.net.addresses(),
        via: None,
        reach: Reach::Discreet,
        again: false,
    };
    bob_node.net.signal(to_alice, b"1".to_vec()).await.unwrap();
    let packet = alice_node.packet().await;
    assert_eq!((packet.from, packet.via), (second.net.id(), first.net.id()));
    // Only Bob's directory has connected there, not Bob.
    assert_eq!(first.net.status().peers, before + 1);
    // The answer goes back the way it came, though Alice's directory has no connection to Bob.
    let to_bob = SignalTarget {
        terminal: bob.terminal.public(),
        addrs: Vec::new(),
        via: Some(packet.via),
        reach: Reach::Discreet,
        again: false,
    };
    alice_node.net.signal(to_bob, b"2".to_vec()).await.unwrap();
    let packet = bob_node.packet().await;
    assert_eq!((packet.from, packet.via), (first.net.id(), second.net.id()));
}

#[tokio::test]
async fn straight_to_a_terminal_with_an_address_of_its_own() {
    let mut server = Node::start(loopback(235, offhook::net::Role::Server)).await;
    let bob = Party::new(1);
    let mut bob_node = terminal(&bob, &[]).await;
    let target = SignalTarget {
        terminal: server.net.id(),
        addrs: server.net.addresses(),
        via: None,
        reach: Reach::Open,
        again: false,
    };
    server.addr().await;
    let target = SignalTarget { addrs: server.net.addresses(), ..target };
    bob_node.net.signal(target.clone(), b"hello".to_vec()).await.unwrap();
    let packet = server.packet().await;
    assert_eq!((packet.from, packet.via), (bob.terminal.public(), bob.terminal.public()));
    // Nobody connects to a stranger's address to answer.
    let back = SignalTarget {
        terminal: packet.from,
        addrs: vec![],
        via: Some(packet.via),
        reach: Reach::Discreet,
        again: false,
    };
    server.net.signal(back, b"answer".to_vec()).await.unwrap();
    assert_eq!(bob_node.packet().await.blob, b"answer");
    let stranger = terminal(&Party::new(2), &[]).await;
    let discreet = SignalTarget { reach: Reach::Discreet, ..target };
    assert_eq!(stranger.net.signal(discreet, b"x".to_vec()).await, Err(SignalError::NotReachable));
    assert_eq!(stranger.net.status().peers, 0);
}

#[tokio::test]
async fn nobody_there_and_too_long() {
    let directory = directory(236).await;
    let entry = [directory.addr().await];
    let alice = Party::new(0);
    let node = online(&alice, &entry).await;
    let absent = SignalTarget {
        terminal: Party::new(5).terminal.public(),
        addrs: vec![format!("{}/p2p-circuit", entry[0]).parse().unwrap()],
        via: None,
        reach: Reach::Open,
        again: false,
    };
    let started = std::time::Instant::now();
    assert_eq!(node.net.signal(absent.clone(), b"x".to_vec()).await, Err(SignalError::NotReachable));
    assert!(started.elapsed() < std::time::Duration::from_secs(5));
    let long = vec![0; MAX_BLOB_BYTES + 1];
    assert_eq!(node.net.signal(absent, long).await, Err(SignalError::TooLong(MAX_BLOB_BYTES + 1)));
}

#[tokio::test]
async fn a_flood_is_bounded_and_others_still_get_through() {
    let directory = directory(237).await;
    let entry = [directory.addr().await];
    let (alice, mallory, bob) = (Party::new(0), Party::new(1), Party::new(2));
    let mut alice_node = online(&alice, &entry).await;
    let mallory_node = online(&mallory, &entry).await;
    let bob_node = online(&bob, &entry).await;
    let to_alice = SignalTarget {
        terminal: alice.terminal.public(),
        addrs: alice_node.net.addresses(),
        via: None,
        reach: Reach::Open,
        again: false,
    };
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..3_000 {
        let (net, target) = (mallory_node.net.clone(), to_alice.clone());
        tasks.spawn(async move { net.signal(target, vec![0; 4_000]).await });
    }
    let results = tasks.join_all().await;
    assert!(results.contains(&Err(SignalError::Busy)), "nothing was refused");
    // The channel is full of the flood; the owner reads, and then Bob gets through.
    let mut flood = 0;
    while let Ok(event) = alice_node.events.try_recv() {
        flood += usize::from(matches!(event, NetEvent::Signal { .. }));
    }
    assert!(flood <= 600, "{flood} packets of the flood came through");
    let deliver = async {
        while bob_node.net.signal(to_alice.clone(), b"a proper call".to_vec()).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, deliver).await.expect("Bob gets through");
    loop {
        if alice_node.packet().await.blob == b"a proper call" {
            break;
        }
    }
}

#[tokio::test]
async fn kept_directories_are_connected_but_not_registered_with() {
    let (home, contacts) = (directory(238).await, directory(239).await);
    let alice = Party::new(0);
    let node = online(&alice, &[home.addr().await]).await;
    node.net.keep(vec![contacts.addr().await]).await;
    let up = |status: &offhook::net::NetStatus| status.links.iter().filter(|link| link.up).count() == 2;
    node.until("the kept directory", up).await;
    assert_eq!(node.net.routes().len(), 1);
    assert_eq!(contacts.net.status().registered, 0);
    assert_eq!(home.net.status().registered, 1);
    node.net.keep(Vec::new()).await;
    node.until("it is let go", |status| status.links.len() == 1).await;
}

/// A record may name directories that are long gone, and the only one that is left as the last.
#[tokio::test]
async fn a_packet_arrives_though_fifteen_addresses_lead_nowhere() {
    let (first, second) = (directory(239).await, directory(240).await);
    let (alice, bob) = (Party::new(0), Party::new(1));
    let mut alice_node = online(&alice, &[first.addr().await]).await;
    let bob_node = online(&bob, &[second.addr().await]).await;
    // A host that takes packets and says nothing.
    let silence = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = silence.local_addr().unwrap().port();
    let alice_id = alice.terminal.public();
    let nowhere = (0..15).map(|n| {
        let gone = TerminalKey::from_seed([200 + n; 32]).public().to_peer_id();
        let addr =
            format!("/ip4/127.0.0.1/udp/{port}/quic-v1/p2p/{gone}/p2p-circuit/p2p/{}", alice_id.to_peer_id());
        addr.parse().unwrap()
    });
    let addrs: Vec<_> = nowhere.chain(alice_node.net.addresses().into_iter().take(1)).collect();
    let target = SignalTarget { terminal: alice_id, addrs, via: None, reach: Reach::Open, again: false };
    bob_node.net.signal(target, b"invite".to_vec()).await.unwrap();
    assert_eq!(alice_node.packet().await.blob, b"invite");
}

/// Both directories of the callee say that they have delivered everything.
#[tokio::test]
async fn what_is_said_again_goes_through_two_nodes_and_the_way_that_was_believed_counts_no_more() {
    let said = || {
        let mut plan = Plan::new([0; 32]);
        let mut others = plan.script;
        plan.script = Box::new(move |request| match request {
            Request::Forward { .. } => Act::Say(Response::Delivered),
            other => others(other),
        });
        plan
    };
    let first = Liar::start(Plan { seed: [243; 32], ..said() }).await;
    let second = Liar::start(Plan { seed: [244; 32], ..said() }).await;
    let entry = [first.addr.clone(), second.addr.clone()];
    let node = terminal(&Party::new(0), &entry).await;
    node.registered(2).await;
    let alice = Party::new(1).terminal.public();
    let relayed = |addr: &NodeAddr| format!("{addr}/p2p-circuit/p2p/{}", alice.to_peer_id()).parse().unwrap();
    let target = |again| SignalTarget {
        terminal: alice,
        addrs: entry.iter().map(relayed).collect(),
        via: None,
        reach: Reach::Discreet,
        again,
    };
    let forwards = || {
        [&first, &second].map(|liar| {
            let seen = liar.seen.lock().unwrap();
            seen.requests.iter().filter(|request| matches!(request, Request::Forward { .. })).count()
        })
    };
    node.net.signal(target(false), b"invite".to_vec()).await.unwrap();
    assert_eq!(forwards(), [1, 0], "the first that says so is believed");
    node.net.signal(target(true), b"invite".to_vec()).await.unwrap();
    assert_eq!(forwards(), [2, 1]);
    // One node with two ways is still one.
    let twice = SignalTarget { addrs: vec![relayed(&first.addr); 2], ..target(true) };
    node.net.signal(twice, b"invite".to_vec()).await.unwrap();
    assert_eq!(forwards()[0], 3, "{:?}", forwards());
}
