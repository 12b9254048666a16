//! What happens in an answered call, and hanging up.

use super::event::{CallEvent, EndReason, EndedBy, LegId, Role};
use super::leg::LegState;
use super::state::{Call, CallState};
use super::{CallError, Calls, Now};
use crate::signalling::{CallId, Message, RecordingState, TextId};

impl Calls {
    /// Ends a call in whatever state: cancels what was dialled, declines what rings, hangs up what was answered.
    ///
    /// # Errors
    /// [`CallError::UnknownCall`].
    pub fn hang_up(&mut self, now: Now, call: CallId) -> Result<(), CallError> {
        let wire = self.wire_id(call).ok_or(CallError::UnknownCall)?;
        self.end_by_user(now, wire);
        self.finish(now);
        Ok(())
    }

    /// Ends all calls, as before the program exits. Their last messages are in the outputs; whoever can wait
    /// goes on driving the machine until [`Calls::is_idle`].
    pub fn hang_up_all(&mut self, now: Now) {
        // All of them before anything is settled, or a held call would begin to ring when ours is gone.
        let calls: Vec<CallId> = self.calls.keys().copied().collect();
        for wire in calls {
            self.end_by_user(now, wire);
        }
        self.finish(now);
    }

    fn end_by_user(&mut self, now: Now, wire: CallId) {
        let Some(call) = self.calls.get(&wire) else { return };
        let reason = match call.state {
            CallState::Searching | CallState::Inviting | CallState::Ringing => EndReason::Cancelled,
            CallState::Alerting | CallState::Held => EndReason::Declined,
            CallState::Connecting | CallState::Active => EndReason::HungUp,
        };
        self.end(now, wire, reason, EndedBy::Local);
    }

    /// Presses a key of the dial pad for `duration_ms` milliseconds, 40 to 6000.
    ///
    /// # Errors
    /// [`CallError::UnknownCall`], [`CallError::WrongState`] before the answer, [`CallError::Limit`],
    /// [`CallError::QueueFull`].
    pub fn dtmf(&mut self, now: Now, call: CallId, digit: char, duration_ms: u16) -> Result<(), CallError> {
        self.say_in_call(now, call, Message::Dtmf { digit, duration_ms })
    }

    /// Tells the other side that this side has put the call on hold, or taken it off. While it is on hold no call that takes its
    /// place is answered without the user.
    ///
    /// # Errors
    /// As [`Calls::dtmf`].
    pub fn hold(&mut self, now: Now, call: CallId, on: bool) -> Result<(), CallError> {
        // It counts here even if the other side cannot be told.
        self.note_keys(call, |call| call.held = on);
        self.say_in_call(now, call, Message::Hold { on })
    }

    /// Tells the other side that this side has muted its microphone, or unmuted it; as [`Calls::hold`] in all else.
    ///
    /// # Errors
    /// As [`Calls::dtmf`].
    pub fn mute(&mut self, now: Now, call: CallId, on: bool) -> Result<(), CallError> {
        self.note_keys(call, |call| call.muted = on);
        self.say_in_call(now, call, Message::Mute { on })
    }

    /// A machine speaks in this call, not the user: no call that takes its place is answered without the user.
    pub fn leave_to_machine(&mut self, call: CallId) {
        self.note_keys(call, |call| call.unattended = true);
    }

    fn note_keys(&mut self, call: CallId, change: impl FnOnce(&mut Call)) {
        let known = self.wire_id(call).and_then(|wire| self.calls.get_mut(&wire));
        if let Some(known) = known {
            change(known);
        }
    }

    /// Tells the other side how this side stands to a recording of the call; what to say is decided by
    /// [`Consent`](crate::recording::Consent).
    ///
    /// # Errors
    /// As [`Calls::dtmf`].
    pub fn recording(&mut self, now: Now, call: CallId, state: RecordingState) -> Result<(), CallError> {
        self.say_in_call(now, call, Message::Recording { state })
    }

    /// Sends a text message within a call. Ends in [`CallEvent::TextDelivered`] or [`CallEvent::TextFailed`].
    ///
    /// # Errors
    /// As [`Calls::dtmf`], and [`CallError::Duplicate`].
    pub fn text(&mut self, now: Now, call: CallId, id: TextId, body: String) -> Result<(), CallError> {
        if self.is_outstanding(id) {
            return Err(CallError::Duplicate);
        }
        let (leg, seq) = self.send_in_call(now, call, Message::Text { id, body })?;
        self.await_text(now, id, leg, seq);
        self.finish(now);
        Ok(())
    }

    fn say_in_call(&mut self, now: Now, call: CallId, message: Message) -> Result<(), CallError> {
        self.send_in_call(now, call, message)?;
        self.finish(now);
        Ok(())
    }

    /// Queues a message in an answered call.
    pub(super) fn send_in_call(
        &mut self,
        now: Now,
        call: CallId,
        message: Message,
    ) -> Result<(LegId, u32), CallError> {
        message.check()?;
        let wire = self.wire_id(call).ok_or(CallError::UnknownCall)?;
        let terminal = self.calls.get(&wire).and_then(|call| call.chosen).ok_or(CallError::WrongState)?;
        let id = LegId { call: wire, terminal };
        let leg = self.legs.get_mut(&id).ok_or(CallError::WrongState)?;
        if leg.state != LegState::Chosen {
            return Err(CallError::WrongState);
        }
        let seq = leg.dialog.send(now.instant, now.wall, message).map_err(|_| CallError::QueueFull)?;
        Ok((id, seq))
    }

    /// A text, key or notice of the other side. Before the answer there is nothing of the kind, but a callee that
    /// has answered may write before it hears that another terminal was first, and is told that it arrived.
    pub(super) fn in_call_message(&mut self, id: LegId, seq: u32, message: Message) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let late = leg.state == LegState::Closing && leg.role == Role::Caller;
        if leg.state != LegState::Chosen && !leg.was_chosen && !late {
            // A text is acknowledged and ignored like everything else.
            leg.dialog.release(seq);
            return;
        }
        let call = self.calls.get(&id.call).map(|call| call.id);
        match message {
            Message::Text { id: text, body } => self.keep_text(id, seq, call, text, body),
            Message::TextRefused { id: text } => self.text_not_kept(id, text),
            Message::Dtmf { digit, duration_ms } => {
                self.notice(call, |call| CallEvent::Dtmf { call, digit, duration_ms });
            }
            Message::Hold { on } => self.notice(call, |call| CallEvent::RemoteHold { call, on }),
            Message::Mute { on } => self.notice(call, |call| CallEvent::RemoteMute { call, on }),
            Message::Recording { state } => {
                self.notice(call, |call| CallEvent::Recording { call, state });
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
            | Message::Transfer { .. }
            | Message::TransferProgress { .. }
            | Message::Expect { .. }
            | Message::Tunnel { .. } => {}
        }
    }

    fn notice(&mut self, call: Option<CallId>, event: impl FnOnce(CallId) -> CallEvent) {
        if let Some(call) = call {
            self.event(event(call));
        }
    }
}
