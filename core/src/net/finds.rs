//! Record sets under examination, as strangers send them: what is cheap to check at once, the slow proofs beside each
//! other.
//!
//! A proof runs once, however many sent the set it belongs to. How many run at a time is bounded for all of this
//! node's look-ups together ([`Verdicts`]); so a bad one costs its own time and holds nobody else's up.

use std::collections::HashMap;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use offhook_proto::identity::IdentityId;
use offhook_proto::number::RecordKey;
use offhook_proto::proof::ProofTask;
use offhook_proto::record::{self, CheckedSet, RecordError};
use thiserror::Error;

use super::store::Verdicts;
use crate::clock::wall_clock;

/// Keys claimed for one number that are followed; more are noise.
const MAX_IDENTITIES: usize = 4;

/// Proofs looked at for one number: a little more than nodes of the DHT are asked. Sets that come with further ones are
/// dropped.
const MAX_PROOFS: usize = 64;

/// Sets that wait for the same proof; further ones are dropped.
const MAX_WAITING: usize = 64;

/// Why a set is not looked at any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Unfit {
    /// It is malformed, forged, expired or of another number.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// It has no account record, so nothing says whose it is.
    #[error("there is no account record")]
    NoAccount,
    /// Its slow proof is known to fail.
    #[error("the proof does not fit")]
    Proof,
    /// Too many claims to one number.
    #[error("too many sets")]
    TooMany,
}

/// Sets whose proof has been run, with who sent each.
pub(super) struct Proved<T> {
    pub(super) valid: bool,
    pub(super) sets: Vec<(CheckedSet, T)>,
}

/// What is known of one number, and what is being found out. `T` says who sent a set.
pub(super) struct Finds<T> {
    key: RecordKey,
    verdicts: Verdicts,
    known: Vec<CheckedSet>,
    waiting: HashMap<ProofTask, Vec<(CheckedSet, T)>>,
    proving: FuturesUnordered<BoxFuture<'static, (ProofTask, bool)>>,
    proofs: usize,
}

impl<T> Finds<T> {
    pub(super) fn new(key: RecordKey, verdicts: Verdicts) -> Self {
        Self {
            key,
            verdicts,
            known: Vec::new(),
            waiting: HashMap::new(),
            proving: FuturesUnordered::new(),
            proofs: 0,
        }
    }

    /// Of what.
    pub(super) fn key(&self) -> &RecordKey {
        &self.key
    }

    /// Takes what somebody sent, unless it is bad at first sight. It comes out of [`Finds::next`].
    pub(super) fn offer(&mut self, bytes: &[u8], from: T) -> Result<(), Unfit> {
        let set = record::check(&self.key, bytes, wall_clock())?;
        let task = set.proof_task().ok_or(Unfit::NoAccount)?;
        if self.verdicts.get(&task) == Some(false) {
            return Err(Unfit::Proof);
        }
        if let Some(waiting) = self.waiting.get_mut(&task) {
            if waiting.len() >= MAX_WAITING {
                return Err(Unfit::TooMany);
            }
            waiting.push((set, from));
            return Ok(());
        }
        // A proof that is known takes nothing; only those that have to be run count.
        let new = self.verdicts.get(&task).is_none();
        if new && self.proofs >= MAX_PROOFS {
            return Err(Unfit::TooMany);
        }
        self.proofs += usize::from(new);
        self.waiting.insert(task.clone(), vec![(set, from)]);
        let verdicts = self.verdicts.clone();
        self.proving.push(Box::pin(async move {
            let valid = verdicts.verify(task.clone()).await;
            (task, valid)
        }));
        Ok(())
    }

    /// The next sets whose proof has been run; `None` when there is nothing to wait for.
    pub(super) async fn next(&mut self) -> Option<Proved<T>> {
        let (task, valid) = self.proving.next().await?;
        Some(Proved { valid, sets: self.waiting.remove(&task).unwrap_or_default() })
    }

    /// Whether nothing is being proved.
    pub(super) fn is_idle(&self) -> bool {
        self.proving.is_empty()
    }

    /// What is known, one set for each identity.
    pub(super) fn known(&self) -> &[CheckedSet] {
        &self.known
    }

    /// Adds a proven set to what is known of its identity. Returns all of that, and whether it is more than before; `None`
    /// if it is not followed.
    pub(super) fn add(&mut self, set: &CheckedSet) -> Option<(CheckedSet, bool)> {
        let identity = owner(set)?;
        let index = self.known.iter().position(|known| owner(known) == Some(identity));
        let held = index.and_then(|index| self.known.get(index));
        let (set, news) = match (record::merge(held, set, wall_clock()), held) {
            (Ok(merged), _) => (merged.set, merged.changed),
            // Older than what is known.
            (Err(_), Some(held)) => (held.clone(), false),
            (Err(_), None) => return None,
        };
        match index {
            Some(index) => self.known[index] = set.clone(),
            None if self.known.len() >= MAX_IDENTITIES => return None,
            None => self.known.push(set.clone()),
        }
        Some((set, news))
    }
}

fn owner(set: &CheckedSet) -> Option<IdentityId> {
    set.account.as_ref().map(|account| account.record().identity)
}

#[cfg(test)]
mod tests;
