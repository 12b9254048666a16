//! Work that a callee's terminals ask of strangers before they ring: solved here, and then called again, towards the application in the
//! same call.
//!
//! All terminals of an account make their puzzles with one key, so the dearest of those that come is solved, once, for a new call id;
//! then all of them are invited again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::event::{CallEvent, EndReason, EndedBy, LegId, Output, Peer};
use super::leg::LegState;
use super::state::CallState;
use super::{CallError, Calls, Now};
use crate::identity::TerminalId;
use crate::puzzle::{Challenge, Solution};
use crate::signalling::{CallId, CancelReason, Message};

/// How often one works for a call: the price may have risen meanwhile.
const MAX_ROUNDS: u32 = 2;
/// How long one works at most: what takes longer is given up.
const WORK_TIME: Duration = Duration::from_secs(120);

/// How a call that was dialled stands with what its callee asks of strangers.
#[derive(Default)]
pub(super) struct Work {
    /// Terminals that were found, to be invited again.
    peers: BTreeMap<TerminalId, Peer>,
    /// Being solved, until when.
    challenge: Option<(Challenge, Instant)>,
    /// Goes along with the invites.
    solution: Option<Solution>,
    rounds: u32,
}

impl Work {
    /// Keeps a terminal of the callee.
    pub fn remember(&mut self, peer: &Peer) {
        self.peers.insert(peer.terminal, peer.clone());
    }

    /// It is not to be invited again.
    pub fn forget(&mut self, terminal: &TerminalId) {
        self.peers.remove(terminal);
    }

    /// What is shown with an invite.
    pub fn solution(&self) -> Option<Solution> {
        self.solution
    }

    /// Whether something is being solved.
    pub fn is_under_way(&self) -> bool {
        self.challenge.is_some()
    }

    /// When it is given up.
    pub fn deadline(&self) -> Option<Instant> {
        self.challenge.map(|(_, until)| until)
    }
}

impl Calls {
    /// A terminal of the callee wants work.
    pub(super) fn on_work(&mut self, now: Now, id: LegId, challenge: Challenge) {
        self.close(now, id, None, false);
        let rings = self
            .live_legs(id.call)
            .iter()
            .any(|leg| self.legs.get(leg).is_some_and(|leg| leg.state == LegState::Ringing));
        let max = self.config.max_work;
        let Some(call) = self.calls.get_mut(&id.call) else { return };
        call.note(EndReason::Work);
        if call.state.is_answered() {
            // An answered call cannot be rejected any more; whoever does so has left it.
            return self.end(now, id.call, EndReason::HungUp, EndedBy::Remote);
        }
        if !call.state.is_dialling() || rings {
            return self.check_exhausted(now, id.call);
        }
        let dearest = call.work.challenge.is_none_or(|(known, _)| known.bits < challenge.bits);
        let too_much = challenge.bits > max || call.work.rounds >= MAX_ROUNDS;
        if too_much {
            // Another terminal may want less, or nothing.
            return self.check_exhausted(now, id.call);
        }
        if dearest {
            call.work.challenge = Some((challenge, now.instant + WORK_TIME));
            (call.search_deadline, call.ring_deadline) = (None, None);
            let app = call.id;
            self.event(CallEvent::Working { call: app, bits: challenge.bits });
            self.outputs.push_back(Output::Work { call: app, challenge });
        }
    }

    /// Some terminal rings without.
    pub(super) fn work_is_over(&mut self, wire: CallId) {
        if let Some(call) = self.calls.get_mut(&wire) {
            call.work.challenge = None;
        }
    }

    /// The puzzle of [`Output::Work`] is solved for the call id `next`: all terminals are called again, under that.
    ///
    /// # Errors
    /// [`CallError::UnknownCall`] if the call is over, [`CallError::WrongState`] if it does not wait for this solution,
    /// [`CallError::Duplicate`] if `next` is in use.
    pub fn worked(
        &mut self,
        now: Now,
        call: CallId,
        next: CallId,
        solution: Solution,
    ) -> Result<(), CallError> {
        let wire = self.wire_id(call).ok_or(CallError::UnknownCall)?;
        if self.is_used(next) {
            return Err(CallError::Duplicate);
        }
        let known = self.calls.get(&wire).ok_or(CallError::UnknownCall)?;
        let wanted = known.work.challenge.is_some_and(|(challenge, _)| challenge == solution.challenge);
        if !known.state.is_dialling() || !wanted {
            return Err(CallError::WrongState);
        }
        // Who has not said anything yet hears of the new one.
        for leg in self.live_legs(wire) {
            let reason = CancelReason::Cancelled;
            self.close(now, leg, Some(Message::Cancel { reason }), true);
        }
        let Some(mut again) = self.calls.remove(&wire) else { return Ok(()) };
        self.aliases.retain(|_, known| *known != wire);
        again.state = CallState::Searching;
        again.terminals.clear();
        again.verdict = None;
        again.search_deadline = Some(now.instant + self.config.search_timeout);
        again.work.challenge = None;
        again.work.solution = Some(solution);
        again.work.rounds += 1;
        let peers: Vec<Peer> = again.work.peers.values().cloned().collect();
        self.calls.insert(next, again);
        self.aliases.insert(call, next);
        for peer in peers {
            self.invite(now, LegId { call: next, terminal: peer.terminal }, peer);
        }
        self.finish(now);
        Ok(())
    }

    /// The puzzle of [`Output::Work`] is more than is done here.
    ///
    /// # Errors
    /// [`CallError::UnknownCall`] if the call is over, [`CallError::WrongState`] if nothing is being solved for it.
    pub fn gave_up(&mut self, now: Now, call: CallId) -> Result<(), CallError> {
        let wire = self.wire_id(call).ok_or(CallError::UnknownCall)?;
        if !self.calls.get(&wire).is_some_and(|call| call.work.is_under_way()) {
            return Err(CallError::WrongState);
        }
        self.end(now, wire, EndReason::Work, EndedBy::Remote);
        self.finish(now);
        Ok(())
    }
}
