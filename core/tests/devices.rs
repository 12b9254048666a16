//! Sound devices for real: a private PulseAudio with a null sink, one call that plays into it and one that
//! records from its monitor. What is asserted is that speech gets through, never when.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use offhook::audio::{DeviceKind, DeviceSpec, devices};
use offhook::media::{AudioConfig, MediaConfig, MediaEvent, MediaLeg, Role};
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(60);

/// A sound server that ends with the value.
struct Pulse(Child);

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
    // SAFETY: this is the only test of its process, and nothing else runs yet that reads the environment.
    unsafe { std::env::set_var("PULSE_SERVER", format!("unix:{}", socket.display())) };
    Pulse(child)
}

fn leg(role: Role, mic: DeviceSpec, speaker: DeviceSpec) -> (MediaLeg, mpsc::Receiver<MediaEvent>) {
    let (events, receiver) = mpsc::channel(64);
    let config = MediaConfig {
        bind: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        audio: AudioConfig { mic, speaker },
        ..MediaConfig::new(role)
    };
    (MediaLeg::start(config, events).unwrap(), receiver)
}

/// Carries what two legs have to tell each other. Panics if a device does not work.
async fn carry(mut events: mpsc::Receiver<MediaEvent>, to: &MediaLeg) {
    while let Some(event) = events.recv().await {
        assert!(!matches!(event, MediaEvent::DeviceLost(_) | MediaEvent::Failed(_)), "{event:?}");
        if let MediaEvent::Tunnel(packet) = event {
            to.tunnel(packet);
        } else if let MediaEvent::Candidates(lines) = event {
            to.add_remote_candidates(lines);
        }
    }
}

/// Power of the loudest quarter of a second in the file so far.
fn loudest(path: &Path) -> f64 {
    let Ok(mut reader) = hound::WavReader::open(path) else { return 0.0 };
    let samples: Vec<f64> =
        reader.samples::<i16>().map_while(Result::ok).map(|sample| f64::from(sample) / 32_768.0).collect();
    let power = |part: &[f64]| part.iter().map(|sample| sample * sample).sum::<f64>() / part.len() as f64;
    samples.chunks_exact(12_000).map(power).fold(0.0, f64::max)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn speech_goes_through_a_sound_server() {
    let directory = tempfile::tempdir().unwrap();
    let _pulse = start_pulse(directory.path());
    let found = async {
        loop {
            let list = tokio::task::spawn_blocking(devices).await.unwrap();
            let id = |kind, part: &str| {
                list.iter().find(|d| d.kind == kind && d.id.contains(part)).map(|d| d.id.clone())
            };
            if let (Some(mic), Some(speaker)) =
                (id(DeviceKind::Mic, "hall.monitor"), id(DeviceKind::Speaker, "hall"))
            {
                return (mic, speaker, list);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let (mic, speaker, list) = tokio::time::timeout(PATIENCE, found).await.expect("the sound server starts");
    assert!(list.iter().any(|device| device.default && device.id == speaker), "{list:?}");

    let speech = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/speech-a.wav");
    let heard = directory.path().join("heard.wav");
    let (a, a_events) = leg(Role::Caller, DeviceSpec::File(speech), DeviceSpec::None);
    let (b, b_events) = leg(Role::Callee, DeviceSpec::None, DeviceSpec::Id(speaker));
    let (c, c_events) = leg(Role::Caller, DeviceSpec::Id(mic), DeviceSpec::None);
    let (d, d_events) = leg(Role::Callee, DeviceSpec::None, DeviceSpec::File(heard.clone()));
    for (from, to) in [(&a, &b), (&b, &a), (&c, &d), (&d, &c)] {
        to.set_remote(from.offer());
        to.start_audio();
    }
    let arrives = async {
        while loudest(&heard) < 1e-4 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::select! {
        result = tokio::time::timeout(PATIENCE, arrives) => result.expect("speech arrives"),
        () = carry(a_events, &b) => panic!("a leg ended"),
        () = carry(b_events, &a) => panic!("a leg ended"),
        () = carry(c_events, &d) => panic!("a leg ended"),
        () = carry(d_events, &c) => panic!("a leg ended"),
    }
    for leg in [a, b, c, d] {
        leg.close().await;
    }
}
