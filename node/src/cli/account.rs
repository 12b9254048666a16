//! `offhook account ...`

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What `login`, `signup` and `recover` have in common.
#[derive(Debug, Args)]
pub struct AtDirectory {
    /// The account's ID and its directory: ada@example.org
    #[arg(value_name = "ID@NAME")]
    pub address: String,
    /// What to call the account on this terminal [default: its ID there]
    #[arg(long = "as", value_name = "ID")]
    pub local: Option<String>,
    /// Keep the account's key encrypted here always: backups and certificates then wait until you enter the password
    #[arg(long)]
    pub locked: bool,
    /// Read what is asked for from standard input: the password on the first line
    #[arg(long)]
    pub password_stdin: bool,
}

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
    /// Sign up at a directory: ID and password then give the account back on any terminal
    #[command(after_help = "\
An account of that ID on this terminal is signed up with its identity and number, and its password is asked for; --account
names another one. Else an account is made. The directory keeps an encrypted backup and never learns the password.
Up to three directories may keep it.

Examples:
  offhook account signup ada@example.org
  offhook account signup ada@example.org --recovery-words
  offhook --account ada account signup ada.l@example.net    another directory for the same account")]
    Signup {
        /// Where, and how
        #[command(flatten)]
        at: AtDirectory,
        /// Show the 24 words that give the account back if the password is forgotten, once
        #[arg(long)]
        recovery_words: bool,
    },
    /// Log in: bring an account with its number, contacts and settings to this terminal
    #[command(
        after_help = "Examples:\n  offhook account login ada@example.org\n  offhook account login ada@example.org --as ada-work"
    )]
    Login {
        /// Where, and how
        #[command(flatten)]
        at: AtDirectory,
        /// Take the directory's backup even if there was a newer one: it has lost that
        #[arg(long)]
        older: bool,
    },
    /// Get an account back by its 24 recovery words, with a new password
    #[command(
        after_help = "With --password-stdin the words are the first line and the new password is the second."
    )]
    Recover {
        /// Where, and how
        #[command(flatten)]
        at: AtDirectory,
        /// Take the directory's backup even if there was a newer one: it has lost that
        #[arg(long)]
        older: bool,
    },
    /// Wipe an account from this terminal; its directories keep it
    #[command(after_help = "\
A terminal that runs the account is ended first. Its files are overwritten before they are removed: on a disk that writes in
place nothing of its keys stays. One of its directories has to keep all of it just now, or it takes --force; of a locked account
the password is asked for to find that out.")]
    Logout {
        /// Which
        id: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Even if something would be lost
        #[arg(long)]
        force: bool,
        /// Read the password of a locked account from standard input's first line
        #[arg(long)]
        password_stdin: bool,
    },
    /// Directories that keep an account's backup, and how old it is
    Status {
        /// Which [default: the current one]
        id: Option<String>,
    },
    /// Bring the backup at the account's directories up to date now
    Backup {
        /// Which [default: the current one]
        id: Option<String>,
        /// Even at a directory that has lost a newer backup than it has: what is here counts
        #[arg(long)]
        older: bool,
        /// Read the password from standard input's first line, if it is needed
        #[arg(long)]
        password_stdin: bool,
    },
    /// Keep the account's key encrypted: backups and certificates wait until you enter the password
    Lock {
        /// Which
        id: String,
    },
    /// Let the terminal keep backups up and renew certificates by itself
    #[command(after_help = "\
The account's key is then kept in its file as it is, beside the terminal's own keys: whoever reads the file has the account.
Accounts that have signed up or logged in without --locked are unlocked.")]
    Unlock {
        /// Which
        id: String,
        /// Read the password from standard input's first line
        #[arg(long)]
        password_stdin: bool,
    },
    /// Erase an account at a directory, for good; on this terminal it stays
    Delete {
        /// Which, where: ada@example.org
        #[arg(value_name = "ID@NAME")]
        address: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
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
    /// Change an account's password, here and at its directories
    Password {
        /// Which
        id: String,
        /// Read the old and the new password from standard input's first two lines
        #[arg(long)]
        password_stdin: bool,
    },
    /// Change an account's ID, here and at its directories; the number stays
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
