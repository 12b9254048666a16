//! Checks that would come too early.
//!
//! Many routers answer unsolicited packets with an error instead of silence (it is the default of OpenWrt), and yet remember them: what
//! their own host sends to that address later leaves from another port than everybody was told, and no port-restricted NAT
//! lets it in. So the first packet between the two must come from the side of such a router. Between strangers the caller knows first
//! where the other end is, by the accept; its checks would be there before the callee has heard, by the confirm, where to
//! send its own. They gain nothing by that either, unless the callee's NAT lets everybody in. So they wait until the confirm is there:
//! half a round trip, as the path through the relay shows it. The caller's NAT is open by then for what the callee sends.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::media::types::Role;

/// What is waited for at most.
const LONGEST: Duration = Duration::from_millis(200);

/// Messages held back: a few pairs, checked every 70 ms.
const MAX_HELD: usize = 64;

/// A message and its two ends, ours first.
pub(super) type Message = (SocketAddr, SocketAddr, Vec<u8>);

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Deferred {
    until: Option<Instant>,
    /// Where the other end's router has a port for it.
    mapped: Vec<SocketAddr>,
    held: Vec<Message>,
}

impl Deferred {
    /// Our own addresses are shown at `now`, with a path through a relay whose round trip is this.
    pub(super) fn begin(&mut self, role: Role, now: Instant, rtt: Duration) {
        self.until = (role == Role::Caller).then(|| now + (rtt / 2).min(LONGEST));
    }

    /// The other end has told an address: its router's, or its own.
    pub(super) fn note(&mut self, address: SocketAddr, mapped: bool) {
        self.mapped.retain(|known| *known != address);
        if mapped {
            self.mapped.push(address);
        }
    }

    /// Keeps a check from one of our own addresses back if it would come too early. Gives back what is to be sent at once. One that
    /// is held already is enough for a pair.
    pub(super) fn hold(&mut self, message: Message) -> Option<Message> {
        if self.until.is_none() || !self.mapped.contains(&message.1) {
            return Some(message);
        }
        let known = self.held.iter().any(|(local, remote, _)| (*local, *remote) == (message.0, message.1));
        if !known && self.held.len() < MAX_HELD {
            self.held.push(message);
        }
        None
    }

    /// The other end has been heard from there: nothing is too early any more. Gives back what was held.
    pub(super) fn heard(&mut self, address: SocketAddr) -> Vec<Message> {
        self.mapped.retain(|known| *known != address);
        self.held.extract_if(.., |(_, remote, _)| *remote == address).collect()
    }

    /// When [`Deferred::release`] has something.
    pub(super) fn due(&self) -> Option<Instant> {
        self.until
    }

    /// What was held back long enough.
    pub(super) fn release(&mut self, now: Instant) -> Vec<Message> {
        match self.until.take_if(|until| *until <= now) {
            Some(_) => std::mem::take(&mut self.held),
            None => Vec::new(),
        }
    }
}
