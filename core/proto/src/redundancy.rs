//! How much of what was said is said again, and how much later: the choice of a sender that knows which of its packets got
//! lost.
//!
//! A copy of a frame that travels in a later packet repairs a loss if that packet arrives. Single losses are repaired best by a
//! copy in the very next packet, a burst only by one that comes when it is over. So the sender looks at what got lost in the
//! last seconds ([`LossTrace`]) and asks of each set of distances how much of it would have been left. Copies cost rate, distance
//! costs delay at the other end, which has to wait for them: [`Redundancy`] weighs the three. While anything is lost, the codec repairs
//! each frame a little by the one after it, too (LBRR, RFC 6716 section 2.1.7), whether that one came itself or as a copy; so a copy is
//! worth most where it does not travel with the frame after its own.

use std::collections::VecDeque;

use crate::rtp::LossTrace;

/// Copies of one frame at most: with two of them voice takes about twice its rate on the wire.
pub const MAX_COPIES: usize = 2;
/// Packets between a frame and its copy at most: what a burst can last, times 20 ms.
pub const MAX_DISTANCE: usize = 10;

/// Packets remembered: ten seconds of 20 ms frames. Shorter forgets rare bursts, longer clings to a bad past.
const WINDOW: usize = 500;
/// Nothing is concluded from fewer losses.
const MIN_LOST: usize = 2;

/// What losing everything costs, in packets of delay: a lost frame in a hundred is as bad as two and a half of them; so does having
/// everything repaired by the codec alone, which leaves a fifth of the harm (PESQ-WB: 0.4 and 0.08 less for one in a hundred). A copy of
/// each frame costs one.
const LOSS: f64 = 250.0;
const REPAIR: f64 = 55.0;
const COPY: f64 = 1.0;
const DELAY: f64 = 1.0;
/// What a change has to gain: more if copies come at another time then, which is heard, since the delay at the other end changes
/// with it.
const GAIN: f64 = 0.5;
const GAIN_OF_DELAY: f64 = 1.5;
/// The first losses are taken for those of as many packets, or an outage at the beginning would weigh ten times what it does later.
const FIRST: usize = 250;

/// Distances of the copies of a frame, in packets, ascending.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Distances {
    of: [u8; MAX_COPIES],
    count: u8,
}

impl Distances {
    /// No copies.
    pub const NONE: Distances = Distances { of: [0; MAX_COPIES], count: 0 };

    fn one(distance: usize) -> Distances {
        Distances { of: [distance as u8, 0], count: 1 }
    }

    fn two(first: usize, second: usize) -> Distances {
        Distances { of: [first as u8, second as u8], count: 2 }
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.of.iter().take(usize::from(self.count)).map(|distance| usize::from(*distance))
    }

    /// The longest, 0 without any.
    fn last(&self) -> usize {
        self.iter().last().unwrap_or(0)
    }

    /// The nearest `count` of them.
    pub fn first(&self, count: usize) -> Distances {
        Distances { of: self.of, count: usize::from(self.count).min(count) as u8 }.canonical()
    }

    /// Without what is left of longer sets, so that equal sets are equal.
    fn canonical(mut self) -> Distances {
        self.of.iter_mut().skip(usize::from(self.count)).for_each(|unused| *unused = 0);
        self
    }

    /// All sets of up to [`MAX_COPIES`] distances up to [`MAX_DISTANCE`].
    fn all() -> impl Iterator<Item = Distances> {
        let singles = (1..=MAX_DISTANCE).map(Distances::one);
        let pairs = (1..MAX_DISTANCE)
            .flat_map(|first| (first + 1..=MAX_DISTANCE).map(move |second| Distances::two(first, second)));
        std::iter::once(Distances::NONE).chain(singles).chain(pairs)
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Redundancy {
    received: VecDeque<bool>,
    distances: Distances,
    lossy: bool,
}

impl Redundancy {
    /// Takes what the other end says about packets that follow those of the last trace.
    pub fn take(&mut self, trace: &LossTrace) {
        self.received.extend(&trace.received);
        let excess = self.received.len().saturating_sub(WINDOW);
        self.received.drain(..excess);
        self.choose();
    }

    /// Where copies are to be sent from now on.
    pub fn distances(&self) -> Distances {
        self.distances
    }

    /// Whether so much gets lost that the codec should repair it, too.
    pub fn lossy(&self) -> bool {
        self.lossy
    }

    fn choose(&mut self) {
        let received: &[bool] = self.received.make_contiguous();
        // Of the last ones it is not known yet what became of their copies.
        let known = received.len().saturating_sub(MAX_DISTANCE + 1);
        let lost: Vec<usize> = (0..known).filter(|at| !received[*at]).collect();
        self.lossy = lost.len() >= MIN_LOST;
        let cost = |set: &Distances| cost(received, &lost, known.max(FIRST), set);
        let best = match self.lossy {
            true => Distances::all().min_by(|a, b| cost(a).total_cmp(&cost(b))).unwrap_or_default(),
            false => Distances::NONE,
        };
        let later = best.count >= self.distances.count && best.last() != self.distances.last();
        if cost(&best) + if later { GAIN_OF_DELAY } else { GAIN } < cost(&self.distances) {
            self.distances = best;
        }
    }
}

/// What these copies would have cost among so many packets, of which those at `lost` did not come.
fn cost(received: &[bool], lost: &[usize], of: usize, set: &Distances) -> f64 {
    // The other end does not wait longer than for the last copy, or the next packet.
    let waits = set.last().max(1);
    let came = |at: usize, by: usize| {
        received[at] || set.iter().any(|distance| at + distance <= by && received[at + distance])
    };
    let (mut left, mut repaired) = (0.0, 0.0);
    for at in lost.iter().filter(|at| !came(**at, **at + waits)) {
        match came(at + 1, at + waits) {
            true => repaired += 1.0,
            false => left += 1.0,
        }
    }
    let harm = (left * LOSS + repaired * REPAIR) / of as f64;
    harm + f64::from(set.count) * COPY + waits as f64 * DELAY
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(lost: impl FnMut(usize) -> bool) -> Redundancy {
        let mut redundancy = Redundancy::default();
        let mut lost = lost;
        for second in 0..10 {
            let received = (0..50).map(|n| !lost(second * 50 + n)).collect();
            redundancy.take(&LossTrace { ssrc: 1, begin: second as u16 * 50, received });
        }
        redundancy
    }

    /// A generator that gives the same losses everywhere.
    fn random(percent: u32) -> impl FnMut(usize) -> bool {
        let mut seed = 12_345u32;
        move |_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 16) * 100 < percent * 65_536
        }
    }

    #[test]
    fn what_is_not_lost_is_not_said_twice() {
        assert_eq!(after(|_| false).distances(), Distances::NONE);
        assert_eq!(after(|n| n == 77).distances(), Distances::NONE, "one in ten seconds");
        assert_eq!(Redundancy::default().distances(), Distances::NONE);
    }

    #[test]
    fn few_single_losses_are_repaired_by_the_next_packet_and_more_by_later_ones() {
        let few = after(random(5)).distances();
        assert!(few.iter().count() == 1 && few.last() <= 2, "{few:?}");
        assert_eq!(after(random(10)).distances(), Distances::one(2), "the codec repairs from the next one");
        for percent in [20, 30] {
            let redundancy = after(random(percent));
            assert_eq!(redundancy.distances().iter().count(), 2, "{percent} %");
            assert!((2..=3).contains(&redundancy.distances().last()), "{percent} %");
            assert!(redundancy.lossy());
        }
    }

    #[test]
    fn an_outage_at_the_beginning_weighs_no_more_than_later() {
        let mut redundancy = Redundancy::default();
        let received = (0..40).map(|n| !(20..30).contains(&n)).collect();
        redundancy.take(&LossTrace { ssrc: 1, begin: 0, received });
        assert_eq!(redundancy.distances(), Distances::NONE);
        let mut redundancy = Redundancy::default();
        redundancy.take(&LossTrace { ssrc: 1, begin: 0, received: vec![false; 500] });
        assert_eq!(redundancy.distances(), Distances::NONE, "copies are lost as well");
    }

    #[test]
    fn bursts_are_repaired_when_they_are_over() {
        // Five in a row of every fifty.
        let redundancy = after(|n| n % 50 >= 20 && n % 50 < 25);
        assert_eq!(redundancy.distances(), Distances::one(5));
    }

    #[test]
    fn the_past_is_forgotten() {
        let mut redundancy = after(random(20));
        assert_ne!(redundancy.distances(), Distances::NONE);
        for _ in 0..11 {
            redundancy.take(&LossTrace { ssrc: 1, begin: 0, received: vec![true; 50] });
        }
        assert_eq!(redundancy.distances(), Distances::NONE);
        assert!(!redundancy.lossy());
        assert_eq!(redundancy.received.len(), WINDOW);
    }
}
