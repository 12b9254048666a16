//! `offhook terminals ...`

use super::account::renewed;
use super::sign_up::{chosen_account, unlock};
use super::{ask, running};
use crate::cli::TerminalsCmd;
use crate::config::Context;
use crate::exit::{Failure, Outcome};
use crate::output::Printer;
use crate::telephone::{Telephone as _, unexpected};
use offhook::api::{Command, ErrorCode, Reply, TerminalInfo};
use offhook::directory::{DirectoryError, Older};
use offhook::proto::identity::TerminalId;
use serde_json::json;

/// Does what the command says.
pub async fn execute(context: &Context, printer: Printer, command: Option<TerminalsCmd>) -> Outcome {
    match command.unwrap_or(TerminalsCmd::List) {
        TerminalsCmd::List => ask(context, printer, Command::Terminals).await,
        TerminalsCmd::Revoke { terminal, password_stdin } => {
            revoke(context, printer, &terminal, password_stdin).await
        }
    }
}

async fn revoke(context: &Context, printer: Printer, typed: &str, password_stdin: bool) -> Outcome {
    let id = chosen_account(context, None).await?;
    let remote = running(context).await?.ok_or_else(Failure::not_running)?;
    let reply = remote.execute(Command::Terminals).await?;
    let Reply::Terminals { terminals } = reply else { return Err(unexpected(&reply).into()) };
    let chosen = named(typed, &terminals)?;
    let unlocked = unlock(context, &id, password_stdin).await?;
    unlocked.revoke(&chosen).await?;
    renewed(context).await?;
    // So that the other terminals sign it, too; they would learn it from the network otherwise, or not at all.
    let told = match unlocked.sync(Older::Refuse).await {
        Ok(_) => true,
        Err(DirectoryError::NoDirectory(_)) => true,
        Err(error) => {
            printer.line(&format!("The account's backup does not know it yet: {error}"));
            false
        }
    };
    if printer.json() {
        let terminal: String = chosen.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        printer.value(&json!({ "reply": "revoked", "terminal": terminal, "backed_up": told }));
    } else {
        printer.line("The terminal is put out of the account.");
    }
    Ok(())
}

/// The one terminal whose key begins like this, and that can be put out.
fn named(typed: &str, known: &[TerminalInfo]) -> Result<TerminalId, Failure> {
    let typed = typed.trim().to_lowercase();
    let digits = !typed.is_empty() && typed.chars().all(|c| c.is_ascii_hexdigit());
    let mut fitting = known.iter().filter(|terminal| digits && terminal.terminal.starts_with(&typed));
    match (fitting.next(), fitting.next()) {
        (Some(terminal), None) if terminal.this => Err(Failure::bad_input(
            "That is this terminal. `offhook account logout` takes the account from it.",
        )),
        (Some(terminal), None) if terminal.revoked => Err(Failure::bad_input("It is put out already.")),
        (Some(terminal), None) => key(&terminal.terminal)
            .ok_or_else(|| Failure::new(ErrorCode::Internal, "a terminal without a key")),
        // One that has been off line for long is not known to the network any more.
        (None, _) => key(&typed).ok_or_else(|| {
            Failure::bad_input(
                "No terminal's key begins so. One that is not listed is named by its whole key.",
            )
        }),
        (Some(_), Some(_)) => Err(Failure::bad_input("Several terminals' keys begin so: give more digits.")),
    }
}

/// A terminal's key of 64 hexadecimal digits.
fn key(digits: &str) -> Option<TerminalId> {
    let pairs = digits.as_bytes().chunks_exact(2).map(|pair| std::str::from_utf8(pair).ok());
    let bytes: Option<Vec<u8>> = pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect();
    bytes.filter(|_| digits.len() == 64)?.try_into().ok().map(TerminalId::from_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q5_a_terminal_is_named_by_its_first_digits_and_this_one_is_not_put_out() {
        let info = |first: u8, this: bool, revoked: bool| {
            let terminal = format!("{first:02x}").repeat(32);
            TerminalInfo { terminal, this, online: true, revoked, certified: None }
        };
        let known = [info(0xa1, true, false), info(0xa2, false, false), info(0xb3, false, true)];
        assert_eq!(named("A2", &known).unwrap(), TerminalId::from_bytes([0xa2; 32]));
        for refused in ["a", "a1", "b3", "", "xyz", "c"] {
            assert!(named(refused, &known).is_err(), "{refused}");
        }
        assert_eq!(named(&"c4".repeat(32), &known).unwrap(), TerminalId::from_bytes([0xc4; 32]));
    }
}
