//! How calls and text messages end.

use serde::{Deserialize, Serialize};

/// Why a call ended (RFC 3261's final responses in words).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", content = "what", rename_all = "snake_case")]
pub enum EndReason {
    /// Somebody hung up an answered call.
    HungUp,
    /// The callee declined.
    Declined,
    /// The callee is in another call.
    Busy,
    /// It rang until the ringing time-out.
    NoAnswer,
    /// The number exists, but none of its terminals can be reached now.
    Unreachable,
    /// No account has this number.
    WrongNumber,
    /// The callee does not take calls from this caller.
    Blocked,
    /// It does not ring at the callee's now; a message may be left.
    Voicemail,
    /// The callee has strangers work before it rings, and it is more than this terminal does.
    Work,
    /// Another terminal of the callee answered.
    AnsweredElsewhere,
    /// The caller gave up before an answer.
    Cancelled,
    /// The key behind the number is not the pinned one, here or at the callee; nothing was rung.
    KeyChanged,
    /// Both users called each other; the call that this terminal dialled goes on instead.
    Merged,
    /// A transfer: the call goes on between two others, or with somebody else.
    Transferred,
    /// Something failed.
    Failed(FailureCode),
}

/// What failed, of a call or a text message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// The number could not be looked up: no connection to the network. Nothing is known of the number.
    Lookup,
    /// Several keys claim the number, and nothing tells which is the right one.
    NumberDisputed,
    /// It is a chosen number, and its directory's certificate has run out: its owner has to have it renewed.
    NumberExpired,
    /// No way was found for the sound between the two ends.
    NoMediaPath,
    /// The connection between the two ends broke.
    MediaLost,
    /// The sound could not be prepared here: no socket, no device.
    Media,
    /// The other terminal could not make the call.
    Remote,
    /// The other terminal stopped answering.
    SignallingLost,
    /// The caller never confirmed the answer.
    NotConfirmed,
    /// The clocks of the two computers differ too much.
    Clock,
    /// The other end broke the protocol.
    Protocol,
    /// The receiver's terminal could not keep the text message.
    NotKept,
    /// Nobody confirmed the text message in time; it may have arrived.
    Unconfirmed,
    /// The call ended before the text message was confirmed; it may have arrived.
    CallEnded,
    /// This terminal was shut down.
    ShutDown,
}

impl EndReason {
    /// The word on the wire, e.g. `no_answer`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::HungUp => "hung_up",
            Self::Declined => "declined",
            Self::Busy => "busy",
            Self::NoAnswer => "no_answer",
            Self::Unreachable => "unreachable",
            Self::WrongNumber => "wrong_number",
            Self::Blocked => "blocked",
            Self::Voicemail => "voicemail",
            Self::Work => "work",
            Self::AnsweredElsewhere => "answered_elsewhere",
            Self::Cancelled => "cancelled",
            Self::KeyChanged => "key_changed",
            Self::Merged => "merged",
            Self::Transferred => "transferred",
            Self::Failed(_) => "failed",
        }
    }
}
