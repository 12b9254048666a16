//! How somebody is, told to contacts.

use minicbor::{Decode, Encode};

/// Bytes of the note beside a state, UTF-8.
pub const MAX_NOTE_BYTES: usize = 256;

/// How somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PresenceCode {
    /// May be called.
    Available,
    /// Not at the telephone.
    Away,
    /// In a call.
    Busy,
    /// Does not want to be called.
    DoNotDisturb,
    /// Not on line.
    Offline,
    /// One that this version does not know.
    Other(u8),
}

wire_code!(PresenceCode { Available = 0, Away = 1, Busy = 2, DoNotDisturb = 3, Offline = 4 });

/// How the sender is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct PresenceTold {
    /// In a word.
    #[n(0)]
    pub state: PresenceCode,
    /// In the sender's own words, at most [`MAX_NOTE_BYTES`].
    #[n(1)]
    pub note: String,
    /// For how long that is good, seconds; 0: the sender's terminal leaves.
    #[n(2)]
    pub good_for: u32,
}

/// What a terminal says to a contact's about presence.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Presence {
    /// How the sender is, if the receiver may know.
    #[n(0)]
    pub told: Option<PresenceTold>,
    /// The receiver is asked for the same.
    #[n(1)]
    pub ask: bool,
    /// The sender wants to be told of changes.
    #[n(2)]
    pub watch: bool,
}
