//! Sealing to a public key by HPKE (RFC 9180), for everything that is sealed so.
//!
//! Base mode with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and ChaCha20Poly1305. A blob is
//! `version (1 byte) || encapsulated key (32) || ciphertext`; the version byte is the associated data, and `info` says what is
//! sealed. Base mode, because a signature inside authenticates the sender, and binds the receiver.

use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use zeroize::Zeroizing;

use crate::identity::{SealKey, SealPublic};

const KEY_BYTES: usize = 32;
const TAG_BYTES: usize = 16;
const HEADER_BYTES: usize = 1 + KEY_BYTES;

/// How many bytes longer than what is in it a blob is.
pub(crate) const OVERHEAD: usize = HEADER_BYTES + TAG_BYTES;

/// What is sealed, and in which version.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// HPKE's `info`.
    pub info: &'static str,
    /// First byte of a blob.
    pub version: u8,
}

/// The receiver's public key is not usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadKey;

/// Why a blob does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unopened {
    /// Of a version that we do not know, or too short.
    Version,
    /// Not sealed to this key, or damaged.
    Sealed,
}

impl Kind {
    /// Seals `plain` to the key `to`. Equal arguments give equal blobs.
    ///
    /// `seed`: 32 bytes from a cryptographic random source, never used for anything else that is sealed.
    pub fn seal(self, plain: &[u8], to: &SealPublic, seed: [u8; 32]) -> Result<Vec<u8>, BadKey> {
        let receiver = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(to.as_bytes()).map_err(|_| BadKey)?;
        let mut rng = ChaCha20Rng::from_seed(seed);
        let (key, ciphertext) =
            hpke::single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
                &OpModeS::Base,
                &receiver,
                self.info.as_bytes(),
                plain,
                &[self.version],
                &mut rng,
            )
            .map_err(|_| BadKey)?;
        let mut blob = Vec::with_capacity(HEADER_BYTES + ciphertext.len());
        blob.push(self.version);
        blob.extend_from_slice(&key.to_bytes());
        blob.extend_from_slice(&ciphertext);
        Ok(blob)
    }

    /// Opens a blob with the key `me`. Its length is for the caller to bound.
    pub fn open(self, blob: &[u8], me: &SealKey) -> Result<Zeroizing<Vec<u8>>, Unopened> {
        let (header, ciphertext) = blob.split_at_checked(HEADER_BYTES).ok_or(Unopened::Version)?;
        let (version, key) = header.split_first().ok_or(Unopened::Version)?;
        if *version != self.version {
            return Err(Unopened::Version);
        }
        let key = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(key).map_err(|_| Unopened::Sealed)?;
        let secret =
            <X25519HkdfSha256 as Kem>::PrivateKey::from_bytes(me.seed()).map_err(|_| Unopened::Sealed)?;
        hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &secret,
            &key,
            self.info.as_bytes(),
            ciphertext,
            &[self.version],
        )
        .map(Zeroizing::new)
        .map_err(|_| Unopened::Sealed)
    }
}
