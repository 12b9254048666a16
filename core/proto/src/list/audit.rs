//! Reading a list with suspicion.

use std::collections::BTreeMap;

use thiserror::Error;

use super::{Chain, Change, Entry, EntryHash, Head, ListError};
use crate::identity::{DirectoryId, IdentityId};
use crate::number::{ChosenNumber, Number};
use crate::proof::{CHOSEN_MAX_LIFETIME, Transfer, TransferError};
use crate::record::ACCOUNT_LIFETIME;
use crate::request::{Action, RequestError, Verified};
use crate::wire::{MAX_CLOCK_AHEAD, UnixMillis};

/// Most numbers that an audit keeps in memory, some 200 bytes each. A list of more is not read to its end.
pub const MAX_AUDITED_NUMBERS: usize = 1_000_000;
/// Most heads seen earlier that an audit compares with; further ones are passed over.
pub const MAX_SEEN_HEADS: usize = 64;

/// Who has a number, as a list says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Who has it, or had it before it was released.
    pub identity: IdentityId,
    /// When the newest certificate for it expires.
    pub expires: UnixMillis,
    /// When it was released, if it was.
    pub released: Option<UnixMillis>,
    /// Until when nobody else may be given it without a transfer: so long an account record of the owner may be valid.
    pub held_until: UnixMillis,
    /// When the last transfer of it was signed, if it was transferred to who has it.
    pub since: Option<UnixMillis>,
    /// When the last request to release it was signed, whoever had it then.
    pub asked: Option<UnixMillis>,
}

/// What is wrong with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Problem {
    /// It is not the next entry of the list. Nothing after it can be judged.
    #[error(transparent)]
    Chain(#[from] ListError),
    /// More than [`MAX_AUDITED_NUMBERS`]. Nothing after it can be judged.
    #[error("more numbers than an audit keeps in memory")]
    TooManyNumbers,
    /// Not a chosen number in its full form.
    #[error("not a chosen number with a directory's name")]
    NumberKind,
    /// A certificate that ends before it begins, or lasts longer than permitted.
    #[error("certificate with a lifetime that is not permitted")]
    Lifetime,
    /// Given to somebody while it was somebody else's.
    #[error("issued while it belonged to somebody else")]
    TakenFromHolder,
    /// Renewed, released or transferred for somebody who doesn't have it.
    #[error("changed for somebody who does not have it")]
    NotHolder,
    /// The transfer is refused.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// The transfer is of another number, or between others.
    #[error("transfer of another number or between others")]
    OtherTransfer,
    /// What the owner has signed is no later than what moved or freed the number before.
    #[error("signed before, and done already")]
    Replayed,
    /// The owner's request to release it is refused.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The owner has asked for something else than to release this number.
    #[error("the owner has asked for something else")]
    OtherRequest,
}

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("entry {index}: {problem}")]
pub struct Finding {
    /// The entry's index, or where it should have been.
    pub index: u64,
    /// What is wrong.
    pub problem: Problem,
    /// The entry, if it can be read.
    pub entry: Option<Box<Entry>>,
}

/// How a list and the heads signed for it differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeadFinding {
    /// The head is of another directory's list.
    #[error("head of another directory's list")]
    OtherDirectory,
    /// The list is shorter than its head says: entries are held back.
    #[error("the list has {found} entries, its head says {promised}")]
    Short {
        /// What the head says.
        promised: u64,
        /// Entries that came.
        found: u64,
    },
    /// The head is for fewer entries than came.
    #[error("the list has {found} entries, its head vouches for {promised}")]
    Unsigned {
        /// What the head says.
        promised: u64,
        /// Entries that came.
        found: u64,
    },
    /// The head is of another list.
    #[error("the head is of another list")]
    Different,
    /// Entries are later than the signature under all of them.
    #[error("an entry is later than the head")]
    EntryFromTheFuture,
    /// A head seen earlier says that there were more entries.
    #[error("the list once had {seen} entries and has {found} now")]
    Shrunk {
        /// What the earlier head says.
        seen: u64,
        /// Entries that came.
        found: u64,
    },
    /// A head seen earlier is of another list: the directory has shown two.
    #[error("the list differs from the one seen earlier, at {length} entries")]
    Forked {
        /// Length of the earlier head.
        length: u64,
    },
}

/// Takes the entries of a list in order, from the first one, and says what is wrong with them.
#[derive(Clone, Debug)]
pub struct Audit {
    chain: Chain,
    /// By the word: the directory's name may change, and record keys don't depend on it.
    holdings: BTreeMap<String, Holding>,
    /// Heads seen earlier, and the list's own hash at their lengths once it has got there.
    seen: BTreeMap<u64, (Vec<EntryHash>, Option<EntryHash>)>,
}

impl Audit {
    /// Of the list of `directory`. `seen` are heads of it that were [verified](super::SignedHead::verify) at other times or came
    /// from other people; those of other directories don't count, nor those beyond [`MAX_SEEN_HEADS`].
    #[must_use]
    pub fn new(directory: DirectoryId, seen: &[Head]) -> Self {
        let chain = Chain::new(directory);
        let mut audit = Self { chain, holdings: BTreeMap::new(), seen: BTreeMap::new() };
        for head in seen.iter().filter(|head| head.directory == directory).take(MAX_SEEN_HEADS) {
            audit.seen.entry(head.length).or_default().0.push(head.hash);
        }
        audit.note_hash();
        audit
    }

    /// How many entries it has taken.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.chain.length()
    }

    /// Who has a number, by its word, as far as the list was read.
    #[must_use]
    pub fn holding(&self, number: &ChosenNumber) -> Option<&Holding> {
        self.holdings.get(number.name())
    }

    /// How many numbers there are or were.
    #[must_use]
    pub fn numbers(&self) -> usize {
        self.holdings.len()
    }

    /// Takes the next entry. What the list says counts from then on, even if it was wrong: what follows is judged by it.
    ///
    /// # Errors
    /// A [`Finding`]. After [`Problem::Chain`] and [`Problem::TooManyNumbers`] the entry was not taken, and the same one, or the right
    /// one, has to come next.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Entry, Finding> {
        let index = self.chain.length();
        let mut chain = self.chain.clone();
        let entry = chain.follow(bytes).map_err(|error| Finding {
            index,
            problem: Problem::Chain(error),
            entry: None,
        })?;
        let found = |problem| Finding { index, problem, entry: Some(Box::new(entry.clone())) };
        let Number::Chosen(number) = entry.change.number() else {
            self.chain = chain;
            self.note_hash();
            return Err(found(Problem::NumberKind));
        };
        let held = self.holdings.get(number.name());
        if held.is_none() && self.holdings.len() >= MAX_AUDITED_NUMBERS {
            return Err(found(Problem::TooManyNumbers));
        }
        let signed = OwnersWord::of(&entry, &self.chain.directory);
        let verdict = self.judge(&entry, number, held, &signed);
        let holding = holding_after(&entry, held, signed.at());
        self.holdings.insert(number.name().to_owned(), holding);
        self.chain = chain;
        self.note_hash();
        verdict.map_err(found)?;
        Ok(entry)
    }

    fn note_hash(&mut self) {
        if let Some((_, own)) = self.seen.get_mut(&self.chain.length()) {
            *own = Some(self.chain.hash());
        }
    }

    fn judge(
        &self,
        entry: &Entry,
        number: &ChosenNumber,
        held: Option<&Holding>,
        signed: &OwnersWord,
    ) -> Result<(), Problem> {
        if number.directory().is_none() {
            return Err(Problem::NumberKind);
        }
        let in_force = held.filter(|held| held.released.is_none());
        match (&entry.change, signed) {
            (Change::Issued { identity, expires, .. }, _) => {
                check_lifetime(entry.at, *expires)?;
                match held {
                    Some(held) if held.identity != *identity && entry.at <= held.held_until => {
                        Err(Problem::TakenFromHolder)
                    }
                    Some(_) | None => Ok(()),
                }
            }
            (Change::Renewed { identity, expires, .. }, _) => {
                check_lifetime(entry.at, *expires)?;
                is_holder(in_force, identity)
            }
            (Change::Released { identity, .. }, word) => {
                is_holder(in_force, identity)?;
                let OwnersWord::Release(verified) = word else { return Err(Problem::OtherRequest) };
                let request = &verified.as_ref().map_err(|error| *error)?.request;
                match &request.action {
                    Action::Release { number } if number == entry.change.number() => {
                        is_later(request.at, held.and_then(|held| held.asked))
                    }
                    Action::Release { .. }
                    | Action::SignUp { .. }
                    | Action::Backup { .. }
                    | Action::Claim { .. }
                    | Action::Renew { .. }
                    | Action::Credentials { .. }
                    | Action::Recover => Err(Problem::OtherRequest),
                }
            }
            (Change::Transferred { identity, expires, .. }, word) => {
                check_lifetime(entry.at, *expires)?;
                let OwnersWord::Transfer(verified) = word else { return Err(Problem::OtherTransfer) };
                let transfer = verified.as_ref().map_err(|error| *error)?;
                transfer.check_fresh(entry.at)?;
                is_holder(in_force, &transfer.from)?;
                let key = number.key(&self.chain.directory);
                if transfer.number != key || transfer.to != *identity {
                    return Err(Problem::OtherTransfer);
                }
                is_later(transfer.at, held.and_then(|held| held.since))
            }
        }
    }

    /// Compares what came with the head that the directory has signed for it, and with the heads seen earlier.
    ///
    /// # Errors
    /// A [`HeadFinding`]; a fork comes first, being the worst.
    pub fn conclude(&self, head: &Head) -> Result<(), HeadFinding> {
        let (found, promised) = (self.chain.length(), head.length);
        if head.directory != self.chain.directory {
            return Err(HeadFinding::OtherDirectory);
        }
        for (length, (hashes, own)) in &self.seen {
            if own.is_some_and(|own| hashes.iter().any(|hash| *hash != own))
                || hashes.windows(2).any(|w| w[0] != w[1])
            {
                return Err(HeadFinding::Forked { length: *length });
            }
        }
        // Even if the entries up to there were held back.
        if self.seen.get(&promised).is_some_and(|(hashes, _)| hashes.iter().any(|hash| *hash != head.hash)) {
            return Err(HeadFinding::Forked { length: promised });
        }
        if let Some((seen, _)) = self.seen.last_key_value().filter(|(seen, _)| **seen > promised.max(found)) {
            return Err(HeadFinding::Shrunk { seen: *seen, found });
        }
        if found < promised {
            return Err(HeadFinding::Short { promised, found });
        }
        if found > promised {
            return Err(HeadFinding::Unsigned { promised, found });
        }
        if head.hash != self.chain.hash() {
            return Err(HeadFinding::Different);
        }
        if self.chain.last > head.at.plus(MAX_CLOCK_AHEAD) {
            return Err(HeadFinding::EntryFromTheFuture);
        }
        Ok(())
    }
}

fn check_lifetime(at: UnixMillis, expires: UnixMillis) -> Result<(), Problem> {
    // Times of several processes of one directory may differ, so that an entry is later than its certificate's issue.
    if expires <= at || expires.since(at) > CHOSEN_MAX_LIFETIME + MAX_CLOCK_AHEAD {
        return Err(Problem::Lifetime);
    }
    Ok(())
}

fn is_holder(in_force: Option<&Holding>, identity: &IdentityId) -> Result<(), Problem> {
    match in_force {
        Some(held) if held.identity == *identity => Ok(()),
        Some(_) | None => Err(Problem::NotHolder),
    }
}

fn is_later(at: UnixMillis, before: Option<UnixMillis>) -> Result<(), Problem> {
    if before.is_some_and(|before| at <= before) { Err(Problem::Replayed) } else { Ok(()) }
}

/// What the owner has signed for an entry, verified once: a signature is what an audit takes longest for.
enum OwnersWord {
    /// Nothing is needed.
    Nothing,
    /// To release the number.
    Release(Result<Verified, RequestError>),
    /// To give it to somebody.
    Transfer(Result<Transfer, TransferError>),
}

impl OwnersWord {
    fn of(entry: &Entry, directory: &DirectoryId) -> Self {
        match &entry.change {
            Change::Issued { .. } | Change::Renewed { .. } => Self::Nothing,
            Change::Released { identity, request, .. } => {
                Self::Release(request.verify_from(identity, directory, entry.at))
            }
            Change::Transferred { transfer, .. } => Self::Transfer(transfer.verify()),
        }
    }

    /// When it was signed, if it is good.
    fn at(&self) -> Option<UnixMillis> {
        match self {
            Self::Nothing => None,
            Self::Release(verified) => verified.as_ref().ok().map(|verified| verified.request.at),
            Self::Transfer(transfer) => transfer.as_ref().ok().map(|transfer| transfer.at),
        }
    }
}

/// How it stands with a number after an entry. Releasing it voids no certificate: whoever had it may go on signing account records.
fn holding_after(entry: &Entry, held: Option<&Holding>, signed: Option<UnixMillis>) -> Holding {
    let same = held.filter(|held| held.identity == *entry.change.identity());
    match &entry.change {
        Change::Issued { identity, expires, .. }
        | Change::Renewed { identity, expires, .. }
        | Change::Transferred { identity, expires, .. } => Holding {
            identity: *identity,
            expires: *expires,
            released: None,
            // A shorter certificate doesn't void the longer one before it.
            held_until: same
                .map_or(UnixMillis(0), |held| held.held_until)
                .max(expires.plus(ACCOUNT_LIFETIME)),
            since: match &entry.change {
                Change::Transferred { .. } => signed,
                Change::Issued { .. } | Change::Renewed { .. } | Change::Released { .. } => {
                    same.and_then(|held| held.since)
                }
            },
            asked: held.and_then(|held| held.asked),
        },
        Change::Released { identity, .. } => Holding {
            identity: *identity,
            expires: held.map_or(entry.at, |held| held.expires),
            released: Some(entry.at),
            held_until: held.map_or(entry.at, |held| held.held_until),
            since: same.and_then(|held| held.since),
            asked: signed.max(held.and_then(|held| held.asked)),
        },
    }
}
