//! How dear something is, by how often it has been wanted lately.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::MAX_BITS;

/// How a price follows from what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tariff {
    /// The price of what comes seldom, bits.
    pub base: u8,
    /// The highest price, bits; at most [`MAX_BITS`] count.
    pub max: u8,
    /// What comes within a few half-lives before the price rises; from there on each doubling costs another bit.
    pub free: u32,
    /// After so long without anything half of it is forgotten.
    pub half_life: Duration,
}

impl Tariff {
    /// Most that is counted: a little more than the highest price needs.
    fn ceiling(&self) -> u64 {
        let rises = u32::from(self.max.min(MAX_BITS).saturating_sub(self.base));
        u64::from(self.free.max(1)) << rises
    }
}

/// What has come lately: a count that is halved once in each half-life. It stays near what the highest price needs, so when
/// a flood is over the price falls by a bit in each half-life, however long the flood was.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    count: u64,
    /// When it was halved last.
    since: Option<Instant>,
}

impl Pace {
    /// The price now, bits. `now` never goes back.
    #[must_use]
    pub fn price(&self, tariff: &Tariff, now: Instant) -> u8 {
        let count = self.counted(tariff, now).0;
        let free = u64::from(tariff.free.max(1));
        let rises = (count / free).checked_ilog2().map_or(0, |log| log + 1);
        let rises = u8::try_from(rises).unwrap_or(u8::MAX);
        tariff.base.saturating_add(rises).min(tariff.max).min(MAX_BITS)
    }

    /// Counts one more.
    pub fn came(&mut self, tariff: &Tariff, now: Instant) {
        let (count, since) = self.counted(tariff, now);
        *self = Self { count: (count + 1).min(tariff.ceiling()), since: Some(since) };
    }

    /// Whether nothing is left of what came.
    fn is_idle(&self, tariff: &Tariff, now: Instant) -> bool {
        self.counted(tariff, now).0 == 0
    }

    fn counted(&self, tariff: &Tariff, now: Instant) -> (u64, Instant) {
        let Some(since) = self.since else { return (0, now) };
        let half_life = tariff.half_life.max(Duration::from_millis(1));
        let passed = now.saturating_duration_since(since);
        let halvings = passed.as_millis() / half_life.as_millis().max(1);
        let shift = u32::try_from(halvings).unwrap_or(u32::MAX);
        let since = half_life.checked_mul(shift).and_then(|over| since.checked_add(over)).unwrap_or(now);
        (self.count.checked_shr(shift).unwrap_or(0), since)
    }
}

/// Paces of many: networks, mailboxes. Bounded: when there are too many, one of which nothing is left is forgotten, or else
/// the one with the least.
#[derive(Clone, Debug)]
pub struct Paces<K> {
    tariff: Tariff,
    max: usize,
    paces: BTreeMap<K, Pace>,
    /// In the order of what was counted of them when they came last.
    order: BTreeSet<(u64, K)>,
    /// When those of which nothing is left were looked for.
    swept: Option<Instant>,
}

impl<K: Ord + Clone> Paces<K> {
    /// None yet, at most `max`.
    #[must_use]
    pub fn new(tariff: Tariff, max: usize) -> Self {
        Self { tariff, max: max.max(1), paces: BTreeMap::new(), order: BTreeSet::new(), swept: None }
    }

    /// The price for one of them now, bits.
    #[must_use]
    pub fn price(&self, key: &K, now: Instant) -> u8 {
        self.paces.get(key).copied().unwrap_or_default().price(&self.tariff, now)
    }

    /// Counts one more of one of them.
    pub fn came(&mut self, key: &K, now: Instant) {
        let mut pace = match self.paces.remove(key) {
            Some(pace) => {
                self.order.remove(&(pace.count, key.clone()));
                pace
            }
            None => {
                self.make_room(now);
                Pace::default()
            }
        };
        pace.came(&self.tariff, now);
        self.order.insert((pace.count, key.clone()));
        self.paces.insert(key.clone(), pace);
    }

    /// How many are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.paces.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.paces.is_empty()
    }

    fn make_room(&mut self, now: Instant) {
        if self.paces.len() < self.max {
            return;
        }
        let tariff = self.tariff;
        // All are looked at once in a half-life, however many come.
        if self.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= tariff.half_life) {
            self.swept = Some(now);
            let paces = &mut self.paces;
            self.order.retain(|(_, key)| match paces.get(key) {
                Some(pace) if !pace.is_idle(&tariff, now) => true,
                Some(_) | None => {
                    paces.remove(key);
                    false
                }
            });
        }
        while self.paces.len() >= self.max {
            let Some((_, key)) = self.order.pop_first() else { return };
            self.paces.remove(&key);
        }
    }
}
