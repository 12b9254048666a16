//! The courier's memory: which side of which call is where. Pure; the wire is in [`offhook_proto::courier`].

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use offhook_proto::courier::{Allowance, BINDING_LIFE, Bound, FromCourier, Observed, Post};
use offhook_proto::identity::TerminalId;
use offhook_proto::relay::TicketIssuer;
use offhook_proto::signalling::CallId;
use offhook_proto::wire::{UnixMillis, canonical};

use super::quota::Counts;
use crate::net::{Limiter, Source};

/// Sides of calls that are remembered. When full, those that are not bound any more go; if there are none, newcomers are turned
/// away: a call in progress is worth more than one that has not needed this yet.
const MAX_SIDES: usize = 8_192;
/// The same of one /24 or /64, and of one terminal: its call, and those that ring.
const MAX_PER_SOURCE: usize = 512;
const MAX_PER_TERMINAL: usize = 16;

/// Packets per second from one /24 or /64 (bursts: ten seconds' worth), before anything costs work.
const PER_SOURCE: u32 = 200;

/// How long the time of a side's last packet is remembered, so that no copy of it is taken for a new one. A call whose side has
/// been silent for so long is over.
const REMEMBERED: Duration = Duration::from_secs(600);

/// How often what is to be forgotten is looked for at most: all are looked at.
const SWEEP: Duration = Duration::from_secs(1);

/// One side of a call.
type Side = (TerminalId, CallId);

/// See the [module](self).
pub(super) struct Courier {
    issuer: TicketIssuer,
    sides: HashMap<Side, Binding>,
    sources: Counts<Source>,
    terminals: Counts<TerminalId>,
    limiter: Limiter<Source>,
    swept: Option<Instant>,
}

struct Binding {
    to: TerminalId,
    username: String,
    password: String,
    source: Source,
    /// As the socket knows it.
    addr: SocketAddr,
    time: UnixMillis,
    heard: Instant,
    allowance: Allowance,
}

impl Binding {
    fn is_bound(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) < BINDING_LIFE
    }
}

/// A packet to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parcel {
    pub(super) to: SocketAddr,
    pub(super) packet: Vec<u8>,
}

/// What comes of a packet.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) answer: Option<Parcel>,
    pub(super) passed: Option<Parcel>,
}

/// Why nothing comes of a packet; the name in the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ignored {
    /// Not a packet, forged, or with a ticket that is over.
    Invalid,
    /// Not newer than the last one.
    Copy,
    /// Too many.
    Limited,
    /// There is no room for another side.
    Full,
}

impl Ignored {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Invalid => "courier_invalid",
            Self::Copy => "courier_copy",
            Self::Limited => "courier_limited",
            Self::Full => "courier_full",
        }
    }
}

impl Courier {
    pub(super) fn new(issuer: TicketIssuer) -> Self {
        Self {
            issuer,
            sides: HashMap::new(),
            sources: Counts::default(),
            terminals: Counts::default(),
            limiter: Limiter::new(PER_SOURCE),
            swept: None,
        }
    }

    /// What comes of a packet from an address.
    pub(super) fn on_packet(
        &mut self,
        packet: &[u8],
        from: SocketAddr,
        now: Instant,
        wall: UnixMillis,
    ) -> Result<Outcome, Ignored> {
        let source = Source::of(from.ip());
        if !self.limiter.permit(source, now) {
            return Err(Ignored::Limited);
        }
        let post = Post::read(packet).map_err(|_| Ignored::Invalid)?;
        let (terminal, password) = self.sender(post.claimed(), wall)?;
        let post = post.prove(&password).map_err(|_| Ignored::Invalid)?;
        let side = (terminal, post.call);
        self.bind(side, &post, password.clone(), source, from, now)?;
        let other = self.sides.get(&(post.to, post.call));
        let other = other.filter(|other| other.to == terminal && other.is_bound(now));
        let passed = other.zip(post.blob).map(|(other, blob)| {
            let passed = FromCourier::Passed { call: post.call, blob };
            Parcel { to: other.addr, packet: passed.write(&other.password) }
        });
        let observed = Observed(canonical(from));
        let bound = FromCourier::Bound(Bound { time: post.time, observed, met: other.is_some() });
        Ok(Outcome { answer: Some(Parcel { to: from, packet: bound.write(&password) }), passed })
    }

    /// Who says to have sent a packet, and the password that he must know. A call may last longer than its ticket.
    fn sender(&self, post: &Post, wall: UnixMillis) -> Result<(TerminalId, String), Ignored> {
        if let Ok(admission) = self.issuer.admit(&post.username, wall) {
            return Ok((admission.terminal, admission.password));
        }
        let terminal = post.username.rsplit(':').next().and_then(|peer| TerminalId::from_peer_id(peer).ok());
        let known = terminal
            .and_then(|terminal| self.sides.get(&(terminal, post.call)).map(|known| (terminal, known)));
        let known = known.filter(|(_, known)| known.username == post.username);
        known.map(|(terminal, known)| (terminal, known.password.clone())).ok_or(Ignored::Invalid)
    }

    fn bind(
        &mut self,
        side: Side,
        post: &Post,
        password: String,
        source: Source,
        from: SocketAddr,
        now: Instant,
    ) -> Result<(), Ignored> {
        if let Some(known) = self.sides.get_mut(&side) {
            if post.time <= known.time {
                return Err(Ignored::Copy);
            }
            if !known.allowance.take(now) {
                return Err(Ignored::Limited);
            }
            (known.to, known.addr, known.time, known.heard) = (post.to, from, post.time, now);
            (known.username, known.password) = (post.username.clone(), password);
            return Ok(());
        }
        self.make_room(side.0, source, now)?;
        self.sources.add(source);
        self.terminals.add(side.0);
        let (to, username, time) = (post.to, post.username.clone(), post.time);
        let mut allowance = Allowance::default();
        // There is room for the first one.
        allowance.take(now);
        let binding = Binding { to, username, password, source, addr: from, time, heard: now, allowance };
        self.sides.insert(side, binding);
        Ok(())
    }

    fn make_room(&mut self, terminal: TerminalId, source: Source, now: Instant) -> Result<(), Ignored> {
        let full = |courier: &Self| {
            courier.sides.len() >= MAX_SIDES
                || courier.sources.of(&source) >= MAX_PER_SOURCE
                || courier.terminals.of(&terminal) >= MAX_PER_TERMINAL
        };
        if full(self) {
            self.forget(now, BINDING_LIFE);
        } else {
            self.forget(now, REMEMBERED);
        }
        if full(self) { Err(Ignored::Full) } else { Ok(()) }
    }

    /// Forgets those who have not been heard for so long.
    fn forget(&mut self, now: Instant, silent: Duration) {
        if self.swept.is_some_and(|swept| now.saturating_duration_since(swept) < SWEEP) {
            return;
        }
        self.swept = Some(now);
        let (sources, terminals) = (&mut self.sources, &mut self.terminals);
        self.sides.retain(|(terminal, _), binding| {
            let keep = now.saturating_duration_since(binding.heard) < silent;
            if !keep {
                sources.remove(&binding.source);
                terminals.remove(terminal);
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use offhook_proto::courier::PACKETS_PER_SECOND;
    use offhook_proto::identity::TerminalKey;
    use offhook_proto::relay::{RelayClass, RelayTicket};

    use super::*;

    const WALL: UnixMillis = UnixMillis(1_800_000_000_000);

    fn terminal(n: u8) -> TerminalId {
        TerminalKey::from_seed([n; 32]).public()
    }

    fn issuer() -> TicketIssuer {
        TicketIssuer::new([7; 32])
    }

    fn ticket(n: u8) -> RelayTicket {
        issuer().issue(RelayClass::Guest, &terminal(n), Vec::new(), WALL)
    }

    /// One side of a call, its clock and its address.
    struct Party {
        n: u8,
        to: u8,
        call: u8,
        time: u64,
        addr: SocketAddr,
    }

    impl Party {
        fn new(n: u8, to: u8) -> Self {
            Self { n, to, call: 1, time: WALL.0, addr: SocketAddr::from(([n, 0, 2, 1], 5_000)) }
        }

        fn post(&mut self, blob: Option<&[u8]>) -> Vec<u8> {
            self.time += 1;
            let post = Post {
                username: ticket(self.n).username,
                call: CallId::from_bytes([self.call; 16]),
                to: terminal(self.to),
                time: UnixMillis(self.time),
                blob: blob.map(<[u8]>::to_vec),
            };
            post.write(&ticket(self.n).password)
        }

        fn send(
            &mut self,
            courier: &mut Courier,
            blob: Option<&[u8]>,
            now: Instant,
        ) -> Result<Outcome, Ignored> {
            let packet = self.post(blob);
            courier.on_packet(&packet, self.addr, now, WALL)
        }

        /// Whether the other side is there.
        fn meets(&mut self, courier: &mut Courier, blob: Option<&[u8]>, now: Instant) -> bool {
            let outcome = self.send(courier, blob, now).unwrap();
            met(self, &outcome)
        }

        fn read(&self, parcel: &Parcel) -> FromCourier {
            assert_eq!(parcel.to, self.addr);
            FromCourier::read(&parcel.packet, &ticket(self.n).password).unwrap()
        }
    }

    fn met(party: &Party, outcome: &Outcome) -> bool {
        match party.read(outcome.answer.as_ref().unwrap()) {
            FromCourier::Bound(bound) => {
                assert_eq!((bound.observed.0, bound.time), (party.addr, UnixMillis(party.time)));
                bound.met
            }
            FromCourier::Passed { .. } => panic!("no answer"),
        }
    }

    #[test]
    fn both_sides_meet_and_what_one_sends_reaches_the_other() {
        let (mut courier, now) = (Courier::new(issuer()), Instant::now());
        let (mut a, mut b) = (Party::new(1, 2), Party::new(2, 1));
        let first = a.send(&mut courier, Some(b"hello"), now).unwrap();
        assert!(!met(&a, &first) && first.passed.is_none(), "nobody is there yet");
        assert!(b.meets(&mut courier, None, now));
        let second = a.send(&mut courier, Some(b"hello"), now).unwrap();
        assert!(met(&a, &second));
        let call = CallId::from_bytes([1; 16]);
        assert_eq!(b.read(&second.passed.unwrap()), FromCourier::Passed { call, blob: b"hello".to_vec() });
        // Both move at once.
        (a.addr, b.addr) = (SocketAddr::from(([9, 9, 9, 9], 1)), "[2001:db8::7]:2".parse().unwrap());
        a.send(&mut courier, None, now).unwrap();
        let moved = b.send(&mut courier, Some(b"here"), now).unwrap();
        assert!(met(&b, &moved) && moved.passed.is_some_and(|parcel| parcel.to == a.addr));
    }

    #[test]
    fn nobody_gets_into_a_call_that_is_not_his() {
        let (mut courier, now) = (Courier::new(issuer()), Instant::now());
        let (mut a, mut b, mut eve) = (Party::new(1, 2), Party::new(2, 1), Party::new(3, 1));
        a.send(&mut courier, None, now).unwrap();
        b.send(&mut courier, None, now).unwrap();
        // She knows the call, and is not whom A talks with.
        let outcome = eve.send(&mut courier, Some(b"boo"), now).unwrap();
        assert!(!met(&eve, &outcome) && outcome.passed.is_none());
        // The right people, another call.
        (b.call, b.time) = (2, b.time + 1);
        assert!(!b.meets(&mut courier, Some(b"x"), now));
    }

    #[test]
    fn forged_copied_and_late_packets_move_nothing() {
        let (mut courier, now) = (Courier::new(issuer()), Instant::now());
        let (mut a, mut b) = (Party::new(1, 2), Party::new(2, 1));
        let old = a.post(None);
        assert_eq!(courier.on_packet(&old, a.addr, now, WALL).map(|_| ()), Ok(()));
        let elsewhere = SocketAddr::from(([6, 6, 6, 6], 6));
        assert_eq!(courier.on_packet(&old, elsewhere, now, WALL), Err(Ignored::Copy));
        let mut forged = a.post(None);
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(courier.on_packet(&forged, elsewhere, now, WALL), Err(Ignored::Invalid));
        let other = Courier::new(TicketIssuer::new([8; 32])).on_packet(&a.post(None), a.addr, now, WALL);
        assert_eq!(other, Err(Ignored::Invalid), "a ticket of another directory");
        let sent = b.send(&mut courier, Some(b"to a"), now).unwrap();
        assert_eq!(sent.passed.unwrap().to, a.addr);
        assert_eq!(courier.on_packet(b"\x04nothing", a.addr, now, WALL), Err(Ignored::Invalid));
        // Long after the binding has ended the copy is still one.
        let later = now + BINDING_LIFE * 5;
        assert_eq!(courier.on_packet(&old, elsewhere, later, WALL), Err(Ignored::Copy));
    }

    #[test]
    fn a_call_may_last_longer_than_its_ticket_but_none_begins_with_one_that_is_over() {
        let (mut courier, now) = (Courier::new(issuer()), Instant::now());
        let (mut a, mut b) = (Party::new(1, 2), Party::new(2, 1));
        a.send(&mut courier, None, now).unwrap();
        let over = WALL.plus(RelayClass::Guest.lifetime());
        assert!(courier.on_packet(&a.post(None), a.addr, now, over).is_ok());
        assert_eq!(courier.on_packet(&b.post(None), b.addr, now, over), Err(Ignored::Invalid));
    }

    #[test]
    fn a_binding_ends_and_a_side_sends_no_more_than_its_rate() {
        let (mut courier, now) = (Courier::new(issuer()), Instant::now());
        let (mut a, mut b) = (Party::new(1, 2), Party::new(2, 1));
        b.send(&mut courier, None, now).unwrap();
        let almost = now + BINDING_LIFE - Duration::from_millis(1);
        assert!(a.meets(&mut courier, None, almost));
        assert!(!a.meets(&mut courier, None, now + BINDING_LIFE));
        let later = now + BINDING_LIFE * 2;
        let sent = (0..100).filter(|_| a.send(&mut courier, Some(b"x"), later).is_ok()).count();
        assert_eq!(sent, PACKETS_PER_SECOND as usize);
    }

    #[test]
    fn a_flood_of_calls_stays_bounded_and_spares_calls_in_progress() {
        let (mut courier, mut now) = (Courier::new(issuer()), Instant::now());
        let (mut a, mut b) = (Party::new(1, 2), Party::new(2, 1));
        a.send(&mut courier, None, now).unwrap();
        b.send(&mut courier, None, now).unwrap();
        let mut flood = Party::new(3, 1);
        let mut taken = 0;
        for call in 0..200 {
            (flood.call, flood.time) = (call, flood.time + 1);
            taken += usize::from(flood.send(&mut courier, None, now).is_ok());
            now += Duration::from_millis(10);
        }
        assert_eq!(taken, MAX_PER_TERMINAL);
        assert!(a.meets(&mut courier, None, now));
        // What is over makes room.
        let later = now + BINDING_LIFE + SWEEP;
        assert!(flood.send(&mut courier, None, later).is_ok());
        assert!(courier.sides.len() <= 3, "{}", courier.sides.len());
    }

    #[test]
    fn a_source_has_a_bound_whatever_names_it_gives() {
        let (mut courier, now) = (Courier::new(issuer()), Instant::now());
        let mut taken = 0;
        for n in 0..100_u8 {
            let mut party = Party::new(n, n + 1);
            party.addr = SocketAddr::from(([192, 0, 2, n], 9));
            for call in 0..16 {
                party.call = call;
                let at = now + Duration::from_millis(u64::from(n) * 200);
                taken += usize::from(party.send(&mut courier, None, at).is_ok());
            }
        }
        assert_eq!(taken, MAX_PER_SOURCE);
    }
}
