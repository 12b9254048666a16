//! `offhook directory ...`.

use super::in_account;
use crate::cli::DirectoryCmd;
use crate::config::Context;
use crate::exit::Outcome;
use crate::output::Printer;
use offhook::api::Command;

/// Does what the command says.
pub async fn execute(context: &Context, printer: Printer, command: DirectoryCmd) -> Outcome {
    let command = match command {
        DirectoryCmd::List => Command::Directories,
        DirectoryCmd::Home { name } => Command::DirectoryHome { name },
        DirectoryCmd::Add { name, key } => Command::DirectoryAdd { name, key },
        DirectoryCmd::Confirm { name } => Command::DirectoryConfirm { name },
    };
    in_account(context, printer, command).await
}
