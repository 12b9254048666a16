//! What a packet may contain at most. Checked by the sender before sealing and by the receiver after opening.

use thiserror::Error;

use super::presence::MAX_NOTE_BYTES;
use super::{Introduction, MediaOffer, Message, Packet, RejectReason};

/// Candidates in one message. RFC 8838 trickles; a terminal with more sends further messages.
pub const MAX_CANDIDATES: usize = 16;
/// Bytes of one candidate. RFC 8839's grammar needs about 120 for IPv6 with a related address.
pub const MAX_CANDIDATE_BYTES: usize = 256;
/// Bytes of one text message, UTF-8.
pub const MAX_TEXT_BYTES: usize = 4096;
/// Bytes of one tunnelled datagram: QUIC's handshake datagrams are 1200 (RFC 9000 section 14.1).
pub const MAX_TUNNEL_BYTES: usize = 1500;
/// Tunnelled datagrams in one message: what a turn of the handshake has to say.
pub const MAX_TUNNEL_DATAGRAMS: usize = 3;
/// Codecs in one offer.
pub const MAX_CODECS: usize = 16;
/// Directories in an introduction.
pub const MAX_ROUTES: usize = 8;
/// Longest key press, milliseconds.
pub const MAX_DTMF_MS: u16 = 6000;
/// Shortest key press, milliseconds (RFC 4733 section 2.5.1.3 names 40 ms as what receivers need).
const MIN_DTMF_MS: u16 = 40;
/// Length of ICE credentials, RFC 8839 section 5.4.
const UFRAG: std::ops::RangeInclusive<usize> = 4..=256;
const PWD: std::ops::RangeInclusive<usize> = 22..=256;

/// A packet is larger or odder than the protocol permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LimitError {
    /// More candidates than [`MAX_CANDIDATES`], an empty list, or one longer than [`MAX_CANDIDATE_BYTES`].
    #[error("too many candidates, or one is too long")]
    Candidates,
    /// A text longer than [`MAX_TEXT_BYTES`], or a note longer than [`MAX_NOTE_BYTES`].
    #[error("the text is longer than {MAX_TEXT_BYTES} bytes, or {MAX_NOTE_BYTES} of a presence")]
    Text,
    /// Not a key of the dial pad, or pressed for too short or too long.
    #[error("not a key of the dial pad")]
    Dtmf,
    /// A tunnelled datagram that is empty or longer than [`MAX_TUNNEL_BYTES`], none, or more than [`MAX_TUNNEL_DATAGRAMS`].
    #[error("tunnelled datagrams of a size or number that is not permitted")]
    Tunnel,
    /// A puzzle that asks for more than is ever done, or one without a reason to work.
    #[error("a puzzle that asks for too much")]
    Puzzle,
    /// Media parameters outside of their limits.
    #[error("bad media parameters")]
    Offer,
    /// More routes than [`MAX_ROUTES`].
    #[error("more than {MAX_ROUTES} routes")]
    Routes,
    /// The number of a message that cannot have one, or none where one is needed.
    #[error("wrongly numbered message")]
    Sequence,
}

impl Packet {
    /// Checks everything that a decoder doesn't.
    ///
    /// # Errors
    /// The first [`LimitError`] found.
    pub fn check(&self) -> Result<(), LimitError> {
        if let Some(intro) = &self.intro {
            check_intro(intro)?;
        }
        let Some(message) = &self.message else { return Ok(()) };
        let sequenced = self.seq != 0;
        if sequenced == matches!(message, Message::Tunnel { .. }) {
            return Err(LimitError::Sequence);
        }
        message.check()
    }
}

impl Message {
    /// Checks the sizes and values of the message.
    ///
    /// # Errors
    /// The first [`LimitError`] found.
    pub fn check(&self) -> Result<(), LimitError> {
        let require = |good: bool, error| if good { Ok(()) } else { Err(error) };
        match self {
            Self::Invite { offer, candidates, replaces: _, solution } => {
                offer.check()?;
                require(solution.is_none_or(|solved| solved.challenge.is_sound()), LimitError::Puzzle)?;
                check_candidates(candidates)
            }
            Self::Reject { reason, challenge: Some(challenge) } => {
                require(*reason == RejectReason::Work && challenge.is_sound(), LimitError::Puzzle)
            }
            Self::Ringing { offer, candidates } => {
                offer.check()?;
                check_candidates(candidates)
            }
            Self::Accept { invite_hash: _, candidates } | Self::Confirm { candidates } => {
                check_candidates(candidates)
            }
            Self::Candidates { list, generation: _ } => {
                require(!list.is_empty(), LimitError::Candidates)?;
                check_candidates(list)
            }
            Self::Presence(presence) => {
                let note = presence.told.as_ref().map_or(0, |told| told.note.len());
                require(note <= MAX_NOTE_BYTES, LimitError::Text)
            }
            Self::Text { body, .. } => require(body.len() <= MAX_TEXT_BYTES, LimitError::Text),
            Self::Dtmf { digit, duration_ms } => require(
                matches!(digit, '0'..='9' | '*' | '#' | 'A'..='D')
                    && (MIN_DTMF_MS..=MAX_DTMF_MS).contains(duration_ms),
                LimitError::Dtmf,
            ),
            Self::Tunnel { datagrams } => {
                let sound = |len: usize| (1..=MAX_TUNNEL_BYTES).contains(&len);
                let few = (1..=MAX_TUNNEL_DATAGRAMS).contains(&datagrams.len());
                require(few && datagrams.iter().all(|datagram| sound(datagram.len())), LimitError::Tunnel)
            }
            Self::Reject { challenge: None, .. }
            | Self::Cancel { .. }
            | Self::Bye { .. }
            | Self::Hold { .. }
            | Self::Mute { .. }
            | Self::Transfer { .. }
            | Self::TransferProgress { .. }
            | Self::Expect { .. }
            | Self::Recording { .. }
            | Self::TextRefused { .. } => Ok(()),
        }
    }
}

impl MediaOffer {
    /// Checks the lengths that RFC 8839 and this protocol permit.
    ///
    /// # Errors
    /// [`LimitError::Offer`].
    pub fn check(&self) -> Result<(), LimitError> {
        let good = UFRAG.contains(&self.ice_ufrag.len())
            && PWD.contains(&self.ice_pwd.len())
            && (1..=MAX_CODECS).contains(&self.codecs.len());
        if good { Ok(()) } else { Err(LimitError::Offer) }
    }
}

fn check_candidates(list: &[String]) -> Result<(), LimitError> {
    let good = list.len() <= MAX_CANDIDATES
        && list.iter().all(|candidate| !candidate.is_empty() && candidate.len() <= MAX_CANDIDATE_BYTES);
    if good { Ok(()) } else { Err(LimitError::Candidates) }
}

/// Checks what a decoder of introductions doesn't.
pub(crate) fn check_intro(intro: &Introduction) -> Result<(), LimitError> {
    if intro.routes.len() <= MAX_ROUTES { Ok(()) } else { Err(LimitError::Routes) }
}
