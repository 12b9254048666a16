//! Knocking at terminals that want to know whether strangers get in ([`offhook_proto::knock`]): for those that this node is
//! connected with it finds somebody, for other serving nodes it knocks itself.
//!
//! A terminal can name a port only: the IP address is where this node sees it. A node that says that it serves can name any public
//! address, as it can to any node of the DHT in its answers; whoever knocks there makes an ordinary connection over QUIC, so what comes to a
//! wrong place is two or three first packets of a handshake, once in [`DONE_PAUSE`] from each node. He is not
//! told whose place it is: where he does not get in, he learns an address without a name.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use libp2p::multiaddr::Protocol;
use libp2p::request_response::ResponseChannel;
use libp2p::swarm::ConnectionId;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::{Multiaddr, PeerId};
use offhook_proto::knock::{MAX_EXCEPT, Network, Place, Token};
use offhook_proto::wire::canonical;
use rand::seq::IteratorRandom;
use tracing::debug;

use super::addr::{self, Host, Source};
use super::client::RequestError;
use super::codec::{Refusal, Request, Response};
use super::driver::Driver;
use super::limit::Limiter;
use super::peers::Peer;
use super::requests::Asker;

/// Knocks at one IPv4 address or /64: this many at once, then one in so long. A terminal needs two to be proved, then two an
/// hour; behind a carrier's NAT many share an address.
const HOST_PAUSE: Duration = Duration::from_secs(5);
const HOST_BURST: u32 = 6;

/// The same at each for those that this node does itself: of many nodes that could, one is chosen each time.
const DONE_PAUSE: Duration = Duration::from_secs(30);
const DONE_BURST: u32 = 4;

/// Knocks each second (bursts: ten seconds' worth) that are asked for from one /24 or /64, and altogether: a directory's
/// 10,000 terminals renew once in half an hour at most.
const WANTED_PER_SOURCE: u32 = 1;
const WANTED: u32 = 10;

/// The same for those that this node does itself, for nodes of one /24 or /64, and altogether: less than the connections that
/// packets to pass on may make it try.
const DONE_PER_SOURCE: u32 = 1;
const DONE: u32 = 5;

/// Knocks being done at a time; further ones are refused.
const MAX_OUT: usize = 32;

/// So long one may take: to connect (3.5 s), and to be heard.
const OUT_TIME: Duration = Duration::from_secs(8);

/// A knock on its way.
struct Out {
    at: Place,
    token: Token,
    until: Instant,
    /// Once it is connected.
    peer: Option<PeerId>,
}

/// See the [module](self).
pub(super) struct Knocks {
    wanted_at: Limiter<Host>,
    wanted_from: Limiter<Source>,
    wanted: Limiter<()>,
    done_at: Limiter<Host>,
    done_for: Limiter<Source>,
    done: Limiter<()>,
    out: HashMap<ConnectionId, Out>,
}

impl Knocks {
    pub(super) fn new() -> Self {
        Self {
            wanted_at: Limiter::every(HOST_PAUSE, HOST_BURST),
            wanted_from: Limiter::new(WANTED_PER_SOURCE),
            wanted: Limiter::new(WANTED),
            done_at: Limiter::every(DONE_PAUSE, DONE_BURST),
            done_for: Limiter::new(DONE_PER_SOURCE),
            done: Limiter::new(DONE),
            out: HashMap::new(),
        }
    }

    /// Whether somebody may be asked to knock there for a peer. Who is over a bound of his own takes nothing from others.
    fn permit_wanted(&mut self, at: IpAddr, from: Source, now: Instant) -> bool {
        self.wanted_from.permit(from, now)
            && self.wanted_at.permit(Host::of(at), now)
            && self.wanted.permit((), now)
    }

    /// Whether this node may knock there for another one.
    fn permit_done(&mut self, at: IpAddr, for_source: Source, now: Instant) -> bool {
        self.out.len() < MAX_OUT
            && self.done_for.permit(for_source, now)
            && self.done_at.permit(Host::of(at), now)
            && self.done.permit((), now)
    }
}

/// The address of a UDP port for QUIC.
pub(super) fn quic(at: SocketAddr) -> Multiaddr {
    Multiaddr::from(at.ip()).with(Protocol::Udp(at.port())).with(Protocol::QuicV1)
}

/// Where a peer is to be knocked at: at the IP address where it is seen, and at that port, or where it is seen over QUIC.
fn place_of(peer: &Peer, port: Option<u16>) -> Option<SocketAddr> {
    // The newest connection last: older ones may be of where it was before.
    let direct = peer.conns.iter().rev().filter(|conn| !addr::is_relayed(&conn.remote));
    let seen = match port {
        Some(port) => {
            let ip = direct.filter_map(|conn| addr::ip_of(&conn.remote)).next()?;
            SocketAddr::new(ip, port)
        }
        None => direct
            .filter(|conn| addr::is_quic(&conn.remote))
            .find_map(|conn| addr::socket_of(&conn.remote))?,
    };
    (seen.port() != 0).then(|| canonical(seen))
}

/// One of these nodes: first a network is drawn, so that many nodes of one place are drawn no more often than one.
fn one_of(nodes: Vec<(PeerId, Source)>) -> Option<PeerId> {
    let sources: BTreeSet<Source> = nodes.iter().map(|(_, source)| *source).collect();
    let drawn = sources.into_iter().choose(&mut rand::rng())?;
    let there = nodes.into_iter().filter(|(_, source)| *source == drawn);
    there.map(|(node, _)| node).choose(&mut rand::rng())
}

/// Whether a node that serves is a stranger in the eyes of whoever is there, and speaks the same IP.
fn may_knock(peer: &Peer, at: SocketAddr, except: &[Network]) -> bool {
    let Some(ip) = peer.direct().and_then(addr::ip_of) else { return false };
    let network = Network::of(ip);
    let mut speaks = peer.addrs.iter().filter_map(addr::ip_of).chain([ip]);
    peer.dht
        && peer.signal
        && network != Network::of(at.ip())
        && !except.iter().take(MAX_EXCEPT).any(|known| *known == network)
        && speaks.any(|ip| ip.to_canonical().is_ipv4() == at.is_ipv4())
}

impl Driver {
    /// A peer wants to be knocked at.
    pub(super) fn on_knock_wanted(
        &mut self,
        peer: PeerId,
        port: Option<u16>,
        token: Token,
        except: &[Network],
        channel: ResponseChannel<Response>,
    ) {
        match self.find_knocker(&peer, port, except) {
            Ok((knocker, at)) => {
                let request = Request::KnockAt { at: Place(at), token };
                self.request(knocker, Vec::new(), request, Asker::Knock { channel, from: peer });
            }
            Err(refusal) => {
                self.count("knock_wanted", &refusal);
                self.respond(channel, refusal);
            }
        }
    }

    fn find_knocker(
        &mut self,
        peer: &PeerId,
        port: Option<u16>,
        except: &[Network],
    ) -> Result<(PeerId, SocketAddr), Response> {
        if !self.serves() {
            return Err(Response::Refused { reason: Refusal::NotServing });
        }
        let at = self.peers.get(peer).and_then(|state| place_of(state, port));
        let at = at.filter(|at| self.may_be_knocked_at(*at));
        let at = at.ok_or(Response::Refused { reason: Refusal::Invalid })?;
        let (source, now) = (self.peers.source(peer), Instant::now());
        let fits = |(node, state): &(&PeerId, &Peer)| *node != peer && may_knock(state, at, except);
        let fitting = self.peers.iter().filter(fits);
        let knocker = one_of(fitting.map(|(node, _)| (*node, self.peers.source(node))).collect());
        let knocker = knocker.ok_or(Response::Busy)?;
        if !self.knocks.permit_wanted(at.ip(), source, now) {
            return Err(Response::Busy);
        }
        Ok((knocker, at))
    }

    /// Nobody is sent to private addresses, or where nobody can be.
    fn may_be_knocked_at(&self, at: SocketAddr) -> bool {
        let addr = quic(at);
        self.private.permits(&addr) && !addr::is_unusable(&addr)
    }

    /// The node that was asked to knock has answered, or not.
    pub(super) fn knock_passed_on(
        &mut self,
        channel: ResponseChannel<Response>,
        result: Result<Response, RequestError>,
    ) {
        let response = match result {
            Ok(Response::Knocking) => Response::Knocking,
            Ok(
                Response::Welcome { .. }
                | Response::Delivered
                | Response::NotConnected
                | Response::Found { .. }
                | Response::Stored
                | Response::Sought(_)
                | Response::Published { .. }
                | Response::Ticket(_)
                | Response::Refused { .. }
                | Response::Busy,
            )
            | Err(
                RequestError::Unreachable
                | RequestError::Timeout
                | RequestError::Broken
                | RequestError::Unsupported
                | RequestError::Busy
                | RequestError::Stopped,
            ) => Response::Busy,
        };
        self.count("knock_wanted", &response);
        self.respond(channel, response);
    }

    /// Another serving node wants this one to knock somewhere.
    pub(super) fn on_knock_at(&mut self, peer: PeerId, at: Place, token: Token) -> Response {
        if !self.serves() {
            return Response::Refused { reason: Refusal::NotServing };
        }
        let serves = self.peers.get(&peer).is_some_and(|state| state.dht && state.signal);
        if !serves || !self.may_be_knocked_at(at.0) {
            return Response::Refused { reason: Refusal::Invalid };
        }
        let (source, now) = (self.peers.source(&peer), Instant::now());
        if !self.knocks.permit_done(at.0.ip(), source, now) {
            return Response::Busy;
        }
        // From the port that everybody knows: firewalls on this side need not let another one out. Only where packets have
        // gone before it has to be another one, because they may have opened the way.
        let known = |state: &Peer| {
            state
                .conns
                .iter()
                .filter_map(|conn| addr::ip_of(&conn.remote))
                .any(|ip| ip.to_canonical() == at.0.ip())
        };
        let options = DialOpts::unknown_peer_id().address(quic(at.0));
        let known = self.peers.iter().any(|(_, state)| known(state));
        let options = if known { options.allocate_new_port() } else { options }.build();
        let connection = options.connection_id();
        if let Err(error) = self.swarm.dial(options) {
            debug!(error = addr::dial_error(&error), "cannot knock");
            return Response::Busy;
        }
        self.knocks.out.insert(connection, Out { at, token, until: now + OUT_TIME, peer: None });
        Response::Knocking
    }

    /// A connection is there; if it was made to knock, say so. A message may take any of several connections with a peer,
    /// one after another, and over the older ones it may overtake the new one: so it is said over each.
    pub(super) fn on_knock_connected(&mut self, peer: PeerId, connection: ConnectionId) {
        let Some(out) = self.knocks.out.get_mut(&connection) else { return };
        out.peer = Some(peer);
        let (at, token) = (out.at, out.token);
        for _ in 0..self.peers.connections(&peer).count() {
            self.request(peer, Vec::new(), Request::Knock { at, token }, Asker::Knocked(connection));
        }
    }

    /// It could not be made.
    pub(super) fn on_knock_failed(&mut self, connection: ConnectionId) {
        self.knocks.out.remove(&connection);
    }

    /// The knock was heard: that is all it was for.
    pub(super) fn on_knock_heard(&mut self, connection: ConnectionId) {
        // Over the first of several it may have come too early.
        let Some(peer) = self.knocks.out.get(&connection).and_then(|out| out.peer) else { return };
        if self.peers.connections(&peer).count() < 2 {
            self.end_knock(connection);
        }
    }

    pub(super) fn tick_knocks(&mut self, now: Instant) {
        let over: Vec<_> =
            self.knocks.out.iter().filter(|(_, out)| out.until <= now).map(|(id, _)| *id).collect();
        over.into_iter().for_each(|id| self.end_knock(id));
    }

    fn end_knock(&mut self, connection: ConnectionId) {
        if self.knocks.out.remove(&connection).is_some_and(|out| out.peer.is_some()) {
            self.swarm.close_connection(connection);
        }
    }
}

#[cfg(test)]
mod tests;
