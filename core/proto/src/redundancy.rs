//! How much of what was said is said again, and how much later: the choice of a sender that knows which of its packets got
//! lost.
//!
//! A copy of a frame that travels in a later packet repairs a loss if that packet arrives. Single losses are repaired best by a
//! copy in the very next packet, a burst only by one that comes when it is over. So the sender looks at what got lost in the
//! last seconds ([`LossTrace`]) and asks of each set of distances how much of it would have been left. Copies cost rate, distance
//! costs delay at the other end, which has to wait for them: [`Redundancy`] weighs the three. While anything is lost, the codec repairs
//! each frame a little by the one after it, too (LBRR, RFC 6716 section 2.1.7), whether that one came itself or as a copy; so a copy is
//! worth most where it does not travel with the frame after its own.
//!
//! What begins is answered at once: each frame that is lost before is heard, and copies for nothing cost little. The way there is mostly
//! like the way back, so that what gets lost on its way here is [a reason](Redundancy::suspect), too: who has listened until now speaks
//! with copies from the first word.

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

/// What it costs to lose everything, to have everything repaired by the codec alone, which leaves a fifth of the harm (PESQ-WB: 0.4 and
/// 0.08 less for one in a hundred), a copy of each frame, and each packet of delay.
const LOSS: f64 = 250.0;
const REPAIR: f64 = 55.0;
const COPY: f64 = 1.0;
const DELAY: f64 = 0.65;
/// What a change has to gain: more if copies come at another time then, which is heard, since the delay at the other end changes
/// with it.
const GAIN: f64 = 0.5;
const GAIN_OF_DELAY: f64 = 1.5;
/// Losses are judged by the worst of the last half second to ten seconds: what begins is answered at once, and what was is forgotten
/// by and by.
const SPANS: [usize; 5] = [25, 50, 100, 250, WINDOW];
/// A single loss is answered for so many packets.
const RECENT: usize = 100;
/// A single row of more losses than this is taken for what happens once in so many packets at most: it may be an outage that does not
/// come again.
const OUTAGE: usize = 5;
const ONE_OUTAGE: usize = 250;
/// So many packets are sent as if this share of them got lost, after some were lost on the way back.
const SUSPECTED: usize = 50;
const SUSPECTED_SHARE: f64 = 0.1;
/// After a suspicion that was unfounded there is none for so many packets, those of ten seconds; for twice as many after each more, up to
/// so many times.
const TRUSTED: usize = 500;
const MAX_DOUBLINGS: u32 = 5;
/// What "lately" means, in packets.
const LATELY: usize = 20;
/// Which copies would have helped is told by the losses there were, and so many more that nothing has to do with each other: a few
/// losses show a pattern that there is not.
const BY_CHANCE: f64 = 15.0;

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

    /// How many packets later the other end goes on at the latest: with the last copy, or with the next packet, from which the codec may
    /// repair.
    fn waits(&self) -> usize {
        self.last().max(1)
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
    suspicion: Suspicion,
}

/// What is thought of the way there because of the way back.
#[derive(Debug, Default)]
struct Suspicion {
    /// Packets that are still sent with it.
    left: usize,
    /// Packets until there may be another one.
    trusted: usize,
    /// How many in a row were unfounded.
    unfounded: u32,
}

impl Suspicion {
    fn begin(&mut self) {
        if self.trusted == 0 {
            self.left = SUSPECTED;
        }
    }

    /// Takes what the other end says about so many packets.
    fn told(&mut self, packets: usize, lost: bool) {
        if lost {
            *self = Suspicion { left: self.left, ..Suspicion::default() };
        }
        self.trusted = self.trusted.saturating_sub(packets);
        let ends = self.left > 0 && self.left <= packets;
        self.left = self.left.saturating_sub(packets);
        if ends && !lost {
            self.trusted = TRUSTED << self.unfounded.min(MAX_DOUBLINGS);
            self.unfounded = self.unfounded.saturating_add(1);
        }
    }
}

impl Redundancy {
    /// Takes what the other end says about packets that follow those of the last trace.
    pub fn take(&mut self, trace: &LossTrace) {
        self.received.extend(&trace.received);
        let excess = self.received.len().saturating_sub(WINDOW);
        self.received.drain(..excess);
        self.suspicion.told(trace.received.len(), trace.received.contains(&false));
        self.choose();
    }

    /// Packets from the other end were lost. For a second's packets that is taken for a sign that ours will be, too; much more rarely
    /// where it has turned out to be none.
    pub fn suspect(&mut self) {
        self.suspicion.begin();
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

    /// How many of the last packets were lost, of so many.
    pub(crate) fn lost_lately(&self) -> (usize, usize) {
        let lately = self.received.iter().rev().take(LATELY);
        (lately.clone().filter(|received| !**received).count(), LATELY)
    }

    fn choose(&mut self) {
        let suspected = self.suspicion.left > 0;
        let mut past = Past::new(self.received.make_contiguous());
        if suspected {
            past.share = past.share.max(SUSPECTED_SHARE);
        }
        self.lossy = suspected || past.is_lossy();
        let judged = |set| (past.cost(&set), set);
        let (cost, best) = match self.lossy {
            true => Distances::all().map(judged).min_by(|(a, _), (b, _)| a.total_cmp(b)),
            false => None,
        }
        .unwrap_or_else(|| judged(Distances::NONE));
        let later = best.count >= self.distances.count && best.last() != self.distances.last();
        if cost + if later { GAIN_OF_DELAY } else { GAIN } < past.cost(&self.distances) {
            self.distances = best;
        }
    }
}

/// What became of the last packets.
struct Past<'a> {
    received: &'a [bool],
    lost: Vec<usize>,
    /// The share of packets that gets lost, as far as can be told.
    share: f64,
}

impl<'a> Past<'a> {
    fn new(received: &'a [bool]) -> Past<'a> {
        let lost: Vec<usize> = (0..received.len()).filter(|at| !received[*at]).collect();
        let share = SPANS.map(|span| {
            let begin = received.len().saturating_sub(span);
            let lost = lost.iter().filter(|at| **at >= begin);
            let rows = lost.clone().filter(|at| **at == begin || received[**at - 1]).count();
            let count = lost.count();
            let once = if rows == 1 && count > OUTAGE { ONE_OUTAGE } else { 0 };
            count as f64 / span.min(received.len().max(SPANS[0])).max(once) as f64
        });
        Past { received, lost, share: share.into_iter().fold(0.0, f64::max) }
    }

    /// Whether anything was lost a moment ago, or more than once in all of it.
    fn is_lossy(&self) -> bool {
        let recent = self.received.len().saturating_sub(RECENT);
        self.lost.len() >= MIN_LOST || self.lost.last().is_some_and(|at| *at >= recent)
    }

    /// How likely packet `at` has not come, or will not.
    fn missing(&self, at: usize) -> f64 {
        self.received.get(at).map_or(self.share, |received| f64::from(u8::from(!received)))
    }

    /// What these copies would cost if it goes on like that.
    fn cost(&self, set: &Distances) -> f64 {
        let seen: f64 = self.lost.iter().map(|at| harm(set, |by| self.missing(at + by))).sum();
        let by_chance = harm(set, |_| self.share);
        let each = (seen + by_chance * BY_CHANCE) / (self.lost.len() as f64 + BY_CHANCE);
        each * self.share + f64::from(set.count) * COPY + set.waits() as f64 * DELAY
    }
}

/// What it costs that a packet is lost, when the one so many later is missing with probability `missing`.
fn harm(set: &Distances, missing: impl Fn(usize) -> f64) -> f64 {
    let missed: f64 = set.iter().map(&missing).product();
    // Those that bring the frame after it by the time that this one is needed; where the copies were, nothing came.
    let following = std::iter::once(1).chain(set.iter().map(|distance| distance + 1));
    let bringing = following.filter(|at| *at <= set.waits() && !set.iter().any(|distance| distance == *at));
    let repaired = missed * (1.0 - bringing.map(&missing).product::<f64>());
    (missed - repaired) * LOSS + repaired * REPAIR
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

    /// What is sent so many packets after clean seconds, of which every `every`th is lost.
    fn soon(packets: usize, every: usize) -> Redundancy {
        let mut redundancy = after(|_| false);
        for begin in (0..packets).step_by(5) {
            let received = (begin..begin + 5).map(|n| n % every != 0).collect();
            redundancy.take(&LossTrace { ssrc: 1, begin: begin as u16, received });
        }
        redundancy
    }

    #[test]
    fn what_begins_is_answered_within_half_a_second() {
        assert!(soon(5, 100).lossy(), "the codec repairs after the first loss");
        assert_eq!(soon(5, 100).distances(), Distances::NONE);
        assert_eq!(soon(25, 10).distances().iter().count(), 1, "{:?}", soon(25, 10).distances());
        assert_eq!(soon(25, 3).distances().iter().count(), 2, "{:?}", soon(25, 3).distances());
    }

    /// Takes so many packets that all have come.
    fn clean(redundancy: &mut Redundancy, packets: usize) {
        redundancy.take(&LossTrace { ssrc: 1, begin: 0, received: vec![true; packets] });
    }

    #[test]
    fn what_is_lost_on_the_way_back_is_expected_on_the_way_there_for_a_while() {
        let mut redundancy = after(|_| false);
        redundancy.suspect();
        assert!(redundancy.lossy());
        assert_eq!(redundancy.distances().iter().count(), 1);
        clean(&mut redundancy, SUSPECTED - 1);
        assert!(redundancy.lossy());
        clean(&mut redundancy, 1);
        assert!(!redundancy.lossy());
        assert_eq!(redundancy.distances(), Distances::NONE);
    }

    #[test]
    fn where_only_the_way_back_is_bad_suspicions_become_rare() {
        let mut redundancy = after(|_| false);
        let mut suspected = 0;
        // Ten minutes, in each second of which something is lost on the way back.
        for _ in 0..600 {
            redundancy.suspect();
            suspected += usize::from(redundancy.lossy());
            clean(&mut redundancy, 50);
        }
        assert!((4..=8).contains(&suspected), "{suspected} of 600");
        // A loss makes all of them founded.
        redundancy.take(&LossTrace { ssrc: 1, begin: 0, received: vec![false] });
        clean(&mut redundancy, WINDOW);
        assert!(!redundancy.lossy());
        redundancy.suspect();
        assert!(redundancy.lossy());
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
