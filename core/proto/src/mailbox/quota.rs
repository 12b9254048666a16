//! What a directory keeps for whom: the books of all its mailboxes.
//!
//! # Contract of [`Ledger`]
//!
//! Inputs: [`open`](Ledger::open) and [`close`](Ledger::close) of mailboxes, [`enter`](Ledger::enter) and
//! [`revoke`](Ledger::revoke) of their terminals, [`deposit`](Ledger::deposit), [`acknowledge`](Ledger::acknowledge),
//! [`erase`](Ledger::erase), and [`expire`](Ledger::expire) at [`poll_timeout`](Ledger::poll_timeout). Each that makes
//! something go says what: the store erases exactly that. Whoever has a store fills the books from it at the beginning
//! ([`restore`](Ledger::restore)). Equal inputs give equal books; time comes in and may go back.
//!
//! # What holds, whatever comes
//!
//! 1. A mailbox, all mailboxes together, one contact in a mailbox, one network of strangers in a mailbox and in all, hold no
//!    more than [`Limits`] say.
//! 2. Strangers hold at most a fifth, of each mailbox and of everything.
//! 3. Contacts lose no room to strangers: what fits beside what other contacts have left is taken, and strangers' blobs go
//!    for it.
//! 4. Strangers crowd one another out only from networks that hold more to those that hold less.
//! 5. What is acknowledged by all terminals of the mailbox, or 30 days old, goes.

mod books;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use thiserror::Error;

use self::books::Mailbox;
use super::contacts::Serial;
use super::protocol::{Amount, Item, QuotaReport, Refusal};
use super::{BlobId, MAX_BLOB_BYTES, MAX_KEEP_DAYS, MailboxId, days};
use crate::identity::TerminalId;
use crate::knock::Network;
use crate::record::MAX_TERMINALS;
use crate::wire::UnixMillis;

/// Of a hundred, what strangers may hold.
pub const STRANGER_PERCENT: u64 = 20;
/// Of a hundred parts of a mailbox, what one contact may hold.
pub const CONTACT_PERCENT: u64 = 50;
/// Of a hundred parts of the strangers' share of a mailbox, what those of one network may hold.
pub const NETWORK_PERCENT: u64 = 25;

/// What a directory keeps at most. The defaults are for one with a disk of its own; its operator sets others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// One mailbox: 64 MiB, thirty voice messages of the longest kind, and 2,000 blobs.
    pub mailbox: Amount,
    /// All mailboxes: 20 GiB and 200,000 blobs, of which the books take about 400 bytes each.
    pub total: Amount,
    /// Strangers of one network in all mailboxes: 32 MiB and 500 blobs.
    pub network: Amount,
    /// Mailboxes: 10,000.
    pub mailboxes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            mailbox: Amount { bytes: 64 << 20, count: 2_000 },
            total: Amount { bytes: 20 << 30, count: 200_000 },
            network: Amount { bytes: 32 << 20, count: 500 },
            mailboxes: 10_000,
        }
    }
}

impl Limits {
    fn strangers(&self) -> Amount {
        self.mailbox.percent(STRANGER_PERCENT)
    }

    fn contact(&self) -> Amount {
        self.mailbox.percent(CONTACT_PERCENT)
    }

    fn network_in_mailbox(&self) -> Amount {
        self.strangers().percent(NETWORK_PERCENT)
    }
}

/// Who leaves something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Depositor {
    /// A contact, by the serial of its token.
    Contact(Serial),
    /// A stranger, by the network it comes from.
    Stranger(Network),
}

/// A blob that is to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deposit {
    /// In this mailbox.
    pub mailbox: MailboxId,
    /// The blob.
    pub id: BlobId,
    /// Its bytes, at most [`MAX_BLOB_BYTES`].
    pub size: u32,
    /// Who leaves it.
    pub by: Depositor,
    /// For how many days; at most [`MAX_KEEP_DAYS`] count.
    pub days: u8,
}

/// A blob that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// In this mailbox.
    pub mailbox: MailboxId,
    /// The blob.
    pub id: BlobId,
    /// Its number in the mailbox, from 1.
    pub number: u64,
    /// Its bytes.
    pub size: u32,
    /// Who has left it.
    pub by: Depositor,
    /// When.
    pub arrived: UnixMillis,
    /// Last moment at which it is kept.
    pub expires: UnixMillis,
    /// Terminals that have it.
    pub acknowledged: BTreeSet<TerminalId>,
}

/// What names a blob to the store.
pub type Key = (MailboxId, BlobId);

/// What becomes of a deposit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Its number in the mailbox.
    pub number: u64,
    /// Whether it was not there before. If it was, nothing is to be done.
    pub is_new: bool,
    /// What goes for it.
    pub evicted: Vec<Key>,
}

/// Why a deposit is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum QuotaError {
    /// No such mailbox is kept.
    #[error("no such mailbox")]
    NoMailbox,
    /// This contact, or this network, has left as much as one may.
    #[error("the depositor has left as much as one may")]
    Share,
    /// The mailbox is full (of contacts' blobs, or its strangers' share is).
    #[error("the mailbox is full")]
    MailboxFull,
    /// The directory is full likewise.
    #[error("the directory is full")]
    DirectoryFull,
    /// Longer than [`MAX_BLOB_BYTES`].
    #[error("the blob is too long")]
    TooLarge,
}

impl QuotaError {
    /// What the depositor is told. Not which of the limits it was: that would tell of others.
    #[must_use]
    pub fn refusal(self) -> Refusal {
        match self {
            Self::NoMailbox => Refusal::NoMailbox,
            Self::Share | Self::MailboxFull | Self::DirectoryFull => Refusal::Full,
            Self::TooLarge => Refusal::Malformed,
        }
    }
}

/// No more mailboxes are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the directory keeps as many mailboxes as it can")]
pub struct TooManyMailboxes;

/// The books of a directory.
#[derive(Debug)]
pub struct Ledger {
    limits: Limits,
    mailboxes: BTreeMap<MailboxId, Mailbox>,
    holdings: BTreeMap<Key, Holding>,
    expiry: BTreeSet<(UnixMillis, Key)>,
    /// When certificates of terminals are over.
    certs: BTreeSet<(UnixMillis, MailboxId, TerminalId)>,
    contacts: Amount,
    strangers: Amount,
    networks: BTreeMap<Network, Amount>,
    /// Mailboxes by what strangers hold in them, bytes.
    heaps: BTreeSet<(u64, MailboxId)>,
}

impl Ledger {
    /// Empty books.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            mailboxes: BTreeMap::new(),
            holdings: BTreeMap::new(),
            expiry: BTreeSet::new(),
            certs: BTreeSet::new(),
            contacts: Amount::default(),
            strangers: Amount::default(),
            networks: BTreeMap::new(),
            heaps: BTreeSet::new(),
        }
    }

    /// Begins to keep a mailbox; one that is kept stays as it is. `newest` is the number of the last blob that ever came,
    /// from the store; 0 for a new one.
    ///
    /// # Errors
    /// [`TooManyMailboxes`].
    pub fn open(&mut self, mailbox: MailboxId, newest: u64) -> Result<(), TooManyMailboxes> {
        if self.mailboxes.contains_key(&mailbox) {
            return Ok(());
        }
        if self.mailboxes.len() >= self.limits.mailboxes {
            return Err(TooManyMailboxes);
        }
        self.mailboxes.insert(mailbox, Mailbox::new(newest));
        self.heaps.insert((0, mailbox));
        Ok(())
    }

    /// Keeps a mailbox no longer, and says what was in it.
    pub fn close(&mut self, mailbox: &MailboxId) -> Vec<Key> {
        let keys = self.keys(mailbox);
        for key in &keys {
            self.remove(key);
        }
        if let Some(closed) = self.mailboxes.remove(mailbox) {
            self.heaps.remove(&(closed.strangers.bytes, *mailbox));
            for (terminal, until) in &closed.terminals {
                self.certs.remove(&(*until, *mailbox, *terminal));
            }
        }
        keys
    }

    /// A terminal that is certified until `until` has entered: from now on it must acknowledge, too. Of more than
    /// [`MAX_TERMINALS`] the one whose certificate is over first no longer must. Says what has been acknowledged by all that
    /// are left.
    pub fn enter(&mut self, mailbox: &MailboxId, terminal: TerminalId, until: UnixMillis) -> Vec<Key> {
        let Some(books) = self.mailboxes.get_mut(mailbox) else { return Vec::new() };
        if let Some(before) = books.terminals.insert(terminal, until) {
            self.certs.remove(&(before, *mailbox, terminal));
        }
        self.certs.insert((until, *mailbox, terminal));
        if books.terminals.len() <= MAX_TERMINALS {
            return Vec::new();
        }
        let others = books.terminals.iter().filter(|(other, _)| **other != terminal);
        let first = others.min_by_key(|(other, until)| (**until, **other)).map(|(other, _)| *other);
        first.map_or_else(Vec::new, |first| self.revoke(mailbox, &first))
    }

    /// A terminal need not acknowledge any more: it is revoked. Says what has been acknowledged by all that are left.
    pub fn revoke(&mut self, mailbox: &MailboxId, terminal: &TerminalId) -> Vec<Key> {
        let Some(books) = self.mailboxes.get_mut(mailbox) else { return Vec::new() };
        let Some(until) = books.terminals.remove(terminal) else { return Vec::new() };
        self.certs.remove(&(until, *mailbox, *terminal));
        let keys = self.keys(mailbox);
        for key in &keys {
            // If it comes back it says so again: a list of all that ever came would have no bound.
            if let Some(held) = self.holdings.get_mut(key) {
                held.acknowledged.remove(terminal);
            }
        }
        let done = keys.into_iter().filter(|key| self.is_done(key)).collect::<Vec<_>>();
        for key in &done {
            self.remove(key);
        }
        done
    }

    /// Keeps a blob, if there is room. The same blob again changes nothing.
    ///
    /// # Errors
    /// A [`QuotaError`]; nothing has changed then.
    pub fn deposit(&mut self, deposit: &Deposit, now: UnixMillis) -> Result<Admitted, QuotaError> {
        let key = (deposit.mailbox, deposit.id);
        if let Some(held) = self.holdings.get(&key) {
            return Ok(Admitted { number: held.number, is_new: false, evicted: Vec::new() });
        }
        if usize::try_from(deposit.size).is_ok_and(|size| size > MAX_BLOB_BYTES) {
            return Err(QuotaError::TooLarge);
        }
        let books = self.mailboxes.get(&deposit.mailbox).ok_or(QuotaError::NoMailbox)?;
        let size = Amount::one(deposit.size);
        let evicted = match deposit.by {
            Depositor::Contact(serial) => {
                self.room_for_contact(books, &serial, size)?;
                self.evict_for_contact(&deposit.mailbox, size)
            }
            Depositor::Stranger(network) => {
                let victims = self.room_for_stranger(books, &network, size)?;
                let evicted: Vec<Key> = victims.into_iter().map(|id| (deposit.mailbox, id)).collect();
                for key in &evicted {
                    self.remove(key);
                }
                evicted
            }
        };
        let number = self.mailboxes.get(&deposit.mailbox).map_or(1, |books| books.newest.saturating_add(1));
        self.insert(Holding {
            mailbox: deposit.mailbox,
            id: deposit.id,
            number,
            size: deposit.size,
            by: deposit.by,
            arrived: now,
            expires: now.plus(days(deposit.days.min(MAX_KEEP_DAYS))),
            acknowledged: BTreeSet::new(),
        });
        Ok(Admitted { number, is_new: true, evicted })
    }

    /// Puts back what the store holds; its mailbox must be open. False if it is not, or the blob is there already.
    pub fn restore(&mut self, holding: Holding) -> bool {
        let key = (holding.mailbox, holding.id);
        let good = self.mailboxes.contains_key(&holding.mailbox) && !self.holdings.contains_key(&key);
        if good {
            self.insert(holding);
        }
        good
    }

    /// A terminal has these. Says which of them all have, and go.
    pub fn acknowledge(&mut self, mailbox: &MailboxId, terminal: &TerminalId, ids: &[BlobId]) -> Vec<Key> {
        let entered = self.mailboxes.get(mailbox).is_some_and(|books| books.terminals.contains_key(terminal));
        if !entered {
            return Vec::new();
        }
        let mut done = Vec::new();
        for id in ids {
            let key = (*mailbox, *id);
            let Some(held) = self.holdings.get_mut(&key) else { continue };
            held.acknowledged.insert(*terminal);
            if self.is_done(&key) {
                self.remove(&key);
                done.push(key);
            }
        }
        done
    }

    /// These go, whoever has them. Says which were there.
    pub fn erase(&mut self, mailbox: &MailboxId, ids: &[BlobId]) -> Vec<Key> {
        let keys = ids.iter().map(|id| (*mailbox, *id)).collect::<Vec<_>>();
        keys.into_iter().filter(|key| self.remove(key)).collect()
    }

    /// What is over goes: blobs, and certificates of terminals, which need not acknowledge then. Says which blobs went.
    pub fn expire(&mut self, now: UnixMillis) -> Vec<Key> {
        let mut gone = Vec::new();
        while let Some((_, key)) = self.expiry.first().copied().filter(|(expires, _)| now > *expires) {
            self.remove(&key);
            gone.push(key);
        }
        while let Some((_, mailbox, terminal)) =
            self.certs.first().copied().filter(|(until, ..)| now > *until)
        {
            gone.extend(self.revoke(&mailbox, &terminal));
        }
        gone
    }

    /// When [`Self::expire`] has something to do: just after this time.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<UnixMillis> {
        let blob = self.expiry.first().map(|(expires, _)| *expires);
        let cert = self.certs.first().map(|(until, ..)| *until);
        [blob, cert].into_iter().flatten().min().map(|time| time.plus(Duration::from_millis(1)))
    }

    /// What is in a mailbox after the blob number `after`, at most `max`, and whether there is more.
    #[must_use]
    pub fn list(&self, mailbox: &MailboxId, after: u64, max: usize) -> (Vec<Item>, bool) {
        let Some(books) = self.mailboxes.get(mailbox) else { return (Vec::new(), false) };
        let Some(from) = after.checked_add(1) else { return (Vec::new(), false) };
        let mut numbers = books.numbers.range(from..);
        let held = numbers.by_ref().take(max).filter_map(|(_, id)| self.holdings.get(&(*mailbox, *id)));
        let items = held.map(Holding::item).collect();
        (items, numbers.next().is_some())
    }

    /// Number of the newest blob that ever came into a mailbox; 0 for none. `None` if there is no such mailbox.
    #[must_use]
    pub fn newest(&self, mailbox: &MailboxId) -> Option<u64> {
        self.mailboxes.get(mailbox).map(|books| books.newest)
    }

    /// What is known of a blob.
    #[must_use]
    pub fn get(&self, mailbox: &MailboxId, id: &BlobId) -> Option<&Holding> {
        self.holdings.get(&(*mailbox, *id))
    }

    /// How full a mailbox is; `None` if there is no such one.
    #[must_use]
    pub fn report(&self, mailbox: &MailboxId) -> Option<QuotaReport> {
        let books = self.mailboxes.get(mailbox)?;
        Some(QuotaReport {
            contacts: books.contacts,
            strangers: books.strangers,
            limit: self.limits_of(books).mailbox,
            stranger_limit: self.limits_of(books).strangers(),
            terminals: u8::try_from(books.terminals.len()).unwrap_or(u8::MAX),
        })
    }

    /// The terminals that must acknowledge what is in a mailbox, and until when they are certified.
    #[must_use]
    pub fn terminals(&self, mailbox: &MailboxId) -> Vec<(TerminalId, UnixMillis)> {
        let terminals = self.mailboxes.get(mailbox).map(|books| books.terminals.iter());
        terminals.into_iter().flatten().map(|(terminal, until)| (*terminal, *until)).collect()
    }

    /// From now on a mailbox may hold so much, or what all others may. What is there stays, even if it is more. False if there
    /// is no such mailbox.
    pub fn set_limit(&mut self, mailbox: &MailboxId, limit: Option<Amount>) -> bool {
        let Some(books) = self.mailboxes.get_mut(mailbox) else { return false };
        books.limit = limit;
        true
    }

    fn limits_of(&self, books: &Mailbox) -> Limits {
        Limits { mailbox: books.limit.unwrap_or(self.limits.mailbox), ..self.limits }
    }

    /// What all mailboxes hold: of contacts, and of strangers.
    #[must_use]
    pub fn held(&self) -> (Amount, Amount) {
        (self.contacts, self.strangers)
    }

    /// How many mailboxes there are.
    #[must_use]
    pub fn mailboxes(&self) -> usize {
        self.mailboxes.len()
    }

    fn keys(&self, mailbox: &MailboxId) -> Vec<Key> {
        let numbers = self.mailboxes.get(mailbox).map(|books| books.numbers.values());
        numbers.into_iter().flatten().map(|id| (*mailbox, *id)).collect()
    }

    /// Whether all terminals have a blob. Where there is none, nobody has.
    fn is_done(&self, key: &Key) -> bool {
        let Some(books) = self.mailboxes.get(&key.0) else { return false };
        let Some(held) = self.holdings.get(key) else { return false };
        !books.terminals.is_empty() && books.terminals.keys().all(|id| held.acknowledged.contains(id))
    }
}

#[cfg(test)]
mod tests;
