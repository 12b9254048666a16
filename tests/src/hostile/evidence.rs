//! Everything that a hostile node has learnt.

use std::net::IpAddr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use libp2p::PeerId;

/// Most pieces of each kind that are kept; floods bring more than anybody wants to read.
const KEPT: usize = 20_000;

/// A packet that was given to a hostile node, as a terminal or as a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// By whom.
    pub from: PeerId,
    /// What it got.
    pub blob: Vec<u8>,
}

/// What identify said.
#[derive(Clone, Debug)]
pub struct Identified {
    /// Whose.
    pub peer: PeerId,
    /// Addresses that it lists as its own.
    pub listed: Vec<String>,
    /// Protocols that it speaks.
    pub protocols: Vec<String>,
}

/// What a node has received, in the order of arrival.
#[derive(Debug, Default)]
pub struct Seen {
    /// Connections: whom to, and the other end's address.
    pub connections: Vec<(PeerId, String)>,
    /// Of these, how many the other end made.
    pub accepted: usize,
    /// Identify's contents.
    pub identified: Vec<Identified>,
    /// Addresses in any other text form.
    pub texts: Vec<String>,
    /// Every request and answer, raw.
    pub payloads: Vec<Vec<u8>>,
    /// Packets to pass on or to take.
    pub packets: Vec<Packet>,
    /// Keys that somebody asked for, of Kademlia and of signalling.
    pub asked_for: Vec<[u8; 32]>,
    /// Keys for which somebody put a record here, by Kademlia.
    pub given: Vec<[u8; 32]>,
}

impl Seen {
    pub(super) fn payload(&mut self, bytes: &[u8]) {
        if self.payloads.len() < KEPT {
            self.payloads.push(bytes.to_vec());
        }
    }

    pub(super) fn packet(&mut self, from: PeerId, blob: Vec<u8>) {
        if self.packets.len() < KEPT {
            self.packets.push(Packet { from, blob });
        }
    }

    pub(super) fn text(&mut self, text: String) {
        if self.texts.len() < KEPT {
            self.texts.push(text);
        }
    }

    /// Where this address occurs in anything received, as text or as its bytes; nothing if it doesn't.
    pub fn mentions(&self, address: IpAddr) -> Vec<String> {
        let text = address.to_string();
        let mut found = Vec::new();
        for (peer, remote) in &self.connections {
            if contains(remote, &text) {
                found.push(format!("a connection with {peer} at {remote}"));
            }
        }
        for identified in &self.identified {
            if identified.listed.iter().any(|listed| contains(listed, &text)) {
                found.push(format!("identify of {}: {:?}", identified.peer, identified.listed));
            }
        }
        found.extend(self.texts.iter().filter(|line| contains(line, &text)).cloned());
        found.extend(
            self.payloads
                .iter()
                .filter_map(|bytes| in_bytes(bytes, address).map(|at| format!("{at}: {bytes:02x?}"))),
        );
        found
    }
}

/// Where an address occurs in bytes, as text or as itself.
pub fn in_bytes(bytes: &[u8], address: IpAddr) -> Option<&'static str> {
    if contains(&String::from_utf8_lossy(bytes), &address.to_string()) {
        return Some("as text");
    }
    let found = match address {
        IpAddr::V4(ip) => bytes.windows(4).any(|window| window == ip.octets()),
        IpAddr::V6(ip) => bytes.windows(16).any(|window| window == ip.octets()),
    };
    found.then_some("in binary")
}

/// Whether the text has the address in it, and not just a longer one.
fn contains(text: &str, address: &str) -> bool {
    let is_digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    text.match_indices(address).any(|(at, _)| {
        !is_digit(text[..at].chars().next_back()) && !is_digit(text[at + address.len()..].chars().next())
    })
}

/// [`Seen`], shared between a node and the test.
#[derive(Debug, Default)]
pub struct Evidence {
    seen: Mutex<Seen>,
    news: Condvar,
}

impl Evidence {
    /// A look at it.
    pub fn look(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, add: impl FnOnce(&mut Seen)) {
        add(&mut self.look());
        self.news.notify_all();
    }

    /// Waits until the look finds something; `None` when it does not in time.
    pub fn wait<T>(&self, timeout: Duration, find: impl Fn(&Seen) -> Option<T>) -> Option<T> {
        let end = Instant::now() + timeout;
        let mut seen = self.look();
        loop {
            if let Some(found) = find(&seen) {
                return Some(found);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            seen = self.news.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_every_form_and_not_in_longer_ones() {
        let address = IpAddr::from([11, 0, 3, 2]);
        assert_eq!(in_bytes(b"x/ip4/11.0.3.2/udp", address), Some("as text"));
        assert_eq!(in_bytes(&[9, 11, 0, 3, 2, 9], address), Some("in binary"));
        assert_eq!(in_bytes(b"/ip4/11.0.3.21/udp /ip4/111.0.3.2", address), None);
        let mut seen = Seen::default();
        assert!(seen.mentions(address).is_empty());
        seen.connections.push((PeerId::random(), "/ip4/11.0.3.2/tcp/1".to_owned()));
        seen.text("/ip4/11.0.3.2".to_owned());
        seen.payload(&[0, 11, 0, 3, 2]);
        assert_eq!(seen.mentions(address).len(), 3);
    }
}
