//! What the fuzzer reaches of this module. Each function does with its input what the relay does with it, and asserts what
//! must hold of the outcome.
#![allow(clippy::panic, reason = "a panic is what the fuzzer reports")]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use offhook_proto::identity::TerminalId;
use offhook_proto::relay::{RelayClass, TicketIssuer};
use offhook_proto::wire::UnixMillis;
use stun_types::message::{Message, MessageClass};
use turn_types::AddressFamily;

use super::courier::Courier;
use super::gate::Gate;
use super::hub::MAX_DATAGRAM;
use super::quota::RelayQuotas;
use super::request::Ask;
use super::session::Session;
use super::stream::{NotTurn, take_frame};
use super::udp::Kind;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
const CLIENT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)), 4_000);
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9)), 9);

/// A client with an allocation, which sends what the fuzzer likes: each datagram has two bytes in front, one that says
/// who sends it and whether time passes, and its length.
pub fn client(mut input: &[u8]) {
    let (issuer, start) = (TicketIssuer::new([7; 32]), Instant::now());
    let gate = Gate::new(issuer.clone());
    let ticket = issuer.issue(RelayClass::Guest, &TerminalId::from_bytes([5; 32]), Vec::new(), NOW);
    let Ok(user) = gate.user(&ticket.username, NOW) else { panic!("a ticket that was just issued") };
    let mut session = Session::new(user, CLIENT, &RelayQuotas::default(), start);
    let mut open = |family| match family {
        AddressFamily::IPV4 => Ok(SocketAddr::from((Ipv4Addr::new(203, 0, 113, 1), 50_000))),
        AddressFamily::IPV6 => Ok(SocketAddr::from((Ipv6Addr::LOCALHOST, 50_000))),
    };
    let allocate = Ask::Allocate { family: None, additional: true, lifetime: None };
    assert!(session.request(&allocate, 1.into(), &mut open, start).is_ok());
    let (mut now, mut out) = (start, Vec::new());
    while let [head, length, rest @ ..] = input {
        let (datagram, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        input = rest;
        now += Duration::from_secs(u64::from(head & 1) * 20);
        if head & 2 == 0 {
            datagram_of_client(&gate, &mut session, &mut open, datagram, now);
        } else {
            for relayed in session.relayed().to_vec() {
                session.relay_in(relayed, PEER, datagram, now, &mut out);
            }
        }
        let (_, next) = session.tick(now);
        assert!(next >= now);
    }
}

fn datagram_of_client(
    gate: &Gate,
    session: &mut Session,
    open: &mut super::session::Open<'_>,
    datagram: &[u8],
    now: Instant,
) {
    match Kind::of(datagram) {
        Kind::Message => {
            let Ok(message) = Message::from_bytes(datagram) else { return };
            assert!(gate.admit(&message, None, NOW).is_err(), "nobody guesses a password");
            if message.class() == MessageClass::Indication {
                session.relay_out(datagram, now);
            } else if let Ok(ask) = Ask::read(&message) {
                // As if it had been signed.
                let _ = session.request(&ask, message.transaction_id(), open, now);
            }
        }
        Kind::Channel => {
            if let Some(sent) = session.relay_out(datagram, now) {
                assert!(datagram.len() >= sent.data.len() + 4);
            }
        }
        Kind::Courier | Kind::Unknown => {}
    }
}

/// What comes over a connection.
pub fn stream(input: &[u8]) {
    let mut buffer = BytesMut::from(input);
    let mut taken = 0;
    loop {
        let before = buffer.len();
        match take_frame(&mut buffer) {
            Ok(Some(frame)) => {
                let used = before - buffer.len();
                assert!(frame.len() >= 4 && frame.len() <= used && used <= MAX_DATAGRAM);
                assert_eq!(&input[taken..taken + frame.len()], &frame[..]);
                taken += used;
            }
            Ok(None) => break assert!(buffer.len() < MAX_DATAGRAM),
            Err(NotTurn) => break,
        }
    }
}

/// A packet at the courier.
pub fn courier(input: &[u8]) {
    let mut courier = Courier::new(TicketIssuer::new([7; 32]));
    let outcome = courier.on_packet(input, CLIENT, Instant::now(), NOW);
    assert!(outcome.is_err(), "nobody guesses a password");
}
