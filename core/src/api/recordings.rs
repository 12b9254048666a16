//! Recordings of calls, and messages that callers have left.

use super::CallRef;
use offhook_proto::number::Number;
use serde::{Deserialize, Serialize};

/// What was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordingKind {
    /// A call, by this terminal's user.
    Call,
    /// A message that a caller left on the answering machine.
    Message,
}

/// A recording on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// Its name: what commands take.
    pub recording: String,
    /// What it is.
    pub kind: RecordingKind,
    /// The other end's number, if the file says so.
    pub number: Option<Number>,
    /// When it began, Unix milliseconds; 0 if the file does not say so.
    pub began: u64,
    /// Its length, milliseconds.
    pub duration_ms: u64,
    /// Size of the file.
    pub bytes: u64,
}

/// Why a recording is over, or did not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordingEnd {
    /// This terminal's user wanted no more, or a caller's message was over.
    Stopped,
    /// The other end does not want to be recorded.
    Refused,
    /// The other end did not answer whether it may be recorded: perhaps an older version.
    Unanswered,
    /// It has become as long as recordings may be, or there are as many as there may be.
    Full,
    /// The file could not be written: the disk is full, say. The call goes on.
    Disk,
    /// The call is over.
    CallEnded,
}

/// What happens to a recording that this terminal makes. The tag is `state`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum RecordingEvent {
    /// The other end allows it: from now on the call is recorded.
    Started {
        /// The call.
        call: CallRef,
        /// The recording's name.
        recording: String,
    },
    /// It is over, or did not begin.
    Ended {
        /// The call.
        call: CallRef,
        /// The recording's name, if there is one.
        recording: Option<String>,
        /// Why.
        end: RecordingEnd,
        /// Its length, milliseconds.
        duration_ms: u64,
    },
}

impl RecordingEvent {
    /// The call that is recorded.
    pub fn call(&self) -> &str {
        match self {
            Self::Started { call, .. } | Self::Ended { call, .. } => call,
        }
    }
}
