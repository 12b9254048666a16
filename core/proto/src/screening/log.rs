//! What did not ring, for the user to look at.

use std::collections::VecDeque;
use std::fmt;

use super::Reason;
use crate::identity::IdentityId;
use crate::number::Number;
use crate::wire::UnixMillis;

/// Entries that are kept: so many of contacts, and as many of strangers.
pub const MAX_LOGGED: usize = 128;

/// A call that did not ring, or several of the same caller for the same reason; of strangers in a flood, all of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// Who; `None` for a flood, whose identities are not worth keeping.
    pub identity: Option<IdentityId>,
    /// Under which number it said to be reached; of a stranger nothing but its word.
    pub number: Option<Number>,
    /// Whether it was a contact.
    pub contact: bool,
    /// Why.
    pub reason: Reason,
    /// When it was first, and last.
    pub first: UnixMillis,
    /// When it was last.
    pub last: UnixMillis,
    /// How often.
    pub count: u64,
}

impl fmt::Debug for Entry {
    /// Without the number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({:?}, {:?}, {} times)", self.identity, self.reason, self.count)
    }
}

/// The latest of them, bounded, contacts and strangers apart: the one that was last longest ago gives way.
#[derive(Clone, Debug, Default)]
pub struct Log {
    contacts: VecDeque<Entry>,
    strangers: VecDeque<Entry>,
}

impl Log {
    /// With what was noted before, of contacts and of strangers the latest one first.
    #[must_use]
    pub fn of(entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut log = Self::default();
        for entry in entries {
            let lane = if entry.contact { &mut log.contacts } else { &mut log.strangers };
            if lane.len() < MAX_LOGGED {
                lane.push_front(entry);
            }
        }
        log
    }

    /// Notes a call of somebody; of a flood, of nobody.
    pub(super) fn note(
        &mut self,
        contact: bool,
        who: Option<(IdentityId, &Number)>,
        reason: Reason,
        at: UnixMillis,
    ) {
        let identity = who.map(|(identity, _)| identity);
        let lane = if contact { &mut self.contacts } else { &mut self.strangers };
        let same = lane.iter().rposition(|entry| (entry.identity, entry.reason) == (identity, reason));
        let mut entry = same.and_then(|place| lane.remove(place)).unwrap_or(Entry {
            identity,
            number: None,
            contact,
            reason,
            first: at,
            last: at,
            count: 0,
        });
        entry.number = who.map(|(_, number)| number.clone());
        entry.last = at;
        entry.count = entry.count.saturating_add(1);
        while lane.len() >= MAX_LOGGED {
            lane.pop_front();
        }
        lane.push_back(entry);
    }

    /// All entries; of contacts and of strangers the latest one first.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.contacts.iter().rev().chain(self.strangers.iter().rev())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.contacts.len() + self.strangers.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
