//! Connections that somebody else has accepted, a directory's front, enter the swarm here as if it had listened itself:
//! with the true address of the other end, so that what one source may have is counted.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::{AsyncRead, AsyncWrite};
use libp2p::Multiaddr;
use libp2p::core::Transport;
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;
use tokio::sync::mpsc;

use super::ws::WsIo;
use crate::net::front::Ends;

/// Connections that may wait for the swarm; more are closed. It takes them at every turn.
const WAITING: usize = 64;

/// A stream of bytes to a libp2p node whose handshake is yet to come.
pub(in crate::net) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection on its way in.
pub(in crate::net) struct Entering {
    pub(in crate::net) io: Box<dyn Io>,
    pub(in crate::net) remote: SocketAddr,
    pub(in crate::net) local: SocketAddr,
    /// Whether it is a WebSocket inside TLS; otherwise plain TCP.
    pub(in crate::net) web: bool,
}

/// Where the front brings connections. Clones lead to the same swarm.
#[derive(Clone, Debug)]
pub struct Entrance(mpsc::Sender<Entering>);

impl Entrance {
    /// Lets a WebSocket in whose handshake is over: a web server has taken it at [`WS_PATH`](super::WS_PATH).
    pub async fn enter_web<S>(&self, io: S, ends: Ends)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let Ends { remote, local } = ends;
        self.enter(Entering { io: Box::new(WsIo::server(io).await), remote, local, web: true });
    }

    /// Closes the connection if the swarm does not keep up, or has stopped.
    pub(in crate::net) fn enter(&self, entering: Entering) {
        if self.0.try_send(entering).is_err() {
            tracing::debug!("a connection to the front does not enter");
        }
    }
}

/// The swarm's side: one listener, on the address that [`EntranceTransport::listener`] says.
pub(in crate::net) struct EntranceTransport {
    inbox: mpsc::Receiver<Entering>,
    listener: Option<ListenerId>,
    events: VecDeque<Event>,
}

type Upgrade = std::future::Ready<io::Result<Box<dyn Io>>>;
type Event = TransportEvent<Upgrade, io::Error>;

/// Both sides.
pub(in crate::net) fn entrance() -> (Entrance, EntranceTransport) {
    let (sender, inbox) = mpsc::channel(WAITING);
    (Entrance(sender), EntranceTransport { inbox, listener: None, events: VecDeque::new() })
}

impl EntranceTransport {
    /// What the swarm has to listen on for connections to come in; no other transport knows such an address.
    pub(in crate::net) fn listener() -> Multiaddr {
        Multiaddr::empty().with(Protocol::Memory(443))
    }
}

/// An address as it is told to the swarm. What a dual-stack socket shows as IPv4-mapped is IPv4.
pub(in crate::net) fn multiaddr(socket: SocketAddr, web: bool) -> Multiaddr {
    let addr = Multiaddr::from(socket.ip().to_canonical()).with(Protocol::Tcp(socket.port()));
    if web { addr.with(Protocol::Tls).with(Protocol::Ws("/".into())) } else { addr }
}

impl Transport for EntranceTransport {
    type Output = Box<dyn Io>;
    type Error = io::Error;
    type ListenerUpgrade = Upgrade;
    type Dial = std::future::Pending<io::Result<Box<dyn Io>>>;

    fn listen_on(&mut self, id: ListenerId, addr: Multiaddr) -> Result<(), TransportError<io::Error>> {
        if addr != Self::listener() || self.listener.is_some() {
            return Err(TransportError::MultiaddrNotSupported(addr));
        }
        self.listener = Some(id);
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let mine = self.listener.take_if(|mine| *mine == id).is_some();
        if mine {
            self.events.push_back(TransportEvent::ListenerClosed { listener_id: id, reason: Ok(()) });
        }
        mine
    }

    fn dial(&mut self, addr: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        Err(TransportError::MultiaddrNotSupported(addr))
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Event> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(event);
        }
        let Some(listener_id) = self.listener else { return Poll::Pending };
        match self.inbox.poll_recv(cx) {
            Poll::Ready(Some(Entering { io, remote, local, web })) => Poll::Ready(TransportEvent::Incoming {
                listener_id,
                upgrade: std::future::ready(Ok(io)),
                local_addr: multiaddr(local, web),
                send_back_addr: multiaddr(remote, web),
            }),
            // Nobody is left who could bring any.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_say_by_which_way_a_connection_came() {
        let socket = |text: &str| text.parse().unwrap();
        assert_eq!(multiaddr(socket("192.0.2.7:5"), false).to_string(), "/ip4/192.0.2.7/tcp/5");
        assert_eq!(
            multiaddr(socket("[::ffff:192.0.2.7]:5"), true).to_string(),
            "/ip4/192.0.2.7/tcp/5/tls/ws"
        );
        assert_eq!(multiaddr(socket("[2001:db8::1]:5"), false).to_string(), "/ip6/2001:db8::1/tcp/5");
    }

    #[test]
    fn it_listens_once_and_only_for_the_front() {
        let (_, mut transport) = entrance();
        let tcp = "/ip4/0.0.0.0/tcp/443".parse().unwrap();
        assert!(transport.listen_on(ListenerId::next(), tcp).is_err());
        let id = ListenerId::next();
        assert!(transport.listen_on(id, EntranceTransport::listener()).is_ok());
        assert!(transport.listen_on(ListenerId::next(), EntranceTransport::listener()).is_err());
        assert!(transport.remove_listener(id) && !transport.remove_listener(id));
    }
}
