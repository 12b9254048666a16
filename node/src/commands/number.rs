//! `offhook number ...`: chosen numbers of an account.

use super::account::renewed;
use super::sign_up::{confirm, unlock};
use crate::cli::NumberCmd;
use crate::config::Context;
use crate::exit::{Failure, Outcome};
use crate::output::Printer;
use crate::text;
use offhook::api::ErrorCode;
use offhook::clock::wall_clock;
use offhook::directory::{TransferCode, Unlocked};
use offhook::proto::identity::IdentityId;
use offhook::proto::number::{ChosenNumber, Number};
use offhook::storage::{AccountStore, HeldNumber};
use serde_json::{Value, json};

/// Does what the command says.
pub async fn execute(context: &Context, printer: Printer, command: NumberCmd) -> Outcome {
    match command {
        NumberCmd::List => list(context, printer).await,
        NumberCmd::Claim { number, transfer, password_stdin } => {
            claim(context, printer, &number, transfer.as_deref(), password_stdin).await
        }
        NumberCmd::Renew { password_stdin } => {
            let unlocked = open(context, password_stdin).await?;
            let held = unlocked.renew_numbers().await?;
            renewed(context).await?;
            show(printer, &held)
        }
        NumberCmd::Release { number, yes, password_stdin } => {
            let number = chosen(&number)?;
            confirm(
                yes,
                &format!(
                    "Give {number} up? Nobody gets it until all records of it have lapsed, not even you."
                ),
            )?;
            let unlocked = open(context, password_stdin).await?;
            unlocked.release(&number).await?;
            renewed(context).await?;
            tell(printer, json!({ "reply": "number_released", "number": number.to_string() }), || {
                format!("{number} is given up.")
            });
            Ok(())
        }
        NumberCmd::Transfer { number, to, yes, password_stdin } => {
            let number = chosen(&number)?;
            let unlocked = open(context, password_stdin).await?;
            let to = to.join(" ");
            let identity = whose(unlocked.store(), &to).await?;
            confirm(yes, &format!("Give {number} to {to} for good?"))?;
            let code = TransferCode::new(unlocked.transfer(&number, identity).await?);
            renewed(context).await?;
            let reply = json!({ "reply": "number_given", "number": number.to_string(), "transfer": code.to_string() });
            tell(printer, reply, || {
                format!(
                    "{number} is theirs as soon as they claim it, which has to be within a week:\n\n\
                     offhook number claim {number} --transfer {code}"
                )
            });
            Ok(())
        }
    }
}

async fn open(context: &Context, password_stdin: bool) -> Result<Unlocked, Failure> {
    unlock(context, &context.account_id().await?, password_stdin).await
}

fn chosen(typed: &str) -> Result<ChosenNumber, Failure> {
    match typed.parse::<Number>() {
        Ok(Number::Chosen(chosen)) => Ok(chosen),
        Ok(Number::Plain(_)) => Err(Failure::bad_input(
            "Twelve digits are a number that follows from an account's key: it cannot be chosen or given away.",
        )),
        Err(error) => Err(Failure::bad_input(format!("That cannot be a number: {error}."))),
    }
}

async fn claim(
    context: &Context,
    printer: Printer,
    typed: &str,
    transfer: Option<&str>,
    password_stdin: bool,
) -> Outcome {
    let number = chosen(typed)?;
    let transfers = match transfer {
        Some(code) => {
            let code: TransferCode = code.parse().map_err(|error| Failure::bad_input(format!("{error}")))?;
            code.into_transfers()
        }
        None => Vec::new(),
    };
    let unlocked = open(context, password_stdin).await?;
    let claimed = unlocked.claim(&number, transfers).await?;
    renewed(context).await?;
    let number = claimed.number.canonical();
    tell(printer, json!({ "reply": "number_claimed", "number": number }), || {
        format!("{number} is yours. Whoever dials it reaches this account while a terminal of it is on line.")
    });
    Ok(())
}

async fn list(context: &Context, printer: Printer) -> Outcome {
    let id = context.account_id().await?;
    let store = context.home.beside(&id).await?;
    let held = store.chosen().await?;
    if held.is_empty() && !printer.json() {
        printer.line(&format!(
            "{id} has no chosen numbers, but always its own: {}. `offhook number claim NAME` gets one.",
            store.number()
        ));
        return Ok(());
    }
    show(printer, &held)
}

fn show(printer: Printer, held: &[HeldNumber]) -> Outcome {
    let now = wall_clock();
    if printer.json() {
        let number = |held: &HeldNumber| {
            let expires = held.certified(now).ok().map(|cert| cert.expires);
            json!({ "number": held.number.canonical(), "expires": expires })
        };
        let numbers: Vec<Value> = held.iter().map(number).collect();
        printer.value(&json!({ "reply": "numbers", "numbers": numbers }));
        return Ok(());
    }
    let names: Vec<String> = held.iter().map(|held| held.number.canonical()).collect();
    let columns = text::widest(&names.iter().map(String::as_str).collect::<Vec<_>>());
    for (held, name) in held.iter().zip(&names) {
        let until = match held.certified(now) {
            Ok(cert) => format!("certified until {}", text::local_time(cert.expires.0)),
            Err(_) => "its certificate is over: `offhook number renew`".to_owned(),
        };
        printer.line(&format!("{}  {until}", text::padded(name, columns)));
    }
    Ok(())
}

/// The key of somebody whom the user names by contact, number or key.
async fn whose(store: &AccountStore, typed: &str) -> Result<IdentityId, Failure> {
    if let Some(key) = key(typed) {
        return Ok(key);
    }
    let number = store.resolve(typed).await?.number;
    let unknown = || {
        let sentence =
            format!("The key of {typed} is not known yet: call them once, or name the key itself.");
        Failure::new(ErrorCode::BadInput, sentence)
    };
    store.pinned(&number).await?.ok_or_else(unknown)
}

/// A key in hexadecimal digits, as the directory's list shows it.
fn key(typed: &str) -> Option<IdentityId> {
    let digits = typed.as_bytes();
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(typed.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(IdentityId::from_bytes(bytes))
}

fn tell(printer: Printer, reply: Value, sentence: impl FnOnce() -> String) {
    if printer.json() { printer.value(&reply) } else { printer.line(&sentence()) }
}
