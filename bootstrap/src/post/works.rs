//! The slow part of checking what strangers have paid.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use offhook_proto::knock::Network;
use offhook_proto::mailbox::protocol::Refusal;
use offhook_proto::proof::Miner;
use offhook_proto::puzzle::PuzzleTask;
use tokio::sync::Semaphore;

/// Solutions that wait to be looked at, altogether and of one /24 or /64. Whoever sends nonsense is in the way of few others.
const MAX_WAITING: usize = 128;
const MAX_WAITING_PER_NETWORK: usize = 4;

/// One is looked at at a time, some milliseconds each, with the same memory.
pub(super) struct Works {
    turn: Semaphore,
    miner: Arc<Mutex<Option<Miner>>>,
    waiting: Mutex<HashMap<Network, usize>>,
}

impl Default for Works {
    fn default() -> Self {
        Self { turn: Semaphore::new(1), miner: Arc::default(), waiting: Mutex::default() }
    }
}

/// A place among those who wait.
struct Place<'a> {
    works: &'a Works,
    network: Network,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.works.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = waiting.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.network);
            }
        }
    }
}

impl Works {
    fn place(&self, network: Network) -> Option<Place<'_>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = waiting.values().sum();
        let own = waiting.get(&network).copied().unwrap_or(0);
        if all >= MAX_WAITING || own >= MAX_WAITING_PER_NETWORK {
            return None;
        }
        waiting.insert(network, own + 1);
        Some(Place { works: self, network })
    }

    /// Whether somebody of that network has done the work.
    pub(super) async fn check(&self, network: Network, task: PuzzleTask) -> Result<(), Refusal> {
        let _place = self.place(network).ok_or(Refusal::Busy)?;
        // It is never closed.
        let _turn = self.turn.acquire().await.map_err(|_| Refusal::Busy)?;
        let memory = Arc::clone(&self.miner);
        let run = move || {
            let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
            task.run_with(memory.get_or_insert_with(Miner::new))
        };
        match tokio::task::spawn_blocking(run).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Refusal::Work),
            Err(_) => Err(Refusal::Busy),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_sends_much_leaves_places_to_others() {
        let works = Works::default();
        let network = |n: u8| Network::V4([198, 51, n]);
        let mut places: Vec<Place<'_>> = (0..100).filter_map(|_| works.place(network(1))).collect();
        assert_eq!(places.len(), MAX_WAITING_PER_NETWORK);
        places.extend(works.place(network(2)));
        assert_eq!(places.len(), MAX_WAITING_PER_NETWORK + 1);
        places.extend((3..=255).flat_map(|n| [works.place(network(n)), works.place(network(n))]).flatten());
        assert_eq!(places.len(), MAX_WAITING);
        places.clear();
        assert!(works.waiting.lock().expect("unpoisoned").is_empty());
    }
}
