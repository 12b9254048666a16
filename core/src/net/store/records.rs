//! The store itself: offers, verdicts, expiry, and Kademlia's view of it.

use std::borrow::Cow;
use std::collections::{HashMap, hash_map};

use libp2p::PeerId;
use libp2p::kad;
use libp2p::kad::store::{self as kad_store, RecordStore};
use offhook_proto::number::RecordKey;
use offhook_proto::proof::ProofTask;
use offhook_proto::record::{self, CheckedSet, RecordError};
use offhook_proto::wire::UnixMillis;
use thiserror::Error;

use super::disk::{Disk, Done, Loaded, Stored, Write};
use super::proofs::{Queue, Verdicts};
use super::shares::{Place, Room, Shares};
use crate::clock::wall_clock;
use crate::net::addr::Source;
use crate::net::config::Limits;

/// Why the store doesn't take a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(in crate::net) enum Refused {
    /// The record is not acceptable.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The slow proof fails.
    #[error("the number's proof does not fit")]
    Proof,
    /// No room, or too much is waiting already.
    #[error("the store is full")]
    Full,
    /// The disk failed; the record is held in memory only.
    #[error("the record could not be written")]
    Disk,
}

/// Told once the fate of an offer is known: accepted means verified, merged and on disk.
pub(in crate::net) type Reply = Box<dyn FnOnce(Result<(), Refused>) + Send>;

/// A record set that somebody wants held.
pub(in crate::net) struct Offer {
    /// Under which key.
    pub(in crate::net) key: RecordKey,
    /// The encoded set.
    pub(in crate::net) bytes: Vec<u8>,
    /// Whom to count it against.
    pub(in crate::net) source: Source,
    /// Whether it is this node's own number: never gives way, is served by terminals too.
    pub(in crate::net) own: bool,
    /// Told what became of it.
    pub(in crate::net) reply: Reply,
}

/// An offer whose proof is waiting or being run.
pub(in crate::net) struct Job {
    set: CheckedSet,
    task: ProofTask,
    source: Source,
    own: bool,
    reply: Reply,
}

/// One key's records.
pub(in crate::net) struct Held {
    set: CheckedSet,
    /// The same in Kademlia's form. Its expiry stays empty: the signed ones count.
    record: kad::Record,
    /// When the account's identity was first seen under this number.
    since: UnixMillis,
    source: Source,
    /// Where it is counted; `None` for own records.
    place: Option<Place>,
}

/// All records held. See the [module](super).
pub(in crate::net) struct Records {
    held: HashMap<RecordKey, Held>,
    shares: Shares,
    verdicts: Verdicts,
    queue: Queue<Job>,
    working: Option<Job>,
    disk: Option<Disk>,
}

impl Records {
    /// A store with what was on disk. Signatures and expiry are checked anew; proofs were run before writing.
    pub(in crate::net) fn new(
        limits: &Limits,
        verdicts: Verdicts,
        disk: Option<Disk>,
        loaded: Loaded,
        now: UnixMillis,
    ) -> Self {
        let mut records = Self {
            held: HashMap::new(),
            shares: Shares::new(limits),
            verdicts,
            queue: Queue::new(limits.proof_queue.max(16), limits.proof_queue_per_source.max(16)),
            working: None,
            disk,
        };
        for stored in loaded.records {
            records.load(stored, now);
        }
        records
    }

    fn load(&mut self, stored: Stored, now: UnixMillis) {
        let checked = record::check(&stored.key, &stored.value, now)
            .and_then(|set| record::merge(None, &set, now))
            .map(|merged| merged.set);
        let source = Source::from_bytes(&stored.source).unwrap_or(Source::Relayed);
        let Ok(set) = checked else {
            self.write(Write::Remove(stored.key), None);
            return;
        };
        let bytes = set.to_set().encode();
        let place = match (stored.own, self.shares.room(source, bytes.len())) {
            (true, _) => None,
            (false, Room::Free) => Some(self.shares.add(source, stored.key, bytes.len())),
            // The limits were lowered since.
            (false, Room::Evict(_) | Room::None) => {
                self.write(Write::Remove(stored.key), None);
                return;
            }
        };
        if let Some(task) = set.proof_task() {
            self.verdicts.set(task, true);
        }
        let record = kad::Record::new(stored.key.0.to_vec(), bytes);
        self.held.insert(stored.key, Held { set, record, since: stored.since, source, place });
    }

    /// Takes a record set or says why not; see [`Reply`]. Anything slow happens later.
    pub(in crate::net) fn offer(&mut self, offer: Offer, now: UnixMillis) {
        let Offer { key, bytes, source, own, reply } = offer;
        let held = self.held.get(&key);
        let merged = record::check(&key, &bytes, now)
            .and_then(|set| record::merge(held.map(|held| &held.set), &set, now).map(|merged| (set, merged)));
        let (set, merged) = match merged {
            Ok(merged) => merged,
            Err(error) => return reply(Err(error.into())),
        };
        if !own && held.is_none() && self.shares.room(source, bytes.len()) == Room::None {
            return reply(Err(Refused::Full));
        }
        let proven = held.and_then(|held| held.set.proof_task());
        match set.proof_task().filter(|task| proven.as_ref() != Some(task)) {
            Some(task) if merged.changed || held.is_none() => {
                self.prove(Job { set, task, source, own, reply });
            }
            Some(_) | None => self.commit(&set, source, own, reply, now),
        }
    }

    /// Queues the proof unless its verdict is known.
    fn prove(&mut self, job: Job) {
        match self.verdicts.get(&job.task) {
            Some(false) => (job.reply)(Err(Refused::Proof)),
            // A good verdict is acted on in `next_proof`, in turn.
            Some(true) | None => {
                if let Err(job) = self.queue.push(job.source, job) {
                    (job.reply)(Err(Refused::Full));
                }
            }
        }
    }

    /// The next proof to run, if none is running. Offers whose proof is known by now are settled on the way.
    /// The caller runs it off this task and then calls [`Records::proved`].
    pub(in crate::net) fn next_proof(&mut self, now: UnixMillis) -> Option<ProofTask> {
        if self.working.is_some() {
            return None;
        }
        while let Some(job) = self.queue.pop() {
            match self.verdicts.get(&job.task) {
                Some(true) => self.commit(&job.set, job.source, job.own, job.reply, now),
                Some(false) => (job.reply)(Err(Refused::Proof)),
                None => {
                    let task = job.task.clone();
                    self.working = Some(job);
                    return Some(task);
                }
            }
        }
        None
    }

    /// The verdict on the proof that [`Records::next_proof`] gave out.
    pub(in crate::net) fn proved(&mut self, valid: bool, now: UnixMillis) {
        let Some(job) = self.working.take() else { return };
        self.verdicts.set(job.task, valid);
        if valid {
            self.commit(&job.set, job.source, job.own, job.reply, now);
        } else {
            (job.reply)(Err(Refused::Proof));
        }
    }

    /// Merges a set whose proof holds with what is held by now.
    fn commit(&mut self, set: &CheckedSet, source: Source, own: bool, reply: Reply, now: UnixMillis) {
        let key = *set.key();
        let held = self.held.get(&key);
        let merged = match record::merge(held.map(|held| &held.set), set, now) {
            Ok(merged) => merged,
            Err(error) => return reply(Err(error.into())),
        };
        let was_own = held.is_some_and(|held| held.place.is_none());
        if !merged.changed && (was_own || !own) {
            return self.acknowledge(reply);
        }
        let (source, since) = held.map_or((source, now), |held| {
            let same = identity(&held.set) == identity(&merged.set);
            (held.source, if same { held.since } else { now })
        });
        let bytes = merged.set.to_set().encode();
        let own = own || was_own;
        if let Some(place) = self.held.remove(&key).and_then(|held| held.place) {
            self.shares.remove(place);
        }
        let place = if own {
            None
        } else if self.make_room(source, bytes.len()) {
            Some(self.shares.add(source, key, bytes.len()))
        } else {
            self.write(Write::Remove(key), None);
            return reply(Err(Refused::Full));
        };
        let stored = Stored { key, value: bytes.clone(), source: source.to_bytes(), since, own };
        let record = kad::Record::new(key.0.to_vec(), bytes);
        self.held.insert(key, Held { set: merged.set, record, since, source, place });
        self.write(Write::Record(stored), Some(when_written(reply)));
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
        if let Some(held) = self.held.remove(key) {
            if let Some(place) = held.place {
                self.shares.remove(place);
            }
            self.write(Write::Remove(*key), None);
        }
    }

    /// Drops what has expired. To be called every minute or so; readers check expiry themselves.
    pub(in crate::net) fn sweep(&mut self, now: UnixMillis) {
        let stale: Vec<_> = self
            .held
            .iter()
            .filter(|(_, held)| held.set.pruned(now).as_ref() != Some(&held.set))
            .map(|(key, _)| *key)
            .collect();
        for key in stale {
            let Some(held) = self.held.get_mut(&key) else { continue };
            match held.set.pruned(now) {
                // Smaller than before; the share keeps counting the old size until the next refresh.
                Some(set) => {
                    held.record.value = set.to_set().encode();
                    held.set = set;
                }
                None => self.drop_key(&key),
            }
        }
    }

    /// What is held under a key, live at `now`, and since when its identity is known.
    pub(in crate::net) fn find(&self, key: &RecordKey, now: UnixMillis) -> Option<(CheckedSet, UnixMillis)> {
        let held = self.held.get(key)?;
        held.set.pruned(now).map(|set| (set, held.since))
    }

    /// Keys held, bytes held for others, proofs waiting.
    pub(in crate::net) fn totals(&self) -> (usize, usize, usize) {
        (self.held.len(), self.shares.totals().1, self.queue.len())
    }

    /// Acknowledges something that was merged before, but may still be on its way to the disk.
    fn acknowledge(&self, reply: Reply) {
        match &self.disk {
            Some(disk) => disk.write(Write::Flush, Some(when_written(reply))),
            None => reply(Ok(())),
        }
    }

    fn write(&self, write: Write, done: Option<Done>) {
        match (&self.disk, done) {
            (Some(disk), done) => disk.write(write, done),
            (None, Some(done)) => done(true),
            (None, None) => {}
        }
    }
}

fn when_written(reply: Reply) -> Done {
    Box::new(move |written| reply(if written { Ok(()) } else { Err(Refused::Disk) }))
}

fn identity(set: &CheckedSet) -> Option<offhook_proto::identity::IdentityId> {
    set.account.as_ref().map(|account| account.record().identity)
}

fn record_key(key: &kad::RecordKey) -> Option<RecordKey> {
    key.as_ref().try_into().ok().map(RecordKey)
}

impl RecordStore for Records {
    type RecordsIter<'a> =
        std::iter::Map<hash_map::Values<'a, RecordKey, Held>, fn(&'a Held) -> Cow<'a, kad::Record>>;
    type ProvidedIter<'a> = std::iter::Empty<Cow<'a, kad::ProviderRecord>>;

    fn get(&self, key: &kad::RecordKey) -> Option<Cow<'_, kad::Record>> {
        record_key(key).and_then(|key| self.held.get(&key)).map(|held| Cow::Borrowed(&held.record))
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
        let mergeable = record::merge(self.held.get(&key).map(|held| &held.set), &set, now).is_ok();
        if !proven || !mergeable {
            return Err(kad_store::Error::MaxRecords);
        }
        self.commit(&set, Source::Local, false, Box::new(|_| ()), now);
        Ok(())
    }

    fn remove(&mut self, key: &kad::RecordKey) {
        if let Some(key) = record_key(key) {
            self.drop_key(&key);
        }
    }

    fn records(&self) -> Self::RecordsIter<'_> {
        self.held.values().map(|held| Cow::Borrowed(&held.record))
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
