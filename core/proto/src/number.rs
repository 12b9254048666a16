//! Numbers: what is dialled.
//!
//! A *plain* number has 12 digits, `4821 0937 5567`: eleven follow from a slow hash of the owner's key (see
//! [`proof`](crate::proof)), the last is a check digit. A *chosen* number is any word in any script, `ada`,
//! `홍길동`, `1004`, `☎7`, issued by a directory; its full form is `ada@NAME`.
//!
//! Both parse from whatever people type or paste ([`Number`]'s `FromStr`) and have one canonical form.
//! `Debug` never shows a number, only `Display` and serde do.

mod check_digit;
mod digits;
mod link;
mod node_addr;
mod normalise;
mod parse;
mod wish;

pub use link::{Invitation, InvitationError, MAX_LINK_BYTES, MAX_VIA};
pub use node_addr::{MAX_NODE_ADDR_BYTES, NodeAddr, NodeAddrError};
pub use normalise::{MAX_DIGITS_ONLY, MAX_NAME_BYTES, MAX_NAME_CHARS};
pub use parse::MAX_TYPED_BYTES;
pub use wish::{MAX_RESERVED, RESERVED, Wish, WishError, WishRules};

use std::fmt;
use std::str::FromStr;

use minicbor::decode::{self, Decoder};
use minicbor::encode::{self, Encoder, Write};
use minicbor::{Decode, Encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

use crate::identity::DirectoryId;
use crate::wire::{self, domain};

/// Where a number's records lie in the DHT.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct RecordKey(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 32]);

impl RecordKey {
    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// SHA-256 of `domain || 0x00 || parts`. The parts before the last have a fixed length.
    fn hash(domain: &str, parts: &[&[u8]]) -> Self {
        Self(wire::hash(domain, parts))
    }
}

impl fmt::Debug for RecordKey {
    /// Shows four bytes: plain numbers are few enough to be found from their whole hash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordKey({}…)", data_encoding::HEXLOWER.encode(&self.0[..4]))
    }
}

/// What is dialled: a plain or a chosen number.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Number {
    /// Twelve digits that need nobody's permission.
    Plain(PlainNumber),
    /// A word issued by a directory.
    Chosen(ChosenNumber),
}

impl Number {
    /// The one form under which programs store and compare it: `482109375567`, `ada` or `ada@NAME`.
    #[must_use]
    pub fn canonical(&self) -> String {
        match self {
            Self::Plain(number) => number.as_str().to_owned(),
            Self::Chosen(number) => number.to_string(),
        }
    }

    /// The number whose [canonical form](Number::canonical) is exactly `text`.
    ///
    /// # Errors
    /// A [`NumberError`] if it doesn't parse, [`NumberError::NotCanonical`] if it would have to be changed.
    pub fn from_canonical(text: &str) -> Result<Self, NumberError> {
        let number: Self = text.parse()?;
        if number.canonical() == text { Ok(number) } else { Err(NumberError::NotCanonical) }
    }

    /// Where the number's records lie: `directory` is the key of the directory that issued a chosen number
    /// and plays no part for a plain one. `None` for a chosen number without a directory.
    #[must_use]
    pub fn record_key(&self, directory: Option<&DirectoryId>) -> Option<RecordKey> {
        match self {
            Self::Plain(number) => Some(number.key()),
            Self::Chosen(number) => directory.map(|directory| number.key(directory)),
        }
    }
}

impl fmt::Display for Number {
    /// As people read it: `4821 0937 5567`, `ada@NAME`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(number) => number.fmt(f),
            Self::Chosen(number) => number.fmt(f),
        }
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(number) => number.fmt(f),
            Self::Chosen(number) => number.fmt(f),
        }
    }
}

impl FromStr for Number {
    type Err = NumberError;

    /// Parses what people type, paste or click: digits with blanks, dashes, dots or parentheses between them,
    /// in any script's digits; words; `offhook:` and `tel:` URIs (RFC 3966). The query of an `offhook:` link
    /// is passed over; [`Invitation`] reads it.
    fn from_str(text: &str) -> Result<Self, NumberError> {
        parse::typed(text)
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.canonical())
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl<C> Encode<C> for Number {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.str(&self.canonical())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Number {
    /// Takes the canonical form only, so that a number has one encoding.
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        Self::from_canonical(d.str()?).map_err(|_| decode::Error::message("not a canonical number"))
    }
}

/// Twelve decimal digits of which the last is a Damm check digit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlainNumber([u8; 12]);

impl PlainNumber {
    /// Digits before the check digit permit this many numbers.
    pub const COUNT: u64 = 100_000_000_000;

    /// The number whose first eleven digits are `index` modulo [`PlainNumber::COUNT`].
    #[must_use]
    pub fn from_index(index: u64) -> Self {
        let mut rest = index % Self::COUNT;
        let mut digits = [0; 12];
        for digit in digits[..11].iter_mut().rev() {
            *digit = u8::try_from(rest % 10).unwrap_or_default();
            rest /= 10;
        }
        digits[11] = check_digit::of(&digits[..11]);
        Self(digits.map(|digit| b'0' + digit))
    }

    /// The number of twelve digit values 0 to 9.
    ///
    /// # Errors
    /// [`NumberError::Length`] unless there are twelve, [`NumberError::CheckDigit`] if the last doesn't fit.
    pub fn from_digits(digits: &[u8]) -> Result<Self, NumberError> {
        let digits: [u8; 12] = digits.try_into().map_err(|_| NumberError::Length { digits: digits.len() })?;
        if digits.iter().any(|digit| *digit > 9) || check_digit::of(&digits[..11]) != digits[11] {
            return Err(NumberError::CheckDigit);
        }
        Ok(Self(digits.map(|digit| b'0' + digit)))
    }

    /// The digit values, 0 to 9.
    #[must_use]
    pub fn digits(&self) -> [u8; 12] {
        self.0.map(|digit| digit - b'0')
    }

    /// The digits as text without blanks.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("holds ASCII digits only")
    }

    /// Where the number's records lie.
    #[must_use]
    pub fn key(&self) -> RecordKey {
        RecordKey::hash(domain::PLAIN_NUMBER, &[&self.0])
    }
}

impl fmt::Display for PlainNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.as_str();
        write!(f, "{} {} {}", &digits[..4], &digits[4..8], &digits[8..])
    }
}

impl fmt::Debug for PlainNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plain(…{})", &self.as_str()[10..])
    }
}

/// A word issued by a directory, in its normal form, perhaps with the directory's name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChosenNumber {
    name: String,
    directory: Option<String>,
}

impl ChosenNumber {
    /// Normalises `name` and `directory` as they might be typed; `name` contains no `@`.
    ///
    /// # Errors
    /// A [`NumberError`] that says what cannot be part of a number.
    pub fn new(name: &str, directory: Option<&str>) -> Result<Self, NumberError> {
        let name = normalise::name(name)?;
        let directory = directory.map(normalise::directory).transpose()?;
        Ok(Self { name, directory })
    }

    /// The word, in its normal form.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// DNS name of the directory, in lower case. `None` is the home directory of whoever dials.
    #[must_use]
    pub fn directory(&self) -> Option<&str> {
        self.directory.as_deref()
    }

    /// The same number of this directory.
    ///
    /// # Errors
    /// [`Refusal::Directory`] unless `directory` is a DNS name.
    pub fn with_directory(&self, directory: &str) -> Result<Self, NumberError> {
        Ok(Self { name: self.name.clone(), directory: Some(normalise::directory(directory)?) })
    }

    /// What the eye sees (UTS 39 section 4): two names with equal skeletons look alike, and a directory
    /// issues only one of them.
    #[must_use]
    pub fn skeleton(&self) -> String {
        normalise::skeleton(&self.name)
    }

    /// Whether it is written in other letters than Latin ones that look exactly like those: it is another number than the one that a
    /// reader takes it for.
    #[must_use]
    pub fn looks_latin(&self) -> bool {
        !self.name.is_ascii() && self.skeleton().is_ascii()
    }

    /// Where the number's records lie if it was issued under the key `directory`.
    #[must_use]
    pub fn key(&self, directory: &DirectoryId) -> RecordKey {
        RecordKey::hash(domain::CHOSEN_NUMBER, &[directory.as_bytes(), self.name.as_bytes()])
    }
}

impl fmt::Display for ChosenNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.directory {
            Some(directory) => write!(f, "@{directory}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for ChosenNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chosen({} characters)", self.name.chars().count())
    }
}

/// Why a text is not a number, in sentences for whoever typed it. They don't repeat what was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NumberError {
    /// Nothing was typed.
    #[error("No number was given.")]
    Empty,
    /// Digits only, but neither twelve nor few enough for a chosen number.
    #[error("A number has 12 digits; this one has {digits}.")]
    Length {
        /// Digits found.
        digits: usize,
    },
    /// Twelve digits of which the last doesn't fit the others.
    #[error("That number has a typing mistake (the check digit does not fit).")]
    CheckDigit,
    /// Longer than any number.
    #[error("That is too long for a number.")]
    TooLong,
    /// Not in its canonical form, where nothing else is permitted.
    #[error("That number is not in its normal form.")]
    NotCanonical,
    /// Something in it cannot be part of a number.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// What cannot be part of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// A blank within a word.
    #[error("A number that is a word cannot contain blanks.")]
    Blank,
    /// An invisible character, such as a control of the writing direction.
    #[error("That number contains an invisible character; please type it instead of pasting it.")]
    Invisible,
    /// A character with another meaning in links, or one that is not in use in writing.
    #[error("The character “{0}” cannot be part of a number.")]
    Character(char),
    /// Begins with an accent or another mark that belongs to a letter before it.
    #[error("A number cannot begin with an accent.")]
    LeadingMark,
    /// Left-to-right and right-to-left writing in one word (RFC 5893 section 2).
    #[error("A number cannot mix writing from the left with writing from the right in this way.")]
    Direction,
    /// Begins with a plus sign, like a telephone number with a country code.
    #[error("Offhook numbers have no country code; leave out the “+”.")]
    CountryCode,
    /// A word that could be taken for a number of 12 digits.
    #[error("That looks like a number of 12 digits but is not one.")]
    LooksPlain,
    /// A plain number with `@`.
    #[error("A number of 12 digits belongs to no directory; leave out what follows the “@”.")]
    PlainAtDirectory,
    /// What follows the `@` is not a DNS name.
    #[error("What follows the “@” is not the name of a directory.")]
    Directory,
    /// A link with a broken %-sequence.
    #[error("That link is damaged.")]
    Link,
}

#[cfg(test)]
mod tests;
