//! Transaction ids (RFC 8489 section 6): which message is a copy, and which answer comes from where we asked.

use std::collections::VecDeque;
use std::net::SocketAddr;

/// Checks of the other end that are remembered. The agent gives each try a new id, and they come every 200 ms a
/// pair; a copy that comes later than 256 others is taken for a check from an address that nobody told.
const MAX_SEEN: usize = 256;
/// Checks of ours whose answers are waited for: at one each 10 ms, 2.5 s.
const MAX_SENT: usize = 256;

/// Message type of a binding request (RFC 8489 section 5).
const REQUEST: [u8; 2] = [0, 1];

type TransactionId = [u8; 12];

/// What the transaction id says about an authenticated message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It came first from here.
    Fresh,
    /// It, too, came from another address: one of the two is a copy.
    Copied,
    /// It came from two others already, or answers what was asked of another address.
    Refused,
}

struct Seen {
    id: TransactionId,
    first: SocketAddr,
    second: Option<SocketAddr>,
}

/// See the module's documentation. When it is full the oldest is forgotten.
#[derive(Default)]
pub(super) struct Replays {
    seen: VecDeque<Seen>,
    sent: VecDeque<(TransactionId, SocketAddr)>,
}

impl Replays {
    /// A message of ours goes to `remote`.
    pub(super) fn sent(&mut self, message: &[u8], remote: SocketAddr) {
        let Some(id) = transaction_id(message).filter(|_| message.starts_with(&REQUEST)) else { return };
        if self.sent.len() == MAX_SENT {
            self.sent.pop_front();
        }
        self.sent.push_back((id, remote));
    }

    /// An authenticated check came from `source`.
    pub(super) fn request(&mut self, message: &[u8], source: SocketAddr) -> Verdict {
        let Some(id) = transaction_id(message) else { return Verdict::Refused };
        if let Some(seen) = self.seen.iter_mut().find(|seen| seen.id == id) {
            return match seen.second {
                _ if seen.first == source => Verdict::Fresh,
                Some(second) if second != source => Verdict::Refused,
                Some(_) | None => {
                    seen.second = Some(source);
                    Verdict::Copied
                }
            };
        }
        if self.seen.len() == MAX_SEEN {
            self.seen.pop_front();
        }
        self.seen.push_back(Seen { id, first: source, second: None });
        Verdict::Fresh
    }

    /// An authenticated answer came from `source`.
    pub(super) fn answer(&self, message: &[u8], source: SocketAddr) -> Verdict {
        let Some(id) = transaction_id(message) else { return Verdict::Refused };
        let asked = self.sent.iter().any(|(sent, remote)| *sent == id && *remote == source);
        if asked { Verdict::Fresh } else { Verdict::Refused }
    }
}

fn transaction_id(message: &[u8]) -> Option<TransactionId> {
    message.get(8..20)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: u32) -> Vec<u8> {
        [&REQUEST[..], &[0; 6], &id.to_be_bytes(), &[7; 8]].concat()
    }

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn one_copy_may_be_the_original_but_not_two() {
        let mut replays = Replays::default();
        assert_eq!(replays.request(&message(1), address(1)), Verdict::Fresh);
        assert_eq!(replays.request(&message(1), address(2)), Verdict::Copied);
        assert_eq!(replays.request(&message(1), address(3)), Verdict::Refused);
        assert_eq!(replays.request(&message(1), address(2)), Verdict::Copied);
        assert_eq!(
            replays.request(&message(1), address(1)),
            Verdict::Fresh,
            "the network may repeat a packet"
        );
        assert_eq!(replays.request(&message(2), address(3)), Verdict::Fresh);
        assert_eq!(replays.request(&[1; 19], address(1)), Verdict::Refused);
    }

    #[test]
    fn answers_come_from_where_the_check_went() {
        let mut replays = Replays::default();
        replays.sent(&message(1), address(1));
        assert_eq!(replays.answer(&message(1), address(1)), Verdict::Fresh);
        assert_eq!(replays.answer(&message(1), address(2)), Verdict::Refused);
        assert_eq!(replays.answer(&message(2), address(1)), Verdict::Refused);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut replays = Replays::default();
        for id in 0..10_000 {
            replays.request(&message(id), address(1));
            replays.sent(&message(id), address(1));
        }
        assert_eq!((replays.seen.len(), replays.sent.len()), (MAX_SEEN, MAX_SENT));
        assert_eq!(replays.request(&message(9_999), address(2)), Verdict::Copied);
    }
}
