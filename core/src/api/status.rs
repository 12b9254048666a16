//! The telephone's state.

use super::{CallKeys, CallRef, CallStats, LineState, Serving};
use offhook_proto::number::Number;
use serde::{Deserialize, Serialize};

/// State of one call in [`Status`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallStatus {
    /// The call.
    pub call: CallRef,
    /// The other end's number.
    pub number: Number,
    /// Whether this end dialled.
    pub outgoing: bool,
    /// `searching`, `inviting`, `ringing`, `connecting`, `active`, `ended`.
    pub state: String,
    /// Hold, mute, volume.
    #[serde(flatten)]
    pub keys: CallKeys,
    /// This end records it.
    #[serde(default)]
    pub recording: bool,
    /// The other end records it, as far as it says.
    #[serde(default)]
    pub remote_recording: bool,
    /// How it goes.
    #[serde(flatten)]
    pub stats: CallStats,
}

/// An answer to [`Command::Status`](super::Command::Status).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The account's ID.
    pub account: String,
    /// Its number.
    pub number: Number,
    /// Fingerprint of its identity key.
    pub fingerprint: String,
    /// How it stands with the network.
    pub line: LineState,
    /// Directories this terminal is registered with.
    pub directories: usize,
    /// Peers connected.
    pub peers: usize,
    /// Unix milliseconds of the last successful publication.
    pub published: Option<u64>,
    /// Whether it serves the network.
    pub serving: Serving,
    /// Days until the terminal's certificate expires; enter the password before.
    pub certificate_days: i64,
    /// Current calls.
    pub calls: Vec<CallStatus>,
}
