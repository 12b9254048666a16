//! DHT work that this node does for terminals, so that no node of the DHT sees their addresses, and because it is
//! connected with many of those nodes already.
//!
//! Anybody who may connect may ask, within limits ([`Limits`]): per peer, per /24 or /64, and altogether. Whoever is over
//! one is told `Busy` and asks another directory.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::PeerId;
use libp2p::request_response::ResponseChannel;
use offhook_proto::number::RecordKey;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::addr::Source;
use super::client::ANSWERS;
use super::codec::{Refusal, Response, Want};
use super::command::Holder;
use super::config::Limits;
use super::dht::{Closest, Query};
use super::driver::{Driver, Inner};
use super::finds::Finds;
use super::limit::Limiter;
use super::seek::{Asker, Seek};
use super::service::{outcome, stored};
use super::store::{Offer, Refused};
use crate::clock::wall_clock;

/// How long a query for others may take; it ends within half a second after that. Whoever asked waits for 3 s.
pub(super) const SEEK_TIME: Duration = Duration::from_secs(2);

/// Who may wait for one query; further ones are told `Busy`.
const MAX_ASKERS: usize = 64;

/// One source may have this part of all queries under way.
const SOURCE_PART: usize = 4;

/// The work under way.
pub(super) struct Delegated {
    per_peer: Limiter<PeerId>,
    per_source: Limiter<Source>,
    max: usize,
    seeks: HashMap<RecordKey, Running>,
}

/// A query that others may join.
struct Running {
    source: Source,
    askers: mpsc::Sender<Asker>,
}

/// A publication that is held here and on its way to the closest nodes.
pub(super) struct Spread {
    key: RecordKey,
    pub(super) source: Source,
    channel: ResponseChannel<Response>,
}

impl Delegated {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            per_peer: Limiter::new(limits.delegated_per_peer),
            per_source: Limiter::new(limits.delegated_per_source),
            max: limits.delegated,
            seeks: HashMap::new(),
        }
    }

    /// Adds somebody to the query for a key, if one is under way.
    fn join(&self, key: &RecordKey, asker: Asker) -> Result<(), TrySendError<Asker>> {
        match self.seeks.get(key) {
            Some(running) => running.askers.try_send(asker),
            None => Err(TrySendError::Closed(asker)),
        }
    }
}

impl Driver {
    /// Asks the DHT for a peer, or lets it join whoever had the same asked.
    pub(super) fn on_seek(
        &mut self,
        peer: PeerId,
        key: RecordKey,
        want: Want,
        channel: ResponseChannel<Response>,
    ) {
        let refusal = self.refuse_work(&peer);
        let asker = Asker { want, reply: self.answer_later("seek", channel) };
        if let Some(refusal) = refusal {
            return (asker.reply)(refusal);
        }
        let asker = match self.delegated.join(&key, asker) {
            Ok(()) => return,
            Err(TrySendError::Full(asker)) => return (asker.reply)(Response::Busy),
            Err(TrySendError::Closed(asker)) => asker,
        };
        let source = self.peers.source(&peer);
        if !self.has_room(source) {
            return (asker.reply)(Response::Busy);
        }
        let (answers, query) = mpsc::channel(ANSWERS);
        let (askers, others) = mpsc::channel(MAX_ASKERS);
        let alone = self.dht_nodes() == 0 && !self.links.has_home();
        let seek = Seek::new(Finds::new(key, self.records().verdicts()), alone, asker);
        self.start_get(key, answers, Instant::now() + SEEK_TIME);
        self.delegated.seeks.insert(key, Running { source, askers });
        tokio::spawn(seek.run(query, others));
    }

    /// Holds what a peer publishes, and then puts it to the closest nodes.
    pub(super) fn on_publish(
        &mut self,
        peer: PeerId,
        key: RecordKey,
        set: Vec<u8>,
        channel: ResponseChannel<Response>,
    ) {
        let source = self.peers.source(&peer);
        let refusal = self.refuse_work(&peer).or_else(|| (!self.has_room(source)).then_some(Response::Busy));
        if let Some(refusal) = refusal {
            self.count("publish", &refusal);
            return self.respond(channel, refusal);
        }
        let (inner, metrics) = (self.inner.clone(), self.metrics.clone());
        let reply = Box::new(move |result: Result<(), Refused>| {
            // The driver may have stopped meanwhile.
            let _ = inner.send(match result {
                Ok(()) => Inner::Spread(Spread { key, source, channel }),
                Err(_) => {
                    let response = stored(result);
                    metrics.count("publish", outcome(&response));
                    Inner::Respond(channel, response)
                }
            });
        });
        self.dirty = true;
        self.records().offer(Offer { key, bytes: set, source, own: false, reply }, wall_clock());
    }

    /// What was published is held here: find out where else it belongs.
    pub(super) fn spread(&mut self, spread: Spread) {
        let key = spread.key;
        self.start_closest(key, Closest::Spread(spread), Some(Instant::now() + SEEK_TIME));
    }

    /// Puts what is held under the key by now to the closest nodes.
    pub(super) fn spread_to(&mut self, spread: Spread, closest: &[Holder]) {
        let Spread { key, channel, .. } = spread;
        let nodes = u32::try_from(closest.len()).unwrap_or(u32::MAX);
        if let Some((set, _)) = self.records().value(&key, wall_clock()) {
            self.start_put(key, set, closest.iter().map(|holder| holder.peer).collect());
        }
        let response = Response::Published { nodes };
        self.count("publish", &response);
        self.respond(channel, response);
    }

    /// Why no DHT work is done for a peer at the moment; counts it if it is.
    fn refuse_work(&mut self, peer: &PeerId) -> Option<Response> {
        if !self.serves() {
            return Some(Response::Refused { reason: Refusal::NotServing });
        }
        let (source, now) = (self.peers.source(peer), Instant::now());
        let permitted =
            self.delegated.per_peer.permit(*peer, now) && self.delegated.per_source.permit(source, now);
        (!permitted).then_some(Response::Busy)
    }

    /// Whether one more query for that source fits.
    fn has_room(&mut self, source: Source) -> bool {
        self.delegated.seeks.retain(|_, running| !running.askers.is_closed());
        let spreads = self.queries.values().filter_map(Query::spreads_for);
        let (mut all, mut mine) = (0, 0);
        for other in self.delegated.seeks.values().map(|running| running.source).chain(spreads) {
            all += 1;
            mine += usize::from(other == source);
        }
        all < self.delegated.max && mine < (self.delegated.max / SOURCE_PART).max(1)
    }

    /// Answers a request from a task, and counts what it comes to.
    fn answer_later(
        &self,
        request: &'static str,
        channel: ResponseChannel<Response>,
    ) -> Box<dyn FnOnce(Response) + Send> {
        let (inner, metrics) = (self.inner.clone(), self.metrics.clone());
        Box::new(move |response| {
            metrics.count(request, outcome(&response));
            // The driver may have stopped meanwhile.
            let _ = inner.send(Inner::Respond(channel, response));
        })
    }
}
