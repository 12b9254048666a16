//! Slow proofs: what is known of them, and a queue that serves everybody in turn.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use offhook_proto::proof::ProofTask;
use tokio::sync::Semaphore;

use crate::net::addr::Source;

/// Verdicts remembered, good and bad ones. The oldest is forgotten first; then the proof is run again.
const MAX_VERDICTS: usize = 16_384;

/// Proofs that look-ups check at the same time; each takes 8 MiB and some milliseconds of one core.
const LOOKUP_WORKERS: usize = 2;

/// What is known about proofs, shared by the store and the look-ups.
#[derive(Clone)]
pub(in crate::net) struct Verdicts {
    known: Arc<Mutex<Known>>,
    workers: Arc<Semaphore>,
}

#[derive(Default)]
struct Known {
    verdicts: HashMap<ProofTask, bool>,
    order: VecDeque<ProofTask>,
}

impl Default for Verdicts {
    fn default() -> Self {
        Self { known: Arc::default(), workers: Arc::new(Semaphore::new(LOOKUP_WORKERS)) }
    }
}

impl Verdicts {
    /// The verdict, if the proof has been run before.
    pub(in crate::net) fn get(&self, task: &ProofTask) -> Option<bool> {
        self.lock().verdicts.get(task).copied()
    }

    /// Remembers a verdict.
    pub(in crate::net) fn set(&self, task: ProofTask, valid: bool) {
        let mut known = self.lock();
        if known.verdicts.insert(task.clone(), valid).is_none() {
            known.order.push_back(task);
        }
        if known.order.len() > MAX_VERDICTS
            && let Some(oldest) = known.order.pop_front()
        {
            known.verdicts.remove(&oldest);
        }
    }

    /// Runs the proof here and now, which takes milliseconds, unless its verdict is known.
    pub(super) fn run(&self, task: &ProofTask) -> bool {
        self.get(task).unwrap_or_else(|| {
            let valid = task.run();
            self.set(task.clone(), valid);
            valid
        })
    }

    /// Runs the proof, on a thread for blocking work, unless its verdict is known.
    pub(in crate::net) async fn verify(&self, task: ProofTask) -> bool {
        if let Some(valid) = self.get(&task) {
            return valid;
        }
        // The semaphore is never closed.
        let Ok(_permit) = self.workers.acquire().await else { return false };
        if let Some(valid) = self.get(&task) {
            return valid;
        }
        let run = task.clone();
        let valid = tokio::task::spawn_blocking(move || run.run()).await.unwrap_or(false);
        self.set(task, valid);
        valid
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What waits for the store's one worker. Sources take turns, so that a flood from one delays only itself.
pub(super) struct Queue<J> {
    waiting: HashMap<Source, VecDeque<J>>,
    turns: VecDeque<Source>,
    /// This node's own, which waits for nobody.
    own: VecDeque<J>,
    len: usize,
    max: usize,
    max_per_source: usize,
}

impl<J> Queue<J> {
    pub(super) fn new(max: usize, max_per_source: usize) -> Self {
        Self {
            waiting: HashMap::new(),
            turns: VecDeque::new(),
            own: VecDeque::new(),
            len: 0,
            max,
            max_per_source,
        }
    }

    /// Adds a job, or gives it back when the queue or the source's share of it is full.
    pub(super) fn push(&mut self, source: Source, job: J) -> Result<(), J> {
        let mine = self.waiting.get(&source).map_or(0, VecDeque::len);
        if self.len >= self.max || mine >= self.max_per_source {
            return Err(job);
        }
        self.waiting.entry(source).or_default().push_back(job);
        if mine == 0 {
            self.turns.push_back(source);
        }
        self.len += 1;
        Ok(())
    }

    /// Adds a job of this node's own: the next one, however many wait.
    pub(super) fn push_own(&mut self, job: J) {
        self.own.push_back(job);
    }

    /// The next job: own ones, then each source's oldest in turn.
    pub(super) fn pop(&mut self) -> Option<J> {
        if let Some(own) = self.own.pop_front() {
            return Some(own);
        }
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

    pub(super) fn len(&self) -> usize {
        self.len + self.own.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(n: u8) -> Source {
        Source::V4([10, 0, n])
    }

    #[test]
    fn sources_take_turns_and_have_shares() {
        let mut queue = Queue::new(100, 10);
        let refused = (0..50).filter(|n| queue.push(source(1), *n).is_err()).count();
        assert_eq!(refused, 40);
        assert!(queue.push(source(2), 1000).is_ok());
        assert_eq!(queue.pop(), Some(0));
        assert_eq!(queue.pop(), Some(1000), "the second source need not wait for the flood");
        assert_eq!(queue.pop(), Some(1));
        assert_eq!(queue.len(), 8);
    }

    #[test]
    fn the_whole_queue_is_bounded() {
        let mut queue = Queue::new(5, 2);
        let taken = (0..100).filter(|n| queue.push(source(*n), *n).is_ok()).count();
        assert_eq!(taken, 5);
        assert_eq!(std::iter::from_fn(|| queue.pop()).count(), 5);
        assert_eq!(queue.len(), 0);
        assert!(queue.waiting.is_empty() && queue.turns.is_empty());
    }

    #[test]
    fn own_jobs_go_before_any_flood() {
        let mut queue = Queue::new(5, 5);
        while queue.push(source(1), 1).is_ok() {}
        queue.push_own(100);
        queue.push_own(101);
        assert_eq!((queue.len(), queue.pop(), queue.pop(), queue.pop()), (7, Some(100), Some(101), Some(1)));
    }
}
