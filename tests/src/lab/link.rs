//! What a link does to packets, as pure arithmetic: no socket, no clock, seeded randomness.

use std::time::{Duration, Instant};

use crate::draws::Draws;

/// What one direction of a link does to the packets that enter it. The default does nothing at all.
#[derive(Clone, Debug, PartialEq)]
pub struct Impairment {
    /// One-way propagation delay.
    pub delay: Duration,
    /// Extra delay, uniform between zero and this.
    pub jitter: Duration,
    /// Share of packets lost, 0 to 1.
    pub loss: f64,
    /// Mean length of a run of lost packets (Gilbert model); 1 makes losses independent of each other.
    pub burst: f64,
    /// Bottleneck in bits per second; 0 is no bottleneck.
    pub rate: u64,
    /// Longest backlog in front of the bottleneck; what comes on top is dropped (tail drop).
    pub queue: Duration,
    /// Whether packets leave in the order in which they came, in spite of jitter.
    pub keep_order: bool,
    /// Share of packets delivered twice, 0 to 1.
    pub duplicate: f64,
}

impl Default for Impairment {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0.0,
            burst: 1.0,
            rate: 0,
            queue: Duration::from_millis(500),
            keep_order: true,
            duplicate: 0.0,
        }
    }
}

impl Impairment {
    /// A link that only delays, by `ms` milliseconds one way.
    pub fn delay_ms(ms: u64) -> Self {
        Self { delay: Duration::from_millis(ms), ..Self::default() }
    }

    /// The same link with independent losses of this share (0 to 1).
    pub fn with_loss(self, loss: f64) -> Self {
        Self { loss, burst: 1.0, ..self }
    }

    /// The same link with losses of this share in runs of `mean` packets on average.
    pub fn with_bursts(self, loss: f64, mean: f64) -> Self {
        Self { loss, burst: mean, ..self }
    }

    /// The same link with up to this much extra delay; packets may overtake each other if `keep_order` is false.
    pub fn with_jitter(self, jitter: Duration, keep_order: bool) -> Self {
        Self { jitter, keep_order, ..self }
    }

    /// The same link behind a bottleneck of `bits_per_second` with at most `queue` of backlog.
    pub fn with_rate(self, bits_per_second: u64, queue: Duration) -> Self {
        Self { rate: bits_per_second, queue, ..self }
    }

    /// A link that is cut: everything is lost.
    pub fn cut() -> Self {
        Self { loss: 1.0, ..Self::default() }
    }
}

/// What becomes of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Lost on the way.
    Lost,
    /// Dropped because the backlog was full.
    QueueFull,
    /// Delivered at this time, and perhaps once more.
    Delivered {
        /// When it arrives.
        at: Instant,
        /// When its duplicate arrives, if there is one.
        copy: Option<Instant>,
    },
}

/// One direction of a link: the state that an [`Impairment`] needs from packet to packet.
///
/// Input: packets in the order of their arrival times. Output: their [`Fate`]. The same seed, impairment and
/// sequence of packets give the same losses.
#[derive(Debug)]
pub struct Channel {
    draws: Draws,
    in_burst: bool,
    last_due: Option<Instant>,
    busy_until: Option<Instant>,
}

impl Channel {
    /// A fresh direction whose random decisions follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { draws: Draws::new(seed), in_burst: false, last_due: None, busy_until: None }
    }

    /// Decides what becomes of a packet of `len` bytes that enters at `at`.
    pub fn offer(&mut self, at: Instant, len: usize, link: &Impairment) -> Fate {
        if self.loses(link) {
            return Fate::Lost;
        }
        let Some(sent) = self.serialise(at, len, link) else { return Fate::QueueFull };
        let first = self.due(sent, link);
        let copy = (link.duplicate > 0.0 && self.draws.unit() < link.duplicate).then(|| self.due(sent, link));
        Fate::Delivered { at: first, copy }
    }

    /// Gilbert model: in the bad state everything is lost, and the mean stay there is `burst` packets, so the
    /// good state is left with probability `loss / (burst * (1 - loss))`.
    fn loses(&mut self, link: &Impairment) -> bool {
        let loss = link.loss.clamp(0.0, 1.0);
        let roll = self.draws.unit();
        if link.burst <= 1.0 || loss >= 1.0 {
            self.in_burst = false;
            return roll < loss;
        }
        self.in_burst = if self.in_burst {
            roll >= 1.0 / link.burst
        } else {
            roll < (loss / (link.burst * (1.0 - loss))).min(1.0)
        };
        self.in_burst
    }

    /// When the last bit has left the bottleneck, or `None` if there is no room to wait.
    fn serialise(&mut self, at: Instant, len: usize, link: &Impairment) -> Option<Instant> {
        if link.rate == 0 {
            return Some(at);
        }
        let start = self.busy_until.map_or(at, |busy| busy.max(at));
        if start - at > link.queue {
            return None;
        }
        let end = start + Duration::from_secs_f64(len as f64 * 8.0 / link.rate as f64);
        self.busy_until = Some(end);
        Some(end)
    }

    fn due(&mut self, sent: Instant, link: &Impairment) -> Instant {
        let mut due = sent + link.delay + link.jitter.mul_f64(self.draws.unit());
        if link.keep_order {
            due = self.last_due.map_or(due, |last| last.max(due));
            self.last_due = Some(due);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(seed: u64, link: &Impairment, count: usize) -> Vec<Fate> {
        let start = Instant::now();
        let mut channel = Channel::new(seed);
        (0..count).map(|i| channel.offer(start + Duration::from_millis(i as u64), 200, link)).collect()
    }

    fn lost(fates: &[Fate]) -> usize {
        fates.iter().filter(|fate| **fate == Fate::Lost).count()
    }

    #[test]
    fn a_plain_link_only_delays() {
        let start = Instant::now();
        let mut channel = Channel::new(1);
        let fate = channel.offer(start, 1500, &Impairment::delay_ms(25));
        assert_eq!(fate, Fate::Delivered { at: start + Duration::from_millis(25), copy: None });
    }

    #[test]
    fn losses_have_the_share_asked_for_and_follow_the_seed() {
        let link = Impairment::default().with_loss(0.1);
        let first = fates(7, &link, 20_000);
        let share = lost(&first) as f64 / 20_000.0;
        assert!((0.09..0.11).contains(&share), "{share}");
        assert_eq!(lost(&first), lost(&fates(7, &link, 20_000)));
        assert_ne!(lost(&first), lost(&fates(8, &link, 20_000)));
        assert_eq!(lost(&fates(7, &Impairment::cut(), 1_000)), 1_000);
        assert_eq!(lost(&fates(7, &Impairment::default(), 1_000)), 0);
    }

    #[test]
    fn bursts_have_the_mean_length_asked_for() {
        let all = fates(3, &Impairment::default().with_bursts(0.1, 5.0), 100_000);
        let share = lost(&all) as f64 / all.len() as f64;
        let runs = all.windows(2).filter(|pair| pair[0] != Fate::Lost && pair[1] == Fate::Lost).count();
        let mean = lost(&all) as f64 / runs as f64;
        assert!((0.09..0.11).contains(&share), "share {share}");
        assert!((4.5..5.5).contains(&mean), "mean run {mean}");
    }

    #[test]
    fn jitter_overtakes_only_if_allowed() {
        let arrivals = |keep_order| {
            let link = Impairment::delay_ms(50).with_jitter(Duration::from_millis(30), keep_order);
            fates(5, &link, 1_000)
                .into_iter()
                .filter_map(|fate| match fate {
                    Fate::Delivered { at, .. } => Some(at),
                    Fate::Lost | Fate::QueueFull => None,
                })
                .collect::<Vec<_>>()
        };
        assert!(arrivals(true).is_sorted());
        assert!(!arrivals(false).is_sorted());
    }

    #[test]
    fn a_bottleneck_spaces_packets_and_drops_the_backlog() {
        let start = Instant::now();
        let link = Impairment::default().with_rate(80_000, Duration::from_millis(100));
        let mut channel = Channel::new(1);
        // 100 bytes take 10 ms; a burst of 20 at once fits until 100 ms of backlog stand before the link.
        let all: Vec<Fate> = (0..20).map(|_| channel.offer(start, 100, &link)).collect();
        assert_eq!(all[0], Fate::Delivered { at: start + Duration::from_millis(10), copy: None });
        assert_eq!(all[4], Fate::Delivered { at: start + Duration::from_millis(50), copy: None });
        assert_eq!(all.iter().filter(|fate| **fate == Fate::QueueFull).count(), 9);
    }

    #[test]
    fn duplicates_have_the_share_asked_for() {
        let link = Impairment { duplicate: 0.2, ..Impairment::default() };
        let twice = fates(9, &link, 10_000)
            .iter()
            .filter(|fate| matches!(fate, Fate::Delivered { copy: Some(_), .. }))
            .count();
        assert!((1_800..2_200).contains(&twice), "{twice}");
    }
}
