//! Exit codes and the one sentence that goes with a failure.

use offhook::api::{ApiError, EndReason, ErrorCode, Event};
use offhook::storage::StorageError;

/// How the program ended, for scripts. Printed by `offhook --help` and in `docs/terminal.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// It did not work, for a reason without a code of its own.
    Failed = 1,
    /// The input is not understood (clap uses 2 for flags too).
    BadInput = 2,
    /// No such account, or none chosen.
    NoAccount = 3,
    /// The password is wrong.
    WrongPassword = 4,
    /// An account of that ID exists already.
    AccountExists = 5,
    /// The command needs a running terminal, and none runs.
    NotRunning = 6,
    /// No entry point into the network is reachable.
    Offline = 7,
    /// Another program has the account open.
    InUse = 8,
    /// The callee is in another call.
    Busy = 10,
    /// The callee declined.
    Declined = 11,
    /// Nobody answered.
    NoAnswer = 12,
    /// None of the number's terminals can be reached.
    Unreachable = 13,
    /// Nobody has this number.
    WrongNumber = 14,
    /// The callee does not take calls from this number.
    Blocked = 15,
    /// The key behind the number is not the pinned one.
    KeyChanged = 16,
    /// The call was answered, but no sound connection came about.
    MediaFailed = 17,
    /// Interrupted by Ctrl-C before anything was decided (128 + SIGINT, as shells count).
    Interrupted = 130,
}

impl Exit {
    /// The code of an ended call. `answered` tells a failure of the media from one before.
    pub fn of_call(reason: &EndReason, answered: bool) -> Self {
        match reason {
            EndReason::HungUp => Self::Ok,
            EndReason::Declined => Self::Declined,
            EndReason::Busy => Self::Busy,
            EndReason::NoAnswer => Self::NoAnswer,
            EndReason::Unreachable => Self::Unreachable,
            EndReason::WrongNumber => Self::WrongNumber,
            EndReason::Blocked => Self::Blocked,
            EndReason::KeyChanged => Self::KeyChanged,
            EndReason::Cancelled => Self::Interrupted,
            // Of a dialled call neither comes: it is the other one that is merged into it.
            EndReason::AnsweredElsewhere | EndReason::Merged => Self::Failed,
            EndReason::Failed(_) if answered => Self::MediaFailed,
            EndReason::Failed(_) => Self::Failed,
        }
    }

    fn of_code(code: ErrorCode) -> Self {
        match code {
            ErrorCode::BadInput | ErrorCode::UnknownDirectory => Self::BadInput,
            ErrorCode::WrongNumber => Self::WrongNumber,
            ErrorCode::NoAccount => Self::NoAccount,
            ErrorCode::AccountExists => Self::AccountExists,
            ErrorCode::WrongPassword => Self::WrongPassword,
            ErrorCode::Busy => Self::Busy,
            ErrorCode::Offline => Self::Offline,
            ErrorCode::KeyChanged | ErrorCode::NumberDisputed => Self::KeyChanged,
            ErrorCode::NoCall
            | ErrorCode::PublishFailed
            | ErrorCode::NumberTaken
            | ErrorCode::Certificate
            | ErrorCode::NoContact
            | ErrorCode::NotConnected
            | ErrorCode::Storage
            | ErrorCode::Audio
            | ErrorCode::Network
            | ErrorCode::ShuttingDown
            | ErrorCode::Internal => Self::Failed,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what it was asked: exit code and sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// For scripts.
    pub exit: Exit,
    /// For people. Empty if everything has been said on the way.
    pub message: String,
}

impl Failure {
    /// A failure with its sentence.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// The input is not understood.
    pub fn bad_input(message: impl Into<String>) -> Self {
        Self::new(Exit::BadInput, message)
    }

    /// It did not work.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// The command needs a running terminal.
    pub fn not_running() -> Self {
        Self::new(Exit::NotRunning, "No terminal is running here. Start one with `offhook run`.")
    }

    /// Exit code of something that was already told to the user.
    pub fn silent(exit: Exit) -> Self {
        Self::new(exit, "")
    }

    /// As a JSON object for scripts; the shape of an error on the control socket.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "reply": "error", "exit": self.exit as u8, "message": self.message })
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::new(Exit::of_code(error.code), error.message)
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        let in_use = matches!(error, StorageError::InUse(_));
        let exit = if in_use { Exit::InUse } else { Exit::of_code(error.code()) };
        Self::new(exit, error.to_string())
    }
}

/// The outcome of a command.
pub type Outcome = Result<(), Failure>;

/// Whether an event ends the wait for the text message `id`, and how.
pub fn text_outcome(event: &Event, id: &str) -> Option<Outcome> {
    if let Event::TextDelivered { id: delivered } = event
        && delivered == id
    {
        return Some(Ok(()));
    }
    let Event::TextFailed { id: failed, reason } = event else { return None };
    let exit = Exit::of_call(reason, false);
    // A message is neither hung up nor interrupted.
    let exit = if matches!(exit, Exit::Ok | Exit::Interrupted) { Exit::Failed } else { exit };
    let message = format!("Not delivered: {}.", crate::text::reason(reason));
    (failed == id).then(|| Err(Failure::new(exit, message)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_of_a_call_has_the_documented_code() {
        let table = [
            (EndReason::HungUp, 0),
            (EndReason::Busy, 10),
            (EndReason::Declined, 11),
            (EndReason::NoAnswer, 12),
            (EndReason::Unreachable, 13),
            (EndReason::WrongNumber, 14),
            (EndReason::Blocked, 15),
            (EndReason::KeyChanged, 16),
            (EndReason::Cancelled, 130),
            (EndReason::AnsweredElsewhere, 1),
            (EndReason::Failed("x".into()), 1),
        ];
        for (reason, code) in table {
            assert_eq!(Exit::of_call(&reason, false) as u8, code, "{reason:?}");
        }
        assert_eq!(Exit::of_call(&EndReason::Failed("no path".into()), true) as u8, 17);
    }

    #[test]
    fn errors_keep_their_sentence() {
        let failure = Failure::from(ApiError::new(ErrorCode::WrongPassword, "The password is wrong."));
        assert_eq!((failure.exit as u8, failure.message.as_str()), (4, "The password is wrong."));
        let failure = Failure::from(StorageError::InUse("ada".into()));
        assert_eq!(failure.exit as u8, 8);
        assert!(failure.message.contains("ada"));
    }

    #[test]
    fn a_text_is_over_when_its_own_event_comes() {
        let delivered = Event::TextDelivered { id: "a".into() };
        assert_eq!(text_outcome(&delivered, "a"), Some(Ok(())));
        assert_eq!(text_outcome(&delivered, "b"), None);
        let failed = Event::TextFailed { id: "a".into(), reason: EndReason::WrongNumber };
        assert_eq!(text_outcome(&failed, "a").unwrap().unwrap_err().exit, Exit::WrongNumber);
    }
}
