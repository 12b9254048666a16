//! What a receiver counts: loss and jitter (RFC 3550 sections 6.4.1 and A.3, A.8).

use std::time::Duration;

use super::trail::Trail;
use super::{LossTrace, ReportBlock};

/// Extends wrapping sequence numbers to ones that never wrap.
///
/// Each number is taken as the one nearest to the highest seen so far, so reordering across the wrap is
/// understood. The first number maps to `65536 + number`, which leaves room for earlier ones.
#[derive(Debug, Clone, Copy, Default)]
pub struct SequenceUnwrap {
    highest: Option<u64>,
}

impl SequenceUnwrap {
    /// The extended form of `sequence`.
    pub fn unwrap(&mut self, sequence: u16) -> u64 {
        let Some(highest) = self.highest else {
            let first = 0x1_0000 + u64::from(sequence);
            self.highest = Some(first);
            return first;
        };
        let step = i64::from(sequence.wrapping_sub(highest as u16) as i16);
        let extended = highest.saturating_add_signed(step);
        self.highest = Some(highest.max(extended));
        extended
    }
}

/// Packets that were lost in a row: how often, how many in all, and in the longest row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LossBursts {
    /// Rows of at least one lost packet.
    pub count: u64,
    /// Packets in all of them.
    pub lost: u64,
    /// Packets in the longest.
    pub longest: u64,
    /// Length of the one that has not ended.
    current: u64,
}

impl LossBursts {
    /// Counts the next packet of the stream.
    pub(super) fn note(&mut self, received: bool) {
        if received {
            self.current = 0;
            return;
        }
        self.count += u64::from(self.current == 0);
        self.current += 1;
        self.lost += 1;
        self.longest = self.longest.max(self.current);
    }

    /// Packets in a row on average; 0 if none was lost.
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.lost as f64 / self.count as f64 }
    }
}

/// Reception statistics of one source.
#[derive(Debug, Clone)]
pub struct Reception {
    clock_hz: u32,
    unwrap: SequenceUnwrap,
    first: Option<u64>,
    highest: u64,
    received: u64,
    expected_before: u64,
    received_before: u64,
    transit: Option<i64>,
    /// Sixteen times the jitter, as in RFC 3550 section A.8, so that no precision is lost.
    jitter_x16: u64,
    bytes: u64,
    trail: Trail,
}

impl Reception {
    /// Nothing received yet. `clock_hz` is the RTP clock of the source.
    pub fn new(clock_hz: u32) -> Reception {
        Reception {
            clock_hz,
            unwrap: SequenceUnwrap::default(),
            first: None,
            highest: 0,
            received: 0,
            expected_before: 0,
            received_before: 0,
            transit: None,
            jitter_x16: 0,
            bytes: 0,
            trail: Trail::default(),
        }
    }

    /// Counts a frame that travelled in the packet of a later one, and says nothing of how long packets take.
    pub fn on_companion(&mut self, sequence: u16) {
        let extended = self.unwrap.unwrap(sequence);
        self.first = Some(self.first.map_or(extended, |first| first.min(extended)));
        self.highest = self.highest.max(extended);
        self.received += 1;
        self.trail.note(extended);
    }

    /// Counts one packet. `at` is the time since any fixed instant.
    pub fn on_packet(&mut self, at: Duration, sequence: u16, timestamp: u32, bytes: usize) {
        self.on_companion(sequence);
        self.bytes += bytes as u64;
        let arrival = (at.as_nanos() * u128::from(self.clock_hz) / 1_000_000_000) as i64;
        // Only differences count, so wrapping is harmless: take them modulo 2^32.
        let transit = arrival.wrapping_sub(i64::from(timestamp));
        if let Some(before) = self.transit.replace(transit) {
            let difference = u64::from((transit.wrapping_sub(before) as i32).unsigned_abs());
            self.jitter_x16 = (self.jitter_x16 + difference).saturating_sub((self.jitter_x16 + 8) >> 4);
        }
    }

    /// Whether more was lost since the last trace than its sender would expect by now, so that it should be told at once.
    pub fn has_news(&self) -> bool {
        self.trail.has_news()
    }

    /// What became of the packets of source `ssrc` since the last trace, but for the last few, and once more of some before them.
    pub fn trace(&mut self, ssrc: u32) -> Option<LossTrace> {
        self.trail.trace(ssrc)
    }

    /// The losses that traces have told of: what only came late is none.
    pub fn bursts(&self) -> LossBursts {
        self.trail.bursts()
    }

    /// Packets received, duplicates included.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Bytes of RTP received, without QUIC's and IP's own.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Packets that should have arrived by now.
    pub fn expected(&self) -> u64 {
        self.first.map_or(0, |first| self.highest - first + 1)
    }

    /// Packets that did not arrive; negative when duplicates did.
    pub fn lost(&self) -> i64 {
        self.expected() as i64 - self.received as i64
    }

    /// Interarrival jitter (RFC 3550 section 6.4.1).
    pub fn jitter(&self) -> Duration {
        Duration::from_nanos(
            (self.jitter_x16 / 16).saturating_mul(1_000_000_000) / u64::from(self.clock_hz.max(1)),
        )
    }

    /// The block for the next report about source `ssrc`; starts a new interval of `fraction_lost`.
    /// `last_report` is the sender report that arrived last and how long ago.
    pub fn report(&mut self, ssrc: u32, last_report: Option<(u64, Duration)>) -> ReportBlock {
        let expected = self.expected() - self.expected_before;
        let received = self.received - self.received_before;
        (self.expected_before, self.received_before) = (self.expected(), self.received);
        let lost = expected.saturating_sub(received);
        ReportBlock {
            ssrc,
            fraction_lost: (lost * 256).checked_div(expected).unwrap_or(0).min(255) as u8,
            cumulative_lost: self.lost().clamp(-0x80_0000, 0x7f_ffff) as i32,
            highest_sequence: self.highest.wrapping_sub(0x1_0000) as u32,
            jitter: (self.jitter_x16 / 16).min(u64::from(u32::MAX)) as u32,
            last_report: last_report.map_or(0, |(ntp, _)| (ntp >> 16) as u32),
            delay_since_report: last_report.map_or(0, |(_, ago)| {
                (ago.as_micros() * 65_536 / 1_000_000).min(u128::from(u32::MAX)) as u32
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn loss_is_counted_per_interval_and_in_total() {
        let mut reception = Reception::new(48_000);
        for n in (0..100u16).filter(|n| n % 4 != 1) {
            let at = Duration::from_millis(u64::from(n) * 20);
            reception.on_packet(at, n.wrapping_add(65_500), u32::from(n) * 960, 80);
        }
        let block = reception.report(7, None);
        assert_eq!((block.fraction_lost, block.cumulative_lost, block.jitter), (64, 25, 0));
        assert_eq!(block.highest_sequence, 0x1_0000 + 63, "one wrap");
        for n in 100..200u16 {
            reception.on_packet(
                Duration::from_millis(u64::from(n) * 20),
                n.wrapping_add(65_500),
                u32::from(n) * 960,
                80,
            );
        }
        let block = reception.report(7, Some((0x0001_2345_6789_abcd, Duration::from_millis(500))));
        assert_eq!((block.fraction_lost, block.cumulative_lost), (0, 25));
        assert_eq!((block.last_report, block.delay_since_report), (0x2345_6789, 32_768));
    }

    #[test]
    fn jitter_settles_at_the_mean_difference() {
        let mut reception = Reception::new(48_000);
        for n in 0..1000u64 {
            let late = if n % 2 == 0 { 0 } else { 10 };
            reception.on_packet(Duration::from_millis(n * 20 + late), n as u16, n as u32 * 960, 80);
        }
        let jitter = reception.jitter().as_secs_f64();
        assert!((jitter - 0.010).abs() < 0.000_5, "differences are always 10 ms, got {jitter}");
    }

    proptest! {
        #[test]
        fn unwrap_follows_any_walk(start in any::<u16>(), steps in proptest::collection::vec(-100i64..1000, 1..300)) {
            let mut unwrap = SequenceUnwrap::default();
            let mut truth = 0x1_0000 + u64::from(start);
            prop_assert_eq!(unwrap.unwrap(start), truth);
            let mut highest = truth;
            for step in steps {
                truth = highest.saturating_add_signed(step);
                prop_assert_eq!(unwrap.unwrap(truth as u16), truth);
                highest = highest.max(truth);
            }
        }
    }
}
