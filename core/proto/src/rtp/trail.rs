//! Which of the last packets have arrived, and what of that their sender knows.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use super::{LossBursts, LossTrace, MAX_TRACE};

/// The last packets are left to the next trace: one of them that is not there yet may only be late. So many at least and at most, by
/// how late packets have been.
const UNSETTLED: RangeInclusive<usize> = 1..=10;
/// Packets that a trace tells of again, since the one before may have been lost.
const AGAIN: usize = 50;
/// A packet that came out of order is remembered for so many others.
const ORDER_MEMORY: usize = 500;
/// Over how many packets the share of lost ones that the sender knows of is taken.
const KNOWN: f64 = 250.0;
/// A trace that is sent in between tells of so many packets at least.
const MIN_NEWS: usize = 2;
/// What is lost is news if it is so many times what the sender expects by now, of so many packets more than there are: one soon after
/// a trace is nothing new.
const NEWS: f64 = 2.0;
const SLACK: f64 = 10.0;

/// See the module's documentation. Packets are numbered by extended sequence numbers, which never wrap.
#[derive(Debug, Clone, Default)]
pub(super) struct Trail {
    /// Number of the first packet in `arrived`.
    begin: u64,
    arrived: VecDeque<bool>,
    /// How many of them, from the beginning, a trace has told of.
    told: usize,
    /// By how many others a packet was overtaken at most, and packets since one was by as many.
    overtaken: (usize, usize),
    /// The share of lost packets of which the sender knows.
    known: f64,
    bursts: LossBursts,
}

impl Trail {
    /// A packet has arrived.
    pub(super) fn note(&mut self, number: u64) {
        if self.arrived.is_empty() || number.saturating_sub(self.begin) >= 2 * MAX_TRACE as u64 {
            // The first one, or a stream that has jumped.
            self.settle(self.arrived.len());
            (self.begin, self.arrived, self.told) = (number, VecDeque::from([true]), 0);
            return;
        }
        self.note_order(number);
        let Some(at) = number.checked_sub(self.begin) else { return };
        let at = at as usize;
        if at >= self.arrived.len() {
            self.arrived.resize(at + 1, false);
        }
        self.arrived[at] = true;
        // As many as a trace can tell of.
        self.forget(self.arrived.len().saturating_sub(MAX_TRACE + UNSETTLED.start()));
    }

    fn note_order(&mut self, number: u64) {
        let next = self.begin + self.arrived.len() as u64;
        let by = next.saturating_sub(number) as usize;
        let (most, since) = self.overtaken;
        let keep = by < most && since < ORDER_MEMORY;
        self.overtaken = if keep { (most, since + 1) } else { (by, 0) };
    }

    /// How many of the last packets may only be late.
    fn unsettled(&self) -> usize {
        (self.overtaken.0 + UNSETTLED.start()).min(*UNSETTLED.end())
    }

    /// What has not been told, but for the last few.
    fn news(&self) -> impl Iterator<Item = bool> {
        let settled = self.arrived.len().saturating_sub(self.unsettled());
        self.arrived.iter().copied().take(settled).skip(self.told)
    }

    /// Whether more was lost since the last trace than its sender would expect by now, so that it should be told at once.
    pub(super) fn has_news(&self) -> bool {
        let (settled, lost) =
            self.news().fold((0, 0), |(settled, lost), arrived| (settled + 1, lost + u32::from(!arrived)));
        settled >= MIN_NEWS && lost > 0 && f64::from(lost) > self.known * (settled as f64 + SLACK) * NEWS
    }

    /// What became of the packets since the last trace, but for the last few, and once more of some before them.
    pub(super) fn trace(&mut self, ssrc: u32) -> Option<LossTrace> {
        let settled = self.news().count();
        self.settle(settled);
        self.forget(self.told.saturating_sub(AGAIN.max(settled)));
        let received = self.arrived.iter().copied().take(self.told).collect();
        (settled > 0).then_some(LossTrace { ssrc, begin: self.begin as u16, received })
    }

    /// Counts the next `packets` as told.
    fn settle(&mut self, packets: usize) {
        for arrived in self.arrived.iter().skip(self.told).take(packets) {
            self.bursts.note(*arrived);
            self.known += (f64::from(u8::from(!arrived)) - self.known) / KNOWN;
        }
        self.told = (self.told + packets).min(self.arrived.len());
    }

    /// Forgets the first `packets`, told or not.
    fn forget(&mut self, packets: usize) {
        self.settle(packets.saturating_sub(self.told));
        self.arrived.drain(..packets);
        self.begin += packets as u64;
        self.told -= packets;
    }

    /// The losses that traces have told of: what only came late is none.
    pub(super) fn bursts(&self) -> LossBursts {
        self.bursts
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Number of the first packet; those after the first 36 have a wrapped sequence number.
    const FIRST: u64 = 0x1_0000 + 65_500;

    /// Notes these packets, numbered from 0.
    fn arrive(trail: &mut Trail, numbers: impl IntoIterator<Item = u64>) {
        numbers.into_iter().for_each(|number| trail.note(FIRST + number));
    }

    /// The next trace's first packet, and which of them did not come.
    fn told(trail: &mut Trail) -> Option<(u16, usize, Vec<usize>)> {
        let trace = trail.trace(7)?;
        let lost = trace.received.iter().enumerate().filter(|(_, received)| !**received).map(|(at, _)| at);
        Some((trace.begin.wrapping_sub(FIRST as u16), trace.received.len(), lost.collect()))
    }

    #[test]
    fn traces_tell_of_every_packet_and_once_more_of_the_last_ones() {
        let mut trail = Trail::default();
        assert_eq!(told(&mut trail), None);
        arrive(&mut trail, (0..50).filter(|n| ![3, 4, 44].contains(n)));
        assert_eq!(told(&mut trail), Some((0, 49, vec![3, 4, 44])), "but for the last one");
        assert_eq!(told(&mut trail), None, "nothing new");
        arrive(&mut trail, 50..70);
        assert_eq!(told(&mut trail), Some((19, 50, vec![25])), "20 new ones, and 30 again");
        // A stream that jumps by more than anybody could repair begins anew.
        arrive(&mut trail, [70 + 3_000]);
        assert_eq!(told(&mut trail), None);
        assert_eq!(trail.arrived.len(), 1);
    }

    #[test]
    fn what_only_came_late_is_given_time_from_then_on() {
        let mut trail = Trail::default();
        arrive(&mut trail, [0, 1, 2, 4, 5, 6, 3, 7]);
        assert_eq!(told(&mut trail), Some((0, 3, vec![])), "one that three others overtook, and one more");
        arrive(&mut trail, (8..20).filter(|n| *n != 17));
        assert_eq!(told(&mut trail), Some((0, 15, vec![])));
        assert!(!trail.has_news(), "17 may still come");
        arrive(&mut trail, 20..690);
        trail.trace(7);
        assert_eq!(trail.unsettled(), 1, "forgotten after 500 in order");
        arrive(&mut trail, (690..700).filter(|n| *n != 698));
        assert!(trail.has_news());
    }

    #[test]
    fn the_first_loss_is_told_at_once_and_more_only_when_there_are_more() {
        let mut trail = Trail::default();
        arrive(&mut trail, 0..30);
        assert!(!trail.has_news());
        let mut reports = Vec::new();
        let mut at = 30;
        for second in 0..20 {
            let mut count = 0;
            for _ in 0..50 {
                // One in ten from now on.
                arrive(&mut trail, (at % 10 != 0).then_some(at));
                at += 1;
                count += u32::from(trail.has_news() && trail.trace(7).is_some());
            }
            reports.push(count);
            assert!(second > 0 || count >= 2, "{reports:?}");
            trail.trace(7);
        }
        assert!(reports.iter().all(|count| *count <= 5), "never more than there are losses: {reports:?}");
        assert!(reports[15..].iter().sum::<u32>() <= 3, "the sender knows by now: {reports:?}");
    }

    #[test]
    fn bursts_are_counted_once_it_is_known_that_nothing_is_late() {
        let mut trail = Trail::default();
        // A single one, a row of three and one of two that the end of a trace cuts through.
        let lost = [7, 20, 21, 22, 48, 49];
        let mut take = |from: u64, to: u64| {
            arrive(&mut trail, (from..to).filter(|n| !lost.contains(n)));
            let before = trail.bursts();
            trail.trace(7);
            (before, trail.bursts())
        };
        let (before, after) = take(0, 48);
        assert_eq!((before.count, after.count, after.lost, after.longest), (0, 2, 4, 3));
        let (_, after) = take(50, 100);
        assert_eq!((after.count, after.lost, after.longest, after.mean()), (3, 6, 3, 2.0));
        assert_eq!(LossBursts::default().mean(), 0.0);
    }

    proptest! {
        #[test]
        fn whatever_comes_a_trail_is_bounded(steps in proptest::collection::vec((-20i64..2_000, any::<bool>()), 1..200)) {
            let (mut trail, mut number) = (Trail::default(), FIRST);
            for (step, tell) in steps {
                number = number.saturating_add_signed(step);
                trail.note(number);
                prop_assert!(trail.arrived.len() <= MAX_TRACE + UNSETTLED.start());
                prop_assert!(trail.told <= trail.arrived.len());
                if tell {
                    prop_assert!(trail.trace(1).is_none_or(|trace| trace.received.len() <= MAX_TRACE));
                    prop_assert!(trail.told <= AGAIN.max(MAX_TRACE));
                }
            }
        }
    }
}
