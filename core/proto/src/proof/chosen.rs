//! Certificates of chosen numbers.

use std::time::Duration;

use minicbor::{Decode, Encode};

use super::ProofError;
use crate::identity::{DirectoryId, DirectoryKey, IdentityId};
use crate::number::{ChosenNumber, Number};
use crate::record::ACCOUNT_LIFETIME;
use crate::wire::{self, MAX_CLOCK_AHEAD, Signed, UnixMillis, domain};

/// For how long a directory certifies a chosen number. Renewed from half of that on, so that a directory may be off line
/// for three months before anybody's certificate ends.
pub const CHOSEN_LIFETIME: Duration = Duration::from_secs(180 * 86_400);
/// Most chosen numbers that a directory should give to one identity.
pub const MAX_CHOSEN_NUMBERS: usize = 8;
/// Longest validity of a chosen number's certificate: two years and a month.
pub const CHOSEN_MAX_LIFETIME: Duration = Duration::from_secs(761 * 86_400);
/// Most bytes that an encoded certificate of a chosen number may have.
pub const MAX_CHOSEN_CERT_BYTES: usize = 768;

/// What a directory says: `number` belongs to `identity` between the two times.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub struct ChosenCert {
    /// The full form, with the directory's name.
    #[n(0)]
    pub number: Number,
    /// Whose number it is.
    #[n(1)]
    pub identity: IdentityId,
    /// Who issued it. The number's record key depends on it, so nobody else's certificate counts.
    #[n(2)]
    pub directory: DirectoryId,
    /// Time of issue.
    #[n(3)]
    pub issued: UnixMillis,
    /// Last moment at which an account record may be signed with it. The record outlives it: see
    /// [`record`](crate::record).
    #[n(4)]
    pub expires: UnixMillis,
}

impl ChosenCert {
    /// Whether it is time to have it renewed: half of its validity is over.
    #[must_use]
    pub fn renewal_due(&self, now: UnixMillis) -> bool {
        now.is_past_middle(self.issued, self.expires)
    }

    /// Last moment at which an account record can be valid that was signed with it. Before that, nobody else gets the
    /// number without a [transfer](super::SignedTransfer): nodes and callers would not take the new owner's record.
    #[must_use]
    pub fn held_until(&self) -> UnixMillis {
        self.expires.plus(ACCOUNT_LIFETIME)
    }
}

/// A [`ChosenCert`] under the directory's signature.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct SignedChosenCert(#[n(0)] Signed);

impl SignedChosenCert {
    /// Certifies for [`CHOSEN_LIFETIME`] from `now` that `number`, in its full form, belongs to `identity`. Who may have it is
    /// for the directory to know.
    ///
    /// # Errors
    /// [`ProofError::Kind`] if the number is not in its full form.
    pub fn certify(
        key: &DirectoryKey,
        number: &ChosenNumber,
        identity: IdentityId,
        now: UnixMillis,
    ) -> Result<Self, ProofError> {
        number.directory().ok_or(ProofError::Kind)?;
        let (number, directory) = (Number::Chosen(number.clone()), key.public());
        let cert =
            ChosenCert { number, identity, directory, issued: now, expires: now.plus(CHOSEN_LIFETIME) };
        Ok(Self::issue(key, &cert))
    }

    /// Signs exactly what `cert` says; [`SignedChosenCert::verify`] judges whether that is permitted.
    #[must_use]
    pub fn issue(key: &DirectoryKey, cert: &ChosenCert) -> Self {
        Self(key.sign(domain::CHOSEN_CERT, &wire::encode(cert)))
    }

    /// Checks size, signature, and that an account record may be signed with the certificate at the time `at`.
    ///
    /// # Errors
    /// [`ProofError::Malformed`], [`ProofError::BadSignature`], [`ProofError::Kind`] if it names no chosen
    /// number in its full form, [`ProofError::Untimely`].
    pub fn verify(&self, at: UnixMillis) -> Result<ChosenCert, ProofError> {
        self.verify_within(at, Duration::ZERO)
    }

    /// The same at a time at which the number may still be held: a record that was signed in the certificate's last moment
    /// keeps the number for the record's own life.
    ///
    /// # Errors
    /// As [`SignedChosenCert::verify`].
    pub fn verify_held(&self, now: UnixMillis) -> Result<ChosenCert, ProofError> {
        self.verify_within(now, ACCOUNT_LIFETIME)
    }

    fn verify_within(&self, at: UnixMillis, after: Duration) -> Result<ChosenCert, ProofError> {
        if self.0.encoded_len() > MAX_CHOSEN_CERT_BYTES {
            return Err(ProofError::Malformed);
        }
        let cert: ChosenCert = wire::decode(self.0.payload_unverified(), MAX_CHOSEN_CERT_BYTES)
            .map_err(|_| ProofError::Malformed)?;
        self.0
            .verify(cert.directory.as_bytes(), domain::CHOSEN_CERT)
            .map_err(|wire::BadSignature| ProofError::BadSignature)?;
        match &cert.number {
            Number::Chosen(chosen) if chosen.directory().is_some() => {}
            Number::Chosen(_) | Number::Plain(_) => return Err(ProofError::Kind),
        }
        if cert.expires <= cert.issued || cert.expires.since(cert.issued) > CHOSEN_MAX_LIFETIME {
            return Err(ProofError::Malformed);
        }
        // The directory's clock may be ahead.
        if cert.issued > at.plus(MAX_CLOCK_AHEAD) || at > cert.expires.plus(after) {
            return Err(ProofError::Untimely);
        }
        Ok(cert)
    }
}
