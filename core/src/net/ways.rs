//! Ways back to terminals that are connected elsewhere: through the directory that brought their last packet.
//!
//! Whoever brings a packet says whose it is, and nobody can check that. So a way that has been used lately is not
//! changed by somebody else's word, and an answer that names the way itself (from the sender's signed introduction) goes
//! by that; these ways are for senders that have no directory of their own.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::PeerId;

/// Ways remembered. The oldest half is forgotten when full.
const MAX_WAYS: usize = 4_096;

/// For so long after a packet nobody but who brought it may bring another one in the same name and have the answers.
const FRESH: Duration = Duration::from_secs(60);

/// Later than that no answer is expected.
const OVER: Duration = Duration::from_secs(180);

/// See the [module](self).
#[derive(Default)]
pub(super) struct Ways {
    ways: HashMap<PeerId, (PeerId, Instant)>,
}

impl Ways {
    /// A directory has brought a packet of this terminal.
    pub(super) fn learn(&mut self, terminal: PeerId, directory: PeerId, now: Instant) {
        let age = |at: Instant| now.saturating_duration_since(at);
        match self.ways.get_mut(&terminal) {
            Some((known, at)) if *known == directory || age(*at) >= FRESH => {
                (*known, *at) = (directory, now);
            }
            Some(_) => {}
            None => {
                self.make_room();
                self.ways.insert(terminal, (directory, now));
            }
        }
    }

    /// The directory that leads to this terminal.
    pub(super) fn to(&self, terminal: &PeerId, now: Instant) -> Option<PeerId> {
        let (directory, at) = self.ways.get(terminal)?;
        (now.saturating_duration_since(*at) < OVER).then_some(*directory)
    }

    fn make_room(&mut self) {
        if self.ways.len() >= MAX_WAYS {
            let mut ages: Vec<_> = self.ways.values().map(|(_, at)| *at).collect();
            ages.sort_unstable();
            let middle = ages[ages.len() / 2];
            self.ways.retain(|_, (_, at)| *at > middle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_a_fresh_way_over() {
        let [terminal, honest, liar] = std::array::from_fn(|_| PeerId::random());
        let (mut ways, start) = (Ways::default(), Instant::now());
        assert_eq!(ways.to(&terminal, start), None);
        ways.learn(terminal, honest, start);
        let later = start + FRESH / 2;
        ways.learn(terminal, liar, later);
        assert_eq!(ways.to(&terminal, later), Some(honest));
        // The owner keeps it fresh, and may move when it has been silent.
        ways.learn(terminal, honest, later);
        ways.learn(terminal, liar, start + FRESH);
        assert_eq!(ways.to(&terminal, start + FRESH), Some(honest));
        let silent = later + FRESH;
        ways.learn(terminal, liar, silent);
        assert_eq!(ways.to(&terminal, silent), Some(liar));
        assert_eq!(ways.to(&terminal, silent + OVER), None);
    }

    #[test]
    fn a_flood_of_names_stays_bounded() {
        let (mut ways, start) = (Ways::default(), Instant::now());
        for n in 0..20_000 {
            ways.learn(PeerId::random(), PeerId::random(), start + Duration::from_millis(n));
        }
        assert!(ways.ways.len() <= MAX_WAYS);
    }
}
