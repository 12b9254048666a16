use super::StorageError;
use precis_core::profile::PrecisFastInvocation as _;
use precis_profiles::UsernameCaseMapped;
use std::fmt;
use std::str::FromStr;

/// Longest account ID, characters after normalisation.
pub const MAX_ID_CHARS: usize = 64;

/// An account's ID: what its user types to be told from other users of the same terminal.
///
/// Normalised by the UsernameCaseMapped profile (RFC 8265, section 3.3): `Ada` and `ada` are one ID,
/// blanks and control characters are refused. Characters that mean something in a path are refused too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(String);

impl AccountId {
    /// The normalised ID.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for AccountId {
    type Err = StorageError;

    fn from_str(typed: &str) -> Result<Self, StorageError> {
        let typed = typed.trim();
        if typed.is_empty() {
            return Err(StorageError::BadId("it is empty"));
        }
        // Before normalising, whose cost grows with the length; it never makes a string that much shorter.
        if typed.len() > 4 * MAX_ID_CHARS {
            return Err(StorageError::BadId("it is longer than 64 characters"));
        }
        let id = UsernameCaseMapped::enforce(typed).map_err(|_| {
            StorageError::BadId("letters, digits and signs are fine, blanks and control characters are not")
        })?;
        // It is read again from the disk. Rare strings need several passes (RFC 8264, section 7) and are no names.
        if !UsernameCaseMapped::enforce(id.as_ref()).is_ok_and(|again| again == id) {
            return Err(StorageError::BadId("its characters can't be put into a fixed order"));
        }
        if id.chars().count() > MAX_ID_CHARS {
            return Err(StorageError::BadId("it is longer than 64 characters"));
        }
        if id.starts_with(['.', '-']) {
            return Err(StorageError::BadId("it can't begin with a dot or a dash"));
        }
        if id.contains(['/', '\\', ':', '*', '?', '"', '<', '>', '|', '\0']) {
            return Err(StorageError::BadId("it can't contain any of / \\ : * ? \" < > |"));
        }
        Ok(Self(id.into_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(typed: &str) -> Result<String, String> {
        typed.parse::<AccountId>().map(|id| id.0).map_err(|e| e.to_string())
    }

    #[test]
    fn ids_are_normalised() {
        assert_eq!(id("Ada").unwrap(), "ada");
        assert_eq!(id("  ada ").unwrap(), "ada");
        assert_eq!(id("ａｄａ").unwrap(), "ada", "full width");
        assert_eq!(id("ada@example.org").unwrap(), "ada@example.org");
        assert_eq!(id("홍길동").unwrap(), "홍길동");
        assert_eq!(id("e\u{301}ve").unwrap(), "éve");
        assert_eq!(id(&"x".repeat(64)).unwrap().len(), 64);
    }

    #[test]
    fn an_id_whose_normal_form_is_not_stable_is_refused() {
        let unstable =
            "i=\u{330}\u{330}\u{338}qni\u{330}\u{330}\u{330}\u{330}-\u{330}qni\u{31b}\u{330}\u{330}q";
        assert!(id(unstable).unwrap_err().contains("order"));
    }

    #[test]
    fn ids_that_are_no_names_are_refused() {
        for bad in
            ["", "   ", "a b", "a/b", "..", ".hidden", "-rf", "a\\b", "c:", "a\0b", "a\nb", "a\u{202e}b"]
        {
            assert!(id(bad).is_err(), "{bad:?}");
        }
        assert!(id(&"x".repeat(65)).unwrap_err().contains("64"));
        assert!(id(&"x".repeat(100_000)).unwrap_err().contains("64"));
    }
}
