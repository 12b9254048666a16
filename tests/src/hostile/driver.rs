//! The task behind a hostile node.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::core::ConnectedPoint;
use libp2p::identity::Keypair;
use libp2p::request_response::{self, OutboundRequestId, ProtocolSupport};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, identify, noise, ping, relay, tcp, yamux};
use offhook_proto::service::{Refusal, Request, Response};
use offhook_proto::wire::encode;
use tokio::sync::mpsc;

use super::evidence::{Evidence, Identified};
use super::node::{Manner, Progress, Protocol, Served, Tally};
use super::stream::{Outgoing, Raw};
use super::wire::{self, KAD, KadMessage, SIGNAL, kad};

/// How long half a message is held open; longer than any honest node should bear.
const STREAM_TIME: Duration = Duration::from_secs(60);

/// Nodes named in an answer, as many as an honest one names.
const CLOSER: usize = 20;

type Answered<T> = SyncSender<Result<T, String>>;

/// What a node is told to do.
pub(super) enum Command {
    Connect {
        addr: Multiaddr,
        reply: Answered<PeerId>,
    },
    Disconnect {
        peer: PeerId,
        reply: Answered<()>,
    },
    Send {
        protocol: Protocol,
        to: PeerId,
        bytes: Outgoing,
        reply: Box<dyn FnOnce(Result<Vec<u8>, String>) + Send>,
    },
    Flood {
        plan: FloodPlan,
        make: Box<dyn FnMut(u64) -> Outgoing + Send>,
        progress: Arc<Progress>,
        reply: SyncSender<Tally>,
    },
}

/// What a flood is to be.
pub(super) struct FloodPlan {
    pub(super) protocol: Protocol,
    pub(super) to: PeerId,
    /// Messages in all.
    pub(super) count: u64,
    /// Messages without an answer at a time.
    pub(super) parallel: usize,
    pub(super) began: Instant,
    pub(super) end: Instant,
}

/// How a node is made.
pub(super) struct Plan {
    pub(super) key: Keypair,
    pub(super) address: IpAddr,
    pub(super) manner: Option<Manner>,
    /// Whether it is a node of the DHT, and not just asks there.
    pub(super) serves: bool,
    pub(super) evidence: Arc<Evidence>,
    pub(super) served: Arc<Served>,
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    signal: request_response::Behaviour<Raw>,
    kad: request_response::Behaviour<Raw>,
    relay: relay::client::Behaviour,
}

struct Driver {
    swarm: Swarm<Behaviour>,
    manner: Option<Manner>,
    evidence: Arc<Evidence>,
    served: Arc<Served>,
    connecting: HashMap<ConnectionId, Answered<PeerId>>,
    sent: HashMap<(bool, OutboundRequestId), Waiter>,
    floods: HashMap<u64, Inundation>,
    next_flood: u64,
}

enum Waiter {
    Test(Box<dyn FnOnce(Result<Vec<u8>, String>) + Send>),
    /// Of which flood, and when it went out.
    Flood(u64, Instant),
}

/// A flood and how far it is.
struct Inundation {
    plan: FloodPlan,
    open: usize,
    make: Box<dyn FnMut(u64) -> Outgoing + Send>,
    progress: Arc<Progress>,
    reply: SyncSender<Tally>,
    tally: Tally,
}

impl Inundation {
    /// Whether its time is over, or it was told to stop.
    fn is_stopped(&self, now: Instant) -> bool {
        now >= self.plan.end || self.progress.stop.load(Ordering::Relaxed)
    }

    /// Whether another message may go out.
    fn may_send(&self, now: Instant) -> bool {
        self.open < self.plan.parallel && self.tally.sent < self.plan.count && !self.is_stopped(now)
    }

    /// Whether there is nothing left to wait for.
    fn is_over(&self, now: Instant) -> bool {
        self.is_stopped(now) || (self.open == 0 && self.tally.sent >= self.plan.count)
    }
}

/// Starts a node; answers the addresses that it listens on, QUIC first.
pub(super) async fn start(
    plan: Plan,
    commands: mpsc::UnboundedReceiver<Command>,
) -> Result<Vec<Multiaddr>, String> {
    let mut swarm = swarm(plan.key, plan.serves).map_err(|error| error.to_string())?;
    let mut addresses = Vec::new();
    for listen in [format!("/ip4/{}/udp/0/quic-v1", plan.address), format!("/ip4/{}/tcp/0", plan.address)] {
        let listen: Multiaddr = listen.parse().map_err(|_| "no address".to_owned())?;
        swarm.listen_on(listen).map_err(|error| error.to_string())?;
        addresses.push(listening(&mut swarm).await);
    }
    for address in &addresses {
        swarm.add_external_address(address.clone());
    }
    let driver = Driver {
        swarm,
        manner: plan.manner,
        evidence: plan.evidence,
        served: plan.served,
        connecting: HashMap::new(),
        sent: HashMap::new(),
        floods: HashMap::new(),
        next_flood: 0,
    };
    tokio::spawn(driver.run(commands));
    Ok(addresses)
}

async fn listening(swarm: &mut Swarm<Behaviour>) -> Multiaddr {
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            return address;
        }
    }
}

fn swarm(key: Keypair, serves: bool) -> Result<Swarm<Behaviour>, Box<dyn std::error::Error>> {
    let raw = |name: &'static str, support: ProtocolSupport| {
        let config = request_response::Config::default()
            .with_request_timeout(STREAM_TIME)
            .with_max_concurrent_streams(4_096);
        let protocol = StreamProtocol::new(name);
        request_response::Behaviour::with_codec(Raw, [(protocol, support)], config)
    };
    let swarm = libp2p::SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)?
        .with_quic()
        .with_relay_client(noise::Config::new, yamux::Config::default)?
        .with_behaviour(|key, relay| Behaviour {
            identify: identify::Behaviour::new(identify::Config::new("offhook/1".to_owned(), key.public())),
            ping: ping::Behaviour::new(ping::Config::new()),
            signal: raw(SIGNAL, ProtocolSupport::Full),
            kad: raw(KAD, if serves { ProtocolSupport::Full } else { ProtocolSupport::Outbound }),
            relay,
        })?
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(600)))
        .build();
    Ok(swarm)
}

impl Driver {
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event),
                command = commands.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => return,
                },
                _ = tick.tick(), if !self.floods.is_empty() => self.end_floods(),
            }
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Connect { addr, reply } => self.connect(addr, reply),
            Command::Disconnect { peer, reply } => {
                let done = self.swarm.disconnect_peer_id(peer).map_err(|()| "not connected".to_owned());
                // The test may have given up waiting; so everywhere below.
                let _ = reply.send(done);
            }
            Command::Send { protocol, to, bytes, reply } => {
                self.send(protocol, to, bytes, Waiter::Test(reply))
            }
            Command::Flood { plan, make, progress, reply } => {
                let flood = Inundation { plan, open: 0, make, progress, reply, tally: Tally::default() };
                self.next_flood += 1;
                self.floods.insert(self.next_flood, flood);
                self.pour(self.next_flood);
            }
        }
    }

    fn connect(&mut self, addr: Multiaddr, reply: Answered<PeerId>) {
        let peer = match addr.iter().last() {
            Some(libp2p::multiaddr::Protocol::P2p(peer)) => Some(peer),
            Some(_) | None => None,
        };
        let options = match peer {
            Some(peer) => {
                DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(vec![addr]).build()
            }
            None => DialOpts::unknown_peer_id().address(addr).build(),
        };
        let connection = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => {
                self.connecting.insert(connection, reply);
            }
            Err(error) => {
                let _ = reply.send(Err(error.to_string()));
            }
        }
    }

    fn send(&mut self, protocol: Protocol, to: PeerId, bytes: Outgoing, waiter: Waiter) {
        let behaviour = self.swarm.behaviour_mut();
        let id = match protocol {
            Protocol::Signal => behaviour.signal.send_request(&to, bytes),
            Protocol::Kad => behaviour.kad.send_request(&to, bytes),
        };
        self.sent.insert((protocol == Protocol::Kad, id), waiter);
    }

    /// Sends as much of a flood as may be open.
    fn pour(&mut self, id: u64) {
        while let Some(flood) = self.floods.get_mut(&id) {
            if !flood.may_send(Instant::now()) {
                break;
            }
            let bytes = (flood.make)(flood.tally.sent);
            flood.tally.sent += 1;
            flood.progress.sent.store(flood.tally.sent, Ordering::Relaxed);
            flood.open += 1;
            let (protocol, to) = (flood.plan.protocol, flood.plan.to);
            self.send(protocol, to, bytes, Waiter::Flood(id, Instant::now()));
        }
    }

    /// Reports the floods that are over: answered to the end, out of time, or told to stop.
    fn end_floods(&mut self) {
        let now = Instant::now();
        for (_, mut flood) in self.floods.extract_if(|_, flood| flood.is_over(now)) {
            flood.tally.took = now - flood.plan.began;
            let _ = flood.reply.send(flood.tally);
        }
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Signal(event)) => self.on_message(Protocol::Signal, event),
            SwarmEvent::Behaviour(BehaviourEvent::Kad(event)) => self.on_message(Protocol::Kad, event),
            SwarmEvent::Behaviour(BehaviourEvent::Identify(event)) => self.on_identify(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                let (remote, accepted) = match endpoint {
                    ConnectedPoint::Dialer { address, .. } => (address, 0),
                    ConnectedPoint::Listener { send_back_addr, .. } => (send_back_addr, 1),
                };
                self.evidence.add(|seen| {
                    seen.connections.push((peer_id, remote.to_string()));
                    seen.accepted += accepted;
                });
                if let Some(reply) = self.connecting.remove(&connection_id) {
                    let _ = reply.send(Ok(peer_id));
                }
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                if let Some(reply) = self.connecting.remove(&connection_id) {
                    let _ = reply.send(Err(error.to_string()));
                }
            }
            SwarmEvent::NewExternalAddrOfPeer { address, .. } => {
                self.evidence.add(|seen| seen.text(address.to_string()));
            }
            // Of no interest; libp2p may add kinds of events.
            _ => {}
        }
    }

    fn on_identify(&mut self, event: identify::Event) {
        if let identify::Event::Received { peer_id, info, .. } = event {
            let listed = info.listen_addrs.iter().map(ToString::to_string).collect();
            let protocols = info.protocols.iter().map(ToString::to_string).collect();
            let signed = info.signed_peer_record.map(|record| record.into_protobuf_encoding());
            self.evidence.add(|seen| {
                seen.identified.push(Identified { peer: peer_id, listed, protocols });
                seen.payload(&signed.unwrap_or_default());
                seen.text(info.agent_version);
            });
        }
    }

    fn on_message(&mut self, protocol: Protocol, event: request_response::Event<Outgoing, Outgoing>) {
        use request_response::{Event, Message};
        match event {
            Event::Message {
                peer,
                message: Message::Request { request: Outgoing::Whole(bytes), channel, .. },
                ..
            } => {
                let answer = self.answer(protocol, peer, &bytes);
                let behaviour = self.swarm.behaviour_mut();
                let _ = match protocol {
                    Protocol::Signal => behaviour.signal.send_response(channel, answer),
                    Protocol::Kad => behaviour.kad.send_response(channel, answer),
                };
            }
            Event::Message {
                message: Message::Response { request_id, response: Outgoing::Whole(bytes) },
                ..
            } => self.on_answer(protocol, request_id, Ok(bytes)),
            Event::OutboundFailure { request_id, error, .. } => {
                self.on_answer(protocol, request_id, Err(error.to_string()));
            }
            // What is read is whole.
            Event::Message { .. } | Event::InboundFailure { .. } | Event::ResponseSent { .. } => {}
        }
    }

    fn on_answer(&mut self, protocol: Protocol, id: OutboundRequestId, result: Result<Vec<u8>, String>) {
        match self.sent.remove(&(protocol == Protocol::Kad, id)) {
            Some(Waiter::Test(reply)) => {
                if let Ok(bytes) = &result {
                    self.evidence.add(|seen| seen.payload(bytes));
                }
                reply(result);
            }
            Some(Waiter::Flood(id, at)) => {
                if let Some(flood) = self.floods.get_mut(&id) {
                    flood.open -= 1;
                    flood.tally.answered += u64::from(result.is_ok());
                    flood.tally.answered_ms.push(at.elapsed().as_secs_f64() * 1e3);
                    let said = match &result {
                        Ok(bytes) if protocol == Protocol::Signal => wire::response(bytes)
                            .map_or("nonsense".to_owned(), |answer| format!("{answer:?}")),
                        Ok(_) => "bytes".to_owned(),
                        Err(_) => "broken".to_owned(),
                    };
                    *flood.tally.answers.entry(said).or_default() += 1;
                }
                self.pour(id);
            }
            None => {}
        }
    }

    /// What the node answers: in its own manner, or as an honest one.
    fn answer(&mut self, protocol: Protocol, from: PeerId, bytes: &[u8]) -> Outgoing {
        self.note(protocol, from, bytes);
        if let Some(answer) = self.manner.as_ref().and_then(|manner| manner(protocol, bytes)) {
            return answer;
        }
        let record =
            |key: &[u8]| self.served.records.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        Outgoing::Whole(match protocol {
            Protocol::Signal => {
                let refused = Response::Refused { reason: Refusal::Invalid };
                let answer = wire::request(bytes).map(|request| wire::honest(&request, |key| record(key)));
                encode(&answer.unwrap_or(refused))
            }
            Protocol::Kad => {
                let mut message = KadMessage::read(bytes).unwrap_or_default();
                if message.kind != kad::PUT_VALUE {
                    let peers = self.served.peers.lock().unwrap_or_else(PoisonError::into_inner);
                    message.closer = peers.iter().take(CLOSER).cloned().collect();
                }
                if message.kind == kad::GET_VALUE {
                    message.value = record(&message.key);
                }
                message.encode()
            }
        })
    }

    fn note(&self, protocol: Protocol, from: PeerId, bytes: &[u8]) {
        self.evidence.add(|seen| {
            seen.payload(bytes);
            match protocol {
                Protocol::Signal => match wire::request(bytes) {
                    Some(Request::Forward { blob, .. } | Request::Deliver { blob, .. }) => {
                        seen.packet(from, blob);
                    }
                    Some(Request::Find { key } | Request::Seek { key, .. }) => seen.asked_for.push(key),
                    Some(
                        Request::Hello
                        | Request::Register { .. }
                        | Request::Store { .. }
                        | Request::Publish { .. }
                        | Request::Relay { .. }
                        | Request::KnockWanted { .. }
                        | Request::KnockAt { .. }
                        | Request::Knock { .. },
                    )
                    | None => {}
                },
                Protocol::Kad => {
                    let Some(message) = KadMessage::read(bytes) else { return };
                    let Ok(key) = message.key.try_into() else { return };
                    match message.kind {
                        kad::GET_VALUE => seen.asked_for.push(key),
                        kad::PUT_VALUE => seen.given.push(key),
                        _ => {}
                    }
                }
            }
        });
    }
}
