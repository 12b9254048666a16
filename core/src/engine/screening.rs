//! Unwanted calls: what is done with the first packet of a dialog before anything that costs much, what the user is told of it, and the
//! work that others ask of this terminal.
//!
//! ```text
//! unsealed ── claims to be a contact, or met ────────────► signatures ── pinned key, contact ── policy ── rings
//!    │
//!    └─ a stranger ─┬─ has not paid: policy, price, answers left? ── no: nothing more is done
//!                   │                                             └─ yes: signatures ── told why, and nothing is kept; or its number's proof
//!                   └─ a puzzle of ours ── room in the queue? ── signatures ── one slow hash ── policy, price ── its number's proof
//! ```

use super::commands::new_call_id;
use super::proofs::Unproven;
use super::{Engine, Internal, now};
use crate::api::{Event, RefusedCall};
use crate::clock::{local_time, wall_clock};
use crate::fair::FairQueue;
use crate::net::{Reach, SignalTarget};
use crate::storage::{self, AccountStore, StorageError};
use offhook_proto::call::{Caller, Output, Peer};
use offhook_proto::identity::{Fingerprint, IdentityId, TerminalId};
use offhook_proto::number::Number;
use offhook_proto::proof::Miner;
use offhook_proto::puzzle::{Challenge, MAX_BITS, Purpose, PuzzleKey, PuzzleTask, Solution, Subject};
use offhook_proto::screening::{Decision, Incoming, LetterDecision, Reason, Screen, Standing, Verdict};
use offhook_proto::signalling::{self, CallId, Message, Opened, Packet, RejectReason};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Solutions that wait to be checked, and those that came through one node.
const MAX_PAID: usize = 32;
const MAX_PAID_PER_NODE: usize = 8;
/// What did not ring is written down no more often than this.
const KEEP_EVERY: Duration = Duration::from_secs(2);
/// Nonces that are tried between two looks whether to go on.
const NONCES_AT_A_TIME: u64 = 8;

/// What the first packet of a dialog meets.
enum Door {
    /// Nothing more is done.
    Shut,
    /// It says it is a contact's, or somebody's whom the user expects: it is verified, and screened when that is known.
    Open,
    /// A stranger's, as it was judged by what it says.
    Judged(Verdict<Decision>),
    /// A stranger's who may have paid.
    Paid(Paid),
}

/// What is to be checked of a payment.
pub(super) struct Paid {
    task: PuzzleTask,
    challenge: Challenge,
}

/// A payment, and who says to have made it.
pub(super) struct Payment {
    packet: Unproven,
    paid: Paid,
    identity: IdentityId,
}

/// A puzzle that is being solved here. Dropped, it is given up.
pub(super) struct Toil(Arc<AtomicBool>);

impl Drop for Toil {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// What a job has found out.
pub(super) enum News {
    /// Whether a payment is one.
    Checked(Box<Payment>, bool, Box<Miner>),
    /// A puzzle of somebody else is solved.
    Solved(CallId, CallId, Solution),
}

/// Whom the user knows, as far as it can be told by what a packet says.
#[derive(Default)]
struct Known {
    keys: BTreeSet<Fingerprint>,
    numbers: BTreeSet<Number>,
    /// Spoken with before.
    met: BTreeSet<IdentityId>,
}

/// Everything about unwanted calls.
pub(super) struct Screener {
    screen: Screen,
    key: PuzzleKey,
    known: Known,
    payments: FairQueue<TerminalId, Payment>,
    payers: BTreeSet<IdentityId>,
    /// Kept between two checks; `None` while one runs.
    miner: Option<Box<Miner>>,
    checking: bool,
    toils: BTreeMap<CallId, Toil>,
    /// Calls that the answering machine takes while quiet is wanted.
    silent: BTreeSet<CallId>,
    /// When what did not ring is written down.
    keep_at: Option<Instant>,
}

impl Screener {
    /// With what the account's file says.
    pub async fn load(account: &AccountStore) -> Result<Self, StorageError> {
        let mut screen = Screen::new(account.policy().await?);
        screen.remember(account.refused_log().await?);
        Ok(Self {
            screen,
            key: PuzzleKey::of_account(account.mailbox_key()),
            known: Known::default(),
            payments: FairQueue::new(MAX_PAID, MAX_PAID_PER_NODE),
            payers: BTreeSet::new(),
            miner: None,
            checking: false,
            toils: BTreeMap::new(),
            silent: BTreeSet::new(),
            keep_at: None,
        })
    }

    /// When something is to be written down.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.keep_at
    }

    /// Whether quiet is wanted of strangers now: what contacts are told.
    pub fn is_quiet(&self) -> bool {
        self.screen.policy().quiet(local_time(), false).is_some()
    }

    /// Whether nothing is to ring for this call, which the answering machine takes.
    pub fn take_silent(&mut self, call: &CallId) -> bool {
        self.silent.remove(call)
    }

    /// The work for a call is over, done or not.
    pub fn stop_work(&mut self, call: &CallId) {
        self.toils.remove(call);
    }

    pub fn set_known(&mut self, contacts: &[storage::Contact], met: Vec<IdentityId>) {
        self.known = Known {
            keys: contacts.iter().filter_map(|contact| contact.fingerprint).collect(),
            numbers: contacts.iter().map(|contact| contact.number.clone()).collect(),
            met: met.into_iter().collect(),
        };
    }
}

impl Engine {
    /// Takes up what the file says of unwanted calls: it may have been changed here, by the command line, or at another terminal.
    pub(super) async fn reload_policy(&mut self) {
        match self.account.policy().await {
            Ok(policy) => self.screener.screen.set_policy(policy),
            Err(error) => tracing::error!(%error, "the settings about unwanted calls could not be read"),
        }
        self.presence.set_quiet(Instant::now(), self.screener.is_quiet());
    }

    /// The first packet of a dialog has been unsealed: whether it is worth a look at its signatures. Nothing that it says is proven.
    fn door(&mut self, claims: &Packet, via: TerminalId) -> Door {
        // Without an introduction a packet of an unknown dialog is not even opened.
        let Some(intro) = &claims.intro else { return Door::Shut };
        let known = &self.screener.known;
        if known.keys.contains(&intro.identity.fingerprint()) || known.met.contains(&intro.identity) {
            return Door::Open;
        }
        // Somebody else's key under a contact's number, or a contact's whose key is not known: no more of them than proofs can be run.
        if known.numbers.contains(&intro.number) {
            return if self.proofs.has_room(&via, &intro.identity) { Door::Open } else { Door::Shut };
        }
        match &claims.message {
            Some(Message::Invite { replaces: Some(token), .. }) if self.calls.expects(now(), token) => {
                Door::Open
            }
            Some(Message::Invite { .. }) if self.calls.is_calling(&intro.identity, &intro.number) => {
                Door::Open
            }
            Some(Message::Invite { solution, .. }) => {
                let (identity, number) = (intro.identity, intro.number.clone());
                self.door_of_stranger(claims, via, (&identity, &number), solution.as_ref())
            }
            Some(Message::Text { .. }) if self.screener.screen.hears(Instant::now(), local_time()) => {
                Door::Open
            }
            // What comes along with an invite that waits for its proof.
            Some(Message::Candidates { .. } | Message::Tunnel { .. }) | None
                if self.proofs.has_claim(&intro.identity) =>
            {
                Door::Open
            }
            _ => Door::Shut,
        }
    }

    fn door_of_stranger(
        &mut self,
        claims: &Packet,
        via: TerminalId,
        (identity, number): (&IdentityId, &Number),
        solution: Option<&Solution>,
    ) -> Door {
        let at = Instant::now();
        let screener = &mut self.screener;
        let unspent =
            solution.filter(|solved| screener.screen.is_unspent(at, &solved.challenge, claims.call));
        if let Some(solved) = unspent {
            let subject = Subject::call(&self.account.identity(), identity);
            let purpose = Purpose::call(&claims.call, &claims.from);
            let price = screener.screen.price(at);
            if let Ok(task) = screener.key.check(&subject, solved, &purpose, price, wall_clock()) {
                let waits = screener.payers.contains(identity) || self.proofs.has_claim(identity);
                let room = !waits && screener.payments.has_room(&via);
                return if room {
                    Door::Paid(Paid { task, challenge: solved.challenge })
                } else {
                    Door::Shut
                };
            }
        }
        let incoming = Incoming { identity, number, standing: Standing::Stranger { paid: None } };
        let verdict = screener.screen.judge(at, local_time(), &incoming);
        if verdict.decision == Decision::Ignore {
            self.refused_later();
            return Door::Shut;
        }
        Door::Judged(verdict)
    }

    /// A sealed packet from the network, which came through the node `via`: nothing that costs much is done before it is known to be
    /// wanted.
    pub(super) async fn screen_signal(&mut self, blob: &[u8], via: TerminalId) {
        let Some(unverified) = self.unseal(blob) else { return };
        let claims = unverified.claims();
        let door =
            if self.calls.knows(&claims.call, &claims.from) { Door::Open } else { self.door(claims, via) };
        if matches!(door, Door::Shut) {
            return;
        }
        let Some(opened) = self.verified(unverified) else { return };
        super::inbound::tell(&opened, "a packet has come by signalling");
        match door {
            Door::Shut => {}
            Door::Open => self.take(Unproven { opened, via, welcome: false }).await,
            Door::Judged(verdict) if verdict.decision == Decision::Ring => {
                self.take(Unproven { opened, via, welcome: true }).await;
            }
            Door::Judged(verdict) => self.turn_away(&opened, via, verdict).await,
            Door::Paid(paid) => self.check_payment(opened, via, paid),
        }
    }

    /// Has a payment checked in the background, one at a time.
    fn check_payment(&mut self, opened: Opened, via: TerminalId, paid: Paid) {
        let Some(identity) = opened.intro.as_ref().map(|intro| intro.identity) else { return };
        let payment = Payment { packet: Unproven { opened, via, welcome: true }, paid, identity };
        let out = self.screener.payments.push(via, payment);
        let refused = out.map(|out| out.identity);
        if refused != Some(identity) {
            self.screener.payers.insert(identity);
        }
        if let Some(out) = refused.filter(|out| *out != identity) {
            self.screener.payers.remove(&out);
        }
        self.check_next_payment();
    }

    fn check_next_payment(&mut self) {
        let screener = &mut self.screener;
        if screener.checking {
            return;
        }
        let Some(payment) = screener.payments.pop() else { return };
        screener.checking = true;
        let (miner, internal) = (screener.miner.take(), self.internal.clone());
        self.jobs.spawn_blocking(move || {
            let mut miner = miner.unwrap_or_else(|| Box::new(Miner::new()));
            let good = payment.paid.task.run_with(&mut miner);
            // An error means that the engine has ended.
            let _ =
                internal.blocking_send(Internal::Screening(News::Checked(Box::new(payment), good, miner)));
        });
    }

    pub(super) async fn on_screening(&mut self, news: News) {
        match news {
            News::Checked(payment, good, miner) => {
                self.screener.checking = false;
                self.screener.miner = Some(miner);
                self.on_payment(*payment, good).await;
                self.check_next_payment();
            }
            News::Solved(call, next, solution) => {
                self.screener.toils.remove(&call);
                if let Err(error) = self.calls.worked(now(), call, next, solution) {
                    tracing::debug!(%error, "a call was over before its work was done");
                }
            }
        }
    }

    async fn on_payment(&mut self, payment: Payment, good: bool) {
        let Payment { packet, paid, identity } = payment;
        self.screener.payers.remove(&identity);
        let (at, screen) = (Instant::now(), &mut self.screener.screen);
        let call = packet.opened.packet.call;
        // A wrong one uses the challenge up as well: nobody tries his luck.
        screen.spend(at, &paid.challenge, call);
        let Some(intro) = packet.opened.intro.clone() else { return };
        if !good {
            tracing::debug!("a packet is refused: its puzzle is not solved");
            return;
        }
        let standing = Standing::Stranger { paid: Some(paid.challenge.bits) };
        let incoming = Incoming { identity: &identity, number: &intro.number, standing };
        let verdict = screen.judge(at, local_time(), &incoming);
        if verdict.decision == Decision::Ring {
            self.take(packet).await;
        } else {
            self.turn_away(&packet.opened, packet.via, verdict).await;
        }
    }

    /// Tells a stranger that it does not ring, and keeps nothing but the reason.
    async fn turn_away(&mut self, opened: &Opened, via: TerminalId, verdict: Verdict<Decision>) {
        let Some(intro) = opened.intro.clone() else { return };
        let refusal = match verdict.decision {
            Decision::Work { bits } => {
                let subject = Subject::call(&self.account.identity(), &intro.identity);
                let challenge = Some(self.screener.key.challenge(&subject, bits, wall_clock()));
                Message::Reject { reason: RejectReason::Work, challenge }
            }
            Decision::Voicemail => Message::reject(RejectReason::Voicemail),
            Decision::Refuse => Message::reject(RejectReason::Blocked),
            Decision::Ring | Decision::Ignore => return,
        };
        let Some(output) = self.calls.turn_away(now(), opened, refusal) else { return };
        self.note_refused((intro.identity, &intro.number), false, verdict).await;
        if let Output::Transmit { peer, packet, .. } = output {
            self.answer_once(&peer, &packet, via);
        }
    }

    /// Sends a packet of a dialog of which nothing is kept, the way the other end's came.
    fn answer_once(&self, peer: &Peer, packet: &Packet, via: TerminalId) {
        let seed: [u8; 32] = rand::random();
        let blob = match signalling::seal(packet, self.account.terminal_key(), &peer.seal, seed) {
            Ok(blob) => blob,
            Err(error) => return tracing::warn!(%error, "a packet could not be sealed"),
        };
        let target = SignalTarget {
            terminal: peer.terminal,
            addrs: peer.routes.clone(),
            via: Some(via),
            reach: Reach::Discreet,
            again: false,
        };
        let net = self.net.clone();
        self.jobs.spawn(async move {
            if let Err(error) = net.signal(target, blob).await {
                tracing::debug!(%error, "a refusal could not be delivered");
            }
        });
    }

    /// What the policy says of a contact's call, or of somebody's who was let in at the door.
    pub(super) async fn screened(
        &mut self,
        packet: &Unproven,
        intro: &offhook_proto::signalling::VerifiedIntro,
        caller: Caller,
    ) -> Option<Caller> {
        let contact = match caller {
            Caller::Contact => true,
            Caller::Stranger if packet.welcome => return Some(caller),
            Caller::Stranger => false,
            Caller::Refused(_) => return Some(caller),
        };
        let exempt = self.screener.screen.policy().is_exempt(&intro.number);
        // Whoever was spoken with has paid for ever.
        let paid = self.screener.known.met.contains(&intro.identity).then_some(MAX_BITS);
        let standing = if contact { Standing::Contact { exempt } } else { Standing::Stranger { paid } };
        let incoming = Incoming { identity: &intro.identity, number: &intro.number, standing };
        let local = local_time();
        match &packet.opened.packet.message {
            Some(Message::Invite { replaces: Some(token), .. }) if self.calls.expects(now(), token) => {
                Some(caller)
            }
            Some(Message::Invite { .. }) if self.calls.is_calling(&intro.identity, &intro.number) => {
                Some(caller)
            }
            Some(Message::Invite { .. }) => {
                let verdict = self.screener.screen.judge(Instant::now(), local, &incoming);
                self.apply(packet, intro, caller, verdict).await
            }
            Some(Message::Text { .. }) => match self.screener.screen.letter(local, &incoming).decision {
                LetterDecision::Tell | LetterDecision::Keep => Some(caller),
                LetterDecision::Discard => Some(Caller::Refused(RejectReason::Blocked)),
            },
            // What has overtaken an invite must not open the door to it; it comes again.
            _ => {
                let policy = self.screener.screen.policy();
                let blocked = policy.blocks(&intro.identity, &intro.number);
                let presence = matches!(packet.opened.packet.message, Some(Message::Presence(_)));
                let quiet = !presence && !exempt && policy.quiet(local, contact).is_some();
                (contact && !blocked && !quiet).then_some(caller)
            }
        }
    }

    async fn apply(
        &mut self,
        packet: &Unproven,
        intro: &offhook_proto::signalling::VerifiedIntro,
        caller: Caller,
        verdict: Verdict<Decision>,
    ) -> Option<Caller> {
        let contact = caller == Caller::Contact;
        match verdict.decision {
            Decision::Ring => return Some(caller),
            Decision::Ignore => {
                self.refused_later();
                return None;
            }
            // The machine is the voicemail of who has one.
            Decision::Voicemail if contact && self.machines.is_on() => {
                self.screener.silent.insert(packet.opened.packet.call);
                return Some(caller);
            }
            Decision::Voicemail | Decision::Refuse | Decision::Work { .. } => {}
        }
        if !contact {
            self.turn_away(&packet.opened, packet.via, verdict).await;
            return None;
        }
        self.note_refused((intro.identity, &intro.number), true, verdict).await;
        Some(Caller::Refused(match verdict.decision {
            Decision::Voicemail => RejectReason::Voicemail,
            Decision::Ring | Decision::Refuse | Decision::Work { .. } | Decision::Ignore => {
                RejectReason::Blocked
            }
        }))
    }

    /// Whether a text is only kept, and nobody told by a sound.
    pub(super) fn is_text_silent(&self, identity: &IdentityId, number: &Number, contact: bool) -> bool {
        let screen = &self.screener.screen;
        let exempt = screen.policy().is_exempt(number);
        let standing = if contact { Standing::Contact { exempt } } else { Standing::Stranger { paid: None } };
        screen.letter(local_time(), &Incoming { identity, number, standing }).decision != LetterDecision::Tell
    }

    /// Notes why a call did not ring, and tells the programs.
    async fn note_refused(
        &mut self,
        (identity, number): (IdentityId, &Number),
        contact: bool,
        verdict: Verdict<Decision>,
    ) {
        let standing =
            if contact { Standing::Contact { exempt: false } } else { Standing::Stranger { paid: None } };
        let incoming = Incoming { identity: &identity, number, standing };
        let local = local_time();
        self.screener.screen.note(local, &incoming, verdict);
        self.refused_later();
        // Who is asked to work calls again in a moment.
        if verdict.reason == Reason::Unpaid {
            return;
        }
        let name = self.account.contact(number).await.ok().flatten().map(|contact| contact.name);
        let (at, reason, number) = (local.at.0, verdict.reason, Some(number.clone()));
        let call = RefusedCall { number, name, contact, reason, first: at, last: at, count: 1 };
        self.emit(Event::Refused(call));
    }

    fn refused_later(&mut self) {
        self.screener.keep_at.get_or_insert(Instant::now() + KEEP_EVERY);
    }

    /// Writes down what did not ring, if it is time.
    pub(super) fn keep_refused_if_due(&mut self, at: Instant) {
        if self.screener.keep_at.is_some_and(|due| due <= at) {
            self.keep_refused();
        }
    }

    /// Writes down what did not ring.
    pub(super) fn keep_refused(&mut self) {
        if self.screener.keep_at.take().is_none() {
            return;
        }
        let log = self.screener.screen.log().clone();
        self.keep("what did not ring", move |account| async move { account.keep_refused(&log).await });
    }

    /// What did not ring, as of this moment.
    pub(super) async fn refused(&self) -> Result<crate::api::Reply, crate::api::ApiError> {
        let calls = self.account.told(self.screener.screen.log()).await?;
        Ok(crate::api::Reply::Refused { calls })
    }

    /// Somebody else's terminal has strangers work: solve its puzzle in the background.
    pub(super) fn work(&mut self, call: CallId, challenge: Challenge) {
        let stop = Arc::new(AtomicBool::new(false));
        self.screener.toils.insert(call, Toil(Arc::clone(&stop)));
        let next = new_call_id();
        let purpose = Purpose::call(&next, &self.account.terminal_key().public());
        let internal = self.internal.clone();
        self.jobs.spawn_blocking(move || {
            let (mut miner, mut from) = (Miner::new(), 0_u64);
            while !stop.load(Relaxed) {
                let nonces = from..from.saturating_add(NONCES_AT_A_TIME);
                from = nonces.end;
                if let Some(solution) = challenge.solve(&purpose, nonces, &mut miner) {
                    // An error means that the engine has ended.
                    let _ = internal.blocking_send(Internal::Screening(News::Solved(call, next, solution)));
                    return;
                }
            }
        });
    }
}
