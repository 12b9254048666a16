//! Passwords by OPAQUE (RFC 9807), as client and directory have them in common.
//!
//! One cipher suite, that of `@serenity-kit/opaque` in browsers as well: Ristretto255 and SHA-512 for the oblivious function and the key
//! exchange (3DH), Argon2id for the client's slow hash. The credential identifier is the account's ID in its normal form; neither
//! side has another identity within OPAQUE, and there is no context.
//!
//! A password is brought into its [normal form](PreparedPassword) before anything is made of it, so that it is the same on every
//! keyboard and in every browser. The client's [`export key`](ExportKey), which the directory never learns, opens the
//! [backup](crate::backup).

use std::fmt;

use argon2_of_opaque::{Algorithm, Argon2, Params, Version};
use opaque_ke::key_exchange::tripledh::TripleDh;
use opaque_ke::rand::{CryptoRng, RngCore};
use opaque_ke::{
    CipherSuite, ClientLogin, ClientLoginFinishParameters, ClientRegistration,
    ClientRegistrationFinishParameters, CredentialResponse, Identifiers, RegistrationResponse, Ristretto255,
};
use precis_core::profile::PrecisFastInvocation as _;
use precis_profiles::OpaqueString;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::backup::BackupKey;

/// Longest password, bytes of UTF-8.
pub const MAX_PASSWORD_BYTES: usize = 1024;
/// Memory of the client's slow hash, KiB: 64 MiB.
pub const KSF_MEMORY_KIB: u32 = 64 * 1024;
/// Passes of the client's slow hash; with this memory the second recommended option of RFC 9106, section 4.
pub const KSF_PASSES: u32 = 3;
/// Lanes of the client's slow hash.
pub const KSF_LANES: u32 = 4;

/// The one cipher suite. A directory hashes nothing.
#[derive(Clone, Copy, Debug)]
pub struct Suite;

impl CipherSuite for Suite {
    type OprfCs = Ristretto255;
    type KeGroup = Ristretto255;
    type KeyExchange = TripleDh;
    type Ksf = Argon2<'static>;
}

/// Why a text is no password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PasswordError {
    /// Nothing was typed.
    #[error("it is empty")]
    Empty,
    /// Longer than [`MAX_PASSWORD_BYTES`].
    #[error("it is longer than 1024 bytes")]
    TooLong,
    /// Refused by the profile.
    #[error("it contains control characters")]
    Controls,
}

/// A password in the normal form of the OpaqueString profile (RFC 8265, section 4.2), erased when dropped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct PreparedPassword(String);

impl PreparedPassword {
    /// Takes what was typed.
    ///
    /// # Errors
    /// [`PasswordError`].
    pub fn new(typed: &str) -> Result<Self, PasswordError> {
        if typed.is_empty() {
            return Err(PasswordError::Empty);
        }
        if typed.len() > MAX_PASSWORD_BYTES {
            return Err(PasswordError::TooLong);
        }
        let normal = OpaqueString::enforce(typed).map_err(|_| PasswordError::Controls)?;
        Ok(Self(normal.into_owned()))
    }

    /// The bytes that are hashed.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for PreparedPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PreparedPassword(..)")
    }
}

/// Why the client's side cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OpaqueError {
    /// The directory's message is none, or does not fit.
    #[error("a malformed message of OPAQUE's")]
    Malformed,
    /// ID or password is wrong. Which, nobody can tell.
    #[error("ID or password is wrong")]
    WrongPassword,
    /// The system has no memory for the slow hash.
    #[error("the password could not be hashed")]
    Hash,
}

/// What ID and password give, the same at sign-up and at every log-in, and to nobody else. Erased when dropped.
#[derive(Clone)]
pub struct ExportKey(Zeroizing<[u8; 64]>);

impl ExportKey {
    fn new(bytes: &[u8]) -> Result<Self, OpaqueError> {
        let bytes: [u8; 64] = bytes.try_into().map_err(|_| OpaqueError::Malformed)?;
        Ok(Self(Zeroizing::new(bytes)))
    }

    /// The key to the account's backup: the only use of the export key.
    #[must_use]
    pub fn backup_key(&self) -> BackupKey {
        BackupKey::from_export_key(&self.0)
    }
}

impl fmt::Debug for ExportKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExportKey(..)")
    }
}

/// The client's slow hash.
fn slow_hash() -> Argon2<'static> {
    let params = Params::new(KSF_MEMORY_KIB, KSF_PASSES, KSF_LANES, None)
        .expect("the constants lie within the limits of RFC 9106 section 3.1");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// A registration that waits for the directory's answer.
pub struct Registration {
    state: ClientRegistration<Suite>,
    password: PreparedPassword,
}

/// A registration's end: what is sent to the directory, and the key.
pub struct Registered {
    /// The last message, by which the directory will know the password.
    pub upload: Vec<u8>,
    /// What ID and password give from now on.
    pub export_key: ExportKey,
}

impl Registration {
    /// Begins, with the message to send.
    ///
    /// # Errors
    /// [`OpaqueError::Malformed`] if the random source gives nonsense.
    pub fn start<R: RngCore + CryptoRng>(
        rng: &mut R,
        password: PreparedPassword,
    ) -> Result<(Self, Vec<u8>), OpaqueError> {
        let started = ClientRegistration::<Suite>::start(rng, password.as_bytes());
        let started = started.map_err(|_| OpaqueError::Malformed)?;
        let message = started.message.serialize().to_vec();
        Ok((Self { state: started.state, password }, message))
    }

    /// Goes on with the directory's answer: a slow hash, a good part of a second and 64 MiB.
    ///
    /// # Errors
    /// [`OpaqueError`].
    pub fn finish<R: RngCore + CryptoRng>(
        self,
        rng: &mut R,
        response: &[u8],
    ) -> Result<Registered, OpaqueError> {
        let response = RegistrationResponse::deserialize(response).map_err(|_| OpaqueError::Malformed)?;
        let hash = slow_hash();
        let parameters = ClientRegistrationFinishParameters::new(Identifiers::default(), Some(&hash));
        let finished = self.state.finish(rng, self.password.as_bytes(), response, parameters);
        let finished = finished.map_err(|_| OpaqueError::Hash)?;
        let export_key = ExportKey::new(&finished.export_key)?;
        Ok(Registered { upload: finished.message.serialize().to_vec(), export_key })
    }
}

/// A log-in that waits for the directory's answer.
pub struct Login {
    state: ClientLogin<Suite>,
    password: PreparedPassword,
}

/// A log-in's end: what is sent to the directory, and the key.
pub struct LoggedIn {
    /// The last message, which shows that the password is known.
    pub finish: Vec<u8>,
    /// What ID and password give.
    pub export_key: ExportKey,
}

impl Login {
    /// Begins, with the message to send.
    ///
    /// # Errors
    /// [`OpaqueError::Malformed`] if the random source gives nonsense.
    pub fn start<R: RngCore + CryptoRng>(
        rng: &mut R,
        password: PreparedPassword,
    ) -> Result<(Self, Vec<u8>), OpaqueError> {
        let started = ClientLogin::<Suite>::start(rng, password.as_bytes());
        let started = started.map_err(|_| OpaqueError::Malformed)?;
        let message = started.message.serialize().to_vec();
        Ok((Self { state: started.state, password }, message))
    }

    /// Goes on with the directory's answer: a slow hash, a good part of a second and 64 MiB. It shows whether the password is right.
    ///
    /// # Errors
    /// [`OpaqueError::WrongPassword`] for an unknown ID, too; [`OpaqueError::Malformed`].
    pub fn finish(self, response: &[u8]) -> Result<LoggedIn, OpaqueError> {
        let response = CredentialResponse::deserialize(response).map_err(|_| OpaqueError::Malformed)?;
        let hash = slow_hash();
        let parameters = ClientLoginFinishParameters::new(None, Identifiers::default(), Some(&hash));
        let finished = self.state.finish(self.password.as_bytes(), response, parameters);
        let finished = finished.map_err(|_| OpaqueError::WrongPassword)?;
        let export_key = ExportKey::new(&finished.export_key)?;
        Ok(LoggedIn { finish: finished.message.serialize().to_vec(), export_key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_same_from_every_keyboard_and_bounded() {
        let password = |typed: &str| PreparedPassword::new(typed);
        assert_eq!(password("caf\u{e9}"), password("cafe\u{301}"));
        assert_ne!(password("Correct horse"), password("correct horse"), "its case counts");
        assert_eq!(password(""), Err(PasswordError::Empty));
        assert_eq!(password("a\nb"), Err(PasswordError::Controls));
        assert_eq!(password(&"x".repeat(1025)), Err(PasswordError::TooLong));
        assert!(!format!("{:?}", password("hunter2")).contains("hunter2"));
    }

    #[test]
    fn the_slow_hash_is_the_one_that_browsers_compute() {
        // @serenity-kit/opaque's "memory-constrained" key stretching: RFC 9106's second recommended option.
        let hash = slow_hash();
        let params = hash.params();
        assert_eq!((params.m_cost(), params.t_cost(), params.p_cost()), (65_536, 3, 4));
    }
}
