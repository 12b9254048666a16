//! Word of sound devices that come and go, from PulseAudio or PipeWire's stand-in for it. Nothing is asked while nothing happens.
//!
//! A sound server moves what plays on a device that is pulled out to another one, and says nothing of it to the player; nor does it
//! move it back. So somebody has to look, and this says when.

use std::io::BufReader;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use pulseaudio::protocol::{
    AuthParams, AuthReply, Command, MAX_VERSION, Prop, Props, ProtocolError, SetClientNameReply,
    SubscriptionEvent, SubscriptionEventFacility, SubscriptionEventType, SubscriptionMask, read_ack_message,
    read_command_message, read_reply_message, write_command_message,
};
use tokio::sync::watch;

/// How long a server may take to answer.
const TO_ANSWER: Duration = Duration::from_secs(5);
/// How long after a connection has ended, or could not be made, the next one is tried.
const RETRY: Duration = Duration::from_secs(2);

/// The one watcher of this program, while anybody wants it.
static WATCHER: Mutex<Weak<Watcher>> = Mutex::new(Weak::new());

/// Ends with the last who wants it.
#[derive(Debug)]
struct Watcher {
    /// How often something has happened.
    count: watch::Sender<u64>,
    /// Whether it would be told.
    connected: AtomicBool,
    /// What its thread reads.
    socket: Mutex<Option<UnixStream>>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Some(socket) = self.socket.get_mut().unwrap_or_else(PoisonError::into_inner) {
            // The thread wakes up and ends; if it has ended already, so much the better.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// Tells whether devices have come or gone.
#[derive(Debug)]
pub(crate) struct Changes {
    count: watch::Receiver<u64>,
    watcher: Option<Arc<Watcher>>,
}

impl Changes {
    /// From now on. Connects in the background.
    pub(crate) fn new() -> Changes {
        let mut running = WATCHER.lock().unwrap_or_else(PoisonError::into_inner);
        let watcher = running.upgrade().unwrap_or_else(|| {
            let watcher = Arc::new(Watcher {
                count: watch::Sender::new(0),
                connected: AtomicBool::new(false),
                socket: Mutex::new(None),
            });
            let watched = Arc::downgrade(&watcher);
            // Without a thread nothing is ever told, as without a server.
            let _ = std::thread::Builder::new().name("offhook-changes".into()).spawn(move || watch(&watched));
            watcher
        });
        *running = Arc::downgrade(&watcher);
        Changes { count: watcher.count.subscribe(), watcher: Some(watcher) }
    }

    /// What a test tells.
    #[cfg(test)]
    pub(crate) fn told_by(count: &watch::Sender<u64>) -> Changes {
        Changes { count: count.subscribe(), watcher: None }
    }

    /// Whether anything has happened since this was last asked.
    pub(crate) fn happened(&mut self) -> bool {
        let happened = self.count.has_changed().unwrap_or(false);
        self.count.mark_unchanged();
        happened
    }

    /// Waits until something happens, or for this long if nobody would tell.
    pub(crate) async fn wait(&mut self, otherwise: Duration) {
        let connected = self.watcher.as_ref().is_some_and(|watcher| watcher.connected.load(Relaxed));
        tokio::select! {
            Ok(()) = self.count.changed() => {}
            () = tokio::time::sleep(otherwise), if !connected => {}
            else => tokio::time::sleep(otherwise).await,
        }
    }
}

/// The thread: connects, listens, and connects again, as long as somebody wants it.
fn watch(watched: &Weak<Watcher>) {
    loop {
        if let Ok((socket, version)) = subscribe() {
            let Some(watcher) = watched.upgrade() else { return };
            *watcher.socket.lock().unwrap_or_else(PoisonError::into_inner) = socket.try_clone().ok();
            watcher.connected.store(true, Relaxed);
            // What happened before is not known.
            watcher.count.send_modify(|count| *count += 1);
            drop(watcher);
            listen(socket, version, watched);
            let Some(watcher) = watched.upgrade() else { return };
            watcher.connected.store(false, Relaxed);
            watcher.count.send_modify(|count| *count += 1);
        }
        std::thread::sleep(RETRY);
        if watched.strong_count() == 0 {
            return;
        }
    }
}

/// Notes what the server tells until it or we end.
fn listen(socket: UnixStream, version: u16, watched: &Weak<Watcher>) {
    let mut reader = BufReader::new(socket);
    while let Ok((_, command)) = read_command_message(&mut reader, version) {
        let Command::SubscribeEvent(event) = command else { continue };
        let Some(watcher) = watched.upgrade().filter(|_| counts(&event)) else { continue };
        watcher.count.send_modify(|count| *count += 1);
    }
}

/// Whether devices came or went, or another one is the default: not how loud they are.
fn counts(event: &SubscriptionEvent) -> bool {
    match event.event_type {
        SubscriptionEventType::New | SubscriptionEventType::Removed => true,
        SubscriptionEventType::Changed => event.event_facility == SubscriptionEventFacility::Server,
    }
}

/// A connection to the sound server that tells of devices, and the version of its protocol.
fn subscribe() -> Result<(UnixStream, u16), ProtocolError> {
    let path = pulseaudio::socket_path_from_env()
        .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound))?;
    let cookie =
        pulseaudio::cookie_path_from_env().and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
    let socket = UnixStream::connect(path)?;
    socket.set_read_timeout(Some(TO_ANSWER))?;
    let mut reader = BufReader::new(&socket);
    let auth = AuthParams { version: MAX_VERSION, supports_shm: false, supports_memfd: false, cookie };
    write_command_message(&mut &socket, 0, &Command::Auth(auth), MAX_VERSION)?;
    let (_, reply): (_, AuthReply) = read_reply_message(&mut reader, MAX_VERSION)?;
    let version = reply.version.min(MAX_VERSION);
    let mut props = Props::new();
    props.set(Prop::ApplicationName, c"offhook");
    write_command_message(&mut &socket, 1, &Command::SetClientName(props), version)?;
    let (_, _): (_, SetClientNameReply) = read_reply_message(&mut reader, version)?;
    let devices = SubscriptionMask::SINK | SubscriptionMask::SOURCE | SubscriptionMask::SERVER;
    write_command_message(&mut &socket, 2, &Command::Subscribe(devices), version)?;
    read_ack_message(&mut reader)?;
    drop(reader);
    socket.set_read_timeout(None)?;
    Ok((socket, version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watcher_ends_with_the_last_who_wants_it() {
        let (one, other) = (Changes::new(), Changes::new());
        let watcher = Arc::downgrade(one.watcher.as_ref().unwrap());
        assert!(Arc::ptr_eq(one.watcher.as_ref().unwrap(), other.watcher.as_ref().unwrap()), "one for all");
        drop(one);
        assert!(watcher.upgrade().is_some());
        drop(other);
        let end = std::time::Instant::now() + Duration::from_secs(30);
        while watcher.upgrade().is_some() {
            assert!(std::time::Instant::now() < end);
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_happened_is_told_once() {
        let count = watch::Sender::new(0);
        let mut changes = Changes::told_by(&count);
        assert!(!changes.happened());
        count.send_modify(|count| *count += 2);
        assert!(changes.happened() && !changes.happened());
    }
}
