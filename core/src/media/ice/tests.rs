use super::*;

/// Two ends on a network with a fixed one-way delay, in virtual time.
struct Pair {
    ends: [Ice; 2],
    addresses: [SocketAddr; 2],
    /// (due, receiver, message)
    wire: Vec<(Instant, usize, StunIn)>,
    paths: [Option<Path>; 2],
    genuine: [Vec<SocketAddr>; 2],
    sent: [usize; 2],
    /// Every path, with its time since the start.
    log: [Vec<(Duration, SocketAddr)>; 2],
    /// Somebody on the way copies all messages and sends them again from an address of his own, so much earlier or
    /// later than the originals arrive.
    copies: Option<i32>,
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
        Pair { ends, addresses, wire: vec![], paths, genuine, sent, log, copies: None, start: now, now }
    }

    fn collect(&mut self) {
        for n in 0..2 {
            while let Some(output) = self.ends[n].poll_output(self.now) {
                match output {
                    IceOutput::Transmit { remote, bytes, .. } => {
                        self.sent[n] += 1;
                        if let Some(to) = self.addresses.iter().position(|address| *address == remote) {
                            let arrives = self.now + ONE_WAY;
                            if let Some(later) = self.copies {
                                let source = INTRUDER.parse().unwrap();
                                let copy = StunIn { source, local: remote, bytes: bytes.clone() };
                                let shift = Duration::from_millis(later.unsigned_abs().into());
                                let at = if later < 0 { arrives - shift } else { arrives + shift };
                                self.wire.push((at, to, copy));
                            }
                            let message = StunIn { source: self.addresses[n], local: remote, bytes };
                            self.wire.push((arrives, to, message));
                        }
                    }
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
                Some((_, to, message)) => self.ends[to].handle_stun(self.now, &message),
                None => self.ends.iter_mut().for_each(|end| end.handle_timeout(self.now)),
            }
        }
        self.now = end;
    }
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
