//! From what was dialled to terminals: the cache, the look-up, and the choice of the right key.

use super::claims::{Claims, Outcome, Step};
use super::{Engine, Internal, now};
use crate::api::{ApiError, ErrorCode, LookupResult, Reply};
use crate::clock::wall_clock;
use crate::net::{LookupEvent, Net, Origin};
use crate::phone::CallState;
use crate::storage::{AccountStore, StorageError};
use offhook_proto::call::{Distrust, LegId, LookupEnd, Peer, Source};
use offhook_proto::identity::IdentityId;
use offhook_proto::number::{Invitation, NodeAddr, Number, RecordKey};
use offhook_proto::proof::NumberProof;
use offhook_proto::record::{AccountRecord, Checked, CheckedSet, Pin, TerminalRecord, check};
use offhook_proto::signalling::CallId;
use offhook_proto::wire::UnixMillis;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

/// How long `lookup` waits for the first valid record.
const LOOKUP_TIME: Duration = Duration::from_secs(5);

/// How long a look-up waits for a first connection.
const CONNECT_TIME: Duration = Duration::from_secs(3);

/// While nobody answers, a call is looked up again after this, so often altogether: the callee may just have lost the
/// directories that its record names, and its next record be on its way.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
const MAX_LOOKUPS: u32 = 4;

/// A look-up for a call or a text message.
#[derive(Debug)]
pub(super) struct Search {
    number: Number,
    key: RecordKey,
    /// Nodes that may know the number.
    via: Vec<NodeAddr>,
    lookups: u32,
    claims: Claims,
    /// Somebody has the number, with a certificate that is over.
    expired: bool,
    job: Option<AbortHandle>,
}

/// News of a look-up.
pub(super) struct LookupNews {
    call: CallId,
    event: LookupEvent,
}

impl Drop for Search {
    fn drop(&mut self) {
        if let Some(job) = &self.job {
            job.abort();
        }
    }
}

impl Engine {
    /// The key that must be behind the number that was dialled: the pinned one, or the one that the link names. If they
    /// are not the same the user is asked, and nothing is sent before.
    pub(super) async fn expected_key(&self, link: &Invitation) -> Result<Option<Pin>, ApiError> {
        let pin = self.account.pin_of(&link.number).await.map_err(|e| e.to_api())?;
        let Some(pin) = pin else { return Ok(link.key.map(Pin::Fingerprint)) };
        if let Some(named) = link.key.filter(|named| *named != pin.fingerprint) {
            self.key_changed(&link.number, pin.fingerprint, named, false).await;
            let sentence = "The link names another key than the one known for this number.";
            return Err(ApiError::new(ErrorCode::KeyChanged, sentence));
        }
        Ok(Some(pin.expected()))
    }

    /// Look for the terminals of a dialled number. What is cached rings at once; the network is asked anyway.
    pub(super) async fn search(&mut self, call: CallId, link: Invitation, key: RecordKey, pin: Option<Pin>) {
        let Invitation { number, mut via, .. } = link;
        if !via.is_empty() {
            self.net.enter(via.clone()).await;
            self.link_entries.clone_from(&via);
            self.keep_routes().await;
        }
        let nodes = self.directory_nodes(&number).await;
        if self.status.borrow().links.is_empty() && !nodes.is_empty() {
            // There is no other way in, and the user has named this one.
            self.net.enter(nodes.clone()).await;
        }
        via.extend(nodes);
        match self.account.contact_routes().await {
            Ok(contacts) => {
                via.extend(
                    contacts.into_iter().filter(|(of, _)| *of == number).flat_map(|(_, routes)| routes),
                );
            }
            Err(error) => tracing::error!(%error, "the contact's directories could not be read"),
        }
        let claims = Claims::new(pin);
        let search =
            Search { number: number.clone(), key, via, lookups: 0, claims, expired: false, job: None };
        self.searches.insert(call, search);
        self.use_cached(call, &number, &key).await;
        self.ask_network(call);
    }

    /// Has the number looked up.
    fn ask_network(&mut self, call: CallId) {
        let Some(search) = self.searches.get_mut(&call) else { return };
        search.lookups += 1;
        let news = follow(self.net.clone(), search.key, search.via.clone(), call, self.internal.clone());
        search.job = Some(self.jobs.spawn(news).abort_handle());
    }

    /// Has it looked up once more in a while.
    fn ask_later(&mut self, call: CallId) {
        let Some(search) = self.searches.get_mut(&call) else { return };
        let internal = self.internal.clone();
        let job = async move {
            tokio::time::sleep(AGAIN_AFTER).await;
            // An error means that the engine has ended.
            let _ = internal.send(Internal::LookAgain(call)).await;
        };
        search.job = Some(self.jobs.spawn(job).abort_handle());
    }

    /// The while is over: by now it may ring.
    pub(super) fn look_again(&mut self, call: CallId) {
        if self.is_unheard(&call) {
            self.ask_network(call);
        } else {
            self.stop_search(&call);
        }
    }

    /// Whether the call was found, and nothing has been heard of its terminals yet.
    fn is_unheard(&self, call: &CallId) -> bool {
        self.views.get(call).is_some_and(|view| match *view.state.borrow() {
            CallState::Searching | CallState::Inviting => true,
            CallState::Ringing | CallState::Connecting | CallState::Active | CallState::Ended(_) => false,
        })
    }

    async fn use_cached(&mut self, call: CallId, number: &Number, key: &RecordKey) {
        if let Some(set) = self.cached(number, key).await
            && !set.terminals.is_empty()
        {
            self.on_set(call, &set, None, None);
        }
    }

    /// What is kept of a number's records. Their proof was verified before they were kept; everything else is checked
    /// anew.
    pub(super) async fn cached(&self, number: &Number, key: &RecordKey) -> Option<CheckedSet> {
        match self.account.cached_record(number).await {
            Ok(cached) => check(key, &cached?, wall_clock()).ok(),
            Err(error) => {
                tracing::error!(%error, "the cached records could not be read");
                None
            }
        }
    }

    pub(super) async fn on_lookup(&mut self, news: LookupNews) {
        let LookupNews { call, event } = news;
        match event {
            LookupEvent::Found { set, origin, since } => {
                self.on_set(call, &set, Some(origin), since);
                self.remember_record(&call, &set);
            }
            LookupEvent::Finished { complete, .. } => self.on_lookup_finished(call, complete).await,
        }
    }

    /// A valid record set: ring its terminals, if it is the right identity's.
    fn on_set(&mut self, call: CallId, set: &CheckedSet, origin: Option<Origin>, since: Option<UnixMillis>) {
        let Some(search) = self.searches.get_mut(&call) else { return };
        let Some(identity) = owner(set) else { return };
        if let Some(account) = &set.account {
            // The directory's key is in the place where it lies; the directory's name is not.
            if account.number != search.number {
                return;
            }
            if is_expired(account) {
                search.expired = true;
                return;
            }
            search.claims.learn_transfers(identity, account.transfers());
        }
        match search.claims.learn(identity, origin, since) {
            Step::Ring => self.found(
                call,
                set,
                identity,
                if origin.is_some() { Source::Network } else { Source::Cache },
            ),
            Step::Wait => {}
            Step::Stop(why) => self.distrust(call, why),
        }
    }

    fn found(&mut self, call: CallId, set: &CheckedSet, identity: IdentityId, source: Source) {
        let me = self.account.terminal_key().public();
        // What was rung by an older record may have been lost or stolen meanwhile.
        for terminal in set.account.iter().flat_map(|account| account.revoked.iter()) {
            self.calls.revoked(now(), call, *terminal);
        }
        for terminal in live(set).filter(|t| t.terminal() != me) {
            let peer = Peer {
                identity,
                terminal: terminal.terminal(),
                seal: terminal.certificate().seal,
                routes: terminal.addrs.clone(),
            };
            self.legs.set_open(LegId { call, terminal: peer.terminal });
            if let Err(error) = self.calls.found(now(), call, peer, source) {
                tracing::debug!(%error, "a terminal is not rung");
            }
        }
    }

    async fn on_lookup_finished(&mut self, call: CallId, complete: bool) {
        let Some(search) = self.searches.get(&call) else { return };
        match search.claims.finish(complete) {
            Outcome::Finished(_) if search.expired && search.claims.chosen().is_none() => {
                self.distrust(call, Distrust::Expired);
            }
            Outcome::Finished(end) => {
                if let Err(error) = self.calls.lookup_finished(now(), call, end) {
                    tracing::debug!(%error, "a look-up ended after its call");
                }
                if end == LookupEnd::Complete && search.lookups < MAX_LOOKUPS && self.is_unheard(&call) {
                    self.ask_later(call);
                } else {
                    self.stop_search(&call);
                }
            }
            Outcome::KeyChanged { pinned, offered, moved } => {
                if let Some(offered) = offered {
                    let number = search.number.clone();
                    self.key_changed(&number, pinned, offered, moved).await;
                }
                self.distrust(call, Distrust::KeyChanged);
            }
            Outcome::Disputed => self.distrust(call, Distrust::Disputed),
        }
    }

    /// Nothing may ring, or get the text.
    fn distrust(&mut self, call: CallId, why: Distrust) {
        self.stop_search(&call);
        if let Err(error) = self.calls.distrust(now(), call, why) {
            tracing::debug!(%error, "what was to be refused is over");
        }
    }

    /// Nothing more is to be looked up for the call.
    pub(super) fn stop_search(&mut self, call: &CallId) {
        self.searches.remove(call);
    }

    /// Keep the record for the next call to the number.
    fn remember_record(&mut self, call: &CallId, set: &CheckedSet) {
        let Some(search) = self.searches.get(call) else { return };
        if live(set).next().is_none() || search.claims.chosen() != owner(set) {
            return;
        }
        let (number, bytes) = (search.number.clone(), set.to_set().encode());
        let addrs = live(set).flat_map(|terminal| &terminal.addrs).filter(|addr| !addr.is_peer_only());
        // As many as there is room for: the best address of each node first.
        let (mut routes, others) = best_of_each(addrs.cloned());
        routes.extend(others);
        let (net, first) = (self.net.clone(), self.link_entries.clone());
        self.keep("a record", move |account| async move {
            account.cache_record(&number, &bytes).await?;
            // What a neighbour says without its directory is no reason to forget where that is.
            if !routes.is_empty() {
                account.set_routes(&number, &routes).await?;
            }
            keep_routes(&account, &net, first).await
        });
    }

    /// Keep connections to the directories of the contacts used last, so that calling them is quick.
    pub(super) async fn keep_routes(&self) {
        if let Err(error) = keep_routes(&self.account, &self.net, self.link_entries.clone()).await {
            tracing::error!(%error, "the contacts' directories could not be read");
        }
    }

    /// `lookup`: find a number without ringing. Answers by itself.
    pub(super) async fn look_up(&mut self, typed: &str, reply: oneshot::Sender<Result<Reply, ApiError>>) {
        let (link, key) = match self.dialled(typed).await {
            Ok(dialled) => dialled,
            Err(error) => {
                // An error means that the asker went away.
                let _ = reply.send(Err(error));
                return;
            }
        };
        let net = self.net.clone();
        let mut via = link.via;
        via.extend(self.directory_nodes(&link.number).await);
        self.jobs.spawn(async move {
            let _ = reply.send(look_up_now(net, key, link.number, via).await);
        });
    }
}

async fn keep_routes(account: &AccountStore, net: &Net, first: Vec<NodeAddr>) -> Result<(), StorageError> {
    let contacts = account.contact_routes().await?;
    let routes = contacts.into_iter().flat_map(|(_, routes)| routes);
    // A connection is kept with a node, not with its addresses.
    net.keep(best_of_each(first.into_iter().chain(routes)).0).await;
    Ok(())
}

/// The first address of each node, and the others. Of a relayed one the relay is the node.
fn best_of_each(addrs: impl Iterator<Item = NodeAddr>) -> (Vec<NodeAddr>, Vec<NodeAddr>) {
    let mut seen = BTreeSet::new();
    let node = |addr: &NodeAddr| addr.relay().unwrap_or_else(|| addr.clone()).peer_id().map(str::to_owned);
    addrs.partition(|addr| seen.insert(node(addr)))
}

/// Tell the engine what a look-up finds.
async fn follow(
    net: Net,
    key: RecordKey,
    via: Vec<NodeAddr>,
    call: CallId,
    internal: tokio::sync::mpsc::Sender<Internal>,
) {
    some_peer(&net).await;
    let mut lookup = net.lookup(key, &via);
    while let Some(event) = lookup.next().await {
        if internal.send(Internal::Lookup(Box::new(LookupNews { call, event }))).await.is_err() {
            return;
        }
    }
}

/// Wait a moment for a first connection: a telephone that was started to dial has none yet.
async fn some_peer(net: &Net) {
    let mut status = net.watch();
    // Without any peer after that, the look-up says so.
    let _ = tokio::time::timeout(CONNECT_TIME, status.wait_for(|s| s.peers > 0)).await;
}

async fn look_up_now(
    net: Net,
    key: RecordKey,
    number: Number,
    via: Vec<NodeAddr>,
) -> Result<Reply, ApiError> {
    some_peer(&net).await;
    let started = Instant::now();
    let mut lookup = net.lookup(key, &via);
    // Kept when the time runs out: a number without live terminals is a number.
    let mut found: Option<LookupResult> = None;
    let mut expired = false;
    let first = async {
        while let Some(event) = lookup.next().await {
            match event {
                LookupEvent::Found { set, .. } => {
                    let Some(identity) = owner(&set) else { continue };
                    let theirs = set.account.as_ref().filter(|account| account.number == number);
                    let Some(account) = theirs else { continue };
                    if is_expired(account) {
                        expired = true;
                        continue;
                    }
                    let result = LookupResult {
                        number: number.clone(),
                        fingerprint: identity.fingerprint().to_string(),
                        terminals: live(&set).count(),
                        found_ms: started.elapsed().as_millis() as u64,
                    };
                    if result.terminals > 0 {
                        return Ok(result);
                    }
                    found.get_or_insert(result);
                }
                LookupEvent::Finished { complete, .. } => return found.ok_or(complete),
            }
        }
        found.ok_or(false)
    };
    match tokio::time::timeout(LOOKUP_TIME, first).await {
        Ok(Ok(result)) => Ok(Reply::Lookup(result)),
        Ok(Err(_)) | Err(_) if expired => {
            let sentence =
                "The directory's certificate of that number has run out; its owner must have it renewed.";
            Err(ApiError::new(ErrorCode::NumberExpired, sentence))
        }
        Ok(Err(true)) => Err(ApiError::new(ErrorCode::WrongNumber, "Nobody has this number.")),
        Ok(Err(false)) | Err(_) => Err(ApiError::new(
            ErrorCode::Offline,
            "The number could not be looked up: no connection to the network.",
        )),
    }
}

/// Whether the record is of a chosen number whose certificate is over: the number stays its owner's for the time being, but nothing says
/// any more that it is.
fn is_expired(account: &AccountRecord) -> bool {
    match &account.proof {
        NumberProof::Plain(_) => false,
        NumberProof::Chosen(cert, _) => cert.verify(wall_clock()).is_err(),
    }
}

fn owner(set: &CheckedSet) -> Option<IdentityId> {
    set.account.as_ref().map(|a| a.identity)
}

/// The terminals that are on line: one that has gone says so by a record without addresses.
fn live(set: &CheckedSet) -> impl Iterator<Item = &Checked<TerminalRecord>> {
    set.terminals.iter().filter(|terminal| !terminal.addrs.is_empty())
}
