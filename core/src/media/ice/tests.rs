use super::*;

use offhook_proto::signalling::is_relayed;

mod strangers;

/// Two ends on a network with a fixed one-way delay, in virtual time.
struct Pair {
    ends: [Ice; 2],
    addresses: [SocketAddr; 2],
    /// (due, receiver, message)
    wire: Vec<(Instant, usize, StunIn)>,
    paths: [Option<Path>; 2],
    genuine: [Vec<SocketAddr>; 2],
    sent: [usize; 2],
    /// Our addresses at relays, with a detour of one more delay; and what did not go through those.
    relayed: [Option<SocketAddr>; 2],
    sent_direct: [usize; 2],
    /// Checks with one end at a relay.
    half: usize,
    /// Whether nothing gets through but through relays.
    broken: bool,
    /// Every path, with its time since the start.
    log: [Vec<(Duration, SocketAddr)>; 2],
    /// Somebody on the way copies all messages and sends them again from an address of his own, so much earlier or
    /// later than the originals arrive.
    copies: Option<i32>,
    /// Share of all messages that is lost, and what decides which.
    loss: f64,
    dice: rand::rngs::StdRng,
    /// Whether both are behind NATs that let nobody in to whom nothing has been sent, and those to whom something has been.
    nats: bool,
    opened: [bool; 2],
    /// Whether the callee's NAT takes another port towards whoever was heard before it has sent anything, and has done so: no
    /// straight message gets through any more then.
    rejects: bool,
    spoilt: bool,
    start: Instant,
    now: Instant,
}

const INTRUDER: &str = "10.0.0.66:666";
const ONE_WAY: Duration = Duration::from_millis(50);

impl Pair {
    fn new(disclosed: [bool; 2]) -> Pair {
        Pair::telling(disclosed, [true, true])
    }

    /// Each end's address is told to the other or not.
    fn telling(disclosed: [bool; 2], told: [bool; 2]) -> Pair {
        let addresses = ["10.0.0.1:1000".parse().unwrap(), "10.0.0.2:2000".parse().unwrap()];
        let mut ends = [Ice::new(Role::Caller, false, false), Ice::new(Role::Callee, false, false)];
        let now = Instant::now();
        for (end, address) in ends.iter_mut().zip(addresses) {
            assert_eq!(end.add_host(address), None, "not before disclosure");
        }
        let lines =
            addresses.map(|a| format!("candidate:1 1 udp 2130706430 {} {} typ host", a.ip(), a.port()));
        let creds: Vec<_> = ends.iter().map(Ice::credentials).collect();
        for n in 0..2 {
            let (ufrag, pass) = creds[1 - n].clone();
            ends[n].set_remote(ufrag, pass, now);
            assert!(!told[1 - n] || ends[n].add_remote(&lines[1 - n], now));
            if disclosed[n] {
                assert_eq!(ends[n].disclose(now).len(), 1);
            }
        }
        let (paths, genuine, sent) = ([None, None], [vec![], vec![]], [0, 0]);
        let log = [vec![], vec![]];
        let (relayed, sent_direct) = ([None, None], [0, 0]);
        Pair {
            ends,
            addresses,
            wire: vec![],
            paths,
            genuine,
            sent,
            relayed,
            sent_direct,
            half: 0,
            broken: false,
            log,
            copies: None,
            loss: 0.0,
            dice: rand::SeedableRng::seed_from_u64(1),
            nats: false,
            opened: [false; 2],
            rejects: false,
            spoilt: false,
            start: now,
            now,
        }
    }

    fn collect(&mut self) {
        for n in 0..2 {
            while let Some(output) = self.ends[n].poll_output(self.now) {
                match output {
                    IceOutput::Transmit { local, remote, bytes } => self.transmit(n, local, remote, bytes),
                    IceOutput::Genuine(address) => self.genuine[n].push(address),
                    IceOutput::Told(_) => {}
                    IceOutput::Path(path) => {
                        self.paths[n] = Some(path.clone());
                        if let Path::Direct { remote, .. } = path {
                            self.log[n].push((self.now - self.start, remote));
                        }
                    }
                }
            }
        }
    }

    fn transmit(&mut self, n: usize, local: SocketAddr, remote: SocketAddr, bytes: Vec<u8>) {
        self.sent[n] += 1;
        let out = self.relayed[n] == Some(local);
        let into = self.relayed.iter().position(|relayed| *relayed == Some(remote));
        self.sent_direct[n] += usize::from(!out);
        let Some(to) = into.or_else(|| self.addresses.iter().position(|address| *address == remote)) else {
            return;
        };
        if (self.broken || self.spoilt) && !out && into.is_none() {
            return;
        }
        let straight = !out && into.is_none();
        let is_check = StunMessage::parse(&bytes).unwrap().is_binding_request();
        self.half += usize::from(is_check && out != into.is_some());
        self.opened[n] |= straight;
        if rand::RngExt::random_bool(&mut self.dice, self.loss) {
            return;
        }
        let source = if out { local } else { self.addresses[n] };
        let arrives = self.now + ONE_WAY * if out || into.is_some() { 2 } else { 1 };
        if let Some(later) = self.copies {
            let copy = StunIn { source: INTRUDER.parse().unwrap(), local: remote, bytes: bytes.clone() };
            let shift = Duration::from_millis(later.unsigned_abs().into());
            let at = if later < 0 { arrives - shift } else { arrives + shift };
            self.wire.push((at, to, copy));
        }
        self.wire.push((arrives, to, StunIn { source, local: remote, bytes }));
    }

    /// Each end gets an address at a relay, and is told the other one's.
    fn add_relays(&mut self) {
        for n in 0..2 {
            let address: SocketAddr = format!("10.0.1.{n}:3000").parse().unwrap();
            self.relayed[n] = Some(address);
            let line = self.ends[n].add_relayed(relayed(address, RelayTransport::Udp, 0), self.now).unwrap();
            assert!(line.contains("typ relay raddr 0.0.0.0 rport 9"), "{line}");
            // Or signalling would keep it back until addresses may be shown.
            assert!(is_relayed(&line), "{line}");
            assert!(self.ends[1 - n].add_remote(&line, self.now));
        }
    }

    fn are_relayed(&self) -> bool {
        (0..2).all(|n| {
            matches!(&self.paths[n], Some(Path::Relayed { local, remote, .. })
                if Some(*local) == self.relayed[n] && Some(*remote) == self.relayed[1 - n])
        })
    }

    fn are_direct(&self) -> bool {
        let [a, b] = self.addresses;
        self.paths == [direct(a, b), direct(b, a)]
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.collect();
            let timers = self.ends.iter_mut().filter_map(Ice::poll_timeout);
            let Some(next) =
                self.wire.iter().map(|(due, ..)| *due).chain(timers).min().filter(|due| *due <= end)
            else {
                break;
            };
            self.now = self.now.max(next);
            self.wire.sort_by_key(|(due, ..)| *due);
            let due = self.wire.iter().position(|(due, ..)| *due <= self.now);
            match due.map(|index| self.wire.remove(index)) {
                Some((_, to, message)) if self.is_stopped(to, &message) => {}
                Some((_, to, message)) => self.ends[to].handle_stun(self.now, &message),
                None => self.ends.iter_mut().for_each(|end| end.handle_timeout(self.now)),
            }
        }
        self.now = end;
    }

    /// Whether the NAT at that end does not let the message in.
    fn is_stopped(&mut self, to: usize, message: &StunIn) -> bool {
        let straight = [message.source, message.local].iter().all(|address| self.addresses.contains(address));
        let stopped = self.nats && straight && !self.opened[to];
        self.spoilt |= stopped && self.rejects && to == 1;
        stopped
    }
}

fn relayed(address: SocketAddr, transport: RelayTransport, rank: u16) -> Relayed {
    Relayed { address, relay: "relay".into(), transport, rank }
}

fn direct(local: SocketAddr, remote: SocketAddr) -> Option<Path> {
    Some(Path::Direct { local, remote })
}

#[test]
fn both_ends_find_the_path_within_two_round_trips() {
    let mut pair = Pair::new([true, true]);
    pair.run(Duration::from_millis(210));
    let [a, b] = pair.addresses;
    assert_eq!(pair.paths, [direct(a, b), direct(b, a)]);
    assert_eq!(pair.genuine, [vec![b], vec![a]]);
    assert!(pair.ends.iter().all(|end| end.chosen == Some(Clue::Nominated)));
}

#[test]
fn nothing_leaves_before_disclosure_and_a_waiting_check_is_answered_after_it() {
    let mut pair = Pair::new([true, false]);
    pair.run(Duration::from_millis(500));
    assert!(pair.sent[0] > 0);
    assert_eq!(pair.sent[1], 0, "a callee that has not accepted stays silent");
    assert_eq!(pair.paths, [None, None]);
    let now = pair.now;
    pair.ends[1].disclose(now);
    pair.collect();
    assert_eq!(
        pair.paths[1],
        direct(pair.addresses[1], pair.addresses[0]),
        "the caller's check showed the way"
    );
    pair.run(Duration::from_millis(60));
    assert_eq!(pair.paths[0], direct(pair.addresses[0], pair.addresses[1]));
}

#[test]
fn forged_checks_change_nothing() {
    let mut pair = Pair::new([true, true]);
    let intruder: SocketAddr = "10.0.0.66:666".parse().unwrap();
    // The right user names but a guessed password, as somebody could send who saw a check go by.
    let mut forger = IceAgent::new(IceCreds { ufrag: pair.ends[0].credentials().0, pass: "guess".into() });
    let ufrag = pair.ends[1].credentials().0;
    forger.set_remote_credentials(IceCreds { ufrag, pass: "a password that is wrong".into() });
    forger.add_local_candidate(Candidate::host(intruder, "udp").unwrap());
    forger.add_remote_candidate(Candidate::host(pair.addresses[1], "udp").unwrap());
    forger.set_controlling(true);
    let start = pair.now;
    let mut forged = 0;
    for step in 0..20 {
        forger.handle_timeout(start + Duration::from_millis(step * 20));
        while let Some(transmit) = forger.poll_transmit() {
            let message =
                StunIn { source: intruder, local: pair.addresses[1], bytes: Vec::from(transmit.contents) };
            pair.ends[1].handle_stun(start, &message);
            forged += 1;
        }
    }
    assert!(forged >= 2);
    pair.collect();
    assert_eq!(pair.paths[1], None);
    assert!(pair.genuine[1].is_empty());
    pair.run(Duration::from_millis(300));
    assert_eq!(pair.paths[1], direct(pair.addresses[1], pair.addresses[0]));
}

#[test]
fn useless_candidates_are_refused_and_the_rest_bounded() {
    let mut ice = Ice::new(Role::Caller, false, false);
    let now = Instant::now();
    let line =
        |address: &str, port: u32, proto: &str| format!("candidate:1 1 {proto} 1 {address} {port} typ host");
    for (address, port, proto) in [
        ("127.0.0.1", 9, "udp"),
        ("::1", 9, "udp"),
        ("::ffff:127.0.0.1", 9, "udp"),
        ("0.0.0.0", 9, "udp"),
        ("255.255.255.255", 9, "udp"),
        ("224.0.0.1", 9, "udp"),
        ("ff02::1", 9, "udp"),
        ("fe80::1", 9, "udp"),
        ("::ffff:10.0.0.1", 9, "udp"),
        ("10.0.0.1", 0, "udp"),
        ("10.0.0.1", 9, "tcp"),
    ] {
        assert!(!ice.add_remote(&line(address, port, proto), now), "{address}");
    }
    assert!(!ice.add_remote("candidate:", now));
    assert!(!ice.add_remote(&format!("{} x {}", line("10.0.0.1", 9, "udp"), "y".repeat(300)), now));
    let taken = (1..100).filter(|n| ice.add_remote(&line("10.0.0.1", *n, "udp"), now)).count();
    assert_eq!(taken, MAX_REMOTE);
    assert!(Ice::new(Role::Caller, true, false).add_remote(&line("127.0.0.1", 9, "udp"), now));
}

/// Where a pair's packets go while somebody copies all messages and sends them this much later (or earlier).
fn with_copies(told: [bool; 2], later: i32) -> Pair {
    let mut pair = Pair::telling([true, true], told);
    pair.copies = Some(later);
    pair.run(Duration::from_secs(2));
    let [a, b] = pair.addresses;
    assert_eq!(pair.paths, [direct(a, b), direct(b, a)], "in the end the two talk to each other");
    pair
}

#[test]
fn a_copied_check_that_comes_behind_its_original_moves_nothing() {
    let intruder: SocketAddr = INTRUDER.parse().unwrap();
    // The callee does not know the caller's address, as behind a NAT that gives every connection another.
    for told in [[true, true], [false, true]] {
        for later in [1, 5, 30] {
            let pair = with_copies(told, later);
            assert!(pair.log.iter().flatten().all(|(_, remote)| *remote != intruder), "{:?}", pair.log);
        }
    }
}

#[test]
fn a_check_that_is_copied_and_overtaken_is_of_no_use_once_the_genuine_end_is_heard() {
    let intruder: SocketAddr = INTRUDER.parse().unwrap();
    let ahead = 20;
    let pair = with_copies([true, true], -ahead);
    for (n, heard) in [(0, ONE_WAY), (1, ONE_WAY)] {
        let late = pair.log[n].iter().filter(|(at, remote)| *remote == intruder && *at >= heard);
        assert_eq!(
            late.count(),
            0,
            "its address was told, so the first check from there counts: {:?}",
            pair.log
        );
        let back = pair.log[n].iter().find(|(_, remote)| *remote != intruder).unwrap().0;
        assert!(back <= heard + Duration::from_millis(5), "{:?}", pair.log);
    }
    // Without that, the first answer counts: one round trip after the genuine check, and a moment between checks.
    let pair = with_copies([false, true], -ahead);
    let [(_, first), (back, genuine), ..] = pair.log[1][..] else { panic!("{:?}", pair.log) };
    assert_eq!((first, genuine), (intruder, pair.addresses[0]));
    assert!(back <= ONE_WAY * 3 + TIMING_ADVANCE * 4, "{back:?}");
    assert!(pair.log[1][1..].iter().all(|(_, remote)| *remote == genuine), "for good: {:?}", pair.log);
}

#[test]
fn an_answer_counts_only_from_where_the_check_went() {
    let intruder: SocketAddr = INTRUDER.parse().unwrap();
    let mut pair = Pair::new([true, true]);
    pair.collect();
    // The callee's answers reach the caller from elsewhere only.
    let end = pair.now + Duration::from_secs(1);
    let mut answers = 0;
    while pair.now < end {
        pair.run(Duration::from_millis(5));
        for (_, to, message) in &mut pair.wire {
            if *to == 0 && message.bytes[0] == 1 {
                message.source = intruder;
                answers += 1;
            }
        }
    }
    assert!(answers > 3);
    assert!(pair.ends[0].chosen < Some(Clue::Answered) && !pair.genuine[0].contains(&intruder));
}

#[test]
fn a_peer_that_shows_ever_new_addresses_is_cut_off_but_not_at_those_it_told() {
    let mut pair = Pair::new([true, true]);
    let creds = |(ufrag, pass)| IceCreds { ufrag, pass };
    let [ours, theirs] = pair.ends.each_ref().map(|end| creds(end.credentials()));
    for port in 1..100 {
        let source = SocketAddr::from(([10, 0, 0, 3], port));
        let mut agent = IceAgent::new(ours.clone());
        agent.set_controlling(true);
        agent.set_remote_credentials(theirs.clone());
        agent.add_local_candidate(Candidate::host(source, "udp").unwrap());
        agent.add_remote_candidate(Candidate::host(pair.addresses[1], "udp").unwrap());
        agent.handle_timeout(pair.now);
        let check = Vec::from(agent.poll_transmit().unwrap().contents);
        pair.ends[1].handle_stun(pair.now, &StunIn { source, local: pair.addresses[1], bytes: check });
    }
    pair.collect();
    assert_eq!(pair.genuine[1].len(), MAX_UNTOLD);
    pair.run(Duration::from_secs(2));
    assert_eq!(pair.genuine[1].last(), Some(&pair.addresses[0]));
    assert_eq!(pair.paths[1], direct(pair.addresses[1], pair.addresses[0]));
}

#[test]
fn a_leg_for_relays_only_shows_nothing_else() {
    let mut pair = Pair::new([false, true]);
    pair.ends[0].relay_only = true;
    pair.add_relays();
    let now = pair.now;
    assert!(pair.ends[0].disclose(now).is_empty());
    pair.run(Duration::from_secs(10));
    assert_eq!(pair.sent_direct[0], 0);
    assert!(pair.paths.iter().all(|path| matches!(path, Some(Path::Relayed { .. }))), "{:?}", pair.paths);
    assert!(pair.ends[0].lines().iter().all(|line| line.contains(" typ relay ")));
}

#[test]
fn a_direct_path_that_dies_gives_way_to_the_relay_at_once_and_is_taken_again_when_it_lives() {
    let mut pair = Pair::new([true, true]);
    pair.add_relays();
    pair.run(Duration::from_secs(2));
    assert!(pair.are_direct());
    pair.broken = true;
    let now = pair.now;
    pair.ends.iter_mut().for_each(|end| end.suspect(now));
    pair.collect();
    assert!(pair.are_relayed(), "{:?}", pair.paths);
    pair.run(Duration::from_secs(3));
    // One relay on the way is better than two.
    assert!(pair.paths.iter().all(|path| matches!(path, Some(Path::Relayed { .. }))), "{:?}", pair.paths);
    pair.broken = false;
    pair.run(Duration::from_secs(1));
    assert!(pair.are_direct(), "{:?}", pair.paths);
}

#[test]
fn an_end_that_moves_is_followed_whether_it_can_tell_or_not() {
    for tells in [true, false] {
        let mut pair = Pair::new([true, true]);
        pair.run(Duration::from_secs(1));
        assert!(pair.are_direct());
        let (moved, now) = ("10.0.0.3:1000".parse().unwrap(), pair.now);
        pair.addresses[0] = moved;
        let lines = pair.ends[0].set_hosts(&[moved], now).unwrap();
        assert!(lines.len() == 1 && lines[0].contains(" 10.0.0.3 1000 typ host"), "{lines:?}");
        assert_eq!(pair.ends[0].set_hosts(&[moved], now), None, "once");
        if tells {
            assert_eq!(pair.ends[1].replace_remote(&lines, now), 0);
        }
        // The other end hears nothing on the old path.
        pair.run(Duration::from_millis(250));
        let now = pair.now;
        pair.ends[1].suspect(now);
        pair.run(Duration::from_millis(300));
        assert!(pair.are_direct(), "{tells} {:?}", pair.paths);
    }
}

#[test]
fn among_relays_udp_comes_first_and_one_that_is_lost_gives_way() {
    let mut pair = Pair::new([false, false]);
    pair.add_relays();
    let second: SocketAddr = "10.0.2.1:3000".parse().unwrap();
    let now = pair.now;
    let priority = |line: &str| -> u64 { line.split(' ').nth(3).unwrap().parse().unwrap() };
    let first = pair.ends[0].lines();
    let line = pair.ends[0].add_relayed(relayed(second, RelayTransport::Tcp, 2), now).unwrap();
    assert!(priority(&line) < priority(&first[0]), "{line} {first:?}");
    assert!(pair.ends[1].add_remote(&line, now));
    pair.run(Duration::from_secs(1));
    assert!(pair.are_relayed());
    let lost = pair.relayed[0].replace(second).unwrap();
    let now = pair.now;
    pair.ends[0].remove_relayed(lost, now);
    pair.ends[1].suspect(now);
    pair.run(Duration::from_secs(1));
    assert!(pair.are_relayed(), "{:?}", pair.paths);
}

#[test]
fn ever_new_candidates_of_a_peer_are_bounded() {
    let mut pair = Pair::new([true, true]);
    let now = pair.now;
    for generation in 1..=MAX_MOVES + 1 {
        let [high, low] = generation.to_be_bytes();
        let lines: Vec<_> = (1..=100)
            .map(|port| format!("candidate:1 1 udp 9 10.{}.{low}.1 {port} typ host", high + 1))
            .collect();
        // What has been replaced stays in the agent's memory, so its moves are counted.
        let refused = if generation > MAX_MOVES { 100 } else { 100 - MAX_REMOTE };
        assert_eq!(pair.ends[0].replace_remote(&lines, now), refused, "{generation}");
        assert!(pair.ends[0].agent.remote_candidates().count() <= MAX_REMOTE + MAX_UNTOLD);
    }
}

#[test]
fn what_is_handed_over_before_disclosure_is_what_would_be_told_then_and_is_not_told_again() {
    let now = Instant::now();
    let mut end = Ice::new(Role::Callee, false, false);
    for address in ["10.0.0.1:1000", "10.0.0.2:1000", "[2001:db8::1]:1000"] {
        assert_eq!(end.add_host(address.parse().unwrap()), None);
    }
    assert_eq!(end.take_withheld().map(|lines| lines.len()), Some(3));
    assert_eq!(end.take_withheld(), None, "nothing has changed");
    let mapped = "192.0.2.1:5000".parse().unwrap();
    assert_eq!(end.add_reflexive(mapped, "10.0.0.1:1000".parse().unwrap()), None);
    assert_eq!(end.add_host("10.0.0.1:1000".parse().unwrap()), None, "known");
    assert_eq!(end.take_withheld().map(|lines| lines.len()), Some(4));
    // It moves: what is gone is not told with the answer.
    assert!(
        end.set_hosts(&["10.0.0.2:1000", "[2001:db8::1]:1000"].map(|host| host.parse().unwrap()), now)
            .is_none()
    );
    let handed_over = end.take_withheld().unwrap();
    assert!(
        handed_over.len() == 2 && !handed_over.iter().any(|line| line.contains("10.0.0.1")),
        "{handed_over:?}"
    );
    assert_eq!(end.add_host("10.0.0.3:1000".parse().unwrap()), None);
    let rest = end.disclose(now);
    assert!(rest.len() == 1 && rest[0].contains("10.0.0.3"), "{rest:?}");
    let mut told = [handed_over, rest].concat();
    let mut all = end.lines();
    told.sort();
    all.sort();
    assert_eq!(told, all);
    assert_eq!(end.take_withheld(), None);

    let mut shy = Ice::new(Role::Callee, false, true);
    assert_eq!(shy.add_host("10.0.0.1:1000".parse().unwrap()), None);
    assert_eq!(shy.take_withheld(), None, "what is never told is not handed over");
}

/// Strangers behind port-restricted NATs, who have met at a relay: how long after the answer it is direct at both ends.
fn after_the_answer(loss: f64, seed: u64) -> Duration {
    let mut pair = Pair::telling([false, false], [false, false]);
    (pair.loss, pair.nats, pair.dice) = (loss, true, rand::SeedableRng::seed_from_u64(seed));
    pair.add_relays();
    pair.run(Duration::from_millis(1_500));
    assert!(pair.are_relayed(), "{:?}", pair.paths);
    let answered = pair.now;
    let of_callee = pair.ends[1].disclose(pair.now);
    pair.run(ONE_WAY * 2);
    assert!(pair.ends[0].add_remote(&of_callee[0], pair.now));
    let of_caller = pair.ends[0].disclose(pair.now);
    pair.run(ONE_WAY * 2);
    assert!(pair.ends[1].add_remote(&of_caller[0], pair.now));
    while !pair.are_direct() {
        pair.run(Duration::from_millis(10));
        assert!(pair.now - answered < Duration::from_secs(10), "{:?}", pair.paths);
    }
    pair.now - answered
}

#[test]
fn where_a_fifth_of_all_packets_is_lost_it_is_direct_soon_after_the_answer_all_the_same() {
    assert!(after_the_answer(0.0, 0) <= ONE_WAY * 6 + Duration::from_millis(20));
    let mut times: Vec<_> = (0..200).map(|seed| after_the_answer(0.2, seed)).collect();
    times.sort();
    let [p50, p95, max] = [100, 190, 199].map(|n| times[n]);
    println!("p50 {p50:?} p95 {p95:?} max {max:?}");
    assert!(p95 <= Duration::from_millis(700), "{times:?}");
}
