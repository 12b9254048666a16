//! The library as an embedder uses it: a directory and telephones in one process, on loopback.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test looks at what it is about")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use futures::StreamExt;
use offhook::api::{Command, EndReason, ErrorCode, Event, Reply};
use offhook::audio::DeviceSpec;
use offhook::net::{Net, NetConfig, NetEvent, Role};
use offhook::phone::{AnswerMode, CallState, Phone, PhoneBuilder};
use offhook::proto::number::Number;
use offhook::storage::{Home, NewAccount, Password};
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;

/// More than any step takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

struct Directory {
    net: Net,
    _events: mpsc::Receiver<NetEvent>,
    addr: String,
}

async fn directory(seed: u8) -> Directory {
    let mut config = NetConfig::new([seed; 32], Role::Directory);
    config.listen = vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse().expect("an address")];
    config.stun = Some("127.0.0.1:0".parse().expect("an address"));
    config.allow_private = Some(true);
    let (net, mut events) = Net::start(config).await.expect("a directory");
    let addr = loop {
        match events.recv().await.expect("events") {
            NetEvent::Listening { addr } => break format!("{addr}/p2p/{}", net.id().to_peer_id()),
            _ => continue,
        }
    };
    Directory { net, _events: events, addr }
}

async fn account(home: &Path, id: &str) {
    let password = Password::new("a password for tests").expect("a password");
    let new = NewAccount { id: id.parse().expect("an id"), password };
    Home::open(home).expect("home").create_account(new, |_| {}).await.expect("an account");
}

fn builder(home: &Path, directory: &Directory) -> PhoneBuilder {
    Phone::builder(home)
        .entry([directory.addr.clone()])
        .listen(["/ip4/127.0.0.1/udp/0/quic-v1".to_owned()])
        .allow_private(true)
        .mdns(false)
        .mic(DeviceSpec::None)
        .speaker(DeviceSpec::None)
}

async fn online(phone: &Phone) -> Number {
    let mut events = phone.events();
    let wait = async {
        loop {
            if let Reply::Status(status) = phone.execute(Command::Status).await.expect("status")
                && status.online
            {
                return status.number;
            }
            tokio::select! {
                event = events.next() => { event.expect("events"); }
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("on line in time")
}

async fn until<T>(
    phone: &mut (impl futures::Stream<Item = offhook::api::TimedEvent> + Unpin),
    mut want: impl FnMut(&Event) -> Option<T>,
) -> T {
    let wait = async {
        loop {
            let event = phone.next().await.expect("events").event;
            if let Some(found) = want(&event) {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the event in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_by_number_rings_is_answered_carries_text_and_ends() {
    let dir = directory(1).await;
    let (a, b) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    account(a.path(), "ada").await;
    account(b.path(), "bob").await;
    let caller = builder(a.path(), &dir).build().await.expect("caller");
    let callee = builder(b.path(), &dir).answer(AnswerMode::Auto).build().await.expect("callee");
    let number = online(&callee).await;
    let caller_number = online(&caller).await;
    let mut heard = callee.events();
    let mut seen = caller.events();
    let mut call = caller.dial(number.to_string()).await.expect("dialled");
    assert_eq!(call.until(|s| *s == CallState::Active).await, CallState::Active);
    until(&mut heard, |e| {
        matches!(e, Event::Incoming { number, .. } if *number == caller_number).then_some(())
    })
    .await;
    until(&mut heard, |e| matches!(e, Event::FirstAudio { .. }).then_some(())).await;
    let words = |reply: Reply| if let Reply::Verify(v) = reply { Some((v.words, v.digits)) } else { None };
    let verify = || Command::Verify { call: None, confirm: false };
    let ours = words(caller.execute(verify()).await.expect("words")).expect("words");
    let theirs = words(callee.execute(verify()).await.expect("words")).expect("words");
    assert_eq!(ours, theirs);
    assert_eq!(ours.0.len(), 6);
    let text = Command::Text { number: number.to_string(), body: "안녕, hello".into() };
    caller.execute(text).await.expect("sent");
    let body = until(&mut heard, |e| {
        if let Event::Text { body, call, .. } = e { Some((body.clone(), call.clone())) } else { None }
    })
    .await;
    assert_eq!(body, ("안녕, hello".to_owned(), Some(call.id().to_owned())));
    until(&mut seen, |e| matches!(e, Event::TextDelivered { .. }).then_some(())).await;
    call.hang_up().await.expect("hung up");
    assert_eq!(call.ended().await, EndReason::HungUp);
    until(&mut heard, |e| matches!(e, Event::Ended { reason: EndReason::HungUp, .. }).then_some(())).await;
    caller.shutdown().await;
    callee.shutdown().await;
    dir.net.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_unreachable_and_mistyped_numbers_are_told_apart() {
    let dir = directory(2).await;
    let (a, b) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    account(a.path(), "ada").await;
    account(b.path(), "bob").await;
    let caller = builder(a.path(), &dir).build().await.expect("caller");
    online(&caller).await;
    let callee = builder(b.path(), &dir).build().await.expect("callee");
    let number = online(&callee).await;
    callee.shutdown().await;
    let call = caller.dial(number.to_string()).await.expect("dialled");
    assert_eq!(call.ended().await, EndReason::Unreachable);
    let nobody = offhook::proto::number::PlainNumber::from_index(77).to_string();
    let call = caller.dial(nobody).await.expect("dialled");
    assert_eq!(call.ended().await, EndReason::WrongNumber);
    let mut digits: Vec<char> = number.to_string().chars().collect();
    digits[0] = if digits[0] == '9' { '8' } else { '9' };
    let error = caller.dial(digits.iter().collect::<String>()).await.expect_err("mistyped");
    assert_eq!(error.code, ErrorCode::BadInput);
    caller.shutdown().await;
    dir.net.shutdown().await;
}
