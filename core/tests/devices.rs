//! Sound devices for real: a private PulseAudio with null sinks, one call that plays into one and another that
//! records from its monitor. What is asserted is that speech gets through, never when.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use offhook::audio::{DeviceKind, DeviceSpec, devices};
use offhook::media::{AudioConfig, DeviceNews, MediaConfig, MediaEvent, MediaLeg, Role};
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(60);

/// A sound server that ends with the value.
struct Pulse(Child);

impl Pulse {
    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.0.id().to_string()]).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_pulse(directory: &Path) -> Pulse {
    let socket = directory.join("native");
    let child = Command::new("pulseaudio")
        .args(["-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--disable-shm=yes"])
        .args(["-L", "module-null-sink sink_name=hall channels=1 rate=48000 norewinds=1"])
        .arg("-L")
        .arg(format!("module-native-protocol-unix auth-anonymous=1 socket={}", socket.display()))
        .env("XDG_RUNTIME_DIR", directory)
        .env("HOME", directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("pulseaudio, which `cargo xtask setup` installs");
    // SAFETY: each test has a process of its own (nextest), and nothing else runs yet that reads the environment.
    unsafe { std::env::set_var("PULSE_SERVER", format!("unix:{}", socket.display())) };
    Pulse(child)
}

/// Writes the same speech several times over.
fn repeat(from: &Path, to: &Path, times: usize) {
    let mut reader = hound::WavReader::open(from).unwrap();
    let samples: Vec<i16> = reader.samples::<i16>().map(Result::unwrap).collect();
    let mut writer = hound::WavWriter::create(to, reader.spec()).unwrap();
    for _ in 0..times {
        samples.iter().for_each(|sample| writer.write_sample(*sample).unwrap());
    }
    writer.finalize().unwrap();
}

fn leg(role: Role, mic: DeviceSpec, speaker: DeviceSpec) -> (MediaLeg, mpsc::Receiver<MediaEvent>) {
    let (events, receiver) = mpsc::channel(64);
    let config = MediaConfig {
        bind: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        audio: AudioConfig { mic, speaker, ..AudioConfig::default() },
        ..MediaConfig::new(role)
    };
    let leg = MediaLeg::start(config, events.clone()).unwrap();
    events.try_send(MediaEvent::Candidates(leg.candidates())).unwrap();
    (leg, receiver)
}

/// Carries what two legs have to tell each other, until a leg ends.
async fn carry(mut events: mpsc::Receiver<MediaEvent>, to: &MediaLeg, lost: &AtomicUsize) {
    while let Some(event) = events.recv().await {
        assert!(!matches!(event, MediaEvent::Failed(_)), "{event:?}");
        if let MediaEvent::Tunnel(packets) = event {
            packets.into_iter().for_each(|packet| to.tunnel(packet));
        } else if let MediaEvent::Candidates(lines) = event {
            to.add_remote_candidates(lines);
        } else if let MediaEvent::Device(kind, news) = event {
            println!("{kind:?}: {news:?}");
            lost.fetch_add(usize::from(matches!(news, DeviceNews::Lost(_))), SeqCst);
        }
    }
}

/// Power of the loudest quarter of a second in the file, from this second on.
fn loudest(path: &Path, from: usize) -> f64 {
    let Ok(mut reader) = hound::WavReader::open(path) else { return 0.0 };
    let samples = reader.samples::<i16>().map_while(Result::ok).skip(from * 48_000);
    let samples: Vec<f64> = samples.map(|sample| f64::from(sample) / 32_768.0).collect();
    let power = |part: &[f64]| part.iter().map(|sample| sample * sample).sum::<f64>() / part.len() as f64;
    samples.chunks_exact(12_000).map(power).fold(0.0, f64::max)
}

/// Whole seconds in the file.
fn seconds(path: &Path) -> usize {
    hound::WavReader::open(path).map_or(0, |reader| reader.duration() as usize / 48_000 + 1)
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let all = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.unwrap_or_else(|_| panic!("{what} did not happen"));
}

/// The ids of the null sink and of its monitor, once the server has them.
async fn find_hall() -> (String, String) {
    let found = async {
        loop {
            let list = tokio::task::spawn_blocking(devices).await.unwrap();
            let id = |kind, part: &str| {
                list.iter().find(|d| d.kind == kind && d.id.contains(part)).map(|d| d.id.clone())
            };
            let ids = (id(DeviceKind::Mic, "hall.monitor"), id(DeviceKind::Speaker, "hall"));
            if let (Some(mic), Some(speaker)) = ids {
                assert!(list.iter().any(|device| device.default && device.id == speaker), "{list:?}");
                return (mic, speaker);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("the sound server starts")
}

/// The server hangs, as one does whose driver waits for a device: both ends of the sound notice it, and neither the
/// calls nor the end of one of them wait for it. When it goes on, so does the sound.
async fn hang(pulse: &Pulse, heard: &Path, lost: &AtomicUsize) {
    pulse.signal("STOP");
    until("noticing that loudspeaker and microphone stall", || lost.load(SeqCst) == 2).await;
    let (spare, _events) = leg(Role::Callee, DeviceSpec::Default, DeviceSpec::Default);
    spare.start_audio();
    tokio::time::timeout(PATIENCE, spare.close()).await.expect("a call ends though its devices hang");
    let silent = seconds(heard);
    until("silence being written meanwhile", || seconds(heard) > silent + 1).await;
    let from = seconds(heard);
    pulse.signal("CONT");
    until("hearing speech again", || loudest(heard, from) > 1e-4).await;
}

/// What `pactl` says.
fn pactl(words: &[&str]) -> String {
    let output = Command::new("pactl").args(words).output().expect("pactl, which comes with pulseaudio");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Plugs a headset in; what is told pulls it out.
fn plug_headset() -> String {
    pactl(&[
        "load-module",
        "module-null-sink",
        "sink_name=headset",
        "channels=1",
        "rate=48000",
        "norewinds=1",
    ])
}

/// The headset's loudspeaker, once the server has it.
async fn find_headset() -> DeviceSpec {
    let found = async {
        loop {
            let list = tokio::task::spawn_blocking(devices).await.unwrap();
            if let Some(found) =
                list.iter().find(|d| d.kind == DeviceKind::Speaker && d.id.ends_with("headset"))
            {
                return DeviceSpec::Id(found.id.clone());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("the headset is listed")
}

/// Counts what is told of devices.
#[derive(Default)]
struct Told {
    lost: AtomicUsize,
    back: AtomicUsize,
    used: AtomicUsize,
}

async fn carry_and_tell(mut events: mpsc::Receiver<MediaEvent>, to: &MediaLeg, told: &Told) {
    while let Some(event) = events.recv().await {
        if let MediaEvent::Tunnel(packets) = event {
            packets.into_iter().for_each(|packet| to.tunnel(packet));
        } else if let MediaEvent::Candidates(lines) = event {
            to.add_remote_candidates(lines);
        } else if let MediaEvent::Device(kind, news) = event {
            println!("{kind:?}: {news:?}");
            let counted = match news {
                DeviceNews::Lost(_) => &told.lost,
                DeviceNews::Back(_) => &told.back,
                DeviceNews::Used(_) => &told.used,
                DeviceNews::Refused(why) => panic!("refused: {why}"),
            };
            counted.fetch_add(1, SeqCst);
        }
    }
}

/// Somebody speaks to `b`, who hears it from a headset; what sounds in the hall, the default device, is written to a file by way of
/// a second call. The headset is pulled out and plugged in again, and at last the hall is chosen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q7_a_headset_that_is_pulled_out_in_a_call_is_replaced_and_used_again() {
    let directory = tempfile::tempdir().unwrap();
    let _pulse = start_pulse(directory.path());
    let (mic, hall) = find_hall().await;
    let module = plug_headset();
    let headset = find_headset().await;
    let speech = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/speech-a.wav");
    let (said, heard) = (directory.path().join("said.wav"), directory.path().join("heard.wav"));
    repeat(&speech, &said, 12);
    let (a, a_events) = leg(Role::Caller, DeviceSpec::File(said), DeviceSpec::None);
    let (b, b_events) = leg(Role::Callee, DeviceSpec::None, headset);
    let (c, c_events) = leg(Role::Caller, DeviceSpec::Id(mic), DeviceSpec::None);
    let (d, d_events) = leg(Role::Callee, DeviceSpec::None, DeviceSpec::File(heard.clone()));
    for (from, to) in [(&a, &b), (&b, &a), (&c, &d), (&d, &c)] {
        to.set_remote(from.offer());
        to.start_audio();
    }
    let told = Told::default();
    let plays = || pactl(&["list", "short", "sink-inputs"]).lines().count() == 1;
    let story = async {
        until("the headset plays and the hall is recorded", || plays() && seconds(&heard) > 2).await;
        assert!(loudest(&heard, 0) < 1e-6, "nothing sounds in the hall");
        let (from, clock) = (seconds(&heard), std::time::Instant::now());
        pactl(&["unload-module", &module]);
        until("the hall plays instead", || loudest(&heard, from.saturating_sub(1)) > 1e-4).await;
        println!("heard again {:?} after the headset was pulled out, as a file shows it", clock.elapsed());
        until("that is told", || told.lost.load(SeqCst) >= 1).await;
        plug_headset();
        until("it is back", || told.back.load(SeqCst) >= 1).await;
        // Of what was under way nothing sounds two seconds later.
        let from = seconds(&heard) + 2;
        until("the hall is silent", || seconds(&heard) > from + 2).await;
        assert!(loudest(&heard, from) < 1e-6, "the headset plays alone");
        b.use_devices(None, Some(DeviceSpec::Id(hall)));
        until("the hall is used as it was chosen", || told.used.load(SeqCst) == 1).await;
        let from = seconds(&heard);
        until("and plays", || loudest(&heard, from) > 1e-4).await;
    };
    tokio::select! {
        () = story => {}
        () = carry_and_tell(a_events, &b, &told) => panic!("a leg ended"),
        () = carry_and_tell(b_events, &a, &told) => panic!("a leg ended"),
        () = carry_and_tell(c_events, &d, &told) => panic!("a leg ended"),
        () = carry_and_tell(d_events, &c, &told) => panic!("a leg ended"),
    }
    for leg in [a, b, c, d] {
        leg.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn speech_goes_through_a_sound_server_and_again_after_it_has_hung() {
    let directory = tempfile::tempdir().unwrap();
    let pulse = start_pulse(directory.path());
    let (mic, speaker) = find_hall().await;
    let speech = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/speech-a.wav");
    let said = directory.path().join("said.wav");
    repeat(&speech, &said, 6);
    let heard = directory.path().join("heard.wav");
    let (a, a_events) = leg(Role::Caller, DeviceSpec::File(said), DeviceSpec::None);
    let (b, b_events) = leg(Role::Callee, DeviceSpec::None, DeviceSpec::Id(speaker));
    let (c, c_events) = leg(Role::Caller, DeviceSpec::Id(mic), DeviceSpec::None);
    let (d, d_events) = leg(Role::Callee, DeviceSpec::None, DeviceSpec::File(heard.clone()));
    for (from, to) in [(&a, &b), (&b, &a), (&c, &d), (&d, &c)] {
        to.set_remote(from.offer());
        to.start_audio();
    }
    let lost = AtomicUsize::new(0);
    let story = async {
        until("speech arriving", || loudest(&heard, 0) > 1e-4).await;
        assert_eq!(lost.load(SeqCst), 0, "every device works");
        hang(&pulse, &heard, &lost).await;
    };
    tokio::select! {
        () = story => {}
        () = carry(a_events, &b, &lost) => panic!("a leg ended"),
        () = carry(b_events, &a, &lost) => panic!("a leg ended"),
        () = carry(c_events, &d, &lost) => panic!("a leg ended"),
        () = carry(d_events, &c, &lost) => panic!("a leg ended"),
    }
    for leg in [a, b, c, d] {
        leg.close().await;
    }
}
