//! Signing and sealing of packets.
//!
//! A blob is sealed by HPKE (RFC 9180) as [`Kind`] says. Inside is a [`Signed`] envelope around the packet, by the sender's
//! terminal key, which authenticates the sender, and binds the receiver ([`Packet::to`]).

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use super::{CallId, Introduction, LimitError, Packet};
use crate::identity::{CertError, IdentityId, SealKey, SealPublic, TerminalCert, TerminalId, TerminalKey};
use crate::number::{NodeAddr, Number, RecordKey};
use crate::proof::{ChosenCert, ProofError, ProofTask};
use crate::sealed::{BadKey, Kind, OVERHEAD, Unopened};
use crate::wire::{self, Signed, UnixMillis, domain};

const KIND: Kind = Kind { info: domain::SIGNAL, version: 1 };
/// Bytes of a blob. Every message at its own limit together with an introduction fits.
pub const MAX_BLOB_BYTES: usize = 8 * 1024;

/// Why a packet cannot be sealed. Our own fault, or the receiver's record holds a useless key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SealError {
    /// The key does not belong to the terminal that the packet names as its sender.
    #[error("the packet is not from the terminal whose key signs")]
    NotOurs,
    /// A part of the packet is beyond its limit.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The blob would be larger than [`MAX_BLOB_BYTES`].
    #[error("the packet is too large")]
    TooLarge,
    /// The receiver's public key is not usable.
    #[error("the receiver's key is not usable")]
    BadKey,
}

/// Why a blob is refused. Always the sender's fault, but for [`OpenError::NotForUs`] and
/// [`OpenError::UnknownDialog`], which happen after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// Larger than [`MAX_BLOB_BYTES`].
    #[error("the blob is too large")]
    TooLarge,
    /// Of a version that we do not know, or too short.
    #[error("not a sealed packet of a known version")]
    Version,
    /// Not sealed to this terminal's key, or damaged.
    #[error("not sealed to this terminal, or damaged")]
    Sealed,
    /// Not the encoding of a packet.
    #[error("malformed packet")]
    Malformed,
    /// A part of the packet is beyond its limit.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// Meant for another terminal.
    #[error("meant for another terminal")]
    NotForUs,
    /// The signature is not by the terminal that the packet names as its sender.
    #[error("bad signature")]
    Signature,
    /// Without an introduction, and of a dialog that we do not know.
    #[error("belongs to no known call")]
    UnknownDialog,
    /// The introduction's certificate is bad.
    #[error("bad certificate")]
    Cert(#[from] CertError),
    /// The introduction's certificate is for another terminal or another identity.
    #[error("the certificate is for somebody else")]
    CertMismatch,
    /// The introduction's number proof is not even worth its slow check.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

/// What an introduction says, its certificate verified. The number is *not* proven before `proof` has been run.
#[derive(Clone)]
pub struct VerifiedIntro {
    /// Number that the sender claims.
    pub number: Number,
    /// The sender's account.
    pub identity: IdentityId,
    /// The sending terminal's certificate, signed by `identity`, for the terminal that signed the packet.
    pub cert: TerminalCert,
    /// Directories through which the sender says it is reached.
    pub routes: Vec<NodeAddr>,
    /// Where the records of `number` lie; for a chosen number this names the directory that issued it.
    pub record_key: RecordKey,
    /// The slow check that `number` belongs to `identity`. Not needed for an identity that is pinned to the
    /// number.
    pub proof: ProofTask,
    /// A chosen number of the same account, certified by the directory that it names and valid now. Whether that directory is the one
    /// behind the number's `@`, and whether the number has gone to somebody else since, is for the receiver to find out.
    pub chosen: Option<ChosenCert>,
}

impl VerifiedIntro {
    /// The same with the chosen number in the place of the other; `None` if there is none.
    #[must_use]
    pub fn by_chosen(&self) -> Option<Self> {
        let cert = self.chosen.as_ref()?;
        let record_key = cert.number.record_key(Some(&cert.directory))?;
        Some(Self { number: cert.number.clone(), record_key, ..self.clone() })
    }
}

impl fmt::Debug for VerifiedIntro {
    /// Neither number nor routes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedIntro").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// A packet, opened and verified to be from the terminal [`Packet::from`].
#[derive(Clone, Debug)]
pub struct Opened {
    /// The packet.
    pub packet: Packet,
    /// SHA-256 of the signed payload as it was received.
    pub payload_hash: [u8; 32],
    /// The packet's introduction, verified. `Some` exactly when [`Packet::intro`] is.
    pub intro: Option<Arc<VerifiedIntro>>,
}

/// Signs `packet` by the sender's key and seals it to the receiving terminal.
///
/// `seed`: 32 bytes from a cryptographic random source, new for every blob.
///
/// # Errors
/// See [`SealError`]; nothing depends on the network.
pub fn seal(
    packet: &Packet,
    from: &TerminalKey,
    to: &SealPublic,
    seed: [u8; 32],
) -> Result<Vec<u8>, SealError> {
    if packet.from != from.public() {
        return Err(SealError::NotOurs);
    }
    packet.check()?;
    let envelope = wire::encode(&from.sign(domain::SIGNAL, &packet.payload()));
    seal_bytes(&envelope, to, seed)
}

/// Seals any bytes as an envelope.
pub(super) fn seal_bytes(envelope: &[u8], to: &SealPublic, seed: [u8; 32]) -> Result<Vec<u8>, SealError> {
    if envelope.len() + OVERHEAD > MAX_BLOB_BYTES {
        return Err(SealError::TooLarge);
    }
    KIND.seal(envelope, to, seed).map_err(|BadKey| SealError::BadKey)
}

/// Opens a blob that arrived for the terminal `my_id`, and verifies everything but the slow number proof.
///
/// A packet without an introduction is looked at further only if `known` knows its dialog
/// ([`crate::call::Calls::knows`]). `now` is for the validity of certificates.
///
/// # Errors
/// See [`OpenError`]. The cheap checks come first.
pub fn open(
    blob: &[u8],
    me: &SealKey,
    my_id: &TerminalId,
    known: &dyn Fn(&CallId, &TerminalId) -> bool,
    now: UnixMillis,
) -> Result<Opened, OpenError> {
    unseal(blob, me, my_id)?.verify(known, now)
}

/// The second half of [`open`]: verifies an envelope that has been unsealed.
///
/// # Errors
/// See [`OpenError`].
pub fn open_envelope(
    envelope: &[u8],
    my_id: &TerminalId,
    known: &dyn Fn(&CallId, &TerminalId) -> bool,
    now: UnixMillis,
) -> Result<Opened, OpenError> {
    Unverified::of(envelope, my_id)?.verify(known, now)
}

/// The first half of [`open`]: what a blob claims, of which nothing has been verified. To decide by it whether verifying is worth its
/// price.
///
/// # Errors
/// See [`OpenError`].
pub fn unseal(blob: &[u8], me: &SealKey, my_id: &TerminalId) -> Result<Unverified, OpenError> {
    Unverified::of(&unseal_envelope(blob, me)?, my_id)
}

/// A packet within its limits, for this terminal. Anybody may have written it.
pub struct Unverified {
    signed: Signed,
    packet: Packet,
}

impl Unverified {
    fn of(envelope: &[u8], my_id: &TerminalId) -> Result<Self, OpenError> {
        let signed: Signed = wire::decode(envelope, MAX_BLOB_BYTES).map_err(|_| OpenError::Malformed)?;
        let packet: Packet =
            wire::decode(signed.payload_unverified(), MAX_BLOB_BYTES).map_err(|_| OpenError::Malformed)?;
        packet.check()?;
        if packet.to == *my_id { Ok(Self { signed, packet }) } else { Err(OpenError::NotForUs) }
    }

    /// What it claims.
    #[must_use]
    pub fn claims(&self) -> &Packet {
        &self.packet
    }

    /// Verifies everything but the slow number proof; `known` and `now` as for [`open`].
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn verify(
        self,
        known: &dyn Fn(&CallId, &TerminalId) -> bool,
        now: UnixMillis,
    ) -> Result<Opened, OpenError> {
        let Self { signed, packet } = self;
        if packet.intro.is_none() && !known(&packet.call, &packet.from) {
            return Err(OpenError::UnknownDialog);
        }
        let payload =
            signed.verify(packet.from.as_bytes(), domain::SIGNAL).map_err(|_| OpenError::Signature)?;
        let payload_hash = Sha256::digest(payload).into();
        let intro = match &packet.intro {
            Some(intro) => Some(Arc::new(verify_intro(intro, &packet.from, now)?)),
            None => None,
        };
        Ok(Opened { packet, payload_hash, intro })
    }
}

impl fmt::Debug for Unverified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Unverified").field(&self.packet.kind()).finish()
    }
}

fn unseal_envelope(blob: &[u8], me: &SealKey) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    if blob.len() > MAX_BLOB_BYTES {
        return Err(OpenError::TooLarge);
    }
    KIND.open(blob, me).map_err(|error| match error {
        Unopened::Version => OpenError::Version,
        Unopened::Sealed => OpenError::Sealed,
    })
}

fn verify_intro(
    intro: &Introduction,
    from: &TerminalId,
    now: UnixMillis,
) -> Result<VerifiedIntro, OpenError> {
    let cert = intro.cert.verify(now)?;
    if cert.terminal != *from || cert.identity != intro.identity {
        return Err(OpenError::CertMismatch);
    }
    verify_certified(intro, cert, now)
}

/// Verifies the rest of an introduction whose certificate has been found good for its sender and its identity.
///
/// # Errors
/// [`OpenError::CertMismatch`] for a chosen number of somebody else, or [`OpenError::Proof`].
pub(crate) fn verify_certified(
    intro: &Introduction,
    cert: TerminalCert,
    now: UnixMillis,
) -> Result<VerifiedIntro, OpenError> {
    let chosen = match intro.chosen.as_ref().map(|cert| cert.verify(now)) {
        Some(Ok(cert)) if cert.identity == intro.identity => Some(cert),
        Some(Ok(_)) => return Err(OpenError::CertMismatch),
        // Clocks differ, and there is the other number.
        Some(Err(ProofError::Untimely)) | None => None,
        Some(Err(error)) => return Err(error.into()),
    };
    let (record_key, proof) = intro.proof.check_held(&intro.number, &intro.identity, now)?;
    Ok(VerifiedIntro {
        number: intro.number.clone(),
        identity: intro.identity,
        cert,
        routes: intro.routes.clone(),
        record_key,
        proof,
        chosen,
    })
}
