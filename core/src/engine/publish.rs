//! Publishing: at once when the address changes, every hour otherwise, and soon again after a failure.

use super::publisher::{Near, Outcome};
use super::{Engine, Internal};
use crate::api::{ErrorCode, Event, LineState};
use crate::clock::wall_clock;
use crate::net::{Net, PublishError};
use crate::storage::{AccountStore, HeldNumber, StorageError};
use offhook_proto::number::{NodeAddr, Number, RecordKey};
use offhook_proto::record::{RecordSet, SignedAccount, TerminalRecord};
use offhook_proto::wire::UnixMillis;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Life of a terminal record.
const LIFE: Duration = Duration::from_secs(2 * 3600);

/// When a chosen number that could not be published is tried again.
const CHOSEN_RETRY: Duration = Duration::from_secs(60);

/// Setting under which the sequence of the last terminal record is kept: after a restart with a clock that was set back, a
/// record with a lower one would be refused as stale.
const SEQ_SETTING: &str = "terminal_record_seq";

/// The sequence of the last terminal record of an earlier run.
pub(super) async fn last_seq(account: &AccountStore) -> Result<UnixMillis, StorageError> {
    let seq = account.setting(SEQ_SETTING).await?.and_then(|seq| seq.parse().ok());
    Ok(UnixMillis(seq.unwrap_or(0)))
}

/// How far the terminal's record got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// So many nodes serve it.
    Network(usize),
    /// There is no address to publish. The record is held here, for peers that are connected or on the local network.
    Here,
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
            self.introduce(routes.clone());
            self.publisher.routes = routes;
            self.collect_if_due(Instant::now());
        }
        match (self.publisher.connected, connected) {
            (true, false) => self.publisher.lost(),
            (false, true) if self.publisher.line != LineState::Online => {
                self.outbox_wake_all();
                self.publisher.now(Instant::now());
            }
            (false, true) | (true, true) | (false, false) => {}
        }
        self.publisher.connected = connected;
        if self.publisher.addresses != addresses {
            self.publisher.addresses = addresses;
            self.publisher.now(Instant::now());
        }
        self.publish_if_due(Instant::now());
        self.update_line();
        self.update_serving();
    }

    /// Publish if it is time.
    pub(super) fn publish_if_due(&mut self, now: Instant) {
        if self.publisher.in_flight || self.publisher.due.is_none_or(|due| due > now) {
            return;
        }
        // An account's own number is a plain one; chosen ones come beside it.
        let Some(key) = self.account.number().record_key(None) else {
            self.publisher.due = None;
            return;
        };
        if self.account.cert().verify(wall_clock()).is_err() {
            if self.publisher.last != Some(Outcome::Failed) {
                self.tell_failure(PublishError::Untimely);
            }
            return self.publisher.failed(now, Outcome::Failed);
        }
        let mut addrs = self.publisher.addresses.clone();
        let addressless = addrs.is_empty();
        if addressless {
            // Of use to peers that are connected; without any address the record would say that the terminal has gone.
            addrs.push(NodeAddr::of_peer(&self.account.terminal_key().public()));
        }
        let (seq, signed) = self.sign_record(addrs.clone());
        self.publisher.in_flight = true;
        let (net, internal, account) = (self.net.clone(), self.internal.clone(), self.account.clone());
        let before = self.published_chosen.clone();
        self.jobs.spawn(async move {
            let set = signed.await;
            let result = publish_set(&net, key, set, addressless).await;
            let mut chosen = publish_chosen(&net, &account, &addrs, seq, addressless).await;
            chosen.extend(withdraw_given_up(&net, &account, before, seq).await);
            // An error means that the engine has ended.
            let _ = internal.send(Internal::Published(result, chosen)).await;
        });
    }

    /// Tells whoever holds the number that this terminal is gone: a record without addresses, newer than the last.
    pub(super) fn withdraw(&mut self) {
        let perhaps = self.publisher.in_flight || self.publisher.published.is_some();
        let Some(key) = self.account.number().record_key(None).filter(|_| perhaps) else { return };
        let ((seq, signed), net, account) =
            (self.sign_record(Vec::new()), self.net.clone(), self.account.clone());
        self.jobs.spawn(async move {
            let plain = async {
                if let Err(error) = net.publish(key, signed.await).await {
                    tracing::debug!(%error, "the number could not be withdrawn; its record expires by itself");
                }
            };
            tokio::join!(plain, publish_chosen(&net, &account, &[], seq, false));
        });
    }

    /// Takes up the certificate of the chosen number by which this account is shown to those whom it calls: the first that is valid.
    pub(super) async fn load_shown(&mut self) {
        let held = match self.account.chosen().await {
            Ok(held) => held,
            Err(error) => return tracing::error!(%error, "the chosen numbers could not be read"),
        };
        let now = wall_clock();
        let shown = held.into_iter().map(|held| held.cert).find(|cert| cert.verify(now).is_ok());
        if self.shown_as != shown {
            self.shown_as = shown;
            self.introduce(self.net.routes());
        }
    }

    /// Tells of chosen numbers that cannot be called, each once, and tries those again soon that others may yet take.
    fn on_chosen(&mut self, outcomes: Vec<ChosenOutcome>) {
        for ChosenOutcome { number, result } in outcomes {
            let (code, why) = match result {
                Ok(Done::Published(place)) => {
                    self.lamented.remove(&number);
                    self.published_chosen.insert(number, place);
                    continue;
                }
                Ok(Done::Withdrawn) => {
                    self.published_chosen.remove(&number);
                    continue;
                }
                Err(Unpublished::Expired) => (
                    ErrorCode::NumberExpired,
                    format!(
                        "the certificate of {number} has run out: nobody can call it until its directory has renewed it"
                    ),
                ),
                Err(Unpublished::Network(PublishError::Offline | PublishError::Stopped)) => {
                    self.publisher.again_by(Instant::now() + CHOSEN_RETRY);
                    continue;
                }
                Err(Unpublished::Network(error)) => {
                    self.publisher.again_by(Instant::now() + CHOSEN_RETRY);
                    (ErrorCode::PublishFailed, format!("{number} could not be published: {error}"))
                }
            };
            if self.lamented.insert(number) {
                self.emit(Event::Error { code, message: why });
            }
        }
    }

    /// The account's record, and one of this terminal that leads to `addrs`, newer than all before. Ready when its
    /// sequence is on disk.
    fn sign_record(
        &mut self,
        addrs: Vec<NodeAddr>,
    ) -> (UnixMillis, impl Future<Output = RecordSet> + Send + use<>) {
        let seq = self.publisher.next_seq(wall_clock());
        let record = TerminalRecord {
            number: self.account.number().clone(),
            cert: self.account.cert(),
            addrs,
            seq,
            expires: seq.plus(LIFE),
        };
        let terminals = vec![record.sign(self.account.terminal_key())];
        let set = RecordSet { account: Some(self.account.account_record()), terminals };
        let account = self.account.clone();
        let signed = async move {
            if let Err(error) = account.set_setting(SEQ_SETTING, Some(&seq.0.to_string())).await {
                // To be found is worth more than to be found after a restart with a wrong clock.
                tracing::error!(%error, "a record's sequence could not be kept");
            }
            set
        };
        (seq, signed)
    }

    pub(super) fn on_published(&mut self, result: Result<Reach, PublishError>, chosen: Vec<ChosenOutcome>) {
        let now = Instant::now();
        match result {
            Ok(Reach::Network(holders)) => {
                tracing::debug!(holders, "published and read back");
                self.publisher.done(now);
                self.publisher.published = Some(wall_clock());
                self.move_if_due();
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
        self.on_chosen(chosen);
        self.update_line();
    }

    /// Why the number cannot be called although the network is there. Told once, not at every try.
    fn tell_failure(&self, error: PublishError) {
        let code = match error {
            PublishError::Incumbent => ErrorCode::NumberTaken,
            PublishError::Invalid(_)
            | PublishError::Descriptor(_)
            | PublishError::Proof
            | PublishError::NotHeld(_) => ErrorCode::PublishFailed,
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
        let line = self.publisher.judge(Near::of(&self.status.borrow()), Instant::now());
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

/// What became of a chosen number's records.
pub(super) struct ChosenOutcome {
    number: Number,
    result: Result<Done, Unpublished>,
}

/// What was done with them.
enum Done {
    Published(Box<Place>),
    /// The account has the number no more: nobody is sent here any longer, or somebody else has it already.
    Withdrawn,
}

/// Where this terminal was published under a chosen number, and by which account record.
#[derive(Clone)]
pub(super) struct Place {
    key: RecordKey,
    record: SignedAccount,
}

/// Why they are not in the network.
enum Unpublished {
    /// The directory's certificate is over.
    Expired,
    Network(PublishError),
}

async fn publish_set(net: &Net, key: RecordKey, set: RecordSet, here: bool) -> Result<Reach, PublishError> {
    if here {
        return net.hold(key, set).await.map(|()| Reach::Here);
    }
    net.publish(key, set).await.map(|published| Reach::Network(published.holders))
}

/// Publishes this terminal under all chosen numbers whose certificates are valid, which they need not be for long.
async fn publish_chosen(
    net: &Net,
    account: &AccountStore,
    addrs: &[NodeAddr],
    seq: UnixMillis,
    here: bool,
) -> Vec<ChosenOutcome> {
    let held = match account.chosen().await {
        Ok(held) => held,
        Err(error) => {
            tracing::error!(%error, "the chosen numbers could not be read");
            return Vec::new();
        }
    };
    let publications = held.into_iter().map(|HeldNumber { number, cert, record, .. }| async move {
        let Ok(certified) = cert.verify(wall_clock()) else {
            return ChosenOutcome { number, result: Err(Unpublished::Expired) };
        };
        let Some(key) = number.record_key(Some(&certified.directory)) else {
            return ChosenOutcome { number, result: Err(Unpublished::Expired) };
        };
        let set = set_of(account, &number, record.clone(), addrs, seq);
        let result = publish_set(net, key, set, here).await;
        let done = |_| Done::Published(Box::new(Place { key, record }));
        ChosenOutcome { number, result: result.map(done).map_err(Unpublished::Network) }
    });
    futures::future::join_all(publications).await
}

/// Tells the network that this terminal is not under numbers any more that the account had in this run and has given up since. Records
/// would send callers here until they lapse by themselves.
async fn withdraw_given_up(
    net: &Net,
    account: &AccountStore,
    mut published: BTreeMap<Number, Box<Place>>,
    seq: UnixMillis,
) -> Vec<ChosenOutcome> {
    // An error is told where they are published.
    let Ok(held) = account.chosen().await else { return Vec::new() };
    held.iter().for_each(|held| drop(published.remove(&held.number)));
    let withdrawals = published.into_iter().map(|(number, place)| async move {
        let set = set_of(account, &number, place.record, &[], seq);
        let result = match net.publish(place.key, set).await {
            Err(error @ (PublishError::Offline | PublishError::Stopped)) => Err(Unpublished::Network(error)),
            Ok(_) => Ok(Done::Withdrawn),
            Err(error) => {
                tracing::debug!(%error, "a number that was given up could not be withdrawn");
                Ok(Done::Withdrawn)
            }
        };
        ChosenOutcome { number, result }
    });
    futures::future::join_all(withdrawals).await
}

/// The account's record for a chosen number, and one of this terminal that leads to `addrs`.
fn set_of(
    account: &AccountStore,
    number: &Number,
    record: SignedAccount,
    addrs: &[NodeAddr],
    seq: UnixMillis,
) -> RecordSet {
    let terminal = TerminalRecord {
        number: number.clone(),
        cert: account.cert(),
        addrs: addrs.to_vec(),
        seq,
        expires: seq.plus(LIFE),
    };
    RecordSet { account: Some(record), terminals: vec![terminal.sign(account.terminal_key())] }
}

/// A terminal and a directory in one process.
#[cfg(test)]
#[allow(clippy::wildcard_enum_match_arm, reason = "a test looks at what it is about")]
mod whole {
    use super::*;
    use crate::api::TimedEvent;
    use crate::audio::DeviceSpec;
    use crate::engine::{self, REPUBLISH, Request};
    use crate::net::{LookupEvent, NetConfig, NetEvent, Role};
    use crate::phone::Phone;
    use crate::storage::{AccountId, Home, NewAccount, Password};
    use offhook_proto::identity::SignedCert;
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
                // Before it has a place at its directory it says that it is on line, and not yet where.
                for terminal in
                    terminals.iter().filter(|terminal| terminal.addrs.iter().any(NodeAddr::is_relayed))
                {
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
        let long_ago = UnixMillis(wall_clock().0 - 500 * 86_400_000);
        let cert = offhook_proto::wire::encode(&SignedCert::issue(&key, terminal, seal, long_ago));
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
        let mut raw = sqlx::ConnectOptions::connect(&options).await.unwrap();
        sqlx::query("UPDATE terminal SET cert = ?").bind(cert).execute(&mut raw).await.unwrap();
        sqlx::Connection::close(raw).await.unwrap();

        let (_phone, mut events) = scene.start(REPUBLISH).await;
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
