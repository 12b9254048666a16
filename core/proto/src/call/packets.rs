//! Packets of dialogs, and the end of legs and calls.

use std::sync::Arc;

use super::event::{CallEvent, EndReason, EndedBy, Failure, LegId, Output, Role};
use super::guard::{Remembered, legs_of};
use super::leg::{LINGER, Leg, LegState, Media};
use super::state::{Call, CallState};
use super::{Caller, Calls, Now};
use crate::signalling::{ByeReason, CallId, CancelReason, LastWord, Message, Opened, Packet, RejectReason};

impl Calls {
    /// Takes a packet that was opened and verified.
    ///
    /// A packet that belongs to no leg, comes from the wrong terminal or identity, or is stale changes nothing.
    pub fn handle_packet(&mut self, now: Now, opened: Opened, caller: Caller) {
        let id = LegId { call: opened.packet.call, terminal: opened.packet.from };
        if opened.packet.to != self.terminal {
            return;
        }
        if self.legs.contains_key(&id) {
            self.leg_packet(now, id, opened);
        } else if self.memory.contains(&id) {
            self.answer_remembered(now, id, &opened.packet);
        } else if !self.is_used(id.call) {
            self.first_packet(now, id, opened, caller);
        }
        self.finish(now);
    }

    pub(super) fn leg_packet(&mut self, now: Now, id: LegId, opened: Opened) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        if !identify(leg, &opened) {
            return;
        }
        let Opened { packet, payload_hash, .. } = opened;
        if leg.state == LegState::Early && !is_fresh(now, &packet) {
            return;
        }
        if let (LegState::Text, Some(Message::Reject { reason, .. })) = (leg.state, &packet.message) {
            // Before its acknowledgement is looked at: refused is not delivered.
            let reason = *reason;
            self.text_rejected(now, id, reason);
            return;
        }
        let (message, datagrams) = match packet.message {
            Some(Message::Tunnel { datagrams }) => (None, datagrams),
            message => (message, Vec::new()),
        };
        let seq = if datagrams.is_empty() { packet.seq } else { 0 };
        if seq == 1 && leg.role == Role::Callee && leg.invite_hash.is_none() {
            leg.invite_hash = Some(payload_hash);
        }
        let received = leg.dialog.receive(now.instant, now.wall, seq, packet.ack, message);
        for seq in received.acked.iter().filter_map(|seq| leg.refused_texts.remove(seq)) {
            leg.dialog.release(seq);
        }
        let texts: Vec<_> = received.acked.iter().filter_map(|seq| leg.texts.remove(seq)).collect();
        for text in texts {
            self.text_delivered(now, id, text);
        }
        for datagram in datagrams {
            self.tunnelled(now, id, datagram.into());
        }
        // One that overtook others has no number: nothing depends on it.
        let urgent = received.urgent.map(|message| (0, message));
        for (seq, message) in urgent.into_iter().chain(received.messages) {
            self.on_message(now, id, seq, message);
        }
        self.send_candidates(now, id);
    }

    fn on_message(&mut self, now: Now, id: LegId, seq: u32, message: Message) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        match leg.state {
            LegState::Early => self.first_message(now, id, seq, message),
            // A refusal never comes here, and there is nothing else to say about a text.
            LegState::Text | LegState::Keeping => leg.dialog.release(seq),
            LegState::Closing => {
                if matches!(message, Message::Text { .. } | Message::TextRefused { .. }) {
                    self.in_call_message(id, seq, message);
                }
            }
            LegState::Preparing | LegState::Open | LegState::Ringing | LegState::Chosen => match leg.role {
                Role::Caller => self.take_from_callee(now, id, seq, message),
                Role::Callee => self.take_from_caller(now, id, seq, message),
            },
        }
    }

    fn take_from_callee(&mut self, now: Now, id: LegId, seq: u32, message: Message) {
        match message {
            Message::Ringing { offer, candidates } => self.on_ringing(now, id, offer, candidates),
            Message::Accept { invite_hash, candidates } => self.on_accept(now, id, &invite_hash, candidates),
            Message::Reject { reason, challenge } => self.on_reject(now, id, reason, challenge),
            Message::Bye { reason } => self.on_bye(now, id, reason),
            Message::Candidates { list, generation } => self.remote_candidates(id, list, generation),
            Message::Text { .. }
            | Message::TextRefused { .. }
            | Message::Dtmf { .. }
            | Message::Hold { .. }
            | Message::Mute { .. }
            | Message::Recording { .. } => self.in_call_message(id, seq, message),
            Message::Transfer { .. } | Message::TransferProgress { .. } | Message::Expect { .. } => {
                self.on_transfer_message(now, id, message);
            }
            // Not the callee's to say, or never in a call. A tunnelled datagram never comes here.
            Message::Presence(_)
            | Message::Invite { .. }
            | Message::Confirm { .. }
            | Message::Cancel { .. }
            | Message::Tunnel { .. } => {}
        }
    }

    fn take_from_caller(&mut self, now: Now, id: LegId, seq: u32, message: Message) {
        match message {
            Message::Confirm { candidates } => {
                self.remote_candidates(id, candidates, 0);
                self.on_confirm(now, id);
            }
            Message::Cancel { reason } => self.on_cancel(now, id, reason),
            Message::Bye { reason } => self.on_bye(now, id, reason),
            Message::Candidates { list, generation } => self.remote_candidates(id, list, generation),
            Message::Text { .. }
            | Message::TextRefused { .. }
            | Message::Dtmf { .. }
            | Message::Hold { .. }
            | Message::Mute { .. }
            | Message::Recording { .. } => self.in_call_message(id, seq, message),
            Message::Transfer { .. } | Message::TransferProgress { .. } | Message::Expect { .. } => {
                self.on_transfer_message(now, id, message);
            }
            // Not the caller's to say, a second invite, or nothing for a call.
            Message::Presence(_)
            | Message::Invite { .. }
            | Message::Ringing { .. }
            | Message::Accept { .. }
            | Message::Reject { .. }
            | Message::Tunnel { .. } => {}
        }
    }

    /// The other side ended the call after the answer, or we hear of that before the answer.
    pub(super) fn on_bye(&mut self, now: Now, id: LegId, reason: Option<ByeReason>) {
        let Some(call) = self.calls.get(&id.call) else { return };
        let reason = match call.state {
            // We have not answered: nothing was there that could fail.
            CallState::Alerting | CallState::Held => EndReason::Cancelled,
            CallState::Searching
            | CallState::Inviting
            | CallState::Ringing
            | CallState::Connecting
            | CallState::Active => reason.map_or_else(|| self.farewell_reason(id.call), failed_at_other_end),
        };
        self.close(now, id, None, false);
        self.end(now, id.call, reason, EndedBy::Remote);
    }

    pub(super) fn on_cancel(&mut self, now: Now, id: LegId, reason: CancelReason) {
        let (reason, by) = match reason {
            CancelReason::Cancelled | CancelReason::Glare | CancelReason::Other(_) => {
                (EndReason::Cancelled, EndedBy::Remote)
            }
            CancelReason::AnsweredElsewhere => (EndReason::AnsweredElsewhere, EndedBy::Elsewhere),
            CancelReason::DeclinedElsewhere => (EndReason::Declined, EndedBy::Elsewhere),
            CancelReason::NoAnswer => (EndReason::NoAnswer, EndedBy::Remote),
            CancelReason::Failed => (EndReason::Failed(Failure::Remote), EndedBy::Remote),
        };
        self.close(now, id, None, false);
        self.end(now, id.call, reason, by);
    }

    fn on_confirm(&mut self, now: Now, id: LegId) {
        let Some(call) = self.calls.get_mut(&id.call) else { return };
        if call.state == CallState::Connecting {
            call.confirmed = true;
            self.try_connect(now, id.call);
        }
    }

    fn tunnelled(&mut self, now: Now, id: LegId, data: Vec<u8>) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let wanted = leg.is_live() && leg.media != Media::Absent && leg.tunnel_received.take(now.instant);
        if wanted {
            self.outputs.push_back(Output::Tunnel { leg: id, data });
        }
    }

    fn answer_remembered(&mut self, now: Now, id: LegId, packet: &Packet) {
        let Some(entry) = self.memory.get_mut(&id) else { return };
        if packet.seq == 0 {
            return;
        }
        let Some((seq, message)) = entry.answer(packet.message.as_ref()) else { return };
        let (peer, ack) = (Arc::clone(&entry.peer), entry.ack);
        let answer = Packet {
            call: id.call,
            from: self.terminal,
            to: id.terminal,
            seq,
            ack,
            time: now.wall,
            intro: Some(Arc::clone(&self.intro)),
            message,
        };
        self.outputs.push_back(Output::Transmit { leg: id, peer, packet: answer });
    }

    /// Legs of a call that are not over.
    pub(super) fn live_legs(&self, wire: CallId) -> Vec<LegId> {
        self.legs.range(legs_of(wire)).filter(|(_, leg)| leg.is_live()).map(|(id, _)| *id).collect()
    }

    /// Ends a leg: stops its media, and says `farewell` unless nothing was ever said. With `forget` that is said
    /// only once.
    pub(super) fn close(&mut self, now: Now, id: LegId, farewell: Option<Message>, forget: bool) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        if leg.state == LegState::Closing {
            return;
        }
        if std::mem::replace(&mut leg.media, Media::Absent) != Media::Absent {
            let last = farewell.as_ref().and_then(LastWord::of);
            self.outputs.push_back(Output::StopMedia { leg: id, last });
        }
        if leg.state == LegState::Preparing && leg.role == Role::Caller {
            self.legs.remove(&id);
            return;
        }
        if let Some(message) = farewell {
            // The dialog keeps places for final messages, and this is the only one of the leg.
            if let Ok(seq) = leg.dialog.send(now.instant, now.wall, message.clone()) {
                leg.farewell = Some((seq, message));
            }
        } else if leg.texts.is_empty() {
            // The other side has ended it and needs nothing else of what is still on its way.
            leg.dialog.abandon();
        }
        leg.was_chosen = leg.state == LegState::Chosen;
        leg.state = LegState::Closing;
        leg.forget = forget;
        leg.deadline = Some(now.instant + LINGER);
        self.limit_closing(now);
    }

    /// Strangers' dialogs that are over take [`MAX_CLOSING`](super::MAX_CLOSING) places at most.
    fn limit_closing(&mut self, now: Now) {
        let closing = |leg: &Leg| leg.state == LegState::Closing && !leg.forget && !leg.is_trusted();
        let over = self.legs.values().filter(|leg| closing(leg)).count().saturating_sub(super::MAX_CLOSING);
        for _ in 0..over {
            let legs = self.legs.iter().filter(|(_, leg)| closing(leg));
            let Some(id) = legs.min_by_key(|(_, leg)| leg.deadline).map(|(id, _)| *id) else { return };
            self.forget(now, id);
        }
    }

    /// Removes a leg that is over; what remains is remembered for repetitions.
    pub(super) fn forget(&mut self, now: Now, id: LegId) {
        let Some(leg) = self.legs.remove(&id) else { return };
        for text in leg.texts.values() {
            self.text_lost(*text, super::TextFailure::CallEnded);
        }
        let trusted = leg.is_trusted();
        let entry = Remembered::new(now.instant, leg.peer, leg.farewell, leg.dialog.ack());
        self.memory.insert(now.instant, id, entry, trusted);
    }

    /// Ends a call; every leg is told by what fits its state and `reason`.
    pub(super) fn end(&mut self, now: Now, wire: CallId, reason: EndReason, by: EndedBy) {
        for id in self.live_legs(wire) {
            let farewell = self.legs.get(&id).map(|leg| farewell(leg, reason));
            self.close(now, id, farewell, false);
        }
        if let Some(call) = self.calls.remove(&wire) {
            self.aliases.retain(|_, known| *known != wire);
            self.transfer_ended(now, &call, reason);
            self.announce_end(now, call, reason, by);
        }
    }

    /// Ends a call whose only leg is told `farewell`.
    pub(super) fn end_with(
        &mut self,
        now: Now,
        wire: CallId,
        reason: EndReason,
        by: EndedBy,
        farewell: &Message,
    ) {
        for id in self.live_legs(wire) {
            self.close(now, id, Some(farewell.clone()), false);
        }
        self.end(now, wire, reason, by);
    }

    fn announce_end(&mut self, now: Now, call: Call, reason: EndReason, by: EndedBy) {
        if !call.exposed {
            return;
        }
        self.event(CallEvent::Ended {
            call: call.id,
            number: call.number,
            direction: call.direction,
            reason,
            by,
            duration: call.connected_at.map(|at| now.instant.saturating_duration_since(at)),
        });
    }
}

/// Whether the packet is from whom the leg is with. For calls made here the first packet must introduce a terminal
/// of the identity that was dialled.
fn identify(leg: &mut Leg, opened: &Opened) -> bool {
    match &opened.intro {
        Some(intro) if intro.identity != leg.peer.identity => return false,
        Some(_) => leg.identified = true,
        None => {}
    }
    leg.identified
}

/// Not older than [`FRESH`](super::FRESH), and not further in the future.
pub(super) fn is_fresh(now: Now, packet: &Packet) -> bool {
    now.wall.since(packet.time) <= super::FRESH && packet.time.since(now.wall) <= super::FRESH
}

fn farewell(leg: &Leg, reason: EndReason) -> Message {
    match leg.role {
        _ if leg.state == LegState::Chosen => Message::Bye { reason: bye_reason(reason) },
        Role::Caller => Message::Cancel { reason: cancel_reason(reason) },
        Role::Callee => Message::reject(reject_reason(reason)),
    }
}

fn bye_reason(reason: EndReason) -> Option<ByeReason> {
    let failure = match reason {
        EndReason::Failed(failure) => failure,
        EndReason::KeyChanged => return Some(ByeReason::Failed),
        EndReason::HungUp
        | EndReason::Declined
        | EndReason::Busy
        | EndReason::NoAnswer
        | EndReason::Unreachable
        | EndReason::WrongNumber
        | EndReason::Blocked
        | EndReason::Voicemail
        | EndReason::Work
        | EndReason::AnsweredElsewhere
        | EndReason::Cancelled
        | EndReason::Merged
        | EndReason::Transferred => return None,
    };
    Some(match failure {
        Failure::NoMediaPath => ByeReason::NoMediaPath,
        Failure::MediaLost => ByeReason::MediaLost,
        Failure::Media => ByeReason::Media,
        Failure::NotConfirmed => ByeReason::NotConfirmed,
        Failure::SignallingLost => ByeReason::SignallingLost,
        Failure::Lookup
        | Failure::Remote
        | Failure::Disputed
        | Failure::Expired
        | Failure::Clock
        | Failure::Protocol => ByeReason::Failed,
    })
}

/// How a call ended that the other end gave up for this reason.
fn failed_at_other_end(reason: ByeReason) -> EndReason {
    EndReason::Failed(match reason {
        ByeReason::NoMediaPath => Failure::NoMediaPath,
        ByeReason::MediaLost => Failure::MediaLost,
        ByeReason::NotConfirmed => Failure::NotConfirmed,
        ByeReason::SignallingLost => Failure::SignallingLost,
        ByeReason::Media | ByeReason::Failed | ByeReason::Other(_) => Failure::Remote,
    })
}

fn cancel_reason(reason: EndReason) -> CancelReason {
    match reason {
        EndReason::Declined | EndReason::Blocked | EndReason::Voicemail => CancelReason::DeclinedElsewhere,
        EndReason::NoAnswer => CancelReason::NoAnswer,
        // A hang-up that we hear of before the other legs were told of the answer.
        EndReason::HungUp | EndReason::AnsweredElsewhere | EndReason::Merged | EndReason::Transferred => {
            CancelReason::AnsweredElsewhere
        }
        EndReason::Cancelled => CancelReason::Cancelled,
        EndReason::Busy
        | EndReason::Work
        | EndReason::Unreachable
        | EndReason::WrongNumber
        | EndReason::KeyChanged
        | EndReason::Failed(_) => CancelReason::Failed,
    }
}

fn reject_reason(reason: EndReason) -> RejectReason {
    match reason {
        EndReason::Busy => RejectReason::Busy,
        EndReason::Blocked => RejectReason::Blocked,
        EndReason::KeyChanged => RejectReason::KeyChanged,
        EndReason::NoAnswer => RejectReason::NoAnswer,
        EndReason::Voicemail => RejectReason::Voicemail,
        EndReason::Failed(_) | EndReason::Unreachable => RejectReason::Failed,
        EndReason::HungUp
        | EndReason::Declined
        | EndReason::Work
        | EndReason::WrongNumber
        | EndReason::AnsweredElsewhere
        | EndReason::Cancelled
        | EndReason::Merged
        | EndReason::Transferred => RejectReason::Declined,
    }
}
