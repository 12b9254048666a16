//! Keys of accounts and terminals, and the certificates that bind them.
//!
//! An account owns an Ed25519 identity key and an X25519 mailbox key. Every terminal owns an Ed25519 key of
//! its own, the same one that makes its libp2p peer id, and an X25519 key to which signalling is sealed. A
//! [`SignedCert`] says in the identity's name that a terminal belongs to the account.
//!
//! Secret keys are erased from memory when dropped and have no `Debug`:
//!
//! ```compile_fail
//! let key = offhook_proto::identity::IdentityKey::from_seed([7; 32]);
//! println!("{key:?}");
//! ```

mod cert;
mod id;

pub use cert::{CERT_LIFETIME, CertError, MAX_CERT_BYTES, SignedCert, TerminalCert};
pub use id::{DirectoryId, Fingerprint, IdError, IdentityId, SealPublic, TerminalId};

use ed25519_dalek::SigningKey;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::ZeroizeOnDrop;

use crate::wire::Signed;

/// Public key of an account's mailbox: an X25519 key like a terminal's.
pub type MailboxPublic = SealPublic;
/// Secret key of an account's mailbox.
pub type MailboxKey = SealKey;

macro_rules! signing_key {
    ($(#[$doc:meta])* $name:ident => $id:ident) => {
        $(#[$doc])*
        #[derive(Clone, ZeroizeOnDrop)]
        pub struct $name(SigningKey);

        impl $name {
            /// The key pair of an Ed25519 seed (RFC 8032 section 5.1.5). The seed must come from a
            /// cryptographic random source.
            #[must_use]
            pub fn from_seed(seed: [u8; 32]) -> Self {
                Self(SigningKey::from_bytes(&seed))
            }

            /// The secret seed. Whoever stores it encrypts it.
            #[must_use]
            pub fn seed(&self) -> &[u8; 32] {
                self.0.as_bytes()
            }

            /// The public key.
            #[must_use]
            pub fn public(&self) -> $id {
                $id::from_bytes(self.0.verifying_key().to_bytes())
            }

            /// Signs `payload` for one of the [domains](crate::wire::domain).
            #[must_use]
            pub fn sign(&self, domain: &str, payload: &[u8]) -> Signed {
                Signed::sign(&self.0, domain, payload)
            }
        }
    };
}

signing_key! {
    /// Secret identity key of an account. Unlocked only to certify, revoke, move or back up.
    IdentityKey => IdentityId
}
signing_key! {
    /// Secret key of one terminal: signs its records and its signalling, and is its libp2p key.
    TerminalKey => TerminalId
}
signing_key! {
    /// Secret key with which a directory issues chosen numbers.
    DirectoryKey => DirectoryId
}

/// Secret X25519 key to which others seal (RFC 9180) what only this terminal or mailbox may read.
#[derive(Clone, ZeroizeOnDrop)]
pub struct SealKey(StaticSecret);

impl SealKey {
    /// The key of 32 secret bytes from a cryptographic random source; clamped when used (RFC 7748 section 5).
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(StaticSecret::from(seed))
    }

    /// The secret bytes, as given to [`SealKey::from_seed`]. Whoever stores them encrypts them.
    #[must_use]
    pub fn seed(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> SealPublic {
        SealPublic::from_bytes(PublicKey::from(&self.0).to_bytes())
    }
}

#[cfg(test)]
mod tests;
