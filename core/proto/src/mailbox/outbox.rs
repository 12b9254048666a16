//! When which letter is tried: the order, the pauses and the end.
//!
//! # Contract of [`Outbox`]
//!
//! Inputs: [`add`](Outbox::add), [`outcome`](Outbox::outcome), [`wake`](Outbox::wake). [`next`](Outbox::next) says what is to be tried now,
//! [`poll_timeout`](Outbox::poll_timeout) when there will be something. Letters to the same receiver are tried one after another in the
//! order of their times, so they arrive in order; those to others do not wait for them. Pauses double. Equal inputs give equal outputs; time
//! comes in and may go back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::letter::MessageId;
use super::{MAX_KEEP, days};
use crate::wire::UnixMillis;

/// Letters that wait at a time.
pub const MAX_WAITING: usize = 10_000;
/// Letters that are tried at a time, to different receivers.
pub const MAX_TRIED: usize = 4;
/// First and longest pause after a try that led to nothing.
pub const PAUSE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(1_800));
/// A letter is given up when it was tried for so long: as long as a directory keeps it.
pub const TRIED_FOR: Duration = MAX_KEEP;

/// What came of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is where it should be: on a terminal of the receiver, or at a directory.
    Done,
    /// Nobody could take it; later perhaps.
    Later,
    /// Nobody ever will.
    Never,
}

/// What becomes of a letter after a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is done with.
    Gone,
    /// It waits for the next try.
    Waits,
    /// It is given up.
    GivenUp,
}

/// No more letters may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many letters wait already")]
pub struct OutboxFull;

#[derive(Clone, Debug)]
struct Waiting<K> {
    to: K,
    written: UnixMillis,
    tries: u32,
    next: UnixMillis,
    tried: bool,
}

/// Letters that wait. `K` names receivers.
#[derive(Clone, Debug)]
pub struct Outbox<K> {
    letters: BTreeMap<MessageId, Waiting<K>>,
    /// Of each receiver by time.
    queues: BTreeMap<K, BTreeSet<(UnixMillis, MessageId)>>,
    tried: usize,
}

impl<K: Ord + Clone> Default for Outbox<K> {
    fn default() -> Self {
        Self { letters: BTreeMap::new(), queues: BTreeMap::new(), tried: 0 }
    }
}

impl<K: Ord + Clone> Outbox<K> {
    /// A letter to be tried from now on; one that waits already stays as it is.
    ///
    /// # Errors
    /// [`OutboxFull`].
    pub fn add(
        &mut self,
        id: MessageId,
        to: K,
        written: UnixMillis,
        now: UnixMillis,
    ) -> Result<(), OutboxFull> {
        if self.letters.contains_key(&id) {
            return Ok(());
        }
        if self.letters.len() >= MAX_WAITING {
            return Err(OutboxFull);
        }
        self.queues.entry(to.clone()).or_default().insert((written, id));
        self.letters.insert(id, Waiting { to, written, tries: 0, next: now, tried: false });
        Ok(())
    }

    /// The next letter to be tried. It counts as being tried until its [`outcome`](Self::outcome).
    pub fn next(&mut self, now: UnixMillis) -> Option<MessageId> {
        if self.tried >= MAX_TRIED {
            return None;
        }
        let due = self.firsts().filter(|id| self.letters.get(id).is_some_and(|letter| letter.is_due(now)));
        let next = due.min_by_key(|id| self.letters.get(id).map(|letter| (letter.next, letter.written)))?;
        self.letters.get_mut(&next)?.tried = true;
        self.tried += 1;
        Some(next)
    }

    /// What came of a try.
    pub fn outcome(&mut self, id: &MessageId, outcome: Outcome, now: UnixMillis) -> Verdict {
        let Some(letter) = self.letters.get_mut(id) else { return Verdict::Gone };
        if std::mem::take(&mut letter.tried) {
            self.tried -= 1;
        }
        let verdict = match outcome {
            Outcome::Done => Verdict::Gone,
            Outcome::Never => Verdict::GivenUp,
            Outcome::Later if now.since(letter.written) > TRIED_FOR => Verdict::GivenUp,
            Outcome::Later => {
                let pause = PAUSE.0.saturating_mul(2_u32.saturating_pow(letter.tries)).min(PAUSE.1);
                letter.tries = letter.tries.saturating_add(1);
                letter.next = now.plus(pause);
                return Verdict::Waits;
            }
        };
        self.remove(id);
        verdict
    }

    /// Something is better than it was: the network is back, or a receiver has been heard of. All letters, or those to one receiver,
    /// are tried soon.
    pub fn wake(&mut self, to: Option<&K>, now: UnixMillis) {
        for letter in self.letters.values_mut().filter(|letter| to.is_none_or(|to| letter.to == *to)) {
            letter.tries = 0;
            letter.next = now;
        }
    }

    /// When there is something to try; nothing while as many are tried as may be.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<UnixMillis> {
        if self.tried >= MAX_TRIED {
            return None;
        }
        self.firsts().filter_map(|id| self.letters.get(&id)).map(|letter| letter.next).min()
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.letters.len()
    }

    /// Whether none does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    /// The oldest letter to each receiver, unless one is on its way there: a clock that was set back makes a newer one the older.
    fn firsts(&self) -> impl Iterator<Item = MessageId> + '_ {
        let is_tried = |id: &MessageId| self.letters.get(id).is_some_and(|letter| letter.tried);
        let free = self.queues.values().filter(move |queue| !queue.iter().any(|(_, id)| is_tried(id)));
        free.filter_map(|queue| queue.first()).map(|(_, id)| *id)
    }

    fn remove(&mut self, id: &MessageId) {
        let Some(letter) = self.letters.remove(id) else { return };
        if let Some(queue) = self.queues.get_mut(&letter.to) {
            queue.remove(&(letter.written, *id));
            if queue.is_empty() {
                self.queues.remove(&letter.to);
            }
        }
    }
}

impl<K> Waiting<K> {
    fn is_due(&self, now: UnixMillis) -> bool {
        // A clock that was set back makes nobody wait for longer than the longest pause.
        !self.tried && (self.next <= now || self.next.since(now) > PAUSE.1)
    }
}

const _: () = assert!(days(1).as_secs() > PAUSE.1.as_secs(), "a letter is tried many times");

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn id(n: u16) -> MessageId {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        MessageId::from_bytes(bytes)
    }

    fn later(seconds: u64) -> UnixMillis {
        NOW.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn p12_letters_to_one_receiver_go_in_order_and_to_others_beside_them() {
        let mut outbox = Outbox::default();
        for (n, to) in [(2, "ada"), (1, "ada"), (3, "bob")] {
            outbox.add(id(n), to, later(u64::from(n)), NOW).unwrap();
        }
        assert_eq!([outbox.next(NOW), outbox.next(NOW), outbox.next(NOW)], [Some(id(1)), Some(id(3)), None]);
        assert_eq!(outbox.outcome(&id(1), Outcome::Later, NOW), Verdict::Waits);
        assert_eq!(outbox.next(NOW), None, "the second does not overtake the first");
        assert_eq!(outbox.poll_timeout(), Some(later(5)));
        assert_eq!(outbox.next(later(5)), Some(id(1)));
        assert_eq!(outbox.outcome(&id(1), Outcome::Done, later(6)), Verdict::Gone);
        assert_eq!(outbox.next(later(6)), Some(id(2)));
    }

    #[test]
    fn pauses_grow_until_somebody_is_back_or_the_time_is_over() {
        let mut outbox = Outbox::default();
        outbox.add(id(1), "ada", NOW, NOW).unwrap();
        let mut now = NOW;
        let mut pauses = Vec::new();
        for _ in 0..12 {
            assert_eq!(outbox.next(now), Some(id(1)));
            assert_eq!(outbox.outcome(&id(1), Outcome::Later, now), Verdict::Waits);
            let next = outbox.poll_timeout().unwrap();
            pauses.push(next.since(now));
            now = next;
        }
        assert!(pauses.is_sorted() && pauses.first() == Some(&PAUSE.0) && pauses.last() == Some(&PAUSE.1));
        assert_eq!(outbox.next(now), Some(id(1)));
        outbox.outcome(&id(1), Outcome::Later, now);
        outbox.wake(Some(&"bob"), now);
        assert_eq!(outbox.next(now), None);
        outbox.wake(Some(&"ada"), now);
        assert_eq!(outbox.next(now), Some(id(1)));
        let over = NOW.plus(TRIED_FOR + Duration::from_secs(1));
        assert_eq!(outbox.outcome(&id(1), Outcome::Later, over), Verdict::GivenUp);
        assert!(outbox.is_empty() && outbox.poll_timeout().is_none());
    }

    #[test]
    fn a_clock_that_is_set_back_keeps_no_letter_waiting() {
        let mut outbox = Outbox::default();
        outbox.add(id(1), "ada", NOW, later(86_400)).unwrap();
        assert_eq!(outbox.next(NOW), Some(id(1)));
    }

    proptest! {
        /// Whatever comes: bounds hold, nothing is lost, and a receiver has one letter on its way at a time, the oldest.
        #[test]
        fn nothing_is_lost_and_order_is_kept(steps in prop::collection::vec((0_u8..4, 0_u16..30, 0_u8..3), 1..200)) {
            let mut outbox = Outbox::default();
            let (mut now, mut out) = (NOW, Vec::<(MessageId, u8)>::new());
            let mut known = BTreeMap::new();
            for (step, n, to) in steps {
                now = now.plus(Duration::from_secs(3));
                match step {
                    0 => {
                        outbox.add(id(n), to, later(u64::from(n)), now).unwrap();
                        known.entry(id(n)).or_insert((later(u64::from(n)), to));
                    }
                    1 => {
                        if let Some(next) = outbox.next(now) {
                            let (written, to) = known[&next];
                            prop_assert!(!out.iter().any(|(_, other)| *other == to));
                            prop_assert!(known.values().all(|(at, of)| *of != to || *at >= written));
                            out.push((next, to));
                        }
                    }
                    _ => {
                        if let Some((id, _)) = out.pop() {
                            let outcome = if step == 2 { Outcome::Done } else { Outcome::Later };
                            if outbox.outcome(&id, outcome, now) != Verdict::Waits {
                                known.remove(&id);
                            }
                        }
                    }
                }
                prop_assert_eq!(outbox.len(), known.len());
                prop_assert!(out.len() <= MAX_TRIED);
            }
        }
    }
}
