use super::protocol::{self, Request};
use crate::exit::Failure;
use crate::telephone::Telephone;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use offhook::api::{ApiError, Command, ErrorCode, Reply, TimedEvent};
use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::sync::CancellationToken;

/// What clients may take up.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at a time; another one is told so and closed.
    pub connections: usize,
    /// Longest line, bytes; a client that sends a longer one is told so and closed.
    pub line: usize,
    /// How long a client may leave its output unread before it is closed.
    pub stalled: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        // The longest honest line is a text of 4 KiB whose every character is escaped (six bytes each).
        Self { connections: 32, line: 64 * 1024, stalled: Duration::from_secs(10) }
    }
}

/// The socket, bound and reachable only for its owner. Removed when dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Binds `path`, taking the place of a socket that a killed program left behind. A live one is a
    /// failure with [`ErrorCode::InUse`].
    pub async fn bind(path: &Path) -> Result<Self, Failure> {
        if UnixStream::connect(path).await.is_ok() {
            return Err(Failure::new(
                ErrorCode::InUse,
                "A terminal is running here already. `offhook status` shows it.",
            ));
        }
        let failed =
            |error: std::io::Error| Failure::system(format!("{} can't be made: {error}.", path.display()));
        // Bound in a directory that nobody else can enter, so that there is no moment at which the socket
        // has another mode; then moved into place.
        let nursery = path.with_file_name(".sock");
        let newborn = nursery.join("s");
        DirBuilder::new().recursive(true).mode(0o700).create(&nursery).map_err(failed)?;
        match fs::remove_file(&newborn) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&newborn).map_err(failed)?;
        fs::set_permissions(&newborn, Permissions::from_mode(0o600)).map_err(failed)?;
        fs::rename(&newborn, path).map_err(failed)?;
        // An empty directory that stays is no harm.
        let _ = fs::remove_dir(&nursery);
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Serves clients until `quit` is cancelled; a client's `shutdown` cancels it. Then clients give no more commands,
    /// but are told events until the telephone has ended.
    pub async fn serve<T: Telephone>(self, telephone: T, quit: CancellationToken, limits: Limits) {
        let places = Arc::new(Semaphore::new(limits.connections));
        loop {
            let stream = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = quit.cancelled() => return,
            };
            let stream = match stream {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Too few file descriptors: waiting is all that helps.
                    tracing::warn!(%error, "control socket");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(place) = places.clone().try_acquire_owned() else {
                turn_away(stream);
                continue;
            };
            let client = Client::new(stream, telephone.clone(), quit.clone(), limits);
            tokio::spawn(async move {
                client.serve().await;
                drop(place);
            });
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // If it is gone already, so much the better.
        let _ = fs::remove_file(&self.path);
    }
}

/// Without waiting: the buffer of a new socket takes a short line.
fn turn_away(stream: UnixStream) {
    let error = ApiError::new(ErrorCode::Busy, "Too many programs are connected to this terminal.");
    let line = protocol::reply_line(&Err(error)) + "\n";
    let _ = stream.try_write(line.as_bytes());
}

/// One connection.
struct Client<T> {
    lines: FramedRead<OwnedReadHalf, LinesCodec>,
    out: OwnedWriteHalf,
    telephone: T,
    events: Option<BoxStream<'static, TimedEvent>>,
    /// How calls go, for who wants that, too.
    stats: Option<BoxStream<'static, TimedEvent>>,
    quit: CancellationToken,
    limits: Limits,
}

/// The client is not to be served any longer.
struct Gone;

impl<T: Telephone> Client<T> {
    fn new(stream: UnixStream, telephone: T, quit: CancellationToken, limits: Limits) -> Self {
        let (input, out) = stream.into_split();
        let lines = FramedRead::new(input, LinesCodec::new_with_max_length(limits.line));
        Self { lines, out, telephone, events: None, stats: None, quit, limits }
    }

    async fn serve(mut self) {
        // While a command is under way no other is read, so replies come in the order of the commands
        // and a client can't pile them up; events go on.
        let mut pending: Option<BoxFuture<'static, Result<Reply, ApiError>>> = None;
        let quit = self.quit.clone();
        let mut ending = false;
        while !ending || self.events.is_some() {
            let done = tokio::select! {
                () = quit.cancelled(), if !ending => {
                    ending = true;
                    Ok(())
                }
                line = self.lines.next(), if pending.is_none() && !ending => match line {
                    None => return,
                    Some(Ok(line)) => self.request(&line, &mut pending).await,
                    Some(Err(_)) => {
                        let error = ApiError::new(ErrorCode::BadInput, "This line is too long, or no UTF-8 text.");
                        let _ = self.send(protocol::reply_line(&Err(error))).await;
                        return;
                    }
                },
                reply = maybe(&mut pending) => {
                    pending = None;
                    self.send(protocol::reply_line(&reply)).await
                }
                event = next(&mut self.events) => match event {
                    Some(event) => self.send(protocol::event_line(&event)).await,
                    None => return,
                },
                event = next(&mut self.stats) => match event {
                    Some(event) => self.send(protocol::event_line(&event)).await,
                    None => {
                        self.stats = None;
                        Ok(())
                    }
                },
            };
            if done.is_err() {
                return;
            }
        }
    }

    async fn request(
        &mut self,
        line: &str,
        pending: &mut Option<BoxFuture<'static, Result<Reply, ApiError>>>,
    ) -> Result<(), Gone> {
        if line.trim().is_empty() {
            return Ok(());
        }
        let reply = match protocol::parse_request(line) {
            Ok(Request::Subscribe { stats }) => self.subscribe(stats).await,
            Ok(Request::Command(Command::Shutdown)) => {
                let told = self.send(protocol::reply_line(&Ok(Reply::Done))).await;
                self.quit.cancel();
                return told;
            }
            Ok(Request::Command(command)) => {
                let telephone = self.telephone.clone();
                *pending = Some(async move { telephone.execute(command).await }.boxed());
                return Ok(());
            }
            Err(error) => Err(error),
        };
        self.send(protocol::reply_line(&reply)).await
    }

    async fn subscribe(&mut self, stats: bool) -> Result<Reply, ApiError> {
        // Who has subscribed already misses nothing by doing so again.
        self.events.get_or_insert_with(|| self.telephone.events());
        self.stats = if stats { Some(self.telephone.stats().await?) } else { None };
        Ok(Reply::Done)
    }

    async fn send(&mut self, mut line: String) -> Result<(), Gone> {
        line.push('\n');
        match timeout(self.limits.stalled, self.out.write_all(line.as_bytes())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Gone),
        }
    }
}

async fn maybe<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn next(events: &mut Option<BoxStream<'static, TimedEvent>>) -> Option<TimedEvent> {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}
