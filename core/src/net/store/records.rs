//! The store itself: offers, verdicts, expiry, and Kademlia's view of it.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use libp2p::PeerId;
use libp2p::kad;
use libp2p::kad::store::{self as kad_store, RecordStore};
use offhook_proto::descriptor::{Descriptor, DescriptorError, SignedDescriptor};
use offhook_proto::identity::{IdentityId, TerminalId};
use offhook_proto::number::RecordKey;
use offhook_proto::record::{self, CheckedSet, Merged, RecordError, RecordSet};
use offhook_proto::wire::UnixMillis;
use thiserror::Error;

use super::descriptors::{Descriptors, Settled};
use super::disk::{Disk, Done, Loaded, Stored, Write};
use super::proofs::Verdicts;
use super::shares::{Place, Room, Shares};
use crate::clock::wall_clock;
use crate::fair::FairQueue;
use crate::net::addr::Source;
use crate::net::config::Limits;

/// Why the store doesn't take a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(in crate::net) enum Refused {
    /// The record is not acceptable.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The descriptor is not acceptable.
    #[error(transparent)]
    Descriptor(#[from] DescriptorError),
    /// The slow proof fails.
    #[error("the number's proof does not fit")]
    Proof,
    /// No room, or too much is waiting already.
    #[error("the store is full")]
    Full,
    /// The disk failed; the record is held in memory, and will be written later.
    #[error("the record could not be written")]
    Disk,
}

/// How long this node must have been running with a record that is over before the record goes. The node's clock may
/// be the one that is wrong; then nothing is lost when somebody sets it right.
pub(super) const KEEP_OVER: Duration = Duration::from_secs(86_400);

/// Records that failed to get to the disk and are written again in one [`Records::sweep`].
const REWRITE: usize = 256;

/// Told once the fate of an offer is known: accepted means verified, merged and on disk.
pub(in crate::net) type Reply = Box<dyn FnOnce(Result<(), Refused>) + Send>;

/// A record set, or the descriptor of a directory, that somebody wants held.
pub(in crate::net) struct Offer {
    /// Under which key.
    pub(in crate::net) key: RecordKey,
    /// The encoded set or descriptor.
    pub(in crate::net) bytes: Vec<u8>,
    /// Whom to count it against.
    pub(in crate::net) source: Source,
    /// Whether it is this node's own number: never gives way, is served by terminals too.
    pub(in crate::net) own: bool,
    /// Told what became of it.
    pub(in crate::net) reply: Reply,
}

/// What an offer costs time for: signatures and the slow proof. To be [run](Work::run) off the swarm's task.
pub(in crate::net) struct Work {
    key: RecordKey,
    bytes: Vec<u8>,
    held: Option<Arc<CheckedSet>>,
    verdicts: Verdicts,
    now: UnixMillis,
}

/// What came of it.
pub(in crate::net) struct Worked(Result<Taken, Refused>);

/// What may be held.
enum Taken {
    /// Records of a number, proven.
    Set(Box<CheckedSet>),
    /// The descriptor of a directory, as it was signed.
    Descriptor(Descriptor, Vec<u8>),
}

impl Worked {
    /// For work that came to no end.
    pub(in crate::net) fn failed() -> Self {
        Self(Err(Refused::Proof))
    }
}

impl Work {
    /// Checks what is cheap first; the proof of a set that would be turned down anyway is not run.
    pub(in crate::net) fn run(self) -> Worked {
        if RecordSet::decode(&self.bytes).is_ok() {
            return Worked(self.check().map(|set| Taken::Set(Box::new(set))));
        }
        let read = SignedDescriptor::from_bytes(&self.bytes);
        let verified = read.and_then(|signed| signed.verify_stored(&self.key, self.now));
        let taken = verified.map(|descriptor| Taken::Descriptor(descriptor, self.bytes));
        Worked(taken.map_err(Refused::Descriptor))
    }

    fn check(self) -> Result<CheckedSet, Refused> {
        let set = record::check(&self.key, &self.bytes, self.now)?;
        record::merge(self.held.as_deref(), &set, self.now)?;
        let proven = self.held.and_then(|held| held.proof_task());
        match set.proof_task().filter(|task| proven.as_ref() != Some(task)) {
            Some(task) if !self.verdicts.run(&task) => Err(Refused::Proof),
            Some(_) | None => Ok(set),
        }
    }
}

/// One key's records.
pub(in crate::net) struct Held {
    set: Arc<CheckedSet>,
    /// The same in Kademlia's form. Its expiry stays empty: the signed ones count.
    record: kad::Record,
    /// When the account's identity was first seen under this number.
    since: UnixMillis,
    source: Source,
    /// Where it is counted; `None` for own records.
    place: Option<Place>,
    /// Whether the disk has it.
    written: Arc<AtomicBool>,
    /// Since when it is not valid by this node's clock.
    over: Option<Instant>,
}

impl Held {
    fn is_live(&self, now: UnixMillis) -> bool {
        self.set.account.as_ref().is_some_and(|account| account.is_live(now))
    }

    /// What of it is valid.
    fn live(&self, now: UnixMillis) -> Option<CheckedSet> {
        self.set.pruned(now).filter(|_| self.is_live(now))
    }

    /// What Kademlia may tell others.
    fn served(&self) -> Option<Cow<'_, kad::Record>> {
        let now = wall_clock();
        if self.is_live(now) && self.set.terminals.iter().all(|terminal| terminal.is_live(now)) {
            return Some(Cow::Borrowed(&self.record));
        }
        let value = self.live(now)?.to_set().encode();
        Some(Cow::Owned(kad::Record::new(self.record.key.clone(), value)))
    }
}

/// All records held. See the [module](super).
pub(in crate::net) struct Records {
    held: HashMap<RecordKey, Held>,
    /// Which of them each account has.
    owners: HashMap<IdentityId, Vec<RecordKey>>,
    descriptors: Descriptors,
    shares: Shares,
    verdicts: Verdicts,
    /// Sets of others that wait for the store's one worker, and this node's own, which wait for nobody.
    queue: FairQueue<Source, Offer>,
    own: VecDeque<Offer>,
    working: Option<Offer>,
    disk: Option<Disk>,
    /// Whether records are handed on to nodes that are closer to their keys by now, as serving nodes do.
    hand_on: bool,
}

impl Records {
    /// A store with what was on disk. Signatures are checked anew, which takes a second for some thousands of records;
    /// proofs were run before writing.
    pub(in crate::net) fn new(
        limits: &Limits,
        verdicts: Verdicts,
        disk: Option<Disk>,
        loaded: Loaded,
    ) -> Self {
        let mut records = Self {
            held: HashMap::new(),
            owners: HashMap::new(),
            descriptors: Descriptors::new(limits),
            shares: Shares::new(limits),
            verdicts,
            queue: FairQueue::new(limits.proof_queue.max(16), limits.proof_queue_per_source.max(16)),
            own: VecDeque::new(),
            working: None,
            disk,
            hand_on: true,
        };
        for stored in loaded.records {
            records.load(stored);
        }
        records
    }

    fn load(&mut self, stored: Stored) {
        if RecordSet::decode(&stored.value).is_err() {
            if !self.descriptors.load(&stored) {
                self.write(Write::Remove(stored.key), None);
            }
            return;
        }
        let Stored { key, value, source, since, own } = stored;
        let source = Source::from_bytes(&source).unwrap_or(Source::Relayed);
        // Only what is damaged goes. What seems to be over or from the future may be right, and the clock wrong.
        let checked = record::check_stored(&key, &value).ok().filter(|set| set.account.is_some());
        let Some(set) = checked else { return self.write(Write::Remove(key), None) };
        let place = match (own, self.shares.room(source, value.len())) {
            (true, _) => None,
            (false, Room::Free) => Some(self.shares.add(source, key, value.len())),
            // The limits were lowered since.
            (false, Room::Evict(_) | Room::None) => return self.write(Write::Remove(key), None),
        };
        if let Some(task) = set.proof_task() {
            self.verdicts.set(task, true);
        }
        let record = kad::Record::new(key.0.to_vec(), value);
        let written = Arc::new(AtomicBool::new(true));
        let held = Held { set: Arc::new(set), record, since, source, place, written, over: None };
        self.insert(key, held);
    }

    fn insert(&mut self, key: RecordKey, held: Held) {
        if let Some(owner) = identity(&held.set) {
            self.owners.entry(owner).or_default().push(key);
        }
        if let Some(before) = self.held.insert(key, held) {
            self.disown(&key, &before);
        }
    }

    fn disown(&mut self, key: &RecordKey, gone: &Held) {
        let Some(owner) = identity(&gone.set) else { return };
        if let Some(keys) = self.owners.get_mut(&owner) {
            // Once only: it may just have been entered anew.
            if let Some(at) = keys.iter().position(|own| own == key) {
                keys.swap_remove(at);
            }
            if keys.is_empty() {
                self.owners.remove(&owner);
            }
        }
    }

    /// Terminals that an account revokes in the newest of its records here, whichever of its numbers they are for.
    pub(in crate::net) fn revoked(&self, owner: &IdentityId) -> Vec<TerminalId> {
        let keys = self.owners.get(owner).into_iter().flatten();
        let accounts = keys.filter_map(|key| self.held.get(key)?.set.account.as_ref());
        let newest = accounts.max_by_key(|account| account.seq);
        newest.map_or_else(Vec::new, |account| account.revoked.clone())
    }

    /// Whether an account has records here: proven ones, like all that are held.
    pub(in crate::net) fn holds(&self, owner: &IdentityId) -> bool {
        self.owners.contains_key(owner)
    }

    /// Whether Kademlia may hand records on: a terminal that does not serve at the moment leaves that to others.
    pub(in crate::net) fn set_hand_on(&mut self, on: bool) {
        self.hand_on = on;
    }

    /// What is known of proofs; shared.
    pub(in crate::net) fn verdicts(&self) -> Verdicts {
        self.verdicts.clone()
    }

    /// Takes a record set or says why not; see [`Reply`]. Anything slow happens later.
    pub(in crate::net) fn offer(&mut self, offer: Offer, now: UnixMillis) {
        let held = self.held.get(&offer.key);
        // The same again: what is replicated every hour needs no signature verified.
        if let Some(held) = held
            && held.record.value == offer.bytes
            && held.is_live(now)
            && (held.place.is_none() || !offer.own)
        {
            return self.acknowledge(&offer.key, offer.reply);
        }
        let room = match RecordSet::decode(&offer.bytes) {
            Ok(_) => held.is_some() || self.shares.room(offer.source, offer.bytes.len()) != Room::None,
            // One of them cannot be read as the other.
            Err(_) if SignedDescriptor::from_bytes(&offer.bytes).is_ok() => {
                if !offer.own && self.descriptors.holds(&offer.key, &offer.bytes, now) {
                    return self.acknowledge(&offer.key, offer.reply);
                }
                self.descriptors.has_room(&offer.key, offer.source, offer.bytes.len())
            }
            Err(error) => return (offer.reply)(Err(error.into())),
        };
        if offer.own {
            self.own.push_back(offer);
        } else if !room {
            (offer.reply)(Err(Refused::Full));
        } else if let Some(out) = self.queue.push(offer.source, offer) {
            (out.reply)(Err(Refused::Full));
        }
    }

    /// The next thing to do, if nothing is being done. The caller runs it off this task and then calls
    /// [`Records::worked`].
    pub(in crate::net) fn next_work(&mut self, now: UnixMillis) -> Option<Work> {
        if self.working.is_some() {
            return None;
        }
        let mut offer = self.own.pop_front().or_else(|| self.queue.pop())?;
        let held = self.held.get(&offer.key).filter(|held| held.is_live(now)).map(|held| held.set.clone());
        let bytes = std::mem::take(&mut offer.bytes);
        let work = Work { key: offer.key, bytes, held, verdicts: self.verdicts.clone(), now };
        self.working = Some(offer);
        Some(work)
    }

    /// What came of the work that [`Records::next_work`] gave out.
    pub(in crate::net) fn worked(&mut self, Worked(result): Worked, now: UnixMillis) {
        let Some(offer) = self.working.take() else { return };
        match result {
            Ok(Taken::Set(set)) => self.commit(&set, offer, now),
            Ok(Taken::Descriptor(descriptor, bytes)) => self.commit_descriptor(descriptor, bytes, offer, now),
            Err(refused) => (offer.reply)(Err(refused)),
        }
    }

    /// Merges a set whose proof holds with what is held by now.
    fn commit(&mut self, set: &CheckedSet, offer: Offer, now: UnixMillis) {
        let Offer { key, source, own, reply, .. } = offer;
        let held = self.held.get(&key);
        let merged = match Self::merge(held, set, now) {
            Ok(merged) => merged,
            Err(error) => return reply(Err(error.into())),
        };
        let was_own = held.is_some_and(|held| held.place.is_none());
        if !merged.changed && (was_own || !own) {
            return self.acknowledge(&key, reply);
        }
        let (source, since) = held.map_or((source, now), |held| {
            let same = identity(&held.set) == identity(&merged.set);
            (held.source, if same { held.since } else { now })
        });
        let bytes = merged.set.to_set().encode();
        let place = if own || was_own {
            self.leave(&key);
            None
        } else {
            let Some(place) = self.settle(&key, source, bytes.len()) else {
                return reply(Err(Refused::Full));
            };
            Some(place)
        };
        let record = kad::Record::new(key.0.to_vec(), bytes);
        let (set, written) = (Arc::new(merged.set), Arc::new(AtomicBool::new(false)));
        self.insert(key, Held { set, record, since, source, place, written, over: None });
        self.store(&key, reply);
    }

    /// Takes a descriptor whose signature holds.
    fn commit_descriptor(&mut self, descriptor: Descriptor, bytes: Vec<u8>, offer: Offer, now: UnixMillis) {
        let Offer { key, source, own, reply, .. } = offer;
        match self.descriptors.commit(key, descriptor, bytes, (source, own), now) {
            Ok(Settled::Taken { gone }) => {
                gone.into_iter().for_each(|key| self.write(Write::Remove(key), None));
                self.store(&key, reply);
            }
            Ok(Settled::Known) => self.acknowledge(&key, reply),
            Err(refused) => reply(Err(refused)),
        }
    }

    /// Merges with what is held. A number whose holder's account seems to be over goes to nobody else while it is kept.
    fn merge(held: Option<&Held>, set: &CheckedSet, now: UnixMillis) -> Result<Merged, RecordError> {
        match held {
            Some(held) if held.is_live(now) => record::merge(Some(&held.set), set, now),
            Some(held) if set.account.is_some() && identity(&held.set) != identity(set) => {
                Err(RecordError::Incumbent)
            }
            Some(_) | None => record::merge(None, set, now),
        }
    }

    /// Takes a key that becomes this node's own out of the shares.
    fn leave(&mut self, key: &RecordKey) {
        if let Some(place) = self.held.get_mut(key).and_then(|held| held.place.take()) {
            self.shares.remove(place);
        }
    }

    /// Enters a key in the shares, with its new size if it was there, and lets others give way. `None` if it is this
    /// one that does not fit; what was there stays.
    fn settle(&mut self, key: &RecordKey, source: Source, bytes: usize) -> Option<Place> {
        let before = self.held.get(key).and_then(|held| held.place);
        if let Some(before) = before {
            self.shares.remove(before);
        }
        if self.make_room(source, bytes) {
            return Some(self.shares.add(source, *key, bytes));
        }
        if let Some(before) = before {
            self.shares.put_back(before, *key);
        }
        None
    }

    /// Lets others give way until `bytes` fit; `false` if it is the newcomer that must.
    fn make_room(&mut self, source: Source, bytes: usize) -> bool {
        loop {
            match self.shares.room(source, bytes) {
                Room::Free => return true,
                Room::None => return false,
                Room::Evict(key) => self.drop_key(&key),
            }
        }
    }

    fn drop_key(&mut self, key: &RecordKey) {
        if self.descriptors.remove(key) {
            self.write(Write::Remove(*key), None);
        }
        if let Some(held) = self.held.remove(key) {
            self.disown(key, &held);
            if let Some(place) = held.place {
                self.shares.remove(place);
            }
            self.write(Write::Remove(*key), None);
        }
    }

    /// Drops what has been over for long, and writes again what the disk refused. To be called every minute or so;
    /// readers check the times themselves.
    pub(in crate::net) fn sweep(&mut self, now: UnixMillis, at: Instant) {
        let (mut gone, mut unwritten) = (Vec::new(), Vec::new());
        for (key, held) in &mut self.held {
            held.over = if held.is_live(now) { None } else { held.over.or(Some(at)) };
            if held.over.is_some_and(|since| at.saturating_duration_since(since) >= KEEP_OVER) {
                gone.push(*key);
            } else if unwritten.len() < REWRITE && !held.written.load(Ordering::Acquire) {
                unwritten.push(*key);
            }
        }
        let (over, late) = self.descriptors.sweep(now, at, REWRITE);
        over.into_iter().for_each(|key| self.write(Write::Remove(key), None));
        unwritten.extend(late);
        gone.iter().for_each(|key| self.drop_key(key));
        // Nobody waits for these.
        unwritten.iter().for_each(|key| self.store(key, Box::new(|_| ())));
    }

    /// What is held under a key, live at `now`, and since when its identity is known.
    pub(in crate::net) fn find(&self, key: &RecordKey, now: UnixMillis) -> Option<(CheckedSet, UnixMillis)> {
        let held = self.held.get(key)?;
        held.live(now).map(|set| (set, held.since))
    }

    /// What is told to those who ask for a key: records or a descriptor, encoded, and since when it is known.
    pub(in crate::net) fn value(&self, key: &RecordKey, now: UnixMillis) -> Option<(Vec<u8>, UnixMillis)> {
        match self.find(key, now) {
            Some((set, since)) => Some((set.to_set().encode(), since)),
            None => self.descriptors.find(key, now).map(|(bytes, since)| (bytes.to_vec(), since)),
        }
    }

    /// Directories whose descriptors are held.
    pub(in crate::net) fn descriptors(&self) -> usize {
        self.descriptors.len()
    }

    /// Numbers whose records are held, bytes held for others (of descriptors, too), offers waiting.
    pub(in crate::net) fn totals(&self) -> (usize, usize, usize) {
        let bytes = self.shares.totals().1 + self.descriptors.bytes();
        (self.held.len(), bytes, self.own.len() + self.queue.len())
    }

    /// Acknowledges something that was merged before, as soon as the disk has it.
    fn acknowledge(&self, key: &RecordKey, reply: Reply) {
        match self.stored(key) {
            Some((_, written)) if written.load(Ordering::Acquire) => reply(Ok(())),
            Some(_) | None => self.store(key, reply),
        }
    }

    /// What the disk is to hold of a key, and what tells that it does.
    fn stored(&self, key: &RecordKey) -> Option<(Stored, Arc<AtomicBool>)> {
        let Some(held) = self.held.get(key) else { return self.descriptors.stored(key) };
        let (value, source) = (held.record.value.clone(), held.source.to_bytes());
        let stored = Stored { key: *key, value, source, since: held.since, own: held.place.is_none() };
        Some((stored, held.written.clone()))
    }

    /// Writes what is held under a key.
    fn store(&self, key: &RecordKey, reply: Reply) {
        let Some((stored, written)) = self.stored(key) else { return reply(Err(Refused::Full)) };
        let done = move |on_disk| {
            written.fetch_or(on_disk, Ordering::Release);
            reply(if on_disk { Ok(()) } else { Err(Refused::Disk) });
        };
        self.write(Write::Record(stored), Some(Box::new(done)));
    }

    fn write(&self, write: Write, done: Option<Done>) {
        match (&self.disk, done) {
            (Some(disk), done) => disk.write(write, done),
            (None, Some(done)) => done(true),
            (None, None) => {}
        }
    }
}

fn identity(set: &CheckedSet) -> Option<IdentityId> {
    set.account.as_ref().map(|account| account.record().identity)
}

fn record_key(key: &kad::RecordKey) -> Option<RecordKey> {
    key.as_ref().try_into().ok().map(RecordKey)
}

impl RecordStore for Records {
    type RecordsIter<'a> = Box<dyn Iterator<Item = Cow<'a, kad::Record>> + 'a>;
    type ProvidedIter<'a> = std::iter::Empty<Cow<'a, kad::ProviderRecord>>;

    fn get(&self, key: &kad::RecordKey) -> Option<Cow<'_, kad::Record>> {
        let key = record_key(key)?;
        match self.held.get(&key) {
            Some(held) => held.served(),
            None => self.descriptors.served(&key, wall_clock()),
        }
    }

    /// Kademlia itself never calls this with a stranger's record (they come through [`Records::offer`]). It takes
    /// what needs no proof or has a proven one, and refuses the rest.
    fn put(&mut self, record: kad::Record) -> kad_store::Result<()> {
        let now = wall_clock();
        let Some(key) = record_key(&record.key) else { return Err(kad_store::Error::ValueTooLarge) };
        let Ok(set) = record::check(&key, &record.value, now) else {
            return Err(kad_store::Error::ValueTooLarge);
        };
        let proven = set.proof_task().is_none_or(|task| self.verdicts.get(&task) == Some(true));
        if !proven || Self::merge(self.held.get(&key), &set, now).is_err() {
            return Err(kad_store::Error::MaxRecords);
        }
        let (bytes, source, reply) = (Vec::new(), Source::Local, Box::new(|_: Result<(), Refused>| ()));
        self.commit(&set, Offer { key, bytes, source, own: false, reply }, now);
        Ok(())
    }

    fn remove(&mut self, key: &kad::RecordKey) {
        if let Some(key) = record_key(key) {
            self.drop_key(&key);
        }
    }

    /// Kademlia asks when it hands records on.
    fn records(&self) -> Self::RecordsIter<'_> {
        if !self.hand_on {
            return Box::new(std::iter::empty());
        }
        Box::new(self.held.values().filter_map(Held::served).chain(self.descriptors.all(wall_clock())))
    }

    /// Provider records aren't part of this network.
    fn add_provider(&mut self, _: kad::ProviderRecord) -> kad_store::Result<()> {
        Err(kad_store::Error::MaxProvidedKeys)
    }

    fn providers(&self, _: &kad::RecordKey) -> Vec<kad::ProviderRecord> {
        Vec::new()
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        std::iter::empty()
    }

    fn remove_provider(&mut self, _: &kad::RecordKey, _: &PeerId) {}
}
