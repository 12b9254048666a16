//! Kademlia's events and this node's queries.

use std::time::Instant;

use libp2p::kad::{self, GetClosestPeersError, GetRecordOk, ProgressStep, QueryId, QueryResult, QueryStats};
use libp2p::{Multiaddr, PeerId};
use offhook_proto::number::RecordKey;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, trace};

use super::addr::Source;
use super::command::{DhtAnswer, Holder};
use super::delegate::Spread;
use super::driver::Driver;
use super::store::Offer;
use crate::clock::wall_clock;

/// Queries that run at a time, for this node's own tasks and for others (which have a bound of their own,
/// [`Limits::delegated`](super::Limits::delegated)); further ones end at once.
const MAX_QUERIES: usize = 128;

/// A query and who waits for it.
pub(super) enum Query {
    Get { answers: mpsc::Sender<DhtAnswer>, until: Instant },
    Closest { asker: Closest, until: Option<Instant> },
}

/// Who wants to know the nodes closest to a key.
pub(super) enum Closest {
    /// A task.
    Task(oneshot::Sender<Vec<Holder>>),
    /// A publication for somebody else.
    Spread(Spread),
}

impl Query {
    /// The source for whose publication it is, if it is for one.
    pub(super) fn spreads_for(&self) -> Option<Source> {
        match self {
            Self::Closest { asker: Closest::Spread(spread), .. } => Some(spread.source),
            Self::Closest { asker: Closest::Task(_), .. } | Self::Get { .. } => None,
        }
    }
}

impl Driver {
    pub(super) fn start_get(&mut self, key: RecordKey, answers: mpsc::Sender<DhtAnswer>, until: Instant) {
        if self.queries.len() >= MAX_QUERIES {
            return; // The dropped sender tells.
        }
        self.fill_table();
        let id = self.swarm.behaviour_mut().kad.get_record(kad::RecordKey::new(&key.0));
        self.queries.insert(id, Query::Get { answers, until });
    }

    /// Looks for the nodes closest to a key; ends half a second after `until` at the latest.
    pub(super) fn start_closest(&mut self, key: RecordKey, asker: Closest, until: Option<Instant>) {
        if self.queries.len() >= MAX_QUERIES {
            return self.on_closest(asker, &[]);
        }
        self.fill_table();
        let id = self.swarm.behaviour_mut().kad.get_closest_peers(key.0.to_vec());
        self.queries.insert(id, Query::Closest { asker, until });
    }

    fn on_closest(&mut self, asker: Closest, closest: &[Holder]) {
        match asker {
            Closest::Task(reply) => {
                // The task may have lost interest.
                let _ = reply.send(closest.to_vec());
            }
            Closest::Spread(spread) => self.spread_to(spread, closest),
        }
    }

    pub(super) fn start_put(&mut self, key: RecordKey, value: Vec<u8>, to: Vec<PeerId>) {
        let record = kad::Record::new(key.0.to_vec(), value);
        // Whether it is held is found out by reading back: the reply to a put comes before anything is checked.
        self.swarm.behaviour_mut().kad.put_record_to(record, to.into_iter(), kad::Quorum::One);
    }

    /// A serving node enters every node of the DHT that it meets in its routing table. A terminal does not, because libp2p
    /// then begins to maintain the table.
    pub(super) fn add_to_table(&mut self, peer: PeerId, addrs: &[Multiaddr]) {
        if self.serves() {
            for addr in addrs {
                self.swarm.behaviour_mut().kad.add_address(&peer, addr.clone());
            }
        }
    }

    /// A terminal that has to ask the DHT itself enters it through the nodes that it is connected with.
    fn fill_table(&mut self) {
        if self.serves() {
            return;
        }
        let kad = &mut self.swarm.behaviour_mut().kad;
        for (peer, state) in self.peers.iter().filter(|(_, state)| state.dht) {
            // What it lists, and if that is of no use here, where it was reached.
            let reached = state.direct().filter(|_| state.addrs.is_empty());
            for addr in state.addrs.iter().chain(reached) {
                kad.add_address(peer, addr.clone());
            }
        }
    }

    /// Ends queries in which nobody is interested any more, and those whose time is over: dead nodes take longer to
    /// be given up than a caller waits. The latter still tell what they came to.
    pub(super) fn tick_queries(&mut self, now: Instant) {
        let (mut abandoned, mut over) = (Vec::new(), Vec::new());
        for (id, query) in &self.queries {
            match query {
                Query::Get { answers, .. } if answers.is_closed() => abandoned.push(*id),
                Query::Closest { asker: Closest::Task(reply), .. } if reply.is_closed() => {
                    abandoned.push(*id);
                }
                Query::Get { until, .. } | Query::Closest { until: Some(until), .. } if *until <= now => {
                    over.push(*id);
                }
                Query::Get { .. } | Query::Closest { .. } => {}
            }
        }
        for id in abandoned {
            self.finish_query(id);
        }
        for id in over {
            if let Some(mut query) = self.swarm.behaviour_mut().kad.query_mut(&id) {
                query.finish();
            }
        }
    }

    fn finish_query(&mut self, id: QueryId) {
        self.queries.remove(&id);
        if let Some(mut query) = self.swarm.behaviour_mut().kad.query_mut(&id) {
            query.finish();
        }
    }

    pub(super) fn on_kad(&mut self, event: kad::Event) {
        match event {
            kad::Event::InboundRequest { request } => self.on_kad_request(request),
            kad::Event::OutboundQueryProgressed { id, result, stats, step } => {
                self.on_progress(id, result, &stats, &step);
            }
            kad::Event::RoutingUpdated { .. } => self.dirty = true,
            kad::Event::ModeChanged { new_mode } => debug!(%new_mode, "kad mode"),
            // Peers enter the routing table by their connections and by identify.
            kad::Event::UnroutablePeer { .. }
            | kad::Event::RoutablePeer { .. }
            | kad::Event::PendingRoutablePeer { .. } => {}
        }
    }

    fn on_kad_request(&mut self, request: kad::InboundRequest) {
        match request {
            kad::InboundRequest::PutRecord { source, record: Some(record), .. } => {
                self.on_kad_put(source, record);
            }
            // Answered by the store through libp2p itself; provider records are refused there.
            kad::InboundRequest::PutRecord { record: None, .. }
            | kad::InboundRequest::FindNode { .. }
            | kad::InboundRequest::GetRecord { .. }
            | kad::InboundRequest::GetProvider { .. }
            | kad::InboundRequest::AddProvider { .. } => {}
        }
    }

    fn on_kad_put(&mut self, from: PeerId, record: kad::Record) {
        let Ok(key) = record.key.as_ref().try_into().map(RecordKey) else { return };
        let source = self.peers.source(&from);
        if !self.serves() || !self.service.permit_query(source) {
            return self.metrics.count("kad_put", "busy");
        }
        let metrics = self.metrics.clone();
        let reply = Box::new(move |result: Result<(), super::store::Refused>| match result {
            Ok(()) => metrics.count("kad_put", "ok"),
            Err(error) => {
                debug!(%error, "put refused");
                metrics.count("kad_put", "refused");
            }
        });
        let offer = Offer { key, bytes: record.value, source, own: false, reply };
        self.dirty = true;
        self.records().offer(offer, wall_clock());
    }

    fn on_progress(&mut self, id: QueryId, result: QueryResult, stats: &QueryStats, step: &ProgressStep) {
        match result {
            QueryResult::GetRecord(result) => self.on_get_progress(id, result, stats, step),
            QueryResult::GetClosestPeers(result) => {
                let peers = match result {
                    Ok(found) => found.peers,
                    Err(GetClosestPeersError::Timeout { peers, .. }) => peers,
                };
                if let Some(Query::Closest { asker, .. }) = self.queries.remove(&id) {
                    let holder = |info: kad::PeerInfo| Holder { peer: info.peer_id, addrs: info.addrs };
                    let closest: Vec<_> = peers.into_iter().map(holder).collect();
                    self.on_closest(asker, &closest);
                }
            }
            QueryResult::Bootstrap(result) => self.on_bootstrap(id, &result),
            QueryResult::PutRecord(result) => trace!(ok = result.is_ok(), "put"),
            QueryResult::RepublishRecord(result) => trace!(ok = result.is_ok(), "republish"),
            // Never started here.
            QueryResult::GetProviders(_)
            | QueryResult::StartProviding(_)
            | QueryResult::RepublishProvider(_) => {}
        }
    }

    /// libp2p looks the own key up whenever the table is short of nodes, and then a random key for each bucket. A terminal
    /// that had to enter the DHT itself leaves out the latter, some 400 KB.
    fn on_bootstrap(&mut self, id: QueryId, result: &kad::BootstrapResult) {
        trace!(ok = result.is_ok(), "bootstrap");
        if self.serves() {
            return;
        }
        if let Some(mut query) = self.swarm.behaviour_mut().kad.query_mut(&id) {
            query.finish();
        }
    }

    fn on_get_progress(
        &mut self,
        id: QueryId,
        result: kad::GetRecordResult,
        stats: &QueryStats,
        step: &ProgressStep,
    ) {
        let Some(Query::Get { answers, .. }) = self.queries.get(&id) else { return };
        match result {
            Ok(GetRecordOk::FoundRecord(found)) => {
                // The own store is asked apart from this; a reader too slow for so many copies loses some.
                if found.peer.is_some() {
                    let _ = answers.try_send(DhtAnswer::Record(found.record.value));
                }
            }
            Ok(GetRecordOk::FinishedWithNoAdditionalRecord { .. })
            | Err(kad::GetRecordError::NotFound { .. } | kad::GetRecordError::Timeout { .. }) => {}
        }
        let closed = answers.is_closed();
        if step.last {
            let answered = stats.num_successes() as usize;
            // A record lies on every node close to its key. With half of those asked it would have been found.
            let complete = answered > 0 && answered * 2 >= stats.num_requests() as usize;
            let _ = answers.try_send(DhtAnswer::End { complete, answered });
            self.queries.remove(&id);
        } else if closed {
            self.finish_query(id);
        }
    }
}
