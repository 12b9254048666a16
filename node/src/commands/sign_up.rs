//! What `offhook account` does at directories: sign up, log in, back up, log out.

use super::account::{Progress, done, renewed};
use crate::cli::AtDirectory;
use crate::config::Context;
use crate::control::sockets;
use crate::exit::{Failure, Outcome};
use crate::output::Printer;
use crate::password::Source;
use crate::telephone::Telephone as _;
use crate::text::{fingerprint, local_time};
use futures::StreamExt as _;
use offhook::api::{Command, ErrorCode};
use offhook::directory::{AccountAddress, Directory, DirectoryError, Older, Unlocked};
use offhook::proto::backup::RecoveryWords;
use offhook::storage::{AccountId, KnownDirectory, NewAccount, OfferedKey, StorageError, Unattended};
use serde_json::{Value, json};
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;
use tokio::time::timeout;

/// How long a terminal may take to end before its account is wiped.
const TO_END: Duration = Duration::from_secs(15);

impl AtDirectory {
    fn address(&self) -> Result<AccountAddress, Failure> {
        Ok(self.address.parse()?)
    }

    fn local(&self, address: &AccountAddress) -> Result<AccountId, Failure> {
        self.local.as_ref().map_or(Ok(address.id.clone()), |id| Ok(id.parse()?))
    }

    fn unattended(&self) -> Unattended {
        if self.locked { Unattended::No } else { Unattended::Yes }
    }
}

/// `offhook account signup`
pub async fn sign_up(context: &Context, printer: Printer, at: &AtDirectory, with_words: bool) -> Outcome {
    let address = at.address()?;
    let local = match (&at.local, &context.account) {
        (None, Some(named)) => named.parse()?,
        _ => at.local(&address)?,
    };
    let source = Source::new(at.password_stdin);
    let is_here = context.home.accounts().await?.iter().any(|account| account.id == local);
    let password = if is_here {
        source.current(&format!("Password of {local}: "))?
    } else {
        // Before anybody thinks up and types a password, and before a number is looked for.
        let directory = Directory::connect(&address.directory, None).await?;
        if !directory.info().is_open {
            return Err(Failure::new(ErrorCode::Network, "This directory takes no new accounts."));
        }
        let password = source.new_password()?;
        let mut progress = Progress::new();
        let new = NewAccount { id: local.clone(), password: password.clone() };
        let made = context.home.create_account(new, |tries| progress.show(tries)).await;
        progress.clear();
        made?;
        password
    };
    let unlocked = Unlocked::open(&context.home, &local, &password).await?;
    let signed = match unlocked.sign_up(&address, &password).await {
        Ok(signed) => signed,
        Err(error) => {
            drop(unlocked);
            // An account that was made for this alone goes with it; nobody has seen its number.
            if !is_here {
                context.home.remove_account(&local).await?;
            }
            return Err(error.into());
        }
    };
    // One that was here before stays as it is, unless it is to be locked.
    if !is_here || at.locked {
        unlocked.set_unattended(at.unattended()).await?;
    }
    renewed(context).await?;
    let words = with_words.then(|| unlocked.recovery_words());
    if printer.json() {
        let number = unlocked.store().number().canonical();
        let mut reply = json!({
            "reply": "signed_up", "id": local.as_str(), "number": number,
            "directory": signed.directory, "directory_id": signed.id.as_str(),
        });
        if let Some(words) = &words {
            reply["recovery_words"] = Value::from(words.to_string());
        }
        printer.value(&reply);
        return Ok(());
    }
    printer.line(&format!(
        "{local} has signed up at {}.\n\n  number    {}\n  log in    offhook account login {}",
        signed.directory,
        unlocked.store().number(),
        at.address.trim()
    ));
    match &words {
        Some(words) => printer.line(&words_text(words)),
        None => printer.line(
            "\nThe directory cannot restore a forgotten password; 24 recovery words can. Give the same command with\n\
             --recovery-words to see them.",
        ),
    }
    Ok(())
}

fn words_text(words: &RecoveryWords) -> String {
    let mut text = "\nRecovery words. Write them down: whoever has them has the account, and they are not shown by themselves.\n".to_owned();
    for (n, word) in words.words().iter().enumerate() {
        let end = if n % 6 == 5 { "\n" } else { "" };
        text += &format!("  {:>2} {word:<9}{end}", n + 1);
    }
    text.trim_end().to_owned()
}

/// `offhook account login`
pub async fn log_in(context: &Context, printer: Printer, at: &AtDirectory, older: Older) -> Outcome {
    let address = at.address()?;
    let local = at.local(&address)?;
    refuse_taken(context, &local).await?;
    let password = Source::new(at.password_stdin).current(&format!("Password of {}: ", at.address))?;
    let account =
        context.home.log_in(&address, local, &password, (at.unattended(), older)).await.map_err(or_older)?;
    let sentence = format!("{} is on this terminal now. Its number is {}.", account.id, account.number);
    done(context, printer, &account.id, &sentence).await
}

/// `offhook account recover`
pub async fn recover(context: &Context, printer: Printer, at: &AtDirectory, older: Older) -> Outcome {
    let address = at.address()?;
    let local = at.local(&address)?;
    refuse_taken(context, &local).await?;
    let source = Source::new(at.password_stdin);
    let words = source.words("The 24 recovery words: ")?;
    let words: RecoveryWords = words.parse().map_err(|error| Failure::bad_input(format!("{error}")))?;
    let password = source.new_password()?;
    let how = (at.unattended(), older);
    let account = context.home.recover(&address, local, &words, &password, how).await.map_err(or_older)?;
    let sentence = format!(
        "{} is on this terminal now, with the new password. Its number is {}. All other terminals of the account keep their old one.",
        account.id, account.number
    );
    done(context, printer, &account.id, &sentence).await
}

/// What can be done where a directory has lost something.
fn or_older(error: DirectoryError) -> Failure {
    if !matches!(error, DirectoryError::RolledBack { .. }) {
        return error.into();
    }
    let sentence = format!(
        "{error} Another terminal of the account may have it still: `offhook account backup --older` there puts it back. \
         To do with the older one, say --older."
    );
    Failure::new(error.code(), sentence)
}

async fn refuse_taken(context: &Context, local: &AccountId) -> Outcome {
    let accounts = context.home.accounts().await?;
    match accounts.iter().any(|account| account.id == *local) {
        true => Err(StorageError::AccountExists(local.to_string()).into()),
        false => Ok(()),
    }
}

/// The account that a command names, or else the current one.
pub async fn chosen_account(context: &Context, id: Option<&String>) -> Result<AccountId, Failure> {
    match id {
        Some(id) => Ok(id.parse()?),
        None => context.account_id().await,
    }
}

/// An account's key: the one that it keeps for itself, else by its password.
pub async fn unlock(context: &Context, id: &AccountId, password_stdin: bool) -> Result<Unlocked, Failure> {
    let store = context.home.beside(id).await?;
    if let Some(unlocked) = Unlocked::unattended(&store).await? {
        return Ok(unlocked);
    }
    let password = Source::new(password_stdin).current(&format!("Password of {id}: "))?;
    Ok(Unlocked::open(&context.home, id, &password).await?)
}

/// `offhook account status`
pub async fn status(context: &Context, printer: Printer, id: Option<&String>) -> Outcome {
    let id = chosen_account(context, id).await?;
    let store = context.home.beside(&id).await?;
    let mut directories = Vec::new();
    for known in store.directories().await? {
        let has_changed = store.has_changed(&known).await?;
        directories.push((known, has_changed));
    }
    let is_locked = store.unattended_key().await?.is_none();
    if printer.json() {
        let directory = |(known, has_changed): &(KnownDirectory, bool)| {
            json!({
                "name": known.name, "url": known.url, "id": known.id.as_str(), "version": known.version,
                "backed_up": known.backed_up, "changed_since": has_changed, "too_large": known.is_too_large,
            })
        };
        let directories: Vec<Value> = directories.iter().map(directory).collect();
        printer.value(&json!({
            "reply": "account_status", "id": id.as_str(), "number": store.number().canonical(),
            "locked": is_locked, "directories": directories,
        }));
        return Ok(());
    }
    printer.line(&format!("{id}, number {}", store.number()));
    if directories.is_empty() {
        printer.line(&format!(
            "No directory keeps a backup of it. `offhook account signup {id}@NAME` changes that."
        ));
    }
    for (known, has_changed) in &directories {
        printer.line(&format!("  {}@{}  {}", known.id, known.name, state_of(known, *has_changed)));
    }
    if !directories.is_empty() {
        printer.line(match is_locked {
            true => "The account is locked: `offhook account backup` asks for the password.",
            false => "A running terminal keeps the backup up by itself.",
        });
    }
    Ok(())
}

/// How the backup at a directory stands.
fn state_of(known: &KnownDirectory, has_changed: bool) -> String {
    if known.version == 0 {
        return "known from another terminal, not asked yet".to_owned();
    }
    let state = match (known.is_too_large, has_changed) {
        (true, _) => "what is new has no room in it: remove contacts that are not needed",
        (false, true) => "something has changed since",
        (false, false) => "up to date",
    };
    format!("backup {} of {}, {state}", known.version, local_time(known.backed_up.0))
}

/// What another terminal of the account has pinned for a number.
fn offered_text(key: &OfferedKey) -> String {
    format!(
        "WARNING: another terminal has met another key behind {} (here it is {}, there {}). Ask them in another way, then \
         `contact confirm`.",
        key.number,
        fingerprint(&key.pinned.to_string()),
        fingerprint(&key.offered.to_string())
    )
}

/// `offhook account backup`
pub async fn back_up(
    context: &Context,
    printer: Printer,
    id: Option<&String>,
    (older, password_stdin): (Older, bool),
) -> Outcome {
    let id = chosen_account(context, id).await?;
    if context.home.beside(&id).await?.directories().await?.is_empty() {
        return Err(DirectoryError::NoDirectory(None).into());
    }
    let unlocked = unlock(context, &id, password_stdin).await?;
    let done = unlocked.sync(older).await.map_err(or_older)?;
    if done.iter().any(|(_, synced)| synced.heard.is_news()) {
        renewed(context).await?;
    }
    if printer.json() {
        let list = done.iter().map(|(name, synced)| {
            let offered = synced.heard.offered.iter().map(|key| {
                json!({ "number": key.number, "pinned": key.pinned, "offered": key.offered })
            });
            json!({
                "name": name, "version": synced.version, "new": synced.is_new, "taken": synced.heard.has_taken,
                "offered": offered.collect::<Vec<_>>(),
            })
        });
        printer.value(&json!({ "reply": "backed_up", "directories": list.collect::<Vec<_>>() }));
        return Ok(());
    }
    for (name, synced) in done {
        let what = if synced.is_new { "is there now" } else { "was up to date" };
        let taken =
            if synced.heard.has_taken { " Something of another terminal's came with it." } else { "" };
        printer.line(&format!("{name}: backup {} {what}.{taken}", synced.version));
        for key in &synced.heard.offered {
            printer.line(&offered_text(key));
        }
    }
    Ok(())
}

/// `offhook account lock` and `unlock`
pub async fn set_locked(context: &Context, printer: Printer, id: &str, password: Option<Source>) -> Outcome {
    let id: AccountId = id.parse()?;
    let sentence = if let Some(source) = password {
        let password = source.current(&format!("Password of {id}: "))?;
        let unlocked = Unlocked::open(&context.home, &id, &password).await?;
        unlocked.set_unattended(Unattended::Yes).await?;
        format!("{id} is unlocked: a running terminal keeps its backup and certificates up by itself.")
    } else {
        context.home.beside(&id).await?.set_unattended(None).await?;
        format!("{id} is locked: its key is only in its file under the password.")
    };
    renewed(context).await?;
    done(context, printer, &id, &sentence).await
}

/// `offhook account delete`
pub async fn delete(
    context: &Context,
    printer: Printer,
    account: &str,
    yes: bool,
    password_stdin: bool,
) -> Outcome {
    let address: AccountAddress = account.parse()?;
    let mut found = None;
    for summary in context.home.accounts().await? {
        let known = context.home.beside(&summary.id).await?.directories().await?;
        let at = &address.directory;
        let is_there = |known: &KnownDirectory| known.name == at.name() || known.url == at.url();
        let it = known.into_iter().find(|known| known.id == address.id && is_there(known));
        found = found.or(it.map(|known| (summary.id, known)));
    }
    let Some((id, known)) = found else {
        return Err(Failure::new(
            ErrorCode::NoAccount,
            format!("No account here has signed up as {account}."),
        ));
    };
    confirm(yes, &format!("Erase {account} at {}, with its chosen numbers, for good?", known.name))?;
    let password = Source::new(password_stdin).current(&format!("Password of {id}: "))?;
    let unlocked = Unlocked::open(&context.home, &id, &password).await?;
    unlocked.delete_at(&known).await?;
    renewed(context).await?;
    done(context, printer, &id, &format!("{} keeps nothing of {id} any more. Here it stays.", known.name))
        .await
}

/// `offhook account logout`
pub async fn log_out(
    context: &Context,
    printer: Printer,
    id: &str,
    (yes, force, password_stdin): (bool, bool, bool),
) -> Outcome {
    let id: AccountId = id.parse()?;
    let kept = if force { None } else { Some(check_kept(context, &id, password_stdin).await?) };
    confirm(yes, &format!("Wipe {id} from this terminal, with its history, messages and recordings?"))?;
    end_terminal(context, &id).await?;
    if let Some(unlocked) = kept {
        // The terminal may have changed something until its end.
        put_all(&unlocked, &id).await?;
        unlocked.store().close().await;
    }
    context.home.remove_account(&id).await?;
    let sentence = format!("{id} is no longer on this terminal.");
    if printer.json() {
        printer.value(&json!({ "reply": "logged_out", "id": id.as_str() }));
    } else {
        printer.line(&sentence);
    }
    Ok(())
}

/// Some directory has all of it just now. Of a locked account that takes its password, but not to find out that something would be lost.
async fn check_kept(context: &Context, id: &AccountId, password_stdin: bool) -> Result<Unlocked, Failure> {
    let store = context.home.beside(id).await?;
    let directories = store.directories().await?;
    if directories.is_empty() {
        return Err(Failure::bad_input(format!(
            "No directory keeps {id}: its number would be lost for ever. If that is meant, say --force."
        )));
    }
    let mut is_kept = false;
    for known in &directories {
        is_kept |= !store.has_changed(known).await?;
    }
    let is_locked = store.unattended_key().await?.is_none();
    if is_locked && !is_kept {
        return Err(Failure::bad_input(format!(
            "Something has changed since the last backup and would be lost: `offhook account backup {id}` first, or say --force."
        )));
    }
    let unlocked = unlock(context, id, password_stdin).await?;
    put_all(&unlocked, id).await?;
    Ok(unlocked)
}

/// Has one directory at least keep all of it, now.
async fn put_all(unlocked: &Unlocked, id: &AccountId) -> Outcome {
    let mut why = String::new();
    for (_, synced) in unlocked.sync_each(Older::Refuse).await? {
        match synced {
            Ok(_) => return Ok(()),
            Err(error) => why = error.to_string(),
        }
    }
    Err(Failure::bad_input(format!(
        "No directory keeps {id} as it is now, so that it would be lost: `offhook account backup {id}` first, or say --force. {why}"
    )))
}

async fn end_terminal(context: &Context, id: &AccountId) -> Outcome {
    for remote in sockets::remotes(context).await? {
        let running = sockets::whose(remote).await?;
        if running.account != id.as_str() {
            continue;
        }
        let mut events = running.remote.events();
        running.remote.execute(Command::Shutdown).await?;
        let ended = async { while events.next().await.is_some() {} };
        if timeout(TO_END, ended).await.is_err() {
            return Err(Failure::new(
                ErrorCode::InUse,
                format!("The terminal of {id} takes long to end; nothing was wiped."),
            ));
        }
    }
    Ok(())
}

/// Asks, unless the user has said so already.
pub fn confirm(yes: bool, question: &str) -> Outcome {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::bad_input("There is no terminal to ask on. Scripts say --yes."));
    }
    eprint!("{question} [y/N] ");
    // A question that cannot be shown is not answered.
    let _ = std::io::stderr().flush();
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    match read.is_ok() && matches!(line.trim(), "y" | "Y" | "yes") {
        true => Ok(()),
        false => Err(Failure::bad_input("Nothing was done.")),
    }
}
