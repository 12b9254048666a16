//! `offhook history ...`

use clap::{Args, Subcommand};
use offhook::api::{HISTORY_REPLY, MAX_HISTORY_REPLY};

/// `offhook history`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct HistoryArgs {
    /// How many calls at most, 1 to 1000
    #[arg(long, value_name = "N", default_value_t = HISTORY_REPLY,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_HISTORY_REPLY)))]
    pub limit: u32,
    /// Something else than to list them.
    #[command(subcommand)]
    pub command: Option<HistoryCmd>,
}

/// `offhook history ...`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum HistoryCmd {
    /// The calls that did not ring, and why
    #[command(after_help = "\
A stranger's number is what it has said, without proof. A flood of strangers' calls is one line.

Example:
  offhook history refused --json | jq .calls")]
    Refused,
    /// Forget all of them
    Clear,
}
