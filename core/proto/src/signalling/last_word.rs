//! The last message of a call, once more.

use super::{ByeReason, CancelReason, Message, RejectReason};

/// A final message in short: the end of a leg's media connection repeats it, as the code of the close (RFC 9000 section
/// 19.19), for when the message itself finds no way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LastWord {
    /// [`Message::Bye`].
    Bye(Option<ByeReason>),
    /// [`Message::Reject`].
    Reject(RejectReason),
    /// [`Message::Cancel`].
    Cancel(CancelReason),
}

impl LastWord {
    /// What a final message says.
    #[must_use]
    pub fn of(message: &Message) -> Option<Self> {
        match message {
            Message::Bye { reason } => Some(Self::Bye(*reason)),
            Message::Reject { reason, challenge: _ } => Some(Self::Reject(*reason)),
            Message::Cancel { reason } => Some(Self::Cancel(*reason)),
            Message::Invite { .. }
            | Message::Ringing { .. }
            | Message::Accept { .. }
            | Message::Confirm { .. }
            | Message::Candidates { .. }
            | Message::Text { .. }
            | Message::Dtmf { .. }
            | Message::Hold { .. }
            | Message::Mute { .. }
            | Message::Tunnel { .. }
            | Message::Transfer { .. }
            | Message::TransferProgress { .. }
            | Message::Expect { .. }
            | Message::Presence(_)
            | Message::Recording { .. }
            | Message::TextRefused { .. } => None,
        }
    }

    /// The code on the wire: 0 for a plain bye, otherwise the number of the message (in hundreds, hexadecimal) and the
    /// code of its reason.
    #[must_use]
    pub fn code(self) -> u32 {
        match self {
            Self::Bye(None) => 0,
            Self::Bye(Some(reason)) => 0x600 | u32::from(reason.code()),
            Self::Reject(reason) => 0x400 | u32::from(reason.code()),
            Self::Cancel(reason) => 0x500 | u32::from(reason.code()),
        }
    }

    /// From the code on the wire; `None` for one that says something else.
    #[must_use]
    pub fn from_code(code: u64) -> Option<Self> {
        let reason = u8::try_from(code & 0xff).ok()?;
        match code >> 8 {
            0 if reason == 0 => Some(Self::Bye(None)),
            4 => Some(Self::Reject(RejectReason::from_code(reason))),
            5 => Some(Self::Cancel(CancelReason::from_code(reason))),
            6 => Some(Self::Bye(Some(ByeReason::from_code(reason)))),
            _ => None,
        }
    }
}
