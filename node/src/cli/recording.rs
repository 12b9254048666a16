//! `offhook record` and `offhook recording ...`

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use offhook::api::RecordingKind;
use offhook::recording::Track;

/// What to do about a recording of the present call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Record {
    /// Record the call.
    On,
    /// End the recording.
    Off,
    /// Let the other end record.
    Allow,
    /// Do not let the other end record.
    Refuse,
}

/// What was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Calls.
    Call,
    /// Messages that callers have left.
    Message,
}

impl From<Kind> for RecordingKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Call => Self::Call,
            Kind::Message => Self::Message,
        }
    }
}

/// `offhook record`
#[derive(Debug, Args)]
pub struct RecordArgs {
    /// Record the call or end the recording; let the other end record, or refuse
    #[arg(value_name = "on|off|allow|refuse", hide_possible_values = true)]
    pub what: Record,
    /// The call's identifier from `offhook status`; the one in which people talk without it
    pub call: Option<String>,
}

/// `offhook recording ...`
#[derive(Debug, Subcommand)]
pub enum RecordingCmd {
    /// List the recordings and messages, the newest first
    #[command(after_help = "Examples:\n  offhook recording list\n  offhook recording list --kind message")]
    List {
        /// Only recordings of calls, or only messages of callers
        #[arg(long, value_name = "call|message", hide_possible_values = true)]
        kind: Option<Kind>,
    },
    /// Play one through the loudspeaker
    #[command(after_help = "\
Examples:
  offhook recording play
  offhook recording play call-2026 --track other --speaker default")]
    Play {
        /// Its name, the beginning of it, or `last`
        #[arg(default_value = "last")]
        name: String,
        /// Whose voice to hear: both, own or other
        #[arg(long, default_value = "both")]
        track: Track,
        /// Loudspeaker: default, none or an id from `offhook devices`
        #[arg(long, env = "OFFHOOK_SPEAKER", value_name = "DEVICE", hide_env_values = true)]
        speaker: Option<String>,
    },
    /// Mix one into a file of Ogg Opus (.opus, .ogg) or a WAV file (.wav)
    #[command(after_help = "Example:\n  offhook recording export last interview.opus")]
    Export {
        /// Its name, the beginning of it, or `last`
        name: String,
        /// The new file
        file: PathBuf,
        /// Whose voice to take: both, own or other
        #[arg(long, default_value = "both")]
        track: Track,
    },
    /// Delete some for good
    #[command(
        after_help = "Examples:\n  offhook recording delete last\n  offhook recording delete call-20260131 message-20260130"
    )]
    Delete {
        /// Their names, the beginnings of them, or `last`
        #[arg(required = true, num_args = 1.., value_name = "NAME")]
        names: Vec<String>,
    },
}
