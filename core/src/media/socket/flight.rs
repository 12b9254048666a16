//! The handshake's packets on a path, until the keys are agreed: sent again sooner than QUIC would.
//!
//! QUIC repeats what is lost after a probe time-out, which it measures (RFC 9002 section 6.2). A handshake that began through the
//! tunnel has measured signalling that loses packets, so one that has a path by then may wait for seconds: at 20 % loss
//! about one call in sixty had no keys eight seconds after the answer. A packet with a short header does not tell that the other end has the
//! keys: a server sends such before it has the client's last word (RFC 9001 section 5.7), which may be what is lost. Sans-IO.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// When packets of a handshake that nothing has ended are sent again: later than an answer comes on nearly all paths.
const AGAIN: Duration = Duration::from_millis(300);
/// Packets kept, the newest: a turn of the handshake has two or three.
const MAX_PACKETS: usize = 4;
/// How often they are sent again without further ones of this end's: for two seconds. By then QUIC's own time-out is as short.
const MAX_ROUNDS: u8 = 8;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Flight {
    packets: VecDeque<Vec<u8>>,
    due: Option<Instant>,
    rounds: u8,
    /// This end has the keys of the connection that it has chosen.
    chosen: bool,
    /// Both ends have the keys.
    over: bool,
}

impl Flight {
    /// Takes a packet with a long header that is sent on a path.
    pub(super) fn sent(&mut self, packet: &[u8], now: Instant) {
        if !self.over && !self.chosen {
            self.keep(packet, now);
        }
    }

    /// Takes one that went through the tunnel, and goes on the path now that there is one.
    pub(super) fn carried_over(&mut self, packet: &[u8], now: Instant) {
        if !self.over && self.chosen {
            self.keep(packet, now);
        }
    }

    fn keep(&mut self, packet: &[u8], now: Instant) {
        if self.packets.len() == MAX_PACKETS {
            self.packets.pop_front();
        }
        self.packets.push_back(packet.to_vec());
        self.rounds = 0;
        self.due.get_or_insert(now + AGAIN);
    }

    /// The caller has made its choice: its last word on that connection was sent just now. What follows are farewells to the other
    /// handshakes, which would take the place of that word. Or the choice came to nothing.
    pub(super) fn choose(&mut self, chosen: bool) {
        self.chosen = chosen;
    }

    /// Both ends have the keys.
    pub(super) fn land(&mut self) {
        *self = Self { over: true, ..Self::default() };
    }

    /// When [`Flight::again`] should be called.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What is to be sent again now.
    pub(super) fn again(&mut self, now: Instant) -> Vec<Vec<u8>> {
        if self.due.take_if(|due| *due <= now).is_none() {
            return Vec::new();
        }
        self.rounds += 1;
        if self.rounds < MAX_ROUNDS {
            self.due = Some(now + AGAIN);
        }
        self.packets.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_is_sent_again_until_both_ends_have_the_keys() {
        let (mut flight, start) = (Flight::default(), Instant::now());
        assert_eq!(flight.due(), None);
        flight.sent(&[1], start);
        flight.sent(&[2], start + AGAIN / 2);
        assert_eq!(flight.due(), Some(start + AGAIN), "the first one does not wait for the second");
        assert!(flight.again(start + AGAIN / 2).is_empty());
        assert_eq!(flight.again(start + AGAIN), [[1], [2]]);
        assert_eq!(flight.due(), Some(start + AGAIN * 2));
        flight.land();
        assert!(flight.due().is_none() && flight.again(start + AGAIN * 2).is_empty());
        flight.sent(&[3], start + AGAIN * 2);
        assert_eq!(flight.due(), None, "what comes after that is of no handshake that matters");
    }

    #[test]
    fn farewells_to_other_handshakes_do_not_take_the_place_of_the_last_word() {
        let (mut flight, start) = (Flight::default(), Instant::now());
        flight.sent(&[7], start);
        flight.choose(true);
        for n in 0..10 {
            flight.sent(&[n], start);
        }
        assert_eq!(flight.again(start + AGAIN), [[7]]);
        flight.carried_over(&[6], start + AGAIN);
        assert_eq!(flight.again(start + AGAIN * 2), [[7], [6]], "the tunnel's may be the last word");
        flight.choose(false);
        flight.carried_over(&[9], start + AGAIN);
        flight.sent(&[8], start + AGAIN);
        assert_eq!(flight.again(start + AGAIN * 3), [[7], [6], [8]], "once each");
    }

    #[test]
    fn it_ends_when_nobody_answers_and_keeps_few_packets() {
        let (mut flight, mut now) = (Flight::default(), Instant::now());
        for n in 0..10 {
            flight.sent(&[n], now);
        }
        let mut rounds = 0;
        while let Some(due) = flight.due() {
            now = due;
            assert_eq!(flight.again(now), [[6], [7], [8], [9]]);
            rounds += 1;
        }
        assert_eq!(rounds, MAX_ROUNDS);
        flight.sent(&[10], now);
        assert!(flight.due().is_some(), "another turn");
    }
}
