//! What is found in a list when it is walked from its beginning to its end.

use offhook::clock::wall_clock;
use offhook_proto::identity::DirectoryId;
use offhook_proto::list::{Audit, Head, MAX_HEAD_BYTES, SignedHead};
use offhook_proto::wire;
use serde_json::json;

use super::super::say;
use super::source::{Base64, Source};
use crate::cli::Failure;

/// A list of more entries is not read to its end.
const MAX_ENTRIES: u64 = 10_000_000;
/// Problems that are printed; the others are counted.
const MAX_PRINTED: u64 = 1_000;

/// What is found in a list, as it is printed.
pub(super) struct Findings {
    pub(super) count: u64,
    pub(super) is_json: bool,
}

impl Findings {
    pub(super) fn add(&mut self, entry: Option<u64>, problem: &str) -> Result<(), Failure> {
        self.count += 1;
        if self.count > MAX_PRINTED {
            return Ok(());
        }
        let place = entry.map_or_else(|| "head".to_owned(), |index| format!("entry {index}"));
        say(self.is_json, &format!("{place}: {problem}"), &json!({ "entry": entry, "problem": problem }))
    }
}

/// Takes all entries that the directory's heads vouch for; the last head, and its signed form. `None`: there was none that is good.
pub(super) async fn walk(
    source: &mut Source<'_>,
    directory: &DirectoryId,
    audit: &mut Audit,
    findings: &mut Findings,
) -> Result<Option<(Head, Vec<u8>)>, Failure> {
    let (mut end, mut is_good) = (None, true);
    while let Some(page) = source.page(audit.length()).await? {
        // A store that has issued nothing has signed nothing.
        if page.head.is_empty() && page.entries.is_empty() {
            break;
        }
        let signed = wire::decode::<SignedHead>(&page.head, MAX_HEAD_BYTES);
        let verified = signed.map_err(|error| error.to_string());
        let head = verified
            .and_then(|signed| signed.verify(directory, wall_clock()).map_err(|error| error.to_string()));
        if let Err(problem) = &head
            && is_good
        {
            findings.add(None, problem)?;
            is_good = false;
        }
        // What has come since the head was signed is left for the next time.
        let left =
            |head: &Head| usize::try_from(head.length.saturating_sub(audit.length())).unwrap_or(usize::MAX);
        let rest = head.as_ref().map_or(usize::MAX, left);
        let is_whole = |length| head.as_ref().is_ok_and(|head| length >= head.length);
        end = head.as_ref().ok().map(|head| (*head, page.head));
        let is_empty = page.entries.is_empty();
        for Base64(entry) in page.entries.iter().take(rest) {
            let before = audit.length();
            if let Err(finding) = audit.take(entry) {
                findings.add(Some(finding.index), &finding.problem.to_string())?;
            }
            // What does not continue the chain says nothing of what comes after it.
            if audit.length() == before {
                return Ok(end);
            }
        }
        if audit.length() >= MAX_ENTRIES {
            findings.add(Some(audit.length()), "more entries than are read")?;
            return Ok(end);
        }
        if !source.is_file() && (is_empty || is_whole(audit.length())) {
            break;
        }
    }
    Ok(end)
}
