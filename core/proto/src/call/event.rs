//! What the machine tells: events for the application, outputs for the engine.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::transfer::TransferState;
use crate::identity::{IdentityId, SealPublic, TerminalId};
use crate::number::{NodeAddr, Number};
use crate::puzzle::Challenge;
use crate::signalling::{CallId, LastWord, MediaOffer, Packet, Presence, RecordingState, TextId};

/// One pair of terminals within a call: a forked call has several legs of which one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LegId {
    /// The call, as it is named on the wire. See [`Calls::call_of`](super::Calls::call_of) for its name towards
    /// the application: the two differ after glare.
    pub call: CallId,
    /// The other terminal.
    pub terminal: TerminalId,
}

/// The other terminal of a leg: how to seal to it, and where it may be reached.
#[derive(Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its account.
    pub identity: IdentityId,
    /// The terminal.
    pub terminal: TerminalId,
    /// Key to which packets are sealed.
    pub seal: SealPublic,
    /// From its record (outgoing calls) or its introduction (incoming ones). The way a packet came is often
    /// better; the engine knows it.
    pub routes: Vec<NodeAddr>,
}

impl fmt::Debug for Peer {
    /// Without routes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("terminal", &self.terminal).finish_non_exhaustive()
    }
}

/// Which end of a leg we are. The caller is the ICE controlling agent (RFC 8445 section 6.1.1) and QUIC's client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We sent the invite.
    Caller,
    /// We received it.
    Callee,
}

/// Which end started a call, as the application sees it. After glare both ends' calls are outgoing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Dialled here.
    Outgoing,
    /// Rang here.
    Incoming,
}

/// What the engine has to do. See the head of [`crate::call`] for the order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "outputs are moved once, and most of them are packets")]
pub enum Output {
    /// Seal the packet to `peer` and send it by whichever route is first. If every route says that the terminal
    /// is not there, call [`Calls::send_failed`](super::Calls::send_failed).
    Transmit {
        /// The leg; it may be one that the machine has already forgotten.
        leg: LegId,
        /// Whom to seal to.
        peer: Arc<Peer>,
        /// What to seal.
        packet: Packet,
    },
    /// Make a media connection's socket, certificate and ICE credentials, and call
    /// [`Calls::set_offer`](super::Calls::set_offer) at once, without waiting for candidates.
    PrepareMedia {
        /// The leg.
        leg: LegId,
        /// Our end of it.
        role: Role,
        /// Addresses may be shown to the other side from the beginning. If false: nothing may go to the other side
        /// before [`Output::Disclose`], except through a relay.
        disclose: bool,
    },
    /// The other side's media parameters.
    RemoteOffer {
        /// The leg.
        leg: LegId,
        /// The parameters.
        offer: MediaOffer,
    },
    /// Candidates of the other side. Connectivity checks to them show our address: before [`Output::Disclose`] they may
    /// be made from a relay only.
    RemoteCandidates {
        /// The leg.
        leg: LegId,
        /// Candidate attributes as in SDP, not parsed yet.
        list: Vec<String>,
        /// All earlier ones are over: the other side's network has changed.
        anew: bool,
    },
    /// From now on our addresses may be shown on this leg.
    Disclose {
        /// The leg.
        leg: LegId,
    },
    /// A tunnelled datagram of the QUIC handshake arrived.
    Tunnel {
        /// The leg.
        leg: LegId,
        /// The datagram.
        data: Vec<u8>,
    },
    /// Microphone and loudspeaker on: the call is accepted. Nothing may go to the other side before. The media
    /// connection may not be up yet; what is said until then is lost.
    StartAudio {
        /// The leg.
        leg: LegId,
    },
    /// Close the media connection. Comes exactly once for every [`Output::PrepareMedia`].
    StopMedia {
        /// The leg.
        leg: LegId,
        /// What the end of the connection is to repeat of our last message; `None` if the other side had it.
        last: Option<LastWord>,
    },
    /// Write a text message that arrived to disk, show it to the user if it was not there yet, and answer by
    /// [`Calls::text_kept`](super::Calls::text_kept). Only then is it acknowledged to its sender, who repeats it until
    /// then; so the engine needs to know messages again by their sender's number and their id.
    KeepText {
        /// For the answer.
        key: TextKey,
        /// The message.
        text: IncomingText,
    },
    /// The callee has strangers solve a puzzle before it rings. Solve it for [`Purpose::call`](crate::puzzle::Purpose::call) of a new call id
    /// and this terminal, and call [`Calls::worked`](super::Calls::worked); or, if it is too much, [`Calls::gave_up`](super::Calls::gave_up). To be
    /// stopped when anything else is told of the call.
    Work {
        /// The call.
        call: CallId,
        /// The puzzle.
        challenge: Challenge,
    },
    /// For the application.
    Event(CallEvent),
}

/// Names a text message that waits to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TextKey {
    pub(super) leg: LegId,
    /// Its number in the dialog.
    pub(super) seq: u32,
}

/// A text message that arrived.
#[derive(Clone, PartialEq, Eq)]
pub struct IncomingText {
    /// The call to which it belongs, if any.
    pub call: Option<CallId>,
    /// The sender's number.
    pub from: Number,
    /// The sender's account.
    pub identity: IdentityId,
    /// The engine said that the sender is a contact.
    pub contact: bool,
    /// The message's id.
    pub id: TextId,
    /// The message.
    pub body: String,
}

impl fmt::Debug for IncomingText {
    /// Neither number nor text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IncomingText").field("call", &self.call).field("id", &self.id).finish_non_exhaustive()
    }
}

/// What became of a text message that the engine was to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextKept {
    /// It is on disk, since now or since an earlier time.
    Kept,
    /// It could not be written.
    Failed,
}

/// What the application is told.
#[derive(Clone, PartialEq, Eq)]
pub enum CallEvent {
    /// Dialled: the number is being looked up.
    Searching {
        /// The call.
        call: CallId,
        /// The number dialled.
        number: Number,
    },
    /// Terminals of the callee were found and are being invited.
    Found {
        /// The call.
        call: CallId,
        /// How many so far.
        terminals: usize,
    },
    /// The callee has strangers work before it rings: this terminal does so now, and calls again by itself.
    Working {
        /// The call.
        call: CallId,
        /// How much, in bits of the puzzle: each doubles it.
        bits: u8,
    },
    /// At least one terminal of the callee really rings: play ringback.
    Ringing {
        /// The call.
        call: CallId,
    },
    /// Somebody calls: ring.
    Incoming {
        /// The call.
        call: CallId,
        /// The caller's number.
        number: Number,
        /// The caller's account.
        identity: IdentityId,
        /// The engine said that the caller is a contact.
        contact: bool,
        /// The call whose place it takes when it stands: its other side has transferred it. With a contact at both it is
        /// answered at once.
        replaces: Option<CallId>,
        /// It is being answered, since the user talks already.
        answered: bool,
    },
    /// Answered, at this end or at the other.
    Accepted {
        /// The call.
        call: CallId,
    },
    /// Both ends agree that the call stands, and the media connection is up.
    Connected {
        /// The call.
        call: CallId,
        /// The leg that carries it.
        leg: LegId,
    },
    /// A text message of ours has arrived at a terminal of the receiver.
    TextDelivered {
        /// The message's id.
        id: TextId,
    },
    /// No arrival of a text message of ours was confirmed.
    TextFailed {
        /// The message's id.
        id: TextId,
        /// Why.
        reason: TextFailure,
    },
    /// The other side pressed a key.
    Dtmf {
        /// The call.
        call: CallId,
        /// `0`-`9`, `*`, `#`, `A`-`D`.
        digit: char,
        /// For how long, milliseconds.
        duration_ms: u16,
    },
    /// The other side has put the call on hold, or taken it off.
    RemoteHold {
        /// The call.
        call: CallId,
        /// True: held.
        on: bool,
    },
    /// The other side has muted its microphone, or unmuted it.
    RemoteMute {
        /// The call.
        call: CallId,
        /// True: muted.
        on: bool,
    },
    /// The other side has said how it stands to a recording of the call.
    Recording {
        /// The call.
        call: CallId,
        /// What it said.
        state: RecordingState,
    },
    /// The other side asks this user to call somebody else instead: [`Calls::follow`](super::Calls::follow) or
    /// [`Calls::decline_transfer`](super::Calls::decline_transfer), within [`CONSENT`](super::CONSENT).
    TransferAsked {
        /// The call.
        call: CallId,
        /// Whom to call.
        number: Number,
        /// The other side is talking with whom to call.
        attended: bool,
    },
    /// The user has said nothing to what the other side asked for within [`CONSENT`](super::CONSENT): it is declined.
    TransferLapsed {
        /// The call.
        call: CallId,
    },
    /// How the transfer of a call goes that was asked for here. Of the call with the target
    /// [`Failed`](TransferState::Failed) after all if the one who was transferred says that the two talk, and the target does
    /// not leave: that call goes on.
    Transfer {
        /// The call.
        call: CallId,
        /// How it stands.
        state: TransferState,
    },
    /// A contact's terminal tells how its user is, or asks.
    Presence {
        /// The contact's number.
        from: Number,
        /// The terminal, to be answered.
        peer: Arc<Peer>,
        /// What it says.
        presence: Presence,
    },
    /// The call is over. Exactly once for every call that was dialled or announced by
    /// [`CallEvent::Incoming`], and the last event with its id.
    Ended {
        /// The call.
        call: CallId,
        /// The other end's number.
        number: Number,
        /// Who called whom.
        direction: Direction,
        /// Why.
        reason: EndReason,
        /// Who ended it.
        by: EndedBy,
        /// From [`CallEvent::Connected`] to the end; `None` if it never got there.
        duration: Option<Duration>,
    },
}

impl fmt::Debug for CallEvent {
    /// Neither numbers nor texts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Searching { call, .. } => write!(f, "Searching({call:?})"),
            Self::Found { call, terminals } => write!(f, "Found({call:?}, {terminals})"),
            Self::Working { call, bits } => write!(f, "Working({call:?}, {bits})"),
            Self::Ringing { call } => write!(f, "Ringing({call:?})"),
            Self::Incoming { call, contact, .. } => write!(f, "Incoming({call:?}, contact: {contact})"),
            Self::Accepted { call } => write!(f, "Accepted({call:?})"),
            Self::Connected { call, .. } => write!(f, "Connected({call:?})"),
            Self::TextDelivered { id } => write!(f, "TextDelivered({id:?})"),
            Self::TextFailed { id, reason } => write!(f, "TextFailed({id:?}, {reason:?})"),
            Self::Dtmf { call, .. } => write!(f, "Dtmf({call:?})"),
            Self::RemoteHold { call, on } => write!(f, "RemoteHold({call:?}, {on})"),
            Self::RemoteMute { call, on } => write!(f, "RemoteMute({call:?}, {on})"),
            Self::Recording { call, state } => write!(f, "Recording({call:?}, {state:?})"),
            Self::TransferAsked { call, attended, .. } => write!(f, "TransferAsked({call:?}, {attended})"),
            Self::TransferLapsed { call } => write!(f, "TransferLapsed({call:?})"),
            Self::Transfer { call, state } => write!(f, "Transfer({call:?}, {state:?})"),
            Self::Presence { peer, .. } => write!(f, "Presence({peer:?})"),
            Self::Ended { call, reason, by, .. } => write!(f, "Ended({call:?}, {reason:?} by {by:?})"),
        }
    }
}

/// Why a call is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// Somebody hung up after the answer.
    HungUp,
    /// The callee declined. With [`EndedBy::Elsewhere`]: at another of its terminals.
    Declined,
    /// The callee is in another call.
    Busy,
    /// It rang until the time-out.
    NoAnswer,
    /// No terminal of the callee could be reached.
    Unreachable,
    /// Nobody has this number.
    WrongNumber,
    /// The callee does not take calls from this caller.
    Blocked,
    /// It does not ring at the callee's now, but a message may be left.
    Voicemail,
    /// The callee has strangers work before it rings, and it is more than this terminal does ([`Output::Work`]).
    Work,
    /// The identity key behind a number is not the pinned one. With [`EndedBy::Remote`] the callee has pinned another
    /// key to the caller's number; otherwise it is the callee's key that has changed ([`Distrust::KeyChanged`]).
    KeyChanged,
    /// Another terminal of the callee answered.
    AnsweredElsewhere,
    /// The caller hung up before the answer.
    Cancelled,
    /// Both users called each other: this call was replaced by the one that the user of this terminal dialled.
    Merged,
    /// A transfer: the call goes on between two others, or with somebody else.
    Transferred,
    /// It failed.
    Failed(Failure),
}

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The number could not be looked up: no connection to the network.
    Lookup,
    /// No media connection within the time allowed after the answer.
    NoMediaPath,
    /// The media connection was up and broke.
    MediaLost,
    /// Media could not even be prepared here: no socket, no audio device.
    Media,
    /// The other terminal could not make the call.
    Remote,
    /// The other terminal stopped answering in the middle of the call.
    SignallingLost,
    /// The caller never confirmed our answer.
    NotConfirmed,
    /// Several keys claim the number, and nothing tells which is the right one ([`Distrust::Disputed`]).
    Disputed,
    /// The directory's certificate of the chosen number is over ([`Distrust::Expired`]).
    Expired,
    /// The callee refused the invite as too old or from the future: one of the two clocks is wrong.
    Clock,
    /// The other side broke the protocol.
    Protocol,
}

/// Why nothing may ring under a number, see [`Calls::distrust`](super::Calls::distrust).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distrust {
    /// None of the keys that claim it is the pinned one.
    KeyChanged,
    /// Several keys claim it, and nothing tells which is the right one.
    Disputed,
    /// It is a chosen number, and its directory's certificate is over.
    Expired,
}

/// Who ended a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndedBy {
    /// This terminal's user.
    Local,
    /// The other side.
    Remote,
    /// Another terminal of the called account.
    Elsewhere,
    /// Nobody: a time-out, a failure, a failed look-up.
    Network,
}

/// Why a text message of ours is taken for lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TextFailure {
    /// Nobody has this number.
    WrongNumber,
    /// No terminal of the receiver could be reached.
    Unreachable,
    /// The receiver does not take messages from us.
    Blocked,
    /// The receiver's terminal has too much to do.
    Busy,
    /// The receiver's terminal could not keep it: its disk is full, say.
    NotKept,
    /// The receiver's terminal refused it for another reason.
    Refused,
    /// The receiver knows our number under another key, or the key behind the receiver's number has changed.
    KeyChanged,
    /// Several keys claim the receiver's number.
    Disputed,
    /// The certificate of the receiver's chosen number is over.
    Expired,
    /// The receiver's clock or ours is wrong.
    Clock,
    /// No acknowledgement in time. It may have arrived nevertheless.
    TimedOut,
    /// The call ended before the acknowledgement. It may have arrived nevertheless.
    CallEnded,
    /// The number could not be looked up: no connection to the network.
    Lookup,
}
