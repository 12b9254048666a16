//! `offhook-directory audit`: whether the list of numbers is as it must be, and what operators did.

use clap::Subcommand;
use offhook::clock::wall_clock;
use offhook_proto::identity::DirectoryId;
use offhook_proto::list::{Audit, SignedHead};
use offhook_proto::wire;
use serde_json::json;

use super::{Desk, date, failed};
use crate::cli::Failure;
use crate::store::{Fact, MAX_LIST_PAGE, StoreError};

/// Entries of the operator's log that are printed where nothing else is said.
const ENTRIES: u32 = 100;

/// A head is not longer, bytes.
const MAX_HEAD: usize = 4_096;

#[derive(Subcommand, Debug)]
pub(crate) enum AuditCommand {
    /// Check the list of numbers that everybody can read: every entry, and the signed head. Ends with 1 if something is wrong
    List,
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
        AuditCommand::List => list(desk).await,
        AuditCommand::Log { most, before } => log(desk, most, before).await,
    }
}

async fn list(desk: &Desk) -> Result<(), Failure> {
    let damaged = || failed(&StoreError::Damaged("the list of numbers"));
    let key = desk.store.fact(Fact::SigningKey).await.map_err(|error| failed(&error))?;
    // Before the first start with a site nothing was issued.
    let Some(key) = key else { return desk.say("0 entries", &json!({ "entries": 0, "findings": 0 })) };
    let directory = DirectoryId::from_bytes(key.try_into().map_err(|_| damaged())?);
    // The head first: every entry that it counts can be read then, and those that come meanwhile are left for the next time.
    let head = desk.store.list_head().await.map_err(|error| failed(&error))?;
    let (mut check, mut findings) = (Audit::new(directory, &[]), 0_u64);
    'entries: while check.length() < head.length {
        let from = check.length();
        let page = desk.store.list(from, MAX_LIST_PAGE).await.map_err(|error| failed(&error))?;
        let rest = usize::try_from(head.length - from).unwrap_or(usize::MAX);
        for entry in page.iter().take(rest) {
            let before = check.length();
            if let Err(finding) = check.take(entry) {
                findings += 1;
                let (index, problem) = (finding.index, finding.problem.to_string());
                desk.say(
                    &format!("entry {index}: {problem}"),
                    &json!({ "entry": index, "problem": problem }),
                )?;
            }
            // What does not continue the chain says nothing of what comes after it.
            if check.length() == before {
                break 'entries;
            }
        }
        if page.is_empty() {
            break;
        }
    }
    if head.length > 0 {
        let signed: SignedHead = wire::decode(&head.head, MAX_HEAD).map_err(|_| damaged())?;
        let problem = match signed.verify(&directory, wall_clock()) {
            Ok(head) => check.conclude(&head).err().map(|finding| finding.to_string()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(problem) = problem {
            findings += 1;
            desk.say(&format!("head: {problem}"), &json!({ "entry": null, "problem": problem }))?;
        }
    }
    let (length, numbers) = (check.length(), check.numbers());
    let text = format!("{length} entries, {numbers} numbers, {findings} problems");
    desk.say(&text, &json!({ "entries": length, "numbers": numbers, "findings": findings }))?;
    if findings > 0 {
        return Err(Failure { code: 1, sentence: "the list of numbers is not as it must be".to_owned() });
    }
    Ok(())
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
