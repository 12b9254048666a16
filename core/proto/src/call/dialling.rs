//! Calls made here, until they are answered.

use std::sync::Arc;

use super::event::{CallEvent, EndReason, EndedBy, Failure, LegId, Output, Peer, Role};
use super::guard::legs_of;
use super::leg::{Leg, LegState, Media};
use super::state::{Call, CallState};
use super::{CallError, Calls, Distrust, LookupEnd, MAX_LEGS, Now, Source};
use crate::identity::TerminalId;
use crate::number::Number;
use crate::puzzle::Challenge;
use crate::signalling::{CallId, CancelReason, MediaOffer, Message, RejectReason};

impl Calls {
    /// Begins a call. The engine starts a look-up of `number` and reports to [`Calls::found`] and
    /// [`Calls::lookup_finished`] under the same id.
    ///
    /// `call`: 16 new random bytes. `contact`: the number is a contact's, so addresses may be shown to it while
    /// it rings.
    ///
    /// # Errors
    /// [`CallError::TooMany`] if the user is in [`max_calls`](super::CallConfig::max_calls) calls,
    /// [`CallError::Duplicate`].
    pub fn dial(&mut self, now: Now, call: CallId, number: Number, contact: bool) -> Result<(), CallError> {
        if self.is_used(call) {
            return Err(CallError::Duplicate);
        }
        if self.engaged() >= self.config.max_calls {
            return Err(CallError::TooMany);
        }
        let deadline = now.instant + self.config.search_timeout;
        self.calls.insert(call, Call::outgoing(call, number.clone(), contact, deadline));
        self.event(CallEvent::Searching { call, number });
        self.finish(now);
        Ok(())
    }

    /// A live terminal of the number that was dialled, its record verified. Repeated reports renew its routes: an
    /// invite that nobody has answered yet goes out on new ones at once.
    ///
    /// # Errors
    /// [`CallError::UnknownCall`] if the call (or text) is over or under another id by now,
    /// [`CallError::WrongState`] if it is answered, [`CallError::TooMany`] beyond [`MAX_LEGS`],
    /// [`CallError::OtherIdentity`].
    pub fn found(&mut self, now: Now, call: CallId, peer: Peer, source: Source) -> Result<(), CallError> {
        let result = if self.texts.contains_key(&call) {
            self.text_found(now, call, peer, source)
        } else {
            self.call_found(now, call, peer, source)
        };
        self.finish(now);
        result
    }

    fn call_found(&mut self, now: Now, id: CallId, peer: Peer, source: Source) -> Result<(), CallError> {
        let wire = self.wire_id(id).ok_or(CallError::UnknownCall)?;
        let call = self.calls.get_mut(&wire).ok_or(CallError::UnknownCall)?;
        if !call.state.is_dialling() {
            return Err(CallError::WrongState);
        }
        if call.identity.is_some_and(|identity| identity != peer.identity) {
            return Err(CallError::OtherIdentity);
        }
        call.fresh |= source == Source::Network;
        if peer.terminal == self.terminal {
            return Ok(());
        }
        let leg = LegId { call: wire, terminal: peer.terminal };
        if let Some(known) = self.legs.get_mut(&leg) {
            known.renew(now.instant, peer);
            return Ok(());
        }
        if call.transfers.only().is_some_and(|only| only != peer.terminal) {
            return Ok(());
        }
        if call.terminals.contains(&peer.terminal) {
            // It was invited and has failed.
            return Ok(());
        }
        if call.terminals.len() >= MAX_LEGS {
            return Err(CallError::TooMany);
        }
        call.identity = Some(peer.identity);
        if let Some(theirs) = self.alerting_from(peer.identity) {
            self.fold(now, wire, theirs);
            return Ok(());
        }
        self.invite(now, leg, peer);
        Ok(())
    }

    pub(super) fn invite(&mut self, now: Now, id: LegId, peer: Peer) {
        let Some(call) = self.calls.get_mut(&id.call) else { return };
        call.terminals.insert(id.terminal);
        call.work.remember(&peer);
        if call.state == CallState::Searching {
            call.state = CallState::Inviting;
            call.ring_deadline = Some(now.instant + call.ringing(&self.config));
        }
        let (app, terminals, disclose) = (call.id, call.terminals.len(), call.contact);
        let number = call.number.clone();
        let intro = Arc::clone(&self.intro);
        let mut leg = Leg::new(Arc::new(peer), number, Role::Caller, LegState::Preparing, intro);
        leg.contact = disclose;
        leg.media = Media::Pending;
        leg.disclosed = disclose;
        self.legs.insert(id, leg);
        self.event(CallEvent::Found { call: app, terminals });
        self.outputs.push_back(Output::PrepareMedia { leg: id, role: Role::Caller, disclose });
    }

    /// The look-up is over; [`Calls::found`] may still be called for what comes in later.
    ///
    /// # Errors
    /// [`CallError::UnknownCall`] if the call (or text) is over.
    pub fn lookup_finished(&mut self, now: Now, call: CallId, end: LookupEnd) -> Result<(), CallError> {
        if self.texts.contains_key(&call) {
            self.text_lookup_finished(now, call, end);
        } else {
            let wire = self.wire_id(call).ok_or(CallError::UnknownCall)?;
            self.call_lookup_finished(now, wire, end);
        }
        self.finish(now);
        Ok(())
    }

    fn call_lookup_finished(&mut self, now: Now, wire: CallId, end: LookupEnd) {
        let Some(call) = self.calls.get_mut(&wire) else { return };
        call.lookup_done = true;
        match end {
            LookupEnd::WrongNumber if !call.fresh => call.note(EndReason::WrongNumber),
            LookupEnd::Failed if !call.fresh => call.note(EndReason::Failed(Failure::Lookup)),
            LookupEnd::NoTerminal | LookupEnd::Complete if call.terminals.is_empty() => {
                call.note(EndReason::Unreachable)
            }
            LookupEnd::WrongNumber | LookupEnd::Failed | LookupEnd::NoTerminal | LookupEnd::Complete => {}
        }
        for leg in self.lost_legs(wire) {
            self.leg_failed(now, leg, EndReason::Unreachable);
        }
        self.check_exhausted(now, wire);
    }

    /// The callee's account has put a terminal out that was rung, from a record kept from an earlier call say: nobody is to be talked to there.
    pub fn revoked(&mut self, now: Now, call: CallId, terminal: TerminalId) {
        let wire = self.wire_id(call).unwrap_or(call);
        let id = LegId { call: wire, terminal };
        let Some(leg) = self.legs.get(&id).filter(|leg| leg.role == Role::Caller && leg.is_live()) else {
            return;
        };
        if let Some(call) = self.calls.get_mut(&wire) {
            call.work.forget(&terminal);
        }
        if leg.state == LegState::Text {
            self.text_leg_failed(now, id);
        } else if self.calls.get(&wire).is_some_and(|call| call.state.is_answered()) {
            self.end(now, wire, EndReason::Failed(Failure::Remote), EndedBy::Local);
        } else {
            self.leg_failed(now, id, EndReason::Unreachable);
        }
        self.finish(now);
    }

    /// Legs that no route leads to.
    pub(super) fn lost_legs(&self, wire: CallId) -> Vec<LegId> {
        let mut live = self.live_legs(wire);
        live.retain(|leg| self.legs.get(leg).is_some_and(|leg| leg.lost && !leg.dialog.is_heard()));
        live
    }

    /// Nothing may ring under the number that was dialled (or written to), and what does is to stop: none of the keys
    /// that claim it can be trusted.
    ///
    /// # Errors
    /// [`CallError::UnknownCall`] if the call (or text) is over.
    pub fn distrust(&mut self, now: Now, call: CallId, why: Distrust) -> Result<(), CallError> {
        if self.texts.contains_key(&call) {
            self.text_distrusted(now, call, why);
        } else {
            let wire = self.wire_id(call).ok_or(CallError::UnknownCall)?;
            let reason = match why {
                Distrust::KeyChanged => EndReason::KeyChanged,
                Distrust::Disputed => EndReason::Failed(Failure::Disputed),
                Distrust::Expired => EndReason::Failed(Failure::Expired),
            };
            self.end(now, wire, reason, EndedBy::Local);
        }
        self.finish(now);
        Ok(())
    }

    /// All routes of a packet on this leg say that the terminal is not connected; `tried` came with the packet. Counts
    /// only as long as nothing was heard of it (later the dialog repeats and gives up by itself), and if no other routes
    /// have become known meanwhile. While the look-up goes on it may bring some.
    pub fn send_failed(&mut self, now: Now, leg: LegId, tried: &Peer) {
        let searching = self.calls.get(&leg.call).is_some_and(|call| !call.lookup_done)
            || self.texts.get(&leg.call).is_some_and(|text| !text.lookup_done);
        let Some(known) = self.legs.get_mut(&leg) else { return };
        if known.role != Role::Caller || known.dialog.is_heard() || known.peer.routes != tried.routes {
            return;
        }
        known.lost = true;
        match known.state {
            LegState::Closing => self.forget(now, leg),
            // It may still be found elsewhere.
            LegState::Text | LegState::Preparing | LegState::Open if searching => {}
            LegState::Text => self.text_leg_failed(now, leg),
            LegState::Early
            | LegState::Keeping
            | LegState::Preparing
            | LegState::Open
            | LegState::Ringing
            | LegState::Chosen => self.leg_failed(now, leg, EndReason::Unreachable),
        }
        self.finish(now);
    }

    /// An outgoing leg cannot become a call any more. What might still be ringing there is told so once.
    pub(super) fn leg_failed(&mut self, now: Now, id: LegId, reason: EndReason) {
        let farewell = Message::Cancel { reason: CancelReason::Failed };
        self.close(now, id, Some(farewell), reason == EndReason::Unreachable);
        if let Some(call) = self.calls.get_mut(&id.call) {
            call.note(reason);
        }
        self.check_exhausted(now, id.call);
    }

    /// Ends an outgoing call when no leg is left and none can come.
    pub(super) fn check_exhausted(&mut self, now: Now, wire: CallId) {
        let Some(call) = self.calls.get(&wire) else { return };
        let waits = !call.lookup_done || call.work.is_under_way();
        if !call.state.is_dialling() || waits || !self.live_legs(wire).is_empty() {
            return;
        }
        self.end_exhausted(now, wire);
    }

    fn end_exhausted(&mut self, now: Now, wire: CallId) {
        let Some(call) = self.calls.get(&wire) else { return };
        let reason = call.verdict.unwrap_or(EndReason::Unreachable);
        let by = match reason {
            EndReason::Unreachable
            | EndReason::WrongNumber
            | EndReason::Failed(
                Failure::Lookup
                | Failure::NoMediaPath
                | Failure::MediaLost
                | Failure::Media
                | Failure::SignallingLost
                | Failure::NotConfirmed
                | Failure::Disputed
                | Failure::Expired,
            ) => EndedBy::Network,
            EndReason::Failed(Failure::Remote | Failure::Clock | Failure::Protocol)
            | EndReason::HungUp
            | EndReason::Declined
            | EndReason::Busy
            | EndReason::NoAnswer
            | EndReason::Blocked
            | EndReason::Voicemail
            | EndReason::Work
            | EndReason::KeyChanged
            | EndReason::AnsweredElsewhere
            | EndReason::Cancelled
            | EndReason::Merged
            | EndReason::Transferred => EndedBy::Remote,
        };
        self.end(now, wire, reason, by);
    }

    /// The search time is over: whatever the look-up may still find comes too late, and so does a first sign.
    pub(super) fn search_timed_out(&mut self, now: Now, wire: CallId) {
        let Some(call) = self.calls.get_mut(&wire) else { return };
        call.search_deadline = None;
        if !std::mem::replace(&mut call.lookup_done, true) && !call.fresh {
            call.note(EndReason::Failed(Failure::Lookup));
        }
        let heard = self.legs.range(legs_of(wire)).any(|(_, leg)| leg.dialog.is_heard());
        if heard {
            self.check_exhausted(now, wire);
        } else {
            self.end_exhausted(now, wire);
        }
    }

    pub(super) fn on_ringing(&mut self, now: Now, id: LegId, offer: MediaOffer, candidates: Vec<String>) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        if leg.state != LegState::Open {
            return;
        }
        leg.state = LegState::Ringing;
        self.work_is_over(id.call);
        self.outputs.push_back(Output::RemoteOffer { leg: id, offer });
        self.remote_candidates(id, candidates, 0);
        let Some(call) = self.calls.get_mut(&id.call) else { return };
        if call.state == CallState::Inviting {
            call.state = CallState::Ringing;
            call.ring_deadline = Some(now.instant + call.ringing(&self.config));
            let app = call.id;
            self.event(CallEvent::Ringing { call: app });
            self.following_rings(now, id.call);
        }
    }

    /// The first accept wins; the other legs are told that the call was answered elsewhere.
    pub(super) fn on_accept(&mut self, now: Now, id: LegId, invite_hash: &[u8; 32], candidates: Vec<String>) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let sound = leg.state == LegState::Ringing && leg.invite_hash.as_ref() == Some(invite_hash);
        if !sound {
            // It accepted something else than what we sent, or before it rang.
            self.leg_failed(now, id, EndReason::Failed(Failure::Protocol));
            return;
        }
        let Some(call) = self.calls.get_mut(&id.call).filter(|call| call.state.is_dialling()) else { return };
        leg.state = LegState::Chosen;
        call.state = CallState::Connecting;
        call.chosen = Some(id.terminal);
        call.search_deadline = None;
        call.ring_deadline = None;
        call.media_deadline = Some(now.instant + self.config.media_timeout);
        let app = call.id;
        self.event(CallEvent::Accepted { call: app });
        self.disclose(id);
        self.confirm(now, id);
        self.remote_candidates(id, candidates, 0);
        for other in self.live_legs(id.call) {
            if other != id {
                let reason = CancelReason::AnsweredElsewhere;
                self.close(now, other, Some(Message::Cancel { reason }), false);
            }
        }
        self.start_audio(id);
        self.try_connect(now, id.call);
    }

    fn confirm(&mut self, now: Now, id: LegId) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let candidates = leg.take_first_candidates();
        self.send(now, id, Message::Confirm { candidates });
        self.send_candidates(now, id);
    }

    pub(super) fn on_reject(
        &mut self,
        now: Now,
        id: LegId,
        reason: RejectReason,
        challenge: Option<Challenge>,
    ) {
        if let (RejectReason::Work, Some(challenge)) = (reason, challenge) {
            return self.on_work(now, id, challenge);
        }
        let reason = match reason {
            RejectReason::Busy => EndReason::Busy,
            RejectReason::Declined => EndReason::Declined,
            RejectReason::Blocked => EndReason::Blocked,
            RejectReason::KeyChanged => EndReason::KeyChanged,
            RejectReason::NoAnswer => EndReason::NoAnswer,
            RejectReason::Voicemail => EndReason::Voicemail,
            RejectReason::Work => EndReason::Work,
            RejectReason::Expired => EndReason::Failed(Failure::Clock),
            RejectReason::Failed | RejectReason::Other(_) => EndReason::Failed(Failure::Remote),
        };
        self.close(now, id, None, false);
        let Some(call) = self.calls.get_mut(&id.call) else { return };
        call.note(reason);
        // A user's refusal holds for all of her terminals; a terminal's state for itself only. An answered call
        // cannot be rejected any more; whoever does so has left it.
        if call.state.is_answered() {
            self.end(now, id.call, EndReason::HungUp, EndedBy::Remote);
        } else if matches!(reason, EndReason::Declined | EndReason::Blocked | EndReason::Voicemail) {
            self.end(now, id.call, reason, EndedBy::Remote);
        } else {
            self.check_exhausted(now, id.call);
        }
    }
}
