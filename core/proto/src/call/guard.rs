//! What others can make the machine keep, and how often they may make it work.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::event::{LegId, Peer};
use crate::identity::{IdentityId, TerminalId};
use crate::signalling::{CallId, Message};

/// Window of the rate limits.
const WINDOW: Duration = Duration::from_secs(60);
/// Sources whose rate is remembered. Beyond, the one not seen for longest is forgotten; an attacker would need
/// as many accounts, each with a proven number, to make use of that.
const MAX_SOURCES: usize = 256;
/// Ended dialogs that are remembered, of contacts and of calls made here.
pub(super) const MAX_TRUSTED: usize = 256;
/// Ended dialogs that are remembered, of strangers. Beyond, the oldest is forgotten, so a repetition of it within
/// the 60 s could ring once more.
pub(super) const MAX_STRANGERS: usize = 256;
/// Longest that a repetition can be fresh: an invite may be 60 s ahead of our clock and is fresh until it is
/// 60 s old.
const REMEMBER: Duration = Duration::from_secs(125);
/// Answers to packets of a remembered dialog.
const MAX_ANSWERS: u8 = 32;

/// Counts what each account sends.
#[derive(Debug, Default)]
pub(super) struct Guard {
    sources: BTreeMap<IdentityId, Source>,
}

#[derive(Debug)]
struct Source {
    since: Instant,
    count: u32,
    last: Instant,
}

impl Guard {
    /// Counts a new dialog of `identity`; false if it was one too many within a minute.
    pub fn admit(&mut self, now: Instant, identity: IdentityId, per_minute: u32) -> bool {
        if self.sources.len() >= MAX_SOURCES && !self.sources.contains_key(&identity) {
            self.forget_oldest();
        }
        let source = self.sources.entry(identity).or_insert(Source { since: now, count: 0, last: now });
        if now.saturating_duration_since(source.since) >= WINDOW {
            source.since = now;
            source.count = 0;
        }
        source.last = now;
        source.count = source.count.saturating_add(1);
        source.count <= per_minute
    }

    /// Accounts remembered.
    pub fn len(&self) -> usize {
        self.sources.len()
    }

    fn forget_oldest(&mut self) {
        let oldest = self.sources.iter().min_by_key(|(_, source)| source.last).map(|(identity, _)| *identity);
        if let Some(identity) = oldest {
            self.sources.remove(&identity);
        }
    }
}

/// A dialog that is over: enough to drop repetitions, and to answer a terminal that doesn't know yet.
#[derive(Debug)]
pub(super) struct Remembered {
    pub peer: Arc<Peer>,
    /// Our last word, if the end came from us.
    pub farewell: Option<(u32, Message)>,
    /// What was received. It stays as it is: what comes later nobody has read.
    pub ack: u32,
    until: Instant,
    answers: u8,
}

impl Remembered {
    pub fn new(now: Instant, peer: Arc<Peer>, farewell: Option<(u32, Message)>, ack: u32) -> Self {
        Self { peer, farewell, ack, until: now + REMEMBER, answers: 0 }
    }

    /// What to answer to a message: number and message. `None` if enough was said.
    ///
    /// A final message is not answered by another one: two terminals that both remember the call would go on for
    /// ever.
    pub fn answer(&mut self, message: Option<&Message>) -> Option<(u32, Option<Message>)> {
        if self.answers >= MAX_ANSWERS {
            return None;
        }
        self.answers += 1;
        let last_word = self.farewell.clone().filter(|_| !message.is_some_and(Message::is_final));
        Some(last_word.map_or((0, None), |(seq, farewell)| (seq, Some(farewell))))
    }
}

/// The dialogs that are over, bounded, contacts and strangers apart. Swept when something is added: it needs no
/// timer.
#[derive(Debug, Default)]
pub(super) struct Memory {
    entries: BTreeMap<LegId, Remembered>,
    trusted: VecDeque<LegId>,
    strangers: VecDeque<LegId>,
}

impl Memory {
    pub fn insert(&mut self, now: Instant, leg: LegId, entry: Remembered, trusted: bool) {
        if self.entries.insert(leg, entry).is_some() {
            return;
        }
        let (lane, max) =
            if trusted { (&mut self.trusted, MAX_TRUSTED) } else { (&mut self.strangers, MAX_STRANGERS) };
        lane.push_back(leg);
        while let Some(oldest) = lane.front() {
            let expired = self.entries.get(oldest).is_none_or(|entry| entry.until <= now);
            if !expired && lane.len() <= max {
                break;
            }
            self.entries.remove(oldest);
            lane.pop_front();
        }
    }

    pub fn get_mut(&mut self, leg: &LegId) -> Option<&mut Remembered> {
        self.entries.get_mut(leg)
    }

    pub fn contains(&self, leg: &LegId) -> bool {
        self.entries.contains_key(leg)
    }

    /// Whether any dialog of the call is remembered.
    pub fn knows_call(&self, call: CallId) -> bool {
        self.entries.range(legs_of(call)).next().is_some()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }
}

/// All legs that a call can have.
pub(super) fn legs_of(call: CallId) -> std::ops::RangeInclusive<LegId> {
    let leg = |byte| LegId { call, terminal: TerminalId::from_bytes([byte; 32]) };
    leg(0)..=leg(0xff)
}
