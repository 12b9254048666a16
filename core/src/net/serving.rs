//! A terminal that serves the network because it is proved to be reachable ([`offhook_proto::knock`]), as long as it is.
//!
//! ```text
//!            two strangers got in                       knocks stay out, moved, nobody could look for a day
//!   terminal ----------------------> serving node (small) --------------------------------------------------> terminal
//! ```
//!
//! It stores records of the DHT, passes signalling on, answers STUN, and never carries media. It stays what it was: registered with
//! its directories, and reached through them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use libp2p::request_response::ResponseChannel;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId, kad, relay};
use offhook_proto::knock::{
    Answer, Errand, Helper, Knock, Network, NoProof, Place, Proving, Reason, Standing, Token,
};
use offhook_proto::wire::canonical;
use tracing::{debug, info};

use super::addr;
use super::behaviour::BOOTSTRAP_INTERVAL;
use super::client::RequestError;
use super::codec::{Refusal, Request, Response};
use super::config::{NetConfig, Role};
use super::driver::Driver;
use super::knocks;
use super::peers::{Conn, Peer};
use super::requests::Asker;
use super::stun::Stun;

/// Serving nodes beside the homes that a serving terminal may ask for a knock.
const MAX_HELPERS: usize = 32;

/// Places kept at which homes have seen this terminal, the newest: a few homes, each before and after a move.
const MAX_SEEN: usize = 8;

/// Whether a node serves others, and why, or why not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Serving {
    /// It does not: it is a terminal whose user does not want it.
    #[default]
    Off,
    /// It would if strangers were proved to reach it.
    Unproved(Reason),
    /// It does, since strangers reach it.
    Proved,
    /// It does in any case.
    Always,
}

/// What has been proved, and what there is only while it serves.
pub(super) struct Proof {
    proving: Option<Proving<PeerId>>,
    /// Where strangers reach it. Whether this node serves is decided by this alone, and its role.
    at: Option<SocketAddr>,
    /// Where homes have seen it over QUIC.
    seen: VecDeque<SocketAddr>,
    stun: Option<Stun>,
    /// When to look after the routing table.
    maintain: Option<Instant>,
    told: Serving,
}

impl Proof {
    pub(super) fn new(config: &NetConfig, now: Instant) -> Self {
        let proving = config.prove.filter(|_| config.role == Role::Terminal);
        Self {
            proving: proving.map(|times| Proving::new(times, now)),
            at: None,
            seen: VecDeque::new(),
            stun: None,
            maintain: None,
            told: Serving::Off,
        }
    }

    /// Where strangers reach this terminal, while it serves for that.
    pub(super) fn at(&self) -> Option<Multiaddr> {
        self.at.map(knocks::quic)
    }
}

impl Driver {
    /// Whether this node stores records and passes signalling on for others at this moment.
    pub(super) fn serves(&self) -> bool {
        self.config.role.serves() || self.proof.at.is_some()
    }

    /// The same for people.
    pub(super) fn serving(&self) -> Serving {
        match (self.config.role, self.proof.proving.as_ref().map(Proving::standing)) {
            (Role::Server | Role::Directory, _) => Serving::Always,
            (Role::Terminal, None) => Serving::Off,
            (Role::Terminal, Some(Standing::Proved(_))) => Serving::Proved,
            (Role::Terminal, Some(Standing::Unproved(reason))) => Serving::Unproved(reason),
        }
    }

    /// Has somebody knock if it is time.
    pub(super) fn tick_proof(&mut self, now: Instant) {
        self.note_dialled(now);
        if self.proof.proving.is_none() {
            return;
        }
        let helpers = self.helpers();
        let proving = self.proof.proving.as_mut();
        if let Some(Errand { helper, token, except }) =
            proving.and_then(|proving| proving.poll(&helpers, rand::random(), now))
        {
            debug!("asks for a knock");
            let request = Request::KnockWanted { port: self.external_port(), token, except };
            self.request(helper, Vec::new(), request, Asker::Errand(token));
        }
        self.follow_proof(now);
        if self.proof.maintain.is_some_and(|due| due <= now) {
            self.proof.maintain = Some(now + BOOTSTRAP_INTERVAL);
            // Fails only while no other node is known.
            let _ = self.swarm.behaviour_mut().kad.bootstrap();
        }
    }

    /// Where strangers are to knock if it is not where this terminal is seen: a forwarded port.
    fn external_port(&self) -> Option<u16> {
        self.external().next().map(|socket| socket.port())
    }

    /// Where its user says that others reach it over QUIC.
    fn external(&self) -> impl Iterator<Item = SocketAddr> {
        let external = self.config.external.iter().filter_map(|addr| addr::parse(addr).ok());
        external.filter(addr::is_quic).filter_map(|addr| addr::socket_of(&addr))
    }

    /// Whether this terminal may be there: its user says so, or if he says nothing, a home. Who knocks is a stranger, whose word
    /// would have the network look for this terminal at somebody else's address.
    fn may_be_at(&self, at: SocketAddr) -> bool {
        let mut external = self.external().peekable();
        if external.peek().is_some() { external.any(|own| own == at) } else { self.proof.seen.contains(&at) }
    }

    /// Those who may be asked: the homes, which know this terminal's address; and, once everybody knows it, all.
    fn helpers(&self) -> Vec<Helper<PeerId>> {
        let homes = self.links.all.iter().filter(|link| link.registered).filter_map(|link| link.peer);
        let serving = |(peer, state): (&PeerId, &Peer)| (state.dht && state.signal).then_some(*peer);
        let others = self.peers.iter().filter_map(serving).filter(|_| self.serves()).take(MAX_HELPERS);
        let mut helpers: Vec<Helper<PeerId>> = Vec::new();
        for node in homes.chain(others) {
            let ip = self.peers.get(&node).and_then(Peer::direct).and_then(addr::ip_of);
            if let Some(ip) = ip.filter(|_| !helpers.iter().any(|helper| helper.node == node)) {
                helpers.push(Helper { node, network: Network::of(ip) });
            }
        }
        helpers
    }

    /// What packets were sent to since this was asked last.
    fn note_dialled(&mut self, now: Instant) {
        let dialled = self.private.take_dialled();
        if let Some(proving) = &mut self.proof.proving {
            dialled.into_iter().for_each(|addr| proving.sent(addr, now));
        }
    }

    /// A connection has ended: until now packets were sent.
    pub(super) fn note_disconnected(&mut self, remote: &Multiaddr, now: Instant) {
        let socket = addr::socket_of(remote).filter(|_| !addr::is_relayed(remote));
        if let (Some(proving), Some(socket)) = (&mut self.proof.proving, socket) {
            proving.sent(socket, now);
        }
    }

    /// Somebody has connected to this node unasked.
    pub(super) fn on_visit(&mut self, connection: ConnectionId, remote: &Multiaddr, now: Instant) {
        let from = addr::socket_of(remote).filter(|_| addr::is_quic(remote) && !addr::is_relayed(remote));
        // A neighbour has no router to get through.
        let from = from.filter(|_| self.private.permits(remote));
        let Some(from) = from.filter(|_| self.proof.at.is_some()) else { return };
        self.note_dialled(now);
        let linked = self.linked_but(connection);
        if let Some(proving) = &mut self.proof.proving {
            proving.visited(from, &linked, now);
        }
    }

    /// The other ends of all connections but one.
    fn linked_but(&self, connection: ConnectionId) -> Vec<SocketAddr> {
        let conns = self.peers.iter().flat_map(|(_, state)| &state.conns);
        let others = conns.filter(|conn| conn.id != connection && !addr::is_relayed(&conn.remote));
        let socket = |conn: &Conn| addr::socket_of(&conn.remote);
        others.filter_map(socket).map(canonical).collect()
    }

    /// A home's answer to an errand.
    pub(super) fn on_errand(&mut self, token: &Token, result: &Result<Response, RequestError>) {
        let answer = match result {
            Ok(Response::Knocking) => Answer::Knocking,
            Ok(Response::Refused { reason: Refusal::Invalid }) => Answer::NoAddress,
            // It knows nobody, has enough to do, or is older than this.
            Ok(
                Response::Welcome { .. }
                | Response::Delivered
                | Response::NotConnected
                | Response::Found { .. }
                | Response::Stored
                | Response::Refused { .. }
                | Response::Busy
                | Response::Sought(_)
                | Response::Published { .. }
                | Response::Ticket(_),
            )
            | Err(
                RequestError::Unreachable
                | RequestError::Timeout
                | RequestError::Broken
                | RequestError::Unsupported
                | RequestError::Busy
                | RequestError::Stopped,
            ) => Answer::Nobody,
        };
        let now = Instant::now();
        if let Some(proving) = &mut self.proof.proving {
            proving.answered(token, answer, now);
        }
        self.follow_proof(now);
    }

    /// Somebody says that he has knocked.
    pub(super) fn on_knock(
        &mut self,
        peer: PeerId,
        at: Place,
        token: Token,
        channel: ResponseChannel<Response>,
    ) {
        let now = Instant::now();
        let expected = self.proof.proving.as_ref().map(|proving| proving.expects(&token));
        let response = match expected {
            None => Response::Refused { reason: Refusal::NotServing },
            Some(false) => Response::Refused { reason: Refusal::Invalid },
            Some(true) => {
                match self.judge_knock(&peer, at, token, now) {
                    Ok(()) => debug!("a stranger got in"),
                    Err(reason) => debug!(?reason, "a knock that proves nothing"),
                }
                Response::Knocking
            }
        };
        self.respond(channel, response);
        self.follow_proof(now);
    }

    fn judge_knock(&mut self, peer: &PeerId, at: Place, token: Token, now: Instant) -> Result<(), NoProof> {
        self.note_dialled(now);
        let state = self.peers.get(peer).ok_or(NoProof::Unasked)?;
        let made =
            |conn: &&Conn| conn.inbound && addr::is_quic(&conn.remote) && !addr::is_relayed(&conn.remote);
        let conn = state.conns.iter().filter(made).max_by_key(|conn| conn.since).ok_or(NoProof::Old)?;
        let from = addr::socket_of(&conn.remote).ok_or(NoProof::Old)?;
        if !self.private.permits(&conn.remote) {
            return Err(NoProof::Near);
        }
        if !self.may_be_at(at.0) {
            return Err(NoProof::Elsewhere);
        }
        let knock = Knock { token, at: at.0, from, since: conn.since };
        let linked = self.linked_but(conn.id);
        self.proof
            .proving
            .as_mut()
            .map_or(Err(NoProof::Unasked), |proving| proving.knocked(&knock, &linked, now))
    }

    /// A home has been registered with; it tells where it sees this terminal.
    pub(super) fn on_home(&mut self, observed: Option<&str>, news: bool, now: Instant) {
        let seen = observed.and_then(|text| text.parse::<Multiaddr>().ok()).filter(addr::is_quic);
        let seen = seen.as_ref().and_then(addr::socket_of);
        let says_nothing = self.external_port().is_none();
        let Some(proving) = &mut self.proof.proving else { return };
        if let Some(seen) = seen {
            let seen = canonical(seen);
            self.proof.seen.retain(|known| *known != seen);
            self.proof.seen.push_back(seen);
            if self.proof.seen.len() > MAX_SEEN {
                self.proof.seen.pop_front();
            }
            if says_nothing {
                proving.doubt(seen, now);
            }
        }
        if news {
            proving.hurry(now);
        }
    }

    /// Another address is listened on: perhaps strangers get in by now, or no longer.
    pub(super) fn on_more_listening(&mut self, address: &Multiaddr, now: Instant) {
        let Some(proving) = &mut self.proof.proving else { return };
        if addr::is_quic(address) && !addr::is_loopback(address) {
            match self.proof.at {
                Some(_) => proving.test(now),
                None => proving.restart(now),
            }
        }
    }

    /// An address is listened on no more. If it is the proved one, or that is a router's outside, nothing is proved any more.
    pub(super) fn on_less_listening(&mut self, addresses: &[Multiaddr], now: Instant) {
        let Some(at) = self.proof.at else { return };
        let same_family = |ip: &std::net::IpAddr| ip.is_ipv4() == at.is_ipv4();
        // A way through a relay says nothing about this host.
        let straight = |addr: &&Multiaddr| addr::is_quic(addr) && !addr::is_relayed(addr);
        let gone = addresses.iter().filter(straight).filter(|addr| !addr::is_loopback(addr));
        let gone = gone.filter_map(addr::ip_of).any(|ip| same_family(&ip));
        if gone
            && !self.has_own(at)
            && let Some(proving) = &mut self.proof.proving
        {
            proving.restart(now);
        }
        self.follow_proof(now);
    }

    /// Whether the address is this host's own, and not a router's.
    fn has_own(&self, at: SocketAddr) -> bool {
        self.listen.iter().filter_map(addr::ip_of).any(|ip| ip == at.ip())
    }

    /// Becomes what is proved.
    fn follow_proof(&mut self, now: Instant) {
        let standing = self.proof.proving.as_ref().map(Proving::standing);
        let proved = match standing {
            Some(Standing::Proved(at)) => Some(at),
            Some(Standing::Unproved(_)) | None => None,
        };
        if self.proof.at != proved {
            if self.proof.at.is_some() {
                self.cease_to_serve();
            }
            if let Some(at) = proved {
                self.begin_to_serve(at, now);
            }
        }
        let serving = self.serving();
        self.dirty |= std::mem::replace(&mut self.proof.told, serving) != serving;
    }

    fn begin_to_serve(&mut self, at: SocketAddr, now: Instant) {
        info!("strangers reach this terminal: it serves the network");
        self.proof.at = Some(at);
        self.proof.maintain = Some(now + Duration::from_secs(1));
        self.not_private_if_public(&knocks::quic(at));
        self.records().set_hand_on(true);
        let behaviour = self.swarm.behaviour_mut();
        behaviour.kad.set_mode(Some(kad::Mode::Server));
        if let Some(relay) = behaviour.relay_server.as_mut() {
            relay.set_status(Some(relay::Status::Enable));
        }
        self.answer_stun(at);
        self.refresh_external();
        let nodes = self.peers.iter().filter(|(_, state)| state.dht);
        let nodes: Vec<_> = nodes.map(|(peer, state)| (*peer, state.addrs.clone())).collect();
        for (peer, addrs) in nodes {
            self.add_to_table(peer, &addrs);
        }
        self.introduce_anew();
    }

    /// Others are told by identify what this node does, when a connection is made: what libp2p pushes over one that there is
    /// was never seen to arrive. So a new one is made to those that matter.
    fn introduce_anew(&mut self) {
        let links: Vec<PeerId> = self.links.all.iter().filter_map(|link| link.peer).collect();
        links.into_iter().for_each(|peer| self.renew(peer));
    }

    /// STUN has a port of its own. That is reached for sure only where no router has to pass it on.
    fn answer_stun(&mut self, at: SocketAddr) {
        let Some(listen) = self.config.stun.filter(|_| self.has_own(at)) else { return };
        match Stun::start(listen, self.config.limits.stun_per_source, self.metrics.clone()) {
            Ok(stun) => {
                self.stun_port = Some(stun.addr.port());
                self.proof.stun = Some(stun);
            }
            Err(error) => debug!(%error, "cannot answer STUN"),
        }
    }

    /// Those who depend on this node, or take it for one of the DHT, lose their connections, and look for another one.
    fn cease_to_serve(&mut self) {
        info!("it is not known any more that strangers reach this terminal: it does not serve the network");
        (self.proof.at, self.proof.maintain, self.proof.stun, self.stun_port) = (None, None, None, None);
        self.records().set_hand_on(false);
        let behaviour = self.swarm.behaviour_mut();
        behaviour.kad.set_mode(Some(kad::Mode::Client));
        if let Some(relay) = behaviour.relay_server.as_mut() {
            relay.set_status(Some(relay::Status::Disable));
        }
        let table = behaviour.kad.kbuckets();
        let table = table
            .flat_map(|bucket| bucket.iter().map(|entry| *entry.node.key.preimage()).collect::<Vec<_>>());
        let table: Vec<PeerId> = table.collect();
        for peer in table {
            self.swarm.behaviour_mut().kad.remove_peer(&peer);
        }
        for peer in self.warm.forget_all() {
            self.refresh_hold(peer);
        }
        self.service.dismiss_all();
        self.refresh_external();
        self.introduce_anew();
        let strangers = self.peers.iter().map(|(peer, _)| *peer).filter(|peer| !self.links.wants(peer));
        for peer in strangers.collect::<Vec<_>>() {
            // Fails only if it has gone already.
            let _ = self.swarm.disconnect_peer_id(peer);
            self.refresh_hold(peer);
        }
    }
}
