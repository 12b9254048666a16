//! The receiver's half: finds from the times of arrivals that packets queue up, and at which rate they get through.

use std::collections::VecDeque;
use std::time::Duration;

use super::OVERHEAD;

/// Over how long arrivals are judged together: a dozen packets, of which at least one has been held up by the queue alone. Longer
/// where fewer get through, but what takes more than a second was a pause.
const INTERVAL: Duration = Duration::from_millis(250);
const MIN_PACKETS: u32 = 6;
const PAUSE: Duration = Duration::from_secs(1);
/// Intervals whose fastest packet is remembered, to know how fast the way is without a queue: ten seconds.
const MEMORY: usize = 40;
/// A queue as long as this is too long, and one shorter than that is none, microseconds.
const LONG: i64 = 60_000;
const SHORT: i64 = 25_000;
/// The share of what got through that is asked for while the queue is to become shorter, and when it has.
const DRAIN: f64 = 0.7;
const KEEP: f64 = 0.95;
/// Bytes of payload up to which nobody speaks in a packet. Such packets make no queue, and what comes of them is not what gets through:
/// they are not judged, nor is what comes before and after them judged together.
const PAUSING: usize = 8;
/// When less than this share of it comes, the sender sends less than gets through.
const OBEYED: f64 = 0.9;
/// How long a queue may take to become shorter after the sender was told, and by how much it has to, microseconds.
const PATIENCE: Duration = Duration::from_millis(2_000);
const PROGRESS: i64 = 30_000;
/// How long after a queue has gone more is tried than got through at that time; twice as long after each failure, up to the
/// second.
const FIRST_TRIAL: Duration = Duration::from_secs(20);
const LAST_TRIAL: Duration = Duration::from_secs(60);
/// By how much more per interval: a sixth in a second.
const GROWTH: f64 = 1.04;
/// Nothing below is asked for, and nothing above has to be: two copies of everything need less.
const MIN_RATE: f64 = 24_000.0;
const MAX_RATE: f64 = 150_000.0;

/// What has been asked of the sender.
#[derive(Debug, Clone, Copy)]
struct Limit {
    rate: f64,
    /// What got through when packets queued up last.
    capacity: f64,
    state: State,
    /// How long it takes until more is tried.
    trial: Duration,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Waits for the queue, which was so long at that time, to become shorter.
    Draining { since: Duration, queue: i64 },
    /// There has been none since then.
    Clear { since: Duration },
}

/// The packets of the current interval.
#[derive(Debug, Clone, Copy)]
struct Interval {
    begin: Duration,
    packets: u32,
    bytes: usize,
    fastest: i64,
}

/// Watches one stream. See the module's documentation.
#[derive(Debug)]
pub struct Bottleneck {
    clock_hz: u32,
    /// Last RTP timestamp, and the time since the first.
    spoken: Option<(u32, i64)>,
    /// Transit of the fastest packet of past intervals, microseconds; only differences mean anything.
    fastest: VecDeque<i64>,
    interval: Option<Interval>,
    /// How long the queue was in the last interval, microseconds.
    queue: i64,
    limit: Option<Limit>,
    changed: bool,
    /// Whether a queue has gone since this was last asked.
    cleared: bool,
}

impl Bottleneck {
    /// Nothing received yet. `clock_hz` is the RTP clock of the source.
    pub fn new(clock_hz: u32) -> Bottleneck {
        Bottleneck {
            clock_hz: clock_hz.max(1),
            spoken: None,
            fastest: VecDeque::new(),
            interval: None,
            queue: 0,
            limit: None,
            changed: false,
            cleared: false,
        }
    }

    /// Takes a packet that arrived at `at`, the time since any fixed instant, which must not go backwards, and had so many bytes of
    /// payload.
    pub fn on_packet(&mut self, at: Duration, timestamp: u32, payload: usize) {
        let transit = micros(at).saturating_sub(self.spoken(timestamp));
        if payload <= PAUSING {
            self.interval = None;
            return;
        }
        let is_over = |interval: &mut Interval| {
            let lasted = at.saturating_sub(interval.begin);
            lasted >= INTERVAL && interval.packets >= MIN_PACKETS || lasted >= PAUSE
        };
        if let Some(over) = self.interval.take_if(is_over) {
            self.judge(at, over);
        }
        let interval =
            self.interval.get_or_insert(Interval { begin: at, packets: 0, bytes: 0, fastest: transit });
        interval.packets += 1;
        interval.bytes += payload + OVERHEAD;
        interval.fastest = interval.fastest.min(transit);
    }

    /// What the sender should not exceed, bits per second; `None` if it may send what it likes.
    pub fn limit(&self) -> Option<u32> {
        self.limit.map(|limit| limit.rate as u32)
    }

    /// Whether the sender should be told at once; true once after a limit became lower.
    pub fn take_urgent(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Whether a queue has gone; true once each time. What packets have waited in it says nothing of what they will wait.
    pub fn take_cleared(&mut self) -> bool {
        std::mem::take(&mut self.cleared)
    }

    /// When the packet was spoken since the first one, microseconds.
    fn spoken(&mut self, timestamp: u32) -> i64 {
        let units = self
            .spoken
            .map_or(0, |(last, units)| units.saturating_add(i64::from(timestamp.wrapping_sub(last) as i32)));
        self.spoken = Some((timestamp, units));
        units.saturating_mul(1_000_000) / i64::from(self.clock_hz)
    }

    fn judge(&mut self, now: Duration, interval: Interval) {
        let lasted = now.saturating_sub(interval.begin);
        // After a pause nothing is known of the time in between.
        if interval.packets < MIN_PACKETS || lasted >= PAUSE {
            return;
        }
        if self.fastest.len() == MEMORY {
            self.fastest.pop_front();
        }
        self.fastest.push_back(interval.fastest);
        let base = self.fastest.iter().copied().min().unwrap_or(interval.fastest);
        let before = std::mem::replace(&mut self.queue, interval.fastest.saturating_sub(base));
        let rate = interval.bytes as f64 * 8.0 / lasted.as_secs_f64();
        match self.limit {
            None if self.queue > LONG && self.queue >= before => self.drain(now, rate, FIRST_TRIAL),
            None => {}
            Some(limit) => self.go_on(now, rate, limit),
        }
    }

    fn drain(&mut self, now: Duration, capacity: f64, trial: Duration) {
        let rate = (capacity * DRAIN).max(MIN_RATE);
        let state = State::Draining { since: now, queue: self.queue };
        self.limit = Some(Limit { rate, capacity, state, trial });
        self.changed = true;
    }

    fn go_on(&mut self, now: Duration, rate: f64, mut limit: Limit) {
        match limit.state {
            State::Draining { .. } if self.queue <= SHORT => {
                limit.state = State::Clear { since: now };
                self.cleared = true;
                limit.rate = (limit.capacity * KEEP).max(MIN_RATE);
            }
            State::Draining { since, queue } if now.saturating_sub(since) >= PATIENCE => {
                if self.queue > queue + PROGRESS {
                    // Even less gets through.
                    return self.drain(now, rate.min(limit.capacity), limit.trial);
                } else if self.queue > queue - PROGRESS && rate < limit.capacity * OBEYED {
                    // Less comes than got through, and it is as slow as before: that is how long the way is now. As long as no less
                    // comes, the sender has not heard of it yet, or can do no better.
                    self.fastest.clear();
                    self.queue = 0;
                    self.limit = None;
                    return;
                }
                limit.state = State::Draining { since: now, queue: self.queue };
            }
            State::Draining { .. } => {}
            State::Clear { .. } if self.queue > LONG => {
                return self.drain(now, rate, (limit.trial * 2).min(LAST_TRIAL));
            }
            State::Clear { since } if self.queue <= SHORT => {
                let clear = now.saturating_sub(since);
                // Who sends less than the limit, or loses what is more, does not show that more gets through.
                let used = rate >= limit.rate * OBEYED;
                if used && clear >= limit.trial {
                    limit.rate *= GROWTH;
                } else if !used && clear >= LAST_TRIAL {
                    self.limit = None;
                    return;
                }
            }
            State::Clear { .. } => {}
        }
        self.limit = Some(limit).filter(|limit| limit.rate < MAX_RATE);
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A link of so many bits per second with a queue, over which a sender obeys at once.
    struct Link {
        free_at: f64,
        bottleneck: Bottleneck,
        worst: f64,
    }

    impl Link {
        fn new() -> Link {
            Link { free_at: 0.0, bottleneck: Bottleneck::new(48_000), worst: 0.0 }
        }

        /// Sends for these seconds at what is wanted or allowed, and answers the rate of the last second.
        fn run(&mut self, seconds: std::ops::Range<u32>, capacity: f64, way: f64, wanted: f64) -> f64 {
            self.run_with(seconds, capacity, way, wanted, 0.0, f64::INFINITY)
        }

        /// The same with a sender that sends no less than `least`, and a queue of so many seconds beyond which packets are lost.
        fn run_with(
            &mut self,
            seconds: std::ops::Range<u32>,
            capacity: f64,
            way: f64,
            wanted: f64,
            least: f64,
            queue: f64,
        ) -> f64 {
            let (mut sent, end) = (0.0, f64::from(seconds.end));
            self.worst = 0.0;
            for packet in seconds.start * 50..seconds.end * 50 {
                let spoken = f64::from(packet) * 0.02;
                let allowed = self.bottleneck.limit().map_or(wanted, |limit| wanted.min(f64::from(limit)));
                let bytes = allowed.max(least) / 50.0 / 8.0;
                sent += if spoken >= end - 1.0 { bytes * 8.0 } else { 0.0 };
                if self.free_at - spoken > queue {
                    continue;
                }
                self.free_at = self.free_at.max(spoken) + bytes * 8.0 / capacity;
                self.worst = self.worst.max(self.free_at - spoken);
                self.bottleneck.on_packet(
                    Duration::from_secs_f64(self.free_at + way),
                    packet * 960,
                    bytes as usize - OVERHEAD,
                );
            }
            sent
        }
    }

    #[test]
    fn a_wide_link_is_never_limited() {
        let mut link = Link::new();
        link.run(0..60, 1e6, 0.05, 60_000.0);
        assert_eq!(link.bottleneck.limit(), None);
        assert!(!link.bottleneck.take_urgent());
    }

    #[test]
    fn a_narrow_link_gets_what_it_carries_and_no_queue() {
        let mut link = Link::new();
        link.run(0..3, 48_000.0, 0.05, 60_000.0);
        assert!(link.bottleneck.take_urgent(), "within three seconds");
        assert!(link.worst < 0.25, "{}", link.worst);
        link.run(3..6, 48_000.0, 0.05, 60_000.0);
        assert!(link.bottleneck.take_cleared() && !link.bottleneck.take_cleared(), "it has gone, once");
        for minute in 0..4 {
            let rate = link.run(6 + minute * 60..66 + minute * 60, 48_000.0, 0.05, 60_000.0);
            assert!((38_000.0..50_000.0).contains(&rate), "{rate} in minute {minute}");
            assert!(link.worst < 0.2, "{} in minute {minute}", link.worst);
        }
    }

    #[test]
    fn a_link_that_suddenly_carries_a_third_is_noticed_whatever_gets_lost() {
        let mut link = Link::new();
        link.run(0..10, 1e6, 0.05, 120_000.0);
        assert_eq!(link.bottleneck.limit(), None);
        link.run_with(10..20, 40_000.0, 0.05, 120_000.0, 0.0, 0.8);
        let rate = link.run_with(20..60, 40_000.0, 0.05, 120_000.0, 0.0, 0.8);
        assert!((30_000.0..42_000.0).contains(&rate), "{rate}");
        assert!(link.worst < 0.3, "{}", link.worst);
    }

    #[test]
    fn a_link_that_is_too_narrow_for_the_least_stays_limited() {
        let mut link = Link::new();
        link.run_with(0..10, 30_000.0, 0.05, 60_000.0, 34_400.0, 0.5);
        for second in 10..60 {
            link.run_with(second..second + 1, 30_000.0, 0.05, 60_000.0, 34_400.0, 0.5);
            assert!(link.bottleneck.limit().is_some_and(|limit| limit < 34_400), "second {second}");
        }
    }

    #[test]
    fn what_becomes_wide_again_is_used_again() {
        let mut link = Link::new();
        link.run(0..10, 40_000.0, 0.05, 60_000.0);
        assert!(link.bottleneck.limit().is_some());
        let rate = link.run(10..30, 1e6, 0.05, 60_000.0);
        assert!(rate > 59_000.0, "{rate}");
        link.run(30..100, 1e6, 0.05, 60_000.0);
        assert_eq!(link.bottleneck.limit(), None, "and forgotten");
    }

    #[test]
    fn a_longer_way_is_no_queue() {
        let mut link = Link::new();
        link.run(0..10, 1e6, 0.05, 60_000.0);
        link.run(10..14, 1e6, 0.2, 60_000.0);
        assert_eq!(link.bottleneck.limit(), None, "after a moment of doubt");
        let rate = link.run(14..20, 1e6, 0.2, 60_000.0);
        assert!(rate > 59_000.0, "{rate}");
    }

    #[test]
    fn a_way_that_becomes_longer_while_nobody_speaks_is_no_queue_either() {
        let mut link = Link::new();
        link.run(0..10, 1e6, 0.05, 60_000.0);
        // Ten packets a second with nothing in them, half of them by the longer way.
        for packet in 0..40u32 {
            let spoken = 10.0 + f64::from(packet) * 0.1;
            let way = if packet < 20 { 0.05 } else { 0.2 };
            link.bottleneck.on_packet(Duration::from_secs_f64(spoken + way), 480_000 + packet * 4_800, 1);
        }
        assert_eq!(link.bottleneck.limit(), None);
        link.run(14..18, 1e6, 0.2, 60_000.0);
        assert_eq!(link.bottleneck.limit(), None, "after a moment of doubt");
        let rate = link.run(18..20, 1e6, 0.2, 60_000.0);
        assert!(rate > 59_000.0, "{rate}");
    }

    #[test]
    fn jitter_and_a_stall_are_no_queue() {
        let mut bottleneck = Bottleneck::new(48_000);
        let mut last = Duration::ZERO;
        for packet in 0..3_000u32 {
            let spoken = Duration::from_millis(20) * packet;
            // Up to 60 ms more, and a stall of 300 ms in each 10 s.
            let jitter =
                Duration::from_millis(u64::from(packet.wrapping_mul(2_654_435_761) >> 24) * 60 / 256);
            let in_ten_seconds = packet % 500;
            let stall = Duration::from_millis(20 * u64::from(15u32.saturating_sub(in_ten_seconds)));
            last = last.max(spoken + Duration::from_millis(40) + jitter.max(stall));
            bottleneck.on_packet(last, packet * 960, 80);
            assert!(packet < 100 || bottleneck.limit().is_none_or(|limit| limit > 40_000), "{bottleneck:?}");
        }
        assert_eq!(bottleneck.limit(), None, "{bottleneck:?}");
    }

    #[test]
    fn made_up_times_are_harmless() {
        let mut bottleneck = Bottleneck::new(0);
        for n in 0..1_000u32 {
            let at = Duration::from_millis(u64::from(n) * 20);
            bottleneck.on_packet(at, n.wrapping_mul(0x7fff_ffff), usize::MAX / 2_000);
            bottleneck.on_packet(at, n.wrapping_mul(0x8000_0001), 0);
            assert!(bottleneck.limit().is_none_or(|limit| limit >= 24_000));
        }
        bottleneck.on_packet(Duration::MAX, 0, 1_400);
        assert!(bottleneck.limit().is_none_or(|limit| limit >= 24_000));
    }
}
