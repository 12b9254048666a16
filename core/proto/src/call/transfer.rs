//! Transfer of a call, in the manner of SIP's REFER and Replaces (RFC 3515, RFC 5589, RFC 3891).
//!
//! ```text
//!   transferor               transferee                        target
//!       |--- transfer(number) -->|                                |
//!       |<-- asked --------------|  the user is asked             |
//!       |<-- trying -------------|  and consents                  |
//!       |                        |--- invite -------------------->|
//!       |<-- ringing ------------|<-- ringing --------------------|
//!       |<-- done ---------------|<== the new call stands ========|
//!       |--- bye --------------->|                                |
//! ```
//!
//! Attended, the transferor is in a call with the target, too, and tells it whom to expect and by which token. The new call shows
//! that token; the target's terminal lets it take the place of the old one, which ends when the new one stands.
//!
//! Nobody dials because of a stranger: requests are refused or shown to the user ([`TransferPolicy`]), who has
//! [`CONSENT`] to agree. One that an older version does not understand is acknowledged and not answered, which the transferor
//! takes for a failure after [`UNDERSTOOD`].

use std::time::{Duration, Instant};

use super::event::{CallEvent, EndReason, EndedBy, LegId};
use super::leg::LegState;
use super::state::Call;
use super::{CallError, Calls, Now};
use crate::identity::{Fingerprint, IdentityId, TerminalId};
use crate::number::Number;
use crate::signalling::{CallId, Message, Successor, Token, TransferId, TransferStep};

/// How long the user has to consent.
pub const CONSENT: Duration = Duration::from_secs(30);
/// Whoever understands a request answers it within this: a round trip, and what is repeated of it.
const UNDERSTOOD: Duration = Duration::from_secs(8);
/// How long a token is good: consent, look-up and ringing.
const TOKEN_GOOD: Duration = Duration::from_secs(90);
/// Once the user has consented it may take as long as a call: search, ringing, media; and some more.
const FOLLOWING: Duration = Duration::from_secs(75);
/// How long it rings at most at the one who is called because of a transfer: with search and media, well before the transferor
/// gives up and takes its call back.
pub(super) const FOLLOWED_RINGING: Duration = Duration::from_secs(55);
/// When the new call stands the transferor hangs up the old one, and the target its own. If not, we do, or go on with the target.
const FAREWELL: Duration = Duration::from_secs(5);
/// Requests in one call that are shown to the user. Whoever asks more often is a nuisance and is declined.
const MAX_REQUESTS: u8 = 4;

/// Whose requests to call somebody else are shown to the user. All others are declined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransferPolicy {
    /// Contacts'.
    #[default]
    Contacts,
    /// Everybody's.
    Everybody,
    /// Nobody's.
    Nobody,
}

/// What the other side of a call asks for.
#[derive(Clone, PartialEq, Eq)]
pub struct TransferRequest {
    /// Whom to call.
    pub number: Number,
    /// The key that the other side knows behind the number.
    pub key: Option<Fingerprint>,
    /// The other side is talking with whom to call.
    pub attended: bool,
}

/// How a transfer goes that was asked for here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferState {
    /// The other side's user is being asked.
    Asked,
    /// The user has consented, and the number is being called.
    Trying,
    /// It rings there.
    Ringing,
    /// The two talk. The call has ended for this side.
    Done,
    /// Nothing came of it: the call is as it was before.
    Failed(TransferFailure),
}

/// Why a transfer has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransferFailure {
    /// The other side does not want to be transferred.
    Declined,
    /// The one called is in another call.
    Busy,
    /// The one called declined.
    Rejected,
    /// The one called did not answer.
    NoAnswer,
    /// The one called could not be reached.
    Unreachable,
    /// Nobody has the number.
    WrongNumber,
    /// The other side's program does not know transfers.
    NotUnderstood,
    /// Nothing was heard of it any more.
    TimedOut,
    /// Something failed.
    Failed,
}

/// What a call has to do with transfers.
#[derive(Default)]
pub(super) struct Transfers {
    sent: Option<Sent>,
    asked: Option<Asked>,
    requests: u8,
    /// The call whose other side asked for this one, by its id towards the application.
    origin: Option<CallId>,
    /// What this call shows at the terminal where it is to take another one's place.
    successor: Option<Successor>,
    /// The call that may take the place of this one.
    expected: Option<Expected>,
    /// The call whose place this one takes.
    takes_over: Option<CallId>,
    /// The other side, to whom somebody was transferred, should have left this call by then.
    leaving: Option<Instant>,
}

/// A request of ours.
struct Sent {
    id: TransferId,
    /// Attended: the call with the target.
    with: Option<CallId>,
    heard: bool,
    deadline: Instant,
}

/// A request of the other side.
struct Asked {
    id: TransferId,
    request: TransferRequest,
    successor: Option<Successor>,
    /// The call that was made because of it.
    following: Option<CallId>,
    /// It stands.
    done: bool,
    deadline: Option<Instant>,
}

struct Expected {
    token: Token,
    identity: IdentityId,
    deadline: Instant,
}

impl Transfers {
    /// Of a call that was made because the other side of `origin` asked for it.
    fn following(origin: CallId, successor: Option<Successor>) -> Self {
        Self { origin: Some(origin), successor, ..Self::default() }
    }

    /// Of the call that takes the place of one that was dialled.
    pub fn take_from(&mut self, dialled: Self) {
        self.origin = dialled.origin;
    }

    /// The only terminal that is to ring.
    pub fn only(&self) -> Option<TerminalId> {
        self.successor.map(|successor| successor.terminal)
    }

    /// What the invite shows.
    pub fn token(&self) -> Option<Token> {
        self.successor.map(|successor| successor.token)
    }

    /// The call whose place this one takes.
    pub fn takes_over(&self) -> Option<CallId> {
        self.takes_over
    }

    pub fn set_takes_over(&mut self, replaced: Option<CallId>) {
        self.takes_over = replaced;
    }

    /// Earliest of its deadlines.
    pub fn deadline(&self) -> Option<Instant> {
        let sent = self.sent.as_ref().map(|sent| sent.deadline);
        let asked = self.asked.as_ref().and_then(|asked| asked.deadline);
        let expected = self.expected.as_ref().map(|expected| expected.deadline);
        [sent, asked, expected, self.leaving].into_iter().flatten().min()
    }

    /// The other side ends this call because of a transfer.
    fn is_done(&self) -> bool {
        self.leaving.is_some() || self.asked.as_ref().is_some_and(|asked| asked.done)
    }

    /// It was dialled because somebody asked for it.
    pub fn is_followed(&self) -> bool {
        self.origin.is_some()
    }
}

impl Calls {
    /// Asks the other side of an answered call to call `number` instead of us. How it goes is told by
    /// [`CallEvent::Transfer`]; when the two talk, this call ends.
    ///
    /// `id`: 16 new random bytes. `key`: what is known of the key behind the number.
    ///
    /// # Errors
    /// [`CallError::UnknownCall`], [`CallError::WrongState`] before the answer and while another request is on its way,
    /// [`CallError::QueueFull`].
    pub fn transfer(
        &mut self,
        now: Now,
        call: CallId,
        id: TransferId,
        number: Number,
        key: Option<Fingerprint>,
    ) -> Result<(), CallError> {
        let message = Message::Transfer { id, number, key, successor: None };
        self.request_transfer(now, call, id, None, message)?;
        self.finish(now);
        Ok(())
    }

    /// Has the other sides of two answered calls talk with each other: that of `call` is asked to call that of `with`, at whose
    /// terminal the new call takes the place of ours.
    ///
    /// `id` and `token`: 16 new random bytes each.
    ///
    /// # Errors
    /// As [`Calls::transfer`], for either call.
    pub fn transfer_to(
        &mut self,
        now: Now,
        call: CallId,
        with: CallId,
        id: TransferId,
        token: Token,
    ) -> Result<(), CallError> {
        if call == with {
            return Err(CallError::WrongState);
        }
        let transferee = self.identity_of(call)?;
        let (target, terminal) = (self.identity_of(with)?, self.terminal_of(with)?);
        let wire = self.wire_id(with).ok_or(CallError::UnknownCall)?;
        let number = self.calls.get(&wire).ok_or(CallError::UnknownCall)?.number.clone();
        self.may_request(call)?;
        // The target first: it has to know when the new call comes.
        self.send_in_call(now, with, Message::Expect { token, identity: transferee })?;
        let (key, successor) = (Some(target.fingerprint()), Some(Successor { token, terminal }));
        let message = Message::Transfer { id, number, key, successor };
        self.request_transfer(now, call, id, Some(with), message)?;
        self.finish(now);
        Ok(())
    }

    fn may_request(&self, call: CallId) -> Result<CallId, CallError> {
        let wire = self.wire_id(call).ok_or(CallError::UnknownCall)?;
        let known = self.calls.get(&wire).ok_or(CallError::UnknownCall)?;
        if known.state.is_answered() && known.transfers.sent.is_none() {
            Ok(wire)
        } else {
            Err(CallError::WrongState)
        }
    }

    fn request_transfer(
        &mut self,
        now: Now,
        call: CallId,
        id: TransferId,
        with: Option<CallId>,
        message: Message,
    ) -> Result<(), CallError> {
        let wire = self.may_request(call)?;
        self.send_in_call(now, call, message)?;
        if let Some(known) = self.calls.get_mut(&wire) {
            let deadline = now.instant + UNDERSTOOD;
            known.transfers.sent = Some(Sent { id, with, heard: false, deadline });
        }
        Ok(())
    }

    fn identity_of(&self, call: CallId) -> Result<IdentityId, CallError> {
        let leg = self.leg_of(call).ok_or(CallError::WrongState)?;
        self.peer_of(&leg).map(|peer| peer.identity).ok_or(CallError::WrongState)
    }

    fn terminal_of(&self, call: CallId) -> Result<TerminalId, CallError> {
        self.leg_of(call).map(|leg| leg.terminal).ok_or(CallError::WrongState)
    }

    /// What the other side of a call asks for, as long as the user has neither consented nor declined.
    #[must_use]
    pub fn transfer_request(&self, call: CallId) -> Option<&TransferRequest> {
        let known = self.wire_id(call).and_then(|wire| self.calls.get(&wire))?;
        known.transfers.asked.as_ref().filter(|asked| asked.following.is_none()).map(|asked| &asked.request)
    }

    /// The id of what the other side of a call asks for.
    #[cfg(test)]
    pub(super) fn transfer_id(&self, call: CallId) -> TransferId {
        let known = self.wire_id(call).and_then(|wire| self.calls.get(&wire));
        known
            .and_then(|call| call.transfers.asked.as_ref())
            .map(|asked| asked.id)
            .expect("it is asked for something")
    }

    /// The user consents to what the other side of `call` asks for: a call `new` to the number begins, as [`Calls::dial`] begins
    /// one, and the engine looks the number up in the same way.
    ///
    /// # Errors
    /// [`CallError::UnknownCall`], [`CallError::WrongState`] if nothing is asked for (any more), [`CallError::TooMany`],
    /// [`CallError::Duplicate`].
    pub fn follow(&mut self, now: Now, call: CallId, new: CallId, contact: bool) -> Result<(), CallError> {
        let wire = self.wire_id(call).ok_or(CallError::UnknownCall)?;
        if self.is_used(new) {
            return Err(CallError::Duplicate);
        }
        let room = self.engaged() < self.config.max_calls;
        let known = self.calls.get_mut(&wire).ok_or(CallError::UnknownCall)?;
        let asked = known.transfers.asked.as_mut().filter(|asked| asked.following.is_none());
        let asked = asked.ok_or(CallError::WrongState)?;
        if !room {
            return Err(CallError::TooMany);
        }
        (asked.following, asked.deadline) = (Some(new), None);
        let (number, successor) = (asked.request.number.clone(), asked.successor);
        let mut following =
            Call::outgoing(new, number.clone(), contact, now.instant + self.config.search_timeout);
        following.transfers = Transfers::following(call, successor);
        self.calls.insert(new, following);
        self.event(CallEvent::Searching { call: new, number });
        self.tell_step(now, call, TransferStep::Trying);
        self.finish(now);
        Ok(())
    }

    /// The user does not want what the other side of the call asks for.
    ///
    /// # Errors
    /// [`CallError::UnknownCall`], [`CallError::WrongState`] if nothing is asked for (any more).
    pub fn decline_transfer(&mut self, now: Now, call: CallId) -> Result<(), CallError> {
        self.wire_id(call).ok_or(CallError::UnknownCall)?;
        self.transfer_request(call).ok_or(CallError::WrongState)?;
        self.tell_step(now, call, TransferStep::Declined);
        self.finish(now);
        Ok(())
    }

    /// Tells the other side of `call` how its transfer goes; with the last word the request is over, but for the farewell.
    fn tell_step(&mut self, now: Now, call: CallId, step: TransferStep) {
        let Some(wire) = self.wire_id(call) else { return };
        let Some(known) = self.calls.get_mut(&wire) else { return };
        let Some(asked) = &mut known.transfers.asked else { return };
        let id = asked.id;
        if step == TransferStep::Done {
            (asked.done, asked.deadline) = (true, Some(now.instant + FAREWELL));
        } else if step.is_final() {
            known.transfers.asked = None;
        }
        self.say_step(now, call, id, step);
    }

    fn say_step(&mut self, now: Now, call: CallId, id: TransferId, step: TransferStep) {
        // A side that does not keep up hears nothing of it, and gives up by itself.
        if let Err(error) = self.send_in_call(now, call, Message::TransferProgress { id, step }) {
            debug_assert!(matches!(error, CallError::QueueFull | CallError::WrongState), "{error}");
        }
    }

    /// A message about transfers, of the other side of a call.
    pub(super) fn on_transfer_message(&mut self, now: Now, leg: LegId, message: Message) {
        let chosen = self.legs.get(&leg).is_some_and(|leg| leg.state == LegState::Chosen);
        let Some(call) = self.calls.get_mut(&leg.call).filter(|call| chosen && call.state.is_answered())
        else {
            return;
        };
        match message {
            Message::Transfer { id, number, key, successor } => {
                let request = TransferRequest { number, key, attended: successor.is_some() };
                self.on_transfer(now, leg.call, id, request, successor);
            }
            Message::TransferProgress { id, step } => self.on_progress(now, leg.call, id, step),
            // Nobody takes the place of oneself: it would be a way out of being on hold.
            Message::Expect { identity, .. } if call.identity == Some(identity) => {}
            Message::Expect { token, identity } => {
                let deadline = now.instant + TOKEN_GOOD;
                call.transfers.expected = Some(Expected { token, identity, deadline });
            }
            Message::Presence(_)
            | Message::Invite { .. }
            | Message::Ringing { .. }
            | Message::Accept { .. }
            | Message::Confirm { .. }
            | Message::Reject { .. }
            | Message::Cancel { .. }
            | Message::Bye { .. }
            | Message::Candidates { .. }
            | Message::Text { .. }
            | Message::TextRefused { .. }
            | Message::Dtmf { .. }
            | Message::Hold { .. }
            | Message::Mute { .. }
            | Message::Recording { .. }
            | Message::Tunnel { .. } => {}
        }
    }

    fn on_transfer(
        &mut self,
        now: Now,
        wire: CallId,
        id: TransferId,
        request: TransferRequest,
        successor: Option<Successor>,
    ) {
        let policy = self.config.transfers;
        let own = request.number == self.intro.number;
        let Some(call) = self.calls.get_mut(&wire) else { return };
        let app = call.id;
        call.transfers.requests = call.transfers.requests.saturating_add(1);
        let welcome = match policy {
            TransferPolicy::Contacts => call.contact,
            TransferPolicy::Everybody => true,
            TransferPolicy::Nobody => false,
        };
        let room = call.transfers.asked.is_none() && call.transfers.requests <= MAX_REQUESTS;
        if !welcome || !room || own {
            return self.say_step(now, app, id, TransferStep::Declined);
        }
        let (number, attended) = (request.number.clone(), request.attended);
        let deadline = Some(now.instant + CONSENT);
        call.transfers.asked = Some(Asked { id, request, successor, following: None, done: false, deadline });
        self.event(CallEvent::TransferAsked { call: app, number, attended });
        self.say_step(now, app, id, TransferStep::Asked);
    }

    fn on_progress(&mut self, now: Now, wire: CallId, id: TransferId, step: TransferStep) {
        let Some(call) = self.calls.get_mut(&wire) else { return };
        let app = call.id;
        let Some(sent) = call.transfers.sent.as_mut().filter(|sent| sent.id == id) else { return };
        sent.heard = true;
        let with = sent.with;
        match step {
            TransferStep::Asked => sent.deadline = now.instant + CONSENT + UNDERSTOOD,
            TransferStep::Trying | TransferStep::Ringing => sent.deadline = now.instant + FOLLOWING,
            TransferStep::Other(_) => return,
            TransferStep::Done
            | TransferStep::Declined
            | TransferStep::Busy
            | TransferStep::Rejected
            | TransferStep::NoAnswer
            | TransferStep::Unreachable
            | TransferStep::WrongNumber
            | TransferStep::Failed => call.transfers.sent = None,
        }
        self.event(CallEvent::Transfer { call: app, state: state_of(step) });
        if step == TransferStep::Done {
            self.end(now, wire, EndReason::Transferred, EndedBy::Local);
            // The transferee's word is about its own call. Whether somebody takes our place at the target the target knows.
            let target = with.and_then(|with| self.wire_id(with)).and_then(|wire| self.calls.get_mut(&wire));
            if let Some(target) = target {
                target.transfers.leaving = Some(now.instant + FAREWELL);
            }
        }
    }

    /// Whether a call that stands here is to be replaced by one that shows this token: it is not screened. Nothing is used up.
    #[must_use]
    pub fn expects(&self, now: Now, token: &Token) -> bool {
        let fits = |expected: &Expected| expected.token == *token && expected.deadline > now.instant;
        let mut answered = self.calls.values().filter(|call| call.state.is_answered());
        answered.any(|call| call.transfers.expected.as_ref().is_some_and(fits))
    }

    /// The call that stands here and that a new one of `identity`, which shows this token, takes the place of; and whether the
    /// new one may be answered for the user, who talks with a contact and is heard there: what is on hold or muted is not opened
    /// again by somebody else. A token is good once.
    pub(super) fn expecting(
        &mut self,
        now: Now,
        token: Token,
        identity: IdentityId,
    ) -> Option<(CallId, bool)> {
        let fits = |expected: &mut Expected| {
            expected.token == token && expected.identity == identity && expected.deadline > now.instant
        };
        let answered = self.calls.values_mut().filter(|call| call.state.is_answered());
        let mut found = answered.filter_map(|call| {
            call.transfers.expected.take_if(fits).map(|_| (call.id, call.contact && call.is_heard()))
        });
        found.next()
    }

    /// It rings at the one who was called because of a transfer.
    pub(super) fn following_rings(&mut self, now: Now, wire: CallId) {
        let origin = self.calls.get(&wire).and_then(|call| call.transfers.origin);
        if let Some(origin) = origin {
            self.tell_step(now, origin, TransferStep::Ringing);
        }
    }

    /// A call stands: whose place it takes ends, and who has asked for it is told.
    pub(super) fn transfer_connected(&mut self, now: Now, wire: CallId) {
        let Some(call) = self.calls.get_mut(&wire) else { return };
        let (origin, replaced) = (call.transfers.origin.take(), call.transfers.takes_over.take());
        if let Some(origin) = origin {
            self.tell_step(now, origin, TransferStep::Done);
        }
        if let Some(replaced) = replaced.and_then(|replaced| self.wire_id(replaced)) {
            self.end(now, replaced, EndReason::Transferred, EndedBy::Local);
        }
    }

    /// A call is over: who has asked for it is told that nothing came of it.
    pub(super) fn transfer_ended(&mut self, now: Now, call: &Call, reason: EndReason) {
        if let Some(origin) = call.transfers.origin {
            self.tell_step(now, origin, step_of(reason));
        }
    }

    /// How a call ends whose other side hangs up.
    pub(super) fn farewell_reason(&self, wire: CallId) -> EndReason {
        let Some(call) = self.calls.get(&wire) else { return EndReason::HungUp };
        let with =
            |other: &Call| other.transfers.sent.as_ref().is_some_and(|sent| sent.with == Some(call.id));
        let transferred = call.transfers.is_done() || self.calls.values().any(with);
        if transferred { EndReason::Transferred } else { EndReason::HungUp }
    }

    pub(super) fn time_out_transfer(&mut self, now: Now, wire: CallId) {
        let Some(call) = self.calls.get_mut(&wire) else { return };
        let app = call.id;
        call.transfers.expected.take_if(|expected| expected.deadline <= now.instant);
        let sent = call.transfers.sent.take_if(|sent| sent.deadline <= now.instant);
        let stays = call.transfers.leaving.take_if(|at| *at <= now.instant).is_some();
        let asked = call.transfers.asked.as_mut();
        let asked =
            asked.and_then(|asked| asked.deadline.take_if(|at| *at <= now.instant).map(|_| asked.done));
        if let Some(sent) = sent {
            let failure = if sent.heard { TransferFailure::TimedOut } else { TransferFailure::NotUnderstood };
            self.event(CallEvent::Transfer { call: app, state: TransferState::Failed(failure) });
        }
        if stays {
            // The target talks with nobody else: that call is as it was.
            let state = TransferState::Failed(TransferFailure::TimedOut);
            self.event(CallEvent::Transfer { call: app, state });
        }
        match asked {
            Some(true) => self.end(now, wire, EndReason::Transferred, EndedBy::Local),
            Some(false) => {
                self.event(CallEvent::TransferLapsed { call: app });
                self.tell_step(now, app, TransferStep::Declined);
            }
            None => {}
        }
    }
}

fn state_of(step: TransferStep) -> TransferState {
    let failure = match step {
        TransferStep::Asked => return TransferState::Asked,
        TransferStep::Trying => return TransferState::Trying,
        TransferStep::Ringing => return TransferState::Ringing,
        TransferStep::Done => return TransferState::Done,
        TransferStep::Declined => TransferFailure::Declined,
        TransferStep::Busy => TransferFailure::Busy,
        TransferStep::Rejected => TransferFailure::Rejected,
        TransferStep::NoAnswer => TransferFailure::NoAnswer,
        TransferStep::Unreachable => TransferFailure::Unreachable,
        TransferStep::WrongNumber => TransferFailure::WrongNumber,
        TransferStep::Failed | TransferStep::Other(_) => TransferFailure::Failed,
    };
    TransferState::Failed(failure)
}

/// How the end of a call is told to who has asked for it.
fn step_of(reason: EndReason) -> TransferStep {
    match reason {
        EndReason::Busy => TransferStep::Busy,
        EndReason::Declined | EndReason::Blocked | EndReason::Work => TransferStep::Rejected,
        EndReason::NoAnswer | EndReason::Voicemail => TransferStep::NoAnswer,
        EndReason::Unreachable => TransferStep::Unreachable,
        EndReason::WrongNumber => TransferStep::WrongNumber,
        EndReason::Cancelled => TransferStep::Declined,
        EndReason::HungUp
        | EndReason::KeyChanged
        | EndReason::AnsweredElsewhere
        | EndReason::Merged
        | EndReason::Transferred
        | EndReason::Failed(_) => TransferStep::Failed,
    }
}
