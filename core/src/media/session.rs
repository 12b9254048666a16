//! What runs over a QUIC connection: the handshakes that lead to one, the control stream, the datagrams.
//!
//! Several handshakes may be under way, one begun through the tunnel and another on the first direct path. The
//! caller takes the first that succeeds and opens the control stream on it; the callee takes the one on which
//! that stream appears. So both ends always agree.

use std::time::Duration;

use quinn::{ConnectionError, RecvStream, SendStream, VarInt};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::quic::SERVER_NAME;
use super::socket::PEER;
use super::types::MediaError;
use super::voice::VoiceInbox;

/// Handshakes under way at a time.
pub(super) const MAX_HANDSHAKES: usize = 4;
/// Longest frame of the control stream in bytes.
pub(super) const MAX_CONTROL: usize = 8 * 1024;
/// Control frames that wait to be sent; signalling carries them too, so a lost one is no harm.
const CONTROL_QUEUE: usize = 64;
/// Label of the exporter (RFC 8446 section 7.5).
const EXPORTER_LABEL: &[u8] = b"offhook verification";
/// Application error codes.
pub(super) const CODE_BYE: VarInt = VarInt::from_u32(0);
const CODE_PROTOCOL: VarInt = VarInt::from_u32(1);
/// TLS alert 49, access denied, as QUIC carries it (RFC 9001 section 4.8): the certificate is not the pinned one.
const ALERT_ACCESS_DENIED: u8 = 49;
/// The other end must have opened the control stream by then; it does with its first packet.
const STREAM_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection whose keys are agreed; at the callee with the control stream that the caller opened on it.
#[derive(Debug)]
pub(super) struct Established {
    pub(super) connection: quinn::Connection,
    pub(super) streams: Option<(SendStream, RecvStream)>,
}

/// How long the caller's control stream may take to open; it waits for nobody once the handshake is over.
const CHOICE_TIMEOUT: Duration = Duration::from_secs(1);

/// How a handshake ended without a connection.
#[derive(Debug)]
pub(super) enum Attempt {
    /// Nothing was heard: worth another try.
    Unheard,
    /// It will not work.
    Refused(MediaError),
}

/// What a session reports.
#[derive(Debug)]
pub(super) enum SessionEvent {
    Control(Vec<u8>),
    /// Over; with a reason if it was not the other end's wish.
    Ended(Option<MediaError>),
}

/// The caller's handshake.
pub(super) async fn connect(
    endpoint: quinn::Endpoint,
    config: quinn::ClientConfig,
) -> Result<Established, Attempt> {
    let connecting = endpoint
        .connect_with(config, PEER, SERVER_NAME)
        .map_err(|_| Attempt::Refused(MediaError::Handshake))?;
    let connection = connecting.await.map_err(|error| attempt(&error))?;
    Ok(Established { connection, streams: None })
}

/// The caller's choice among its connections: it opens the control stream on one only, and that is the one the callee
/// takes. So the two ends never settle on different ones.
pub(super) async fn choose(connection: &quinn::Connection) -> Option<(SendStream, RecvStream)> {
    let open = async {
        let (mut send, receive) = connection.open_bi().await.ok()?;
        // A stream is noticed by its first bytes: an empty frame.
        send.write_all(&[0, 0]).await.ok()?;
        Some((send, receive))
    };
    tokio::time::timeout(CHOICE_TIMEOUT, open).await.ok().flatten()
}

/// The callee's handshake.
pub(super) async fn accept(incoming: quinn::Incoming) -> Result<Established, Attempt> {
    let connection = incoming.await.map_err(|error| attempt(&error))?;
    let opened = tokio::time::timeout(STREAM_TIMEOUT, connection.accept_bi()).await;
    let streams = opened.map_err(|_| Attempt::Unheard)?.map_err(|error| attempt(&error))?;
    Ok(Established { connection, streams: Some(streams) })
}

fn attempt(error: &ConnectionError) -> Attempt {
    match end_reason(error) {
        Some(MediaError::PeerKey) => Attempt::Refused(MediaError::PeerKey),
        Some(MediaError::Handshake) => Attempt::Refused(MediaError::Handshake),
        Some(_) | None => Attempt::Unheard,
    }
}

/// Why a connection ended; `None` if one of the ends wished so.
fn end_reason(error: &ConnectionError) -> Option<MediaError> {
    let denied = quinn::TransportErrorCode::crypto(ALERT_ACCESS_DENIED);
    match error {
        ConnectionError::TransportError(error) if error.code == denied => Some(MediaError::PeerKey),
        ConnectionError::ConnectionClosed(close) if close.error_code == denied => Some(MediaError::PeerKey),
        ConnectionError::VersionMismatch
        | ConnectionError::TransportError(_)
        | ConnectionError::ConnectionClosed(_)
        | ConnectionError::CidsExhausted => Some(MediaError::Handshake),
        ConnectionError::ApplicationClosed(close) if close.error_code == CODE_BYE => None,
        ConnectionError::ApplicationClosed(_) => Some(MediaError::Handshake),
        ConnectionError::LocallyClosed => None,
        ConnectionError::Reset | ConnectionError::TimedOut => Some(MediaError::Lost),
    }
}

/// A connection in use. Its tasks end when it is dropped.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) connection: quinn::Connection,
    control: mpsc::Sender<Vec<u8>>,
    writer: JoinSet<()>,
    _readers: JoinSet<()>,
}

impl Session {
    /// Starts to read and write. Events go to `events`, datagrams to `voice`.
    pub(super) fn start(
        connection: quinn::Connection,
        (send, receive): (SendStream, RecvStream),
        events: mpsc::Sender<SessionEvent>,
        voice: VoiceInbox,
    ) -> (Session, [u8; 32]) {
        let mut exporter = [0; 32];
        // Fails only for output of more than 255 hashes.
        let _ = connection.export_keying_material(&mut exporter, EXPORTER_LABEL, &[]);
        let (control, queue) = mpsc::channel(CONTROL_QUEUE);
        let (mut writer, mut readers) = (JoinSet::new(), JoinSet::new());
        writer.spawn(write_control(send, queue));
        readers.spawn(read_control(connection.clone(), receive, events.clone()));
        readers.spawn(read_datagrams(connection.clone(), events, voice));
        (Session { connection, control, writer, _readers: readers }, exporter)
    }

    /// Waits until the other end has acknowledged all frames. Ends only with the connection if it never does.
    pub(super) async fn finish(self) {
        let Session { connection: _connection, control, mut writer, _readers: _ } = self;
        drop(control);
        // A writer that failed has nothing left to wait for.
        while writer.join_next().await.is_some() {}
    }

    /// Sends a frame on the control stream; false if it is too long or too many wait.
    pub(super) fn send_control(&self, frame: Vec<u8>) -> bool {
        frame.len() <= MAX_CONTROL && self.control.try_send(frame).is_ok()
    }
}

async fn write_control(mut send: SendStream, mut queue: mpsc::Receiver<Vec<u8>>) {
    while let Some(frame) = queue.recv().await {
        // `send_control` has checked that the length fits.
        let length = (frame.len() as u16).to_be_bytes();
        if send.write_all(&length).await.is_err() || send.write_all(&frame).await.is_err() {
            return;
        }
    }
    // Fails only if the stream or the connection has been closed: then nothing more can be done.
    if send.finish().is_ok() {
        let _ = send.stopped().await;
    }
}

async fn read_control(
    connection: quinn::Connection,
    mut receive: RecvStream,
    events: mpsc::Sender<SessionEvent>,
) {
    loop {
        match read_frame(&mut receive).await {
            // An empty one only shows that the stream is there.
            Ok(frame) if frame.is_empty() => {}
            // Waits when the leg is behind, and so does the other end's stream.
            Ok(frame) => {
                if events.send(SessionEvent::Control(frame)).await.is_err() {
                    return;
                }
            }
            Err(StreamEnd::Over) => return,
            Err(StreamEnd::TooLong) => {
                connection.close(CODE_PROTOCOL, b"control frame too long");
                return;
            }
        }
    }
}

/// Why no further frame comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamEnd {
    /// The stream or the connection has ended.
    Over,
    /// A frame is longer than [`MAX_CONTROL`].
    TooLong,
}

/// The next frame of a control stream: two bytes of length, then so many.
pub(super) async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, StreamEnd> {
    let length = usize::from(stream.read_u16().await.map_err(|_| StreamEnd::Over)?);
    if length > MAX_CONTROL {
        return Err(StreamEnd::TooLong);
    }
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame).await.map_err(|_| StreamEnd::Over)?;
    Ok(frame)
}

async fn read_datagrams(
    connection: quinn::Connection,
    events: mpsc::Sender<SessionEvent>,
    voice: VoiceInbox,
) {
    let error = loop {
        match connection.read_datagram().await {
            Ok(datagram) => voice.push(datagram),
            Err(error) => break error,
        }
    };
    let reason = match error {
        // We closed it because of what the other end sent.
        ConnectionError::LocallyClosed => Some(MediaError::Handshake),
        ConnectionError::VersionMismatch
        | ConnectionError::TransportError(_)
        | ConnectionError::ConnectionClosed(_)
        | ConnectionError::ApplicationClosed(_)
        | ConnectionError::Reset
        | ConnectionError::TimedOut
        | ConnectionError::CidsExhausted => end_reason(&error),
    };
    let _ = events.send(SessionEvent::Ended(reason)).await;
}
