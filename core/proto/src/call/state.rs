//! What the machine keeps for one call.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::CallConfig;
use super::event::{Direction, EndReason, Failure};
use super::transfer::{FOLLOWED_RINGING, Transfers};
use super::work::Work;
use crate::identity::{IdentityId, TerminalId};
use crate::number::Number;
use crate::signalling::CallId;

/// State of a call.
///
/// ```text
///  dial()                                                 invite received
///    |                                                      |
///    v          found()            Ringing                  +-- refused, busy, expired: Reject, no call
/// Searching ----------> Inviting ----------> Ringing        +-- glare, ours wins: Held --- ours fails ---+
///                            |                  |           |                                            |
///                            +---- Accept ------+           v                                            |
///                                    |                   Alerting <--------------------------------------+
///                         (Confirm   |                      |
///                          sent)     v                      | accept(), or glare and theirs wins
///                                Connecting <---------------+ (Accept sent)
///                                    |
///                                    | media up, and (callee) Confirm received
///                                    v
///                                  Active
///
/// Any state ends: by the user, by a final message of the other side, or by a time-out
///   Searching, Inviting   search_timeout without a sign of life of any terminal: unreachable, or if nothing could be
///                         looked up: failed
///   Inviting, Ringing     ring_timeout: no answer          Alerting, Held   ring_timeout: no answer
///   Connecting            media_timeout: failed            Active           none; the engine tells media_lost
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallState {
    /// Outgoing: the number is being looked up, no terminal found yet.
    Searching,
    /// Outgoing: terminals were found, none rings yet.
    Inviting,
    /// Outgoing: at least one terminal has said that it rings.
    Ringing,
    /// Incoming: it rings here.
    Alerting,
    /// Incoming, but we are calling the same terminal, and by [`glare_winner`](super::glare_winner) our call goes
    /// on. The application doesn't know of it. It comes alive if ours cannot reach that terminal.
    Held,
    /// Accepted; the media connection or the callee's confirmation is missing.
    Connecting,
    /// The call stands.
    Active,
}

impl CallState {
    /// The call occupies the user: it counts towards `max_calls`.
    #[must_use]
    pub fn is_engaged(self) -> bool {
        match self {
            Self::Searching | Self::Inviting | Self::Ringing | Self::Connecting | Self::Active => true,
            Self::Alerting | Self::Held => false,
        }
    }

    /// Dialled here and not answered yet.
    #[must_use]
    pub fn is_dialling(self) -> bool {
        match self {
            Self::Searching | Self::Inviting | Self::Ringing => true,
            Self::Alerting | Self::Held | Self::Connecting | Self::Active => false,
        }
    }

    /// Answered, at whichever end.
    #[must_use]
    pub fn is_answered(self) -> bool {
        match self {
            Self::Connecting | Self::Active => true,
            Self::Searching | Self::Inviting | Self::Ringing | Self::Alerting | Self::Held => false,
        }
    }
}

/// One call, under its id on the wire in [`Calls`](super::Calls).
pub(super) struct Call {
    /// Its id towards the application.
    pub id: CallId,
    pub direction: Direction,
    pub number: Number,
    /// Unknown for an outgoing call until the first terminal is found.
    pub identity: Option<IdentityId>,
    pub contact: bool,
    pub state: CallState,
    /// The application knows of it.
    pub exposed: bool,
    /// The leg that carries the call: an incoming call's only one, an outgoing call's winner.
    pub chosen: Option<TerminalId>,
    /// In state Held: our own call to the same terminal.
    pub held_by: Option<CallId>,
    /// Terminals invited so far, at most [`MAX_LEGS`](super::MAX_LEGS).
    pub terminals: BTreeSet<TerminalId>,
    /// Some of them, or their records, came from the network just now ([`Source::Network`](super::Source)).
    pub fresh: bool,
    pub lookup_done: bool,
    /// The most telling reason of the legs that failed.
    pub verdict: Option<EndReason>,
    /// The caller has confirmed our accept.
    pub confirmed: bool,
    pub connected_at: Option<Instant>,
    /// End of the search; `None` when it has passed.
    pub search_deadline: Option<Instant>,
    pub ring_deadline: Option<Instant>,
    pub media_deadline: Option<Instant>,
    pub transfers: Transfers,
    /// This side has put it on hold.
    pub held: bool,
    /// This side has muted its microphone.
    pub muted: bool,
    /// No user talks in it: a machine has answered.
    pub unattended: bool,
    /// What the callee asks of strangers.
    pub work: Work,
}

impl Call {
    pub fn outgoing(id: CallId, number: Number, contact: bool, search_deadline: Instant) -> Self {
        Self {
            id,
            direction: Direction::Outgoing,
            number,
            identity: None,
            contact,
            state: CallState::Searching,
            exposed: true,
            chosen: None,
            held_by: None,
            terminals: BTreeSet::new(),
            fresh: false,
            lookup_done: false,
            verdict: None,
            confirmed: false,
            connected_at: None,
            search_deadline: Some(search_deadline),
            ring_deadline: None,
            media_deadline: None,
            transfers: Transfers::default(),
            held: false,
            muted: false,
            unattended: false,
            work: Work::default(),
        }
    }

    pub fn incoming(
        id: CallId,
        number: Number,
        identity: IdentityId,
        terminal: TerminalId,
        contact: bool,
        ring_deadline: Instant,
    ) -> Self {
        Self {
            id,
            direction: Direction::Incoming,
            number,
            identity: Some(identity),
            contact,
            state: CallState::Held,
            exposed: false,
            chosen: Some(terminal),
            held_by: None,
            terminals: BTreeSet::new(),
            fresh: false,
            lookup_done: true,
            verdict: None,
            confirmed: false,
            connected_at: None,
            search_deadline: None,
            ring_deadline: Some(ring_deadline),
            media_deadline: None,
            transfers: Transfers::default(),
            held: false,
            muted: false,
            unattended: false,
            work: Work::default(),
        }
    }

    /// How long it rings at the other side.
    pub fn ringing(&self, config: &CallConfig) -> Duration {
        if self.transfers.is_followed() {
            config.ring_timeout.min(FOLLOWED_RINGING)
        } else {
            config.ring_timeout
        }
    }

    /// Whether the other side hears the user of this one. Where it does not, no other call is answered in the user's name.
    pub fn is_heard(&self) -> bool {
        !self.held && !self.muted && !self.unattended
    }

    /// Earliest of its deadlines.
    pub fn deadline(&self) -> Option<Instant> {
        let own = [self.search_deadline, self.ring_deadline, self.media_deadline];
        own.into_iter().chain([self.transfers.deadline(), self.work.deadline()]).flatten().min()
    }

    /// Keeps the most telling of the reasons for which legs failed: what the callee's user did, before what her
    /// terminals were, before what the network knew, before what it did.
    pub fn note(&mut self, reason: EndReason) {
        if self.verdict.is_none_or(|known| weight(reason) > weight(known)) {
            self.verdict = Some(reason);
        }
    }
}

fn weight(reason: EndReason) -> u8 {
    match reason {
        EndReason::Unreachable => 0,
        EndReason::Failed(Failure::Lookup) => 1,
        EndReason::WrongNumber => 2,
        EndReason::Failed(_) => 3,
        EndReason::NoAnswer => 4,
        EndReason::KeyChanged => 5,
        EndReason::Work => 6,
        EndReason::Busy => 7,
        EndReason::Voicemail => 8,
        EndReason::Blocked => 9,
        EndReason::Declined => 10,
        EndReason::HungUp
        | EndReason::AnsweredElsewhere
        | EndReason::Cancelled
        | EndReason::Merged
        | EndReason::Transferred => 11,
    }
}
