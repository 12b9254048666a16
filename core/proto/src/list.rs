//! The list of what a directory has issued: signed, hash-chained, for everybody to read.
//!
//! A directory could certify one number for two identities and show each a different certificate. So it publishes what it has done, in
//! order; every entry holds the hash of the one before, and the directory signs the [`Head`]. Two heads of one directory with equal
//! lengths and different hashes are proof against it. [`Audit`] reads a list and says what is wrong with it, [`Chain`] writes one.
//!
//! What its owner has to agree to is in the list with the owner's signature: no entry moves or frees a number without it.

mod audit;

pub use audit::{Audit, Finding, HeadFinding, Holding, MAX_AUDITED_NUMBERS, MAX_SEEN_HEADS, Problem};

use std::fmt;

use minicbor::{Decode, Encode};
use thiserror::Error;

use crate::identity::{DirectoryId, DirectoryKey, IdentityId};
use crate::number::Number;
use crate::proof::SignedTransfer;
use crate::request::SignedRequest;
use crate::wire::{self, BadSignature, MAX_CLOCK_AHEAD, Signed, UnixMillis, WireError, domain};

/// Most bytes of an encoded entry. The longest of version 1, a release with the owner's request, has about 1,300.
pub const MAX_ENTRY_BYTES: usize = 2 * 1024;
/// Most bytes of an encoded signed head. One of version 1 has about 170.
pub const MAX_HEAD_BYTES: usize = 256;

/// SHA-256 over an entry, in which the hash of the one before is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct EntryHash(#[cbor(n(0), with = "minicbor::bytes")] [u8; 32]);

impl EntryHash {
    /// The hash of an encoded entry.
    #[must_use]
    pub fn of(entry: &[u8]) -> Self {
        Self(wire::hash(domain::LIST_ENTRY, &[entry]))
    }

    /// What stands in the place of the hash before the first entry: every directory has its own, so that entries of one never fit
    /// into the list of another.
    #[must_use]
    pub fn beginning(directory: &DirectoryId) -> Self {
        Self(wire::hash(domain::LIST, &[directory.as_bytes()]))
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for EntryHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryHash({}…)", data_encoding::HEXLOWER.encode(&self.0[..4]))
    }
}

impl fmt::Display for EntryHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

/// What has happened to a number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub enum Change {
    /// Certified for somebody who didn't have it.
    #[n(0)]
    Issued {
        /// The number in its full form.
        #[n(0)]
        number: Number,
        /// Who has it.
        #[n(1)]
        identity: IdentityId,
        /// When the certificate expires.
        #[n(2)]
        expires: UnixMillis,
    },
    /// Certified anew for who has it.
    #[n(1)]
    Renewed {
        /// The number in its full form.
        #[n(0)]
        number: Number,
        /// Who has it.
        #[n(1)]
        identity: IdentityId,
        /// When the certificate expires.
        #[n(2)]
        expires: UnixMillis,
    },
    /// Given back by who had it.
    #[n(2)]
    Released {
        /// The number in its full form.
        #[n(0)]
        number: Number,
        /// Who had it.
        #[n(1)]
        identity: IdentityId,
        /// That the owner wants it so.
        #[n(2)]
        request: SignedRequest,
    },
    /// Certified for whom the owner has given it to.
    #[n(3)]
    Transferred {
        /// The number in its full form.
        #[n(0)]
        number: Number,
        /// Who has it from now on.
        #[n(1)]
        identity: IdentityId,
        /// When the certificate expires.
        #[n(2)]
        expires: UnixMillis,
        /// That the owner wants it so.
        #[n(3)]
        transfer: SignedTransfer,
    },
}

impl Change {
    /// The number.
    #[must_use]
    pub fn number(&self) -> &Number {
        match self {
            Self::Issued { number, .. }
            | Self::Renewed { number, .. }
            | Self::Released { number, .. }
            | Self::Transferred { number, .. } => number,
        }
    }

    /// Who has the number afterwards, or had it before it was released.
    #[must_use]
    pub fn identity(&self) -> &IdentityId {
        match self {
            Self::Issued { identity, .. }
            | Self::Renewed { identity, .. }
            | Self::Released { identity, .. }
            | Self::Transferred { identity, .. } => identity,
        }
    }

    /// A stable word for what has happened.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Issued { .. } => "issued",
            Self::Renewed { .. } => "renewed",
            Self::Released { .. } => "released",
            Self::Transferred { .. } => "transferred",
        }
    }
}

/// An entry of the list.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub struct Entry {
    /// How many entries are before it.
    #[n(0)]
    pub index: u64,
    /// Hash of the one before.
    #[n(1)]
    pub previous: EntryHash,
    /// When it happened; never before the entry before it.
    #[n(2)]
    pub at: UnixMillis,
    /// What happened.
    #[n(3)]
    pub change: Change,
}

/// Why bytes are not the next entry of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ListError {
    /// Longer than [`MAX_ENTRY_BYTES`].
    #[error("entry of {0} bytes")]
    TooLarge(usize),
    /// It cannot be decoded.
    #[error("malformed entry")]
    Malformed,
    /// Another one was to come.
    #[error("entry {found} where entry {expected} was to come")]
    Index {
        /// The index that was to come.
        expected: u64,
        /// The one that came.
        found: u64,
    },
    /// The hash in it is not that of the entry before.
    #[error("entry does not follow the one before")]
    Broken,
    /// Earlier than the entry before.
    #[error("entry is earlier than the one before")]
    TimeGoesBack,
}

fn open(bytes: &[u8]) -> Result<Entry, ListError> {
    wire::decode(bytes, MAX_ENTRY_BYTES).map_err(|error| match error {
        WireError::TooLarge { len, .. } => ListError::TooLarge(len),
        WireError::Malformed | WireError::Trailing(_) => ListError::Malformed,
    })
}

/// How far a list goes. Whoever has this can add the next entry, or tell whether an entry is the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    directory: DirectoryId,
    length: u64,
    hash: EntryHash,
    last: UnixMillis,
}

impl Chain {
    /// The empty list of a directory.
    #[must_use]
    pub fn new(directory: DirectoryId) -> Self {
        Self { directory, length: 0, hash: EntryHash::beginning(&directory), last: UnixMillis(0) }
    }

    /// The list of `directory` that ends with this encoded entry, whatever is before it.
    ///
    /// # Errors
    /// [`ListError::TooLarge`] or [`ListError::Malformed`].
    pub fn after(directory: DirectoryId, last: &[u8]) -> Result<Self, ListError> {
        let entry = open(last)?;
        let length = entry.index.checked_add(1).ok_or(ListError::Malformed)?;
        Ok(Self { directory, length, hash: EntryHash::of(last), last: entry.at })
    }

    /// How many entries there are.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The hash of the last one.
    #[must_use]
    pub fn hash(&self) -> EntryHash {
        self.hash
    }

    /// Adds an entry and returns its encoding, which is to be stored as it is. Where a clock was set back, it is as late as the one
    /// before.
    pub fn append(&mut self, now: UnixMillis, change: Change) -> Vec<u8> {
        let at = now.max(self.last);
        let bytes = wire::encode(&Entry { index: self.length, previous: self.hash, at, change });
        self.advance(&bytes, at);
        bytes
    }

    /// Takes the next entry as it was published.
    ///
    /// # Errors
    /// A [`ListError`]. Then nothing has changed.
    pub fn follow(&mut self, bytes: &[u8]) -> Result<Entry, ListError> {
        let entry = open(bytes)?;
        if entry.index != self.length {
            return Err(ListError::Index { expected: self.length, found: entry.index });
        }
        if entry.previous != self.hash {
            return Err(ListError::Broken);
        }
        if entry.at < self.last {
            return Err(ListError::TimeGoesBack);
        }
        self.advance(bytes, entry.at);
        Ok(entry)
    }

    fn advance(&mut self, bytes: &[u8], at: UnixMillis) {
        self.length = self.length.saturating_add(1);
        self.hash = EntryHash::of(bytes);
        self.last = at;
    }

    /// The head of the list as it is now.
    #[must_use]
    pub fn head(&self, now: UnixMillis) -> Head {
        let (directory, length, hash) = (self.directory, self.length, self.hash);
        Head { directory, length, hash, at: now.max(self.last) }
    }
}

/// What a directory signs: my list has so many entries, and this is the hash of the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub struct Head {
    /// Whose list. Signs.
    #[n(0)]
    pub directory: DirectoryId,
    /// How many entries it has.
    #[n(1)]
    pub length: u64,
    /// Hash of the last entry.
    #[n(2)]
    pub hash: EntryHash,
    /// Time of signing.
    #[n(3)]
    pub at: UnixMillis,
}

impl Head {
    /// Whether both cannot be of one list. With both signatures that is proof that the directory has shown two.
    #[must_use]
    pub fn contradicts(&self, other: &Self) -> bool {
        self.directory == other.directory && self.length == other.length && self.hash != other.hash
    }
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeadError {
    /// Longer than [`MAX_HEAD_BYTES`], or it cannot be decoded.
    #[error("malformed head of a list")]
    Malformed,
    /// Of another directory's list.
    #[error("head of another directory's list")]
    OtherDirectory,
    /// Not signed by the directory.
    #[error("head of a list with a bad signature")]
    BadSignature,
    /// Its time lies ahead of ours by more than clocks may differ.
    #[error("head of a list from the future")]
    FromTheFuture,
}

/// A [`Head`] under the directory's signature.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct SignedHead(#[n(0)] Signed);

impl SignedHead {
    /// Signs a head. `key` is the one whose public half the head names.
    #[must_use]
    pub fn sign(key: &DirectoryKey, head: &Head) -> Self {
        Self(key.sign(domain::LIST_HEAD, &wire::encode(head)))
    }

    /// Checks that it is `directory`'s, and returns what it says.
    ///
    /// # Errors
    /// A [`HeadError`].
    pub fn verify(&self, directory: &DirectoryId, now: UnixMillis) -> Result<Head, HeadError> {
        if self.0.encoded_len() > MAX_HEAD_BYTES {
            return Err(HeadError::Malformed);
        }
        let head: Head =
            wire::decode(self.0.payload_unverified(), MAX_HEAD_BYTES).map_err(|_| HeadError::Malformed)?;
        if head.directory != *directory {
            return Err(HeadError::OtherDirectory);
        }
        self.0
            .verify(directory.as_bytes(), domain::LIST_HEAD)
            .map_err(|BadSignature| HeadError::BadSignature)?;
        if head.at > now.plus(MAX_CLOCK_AHEAD) {
            return Err(HeadError::FromTheFuture);
        }
        Ok(head)
    }
}

#[cfg(test)]
mod tests;
