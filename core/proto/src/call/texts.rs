//! Text messages: in a call, or as the only message of a dialog of their own.

use std::sync::Arc;
use std::time::Instant;

use super::event::{CallEvent, IncomingText, LegId, Output, Peer, Role, TextFailure, TextKept, TextKey};
use super::leg::{LINGER, Leg, LegState};
use super::{CallError, Calls, Distrust, LookupEnd, MAX_KEEPING, MAX_LEGS, Now, Source};
use crate::identity::IdentityId;
use crate::number::Number;
use crate::signalling::{CallId, Message, Presence, RejectReason, TextId};

/// A text message of ours that is under way.
pub(super) struct Outstanding {
    pub deadline: Instant,
    /// Outside of a call: its dialogs.
    outside: Option<CallId>,
    /// Nobody waits for it.
    quiet: bool,
}

/// What is said outside of a call.
pub(super) enum Content {
    Text(String),
    Presence(Presence),
}

/// A text message that is sent outside of a call, to every terminal of the receiver.
pub(super) struct TextCall {
    text: TextId,
    content: Content,
    identity: Option<IdentityId>,
    /// Whose conversation it is; kept for the engine's look-up.
    pub number: Number,
    pub lookup_done: bool,
    found: usize,
    /// As [`Call::fresh`](super::state::Call::fresh).
    fresh: bool,
    verdict: TextFailure,
    /// Terminals found later get nothing any more.
    pub deadline: Instant,
}

impl Content {
    fn message(&self, id: TextId) -> Message {
        match self {
            Self::Text(body) => Message::Text { id, body: body.clone() },
            Self::Presence(presence) => Message::Presence(presence.clone()),
        }
    }

    fn is_quiet(&self) -> bool {
        match self {
            Self::Text(_) => false,
            Self::Presence(_) => true,
        }
    }
}

impl Calls {
    /// Sends a text message outside of a call. The engine looks `number` up and reports to [`Calls::found`] and
    /// [`Calls::lookup_finished`] under the id `call`. Ends in [`CallEvent::TextDelivered`] as soon as one
    /// terminal of the receiver has it (the others are still tried), or in [`CallEvent::TextFailed`].
    ///
    /// `call` and `id`: 16 new random bytes each.
    ///
    /// # Errors
    /// [`CallError::Duplicate`], [`CallError::TooMany`], [`CallError::Limit`].
    pub fn text_to(
        &mut self,
        now: Now,
        call: CallId,
        number: Number,
        id: TextId,
        body: String,
    ) -> Result<(), CallError> {
        self.say_outside(now, call, number, id, Content::Text(body))
    }

    /// Says something outside of a call.
    pub(super) fn say_outside(
        &mut self,
        now: Now,
        call: CallId,
        number: Number,
        id: TextId,
        content: Content,
    ) -> Result<(), CallError> {
        content.message(id).check()?;
        if self.is_used(call) || self.is_outstanding(id) {
            return Err(CallError::Duplicate);
        }
        // Presence takes no place of a text.
        let quiet = content.is_quiet();
        if self.texts.values().filter(|text| text.content.is_quiet() == quiet).count()
            >= self.config.max_texts
        {
            return Err(CallError::TooMany);
        }
        let deadline = now.instant + self.config.text_timeout;
        self.outstanding.insert(id, Outstanding { deadline, outside: Some(call), quiet });
        let text = TextCall {
            text: id,
            content,
            identity: None,
            number,
            lookup_done: false,
            found: 0,
            fresh: false,
            verdict: TextFailure::Lookup,
            deadline,
        };
        self.texts.insert(call, text);
        Ok(())
    }

    /// The number to which a text message outside of a call goes.
    #[must_use]
    pub fn text_number(&self, call: CallId) -> Option<&Number> {
        self.texts.get(&call).map(|text| &text.number)
    }

    pub(super) fn is_outstanding(&self, id: TextId) -> bool {
        self.outstanding.contains_key(&id)
    }

    /// Waits for the acknowledgement of a text that was sent in a call.
    pub(super) fn await_text(&mut self, now: Now, text: TextId, id: LegId, seq: u32) {
        let deadline = now.instant + self.config.text_timeout;
        self.outstanding.insert(text, Outstanding { deadline, outside: None, quiet: false });
        if let Some(leg) = self.legs.get_mut(&id) {
            leg.texts.insert(seq, text);
        }
    }

    pub(super) fn text_found(
        &mut self,
        now: Now,
        call: CallId,
        peer: Peer,
        source: Source,
    ) -> Result<(), CallError> {
        let text = self.texts.get_mut(&call).ok_or(CallError::UnknownCall)?;
        if text.identity.is_some_and(|identity| identity != peer.identity) {
            return Err(CallError::OtherIdentity);
        }
        text.fresh |= source == Source::Network;
        let id = LegId { call, terminal: peer.terminal };
        if let Some(known) = self.legs.get_mut(&id) {
            known.renew(now.instant, peer);
            return Ok(());
        }
        if peer.terminal == self.terminal || self.memory.contains(&id) {
            return Ok(());
        }
        if text.found >= MAX_LEGS {
            return Err(CallError::TooMany);
        }
        text.identity = Some(peer.identity);
        text.found += 1;
        let message = text.content.message(text.text);
        let (number, intro) = (text.number.clone(), Arc::clone(&self.intro));
        let mut leg = Leg::new(Arc::new(peer), number, Role::Caller, LegState::Text, intro);
        let seq = leg.dialog.send(now.instant, now.wall, message).map_err(|_| CallError::QueueFull)?;
        leg.texts.insert(seq, text.text);
        self.legs.insert(id, leg);
        Ok(())
    }

    pub(super) fn text_lookup_finished(&mut self, now: Now, call: CallId, end: LookupEnd) {
        let Some(text) = self.texts.get_mut(&call) else { return };
        text.lookup_done = true;
        if text.verdict == TextFailure::Lookup {
            text.verdict = match end {
                LookupEnd::WrongNumber if !text.fresh => TextFailure::WrongNumber,
                LookupEnd::Failed if !text.fresh => TextFailure::Lookup,
                LookupEnd::WrongNumber | LookupEnd::Failed | LookupEnd::NoTerminal | LookupEnd::Complete => {
                    TextFailure::Unreachable
                }
            };
        }
        for leg in self.lost_legs(call) {
            self.text_leg_failed(now, leg);
        }
        self.check_text(now, call);
    }

    /// Nobody may get it (any more).
    pub(super) fn text_distrusted(&mut self, now: Now, call: CallId, why: Distrust) {
        let reason = match why {
            Distrust::KeyChanged => TextFailure::KeyChanged,
            Distrust::Disputed => TextFailure::Disputed,
            Distrust::Expired => TextFailure::Expired,
        };
        self.end_text(now, call, Some(reason));
    }

    /// A text call is over when the look-up is, and all of its dialogs are.
    fn check_text(&mut self, now: Now, call: CallId) {
        let over =
            self.texts.get(&call).is_some_and(|text| text.lookup_done) && self.live_legs(call).is_empty();
        if over {
            self.end_text(now, call, None);
        }
    }

    /// Ends a text call; if nobody acknowledged, it failed, for `reason` or what the terminals said.
    fn end_text(&mut self, now: Now, call: CallId, reason: Option<TextFailure>) {
        let Some(text) = self.texts.remove(&call) else { return };
        for leg in self.live_legs(call) {
            self.close(now, leg, None, true);
        }
        if self.outstanding.remove(&text.text).is_some_and(|text| !text.quiet) {
            let reason = reason.unwrap_or(text.verdict);
            self.event(CallEvent::TextFailed { id: text.text, reason });
        }
    }

    /// A terminal has acknowledged a text of ours.
    pub(super) fn text_delivered(&mut self, now: Now, leg: LegId, id: TextId) {
        if self.outstanding.remove(&id).is_some_and(|text| !text.quiet) {
            self.event(CallEvent::TextDelivered { id });
        }
        if self.texts.contains_key(&leg.call) {
            self.close(now, leg, None, false);
            self.check_text(now, leg.call);
        }
    }

    /// The leg on which a text waited for its acknowledgement is gone. Outside of a call other legs may still
    /// deliver it.
    pub(super) fn text_lost(&mut self, id: TextId, reason: TextFailure) {
        if self.outstanding.get(&id).is_some_and(|text| text.outside.is_none()) {
            self.outstanding.remove(&id);
            self.event(CallEvent::TextFailed { id, reason });
        }
    }

    pub(super) fn text_leg_failed(&mut self, now: Now, leg: LegId) {
        self.close(now, leg, None, true);
        self.check_text(now, leg.call);
    }

    pub(super) fn text_rejected(&mut self, now: Now, leg: LegId, reason: RejectReason) {
        if let Some(text) = self.texts.get_mut(&leg.call) {
            text.verdict = match reason {
                RejectReason::Blocked => TextFailure::Blocked,
                RejectReason::Busy => TextFailure::Busy,
                RejectReason::KeyChanged => TextFailure::KeyChanged,
                RejectReason::Expired => TextFailure::Clock,
                RejectReason::Failed => TextFailure::NotKept,
                RejectReason::Declined
                | RejectReason::NoAnswer
                | RejectReason::Voicemail
                | RejectReason::Work
                | RejectReason::Other(_) => TextFailure::Refused,
            };
        }
        self.text_leg_failed(now, leg);
    }

    /// Reports texts that nobody has acknowledged in time.
    pub(super) fn time_out_texts(&mut self, now: Now) {
        let late = |deadline: Instant| deadline <= now.instant;
        let calls: Vec<_> =
            self.texts.iter().filter(|(_, text)| late(text.deadline)).map(|(id, _)| *id).collect();
        for call in calls {
            let found = self.texts.get(&call).is_some_and(|text| text.found > 0);
            self.end_text(now, call, found.then_some(TextFailure::TimedOut));
        }
        let texts: Vec<_> =
            self.outstanding.iter().filter(|(_, text)| late(text.deadline)).map(|(id, _)| *id).collect();
        for id in texts {
            if self.outstanding.remove(&id).is_some_and(|text| !text.quiet) {
                self.event(CallEvent::TextFailed { id, reason: TextFailure::TimedOut });
            }
        }
    }

    /// A text that somebody sends outside of a call.
    pub(super) fn text_arrived(&mut self, now: Now, id: LegId, seq: u32, text: TextId, body: String) {
        let Some(leg) = self.legs.get(&id) else { return };
        if let Some(reason) = leg.refusal {
            return self.refuse(now, id, reason);
        }
        let contact = leg.contact;
        let keeping = |leg: &&Leg| leg.state == LegState::Keeping && leg.contact == contact;
        if self.legs.values().filter(keeping).count() >= MAX_KEEPING {
            return self.refuse(now, id, RejectReason::Busy);
        }
        if let Some(leg) = self.legs.get_mut(&id) {
            leg.state = LegState::Keeping;
            leg.deadline = Some(now.instant + LINGER);
        }
        self.keep_text(id, seq, None, text, body);
    }

    /// Has a text written to disk. It is acknowledged when it is.
    pub(super) fn keep_text(
        &mut self,
        id: LegId,
        seq: u32,
        call: Option<CallId>,
        text: TextId,
        body: String,
    ) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        leg.keeping.insert(seq, text);
        let (from, identity, contact) = (leg.number.clone(), leg.peer.identity, leg.contact);
        let text = IncomingText { call, from, identity, contact, id: text, body };
        self.outputs.push_back(Output::KeepText { key: TextKey { leg: id, seq }, text });
    }

    /// The answer to [`Output::KeepText`]. A text that is kept is acknowledged, of another one the sender is told that it
    /// was not taken. Whoever asked may have gone meanwhile.
    pub fn text_kept(&mut self, now: Now, key: TextKey, outcome: TextKept) {
        let TextKey { leg: id, seq } = key;
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let Some(text) = leg.keeping.remove(&seq) else { return };
        match outcome {
            TextKept::Kept => {
                leg.dialog.release(seq);
                if leg.state == LegState::Keeping {
                    self.close(now, id, None, true);
                }
            }
            TextKept::Failed if leg.state == LegState::Keeping => self.refuse(now, id, RejectReason::Failed),
            // Without room for it, or after the call, the sender is told nothing and gives up by itself.
            TextKept::Failed => {
                let refusal = Message::TextRefused { id: text };
                if leg.state == LegState::Chosen
                    && let Ok(ours) = leg.dialog.send(now.instant, now.wall, refusal)
                {
                    leg.refused_texts.insert(ours, seq);
                }
            }
        }
        self.finish(now);
    }

    /// The other side of a call could not keep a text of ours.
    pub(super) fn text_not_kept(&mut self, id: LegId, text: TextId) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let Some(seq) = leg.texts.iter().find(|(_, known)| **known == text).map(|(seq, _)| *seq) else {
            return;
        };
        leg.texts.remove(&seq);
        self.text_lost(text, TextFailure::NotKept);
    }
}
