//! What is not sent because something cheaper is about to come: every byte through a directory is somebody's.
//!
//! Between ends that show each other their addresses from the start, a direct path mostly stands two round trips after the
//! first messages, while it still rings. So the handshake and addresses at relays wait for it, not long, and not once the
//! call is answered. Between strangers a path through a relay comes as soon, and costs the directory half of what the tunnel
//! does: the handshake waits for that. What it does send through the tunnel goes in as few messages as it can.

use std::time::{Duration, Instant};

use offhook_proto::signalling::MAX_TUNNEL_DATAGRAMS;

use super::Driver;
use crate::media::socket::UNDER_WAY;
use crate::media::types::{MediaEvent, Path, Role};

/// QUIC says what it has to say at once; what it says within this time goes into one message.
const TURN: Duration = Duration::from_millis(2);

/// Relays answer one after another within this time; their addresses go into one message, since each costs the directories on
/// its way two kilobytes.
const TOGETHER: Duration = Duration::from_millis(15);

/// What waits, and until when.
#[derive(Debug, Default)]
pub(super) struct Thrift {
    pub(super) handshake: Option<Instant>,
    relays: Option<Instant>,
    /// When addresses at relays are told that have been given.
    candidates: Option<Instant>,
    pub(super) tunnel: Turn,
    /// There is a relay that may give an address.
    pub(super) has_relay: bool,
}

impl Thrift {
    pub(super) fn due(&self) -> Option<Instant> {
        [self.handshake, self.relays, self.candidates, self.tunnel.due].into_iter().flatten().min()
    }
}

/// Packets for the tunnel that go together.
#[derive(Debug, Default)]
pub(super) struct Turn {
    packets: Vec<Vec<u8>>,
    due: Option<Instant>,
}

impl Turn {
    pub(super) fn push(&mut self, packet: Vec<u8>, now: Instant) {
        self.packets.push(packet);
        let full = self.packets.len() >= MAX_TUNNEL_DATAGRAMS;
        self.due = if full { Some(now) } else { self.due.or(Some(now + TURN)) };
    }

    fn take(&mut self, now: Instant) -> Option<Vec<Vec<u8>>> {
        self.due.take_if(|due| *due <= now).map(|_| std::mem::take(&mut self.packets))
    }
}

impl Driver {
    /// Whether a direct path may come before the answer.
    fn hopes(&self) -> bool {
        self.config.disclose && !self.config.relay_only
    }

    /// Relays that are added from now on are asked for an address only if no direct path comes.
    pub(super) fn spare_relays_at_first(&mut self) {
        if self.hopes() {
            self.socket.want_relays(false);
        }
    }

    /// The other end is known: from now on a path may come. Whether the handshake waits for that.
    pub(super) fn wait_for_path(&mut self) -> bool {
        let (now, rings) = (Instant::now(), self.talking.is_none());
        let patience = if self.hopes() { self.config.direct_patience } else { self.config.relay_patience };
        if self.hopes() && rings {
            // A path that works one way only does not show before the handshake's end.
            self.thrift.relays = Some(now + patience * 2);
        } else if self.hopes() {
            self.socket.want_relays(true);
        }
        let waits = rings && !patience.is_zero() && (self.hopes() || self.thrift.has_relay);
        self.thrift.handshake = Some(now + patience).filter(|_| waits && self.config.role == Role::Caller);
        waits
    }

    /// A path has been found before the keys are agreed. A handshake on the one `before` may be waiting for a lost packet; a new one
    /// is faster here. Through a relay it is no faster than through the tunnel, so one that goes there may come to its end.
    pub(super) fn begin_handshake_on(&mut self, path: &Path, before: &Path) {
        let as_fast = matches!((path, before), (Path::Relayed { .. }, Path::Tunnel));
        let is_under_way = as_fast && !self.handshakes.is_empty();
        if is_under_way {
            self.thrift.handshake.get_or_insert(Instant::now() + UNDER_WAY);
        } else {
            self.thrift.handshake = None;
            self.begin_handshake();
        }
    }

    /// A relay has given an address; others may as well.
    pub(super) fn tell_soon(&mut self, now: Instant) {
        // Once it is answered, nothing waits.
        let due = if self.talking.is_some() { now } else { now + TOGETHER };
        self.thrift.candidates.get_or_insert(due);
    }

    /// The call is answered.
    pub(super) fn wait_no_longer(&mut self) {
        let now = Instant::now();
        let Thrift { handshake, relays, candidates, .. } = &mut self.thrift;
        for due in [handshake, relays, candidates].into_iter().flatten() {
            *due = now;
        }
    }

    /// Does what has waited long enough.
    pub(super) async fn spend(&mut self) {
        let now = Instant::now();
        if self.thrift.handshake.take_if(|due| *due <= now).is_some() && self.session.is_none() {
            self.begin_handshake();
        }
        if self.thrift.candidates.take_if(|due| *due <= now).is_some() {
            self.tell_candidates().await;
        }
        let is_well = self.session.is_some() && self.direct_since.is_some();
        if self.thrift.relays.take_if(|due| *due <= now).is_some() && !is_well {
            self.socket.want_relays(true);
        }
        if let Some(packets) = self.thrift.tunnel.take(now) {
            self.emit(MediaEvent::Tunnel(packets)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_at_once_goes_together_and_no_more_than_fits() {
        let (mut turn, start) = (Turn::default(), Instant::now());
        assert_eq!(turn.take(start), None);
        turn.push(vec![1], start);
        assert_eq!(turn.take(start), None, "more may come");
        turn.push(vec![2], start + TURN / 2);
        assert_eq!(turn.due, Some(start + TURN), "the first one does not wait for ever");
        assert_eq!(turn.take(start + TURN), Some(vec![vec![1], vec![2]]));
        assert_eq!((turn.take(start + TURN), turn.due), (None, None));
        for n in 0..MAX_TUNNEL_DATAGRAMS {
            turn.push(vec![n as u8], start);
        }
        assert_eq!(turn.take(start).map(|packets| packets.len()), Some(MAX_TUNNEL_DATAGRAMS));
    }
}
