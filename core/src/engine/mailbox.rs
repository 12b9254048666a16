//! Fetching what was left for this account while no terminal of it was on line.
//!
//! Every directory that this terminal is at home with is asked to keep the account's mailbox. What is there is fetched when the
//! directory is reached, when it says that something has come, and every so often; it is opened, verified as a call is, written to disk, and
//! only then acknowledged. What is on disk already, from another directory or straight, is acknowledged and not shown again. What does not
//! open and never will is erased there.

use super::{Engine, Internal};
use crate::api::Event;
use crate::clock::wall_clock;
use crate::net::{Net, RequestError};
use crate::storage::{AccountStore, PinCheck, Sender, StorageError, VoicePart, VoicemailEntry};
use offhook_proto::identity::{DirectoryId, Fingerprint, IdentityId, TerminalId};
use offhook_proto::mailbox::contacts::DepositRules;
use offhook_proto::mailbox::letter::{self, Content, MAX_MARKED, Mark, MessageId, Part, Received};
use offhook_proto::mailbox::protocol::{
    Entry, Item, MAX_IDS, MAX_LISTED, Notice, Request, Response, SignedEntry,
};
use offhook_proto::mailbox::{BlobId, MailboxId};
use offhook_proto::number::{NodeAddr, Number};
use offhook_proto::record::{MAX_MAILBOXES, check};
use offhook_proto::signalling::VerifiedIntro;
use offhook_proto::wire::UnixMillis;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How often mailboxes are looked into though nobody has said that something has come.
const EVERY: Duration = Duration::from_secs(600);
/// The same while a directory did not answer as it should.
const RETRY: Duration = Duration::from_secs(20);
/// Blobs up to this size are taken together, in the order of their times; the longer ones one by one. Bytes.
const SHORT: u32 = 16 * 1024;

/// When mailboxes are looked into.
#[derive(Debug, Default)]
pub(super) struct Collector {
    running: bool,
    /// Something has come since it was begun.
    again: bool,
    due: Option<Instant>,
    /// The nodes that were asked last.
    nodes: Vec<NodeAddr>,
}

/// What comes of it.
pub(super) enum News {
    /// A text.
    Text { from: Number, identity: IdentityId, name: Option<String>, body: String, id: MessageId },
    /// What has become of messages of ours.
    Marked { mark: Mark, ids: Vec<MessageId> },
    /// A voice message.
    Voicemail { entry: VoicemailEntry, name: Option<String> },
    /// The sender has another key than the pinned one.
    KeyChanged { number: Number, pinned: Fingerprint, offered: Fingerprint },
    /// A letter of ours is to be sent.
    Waits { id: MessageId, to: Number, written: UnixMillis },
    /// All have been asked; these keep the mailbox, and whether all has gone well.
    Collected { kept_at: Vec<NodeAddr>, well: bool },
}

impl Collector {
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due.filter(|_| !self.running)
    }
}

impl Engine {
    /// A directory says that something has come.
    pub(super) fn on_notice(&mut self, from: TerminalId, notice: Notice) {
        let is_asked = self.collector.nodes.iter().any(|node| peer_of(node) == Some(from));
        if is_asked && notice.mailbox == MailboxId::of(&self.account.identity()) {
            self.collect();
        }
    }

    /// Looks into the mailboxes if other directories than before are there, or it is time.
    pub(super) fn collect_if_due(&mut self, now: Instant) {
        let nodes = one_of_each(self.net.routes());
        let is_new = nodes != self.collector.nodes;
        self.collector.nodes = nodes;
        if is_new || self.collector.poll_timeout().is_some_and(|due| due <= now) {
            self.collect();
        }
    }

    fn collect(&mut self) {
        if self.collector.nodes.is_empty() {
            self.collector.due = None;
            return;
        }
        if self.collector.running {
            self.collector.again = true;
            return;
        }
        (self.collector.running, self.collector.again) = (true, false);
        let work = Collecting {
            account: self.account.clone(),
            net: self.net.clone(),
            internal: self.internal.clone(),
            delivered: BTreeMap::new(),
            directories: Vec::new(),
        };
        let nodes = self.collector.nodes.clone();
        self.jobs.spawn(work.run(nodes));
    }

    pub(super) async fn on_mail(&mut self, news: News) {
        match news {
            News::Text { from, identity, name, body, id } => {
                self.outbox_wake(&from);
                let (silent, id) = (self.is_text_silent(&identity, &from, name.is_some()), id.to_string());
                self.emit(Event::Text { from, name, body, call: None, id, silent });
            }
            News::Marked { mark, ids } => {
                for id in ids {
                    let id = id.to_string();
                    self.emit(if mark == Mark::Read {
                        Event::TextRead { id }
                    } else {
                        Event::TextDelivered { id }
                    });
                }
            }
            News::Voicemail { entry, name } => {
                let VoicemailEntry { row, number, written, duration_ms, .. } = entry;
                self.emit(Event::Voicemail {
                    voicemail: row,
                    from: number,
                    name,
                    at: written.0,
                    duration_ms,
                });
            }
            News::KeyChanged { number, pinned, offered } => {
                self.key_changed(&number, pinned, offered, false).await;
            }
            News::Waits { id, to, written } => self.outbox_add(id, &to, written),
            News::Collected { kept_at, well } => self.collected(kept_at, well).await,
        }
    }

    async fn collected(&mut self, kept_at: Vec<NodeAddr>, well: bool) {
        self.collector.running = false;
        self.collector.due = Some(Instant::now() + if well { EVERY } else { RETRY });
        if std::mem::take(&mut self.collector.again) {
            self.collect();
        }
        // A directory that is away for a while is no reason to tell everybody otherwise.
        if !well || kept_at.is_empty() {
            return;
        }
        match self.name_mailboxes(kept_at).await {
            Ok(true) => {
                if let Err(error) = self.account.reload().await {
                    tracing::error!(%error, "the account's papers could not be read again");
                }
                self.publisher.now(Instant::now());
                self.publish_if_due(Instant::now());
            }
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "the account's mailboxes could not be noted"),
        }
    }

    /// Notes where the mailboxes are, and has the account's records name them if the key is at hand; whether it was.
    async fn name_mailboxes(&self, nodes: Vec<NodeAddr>) -> Result<bool, StorageError> {
        let peers = |nodes: &[NodeAddr]| {
            let mut peers: Vec<_> = nodes.iter().filter_map(peer_of).collect();
            peers.sort_unstable();
            peers
        };
        let known = self.account.own_mailboxes().await?;
        if peers(&known) != peers(&nodes) {
            self.account.set_mailboxes(&nodes).await?;
        }
        let (_, named) = self.account.of_record().await?;
        if peers(&named) == peers(&nodes) {
            return Ok(false);
        }
        // Without it the records are signed the next time that the password is entered.
        match self.account.unattended_key().await? {
            Some(key) => self.account.update_record(&key, &[]).await,
            None => Ok(false),
        }
    }
}

/// The first address of each node, as many as keep a mailbox.
fn one_of_each(nodes: Vec<NodeAddr>) -> Vec<NodeAddr> {
    let mut one: Vec<NodeAddr> = Vec::new();
    for node in nodes {
        let node = node.relay().unwrap_or(node);
        let is_known = one.iter().any(|other| peer_of(other) == peer_of(&node));
        if !is_known && one.len() < MAX_MAILBOXES {
            one.push(node);
        }
    }
    one
}

/// The key of the node at an address.
pub(super) fn peer_of(node: &NodeAddr) -> Option<TerminalId> {
    TerminalId::from_peer_id(node.peer_id()?).ok()
}

/// Which directory a node belongs to, and a challenge to enter its mailboxes.
pub(super) async fn directory_at(
    net: &Net,
    node: &NodeAddr,
) -> Result<(DirectoryId, offhook_proto::mailbox::protocol::EntryChallenge), Failure> {
    let answer = net.mail(std::slice::from_ref(node), Request::Challenge).await?;
    let Response::Challenge { challenge, node: signed } = answer else { return Err(Failure::of(&answer)) };
    let peer = peer_of(node).ok_or(Failure::Nonsense)?;
    Ok((signed.verify(&peer).map_err(|_| Failure::Nonsense)?, challenge))
}

/// Why a directory is of no use at the moment.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("the directory refuses: {0:?}")]
    Refused(offhook_proto::mailbox::protocol::Refusal),
    #[error("the directory answers nonsense")]
    Nonsense,
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Failure {
    pub fn of(response: &Response) -> Self {
        if let Response::Refused { reason } = response { Self::Refused(*reason) } else { Self::Nonsense }
    }
}

/// What is to be done with a blob.
enum Fate {
    /// It is on disk here.
    Has,
    /// Nobody can do anything with it.
    Erase,
    /// Another terminal, or this one later, may.
    Leave,
}

struct Collecting {
    account: AccountStore,
    net: Net,
    internal: mpsc::Sender<Internal>,
    /// Letters of contacts that were taken: they are told.
    delivered: BTreeMap<String, (Number, Vec<MessageId>)>,
    /// Those that keep the mailbox.
    directories: Vec<DirectoryId>,
}

impl Collecting {
    async fn run(mut self, nodes: Vec<NodeAddr>) {
        let (mut kept_at, mut well) = (Vec::new(), true);
        for node in nodes {
            match self.collect_at(&node).await {
                Ok(()) => kept_at.push(node),
                // An older program.
                Err(Failure::Request(RequestError::Unsupported)) => {}
                // It is a terminal that serves others, or a directory that keeps none (for us).
                Err(Failure::Refused(reason)) if !reason.is_temporary() => {
                    tracing::debug!(?reason, "no mailbox there");
                }
                Err(error) => {
                    tracing::info!(%error, "a mailbox could not be looked into");
                    well = false;
                }
            }
        }
        if well
            && !self.directories.is_empty()
            && let Err(error) = self.account.set_mailbox_directories(&self.directories).await
        {
            tracing::error!(%error, "the account's mailboxes could not be noted");
        }
        if let Err(error) = self.tell_delivered().await {
            tracing::error!(%error, "marks could not be kept");
        }
        self.tell(News::Collected { kept_at, well }).await;
    }

    async fn tell(&self, news: News) {
        // An error means that the engine has ended.
        let _ = self.internal.send(Internal::Mail(Box::new(news))).await;
    }

    async fn ask(&self, node: &NodeAddr, request: Request) -> Result<Response, Failure> {
        let answer = self.net.mail(std::slice::from_ref(node), request).await?;
        if let Response::Refused { reason } = answer { Err(Failure::Refused(reason)) } else { Ok(answer) }
    }

    async fn collect_at(&mut self, node: &NodeAddr) -> Result<(), Failure> {
        let (directory, challenge) = directory_at(&self.net, node).await?;
        let entry = Entry { directory, challenge, cert: self.account.cert(), open: true };
        let entry = SignedEntry::sign(self.account.terminal_key(), &entry);
        self.ask(node, Request::Enter { entry }).await?;
        if !self.directories.contains(&directory) {
            self.directories.push(directory);
        }
        let keys = vec![self.account.token_secret().deposit_key(&directory)];
        let rules = DepositRules { keys, revoked: Vec::new(), strangers: true };
        self.ask(node, Request::Rules { rules }).await?;
        let mut after = 0;
        loop {
            let listed = self.ask(node, Request::List { after, max: MAX_LISTED }).await?;
            let Response::Listed { items, more } = listed else { return Err(Failure::Nonsense) };
            let last = items.last().map(|item| item.number);
            self.take_page(node, items).await?;
            match last.filter(|last| more && *last > after) {
                Some(last) => after = last,
                None => return Ok(()),
            }
        }
    }

    /// Takes what is listed, and says so.
    async fn take_page(&mut self, node: &NodeAddr, items: Vec<Item>) -> Result<(), Failure> {
        let (mut has, mut erase, mut opened) = (Vec::new(), Vec::new(), Vec::new());
        let (short, long): (Vec<Item>, Vec<Item>) = items.into_iter().partition(|item| item.size <= SHORT);
        for item in short {
            match self.fetch(node, &item).await? {
                Ok(received) => opened.push((item.id, received)),
                Err(fate) => sort(item.id, &fate, &mut has, &mut erase),
            }
        }
        // A directory may list them in any order.
        opened.sort_by_key(|(_, received)| received.at);
        for (id, received) in opened {
            let fate = self.take(id, *received).await?;
            sort(id, &fate, &mut has, &mut erase);
        }
        for item in long {
            let fate = match self.fetch(node, &item).await? {
                Ok(received) => self.take(item.id, *received).await?,
                Err(fate) => fate,
            };
            sort(item.id, &fate, &mut has, &mut erase);
        }
        for ids in has.chunks(MAX_IDS) {
            self.ask(node, Request::Acknowledge { ids: ids.to_vec() }).await?;
        }
        for ids in erase.chunks(MAX_IDS) {
            self.ask(node, Request::Erase { ids: ids.to_vec() }).await?;
        }
        Ok(())
    }

    /// Gets a blob and opens it.
    async fn fetch(&self, node: &NodeAddr, item: &Item) -> Result<Result<Box<Received>, Fate>, Failure> {
        if self.account.mail_had(&item.id).await? {
            return Ok(Err(Fate::Has));
        }
        let blob = match self.ask(node, Request::Get { id: item.id }).await {
            Ok(Response::Blob { blob }) if BlobId::of(&blob) == item.id => blob,
            Ok(Response::Blob { .. }) => {
                tracing::warn!("a directory hands out another blob than the one that was asked for");
                return Ok(Err(Fate::Leave));
            }
            Ok(_) => return Err(Failure::Nonsense),
            // Another terminal has had it erased.
            Err(Failure::Refused(offhook_proto::mailbox::protocol::Refusal::NoBlob)) => {
                return Ok(Err(Fate::Leave));
            }
            Err(error) => return Err(error),
        };
        let keys = [self.account.mailbox_key().clone()];
        match letter::open(&blob, &keys, &self.account.identity(), wall_clock()) {
            Ok(received) => Ok(Ok(Box::new(received))),
            Err(error) => {
                tracing::info!(%error, "what was left does not open");
                Ok(Err(if error.may_be_good() { Fate::Leave } else { Fate::Erase }))
            }
        }
    }

    /// Takes a letter whose seal and signature are good.
    async fn take(&mut self, blob: BlobId, received: Received) -> Result<Fate, Failure> {
        let Received { id, from, at, grants, part, .. } = received;
        let Some(number) = self.number_of(&from).await? else {
            tracing::info!("a letter is refused: its number does not belong to its key");
            return Ok(Fate::Erase);
        };
        if self.is_revoked(&number, &from).await? {
            tracing::info!("a letter of a terminal that its account has revoked is refused");
            return Ok(Fate::Erase);
        }
        if let PinCheck::Differs { pinned } = self.account.pin(&number, &from.identity).await? {
            let offered = from.identity.fingerprint();
            self.tell(News::KeyChanged { number, pinned, offered }).await;
            // Until the user has confirmed the other key.
            return Ok(Fate::Leave);
        }
        let contact = self.account.contact(&number).await?;
        if contact.is_some() {
            self.account.keep_grants(&from.identity, &grants).await?;
        }
        let sender = Sender { identity: from.identity, number: &number, id, written: at };
        let is_contact = contact.is_some();
        let name = contact.map(|contact| contact.name);
        let is_news = self.keep(sender, part, name).await?;
        self.account.mail_has(&blob, wall_clock()).await?;
        if is_news && is_contact {
            let told = self.delivered.entry(number.canonical()).or_insert_with(|| (number, Vec::new()));
            told.1.push(id);
        }
        Ok(Fate::Has)
    }

    /// Writes what a letter says to disk, and tells of it; whether its sender may be told that it is here.
    async fn keep(&self, from: Sender<'_>, part: Part, name: Option<String>) -> Result<bool, Failure> {
        match part {
            Part::Text { body } => {
                let new = self.account.take_text(from, &body).await?;
                if new {
                    let (identity, id, from) = (from.identity, from.id, from.number.clone());
                    self.tell(News::Text { from, identity, name, body, id }).await;
                }
                Ok(new)
            }
            Part::Mark { mark, of } => {
                let ids = self.account.take_mark(from, mark, &of).await?;
                if !ids.is_empty() {
                    self.tell(News::Marked { mark, ids }).await;
                }
                Ok(false)
            }
            Part::Voice { duration_ms, total, digest, index, data, .. } => {
                let part = VoicePart { piece: index, duration_ms, total, digest, data };
                let whole = self.account.take_voice(from, part).await?;
                let is_whole = whole.is_some();
                if let Some(entry) = whole {
                    self.tell(News::Voicemail { entry, name }).await;
                }
                Ok(is_whole)
            }
        }
    }

    /// By which number a sender is shown: a chosen one under which the key is known, else the plain one, which follows from the key.
    /// `None`: it does not.
    async fn number_of(&self, from: &VerifiedIntro) -> Result<Option<Number>, Failure> {
        if let Some(chosen) = from.by_chosen()
            && self.account.pinned(&chosen.number).await? == Some(chosen.identity)
        {
            return Ok(Some(chosen.number));
        }
        let is_pinned = self.account.pinned(&from.number).await? == Some(from.identity);
        let is_proven = match from.number {
            Number::Plain(_) => is_pinned || self.net.prove(from.proof.clone()).await,
            // Anybody can issue one in any directory's name.
            Number::Chosen(_) => is_pinned,
        };
        Ok(is_proven.then(|| from.number.clone()))
    }

    /// Whether the account record kept here, if there is one, says that the terminal was lost or stolen.
    async fn is_revoked(&self, number: &Number, from: &VerifiedIntro) -> Result<bool, Failure> {
        let Some(key) = self.account.place_of(number).await? else { return Ok(false) };
        let cached = self.account.cached_record(number).await?;
        let set = cached.and_then(|cached| check(&key, &cached, wall_clock()).ok());
        let account = set.and_then(|set| set.account);
        Ok(account.is_some_and(|account| {
            account.identity == from.identity && account.revoked.contains(&from.cert.terminal)
        }))
    }

    /// Contacts are told that what they have left is here.
    async fn tell_delivered(&mut self) -> Result<(), StorageError> {
        for (number, ids) in std::mem::take(&mut self.delivered).into_values() {
            for of in ids.chunks(MAX_MARKED) {
                let content = Content::Mark { mark: Mark::Delivered, of: of.to_vec() };
                let id = MessageId::from_bytes(rand::random());
                let letter = self.account.letter_put(id, &number, &content, wall_clock()).await?;
                self.tell(News::Waits { id, to: number.clone(), written: letter.written }).await;
            }
        }
        Ok(())
    }
}

fn sort(id: BlobId, fate: &Fate, has: &mut Vec<BlobId>, erase: &mut Vec<BlobId>) {
    match fate {
        Fate::Has => has.push(id),
        Fate::Erase => erase.push(id),
        Fate::Leave => {}
    }
}
