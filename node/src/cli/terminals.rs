//! `offhook terminals ...`

use clap::Subcommand;

/// `offhook terminals ...`
#[derive(Debug, Subcommand)]
pub enum TerminalsCmd {
    /// Those that the network knows, and those that were put out
    List,
    /// Put a terminal out of the account: one that was lost or stolen
    #[command(after_help = "\
From now on nodes of the network drop its records and nobody rings it; whoever knows the account's new record refuses its
calls. It cannot be taken back; the terminal's user logs in anew. If it was not locked (`offhook account lock`), whoever has
its files has the account's key, and only another account helps.

Example:
  offhook terminals revoke 9f3a")]
    Revoke {
        /// The first digits of its key from `offhook terminals list`, as many as tell it from the others
        terminal: String,
        /// Read the password from standard input's first line, if it is needed
        #[arg(long)]
        password_stdin: bool,
    },
}
