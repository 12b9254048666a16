//! A node that speaks the real messages and answers as a test tells it to.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, identify, kad};
use offhook::proto::number::{NodeAddr, RecordKey};
use offhook::proto::service::{Request, Response};
use offhook::proto::wire;
use tokio::sync::{mpsc, oneshot};

use crate::common::PATIENCE;

/// What to do with a request.
pub enum Act {
    Say(Response),
    /// Never answer.
    Hold,
    /// Close all connections with who asks.
    HangUp,
}

pub type Script = Box<dyn FnMut(&Request) -> Act + Send>;

#[derive(Clone)]
struct Codec;

impl request_response::Codec for Codec {
    type Protocol = StreamProtocol;
    type Request = Request;
    type Response = Response;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Request> {
        decode(io).await
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Response> {
        decode(io).await
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Request,
    ) -> io::Result<()> {
        io.write_all(&wire::encode(&request)).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        response: Response,
    ) -> io::Result<()> {
        io.write_all(&wire::encode(&response)).await
    }
}

async fn decode<M, T>(io: &mut T) -> io::Result<M>
where
    M: for<'b> minicbor::Decode<'b, ()>,
    T: AsyncRead + Unpin + Send,
{
    let mut bytes = Vec::new();
    io.take(65_536).read_to_end(&mut bytes).await?;
    wire::decode(&bytes, 65_536).map_err(|_| io::ErrorKind::InvalidData.into())
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    kad: kad::Behaviour<kad::store::MemoryStore>,
    signal: request_response::Behaviour<Codec>,
}

/// What it has seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// The other ends of all connections.
    pub remotes: Vec<(PeerId, Multiaddr)>,
    /// Questions for records, and records, by Kademlia.
    pub gets: usize,
    pub puts: usize,
    /// Requests by signalling.
    pub requests: Vec<Request>,
}

enum Command {
    Dial(Multiaddr, oneshot::Sender<PeerId>),
    Ask(PeerId, Box<Request>, oneshot::Sender<Option<Response>>),
}

/// A running liar. Gone when dropped.
pub struct Liar {
    pub addr: NodeAddr,
    pub seen: Arc<Mutex<Seen>>,
    commands: mpsc::UnboundedSender<Command>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How a liar is started.
pub struct Plan {
    pub seed: [u8; 32],
    pub script: Script,
    /// What it serves by Kademlia.
    pub records: Vec<(RecordKey, Vec<u8>)>,
    /// Nodes that it recommends as being close to everything.
    pub recommended: Vec<(PeerId, Multiaddr)>,
}

impl Plan {
    /// A server of the DHT that does nothing else.
    pub fn new(seed: [u8; 32]) -> Self {
        let script = Box::new(|request: &Request| match request {
            Request::Hello | Request::Register { .. } => Act::Say(welcome()),
            Request::Find { .. } => Act::Say(Response::Found { set: None, since: None }),
            Request::Forward { .. }
            | Request::Deliver { .. }
            | Request::Store { .. }
            | Request::Seek { .. }
            | Request::Publish { .. }
            | Request::Relay { .. }
            | Request::KnockWanted { .. }
            | Request::KnockAt { .. }
            | Request::Knock { .. } => Act::Say(Response::Busy),
        });
        Self { seed, script, records: Vec::new(), recommended: Vec::new() }
    }
}

pub fn welcome() -> Response {
    Response::Welcome { stun: Vec::new(), stun_port: None, observed: None, others: Vec::new() }
}

impl Liar {
    pub async fn start(plan: Plan) -> Self {
        let mut swarm = swarm(plan.seed);
        for (key, value) in plan.records {
            let record = kad::Record::new(key.0.to_vec(), value);
            kad::store::RecordStore::put(swarm.behaviour_mut().kad.store_mut(), record).unwrap();
        }
        for (peer, addr) in plan.recommended {
            swarm.behaviour_mut().kad.add_address(&peer, addr);
        }
        swarm.listen_on("/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()).unwrap();
        let addr = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        swarm.add_external_address(addr.clone());
        let peer = *swarm.local_peer_id();
        let addr = format!("{addr}/p2p/{peer}").parse().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (commands, inbox) = mpsc::unbounded_channel();
        let task = tokio::spawn(run(swarm, plan.script, seen.clone(), inbox));
        Self { addr, seen, commands, task }
    }

    /// Connects with a node.
    pub async fn meet(&self, addr: &NodeAddr) -> PeerId {
        let (reply, met) = oneshot::channel();
        let _ = self.commands.send(Command::Dial(addr.as_str().parse().unwrap(), reply));
        tokio::time::timeout(PATIENCE, met).await.expect("a connection").unwrap()
    }

    /// Sends requests all at once; `None` for each that has no answer.
    pub async fn ask_all(&self, peer: PeerId, requests: Vec<Request>) -> Vec<Option<Response>> {
        let ask = |request| {
            let (reply, answer) = oneshot::channel();
            let _ = self.commands.send(Command::Ask(peer, Box::new(request), reply));
            async { answer.await.unwrap() }
        };
        let all = futures::future::join_all(requests.into_iter().map(ask));
        tokio::time::timeout(PATIENCE, all).await.expect("answers")
    }

    /// Waits until it has seen something.
    pub async fn until(&self, what: &str, mut condition: impl FnMut(&Seen) -> bool) {
        let wait = async {
            while !condition(&self.seen.lock().unwrap()) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let seen = tokio::time::timeout(PATIENCE, wait).await;
        seen.unwrap_or_else(|_| panic!("waited in vain: {what}: {:?}", self.seen.lock().unwrap()));
    }
}

fn swarm(seed: [u8; 32]) -> Swarm<Behaviour> {
    let key = libp2p::identity::Keypair::ed25519_from_bytes(seed).unwrap();
    SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_quic()
        .with_behaviour(|key| {
            let id = key.public().to_peer_id();
            let config = kad::Config::new(StreamProtocol::new("/offhook/kad/1"));
            let mut kad = kad::Behaviour::with_config(id, kad::store::MemoryStore::new(id), config);
            kad.set_mode(Some(kad::Mode::Server));
            let protocols = [(StreamProtocol::new("/offhook/signal/1"), ProtocolSupport::Full)];
            let config = request_response::Config::default().with_max_concurrent_streams(1_000);
            Behaviour {
                identify: identify::Behaviour::new(identify::Config::new("x".to_owned(), key.public())),
                kad,
                signal: request_response::Behaviour::with_codec(Codec, protocols, config),
            }
        })
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
        .build()
}

async fn run(
    mut swarm: Swarm<Behaviour>,
    mut script: Script,
    seen: Arc<Mutex<Seen>>,
    mut inbox: mpsc::UnboundedReceiver<Command>,
) {
    let (mut dialled, mut asked, mut held) = (Vec::new(), std::collections::HashMap::new(), Vec::new());
    loop {
        tokio::select! {
            Some(command) = inbox.recv() => match command {
                Command::Dial(addr, reply) => {
                    swarm.dial(addr).unwrap();
                    dialled.push(reply);
                }
                Command::Ask(peer, request, reply) => {
                    asked.insert(swarm.behaviour_mut().signal.send_request(&peer, *request), reply);
                }
            },
            event = swarm.select_next_some() => match event {
                SwarmEvent::ConnectionEstablished { peer_id, endpoint, .. } => {
                    let remote = endpoint.get_remote_address().clone();
                    seen.lock().unwrap().remotes.push((peer_id, remote));
                    if endpoint.is_dialer() && !dialled.is_empty() {
                        let _ = dialled.remove(0).send(peer_id);
                    }
                }
                SwarmEvent::Behaviour(BehaviourEvent::Kad(kad::Event::InboundRequest { request })) => {
                    let mut seen = seen.lock().unwrap();
                    match request {
                        kad::InboundRequest::GetRecord { .. } => seen.gets += 1,
                        kad::InboundRequest::PutRecord { .. } => seen.puts += 1,
                        _ => {}
                    }
                }
                SwarmEvent::Behaviour(BehaviourEvent::Signal(request_response::Event::Message {
                    peer,
                    message,
                    ..
                })) => match message {
                    request_response::Message::Request { request, channel, .. } => {
                        match script(&request) {
                            Act::Say(response) => {
                                let _ = swarm.behaviour_mut().signal.send_response(channel, response);
                            }
                            Act::Hold => held.push(channel),
                            Act::HangUp => {
                                let _ = swarm.disconnect_peer_id(peer);
                            }
                        }
                        seen.lock().unwrap().requests.push(request);
                    }
                    request_response::Message::Response { request_id, response } => {
                        let _ = asked.remove(&request_id).unwrap().send(Some(response));
                    }
                },
                SwarmEvent::Behaviour(BehaviourEvent::Signal(
                    request_response::Event::OutboundFailure { request_id, .. },
                )) => {
                    let _ = asked.remove(&request_id).unwrap().send(None);
                }
                _ => {}
            },
        }
    }
}

/// The seed, of so many, whose node would lie closest to a key.
pub fn mined(key: RecordKey, tries: u32) -> [u8; 32] {
    let target = kad::KBucketKey::new(kad::RecordKey::new(&key.0));
    let seed = |n: u32| {
        let mut seed = [0xee; 32];
        seed[..4].copy_from_slice(&n.to_be_bytes());
        seed
    };
    let distance = |n: &u32| {
        let keypair = libp2p::identity::Keypair::ed25519_from_bytes(seed(*n)).unwrap();
        kad::KBucketKey::from(keypair.public().to_peer_id()).distance(&target)
    };
    seed((0..tries).min_by_key(distance).unwrap())
}
