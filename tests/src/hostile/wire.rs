//! The two protocols as bytes: signalling by the library's own encoder, of messages that no honest node would send, and Kademlia by
//! one of our own, for which libp2p has none that lies.
//!
//! Signalling is one message per direction of a stream. Kademlia is libp2p's protobuf with a length in front (specs/kad-dht).

use std::sync::atomic::{AtomicU64, Ordering};

use offhook_proto::identity::{SignedCert, TerminalId};
use offhook_proto::service::{Refusal, Request, Response, Sought, SoughtSet, Want};
use offhook_proto::wire::{UnixMillis, decode, encode};

/// The signalling protocol's name.
pub const SIGNAL: &str = "/offhook/signal/1";
/// The DHT's protocol name.
pub const KAD: &str = "/offhook/kad/1";

/// Nodes that a hostile one says it has asked or put to.
const NODES: u32 = 20;

/// What services are there?
pub fn hello() -> Vec<u8> {
    encode(&Request::Hello)
}

/// Pass packets on to me.
pub fn register(cert: &SignedCert) -> Vec<u8> {
    encode(&Request::Register { cert: cert.clone() })
}

/// Pass a packet on; `next` is the directory to pass it to if the terminal isn't connected.
pub fn forward(to: &TerminalId, blob: &[u8], next: Option<&str>) -> Vec<u8> {
    encode(&Request::Forward { to: *to, blob: blob.to_vec(), next: next.map(str::to_owned), origin: None })
}

/// A packet for you.
pub fn deliver(blob: &[u8]) -> Vec<u8> {
    encode(&Request::Deliver { blob: blob.to_vec(), origin: None })
}

/// Packets for you, each of which claims to come from somebody else.
pub fn deliver_in_a_new_name() -> impl Fn(&[u8]) -> Vec<u8> + Send + 'static {
    let names = AtomicU64::new(0);
    move |blob| {
        let mut name = [0; 32];
        name[..8].copy_from_slice(&names.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        encode(&Request::Deliver { blob: blob.to_vec(), origin: Some(TerminalId::from_bytes(name)) })
    }
}

/// Which records do you hold?
pub fn find(key: &[u8; 32]) -> Vec<u8> {
    encode(&Request::Find { key: *key })
}

/// Hold these records.
pub fn store(key: &[u8; 32], set: &[u8]) -> Vec<u8> {
    encode(&Request::Store { key: *key, set: set.to_vec() })
}

/// Ask the DHT for the records.
pub fn seek(key: &[u8; 32], want: Want) -> Vec<u8> {
    encode(&Request::Seek { key: *key, want })
}

/// Hold these records, and put them where they belong.
pub fn publish(key: &[u8; 32], set: &[u8]) -> Vec<u8> {
    encode(&Request::Publish { key: *key, set: set.to_vec() })
}

/// What these bytes ask, if anything.
pub fn request(bytes: &[u8]) -> Option<Request> {
    decode(bytes, usize::MAX).ok()
}

/// What these bytes answer, if anything.
pub fn response(bytes: &[u8]) -> Option<Response> {
    decode(bytes, usize::MAX).ok()
}

/// What a node would answer that is all the services itself, finds whatever it looks for in `record`, and keeps nothing.
pub fn honest(request: &Request, record: impl Fn(&[u8; 32]) -> Option<Vec<u8>>) -> Response {
    match request {
        Request::Hello | Request::Register { .. } => {
            Response::Welcome { stun: Vec::new(), stun_port: None, observed: None, others: Vec::new() }
        }
        Request::Forward { .. } | Request::Deliver { .. } => Response::Delivered,
        Request::Find { key } => Response::Found { set: record(key), since: Some(UnixMillis(1)) },
        Request::Store { .. } => Response::Stored,
        Request::Seek { key, .. } => {
            let found = record(key).map(|set| SoughtSet { set, holders: vec![NODES; 2] });
            Response::Sought(Sought { sets: found.into_iter().collect(), complete: true, answered: NODES })
        }
        Request::Publish { .. } => Response::Published { nodes: NODES },
        Request::Relay { .. } => Response::Refused { reason: Refusal::NotServing },
        Request::KnockWanted { .. } | Request::KnockAt { .. } | Request::Knock { .. } => Response::Knocking,
    }
}

/// Kinds of Kademlia messages.
pub mod kad {
    /// Hold this record.
    pub const PUT_VALUE: u64 = 0;
    /// Which record do you hold?
    pub const GET_VALUE: u64 = 1;
    /// Whom do you know close to a key?
    pub const FIND_NODE: u64 = 4;
}

/// A node as Kademlia messages name it: peer id and multiaddrs, in binary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KadPeer {
    /// The peer id.
    pub id: Vec<u8>,
    /// Where it is.
    pub addrs: Vec<Vec<u8>>,
}

/// A Kademlia message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KadMessage {
    /// See [`kad`].
    pub kind: u64,
    /// What it is about.
    pub key: Vec<u8>,
    /// The record's value.
    pub value: Option<Vec<u8>>,
    /// Nodes closer to the key.
    pub closer: Vec<KadPeer>,
}

impl KadMessage {
    /// A request without a record.
    pub fn ask(kind: u64, key: &[u8]) -> Self {
        Self { kind, key: key.to_vec(), ..Self::default() }
    }

    /// A request to hold a record.
    pub fn put(key: &[u8], value: &[u8]) -> Self {
        Self { value: Some(value.to_vec()), ..Self::ask(kad::PUT_VALUE, key) }
    }

    /// The message with its length in front.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        tag(&mut body, 1, 0);
        varint(&mut body, self.kind);
        bytes(&mut body, 2, &self.key);
        if let Some(value) = &self.value {
            let mut record = Vec::new();
            bytes(&mut record, 1, &self.key);
            bytes(&mut record, 2, value);
            bytes(&mut body, 3, &record);
        }
        for peer in &self.closer {
            let mut entry = Vec::new();
            bytes(&mut entry, 1, &peer.id);
            peer.addrs.iter().for_each(|addr| bytes(&mut entry, 2, addr));
            tag(&mut entry, 3, 0);
            varint(&mut entry, 1);
            bytes(&mut body, 8, &entry);
        }
        let mut framed = Vec::new();
        varint(&mut framed, body.len() as u64);
        framed.extend(body);
        framed
    }

    /// Reads a message with its length in front; `None` if it is incomplete or none.
    pub fn read(framed: &[u8]) -> Option<Self> {
        let mut reader = Reader(framed);
        let body = reader.delimited()?;
        let mut message = Self::default();
        for (number, field) in Reader(body).fields()? {
            match (number, field) {
                (1, Field::Number(kind)) => message.kind = kind,
                (2, Field::Bytes(key)) => message.key = key.to_vec(),
                (3, Field::Bytes(record)) => message.value = Some(value_of(record)?),
                (8, Field::Bytes(peer)) => message.closer.push(peer_of(peer)?),
                _ => {}
            }
        }
        Some(message)
    }

    /// Whether these bytes hold a whole message.
    pub fn is_whole(framed: &[u8]) -> bool {
        Reader(framed).delimited().is_some()
    }
}

fn value_of(record: &[u8]) -> Option<Vec<u8>> {
    let fields = Reader(record).fields()?;
    let value = fields.iter().find_map(|field| match field {
        (2, Field::Bytes(value)) => Some(value.to_vec()),
        _ => None,
    });
    Some(value.unwrap_or_default())
}

fn peer_of(bytes: &[u8]) -> Option<KadPeer> {
    let mut peer = KadPeer::default();
    for field in Reader(bytes).fields()? {
        match field {
            (1, Field::Bytes(id)) => peer.id = id.to_vec(),
            (2, Field::Bytes(addr)) => peer.addrs.push(addr.to_vec()),
            _ => {}
        }
    }
    Some(peer)
}

/// An unsigned LEB128 number.
pub fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

fn tag(out: &mut Vec<u8>, field: u64, kind: u64) {
    varint(out, field << 3 | kind);
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    tag(out, field, 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

struct Reader<'b>(&'b [u8]);

enum Field<'b> {
    Number(u64),
    Bytes(&'b [u8]),
}

impl<'b> Reader<'b> {
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (first, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn delimited(&mut self) -> Option<&'b [u8]> {
        let len = usize::try_from(self.varint()?).ok()?;
        let (value, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(value)
    }

    fn fields(mut self) -> Option<Vec<(u64, Field<'b>)>> {
        let mut fields = Vec::new();
        while !self.0.is_empty() {
            let tag = self.varint()?;
            let field = match tag & 7 {
                0 => Field::Number(self.varint()?),
                2 => Field::Bytes(self.delimited()?),
                _ => return None,
            };
            fields.push((tag >> 3, field));
        }
        Some(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kademlia_messages_survive_the_round_trip() {
        let peer = KadPeer { id: vec![7; 38], addrs: vec![vec![1, 2], vec![3]] };
        let message = KadMessage { closer: vec![peer], ..KadMessage::put(&[1; 32], &[5; 300]) };
        let bytes = message.encode();
        assert_eq!(KadMessage::read(&bytes), Some(message));
        assert!(!KadMessage::is_whole(&bytes[..bytes.len() - 1]));
    }
}
