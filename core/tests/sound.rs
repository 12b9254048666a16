//! The devices of a telephone, changed while it talks: by a program, and by the words of the control socket.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test looks at what it is about")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use futures::StreamExt as _;
use offhook::api::{ChosenDevices, Command, DevicesResult, ErrorCode, Event, Reply, TimedEvent};
use offhook::audio::{Block, CustomDevice, DeviceChoice, DeviceKind, DeviceSpec};
use offhook::net::{Net, NetConfig, NetEvent, Role};
use offhook::phone::{CallState, Phone, PhoneBuilder};
use offhook::storage::{Home, NewAccount, Password};

/// More than any step takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

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

/// A loudspeaker, and how many blocks that are no silence it was given.
fn ear() -> (Arc<AtomicUsize>, DeviceSpec) {
    let loud = Arc::new(AtomicUsize::new(0));
    let counted = loud.clone();
    let device = CustomDevice::loudspeaker(move || {
        let counted = counted.clone();
        move |block: &Block| {
            counted.fetch_add(usize::from(block.iter().any(|sample| sample.abs() > 0.01)), SeqCst);
        }
    });
    (loud, DeviceSpec::Custom(device))
}

/// A microphone that hums.
fn hum() -> DeviceSpec {
    DeviceSpec::Custom(CustomDevice::microphone(|| {
        let mut n = 0u32;
        move |block: &mut Block| {
            for sample in block.iter_mut() {
                *sample = 0.3 * (n as f32 * 440.0 * std::f32::consts::TAU / 48_000.0).sin();
                n = (n + 1) % 48_000;
            }
        }
    }))
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let all = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// The next event that is about what is asked for.
async fn next<T>(
    events: &mut (impl futures::Stream<Item = TimedEvent> + Unpin),
    wanted: impl Fn(Event) -> Option<T>,
) -> T {
    let found = async {
        loop {
            if let Some(found) = wanted(events.next().await.expect("the telephone runs").event) {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("it is told")
}

fn use_devices(mic: Option<&str>, speaker: Option<&str>) -> Command {
    let text = |name: Option<&str>| name.map(str::to_owned);
    Command::UseDevices { mic: text(mic), speaker: text(speaker), ringer: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p10_devices_are_changed_while_the_telephone_runs_and_in_a_call() {
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
    let caller = phone(homes[0].path(), "ada", &entry).await.build().await.unwrap();
    let callee = phone(homes[1].path(), "bob", &entry).await;
    let callee = callee.answer(offhook::phone::AnswerMode::Auto).build().await.unwrap();
    for phone in [&callee, &caller] {
        tokio::time::timeout(PATIENCE, phone.online()).await.expect("on line in time").unwrap();
    }
    let (first, speaker) = ear();
    let mut told = callee.events();
    callee.use_devices(DeviceChoice { speaker: Some(speaker), ..DeviceChoice::default() }).await.unwrap();
    let chosen = next(&mut told, |event| match event {
        Event::DevicesChosen(chosen) => Some(chosen),
        _ => None,
    });
    let expected = ChosenDevices { mic: "none".into(), speaker: "custom".into(), ringer: "custom".into() };
    assert_eq!(chosen.await, expected);

    let mut call = caller.dial(callee.number().to_string()).await.unwrap();
    assert_eq!(call.until(|state| *state == CallState::Active).await, CallState::Active);
    // In the call: another microphone at one end, another loudspeaker at the other.
    caller.use_devices(DeviceChoice { mic: Some(hum()), ..DeviceChoice::default() }).await.unwrap();
    until("the microphone is heard", || first.load(SeqCst) > 20).await;
    let (second, speaker) = ear();
    callee.use_devices(DeviceChoice { speaker: Some(speaker), ..DeviceChoice::default() }).await.unwrap();
    let used = next(&mut told, |event| match event {
        Event::DeviceUsed { kind, device, .. } => Some((kind, device)),
        _ => None,
    });
    assert_eq!(used.await, (DeviceKind::Speaker, "custom".to_owned()));
    until("and from the other loudspeaker", || second.load(SeqCst) > 20).await;
    let before = first.load(SeqCst);

    let refused = caller.execute(use_devices(Some("nonsense"), Some("none"))).await.unwrap_err();
    assert!(refused.code == ErrorCode::BadInput && refused.message.contains("nonsense"), "{refused}");
    let Reply::Devices(DevicesResult { chosen, .. }) = caller.execute(Command::Devices).await.unwrap() else {
        panic!("the devices")
    };
    assert_eq!((chosen.mic.as_str(), chosen.speaker.as_str()), ("custom", "none"), "nothing has changed");
    let heard = second.load(SeqCst);
    until("the call goes on as before", || second.load(SeqCst) > heard + 20).await;
    assert_eq!(first.load(SeqCst), before, "the first loudspeaker is silent");

    caller.execute(Command::Levels { call: None, on: true }).await.unwrap();
    let mut levels = caller.events();
    let mic = next(&mut levels, |event| match event {
        Event::Levels { mic, .. } if mic.peak > -30.0 => Some(mic),
        _ => None,
    });
    assert!((mic.await.peak + 10.5).abs() < 1.0, "0.3 of full scale");
    caller.execute(use_devices(Some("none"), None)).await.unwrap();
    next(&mut levels, |event| match event {
        Event::Levels { mic, .. } if mic.peak < -60.0 => Some(()),
        _ => None,
    })
    .await;
    caller.shutdown().await;
    callee.shutdown().await;
    directory.shutdown().await;
}
