//! The sender's half: one place that decides how many bits a frame gets, how many copies of it are sent, how many frames travel in
//! a packet, and how much work the codec does.

use super::{FRAMES, rate_of};
use crate::redundancy::{Distances, Redundancy};
use crate::rtp::LossTrace;

/// Bits per second of the codec where there is room: full-band speech without audible loss (RFC 6716 section 2.1.1). PESQ-WB of the
/// benchmarks' speech is 4.41 as it is at 32,000, and 4.39 at 30,500.
pub const MAX_BITRATE: u32 = 31_000;
/// What is not gone below: narrow-band speech that is well understood.
pub const MIN_BITRATE: u32 = 8_000;

/// A copy is only worth having if each frame still gets this, bits per second: wide-band speech.
const MIN_WITH_COPIES: u32 = 14_000;
/// Where a frame in a packet of its own would get less than this, bits per second, two travel together: headers then take half as much.
/// That takes 20 ms, which on such a link is less than what its queue would.
const PAIRED_BELOW: u32 = 18_000;
/// Where it would get so much again, each has its own. At that limit there is room for all that pairs can use, or a link that carries just that
/// would be tried with single frames again and again.
const SINGLE_FROM: u32 = 26_000;
/// How hard the codec tries where the machine can, Opus' scale of 0 to 10: more is not heard.
pub const MAX_COMPLEXITY: u8 = 9;
/// What it is given instead on slow machines, step by step. Of a minute, 9 takes 0.74 s of the benchmarks' processor, 5 about 0.6, and 0
/// 0.3.
const COMPLEXITIES: [u8; 4] = [MAX_COMPLEXITY, 5, 3, 0];
/// The share of a processor that voice takes at most, and below which it may take more again, if that has lasted for so many seconds.
const BUSY: f32 = 0.25;
const IDLE: f32 = 0.08;
const IDLE_FOR: u32 = 10;
/// By how much the codec exceeds what it was told while somebody speaks: it makes that up in pauses, of which a narrow link has nothing.
const PEAK: f64 = 1.1;
/// Steps in which the codec is told, so that it is not told at every report.
const STEP: u32 = 500;

/// Packets that are judged together at least: those of nearly a second.
const MIN_PACKETS: usize = 40;
/// How many times so many packets more copies are tried before they are judged.
const TRIAL: usize = 5;
/// Copies make it worse if so much more is lost with them, as a share of all packets.
const WORSE: f32 = 0.15;
/// For how many packets a rate that was found is kept before more is tried, those of a minute; for twice as many after each failure, up to
/// the second, those of ten.
const KEPT: u32 = 60 * FRAMES;
const KEPT_LONGEST: u32 = 600 * FRAMES;
/// The share of what got through that is sent while it is.
const SHARE: f64 = 0.95;

/// What to do with each frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Bits per second of the codec.
    pub bitrate: u32,
    /// Where its copies travel.
    pub distances: Distances,
    /// How many frames of 20 ms travel in a packet: 1 or 2.
    pub frames: u32,
    /// How hard the codec tries, 0 to 10 (Opus' complexity).
    pub complexity: u8,
}

impl Default for Plan {
    /// That of a line of which nothing is known.
    fn default() -> Plan {
        Plan { bitrate: MAX_BITRATE, distances: Distances::NONE, frames: 1, complexity: MAX_COMPLEXITY }
    }
}

impl Plan {
    fn copies(&self) -> usize {
        self.distances.iter().count()
    }

    /// The rate on the wire, bits per second of whole packets.
    fn rate(&self) -> f64 {
        let copies = self.copies();
        let frame = f64::from(self.bitrate) / 8.0 / f64::from(FRAMES) * f64::from(self.frames);
        rate_of(self.frames, frame * (1 + copies) as f64 + headers(self.frames, copies) as f64)
    }
}

/// Bytes that tell the frames of a packet apart, of which so many are new and each has so many copies in later ones (RFC 2198
/// section 3).
fn headers(frames: u32, copies: usize) -> usize {
    match frames as usize * (1 + copies) {
        1 => 0,
        all => 1 + 4 * (all - 1),
    }
}

/// More copies than before are being tried.
#[derive(Debug, Clone)]
struct Trial {
    /// Share that was lost before, at most.
    before: f32,
    /// Shares that were lost since, by report.
    lost: Vec<f32>,
}

/// What got lost while so many copies were sent.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    lost: f32,
    packets: f32,
}

impl Tally {
    /// Adds a report's; what is older than ten seconds or so counts less and less.
    fn add(&mut self, lost: usize, packets: usize) {
        const KEPT: f32 = 0.9;
        self.lost = self.lost * KEPT + lost as f32;
        self.packets = self.packets * KEPT + packets as f32;
    }

    /// What the share is at most, but for bad luck: a standard deviation more.
    fn at_most(&self) -> f32 {
        (self.lost + (self.lost + 1.0).sqrt()) / self.packets.max(1.0)
    }
}

/// What the other end tells, and what follows. See the module's documentation.
#[derive(Debug, Default)]
pub struct Steering {
    redundancy: Redundancy,
    /// What the other end has asked for, bits per second of whole packets.
    told: Option<u32>,
    /// What was found not to get through, and for how many more packets that is believed.
    found: Option<(f64, u32)>,
    tally: Tally,
    /// Packets that were lost, and in all, of which neither the tally nor a trial knows yet.
    untallied: (usize, usize),
    trial: Option<Trial>,
    plan: Plan,
    /// Rates that were found so far.
    failures: u32,
    /// Which of the complexities is used, and for how many seconds the machine could have done more.
    slower: usize,
    idle: u32,
}

impl Steering {
    /// Takes a report: what became of the last second's packets, and what the other end says may be sent.
    pub fn take(&mut self, trace: Option<&LossTrace>, limit: Option<u32>) {
        self.told = limit;
        if let Some(trace) = trace {
            self.count(trace);
            self.redundancy.take(trace);
        }
        let before = self.plan.copies();
        self.plan = self.choose();
        let copies = self.plan.copies();
        if copies != before {
            // A trial that goes on with more is about both. Where it is about copies, they do not help against what has just begun.
            let lost = self.trial.as_ref().map_or_else(|| self.lost_before(), |trial| trial.before);
            self.trial = (copies > before).then(|| Trial { before: lost, lost: Vec::new() });
            self.tally = Tally::default();
        }
    }

    /// Packets from the other end were lost ([`Redundancy::suspect`]). What is lost here from now on, those copies are not the cause of.
    pub fn suspect(&mut self) {
        self.redundancy.suspect();
        self.plan = self.choose();
    }

    /// Adds what a trace tells. Those that are sent in between tell of few packets, and are taken together.
    fn count(&mut self, trace: &LossTrace) {
        let lost = trace.received.iter().filter(|received| !**received).count();
        self.untallied = (self.untallied.0 + lost, self.untallied.1 + trace.received.len());
        let (lost, packets) = self.untallied;
        if packets >= MIN_PACKETS {
            self.untallied = (0, 0);
            self.tally.add(lost, packets);
            self.judge(lost as f32 / packets as f32);
            let packets = u32::try_from(packets).unwrap_or(u32::MAX);
            self.found = self.found.and_then(|(rate, left)| Some((rate, left.checked_sub(packets)?)));
        }
    }

    /// The share that gets lost at most, in the long run or lately.
    fn lost_before(&self) -> f32 {
        let (lost, packets) = self.redundancy.lost_lately();
        let lately = Tally { lost: lost as f32, packets: packets as f32 };
        self.tally.at_most().max(lately.at_most())
    }

    /// What to do with the next frames.
    pub fn plan(&self) -> Plan {
        self.plan
    }

    /// Takes the share of a processor that the last second of voice took, 0 to 1 and more.
    pub fn take_load(&mut self, share: f32) {
        self.idle = if share < IDLE { self.idle + 1 } else { 0 };
        if share > BUSY {
            self.slower = (self.slower + 1).min(COMPLEXITIES.len() - 1);
        } else if self.idle >= IDLE_FOR {
            (self.slower, self.idle) = (self.slower.saturating_sub(1), 0);
        }
        self.plan.complexity = self.complexity();
    }

    fn complexity(&self) -> u8 {
        COMPLEXITIES.get(self.slower).copied().unwrap_or(MAX_COMPLEXITY)
    }

    fn choose(&self) -> Plan {
        let wanted = self.redundancy.distances();
        let plan = Plan { distances: wanted, complexity: self.complexity(), ..Plan::default() };
        let found = self.found.map(|(rate, _)| rate);
        let Some(limit) = self.told.map(f64::from).into_iter().chain(found).reduce(f64::min) else {
            return plan;
        };
        // Bits per second for each of a frame and its copies, when there are so many.
        let each = |frames: u32, copies: usize| {
            let room = limit - rate_of(frames, headers(frames, copies) as f64);
            (room / (1 + copies) as f64 / PEAK).clamp(0.0, f64::from(MAX_BITRATE)) as u32
        };
        let paired = each(1, 0) < if self.plan.frames == 1 { PAIRED_BELOW } else { SINGLE_FROM };
        // A pair has one copy at most.
        let (frames, most) = if paired { (2, 1) } else { (1, wanted.iter().count()) };
        let enough = |copies: &usize| each(frames, *copies) >= MIN_WITH_COPIES;
        let kept = (1..=most.min(wanted.iter().count())).rev().find(enough).unwrap_or(0);
        let bitrate = each(frames, kept).clamp(MIN_BITRATE, MAX_BITRATE);
        Plan { bitrate: bitrate / STEP * STEP, distances: wanted.first(kept), frames, ..plan }
    }

    /// Whether the codec should repair losses, too.
    pub fn lossy(&self) -> bool {
        self.redundancy.lossy()
    }

    /// Whether what has been sent more was lost because it was sent: a link that throws away what is too much, without a queue
    /// that would show it.
    fn judge(&mut self, lost: f32) {
        let Some(trial) = &mut self.trial else { return };
        trial.lost.push(lost);
        if trial.lost.len() < TRIAL {
            return;
        }
        // The one in the middle too, since an outage has nothing to do with it.
        trial.lost.sort_by(f32::total_cmp);
        let mean = trial.lost.iter().sum::<f32>() / TRIAL as f32;
        let (lost, worse) = (mean.min(trial.lost[TRIAL / 2]), trial.before + WORSE);
        self.trial = None;
        if lost > worse {
            let sent = self.plan.rate();
            let kept = (KEPT << self.failures.min(8)).min(KEPT_LONGEST);
            self.failures += 1;
            self.found = Some((sent * f64::from(1.0 - lost) * SHARE, kept));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(begin: u16, received: Vec<bool>) -> LossTrace {
        LossTrace { ssrc: 1, begin, received }
    }

    /// A generator of numbers between 0 and 1, the same in every run.
    struct Chance(u32);

    impl Chance {
        fn next(&mut self) -> f32 {
            self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (self.0 >> 8) as f32 / 16_777_216.0
        }
    }

    /// Reports of these seconds, in which as much is lost as `loss` says of the rate that is sent.
    fn run(steering: &mut Steering, chance: &mut Chance, seconds: u16, loss: impl Fn(f64) -> f32) {
        for second in 0..seconds {
            let loss = loss(steering.plan().rate());
            let received = (0..50).map(|_| chance.next() >= loss).collect();
            steering.take(Some(&trace(second * 50, received)), None);
        }
    }

    #[test]
    fn a_clean_line_has_all_bits_and_no_copies() {
        let mut steering = Steering::default();
        let all = Plan { bitrate: MAX_BITRATE, distances: Distances::NONE, frames: 1, complexity: 9 };
        assert_eq!(steering.plan(), all);
        run(&mut steering, &mut Chance(7), 20, |_| 0.0);
        assert_eq!(steering.plan(), all);
        assert!(!steering.lossy(), "{steering:?}");
    }

    #[test]
    fn a_limit_is_kept_by_fewer_bits_and_then_by_fewer_copies() {
        let mut steering = Steering::default();
        run(&mut steering, &mut Chance(7), 20, |_| 0.2);
        assert_eq!(steering.plan().distances.iter().count(), 2);
        let mut copies = Vec::new();
        for limit in [150_000, 100_000, 80_000, 70_000, 60_000, 48_000, 40_000] {
            steering.take(None, Some(limit));
            let plan = steering.plan();
            assert!(plan.rate() <= f64::from(limit), "{limit}: {plan:?}");
            assert!((MIN_BITRATE..=MAX_BITRATE).contains(&plan.bitrate), "{limit}: {plan:?}");
            copies.push(plan.distances.iter().count());
        }
        assert_eq!(copies, [2, 2, 2, 1, 1, 0, 0]);
        steering.take(None, Some(0));
        let least = Plan { bitrate: MIN_BITRATE, distances: Distances::NONE, frames: 2, complexity: 9 };
        assert_eq!(steering.plan(), least);
        steering.take(None, None);
        assert_eq!(steering.plan().bitrate, MAX_BITRATE);
    }

    #[test]
    fn loss_that_has_nothing_to_do_with_the_rate_is_answered_by_copies_for_good() {
        for loss in [0.05, 0.1, 0.2, 0.3] {
            let mut steering = Steering::default();
            let (mut least, mut chance) = (usize::MAX, Chance(7));
            for _ in 0..12 {
                run(&mut steering, &mut chance, 20, |_| loss);
                least = least.min(steering.plan().distances.iter().count());
                assert_eq!(steering.plan().bitrate, MAX_BITRATE, "{loss}");
            }
            assert!(least >= 1, "{loss}: {least}");
        }
    }

    #[test]
    fn loss_that_begins_together_with_the_copies_is_not_taken_for_their_doing() {
        for percent in [0.1, 0.2, 0.3] {
            let (mut steering, mut chance) = (Steering::default(), Chance(7));
            run(&mut steering, &mut chance, 5, |_| 0.0);
            // Told of as soon as it is known, a few packets at a time.
            for begin in (250..1_000).step_by(5) {
                let received = (0..5).map(|_| chance.next() >= percent).collect();
                steering.take(Some(&trace(begin, received)), None);
            }
            assert_eq!(steering.plan().bitrate, MAX_BITRATE, "{percent}");
            assert!(steering.plan().copies() > 0, "{percent}");
        }
    }

    #[test]
    fn loss_that_comes_of_the_rate_is_answered_by_less() {
        // A link that throws away whatever is more than 50 kbit/s.
        let mut steering = Steering::default();
        let policer = |rate: f64| (1.0 - 50_000.0 / rate).max(0.0) as f32;
        let (mut lossy, mut chance) = (0, Chance(7));
        for _ in 0..150 {
            lossy += u32::from(policer(steering.plan().rate()) > 0.05);
            run(&mut steering, &mut chance, 1, policer);
        }
        assert!(lossy < 30, "{lossy} of 150 seconds");
        run(&mut steering, &mut chance, 700, |_| 0.0);
        assert_eq!(steering.plan().bitrate, MAX_BITRATE, "it is tried again");
    }

    #[test]
    fn without_traces_nothing_is_concluded() {
        let mut steering = Steering::default();
        for _ in 0..20 {
            steering.take(None, None);
            steering.take(Some(&trace(0, Vec::new())), None);
        }
        assert_eq!(steering.plan(), Plan::default());
    }

    #[test]
    fn on_a_narrow_link_two_frames_share_a_packet_and_each_has_more() {
        let mut steering = Steering::default();
        let mut plan = |limit: u32| {
            steering.take(None, Some(limit));
            let plan = steering.plan();
            assert!(plan.bitrate == MIN_BITRATE || plan.rate() <= f64::from(limit), "{limit}: {plan:?}");
            (plan.frames, plan.bitrate)
        };
        assert_eq!(plan(48_000), (1, 22_500));
        // 23,200 bits are headers of single packets, 12,600 those of pairs.
        assert_eq!(plan(40_000), (2, 24_500));
        assert_eq!(plan(44_000), (2, 28_500), "not to and fro");
        assert_eq!(plan(50_000), (2, MAX_BITRATE));
        assert_eq!(plan(53_000), (1, 27_000));
        assert_eq!(plan(20_000), (2, MIN_BITRATE));
    }

    #[test]
    fn a_slow_machine_does_less_until_it_is_idle_for_long() {
        let mut steering = Steering::default();
        let mut after = |seconds: u32, share: f32| {
            (0..seconds).for_each(|_| steering.take_load(share));
            steering.take(None, None);
            steering.plan().complexity
        };
        assert_eq!(after(20, 0.1), 9);
        assert_eq!(after(1, 0.5), 5);
        assert_eq!(after(1, 0.3), 3);
        assert_eq!(after(9, 0.9), 0);
        assert_eq!(after(60, 0.15), 0);
        assert_eq!(after(9, 0.05), 0);
        assert_eq!(after(1, 0.05), 3);
        assert_eq!(after(60, 0.05), 9);
    }
}
