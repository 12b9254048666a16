//! The voice of a leg: a thread that runs it at the pace of the monotonic clock.
//!
//! A thread of its own, because a frame that waits for a busy runtime is heard as a click. Packets wait for the next
//! tick on one bounded channel. Whatever may hang in a sound server happens on further threads
//! ([`devices`]), so that neither the other direction nor the end of the call waits for it.

mod change;
mod devices;
mod engine;
pub(super) mod fuzz;
mod keys;
mod thread;
pub(super) mod trial;

use std::convert::Infallible;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc as events;

use super::socket::MediaSocket;
use super::types::{AudioConfig, DeviceNews};
use crate::audio::{self, AudioError, AudioSink, AudioSource, DeviceKind, DeviceSpec, Level, Processor};
use crate::recording::Tap;
use change::Choice;
use devices::Keeper;
use engine::Codec;
use keys::KeyWishes;
use thread::Thread;

pub(super) use engine::VoiceStats;

/// Packets that may wait for the thread: five seconds of voice.
const INBOX: usize = 256;
/// How long the end of the threads is waited for. A device that hangs is left to itself.
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);

/// What the thread reports.
#[derive(Debug)]
pub(super) enum VoiceEvent {
    Started {
        mic_epoch_ns: u64,
        speaker_epoch_ns: u64,
    },
    FirstAudio {
        at_ns: u64,
    },
    Device(DeviceKind, DeviceNews),
    /// How loud both ends are, while that is wanted.
    Levels {
        mic: Level,
        speaker: Level,
    },
    Failed(AudioError),
}

enum Input {
    Packet(Instant, Bytes),
    /// [`Shared::wish`] has changed.
    Wake,
}

/// What is wanted of the thread; it only ever grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Wish {
    #[default]
    Nothing,
    /// The loudspeaker should be at hand.
    Prepare,
    /// Both sides should be heard.
    Talk,
    /// It is over.
    End,
}

type Mic = Box<dyn AudioSource>;
type Speaker = Box<dyn AudioSink>;

/// Held by every thread of the voice while it runs.
type Alive = events::Sender<Infallible>;

/// Where voice packets go: the QUIC connection once there is one, and only where the socket lets voice through.
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
        if let Some(connection) = self.connection.get()
            && self.socket.carries_voice()
        {
            // Too large or closed: a lost packet; the session notices the end by itself.
            let _ = connection.send_datagram(datagram.into());
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    wish: Mutex<Wish>,
    muted: AtomicBool,
    held: AtomicBool,
    /// Whether it is wanted how loud both ends are.
    measured: AtomicBool,
    choice: Mutex<Choice>,
    keys: KeyWishes,
    stats: Mutex<VoiceStats>,
    /// Where the voices are to be recorded from now on, if that has changed.
    tap: Mutex<Option<Option<Tap>>>,
    /// Whether it has.
    tapped: AtomicBool,
    /// Devices that take the place of the configured ones when the voice begins.
    instead: Mutex<Option<(DeviceSpec, DeviceSpec)>>,
}

impl Shared {
    fn wish(&self) -> Wish {
        *lock(&self.wish)
    }

    /// Where the voices are to be recorded from now on, if that has changed since it was asked.
    fn new_tap(&self) -> Option<Option<Tap>> {
        self.tapped.swap(false, Acquire).then(|| lock(&self.tap).take()).flatten()
    }
}

/// Nothing panics while holding one of these, and their values are always whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Handle of the thread, which ends with [`Voice::end`] or when the handle and all inboxes are dropped.
#[derive(Debug)]
pub(super) struct Voice {
    inbox: SyncSender<Input>,
    shared: Arc<Shared>,
    alive: events::Receiver<Infallible>,
}

impl Voice {
    /// Starts the thread with its codec, and opens the file that is to be spoken, so that a wrong name is known at
    /// once. A microphone is opened by [`Voice::start`] only: nobody is recorded before.
    pub(super) fn spawn(
        config: &AudioConfig,
        link: Arc<VoiceLink>,
        events: events::Sender<VoiceEvent>,
    ) -> Result<Voice, AudioError> {
        let (inbox, input) = mpsc::sync_channel(INBOX);
        let shared = Arc::new(Shared::default());
        let (alive_tx, alive) = events::channel(1);
        let file = match &config.mic {
            spec @ DeviceSpec::File(_) => Some(audio::open_source(spec)?),
            DeviceSpec::Default | DeviceSpec::Id(_) | DeviceSpec::None | DeviceSpec::Custom(_) => None,
        };
        let codec = Codec::new()?;
        let (music, quiet) = (config.music.clone(), config.quiet);
        let processing = config.mic.processing(config.processing);
        let thread = Thread {
            mic: Keeper::new(config.mic.clone(), file, &alive_tx),
            speaker: Keeper::new(config.speaker.clone(), None, &alive_tx),
            processing: config.processing,
            bound: false,
            link,
            events,
            shared: shared.clone(),
            music,
            quiet,
            input,
        };
        std::thread::Builder::new()
            .name("offhook-voice".into())
            .spawn(move || {
                // Made here, since that takes a moment.
                thread.run(codec, Processor::new(processing));
                drop(alive_tx);
            })
            .map_err(|error| AudioError::Device { name: "voice".into(), reason: error.to_string() })?;
        let voice = Voice { inbox, shared, alive };
        voice.set_volume(config.volume);
        Ok(voice)
    }

    pub(super) fn inbox(&self) -> VoiceInbox {
        VoiceInbox(self.inbox.clone())
    }

    /// Gets the loudspeaker ready, so that the first packet finds it open. Nothing is recorded or played.
    pub(super) fn prepare(&self) {
        self.wish(Wish::Prepare);
    }

    /// Begins to speak and to listen. Reports [`VoiceEvent::Started`].
    pub(super) fn start(&self) {
        self.wish(Wish::Talk);
    }

    /// Ends both; files are completed.
    pub(super) fn end(&self) {
        self.wish(Wish::End);
    }

    fn wish(&self, wish: Wish) {
        let mut current = lock(&self.shared.wish);
        *current = wish.max(*current);
        drop(current);
        // If there is no room, the thread is about to look anyway.
        let _ = self.inbox.try_send(Input::Wake);
    }

    pub(super) fn set_muted(&self, muted: bool) {
        self.shared.muted.store(muted, Relaxed);
    }

    pub(super) fn set_held(&self, held: bool) {
        self.shared.held.store(held, Relaxed);
    }

    /// Begins with these devices instead of the configured ones.
    pub(super) fn use_instead(&self, mic: DeviceSpec, speaker: DeviceSpec) {
        *lock(&self.shared.instead) = Some((mic, speaker));
    }

    /// Records both voices from now on, or no longer.
    pub(super) fn set_tap(&self, tap: Option<Tap>) {
        *lock(&self.shared.tap) = Some(tap);
        self.shared.tapped.store(true, Release);
    }

    pub(super) fn stats(&self) -> VoiceStats {
        *lock(&self.shared.stats)
    }

    /// Ends the threads and waits for them, which takes a moment; but not for a device that hangs.
    pub(super) async fn finish(mut self) {
        self.end();
        let _ = tokio::time::timeout(FINISH_TIMEOUT, self.alive.recv()).await;
    }
}

#[cfg(test)]
mod tests;
