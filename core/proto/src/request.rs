//! What an account asks of a directory in its own name: to be signed up, to keep a backup, to have a number.
//!
//! Whoever is logged in at a directory has shown that he knows a password. What touches the identity (its numbers, its backup, its
//! password) is moreover signed by the identity key, which a stolen session doesn't have, and a directory that was never asked has no such
//! signature to show. A request is good for one directory and some minutes; what is too long to be in it, its hash is.

use std::fmt;
use std::time::Duration;

use minicbor::{Decode, Encode};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::identity::{DirectoryId, IdentityId, IdentityKey};
use crate::number::Number;
use crate::proof::SignedTransfer;
use crate::wire::{self, BadSignature, MAX_CLOCK_AHEAD, Signed, UnixMillis, WireError, domain};

/// Most bytes of an encoded request. The longest of version 1, a claim of a long number with its transfer, has about 750.
pub const MAX_REQUEST_BYTES: usize = 1024;
/// Most bytes of an account's ID in a request: 64 characters of four bytes.
pub const MAX_ID_BYTES: usize = 256;
/// How old a request may be, and how far ahead of the directory's clock. For as long a directory remembers what it has done
/// ([`Verified::digest`]), and does it once.
pub const REQUEST_WINDOW: Duration = MAX_CLOCK_AHEAD;

/// SHA-256 of something that goes along with a request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Digest(#[cbor(n(0), with = "minicbor::bytes")] [u8; 32]);

impl Digest {
    /// The hash of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The bytes of the hash.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({}…)", data_encoding::HEXLOWER.encode(&self.0[..4]))
    }
}

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub enum Action {
    /// Open an account.
    #[n(0)]
    SignUp {
        /// The ID, in its normal form.
        #[n(0)]
        id: String,
        /// The identity's plain number.
        #[n(1)]
        number: Number,
        /// The nonce that gives it.
        #[n(2)]
        nonce: u64,
        /// Of the last message of OPAQUE's registration, which makes the password.
        #[n(3)]
        upload: Digest,
        /// Of the sealed backup.
        #[n(4)]
        backup: Digest,
    },
    /// Keep this backup in the place of the one before.
    #[n(1)]
    Backup {
        /// Its version: one more than that of the one before.
        #[n(0)]
        version: u64,
        /// Of the sealed backup.
        #[n(1)]
        backup: Digest,
    },
    /// Issue a number to me.
    #[n(2)]
    Claim {
        /// The number in its full form.
        #[n(0)]
        number: Number,
        /// If it is somebody else's: that it was given to me.
        #[n(1)]
        transfer: Option<SignedTransfer>,
    },
    /// Certify a number of mine for longer.
    #[n(3)]
    Renew {
        /// The number in its full form.
        #[n(0)]
        number: Number,
    },
    /// I want a number no longer. Others get it when my account record for it has lapsed.
    #[n(4)]
    Release {
        /// The number in its full form.
        #[n(0)]
        number: Number,
    },
    /// Change ID and password.
    #[n(5)]
    Credentials {
        /// The ID from now on, in its normal form.
        #[n(0)]
        id: String,
        /// Of the last message of OPAQUE's registration.
        #[n(1)]
        upload: Digest,
        /// Version of the backup that is sealed anew: one more than that of the one before.
        #[n(2)]
        version: u64,
        /// Of the sealed backup.
        #[n(3)]
        backup: Digest,
    },
    /// I have my recovery words and no password: let me in.
    #[n(6)]
    Recover,
}

impl Action {
    /// A stable word for what is asked, without what it is about.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::SignUp { .. } => "sign_up",
            Self::Backup { .. } => "backup",
            Self::Claim { .. } => "claim",
            Self::Renew { .. } => "renew",
            Self::Release { .. } => "release",
            Self::Credentials { .. } => "credentials",
            Self::Recover => "recover",
        }
    }

    /// Whether its parts keep their limits and are of the right kind.
    fn is_sound(&self) -> bool {
        let is_id = |id: &str| (1..=MAX_ID_BYTES).contains(&id.len()) && !id.chars().any(char::is_control);
        let is_full = |number: &Number| match number {
            Number::Chosen(chosen) => chosen.directory().is_some(),
            Number::Plain(_) => false,
        };
        match self {
            Self::SignUp { id, number, .. } => is_id(id) && matches!(number, Number::Plain(_)),
            Self::Credentials { id, .. } => is_id(id),
            Self::Claim { number, .. } | Self::Renew { number } | Self::Release { number } => is_full(number),
            Self::Backup { .. } | Self::Recover => true,
        }
    }
}

impl fmt::Debug for Action {
    /// IDs and numbers are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Action({})", self.kind())
    }
}

/// Who asks which directory for what, and when.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub struct Request {
    /// The directory. For another one it means nothing.
    #[n(0)]
    pub directory: DirectoryId,
    /// Who asks. Signs.
    #[n(1)]
    pub identity: IdentityId,
    /// Time of signing.
    #[n(2)]
    pub at: UnixMillis,
    /// What is asked for.
    #[n(3)]
    pub action: Action,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// Longer than [`MAX_REQUEST_BYTES`].
    #[error("request of {0} bytes")]
    TooLarge(usize),
    /// It cannot be decoded, or a part of it is not what it should be.
    #[error("malformed request")]
    Malformed,
    /// Not signed by the identity that it names.
    #[error("request with a bad signature")]
    BadSignature,
    /// Meant for another directory.
    #[error("request for another directory")]
    OtherDirectory,
    /// Of another identity than the account's.
    #[error("request of another identity")]
    OtherIdentity,
    /// Older than [`REQUEST_WINDOW`].
    #[error("request is too old, or a clock is wrong")]
    TooOld,
    /// Further ahead than [`REQUEST_WINDOW`].
    #[error("request is from the future, or a clock is wrong")]
    FromTheFuture,
}

impl RequestError {
    /// A stable word for programs that say it in another language.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::TooLarge(_) | Self::Malformed => "malformed",
            Self::BadSignature => "bad_signature",
            Self::OtherDirectory => "other_directory",
            Self::OtherIdentity => "other_identity",
            Self::TooOld | Self::FromTheFuture => "clock",
        }
    }
}

/// A request that was verified, with what tells it from every other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The request.
    pub request: Request,
    /// The hash of its encoding, under which a directory remembers for [twice the window](REQUEST_WINDOW) that it was done: the same
    /// request has the same.
    pub digest: Digest,
}

/// A [`Request`] under the identity's signature.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct SignedRequest(#[n(0)] Signed);

impl SignedRequest {
    /// Signs a request of the identity `key` at the time `at`.
    #[must_use]
    pub fn sign(key: &IdentityKey, directory: DirectoryId, at: UnixMillis, action: Action) -> Self {
        let request = Request { directory, identity: key.public(), at, action };
        Self(key.sign(domain::DIRECTORY_REQUEST, &wire::encode(&request)))
    }

    /// The encoding that [`SignedRequest::from_bytes`] takes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        wire::encode(self)
    }

    /// Decodes without checking anything but the length.
    ///
    /// # Errors
    /// [`RequestError::TooLarge`] or [`RequestError::Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RequestError> {
        wire::decode(bytes, MAX_REQUEST_BYTES).map_err(|error| match error {
            WireError::TooLarge { len, .. } => RequestError::TooLarge(len),
            WireError::Malformed | WireError::Trailing(_) => RequestError::Malformed,
        })
    }

    /// Checks everything that the request says of itself: that it is for `directory`, from about `now`, and signed by who it names.
    /// Whether that one may ask for it is another question.
    ///
    /// # Errors
    /// A [`RequestError`]; the untimely ones come last.
    pub fn verify(&self, directory: &DirectoryId, now: UnixMillis) -> Result<Verified, RequestError> {
        let len = self.0.encoded_len();
        if len > MAX_REQUEST_BYTES {
            return Err(RequestError::TooLarge(len));
        }
        let request: Request = wire::decode(self.0.payload_unverified(), MAX_REQUEST_BYTES)
            .map_err(|_| RequestError::Malformed)?;
        if !request.action.is_sound() {
            return Err(RequestError::Malformed);
        }
        if request.directory != *directory {
            return Err(RequestError::OtherDirectory);
        }
        self.0
            .verify(request.identity.as_bytes(), domain::DIRECTORY_REQUEST)
            .map_err(|BadSignature| RequestError::BadSignature)?;
        if now.since(request.at) > REQUEST_WINDOW {
            return Err(RequestError::TooOld);
        }
        if request.at.since(now) > REQUEST_WINDOW {
            return Err(RequestError::FromTheFuture);
        }
        Ok(Verified { request, digest: Digest::of(&self.to_bytes()) })
    }

    /// The same for the account of `identity`.
    ///
    /// # Errors
    /// A [`RequestError`].
    pub fn verify_from(
        &self,
        identity: &IdentityId,
        directory: &DirectoryId,
        now: UnixMillis,
    ) -> Result<Verified, RequestError> {
        let verified = self.verify(directory, now)?;
        if verified.request.identity != *identity {
            return Err(RequestError::OtherIdentity);
        }
        Ok(verified)
    }
}

#[cfg(test)]
mod tests;
