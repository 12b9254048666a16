//! Encoding: CBOR (RFC 8949), signed envelopes, time stamps.
//!
//! Everything that crosses the network is CBOR with integer keys. A reader ignores keys that it does not
//! know, so that later versions can add fields; what changes the meaning of old fields gets a new domain
//! string instead.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Domain strings of everything that is signed or hashed. No signature or hash made for one of them is valid
/// for another one. The number at the end is the version of the format.
pub mod domain {
    /// Certificate of a terminal, signed by the identity key.
    pub const TERMINAL_CERT: &str = "offhook/terminal-cert/1";
    /// Certificate of a chosen number, signed by a directory's key.
    pub const CHOSEN_CERT: &str = "offhook/chosen-cert/1";
    /// Account record, signed by the identity key.
    pub const ACCOUNT_RECORD: &str = "offhook/account-record/1";
    /// Terminal record, signed by the terminal's key.
    pub const TERMINAL_RECORD: &str = "offhook/terminal-record/1";
    /// Signalling packet, signed by the terminal's key.
    pub const SIGNAL: &str = "offhook/signal/1";
    /// Hash of a plain number that gives its record key.
    pub const PLAIN_NUMBER: &str = "offhook/number/plain/1";
    /// Hash of a directory's key and a chosen number that gives its record key.
    pub const CHOSEN_NUMBER: &str = "offhook/number/chosen/1";
    /// Hash behind the words that two people compare.
    pub const VERIFICATION: &str = "offhook/verification/1";
    /// Transfer of a chosen number, signed by the identity that gives it away.
    pub const NUMBER_TRANSFER: &str = "offhook/number-transfer/1";
    /// What an account asks of a directory, signed by the identity key.
    pub const DIRECTORY_REQUEST: &str = "offhook/directory-request/1";
    /// Hash of a directory's key that begins its list of numbers.
    pub const LIST: &str = "offhook/list/1";
    /// Hash of an entry of that list.
    pub const LIST_ENTRY: &str = "offhook/list-entry/1";
    /// Head of that list, signed by the directory's key.
    pub const LIST_HEAD: &str = "offhook/list-head/1";
    /// Description of a directory, signed by its key.
    pub const DESCRIPTOR: &str = "offhook/descriptor/1";
    /// Hash of a directory's key under which its descriptor lies in the DHT.
    pub const DESCRIPTOR_KEY: &str = "offhook/descriptor-key/1";
    /// Hash that makes a backup's key of what ID and password give.
    pub const BACKUP_KEY: &str = "offhook/backup-key/1";
    /// Associated data of a sealed backup.
    pub const BACKUP: &str = "offhook/backup/1";
    /// Hash that makes the second key to a backup of the identity, and its associated data.
    pub const RECOVERY: &str = "offhook/recovery/1";
    /// Hash by which an account record names a directory to the account alone.
    pub const BACKUP_AT: &str = "offhook/backup-at/1";
    /// Hash of an identity key that names its mailbox.
    pub const MAILBOX: &str = "offhook/mailbox/1";
    /// Piece of a letter, signed by the sending terminal's key; what it is sealed as.
    pub const LETTER: &str = "offhook/letter/1";
    /// Entry into a mailbox, signed by the key of one of its owner's terminals; the MAC of a challenge to do so.
    pub const MAILBOX_ENTRY: &str = "offhook/mailbox-entry/1";
    /// Says which directory a node belongs to, signed by the directory's key.
    pub const MAILBOX_NODE: &str = "offhook/mailbox-node/1";
    /// MACs that make tokens for deposits.
    pub const DEPOSIT_TOKEN: &str = "offhook/deposit-token/1";
    /// Puzzles: what they are for, the MAC of a challenge, and what is hashed.
    pub const PUZZLE: &str = "offhook/puzzle/1";
}

/// Milliseconds since 1970-01-01 UTC. The time of everything that is signed.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct UnixMillis(#[n(0)] pub u64);

impl UnixMillis {
    /// The time `duration` later; stays at the end of time instead of wrapping.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// Whether half of the time from `begin` to `end` is over.
    #[must_use]
    pub fn is_past_middle(self, begin: Self, end: Self) -> bool {
        self.since(begin) >= end.since(begin) / 2
    }

    /// How long this is after `earlier`; zero if it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// How far the clock of whoever signed something may be ahead of ours. What lies further in the future is
/// refused, so that nobody can reserve the highest sequence for ever.
pub const MAX_CLOCK_AHEAD: Duration = Duration::from_secs(600);

/// Why bytes are not an encoding of what was expected. Always the sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WireError {
    /// More bytes than the format permits.
    #[error("{len} bytes where at most {max} are permitted")]
    TooLarge {
        /// Bytes received.
        len: usize,
        /// Bytes permitted.
        max: usize,
    },
    /// Not CBOR, a field missing, of the wrong type or with a value that is not permitted.
    #[error("malformed encoding")]
    Malformed,
    /// Bytes follow the encoded value.
    #[error("{0} bytes after the end of the encoding")]
    Trailing(usize),
}

/// The address as everybody writes it: a socket for both families tells of IPv4 in IPv4-mapped addresses (RFC 4291 section 2.5.5.2).
#[must_use]
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// Encodes `value` as CBOR.
pub fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    minicbor::to_vec(value)
        .expect("writing to a Vec cannot fail, and no encoder of this crate refuses a value")
}

/// Decodes one CBOR value that fills `bytes` exactly.
///
/// # Errors
/// [`WireError::TooLarge`] beyond `max` bytes (looked at first), [`WireError::Malformed`], or
/// [`WireError::Trailing`].
pub fn decode<'b, T: Decode<'b, ()>>(bytes: &'b [u8], max: usize) -> Result<T, WireError> {
    if bytes.len() > max {
        return Err(WireError::TooLarge { len: bytes.len(), max });
    }
    let mut decoder = minicbor::Decoder::new(bytes);
    let value = decoder.decode().map_err(|_| WireError::Malformed)?;
    match bytes.len() - decoder.position() {
        0 => Ok(value),
        rest => Err(WireError::Trailing(rest)),
    }
}

/// The signature does not fit the key, the domain and the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("bad signature")]
pub struct BadSignature;

/// A signed envelope: CBOR map {0: payload, 1: signature}, both byte strings.
///
/// The Ed25519 signature (RFC 8032) covers `domain || 0x00 || payload`. The payload is kept as it was
/// received and never encoded anew, so that fields which this version doesn't know stay signed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(map)]
pub struct Signed {
    #[cbor(n(0), with = "minicbor::bytes")]
    payload: Vec<u8>,
    #[cbor(n(1), with = "minicbor::bytes")]
    signature: [u8; 64],
}

impl Signed {
    /// Signs `payload` for `domain`. Deterministic.
    pub(crate) fn sign(key: &SigningKey, domain: &str, payload: &[u8]) -> Self {
        let signature = key.sign(&signed_bytes(domain, payload)).to_bytes();
        Self { payload: payload.to_vec(), signature }
    }

    /// Checks the signature by the Ed25519 public key `key` and returns the payload.
    ///
    /// Strict: keys of small order and signatures that another verifier might judge differently are refused
    /// (`verify_strict`), because storing nodes must all come to the same verdict.
    ///
    /// # Errors
    /// [`BadSignature`], also when `key` is no point on the curve.
    pub fn verify(&self, key: &[u8; 32], domain: &str) -> Result<&[u8], BadSignature> {
        let key = VerifyingKey::from_bytes(key).map_err(|_| BadSignature)?;
        key.verify_strict(&signed_bytes(domain, &self.payload), &Signature::from_bytes(&self.signature))
            .map_err(|_| BadSignature)?;
        Ok(&self.payload)
    }

    /// The payload, whoever signed it. Needed to learn which key to verify with.
    pub fn payload_unverified(&self) -> &[u8] {
        &self.payload
    }

    /// The signature, unverified.
    pub fn signature(&self) -> &[u8; 64] {
        &self.signature
    }

    /// Length of the encoded envelope in bytes.
    pub fn encoded_len(&self) -> usize {
        encode(self).len()
    }
}

impl fmt::Debug for Signed {
    /// Prints the length only: payloads contain numbers and addresses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signed({} bytes)", self.payload.len())
    }
}

/// SHA-256 of `domain || 0x00 || parts`. The parts before the last have a fixed length.
pub(crate) fn hash(domain: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(domain.as_bytes());
    hash.update([0]);
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

fn signed_bytes(domain: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(domain.len() + 1 + payload.len());
    bytes.extend_from_slice(domain.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DOMAIN: &str = domain::SIGNAL;

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[3; 32])
    }

    fn public() -> [u8; 32] {
        key().verifying_key().to_bytes()
    }

    #[test]
    fn a_signature_is_good_for_one_key_one_domain_and_one_payload() {
        let signed = Signed::sign(&key(), DOMAIN, b"payload");
        assert_eq!(signed.verify(&public(), DOMAIN), Ok(&b"payload"[..]));
        assert_eq!(signed.verify(&public(), domain::TERMINAL_CERT), Err(BadSignature));
        let other = SigningKey::from_bytes(&[4; 32]).verifying_key().to_bytes();
        assert_eq!(signed.verify(&other, DOMAIN), Err(BadSignature));
        let moved = Signed { payload: b"payloae".to_vec(), ..signed.clone() };
        assert_eq!(moved.verify(&public(), DOMAIN), Err(BadSignature));
        // 2 is the y of no point on the curve.
        let no_point = std::array::from_fn(|i| if i == 0 { 2 } else { 0 });
        assert_eq!(signed.verify(&no_point, DOMAIN), Err(BadSignature));
    }

    #[test]
    fn domain_and_payload_cannot_run_into_each_other() {
        let signed = Signed::sign(&key(), "ab", b"c");
        let shifted = Signed { payload: b"bc".to_vec(), ..signed };
        assert_eq!(shifted.verify(&public(), "a"), Err(BadSignature));
    }

    #[test]
    fn debug_shows_no_payload() {
        let signed = Signed::sign(&key(), DOMAIN, b"482109375567");
        assert_eq!(format!("{signed:?}"), "Signed(12 bytes)");
    }

    #[test]
    fn times_stay_within_their_range() {
        assert_eq!(UnixMillis(5).plus(Duration::from_secs(1)), UnixMillis(1005));
        assert_eq!(UnixMillis(u64::MAX - 1).plus(Duration::MAX), UnixMillis(u64::MAX));
        assert_eq!(UnixMillis(1005).since(UnixMillis(5)), Duration::from_secs(1));
        assert_eq!(UnixMillis(5).since(UnixMillis(1005)), Duration::ZERO);
        assert_eq!(serde_json::to_string(&UnixMillis(7)).unwrap(), "7");
    }

    #[test]
    fn decoding_tells_what_is_wrong() {
        let bytes = encode(&UnixMillis(300));
        assert_eq!(decode(&bytes, 3), Ok(UnixMillis(300)));
        assert_eq!(decode::<UnixMillis>(&bytes, 2), Err(WireError::TooLarge { len: 3, max: 2 }));
        assert_eq!(decode::<UnixMillis>(&bytes[..2], 3), Err(WireError::Malformed));
        assert_eq!(decode::<UnixMillis>(&[1, 2, 3], 3), Err(WireError::Trailing(2)));
        assert_eq!(decode::<UnixMillis>(&[], 3), Err(WireError::Malformed));
    }

    proptest! {
        #[test]
        fn envelopes_survive_encoding(payload in proptest::collection::vec(any::<u8>(), 0..300)) {
            let signed = Signed::sign(&key(), DOMAIN, &payload);
            let bytes = encode(&signed);
            prop_assert_eq!(signed.encoded_len(), bytes.len());
            let decoded: Signed = decode(&bytes, bytes.len()).unwrap();
            prop_assert_eq!(encode(&decoded), bytes);
            prop_assert_eq!(decoded.verify(&public(), DOMAIN), Ok(&payload[..]));
        }

        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(signed) = decode::<Signed>(&bytes, 4096) {
                prop_assert!(signed.verify(&public(), DOMAIN).is_err());
            }
        }
    }
}
