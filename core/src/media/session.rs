//! What runs over a QUIC connection: the handshakes that lead to one, the control stream, the datagrams.
//!
//! Several handshakes may be under way, one begun through the tunnel and another on the first direct path. The
//! caller takes the first that succeeds, opens the control stream on it and sends its voice there; the callee takes the one on
//! which either appears. So both ends always agree. Voice counts because QUIC may repeat a lost stream late: a client that does
//! not know yet that the server has its keys has no time-out for it (RFC 9002 section 6.2.1).

use std::time::Duration;

use bytes::Bytes;
use offhook_proto::signalling::LastWord;
use quinn::{ConnectionError, RecvStream, SendStream, VarInt};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{mpsc, oneshot};
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
/// Application error codes, apart from those of [`LastWord`]. A spare connection is closed like any other.
pub(super) const CODE_BYE: VarInt = VarInt::from_u32(0);
const CODE_PROTOCOL: VarInt = VarInt::from_u32(1);
/// TLS alert 49, access denied, as QUIC carries it (RFC 9001 section 4.8): the certificate is not the pinned one.
const ALERT_ACCESS_DENIED: u8 = 49;

/// A connection whose keys are agreed.
#[derive(Debug)]
pub(super) struct Established {
    pub(super) connection: quinn::Connection,
    /// Unknown at the caller, who has not made it yet.
    pub(super) choice: Option<Choice>,
}

/// How it is known to be the caller's choice.
#[derive(Debug)]
pub(super) enum Choice {
    /// The control stream is on it.
    Stream(SendStream, RecvStream),
    /// This datagram has come over it; the control stream is still to come.
    Datagram(Bytes),
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
    /// The control stream is there.
    Opened,
    Control(Vec<u8>),
    /// Over: by an end's wish, with the other end's last word if it was its own, or by a failure.
    Ended(Result<Option<LastWord>, MediaError>),
}

/// The caller's handshake, which may take this long.
pub(super) async fn connect(
    endpoint: quinn::Endpoint,
    config: quinn::ClientConfig,
    patience: Duration,
) -> Result<Established, Attempt> {
    let connecting = endpoint
        .connect_with(config, PEER, SERVER_NAME)
        .map_err(|_| Attempt::Refused(MediaError::Handshake))?;
    let connected = tokio::time::timeout(patience, connecting).await.map_err(|_| Attempt::Unheard)?;
    let connection = connected.map_err(|error| attempt(&error))?;
    Ok(Established { connection, choice: None })
}

/// The caller's choice among its connections: it opens the control stream on one only, where it sends its voice too, and that is
/// the one the callee takes. So the two ends never settle on different ones.
pub(super) async fn choose(connection: &quinn::Connection) -> Option<Choice> {
    let open = async {
        let (mut send, receive) = connection.open_bi().await.ok()?;
        // A stream is noticed by its first bytes: an empty frame.
        send.write_all(&[0, 0]).await.ok()?;
        Some(Choice::Stream(send, receive))
    };
    tokio::time::timeout(CHOICE_TIMEOUT, open).await.ok().flatten()
}

/// The callee's handshake, up to the control stream or the voice that tells which connection the caller has chosen.
pub(super) async fn accept(incoming: quinn::Incoming, patience: Duration) -> Result<Established, Attempt> {
    let chosen = async {
        let connection = incoming.await?;
        let choice = tokio::select! {
            streams = connection.accept_bi() => streams.map(|(send, receive)| Choice::Stream(send, receive))?,
            datagram = connection.read_datagram() => Choice::Datagram(datagram?),
        };
        Ok(Established { connection, choice: Some(choice) })
    };
    let accepted = tokio::time::timeout(patience, chosen).await.map_err(|_| Attempt::Unheard)?;
    accepted.map_err(|error: ConnectionError| attempt(&error))
}

fn attempt(error: &ConnectionError) -> Attempt {
    match end_reason(error) {
        Err(MediaError::PeerKey) => Attempt::Refused(MediaError::PeerKey),
        Err(MediaError::Handshake) => Attempt::Refused(MediaError::Handshake),
        Err(_) | Ok(_) => Attempt::Unheard,
    }
}

/// How a connection ended: by the wish of an end, with the other end's last word if it was its own, or by a failure.
fn end_reason(error: &ConnectionError) -> Result<Option<LastWord>, MediaError> {
    let denied = quinn::TransportErrorCode::crypto(ALERT_ACCESS_DENIED);
    match error {
        ConnectionError::TransportError(error) if error.code == denied => Err(MediaError::PeerKey),
        ConnectionError::ConnectionClosed(close) if close.error_code == denied => Err(MediaError::PeerKey),
        ConnectionError::VersionMismatch
        | ConnectionError::TransportError(_)
        | ConnectionError::ConnectionClosed(_)
        | ConnectionError::CidsExhausted => Err(MediaError::Handshake),
        ConnectionError::ApplicationClosed(close) => {
            LastWord::from_code(close.error_code.into_inner()).map(Some).ok_or(MediaError::Handshake)
        }
        ConnectionError::LocallyClosed => Ok(None),
        ConnectionError::Reset | ConnectionError::TimedOut => Err(MediaError::Lost),
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
        choice: Choice,
        events: mpsc::Sender<SessionEvent>,
        voice: VoiceInbox,
    ) -> (Session, [u8; 32]) {
        let mut exporter = [0; 32];
        // Fails only for output of more than 255 hashes.
        let _ = connection.export_keying_material(&mut exporter, EXPORTER_LABEL, &[]);
        let (control, queue) = mpsc::channel(CONTROL_QUEUE);
        let (mut writer, mut readers) = (JoinSet::new(), JoinSet::new());
        let (opened, to_write) = oneshot::channel();
        writer.spawn(write_control(to_write, queue));
        let streams = match choice {
            Choice::Stream(send, receive) => Some((send, receive)),
            Choice::Datagram(datagram) => {
                voice.push(datagram);
                None
            }
        };
        readers.spawn(open_control(connection.clone(), streams, opened, events.clone()));
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

/// Hands one half of the control stream to who writes it, and reads the other. One that is not there yet is the other end's to
/// open.
async fn open_control(
    connection: quinn::Connection,
    streams: Option<(SendStream, RecvStream)>,
    opened: oneshot::Sender<SendStream>,
    events: mpsc::Sender<SessionEvent>,
) {
    let streams = match streams {
        Some(streams) => Ok(streams),
        None => connection.accept_bi().await,
    };
    // The end of the connection is told by who reads the datagrams.
    if let Ok((send, receive)) = streams
        && opened.send(send).is_ok()
        && events.send(SessionEvent::Opened).await.is_ok()
    {
        read_control(connection, receive, events).await;
    }
}

async fn write_control(opened: oneshot::Receiver<SendStream>, mut queue: mpsc::Receiver<Vec<u8>>) {
    let Ok(mut send) = opened.await else { return };
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
        ConnectionError::LocallyClosed => Err(MediaError::Handshake),
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::media::quic::Identity;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn voice_tells_the_callers_choice_when_the_control_stream_is_late() {
        let loopback = (Ipv4Addr::LOCALHOST, 0).into();
        let (ada, bob) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let server = quinn::Endpoint::server(bob.server(ada.fingerprint).unwrap(), loopback).unwrap();
        let client = quinn::Endpoint::client(loopback).unwrap();
        let config = ada.client(bob.fingerprint).unwrap();
        let connecting = client.connect_with(config, server.local_addr().unwrap(), SERVER_NAME).unwrap();
        let call = async {
            let connection = connecting.await.unwrap();
            connection.send_datagram(Bytes::from_static(b"hello")).unwrap();
            connection
        };
        let answer = async { accept(server.accept().await.unwrap(), PATIENCE).await.unwrap() };
        let (connection, Established { connection: answered, choice }) = tokio::join!(call, answer);
        assert!(
            matches!(choice, Some(Choice::Datagram(voice)) if voice == b"hello"[..]),
            "and it is not lost"
        );

        let (opened, to_write) = oneshot::channel();
        let (events, mut heard) = mpsc::channel(1);
        let control = tokio::spawn(open_control(answered, None, opened, events));
        let Some(Choice::Stream(mut send, mut receive)) = choose(&connection).await else {
            panic!("the caller opens the stream");
        };
        send.write_all(&[0, 2, 7, 8]).await.unwrap();
        assert!(matches!(heard.recv().await, Some(SessionEvent::Opened)));
        assert!(matches!(heard.recv().await, Some(SessionEvent::Control(frame)) if frame == [7, 8]));
        to_write.await.unwrap().write_all(&[0, 1, 9]).await.unwrap();
        assert_eq!(read_frame(&mut receive).await, Ok(vec![9]));
        connection.close(CODE_BYE, b"");
        control.await.unwrap();
    }
}
