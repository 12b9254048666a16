//! When to publish, how it went, and what that means for the user. Pure.

use crate::api::LineState;
use crate::net::NetStatus;
use offhook_proto::number::NodeAddr;
use offhook_proto::wire::UnixMillis;
use std::time::{Duration, Instant};

/// How often an unchanged record is published again (design: terminal records live 2 h).
pub(crate) const INTERVAL: Duration = Duration::from_secs(3600);

/// First and longest pause after a failure; it doubles between.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(120));

/// How long a telephone that has just started may look for the network before its user is told that there is none.
const GRACE: Duration = Duration::from_secs(5);

/// How the last publication went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Read back.
    Held,
    /// Nobody was there to hold it, or nobody is there any more. This terminal itself answers who asks it.
    Nobody,
    /// It was refused, or lost.
    Failed,
}

/// When to publish, how it went, and what that means for the user.
#[derive(Debug)]
pub(super) struct Publisher {
    interval: Duration,
    pub due: Option<Instant>,
    pub in_flight: bool,
    /// Something changed while a publication was under way.
    again: bool,
    failures: u32,
    /// Sequence of the last terminal record; the next one is higher even if the clock went back.
    last_seq: UnixMillis,
    /// What the network's state was when it was last looked at.
    pub addresses: Vec<NodeAddr>,
    pub routes: Vec<NodeAddr>,
    pub connected: bool,
    pub last: Option<Outcome>,
    /// Until then "no network" is only "not yet".
    grace: Instant,
    /// How the telephone stands with the network, as last told.
    pub line: LineState,
    /// When the number was last read back.
    pub published: Option<UnixMillis>,
}

impl Publisher {
    /// Due at once, and then every `interval`. `last_seq` is the sequence of the last record of an earlier run.
    pub fn new(interval: Duration, last_seq: UnixMillis, now: Instant) -> Self {
        Self {
            interval,
            due: Some(now),
            in_flight: false,
            again: false,
            failures: 0,
            last_seq,
            addresses: Vec::new(),
            routes: Vec::new(),
            connected: false,
            last: None,
            grace: now + GRACE,
            line: LineState::Starting,
            published: None,
        }
    }

    /// When [`publish_if_due`](super::Engine::publish_if_due) or [`update_line`](super::Engine::update_line) has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let publish = self.due.filter(|_| !self.in_flight);
        let patience = (self.line == LineState::Starting).then_some(self.grace);
        publish.into_iter().chain(patience).min()
    }

    /// Something changed: publish at once.
    pub fn now(&mut self, now: Instant) {
        self.again = self.in_flight;
        self.due = Some(now);
        self.failures = 0;
    }

    /// Publish once more by then.
    pub fn again_by(&mut self, then: Instant) {
        self.due = Some(self.due.map_or(then, |due| due.min(then)));
    }

    /// The sequence of the next record: the time, but higher than all before.
    pub fn next_seq(&mut self, wall: UnixMillis) -> UnixMillis {
        self.last_seq = wall.max(UnixMillis(self.last_seq.0.saturating_add(1)));
        self.last_seq
    }

    /// All connections to the network are lost.
    pub fn lost(&mut self) {
        if self.last == Some(Outcome::Held) {
            self.last = Some(Outcome::Nobody);
        }
    }

    /// How the telephone stands with the network. Pure, so that it can be tested.
    pub fn judge(&self, near: Near, now: Instant) -> LineState {
        match self.last {
            Some(Outcome::Held) => LineState::Online,
            // Where no entry point is known, as on a LAN, whoever looks for this terminal asks it itself.
            Some(Outcome::Nobody) if !near.entry && near.others => LineState::Online,
            None if near.directory => LineState::Publishing,
            Some(_) | None if now < self.grace => {
                if near.directory {
                    LineState::Publishing
                } else {
                    LineState::Starting
                }
            }
            Some(_) | None if near.entry => LineState::Offline,
            Some(Outcome::Failed) => LineState::Offline,
            Some(Outcome::Nobody) | None => LineState::Alone,
        }
    }

    /// Read back.
    pub fn done(&mut self, now: Instant) {
        self.last = Some(Outcome::Held);
        self.rest(now);
    }

    /// Held here, where it can't be looked up.
    pub fn done_here(&mut self, now: Instant) {
        self.lost();
        self.rest(now);
    }

    fn rest(&mut self, now: Instant) {
        self.in_flight = false;
        self.failures = 0;
        self.due = Some(if self.again { now } else { now + self.interval });
        self.again = false;
    }

    pub fn failed(&mut self, now: Instant, outcome: Outcome) {
        self.last = Some(outcome);
        self.in_flight = false;
        let pause = RETRY.0.saturating_mul(1 << self.failures.min(10)).min(RETRY.1);
        self.failures += 1;
        self.due = Some(if self.again { now } else { now + pause });
        self.again = false;
    }
}

/// What is around this terminal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Near {
    /// An entry point is known: configured, remembered, or a contact's directory.
    entry: bool,
    /// It is registered with a directory.
    directory: bool,
    /// Another node is connected, or on the same local network.
    others: bool,
}

impl Near {
    pub fn of(net: &NetStatus) -> Self {
        Self {
            entry: !net.links.is_empty(),
            directory: net.links.iter().any(|link| link.registered),
            others: net.peers > 0 || net.lan > 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publisher(now: Instant) -> Publisher {
        Publisher::new(INTERVAL, UnixMillis(0), now)
    }

    #[test]
    fn a_change_while_publishing_publishes_again_at_once() {
        let t = Instant::now();
        let mut p = Publisher { line: LineState::Online, ..publisher(t) };
        for finish in
            [Publisher::done, Publisher::done_here, |p: &mut Publisher, t| p.failed(t, Outcome::Nobody)]
        {
            p.in_flight = true;
            p.now(t);
            finish(&mut p, t);
            assert_eq!(p.poll_timeout(), Some(t));
        }
        p.in_flight = true;
        p.done(t);
        assert_eq!(p.poll_timeout(), Some(t + INTERVAL));
    }

    #[test]
    fn failures_back_off_up_to_a_limit() {
        let t = Instant::now();
        let mut p = Publisher { line: LineState::Offline, ..publisher(t) };
        let mut pauses = Vec::new();
        for _ in 0..12 {
            p.in_flight = true;
            p.failed(t, Outcome::Nobody);
            pauses.push(p.poll_timeout().expect("due") - t);
        }
        assert_eq!(pauses[0], RETRY.0);
        assert!(pauses.windows(2).all(|w| w[0] <= w[1]));
        assert_eq!(pauses[11], RETRY.1);
    }

    const NOBODY: Near = Near { entry: false, directory: false, others: false };
    const ENTRY: Near = Near { entry: true, ..NOBODY };
    const REGISTERED: Near = Near { directory: true, others: true, ..ENTRY };
    const NEIGHBOUR: Near = Near { others: true, ..NOBODY };

    #[test]
    fn only_a_number_that_somebody_holds_or_asks_for_is_on_line() {
        let t = Instant::now();
        let late = t + GRACE;
        let mut p = publisher(t);
        // Nothing is published yet.
        assert_eq!(p.judge(NOBODY, t), LineState::Starting);
        assert_eq!(p.judge(ENTRY, t), LineState::Starting);
        assert_eq!(p.judge(NEIGHBOUR, t), LineState::Starting);
        assert_eq!(p.judge(REGISTERED, late), LineState::Publishing);
        // It never is: after a while the user is told.
        assert_eq!(p.poll_timeout(), Some(t));
        p.due = None;
        assert_eq!(p.poll_timeout(), Some(late));
        assert_eq!(p.judge(NOBODY, late), LineState::Alone);
        assert_eq!(p.judge(ENTRY, late), LineState::Offline);
        // Nobody took it.
        p.failed(t, Outcome::Nobody);
        assert_eq!(p.judge(NOBODY, t), LineState::Starting);
        assert_eq!(p.judge(NOBODY, late), LineState::Alone);
        assert_eq!(p.judge(NEIGHBOUR, t), LineState::Online, "who is near asks this terminal");
        assert_eq!(p.judge(Near { entry: true, ..NEIGHBOUR }, late), LineState::Offline);
        // It was refused.
        p.failed(t, Outcome::Failed);
        assert_eq!(p.judge(NEIGHBOUR, late), LineState::Offline);
        assert_eq!(p.judge(REGISTERED, late), LineState::Offline);
        p.done(t);
        assert_eq!(p.judge(REGISTERED, t), LineState::Online);
        p.lost();
        assert_eq!(p.judge(ENTRY, late), LineState::Offline);
    }

    #[test]
    fn sequences_grow_although_the_clock_goes_back() {
        let mut p = Publisher::new(INTERVAL, UnixMillis(500), Instant::now());
        let seqs = [400, 499, 600, 600, 300].map(|wall| p.next_seq(UnixMillis(wall)).0);
        assert_eq!(seqs, [501, 502, 600, 601, 602]);
    }
}
