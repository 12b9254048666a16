//! `offhook-directory users`.

use clap::Subcommand;
use offhook::clock::wall_clock;
use offhook::storage::AccountId;
use serde_json::{Value, json};

use super::{Desk, date, deed, failed, hex, wrong};
use crate::cli::Failure;
use crate::store::{Account, MAX_PAGE};

#[derive(Subcommand, Debug)]
pub(crate) enum UsersCommand {
    /// Print all accounts in the order of their IDs: ID, number, when it was made
    List,
    /// Print what there is of an account
    Show {
        /// The user's ID
        id: AccountId,
    },
    /// End all sessions of an account: its user has to log in again
    EndSessions {
        /// The user's ID
        id: AccountId,
    },
    /// Let nobody log in to an account any more; nothing of it is lost
    Close {
        /// The user's ID
        id: AccountId,
    },
    /// Let its user log in again
    Reopen {
        /// The user's ID
        id: AccountId,
    },
    /// Delete an account with its backup, for good; its chosen numbers stay its identity's
    Delete {
        /// The user's ID
        id: AccountId,
        /// That it is meant: without the recovery words its user cannot get at his identity any more
        #[arg(long)]
        yes: bool,
    },
}

/// Does what was typed.
pub(crate) async fn users(desk: &Desk, command: UsersCommand) -> Result<(), Failure> {
    match command {
        UsersCommand::List => list(desk).await,
        UsersCommand::Show { id } => show(desk, &id).await,
        UsersCommand::EndSessions { id } => end_sessions(desk, &id).await,
        UsersCommand::Close { id } => set_closed(desk, &id, true).await,
        UsersCommand::Reopen { id } => set_closed(desk, &id, false).await,
        UsersCommand::Delete { id, yes } => delete(desk, &id, yes).await,
    }
}

async fn list(desk: &Desk) -> Result<(), Failure> {
    let mut last = None;
    loop {
        let page = desk.store.accounts(last.as_ref(), MAX_PAGE).await.map_err(|error| failed(&error))?;
        for account in &page {
            let closed = account.closed.map_or_else(String::new, |at| format!("  closed {}", date(at)));
            let (id, number) = (account.id.as_str(), account.number.as_str());
            let line = format!("{id}  {number}  {}{closed}", date(account.created));
            desk.say(&line, &object(account))?;
        }
        match page.last() {
            Some(account) => last = Some(account.id.clone()),
            None => return Ok(()),
        }
    }
}

fn object(account: &Account) -> Value {
    json!({
        "id": account.id.as_str(), "number": account.number.as_str(), "identity": hex(&account.identity),
        "created": account.created.0, "closed": account.closed.map(|at| at.0),
    })
}

async fn show(desk: &Desk, id: &AccountId) -> Result<(), Failure> {
    let account = desk.account(id).await?;
    let identity = &account.identity;
    let sessions = desk.store.count_sessions(Some(identity), wall_clock()).await;
    let sessions = sessions.map_err(|error| failed(&error))?;
    let held = desk.store.numbers_of(identity).await.map_err(|error| failed(&error))?;
    let chosen: Vec<&str> = held.iter().map(|held| held.name.as_str()).collect();
    let mut json = object(&account);
    json["sessions"] = sessions.into();
    json["backup_version"] = account.backup_version.into();
    json["chosen"] = json!(chosen);
    let text = format!(
        "ID              {}\nnumber          {}\nidentity        {}\nmade            {}\nclosed          {}\n\
         sessions        {sessions}\nbackup          version {}\nchosen numbers  {}",
        account.id.as_str(),
        account.number.as_str(),
        hex(identity),
        date(account.created),
        account.closed.map_or_else(|| "no".to_owned(), |at| format!("since {}", date(at))),
        account.backup_version,
        if chosen.is_empty() { "none".to_owned() } else { chosen.join(", ") },
    );
    desk.say(&text, &json)
}

async fn end_sessions(desk: &Desk, id: &AccountId) -> Result<(), Failure> {
    let account = desk.account(id).await?;
    let done = Some(deed("end sessions", id.as_str(), ""));
    let ended = desk.store.end_sessions(&account.identity, done).await.map_err(|error| failed(&error))?;
    let text = format!("{ended} {} ended", if ended == 1 { "session" } else { "sessions" });
    desk.say(&text, &json!({ "id": id.as_str(), "ended": ended }))
}

async fn set_closed(desk: &Desk, id: &AccountId, is_closed: bool) -> Result<(), Failure> {
    let account = desk.account(id).await?;
    let action = if is_closed { "close account" } else { "reopen account" };
    let closed = is_closed.then(wall_clock);
    let change = desk.store.close_account(&account.identity, closed, deed(action, id.as_str(), ""));
    change.await.map_err(|error| failed(&error))?;
    let text = if is_closed { "closed; its sessions have ended" } else { "open" };
    desk.say(text, &json!({ "id": id.as_str(), "closed": closed.map(|at| at.0) }))
}

async fn delete(desk: &Desk, id: &AccountId, is_meant: bool) -> Result<(), Failure> {
    let account = desk.account(id).await?;
    if !is_meant {
        return Err(wrong(format!(
            "\"{}\" and its backup would be deleted for good; if that is meant, add --yes",
            id.as_str()
        )));
    }
    let done = Some(deed("delete account", id.as_str(), &hex(&account.identity)));
    let change = desk.store.delete_account(&account.identity, done, wall_clock());
    change.await.map_err(|error| failed(&error))?;
    desk.say("deleted", &json!({ "id": id.as_str(), "deleted": true }))
}
