//! Words that flags and arguments take.

use clap::ValueEnum;

/// Whether to serve the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Serve {
    /// While strangers are proved to reach this terminal.
    Auto,
    /// In any case.
    Always,
    /// Never.
    Off,
}

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Calls ring until somebody answers.
    Manual,
    /// Calls are answered at once.
    Auto,
    /// The answering machine takes what nobody has answered.
    Machine,
}

/// How the user is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Presence {
    /// May be called.
    Available,
    /// Not at the telephone.
    Away,
    /// Does not want to be disturbed: nothing rings.
    Dnd,
    /// As if the terminal were not on line.
    Offline,
}

/// Who is told how the user is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum VisibleTo {
    /// Contacts whose keys are known.
    Contacts,
    /// Those with whom words were compared.
    Verified,
    /// Nobody, and nobody is asked.
    Nobody,
}

/// Whose transfers are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transfers {
    /// Those of contacts; others are declined.
    Contacts,
    /// Everybody's.
    Everybody,
    /// All are declined.
    Nobody,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// From now on.
    On,
    /// No longer.
    Off,
}

impl Switch {
    /// As a truth value.
    pub fn is_on(self) -> bool {
        self == Self::On
    }
}
