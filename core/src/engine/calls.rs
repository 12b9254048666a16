//! What the outside sees of each call: its state, kept for those who wait for it.

use super::keys::KeyState;
use crate::api::{self, ApiError, CallRef, ErrorCode, FailureCode};
use crate::audio::Tone;
use crate::phone::CallState;
use offhook_proto::call::{EndReason, EndedBy, Failure, LegId, TextFailure};
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
    /// Whether that is a contact's, if it rang here.
    pub contact: bool,
    /// Whether this end dialled.
    pub outgoing: bool,
    /// When it began, for the history.
    pub began: UnixMillis,
    /// The leg that carries it, once connected.
    pub leg: Option<LegId>,
    /// Hold, mute, volume.
    pub keys: KeyState,
    /// The answering machine speaks in it, not the user.
    pub by_machine: bool,
    /// Nothing rings: quiet is wanted, and the answering machine takes it.
    pub silent: bool,
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
    pub fn begin(&mut self, call: CallId, number: Number, outgoing: bool, began: UnixMillis, keys: KeyState) {
        let first = if outgoing { CallState::Searching } else { CallState::Ringing };
        let view = CallView {
            number,
            contact: false,
            outgoing,
            began,
            leg: None,
            keys,
            by_machine: false,
            silent: false,
            state: watch::Sender::new(first),
        };
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
    /// `fits`, one on hold after the others, one that rings here after that and the answering machine's last. `none` is the sentence if no call fits.
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
            // What the user is in goes before what is on hold, and that before what merely rings.
            None => {
                let rank = |view: &CallView| (view.by_machine, view.rings_here(), view.keys.shown.held);
                let fitting = self.live().filter(|(_, view)| fits(view));
                fitting.min_by_key(|(_, view)| rank(view)).map(|(call, _)| *call).ok_or_else(none)
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

    /// Whether it rings at the other end.
    pub fn rings_there(&self) -> bool {
        self.outgoing && *self.state.borrow() == CallState::Ringing
    }

    /// Whether it has not ended.
    pub fn is_live(&self) -> bool {
        !matches!(*self.state.borrow(), CallState::Ended(_))
    }

    /// Whether the user talks in it, or is about to: answered, and not on hold here.
    pub fn talks(&self) -> bool {
        self.is_users() && !self.keys.shown.held
    }

    /// Whether the user takes part in it, on hold or not.
    pub fn is_users(&self) -> bool {
        self.is_active() && !self.by_machine
    }

    /// Whether it is answered, by the user or the machine, on hold or not.
    pub fn is_active(&self) -> bool {
        matches!(*self.state.borrow(), CallState::Active | CallState::Connecting)
    }
}

/// What the user of this terminal hears of a call's end: nothing of what the user did.
pub(super) fn parting(reason: api::EndReason, by: EndedBy, outgoing: bool, answered: bool) -> Option<Tone> {
    use api::EndReason as R;
    match reason {
        R::AnsweredElsewhere | R::Cancelled | R::Merged | R::Transferred => None,
        R::HungUp | R::Declined | R::Busy | R::Blocked | R::Voicemail | R::NoAnswer
            if matches!(by, EndedBy::Local | EndedBy::Elsewhere) =>
        {
            None
        }
        _ if answered => Some(Tone::End),
        // Of a call that was not answered only the caller hears something.
        _ if !outgoing => None,
        R::HungUp | R::NoAnswer => Some(Tone::End),
        R::Busy | R::Declined | R::Blocked | R::Voicemail => Some(Tone::Busy),
        R::Unreachable | R::WrongNumber | R::KeyChanged | R::Work | R::Failed(_) => Some(Tone::Special),
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
        EndReason::Voicemail => api::EndReason::Voicemail,
        EndReason::Work => api::EndReason::Work,
        EndReason::KeyChanged => api::EndReason::KeyChanged,
        EndReason::AnsweredElsewhere => api::EndReason::AnsweredElsewhere,
        EndReason::Cancelled => api::EndReason::Cancelled,
        EndReason::Merged => api::EndReason::Merged,
        EndReason::Transferred => api::EndReason::Transferred,
        EndReason::Failed(failure) => api::EndReason::Failed(failure_code(failure)),
    }
}

fn failure_code(failure: Failure) -> FailureCode {
    match failure {
        Failure::Lookup => FailureCode::Lookup,
        Failure::Disputed => FailureCode::NumberDisputed,
        Failure::Expired => FailureCode::NumberExpired,
        Failure::NoMediaPath => FailureCode::NoMediaPath,
        Failure::MediaLost => FailureCode::MediaLost,
        Failure::Media => FailureCode::Media,
        Failure::Remote => FailureCode::Remote,
        Failure::SignallingLost => FailureCode::SignallingLost,
        Failure::NotConfirmed => FailureCode::NotConfirmed,
        Failure::Clock => FailureCode::Clock,
        Failure::Protocol => FailureCode::Protocol,
    }
}

/// The machine's reason why a text is taken for lost in the API's words.
pub(super) fn text_failure(reason: TextFailure) -> api::EndReason {
    match reason {
        TextFailure::WrongNumber => api::EndReason::WrongNumber,
        TextFailure::Unreachable => api::EndReason::Unreachable,
        TextFailure::Blocked => api::EndReason::Blocked,
        TextFailure::Busy => api::EndReason::Busy,
        TextFailure::Refused => api::EndReason::Declined,
        TextFailure::KeyChanged => api::EndReason::KeyChanged,
        TextFailure::Disputed => api::EndReason::Failed(FailureCode::NumberDisputed),
        TextFailure::Expired => api::EndReason::Failed(FailureCode::NumberExpired),
        TextFailure::NotKept => api::EndReason::Failed(FailureCode::NotKept),
        TextFailure::Clock => api::EndReason::Failed(FailureCode::Clock),
        TextFailure::TimedOut => api::EndReason::Failed(FailureCode::Unconfirmed),
        TextFailure::CallEnded => api::EndReason::Failed(FailureCode::CallEnded),
        TextFailure::Lookup => api::EndReason::Failed(FailureCode::Lookup),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_dialled_hears_how_it_ended_and_who_ended_it_hears_nothing() {
        let dialled = |reason, by| parting(reason, by, true, false);
        assert_eq!(dialled(api::EndReason::Busy, EndedBy::Remote), Some(Tone::Busy));
        assert_eq!(dialled(api::EndReason::Declined, EndedBy::Remote), Some(Tone::Busy));
        assert_eq!(dialled(api::EndReason::NoAnswer, EndedBy::Network), Some(Tone::End));
        assert_eq!(dialled(api::EndReason::WrongNumber, EndedBy::Network), Some(Tone::Special));
        assert_eq!(
            dialled(api::EndReason::KeyChanged, EndedBy::Local),
            Some(Tone::Special),
            "not the user's doing"
        );
        assert_eq!(dialled(api::EndReason::Merged, EndedBy::Network), None);
        let rung = |reason, by| parting(reason, by, false, false);
        assert_eq!(rung(api::EndReason::Cancelled, EndedBy::Remote), None);
        assert_eq!(rung(api::EndReason::NoAnswer, EndedBy::Network), None);
        assert_eq!(rung(api::EndReason::AnsweredElsewhere, EndedBy::Elsewhere), None);
        for outgoing in [true, false] {
            let talked = |reason, by| parting(reason, by, outgoing, true);
            assert_eq!(talked(api::EndReason::HungUp, EndedBy::Remote), Some(Tone::End));
            assert_eq!(talked(api::EndReason::HungUp, EndedBy::Local), None);
            let lost = api::EndReason::Failed(FailureCode::MediaLost);
            assert_eq!(talked(lost, EndedBy::Network), Some(Tone::End));
        }
    }
}
