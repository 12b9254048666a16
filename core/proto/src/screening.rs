//! Unwanted calls: what happens with a call or a letter before it disturbs anybody, and why.
//!
//! A [`Policy`] is what the user wants: whom to block, whether strangers may call at all, when nothing is to ring, whether
//! strangers pay with [work](crate::puzzle) and may leave a message. A [`Screen`] applies it. Every [`Verdict`] has a
//! [`Reason`] that can be stored and shown, so a user can see why a call did not ring.
//!
//! # Contract of [`Screen`]
//!
//! Inputs: [`set_policy`](Screen::set_policy), [`call`](Screen::call) and [`letter`](Screen::letter) for whatever comes. Of contacts, and of who
//! has paid, *after* signatures have been verified. A stranger who has not paid can be [judged](Screen::judge) by its mere claims before
//! any of them is, and certainly before its number's slow proof is run: most of a flood is over then. Whoever asks decides whether the
//! caller is a contact (by its key), and what it has paid. `now` never goes back; the time of day comes in, as whoever drives this
//! knows the time zone.
//!
//! # What holds, whatever comes
//!
//! 1. Who is blocked never rings, and what it leaves is not kept.
//! 2. A contact that is [exempt](Standing::Contact) rings always, if it is not blocked: no stranger and no mode comes before it.
//! 3. Strangers, however many and from however many fresh identities, are one count and a bounded list: memory has a bound,
//!    and so have the answers that are given to them ([`ANSWERS_PER_SECOND`]).

mod log;
mod policy;

pub use log::{Entry, Log, MAX_LOGGED};
pub use policy::{
    Blocked, LocalTime, MAX_BLOCKED, MAX_EXEMPT, MAX_POLICY_BYTES, MAX_WINDOWS, Policy, PolicyError, Quiet,
    Through, Weekdays, Window,
};

use std::collections::btree_map;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::call::FRESH;
use crate::identity::IdentityId;
use crate::number::Number;
use crate::puzzle::{CHALLENGE_LIFETIME, Challenge, MAX_RISE, Pace, Tariff};
use crate::signalling::CallId;
use crate::wire::MAX_CLOCK_AHEAD;

/// What letting the telephone ring costs a stranger: nothing while few call, half a second from the seventh within two minutes on, up to
/// half a minute in a flood: as much as callers [do](crate::call::CallConfig::max_work).
pub const CALL_TARIFF: Tariff = Tariff { base: 5, max: 12, free: 6, half_life: Duration::from_secs(120) };
/// Strangers that are answered in a second: told the price, or refused. The others of that second hear nothing, as of a
/// terminal that is off line.
pub const ANSWERS_PER_SECOND: u32 = 16;
/// A contact who calls again within so long, though quiet is wanted, means it: it rings if [`Quiet::again`] says so.
pub const AGAIN: Duration = Duration::from_secs(180);
/// Challenges of which it is remembered that they were paid with: as many as strangers are told in their lifetime.
const MAX_SPENT: usize = 32_768;
/// Contacts whose calls that did not ring are remembered for that.
const MAX_CALLERS: usize = 64;

/// Who is at the other end, as far as this terminal knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// In the address book, under this key.
    Contact {
        /// Marked by the user as one who may always disturb.
        exempt: bool,
    },
    /// Anybody else.
    Stranger {
        /// The bits of a puzzle of ours that was solved for this call; `None` if none came, or none that counts.
        paid: Option<u8>,
    },
}

/// A call or a letter that has come.
#[derive(Clone)]
pub struct Incoming<'a> {
    /// Whose.
    pub identity: &'a IdentityId,
    /// Under which number it says to be reached. What a stranger says is not proven here, so it is used for blocking only:
    /// nobody gains by it.
    pub number: &'a Number,
    /// What it is to us.
    pub standing: Standing,
}

impl fmt::Debug for Incoming<'_> {
    /// Without the number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Incoming({:?}, {:?})", self.identity, self.standing)
    }
}

/// What is done with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It rings.
    Ring,
    /// It does not ring; the caller is told that it may leave a message.
    Voicemail,
    /// It is refused.
    Refuse,
    /// The caller is told to solve a puzzle of so many bits, and to call again.
    Work {
        /// The bits.
        bits: u8,
    },
    /// Nothing is answered.
    Ignore,
}

/// What is done with a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetterDecision {
    /// It is kept, and the user is told.
    Tell,
    /// It is kept, and waits until the user looks.
    Keep,
    /// It is thrown away.
    Discard,
}

/// Why. Stored by its [code](Reason::code).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Nothing speaks against it.
    Welcome,
    /// The user has marked this contact as one who may always disturb.
    Exempt,
    /// Quiet is wanted, but a contact has called twice within [`AGAIN`].
    CalledAgain,
    /// The key or the number is on the block list.
    Blocked,
    /// Only contacts may call.
    ContactsOnly,
    /// The user has switched quiet on.
    DoNotDisturb,
    /// It is a time at which quiet is wanted.
    QuietHours,
    /// A stranger has not paid, or not enough by now.
    Unpaid,
    /// More strangers than are answered.
    Flood,
}

impl Reason {
    /// A stable word, as stored and told to programs.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Welcome => "welcome",
            Self::Exempt => "exempt",
            Self::CalledAgain => "called_again",
            Self::Blocked => "blocked",
            Self::ContactsOnly => "contacts_only",
            Self::DoNotDisturb => "do_not_disturb",
            Self::QuietHours => "quiet_hours",
            Self::Unpaid => "unpaid",
            Self::Flood => "flood",
        }
    }
}

/// What is done, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict<D> {
    /// What.
    pub decision: D,
    /// Why.
    pub reason: Reason,
}

/// Applies a policy to what comes.
#[derive(Debug)]
pub struct Screen {
    policy: Policy,
    /// Strangers' calls that came, all together.
    pace: Pace,
    /// When the second began in which answers are counted, and how many there were.
    answers: (Option<Instant>, u32),
    /// Contacts whose calls did not ring, the newest last.
    callers: VecDeque<(Instant, IdentityId)>,
    /// Challenges that were paid with, or in vain, the oldest first, and for which call.
    spent: BTreeMap<[u8; 32], (CallId, Instant)>,
    spent_order: VecDeque<[u8; 32]>,
    log: Log,
}

impl Screen {
    /// Nothing has come yet.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            pace: Pace::default(),
            answers: (None, 0),
            callers: VecDeque::new(),
            spent: BTreeMap::new(),
            spent_order: VecDeque::new(),
            log: Log::default(),
        }
    }

    /// Puts another policy in the place of the one before; what has come is remembered.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What did not ring lately, and why.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// What a stranger's call costs now, bits. For a challenge that is made unasked.
    #[must_use]
    pub fn price(&self, now: Instant) -> u8 {
        self.pace.price(&CALL_TARIFF, now)
    }

    /// Takes up what did not ring before a restart.
    pub fn remember(&mut self, log: Log) {
        self.log = log;
    }

    /// Decides about a call, and notes it if it does not ring.
    pub fn call(&mut self, now: Instant, local: LocalTime, incoming: &Incoming<'_>) -> Verdict<Decision> {
        let verdict = self.judge(now, local, incoming);
        self.note(local, incoming, verdict);
        verdict
    }

    /// Notes a call that was judged, when it is known whose it is. Nothing of one that rings, and of a flood again nothing.
    pub fn note(&mut self, local: LocalTime, incoming: &Incoming<'_>, verdict: Verdict<Decision>) {
        if verdict.decision != Decision::Ring && verdict.reason != Reason::Flood {
            let contact = matches!(incoming.standing, Standing::Contact { .. });
            self.log.note(contact, Some((*incoming.identity, incoming.number)), verdict.reason, local.at);
        }
    }

    /// Whether a stranger who has something else to say than a call is looked at: as often as strangers are answered.
    pub fn hears(&mut self, now: Instant, local: LocalTime) -> bool {
        let hears = self.may_answer(now);
        if !hears {
            self.log.note(false, None, Reason::Flood, local.at);
        }
        hears
    }

    /// Whether a challenge can still be paid with for this call: it pays for one alone, and for that as long as its invite is repeated.
    #[must_use]
    pub fn is_unspent(&self, now: Instant, challenge: &Challenge, call: CallId) -> bool {
        let spent = self.spent.get(&challenge.id());
        spent.is_none_or(|(known, at)| *known == call && now.saturating_duration_since(*at) < FRESH)
    }

    /// Something was paid with this challenge, or in vain.
    pub fn spend(&mut self, now: Instant, challenge: &Challenge, call: CallId) {
        let over = |at: Instant| now.saturating_duration_since(at) > CHALLENGE_LIFETIME + MAX_CLOCK_AHEAD;
        while let Some(oldest) = self.spent_order.front() {
            let old = self.spent.get(oldest).is_none_or(|(_, at)| over(*at));
            if !old && self.spent_order.len() < MAX_SPENT {
                break;
            }
            self.spent.remove(oldest);
            self.spent_order.pop_front();
        }
        let id = challenge.id();
        if let btree_map::Entry::Vacant(entry) = self.spent.entry(id) {
            entry.insert((call, now));
            self.spent_order.push_back(id);
        }
    }

    /// Decides about a call; what it came to is [noted](Screen::note) separately.
    pub fn judge(&mut self, now: Instant, local: LocalTime, incoming: &Incoming<'_>) -> Verdict<Decision> {
        match incoming.standing {
            _ if self.policy.blocks(incoming.identity, incoming.number) => self.blocked(now, incoming),
            Standing::Contact { exempt: true } => {
                Verdict { decision: Decision::Ring, reason: Reason::Exempt }
            }
            Standing::Contact { exempt: false } => self.contacts_call(now, local, incoming),
            Standing::Stranger { paid } => self.strangers_call(now, local, paid),
        }
    }

    /// Decides about a letter. Strangers have paid its directory for it, so nothing more is asked.
    pub fn letter(&self, local: LocalTime, incoming: &Incoming<'_>) -> Verdict<LetterDecision> {
        let told = |reason| Verdict { decision: LetterDecision::Tell, reason };
        if self.policy.blocks(incoming.identity, incoming.number) {
            return Verdict { decision: LetterDecision::Discard, reason: Reason::Blocked };
        }
        let contact = match incoming.standing {
            Standing::Contact { exempt: true } => return told(Reason::Exempt),
            Standing::Contact { exempt: false } => true,
            Standing::Stranger { .. } => false,
        };
        if !contact && self.policy.contacts_only {
            let decision = if self.policy.strangers_leave_messages {
                LetterDecision::Keep
            } else {
                LetterDecision::Discard
            };
            return Verdict { decision, reason: Reason::ContactsOnly };
        }
        match self.policy.quiet(local, contact) {
            Some(reason) => Verdict { decision: LetterDecision::Keep, reason },
            None => told(Reason::Welcome),
        }
    }

    /// Who is blocked is told so, but not more often than strangers are told anything.
    fn blocked(&mut self, now: Instant, incoming: &Incoming<'_>) -> Verdict<Decision> {
        let answers = match incoming.standing {
            Standing::Contact { .. } => true,
            Standing::Stranger { .. } => self.may_answer(now),
        };
        let decision = if answers { Decision::Refuse } else { Decision::Ignore };
        Verdict { decision, reason: Reason::Blocked }
    }

    fn contacts_call(
        &mut self,
        now: Instant,
        local: LocalTime,
        incoming: &Incoming<'_>,
    ) -> Verdict<Decision> {
        let Some(reason) = self.policy.quiet(local, true) else {
            return Verdict { decision: Decision::Ring, reason: Reason::Welcome };
        };
        let again = self.called_before(now, incoming.identity);
        if again && self.policy.quiet.again {
            return Verdict { decision: Decision::Ring, reason: Reason::CalledAgain };
        }
        Verdict { decision: Decision::Voicemail, reason }
    }

    fn strangers_call(&mut self, now: Instant, local: LocalTime, paid: Option<u8>) -> Verdict<Decision> {
        let price = self.price(now);
        self.pace.came(&CALL_TARIFF, now);
        // Whoever has paid is answered: there are no more of them than can pay.
        let has_paid = paid.is_some_and(|bits| bits.saturating_add(MAX_RISE) >= price);
        if !has_paid && !self.may_answer(now) {
            self.log.note(false, None, Reason::Flood, local.at);
            return Verdict { decision: Decision::Ignore, reason: Reason::Flood };
        }
        let reason = match self.policy.contacts_only {
            true => Some(Reason::ContactsOnly),
            false => self.policy.quiet(local, false),
        };
        if let Some(reason) = reason {
            let messages = self.policy.strangers_leave_messages;
            let decision = if messages { Decision::Voicemail } else { Decision::Refuse };
            return Verdict { decision, reason };
        }
        // The first few ring for nothing.
        if self.policy.strangers_work && !has_paid && price > CALL_TARIFF.base {
            return Verdict { decision: Decision::Work { bits: price }, reason: Reason::Unpaid };
        }
        Verdict { decision: Decision::Ring, reason: Reason::Welcome }
    }

    /// Whether there is an answer left in this second for somebody who has not paid.
    fn may_answer(&mut self, now: Instant) -> bool {
        let (began, given) = self.answers;
        let same = began.is_some_and(|began| now.saturating_duration_since(began) < Duration::from_secs(1));
        let given = if same { given } else { 0 };
        let may = given < ANSWERS_PER_SECOND;
        self.answers = (if same { began } else { Some(now) }, given + u32::from(may));
        may
    }

    /// Whether this contact's call did not ring a while ago; from now on it did so again.
    fn called_before(&mut self, now: Instant, identity: &IdentityId) -> bool {
        let recent = |at: Instant| now.saturating_duration_since(at) <= AGAIN;
        let before = self.callers.iter().any(|(at, id)| id == identity && recent(*at));
        self.callers.retain(|(at, id)| id != identity && recent(*at));
        while self.callers.len() >= MAX_CALLERS {
            self.callers.pop_front();
        }
        self.callers.push_back((now, *identity));
        before
    }
}

#[cfg(test)]
mod tests;
