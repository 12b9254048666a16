//! Signed records of the DHT: account and terminal records as a mergeable set.
//!
//! Under a number's [`RecordKey`](crate::number::RecordKey) lies one [`RecordSet`]: the account record,
//! signed by the identity, and one terminal record per terminal, signed by it. What arrives passes [`check`],
//! which turns bytes into a [`CheckedSet`], then the slow proof ([`CheckedSet::proof_task`]), and is then
//! merged with what is held by [`merge`].
//!
//! The holder of a number keeps it: an account record of another identity is refused for as long as the held
//! one is valid ([`RecordError::Incumbent`]). The expiry of a chosen number's certificate frees nothing; it
//! only keeps the identity from signing newer account records. Who has got a chosen number from its holder shows the holder's
//! [transfer](crate::proof::SignedTransfer) in the record, and takes the holder's place at once.

mod check;
mod choice;
mod merge;
mod set;

pub use check::{check, check_stored};
pub use choice::{Candidate, Choice, Pin, choose_identity};
pub use merge::{Merged, merge};
pub use set::{AccountEvidence, Checked, CheckedSet, Record, RecordSet, SignedAccount, SignedTerminal};

use std::time::Duration;

use minicbor::{Decode, Encode};
use thiserror::Error;

use crate::identity::{
    CertError, DirectoryId, IdentityId, IdentityKey, MailboxPublic, SignedCert, TerminalId, TerminalKey,
};
use crate::number::{NodeAddr, Number};
use crate::proof::{NumberProof, ProofError, SignedTransfer, TransferError};
use crate::wire::{self, UnixMillis, domain};

/// Most bytes of an encoded set: libp2p's Kademlia packets hold 16 KiB, the rest is left to the protocol
/// around it.
pub const MAX_SET_BYTES: usize = 12 * 1024;
/// Most bytes of one encoded envelope.
pub const MAX_ENVELOPE_BYTES: usize = 4 * 1024;
/// Most terminals of an account.
pub const MAX_TERMINALS: usize = 8;
/// Most mailbox directories of an account.
pub const MAX_MAILBOXES: usize = 3;
/// Most revoked terminals that an account record lists. Certificates end after 13 months, so old ones can go.
pub const MAX_REVOKED: usize = 32;
/// Most directories whose backups an account record tells the versions of.
pub const MAX_BACKUPS: usize = 8;
/// Most addresses of a terminal.
pub const MAX_ADDRS: usize = 16;
/// Longest validity of an account record: 400 days. Then the number lapses.
pub const ACCOUNT_LIFETIME: Duration = Duration::from_secs(400 * 86_400);
/// Longest validity of a terminal record. It is published on change and every hour.
pub const TERMINAL_LIFETIME: Duration = Duration::from_secs(2 * 3_600);

/// Who has a number, and where messages for them are left.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub struct AccountRecord {
    /// The number; a chosen one in its full form.
    #[n(0)]
    pub number: Number,
    /// What shows that the identity may use the number.
    #[n(1)]
    pub proof: NumberProof,
    /// Whose number it is. Signs this record and certifies terminals.
    #[n(2)]
    pub identity: IdentityId,
    /// Messages for the account are sealed to this key.
    #[n(3)]
    pub mailbox: MailboxPublic,
    /// Directories that keep messages for the account, at most [`MAX_MAILBOXES`].
    #[n(4)]
    pub mailboxes: Vec<NodeAddr>,
    /// Terminals whose certificates no longer count, at most [`MAX_REVOKED`].
    #[n(5)]
    pub revoked: Vec<TerminalId>,
    /// Time of signing. The record with the highest one counts.
    #[n(6)]
    pub seq: UnixMillis,
    /// Last moment of validity, at most [`ACCOUNT_LIFETIME`] after `seq`.
    #[n(7)]
    pub expires: UnixMillis,
    /// How the identity has got a chosen number from those who had it before, oldest first, at most
    /// [`MAX_TRANSFERS`](crate::proof::MAX_TRANSFERS). To be kept for as long as it has the number.
    #[cbor(n(8), default, skip_if = "Vec::is_empty")]
    pub transfers: Vec<SignedTransfer>,
    /// How new the account's backup at each of its directories is, at most [`MAX_BACKUPS`]. One that hands out an older one has lost
    /// or withheld the newer.
    #[cbor(n(9), default, skip_if = "Vec::is_empty")]
    pub backups: Vec<BackupAt>,
}

/// The newest version of the backup at one directory; each directory counts its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub struct BackupAt {
    /// Which directory: only whoever has the identity key can tell, so that a record says nobody where its account can be attacked.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub place: [u8; 16],
    /// The version.
    #[n(1)]
    pub version: u64,
}

impl BackupAt {
    /// `owner` is the account's identity.
    #[must_use]
    pub fn new(owner: &IdentityKey, directory: &DirectoryId, version: u64) -> Self {
        Self { place: Self::place(owner, directory), version }
    }

    fn place(owner: &IdentityKey, directory: &DirectoryId) -> [u8; 16] {
        let hash = wire::hash(domain::BACKUP_AT, &[owner.seed(), directory.as_bytes()]);
        let mut place = [0; 16];
        place.copy_from_slice(&hash[..16]);
        place
    }
}

impl AccountRecord {
    /// The newest version of the backup that is said to be at a directory; `None` if nothing is said of it. `owner` is the record's
    /// identity.
    #[must_use]
    pub fn backup_at(&self, owner: &IdentityKey, directory: &DirectoryId) -> Option<u64> {
        let place = BackupAt::place(owner, directory);
        self.backups.iter().filter(|at| at.place == place).map(|at| at.version).max()
    }

    /// Signs the record. `key` is the one whose public half is `identity`; whether the record keeps the
    /// limits is for [`check`] to say.
    #[must_use]
    pub fn sign(&self, key: &IdentityKey) -> SignedAccount {
        SignedAccount(key.sign(domain::ACCOUNT_RECORD, &wire::encode(self)))
    }
}

/// Where one terminal of an account is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub struct TerminalRecord {
    /// The number under which it answers; equal to the account record's.
    #[n(0)]
    pub number: Number,
    /// The identity's certificate for the terminal that signs this record.
    #[n(1)]
    pub cert: SignedCert,
    /// Where it is reached, best first, at most [`MAX_ADDRS`]. One that [says only who it is](NodeAddr::is_peer_only) is for
    /// those who are connected with it. Empty: it has gone off line.
    #[n(2)]
    pub addrs: Vec<NodeAddr>,
    /// Time of signing. The terminal's record with the highest one counts.
    #[n(3)]
    pub seq: UnixMillis,
    /// Last moment of validity, at most [`TERMINAL_LIFETIME`] after `seq`.
    #[n(4)]
    pub expires: UnixMillis,
}

impl TerminalRecord {
    /// Signs the record. `key` is the one that `cert` is for; whether the record keeps the limits is for
    /// [`check`] to say.
    #[must_use]
    pub fn sign(&self, key: &TerminalKey) -> SignedTerminal {
        SignedTerminal(key.sign(domain::TERMINAL_RECORD, &wire::encode(self)))
    }
}

/// Why records are refused. All but [`RecordError::Stale`], [`RecordError::NoAccount`] and the untimely ones
/// (see [`RecordError::is_misbehaviour`]) mean that whoever offered them is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The set is longer than [`MAX_SET_BYTES`].
    #[error("record set of {0} bytes")]
    SetTooLarge(usize),
    /// An envelope is longer than [`MAX_ENVELOPE_BYTES`].
    #[error("record of {0} bytes")]
    EnvelopeTooLarge(usize),
    /// Something cannot be decoded.
    #[error("malformed record")]
    Malformed,
    /// Neither an account nor a terminal record.
    #[error("empty record set")]
    Empty,
    /// More than [`MAX_TERMINALS`] terminals.
    #[error("record set of too many terminals")]
    TooManyTerminals,
    /// More mailboxes, revoked terminals or addresses than permitted.
    #[error("record with too many entries")]
    TooManyEntries,
    /// Two records of one terminal in a set.
    #[error("two records of one terminal")]
    Duplicate,
    /// The number belongs under another key, or two records name different numbers.
    #[error("record of another number")]
    WrongKey,
    /// A signature doesn't fit.
    #[error("record with a bad signature")]
    BadSignature,
    /// Signed further in the future than clocks may differ.
    #[error("record from the future")]
    FutureSequence,
    /// Its time is over.
    #[error("record has expired")]
    Expired,
    /// The validity ends before it begins or is longer than permitted.
    #[error("record with a lifetime that is not permitted")]
    Lifetime,
    /// The proof doesn't fit number and identity.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The transfers don't make a plain number's or somebody else's number this identity's.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// The terminal's certificate is refused.
    #[error(transparent)]
    Cert(#[from] CertError),
    /// The terminal's certificate is of another identity than the account record.
    #[error("terminal of another identity")]
    OtherIdentity,
    /// The account record revokes the terminal.
    #[error("terminal is revoked")]
    Revoked,
    /// A terminal record whose account record is neither in the set nor held.
    #[error("terminal record without its account record")]
    NoAccount,
    /// Another identity holds the number.
    #[error("the number belongs to somebody else")]
    Incumbent,
    /// Nothing new, and at least one record older than the one held.
    #[error("a newer record is held already")]
    Stale,
}

impl RecordError {
    /// Whether an honest node with a good clock and current data would not have offered this.
    #[must_use]
    pub fn is_misbehaviour(self) -> bool {
        match self {
            Self::FutureSequence | Self::Expired | Self::NoAccount | Self::Revoked | Self::Stale => false,
            Self::Cert(error) => !error.is_untimely(),
            // Two strangers may hit the same plain number, each in good faith.
            Self::Incumbent => false,
            Self::SetTooLarge(_)
            | Self::EnvelopeTooLarge(_)
            | Self::Malformed
            | Self::Empty
            | Self::TooManyTerminals
            | Self::TooManyEntries
            | Self::Duplicate
            | Self::WrongKey
            | Self::BadSignature
            | Self::Lifetime
            | Self::Proof(_)
            | Self::Transfer(_)
            | Self::OtherIdentity => true,
        }
    }

    /// Whether the record is sound but not valid at this time.
    fn is_untimely(self) -> bool {
        match self {
            Self::FutureSequence | Self::Expired => true,
            Self::Cert(error) => error.is_untimely(),
            Self::SetTooLarge(_)
            | Self::EnvelopeTooLarge(_)
            | Self::Malformed
            | Self::Empty
            | Self::TooManyTerminals
            | Self::TooManyEntries
            | Self::Duplicate
            | Self::WrongKey
            | Self::BadSignature
            | Self::Lifetime
            | Self::Proof(_)
            | Self::Transfer(_)
            | Self::OtherIdentity
            | Self::Revoked
            | Self::NoAccount
            | Self::Incumbent
            | Self::Stale => false,
        }
    }
}

#[cfg(test)]
mod tests;
