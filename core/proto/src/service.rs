//! What nodes do for one another on request: the messages of the protocol `/offhook/signal/1`.
//!
//! One request and one response for each stream, CBOR, at most [`MAX_MESSAGE`] bytes each.

use std::fmt;

use minicbor::{Decode, Encode};

use crate::identity::{SignedCert, TerminalId};
use crate::knock::{Network, Place, Token};
use crate::relay::{GuestClaim, RelayTicket};
use crate::wire::UnixMillis;

/// Longest message in bytes: the longest record set (12 KiB) or packet (8 KiB) with room to spare.
pub const MAX_MESSAGE: usize = 16 * 1024;

/// Longest address in a message, in bytes.
pub const MAX_ADDR: usize = 256;

/// Other nodes named in one `Welcome`.
pub const MAX_OTHERS: usize = 4;

/// Record sets in one `Sought`, each of another identity; more claims to one number are noise.
pub const MAX_SOUGHT: usize = 4;

/// Bytes of all record sets in one `Sought`; what does not fit is left out. One set always fits.
pub const MAX_SOUGHT_BYTES: usize = MAX_MESSAGE - 1024;

/// What one node asks of another.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub enum Request {
    /// Which services does this node offer, and where does it see me?
    #[n(0)]
    Hello,
    /// Pass packets on to me over this connection while it lasts. The certificate must be for the key of the
    /// connection.
    #[n(1)]
    Register {
        /// The terminal's certificate.
        #[n(0)]
        cert: SignedCert,
    },
    /// Pass a sealed packet on to a terminal that is connected with you.
    #[n(2)]
    Forward {
        /// The terminal.
        #[n(0)]
        to: TerminalId,
        /// The packet.
        #[cbor(n(1), with = "minicbor::bytes")]
        blob: Vec<u8>,
        /// If it isn't connected: the directory to pass the packet on to, as a multiaddr. So a terminal needs no
        /// connection of its own to a stranger's directory, and doesn't show it its address.
        #[n(2)]
        next: Option<String>,
        /// The sender, when it isn't the connection's peer: set by a directory that passes on for another.
        #[n(3)]
        origin: Option<TerminalId>,
    },
    /// A sealed packet for you.
    #[n(3)]
    Deliver {
        /// The packet.
        #[cbor(n(0), with = "minicbor::bytes")]
        blob: Vec<u8>,
        /// Who gave it to me, when it isn't from myself.
        #[n(1)]
        origin: Option<TerminalId>,
    },
    /// Which records do you hold under this key?
    #[n(4)]
    Find {
        /// The hash of the number.
        #[cbor(n(0), with = "minicbor::bytes")]
        key: [u8; 32],
    },
    /// Hold these records.
    #[n(5)]
    Store {
        /// The hash of the number.
        #[cbor(n(0), with = "minicbor::bytes")]
        key: [u8; 32],
        /// An encoded record set.
        #[cbor(n(1), with = "minicbor::bytes")]
        set: Vec<u8>,
    },
    /// Ask the DHT for the records under this key, so that I need not show my address to its nodes.
    #[n(6)]
    Seek {
        /// The hash of the number.
        #[cbor(n(0), with = "minicbor::bytes")]
        key: [u8; 32],
        /// When to answer.
        #[n(1)]
        want: Want,
    },
    /// Hold these records, and put them to the nodes of the DHT closest to the key, likewise.
    #[n(7)]
    Publish {
        /// The hash of the number.
        #[cbor(n(0), with = "minicbor::bytes")]
        key: [u8; 32],
        /// An encoded record set.
        #[cbor(n(1), with = "minicbor::bytes")]
        set: Vec<u8>,
    },
    /// Give me credentials for your media relay (RFC 8656).
    #[n(8)]
    Relay {
        /// Who asks; not needed of a terminal that is registered here and whose records are held here.
        #[n(0)]
        claim: Option<GuestClaim>,
    },
    /// Have a stranger knock at me, so that I know whether I could serve others: at my address as you see it. No
    /// other can be named.
    #[n(9)]
    KnockWanted {
        /// The UDP port; without one, where you see me.
        #[n(0)]
        port: Option<u16>,
        /// What the stranger is to say.
        #[cbor(n(1), with = "minicbor::bytes")]
        token: Token,
        /// Where he is not to come from; [`MAX_EXCEPT`](crate::knock::MAX_EXCEPT) count.
        #[n(2)]
        except: Vec<Network>,
    },
    /// Knock there, with a connection over QUIC, for a node that I see at that IP address.
    #[n(10)]
    KnockAt {
        /// Where.
        #[n(0)]
        at: Place,
        /// What to say.
        #[cbor(n(1), with = "minicbor::bytes")]
        token: Token,
    },
    /// I was asked to knock at you, and have made a connection for it.
    #[n(11)]
    Knock {
        /// Where I have knocked.
        #[n(0)]
        at: Place,
        /// What I was to say.
        #[cbor(n(1), with = "minicbor::bytes")]
        token: Token,
    },
}

/// Which answer to `Seek` is wanted. What the asked node holds itself is no part of any: `Find` asks for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Want {
    /// The first set whose signatures hold, at once; nobody has run its slow proof yet.
    #[n(0)]
    First,
    /// The first set whose slow proof has been run, too.
    #[n(1)]
    Proven,
    /// Everything, when the query is over: for each identity its sets merged.
    #[n(2)]
    All,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub enum Response {
    /// To `Hello` and `Register`.
    #[n(0)]
    Welcome {
        /// `IP:PORT` of STUN servers of this node.
        #[n(0)]
        stun: Vec<String>,
        /// UDP port where it answers STUN on the address it was reached under.
        #[n(1)]
        stun_port: Option<u16>,
        /// Where the node sees the asker, as a multiaddr.
        #[n(2)]
        observed: Option<String>,
        /// To `Register`: addresses of other nodes that take terminals, at most [`MAX_OTHERS`], as multiaddrs that end in
        /// `/p2p`. For the time when this one is dead.
        #[n(3)]
        #[cbor(default)]
        others: Vec<String>,
    },
    /// The terminal acknowledged the packet.
    #[n(1)]
    Delivered,
    /// The terminal isn't connected here.
    #[n(2)]
    NotConnected,
    /// To `Find`.
    #[n(3)]
    Found {
        /// The encoded record set, if any is held.
        #[cbor(n(0), with = "minicbor::bytes")]
        set: Option<Vec<u8>>,
        /// When this node first saw the account's key under this number.
        #[n(1)]
        since: Option<UnixMillis>,
    },
    /// The records are verified and on disk.
    #[n(4)]
    Stored,
    /// No, and asking again won't help.
    #[n(5)]
    Refused {
        /// Why.
        #[n(0)]
        reason: Refusal,
    },
    /// Not now: a limit is reached. Try elsewhere or later.
    #[n(6)]
    Busy,
    /// To `Seek`.
    #[n(7)]
    Sought(#[n(0)] Sought),
    /// To `Publish`: the records are verified and on disk here, and on their way to the closest nodes.
    #[n(8)]
    Published {
        /// To how many.
        #[n(0)]
        nodes: u32,
    },
    /// To `Relay`.
    #[n(9)]
    Ticket(#[n(0)] RelayTicket),
    /// To `KnockWanted` and `KnockAt`: it is being done. To `Knock`: it was heard.
    #[n(10)]
    Knocking,
}

/// What the DHT had to say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Sought {
    /// At most [`MAX_SOUGHT`], the one that most nodes serve first.
    #[n(0)]
    pub sets: Vec<SoughtSet>,
    /// Whether the query is over and enough nodes have answered to say that there is nothing else.
    #[n(1)]
    pub complete: bool,
    /// Nodes that had answered by then, whatever they answered.
    #[n(2)]
    pub answered: u32,
}

/// A record set that nodes of the DHT serve.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SoughtSet {
    /// The encoded set.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub set: Vec<u8>,
    /// How many nodes serve its account record, and each of its terminal records, in their order in the set. Empty
    /// before the query is over.
    #[n(1)]
    pub holders: Vec<u32>,
}

impl fmt::Debug for SoughtSet {
    /// Not whose.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SoughtSet({:?})", self.holders)
    }
}

/// Why a node refuses for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Refusal {
    /// Malformed, forged, expired, or the proof does not fit.
    #[n(0)]
    Invalid,
    /// The number belongs to another key.
    #[n(1)]
    Incumbent,
    /// Newer records are held.
    #[n(2)]
    Stale,
    /// This node doesn't do that for others.
    #[n(3)]
    NotServing,
}

impl fmt::Debug for Request {
    /// The kind only: keys, packets and addresses say who speaks to whom.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hello => "Hello",
            Self::Register { .. } => "Register",
            Self::Forward { .. } => "Forward",
            Self::Deliver { .. } => "Deliver",
            Self::Find { .. } => "Find",
            Self::Store { .. } => "Store",
            Self::Seek { .. } => "Seek",
            Self::Publish { .. } => "Publish",
            Self::Relay { .. } => "Relay",
            Self::KnockWanted { .. } => "KnockWanted",
            Self::KnockAt { .. } => "KnockAt",
            Self::Knock { .. } => "Knock",
        })
    }
}

impl fmt::Debug for Response {
    /// The kind only, and the reason of a refusal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Welcome { .. } => f.write_str("Welcome"),
            Self::Delivered => f.write_str("Delivered"),
            Self::NotConnected => f.write_str("NotConnected"),
            Self::Found { set, .. } => write!(f, "Found({})", set.is_some()),
            Self::Stored => f.write_str("Stored"),
            Self::Refused { reason } => write!(f, "Refused({reason:?})"),
            Self::Busy => f.write_str("Busy"),
            Self::Sought(sought) => write!(f, "{sought:?}"),
            Self::Published { nodes } => write!(f, "Published({nodes})"),
            Self::Ticket(ticket) => write!(f, "{ticket:?}"),
            Self::Knocking => f.write_str("Knocking"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    #[test]
    fn messages_survive_the_round_trip() {
        let request = Request::Forward {
            to: TerminalId::from_bytes([3; 32]),
            blob: vec![1, 2, 3],
            next: Some("/ip4/8.8.8.8/tcp/1".to_owned()),
            origin: None,
        };
        let bytes = wire::encode(&request);
        assert!(wire::decode::<Request>(&bytes, MAX_MESSAGE).is_ok_and(|back| back == request));
        let response = Response::Found { set: Some(vec![7; 100]), since: Some(UnixMillis(5)) };
        let bytes = wire::encode(&response);
        assert!(wire::decode::<Response>(&bytes, MAX_MESSAGE).is_ok_and(|back| back == response));
    }

    #[test]
    fn a_welcome_need_not_name_others() {
        let welcome =
            Response::Welcome { stun: Vec::new(), stun_port: None, observed: None, others: Vec::new() };
        // [0, {0: []}]
        let without = [0x82, 0, 0xa1, 0, 0x80];
        assert!(wire::decode::<Response>(&without, MAX_MESSAGE).is_ok_and(|back| back == welcome));
    }

    #[test]
    fn what_is_asked_of_strangers_survives_the_round_trip() {
        let token = [7; 16];
        let except = ["192.0.2.7", "2001:db8::7"].map(|ip| Network::of(ip.parse().unwrap())).to_vec();
        let at = Place("192.0.2.7:4001".parse().unwrap());
        let wanted = Request::KnockWanted { port: Some(4001), token, except };
        let anywhere = Request::KnockWanted { port: None, token, except: Vec::new() };
        for request in [wanted, anywhere, Request::KnockAt { at, token }, Request::Knock { at, token }] {
            let bytes = wire::encode(&request);
            assert!(wire::decode::<Request>(&bytes, MAX_MESSAGE).is_ok_and(|back| back == request));
        }
        let bytes = wire::encode(&Response::Knocking);
        assert!(wire::decode::<Response>(&bytes, MAX_MESSAGE).is_ok_and(|back| back == Response::Knocking));
    }

    /// [10, {0: place, 1: token}]
    fn knock_at(place: &str, token: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x82, 10, 0xa2, 0, 0x60 | place.len() as u8];
        bytes.extend(place.as_bytes());
        bytes.extend([1, 0x40 | token.len() as u8]);
        bytes.extend(token);
        bytes
    }

    #[test]
    fn nobody_is_sent_where_nobody_can_be() {
        let decode =
            |place: &str, token: &[u8]| wire::decode::<Request>(&knock_at(place, token), MAX_MESSAGE);
        assert!(decode("192.0.2.7:4001", &[1; 16]).is_ok());
        for place in ["192.0.2.7", "192.0.2.7:0", "0.0.0.0:1", "[::]:1", "224.0.0.1:1", "host:1", ""] {
            assert!(decode(place, &[1; 16]).is_err(), "{place}");
        }
        assert!(decode("192.0.2.7:1", &[1; 15]).is_err() && decode("192.0.2.7:1", &[1; 17]).is_err());
        // An IPv4-mapped address is the IPv4 one.
        let mapped = Request::KnockAt { at: Place("192.0.2.7:1".parse().unwrap()), token: [1; 16] };
        assert!(decode("[::ffff:192.0.2.7]:1", &[1; 16]).is_ok_and(|request| request == mapped));
        // [9, {1: token, 2: [a network]}]
        let wanted = |net: &[u8]| {
            let mut bytes = vec![0x82, 9, 0xa2, 1, 0x50];
            bytes.extend([1; 16]);
            bytes.extend([2, 0x81, 0x40 | net.len() as u8]);
            bytes.extend(net);
            wire::decode::<Request>(&bytes, MAX_MESSAGE)
        };
        assert!(wanted(&[1; 3]).is_ok() && wanted(&[1; 8]).is_ok());
        assert!([0, 1, 4, 7, 9, 16].iter().all(|len| wanted(&vec![1; *len]).is_err()));
    }

    #[test]
    fn the_longest_answer_fits_a_message() {
        let set = |bytes| SoughtSet { set: vec![7; bytes], holders: vec![u32::MAX; 9] };
        let each = MAX_SOUGHT_BYTES / MAX_SOUGHT;
        let sought = Sought { sets: vec![set(each); MAX_SOUGHT], complete: true, answered: u32::MAX };
        let bytes = wire::encode(&Response::Sought(sought.clone()));
        assert!(wire::decode::<Response>(&bytes, MAX_MESSAGE).is_ok_and(|r| r == Response::Sought(sought)));
        const { assert!(MAX_SOUGHT_BYTES >= crate::record::MAX_SET_BYTES) }
    }
}
