//! What the network tells when asked, without asking the driver: a snapshot that the driver keeps up to date.

use std::net::SocketAddr;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use offhook_proto::identity::TerminalId;
use offhook_proto::number::NodeAddr;
use offhook_proto::record::MAX_ADDRS;
use offhook_proto::relay::RelayTransport;
use prometheus_client::metrics::gauge::Gauge;

use super::addr;
use super::config::Role;
use super::driver::Driver;
use super::links::Link;
use super::serving::Serving;

/// A snapshot of the network's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetStatus {
    /// Addresses listened on, without `/p2p`.
    pub listen: Vec<NodeAddr>,
    /// Addresses to publish, with `/p2p`: relayed ones by default, direct ones of a public node.
    pub addresses: Vec<NodeAddr>,
    /// Directories this terminal is registered with, with `/p2p`.
    pub routes: Vec<NodeAddr>,
    /// STUN servers of those directories.
    pub stun_servers: Vec<SocketAddr>,
    /// Entry points and kept directories.
    pub links: Vec<LinkStatus>,
    /// What carries the connections with the directories this terminal is registered with, the best where they differ; UDP as long
    /// as there are none.
    pub reached_over: RelayTransport,
    /// Peers connected.
    pub peers: usize,
    /// Peers found on the local network, connected or not.
    pub lan: usize,
    /// Nodes of the DHT that are known: those in the routing table, or those that a terminal is connected with.
    pub dht_nodes: usize,
    /// Numbers whose records are held, own ones included.
    pub records: usize,
    /// Directories whose descriptors are held, this one included.
    pub descriptors: usize,
    /// Terminals registered here.
    pub registered: usize,
    /// Whether this node serves others, and why.
    pub serving: Serving,
}

/// The state of one entry point or kept directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// As configured, remembered or named by a contact.
    pub addr: NodeAddr,
    /// Its key, once known.
    pub node: Option<TerminalId>,
    /// Whether it is an entry point, and not just kept for a contact's sake.
    pub home: bool,
    /// Whether it is connected.
    pub up: bool,
    /// Whether this terminal is registered there.
    pub registered: bool,
    /// Whether circuits through it lead to this terminal.
    pub reserved: bool,
}

/// Addresses published at most: a record holds as many ([`MAX_ADDRS`]).
const MAX_PUBLISHED: usize = MAX_ADDRS;

/// Of these through directories, which are twice as long, unless there are more directories: the records of all of an account's
/// terminals have to fit in one set ([`MAX_SET_BYTES`](offhook_proto::record::MAX_SET_BYTES)).
const MAX_RELAYED: usize = 8;

impl Driver {
    /// Makes the snapshot anew.
    pub(super) fn update_status(&mut self) {
        let text = |addrs: Vec<Multiaddr>| addrs.iter().filter_map(addr::text).collect::<Vec<_>>();
        let registered = || self.links.all.iter().filter(|link| link.registered);
        let mut stun_servers: Vec<_> =
            self.links.all.iter().flat_map(|link| link.stun.iter().copied()).collect();
        stun_servers.dedup();
        let routes = text(registered().filter_map(|link| link.base.clone()).collect());
        let links = self.links.all.iter().map(|link| LinkStatus {
            addr: link.name.clone(),
            node: link.peer.as_ref().and_then(addr::terminal_of),
            home: link.is_home(),
            up: link.is_up(),
            registered: link.registered,
            reserved: link.reserved,
        });
        let mut status = NetStatus {
            listen: text(self.listen.clone()),
            addresses: text(self.publishable()),
            routes,
            stun_servers,
            reached_over: self.reached_over(),
            links: links.collect(),
            peers: self.peers.len(),
            lan: self.lan.len(),
            registered: self.service.registered(),
            serving: self.serving(),
            ..NetStatus::default()
        };
        status.dht_nodes = self.dht_nodes();
        let (records, bytes, proofs) = self.records().totals();
        status.records = records;
        status.descriptors = self.records().descriptors();
        self.gauge(&status, bytes, proofs);
        self.status.send_if_modified(|held| {
            let modified = *held != status;
            *held = status;
            modified
        });
    }

    /// See [`NetStatus::reached_over`].
    fn reached_over(&self) -> RelayTransport {
        self.in_use().map(addr::carrier).min().unwrap_or_default()
    }

    /// Addresses of the connections with the directories where this terminal is registered.
    fn in_use(&self) -> impl Iterator<Item = &Multiaddr> + Clone {
        let registered = self.links.all.iter().filter(|link| link.registered);
        let peers = registered.filter_map(|link| self.peers.get(link.peer.as_ref()?));
        peers.filter_map(|peer| peer.direct())
    }

    /// What works from here, as those connections show. A node that serves is asked to connect to others by yet others, who may
    /// know better.
    pub(super) fn works(&self) -> Option<addr::Works> {
        let terminal = self.config.role == Role::Terminal;
        addr::Works::here(&self.listen, self.in_use()).filter(|_| terminal)
    }

    fn gauge(&self, status: &NetStatus, record_bytes: usize, proofs: usize) {
        let set = |gauge: &Gauge, value: usize| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        set(&self.metrics.peers, status.peers);
        set(&self.metrics.records, status.records);
        set(&self.metrics.record_bytes, record_bytes);
        set(&self.metrics.proofs_waiting, proofs);
        set(&self.metrics.registered, status.registered);
        set(&self.metrics.dht_nodes, status.dht_nodes);
        set(&self.metrics.requests_open, self.requests_open());
        set(&self.metrics.warm, self.warm.up());
    }

    /// Where others reach the node of a link, from whatever network.
    fn under(&self, link: &Link) -> Vec<Multiaddr> {
        let (Some(base), Some(peer)) = (link.base.clone(), link.peer) else { return Vec::new() };
        let permitted = |addr: &Multiaddr| self.private.allowed() || addr::is_public(addr);
        let mut told: Vec<_> = link.told.iter().filter(|addr| permitted(addr)).cloned().collect();
        let base = match permitted(&base) {
            true => base,
            false if told.is_empty() => return Vec::new(),
            false => told.remove(0),
        };
        let named = addr::for_every_network(base, &told).into_iter();
        named.filter_map(|addr| addr.with_p2p(peer).ok()).collect()
    }

    /// Addresses that lead here through the directories: the best of each, then further ones in turn, as many as there is
    /// room for.
    fn relayed(&self) -> Vec<Multiaddr> {
        let me = *self.swarm.local_peer_id();
        let registered = self.links.all.iter().filter(|link| link.registered);
        let of_each: Vec<Vec<Multiaddr>> = registered.map(|link| self.under(link)).collect();
        // However many directories there are, each is named once.
        let most = MAX_RELAYED.max(of_each.len()).min(MAX_PUBLISHED);
        let named = addr::in_turn(&of_each).take(most);
        named.map(|addr| addr.clone().with(Protocol::P2pCircuit).with(Protocol::P2p(me))).collect()
    }

    /// The addresses to publish: those of a public node are its own; a terminal's lead through the directories it is
    /// registered with. Only a terminal that never knew of any entry point, or whose user wants it so, publishes its own.
    fn publishable(&self) -> Vec<Multiaddr> {
        let me = *self.swarm.local_peer_id();
        let own =
            |addrs: Vec<Multiaddr>| addrs.into_iter().filter_map(|addr| addr.with_p2p(me).ok()).collect();
        let relayed = self.relayed();
        let direct = self.serves() || self.config.publish_direct;
        let mut addrs: Vec<Multiaddr> = match (direct, relayed.is_empty()) {
            (true, _) if !self.external.is_empty() => own(self.external.clone()),
            (true, _) => own(addr::usable(self.listen.clone(), self.private.allowed())),
            (false, true) if !self.links.found => {
                own(addr::usable(self.listen.clone(), self.private.allowed() || self.config.mdns))
            }
            (false, _) => Vec::new(),
        };
        // However many are configured: those through directories are the ones that work behind NATs.
        addrs.truncate(MAX_PUBLISHED.saturating_sub(relayed.len()));
        addrs.extend(relayed);
        addrs
    }
}
