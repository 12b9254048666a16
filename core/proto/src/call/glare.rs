//! Glare: two users call each other at the same time.

use super::event::LegId;
use super::leg::Leg;
use super::state::{Call, CallState};
use super::{CallEvent, Calls, Direction, EndReason, EndedBy, Now};
use crate::identity::IdentityId;
use crate::number::Number;
use crate::signalling::{CallId, CancelReason, Message, RejectReason};

/// Of two calls that two terminals make to each other at the same time, the one that goes on: the one with the
/// lower id.
///
/// Both terminals see the same two ids, so both come to the same result whatever the order in which the invites
/// arrive. The ids are random, so neither side is favoured.
#[must_use]
pub fn glare_winner(a: CallId, b: CallId) -> CallId {
    a.min(b)
}

/// What to do with an incoming call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Glare {
    /// We are not calling its caller.
    None,
    /// Our call of this id goes on; the incoming one waits.
    Hold(CallId),
    /// The incoming call goes on, ours of this id is folded into it.
    Fold(CallId),
}

impl Calls {
    /// Whether an invite from `identity` meets a call of ours to it.
    ///
    /// Where the inviting terminal cannot know of our call, because we have not invited it (yet) or have given
    /// it up, there is nothing to agree about: our user wants to talk to that account, so the call is taken.
    pub(super) fn glare(&self, incoming: LegId, identity: IdentityId, number: &Number) -> Glare {
        let same = |call: &Call| match call.identity {
            Some(known) => known == identity,
            None => call.number == *number,
        };
        let ours = self.calls.iter().find(|(_, call)| call.state.is_dialling() && same(call));
        let Some((ours, _)) = ours else { return Glare::None };
        let seen = LegId { call: *ours, terminal: incoming.terminal };
        if self.legs.get(&seen).is_some_and(Leg::is_transmitted)
            && glare_winner(*ours, incoming.call) == *ours
        {
            Glare::Hold(*ours)
        } else {
            Glare::Fold(*ours)
        }
    }

    /// The incoming call that rings here from `identity`, if any.
    pub(super) fn alerting_from(&self, identity: IdentityId) -> Option<CallId> {
        let rings = |call: &Call| call.state == CallState::Alerting && call.identity == Some(identity);
        self.calls.iter().find(|(_, call)| rings(call)).map(|(wire, _)| *wire)
    }

    /// Ends our call `ours` in favour of the incoming call `theirs`, which is answered and goes on towards the
    /// application under the id of `ours`.
    pub(super) fn fold(&mut self, now: Now, ours: CallId, theirs: CallId) {
        let Some(dialled) = self.calls.remove(&ours) else { return };
        self.aliases.retain(|_, wire| *wire != ours);
        let Some(call) = self.calls.get_mut(&theirs) else { return };
        let ringing = call.exposed.then_some(call.id);
        let number = call.number.clone();
        let answering = call.chosen;
        call.id = dialled.id;
        call.number = dialled.number;
        call.contact |= dialled.contact;
        call.direction = Direction::Outgoing;
        call.exposed = true;
        call.held_by = None;
        call.transfers.take_from(dialled.transfers);
        self.aliases.insert(dialled.id, theirs);
        for leg in self.live_legs(ours) {
            let glare = Some(leg.terminal) == answering;
            let reason = if glare { CancelReason::Glare } else { CancelReason::AnsweredElsewhere };
            self.close(now, leg, Some(Message::Cancel { reason }), false);
        }
        if let Some(id) = ringing {
            self.event(CallEvent::Ended {
                call: id,
                number,
                direction: Direction::Incoming,
                reason: EndReason::Merged,
                by: EndedBy::Local,
                duration: None,
            });
        }
        self.answer(now, theirs);
    }

    /// Looks at the calls that wait for one of ours to get through or to fail.
    pub(super) fn settle_held(&mut self, now: Now) {
        let held: Vec<CallId> = self
            .calls
            .iter()
            .filter(|(_, call)| call.state == CallState::Held)
            .map(|(wire, _)| *wire)
            .collect();
        for theirs in held {
            let Some(call) = self.calls.get(&theirs) else { continue };
            let (Some(ours), Some(terminal)) = (call.held_by, call.chosen) else { continue };
            match self.calls.get(&ours) {
                None => self.release(now, theirs),
                Some(call) if !call.state.is_dialling() => self.end_busy(now, theirs),
                Some(_) => {
                    let seen = LegId { call: ours, terminal };
                    if !self.legs.get(&seen).is_some_and(Leg::is_transmitted) {
                        self.fold(now, ours, theirs);
                    }
                }
            }
        }
    }

    /// Our call is over without having reached them: theirs rings like any other.
    fn release(&mut self, now: Now, theirs: CallId) {
        if !self.may_wait() {
            self.end_busy(now, theirs);
        } else {
            self.alert(now, theirs, false);
        }
    }

    fn end_busy(&mut self, now: Now, wire: CallId) {
        let farewell = Message::reject(RejectReason::Busy);
        self.end_with(now, wire, EndReason::Busy, EndedBy::Local, &farewell);
    }
}
