//! From bytes to checked records.

use std::time::Duration;

use super::{
    ACCOUNT_LIFETIME, AccountEvidence, AccountRecord, Checked, CheckedSet, MAX_ADDRS, MAX_BACKUPS,
    MAX_ENVELOPE_BYTES, MAX_MAILBOXES, MAX_REVOKED, MAX_TERMINALS, RecordError, RecordSet, SignedAccount,
    SignedTerminal, TERMINAL_LIFETIME, TerminalRecord,
};
use crate::number::{Number, RecordKey};
use crate::proof::{TransferError, verify_chain};
use crate::wire::{self, BadSignature, MAX_CLOCK_AHEAD, Signed, UnixMillis, domain};

/// Checks a record set that somebody offers or serves under `key`: all but the slow proof, cheap things
/// first.
///
/// Terminal records that are sound but untimely (expired, or from a clock far ahead) are left out, because a
/// terminal that went off must not hide the others. Everything else refuses the whole set.
///
/// # Errors
/// A [`RecordError`]; an untimely one only if nothing else is left in the set.
pub fn check(key: &RecordKey, bytes: &[u8], now: UnixMillis) -> Result<CheckedSet, RecordError> {
    let set = RecordSet::decode(bytes)?;
    if set.terminals.len() > MAX_TERMINALS {
        return Err(RecordError::TooManyTerminals);
    }
    let account = set.account.map(|account| check_account(key, account, now)).transpose()?;
    let mut terminals = Vec::with_capacity(set.terminals.len());
    let mut left_out = None;
    for terminal in set.terminals {
        match check_terminal(key, account.as_ref(), terminal, now) {
            Ok(terminal) => terminals.push(terminal),
            Err(error) if error.is_untimely() => left_out = Some(error),
            Err(error) => return Err(error),
        }
    }
    if account.is_none() && terminals.is_empty() {
        return Err(left_out.unwrap_or(RecordError::Empty));
    }
    sort(&mut terminals);
    if has_duplicates(&terminals) {
        return Err(RecordError::Duplicate);
    }
    Ok(CheckedSet { key: *key, account, terminals })
}

/// Checks a record set that this node had checked before it stored it, when its clock may have been wrong, as it may be
/// now: everything but the times. The set is as it was when its newest record was signed; whoever serves it looks at
/// the times anew.
///
/// # Errors
/// A [`RecordError`].
pub fn check_stored(key: &RecordKey, bytes: &[u8]) -> Result<CheckedSet, RecordError> {
    let set = RecordSet::decode(bytes)?;
    let mut newest = UnixMillis(0);
    if let Some(SignedAccount(envelope)) = &set.account {
        newest = open::<AccountRecord>(envelope)?.seq;
    }
    for SignedTerminal(envelope) in &set.terminals {
        newest = newest.max(open::<TerminalRecord>(envelope)?.seq);
    }
    check(key, bytes, newest)
}

/// Newest first, so that whoever takes the first few takes those most likely alive; the order is the same
/// everywhere.
pub(super) fn sort(terminals: &mut [Checked<TerminalRecord>]) {
    terminals.sort_by(|a, b| b.seq.cmp(&a.seq).then_with(|| a.terminal().cmp(&b.terminal())));
}

fn has_duplicates(terminals: &[Checked<TerminalRecord>]) -> bool {
    let earlier = |i: usize| terminals[..i].iter().map(Checked::<TerminalRecord>::terminal);
    terminals.iter().enumerate().any(|(i, terminal)| earlier(i).any(|id| id == terminal.terminal()))
}

fn check_account(
    key: &RecordKey,
    SignedAccount(envelope): SignedAccount,
    now: UnixMillis,
) -> Result<Checked<AccountRecord>, RecordError> {
    let record: AccountRecord = open(&envelope)?;
    let too_many = record.mailboxes.len() > MAX_MAILBOXES
        || record.revoked.len() > MAX_REVOKED
        || record.backups.len() > MAX_BACKUPS;
    if too_many {
        return Err(RecordError::TooManyEntries);
    }
    check_times(record.seq, record.expires, ACCOUNT_LIFETIME, now)?;
    let (proven_key, proof) = record.proof.check(&record.number, &record.identity, record.seq)?;
    if proven_key != *key {
        return Err(RecordError::WrongKey);
    }
    let transfers = match record.number {
        // It follows from its owner's key.
        Number::Plain(_) if !record.transfers.is_empty() => return Err(TransferError::Mismatch.into()),
        Number::Plain(_) | Number::Chosen(_) => {
            verify_chain(&record.transfers, key, &record.identity, record.seq)?
        }
    };
    verify(&envelope, record.identity.as_bytes(), domain::ACCOUNT_RECORD)?;
    Ok(Checked { record, evidence: AccountEvidence { proof, transfers }, envelope })
}

fn check_terminal(
    key: &RecordKey,
    account: Option<&Checked<AccountRecord>>,
    SignedTerminal(envelope): SignedTerminal,
    now: UnixMillis,
) -> Result<Checked<TerminalRecord>, RecordError> {
    let record: TerminalRecord = open(&envelope)?;
    if record.addrs.len() > MAX_ADDRS {
        return Err(RecordError::TooManyEntries);
    }
    // The key of a chosen number depends on the directory, which only the account record names.
    match &record.number {
        Number::Plain(plain) if plain.key() != *key => return Err(RecordError::WrongKey),
        Number::Plain(_) | Number::Chosen(_) => {}
    }
    check_times(record.seq, record.expires, TERMINAL_LIFETIME, now)?;
    let evidence = record.cert.verify(now)?;
    verify(&envelope, evidence.terminal.as_bytes(), domain::TERMINAL_RECORD)?;
    let checked = Checked { record, evidence, envelope };
    if let Some(account) = account {
        belongs(&checked, account)?;
    }
    Ok(checked)
}

/// Whether the account record vouches for the terminal.
pub(super) fn belongs(
    terminal: &Checked<TerminalRecord>,
    account: &Checked<AccountRecord>,
) -> Result<(), RecordError> {
    if terminal.certificate().identity != account.identity {
        return Err(RecordError::OtherIdentity);
    }
    if terminal.number != account.number {
        return Err(RecordError::WrongKey);
    }
    if account.revoked.contains(&terminal.terminal()) {
        return Err(RecordError::Revoked);
    }
    Ok(())
}

fn open<'b, T: minicbor::Decode<'b, ()>>(envelope: &'b Signed) -> Result<T, RecordError> {
    let len = envelope.encoded_len();
    if len > MAX_ENVELOPE_BYTES {
        return Err(RecordError::EnvelopeTooLarge(len));
    }
    wire::decode(envelope.payload_unverified(), MAX_ENVELOPE_BYTES).map_err(|_| RecordError::Malformed)
}

fn check_times(
    seq: UnixMillis,
    expires: UnixMillis,
    lifetime: Duration,
    now: UnixMillis,
) -> Result<(), RecordError> {
    if expires <= seq || expires.since(seq) > lifetime {
        return Err(RecordError::Lifetime);
    }
    if now > expires {
        return Err(RecordError::Expired);
    }
    if seq > now.plus(MAX_CLOCK_AHEAD) {
        return Err(RecordError::FutureSequence);
    }
    Ok(())
}

fn verify(envelope: &Signed, key: &[u8; 32], domain: &str) -> Result<(), RecordError> {
    envelope.verify(key, domain).map(|_| ()).map_err(|BadSignature| RecordError::BadSignature)
}
