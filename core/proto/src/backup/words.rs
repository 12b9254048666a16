//! Recovery words: the identity key, on paper.
//!
//! 24 words of the English list of BIP-39 say 256 bits and a check of eight, exactly as that standard has them. The bits are
//! the seed of the identity key itself, so that the words need no directory that has kept anything: they give the
//! identity back, its plain number can be found again, and a directory that has the account takes the identity's signature in the place of
//! the password.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::identity::IdentityKey;
use crate::verify::{index_of, word};

/// How many words there are.
pub const RECOVERY_WORDS: usize = 24;
/// Most bytes that are looked at when words are read.
pub const MAX_WORDS_BYTES: usize = 1024;
/// Bits of a word.
const WORD_BITS: usize = 11;

/// An identity key as words. Shown by `Display`, never by `Debug`; erased when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct RecoveryWords {
    /// The seed and the first byte of its SHA-256.
    bits: Zeroizing<[u8; 33]>,
}

/// Why a text is not recovery words, in sentences for whoever typed it. They don't repeat what was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WordsError {
    /// More than anybody types.
    #[error("That is too long; there are 24 recovery words.")]
    TooLong,
    /// Not 24 of them.
    #[error("There are 24 recovery words; these are {0}.")]
    Count(usize),
    /// A word that is not on the list.
    #[error("Recovery word {position} has a typing mistake.")]
    Unknown {
        /// Which one, counted from 1.
        position: usize,
    },
    /// All are on the list, but they don't fit together.
    #[error("These words do not fit together; one of them is wrong, or two have changed places.")]
    Check,
}

fn check_byte(seed: &[u8]) -> u8 {
    let hash: [u8; 32] = Sha256::digest(seed).into();
    hash[0]
}

impl RecoveryWords {
    /// The words of an identity. Whoever reads them has everything that the account is.
    #[must_use]
    pub fn of(identity: &IdentityKey) -> Self {
        let mut bits = Zeroizing::new([0; 33]);
        bits[..32].copy_from_slice(identity.seed());
        bits[32] = check_byte(identity.seed());
        Self { bits }
    }

    /// The identity that they stand for.
    #[must_use]
    pub fn identity(&self) -> IdentityKey {
        let mut seed = Zeroizing::new([0; 32]);
        seed.copy_from_slice(&self.bits[..32]);
        IdentityKey::from_seed(*seed)
    }

    /// The words in their order.
    #[must_use]
    pub fn words(&self) -> [&'static str; RECOVERY_WORDS] {
        let bit = |at: usize| usize::from(self.bits[at / 8] >> (7 - at % 8) & 1);
        let index = |i: usize| (0..WORD_BITS).fold(0, |index, at| index << 1 | bit(i * WORD_BITS + at));
        std::array::from_fn(|i| word(index(i)))
    }
}

impl FromStr for RecoveryWords {
    type Err = WordsError;

    /// Takes the words in any case, in whole or by their first four letters, with whatever else than letters between them: blanks, line
    /// ends, commas, numbers.
    fn from_str(text: &str) -> Result<Self, WordsError> {
        if text.len() > MAX_WORDS_BYTES {
            return Err(WordsError::TooLong);
        }
        let lower = Zeroizing::new(text.to_lowercase());
        let typed = || lower.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty());
        let count = typed().count();
        if count != RECOVERY_WORDS {
            return Err(WordsError::Count(count));
        }
        let mut bits = Zeroizing::new([0_u8; 33]);
        for (i, typed) in typed().enumerate() {
            let index = index_of(typed).ok_or(WordsError::Unknown { position: i + 1 })?;
            for at in (0..WORD_BITS).filter(|at| index >> (WORD_BITS - 1 - at) & 1 == 1) {
                let to = i * WORD_BITS + at;
                bits[to / 8] |= 1 << (7 - to % 8);
            }
        }
        if check_byte(&bits[..32]) != bits[32] {
            return Err(WordsError::Check);
        }
        Ok(Self { bits })
    }
}

impl fmt::Display for RecoveryWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words().join(" "))
    }
}

impl fmt::Debug for RecoveryWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryWords(..)")
    }
}
