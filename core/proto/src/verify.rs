//! Words and digits that two people compare by voice.
//!
//! Both ends of a call derive the same text from the secret that only they share (the TLS exporter, RFC 8446
//! section 7.5) and from both identity keys. If it is the same on both screens, nobody sits in between.

use sha2::{Digest, Sha256};

use crate::identity::IdentityId;
use crate::wire::domain;

/// The English list of BIP-39: 2048 words, in the order of the alphabet, that differ within their first four letters.
const WORDS: &str = include_str!("verify/words.txt");
/// Words on the list: eleven bits each.
const WORD_COUNT: usize = 2048;

/// What both people read to each other; either the words or the digits will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// Six words: 66 bits.
    pub words: [&'static str; 6],
    /// Twenty decimal digits without blanks: 66 bits.
    pub digits: String,
}

/// Derives the text from 32 bytes of the call's TLS exporter and both identities, in any order.
#[must_use]
pub fn verification(exporter: &[u8; 32], a: &IdentityId, b: &IdentityId) -> Verification {
    let mut hash = Sha256::new();
    hash.update(domain::VERIFICATION.as_bytes());
    hash.update([0]);
    hash.update(exporter);
    hash.update(a.min(b).as_bytes());
    hash.update(a.max(b).as_bytes());
    let hash: [u8; 32] = hash.finalize().into();
    let (first, second) = (half(&hash, 0), half(&hash, 16));
    let words = std::array::from_fn(|i| word((first >> (128 - 11 * (i + 1))) as usize % WORD_COUNT));
    Verification { words, digits: format!("{:020}", second % 10_u128.pow(20)) }
}

fn half(hash: &[u8; 32], from: usize) -> u128 {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[from..from + 16]);
    u128::from_be_bytes(bytes)
}

pub(crate) fn word(index: usize) -> &'static str {
    WORDS.lines().nth(index).expect("the list has 2048 words and the index is below")
}

/// Fewest letters that tell every word of the list, unless it is shorter.
const TELLING: usize = 4;

/// Where on the list the word stands that is written so: in whole, or by its first four letters, in lower case.
pub(crate) fn index_of(written: &str) -> Option<usize> {
    let is_meant = |word: &str| word == written || (written.len() == TELLING && word.starts_with(written));
    WORDS.lines().position(is_meant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const A: IdentityId = IdentityId::from_bytes([1; 32]);
    const B: IdentityId = IdentityId::from_bytes([2; 32]);

    #[test]
    fn the_list_has_2048_words_that_differ_in_four_letters() {
        let words: Vec<&str> = WORDS.lines().collect();
        assert_eq!(words.len(), WORD_COUNT);
        let heads: BTreeSet<&str> = words.iter().map(|word| &word[..word.len().min(4)]).collect();
        assert_eq!(heads.len(), WORD_COUNT);
        assert!(words.iter().all(|word| word.bytes().all(|b| b.is_ascii_lowercase())));
    }

    #[test]
    fn known_vector() {
        // Computed a second time with Python's hashlib.
        let seen = verification(&[9; 32], &A, &B);
        assert_eq!(seen.words, ["burden", "mean", "turkey", "letter", "depth", "custom"]);
        assert_eq!(seen.digits, "95930496046510893654");
    }

    #[test]
    fn both_ends_see_the_same() {
        assert_eq!(verification(&[9; 32], &A, &B), verification(&[9; 32], &B, &A));
    }

    #[test]
    fn another_secret_or_another_key_shows() {
        let c = IdentityId::from_bytes([3; 32]);
        let seen = verification(&[9; 32], &A, &B);
        for other in
            [verification(&[8; 32], &A, &B), verification(&[9; 32], &A, &c), verification(&[9; 32], &c, &B)]
        {
            assert_ne!(seen.words, other.words);
            assert_ne!(seen.digits, other.digits);
        }
    }
}
