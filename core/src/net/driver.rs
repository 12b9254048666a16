//! The task that owns the swarm: takes commands, dispatches events to the modules that understand them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::StreamExt;
use libp2p::core::ConnectedPoint;
use libp2p::kad::QueryId;
use libp2p::request_response::ResponseChannel;
use libp2p::swarm::ConnectionId;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, Swarm};
use offhook_proto::identity::SignedCert;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, trace};

use super::addr;
use super::behaviour::{Behaviour, BehaviourEvent};
use super::budget::Standing;
use super::codec::Response;
use super::command::{Command, Holder, Neighbours};
use super::config::NetConfig;
use super::credentials::HeldTickets;
use super::delegate::{Delegated, Spread};
use super::dht::{Closest, Query};
use super::event::NetEvent;
use super::knocks::Knocks;
use super::linger::Lingering;
use super::links::Links;
use super::mailbox::{Answer, Mailboxes};
use super::metrics::Metrics;
use super::peers::Peers;
use super::private::Private;
use super::probe::Late;
use super::requests::Requests;
use super::service::Service;
use super::serving::Proof;
use super::status::NetStatus;
use super::store::{Disk, Offer, Records, Worked};
use super::tickets::Tickets;
use super::warm::Warm;
use crate::clock::wall_clock;

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(500);

/// Expired records are dropped this often.
const SWEEP: Duration = Duration::from_secs(60);

/// A pause between two ticks after which the host must have slept, or the program been stopped.
const SLEPT: Duration = Duration::from_secs(5);

/// A terminal registered here is probed when it has not been heard for so long: longer than it leaves between its own
/// probes. Whoever else is kept, seldom.
const WATCH_REGISTERED: Duration = Duration::from_secs(20);
const WATCH_SELDOM: Duration = Duration::from_secs(60);

/// Results that other tasks hand back.
pub(super) enum Inner {
    /// An offer to the store has been looked at.
    Worked(Box<Worked>),
    /// An answer that had to wait.
    Respond(ResponseChannel<Response>, Response),
    /// A claim to a ticket has been looked at.
    Claimed(ResponseChannel<Response>, Response),
    /// What somebody published is held here.
    Spread(Spread),
    /// Whoever keeps the mailboxes has answered.
    Mail(Box<Answer>),
}

/// See the [module](self).
pub(super) struct Driver {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) config: NetConfig,
    /// Where STUN is answered.
    pub(super) stun_port: Option<u16>,
    pub(super) cert: Option<SignedCert>,
    pub(super) private: Private,
    pub(super) events: mpsc::Sender<NetEvent>,
    pub(super) peers: Peers,
    pub(super) links: Links,
    pub(super) held_tickets: HeldTickets,
    pub(super) requests: Requests,
    pub(super) queries: HashMap<QueryId, Query>,
    pub(super) service: Service,
    pub(super) mailboxes: Mailboxes,
    pub(super) delegated: Delegated,
    pub(super) tickets: Tickets,
    pub(super) warm: Warm,
    pub(super) knocks: Knocks,
    pub(super) proof: Proof,
    pub(super) lan: HashMap<PeerId, Vec<Multiaddr>>,
    pub(super) listen: Vec<Multiaddr>,
    /// Own addresses that identify tells: configured, or those of a serving node's listeners.
    pub(super) external: Vec<Multiaddr>,
    pub(super) disk: Option<Disk>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) inner: mpsc::UnboundedSender<Inner>,
    pub(super) status: watch::Sender<NetStatus>,
    pub(super) lingering: Lingering,
    /// Peers written to disk in this run.
    pub(super) remembered: HashSet<PeerId>,
    /// Whether the status has to be made anew.
    pub(super) dirty: bool,
    swept: Instant,
    /// The wall clock at the last tick: unlike the monotonic clock it goes on while the host sleeps.
    ticked: SystemTime,
}

/// What [`Driver::new`] is given.
pub(super) struct Parts {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) config: NetConfig,
    pub(super) stun_port: Option<u16>,
    pub(super) private: Private,
    pub(super) events: mpsc::Sender<NetEvent>,
    pub(super) links: Links,
    pub(super) held_tickets: HeldTickets,
    pub(super) disk: Option<Disk>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) inner: mpsc::UnboundedSender<Inner>,
    pub(super) status: watch::Sender<NetStatus>,
}

impl Driver {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts {
            swarm,
            config,
            stun_port,
            private,
            events,
            links,
            held_tickets,
            disk,
            metrics,
            inner,
            status,
        } = parts;
        Self {
            swarm,
            stun_port,
            cert: config.cert.clone(),
            private,
            events,
            peers: Peers::default(),
            links,
            held_tickets,
            requests: Requests::default(),
            queries: HashMap::new(),
            service: Service::new(&config.limits),
            mailboxes: Mailboxes::new(&config),
            delegated: Delegated::new(&config.limits),
            tickets: Tickets::new(),
            warm: Warm::new(config.limits.warm),
            knocks: Knocks::new(),
            proof: Proof::new(&config, Instant::now()),
            lan: HashMap::new(),
            listen: Vec::new(),
            external: Vec::new(),
            disk,
            metrics,
            inner,
            status,
            lingering: Lingering::new(),
            remembered: HashSet::new(),
            dirty: true,
            swept: Instant::now(),
            ticked: SystemTime::now(),
            config,
        }
    }

    /// Runs until told to stop or until nobody can give commands any more.
    pub(super) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut inner: mpsc::UnboundedReceiver<Inner>,
    ) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let done = loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_swarm_event(event),
                command = commands.recv() => match command {
                    None => break None,
                    Some(Command::Shutdown(done)) => break Some(done),
                    Some(command) => self.on_command(command),
                },
                Some(result) = inner.recv() => self.on_inner(result),
                _ = tick.tick() => self.on_tick(Instant::now()),
            }
            self.pump_store();
            if self.dirty {
                self.dirty = false;
                self.update_status();
            }
        };
        self.stop(done).await;
    }

    /// Whoever registers or sends does so over the connection that it has. Others that it made before are of its former
    /// life, before it was killed or moved: nobody reads them, but requests would be sent over them in turn until they
    /// time out. The same goes for those that this node made (`inbound` is false) before the one that it made anew.
    pub(super) fn leave_older_connections(&mut self, peer: PeerId, alive: ConnectionId, inbound: bool) {
        let older: Vec<ConnectionId> = self.peers.get(&peer).map_or_else(Vec::new, |known| {
            let older = known.conns.iter().filter(|conn| conn.inbound == inbound && conn.id < alive);
            older.map(|conn| conn.id).collect()
        });
        for id in older {
            self.swarm.close_connection(id);
        }
    }

    async fn stop(mut self, done: Option<oneshot::Sender<()>>) {
        let peers: Vec<_> = self.peers.iter().map(|(peer, _)| *peer).collect();
        for peer in peers {
            // Fails only for peers that have gone already.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        // The farewells leave with the next turns of the swarm.
        let farewell = async {
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.select_next_some().await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_millis(500), farewell).await;
        let Self { swarm, disk, .. } = self;
        // Closes the sockets.
        drop(swarm);
        if let Some(disk) = disk {
            disk.flush().await;
        }
        if let Some(done) = done {
            let _ = done.send(());
        }
    }

    fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                let remote = remote_addr(&endpoint);
                let inbound = endpoint.is_listener();
                let first = self.peers.connected(peer_id, connection_id, remote.clone(), inbound);
                self.warm.connected(&peer_id, Instant::now());
                self.dirty = true;
                self.refresh_hold(peer_id);
                self.flush_waiting(peer_id);
                if inbound {
                    self.on_visit(connection_id, &remote, Instant::now());
                }
                self.on_knock_connected(peer_id, connection_id);
                self.on_link_connected(peer_id, connection_id, remote, first);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, endpoint, .. } => {
                self.dirty = true;
                self.note_disconnected(&remote_addr(&endpoint), Instant::now());
                self.on_knock_failed(connection_id);
                if self.peers.disconnected(&peer_id, connection_id).is_some() {
                    self.service.disconnected(&peer_id);
                    self.mailboxes.disconnected(&peer_id);
                    self.fail_waiting(peer_id);
                    self.warm.disconnected(&peer_id, Instant::now());
                    self.refresh_hold(peer_id);
                    self.on_link_disconnected(peer_id, Instant::now());
                } else {
                    self.on_link_thinned(peer_id);
                }
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                debug!(error = addr::dial_error(&error), "cannot connect");
                self.on_knock_failed(connection_id);
                self.on_link_dial_error(connection_id, &error, Instant::now());
                if let Some(peer) = peer_id {
                    self.on_warm_failed(peer, &error, Instant::now());
                    self.on_dial_failed(peer);
                }
            }
            SwarmEvent::NewListenAddr { address, .. } => self.on_listening(address),
            SwarmEvent::ExpiredListenAddr { address, .. } => self.on_not_listening(&[address]),
            SwarmEvent::ListenerClosed { listener_id, addresses, reason } => {
                debug!(?reason, "listener closed");
                self.on_not_listening(&addresses);
                self.on_reservation_lost(listener_id, Instant::now());
            }
            SwarmEvent::ListenerError { error, .. } => debug!(%error, "listener"),
            SwarmEvent::ExternalAddrConfirmed { .. } | SwarmEvent::ExternalAddrExpired { .. } => {
                self.dirty = true;
            }
            SwarmEvent::IncomingConnectionError { error, .. } => trace!(%error, "incoming connection failed"),
            SwarmEvent::IncomingConnection { .. }
            | SwarmEvent::Dialing { .. }
            // What others claim to see is no more than a hint; reachability is configured.
            | SwarmEvent::NewExternalAddrCandidate { .. }
            | SwarmEvent::NewExternalAddrOfPeer { .. } => {}
            // The enum may grow; what a later libp2p adds is seen here first.
            _ => trace!("an unknown kind of swarm event"),
        }
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Gate(never) | BehaviourEvent::Limits(never) => match never {},
            BehaviourEvent::Probes(Late(peer)) => self.on_late(peer),
            BehaviourEvent::Identify(event) => self.on_identify(event),
            BehaviourEvent::Kad(event) => self.on_kad(event),
            BehaviourEvent::Signal(event) => self.on_signal(event),
            BehaviourEvent::Mailbox(event) => self.on_mail(event),
            BehaviourEvent::RelayClient(event) => self.on_relay_client(event),
            BehaviourEvent::RelayServer(event) => self.on_relay_server(event),
            BehaviourEvent::Mdns(event) => self.on_mdns(event),
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Request { to, addrs, request, reply } => self.request(to, addrs, *request, reply.into()),
            Command::Mail { to, addrs, request, reply } => self.ask_mail(to, addrs, *request, reply),
            Command::MailNotice { to, notice } => self.tell_of_mail(&to, notice),
            Command::Revoked { identity, reply } => {
                let _ = reply.send(self.records().revoked(&identity));
            }
            Command::Linger(peer) => self.linger(peer, Instant::now()),
            Command::Get { key, answers, until } => self.start_get(key, answers, until),
            Command::Closest { key, reply } => self.start_closest(key, Closest::Task(reply), None),
            Command::Put { key, value, to } => self.start_put(key, value, to),
            Command::Local { key, reply } => {
                let _ = reply.send(self.records().find(&key, wall_clock()));
            }
            Command::LocalValue { key, reply } => {
                let _ = reply.send(self.records().value(&key, wall_clock()).map(|(value, _)| value));
            }
            Command::Own { key, value, reply } => {
                let reply = Box::new(move |result| {
                    // Whoever asked may have given up.
                    let _ = reply.send(result);
                });
                let source = addr::Source::Local;
                self.dirty = true;
                self.records().offer(Offer { key, bytes: value, source, own: true, reply }, wall_clock());
            }
            Command::Neighbours(reply) => {
                let _ = reply.send(self.neighbours());
            }
            Command::Keep(addrs) => self.keep_links(addrs),
            Command::Enter(addrs) => self.enter(addrs),
            Command::Homes(directory, addrs) => self.set_homes(directory, addrs),
            Command::Certificate(cert) => {
                self.cert = Some(*cert);
                self.register_everywhere();
            }
            // Taken by the loop itself.
            Command::Shutdown(done) => drop(done),
        }
    }

    fn on_inner(&mut self, result: Inner) {
        match result {
            Inner::Worked(worked) => {
                self.dirty = true;
                self.records().worked(*worked, wall_clock());
            }
            Inner::Respond(channel, response) => self.respond(channel, response),
            Inner::Claimed(channel, response) => self.claimed(channel, response),
            Inner::Spread(spread) => self.spread(spread),
            Inner::Mail(answer) => self.mail_kept(*answer),
        }
    }

    fn on_tick(&mut self, now: Instant) {
        let wall = SystemTime::now();
        // A clock that went back is as suspicious as one that jumped ahead.
        if !wall.duration_since(self.ticked).is_ok_and(|passed| passed <= SLEPT) {
            self.hurry_links(now);
        }
        self.ticked = wall;
        self.tick_links(now);
        self.tick_requests(now);
        self.tick_queries(now);
        self.tick_warm(now);
        self.tick_knocks(now);
        self.tick_proof(now);
        for peer in self.lingering.over(now) {
            self.refresh_hold(peer);
        }
        if now.saturating_duration_since(self.swept) >= SWEEP {
            self.swept = now;
            self.records().sweep(wall_clock(), now);
            self.dirty = true;
        }
    }

    /// Has the store's next offer looked at, if there is one and none is.
    fn pump_store(&mut self) {
        let Some(work) = self.records().next_work(wall_clock()) else { return };
        let inner = self.inner.clone();
        tokio::spawn(async move {
            let worked = tokio::task::spawn_blocking(move || work.run()).await;
            // A set that cannot be looked at must not keep the others from it.
            let worked = worked.unwrap_or_else(|_| Worked::failed());
            // The driver may have stopped meanwhile.
            let _ = inner.send(Inner::Worked(Box::new(worked)));
        });
    }

    /// The store; whoever asks for it may change it.
    pub(super) fn records(&mut self) -> &mut Records {
        self.swarm.behaviour_mut().kad.store_mut()
    }

    /// Keeps the connection to a peer for a while.
    pub(super) fn linger(&mut self, peer: PeerId, now: Instant) {
        let loser = self.lingering.keep(peer, self.peers.source(&peer), now);
        for peer in std::iter::once(peer).chain(loser) {
            self.refresh_hold(peer);
        }
    }

    /// Holds and watches the connection to a peer exactly as long as there is a reason.
    pub(super) fn refresh_hold(&mut self, peer: PeerId) {
        let registered = self.service.is_registered(&peer).then_some(WATCH_REGISTERED);
        let lingering = self.lingering.contains(&peer).then_some(WATCH_SELDOM);
        let warm = self.warm.wants(&peer).then_some(WATCH_SELDOM);
        let mail = self.mailboxes.has_entered(&peer).then_some(WATCH_SELDOM);
        let link = self.links.watch(&peer);
        let watch = [link, registered, lingering, warm, mail].into_iter().flatten().min();
        let behaviour = self.swarm.behaviour_mut();
        behaviour.gate.regard(
            peer,
            match watch {
                Some(_) if link.is_some() || registered.is_some() => Standing::Friend,
                Some(_) => Standing::Kept,
                None => Standing::Stranger,
            },
        );
        behaviour.probes.watch(peer, watch, self.peers.connections(&peer));
    }

    /// Has it looked into whether a peer is still there; its dead connections close.
    pub(super) fn probe(&mut self, peer: PeerId) {
        self.swarm.behaviour_mut().probes.probe(peer, self.peers.connections(&peer));
    }

    /// A public address that was reached, that the user named, or that is this host's says that this is the internet. What others merely
    /// claim says nothing.
    pub(super) fn not_private_if_public(&mut self, addr: &Multiaddr) {
        if self.config.allow_private.is_none() && self.private.allowed() && addr::is_public(addr) {
            self.private.forbid();
            self.refresh_external();
        }
    }

    /// Tells the owner, without waiting; `false` if the channel is full or closed.
    pub(super) fn tell(&self, event: NetEvent) -> bool {
        self.events.try_send(event).is_ok()
    }

    fn neighbours(&mut self) -> Neighbours {
        let mut neighbours = Neighbours { dht: self.dht_nodes() > 0, ..Neighbours::default() };
        // One that serves for a while leaves the DHT to its directories all the same: whom it calls is nobody's business.
        let terminal = !self.config.role.serves();
        // In the order in which they are configured.
        for peer in self.links.home() {
            let holder = Holder { peer, addrs: Vec::new() };
            if terminal && self.links.delegates(&peer) {
                neighbours.delegates.push(holder.clone());
            }
            neighbours.directories.push(holder);
        }
        for (peer, state) in self.peers.iter() {
            neighbours.peers.push(*peer);
            if state.signal && !self.links.is_up(peer) {
                neighbours.connected.push(Holder { peer: *peer, addrs: Vec::new() });
            }
        }
        neighbours.expecting = terminal && neighbours.directories.is_empty() && self.links.has_home();
        for (peer, addrs) in &self.lan {
            neighbours.lan.push(Holder { peer: *peer, addrs: addrs.clone() });
        }
        neighbours
    }

    /// Nodes of the DHT that are known: those of a serving node's routing table, or those that a terminal is connected
    /// with.
    pub(super) fn dht_nodes(&mut self) -> usize {
        if !self.serves() {
            return self.peers.iter().filter(|(_, state)| state.dht).count();
        }
        self.swarm.behaviour_mut().kad.kbuckets().map(|bucket| bucket.num_entries()).sum()
    }
}

fn remote_addr(endpoint: &ConnectedPoint) -> Multiaddr {
    match endpoint {
        ConnectedPoint::Dialer { address, .. } => address.clone(),
        ConnectedPoint::Listener { send_back_addr, .. } => send_back_addr.clone(),
    }
}
