//! Time-outs.

use super::event::{EndReason, EndedBy, Failure, LegId};
use super::leg::{Leg, LegState, Media};
use super::state::{Call, CallState};
use super::{Calls, Now};
use crate::signalling::CallId;

impl Calls {
    /// Does what is due. Call it when [`Calls::poll_timeout`] is reached; earlier or later does no harm.
    pub fn handle_timeout(&mut self, now: Now) {
        let due = |leg: &Leg| leg.timeout().is_some_and(|at| at <= now.instant);
        let legs: Vec<LegId> = self.legs.iter().filter(|(_, leg)| due(leg)).map(|(id, _)| *id).collect();
        for id in legs {
            self.time_out_leg(now, id);
        }
        let due = |call: &Call| call.deadline().is_some_and(|at| at <= now.instant);
        let calls: Vec<CallId> = self.calls.iter().filter(|(_, call)| due(call)).map(|(id, _)| *id).collect();
        for wire in calls {
            self.time_out_call(now, wire);
        }
        self.time_out_texts(now);
        self.finish(now);
    }

    fn time_out_leg(&mut self, now: Now, id: LegId) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        if leg.deadline.is_some_and(|at| at <= now.instant) {
            self.forget(now, id);
            return;
        }
        if leg.dialog.handle_timeout(now.instant, now.wall).is_err() {
            self.leg_dead(now, id);
        }
    }

    /// The other side has stopped answering.
    fn leg_dead(&mut self, now: Now, id: LegId) {
        let Some(leg) = self.legs.get(&id) else { return };
        let dialling = self.calls.get(&id.call).is_some_and(|call| call.state.is_dialling());
        match leg.state {
            LegState::Early | LegState::Keeping | LegState::Closing => self.forget(now, id),
            LegState::Text => self.text_leg_failed(now, id),
            LegState::Preparing | LegState::Open | LegState::Ringing | LegState::Chosen => {
                if dialling {
                    self.leg_failed(now, id, EndReason::Unreachable);
                } else {
                    let reason = EndReason::Failed(Failure::SignallingLost);
                    self.end(now, id.call, reason, EndedBy::Network);
                }
            }
        }
    }

    fn time_out_call(&mut self, now: Now, wire: CallId) {
        self.time_out_transfer(now, wire);
        let Some(call) = self.calls.get_mut(&wire) else { return };
        let late = |deadline: Option<std::time::Instant>| deadline.is_some_and(|at| at <= now.instant);
        if late(call.media_deadline) {
            let leg = call.chosen.and_then(|terminal| self.legs.get(&LegId { call: wire, terminal }));
            let ready = leg.is_some_and(|leg| leg.media == Media::Ready);
            let failure = if ready { Failure::NotConfirmed } else { Failure::NoMediaPath };
            self.end(now, wire, EndReason::Failed(failure), EndedBy::Network);
        } else if late(call.ring_deadline) {
            self.end(now, wire, EndReason::NoAnswer, EndedBy::Network);
        } else if late(call.work.deadline()) {
            self.end(now, wire, EndReason::Work, EndedBy::Remote);
        } else if late(call.search_deadline) && call.state != CallState::Active {
            self.search_timed_out(now, wire);
        }
    }
}
