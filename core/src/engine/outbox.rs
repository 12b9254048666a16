//! Letters of ours: left at the directories of those who are not on line, or kept until they are.
//!
//! A text that finds nobody becomes a letter, which is on disk before anybody is told. It is deposited at every directory that the receiver's
//! account record names; if none takes it, it is tried straight again and again, as the [`Outbox`](offhook_proto::mailbox::outbox) says.

use super::commands::new_call_id;
use super::mailbox::{Failure, News as MailNews, directory_at, peer_of};
use super::outputs::introduction;
use super::{Engine, Internal, now};
use crate::api::Event;
use crate::clock::wall_clock;
use crate::net::{LookupEvent, Net};
use crate::storage::{AccountStore, MessageState, OutLetter, SealedFor, StorageError};
use offhook_proto::call::TextFailure;
use offhook_proto::identity::{DirectoryId, IdentityId};
use offhook_proto::mailbox::letter::{Content, Letter, MessageId};
use offhook_proto::mailbox::outbox::{Outbox, Outcome, Verdict};
use offhook_proto::mailbox::protocol::{Admission, Refusal, Request, Response};
use offhook_proto::mailbox::{BlobId, MAX_KEEP_DAYS, MailboxId};
use offhook_proto::number::{Invitation, NodeAddr, Number, RecordKey};
use offhook_proto::proof::Miner;
use offhook_proto::puzzle::{Challenge, Purpose, Solution};
use offhook_proto::record::{AccountRecord, check};
use offhook_proto::signalling::{Introduction, TextId};
use offhook_proto::wire::UnixMillis;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long the receiver's records are looked for.
const LOOKUP_TIME: Duration = Duration::from_secs(5);
/// Dearer work than this is not done: two minutes of one core. Later it costs less.
const MAX_BITS: u8 = 12;
/// Nonces between two looks whether somebody still wants the work.
const NONCES: u64 = 64;
/// Directories that are tried where the record names none.
const MAX_GUESSES: usize = 3;

/// What came of a letter.
pub(super) enum News {
    /// A try is over.
    Tried { id: MessageId, tried: Tried, quiet: bool },
    /// A text has become a letter.
    Kept { id: MessageId, to: Number, written: UnixMillis },
    /// It could not be kept.
    Lost { id: MessageId, why: TextFailure },
}

/// What a try at the receiver's directories came to.
pub(super) enum Tried {
    /// A directory has it.
    Left,
    /// No directory takes it now; a text may be sent straight.
    Nowhere(Option<(Number, String)>),
}

/// Letters on their way.
#[derive(Debug, Default)]
pub(super) struct Letters {
    outbox: Outbox<String>,
    /// Texts that are tried straight.
    straight: BTreeMap<MessageId, Number>,
    /// Letters of which it was told that they wait here.
    told: BTreeSet<MessageId>,
}

impl Letters {
    /// When something is to be tried.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = self.outbox.poll_timeout()?;
        Some(Instant::now() + due.since(wall_clock()))
    }
}

/// Whether somebody who was not reached so may be reached later.
fn may_be_later(why: TextFailure) -> bool {
    match why {
        TextFailure::Unreachable
        | TextFailure::Busy
        | TextFailure::TimedOut
        | TextFailure::CallEnded
        | TextFailure::Lookup => true,
        TextFailure::WrongNumber
        | TextFailure::Blocked
        // Somebody is there, and can see to his disk.
        | TextFailure::NotKept
        | TextFailure::Refused
        | TextFailure::KeyChanged
        | TextFailure::Disputed
        | TextFailure::Expired
        | TextFailure::Clock => false,
    }
}

impl Engine {
    /// What an earlier run has left on its way.
    pub(super) async fn load_letters(&mut self) {
        match self.account.letters_waiting().await {
            Ok(waiting) => {
                for (id, to, written) in waiting {
                    self.outbox_add(id, &to, written);
                }
            }
            Err(error) => tracing::error!(%error, "the letters that wait could not be read"),
        }
    }

    pub(super) fn outbox_add(&mut self, id: MessageId, to: &Number, written: UnixMillis) {
        if self.letters.outbox.add(id, to.canonical(), written, wall_clock()).is_err() {
            tracing::warn!("too many letters wait; one waits for the next start");
        }
    }

    /// Somebody has been heard of: what waits for him is tried soon.
    pub(super) fn outbox_wake(&mut self, number: &Number) {
        self.letters.outbox.wake(Some(&number.canonical()), wall_clock());
    }

    /// The network is there again.
    pub(super) fn outbox_wake_all(&mut self) {
        self.letters.outbox.wake(None, wall_clock());
    }

    /// Tries what is due.
    pub(super) fn send_letters(&mut self) {
        while let Some(id) = self.letters.outbox.next(wall_clock()) {
            let work = Sending {
                account: self.account.clone(),
                net: self.net.clone(),
                from: introduction(&self.account, self.net.routes(), self.shown_as.clone()),
            };
            let internal = self.internal.clone();
            self.jobs.spawn(async move {
                let (tried, quiet) = match work.send(&id).await {
                    Ok(done) => done,
                    Err(error) => {
                        tracing::error!(%error, "a letter could not be read or noted");
                        (Tried::Nowhere(None), true)
                    }
                };
                // An error means that the engine has ended.
                let _ = internal.send(Internal::Letter(Box::new(News::Tried { id, tried, quiet }))).await;
            });
        }
    }

    /// A text has reached a terminal.
    pub(super) fn on_text_delivered(&mut self, id: TextId) {
        self.emit(Event::TextDelivered { id: id.to_string() });
        self.mark_message(id, MessageState::Delivered);
        if self.letters.straight.remove(&id).is_some() {
            self.letter_over(id, Outcome::Done, Some(MessageState::Delivered));
        }
    }

    /// A text has reached nobody: it is kept, and left where it can be.
    pub(super) fn on_text_failed(&mut self, id: TextId, why: TextFailure) {
        let is_letter = self.letters.straight.remove(&id).is_some();
        match (is_letter, may_be_later(why)) {
            (true, true) => self.letter_over(id, Outcome::Later, None),
            (true, false) => {
                self.letter_over(id, Outcome::Never, Some(MessageState::Failed));
                self.tell_text_failed(id, why);
            }
            (false, true) => self.leave_text(id, why),
            (false, false) => {
                self.mark_message(id, MessageState::Failed);
                self.tell_text_failed(id, why);
            }
        }
    }

    fn tell_text_failed(&self, id: TextId, why: TextFailure) {
        let reason = super::calls::text_failure(why);
        self.emit(Event::TextFailed { id: id.to_string(), reason });
    }

    fn leave_text(&self, id: TextId, why: TextFailure) {
        let (account, internal) = (self.account.clone(), self.internal.clone());
        self.jobs.spawn(async move {
            let news = match keep_text(&account, id, why).await {
                Ok(Some(letter)) => News::Kept { id, to: letter.number, written: letter.written },
                Ok(None) => News::Lost { id, why },
                Err(error) => {
                    tracing::error!(%error, "a text could not be kept for later");
                    News::Lost { id, why }
                }
            };
            // An error means that the engine has ended.
            let _ = internal.send(Internal::Letter(Box::new(news))).await;
        });
    }

    pub(super) async fn on_letter(&mut self, news: News) {
        match news {
            News::Kept { id, to, written } => self.outbox_add(id, &to, written),
            News::Lost { id, why } => {
                self.mark_message(id, MessageState::Failed);
                self.tell_text_failed(id, why);
            }
            News::Tried { id, tried: Tried::Left, quiet } => {
                if !quiet {
                    self.emit(Event::TextWaits { id: id.to_string(), left: true });
                }
                self.letter_over(id, Outcome::Done, Some(MessageState::Left));
            }
            News::Tried { id, tried: Tried::Nowhere(Some((number, body))), .. } => {
                if self.letters.told.insert(id) {
                    self.emit(Event::TextWaits { id: id.to_string(), left: false });
                    // It was tried straight just now.
                    return self.letter_over(id, Outcome::Later, None);
                }
                self.send_straight(id, number, body).await;
            }
            News::Tried { id, tried: Tried::Nowhere(None), quiet } => {
                if !quiet && self.letters.told.insert(id) {
                    self.emit(Event::TextWaits { id: id.to_string(), left: false });
                }
                self.letter_over(id, Outcome::Later, None);
            }
        }
    }

    /// Tries a text as if it had just been written: its receiver may be back.
    async fn send_straight(&mut self, id: MessageId, number: Number, body: String) {
        let place = self.account.place_of(&number).await.ok().flatten();
        let link = Invitation { number: number.clone(), key: None, via: Vec::new() };
        let (Some(key), Ok(pin)) = (place, self.expected_key(&link).await) else {
            return self.letter_over(id, Outcome::Later, None);
        };
        let dialog = new_call_id();
        if let Err(error) = self.calls.text_to(now(), dialog, number.clone(), id, body) {
            tracing::debug!(%error, "a text cannot be sent straight now");
            return self.letter_over(id, Outcome::Later, None);
        }
        self.letters.straight.insert(id, number);
        self.search(dialog, link, key, pin).await;
    }

    /// A try is over.
    fn letter_over(&mut self, id: MessageId, outcome: Outcome, state: Option<MessageState>) {
        let verdict = self.letters.outbox.outcome(&id, outcome, wall_clock());
        if verdict != Verdict::Waits {
            self.letters.told.remove(&id);
        }
        let state = match verdict {
            Verdict::Waits => return,
            Verdict::Gone => state,
            Verdict::GivenUp => Some(MessageState::Failed),
        };
        self.keep("the end of a letter", move |account| async move { account.letter_done(&id, state).await });
    }
}

/// Makes a letter of a text that is in the list of messages; `None` if it is in none, or perhaps for nobody.
async fn keep_text(
    account: &AccountStore,
    id: TextId,
    why: TextFailure,
) -> Result<Option<OutLetter>, StorageError> {
    let Some((number, body, sent)) = account.own_message(&id.to_string()).await? else { return Ok(None) };
    // Without the network nobody knows whether there is such a number, unless it was met before.
    let is_met = account.pin_of(&number).await?.is_some() || account.cached_record(&number).await?.is_some();
    if why == TextFailure::Lookup && !is_met {
        return Ok(None);
    }
    account.letter_put(id, &number, &Content::Text { body }, sent).await.map(Some)
}

/// One try of one letter.
struct Sending {
    account: AccountStore,
    net: Net,
    from: Introduction,
}

/// Where a letter goes.
struct Address {
    identity: IdentityId,
    record: AccountRecord,
    nodes: Vec<NodeAddr>,
}

impl Sending {
    /// What it comes to, and whether nobody needs to hear of it.
    async fn send(&self, id: &MessageId) -> Result<(Tried, bool), StorageError> {
        let Some(letter) = self.account.letter(id).await? else { return Ok((Tried::Left, true)) };
        let quiet = matches!(letter.content, Content::Mark { .. });
        Ok((self.send_letter(letter).await?, quiet))
    }

    async fn send_letter(&self, letter: OutLetter) -> Result<Tried, StorageError> {
        let Some(key) = self.account.place_of(&letter.number).await? else { return Ok(straight(&letter)) };
        let Some(address) = self.address(&letter.number, key).await? else { return Ok(straight(&letter)) };
        let sealed = self.sealed(&letter, &address).await?;
        let whole = self.whole(&letter, &sealed).await?;
        let mut left = false;
        for node in &address.nodes {
            match self.leave_at(node, &letter, &whole).await {
                Ok(()) => left = true,
                Err(Failure::Storage(error)) => return Err(error),
                Err(error) => tracing::debug!(%error, "a letter is not left at a directory"),
            }
        }
        Ok(if left { Tried::Left } else { straight(&letter) })
    }

    /// The receiver's account record, if its key is the one that is expected, and the nodes that may keep his mailbox.
    async fn address(&self, number: &Number, key: RecordKey) -> Result<Option<Address>, StorageError> {
        let mut guesses: Vec<NodeAddr> = Vec::new();
        guesses.extend(self.account.routes_of(number).await?);
        if let Number::Chosen(chosen) = number
            && let Some(name) = chosen.directory()
            && let Some(known) = self.account.known_directory(name).await?
        {
            guesses.extend(super::directories::nodes_of(&known));
        }
        let pin = self.account.pin_of(number).await?.map(|pin| pin.expected());
        let (mut found, mut lately): (Vec<AccountRecord>, Vec<NodeAddr>) = (Vec::new(), Vec::new());
        let mut lookup = self.net.lookup(key, &guesses);
        let search = async {
            while let Some(event) = lookup.next().await {
                match event {
                    LookupEvent::Found { set, .. } => {
                        let addrs = set.terminals.iter().flat_map(|terminal| terminal.addrs.clone());
                        lately.extend(addrs.filter_map(|addr| addr.relay()));
                        found.extend(set.account.map(|account| (*account).clone()));
                    }
                    LookupEvent::Finished { .. } => break,
                }
            }
        };
        // What was found by then counts.
        let _ = tokio::time::timeout(LOOKUP_TIME, search).await;
        let cached = self.account.cached_record(number).await?;
        let cached = cached.and_then(|cached| check(&key, &cached, wall_clock()).ok());
        found.extend(cached.and_then(|set| set.account).map(|account| (*account).clone()));
        found.retain(|record| {
            record.number == *number && pin.as_ref().is_none_or(|pin| pin.matches(&record.identity))
        });
        let newest = found.iter().max_by_key(|record| record.seq).cloned();
        // Two have the number, and nothing says whose it is.
        let record = newest.filter(|newest| found.iter().all(|other| other.identity == newest.identity));
        Ok(record.map(|record| {
            let mut nodes = record.mailboxes.clone();
            if nodes.is_empty() {
                // Where its terminals were lately, where they were before, and where this one is.
                let all = lately.into_iter().chain(guesses).chain(self.net.routes());
                nodes = all.map(|node| node.relay().unwrap_or(node)).collect();
            }
            let mut seen = Vec::new();
            nodes.retain(|node| {
                let peer = peer_of(node);
                let is_new = peer.is_some() && !seen.contains(&peer);
                seen.push(peer);
                is_new
            });
            nodes.truncate(MAX_GUESSES);
            Address { identity: record.identity, record, nodes }
        }))
    }

    /// What the letter is sealed with: as it was first, unless the receiver has another key by now.
    async fn sealed(&self, letter: &OutLetter, to: &Address) -> Result<SealedFor, StorageError> {
        let same =
            |sealed: &&SealedFor| sealed.identity == to.identity && sealed.mailbox == to.record.mailbox;
        if let Some(sealed) = letter.sealed.as_ref().filter(same) {
            return Ok(sealed.clone());
        }
        let (identity, mailbox) = (to.identity, to.record.mailbox);
        let sealed = SealedFor { identity, mailbox, from: self.from.clone() };
        self.account.letter_sealed(&letter.id, &sealed).await?;
        Ok(sealed)
    }

    async fn whole(&self, letter: &OutLetter, sealed: &SealedFor) -> Result<Letter, StorageError> {
        let mut grants = Vec::new();
        if self.account.contact(&letter.number).await?.is_some() {
            let secret = self.account.token_secret();
            for directory in self.account.mailbox_directories().await? {
                grants.push(secret.grant(&directory, &sealed.identity, 0, letter.written));
            }
        }
        Ok(Letter {
            id: letter.id,
            from: sealed.from.clone(),
            to: sealed.identity,
            mailbox: sealed.mailbox,
            at: letter.written,
            after: letter.after,
            grants,
            content: letter.content.clone(),
        })
    }

    /// Leaves all pieces at a directory; those that it has from an earlier try are not sent again.
    async fn leave_at(&self, node: &NodeAddr, letter: &OutLetter, whole: &Letter) -> Result<(), Failure> {
        let name = node.peer_id().ok_or(Failure::Nonsense)?;
        let there = self.account.letter_pieces(&letter.id, name).await?;
        let missing: Vec<usize> = (0..whole.pieces()).filter(|piece| !there.contains(piece)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let (directory, _) = directory_at(&self.net, node).await?;
        for piece in missing {
            let seed = letter.piece_seed(piece, &whole.mailbox);
            let blob = whole.seal(piece, self.account.terminal_key(), seed).map_err(|error| {
                tracing::warn!(%error, "a letter cannot be sealed");
                Failure::Nonsense
            })?;
            self.deposit(node, &directory, &whole.to, blob).await?;
            self.account.letter_piece(&letter.id, name, piece).await?;
        }
        Ok(())
    }

    async fn deposit(
        &self,
        node: &NodeAddr,
        directory: &DirectoryId,
        to: &IdentityId,
        blob: Vec<u8>,
    ) -> Result<(), Failure> {
        let mailbox = MailboxId::of(to);
        if let Some(token) = self.account.token(to, directory).await? {
            match self.offer(node, mailbox, Admission::Token(token), blob.clone()).await {
                Err(Failure::Refused(Refusal::Token)) => self.account.forget_token(to, directory).await?,
                done => return done,
            }
        }
        let answer = self.net.mail(std::slice::from_ref(node), Request::Price { mailbox }).await?;
        let Response::Price { challenge } = answer else { return Err(Failure::of(&answer)) };
        if challenge.bits > MAX_BITS {
            return Err(Failure::Refused(Refusal::Work));
        }
        let solution = solve(challenge, Purpose::deposit(&mailbox, &BlobId::of(&blob))).await;
        let solution = solution.ok_or(Failure::Nonsense)?;
        self.offer(node, mailbox, Admission::Work(solution), blob).await
    }

    async fn offer(
        &self,
        node: &NodeAddr,
        mailbox: MailboxId,
        admission: Admission,
        blob: Vec<u8>,
    ) -> Result<(), Failure> {
        let deposit = Request::Deposit { mailbox, days: MAX_KEEP_DAYS, admission, blob };
        let answer = self.net.mail(std::slice::from_ref(node), deposit).await?;
        if answer == Response::Kept { Ok(()) } else { Err(Failure::of(&answer)) }
    }
}

/// A text may be sent straight where no directory takes it.
fn straight(letter: &OutLetter) -> Tried {
    match &letter.content {
        Content::Text { body } => Tried::Nowhere(Some((letter.number.clone(), body.clone()))),
        Content::Voicemail(_) | Content::Mark { .. } => Tried::Nowhere(None),
    }
}

/// Does a stranger's work, off the threads that serve others. It ends soon after nobody waits for it any more.
async fn solve(challenge: Challenge, purpose: Purpose) -> Option<Solution> {
    let (wanted, work) = tokio::sync::oneshot::channel::<Option<Solution>>();
    tokio::task::spawn_blocking(move || {
        let mut miner = Miner::new();
        let mut from = 0;
        while !wanted.is_closed() {
            let to = from + NONCES;
            if let Some(solution) = challenge.solve(&purpose, from..to, &mut miner) {
                // Nobody may wait any more.
                let _ = wanted.send(Some(solution));
                return;
            }
            from = to;
        }
    });
    work.await.ok().flatten()
}

/// What other parts tell of letters.
impl From<News> for Internal {
    fn from(news: News) -> Self {
        Self::Letter(Box::new(news))
    }
}

impl From<MailNews> for Internal {
    fn from(news: MailNews) -> Self {
        Self::Mail(Box::new(news))
    }
}
