//! Dialogs that others begin.

use std::sync::Arc;

use super::event::{CallEvent, EndReason, EndedBy, LegId, Output, Peer, Role};
use super::glare::Glare;
use super::leg::{LINGER, Leg, LegState, Media};
use super::packets::is_fresh;
use super::state::{Call, CallState};
use super::{CallError, Caller, Calls, MAX_EARLY, Now};
use crate::identity::IdentityId;
use crate::signalling::{CallId, Message, Opened, Packet, RejectReason};

impl Calls {
    /// A packet of a dialog that we don't know. It must introduce its sender.
    pub(super) fn first_packet(&mut self, now: Now, id: LegId, opened: Opened, caller: Caller) {
        let Some(intro) = opened.intro.clone() else { return };
        let packet = &opened.packet;
        let opens = packet.seq == 1;
        if packet.seq == 0 || (!opens && !is_fresh(now, packet)) {
            return;
        }
        let rate = match caller {
            Caller::Contact => self.config.contact_rate,
            Caller::Stranger | Caller::Refused(_) => self.config.stranger_rate,
        };
        if !self.guard.admit(now.instant, intro.identity, rate) {
            return;
        }
        let caller = if is_fresh(now, packet) { caller } else { Caller::Refused(RejectReason::Expired) };
        let peer = Peer {
            identity: intro.identity,
            terminal: id.terminal,
            seal: intro.cert.seal,
            routes: intro.routes.clone(),
        };
        let number = intro.number.clone();
        let mut leg =
            Leg::new(Arc::new(peer), number, Role::Callee, LegState::Early, Arc::clone(&self.intro));
        (leg.contact, leg.refusal) = match caller {
            Caller::Contact => (true, None),
            Caller::Stranger => (false, None),
            Caller::Refused(reason) => (false, Some(reason)),
        };
        leg.deadline = Some(now.instant + LINGER);
        self.legs.insert(id, leg);
        if matches!(caller, Caller::Refused(RejectReason::Expired)) {
            self.refuse(now, id, RejectReason::Expired);
        }
        self.leg_packet(now, id, opened);
        self.limit_early(now);
    }

    /// Keeps the number of dialogs whose first message is still missing in bounds: the oldest goes.
    fn limit_early(&mut self, now: Now) {
        for contacts in [false, true] {
            let early = |leg: &Leg| leg.state == LegState::Early && leg.contact == contacts;
            let over = self.legs.values().filter(|leg| early(leg)).count().saturating_sub(MAX_EARLY);
            for _ in 0..over {
                let legs = self.legs.iter().filter(|(_, leg)| early(leg));
                let Some(id) = legs.min_by_key(|(_, leg)| leg.deadline).map(|(id, _)| *id) else { return };
                self.forget(now, id);
            }
        }
    }

    /// The first message of a dialog, in order; or a final one that overtook it.
    pub(super) fn first_message(&mut self, now: Now, id: LegId, seq: u32, message: Message) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        match message {
            // What has been worked for it the engine has seen before.
            Message::Invite { offer, candidates, replaces, solution: _ } => {
                leg.replaces = replaces;
                leg.remote_offer = Some(offer);
                leg.remote_candidates_seen = candidates.len();
                leg.remote_candidates = candidates;
                self.on_invite(now, id);
            }
            Message::Text { id: text, body } => self.text_arrived(now, id, seq, text, body),
            Message::Presence(presence) => self.presence_arrived(now, id, presence),
            // The invite was taken back before it came. It will find the leg closed and not ring.
            Message::Cancel { .. } | Message::Bye { .. } => self.close(now, id, None, false),
            Message::Ringing { .. }
            | Message::Accept { .. }
            | Message::Confirm { .. }
            | Message::Reject { .. }
            | Message::Candidates { .. }
            | Message::Dtmf { .. }
            | Message::Hold { .. }
            | Message::Mute { .. }
            | Message::TextRefused { .. }
            | Message::Recording { .. }
            | Message::Transfer { .. }
            | Message::TransferProgress { .. }
            | Message::Expect { .. }
            | Message::Tunnel { .. } => self.close(now, id, None, true),
        }
    }

    fn on_invite(&mut self, now: Now, id: LegId) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        if let Some(reason) = leg.refusal {
            return self.refuse(now, id, reason);
        }
        let (number, identity, contact) = (leg.number.clone(), leg.peer.identity, leg.contact);
        let replaces = leg.replaces.take();
        leg.state = LegState::Preparing;
        leg.deadline = None;
        let ring_deadline = now.instant + self.config.ring_timeout;
        let replaced = replaces.and_then(|token| self.expecting(now, token, identity));
        let glare = self.glare(id, identity, &number);
        let has_place = match glare {
            Glare::None => (replaced.is_some() || self.may_wait()) && self.may_ring(identity, contact),
            Glare::Hold(_) | Glare::Fold(_) => true,
        };
        if !has_place {
            return self.refuse(now, id, RejectReason::Busy);
        }
        let mut call = Call::incoming(id.call, number, identity, id.terminal, contact, ring_deadline);
        call.transfers.set_takes_over(replaced.map(|(call, _)| call));
        if let Glare::Hold(ours) = glare {
            call.held_by = Some(ours);
        }
        self.calls.insert(id.call, call);
        match glare {
            Glare::None => {
                // A contact has handed its call over to another one: the user talks already.
                let at_once = contact && replaced.is_some_and(|(_, at_once)| at_once);
                self.alert(now, id.call, at_once);
                if at_once {
                    self.answer(now, id.call);
                }
            }
            Glare::Hold(_) => {}
            Glare::Fold(ours) => self.fold(now, ours, id.call),
        }
    }

    /// Whether there is a place for one more call that rings. Contacts and strangers have their own, and one
    /// stranger has one.
    fn may_ring(&self, identity: IdentityId, contact: bool) -> bool {
        let rings = |call: &&Call| {
            let waits = matches!(call.state, CallState::Alerting | CallState::Held);
            waits && call.contact == contact
        };
        if contact {
            return self.calls.values().filter(rings).count() < self.config.max_ringing_contacts;
        }
        let strangers = || self.calls.values().filter(rings);
        strangers().count() < self.config.max_ringing_strangers
            && strangers().all(|call| call.identity != Some(identity))
    }

    /// Refuses an invite or text without keeping anything but the answer, which every repetition gets again.
    pub(super) fn refuse(&mut self, now: Now, id: LegId, reason: RejectReason) {
        self.close(now, id, Some(Message::reject(reason)), true);
    }

    /// The answer to the first packet of a dialog that is not begun: nothing of it is kept, and each repetition is answered anew. `None` to
    /// one that says nothing that wants an answer.
    #[must_use]
    pub fn turn_away(&self, now: Now, opened: &Opened, refusal: Message) -> Option<Output> {
        let intro = opened.intro.as_ref()?;
        let packet = &opened.packet;
        let fresh = packet.to == self.terminal && packet.seq == 1 && is_fresh(now, packet);
        if !fresh || packet.message.as_ref().is_none_or(Message::is_final) {
            return None;
        }
        let peer = Peer {
            identity: intro.identity,
            terminal: packet.from,
            seal: intro.cert.seal,
            routes: intro.routes.clone(),
        };
        let answer = Packet {
            call: packet.call,
            from: self.terminal,
            to: packet.from,
            seq: 1,
            // A text counts as delivered with its acknowledgement.
            ack: u32::from(matches!(packet.message, Some(Message::Invite { .. }))),
            time: now.wall,
            intro: Some(Arc::clone(&self.intro)),
            message: Some(refusal),
        };
        let leg = LegId { call: packet.call, terminal: packet.from };
        Some(Output::Transmit { leg, peer: Arc::new(peer), packet: answer })
    }

    /// Lets an incoming call ring; one that is `answered` thereafter only shows itself.
    pub(super) fn alert(&mut self, now: Now, wire: CallId, answered: bool) {
        let Some(call) = self.calls.get_mut(&wire) else { return };
        let (Some(terminal), Some(identity)) = (call.chosen, call.identity) else { return };
        call.state = CallState::Alerting;
        call.exposed = true;
        call.held_by = None;
        call.ring_deadline = Some(now.instant + self.config.ring_timeout);
        let (app, number, contact) = (call.id, call.number.clone(), call.contact);
        let replaces = call.transfers.takes_over();
        self.event(CallEvent::Incoming { call: app, number, identity, contact, replaces, answered });
        self.prepare_incoming(LegId { call: wire, terminal }, contact);
    }

    /// Asks for media of an incoming call, once.
    fn prepare_incoming(&mut self, id: LegId, disclose: bool) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        if leg.media != Media::Absent {
            return;
        }
        leg.media = Media::Pending;
        leg.disclosed = disclose;
        let offer = leg.remote_offer.take();
        self.outputs.push_back(Output::PrepareMedia { leg: id, role: Role::Callee, disclose });
        if let Some(offer) = offer {
            self.outputs.push_back(Output::RemoteOffer { leg: id, offer });
        }
        self.show_candidates(id);
    }

    /// Answers an incoming call.
    ///
    /// # Errors
    /// [`CallError::UnknownCall`], [`CallError::WrongState`] unless it rings here, [`CallError::TooMany`] if the
    /// user is in [`max_calls`](super::CallConfig::max_calls) calls: hang up first.
    pub fn accept(&mut self, now: Now, call: CallId) -> Result<(), CallError> {
        let wire = self.alerting(call)?;
        let takes_over = self.calls.get(&wire).and_then(|call| call.transfers.takes_over());
        let spare = usize::from(takes_over.is_some_and(|replaced| self.wire_id(replaced).is_some()));
        if self.engaged() >= self.config.max_calls + spare {
            return Err(CallError::TooMany);
        }
        self.answer(now, wire);
        self.finish(now);
        Ok(())
    }

    /// The user's answer, or what takes its place after glare.
    pub(super) fn answer(&mut self, now: Now, wire: CallId) {
        let Some(call) = self.calls.get_mut(&wire) else { return };
        let Some(terminal) = call.chosen else { return };
        call.state = CallState::Connecting;
        call.ring_deadline = None;
        call.media_deadline = Some(now.instant + self.config.media_timeout);
        let app = call.id;
        let contact = call.contact;
        let id = LegId { call: wire, terminal };
        self.prepare_incoming(id, contact);
        self.event(CallEvent::Accepted { call: app });
        if let Some(leg) = self.legs.get_mut(&id) {
            leg.answered = true;
        }
        self.disclose(id);
        self.send_accept(now, id);
        // Those that found no room in the accept.
        self.send_candidates(now, id);
        self.try_connect(now, wire);
    }

    /// Sends the accept as soon as both the user's wish and our media parameters are there.
    pub(super) fn send_accept(&mut self, now: Now, id: LegId) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let (true, LegState::Open, Some(invite_hash)) = (leg.answered, leg.state, leg.invite_hash) else {
            return;
        };
        leg.state = LegState::Chosen;
        let candidates = leg.take_first_candidates();
        self.send(now, id, Message::Accept { invite_hash, candidates });
        self.start_audio(id);
    }

    /// Declines a call that rings here. `reason` is what the caller is told: declined, busy, blocked, or to leave a message.
    ///
    /// # Errors
    /// [`CallError::UnknownCall`], [`CallError::WrongState`] unless it rings here.
    pub fn reject(&mut self, now: Now, call: CallId, reason: RejectReason) -> Result<(), CallError> {
        let wire = self.alerting(call)?;
        let ended = match reason {
            RejectReason::Busy => EndReason::Busy,
            RejectReason::Blocked => EndReason::Blocked,
            RejectReason::NoAnswer => EndReason::NoAnswer,
            RejectReason::KeyChanged => EndReason::KeyChanged,
            RejectReason::Voicemail => EndReason::Voicemail,
            RejectReason::Declined
            | RejectReason::Work
            | RejectReason::Expired
            | RejectReason::Failed
            | RejectReason::Other(_) => EndReason::Declined,
        };
        self.end_with(now, wire, ended, EndedBy::Local, &Message::reject(reason));
        self.finish(now);
        Ok(())
    }

    fn alerting(&self, call: CallId) -> Result<CallId, CallError> {
        let wire = self.wire_id(call).ok_or(CallError::UnknownCall)?;
        match self.calls.get(&wire).map(|call| call.state) {
            Some(CallState::Alerting) => Ok(wire),
            Some(_) => Err(CallError::WrongState),
            None => Err(CallError::UnknownCall),
        }
    }
}
