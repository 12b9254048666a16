//! What nodes do for one another on request: the messages of the protocol `/offhook/signal/1`.
//!
//! One request and one response for each stream, CBOR, at most [`MAX_MESSAGE`] bytes each.

use std::fmt;

use minicbor::{Decode, Encode};

use crate::identity::{SignedCert, TerminalId};
use crate::wire::UnixMillis;

/// Longest message in bytes: the longest record set (12 KiB) or packet (8 KiB) with room to spare.
pub const MAX_MESSAGE: usize = 16 * 1024;

/// Longest address in a message, in bytes.
pub const MAX_ADDR: usize = 256;

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
}
