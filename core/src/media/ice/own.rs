//! Our own addresses: which the agent knows, and which the other end is told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use is::{Candidate, CandidateKind, IceAgent, IceCreds, Protocol};

use super::candidates::{line, local_preference};
use super::{Ice, MAX_LOCAL};
use crate::media::relay::Relayed;

/// An agent that never runs.
pub(super) fn rehearsal(creds: IceCreds) -> IceAgent {
    let mut agent = IceAgent::new(creds);
    agent.set_local_preference(local_preference);
    agent
}

impl Ice {
    /// Adds an address of an interface. Returns its line for the other end, unless it adds nothing new or must not be
    /// told yet.
    pub(in crate::media) fn add_host(&mut self, address: SocketAddr) -> Option<String> {
        self.add_own(Candidate::host(address, Protocol::Udp).ok()?)
    }

    /// Adds the address under which a STUN server saw packets from `base`. Like [`Ice::add_host`].
    pub(in crate::media) fn add_reflexive(&mut self, mapped: SocketAddr, base: SocketAddr) -> Option<String> {
        self.add_own(Candidate::server_reflexive(mapped, base, Protocol::Udp).ok()?)
    }

    /// Adds an address at a relay. Returns its line for the other end, in which no address of ours stands.
    pub(in crate::media) fn add_relayed(&mut self, relayed: Relayed, now: Instant) -> Option<String> {
        // The agent sorts by this address, and shows it to nobody.
        let any = if relayed.address.is_ipv4() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        } else {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        };
        let rank = SocketAddr::new(any, relayed.rank);
        let candidate = Candidate::relayed(relayed.address, rank, Protocol::Udp).ok()?;
        self.relayed.retain(|known| known.address != relayed.address);
        self.relayed.push(relayed);
        let line = self.add_local(candidate)?;
        self.handle_timeout(now);
        Some(line)
    }

    /// An address at a relay is gone.
    pub(in crate::media) fn remove_relayed(&mut self, address: SocketAddr, now: Instant) {
        self.relayed.retain(|known| known.address != address);
        let is_gone = |c: &Candidate| c.kind() == CandidateKind::Relayed && c.addr() == address;
        let gone = self.agent.local_candidates().find(is_gone);
        if let Some(gone) = gone {
            self.agent.invalidate_candidate(&gone);
            if self.chosen_local == Some(address) {
                (self.chosen, self.chosen_local, self.spare_until) = (None, None, None);
                self.search();
            }
            self.handle_timeout(now);
        }
    }

    /// A direct path has made relays superfluous: the other end leaves its own, so they are not checked any more.
    pub(in crate::media) fn leave_relays(&mut self) {
        let is_relayed = |c: &Candidate| c.kind() == CandidateKind::Relayed;
        let theirs: Vec<_> = self.agent.remote_candidates().filter(is_relayed).collect();
        for candidate in theirs {
            self.agent.invalidate_candidate(&candidate);
            // It may be told again.
            self.remote_addresses.retain(|address| *address != candidate.addr());
        }
    }

    fn add_own(&mut self, candidate: Candidate) -> Option<String> {
        if self.shows_itself() {
            return self.add_local(candidate);
        }
        let new = !self.kept.iter().any(|kept| kept.addr() == candidate.addr());
        if new && !self.relay_only && self.kept.len() < MAX_LOCAL {
            self.rehearse(&candidate);
            self.kept.push(candidate);
        }
        None
    }

    fn rehearse(&mut self, candidate: &Candidate) {
        self.withheld.extend(self.rehearsal.add_local_candidate(candidate.clone()).map(line));
        self.withheld_changed = true;
    }

    /// The lines of our own addresses that [`Ice::disclose`] will tell, all of them, if they have changed: whoever passes lines on
    /// has them ready then, and must keep them back until then.
    pub(in crate::media) fn take_withheld(&mut self) -> Option<Vec<String>> {
        if !std::mem::take(&mut self.withheld_changed) {
            return None;
        }
        self.handed_over.clone_from(&self.withheld);
        Some(self.withheld.clone())
    }

    fn add_local(&mut self, candidate: Candidate) -> Option<String> {
        let known = self.agent.local_candidates().any(|have| have.addr() == candidate.addr());
        if known || self.agent.local_candidates().count() >= MAX_LOCAL {
            return None;
        }
        self.agent.add_local_candidate(candidate).map(line)
    }

    /// Our own addresses may be shown to the other end from now on: returns their lines for the other end, but those that
    /// [`Ice::take_withheld`] has returned; checks begin, waiting ones are answered.
    pub(in crate::media) fn disclose(&mut self, now: Instant) -> Vec<String> {
        self.disclosed = true;
        if !self.shows_itself() {
            return Vec::new();
        }
        let kept = std::mem::take(&mut self.kept);
        let mut lines: Vec<_> = kept.into_iter().filter_map(|candidate| self.add_local(candidate)).collect();
        let handed_over = std::mem::take(&mut self.handed_over);
        lines.retain(|line| !handed_over.contains(line));
        (self.withheld, self.withheld_changed) = (Vec::new(), false);
        if self.remote.is_some() {
            self.spare(now);
            self.begin(now);
        }
        lines
    }

    /// Our own addresses are these from now on. Returns the lines of all our candidates, which replace what was told
    /// before; `None` if the other end must not know, or need not.
    pub(in crate::media) fn set_hosts(&mut self, hosts: &[SocketAddr], now: Instant) -> Option<Vec<String>> {
        let is_own = |candidate: &Candidate| candidate.kind() != CandidateKind::Relayed;
        // The base of whatever others see us as is one of our addresses.
        let is_gone = |candidate: &Candidate| is_own(candidate) && !hosts.contains(&candidate.local());
        let gone: Vec<_> = self.agent.local_candidates().filter(is_gone).collect();
        let kept = self.kept.len();
        self.kept.retain(|candidate| !is_gone(candidate));
        if self.kept.len() < kept {
            self.rehearsal = rehearsal(self.agent.local_credentials().clone());
            self.withheld.clear();
            self.kept.clone().iter().for_each(|candidate| self.rehearse(candidate));
            self.withheld_changed = true;
        }
        for candidate in &gone {
            self.agent.invalidate_candidate(candidate);
        }
        let added = hosts.iter().filter_map(|host| self.add_host(*host)).count();
        if added == 0 && gone.is_empty() {
            return None;
        }
        if self.chosen_local.is_some_and(|local| gone.iter().any(|gone| gone.addr() == local)) {
            self.suspect(now);
        } else {
            self.begin(now);
        }
        self.shows_itself().then(|| self.lines())
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let told = |candidate: &Candidate| candidate.kind() != CandidateKind::PeerReflexive;
        self.agent.local_candidates().filter(told).map(|candidate| line(&candidate)).collect()
    }
}
