//! Nodes that may become a terminal's home when an entry point does not answer ([`homes`](super::homes)): those of
//! earlier runs, those met in this one, those that an invitation link named, and those that a home has told of. They
//! take turns, and none that was known before is given up: the network may be back when all of them have failed many
//! times.

use std::collections::VecDeque;
use std::time::Instant;

use libp2p::Multiaddr;

use super::addr;
use super::driver::Driver;
use super::links::{Kind, Link};

/// Entry points taken from one invitation link.
const MAX_ENTERED: usize = 4;

/// Candidates kept; further ones are not. Those of earlier runs and those met in this one are fewer.
const MAX_CANDIDATES: usize = 128;

/// No more than so many are known by hearsay alone; a further one takes the place of one of them that failed.
const MAX_HEARSAY: usize = 16;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Its address, ending in `/p2p`, or a `dnsaddr`.
    pub(super) addr: Multiaddr,
    /// Whether the user chose it: configured in an earlier run, or named by a link that was dialled. The others were
    /// met by chance and come later.
    pub(super) chosen: bool,
    /// How often it failed in a row.
    pub(super) failures: u32,
    /// It did not take this terminal, and is not to be asked again before.
    pub(super) again: Option<Instant>,
}

impl Candidate {
    pub(super) fn new(addr: Multiaddr, chosen: bool) -> Self {
        Self { addr, chosen, failures: 0, again: None }
    }

    fn is_ready(&self, now: Instant) -> bool {
        self.again.is_none_or(|again| again <= now)
    }
}

/// The candidates that are not being tried, best first.
#[derive(Default)]
pub(super) struct Candidates {
    waiting: VecDeque<Candidate>,
    /// Those known by hearsay alone: a home has told of them, and nobody has reached them yet.
    hearsay: Vec<Multiaddr>,
}

impl Candidates {
    /// Those of earlier runs, best first.
    pub(super) fn new(remembered: impl IntoIterator<Item = (Multiaddr, bool)>) -> Self {
        let candidate = |(addr, chosen)| Candidate::new(addr, chosen);
        let waiting = remembered.into_iter().map(candidate).take(MAX_CANDIDATES).collect();
        Self { waiting, hearsay: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether it is the turn of any.
    pub(super) fn has_ready(&self, now: Instant) -> bool {
        self.waiting.iter().any(|candidate| candidate.is_ready(now))
    }

    /// The one whose turn it is.
    pub(super) fn next(&mut self, now: Instant) -> Option<Candidate> {
        let at = self.waiting.iter().position(|candidate| candidate.is_ready(now))?;
        self.waiting.remove(at)
    }

    /// Puts one that failed, or that is not needed any more, behind the others.
    pub(super) fn put_back(&mut self, candidate: Candidate) {
        self.remove(&candidate.addr);
        self.waiting.push_back(candidate);
    }

    /// A link that the user dialled names it: it is the next.
    pub(super) fn prefer(&mut self, addr: Multiaddr) {
        self.remove(&addr);
        self.hearsay.retain(|told| !same(told, &addr));
        self.waiting.truncate(MAX_CANDIDATES - 1);
        self.waiting.push_front(Candidate::new(addr, true));
    }

    /// It was reached in this run.
    pub(super) fn met(&mut self, addr: Multiaddr) {
        self.hearsay.retain(|told| !same(told, &addr));
        if let Some(known) = self.waiting.iter_mut().find(|known| same(&known.addr, &addr)) {
            known.addr = addr;
            known.failures = 0;
        } else if self.waiting.len() < MAX_CANDIDATES {
            self.waiting.push_back(Candidate::new(addr, false));
        }
    }

    /// A home has told of it.
    pub(super) fn told(&mut self, addr: Multiaddr) {
        if self.waiting.iter().any(|known| same(&known.addr, &addr)) {
            return;
        }
        if self.hearsay.len() >= MAX_HEARSAY || self.waiting.len() >= MAX_CANDIDATES {
            let is_hearsay = |known: &Candidate| self.hearsay.iter().any(|told| same(told, &known.addr));
            let failed = self.waiting.iter().position(|known| known.failures > 0 && is_hearsay(known));
            let Some(gone) = failed.and_then(|at| self.waiting.remove(at)) else { return };
            self.hearsay.retain(|told| !same(told, &gone.addr));
        }
        self.hearsay.push(addr.clone());
        self.waiting.push_back(Candidate::new(addr, false));
    }

    /// What failed before may work now.
    pub(super) fn forgive(&mut self) {
        for candidate in &mut self.waiting {
            candidate.failures = 0;
        }
    }

    fn remove(&mut self, addr: &Multiaddr) {
        self.waiting.retain(|known| !same(&known.addr, addr));
    }
}

impl Driver {
    /// Enters the network through these nodes if no other is at hand: an invitation link names them.
    pub(super) fn enter(&mut self, addrs: Vec<Multiaddr>) {
        let usable = |addr: &Multiaddr| {
            !addr::is_relayed(addr) && addr::last_peer(addr).is_some() && self.private.permits(addr)
        };
        let now = Instant::now();
        let addrs: Vec<_> = addrs.into_iter().filter(usable).take(MAX_ENTERED).collect();
        if !addrs.is_empty() && self.seeks_home(now) {
            self.make_way(now);
        }
        // The first one named is the first one tried.
        for addr in addrs.into_iter().rev() {
            self.links.found = true;
            self.not_private_if_public(&addr);
            if self.seeks_home(now) {
                self.try_candidate(Candidate::new(addr, true), now);
            } else {
                self.links.candidates.prefer(addr);
            }
        }
        // At once: somebody may be waiting to dial.
        self.tick_links(now);
        self.dirty = true;
    }

    pub(super) fn try_candidate(&mut self, candidate: Candidate, now: Instant) {
        let longest = self.links.longest_pause();
        let Candidate { addr, chosen, failures, again: _ } = candidate;
        let peer = addr::last_peer(&addr);
        let known = self.links.all.iter().position(|link| peer.is_some() && link.peer == peer);
        match (known, addr::text(&addr)) {
            (Some(index), _) if self.links.all[index].is_home() => {}
            // Kept for a contact's sake, or about to be left; now for this terminal's own.
            (Some(index), _) => {
                let link = &mut self.links.all[index];
                (link.kind, link.chosen) = (Kind::Candidate, chosen);
                if link.is_up() {
                    // What a contact's directory has said is believed less where it is not chosen.
                    link.told.clear();
                    if let Some(peer) = peer {
                        self.note_told(index, peer);
                    }
                    self.register(index);
                    self.reserve(index);
                    self.refresh_links();
                }
            }
            (None, Some(name)) => {
                let mut link = Link::new(name, addr, Kind::Candidate, now);
                (link.chosen, link.failures) = (chosen, failures);
                if failures > 0 {
                    link.pause(longest, now);
                }
                self.links.all.push(link);
            }
            (None, None) => {}
        }
        self.dirty = true;
    }
}

/// Whether two addresses lead to one node.
fn same(one: &Multiaddr, other: &Multiaddr) -> bool {
    one == other || addr::last_peer(one).is_some_and(|peer| addr::last_peer(other) == Some(peer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(port: u16) -> Multiaddr {
        format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()
    }

    fn ports(candidates: &mut Candidates) -> Vec<String> {
        let now = Instant::now();
        std::iter::from_fn(|| candidates.next(now)).map(|candidate| candidate.addr.to_string()).collect()
    }

    #[test]
    fn those_that_fail_take_turns_and_none_is_lost() {
        let mut candidates = Candidates::new((1..=5).map(|port| (addr(port), true)));
        for turn in 0..100 {
            let mut candidate = candidates.next(Instant::now()).unwrap();
            assert_eq!(candidate.addr, addr(turn % 5 + 1));
            candidate.failures += 1;
            candidates.put_back(candidate);
        }
        assert!(candidates.waiting.iter().all(|candidate| candidate.failures == 20));
        candidates.forgive();
        assert!(candidates.waiting.iter().all(|candidate| candidate.failures == 0));
    }

    #[test]
    fn a_link_goes_before_the_others_and_chance_acquaintances_behind() {
        let mut candidates = Candidates::new([(addr(1), true)]);
        candidates.met(addr(2));
        candidates.prefer(addr(3));
        candidates.met(addr(3));
        candidates.met(addr(1));
        assert_eq!(ports(&mut candidates), [addr(3), addr(1), addr(2)].map(|addr| addr.to_string()));
    }

    #[test]
    fn one_node_is_one_candidate_wherever_it_is() {
        let peer = libp2p::PeerId::random();
        let at = |port| addr(port).with_p2p(peer).unwrap();
        let mut candidates = Candidates::new([(at(1), true)]);
        candidates.met(at(2));
        let candidate = candidates.next(Instant::now()).unwrap();
        assert_eq!((candidate.addr.clone(), candidate.chosen), (at(2), true));
        candidates.met(at(3));
        candidates.put_back(candidate);
        assert_eq!(ports(&mut candidates).len(), 1);
    }

    #[test]
    fn one_that_refused_is_passed_over_for_a_while() {
        let now = Instant::now();
        let mut candidates = Candidates::new([(addr(1), true), (addr(2), true)]);
        let again = now + std::time::Duration::from_secs(60);
        let refused = candidates.next(now).unwrap();
        candidates.put_back(Candidate { again: Some(again), ..refused });
        assert_eq!(candidates.next(now).map(|candidate| candidate.addr), Some(addr(2)));
        // That it is there has never been in doubt.
        candidates.met(addr(1));
        assert!(!candidates.has_ready(now) && candidates.next(now).is_none());
        assert_eq!(candidates.next(again).map(|candidate| candidate.addr), Some(addr(1)));
    }

    #[test]
    fn hearsay_takes_the_place_of_nobody_but_those_that_failed() {
        let mut candidates = Candidates::new([(addr(1), true), (addr(2), false)]);
        candidates.put_back(Candidate { failures: 9, ..Candidate::new(addr(1), true) });
        (2..100).for_each(|port| candidates.told(addr(port)));
        let known: Vec<_> = (2..100).take(MAX_HEARSAY + 1).chain([1]).map(addr).collect();
        let known_now = |candidates: &Candidates| {
            let mut addrs: Vec<_> = candidates.waiting.iter().map(|known| known.addr.clone()).collect();
            addrs.sort();
            addrs
        };
        let sorted = |mut addrs: Vec<Multiaddr>| {
            addrs.sort();
            addrs
        };
        assert_eq!(known_now(&candidates), sorted(known.clone()));
        // Neither what was known before nor what has been reached gives way.
        candidates.put_back(Candidate { failures: 9, ..Candidate::new(addr(2), false) });
        candidates.met(addr(4));
        candidates.put_back(Candidate { failures: 1, ..Candidate::new(addr(4), false) });
        candidates.put_back(Candidate { failures: 1, ..Candidate::new(addr(5), false) });
        (500..510).for_each(|port| candidates.told(addr(port)));
        let known = known.into_iter().map(|known| if known == addr(5) { addr(501) } else { known });
        assert_eq!(known_now(&candidates), sorted(known.chain([addr(500)]).collect()));
    }

    #[test]
    fn there_are_only_so_many() {
        let mut candidates = Candidates::default();
        (0..1_000).for_each(|port| candidates.met(addr(port)));
        (2_000..3_000).for_each(|port| candidates.prefer(addr(port)));
        assert_eq!(ports(&mut candidates).len(), MAX_CANDIDATES);
    }
}
