//! From what people type to a number.

use super::{ChosenNumber, Number, NumberError, PlainNumber, Refusal, digits};

/// Most bytes looked at when a number is parsed. A link has its own limit.
pub const MAX_TYPED_BYTES: usize = 1024;

/// Parses what was typed, pasted or clicked.
pub(super) fn typed(text: &str) -> Result<Number, NumberError> {
    if text.len() > MAX_TYPED_BYTES {
        return Err(NumberError::TooLong);
    }
    let text = trim(text);
    if let Some(rest) = strip_scheme(text, "offhook:") {
        return bare(&percent_decode(offhook_path(rest))?);
    }
    if let Some(rest) = strip_scheme(text, "tel:") {
        return bare(&percent_decode(tel_subscriber(rest))?);
    }
    bare(text)
}

/// What precedes the query of an `offhook:` link. `//` is passed over, as some programs insert it.
pub(super) fn offhook_path(rest: &str) -> &str {
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    rest[..end].trim_end_matches('/')
}

/// The subscriber's digits of a `tel:` URI without its parameters (RFC 3966 section 3).
fn tel_subscriber(rest: &str) -> &str {
    &rest[..rest.find([';', '?']).unwrap_or(rest.len())]
}

/// Parses a number without any URI around it.
fn bare(text: &str) -> Result<Number, NumberError> {
    const AT: [char; 3] = ['@', '\u{ff20}', '\u{fe6b}'];
    match text.split_once(AT) {
        None => match only_digits(text)? {
            Some(digits) if digits.len() == 12 => PlainNumber::from_digits(&digits).map(Number::Plain),
            Some(_) | None => ChosenNumber::new(text, None).map(Number::Chosen),
        },
        Some((name, directory)) => match only_digits(name)? {
            Some(digits) if digits.len() == 12 => Err(Refusal::PlainAtDirectory.into()),
            Some(_) | None => ChosenNumber::new(name, Some(directory)).map(Number::Chosen),
        },
    }
}

/// The digits of `text` if it has nothing but digits and separators, `None` if it is a word.
pub(super) fn only_digits(text: &str) -> Result<Option<Vec<u8>>, NumberError> {
    let unsigned = text.trim_start_matches(digits::is_separator);
    let signless = unsigned.strip_prefix(['+', '\u{ff0b}']);
    let mut found = Vec::new();
    for c in signless.unwrap_or(unsigned).chars() {
        match digits::value(c) {
            Some(value) => found.push(value),
            None if digits::is_separator(c) => {}
            None => return Ok(None),
        }
    }
    match signless {
        Some(_) if !found.is_empty() => Err(Refusal::CountryCode.into()),
        Some(_) => Ok(None),
        None => Ok(Some(found)),
    }
}

/// Without the blanks and invisible characters around it.
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || digits::is_invisible(c))
}

/// What follows `scheme` (in lower case, with its colon), whose case doesn't matter (RFC 3986 section 3.1).
pub(super) fn strip_scheme<'a>(text: &'a str, scheme: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(scheme.len())?;
    head.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// Undoes %-encoding (RFC 3986 section 2.1) of UTF-8.
pub(super) fn percent_decode(text: &str) -> Result<String, Refusal> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes().iter();
    while let Some(byte) = rest.next() {
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let mut nibble = || rest.next().and_then(|digit| char::from(*digit).to_digit(16));
        let (high, low) = (nibble().ok_or(Refusal::Link)?, nibble().ok_or(Refusal::Link)?);
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| Refusal::Link)?);
    }
    String::from_utf8(bytes).map_err(|_| Refusal::Link)
}
