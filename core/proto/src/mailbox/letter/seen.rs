//! Which letters have been taken, so that a directory that repeats one has repeated nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::{MAX_AGE, MessageId};
use crate::identity::IdentityId;
use crate::wire::{MAX_CLOCK_AHEAD, UnixMillis};

/// How a letter that came looks to who has taken others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// It is new.
    New,
    /// It has been taken before.
    Repeated,
    /// It is not newer than letters of its sender (or of strangers) that have been forgotten for want of room, so it may
    /// have been taken before. Whoever keeps letters in a database looks there.
    Uncertain,
}

/// The letters that have been taken, bounded.
///
/// A letter is named by its sender's identity and its id, as anybody can give his letter the id of another's. It is
/// remembered for as long as it could be opened again ([`MAX_AGE`]). Contacts and strangers have room of their own; in each,
/// the sender of most letters gives way first, with the oldest of them, so a flood of one sender's makes nobody else's
/// uncertain.
#[derive(Debug)]
pub struct Seen {
    pub(super) contacts: Lane,
    pub(super) strangers: Lane,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            contacts: Lane::new(Self::MAX_CONTACTS, Self::MAX_CONTACT_SENDERS),
            strangers: Lane::new(Self::MAX_STRANGERS, Self::MAX_STRANGER_SENDERS),
        }
    }
}

impl Seen {
    /// Letters of contacts that are remembered, about 8 MiB.
    pub const MAX_CONTACTS: usize = 65_536;
    /// Letters of strangers that are remembered.
    pub const MAX_STRANGERS: usize = 4_096;
    /// Contacts that are remembered: as many as there can be.
    pub const MAX_CONTACT_SENDERS: usize = 4_096;
    /// Strangers that are remembered.
    pub const MAX_STRANGER_SENDERS: usize = 1_024;

    /// How a letter of a contact or a stranger looks.
    #[must_use]
    pub fn look(&self, contact: bool, sender: &IdentityId, id: &MessageId, at: UnixMillis) -> Sighting {
        if self.has(sender, id) {
            return Sighting::Repeated;
        }
        if contact { self.contacts.look(sender, at) } else { self.strangers.look(sender, at) }
    }

    /// Whether a letter is known to have been taken: the one that another names as the one [before](super::Letter::after) it.
    #[must_use]
    pub fn has(&self, sender: &IdentityId, id: &MessageId) -> bool {
        self.contacts.has(sender, id) || self.strangers.has(sender, id)
    }

    /// Remembers a letter that is on disk now.
    pub fn take(
        &mut self,
        contact: bool,
        sender: IdentityId,
        id: MessageId,
        at: UnixMillis,
        now: UnixMillis,
    ) {
        if self.has(&sender, &id) {
            return;
        }
        let lane = if contact { &mut self.contacts } else { &mut self.strangers };
        lane.expire(now);
        lane.insert(sender, id, at);
    }

    /// How many are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.contacts.times.len() + self.strangers.times.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The letters of contacts, or of strangers.
#[derive(Debug)]
pub(super) struct Lane {
    max: usize,
    max_senders: usize,
    pub(super) senders: BTreeMap<IdentityId, Sender>,
    /// Senders by the number of their letters.
    counts: BTreeSet<(usize, IdentityId)>,
    /// All letters by time.
    times: BTreeSet<(UnixMillis, IdentityId, MessageId)>,
    /// Of senders that are not in `senders` letters until then may have been taken.
    floor: Option<UnixMillis>,
}

#[derive(Debug, Default)]
pub(super) struct Sender {
    letters: BTreeMap<MessageId, UnixMillis>,
    /// Letters until then may have been taken and forgotten.
    floor: Option<UnixMillis>,
}

impl Lane {
    fn new(max: usize, max_senders: usize) -> Self {
        Self {
            max,
            max_senders,
            senders: BTreeMap::new(),
            counts: BTreeSet::new(),
            times: BTreeSet::new(),
            floor: None,
        }
    }

    fn look(&self, sender: &IdentityId, at: UnixMillis) -> Sighting {
        let floor = self.senders.get(sender).map_or(self.floor, |of| of.floor);
        if floor.is_some_and(|floor| at <= floor) { Sighting::Uncertain } else { Sighting::New }
    }

    fn has(&self, sender: &IdentityId, id: &MessageId) -> bool {
        self.senders.get(sender).is_some_and(|of| of.letters.contains_key(id))
    }

    fn insert(&mut self, sender: IdentityId, id: MessageId, at: UnixMillis) {
        if !self.senders.contains_key(&sender) {
            while self.senders.len() >= self.max_senders {
                self.forget_sender();
            }
            // Whatever was forgotten of a sender may have been this one's.
            self.senders.insert(sender, Sender { letters: BTreeMap::new(), floor: self.floor });
        }
        self.change(&sender, |of| {
            of.letters.insert(id, at);
        });
        self.times.insert((at, sender, id));
        while self.times.len() > self.max {
            let Some((_, most)) = self.counts.last().copied() else { return };
            let letters = self.senders.get(&most).map(|of| &of.letters);
            let oldest = letters.and_then(|letters| letters.iter().min_by_key(|(id, at)| (**at, **id)));
            let Some((id, at)) = oldest.map(|(id, at)| (*id, *at)) else { return };
            self.remove(at, most, id);
            self.change(&most, |of| of.floor = of.floor.max(Some(at)));
        }
    }

    /// Forgets what could not be opened any more, and senders of whom nothing is left.
    fn expire(&mut self, now: UnixMillis) {
        // A clock that is set back by less than clocks may differ brings nothing back.
        let over = |at: UnixMillis| now.since(at) > MAX_AGE + MAX_CLOCK_AHEAD;
        while let Some((at, sender, id)) = self.times.first().copied().filter(|(at, ..)| over(*at)) {
            self.remove(at, sender, id);
            let empty = self.senders.get(&sender).is_some_and(|of| of.letters.is_empty());
            let floor = self.senders.get(&sender).and_then(|of| of.floor);
            if empty && floor.is_none_or(over) {
                self.counts.remove(&(0, sender));
                self.senders.remove(&sender);
            }
        }
    }

    fn remove(&mut self, at: UnixMillis, sender: IdentityId, id: MessageId) {
        self.times.remove(&(at, sender, id));
        self.change(&sender, |of| {
            of.letters.remove(&id);
        });
    }

    /// Changes what is known of a sender, and its place among the others.
    fn change(&mut self, sender: &IdentityId, change: impl FnOnce(&mut Sender)) {
        let Some(of) = self.senders.get_mut(sender) else { return };
        self.counts.remove(&(of.letters.len(), *sender));
        change(of);
        self.counts.insert((of.letters.len(), *sender));
    }

    /// Forgets the sender of fewest letters: who has many is the more likely to write again.
    fn forget_sender(&mut self) {
        let Some((count, sender)) = self.counts.pop_first() else { return };
        debug_assert_eq!(self.senders.get(&sender).map(|of| of.letters.len()), Some(count));
        let Some(of) = self.senders.remove(&sender) else { return };
        for (id, at) in &of.letters {
            self.times.remove(&(*at, sender, *id));
        }
        self.floor = self.floor.max(of.floor).max(of.letters.values().max().copied());
    }
}

/// A lane with other bounds.
#[cfg(test)]
pub(super) fn lane(max: usize, max_senders: usize) -> Lane {
    Lane::new(max, max_senders)
}
