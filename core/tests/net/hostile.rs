//! Nodes that don't keep to the rules.

use std::io;
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, identify, kad};
use minicbor::Encoder;
use offhook::net::{NetEvent, Reach, Role, SignalTarget};
use offhook::proto::identity::TerminalId;
use offhook::proto::number::NodeAddr;
use offhook::proto::record::RecordSet;
use offhook::proto::wire::{self, UnixMillis};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::common::{Node, PATIENCE, directory, loopback, online, terminal};
use crate::fixture::{Party, now};

/// Writes what it is told, as it is told.
#[derive(Clone)]
struct Raw {
    /// Never ends its messages.
    hang: bool,
}

impl request_response::Codec for Raw {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        _: &mut T,
    ) -> io::Result<Vec<u8>> {
        Ok(Vec::new())
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        io.take(65_536).read_to_end(&mut bytes).await?;
        Ok(bytes)
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Vec<u8>,
    ) -> io::Result<()> {
        io.write_all(&request).await?;
        io.flush().await?;
        if self.hang {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        _: Vec<u8>,
    ) -> io::Result<()> {
        // To every request an answer that is none.
        io.write_all(&[0xfe; 100]).await
    }
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    kad: kad::Behaviour<kad::store::MemoryStore>,
    raw: request_response::Behaviour<Raw>,
}

/// A libp2p node that speaks our protocols and keeps to none.
fn hostile(seed: u8, protocol: &'static str, hang: bool) -> Swarm<Behaviour> {
    let key = libp2p::identity::Keypair::ed25519_from_bytes([seed; 32]).unwrap();
    let mut swarm = SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_quic()
        .with_behaviour(|key| {
            let id = key.public().to_peer_id();
            let config = kad::Config::new(StreamProtocol::new("/offhook/kad/1"));
            let mut kad = kad::Behaviour::with_config(id, kad::store::MemoryStore::new(id), config);
            kad.set_mode(Some(kad::Mode::Server));
            let protocols = [(StreamProtocol::new(protocol), ProtocolSupport::Full)];
            Behaviour {
                identify: identify::Behaviour::new(identify::Config::new("x".to_owned(), key.public())),
                kad,
                raw: request_response::Behaviour::with_codec(
                    Raw { hang },
                    protocols,
                    request_response::Config::default(),
                ),
            }
        })
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
        .build();
    swarm.listen_on("/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()).unwrap();
    swarm
}

async fn connect(swarm: &mut Swarm<Behaviour>, addr: &NodeAddr) -> PeerId {
    swarm.dial(addr.as_str().parse::<Multiaddr>().unwrap()).unwrap();
    let connected = async {
        loop {
            if let SwarmEvent::ConnectionEstablished { peer_id, .. } = swarm.select_next_some().await {
                return peer_id;
            }
        }
    };
    tokio::time::timeout(PATIENCE, connected).await.unwrap()
}

/// Sends requests and waits until each has been answered or has failed.
async fn send_all(swarm: &mut Swarm<Behaviour>, to: PeerId, requests: Vec<Vec<u8>>) -> (usize, usize) {
    let mut open = requests.len();
    for request in requests {
        swarm.behaviour_mut().raw.send_request(&to, request);
    }
    let (mut answered, mut failed) = (0, 0);
    let all = async {
        while open > 0 {
            match swarm.select_next_some().await {
                SwarmEvent::Behaviour(BehaviourEvent::Raw(request_response::Event::Message { .. })) => {
                    answered += 1;
                    open -= 1;
                }
                SwarmEvent::Behaviour(BehaviourEvent::Raw(request_response::Event::OutboundFailure {
                    ..
                })) => {
                    failed += 1;
                    open -= 1;
                }
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, all).await.unwrap();
    (answered, failed)
}

/// A packet to pass on, which it says is somebody else's.
fn second_hand(to: &TerminalId, blob: &[u8], origin: &TerminalId) -> Vec<u8> {
    let mut e = Encoder::new(Vec::new());
    e.array(2).and_then(|e| e.u32(2)).and_then(|e| e.map(3)).unwrap().u32(0).unwrap();
    e.writer_mut().extend(wire::encode(to));
    e.u32(1).and_then(|e| e.bytes(blob)).and_then(|e| e.u32(3)).unwrap();
    e.writer_mut().extend(wire::encode(origin));
    e.into_writer()
}

/// Lets a node live on; answers how many requests it has been sent when asked to stop.
fn keep_running(mut swarm: Swarm<Behaviour>) -> (oneshot::Sender<()>, JoinHandle<usize>) {
    let (stop, mut stopped) = oneshot::channel();
    let task = tokio::spawn(async move {
        let mut requests = 0;
        loop {
            tokio::select! {
                event = swarm.select_next_some() => {
                    use request_response::{Event, Message};
                    let message = match event {
                        SwarmEvent::Behaviour(BehaviourEvent::Raw(Event::Message { message, .. })) => message,
                        _ => continue,
                    };
                    requests += usize::from(matches!(message, Message::Request { .. }));
                }
                _ = &mut stopped => return requests,
            }
        }
    });
    (stop, task)
}

/// Deterministic noise.
fn noise(length: usize, mut seed: u64) -> Vec<u8> {
    (0..length)
        .map(|_| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as u8
        })
        .collect()
}

/// Whether the directory still does its work.
async fn still_works(entry: &[NodeAddr]) {
    let party = Party::new(11);
    let node = online(&party, entry).await;
    assert!(!node.find(party.key()).await.sets.is_empty());
}

#[tokio::test]
async fn garbage_on_every_protocol_does_no_harm() {
    let directory = directory(240).await;
    let entry = [directory.addr().await];
    for (n, protocol) in [
        "/offhook/signal/1",
        "/offhook/kad/1",
        "/ipfs/id/push/1.0.0",
        "/ipfs/ping/1.0.0",
        "/libp2p/circuit/relay/0.2.0/hop",
    ]
    .into_iter()
    .enumerate()
    {
        let mut swarm = hostile(100 + n as u8, protocol, false);
        let peer = connect(&mut swarm, &entry[0]).await;
        let requests = (0..60).map(|n| noise(n * 700, n as u64 + 1)).collect();
        let (answered, failed) = send_all(&mut swarm, peer, requests).await;
        assert_eq!(answered + failed, 60);
    }
    still_works(&entry).await;
}

#[tokio::test]
async fn half_messages_time_out_and_hold_nobody_up() {
    let directory = directory(241).await;
    let entry = [directory.addr().await];
    let mut swarm = hostile(110, "/offhook/signal/1", true);
    let peer = connect(&mut swarm, &entry[0]).await;
    for n in 0..2_000 {
        swarm.behaviour_mut().raw.send_request(&peer, noise(200, n + 1));
    }
    let task = tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    still_works(&entry).await;
    task.abort();
}

#[tokio::test]
async fn a_node_that_serves_forged_records_fools_nobody() {
    let directory = directory(242).await;
    let alice = Party::new(0);
    let _alice_node = online(&alice, &[directory.addr().await]).await;
    // The hostile node holds three bad sets and answers every request of ours with noise.
    let mallory = Party::new(1);
    let forged = RecordSet {
        account: Some(alice.account_record(now()).sign(&mallory.identity)),
        terminals: Vec::new(),
    };
    let mut claimed = mallory.account_record(now());
    claimed.number = alice.number.clone();
    let claimed = RecordSet { account: Some(claimed.sign(&mallory.identity)), terminals: Vec::new() };
    let expired = alice.set(UnixMillis(now().0 - 100_000_000), &[]);
    for (n, set) in [forged, claimed, expired].into_iter().enumerate() {
        let mut swarm = hostile(120 + n as u8, "/offhook/signal/1", false);
        let id = *swarm.local_peer_id();
        let record = kad::Record::new(alice.key().0.to_vec(), set.encode());
        kad::store::RecordStore::put(swarm.behaviour_mut().kad.store_mut(), record).unwrap();
        let addr = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        let task = tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        let entry = [directory.addr().await, format!("{addr}/p2p/{id}").parse().unwrap()];
        let bob = terminal(&Party::new(2 + n as u8), &entry).await;
        bob.until("both", |status| status.links.iter().filter(|link| link.up).count() == 2).await;
        let found = bob.find(alice.key()).await;
        let last = found.sets.last().expect("the good record is found");
        assert_eq!(last.account.as_ref().unwrap().record().identity, alice.identity.public());
        assert!(!last.terminals.is_empty());
        assert!(
            found
                .sets
                .iter()
                .all(|set| { set.account.as_ref().unwrap().record().identity == alice.identity.public() })
        );
        // With the hostile node alone nothing is found, and nothing is believed.
        let carol = terminal(&Party::new(6 + n as u8), &entry[1..]).await;
        carol.until("the hostile node", |status| status.links.iter().any(|link| link.up)).await;
        assert!(carol.find(alice.key()).await.sets.is_empty());
        task.abort();
    }
}

#[tokio::test]
async fn forged_puts_are_refused_where_they_arrive() {
    let node = directory(243).await;
    let (alice, mallory) = (Party::new(0), Party::new(1));
    let mut swarm = hostile(130, "/offhook/signal/1", false);
    let peer = connect(&mut swarm, &node.addr().await).await;
    let wrong_proof = {
        let mut record = alice.account_record(now());
        record.proof = mallory.proof.clone();
        RecordSet { account: Some(record.sign(&alice.identity)), terminals: Vec::new() }
    };
    let forged = RecordSet {
        account: Some(alice.account_record(now()).sign(&mallory.identity)),
        terminals: Vec::new(),
    };
    let future = alice.set(now().plus(Duration::from_secs(3_600)), &[]);
    let bad = [wrong_proof.encode(), forged.encode(), future.encode(), noise(500, 7), noise(13_000, 9)];
    let puts = bad.len();
    for value in bad {
        let record = kad::Record::new(alice.key().0.to_vec(), value);
        let to = std::iter::once(peer);
        swarm.behaviour_mut().kad.put_record_to(record, to, kad::Quorum::One);
    }
    let mut done = 0;
    let all = async {
        while done < puts {
            if let SwarmEvent::Behaviour(BehaviourEvent::Kad(kad::Event::OutboundQueryProgressed {
                result: kad::QueryResult::PutRecord(_),
                ..
            })) = swarm.select_next_some().await
            {
                done += 1;
            }
        }
    };
    tokio::time::timeout(PATIENCE, all).await.unwrap();
    // The slow proof has had its time once a later, good record is held.
    let entry = [node.addr().await];
    let _bob = online(&Party::new(2), &entry).await;
    let status = node.until("Bob's record", |status| status.records == 1).await;
    assert_eq!(status.records, 1, "a bad record is held");
}

#[tokio::test]
async fn a_terminal_serves_and_stores_nothing_for_strangers() {
    let mut config = loopback(0, Role::Terminal);
    config.terminal_seed = [140; 32];
    config.publish_direct = true;
    let node = Node::start(config).await;
    let addr = node.addr().await;
    let bob = Party::new(0);
    let bob_node = terminal(&bob, &[addr]).await;
    bob_node.until("the link", |status| status.links.iter().any(|link| link.up)).await;
    assert!(bob_node.net.publish(bob.key(), bob.set(now(), &[])).await.is_err());
    assert_eq!(node.net.status().records, 0);
    assert_eq!(node.net.status().registered, 0);
    assert!(bob_node.net.routes().is_empty());
}

#[tokio::test]
async fn second_hand_packets_count_against_whoever_hands_them_over() {
    const SENT: usize = 1_500;
    let directory = directory(244).await;
    let entry = [directory.addr().await];
    let (alice, bob) = (Party::new(0), Party::new(1));
    let Node { net: _alice_net, mut events } = online(&alice, &entry).await;
    let bob_node = online(&bob, &entry).await;
    let (proper, mut came) = oneshot::channel();
    let count = tokio::spawn(async move {
        let mut proper = Some(proper);
        let mut flood = 0;
        while let Some(event) = events.recv().await {
            match event {
                NetEvent::Signal { blob, .. } if blob == b"a proper call" => {
                    if let Some(proper) = proper.take() {
                        proper.send(flood).unwrap();
                    }
                }
                NetEvent::Signal { .. } => flood += 1,
                _ => {}
            }
        }
    });
    let mut swarm = hostile(150, "/offhook/signal/1", false);
    let peer = connect(&mut swarm, &entry[0]).await;
    let name = |n: usize| Party::with_terminal(2, (n % 200) as u8).terminal.public();
    let names: Vec<TerminalId> = (0..200).map(name).collect();
    let packet = |n: usize| second_hand(&alice.terminal.public(), b"spam", &names[n % names.len()]);
    for n in (0..SENT).step_by(100) {
        let (answered, failed) = send_all(&mut swarm, peer, (n..n + 100).map(packet).collect()).await;
        assert_eq!((answered, failed), (100, 0));
    }
    let deliver = async {
        loop {
            let to_alice = SignalTarget {
                terminal: alice.terminal.public(),
                addrs: vec![format!("{}/p2p-circuit", entry[0]).parse().unwrap()],
                via: None,
                reach: Reach::Open,
                again: false,
            };
            bob_node.net.signal(to_alice, b"a proper call".to_vec()).await.unwrap();
            if let Ok(flood) = came.try_recv() {
                return flood;
            }
        }
    };
    let flood = tokio::time::timeout(PATIENCE, deliver).await.unwrap();
    // A burst of 300, and 30 a second for as long as it may take here; under 200 names it was all of them.
    assert!((100..SENT / 2).contains(&flood), "{flood} packets came through");
    count.abort();
}

#[tokio::test]
async fn nobody_redirects_another_terminals_answers() {
    let (first, second) = (directory(245).await, directory(246).await);
    let [alice, bob, carol] = [0, 1, 2].map(Party::new);
    let mut alice_node = online(&alice, &[first.addr().await]).await;
    let entry = [second.addr().await];
    let mut bob_node = online(&bob, &entry).await;
    let mut carol_node = online(&carol, &entry).await;
    let target = |party: &Party, addrs: Vec<NodeAddr>, via: Option<TerminalId>| SignalTarget {
        terminal: party.terminal.public(),
        addrs,
        via,
        reach: Reach::Discreet,
        again: false,
    };
    let to_alice = target(&alice, alice_node.net.addresses(), None);
    let mut swarm = hostile(151, "/offhook/signal/1", false);
    let peer = connect(&mut swarm, &first.addr().await).await;
    let lie = |name: &Party| vec![second_hand(&alice.terminal.public(), b"a lie", &name.terminal.public())];

    // A liar that speaks up later, in Bob's name, does not get the answers to Bob.
    bob_node.net.signal(to_alice.clone(), b"a question".to_vec()).await.unwrap();
    let packet = alice_node.packet().await;
    assert_eq!(send_all(&mut swarm, peer, lie(&bob)).await, (1, 0));
    assert_eq!(alice_node.packet().await.blob, b"a lie");
    // One that was first, in Carol's name, gets those that don't say where Carol is; Alice's terminal knows it from
    // Carol's signed packet.
    assert_eq!(send_all(&mut swarm, peer, lie(&carol)).await, (1, 0));
    assert_eq!(alice_node.packet().await.blob, b"a lie");
    carol_node.net.signal(to_alice, b"a question".to_vec()).await.unwrap();
    assert_eq!(alice_node.packet().await.via, packet.via);

    let (stop, running) = keep_running(swarm);
    let to_bob = target(&bob, Vec::new(), Some(packet.via));
    alice_node.net.signal(to_bob, b"an answer".to_vec()).await.unwrap();
    assert_eq!(bob_node.packet().await.blob, b"an answer");
    let to_carol = target(&carol, carol_node.net.routes(), Some(packet.via));
    alice_node.net.signal(to_carol, b"an answer".to_vec()).await.unwrap();
    assert_eq!(carol_node.packet().await.blob, b"an answer");
    stop.send(()).unwrap();
    assert_eq!(running.await.unwrap(), 0, "the liar was sent something");
}
