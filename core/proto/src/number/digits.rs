//! Decimal digits of every script, and the signs that people write between digits.

/// The zeros of all decimal digits (Unicode general category Nd, version 17). By Unicode's stability policy
/// the digits 1 to 9 follow each of them.
const ZEROS: [u32; 77] = [
    0x30, 0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50,
    0xed0, 0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50, 0x1bb0, 0x1c40,
    0x1c50, 0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10, 0x104a0, 0x10d30, 0x10d40,
    0x11066, 0x110f0, 0x11136, 0x111d0, 0x112f0, 0x11450, 0x114d0, 0x11650, 0x116c0, 0x116d0, 0x116da,
    0x11730, 0x118e0, 0x11950, 0x11bf0, 0x11c50, 0x11d50, 0x11da0, 0x11de0, 0x11f50, 0x16130, 0x16a60,
    0x16ac0, 0x16b50, 0x16d70, 0x1ccf0, 0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec, 0x1d7f6, 0x1e140, 0x1e2f0,
    0x1e4f0, 0x1e5f1, 0x1e950, 0x1fbf0,
];

/// The value 0 to 9 of a decimal digit of any script.
pub(super) fn value(c: char) -> Option<u8> {
    let code = u32::from(c);
    let at_or_before = ZEROS.partition_point(|zero| *zero <= code);
    let zero = ZEROS.get(at_or_before.checked_sub(1)?)?;
    u8::try_from(code - zero).ok().filter(|value| *value < 10)
}

/// Signs that structure a row of digits and mean nothing: blanks, dashes, dots, parentheses (RFC 3966 section
/// 5.1.1 calls them visual separators; here with what other scripts and word processors write for them).
pub(super) fn is_separator(c: char) -> bool {
    c.is_whitespace()
        || is_invisible(c)
        || matches!(
            c,
            // dashes
            '-' | '\u{2010}'
                ..='\u{2015}' | '\u{2212}' | '\u{30fc}' | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}'
            // dots
            | '.' | '\u{b7}' | '\u{2022}' | '\u{2024}' | '\u{2027}' | '\u{3002}' | '\u{30fb}' | '\u{ff0e}'
            | '\u{ff61}'
            // parentheses
            | '(' | ')' | '\u{fe59}' | '\u{fe5a}' | '\u{ff08}' | '\u{ff09}'
        )
}

/// Format characters that come along with pasted text and that nobody sees: soft hyphen, zero-width space,
/// directional marks, embeddings and isolates, word joiner, byte order mark. The joiners U+200C and U+200D
/// are not among them, as they are part of the spelling in some scripts.
pub(super) fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{2064}' | '\u{2066}'..='\u{206f}' | '\u{feff}')
}

/// Characters that choose between renderings of the one before, as emoji keyboards add them unasked:
/// `☎\u{fe0f}`.
pub(super) fn is_variation_selector(c: char) -> bool {
    matches!(c, '\u{180b}'..='\u{180d}' | '\u{180f}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

    #[test]
    fn every_decimal_digit_of_unicode_has_its_value() {
        let mut expected = 0;
        for c in (0..=0x10_ffff).filter_map(char::from_u32) {
            if c.general_category() == GeneralCategory::DecimalNumber {
                assert_eq!(value(c), Some(expected), "U+{:04x}", u32::from(c));
                expected = (expected + 1) % 10;
            } else {
                assert_eq!(value(c), None, "U+{:04x}", u32::from(c));
            }
        }
        assert_eq!(expected, 0);
    }
}
