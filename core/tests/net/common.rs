//! Nodes on loopback, and waiting for what they should come to.

use std::time::Duration;

use offhook::net::{Lookup, LookupEvent, Net, NetConfig, NetEvent, NetStatus, Role};
use offhook::proto::number::{NodeAddr, RecordKey};
use offhook::proto::record::CheckedSet;
use tokio::sync::mpsc;

use crate::fixture::{Party, now};

/// Longer than anything takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A running node and what it tells.
pub struct Node {
    pub net: Net,
    pub events: mpsc::Receiver<NetEvent>,
}

impl Node {
    pub async fn start(config: NetConfig) -> Self {
        let (net, events) = Net::start(config).await.expect("a node that starts");
        Self { net, events }
    }

    /// Waits until the status fulfils a condition.
    pub async fn until(&self, what: &str, condition: impl FnMut(&NetStatus) -> bool) -> NetStatus {
        let mut watch = self.net.watch();
        let status = tokio::time::timeout(PATIENCE, watch.wait_for(condition)).await;
        let status = status.unwrap_or_else(|_| panic!("waited in vain: {what}: {:?}", self.net.status()));
        status.expect("a network that runs").clone()
    }

    /// The node's QUIC address, with `/p2p`.
    pub async fn addr(&self) -> NodeAddr {
        let is_quic = |addr: &&NodeAddr| addr.as_str().contains("/quic-v1");
        let status = self.until("an address", |status| status.addresses.iter().any(|a| is_quic(&a))).await;
        status.addresses.iter().find(is_quic).unwrap().clone()
    }

    /// Waits until the terminal is registered with `n` directories.
    pub async fn registered(&self, n: usize) {
        self.until("registration", |status| status.routes.len() == n).await;
    }

    /// The next signalling packet.
    pub async fn packet(&mut self) -> Packet {
        let next = async {
            loop {
                match self.events.recv().await.expect("a network that runs") {
                    NetEvent::Signal { from, via, blob } => return Packet { from, via, blob },
                    NetEvent::Mail { .. }
                    | NetEvent::EntryUp { .. }
                    | NetEvent::EntryDown { .. }
                    | NetEvent::Listening { .. } => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("a packet")
    }

    /// Looks a number up to the end.
    pub async fn find(&self, key: RecordKey) -> Found {
        collect(self.net.lookup(key, &[])).await
    }
}

/// A [`NetEvent::Signal`].
pub struct Packet {
    pub from: offhook::proto::identity::TerminalId,
    pub via: offhook::proto::identity::TerminalId,
    pub blob: Vec<u8>,
}

/// What a look-up brought.
#[derive(Debug)]
pub struct Found {
    pub sets: Vec<CheckedSet>,
    pub complete: bool,
    pub answered: usize,
}

pub async fn collect(mut lookup: Lookup) -> Found {
    let mut sets = Vec::new();
    loop {
        let event = tokio::time::timeout(PATIENCE, lookup.next()).await.expect("a look-up that ends");
        match event.expect("a last event") {
            LookupEvent::Found { set, .. } => sets.push(set),
            LookupEvent::Finished { complete, answered } => return Found { sets, complete, answered },
        }
    }
}

/// Only QUIC and TCP on loopback.
pub fn loopback(seed: u8, role: Role) -> NetConfig {
    let mut config = NetConfig::new([seed; 32], role);
    config.listen =
        ["/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"].map(|addr| addr.parse().unwrap()).into();
    config
}

/// A directory on any port.
pub async fn directory(seed: u8) -> Node {
    Node::start(loopback(seed, Role::Directory)).await
}

/// A party's terminal, not yet registered anywhere.
pub async fn terminal(party: &Party, entry: &[NodeAddr]) -> Node {
    let mut config = loopback(0, Role::Terminal);
    config.terminal_seed = *party.terminal.seed();
    config.cert = Some(party.cert(now()));
    config.entry = entry.to_vec();
    Node::start(config).await
}

/// A terminal that is registered and has published its record.
pub async fn online(party: &Party, entry: &[NodeAddr]) -> Node {
    let node = terminal(party, entry).await;
    node.registered(entry.len()).await;
    let set = party.set(now(), &node.net.addresses());
    node.net.publish(party.key(), set).await.expect("a record that is held");
    node
}
