use super::protocol::{self, Answer, Request};
use crate::exit::Failure;
use crate::telephone::Telephone;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use offhook::api::{ApiError, Command, ErrorCode, Event, Reply, TimedEvent};
use std::future::ready;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, broadcast, mpsc};
use tokio_util::codec::{FramedRead, LinesCodec};

/// Longest line from the terminal, bytes: a contact list of ten thousand fits.
const MAX_ANSWER: usize = 4 * 1024 * 1024;
/// Events kept for a reader that is behind.
const BACKLOG: usize = 1024;

/// The running terminal, through its control socket.
#[derive(Clone)]
pub struct Remote {
    exchange: Arc<Mutex<Exchange>>,
    /// Weak, so that event streams end when the connection does.
    events: broadcast::WeakSender<TimedEvent>,
}

/// One command at a time; replies come in the order of the commands.
struct Exchange {
    out: OwnedWriteHalf,
    replies: mpsc::Receiver<Result<Reply, ApiError>>,
}

impl Remote {
    /// Connects to the running terminal of a home; `None` if none runs.
    pub async fn connect(socket: &Path) -> Result<Option<Self>, Failure> {
        let stream = match UnixStream::connect(socket).await {
            Ok(stream) => stream,
            // No socket, or one that a killed program left behind.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => {
                return Err(Failure::system(format!("{} can't be opened: {error}.", socket.display())));
            }
        };
        let (input, out) = stream.into_split();
        let (reply_in, replies) = mpsc::channel(4);
        let (event_in, _) = broadcast::channel(BACKLOG);
        let events = event_in.downgrade();
        tokio::spawn(read(input, reply_in, event_in));
        let remote = Self { exchange: Arc::new(Mutex::new(Exchange { out, replies })), events };
        remote.ask(&Request::Subscribe { stats: false }).await?;
        Ok(Some(remote))
    }

    async fn ask(&self, request: &Request) -> Result<Reply, ApiError> {
        let line = protocol::request_line(request) + "\n";
        let mut exchange = self.exchange.lock().await;
        exchange.out.write_all(line.as_bytes()).await.map_err(|_| gone())?;
        exchange.replies.recv().await.ok_or_else(gone)?
    }
}

impl Telephone for Remote {
    async fn execute(&self, command: Command) -> Result<Reply, ApiError> {
        self.ask(&Request::Command(command)).await
    }

    fn events(&self) -> BoxStream<'static, TimedEvent> {
        let Some(events) = self.events.upgrade() else { return stream::empty().boxed() };
        stream::unfold(events.subscribe(), |mut events| async move {
            loop {
                match events.recv().await {
                    Ok(event) => return Some((event, events)),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        })
        .boxed()
    }

    async fn stats(&self) -> Result<BoxStream<'static, TimedEvent>, ApiError> {
        let events = self.events();
        self.ask(&Request::Subscribe { stats: true }).await?;
        Ok(events.filter(|event| ready(matches!(event.event, Event::Stats { .. }))).boxed())
    }
}

/// Sorts the terminal's lines until it closes the connection or talks nonsense.
async fn read(
    input: OwnedReadHalf,
    replies: mpsc::Sender<Result<Reply, ApiError>>,
    events: broadcast::Sender<TimedEvent>,
) {
    let mut lines = FramedRead::new(input, LinesCodec::new_with_max_length(MAX_ANSWER));
    while let Some(Ok(line)) = lines.next().await {
        match protocol::parse_answer(&line) {
            Ok(Answer::Reply(reply)) => {
                if replies.send(reply).await.is_err() {
                    return;
                }
            }
            // Nobody listening is fine.
            Ok(Answer::Event(event)) => drop(events.send(event)),
            Err(error) => {
                tracing::warn!(%error, "the running terminal said something unknown; is it another version?");
                return;
            }
        }
    }
}

fn gone() -> ApiError {
    ApiError::new(ErrorCode::ShuttingDown, "The running terminal has ended.")
}
