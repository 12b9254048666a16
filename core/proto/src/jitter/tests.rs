use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const FRAME: Duration = Duration::from_millis(20);

/// A stream whose packet `n` is spoken at `n * 20 ms` and arrives as told; the payload is its number.
struct Line {
    buffer: JitterBuffer,
    start: Instant,
    /// (arrival, number), sorted by arrival.
    arrivals: Vec<(Duration, u32)>,
    delivered: usize,
    /// Skew of the sender's clock in parts per million.
    ppm: i64,
    /// How far behind a packet the copies are that it brings, in packets.
    copies: Vec<u16>,
}

impl Line {
    fn new(mut arrivals: Vec<(Duration, u32)>) -> Line {
        arrivals.sort();
        #[allow(clippy::disallowed_methods)] // the origin of virtual time; its value is never looked at
        let start = Instant::now();
        Line {
            buffer: JitterBuffer::new(JitterConfig::default()),
            start,
            arrivals,
            delivered: 0,
            ppm: 0,
            copies: Vec::new(),
        }
    }

    fn clean(packets: u32, transit: Duration) -> Line {
        Line::new((0..packets).map(|n| (FRAME * n + transit, n)).collect())
    }

    /// Hands over what has arrived by `at`.
    fn deliver(&mut self, at: Duration) {
        while self.delivered < self.arrivals.len() && self.arrivals[self.delivered].0 <= at {
            let (arrival, n) = self.arrivals[self.delivered];
            self.delivered += 1;
            let sequence = (n as u16).wrapping_add(65_400);
            let skew = i64::from(n) * 960 * self.ppm / 1_000_000;
            let timestamp =
                (u32::MAX - 5_000).wrapping_add(n.wrapping_mul(960)).wrapping_add_signed(skew as i32);
            self.buffer.insert(self.start + arrival, sequence, timestamp, &n.to_be_bytes());
            for distance in &self.copies {
                if let Some(earlier) = n.checked_sub(u32::from(*distance)) {
                    self.buffer.insert_copy(sequence, timestamp, *distance, &earlier.to_be_bytes());
                }
            }
        }
    }

    /// Plays until `end` on a 10 ms grid that starts at `phase`, and lists what was played and when.
    fn play(&mut self, phase: Duration, end: Duration) -> Vec<(Duration, Playout)> {
        let mut out = Vec::new();
        let mut at = phase;
        while at < end {
            self.deliver(at);
            let playout = self.buffer.next(self.start + at);
            let step = if playout == Playout::Silence { FRAME / 2 } else { FRAME };
            out.push((at, playout));
            at += step;
        }
        out
    }
}

fn number(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload.try_into().unwrap())
}

/// Mouth-to-ear delay of each decoded frame, without the codec's own.
fn delays(played: &[(Duration, Playout)]) -> Vec<(u32, Duration)> {
    played
        .iter()
        .filter_map(|(at, playout)| match playout {
            Playout::Decode(payload) => Some((number(payload), *at - FRAME * number(payload))),
            Playout::DecodeFec(_) | Playout::Conceal | Playout::Comfort | Playout::Silence => None,
        })
        .collect()
}

#[test]
fn a_clean_line_is_played_whole_and_soon() {
    for phase in [0, 3, 7, 9] {
        let mut line = Line::clean(500, Duration::from_millis(55));
        let played = line.play(Duration::from_millis(phase), FRAME * 500);
        let delays = delays(&played);
        assert!(delays.len() >= 495, "phase {phase}: {}", delays.len());
        assert_eq!(line.buffer.stats().concealed, 0);
        let longest = delays.iter().map(|(_, delay)| *delay).max().unwrap();
        assert!(longest < Duration::from_millis(55 + 20), "phase {phase}: {longest:?}");
    }
}

#[test]
fn a_lost_frame_is_concealed_in_place_without_delay() {
    let arrivals = (0..100u32).filter(|n| *n != 50).map(|n| (FRAME * n, n)).collect();
    let mut line = Line::new(arrivals);
    let played = line.play(Duration::ZERO, FRAME * 99);
    let delays = delays(&played);
    assert_eq!(delays.first().map(|d| d.1), delays.last().map(|d| d.1));
    assert_eq!(line.buffer.stats().concealed, 1);
    assert_eq!(line.buffer.stats().late, 0);
}

#[test]
fn frames_missing_in_a_row_are_one_gap() {
    let lost = [20, 50, 51, 52, 53, 80, 81];
    let arrivals = (0..100u32).filter(|n| !lost.contains(n)).map(|n| (FRAME * n, n)).collect();
    let mut line = Line::new(arrivals);
    line.play(Duration::ZERO, FRAME * 99);
    let stats = line.buffer.stats();
    // One more row is put in when the delay has to grow.
    assert_eq!(stats.gaps, 3 + stats.inserted, "{stats:?}");
    assert_eq!(stats.concealed + stats.repaired, 7 + stats.inserted, "{stats:?}");
}

#[test]
fn steady_loss_is_repaired_from_the_following_packet() {
    let arrivals = (0..1500u32).filter(|n| n % 10 != 7).map(|n| (FRAME * n, n)).collect();
    let mut line = Line::new(arrivals);
    let played = line.play(Duration::ZERO, FRAME * 1500);
    let late = &played[played.len() / 3..];
    let repaired = late.iter().filter(|(_, p)| matches!(p, Playout::DecodeFec(_))).count();
    let concealed = late.iter().filter(|(_, p)| matches!(p, Playout::Conceal)).count();
    assert!(repaired >= 95 && concealed == 0, "repaired {repaired}, concealed {concealed}");
    // A repair uses the packet after the gap, which is then played itself.
    for pair in late.windows(2) {
        if let (Playout::DecodeFec(from), Playout::Decode(next)) = (&pair[0].1, &pair[1].1) {
            assert_eq!(from, next);
        }
    }
}

#[test]
fn bursts_are_repaired_from_copies_that_come_when_they_are_over() {
    // Five packets in a row of every fifty, each said again five packets later.
    let arrivals = || (0..3000u32).filter(|n| n % 50 < 45).map(|n| (FRAME * n, n)).collect();
    let mut line = Line::new(arrivals());
    line.copies = vec![5];
    let played = line.play(Duration::ZERO, FRAME * 3000);
    let late = &played[played.len() / 3..];
    let decoded = delays(late);
    assert!(late.iter().all(|(_, p)| matches!(p, Playout::Decode(_))), "{:?}", line.buffer.stats());
    assert!(decoded.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0), "each once and in order");
    let longest = decoded.iter().map(|(_, delay)| *delay).max().unwrap();
    assert!(longest <= FRAME * 6 + Duration::from_millis(10), "{longest:?}");
    let stats = line.buffer.stats();
    assert!(stats.restored >= 190, "{stats:?}");
    assert!(stats.duplicates == 0 && stats.late == 0, "copies of what has come are no duplicates: {stats:?}");

    let mut without = Line::new(arrivals());
    without.play(Duration::ZERO, FRAME * 3000);
    assert!(without.buffer.stats().concealed_share() > 0.07, "the copies did it");
}

#[test]
fn copies_cost_no_delay_where_nothing_is_lost_and_are_forgotten() {
    let mut line = Line::clean(500, Duration::from_millis(30));
    line.copies = vec![2, 8];
    let delays = delays(&line.play(Duration::ZERO, FRAME * 500));
    let longest = delays.iter().map(|(_, delay)| *delay).max().unwrap();
    assert!(longest <= Duration::from_millis(30 + 20), "{longest:?}");
    assert_eq!(line.buffer.stats().restored, 0);

    // Copies from far behind, and losses; later no copies any more: the delay is that of a repair by FEC.
    let lost = |n: &u32| n % 10 != 7;
    let mut line = Line::new((0..2000u32).filter(lost).map(|n| (FRAME * n, n)).collect());
    line.copies = vec![8];
    line.play(Duration::ZERO, FRAME * 500);
    assert!(line.buffer.stats().target >= FRAME * 8, "{:?}", line.buffer.stats());
    line.copies.clear();
    line.play(FRAME * 500, FRAME * 1000);
    assert!(line.buffer.stats().target <= FRAME * 2, "{:?}", line.buffer.stats());
}

#[test]
fn a_packet_that_comes_after_its_copy_is_no_duplicate_and_bad_copies_are_refused() {
    let mut buffer = JitterBuffer::new(JitterConfig::default());
    let start = Line::new(Vec::new()).start;
    assert_eq!(buffer.insert(start, 10, 9_600, b"ten"), Inserted::Held);
    assert_eq!(buffer.insert_copy(10, 9_600, 1, b"nine"), Inserted::Held);
    assert_eq!(buffer.insert_copy(10, 9_600, 1, b"nine"), Inserted::Duplicate);
    assert_eq!(buffer.insert(start, 9, 8_640, b"nine"), Inserted::Held, "it was only late");
    assert_eq!(buffer.insert(start, 9, 8_640, b"nine"), Inserted::Duplicate);
    assert_eq!(buffer.insert_copy(10, 9_600, 0, b"ten"), Inserted::Refused);
    assert_eq!(buffer.insert_copy(10, 9_600, 2, b""), Inserted::Refused);
    assert_eq!(buffer.insert_copy(10, 9_600, 2, &[0; MAX_PAYLOAD + 1]), Inserted::Refused);
    assert_eq!(buffer.next(start + FRAME * 2), Playout::Decode(b"ten".to_vec()));
    assert_eq!(buffer.insert_copy(10, 9_600, 3, b"seven"), Inserted::Late);

    // Across the wraps of both, and where there is no room.
    let mut buffer = JitterBuffer::new(JitterConfig { capacity: 3, ..JitterConfig::default() });
    assert_eq!(buffer.insert(start, 1, 960, b"one"), Inserted::Held);
    assert_eq!(buffer.insert_copy(1, 960, 3, b"three before"), Inserted::Held);
    assert_eq!(buffer.insert_copy(1, 960, 1, b"one before"), Inserted::Held);
    assert_eq!(buffer.insert_copy(1, 960, 2, b"two before"), Inserted::Late, "it gives way to nobody");
    let played: Vec<_> = (5..8).map(|n| buffer.next(start + FRAME * n)).collect();
    assert_eq!(
        played[0],
        Playout::Decode(b"one".to_vec()),
        "what has waited longest is too old by then: {played:?}"
    );
}

#[test]
fn the_delay_comes_back_after_a_spike() {
    // At 4 s the line stalls for 150 ms and then delivers everything at once.
    let stall = Duration::from_millis(4000)..Duration::from_millis(4150);
    let arrivals = (0..1000u32)
        .map(|n| {
            let at = FRAME * n;
            (if stall.contains(&at) { stall.end } else { at }, n)
        })
        .collect();
    let mut line = Line::new(arrivals);
    let delays = delays(&line.play(Duration::ZERO, FRAME * 1000));
    assert_eq!(line.buffer.stats().late, 0, "late packets are still played");
    let during = delays.iter().find(|(n, _)| *n == 205).unwrap().1;
    assert!(during >= Duration::from_millis(50));
    let after = delays.iter().filter(|(n, _)| *n > 400).map(|(_, delay)| *delay).max().unwrap();
    assert!(after <= Duration::from_millis(40), "{after:?} four seconds later");
}

#[test]
fn a_line_that_stalls_every_second_is_not_followed_up_and_down() {
    let arrivals = (0..3000u32)
        .map(|n| {
            let at = FRAME * n;
            let second = Duration::from_millis(at.as_millis() as u64 / 1000 * 1000);
            (at.max(second + Duration::from_millis(60)), n)
        })
        .collect();
    let mut line = Line::new(arrivals);
    let delays = delays(&line.play(Duration::from_millis(3), FRAME * 3000));
    let changes = delays.windows(2).filter(|pair| pair[0].1 != pair[1].1).count();
    assert!(changes <= 60, "{changes} in a minute");
    let mean = delays.iter().map(|(_, delay)| *delay).sum::<Duration>() / delays.len() as u32;
    assert!(mean < Duration::from_millis(65), "{mean:?}");
}

#[test]
fn playout_that_begins_late_begins_with_what_is_due() {
    for late in [0, 15, 300, 3_000] {
        let mut line = Line::clean(500, Duration::from_millis(50));
        let delays = delays(&line.play(Duration::from_millis(50 + late), FRAME * 500));
        assert!(delays[0].0 as u64 + 2 >= late / 20, "{late} ms late: began with {}", delays[0].0);
        assert!(delays.iter().all(|(_, delay)| *delay < Duration::from_millis(50 + 25)), "{late} ms late");
        assert_eq!(line.buffer.stats().concealed, 0);
    }
}

#[test]
fn playout_that_was_interrupted_goes_on_with_what_is_due() {
    let mut line = Line::clean(500, Duration::from_millis(50));
    line.play(Duration::ZERO, FRAME * 100);
    // The loudspeaker is away for two seconds, but packets come.
    let end = FRAME * 200;
    while line.arrivals[line.delivered].0 <= end {
        let (arrival, n) = line.arrivals[line.delivered];
        line.delivered += 1;
        let timestamp = (u32::MAX - 5_000).wrapping_add(n * 960);
        let sequence = (n as u16).wrapping_add(65_400);
        line.buffer.insert(line.start + arrival, sequence, timestamp, &n.to_be_bytes());
    }
    line.buffer.restart();
    let delays = delays(&line.play(end, FRAME * 400));
    assert!(delays.iter().all(|(_, delay)| *delay < Duration::from_millis(50 + 25)), "{:?}", delays[0]);
}

#[test]
fn a_jittery_line_settles_at_what_the_jitter_needs() {
    // Uniform 0 to 60 ms, by a fixed generator.
    let mut seed = 1u32;
    let arrivals = (0..2000u32)
        .map(|n| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (FRAME * n + Duration::from_micros(u64::from(seed >> 16) * 60_000 / 65_536), n)
        })
        .collect();
    let mut line = Line::new(arrivals);
    let played = line.play(Duration::ZERO, FRAME * 2000);
    let late = &played[played.len() / 2..];
    let concealed = late.iter().filter(|(_, p)| matches!(p, Playout::Conceal)).count();
    assert!(concealed * 50 <= late.len(), "concealed {concealed} of {}", late.len());
    let longest = delays(late).iter().map(|(_, delay)| *delay).max().unwrap();
    assert!(longest <= Duration::from_millis(110), "{longest:?}");
}

#[test]
fn clocks_that_drift_neither_starve_nor_fill_it() {
    for ppm in [-300, 300] {
        let packets = 15_000; // five minutes
        let arrivals = (0..packets).map(|n| (FRAME * n, n)).collect();
        let mut line = Line::new(arrivals);
        line.ppm = ppm;
        let mut skewed = line.play(Duration::ZERO, FRAME * packets);
        skewed.drain(..100);
        let stats = line.buffer.stats();
        assert!(stats.delay <= Duration::from_millis(60), "{ppm} ppm: {stats:?}");
        assert!(stats.dropped + stats.concealed <= 12, "{ppm} ppm: {stats:?}");
    }
}

#[test]
fn a_pause_ends_in_silence_and_the_stream_is_taken_up_again() {
    let arrivals =
        (0..100u32).map(|n| (FRAME * n + if n < 50 { Duration::ZERO } else { FRAME * 100 }, n)).collect();
    let mut line = Line::new(arrivals);
    let played = line.play(Duration::ZERO, FRAME * 210);
    let silent = played.iter().filter(|(at, p)| *p == Playout::Silence && *at > FRAME * 60).count();
    assert!(silent > 100, "{silent}");
    assert!(delays(&played).iter().any(|(n, _)| *n == 99));
}

#[test]
fn one_late_packet_does_not_leave_the_delay_high() {
    let mut line = Line::clean(600, Duration::from_millis(50));
    line.arrivals[100].0 += Duration::from_millis(25);
    let played = line.play(Duration::from_millis(3), Duration::from_secs(12));
    let (_, first) = delays(&played)[20];
    let (_, last) = *delays(&played).last().expect("something was played");
    assert!(last <= first + FRAME / 2, "{first:?} became {last:?}");
}

#[test]
fn made_up_timestamps_are_harmless() {
    #[allow(clippy::disallowed_methods)] // the origin of virtual time; its value is never looked at
    let start = Instant::now();
    let mut buffer = JitterBuffer::new(JitterConfig::default());
    for n in 0..20_000_u32 {
        let now = start + Duration::from_millis(u64::from(n));
        buffer.insert(now, n as u16, n.wrapping_mul(0x7fff_ffff), &[1]);
        buffer.next(now);
        buffer.tempo(Duration::from_millis(u64::from(n)));
    }
    // One frame held back, and ever later ones that let the fastest of all sink.
    for n in 0..3_000_u32 {
        let now = start + Duration::from_secs(20) + Duration::from_millis(u64::from(n));
        buffer.insert(now, 30_000, n.wrapping_mul(0x7fff_ffff), &[1]);
        buffer.insert(now, 20_000, n.wrapping_mul(0x7fff_fff0), &[1]);
        buffer.next(now);
        buffer.tempo(Duration::MAX);
    }
    assert!(matches!(
        buffer.next(start + Duration::from_secs(60)),
        Playout::Silence | Playout::Conceal | Playout::Decode(_)
    ));
}

#[test]
fn a_far_jump_and_a_flood_stay_within_the_bound() {
    let mut line = Line::clean(10, Duration::ZERO);
    line.play(Duration::ZERO, FRAME * 10);
    for n in (1000..1500u32).chain(40_000..40_500) {
        line.buffer.insert(line.start + FRAME * 10, n as u16, n * 960, &n.to_be_bytes());
        assert!(line.buffer.len() <= JitterConfig::default().capacity);
    }
    assert_eq!(line.buffer.insert(line.start, 1, 1, &[]), Inserted::Refused);
    assert_eq!(line.buffer.insert(line.start, 1, 1, &[0; MAX_PAYLOAD + 1]), Inserted::Refused);
}

/// Plays like a voice engine, on a grid of 10 ms: what is decoded is heard block by block, and a change of pace finds a period of
/// 5 ms in every third frame. Answers the mouth-to-ear delay of each decoded frame.
fn paced(line: &mut Line, end: Duration) -> Vec<(u32, Duration)> {
    paced_on(line, Duration::ZERO, end)
}

/// The same from a later time on.
fn paced_on(line: &mut Line, begin: Duration, end: Duration) -> Vec<(u32, Duration)> {
    let (step, period) = (FRAME / 2, FRAME / 4);
    let (mut ahead, mut delays) = (Duration::ZERO, Vec::new());
    for tick in 0..((end - begin).as_millis() / step.as_millis()) as u32 {
        let at = begin + step * tick;
        while ahead < step {
            line.deliver(at);
            match line.buffer.next(line.start + at) {
                Playout::Silence => ahead = step,
                Playout::Conceal | Playout::Comfort | Playout::DecodeFec(_) => ahead += FRAME,
                Playout::Decode(payload) => {
                    let n = number(&payload);
                    delays.push((n, (at + ahead).saturating_sub(FRAME * n)));
                    ahead = match line.buffer.tempo(ahead) {
                        Tempo::Faster(spare) if n.is_multiple_of(3) && (period <= ahead || spare >= step) => {
                            line.buffer.squeezed(period);
                            ahead + FRAME - period
                        }
                        Tempo::Slower if n.is_multiple_of(3) => {
                            line.buffer.stretched(period);
                            ahead + FRAME + period
                        }
                        Tempo::Faster(_) | Tempo::Slower | Tempo::Keep => ahead + FRAME,
                    };
                }
            }
        }
        ahead -= step;
    }
    delays
}

#[test]
fn a_change_of_pace_makes_up_for_clocks_that_differ() {
    for ppm in [-300, 300] {
        // Clocks of the ends that differ by so much: packets come ever earlier or later.
        let mut line = Line::clean(15_000, Duration::from_millis(150));
        line.arrivals.iter_mut().for_each(|(at, n)| {
            let skew = Duration::from_nanos(u64::from(*n) * 20 * i64::unsigned_abs(ppm));
            *at = if ppm < 0 { *at - skew } else { *at + skew };
        });
        let delays = paced(&mut line, FRAME * 14_900);
        let stats = line.buffer.stats();
        assert!(stats.dropped == 0 && stats.concealed == 0, "{ppm} ppm: {stats:?}");
        // Five minutes at 300 ppm are 90 ms.
        let (changed, other) =
            if ppm < 0 { (stats.faster, stats.slower) } else { (stats.slower, stats.faster) };
        assert!((70..=110).contains(&changed.as_millis()), "{ppm} ppm: {stats:?}");
        assert!(other <= Duration::from_millis(15), "{ppm} ppm: {stats:?}");
        assert!(delays.len() > 14_800, "{ppm} ppm: {}", delays.len());
    }
}

#[test]
fn after_a_spike_the_pace_is_faster_until_the_delay_is_back() {
    let arrivals =
        (0..1_000u32).map(|n| (if (200..208).contains(&n) { FRAME * 208 } else { FRAME * n }, n)).collect();
    let mut line = Line::new(arrivals);
    let delays = paced(&mut line, FRAME * 990);
    let stats = line.buffer.stats();
    assert_eq!((stats.dropped, stats.late), (0, 0), "{stats:?}");
    let of = |wanted: u32| delays.iter().find(|(n, _)| *n == wanted).map(|(_, delay)| *delay).unwrap();
    assert!(of(210) > of(199) + FRAME * 4, "{:?}", of(210));
    assert!(of(400) <= of(199) + FRAME / 2, "{:?} after {:?}", of(400), of(199));
    assert!(stats.faster >= FRAME * 4, "{stats:?}");
}

#[test]
fn p10_a_way_that_has_become_shorter_costs_no_delay_any_more() {
    // The first packets come through a relay; and the same in the middle of a call.
    for slow in [0..12, 0..600] {
        let transit = |n: u32| if slow.contains(&n) { FRAME * 5 } else { FRAME * 5 / 2 };
        // Nothing overtakes what comes by the same way, and what comes by the other one is there first.
        let mut line = Line::new((0..1_000u32).map(|n| (FRAME * n + transit(n), n)).collect());
        let delays = paced(&mut line, FRAME * 990);
        let stats = line.buffer.stats();
        // A second and a half later.
        let late = delays.iter().find(|(n, _)| *n == slow.end + 75).map(|(_, delay)| *delay).unwrap();
        assert!(late <= FRAME * 5 / 2 + Duration::from_millis(16), "{slow:?}: {late:?}, {stats:?}");
        assert!(stats.concealed == 0 && stats.faster >= FRAME * 3 / 2, "{slow:?}: {stats:?}");
    }
}

#[test]
fn a_way_that_is_crowded_for_seconds_is_not_taken_for_a_longer_one() {
    // Somebody fills the link for six seconds of seven: a queue grows to 90 ms in the first, stays, and is gone in a moment.
    let queue = |n: u32| match n % 350 {
        at @ 0..50 => FRAME * 9 * at / 100,
        50..300 => FRAME * 9 / 2,
        _ => Duration::ZERO,
    };
    let mut line = Line::new((0..3_000u32).map(|n| (FRAME * n + queue(n), n)).collect());
    paced(&mut line, FRAME * 1_000);
    let before = line.buffer.stats().concealed;
    let delays = paced_on(&mut line, FRAME * 1_000, FRAME * 2_900);
    let stats = line.buffer.stats();
    assert!(stats.concealed - before <= 10, "{before} before: {stats:?}");
    assert!(delays.len() > 1_850, "{}", delays.len());
}

#[test]
fn a_delay_that_has_to_grow_grows_by_a_slower_pace() {
    // From the third second on every other packet takes 40 ms longer.
    let arrivals = (0..1_000u32)
        .map(|n| (FRAME * n + if n > 150 && n % 2 == 0 { FRAME * 2 } else { Duration::ZERO }, n))
        .collect();
    let mut line = Line::new(arrivals);
    paced(&mut line, FRAME * 990);
    let stats = line.buffer.stats();
    assert!(stats.concealed <= 8, "{stats:?}");
    assert!(stats.slower + FRAME * stats.concealed as u32 >= FRAME, "{stats:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever the network does, no packet is decoded twice or out of order, and the bound holds.
    #[test]
    fn nothing_is_played_twice(
        network in proptest::collection::vec((0u64..400, 0u8..10, any::<bool>()), 50..300),
        phase in 0u64..20,
        copies in proptest::collection::vec(1u16..12, 0..3),
    ) {
        let mut arrivals = Vec::new();
        for (n, (delay, fate, twice)) in network.iter().enumerate() {
            let at = FRAME * n as u32 + Duration::from_millis(if *fate < 7 { delay / 10 } else { *delay });
            if *fate > 0 {
                arrivals.push((at, n as u32));
                if *twice {
                    arrivals.push((at + Duration::from_millis(delay / 2), n as u32));
                }
            }
        }
        let mut line = Line::new(arrivals);
        line.copies = copies;
        let played = line.play(Duration::from_millis(phase), FRAME * 330);
        let mut seen = BTreeSet::new();
        let mut last = None;
        for (n, _) in delays(&played) {
            prop_assert!(seen.insert(n), "packet {} twice", n);
            prop_assert!(last < Some(n), "packet {} after {:?}", n, last);
            last = Some(n);
        }
        prop_assert!(line.buffer.len() <= JitterConfig::default().capacity);
        let stats = line.buffer.stats();
        prop_assert_eq!(stats.played as usize, seen.len());
    }
}

/// A sender that says something in frames of which `speaks` holds, and sends an empty frame for every fifth of the others. Packets arrive
/// 30 ms later, and are lost where `lost` holds. Answers what is played for each frame from the first on.
fn with_pauses(speaks: impl Fn(u32) -> bool, lost: impl Fn(u32) -> bool) -> (JitterBuffer, Vec<Playout>) {
    #[allow(clippy::disallowed_methods)] // the origin of virtual time; its value is never looked at
    let start = Instant::now();
    let mut buffer = JitterBuffer::new(JitterConfig::default());
    let (mut sequence, mut pause, mut played) = (9u16, 0, Vec::new());
    for n in 0..1_000u32 {
        let spoken = speaks(n);
        pause = if spoken { 0 } else { pause + 1 };
        if spoken || pause % 5 == 1 {
            sequence = sequence.wrapping_add(1);
            let payload = if spoken { n.to_be_bytes().to_vec() } else { vec![1] };
            if !lost(n) {
                let arrival = start + FRAME * n + Duration::from_millis(30);
                buffer.insert(arrival, sequence, n.wrapping_mul(960), &payload);
            }
        }
        let playout = buffer.next(start + FRAME * n + Duration::from_millis(39));
        if matches!(&playout, Playout::Decode(payload) if payload.len() == 1) {
            buffer.pause();
        }
        played.push(playout);
    }
    (buffer, played)
}

#[test]
fn what_follows_a_pause_is_played_in_its_time_and_nothing_was_missing() {
    // A second of speech, then one without.
    let speaks = |n: u32| (n / 50).is_multiple_of(2);
    let (buffer, played) = with_pauses(speaks, |_| false);
    for (n, playout) in played.iter().enumerate() {
        match playout {
            Playout::Decode(payload) if payload.len() == 4 => assert_eq!(number(payload), n as u32),
            Playout::Decode(_) | Playout::Comfort => assert!(!speaks(n as u32), "{n}"),
            Playout::DecodeFec(_) | Playout::Conceal | Playout::Silence => panic!("{n}: {playout:?}"),
        }
    }
    let stats = buffer.stats();
    assert_eq!((stats.concealed, stats.dropped, stats.late), (0, 0, 0), "{stats:?}");
    assert_eq!(stats.comfort, 10 * 40);
}

#[test]
fn packets_lost_around_a_pause_cost_no_more_than_themselves() {
    let speaks = |n: u32| (n / 50).is_multiple_of(2);
    // The first one after a pause, the first one of a pause, another one.
    for (lost, gone) in [(100, vec![100]), (250, vec![]), (355, vec![])] {
        let (buffer, played) = with_pauses(speaks, |n| n == lost);
        let missing = (0..1_000)
            .filter(|n| speaks(*n) && !matches!(&played[*n as usize], Playout::Decode(p) if number(p) == *n))
            .collect::<Vec<_>>();
        assert_eq!(missing, gone, "{lost}: {:?}", buffer.stats());
        assert!(buffer.stats().late == 0 && buffer.stats().delay < Duration::from_millis(25), "{lost}");
    }
}

#[test]
fn a_pause_that_does_not_end_is_silence() {
    let (_, played) = with_pauses(|n| n < 100, |n| n > 200);
    let comfort = played.iter().filter(|playout| **playout == Playout::Comfort).count();
    assert!((80..150).contains(&comfort), "{comfort}");
    assert!(played[240..].iter().all(|playout| *playout == Playout::Silence));
}
