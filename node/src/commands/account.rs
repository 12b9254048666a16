//! `offhook account ...`

use super::sign_up;
use crate::cli::AccountCmd;
use crate::config::Context;
use crate::control::sockets;
use crate::exit::{Failure, Outcome};
use crate::output::Printer;
use crate::password::Source;
use crate::telephone::Telephone;
use crate::text;
use offhook::api::Command;
use offhook::directory::{Older, Unlocked};
use offhook::storage::{AccountId, AccountSummary, NewAccount, StorageError};
use serde_json::{Value, json};
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

/// Does what the command says.
pub async fn execute(context: &Context, printer: Printer, command: AccountCmd) -> Outcome {
    let home = &context.home;
    match command {
        AccountCmd::New { id, password_stdin } => create(context, printer, &id, password_stdin).await,
        AccountCmd::Signup { at, recovery_words } => {
            sign_up::sign_up(context, printer, &at, recovery_words).await
        }
        AccountCmd::Login { at, older } => sign_up::log_in(context, printer, &at, age(older)).await,
        AccountCmd::Recover { at, older } => sign_up::recover(context, printer, &at, age(older)).await,
        AccountCmd::Logout { id, yes, force, password_stdin } => {
            sign_up::log_out(context, printer, &id, (yes, force, password_stdin)).await
        }
        AccountCmd::Status { id } => sign_up::status(context, printer, id.as_ref()).await,
        AccountCmd::Backup { id, older, password_stdin } => {
            sign_up::back_up(context, printer, id.as_ref(), (age(older), password_stdin)).await
        }
        AccountCmd::Lock { id } => sign_up::set_locked(context, printer, &id, None).await,
        AccountCmd::Unlock { id, password_stdin } => {
            sign_up::set_locked(context, printer, &id, Some(Source::new(password_stdin))).await
        }
        AccountCmd::Delete { address, yes, password_stdin } => {
            sign_up::delete(context, printer, &address, yes, password_stdin).await
        }
        AccountCmd::List => list(context, printer).await,
        AccountCmd::Use { id } => {
            let id = id.parse()?;
            home.use_account(&id).await?;
            done(context, printer, &id, &format!("The current account is {id}.")).await
        }
        AccountCmd::Password { id, password_stdin } => {
            change_password(context, printer, &id, Source::new(password_stdin)).await
        }
        AccountCmd::Rename { id, new_id, password_stdin } => {
            rename(context, printer, (&id, &new_id), Source::new(password_stdin)).await
        }
        AccountCmd::Ringtone { id, file, bell: _ } => {
            set_ringtone(context, printer, &id, file.as_deref()).await
        }
        AccountCmd::Greeting { id, file, default: _ } => {
            set_greeting(context, printer, &id, file.as_deref()).await
        }
        AccountCmd::HoldMusic { id, file, default: _ } => {
            set_hold_music(context, printer, &id, file.as_deref()).await
        }
        AccountCmd::Renew { id, password_stdin } => {
            let id = id.parse()?;
            let password = Source::new(password_stdin).current("Password: ")?;
            home.recertify(&id, &password).await?;
            renewed(context).await?;
            done(context, printer, &id, &format!("The certificate of {id} is renewed for 13 months.")).await
        }
    }
}

async fn change_password(context: &Context, printer: Printer, id: &str, source: Source) -> Outcome {
    let id = id.parse()?;
    let old = source.current("Old password: ")?;
    // Before anybody thinks up and types a new one.
    let unlocked = Unlocked::open(&context.home, &id, &old).await?;
    let new = source.new_password()?;
    unlocked.change_credentials(&context.home, (&id, &old), (&id, &new)).await?;
    renewed(context).await?;
    done(context, printer, &id, &format!("The password of {id} is changed.")).await
}

async fn rename(context: &Context, printer: Printer, (id, new_id): (&str, &str), source: Source) -> Outcome {
    let (id, new_id): (AccountId, AccountId) = (id.parse()?, new_id.parse()?);
    let password = source.current("Password: ")?;
    let unlocked = Unlocked::open(&context.home, &id, &password).await?;
    unlocked.change_credentials(&context.home, (&id, &password), (&new_id, &password)).await?;
    renewed(context).await?;
    let sentence = format!("{id} is now called {new_id}. The number stays the same.");
    done(context, printer, &new_id, &sentence).await
}

async fn set_ringtone(context: &Context, printer: Printer, id: &str, file: Option<&Path>) -> Outcome {
    let id = id.parse()?;
    context.home.set_ringtone(&id, file).await?;
    let what = if file.is_some() { "this" } else { "the old telephone's bell" };
    done(context, printer, &id, &format!("Calls to {id} ring with {what} from the next start on.")).await
}

async fn set_greeting(context: &Context, printer: Printer, id: &str, file: Option<&Path>) -> Outcome {
    let id = id.parse()?;
    context.home.set_greeting(&id, file).await?;
    let what = if file.is_some() { "this" } else { "three notes" };
    done(context, printer, &id, &format!("The answering machine of {id} greets callers with {what}.")).await
}

async fn set_hold_music(context: &Context, printer: Printer, id: &str, file: Option<&Path>) -> Outcome {
    let id = id.parse()?;
    context.home.set_hold_music(&id, file).await?;
    let what = if file.is_some() { "this" } else { "the music box" };
    done(context, printer, &id, &format!("Whoever {id} puts on hold hears {what} from the next start on."))
        .await
}

fn age(older: bool) -> Older {
    if older { Older::Take } else { Older::Refuse }
}

/// Whoever enters the password renews the certificate: a running terminal takes it up.
pub async fn renewed(context: &Context) -> Outcome {
    // Perhaps it is another account's: then there is nothing new for it.
    for remote in sockets::remotes(context).await? {
        Telephone::execute(&remote, Command::Renewed).await?;
    }
    Ok(())
}

async fn create(context: &Context, printer: Printer, id: &str, password_stdin: bool) -> Outcome {
    let id: AccountId = id.parse()?;
    // Before anybody thinks up and types a password.
    if context.home.accounts().await?.iter().any(|account| account.id == id) {
        return Err(StorageError::AccountExists(id.to_string()).into());
    }
    let password = Source::new(password_stdin).new_password()?;
    let mut progress = Progress::new();
    let new = NewAccount { id, password };
    let account = context.home.create_account(new, |tries| progress.show(tries)).await;
    progress.clear();
    let account = account?;
    if printer.json() {
        printer.value(&reply(&account));
        return Ok(());
    }
    printer.line(&format!(
        "The account {} is ready.\n\n  number  {}\n  key     {}\n\n\
         Everybody who knows the number can call it while `offhook run` is running.\n\
         `offhook link` prints an invitation to give away. Nobody can restore a forgotten password.",
        account.id,
        account.number,
        text::fingerprint(&account.fingerprint.to_string())
    ));
    Ok(())
}

async fn list(context: &Context, printer: Printer) -> Outcome {
    let accounts = context.home.accounts().await?;
    if printer.json() {
        let accounts: Vec<Value> = accounts.iter().map(value).collect();
        printer.value(&json!({ "reply": "accounts", "accounts": accounts }));
        return Ok(());
    }
    if accounts.is_empty() {
        printer.line("No accounts yet. Make one with `offhook account new ID`.");
    }
    let ids: Vec<&str> = accounts.iter().map(|account| account.id.as_str()).collect();
    let columns = text::widest(&ids);
    for account in &accounts {
        let mark = if account.current { '*' } else { ' ' };
        printer.line(&format!("{mark} {}  {}", text::padded(account.id.as_str(), columns), account.number));
    }
    Ok(())
}

/// Says what was done, or shows the account as it is now.
pub async fn done(context: &Context, printer: Printer, id: &AccountId, sentence: &str) -> Outcome {
    if !printer.json() {
        printer.line(sentence);
        return Ok(());
    }
    let accounts = context.home.accounts().await?;
    let account = accounts.iter().find(|account| account.id == *id);
    printer.value(&reply(account.ok_or_else(|| Failure::from(StorageError::NoAccount(id.to_string())))?));
    Ok(())
}

fn reply(account: &AccountSummary) -> Value {
    let mut reply = value(account);
    reply["reply"] = "account".into();
    reply
}

fn value(account: &AccountSummary) -> Value {
    json!({
        "id": account.id.as_str(),
        "number": account.number,
        "fingerprint": account.fingerprint,
        "current": account.current,
        "certificate_until": account.cert_until,
    })
}

/// How the search for a number goes, on one line of a terminal; in a log, only that it began.
pub struct Progress {
    terminal: bool,
    begun: bool,
}

impl Progress {
    pub fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), begun: false }
    }

    pub fn show(&mut self, tries: u64) {
        let mut err = std::io::stderr().lock();
        // Progress that can't be shown is no reason to stop.
        let _ = match (self.terminal, self.begun) {
            (true, _) => write!(err, "\rLooking for a number … {tries} tried (about 256 are needed)"),
            (false, false) => writeln!(err, "Looking for a number …"),
            (false, true) => Ok(()),
        };
        self.begun = true;
    }

    pub fn clear(&self) {
        if self.terminal && self.begun {
            let _ = write!(std::io::stderr(), "\r\u{1b}[2K");
        }
    }
}
