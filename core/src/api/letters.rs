//! Text messages and voice messages that are kept.

use offhook_proto::number::Number;
use serde::{Deserialize, Serialize};

/// Most messages in one answer to [`Command::Messages`](super::Command::Messages) and [`Command::Voicemails`](super::Command::Voicemails).
pub const MAX_MESSAGES_REPLY: u32 = 500;
/// Messages in an answer if nobody says how many.
pub const MESSAGES_REPLY: u32 = 20;

/// Where a text message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageStatus {
    /// It came in.
    Received,
    /// Ours, on its way, or kept here until the receiver is back.
    Sending,
    /// Ours, left at a directory of the receiver's.
    Left,
    /// Ours, on a terminal of the receiver.
    Delivered,
    /// Ours, read by the receiver.
    Read,
    /// Ours, given up.
    Failed,
}

/// A text message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastMessage {
    /// Its identifier, 32 hex digits.
    pub id: String,
    /// The other end.
    pub number: Number,
    /// Its name in the contact list, if it is there now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it says.
    pub body: String,
    /// When it was written, Unix milliseconds.
    pub at: u64,
    /// Where it stands.
    pub status: MessageStatus,
}

/// A voice message that somebody has left in the mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voicemail {
    /// Its number in the list: what commands take.
    pub voicemail: i64,
    /// Who has left it.
    pub number: Number,
    /// Its name in the contact list, if it is there now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When, Unix milliseconds.
    pub at: u64,
    /// How long it is, milliseconds.
    pub duration_ms: u32,
    /// Whether it was heard.
    pub heard: bool,
}
