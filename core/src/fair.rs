//! A bounded queue in which sources take turns.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Jobs of several sources. Each source's oldest comes in turn, so that a flood from one delays only itself; and where
/// there is no more room, the source that has most gives way.
pub(crate) struct FairQueue<K, J> {
    waiting: HashMap<K, VecDeque<J>>,
    turns: VecDeque<K>,
    len: usize,
    max: usize,
    max_per_source: usize,
}

impl<K: Clone + Eq + Hash, J> FairQueue<K, J> {
    /// A queue of at most `max` jobs, `max_per_source` of them from one source.
    pub(crate) fn new(max: usize, max_per_source: usize) -> Self {
        Self { waiting: HashMap::new(), turns: VecDeque::new(), len: 0, max, max_per_source }
    }

    /// Adds a job. Gives back the one for which there is no room: this one if its source has its share, or as much as
    /// any other; otherwise the newest of the source that has most.
    pub(crate) fn push(&mut self, source: K, job: J) -> Option<J> {
        let mine = self.waiting.get(&source).map_or(0, VecDeque::len);
        if mine >= self.max_per_source {
            return Some(job);
        }
        let mut gone = None;
        if self.len >= self.max {
            let most = self.waiting.iter().max_by_key(|(_, jobs)| jobs.len());
            match most.filter(|(_, jobs)| jobs.len() > mine + 1).map(|(source, _)| source.clone()) {
                Some(most) => gone = self.take_newest(&most),
                None => return Some(job),
            }
        }
        self.waiting.entry(source.clone()).or_default().push_back(job);
        if mine == 0 {
            self.turns.push_back(source);
        }
        self.len += 1;
        gone
    }

    /// Whether a job of this source would be taken without another of it waiting too long: its share is not used up.
    pub(crate) fn has_room(&self, source: &K) -> bool {
        self.waiting.get(source).map_or(0, VecDeque::len) < self.max_per_source
    }

    /// The next job: each source's oldest in turn.
    pub(crate) fn pop(&mut self) -> Option<J> {
        let source = self.turns.pop_front()?;
        let jobs = self.waiting.get_mut(&source)?;
        let job = jobs.pop_front();
        if jobs.is_empty() {
            self.waiting.remove(&source);
        } else {
            self.turns.push_back(source);
        }
        self.len -= usize::from(job.is_some());
        job
    }

    /// Takes out what `wanted` is true for, in no particular order.
    pub(crate) fn extract(&mut self, wanted: impl Fn(&J) -> bool) -> Vec<J> {
        let mut out = Vec::new();
        self.waiting.retain(|_, jobs| {
            let (gone, kept): (VecDeque<J>, _) = std::mem::take(jobs).into_iter().partition(&wanted);
            *jobs = kept;
            out.extend(gone);
            !jobs.is_empty()
        });
        self.turns.retain(|source| self.waiting.contains_key(source));
        self.len -= out.len();
        out
    }

    /// Jobs that wait.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Of a source that has more than one.
    fn take_newest(&mut self, source: &K) -> Option<J> {
        let job = self.waiting.get_mut(source)?.pop_back();
        self.len -= usize::from(job.is_some());
        job
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_take_turns_and_have_shares() {
        let mut queue = FairQueue::new(100, 10);
        let refused = (0..50).filter(|n| queue.push("flood", *n).is_some()).count();
        assert_eq!(refused, 40);
        assert_eq!(queue.push("other", 1000), None);
        assert_eq!(queue.pop(), Some(0));
        assert_eq!(queue.pop(), Some(1000), "the second source need not wait for the flood");
        assert_eq!(queue.pop(), Some(1));
        assert_eq!(queue.len(), 8);
    }

    #[test]
    fn the_whole_queue_is_bounded() {
        let mut queue = FairQueue::new(5, 2);
        let taken = (0..100).filter(|n| queue.push(*n, *n).is_none()).count();
        assert_eq!(taken, 5);
        assert_eq!(std::iter::from_fn(|| queue.pop()).count(), 5);
        assert_eq!(queue.len(), 0);
        assert!(queue.waiting.is_empty() && queue.turns.is_empty());
    }

    #[test]
    fn what_is_taken_out_leaves_the_others_their_turns() {
        let mut queue = FairQueue::new(10, 10);
        for (source, job) in [("a", 1), ("b", 2), ("a", 3), ("c", 4), ("b", 6)] {
            assert_eq!(queue.push(source, job), None);
        }
        let mut even = queue.extract(|job| job % 2 == 0);
        even.sort_unstable();
        assert_eq!((even, queue.len()), (vec![2, 4, 6], 2));
        assert_eq!(queue.push("b", 8), None);
        assert_eq!(std::iter::from_fn(|| queue.pop()).collect::<Vec<_>>(), [1, 8, 3]);
        assert!(queue.waiting.is_empty() && queue.turns.is_empty());
    }

    /// A few sources that fill the queue together keep nobody else out.
    #[test]
    fn a_newcomer_takes_the_place_of_who_has_most() {
        let mut queue = FairQueue::new(8, 4);
        for n in 0..4 {
            assert_eq!((queue.push("a", n), queue.push("b", 10 + n)), (None, None));
        }
        assert_eq!(queue.push("a", 4), Some(4), "more than its share");
        assert!(matches!(queue.push("c", 20), Some(3 | 13)), "the newest of a or b");
        assert!(matches!(queue.push("d", 30), Some(3 | 13)));
        assert_eq!(queue.len(), 8);
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order[..4], [0, 10, 20, 30]);
        assert_eq!(order.len(), 8);
    }
}
