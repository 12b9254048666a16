//! Who is sent where, how often, and who not.

use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::super::peers::Peers;
use super::*;
use crate::net::{Net, NetConfig, NetEvent, NetStatus, Role};

const PATIENCE: Duration = Duration::from_secs(20);

fn addr(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

fn peer(remotes: &[(&str, bool)]) -> Peer {
    let (id, mut peers) = (PeerId::random(), Peers::default());
    for (n, (remote, inbound)) in remotes.iter().enumerate() {
        peers.connected(id, ConnectionId::new_unchecked(n), addr(remote), *inbound);
    }
    peers.take(&id).unwrap()
}

#[test]
fn a_peer_is_knocked_at_where_it_is_seen_and_nowhere_else() {
    let at = |remotes: &[(&str, bool)], port| place_of(&peer(remotes), port).map(|at| at.to_string());
    let (quic, tcp) = (("/ip4/192.0.2.7/udp/4001/quic-v1", true), ("/ip4/192.0.2.8/tcp/9", true));
    assert_eq!(at(&[quic], None).as_deref(), Some("192.0.2.7:4001"));
    assert_eq!(at(&[quic], Some(4_003)).as_deref(), Some("192.0.2.7:4003"));
    assert_eq!(at(&[quic, tcp], Some(7)).as_deref(), Some("192.0.2.8:7"), "the newest connection");
    assert_eq!(at(&[quic, tcp], None).as_deref(), Some("192.0.2.7:4001"));
    assert_eq!(at(&[tcp], None), None, "TCP says nothing of a port of UDP");
    assert_eq!(at(&[quic], Some(0)), None);
    let relayed =
        "/ip4/192.0.2.1/udp/1/quic-v1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN/p2p-circuit";
    assert_eq!(at(&[(relayed, true)], Some(4_001)), None, "the relay's address is not its own");
    let mapped = ("/ip6/::ffff:192.0.2.7/udp/4001/quic-v1", true);
    assert_eq!(at(&[mapped], None).as_deref(), Some("192.0.2.7:4001"));
}

#[test]
fn only_a_serving_node_of_another_network_knocks() {
    let at: SocketAddr = "192.0.2.7:4001".parse().unwrap();
    let serving = |remote: &str| {
        let mut peer = peer(&[(remote, true)]);
        (peer.dht, peer.signal) = (true, true);
        peer
    };
    let stranger = serving("/ip4/198.51.100.1/tcp/1");
    assert!(may_knock(&stranger, at, &[]));
    assert!(!may_knock(&stranger, at, &[Network::V4([198, 51, 100])]));
    let many: Vec<_> =
        (0..200).map(|n| Network::V4([10, 0, n])).chain([Network::V4([198, 51, 100])]).collect();
    assert!(may_knock(&stranger, at, &many), "so many are not looked at");
    assert!(!may_knock(&serving("/ip4/192.0.2.200/tcp/1"), at, &[]), "a neighbour");
    let mut six = serving("/ip6/2001:db8::1/tcp/1");
    assert!(!may_knock(&six, at, &[]));
    six.addrs = vec![addr("/ip4/203.0.113.1/udp/1/quic-v1")];
    assert!(may_knock(&six, at, &[]));
    assert!(!may_knock(&peer(&[("/ip4/198.51.100.1/tcp/1", true)]), at, &[]), "it does not serve");
}

#[test]
fn many_nodes_of_one_network_are_drawn_no_more_often_than_one_of_another() {
    let [few, many] = [1, 2].map(|net| Source::V4([10, 0, net]));
    let lone = PeerId::random();
    let crowd = (0..100).map(|_| (PeerId::random(), many));
    let nodes: Vec<_> = crowd.chain([(lone, few)]).collect();
    let drawn = (0..400).filter(|_| one_of(nodes.clone()) == Some(lone)).count();
    assert!((100..300).contains(&drawn), "{drawn} of 400");
    assert_eq!(one_of(Vec::new()), None);
}

#[test]
fn knocks_are_bounded_at_each_place_for_each_source_and_altogether() {
    let (mut knocks, now) = (Knocks::new(), Instant::now());
    let source = |n: u32| Source::V6([0, 0, (n >> 16) as u16, n as u16]);
    let host = |n: u32| IpAddr::from((0x0b00_0000 + n).to_be_bytes());
    // Many terminals behind one address.
    let at_one = (0..1_000).filter(|n| knocks.permit_wanted(host(1), source(*n), now)).count();
    assert_eq!(at_one, HOST_BURST as usize);
    let from_one = (2..1_000).filter(|n| knocks.permit_wanted(host(*n), source(1_000), now)).count();
    assert!(from_one <= 10, "{from_one}");
    let all = (2_000..9_000).filter(|n| knocks.permit_wanted(host(*n), source(*n), now)).count();
    assert!(all <= 100, "{all}");
    let at_one = (0..1_000).filter(|n| knocks.permit_done(host(1), source(*n), now)).count();
    assert_eq!(at_one, DONE_BURST as usize);
    let for_one = (2..1_000).filter(|n| knocks.permit_done(host(*n), source(5_000), now)).count();
    assert!(for_one <= 10, "{for_one}");
    let all = (2_000..9_000).filter(|n| knocks.permit_done(host(*n), source(10_000 + n), now)).count();
    assert!(all <= 50, "{all}");
    let later = now + HOST_PAUSE;
    assert!(
        knocks.permit_wanted(host(1), source(1), later) && !knocks.permit_wanted(host(1), source(2), later)
    );
}

/// A node on loopback.
struct Node {
    net: Net,
    _events: mpsc::Receiver<NetEvent>,
}

impl Node {
    async fn start(mut config: NetConfig, entry: Option<&Self>) -> Self {
        // A port of its own is told although private addresses may not be for telling.
        let port = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        config.listen = vec![format!("/ip4/127.0.0.1/udp/{port}/quic-v1").parse().unwrap()];
        config.external = config.listen.clone();
        config.entry = entry.map(|entry| entry.net.addresses()).unwrap_or_default();
        let role = config.role;
        let (net, events) = Net::start(config).await.unwrap();
        let node = Self { net, _events: events };
        let terminal = role == Role::Terminal;
        node.until(|status| !status.listen.is_empty() && (terminal || !status.addresses.is_empty())).await;
        if let Some(entry) = entry {
            node.until(|status| status.links.iter().any(|link| link.up)).await;
            entry.until(|status| status.peers > 0).await;
        }
        node
    }

    async fn until(&self, condition: impl FnMut(&NetStatus) -> bool) {
        let mut watch = self.net.watch();
        tokio::time::timeout(PATIENCE, watch.wait_for(condition)).await.expect("in time").expect("runs");
    }

    async fn ask(&self, other: &Self, request: Request) -> Response {
        let to = addr::peer_of(&other.net.id()).unwrap();
        self.net.client().request(to, Vec::new(), request, PATIENCE).await.expect("an answer")
    }
}

fn config(seed: u8, role: Role) -> NetConfig {
    NetConfig { allow_private: Some(true), ..NetConfig::new([seed; 32], role) }
}

/// A socket at which nobody but hostile nodes would have others knock.
async fn victim() -> (UdpSocket, Place) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = Place(socket.local_addr().unwrap());
    (socket, at)
}

fn packets(socket: &UdpSocket) -> usize {
    let mut buffer = [0; 2_000];
    std::iter::from_fn(|| socket.try_recv(&mut buffer).ok()).count()
}

const INVALID: Response = Response::Refused { reason: Refusal::Invalid };
const NOT_SERVING: Response = Response::Refused { reason: Refusal::NotServing };

#[tokio::test]
async fn only_serving_nodes_have_others_knock() {
    let directory = Node::start(config(1, Role::Directory), None).await;
    let terminal = Node::start(config(2, Role::Terminal), Some(&directory)).await;
    let (socket, at) = victim().await;
    let knock = Request::KnockAt { at, token: [1; 16] };
    assert_eq!(terminal.ask(&directory, knock).await, INVALID, "for a terminal nothing is done");
    // Nor does a terminal do anything of the kind.
    let to = Node::start(config(3, Role::Directory), None).await;
    let entry = Node::start(config(4, Role::Terminal), Some(&to)).await;
    let knock = Request::KnockAt { at, token: [1; 16] };
    assert_eq!(to.ask(&entry, knock).await, NOT_SERVING);
    let wanted = Request::KnockWanted { port: None, token: [1; 16], except: Vec::new() };
    assert_eq!(to.ask(&entry, wanted).await, NOT_SERVING);
    assert_eq!(to.ask(&entry, Request::Knock { at, token: [1; 16] }).await, NOT_SERVING);
    assert_eq!(packets(&socket), 0);
}

#[tokio::test]
async fn a_flood_of_errands_is_bounded() {
    let directory = Node::start(config(5, Role::Directory), None).await;
    let evil = Node::start(config(6, Role::Server), Some(&directory)).await;
    directory.until(|status| status.dht_nodes == 1).await;
    let (socket, at) = victim().await;
    let mut done = 0;
    for n in 0..200_u8 {
        let answer = evil.ask(&directory, Request::KnockAt { at, token: [n; 16] }).await;
        assert!(matches!(answer, Response::Knocking | Response::Busy), "{answer:?}");
        done += usize::from(answer == Response::Knocking);
    }
    // The machine may be slow.
    assert!((1..=2 * DONE_BURST as usize).contains(&done), "{done} knocks");
    let mut wanted = 0;
    for n in 0..200_u8 {
        let request = Request::KnockWanted { port: Some(1), token: [n; 16], except: Vec::new() };
        wanted += usize::from(evil.ask(&directory, request).await == Response::Knocking);
    }
    assert_eq!(wanted, 0, "it has no neighbour elsewhere that could knock");
    // First packets of a handshake, a few for each.
    assert!((1..=done * 5).contains(&packets(&socket)));
}

#[tokio::test]
async fn nobody_is_sent_to_private_addresses_on_the_internet() {
    let guarded = NetConfig { allow_private: Some(false), ..config(7, Role::Directory) };
    let directory = Node::start(guarded, None).await;
    let evil = Node::start(config(8, Role::Server), Some(&directory)).await;
    let (socket, at) = victim().await;
    // Whether it is taken for a serving node or not: its address is private, too, so that it is in no routing table.
    assert_eq!(evil.ask(&directory, Request::KnockAt { at, token: [1; 16] }).await, INVALID);
    let wanted = Request::KnockWanted { port: Some(at.0.port()), token: [1; 16], except: Vec::new() };
    assert_eq!(evil.ask(&directory, wanted).await, INVALID);
    assert_eq!(packets(&socket), 0);
}
