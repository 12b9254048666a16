//! The normal form of chosen numbers.
//!
//! The frame is RFC 8264 (PRECIS): its free-form class decides which characters are letters, digits and
//! symbols in use, with the contextual rules for joiners and its bidi rule. Its ready profiles don't fit:
//! user names know no symbols and nicknames permit blanks. So the steps are our own: variation selectors are
//! removed, then NFKC and case folding are applied until nothing changes, decimal digits of any script become
//! ASCII digits, and what is left is checked.

use precis_core::profile::Rules;
use precis_core::{DerivedPropertyValue, FreeformClass, StringClass};
use precis_profiles::UsernameCaseMapped;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;
use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

use super::{NumberError, Refusal, digits, parse};

/// Most characters of a chosen number.
pub const MAX_NAME_CHARS: usize = 32;
/// Most bytes of a chosen number in UTF-8.
pub const MAX_NAME_BYTES: usize = 96;
/// Most digits of a chosen number that has nothing but digits. More would look like a plain number with a
/// digit missing, or like a number of the public telephone network.
pub const MAX_DIGITS_ONLY: usize = 8;

/// Rounds after which folding has come to rest; two are enough for every character of Unicode 17.
const MAX_FOLDS: usize = 4;

/// Printable characters of ASCII that separate or quote something in links, DNS names, multiaddrs, or shells.
const STRUCTURAL: [char; 14] = ['@', ':', '/', '?', ';', '&', '=', '%', '"', '\'', '<', '>', '\\', '`'];

/// The normal form of a chosen number's word.
pub(super) fn name(typed: &str) -> Result<String, NumberError> {
    if typed.len() > parse::MAX_TYPED_BYTES {
        return Err(NumberError::TooLong);
    }
    let folded = fold_to_rest(parse::trim(typed))?;
    if folded.is_empty() {
        return Err(NumberError::Empty);
    }
    if let Some(digits) = parse::only_digits(&folded)? {
        return digits_only(&digits);
    }
    if folded.chars().count() > MAX_NAME_CHARS || folded.len() > MAX_NAME_BYTES {
        return Err(NumberError::TooLong);
    }
    check_characters(&folded)?;
    if folded.starts_with(is_combining_mark) {
        return Err(Refusal::LeadingMark.into());
    }
    UsernameCaseMapped::new().directionality_rule(folded.as_str()).map_err(|_| Refusal::Direction)?;
    if folded.chars().count() > MAX_DIGITS_ONLY && looks_like_digits(&folded) {
        return Err(Refusal::LooksPlain.into());
    }
    Ok(folded)
}

/// The normal form of a directory's DNS name: labels of letters, digits and inner hyphens (RFC 1123 section
/// 2.1), in lower case, without the root's dot. Names in other scripts are written in their `xn--` form.
pub(super) fn directory(typed: &str) -> Result<String, NumberError> {
    if typed.len() > parse::MAX_TYPED_BYTES {
        return Err(NumberError::TooLong);
    }
    let name: String = parse::trim(typed).nfkc().map(|c| c.to_ascii_lowercase()).collect();
    let name = name.strip_suffix('.').unwrap_or(&name);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err(Refusal::Directory.into());
    }
    Ok(name.to_owned())
}

/// UTS 39 skeleton of a normal form. The prototypes of digits are capital letters at times (`0` looks like
/// `O`), so it is folded and taken once more.
pub(super) fn skeleton(name: &str) -> String {
    let once: String = unicode_security::skeleton(name).collect();
    let folded = fold(&once);
    unicode_security::skeleton(&folded).collect()
}

fn fold_to_rest(text: &str) -> Result<String, NumberError> {
    let mut text: String = text.chars().filter(|c| !digits::is_variation_selector(*c)).collect();
    for _ in 0..MAX_FOLDS {
        let folded = fold(&text);
        if folded == text {
            return Ok(folded);
        }
        text = folded;
    }
    Err(NumberError::NotCanonical)
}

/// One round of NFKC, case folding and digit folding. A character is folded as the lower case of its upper
/// case, which equals Unicode's full case folding but for letters that look like others anyway (`ı` becomes
/// `i`).
fn fold(text: &str) -> String {
    text.nfkc()
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .map(|c| digits::value(c).map_or(c, |value| char::from(b'0' + value)))
        .nfkc()
        .collect()
}

fn check_characters(name: &str) -> Result<(), Refusal> {
    for c in name.chars() {
        if c.is_whitespace() {
            return Err(Refusal::Blank);
        }
        if digits::is_invisible(c) || c.is_control() {
            return Err(Refusal::Invisible);
        }
        if STRUCTURAL.contains(&c) || !is_in_use(c) {
            return Err(Refusal::Character(c));
        }
    }
    check_context(name)
}

/// Whether PRECIS's free-form class permits the character. Its tables are those of Unicode 6.3; what was
/// assigned later is judged by its general category in the same way (RFC 8264 section 8).
fn is_in_use(c: char) -> bool {
    match FreeformClass::default().get_value_from_char(c) {
        DerivedPropertyValue::PValid
        | DerivedPropertyValue::SpecClassPval
        | DerivedPropertyValue::ContextJ
        | DerivedPropertyValue::ContextO => true,
        DerivedPropertyValue::Unassigned => match c.general_category_group() {
            GeneralCategoryGroup::Letter
            | GeneralCategoryGroup::Mark
            | GeneralCategoryGroup::Number
            | GeneralCategoryGroup::Punctuation
            | GeneralCategoryGroup::Symbol => true,
            GeneralCategoryGroup::Separator | GeneralCategoryGroup::Other => false,
        },
        DerivedPropertyValue::SpecClassDis | DerivedPropertyValue::Disallowed => false,
    }
}

/// The contextual rules for joiners and some punctuation (RFC 5892 appendix A). Characters later than Unicode
/// 6.3 take part in none of them, so they are replaced by one that is permitted everywhere before the class
/// judges the whole.
fn check_context(name: &str) -> Result<(), Refusal> {
    let class = FreeformClass::default();
    let known: String = name
        .chars()
        .map(|c| match class.get_value_from_char(c) {
            DerivedPropertyValue::Unassigned => 'x',
            DerivedPropertyValue::PValid
            | DerivedPropertyValue::SpecClassPval
            | DerivedPropertyValue::SpecClassDis
            | DerivedPropertyValue::ContextJ
            | DerivedPropertyValue::ContextO
            | DerivedPropertyValue::Disallowed => c,
        })
        .collect();
    match class.allows(&known) {
        Ok(()) => Ok(()),
        Err(precis_core::Error::BadCodepoint(bad)) => Err(match char::from_u32(bad.cp) {
            Some('\u{200c}' | '\u{200d}') | None => Refusal::Invisible,
            Some(c) => Refusal::Character(c),
        }),
        Err(precis_core::Error::Invalid | precis_core::Error::Unexpected(_)) => Err(Refusal::Invisible),
    }
}

/// A row of digits is a chosen number if it is short enough. What stands between the digits is left out.
fn digits_only(digits: &[u8]) -> Result<String, NumberError> {
    match digits.len() {
        0 => Err(NumberError::Empty),
        1..=MAX_DIGITS_ONLY => Ok(digits.iter().map(|digit| char::from(b'0' + digit)).collect()),
        12 => Err(Refusal::LooksPlain.into()),
        count => Err(NumberError::Length { digits: count }),
    }
}

/// Whether the eye could take it for a row of digits: in skeletons, `l` and `1` or `o` and `0` are the same.
fn looks_like_digits(name: &str) -> bool {
    skeleton(name).chars().all(|c| c.is_ascii_digit() || matches!(c, 'l' | 'o') || digits::is_separator(c))
}
