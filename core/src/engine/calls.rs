//! What the outside sees of each call: its state, kept for those who wait for it.

use crate::api::{self, ApiError, CallRef, ErrorCode};
use crate::phone::CallState;
use offhook_proto::call::{EndReason, Failure, LegId};
use offhook_proto::number::Number;
use offhook_proto::signalling::CallId;
use offhook_proto::wire::UnixMillis;
use std::collections::{BTreeMap, VecDeque};
use tokio::sync::watch;

/// Ended calls whose last state is still told to those who ask.
const REMEMBERED: usize = 64;

/// One call as the API shows it.
#[derive(Debug)]
pub(super) struct CallView {
    /// The other end's number.
    pub number: Number,
    /// Whether this end dialled.
    pub outgoing: bool,
    /// When it began, for the history.
    pub began: UnixMillis,
    /// The leg that carries it, once connected.
    pub leg: Option<LegId>,
    /// How it ended by what only the engine knows: a changed or disputed key, a closed media connection.
    pub verdict: Option<(api::EndReason, api::Side)>,
    /// Where it stands.
    pub state: watch::Sender<CallState>,
}

/// All calls by id; ended ones stay for a while.
#[derive(Debug, Default)]
pub(super) struct CallViews {
    calls: BTreeMap<CallId, CallView>,
    ended: VecDeque<CallId>,
}

impl CallViews {
    /// A new call.
    pub fn begin(&mut self, call: CallId, number: Number, outgoing: bool, began: UnixMillis) {
        let first = if outgoing { CallState::Searching } else { CallState::Ringing };
        let view =
            CallView { number, outgoing, began, leg: None, verdict: None, state: watch::Sender::new(first) };
        self.calls.insert(call, view);
    }

    /// The call, also shortly after its end.
    pub fn get(&self, call: &CallId) -> Option<&CallView> {
        self.calls.get(call)
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, call: &CallId) -> Option<&mut CallView> {
        self.calls.get_mut(call)
    }

    /// Set a call's state. A call that has ended stays ended.
    pub fn set(&mut self, call: &CallId, state: CallState) {
        let Some(view) = self.calls.get_mut(call) else { return };
        if matches!(*view.state.borrow(), CallState::Ended(_)) {
            return;
        }
        if matches!(state, CallState::Ended(_)) {
            self.ended.push_back(*call);
        }
        view.state.send_replace(state);
        while self.ended.len() > REMEMBERED {
            if let Some(oldest) = self.ended.pop_front() {
                self.calls.remove(&oldest);
            }
        }
    }

    /// Calls that have not ended, oldest first.
    pub fn live(&self) -> impl Iterator<Item = (&CallId, &CallView)> {
        let mut live: Vec<_> =
            self.calls.iter().filter(|(_, v)| !matches!(*v.state.borrow(), CallState::Ended(_))).collect();
        live.sort_by_key(|(_, v)| v.began);
        live.into_iter()
    }

    /// The call that a command means: the one it names, or else the oldest live one for which
    /// `fits`, one that rings here last. `none` is the sentence if no call fits.
    pub fn pick(
        &self,
        named: Option<&CallRef>,
        none: &str,
        fits: impl Fn(&CallView) -> bool,
    ) -> Result<CallId, ApiError> {
        let none = || ApiError::new(ErrorCode::NoCall, none);
        match named {
            Some(text) => {
                let unknown = || ApiError::new(ErrorCode::NoCall, "There is no such call.");
                let id: CallId = text.parse().map_err(|_| unknown())?;
                let (call, view) = self.live().find(|(call, _)| **call == id).ok_or_else(unknown)?;
                if fits(view) { Ok(*call) } else { Err(none()) }
            }
            // What the user is in goes before what merely rings.
            None => {
                let fitting: Vec<_> = self.live().filter(|(_, v)| fits(v)).collect();
                let engaged = fitting.iter().find(|(_, v)| !v.rings_here());
                engaged.or(fitting.first()).map(|(c, _)| **c).ok_or_else(none)
            }
        }
    }

    /// Follow a call's state.
    pub fn watch(&self, call: &str) -> Result<watch::Receiver<CallState>, ApiError> {
        let id: CallId = call
            .parse()
            .map_err(|_| ApiError::new(ErrorCode::BadInput, "That is not a call's identifier."))?;
        match self.calls.get(&id) {
            Some(view) => Ok(view.state.subscribe()),
            None => Err(ApiError::new(ErrorCode::NoCall, "There is no such call.")),
        }
    }
}

impl CallView {
    /// Whether it rings here and waits for an answer.
    pub fn rings_here(&self) -> bool {
        !self.outgoing && *self.state.borrow() == CallState::Ringing
    }

    /// Whether the two ends talk.
    pub fn is_active(&self) -> bool {
        matches!(*self.state.borrow(), CallState::Active | CallState::Connecting)
    }
}

/// The machine's end reason in the API's words.
pub(super) fn end_reason(reason: EndReason) -> api::EndReason {
    match reason {
        EndReason::HungUp => api::EndReason::HungUp,
        EndReason::Declined => api::EndReason::Declined,
        EndReason::Busy => api::EndReason::Busy,
        EndReason::NoAnswer => api::EndReason::NoAnswer,
        EndReason::Unreachable => api::EndReason::Unreachable,
        EndReason::WrongNumber => api::EndReason::WrongNumber,
        EndReason::Blocked => api::EndReason::Blocked,
        EndReason::KeyChanged => api::EndReason::KeyChanged,
        EndReason::AnsweredElsewhere => api::EndReason::AnsweredElsewhere,
        EndReason::Cancelled => api::EndReason::Cancelled,
        EndReason::Merged => api::EndReason::Merged,
        EndReason::Failed(failure) => api::EndReason::Failed(failure_text(failure).to_owned()),
    }
}

fn failure_text(failure: Failure) -> &'static str {
    match failure {
        Failure::Lookup => "the number could not be looked up: no connection to the network",
        Failure::NoMediaPath => "no way was found for the sound between the two ends",
        Failure::MediaLost => "the connection between the two ends broke",
        Failure::Media => "the sound could not be prepared here",
        Failure::Remote => "the other terminal could not make the call",
        Failure::SignallingLost => "the other terminal stopped answering",
        Failure::NotConfirmed => "the caller never confirmed the answer",
        Failure::Clock => "the clocks of the two computers differ too much",
        Failure::Protocol => "the other end broke the protocol",
    }
}
