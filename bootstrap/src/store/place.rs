//! Where things are stored, as an operator writes it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::StoreError;

/// The beginnings of an address of PostgreSQL.
const POSTGRES: [&str; 2] = ["postgres://", "postgresql://"];
/// The beginning of an address of an S3-compatible store.
const S3: &str = "s3://";

/// An address that may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// The address with all that is in it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretUrl {
    /// Without what is between the scheme and the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, _) = self.0.split_once("://").unwrap_or_default();
        write!(f, "{scheme}://…")
    }
}

/// A database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabasePlace {
    /// SQLite's, by its file.
    Sqlite(PathBuf),
    /// PostgreSQL's, by its URL.
    Postgres(SecretUrl),
}

/// Where backups are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlobPlace {
    /// In a folder on this host's disk.
    Folder(PathBuf),
    /// In an S3-compatible store: `s3://BUCKET/PREFIX?endpoint=URL&region=NAME&key=ID&secret=SECRET`. What is left out is told by the
    /// environment (`AWS_ENDPOINT`, `AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`) or by the host's role.
    S3(SecretUrl),
}

/// Whether it is an address, rather than a path.
fn is_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| scheme.chars().all(|c| c.is_ascii_alphanumeric()))
}

impl FromStr for DatabasePlace {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        if POSTGRES.iter().any(|scheme| text.starts_with(scheme)) {
            return Ok(Self::Postgres(SecretUrl(text.to_owned())));
        }
        if text.is_empty() || is_url(text) {
            return Err(StoreError::NoDatabase(scheme_of(text)));
        }
        Ok(Self::Sqlite(PathBuf::from(text)))
    }
}

impl FromStr for BlobPlace {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        if text.starts_with(S3) {
            return Ok(Self::S3(SecretUrl(text.to_owned())));
        }
        if text.is_empty() || is_url(text) {
            return Err(StoreError::NoBlobPlace(scheme_of(text)));
        }
        Ok(Self::Folder(PathBuf::from(text)))
    }
}

/// What may be repeated of an address: it may hold a password.
fn scheme_of(text: &str) -> String {
    text.split_once("://").map_or_else(String::new, |(scheme, _)| format!("{scheme}://…"))
}

impl fmt::Display for DatabasePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => path.display().fmt(f),
            Self::Postgres(url) => f.write_str(url.as_str()),
        }
    }
}

impl fmt::Display for BlobPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::S3(url) => f.write_str(url.as_str()),
        }
    }
}

macro_rules! as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

as_text!(DatabasePlace);
as_text!(BlobPlace);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_apart_and_passwords_are_not_repeated() {
        let database = |text: &str| text.parse::<DatabasePlace>();
        assert_eq!(database("/var/x.sqlite").expect("a file"), DatabasePlace::Sqlite("/var/x.sqlite".into()));
        let postgres = database("postgres://u:secret@h/d").expect("PostgreSQL");
        assert!(matches!(postgres, DatabasePlace::Postgres(_)));
        assert!(!format!("{postgres:?}").contains("secret"));
        assert_eq!(postgres.to_string(), "postgres://u:secret@h/d", "in the settings it is whole");
        for wrong in ["", "mysql://u:secret@h/d"] {
            assert!(!database(wrong).expect_err("refused").to_string().contains("secret"));
        }
        let blobs = |text: &str| text.parse::<BlobPlace>();
        assert_eq!(blobs("backups").expect("a folder"), BlobPlace::Folder("backups".into()));
        assert!(matches!(blobs("s3://bucket/offhook").expect("S3"), BlobPlace::S3(_)));
        assert!(blobs("gs://bucket").is_err());
    }
}
