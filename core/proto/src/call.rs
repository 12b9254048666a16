//! The call machine: every call of a terminal, from dialling to its end, and text messages.
//!
//! One [`Calls`] serves one terminal of one account. It decides; the engine looks numbers up, seals and opens
//! packets, finds routes and drives media.
//!
//! # What goes in
//!
//! Every input takes [`Now`]: the monotonic `instant` must never go back, the `wall` clock may jump.
//!
//! * **The user**: [`Calls::dial`], [`accept`](Calls::accept), [`reject`](Calls::reject),
//!   [`hang_up`](Calls::hang_up), [`text`](Calls::text), [`text_to`](Calls::text_to), [`dtmf`](Calls::dtmf),
//!   [`hold`](Calls::hold), [`mute`](Calls::mute), [`transfer`](Calls::transfer), [`follow`](Calls::follow). They name a call by the id that events carry.
//! * **The look-up** that the engine starts after `dial` or `text_to`: [`found`](Calls::found) for every live
//!   terminal whose record is verified, then once [`lookup_finished`](Calls::lookup_finished). Which identity is
//!   the right one for the number (pinning) the engine has decided before; if none is,
//!   [`distrust`](Calls::distrust).
//! * **The network**: [`handle_packet`](Calls::handle_packet) for every blob that
//!   [`open`](crate::signalling::open) accepts (give it [`Calls::knows`]); of a dialog that is not known the engine has
//!   judged before whose number it is ([`Caller`]); [`send_failed`](Calls::send_failed) when all routes of a packet say that the terminal is not
//!   connected.
//! * **Media**, by leg: [`set_offer`](Calls::set_offer), [`local_candidates`](Calls::local_candidates),
//!   [`tunnel`](Calls::tunnel), [`media_ready`](Calls::media_ready), [`media_failed`](Calls::media_failed),
//!   [`media_lost`](Calls::media_lost), [`media_closed`](Calls::media_closed).
//! * **Work** that the callee asks of strangers: [`worked`](Calls::worked), [`gave_up`](Calls::gave_up).
//! * **Storage**: [`text_kept`](Calls::text_kept) when a text that arrived is on disk.
//! * **Time**: [`handle_timeout`](Calls::handle_timeout) when [`poll_timeout`](Calls::poll_timeout) is due.
//!
//! # What comes out
//!
//! After every input poll [`Calls::poll_output`] until it gives `None`, in this order and without leaving
//! anything out, then ask [`Calls::poll_timeout`]. Outputs are in the order in which they must be carried out:
//! an event comes before the packets that it causes, `PrepareMedia` before everything else of its leg,
//! `StopMedia` after it. When all calls are over and their last messages have been acknowledged or given up, no
//! timer is left.
//!
//! # Ids
//!
//! The caller's engine draws a random [`CallId`] for every call and text. It names the call on the wire (in
//! [`LegId`]) and towards the application, and the two are the same until two users call each other at the same
//! time. Then [`glare_winner`] decides which of the two calls goes on, and the loser is folded into it: the
//! winner is answered at once, since both wanted it, and goes on towards the application under the id that was
//! dialled here. [`Calls::call_of`] and [`Calls::leg_of`] translate.
//!
//! # Who may make the machine work
//!
//! A packet counts only if it is signed by the terminal of its leg, and for calls made here only from a terminal
//! whose certificate is of the identity that was dialled. Strangers have few places to ring and to be remembered, contacts have their own;
//! each account may begin only so many dialogs a minute ([`CallConfig`]). An invite older (or further in the
//! future) than [`FRESH`] is refused as expired, one that was seen before is dropped.

mod dialling;
mod event;
mod glare;
mod guard;
mod in_call;
mod incoming;
mod leg;
mod media;
mod packets;
mod presence;
mod state;
mod texts;
mod timers;
mod transfer;
mod tunnel;
mod work;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::identity::{IdentityId, TerminalId};
use crate::number::Number;
use crate::signalling::{CallId, Introduction, LimitError, RejectReason, TextId};
use crate::wire::UnixMillis;

pub use event::{
    CallEvent, Direction, Distrust, EndReason, EndedBy, Failure, IncomingText, LegId, Output, Peer, Role,
    TextFailure, TextKept, TextKey,
};
pub use glare::glare_winner;
pub use state::CallState;
pub use transfer::{CONSENT, TransferFailure, TransferPolicy, TransferRequest, TransferState};
pub use tunnel::TunnelBudget;

use guard::{Guard, Memory, legs_of};
use leg::{Leg, LegState};
use state::Call;
use texts::{Outstanding, TextCall};

/// Age up to which an invite or a text message is taken, and how far its time may lie in the future.
pub const FRESH: Duration = Duration::from_secs(60);
/// Terminals of the callee that are rung. A number has at most 8 terminal records.
pub const MAX_LEGS: usize = 8;
/// Dialogs of which packets came before their first message; of contacts and of strangers each.
const MAX_EARLY: usize = 16;
/// Texts outside of calls that wait to be kept; of contacts and of strangers each. More are answered with busy: then the
/// disk is slower than what arrives.
const MAX_KEEPING: usize = 16;
/// Dialogs with strangers whose last messages are still being repeated.
const MAX_CLOSING: usize = 32;

/// The time of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// For timers. Never goes back.
    pub instant: Instant,
    /// For what is signed.
    pub wall: UnixMillis,
}

/// Settings of the machine. The defaults are [`CallConfig::default`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallConfig {
    /// How long it rings, at either end (each applies its own). Default 45 s.
    pub ring_timeout: Duration,
    /// From dialling until a first sign of life of some terminal. Default 4.5 s: an end is to be known to the user, not
    /// only decided, within 5 s.
    pub search_timeout: Duration,
    /// From the answer until the media connection stands and the call is confirmed. Default 8 s.
    pub media_timeout: Duration,
    /// Until an unconfirmed text message is reported as failed. Default 10 s.
    pub text_timeout: Duration,
    /// Calls at a time in which this user takes part: dialled, answered or standing. Further invites are
    /// answered with busy. Default 1.
    pub max_calls: usize,
    /// While the user takes part in a call, further ones ring as long as there is a place; otherwise they are answered with busy.
    /// Default true.
    pub call_waiting: bool,
    /// Whose requests to call somebody else are shown to the user. Default: contacts'.
    pub transfers: TransferPolicy,
    /// Contacts' calls that ring at a time. Default 4.
    pub max_ringing_contacts: usize,
    /// Strangers' calls that ring at a time, one of each account. Default 3.
    pub max_ringing_strangers: usize,
    /// Text messages outside of calls that are under way at a time, and as many of presence. Default 32.
    pub max_texts: usize,
    /// Calls and texts that one contact may begin in a minute; further ones are ignored. Default 60.
    pub contact_rate: u32,
    /// The same for one stranger. Default 10.
    pub stranger_rate: u32,
    /// The dearest puzzle that is solved for calling a stranger, bits. Default 12: half a minute of a core, on average.
    pub max_work: u8,
}

impl Default for CallConfig {
    fn default() -> Self {
        Self {
            ring_timeout: Duration::from_secs(45),
            search_timeout: Duration::from_millis(4_500),
            media_timeout: Duration::from_secs(8),
            text_timeout: Duration::from_secs(10),
            max_calls: 1,
            call_waiting: true,
            transfers: TransferPolicy::default(),
            max_ringing_contacts: 4,
            max_ringing_strangers: 3,
            max_texts: 32,
            contact_rate: 60,
            stranger_rate: 10,
            max_work: 12,
        }
    }
}

/// Who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalParty {
    /// This terminal.
    pub terminal: TerminalId,
    /// How it introduces itself.
    pub intro: Introduction,
}

/// What the engine thinks of the sender of a packet. Counts for the first packet of an incoming dialog only;
/// for others any value will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// The identity is the one pinned to a contact's number.
    Contact,
    /// No contact; the number proof was run and holds.
    Stranger,
    /// Refuse with this reason: on the block list, or the number's key is not the pinned one.
    Refused(RejectReason),
}

/// Where a terminal was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// In a record kept from an earlier call: it says nothing about whether the number could be looked up now.
    Cache,
    /// In a record that the network has just served.
    Network,
}

/// How a look-up ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupEnd {
    /// There is no account record.
    WrongNumber,
    /// There is an account, but no terminal is on line.
    NoTerminal,
    /// All terminals there are have been reported by [`Calls::found`].
    Complete,
    /// It could not be done: no connection to the network.
    Failed,
}

/// Why an input was not accepted. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CallError {
    /// No such call (any more).
    #[error("there is no such call")]
    UnknownCall,
    /// No such leg (any more). Media of a leg that is over may still report things; ignore it.
    #[error("there is no such leg")]
    UnknownLeg,
    /// The id is in use.
    #[error("the id is already in use")]
    Duplicate,
    /// Not possible in the call's present state.
    #[error("not possible in the call's present state")]
    WrongState,
    /// The user takes part in [`CallConfig::max_calls`] calls already, or [`CallConfig::max_texts`] are under
    /// way, or the call has [`MAX_LEGS`].
    #[error("too many at a time")]
    TooMany,
    /// Two identities claim the number that is being called.
    #[error("the terminal belongs to another identity than the one being called")]
    OtherIdentity,
    /// Too much is waiting for the other side.
    #[error("the other side does not keep up")]
    QueueFull,
    /// Larger or odder than the protocol permits.
    #[error(transparent)]
    Limit(#[from] LimitError),
}

/// A call as [`Calls::list`] shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallInfo {
    /// Its id towards the application.
    pub call: CallId,
    /// The other end's number.
    pub number: Number,
    /// Who called whom.
    pub direction: Direction,
    /// The other end is a contact.
    pub contact: bool,
    /// Where it stands. Never [`CallState::Held`].
    pub state: CallState,
    /// The leg that carries it, once answered.
    pub leg: Option<LegId>,
}

/// How much the machine keeps, for metrics. All of it is bounded, whatever others send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Calls, ringing or going on.
    pub calls: usize,
    /// Dialogs that are not over, or whose last messages are still being repeated.
    pub legs: usize,
    /// Dialogs that are over and remembered.
    pub remembered: usize,
    /// Accounts whose rate is remembered.
    pub sources: usize,
}

/// The call machine. See the head of the module.
pub struct Calls {
    config: CallConfig,
    terminal: TerminalId,
    intro: Arc<Introduction>,
    /// By id on the wire.
    calls: BTreeMap<CallId, Call>,
    /// Application's id to id on the wire, where they differ.
    aliases: BTreeMap<CallId, CallId>,
    texts: BTreeMap<CallId, TextCall>,
    outstanding: BTreeMap<TextId, Outstanding>,
    legs: BTreeMap<LegId, Leg>,
    memory: Memory,
    guard: Guard,
    outputs: VecDeque<Output>,
}

impl Calls {
    /// A machine without calls.
    #[must_use]
    pub fn new(config: CallConfig, me: LocalParty) -> Self {
        Self {
            config,
            terminal: me.terminal,
            intro: Arc::new(me.intro),
            calls: BTreeMap::new(),
            aliases: BTreeMap::new(),
            texts: BTreeMap::new(),
            outstanding: BTreeMap::new(),
            legs: BTreeMap::new(),
            memory: Memory::default(),
            guard: Guard::default(),
            outputs: VecDeque::new(),
        }
    }

    /// Introduces this terminal differently from now on: other routes, a renewed certificate. Dialogs that have
    /// begun keep the old introduction.
    pub fn set_intro(&mut self, intro: Introduction) {
        self.intro = Arc::new(intro);
    }

    /// The settings, to be changed at any time. Timers that run keep their time.
    pub fn config_mut(&mut self) -> &mut CallConfig {
        &mut self.config
    }

    /// The next thing to do. Poll until `None` after every input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Calls::handle_timeout`] wants to be called; `None` if there is nothing to wait for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let legs = self.legs.values().filter_map(Leg::timeout);
        let calls = self.calls.values().filter_map(Call::deadline);
        let texts = self.outstanding.values().map(|text| text.deadline);
        let text_calls = self.texts.values().map(|text| text.deadline);
        legs.chain(calls).chain(texts).chain(text_calls).min()
    }

    /// Whether the dialog is known, so that its packets need neither an introduction (for
    /// [`open`](crate::signalling::open)) nor a judgement of their sender: that was settled when it began.
    #[must_use]
    pub fn knows(&self, call: &CallId, terminal: &TerminalId) -> bool {
        let leg = LegId { call: *call, terminal: *terminal };
        self.legs.contains_key(&leg) || self.memory.contains(&leg)
    }

    /// The calls that the application knows, in no particular order.
    pub fn list(&self) -> impl Iterator<Item = CallInfo> + '_ {
        self.calls.iter().filter(|(_, call)| call.exposed).map(|(wire, call)| CallInfo {
            call: call.id,
            number: call.number.clone(),
            direction: call.direction,
            contact: call.contact,
            state: call.state,
            leg: chosen_leg(*wire, call),
        })
    }

    /// State of a call that the application knows.
    #[must_use]
    pub fn state(&self, call: CallId) -> Option<CallState> {
        self.wire_id(call).and_then(|wire| self.calls.get(&wire)).map(|call| call.state)
    }

    /// The call to which a leg belongs, under its id towards the application.
    #[must_use]
    pub fn call_of(&self, leg: &LegId) -> Option<CallId> {
        self.legs.get(leg).filter(|leg| leg.is_live())?;
        self.calls.get(&leg.call).map(|call| call.id)
    }

    /// The leg that carries a call, once it is answered.
    #[must_use]
    pub fn leg_of(&self, call: CallId) -> Option<LegId> {
        let wire = self.wire_id(call)?;
        chosen_leg(wire, self.calls.get(&wire)?)
    }

    /// Who calls, of a call that rings here.
    #[must_use]
    pub fn caller(&self, call: CallId) -> Option<(Number, IdentityId)> {
        let call = self.calls.get(&self.wire_id(call)?)?;
        Some((call.number.clone(), call.identity?))
    }

    /// Whether this account or number is being called from here: its call is no stranger's.
    #[must_use]
    pub fn is_calling(&self, identity: &IdentityId, number: &Number) -> bool {
        let same = |call: &Call| call.identity.map_or(call.number == *number, |known| known == *identity);
        self.calls.values().any(|call| call.state.is_dialling() && same(call))
    }

    /// The other end of a leg, as long as the leg is not over.
    #[must_use]
    pub fn peer_of(&self, leg: &LegId) -> Option<&Arc<Peer>> {
        self.legs.get(leg).map(|leg| &leg.peer)
    }

    /// No call, no text under way, nothing to repeat: then there is no timer either.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.calls.is_empty() && self.texts.is_empty() && self.outstanding.is_empty() && self.legs.is_empty()
    }

    /// How much is kept at present.
    #[must_use]
    pub fn load(&self) -> Load {
        Load {
            calls: self.calls.len(),
            legs: self.legs.len(),
            remembered: self.memory.len(),
            sources: self.guard.len(),
        }
    }

    /// Id on the wire of a call that the application names.
    fn wire_id(&self, call: CallId) -> Option<CallId> {
        let wire = self.aliases.get(&call).copied().unwrap_or(call);
        self.calls.get(&wire).filter(|known| known.id == call && known.exposed).map(|_| wire)
    }

    /// The id is in use, by a call or text of ours or of anybody.
    fn is_used(&self, call: CallId) -> bool {
        self.calls.contains_key(&call)
            || self.texts.contains_key(&call)
            || self.aliases.contains_key(&call)
            || self.legs.range(legs_of(call)).next().is_some()
            || self.memory.knows_call(call)
    }

    fn engaged(&self) -> usize {
        self.calls.values().filter(|call| call.state.is_engaged()).count()
    }

    /// Whether one more call may ring: the user takes part in none, or in fewer than can be and wants to hear of others.
    fn may_wait(&self) -> bool {
        let places = if self.config.call_waiting { self.config.max_calls } else { 1 };
        self.engaged() < places.min(self.config.max_calls)
    }

    fn event(&mut self, event: CallEvent) {
        self.outputs.push_back(Output::Event(event));
    }

    /// To be called at the end of every input: settles what depends on other calls, sends what is queued and
    /// drops what is over.
    fn finish(&mut self, now: Now) {
        self.settle_held(now);
        self.flush();
        self.sweep(now);
    }

    /// Sends what the dialogs have queued.
    fn flush(&mut self) {
        for (id, leg) in &mut self.legs {
            while let Some(frame) = leg.dialog.poll_frame() {
                let packet = leg.packet(*id, self.terminal, frame);
                if matches!(packet.message, Some(crate::signalling::Message::Invite { .. })) {
                    leg.invite_hash.get_or_insert_with(|| packet.payload_hash());
                }
                self.outputs.push_back(Output::Transmit { leg: *id, peer: Arc::clone(&leg.peer), packet });
            }
        }
    }

    fn sweep(&mut self, now: Now) {
        let done = |leg: &Leg| leg.state == LegState::Closing && (leg.forget || leg.dialog.is_idle());
        let over: Vec<LegId> = self.legs.iter().filter(|(_, leg)| done(leg)).map(|(id, _)| *id).collect();
        for id in over {
            self.forget(now, id);
        }
    }
}

impl fmt::Debug for Calls {
    /// How much there is; what is in it is private.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Calls").field(&self.load()).finish()
    }
}

fn chosen_leg(wire: CallId, call: &Call) -> Option<LegId> {
    let terminal = call.chosen.filter(|_| call.state.is_answered())?;
    Some(LegId { call: wire, terminal })
}

#[cfg(test)]
mod tests;
