//! Commands, events and error codes: one typed vocabulary for the library, the control socket, the
//! command line and the desktop app.
//!
//! Everything here is serde-serialisable JSON. Errors cross as [`ErrorCode`]s; the sentence beside a code
//! is for people and may change. Names are in `snake_case` on the wire.

mod answers;
mod command;
mod ends;
mod error;
mod event;
mod history;
mod keys;
mod letters;
mod presence;
mod recordings;
mod screening;
mod serving;
mod sound;
mod stats;
mod status;
mod terminals;

use serde::{Deserialize, Serialize};

pub use answers::{Contact, DirectoryInfo, LookupResult, VerifyResult};
pub use command::{Command, Reply};
pub use ends::{EndReason, FailureCode};
pub use error::{ApiError, ErrorCode};
pub use event::{Event, TimedEvent};
pub(crate) use history::is_missed;
pub use history::{HISTORY_REPLY, MAX_HISTORY_REPLY, PastCall};
pub use keys::{CallKeys, TransferFailure, TransferState, Volumes};
pub use letters::{MAX_MESSAGES_REPLY, MESSAGES_REPLY, MessageStatus, PastMessage, Voicemail};
pub use presence::{ContactPresence, PresenceInfo, PresenceSettings, PresenceState, Visibility};
pub use recordings::{Recording, RecordingEnd, RecordingEvent, RecordingKind};
pub use screening::{
    BlockedCaller, Day, Named, QuietTime, RefusedCall, Screening, ScreeningChange, Strangers,
};
pub use serving::{Serving, Unproved};
pub use sound::{ChosenDevices, DevicesResult};
pub(crate) use stats::share;
pub use stats::{CallStats, CallSummary, Estimate, Quality};
pub use status::{CallStatus, Status};
pub use terminals::TerminalInfo;

/// A call's identifier in the API: 32 hex digits of its [`offhook_proto::signalling::CallId`].
pub type CallRef = String;

/// Days before the end of a terminal's certificate from which the user is reminded.
pub const CERTIFICATE_WARNING_DAYS: i64 = 60;

/// Who ended a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// This terminal.
    Local,
    /// The other end.
    Remote,
    /// Another terminal of the called account.
    Elsewhere,
    /// Nobody: a time-out, a failure, a failed look-up.
    Network,
}

/// Where a call's packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathKind {
    /// Through signalling only: keys are agreed, no sound flows yet.
    Signalling,
    /// Straight between the two terminals.
    Direct,
    /// Through a relay, encrypted end to end.
    Relayed,
}

/// The relay that carries a call's packets on their way from and to this terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayUse {
    /// Whose it is: the PeerId of a directory, or the host of a TURN server of the user's own.
    pub through: String,
    /// What carries the packets between this terminal and the relay: `udp`, `tcp` or `tls`.
    pub over: String,
}

/// How the telephone stands with the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineState {
    /// Looking for a way into the network.
    Starting,
    /// A directory knows this terminal; the number is being published. It can dial.
    Publishing,
    /// The number is published and was read back, or, on a network without any directory, others are near who
    /// ask this terminal itself: it can be called.
    Online,
    /// No entry point is known, and nobody is near.
    Alone,
    /// No entry point is reachable, or nobody there holds the number.
    Offline,
}

/// CLOCK_MONOTONIC in nanoseconds, the time base of every event.
pub fn monotonic_ns() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    // The monotonic clock starts at boot: neither part is negative.
    (t.tv_sec as u64) * 1_000_000_000 + t.tv_nsec as u64
}
