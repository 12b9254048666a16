//! The task that owns the machines and drives their effects.
//!
//! [`Engine::run`] takes one input at a time (a request of the API, a network event, a media event, a
//! time-out, the result of a background job), gives it to the call machine, and carries out what the
//! machine puts out. Nothing in it waits for the network: look-ups, sends, slow proofs and publications run
//! in tasks that report back as [`Internal`].

mod calls;
mod claims;
mod commands;
mod devices;
mod dialling;
mod directories;
mod inbound;
mod keys;
mod legs;
mod machine;
mod mailbox;
mod metrics;
mod outbox;
mod outputs;
mod presence;
mod proofs;
mod publish;
mod publisher;
mod recording;
mod relays;
mod screening;
mod shown;
mod stats;
mod status;
mod terminals;
mod texts;
mod transfers;
mod voicemail;

use crate::TurnServer;
use crate::api::{
    ApiError, CallRef, Command, Event, LineState, PresenceInfo, Reply, TimedEvent, Visibility, Volumes,
    monotonic_ns,
};
use crate::audio::{DeviceChoice, DeviceInfo, HoldMusic, Processing, Tone, TonePlayer};
use crate::clock::wall_clock;
use crate::directory::Keeper;
use crate::media::{PortMapper, Relay};
use crate::net::{Net, NetConfig, NetEvent, NetStatus, Role, Times};
use crate::phone::{AnswerMode, CallState, PhoneBuilder, PhoneError, Serve};
use crate::sites::Sites;
use crate::storage::{AccountStore, Home};
use calls::CallViews;
use dialling::Search;
use legs::Legs;
use machine::Machines;
use offhook_proto::call::{CallConfig, Calls, LegId, Now, Peer};
use offhook_proto::number::{NodeAddr, Number};
use offhook_proto::proof::{ProofTask, SignedChosenCert};
use offhook_proto::signalling::CallId;
use presence::Book;
use proofs::Proofs;
use publisher::Publisher;
use recording::Recorders;
use screening::Screener;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::task::TaskTracker;

/// Requests that may wait for the engine; a caller of the API waits beyond that.
const REQUEST_QUEUE: usize = 64;

/// Results of background jobs that may wait for the engine; the jobs wait beyond that.
const INTERNAL_QUEUE: usize = 256;

/// What the handles ask of the engine.
#[derive(Debug)]
pub(crate) enum Request {
    /// A command of the API.
    Execute(Command, oneshot::Sender<Result<Reply, ApiError>>),
    /// The state of a call, from now on.
    Watch(CallRef, oneshot::Sender<Result<watch::Receiver<CallState>, ApiError>>),
    /// How calls go, from now on.
    Follow(oneshot::Sender<broadcast::Receiver<TimedEvent>>),
    /// Other devices, of the embedding program perhaps.
    UseDevices(DeviceChoice, devices::Answer),
    /// Something that every handle hears of.
    Tell(Event),
    /// Metrics in Prometheus text form.
    Metrics(oneshot::Sender<String>),
}

/// Results of the engine's own background jobs.
enum Internal {
    Lookup(Box<dialling::LookupNews>),
    LookAgain(CallId),
    Directory(directories::News),
    Shown(Box<shown::Judged>),
    Proven(ProofTask),
    TextWritten(texts::Written),
    SendFailed(LegId, Arc<Peer>),
    Relay(LegId, Relay),
    Published(Result<publish::Reach, crate::net::PublishError>, Vec<publish::ChosenOutcome>),
    DevicesFound(DeviceChoice, devices::Answer),
    DevicesChanged(Vec<DeviceInfo>),
    Recorder(recording::News),
    Machine(machine::News),
    Screening(screening::News),
    Mail(Box<mailbox::News>),
    Letter(Box<outbox::News>),
}

/// Open the account, start the network, and spawn the engine.
pub(crate) async fn start(
    settings: PhoneBuilder,
    events: broadcast::Sender<TimedEvent>,
    line: watch::Sender<LineState>,
) -> Result<(mpsc::Sender<Request>, Number), PhoneError> {
    let home = Home::open(&settings.home)?;
    let id = match &settings.account {
        Some(id) => id.parse()?,
        None => home.current().await?,
    };
    let account = home.open_account(&id).await?;
    let given_up = account.give_up_unsent().await?;
    tracing::debug!(given_up, "messages that an earlier run left on their way");
    let volumes = keys::volumes(&account).await?;
    let presence = presence::kept(&account).await?;
    let publisher = Publisher::new(settings.republish, publish::last_seq(&account).await?, Instant::now());
    let screener = Screener::load(&account).await?;
    let (net, net_events) = Net::start(net_config(&settings, &account)?).await?;
    let (requests, requests_rx) = mpsc::channel(REQUEST_QUEUE);
    let keeper = Keeper::start(account.clone(), requests.downgrade());
    let number = account.number().clone();
    let mut engine = Engine::new(settings, account, net, publisher, screener, events, line);
    engine.volumes = volumes;
    engine.presence = presence;
    engine.tones.set_volumes(keys::loudness(volumes.speaker), keys::loudness(volumes.ringer));
    engine.load_music();
    engine.keeper = Some(keeper);
    engine.move_in();
    tokio::spawn(engine.run(requests_rx, net_events));
    Ok((requests, number))
}

/// Both clocks.
fn now() -> Now {
    Now { instant: Instant::now(), wall: wall_clock() }
}

pub(crate) struct Engine {
    account: AccountStore,
    net: Net,
    events: broadcast::Sender<TimedEvent>,
    calls: Calls,
    views: CallViews,
    legs: Legs,
    searches: BTreeMap<CallId, Search>,
    /// Entry points named by the invitation link dialled last.
    link_entries: Vec<NodeAddr>,
    proofs: Proofs,
    shown: shown::Shown,
    /// Asks directories who they are.
    sites: Arc<dyn Sites>,
    /// When it was last looked where the account's directories are.
    moved_in: Instant,
    /// The certificate of the chosen number by which this account is shown.
    shown_as: Option<SignedChosenCert>,
    /// Chosen numbers about whose failures the user was told.
    lamented: BTreeSet<Number>,
    /// Chosen numbers under which this terminal is published: those that are given up are withdrawn.
    published_chosen: BTreeMap<Number, Box<publish::Place>>,
    status: watch::Receiver<NetStatus>,
    publisher: Publisher,
    /// Texts on their way to disk.
    texts: mpsc::Sender<texts::Arrived>,
    /// When mailboxes are looked into.
    collector: mailbox::Collector,
    /// Letters on their way to those who were not on line.
    letters: outbox::Letters,
    /// When to look at the certificate's end again.
    reminder: Instant,
    /// Whether this terminal was last told to serve the network.
    serves: bool,
    /// What the handles see of `publisher.line`.
    line: watch::Sender<LineState>,
    devices: devices::Devices,
    processing: Processing,
    tones: TonePlayer,
    volumes: Volumes,
    /// Tones are heard in calls, too.
    call_tones: bool,
    music: HoldMusic,
    presence: Book,
    screener: Screener,
    /// The contact list, or what is known of keys, may be another since it was read.
    contacts_changed: bool,
    /// Calls put on hold or taken back so far.
    holds: u64,
    /// What tells how the last call ended.
    parting: Option<Tone>,
    answer: AnswerMode,
    recorders: Recorders,
    machines: Machines,
    allow_loopback: bool,
    relay_only: bool,
    turn: Vec<TurnServer>,
    ports: Option<PortMapper>,
    followers: stats::Followers,
    tally: metrics::Tally,
    jobs: TaskTracker,
    /// Those of them that write the history of calls.
    histories: TaskTracker,
    internal: mpsc::Sender<Internal>,
    internal_rx: Option<mpsc::Receiver<Internal>>,
    stopping: bool,
    /// Keeps the account's directories up to date.
    keeper: Option<Keeper>,
}

impl Engine {
    fn new(
        settings: PhoneBuilder,
        account: AccountStore,
        net: Net,
        publisher: Publisher,
        screener: Screener,
        events: broadcast::Sender<TimedEvent>,
        line: watch::Sender<LineState>,
    ) -> Self {
        let (internal, internal_rx) = mpsc::channel(INTERNAL_QUEUE);
        let allow_loopback = allow_loopback(&settings);
        let jobs = TaskTracker::new();
        let texts = texts::start(account.clone(), &jobs, internal.clone());
        let party = outputs::local_party(&account, net.routes(), None);
        let calls = Calls::new(call_config(&settings), party);
        let status = net.watch();
        let devices = devices::Devices::new(&settings);
        let tones = devices.player(account.ringtone());
        let ports = port_mapper(&settings, &jobs);
        Self {
            account,
            net,
            status,
            events,
            calls,
            views: CallViews::default(),
            legs: Legs::new(),
            searches: BTreeMap::new(),
            link_entries: Vec::new(),
            proofs: Proofs::default(),
            shown: shown::Shown::default(),
            sites: settings.sites.clone(),
            shown_as: None,
            lamented: BTreeSet::new(),
            published_chosen: BTreeMap::new(),
            moved_in: Instant::now(),
            publisher,
            texts,
            collector: mailbox::Collector::default(),
            letters: outbox::Letters::default(),
            reminder: Instant::now() + status::REMIND_EVERY,
            serves: false,
            line,
            devices,
            processing: settings.processing,
            tones,
            volumes: Volumes::default(),
            call_tones: settings.tones,
            music: HoldMusic::default(),
            presence: Book::new(PresenceInfo::default(), Visibility::Nobody, Instant::now()),
            screener,
            contacts_changed: true,
            holds: 0,
            parting: None,
            answer: settings.answer,
            recorders: Recorders::new(settings.recordable),
            machines: Machines::new((settings.answer == AnswerMode::Machine).then_some(settings.machine)),
            allow_loopback,
            relay_only: settings.relay_only,
            turn: settings.turn,
            ports,
            followers: stats::Followers::new(Instant::now()),
            tally: metrics::Tally::default(),
            jobs,
            histories: TaskTracker::new(),
            internal,
            internal_rx: Some(internal_rx),
            stopping: false,
            keeper: None,
        }
    }

    /// The loop. Ends after [`Command::Shutdown`], or when every handle is gone.
    async fn run(mut self, mut requests: mpsc::Receiver<Request>, mut net_events: mpsc::Receiver<NetEvent>) {
        // Taken once: `new` put it there.
        let Some(mut internal) = self.internal_rx.take() else { return };
        self.load_shown().await;
        self.keep_routes().await;
        self.reload_contacts().await;
        self.reload_policy().await;
        self.load_letters().await;
        while !self.stopping {
            let timer = self.next_timeout();
            tokio::select! {
                request = requests.recv() => match request {
                    Some(request) => self.on_request(request).await,
                    None => self.stopping = true,
                },
                event = net_events.recv() => match event {
                    Some(event) => self.on_net(event).await,
                    None => self.stopping = true,
                },
                Ok(()) = self.status.changed() => self.on_net_status(),
                Some(result) = internal.recv() => self.on_internal(result).await,
                Some((leg, event)) = self.legs.next_event() => self.on_media(leg, event),
                () = tokio::time::sleep_until(timer.into()) => self.on_timeout(),
            }
            self.send_letters();
            self.drain().await;
            self.sound();
            self.tell_presence().await;
        }
        self.shut_down(requests, internal).await;
    }

    fn next_timeout(&self) -> Instant {
        let idle = Instant::now() + std::time::Duration::from_secs(60);
        let calls = [self.calls.poll_timeout(), self.recorders.poll_timeout(), self.machines.poll_timeout()];
        let own = [self.publisher.poll_timeout(), self.presence.poll_timeout(), self.screener.poll_timeout()];
        let letters = [self.collector.poll_timeout(), self.letters.poll_timeout(), Some(self.reminder)];
        let own = own.into_iter().chain(letters);
        own.chain(calls).chain([self.stats_due()]).flatten().fold(idle, Instant::min)
    }

    fn on_timeout(&mut self) {
        self.calls.handle_timeout(now());
        self.recording_timeouts(Instant::now());
        self.machine_timeouts(Instant::now());
        self.publish_if_due(Instant::now());
        self.remind_if_due(Instant::now());
        self.keep_refused_if_due(Instant::now());
        self.presence.set_quiet(Instant::now(), self.screener.is_quiet());
        self.collect_if_due(Instant::now());
        self.tell_stats(Instant::now());
        self.update_line();
    }

    async fn on_internal(&mut self, result: Internal) {
        match result {
            Internal::Lookup(news) => self.on_lookup(*news).await,
            Internal::LookAgain(call) => self.look_again(call),
            Internal::Directory(news) => self.on_directory(news).await,
            Internal::Shown(judged) => self.on_shown(*judged).await,
            Internal::Proven(task) => self.on_proven(task).await,
            Internal::TextWritten(written) => self.on_text_written(written),
            Internal::SendFailed(leg, peer) => self.on_send_failed(leg, &peer),
            Internal::Relay(leg, relay) => self.with_media(&leg, |media| media.add_relay(relay)),
            Internal::Published(result, chosen) => self.on_published(result, chosen),
            Internal::DevicesFound(choice, answer) => self.on_devices_found(&choice, answer),
            Internal::DevicesChanged(devices) => self.emit(Event::DevicesChanged { devices }),
            Internal::Recorder(news) => self.on_recorder(news),
            Internal::Machine(news) => self.on_machine(news),
            Internal::Screening(news) => self.on_screening(news).await,
            Internal::Mail(news) => self.on_mail(*news).await,
            Internal::Letter(news) => self.on_letter(*news).await,
        }
    }

    async fn on_request(&mut self, request: Request) {
        match request {
            Request::Execute(command, reply) => self.execute(command, reply).await,
            Request::Tell(event) => {
                self.contacts_changed = true;
                self.emit(event);
            }
            Request::Watch(call, reply) => {
                // An error means that the asker went away.
                let _ = reply.send(self.views.watch(&call));
            }
            Request::Follow(reply) => {
                let _ = reply.send(self.followers.follow(Instant::now()));
            }
            Request::UseDevices(choice, answer) => self.use_devices(Ok(choice), answer),
            Request::Metrics(reply) => {
                let _ = reply.send(self.metrics());
            }
        }
    }

    /// Hang up everything, withdraw the number, tell the peers, close the network and the account.
    /// Dropping `requests` last is what [`Phone::shutdown`](crate::phone::Phone::shutdown) waits for.
    async fn shut_down(mut self, requests: mpsc::Receiver<Request>, internal: mpsc::Receiver<Internal>) {
        self.keeper = None;
        self.tones.play(None);
        self.calls.hang_up_all(now());
        self.drain().await;
        self.tell_farewell().await;
        self.keep_refused();
        self.withdraw();
        self.legs.close_all().await;
        // Texts that came before are written; nobody hears of it any more, so they come again and are known then.
        self.texts = mpsc::channel(1).0;
        // Nor does a leg want a port of the router: those that are open are closed.
        self.ports = None;
        self.jobs.close();
        // Last words are given a moment; what a dead network keeps longer is not waited for.
        let _ =
            tokio::time::timeout(std::time::Duration::from_secs(2), self.finish_recordings(internal)).await;
        self.net.shutdown().await;
        self.account.close().await;
        drop(requests);
    }

    /// Waits for the jobs. Recordings end with their calls, and how is told, too.
    async fn finish_recordings(&mut self, mut internal: mpsc::Receiver<Internal>) {
        let jobs = self.jobs.clone();
        let mut done = std::pin::pin!(jobs.wait());
        loop {
            let result = tokio::select! {
                biased;
                Some(result) = internal.recv() => result,
                () = &mut done => break,
            };
            self.at_last(result);
        }
        // What came together with the end of the last job.
        while let Ok(result) = internal.try_recv() {
            self.at_last(result);
        }
    }

    fn at_last(&mut self, result: Internal) {
        if let Internal::Recorder(news) = result {
            self.on_recorder(news);
        }
    }

    /// Tell every subscriber.
    fn emit(&self, event: Event) {
        // An error means that nobody listens, which is allowed.
        let _ = self.events.send(TimedEvent { t_ns: monotonic_ns(), event });
    }
}

/// How often the number is published though nothing has changed.
pub(crate) use publisher::INTERVAL as REPUBLISH;

/// Whether the sound of a call may go to this host itself: in a laboratory, as it is when it is said to be one or when
/// the network is entered through this host.
fn allow_loopback(settings: &PhoneBuilder) -> bool {
    let here = |addr: &String| addr.starts_with("/ip4/127.") || addr.starts_with("/ip6/::1/");
    settings.allow_private.unwrap_or_else(|| settings.entry.iter().any(here))
}

/// What asks the router for ports. Nobody is to learn of a port of a terminal that hides its address.
fn port_mapper(settings: &PhoneBuilder, jobs: &TaskTracker) -> Option<PortMapper> {
    (settings.port_mapping && !settings.relay_only).then(|| {
        let (ports, work) = PortMapper::new();
        jobs.spawn(work);
        ports
    })
}

fn call_config(settings: &PhoneBuilder) -> CallConfig {
    CallConfig {
        ring_timeout: settings.ring_timeout,
        max_calls: keys::MAX_CALLS,
        // Who answers everything at once cannot be asked what to do about a second call.
        call_waiting: settings.call_waiting && settings.answer != AnswerMode::Auto,
        transfers: settings.transfers,
        ..CallConfig::default()
    }
}

fn net_config(settings: &PhoneBuilder, account: &AccountStore) -> Result<NetConfig, PhoneError> {
    let parse = |addrs: &[String]| -> Result<Vec<NodeAddr>, PhoneError> {
        addrs.iter().map(|a| a.parse().map_err(|_| PhoneError::Address(a.clone()))).collect()
    };
    let (role, prove) = match settings.serve {
        Serve::Always => (Role::Server, false),
        // Who hides the address does not offer it to the network.
        Serve::Auto => (Role::Terminal, !settings.relay_only),
        Serve::Off => (Role::Terminal, false),
    };
    let mut config = NetConfig::new(*account.terminal_key().seed(), role);
    if prove {
        config = config.proving(Times::default());
    }
    config.cert = Some(account.cert());
    config.data = Some(account.data_dir().to_owned());
    config.listen = parse(&settings.listen)?;
    config.external = parse(&settings.external)?;
    config.entry = parse(&settings.entry)?;
    config.mdns = settings.mdns;
    // While it serves. Any port, both families: registered terminals are told which.
    config.stun = Some(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)));
    config.publish_direct = settings.publish_address;
    config.allow_private = settings.allow_private;
    Ok(config)
}
