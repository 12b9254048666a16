use super::protocol::{Answer, parse_answer};
use super::*;
use crate::telephone::Telephone;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use offhook::api::{ApiError, Command, ErrorCode, Event, Reply, TimedEvent};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;

/// A telephone that writes down what it is asked; `lookup` waits until it is told to go on.
#[derive(Clone)]
struct Recorder {
    asked: Arc<Mutex<Vec<Command>>>,
    events: broadcast::WeakSender<TimedEvent>,
    stats: broadcast::WeakSender<TimedEvent>,
    go_on: Arc<Notify>,
}

impl Telephone for Recorder {
    async fn execute(&self, command: Command) -> Result<Reply, ApiError> {
        self.asked.lock().unwrap().push(command.clone());
        if let Command::Dial { .. } = command {
            return Ok(Reply::Call { call: "c1".into() });
        }
        if let Command::Lookup { .. } = command {
            self.go_on.notified().await;
            return Err(ApiError::new(ErrorCode::Offline, "Off line."));
        }
        assert_ne!(command, Command::Shutdown, "is the server's own affair");
        Ok(Reply::Done)
    }

    fn events(&self) -> BoxStream<'static, TimedEvent> {
        let events = self.events.upgrade().expect("has not ended").subscribe();
        stream::unfold(events, async |mut events| Some((events.recv().await.ok()?, events))).boxed()
    }

    async fn stats(&self) -> Result<BoxStream<'static, TimedEvent>, ApiError> {
        let stats = self.stats.upgrade().expect("has not ended").subscribe();
        Ok(stream::unfold(stats, async |mut stats| Some((stats.recv().await.ok()?, stats))).boxed())
    }
}

struct Fixture {
    _dir: TempDir,
    path: PathBuf,
    recorder: Recorder,
    /// The telephone ends with it.
    events: broadcast::Sender<TimedEvent>,
    stats: broadcast::Sender<TimedEvent>,
    quit: CancellationToken,
    server: tokio::task::JoinHandle<()>,
}

async fn fixture(limits: Limits) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let events = broadcast::channel(4096).0;
    let stats = broadcast::channel(64).0;
    let recorder = Recorder {
        asked: Arc::default(),
        events: events.downgrade(),
        stats: stats.downgrade(),
        go_on: Arc::default(),
    };
    let quit = CancellationToken::new();
    let socket = ControlSocket::bind(&path).await.unwrap();
    let server = tokio::spawn(socket.serve(recorder.clone(), quit.clone(), limits));
    Fixture { _dir: dir, path, recorder, events, stats, quit, server }
}

async fn connect(path: &Path) -> BufReader<UnixStream> {
    BufReader::new(UnixStream::connect(path).await.unwrap())
}

async fn say(stream: &mut BufReader<UnixStream>, text: &str) {
    stream.get_mut().write_all(text.as_bytes()).await.unwrap();
}

async fn hear(stream: &mut BufReader<UnixStream>) -> Answer {
    let mut line = String::new();
    assert!(stream.read_line(&mut line).await.unwrap() > 0, "closed");
    parse_answer(&line).unwrap()
}

fn refusal(answer: Answer) -> ErrorCode {
    let Answer::Reply(Err(error)) = answer else { unreachable!("{answer:?}") };
    error.code
}

#[tokio::test]
async fn commands_are_answered_in_their_order() {
    let f = fixture(Limits::default()).await;
    let mut client = connect(&f.path).await;
    say(&mut client, "{\"command\":\"dial\",\"number\":\"1\"}\n{\"command\":\"hangup\"}\n\n").await;
    assert_eq!(hear(&mut client).await, Answer::Reply(Ok(Reply::Call { call: "c1".into() })));
    assert_eq!(hear(&mut client).await, Answer::Reply(Ok(Reply::Done)));
    let asked = f.recorder.asked.lock().unwrap().clone();
    assert_eq!(asked, [Command::Dial { number: "1".into() }, Command::Hangup { call: None }]);
}

#[tokio::test]
async fn events_come_while_a_command_takes_its_time() {
    let f = fixture(Limits::default()).await;
    let mut client = connect(&f.path).await;
    say(&mut client, "{\"command\":\"subscribe\"}\n{\"command\":\"lookup\",\"number\":\"1\"}\n").await;
    assert_eq!(hear(&mut client).await, Answer::Reply(Ok(Reply::Done)));
    let event = TimedEvent { t_ns: 5, event: Event::Offline };
    f.events.send(event.clone()).unwrap();
    assert_eq!(hear(&mut client).await, Answer::Event(event));
    f.recorder.go_on.notify_one();
    assert_eq!(refusal(hear(&mut client).await), ErrorCode::Offline);
}

#[tokio::test]
async fn how_calls_go_is_told_to_who_asks_for_it_and_until_it_asks_no_more() {
    let f = fixture(Limits::default()).await;
    let (mut plain, mut follower) = (connect(&f.path).await, connect(&f.path).await);
    say(&mut plain, "{\"command\":\"subscribe\"}\n").await;
    say(&mut follower, "{\"command\":\"subscribe\",\"stats\":true}\n").await;
    for client in [&mut plain, &mut follower] {
        assert_eq!(hear(client).await, Answer::Reply(Ok(Reply::Done)));
    }
    let stats = |t_ns| TimedEvent { t_ns, event: Event::Stats { call: "c".into(), stats: Box::default() } };
    assert_eq!(f.stats.send(stats(1)).unwrap(), 1, "one follows");
    assert_eq!(hear(&mut follower).await, Answer::Event(stats(1)));
    let offline = TimedEvent { t_ns: 2, event: Event::Offline };
    f.events.send(offline.clone()).unwrap();
    for client in [&mut plain, &mut follower] {
        assert_eq!(hear(client).await, Answer::Event(offline.clone()), "nothing else before");
    }
    say(&mut follower, "{\"command\":\"subscribe\"}\n").await;
    assert_eq!(hear(&mut follower).await, Answer::Reply(Ok(Reply::Done)));
    assert!(f.stats.send(stats(3)).is_err(), "nobody follows");
    f.events.send(offline.clone()).unwrap();
    assert_eq!(hear(&mut follower).await, Answer::Event(offline), "but it is still told what happens");
}

#[tokio::test]
async fn garbage_is_refused_and_the_connection_goes_on() {
    let f = fixture(Limits::default()).await;
    let mut client = connect(&f.path).await;
    say(&mut client, "what?\n{\"command\":\"fly\"}\n{\"command\":\"answer\"}\n").await;
    assert_eq!(refusal(hear(&mut client).await), ErrorCode::BadInput);
    assert_eq!(refusal(hear(&mut client).await), ErrorCode::BadInput);
    assert_eq!(hear(&mut client).await, Answer::Reply(Ok(Reply::Done)));
    assert_eq!(f.recorder.asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn an_endless_line_is_cut_off() {
    let f = fixture(Limits { line: 1000, ..Limits::default() }).await;
    let mut client = connect(&f.path).await;
    say(&mut client, &"x".repeat(1500)).await;
    assert_eq!(refusal(hear(&mut client).await), ErrorCode::BadInput);
    let mut rest = Vec::new();
    // What was not read makes the end a reset on some systems; either way nothing more comes.
    let _ = client.read_to_end(&mut rest).await;
    assert!(rest.is_empty());

    let mut client = connect(&f.path).await;
    client.get_mut().write_all(b"\xff\xfe\n").await.unwrap();
    assert_eq!(refusal(hear(&mut client).await), ErrorCode::BadInput);
    assert!(f.recorder.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn only_so_many_connections_are_served() {
    let f = fixture(Limits { connections: 2, ..Limits::default() }).await;
    let mut served = Vec::new();
    for _ in 0..2 {
        let mut client = connect(&f.path).await;
        say(&mut client, "{\"command\":\"mute\",\"on\":true}\n").await;
        assert_eq!(hear(&mut client).await, Answer::Reply(Ok(Reply::Done)));
        served.push(client);
    }
    let mut third = connect(&f.path).await;
    assert_eq!(refusal(hear(&mut third).await), ErrorCode::Busy);
    let mut rest = String::new();
    assert_eq!(third.read_line(&mut rest).await.unwrap(), 0, "closed");

    // A place that is given back is given away again, as soon as the server has noticed.
    drop(served);
    let again = async {
        loop {
            let mut client = connect(&f.path).await;
            say(&mut client, "{\"command\":\"mute\",\"on\":true}\n").await;
            if hear(&mut client).await == Answer::Reply(Ok(Reply::Done)) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), again).await.expect("served again");
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_is_let_go() {
    let f = fixture(Limits { connections: 1, stalled: Duration::from_millis(50), ..Limits::default() }).await;
    let mut idle = connect(&f.path).await;
    say(&mut idle, "{\"command\":\"subscribe\"}\n").await;
    assert_eq!(hear(&mut idle).await, Answer::Reply(Ok(Reply::Done)));
    let body = "x".repeat(4000);
    let flood = async {
        // The only place is free again when the server has given up on the idle one.
        loop {
            let event = Event::Error { code: ErrorCode::Internal, message: body.clone() };
            let _ = f.events.send(TimedEvent { t_ns: 0, event });
            tokio::task::yield_now().await;
            if f.events.receiver_count() == 0 {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), flood).await.expect("let go");
}

#[tokio::test]
async fn the_socket_is_its_owners_and_a_dead_one_is_replaced() {
    let f = fixture(Limits::default()).await;
    assert_eq!(std::fs::metadata(&f.path).unwrap().permissions().mode() & 0o777, 0o600);
    let second = ControlSocket::bind(&f.path).await;
    assert_eq!(second.unwrap_err().exit, crate::exit::Exit::InUse);
    f.quit.cancel();
    f.server.await.unwrap();
    assert!(!f.path.exists(), "removed at the end");

    // What a killed program leaves behind: a socket nobody listens on.
    drop(std::os::unix::net::UnixListener::bind(&f.path).unwrap());
    assert!(f.path.exists());
    assert!(Remote::connect(&f.path).await.unwrap().is_none(), "nobody there");
    let socket = ControlSocket::bind(&f.path).await.unwrap();
    assert!(UnixStream::connect(&f.path).await.is_ok());
    drop(socket);
}

#[tokio::test]
async fn the_client_speaks_the_servers_language() {
    let f = fixture(Limits::default()).await;
    assert!(Remote::connect(&f.path.with_file_name("none.sock")).await.unwrap().is_none());
    let remote = Remote::connect(&f.path).await.unwrap().expect("runs");
    let mut events = remote.events();
    let reply = remote.execute(Command::Dial { number: "1".into() }).await.unwrap();
    assert_eq!(reply, Reply::Call { call: "c1".into() });
    let event = TimedEvent { t_ns: 1, event: Event::Ringing { call: "c1".into() } };
    f.events.send(event.clone()).unwrap();
    assert_eq!(events.next().await, Some(event.clone()));

    assert_eq!(remote.execute(Command::Shutdown).await, Ok(Reply::Done));
    f.server.await.unwrap();
    assert!(f.quit.is_cancelled(), "a client can end the terminal");
    f.events.send(event.clone()).unwrap();
    assert_eq!(events.next().await, Some(event), "what happens while it ends");
    drop(f.events);
    assert_eq!(events.next().await, None, "the stream ends with the terminal");
    assert_eq!(remote.execute(Command::Status).await.unwrap_err().code, ErrorCode::ShuttingDown);
}
