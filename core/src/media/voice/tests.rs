//! Devices that hang or stall, on the voice's real threads. An embedder's devices take the place of a sound server.

use std::net::Ipv4Addr;
use std::sync::Condvar;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::*;
use crate::audio::{AudioProvider, Block, CustomDevice, Nothing};

/// Nothing that these tests wait for takes a tenth of it, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a device of the test's sound server hangs, until the test lets it go.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Hang {
    Open,
    Start,
    Close,
    /// It opens and starts, but then it gives or takes nothing and never closes.
    Stall,
    Never,
}

/// A sound server whose devices hang one after the other as told, and work from then on.
struct Server {
    hangs: Vec<Hang>,
    opened: AtomicUsize,
    running: AtomicUsize,
    closed: AtomicUsize,
    released: Mutex<bool>,
    release: Condvar,
}

impl Server {
    fn new(hangs: &[Hang]) -> Arc<Server> {
        Arc::new(Server {
            hangs: hangs.to_vec(),
            opened: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            closed: AtomicUsize::new(0),
            released: Mutex::new(false),
            release: Condvar::new(),
        })
    }

    fn hang(&self) {
        let released = lock(&self.released);
        drop(self.release.wait_while(released, |released| !*released).unwrap());
    }

    fn release(&self) {
        *lock(&self.released) = true;
        self.release.notify_all();
    }
}

/// The provider of one direction's devices.
struct Devices(Arc<Server>);

struct TestDevice {
    server: Arc<Server>,
    hang: Hang,
    nothing: Nothing,
}

impl Devices {
    fn open(&self) -> TestDevice {
        let count = self.0.opened.fetch_add(1, SeqCst);
        let hang = self.0.hangs.get(count).copied().unwrap_or(Hang::Never);
        if hang == Hang::Open {
            self.0.hang();
        }
        TestDevice { server: self.0.clone(), hang, nothing: Nothing::default() }
    }

    fn spec(server: &Arc<Server>) -> DeviceSpec {
        DeviceSpec::Custom(CustomDevice::new(Arc::new(Devices(server.clone()))))
    }
}

impl AudioProvider for Devices {
    fn source(&self) -> Option<Box<dyn AudioSource>> {
        Some(Box::new(self.open()))
    }

    fn sink(&self) -> Option<Box<dyn AudioSink>> {
        Some(Box::new(self.open()))
    }
}

impl TestDevice {
    fn begin(&self) {
        if self.hang == Hang::Start {
            self.server.hang();
        }
        self.server.running.fetch_add(1, SeqCst);
    }
}

impl AudioSource for TestDevice {
    fn start(&mut self, now: Instant) -> Result<Instant, AudioError> {
        self.begin();
        AudioSource::start(&mut self.nothing, now)
    }

    fn read(&mut self, now: Instant, block: &mut Block) -> Result<bool, AudioError> {
        if self.hang == Hang::Stall { Ok(false) } else { self.nothing.read(now, block) }
    }
}

impl AudioSink for TestDevice {
    fn start(&mut self, now: Instant) -> Result<Instant, AudioError> {
        self.begin();
        AudioSink::start(&mut self.nothing, now)
    }

    fn wanted(&mut self, now: Instant) -> usize {
        if self.hang == Hang::Stall { 0 } else { self.nothing.wanted(now) }
    }

    fn write(&mut self, block: &Block) -> Result<(), AudioError> {
        self.nothing.write(block)
    }
}

impl Drop for TestDevice {
    fn drop(&mut self) {
        if [Hang::Close, Hang::Stall].contains(&self.hang) {
            self.server.hang();
        }
        self.server.closed.fetch_add(1, SeqCst);
    }
}

fn spawn(mic: DeviceSpec, speaker: DeviceSpec) -> (Voice, events::Receiver<VoiceEvent>) {
    let (stun, _) = events::channel(1);
    let (tunnel, _) = events::channel(1);
    let socket = MediaSocket::bind(Some(Ipv4Addr::LOCALHOST.into()), stun, tunnel).unwrap();
    let (sender, receiver) = events::channel(32);
    let link = Arc::new(VoiceLink::new(socket));
    let config = AudioConfig { mic, speaker, ..AudioConfig::default() };
    (Voice::spawn(&config, link, sender).unwrap(), receiver)
}

async fn event(events: &mut events::Receiver<VoiceEvent>) -> VoiceEvent {
    tokio::time::timeout(PATIENCE, events.recv()).await.expect("something is told").unwrap()
}

fn lost(event: VoiceEvent) -> String {
    let VoiceEvent::Device(_, DeviceNews::Lost(what)) = event else { panic!("it is told, not {event:?}") };
    what
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let all = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn a_device_that_hangs_while_it_opens_or_starts_does_not_hold_the_other() {
    for hang in [Hang::Open, Hang::Start] {
        let (hanging, working) = (Server::new(&[hang]), Server::new(&[]));
        let (voice, mut events) = spawn(Devices::spec(&working), Devices::spec(&hanging));
        voice.start();
        until("the voice is sent", || voice.stats().sent > 10).await;
        let what = lost(event(&mut events).await);
        assert!(what.contains("does not answer"), "{what}");
        assert!(matches!(event(&mut events).await, VoiceEvent::Started { .. }));
        hanging.release();
        until("what answers at last is used", || hanging.running.load(SeqCst) == 1).await;
        assert_eq!(hanging.opened.load(SeqCst), 1, "nobody asks twice");
        voice.finish().await;
        assert_eq!((hanging.closed.load(SeqCst), working.closed.load(SeqCst)), (1, 1));
    }
}

#[tokio::test]
async fn a_device_that_hangs_does_not_hold_the_end_of_the_call() {
    for hang in [Hang::Open, Hang::Start, Hang::Close] {
        let server = Server::new(&[hang]);
        let (voice, _events) = spawn(Devices::spec(&server), DeviceSpec::None);
        voice.start();
        until("it is asked for", || server.opened.load(SeqCst) == 1).await;
        if hang == Hang::Close {
            until("it runs", || voice.stats().sent > 10).await;
        }
        tokio::time::timeout(PATIENCE, voice.finish()).await.expect("the call ends");
        assert_eq!(server.closed.load(SeqCst), 0);
        server.release();
        until("it is closed in the end", || server.closed.load(SeqCst) == 1).await;
    }
}

#[tokio::test]
async fn a_stalled_device_is_replaced_though_it_never_closes() {
    let (mics, speakers) = (Server::new(&[Hang::Stall]), Server::new(&[Hang::Stall]));
    let (voice, mut events) = spawn(Devices::spec(&mics), Devices::spec(&speakers));
    voice.start();
    assert!(matches!(event(&mut events).await, VoiceEvent::Started { .. }));
    for _ in 0..2 {
        let what = lost(event(&mut events).await);
        assert!(what.contains("stalled"), "{what}");
    }
    until("both are replaced", || [&mics, &speakers].iter().all(|s| s.running.load(SeqCst) == 2)).await;
    let sent = voice.stats().sent;
    until("the voice goes on", || voice.stats().sent > sent + 100).await;
    assert!(events.try_recv().is_err(), "the new ones work");
    tokio::time::timeout(PATIENCE, voice.finish()).await.expect("the call ends");
    until("the new ones are closed", || [&mics, &speakers].iter().all(|s| s.closed.load(SeqCst) == 1)).await;
    mics.release();
    speakers.release();
}

#[tokio::test]
async fn no_more_threads_hang_than_there_may_be() {
    let server = Server::new(&[Hang::Stall; 20]);
    let (voice, mut events) = spawn(Devices::spec(&server), DeviceSpec::None);
    voice.start();
    assert!(matches!(event(&mut events).await, VoiceEvent::Started { .. }));
    for _ in 0..devices::MAX_WORKERS {
        lost(event(&mut events).await);
    }
    // Silence is sent meanwhile: four seconds of it, in which two more would have been opened.
    let sent = voice.stats().sent;
    until("time passes", || voice.stats().sent > sent + 200).await;
    assert_eq!(server.opened.load(SeqCst), devices::MAX_WORKERS);
    assert!(events.try_recv().is_err(), "nobody is told again and again");
    server.release();
    until("when they let go, others are tried", || server.opened.load(SeqCst) > devices::MAX_WORKERS).await;
    voice.finish().await;
}

#[tokio::test]
async fn nobody_is_recorded_before_the_start() {
    let server = Server::new(&[]);
    let (voice, _events) = spawn(Devices::spec(&server), Devices::spec(&server));
    voice.prepare();
    voice.finish().await;
    assert_eq!(server.opened.load(SeqCst), 0);
}

#[tokio::test]
async fn a_flood_hides_neither_the_start_nor_the_end() {
    let server = Server::new(&[]);
    let (voice, mut events) = spawn(Devices::spec(&server), DeviceSpec::None);
    let inbox = voice.inbox();
    let flood = || (0..100_000).for_each(|_| inbox.push(Bytes::from_static(&[0; 20])));
    flood();
    voice.start();
    assert!(matches!(event(&mut events).await, VoiceEvent::Started { .. }));
    flood();
    voice.end();
    until("the microphone is closed", || server.closed.load(SeqCst) == 1).await;
    voice.finish().await;
}

#[tokio::test]
async fn p10_devices_are_changed_while_the_voice_runs() {
    let [(mics, speakers), (others, boxes)] = [(); 2].map(|()| (Server::new(&[]), Server::new(&[])));
    let (voice, mut events) = spawn(Devices::spec(&mics), Devices::spec(&speakers));
    voice.start();
    assert!(matches!(event(&mut events).await, VoiceEvent::Started { .. }));
    voice.use_devices(Some(Devices::spec(&others)), None);
    voice.use_devices(None, Some(Devices::spec(&boxes)));
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let VoiceEvent::Device(kind, DeviceNews::Used(_)) = event(&mut events).await else {
            panic!("both are used")
        };
        kinds.push(kind);
    }
    assert!(kinds.contains(&DeviceKind::Mic) && kinds.contains(&DeviceKind::Speaker), "{kinds:?}");
    until("those before are closed", || [&mics, &speakers].iter().all(|s| s.closed.load(SeqCst) == 1)).await;
    let sent = voice.stats().sent;
    until("the voice goes on", || voice.stats().sent > sent + 10).await;
    assert!([&others, &boxes].iter().all(|s| s.running.load(SeqCst) == 1 && s.closed.load(SeqCst) == 0));

    voice.use_devices(Some(DeviceSpec::Id("nonsense".into())), None);
    let VoiceEvent::Device(kind, DeviceNews::Refused(why)) = event(&mut events).await else {
        panic!("refused")
    };
    assert!(kind == DeviceKind::Mic && why.contains("nonsense"), "{why}");
    let sent = voice.stats().sent;
    until("the one before goes on", || voice.stats().sent > sent + 10).await;
    voice.finish().await;
    assert!([&others, &boxes].iter().all(|s| s.closed.load(SeqCst) == 1));
}

#[tokio::test]
async fn a_device_that_is_chosen_before_the_start_is_the_only_one_that_is_opened() {
    let (first, then) = (Server::new(&[]), Server::new(&[]));
    let (voice, mut events) = spawn(Devices::spec(&first), DeviceSpec::None);
    voice.use_devices(Some(Devices::spec(&then)), None);
    voice.start();
    assert!(matches!(event(&mut events).await, VoiceEvent::Started { .. }));
    assert_eq!((first.opened.load(SeqCst), then.running.load(SeqCst)), (0, 1));
    voice.finish().await;
}

#[tokio::test]
async fn levels_are_told_while_they_are_wanted() {
    let loud = CustomDevice::microphone(|| |block: &mut Block| block.fill(0.1));
    let (voice, mut events) = spawn(DeviceSpec::Custom(loud), DeviceSpec::None);
    voice.set_muted(true);
    voice.start();
    assert!(matches!(event(&mut events).await, VoiceEvent::Started { .. }));
    let sent = voice.stats().sent;
    until("nothing is told unasked", || voice.stats().sent > sent + 20).await;
    assert!(events.try_recv().is_err());
    voice.set_measured(true);
    let VoiceEvent::Levels { .. } = event(&mut events).await else { panic!("levels") };
    let VoiceEvent::Levels { mic, speaker } = event(&mut events).await else { panic!("levels") };
    assert_eq!(mic, Level { peak: -20.0, rms: -20.0 }, "though it is muted");
    assert_eq!(speaker, Level::SILENCE);
    voice.set_measured(false);
    let sent = voice.stats().sent;
    until("time passes", || voice.stats().sent > sent + 20).await;
    while events.try_recv().is_ok() {}
    let sent = voice.stats().sent;
    until("and nothing is told any more", || voice.stats().sent > sent + 20).await;
    assert!(events.try_recv().is_err());
    voice.finish().await;
}

#[tokio::test]
async fn nobody_who_talks_to_the_answering_machine_hears_the_room_when_devices_are_chosen() {
    let (machine, room) = (Server::new(&[]), Server::new(&[]));
    let (voice, _events) = spawn(Devices::spec(&room), DeviceSpec::None);
    voice.use_instead(Devices::spec(&machine), DeviceSpec::None);
    voice.use_devices(Some(Devices::spec(&room)), None);
    voice.start();
    until("the machine talks", || voice.stats().sent > 10).await;
    voice.use_devices(Some(Devices::spec(&room)), None);
    let sent = voice.stats().sent;
    until("time passes", || voice.stats().sent > sent + 20).await;
    assert_eq!((machine.running.load(SeqCst), room.opened.load(SeqCst)), (1, 0));
    voice.finish().await;
}
