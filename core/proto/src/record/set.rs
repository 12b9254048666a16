//! Sets of records as they travel, and as they are once checked.

use std::ops::Deref;

use minicbor::{Decode, Encode};

use super::{AccountRecord, MAX_SET_BYTES, RecordError, TerminalRecord};
use crate::identity::{TerminalCert, TerminalId};
use crate::number::RecordKey;
use crate::proof::{ProofTask, Transfer, supersedes};
use crate::wire::{self, MAX_CLOCK_AHEAD, Signed, UnixMillis, WireError};

/// An account record under its identity's signature, unchecked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct SignedAccount(#[n(0)] pub(super) Signed);

/// A terminal record under its terminal's signature, unchecked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct SignedTerminal(#[n(0)] pub(super) Signed);

/// The value of the DHT under a number's key: CBOR map {0: account record, 1: terminal records}. Nothing in
/// it has been checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub struct RecordSet {
    /// The account record. May be missing where the receiver holds it already.
    #[n(0)]
    pub account: Option<SignedAccount>,
    /// The terminal records, at most [`MAX_TERMINALS`](super::MAX_TERMINALS).
    #[n(1)]
    pub terminals: Vec<SignedTerminal>,
}

impl RecordSet {
    /// The encoding that [`check`](super::check) takes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        wire::encode(self)
    }

    /// Decodes without checking anything but the length.
    ///
    /// # Errors
    /// [`RecordError::SetTooLarge`] or [`RecordError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        wire::decode(bytes, MAX_SET_BYTES).map_err(|error| match error {
            WireError::TooLarge { len, .. } => RecordError::SetTooLarge(len),
            WireError::Malformed | WireError::Trailing(_) => RecordError::Malformed,
        })
    }
}

/// A kind of record, with what checking it brings to light.
pub trait Record {
    /// For an account record the slow part of its proof, which is still to be done, and its transfers; for a terminal record the
    /// content of its certificate.
    type Evidence;
}

/// What checking an account record brings to light.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AccountEvidence {
    pub(super) proof: ProofTask,
    pub(super) transfers: Vec<Transfer>,
}

impl Record for AccountRecord {
    type Evidence = AccountEvidence;
}

impl Record for TerminalRecord {
    type Evidence = TerminalCert;
}

/// A record that has passed [`check`](super::check), with the envelope in which it came. Dereferences to the
/// record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Checked<T: Record> {
    pub(super) record: T,
    pub(super) evidence: T::Evidence,
    pub(super) envelope: Signed,
}

impl<T: Record> Checked<T> {
    /// The record.
    pub fn record(&self) -> &T {
        &self.record
    }
}

impl<T: Record> Deref for Checked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.record
    }
}

impl Checked<AccountRecord> {
    /// The slow part of the account's proof. Until it has been run, nothing of the set is served or dialled.
    #[must_use]
    pub fn proof_task(&self) -> &ProofTask {
        &self.evidence.proof
    }

    /// How its identity has got the number from those who had it before, oldest first.
    #[must_use]
    pub fn transfers(&self) -> &[Transfer] {
        &self.evidence.transfers
    }

    /// Whether the number was handed over by the identity of `other` to this record's one, perhaps through others.
    #[must_use]
    pub fn takes_over_from(&self, other: &Self) -> bool {
        supersedes(self.transfers(), &other.identity, other.transfers())
    }

    /// The signed form: the very bytes that arrived.
    #[must_use]
    pub fn signed(&self) -> SignedAccount {
        SignedAccount(self.envelope.clone())
    }
}

impl Checked<AccountRecord> {
    /// Whether it is valid at `now`: neither over, nor from the future.
    #[must_use]
    pub fn is_live(&self, now: UnixMillis) -> bool {
        now <= self.record.expires && self.record.seq <= now.plus(MAX_CLOCK_AHEAD)
    }
}

impl Checked<TerminalRecord> {
    /// What the terminal's certificate says: who it is and to which key signalling is sealed.
    #[must_use]
    pub fn certificate(&self) -> &TerminalCert {
        &self.evidence
    }

    /// The terminal.
    #[must_use]
    pub fn terminal(&self) -> TerminalId {
        self.evidence.terminal
    }

    /// The signed form: the very bytes that arrived.
    #[must_use]
    pub fn signed(&self) -> SignedTerminal {
        SignedTerminal(self.envelope.clone())
    }

    /// Whether it is still valid; both the record and its certificate end.
    #[must_use]
    pub fn is_live(&self, now: UnixMillis) -> bool {
        now <= self.record.expires && now <= self.evidence.not_after
    }
}

/// A set of records that has passed [`check`](super::check).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CheckedSet {
    pub(super) key: RecordKey,
    /// The account record, if it came along.
    pub account: Option<Checked<AccountRecord>>,
    /// The terminal records, newest first, one per terminal.
    pub terminals: Vec<Checked<TerminalRecord>>,
}

impl CheckedSet {
    /// The key under which the set was offered.
    #[must_use]
    pub fn key(&self) -> &RecordKey {
        &self.key
    }

    /// The slow part of the account's proof, if there is an account record.
    #[must_use]
    pub fn proof_task(&self) -> Option<ProofTask> {
        self.account.as_ref().map(|account| account.proof_task().clone())
    }

    /// The set as it travels.
    #[must_use]
    pub fn to_set(&self) -> RecordSet {
        RecordSet {
            account: self.account.as_ref().map(Checked::<AccountRecord>::signed),
            terminals: self.terminals.iter().map(Checked::<TerminalRecord>::signed).collect(),
        }
    }

    /// What of it is still valid at `now`; `None` if that is nothing. Without its account record, a terminal
    /// record says nothing either, unless it came without one.
    #[must_use]
    pub fn pruned(&self, now: UnixMillis) -> Option<Self> {
        let account = self.account.clone().filter(|account| now <= account.expires);
        if self.account.is_some() && account.is_none() {
            return None;
        }
        let terminals: Vec<_> =
            self.terminals.iter().filter(|terminal| terminal.is_live(now)).cloned().collect();
        if account.is_none() && terminals.is_empty() {
            return None;
        }
        Some(Self { key: self.key, account, terminals })
    }
}

/// What decides between two records of one signer: the sequence; and between two of the same millisecond, of
/// which an honest signer makes only one, the bytes, so that every node keeps the same one.
pub(super) fn rank(seq: UnixMillis, envelope: &Signed) -> (UnixMillis, &Signed) {
    (seq, envelope)
}
