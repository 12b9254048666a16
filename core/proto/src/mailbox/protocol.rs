//! What terminals and directories say to one another about mailboxes: the messages of the protocol `/offhook/mailbox/1`.
//!
//! One request and one response for each stream, CBOR, at most [`MAX_MESSAGE`] bytes each. Depositing needs nobody's name: a
//! blob, the mailbox, and a token or work. What concerns the content of a mailbox is asked for by a terminal that has
//! *entered* it: it has signed the directory's [challenge](EntryChallenge), and shown its certificate by the identity whose
//! mailbox it is. It has then entered for as long as the connection lasts.
//!
//! A directory tells a terminal that has entered of what comes ([`Notice`]).

mod entry;
mod node;

pub use entry::{
    CHALLENGE_LIFETIME, Entered, Entry, EntryChallenge, EntryError, EntryKey, MAX_ENTRY_BYTES, SignedEntry,
};
pub use node::{MAX_NODE_BYTES, SignedNode};

use std::fmt;

use minicbor::{Decode, Encode};

use super::contacts::{DepositRules, Token};
use super::{BlobId, MAX_BLOB_BYTES, MAX_KEEP_DAYS, MailboxId, is_size_class};
use crate::puzzle::{Challenge, Solution};
use crate::signalling::codes::wire_code;
use crate::wire::{self, UnixMillis, WireError};

/// Longest message in bytes: the longest blob with what is around it.
pub const MAX_MESSAGE: usize = MAX_BLOB_BYTES + 4 * 1024;
/// Most blobs named in one request.
pub const MAX_IDS: usize = 256;
/// Most blobs in one list; about 80 bytes each.
pub const MAX_LISTED: u16 = 256;

/// What lets a deposit in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub enum Admission {
    /// A contact's token.
    #[n(0)]
    Token(#[n(0)] Token),
    /// A stranger's work, for this blob in this mailbox.
    #[n(1)]
    Work(#[n(0)] Solution),
}

/// What is asked of a directory; the last one of a terminal.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub enum Request {
    /// What does a stranger pay for a deposit? Answered by [`Response::Price`].
    #[n(0)]
    Price {
        /// The mailbox.
        #[n(0)]
        mailbox: MailboxId,
    },
    /// Keep this blob. Answered by [`Response::Kept`].
    #[n(1)]
    Deposit {
        /// The mailbox.
        #[n(0)]
        mailbox: MailboxId,
        /// For how many days, 1 to [`MAX_KEEP_DAYS`]. Days, because more would tell more.
        #[n(1)]
        days: u8,
        /// Token or work.
        #[n(2)]
        admission: Admission,
        /// The blob, of one of the [sizes](super::SIZE_CLASSES).
        #[cbor(n(3), with = "minicbor::bytes")]
        blob: Vec<u8>,
    },
    /// Give me something to sign. Answered by [`Response::Challenge`].
    #[n(2)]
    Challenge,
    /// Let me in. Answered by [`Response::Entered`].
    #[n(3)]
    Enter {
        /// The answer to the challenge.
        #[n(0)]
        entry: SignedEntry,
    },
    /// What is there? Answered by [`Response::Listed`].
    #[n(4)]
    List {
        /// What came after the blob of this number; 0 for all.
        #[n(0)]
        after: u64,
        /// How many at most, 1 to [`MAX_LISTED`].
        #[n(1)]
        max: u16,
    },
    /// Give me this one. Answered by [`Response::Blob`].
    #[n(5)]
    Get {
        /// The blob.
        #[n(0)]
        id: BlobId,
    },
    /// This terminal has these on its disk. Each is erased when all terminals have it. Answered by [`Response::Done`], as
    /// the next two are.
    #[n(6)]
    Acknowledge {
        /// Blobs, 1 to [`MAX_IDS`]; those that are not there are passed over.
        #[n(0)]
        ids: Vec<BlobId>,
    },
    /// Erase these though other terminals have not got them: they do not open, or are a blocked stranger's.
    #[n(7)]
    Erase {
        /// Blobs, 1 to [`MAX_IDS`]; those that are not there are passed over.
        #[n(0)]
        ids: Vec<BlobId>,
    },
    /// Let these deposit from now on.
    #[n(8)]
    Rules {
        /// In the place of those before.
        #[n(0)]
        rules: DepositRules,
    },
    /// How full is it? Answered by [`Response::Quota`].
    #[n(9)]
    Quota,
    /// Keep my mailbox no longer, and erase all that is in it. Answered by [`Response::Done`].
    #[n(10)]
    Close,
    /// By a directory, to a terminal that has entered: something has come. Answered by [`Response::Done`].
    #[n(11)]
    Notice(#[n(0)] Notice),
}

/// Something has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Notice {
    /// Into which mailbox: a terminal may have entered several.
    #[n(0)]
    pub mailbox: MailboxId,
    /// The number of the newest blob.
    #[n(1)]
    pub newest: u64,
}

/// What is answered.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub enum Response {
    /// The work to be done.
    #[n(0)]
    Price {
        /// For the network from which it was asked.
        #[n(0)]
        challenge: Challenge,
    },
    /// The blob is on disk.
    #[n(1)]
    Kept,
    /// To be signed.
    #[n(2)]
    Challenge {
        /// Good for this connection.
        #[n(0)]
        challenge: EntryChallenge,
        /// Which directory this node belongs to: its key is in entries and in tokens.
        #[n(1)]
        node: SignedNode,
    },
    /// The terminal may read.
    #[n(3)]
    Entered {
        /// Number of the newest blob that ever came; 0 for none.
        #[n(0)]
        newest: u64,
    },
    /// What is there, in the order in which it came.
    #[n(4)]
    Listed {
        /// At most [`MAX_LISTED`].
        #[n(0)]
        items: Vec<Item>,
        /// Whether there are more.
        #[n(1)]
        more: bool,
    },
    /// The blob.
    #[n(5)]
    Blob {
        /// Its bytes.
        #[cbor(n(0), with = "minicbor::bytes")]
        blob: Vec<u8>,
    },
    /// It is done, and on disk.
    #[n(6)]
    Done,
    /// How full it is.
    #[n(7)]
    Quota(#[n(0)] QuotaReport),
    /// It is not done.
    #[n(8)]
    Refused {
        /// Why.
        #[n(0)]
        reason: Refusal,
    },
}

/// A blob in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Item {
    /// Its name. A terminal that has a letter already, from another directory or directly, need not fetch it.
    #[n(0)]
    pub id: BlobId,
    /// Its number in this mailbox, from 1.
    #[n(1)]
    pub number: u64,
    /// Its bytes.
    #[n(2)]
    pub size: u32,
    /// When it came, by the directory's clock.
    #[n(3)]
    pub arrived: UnixMillis,
    /// Whether a contact's token let it in.
    #[n(4)]
    pub contact: bool,
}

/// Bytes and blobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(map)]
pub struct Amount {
    /// Bytes.
    #[n(0)]
    pub bytes: u64,
    /// Blobs.
    #[n(1)]
    pub count: u64,
}

/// How full a mailbox is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct QuotaReport {
    /// What contacts have left.
    #[n(0)]
    pub contacts: Amount,
    /// What strangers have left.
    #[n(1)]
    pub strangers: Amount,
    /// What there is room for, altogether.
    #[n(2)]
    pub limit: Amount,
    /// What there is room for of strangers.
    #[n(3)]
    pub stranger_limit: Amount,
    /// Terminals that have to acknowledge.
    #[n(4)]
    pub terminals: u8,
}

/// Why a directory does not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// It keeps no such mailbox.
    NoMailbox,
    /// Mailbox or directory is full, or whoever deposits has left as much as one may.
    Full,
    /// The token is not good; work would be.
    Token,
    /// The work is not enough, or not for this.
    Work,
    /// The mailbox's owner takes nothing of strangers.
    NoStrangers,
    /// The terminal has not entered, or the entry is not good.
    NotEntered,
    /// No such blob: it was acknowledged, erased, or has expired.
    NoBlob,
    /// The request is malformed.
    Malformed,
    /// Too much at a time. Later, or at another directory.
    Busy,
    /// One that this version does not know.
    Other(u8),
}

wire_code!(Refusal {
    NoMailbox = 0,
    Full = 1,
    Token = 2,
    Work = 3,
    NoStrangers = 4,
    NotEntered = 5,
    NoBlob = 6,
    Malformed = 7,
    Busy = 8,
});

impl Refusal {
    /// Whether the same deposit may be taken later, or by another directory. Everything else needs something else first:
    /// work, an entry.
    #[must_use]
    pub fn is_temporary(self) -> bool {
        match self {
            Self::Full | Self::Busy | Self::Other(_) => true,
            Self::NoMailbox
            | Self::Token
            | Self::Work
            | Self::NoStrangers
            | Self::NotEntered
            | Self::NoBlob
            | Self::Malformed => false,
        }
    }
}

impl Request {
    /// The encoding that [`Request::from_bytes`] takes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        wire::encode(self)
    }

    /// Decodes, and checks lengths and numbers.
    ///
    /// # Errors
    /// A [`WireError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        let request: Self = wire::decode(bytes, MAX_MESSAGE)?;
        if request.is_sound() { Ok(request) } else { Err(WireError::Malformed) }
    }

    /// Whether only a terminal that has entered may ask it.
    #[must_use]
    pub fn needs_entry(&self) -> bool {
        match self {
            Self::Price { .. }
            | Self::Deposit { .. }
            | Self::Challenge
            | Self::Enter { .. }
            | Self::Notice(_) => false,
            Self::List { .. }
            | Self::Get { .. }
            | Self::Acknowledge { .. }
            | Self::Erase { .. }
            | Self::Rules { .. }
            | Self::Quota
            | Self::Close => true,
        }
    }

    /// A stable word for what is asked, for logs and counters.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Price { .. } => "price",
            Self::Deposit { .. } => "deposit",
            Self::Challenge => "challenge",
            Self::Enter { .. } => "enter",
            Self::List { .. } => "list",
            Self::Get { .. } => "get",
            Self::Acknowledge { .. } => "acknowledge",
            Self::Erase { .. } => "erase",
            Self::Rules { .. } => "rules",
            Self::Quota => "quota",
            Self::Close => "close",
            Self::Notice(_) => "notice",
        }
    }

    fn is_sound(&self) -> bool {
        match self {
            Self::Deposit { days, admission, blob, .. } => {
                let work = match admission {
                    Admission::Work(solution) => solution.challenge.is_sound(),
                    Admission::Token(_) => true,
                };
                work && (1..=MAX_KEEP_DAYS).contains(days) && is_size_class(blob.len())
            }
            Self::Enter { entry } => entry.is_sound(),
            Self::List { max, .. } => (1..=MAX_LISTED).contains(max),
            Self::Acknowledge { ids } | Self::Erase { ids } => (1..=MAX_IDS).contains(&ids.len()),
            Self::Rules { rules } => rules.is_sound(),
            Self::Price { .. }
            | Self::Challenge
            | Self::Get { .. }
            | Self::Quota
            | Self::Close
            | Self::Notice(_) => true,
        }
    }
}

impl fmt::Debug for Request {
    /// Neither blobs nor what lets anybody in.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({})", self.kind())
    }
}

impl Response {
    /// The encoding that [`Response::from_bytes`] takes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        wire::encode(self)
    }

    /// Decodes, and checks lengths and numbers.
    ///
    /// # Errors
    /// A [`WireError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        let response: Self = wire::decode(bytes, MAX_MESSAGE)?;
        if response.is_sound() { Ok(response) } else { Err(WireError::Malformed) }
    }

    fn is_sound(&self) -> bool {
        match self {
            Self::Price { challenge } => challenge.is_sound(),
            Self::Listed { items, .. } => {
                let sizes = items.iter().all(|item| usize::try_from(item.size).is_ok_and(is_size_class));
                let ordered = items.is_sorted_by(|a, b| a.number < b.number);
                items.len() <= usize::from(MAX_LISTED) && sizes && ordered
            }
            Self::Blob { blob } => is_size_class(blob.len()),
            Self::Challenge { node, .. } => node.is_sound(),
            Self::Kept | Self::Entered { .. } | Self::Done | Self::Quota(_) | Self::Refused { .. } => true,
        }
    }
}

impl fmt::Debug for Response {
    /// Not the blob.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Price { .. } => f.write_str("Price"),
            Self::Kept => f.write_str("Kept"),
            Self::Challenge { .. } => f.write_str("Challenge"),
            Self::Entered { newest } => write!(f, "Entered({newest})"),
            Self::Listed { items, more } => write!(f, "Listed({}, more: {more})", items.len()),
            Self::Blob { blob } => write!(f, "Blob({} bytes)", blob.len()),
            Self::Done => f.write_str("Done"),
            Self::Quota(report) => write!(f, "Quota({report:?})"),
            Self::Refused { reason } => write!(f, "Refused({reason:?})"),
        }
    }
}

#[cfg(test)]
mod tests;
