//! Transfers: what the user asks the other end of a call to do, and what an other end asks the user to do.

use super::calls::CallView;
use super::commands::{call_error, dial_error, new_call_id};
use super::{Engine, now};
use crate::api::{self, ApiError, CallRef, ErrorCode, Event, Reply};
use offhook_proto::call::{TransferFailure, TransferState};
use offhook_proto::identity::Fingerprint;
use offhook_proto::number::Number;
use offhook_proto::record::Pin;
use offhook_proto::signalling::{CallId, Token, TransferId};

impl Engine {
    /// Passes a call on: to a number, or without one to the other call.
    pub(super) async fn transfer(
        &mut self,
        call: Option<&CallRef>,
        to: Option<&str>,
    ) -> Result<Reply, ApiError> {
        match to {
            Some(typed) => self.transfer_blind(call, typed).await,
            None => self.transfer_attended(call),
        }
    }

    async fn transfer_blind(&mut self, call: Option<&CallRef>, typed: &str) -> Result<Reply, ApiError> {
        let call = self.views.pick(call, "No call is answered yet.", CallView::is_users)?;
        let (link, _) = self.dialled(typed).await?;
        if self.views.get(&call).is_some_and(|view| view.number == link.number) {
            return Err(ApiError::new(ErrorCode::BadInput, "That is the number of the call's other end."));
        }
        let key = self.expected_key(&link).await?.map(fingerprint);
        let id = TransferId::from_bytes(rand::random());
        self.calls.transfer(now(), call, id, link.number, key).map_err(transfer_error)?;
        self.hold_for_transfer(call);
        Ok(Reply::Done)
    }

    fn transfer_attended(&mut self, call: Option<&CallRef>) -> Result<Reply, ApiError> {
        const NEED: &str = "Two answered calls are needed: the one on hold is passed on to the other.";
        let none = || ApiError::new(ErrorCode::NoCall, NEED);
        let call = match call {
            Some(_) => self.views.pick(call, NEED, CallView::is_users)?,
            None => self.views.longest_held().ok_or_else(none)?,
        };
        let with = self.views.live().find(|(id, view)| **id != call && view.is_users());
        let with = *with.ok_or_else(none)?.0;
        let (id, token) = (TransferId::from_bytes(rand::random()), Token::from_bytes(rand::random()));
        self.calls.transfer_to(now(), call, with, id, token).map_err(transfer_error)?;
        self.hold_for_transfer(call);
        Ok(Reply::Done)
    }

    /// The other end hears music while it is passed on; if nothing comes of it, it is taken back.
    fn hold_for_transfer(&mut self, call: CallId) {
        if !self.views.get(&call).is_some_and(CallView::talks) {
            return;
        }
        if let Err(error) = self.set_hold(call, true) {
            tracing::debug!(%error, "the other end cannot be told that it is on hold");
        }
        if let Some(view) = self.views.get_mut(&call) {
            view.keys.held_for_transfer = true;
        }
    }

    pub(super) fn on_transfer(&mut self, call: CallId, state: TransferState) {
        let (state, reason) = told(state);
        self.emit(Event::Transfer { call: call.to_string(), state, reason });
        if state == api::TransferState::Failed {
            let was_held =
                self.views.get_mut(&call).is_some_and(|v| std::mem::take(&mut v.keys.held_for_transfer));
            if was_held {
                self.take_back(call);
            }
        }
    }

    /// Takes a call back that was put on hold for something that came to nothing, unless the user talks elsewhere by now.
    fn take_back(&mut self, call: CallId) {
        let talks = self.views.live().any(|(_, view)| view.talks());
        let held = self.views.live().any(|(id, view)| *id == call && view.is_users() && view.keys.shown.held);
        if held
            && !talks
            && let Err(error) = self.set_hold(call, false)
        {
            tracing::debug!(%error, "the other end cannot be told that the call goes on");
        }
    }

    /// A call is over that was to take another one's place. Only if that one is on hold because of it: what the user has put on
    /// hold stays there, or whoever is on hold could come back by a call that comes to nothing.
    pub(super) fn give_place_back(&mut self, call: CallId) {
        let back = self.views.get_mut(&call).and_then(|view| view.keys.returns_to.take());
        let back = back.filter(|back| self.views.get(back).is_some_and(|v| v.keys.held_for == Some(call)));
        if let Some(back) = back {
            self.take_back(back);
        }
    }

    /// A call is answered that takes another one's place: the user is muted as before, and no more willing to be recorded.
    pub(super) fn carry_over(&mut self, call: CallId) {
        let Some(replaced) = self.views.get(&call).and_then(|view| view.keys.returns_to) else { return };
        self.recorders.carry_over(&replaced, call);
        if self.views.get(&replaced).is_some_and(|view| view.keys.shown.muted) {
            self.mute_here(call, true);
        }
    }

    /// A call stands: it has taken the place that it was to take.
    pub(super) fn place_taken(&mut self, call: CallId) {
        let Some(view) = self.views.get_mut(&call) else { return };
        // What was carried over is told now: before the call stood it could not be.
        if view.keys.returns_to.take().is_some()
            && view.keys.shown.muted
            && let Err(error) = self.calls.mute(now(), call, true)
        {
            tracing::debug!(%error, "the other end cannot be told that this one is muted");
        }
    }

    /// This call takes the place of that one once it stands.
    pub(super) fn set_place(&mut self, call: CallId, replaced: CallId) {
        if let Some(view) = self.views.get_mut(&call) {
            view.keys.returns_to = Some(replaced);
        }
    }

    pub(super) async fn on_transfer_asked(&mut self, call: CallId, number: Number, attended: bool) {
        let name = match self.account.contact(&number).await {
            Ok(found) => found.map(|contact| contact.name),
            Err(error) => {
                tracing::error!(%error, "the contacts could not be read");
                None
            }
        };
        self.emit(Event::TransferAsked { call: call.to_string(), number, name, attended });
    }

    /// The user consents to what the other end of a call asks for, or does not.
    pub(super) async fn follow(&mut self, call: Option<&CallRef>, yes: bool) -> Result<Reply, ApiError> {
        const NONE: &str = "Nobody asks you to call somebody else.";
        let call = match call {
            Some(_) => self.views.pick(call, NONE, CallView::is_users)?,
            None => {
                let asks = |id: &CallId| self.calls.transfer_request(*id).is_some();
                let users = self.views.live().filter(|(_, view)| view.is_users());
                let asking = users.map(|(id, _)| *id).find(asks);
                asking.ok_or_else(|| ApiError::new(ErrorCode::NoCall, NONE))?
            }
        };
        if !yes {
            self.calls.decline_transfer(now(), call).map_err(call_error)?;
            return Ok(Reply::Done);
        }
        let result = self.follow_now(call).await;
        if result.is_err() && self.calls.transfer_request(call).is_some() {
            // Whoever asked need not wait.
            if let Err(error) = self.calls.decline_transfer(now(), call) {
                tracing::debug!(%error, "a transfer that cannot be followed");
            }
        }
        result
    }

    async fn follow_now(&mut self, call: CallId) -> Result<Reply, ApiError> {
        let none = || ApiError::new(ErrorCode::NoCall, "Nobody asks you to call somebody else.");
        let request = self.calls.transfer_request(call).cloned().ok_or_else(none)?;
        let (mut link, place) = self.dialled(&request.number.canonical()).await?;
        // The key that the other end knows counts like one of an invitation link.
        link.key = request.key;
        let pin = self.expected_key(&link).await?;
        let contact = self.is_contact(&link.number).await?;
        let new = new_call_id();
        self.calls.follow(now(), call, new, contact).map_err(dial_error)?;
        self.begin_view(new, link.number.clone(), true);
        self.set_place(new, call);
        self.hold_others(new);
        self.search(new, link, place, pin).await;
        Ok(Reply::Call { call: new.to_string() })
    }
}

fn fingerprint(pin: Pin) -> Fingerprint {
    match pin {
        Pin::Key(identity) => identity.fingerprint(),
        Pin::Fingerprint(fingerprint) => fingerprint,
    }
}

fn transfer_error(error: offhook_proto::call::CallError) -> ApiError {
    if error == offhook_proto::call::CallError::WrongState {
        let sentence = "The call is being passed on already, or is not answered at both ends yet.";
        return ApiError::new(ErrorCode::NoCall, sentence);
    }
    call_error(error)
}

/// The machine's word in the API's.
fn told(state: TransferState) -> (api::TransferState, Option<api::TransferFailure>) {
    let failure = match state {
        TransferState::Asked => return (api::TransferState::Asked, None),
        TransferState::Trying => return (api::TransferState::Trying, None),
        TransferState::Ringing => return (api::TransferState::Ringing, None),
        TransferState::Done => return (api::TransferState::Done, None),
        TransferState::Failed(failure) => failure,
    };
    let failure = match failure {
        TransferFailure::Declined => api::TransferFailure::Declined,
        TransferFailure::Busy => api::TransferFailure::Busy,
        TransferFailure::Rejected => api::TransferFailure::Rejected,
        TransferFailure::NoAnswer => api::TransferFailure::NoAnswer,
        TransferFailure::Unreachable => api::TransferFailure::Unreachable,
        TransferFailure::WrongNumber => api::TransferFailure::WrongNumber,
        TransferFailure::NotUnderstood => api::TransferFailure::NotUnderstood,
        TransferFailure::TimedOut => api::TransferFailure::TimedOut,
        TransferFailure::Failed => api::TransferFailure::Failed,
    };
    (api::TransferState::Failed, Some(failure))
}
