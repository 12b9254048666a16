//! The certificate that a front shows.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};
use thiserror::Error;

/// The name in a certificate that is made here. Nobody looks at it.
const NAME: &str = "offhook-directory";

/// Why there is no certificate.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// One cannot be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// The text is not PEM (RFC 7468), or holds no certificate or no private key.
    #[error("not the PEM of a certificate and its private key: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// The certificate chain is empty, or the key is of another kind or another certificate's.
    #[error("the certificate and the private key do not fit: {0}")]
    Mismatch(#[from] rustls::Error),
    /// There is no certificate.
    #[error("no certificate")]
    Empty,
}

/// A certificate with its private key.
#[derive(Clone)]
pub struct FrontIdentity {
    key: Arc<CertifiedKey>,
    pin: [u8; 32],
}

impl fmt::Debug for FrontIdentity {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FrontIdentity")
    }
}

impl FrontIdentity {
    /// Makes a key and a certificate that it signs itself: the PEM of both, to be kept secret.
    ///
    /// # Errors
    /// [`IdentityError::Make`].
    pub fn make_pem() -> Result<String, IdentityError> {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed([NAME.to_owned()])?;
        Ok(cert.pem() + &signing_key.serialize_pem())
    }

    /// From PEM: the certificate, followed by those that vouch for it, and the private key (PKCS #8, PKCS #1 or SEC 1).
    /// One text may hold both.
    ///
    /// # Errors
    /// An [`IdentityError`].
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self, IdentityError> {
        let chain = CertificateDer::pem_slice_iter(certificates).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(key)?;
        let first = chain.first().ok_or(IdentityError::Empty)?;
        let pin = Sha256::digest(first.as_ref()).into();
        let provider = rustls::crypto::ring::default_provider();
        Ok(Self { key: Arc::new(CertifiedKey::from_der(chain, key, &provider)?), pin })
    }

    /// SHA-256 of the DER encoding of the certificate: what a ticket tells its holder to expect.
    pub fn pin(&self) -> [u8; 32] {
        self.pin
    }

    pub(super) fn key(&self) -> Arc<CertifiedKey> {
        self.key.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_can_be_kept_and_read_again() {
        let pem = FrontIdentity::make_pem().unwrap();
        let read = || FrontIdentity::from_pem(pem.as_bytes(), pem.as_bytes()).unwrap();
        assert_eq!(read().pin(), read().pin());
        let other = FrontIdentity::make_pem().unwrap();
        assert_ne!(FrontIdentity::from_pem(other.as_bytes(), other.as_bytes()).unwrap().pin(), read().pin());
        let mixed = FrontIdentity::from_pem(pem.as_bytes(), other.as_bytes());
        assert!(matches!(mixed, Err(IdentityError::Mismatch(_))), "{mixed:?}");
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let pem = FrontIdentity::make_pem().unwrap();
        let half = pem.split("-----BEGIN PRIVATE").next().unwrap();
        assert!(matches!(
            FrontIdentity::from_pem(half.as_bytes(), half.as_bytes()),
            Err(IdentityError::Pem(_))
        ));
        assert!(matches!(FrontIdentity::from_pem(b"", pem.as_bytes()), Err(IdentityError::Empty)));
        assert!(FrontIdentity::from_pem(&pem.as_bytes()[..100], pem.as_bytes()).is_err());
    }
}
