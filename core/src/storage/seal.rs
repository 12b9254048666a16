//! The identity seed under the password: Argon2id (RFC 9106) makes a key, XChaCha20-Poly1305 seals the
//! seed with the account's ID and identity bound to it. Parameters and salt stand beside the sealed seed,
//! so that they can grow with the machines.

use super::{AccountId, StorageError};
use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use offhook_proto::identity::IdentityId;
use offhook_proto::opaque::{PasswordError, PreparedPassword};
use std::fmt;
use zeroize::Zeroizing;

pub use offhook_proto::opaque::MAX_PASSWORD_BYTES;

const DOMAIN: &[u8] = b"offhook/account-seed/1\0";

/// A password, normalised by the OpaqueString profile (RFC 8265, section 4.2) so that it is the same on
/// every keyboard, and wiped from memory when dropped.
#[derive(Clone)]
pub struct Password(PreparedPassword);

impl Password {
    /// Takes what was typed: 1 to 1024 bytes without control characters.
    pub fn new(typed: &str) -> Result<Self, StorageError> {
        PreparedPassword::new(typed).map(Self).map_err(|error| {
            StorageError::BadPassword(match error {
                PasswordError::Empty => "it is empty",
                PasswordError::TooLong => "it is longer than 1024 bytes",
                PasswordError::Controls => "it contains control characters",
            })
        })
    }

    /// Whether it is the same one.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    /// As a directory's log-in takes it.
    pub(crate) fn prepared(&self) -> PreparedPassword {
        self.0.clone()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// Cost of Argon2id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KdfCost {
    /// Memory, KiB.
    pub memory: u32,
    /// Passes.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl KdfCost {
    /// 64 MiB and three passes: RFC 9106's second recommended option (section 4), with one lane because
    /// the implementation runs lanes one after another.
    pub const DEFAULT: Self = Self { memory: 64 * 1024, passes: 3, lanes: 1 };

    /// A file that somebody else wrote must not make us take all the machine's memory or hours.
    fn sane(self) -> bool {
        (8..=1024 * 1024).contains(&self.memory)
            && (1..=64).contains(&self.passes)
            && (1..=16).contains(&self.lanes)
    }
}

/// The identity seed as it stands in the account's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SealedSeed {
    pub cost: KdfCost,
    pub salt: [u8; 16],
    pub nonce: [u8; 24],
    /// Seed and authentication tag.
    pub sealed: Vec<u8>,
}

impl SealedSeed {
    /// Seals `seed`. Takes a good part of a second and 64 MiB: not on a thread that serves others.
    pub fn seal(
        seed: &[u8; 32],
        password: &Password,
        id: &AccountId,
        identity: &IdentityId,
        cost: KdfCost,
    ) -> Result<Self, StorageError> {
        let salt: [u8; 16] = rand::random();
        let nonce: [u8; 24] = rand::random();
        let cipher = cipher(password, &salt, cost)?;
        let aad = aad(id, identity);
        let payload = Payload { msg: seed, aad: &aad };
        let sealed = cipher
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| StorageError::Internal("the identity could not be encrypted"))?;
        Ok(Self { cost, salt, nonce, sealed })
    }

    /// Opens the seed, as slow as [`Self::seal`].
    pub fn open(
        &self,
        password: &Password,
        id: &AccountId,
        identity: &IdentityId,
    ) -> Result<Zeroizing<[u8; 32]>, StorageError> {
        if !self.cost.sane() {
            return Err(StorageError::Damaged("the password's parameters"));
        }
        let cipher = cipher(password, &self.salt, self.cost)?;
        let aad = aad(id, identity);
        let payload = Payload { msg: &self.sealed, aad: &aad };
        let seed = cipher
            .decrypt(&XNonce::from(self.nonce), payload)
            .map(Zeroizing::new)
            .map_err(|_| StorageError::WrongPassword)?;
        let seed: [u8; 32] =
            seed.as_slice().try_into().map_err(|_| StorageError::Damaged("the identity key"))?;
        Ok(Zeroizing::new(seed))
    }
}

fn cipher(password: &Password, salt: &[u8; 16], cost: KdfCost) -> Result<XChaCha20Poly1305, StorageError> {
    let params = Params::new(cost.memory, cost.passes, cost.lanes, Some(32))
        .map_err(|_| StorageError::Damaged("the password's parameters"))?;
    let mut key = Zeroizing::new([0u8; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password.0.as_bytes(), salt, key.as_mut())
        .map_err(|_| StorageError::Internal("the password could not be hashed"))?;
    Ok(XChaCha20Poly1305::new(&Key::from(*key)))
}

fn aad(id: &AccountId, identity: &IdentityId) -> Vec<u8> {
    [DOMAIN, identity.as_bytes(), id.as_str().as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use offhook_proto::identity::IdentityKey;

    const CHEAP: KdfCost = KdfCost { memory: 64, passes: 1, lanes: 1 };

    fn sealed(password: &str) -> (SealedSeed, AccountId, IdentityId) {
        let key = IdentityKey::from_seed([7; 32]);
        let id: AccountId = "ada".parse().unwrap();
        let password = Password::new(password).unwrap();
        (SealedSeed::seal(key.seed(), &password, &id, &key.public(), CHEAP).unwrap(), id, key.public())
    }

    #[test]
    fn only_the_password_opens_and_only_for_its_id_and_identity() {
        let (sealed, id, identity) = sealed("correct horse");
        let right = Password::new("correct horse").unwrap();
        assert_eq!(*sealed.open(&right, &id, &identity).unwrap(), [7; 32]);

        let wrong = Password::new("correct hors").unwrap();
        assert!(matches!(sealed.open(&wrong, &id, &identity), Err(StorageError::WrongPassword)));
        let other: AccountId = "bob".parse().unwrap();
        assert!(matches!(sealed.open(&right, &other, &identity), Err(StorageError::WrongPassword)));
        let stranger = IdentityKey::from_seed([8; 32]).public();
        assert!(matches!(sealed.open(&right, &id, &stranger), Err(StorageError::WrongPassword)));
        let mut broken = sealed.clone();
        broken.sealed[0] ^= 1;
        assert!(matches!(broken.open(&right, &id, &identity), Err(StorageError::WrongPassword)));
    }

    #[test]
    fn the_same_password_from_another_keyboard_opens() {
        let (sealed, id, identity) = sealed("caf\u{e9}");
        let decomposed = Password::new("cafe\u{301}").unwrap();
        assert!(sealed.open(&decomposed, &id, &identity).is_ok());
    }

    #[test]
    fn absurd_costs_are_refused_before_they_are_paid() {
        let (mut sealed, id, identity) = sealed("pw");
        sealed.cost = KdfCost { memory: u32::MAX, passes: 3, lanes: 1 };
        let password = Password::new("pw").unwrap();
        assert!(matches!(sealed.open(&password, &id, &identity), Err(StorageError::Damaged(_))));
    }

    #[test]
    fn passwords_are_bounded_and_never_printed() {
        assert!(Password::new("").is_err());
        assert!(Password::new("a\nb").is_err());
        assert!(Password::new(&"x".repeat(1025)).is_err());
        assert!(!format!("{:?}", Password::new("hunter2").unwrap()).contains("hunter2"));
    }
}
