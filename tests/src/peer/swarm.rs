//! The peer's own thread: a libp2p swarm that does what it is told.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::mpsc::Sender;
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::identity::Keypair;
use libp2p::kad::store::{MemoryStore, RecordStore};
use libp2p::request_response::{self, OutboundRequestId, ProtocolSupport};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, identify, kad};
use tokio::sync::mpsc::UnboundedReceiver;

use super::Flooded;
use super::messages::{Request, Response};

const SIGNAL: StreamProtocol = StreamProtocol::new("/offhook/signal/1");
const KAD: StreamProtocol = StreamProtocol::new("/offhook/kad/1");
/// Requests of a flood under way at a time.
const IN_FLIGHT: u64 = 100;
/// What it reads of an answer at most.
const LONGEST: u64 = 256 * 1024;

/// Where an answer goes.
pub(super) type Reply<T> = Sender<Result<T, String>>;

/// What kind of peer.
pub(super) struct Spec {
    pub seed: u8,
    pub server: bool,
    pub port: u16,
}

/// What a test tells it to do.
pub(super) enum Command {
    Connect { address: Multiaddr, reply: Reply<PeerId> },
    Request { to: PeerId, bytes: Vec<u8>, reply: Reply<Vec<u8>> },
    Flood { to: PeerId, requests: Vec<Vec<u8>>, count: u64, reply: Sender<Flooded> },
    Put { key: [u8; 32], value: Vec<u8>, to: PeerId, reply: Reply<()> },
    Get { key: [u8; 32], reply: Reply<Vec<Vec<u8>>> },
    Closest { key: [u8; 32], reply: Reply<Vec<(PeerId, Vec<Multiaddr>)>> },
    Serve { key: [u8; 32], value: Vec<u8> },
    TimesAsked { reply: Reply<u64> },
    AddressesSeen { reply: Reply<Vec<String>> },
}

/// Whatever bytes; one request and one answer per stream.
#[derive(Clone, Default)]
struct Bytes;

impl request_response::Codec for Bytes {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        read(io).await
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        read(io).await
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()> {
        io.write_all(&bytes).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()> {
        io.write_all(&bytes).await
    }
}

async fn read<T: AsyncRead + Unpin + Send>(io: &mut T) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io.take(LONGEST).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    kad: kad::Behaviour<MemoryStore>,
    signal: request_response::Behaviour<Bytes>,
}

/// Runs until the test drops its end.
pub(super) fn run(
    spec: &Spec,
    ip: Ipv4Addr,
    inbox: UnboundedReceiver<Command>,
    ready: &Sender<Result<(PeerId, String), String>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(error.to_string()))),
    };
    runtime.block_on(async {
        match swarm(spec, ip) {
            Ok(swarm) => Loop::new(swarm, spec.server).run(inbox, ready).await,
            Err(error) => drop(ready.send(Err(error))),
        }
    });
}

fn swarm(spec: &Spec, ip: Ipv4Addr) -> Result<Swarm<Behaviour>, String> {
    let key = Keypair::ed25519_from_bytes([spec.seed; 32]).map_err(|error| error.to_string())?;
    let server = spec.server;
    let mut swarm = libp2p::SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_quic()
        .with_behaviour(|key| {
            let id = key.public().to_peer_id();
            let mut config = kad::Config::new(KAD);
            config.set_query_timeout(Duration::from_secs(10));
            let mut kad = kad::Behaviour::with_config(id, MemoryStore::new(id), config);
            kad.set_mode(Some(if server { kad::Mode::Server } else { kad::Mode::Client }));
            let identify = identify::Config::new("offhook/1".to_owned(), key.public());
            let signal =
                request_response::Config::default().with_max_concurrent_streams(4 * IN_FLIGHT as usize);
            Behaviour {
                identify: identify::Behaviour::new(identify),
                kad,
                signal: request_response::Behaviour::with_codec(
                    Bytes,
                    [(SIGNAL, ProtocolSupport::Full)],
                    signal,
                ),
            }
        })
        .map_err(|error| error.to_string())?
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(120)))
        .build();
    let listen = format!("/ip4/{ip}/udp/{}/quic-v1", spec.port);
    let listen: Multiaddr = listen.parse().map_err(|_| format!("{listen} is no address"))?;
    swarm.listen_on(listen).map_err(|error| error.to_string())?;
    Ok(swarm)
}

/// A flood under way.
struct Flood {
    to: PeerId,
    requests: Vec<Vec<u8>>,
    to_send: u64,
    result: Flooded,
    total: u64,
    reply: Sender<Flooded>,
}

/// Who waits for what a DHT query finds.
enum Query {
    Put(Reply<()>),
    Get(Reply<Vec<Vec<u8>>>, Vec<Vec<u8>>),
    Closest(Reply<Vec<(PeerId, Vec<Multiaddr>)>>, Vec<(PeerId, Vec<Multiaddr>)>),
}

struct Loop {
    swarm: Swarm<Behaviour>,
    server: bool,
    connecting: HashMap<PeerId, Vec<Reply<PeerId>>>,
    requests: HashMap<OutboundRequestId, Reply<Vec<u8>>>,
    queries: HashMap<kad::QueryId, Query>,
    flood: Option<Flood>,
    served: HashMap<[u8; 32], Vec<u8>>,
    asked: u64,
    seen: Vec<String>,
}

impl Loop {
    fn new(swarm: Swarm<Behaviour>, server: bool) -> Self {
        Self {
            swarm,
            server,
            connecting: HashMap::new(),
            requests: HashMap::new(),
            queries: HashMap::new(),
            flood: None,
            served: HashMap::new(),
            asked: 0,
            seen: Vec::new(),
        }
    }

    async fn run(
        mut self,
        mut inbox: UnboundedReceiver<Command>,
        ready: &Sender<Result<(PeerId, String), String>>,
    ) {
        loop {
            tokio::select! {
                command = inbox.recv() => match command {
                    Some(command) => self.command(command),
                    None => return,
                },
                event = self.swarm.select_next_some() => self.event(event, ready),
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Connect { address, reply } => self.connect(address, reply),
            Command::Request { to, bytes, reply } => {
                let id = self.swarm.behaviour_mut().signal.send_request(&to, bytes);
                self.requests.insert(id, reply);
            }
            Command::Flood { to, requests, count, reply } => {
                let result = Flooded::default();
                self.flood = Some(Flood { to, requests, to_send: count, result, total: count, reply });
                for _ in 0..IN_FLIGHT {
                    self.send_more();
                }
            }
            Command::Put { key, value, to, reply } => {
                let record = kad::Record::new(key.to_vec(), value);
                let kad = &mut self.swarm.behaviour_mut().kad;
                let query = kad.put_record_to(record, [to].into_iter(), kad::Quorum::One);
                self.queries.insert(query, Query::Put(reply));
            }
            Command::Get { key, reply } => {
                let query = self.swarm.behaviour_mut().kad.get_record(key.to_vec().into());
                self.queries.insert(query, Query::Get(reply, Vec::new()));
            }
            Command::Closest { key, reply } => {
                let query = self.swarm.behaviour_mut().kad.get_closest_peers(key.to_vec());
                self.queries.insert(query, Query::Closest(reply, Vec::new()));
            }
            Command::Serve { key, value } => self.serve(key, value),
            Command::TimesAsked { reply } => drop(reply.send(Ok(self.asked))),
            Command::AddressesSeen { reply } => drop(reply.send(Ok(self.seen.clone()))),
        }
    }

    fn connect(&mut self, address: Multiaddr, reply: Reply<PeerId>) {
        let peer = address.iter().find_map(|part| match part {
            libp2p::multiaddr::Protocol::P2p(peer) => Some(peer),
            _ => None,
        });
        let Some(peer) = peer else { return drop(reply.send(Err(format!("{address} names no peer")))) };
        self.swarm.behaviour_mut().kad.add_address(&peer, address.clone());
        if self.swarm.is_connected(&peer) {
            return drop(reply.send(Ok(peer)));
        }
        match self.swarm.dial(address) {
            Ok(()) => self.connecting.entry(peer).or_default().push(reply),
            Err(error) => drop(reply.send(Err(error.to_string()))),
        }
    }

    fn serve(&mut self, key: [u8; 32], value: Vec<u8>) {
        let record = kad::Record::new(key.to_vec(), value.clone());
        // The store's limits are far away; a refusal would show as a question answered by nobody.
        let _ = self.swarm.behaviour_mut().kad.store_mut().put(record);
        self.served.insert(key, value);
    }

    fn send_more(&mut self) {
        let Some(flood) = &mut self.flood else { return };
        if flood.to_send == 0 {
            return;
        }
        flood.to_send -= 1;
        let index = flood.to_send as usize % flood.requests.len().max(1);
        let bytes = flood.requests.get(index).cloned().unwrap_or_default();
        self.swarm.behaviour_mut().signal.send_request(&flood.to, bytes);
    }

    fn event(&mut self, event: SwarmEvent<BehaviourEvent>, ready: &Sender<Result<(PeerId, String), String>>) {
        match event {
            SwarmEvent::NewListenAddr { address, .. } => {
                self.swarm.add_external_address(address.clone());
                let id = *self.swarm.local_peer_id();
                // Nobody waits a second time.
                let _ = ready.send(Ok((id, format!("{address}/p2p/{id}"))));
            }
            SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                for reply in self.connecting.remove(&peer_id).unwrap_or_default() {
                    let _ = reply.send(Ok(peer_id));
                }
                if self.server {
                    // It asks for its own key, so that its neighbours learn of it. Fails only without any peer.
                    let _ = self.swarm.behaviour_mut().kad.bootstrap();
                }
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => {
                for reply in self.connecting.remove(&peer).unwrap_or_default() {
                    let _ = reply.send(Err(error.to_string()));
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Signal(event)) => self.signal(event),
            SwarmEvent::Behaviour(BehaviourEvent::Kad(event)) => self.kad(event),
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received {
                info,
                peer_id,
                ..
            })) => {
                self.seen.extend(info.listen_addrs.iter().map(|address| format!("{peer_id} {address}")));
            }
            _ => {}
        }
    }

    fn signal(&mut self, event: request_response::Event<Vec<u8>, Vec<u8>>) {
        match event {
            request_response::Event::Message { message, .. } => match message {
                request_response::Message::Request { request, channel, .. } => {
                    if let Some(answer) = self.answer(&request) {
                        // The other end may have given up.
                        let _ = self.swarm.behaviour_mut().signal.send_response(channel, answer);
                    }
                }
                request_response::Message::Response { request_id, response } => {
                    self.over(request_id, Ok(response));
                }
            },
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                self.over(request_id, Err(error.to_string()));
            }
            request_response::Event::InboundFailure { .. } | request_response::Event::ResponseSent { .. } => {
            }
        }
    }

    fn over(&mut self, id: OutboundRequestId, result: Result<Vec<u8>, String>) {
        if let Some(reply) = self.requests.remove(&id) {
            return drop(reply.send(result));
        }
        let Some(flood) = &mut self.flood else { return };
        match result {
            Ok(_) => flood.result.answered += 1,
            Err(_) => flood.result.failed += 1,
        }
        if flood.result.answered + flood.result.failed == flood.total {
            let _ = flood.reply.send(flood.result);
            self.flood = None;
        } else {
            self.send_more();
        }
    }

    fn answer(&mut self, request: &[u8]) -> Option<Vec<u8>> {
        let response = match Request::decode(request)? {
            Request::Hello | Request::Register { .. } => {
                Response::Welcome { stun: Vec::new(), stun_port: None, observed: None }
            }
            Request::Find { key } => {
                self.asked += 1;
                Response::Found { set: self.served.get(&key).cloned(), since: None }
            }
            Request::Store { .. } => Response::Stored,
            Request::Forward { .. } | Request::Deliver { .. } => Response::NotConnected,
        };
        Some(response.encode())
    }

    fn kad(&mut self, event: kad::Event) {
        match event {
            kad::Event::InboundRequest { request: kad::InboundRequest::GetRecord { .. } } => self.asked += 1,
            kad::Event::RoutingUpdated { peer, addresses, .. } => {
                self.seen.extend(addresses.iter().map(|address| format!("{peer} {address}")));
            }
            kad::Event::RoutablePeer { peer, address }
            | kad::Event::PendingRoutablePeer { peer, address } => {
                self.seen.push(format!("{peer} {address}"));
            }
            kad::Event::OutboundQueryProgressed { id, result, step, .. } => {
                self.progress(id, result, step.last)
            }
            _ => {}
        }
    }

    fn progress(&mut self, id: kad::QueryId, result: kad::QueryResult, last: bool) {
        let Some(query) = self.queries.get_mut(&id) else { return };
        match (query, result) {
            (Query::Put(reply), kad::QueryResult::PutRecord(result)) => {
                let _ = reply.send(result.map(drop).map_err(|error| error.to_string()));
            }
            (
                Query::Get(_, found),
                kad::QueryResult::GetRecord(Ok(kad::GetRecordOk::FoundRecord(record))),
            ) => {
                found.push(record.record.value);
            }
            (Query::Closest(_, found), kad::QueryResult::GetClosestPeers(Ok(closest))) => {
                let peers = closest.peers.into_iter().map(|peer| (peer.peer_id, peer.addrs));
                found.extend(peers);
                self.seen.extend(
                    found
                        .iter()
                        .flat_map(|(peer, addrs)| addrs.iter().map(move |addr| format!("{peer} {addr}"))),
                );
            }
            (Query::Put(_) | Query::Get(..) | Query::Closest(..), _) => {}
        }
        if last {
            match self.queries.remove(&id) {
                Some(Query::Get(reply, found)) => drop(reply.send(Ok(found))),
                Some(Query::Closest(reply, found)) => drop(reply.send(Ok(found))),
                Some(Query::Put(_)) | None => {}
            }
        }
    }
}
