//! `offhook account ...`

use std::path::PathBuf;

use clap::Subcommand;

/// `offhook account ...`
#[derive(Debug, Subcommand)]
pub enum AccountCmd {
    /// Make an account: keys, and a number of its own
    New {
        /// What to call it; letters, digits and signs
        id: String,
        /// Read the password from standard input's first line
        #[arg(long)]
        password_stdin: bool,
    },
    /// List the accounts
    List,
    /// Choose the account that is used when none is named
    Use {
        /// Which
        id: String,
    },
    /// Change an account's password
    Password {
        /// Which
        id: String,
        /// Read the old and the new password from standard input's first two lines
        #[arg(long)]
        password_stdin: bool,
    },
    /// Change an account's ID; the number stays
    Rename {
        /// Which
        id: String,
        /// Its new ID
        new_id: String,
        /// Read the password from standard input's first line
        #[arg(long)]
        password_stdin: bool,
    },
    /// Ring an account's calls with a WAV file of one's own, or with the old telephone's bell again
    #[command(after_help = "\
Examples:
  offhook account ringtone ada cuckoo.wav
  offhook account ringtone ada --bell

A copy is kept; at most 30 seconds of it are played, again and again with three seconds between. A terminal
that runs takes it up when it is started the next time.")]
    Ringtone {
        /// Which account
        id: String,
        /// The WAV file
        #[arg(required_unless_present = "bell", conflicts_with = "bell")]
        file: Option<PathBuf>,
        /// The bell that rings if nothing else was said
        #[arg(long)]
        bell: bool,
    },
    /// Let the answering machine greet callers with a WAV file of one's own, or with its own three notes again
    #[command(after_help = "\
Examples:
  offhook account greeting ada not-at-home.wav
  offhook account greeting ada --default

A copy is kept; at most 30 seconds of it are heard. The next call hears it. `offhook run --answer machine`
turns the machine on.")]
    Greeting {
        /// Which account
        id: String,
        /// The WAV file
        #[arg(required_unless_present = "default", conflicts_with = "default")]
        file: Option<PathBuf>,
        /// The greeting that is heard if nothing else was said
        #[arg(long)]
        default: bool,
    },
    /// Play a WAV file of one's own to whoever is put on hold, or the music box again
    #[command(after_help = "\
Examples:
  offhook account hold-music ada waltz.wav
  offhook account hold-music ada --default

A copy is kept; at most 60 seconds of it are played, again and again. A terminal that runs takes it up when it is
started the next time.")]
    HoldMusic {
        /// Which account
        id: String,
        /// The WAV file
        #[arg(required_unless_present = "default", conflicts_with = "default")]
        file: Option<PathBuf>,
        /// The music that plays if nothing else was said
        #[arg(long)]
        default: bool,
    },
    /// Renew this terminal's certificate for another 13 months
    Renew {
        /// Which
        id: String,
        /// Read the password from standard input's first line
        #[arg(long)]
        password_stdin: bool,
    },
}
