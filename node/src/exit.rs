//! Exit codes and the one sentence that goes with a failure.

use offhook::api::{ApiError, EndReason, ErrorCode, Event, FailureCode};
use offhook::directory::DirectoryError;
use offhook::storage::{ResolveError, StorageError};

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
    /// No entry point into the network is reachable, or a number could not be looked up.
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
    /// The code of an ended call or of a text message that failed.
    pub fn of_end(reason: EndReason) -> Self {
        match reason {
            EndReason::HungUp | EndReason::Transferred => Self::Ok,
            EndReason::Declined => Self::Declined,
            EndReason::Busy => Self::Busy,
            EndReason::NoAnswer => Self::NoAnswer,
            EndReason::Unreachable => Self::Unreachable,
            EndReason::WrongNumber => Self::WrongNumber,
            EndReason::Blocked => Self::Blocked,
            EndReason::Voicemail => Self::NoAnswer,
            EndReason::Work => Self::Blocked,
            EndReason::KeyChanged => Self::KeyChanged,
            EndReason::Cancelled => Self::Interrupted,
            // Of a dialled call neither comes: it is the other one that is merged into it.
            EndReason::AnsweredElsewhere | EndReason::Merged => Self::Failed,
            EndReason::Failed(failure) => Self::of_failure(failure),
        }
    }

    fn of_failure(failure: FailureCode) -> Self {
        match failure {
            FailureCode::Lookup => Self::Offline,
            FailureCode::NumberDisputed => Self::KeyChanged,
            FailureCode::NumberExpired => Self::Unreachable,
            // After the answer only.
            FailureCode::NoMediaPath
            | FailureCode::MediaLost
            | FailureCode::SignallingLost
            | FailureCode::NotConfirmed => Self::MediaFailed,
            FailureCode::Media
            | FailureCode::Remote
            | FailureCode::Clock
            | FailureCode::Protocol
            | FailureCode::NotKept
            | FailureCode::Unconfirmed
            | FailureCode::CallEnded
            | FailureCode::ShutDown => Self::Failed,
        }
    }

    /// The code of a refused command.
    pub fn of_code(code: ErrorCode) -> Self {
        match code {
            ErrorCode::BadInput
            | ErrorCode::UnknownDirectory
            | ErrorCode::NoContact
            | ErrorCode::NoRecording => Self::BadInput,
            ErrorCode::WrongNumber => Self::WrongNumber,
            ErrorCode::NoAccount => Self::NoAccount,
            ErrorCode::AccountExists => Self::AccountExists,
            ErrorCode::WrongPassword => Self::WrongPassword,
            ErrorCode::NotRunning => Self::NotRunning,
            ErrorCode::InUse => Self::InUse,
            ErrorCode::Offline | ErrorCode::DirectoryUnreachable => Self::Offline,
            ErrorCode::NumberExpired => Self::Unreachable,
            ErrorCode::KeyChanged => Self::KeyChanged,
            // Not the callee, who has a code of its own.
            ErrorCode::Busy
            | ErrorCode::NoCall
            | ErrorCode::PublishFailed
            | ErrorCode::NumberTaken
            | ErrorCode::Certificate
            | ErrorCode::NothingToConfirm
            | ErrorCode::NotConnected
            | ErrorCode::Full
            | ErrorCode::Storage
            | ErrorCode::Audio
            | ErrorCode::Network
            | ErrorCode::System
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

/// Why a command did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// For scripts.
    pub exit: Exit,
    /// Code and sentence. `None` if everything has been said on the way: by the event that ended a call, say.
    pub told: Option<ApiError>,
}

impl Failure {
    /// A failure with its sentence.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        ApiError::new(code, message).into()
    }

    /// The input is not understood.
    pub fn bad_input(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::BadInput, message)
    }

    /// The operating system refused something.
    pub fn system(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::System, message)
    }

    /// The command needs a running terminal.
    pub fn not_running() -> Self {
        Self::new(ErrorCode::NotRunning, "No terminal is running here. Start one with `offhook run`.")
    }

    /// Exit code of something that was already told to the user.
    pub fn silent(exit: Exit) -> Self {
        Self { exit, told: None }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self { exit: Exit::of_code(error.code), told: Some(error) }
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        error.to_api().into()
    }
}

impl From<DirectoryError> for Failure {
    fn from(error: DirectoryError) -> Self {
        error.to_api().into()
    }
}

impl From<ResolveError> for Failure {
    fn from(error: ResolveError) -> Self {
        error.to_api().into()
    }
}

/// The outcome of a command.
pub type Outcome = Result<(), Failure>;

/// Whether an event ends the wait for the text message `id`, and how. The event itself tells it in words.
pub fn text_outcome(event: &Event, id: &str) -> Option<Outcome> {
    if let Event::TextDelivered { id: delivered } = event
        && delivered == id
    {
        return Some(Ok(()));
    }
    if let Event::TextWaits { id: waits, left } = event {
        // What a directory keeps needs this program no more.
        let outcome = if *left { Ok(()) } else { Err(Failure::silent(Exit::Unreachable)) };
        return (waits == id).then_some(outcome);
    }
    let Event::TextFailed { id: failed, reason } = event else { return None };
    let exit = Exit::of_end(*reason);
    // A message is neither hung up nor interrupted.
    let exit = if matches!(exit, Exit::Ok | Exit::Interrupted) { Exit::Failed } else { exit };
    (failed == id).then(|| Err(Failure::silent(exit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_of_a_call_has_the_documented_code() {
        let table = [
            (EndReason::HungUp, 0),
            (EndReason::Transferred, 0),
            (EndReason::Busy, 10),
            (EndReason::Declined, 11),
            (EndReason::NoAnswer, 12),
            (EndReason::Unreachable, 13),
            (EndReason::WrongNumber, 14),
            (EndReason::Blocked, 15),
            (EndReason::KeyChanged, 16),
            (EndReason::Cancelled, 130),
            (EndReason::AnsweredElsewhere, 1),
            (EndReason::Failed(FailureCode::Lookup), 7),
            (EndReason::Failed(FailureCode::NumberDisputed), 16),
            (EndReason::Failed(FailureCode::NoMediaPath), 17),
            (EndReason::Failed(FailureCode::MediaLost), 17),
            (EndReason::Failed(FailureCode::Media), 1),
            (EndReason::Failed(FailureCode::Remote), 1),
        ];
        for (reason, code) in table {
            assert_eq!(Exit::of_end(reason) as u8, code, "{reason:?}");
        }
    }

    #[test]
    fn errors_keep_their_sentence() {
        let failure = Failure::from(ApiError::new(ErrorCode::WrongPassword, "The password is wrong."));
        assert_eq!(failure.exit as u8, 4);
        assert_eq!(failure.told.unwrap().message, "The password is wrong.");
        let failure = Failure::from(StorageError::InUse("ada".into()));
        assert_eq!(failure.exit as u8, 8);
        assert!(failure.told.unwrap().message.contains("ada"));
    }

    #[test]
    fn a_text_is_over_when_its_own_event_comes() {
        let delivered = Event::TextDelivered { id: "a".into() };
        assert_eq!(text_outcome(&delivered, "a"), Some(Ok(())));
        assert_eq!(text_outcome(&delivered, "b"), None);
        let waits = |left| Event::TextWaits { id: "a".into(), left };
        assert_eq!(text_outcome(&waits(true), "a"), Some(Ok(())), "its directory has it");
        assert_eq!(text_outcome(&waits(false), "a").unwrap().unwrap_err().exit, Exit::Unreachable);
        let failed = Event::TextFailed { id: "a".into(), reason: EndReason::WrongNumber };
        assert_eq!(text_outcome(&failed, "a").unwrap().unwrap_err().exit, Exit::WrongNumber);
    }
}
