//! The thread that runs the voice of a leg at the pace of the monotonic clock.
//!
//! A thread of its own, because a frame that waits for a busy runtime is heard as a click. Between ticks it
//! waits for packets and commands on one bounded channel.

mod engine;
pub(super) mod fuzz;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TryRecvError};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::mpsc as events;
use tokio::sync::oneshot;

use super::socket::MediaSocket;
use super::types::AudioConfig;
use crate::audio::{self, AudioError, AudioSink, AudioSource, BLOCK_TIME, DeviceSpec, Nothing, monotonic_ns};
use engine::{EngineEvent, Start, VoiceEngine};

pub(super) use engine::VoiceStats;

/// Packets and commands that may wait for the thread: five seconds of voice.
const INBOX: usize = 256;
/// After a stop of the whole machine for longer than this, the lost time is not caught up.
const MAX_BEHIND: Duration = Duration::from_millis(500);
/// How often a device is looked for again after one was lost.
const RETRY_DEVICE: Duration = Duration::from_secs(2);
/// How long the end of the thread is waited for.
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);
/// Priority of the thread, from -20 to 19, where it is granted.
const NICENESS: i32 = -11;
/// Seconds from 1900, where NTP time begins, to 1970 (RFC 5905 section 6).
const NTP_TO_UNIX: u64 = 2_208_988_800;

/// What the thread reports.
#[derive(Debug)]
pub(super) enum VoiceEvent {
    Started { mic_epoch_ns: u64, speaker_epoch_ns: u64 },
    FirstAudio { at_ns: u64 },
    DeviceLost(String),
    Failed(AudioError),
}

enum Input {
    Packet(Instant, Bytes),
    Start,
    Stop,
}

/// Where voice packets go: the QUIC connection once there is one, and only over a path that may carry voice.
#[derive(Debug)]
pub(super) struct VoiceLink {
    socket: Arc<MediaSocket>,
    connection: OnceLock<quinn::Connection>,
}

impl VoiceLink {
    pub(super) fn new(socket: Arc<MediaSocket>) -> VoiceLink {
        VoiceLink { socket, connection: OnceLock::new() }
    }

    /// From now on packets go over `connection`.
    pub(super) fn set_connection(&self, connection: quinn::Connection) {
        // A leg has one session, so this happens once.
        let _ = self.connection.set(connection);
    }

    fn send(&self, datagram: Vec<u8>) {
        if self.socket.path().carries_voice()
            && let Some(connection) = self.connection.get()
        {
            // Too large or closed: a lost packet; the session notices the end by itself.
            let _ = connection.send_datagram(datagram.into());
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    muted: AtomicBool,
    held: AtomicBool,
    stats: Mutex<VoiceStats>,
}

/// Passes received datagrams to the thread.
#[derive(Debug, Clone)]
pub(super) struct VoiceInbox(SyncSender<Input>);

impl VoiceInbox {
    /// Hands over a datagram that arrived now. Dropped when the thread is far behind.
    pub(super) fn push(&self, datagram: Bytes) {
        let _ = self.0.try_send(Input::Packet(Instant::now(), datagram));
    }
}

/// Handle of the thread. It ends when the handle and all inboxes are dropped.
#[derive(Debug)]
pub(super) struct Voice {
    inbox: SyncSender<Input>,
    shared: Arc<Shared>,
    done: oneshot::Receiver<()>,
}

impl Voice {
    /// Starts the thread and opens files, so that a wrong name is known at once. Devices are opened by
    /// [`Voice::start`] only: nobody is recorded before.
    pub(super) fn spawn(
        config: &AudioConfig,
        link: Arc<VoiceLink>,
        events: events::Sender<VoiceEvent>,
    ) -> Result<Voice, AudioError> {
        let (inbox, input) = mpsc::sync_channel(INBOX);
        let shared = Arc::new(Shared::default());
        let (done_tx, done) = oneshot::channel();
        let mic = match &config.mic {
            spec @ DeviceSpec::File(_) => Some(audio::open_source(spec)?),
            DeviceSpec::Default | DeviceSpec::Id(_) | DeviceSpec::None | DeviceSpec::Custom(_) => None,
        };
        let mut thread = Thread {
            config: config.clone(),
            mic,
            link,
            events,
            shared: shared.clone(),
            input,
            mic_again: Reopen::default(),
            speaker_again: Reopen::default(),
        };
        std::thread::Builder::new()
            .name("offhook-voice".into())
            .spawn(move || {
                thread.run();
                // The owner may be gone already.
                let _ = done_tx.send(());
            })
            .map_err(|error| AudioError::Device { name: "voice".into(), reason: error.to_string() })?;
        Ok(Voice { inbox, shared, done })
    }

    pub(super) fn inbox(&self) -> VoiceInbox {
        VoiceInbox(self.inbox.clone())
    }

    /// Begins to speak and to listen. Reports [`VoiceEvent::Started`].
    pub(super) fn start(&self) {
        let _ = self.inbox.try_send(Input::Start);
    }

    /// Ends both; files are completed.
    pub(super) fn stop(&self) {
        let _ = self.inbox.try_send(Input::Stop);
    }

    pub(super) fn set_muted(&self, muted: bool) {
        self.shared.muted.store(muted, Relaxed);
    }

    pub(super) fn set_held(&self, held: bool) {
        self.shared.held.store(held, Relaxed);
    }

    pub(super) fn stats(&self) -> VoiceStats {
        *self.shared.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the thread and waits for it, which takes a tick; but not for a device that hangs while it is opened.
    /// All inboxes must have been dropped.
    pub(super) async fn finish(self) {
        let Voice { inbox, shared: _, done } = self;
        drop(inbox);
        let _ = tokio::time::timeout(FINISH_TIMEOUT, done).await;
    }
}

struct Thread {
    config: AudioConfig,
    mic: Option<Box<dyn AudioSource>>,
    link: Arc<VoiceLink>,
    events: events::Sender<VoiceEvent>,
    shared: Arc<Shared>,
    input: Receiver<Input>,
    mic_again: Reopen<Box<dyn AudioSource>>,
    speaker_again: Reopen<Box<dyn AudioSink>>,
}

/// Why the voice stopped.
enum Ended {
    Stopped,
    Dropped,
}

impl Thread {
    fn run(&mut self) {
        // A late frame is heard as a click. Refused to most users, which is no reason not to ask.
        let _ = rustix::process::nice(NICENESS);
        // Packets that come while nobody listens are dropped.
        while let Ok(input) = self.input.recv() {
            match input {
                Input::Packet(..) | Input::Stop => continue,
                Input::Start => {}
            }
            match self.start() {
                Ok(engine) => match self.talk(engine) {
                    Ended::Stopped => {}
                    Ended::Dropped => return,
                },
                Err(error) => self.report(VoiceEvent::Failed(error)),
            }
        }
    }

    fn start(&mut self) -> Result<VoiceEngine, AudioError> {
        let mic = match self.mic.take() {
            Some(mic) => Ok(mic),
            None => audio::open_source(&self.config.mic),
        };
        let source = match mic {
            Ok(mic) => mic,
            Err(error) if is_device(&self.config.mic) => {
                self.mic_again.schedule(Instant::now());
                self.report(VoiceEvent::DeviceLost(error.to_string()));
                Box::new(Nothing::default())
            }
            Err(error) => return Err(error),
        };
        let sink = match audio::open_sink(&self.config.speaker) {
            Ok(speaker) => speaker,
            Err(error) if is_device(&self.config.speaker) => {
                self.speaker_again.schedule(Instant::now());
                self.report(VoiceEvent::DeviceLost(error.to_string()));
                Box::new(Nothing::default())
            }
            Err(error) => return Err(error),
        };
        let now = Instant::now();
        let start = Start { source, sink, now, ntp: ntp_now(), seed: rand::random() };
        let (engine, spoken, heard) = VoiceEngine::start(start)?;
        let (mic_epoch_ns, speaker_epoch_ns) = (monotonic_ns(spoken), monotonic_ns(heard));
        self.report(VoiceEvent::Started { mic_epoch_ns, speaker_epoch_ns });
        Ok(engine)
    }

    fn talk(&mut self, mut engine: VoiceEngine) -> Ended {
        // Ticks fall on the ends of the blocks, so that a frame is sent the moment it is complete.
        let mut due = engine.started();
        loop {
            let now = Instant::now();
            engine.muted = self.shared.muted.load(Relaxed);
            engine.held = self.shared.held.load(Relaxed);
            let link = &self.link;
            engine.tick(now, &mut |datagram| link.send(datagram));
            while let Some(event) = engine.poll_event() {
                self.on_event(event, now);
            }
            self.replace_devices(&mut engine, now);
            *self.shared.stats.lock().unwrap_or_else(PoisonError::into_inner) = engine.stats();
            due += BLOCK_TIME;
            if due + MAX_BEHIND < now {
                due = now + BLOCK_TIME;
            }
            if let Some(ended) = self.receive_until(due, &mut engine) {
                return ended;
            }
        }
    }

    /// Takes packets and commands until the next tick is due.
    fn receive_until(&mut self, due: Instant, engine: &mut VoiceEngine) -> Option<Ended> {
        // A flood must not keep the tick from happening.
        for _ in 0..INBOX {
            match self.input.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(Input::Packet(at, datagram)) => engine.receive(at, &datagram),
                Ok(Input::Start) => {}
                Ok(Input::Stop) => return Some(Ended::Stopped),
                Err(RecvTimeoutError::Timeout) => return None,
                Err(RecvTimeoutError::Disconnected) => return Some(Ended::Dropped),
            }
        }
        None
    }

    fn on_event(&mut self, event: EngineEvent, now: Instant) {
        match event {
            EngineEvent::FirstAudio(at) => self.report(VoiceEvent::FirstAudio { at_ns: monotonic_ns(at) }),
            EngineEvent::SourceLost(error) => {
                self.report(VoiceEvent::DeviceLost(error.to_string()));
                if is_device(&self.config.mic) {
                    self.mic_again.schedule(now);
                }
            }
            EngineEvent::SinkLost(error) => {
                self.report(VoiceEvent::DeviceLost(error.to_string()));
                if is_device(&self.config.speaker) {
                    self.speaker_again.schedule(now);
                }
            }
        }
    }

    /// Puts the default device in the place of a lost one as soon as there is one.
    fn replace_devices(&mut self, engine: &mut VoiceEngine, now: Instant) {
        if let Some(mic) = self.mic_again.poll(now, || audio::open_source(&DeviceSpec::Default))
            && engine.set_source(mic, now).is_err()
        {
            self.mic_again.schedule(now + RETRY_DEVICE);
        }
        if let Some(speaker) = self.speaker_again.poll(now, || audio::open_sink(&DeviceSpec::Default))
            && engine.set_sink(speaker, now).is_err()
        {
            self.speaker_again.schedule(now + RETRY_DEVICE);
        }
    }

    fn report(&self, event: VoiceEvent) {
        // The leg reads these at once; if it is gone there is nobody to tell.
        let _ = self.events.try_send(event);
    }
}

/// Whether a call goes on without it. A file that cannot be used ends the voice, since somebody asked for
/// exactly this file; and it is never replaced by a microphone that nobody asked for.
fn is_device(spec: &DeviceSpec) -> bool {
    match spec {
        DeviceSpec::Default | DeviceSpec::Id(_) => true,
        DeviceSpec::File(_) | DeviceSpec::None | DeviceSpec::Custom(_) => false,
    }
}

/// Opens a device on another thread, since that may take seconds, and again until it works.
struct Reopen<T> {
    due: Option<Instant>,
    opening: Option<Receiver<Option<T>>>,
}

impl<T> Default for Reopen<T> {
    fn default() -> Reopen<T> {
        Reopen { due: None, opening: None }
    }
}

impl<T: Send + 'static> Reopen<T> {
    fn schedule(&mut self, at: Instant) {
        self.due = Some(at);
    }

    fn poll(&mut self, now: Instant, open: fn() -> Result<T, AudioError>) -> Option<T> {
        if let Some(opening) = &self.opening {
            match opening.try_recv() {
                Ok(Some(opened)) => {
                    self.opening = None;
                    return Some(opened);
                }
                Err(TryRecvError::Empty) => return None,
                Ok(None) | Err(TryRecvError::Disconnected) => {
                    self.opening = None;
                    self.due = Some(now + RETRY_DEVICE);
                }
            }
        }
        if self.due.is_some_and(|due| due <= now) {
            self.due = None;
            let (sender, receiver) = mpsc::sync_channel(1);
            self.opening = Some(receiver);
            let opened = std::thread::Builder::new().name("offhook-device".into()).spawn(move || {
                // Nobody waits any more when the call is over.
                let _ = sender.send(open().ok());
            });
            if opened.is_err() {
                self.opening = None;
                self.due = Some(now + RETRY_DEVICE);
            }
        }
        None
    }
}

fn ntp_now() -> u64 {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let fraction = (u64::from(unix.subsec_nanos()) << 32) / 1_000_000_000;
    (unix.as_secs().wrapping_add(NTP_TO_UNIX) << 32) | fraction
}
