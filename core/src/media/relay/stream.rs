//! A connection to a TURN server over TCP or TLS (RFC 8656 section 2.1): opening it, and messages one after the other.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use offhook_proto::relay::{RelayServer, RelayTransport};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use crate::tls::Pinned;

/// What a client offers (RFC 7443), so that a server can tell it from others on its port.
const ALPN: &[u8] = b"stun.turn";
/// How long a connection may take, TLS included.
const PATIENCE: Duration = Duration::from_secs(5);
/// Messages that wait for the connection; further ones are lost. A third of a second of voice.
pub(in crate::media) const QUEUE: usize = 16;
/// Bytes before the length of a message is known, and those of a STUN header (RFC 8489 section 5).
const PREFIX: usize = 4;
const STUN_HEADER: usize = 20;
/// What is read at a time at least. A packet of ours has 1,500 bytes at most, but the length allows for 65,555.
const CHUNK: usize = 4_096;

/// What comes is no TURN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::media) struct NotTurn;

/// Takes the next whole message off the front of what was read; the padding of data goes with it (RFC 8656 section 12.5).
pub(in crate::media) fn take_message(buffer: &mut BytesMut) -> Result<Option<Bytes>, NotTurn> {
    if buffer.len() < PREFIX {
        return Ok(None);
    }
    let said = usize::from(u16::from_be_bytes([buffer[2], buffer[3]]));
    let (length, padded) = match buffer[0] {
        // STUN, and a channel's data (RFC 9443 section 3).
        0..=3 => (STUN_HEADER + said, STUN_HEADER + said),
        64..=79 => (PREFIX + said, (PREFIX + said).next_multiple_of(4)),
        _ => return Err(NotTurn),
    };
    if buffer.len() < padded {
        return Ok(None);
    }
    let mut message = buffer.split_to(padded).freeze();
    message.truncate(length);
    Ok(Some(message))
}

/// Opens a connection, from `bind` if given.
pub(in crate::media) async fn open(
    server: &RelayServer,
    bind: Option<IpAddr>,
) -> io::Result<(Io, SocketAddr)> {
    let connect = async {
        let socket = if server.addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if let Some(ip) = bind {
            socket.bind(SocketAddr::new(ip, 0))?;
        }
        let stream = socket.connect(server.addr).await?;
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        let io: Io = match server.transport {
            RelayTransport::Udp | RelayTransport::Tcp => Box::new(stream),
            RelayTransport::Tls => Box::new(encrypt(stream, server).await?),
        };
        Ok((io, local))
    };
    tokio::time::timeout(PATIENCE, connect).await.map_err(|_| io::ErrorKind::TimedOut)?
}

/// A connection, encrypted or not.
pub(in crate::media) type Io = Box<dyn Duplex>;

pub(in crate::media) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

async fn encrypt(stream: TcpStream, server: &RelayServer) -> io::Result<impl Duplex + use<>> {
    let config = tls(server.pin).map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::from(server.addr.ip()), stream).await
}

/// Hands every message that comes to `each`, and sends those of `queue`, until the connection ends.
pub(in crate::media) async fn carry(io: Io, mut queue: mpsc::Receiver<Vec<u8>>, mut each: impl FnMut(&[u8])) {
    let (mut reader, mut writer) = tokio::io::split(io);
    let read = async {
        let mut buffer = BytesMut::with_capacity(2 * CHUNK);
        loop {
            match take_message(&mut buffer) {
                Ok(Some(message)) => each(&message),
                Ok(None) => {
                    buffer.reserve(CHUNK);
                    if !reader.read_buf(&mut buffer).await.is_ok_and(|length| length > 0) {
                        return;
                    }
                }
                Err(NotTurn) => return,
            }
        }
    };
    let write = async {
        while let Some(mut message) = queue.recv().await {
            message.resize(message.len().next_multiple_of(4), 0);
            if writer.write_all(&message).await.is_err() || writer.flush().await.is_err() {
                return;
            }
        }
        // Nobody needs it any more; the server is told.
        let _ = writer.shutdown().await;
    };
    tokio::select! {
        () = read => {}
        () = write => {}
    }
}

fn tls(pin: Option<[u8; 32]>) -> Result<rustls::ClientConfig, rustls::Error> {
    // libp2p brings another provider into the process, so ours is always named.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    // A relay is not trusted, and the password is not shown to it: any certificate will do if none is named.
    let verifier = Pinned::new(pin, provider.clone());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        // TLS 1.2 as well: coturn as Debian 12 has it speaks nothing newer.
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}
