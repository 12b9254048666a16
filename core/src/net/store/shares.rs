//! Who brought how much, and who gives way when it is full.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use offhook_proto::number::RecordKey;

use crate::net::addr::Source;
use crate::net::config::Limits;

/// What sources hold here, and in which order it was refreshed.
pub(super) struct Shares {
    max_keys: usize,
    max_bytes: usize,
    max_keys_per_source: usize,
    keys: usize,
    bytes: usize,
    sources: HashMap<Source, Share>,
    /// The sources by what they hold, the smallest first.
    by_bytes: BTreeSet<(usize, Source)>,
    clock: u64,
}

#[derive(Default)]
struct Share {
    bytes: usize,
    /// By the time of the last refresh, oldest first.
    order: BTreeMap<u64, RecordKey>,
}

/// Where a key is entered in the shares.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) source: Source,
    refreshed: u64,
    bytes: usize,
}

/// What to do for a newcomer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// There is room.
    Free,
    /// This key must go first; then ask again.
    Evict(RecordKey),
    /// The newcomer must go without.
    None,
}

impl Shares {
    pub(super) fn new(limits: &Limits) -> Self {
        Self::with(limits.records, limits.record_bytes, limits.records_per_source)
    }

    /// Shares of so many keys and bytes, and keys of one source.
    pub(super) fn with(max_keys: usize, max_bytes: usize, max_keys_per_source: usize) -> Self {
        Self {
            max_keys,
            max_bytes,
            max_keys_per_source,
            keys: 0,
            bytes: 0,
            sources: HashMap::new(),
            by_bytes: BTreeSet::new(),
            clock: 0,
        }
    }

    /// Whether a new key of `bytes` from `source` fits, or what gives way for it: at the source's own bound its
    /// own key refreshed longest ago; when all is full, that of the source that holds most, if that is more than
    /// the newcomer's source would hold.
    pub(super) fn room(&self, source: Source, bytes: usize) -> Room {
        if self.max_keys_per_source == 0 || bytes > self.max_bytes {
            return Room::None;
        }
        let mine = self.sources.get(&source);
        if let Some(mine) = mine
            && mine.order.len() >= self.max_keys_per_source
        {
            return mine.oldest();
        }
        if self.keys < self.max_keys && self.bytes + bytes <= self.max_bytes {
            return Room::Free;
        }
        let Some((most, biggest)) = self.by_bytes.last() else { return Room::None };
        let would_hold = mine.map_or(0, |mine| mine.bytes) + bytes;
        let gives_way = *biggest == source || *most >= would_hold;
        self.sources.get(biggest).filter(|_| gives_way).map_or(Room::None, Share::oldest)
    }

    /// Enters a key.
    pub(super) fn add(&mut self, source: Source, key: RecordKey, bytes: usize) -> Place {
        self.clock += 1;
        let place = Place { source, refreshed: self.clock, bytes };
        self.put_back(place, key);
        place
    }

    /// Enters a key again where it was.
    pub(super) fn put_back(&mut self, place: Place, key: RecordKey) {
        let share = self.sources.entry(place.source).or_default();
        self.by_bytes.remove(&(share.bytes, place.source));
        share.bytes += place.bytes;
        share.order.insert(place.refreshed, key);
        self.by_bytes.insert((share.bytes, place.source));
        self.keys += 1;
        self.bytes += place.bytes;
    }

    /// Takes a key out.
    pub(super) fn remove(&mut self, place: Place) {
        let Some(share) = self.sources.get_mut(&place.source) else { return };
        self.by_bytes.remove(&(share.bytes, place.source));
        share.bytes -= place.bytes;
        share.order.remove(&place.refreshed);
        self.keys -= 1;
        self.bytes -= place.bytes;
        if share.order.is_empty() {
            self.sources.remove(&place.source);
        } else {
            self.by_bytes.insert((share.bytes, place.source));
        }
    }

    /// Keys and bytes held for others.
    pub(super) fn totals(&self) -> (usize, usize) {
        (self.keys, self.bytes)
    }
}

impl Share {
    fn oldest(&self) -> Room {
        self.order.values().next().map_or(Room::None, |key| Room::Evict(*key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::config::Role;

    fn shares(keys: usize, bytes: usize, per_source: usize) -> Shares {
        let mut limits = Limits::for_role(Role::Server);
        (limits.records, limits.record_bytes, limits.records_per_source) = (keys, bytes, per_source);
        Shares::new(&limits)
    }

    fn source(n: u8) -> Source {
        Source::V4([10, 0, n])
    }

    fn key(n: u8) -> RecordKey {
        RecordKey([n; 32])
    }

    #[test]
    fn a_source_at_its_bound_displaces_only_itself() {
        let mut shares = shares(100, 10_000, 3);
        shares.add(source(9), key(9), 10);
        let first = shares.add(source(1), key(1), 10);
        shares.add(source(1), key(2), 10);
        shares.add(source(1), key(3), 10);
        assert_eq!(shares.room(source(1), 10), Room::Evict(key(1)));
        // Refreshing a key makes it the youngest.
        shares.remove(first);
        shares.add(source(1), key(1), 10);
        assert_eq!(shares.room(source(1), 10), Room::Evict(key(2)));
        assert_eq!(shares.room(source(2), 10), Room::Free);
    }

    #[test]
    fn a_key_that_is_put_back_keeps_its_turn() {
        let mut shares = shares(100, 10_000, 2);
        let first = shares.add(source(1), key(1), 10);
        shares.add(source(1), key(2), 10);
        shares.remove(first);
        shares.put_back(first, key(1));
        assert_eq!(shares.room(source(1), 10), Room::Evict(key(1)));
        assert_eq!(shares.totals(), (2, 20));
    }

    #[test]
    fn when_full_the_biggest_gives_way_to_smaller_ones_only() {
        let mut shares = shares(4, 10_000, 10);
        for n in 1..=3 {
            shares.add(source(1), key(n), 100);
        }
        shares.add(source(2), key(9), 100);
        assert_eq!(shares.room(source(3), 100), Room::Evict(key(1)));
        assert_eq!(shares.room(source(1), 100), Room::Evict(key(1)));
        assert_eq!(shares.room(source(3), 500), Room::None, "would be the biggest itself");
    }

    #[test]
    fn bytes_are_bounded_and_given_back() {
        let mut shares = shares(100, 250, 10);
        let place = shares.add(source(1), key(1), 200);
        assert_eq!(shares.room(source(2), 100), Room::Evict(key(1)));
        assert_eq!(shares.room(source(2), 251), Room::None);
        shares.remove(place);
        assert_eq!(shares.totals(), (0, 0));
        assert!(shares.sources.is_empty() && shares.by_bytes.is_empty());
        assert_eq!(shares.room(source(2), 100), Room::Free);
    }

    #[test]
    fn a_terminal_holds_nothing_for_others() {
        let shares = Shares::new(&Limits::for_role(Role::Terminal));
        assert_eq!(shares.room(source(1), 1), Room::None);
    }
}
