//! `offhook-directory audit`: whether the list of numbers is as it must be, and what operators did.

use clap::Subcommand;
use serde_json::json;

use super::list::{self, Which};
use super::{Desk, date, failed};
use crate::cli::Failure;

/// Entries of the operator's log that are printed where nothing else is said.
const ENTRIES: u32 = 100;

#[derive(Subcommand, Debug)]
pub(crate) enum AuditCommand {
    /// Check the list of numbers that everybody can read, of this directory or of another one: every entry, and the signed head. Ends with 1 if something is wrong
    List(Which),
    /// Print what operators did, the latest first
    Log {
        /// So many entries at most, up to 1000
        #[arg(long, value_name = "N", default_value_t = ENTRIES)]
        most: u32,
        /// Those before the entry with this position
        #[arg(long, value_name = "POSITION")]
        before: Option<i64>,
    },
}

/// Does what was typed.
pub(crate) async fn audit(desk: &Desk, command: AuditCommand) -> Result<(), Failure> {
    match command {
        AuditCommand::List(which) => list::own(desk, &which).await,
        AuditCommand::Log { most, before } => log(desk, most, before).await,
    }
}

async fn log(desk: &Desk, most: u32, before: Option<i64>) -> Result<(), Failure> {
    for (position, entry) in desk.store.audit(before, most).await.map_err(|error| failed(&error))? {
        let (at, actor, action) = (date(entry.at), &entry.actor, &entry.action);
        let (subject, details) = (&entry.subject, &entry.details);
        let line = format!("{position}  {at}  {actor}  {action}  {subject}  {details}");
        let json = json!({
            "position": position, "at": entry.at.0, "actor": actor, "action": action, "subject": subject,
            "details": details,
        });
        desk.say(line.trim_end(), &json)?;
    }
    Ok(())
}
