//! Publishing: at once when the address changes, every hour otherwise, and soon again after a failure.

use super::{Engine, Internal};
use crate::api::Event;
use crate::clock::wall_clock;
use crate::net::PublishError;
use crate::storage::{AccountStore, StorageError};
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

/// When to publish, and how it went.
#[derive(Debug)]
pub(super) struct Publisher {
    due: Option<Instant>,
    in_flight: bool,
    /// Something changed while a publication was under way.
    again: bool,
    failures: u32,
    /// Sequence of the last terminal record; the next one is higher even if the clock went back.
    last_seq: UnixMillis,
    /// Whether the number was read back after the last change.
    pub online: bool,
    /// When it was last read back.
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
            online: false,
            published: None,
        }
    }

    /// When [`Engine::publish_if_due`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.in_flight { None } else { self.due }
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

    fn done(&mut self, now: Instant) {
        self.in_flight = false;
        self.failures = 0;
        self.due = Some(if self.again { now } else { now + INTERVAL });
        self.again = false;
    }

    fn failed(&mut self, now: Instant) {
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
        self.publisher.in_flight = true;
        let (net, account, internal) = (self.net.clone(), self.account.clone(), self.internal.clone());
        self.jobs.spawn(async move {
            if let Err(error) = account.set_setting(SEQ_SETTING, Some(&seq.0.to_string())).await {
                // To be found is worth more than to be found after a restart with a wrong clock.
                tracing::error!(%error, "a record's sequence could not be kept");
            }
            let result = net.publish(key, set).await.map(|p| p.holders);
            // An error means that the engine has ended.
            let _ = internal.send(Internal::Published(result)).await;
        });
    }

    pub(super) fn on_published(&mut self, result: Result<usize, PublishError>) {
        let now = Instant::now();
        match result {
            Ok(holders) => {
                tracing::debug!(holders, "published and read back");
                self.publisher.done(now);
                self.publisher.published = Some(wall_clock());
                if !self.publisher.online {
                    self.publisher.online = true;
                    self.emit(Event::Online { number: self.account.number().clone() });
                }
            }
            Err(error) => {
                tracing::info!(%error, "publishing failed, will be tried again");
                self.publisher.failed(now);
                self.set_offline();
            }
        }
    }

    /// Tell once that the number cannot be reached.
    pub(super) fn set_offline(&mut self) {
        if self.publisher.online {
            self.publisher.online = false;
            self.emit(Event::Offline);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_while_publishing_publishes_again_at_once() {
        let t = Instant::now();
        let mut p = Publisher::new(t, UnixMillis(0));
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
        let mut p = Publisher::new(t, UnixMillis(0));
        let mut pauses = Vec::new();
        for _ in 0..12 {
            p.in_flight = true;
            p.failed(t);
            pauses.push(p.poll_timeout().expect("due") - t);
        }
        assert_eq!(pauses[0], RETRY.0);
        assert!(pauses.windows(2).all(|w| w[0] <= w[1]));
        assert_eq!(pauses[11], RETRY.1);
    }
}
