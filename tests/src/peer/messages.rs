//! The messages of `/offhook/signal/1`, written down a second time from `docs/protocol.md`.

use minicbor::{Decode, Encode};
use offhook_proto::identity::{SignedCert, TerminalId};
use offhook_proto::wire::UnixMillis;

/// What one node asks of another.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub enum Request {
    /// Which services do you offer, where do you see me?
    #[n(0)]
    Hello,
    /// Pass packets on to me.
    #[n(1)]
    Register {
        /// For the key of the connection.
        #[n(0)]
        cert: SignedCert,
    },
    /// Pass a packet on.
    #[n(2)]
    Forward {
        /// To this terminal.
        #[n(0)]
        to: TerminalId,
        /// The sealed packet.
        #[cbor(n(1), with = "minicbor::bytes")]
        blob: Vec<u8>,
        /// By this directory, if it isn't connected.
        #[n(2)]
        next: Option<String>,
        /// From this terminal, if it isn't the connection's.
        #[n(3)]
        origin: Option<TerminalId>,
    },
    /// A packet for you.
    #[n(3)]
    Deliver {
        /// The sealed packet.
        #[cbor(n(0), with = "minicbor::bytes")]
        blob: Vec<u8>,
        /// From this terminal, if it isn't the connection's.
        #[n(1)]
        origin: Option<TerminalId>,
    },
    /// What do you hold under this key?
    #[n(4)]
    Find {
        /// The hash of the number.
        #[cbor(n(0), with = "minicbor::bytes")]
        key: [u8; 32],
    },
    /// Hold this.
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
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub enum Response {
    /// To `Hello` and `Register`.
    #[n(0)]
    Welcome {
        /// STUN servers.
        #[n(0)]
        stun: Vec<String>,
        /// STUN port on the same address.
        #[n(1)]
        stun_port: Option<u16>,
        /// Where the asker is seen.
        #[n(2)]
        observed: Option<String>,
    },
    /// The terminal has it.
    #[n(1)]
    Delivered,
    /// The terminal isn't here.
    #[n(2)]
    NotConnected,
    /// To `Find`.
    #[n(3)]
    Found {
        /// The encoded record set.
        #[cbor(n(0), with = "minicbor::bytes")]
        set: Option<Vec<u8>>,
        /// When the identity was first seen.
        #[n(1)]
        since: Option<UnixMillis>,
    },
    /// Stored.
    #[n(4)]
    Stored,
    /// No.
    #[n(5)]
    Refused {
        /// Why.
        #[n(0)]
        reason: Refusal,
    },
    /// Not now.
    #[n(6)]
    Busy,
}

/// Why not.
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
    /// Not for others.
    #[n(3)]
    NotServing,
}

impl Request {
    /// As it crosses the network.
    pub fn encode(&self) -> Vec<u8> {
        offhook_proto::wire::encode(self)
    }

    /// From the network.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        minicbor::decode(bytes).ok()
    }
}

impl Response {
    /// As it crosses the network.
    pub fn encode(&self) -> Vec<u8> {
        offhook_proto::wire::encode(self)
    }

    /// From the network.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        minicbor::decode(bytes).ok()
    }
}
