//! Peers whose connection is kept for a while, because answers to what they sent will go back over it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::PeerId;

use super::addr::Source;
use super::places::{Place, Places};

/// How long: a call may ring 45 seconds and its ends may talk through nothing but signalling for a while.
const LINGER: Duration = Duration::from_secs(180);

/// Peers kept at a time, altogether and of one source; the others' connections close when idle.
const MAX_LINGERING: usize = 4_096;
const MAX_PER_SOURCE: usize = 1_024;

/// See the [module](self).
pub(super) struct Lingering {
    until: HashMap<PeerId, Instant>,
    places: Places<PeerId>,
}

impl Lingering {
    pub(super) fn new() -> Self {
        Self { until: HashMap::new(), places: Places::new(MAX_LINGERING, MAX_PER_SOURCE) }
    }

    /// Keeps a peer from now on; answers whom no longer.
    pub(super) fn keep(&mut self, peer: PeerId, source: Source, now: Instant) -> Option<PeerId> {
        let loser = match self.places.take(peer, source) {
            Place::Given => None,
            Place::Instead(loser) => Some(loser),
            Place::None => return None,
        };
        self.until.insert(peer, now + LINGER);
        if let Some(loser) = loser {
            self.until.remove(&loser);
        }
        loser
    }

    pub(super) fn contains(&self, peer: &PeerId) -> bool {
        self.until.contains_key(peer)
    }

    /// Takes out those whose time is over.
    pub(super) fn over(&mut self, now: Instant) -> Vec<PeerId> {
        let over: Vec<_> = self.until.extract_if(|_, until| *until <= now).map(|(peer, _)| peer).collect();
        for peer in &over {
            self.places.leave(peer);
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_of_one_source_keeps_nobody_from_lingering() {
        let (mut lingering, now) = (Lingering::new(), Instant::now());
        let honest = PeerId::random();
        assert_eq!(lingering.keep(honest, Source::V4([192, 0, 2]), now), None);
        for _ in 0..MAX_PER_SOURCE {
            assert_eq!(lingering.keep(PeerId::random(), Source::V4([198, 51, 100]), now), None);
        }
        assert!(lingering.keep(PeerId::random(), Source::V4([198, 51, 100]), now).is_some());
        assert!(lingering.contains(&honest));
        assert_eq!(lingering.until.len(), MAX_PER_SOURCE + 1);
        assert_eq!(lingering.over(now + LINGER).len(), MAX_PER_SOURCE + 1);
        assert_eq!(lingering.places.len(), 0);
    }
}
