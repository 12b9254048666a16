//! Looking a number up: the directories, the connected peers, the local network and the DHT, all at once.
//!
//! Each answer is checked, its slow proof included, and passed on as soon as it brings something new. One second
//! after the first find the search ends; without a find it ends when everybody has answered.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::{FuturesUnordered, Stream, StreamExt};
use offhook_proto::number::RecordKey;
use offhook_proto::record::{self, CheckedSet};
use offhook_proto::wire::UnixMillis;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;
use tracing::debug;

use super::client::Client;
use super::codec::{Request, Response};
use super::command::{DhtAnswer, Holder};
use crate::clock::wall_clock;

/// How long the search goes on for newer records after the first valid one.
const AFTER_FOUND: Duration = Duration::from_secs(1);

/// Directories, connected peers and peers of the local network asked, each.
const MAX_ASKED: usize = 8;

/// How long one of them may take.
const ASK_TIME: Duration = Duration::from_secs(3);

/// The DHT is asked for its verdict this long before the end.
const DHT_MARGIN: Duration = Duration::from_secs(1);

/// Keys claimed for one number that are followed; more are noise.
const MAX_IDENTITIES: usize = 4;

/// Where a record set came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Held here.
    Local,
    /// A directory that this terminal is registered with, or another configured entry point.
    Directory,
    /// Another connected peer, or one of the local network.
    Peer,
    /// A node of the DHT.
    Dht,
}

/// What a look-up brings.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "events are moved once, and all but the last are finds")]
pub enum LookupEvent {
    /// Verified records: signatures, expiry, certificates and the slow proof. Each event holds all that is known of
    /// that identity so far. Two events may be of different identities: then two keys claim the number.
    Found {
        /// The records; has an account record.
        set: CheckedSet,
        /// Who brought what is new.
        origin: Origin,
        /// When that node first saw this identity under the number. Known of all but the DHT's nodes.
        since: Option<UnixMillis>,
    },
    /// The search is over; the last event.
    Finished {
        /// Whether everybody who should know had a say. If not, "nothing found" does not mean "no such number".
        complete: bool,
        /// How many nodes answered, whatever they answered.
        answered: usize,
    },
}

/// A look-up under way. Drop it to end it.
pub struct Lookup {
    events: mpsc::Receiver<LookupEvent>,
}

impl Lookup {
    pub(super) fn start(
        client: Client,
        key: RecordKey,
        time: Duration,
        permit: impl Future<Output = Option<OwnedSemaphorePermit>> + Send + 'static,
    ) -> Self {
        let (sender, events) = mpsc::channel(8);
        tokio::spawn(async move {
            // Waits while too many look-ups run; none of them takes longer than `time`.
            let Some(_permit) = permit.await else { return };
            let gone = sender.clone();
            let search = Search::new(client, key, sender);
            tokio::select! {
                () = search.run(time) => {}
                // Nobody listens any more.
                () = gone.closed() => {}
            }
        });
        Self { events }
    }

    /// The next event; `None` after [`LookupEvent::Finished`], or when the network has been shut down.
    pub async fn next(&mut self) -> Option<LookupEvent> {
        self.events.recv().await
    }
}

impl Stream for Lookup {
    type Item = LookupEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<LookupEvent>> {
        self.events.poll_recv(cx)
    }
}

/// One node's answer to `Find`; `None` if it gave none.
struct Answer {
    origin: Origin,
    found: Option<(Option<Vec<u8>>, Option<UnixMillis>)>,
}

/// The state of a look-up.
struct Search {
    client: Client,
    key: RecordKey,
    events: mpsc::Sender<LookupEvent>,
    /// What is known, one set per identity.
    known: Vec<CheckedSet>,
    answered: usize,
    /// Whether a directory was asked in vain.
    silent_directory: bool,
    deadline: Instant,
}

impl Search {
    fn new(client: Client, key: RecordKey, events: mpsc::Sender<LookupEvent>) -> Self {
        let deadline = Instant::now();
        Self { client, key, events, known: Vec::new(), answered: 0, silent_directory: false, deadline }
    }

    async fn run(mut self, time: Duration) {
        self.deadline = Instant::now() + time;
        if let Some((set, since)) = self.client.local(self.key).await {
            self.take(set, Origin::Local, Some(since)).await;
        }
        let neighbours = self.client.neighbours().await;
        let mut asked = FuturesUnordered::new();
        for (holders, origin) in [
            (neighbours.directories, Origin::Directory),
            (neighbours.connected, Origin::Peer),
            (neighbours.lan, Origin::Peer),
        ] {
            asked.extend(holders.into_iter().take(MAX_ASKED).map(|holder| self.ask(holder, origin)));
        }
        let mut dht = self.client.get(self.key, time.saturating_sub(DHT_MARGIN)).await;
        let (mut dht_open, mut dht_complete) = (true, false);
        while dht_open || !asked.is_empty() {
            tokio::select! {
                Some(answer) = asked.next() => self.on_answer(answer).await,
                answer = dht.recv(), if dht_open => match answer {
                    Some(DhtAnswer::Record(bytes)) => self.check(bytes, Origin::Dht, None).await,
                    Some(DhtAnswer::End { complete, answered }) => {
                        self.answered += answered;
                        dht_complete = complete;
                        dht_open = false;
                    }
                    None => dht_open = false,
                },
                () = tokio::time::sleep_until(self.deadline) => break,
            }
        }
        let in_time = !dht_open && asked.is_empty() || !self.known.is_empty();
        // Without a DHT the directories have the say.
        let everybody = dht_complete || (!neighbours.dht && !self.silent_directory);
        let complete = in_time && everybody && self.answered > 0;
        self.emit(LookupEvent::Finished { complete, answered: self.answered }).await;
    }

    fn ask(&self, holder: Holder, origin: Origin) -> impl Future<Output = Answer> + Send + use<> {
        let (client, key) = (self.client.clone(), self.key.0);
        async move {
            let response = client.request(holder.peer, holder.addrs, Request::Find { key }, ASK_TIME).await;
            let found = match response {
                Ok(Response::Found { set, since }) => Some((set, since)),
                Ok(
                    Response::Welcome { .. }
                    | Response::Delivered
                    | Response::NotConnected
                    | Response::Stored
                    | Response::Refused { .. }
                    | Response::Busy,
                ) => None,
                Err(error) => {
                    debug!(%error, "a neighbour was asked in vain");
                    None
                }
            };
            Answer { origin, found }
        }
    }

    async fn on_answer(&mut self, answer: Answer) {
        match answer.found {
            Some((set, since)) => {
                self.answered += 1;
                if let Some(bytes) = set {
                    self.check(bytes, answer.origin, since).await;
                }
            }
            None => self.silent_directory |= answer.origin == Origin::Directory,
        }
    }

    /// Checks what somebody sent: first what costs little, then whether it is new, then the proof.
    async fn check(&mut self, bytes: Vec<u8>, origin: Origin, since: Option<UnixMillis>) {
        let set = match record::check(&self.key, &bytes, wall_clock()) {
            Ok(set) => set,
            Err(error) => {
                debug!(%error, ?origin, "a bad record was served");
                return;
            }
        };
        let news = match self.known_of(&set) {
            Some(known) => record::merge(Some(known), &set, wall_clock()).is_ok_and(|merged| merged.changed),
            None => set.account.is_some() && self.known.len() < MAX_IDENTITIES,
        };
        // A directory's word on since when it knows the identity is news in itself.
        if !news && since.is_none() {
            return;
        }
        if let Some(task) = set.proof_task()
            && !self.client.verdicts.verify(task).await
        {
            debug!(?origin, "a record with a bad proof was served");
            return;
        }
        self.take(set, origin, since).await;
    }

    fn known_of(&self, set: &CheckedSet) -> Option<&CheckedSet> {
        let identity = set.account.as_ref().map(|account| account.record().identity)?;
        self.known
            .iter()
            .find(|known| known.account.as_ref().is_some_and(|account| account.record().identity == identity))
    }

    /// Adds a verified set to what is known and tells.
    async fn take(&mut self, set: CheckedSet, origin: Origin, since: Option<UnixMillis>) {
        let Some(identity) = set.account.as_ref().map(|account| account.record().identity) else { return };
        let same = |known: &CheckedSet| {
            known.account.as_ref().is_some_and(|account| account.record().identity == identity)
        };
        let index = self.known.iter().position(same);
        let held = index.and_then(|index| self.known.get(index));
        let set = match record::merge(held, &set, wall_clock()) {
            Ok(merged) => merged.set,
            // Older than what is known; only the date is new.
            Err(_) => match held {
                Some(held) => held.clone(),
                None => return,
            },
        };
        match index {
            Some(index) => self.known[index] = set.clone(),
            None => self.known.push(set.clone()),
        }
        if self.known.len() == 1 && index.is_none() && origin != Origin::Local {
            self.deadline = self.deadline.min(Instant::now() + AFTER_FOUND);
        }
        self.emit(LookupEvent::Found { set, origin, since }).await;
    }

    async fn emit(&self, event: LookupEvent) {
        // A dropped receiver ends the search elsewhere.
        let _ = self.events.send(event).await;
    }
}
