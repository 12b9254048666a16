//! One end of a call's media: the public handle, and the task behind it that owns every part.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use offhook_proto::call::TunnelBudget;
use offhook_proto::rtp::{self, Rtcp, VOICE_FLOW};
use offhook_proto::signalling::{Codec, LastWord, MediaOffer};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::gather::Gatherer;
use super::hosts::host_addresses;
use super::ice::{Ice, IceOutput};
use super::quic::{self, Identity};
use super::session::{self, Attempt, CODE_BYE, Established, MAX_HANDSHAKES, Session, SessionEvent};
use super::socket::{MediaSocket, StunIn};
use super::types::{MediaConfig, MediaError, MediaEvent, MediaStats, Path, Role};
use super::voice::{Voice, VoiceEvent, VoiceLink};

/// Commands that may wait for the task; only the owner of the leg sends them.
const COMMANDS: usize = 256;
/// STUN messages that may wait. What is more is lost and repeated.
const STUN_QUEUE: usize = 64;
const SESSION_QUEUE: usize = 16;
const VOICE_QUEUE: usize = 32;
/// Candidates told in one event, as many as a signalling message takes.
const CANDIDATES_PER_EVENT: usize = 16;
/// How often the statistics are published and the time-outs looked at.
const TICK: Duration = Duration::from_millis(250);
/// How often a packet is sent on a path without voice. NATs forget after 30 s, QUIC after 15 s.
const KEEP_ALIVE_DIRECT: Duration = Duration::from_secs(2);
/// Through the tunnel, where packets are few and dear. [`TunnelBudget`] reckons with it.
const KEEP_ALIVE_TUNNEL: Duration = Duration::from_secs(5);
/// How long a closing leg waits for its last packet to leave.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(100);

/// How long the last frames may take to be acknowledged: a round trip, and a loss on it.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_millis(500);

enum Command {
    SetRemote(MediaOffer),
    Disclose,
    Candidates(Vec<String>),
    StartAudio,
    StopAudio,
    Mute(bool),
    Hold(bool),
    Control(Vec<u8>),
    LastWord(LastWord),
    Close,
}

/// One end of a call's media. All methods return at once; what happens is told by [`MediaEvent`]s. Dropping it
/// ends everything; [`MediaLeg::close`] does so politely.
pub struct MediaLeg {
    offer: MediaOffer,
    commands: mpsc::Sender<Command>,
    socket: Arc<MediaSocket>,
    stats: watch::Receiver<MediaStats>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl MediaLeg {
    /// Binds the socket, makes the keys and begins to gather candidates. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// No socket, no keys, or the microphone's file cannot be played.
    pub fn start(config: MediaConfig, events: mpsc::Sender<MediaEvent>) -> Result<MediaLeg, MediaError> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(MediaError::NoRuntime);
        }
        let (stun_tx, stun) = mpsc::channel(STUN_QUEUE);
        let (tunnel_tx, tunnel) = mpsc::channel(TunnelBudget::BURST as usize);
        let socket = MediaSocket::bind(config.bind, stun_tx, tunnel_tx)
            .map_err(|error| MediaError::Bind(error.kind()))?;
        let endpoint = quinn::Endpoint::new_with_abstract_socket(
            quic::endpoint_config(),
            None,
            socket.clone(),
            Arc::new(quinn::TokioRuntime),
        )
        .map_err(|error| MediaError::Bind(error.kind()))?;
        let identity = Identity::generate()?;
        let (hosts, allow_loopback) = host_addresses(&config, &socket);
        let ice = Ice::new(config.role, allow_loopback);
        let (ice_ufrag, ice_pwd) = ice.credentials();
        let offer =
            MediaOffer { ice_ufrag, ice_pwd, fingerprint: identity.fingerprint, codecs: vec![Codec::Opus] };
        let link = Arc::new(VoiceLink::new(socket.clone()));
        let (voice_tx, voice_events) = mpsc::channel(VOICE_QUEUE);
        let voice = Voice::spawn(&config.audio, link.clone(), voice_tx)?;
        let (commands_tx, commands) = mpsc::channel(COMMANDS);
        let (session_tx, session_events) = mpsc::channel(SESSION_QUEUE);
        let (stats_tx, stats) = watch::channel(MediaStats::default());
        let cancel = CancellationToken::new();
        let run = Run {
            role: config.role,
            idle_timeout: config.idle_timeout,
            socket: socket.clone(),
            endpoint,
            identity,
            ice,
            gatherer: Gatherer::new(&config.stun_servers, Instant::now()),
            voice,
            link,
            events,
            stats: stats_tx,
            cancel: cancel.clone(),
            pinned: None,
            disclosed: false,
            candidates: Vec::new(),
            handshakes: JoinSet::new(),
            session: None,
            session_tx,
            talking: false,
            keep_alive_due: Instant::now(),
            last_word: LastWord::Bye(None),
        };
        let inputs = Inputs { commands, stun, tunnel, voice: voice_events, session: session_events };
        let task = tokio::spawn(run.run(inputs, hosts, config.disclose));
        Ok(MediaLeg { offer, commands: commands_tx, socket, stats, cancel, task })
    }

    /// What the other end has to know.
    pub fn offer(&self) -> MediaOffer {
        self.offer.clone()
    }

    /// Tells what the other end offers, from signed signalling. The keys are agreed from now on. Only the first
    /// offer counts.
    pub fn set_remote(&self, offer: MediaOffer) {
        self.command(Command::SetRemote(offer));
    }

    /// Our addresses may be shown to the other end from now on.
    pub fn disclose(&self) {
        self.command(Command::Disclose);
    }

    /// Tells candidates of the other end, from signed signalling. Useless ones and those beyond 32 are ignored.
    pub fn add_remote_candidates(&self, candidates: Vec<String>) {
        self.command(Command::Candidates(candidates));
    }

    /// Takes a packet that the other end's leg gave out as [`MediaEvent::Tunnel`], from signed signalling.
    pub fn tunnel(&self, packet: Vec<u8>) {
        self.socket.tunnel_in(packet);
    }

    /// Opens the devices; from now on both sides are heard.
    pub fn start_audio(&self) {
        self.command(Command::StartAudio);
    }

    /// Closes the devices.
    pub fn stop_audio(&self) {
        self.command(Command::StopAudio);
    }

    /// Sends silence instead of the microphone, or not any more.
    pub fn set_mute(&self, on: bool) {
        self.command(Command::Mute(on));
    }

    /// Passes on neither side's voice, or both again.
    pub fn set_hold(&self, on: bool) {
        self.command(Command::Hold(on));
    }

    /// Sends a frame of at most 8 KiB on the control stream: reliable and in order while the connection lives.
    /// Lost without a connection, so what matters goes through signalling too.
    pub fn send_control(&self, frame: Vec<u8>) {
        self.command(Command::Control(frame));
    }

    /// What [`MediaLeg::close`] repeats of the call's last message. A plain bye unless told.
    pub fn last_word(&self, last: LastWord) {
        self.command(Command::LastWord(last));
    }

    /// How the media do, renewed four times a second.
    pub fn stats(&self) -> watch::Receiver<MediaStats> {
        self.stats.clone()
    }

    /// Delivers what was given to [`MediaLeg::send_control`], says good-bye to the other end and waits until everything
    /// of the leg has ended.
    pub async fn close(mut self) {
        // Behind the commands given before. If there is no room, the end can't wait for them.
        if self.commands.try_send(Command::Close).is_err() {
            self.cancel.cancel();
        }
        // A panic in the task has been reported by the runtime already.
        let _ = (&mut self.task).await;
    }

    fn command(&self, command: Command) {
        if self.commands.try_send(command).is_err() {
            tracing::debug!("media leg is over or takes no more commands");
        }
    }
}

/// Without keys and addresses.
impl fmt::Debug for MediaLeg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MediaLeg").field("path", &self.socket.path()).finish_non_exhaustive()
    }
}

impl Drop for MediaLeg {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

struct Inputs {
    commands: mpsc::Receiver<Command>,
    stun: mpsc::Receiver<StunIn>,
    tunnel: mpsc::Receiver<Vec<u8>>,
    voice: mpsc::Receiver<VoiceEvent>,
    session: mpsc::Receiver<SessionEvent>,
}

struct Run {
    role: Role,
    idle_timeout: Duration,
    socket: Arc<MediaSocket>,
    endpoint: quinn::Endpoint,
    identity: Identity,
    ice: Ice,
    gatherer: Gatherer,
    voice: Voice,
    link: Arc<VoiceLink>,
    events: mpsc::Sender<MediaEvent>,
    stats: watch::Sender<MediaStats>,
    cancel: CancellationToken,
    /// Fingerprint of the other end's certificate, once known.
    pinned: Option<[u8; 32]>,
    disclosed: bool,
    /// Our candidates that have not been told.
    candidates: Vec<String>,
    handshakes: JoinSet<Result<Established, Attempt>>,
    session: Option<Session>,
    session_tx: mpsc::Sender<SessionEvent>,
    talking: bool,
    keep_alive_due: Instant,
    /// The reason of the end, for the other end.
    last_word: LastWord,
}

/// Why the task goes on or not.
enum Flow {
    Go,
    End,
}

impl Run {
    async fn run(mut self, mut inputs: Inputs, hosts: Vec<SocketAddr>, disclose: bool) {
        for host in hosts {
            self.candidates.extend(self.ice.add_host(host));
        }
        if disclose {
            self.disclose().await;
        }
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
        let timers = self.ice.poll_timeout().into_iter().chain(self.gatherer.poll_timeout()).min();
        let wake = timers.map_or_else(|| tokio::time::sleep(TICK), |at| tokio::time::sleep_until(at.into()));
        let listening = self.role == Role::Callee && self.pinned.is_some() && self.session.is_none();
        tokio::select! {
            () = self.cancel.cancelled() => return Flow::End,
            command = inputs.commands.recv() => match command {
                Some(command) => return self.on_command(command).await,
                None => return Flow::End,
            },
            Some(message) = inputs.stun.recv() => self.on_stun(&message).await,
            Some(packet) = inputs.tunnel.recv() => self.emit(MediaEvent::Tunnel(packet)).await,
            Some(event) = inputs.voice.recv() => return self.on_voice(event).await,
            Some(event) = inputs.session.recv() => return self.on_session(event).await,
            Some(result) = self.handshakes.join_next() => {
                // A cancelled or panicked handshake counts as unheard.
                return self.on_handshake(result.unwrap_or(Err(Attempt::Unheard))).await;
            }
            Some(incoming) = self.endpoint.accept(), if listening => self.on_incoming(incoming),
            _ = tick.tick() => self.on_tick(),
            () = wake => self.ice.handle_timeout(Instant::now()),
        }
        Flow::Go
    }

    /// Sends what the sans-IO parts have to send and follows what ICE has found.
    async fn pump(&mut self) {
        while let Some((server, request)) = self.gatherer.poll(Instant::now()) {
            self.socket.send_stun(None, server, &request);
        }
        while let Some(output) = self.ice.poll_output() {
            match output {
                IceOutput::Transmit { local, remote, bytes } => {
                    self.socket.send_stun(Some(local), remote, &bytes)
                }
                IceOutput::Genuine(address) => self.socket.let_in(address),
                IceOutput::Path(path) => self.on_path(path).await,
            }
        }
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
            Command::StartAudio => {
                self.talking = true;
                self.voice.start();
            }
            Command::StopAudio => {
                self.talking = false;
                self.voice.stop();
            }
            Command::Mute(on) => self.voice.set_muted(on),
            Command::Hold(on) => self.voice.set_held(on),
            Command::Control(frame) => {
                let sent = self.session.as_ref().is_some_and(|session| session.send_control(frame));
                if !sent {
                    tracing::debug!("control frame goes by signalling only");
                }
            }
            Command::LastWord(last) => self.last_word = last,
            Command::Close => return Flow::End,
        }
        Flow::Go
    }

    async fn set_remote(&mut self, offer: MediaOffer) -> Flow {
        if self.pinned.is_some() {
            return Flow::Go;
        }
        self.pinned = Some(offer.fingerprint);
        self.ice.set_remote(offer.ice_ufrag, offer.ice_pwd, Instant::now());
        match self.role {
            Role::Caller => self.connect().await,
            Role::Callee => match self.identity.server(offer.fingerprint, self.idle_timeout) {
                Ok(config) => {
                    self.endpoint.set_server_config(Some(config));
                    Flow::Go
                }
                Err(error) => self.fail(error).await,
            },
        }
    }

    async fn disclose(&mut self) {
        self.disclosed = true;
        self.ice.disclose(Instant::now());
        self.tell_candidates().await;
    }

    async fn tell_candidates(&mut self) {
        while self.disclosed && !self.candidates.is_empty() {
            let rest = self.candidates.split_off(self.candidates.len().min(CANDIDATES_PER_EVENT));
            let told = std::mem::replace(&mut self.candidates, rest);
            self.emit(MediaEvent::Candidates(told)).await;
        }
    }

    async fn on_stun(&mut self, message: &StunIn) {
        let now = Instant::now();
        match self.gatherer.handle(now, message.source, &message.bytes) {
            Some(mapped) => {
                self.candidates.extend(self.ice.add_reflexive(mapped, message.local));
                self.tell_candidates().await;
            }
            None => self.ice.handle_stun(now, message),
        }
    }

    async fn on_path(&mut self, path: Path) {
        if path == self.socket.path() {
            return;
        }
        let first = !self.socket.path().carries_voice();
        self.socket.set_path(path);
        if self.session.is_some() {
            self.emit(MediaEvent::PathChanged(path)).await;
        } else if first && self.role == Role::Caller && self.pinned.is_some() {
            // A handshake through the tunnel may be waiting for a lost packet; a new one is faster here.
            self.begin_handshake();
        }
    }

    async fn connect(&mut self) -> Flow {
        if self.begin_handshake() { Flow::Go } else { self.fail(MediaError::Keys).await }
    }

    fn begin_handshake(&mut self) -> bool {
        let Some(config) =
            self.pinned.and_then(|pinned| self.identity.client(pinned, self.idle_timeout).ok())
        else {
            return false;
        };
        if self.handshakes.len() < MAX_HANDSHAKES {
            self.handshakes.spawn(session::connect(self.endpoint.clone(), config));
        }
        true
    }

    fn on_incoming(&mut self, incoming: quinn::Incoming) {
        if self.handshakes.len() < MAX_HANDSHAKES {
            self.handshakes.spawn(session::accept(incoming));
        } else {
            incoming.ignore();
        }
    }

    async fn on_handshake(&mut self, result: Result<Established, Attempt>) -> Flow {
        match result {
            Ok(established) if self.session.is_none() => self.open_session(established).await,
            Ok(spare) => spare.connection.close(CODE_BYE, b"spare"),
            Err(_) if self.session.is_some() => {}
            Err(Attempt::Refused(MediaError::PeerKey)) => return self.fail(MediaError::PeerKey).await,
            // The caller gives up one of several handshakes, so a callee can't tell refusal from tidying up.
            Err(Attempt::Refused(error)) if self.role == Role::Caller && self.handshakes.is_empty() => {
                return self.fail(error).await;
            }
            Err(Attempt::Refused(_)) => {}
            Err(Attempt::Unheard) => match self.role {
                Role::Caller if self.handshakes.is_empty() => return self.connect().await,
                Role::Caller | Role::Callee => {}
            },
        }
        Flow::Go
    }

    async fn open_session(&mut self, established: Established) {
        let Established { connection, streams } = established;
        let streams = match streams {
            Some(streams) => Some(streams),
            None => session::choose(&connection).await,
        };
        let Some(streams) = streams else {
            // It broke in the moment it stood; the caller tries again.
            self.begin_handshake();
            return;
        };
        self.link.set_connection(connection.clone());
        let (session, exporter) =
            Session::start(connection, streams, self.session_tx.clone(), self.voice.inbox());
        self.session = Some(session);
        self.handshakes.abort_all();
        self.endpoint.set_server_config(None);
        self.keep_alive_due = Instant::now() + KEEP_ALIVE_DIRECT;
        let path = self.socket.path();
        self.emit(MediaEvent::Connected { exporter, path }).await;
    }

    async fn on_session(&mut self, event: SessionEvent) -> Flow {
        match event {
            SessionEvent::Control(frame) => {
                self.emit(MediaEvent::Control(frame)).await;
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
            VoiceEvent::DeviceLost(what) => MediaEvent::DeviceLost(what),
            VoiceEvent::Failed(error) => return self.fail(error.into()).await,
        };
        self.emit(event).await;
        Flow::Go
    }

    fn on_tick(&mut self) {
        let now = Instant::now();
        let path = self.socket.path();
        let voice = self.voice.stats();
        let (bytes_sent, bytes_received, refused) = self.socket.counters();
        let rtt = self.session.as_ref().map(|session| session.connection.rtt()).or_else(|| self.ice.rtt());
        self.stats.send_replace(MediaStats {
            path,
            rtt: rtt.unwrap_or_default(),
            packets_sent: voice.sent,
            packets_received: voice.received,
            packets_lost: voice.lost,
            remote_loss: voice.remote_loss,
            jitter: voice.jitter,
            buffer_delay: voice.buffer_delay,
            concealed: voice.concealed,
            bytes_sent,
            bytes_received,
            refused,
        });
        if path.carries_voice() && self.session.is_some() {
            // The call's own packets keep the NATs' mappings from now on.
            self.gatherer.stop();
        }
        self.keep_alive(now, path);
    }

    /// An empty report where no voice flows.
    fn keep_alive(&mut self, now: Instant, path: Path) {
        let Some(session) = &self.session else { return };
        let every = if path.carries_voice() { KEEP_ALIVE_DIRECT } else { KEEP_ALIVE_TUNNEL };
        if self.talking && path.carries_voice() {
            self.keep_alive_due = now + every;
        } else if self.keep_alive_due.min(now + every) <= now {
            self.keep_alive_due = now + every;
            let report = Rtcp { ssrc: 0, sender: None, blocks: Vec::new() };
            // A closed connection is noticed by the session's tasks.
            let _ = session.connection.send_datagram(rtp::encode_rtcp(VOICE_FLOW, &report).into());
        }
    }

    async fn fail(&mut self, error: MediaError) -> Flow {
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
        self.handshakes.abort_all();
        // Its tasks hold an inbox of the voice thread each.
        if let Some(session) = self.session.take() {
            // The last words of a call: the other end may have no other way to hear them.
            let _ = tokio::time::timeout(LAST_WORDS_TIMEOUT, session.finish()).await;
        }
        self.endpoint.close(self.last_word.code().into(), b"");
        // The good-bye leaves with the endpoint's next step; what the other end answers does not matter.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.endpoint.wait_idle()).await;
        self.voice.finish().await;
    }
}
