//! Presence.

use serde::{Deserialize, Serialize};

/// How somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PresenceState {
    /// May be called.
    #[default]
    Available,
    /// Not at the telephone.
    Away,
    /// In a call. Told by itself.
    Busy,
    /// Does not want to be called.
    DoNotDisturb,
    /// Not on line, or would like to appear so.
    Offline,
}

/// How somebody is, with a word of their own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PresenceInfo {
    /// In a word.
    pub state: PresenceState,
    /// In their own words; may be empty.
    #[serde(default)]
    pub note: String,
}

/// Who is told how this user is. Whoever is told nothing asks for nothing either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Visibility {
    /// Contacts whose keys are known.
    #[default]
    Contacts,
    /// Those of them with whom words or digits were compared.
    Verified,
    /// Nobody; and nobody is asked.
    Nobody,
}

/// What contacts are told, and which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceSettings {
    /// In a word: what was chosen, or busy.
    pub state: PresenceState,
    /// In the user's own words.
    pub note: String,
    /// Who is told.
    pub visible: Visibility,
}

/// How a contact is, as it has told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactPresence {
    /// In a word.
    pub state: PresenceState,
    /// In its own words.
    pub note: String,
}
