//! The post office: what is asked of this directory's mailboxes, and what is answered.
//!
//! A request has been read and bounded by the network (`offhook::net`, `mailbox`) before it comes here, one task for each. A deposit is
//! let in by the [`Gate`], kept by the [store](crate::store::Mail) within its limits, and paid for when it is kept; then the terminals of
//! the mailbox that are connected are told. Who has entered is known for as long as it is connected, and asked anew whether its account
//! has revoked it each time that it wants something.

mod works;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use offhook::clock::wall_clock;
use offhook::net::{MailGauges, MailRequest, Net};
use offhook_proto::identity::{DirectoryId, DirectoryKey, IdentityId, TerminalId};
use offhook_proto::knock::Network;
use offhook_proto::mailbox::gate::{Admitted, Attempt, Gate};
use offhook_proto::mailbox::protocol::{
    Admission, EntryKey, Notice, Refusal, Request, Response, SignedEntry, SignedNode,
};
use offhook_proto::mailbox::quota::{Deposit, Depositor};
use offhook_proto::mailbox::{BlobId, MailboxId};
use offhook_proto::puzzle::PuzzleKey;
use offhook_proto::wire::UnixMillis;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;
use tracing::{debug, warn};

use self::works::Works;
use crate::store::{Entrant, Heard, Mail, MailError, Store, StoreError};

/// Requests that wait to be taken; the network tells further ones to come again.
pub(crate) const WAITING: usize = 256;

/// How often what is over goes, and the operator's changes are looked for.
const EVERY: Duration = Duration::from_secs(10);
/// A terminal is forgotten that has wanted nothing for so long; if it is still there it enters again.
const FORGOTTEN: Duration = Duration::from_secs(2 * 3_600);
/// Terminals that are remembered at a time: as many as ten thousand mailboxes have.
const MAX_SEATS: usize = 100_000;
/// How long it takes to be answered, at most, once the directory is told to stop.
const FAREWELL: Duration = Duration::from_secs(2);

/// A terminal that has entered.
#[derive(Clone, Copy, Debug)]
struct Seat {
    mailbox: MailboxId,
    identity: IdentityId,
    until: UnixMillis,
    /// Number of the newest blob that it has been told of.
    told: u64,
    used: Instant,
}

/// See the [module](self).
pub(crate) struct Post {
    mail: Mail,
    store: Store,
    net: Net,
    directory: DirectoryId,
    node: SignedNode,
    entry: EntryKey,
    gate: Mutex<Gate>,
    seats: Mutex<HashMap<TerminalId, Seat>>,
    works: Works,
}

/// A post office that is open.
pub(crate) struct OpenPost {
    server: JoinHandle<()>,
    keeper: JoinHandle<()>,
    listener: Option<JoinHandle<()>>,
}

impl OpenPost {
    /// Serves what comes from the network.
    pub(crate) async fn open(
        store: Store,
        mail: Mail,
        net: Net,
        signing: &DirectoryKey,
        seed: &[u8; 32],
        requests: mpsc::Receiver<MailRequest>,
    ) -> Result<Self, StoreError> {
        let heard = mail.heard().await?;
        let post = Arc::new(Post {
            node: SignedNode::sign(signing, &net.id()),
            directory: signing.public(),
            entry: EntryKey::from_seed(rand::random()),
            gate: Mutex::new(Gate::new(puzzle_key(seed))),
            seats: Mutex::default(),
            works: Works::default(),
            mail,
            store,
            net,
        });
        let server = tokio::spawn(serve(Arc::clone(&post), requests));
        let keeper = tokio::spawn(keep(Arc::clone(&post)));
        let listener = heard.map(|heard| tokio::spawn(listen(post, heard)));
        Ok(Self { server, keeper, listener })
    }

    /// Ends it once the network has ended. What has been acknowledged is on disk.
    pub(crate) async fn stop(self) {
        self.keeper.abort();
        self.listener.iter().for_each(JoinHandle::abort);
        let abort = self.server.abort_handle();
        if tokio::time::timeout(FAREWELL, self.server).await.is_err() {
            abort.abort();
        }
    }
}

/// One for all processes of the directory, which nobody can guess: they have the signing key in common.
fn puzzle_key(seed: &[u8; 32]) -> PuzzleKey {
    let mut hash = Sha256::new();
    hash.update(b"offhook-directory/puzzle-key/1\0");
    hash.update(seed);
    PuzzleKey::from_seed(hash.finalize().into())
}

/// Answers each request in a task of its own; the network bounds how many there are.
async fn serve(post: Arc<Post>, mut requests: mpsc::Receiver<MailRequest>) {
    let mut answering = JoinSet::new();
    loop {
        tokio::select! {
            request = requests.recv() => match request {
                Some(request) => {
                    answering.spawn(answer(Arc::clone(&post), request));
                }
                None => break,
            },
            Some(_) = answering.join_next() => {}
        }
    }
    while answering.join_next().await.is_some() {}
}

async fn answer(post: Arc<Post>, asked: MailRequest) {
    let MailRequest { from, network, has_entered, request, reply } = asked;
    let (kind, now) = (request.kind(), wall_clock());
    let answered = match request {
        Request::Enter { entry } => match post.enter(from, network, &entry, now).await {
            Ok(response) => return reply.entered(response),
            Err(refusal) => Err(refusal),
        },
        Request::Price { mailbox } => post.price(mailbox, network, now).await,
        Request::Challenge => {
            Ok(Response::Challenge { challenge: post.entry.challenge(&from, now), node: post.node.clone() })
        }
        Request::Deposit { mailbox, days, admission, blob } => {
            post.deposit(Parcel { mailbox, days, admission, blob, network }, now).await
        }
        // The network gives notices to nobody here.
        Request::Notice(_) => Err(Refusal::Malformed),
        request @ (Request::List { .. }
        | Request::Get { .. }
        | Request::Acknowledge { .. }
        | Request::Erase { .. }
        | Request::Rules { .. }
        | Request::Quota
        | Request::Close) => match post.seat(from, has_entered, now).await {
            Ok(seat) => post.inside(from, seat, request, now).await,
            Err(refusal) => Err(refusal),
        },
    };
    reply.send(answered.unwrap_or_else(|reason| {
        debug!(kind, ?reason, "refused at a mailbox");
        Response::Refused { reason }
    }));
}

/// A deposit.
struct Parcel {
    mailbox: MailboxId,
    days: u8,
    admission: Admission,
    blob: Vec<u8>,
    network: Network,
}

impl Post {
    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seats(&self) -> MutexGuard<'_, HashMap<TerminalId, Seat>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn price(
        &self,
        mailbox: MailboxId,
        network: Network,
        now: UnixMillis,
    ) -> Result<Response, Refusal> {
        let rules = self.mail.rules(&mailbox).await.map_err(busy)?.ok_or(Refusal::NoMailbox)?;
        if !rules.strangers {
            return Err(Refusal::NoStrangers);
        }
        Ok(Response::Price { challenge: self.gate().price(&mailbox, &network, Instant::now(), now) })
    }

    async fn deposit(&self, parcel: Parcel, now: UnixMillis) -> Result<Response, Refusal> {
        let Parcel { mailbox, days, admission, blob, network } = parcel;
        let rules = self.mail.rules(&mailbox).await.map_err(busy)?.ok_or(Refusal::NoMailbox)?;
        let id = BlobId::of(&blob);
        let attempt = Attempt { rules: &rules, mailbox, network, blob: id, admission };
        let admitted = self.gate().admit(&attempt, Instant::now(), now)?;
        let by = match admitted {
            Admitted::Contact(serial) => Depositor::Contact(serial),
            Admitted::Stranger(task) => {
                self.works.check(network, task).await?;
                Depositor::Stranger(network)
            }
        };
        let size = u32::try_from(blob.len()).map_err(|_| Refusal::Malformed)?;
        let deposit = Deposit { mailbox, id, size, by, days };
        let kept = self.mail.deposit(&deposit, blob, now).await.map_err(refused)?;
        if kept.is_new {
            if let Depositor::Stranger(network) = by {
                self.gate().paid(&mailbox, &network, Instant::now());
            }
            self.tell(mailbox, kept.number).await;
        }
        Ok(Response::Kept)
    }

    /// Tells the terminals of a mailbox that are connected here.
    async fn tell(&self, mailbox: MailboxId, newest: u64) {
        let told: Vec<TerminalId> = {
            let mut seats = self.seats();
            let new = seats.iter_mut().filter(|(_, seat)| seat.mailbox == mailbox && seat.told < newest);
            new.map(|(terminal, seat)| {
                seat.told = newest;
                *terminal
            })
            .collect()
        };
        for terminal in told {
            self.net.notice(terminal, Notice { mailbox, newest }).await;
        }
    }

    async fn enter(
        &self,
        from: TerminalId,
        network: Network,
        entry: &SignedEntry,
        now: UnixMillis,
    ) -> Result<Response, Refusal> {
        // Who is revoked is asked when it is known whose it says that it is.
        let entered = entry.verify(&self.directory, &self.entry, &from, |_| Vec::new(), now);
        let entered = entered.map_err(|error| {
            debug!(%error, "a terminal is not let into a mailbox");
            Refusal::NotEntered
        })?;
        let (identity, terminal) = (entered.identity, entered.cert.terminal);
        let revoked = self.net.revoked(&identity).await.unwrap_or_default();
        for (known, _) in self.mail.terminals(&entered.mailbox).await.map_err(busy)? {
            if revoked.contains(&known) {
                self.mail.revoke(entered.mailbox, known, now).await.map_err(refused)?;
            }
        }
        if revoked.contains(&terminal) {
            return Err(Refusal::NotEntered);
        }
        let account = self.store.account(&identity).await.map_err(busy)?;
        if account.as_ref().is_some_and(|account| account.closed.is_some()) {
            return Err(Refusal::NotEntered);
        }
        let guest = account.is_none().then_some(network);
        let entrant =
            Entrant { identity, terminal, until: entered.cert.not_after, open: entered.open, guest };
        if self.seats().len() >= MAX_SEATS {
            return Err(Refusal::Busy);
        }
        let newest = self.mail.enter(&entrant, now).await.map_err(refused)?;
        let (mailbox, until) = (entered.mailbox, entered.cert.not_after);
        self.seats().insert(from, Seat { mailbox, identity, until, told: newest, used: Instant::now() });
        Ok(Response::Entered { newest })
    }

    /// The seat of a terminal that wants something, unless it has been revoked meanwhile.
    async fn seat(&self, from: TerminalId, has_entered: bool, now: UnixMillis) -> Result<Seat, Refusal> {
        let seat = match self.seats().get_mut(&from) {
            Some(seat) if has_entered && now <= seat.until => {
                seat.used = Instant::now();
                *seat
            }
            Some(_) | None => return Err(Refusal::NotEntered),
        };
        let revoked = self.net.revoked(&seat.identity).await.unwrap_or_default();
        if revoked.contains(&from) {
            self.seats().remove(&from);
            self.mail.revoke(seat.mailbox, from, now).await.map_err(refused)?;
            return Err(Refusal::NotEntered);
        }
        Ok(seat)
    }

    /// What is asked by a terminal that has entered.
    async fn inside(
        &self,
        from: TerminalId,
        seat: Seat,
        request: Request,
        now: UnixMillis,
    ) -> Result<Response, Refusal> {
        let mailbox = seat.mailbox;
        match request {
            Request::List { after, max } => {
                let (items, more) = self.mail.list(&mailbox, after, usize::from(max)).await.map_err(busy)?;
                return Ok(Response::Listed { items, more });
            }
            Request::Get { id } => {
                let blob = self.mail.get(&mailbox, &id).await.map_err(busy)?;
                return blob.map(|blob| Response::Blob { blob }).ok_or(Refusal::NoBlob);
            }
            Request::Quota => {
                let report = self.mail.report(&mailbox).await.map_err(busy)?;
                return report.map(Response::Quota).ok_or(Refusal::NoMailbox);
            }
            Request::Acknowledge { ids } => self.mail.acknowledge(mailbox, from, ids, now).await,
            Request::Erase { ids } => self.mail.erase(mailbox, ids, now).await,
            Request::Rules { rules } => self.mail.set_rules(mailbox, rules, now).await,
            Request::Close => {
                let closed = self.mail.close(mailbox, now).await;
                self.seats().retain(|_, seat| seat.mailbox != mailbox);
                closed
            }
            Request::Price { .. }
            | Request::Deposit { .. }
            | Request::Challenge
            | Request::Enter { .. }
            | Request::Notice(_) => return Err(Refusal::Malformed),
        }
        .map_err(refused)?;
        Ok(Response::Done)
    }

    async fn round(&self) -> Result<(), MailError> {
        self.mail.catch_up().await?;
        if self.mail.is_due(wall_clock()).await {
            self.mail.expire(wall_clock()).await?;
        }
        self.seats().retain(|_, seat| seat.used.elapsed() < FORGOTTEN);
        let (contacts, strangers, mailboxes) = self.mail.held().await;
        self.net.tell_mail(MailGauges { mailboxes, contacts, strangers });
        Ok(())
    }
}

/// Erases what is over and tells the gauges, again and again.
async fn keep(post: Arc<Post>) {
    let mut rounds = tokio::time::interval(EVERY);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        if let Err(error) = post.round().await {
            warn!(%error, "the mailboxes could not be looked through");
        }
    }
}

/// Tells terminals here of what other processes have kept for them.
async fn listen(post: Arc<Post>, mut heard: Heard) {
    loop {
        let mailbox = heard.next().await;
        let has_seat = post.seats().values().any(|seat| seat.mailbox == mailbox);
        if !has_seat {
            continue;
        }
        match post.mail.newest(&[mailbox]).await {
            Ok(newest) => {
                for (mailbox, newest) in newest {
                    post.tell(mailbox, newest).await;
                }
            }
            Err(error) => warn!(%error, "terminals could not be told what has come"),
        }
    }
}

/// What is wrong with the store is no business of whoever asked.
fn busy(error: StoreError) -> Refusal {
    warn!(%error, "a mailbox could not be read");
    Refusal::Busy
}

fn refused(error: MailError) -> Refusal {
    if let MailError::Store(error) = &error {
        warn!(%error, "a mailbox could not be changed");
    }
    error.refusal()
}
