//! Repeating the packets of a handshake: what the driver has to say about it.

use std::time::{Duration, Instant};

use quinn::AsyncUdpSocket;

use super::{MediaSocket, is_short, transmit_of};
use crate::media::types::Path;

/// How long what goes through the tunnel may stay unanswered, and a handshake there unfinished, before a path through a relay that has
/// been found meanwhile is used as well. Both ways take as long, and the tunnel seldom loses a packet; each byte of a relay's passes a
/// directory twice. A direct path is faster, and costs nobody.
pub(in crate::media) const UNDER_WAY: Duration = Duration::from_millis(150);

/// When what was sent through the tunnel should go on a path that has just been found.
pub(super) fn carry_over_at(path: &Path, now: Instant) -> Option<Instant> {
    match path {
        Path::Tunnel => None,
        Path::Relayed { .. } => Some(now + UNDER_WAY),
        Path::Direct { .. } => Some(now),
    }
}

impl MediaSocket {
    /// When [`MediaSocket::repeat_handshake`] should be called.
    pub(in crate::media) fn handshake_due(&self) -> Option<Instant> {
        let inner = self.lock();
        [inner.flight.due(), inner.carry_over].into_iter().flatten().min()
    }

    /// The caller has chosen a connection whose keys it has, or that came to nothing: until then, and from then on again, packets
    /// of handshakes are repeated that are still to be sent.
    pub(in crate::media) fn choose_handshake(&self, chosen: bool) {
        self.lock().flight.choose(chosen);
    }

    /// Both ends have the keys.
    pub(in crate::media) fn end_handshake(&self) {
        self.lock().flight.land();
    }

    /// Sends on the path what went through the tunnel, if that is due and it is unanswered still.
    pub(super) fn carry_over(&self, now: Instant) {
        let mut inner = self.lock();
        if inner.carry_over.take_if(|due| *due <= now).is_none() {
            return;
        }
        let unanswered = inner.unanswered.clone();
        for packet in unanswered.iter().filter(|packet| !is_short(packet)) {
            inner.flight.carried_over(packet, now);
        }
        drop(inner);
        for packet in unanswered {
            // What is lost here QUIC repeats.
            let _ = self.try_send(&transmit_of(&packet));
        }
    }

    /// Sends packets of a handshake again that has not come to an end in time.
    pub(in crate::media) fn repeat_handshake(&self, now: Instant) {
        self.carry_over(now);
        let mut inner = self.lock();
        let (packets, path) = (inner.flight.again(now), inner.path.clone());
        drop(inner);
        for packet in packets {
            // What is lost here is sent once more.
            let _ = self.send_along(&path, &transmit_of(&packet));
        }
    }
}
