//! Signalling messages (the names are SIP's, RFC 3261), and how they are signed and sealed.
//!
//! Two terminals exchange [`Packet`]s. A packet belongs to one *dialog*, which is named by a [`CallId`] and the
//! two terminals; [`crate::dialog`] numbers, acknowledges and repeats what is in it. On the wire a packet is
//! signed by its sender's terminal key and sealed to its receiver ([`seal()`], [`open`]), so whoever passes it on
//! learns nothing but the receiver.
//!
//! Unknown fields are ignored. A message of an unknown kind is acknowledged and otherwise ignored, so a later
//! version can add kinds; unknown reasons arrive as `Other`.

#[macro_use]
pub(crate) mod codes;

mod candidate;
mod last_word;
mod limits;
mod presence;
mod reasons;
mod seal;
mod shared;
mod transfer;

use std::fmt;
use std::sync::Arc;

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::identity::{Fingerprint, IdentityId, SignedCert, TerminalId};
use crate::number::{NodeAddr, Number};
use crate::proof::{NumberProof, SignedChosenCert};
use crate::puzzle::{Challenge, Solution};
use crate::wire::{self, UnixMillis};

pub use candidate::is_relayed;
pub use last_word::LastWord;
pub(crate) use limits::check_intro;
pub use limits::{
    LimitError, MAX_CANDIDATE_BYTES, MAX_CANDIDATES, MAX_CODECS, MAX_DTMF_MS, MAX_ROUTES, MAX_TEXT_BYTES,
    MAX_TUNNEL_BYTES, MAX_TUNNEL_DATAGRAMS,
};
pub use presence::{MAX_NOTE_BYTES, Presence, PresenceCode, PresenceTold};
pub use reasons::{ByeReason, CancelReason, RecordingState, RejectReason};
pub(crate) use seal::verify_certified;
pub use seal::{
    MAX_BLOB_BYTES, OpenError, Opened, SealError, Unverified, VerifiedIntro, open, open_envelope, seal,
    unseal,
};
pub use transfer::{Successor, Token, TransferStep};

/// Names one call (or one text message sent outside of a call). 16 random bytes chosen by the caller.
///
/// The order of two call ids decides glare, see [`crate::call`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct CallId(#[cbor(n(0), with = "minicbor::bytes")] [u8; 16]);

/// Names one text message, for its sender and its receiver. 16 random bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct TextId(#[cbor(n(0), with = "minicbor::bytes")] [u8; 16]);

/// Names one request to transfer a call. 16 random bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct TransferId(#[cbor(n(0), with = "minicbor::bytes")] [u8; 16]);

macro_rules! random_id {
    ($name:ident) => {
        impl $name {
            /// The id of 16 bytes from a random source.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The 16 bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            /// 32 hexadecimal digits.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:02x}{:02x}..)", stringify!($name), self.0[0], self.0[1])
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdSyntax;

            /// Parses 32 hexadecimal digits.
            fn from_str(text: &str) -> Result<Self, IdSyntax> {
                let digits = text.as_bytes();
                if digits.len() != 32 {
                    return Err(IdSyntax);
                }
                let mut bytes = [0; 16];
                for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
                    let high = char::from(pair[0]).to_digit(16).ok_or(IdSyntax)?;
                    let low = char::from(pair[1]).to_digit(16).ok_or(IdSyntax)?;
                    *byte = u8::try_from(high << 4 | low).map_err(|_| IdSyntax)?;
                }
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

random_id!(CallId);
random_id!(TextId);
random_id!(TransferId);

/// The text is not the 32 hexadecimal digits of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id of 32 hexadecimal digits")]
pub struct IdSyntax;

/// Who sends: goes along in every packet of a dialog until the other side has acknowledged one.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Introduction {
    /// The sender's number.
    #[n(0)]
    pub number: Number,
    /// Proof that the number belongs to `identity`.
    #[n(1)]
    pub proof: NumberProof,
    /// The sender's account.
    #[n(2)]
    pub identity: IdentityId,
    /// Says that the sending terminal belongs to `identity`, and to which key replies are sealed.
    #[n(3)]
    pub cert: SignedCert,
    /// Directories through which the sender is reached, at most [`MAX_ROUTES`]; never its own addresses.
    #[n(4)]
    pub routes: Vec<NodeAddr>,
    /// A chosen number of the account besides, to be shown instead: its directory's certificate. Who cannot judge it shows `number`.
    #[n(5)]
    pub chosen: Option<SignedChosenCert>,
}

impl fmt::Debug for Introduction {
    /// Neither number nor routes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Introduction").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// An audio codec that a terminal can decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Opus, RFC 6716.
    Opus,
    /// One that this version does not know.
    Other(u8),
}

/// What one side of a leg needs to know to open the media connection to the other.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct MediaOffer {
    /// ICE user name fragment, 4 to 256 characters (RFC 8839 section 5.4).
    #[n(0)]
    pub ice_ufrag: String,
    /// ICE password, 22 to 256 characters (RFC 8839 section 5.4). Secret between the two ends.
    #[n(1)]
    pub ice_pwd: String,
    /// SHA-256 of the DER encoding of the self-signed TLS certificate made for this leg.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub fingerprint: [u8; 32],
    /// Codecs, best first, 1 to [`MAX_CODECS`].
    #[n(3)]
    pub codecs: Vec<Codec>,
}

impl fmt::Debug for MediaOffer {
    /// Without the ICE password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MediaOffer").field("codecs", &self.codecs).finish_non_exhaustive()
    }
}

/// What a packet carries.
///
/// All but [`Message::Tunnel`] are delivered once and in order. [Final](Message::is_final) ones are acted upon
/// even if earlier ones are still missing.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub enum Message {
    /// Caller to callee: first message of a call.
    #[n(0)]
    Invite {
        /// The caller's media parameters.
        #[n(0)]
        offer: MediaOffer,
        /// The caller's ICE candidates so far, of those that the callee may know.
        #[n(1)]
        candidates: Vec<String>,
        /// Shows that the call is to take the place of one that stands at the callee's terminal.
        #[n(2)]
        replaces: Option<Token>,
        /// The puzzle of an earlier [`RejectReason::Work`], solved for this call.
        #[n(3)]
        solution: Option<Solution>,
    },
    /// Callee to caller: it really rings here.
    #[n(1)]
    Ringing {
        /// The callee's media parameters.
        #[n(0)]
        offer: MediaOffer,
        /// The callee's ICE candidates so far, of those that the caller may know.
        #[n(1)]
        candidates: Vec<String>,
    },
    /// Callee to caller: its user has answered.
    #[n(2)]
    Accept {
        /// SHA-256 of the signed payload of the invite, as it was received.
        #[cbor(n(0), with = "minicbor::bytes")]
        invite_hash: [u8; 32],
        /// Further ICE candidates of the callee, as in [`Message::Candidates`] of generation 0: those that it has kept back until
        /// now.
        #[cbor(n(1), default)]
        candidates: Vec<String>,
    },
    /// Caller to callee: this terminal's accept came first; the call is with it.
    #[n(3)]
    Confirm {
        /// Further ICE candidates of the caller, likewise.
        #[cbor(n(0), default)]
        candidates: Vec<String>,
    },
    /// Callee to caller: no call with this terminal. Final.
    #[n(4)]
    Reject {
        /// Why.
        #[n(0)]
        reason: RejectReason,
        /// With [`RejectReason::Work`]: what is to be done.
        #[n(1)]
        challenge: Option<Challenge>,
    },
    /// Caller to callee, before a confirm: stop ringing. Final.
    #[n(5)]
    Cancel {
        /// Why.
        #[n(0)]
        reason: CancelReason,
    },
    /// Either way, after an accept: the call is over. Final.
    #[n(6)]
    Bye {
        /// What failed; `None`: somebody hung up.
        #[n(0)]
        reason: Option<ByeReason>,
    },
    /// Further ICE candidates of the sender.
    #[n(7)]
    Candidates {
        /// Candidate attributes as in SDP (RFC 8839 section 5.1), 1 to [`MAX_CANDIDATES`].
        #[n(0)]
        list: Vec<String>,
        /// How often the sender's network has changed in this call. Candidates of a higher generation take the place of
        /// all earlier ones.
        #[cbor(n(1), default)]
        generation: u32,
    },
    /// A text message, in a call or as the only message of a dialog of its own.
    #[n(8)]
    Text {
        /// Its id.
        #[n(0)]
        id: TextId,
        /// At most [`MAX_TEXT_BYTES`] of UTF-8.
        #[n(1)]
        body: String,
    },
    /// A key of the dial pad was pressed (RFC 4733 names).
    #[n(9)]
    Dtmf {
        /// One of `0`-`9`, `*`, `#`, `A`-`D`.
        #[n(0)]
        digit: char,
        /// For how long, 40 to [`MAX_DTMF_MS`] milliseconds.
        #[n(1)]
        duration_ms: u16,
    },
    /// The sender has put the call on hold, or taken it off.
    #[n(10)]
    Hold {
        /// True: held.
        #[n(0)]
        on: bool,
    },
    /// The sender has muted its microphone, or unmuted it.
    #[n(11)]
    Mute {
        /// True: muted.
        #[n(0)]
        on: bool,
    },
    /// Datagrams of the media connection's QUIC handshake that were sent at once, carried while it rings. Unreliable and
    /// unordered.
    #[n(12)]
    Tunnel {
        /// At most [`MAX_TUNNEL_DATAGRAMS`] of at most [`MAX_TUNNEL_BYTES`] each.
        #[n(0)]
        datagrams: Vec<ByteVec>,
    },
    /// Either way, in an answered call: a text message arrived but could not be kept. Whoever sends it acknowledges the
    /// text only when this has been acknowledged, so an acknowledged text is a kept one.
    #[n(13)]
    TextRefused {
        /// The text's id.
        #[n(0)]
        id: TextId,
    },
    /// Either way, in an answered call: how its sender stands to a recording of the call.
    #[n(20)]
    Recording {
        /// What it wants, allows or refuses.
        #[n(0)]
        state: RecordingState,
    },
    /// Either way, in an answered call: the other side is to call somebody else instead (SIP's REFER, RFC 3515).
    #[n(16)]
    Transfer {
        /// Names the request.
        #[n(0)]
        id: TransferId,
        /// Whom to call.
        #[n(1)]
        number: Number,
        /// The key that the sender knows behind the number.
        #[n(2)]
        key: Option<Fingerprint>,
        /// The sender is in a call with whom to call, and the new one is to take that one's place.
        #[n(3)]
        successor: Option<Successor>,
    },
    /// The answers to [`Message::Transfer`] (SIP's NOTIFY, RFC 3515 section 2.4.4).
    #[n(17)]
    TransferProgress {
        /// Which request.
        #[n(0)]
        id: TransferId,
        /// How it stands.
        #[n(1)]
        step: TransferStep,
    },
    /// Either way, in an answered call: a call of this account that shows this token is to take the place of this one
    /// (RFC 3891).
    #[n(18)]
    Expect {
        /// What it shows.
        #[n(0)]
        token: Token,
        /// Who it is from.
        #[n(1)]
        identity: IdentityId,
    },
    /// Either way, the only message of a dialog between contacts: how somebody is.
    #[n(19)]
    Presence(#[n(0)] Presence),
}

impl Message {
    /// A refusal without anything to be done.
    #[must_use]
    pub fn reject(reason: RejectReason) -> Self {
        Self::Reject { reason, challenge: None }
    }

    /// The last message that its sender sends in a call.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Reject { .. } | Self::Cancel { .. } | Self::Bye { .. } => true,
            Self::Invite { .. }
            | Self::Ringing { .. }
            | Self::Accept { .. }
            | Self::Confirm { .. }
            | Self::Candidates { .. }
            | Self::Text { .. }
            | Self::Dtmf { .. }
            | Self::Hold { .. }
            | Self::Mute { .. }
            | Self::Tunnel { .. }
            | Self::Transfer { .. }
            | Self::TransferProgress { .. }
            | Self::Expect { .. }
            | Self::Presence(_)
            | Self::Recording { .. }
            | Self::TextRefused { .. } => false,
        }
    }

    /// Worth sending by every way there is, since nobody knows which of them is the fastest, or still one: the accept, which
    /// somebody waits for, and the addresses that answer it; where its sender is, having left the place that was told before;
    /// and last messages.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        let answers = match self {
            Self::Accept { .. } => true,
            Self::Confirm { candidates } => !candidates.is_empty(),
            Self::Invite { .. }
            | Self::Ringing { .. }
            | Self::Reject { .. }
            | Self::Cancel { .. }
            | Self::Bye { .. }
            | Self::Candidates { .. }
            | Self::Text { .. }
            | Self::Dtmf { .. }
            | Self::Hold { .. }
            | Self::Mute { .. }
            | Self::Tunnel { .. }
            | Self::Transfer { .. }
            | Self::TransferProgress { .. }
            | Self::Expect { .. }
            | Self::Presence(_)
            | Self::Recording { .. }
            | Self::TextRefused { .. } => false,
        };
        answers || self.is_final() || self.tells_of_move()
    }

    /// Whether it says where its sender is, having left the place that was told before.
    #[must_use]
    pub fn tells_of_move(&self) -> bool {
        matches!(self, Self::Candidates { generation: 1.., .. })
    }

    /// The name for logs: contents may be private.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Invite { .. } => "invite",
            Self::Ringing { .. } => "ringing",
            Self::Accept { .. } => "accept",
            Self::Confirm { .. } => "confirm",
            Self::Reject { .. } => "reject",
            Self::Cancel { .. } => "cancel",
            Self::Bye { .. } => "bye",
            Self::Candidates { .. } => "candidates",
            Self::Text { .. } => "text",
            Self::Dtmf { .. } => "dtmf",
            Self::Hold { .. } => "hold",
            Self::Mute { .. } => "mute",
            Self::Tunnel { .. } => "tunnel",
            Self::TextRefused { .. } => "text_refused",
            Self::Recording { .. } => "recording",
            Self::Transfer { .. } => "transfer",
            Self::TransferProgress { .. } => "transfer_progress",
            Self::Expect { .. } => "expect",
            Self::Presence(_) => "presence",
        }
    }
}

impl fmt::Debug for Message {
    /// The kind and the reason; no address, text or key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        if let Self::Reject { reason, .. } = self {
            write!(f, "({reason:?})")?;
        }
        if let Self::Cancel { reason } = self {
            write!(f, "({reason:?})")?;
        }
        if let Self::Bye { reason: Some(reason) } = self {
            write!(f, "({reason:?})")?;
        }
        Ok(())
    }
}

/// One packet of a dialog.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Packet {
    /// The call.
    #[n(0)]
    pub call: CallId,
    /// Sending terminal, whose key signs.
    #[n(1)]
    pub from: TerminalId,
    /// Receiving terminal.
    #[n(2)]
    pub to: TerminalId,
    /// Number of `message` in its direction, from 1; 0 if it is not sequenced (a tunnelled datagram, or none).
    #[n(3)]
    pub seq: u32,
    /// All messages of the other direction up to this number have arrived.
    #[n(4)]
    pub ack: u32,
    /// When `message` was first sent, by the sender's clock. The same in every repetition.
    #[n(5)]
    pub time: UnixMillis,
    /// Present until the other side has acknowledged something.
    #[cbor(n(6), with = "shared", has_nil)]
    pub intro: Option<Arc<Introduction>>,
    /// None in a mere acknowledgement. None with a `seq` is a message of a kind that this version doesn't know.
    #[n(7)]
    pub message: Option<Message>,
}

impl Packet {
    /// What it brings, for a log: the [kind](Message::kind) of its message, or `ack`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.message.as_ref().map_or("ack", Message::kind)
    }

    /// The bytes that are signed.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        wire::encode(self)
    }

    /// SHA-256 of [`Packet::payload`]: what the receiver of the packet finds in [`Opened::payload_hash`].
    #[must_use]
    pub fn payload_hash(&self) -> [u8; 32] {
        Sha256::digest(self.payload()).into()
    }
}

wire_code!(Codec { Opus = 0 });
wire_code!(RecordingState { Off = 0, Wanted = 1, Allowed = 2, Refused = 3 });
wire_code!(RejectReason {
    Busy = 0, Declined = 1, Blocked = 2, KeyChanged = 3, NoAnswer = 4, Expired = 5, Failed = 6, Voicemail = 7, Work = 8,
});
wire_code!(ByeReason {
    NoMediaPath = 0, MediaLost = 1, Media = 2, NotConfirmed = 3, SignallingLost = 4, Failed = 5,
});
wire_code!(CancelReason {
    Cancelled = 0, AnsweredElsewhere = 1, DeclinedElsewhere = 2, NoAnswer = 3, Glare = 4, Failed = 5,
});

#[cfg(test)]
mod tests;
