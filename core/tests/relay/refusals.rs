//! What the relay refuses, each with the code that the RFC gives it, and what it keeps of a flood.

use std::net::SocketAddr;
use std::time::Duration;

use offhook::proto::identity::TerminalKey;
use offhook::proto::relay::{FULL_LIFETIME, RelayClass, TicketIssuer};
use offhook::proto::wire::UnixMillis;
use offhook::relay::{PeerPolicy, Relay, RelayConfig, RelayQuotas};
use stun_types::message::{BINDING, Message, MessageWriteVec, TransactionId};
use stun_types::prelude::MessageWrite;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, UdpSocket};
use turn_types::AddressFamily;
use turn_types::attribute::{
    ChannelNumber, EvenPort, Lifetime, RequestedAddressFamily, RequestedTransport, XorPeerAddress,
};
use turn_types::message::{ALLOCATE, CHANNEL_BIND, CONNECT, CREATE_PERMISSION, REFRESH};

use crate::calls::relay;
use crate::client::{Client, Link, PATIENCE, issuer, now, ticket};
use crate::raw::{Answer, Raw, Strange, udp};

async fn relay_with(change: impl FnOnce(&mut RelayConfig)) -> (Relay, SocketAddr) {
    let mut config = RelayConfig::new(issuer());
    config.listen = Some("127.0.0.1:0".parse().unwrap());
    change(&mut config);
    let relay = Relay::start(config).await.unwrap();
    let addr = relay.addr().unwrap();
    (relay, addr)
}

fn full() -> offhook::proto::relay::RelayTicket {
    ticket(RelayClass::Full, 1)
}

async fn permit(raw: &mut Raw, peer: &str) -> Answer {
    let id = TransactionId::generate();
    let peer = XorPeerAddress::new(peer.parse().unwrap(), id);
    raw.request_as(id, CREATE_PERMISSION, &[&peer]).await
}

async fn bind(raw: &mut Raw, channel: u16, peer: SocketAddr) -> Answer {
    let id = TransactionId::generate();
    let peer = XorPeerAddress::new(peer, id);
    raw.request_as(id, CHANNEL_BIND, &[&ChannelNumber::new(channel), &peer]).await
}

#[tokio::test]
async fn tickets_that_are_over_forged_or_anothers_are_401() {
    let (_relay, addr) = relay().await;
    let terminal = TerminalKey::from_seed([1; 32]).public();
    let before = UnixMillis(now().0 - FULL_LIFETIME.as_millis() as u64 - 1_000);
    let over = issuer().issue(RelayClass::Full, &terminal, Vec::new(), before);
    let elsewhere = TicketIssuer::new([8; 32]).issue(RelayClass::Full, &terminal, Vec::new(), now());
    let mut raised = ticket(RelayClass::Guest, 1);
    raised.username = raised.username.replace(":g:", ":f:");
    let mut endless = full();
    endless.username = format!("9{}", endless.username);
    for bad in [over, elsewhere, raised, endless] {
        let mut raw = Raw::challenged(Link::udp(addr).await, &bad).await;
        assert_eq!(raw.allocate().await, Answer::Error(401), "{}", bad.username);
    }
    let mut good = Raw::challenged(Link::udp(addr).await, &full()).await;
    assert_eq!(good.allocate().await, Answer::Success);
}

#[tokio::test]
async fn a_nonce_of_before_is_good_at_a_new_address_and_a_made_up_one_is_438() {
    let (_relay, addr) = relay().await;
    let first = Raw::challenged(Link::udp(addr).await, &full()).await;
    // One round trip: what a terminal does whose address has changed.
    let mut second = Raw::new(Link::udp(addr).await, &full());
    second.set_nonce(first.nonce());
    assert_eq!(second.allocate().await, Answer::Success);
    let mut third = Raw::new(Link::udp(addr).await, &full());
    third.set_nonce("68a1b2c3.AAAAAAAAAAAAAAAAAAAA");
    assert_eq!(third.allocate().await, Answer::Error(438));
}

#[tokio::test]
async fn requests_without_an_allocation_and_a_second_one_are_437() {
    let (_relay, addr) = relay().await;
    let mut raw = Raw::challenged(Link::udp(addr).await, &full()).await;
    assert_eq!(permit(&mut raw, "127.0.0.1:0").await, Answer::Error(437));
    assert_eq!(raw.refresh(600).await, Answer::Error(437));
    assert_eq!(raw.allocate().await, Answer::Success);
    assert_eq!(raw.allocate().await, Answer::Error(437));
}

#[tokio::test]
async fn another_users_request_on_an_allocation_is_441() {
    let (_relay, addr) = relay().await;
    let (mut raw, _) = Raw::allocated(Link::udp(addr).await, &full()).await;
    raw.become_user(&ticket(RelayClass::Full, 2));
    assert_eq!(raw.refresh(0).await, Answer::Error(441));
    raw.become_user(&full());
    assert_eq!(raw.refresh(0).await, Answer::Success);
}

#[tokio::test]
async fn tcp_towards_peers_is_442() {
    let (_relay, addr) = relay().await;
    for link in [Link::udp(addr).await, Link::tcp(addr).await] {
        let mut raw = Raw::challenged(link, &full()).await;
        let tcp = RequestedTransport::new(RequestedTransport::TCP);
        assert_eq!(raw.request(ALLOCATE, &[&tcp]).await, Answer::Error(442));
        assert_eq!(raw.allocate().await, Answer::Success);
        assert_eq!(raw.request(CONNECT, &[]).await, Answer::Error(400));
    }
}

#[tokio::test]
async fn a_family_without_an_address_is_440() {
    let (_relay, addr) = relay().await;
    let mut raw = Raw::challenged(Link::udp(addr).await, &full()).await;
    let six = RequestedAddressFamily::new(AddressFamily::IPV6);
    assert_eq!(raw.request(ALLOCATE, &[&udp(), &six]).await, Answer::Error(440));
    assert_eq!(raw.allocate().await, Answer::Success, "and nothing is left behind");
}

#[tokio::test]
async fn what_is_not_offered_is_508_420_or_400() {
    let (_relay, addr) = relay().await;
    let mut raw = Raw::challenged(Link::udp(addr).await, &full()).await;
    assert_eq!(raw.request(ALLOCATE, &[&udp(), &EvenPort::new(true)]).await, Answer::Error(508));
    assert_eq!(raw.request(ALLOCATE, &[&udp(), &Strange]).await, Answer::Error(420));
    assert_eq!(raw.request(ALLOCATE, &[]).await, Answer::Error(400));
    assert_eq!(raw.allocate().await, Answer::Success);
    assert_eq!(raw.request(CREATE_PERMISSION, &[]).await, Answer::Error(400));
    let peer = SocketAddr::from(([10, 0, 0, 1], 9));
    for channel in [0, 0x3fff, 0x5000] {
        assert_eq!(bind(&mut raw, channel, peer).await, Answer::Error(400), "{channel}");
    }
    assert_eq!(bind(&mut raw, 0x4fff, peer).await, Answer::Success, "a private peer, as the relay is");
}

#[tokio::test]
async fn forbidden_peers_are_403() {
    let (_relay, addr) = relay_with(|config| config.policy = Some(PeerPolicy::default())).await;
    let (mut raw, relayed) = Raw::allocated(Link::udp(addr).await, &full()).await;
    for peer in ["127.0.0.2:0", "10.0.0.1:0", "169.254.169.254:0", "100.64.1.1:0", "224.0.0.1:0", "0.0.0.0:0"]
    {
        assert_eq!(permit(&mut raw, peer).await, Answer::Error(403), "{peer}");
    }
    for peer in ["[::1]:0", "[::ffff:10.0.0.1]:0", "[2002:a00:1::1]:0", "[64:ff9b::a00:1]:0"] {
        assert_eq!(permit(&mut raw, peer).await, Answer::Error(403), "{peer}");
    }
    // The directory itself, but for what it has handed out.
    assert_eq!(bind(&mut raw, 0x4000, addr).await, Answer::Error(403));
    assert_eq!(bind(&mut raw, 0x4000, SocketAddr::from(([127, 0, 0, 1], 22))).await, Answer::Error(403));
    assert_eq!(bind(&mut raw, 0x4000, relayed).await, Answer::Success);
    assert_eq!(permit(&mut raw, "198.41.0.4:0").await, Answer::Success);
}

/// A permission is for all ports of an address: so each packet is looked at, too.
#[tokio::test]
async fn nothing_gets_to_the_directorys_own_ports_or_from_them() {
    let (_relay, addr) = relay().await;
    let service = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = service.local_addr().unwrap();
    let (mut a, at_a) = Client::allocated(Link::udp(addr).await, &full()).await;
    let (mut b, at_b) = Client::allocated(Link::udp(addr).await, &ticket(RelayClass::Guest, 2)).await;
    assert!(a.permit(port.ip()).await && b.permit(at_a.ip()).await);
    a.send(port, b"for the service").await;
    service.send_to(b"from the service", at_a).await.unwrap();
    // What comes after it on the same ways has arrived.
    a.send(at_b, b"for the other").await;
    assert_eq!(b.message().await, (at_a, b"for the other".to_vec()));
    b.send(at_a, b"back").await;
    assert_eq!(a.message().await, (at_b, b"back".to_vec()));
    assert_eq!(service.try_recv(&mut [0; 100]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_second_allocation_of_a_guest_is_486_until_the_first_has_ended() {
    let (_relay, addr) = relay().await;
    let guest = ticket(RelayClass::Guest, 3);
    let (mut first, _) = Raw::allocated(Link::udp(addr).await, &guest).await;
    let mut second = Raw::challenged(Link::tcp(addr).await, &guest).await;
    assert_eq!(second.allocate().await, Answer::Error(486));
    assert_eq!(first.refresh(0).await, Answer::Success);
    assert_eq!(second.allocate().await, Answer::Success);
    // A connection's end is its allocation's.
    drop(second);
    let ended = async {
        while first.allocate().await == Answer::Error(486) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("room");
}

/// His address has changed, so he can't give back what he has.
#[tokio::test]
async fn a_guest_who_has_moved_gets_another_address_for_the_one_that_he_has_left_behind() {
    let (_relay, addr) = relay().await;
    let guest = ticket(RelayClass::Guest, 3);
    let (mut first, relayed) = Client::allocated(Link::udp(addr).await, &guest).await;
    let (_peer, at_peer) = Client::allocated(Link::udp(addr).await, &full()).await;
    assert!(first.permit(at_peer.ip()).await);
    first.send(at_peer, b"a call").await;
    let mut second = Raw::challenged(Link::udp(addr).await, &guest).await;
    let granted = async {
        while second.allocate().await == Answer::Error(486) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, granted).await.expect("another address");
    assert_eq!(second.refresh(600).await, Answer::Success);
    // The former one is no more.
    let bound = async {
        while UdpSocket::bind(relayed).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, bound).await.expect("a free port");
}

#[tokio::test]
async fn a_flood_of_allocations_stops_at_508() {
    let quotas = RelayQuotas { allocations: 20, ..RelayQuotas::default() };
    let (_relay, addr) = relay_with(|config| config.quotas = quotas).await;
    let nonce = Raw::challenged(Link::udp(addr).await, &full()).await.nonce().to_owned();
    let (mut granted, mut clients) = (0, Vec::new());
    for n in 0..60 {
        let mut raw = Raw::new(Link::udp(addr).await, &ticket(RelayClass::Guest, n));
        raw.set_nonce(&nonce);
        match raw.allocate().await {
            Answer::Success => granted += 1,
            Answer::Error(code) => assert_eq!(code, 508),
        }
        clients.push(raw);
    }
    assert_eq!(granted, 20);
    assert_eq!(clients[0].refresh(0).await, Answer::Success);
    assert_eq!(clients[59].allocate().await, Answer::Success);
}

#[tokio::test]
async fn an_allocation_without_a_port_left_is_508() {
    let port = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let (_relay, addr) = relay_with(|config| config.ports = (port, port)).await;
    let (mut first, relayed) = Raw::allocated(Link::udp(addr).await, &full()).await;
    assert_eq!(relayed.port(), port);
    let mut second = Raw::challenged(Link::udp(addr).await, &full()).await;
    assert_eq!(second.allocate().await, Answer::Error(508));
    assert_eq!(first.refresh(0).await, Answer::Success);
    let free = async {
        while second.allocate().await != Answer::Success {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, free).await.expect("the port again");
}

#[tokio::test]
async fn strangers_get_a_bounded_number_of_answers_and_users_all_of_theirs() {
    let quotas = RelayQuotas { answers_per_host: 2, ..RelayQuotas::default() };
    let (_relay, addr) = relay_with(|config| config.quotas = quotas).await;
    let (mut user, _) = Raw::allocated(Link::udp(addr).await, &full()).await;
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    stranger.connect(addr).await.unwrap();
    for n in 0..200 {
        let method = if n % 2 == 0 { BINDING } else { ALLOCATE };
        let request = Message::builder_request(method, MessageWriteVec::new()).finish();
        stranger.send(&request).await.unwrap();
    }
    // Answered in turn, so when this has its answer the others have theirs.
    assert_eq!(user.refresh(600).await, Answer::Success);
    let mut answers = 0;
    while stranger.try_recv(&mut [0; 600]).is_ok() {
        answers += 1;
    }
    // Ten seconds' worth, less the challenge, and what came meanwhile.
    assert!((15..=40).contains(&answers), "{answers}");
}

#[tokio::test]
async fn connections_are_counted_and_silent_ones_end() {
    let quotas = RelayQuotas { connections_per_source: 3, ..RelayQuotas::default() };
    let (_relay, addr) = relay_with(|config| config.quotas = quotas).await;
    let mut raws = Vec::new();
    for _ in 0..3 {
        raws.push(Raw::challenged(Link::tcp(addr).await, &full()).await);
    }
    let mut fourth = TcpStream::connect(addr).await.unwrap();
    let closed = tokio::time::timeout(PATIENCE, fourth.read(&mut [0; 1])).await.expect("closed at once");
    assert!(matches!(closed, Ok(0) | Err(_)));
    // What is no TURN ends the connection, and makes room.
    raws[0].link.send(b"GET / HTTP/1.1\r\n\r\n").await;
    let Link::Tcp(stream, _) = &mut raws[0].link else { panic!("a connection") };
    let closed = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 1])).await.expect("closed");
    assert!(matches!(closed, Ok(0) | Err(_)));
    let again = async {
        loop {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            if tokio::time::timeout(Duration::from_millis(200), stream.read(&mut [0; 1])).await.is_err() {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("room for another");
}

#[tokio::test]
async fn an_allocation_lost_by_its_client_is_not_refreshed_and_ends() {
    let quotas = RelayQuotas { idle: Duration::from_millis(500), ..RelayQuotas::default() };
    let (_relay, addr) = relay_with(|config| config.quotas = quotas).await;
    let (lost, relayed) = Raw::allocated(Link::udp(addr).await, &ticket(RelayClass::Guest, 3)).await;
    let bound = async {
        while UdpSocket::bind(relayed).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, bound).await.expect("a free port");
    drop(lost);
}

#[tokio::test]
async fn an_answer_that_was_lost_is_sent_again() {
    let (_relay, addr) = relay().await;
    let mut raw = Raw::challenged(Link::udp(addr).await, &full()).await;
    let id = TransactionId::generate();
    assert_eq!(raw.request_as(id, ALLOCATE, &[&udp()]).await, Answer::Success);
    assert_eq!(raw.request_as(id, ALLOCATE, &[&udp()]).await, Answer::Success);
    assert_eq!(raw.request(REFRESH, &[&Lifetime::new(600)]).await, Answer::Success);
}

#[tokio::test]
async fn a_relay_that_is_stopped_closes_everything() {
    let (relay, addr) = relay().await;
    let (_client, relayed) = Client::allocated(Link::udp(addr).await, &full()).await;
    relay.stop();
    let free = async {
        while UdpSocket::bind(relayed).await.is_err() || UdpSocket::bind(addr).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, free).await.expect("free ports");
}
