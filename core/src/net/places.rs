//! Places for strangers: so many altogether, so many for one source, and who gives way when they are taken.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use super::addr::Source;

/// Places, each taken by a `K` from a source.
pub(super) struct Places<K> {
    total: usize,
    per_source: usize,
    taken: HashMap<K, (Source, u64)>,
    /// By the time of the last use, longest ago first.
    sources: HashMap<Source, BTreeMap<u64, K>>,
    clock: u64,
}

/// What came of asking for a place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place<K> {
    /// It is given.
    Given,
    /// It is given; this one has lost its own for it.
    Instead(K),
    /// There is none.
    None,
}

impl<K: Copy + Eq + Hash> Places<K> {
    /// `total` places, of which one source may take `per_source`.
    pub(super) fn new(total: usize, per_source: usize) -> Self {
        Self { total, per_source, taken: HashMap::new(), sources: HashMap::new(), clock: 0 }
    }

    /// Takes a place, or keeps it if `key` has one. When the source has all it may take, its own longest unused place
    /// is given away. When all places are taken, the longest unused one of the source that has most is given away,
    /// unless the newcomer's source would then have more than it.
    pub(super) fn take(&mut self, key: K, source: Source) -> Place<K> {
        if self.used(&key) {
            return Place::Given;
        }
        let mine = self.sources.get(&source).map_or(0, BTreeMap::len);
        let loser = if mine > 0 && mine >= self.per_source {
            self.oldest_of(&source)
        } else if self.taken.len() >= self.total {
            let most = self.sources.iter().max_by_key(|(_, keys)| keys.len());
            let most = most.filter(|(_, keys)| keys.len() > mine).map(|(source, _)| *source);
            most.or((mine > 0).then_some(source)).and_then(|source| self.oldest_of(&source))
        } else {
            self.insert(key, source);
            return Place::Given;
        };
        let Some(loser) = loser else { return Place::None };
        self.leave(&loser);
        self.insert(key, source);
        Place::Instead(loser)
    }

    /// The same, but nobody of the same source gives way: for places that are worth nothing if they don't last.
    pub(super) fn take_for_good(&mut self, key: K, source: Source) -> Place<K> {
        if self.used(&key) {
            return Place::Given;
        }
        let mine = self.sources.get(&source).map_or(0, BTreeMap::len);
        let most = self.sources.values().map(BTreeMap::len).max().unwrap_or(0);
        // With one more each, both would have as many.
        let full = self.taken.len() >= self.total && most < mine + 2;
        if mine >= self.per_source || self.total == 0 || full { Place::None } else { self.take(key, source) }
    }

    /// Marks a place as used now; `false` if there is none.
    pub(super) fn used(&mut self, key: &K) -> bool {
        let Some((source, at)) = self.taken.get_mut(key) else { return false };
        self.clock += 1;
        if let Some(keys) = self.sources.get_mut(source) {
            keys.remove(at);
            keys.insert(self.clock, *key);
        }
        *at = self.clock;
        true
    }

    /// Gives a place back; `false` if there was none.
    pub(super) fn leave(&mut self, key: &K) -> bool {
        let Some((source, at)) = self.taken.remove(key) else { return false };
        if let Some(keys) = self.sources.get_mut(&source) {
            keys.remove(&at);
            if keys.is_empty() {
                self.sources.remove(&source);
            }
        }
        true
    }

    /// Whether it has a place.
    pub(super) fn contains(&self, key: &K) -> bool {
        self.taken.contains_key(key)
    }

    /// Places taken.
    pub(super) fn len(&self) -> usize {
        self.taken.len()
    }

    fn oldest_of(&self, source: &Source) -> Option<K> {
        self.sources.get(source)?.first_key_value().map(|(_, key)| *key)
    }

    fn insert(&mut self, key: K, source: Source) {
        self.clock += 1;
        self.taken.insert(key, (source, self.clock));
        self.sources.entry(source).or_default().insert(self.clock, key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(n: u8) -> Source {
        Source::V4([192, 0, n])
    }

    #[test]
    fn a_source_gives_way_to_itself() {
        let mut places = Places::new(100, 3);
        for key in 0..3 {
            assert_eq!(places.take(key, net(1)), Place::Given);
        }
        assert!(places.used(&0));
        assert_eq!(places.take(9, net(1)), Place::Instead(1), "the one used longest ago");
        assert_eq!(places.take(9, net(1)), Place::Given, "it has one already");
        assert_eq!(places.take(10, net(2)), Place::Given);
        assert!(places.leave(&10) && !places.leave(&10));
        assert_eq!((places.len(), places.contains(&1), places.contains(&9)), (3, false, true));
    }

    #[test]
    fn a_crowd_of_one_source_makes_room_for_others() {
        let mut places = Places::new(10, 100);
        for key in 0..10 {
            assert_eq!(places.take(key, net(1)), Place::Given);
        }
        for key in 10..15 {
            assert_eq!(places.take(key, net(2)), Place::Instead(key - 10));
        }
        // Both have five; the newcomer's own gives way, and a third one takes from either.
        assert_eq!(places.take(15, net(2)), Place::Instead(10));
        assert!(matches!(places.take(16, net(3)), Place::Instead(_)));
        assert_eq!(places.len(), 10);
    }

    #[test]
    fn lasting_places_go_to_whoever_came_first_of_one_source() {
        let mut places = Places::new(4, 3);
        for key in 0..3 {
            assert_eq!(places.take_for_good(key, net(1)), Place::Given);
        }
        assert_eq!(places.take_for_good(3, net(1)), Place::None, "as many as one source may have");
        assert_eq!(places.take_for_good(4, net(2)), Place::Given);
        assert_eq!(places.take_for_good(5, net(2)), Place::Instead(0), "one had three, the other one");
        assert_eq!(places.take_for_good(6, net(2)), Place::None, "both have two");
        assert!(matches!(places.take_for_good(7, net(3)), Place::Instead(1 | 4)));
        assert_eq!(Places::new(0, 3).take_for_good(1, net(1)), Place::None);
        assert_eq!(Places::new(0, 3).take(1, net(1)), Place::None);
    }

    #[test]
    fn places_stay_in_step_whatever_happens() {
        let mut places = Places::new(50, 20);
        let mut state = 1_u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (key, from) = ((state >> 33) % 200, net((state >> 50) as u8 % 8));
            match (state >> 60) % 4 {
                0 => assert!(!places.leave(&key) || !places.contains(&key)),
                1 => assert_eq!(places.used(&key), places.contains(&key)),
                2 => assert_ne!(places.take(key, from), Place::None),
                _ => assert_eq!(places.take_for_good(key, from) == Place::None, !places.contains(&key)),
            }
            assert!(places.len() <= 50 && places.sources.values().all(|keys| keys.len() <= 20));
            assert_eq!(places.sources.values().map(BTreeMap::len).sum::<usize>(), places.len());
        }
    }
}
