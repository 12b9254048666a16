//! `offhook contact ...`: through the running terminal, or in the account's file if none runs.

use super::running;
use crate::cli::ContactCmd;
use crate::config::Context;
use crate::console::{joined, split_number};
use crate::exit::{Failure, Outcome};
use crate::output::Printer;
use crate::telephone::{Telephone as _, unexpected};
use offhook::api::{Command, Reply};

/// Does what the command says.
pub async fn execute(context: &Context, printer: Printer, command: ContactCmd) -> Outcome {
    let said = said(&command);
    let command = api_command(command)?;
    let reply = match running(context).await? {
        Some(remote) => remote.execute(command).await,
        None => in_file(context, &command).await?,
    }?;
    printer.reply(&reply);
    if let (Reply::Done, Some(said), false) = (&reply, said, printer.json()) {
        printer.line(said);
    }
    Ok(())
}

/// Without a running terminal.
async fn in_file(
    context: &Context,
    command: &Command,
) -> Result<Result<Reply, offhook::api::ApiError>, Failure> {
    let store = context.home.open_account(&context.account_id().await?).await?;
    let reply = store.execute(command).await;
    store.close().await;
    // Every contact command is one of the file's.
    Ok(reply.unwrap_or_else(|| Err(unexpected(&Reply::Done))))
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

fn said(command: &ContactCmd) -> Option<&'static str> {
    match command {
        ContactCmd::List => None,
        ContactCmd::Add { .. } => Some("The contact is kept."),
        ContactCmd::Remove { .. } => Some("The contact is removed."),
        ContactCmd::Confirm { .. } => {
            Some("The new key is accepted. Compare words in your next call: `offhook verify`.")
        }
    }
}
