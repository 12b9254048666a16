//! `offhook contact ...`.

use super::in_account;
use crate::cli::ContactCmd;
use crate::config::Context;
use crate::console::{joined, split_number};
use crate::exit::{Failure, Outcome};
use crate::output::Printer;
use offhook::api::Command;

/// Does what the command says.
pub async fn execute(context: &Context, printer: Printer, command: ContactCmd) -> Outcome {
    in_account(context, printer, api_command(command)?).await
}

fn api_command(command: ContactCmd) -> Result<Command, Failure> {
    Ok(match command {
        ContactCmd::List => Command::Contacts,
        ContactCmd::Remove { contact } => Command::ContactRemove { contact: contact.join(" ") },
        ContactCmd::Confirm { contact } => Command::ContactConfirm { contact: contact.join(" ") },
        ContactCmd::Add { words } => {
            let typed = joined(&words);
            let (number, name) = split_number(&typed);
            if name.is_empty() {
                let question = "What shall the contact be called? `offhook contact add NUMBER NAME`.";
                return Err(Failure::bad_input(question));
            }
            Command::ContactAdd { number: number.into(), name: name.into() }
        }
    })
}
