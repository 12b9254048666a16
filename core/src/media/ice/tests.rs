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
    now: Instant,
}

impl Pair {
    fn new(disclosed: [bool; 2]) -> Pair {
        let addresses = ["10.0.0.1:1000".parse().unwrap(), "10.0.0.2:2000".parse().unwrap()];
        let mut ends = [Ice::new(Role::Caller, false), Ice::new(Role::Callee, false)];
        let now = Instant::now();
        let lines: Vec<String> =
            ends.iter_mut().zip(addresses).map(|(end, address)| end.add_host(address).unwrap()).collect();
        let creds: Vec<_> = ends.iter().map(Ice::credentials).collect();
        for n in 0..2 {
            let (ufrag, pass) = creds[1 - n].clone();
            ends[n].set_remote(ufrag, pass, now);
            assert!(ends[n].add_remote(&lines[1 - n], now));
            if disclosed[n] {
                ends[n].disclose(now);
            }
        }
        let (paths, genuine, sent) = ([None, None], [vec![], vec![]], [0, 0]);
        Pair { ends, addresses, wire: Vec::new(), paths, genuine, sent, now }
    }

    fn collect(&mut self) {
        for n in 0..2 {
            while let Some(output) = self.ends[n].poll_output() {
                match output {
                    IceOutput::Transmit { remote, bytes, .. } => {
                        self.sent[n] += 1;
                        if let Some(to) = self.addresses.iter().position(|address| *address == remote) {
                            let message = StunIn { source: self.addresses[n], local: remote, bytes };
                            self.wire.push((self.now + Duration::from_millis(50), to, message));
                        }
                    }
                    IceOutput::Genuine(address) => self.genuine[n].push(address),
                    IceOutput::Path(path) => self.paths[n] = Some(path),
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
    assert!(pair.ends.iter().all(|end| end.nominated));
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
    let mut ice = Ice::new(Role::Caller, false);
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
        ("10.0.0.1", 0, "udp"),
        ("10.0.0.1", 9, "tcp"),
    ] {
        assert!(!ice.add_remote(&line(address, port, proto), now), "{address}");
    }
    assert!(!ice.add_remote("candidate:", now));
    assert!(!ice.add_remote(&format!("{} x {}", line("10.0.0.1", 9, "udp"), "y".repeat(300)), now));
    let taken = (1..100).filter(|n| ice.add_remote(&line("10.0.0.1", *n, "udp"), now)).count();
    assert_eq!(taken, MAX_REMOTE);
    assert!(Ice::new(Role::Caller, true).add_remote(&line("127.0.0.1", 9, "udp"), now));
}
