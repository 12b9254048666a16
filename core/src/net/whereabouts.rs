//! Other addresses of somebody else's directory. A record names a directory by one of its addresses; a terminal to which that is of no
//! use, because it has IPv6 only or gets through over TCP only, asks the DHT where else the directory is, and needs no other one
//! to pass its packets on.

use std::time::{Duration, Instant};

use libp2p::PeerId;
use offhook_proto::relay::RelayTransport;

use super::addr;
use super::codec::Request;
use super::command::Holder;
use super::delegate::SEEK_TIME;
use super::driver::Driver;

/// Addresses that fail so soon lead nowhere from here; later than that it is the directory that may be gone, and nobody knows better.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Addresses dialled of those that the DHT tells.
const MAX_TOLD: usize = 8;

/// Whether a request goes to somebody else's directory, and is worth a search for it.
pub(super) fn is_worth_it(request: &Request) -> bool {
    match request {
        Request::Forward { .. } | Request::Relay { claim: Some(_) } => true,
        Request::Hello
        | Request::Register { .. }
        | Request::Deliver { .. }
        | Request::Find { .. }
        | Request::Store { .. }
        | Request::Seek { .. }
        | Request::Publish { .. }
        | Request::Relay { claim: None }
        | Request::KnockWanted { .. }
        | Request::KnockAt { .. }
        | Request::Knock { .. } => false,
    }
}

impl Driver {
    /// Looks for other addresses of a peer that requests wait for, before those given are dialled or after they have failed. False
    /// if that is not worth it, or has been done.
    pub(super) fn seek_whereabouts(&mut self, peer: PeerId, now: Instant) -> bool {
        let over_streams = self.reached_over() != RelayTransport::Udp;
        let serves = self.serves();
        let Some(waiting) = self.requests.waiting.get_mut(&peer).filter(|waiting| !waiting.sought) else {
            return false;
        };
        let hopeless = match waiting.dialled_at {
            Some(at) => now < at + AT_ONCE,
            None => over_streams && !waiting.addrs.is_empty() && waiting.addrs.iter().all(addr::is_quic),
        };
        if serves || !waiting.for_directory || !hopeless {
            return false;
        }
        waiting.sought = true;
        self.start_search(peer, now + SEEK_TIME)
    }

    /// The search is over. What it has found is dialled; if that is nothing, what was given and has not been dialled.
    pub(super) fn on_whereabouts(&mut self, peer: PeerId, closest: &[Holder]) {
        let Some(waiting) = self.requests.waiting.get_mut(&peer) else { return };
        let told = closest.iter().filter(|holder| holder.peer == peer).flat_map(|holder| &holder.addrs);
        let told = addr::usable(told.cloned().collect(), self.private.allowed());
        let new: Vec<_> =
            told.into_iter().filter(|addr| !waiting.addrs.contains(addr)).take(MAX_TOLD).collect();
        if new.is_empty() && waiting.dialled_at.is_some() {
            return self.fail_waiting(peer);
        }
        if !new.is_empty() {
            waiting.addrs = new;
        }
        self.dial_waiting(peer);
    }
}
