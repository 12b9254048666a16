//! Whether a connection still leads anywhere.
//!
//! A path can die without a word: a node is killed, a NAT forgets its mapping, a cable is pulled. Transports notice late
//! (QUIC after its idle time-out of a minute, TCP after many), and what becomes of requests says nothing, because
//! their answers may wait for third parties. So a connection is judged by its own probe alone: 32 bytes that the other
//! end echoes, as in libp2p's ping protocol, on a stream that stays open. A connection whose probe is late is reported, so
//! that another can be made beside it; if the probe is not answered within [`PROBE_TIME`] the connection is closed.
//!
//! ```text
//!             wanted                 stream open              echoed
//!   (none) ----------> Opening ----------------> Waiting --------------> Idle --.
//!                                                   ^                           | wanted
//!                                                   '---------------------------'
//! ```
//!
//! A probe is wanted when something else looks wrong ([`Probes::probe`]), and on watched connections whenever no probe
//! of either end has got through for some time ([`Probes::watch`]): so of two ends that watch, only one sends.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{AsyncReadExt, AsyncWriteExt, FutureExt};
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, NotifyHandler, Stream, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm,
};
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tracing::debug;

/// libp2p's ping (libp2p specifications, ping/ping.md), which every libp2p node answers.
const PROTOCOL: StreamProtocol = StreamProtocol::new("/ipfs/ping/1.0.0");

/// Bytes of a probe (ping/ping.md).
const SIZE: usize = 32;

/// A connection whose probe has not come back by then is dead. QUIC sends a lost packet four times in that time at a
/// round trip of 100 ms.
pub(super) const PROBE_TIME: Duration = Duration::from_secs(3);

/// A probe is late if it takes so long, and so many times what the one before on this connection took: a packet that was lost has
/// been sent again by then. The first one has longer, or far nodes would get ever new connections.
const LATE: Duration = Duration::from_millis(750);
const LATE_TIMES: u32 = 4;
const LATE_FIRST: Duration = Duration::from_millis(1_500);

/// Probes connections and closes the dead ones.
#[derive(Default)]
pub(super) struct Probes {
    watched: HashMap<PeerId, Duration>,
    queue: VecDeque<ToSwarm<Late, Order>>,
}

/// A connection's probe is late: perhaps it leads nowhere any more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Late(pub(super) PeerId);

/// What a connection is told.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    /// Probe now, unless a probe is under way.
    Probe,
    /// Probe whenever no probe has got through for so long; never, if `None`.
    Watch(Option<Duration>),
}

/// What has become of a probe.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verdict {
    /// No answer yet, though there should be one.
    Late,
    /// It was not answered.
    Dead,
}

impl Probes {
    /// Probes these connections of a peer now.
    pub(super) fn probe(&mut self, peer: PeerId, connections: impl Iterator<Item = ConnectionId>) {
        connections.for_each(|id| self.order(peer, id, Order::Probe));
    }

    /// Probes these and later connections of a peer whenever no probe has got through for `every`.
    pub(super) fn watch(
        &mut self,
        peer: PeerId,
        every: Option<Duration>,
        connections: impl Iterator<Item = ConnectionId>,
    ) {
        let before = match every {
            Some(every) => self.watched.insert(peer, every),
            None => self.watched.remove(&peer),
        };
        if before != every {
            connections.for_each(|id| self.order(peer, id, Order::Watch(every)));
        }
    }

    fn order(&mut self, peer_id: PeerId, id: ConnectionId, event: Order) {
        self.queue.push_back(ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::One(id), event });
    }
}

impl NetworkBehaviour for Probes {
    type ConnectionHandler = Prober;
    type ToSwarm = Late;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Prober::default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Prober::default())
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        if let FromSwarm::ConnectionEstablished(event) = event
            && let Some(every) = self.watched.get(&event.peer_id)
        {
            self.order(event.peer_id, event.connection_id, Order::Watch(Some(*every)));
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer_id: PeerId,
        id: ConnectionId,
        verdict: THandlerOutEvent<Self>,
    ) {
        debug!(?verdict, "a connection was probed in vain");
        self.queue.push_back(match verdict {
            Verdict::Late => ToSwarm::GenerateEvent(Late(peer_id)),
            Verdict::Dead => ToSwarm::CloseConnection { peer_id, connection: CloseConnection::One(id) },
        });
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.queue.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

type Timer = Option<Pin<Box<Sleep>>>;
type Turn = BoxFuture<'static, io::Result<Stream>>;

/// One connection's share.
#[derive(Default)]
pub(super) struct Prober {
    every: Option<Duration>,
    /// Nothing has been heard for `every` when it runs out.
    quiet: Timer,
    /// A probe is to be sent.
    wanted: bool,
    own: Own,
    /// How long the last answer took.
    took: Option<Duration>,
    /// When the probe that is under way was sent, and when it is late and has failed.
    sent: Option<Instant>,
    late: Timer,
    deadline: Timer,
    /// The other end's probes.
    others: Option<Turn>,
}

/// The stream for our own probes: see the [module](self)'s diagram.
#[derive(Default)]
enum Own {
    #[default]
    None,
    Opening,
    Waiting(Turn),
    Idle(Stream),
}

impl Prober {
    /// A probe has got through: there is somebody at the other end.
    fn heard(&mut self) {
        self.quiet = self.every.map(|every| Box::pin(sleep(every)));
    }

    fn answered(&mut self, own: Own) {
        self.own = own;
        self.took = self.sent.take().map(|sent| sent.elapsed()).or(self.took);
        (self.late, self.deadline) = (None, None);
        self.heard();
    }

    fn poll_others(&mut self, cx: &mut Context<'_>) {
        let Some(turn) = &mut self.others else { return };
        if let Poll::Ready(result) = turn.poll_unpin(cx) {
            self.others = result.ok().map(|stream| echo(stream).boxed());
            self.heard();
            // One at a time, however many come.
            cx.waker().wake_by_ref();
        }
    }

    fn poll_own(&mut self, cx: &mut Context<'_>) {
        if let Own::Waiting(turn) = &mut self.own
            && let Poll::Ready(result) = turn.poll_unpin(cx)
        {
            // A stream that the other end has broken off is an answer, too.
            self.answered(result.map_or(Own::None, Own::Idle));
        }
        if poll_timer(&mut self.quiet, cx) {
            self.quiet = None;
            self.wanted = true;
        }
    }

    /// Starts the probe that is wanted; `true` if it needs a stream first.
    fn start(&mut self) -> bool {
        if !std::mem::take(&mut self.wanted) || self.deadline.is_some() {
            return false;
        }
        let now = Instant::now();
        self.sent = Some(now);
        let late = self.took.map_or(LATE_FIRST, |took| LATE.max(took * LATE_TIMES));
        self.late = Some(Box::pin(sleep_until(now + late)));
        self.deadline = Some(Box::pin(sleep_until(now + PROBE_TIME)));
        match std::mem::take(&mut self.own) {
            Own::None => {
                self.own = Own::Opening;
                return true;
            }
            Own::Idle(stream) => self.own = Own::Waiting(probe(stream).boxed()),
            own @ (Own::Opening | Own::Waiting(_)) => self.own = own,
        }
        false
    }
}

fn poll_timer(timer: &mut Timer, cx: &mut Context<'_>) -> bool {
    timer.as_mut().is_some_and(|timer| timer.poll_unpin(cx).is_ready())
}

/// Sends a probe and waits for its echo.
async fn probe(mut stream: Stream) -> io::Result<Stream> {
    let (sent, mut echoed): ([u8; SIZE], _) = (rand::random(), [0; SIZE]);
    stream.write_all(&sent).await?;
    stream.flush().await?;
    stream.read_exact(&mut echoed).await?;
    if echoed == sent { Ok(stream) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Waits for a probe and echoes it.
async fn echo(mut stream: Stream) -> io::Result<Stream> {
    let mut bytes = [0; SIZE];
    stream.read_exact(&mut bytes).await?;
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    Ok(stream)
}

impl ConnectionHandler for Prober {
    type FromBehaviour = Order;
    type ToBehaviour = Verdict;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Self::ToBehaviour>> {
        self.poll_others(cx);
        self.poll_own(cx);
        if self.start() {
            let protocol = SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ());
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        // What has just been started has to be polled once, or nothing wakes us.
        self.poll_own(cx);
        if poll_timer(&mut self.deadline, cx) {
            // Said once; the connection is on its way out.
            (self.every, self.quiet, self.late, self.deadline) = (None, None, None, None);
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(Verdict::Dead));
        }
        if poll_timer(&mut self.late, cx) {
            self.late = None;
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(Verdict::Late));
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, order: Order) {
        match order {
            Order::Probe => self.wanted = true,
            Order::Watch(every) => {
                self.every = every;
                // Connections that are watched alike are not to be probed all at once: one that is dead makes the others suspect.
                self.quiet = every.map(|every| Box::pin(sleep(every.mul_f64(rand::random_range(0.3..1.0)))));
            }
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<Self::InboundProtocol, Self::OutboundProtocol>) {
        if let ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { mut protocol, .. }) = event {
            protocol.ignore_for_keep_alive();
            // A newer stream takes the place of an older one.
            self.others = Some(echo(protocol).boxed());
        } else if let ConnectionEvent::FullyNegotiatedOutbound(event) = event {
            let FullyNegotiatedOutbound { mut protocol, .. } = event;
            protocol.ignore_for_keep_alive();
            self.own = Own::Waiting(probe(protocol).boxed());
        } else if let ConnectionEvent::DialUpgradeError(_) = event {
            // The other end does not want it, so there is one.
            self.answered(Own::None);
        }
    }
}
