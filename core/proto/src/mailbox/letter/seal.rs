//! How a piece of a letter is signed, padded, sealed and opened.

use std::fmt;

use minicbor::{Decode, Encode};
use thiserror::Error;
use zeroize::Zeroizing;

use super::{
    Format, Letter, LetterError, MAX_AGE, Mark, MessageId, PIECE_BYTES, check_envelope, check_lengths,
    check_mark, check_text,
};
use crate::identity::{CertError, IdentityId, MailboxKey, MailboxPublic, TerminalKey};
use crate::mailbox::contacts::Grant;
use crate::mailbox::{MAX_BLOB_BYTES, SIZE_CLASSES, is_size_class};
use crate::proof::ProofError;
use crate::sealed::{BadKey, Kind, OVERHEAD, Unopened};
use crate::signalling::{self, Introduction, VerifiedIntro, verify_certified};
use crate::wire::{self, MAX_CLOCK_AHEAD, Signed, UnixMillis, domain};

const KIND: Kind = Kind { info: domain::LETTER, version: 1 };
/// Bytes before the envelope that say how long it is; zeros follow it.
const LENGTH_BYTES: usize = 4;

/// What one piece carries.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub enum Part {
    /// A whole text.
    #[n(0)]
    Text {
        /// At most [`MAX_TEXT_BYTES`](super::MAX_TEXT_BYTES) of UTF-8.
        #[n(0)]
        body: String,
    },
    /// Some of a voice message.
    #[n(1)]
    Voice {
        /// How long all of it sounds, milliseconds.
        #[n(0)]
        duration_ms: u32,
        /// How it is written.
        #[n(1)]
        format: Format,
        /// How many bytes all of it has.
        #[n(2)]
        total: u32,
        /// SHA-256 of all of it.
        #[cbor(n(3), with = "minicbor::bytes")]
        digest: [u8; 32],
        /// Which piece this is, from 0.
        #[n(4)]
        index: u16,
        /// Its bytes: [`PIECE_BYTES`], or what is left in the last one.
        #[cbor(n(5), with = "minicbor::bytes")]
        data: Vec<u8>,
    },
    /// A whole mark.
    #[n(2)]
    Mark {
        /// What has become of them.
        #[n(0)]
        mark: Mark,
        /// Letters that the receiver of this one has sent, 1 to [`MAX_MARKED`](super::MAX_MARKED).
        #[n(1)]
        of: Vec<MessageId>,
    },
}

impl fmt::Debug for Part {
    /// What kind, not what it says.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text { .. } => f.write_str("Text"),
            Self::Voice { index, .. } => write!(f, "Voice({index})"),
            Self::Mark { mark, of } => write!(f, "Mark({mark:?} of {})", of.len()),
        }
    }
}

impl Part {
    fn check(&self) -> Result<(), LetterError> {
        match self {
            Self::Text { body } => check_text(body),
            Self::Mark { of, .. } => check_mark(of),
            Self::Voice { duration_ms, total, index, data, .. } => {
                let total = usize::try_from(*total).map_err(|_| LetterError::Voicemail)?;
                check_lengths(total, *duration_ms)?;
                let rest = total.saturating_sub(usize::from(*index) * PIECE_BYTES);
                let good = rest > 0 && data.len() == rest.min(PIECE_BYTES);
                if good { Ok(()) } else { Err(LetterError::Voicemail) }
            }
        }
    }
}

/// What is signed.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Piece {
    #[n(0)]
    id: MessageId,
    #[n(1)]
    from: Introduction,
    #[n(2)]
    to: IdentityId,
    #[n(3)]
    mailbox: MailboxPublic,
    #[n(4)]
    at: UnixMillis,
    #[n(5)]
    after: Option<MessageId>,
    #[cbor(n(6), default, skip_if = "Vec::is_empty")]
    grants: Vec<Grant>,
    /// One of a later version counts as absent.
    #[n(7)]
    part: Option<Part>,
}

impl Piece {
    pub fn check(&self) -> Result<(), LetterError> {
        check_envelope(&self.from, &self.grants)?;
        self.part.as_ref().map_or(Ok(()), Part::check)
    }
}

/// A piece of a letter, opened and verified but for the slow proof of its sender's number.
#[derive(Clone, Debug)]
pub struct Received {
    /// Which letter it is a piece of. Only together with the sender's identity it names one: anybody can take the id of
    /// another's letter.
    pub id: MessageId,
    /// Who sends it. The number is *not* proven before [`VerifiedIntro::proof`] has been run, unless the identity is pinned
    /// to it.
    pub from: VerifiedIntro,
    /// When it was written, as the sender says; neither older than [`MAX_AGE`] nor ahead of us by more than clocks may differ.
    pub at: UnixMillis,
    /// The sending terminal's letter before, see [`Letter::after`].
    pub after: Option<MessageId>,
    /// Tokens for answers. Only a contact's are of any use.
    pub grants: Vec<Grant>,
    /// What it carries.
    pub part: Part,
}

/// Why a piece cannot be sealed. Our own fault, or the receiver's record holds a useless key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SealError {
    /// The certificate in the introduction is none, or not for the terminal whose key signs.
    #[error("the letter is not from the terminal whose key signs")]
    NotOurs,
    /// A part of the letter is beyond its limit.
    #[error(transparent)]
    Letter(#[from] LetterError),
    /// The letter has no piece of this number.
    #[error("the letter has no such piece")]
    NoSuchPiece,
    /// It would be longer than [`MAX_BLOB_BYTES`]. What keeps the other limits does not come to that.
    #[error("the piece is too long")]
    TooLarge,
    /// The receiver's public key is not usable.
    #[error("the receiver's key is not usable")]
    BadKey,
}

/// Why a blob is refused. The sender's fault or the directory's, but for those of [`OpenError::may_be_good`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// Of no permitted length.
    #[error("a blob of {0} bytes")]
    Size(usize),
    /// Of a version that we do not know.
    #[error("not a sealed letter of a known version")]
    Version,
    /// Not sealed to any of our keys, or damaged.
    #[error("not sealed to this mailbox, or damaged")]
    Sealed,
    /// Not the encoding of a letter.
    #[error("malformed letter")]
    Malformed,
    /// A part of it is beyond its limit.
    #[error(transparent)]
    Letter(#[from] LetterError),
    /// Of a kind that came later than this program.
    #[error("a letter of a later kind: this program is too old for it")]
    Kind,
    /// Written for another account, or sealed to another key than it says.
    #[error("a letter for somebody else")]
    NotForUs,
    /// Older than [`MAX_AGE`].
    #[error("the letter is too old")]
    TooOld,
    /// Ahead of us by more than clocks may differ.
    #[error("the letter is from the future, or a clock is wrong")]
    FromTheFuture,
    /// The certificate of the sending terminal is bad.
    #[error("bad certificate")]
    Cert(#[from] CertError),
    /// The certificate is for another identity than the introduction says.
    #[error("the certificate is for somebody else")]
    CertMismatch,
    /// Not signed by the terminal that it is from.
    #[error("bad signature")]
    Signature,
    /// The proof of the sender's number is not even worth its slow check.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

impl OpenError {
    /// Whether another terminal of the account, or this one later, may be able to open it: it is left where it is.
    /// Everything else can be erased.
    #[must_use]
    pub fn may_be_good(self) -> bool {
        match self {
            // Another terminal may have a newer mailbox key.
            Self::Sealed | Self::Kind | Self::Version | Self::FromTheFuture => true,
            // Certificates are compared with the letter's time: what is untimely stays so.
            Self::Cert(_)
            | Self::Size(_)
            | Self::Malformed
            | Self::Letter(_)
            | Self::NotForUs
            | Self::TooOld
            | Self::CertMismatch
            | Self::Signature
            | Self::Proof(_) => false,
        }
    }
}

impl Letter {
    /// Signs piece number `index` by the key of the terminal that the introduction certifies, pads it, and seals it to the
    /// mailbox key.
    ///
    /// `seed`: 32 bytes from a cryptographic random source, another for each piece of each letter. Whoever repeats a deposit
    /// keeps it: the same seed gives the same blob. The letter must be the same then, too.
    ///
    /// # Errors
    /// See [`SealError`].
    pub fn seal(&self, index: usize, key: &TerminalKey, seed: [u8; 32]) -> Result<Vec<u8>, SealError> {
        self.check()?;
        let cert = self.from.cert.verify(self.at).map_err(|_| SealError::NotOurs)?;
        if cert.terminal != key.public() || cert.identity != self.from.identity {
            return Err(SealError::NotOurs);
        }
        let piece = Piece {
            id: self.id,
            from: self.from.clone(),
            to: self.to,
            mailbox: self.mailbox,
            at: self.at,
            after: self.after,
            grants: self.grants.clone(),
            part: Some(self.part(index).ok_or(SealError::NoSuchPiece)?),
        };
        let envelope = Zeroizing::new(wire::encode(&key.sign(domain::LETTER, &wire::encode(&piece))));
        seal_envelope(&envelope, &self.mailbox, seed)
    }
}

/// Pads and seals any bytes as an envelope.
pub(super) fn seal_envelope(
    envelope: &[u8],
    to: &MailboxPublic,
    seed: [u8; 32],
) -> Result<Vec<u8>, SealError> {
    let needed = OVERHEAD + LENGTH_BYTES + envelope.len();
    let class = SIZE_CLASSES.into_iter().find(|class| *class >= needed).ok_or(SealError::TooLarge)?;
    let length = u32::try_from(envelope.len()).map_err(|_| SealError::TooLarge)?;
    let mut plain = Zeroizing::new(Vec::with_capacity(class - OVERHEAD));
    plain.extend_from_slice(&length.to_be_bytes());
    plain.extend_from_slice(envelope);
    plain.resize(class - OVERHEAD, 0);
    KIND.seal(&plain, to, seed).map_err(|BadKey| SealError::BadKey)
}

/// Opens a blob from the mailbox of the account `me`, and verifies everything but the slow number proof.
///
/// `keys`: the account's mailbox keys, newest first; more than one for the time that older ones are kept. The certificate of
/// the sender's terminal must have been good when the letter was written. Whether it has been revoked since is for whoever
/// knows the sender's account record.
///
/// # Errors
/// See [`OpenError`]. The cheap checks come first.
pub fn open(
    blob: &[u8],
    keys: &[MailboxKey],
    me: &IdentityId,
    now: UnixMillis,
) -> Result<Received, OpenError> {
    if !is_size_class(blob.len()) {
        return Err(OpenError::Size(blob.len()));
    }
    for key in keys {
        match KIND.open(blob, key) {
            Ok(plain) => return open_envelope(unpadded(&plain)?, &key.public(), me, now),
            Err(Unopened::Version) => return Err(OpenError::Version),
            Err(Unopened::Sealed) => {}
        }
    }
    Err(OpenError::Sealed)
}

/// The second half of [`open`]: verifies an envelope that was sealed to `mailbox`.
///
/// # Errors
/// See [`OpenError`].
pub fn open_envelope(
    envelope: &[u8],
    mailbox: &MailboxPublic,
    me: &IdentityId,
    now: UnixMillis,
) -> Result<Received, OpenError> {
    let signed: Signed = wire::decode(envelope, MAX_BLOB_BYTES).map_err(|_| OpenError::Malformed)?;
    let piece: Piece =
        wire::decode(signed.payload_unverified(), MAX_BLOB_BYTES).map_err(|_| OpenError::Malformed)?;
    piece.check()?;
    if piece.to != *me || piece.mailbox != *mailbox {
        return Err(OpenError::NotForUs);
    }
    if now.since(piece.at) > MAX_AGE {
        return Err(OpenError::TooOld);
    }
    if piece.at.since(now) > MAX_CLOCK_AHEAD {
        return Err(OpenError::FromTheFuture);
    }
    let cert = piece.from.cert.verify(piece.at)?;
    if cert.identity != piece.from.identity {
        return Err(OpenError::CertMismatch);
    }
    signed
        .verify(cert.terminal.as_bytes(), domain::LETTER)
        .map_err(|wire::BadSignature| OpenError::Signature)?;
    let from = match verify_certified(&piece.from, cert, piece.at) {
        Ok(from) => from,
        Err(signalling::OpenError::Proof(error)) => return Err(error.into()),
        Err(_) => return Err(OpenError::CertMismatch),
    };
    // After the signature: who says that it is of a later kind is who sent it.
    let part = piece.part.ok_or(OpenError::Kind)?;
    Ok(Received { id: piece.id, from, at: piece.at, after: piece.after, grants: piece.grants, part })
}

/// The envelope before the padding, which must be zeros: nothing travels in it.
fn unpadded(plain: &[u8]) -> Result<&[u8], OpenError> {
    let (length, rest) = plain.split_first_chunk::<LENGTH_BYTES>().ok_or(OpenError::Malformed)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| OpenError::Malformed)?;
    let (envelope, padding) = rest.split_at_checked(length).ok_or(OpenError::Malformed)?;
    if padding.iter().all(|byte| *byte == 0) { Ok(envelope) } else { Err(OpenError::Malformed) }
}
