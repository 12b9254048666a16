//! `offhook contact ...`: through the running terminal, or in the account's file if none runs.

use super::running;
use crate::cli::ContactCmd;
use crate::config::Context;
use crate::console::split_number;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Printer;
use crate::telephone::Telephone as _;
use crate::text;
use offhook::api::{Command, Contact, Reply};
use offhook::proto::number::Invitation;
use offhook::storage::{AccountStore, PinCheck};

/// Does what the command says.
pub async fn execute(context: &Context, printer: Printer, command: ContactCmd) -> Outcome {
    let change = Change::new(command)?;
    let reply = match running(context).await? {
        Some(remote) => remote.execute(change.command()).await?,
        None => {
            let store = context.home.open_account(&context.account_id().await?).await?;
            let reply = change.in_file(&store).await;
            store.close().await;
            reply?
        }
    };
    printer.reply(&reply);
    if let (Reply::Done, false) = (&reply, printer.json()) {
        printer.line(change.said());
    }
    Ok(())
}

/// What to do with the contacts.
enum Change {
    List,
    Add { number: String, name: String },
    Remove(String),
    Confirm(String),
}

impl Change {
    fn new(command: ContactCmd) -> Result<Self, Failure> {
        Ok(match command {
            ContactCmd::List => Self::List,
            ContactCmd::Remove { contact } => Self::Remove(contact.join(" ")),
            ContactCmd::Confirm { contact } => Self::Confirm(contact.join(" ")),
            ContactCmd::Add { words } => {
                let typed = words.join(" ");
                let (number, name) = split_number(&typed);
                if name.is_empty() {
                    let question = "What shall the contact be called? `offhook contact add NUMBER NAME`.";
                    return Err(Failure::bad_input(question));
                }
                Self::Add { number: number.into(), name: name.into() }
            }
        })
    }

    /// For the running terminal.
    fn command(&self) -> Command {
        match self {
            Self::List => Command::Contacts,
            Self::Add { number, name } => Command::ContactAdd { number: number.clone(), name: name.clone() },
            Self::Remove(contact) => Command::ContactRemove { contact: contact.clone() },
            Self::Confirm(contact) => Command::ContactConfirm { contact: contact.clone() },
        }
    }

    fn said(&self) -> &'static str {
        match self {
            Self::List => "These are the contacts.",
            Self::Add { .. } => "The contact is kept.",
            Self::Remove(_) => "The contact is removed.",
            Self::Confirm(_) => "The new key is accepted. Compare words in your next call: `verify`.",
        }
    }

    /// Without a running terminal.
    async fn in_file(&self, store: &AccountStore) -> Result<Reply, Failure> {
        match self {
            Self::List => {
                let contacts = store.contacts().await?.into_iter().map(Contact::from).collect();
                return Ok(Reply::Contacts { contacts });
            }
            Self::Add { number, name } => add(store, number, name).await?,
            Self::Remove(contact) => store.contact_remove(&store.find_contact(contact).await?.number).await?,
            Self::Confirm(contact) => {
                store.confirm_key(&store.find_contact(contact).await?.number).await?;
            }
        }
        Ok(Reply::Done)
    }
}

async fn add(store: &AccountStore, number: &str, name: &str) -> Outcome {
    let link: Invitation = number.parse().map_err(|error| Failure::bad_input(format!("{error}")))?;
    let check = store.contact_add(&link.number, name, link.key.as_ref()).await?;
    if !link.via.is_empty() {
        store.set_routes(&link.number, &link.via).await?;
    }
    let PinCheck::Differs { pinned } = check else { return Ok(()) };
    let known = text::fingerprint(&pinned.to_string());
    let told = "The contact is kept, but the link names another key than the one known for the number";
    Err(Failure::new(Exit::KeyChanged, format!("{told} ({known}).")))
}
