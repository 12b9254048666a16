//! One client's allocation over virtual time.

use offhook_proto::identity::TerminalKey;
use offhook_proto::relay::{RelayClass, TicketIssuer};
use stun_types::attribute::ErrorCode;
use turn_types::attribute::{Lifetime, XorRelayedAddress};

use super::*;
use crate::relay::gate::Gate;
use crate::relay::request::MAX_LIFETIME;

const CLIENT: &str = "198.51.100.7:4000";
const RELAYED: &str = "203.0.113.1:50000";
const RELAYED_6: &str = "[2001:db8::1]:50000";
const PEER: &str = "192.0.2.55:777";

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A session on a clock of its own.
struct Bench {
    session: Session,
    now: Instant,
    next_id: u128,
}

impl Bench {
    /// Without an allocation.
    fn new(quotas: &RelayQuotas) -> Self {
        let now = Instant::now();
        let session = Session::new(user(), addr(CLIENT), quotas, now);
        Self { session, now, next_id: 1 }
    }

    /// With an IPv4 one that does not end for want of packets.
    fn allocated() -> Self {
        let quotas = RelayQuotas { idle: Duration::from_secs(86_400), ..RelayQuotas::default() };
        let mut bench = Self::new(&quotas);
        bench.ask(&allocate()).unwrap();
        bench
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    /// The answer: the error code if the machine says no itself.
    fn ask(&mut self, ask: &Ask) -> Result<Vec<u8>, No> {
        self.next_id += 1;
        self.ask_as(self.next_id, ask)
    }

    fn ask_as(&mut self, id: u128, ask: &Ask) -> Result<Vec<u8>, No> {
        let open = &mut |family| match family {
            AddressFamily::IPV4 => Ok(addr(RELAYED)),
            AddressFamily::IPV6 => Err(SocketAllocateError::AddressFamilyNotSupported),
        };
        self.session.request(ask, id.into(), open, self.now)
    }

    fn permit(&mut self, peer: &str) -> Result<Vec<u8>, No> {
        self.ask(&Ask::Permit { peers: vec![addr(peer)] })
    }

    fn bind(&mut self, channel: u16, peer: &str) -> Result<Vec<u8>, No> {
        self.ask(&Ask::Bind { channel, peer: addr(peer) })
    }

    fn refresh(&mut self, lifetime: u32) -> Vec<u8> {
        self.ask(&Ask::Refresh { family: None, lifetime: Some(lifetime) }).unwrap()
    }

    /// What a peer would get of data sent on a channel.
    fn send(&mut self, channel: u16, data: &[u8]) -> Option<(SocketAddr, Vec<u8>)> {
        let mut datagram = channel.to_be_bytes().to_vec();
        datagram.extend((data.len() as u16).to_be_bytes());
        datagram.extend_from_slice(data);
        self.session.relay_out(&datagram, self.now).map(|sent| (sent.peer, sent.data.to_vec()))
    }

    fn receive(&mut self, peer: &str, data: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        self.session.relay_in(addr(RELAYED), addr(peer), data, self.now, &mut out).then_some(out)
    }

    fn closed(&mut self) -> Vec<SocketAddr> {
        self.session.tick(self.now).0
    }
}

fn user() -> User {
    let issuer = TicketIssuer::new([7; 32]);
    let now = crate::clock::wall_clock();
    let terminal = TerminalKey::from_seed([5; 32]).public();
    let ticket = issuer.issue(RelayClass::Guest, &terminal, Vec::new(), now);
    Gate::new(issuer).user(&ticket.username, now).unwrap()
}

fn allocate() -> Ask {
    Ask::Allocate { family: None, additional: false, lifetime: Some(3_600) }
}

fn lifetime(answer: &[u8]) -> u32 {
    Message::from_bytes(answer).unwrap().attribute::<Lifetime>().unwrap().seconds()
}

fn code(answer: &[u8]) -> u16 {
    Message::from_bytes(answer).unwrap().attribute::<ErrorCode>().unwrap().code()
}

#[test]
fn an_allocation_is_told_with_ten_minutes_of_life() {
    let mut bench = Bench::new(&RelayQuotas::default());
    let answer = bench.ask(&allocate()).unwrap();
    let message = Message::from_bytes(&answer).unwrap();
    let relayed = message.attribute::<XorRelayedAddress>().unwrap();
    assert_eq!(relayed.addr(message.transaction_id()), addr(RELAYED));
    assert_eq!(lifetime(&answer), MAX_LIFETIME, "an hour was asked for");
    assert!(message.validate_integrity_with_key(&user().key).is_ok());
    assert_eq!(lifetime(&bench.refresh(3_600)), MAX_LIFETIME);
}

#[test]
fn an_answer_that_was_lost_is_given_again_and_a_second_allocation_is_not() {
    let mut bench = Bench::new(&RelayQuotas::default());
    let first = bench.ask_as(77, &allocate()).unwrap();
    assert_eq!(bench.ask_as(77, &allocate()), Ok(first));
    assert_eq!(bench.ask_as(78, &allocate()), Err(No::Mismatch));
}

#[test]
fn without_an_allocation_there_is_nothing_to_be_had() {
    let mut bench = Bench::new(&RelayQuotas::default());
    assert_eq!(bench.permit(PEER), Err(No::Mismatch));
    assert_eq!(bench.bind(0x4000, PEER), Err(No::Mismatch));
    assert_eq!(bench.ask(&Ask::Refresh { family: None, lifetime: None }), Err(No::Mismatch));
    assert_eq!(bench.send(0x4000, b"x"), None);
}

#[test]
fn an_allocation_ends_unless_it_is_refreshed() {
    let mut bench = Bench::allocated();
    bench.pass(599);
    assert!(bench.closed().is_empty());
    bench.refresh(600);
    bench.pass(599);
    assert!(bench.closed().is_empty());
    bench.pass(2);
    assert_eq!(bench.closed(), [addr(RELAYED)]);
    assert!(bench.session.relayed().is_empty());
}

#[test]
fn a_refresh_with_no_lifetime_ends_it_at_once() {
    let mut bench = Bench::allocated();
    assert_eq!(lifetime(&bench.refresh(0)), 0);
    assert_eq!(bench.closed(), [addr(RELAYED)]);
}

#[test]
fn an_idle_allocation_ends_however_often_it_is_refreshed() {
    let mut bench = Bench::new(&RelayQuotas::default());
    bench.ask(&allocate()).unwrap();
    bench.bind(0x4000, PEER).unwrap();
    bench.pass(170);
    assert!(bench.send(0x4000, b"x").is_some());
    bench.permit(PEER).unwrap();
    bench.refresh(600);
    bench.pass(170);
    assert!(bench.receive(PEER, b"x").is_some());
    bench.refresh(600);
    bench.pass(170);
    bench.refresh(600);
    assert!(bench.closed().is_empty());
    bench.pass(10);
    assert_eq!(bench.closed(), [addr(RELAYED)]);
}

#[test]
fn the_time_to_come_again_is_told() {
    let mut bench = Bench::allocated();
    bench.permit(PEER).unwrap();
    let (_, next) = bench.session.tick(bench.now);
    let wait = next - bench.now;
    assert!(wait >= PERMISSION_LIFE && wait < PERMISSION_LIFE + Duration::from_secs(1), "{wait:?}");
}

#[test]
fn only_permitted_peers_are_heard_and_not_for_ever() {
    let mut bench = Bench::allocated();
    assert_eq!(bench.receive(PEER, b"x"), None);
    bench.permit("192.0.2.55:1").unwrap();
    let indication = bench.receive(PEER, b"hello").expect("another port of the same address");
    let message = Message::from_bytes(&indication).unwrap();
    assert_eq!(message.method(), DATA);
    assert_eq!(message.attribute::<Data>().unwrap().data(), b"hello");
    let peer = message.attribute::<XorPeerAddress>().unwrap();
    assert_eq!(peer.addr(message.transaction_id()), addr(PEER));
    assert_eq!(bench.receive("192.0.2.56:777", b"x"), None);
    bench.pass(299);
    assert!(bench.receive(PEER, b"x").is_some());
    bench.pass(2);
    assert_eq!(bench.receive(PEER, b"x"), None);
}

#[test]
fn a_channel_carries_data_both_ways_until_it_is_over() {
    let mut bench = Bench::allocated();
    bench.bind(0x4000, PEER).unwrap();
    assert_eq!(bench.send(0x4000, b"out"), Some((addr(PEER), b"out".to_vec())));
    assert_eq!(bench.receive(PEER, b"in"), Some(b"\x40\x00\x00\x02in".to_vec()));
    assert_eq!(bench.send(0x4001, b"x"), None);
    bench.pass(290);
    bench.permit(PEER).unwrap();
    bench.refresh(600);
    bench.pass(290);
    bench.permit(PEER).unwrap();
    assert!(bench.send(0x4000, b"x").is_some());
    let (_, next) = bench.session.tick(bench.now);
    assert_eq!(next - bench.now, Duration::from_millis(20_010), "when the channel ends");
    bench.pass(21);
    assert!(bench.closed().is_empty());
    assert_eq!(bench.send(0x4000, b"x"), None);
    assert_eq!(bench.receive(PEER, b"in").map(|data| data[0]), Some(0), "an indication again");
}

#[test]
fn a_channel_has_one_peer_and_a_peer_one_channel() {
    let mut bench = Bench::allocated();
    bench.bind(0x4000, PEER).unwrap();
    bench.bind(0x4000, PEER).unwrap();
    assert_eq!(bench.bind(0x4000, "192.0.2.55:778"), Err(No::Malformed));
    assert_eq!(bench.bind(0x4001, PEER), Err(No::Malformed));
    bench.bind(0x4001, "192.0.2.55:778").unwrap();
}

#[test]
fn permissions_and_channels_are_bounded() {
    let mut bench = Bench::allocated();
    let peer = |n: usize| format!("192.0.2.{n}:9");
    for n in 0..MAX_PERMISSIONS {
        bench.permit(&peer(n)).unwrap();
    }
    assert_eq!(bench.permit("192.0.2.200:9"), Err(No::Capacity));
    assert_eq!(bench.bind(0x4000, "192.0.2.200:9"), Err(No::Capacity));
    bench.permit(&peer(3)).unwrap();
    for n in 0..MAX_CHANNELS as u16 {
        bench.bind(0x4000 + n, &format!("192.0.2.1:{}", 1_000 + n)).unwrap();
    }
    assert_eq!(bench.bind(0x4fff, "192.0.2.1:99"), Err(No::Capacity));
    bench.pass(301);
    bench.permit("192.0.2.200:9").unwrap();
}

#[test]
fn more_than_the_rate_is_dropped_in_each_direction() {
    let mut bench = Bench::allocated();
    bench.bind(0x4000, PEER).unwrap();
    let out = (0..100).filter(|_| bench.send(0x4000, &[0; 1_000]).is_some()).count();
    let back = (0..100).filter(|_| bench.receive(PEER, &[0; 1_000]).is_some()).count();
    // A guest's second: 256 kbit.
    assert_eq!((out, back), (32, 32));
    bench.pass(1);
    assert!(bench.send(0x4000, &[0; 1_000]).is_some());
}

#[test]
fn a_family_that_the_relay_does_not_have_is_refused() {
    let mut bench = Bench::new(&RelayQuotas::default());
    let six = Ask::Allocate { family: Some(AddressFamily::IPV6), additional: false, lifetime: None };
    assert_eq!(code(&bench.ask(&six).unwrap()), 440);
    assert!(bench.session.relayed().is_empty());
    let mut four = Bench::allocated();
    assert_eq!(code(&four.permit("[2001:db8::9]:1").unwrap()), 443);
}

#[test]
fn where_both_families_are_asked_for_one_will_do() {
    let both = Ask::Allocate { family: None, additional: true, lifetime: None };
    let mut bench = Bench::new(&RelayQuotas::default());
    assert!(is_success(&bench.ask(&both).unwrap()));
    assert_eq!(bench.session.relayed(), [addr(RELAYED)]);
    bench.permit(PEER).unwrap();
    // The other way round the machine would forget the one that it has: better none.
    let mut bench = Bench::new(&RelayQuotas::default());
    let open = &mut |family| match family {
        AddressFamily::IPV4 => Err(SocketAllocateError::InsufficientCapacity),
        AddressFamily::IPV6 => Ok(addr(RELAYED_6)),
    };
    assert_eq!(bench.session.request(&both, 5.into(), open, bench.now), Err(No::Capacity));
}
