//! Who may leave how much, and what goes for it.

use std::collections::BTreeMap;

use super::{Depositor, Holding, Key, Ledger, QuotaError, STRANGER_PERCENT};
use crate::identity::TerminalId;
use crate::knock::Network;
use crate::mailbox::contacts::Serial;
use crate::mailbox::protocol::{Amount, Item};
use crate::mailbox::{BlobId, MailboxId};
use crate::wire::UnixMillis;

/// The books of one mailbox.
#[derive(Debug)]
pub(super) struct Mailbox {
    /// Number of the newest blob that ever came.
    pub newest: u64,
    /// Terminals that must acknowledge, and until when they are certified.
    pub terminals: BTreeMap<TerminalId, UnixMillis>,
    /// What is here, in the order in which it came.
    pub numbers: BTreeMap<u64, BlobId>,
    /// What contacts hold, together and each.
    pub contacts: Amount,
    pub serials: BTreeMap<Serial, Amount>,
    /// What strangers hold, together, and by their networks; the blobs by number.
    pub strangers: Amount,
    pub networks: BTreeMap<Network, Heap>,
    /// What it may hold, if that is not what others may.
    pub limit: Option<Amount>,
}

/// What the strangers of one network hold in a mailbox: sizes by number.
#[derive(Clone, Debug, Default)]
pub(super) struct Heap {
    pub held: Amount,
    pub sizes: BTreeMap<u64, u32>,
}

impl Mailbox {
    pub fn new(newest: u64) -> Self {
        Self {
            newest,
            terminals: BTreeMap::new(),
            numbers: BTreeMap::new(),
            contacts: Amount::default(),
            serials: BTreeMap::new(),
            strangers: Amount::default(),
            networks: BTreeMap::new(),
            limit: None,
        }
    }

    /// The newest blob of the network that holds most.
    fn victim(&self) -> Option<BlobId> {
        let most =
            self.networks.iter().max_by_key(|(network, heap)| (heap.held.bytes, heap.held.count, **network));
        let number = most.and_then(|(_, heap)| heap.sizes.last_key_value())?;
        self.numbers.get(number.0).copied()
    }
}

impl Amount {
    /// One blob of so many bytes.
    #[must_use]
    pub fn one(size: u32) -> Self {
        Self { bytes: u64::from(size), count: 1 }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_add(other.bytes), count: self.count.saturating_add(other.count) }
    }

    /// What is left of it; nothing of what is not there.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_sub(other.bytes), count: self.count.saturating_sub(other.count) }
    }

    /// So many hundredths of it, rounded down.
    #[must_use]
    pub fn percent(self, percent: u64) -> Self {
        Self {
            bytes: (self.bytes / 100).saturating_mul(percent) + self.bytes % 100 * percent / 100,
            count: (self.count / 100).saturating_mul(percent) + self.count % 100 * percent / 100,
        }
    }

    /// Whether it is no more than `limit`, in bytes and in blobs.
    #[must_use]
    pub fn fits(self, limit: Self) -> bool {
        self.bytes <= limit.bytes && self.count <= limit.count
    }

    fn least(self, other: Self) -> Self {
        Self { bytes: self.bytes.min(other.bytes), count: self.count.min(other.count) }
    }
}

impl Holding {
    pub(super) fn item(&self) -> Item {
        Item {
            id: self.id,
            number: self.number,
            size: self.size,
            arrived: self.arrived,
            contact: match self.by {
                Depositor::Contact(_) => true,
                Depositor::Stranger(_) => false,
            },
        }
    }
}

impl Ledger {
    /// Whether a contact's blob fits beside what contacts hold. Strangers are not looked at.
    pub(super) fn room_for_contact(
        &self,
        books: &Mailbox,
        serial: &Serial,
        size: Amount,
    ) -> Result<(), QuotaError> {
        let own = books.serials.get(serial).copied().unwrap_or_default();
        let limits = self.limits_of(books);
        if !own.plus(size).fits(limits.contact()) {
            return Err(QuotaError::Share);
        }
        if !books.contacts.plus(size).fits(limits.mailbox) {
            return Err(QuotaError::MailboxFull);
        }
        if !self.contacts.plus(size).fits(self.limits.total) {
            return Err(QuotaError::DirectoryFull);
        }
        Ok(())
    }

    /// Removes strangers' blobs until a contact's fits: in its mailbox, then where strangers hold most.
    pub(super) fn evict_for_contact(&mut self, mailbox: &MailboxId, size: Amount) -> Vec<Key> {
        let mut evicted = Vec::new();
        while let Some(books) = self.mailboxes.get(mailbox) {
            if books.contacts.plus(books.strangers).plus(size).fits(self.limits_of(books).mailbox) {
                break;
            }
            let Some(id) = books.victim() else { break };
            evicted.push((*mailbox, id));
            self.remove(&(*mailbox, id));
        }
        while !self.contacts.plus(self.strangers).plus(size).fits(self.limits.total) {
            let Some((_, heaviest)) = self.heaps.last().copied() else { break };
            let Some(id) = self.mailboxes.get(&heaviest).and_then(Mailbox::victim) else { break };
            evicted.push((heaviest, id));
            self.remove(&(heaviest, id));
        }
        evicted
    }

    /// What goes for a stranger's blob: the newest ones of networks that hold more than its own will.
    pub(super) fn room_for_stranger(
        &self,
        books: &Mailbox,
        network: &Network,
        size: Amount,
    ) -> Result<Vec<BlobId>, QuotaError> {
        let own = books.networks.get(network).map_or_else(Amount::default, |heap| heap.held).plus(size);
        let everywhere = self.networks.get(network).copied().unwrap_or_default().plus(size);
        let limits = self.limits_of(books);
        if !own.fits(limits.network_in_mailbox()) || !everywhere.fits(self.limits.network) {
            return Err(QuotaError::Share);
        }
        let room = limits.strangers().least(limits.mailbox.minus(books.contacts));
        let mut strangers = books.strangers;
        let mut networks = BTreeMap::new();
        let mut victims = Vec::new();
        if !strangers.plus(size).fits(room) {
            networks.clone_from(&books.networks);
        }
        while !strangers.plus(size).fits(room) {
            let others = networks.iter_mut().filter(|(other, _)| *other != network);
            let most = others.max_by_key(|(other, heap)| (heap.held.bytes, heap.held.count, **other));
            // Whoever gives way still holds as much as the newcomer: nobody takes turns for ever.
            let (_, heap) = most.ok_or(QuotaError::MailboxFull)?;
            let (number, gone) = heap.sizes.pop_last().ok_or(QuotaError::MailboxFull)?;
            heap.held = heap.held.minus(Amount::one(gone));
            if heap.held.bytes < own.bytes {
                return Err(QuotaError::MailboxFull);
            }
            strangers = strangers.minus(Amount::one(gone));
            victims.extend(books.numbers.get(&number).copied());
        }
        // Room that these leave everywhere counts as well.
        let freed = books.strangers.minus(strangers);
        let all = self.strangers.minus(freed).plus(size);
        let share = self.limits.total.percent(STRANGER_PERCENT);
        if !all.fits(share.least(self.limits.total.minus(self.contacts))) {
            return Err(QuotaError::DirectoryFull);
        }
        Ok(victims)
    }

    pub(super) fn insert(&mut self, holding: Holding) {
        let key = (holding.mailbox, holding.id);
        let size = Amount::one(holding.size);
        let Some(books) = self.mailboxes.get_mut(&holding.mailbox) else { return };
        books.newest = books.newest.max(holding.number);
        books.numbers.insert(holding.number, holding.id);
        match holding.by {
            Depositor::Contact(serial) => {
                add(books.serials.entry(serial).or_default(), size);
                add(&mut books.contacts, size);
                add(&mut self.contacts, size);
            }
            Depositor::Stranger(network) => {
                let heap = books.networks.entry(network).or_default();
                heap.sizes.insert(holding.number, holding.size);
                add(&mut heap.held, size);
                self.heaps.remove(&(books.strangers.bytes, holding.mailbox));
                add(&mut books.strangers, size);
                self.heaps.insert((books.strangers.bytes, holding.mailbox));
                add(self.networks.entry(network).or_default(), size);
                add(&mut self.strangers, size);
            }
        }
        self.expiry.insert((holding.expires, key));
        self.holdings.insert(key, holding);
    }

    /// Removes a blob from the books; false if it is in none.
    pub(super) fn remove(&mut self, key: &Key) -> bool {
        let Some(holding) = self.holdings.remove(key) else { return false };
        self.expiry.remove(&(holding.expires, *key));
        let size = Amount::one(holding.size);
        let Some(books) = self.mailboxes.get_mut(&holding.mailbox) else { return true };
        books.numbers.remove(&holding.number);
        match holding.by {
            Depositor::Contact(serial) => {
                take(&mut books.serials, &serial, size);
                books.contacts = books.contacts.minus(size);
                self.contacts = self.contacts.minus(size);
            }
            Depositor::Stranger(network) => {
                if let Some(heap) = books.networks.get_mut(&network) {
                    heap.sizes.remove(&holding.number);
                    heap.held = heap.held.minus(size);
                    if heap.sizes.is_empty() {
                        books.networks.remove(&network);
                    }
                }
                self.heaps.remove(&(books.strangers.bytes, holding.mailbox));
                books.strangers = books.strangers.minus(size);
                self.heaps.insert((books.strangers.bytes, holding.mailbox));
                take(&mut self.networks, &network, size);
                self.strangers = self.strangers.minus(size);
            }
        }
        true
    }
}

fn add(amount: &mut Amount, size: Amount) {
    *amount = amount.plus(size);
}

fn take<K: Ord>(amounts: &mut BTreeMap<K, Amount>, key: &K, size: Amount) {
    let Some(amount) = amounts.get_mut(key) else { return };
    *amount = amount.minus(size);
    if amount.count == 0 {
        amounts.remove(key);
    }
}
