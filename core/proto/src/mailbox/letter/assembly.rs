//! Voice messages are put together again from their pieces, which come in any order and from several directories.

use std::collections::BTreeMap;
use std::fmt;

use sha2::{Digest, Sha256};
use thiserror::Error;

use super::{Format, MAX_VOICEMAIL_BYTES, MessageId, PIECE_BYTES, Part, Received};
use crate::identity::{IdentityId, TerminalId};

/// A voice message, whole.
#[derive(Clone, PartialEq, Eq)]
pub struct Voicemail {
    /// How long it sounds, milliseconds, as the sender says; at most [`MAX_VOICEMAIL_MS`](super::MAX_VOICEMAIL_MS).
    pub duration_ms: u32,
    /// How it is written.
    pub format: Format,
    /// Its bytes, 1 to [`MAX_VOICEMAIL_BYTES`].
    pub audio: Vec<u8>,
}

impl fmt::Debug for Voicemail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Voicemail({} ms, {} bytes)", self.duration_ms, self.audio.len())
    }
}

/// Why a piece does not belong to a voice message. Always its sender's fault: it has signed two things that do not go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AssemblyError {
    /// Of another letter, or no piece of a voice message.
    #[error("a piece of something else")]
    Other,
    /// What it says of the whole is not what the first piece said.
    #[error("pieces that do not go together")]
    Mismatch,
    /// All pieces are there, and their hash is not the one that they name.
    #[error("a voice message whose hash is another one")]
    Digest,
}

/// A voice message of which some pieces are there.
#[derive(Clone)]
pub struct Assembly {
    id: MessageId,
    sender: (IdentityId, TerminalId),
    duration_ms: u32,
    format: Format,
    total: usize,
    digest: [u8; 32],
    pieces: BTreeMap<u16, Vec<u8>>,
}

impl fmt::Debug for Assembly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Assembly({:?}, {} of {})", self.id, self.pieces.len(), self.needed())
    }
}

impl Assembly {
    /// One without pieces, of the letter that `first` is a piece of; [`Self::add`] takes `first` itself, too.
    ///
    /// # Errors
    /// [`AssemblyError::Other`] if it is none of a voice message.
    pub fn of(first: &Received) -> Result<Self, AssemblyError> {
        let Part::Voice { duration_ms, format, total, digest, .. } = &first.part else {
            return Err(AssemblyError::Other);
        };
        Ok(Self {
            id: first.id,
            sender: (first.from.identity, first.from.cert.terminal),
            duration_ms: *duration_ms,
            format: *format,
            total: usize::try_from(*total).map_err(|_| AssemblyError::Other)?,
            digest: *digest,
            pieces: BTreeMap::new(),
        })
    }

    /// How many pieces there are altogether.
    #[must_use]
    pub fn needed(&self) -> usize {
        self.total.div_ceil(PIECE_BYTES)
    }

    /// How many are still missing.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.needed() - self.pieces.len()
    }

    /// Adds a piece; one that is there already changes nothing.
    ///
    /// # Errors
    /// [`AssemblyError::Other`] or [`AssemblyError::Mismatch`].
    pub fn add(&mut self, piece: &Received) -> Result<(), AssemblyError> {
        let other = Self::of(piece)?;
        let Part::Voice { index, data, .. } = &piece.part else { return Err(AssemblyError::Other) };
        if (other.id, other.sender) != (self.id, self.sender) {
            return Err(AssemblyError::Other);
        }
        let whole = |of: &Self| (of.duration_ms, of.format, of.total, of.digest);
        // The length of each piece has been compared with the total when it was opened.
        if whole(&other) != whole(self) || usize::from(*index) >= self.needed() {
            return Err(AssemblyError::Mismatch);
        }
        self.pieces.entry(*index).or_insert_with(|| data.clone());
        Ok(())
    }

    /// The whole message; `None` while pieces are missing.
    ///
    /// # Errors
    /// [`AssemblyError::Digest`].
    pub fn whole(&self) -> Result<Option<Voicemail>, AssemblyError> {
        if self.missing() > 0 {
            return Ok(None);
        }
        let audio = self.pieces.values().flatten().copied().collect::<Vec<u8>>();
        if <[u8; 32]>::from(Sha256::digest(&audio)) != self.digest {
            return Err(AssemblyError::Digest);
        }
        Ok(Some(Voicemail { duration_ms: self.duration_ms, format: self.format, audio }))
    }
}

/// Voice messages that are being put together, bounded. What has no place waits at the directory.
///
/// Contacts and strangers have places of their own. If all are taken the message that was begun first gives way: its pieces
/// have not been acknowledged, so they are fetched again later.
#[derive(Debug, Default)]
pub struct Shelf {
    assemblies: BTreeMap<(IdentityId, MessageId), Place>,
    /// Counts what was begun.
    begun: u64,
}

#[derive(Debug)]
struct Place {
    assembly: Assembly,
    contact: bool,
    begun: u64,
}

impl Shelf {
    /// Voice messages of contacts that are put together at a time: 8, so 16 MiB.
    pub const MAX_CONTACTS: usize = 8;
    /// The same of strangers: 2, so 4 MiB.
    pub const MAX_STRANGERS: usize = 2;
    /// Most bytes of sound on the shelf.
    pub const MAX_BYTES: usize = (Self::MAX_CONTACTS + Self::MAX_STRANGERS) * MAX_VOICEMAIL_BYTES;

    /// Adds a piece of a voice message of a contact or a stranger; returns the message if it is whole now, and forgets its
    /// pieces.
    ///
    /// # Errors
    /// See [`AssemblyError`]; what there was of the message is thrown away then, and all of it can be erased.
    pub fn add(&mut self, piece: &Received, contact: bool) -> Result<Option<Voicemail>, AssemblyError> {
        let key = (piece.from.identity, piece.id);
        if !self.assemblies.contains_key(&key) {
            let assembly = Assembly::of(piece)?;
            self.make_room(contact);
            self.begun += 1;
            self.assemblies.insert(key, Place { assembly, contact, begun: self.begun });
        }
        let Some(place) = self.assemblies.get_mut(&key) else { return Ok(None) };
        let whole = place.assembly.add(piece).and_then(|()| place.assembly.whole());
        if !matches!(whole, Ok(None)) {
            self.assemblies.remove(&key);
        }
        whole
    }

    /// How many are being put together.
    #[must_use]
    pub fn len(&self) -> usize {
        self.assemblies.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.assemblies.is_empty()
    }

    fn make_room(&mut self, contact: bool) {
        let max = if contact { Self::MAX_CONTACTS } else { Self::MAX_STRANGERS };
        let lane = |place: &&Place| place.contact == contact;
        while self.assemblies.values().filter(lane).count() >= max {
            let places = self.assemblies.iter().filter(|(_, place)| place.contact == contact);
            let Some(first) = places.min_by_key(|(_, place)| place.begun).map(|(key, _)| *key) else {
                return;
            };
            self.assemblies.remove(&first);
        }
    }
}
