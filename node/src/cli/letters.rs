//! `offhook messages` and `offhook voicemail ...`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use offhook::api::{MAX_MESSAGES_REPLY, MESSAGES_REPLY};

/// `offhook messages`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct MessagesArgs {
    /// Only those with this number or contact
    #[arg(long, value_name = "NUMBER")]
    pub with: Option<String>,
    /// How many messages at most, 1 to 500
    #[arg(long, value_name = "N", default_value_t = MESSAGES_REPLY,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_MESSAGES_REPLY)))]
    pub limit: u32,
    /// Something else than to list them.
    #[command(subcommand)]
    pub command: Option<MessagesCmd>,
}

/// `offhook messages ...`
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum MessagesCmd {
    /// Let a contact know that its last messages have been read
    Read {
        /// Number or name
        contact: String,
    },
}

/// `offhook voicemail ...`
#[derive(Debug, Subcommand)]
pub enum VoicemailCmd {
    /// List the voice messages of the mailbox, the newest first
    List,
    /// Play one through the loudspeaker
    #[command(
        after_help = "Examples:\n  offhook voicemail play 3\n  offhook voicemail play 3 --speaker default"
    )]
    Play {
        /// Its number in the list
        voicemail: i64,
        /// Loudspeaker: default, none or an id from `offhook devices`
        #[arg(long, env = "OFFHOOK_SPEAKER", value_name = "DEVICE", hide_env_values = true)]
        speaker: Option<String>,
    },
    /// Write one to a new file, Opus in Ogg
    #[command(after_help = "Example:\n  offhook voicemail save 3 ada.opus")]
    Save {
        /// Its number in the list
        voicemail: i64,
        /// The new file
        file: PathBuf,
    },
    /// Delete some for good
    Delete {
        /// Their numbers in the list
        #[arg(required = true, num_args = 1.., value_name = "N")]
        voicemails: Vec<i64>,
    },
    /// Leave one: after the tone you speak, and Ctrl-C ends it; or from a file
    #[command(after_help = "\
Examples:
  offhook voicemail leave 4821 0937 5567
  offhook voicemail leave Bob --file message.opus
  offhook voicemail leave Bob --listen          hear it before it goes")]
    Leave {
        /// Number, name or invitation link
        #[arg(required = true, num_args = 1.., value_name = "NUMBER")]
        number: Vec<String>,
        /// A file of Ogg Opus, or a WAV file of a minute at most, instead of the microphone
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// Play it before it goes; Ctrl-C while it plays keeps it from going
        #[arg(long)]
        listen: bool,
        /// Microphone: default, an id from `offhook devices` or a WAV file
        #[arg(long, env = "OFFHOOK_MIC", value_name = "DEVICE", hide_env_values = true)]
        mic: Option<String>,
        /// Loudspeaker: default, none or an id from `offhook devices`
        #[arg(long, env = "OFFHOOK_SPEAKER", value_name = "DEVICE", hide_env_values = true)]
        speaker: Option<String>,
    },
}
