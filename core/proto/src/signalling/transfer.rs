//! What is said when a call is transferred: the parts of messages. The manner is that of SIP's REFER (RFC 3515, RFC 5589) and
//! Replaces (RFC 3891).

use std::fmt;

use minicbor::{Decode, Encode};

use crate::identity::TerminalId;

/// Shows that a new call is to take the place of one that stands: 16 random bytes, told to both ends of the new call by the one
/// who leaves, over the two calls in which it is with them, and to nobody else.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Token(#[cbor(n(0), with = "minicbor::bytes")] [u8; 16]);

impl Token {
    /// The token of 16 bytes from a random source.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Token {
    /// Not the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// Where a call stands that the new one is to take the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Successor {
    /// What the new call has to show there.
    #[n(0)]
    pub token: Token,
    /// The terminal of the called account at which it stands: no other is to ring.
    #[n(1)]
    pub terminal: TerminalId,
}

/// How the transfer of a call goes, told by the one who was asked to call somebody else. Those from [`Self::Done`] on are the
/// last word about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransferStep {
    /// The user is being asked.
    Asked,
    /// The user has consented: the number is being called.
    Trying,
    /// It rings there.
    Ringing,
    /// The new call stands.
    Done,
    /// The user does not want it, or takes no such requests.
    Declined,
    /// The one called is in another call.
    Busy,
    /// The one called declined.
    Rejected,
    /// The one called did not answer.
    NoAnswer,
    /// The one called could not be reached.
    Unreachable,
    /// Nobody has the number.
    WrongNumber,
    /// It failed.
    Failed,
    /// One that this version does not know.
    Other(u8),
}

impl TransferStep {
    /// Nothing more follows.
    #[must_use]
    pub fn is_final(self) -> bool {
        match self {
            Self::Asked | Self::Trying | Self::Ringing | Self::Other(_) => false,
            Self::Done
            | Self::Declined
            | Self::Busy
            | Self::Rejected
            | Self::NoAnswer
            | Self::Unreachable
            | Self::WrongNumber
            | Self::Failed => true,
        }
    }
}

wire_code!(TransferStep {
    Asked = 0, Trying = 1, Ringing = 2, Done = 3, Declined = 4, Busy = 5, Rejected = 6, NoAnswer = 7, Unreachable = 8,
    WrongNumber = 9, Failed = 10,
});
