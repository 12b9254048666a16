//! Tokens by which contacts deposit letters without doing work for it.
//!
//! An account has a [`TokenSecret`], known to its terminals. For each directory that keeps its mailbox a [`DepositKey`]
//! follows from it, which that directory is told. A contact gets a [`Grant`] for each of them, in letters and whatever else
//! goes from the one to the other: a serial number that follows from the secret, the directory and the contact, an end, and
//! a MAC of both under the deposit key. So
//!
//! * the directory checks a token by one HMAC, without a list of contacts, also while the account's terminals are off line
//!   for weeks;
//! * it sees that two deposits are by the same contact, which it must to bound what each one leaves, and not by whom.
//!   Serials at two directories, and before and after a [generation](TokenSecret::grant), have nothing in common;
//! * no terminal needs to tell the others what it has granted: all of them grant the same;
//! * a contact that is none any more is shut out by its serial ([`DepositRules::revoked`]), everybody by a new secret.
//!
//! Blind signatures would hide also that two deposits are by one contact. Then a single contact could fill the mailbox, and
//! a directory that sees addresses would mostly know anyhow. A directory could make tokens for the mailbox that it keeps
//! itself; it could as well let in whom it likes. For another one they are worth nothing.

use std::fmt;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use minicbor::{Decode, Encode};
use sha2::Sha256;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::days;
use crate::identity::{DirectoryId, IdentityId};
use crate::record::MAX_MAILBOXES;
use crate::wire::{UnixMillis, domain};

/// Most grants in a letter: one for each directory that keeps the account's mailbox.
pub const MAX_GRANTS: usize = MAX_MAILBOXES;
/// Most deposit keys that count at a directory at a time: the newest, and that before a change of secret for those who have
/// not heard of it.
pub const MAX_DEPOSIT_KEYS: usize = 2;
/// Most serials that are shut out. A terminal that needs more changes the secret.
pub const MAX_REVOKED_SERIALS: usize = 256;
/// The end of a token is at a multiple of this: tokens of one month look alike.
pub const TOKEN_STEP: Duration = days(30);
/// For how long a token is granted at most: as an account record.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(400 * 86_400);

const MAC_BYTES: usize = 16;

/// What tokens are made of. Random; all terminals of the account have it, and nobody else.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct TokenSecret([u8; 32]);

/// What a directory is told to check tokens for one mailbox.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop, Encode, Decode)]
#[cbor(transparent)]
pub struct DepositKey(#[cbor(n(0), with = "minicbor::bytes")] [u8; 32]);

/// Stands for a contact at one directory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Serial(#[cbor(n(0), with = "minicbor::bytes")] [u8; 16]);

/// Shows a directory that a deposit is by a contact of the mailbox's owner. Whoever has it is taken for that contact, so it
/// goes over encrypted connections to that directory only.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub struct Token {
    /// For whom it was made.
    #[n(0)]
    pub serial: Serial,
    /// Last moment at which it is good.
    #[n(1)]
    pub until: UnixMillis,
    /// Of both.
    #[cbor(n(2), with = "minicbor::bytes")]
    mac: [u8; MAC_BYTES],
}

/// A token, and where it is good.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub struct Grant {
    /// The directory.
    #[n(0)]
    pub directory: DirectoryId,
    /// The token.
    #[n(1)]
    pub token: Token,
}

/// Why a token is refused. The depositor can still work for the deposit as a stranger does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    /// Made with no key that counts.
    #[error("a token that the mailbox's owner has not made, or with a secret that has been changed")]
    Unknown,
    /// Its time is over.
    #[error("a token that has expired")]
    Expired,
    /// Its contact is none any more.
    #[error("a token that has been taken back")]
    Revoked,
}

impl TokenSecret {
    /// The secret of 32 bytes from a cryptographic random source.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(seed)
    }

    /// The bytes. Whoever stores them encrypts them.
    #[must_use]
    pub fn seed(&self) -> &[u8; 32] {
        &self.0
    }

    /// What `directory` is told.
    #[must_use]
    pub fn deposit_key(&self, directory: &DirectoryId) -> DepositKey {
        DepositKey(self.derive(0, &[directory.as_bytes()]))
    }

    /// For whom `contact` stands at `directory`.
    ///
    /// `generation`: 0, and one more for each time that the contact's serial was taken back and the same person became a
    /// contact again.
    #[must_use]
    pub fn serial(&self, directory: &DirectoryId, contact: &IdentityId, generation: u32) -> Serial {
        let parts = [directory.as_bytes(), contact.as_bytes(), &generation.to_be_bytes()[..]];
        let mut serial = [0; 16];
        serial.copy_from_slice(&self.derive(1, &parts)[..16]);
        Serial(serial)
    }

    /// A token for `contact`, granted at the time `now`; the same all month, for a year at least.
    #[must_use]
    pub fn grant(
        &self,
        directory: &DirectoryId,
        contact: &IdentityId,
        generation: u32,
        now: UnixMillis,
    ) -> Grant {
        let step = u64::try_from(TOKEN_STEP.as_millis()).unwrap_or(u64::MAX);
        let until = UnixMillis(now.plus(TOKEN_LIFETIME).0 / step * step);
        let serial = self.serial(directory, contact, generation);
        Grant { directory: *directory, token: self.deposit_key(directory).token(serial, until) }
    }

    fn derive(&self, use_of: u8, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = keyed(&self.0);
        mac.update(&[use_of]);
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(..)")
    }
}

impl DepositKey {
    /// The key of 32 bytes, as a store gives them back.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn token(&self, serial: Serial, until: UnixMillis) -> Token {
        let mut mac = [0; MAC_BYTES];
        mac.copy_from_slice(&self.mac(serial, until).finalize().into_bytes()[..MAC_BYTES]);
        Token { serial, until, mac }
    }

    fn made(&self, token: &Token) -> bool {
        self.mac(token.serial, token.until).verify_truncated_left(&token.mac).is_ok()
    }

    fn mac(&self, serial: Serial, until: UnixMillis) -> Hmac<Sha256> {
        let mut mac = keyed(&self.0);
        mac.update(&serial.0);
        mac.update(&until.0.to_be_bytes());
        mac
    }
}

impl fmt::Debug for DepositKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DepositKey(..)")
    }
}

impl Serial {
    /// The serial of 16 bytes, as a store gives them back.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Serial(..)")
    }
}

impl fmt::Debug for Token {
    /// Nothing by which it could be used.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Grant({:?})", self.directory)
    }
}

fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(domain::DEPOSIT_TOKEN.as_bytes());
    mac.update(&[0]);
    mac
}

/// Whom a mailbox's owner lets deposit, as the directory is told it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct DepositRules {
    /// Keys whose tokens are good, newest first, at most [`MAX_DEPOSIT_KEYS`]. Without any, everybody is a stranger.
    #[n(0)]
    pub keys: Vec<DepositKey>,
    /// Serials whose tokens are not, at most [`MAX_REVOKED_SERIALS`].
    #[n(1)]
    pub revoked: Vec<Serial>,
    /// Whether strangers may deposit at all.
    #[n(2)]
    pub strangers: bool,
}

impl DepositRules {
    /// Whether the lists keep their limits.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.keys.len() <= MAX_DEPOSIT_KEYS && self.revoked.len() <= MAX_REVOKED_SERIALS
    }

    /// For whom a token stands.
    ///
    /// # Errors
    /// A [`TokenError`].
    pub fn admit(&self, token: &Token, now: UnixMillis) -> Result<Serial, TokenError> {
        if !self.keys.iter().any(|key| key.made(token)) {
            return Err(TokenError::Unknown);
        }
        if now > token.until {
            return Err(TokenError::Expired);
        }
        if self.revoked.contains(&token.serial) {
            return Err(TokenError::Revoked);
        }
        Ok(token.serial)
    }
}

#[cfg(test)]
mod tests;
