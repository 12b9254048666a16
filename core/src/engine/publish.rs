//! Publishing: at once when the address changes, every hour otherwise, and soon again after a failure.

use super::{Engine, Internal};
use crate::api::{ErrorCode, Event, LineState};
use crate::clock::wall_clock;
use crate::net::{NetStatus, PublishError};
use crate::storage::{AccountStore, StorageError};
use offhook_proto::number::{NodeAddr, RecordKey};
use offhook_proto::record::{RecordSet, TerminalRecord};
use offhook_proto::wire::UnixMillis;
use std::time::{Duration, Instant};

/// How often an unchanged record is published again (design: terminal records live 2 h).
const INTERVAL: Duration = Duration::from_secs(3600);

/// Life of a terminal record.
const LIFE: Duration = Duration::from_secs(2 * 3600);

/// First and longest pause after a failure; it doubles between.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(120));

/// Setting under which the sequence of the last terminal record is kept: after a restart with a clock that was set back, a
/// record with a lower one would be refused as stale.
const SEQ_SETTING: &str = "terminal_record_seq";

/// The sequence of the last terminal record of an earlier run.
pub(super) async fn last_seq(account: &AccountStore) -> Result<UnixMillis, StorageError> {
    let seq = account.setting(SEQ_SETTING).await?.and_then(|seq| seq.parse().ok());
    Ok(UnixMillis(seq.unwrap_or(0)))
}

/// How long a telephone that has just started may look for the network before its user is told that there is none.
const GRACE: Duration = Duration::from_secs(5);

/// How the last publication went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
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
    due: Option<Instant>,
    in_flight: bool,
    /// Something changed while a publication was under way.
    again: bool,
    failures: u32,
    /// Sequence of the last terminal record; the next one is higher even if the clock went back.
    last_seq: UnixMillis,
    last: Option<Outcome>,
    /// Until then "no network" is only "not yet".
    grace: Instant,
    /// How the telephone stands with the network, as last told.
    pub line: LineState,
    /// When the number was last read back.
    pub published: Option<UnixMillis>,
}

impl Publisher {
    /// Due as soon as there is an address.
    pub fn new(now: Instant, last_seq: UnixMillis) -> Self {
        Self {
            due: Some(now),
            in_flight: false,
            again: false,
            failures: 0,
            last_seq,
            last: None,
            grace: now + GRACE,
            line: LineState::Starting,
            published: None,
        }
    }

    /// When [`Engine::publish_if_due`] or [`Engine::update_line`] has something to do.
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

    /// The sequence of the next record: the time, but higher than all before.
    fn next_seq(&mut self, wall: UnixMillis) -> UnixMillis {
        self.last_seq = wall.max(UnixMillis(self.last_seq.0.saturating_add(1)));
        self.last_seq
    }

    /// All connections to the network are lost.
    fn lost(&mut self) {
        if self.last == Some(Outcome::Held) {
            self.last = Some(Outcome::Nobody);
        }
    }

    /// How the telephone stands with the network. Pure, so that it can be tested.
    fn judge(&self, near: Near, now: Instant) -> LineState {
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

    fn done(&mut self, now: Instant) {
        self.last = Some(Outcome::Held);
        self.in_flight = false;
        self.failures = 0;
        self.due = Some(if self.again { now } else { now + INTERVAL });
        self.again = false;
    }

    fn failed(&mut self, now: Instant, outcome: Outcome) {
        self.last = Some(outcome);
        self.in_flight = false;
        self.again = false;
        let pause = RETRY.0.saturating_mul(1 << self.failures.min(10)).min(RETRY.1);
        self.failures += 1;
        self.due = Some(now + pause);
    }
}

impl Engine {
    /// Publish if it is time and there is an address to publish.
    pub(super) fn publish_if_due(&mut self, now: Instant) {
        if self.publisher.in_flight || self.publisher.due.is_none_or(|due| due > now) {
            return;
        }
        let Some(key) = self.account.number().record_key(None) else {
            // A chosen number of a directory that is not known here. Another address would change nothing about that.
            self.publisher.due = None;
            return;
        };
        let addrs = self.net.addresses();
        if addrs.is_empty() {
            // `AddressesChanged` will make it due again.
            self.publisher.due = None;
            return;
        }
        self.publisher.in_flight = true;
        let (publication, internal) = (self.publication(key, addrs), self.internal.clone());
        self.jobs.spawn(async move {
            let result = publication.await;
            // An error means that the engine has ended.
            let _ = internal.send(Internal::Published(result)).await;
        });
    }

    /// Tells whoever holds the number that this terminal is gone: a record without addresses, newer than the last.
    pub(super) fn withdraw(&mut self) {
        let held = self.publisher.last == Some(Outcome::Held);
        let Some(key) = self.account.number().record_key(None).filter(|_| held) else { return };
        let publication = self.publication(key, Vec::new());
        self.jobs.spawn(async move {
            if let Err(error) = publication.await {
                tracing::debug!(%error, "the number could not be withdrawn; its record expires by itself");
            }
        });
    }

    /// Signs a record that leads to `addrs`, newer than all before, and publishes it.
    fn publication(
        &mut self,
        key: RecordKey,
        addrs: Vec<NodeAddr>,
    ) -> impl Future<Output = Result<usize, PublishError>> + Send + use<> {
        let seq = self.publisher.next_seq(wall_clock());
        let record = TerminalRecord {
            number: self.account.number().clone(),
            cert: self.account.cert(),
            addrs,
            seq,
            expires: seq.plus(LIFE),
        };
        let signed = record.sign(self.account.terminal_key());
        let set = RecordSet { account: Some(self.account.account_record()), terminals: vec![signed] };
        let (net, account) = (self.net.clone(), self.account.clone());
        async move {
            if let Err(error) = account.set_setting(SEQ_SETTING, Some(&seq.0.to_string())).await {
                // To be found is worth more than to be found after a restart with a wrong clock.
                tracing::error!(%error, "a record's sequence could not be kept");
            }
            net.publish(key, set).await.map(|published| published.holders)
        }
    }

    pub(super) fn on_published(&mut self, result: Result<usize, PublishError>) {
        let now = Instant::now();
        match result {
            Ok(holders) => {
                tracing::debug!(holders, "published and read back");
                self.publisher.done(now);
                self.publisher.published = Some(wall_clock());
            }
            Err(PublishError::Offline) => {
                tracing::debug!("nobody is there to hold the number, will be tried again");
                self.publisher.failed(now, Outcome::Nobody);
            }
            Err(error) => {
                tracing::info!(%error, "publishing failed, will be tried again");
                if self.publisher.last != Some(Outcome::Failed) {
                    self.tell_failure(error);
                }
                self.publisher.failed(now, Outcome::Failed);
            }
        }
        self.update_line();
    }

    /// Why the number cannot be called although the network is there. Told once, not at every try.
    fn tell_failure(&self, error: PublishError) {
        let code = match error {
            PublishError::Incumbent => ErrorCode::NumberTaken,
            PublishError::Invalid(_) | PublishError::Proof | PublishError::NotHeld(_) => {
                ErrorCode::PublishFailed
            }
            PublishError::Disk => ErrorCode::Storage,
            // Not failures of the publication.
            PublishError::Offline | PublishError::Stopped => return,
        };
        let message = format!("the number could not be published: {error}");
        self.emit(Event::Error { code, message });
    }

    /// The last connection to an entry point is gone.
    pub(super) fn connections_lost(&mut self) {
        self.publisher.lost();
        self.update_line();
    }

    /// Tell how the telephone stands with the network, if that has changed.
    pub(super) fn update_line(&mut self) {
        let line = self.publisher.judge(Near::of(&self.net.status()), Instant::now());
        if line == self.publisher.line {
            return;
        }
        self.publisher.line = line;
        // A receiver that is gone belongs to a handle that is gone.
        self.line.send_replace(line);
        match line {
            LineState::Online => self.emit(Event::Online { number: self.account.number().clone() }),
            LineState::Alone => self.emit(Event::Alone),
            LineState::Offline => self.emit(Event::Offline),
            LineState::Starting | LineState::Publishing => {}
        }
    }
}

/// What is around this terminal.
#[derive(Debug, Clone, Copy)]
struct Near {
    /// An entry point is known: configured, remembered, or a contact's directory.
    entry: bool,
    /// It is registered with a directory.
    directory: bool,
    /// Another node is connected, or on the same local network.
    others: bool,
}

impl Near {
    fn of(net: &NetStatus) -> Self {
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

    #[test]
    fn a_change_while_publishing_publishes_again_at_once() {
        let t = Instant::now();
        let mut p = Publisher { line: LineState::Online, ..Publisher::new(t, UnixMillis(0)) };
        p.in_flight = true;
        p.now(t);
        p.done(t);
        assert_eq!(p.poll_timeout(), Some(t));
        p.in_flight = true;
        p.done(t);
        assert_eq!(p.poll_timeout(), Some(t + INTERVAL));
    }

    #[test]
    fn sequences_grow_although_the_clock_goes_back() {
        let mut p = Publisher::new(Instant::now(), UnixMillis(500));
        let seqs = [400, 499, 600, 600, 300].map(|wall| p.next_seq(UnixMillis(wall)).0);
        assert_eq!(seqs, [501, 502, 600, 601, 602]);
    }

    #[test]
    fn failures_back_off_up_to_a_limit() {
        let t = Instant::now();
        let mut p = Publisher { line: LineState::Offline, ..Publisher::new(t, UnixMillis(0)) };
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
        let mut p = Publisher::new(t, UnixMillis(0));
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
}
