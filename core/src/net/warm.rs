//! Connections that a serving node keeps with nodes of its routing table: a query's first hop, and in a small network its
//! only one, then takes one round trip instead of two.
//!
//! A connection stays only while both ends hold it. So a node also holds, within bounds, those that others made to it
//! for the same reason (guests). Both are bounded ([`Limits::warm`](super::Limits::warm)); what is beyond them closes
//! when idle.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::swarm::DialError;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId};
use tracing::{debug, trace};

use super::addr::{self, Source};
use super::driver::Driver;

/// How often the routing table is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Connections begun at each look, so that a node that starts doesn't make all of them at once.
const DIALS: usize = 4;

/// First and longest pause before a node is tried again; it doubles between.
const BACKOFF_MIN: Duration = Duration::from_secs(30);
const BACKOFF_MAX: Duration = Duration::from_secs(3_600);

/// A connection that is lost sooner was not wanted at the other end.
const LASTING: Duration = Duration::from_secs(60);

/// A node that could not be reached this often in a row leaves the routing table: queries would wait for it.
const MAX_FAILURES: u32 = 3;

/// Guests are this many times as many as connections of the node's own choice.
const GUESTS: usize = 2;

/// One source may have this part of the guests.
const SOURCE_PART: usize = 4;

/// A node of the routing table.
struct Wanted {
    due: Instant,
    /// Attempts in a row that failed or did not last.
    failures: u32,
    up: Option<Instant>,
}

impl Wanted {
    fn back_off(&mut self, now: Instant) {
        let pause = BACKOFF_MIN.saturating_mul(1 << self.failures.min(16)).min(BACKOFF_MAX);
        self.failures = self.failures.saturating_add(1);
        self.due = now + pause.mul_f64(rand::random_range(0.5..1.0));
    }
}

/// See the [module](self).
pub(super) struct Warm {
    max: usize,
    wanted: HashMap<PeerId, Wanted>,
    guests: HashMap<PeerId, Source>,
    looked: Option<Instant>,
}

impl Warm {
    pub(super) fn new(max: usize) -> Self {
        Self { max, wanted: HashMap::new(), guests: HashMap::new(), looked: None }
    }

    /// Whether the connection to a peer is to be kept.
    pub(super) fn wants(&self, peer: &PeerId) -> bool {
        self.wanted.contains_key(peer) || self.guests.contains_key(peer)
    }

    /// Those with whom the connection is kept.
    pub(super) fn peers(&self) -> impl Iterator<Item = PeerId> {
        self.wanted.keys().chain(self.guests.keys()).copied()
    }

    /// None is kept any more; answers with whom they were.
    pub(super) fn forget_all(&mut self) -> Vec<PeerId> {
        let wanted = self.wanted.drain().map(|(peer, _)| peer);
        wanted.chain(self.guests.drain().map(|(peer, _)| peer)).collect()
    }

    /// How many connections are up.
    pub(super) fn up(&self) -> usize {
        self.wanted.values().filter(|wanted| wanted.up.is_some()).count() + self.guests.len()
    }

    pub(super) fn connected(&mut self, peer: &PeerId, now: Instant) {
        if let Some(wanted) = self.wanted.get_mut(peer) {
            wanted.up = Some(now);
        }
    }

    pub(super) fn disconnected(&mut self, peer: &PeerId, now: Instant) {
        self.guests.remove(peer);
        let Some(wanted) = self.wanted.get_mut(peer) else { return };
        let lasted = wanted.up.take().is_some_and(|up| now.saturating_duration_since(up) >= LASTING);
        if lasted {
            wanted.failures = 0;
            wanted.due = now + LOOK;
        } else {
            wanted.back_off(now);
        }
    }

    /// An attempt to connect failed. Returns whether the node should be forgotten.
    fn failed(&mut self, peer: &PeerId, now: Instant) -> bool {
        let Some(wanted) = self.wanted.get_mut(peer) else { return false };
        wanted.back_off(now);
        wanted.failures >= MAX_FAILURES
    }

    /// Takes a guest if there is room.
    fn invite(&mut self, peer: PeerId, source: Source) -> bool {
        let max = self.max * GUESTS;
        let mine = self.guests.values().filter(|other| **other == source).count();
        let room = self.guests.len() < max && mine < max.div_ceil(SOURCE_PART);
        if room {
            self.guests.insert(peer, source);
        }
        room
    }

    /// Chooses among the nodes of each bucket: some of every one, and of these the ones chosen before. Returns those that
    /// are wanted now or not any more, but were not before.
    fn choose(&mut self, mut buckets: Vec<Vec<PeerId>>, now: Instant) -> Vec<PeerId> {
        for bucket in &mut buckets {
            bucket.sort_by_key(|peer| !self.wanted.contains_key(peer));
        }
        let longest = buckets.iter().map(Vec::len).max().unwrap_or_default();
        let in_turn = (0..longest).flat_map(|n| buckets.iter().filter_map(move |bucket| bucket.get(n)));
        let chosen: Vec<PeerId> = in_turn.take(self.max).copied().collect();
        let gone = self.wanted.extract_if(|peer, _| !chosen.contains(peer)).map(|(peer, _)| peer);
        let mut changed: Vec<PeerId> = gone.collect();
        for peer in chosen {
            self.guests.remove(&peer);
            self.wanted.entry(peer).or_insert_with(|| {
                changed.push(peer);
                Wanted { due: now, failures: 0, up: None }
            });
        }
        changed
    }
}

impl Driver {
    /// Chooses anew and connects what is due.
    pub(super) fn tick_warm(&mut self, now: Instant) {
        let due = self.warm.looked.is_none_or(|at| now.saturating_duration_since(at) >= LOOK);
        if self.warm.max == 0 || !due || !self.serves() {
            return;
        }
        self.warm.looked = Some(now);
        let kad = &mut self.swarm.behaviour_mut().kad;
        let buckets = kad
            .kbuckets()
            .map(|bucket| bucket.iter().map(|entry| *entry.node.key.preimage()).collect())
            .collect();
        for peer in self.warm.choose(buckets, now) {
            self.refresh_hold(peer);
        }
        let mut cold = Vec::new();
        for (peer, wanted) in &mut self.warm.wanted {
            if self.peers.contains(peer) {
                wanted.up.get_or_insert(now);
            } else if wanted.due <= now && cold.len() < DIALS {
                wanted.due = now + BACKOFF_MIN;
                cold.push(*peer);
            }
        }
        for peer in cold {
            self.warm_up(peer);
        }
    }

    fn warm_up(&mut self, peer: PeerId) {
        let kad = &mut self.swarm.behaviour_mut().kad;
        let entry = kad.kbucket(peer).and_then(|bucket| {
            let found = bucket.iter().find(|entry| *entry.node.key.preimage() == peer);
            found.map(|entry| entry.node.value.iter().cloned().collect::<Vec<Multiaddr>>())
        });
        let addrs = addr::usable(entry.unwrap_or_default(), self.private.allowed());
        let options = DialOpts::peer_id(peer)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(addrs)
            .build();
        // A failure is told by an event, too, unless the peer is being dialled already.
        if let Err(error) = self.swarm.dial(options) {
            trace!(%error, "a node of the routing table is not dialled");
        }
    }

    /// A node of the DHT has told what it is: if it has connected to this one, it may want to keep that.
    pub(super) fn on_guest(&mut self, peer: PeerId) {
        let Some(state) = self.peers.get(&peer) else { return };
        let (inbound, source) = (state.conns.iter().any(|conn| conn.inbound), state.source());
        if self.serves() && inbound && !self.warm.wants(&peer) && self.warm.invite(peer, source) {
            self.refresh_hold(peer);
        }
    }

    /// An attempt to connect to a node has failed, whoever made it.
    pub(super) fn on_warm_failed(&mut self, peer: PeerId, error: &DialError, now: Instant) {
        if matches!(error, DialError::DialPeerConditionFalse(_)) || self.peers.contains(&peer) {
            return;
        }
        // With nobody connected it is this node that is off the network.
        if self.warm.failed(&peer, now) && self.peers.len() > 0 {
            debug!("a node of the routing table is gone");
            self.warm.wanted.remove(&peer);
            self.swarm.behaviour_mut().kad.remove_peer(&peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(n: usize) -> Vec<PeerId> {
        (0..n).map(|_| PeerId::random()).collect()
    }

    #[test]
    fn some_of_every_bucket_are_chosen_and_stay_chosen() {
        let mut warm = Warm::new(10);
        let now = Instant::now();
        let mut buckets = vec![peers(20), peers(1), peers(20)];
        assert_eq!(warm.choose(buckets.clone(), now).len(), 10);
        let of = |warm: &Warm, bucket: &[PeerId]| bucket.iter().filter(|peer| warm.wants(peer)).count();
        assert_eq!(buckets.iter().map(|bucket| of(&warm, bucket)).collect::<Vec<_>>(), [5, 1, 4]);
        // The table's order changes all the time; what was chosen does not.
        buckets.iter_mut().for_each(|bucket| bucket.reverse());
        assert_eq!(warm.choose(buckets.clone(), now), []);
        // Who has left the table is let go, and another one taken.
        let gone = *buckets[2].iter().find(|peer| warm.wants(peer)).unwrap();
        buckets[2].retain(|peer| *peer != gone);
        let changed = warm.choose(buckets, now);
        assert_eq!((changed.len(), changed[0]), (2, gone));
        assert!(!warm.wants(&gone) && warm.wants(&changed[1]));
    }

    #[test]
    fn guests_are_bounded_and_no_source_takes_all_places() {
        let mut warm = Warm::new(8);
        let source = |n| Source::V4([10, 0, n]);
        let from_one = peers(50).into_iter().filter(|peer| warm.invite(*peer, source(1))).count();
        assert_eq!(from_one, 4);
        let others = (2..100).filter(|n| warm.invite(PeerId::random(), source(*n))).count();
        assert_eq!(others, 12);
        let guest = *warm.guests.keys().next().unwrap();
        warm.disconnected(&guest, Instant::now());
        assert!(warm.invite(PeerId::random(), source(200)), "a place is free again");
        // One that this node chooses itself is no guest any more.
        let guest = *warm.guests.keys().next().unwrap();
        warm.choose(vec![vec![guest]], Instant::now());
        assert!(warm.wants(&guest) && !warm.guests.contains_key(&guest));
    }

    #[test]
    fn a_connection_that_does_not_last_is_tried_again_later_and_later() {
        let mut warm = Warm::new(1);
        let start = Instant::now();
        let peer = PeerId::random();
        warm.choose(vec![vec![peer]], start);
        let due = |warm: &Warm| warm.wanted[&peer].due;
        let mut pauses = Vec::new();
        for _ in 0..10 {
            warm.connected(&peer, start);
            warm.disconnected(&peer, start + Duration::from_secs(15));
            pauses.push(due(&warm) - (start + Duration::from_secs(15)));
        }
        assert!(pauses[0] >= BACKOFF_MIN / 2 && pauses[9] >= BACKOFF_MAX / 2, "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= BACKOFF_MAX));
        assert!(warm.failed(&peer, start), "a node that is gone is forgotten");
        warm.connected(&peer, start);
        warm.disconnected(&peer, start + LASTING);
        assert_eq!(due(&warm), start + LASTING + LOOK, "one that lasted is made again at once");
        let forgotten: Vec<bool> = (0..3).map(|_| warm.failed(&peer, start)).collect();
        assert_eq!(forgotten, [false, false, true]);
    }
}
