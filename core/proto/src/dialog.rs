//! Reliable, ordered exchange of [`Message`]s between two terminals over routes that lose, repeat and reorder.
//!
//! One [`Dialog`] is one end of one (call, terminal) pair. In: [`Dialog::send`], [`Dialog::receive`],
//! [`Dialog::handle_timeout`], all with the monotonic `now`, which never goes back. Out: after each of them poll
//! [`Dialog::poll_frame`] until `None`, send each [`Frame`] as a packet, and call `handle_timeout` when
//! [`Dialog::poll_timeout`] is due.
//!
//! Every message is numbered from 1 and repeated until its number is acknowledged. Acknowledgements are
//! cumulative and go along with messages, or alone if there is none within [`ACK_DELAY`], or [`SHORT_ACK_DELAY`] for urgent
//! messages and what comes out of order; at once for texts, the end and repetitions. Copies are acknowledged once in
//! [`COPY`], however many come. The time to the first repetition is measured (RFC 6298, with Karn's rule) and doubles with
//! each further one. A dialog is dead when its oldest
//! message has been unacknowledged for [`GIVE_UP`] and nothing at all came from the other side meanwhile, or
//! for [`GIVE_UP_UNACKED`] whatever else came. Once it [persists](Dialog::persist) only the latter counts.
//!
//! What was handed out is acknowledged with the next frame, except for text messages: whoever sent one wants to know that
//! it is kept. Neither a text nor what came after it is acknowledged before [`Dialog::release`].
//!
//! Final messages (reject, cancel, bye) are handed out as soon as they arrive, because a call must not go on
//! ringing while an earlier candidate is still on its way. The acknowledgement stays true nevertheless.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::signalling::Message;
use crate::wire::UnixMillis;

/// First repetition, before a round trip has been measured. A signalling round trip through two directories
/// takes 100 to 300 ms; RFC 6298's 1 s would be heard as a long silence after one lost invite.
const INITIAL_RTO: Duration = Duration::from_millis(400);
/// The first repetition of each message comes no later than this, or half as long again as a round trip takes, however
/// unsteady that is: where packets get lost, round trips vary most, and a message that waits is heard as silence.
const MAX_FIRST_RTO: Duration = Duration::from_millis(500);
/// What somebody waits for ([`Message::is_urgent`]) is repeated for the first time after this, or a quarter more than a round trip
/// takes: through two directories that is 200 ms, where nothing gets lost.
const URGENT_RTO: Duration = Duration::from_millis(250);
/// A directory may need this long to pass a packet on even when the round trip is short.
const MIN_RTO: Duration = Duration::from_millis(200);
/// Repetitions are never further apart: a call is set up within seconds or not at all.
const MAX_RTO: Duration = Duration::from_secs(2);
/// An acknowledgement waits so long for a message that it can go along with: a packet of its own costs each directory on the
/// way a kilobyte. Short enough for [`INITIAL_RTO`] to hold with a round trip of 250 ms.
pub const ACK_DELAY: Duration = Duration::from_millis(100);
/// The same if the other side repeats soon, or should know that something is missing: what overtakes comes a few milliseconds before what
/// it has overtaken.
const SHORT_ACK_DELAY: Duration = Duration::from_millis(25);
/// What comes again so soon after an acknowledgement is a copy by another way, or one of many that have waited for a connection that
/// loses packets: another acknowledgement would only make the others wait. A repetition comes after [`MIN_RTO`] at the earliest.
const COPY: Duration = Duration::from_millis(150);
/// Unacknowledged for so long with no sign of the other side: dead.
pub const GIVE_UP: Duration = Duration::from_secs(8);
/// Unacknowledged for so long although the other side sends: dead.
pub const GIVE_UP_UNACKED: Duration = Duration::from_secs(20);
/// Messages unacknowledged at a time. [`Dialog::send`] refuses more.
pub const SEND_WINDOW: usize = 28;
/// Places beyond [`SEND_WINDOW`] that only final messages may take, so that a hang-up always finds room.
const RESERVED: usize = 2;
/// Messages kept while an earlier one is missing or held. Those further ahead are dropped (and will be repeated).
const RECEIVE_WINDOW: u32 = 32;
/// Messages repeated when a timer fires. The rest follows when these are acknowledged.
const REPEAT_AT_ONCE: usize = 8;

/// There is no place for a further message before some are acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("too many messages are waiting for the other side")]
pub struct QueueFull;

/// What goes into one packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Number of `message`, or 0 without one.
    pub seq: u32,
    /// Everything up to this number has been received and is safe.
    pub ack: u32,
    /// When `message` was handed to [`Dialog::send`]; for an acknowledgement, the time of the last input.
    pub time: UnixMillis,
    /// The message.
    pub message: Option<Message>,
}

/// What one received packet brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Numbers of our messages that have arrived, in order.
    pub acked: Vec<u32>,
    /// Messages whose turn it is, in order, with their numbers. One that was in `urgent` before is not repeated here.
    pub messages: Vec<(u32, Message)>,
    /// A final message that arrived before earlier ones.
    pub urgent: Option<Message>,
}

#[derive(Debug)]
struct Unacked {
    seq: u32,
    message: Message,
    time: UnixMillis,
    first_sent: Instant,
    repeated: bool,
}

/// One end of a dialog. See the head of the module.
#[derive(Debug)]
pub struct Dialog {
    next_seq: u32,
    unacked: VecDeque<Unacked>,
    /// Numbers to be put into frames, ascending.
    outbox: VecDeque<u32>,
    received: u32,
    /// Received ahead of `received + 1`. `None`: already handed out, or of an unknown kind.
    ahead: BTreeMap<u32, Option<Message>>,
    /// Texts that were handed out and are not to be acknowledged yet.
    held: BTreeSet<u32>,
    ack_due: bool,
    /// When an acknowledgement is due, unless it goes along with a message before.
    ack_at: Option<Instant>,
    wall: UnixMillis,
    last_heard: Option<Instant>,
    /// When something came last that is acknowledged, now or within [`ACK_DELAY`].
    answered: Option<Instant>,
    resend_at: Option<Instant>,
    rto: Duration,
    rtt: Option<Rtt>,
    persistent: bool,
}

/// Smoothed round trip and its variation, RFC 6298 section 2.
#[derive(Clone, Copy, Debug)]
struct Rtt {
    smoothed: Duration,
    variation: Duration,
}

impl Default for Dialog {
    fn default() -> Self {
        Self::new()
    }
}

impl Dialog {
    /// A dialog in which nothing was exchanged yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            next_seq: 1,
            unacked: VecDeque::new(),
            outbox: VecDeque::new(),
            received: 0,
            ahead: BTreeMap::new(),
            held: BTreeSet::new(),
            ack_due: false,
            ack_at: None,
            wall: UnixMillis(0),
            last_heard: None,
            answered: None,
            resend_at: None,
            rto: INITIAL_RTO,
            rtt: None,
            persistent: false,
        }
    }

    /// From now on silence does not end it before [`GIVE_UP_UNACKED`]: something else tells whether the other side is there.
    pub fn persist(&mut self) {
        self.persistent = true;
    }

    /// Queues a message and returns its number.
    ///
    /// # Errors
    /// [`QueueFull`] if [`SEND_WINDOW`] messages are unacknowledged; for final messages a little later.
    pub fn send(&mut self, now: Instant, wall: UnixMillis, message: Message) -> Result<u32, QueueFull> {
        let room = if message.is_final() { SEND_WINDOW + RESERVED } else { SEND_WINDOW };
        if self.unacked.len() >= room {
            return Err(QueueFull);
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        if message.is_urgent() {
            self.rto = self.rto.min(self.rtt.map_or(URGENT_RTO, |rtt| URGENT_RTO.max(rtt.smoothed * 5 / 4)));
            let due = now + self.rto;
            let before = self.resend_at.filter(|_| !self.unacked.is_empty());
            self.resend_at = Some(before.map_or(due, |before| before.min(due)));
        } else if self.unacked.is_empty() {
            self.resend_at = Some(now + self.rto);
        }
        self.unacked.push_back(Unacked { seq, message, time: wall, first_sent: now, repeated: false });
        self.outbox.push_back(seq);
        self.wall = wall;
        Ok(seq)
    }

    /// Takes what a packet of the other side says. `message` is `None` with a `seq` for unknown kinds.
    pub fn receive(
        &mut self,
        now: Instant,
        wall: UnixMillis,
        seq: u32,
        ack: u32,
        message: Option<Message>,
    ) -> Received {
        self.wall = wall;
        self.last_heard = Some(now);
        let mut received = Received { acked: self.take_ack(now, ack), ..Received::default() };
        if seq != 0 {
            self.take_message(now, seq, message, &mut received);
        }
        received
    }

    /// Forgets what was not acknowledged: nobody needs it any more.
    pub fn abandon(&mut self) {
        self.unacked.clear();
        self.outbox.clear();
        self.resend_at = None;
    }

    /// The text message `seq` may be acknowledged. Until then the other side goes on repeating it, and is told that we
    /// are there.
    pub fn release(&mut self, seq: u32) {
        self.ack_due |= self.held.remove(&seq);
    }

    /// Sends again at once what is unacknowledged: a better route has become known. The next repetition comes when it
    /// would have come after a first sending.
    pub fn repeat(&mut self, now: Instant) {
        self.queue_repetition();
        if !self.unacked.is_empty() {
            self.resend_at = Some(now + self.rto);
        }
    }

    /// Every message that we sent has arrived, and nothing that we received is missing, held or to be acknowledged.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let settled = !self.ack_due && self.ack_at.is_none();
        settled && self.unacked.is_empty() && self.ahead.is_empty() && self.held.is_empty()
    }

    /// The other side has acknowledged a message, so it knows who we are.
    #[must_use]
    pub fn is_acked(&self) -> bool {
        self.next_seq - 1 > u32::try_from(self.unacked.len()).unwrap_or(u32::MAX)
    }

    /// Something was received at some time.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.last_heard.is_some()
    }

    /// What we acknowledge: everything up to this number was received, and none of it is held.
    #[must_use]
    pub fn ack(&self) -> u32 {
        self.held.first().map_or(self.received, |seq| seq - 1)
    }

    /// The same, for a packet without a number that goes now: what is due need not go by itself.
    pub fn acknowledge_along(&mut self) -> u32 {
        (self.ack_due, self.ack_at) = (false, None);
        self.ack()
    }

    /// Messages waiting for an acknowledgement.
    #[must_use]
    pub fn unacked(&self) -> usize {
        self.unacked.len()
    }

    /// The next frame to send, if any.
    pub fn poll_frame(&mut self) -> Option<Frame> {
        while let Some(seq) = self.outbox.pop_front() {
            // What was acknowledged since it was queued needs no sending.
            let Some(sent) = self.unacked.iter().find(|sent| sent.seq == seq) else { continue };
            // An invite always says 0, so that all its repetitions have the same bytes and one hash.
            let ack = if matches!(sent.message, Message::Invite { .. }) { 0 } else { self.ack() };
            let frame = Frame { seq, ack, time: sent.time, message: Some(sent.message.clone()) };
            if ack == self.ack() {
                (self.ack_due, self.ack_at) = (false, None);
            }
            return Some(frame);
        }
        if !std::mem::take(&mut self.ack_due) {
            return None;
        }
        self.ack_at = None;
        Some(Frame { seq: 0, ack: self.ack(), time: self.wall, message: None })
    }

    /// When [`Dialog::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let resend = self.resend_at.filter(|_| !self.unacked.is_empty());
        [self.give_up_at(), resend, self.ack_at].into_iter().flatten().min()
    }

    /// Repeats what is due.
    ///
    /// # Errors
    /// [`Dead`] when the other side has not been heard of for too long. The dialog stays dead.
    pub fn handle_timeout(&mut self, now: Instant, wall: UnixMillis) -> Result<(), Dead> {
        if self.give_up_at().is_some_and(|at| at <= now) {
            return Err(Dead);
        }
        if self.ack_at.take_if(|at| *at <= now).is_some() {
            (self.ack_due, self.wall) = (true, wall);
        }
        if self.resend_at.is_none_or(|at| at > now) {
            return Ok(());
        }
        self.wall = wall;
        self.queue_repetition();
        self.rto = (self.rto * 2).min(MAX_RTO);
        self.resend_at = Some(now + self.rto);
        Ok(())
    }

    fn queue_repetition(&mut self) {
        self.outbox.clear();
        for sent in self.unacked.iter_mut().take(REPEAT_AT_ONCE) {
            sent.repeated = true;
            self.outbox.push_back(sent.seq);
        }
    }

    fn give_up_at(&self) -> Option<Instant> {
        let oldest = self.unacked.front()?.first_sent;
        if self.persistent {
            return Some(oldest + GIVE_UP_UNACKED);
        }
        let silent_since = self.last_heard.map_or(oldest, |heard| heard.max(oldest));
        Some((silent_since + GIVE_UP).min(oldest + GIVE_UP_UNACKED))
    }

    fn take_ack(&mut self, now: Instant, ack: u32) -> Vec<u32> {
        let mut acked = Vec::new();
        if ack >= self.next_seq {
            // Acknowledges what was never sent: a faulty peer; believing it would lose messages.
            return acked;
        }
        while self.unacked.front().is_some_and(|sent| sent.seq <= ack)
            && let Some(sent) = self.unacked.pop_front()
        {
            // Karn: a repeated message does not tell which of its copies was answered.
            if !sent.repeated {
                self.measure(now.saturating_duration_since(sent.first_sent));
            }
            acked.push(sent.seq);
        }
        if !acked.is_empty() {
            self.rto = self.rtt.map_or(INITIAL_RTO, Rtt::timeout);
            self.resend_at = (!self.unacked.is_empty()).then(|| now + self.rto);
        }
        acked
    }

    fn take_message(&mut self, now: Instant, seq: u32, message: Option<Message>, received: &mut Received) {
        // What is held takes places too: whoever does not wait for acknowledgements gets no further.
        let known = seq <= self.received || self.ahead.contains_key(&seq);
        if known || seq - self.ack() > RECEIVE_WINDOW {
            // Repetitions are acknowledged again: the first acknowledgement may be lost.
            if !(known && self.answered.is_some_and(|answered| now < answered + COPY)) {
                (self.ack_due, self.answered) = (true, Some(now));
            }
            return;
        }
        self.answered = Some(now);
        let early = seq != self.received + 1;
        // Where something got lost or overtaken, the other side is to know how it stands.
        let out_of_order = early || !self.ahead.is_empty();
        // Nothing is likely to come that it could go along with.
        if message
            .as_ref()
            .is_some_and(|m| m.is_final() || matches!(m, Message::Text { .. } | Message::Presence(_)))
        {
            self.ack_due = true;
        } else {
            let is_urgent = message.as_ref().is_some_and(Message::is_urgent);
            let due = now + if is_urgent || out_of_order { SHORT_ACK_DELAY } else { ACK_DELAY };
            self.ack_at = Some(self.ack_at.map_or(due, |at| at.min(due)));
        }
        let urgent = early && message.as_ref().is_some_and(Message::is_final);
        if urgent {
            received.urgent = message;
            self.ahead.insert(seq, None);
        } else {
            self.ahead.insert(seq, message);
        }
        while let Some(message) = self.ahead.remove(&(self.received + 1)) {
            self.received += 1;
            if matches!(message, Some(Message::Text { .. })) {
                self.held.insert(self.received);
            }
            received.messages.extend(message.map(|message| (self.received, message)));
        }
    }

    fn measure(&mut self, sample: Duration) {
        self.rtt = Some(match self.rtt {
            None => Rtt { smoothed: sample, variation: sample / 2 },
            Some(rtt) => Rtt {
                smoothed: (rtt.smoothed * 7 + sample) / 8,
                variation: (rtt.variation * 3 + rtt.smoothed.abs_diff(sample)) / 4,
            },
        });
    }
}

impl Rtt {
    fn timeout(self) -> Duration {
        let most = MAX_FIRST_RTO.max(self.smoothed * 3 / 2).min(MAX_RTO);
        (self.smoothed + self.variation * 4).clamp(MIN_RTO, most)
    }
}

/// The other side of a dialog cannot be reached any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the other side does not answer")]
pub struct Dead;

#[cfg(test)]
mod tests;
