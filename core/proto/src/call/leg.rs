//! What the machine keeps for one leg: the dialog with one terminal, and its media connection.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::event::{LegId, Peer, Role};
use super::tunnel::TunnelBudget;
use crate::dialog::{Dialog, Frame, GIVE_UP};
use crate::identity::TerminalId;
use crate::number::Number;
use crate::signalling::{
    Introduction, MAX_CANDIDATES, MediaOffer, Message, Packet, RejectReason, TextId, Token, is_relayed,
};

/// Candidates of one side that wait, to be sent or to be shown to the media connection.
pub(super) const MAX_PENDING_CANDIDATES: usize = 64;
/// Candidates that the other side may send in one generation.
pub(super) const MAX_REMOTE_CANDIDATES: usize = 256;
/// A closing leg that is not done by then is forgotten: as long as the other side repeats its messages.
pub(super) const LINGER: Duration = GIVE_UP;

/// State of a leg.
///
/// ```text
/// caller:  Preparing --offer set, Invite sent--> Open --Ringing--> Ringing --Accept verified--> Chosen
/// callee:  (Early -->) Preparing --offer set, Ringing sent--> Open --Accept sent--> Chosen
/// text:    Text at the sender, Keeping at the receiver
/// any  --> Closing --everything acknowledged, or LINGER--> remembered only
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LegState {
    /// Packets came, but not yet the first message.
    Early,
    /// Waits for our media parameters. An outgoing leg has sent nothing yet.
    Preparing,
    /// Invite or ringing has been sent.
    Open,
    /// Outgoing: it rings there.
    Ringing,
    /// Outgoing: the winner. Incoming: our accept has been sent.
    Chosen,
    /// A text message of ours outside of a call.
    Text,
    /// A text message outside of a call that arrived and is being written to disk.
    Keeping,
    /// Over; what is left to send is repeated for a while.
    Closing,
}

/// The media connection of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Media {
    /// There is none.
    Absent,
    /// Asked for, not up.
    Pending,
    /// Up.
    Ready,
}

pub(super) struct Leg {
    pub peer: Arc<Peer>,
    pub role: Role,
    pub state: LegState,
    pub dialog: Dialog,
    /// Ours; the same in all packets, so that repetitions of an invite have one hash.
    pub intro: Arc<Introduction>,
    /// The other side's.
    pub number: Number,
    /// The other side is a contact.
    pub contact: bool,
    /// Incoming: whatever begins with the first message is to be refused.
    pub refusal: Option<RejectReason>,
    /// The other side has introduced itself as whom we look for.
    pub identified: bool,
    pub media: Media,
    /// Our addresses may be shown to the other side.
    pub disclosed: bool,
    /// Incoming: our user wants the call; accept as soon as the offer is there.
    pub answered: bool,
    /// Ours, until sent: those that tell where we are wait for the disclosure.
    pub local_candidates: Vec<String>,
    /// Theirs, until media are prepared.
    pub remote_candidates: Vec<String>,
    pub remote_candidates_seen: usize,
    /// How often our network has changed in the call, and theirs, as far as they have said.
    pub generation: u32,
    pub remote_generation: u32,
    /// The next of their candidates that are shown take the place of all before.
    pub remote_anew: bool,
    /// Theirs, until media are prepared.
    pub remote_offer: Option<MediaOffer>,
    /// What their invite shows.
    pub replaces: Option<Token>,
    pub tunnel_sent: TunnelBudget,
    pub tunnel_received: TunnelBudget,
    /// Outgoing: of the invite as sent. Incoming: of the invite as received.
    pub invite_hash: Option<[u8; 32]>,
    /// Numbers of our text messages that wait for their acknowledgement.
    pub texts: BTreeMap<u32, TextId>,
    /// Numbers of their text messages that wait to be kept. As many as the dialog's window takes.
    pub keeping: BTreeMap<u32, TextId>,
    /// Number of our refusal, and of their text that is acknowledged when the refusal has been.
    pub refused_texts: BTreeMap<u32, u32>,
    /// Outgoing: every route known failed before anything was heard. Another one may be found as long as the look-up
    /// goes on.
    pub lost: bool,
    /// The final message that we sent.
    pub farewell: Option<(u32, Message)>,
    /// Early, Keeping, Closing: when to forget it.
    pub deadline: Option<Instant>,
    /// Closing: forget it as soon as what is queued has been sent once.
    pub forget: bool,
    /// It was chosen once, so texts are welcome until the end.
    pub was_chosen: bool,
}

impl Leg {
    pub fn new(
        peer: Arc<Peer>,
        number: Number,
        role: Role,
        state: LegState,
        intro: Arc<Introduction>,
    ) -> Self {
        Self {
            peer,
            role,
            state,
            dialog: Dialog::new(),
            intro,
            number,
            contact: false,
            refusal: None,
            identified: false,
            media: Media::Absent,
            disclosed: false,
            answered: false,
            local_candidates: Vec::new(),
            remote_candidates: Vec::new(),
            remote_candidates_seen: 0,
            generation: 0,
            remote_generation: 0,
            remote_anew: false,
            remote_offer: None,
            replaces: None,
            tunnel_sent: TunnelBudget::default(),
            tunnel_received: TunnelBudget::default(),
            invite_hash: None,
            texts: BTreeMap::new(),
            keeping: BTreeMap::new(),
            refused_texts: BTreeMap::new(),
            lost: false,
            farewell: None,
            deadline: None,
            forget: false,
            was_chosen: false,
        }
    }

    /// Takes part in a call or a text message that is not over.
    pub fn is_live(&self) -> bool {
        match self.state {
            LegState::Preparing | LegState::Open | LegState::Ringing | LegState::Chosen | LegState::Text => {
                true
            }
            LegState::Early | LegState::Keeping | LegState::Closing => false,
        }
    }

    /// Our invite may have reached the other terminal.
    pub fn is_transmitted(&self) -> bool {
        match self.state {
            LegState::Open | LegState::Ringing | LegState::Chosen => true,
            LegState::Early
            | LegState::Preparing
            | LegState::Text
            | LegState::Keeping
            | LegState::Closing => false,
        }
    }

    /// The other side is trusted with a place of its own: we called it, or it is a contact.
    pub fn is_trusted(&self) -> bool {
        self.role == Role::Caller || self.contact
    }

    /// Takes what was learnt of the other terminal anew. What nobody has answered yet goes out at once on routes that
    /// were not known before.
    pub fn renew(&mut self, now: Instant, peer: Peer) {
        let moved = self.peer.routes != peer.routes;
        self.peer = Arc::new(peer);
        if moved && !self.dialog.is_heard() {
            self.lost = false;
            self.dialog.repeat(now);
        }
    }

    /// The packet for a frame of the dialog.
    pub fn packet(&self, id: LegId, me: TerminalId, frame: Frame) -> Packet {
        Packet {
            call: id.call,
            from: me,
            to: id.terminal,
            seq: frame.seq,
            ack: frame.ack,
            time: frame.time,
            intro: (!self.dialog.is_acked()).then(|| Arc::clone(&self.intro)),
            message: frame.message,
        }
    }

    /// Takes up to [`MAX_CANDIDATES`] of the waiting candidates that may be sent.
    pub fn take_candidates(&mut self) -> Vec<String> {
        let disclosed = self.disclosed;
        let may_go = |candidate: &String| disclosed || is_relayed(candidate);
        let (mut now, later): (Vec<_>, Vec<_>) = self.local_candidates.drain(..).partition(may_go);
        let rest = now.split_off(now.len().min(MAX_CANDIDATES));
        self.local_candidates = rest.into_iter().chain(later).collect();
        now
    }

    /// The same for a message that tells of no other generation than the first.
    pub fn take_first_candidates(&mut self) -> Vec<String> {
        if self.generation == 0 { self.take_candidates() } else { Vec::new() }
    }

    /// Whether a candidate waits that may be sent.
    pub fn has_candidates(&self) -> bool {
        self.local_candidates.iter().any(|candidate| self.disclosed || is_relayed(candidate))
    }

    /// When the leg wants [`Calls::handle_timeout`](super::Calls::handle_timeout).
    pub fn timeout(&self) -> Option<Instant> {
        [self.dialog.poll_timeout(), self.deadline].into_iter().flatten().min()
    }
}
