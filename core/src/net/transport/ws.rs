//! libp2p over WebSocket over TLS: `/ip4/A/tcp/443/tls/ws`, which looks like the web to whoever lets nothing else through.
//!
//! The certificate of the TLS connection is not checked. It proves nothing that is needed: whoever is at the other end
//! has to show the key of the PeerId in the Noise handshake inside, and everything else is encrypted by that. So no
//! directory needs a name or a certificate authority.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures::future::BoxFuture;
use futures::{AsyncRead as FuturesRead, AsyncWrite as FuturesWrite, FutureExt, Sink, Stream};
use libp2p::Multiaddr;
use libp2p::core::Transport;
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};

use crate::net::addr;
use crate::tls::Pinned;

/// Where a directory's web server takes WebSockets for libp2p.
pub const WS_PATH: &str = "/libp2p";

/// Longest message taken, bytes. Noise sends at most 64 KiB and its length at a time.
const MAX_MESSAGE: usize = 128 * 1024;

/// Bytes read ahead, and sent in one message, bytes. Signalling is small.
const BUFFER: usize = 8 * 1024;

/// A WebSocket as a stream of bytes: each write is one binary message.
pub(in crate::net) struct WsIo<S> {
    socket: WebSocketStream<S>,
    /// The rest of the message that is being read.
    rest: Bytes,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WsIo<S> {
    /// After the handshake, as the end that has accepted it.
    pub(super) async fn server(io: S) -> Self {
        Self::new(WebSocketStream::from_raw_socket(io, Role::Server, Some(config())).await)
    }

    fn new(socket: WebSocketStream<S>) -> Self {
        Self { socket, rest: Bytes::new() }
    }
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(4 * BUFFER)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
}

fn io_error(error: tungstenite::Error) -> io::Error {
    if let tungstenite::Error::Io(error) = error { error } else { io::Error::other(error) }
}

impl<S: AsyncRead + AsyncWrite + Unpin> FuturesRead for WsIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.rest = bytes,
                // Pings are answered by the library.
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(0)),
                Some(Ok(Message::Text(_) | Message::Frame(_))) => {
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                }
                Some(Err(error)) => return Poll::Ready(Err(io_error(error))),
            }
        }
        let length = self.rest.len().min(buffer.len());
        self.rest.copy_to_slice(&mut buffer[..length]);
        Poll::Ready(Ok(length))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> FuturesWrite for WsIo<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(io_error)?;
        let part = &bytes[..bytes.len().min(BUFFER)];
        let message = Message::Binary(Bytes::copy_from_slice(part));
        Pin::new(&mut self.socket).start_send(message).map_err(io_error)?;
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(io_error)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx).map_err(io_error)
    }
}

/// Dials `/tls/ws` addresses; listens on none, which is the business of a directory's front.
#[derive(Clone)]
pub(super) struct WsTransport {
    connector: TlsConnector,
}

/// A connection that it makes.
type Dialled = WsIo<TlsStream<TcpStream>>;

impl WsTransport {
    /// Does not fail: the versions of TLS and the provider are our own.
    pub(super) fn new() -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Pinned::new(None, provider.clone());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has the cipher suites of TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { connector: TlsConnector::from(Arc::new(config)) }
    }

    async fn connect(self, socket: SocketAddr) -> io::Result<Dialled> {
        let stream = TcpStream::connect(socket).await?;
        stream.set_nodelay(true)?;
        // An IP address is no name to be sent in the clear (RFC 6066 section 3).
        let stream = self.connector.connect(ServerName::from(socket.ip()), stream).await?;
        let url = format!("wss://{socket}{WS_PATH}");
        let (socket, _) = tokio_tungstenite::client_async_with_config(url, stream, Some(config()))
            .await
            .map_err(io_error)?;
        Ok(WsIo::new(socket))
    }
}

/// The socket of an address that is `/ip…/tcp/PORT/tls/ws`.
fn socket_of(addr: &Multiaddr) -> Option<SocketAddr> {
    let mut rest = addr.iter().skip(1);
    let fits = matches!(rest.next(), Some(Protocol::Tcp(1..)))
        && matches!(rest.next(), Some(Protocol::Tls))
        && matches!(&rest.next(), Some(Protocol::Ws(path)) if path == "/")
        && matches!(rest.next(), None | Some(Protocol::P2p(_)));
    fits.then(|| addr::socket_of(addr)).flatten()
}

impl Transport for WsTransport {
    type Output = Dialled;
    type Error = io::Error;
    type ListenerUpgrade = std::future::Pending<io::Result<Dialled>>;
    type Dial = BoxFuture<'static, io::Result<Dialled>>;

    fn listen_on(&mut self, _: ListenerId, addr: Multiaddr) -> Result<(), TransportError<io::Error>> {
        Err(TransportError::MultiaddrNotSupported(addr))
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    fn dial(&mut self, addr: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        let socket = socket_of(&addr).ok_or(TransportError::MultiaddrNotSupported(addr))?;
        Ok(self.clone().connect(socket).boxed())
    }

    fn poll(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use futures::{AsyncReadExt, AsyncWriteExt, SinkExt};

    use super::*;

    #[test]
    fn only_websockets_over_tls_at_an_address_are_dialled() {
        let socket = |text: &str| socket_of(&text.parse().unwrap());
        assert_eq!(socket("/ip4/192.0.2.1/tcp/443/tls/ws"), Some("192.0.2.1:443".parse().unwrap()));
        assert_eq!(socket("/ip6/2001:db8::1/tcp/444/tls/ws"), Some("[2001:db8::1]:444".parse().unwrap()));
        let peer = libp2p::PeerId::random();
        assert!(socket(&format!("/ip4/192.0.2.1/tcp/443/tls/ws/p2p/{peer}")).is_some());
        for other in [
            "/ip4/192.0.2.1/tcp/443",
            "/ip4/192.0.2.1/tcp/443/ws",
            "/ip4/192.0.2.1/tcp/443/tls",
            "/ip4/192.0.2.1/tcp/0/tls/ws",
            "/ip4/192.0.2.1/udp/443/tls/ws",
            "/dns4/example.org/tcp/443/tls/ws",
        ] {
            assert_eq!(socket(other), None, "{other}");
        }
        let relayed = format!("/ip4/192.0.2.1/tcp/443/tls/ws/p2p/{peer}/p2p-circuit");
        assert_eq!(socket(&relayed).is_some(), relayed.parse::<Multiaddr>().is_ok());
    }

    async fn pair() -> (WsIo<tokio::io::DuplexStream>, WebSocketStream<tokio::io::DuplexStream>) {
        let (here, there) = tokio::io::duplex(1 << 20);
        let mine = WebSocketStream::from_raw_socket(here, Role::Server, Some(config())).await;
        (WsIo::new(mine), WebSocketStream::from_raw_socket(there, Role::Client, None).await)
    }

    #[tokio::test]
    async fn bytes_come_through_whatever_the_messages_lengths() {
        let (mine, theirs) = pair().await;
        let (mut reader, mut writer) = mine.split();
        let mut theirs = WsIo::new(theirs);
        let sent: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
        writer.write_all(&sent).await.unwrap();
        writer.flush().await.unwrap();
        let mut got = vec![0; sent.len()];
        theirs.read_exact(&mut got).await.unwrap();
        assert_eq!(got, sent);
        theirs.write_all(&sent[..10]).await.unwrap();
        theirs.close().await.unwrap();
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, sent[..10]);
    }

    #[tokio::test]
    async fn text_and_long_messages_are_errors() {
        let mut buffer = [0; 16];
        let (mut mine, mut theirs) = pair().await;
        theirs.send(Message::text("hello")).await.unwrap();
        assert!(mine.read(&mut buffer).await.is_err());
        let (mut mine, mut theirs) = pair().await;
        theirs.send(Message::binary(vec![0; MAX_MESSAGE + 1])).await.unwrap();
        assert!(mine.read(&mut buffer).await.is_err());
    }
}
