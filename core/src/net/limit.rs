//! Token buckets, so that nobody gets more than a share.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// A bucket holds ten seconds' worth of its rate.
const BURST_SECONDS: u32 = 10;

/// Buckets kept at a time. Beyond it full buckets are thrown away (they lose nothing); if none is full, all
/// unknown keys share one bucket.
const MAX_BUCKETS: usize = 16_384;

/// One token bucket per key.
pub(crate) struct Limiter<K> {
    rate: f64,
    burst: f64,
    buckets: HashMap<K, Bucket>,
    overflow: Bucket,
    swept: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Option<Instant>,
}

impl Bucket {
    fn take(&mut self, rate: f64, burst: f64, now: Instant) -> bool {
        let passed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.tokens = (self.tokens + passed.as_secs_f64() * rate).min(burst);
        self.at = Some(now);
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

impl<K: Eq + Hash> Limiter<K> {
    /// Permits `per_second` events per second and key in the long run.
    pub(crate) fn new(per_second: u32) -> Self {
        Self::with(f64::from(per_second), f64::from(per_second * BURST_SECONDS))
    }

    /// Permits `burst` events at once for each key, and then one in each `pause`.
    pub(crate) fn every(pause: Duration, burst: u32) -> Self {
        Self::with(pause.as_secs_f64().recip(), f64::from(burst))
    }

    fn with(rate: f64, burst: f64) -> Self {
        Self {
            rate,
            burst,
            buckets: HashMap::new(),
            overflow: Bucket { tokens: burst, at: None },
            swept: None,
        }
    }

    /// Whether `key` may do one more thing now.
    pub(crate) fn permit(&mut self, key: K, now: Instant) -> bool {
        self.permit_at(key, self.rate, self.burst, now)
    }

    /// The same at a rate and with a burst of its own.
    fn permit_at(&mut self, key: K, rate: f64, burst: f64, now: Instant) -> bool {
        if let Some(bucket) = self.buckets.get_mut(&key) {
            return bucket.take(rate, burst, now);
        }
        if self.buckets.len() >= MAX_BUCKETS {
            self.sweep(now);
        }
        if self.buckets.len() >= MAX_BUCKETS {
            return self.overflow.take(rate, burst, now);
        }
        let bucket = self.buckets.entry(key).or_insert(Bucket { tokens: burst, at: None });
        bucket.take(rate, burst, now)
    }

    /// Throws away buckets that would be full again; at most once a second, because it looks at all of them.
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|at| now.saturating_duration_since(at) < Duration::from_secs(1)) {
            return;
        }
        self.swept = Some(now);
        let (rate, burst) = (self.rate, self.burst);
        self.buckets.retain(|_, bucket| {
            let passed = bucket.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
            bucket.tokens + passed.as_secs_f64() * rate < burst
        });
        self.buckets.shrink_to(MAX_BUCKETS / 4);
    }
}

/// What the members that stay modest may do together is at most this part of what is kept for them: the rest is for those
/// that come new.
const MODEST: f64 = 0.5;

/// However few there are, one that does more than one part in so many of what a member may is not modest.
const GREEDY: f64 = 6.0;

/// Members of a group are counted for so long.
const COUNTED: Duration = Duration::from_secs(5);

/// Members counted at most; more than these are no worse than these.
const MAX_COUNTED: usize = 1_024;

/// A modest member may do this much at once, however many there are: the first packets of a call.
const FIRST: f64 = 4.0;

/// Token buckets for members and for the groups that they belong to, such as the nodes of one network: no member gets
/// more than its share, no group more than its own, and those of a group that want little get it even though others
/// want all of it. Half of what the group may do is for the modest alone; how much modest is depends on how many
/// there are.
pub(super) struct Fair<G, M> {
    members: Limiter<M>,
    modest: Limiter<M>,
    groups: Limiter<G>,
    for_modest: Limiter<G>,
    crowds: HashMap<G, Crowd<M>>,
}

/// Who of a group has been active lately.
struct Crowd<M> {
    since: Instant,
    now: HashSet<M>,
    before: usize,
}

impl<M: Eq + Hash> Crowd<M> {
    /// How many there are, with this one.
    fn count(&mut self, member: M, now: Instant) -> usize {
        if now.saturating_duration_since(self.since) >= COUNTED {
            self.before = self.now.len();
            self.now.clear();
            self.since = now;
        }
        if self.now.len() < MAX_COUNTED {
            self.now.insert(member);
        }
        self.now.len().max(self.before)
    }
}

impl<G: Copy + Eq + Hash, M: Copy + Eq + Hash> Fair<G, M> {
    /// So many events per second for each member and each group.
    pub(super) fn new(per_member: u32, per_group: u32) -> Self {
        Self {
            members: Limiter::new(per_member),
            modest: Limiter::new(per_member),
            groups: Limiter::new(per_group.div_ceil(2)),
            for_modest: Limiter::new(per_group / 2),
            crowds: HashMap::new(),
        }
    }

    /// Whether a member may do one more thing now.
    pub(super) fn permit(&mut self, group: G, member: M, now: Instant) -> bool {
        let crowd = self.crowd(group, member, now);
        let rate = (self.for_modest.rate * MODEST / crowd).min(self.members.rate / GREEDY);
        let burst = (rate * f64::from(BURST_SECONDS)).max(FIRST);
        let modest = self.modest.permit_at(member, rate, burst, now) && self.for_modest.permit(group, now);
        self.members.permit(member, now) && (modest || self.groups.permit(group, now))
    }

    fn crowd(&mut self, group: G, member: M, now: Instant) -> f64 {
        if self.crowds.len() >= MAX_BUCKETS && !self.crowds.contains_key(&group) {
            self.crowds.retain(|_, crowd| now.saturating_duration_since(crowd.since) < COUNTED * 2);
            if self.crowds.len() >= MAX_BUCKETS {
                return MAX_COUNTED as f64;
            }
        }
        let new = || Crowd { since: now, now: HashSet::new(), before: 0 };
        self.crowds.entry(group).or_insert_with(new).count(member, now) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greedy_crowd_leaves_the_modest_their_part() {
        let (start, mut fair) = (Instant::now(), Fair::new(30, 1_000));
        let (mut greedy, mut modest) = (0, 0);
        for step in 0..6_000_u64 {
            let now = start + Duration::from_millis(step * 10);
            // Forty that send 100 a second each, and one that sends 4.
            greedy += (0..40).filter(|member| fair.permit("net", *member, now)).count();
            if step % 25 == 0 {
                assert!(fair.permit("net", 99, now), "after {step} steps");
                modest += 1;
            }
        }
        assert_eq!(modest, 240);
        // A minute's worth and the burst.
        assert!((30_000..=71_000).contains(&greedy), "{greedy}");
        assert!(fair.permit("other net", 1_000, start));
    }

    /// As many as a /24 has, each of whom would be modest alone, and one that comes late.
    #[test]
    fn a_crowd_that_is_hardly_greedy_leaves_newcomers_their_part() {
        let (start, mut fair) = (Instant::now(), Fair::new(30, 100));
        let mut granted = 0;
        for step in 0..1_200_u64 {
            let now = start + Duration::from_millis(step * 50);
            granted += (0..250).filter(|member| fair.permit("net", *member, now)).count();
            if step % 100 == 99 {
                // The first packets of a call, and the repetitions.
                let member = 1_000 + step;
                assert!((0..4).all(|_| fair.permit("net", member, now)), "after {step} steps");
            }
        }
        assert!((3_000..=7_100).contains(&granted), "{granted}");
    }

    #[test]
    fn a_crowd_that_pretends_to_be_modest_gets_no_more_than_a_group_may() {
        let (start, mut fair) = (Instant::now(), Fair::new(30, 1_000));
        let granted = (0..100_000).filter(|member| fair.permit("net", *member, start)).count();
        assert_eq!(granted, 10_000);
    }

    #[test]
    fn a_burst_then_the_rate() {
        let mut limiter = Limiter::new(2);
        let start = Instant::now();
        let burst = (0..100).filter(|_| limiter.permit("a", start)).count();
        assert_eq!(burst, 20);
        let later = start + Duration::from_secs(3);
        assert_eq!((0..100).filter(|_| limiter.permit("a", later)).count(), 6);
        assert!(limiter.permit("b", later));
    }

    #[test]
    fn a_flood_of_keys_stays_bounded_and_spares_known_ones() {
        let mut limiter = Limiter::new(1);
        let start = Instant::now();
        assert!(limiter.permit(u64::MAX, start));
        let granted = (0..100_000).filter(|key| limiter.permit(*key, start)).count();
        assert!(limiter.buckets.len() <= MAX_BUCKETS);
        assert!(granted <= MAX_BUCKETS + 10);
        assert!(limiter.permit(u64::MAX, start));
        let later = start + Duration::from_secs(60);
        assert!(limiter.permit(200_000, later), "full buckets make room");
        assert!(limiter.buckets.len() < MAX_BUCKETS);
    }
}
