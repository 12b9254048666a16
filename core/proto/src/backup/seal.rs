//! Sealing of backups: XChaCha20-Poly1305, whose nonces are long enough to be drawn by lot (draft-irtf-cfrg-xchacha-03).

use std::fmt;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use super::{Backup, BackupError, MAX_BACKUP_BYTES};
use crate::identity::{IdentityId, IdentityKey};
use crate::wire::{self, WireError, domain};

/// How backups are sealed now.
const FORMAT: u64 = 1;

/// The key to a backup that follows from ID and password. Erased when dropped.
#[derive(Clone)]
pub struct BackupKey(Zeroizing<[u8; 32]>);

impl BackupKey {
    /// From the export key of OPAQUE, which is the same at sign-up and at every log-in with the same password.
    #[must_use]
    pub fn from_export_key(export_key: &[u8; 64]) -> Self {
        Self(Zeroizing::new(wire::hash(domain::BACKUP_KEY, &[export_key])))
    }

    /// The second key, under which the first one is sealed.
    fn of_owner(identity: &IdentityKey) -> Self {
        Self(Zeroizing::new(wire::hash(domain::RECOVERY, &[identity.seed()])))
    }

    fn seal(&self, nonce: &[u8; 24], aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, BackupError> {
        let payload = Payload { msg: plain, aad };
        // It fails for more bytes than a nonce is good for, 256 GiB.
        let too_large = |_| BackupError::TooLarge(plain.len());
        self.cipher().encrypt(&XNonce::from(*nonce), payload).map_err(too_large)
    }

    fn open(&self, nonce: &[u8; 24], aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, BackupError> {
        let payload = Payload { msg: sealed, aad };
        let opened = self.cipher().decrypt(&XNonce::from(*nonce), payload);
        opened.map(Zeroizing::new).map_err(|_| BackupError::Sealed)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&Key::from(*self.0))
    }
}

impl fmt::Debug for BackupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BackupKey(..)")
    }
}

/// Two nonces from a cryptographic random source, fresh for every seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonces {
    /// For the backup.
    pub backup: [u8; 24],
    /// For its key.
    pub recovery: [u8; 24],
}

/// The backup's key, sealed under a key that follows from the identity's.
#[derive(Clone, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
struct SealedKey {
    #[cbor(n(0), with = "minicbor::bytes")]
    nonce: [u8; 24],
    #[cbor(n(1), with = "minicbor::bytes")]
    sealed: Vec<u8>,
}

/// A backup as directories keep it.
#[derive(Clone, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub struct SealedBackup {
    #[n(0)]
    format: u64,
    #[n(1)]
    version: u64,
    #[cbor(n(2), with = "minicbor::bytes")]
    nonce: [u8; 24],
    #[cbor(n(3), with = "minicbor::bytes")]
    sealed: Vec<u8>,
    #[n(4)]
    recovery: SealedKey,
}

/// What a seal is bound to beside its key: whose backup it is, and which one.
fn aad(domain: &str, identity: &IdentityId, version: u64) -> Vec<u8> {
    let mut aad = Vec::with_capacity(domain.len() + 1 + 32 + 8);
    aad.extend_from_slice(domain.as_bytes());
    aad.push(0);
    aad.extend_from_slice(identity.as_bytes());
    aad.extend_from_slice(&version.to_be_bytes());
    aad
}

impl Backup {
    /// Seals the backup as its `version`, the first of which is 1.
    ///
    /// # Errors
    /// [`BackupError::TooManyEntries`] or [`BackupError::TooLarge`].
    pub fn seal(&self, key: &BackupKey, version: u64, nonces: &Nonces) -> Result<SealedBackup, BackupError> {
        let identity = self.identity.public();
        let plain = self.to_plain()?;
        let sealed = key.seal(&nonces.backup, &aad(domain::BACKUP, &identity, version), &plain)?;
        let owner = BackupKey::of_owner(&self.identity);
        let recovery = SealedKey {
            nonce: nonces.recovery,
            sealed: owner.seal(&nonces.recovery, &aad(domain::RECOVERY, &identity, version), &*key.0)?,
        };
        let backup = SealedBackup { format: FORMAT, version, nonce: nonces.backup, sealed, recovery };
        match backup.to_bytes().len() {
            len if len > MAX_BACKUP_BYTES => Err(BackupError::TooLarge(len)),
            _ => Ok(backup),
        }
    }
}

impl SealedBackup {
    /// The bytes that directories keep.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        wire::encode(self)
    }

    /// Decodes without opening anything. Whoever keeps backups for others needs only this.
    ///
    /// # Errors
    /// [`BackupError::TooLarge`], [`BackupError::Malformed`] or [`BackupError::Format`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BackupError> {
        let backup: Self = wire::decode(bytes, MAX_BACKUP_BYTES).map_err(|error| match error {
            WireError::TooLarge { len, .. } => BackupError::TooLarge(len),
            WireError::Malformed | WireError::Trailing(_) => BackupError::Malformed,
        })?;
        if backup.format != FORMAT {
            return Err(BackupError::Format);
        }
        Ok(backup)
    }

    /// Which of the account's backups it says to be. Opening it shows whether that is true.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether it is as new as the newest that is known, from the account record or from another directory.
    ///
    /// # Errors
    /// [`BackupError::RolledBack`].
    pub fn check_version(&self, known: u64) -> Result<(), BackupError> {
        if self.version < known {
            return Err(BackupError::RolledBack { known, found: self.version });
        }
        Ok(())
    }

    /// Opens it with what ID and password give.
    ///
    /// # Errors
    /// [`BackupError::Sealed`] with another key, for another identity, or if anything was changed; [`BackupError::Malformed`] or
    /// [`BackupError::TooManyEntries`] if whoever sealed it has made a mistake.
    pub fn open(&self, key: &BackupKey, identity: &IdentityId) -> Result<Backup, BackupError> {
        let plain = key.open(&self.nonce, &aad(domain::BACKUP, identity, self.version), &self.sealed)?;
        let backup = Backup::from_plain(&plain)?;
        if backup.identity.public() != *identity {
            return Err(BackupError::Sealed);
        }
        Ok(backup)
    }

    /// Opens it with the identity key, which the recovery words give.
    ///
    /// # Errors
    /// As [`SealedBackup::open`].
    pub fn open_as_owner(&self, identity: &IdentityKey) -> Result<Backup, BackupError> {
        self.open(&self.key_as_owner(identity)?, &identity.public())
    }

    /// The key that ID and password give, from the identity key: to seal the next backup for the same password.
    ///
    /// # Errors
    /// [`BackupError::Sealed`].
    pub fn key_as_owner(&self, identity: &IdentityKey) -> Result<BackupKey, BackupError> {
        let aad = aad(domain::RECOVERY, &identity.public(), self.version);
        let key = BackupKey::of_owner(identity).open(&self.recovery.nonce, &aad, &self.recovery.sealed)?;
        let key: [u8; 32] = key.as_slice().try_into().map_err(|_| BackupError::Sealed)?;
        Ok(BackupKey(Zeroizing::new(key)))
    }
}

impl fmt::Debug for SealedBackup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedBackup(version {}, {} bytes)", self.version, self.sealed.len())
    }
}
