//! One look-up: who is asked, what they answer, and when it is over.

use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use libp2p::PeerId;
use offhook_proto::number::RecordKey;
use offhook_proto::record::CheckedSet;
use offhook_proto::wire::UnixMillis;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::debug;

use super::{LookupEvent, Origin};
use crate::net::client::Client;
use crate::net::codec::{MAX_SOUGHT, Refusal, Request, Response, Sought, Want};
use crate::net::command::{DhtAnswer, Holder, Neighbours};
use crate::net::finds::{Finds, Proved};

/// How long the search goes on for newer records after the first valid one.
const AFTER_FOUND: Duration = Duration::from_secs(1);

/// Directories, connected peers, peers of the local network and named ones asked, each.
const MAX_ASKED: usize = 8;

/// How long one of them may take. A directory that asks the DHT takes a little less
/// ([`SEEK_TIME`](crate::net::delegate::SEEK_TIME)).
const ASK_TIME: Duration = Duration::from_secs(3);

/// How long a terminal waits for its first directory before it asks the DHT itself.
const LINK_TIME: Duration = Duration::from_secs(1);

/// The DHT is asked for its verdict this long before the end.
const DHT_MARGIN: Duration = Duration::from_secs(1);

/// One node's answer.
enum Answer {
    /// To `Find`: what it holds, and since when; `None` if it gave no answer.
    Found { origin: Origin, held: Option<(Option<Vec<u8>>, Option<UnixMillis>)> },
    /// To `Seek`.
    Sought { link: PeerId, want: Want, sought: Result<Sought, Declined> },
    /// None, but a directory is connected now; or does not come.
    Linked,
}

/// Why a directory did not ask the DHT.
enum Declined {
    /// It does that for nobody.
    ForGood,
    /// It has too much to do, or did not answer.
    Now,
}

/// Who sent a set.
struct Sender {
    origin: Origin,
    since: Option<UnixMillis>,
    /// The directory that passed it on before its proof was run; it is asked again if the proof fails.
    hasty: Option<PeerId>,
}

/// The DHT, asked by this node itself.
#[derive(Default)]
struct Dht {
    answers: Option<mpsc::Receiver<DhtAnswer>>,
    asked: bool,
    complete: bool,
}

impl Dht {
    /// What the query brings; waits for ever while there is none.
    async fn next(&mut self) -> DhtAnswer {
        match &mut self.answers {
            Some(answers) => answers.recv().await.unwrap_or(DhtAnswer::End { complete: false, answered: 0 }),
            None => std::future::pending().await,
        }
    }
}

/// The DHT, asked by this terminal's directories.
#[derive(Default)]
struct Delegates {
    /// Directories from which the end of their query is awaited.
    open: usize,
    /// Whether one has come.
    served: bool,
    complete: bool,
    /// Nodes that answered the most diligent of them.
    answered: usize,
}

/// The state of a look-up.
pub(super) struct Search {
    client: Client,
    key: RecordKey,
    events: mpsc::Sender<LookupEvent>,
    finds: Finds<Sender>,
    asked: FuturesUnordered<BoxFuture<'static, Answer>>,
    around: Neighbours,
    /// Whether a directory may be connected any moment.
    waiting: bool,
    delegates: Delegates,
    dht: Dht,
    answered: usize,
    /// Whether a directory was asked in vain.
    silent_directory: bool,
    found: bool,
    deadline: Instant,
}

impl Search {
    pub(super) fn new(client: Client, key: RecordKey, events: mpsc::Sender<LookupEvent>) -> Self {
        let finds = Finds::new(key, client.verdicts.clone());
        Self {
            client,
            key,
            events,
            finds,
            asked: FuturesUnordered::new(),
            around: Neighbours::default(),
            waiting: false,
            delegates: Delegates::default(),
            dht: Dht::default(),
            answered: 0,
            silent_directory: false,
            found: false,
            deadline: Instant::now(),
        }
    }

    pub(super) async fn run(mut self, named: Vec<Holder>, time: Duration) {
        self.deadline = Instant::now() + time;
        if let Some((set, since)) = self.client.local(self.key).await {
            self.take(&set, Origin::Local, Some(since)).await;
        }
        self.around = self.client.neighbours().await;
        self.find(self.around.lan.clone(), Origin::Peer);
        self.find(named, Origin::Peer);
        if self.around.expecting {
            self.await_link();
        } else {
            self.ask_directories();
        }
        let in_time = loop {
            let nobody = !self.waiting && self.delegates.open == 0 && !self.delegates.served;
            if nobody && !self.dht.asked {
                self.ask_dht().await;
            }
            if self.asked.is_empty() && self.finds.is_idle() && self.dht.answers.is_none() {
                break true;
            }
            tokio::select! {
                Some(answer) = self.asked.next() => self.on_answer(answer).await,
                Some(proved) = self.finds.next() => self.on_proved(proved).await,
                answer = self.dht.next() => self.on_dht(answer),
                () = tokio::time::sleep_until(self.deadline) => break false,
            }
        };
        let complete = self.everybody_had_a_say(in_time || !self.finds.known().is_empty());
        let answered = self.answered + self.delegates.answered;
        self.emit(LookupEvent::Finished { complete, answered }).await;
    }

    /// Whether "nothing found" means "no such number". One directory whose query came to its end has the say, though
    /// others may be silent: they could only have found more.
    fn everybody_had_a_say(&self, in_time: bool) -> bool {
        // Without a DHT the directories have the say.
        let own = self.dht.complete || (!self.around.dht && !self.silent_directory);
        self.delegates.complete || (self.dht.asked && in_time && own && self.answered > 0)
    }

    /// Asks nodes what they hold themselves.
    fn find(&mut self, holders: Vec<Holder>, origin: Origin) {
        for holder in holders.into_iter().take(MAX_ASKED) {
            let (client, key) = (self.client.clone(), self.key.0);
            self.asked.push(Box::pin(async move {
                let request = Request::Find { key };
                let held = match client.request(holder.peer, holder.addrs, request, ASK_TIME).await {
                    Ok(Response::Found { set, since }) => Some((set, since)),
                    Ok(response) => {
                        debug!(?response, "a neighbour does not tell what it holds");
                        None
                    }
                    Err(error) => {
                        debug!(%error, "a neighbour was asked in vain");
                        None
                    }
                };
                Answer::Found { origin, held }
            }));
        }
    }

    /// Asks the directories what they hold, and has every one of them ask the DHT.
    fn ask_directories(&mut self) {
        self.find(self.around.directories.clone(), Origin::Directory);
        let delegates: Vec<PeerId> =
            self.around.delegates.iter().take(MAX_ASKED).map(|holder| holder.peer).collect();
        self.delegates.open = delegates.len();
        for link in delegates {
            self.seek(link, Want::First);
            self.seek(link, Want::All);
        }
    }

    /// Tells when the first directory is connected, or is not for a while.
    fn await_link(&mut self) {
        self.waiting = true;
        let mut status = self.client.status.clone();
        self.asked.push(Box::pin(async move {
            let up = status.wait_for(|status| status.links.iter().any(|link| link.home && link.up));
            // Without one in time, or with the network shut down, it goes on without.
            let _ = tokio::time::timeout(LINK_TIME, up).await;
            Answer::Linked
        }));
    }

    fn seek(&mut self, link: PeerId, want: Want) {
        let (client, key) = (self.client.clone(), self.key.0);
        self.asked.push(Box::pin(async move {
            let request = Request::Seek { key, want };
            let sought = match client.request(link, Vec::new(), request, ASK_TIME).await {
                Ok(Response::Sought(sought)) => Ok(sought),
                Ok(Response::Refused { reason: Refusal::NotServing }) => Err(Declined::ForGood),
                Ok(response) => {
                    debug!(?response, "a directory does not ask the DHT");
                    Err(Declined::Now)
                }
                Err(error) => {
                    debug!(%error, "a directory was asked in vain");
                    Err(Declined::Now)
                }
            };
            Answer::Sought { link, want, sought }
        }));
    }

    /// Asks the DHT from here, and the peers that happen to be connected, because nobody does it in this terminal's
    /// stead.
    async fn ask_dht(&mut self) {
        self.dht.asked = true;
        self.find(self.around.connected.clone(), Origin::Peer);
        let time = self.deadline.saturating_duration_since(Instant::now()).saturating_sub(DHT_MARGIN);
        self.dht.answers = Some(self.client.get(self.key, time).await);
    }

    fn on_dht(&mut self, answer: DhtAnswer) {
        match answer {
            DhtAnswer::Record(bytes) => self.check(&bytes, Origin::Dht, None, None),
            DhtAnswer::End { complete, answered } => {
                self.answered += answered;
                self.dht.complete = complete;
                self.dht.answers = None;
            }
        }
    }

    async fn on_answer(&mut self, answer: Answer) {
        match answer {
            Answer::Linked => {
                self.waiting = false;
                self.around = self.client.neighbours().await;
                self.ask_directories();
            }
            Answer::Found { origin, held: Some((set, since)) } => {
                self.answered += 1;
                if let Some(bytes) = set {
                    self.check(&bytes, origin, since, None);
                }
            }
            Answer::Found { origin, held: None } => self.silent_directory |= origin == Origin::Directory,
            Answer::Sought { link, want, sought } => {
                self.delegates.open -= usize::from(want == Want::All);
                match sought {
                    Ok(sought) => self.on_sought(link, want, sought),
                    Err(Declined::ForGood) => {}
                    Err(Declined::Now) => self.silent_directory = true,
                }
            }
        }
    }

    fn on_sought(&mut self, link: PeerId, want: Want, sought: Sought) {
        for found in sought.sets.iter().take(MAX_SOUGHT) {
            let hasty = (want == Want::First).then_some(link);
            self.check(&found.set, Origin::Dht, None, hasty);
        }
        if want == Want::All {
            self.delegates.served = true;
            self.delegates.complete |= sought.complete;
            self.delegates.answered = self.delegates.answered.max(sought.answered as usize);
        }
    }

    /// Checks what somebody sent, all but the proof.
    fn check(&mut self, bytes: &[u8], origin: Origin, since: Option<UnixMillis>, hasty: Option<PeerId>) {
        if let Err(error) = self.finds.offer(bytes, Sender { origin, since, hasty }) {
            debug!(%error, ?origin, "a bad record was served");
            self.ask_again(hasty);
        }
    }

    /// A directory's first find was bad: the next one it should look at more closely.
    fn ask_again(&mut self, hasty: Option<PeerId>) {
        if let Some(link) = hasty {
            self.seek(link, Want::Proven);
        }
    }

    async fn on_proved(&mut self, proved: Proved<Sender>) {
        for (set, sender) in proved.sets {
            if proved.valid {
                self.take(&set, sender.origin, sender.since).await;
            } else {
                debug!(origin = ?sender.origin, "a record with a bad proof was served");
                self.ask_again(sender.hasty);
            }
        }
    }

    /// Adds a verified set to what is known and tells.
    async fn take(&mut self, set: &CheckedSet, origin: Origin, since: Option<UnixMillis>) {
        let Some((set, news)) = self.finds.add(set) else { return };
        if !self.found && origin != Origin::Local {
            self.found = true;
            self.deadline = self.deadline.min(Instant::now() + AFTER_FOUND);
        }
        // A node's word on since when it knows the identity is news in itself.
        if news || since.is_some() {
            self.emit(LookupEvent::Found { set, origin, since }).await;
        }
    }

    async fn emit(&mut self, event: LookupEvent) {
        // A dropped receiver ends the search elsewhere.
        let _ = self.events.send(event).await;
    }
}
