//! Before the answer and at relays: what strangers' ends do and when.

use super::*;

#[test]
fn a_path_through_relays_is_found_before_disclosure_and_the_direct_one_wins_after_it() {
    let mut pair = Pair::new([false, false]);
    pair.add_relays();
    pair.run(Duration::from_millis(600));
    assert!(pair.are_relayed(), "{:?}", pair.paths);
    assert_eq!(pair.sent_direct, [0, 0], "an end that has not disclosed is not to be seen");
    let now = pair.now;
    pair.ends.iter_mut().for_each(|end| assert_eq!(end.disclose(now).len(), 1));
    pair.run(ONE_WAY * 2 + Duration::from_millis(30));
    assert!(pair.are_direct(), "after a round trip: {:?}", pair.log);
    pair.run(Duration::from_secs(20));
    let [a, b] = pair.addresses;
    let stays = |log: &[(Duration, SocketAddr)], peer| log.iter().all(|(_, remote)| *remote == peer);
    assert!(stays(&pair.log[0], b) && stays(&pair.log[1], a), "for good: {:?}", pair.log);
    assert!(pair.are_direct());
}

/// Strangers that meet at relays, and whose addresses come with the accept and the confirm, which go through the directory. The
/// callee's address is told as one of that kind.
fn accepted(kind: &str, rejects: bool) -> Pair {
    let mut pair = Pair::telling([false, false], [false, false]);
    pair.add_relays();
    (pair.nats, pair.rejects) = (true, rejects);
    pair.run(Duration::from_millis(600));
    assert!(pair.are_relayed(), "{:?}", pair.paths);
    let line = |address: SocketAddr, kind: &str| {
        let more = if kind == "srflx" { " raddr 0.0.0.0 rport 9" } else { "" };
        format!("candidate:1 1 udp 1694498815 {} {} typ {kind}{more}", address.ip(), address.port())
    };
    let [of_caller, of_callee] = [line(pair.addresses[0], "srflx"), line(pair.addresses[1], kind)];
    pair.ends[1].disclose(pair.now);
    pair.run(ONE_WAY * 2);
    assert!(pair.ends[0].add_remote(&of_callee, pair.now));
    pair.ends[0].disclose(pair.now);
    pair.run(ONE_WAY * 2);
    assert!(pair.ends[1].add_remote(&of_caller, pair.now));
    pair.run(ONE_WAY * 4);
    pair
}

#[test]
fn a_caller_lets_a_strangers_router_be_the_first_to_send() {
    let pair = accepted("srflx", true);
    assert!(!pair.spoilt && pair.are_direct(), "{:?}", pair.log);
    // It costs nothing where the router does not mind.
    let pair = accepted("srflx", false);
    assert!(pair.are_direct(), "{:?}", pair.log);
    // This network would notice.
    let pair = accepted("host", true);
    assert!(pair.spoilt && !pair.are_direct(), "{:?}", pair.log);
}

#[test]
fn a_check_that_waits_goes_out_when_the_other_end_is_heard() {
    let (mut deferred, now) = (deferred::Deferred::default(), Instant::now());
    let [here, there, other]: [SocketAddr; 3] =
        ["10.0.0.1:1", "10.0.0.2:2", "10.0.0.3:3"].map(|address| address.parse().unwrap());
    let check = |remote| (here, remote, vec![1]);
    deferred.note(there, true);
    assert_eq!(deferred.hold(check(there)), Some(check(there)), "nobody has shown anything");
    deferred.begin(Role::Callee, now, ONE_WAY * 4);
    assert_eq!(deferred.due(), None, "the callee is the one who is waited for");
    deferred.begin(Role::Caller, now, ONE_WAY * 4);
    assert_eq!(deferred.due(), Some(now + ONE_WAY * 2));
    assert_eq!(deferred.hold(check(other)), Some(check(other)), "its own address");
    assert_eq!([deferred.hold(check(there)), deferred.hold(check(there))], [None, None]);
    assert_eq!(deferred.release(now + ONE_WAY), []);
    assert_eq!(deferred.heard(there), [check(there)], "one of them");
    assert_eq!(deferred.hold(check(there)), Some(check(there)));
    deferred.note(there, true);
    assert_eq!(deferred.hold(check(there)), None);
    assert_eq!(deferred.release(now + ONE_WAY * 2), [check(there)]);
    assert_eq!(deferred.hold(check(there)), Some(check(there)), "it is over");
    deferred.begin(Role::Caller, now, Duration::from_secs(9));
    assert_eq!(deferred.due(), Some(now + Duration::from_millis(200)), "however slow the relay");
}

/// What is checked with one end at a relay when both show their addresses, within [`SPARE`] and in the second after it.
fn half_relayed(meet: bool) -> [usize; 2] {
    let mut pair = Pair::new([false, false]);
    pair.add_relays();
    if meet {
        pair.run(Duration::from_millis(600));
        assert!(pair.are_relayed(), "{:?}", pair.paths);
    }
    pair.broken = true;
    let now = pair.now;
    pair.ends.iter_mut().for_each(|end| drop(end.disclose(now)));
    pair.half = 0;
    [SPARE, Duration::from_secs(1)].map(|time| {
        pair.run(time);
        std::mem::take(&mut pair.half)
    })
}

#[test]
fn who_meets_at_relays_gives_the_direct_path_time_before_half_relayed_ones_are_checked() {
    let [spared, later] = half_relayed(true);
    assert!(spared == 0 && later > 4, "{spared} {later}");
    let [at_once, _] = half_relayed(false);
    assert!(at_once > 4, "without a path everything is tried: {at_once}");
}

#[test]
fn a_path_that_has_died_ends_the_sparing() {
    let mut pair = Pair::new([false, false]);
    pair.add_relays();
    pair.run(Duration::from_millis(600));
    pair.broken = true;
    let now = pair.now;
    pair.ends.iter_mut().for_each(|end| drop(end.disclose(now)));
    pair.run(Duration::from_millis(100));
    pair.ends.iter_mut().for_each(|end| end.suspect(pair.now));
    pair.run(Duration::from_millis(300));
    assert!(pair.half > 4, "{}", pair.half);
}
