use bytes::BytesMut;
use offhook_proto::relay::REALM;
use stun_types::attribute::MessageIntegrity;
use stun_types::message::{
    IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageWrite, MessageWriteExt, MessageWriteVec,
};
use stun_types::prelude::AttributeStaticType;
use turn_types::attribute::{Lifetime, XorPeerAddress, XorRelayedAddress};
use turn_types::message::{ALLOCATE, CREATE_PERMISSION};

use super::client::MAX_PEERS;
use super::stream::{NotTurn, take_message};
use super::*;
use std::cell::Cell;
use std::time::Duration;

const HERE: &str = "192.0.2.10:4000";

fn server(transport: RelayTransport, host: u8) -> RelayServer {
    RelayServer { transport, addr: SocketAddr::from(([198, 51, 100, host], 3_478)), pin: None }
}

fn relay(servers: Vec<RelayServer>) -> Relay {
    Relay {
        label: "a".into(),
        servers,
        username: "u".into(),
        password: "p".into(),
        nonce: None,
        shared: true,
        courier: false,
        reached_over: RelayTransport::Udp,
    }
}

fn relays() -> Relays {
    Relays::new(HERE.parse().unwrap(), |_| Some([192, 0, 2, 10].into()))
}

/// What happens until `end`, with its time in ms since `start`.
fn run(relays: &mut Relays, start: Instant, end: Duration) -> Vec<(u128, String)> {
    let mut log = Vec::new();
    let mut now = start;
    loop {
        relays.handle_timeout(now);
        let at = (now - start).as_millis();
        while let Some(wire) = relays.poll_wire() {
            let Wire::Datagram { server, .. } = wire else { panic!("no connection stands") };
            log.push((at, format!("udp {}", server.ip())));
        }
        while let Some(event) = relays.poll_event() {
            match event {
                RelayEvent::Connect(_, server) => {
                    log.push((at, format!("{} {}", server.transport.name(), server.addr.ip())))
                }
                RelayEvent::Disconnect(_) => log.push((at, "disconnect".into())),
                RelayEvent::Opened(_) | RelayEvent::Lost(_) => panic!("nobody has answered"),
            }
        }
        now = relays.poll_timeout().unwrap().max(now + Duration::from_millis(1));
        if now > start + end {
            return log;
        }
    }
}

/// When each of four servers is tried, in ms: one over UDP, two over TCP, one over TLS.
fn begun(mut relays: Relays, reached_over: RelayTransport) -> [u128; 4] {
    let start = Instant::now();
    let servers = vec![
        server(RelayTransport::Tls, 3),
        server(RelayTransport::Tcp, 2),
        server(RelayTransport::Udp, 1),
        server(RelayTransport::Tcp, 4),
    ];
    assert!(relays.add(&Relay { reached_over, ..relay(servers) }, start));
    let log = run(&mut relays, start, Duration::from_millis(3_000));
    let first = |what: &str| log.iter().find(|(_, done)| done == what).unwrap().0;
    ["udp 198.51.100.1", "tcp 198.51.100.2", "tcp 198.51.100.4", "tls 198.51.100.3"].map(first)
}

#[test]
fn servers_are_tried_one_after_the_other_udp_first() {
    assert_eq!(begun(relays(), RelayTransport::Udp), [0, 150, 300, 450]);
}

#[test]
fn what_likely_stays_silent_is_not_waited_for() {
    assert_eq!(begun(relays(), RelayTransport::Tcp), [0, 0, 150, 300], "directories are reached over TCP");
    assert_eq!(begun(relays(), RelayTransport::Tls), [0, 0, 0, 0], "over TLS");
    let nowhere = Relays::new(HERE.parse().unwrap(), |_| None);
    assert_eq!(begun(nowhere, RelayTransport::Udp), [0, 0, 0, 0], "there is no route");
}

#[test]
fn a_relay_that_never_answers_is_asked_ever_more_seldom() {
    let (mut relays, start) = (relays(), Instant::now());
    relays.add(&relay(vec![server(RelayTransport::Udp, 1)]), start);
    let log = run(&mut relays, start, Duration::from_secs(600));
    // A round of at most 6 s has at most seven requests; pauses grow up to 32 s.
    assert!((100..=150).contains(&log.len()), "{}", log.len());
}

#[test]
fn one_that_can_t_be_reached_over_tcp_gives_way_at_once() {
    let (mut relays, start) = (relays(), Instant::now());
    let servers = vec![server(RelayTransport::Tcp, 1), server(RelayTransport::Tls, 2)];
    relays.add(&relay(servers), start);
    let Some(RelayEvent::Connect(id, _)) = relays.poll_event() else { panic!("TCP comes first") };
    relays.disconnected(id, start);
    let Some(RelayEvent::Connect(_, second)) = relays.poll_event() else { panic!("TLS need not wait") };
    assert_eq!(second.transport, RelayTransport::Tls);
}

#[test]
fn two_relays_and_no_more_and_none_twice() {
    let (mut relays, now) = (relays(), Instant::now());
    assert!(relays.add(&relay(vec![server(RelayTransport::Udp, 1)]), now));
    assert!(!relays.add(&relay(vec![server(RelayTransport::Udp, 1)]), now), "the same one");
    assert!(!relays.add(&relay(Vec::new()), now));
    assert!(relays.add(&relay(vec![server(RelayTransport::Udp, 1), server(RelayTransport::Udp, 2)]), now));
    assert!(!relays.add(&relay(vec![server(RelayTransport::Udp, 3)]), now));
}

#[test]
fn nobody_but_the_relay_is_taken_for_it_and_its_garbage_for_nothing() {
    let (mut relays, now) = (relays(), Instant::now());
    relays.add(&relay(vec![server(RelayTransport::Udp, 1)]), now);
    let channel = [&[0x40, 0, 0, 8][..], &[0x40; 8]].concat();
    let elsewhere: SocketAddr = "198.51.100.9:3478".parse().unwrap();
    for bytes in [&channel[..], &[0; 20], &[], &[0xff; 100], &[1, 3, 0, 0, 0x21, 0x12, 0xa4, 0x42]] {
        assert_eq!(relays.datagram(elsewhere, bytes, now), Datagram::Other);
        let from_relay = relays.datagram(server(RelayTransport::Udp, 1).addr, bytes, now);
        assert!(!matches!(from_relay, Datagram::Data(_)), "no channel is bound: {from_relay:?}");
    }
    assert!(!relays.send(elsewhere, elsewhere, b"x", now), "nothing is opened yet");
}

#[test]
fn another_way_to_the_relay_is_another_client() {
    thread_local! { static OURS: Cell<u8> = const { Cell::new(1) } }
    let route: Route = |_| Some([192, 0, 2, OURS.get()].into());
    let (mut relays, now) = (Relays::new(HERE.parse().unwrap(), route), Instant::now());
    relays.add(&relay(vec![server(RelayTransport::Udp, 1)]), now);
    let asked = |relays: &mut Relays, now| {
        relays.reroute(now);
        let Wire::Datagram { bytes, .. } = relays.poll_wire()? else { panic!("no connection stands") };
        Some(bytes[8..20].to_vec())
    };
    let first = asked(&mut relays, now).unwrap();
    assert_eq!(asked(&mut relays, now), None, "the way is the same");
    OURS.set(2);
    assert_ne!(asked(&mut relays, now).unwrap(), first);
}

/// A client that a server over UDP has given an address, and the server's permission asked for, if any.
fn first_permission(shared: bool) -> Option<SocketAddr> {
    let (mut relays, now) = (relays(), Instant::now());
    let nonce = Some("nonce".to_owned());
    relays.add(&Relay { nonce, shared, ..relay(vec![server(RelayTransport::Udp, 1)]) }, now);
    let Some(Wire::Datagram { server: from, bytes: request }) = relays.poll_wire() else {
        panic!("UDP is asked at once")
    };
    let request = Message::from_bytes(&request).unwrap();
    assert!(request.has_method(ALLOCATE) && request.has_attribute(MessageIntegrity::TYPE), "not challenged");
    let mut answer = Message::builder_success(&request, MessageWriteVec::new());
    let opened = XorRelayedAddress::new("198.51.100.1:50000".parse().unwrap(), request.transaction_id());
    answer.add_attribute(&opened).unwrap();
    answer.add_attribute(&Lifetime::new(600)).unwrap();
    let credentials = LongTermKeyCredentials::new("u".into(), "p".into(), REALM.into());
    let key = credentials.make_key(IntegrityAlgorithm::Sha1);
    answer.add_message_integrity_with_key(&key, IntegrityAlgorithm::Sha1).unwrap();
    assert_eq!(relays.datagram(from, &answer.finish(), now), Datagram::Handled);
    // Requests are kept apart.
    let soon = relays.poll_timeout().filter(|due| *due <= now + Duration::from_millis(50));
    relays.handle_timeout(soon.unwrap_or(now));
    let Some(Wire::Datagram { bytes: request, .. }) = relays.poll_wire() else { return None };
    let request = Message::from_bytes(&request).unwrap();
    assert!(request.has_method(CREATE_PERMISSION), "{}", request.method());
    Some(request.attribute::<XorPeerAddress>().unwrap().addr(request.transaction_id()))
}

#[test]
fn whoever_has_an_address_at_the_same_relay_is_let_in_before_his_is_known() {
    let relay = server(RelayTransport::Udp, 1).addr.ip();
    assert_eq!(first_permission(true).map(|peer| peer.ip()), Some(relay));
    assert_eq!(first_permission(false), None, "the other end does not use this relay");
}

#[test]
fn messages_on_a_connection_are_told_apart_and_padding_goes() {
    let stun = [&[1, 1, 0, 4][..], &[7; 20]].concat();
    let data = [&[0x40, 1, 0, 5][..], b"voice", &[0; 3]].concat();
    let whole = [&stun[..], &data, &stun].concat();
    for cut in 0..whole.len() {
        let mut buffer = BytesMut::from(&whole[..cut]);
        let mut taken = Vec::new();
        while let Some(message) = take_message(&mut buffer).unwrap() {
            taken.push(message);
        }
        buffer.extend_from_slice(&whole[cut..]);
        while let Some(message) = take_message(&mut buffer).unwrap() {
            taken.push(message);
        }
        assert_eq!(taken, [&stun[..], &data[..9], &stun], "cut at {cut}");
        assert!(buffer.is_empty());
    }
    for first in [4, 0x50, 0x80, 0xff] {
        assert_eq!(take_message(&mut BytesMut::from(&[first; 30][..])), Err(NotTurn));
    }
}

#[test]
fn peers_of_a_client_are_bounded() {
    const { assert!(MAX_PEERS >= super::super::ice::MAX_REMOTE, "every candidate of the other end has room") };
}

#[test]
fn one_that_both_ends_use_comes_before_others_over_the_same_transport() {
    use RelayTransport::{Tcp, Tls, Udp};
    let ranks = [(Udp, true), (Udp, false), (Tcp, true), (Tcp, false), (Tls, true), (Tls, false)]
        .map(|(transport, shared)| [0, 1].map(|index| contest::rank(transport, shared, index)));
    assert!(ranks.as_flattened().is_sorted_by(|a, b| a < b), "{ranks:?}");
}
