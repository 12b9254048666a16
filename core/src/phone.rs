//! The public handles: [`Phone`], built with [`Phone::builder`], and its [`Call`]s.
//!
//! A [`Phone`] is a cheap handle to one running terminal of one account. Everything that it can do is a
//! [`Command`] ([`Phone::execute`]); the methods are typed short cuts. What happens comes as [`Event`]s.
//!
//! ```no_run
//! use futures::StreamExt;
//! use offhook::{api::Event, audio::DeviceSpec, phone::Phone};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let phone = Phone::builder("/home/ada/.offhook")
//!     .entry(["/dns4/directory.example/udp/4001/quic-v1/p2p/12D3KooWExample".to_owned()])
//!     .mic(DeviceSpec::Default)
//!     .speaker(DeviceSpec::Default)
//!     .build()
//!     .await?;
//! phone.online().await?;
//! println!("my number is {}", phone.number());
//! let call = phone.dial("4821 0937 5567").await?;
//! let why = call.ended().await;
//! println!("the call is over: {}", why.code());
//! phone.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod answer;
mod call;

pub use answer::{AnswerMode, Machine};
pub use call::{Call, CallState};

use crate::TurnServer;
use crate::api::{ApiError, Command, ErrorCode, Event, LineState, Reply, TimedEvent};
use crate::audio::{AudioError, DeviceChoice, DeviceSpec, Processing};
use crate::engine::{self, Request};
use crate::net::NetError;
use crate::sites::{Sites, Web};
use crate::storage::StorageError;
use futures::{Stream, StreamExt, stream};
pub use offhook_proto::call::TransferPolicy;
use offhook_proto::number::Number;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_stream::wrappers::BroadcastStream;

/// How many events a subscriber may fall behind before it misses the oldest.
pub const EVENT_BACKLOG: usize = 1024;

/// Whether a telephone serves the network, too: holds records of the DHT, passes signalling on and answers STUN, all in
/// small numbers, and never carries anybody's media. Whoever serves is known to the network with its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Serve {
    /// While strangers are proved to reach it. Never with [`relay_only`](PhoneBuilder::relay_only), which hides the address.
    Auto,
    /// In any case: the user says that it is reachable.
    Always,
    /// Never: where it is stays between it and those whom it meets.
    #[default]
    Off,
}

/// Why a telephone could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PhoneError {
    /// The account is not there, or its files could not be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The network could not be started.
    #[error(transparent)]
    Net(#[from] NetError),
    /// An entry point or listening address is not one.
    #[error(
        "`{0}` is not an address that Offhook understands (a multiaddr such as /ip4/192.0.2.1/udp/4001/quic-v1/p2p/…)"
    )]
    Address(String),
    /// A microphone or loudspeaker is not there.
    #[error(transparent)]
    Audio(#[from] AudioError),
}

impl PhoneError {
    /// The same error in the API's vocabulary.
    pub fn to_api(&self) -> ApiError {
        let code = match self {
            Self::Storage(error) => error.code(),
            Self::Net(NetError::Addr { .. }) | Self::Address(_) | Self::Audio(_) => ErrorCode::BadInput,
            Self::Net(
                NetError::Listen { .. }
                | NetError::Stun { .. }
                | NetError::Store(_)
                | NetError::Mdns(_)
                | NetError::Transport(_),
            ) => ErrorCode::Network,
        };
        ApiError::new(code, self.to_string())
    }
}

/// TURN servers of one's own that are used.
pub const MAX_TURN_SERVERS: usize = 4;

/// Settings of a [`Phone`]; every default is written beside its setter.
#[derive(Debug, Clone)]
pub struct PhoneBuilder {
    pub(crate) home: PathBuf,
    pub(crate) account: Option<String>,
    pub(crate) listen: Vec<String>,
    pub(crate) entry: Vec<String>,
    pub(crate) external: Vec<String>,
    pub(crate) serve: Serve,
    pub(crate) mdns: bool,
    pub(crate) publish_address: bool,
    pub(crate) relay_only: bool,
    pub(crate) port_mapping: bool,
    pub(crate) turn: Vec<TurnServer>,
    pub(crate) allow_private: Option<bool>,
    pub(crate) mic: DeviceSpec,
    pub(crate) speaker: DeviceSpec,
    pub(crate) ringer: Option<DeviceSpec>,
    pub(crate) tones: bool,
    pub(crate) processing: Processing,
    pub(crate) answer: AnswerMode,
    pub(crate) machine: Machine,
    pub(crate) recordable: bool,
    pub(crate) call_waiting: bool,
    pub(crate) transfers: TransferPolicy,
    pub(crate) ring_timeout: Duration,
    pub(crate) sites: Arc<dyn Sites>,
    /// How often the number is published though nothing has changed; always the same outside tests.
    pub(crate) republish: Duration,
}

impl PhoneBuilder {
    /// The account's ID. Default: the one chosen with `offhook account use`.
    pub fn account(mut self, id: impl Into<String>) -> Self {
        self.account = Some(id.into());
        self
    }

    /// Multiaddrs to listen on. Default: any free UDP (QUIC) and TCP port of every interface.
    pub fn listen(mut self, addrs: impl IntoIterator<Item = String>) -> Self {
        self.listen = addrs.into_iter().collect();
        self
    }

    /// Entry points into the network: multiaddrs ending in `/p2p/…`, or `/dnsaddr/…`. Default: those
    /// remembered from last time.
    pub fn entry(mut self, addrs: impl IntoIterator<Item = String>) -> Self {
        self.entry = addrs.into_iter().collect();
        self
    }

    /// Addresses at which the internet reaches this terminal, if it does. Default: none.
    pub fn external(mut self, addrs: impl IntoIterator<Item = String>) -> Self {
        self.external = addrs.into_iter().collect();
        self
    }

    /// Whether to serve the network; with [`Serve::Always`] it needs an address that the internet reaches, its own or
    /// [`external`](Self::external). Default: [`Serve::Off`].
    pub fn serve(mut self, serve: Serve) -> Self {
        self.serve = serve;
        self
    }

    /// Find and be found on the local network by multicast DNS. Default: yes.
    pub fn mdns(mut self, on: bool) -> Self {
        self.mdns = on;
        self
    }

    /// Publish this terminal's own addresses to everybody, not only relayed ones. Default: no.
    pub fn publish_address(mut self, on: bool) -> Self {
        self.publish_address = on;
        self
    }

    /// Send sound through relays only, so that nobody one talks to learns this terminal's address, contacts included.
    /// Needs a directory or [TURN server](Self::turn) that relays; a call that finds none fails. Default: no.
    pub fn relay_only(mut self, on: bool) -> Self {
        self.relay_only = on;
        self
    }

    /// Ask the router, if there is one that offers it (UPnP-IGD, NAT-PMP, PCP), to open a port for each call, so that sound
    /// needs no relay. Never with [`relay_only`](Self::relay_only). Default: yes.
    pub fn port_mapping(mut self, on: bool) -> Self {
        self.port_mapping = on;
        self
    }

    /// TURN servers of one's own, used beside the relays of the directories; at most the first
    /// [`MAX_TURN_SERVERS`]. Default: none.
    pub fn turn(mut self, servers: impl IntoIterator<Item = TurnServer>) -> Self {
        self.turn = servers.into_iter().take(MAX_TURN_SERVERS).collect();
        self
    }

    /// Treat private and loopback addresses as public ones: laboratories and closed networks. Default: only while no
    /// public address is configured, remembered or reached (or its own, if it serves), as on a LAN of its own; see
    /// [`NetConfig::allow_private`](crate::net::NetConfig::allow_private).
    pub fn allow_private(mut self, on: bool) -> Self {
        self.allow_private = Some(on);
        self
    }

    /// The microphone. Default: the system's.
    pub fn mic(mut self, device: DeviceSpec) -> Self {
        self.mic = device;
        self
    }

    /// The loudspeaker. Default: the system's.
    pub fn speaker(mut self, device: DeviceSpec) -> Self {
        self.speaker = device;
        self
    }

    /// What rings: the bell of an incoming call. Default: the loudspeaker. Nothing rings into a file.
    pub fn ringer(mut self, device: DeviceSpec) -> Self {
        self.ringer = Some(device);
        self
    }

    /// Whether ringback, busy and such are heard from the loudspeaker. Default: they are; a program that records what it hears, or
    /// answers it, wants the other end alone.
    pub fn tones(mut self, on: bool) -> Self {
        self.tones = on;
        self
    }

    /// What is done to the microphone's sound. Default: everything.
    pub fn processing(mut self, processing: Processing) -> Self {
        self.processing = processing;
        self
    }

    /// What to do when it rings. Default: [`AnswerMode::Manual`].
    pub fn answer(mut self, mode: AnswerMode) -> Self {
        self.answer = mode;
        self
    }

    /// How the answering machine does its work, with [`AnswerMode::Machine`].
    pub fn machine(mut self, machine: Machine) -> Self {
        self.machine = machine;
        self
    }

    /// Whether others may record calls with this terminal; one is told of it either way, and may refuse in a call
    /// ([`Command::Recordable`]). Default: they may.
    pub fn recordable(mut self, on: bool) -> Self {
        self.recordable = on;
        self
    }

    /// Whether a call that comes in during another one waits, with a tone that says so; otherwise its caller hears busy, as always
    /// with [`AnswerMode::Auto`]. Default: it waits.
    pub fn call_waiting(mut self, on: bool) -> Self {
        self.call_waiting = on;
        self
    }

    /// Whose requests to call somebody else instead are shown to the user; nobody is called without the user's consent. Default:
    /// contacts'.
    pub fn transfers(mut self, policy: TransferPolicy) -> Self {
        self.transfers = policy;
        self
    }

    /// How long a call rings before it counts as not answered. Default: 45 s.
    pub fn ring_timeout(mut self, time: Duration) -> Self {
        self.ring_timeout = time;
        self
    }

    /// How directories are asked who they are, when a number of theirs is dialled for the first time. Default: at
    /// `https://NAME/.well-known/offhook`.
    pub fn sites(mut self, sites: impl Sites + 'static) -> Self {
        self.sites = Arc::new(sites);
        self
    }

    /// Open the account, go on line, and return the handle. Returns as soon as the network is started;
    /// [`Phone::online`] waits until the number can be called.
    ///
    /// # Errors
    /// [`PhoneError`] if there is no account, it is in use by another program, its files cannot be read, an
    /// address is not one, a sound device or file is not there, or no socket can be opened.
    pub async fn build(self) -> Result<Phone, PhoneError> {
        let (mic, speaker) = (Some(self.mic.clone()), Some(self.speaker.clone()));
        let choice = DeviceChoice { mic, speaker, ringer: self.ringer.clone() };
        // Sound systems take their time to answer.
        match tokio::task::spawn_blocking(move || choice.check()).await {
            Ok(checked) => checked?,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
        let (events, _) = broadcast::channel(EVENT_BACKLOG);
        let (line_in, line) = watch::channel(LineState::Starting);
        let told = events.downgrade();
        let (requests, number) = engine::start(self, events, line_in).await?;
        Ok(Phone { requests, events: told, line, number })
    }
}

/// A running terminal. Clones are handles to the same one; it runs until [`Phone::shutdown`] or until the
/// last handle is dropped.
#[derive(Debug, Clone)]
pub struct Phone {
    requests: mpsc::Sender<Request>,
    /// The engine holds the only one that keeps them going.
    events: broadcast::WeakSender<TimedEvent>,
    line: watch::Receiver<LineState>,
    number: Number,
}

impl Phone {
    /// Settings for a telephone whose accounts live in the directory `home`.
    pub fn builder(home: impl Into<PathBuf>) -> PhoneBuilder {
        PhoneBuilder {
            home: home.into(),
            account: None,
            listen: Vec::new(),
            entry: Vec::new(),
            external: Vec::new(),
            serve: Serve::default(),
            mdns: true,
            publish_address: false,
            relay_only: false,
            port_mapping: true,
            turn: Vec::new(),
            allow_private: None,
            mic: DeviceSpec::Default,
            speaker: DeviceSpec::Default,
            ringer: None,
            tones: true,
            processing: Processing::default(),
            answer: AnswerMode::Manual,
            machine: Machine::default(),
            recordable: true,
            call_waiting: true,
            transfers: TransferPolicy::default(),
            ring_timeout: Duration::from_secs(45),
            sites: Arc::new(Web::default()),
            republish: engine::REPUBLISH,
        }
    }

    /// The account's number.
    pub fn number(&self) -> &Number {
        &self.number
    }

    /// How the telephone stands with the network now.
    pub fn line(&self) -> LineState {
        *self.line.borrow()
    }

    /// Wait until the telephone can be called; at once if it can. There may never be a network: bound the wait, or
    /// use [`until_line`](Self::until_line).
    ///
    /// # Errors
    /// [`ErrorCode::ShuttingDown`] once the telephone has ended.
    pub async fn online(&self) -> Result<(), ApiError> {
        self.until_line(|line| line == LineState::Online).await.map(drop)
    }

    /// Wait until it stands with the network in a way for which `wanted` is true.
    ///
    /// # Errors
    /// [`ErrorCode::ShuttingDown`] once the telephone has ended.
    pub async fn until_line(&self, wanted: impl Fn(LineState) -> bool) -> Result<LineState, ApiError> {
        let mut line = self.line.clone();
        let reached = line.wait_for(|line| wanted(*line)).await.map(|line| *line);
        reached.map_err(|_| gone())
    }

    /// Do what `command` says.
    ///
    /// # Errors
    /// An [`ApiError`] with a code for programs and a sentence for people.
    pub async fn execute(&self, command: Command) -> Result<Reply, ApiError> {
        let (tx, rx) = oneshot::channel();
        self.requests.send(Request::Execute(command, tx)).await.map_err(|_| gone())?;
        rx.await.map_err(|_| gone())?
    }

    /// Everything that happens from now on, until the telephone has ended and closed its files. A subscriber that falls
    /// [`EVENT_BACKLOG`] events behind misses the oldest.
    pub fn events(&self) -> impl Stream<Item = TimedEvent> + Send + Unpin + use<> {
        let events = self.events.upgrade().map(|events| BroadcastStream::new(events.subscribe()));
        stream::iter(events).flatten().filter_map(|e| std::future::ready(e.ok()))
    }

    /// How the calls go that are connected, now and once a second from then on: [`Event::Stats`], which [`events`](Self::events) does
    /// not have. A follower that falls far behind misses the oldest.
    ///
    /// # Errors
    /// [`ErrorCode::ShuttingDown`] once the telephone has ended.
    pub async fn stats(&self) -> Result<impl Stream<Item = TimedEvent> + Send + Unpin + use<>, ApiError> {
        let (tx, rx) = oneshot::channel();
        self.requests.send(Request::Follow(tx)).await.map_err(|_| gone())?;
        let events = BroadcastStream::new(rx.await.map_err(|_| gone())?);
        Ok(events.filter_map(|e| std::future::ready(e.ok())))
    }

    /// Dial a number or an invitation link.
    ///
    /// # Errors
    /// [`ErrorCode::BadInput`] before anything is sent, if it is no number or mistyped.
    pub async fn dial(&self, number: impl Into<String>) -> Result<Call, ApiError> {
        match self.execute(Command::Dial { number: number.into() }).await? {
            Reply::Call { call } => self.call(&call).await,
            Reply::Done
            | Reply::Message { .. }
            | Reply::Lookup(_)
            | Reply::Status(_)
            | Reply::Verify(_)
            | Reply::Contacts { .. }
            | Reply::Directories { .. }
            | Reply::Messages { .. }
            | Reply::Voicemails { .. }
            | Reply::History { .. }
            | Reply::Devices(_)
            | Reply::Recordings { .. }
            | Reply::Volumes(_)
            | Reply::Presence(_)
            | Reply::Blocked { .. }
            | Reply::Screening(_)
            | Reply::Refused { .. }
            | Reply::Terminals { .. }
            | Reply::Link { .. } => Err(ApiError::new(ErrorCode::Internal, "dialling gave no call")),
        }
    }

    /// The handle of a call that is known by its reference.
    ///
    /// # Errors
    /// [`ErrorCode::NoCall`] if there is no such call (any more).
    pub async fn call(&self, call: &str) -> Result<Call, ApiError> {
        let (tx, rx) = oneshot::channel();
        self.requests.send(Request::Watch(call.to_owned(), tx)).await.map_err(|_| gone())?;
        let state = rx.await.map_err(|_| gone())??;
        Ok(Call { id: call.to_owned(), phone: self.clone(), state })
    }

    /// Calls that ring here from now on.
    pub fn incoming(&self) -> impl Stream<Item = Call> + Send + Unpin + use<> {
        let phone = self.clone();
        Box::pin(self.events().filter_map(move |e| {
            let phone = phone.clone();
            async move {
                if let Event::Incoming { call, .. } = e.event { phone.call(&call).await.ok() } else { None }
            }
        }))
    }

    /// Use other sound devices from now on, in the calls that last as well. The same as [`Command::UseDevices`], for devices of
    /// the embedding program too.
    ///
    /// # Errors
    /// [`ErrorCode::BadInput`] if one is not there; then nothing changes.
    pub async fn use_devices(&self, choice: DeviceChoice) -> Result<(), ApiError> {
        let (tx, rx) = oneshot::channel();
        self.requests.send(Request::UseDevices(choice, tx)).await.map_err(|_| gone())?;
        rx.await.map_err(|_| gone())?.map(drop)
    }

    /// Counters and gauges in Prometheus text form.
    ///
    /// # Errors
    /// [`ErrorCode::ShuttingDown`] once the telephone has ended.
    pub async fn metrics(&self) -> Result<String, ApiError> {
        let (tx, rx) = oneshot::channel();
        self.requests.send(Request::Metrics(tx)).await.map_err(|_| gone())?;
        rx.await.map_err(|_| gone())
    }

    /// Hang up, go off line, flush, and end. Returns when everything is closed.
    pub async fn shutdown(&self) {
        // An error means that it has ended already, which is what was asked for.
        let _ = self.execute(Command::Shutdown).await;
        self.requests.closed().await;
    }
}

fn gone() -> ApiError {
    ApiError::new(ErrorCode::ShuttingDown, "The telephone has ended.")
}
