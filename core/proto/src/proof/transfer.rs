//! Transfers: how a chosen number gets from one identity to another.
//!
//! Whoever has a chosen number keeps it against everybody, its directory included: nodes refuse records of another
//! identity. So whoever gives it away must say so, and the account records of the new owner carry what was said. As
//! nodes may have slept through several changes of hands, they carry the last few transfers, in order.
//!
//! A transfer cannot be taken back, and is worth nothing twice: it moves the number from one holding to the next, and when
//! the number comes back to somebody who had it before, the [later](Transfer::at) one of whoever got it from him makes his own
//! void.

use std::time::Duration;

use minicbor::{Decode, Encode};
use thiserror::Error;

use crate::identity::{IdentityId, IdentityKey};
use crate::number::RecordKey;
use crate::wire::{self, BadSignature, MAX_CLOCK_AHEAD, Signed, UnixMillis, domain};

/// Most bytes that an encoded transfer may have. One of version 1 has about 190.
pub const MAX_TRANSFER_BYTES: usize = 256;
/// Most transfers in an account record. A node that has slept through more keeps the record that it has until that lapses.
pub const MAX_TRANSFERS: usize = 4;
/// How long a directory acts on a transfer. One that lies about unused is forgotten by whoever signed it.
pub const TRANSFER_LIFETIME: Duration = Duration::from_secs(7 * 86_400);

/// What the owner of a chosen number says: from now on it belongs to somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(map)]
pub struct Transfer {
    /// The number and the directory that issued it, as the [key of its records](crate::number::ChosenNumber::key).
    #[n(0)]
    pub number: RecordKey,
    /// Who gives it away. Signs.
    #[n(1)]
    pub from: IdentityId,
    /// Who gets it.
    #[n(2)]
    pub to: IdentityId,
    /// Time of signing.
    #[n(3)]
    pub at: UnixMillis,
}

/// Why a transfer is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TransferError {
    /// Longer than [`MAX_TRANSFER_BYTES`].
    #[error("transfer of {0} bytes")]
    TooLarge(usize),
    /// It cannot be decoded, or goes to whom it comes from.
    #[error("malformed transfer")]
    Malformed,
    /// Not signed by who gives the number away.
    #[error("transfer with a bad signature")]
    BadSignature,
    /// Of another number, or to somebody else than who shows it.
    #[error("transfer of another number or to somebody else")]
    Mismatch,
    /// More than [`MAX_TRANSFERS`], or one doesn't begin where the one before has ended.
    #[error("transfers that do not follow from one another")]
    Chain,
    /// Its time lies in the future, or is longer ago than a directory accepts.
    #[error("transfer that is too old or from the future")]
    Untimely,
}

/// A [`Transfer`] under the signature of who gives the number away.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct SignedTransfer(#[n(0)] Signed);

impl Transfer {
    /// Whether it was signed within [`TRANSFER_LIFETIME`] before `now`.
    ///
    /// # Errors
    /// [`TransferError::Untimely`].
    pub fn check_fresh(&self, now: UnixMillis) -> Result<(), TransferError> {
        if self.at > now.plus(MAX_CLOCK_AHEAD) || now.since(self.at) > TRANSFER_LIFETIME {
            return Err(TransferError::Untimely);
        }
        Ok(())
    }
}

impl SignedTransfer {
    /// Gives away the number whose records lie under `number`.
    #[must_use]
    pub fn sign(key: &IdentityKey, number: RecordKey, to: IdentityId, at: UnixMillis) -> Self {
        let transfer = Transfer { number, from: key.public(), to, at };
        Self(key.sign(domain::NUMBER_TRANSFER, &wire::encode(&transfer)))
    }

    /// Checks size and signature, and returns what the transfer says. In records it counts however old it is.
    ///
    /// # Errors
    /// [`TransferError::TooLarge`], [`TransferError::Malformed`] or [`TransferError::BadSignature`].
    pub fn verify(&self) -> Result<Transfer, TransferError> {
        let len = self.0.encoded_len();
        if len > MAX_TRANSFER_BYTES {
            return Err(TransferError::TooLarge(len));
        }
        let transfer: Transfer = wire::decode(self.0.payload_unverified(), MAX_TRANSFER_BYTES)
            .map_err(|_| TransferError::Malformed)?;
        if transfer.from == transfer.to {
            return Err(TransferError::Malformed);
        }
        self.0
            .verify(transfer.from.as_bytes(), domain::NUMBER_TRANSFER)
            .map_err(|BadSignature| TransferError::BadSignature)?;
        Ok(transfer)
    }

    /// The same for a directory that is to act on it: it must have been signed within [`TRANSFER_LIFETIME`].
    ///
    /// # Errors
    /// A [`TransferError`]; [`TransferError::Untimely`] comes last.
    pub fn verify_fresh(&self, now: UnixMillis) -> Result<Transfer, TransferError> {
        let transfer = self.verify()?;
        transfer.check_fresh(now)?;
        Ok(transfer)
    }
}

/// Checks the transfers that `holder` shows with an account record of `seq`: each of `number`, each from whom the one before
/// has made the owner and later than it, the last to `holder`.
///
/// # Errors
/// A [`TransferError`].
pub fn verify_chain(
    transfers: &[SignedTransfer],
    number: &RecordKey,
    holder: &IdentityId,
    seq: UnixMillis,
) -> Result<Vec<Transfer>, TransferError> {
    if transfers.len() > MAX_TRANSFERS {
        return Err(TransferError::Chain);
    }
    let mut chain: Vec<Transfer> = Vec::with_capacity(transfers.len());
    for signed in transfers {
        let transfer = signed.verify()?;
        if transfer.number != *number {
            return Err(TransferError::Mismatch);
        }
        if chain.last().is_some_and(|last| last.to != transfer.from || last.at >= transfer.at) {
            return Err(TransferError::Chain);
        }
        chain.push(transfer);
    }
    match chain.last() {
        Some(last) if last.to != *holder => Err(TransferError::Mismatch),
        // The clocks of those who sign the transfer and the record may differ.
        Some(last) if last.at > seq.plus(MAX_CLOCK_AHEAD) => Err(TransferError::Untimely),
        Some(_) | None => Ok(chain),
    }
}

/// Whether somebody with the verified transfers `newer` has the number after `holder`, who holds it by the transfers `held`
/// (none: was the first): one of `newer` is `holder`'s own, and counts, and is later than any in `held` that counts the other way.
///
/// It counts unless who got the number by it has given it away since, as `held` shows. That only he can have signed; the rest of
/// `held` may be made up by `holder`, who can invent somebody from whom he has it. Of two chains each never supersedes the other.
#[must_use]
pub fn supersedes(newer: &[Transfer], holder: &IdentityId, held: &[Transfer]) -> bool {
    let Some(last) = newer.last() else { return false };
    last_given(newer, holder, held) > last_given(held, &last.to, newer)
}

/// When `from` has last given the number away, as `chain` says and `other` doesn't void.
fn last_given(chain: &[Transfer], from: &IdentityId, other: &[Transfer]) -> Option<UnixMillis> {
    let is_void = |step: &Transfer| other.iter().any(|later| later.from == step.to && later.at > step.at);
    chain.iter().filter(|step| step.from == *from && !is_void(step)).map(|step| step.at).max()
}

/// The transfers that the new owner carries: those of the previous one and `last`, without the oldest if they are too many.
#[must_use]
pub fn lengthen(held: &[SignedTransfer], last: SignedTransfer) -> Vec<SignedTransfer> {
    let kept = held.len().min(MAX_TRANSFERS - 1);
    held[held.len() - kept..].iter().cloned().chain([last]).collect()
}
