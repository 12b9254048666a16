//! Recordings of calls: two telephones in one process, each with a mouth and an ear that the test works.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test looks at what it is about")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "the tests of keys need more of it")]
#[path = "keys/scene.rs"]
mod scene;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use offhook::api::{Command, ErrorCode, Event, RecordingEnd, RecordingEvent, Reply, TimedEvent};
use offhook::audio::{Block, CustomDevice, DeviceSpec, Processing, SAMPLE_RATE};
use offhook::phone::{AnswerMode, Call, CallState, Machine, Phone, PhoneBuilder};
use offhook::recording::{Recordings, Track};
use offhook::storage::{Home, NewAccount, Password};

use scene::{Directory, PATIENCE, directory, until};

/// Somebody at a telephone: makes a tone while he is told to, and keeps the last second of what he hears.
#[derive(Default)]
struct Person {
    speaks: AtomicBool,
    heard: Mutex<Vec<f32>>,
}

impl Person {
    fn mouth(self: &Arc<Self>, hz: f32) -> DeviceSpec {
        let person = self.clone();
        DeviceSpec::Custom(CustomDevice::microphone(move || {
            let (person, mut at) = (person.clone(), 0u32);
            move |block: &mut Block| {
                let loud = if person.speaks.load(SeqCst) { 0.3 } else { 0.0 };
                for sample in block.iter_mut() {
                    let turns = at as f32 * hz / SAMPLE_RATE as f32;
                    *sample = loud * (turns.fract() * std::f32::consts::TAU).sin();
                    at = (at + 1) % SAMPLE_RATE;
                }
            }
        }))
    }

    fn ear(self: &Arc<Self>) -> DeviceSpec {
        let person = self.clone();
        DeviceSpec::Custom(CustomDevice::loudspeaker(move || {
            let person = person.clone();
            move |block: &Block| {
                let mut heard = person.heard.lock().unwrap();
                heard.extend_from_slice(block);
                let old = heard.len().saturating_sub(SAMPLE_RATE as usize);
                heard.drain(..old);
            }
        }))
    }

    /// Waits until this tone is heard.
    async fn hears(&self, hz: f32) {
        let heard = || frequency(&self.heard.lock().unwrap()).is_some_and(|heard| (heard - hz).abs() < 15.0);
        until(&format!("{hz} Hz"), heard).await;
    }

    async fn hears_nothing(&self) {
        let quiet = || {
            let heard = self.heard.lock().unwrap();
            heard.len() == SAMPLE_RATE as usize && heard[36_000..].iter().all(|sample| sample.abs() < 0.01)
        };
        until("silence", quiet).await;
    }
}

/// Of the last fifth of a second, if all of it is loud.
fn frequency(heard: &[f32]) -> Option<f32> {
    let piece = heard.len().checked_sub(SAMPLE_RATE as usize / 5).map(|from| &heard[from..])?;
    let loud = piece.chunks(480).all(|part| part.iter().any(|sample| sample.abs() > 0.02));
    let rises = piece.windows(2).filter(|pair| pair[0] <= 0.0 && pair[1] > 0.0).count();
    loud.then_some(rises as f32 * 5.0)
}

async fn event<T>(
    events: &mut (impl futures::Stream<Item = TimedEvent> + Unpin),
    mut want: impl FnMut(&Event) -> Option<T>,
) -> T {
    let wait = async {
        loop {
            let event = events.next().await.expect("events").event;
            if let Some(found) = want(&event) {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the event in time")
}

fn remote(event: &Event) -> Option<bool> {
    if let Event::RemoteRecording { on, .. } = event { Some(*on) } else { None }
}

fn started(event: &Event) -> Option<String> {
    match event {
        Event::Recording(RecordingEvent::Started { recording, .. }) => Some(recording.clone()),
        Event::Recording(RecordingEvent::Ended { end, .. }) => panic!("it ended: {end:?}"),
        _ => None,
    }
}

fn ended(event: &Event) -> Option<(Option<String>, RecordingEnd)> {
    match event {
        Event::Recording(RecordingEvent::Ended { recording, end, .. }) => Some((recording.clone(), *end)),
        _ => None,
    }
}

/// Whether the one call is recorded at this end, and at the other one.
async fn recorded(phone: &Phone) -> (bool, bool) {
    let Reply::Status(status) = phone.execute(Command::Status).await.unwrap() else { panic!() };
    (status.calls[0].recording, status.calls[0].remote_recording)
}

/// A directory and two telephones, of which the second answers by itself.
struct World {
    directory: Directory,
    homes: [tempfile::TempDir; 2],
    people: [Arc<Person>; 2],
    phones: [Phone; 2],
}

impl World {
    async fn new(callee: impl Fn(PhoneBuilder) -> PhoneBuilder) -> World {
        let directory = directory().await;
        let entry = &directory.addr;
        let homes = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let people = [Arc::<Person>::default(), Arc::default()];
        let ada =
            phone(homes[0].path(), "ada", entry, people[0].mouth(400.0), people[0].ear(), |ada| ada).await;
        let bob =
            phone(homes[1].path(), "bob", entry, people[1].mouth(1_000.0), people[1].ear(), callee).await;
        World { directory, homes, people, phones: [ada, bob] }
    }

    async fn call(&self) -> Call {
        let mut call = self.phones[0].dial(self.phones[1].number().to_string()).await.unwrap();
        assert_eq!(call.until(|state| *state == CallState::Active).await, CallState::Active);
        call
    }

    /// Those of the first telephone, or of the second.
    async fn recordings(&self, at: usize) -> Recordings {
        let home = Home::open(self.homes[at].path()).unwrap();
        home.recordings(&["ada", "bob"][at].parse().unwrap()).await.unwrap()
    }

    /// A caller speaks to the machine until a second of it is kept.
    async fn leaves_a_message(&self, caller: &Person) -> (Call, Recordings) {
        caller.speaks.store(true, SeqCst);
        let call = self.call().await;
        let room = self.recordings(1).await;
        let enough =
            || room.list().is_ok_and(|list| list.first().is_some_and(|one| one.duration_ms >= 1_000));
        until("a message grows", enough).await;
        (call, room)
    }

    async fn end(self) {
        for phone in &self.phones {
            phone.shutdown().await;
        }
        self.directory.net.shutdown().await;
    }
}

async fn phone(
    home: &Path,
    id: &str,
    entry: &str,
    mic: DeviceSpec,
    speaker: DeviceSpec,
    more: impl Fn(PhoneBuilder) -> PhoneBuilder,
) -> Phone {
    let new =
        NewAccount { id: id.parse().unwrap(), password: Password::new("a password for tests").unwrap() };
    Home::open(home).unwrap().create_account(new, |_| {}).await.unwrap();
    let phone = Phone::builder(home)
        .entry([entry.to_owned()])
        .listen(["/ip4/127.0.0.1/udp/0/quic-v1".to_owned()])
        .allow_private(true)
        .mdns(false)
        .mic(mic)
        .speaker(speaker)
        .tones(false)
        .ringer(DeviceSpec::None)
        .processing(Processing::NONE)
        .answer(if id == "bob" { AnswerMode::Auto } else { AnswerMode::Manual });
    let phone = more(phone).build().await.unwrap();
    tokio::time::timeout(PATIENCE, phone.online()).await.expect("on line in time").unwrap();
    phone
}

/// When somebody is heard in a track, 10 ms each: where it begins, and where it ends.
fn bursts(track: &Path) -> Vec<(usize, usize)> {
    let samples: Vec<i16> = hound::WavReader::open(track).unwrap().samples().map(Result::unwrap).collect();
    let loud: Vec<bool> =
        samples.chunks(480).map(|block| block.iter().any(|sample| sample.unsigned_abs() > 2_000)).collect();
    let (mut bursts, mut at) = (Vec::new(), 0);
    while at < loud.len() {
        // A burst goes on over pauses of less than a tenth of a second: frames may be lost.
        let silent = |from: usize| loud[from..].iter().take(10).all(|loud| !loud);
        if loud[at] {
            let begin = at;
            while at < loud.len() && !silent(at) {
                at += 1;
            }
            if at - begin >= 10 {
                bursts.push((begin, at));
            }
        }
        at += 1;
    }
    bursts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p17_both_voices_are_recorded_in_step_and_the_other_end_is_told() {
    let world = World::new(|bob| bob).await;
    let ([ada, bob], [a, b]) = (&world.phones, &world.people);
    let (mut seen, mut theirs) = (ada.events(), bob.events());
    let call = world.call().await;
    call.record(true).await.unwrap();
    let name = event(&mut seen, started).await;
    assert!(event(&mut theirs, remote).await, "told by an event");
    assert_eq!(
        (recorded(ada).await, recorded(bob).await),
        ((true, false), (false, true)),
        "and by the status"
    );
    b.hears(1_400.0).await;
    b.hears_nothing().await;
    // Each speaks only when the other was heard: so it must be in the tracks.
    a.speaks.store(true, SeqCst);
    b.hears(400.0).await;
    a.speaks.store(false, SeqCst);
    b.hears_nothing().await;
    b.speaks.store(true, SeqCst);
    a.hears(1_000.0).await;
    b.speaks.store(false, SeqCst);
    a.hears_nothing().await;
    a.speaks.store(true, SeqCst);
    b.hears(400.0).await;
    a.speaks.store(false, SeqCst);
    b.hears_nothing().await;
    // Nothing of it is deleted while it is recorded.
    let delete = || Command::RecordingDelete { recording: name.clone() };
    assert_eq!(ada.execute(delete()).await.unwrap_err().code, ErrorCode::InUse);
    call.record(false).await.unwrap();
    assert_eq!(event(&mut seen, ended).await, (Some(name.clone()), RecordingEnd::Stopped));
    assert!(!event(&mut theirs, remote).await);
    assert_eq!((recorded(ada).await, recorded(bob).await), ((false, false), (false, false)));

    let Reply::Recordings { recordings } = ada.execute(Command::Recordings).await.unwrap() else { panic!() };
    assert_eq!(recordings.len(), 1);
    assert_eq!(
        (recordings[0].recording.as_str(), &recordings[0].number),
        (name.as_str(), &Some(bob.number().clone()))
    );
    let folder = world.recordings(0).await;
    let dir = tempfile::tempdir().unwrap();
    let files = [(Track::Own, "own.wav"), (Track::Other, "other.wav"), (Track::Both, "both.wav")];
    let files = files.map(|(track, file)| {
        let file = dir.path().join(file);
        folder.export(&name, track, &file).unwrap();
        bursts(&file)
    });
    let [own, other, both] = &files;
    assert_eq!([own.len(), other.len(), both.len()], [2, 1, 3], "without the warning tone: {files:?}");
    assert!(own[0].1 <= other[0].0 && other[0].1 <= own[1].0, "in step: {files:?}");

    // The end of the call is the recording's end.
    call.record(true).await.unwrap();
    let second = event(&mut seen, started).await;
    call.hang_up().await.unwrap();
    let (kept, end) = event(&mut seen, ended).await;
    assert_eq!(end, RecordingEnd::CallEnded);
    assert!(kept.is_none_or(|kept| kept == second));
    ada.execute(delete()).await.unwrap();
    assert_eq!(ada.execute(delete()).await.unwrap_err().code, ErrorCode::NoRecording);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p17_who_does_not_want_to_be_recorded_is_not() {
    let world = World::new(|bob| bob.recordable(false)).await;
    let ([ada, bob], [_, b]) = (&world.phones, &world.people);
    let (mut seen, mut theirs) = (ada.events(), bob.events());
    let error = ada.execute(Command::Record { call: None, on: true }).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NoCall);
    let call = world.call().await;
    call.record(true).await.unwrap();
    assert_eq!(event(&mut seen, ended).await, (None, RecordingEnd::Refused), "by a setting");
    assert_eq!(world.recordings(0).await.list().unwrap(), []);

    // In this call it may, for a while.
    bob.execute(Command::Recordable { call: None, on: true }).await.unwrap();
    call.record(true).await.unwrap();
    let name = event(&mut seen, started).await;
    assert!(event(&mut theirs, remote).await);
    b.hears(1_400.0).await;
    bob.execute(Command::Recordable { call: None, on: false }).await.unwrap();
    assert_eq!(event(&mut seen, ended).await, (Some(name), RecordingEnd::Refused), "by a command");
    assert!(!event(&mut theirs, remote).await);
    call.record(true).await.unwrap();
    assert_eq!(event(&mut seen, ended).await, (None, RecordingEnd::Refused));
    world.end().await;
}

fn machine(bob: PhoneBuilder) -> PhoneBuilder {
    let machine = Machine { after: Duration::from_millis(500), limit: Duration::from_secs(60) };
    bob.answer(AnswerMode::Machine).machine(machine)
}

fn message(event: &Event) -> Option<offhook::api::Recording> {
    if let Event::VoiceMessage(message) = event { Some(message.clone()) } else { None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q9_the_answering_machine_greets_and_keeps_what_the_caller_says() {
    let world = World::new(machine).await;
    let ([ada, bob], [a, b]) = (&world.phones, &world.people);
    // Its own greeting is replaced by a deep tone.
    let wav = world.homes[1].path().join("greeting.wav");
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: SAMPLE_RATE,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(&wav, spec).unwrap();
    for n in 0..SAMPLE_RATE {
        let turns = n as f32 * 300.0 / SAMPLE_RATE as f32;
        writer.write_sample(((turns.fract() * std::f32::consts::TAU).sin() * 8_000.0) as i16).unwrap();
    }
    writer.finalize().unwrap();
    let home = Home::open(world.homes[1].path()).unwrap();
    home.set_greeting(&"bob".parse().unwrap(), Some(&wav)).await.unwrap();

    let (mut seen, mut theirs) = (ada.events(), bob.events());
    b.speaks.store(true, SeqCst);
    let call = world.call().await;
    assert!(event(&mut seen, remote).await, "it says that it records");
    a.hears(300.0).await;
    a.hears(1_000.0).await;
    a.hears_nothing().await;
    a.speaks.store(true, SeqCst);
    let room = world.recordings(1).await;
    let enough = || room.list().is_ok_and(|list| list.first().is_some_and(|one| one.duration_ms >= 1_500));
    until("a message grows", enough).await;
    call.hang_up().await.unwrap();
    let kept = event(&mut theirs, message).await;
    assert_eq!((kept.number.as_ref(), kept.kind), (Some(ada.number()), offhook::api::RecordingKind::Message));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("message.wav");
    room.export("last", Track::Both, &file).unwrap();
    assert_eq!(bursts(&file).len(), 1, "the caller alone is heard");
    assert!(b.heard.lock().unwrap().is_empty(), "and not in the room");

    // Who says nothing leaves nothing, and the machine hangs up by itself.
    a.speaks.store(false, SeqCst);
    let silent = world.call().await;
    a.hears(300.0).await;
    let limit = tokio::time::timeout(PATIENCE * 2, silent.ended()).await.expect("it hangs up");
    assert_eq!(limit, offhook::api::EndReason::HungUp);
    until("the silent one is forgotten", || room.list().is_ok_and(|list| list.len() == 1)).await;
    // Who looks at the calls sees that nobody was there, message or not.
    let history = bob.execute(Command::History { limit: None }).await.unwrap();
    let Reply::History { calls } = history else { panic!("{history:?}") };
    assert_eq!(calls.len(), 2);
    assert!(calls.iter().all(|call| call.missed && call.duration_ms == 0 && call.summary.is_none()));
    assert!(bob.metrics().await.unwrap().contains("offhook_calls_missed_total 2\n"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q9_the_machine_takes_only_what_nobody_answers_and_nothing_when_it_is_full() {
    let world = World::new(|bob| {
        let machine = Machine { after: Duration::from_secs(3), ..Machine::default() };
        bob.answer(AnswerMode::Machine).machine(machine).ring_timeout(Duration::from_secs(6))
    })
    .await;
    let ([ada, bob], [a, b]) = (&world.phones, &world.people);
    let mut theirs = bob.events();
    let dial = async || ada.dial(bob.number().to_string()).await.unwrap();
    let rings = |event: &Event| matches!(event, Event::Incoming { .. }).then_some(());
    // Somebody is there.
    let mut call = dial().await;
    event(&mut theirs, rings).await;
    bob.execute(Command::Answer { call: None }).await.unwrap();
    assert_eq!(call.until(|state| *state == CallState::Active).await, CallState::Active);
    b.speaks.store(true, SeqCst);
    a.hears(1_000.0).await;
    b.speaks.store(false, SeqCst);
    call.hang_up().await.unwrap();
    // Nobody is, but there is no room for another message.
    let room = world.homes[1].path().join("accounts");
    let account = std::fs::read_dir(&room).unwrap().flatten().find(|entry| entry.path().is_dir()).unwrap();
    let folder = account.path().join("recordings");
    std::fs::create_dir_all(&folder).unwrap();
    for n in 0..offhook::recording::MAX_MESSAGES {
        std::fs::write(folder.join(format!("message-{n}.opus")), "").unwrap();
    }
    let call = dial().await;
    let full = |event: &Event| matches!(event, Event::Error { code: ErrorCode::Full, .. }).then_some(());
    event(&mut theirs, full).await;
    assert_eq!(call.ended().await, offhook::api::EndReason::NoAnswer);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q9_a_message_that_is_being_left_when_the_telephone_ends_is_told() {
    let world = World::new(machine).await;
    let ([_, bob], [a, _]) = (&world.phones, &world.people);
    let mut theirs = bob.events();
    let (call, _) = world.leaves_a_message(a).await;
    bob.shutdown().await;
    let kept = event(&mut theirs, message).await;
    assert!(kept.duration_ms >= 1_000, "{kept:?}");
    call.ended().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q9_who_refuses_while_a_message_is_recorded_leaves_none() {
    let world = World::new(machine).await;
    let ([ada, bob], [a, _]) = (&world.phones, &world.people);
    let mut theirs = bob.events();
    let (call, room) = world.leaves_a_message(a).await;
    ada.execute(Command::Recordable { call: None, on: false }).await.unwrap();
    assert_eq!(call.ended().await, offhook::api::EndReason::HungUp);
    until("it is deleted", || room.list().is_ok_and(|list| list.is_empty())).await;
    // Whatever would tell of it has been told when the telephone has ended.
    bob.shutdown().await;
    while let Some(told) = theirs.next().await {
        assert!(!matches!(told.event, Event::VoiceMessage(_)), "{told:?}");
    }
    world.end().await;
}
