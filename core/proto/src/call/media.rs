//! The media connection of each leg, as the engine reports it.

use super::event::{CallEvent, EndReason, EndedBy, Failure, LegId, Output, Role};
use super::leg::{Leg, LegState, MAX_PENDING_CANDIDATES, MAX_REMOTE_CANDIDATES, Media};
use super::state::CallState;
use super::{CallError, Calls, Now};
use crate::signalling::{
    CallId, LastWord, LimitError, MAX_CANDIDATE_BYTES, MediaOffer, Message, Packet, is_relayed,
};

impl Calls {
    /// Our media parameters for a leg, asked for by [`Output::PrepareMedia`]. Sends the invite, or the ringing.
    ///
    /// # Errors
    /// [`CallError::UnknownLeg`] if the leg is over, [`CallError::WrongState`] the second time,
    /// [`CallError::Limit`].
    pub fn set_offer(&mut self, now: Now, leg: LegId, offer: MediaOffer) -> Result<(), CallError> {
        offer.check()?;
        let call = self.calls.get(&leg.call);
        let replaces = call.and_then(|call| call.transfers.token());
        let solution = call.and_then(|call| call.work.solution());
        let known = self.live_leg(leg)?;
        if known.state != LegState::Preparing || known.media == Media::Absent {
            return Err(CallError::WrongState);
        }
        known.state = LegState::Open;
        let candidates = known.take_candidates();
        let message = match known.role {
            Role::Caller => Message::Invite { offer, candidates, replaces, solution },
            Role::Callee => Message::Ringing { offer, candidates },
        };
        self.send(now, leg, message);
        self.send_accept(now, leg);
        self.send_candidates(now, leg);
        self.finish(now);
        Ok(())
    }

    /// Candidates of ours, as SDP attributes (RFC 8839 section 5.1). [Relayed](is_relayed) ones are sent
    /// at once; the others wait until our addresses may be shown on the leg.
    ///
    /// # Errors
    /// [`CallError::UnknownLeg`], [`CallError::Limit`] for one that is empty or too long,
    /// [`CallError::QueueFull`] if more than 64 would wait.
    pub fn local_candidates(&mut self, now: Now, leg: LegId, list: Vec<String>) -> Result<(), CallError> {
        let sound = |candidate: &String| !candidate.is_empty() && candidate.len() <= MAX_CANDIDATE_BYTES;
        if !list.iter().all(sound) {
            return Err(LimitError::Candidates.into());
        }
        let known = self.live_leg(leg)?;
        if known.local_candidates.len() + list.len() > MAX_PENDING_CANDIDATES {
            return Err(CallError::QueueFull);
        }
        known.local_candidates.extend(list);
        self.send_candidates(now, leg);
        self.finish(now);
        Ok(())
    }

    /// Our own addresses as candidates, to be sent when they may be shown, in the place of those that wait for that already.
    ///
    /// # Errors
    /// As [`Calls::local_candidates`].
    pub fn withheld_candidates(&mut self, now: Now, leg: LegId, list: Vec<String>) -> Result<(), CallError> {
        let known = self.live_leg(leg)?;
        if !known.disclosed {
            known.local_candidates.retain(|candidate| is_relayed(candidate));
        }
        self.local_candidates(now, leg, list)
    }

    /// Our network has changed: the candidates told from now on take the place of all that were told before.
    ///
    /// # Errors
    /// [`CallError::UnknownLeg`].
    pub fn renew_candidates(&mut self, leg: LegId) -> Result<(), CallError> {
        let known = self.live_leg(leg)?;
        // None has been told that would have to go, as long as the first message is not out.
        if known.is_transmitted() {
            known.generation = known.generation.saturating_add(1);
        }
        known.local_candidates.clear();
        Ok(())
    }

    /// Datagrams of the QUIC handshake to be carried through signalling, in one packet. May be lost, as are those beyond the
    /// budget.
    ///
    /// # Errors
    /// [`CallError::UnknownLeg`], [`CallError::WrongState`] before our parameters were sent,
    /// [`CallError::QueueFull`] if the [`TunnelBudget`](super::TunnelBudget) permits none, [`CallError::Limit`].
    pub fn tunnel(&mut self, now: Now, leg: LegId, datagrams: Vec<Vec<u8>>) -> Result<(), CallError> {
        let me = self.terminal;
        let message = |datagrams: Vec<Vec<u8>>| Message::Tunnel {
            datagrams: datagrams.into_iter().map(Into::into).collect(),
        };
        message(datagrams.clone()).check()?;
        let known = self.live_leg(leg)?;
        if !known.is_transmitted() {
            return Err(CallError::WrongState);
        }
        let granted: Vec<_> =
            datagrams.into_iter().take_while(|_| known.tunnel_sent.take(now.instant)).collect();
        if granted.is_empty() {
            return Err(CallError::QueueFull);
        }
        let (ack, message) = (known.dialog.acknowledge_along(), Some(message(granted)));
        let frame = crate::dialog::Frame { seq: 0, ack, time: now.wall, message };
        let packet: Packet = known.packet(leg, me, frame);
        let peer = known.peer.clone();
        self.outputs.push_back(Output::Transmit { leg, peer, packet });
        Ok(())
    }

    /// The media connection of a leg is up (QUIC's handshake is done, the certificate is the other side's).
    pub fn media_ready(&mut self, now: Now, leg: LegId) {
        let Ok(known) = self.live_leg(leg) else { return };
        if known.media == Media::Pending {
            known.media = Media::Ready;
            self.try_connect(now, leg.call);
        }
        self.finish(now);
    }

    /// Media of a leg cannot be prepared, or the connection could not be made.
    pub fn media_failed(&mut self, now: Now, leg: LegId) {
        self.media_broken(now, leg, Failure::Media, Failure::NoMediaPath);
    }

    /// The media connection of a leg was up and is gone. Ends the call, or before the answer the leg: so a
    /// connection that was made while it rings must not time out before the ringing does.
    pub fn media_lost(&mut self, now: Now, leg: LegId) {
        self.media_broken(now, leg, Failure::Media, Failure::MediaLost);
    }

    /// The other end closed the media connection of a leg on purpose. Its last message comes by signalling, unless that
    /// has no way to come any more; so what the end of the connection repeats of it counts as well.
    pub fn media_closed(&mut self, now: Now, leg: LegId, last: Option<LastWord>) {
        let Ok(known) = self.live_leg(leg) else { return };
        match (last, known.role) {
            (Some(LastWord::Bye(reason)), _) => self.on_bye(now, leg, reason),
            (Some(LastWord::Reject(reason)), Role::Caller) => self.on_reject(now, leg, reason, None),
            (Some(LastWord::Cancel(reason)), Role::Callee) => self.on_cancel(now, leg, reason),
            (Some(LastWord::Reject(_)), Role::Callee)
            | (Some(LastWord::Cancel(_)), Role::Caller)
            | (None, _) => {
                return self.media_lost(now, leg);
            }
        }
        self.finish(now);
    }

    fn media_broken(&mut self, now: Now, leg: LegId, before_answer: Failure, after_answer: Failure) {
        let Ok(known) = self.live_leg(leg) else { return };
        let role = known.role;
        let answered = self.calls.get(&leg.call).is_some_and(|call| call.state.is_answered());
        if answered {
            self.end(now, leg.call, EndReason::Failed(after_answer), EndedBy::Network);
        } else {
            match role {
                Role::Caller => self.leg_failed(now, leg, EndReason::Failed(before_answer)),
                Role::Callee => self.end(now, leg.call, EndReason::Failed(before_answer), EndedBy::Network),
            }
        }
        self.finish(now);
    }

    /// Starts audio with the answer: by the time there is a way for it, microphone and loudspeaker are open. The media
    /// connection sends nothing before.
    ///
    /// The callee speaks before the caller's confirmation: at its end the accept is its own, and waiting would
    /// cost a round trip. If another terminal won, the cancel stops it.
    pub(super) fn start_audio(&mut self, leg: LegId) {
        // The accept (or the confirmation) goes first.
        self.flush();
        self.outputs.push_back(Output::StartAudio { leg });
    }

    /// The call stands when it is answered, media are up, and both ends agree.
    pub(super) fn try_connect(&mut self, now: Now, wire: CallId) {
        let Some(call) = self.calls.get(&wire) else { return };
        let confirmed = call.confirmed;
        let (CallState::Connecting, Some(terminal)) = (call.state, call.chosen) else { return };
        let id = LegId { call: wire, terminal };
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let agreed = leg.role == Role::Caller || confirmed;
        if leg.media != Media::Ready || leg.state != LegState::Chosen || !agreed {
            return;
        }
        // The media connection says when the other side is gone. Directories may be away meanwhile.
        leg.dialog.persist();
        let Some(call) = self.calls.get_mut(&wire) else { return };
        call.state = CallState::Active;
        call.connected_at = Some(now.instant);
        call.media_deadline = None;
        let app = call.id;
        self.event(CallEvent::Connected { call: app, leg: id });
        self.transfer_connected(now, wire);
    }

    /// From now on our addresses may be shown to the other side.
    pub(super) fn disclose(&mut self, id: LegId) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        if !std::mem::replace(&mut leg.disclosed, true) {
            self.outputs.push_back(Output::Disclose { leg: id });
        }
    }

    /// Takes candidates of the other side.
    pub(super) fn remote_candidates(&mut self, id: LegId, list: Vec<String>, generation: u32) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        if generation < leg.remote_generation {
            return;
        }
        if generation > leg.remote_generation {
            leg.remote_generation = generation;
            leg.remote_candidates_seen = 0;
            leg.remote_candidates.clear();
            leg.remote_anew = true;
        }
        for candidate in list {
            if leg.remote_candidates_seen < MAX_REMOTE_CANDIDATES
                && leg.remote_candidates.len() < MAX_PENDING_CANDIDATES
            {
                leg.remote_candidates_seen += 1;
                leg.remote_candidates.push(candidate);
            }
        }
        self.show_candidates(id);
    }

    /// Hands the other side's candidates to the media connection, once there is one.
    pub(super) fn show_candidates(&mut self, id: LegId) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        if leg.media != Media::Absent && !leg.remote_candidates.is_empty() {
            let list = std::mem::take(&mut leg.remote_candidates);
            let anew = std::mem::take(&mut leg.remote_anew);
            self.outputs.push_back(Output::RemoteCandidates { leg: id, list, anew });
        }
    }

    /// Sends those of our candidates that may be sent and find room.
    pub(super) fn send_candidates(&mut self, now: Now, id: LegId) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        while leg.is_transmitted() && leg.has_candidates() {
            // Room is left for what is more urgent; acknowledgements bring us back here.
            if leg.dialog.unacked() * 2 > crate::dialog::SEND_WINDOW {
                return;
            }
            let (list, generation) = (leg.take_candidates(), leg.generation);
            if leg.dialog.send(now.instant, now.wall, Message::Candidates { list, generation }).is_err() {
                return;
            }
        }
    }

    /// Queues a message that the state of the leg leaves room for.
    pub(super) fn send(&mut self, now: Now, id: LegId, message: Message) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let sent = leg.dialog.send(now.instant, now.wall, message);
        debug_assert!(sent.is_ok(), "calls are set up with fewer messages than fit");
    }

    pub(super) fn live_leg(&mut self, id: LegId) -> Result<&mut Leg, CallError> {
        let leg = self.legs.get_mut(&id).ok_or(CallError::UnknownLeg)?;
        if leg.is_live() && leg.state != LegState::Text { Ok(leg) } else { Err(CallError::UnknownLeg) }
    }
}
