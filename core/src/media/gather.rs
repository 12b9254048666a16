//! STUN client: asks servers how they see our address (RFC 8489). Sans-IO: messages and time in and out.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use offhook_proto::wire::canonical;
use stun_types::attribute::XorMappedAddress;
use stun_types::message::{BINDING, Message, MessageClass, MessageWrite, MessageWriteVec, TransactionId};

/// Servers that are asked; more would only delay and tell more strangers about us.
pub(super) const MAX_SERVERS: usize = 4;
/// First retransmission. RFC 8489 section 6.2.1 starts at 500 ms, which a caller would hear.
const INITIAL_RTO: Duration = Duration::from_millis(100);
/// Requests per attempt (Rc of RFC 8489 section 6.2.1): the last is sent after 6.3 s.
const MAX_REQUESTS: u32 = 7;
/// How often an answer is asked for again, which keeps a NAT's mapping (30 s on many) and notices a new one.
const REFRESH: Duration = Duration::from_secs(15);

struct Transaction {
    server: SocketAddr,
    id: TransactionId,
    sent: u32,
    due: Instant,
}

/// Asks all servers at once and keeps asking.
pub(super) struct Gatherer {
    transactions: Vec<Transaction>,
    asking: bool,
}

impl Gatherer {
    /// Requests are due at `now` for the first [`MAX_SERVERS`] of `servers`.
    pub(super) fn new(servers: &[SocketAddr], now: Instant) -> Gatherer {
        let transactions = servers
            .iter()
            .take(MAX_SERVERS)
            .map(|&server| Transaction { server, id: TransactionId::generate(), sent: 0, due: now })
            .collect();
        Gatherer { transactions, asking: true }
    }

    /// Stops asking, once a direct path keeps its own mapping alive.
    pub(super) fn stop(&mut self) {
        self.asking = false;
    }

    /// Asks all servers anew: our address may be another.
    pub(super) fn restart(&mut self, now: Instant) {
        self.asking = true;
        for transaction in &mut self.transactions {
            (transaction.id, transaction.sent, transaction.due) = (TransactionId::generate(), 0, now);
        }
    }

    /// When [`Gatherer::poll`] has something next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.transactions.iter().map(|transaction| transaction.due).min().filter(|_| self.asking)
    }

    /// The next request that is due: where to and what.
    pub(super) fn poll(&mut self, now: Instant) -> Option<(SocketAddr, Vec<u8>)> {
        let due = |transaction: &&mut Transaction| transaction.due <= now;
        let transaction = self.transactions.iter_mut().find(due).filter(|_| self.asking)?;
        if transaction.sent == MAX_REQUESTS {
            // No answer: begin a new transaction later, the server or our own network may come back.
            transaction.id = TransactionId::generate();
            transaction.sent = 0;
            transaction.due = now + REFRESH;
            return self.poll(now);
        }
        transaction.due = now + INITIAL_RTO * (1 << transaction.sent);
        transaction.sent += 1;
        let request = request(transaction.id);
        Some((transaction.server, request))
    }

    /// Takes a STUN message. If it answers a request of ours and comes from where that went to, returns our
    /// address as the server saw it; `None` means that it is for somebody else.
    pub(super) fn handle(&mut self, now: Instant, source: SocketAddr, bytes: &[u8]) -> Option<SocketAddr> {
        let message = Message::from_bytes(bytes).ok()?;
        if message.method() != BINDING || message.class() != MessageClass::Success {
            return None;
        }
        let id = message.transaction_id();
        let transaction = self.transactions.iter_mut().find(|t| t.server == source && t.id == id)?;
        let mapped = message.attribute::<XorMappedAddress>().ok()?.addr(id);
        transaction.id = TransactionId::generate();
        transaction.sent = 0;
        transaction.due = now + REFRESH;
        Some(canonical(mapped))
    }
}

fn request(id: TransactionId) -> Vec<u8> {
    let class = stun_types::message::MessageType::from_class_method(MessageClass::Request, BINDING);
    Message::builder(class, id, MessageWriteVec::new()).finish()
}

#[cfg(test)]
mod tests {
    use stun_types::message::MessageWriteExt;

    use super::*;

    fn answer(request: &[u8], mapped: SocketAddr) -> Vec<u8> {
        let request = Message::from_bytes(request).unwrap();
        let mut out = Message::builder_success(&request, MessageWriteVec::new());
        out.add_attribute(&XorMappedAddress::new(mapped, request.transaction_id())).unwrap();
        out.finish()
    }

    #[test]
    fn asks_until_answered_then_refreshes() {
        let server: SocketAddr = "192.0.2.7:3478".parse().unwrap();
        let mapped: SocketAddr = "203.0.113.9:1234".parse().unwrap();
        let start = Instant::now();
        let mut gatherer = Gatherer::new(&[server], start);
        let (to, first) = gatherer.poll(start).unwrap();
        assert_eq!(to, server);
        assert!(gatherer.poll(start).is_none());
        let again = start + INITIAL_RTO;
        assert_eq!(gatherer.poll_timeout(), Some(again));
        assert_eq!(gatherer.poll(again).unwrap().1, first, "a retransmission is the same request");

        let response = answer(&first, mapped);
        let stranger: SocketAddr = "198.51.100.1:3478".parse().unwrap();
        assert_eq!(gatherer.handle(again, stranger, &response), None, "only the server may answer");
        assert_eq!(gatherer.handle(again, server, &response), Some(mapped));
        assert_eq!(gatherer.handle(again, server, &response), None, "an answer counts once");
        assert_eq!(gatherer.poll_timeout(), Some(again + REFRESH));
        let (_, refresh) = gatherer.poll(again + REFRESH).unwrap();
        assert_ne!(refresh, first);
    }

    #[test]
    fn gives_up_for_a_while_without_an_answer() {
        let start = Instant::now();
        let mut gatherer = Gatherer::new(&["192.0.2.7:3478".parse().unwrap()], start);
        let mut sent = Vec::new();
        while let Some(due) = gatherer.poll_timeout().filter(|due| *due < start + Duration::from_secs(13)) {
            if gatherer.poll(due).is_some() {
                sent.push((due - start).as_millis());
            }
        }
        assert_eq!(sent, [0, 100, 300, 700, 1500, 3100, 6300]);
    }

    #[test]
    fn who_has_stopped_asks_again_when_told() {
        let server = "192.0.2.7:3478".parse().unwrap();
        let start = Instant::now();
        let mut gatherer = Gatherer::new(&[server], start);
        let (_, first) = gatherer.poll(start).unwrap();
        gatherer.stop();
        assert_eq!((gatherer.poll_timeout(), gatherer.poll(start + REFRESH)), (None, None));
        gatherer.restart(start + REFRESH);
        let (_, second) = gatherer.poll(start + REFRESH).unwrap();
        let mapped = "203.0.113.5:4444".parse().unwrap();
        assert_eq!(gatherer.handle(start + REFRESH, server, &answer(&first, mapped)), None, "an old answer");
        assert_eq!(gatherer.handle(start + REFRESH, server, &answer(&second, mapped)), Some(mapped));
    }

    #[test]
    fn nonsense_is_not_an_answer() {
        let server = "192.0.2.7:3478".parse().unwrap();
        let mut gatherer = Gatherer::new(&[server], Instant::now());
        for bytes in [&[][..], &[0; 20], &[1; 600]] {
            assert_eq!(gatherer.handle(Instant::now(), server, bytes), None);
        }
    }
}
