//! `offhook history`.

use super::in_account;
use crate::cli::{HistoryArgs, HistoryCmd};
use crate::config::Context;
use crate::exit::Outcome;
use crate::output::Printer;
use offhook::api::Command;

/// Lists the calls that are over, or forgets them.
pub async fn execute(context: &Context, printer: Printer, args: &HistoryArgs) -> Outcome {
    let command = match args.command {
        Some(HistoryCmd::Refused) => Command::Refused,
        Some(HistoryCmd::Clear) => Command::HistoryClear,
        None => Command::History { limit: Some(args.limit) },
    };
    in_account(context, printer, command).await
}
