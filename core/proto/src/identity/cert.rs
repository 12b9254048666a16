//! Certificates of terminals.

use std::time::Duration;

use minicbor::{Decode, Encode};
use thiserror::Error;

use super::{IdentityId, IdentityKey, SealPublic, TerminalId};
use crate::wire::{self, MAX_CLOCK_AHEAD, Signed, UnixMillis, domain};

/// How long a certificate is valid: 13 months, counted as 396 days. A yearly renewal fits in with a month to
/// spare.
pub const CERT_LIFETIME: Duration = Duration::from_secs(396 * 86_400);

/// Most bytes that an encoded certificate may have. One of version 1 has about 200.
pub const MAX_CERT_BYTES: usize = 512;

/// What a terminal's certificate says: `terminal` belongs to the account of `identity`, and signalling for it
/// is sealed to `seal`, between the two times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub struct TerminalCert {
    /// The account.
    #[n(0)]
    pub identity: IdentityId,
    /// The terminal.
    #[n(1)]
    pub terminal: TerminalId,
    /// The terminal's key for sealed signalling.
    #[n(2)]
    pub seal: SealPublic,
    /// First moment of validity: the time of issue.
    #[n(3)]
    pub not_before: UnixMillis,
    /// Last moment of validity, at most [`CERT_LIFETIME`] later.
    #[n(4)]
    pub not_after: UnixMillis,
}

/// Why a terminal's certificate is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CertError {
    /// Longer than [`MAX_CERT_BYTES`].
    #[error("certificate of {0} bytes")]
    TooLarge(usize),
    /// The content cannot be decoded.
    #[error("malformed certificate")]
    Malformed,
    /// Not signed by the identity that it names.
    #[error("certificate with a bad signature")]
    BadSignature,
    /// The validity ends before it begins or is longer than [`CERT_LIFETIME`].
    #[error("certificate with a lifetime that is not permitted")]
    Lifetime,
    /// Its time lies ahead of ours by more than clocks may differ.
    #[error("certificate is not valid yet")]
    NotYetValid,
    /// Its time is over.
    #[error("certificate has expired")]
    Expired,
}

impl CertError {
    /// Whether the certificate is sound but not valid at this time, as against forged or damaged.
    #[must_use]
    pub fn is_untimely(self) -> bool {
        match self {
            Self::NotYetValid | Self::Expired => true,
            Self::TooLarge(_) | Self::Malformed | Self::BadSignature | Self::Lifetime => false,
        }
    }
}

/// A [`TerminalCert`] under the identity's signature.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct SignedCert(#[n(0)] Signed);

impl SignedCert {
    /// Certifies `terminal` for [`CERT_LIFETIME`] from `now`.
    #[must_use]
    pub fn issue(key: &IdentityKey, terminal: TerminalId, seal: SealPublic, now: UnixMillis) -> Self {
        let not_after = now.plus(CERT_LIFETIME);
        Self::issue_exact(
            key,
            &TerminalCert { identity: key.public(), terminal, seal, not_before: now, not_after },
        )
    }

    /// Signs exactly what `cert` says. For a shorter validity than usual; [`SignedCert::verify`] judges the
    /// rest.
    #[must_use]
    pub fn issue_exact(key: &IdentityKey, cert: &TerminalCert) -> Self {
        Self(key.sign(domain::TERMINAL_CERT, &wire::encode(cert)))
    }

    /// Checks size, signature and time, and returns what the certificate says.
    ///
    /// # Errors
    /// A [`CertError`]; the untimely ones come last, after the signature was found good.
    pub fn verify(&self, now: UnixMillis) -> Result<TerminalCert, CertError> {
        let len = self.0.encoded_len();
        if len > MAX_CERT_BYTES {
            return Err(CertError::TooLarge(len));
        }
        let cert: TerminalCert =
            wire::decode(self.0.payload_unverified(), MAX_CERT_BYTES).map_err(|_| CertError::Malformed)?;
        self.0
            .verify(cert.identity.as_bytes(), domain::TERMINAL_CERT)
            .map_err(|wire::BadSignature| CertError::BadSignature)?;
        if cert.not_after <= cert.not_before || cert.not_after.since(cert.not_before) > CERT_LIFETIME {
            return Err(CertError::Lifetime);
        }
        if cert.not_before > now.plus(MAX_CLOCK_AHEAD) {
            return Err(CertError::NotYetValid);
        }
        if now > cert.not_after {
            return Err(CertError::Expired);
        }
        Ok(cert)
    }
}
