//! Letters: what somebody leaves for somebody who is not on line.
//!
//! A [`Letter`] goes in one or several *pieces*. Each says who sends it (an [`Introduction`]: number, proof, identity, the
//! terminal's certificate), to whom (identity and mailbox key), when, and which letter it is a piece of; it is signed by the
//! sending terminal, padded and sealed to the mailbox key by HPKE. So a directory can neither read, alter nor attribute it,
//! and what it puts into another mailbox does not open there, or names another receiver. A sender cannot lie about itself:
//! the certificate is by the identity and for the terminal that signs, the number's proof is checked like a caller's.
//!
//! What a directory can do is to withhold, to delay, to repeat and to reorder. Repetitions are the receiver's to notice
//! ([`Seen`]); a letter that is missing shows as soon as a later one names it ([`Letter::after`]), and to its sender, who
//! gets no [mark](Content::Mark).
//!
//! The same seed gives the same blob, so a deposit that was interrupted is repeated and counts once.

mod assembly;
mod seal;
mod seen;

pub use assembly::{Assembly, AssemblyError, Shelf, Voicemail};
pub use seal::{OpenError, Part, Received, SealError, open, open_envelope};
pub use seen::{Seen, Sighting};

use std::fmt;
use std::time::Duration;

use sha2::{Digest, Sha256};
use thiserror::Error;

use super::contacts::{Grant, MAX_GRANTS};
use super::days;
use crate::identity::{IdentityId, MailboxPublic};
use crate::signalling::codes::wire_code;
use crate::signalling::{Introduction, MAX_TEXT_BYTES, TextId, check_intro};
use crate::wire::UnixMillis;

/// Names a letter: 16 random bytes. A text has the id under which its direct delivery was tried, so it is shown once
/// whichever way comes first.
pub type MessageId = TextId;

/// Bytes of sound in each piece of a voice message but its last: what the largest blob holds beside the longest introduction.
pub const PIECE_BYTES: usize = 120 * 1024;
/// Most bytes of a voice message: ten minutes of Opus at 27 kbit/s, five at 55.
pub const MAX_VOICEMAIL_BYTES: usize = 2 * 1024 * 1024;
/// Longest voice message, milliseconds: ten minutes, as an answering machine takes at most.
pub const MAX_VOICEMAIL_MS: u32 = 600_000;
/// Most pieces of a letter.
pub const MAX_PIECES: usize = MAX_VOICEMAIL_BYTES.div_ceil(PIECE_BYTES);
/// Most letters that one mark is about.
pub const MAX_MARKED: usize = 64;
/// A letter that was written longer ago is refused: a sender tries for 30 days to deposit it, a directory keeps it for 30.
/// Mailbox keys are kept for as long.
pub const MAX_AGE: Duration = days(60);

/// What has become of a letter, told to its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mark {
    /// It is on a terminal of its receiver.
    Delivered,
    /// Its receiver has read or heard it, and lets it be known.
    Read,
    /// One that this version does not know.
    Other(u8),
}

/// How a voice message is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Opus in Ogg (RFC 7845), as [recordings](crate::recording) are.
    OggOpus,
    /// One that this version does not know: kept, but not played.
    Other(u8),
}

/// What is in a letter.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// A text.
    Text {
        /// At most [`MAX_TEXT_BYTES`] of UTF-8.
        body: String,
    },
    /// A voice message.
    Voicemail(Voicemail),
    /// What has become of letters that the receiver has sent.
    Mark {
        /// What.
        mark: Mark,
        /// Which ones, 1 to [`MAX_MARKED`].
        of: Vec<MessageId>,
    },
}

impl fmt::Debug for Content {
    /// What kind, not what it says.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text { .. } => f.write_str("Text"),
            Self::Voicemail(_) => f.write_str("Voicemail"),
            Self::Mark { mark, of } => write!(f, "Mark({mark:?} of {})", of.len()),
        }
    }
}

/// A letter as its sender has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Its id.
    pub id: MessageId,
    /// Who sends it. Its certificate is for the terminal whose key signs.
    pub from: Introduction,
    /// For whom it is.
    pub to: IdentityId,
    /// The key to which it is sealed: that of the receiver's account record.
    pub mailbox: MailboxPublic,
    /// When it was written. A terminal gives each letter to the same receiver a later time than the one before: by it they
    /// are ordered.
    pub at: UnixMillis,
    /// The letter that this terminal has sent to the same receiver before; none for the first, and for marks, which nobody
    /// misses. A receiver who has not got that one knows that something is missing.
    pub after: Option<MessageId>,
    /// Tokens with which the receiver may deposit letters for the sender, at most [`MAX_GRANTS`]. Given to contacts only.
    pub grants: Vec<Grant>,
    /// What it says.
    pub content: Content,
}

/// A part of a letter is not what it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LetterError {
    /// A text longer than [`MAX_TEXT_BYTES`].
    #[error("the text is longer than {MAX_TEXT_BYTES} bytes")]
    Text,
    /// A voice message that is empty or longer than [`MAX_VOICEMAIL_BYTES`] or [`MAX_VOICEMAIL_MS`], or a piece of one that
    /// is none.
    #[error("the voice message is empty or too long, or a piece of it has the wrong length")]
    Voicemail,
    /// A mark about no letter, or about more than [`MAX_MARKED`].
    #[error("a mark of no or too many letters")]
    Mark,
    /// More tokens than [`MAX_GRANTS`].
    #[error("too many tokens")]
    Grants,
    /// The introduction names too many directories.
    #[error("too many routes")]
    Routes,
}

impl Letter {
    /// How many pieces it has.
    #[must_use]
    pub fn pieces(&self) -> usize {
        match &self.content {
            Content::Text { .. } | Content::Mark { .. } => 1,
            Content::Voicemail(voicemail) => voicemail.audio.len().div_ceil(PIECE_BYTES).max(1),
        }
    }

    /// Checks what its receiver will check.
    ///
    /// # Errors
    /// A [`LetterError`].
    pub fn check(&self) -> Result<(), LetterError> {
        check_envelope(&self.from, &self.grants)?;
        match &self.content {
            Content::Text { body } => check_text(body),
            Content::Voicemail(voicemail) => check_lengths(voicemail.audio.len(), voicemail.duration_ms),
            Content::Mark { of, .. } => check_mark(of),
        }
    }

    /// What its piece number `index` carries; `None` if it has none of that number.
    fn part(&self, index: usize) -> Option<Part> {
        if index >= self.pieces() {
            return None;
        }
        Some(match &self.content {
            Content::Text { body } => Part::Text { body: body.clone() },
            Content::Mark { mark, of } => Part::Mark { mark: *mark, of: of.clone() },
            Content::Voicemail(voicemail) => {
                let data = voicemail.audio.chunks(PIECE_BYTES).nth(index).unwrap_or_default();
                Part::Voice {
                    duration_ms: voicemail.duration_ms,
                    format: voicemail.format,
                    total: u32::try_from(voicemail.audio.len()).ok()?,
                    digest: Sha256::digest(&voicemail.audio).into(),
                    index: u16::try_from(index).ok()?,
                    data: data.to_vec(),
                }
            }
        })
    }
}

fn check_envelope(from: &Introduction, grants: &[Grant]) -> Result<(), LetterError> {
    check_intro(from).map_err(|_| LetterError::Routes)?;
    if grants.len() <= MAX_GRANTS { Ok(()) } else { Err(LetterError::Grants) }
}

fn check_text(body: &str) -> Result<(), LetterError> {
    if body.len() <= MAX_TEXT_BYTES { Ok(()) } else { Err(LetterError::Text) }
}

fn check_mark(of: &[MessageId]) -> Result<(), LetterError> {
    if (1..=MAX_MARKED).contains(&of.len()) { Ok(()) } else { Err(LetterError::Mark) }
}

fn check_lengths(total: usize, duration_ms: u32) -> Result<(), LetterError> {
    let good = (1..=MAX_VOICEMAIL_BYTES).contains(&total) && duration_ms <= MAX_VOICEMAIL_MS;
    if good { Ok(()) } else { Err(LetterError::Voicemail) }
}

wire_code!(Mark { Delivered = 0, Read = 1 });
wire_code!(Format { OggOpus = 0 });

/// For the fuzz target.
#[doc(hidden)]
pub mod fuzz {
    use super::seal::Piece;
    use crate::wire;

    /// What the payload of a piece reads as, written again; `None` if it is refused.
    #[must_use]
    pub fn rewritten(payload: &[u8]) -> Option<Vec<u8>> {
        let piece: Piece = wire::decode(payload, super::super::MAX_BLOB_BYTES).ok()?;
        piece.check().ok()?;
        Some(wire::encode(&piece))
    }
}

#[cfg(test)]
pub(crate) mod tests;
