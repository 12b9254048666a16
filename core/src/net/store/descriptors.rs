//! Descriptors of directories, held for the network beside the records of numbers, with bounds of their own: a key for a directory
//! costs nothing, so that whoever makes up directories displaces directories at most, never anybody's number.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use libp2p::kad;
use offhook_proto::descriptor::{Descriptor, MAX_DESCRIPTOR_BYTES, SignedDescriptor};
use offhook_proto::number::RecordKey;
use offhook_proto::wire::UnixMillis;

use super::disk::Stored;
use super::records::{KEEP_OVER, Refused};
use super::shares::{Place, Room, Shares};
use crate::net::addr::Source;
use crate::net::config::Limits;

/// One directory's descriptor.
struct Kept {
    descriptor: Descriptor,
    /// As it was signed. Its expiry stays empty: the signed one counts.
    record: kad::Record,
    since: UnixMillis,
    source: Source,
    /// Where it is counted; `None` for this node's own.
    place: Option<Place>,
    written: Arc<AtomicBool>,
    /// Since when it is not valid by this node's clock.
    over: Option<Instant>,
}

/// What is to be done after a descriptor was offered.
pub(super) enum Settled {
    /// It is held, or a later one is not: write it.
    Taken {
        /// Keys that gave way.
        gone: Vec<RecordKey>,
    },
    /// It was held already.
    Known,
}

/// All descriptors held. See the [module](self).
pub(super) struct Descriptors {
    held: HashMap<RecordKey, Kept>,
    shares: Shares,
}

impl Descriptors {
    pub(super) fn new(limits: &Limits) -> Self {
        let bytes = limits.descriptors.saturating_mul(MAX_DESCRIPTOR_BYTES);
        let shares = Shares::with(limits.descriptors, bytes, limits.descriptors_per_source);
        Self { held: HashMap::new(), shares }
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Bytes held for others.
    pub(super) fn bytes(&self) -> usize {
        self.shares.totals().1
    }

    /// Takes what was on disk. `false`: it is damaged, or there is no room for it any more.
    pub(super) fn load(&mut self, stored: &Stored) -> bool {
        let Stored { key, value, source, since, own } = stored;
        let signed = SignedDescriptor::from_bytes(value).ok();
        let Some(descriptor) = signed.and_then(|signed| signed.verify_kept(key).ok()) else { return false };
        let source = Source::from_bytes(source).unwrap_or(Source::Relayed);
        let place = match (own, self.shares.room(source, value.len())) {
            (true, _) => None,
            (false, Room::Free) => Some(self.shares.add(source, *key, value.len())),
            (false, Room::Evict(_) | Room::None) => return false,
        };
        let record = kad::Record::new(key.0.to_vec(), value.clone());
        let written = Arc::new(AtomicBool::new(true));
        let kept = Kept { descriptor, record, since: *since, source, place, written, over: None };
        self.held.insert(*key, kept);
        true
    }

    /// Whether a newcomer from there would fit, so that it is worth looking at.
    pub(super) fn has_room(&self, key: &RecordKey, source: Source, bytes: usize) -> bool {
        self.held.contains_key(key) || self.shares.room(source, bytes) != Room::None
    }

    /// Whether these very bytes are held, and valid.
    pub(super) fn holds(&self, key: &RecordKey, bytes: &[u8], now: UnixMillis) -> bool {
        self.held.get(key).is_some_and(|kept| kept.record.value == bytes && kept.descriptor.is_live(now))
    }

    /// Takes a verified descriptor, unless a later one is held.
    pub(super) fn commit(
        &mut self,
        key: RecordKey,
        descriptor: Descriptor,
        bytes: Vec<u8>,
        (source, own): (Source, bool),
        now: UnixMillis,
    ) -> Result<Settled, Refused> {
        let before = self.held.get(&key);
        let own = own || before.is_some_and(|kept| kept.place.is_none());
        if let Some(kept) = before.filter(|kept| kept.descriptor.is_live(now)) {
            if kept.record.value == bytes && (kept.place.is_none() == own) {
                return Ok(Settled::Known);
            }
            if !descriptor.is_newer_than(&kept.descriptor) && kept.record.value != bytes {
                return Err(Refused::Record(offhook_proto::record::RecordError::Stale));
            }
        }
        let (since, source) = before.map_or((now, source), |kept| (kept.since, kept.source));
        let (place, gone) = self.settle(key, source, bytes.len(), own)?;
        let record = kad::Record::new(key.0.to_vec(), bytes);
        let written = Arc::new(AtomicBool::new(false));
        self.held.insert(key, Kept { descriptor, record, since, source, place, written, over: None });
        Ok(Settled::Taken { gone })
    }

    /// Finds the key's place among the others, of which some may have to give way.
    fn settle(
        &mut self,
        key: RecordKey,
        source: Source,
        bytes: usize,
        own: bool,
    ) -> Result<(Option<Place>, Vec<RecordKey>), Refused> {
        let before = self.held.get_mut(&key).and_then(|kept| kept.place.take());
        before.into_iter().for_each(|place| self.shares.remove(place));
        let mut gone = Vec::new();
        if own {
            return Ok((None, gone));
        }
        loop {
            match self.shares.room(source, bytes) {
                Room::Free => return Ok((Some(self.shares.add(source, key, bytes)), gone)),
                Room::Evict(other) => {
                    self.remove(&other);
                    gone.push(other);
                }
                Room::None => {
                    if let (Some(place), Some(kept)) = (before, self.held.get_mut(&key)) {
                        self.shares.put_back(place, key);
                        kept.place = Some(place);
                    }
                    return Err(Refused::Full);
                }
            }
        }
    }

    /// Drops one. Whether it was there.
    pub(super) fn remove(&mut self, key: &RecordKey) -> bool {
        let Some(kept) = self.held.remove(key) else { return false };
        kept.place.into_iter().for_each(|place| self.shares.remove(place));
        true
    }

    /// What is held under a key, valid at `now`, and since when.
    pub(super) fn find(&self, key: &RecordKey, now: UnixMillis) -> Option<(&[u8], UnixMillis)> {
        let kept = self.held.get(key).filter(|kept| kept.descriptor.is_live(now))?;
        Some((&kept.record.value, kept.since))
    }

    /// The same in Kademlia's form.
    pub(super) fn served(&self, key: &RecordKey, now: UnixMillis) -> Option<Cow<'_, kad::Record>> {
        let kept = self.held.get(key).filter(|kept| kept.descriptor.is_live(now))?;
        Some(Cow::Borrowed(&kept.record))
    }

    /// All that are valid, in Kademlia's form.
    pub(super) fn all(&self, now: UnixMillis) -> impl Iterator<Item = Cow<'_, kad::Record>> {
        let live = self.held.values().filter(move |kept| kept.descriptor.is_live(now));
        live.map(|kept| Cow::Borrowed(&kept.record))
    }

    /// What the disk is to hold of a key, and what tells that it does.
    pub(super) fn stored(&self, key: &RecordKey) -> Option<(Stored, Arc<AtomicBool>)> {
        let kept = self.held.get(key)?;
        let (value, source) = (kept.record.value.clone(), kept.source.to_bytes());
        let stored = Stored { key: *key, value, source, since: kept.since, own: kept.place.is_none() };
        Some((stored, kept.written.clone()))
    }

    /// What has been over for long, and what the disk does not have yet, of either at most `most`.
    pub(super) fn sweep(
        &mut self,
        now: UnixMillis,
        at: Instant,
        most: usize,
    ) -> (Vec<RecordKey>, Vec<RecordKey>) {
        let (mut gone, mut unwritten) = (Vec::new(), Vec::new());
        for (key, kept) in &mut self.held {
            kept.over = if kept.descriptor.is_live(now) { None } else { kept.over.or(Some(at)) };
            if kept.over.is_some_and(|since| at.saturating_duration_since(since) >= KEEP_OVER) {
                gone.push(*key);
            } else if unwritten.len() < most && !kept.written.load(Ordering::Acquire) {
                unwritten.push(*key);
            }
        }
        for key in &gone {
            self.remove(key);
        }
        (gone, unwritten)
    }
}
