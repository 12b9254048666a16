//! A directory and telephones on loopback, each with a microphone that hums and a loudspeaker that remembers.

use std::f64::consts::TAU;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use offhook::api::{CallStatus, Command, Event, Reply, Status, TimedEvent};
use offhook::audio::{Block, CustomDevice, DeviceSpec, Processing, SAMPLE_RATE};
use offhook::net::{Net, NetConfig, NetEvent, Role};
use offhook::phone::{Call, CallState, Phone, PhoneBuilder};
use offhook::storage::{Home, NewAccount, Password};
use tokio::sync::mpsc;

/// More than any step takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Judged at a time: a fifth of a second.
const PIECE: usize = SAMPLE_RATE as usize / 5;

pub struct Directory {
    pub net: Net,
    _events: mpsc::Receiver<NetEvent>,
    pub addr: String,
}

pub async fn directory() -> Directory {
    let mut config = NetConfig::new([7; 32], Role::Directory);
    config.listen = vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()];
    config.stun = Some("127.0.0.1:0".parse().unwrap());
    config.allow_private = Some(true);
    let (net, mut events) = Net::start(config).await.unwrap();
    let addr = loop {
        if let NetEvent::Listening { addr } = events.recv().await.unwrap() {
            break format!("{addr}/p2p/{}", net.id().to_peer_id());
        }
    };
    Directory { net, _events: events, addr }
}

/// A loudspeaker that keeps the last second of what it is given.
#[derive(Default)]
pub struct Ear {
    heard: Mutex<Vec<f32>>,
    pub open: AtomicUsize,
}

/// Counts as one while it lives.
struct Open(Arc<Ear>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, SeqCst);
    }
}

impl Ear {
    pub fn new() -> (Arc<Ear>, DeviceSpec) {
        let ear = Arc::new(Ear::default());
        let made = ear.clone();
        let device = CustomDevice::loudspeaker(move || {
            made.open.fetch_add(1, SeqCst);
            made.heard.lock().unwrap().clear();
            let open = Open(made.clone());
            move |block: &Block| {
                let mut heard = open.0.heard.lock().unwrap();
                heard.extend_from_slice(block);
                let old = heard.len().saturating_sub(SAMPLE_RATE as usize);
                heard.drain(..old);
            }
        });
        (ear, DeviceSpec::Custom(device))
    }

    /// The last fifth of a second.
    fn piece(&self) -> Option<Vec<f32>> {
        let heard = self.heard.lock().unwrap();
        heard.len().checked_sub(PIECE).map(|from| heard[from..].to_vec())
    }

    /// How much of a frequency there is in it.
    pub fn amount(&self, hz: f64) -> Option<f64> {
        self.piece().map(|piece| amplitude(&piece, hz))
    }

    /// Whether both frequencies were there together for 30 ms in the last second, louder than this.
    fn had(&self, pair: (f64, f64), louder: f64) -> bool {
        let heard = self.heard.lock().unwrap();
        heard
            .windows(1_440)
            .step_by(240)
            .any(|part| amplitude(part, pair.0) > louder && amplitude(part, pair.1) > louder)
    }

    pub async fn hears(&self, what: &str, hz: f64) {
        until(what, || self.amount(hz).is_some_and(|amount| amount > 0.05)).await;
    }

    /// Whether there is sound, and nobody hums: music.
    pub async fn hears_music(&self) {
        let music = |piece: &Vec<f32>| {
            let power = piece.iter().map(|sample| sample * sample).sum::<f32>() / piece.len() as f32;
            power > 1e-4 && HUMS.iter().all(|hz| amplitude(piece, *hz) < 0.02)
        };
        until("music", || self.piece().as_ref().is_some_and(music)).await;
    }

    pub async fn hears_nothing(&self, what: &str) {
        let silent = |piece: Vec<f32>| piece.iter().all(|sample| sample.abs() < 0.003);
        until(what, || self.piece().is_some_and(silent)).await;
    }

    pub async fn heard_keys(&self, what: &str, pair: (f64, f64), louder: f64) {
        until(what, || self.had(pair, louder)).await;
    }

    pub async fn is_closed(&self, what: &str) {
        until(what, || self.open.load(SeqCst) == 0).await;
    }
}

/// The amplitude of a frequency's sine in a piece of sound.
fn amplitude(sound: &[f32], hz: f64) -> f64 {
    let step = hz / f64::from(SAMPLE_RATE) * TAU;
    let (re, im) = sound.iter().enumerate().fold((0.0, 0.0), |(re, im), (n, sample)| {
        let angle = step * n as f64;
        (re + f64::from(*sample) * angle.cos(), im + f64::from(*sample) * angle.sin())
    });
    2.0 * re.hypot(im) / sound.len() as f64
}

/// What the three of them hum, Hz: no tone of the music, no key, no tone of a telephone.
pub const HUMS: [f64; 3] = [1_000.0, 1_100.0, 2_000.0];

/// A microphone that hums.
fn hum(hz: f64) -> DeviceSpec {
    DeviceSpec::Custom(CustomDevice::microphone(move || {
        let mut at = 0_u64;
        move |block: &mut Block| {
            for sample in block.iter_mut() {
                *sample = (0.25 * (at as f64 * hz / f64::from(SAMPLE_RATE) * TAU).sin()) as f32;
                at += 1;
            }
        }
    }))
}

/// A telephone, what it hears, and what happens there.
pub struct Person {
    pub phone: Phone,
    pub ear: Arc<Ear>,
    pub events: Box<dyn futures::Stream<Item = TimedEvent> + Send + Unpin>,
    pub home: tempfile::TempDir,
}

/// The nth of [`HUMS`], with settings of the test's own.
pub async fn person(
    n: usize,
    directory: &Directory,
    settings: impl FnOnce(PhoneBuilder) -> PhoneBuilder,
) -> Person {
    let home = tempfile::tempdir().unwrap();
    let password = Password::new("a password for tests").unwrap();
    let id = ["ada", "bob", "cy"][n];
    let new = NewAccount { id: id.parse().unwrap(), password };
    Home::open(home.path()).unwrap().create_account(new, |_| {}).await.unwrap();
    start(n, directory, home, settings).await
}

/// Starts the telephone of an account that is there.
pub async fn start(
    n: usize,
    directory: &Directory,
    home: tempfile::TempDir,
    settings: impl FnOnce(PhoneBuilder) -> PhoneBuilder,
) -> Person {
    let (ear, speaker) = Ear::new();
    let builder = Phone::builder(home.path())
        .entry([directory.addr.clone()])
        .listen(["/ip4/127.0.0.1/udp/0/quic-v1".to_owned()])
        .allow_private(true)
        .mdns(false)
        .processing(Processing::NONE)
        .ringer(DeviceSpec::None)
        .mic(hum(HUMS[n]))
        .speaker(speaker);
    let phone = settings(builder).build().await.unwrap();
    let events = Box::new(phone.events());
    tokio::time::timeout(PATIENCE, phone.online()).await.expect("on line in time").unwrap();
    Person { phone, ear, events, home }
}

impl Person {
    pub async fn does(&self, command: Command) -> Reply {
        self.phone.execute(command).await.unwrap()
    }

    pub fn number(&self) -> String {
        self.phone.number().to_string()
    }

    /// The next event that the test looks for.
    pub async fn sees<T>(&mut self, what: &str, mut want: impl FnMut(&Event) -> Option<T>) -> T {
        let wait = async {
            loop {
                let event = self.events.next().await.expect("events").event;
                if let Some(found) = want(&event) {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {what}"))
    }

    /// Waits until it rings here, and gives the call.
    pub async fn rings(&mut self) -> String {
        self.sees("it rings", |event| match event {
            Event::Incoming { call, .. } => Some(call.clone()),
            _ => None,
        })
        .await
    }

    pub async fn status(&self) -> Status {
        match self.does(Command::Status).await {
            Reply::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }

    /// How a call stands.
    pub async fn call(&self, id: &str) -> CallStatus {
        self.status().await.calls.into_iter().find(|call| call.call == id).expect("the call")
    }

    /// Waits until a call's status is as wanted.
    pub async fn shows(&self, what: &str, id: &str, wanted: impl Fn(&CallStatus) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !wanted(&self.call(id).await) {
            assert!(Instant::now() < end, "never: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn hold(&self, call: &str, on: bool) {
        self.does(Command::Hold { call: Some(call.to_owned()), on }).await;
    }
}

pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// One calls the other, who answers; both hear each other.
pub async fn talk(caller: &Person, callee: &mut Person, hums: [f64; 2]) -> Call {
    let mut call = caller.phone.dial(callee.number()).await.unwrap();
    let rang = callee.rings().await;
    assert_eq!(rang, call.id());
    callee.does(Command::Answer { call: Some(rang) }).await;
    assert_eq!(call.until(|state| *state == CallState::Active).await, CallState::Active);
    caller.ear.hears("the callee", hums[1]).await;
    callee.ear.hears("the caller", hums[0]).await;
    call
}

pub async fn end(people: impl IntoIterator<Item = Person>, directory: Directory) {
    for person in people {
        person.phone.shutdown().await;
    }
    directory.net.shutdown().await;
}
