//! How many homes a terminal has, and which.
//!
//! It wants as many up as entry points are configured, at least one and at most three. If one of several has been dead
//! for a while, a [candidate](super::candidates) stands in for it, until it has been back for a while. If none is up,
//! candidates are tried at once, several at a time. One that does not take this terminal makes way for the next.
//!
//! ```text
//!   one is dead -> 10 s -> a candidate is home, too ----> the dead one is back -> 60 s -> the stand-in is no home
//!                              ^        | refuses, fails                                   any more -> 30 s -> left
//!                              '--------'
//! ```

use std::collections::HashSet;
use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};
use offhook_proto::identity::DirectoryId;

use super::addr;
use super::budget::Standing;
use super::candidates::Candidate;
use super::driver::Driver;
use super::event::NetEvent;
use super::links::{Kind, Link, Links};

/// Homes wanted at most: each costs a connection that is probed.
const MAX_WANTED: usize = 3;

/// Candidates tried at a time while no home is up.
const AT_A_TIME: usize = 3;

/// How long the configured entry points have before candidates are tried, if none is up.
const CANDIDATES_AFTER: Duration = Duration::from_secs(3);

/// A candidate that fails this often in a row makes way for the next one, if there is another.
const CANDIDATE_TRIES: u32 = 2;

/// When it lacks homes and knows of no candidate that has not failed, a terminal asks the homes that it has for some, once in so long.
const ASK_FOR_OTHERS: Duration = Duration::from_secs(60);

impl Links {
    /// How many homes are wanted. Several addresses of one node are one entry point.
    fn wanted(&self) -> usize {
        let entries = || self.all.iter().filter(|link| link.kind == Kind::Entry);
        let known: HashSet<_> = entries().filter_map(|link| link.peer).collect();
        let unknown = entries().filter(|link| link.peer.is_none()).count();
        (known.len() + unknown).clamp(1, MAX_WANTED)
    }

    /// Candidates that are being tried.
    fn tried(&self) -> impl Iterator<Item = &Link> {
        self.all.iter().filter(|link| link.kind == Kind::Candidate && !link.is_up())
    }

    fn has_entry(&self) -> bool {
        self.all.iter().any(|link| link.kind == Kind::Entry)
    }
}

impl Link {
    /// Whether it is connected and has taken this terminal, or may yet.
    fn is_good(&self) -> bool {
        self.is_up() && self.is_open()
    }
}

impl Driver {
    /// Is at home with the nodes of a directory as with the configured entry points; no more with those that it has no longer.
    pub(super) fn set_homes(&mut self, directory: DirectoryId, addrs: Vec<Multiaddr>) {
        let now = Instant::now();
        let named: HashSet<PeerId> = addrs.iter().filter_map(addr::last_peer).collect();
        for index in (0..self.links.all.len()).rev() {
            let link = &mut self.links.all[index];
            let is_named = link.peer.is_some_and(|peer| named.contains(&peer));
            if link.directory == Some(directory) && !is_named {
                (link.directory, link.chosen) = (None, false);
                self.part(index, now);
            }
        }
        for addr in addrs {
            let Some(peer) = addr::last_peer(&addr) else { continue };
            let entries = || self.links.all.iter().filter(|link| link.kind == Kind::Entry);
            let is_known = entries().any(|link| link.peer == Some(peer));
            let is_full = entries().count() > 0 && self.links.wanted() >= MAX_WANTED;
            if is_known || is_full || addr::is_relayed(&addr) || !self.private.permits(&addr) {
                continue;
            }
            self.links.found = true;
            self.not_private_if_public(&addr);
            self.try_candidate(Candidate::new(addr, true), now);
            let link = self.links.all.iter_mut().find(|link| link.peer == Some(peer));
            if let Some(link) = link {
                (link.kind, link.chosen, link.directory) = (Kind::Entry, true, Some(directory));
            }
        }
        self.tick_links(now);
        self.dirty = true;
    }

    /// Sees that there are as many homes as are wanted.
    pub(super) fn tick_homes(&mut self, now: Instant) {
        self.leave(now);
        self.let_go(now);
        let missing = self.links.wanted().saturating_sub(self.good_homes());
        if missing == 0 {
            self.links.short_since = None;
            if self.links.has_entry() {
                self.make_way(now);
            }
        } else {
            self.links.short_since.get_or_insert(now);
        }
        self.dismiss(missing, now);
        self.try_candidates(missing, now);
    }

    fn good_homes(&self) -> usize {
        let registers = self.registers();
        let good = |link: &&Link| link.is_home() && link.is_up() && (!registers || link.is_open());
        self.links.all.iter().filter(good).count()
    }

    /// Whether it is time for any candidate: no home is up, or none that takes this terminal, and the configured ones
    /// have had their time.
    pub(super) fn seeks_home(&self, now: Instant) -> bool {
        let waiting = now.saturating_duration_since(self.links.alone_since) < CANDIDATES_AFTER
            && self.links.has_entry();
        self.good_homes() == 0 && !waiting
    }

    /// How many candidates may be tried at a time.
    fn places(&self, missing: usize, now: Instant) -> usize {
        if self.seeks_home(now) {
            return AT_A_TIME;
        }
        let short = self.links.short_since.map(|since| now.saturating_duration_since(since));
        let due = self.registers() && self.good_homes() > 0;
        if due && short.is_some_and(|short| short >= self.config.stand_ins.after) { missing } else { 0 }
    }

    fn try_candidates(&mut self, missing: usize, now: Instant) {
        let places = self.places(missing, now);
        for _ in self.links.tried().count()..places {
            let Some(candidate) = self.links.candidates.next(now) else { break };
            self.try_candidate(candidate, now);
        }
        let hopeful = self.links.tried().filter(|link| link.failures == 0).count();
        if hopeful < places && !self.links.candidates.has_ready(now) {
            self.ask_for_others(now);
        }
    }

    /// Registers once more with the homes that there are: the answers tell of other nodes.
    fn ask_for_others(&mut self, now: Instant) {
        let asked = self.links.asked.map(|asked| now.saturating_duration_since(asked));
        let homes: Vec<usize> = self
            .links
            .all
            .iter()
            .enumerate()
            .filter(|(_, link)| link.registered)
            .map(|(index, _)| index)
            .collect();
        if homes.is_empty() || asked.is_some_and(|asked| asked < ASK_FOR_OTHERS) {
            return;
        }
        self.links.asked = Some(now);
        homes.into_iter().for_each(|index| self.register(index));
    }

    /// Candidates that take no terminals, or fail, make way for others, if there are any. Those that take none go, if
    /// there are homes enough.
    fn dismiss(&mut self, missing: usize, now: Instant) {
        let (enough, others) = (missing == 0 && self.links.has_entry(), self.links.candidates.has_ready(now));
        let registers = self.registers();
        let refuses = |link: &Link| registers && link.is_up() && !link.is_open();
        let fails = |link: &Link| link.is_idle() && link.failures >= CANDIDATE_TRIES;
        self.part_from(|link| (refuses(link) && (enough || others)) || (fails(link) && others), now);
    }

    /// Lets candidates that fail wait for their next turn.
    pub(super) fn make_way(&mut self, now: Instant) {
        self.part_from(Link::is_idle, now);
    }

    fn part_from(&mut self, whom: impl Fn(&Link) -> bool, now: Instant) {
        for index in (0..self.links.all.len()).rev() {
            let link = &self.links.all[index];
            if link.kind == Kind::Candidate && whom(link) {
                self.part(index, now);
            }
        }
    }

    /// The configured ones are back for good: those that stood in for them are no homes any more.
    fn let_go(&mut self, now: Instant) {
        let time = self.config.stand_ins.settled;
        let settled = |link: &&Link| {
            let since = link.registered_since.filter(|_| link.kind == Kind::Entry);
            since.is_some_and(|since| now.saturating_duration_since(since) >= time)
        };
        let entries = self.links.all.iter().filter(settled).count();
        if entries == 0 {
            return;
        }
        let still = self.links.wanted().saturating_sub(entries);
        let stand_in = |(_, link): &(usize, &Link)| link.kind == Kind::Candidate && link.is_good();
        let surplus = self.links.all.iter().enumerate().filter(stand_in).skip(still);
        let surplus: Vec<usize> = surplus.map(|(index, _)| index).collect();
        for index in surplus.into_iter().rev() {
            self.part(index, now);
        }
    }

    /// Makes a candidate that was tried one that waits. From now on nobody is told of it; but if it was this terminal's
    /// home, somebody may have been told before, so its connection stays for a while.
    pub(super) fn part(&mut self, index: usize, now: Instant) {
        let link = &mut self.links.all[index];
        let Link { chosen, failures, register_again: again, peer, .. } = *link;
        self.links.candidates.put_back(Candidate { addr: link.addr.clone(), chosen, failures, again });
        let (name, up, was_home) = (link.name.clone(), link.is_up(), link.registered);
        let reservation = link.no_home();
        link.stun.clear();
        if link.contact {
            link.kind = Kind::Kept;
        } else if up {
            link.kind = Kind::Leaving { until: now + self.config.stand_ins.farewell };
        } else {
            self.links.all.remove(index);
        }
        if let Some(reservation) = reservation {
            self.swarm.remove_listener(reservation);
        }
        if let Some(peer) = peer {
            self.refresh_hold(peer);
            if up {
                self.held_tickets.forget(&peer);
            }
        }
        if was_home {
            self.tell(NetEvent::EntryDown { addr: name });
        }
        self.refresh_links();
        self.dirty = true;
    }

    /// Closes connections with former homes through which nobody talks any more. There is no other way to have them
    /// forget this terminal.
    fn leave(&mut self, now: Instant) {
        let lingering = &self.lingering;
        let over = |link: &mut Link| {
            link.leaving().is_some_and(|until| until <= now)
                && !link.peer.is_some_and(|peer| lingering.contains(&peer))
        };
        let left: Vec<_> = self.links.all.extract_if(.., over).filter_map(|link| link.peer).collect();
        for peer in left {
            self.refresh_hold(peer);
            self.dirty = true;
            if self.swarm.behaviour().gate.standing(&peer) == Standing::Stranger {
                // Fails only if it has gone already.
                let _ = self.swarm.disconnect_peer_id(peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::addr;
    use super::super::candidates::Candidates;
    use super::super::known::Known;
    use super::*;

    fn links(entry: &[Multiaddr]) -> Links {
        let entry = entry.iter().map(|addr| (addr::text(addr).unwrap(), addr.clone())).collect();
        Links::new(entry, Candidates::default(), Known::default(), Instant::now())
    }

    #[test]
    fn as_many_homes_are_wanted_as_entry_points_are_configured_within_bounds() {
        let at = |port: u16, peer: PeerId| -> Multiaddr {
            format!("/ip4/192.0.2.1/tcp/{port}/p2p/{peer}").parse().unwrap()
        };
        let name: Multiaddr = "/dnsaddr/offhook.example".parse().unwrap();
        let [one, other] = [PeerId::random(), PeerId::random()];
        assert_eq!(links(&[]).wanted(), 1);
        assert_eq!(links(&[at(1, one), at(2, one)]).wanted(), 1, "two ways to one node");
        assert_eq!(links(&[at(1, one), at(2, one), at(1, other)]).wanted(), 2);
        assert_eq!(links(&[at(1, one), name]).wanted(), 2, "whoever that is");
        let many: Vec<_> = (1..9).map(|port| at(port, PeerId::random())).collect();
        assert_eq!(links(&many).wanted(), MAX_WANTED);
    }
}
