//! Publishing: at once when the address changes, every hour otherwise, and soon again after a failure.

use super::outputs::introduction;
use super::status::certificate_days;
use super::{Engine, Internal, wall};
use crate::api::{ErrorCode, Event, LineState};
use crate::net::{NetStatus, PublishError};
use offhook_proto::number::NodeAddr;
use offhook_proto::record::{RecordSet, TerminalRecord};
use offhook_proto::wire::UnixMillis;
use std::time::{Duration, Instant};

/// How often an unchanged record is published again (design: terminal records live 2 h).
pub(crate) const INTERVAL: Duration = Duration::from_secs(3600);

/// Life of a terminal record.
const LIFE: Duration = Duration::from_secs(2 * 3600);

/// First and longest pause after a failure; it doubles between.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(120));

/// So many days before its end the user hears of the certificate, once a day.
const REMIND_DAYS: i64 = 60;

/// How long a telephone that has just started may look for the network before its user is told that there is none.
const GRACE: Duration = Duration::from_secs(5);

/// How far the terminal's record got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// So many nodes serve it.
    Network(usize),
    /// There is no address to publish. The record is held here, for peers that are connected or on the local network.
    Here,
}

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
    interval: Duration,
    due: Option<Instant>,
    in_flight: bool,
    /// Something changed while a publication was under way.
    again: bool,
    failures: u32,
    /// Sequence of the last terminal record; the next one is higher even if the clock went back.
    last_seq: UnixMillis,
    /// What the network's state was when it was last looked at.
    addresses: Vec<NodeAddr>,
    routes: Vec<NodeAddr>,
    connected: bool,
    /// Days that the certificate had when the user last heard of it.
    told_days: i64,
    last: Option<Outcome>,
    /// Until then "no network" is only "not yet".
    grace: Instant,
    /// How the telephone stands with the network, as last told.
    pub line: LineState,
    /// When the number was last read back.
    pub published: Option<UnixMillis>,
}

impl Publisher {
    /// Due at once, and then every `interval`. `days` are left of the certificate, as whoever asks for the status knows.
    pub fn new(interval: Duration, days: i64, now: Instant) -> Self {
        Self {
            interval,
            due: Some(now),
            in_flight: false,
            again: false,
            failures: 0,
            last_seq: UnixMillis(0),
            addresses: Vec::new(),
            routes: Vec::new(),
            connected: false,
            told_days: days,
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

    /// Whether the user is to be reminded that the certificate ends in so many days.
    fn reminds(&mut self, days: i64) -> bool {
        let news = days < self.told_days;
        self.told_days = days;
        news && (0..=REMIND_DAYS).contains(&days)
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

    /// Read back.
    fn done(&mut self, now: Instant) {
        self.last = Some(Outcome::Held);
        self.rest(now);
    }

    /// Held here, where it can't be looked up.
    fn done_here(&mut self, now: Instant) {
        self.lost();
        self.rest(now);
    }

    fn rest(&mut self, now: Instant) {
        self.in_flight = false;
        self.failures = 0;
        self.due = Some(if self.again { now } else { now + self.interval });
        self.again = false;
    }

    fn failed(&mut self, now: Instant, outcome: Outcome) {
        self.last = Some(outcome);
        self.in_flight = false;
        let pause = RETRY.0.saturating_mul(1 << self.failures.min(10)).min(RETRY.1);
        self.failures += 1;
        self.due = Some(if self.again { now } else { now + pause });
        self.again = false;
    }
}

impl Engine {
    /// The network's state has changed. This way no change is missed, however busy the terminal is.
    pub(super) fn on_net_status(&mut self) {
        let (addresses, routes, connected) = {
            let status = self.status.borrow_and_update();
            let connected = status.links.iter().any(|link| link.up);
            (status.addresses.clone(), status.routes.clone(), connected)
        };
        if self.publisher.routes != routes {
            self.calls.set_intro(introduction(&self.account, routes.clone()));
            self.publisher.routes = routes;
        }
        match (self.publisher.connected, connected) {
            (true, false) => self.publisher.lost(),
            (false, true) if self.publisher.line != LineState::Online => self.publisher.now(Instant::now()),
            (false, true) | (true, true) | (false, false) => {}
        }
        self.publisher.connected = connected;
        if self.publisher.addresses != addresses {
            self.publisher.addresses = addresses;
            self.publisher.now(Instant::now());
        }
        self.publish_if_due(Instant::now());
        self.update_line();
    }

    /// Publish if it is time.
    pub(super) fn publish_if_due(&mut self, now: Instant) {
        if self.publisher.in_flight || self.publisher.due.is_none_or(|due| due > now) {
            return;
        }
        // Chosen numbers have no key as long as their directory is not known, and nothing changes that yet.
        let Some(key) = self.account.number().record_key(None) else {
            self.publisher.due = None;
            return;
        };
        if !self.is_certified() {
            if self.publisher.last != Some(Outcome::Failed) {
                self.tell_failure(PublishError::Untimely);
            }
            return self.publisher.failed(now, Outcome::Failed);
        }
        let set = self.sign_record();
        let addressless = self.publisher.addresses.is_empty();
        self.publisher.in_flight = true;
        let (net, internal) = (self.net.clone(), self.internal.clone());
        self.jobs.spawn(async move {
            let result = if addressless {
                net.hold(key, set).await.map(|()| Reach::Here)
            } else {
                net.publish(key, set).await.map(|published| Reach::Network(published.holders))
            };
            // An error means that the engine has ended.
            let _ = internal.send(Internal::Published(result)).await;
        });
    }

    /// The account's record, and a new one of this terminal.
    fn sign_record(&mut self) -> RecordSet {
        let seq = wall().max(UnixMillis(self.publisher.last_seq.0 + 1));
        self.publisher.last_seq = seq;
        let record = TerminalRecord {
            number: self.account.number().clone(),
            cert: self.account.cert().clone(),
            addrs: self.publisher.addresses.clone(),
            seq,
            expires: seq.plus(LIFE),
        };
        let terminals = vec![record.sign(self.account.terminal_key())];
        RecordSet { account: Some(self.account.account_record().clone()), terminals }
    }

    /// Whether the certificate is valid. Reminds the user of its end.
    fn is_certified(&mut self) -> bool {
        let days = certificate_days(self.account.cert());
        let valid = self.account.cert().verify(wall()).is_ok();
        if self.publisher.reminds(days) && valid {
            let message = format!("this terminal's certificate ends in {days} days: it must be renewed");
            self.emit(Event::Error { code: ErrorCode::Certificate, message });
        }
        valid
    }

    pub(super) fn on_published(&mut self, result: Result<Reach, PublishError>) {
        let now = Instant::now();
        match result {
            Ok(Reach::Network(holders)) => {
                tracing::debug!(holders, "published and read back");
                self.publisher.done(now);
                self.publisher.published = Some(wall());
            }
            Ok(Reach::Here) => {
                tracing::debug!("no address to publish");
                self.publisher.done_here(now);
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
            PublishError::Untimely => ErrorCode::Certificate,
            PublishError::Disk => ErrorCode::Storage,
            // Not failures of the publication.
            PublishError::Offline | PublishError::Stopped => return,
        };
        let message = format!("the number could not be published: {error}");
        self.emit(Event::Error { code, message });
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

    fn publisher(now: Instant) -> Publisher {
        Publisher::new(INTERVAL, 390, now)
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
    fn the_user_is_reminded_of_the_certificate_once_a_day_at_its_end() {
        let mut p = Publisher::new(INTERVAL, 62, Instant::now());
        let told: Vec<_> = [62, 61, 60, 60, 59, 59, 1, 1, 0, 0].map(|days| p.reminds(days)).into();
        assert_eq!(told, [false, false, true, false, true, false, true, false, true, false]);
        // Whoever starts the terminal sees it in the status.
        assert!(!Publisher::new(INTERVAL, 10, Instant::now()).reminds(10));
    }
}

/// A terminal and a directory in one process.
#[cfg(test)]
#[allow(clippy::wildcard_enum_match_arm, reason = "a test looks at what it is about")]
mod whole {
    use super::*;
    use crate::api::TimedEvent;
    use crate::audio::DeviceSpec;
    use crate::engine::{self, Request};
    use crate::net::{LookupEvent, Net, NetConfig, NetEvent, Role};
    use crate::phone::Phone;
    use crate::storage::{AccountId, Home, NewAccount, Password};
    use offhook_proto::identity::SignedCert;
    use offhook_proto::number::RecordKey;
    use offhook_proto::record::CheckedSet;
    use tokio::sync::{broadcast, mpsc, watch};

    const PATIENCE: Duration = Duration::from_secs(60);

    struct Scene {
        directory: Net,
        _directory_events: mpsc::Receiver<NetEvent>,
        dir: tempfile::TempDir,
        home: Home,
        id: AccountId,
        password: Password,
    }

    async fn scene(seed: u8) -> Scene {
        let mut config = NetConfig::new([seed; 32], Role::Directory);
        config.listen = vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()];
        let (directory, _directory_events) = Net::start(config).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path()).unwrap();
        let (id, password): (AccountId, _) = ("ada".parse().unwrap(), Password::new("a password").unwrap());
        let new = NewAccount { id: id.clone(), password: password.clone() };
        home.create_account(new, |_| {}).await.unwrap();
        Scene { directory, _directory_events, dir, home, id, password }
    }

    impl Scene {
        async fn start(
            &self,
            republish: Duration,
        ) -> (mpsc::Sender<Request>, broadcast::Receiver<TimedEvent>) {
            let mut status = self.directory.watch();
            let entry =
                status.wait_for(|status| !status.addresses.is_empty()).await.unwrap().addresses[0].clone();
            let mut settings = Phone::builder(self.dir.path())
                .entry([entry.to_string()])
                .listen(["/ip4/127.0.0.1/udp/0/quic-v1".to_owned()])
                .allow_private(true)
                .mdns(false)
                .mic(DeviceSpec::None)
                .speaker(DeviceSpec::None);
            settings.republish = republish;
            let (events, told) = broadcast::channel(64);
            let (line, _) = watch::channel(LineState::Starting);
            (engine::start(settings, events, line).await.unwrap().0, told)
        }

        /// What the directory holds.
        async fn held(&self, key: RecordKey) -> Option<CheckedSet> {
            match self.directory.lookup(key, &[]).next().await {
                Some(LookupEvent::Found { set, .. }) => Some(set),
                Some(LookupEvent::Finished { .. }) | None => None,
            }
        }

        async fn key(&self) -> RecordKey {
            self.home.accounts().await.unwrap()[0].number.record_key(None).unwrap()
        }
    }

    #[tokio::test]
    async fn the_record_is_published_every_hour_though_nothing_changes() {
        let scene = scene(60).await;
        let key = scene.key().await;
        let (_phone, _events) = scene.start(Duration::from_millis(300)).await;
        let mut published = Vec::new();
        let wait = async {
            while published.len() < 3 {
                let terminals = scene.held(key).await.map(|set| set.terminals).unwrap_or_default();
                for terminal in terminals.iter().filter(|terminal| !terminal.addrs.is_empty()) {
                    let this = (terminal.seq, terminal.addrs.clone());
                    if published.last() != Some(&this) {
                        published.push(this);
                    }
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("published again and again");
        assert!(published.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 == two[1].1), "{published:?}");
    }

    #[tokio::test]
    async fn an_expired_certificate_is_reported_and_no_record_is_published_without_its_terminal() {
        let scene = scene(61).await;
        let account = scene.home.open_account(&scene.id).await.unwrap();
        let (terminal, seal) = (account.terminal_key().public(), account.seal_key().public());
        let file = account.data_dir().join("account.db");
        account.close().await;
        drop(account);
        let key = scene.home.unlock(&scene.id, &scene.password).await.unwrap();
        let long_ago = UnixMillis(wall().0 - 500 * 86_400_000);
        let cert = offhook_proto::wire::encode(&SignedCert::issue(&key, terminal, seal, long_ago));
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
        let mut raw = sqlx::ConnectOptions::connect(&options).await.unwrap();
        sqlx::query("UPDATE terminal SET cert = ?").bind(cert).execute(&mut raw).await.unwrap();
        sqlx::Connection::close(raw).await.unwrap();

        let (_phone, mut events) = scene.start(INTERVAL).await;
        let reported = async {
            loop {
                match events.recv().await.unwrap().event {
                    Event::Error { code, .. } => break assert_eq!(code, ErrorCode::Certificate),
                    Event::Online { .. } => panic!("on line without a certificate"),
                    _ => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, reported).await.expect("a report");
        assert_eq!(scene.held(scene.key().await).await, None);
    }
}
