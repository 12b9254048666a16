//! One query of the DHT for whoever asks this serving node to make it. All who ask for the same key share it.

use std::time::Duration;

use offhook_proto::descriptor::{Descriptor, SignedDescriptor};
use offhook_proto::number::RecordKey;
use offhook_proto::record::CheckedSet;
use tokio::sync::mpsc;
use tracing::debug;

use super::codec::{MAX_SOUGHT, MAX_SOUGHT_BYTES, Response, Sought, SoughtSet, Want};
use super::command::DhtAnswer;
use super::finds::{Finds, Proved};
use crate::clock::wall_clock;

/// Nodes whose answers are kept to count who holds what: more than a query asks. Further ones are not counted.
const MAX_COUNTED: usize = 64;

/// How long the last proofs may take once the query is over.
const LAST_PROOFS: Duration = Duration::from_millis(500);

/// Somebody who waits for an answer.
pub(super) struct Asker {
    pub(super) want: Want,
    pub(super) reply: Box<dyn FnOnce(Response) + Send>,
}

/// See the [module](self).
pub(super) struct Seek {
    finds: Finds<()>,
    /// Whether this node is the whole DHT, as far as anybody knows: then its word is complete.
    alone: bool,
    /// The first set whose signatures hold.
    first: Option<Vec<u8>>,
    /// The latest descriptor, if it is a directory's key, and how many served it.
    descriptor: Option<(Descriptor, Vec<u8>, u32)>,
    /// What each node serves, proven.
    served: Vec<CheckedSet>,
    waiting: Vec<Asker>,
    answered: u32,
    complete: bool,
}

impl Seek {
    pub(super) fn new(finds: Finds<()>, alone: bool, first: Asker) -> Self {
        Self {
            finds,
            alone,
            first: None,
            descriptor: None,
            served: Vec::new(),
            waiting: vec![first],
            answered: 0,
            complete: false,
        }
    }

    /// Runs until the query is over and everybody has been answered. As many as the channel of `askers` takes can wait,
    /// and as many in it; whoever finds it closed has to begin anew.
    pub(super) async fn run(mut self, mut dht: mpsc::Receiver<DhtAnswer>, mut askers: mpsc::Receiver<Asker>) {
        loop {
            let room = self.waiting.len() < askers.max_capacity();
            tokio::select! {
                answer = dht.recv() => match answer {
                    Some(DhtAnswer::Record(bytes)) => self.on_record(&bytes),
                    Some(DhtAnswer::End { complete, answered }) => {
                        self.answered = u32::try_from(answered).unwrap_or(u32::MAX);
                        self.complete = complete || self.alone;
                        break;
                    }
                    // Too many queries run.
                    None => break,
                },
                Some(proved) = self.finds.next() => self.on_proved(proved),
                Some(asker) = askers.recv(), if room => self.on_asker(asker),
            }
        }
        let last = async {
            while let Some(proved) = self.finds.next().await {
                self.on_proved(proved);
            }
        };
        let _ = tokio::time::timeout(LAST_PROOFS, last).await;
        askers.close();
        while let Ok(asker) = askers.try_recv() {
            self.on_asker(asker);
        }
        // Whoever waits for a find still waits in vain.
        let outcome = self.outcome();
        for asker in self.waiting {
            (asker.reply)(Response::Sought(outcome.clone()));
        }
    }

    fn on_record(&mut self, bytes: &[u8]) {
        if let Some(found) = read_descriptor(self.finds.key(), bytes) {
            return self.on_descriptor(found, bytes);
        }
        if let Err(error) = self.finds.offer(bytes, ()) {
            return debug!(%error, "a node serves a bad record");
        }
        if self.first.is_none() {
            self.first = Some(bytes.to_vec());
            self.answer(Want::First, bytes);
        }
    }

    /// A directory's descriptor needs no slow proof.
    fn on_descriptor(&mut self, found: Descriptor, bytes: &[u8]) {
        match &mut self.descriptor {
            Some((held, _, holders)) if *held == found => *holders += 1,
            Some((held, ..)) if !found.is_newer_than(held) => {}
            Some(_) | None => self.descriptor = Some((found, bytes.to_vec(), 1)),
        }
        if self.first.is_none() {
            self.first = Some(bytes.to_vec());
            self.answer(Want::First, bytes);
            self.answer(Want::Proven, bytes);
        }
    }

    fn on_proved(&mut self, proved: Proved<()>) {
        for (set, ()) in proved.sets.into_iter().filter(|_| proved.valid) {
            let first = self.finds.known().is_empty();
            if self.finds.add(&set).is_some() && self.served.len() < MAX_COUNTED {
                self.served.push(set.clone());
            }
            if first {
                self.answer(Want::Proven, &set.to_set().encode());
            }
        }
    }

    /// Answers at once what is known already.
    fn on_asker(&mut self, asker: Asker) {
        let known = match asker.want {
            Want::First => self.first.clone(),
            Want::Proven if self.descriptor.is_some() => self.first.clone(),
            Want::Proven => self.finds.known().first().map(|set| set.to_set().encode()),
            Want::All => None,
        };
        match known {
            Some(set) => (asker.reply)(Response::Sought(self.find(set))),
            None => self.waiting.push(asker),
        }
    }

    fn answer(&mut self, wanted: Want, set: &[u8]) {
        let told: Vec<Asker> = self.waiting.extract_if(.., |asker| asker.want == wanted).collect();
        for asker in told {
            (asker.reply)(Response::Sought(self.find(set.to_vec())));
        }
    }

    /// What is told of one find while the query runs.
    fn find(&self, set: Vec<u8>) -> Sought {
        let sets = vec![SoughtSet { set, holders: Vec::new() }];
        Sought { sets, complete: false, answered: self.answered }
    }

    /// What is told at the end.
    fn outcome(&self) -> Sought {
        if let Some((_, set, holders)) = &self.descriptor {
            let sets = vec![SoughtSet { set: set.clone(), holders: vec![*holders] }];
            return Sought { sets, complete: self.complete, answered: self.answered };
        }
        let mut sets: Vec<SoughtSet> = self.finds.known().iter().map(|set| self.counted(set)).collect();
        sets.sort_by_key(|set| std::cmp::Reverse(set.holders.first().copied()));
        sets.truncate(MAX_SOUGHT);
        let mut room = MAX_SOUGHT_BYTES;
        sets.retain(|set| match room.checked_sub(set.set.len()) {
            Some(rest) => {
                room = rest;
                true
            }
            None => false,
        });
        Sought { sets, complete: self.complete, answered: self.answered }
    }

    fn counted(&self, set: &CheckedSet) -> SoughtSet {
        let mut holders = vec![self.count(|served| served.account == set.account)];
        holders.extend(set.terminals.iter().map(|terminal| self.count(|s| s.terminals.contains(terminal))));
        SoughtSet { set: set.to_set().encode(), holders }
    }

    fn count(&self, serves: impl Fn(&CheckedSet) -> bool) -> u32 {
        u32::try_from(self.served.iter().filter(|served| serves(served)).count()).unwrap_or(u32::MAX)
    }
}

/// What lies under a directory's key, if that is what these bytes are.
fn read_descriptor(key: &RecordKey, bytes: &[u8]) -> Option<Descriptor> {
    SignedDescriptor::from_bytes(bytes).ok()?.verify_stored(key, wall_clock()).ok()
}

#[cfg(test)]
mod tests;
