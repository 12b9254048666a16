//! `offhook contact ...`: through the running terminal, or in the account's file if none runs.

use super::running;
use crate::cli::ContactCmd;
use crate::config::Context;
use crate::console::split_number;
use crate::exit::{Failure, Outcome};
use crate::output::Printer;
use crate::telephone::Telephone as _;
use crate::text;
use offhook::api::{Command, Contact, Reply};
use offhook::proto::number::Invitation;
use offhook::storage::{AccountStore, PinCheck};

/// Does what the command says.
pub async fn execute(context: &Context, printer: Printer, command: ContactCmd) -> Outcome {
    let command = to_command(command)?;
    let reply = match running(context).await? {
        Some(remote) => remote.execute(command.clone()).await?,
        None => {
            let store = context.home.open_account(&context.account_id().await?).await?;
            let reply = in_file(&store, &command).await;
            store.close().await;
            reply?
        }
    };
    printer.reply(&reply);
    if let (Reply::Done, false) = (&reply, printer.json()) {
        printer.line(said(&command));
    }
    Ok(())
}

fn to_command(command: ContactCmd) -> Result<Command, Failure> {
    let words = |words: Vec<String>| words.join(" ");
    Ok(match command {
        ContactCmd::List => Command::Contacts,
        ContactCmd::Remove { contact } => Command::ContactRemove { contact: words(contact) },
        ContactCmd::Confirm { contact } => Command::ContactConfirm { contact: words(contact) },
        ContactCmd::Add { words: typed } => {
            let typed = words(typed);
            let (number, name) = split_number(&typed);
            if name.is_empty() {
                return Err(Failure::bad_input(
                    "What shall the contact be called? `offhook contact add NUMBER NAME`.",
                ));
            }
            Command::ContactAdd { number: number.into(), name: name.into() }
        }
    })
}

fn said(command: &Command) -> &'static str {
    match command {
        Command::ContactAdd { .. } => "The contact is kept.",
        Command::ContactRemove { .. } => "The contact is removed.",
        Command::ContactConfirm { .. } => {
            "The new key is accepted. Compare words in your next call: `verify`."
        }
        _ => "Done.",
    }
}

async fn in_file(store: &AccountStore, command: &Command) -> Result<Reply, Failure> {
    match command {
        Command::ContactAdd { number, name } => {
            let link: Invitation = number.parse().map_err(|error| Failure::bad_input(format!("{error}")))?;
            let check = store.contact_add(&link.number, name, link.key.as_ref()).await?;
            if !link.via.is_empty() {
                store.set_routes(&link.number, &link.via).await?;
            }
            if let PinCheck::Differs { pinned } = check {
                return Err(Failure::new(
                    crate::exit::Exit::KeyChanged,
                    format!(
                        "The contact is kept, but the link names another key than the one known for the number ({}).",
                        text::fingerprint(&pinned.to_string())
                    ),
                ));
            }
        }
        Command::ContactRemove { contact } => {
            store.contact_remove(&store.find_contact(contact).await?.number).await?;
        }
        Command::ContactConfirm { contact } => {
            store.confirm_key(&store.find_contact(contact).await?.number).await?;
        }
        _ => {
            let contacts = store.contacts().await?.into_iter().map(Contact::from).collect();
            return Ok(Reply::Contacts { contacts });
        }
    }
    Ok(Reply::Done)
}
