//! The library as an embedder uses it: a directory and telephones in one process, on loopback.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test looks at what it is about")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use futures::{FutureExt as _, StreamExt};
use offhook::api::{Command, EndReason, ErrorCode, Event, FailureCode, LineState, PastCall, PathKind, Reply};
use offhook::audio::DeviceSpec;
use offhook::net::{LookupEvent, Net, NetConfig, NetEvent, Role};
use offhook::phone::{AnswerMode, CallState, Phone, PhoneBuilder, PhoneError, Serve};
use offhook::proto::number::Number;
use offhook::proto::record::{self, RecordSet};
use offhook::proto::wire::UnixMillis;
use offhook::storage::{Home, MessageEntry, MessageState, NewAccount, Password};
use sqlx::{Connection as _, SqliteConnection};
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

fn password() -> Password {
    Password::new("a password for tests").expect("a password")
}

async fn account(home: &Path, id: &str) {
    let new = NewAccount { id: id.parse().expect("an id"), password: password() };
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
    tokio::time::timeout(PATIENCE, phone.online()).await.expect("on line in time").expect("it runs");
    phone.number().clone()
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

/// The calls that a telephone remembers, the last one first.
async fn history(phone: &Phone) -> Vec<PastCall> {
    let reply = phone.execute(Command::History { limit: None }).await.expect("a history");
    let Reply::History { calls } = reply else { panic!("a history was asked for: {reply:?}") };
    calls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q11_q13_how_a_call_goes_is_told_to_who_follows_and_is_in_the_history_afterwards() {
    let dir = directory(8).await;
    let (a, b) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    account(a.path(), "ada").await;
    account(b.path(), "bob").await;
    let ada = builder(a.path(), &dir).build().await.expect("ada");
    let bob = builder(b.path(), &dir).answer(AnswerMode::Auto).build().await.expect("bob");
    let number = online(&bob).await;
    let ada_number = online(&ada).await;
    assert_eq!(history(&ada).await, []);
    let (mut plain, mut followed) = (ada.events(), ada.stats().await.expect("it runs"));
    let (mut seen, mut rings) = (ada.events(), ada.events());
    let call = ada.dial(number.to_string()).await.expect("dialled");
    let stats = until(&mut followed, |event| match event {
        Event::Stats { call: of, stats } if stats.packets_received > 50 && stats.sent_bps > 0 => {
            assert_eq!(of, call.id());
            Some(stats.clone())
        }
        _ => None,
    })
    .await;
    assert_eq!((stats.path, stats.packets_lost.max(0)), (Some(PathKind::Direct), 0));
    let estimate = stats.estimate.expect("something was heard");
    assert!(estimate.mos > 1.0 && estimate.r > 0.0, "{stats:?}");
    assert!(stats.rtt_ms.is_some() && stats.codec_bps == 31_000 && stats.received_bps > 8_000, "{stats:?}");
    let metrics = ada.metrics().await.expect("metrics");
    assert!(metrics.contains("offhook_call_mos{call=\"0\"} "), "{metrics}");
    assert!(!metrics.contains(&number.canonical()), "no numbers");
    call.hang_up().await.expect("hung up");
    let ended = |event: &Event| match event {
        Event::Ended { summary, .. } => Some(summary.clone()),
        _ => None,
    };
    let summary = until(&mut seen, ended).await.expect("they talked");
    assert!(summary.packets_received > 50 && summary.estimate.is_some(), "{summary:?}");
    let past = history(&ada).await;
    assert_eq!(past.len(), 1);
    assert_eq!((&past[0].number, past[0].outgoing, past[0].missed), (&number, true, false));
    assert_eq!((past[0].reason, past[0].summary.as_ref()), (EndReason::HungUp, Some(&*summary)));
    assert!(past[0].duration_ms > 0 && past[0].started > 0, "{past:?}");

    // One that nobody takes.
    let call = bob.dial(ada_number.to_string()).await.expect("dialled");
    until(&mut rings, |event| matches!(event, Event::Incoming { .. }).then_some(())).await;
    call.hang_up().await.expect("given up");
    assert_eq!(until(&mut seen, ended).await, None, "nobody talked");
    let past = history(&ada).await;
    assert_eq!((past.len(), past[0].missed, past[0].summary.as_ref()), (2, true, None));
    let other = history(&bob).await;
    assert_eq!(
        other.iter().map(|call| (call.outgoing, call.missed)).collect::<Vec<_>>(),
        [(true, false), (false, false)]
    );
    assert!(other[1].number == ada_number && other[1].summary.is_some(), "{other:?}");
    // Nobody who does not follow has been told.
    assert!(told(&mut plain).iter().all(|event| !matches!(event, Event::Stats { .. })));
    let metrics = ada.metrics().await.expect("metrics");
    for line in [
        "offhook_calls_ended_total{direction=\"outgoing\",answered=\"yes\"} 1",
        "offhook_calls_missed_total 1",
    ] {
        assert!(metrics.lines().any(|known| known == line), "{line}: {metrics}");
    }
    ada.execute(Command::HistoryClear).await.expect("cleared");
    assert_eq!(history(&ada).await, []);
    ada.shutdown().await;
    bob.shutdown().await;
    assert!(until_end(&mut followed).await.is_none(), "it ends with the telephone");
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
    let on_line = async || match caller.execute(Command::Lookup { number: number.to_string() }).await {
        Ok(Reply::Lookup(found)) => found.terminals,
        other => panic!("a look-up: {other:?}"),
    };
    assert_eq!(on_line().await, 1);
    callee.shutdown().await;
    assert_eq!(on_line().await, 0, "who ends it says so");
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

/// What status and events say of the line, once `wanted` is reached.
async fn line(phone: &Phone, wanted: LineState) {
    let reached = tokio::time::timeout(PATIENCE, phone.until_line(|line| line == wanted)).await;
    reached.unwrap_or_else(|_| panic!("never {wanted:?}: {:?}", phone.line())).expect("it runs");
    let Reply::Status(status) = phone.execute(Command::Status).await.expect("status") else {
        panic!("a status was asked for")
    };
    assert_eq!(status.line, wanted);
    let gauge = format!("offhook_online {}", u8::from(wanted == LineState::Online));
    let metrics = phone.metrics().await.expect("metrics");
    assert!(metrics.contains(&gauge), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_telephone_without_a_network_says_so() {
    let home = tempfile::tempdir().expect("dir");
    account(home.path(), "ada").await;
    // Nobody is known, and nobody is near.
    let alone = Phone::builder(home.path()).mdns(false).listen(["/ip4/127.0.0.1/udp/0/quic-v1".to_owned()]);
    let alone = alone.mic(DeviceSpec::None).speaker(DeviceSpec::None);
    let phone = alone.clone().build().await.expect("starts");
    let mut events = phone.events();
    line(&phone, LineState::Alone).await;
    until(&mut events, |event| matches!(event, Event::Alone).then_some(())).await;
    phone.shutdown().await;
    // The one that is known does not answer.
    let dead = "/ip4/127.0.0.1/udp/9/quic-v1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    let phone = alone.entry([dead.to_owned()]).build().await.expect("starts");
    let mut events = phone.events();
    line(&phone, LineState::Offline).await;
    until(&mut events, |event| matches!(event, Event::Offline).then_some(())).await;
    phone.shutdown().await;
    assert_eq!(phone.online().await.expect_err("it has ended").code, ErrorCode::ShuttingDown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_node_of_a_network_is_on_line_when_another_comes() {
    let (a, b) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    account(a.path(), "ada").await;
    account(b.path(), "bob").await;
    let quiet = |home: &Path| {
        let builder = Phone::builder(home).allow_private(true).mdns(false);
        let builder = builder.listen(["/ip4/127.0.0.1/udp/0/quic-v1".to_owned()]);
        builder.mic(DeviceSpec::None).speaker(DeviceSpec::None)
    };
    let ada = quiet(a.path()).serve(Serve::Always).build().await.expect("starts");
    line(&ada, LineState::Alone).await;
    let Reply::Link { link } = ada.execute(Command::Link).await.expect("a link") else { panic!("a link") };
    let link: offhook::proto::number::Invitation = link.parse().expect("a link");
    let bob = quiet(b.path()).entry(link.via.iter().map(ToString::to_string)).build().await.expect("starts");
    line(&bob, LineState::Online).await;
    line(&ada, LineState::Online).await;
    bob.shutdown().await;
    ada.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_dialled_as_they_are_typed() {
    let dir = directory(3).await;
    let (a, b) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    account(a.path(), "ada").await;
    account(b.path(), "bob").await;
    let ada = builder(a.path(), &dir).build().await.expect("ada");
    let bob = builder(b.path(), &dir).build().await.expect("bob");
    let number = online(&bob).await;
    online(&ada).await;
    let add = Command::ContactAdd { number: number.to_string(), name: "2nd caf\u{e9}".into() };
    ada.execute(add).await.expect("added");
    let mut rings = bob.events();
    let call = ada.dial("2ND cafe\u{301}").await.expect("a contact's name");
    until(&mut rings, |event| matches!(event, Event::Incoming { .. }).then_some(())).await;
    call.hang_up().await.expect("given up");
    let found = ada.execute(Command::Lookup { number: "2nd caf\u{e9}".into() }).await.expect("found");
    assert!(matches!(found, Reply::Lookup(found) if found.number == number));
    let error = ada.dial("3rd caf\u{e9}").await.expect_err("nobody");
    assert_eq!(
        (error.code, error.message.as_str()),
        (ErrorCode::NoContact, "No contact is called \"3rd caf\u{e9}\".")
    );
    assert_eq!(ada.dial("Bbo").await.expect_err("nobody").code, ErrorCode::UnknownDirectory);
    // Sentences of commands that find no call say what is missing.
    for (command, sentence) in [
        (Command::Answer { call: None }, "No call rings here."),
        (Command::Hold { call: None, on: true }, "No call is answered yet."),
        (Command::Hangup { call: Some("00".into()) }, "There is no such call."),
    ] {
        let error = ada.execute(command).await.expect_err("no call");
        assert_eq!((error.code, error.message.as_str()), (ErrorCode::NoCall, sentence));
    }
    ada.shutdown().await;
    bob.shutdown().await;
    dir.net.shutdown().await;
}

#[tokio::test]
async fn what_can_not_work_is_refused_before_it_starts() {
    let home = tempfile::tempdir().expect("dir");
    account(home.path(), "ada").await;
    let builder = || Phone::builder(home.path()).mic(DeviceSpec::None).speaker(DeviceSpec::None).mdns(false);
    let no_peer = "/ip4/127.0.0.1/udp/1/quic-v1".to_owned();
    for bad in [
        builder().entry([no_peer]),
        builder().entry(["nonsense".to_owned()]),
        builder().mic(DeviceSpec::Id("nosuch".into())),
        builder().mic(DeviceSpec::File("/nonexistent.wav".into())),
        builder().speaker(DeviceSpec::File("/nonexistent/x.wav".into())),
    ] {
        let error: PhoneError = bad.build().await.expect_err("refused");
        assert_eq!(error.to_api().code, ErrorCode::BadInput, "{error}");
    }
}

/// The account's file, beside the running telephone.
async fn database(home: &Path) -> SqliteConnection {
    let mut accounts = std::fs::read_dir(home.join("accounts")).expect("accounts").flatten();
    let account = accounts.find(|entry| entry.path().is_dir()).expect("an account");
    let path = account.path().join("account.db");
    SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.expect("a database")
}

/// A disk that takes nothing: the sender must not believe that the receiver has the text.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_that_cannot_be_written_down_is_told_to_its_sender() {
    let dir = directory(3).await;
    let (a, b) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    account(a.path(), "ada").await;
    account(b.path(), "bob").await;
    let ada = builder(a.path(), &dir).build().await.expect("ada");
    let bob = builder(b.path(), &dir).answer(AnswerMode::Auto).build().await.expect("bob");
    let number = online(&bob).await.to_string();
    online(&ada).await;
    let (mut seen, mut heard) = (ada.events(), bob.events());
    let mut disk = database(b.path()).await;
    let full =
        "CREATE TRIGGER full BEFORE INSERT ON messages BEGIN SELECT RAISE(ABORT, 'the disk is full'); END";
    let text = |body: &str| Command::Text { number: number.clone(), body: body.to_owned() };
    let failed = |event: &Event| match event {
        Event::TextFailed { reason, .. } => Some(Err(*reason)),
        Event::TextDelivered { .. } => Some(Ok(())),
        _ => None,
    };
    let arrived =
        |event: &Event| if let Event::Text { body, .. } = event { Some(body.clone()) } else { None };
    for in_call in [false, true] {
        if in_call {
            let mut call = ada.dial(number.clone()).await.expect("dialled");
            assert_eq!(call.until(|s| *s == CallState::Active).await, CallState::Active);
        }
        sqlx::query(full).execute(&mut disk).await.expect("a trigger");
        ada.execute(text("lost")).await.expect("taken");
        let result = until(&mut seen, failed).await;
        assert_eq!(result, Err(EndReason::Failed(FailureCode::NotKept)), "in a call: {in_call}");
        sqlx::query("DROP TRIGGER full").execute(&mut disk).await.expect("no trigger");
        ada.execute(text("kept")).await.expect("taken");
        assert_eq!(until(&mut seen, failed).await, Ok(()));
        assert_eq!(until(&mut heard, arrived).await, "kept", "what was lost is never shown");
    }
    let kept: Vec<(String,)> = sqlx::query_as("SELECT body FROM messages WHERE outgoing = 0")
        .fetch_all(&mut disk)
        .await
        .expect("rows");
    assert_eq!(kept, [("kept".to_owned(),), ("kept".to_owned(),)]);
    ada.shutdown().await;
    bob.shutdown().await;
    dir.net.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_is_taken_up_without_a_restart() {
    let dir = directory(4).await;
    let (a, b) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    account(a.path(), "ada").await;
    account(b.path(), "bob").await;
    let bob = builder(b.path(), &dir).answer(AnswerMode::Auto).build().await.expect("bob");
    let number = online(&bob).await;
    let key = number.record_key(None).expect("a plain number");
    let published = async || {
        let mut lookup = dir.net.lookup(key, &[]);
        match lookup.next().await.expect("an end") {
            LookupEvent::Found { set, .. } => {
                let terminal = set.terminals.first().expect("a terminal");
                let account = set.account.as_ref().expect("an account").seq;
                (terminal.certificate().not_before, account)
            }
            LookupEvent::Finished { .. } => panic!("the number is not published"),
        }
    };
    let before = published().await;
    Home::open(b.path())
        .expect("home")
        .recertify(&"bob".parse().expect("an id"), &password())
        .await
        .expect("renewed");
    assert_eq!(published().await, before, "nobody has told the telephone");
    bob.execute(Command::Renewed).await.expect("taken up");
    let renewed = async {
        loop {
            let now = published().await;
            if now.0 > before.0 && now.1 > before.1 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, renewed).await.expect("the new certificate in the record");
    // The directory has taken it too, and it is what the callee presents.
    let ada = builder(a.path(), &dir).build().await.expect("ada");
    online(&ada).await;
    let mut call = ada.dial(number.to_string()).await.expect("dialled");
    assert_eq!(call.until(|s| *s == CallState::Active).await, CallState::Active);
    ada.shutdown().await;
    bob.shutdown().await;
    dir.net.shutdown().await;
}

/// What an earlier run left on its way nobody waits for any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_left_on_their_way_are_given_up_at_the_start() {
    let dir = directory(5).await;
    let a = tempfile::tempdir().expect("dir");
    account(a.path(), "ada").await;
    let home = Home::open(a.path()).expect("home");
    let id = "ada".parse().expect("an id");
    let entry = MessageEntry {
        id: "00".repeat(16),
        number: Number::Plain(offhook::proto::number::PlainNumber::from_index(9)),
        body: "unsent".to_owned(),
        sent: offhook::proto::wire::UnixMillis(1),
        state: MessageState::Sending,
    };
    let store = home.open_account(&id).await.expect("an account");
    store.message_add(&entry).await.expect("kept");
    store.close().await;
    drop(store);
    builder(a.path(), &dir).build().await.expect("ada").shutdown().await;
    let store = home.open_account(&id).await.expect("an account");
    assert_eq!(
        store.messages(None, 9).await.expect("messages"),
        [MessageEntry { state: MessageState::Failed, ..entry }]
    );
    dir.net.shutdown().await;
}

/// What a telephone has told so far, without waiting.
fn told(events: &mut (impl futures::Stream<Item = offhook::api::TimedEvent> + Unpin)) -> Vec<Event> {
    std::iter::from_fn(|| events.next().now_or_never().flatten()).map(|timed| timed.event).collect()
}

fn is_incoming(event: &Event) -> bool {
    matches!(event, Event::Incoming { .. })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_rings_while_the_pinned_keys_cannot_be_read() {
    let dir = directory(5).await;
    let (a, b) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    account(a.path(), "ada").await;
    account(b.path(), "bob").await;
    let ada = builder(a.path(), &dir).build().await.expect("ada");
    let bob = builder(b.path(), &dir).build().await.expect("bob");
    let number = online(&bob).await.to_string();
    online(&ada).await;
    let mut disk = database(b.path()).await;
    let mut rings = bob.events();
    sqlx::query("ALTER TABLE pins RENAME TO unreadable").execute(&mut disk).await.expect("renamed");
    let call = ada.dial(number.clone()).await.expect("dialled");
    assert_eq!(call.ended().await, EndReason::Failed(FailureCode::Remote));
    assert!(!told(&mut rings).iter().any(is_incoming));
    sqlx::query("ALTER TABLE unreadable RENAME TO pins").execute(&mut disk).await.expect("renamed");
    let call = ada.dial(number).await.expect("dialled");
    until(&mut rings, |event| is_incoming(event).then_some(())).await;
    call.hang_up().await.expect("given up");
    ada.shutdown().await;
    bob.shutdown().await;
    dir.net.shutdown().await;
}

/// An account's record that revokes its terminal, as another terminal of the account would have signed it.
async fn revoking(home: &Path, id: &str) -> (Number, Vec<u8>) {
    let (home, id) = (Home::open(home).expect("home"), id.parse().expect("an id"));
    let key = home.unlock(&id, &password()).await.expect("the key");
    let store = home.open_account(&id).await.expect("the account");
    let (number, terminal) = (store.number().clone(), store.terminal_key().public());
    let set = RecordSet { account: Some(store.account_record()), terminals: Vec::new() };
    store.close().await;
    let place = number.record_key(None).expect("a plain number");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let now = UnixMillis(now.as_millis() as u64);
    let checked = record::check(&place, &set.encode(), now).expect("sound");
    let mut record = checked.account.expect("an account").record().clone();
    record.seq = now;
    record.revoked.push(terminal);
    (number, RecordSet { account: Some(record.sign(&key)), terminals: Vec::new() }.encode())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_that_its_account_has_revoked_does_not_ring() {
    let dir = directory(6).await;
    let (a, b) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    account(a.path(), "ada").await;
    account(b.path(), "bob").await;
    let (caller, record) = revoking(a.path(), "ada").await;
    let home = Home::open(b.path()).expect("home");
    let store = home.open_account(&"bob".parse().expect("an id")).await.expect("the account");
    store.cache_record(&caller, &record).await.expect("kept");
    store.close().await;
    drop(store);
    let ada = builder(a.path(), &dir).build().await.expect("ada");
    let bob = builder(b.path(), &dir).build().await.expect("bob");
    let number = online(&bob).await.to_string();
    online(&ada).await;
    let mut rings = bob.events();
    let call = ada.dial(number).await.expect("dialled");
    assert_eq!(call.ended().await, EndReason::Blocked);
    assert!(!told(&mut rings).iter().any(is_incoming));
    ada.shutdown().await;
    bob.shutdown().await;
    dir.net.shutdown().await;
}

/// Whoever is told to end the moment it is registered has perhaps published already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_telephone_that_ends_while_it_publishes_is_not_left_in_the_network() {
    let dir = directory(7).await;
    let home = tempfile::tempdir().expect("dir");
    account(home.path(), "ada").await;
    let ada = builder(home.path(), &dir).build().await.expect("ada");
    let key = ada.number().record_key(None).expect("a plain number");
    line(&ada, LineState::Publishing).await;
    let mut events = ada.events();
    ada.shutdown().await;
    assert_eq!(until_end(&mut events).await, None, "events end with the telephone");
    let mut lookup = dir.net.lookup(key, &[]);
    let on_line = match lookup.next().await.expect("an end") {
        LookupEvent::Found { set, .. } => set.terminals.iter().filter(|t| !t.addrs.is_empty()).count(),
        LookupEvent::Finished { .. } => 0,
    };
    assert_eq!(on_line, 0);
    dir.net.shutdown().await;
}

async fn until_end(
    events: &mut (impl futures::Stream<Item = offhook::api::TimedEvent> + Unpin),
) -> Option<Event> {
    let end = async { while events.next().await.is_some() {} };
    tokio::time::timeout(PATIENCE, end).await.expect("an end");
    events.next().now_or_never().flatten().map(|timed| timed.event)
}
