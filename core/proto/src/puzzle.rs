//! Puzzles: what a stranger pays with for a deposit into a mailbox, or for letting a telephone ring.
//!
//! Whoever asks the price makes a [`Challenge`] with a secret of its own and forgets it. A [`Solution`] is a nonce under
//! which the hash of the challenge and of what it is to pay for begins with as many zero bits as the challenge says. It is
//! the [slow hash](crate::proof) of numbers, 8 MiB, so that a graphics processor is of little use; checking takes one of
//! them. Each further bit doubles what is to be paid: 64 hashes, half a second, for 6 bits.
//!
//! A challenge is good for somebody (a [`Subject`]) and for some minutes, a solution for one thing (a [`Purpose`]): a blob,
//! a call. So nothing need be remembered: whoever pays twice with the same deposits the same blob again. The price follows
//! from how much strangers have come lately: [`Pace`].

mod pace;

pub use pace::{Pace, Paces, Tariff};

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use minicbor::{Decode, Encode};
use sha2::Sha256;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::identity::{IdentityId, MailboxKey, TerminalId};
use crate::knock::Network;
use crate::mailbox::{BlobId, MailboxId};
use crate::proof::Miner;
use crate::signalling::CallId;
use crate::wire::{self, MAX_CLOCK_AHEAD, UnixMillis, domain};

/// Salt and version of the hash, in the place of that of numbers: work for the one is none for the other.
const SALT: &[u8; 16] = b"offhook/puzzle/1";
/// Most bits that a challenge asks for: about a quarter of an hour of one core. Whoever is told more gives up.
pub const MAX_BITS: u8 = 16;
/// How long a challenge is good: as long as the dearest puzzle takes on a slow machine.
pub const CHALLENGE_LIFETIME: Duration = Duration::from_secs(1_800);
/// How many bits the price may have risen while somebody worked. Whoever has laid in cheap challenges for a flood has
/// nothing of them when it begins.
pub const MAX_RISE: u8 = 2;

const MAC_BYTES: usize = 16;

/// For whom a challenge is good.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Subject([u8; 32]);

impl Subject {
    /// Somebody in `network` who wants to leave something in `mailbox`.
    #[must_use]
    pub fn deposit(mailbox: &MailboxId, network: &Network) -> Self {
        Self(wire::hash(domain::PUZZLE, &[&[0], mailbox.as_bytes(), &wire::encode(network)]))
    }

    /// The account `caller`, who wants to call or to write to an account.
    #[must_use]
    pub fn call(callee: &IdentityId, caller: &IdentityId) -> Self {
        Self(wire::hash(domain::PUZZLE, &[&[1], callee.as_bytes(), caller.as_bytes()]))
    }
}

/// What is paid for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Purpose([u8; 32]);

impl Purpose {
    /// Keeping this blob in this mailbox.
    #[must_use]
    pub fn deposit(mailbox: &MailboxId, blob: &BlobId) -> Self {
        Self(wire::hash(domain::PUZZLE, &[&[2], mailbox.as_bytes(), blob.as_bytes()]))
    }

    /// This call (or text) of this terminal.
    #[must_use]
    pub fn call(call: &CallId, from: &TerminalId) -> Self {
        Self(wire::hash(domain::PUZZLE, &[&[3], call.as_bytes(), from.as_bytes()]))
    }
}

/// The secret with which somebody makes challenges. Random; a new one makes all challenges void.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct PuzzleKey([u8; 32]);

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub struct Challenge {
    /// When it was made, by the clock of who made it.
    #[n(0)]
    pub at: UnixMillis,
    /// How many zero bits are wanted, at most [`MAX_BITS`].
    #[n(1)]
    pub bits: u8,
    /// Of both and of the subject.
    #[cbor(n(2), with = "minicbor::bytes")]
    mac: [u8; MAC_BYTES],
}

/// A challenge, and the nonce that meets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub struct Solution {
    /// The challenge, as it was got.
    #[n(0)]
    pub challenge: Challenge,
    /// The nonce.
    #[n(1)]
    pub nonce: u64,
}

/// Why a solution is refused before the slow hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PuzzleError {
    /// The challenge is another's, for somebody else, or from before a restart.
    #[error("a puzzle that was not set here, or for somebody else")]
    NotOurs,
    /// The challenge is too old.
    #[error("a puzzle that is too old")]
    Expired,
    /// The price has risen by more than [`MAX_RISE`] bits.
    #[error("a puzzle that is too cheap by now")]
    TooCheap,
}

impl PuzzleKey {
    /// The key of 32 bytes from a cryptographic random source.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(seed)
    }

    /// The key that all terminals of an account have in common, so that what is solved for one is solved for all: from the mailbox key, which
    /// they share.
    #[must_use]
    pub fn of_account(mailbox: &MailboxKey) -> Self {
        Self(wire::hash(domain::PUZZLE, &[&[6], mailbox.seed()]))
    }

    /// A challenge of so many bits (at most [`MAX_BITS`]) for `subject`.
    #[must_use]
    pub fn challenge(&self, subject: &Subject, bits: u8, now: UnixMillis) -> Challenge {
        let bits = bits.min(MAX_BITS);
        let mut mac = [0; MAC_BYTES];
        mac.copy_from_slice(&self.mac(subject, now, bits).finalize().into_bytes()[..MAC_BYTES]);
        Challenge { at: now, bits, mac }
    }

    /// Checks all of a solution but the slow hash, which is left to do. `price`: the bits that are asked for now.
    ///
    /// # Errors
    /// A [`PuzzleError`].
    pub fn check(
        &self,
        subject: &Subject,
        solution: &Solution,
        purpose: &Purpose,
        price: u8,
        now: UnixMillis,
    ) -> Result<PuzzleTask, PuzzleError> {
        let challenge = &solution.challenge;
        let made = self.mac(subject, challenge.at, challenge.bits);
        if made.verify_truncated_left(&challenge.mac).is_err() {
            return Err(PuzzleError::NotOurs);
        }
        // Ours, so its time is by our own clock, which may have been set back.
        if now.since(challenge.at) > CHALLENGE_LIFETIME || challenge.at.since(now) > MAX_CLOCK_AHEAD {
            return Err(PuzzleError::Expired);
        }
        if challenge.bits.saturating_add(MAX_RISE) < price.min(MAX_BITS) {
            return Err(PuzzleError::TooCheap);
        }
        Ok(PuzzleTask {
            subject: challenge.hashed(purpose),
            nonce: solution.nonce,
            bits: u32::from(challenge.bits),
        })
    }

    fn mac(&self, subject: &Subject, at: UnixMillis, bits: u8) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(domain::PUZZLE.as_bytes());
        mac.update(&[0]);
        mac.update(&subject.0);
        mac.update(&at.0.to_be_bytes());
        mac.update(&[bits]);
        mac
    }
}

impl fmt::Debug for PuzzleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PuzzleKey(..)")
    }
}

impl Challenge {
    /// Names it, to know again what was paid with.
    #[must_use]
    pub fn id(&self) -> [u8; 32] {
        wire::hash(domain::PUZZLE, &[&[5], &self.at.0.to_be_bytes(), &[self.bits], &self.mac])
    }

    /// Whether it asks for no more than is ever done.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.bits <= MAX_BITS
    }

    /// The first nonce in `nonces` that solves it. Short ranges let the caller stop, show progress, or share the work among
    /// threads; 2^bits nonces are tried on average.
    #[must_use]
    pub fn solve(&self, purpose: &Purpose, nonces: Range<u64>, miner: &mut Miner) -> Option<Solution> {
        let subject = self.hashed(purpose);
        let bits = u32::from(self.bits);
        let solves = |nonce: &u64| PuzzleTask { subject, nonce: *nonce, bits }.run_with(miner);
        nonces.into_iter().find(solves).map(|nonce| Solution { challenge: *self, nonce })
    }

    fn hashed(&self, purpose: &Purpose) -> [u8; 32] {
        wire::hash(domain::PUZZLE, &[&[4], &purpose.0, &self.at.0.to_be_bytes(), &[self.bits], &self.mac])
    }
}

/// The slow part of checking a solution, to be run off the threads that serve others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PuzzleTask {
    subject: [u8; 32],
    nonce: u64,
    bits: u32,
}

impl PuzzleTask {
    /// Does the work: one slow hash, some milliseconds, with memory that the caller keeps.
    #[must_use]
    pub fn run_with(&self, miner: &mut Miner) -> bool {
        let hash = miner.hash(&self.subject, self.nonce, SALT);
        let mut first = [0; 8];
        first.copy_from_slice(&hash[..8]);
        u64::from_be_bytes(first).leading_zeros() >= self.bits
    }
}

#[cfg(test)]
mod tests;
