//! Mailboxes: what is left at a directory for somebody who is not on line.
//!
//! A [`letter`] is a text, a voice message or a mark. Its sender's terminal signs it, cuts it into pieces and seals each to
//! the receiver's mailbox key; a sealed piece is a *blob*, of one of a few sizes. Blobs are deposited at the directories
//! that the receiver's account record names ([`protocol`]): by contacts with a token that the receiver gave them
//! ([`contacts`]), by strangers for work ([`puzzle`](crate::puzzle)): [`gate`]. A directory keeps books of what it holds for whom
//! ([`quota`]) and knows no letter from another. When a sender tries which letter is said by its [`outbox`].

pub mod contacts;
pub mod gate;
#[cfg(test)]
mod hostile;
pub mod letter;
pub mod outbox;
pub mod protocol;
pub mod quota;

use std::fmt;
use std::time::Duration;

use data_encoding::HEXLOWER;
use minicbor::{Decode, Encode};
use sha2::{Digest, Sha256};

use crate::identity::IdentityId;
use crate::wire::{self, domain};

/// How many bytes a blob may have. A blob is padded to the least of these that holds it, so that its size tells little: a
/// text has the first or the second, a voice message some of the last and another one.
pub const SIZE_CLASSES: [usize; 6] = [1 << 10, 4 << 10, 16 << 10, 32 << 10, 64 << 10, 128 << 10];
/// Most bytes of a blob: the last of the [`SIZE_CLASSES`].
pub const MAX_BLOB_BYTES: usize = SIZE_CLASSES[SIZE_CLASSES.len() - 1];
/// Days for which a directory keeps a blob at most.
pub const MAX_KEEP_DAYS: u8 = 30;
/// The same as a duration.
pub const MAX_KEEP: Duration = days(MAX_KEEP_DAYS);

/// So many days.
#[must_use]
pub const fn days(n: u8) -> Duration {
    Duration::from_secs(n as u64 * 86_400)
}

/// Whether a blob may have so many bytes.
#[must_use]
pub fn is_size_class(len: usize) -> bool {
    SIZE_CLASSES.contains(&len)
}

macro_rules! hash_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        #[cbor(transparent)]
        pub struct $name(#[cbor(n(0), with = "minicbor::bytes")] [u8; 32]);

        impl $name {
            /// The one of these 32 bytes, as a store gives them back.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            /// The first four bytes only.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({}…)"), HEXLOWER.encode(&self.0[..4]))
            }
        }
    };
}

hash_id! {
    /// Names the mailbox of an account: a hash of its identity key, which stays when the mailbox key changes.
    MailboxId
}
hash_id! {
    /// Names a blob: its SHA-256. The same blob is kept once.
    BlobId
}

impl MailboxId {
    /// The mailbox of an account.
    #[must_use]
    pub fn of(identity: &IdentityId) -> Self {
        Self(wire::hash(domain::MAILBOX, &[identity.as_bytes()]))
    }
}

impl BlobId {
    /// The name of a blob.
    #[must_use]
    pub fn of(blob: &[u8]) -> Self {
        Self(Sha256::digest(blob).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_is_named_by_its_owner_and_a_blob_by_its_bytes() {
        let (ada, bob) = (IdentityId::from_bytes([1; 32]), IdentityId::from_bytes([2; 32]));
        assert_eq!(MailboxId::of(&ada), MailboxId::of(&ada));
        assert_ne!(MailboxId::of(&ada), MailboxId::of(&bob));
        assert_ne!(BlobId::of(b"a"), BlobId::of(b"b"));
        assert_eq!(format!("{:?}", BlobId::from_bytes([0xab; 32])), "BlobId(abababab…)");
    }

    #[test]
    fn sizes_of_blobs_grow_and_are_few() {
        assert!(SIZE_CLASSES.is_sorted_by(|a, b| a < b));
        assert!(is_size_class(1024) && !is_size_class(1025) && is_size_class(MAX_BLOB_BYTES));
        assert_eq!(MAX_KEEP, Duration::from_secs(2_592_000));
    }
}
