//! What some commands are answered with.

use super::ContactPresence;
use offhook_proto::number::Number;
use serde::{Deserialize, Serialize};

/// A contact with its pinned key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// The number.
    pub number: Number,
    /// The name the user gave.
    pub name: String,
    /// Fingerprint of the pinned key; `None` until the first contact.
    pub fingerprint: Option<String>,
    /// Whether the two people compared words or digits.
    pub verified: bool,
    /// Fingerprint of another key that was met under the number, and that waits to be confirmed or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered: Option<String>,
    /// How it is, if it has told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence: Option<ContactPresence>,
}

/// A directory whose key is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryInfo {
    /// Its DNS name, which stands behind the `@` of its numbers.
    pub name: String,
    /// Its key, 64 hexadecimal digits.
    pub key: String,
    /// Another key that its site names, and that waits for the user's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered: Option<String>,
    /// Numbers that are dialled without a directory are its.
    pub home: bool,
}

/// An answer to [`Command::Lookup`](super::Command::Lookup).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookupResult {
    /// The number.
    pub number: Number,
    /// Fingerprint of its identity key.
    pub fingerprint: String,
    /// How many terminals are on line.
    pub terminals: usize,
    /// Milliseconds from the question to the first valid record.
    pub found_ms: u64,
}

/// The words and digits that two people compare by voice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyResult {
    /// Six words.
    pub words: Vec<String>,
    /// Twenty digits.
    pub digits: String,
    /// Whether the other end counts as verified: the people compared them, now or in an earlier call.
    pub verified: bool,
}
