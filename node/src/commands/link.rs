//! `offhook link`

use super::running;
use crate::config::Context;
use crate::exit::{Failure, Outcome};
use crate::output::Printer;
use crate::telephone::{Telephone as _, unexpected};
use offhook::api::{Command, Reply};
use offhook::proto::number::Invitation;
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use std::io::IsTerminal as _;

/// Prints the invitation link and its QR code.
pub async fn print(context: &Context, printer: Printer, no_qr: bool) -> Outcome {
    let (link, whole) = match running(context).await? {
        Some(remote) => {
            let reply = remote.execute(Command::Link).await?;
            let Reply::Link { link } = reply else { return Err(unexpected(&reply).into()) };
            (link, true)
        }
        None => (from_file(context).await?, false),
    };
    if printer.json() {
        printer.reply(&Reply::Link { link });
        return Ok(());
    }
    printer.line(&link);
    if !no_qr {
        printer.line(&qr(&link, std::io::stdout().is_terminal())?);
    }
    if !whole {
        printer.remark("No terminal is running here: the link has no entry point into the network.");
    }
    Ok(())
}

/// Number and key; entry points only a running terminal knows.
async fn from_file(context: &Context) -> Result<String, Failure> {
    let id = context.account_id().await?;
    let accounts = context.home.accounts().await?;
    let account = accounts.into_iter().find(|account| account.id == id);
    let account = account.ok_or(offhook::storage::StorageError::NoAccount(id.to_string()))?;
    let link = Invitation { number: account.number, key: Some(account.fingerprint), via: Vec::new() };
    Ok(link.to_string())
}

/// A QR code of half-block characters, two rows of modules a line. On a terminal it is black on white
/// whatever the user's colours, because readers want dark modules on a light ground.
fn qr(link: &str, colours: bool) -> Result<String, Failure> {
    let code = QrCode::with_error_correction_level(link, EcLevel::L)
        .map_err(|_| Failure::system("The link is too long for a QR code."))?;
    let picture = code.render::<Dense1x2>().quiet_zone(true).build();
    if !colours {
        return Ok(picture);
    }
    let paint = |line: &str| format!("\u{1b}[30;107m{line}\u{1b}[0m");
    Ok(picture.lines().map(paint).collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_square_and_fits_a_terminal() {
        let link = format!("offhook:482109375567?key={}&via={}", "a".repeat(26), "b".repeat(120));
        let code = qr(&link, false).unwrap();
        let lines: Vec<_> = code.lines().collect();
        let width = lines[0].chars().count();
        assert!(lines.iter().all(|line| line.chars().count() == width));
        assert_eq!(lines.len(), width.div_ceil(2), "two rows a line");
        assert!(width <= 80, "{width} columns");
        assert!(qr(&link, true).unwrap().lines().all(|line| line.ends_with("\u{1b}[0m")));
        assert!(qr(&"x".repeat(5000), false).is_err());
    }
}
