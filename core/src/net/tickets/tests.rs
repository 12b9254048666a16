//! Who is given a ticket, and that it is good.

use std::time::Duration;

use offhook_proto::wire::UnixMillis;
use tokio::sync::mpsc;

use super::*;
use crate::net::codec::Request;
use crate::net::fixture::{Party, now};
use crate::net::{Net, NetConfig, NetEvent, Role};

const PATIENCE: Duration = Duration::from_secs(20);

fn task(party: &Party) -> ProofTask {
    party.proof.check_held(&party.number, &party.identity.public(), now()).unwrap().1
}

#[test]
fn a_number_has_one_guests_ticket_at_a_time() {
    let (mut guests, start) = (Guests::default(), Instant::now());
    let (number, terminal) = (task(&Party::new(0)), |n| TerminalId::from_bytes([n; 32]));
    assert!(guests.admit(number.clone(), terminal(1), start));
    assert!(guests.admit(number.clone(), terminal(1), start), "renewed");
    assert!(!guests.admit(number.clone(), terminal(2), start));
    assert!(guests.admit(task(&Party::new(1)), terminal(2), start));
    let over = start + GUEST_LIFETIME;
    assert!(guests.admit(number, terminal(2), over + Duration::from_secs(1)));
}

#[test]
fn every_listener_is_told_under_as_many_addresses_as_there_is_room_for() {
    let listeners =
        vec![(RelayTransport::Udp, 3_478), (RelayTransport::Tcp, 3_478), (RelayTransport::Tls, 443)];
    let notice = RelayNotice { issuer: TicketIssuer::new([1; 32]), listeners, pin: Some([2; 32]) };
    let ips: Vec<IpAddr> = ["192.0.2.1", "2001:db8::1", "192.0.2.3"].map(|ip| ip.parse().unwrap()).into();
    let servers = notice.servers(&ips);
    assert_eq!(servers.len(), 6);
    assert!(servers.iter().all(|server| server.pin.is_some() == (server.transport == RelayTransport::Tls)));
    assert_eq!(servers[5].addr, "[2001:db8::1]:443".parse().unwrap());
    assert_eq!(notice.stun_port(), Some(3_478));
}

/// A node on loopback.
struct Node {
    net: Net,
    _events: mpsc::Receiver<NetEvent>,
}

impl Node {
    async fn start(mut config: NetConfig) -> Self {
        config.listen = vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()];
        let (net, events) = Net::start(config).await.unwrap();
        Self { net, _events: events }
    }

    async fn directory(relay: bool) -> Self {
        let mut config = NetConfig::new([240; 32], Role::Directory);
        let listeners = vec![(RelayTransport::Udp, 3_478), (RelayTransport::Tcp, 3_478)];
        config.relay =
            relay.then(|| RelayNotice { issuer: TicketIssuer::new([1; 32]), listeners, pin: None });
        let node = Self::start(config).await;
        let mut watch = node.net.watch();
        let listening = watch.wait_for(|status| !status.addresses.is_empty());
        tokio::time::timeout(PATIENCE, listening).await.expect("an address").expect("runs");
        node
    }

    /// A terminal, registered or not.
    async fn terminal(party: &Party, directory: &Self, registered: bool) -> Self {
        let mut config = NetConfig::new(*party.terminal.seed(), Role::Terminal);
        config.cert = registered.then(|| party.cert(now()));
        config.entry = directory.net.addresses();
        let node = Self::start(config).await;
        let mut watch = node.net.watch();
        let up = watch.wait_for(|status| match registered {
            true => !status.routes.is_empty(),
            false => status.links.iter().any(|link| link.up),
        });
        tokio::time::timeout(PATIENCE, up).await.expect("a link").expect("runs");
        node
    }

    async fn ask(&self, directory: &Self, claim: Option<GuestClaim>) -> Response {
        let to = addr::peer_of(&directory.net.id()).unwrap();
        let answer = self.net.client().request(to, Vec::new(), Request::Relay { claim }, PATIENCE).await;
        answer.expect("an answer")
    }
}

fn claim(party: &Party) -> GuestClaim {
    GuestClaim {
        number: party.number.clone(),
        proof: party.proof.clone(),
        identity: party.identity.public(),
        cert: party.cert(now()),
    }
}

fn refused(reason: Refusal) -> Response {
    Response::Refused { reason }
}

#[track_caller]
fn good(response: Response, class: RelayClass, party: &Party) {
    let Response::Ticket(ticket) = response else { panic!("no ticket: {response:?}") };
    let admission = TicketIssuer::new([1; 32]).admit(&ticket.username, UnixMillis(now().0)).unwrap();
    assert_eq!((admission.class, admission.terminal), (class, party.terminal.public()));
    assert_eq!(admission.password, ticket.password);
    let servers: Vec<_> = ticket.servers.iter().map(|server| (server.transport, server.addr)).collect();
    let addr = SocketAddr::from(([127, 0, 0, 1], 3_478));
    assert_eq!(servers, [(RelayTransport::Udp, addr), (RelayTransport::Tcp, addr)]);
    assert!(ticket.is_sound());
}

#[tokio::test]
async fn a_terminal_whose_records_are_held_gets_a_full_ticket() {
    let (directory, alice) = (Node::directory(true).await, Party::new(0));
    let node = Node::terminal(&alice, &directory, true).await;
    assert_eq!(node.ask(&directory, None).await, Response::Busy, "records come after registering");
    node.net.publish(alice.key(), alice.set(now(), &node.net.addresses())).await.unwrap();
    good(node.ask(&directory, None).await, RelayClass::Full, &alice);
    // Where STUN is, the relay's notice says, too.
    assert_eq!(node.net.stun_servers(), [SocketAddr::from(([127, 0, 0, 1], 3_478))]);
}

#[tokio::test]
async fn a_guest_gets_a_ticket_for_a_proven_number() {
    let (directory, bob) = (Node::directory(true).await, Party::new(1));
    let node = Node::terminal(&bob, &directory, false).await;
    assert_eq!(node.ask(&directory, None).await, refused(Refusal::Invalid), "no claim");
    good(node.ask(&directory, Some(claim(&bob))).await, RelayClass::Guest, &bob);
    good(node.ask(&directory, Some(claim(&bob))).await, RelayClass::Guest, &bob);
    // Another terminal of the same account.
    let second = Party::with_terminal(1, 77);
    let other = Node::terminal(&second, &directory, false).await;
    assert_eq!(other.ask(&directory, Some(claim(&second))).await, Response::Busy);
}

#[tokio::test]
async fn a_claim_that_is_not_the_askers_brings_nothing() {
    let (directory, bob, eve) = (Node::directory(true).await, Party::new(1), Party::new(2));
    let node = Node::terminal(&eve, &directory, false).await;
    let stolen = claim(&bob);
    let wrong_cert = GuestClaim { cert: eve.cert(now()), ..claim(&bob) };
    let wrong_proof = GuestClaim { proof: bob.proof.clone(), ..claim(&eve) };
    for bad in [stolen, wrong_cert, wrong_proof] {
        assert_eq!(node.ask(&directory, Some(bad)).await, refused(Refusal::Invalid));
    }
    good(node.ask(&directory, Some(claim(&eve))).await, RelayClass::Guest, &eve);
}

#[tokio::test]
async fn who_asks_too_often_is_told_to_come_again() {
    let (directory, bob) = (Node::directory(true).await, Party::new(1));
    let node = Node::terminal(&bob, &directory, false).await;
    let mut answers = Vec::new();
    for _ in 0..40 {
        answers.push(node.ask(&directory, None).await);
    }
    let busy = answers.iter().filter(|answer| **answer == Response::Busy).count();
    assert!(busy >= 20, "{busy} of 40");
}

#[tokio::test]
async fn a_directory_without_a_relay_says_so() {
    let (directory, bob) = (Node::directory(false).await, Party::new(1));
    let node = Node::terminal(&bob, &directory, false).await;
    assert_eq!(node.ask(&directory, Some(claim(&bob))).await, refused(Refusal::NotServing));
}
