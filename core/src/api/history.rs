//! Calls that are over.

use super::{CallRef, CallSummary, EndReason};
use offhook_proto::number::Number;
use serde::{Deserialize, Serialize};

/// Most calls in one answer to [`Command::History`](super::Command::History).
pub const MAX_HISTORY_REPLY: u32 = 1_000;

/// Calls in an answer if nobody says how many.
pub const HISTORY_REPLY: u32 = 20;

/// One finished call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PastCall {
    /// The call.
    pub call: CallRef,
    /// The other end's number.
    pub number: Number,
    /// Its name in the contact list, if it is there now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether this end dialled.
    pub outgoing: bool,
    /// Whether it rang here and nobody took it or declined it.
    pub missed: bool,
    /// When it was dialled or began to ring, Unix milliseconds.
    pub started: u64,
    /// Talking time, milliseconds; 0 if it was not answered.
    pub duration_ms: u64,
    /// How it ended.
    #[serde(flatten)]
    pub reason: EndReason,
    /// How it went, if people talked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<CallSummary>,
}

/// Whether a call that ended so without an answer is one that the user has missed.
pub(crate) fn is_missed(outgoing: bool, duration_ms: u64, reason: EndReason) -> bool {
    if outgoing || duration_ms > 0 {
        return false;
    }
    match reason {
        EndReason::Cancelled
        | EndReason::NoAnswer
        | EndReason::Busy
        | EndReason::Unreachable
        | EndReason::Failed(_) => true,
        // Somebody has decided, here or at another terminal; or it went on as another call.
        EndReason::Declined
        | EndReason::HungUp
        | EndReason::Blocked
        | EndReason::Voicemail
        | EndReason::Work
        | EndReason::AnsweredElsewhere
        | EndReason::Merged
        | EndReason::Transferred
        | EndReason::KeyChanged
        | EndReason::WrongNumber => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::FailureCode;
    use super::*;

    #[test]
    fn a_call_is_missed_if_it_rang_and_nobody_decided() {
        for reason in
            [EndReason::Cancelled, EndReason::NoAnswer, EndReason::Failed(FailureCode::SignallingLost)]
        {
            assert!(is_missed(false, 0, reason), "{reason:?}");
            assert!(!is_missed(true, 0, reason) && !is_missed(false, 900, reason), "{reason:?}");
        }
        for reason in [EndReason::Declined, EndReason::AnsweredElsewhere, EndReason::HungUp] {
            assert!(!is_missed(false, 0, reason), "{reason:?}");
        }
    }
}
