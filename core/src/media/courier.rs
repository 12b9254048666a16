//! The leg's side of the [courier](offhook_proto::courier): signalling packets that find the other end while nothing else
//! does, because both have just moved, or in time, because the directories' connections lose packets. Sans-IO: messages and time in and out.
//!
//! A leg tells every courier where it is whenever it looks for all ways anew: so does the other end, which hears as little. And
//! now and then, so that its ticket is remembered beyond its time. A call that is well costs its directories next to nothing.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use offhook_proto::courier::{self, Allowance, FromCourier, MAX_BLOB, Post, RENEWAL};
use offhook_proto::relay::RelayTransport;
use offhook_proto::wire::UnixMillis;

use super::relay::MAX_RELAYS;
use super::types::{Party, Relay};

/// Addresses of couriers: of each relay one of each family.
const MAX_STATIONS: usize = 2 * MAX_RELAYS;
/// Packets on their way to the other end; an older one makes room, since the dialog sends it again.
const MAX_LETTERS: usize = 8;
/// When a letter is sent, from the beginning: the other end may be bound to where it was.
const SENDINGS: [Duration; 3] = [Duration::ZERO, Duration::from_millis(100), Duration::from_millis(300)];
/// First pause before a binding that was not answered is asked for again; it doubles.
const INITIAL_RTO: Duration = Duration::from_millis(100);
const MAX_REQUESTS: u32 = 5;

/// Where a courier is.
struct Station {
    server: SocketAddr,
    username: String,
    password: String,
    /// When to say where we are, and how often that was done in vain.
    due: Instant,
    asked: u32,
    /// Of the first packet that said so.
    bound: UnixMillis,
    /// For what comes.
    allowance: Allowance,
}

/// A packet for the other end.
struct Letter {
    blob: Vec<u8>,
    since: Instant,
    sent: usize,
}

/// See the module's documentation.
pub(super) struct Courier {
    party: Option<Party>,
    stations: Vec<Station>,
    letters: VecDeque<Letter>,
    wire: VecDeque<(SocketAddr, Vec<u8>)>,
    /// Of the last packet.
    time: UnixMillis,
}

impl Courier {
    /// Without knowing whom the call is with there is none.
    pub(super) fn new(party: Option<Party>) -> Courier {
        Courier {
            party,
            stations: Vec::new(),
            letters: VecDeque::new(),
            wire: VecDeque::new(),
            time: UnixMillis(0),
        }
    }

    /// Uses the couriers of a directory's relay.
    pub(super) fn add(&mut self, relay: &Relay, now: Instant) {
        if !relay.courier || self.party.is_none() {
            return;
        }
        for v4 in [true, false] {
            let udp = relay.servers.iter().filter(|server| server.transport == RelayTransport::Udp);
            let Some(server) = { udp }.map(|server| server.addr).find(|addr| addr.is_ipv4() == v4) else {
                continue;
            };
            let known = self.stations.iter().any(|station| station.server == server);
            if known || self.stations.len() >= MAX_STATIONS {
                continue;
            }
            let (username, password) = (relay.username.clone(), relay.password.clone());
            self.stations.push(Station {
                server,
                username,
                password,
                due: now + RENEWAL,
                asked: 0,
                bound: UnixMillis(0),
                allowance: Allowance::default(),
            });
        }
    }

    /// Says where we are: we may be elsewhere, or the other end may be about to send something.
    pub(super) fn rebind(&mut self, now: Instant) {
        for station in &mut self.stations {
            (station.due, station.asked) = (now, 0);
            station.bound = UnixMillis(self.time.0.saturating_add(1));
        }
    }

    /// Sends a sealed signalling packet to the other end. False if it is too long.
    pub(super) fn pass(&mut self, blob: Vec<u8>, now: Instant) -> bool {
        if blob.len() > MAX_BLOB {
            return false;
        }
        if self.letters.len() == MAX_LETTERS {
            self.letters.pop_front();
        }
        self.letters.push_back(Letter { blob, since: now, sent: 0 });
        true
    }

    /// When [`Courier::poll`] has something next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let letters = self.letters.iter().filter_map(Letter::due).filter(|_| !self.stations.is_empty());
        self.stations.iter().map(|station| station.due).chain(letters).min()
    }

    /// The next packet that is due: where to and what. `wall` is the time of day.
    pub(super) fn poll(&mut self, now: Instant, wall: UnixMillis) -> Option<(SocketAddr, Vec<u8>)> {
        if self.wire.is_empty() {
            let due = self.letters.iter().position(|letter| letter.due().is_some_and(|due| due <= now));
            if let Some(letter) = due.map(|at| &mut self.letters[at]) {
                letter.sent += 1;
                let blob = letter.blob.clone();
                (0..self.stations.len()).for_each(|at| self.post(at, Some(blob.clone()), wall));
            }
            self.letters.retain(|letter| letter.due().is_some());
            self.bind(now, wall);
        }
        self.wire.pop_front()
    }

    /// Takes a packet that begins as a courier's do; what the other end has sent, if that is in it.
    pub(super) fn handle(&mut self, now: Instant, source: SocketAddr, packet: &[u8]) -> Option<Vec<u8>> {
        let party = self.party?;
        let station = self.stations.iter_mut().find(|station| station.server == source)?;
        match FromCourier::read(packet, &station.password).ok()? {
            // An older answer does not say that we are known where we are now.
            FromCourier::Bound(bound) if bound.time >= station.bound => {
                (station.due, station.asked) = (now + RENEWAL, 0);
                None
            }
            FromCourier::Bound(_) => None,
            FromCourier::Passed { call, blob } => {
                let ours = call == party.call && blob.len() <= MAX_BLOB;
                (ours && station.allowance.take(now)).then_some(blob)
            }
        }
    }

    fn bind(&mut self, now: Instant, wall: UnixMillis) {
        for at in 0..self.stations.len() {
            let station = &mut self.stations[at];
            if station.due > now {
                continue;
            }
            station.asked += 1;
            let in_vain = station.asked > MAX_REQUESTS;
            station.due = now + if in_vain { RENEWAL } else { INITIAL_RTO * (1 << (station.asked - 1)) };
            if in_vain {
                station.asked = 0;
            } else {
                self.post(at, None, wall);
            }
        }
    }

    /// Each packet is later than the one before, whatever the clock does.
    fn post(&mut self, station: usize, blob: Option<Vec<u8>>, wall: UnixMillis) {
        let (Some(party), Some(station)) = (self.party, self.stations.get(station)) else { return };
        self.time = UnixMillis(wall.0.max(self.time.0.saturating_add(1)));
        let username = station.username.clone();
        let post = Post { username, call: party.call, to: party.terminal, time: self.time, blob };
        self.wire.push_back((station.server, post.write(&station.password)));
    }
}

impl Letter {
    fn due(&self) -> Option<Instant> {
        SENDINGS.get(self.sent).map(|pause| self.since + *pause)
    }
}

/// Whether a datagram is a courier's: no STUN, QUIC or TURN begins so.
pub(super) fn is_couriers(packet: &[u8]) -> bool {
    packet.first() == Some(&courier::FIRST_BYTE) && packet.len() <= courier::MAX_PACKET
}

#[cfg(test)]
mod tests {
    use offhook_proto::courier::{Bound, Observed, PACKETS_PER_SECOND};
    use offhook_proto::identity::TerminalId;
    use offhook_proto::relay::RelayServer;
    use offhook_proto::signalling::CallId;

    use super::*;

    const WALL: UnixMillis = UnixMillis(1_800_000_000_000);
    const SERVER: &str = "192.0.2.7:3478";

    fn party() -> Party {
        Party { call: CallId::from_bytes([1; 16]), terminal: TerminalId::from_bytes([2; 32]) }
    }

    fn relay(courier: bool) -> Relay {
        let server =
            |transport, addr: &str| RelayServer { transport, addr: addr.parse().unwrap(), pin: None };
        let servers = vec![
            server(RelayTransport::Tls, "192.0.2.7:443"),
            server(RelayTransport::Udp, SERVER),
            server(RelayTransport::Udp, "192.0.2.7:3479"),
        ];
        let (label, username, password) = ("d".to_owned(), "user".to_owned(), "secret".to_owned());
        let reached_over = RelayTransport::Udp;
        Relay { label, servers, username, password, nonce: None, shared: true, courier, reached_over }
    }

    fn courier(now: Instant) -> Courier {
        let mut courier = Courier::new(Some(party()));
        courier.add(&relay(true), now);
        assert_eq!(courier.poll_timeout(), Some(now + RENEWAL), "a call that is well has nothing to say");
        courier.rebind(now);
        courier
    }

    /// What is sent within `time`: after how many ms, and the blob.
    fn sent(courier: &mut Courier, start: Instant, time: Duration) -> Vec<(u128, Option<Vec<u8>>)> {
        let mut sent = Vec::new();
        while let Some(due) = courier.poll_timeout().filter(|due| *due <= start + time) {
            while let Some((to, packet)) = courier.poll(due, WALL) {
                assert_eq!(to, SERVER.parse().unwrap(), "one address of each family, UDP only");
                let post = Post::read(&packet).unwrap().prove("secret").unwrap();
                assert_eq!((post.call, post.to), (party().call, party().terminal));
                sent.push(((due - start).as_millis(), post.blob));
            }
        }
        sent
    }

    fn answer(now: Instant, courier: &mut Courier) {
        let observed = Observed("203.0.113.1:7".parse().unwrap());
        let bound = |time| FromCourier::Bound(Bound { time, observed, met: false }).write("secret");
        let (server, due) = (SERVER.parse().unwrap(), courier.poll_timeout());
        assert_eq!(courier.handle(now, server, &bound(UnixMillis(0))), None);
        assert_eq!(courier.poll_timeout(), due, "an answer from before says nothing");
        assert_eq!(courier.handle(now, server, &bound(courier.time)), None);
    }

    #[test]
    fn it_says_where_it_is_until_it_is_answered_and_then_seldom() {
        let start = Instant::now();
        let mut courier = courier(start);
        let times =
            |sent: Vec<(u128, Option<Vec<u8>>)>| sent.into_iter().map(|(at, _)| at).collect::<Vec<_>>();
        assert_eq!(times(sent(&mut courier, start, Duration::from_secs(60))), [0, 100, 300, 700, 1500]);
        courier.rebind(start);
        assert_eq!(times(sent(&mut courier, start, Duration::ZERO)), [0]);
        answer(start, &mut courier);
        assert_eq!(times(sent(&mut courier, start, RENEWAL)), [RENEWAL.as_millis()]);
    }

    #[test]
    fn a_packet_is_sent_three_times_with_ever_later_times() {
        let start = Instant::now();
        let mut courier = courier(start);
        sent(&mut courier, start, Duration::ZERO);
        answer(start, &mut courier);
        assert!(courier.pass(vec![7; MAX_BLOB], start) && !courier.pass(vec![7; MAX_BLOB + 1], start));
        let blob = Some(vec![7; MAX_BLOB]);
        let before = courier.time;
        let all = sent(&mut courier, start, Duration::from_secs(10));
        assert_eq!(all, [(0, blob.clone()), (100, blob.clone()), (300, blob)]);
        assert_eq!(courier.time.0, before.0 + 3);
        (0..100).for_each(|_| assert!(courier.pass(vec![1], start)));
        assert_eq!(courier.letters.len(), MAX_LETTERS);
    }

    #[test]
    fn only_the_couriers_word_about_this_call_is_taken_and_not_too_much_of_it() {
        let now = Instant::now();
        let mut courier = courier(now);
        let passed = |call, password: &str| FromCourier::Passed { call, blob: vec![9] }.write(password);
        let (server, other) = (SERVER.parse().unwrap(), "192.0.2.8:3478".parse().unwrap());
        let good = passed(party().call, "secret");
        assert!(is_couriers(&good));
        assert_eq!(courier.handle(now, server, &good), Some(vec![9]));
        assert_eq!(courier.handle(now, other, &good), None);
        assert_eq!(courier.handle(now, server, &passed(party().call, "guess")), None);
        assert_eq!(courier.handle(now, server, &passed(CallId::from_bytes([3; 16]), "secret")), None);
        let taken = (0..100).filter(|_| courier.handle(now, server, &good).is_some()).count();
        assert!(taken < PACKETS_PER_SECOND as usize, "{taken}");
    }

    #[test]
    fn a_turn_server_that_is_no_directory_is_left_alone() {
        let now = Instant::now();
        let mut courier = Courier::new(Some(party()));
        courier.add(&relay(false), now);
        courier.pass(vec![1], now);
        assert_eq!((courier.poll_timeout(), courier.poll(now, WALL)), (None, None));
    }
}
