#![allow(clippy::disallowed_methods, reason = "a test begins somewhere in time")]

use super::*;

/// A terminal with its helpers, a clock and fresh tokens.
struct World {
    proving: Proving<u8>,
    helpers: Vec<Helper<u8>>,
    now: Instant,
    tokens: u128,
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The terminal's own.
const HERE: &str = "198.51.100.7:4001";

/// A knocker's, in a network of its own.
fn from(network: u8) -> SocketAddr {
    SocketAddr::from(([203, 0, network, 9], 7_000))
}

impl World {
    fn new(helpers: u8) -> Self {
        let now = Instant::now();
        let helper = |node| Helper { node, network: Network::V4([192, 0, node]) };
        Self {
            proving: Proving::new(Times::default(), now),
            helpers: (0..helpers).map(helper).collect(),
            now,
            tokens: 0,
        }
    }

    fn poll(&mut self) -> Option<Errand<u8>> {
        self.tokens += 1;
        self.proving.poll(&self.helpers, self.tokens.to_be_bytes(), self.now)
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// The next errand, and how long it took to be due.
    fn next(&mut self) -> (Errand<u8>, Duration) {
        let start = self.now;
        for _ in 0..100_000 {
            if let Some(errand) = self.poll() {
                return (errand, self.now - start);
            }
            self.pass(Duration::from_secs(1));
        }
        panic!("nothing is ever due: {:?}", self.proving.standing());
    }

    fn knock(&mut self, token: Token, from: SocketAddr, linked: &[SocketAddr]) -> Result<(), NoProof> {
        self.pass(Duration::from_millis(200));
        let knock = Knock { token, at: addr(HERE), from, since: self.now };
        self.proving.knocked(&knock, linked, self.now)
    }

    /// Asks, and lets somebody knock.
    fn knocked(&mut self, from: SocketAddr) -> Result<(), NoProof> {
        let (errand, _) = self.next();
        self.proving.answered(&errand.token, Answer::Knocking, self.now);
        self.knock(errand.token, from, &[])
    }

    fn proved(helpers: u8) -> Self {
        let mut world = Self::new(helpers);
        assert_eq!((world.knocked(from(1)), world.knocked(from(2))), (Ok(()), Ok(())));
        assert_eq!(world.proving.standing(), Standing::Proved(addr(HERE)));
        world
    }
}

fn unproved(world: &World, reason: Reason) -> bool {
    world.proving.standing() == Standing::Unproved(reason)
}

#[test]
fn two_strangers_of_two_networks_make_a_proof() {
    let mut world = World::new(2);
    let (first, _) = world.next();
    assert_eq!(first.except, [Network::V4([192, 0, 0]), Network::V4([192, 0, 1])], "helpers are known");
    assert_eq!(world.knock(first.token, from(1), &[]), Ok(()));
    assert!(unproved(&world, Reason::New), "one is not enough");
    let (second, waited) = world.next();
    assert_eq!((second.helper, waited), (1, Duration::ZERO), "helpers take turns");
    assert!(second.except.contains(&Network::of(from(1).ip())) && second.token != first.token);
    // The same network again, though it was to be another one.
    assert_eq!(world.knock(second.token, SocketAddr::from(([203, 0, 1, 77], 1)), &[]), Ok(()));
    assert!(unproved(&world, Reason::New));
    assert_eq!(world.knocked(from(2)), Ok(()));
    assert_eq!(world.proving.standing(), Standing::Proved(addr(HERE)));
}

#[test]
fn strangers_who_say_different_addresses_prove_nothing() {
    let mut world = World::new(1);
    for (network, at) in [(1, HERE), (2, "198.51.100.7:4002"), (3, "192.0.2.7:4001")] {
        let (errand, _) = world.next();
        let knock = Knock { token: errand.token, at: addr(at), from: from(network), since: world.now };
        assert_eq!(world.proving.knocked(&knock, &[], world.now), Ok(()));
        assert!(unproved(&world, Reason::New), "{at}");
    }
    assert!(world.proving.proofs.len() <= MAX_PROOFS);
    assert_eq!(world.knocked(from(5)), Ok(()), "the first has company now");
    assert_eq!(world.proving.standing(), Standing::Proved(addr(HERE)));
}

/// What lets a knock in through an address-restricted NAT: anything sent to any port there, however it ended.
#[test]
fn whoever_something_was_sent_to_is_no_stranger() {
    let mut world = World::new(1);
    let known = SocketAddr::from(([203, 0, 1, 200], 4_001));
    world.proving.sent(known, world.now);
    assert_eq!(world.knocked(from(1)), Err(NoProof::Known));
    assert!(unproved(&world, Reason::NoStranger));
    let (errand, _) = world.next();
    assert_eq!(
        world.knock(errand.token, from(2), &[SocketAddr::from(([203, 0, 2, 1], 1))]),
        Err(NoProof::Known)
    );
    world.pass(Times::default().open);
    assert_eq!(world.knocked(from(1)), Ok(()), "by now a NAT has forgotten it");
}

#[test]
fn neighbours_of_this_terminal_prove_nothing() {
    let mut world = World::new(1);
    assert_eq!(
        world.knocked(addr("198.51.100.9:5000")),
        Err(NoProof::Near),
        "it may have come by a short cut"
    );
}

#[test]
fn only_what_was_asked_for_counts_and_once() {
    let mut world = World::new(1);
    assert_eq!(world.knock([9; 16], from(1), &[]), Err(NoProof::Unasked), "nothing was");
    let (errand, _) = world.next();
    assert_eq!(world.knock([9; 16], from(1), &[]), Err(NoProof::Unasked));
    let old = Knock {
        token: errand.token,
        at: addr(HERE),
        from: from(1),
        since: world.now - Duration::from_secs(9),
    };
    assert_eq!(world.proving.knocked(&old, &[], world.now), Err(NoProof::Old));
    assert_eq!(
        world.knock(errand.token, from(1), &[]),
        Ok(()),
        "the connection itself came after its message"
    );
    assert_eq!(world.knock(errand.token, from(2), &[]), Err(NoProof::Unasked), "a token is good once");
    let (errand, _) = world.next();
    world.pass(KNOCK_TIME);
    assert_eq!(world.knock(errand.token, from(2), &[]), Err(NoProof::Unasked), "too late");
}

#[test]
fn whom_nobody_reaches_asks_less_and_less() {
    let mut world = World::new(1);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        for _ in 0..MISSES {
            let (errand, waited) = world.next();
            world.proving.answered(&errand.token, Answer::Knocking, world.now);
            pauses.push(waited);
        }
        world.pass(KNOCK_TIME);
        assert!(world.poll().is_none() && unproved(&world, Reason::Unreachable));
    }
    let (first, longest) = Times::default().unreachable;
    let series: Vec<Duration> = pauses.into_iter().step_by(MISSES as usize).skip(1).collect();
    assert!(series[0] >= first && series.windows(2).all(|two| two[0] <= two[1]), "{series:?}");
    assert!(series.last().is_some_and(|pause| *pause >= longest && *pause < longest + first), "{series:?}");
    // Its address changes: that is another matter.
    world.proving.restart(world.now);
    assert_eq!(world.next().1, Duration::ZERO);
}

#[test]
fn every_helper_is_asked_before_there_is_a_pause() {
    let mut world = World::new(3);
    let mut asked = Vec::new();
    for _ in 0..6 {
        let (errand, waited) = world.next();
        world.proving.answered(&errand.token, Answer::Nobody, world.now);
        asked.push((errand.helper, waited));
    }
    let (first, _) = Times::default().nobody;
    let none = Duration::ZERO;
    assert_eq!(asked, [(0, none), (1, none), (2, none), (0, first), (1, none), (2, none)]);
    assert!(unproved(&world, Reason::NoStranger));
    let late = world.next().1;
    assert_eq!(late, 2 * first);
    world.proving.answered(&[0; 16], Answer::Nobody, world.now);
    assert!(world.poll().is_none(), "one at a time");
}

#[test]
fn without_helpers_nothing_is_asked_until_one_comes() {
    let mut world = World::new(0);
    assert!(world.poll().is_none() && unproved(&world, Reason::NoHelper));
    world.helpers = World::new(1).helpers;
    assert!(world.poll().is_none(), "not before the pause is over");
    world.proving.hurry(world.now);
    let errand = world.poll().expect("an errand");
    world.proving.answered(&errand.token, Answer::NoAddress, world.now);
    assert!(unproved(&world, Reason::NoAddress));
}

#[test]
fn a_proof_is_renewed_although_everybody_is_known() {
    let mut world = World::proved(2);
    let linked = [SocketAddr::from(([203, 0, 1, 9], 4_001))];
    for _ in 0..100 {
        let (errand, waited) = world.next();
        assert!(waited >= Times::default().renewal - Duration::from_secs(1), "{waited:?}");
        assert_eq!(errand.except, [], "by now nobody is a stranger");
        world.proving.answered(&errand.token, Answer::Knocking, world.now);
        assert_eq!(world.knock(errand.token, from(1), &linked), Ok(()), "from another port than is known");
    }
    let (errand, _) = world.next();
    assert_eq!(world.knock(errand.token, linked[0], &linked), Err(NoProof::Known), "a firewall lets that in");
    assert_eq!(
        world.proving.standing(),
        Standing::Proved(addr(HERE)),
        "which does not say that there is one"
    );
}

#[test]
fn a_proof_lapses_when_knocks_stay_out() {
    let mut world = World::proved(1);
    for _ in 0..MISSES_WHEN_PROVED {
        let (errand, _) = world.next();
        world.proving.answered(&errand.token, Answer::Knocking, world.now);
        assert_eq!(world.proving.standing(), Standing::Proved(addr(HERE)));
        world.pass(KNOCK_TIME);
    }
    // It is looked into again at once, as from the beginning.
    assert!(world.poll().is_some_and(|errand| !errand.except.is_empty()));
    assert!(unproved(&world, Reason::Unreachable));
}

#[test]
fn a_terminal_that_has_moved_is_tested_at_once_and_proved_anew() {
    let mut world = World::proved(1);
    world.proving.doubt(addr(HERE), world.now);
    world.proving.doubt(addr("[2001:db8::1]:4001"), world.now);
    assert!(world.poll().is_none(), "that is no other address");
    world.proving.doubt(addr("198.51.100.8:4001"), world.now);
    for _ in 0..MISSES_WHEN_PROVED {
        let (errand, waited) = world.next();
        assert_eq!(waited, Duration::ZERO);
        let knock =
            Knock { token: errand.token, at: addr("198.51.100.8:4001"), from: from(9), since: world.now };
        assert_eq!(world.proving.knocked(&knock, &[], world.now), Err(NoProof::Elsewhere));
    }
    assert!(unproved(&world, Reason::Unreachable));
    world.proving.restart(world.now);
    assert!(unproved(&world, Reason::New));
}

#[test]
fn what_nobody_can_test_lapses_after_a_day_unless_strangers_come_by_themselves() {
    let mut world = World::proved(1);
    world.helpers.clear();
    let visit = |world: &mut World, network| {
        world.proving.visited(from(network), &[], world.now);
    };
    for hour in 0..46 {
        world.pass(Duration::from_secs(3_600));
        if hour == 22 {
            visit(&mut world, 7);
        }
        assert!(world.poll().is_none());
        assert_eq!(world.proving.standing(), Standing::Proved(addr(HERE)), "hour {hour}");
    }
    // Whoever this terminal has called itself, or its neighbour, says nothing.
    world.proving.sent(from(8), world.now);
    visit(&mut world, 8);
    world.proving.visited(addr("198.51.100.9:5000"), &[], world.now);
    world.pass(Duration::from_secs(3_600));
    assert!(world.poll().is_none() && unproved(&world, Reason::NoHelper));
    visit(&mut world, 9);
    assert!(unproved(&world, Reason::NoHelper), "visits renew a proof, and are none");
}

#[test]
fn what_was_sent_to_is_bounded_and_nobody_is_a_stranger_when_it_was_too_much() {
    let mut world = World::new(1);
    for n in 0..10_000_u32 {
        let [_, a, b, c] = n.to_be_bytes();
        world.proving.sent(SocketAddr::from(([11, b, c, a], 1)), world.now);
    }
    assert_eq!(world.proving.sent.len(), MAX_SENT);
    assert_eq!(world.knocked(from(1)), Err(NoProof::Known), "it may be one that was forgotten");
    world.pass(Times::default().open);
    assert_eq!(world.knocked(from(1)), Ok(()));
}

#[test]
fn one_host_that_comes_and_goes_does_not_keep_everybody_from_being_a_stranger() {
    let mut world = World::new(1);
    (1..10_000).for_each(|port| world.proving.sent(SocketAddr::from(([11, 0, 0, 1], port)), world.now));
    assert_eq!(world.proving.sent.len(), MAX_SENT_PER_NETWORK);
    assert_eq!(world.knocked(from(1)), Ok(()));
}

#[test]
fn who_speaks_another_ip_does_not_come_through_what_is_in_front_of_the_address() {
    assert!(is_elsewhere(addr("198.51.100.9:1"), addr("192.0.2.7:1")));
    assert!(is_elsewhere(addr("[::ffff:198.51.100.9]:1"), addr("192.0.2.7:1")));
    assert!(!is_elsewhere(addr("192.0.2.9:1"), addr("192.0.2.7:1")));
    assert!(!is_elsewhere(addr("[2001:db8::1]:1"), addr("192.0.2.7:1")));
}
