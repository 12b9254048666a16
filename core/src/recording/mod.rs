//! Recordings: calls, and messages that callers have left, as Ogg Opus files (RFC 7845) in the account's directory.
//!
//! ```text
//! voice thread ── Tap ── bounded ring ──► writer thread ── pages ──► recordings/call-20260131T101500Z-1a2b3c4d.opus
//! ```
//!
//! A file has one logical stream for each party, both from the same moment on, so that players show two tracks and
//! neither voice is lost under the other; [`Recordings::export`] mixes them. What was heard is encoded anew by the writer:
//! so muting, holding, gaps and lost packets become silence of the right length by themselves. Pages
//! are written whole as soon as half a second is full, so a file that is cut anywhere plays up to there.
//!
//! The voice thread only copies blocks into a ring. A disk that hangs loses blocks, which become silence; one that is
//! full ends the recording and not the call.
//!
//! Whether there may be a recording at all is decided by [`offhook_proto::recording`].

mod error;
mod folder;
#[doc(hidden)]
pub mod fuzz;
mod head;
mod mux;
mod place;
mod play;
mod reader;
mod tap;
mod voice;
mod writer;

use std::time::Duration;

pub use error::RecordingError;
pub use folder::Recordings;
pub(crate) use folder::Whose;
pub use play::{Track, UnknownTrack};
pub(crate) use tap::Tap;
pub use voice::{MAX_VOICE, Voice};
pub(crate) use writer::{Finished, Order, Started, WriterEnd};

/// Longest recording of a call: about 120 MB.
pub const MAX_DURATION: Duration = Duration::from_secs(4 * 3_600);
/// Recordings of calls that are kept; another does not begin before some are deleted.
pub const MAX_CALLS: usize = 1_000;
/// Messages of callers that are kept: a stranger can leave them. More are refused until some are deleted.
pub const MAX_MESSAGES: usize = 100;
/// Messages of one number that are kept: nobody takes the machine away from all others.
pub const MAX_MESSAGES_OF_ONE: usize = 10;
/// Places of [`MAX_MESSAGES`] that contacts alone get.
pub const MESSAGES_OF_CONTACTS: usize = 25;
/// Bytes of all messages together, likewise. A hundred of the longest have half of it.
pub const MAX_MESSAGE_BYTES: u64 = 256 * 1024 * 1024;
/// Recordings that [`Command::Recordings`](crate::api::Command::Recordings) tells of: what fits into one reply.
pub const MAX_LISTED: usize = 200;

#[cfg(test)]
mod tests;
