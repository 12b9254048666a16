//! Merging what is offered with what is held.

use std::collections::BTreeMap;

use super::check::{belongs, sort};
use super::set::rank;
use super::{AccountRecord, Checked, CheckedSet, MAX_SET_BYTES, MAX_TERMINALS, RecordError, TerminalRecord};
use crate::identity::TerminalId;
use crate::wire::UnixMillis;

/// The outcome of [`merge`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// What to hold from now on. Has an account record.
    pub set: CheckedSet,
    /// Whether it differs from what was held.
    pub changed: bool,
}

/// Bytes of an encoded set beside its envelopes: a map of two, its keys, an array of at most eight.
const SET_OVERHEAD: usize = 4;

/// Merges the set `offered` into the set `held`, both of one key.
///
/// Of the account record and of every terminal's record the one with the highest sequence stays. What has
/// expired goes, and so do terminals that the account record revokes or doesn't know. If that is more than
/// [`MAX_TERMINALS`] or [`MAX_SET_BYTES`] permit, the newest terminal records stay. The order in which sets
/// arrive makes no difference, as long as all are of one identity and fit in [`MAX_SET_BYTES`]; of two
/// identities the one held stays, unless it has [transferred](crate::proof::SignedTransfer) its chosen number to the other:
/// then the other one takes its place, and the terminals of the former owner go.
///
/// # Errors
/// [`RecordError::Incumbent`] if another identity holds the number, [`RecordError::NoAccount`] if neither set
/// has an account record, [`RecordError::WrongKey`] or [`RecordError::OtherIdentity`] if an offered terminal
/// isn't the account's, and if the offer brings nothing new but something that had to be turned down, the
/// reason: [`RecordError::Stale`], [`RecordError::Revoked`], [`RecordError::Expired`] or
/// [`RecordError::TooManyTerminals`].
pub fn merge(
    held: Option<&CheckedSet>,
    offered: &CheckedSet,
    now: UnixMillis,
) -> Result<Merged, RecordError> {
    if held.is_some_and(|held| held.key != offered.key) {
        return Err(RecordError::WrongKey);
    }
    let live = held.and_then(|held| held.pruned(now));
    let offered = offered.pruned(now).ok_or(RecordError::Expired)?;
    let mut tally = Tally::default();
    let held_account = live.as_ref().and_then(|live| live.account.as_ref());
    let account = merge_account(held_account, offered.account.as_ref(), &mut tally)?;
    let held_terminals = live.as_ref().map_or(&[][..], |live| &live.terminals);
    let terminals = merge_terminals(held_terminals, &offered, &account, &mut tally)?;
    let set = CheckedSet { key: offered.key, account: Some(account), terminals };
    match tally.turned_down {
        Some(reason) if !tally.took_new => Err(reason),
        Some(_) | None => Ok(Merged { changed: held != Some(&set), set }),
    }
}

/// What became of the offered records.
#[derive(Default)]
struct Tally {
    took_new: bool,
    turned_down: Option<RecordError>,
}

fn merge_account(
    held: Option<&Checked<AccountRecord>>,
    offered: Option<&Checked<AccountRecord>>,
    tally: &mut Tally,
) -> Result<Checked<AccountRecord>, RecordError> {
    match (held, offered) {
        (None, None) => Err(RecordError::NoAccount),
        (Some(held), None) => Ok(held.clone()),
        (None, Some(offered)) => {
            tally.took_new = true;
            Ok(offered.clone())
        }
        (Some(held), Some(offered)) if held.identity != offered.identity => {
            if !offered.takes_over_from(held) {
                return Err(RecordError::Incumbent);
            }
            tally.took_new = true;
            Ok(offered.clone())
        }
        (Some(held), Some(offered)) => {
            let (old, new) = (rank(held.seq, &held.envelope), rank(offered.seq, &offered.envelope));
            if new > old {
                tally.took_new = true;
                return Ok(offered.clone());
            }
            if new < old {
                tally.turned_down = Some(RecordError::Stale);
            }
            Ok(held.clone())
        }
    }
}

fn merge_terminals(
    held: &[Checked<TerminalRecord>],
    offered: &CheckedSet,
    account: &Checked<AccountRecord>,
    tally: &mut Tally,
) -> Result<Vec<Checked<TerminalRecord>>, RecordError> {
    let mut newest: BTreeMap<TerminalId, &Checked<TerminalRecord>> = held
        .iter()
        .filter(|held| belongs(held, account).is_ok())
        .map(|held| (held.terminal(), held))
        .collect();
    let mut new = Vec::new();
    for terminal in &offered.terminals {
        match belongs(terminal, account) {
            Ok(()) => {}
            // With an account record of its own in the set, it was newer knowledge of ours that turned it
            // down.
            Err(reason) if reason == RecordError::Revoked || offered.account.is_some() => {
                tally.turned_down = Some(reason);
                continue;
            }
            Err(reason) => return Err(reason),
        }
        let offer = rank(terminal.seq, &terminal.envelope);
        match newest.get(&terminal.terminal()).map(|held| rank(held.seq, &held.envelope).cmp(&offer)) {
            Some(std::cmp::Ordering::Equal) => {}
            Some(std::cmp::Ordering::Greater) => tally.turned_down = Some(RecordError::Stale),
            Some(std::cmp::Ordering::Less) | None => {
                newest.insert(terminal.terminal(), terminal);
                new.push(terminal.terminal());
            }
        }
    }
    let kept = keep_newest(newest.into_values().cloned().collect(), account);
    let is_kept = |id: &TerminalId| kept.iter().any(|kept| kept.terminal() == *id);
    tally.took_new |= new.iter().any(is_kept);
    if !new.iter().all(is_kept) {
        tally.turned_down = Some(RecordError::TooManyTerminals);
    }
    Ok(kept)
}

/// The newest terminal records, as many as the limits permit; one that is too long for the room left makes
/// way for shorter ones after it.
fn keep_newest(
    mut terminals: Vec<Checked<TerminalRecord>>,
    account: &Checked<AccountRecord>,
) -> Vec<Checked<TerminalRecord>> {
    sort(&mut terminals);
    let mut room = MAX_SET_BYTES.saturating_sub(SET_OVERHEAD + account.envelope.encoded_len());
    let mut kept = 0;
    terminals.retain(|terminal| match room.checked_sub(terminal.envelope.encoded_len()) {
        Some(rest) if kept < MAX_TERMINALS => {
            room = rest;
            kept += 1;
            true
        }
        Some(_) | None => false,
    });
    terminals
}
