//! Slow proofs: what is known of them, and who may run some.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use offhook_proto::proof::ProofTask;
use tokio::sync::Semaphore;

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
