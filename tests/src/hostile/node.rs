//! A libp2p node that sends whatever it is told to and notes whatever it gets.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use libp2p::identity::Keypair;
use libp2p::kad as kademlia;
use libp2p::{Multiaddr, PeerId};
use offhook_proto::service::Response;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::driver::{self, Command, FloodPlan};
use super::evidence::Evidence;
use super::stream::Outgoing;
use super::wire::{self, KadMessage, KadPeer, kad};
use crate::lab::{Host, LabError};

/// How long any one thing may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What failed at the hostile end.
#[derive(Debug, thiserror::Error)]
pub enum HostileError {
    /// The node could not be built.
    #[error("hostile node: {0}")]
    Start(String),
    /// The lab.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The other end refused, broke off or said nothing.
    #[error("no answer: {0}")]
    NoAnswer(String),
}

/// Which protocol's streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Signalling.
    Signal,
    /// The DHT.
    Kad,
}

/// How a node answers. `None`: as an honest node would that has what is [served](Node::serve).
pub type Manner = Arc<dyn Fn(Protocol, &[u8]) -> Option<Outgoing> + Send + Sync>;

/// A machine full of hostile nodes, on a host of a lab or on loopback.
pub struct Gang {
    runtime: Option<Runtime>,
    address: IpAddr,
}

impl fmt::Debug for Gang {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gang({})", self.address)
    }
}

impl Gang {
    /// A machine without nodes. On a lab's host its threads, and so all its sockets, are in that host's network.
    ///
    /// # Errors
    /// When the host's network can't be entered.
    pub fn new(host: Option<&Host>) -> Result<Self, HostileError> {
        let build = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = match host {
            Some(host) => host.run(build)?,
            None => build(),
        };
        let runtime = runtime.map_err(|error| HostileError::Start(error.to_string()))?;
        let address = host.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), Host::address);
        Ok(Self { runtime: Some(runtime), address })
    }

    /// A machine at another address of loopback (127.0.0.0/8): to whoever looks at addresses, somebody else's.
    ///
    /// # Errors
    /// As [`Gang::new`].
    pub fn at(address: Ipv4Addr) -> Result<Self, HostileError> {
        let mut gang = Self::new(None)?;
        gang.address = address.into();
        Ok(gang)
    }

    /// A node with a key of its own.
    ///
    /// # Errors
    /// When it can't listen.
    pub fn node(&self) -> Result<Node, HostileError> {
        self.start(Keypair::generate_ed25519(), None, true)
    }

    /// A node that is no part of the DHT: it asks there, but nobody asks it.
    ///
    /// # Errors
    /// When it can't listen.
    pub fn client(&self) -> Result<Node, HostileError> {
        self.start(Keypair::generate_ed25519(), None, false)
    }

    /// The same with the key of this seed.
    ///
    /// # Errors
    /// When it can't listen.
    pub fn client_of(&self, seed: &[u8; 32]) -> Result<Node, HostileError> {
        self.start(key_of(seed)?, None, false)
    }

    /// A node with the key of this seed: that of a [`Person`](crate::people::Person)'s terminal, say.
    ///
    /// # Errors
    /// When it can't listen.
    pub fn node_of(&self, seed: &[u8; 32], manner: Option<Manner>) -> Result<Node, HostileError> {
        self.start(key_of(seed)?, manner, true)
    }

    fn start(&self, key: Keypair, manner: Option<Manner>, serves: bool) -> Result<Node, HostileError> {
        let Some(runtime) = &self.runtime else { return Err(HostileError::Start("stopped".to_owned())) };
        let peer = key.public().to_peer_id();
        let (evidence, served) = (Arc::new(Evidence::default()), Arc::new(Served::default()));
        let (commands, receiver) = mpsc::unbounded_channel();
        let plan = driver::Plan {
            key,
            address: self.address,
            manner,
            serves,
            evidence: Arc::clone(&evidence),
            served: Arc::clone(&served),
        };
        // On the runtime's own thread: that is where the sockets must be made.
        let started = runtime.block_on(runtime.spawn(driver::start(plan, receiver)));
        let addresses = started.map_err(|error| error.to_string()).flatten().map_err(HostileError::Start)?;
        let addresses = addresses.into_iter().map(|addr| format!("{addr}/p2p/{peer}")).collect();
        Ok(Node { peer, addresses, evidence, served, commands })
    }
}

/// The seed of the node that would lie closest to a key, of so many. Peer ids are free to make.
///
/// # Errors
/// When there is none to choose from.
pub fn seed_near(key: &[u8; 32], tries: u32) -> Result<[u8; 32], HostileError> {
    let target = kademlia::KBucketKey::new(kademlia::RecordKey::new(key));
    let mut closest = None;
    for n in 0..tries {
        let mut seed = [0x5a; 32];
        seed[..4].copy_from_slice(&n.to_be_bytes());
        let peer = key_of(&seed)?.public().to_peer_id();
        let distance = kademlia::KBucketKey::from(peer).distance(&target);
        if closest.is_none_or(|(least, _)| distance < least) {
            closest = Some((distance, seed));
        }
    }
    closest.map(|(_, seed)| seed).ok_or_else(|| HostileError::Start("no seed".to_owned()))
}

fn key_of(seed: &[u8; 32]) -> Result<Keypair, HostileError> {
    Keypair::ed25519_from_bytes(*seed).map_err(|error| HostileError::Start(error.to_string()))
}

impl Drop for Gang {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What a node serves when it plays the honest one.
#[derive(Debug, Default)]
pub(super) struct Served {
    pub(super) records: Mutex<HashMap<Vec<u8>, Vec<u8>>>,
    pub(super) peers: Mutex<Vec<KadPeer>>,
}

/// A hostile node. Gone when dropped.
#[derive(Debug)]
pub struct Node {
    /// Its peer id.
    pub peer: PeerId,
    /// Its multiaddrs, each ending in the peer id; QUIC first.
    pub addresses: Vec<String>,
    /// What it has learnt.
    pub evidence: Arc<Evidence>,
    served: Arc<Served>,
    commands: mpsc::UnboundedSender<Command>,
}

/// What came of a flood.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Messages that went out.
    pub sent: u64,
    /// Messages that were answered at all.
    pub answered: u64,
    /// The answers, by what they said.
    pub answers: HashMap<String, u64>,
    /// How long each answer took, ms.
    pub answered_ms: Vec<f64>,
    /// How long it took.
    pub took: Duration,
}

impl Tally {
    /// How many answers said this.
    pub fn of(&self, answer: &Response) -> u64 {
        self.answers.get(&format!("{answer:?}")).copied().unwrap_or(0)
    }

    /// Adds another flood's.
    pub fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.answered += other.answered;
        self.answered_ms.extend(&other.answered_ms);
        self.took = self.took.max(other.took);
        for (answer, count) in &other.answers {
            *self.answers.entry(answer.clone()).or_default() += count;
        }
    }
}

/// How far a flood is; ends it when told so.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) sent: AtomicU64,
    pub(super) stop: AtomicBool,
}

/// A flood under way.
#[derive(Debug)]
pub struct Flood {
    result: std::sync::mpsc::Receiver<Tally>,
    progress: Arc<Progress>,
    longest: Duration,
}

impl Flood {
    /// Messages that have gone out so far.
    pub fn sent(&self) -> u64 {
        self.progress.sent.load(Ordering::Relaxed)
    }

    /// Sends no more.
    pub fn stop(&self) {
        self.progress.stop.store(true, Ordering::Relaxed);
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end a while after its time.
    pub fn join(self) -> Result<Tally, HostileError> {
        let longest = self.longest + PATIENCE;
        self.result
            .recv_timeout(longest)
            .map_err(|_| HostileError::NoAnswer("the flood has not ended".to_owned()))
    }
}

impl Node {
    /// Serves this value to whoever asks for the key, by Kademlia or by signalling.
    pub fn serve(&self, key: &[u8; 32], value: &[u8]) {
        let mut records = self.served.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.insert(key.to_vec(), value.to_vec());
    }

    /// Names this node to whoever asks for the way.
    pub fn recommend(&self, other: &Node) {
        let addrs = other.addresses.iter().filter_map(|addr| addr.parse::<Multiaddr>().ok());
        let entry = KadPeer { id: other.peer.to_bytes(), addrs: addrs.map(|addr| addr.to_vec()).collect() };
        self.served.peers.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }

    /// The same for a node that is known by its address.
    ///
    /// # Errors
    /// When that is none, or says not whose.
    pub fn recommend_at(&self, address: &str) -> Result<(), HostileError> {
        let addr: Multiaddr =
            address.parse().map_err(|_| HostileError::Start(format!("{address}: no address")))?;
        let Some(libp2p::multiaddr::Protocol::P2p(peer)) = addr.iter().last() else {
            return Err(HostileError::Start(format!("{address}: no peer")));
        };
        let entry = KadPeer { id: peer.to_bytes(), addrs: vec![addr.to_vec()] };
        self.served.peers.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
        Ok(())
    }

    /// Connects; answers the other end's peer id.
    ///
    /// # Errors
    /// When it does not come about.
    pub fn connect(&self, addr: &str) -> Result<PeerId, HostileError> {
        let addr: Multiaddr =
            addr.parse().map_err(|_| HostileError::NoAnswer(format!("{addr}: no address")))?;
        self.command(|reply| Command::Connect { addr, reply })
    }

    /// Connects and waits for what the other end says of itself.
    ///
    /// # Errors
    /// When it says nothing.
    pub fn meet(&self, addr: &str) -> Result<PeerId, HostileError> {
        let peer = self.connect(addr)?;
        let met = self.evidence.wait(PATIENCE, |seen| {
            seen.identified.iter().any(|identified| identified.peer == peer).then_some(peer)
        });
        met.ok_or_else(|| HostileError::NoAnswer(format!("{peer} does not identify itself")))
    }

    /// Closes all connections to a peer.
    ///
    /// # Errors
    /// When there is none.
    pub fn disconnect(&self, peer: PeerId) -> Result<(), HostileError> {
        self.command(|reply| Command::Disconnect { peer, reply })
    }

    /// Sends any bytes on a stream of their own; answers what came back.
    ///
    /// # Errors
    /// When nothing did.
    pub fn send(&self, protocol: Protocol, to: PeerId, bytes: Outgoing) -> Result<Vec<u8>, HostileError> {
        self.command(|reply| Command::Send {
            protocol,
            to,
            bytes,
            reply: Box::new(move |r| drop(reply.send(r))),
        })
    }

    /// Sends any bytes, and never mind what comes back.
    pub fn throw(&self, protocol: Protocol, to: PeerId, bytes: Outgoing) {
        // A node that has stopped sends nothing.
        let _ = self.commands.send(Command::Send { protocol, to, bytes, reply: Box::new(|_| ()) });
    }

    /// A signalling request and its answer.
    ///
    /// # Errors
    /// When nothing came back, or no answer.
    pub fn ask(&self, to: PeerId, request: Vec<u8>) -> Result<Response, HostileError> {
        let bytes = self.send(Protocol::Signal, to, Outgoing::Whole(request))?;
        wire::response(&bytes).ok_or_else(|| HostileError::NoAnswer(format!("nonsense: {bytes:02x?}")))
    }

    /// The records that a node says it holds: by Kademlia and by signalling.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn held_by(
        &self,
        to: PeerId,
        key: &[u8; 32],
    ) -> Result<(Option<Vec<u8>>, Option<Vec<u8>>), HostileError> {
        let request = KadMessage::ask(kad::GET_VALUE, key).encode();
        let bytes = self.send(Protocol::Kad, to, Outgoing::Whole(request))?;
        let by_kad = KadMessage::read(&bytes).and_then(|message| message.value);
        match self.ask(to, wire::find(key))? {
            Response::Found { set, .. } => Ok((by_kad, set)),
            other @ (Response::Welcome { .. }
            | Response::Delivered
            | Response::NotConnected
            | Response::Stored
            | Response::Sought(_)
            | Response::Published { .. }
            | Response::Ticket(_)
            | Response::Knocking
            | Response::Refused { .. }
            | Response::Busy) => Err(HostileError::NoAnswer(format!("{other:?} to find"))),
        }
    }

    /// Puts a record to one node by Kademlia.
    ///
    /// # Errors
    /// When the node does not answer; its answer says nothing about what it thinks of the record.
    pub fn put(&self, to: PeerId, key: &[u8], value: &[u8]) -> Result<Vec<u8>, HostileError> {
        self.send(Protocol::Kad, to, Outgoing::Whole(KadMessage::put(key, value).encode()))
    }

    /// Asks a node for nodes close to a key: peer ids and their addresses.
    ///
    /// # Errors
    /// When the node does not answer.
    pub fn nodes_near(&self, to: PeerId, key: &[u8]) -> Result<Vec<(PeerId, Vec<Multiaddr>)>, HostileError> {
        let request = KadMessage::ask(kad::FIND_NODE, key).encode();
        let bytes = self.send(Protocol::Kad, to, Outgoing::Whole(request))?;
        let message =
            KadMessage::read(&bytes).ok_or_else(|| HostileError::NoAnswer("nonsense".to_owned()))?;
        let read = |peer: KadPeer| {
            let addrs = peer.addrs.into_iter().filter_map(|addr| Multiaddr::try_from(addr).ok()).collect();
            Some((PeerId::from_bytes(&peer.id).ok()?, addrs))
        };
        let nodes: Vec<(PeerId, Vec<Multiaddr>)> = message.closer.into_iter().filter_map(read).collect();
        self.evidence.add(|seen| {
            nodes.iter().flat_map(|(_, addrs)| addrs).for_each(|addr| seen.text(addr.to_string()));
        });
        Ok(nodes)
    }

    /// Sends `count` messages, at most `parallel` of them without an answer at a time, until `longest` has passed.
    pub fn flood(
        &self,
        protocol: Protocol,
        to: PeerId,
        (count, parallel, longest): (u64, usize, Duration),
        make: impl FnMut(u64) -> Outgoing + Send + 'static,
    ) -> Flood {
        let (reply, result) = sync_channel(1);
        let (began, progress) = (Instant::now(), Arc::new(Progress::default()));
        let plan = FloodPlan { protocol, to, count, parallel, began, end: began + longest };
        let shared = Arc::clone(&progress);
        let _ = self.commands.send(Command::Flood { plan, make: Box::new(make), progress: shared, reply });
        Flood { result, progress, longest }
    }

    fn command<T>(
        &self,
        make: impl FnOnce(SyncSender<Result<T, String>>) -> Command,
    ) -> Result<T, HostileError> {
        let (reply, result) = sync_channel(1);
        let gone = |_| HostileError::NoAnswer("the hostile node has stopped".to_owned());
        self.commands.send(make(reply)).map_err(|_| gone(()))?;
        match result.recv_timeout(PATIENCE) {
            Ok(answer) => answer.map_err(HostileError::NoAnswer),
            Err(error) => Err(HostileError::NoAnswer(error.to_string())),
        }
    }
}

/// Walks the DHT from some nodes: meets each one that it hears of and asks it for the ways to `keys`. Answers all
/// nodes met.
///
/// # Errors
/// When not even the first ones answer.
pub fn crawl(node: &Node, entries: &[String], keys: &[[u8; 32]]) -> Result<Vec<PeerId>, HostileError> {
    let mut met = Vec::new();
    let mut frontier: VecDeque<(PeerId, Vec<Multiaddr>)> = VecDeque::new();
    for entry in entries {
        let peer = node.meet(entry)?;
        frontier.push_back((peer, Vec::new()));
    }
    while let Some((peer, addrs)) = frontier.pop_front() {
        if met.contains(&peer) || peer == node.peer {
            continue;
        }
        let reached = addrs.is_empty()
            || addrs.iter().any(|addr| {
                let whole = addr.clone().with_p2p(peer).unwrap_or_else(|addr| addr);
                node.meet(&whole.to_string()).is_ok()
            });
        if !reached {
            continue;
        }
        met.push(peer);
        for key in keys {
            frontier.extend(node.nodes_near(peer, key)?);
        }
    }
    Ok(met)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn nodes_serve_lie_and_take_notes() {
        let gang = Gang::new(None).unwrap();
        let [server, client] = [gang.node().unwrap(), gang.node().unwrap()];
        server.serve(&[7; 32], b"a record");
        let peer = client.meet(&server.addresses[0]).unwrap();
        assert_eq!(peer, server.peer);
        let record = Some(b"a record".to_vec());
        assert_eq!(client.held_by(peer, &[7; 32]).unwrap(), (record.clone(), record));
        assert_eq!(client.held_by(peer, &[8; 32]).unwrap(), (None, None));
        assert!(client.put(peer, &[8; 32], b"mine").is_ok());
        assert_eq!(client.ask(peer, wire::deliver(b"blob")).unwrap(), Response::Delivered);
        let packet = server.evidence.wait(SOON, |seen| seen.packets.first().cloned()).unwrap();
        assert_eq!((packet.from, packet.blob), (client.peer, b"blob".to_vec()));
        assert!(!server.evidence.look().mentions(Ipv4Addr::LOCALHOST.into()).is_empty());
        client.disconnect(peer).unwrap();
    }

    #[test]
    fn manners_floods_and_crawls() {
        let gang = Gang::new(None).unwrap();
        let manner: Manner = Arc::new(|protocol, _| {
            (protocol == Protocol::Signal).then(|| Outgoing::Whole(b"nonsense".to_vec()))
        });
        let rude = gang.node_of(&[3; 32], Some(manner)).unwrap();
        let [middle, client] = [gang.node().unwrap(), gang.node().unwrap()];
        middle.recommend(&rude);
        let met = crawl(&client, &middle.addresses[1..], &[[1; 32], [2; 32]]).unwrap();
        assert_eq!(met, [middle.peer, rude.peer]);
        assert!(client.ask(rude.peer, wire::hello()).unwrap_err().to_string().contains("nonsense"));
        let flood = client.flood(Protocol::Signal, middle.peer, (500, 50, SOON), |n| {
            Outgoing::Whole(wire::deliver(&n.to_be_bytes()))
        });
        let tally = flood.join().unwrap();
        assert_eq!((tally.sent, tally.of(&Response::Delivered)), (500, 500), "{tally:?}");
        assert_eq!(middle.evidence.look().packets.len(), 500);
        let half = Outgoing::Half(wire::hello()[..1].to_vec());
        let flood =
            client.flood(Protocol::Signal, middle.peer, (3, 3, Duration::from_millis(300)), move |_| {
                half.clone()
            });
        assert_eq!(flood.join().unwrap().answered, 0, "half a message has no answer");
    }
}
