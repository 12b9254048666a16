//! What is heard of a call before and after it: the bell where it rings, tones where it was dialled.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test looks at what it is about")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use offhook::api::EndReason;
use offhook::audio::{Block, CustomDevice, DeviceSpec, SAMPLE_RATE};
use offhook::net::{Net, NetConfig, NetEvent, Role};
use offhook::phone::{CallState, Phone, PhoneBuilder};
use offhook::storage::{Home, NewAccount, Password};

/// More than any step takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A loudspeaker that keeps the last second of what it is given.
#[derive(Default)]
struct Ear {
    heard: Mutex<Vec<f32>>,
    open: AtomicUsize,
    /// How often it was opened.
    times: AtomicUsize,
}

/// Counts as one while it lives.
struct Open(Arc<Ear>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, SeqCst);
    }
}

impl Ear {
    fn new() -> (Arc<Ear>, DeviceSpec) {
        let ear = Arc::new(Ear::default());
        let made = ear.clone();
        let device = CustomDevice::loudspeaker(move || {
            made.open.fetch_add(1, SeqCst);
            made.heard.lock().unwrap().clear();
            made.times.fetch_add(1, SeqCst);
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

    /// How often a sine goes up through zero in a second, measured while a fifth of a second is loud.
    fn frequency(&self) -> Option<f32> {
        let heard = self.heard.lock().unwrap();
        let piece = heard.len().checked_sub(SAMPLE_RATE as usize / 5).map(|from| &heard[from..])?;
        let loud = piece.chunks(480).all(|part| part.iter().any(|sample| sample.abs() > 0.02));
        let rises = piece.windows(2).filter(|pair| pair[0] <= 0.0 && pair[1] > 0.0).count();
        loud.then_some(rises as f32 * 5.0)
    }

    /// Waits until it is opened once more, as it is for each tone.
    async fn is_opened_anew(&self, before: usize) {
        until("something else", || self.times.load(SeqCst) > before).await;
    }

    async fn hears(&self, what: &str, hz: f32) {
        until(what, || self.frequency().is_some_and(|heard| (heard - hz).abs() < 15.0)).await;
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A second of 1000 Hz.
fn whistle(path: &Path) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: SAMPLE_RATE,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    for n in 0..SAMPLE_RATE {
        let turns = f64::from(n) * 1_000.0 / f64::from(SAMPLE_RATE);
        writer.write_sample(((turns * std::f64::consts::TAU).sin() * 16_000.0) as i16).unwrap();
    }
    writer.finalize().unwrap();
}

async fn phone(home: &Path, id: &str, entry: &str) -> PhoneBuilder {
    let password = Password::new("a password for tests").unwrap();
    let new = NewAccount { id: id.parse().unwrap(), password };
    Home::open(home).unwrap().create_account(new, |_| {}).await.unwrap();
    Phone::builder(home)
        .entry([entry.to_owned()])
        .listen(["/ip4/127.0.0.1/udp/0/quic-v1".to_owned()])
        .allow_private(true)
        .mdns(false)
        .mic(DeviceSpec::None)
        .speaker(DeviceSpec::None)
}

async fn online(phone: &Phone) {
    tokio::time::timeout(PATIENCE, phone.online()).await.expect("on line in time").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p13_the_bell_rings_until_it_is_answered_and_the_caller_hears_how_it_stands() {
    let mut config = NetConfig::new([7; 32], Role::Directory);
    config.listen = vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()];
    config.stun = Some("127.0.0.1:0".parse().unwrap());
    config.allow_private = Some(true);
    let (directory, mut events) = Net::start(config).await.unwrap();
    let entry = loop {
        if let NetEvent::Listening { addr } = events.recv().await.unwrap() {
            break format!("{addr}/p2p/{}", directory.id().to_peer_id());
        }
    };
    let homes = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let ((in_room, ringer), (at_ear, speaker)) = (Ear::new(), Ear::new());
    let caller = phone(homes[0].path(), "ada", &entry).await.speaker(speaker).build().await.unwrap();
    let callee = phone(homes[1].path(), "bob", &entry).await.ringer(ringer.clone());
    let wav = homes[1].path().join("whistle.wav");
    whistle(&wav);
    let home = Home::open(homes[1].path()).unwrap();
    home.set_ringtone(&"bob".parse().unwrap(), Some(&wav)).await.unwrap();
    std::fs::remove_file(&wav).unwrap();
    let callee = callee.build().await.unwrap();
    online(&callee).await;
    online(&caller).await;
    assert_eq!(in_room.open.load(SeqCst) + at_ear.open.load(SeqCst), 0, "no device is kept open");

    let mut call = caller.dial(callee.number().to_string()).await.unwrap();
    in_room.hears("the callee's own bell", 1_000.0).await;
    at_ear.hears("ringback", 425.0).await;
    callee.execute(offhook::api::Command::Answer { call: None }).await.unwrap();
    assert_eq!(call.until(|state| *state == CallState::Active).await, CallState::Active);
    until("the bell falls silent", || in_room.open.load(SeqCst) == 0).await;
    until("the call alone is heard", || at_ear.open.load(SeqCst) == 1 && at_ear.frequency().is_none()).await;
    callee.execute(offhook::api::Command::Hangup { call: None }).await.unwrap();
    assert_eq!(call.ended().await, EndReason::HungUp);
    at_ear.hears("that the other end has hung up", 425.0).await;
    until("and nothing more", || at_ear.open.load(SeqCst) == 0).await;

    // Declined sounds busy; a number that nobody has sounds like no tone of a telephone that works.
    let call = caller.dial(callee.number().to_string()).await.unwrap();
    in_room.hears("the bell again", 1_000.0).await;
    at_ear.hears("ringback again", 425.0).await;
    let before = at_ear.times.load(SeqCst);
    callee
        .execute(offhook::api::Command::Reject { call: None, voicemail: false, block: false })
        .await
        .unwrap();
    assert_eq!(call.ended().await, EndReason::Declined);
    at_ear.is_opened_anew(before).await;
    at_ear.hears("busy", 425.0).await;
    let nobody = offhook::proto::number::PlainNumber::from_index(77).to_string();
    let call = caller.dial(nobody).await.unwrap();
    assert_eq!(call.ended().await, EndReason::WrongNumber);
    at_ear.hears("the special information tone", 1_800.0).await;
    caller.shutdown().await;
    callee.shutdown().await;
    directory.shutdown().await;
}
