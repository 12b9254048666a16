//! Who answers.

use std::time::Duration;

/// What to do when it rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AnswerMode {
    /// Ring until somebody answers.
    #[default]
    Manual,
    /// Answer every call at once.
    Auto,
    /// Let the answering machine take what nobody has answered. See [`Machine`].
    Machine,
}

/// The answering machine: it says a greeting (the account's own, see [`Home::set_greeting`](crate::storage::Home::set_greeting)), then a beep,
/// and records what the caller says until the caller hangs up, is silent for eight seconds or has said enough. Of each message tells
/// [`Event::VoiceMessage`](crate::api::Event::VoiceMessage).
///
/// It does not answer when [`MAX_MESSAGES`](crate::recording::MAX_MESSAGES) are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// How long it rings before. Only what rings so long, see [`ring_timeout`](super::PhoneBuilder::ring_timeout), is answered. Default: 20 s.
    pub after: Duration,
    /// Longest message. Default: 3 min.
    pub limit: Duration,
}

impl Default for Machine {
    fn default() -> Self {
        Self { after: Duration::from_secs(20), limit: Duration::from_secs(180) }
    }
}
