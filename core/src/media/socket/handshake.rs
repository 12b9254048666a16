//! Repeating the packets of a handshake: what the driver has to say about it.

use std::time::Instant;

use super::{MediaSocket, transmit_of};

impl MediaSocket {
    /// When [`MediaSocket::repeat_handshake`] should be called.
    pub(in crate::media) fn handshake_due(&self) -> Option<Instant> {
        self.lock().flight.due()
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

    /// Sends packets of a handshake again that has not come to an end in time.
    pub(in crate::media) fn repeat_handshake(&self, now: Instant) {
        let mut inner = self.lock();
        let (packets, path) = (inner.flight.again(now), inner.path.clone());
        drop(inner);
        for packet in packets {
            // What is lost here is sent once more.
            let _ = self.send_along(&path, &transmit_of(&packet));
        }
    }
}
