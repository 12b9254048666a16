//! Who is told what and when, and what is known of others. Pure.
//!
//! Two contacts' terminals tell each other when one of them comes on line: it says how it is and asks for the same
//! (NOTIFY and SUBSCRIBE in one, RFC 6665), which the other end answers. From then on each tells the other's terminal when something
//! changes, and one of them says it again every hour. What was told is good for two.

use crate::api::{PresenceInfo, PresenceState, Visibility};
use offhook_proto::call::Peer;
use offhook_proto::identity::{Fingerprint, TerminalId};
use offhook_proto::number::Number;
use offhook_proto::signalling::{Presence, PresenceCode, PresenceTold};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long what was told is good, and its asker is told of changes, seconds. As long as a terminal's record lives.
pub(super) const GOOD_FOR: u32 = 2 * 3600;
/// When it is said again.
const AGAIN: Duration = Duration::from_secs(3600);
/// Between two messages: a contact list of any length becomes a trickle, of which the machine has a place for each that is under way
/// (32 for 10 s).
const PACE: Duration = Duration::from_millis(350);
/// A change is told no sooner than this after the one before; what changes meanwhile is told together.
const CALM: Duration = Duration::from_secs(3);
/// After which a change is told at the earliest: a call that begins has other things to send.
const SETTLE: Duration = Duration::from_secs(1);
/// Terminals of contacts that are told of changes. Beyond, the one whose time is over first is not told any more.
const MAX_WATCHERS: usize = 256;
/// Contacts of which something is known, and asked; and terminals of each.
const MAX_CONTACTS: usize = 1_024;
const MAX_TERMINALS: usize = 8;

/// A contact whose key is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) struct Known {
    pub number: Number,
    pub name: String,
    /// Of its key.
    pub fingerprint: Fingerprint,
    pub verified: bool,
}

/// A message to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) enum Send {
    /// To every terminal of a number, after a look-up.
    ToNumber(Number, Presence),
    /// To a terminal that has asked.
    ToTerminal(Number, Arc<Peer>, Presence),
}

/// A terminal that is told of changes.
#[derive(Debug)]
struct Watcher {
    number: Number,
    peer: Arc<Peer>,
    until: Instant,
}

/// What a terminal of a contact has told.
#[derive(Debug)]
struct Seen {
    info: PresenceInfo,
    at: Instant,
    until: Instant,
}

#[derive(Debug)]
struct Contact {
    known: Known,
    seen: BTreeMap<TerminalId, Seen>,
    /// When it is to be asked (again).
    ask_at: Option<Instant>,
}

/// See the head of the module.
#[derive(Debug)]
pub(in crate::engine) struct Book {
    visible: Visibility,
    chosen: PresenceInfo,
    in_call: bool,
    /// The user does not want to be disturbed now.
    quiet: bool,
    online: bool,
    contacts: BTreeMap<String, Contact>,
    watchers: BTreeMap<TerminalId, Watcher>,
    /// Terminals to be told, each once; of a change, or in answer.
    due: VecDeque<TerminalId>,
    answers: VecDeque<TerminalId>,
    /// Those who are told nothing any more, to be told that.
    partings: VecDeque<Watcher>,
    /// When a change is passed on to the watchers.
    change_at: Option<Instant>,
    changed: Option<Instant>,
    /// Not before.
    next: Instant,
}

impl Book {
    pub fn new(chosen: PresenceInfo, visible: Visibility, now: Instant) -> Self {
        Self {
            visible,
            chosen,
            in_call: false,
            quiet: false,
            online: false,
            contacts: BTreeMap::new(),
            watchers: BTreeMap::new(),
            due: VecDeque::new(),
            answers: VecDeque::new(),
            partings: VecDeque::new(),
            change_at: None,
            changed: None,
            next: now,
        }
    }

    pub fn visible(&self) -> Visibility {
        self.visible
    }

    /// What the user has chosen.
    pub fn chosen(&self) -> &PresenceInfo {
        &self.chosen
    }

    /// What others are told.
    pub fn own(&self) -> PresenceInfo {
        let here = matches!(self.chosen.state, PresenceState::Available | PresenceState::Away);
        let state = if here && self.quiet {
            PresenceState::DoNotDisturb
        } else if here && self.in_call {
            PresenceState::Busy
        } else {
            self.chosen.state
        };
        PresenceInfo { state, note: self.chosen.note.clone() }
    }

    /// What is known of a contact: of its terminals the one that has told last.
    pub fn of(&self, number: &Number, now: Instant) -> Option<PresenceInfo> {
        let contact = self.contacts.get(&number.canonical())?;
        let good = contact.seen.values().filter(|seen| seen.until > now);
        good.max_by_key(|seen| (seen.info.state != PresenceState::Offline, seen.at))
            .map(|seen| seen.info.clone())
    }

    pub fn choose(&mut self, now: Instant, chosen: Option<PresenceInfo>, visible: Option<Visibility>) {
        let before = self.own();
        if let Some(chosen) = chosen {
            self.chosen = chosen;
        }
        let widened = visible.is_some_and(|visible| std::mem::replace(&mut self.visible, visible) != visible);
        if widened {
            // Whoever may see it now has to be told, and asked; nobody else any more, which is told as well: or they would go by
            // what they know for two hours.
            let watchers =
                std::mem::take(&mut self.watchers).into_values().filter(|watcher| watcher.until > now);
            let sees = |watcher: &Watcher| {
                let contact = self.contacts.get(&watcher.number.canonical());
                contact.is_some_and(|contact| shows(self.visible, &contact.known))
            };
            self.partings.extend(watchers.filter(|watcher| !sees(watcher)));
            self.partings.truncate(MAX_WATCHERS);
            self.due.clear();
            self.answers.clear();
            for contact in self.contacts.values_mut() {
                contact.seen.clear();
                contact.ask_at = Some(now);
            }
        } else if before != self.own() {
            self.change(now);
        }
    }

    /// Whether the user talks.
    pub fn set_in_call(&mut self, now: Instant, in_call: bool) {
        let before = self.own();
        self.in_call = in_call;
        if before != self.own() {
            self.change(now);
        }
    }

    /// Whether the user does not want to be disturbed.
    pub fn set_quiet(&mut self, now: Instant, quiet: bool) {
        let before = self.own();
        self.quiet = quiet;
        if before != self.own() {
            self.change(now);
        }
    }

    fn change(&mut self, now: Instant) {
        let calm = self.changed.map_or(now, |at| at + CALM).max(now + SETTLE);
        self.change_at.get_or_insert(calm);
    }

    /// The contacts whose keys are known. One that has another key, or with whom words were compared, is somebody else: it is asked
    /// and told anew, and terminals of the key before hear nothing any more.
    pub fn set_contacts(&mut self, now: Instant, contacts: Vec<Known>) {
        let mut before = std::mem::take(&mut self.contacts);
        for known in contacts.into_iter().take(MAX_CONTACTS) {
            let key = known.number.canonical();
            let contact = match before.remove(&key) {
                Some(contact) if contact.known.fingerprint == known.fingerprint => {
                    let anew = contact.known.verified != known.verified;
                    Contact { known, ask_at: if anew { Some(now) } else { contact.ask_at }, ..contact }
                }
                Some(_) | None => Contact { known, seen: BTreeMap::new(), ask_at: Some(now) },
            };
            self.contacts.insert(key, contact);
        }
        let (contacts, visible) = (&self.contacts, self.visible);
        self.watchers.retain(|_, watcher| {
            let contact = contacts.get(&watcher.number.canonical());
            contact.is_some_and(|contact| {
                shows(visible, &contact.known)
                    && contact.known.fingerprint == watcher.peer.identity.fingerprint()
            })
        });
    }

    /// On line again, everybody is asked anew: much may have changed.
    pub fn set_online(&mut self, now: Instant, online: bool) {
        if online && !std::mem::replace(&mut self.online, online) {
            self.contacts.values_mut().for_each(|contact| contact.ask_at = Some(now));
        }
        self.online = online;
    }

    /// A contact's terminal has told how it is, or asks. Answers whose presence has become what, if that is news.
    pub fn heard(
        &mut self,
        now: Instant,
        number: &Number,
        peer: &Arc<Peer>,
        presence: Presence,
    ) -> Option<(Known, PresenceInfo)> {
        if self.visible == Visibility::Nobody {
            return None;
        }
        let before = self.of(number, now);
        let contact = self.contacts.get_mut(&number.canonical())?;
        if let Some(told) = presence.told {
            if contact.seen.len() >= MAX_TERMINALS && !contact.seen.contains_key(&peer.terminal) {
                let oldest =
                    contact.seen.iter().min_by_key(|(_, seen)| seen.at).map(|(terminal, _)| *terminal);
                oldest.map(|terminal| contact.seen.remove(&terminal));
            }
            let until = now + Duration::from_secs(told.good_for.min(GOOD_FOR).into());
            let (info, leaves) = (info_of(&told), told.good_for == 0);
            contact.seen.insert(peer.terminal, Seen { info, at: now, until });
            contact.ask_at = (!leaves).then(|| now + AGAIN);
        }
        let known = contact.known.clone();
        if presence.watch && shows(self.visible, &known) {
            self.watch(now, &known, peer);
            if presence.ask && !self.answers.contains(&peer.terminal) {
                self.answers.push_back(peer.terminal);
            }
        }
        let after = self.of(number, now).unwrap_or_else(|| gone(String::new()));
        (before.as_ref() != Some(&after)).then_some((known, after))
    }

    /// From now on the terminal is told of changes. It takes the place of another one of its contact, where that has enough, or of
    /// anybody's.
    fn watch(&mut self, now: Instant, known: &Known, peer: &Arc<Peer>) {
        let own = |watcher: &Watcher| watcher.number == known.number;
        if !self.watchers.get(&peer.terminal).is_some_and(own) {
            let many = self.watchers.values().filter(|watcher| own(watcher)).count() >= MAX_TERMINALS;
            let full = self.watchers.len() >= MAX_WATCHERS && !self.watchers.contains_key(&peer.terminal);
            if many || full {
                let any = self.watchers.iter().filter(|(_, watcher)| !many || own(watcher));
                let first = any.min_by_key(|(_, watcher)| watcher.until).map(|(id, _)| *id);
                first.map(|terminal| self.watchers.remove(&terminal));
            }
        }
        let until = now + Duration::from_secs(GOOD_FOR.into());
        let watcher = Watcher { number: known.number.clone(), peer: peer.clone(), until };
        self.watchers.insert(peer.terminal, watcher);
    }

    /// When [`Book::poll`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if !self.online {
            return None;
        }
        if !self.partings.is_empty() {
            return Some(self.next);
        }
        if self.visible == Visibility::Nobody {
            return None;
        }
        let asks = self.contacts.values().filter_map(|contact| contact.ask_at).min();
        let due = (!self.due.is_empty() || !self.answers.is_empty()).then_some(self.next);
        [asks, due, self.change_at].into_iter().flatten().min().map(|at| at.max(self.next))
    }

    /// The next message, if one is due.
    pub fn poll(&mut self, now: Instant) -> Option<Send> {
        if self.poll_timeout().is_none_or(|at| at > now) {
            return None;
        }
        if let Some(watcher) = self.partings.pop_front() {
            self.next = now + PACE;
            return Some(parting(watcher, String::new()));
        }
        if self.change_at.take_if(|at| *at <= now).is_some() {
            self.changed = Some(now);
            self.watchers.retain(|_, watcher| watcher.until > now);
            self.due = self.watchers.keys().copied().collect();
        }
        let send = self.tell_next().or_else(|| self.ask_next(now));
        if send.is_some() {
            self.next = now + PACE;
        }
        send
    }

    fn tell_next(&mut self) -> Option<Send> {
        let told = told_of(&self.own(), GOOD_FOR);
        loop {
            let (terminal, answer) = match self.answers.pop_front() {
                Some(terminal) => (terminal, true),
                None => (self.due.pop_front()?, false),
            };
            if let Some(watcher) = self.watchers.get(&terminal) {
                // Whoever is answered is watched from now on, too.
                let presence = Presence { told: Some(told), ask: false, watch: answer };
                return Some(Send::ToTerminal(watcher.number.clone(), watcher.peer.clone(), presence));
            }
        }
    }

    fn ask_next(&mut self, now: Instant) -> Option<Send> {
        let due = |contact: &&Contact| contact.ask_at.is_some_and(|at| at <= now);
        let known = self.contacts.values().find(due)?.known.clone();
        if let Some(contact) = self.contacts.get_mut(&known.number.canonical()) {
            contact.ask_at = None;
        }
        let told = shows(self.visible, &known).then(|| told_of(&self.own(), GOOD_FOR));
        Some(Send::ToNumber(known.number, Presence { told, ask: true, watch: true }))
    }

    /// The last word to everybody who is told of changes: this terminal goes off line.
    pub fn farewells(&mut self, now: Instant) -> Vec<Send> {
        let watchers = std::mem::take(&mut self.watchers).into_values();
        let watchers = watchers.filter(|watcher| watcher.until > now);
        let watchers = watchers.map(|watcher| parting(watcher, self.chosen.note.clone()));
        let others = std::mem::take(&mut self.partings).into_iter();
        watchers.chain(others.map(|watcher| parting(watcher, String::new()))).collect()
    }
}

/// The last word to somebody who was told of changes: this terminal goes off line, or so it is to seem.
fn parting(watcher: Watcher, note: String) -> Send {
    let presence = Presence { told: Some(told_of(&gone(note), 0)), ask: false, watch: false };
    Send::ToTerminal(watcher.number, watcher.peer, presence)
}

/// Who may see how the user is.
fn shows(visible: Visibility, known: &Known) -> bool {
    match visible {
        Visibility::Contacts => true,
        Visibility::Verified => known.verified,
        Visibility::Nobody => false,
    }
}

fn gone(note: String) -> PresenceInfo {
    PresenceInfo { state: PresenceState::Offline, note }
}

fn told_of(info: &PresenceInfo, good_for: u32) -> PresenceTold {
    let state = match info.state {
        PresenceState::Available => PresenceCode::Available,
        PresenceState::Away => PresenceCode::Away,
        PresenceState::Busy => PresenceCode::Busy,
        PresenceState::DoNotDisturb => PresenceCode::DoNotDisturb,
        PresenceState::Offline => PresenceCode::Offline,
    };
    PresenceTold { state, note: info.note.clone(), good_for }
}

fn info_of(told: &PresenceTold) -> PresenceInfo {
    let state = match told.state {
        _ if told.good_for == 0 => PresenceState::Offline,
        PresenceCode::Available => PresenceState::Available,
        PresenceCode::Busy => PresenceState::Busy,
        PresenceCode::DoNotDisturb => PresenceState::DoNotDisturb,
        PresenceCode::Offline => PresenceState::Offline,
        // A word of later versions: somebody is there.
        PresenceCode::Away | PresenceCode::Other(_) => PresenceState::Away,
    };
    PresenceInfo { state, note: told.note.clone() }
}

#[cfg(test)]
mod tests;
