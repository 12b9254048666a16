//! Why a command is refused.

use serde::{Deserialize, Serialize};

/// What can go wrong, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The input is not a number, address, device or message that Offhook understands.
    BadInput,
    /// No account is there under that name.
    NoAccount,
    /// An account of that name exists already.
    AccountExists,
    /// The password is wrong.
    WrongPassword,
    /// No call is there to act on.
    NoCall,
    /// The terminal is in as many calls as it can hold.
    Busy,
    /// No entry point into the network is reachable.
    Offline,
    /// Publishing the number did not succeed.
    PublishFailed,
    /// The number belongs to another identity.
    NumberTaken,
    /// This terminal's certificate ends soon, or has ended: `Home::recertify` renews it.
    Certificate,
    /// The key behind the number changed; see [`Event::KeyChanged`](super::Event::KeyChanged).
    KeyChanged,
    /// Nobody has the number.
    WrongNumber,
    /// The directory of a chosen number is not known, or there is none of that name.
    UnknownDirectory,
    /// The directory of a chosen number was never met, and its site cannot be reached now.
    DirectoryUnreachable,
    /// The directory's certificate of a chosen number has run out.
    NumberExpired,
    /// No contact of that number or name.
    NoContact,
    /// No changed key is waiting to be confirmed.
    NothingToConfirm,
    /// The call has no connection yet.
    NotConnected,
    /// No recording of that name, or several.
    NoRecording,
    /// As many recordings are kept as there may be.
    Full,
    /// A file or database could not be read or written.
    Storage,
    /// The sound device failed.
    Audio,
    /// The network could not be used.
    Network,
    /// The account is open in another program, or a terminal runs in this home already.
    InUse,
    /// The command needs a running terminal.
    NotRunning,
    /// The operating system refused something: a file, a socket, a thread.
    System,
    /// The telephone is shutting down.
    ShuttingDown,
    /// A bug: please report it.
    Internal,
}

/// A refusal of a [`Command`](super::Command).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// For programs.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
}

impl ApiError {
    /// An error with its sentence.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}
