//! Records to vary.

use std::time::Duration;

use crate::identity::{IdentityKey, SealKey, SealPublic, SignedCert, TerminalId, TerminalKey};
use crate::number::{NodeAddr, RecordKey};
use crate::proof::tests::{ALICE, Vector};
use crate::record::{
    AccountRecord, CheckedSet, RecordError, RecordSet, SignedTerminal, TERMINAL_LIFETIME, TerminalRecord,
    check,
};
use crate::wire::UnixMillis;

pub(super) const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// `NOW` minus `duration`.
pub(super) fn ago(duration: Duration) -> UnixMillis {
    UnixMillis(NOW.0 - u64::try_from(duration.as_millis()).unwrap())
}

pub(super) fn key() -> RecordKey {
    ALICE.plain().key()
}

pub(super) fn seal() -> SealPublic {
    SealKey::from_seed([99; 32]).public()
}

pub(super) fn addr(text: &str) -> NodeAddr {
    text.parse().unwrap()
}

/// Alice's account record, a day old.
pub(super) fn account() -> AccountRecord {
    account_of(&ALICE)
}

/// A record of Alice's number that is signed by `owner`.
pub(super) fn account_of(owner: &Vector) -> AccountRecord {
    AccountRecord {
        number: ALICE.number(),
        proof: owner.proof(),
        identity: owner.key().public(),
        mailbox: seal(),
        mailboxes: vec![addr("/dns4/mailbox.example/tcp/443")],
        revoked: Vec::new(),
        seq: ago(DAY),
        expires: NOW.plus(DAY * 300),
        transfers: Vec::new(),
        backups: Vec::new(),
    }
}

pub(super) fn terminal_key(i: u8) -> TerminalKey {
    TerminalKey::from_seed([100 + i; 32])
}

pub(super) fn terminal_id(i: u8) -> TerminalId {
    terminal_key(i).public()
}

pub(super) fn cert(owner: &IdentityKey, i: u8) -> SignedCert {
    SignedCert::issue(owner, terminal_id(i), seal(), ago(DAY * 2))
}

/// The record of Alice's terminal `i`, a minute old.
pub(super) fn terminal(i: u8) -> TerminalRecord {
    terminal_at(i, ago(MINUTE))
}

pub(super) fn terminal_at(i: u8, seq: UnixMillis) -> TerminalRecord {
    TerminalRecord {
        number: ALICE.number(),
        cert: cert(&ALICE.key(), i),
        addrs: vec![addr("/ip4/192.0.2.1/udp/4001/quic-v1")],
        seq,
        expires: seq.plus(TERMINAL_LIFETIME),
    }
}

/// A record of the terminal `i` with as many bytes as an envelope permits, roughly.
pub(super) fn bulky(i: u8, seq: UnixMillis) -> TerminalRecord {
    let long = addr(&format!("/dns4/{}", "x".repeat(210)));
    TerminalRecord { addrs: vec![long; 16], ..terminal_at(i, seq) }
}

pub(super) fn signed(i: u8) -> SignedTerminal {
    terminal(i).sign(&terminal_key(i))
}

/// A set of Alice's account record and what else is given.
pub(super) fn set(terminals: Vec<SignedTerminal>) -> RecordSet {
    RecordSet { account: Some(account().sign(&ALICE.key())), terminals }
}

pub(super) fn check_set(set: &RecordSet) -> Result<CheckedSet, RecordError> {
    check(&key(), &set.encode(), NOW)
}

pub(super) fn checked(set: &RecordSet) -> CheckedSet {
    check_set(set).unwrap()
}

/// A checked set with this account record.
pub(super) fn with_account(account: &AccountRecord, owner: &Vector) -> CheckedSet {
    checked(&RecordSet { account: Some(account.sign(&owner.key())), terminals: Vec::new() })
}

/// A checked set of terminal records alone.
pub(super) fn terminals_only(terminals: Vec<SignedTerminal>) -> CheckedSet {
    checked(&RecordSet { account: None, terminals })
}
