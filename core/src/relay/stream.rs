//! TURN over a connection, TCP or TLS (RFC 8656 section 2.1): messages one after the other, data on channels padded to four bytes
//! (section 12.5).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use offhook_proto::wire::canonical;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::hub::{Client, From, Hub, MAX_DATAGRAM, Outlet};
use super::udp::Kind;

/// Packets that wait for a connection's other end to read; further ones are dropped.
const QUEUE: usize = 128;

/// How long a connection without an allocation stays, from its beginning or from the end of the last one.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long the other end may take to read.
const STALLED: Duration = Duration::from_secs(15);

/// Bytes before a STUN message's length is known: RFC 8489 section 5. A channel's data have theirs in the same place.
const PREFIX: usize = 4;
const STUN_HEADER: usize = 20;

/// Takes the next whole message off the front of what has been read; the padding of data goes with them.
///
/// # Errors
/// When what comes is no message, or too long a one: the rest cannot be understood either.
pub(super) fn take_frame(buffer: &mut BytesMut) -> Result<Option<Bytes>, NotTurn> {
    if buffer.len() < PREFIX {
        return Ok(None);
    }
    let said = usize::from(u16::from_be_bytes([buffer[2], buffer[3]]));
    let (length, padded) = match Kind::of(buffer) {
        Kind::Message => (STUN_HEADER + said, STUN_HEADER + said),
        Kind::Channel => (PREFIX + said, (PREFIX + said).next_multiple_of(4)),
        Kind::Courier | Kind::Unknown => return Err(NotTurn),
    };
    if padded > MAX_DATAGRAM {
        return Err(NotTurn);
    }
    if buffer.len() < padded {
        return Ok(None);
    }
    let mut frame = buffer.split_to(padded).freeze();
    frame.truncate(length);
    Ok(Some(frame))
}

/// What a connection carries is not TURN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotTurn;

/// Serves a connection until it ends.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Send>(
    hub: Arc<Hub>,
    io: S,
    remote: SocketAddr,
    local: SocketAddr,
) {
    let remote = canonical(remote);
    let Some(_counted) = hub.connect(remote.ip()) else { return };
    let (reader, writer) = tokio::io::split(io);
    let (queue, waiting) = mpsc::channel(QUEUE);
    let from = From { addr: remote, local: Some(local.ip().to_canonical()), outlet: Outlet::Stream(queue) };
    let mut client = None;
    tokio::select! {
        () = hub.stop.cancelled() => {}
        () = read(&hub, reader, &from, &mut client) => {}
        () = write(writer, waiting) => {}
    }
    if let Some(client) = client {
        hub.leave(&client);
    }
}

async fn read<S: AsyncRead>(
    hub: &Arc<Hub>,
    mut reader: ReadHalf<S>,
    from: &From,
    client: &mut Option<Arc<Client>>,
) {
    let mut buffer = BytesMut::with_capacity(2 * MAX_DATAGRAM);
    let mut until = Instant::now() + PATIENCE;
    loop {
        match take_frame(&mut buffer) {
            Ok(Some(frame)) => on_frame(hub, &frame, from, client),
            Err(NotTurn) => return hub.metrics.dropped("malformed"),
            Ok(None) => {
                buffer.reserve(MAX_DATAGRAM);
                let present = client.as_ref().filter(|client| !client.is_over());
                if present.is_some() {
                    until = Instant::now() + PATIENCE;
                }
                let ended = async {
                    match present {
                        Some(client) => client.over().await,
                        None => sleep_until(until).await,
                    }
                };
                tokio::select! {
                    result = reader.read_buf(&mut buffer) => match result {
                        Ok(0) | Err(_) => return,
                        Ok(_) => {}
                    },
                    () = ended => {
                        if present.is_none() {
                            return;
                        }
                        until = Instant::now() + PATIENCE;
                    }
                }
            }
        }
    }
}

fn on_frame(hub: &Arc<Hub>, frame: &[u8], from: &From, client: &mut Option<Arc<Client>>) {
    let present = client.take_if(|client| client.is_over()).is_none().then_some(client.as_ref()).flatten();
    match (Kind::of(frame), present) {
        (Kind::Message, present) => {
            if let Some(new) = hub.on_message(frame, from, present) {
                *client = Some(new);
            }
        }
        (Kind::Channel, Some(present)) => hub.on_data(present, frame),
        (Kind::Channel | Kind::Courier | Kind::Unknown, _) => hub.metrics.dropped("no_way"),
    }
}

async fn write<S: AsyncWrite>(mut writer: WriteHalf<S>, mut waiting: mpsc::Receiver<Bytes>) {
    let mut batch = BytesMut::new();
    while let Some(first) = waiting.recv().await {
        batch.extend_from_slice(&first);
        pad(&mut batch);
        while batch.len() < 4 * MAX_DATAGRAM
            && let Ok(next) = waiting.try_recv()
        {
            batch.extend_from_slice(&next);
            pad(&mut batch);
        }
        let all = async {
            while batch.has_remaining() {
                writer.write_buf(&mut batch).await?;
            }
            writer.flush().await
        };
        if !timeout(STALLED, all).await.is_ok_and(|result| result.is_ok()) {
            return;
        }
    }
}

/// Messages are whole words already.
fn pad(batch: &mut BytesMut) {
    batch.resize(batch.len().next_multiple_of(4), 0);
}
