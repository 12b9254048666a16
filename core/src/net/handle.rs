//! The network's handle: what the rest of the program calls.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use libp2p::Multiaddr;
use libp2p::identity::Keypair;
use offhook_proto::descriptor::SignedDescriptor;
use offhook_proto::identity::{DirectoryId, IdentityId, SignedCert, TerminalId};
use offhook_proto::mailbox;
use offhook_proto::mailbox::protocol::Notice;
use offhook_proto::number::{NodeAddr, RecordKey};
use offhook_proto::proof::ProofTask;
use offhook_proto::record::{self, RecordSet};
use offhook_proto::relay::{GuestClaim, RelayTicket, RelayTransport};
use prometheus_client::registry::Registry;
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::clock::wall_clock;
use crate::relay::Relay;

use super::addr::{self, AddrError};
use super::behaviour;
use super::candidates::Candidates;
use super::client::{Client, RequestError};
use super::command::{Command, Holder};
use super::config::NetConfig;
use super::credentials::{self, HeldTickets, RelayError};
use super::descriptors;
use super::driver::{Driver, Parts};
use super::event::NetEvent;
use super::known::Known;
use super::links::Links;
use super::lookup::Lookup;
use super::metrics::{MailGauges, Metrics};
use super::private::Private;
use super::publish::{self, PublishError, Published};
use super::signal::{self, GoodWays, SignalError, SignalTarget};
use super::status::NetStatus;
use super::store::{Disk, Loaded, Records, Verdicts};
use super::stun::Stun;
use super::tickets::RelayNotice;
use super::transport::{self, Entrance, EntranceTransport};

/// Commands and events that may wait.
const COMMANDS: usize = 256;
const EVENTS: usize = 256;

/// Packets on their way out at a time; further ones wait.
const SIGNALS: usize = 256;

/// Where a node listens that isn't told: any port, QUIC first.
const LISTEN: [&str; 4] =
    ["/ip4/0.0.0.0/udp/0/quic-v1", "/ip4/0.0.0.0/tcp/0", "/ip6/::/udp/0/quic-v1", "/ip6/::/tcp/0"];

/// Why the network doesn't start.
#[derive(Debug, Error)]
pub enum NetError {
    /// An address in the configuration.
    #[error("{addr}: {error}")]
    Addr {
        /// The address.
        addr: NodeAddr,
        /// What is wrong with it.
        error: AddrError,
    },
    /// A listener. Usually the port is taken.
    #[error("cannot listen on {addr}: {reason}")]
    Listen {
        /// Where.
        addr: NodeAddr,
        /// The system's words.
        reason: String,
    },
    /// The STUN server's socket.
    #[error("cannot answer STUN on {addr}: {error}")]
    Stun {
        /// Where.
        addr: SocketAddr,
        /// The system's error.
        error: std::io::Error,
    },
    /// The data directory or its database.
    #[error("cannot open the record store: {0}")]
    Store(#[from] sqlx::Error),
    /// Multicast DNS.
    #[error("cannot look for peers on the local network: {0}")]
    Mdns(std::io::Error),
    /// Encryption could not be set up.
    #[error("cannot set up the transport: {0}")]
    Transport(String),
}

impl NetError {
    pub(super) fn transport(error: impl std::fmt::Display) -> Self {
        Self::Transport(error.to_string())
    }

    /// libp2p leaves the system's words to the sources of its errors.
    fn listen(addr: &NodeAddr, error: &dyn std::error::Error) -> Self {
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            // Some of them say again what their source says.
            let words = error.to_string();
            reason = match reason.is_empty() {
                true => words,
                false if reason.contains(&words) => reason,
                false => format!("{reason}: {words}"),
            };
            source = error.source();
        }
        Self::Listen { addr: addr.clone(), reason }
    }
}

/// A running network. Clones share it; it stops when the last one is dropped or by [`Net::shutdown`].
#[derive(Clone)]
pub struct Net {
    client: Client,
    id: TerminalId,
    lookups: Arc<Semaphore>,
    signals: Arc<Semaphore>,
    good_ways: GoodWays,
    held_tickets: HeldTickets,
    limits: super::config::Limits,
    metrics: Arc<Metrics>,
    stun: Option<Arc<Stun>>,
    entrance: Entrance,
}

impl Net {
    /// Starts listening and connecting. Returns as soon as the sockets are bound; the rest is told by events, of
    /// which the receiver must be read.
    ///
    /// # Errors
    /// A [`NetError`]; nothing runs then.
    pub async fn start(config: NetConfig) -> Result<(Self, mpsc::Receiver<NetEvent>), NetError> {
        let entry = entry_points(&config)?;
        let external = parse_all(&config.external)?;
        let mut seed = config.terminal_seed;
        let key = Keypair::ed25519_from_bytes(&mut seed).map_err(NetError::transport)?;
        let id = addr::terminal_of(&key.public().to_peer_id())
            .ok_or_else(|| NetError::Transport("no Ed25519 key".to_owned()))?;
        let (disk, loaded) = open(&config).await?;
        let (remembered, known) = remembered(&loaded);
        let configured: Vec<_> = entry.iter().map(|(_, addr)| addr).chain(&external).cloned().collect();
        let private = private(&config, &configured, &remembered);
        let verdicts = Verdicts::default();
        let records = records(&config, &verdicts, &disk, loaded).await?;
        let mut registry = Registry::default();
        let (entrance, entering) = transport::entrance();
        let mut swarm = behaviour::swarm(&config, &key, records, &private, entering, &mut registry)?;
        let metrics = Arc::new(Metrics::new(registry));
        let stun = match config.stun.filter(|_| config.role.serves()) {
            Some(addr) => Some(Arc::new(
                Stun::start(addr, config.limits.stun_per_source, metrics.clone())
                    .map_err(|error| NetError::Stun { addr, error })?,
            )),
            None => None,
        };
        // Before dialling anybody: otherwise connections leave from other ports than those listened on.
        listen(&config, &mut swarm)?;
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let (events, receiver) = mpsc::channel(EVENTS);
        let (inner, inner_inbox) = mpsc::unbounded_channel();
        let (status_sender, status) = watch::channel(NetStatus::default());
        let net = Self {
            client: Client { commands, verdicts, private: private.clone(), status },
            id,
            lookups: Arc::new(Semaphore::new(config.limits.lookups)),
            signals: Arc::new(Semaphore::new(SIGNALS)),
            good_ways: GoodWays::default(),
            held_tickets: HeldTickets::default(),
            limits: config.limits.clone(),
            metrics: metrics.clone(),
            stun,
            entrance,
        };
        let links = Links::new(entry, Candidates::new(remembered), known, Instant::now());
        let beside = config.relay.as_ref().and_then(RelayNotice::stun_port);
        let stun_port = net.stun.as_ref().map(|stun| stun.addr.port()).or(beside);
        let parts = Parts {
            swarm,
            stun_port,
            config,
            private,
            events,
            links,
            held_tickets: net.held_tickets.clone(),
            disk,
            metrics,
            inner,
            status: status_sender,
        };
        tokio::spawn(Driver::new(parts).run(inbox, inner_inbox));
        Ok((net, receiver))
    }

    /// This node's key, which is its PeerId.
    pub fn id(&self) -> TerminalId {
        self.id
    }

    /// Publishes this terminal's records: to the nodes closest to the key and to the directories. Judged by reading
    /// back, so it takes a second or so; never wait for it in a call.
    ///
    /// # Errors
    /// A [`PublishError`]. The records are held here all the same, unless they are invalid.
    pub async fn publish(&self, key: RecordKey, set: RecordSet) -> Result<Published, PublishError> {
        publish::publish(&self.client, key, encode(&key, &set)?).await
    }

    /// Holds this terminal's records here without publishing them: peers that are connected, or on the local network,
    /// find them.
    ///
    /// # Errors
    /// A [`PublishError`].
    pub async fn hold(&self, key: RecordKey, set: RecordSet) -> Result<(), PublishError> {
        publish::hold(&self.client, key, encode(&key, &set)?).await
    }

    /// Asks whether the records published are still held where they belong, and changes nothing.
    ///
    /// # Errors
    /// A [`PublishError`], [`PublishError::NotHeld`] if nobody serves them.
    pub async fn held(&self, key: RecordKey, set: &RecordSet) -> Result<Published, PublishError> {
        publish::held(&self.client, key, &encode(&key, set)?).await
    }

    /// Publishes what a directory says of itself, under its key, to the nodes closest to that. Judged by reading back.
    ///
    /// # Errors
    /// A [`PublishError`]. It is held here all the same, unless it is invalid.
    pub async fn publish_descriptor(&self, signed: &SignedDescriptor) -> Result<Published, PublishError> {
        publish::publish_descriptor(&self.client, signed).await
    }

    /// The latest descriptor of a directory that the network has, verified to be of this key; 4 seconds at most.
    pub async fn descriptor(&self, directory: &DirectoryId) -> Option<SignedDescriptor> {
        descriptors::fetch(&self.client, directory).await
    }

    /// Looks a number up. `via` are nodes that its owner named, say in an invitation: they are asked too. At most
    /// [`Limits::lookups`](super::Limits::lookups) run at a time; further ones wait.
    pub fn lookup(&self, key: RecordKey, via: &[NodeAddr]) -> Lookup {
        let lookups = self.lookups.clone();
        let permit = async move { lookups.acquire_owned().await.ok() };
        let mut named: Vec<Holder> = Vec::new();
        for holder in via.iter().filter_map(|addr| self.holder(addr)) {
            match named.iter_mut().find(|known| known.peer == holder.peer) {
                Some(known) => known.addrs.extend(holder.addrs),
                None => named.push(holder),
            }
        }
        Lookup::start(self.client.clone(), key, named, self.limits.lookup_time, permit)
    }

    /// A node by its address, or the relay in it; none where a stranger may not send this node.
    fn holder(&self, addr: &NodeAddr) -> Option<Holder> {
        let addr = addr::parse(addr).ok()?;
        let addr = addr::relay_of(&addr).map_or(addr, |(_, relay)| relay);
        let peer = addr::last_peer(&addr).filter(|_| self.client.private.permits(&addr))?;
        Some(Holder { peer, addrs: vec![addr] })
    }

    /// Runs the slow proof of a number, unless its verdict is known, and keeps the verdict.
    pub(crate) async fn prove(&self, task: ProofTask) -> bool {
        self.client.verdicts.verify(task).await
    }

    /// The verdict on the proof of a number, if it has been run before: by a look-up, for the record store, or by
    /// [`Net::prove`].
    pub(crate) fn verdict(&self, task: &ProofTask) -> Option<bool> {
        self.client.verdicts.get(task)
    }

    /// Delivers a sealed packet to a terminal by whichever way is first. Returns when the terminal has acknowledged
    /// it, after 5 seconds at most. The same packet may arrive twice.
    ///
    /// # Errors
    /// A [`SignalError`].
    pub async fn signal(&self, target: SignalTarget, blob: Vec<u8>) -> Result<(), SignalError> {
        // The semaphore is never closed.
        let Ok(_permit) = self.signals.acquire().await else { return Err(SignalError::Stopped) };
        signal::signal(&self.client, &self.good_ways, target, blob).await
    }

    /// Asks the directory whose node is at these addresses about a mailbox, connecting first if need be. Addresses that a stranger
    /// may not send this node to are not tried.
    ///
    /// # Errors
    /// A [`RequestError`], after 45 seconds at most.
    pub async fn mail(
        &self,
        node: &[NodeAddr],
        request: mailbox::protocol::Request,
    ) -> Result<mailbox::protocol::Response, RequestError> {
        let mut holders = node.iter().filter_map(|addr| self.holder(addr));
        let Holder { peer, mut addrs } = holders.next().ok_or(RequestError::Unreachable)?;
        addrs.extend(holders.filter(|holder| holder.peer == peer).flat_map(|holder| holder.addrs));
        self.client.mail(peer, addrs, request).await
    }

    /// Tells a terminal that has entered its mailbox here, and is still connected, of what has come.
    pub async fn notice(&self, to: TerminalId, notice: Notice) {
        // A stopped network tells nothing.
        let _ = self.client.commands.send(Command::MailNotice { to, notice }).await;
    }

    /// Terminals that an account revokes in its newest record, as far as its records are held here; `None` once the network is
    /// shut down.
    pub async fn revoked(&self, identity: &IdentityId) -> Option<Vec<TerminalId>> {
        self.client.revoked(*identity).await
    }

    /// Keeps connections to these directories, at most 8, so that a packet to their terminals needs no set-up. They
    /// replace the ones named before.
    pub async fn keep(&self, directories: Vec<NodeAddr>) {
        let addrs = directories.iter().filter_map(|addr| addr::parse(addr).ok());
        let addrs = addrs.map(|addr| addr::relay_of(&addr).map_or(addr, |(_, relay)| relay)).collect();
        // A stopped network keeps nothing.
        let _ = self.client.commands.send(Command::Keep(addrs)).await;
    }

    /// Enters the network through these nodes, at most 4, and makes them this terminal's home if it has none at hand:
    /// an invitation link names them.
    pub async fn enter(&self, nodes: Vec<NodeAddr>) {
        let addrs = nodes.iter().filter_map(|addr| addr::parse(addr).ok()).collect();
        // A stopped network enters nothing.
        let _ = self.client.commands.send(Command::Enter(addrs)).await;
    }

    /// Makes the nodes of a directory that the account is with homes like the configured entry points, as far as there are fewer than
    /// three. Of one node, the address that is named first is used. Nodes that were named before and are no more become what others
    /// are.
    pub async fn set_homes(&self, directory: DirectoryId, nodes: Vec<NodeAddr>) {
        let addrs = nodes.iter().filter_map(|addr| addr::parse(addr).ok()).collect();
        // A stopped network has no homes.
        let _ = self.client.commands.send(Command::Homes(directory, addrs)).await;
    }

    /// Registers with a new certificate from now on.
    pub async fn set_cert(&self, cert: SignedCert) {
        let _ = self.client.commands.send(Command::Certificate(Box::new(cert))).await;
    }

    /// Addresses to publish, with `/p2p`: relayed ones by default, direct ones of a public node.
    pub fn addresses(&self) -> Vec<NodeAddr> {
        self.client.status.borrow().addresses.clone()
    }

    /// Directories that pass packets on to this terminal, with `/p2p`.
    pub fn routes(&self) -> Vec<NodeAddr> {
        self.client.status.borrow().routes.clone()
    }

    /// STUN servers of the directories connected.
    pub fn stun_servers(&self) -> Vec<SocketAddr> {
        self.client.status.borrow().stun_servers.clone()
    }

    /// What carries the connections with the directories where this terminal is registered, the best where they differ;
    /// UDP as long as there are none. Whether something better than TCP works here can be guessed from it.
    pub fn reached_over(&self) -> RelayTransport {
        self.client.status.borrow().reached_over
    }

    /// Tickets for the media relays of the directories where this terminal is registered, each with the time that is left
    /// to it: asked for at registration, renewed at half their life, and good although the connection is lost.
    pub fn relay_tickets(&self) -> Vec<(TerminalId, RelayTicket)> {
        self.held_tickets.good(Instant::now())
    }

    /// A ticket for the media relay of somebody else's directory, which is at one of these addresses, for one call. Connects with
    /// that directory; a ticket that is held for it already is as good. Relays at private addresses are left out where those are
    /// not for use.
    ///
    /// # Errors
    /// A [`RelayError`], after 5 seconds at most.
    pub async fn relay_ticket(
        &self,
        directory: &[NodeAddr],
        claim: GuestClaim,
    ) -> Result<RelayTicket, RelayError> {
        credentials::fetch(&self.client, &self.held_tickets, directory, claim).await
    }

    /// For single steps.
    #[cfg(test)]
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Where this node answers STUN requests, if it does.
    pub fn stun_addr(&self) -> Option<SocketAddr> {
        self.stun.as_ref().map(|stun| stun.addr)
    }

    /// Where a [`Front`](super::Front) brings connections, if [`NetConfig::front`] says that there is one; closed
    /// otherwise.
    pub fn entrance(&self) -> Entrance {
        self.entrance.clone()
    }

    /// A snapshot of everything.
    pub fn status(&self) -> NetStatus {
        self.client.status.borrow().clone()
    }

    /// Whether it has not been shut down.
    pub fn is_running(&self) -> bool {
        !self.client.commands.is_closed()
    }

    /// The snapshot as it changes.
    pub fn watch(&self) -> watch::Receiver<NetStatus> {
        self.client.status.clone()
    }

    /// Counters in the OpenMetrics text format.
    pub fn metrics(&self) -> String {
        self.metrics.text()
    }

    /// Tells among its counters what the mailboxes of this directory hold.
    pub fn tell_mail(&self, held: MailGauges) {
        self.metrics.tell_mail(&held);
    }

    /// Tells a relay's counters among its own. Once for each.
    pub fn tell_counters_of(&self, relay: &Relay) {
        self.metrics.extend(|registry| relay.metrics().register(registry));
    }

    /// Closes every connection and finishes writing. Idempotent.
    pub async fn shutdown(&self) {
        let (done, stopped) = oneshot::channel();
        if self.client.commands.send(Command::Shutdown(done)).await.is_ok() {
            // A driver that was stopping already drops the sender.
            let _ = stopped.await;
        }
    }
}

/// Encodes own records. [`record::check`] leaves out terminals that are not valid at this time, which others can live
/// with; a terminal that published itself without its own record would believe that it can be called.
fn encode(key: &RecordKey, set: &RecordSet) -> Result<Vec<u8>, PublishError> {
    let bytes = set.encode();
    let checked = record::check(key, &bytes, wall_clock()).map_err(PublishError::Invalid)?;
    if checked.terminals.len() < set.terminals.len() { Err(PublishError::Untimely) } else { Ok(bytes) }
}

async fn open(config: &NetConfig) -> Result<(Option<Disk>, Loaded), NetError> {
    match &config.data {
        Some(dir) => {
            let (disk, loaded) = Disk::open(dir).await?;
            Ok((Some(disk), loaded))
        }
        None => Ok((None, Loaded::default())),
    }
}

/// The store. Checking what was on disk would hold everything else up.
async fn records(
    config: &NetConfig,
    verdicts: &Verdicts,
    disk: &Option<Disk>,
    loaded: Loaded,
) -> Result<Records, NetError> {
    let (limits, verdicts, disk) = (config.limits.clone(), verdicts.clone(), disk.clone());
    let load = move || Records::new(&limits, verdicts, disk, loaded);
    tokio::task::spawn_blocking(load).await.map_err(|_| NetError::Store(sqlx::Error::WorkerCrashed))
}

/// Peers of earlier runs, whether the user chose them, and where else they are.
fn remembered(loaded: &Loaded) -> (Vec<(Multiaddr, bool)>, Known) {
    let (mut peers, mut known) = (Vec::new(), Known::default());
    for met in &loaded.peers {
        let Ok(addr) = met.addr.parse() else { continue };
        if let Some(peer) = addr::last_peer(&addr) {
            known.learn(peer, met.others.iter().filter_map(|addr| addr.parse().ok()).collect());
        }
        peers.push((addr, met.chosen));
    }
    (peers, known)
}

/// Private addresses are for networks in which nothing public is known. Those that are configured are used anyway.
fn private(config: &NetConfig, configured: &[Multiaddr], remembered: &[(Multiaddr, bool)]) -> Private {
    let public = configured.iter().chain(remembered.iter().map(|(addr, _)| addr)).any(addr::is_public);
    Private::new(config.allow_private.unwrap_or(!public), configured)
}

fn parse_all(addrs: &[NodeAddr]) -> Result<Vec<Multiaddr>, NetError> {
    let parse =
        |addr: &NodeAddr| addr::parse(addr).map_err(|error| NetError::Addr { addr: addr.clone(), error });
    addrs.iter().map(parse).collect()
}

/// The entry points, each with a peer to expect, or a `dnsaddr` that names it.
fn entry_points(config: &NetConfig) -> Result<Vec<(NodeAddr, Multiaddr)>, NetError> {
    let parsed = parse_all(&config.entry)?;
    let mut entry = Vec::new();
    for (name, addr) in config.entry.iter().zip(parsed) {
        let error = match addr::last_peer(&addr) {
            Some(peer) if addr::terminal_of(&peer).is_none() => Some(AddrError::KeyType),
            Some(_) => None,
            None if name.as_str().starts_with("/dnsaddr/") => None,
            None => Some(AddrError::NoPeer),
        };
        if let Some(error) = error {
            return Err(NetError::Addr { addr: name.clone(), error });
        }
        entry.push((name.clone(), addr));
    }
    Ok(entry)
}

/// Listens where told; otherwise wherever the host can, which may lack IPv6.
fn listen(config: &NetConfig, swarm: &mut libp2p::Swarm<behaviour::Behaviour>) -> Result<(), NetError> {
    for (addr, name) in parse_all(&config.listen)?.into_iter().zip(&config.listen) {
        swarm.listen_on(addr).map_err(|error| NetError::listen(name, &error))?;
    }
    if config.front.is_some() {
        swarm.listen_on(EntranceTransport::listener()).map_err(NetError::transport)?;
    }
    if config.listen.is_empty() {
        for addr in LISTEN {
            let parsed = addr.parse().map_err(NetError::transport)?;
            if let Err(error) = swarm.listen_on(parsed) {
                tracing::debug!(%error, addr, "cannot listen");
            }
        }
    }
    Ok(())
}
