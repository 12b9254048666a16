//! How often a limit has been hit since the process started, by what is limited.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Store, Subject};

#[derive(Debug, Default)]
pub(super) struct Hits([AtomicU64; Subject::ALL.len()]);

impl Hits {
    pub(super) fn count(&self, subject: Subject) {
        self.0[subject as usize].fetch_add(1, Ordering::Relaxed);
    }
}

impl Store {
    /// Attempts that a limit has refused, by what it limits, since the process has started.
    pub fn limits_hit(&self) -> impl Iterator<Item = (Subject, u64)> {
        Subject::ALL
            .into_iter()
            .map(|subject| (subject, self.hits.0[subject as usize].load(Ordering::Relaxed)))
    }
}
