//! A directory's accounts, from the terminal's side: sign up, log in, keep a backup, have chosen numbers.
//!
//! ```text
//! address   ada@example.org: whose account, and where it is
//! http      one request and its answer, both bounded
//! answers   what a directory answers, typed
//! error     how it refuses
//! client    a directory that has been met: sign up, log in, recover
//! session   somebody who is in: backups, credentials, numbers
//! account   an account of this terminal and its directories: what the command line does
//! sync      its backup there and here
//! numbers   its chosen numbers
//! keeper    a running terminal that does it by itself
//! ```
//!
//! A directory never learns a password (OPAQUE) and sees of a backup its size and version. What touches the identity is signed by it.
//! So whoever has the identity key, by the password of the account here, needs no other to act at its directories
//! (`recover`, docs/protocol.md).

mod account;
mod address;
mod answers;
mod client;
mod error;
mod http;
mod keeper;
mod numbers;
mod session;
mod sync;
mod transfer;

pub use account::{Signed, Unlocked};
pub use address::{AccountAddress, DirectoryAddress};
pub use answers::{Availability, ChosenNumber, DirectoryInfo, NumberState};
pub use client::Directory;
pub use error::{DirectoryError, Refusal};
pub(crate) use keeper::Keeper;
pub use numbers::Claimed;
pub use session::{Conflict, Session};
pub use sync::{Heard, Older, Synced};
pub use transfer::{BadTransferCode, TransferCode};

/// For the fuzz target.
#[doc(hidden)]
pub mod fuzz {
    pub use super::answers::fuzz_answer as answer;
}

#[cfg(test)]
mod tests;
