//! A peer without manners: speaks the network's protocols over plain libp2p, and says whatever a test tells it to.
//!
//! It shares no code with the product's network layer, only the published protocol (`docs/protocol.md`), so
//! it also shows that another implementation is possible.

mod messages;
mod person;
mod swarm;

pub use messages::{Refusal, Request, Response};
pub use person::Person;

use std::fmt;
use std::sync::mpsc as blocking;
use std::time::Duration;

use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;

use crate::lab::{Host, LabError};
use swarm::{Command, Reply, Spec};

/// How long the peer waits for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why the peer did not get what it asked for. Many tests expect that.
#[derive(thiserror::Error)]
pub enum PeerError {
    /// The network lab failed.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// It could not be started.
    #[error("the peer did not start: {0}")]
    Start(String),
    /// An address is not one.
    #[error("{0} is no multiaddr with a peer id")]
    Address(String),
    /// The other side refused, hung up or kept silent.
    #[error("refused or silent: {0}")]
    Refused(String),
}

impl fmt::Debug for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What came of a flood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flooded {
    /// Requests that were answered, whatever the answer.
    pub answered: u64,
    /// Requests that failed.
    pub failed: u64,
}

/// A running peer; it ends when dropped.
pub struct Peer {
    commands: mpsc::UnboundedSender<Command>,
    id: PeerId,
    address: String,
}

impl Peer {
    /// A peer that asks and answers only what it is told to, in the DHT's client mode.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn client(host: Option<&Host>, seed: u8) -> Result<Self, PeerError> {
        Self::start(host, Spec { seed, server: false, port: 0 })
    }

    /// A peer that offers itself as a DHT node, and serves whatever [`Peer::serve`] gave it.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn server(host: Option<&Host>, seed: u8) -> Result<Self, PeerError> {
        Self::start(host, Spec { seed, server: true, port: 0 })
    }

    fn start(host: Option<&Host>, spec: Spec) -> Result<Self, PeerError> {
        let (commands, inbox) = mpsc::unbounded_channel();
        let (ready, started) = blocking::channel();
        let ip = host.map_or(std::net::Ipv4Addr::LOCALHOST, Host::address);
        let task = move || swarm::run(&spec, ip, inbox, &ready);
        match host {
            Some(host) => drop(host.detach(task)?),
            None => drop(std::thread::spawn(task)),
        }
        let (id, address) = started
            .recv_timeout(PATIENCE)
            .map_err(|error| PeerError::Start(error.to_string()))?
            .map_err(PeerError::Start)?;
        Ok(Self { commands, id, address })
    }

    /// Its id.
    pub fn id(&self) -> PeerId {
        self.id
    }

    /// Its multiaddr, with its id.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Connects and, if this is a DHT server, makes itself known there.
    ///
    /// # Errors
    /// When no connection comes about.
    pub fn connect(&self, address: &str) -> Result<PeerId, PeerError> {
        let address: Multiaddr = address.parse().map_err(|_| PeerError::Address(address.to_owned()))?;
        self.ask(|reply| Command::Connect { address, reply })
    }

    /// Sends bytes as a signalling request and answers the bytes that came back.
    ///
    /// # Errors
    /// When nothing came back.
    pub fn raw(&self, to: PeerId, bytes: Vec<u8>) -> Result<Vec<u8>, PeerError> {
        self.ask(|reply| Command::Request { to, bytes, reply })
    }

    /// Sends a well-formed signalling request.
    ///
    /// # Errors
    /// When nothing came back, or nothing that can be understood.
    pub fn request(&self, to: PeerId, request: &Request) -> Result<Response, PeerError> {
        let bytes = self.raw(to, request.encode())?;
        Response::decode(&bytes)
            .ok_or_else(|| PeerError::Refused(format!("an answer of {} bytes", bytes.len())))
    }

    /// Sends the same requests again and again, many at a time.
    ///
    /// # Errors
    /// When the peer's own thread has ended.
    pub fn flood(&self, to: PeerId, requests: Vec<Vec<u8>>, count: u64) -> Result<Flooded, PeerError> {
        let (reply, answer) = blocking::channel();
        self.command(Command::Flood { to, requests, count, reply })?;
        answer.recv().map_err(|error| PeerError::Refused(error.to_string()))
    }

    /// Puts bytes under a key of the DHT, at one node.
    ///
    /// # Errors
    /// When the node did not acknowledge it. An acknowledgement does not mean that it is stored.
    pub fn put(&self, key: [u8; 32], value: Vec<u8>, to: PeerId) -> Result<(), PeerError> {
        self.ask(|reply| Command::Put { key, value, to, reply })
    }

    /// Everything that nodes of the DHT hold under a key.
    ///
    /// # Errors
    /// When the query does not end.
    pub fn get(&self, key: [u8; 32]) -> Result<Vec<Vec<u8>>, PeerError> {
        self.ask(|reply| Command::Get { key, reply })
    }

    /// Ids and addresses of the nodes closest to a key.
    ///
    /// # Errors
    /// When the query does not end.
    pub fn closest(&self, key: [u8; 32]) -> Result<Vec<(PeerId, Vec<Multiaddr>)>, PeerError> {
        self.ask(|reply| Command::Closest { key, reply })
    }

    /// From now on answers every question for this key with these bytes, in the DHT and in signalling.
    ///
    /// # Errors
    /// When the peer's own thread has ended.
    pub fn serve(&self, key: [u8; 32], value: Vec<u8>) -> Result<(), PeerError> {
        self.command(Command::Serve { key, value })
    }

    /// How often it was asked for a record.
    ///
    /// # Errors
    /// When the peer's own thread has ended.
    pub fn times_asked(&self) -> Result<u64, PeerError> {
        self.ask(|reply| Command::TimesAsked { reply })
    }

    /// Everything it has been told about anybody's addresses.
    ///
    /// # Errors
    /// When the peer's own thread has ended.
    pub fn addresses_seen(&self) -> Result<Vec<String>, PeerError> {
        self.ask(|reply| Command::AddressesSeen { reply })
    }

    fn command(&self, command: Command) -> Result<(), PeerError> {
        self.commands.send(command).map_err(|_| PeerError::Refused("its thread has ended".to_owned()))
    }

    fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, PeerError> {
        let (reply, answer) = blocking::channel();
        self.command(command(reply))?;
        answer
            .recv_timeout(PATIENCE)
            .map_err(|error| PeerError::Refused(error.to_string()))?
            .map_err(PeerError::Refused)
    }
}
