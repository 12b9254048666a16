//! The two protocols as bytes, by encoders of our own: a liar can't use the library's.
//!
//! Signalling is CBOR (`docs/protocol.md`), one message per direction of a stream. Kademlia is libp2p's protobuf with a length in
//! front (specs/kad-dht).

use std::sync::atomic::{AtomicU64, Ordering};

use minicbor::{Decoder, Encoder};
use offhook_proto::identity::{SignedCert, TerminalId};
use offhook_proto::wire;

/// The signalling protocol's name.
pub const SIGNAL: &str = "/offhook/signal/1";
/// The DHT's protocol name.
pub const KAD: &str = "/offhook/kad/1";

type Bytes = Encoder<Vec<u8>>;

/// A request: an array of the variant and a map of its fields.
fn request(variant: u32, fields: u64, write: impl FnOnce(&mut Bytes)) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    // Writing to a Vec doesn't fail.
    let _ = encoder.array(2).and_then(|e| e.u32(variant)).and_then(|e| e.map(fields));
    write(&mut encoder);
    encoder.into_writer()
}

/// What services are there?
pub fn hello() -> Vec<u8> {
    request(0, 0, |_| ())
}

/// Pass packets on to me.
pub fn register(cert: &SignedCert) -> Vec<u8> {
    let cert = wire::encode(cert);
    request(1, 1, |e| {
        let _ = e.u32(0);
        e.writer_mut().extend(cert);
    })
}

/// Pass a packet on; `next` is the directory to pass it to if the terminal isn't connected.
pub fn forward(to: &TerminalId, blob: &[u8], next: Option<&str>) -> Vec<u8> {
    let to = wire::encode(to);
    request(2, 2 + u64::from(next.is_some()), |e| {
        let _ = e.u32(0);
        e.writer_mut().extend(to);
        let _ = e.u32(1).and_then(|e| e.bytes(blob));
        if let Some(next) = next {
            let _ = e.u32(2).and_then(|e| e.str(next));
        }
    })
}

/// A packet for you.
pub fn deliver(blob: &[u8]) -> Vec<u8> {
    request(3, 1, |e| {
        let _ = e.u32(0).and_then(|e| e.bytes(blob));
    })
}

/// Packets for you, each of which claims to come from somebody else.
pub fn deliver_in_a_new_name() -> impl Fn(&[u8]) -> Vec<u8> + Send + 'static {
    let names = AtomicU64::new(0);
    move |blob| {
        let mut name = [0; 32];
        name[..8].copy_from_slice(&names.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        let origin = wire::encode(&TerminalId::from_bytes(name));
        request(3, 2, |e| {
            let _ = e.u32(0).and_then(|e| e.bytes(blob)).and_then(|e| e.u32(1));
            e.writer_mut().extend(origin);
        })
    }
}

/// Which records do you hold?
pub fn find(key: &[u8; 32]) -> Vec<u8> {
    request(4, 1, |e| {
        let _ = e.u32(0).and_then(|e| e.bytes(key));
    })
}

/// Hold these records.
pub fn store(key: &[u8; 32], set: &[u8]) -> Vec<u8> {
    request(5, 2, |e| {
        let _ = e.u32(0).and_then(|e| e.bytes(key)).and_then(|e| e.u32(1)).and_then(|e| e.bytes(set));
    })
}

/// Ask the DHT for the records; 0 first, 1 first proven, 2 all of them.
pub fn seek(key: &[u8; 32], want: u32) -> Vec<u8> {
    request(6, 2, |e| {
        let _ = e.u32(0).and_then(|e| e.bytes(key)).and_then(|e| e.u32(1)).and_then(|e| e.u32(want));
    })
}

/// Hold these records, and put them where they belong.
pub fn publish(key: &[u8; 32], set: &[u8]) -> Vec<u8> {
    request(7, 2, |e| {
        let _ = e.u32(0).and_then(|e| e.bytes(key)).and_then(|e| e.u32(1)).and_then(|e| e.bytes(set));
    })
}

/// An honest node's answer to a signalling request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To hello and register.
    Welcome,
    /// The terminal has acknowledged the packet.
    Delivered,
    /// The terminal isn't there.
    NotConnected,
    /// To find: the records held.
    Found(Option<Vec<u8>>),
    /// The records are on disk.
    Stored,
    /// Refused for good: 0 invalid, 1 incumbent, 2 stale, 3 not serving.
    Refused(u32),
    /// Not now.
    Busy,
    /// To seek: the first of the record sets found, and that there is nothing else.
    Sought(Option<Vec<u8>>),
    /// To publish: put to twenty nodes.
    Published,
    /// Anything else.
    Unknown,
}

impl Answer {
    /// Reads an answer; what isn't one is [`Answer::Unknown`].
    pub fn read(bytes: &[u8]) -> Self {
        Self::decode(bytes).unwrap_or(Self::Unknown)
    }

    fn decode(bytes: &[u8]) -> Result<Self, minicbor::decode::Error> {
        let mut d = Decoder::new(bytes);
        d.array()?;
        Ok(match d.u32()? {
            0 => Self::Welcome,
            1 => Self::Delivered,
            2 => Self::NotConnected,
            3 => Self::Found(field(&mut d, 0, |d| Ok(d.bytes()?.to_vec()))?),
            4 => Self::Stored,
            5 => field(&mut d, 0, Decoder::u32)?.map_or(Self::Unknown, Self::Refused),
            6 => Self::Busy,
            7 => Self::Sought(field(&mut d, 0, first_sought)?.flatten()),
            8 => Self::Published,
            _ => Self::Unknown,
        })
    }

    /// The answer of an honest node that has `set` and delivers whatever it gets.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Welcome | Self::Unknown => request(0, 1, |e| {
                let _ = e.u32(0).and_then(|e| e.array(0));
            }),
            Self::Delivered => request(1, 0, |_| ()),
            Self::NotConnected => request(2, 0, |_| ()),
            Self::Found(None) => request(3, 0, |_| ()),
            Self::Found(Some(set)) => request(3, 2, |e| {
                let _ = e.u32(0).and_then(|e| e.bytes(set)).and_then(|e| e.u32(1)).and_then(|e| e.u64(1));
            }),
            Self::Stored => request(4, 0, |_| ()),
            Self::Refused(reason) => request(5, 1, |e| {
                let _ = e.u32(0).and_then(|e| e.u32(*reason));
            }),
            Self::Busy => request(6, 0, |_| ()),
            Self::Sought(set) => request(7, 1, |e| {
                let _ = e.u32(0).and_then(|e| e.map(3)).and_then(|e| e.u32(0));
                let _ = e.array(u64::from(set.is_some()));
                if let Some(set) = set {
                    let _ = e.map(2).and_then(|e| e.u32(0)).and_then(|e| e.bytes(set));
                    let _ = e.u32(1).and_then(|e| e.array(2)).and_then(|e| e.u32(20)).and_then(|e| e.u32(20));
                }
                let _ = e.u32(1).and_then(|e| e.bool(true)).and_then(|e| e.u32(2)).and_then(|e| e.u32(20));
            }),
            Self::Published => request(8, 1, |e| {
                let _ = e.u32(0).and_then(|e| e.u32(20));
            }),
        }
    }
}

/// The first record set of those that a node of the DHT is said to serve.
fn first_sought(d: &mut Decoder<'_>) -> Result<Option<Vec<u8>>, minicbor::decode::Error> {
    let sets = field(d, 0, |d| {
        if d.array()?.unwrap_or_default() == 0 {
            return Ok(None);
        }
        field(d, 0, |d| Ok(d.bytes()?.to_vec()))
    })?;
    Ok(sets.flatten())
}

/// A field of the map that comes next; `None` if it is missing or null.
fn field<'b, T>(
    d: &mut Decoder<'b>,
    wanted: u32,
    read: impl FnOnce(&mut Decoder<'b>) -> Result<T, minicbor::decode::Error>,
) -> Result<Option<T>, minicbor::decode::Error> {
    for _ in 0..d.map()?.unwrap_or_default() {
        if d.u32()? == wanted {
            return match d.datatype()? {
                minicbor::data::Type::Null => Ok(None),
                _ => read(d).map(Some),
            };
        }
        d.skip()?;
    }
    Ok(None)
}

/// What a hostile node is asked by others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Services, or a registration.
    Hello,
    /// A packet, to pass on or to take.
    Packet(Vec<u8>),
    /// Records under a key.
    Find([u8; 32]),
    /// Records to hold.
    Store,
    /// Records under a key in the DHT.
    Seek([u8; 32]),
    /// Records to publish.
    Publish,
    /// Anything else.
    Unknown,
}

impl Asked {
    /// Reads a signalling request.
    pub fn read(bytes: &[u8]) -> Self {
        Self::decode(bytes).unwrap_or(Self::Unknown)
    }

    fn decode(bytes: &[u8]) -> Result<Self, minicbor::decode::Error> {
        let mut d = Decoder::new(bytes);
        d.array()?;
        let variant = d.u32()?;
        let blob = match variant {
            2 => field(&mut d, 1, |d| Ok(d.bytes()?.to_vec()))?,
            3 | 4 | 6 => field(&mut d, 0, |d| Ok(d.bytes()?.to_vec()))?,
            _ => None,
        };
        Ok(match (variant, blob) {
            (0 | 1, None) => Self::Hello,
            (2 | 3, Some(blob)) => Self::Packet(blob),
            (4, Some(key)) => key.try_into().map_or(Self::Unknown, Self::Find),
            (5, None) => Self::Store,
            (6, Some(key)) => key.try_into().map_or(Self::Unknown, Self::Seek),
            (7, None) => Self::Publish,
            _ => Self::Unknown,
        })
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

    #[test]
    fn answers_survive_the_round_trip() {
        let answers = [
            Answer::Welcome,
            Answer::Delivered,
            Answer::NotConnected,
            Answer::Found(None),
            Answer::Found(Some(vec![1, 2, 3])),
            Answer::Stored,
            Answer::Refused(2),
            Answer::Busy,
            Answer::Sought(None),
            Answer::Sought(Some(vec![1, 2, 3])),
            Answer::Published,
        ];
        for answer in answers {
            assert_eq!(Answer::read(&answer.encode()), answer);
        }
        assert_eq!(Answer::read(&[0xff]), Answer::Unknown);
    }

    #[test]
    fn the_library_understands_all_of_it() {
        use offhook_proto::service::{MAX_MESSAGE, Request, Response};
        let requests =
            [hello(), find(&[4; 32]), store(&[4; 32], b"set"), seek(&[4; 32], 1), publish(&[4; 32], b"set")];
        for request in requests {
            assert!(wire::decode::<Request>(&request, MAX_MESSAGE).is_ok(), "{request:02x?}");
        }
        for answer in [Answer::Sought(None), Answer::Sought(Some(vec![1])), Answer::Published, Answer::Stored]
        {
            assert!(wire::decode::<Response>(&answer.encode(), MAX_MESSAGE).is_ok(), "{answer:?}");
        }
    }

    #[test]
    fn requests_are_understood_by_the_other_end() {
        assert_eq!(Asked::read(&hello()), Asked::Hello);
        assert_eq!(Asked::read(&find(&[4; 32])), Asked::Find([4; 32]));
        assert_eq!(Asked::read(&store(&[4; 32], b"set")), Asked::Store);
        assert_eq!(Asked::read(&seek(&[4; 32], 2)), Asked::Seek([4; 32]));
        assert_eq!(Asked::read(&publish(&[4; 32], b"set")), Asked::Publish);
        let to = TerminalId::from_bytes([6; 32]);
        assert_eq!(Asked::read(&forward(&to, b"blob", Some("/dns/x"))), Asked::Packet(b"blob".to_vec()));
        assert_eq!(Asked::read(&deliver(b"blob")), Asked::Packet(b"blob".to_vec()));
        assert_eq!(Asked::read(b"nonsense"), Asked::Unknown);
    }
}
