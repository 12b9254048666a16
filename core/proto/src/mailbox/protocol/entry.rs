//! How a terminal shows that a mailbox is its account's.

use std::fmt;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use minicbor::{Decode, Encode};
use sha2::Sha256;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::identity::{
    CertError, DirectoryId, IdentityId, MAX_CERT_BYTES, SignedCert, TerminalCert, TerminalId, TerminalKey,
};
use crate::mailbox::MailboxId;
use crate::wire::{self, BadSignature, MAX_CLOCK_AHEAD, Signed, UnixMillis, domain};

/// How long a challenge is good: two round trips, and a terminal that is slow to sign.
pub const CHALLENGE_LIFETIME: Duration = Duration::from_secs(60);
/// Most bytes of an encoded entry: the certificate and some keys.
pub const MAX_ENTRY_BYTES: usize = MAX_CERT_BYTES + 512;

const MAC_BYTES: usize = 16;

/// The secret with which a directory makes challenges. Random; a new one makes all challenges void.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct EntryKey([u8; 32]);

/// What a terminal is to sign. The directory keeps none of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub struct EntryChallenge {
    /// When it was made, by the directory's clock.
    #[n(0)]
    at: UnixMillis,
    /// Of that, and of who has asked for it.
    #[cbor(n(1), with = "minicbor::bytes")]
    mac: [u8; MAC_BYTES],
}

impl EntryKey {
    /// The key of 32 bytes from a cryptographic random source.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(seed)
    }

    /// A challenge for whoever is at the other end of the connection with the key `peer`.
    #[must_use]
    pub fn challenge(&self, peer: &TerminalId, now: UnixMillis) -> EntryChallenge {
        let mut mac = [0; MAC_BYTES];
        mac.copy_from_slice(&self.mac(peer, now).finalize().into_bytes()[..MAC_BYTES]);
        EntryChallenge { at: now, mac }
    }

    fn mac(&self, peer: &TerminalId, at: UnixMillis) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(domain::MAILBOX_ENTRY.as_bytes());
        mac.update(&[0]);
        mac.update(peer.as_bytes());
        mac.update(&at.0.to_be_bytes());
        mac
    }
}

impl fmt::Debug for EntryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EntryKey(..)")
    }
}

/// What a terminal signs to enter its account's mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub struct Entry {
    /// The directory. For another one it means nothing.
    #[n(0)]
    pub directory: DirectoryId,
    /// Its challenge.
    #[n(1)]
    pub challenge: EntryChallenge,
    /// Says that the terminal that signs belongs to the identity whose mailbox it is.
    #[n(2)]
    pub cert: SignedCert,
    /// If the directory keeps no mailbox of the account, it is to begin with it. Whether it does is its own affair.
    #[n(3)]
    pub open: bool,
}

/// An [`Entry`] under the terminal's signature.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct SignedEntry(#[n(0)] pub(super) Signed);

/// Who has entered what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entered {
    /// The mailbox.
    pub mailbox: MailboxId,
    /// Whose it is: its account record says which terminals are revoked.
    pub identity: IdentityId,
    /// The terminal's certificate.
    pub cert: TerminalCert,
    /// Whether the mailbox is to be opened.
    pub open: bool,
}

/// Why a terminal is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EntryError {
    /// It cannot be decoded, or is too long.
    #[error("malformed entry")]
    Malformed,
    /// Meant for another directory.
    #[error("entry for another directory")]
    OtherDirectory,
    /// Not our challenge, or not for this connection.
    #[error("entry with a challenge that was not made here")]
    NotOurs,
    /// The challenge is too old.
    #[error("entry with a challenge that is too old")]
    Expired,
    /// The certificate is refused.
    #[error(transparent)]
    Cert(#[from] CertError),
    /// Not signed by the terminal that the certificate is for.
    #[error("entry with a bad signature")]
    BadSignature,
    /// The account has revoked the terminal.
    #[error("the terminal is revoked")]
    Revoked,
}

impl SignedEntry {
    /// Signs an entry by the terminal that `cert` is for.
    #[must_use]
    pub fn sign(key: &TerminalKey, entry: &Entry) -> Self {
        Self(key.sign(domain::MAILBOX_ENTRY, &wire::encode(entry)))
    }

    pub(super) fn is_sound(&self) -> bool {
        self.0.encoded_len() <= MAX_ENTRY_BYTES
    }

    /// Checks everything that the entry says of itself, for the directory `directory`, which has made the challenge with
    /// `key` for the connection with `peer`. `revoked` are the terminals that the newest account record known of that
    /// identity revokes; nobody who has a copy of a revoked terminal's files gets in.
    ///
    /// # Errors
    /// An [`EntryError`].
    pub fn verify(
        &self,
        directory: &DirectoryId,
        key: &EntryKey,
        peer: &TerminalId,
        revoked: impl FnOnce(&IdentityId) -> Vec<TerminalId>,
        now: UnixMillis,
    ) -> Result<Entered, EntryError> {
        if !self.is_sound() {
            return Err(EntryError::Malformed);
        }
        let entry: Entry =
            wire::decode(self.0.payload_unverified(), MAX_ENTRY_BYTES).map_err(|_| EntryError::Malformed)?;
        if entry.directory != *directory {
            return Err(EntryError::OtherDirectory);
        }
        let EntryChallenge { at, mac } = entry.challenge;
        if key.mac(peer, at).verify_truncated_left(&mac).is_err() {
            return Err(EntryError::NotOurs);
        }
        // Ours, so its time is by our own clock, which may have been set back.
        if now.since(at) > CHALLENGE_LIFETIME || at.since(now) > MAX_CLOCK_AHEAD {
            return Err(EntryError::Expired);
        }
        let cert = entry.cert.verify(now)?;
        self.0
            .verify(cert.terminal.as_bytes(), domain::MAILBOX_ENTRY)
            .map_err(|BadSignature| EntryError::BadSignature)?;
        if revoked(&cert.identity).contains(&cert.terminal) {
            return Err(EntryError::Revoked);
        }
        let mailbox = MailboxId::of(&cert.identity);
        Ok(Entered { mailbox, identity: cert.identity, cert, open: entry.open })
    }
}
