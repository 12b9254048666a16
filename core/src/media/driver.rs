//! The task of a leg: owns every part of it and deals with one thing at a time.

mod candidates;
mod handshake;
mod mapping;
mod network;
mod relays;
mod report;
mod thrift;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use offhook_proto::call::TunnelBudget;
use offhook_proto::signalling::{ByeReason, Codec, LastWord, MediaOffer};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::courier::Courier;
use super::gather::Gatherer;
use super::hosts::host_addresses;
use super::ice::Ice;
use super::mapping::Mapping;
use super::meter::Meter;
use super::quic::{self, Identity};
use super::session::{Attempt, Established, Session, SessionEvent};
use super::socket::{MediaSocket, StunIn};
use super::types::{MediaConfig, MediaError, MediaEvent, MediaStats, Relay, Role};
use super::voice::{Voice, VoiceEvent, VoiceLink};
use super::watchdog::Watchdog;
use crate::audio::{DeviceSpec, Volume};
use crate::recording::Tap;
use mapping::ask_router;
use network::Network;
use thrift::Thrift;

/// STUN messages that may wait. What is more is lost and repeated.
const STUN_QUEUE: usize = 64;
const SESSION_QUEUE: usize = 16;
const VOICE_QUEUE: usize = 32;
/// How often the statistics are published and the time-outs looked at.
const TICK: Duration = Duration::from_millis(250);
/// How long a closing leg waits for its last packet to leave.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(100);
/// How long the last frames may take to be acknowledged: a round trip, and a loss on it.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_millis(500);

/// What the owner of a leg wants of it.
pub(super) enum Command {
    SetRemote(MediaOffer),
    Disclose,
    Candidates(Vec<String>),
    ReplaceCandidates(Vec<String>),
    AddRelay(Relay),
    StartAudio,
    Mute(bool),
    Hold(bool),
    UseDevices(Option<DeviceSpec>, Option<DeviceSpec>),
    Measure(bool),
    Record(Option<Tap>),
    UseInstead(DeviceSpec, DeviceSpec),
    Volume(Volume),
    Waiting(bool),
    Press(char),
    Control(Vec<u8>),
    Pass(Vec<u8>),
    LastWord(LastWord),
    Close,
}

/// What connects a driver with the handle of its leg.
pub(super) struct Ends {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) events: mpsc::Sender<MediaEvent>,
    pub(super) stats: watch::Sender<MediaStats>,
    pub(super) cancel: CancellationToken,
}

pub(super) struct Inputs {
    commands: mpsc::Receiver<Command>,
    stun: mpsc::Receiver<StunIn>,
    tunnel: mpsc::Receiver<Vec<u8>>,
    voice: mpsc::Receiver<VoiceEvent>,
    session: mpsc::Receiver<SessionEvent>,
}

pub(super) struct Driver {
    config: MediaConfig,
    socket: Arc<MediaSocket>,
    endpoint: quinn::Endpoint,
    identity: Identity,
    ice: Ice,
    gatherer: Gatherer,
    courier: Courier,
    /// A port of the router, which is given back when this is dropped.
    mapping: Mapping,
    voice: Voice,
    link: Arc<VoiceLink>,
    events: mpsc::Sender<MediaEvent>,
    stats: watch::Sender<MediaStats>,
    cancel: CancellationToken,
    /// Fingerprint of the other end's certificate, once known.
    pinned: Option<[u8; 32]>,
    /// One for each connection to a relay.
    streams: JoinSet<()>,
    /// Since when the path is a direct one.
    direct_since: Option<Instant>,
    watchdog: Watchdog,
    meter: Meter,
    network: Network,
    thrift: Thrift,
    /// Our candidates that have not been told.
    candidates: Vec<String>,
    /// Where signalling says that the other end may be, best first.
    targets: Vec<SocketAddr>,
    handshakes: JoinSet<Result<Established, Attempt>>,
    session: Option<Session>,
    session_tx: mpsc::Sender<SessionEvent>,
    /// Since when both sides should be heard.
    talking: Option<Instant>,
    heard: Heard,
    keep_alive_due: Instant,
    /// The reason of the end, for the other end.
    last_word: LastWord,
}

/// The last sign of life of the other end.
struct Heard {
    /// QUIC packets so far.
    packets: u64,
    /// When the last one had come.
    at: Instant,
}

/// Why the task goes on or not.
enum Flow {
    Go,
    End,
}

impl Driver {
    /// Binds the socket and makes the keys. Must be called within the runtime that is to run it.
    pub(super) fn new(config: &MediaConfig, ends: Ends) -> Result<(Driver, Inputs), MediaError> {
        let (stun_tx, stun) = mpsc::channel(STUN_QUEUE);
        let (tunnel_tx, tunnel) = mpsc::channel(TunnelBudget::BURST as usize);
        let socket = MediaSocket::bind(config.bind, stun_tx, tunnel_tx)
            .map_err(|error| MediaError::Bind(error.kind()))?;
        let (hosts, allow_loopback) = host_addresses(config, &socket);
        let mut ice = Ice::new(config.role, allow_loopback, config.relay_only);
        for host in &hosts {
            // Its line comes with disclosure.
            let _ = ice.add_host(*host);
        }
        // How others see our address is of no use to a leg that does not show it.
        let stun_servers = if config.relay_only { &[] } else { &config.stun_servers[..] };
        let link = Arc::new(VoiceLink::new(socket.clone()));
        let (voice_tx, voice) = mpsc::channel(VOICE_QUEUE);
        let (session_tx, session) = mpsc::channel(SESSION_QUEUE);
        let now = Instant::now();
        let mut driver = Driver {
            config: config.clone(),
            endpoint: quic::endpoint(socket.clone()).map_err(|error| MediaError::Bind(error.kind()))?,
            identity: Identity::generate()?,
            ice,
            gatherer: Gatherer::new(stun_servers, now),
            courier: Courier::new(config.party),
            mapping: ask_router(config, &socket),
            voice: Voice::spawn(&config.audio, link.clone(), voice_tx)?,
            link,
            socket,
            events: ends.events,
            stats: ends.stats,
            cancel: ends.cancel,
            pinned: None,
            streams: JoinSet::new(),
            direct_since: None,
            watchdog: Watchdog::default(),
            meter: Meter::default(),
            network: Network::new(config, hosts),
            thrift: Thrift::default(),
            candidates: Vec::new(),
            targets: Vec::new(),
            handshakes: JoinSet::new(),
            session: None,
            session_tx,
            talking: None,
            heard: Heard { packets: 0, at: now },
            keep_alive_due: now,
            last_word: LastWord::Bye(None),
        };
        driver.spare_relays_at_first();
        config.relays.iter().for_each(|relay| driver.add_relay(relay));
        Ok((driver, Inputs { commands: ends.commands, stun, tunnel, voice, session }))
    }

    /// What the other end has to know.
    pub(super) fn offer(&self) -> MediaOffer {
        let (ice_ufrag, ice_pwd) = self.ice.credentials();
        let fingerprint = self.identity.fingerprint;
        MediaOffer { ice_ufrag, ice_pwd, fingerprint, codecs: vec![Codec::Opus] }
    }

    /// Our own addresses, if the other end may know them from the start.
    pub(super) fn first_candidates(&mut self) -> Vec<String> {
        if self.config.disclose { self.ice.disclose(Instant::now()) } else { Vec::new() }
    }

    pub(super) fn socket(&self) -> Arc<MediaSocket> {
        self.socket.clone()
    }

    /// Runs the leg to its end.
    pub(super) async fn run(mut self, mut inputs: Inputs) {
        let mut tick = tokio::time::interval(TICK);
        loop {
            self.pump().await;
            if self.cancel.is_cancelled() {
                break;
            }
            if let Flow::End = self.step(&mut inputs, &mut tick).await {
                break;
            }
        }
        self.shut_down().await;
    }

    /// Waits for one thing to happen and deals with it.
    async fn step(&mut self, inputs: &mut Inputs, tick: &mut tokio::time::Interval) -> Flow {
        let timers = [
            self.ice.poll_timeout(),
            self.gatherer.poll_timeout(),
            self.courier.poll_timeout(),
            self.socket.relay_timeout(),
            self.socket.handshake_due(),
            self.watch_due(),
            self.network.due(),
            self.thrift.due(),
        ];
        let timers = timers.into_iter().flatten().min();
        let wake = timers.map_or_else(|| tokio::time::sleep(TICK), |at| tokio::time::sleep_until(at.into()));
        let listening = self.config.role == Role::Callee && self.pinned.is_some() && self.session.is_none();
        tokio::select! {
            () = self.cancel.cancelled() => return Flow::End,
            command = inputs.commands.recv() => match command {
                Some(command) => return self.on_command(command).await,
                None => return Flow::End,
            },
            Some(message) = inputs.stun.recv() => self.on_stun(&message).await,
            () = self.socket.relay_news() => {}
            () = self.network.stirs() => {}
            mapped = self.mapping.opened() => self.on_mapped(mapped).await,
            Some(packet) = inputs.tunnel.recv() => self.thrift.tunnel.push(packet, Instant::now()),
            Some(event) = inputs.voice.recv() => return self.on_voice(event).await,
            Some(event) = inputs.session.recv() => return self.on_session(event).await,
            Some(result) = self.handshakes.join_next() => {
                // A cancelled or panicked handshake counts as unheard.
                return self.on_handshake(result.unwrap_or(Err(Attempt::Unheard))).await;
            }
            Some(incoming) = self.endpoint.accept(), if listening => self.on_incoming(incoming),
            _ = tick.tick() => return self.on_tick().await,
            () = wake => self.ice.handle_timeout(Instant::now()),
        }
        Flow::Go
    }

    async fn on_command(&mut self, command: Command) -> Flow {
        match command {
            Command::SetRemote(offer) => return self.set_remote(offer).await,
            Command::Disclose => self.disclose().await,
            Command::Candidates(lines) => {
                let now = Instant::now();
                let refused = lines.iter().filter(|line| !self.ice.add_remote(line, now)).count();
                if refused > 0 {
                    tracing::debug!(refused, "candidates of the other end are of no use");
                }
            }
            Command::ReplaceCandidates(lines) => {
                let refused = self.ice.replace_remote(&lines, Instant::now());
                tracing::debug!(refused, "the other end has moved");
            }
            Command::AddRelay(relay) => self.add_relay(&relay),
            Command::StartAudio => {
                tracing::debug!(role = ?self.config.role, "sound may flow");
                self.talking.get_or_insert_with(Instant::now);
                self.voice.start();
                self.wait_no_longer();
                self.try_out();
            }
            Command::Mute(on) => self.voice.set_muted(on),
            Command::Hold(on) => self.voice.set_held(on),
            Command::UseDevices(mic, speaker) => self.voice.use_devices(mic, speaker),
            Command::Measure(on) => self.voice.set_measured(on),
            Command::Record(tap) => self.voice.set_tap(tap),
            Command::UseInstead(mic, speaker) => self.voice.use_instead(mic, speaker),
            Command::Volume(volume) => self.voice.set_volume(volume),
            Command::Waiting(on) => self.voice.set_waiting(on),
            Command::Press(key) => self.voice.press(key),
            Command::Control(frame) => {
                let sent = self.session.as_ref().is_some_and(|session| session.send_control(frame));
                if !sent {
                    tracing::debug!("control frame goes by signalling only");
                }
            }
            Command::Pass(packet) => {
                if !self.courier.pass(packet, Instant::now()) {
                    tracing::debug!("a packet is too long for a courier");
                }
            }
            Command::LastWord(last) => self.last_word = last,
            Command::Close => return Flow::End,
        }
        Flow::Go
    }

    async fn on_session(&mut self, event: SessionEvent) -> Flow {
        match event {
            SessionEvent::Control(frame) => {
                self.emit(MediaEvent::Control(frame)).await;
                Flow::Go
            }
            SessionEvent::Opened => {
                self.socket.set_control();
                Flow::Go
            }
            SessionEvent::Ended(Err(error)) => self.fail(error).await,
            SessionEvent::Ended(Ok(last)) => {
                self.emit(MediaEvent::Closed(last)).await;
                Flow::End
            }
        }
    }

    async fn on_voice(&mut self, event: VoiceEvent) -> Flow {
        let event = match event {
            VoiceEvent::Started { mic_epoch_ns, speaker_epoch_ns } => {
                MediaEvent::AudioStarted { mic_epoch_ns, speaker_epoch_ns }
            }
            VoiceEvent::FirstAudio { at_ns } => MediaEvent::FirstAudio { at_ns },
            VoiceEvent::Device(kind, news) => MediaEvent::Device(kind, news),
            VoiceEvent::Levels { mic, speaker } => MediaEvent::Levels { mic, speaker },
            VoiceEvent::Failed(error) => return self.fail(error.into()).await,
        };
        self.emit(event).await;
        Flow::Go
    }

    async fn fail(&mut self, error: MediaError) -> Flow {
        // The other end is not to take it for a hang-up.
        self.last_word = LastWord::Bye(Some(match error {
            MediaError::NoPath => ByeReason::NoMediaPath,
            MediaError::Lost => ByeReason::MediaLost,
            MediaError::Bind(_)
            | MediaError::Thread(_)
            | MediaError::Keys
            | MediaError::PeerKey
            | MediaError::Handshake
            | MediaError::Audio(_) => ByeReason::Media,
        }));
        self.emit(MediaEvent::Failed(error)).await;
        Flow::End
    }

    /// Tells the owner, unless it wants to be rid of us.
    async fn emit(&self, event: MediaEvent) {
        tokio::select! {
            // A dropped receiver means that the owner does not care any more.
            _ = self.events.send(event) => {}
            () = self.cancel.cancelled() => {}
        }
    }

    async fn shut_down(mut self) {
        // First of all, nobody is listened to any more.
        self.voice.end();
        self.handshakes.abort_all();
        if let Some(session) = self.session.take().filter(|_| self.socket.has_control()) {
            // The last words of a call: the other end may have no other way to hear them.
            let _ = tokio::time::timeout(LAST_WORDS_TIMEOUT, session.finish()).await;
        }
        self.endpoint.close(self.last_word.code().into(), b"");
        // The good-bye leaves with the endpoint's next step; what the other end answers does not matter.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.endpoint.wait_idle()).await;
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.leave_relays()).await;
        self.voice.finish().await;
    }
}
