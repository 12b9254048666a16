//! Wished numbers: what a directory does not issue.
//!
//! Every chosen number keeps the rules of its [normal form](super::ChosenNumber). A directory, which vouches for its numbers to people who
//! see them on a screen, is stricter: it issues no word that somebody could take for an office of the directory or for an emergency
//! number, and none that mixes scripts to look like another one (UTS 39 section 5.2). Of two words that look alike it issues one: that
//! is for its database to see to, by [`Wish::skeleton`].

use std::collections::BTreeSet;

use thiserror::Error;
use unicode_security::mixed_script::AugmentedScriptSet;

use super::{ChosenNumber, Number, NumberError, Refusal};

/// Most words that an operator can reserve beside [`RESERVED`].
pub const MAX_RESERVED: usize = 10_000;

/// Words that no directory issues: offices that people trust (the mailbox names of RFC 2142 among them), this network's own words, and
/// emergency numbers of many countries, which must not ring anybody else.
pub const RESERVED: [&str; 70] = [
    "abuse",
    "account",
    "accounts",
    "admin",
    "administrator",
    "anonymous",
    "billing",
    "bot",
    "contact",
    "directory",
    "emergency",
    "everyone",
    "help",
    "helpdesk",
    "hostmaster",
    "info",
    "list",
    "login",
    "mail",
    "mailbox",
    "moderator",
    "news",
    "noc",
    "nobody",
    "null",
    "offhook",
    "official",
    "operator",
    "police",
    "postmaster",
    "privacy",
    "root",
    "sales",
    "security",
    "service",
    "signup",
    "staff",
    "support",
    "sysadmin",
    "system",
    "test",
    "undefined",
    "unknown",
    "usenet",
    "uucp",
    "voicemail",
    "webmaster",
    "www",
    "관리자",
    "운영자",
    "고객센터",
    "고객지원",
    "교환원",
    "경찰",
    "긴급",
    "소방서",
    "000",
    "100",
    "110",
    "111",
    "112",
    "113",
    "115",
    "117",
    "118",
    "119",
    "122",
    "190",
    "911",
    "999",
];

/// What a directory may issue, if nothing in its database speaks against it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The number in its full form.
    pub number: ChosenNumber,
    /// What the eye sees. No two numbers of one directory have the same.
    pub skeleton: String,
}

/// Why a directory doesn't issue a number, in sentences for whoever wishes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WishError {
    /// Not a number at all.
    #[error(transparent)]
    Number(#[from] NumberError),
    /// A plain number. Those come of themselves.
    #[error("A number of 12 digits cannot be chosen.")]
    Plain,
    /// Written with the name of another directory.
    #[error("That number belongs to another directory.")]
    OtherDirectory,
    /// Shorter than this directory issues them.
    #[error("A number needs at least {min} characters here.")]
    TooShort {
        /// Characters that it must have.
        min: usize,
    },
    /// A word that is kept back, or looks like one.
    #[error("That number is reserved.")]
    Reserved,
    /// Letters of several scripts that are not written together.
    #[error("A number cannot mix letters of different scripts in this way.")]
    MixedScripts,
}

impl WishError {
    /// A stable word for programs that say it in another language.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Number(error) => number_code(error),
            Self::Plain => "plain",
            Self::OtherDirectory => "other_directory",
            Self::TooShort { .. } => "too_short",
            Self::Reserved => "reserved",
            Self::MixedScripts => "mixed_scripts",
        }
    }
}

fn number_code(error: &NumberError) -> &'static str {
    match error {
        NumberError::Empty => "empty",
        NumberError::Length { .. } => "digits",
        NumberError::CheckDigit => "plain",
        NumberError::TooLong => "too_long",
        NumberError::NotCanonical => "not_canonical",
        NumberError::Refused(refusal) => match refusal {
            Refusal::Blank => "blank",
            Refusal::Invisible => "invisible",
            Refusal::Character(_) => "character",
            Refusal::LeadingMark => "leading_mark",
            Refusal::Direction => "direction",
            Refusal::CountryCode => "country_code",
            Refusal::LooksPlain => "looks_plain",
            Refusal::PlainAtDirectory => "plain",
            Refusal::Directory => "directory",
            Refusal::Link => "link",
        },
    }
}

/// What one directory issues.
#[derive(Clone, Debug)]
pub struct WishRules {
    directory: String,
    min_chars: usize,
    /// Skeletons of reserved words.
    reserved: BTreeSet<String>,
}

impl WishRules {
    /// The rules of the directory with this DNS name: words of any length, [`RESERVED`] kept back.
    ///
    /// # Errors
    /// [`Refusal::Directory`] unless it is a DNS name.
    pub fn new(directory: &str) -> Result<Self, NumberError> {
        let number = ChosenNumber::new(RESERVED[0], Some(directory))?;
        let directory = number.directory().unwrap_or_default().to_owned();
        let mut rules = Self { directory, min_chars: 1, reserved: BTreeSet::new() };
        for word in RESERVED {
            rules.reserved.insert(ChosenNumber::new(word, None)?.skeleton());
        }
        Ok(rules)
    }

    /// Issues no words shorter than `chars` characters.
    #[must_use]
    pub fn with_min_chars(self, chars: usize) -> Self {
        Self { min_chars: chars, ..self }
    }

    /// Keeps one more word back, and everything that looks like it. Returns whether there was room: at most [`MAX_RESERVED`].
    ///
    /// # Errors
    /// A [`NumberError`] if nobody could wish the word anyway.
    pub fn reserve(&mut self, word: &str) -> Result<bool, NumberError> {
        let skeleton = ChosenNumber::new(word, None)?.skeleton();
        if self.reserved.len() >= RESERVED.len() + MAX_RESERVED {
            return Ok(false);
        }
        self.reserved.insert(skeleton);
        Ok(true)
    }

    /// Judges what somebody typed, with or without this directory's name.
    ///
    /// # Errors
    /// A [`WishError`].
    pub fn judge(&self, typed: &str) -> Result<Wish, WishError> {
        let chosen = match typed.parse()? {
            Number::Plain(_) => return Err(WishError::Plain),
            Number::Chosen(chosen) => chosen,
        };
        if chosen.directory().is_some_and(|directory| directory != self.directory) {
            return Err(WishError::OtherDirectory);
        }
        if chosen.name().chars().count() < self.min_chars {
            return Err(WishError::TooShort { min: self.min_chars });
        }
        let skeleton = chosen.skeleton();
        if self.reserved.contains(&skeleton) {
            return Err(WishError::Reserved);
        }
        if !is_written_together(chosen.name()) {
            return Err(WishError::MixedScripts);
        }
        Ok(Wish { number: chosen.with_directory(&self.directory)?, skeleton })
    }
}

/// Whether all letters are of one script or writing system, or of Latin and one more that doesn't share its shapes. This is UTS 39's
/// *moderately restrictive* level, but for its list of characters, which knows no symbols.
fn is_written_together(name: &str) -> bool {
    let latin = AugmentedScriptSet::for_char('a');
    let (mut all, mut others) = (AugmentedScriptSet::default(), AugmentedScriptSet::default());
    for c in name.chars() {
        let scripts = AugmentedScriptSet::for_char(c);
        all.intersect_with(scripts);
        if !meet(scripts, latin) {
            others.intersect_with(scripts);
        }
    }
    let shares_shapes = ['а', 'α', 'Ꭰ', 'ⲁ', 'ꓮ'].map(AugmentedScriptSet::for_char);
    !all.is_empty() || (!others.is_empty() && !shares_shapes.into_iter().any(|scripts| meet(scripts, others)))
}

fn meet(mut a: AugmentedScriptSet, b: AugmentedScriptSet) -> bool {
    a.intersect_with(b);
    !a.is_empty()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules() -> WishRules {
        WishRules::new("directory.example").unwrap()
    }

    fn judged(typed: &str) -> Result<String, WishError> {
        rules().judge(typed).map(|wish| wish.number.to_string())
    }

    #[test]
    fn words_of_any_script_and_symbols_may_be_wished() {
        for word in [
            "ada",
            "홍길동",
            "☎7",
            "1004",
            "ada-lovelace",
            "東京タワー",
            "рада",
            "μαρία",
            "ไทย",
            "한국kbs",
            "tokyo東京",
            "ไทยtv",
            "a",
            "中",
        ] {
            assert_eq!(judged(word), Ok(format!("{word}@directory.example")));
        }
        assert_eq!(judged("Ada@DIRECTORY.example"), Ok("ada@directory.example".to_owned()));
    }

    #[test]
    fn what_looks_plain_or_belongs_elsewhere_is_refused() {
        assert_eq!(judged("4821 0937 5567"), Err(WishError::Plain));
        assert_eq!(judged("4821 0937 5568"), Err(NumberError::CheckDigit.into()));
        assert_eq!(judged("482l o937 5567").map_err(|error| error.code()), Err("blank"));
        assert_eq!(judged("482lo9375567").map_err(|error| error.code()), Err("looks_plain"));
        assert_eq!(judged("123456789"), Err(NumberError::Length { digits: 9 }.into()));
        assert_eq!(judged("ada@other.example"), Err(WishError::OtherDirectory));
        assert_eq!(judged(&"x".repeat(33)), Err(NumberError::TooLong.into()));
        assert_eq!(judged("ada\u{202e}b").map_err(|error| error.code()), Err("invisible"));
    }

    #[test]
    fn reserved_words_and_their_look_alikes_are_refused() {
        for word in [
            "admin",
            "ADMIN",
            "аdmin",
            "adm\u{131}n",
            "root",
            "r00t",
            "rооt",
            "관리자",
            "911",
            "9l1",
            "support",
        ] {
            assert_eq!(judged(word), Err(WishError::Reserved), "{word}");
        }
        let mut rules = rules();
        assert!(rules.judge("boss").is_ok());
        assert_eq!(rules.reserve("Boss"), Ok(true));
        assert_eq!(rules.judge("b0ss"), Err(WishError::Reserved));
        assert_eq!(rules.reserve("two words"), Err(Refusal::Blank.into()));
    }

    #[test]
    fn a_directory_reserves_so_many_words_and_no_more() {
        let mut rules = rules();
        for i in 0..MAX_RESERVED {
            assert_eq!(rules.reserve(&format!("word{i}x")), Ok(true));
        }
        assert_eq!(rules.reserve("another"), Ok(false));
    }

    #[test]
    fn a_directory_may_ask_for_longer_words() {
        let rules = rules().with_min_chars(3);
        assert_eq!(rules.judge("홍길"), Err(WishError::TooShort { min: 3 }));
        assert!(rules.judge("홍길동").is_ok());
    }

    #[test]
    fn scripts_that_are_not_written_together_are_refused() {
        for word in ["adа", "pаypal2", "αda", "홍ж", "ไж", "ᎠDa"] {
            assert_eq!(judged(word), Err(WishError::MixedScripts), "{word}");
        }
    }

    #[test]
    fn words_that_look_alike_have_one_skeleton() {
        let skeleton = |word: &str| rules().judge(word).unwrap().skeleton;
        assert_eq!(skeleton("paypal"), skeleton("paypaI".replace('I', "1").as_str()));
        assert_eq!(skeleton("bob"), skeleton("b0b"));
        assert_ne!(skeleton("bob"), skeleton("bab"));
    }

    #[test]
    fn every_reserved_word_is_a_number_in_its_normal_form() {
        for word in RESERVED {
            assert_eq!(ChosenNumber::new(word, None).unwrap().name(), word);
        }
    }

    proptest! {
        #[test]
        fn what_may_be_issued_is_stable(typed in "\\PC{0,40}") {
            let rules = rules();
            if let Ok(wish) = rules.judge(&typed) {
                prop_assert_eq!(rules.judge(&wish.number.to_string()), Ok(wish.clone()));
                prop_assert_eq!(wish.number.directory(), Some("directory.example"));
            }
        }
    }
}
