//! The telephone's keys beside answering and hanging up.

use serde::{Deserialize, Serialize};

/// How the keys of one call stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallKeys {
    /// This end has put the call on hold.
    #[serde(default)]
    pub held: bool,
    /// The other end has.
    #[serde(default)]
    pub remote_held: bool,
    /// This end's microphone is muted.
    #[serde(default)]
    pub muted: bool,
    /// The other end's is.
    #[serde(default)]
    pub remote_muted: bool,
    /// How loud the other end is heard, percent.
    #[serde(default = "whole")]
    pub volume: u16,
}

impl Default for CallKeys {
    fn default() -> Self {
        Self { held: false, remote_held: false, muted: false, remote_muted: false, volume: whole() }
    }
}

/// How loud the telephone is, percent of the sound as it comes: 0 is silence, 200 twice the amplitude.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volumes {
    /// The loudspeaker, in calls to come.
    #[serde(default = "whole")]
    pub speaker: u16,
    /// The bell.
    #[serde(default = "whole")]
    pub ringer: u16,
}

impl Default for Volumes {
    fn default() -> Self {
        Self { speaker: whole(), ringer: whole() }
    }
}

fn whole() -> u16 {
    100
}

/// How the transfer of a call goes that was asked for here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferState {
    /// The user at the other end is being asked.
    Asked,
    /// The user has consented, and the number is being called.
    Trying,
    /// It rings there.
    Ringing,
    /// The two talk; the call ends here.
    Done,
    /// Nothing came of it: the call is as it was before.
    Failed,
}

/// Why a transfer has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferFailure {
    /// The other end does not want to be transferred, or takes no such requests from this one.
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
    /// The other end's program does not know transfers.
    NotUnderstood,
    /// Nothing was heard of it any more.
    TimedOut,
    /// Something failed.
    Failed,
}
