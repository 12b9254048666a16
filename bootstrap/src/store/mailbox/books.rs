//! The books of a directory's mailboxes, and what may be done to them. Equal changes in the same order make equal books, in every
//! process.

use std::collections::BTreeMap;
use std::time::Duration;

use minicbor::{Decode, Encode};
use offhook_proto::identity::{IdentityId, TerminalId};
use offhook_proto::knock::Network;
use offhook_proto::mailbox::contacts::{DepositRules, Serial};
use offhook_proto::mailbox::protocol::Amount;
use offhook_proto::mailbox::quota::{Admitted, Deposit, Depositor, Key, Ledger, Limits, QuotaError};
use offhook_proto::mailbox::{BlobId, MailboxId, days};
use offhook_proto::wire::UnixMillis;

/// A mailbox of somebody without an account here is closed when no terminal has entered it for so long.
pub const GUEST_IDLE: Duration = days(90);
/// The same of somebody with an account: as long as an account record is good.
pub const ACCOUNT_IDLE: Duration = Duration::from_secs(400 * 86_400);

/// What a directory keeps of mailboxes at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailLimits {
    /// In bytes and blobs.
    pub books: Limits,
    /// Mailboxes of those who have no account here.
    pub guests: usize,
    /// The same from one /24 or /64.
    pub guests_per_network: usize,
}

impl Default for MailLimits {
    /// Guests have a tenth of all mailboxes.
    fn default() -> Self {
        let books = Limits::default();
        Self { books, guests: books.mailboxes / 10, guests_per_network: 20 }
    }
}

/// Whose a mailbox is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub identity: IdentityId,
    /// Where a guest came from; `None` if he has an account here.
    pub network: Option<Network>,
    /// When a terminal entered it last.
    pub entered: UnixMillis,
}

impl Owner {
    /// Whether no terminal has entered for so long that it is closed.
    fn is_idle(&self, now: UnixMillis) -> bool {
        let longest = if self.network.is_some() { GUEST_IDLE } else { ACCOUNT_IDLE };
        now.since(self.entered) > longest
    }
}

/// Something that is done to the books.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) enum Change {
    /// A terminal enters; if there is no mailbox, and it may be, one is opened.
    #[n(0)]
    Enter {
        #[n(0)]
        identity: IdentityId,
        #[n(1)]
        terminal: TerminalId,
        #[n(2)]
        until: UnixMillis,
        #[n(3)]
        open: bool,
        /// Where it comes from, if it has no account here.
        #[n(4)]
        network: Option<Network>,
        #[n(5)]
        at: UnixMillis,
    },
    #[n(1)]
    Close {
        #[n(0)]
        mailbox: MailboxId,
    },
    #[n(2)]
    Revoke {
        #[n(0)]
        mailbox: MailboxId,
        #[n(1)]
        terminal: TerminalId,
    },
    #[n(3)]
    Deposit {
        #[n(0)]
        mailbox: MailboxId,
        #[n(1)]
        id: BlobId,
        #[n(2)]
        size: u32,
        #[cbor(n(3), with = "minicbor::bytes")]
        by: Vec<u8>,
        #[n(4)]
        days: u8,
        #[n(5)]
        at: UnixMillis,
    },
    #[n(4)]
    Acknowledge {
        #[n(0)]
        mailbox: MailboxId,
        #[n(1)]
        terminal: TerminalId,
        #[n(2)]
        ids: Vec<BlobId>,
    },
    #[n(5)]
    Erase {
        #[n(0)]
        mailbox: MailboxId,
        #[n(1)]
        ids: Vec<BlobId>,
    },
    #[n(6)]
    Rules {
        #[n(0)]
        mailbox: MailboxId,
        #[n(1)]
        rules: DepositRules,
    },
    /// What is over goes.
    #[n(7)]
    Expire {
        #[n(0)]
        at: UnixMillis,
    },
}

/// Longest encoding of a change: one that names as many blobs as a request may, or the longest rules.
pub(super) const MAX_CHANGE: usize = 16 * 1024;

/// Why a change is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unmade {
    NoMailbox,
    TooMany,
    Quota(QuotaError),
}

/// What a change has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Made {
    /// What goes.
    pub gone: Vec<Key>,
    /// Of a deposit.
    pub admitted: Option<Admitted>,
    /// Of an entry, whether the mailbox is new.
    pub opened: bool,
    /// Mailboxes that are closed.
    pub closed: Vec<MailboxId>,
    /// Whether there is anything to write.
    pub changed: bool,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Books {
    limits: MailLimits,
    pub ledger: Ledger,
    pub rules: BTreeMap<MailboxId, DepositRules>,
    pub owners: BTreeMap<MailboxId, Owner>,
    guests: BTreeMap<Network, usize>,
    /// How many changes there have been, and a random name of the last.
    pub position: i64,
    pub mark: Vec<u8>,
}

impl Books {
    /// Empty ones, which have heard of nothing.
    pub fn new(limits: MailLimits) -> Self {
        Self {
            limits,
            ledger: Ledger::new(limits.books),
            rules: BTreeMap::new(),
            owners: BTreeMap::new(),
            guests: BTreeMap::new(),
            position: -1,
            mark: Vec::new(),
        }
    }

    pub fn limits(&self) -> MailLimits {
        self.limits
    }

    /// Makes a change. On an error nothing has changed.
    pub fn make(&mut self, change: &Change) -> Result<Made, Unmade> {
        match change {
            Change::Enter { identity, terminal, until, open, network, at } => {
                let owner = Owner { identity: *identity, network: *network, entered: *at };
                self.enter(owner, *terminal, *until, *open)
            }
            Change::Close { mailbox } => {
                let changed = self.owners.contains_key(mailbox);
                let gone = self.close(mailbox);
                Ok(Made { gone, closed: vec![*mailbox], changed, ..Made::default() })
            }
            Change::Revoke { mailbox, terminal } => {
                let before = self.ledger.terminals(mailbox).len();
                let gone = self.ledger.revoke(mailbox, terminal);
                let changed = self.ledger.terminals(mailbox).len() != before;
                Ok(Made { gone, changed, ..Made::default() })
            }
            Change::Deposit { mailbox, id, size, by, days, at } => {
                let by = depositor_of(by).ok_or(Unmade::NoMailbox)?;
                let deposit = Deposit { mailbox: *mailbox, id: *id, size: *size, by, days: *days };
                let admitted = self.ledger.deposit(&deposit, *at).map_err(Unmade::Quota)?;
                let (gone, changed) = (admitted.evicted.clone(), admitted.is_new);
                Ok(Made { gone, changed, admitted: Some(admitted), ..Made::default() })
            }
            Change::Acknowledge { mailbox, terminal, ids } => {
                let gone = self.ledger.acknowledge(mailbox, terminal, ids);
                Ok(Made { gone, changed: true, ..Made::default() })
            }
            Change::Erase { mailbox, ids } => {
                let gone = self.ledger.erase(mailbox, ids);
                Ok(Made { changed: !gone.is_empty(), gone, ..Made::default() })
            }
            Change::Rules { mailbox, rules } => {
                let known = self.rules.get_mut(mailbox).ok_or(Unmade::NoMailbox)?;
                let changed = known != rules;
                known.clone_from(rules);
                Ok(Made { changed, ..Made::default() })
            }
            Change::Expire { at } => Ok(self.expire(*at)),
        }
    }

    fn enter(
        &mut self,
        owner: Owner,
        terminal: TerminalId,
        until: UnixMillis,
        open: bool,
    ) -> Result<Made, Unmade> {
        let mailbox = MailboxId::of(&owner.identity);
        let opened = !self.owners.contains_key(&mailbox);
        if opened {
            if !open {
                return Err(Unmade::NoMailbox);
            }
            if owner.network.is_some_and(|network| !self.has_room_for_guest(network)) {
                return Err(Unmade::TooMany);
            }
            self.ledger.open(mailbox, 0).map_err(|_| Unmade::TooMany)?;
            self.rules.insert(mailbox, DepositRules { strangers: true, ..DepositRules::default() });
        }
        let before = self.owners.insert(mailbox, owner);
        self.count_guest(before.and_then(|before| before.network), owner.network);
        let gone = self.ledger.enter(&mailbox, terminal, until);
        Ok(Made { gone, opened, changed: true, ..Made::default() })
    }

    /// Puts back a mailbox that the store has.
    pub fn put_back(
        &mut self,
        mailbox: MailboxId,
        owner: Owner,
        newest: u64,
        rules: DepositRules,
    ) -> Result<(), Unmade> {
        self.ledger.open(mailbox, newest).map_err(|_| Unmade::TooMany)?;
        self.owners.insert(mailbox, owner);
        self.count_guest(None, owner.network);
        self.rules.insert(mailbox, rules);
        Ok(())
    }

    fn has_room_for_guest(&self, network: Network) -> bool {
        let all: usize = self.guests.values().sum();
        let own = self.guests.get(&network).copied().unwrap_or(0);
        all < self.limits.guests && own < self.limits.guests_per_network
    }

    fn count_guest(&mut self, before: Option<Network>, now: Option<Network>) {
        if let Some(count) = before.and_then(|network| self.guests.get_mut(&network)) {
            *count = count.saturating_sub(1);
        }
        if let Some(network) = now {
            *self.guests.entry(network).or_insert(0) += 1;
        }
        self.guests.retain(|_, count| *count > 0);
    }

    fn close(&mut self, mailbox: &MailboxId) -> Vec<Key> {
        let owner = self.owners.remove(mailbox);
        self.count_guest(owner.and_then(|owner| owner.network), None);
        self.rules.remove(mailbox);
        self.ledger.close(mailbox)
    }

    /// Whether anything is over.
    pub fn is_due(&self, now: UnixMillis) -> bool {
        let is_over = self.ledger.poll_timeout().is_some_and(|time| time <= now);
        is_over || self.owners.values().any(|owner| owner.is_idle(now))
    }

    fn expire(&mut self, at: UnixMillis) -> Made {
        let idle = self.owners.iter().filter(|(_, owner)| owner.is_idle(at));
        let closed: Vec<MailboxId> = idle.map(|(mailbox, _)| *mailbox).collect();
        let mut gone: Vec<Key> = closed.iter().flat_map(|mailbox| self.close(mailbox)).collect();
        gone.extend(self.ledger.expire(at));
        Made { gone, closed, changed: true, ..Made::default() }
    }

    /// What a mailbox of an account may hold, if the operator has granted it something else.
    pub fn grant(&mut self, identity: &IdentityId, megabytes: u64) {
        let limit = Amount { bytes: megabytes.saturating_mul(1 << 20), ..self.limits.books.mailbox };
        self.ledger.set_limit(&MailboxId::of(identity), Some(limit));
    }
}

/// A depositor as it is stored: a serial has 16 bytes, a network 3 or 8.
pub(super) fn stored_depositor(by: &Depositor) -> Vec<u8> {
    match by {
        Depositor::Contact(serial) => serial.as_bytes().to_vec(),
        Depositor::Stranger(network) => stored_network(network),
    }
}

pub(super) fn stored_network(network: &Network) -> Vec<u8> {
    match network {
        Network::V4(net) => net.to_vec(),
        Network::V6(net) => net.to_vec(),
    }
}

pub(super) fn network_of(bytes: &[u8]) -> Option<Network> {
    let v4 = bytes.try_into().map(Network::V4).ok();
    v4.or_else(|| bytes.try_into().map(Network::V6).ok())
}

/// The reverse of [`stored_depositor`].
pub(super) fn depositor_of(bytes: &[u8]) -> Option<Depositor> {
    let contact = bytes.try_into().map(|serial| Depositor::Contact(Serial::from_bytes(serial))).ok();
    contact.or_else(|| network_of(bytes).map(Depositor::Stranger))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn enter(n: u8, network: Option<Network>, at: UnixMillis) -> Change {
        Change::Enter {
            identity: IdentityId::from_bytes([n; 32]),
            terminal: TerminalId::from_bytes([n; 32]),
            until: NOW.plus(days(200)),
            open: true,
            network,
            at,
        }
    }

    fn mailbox(n: u8) -> MailboxId {
        MailboxId::of(&IdentityId::from_bytes([n; 32]))
    }

    #[test]
    fn guests_have_a_share_of_the_mailboxes_and_one_network_a_share_of_that() {
        let limits = MailLimits { guests: 3, guests_per_network: 2, ..MailLimits::default() };
        let mut books = Books::new(limits);
        let (here, there) = (Network::V4([1, 2, 3]), Network::V4([4, 5, 6]));
        for n in 1..3 {
            assert!(books.make(&enter(n, Some(here), NOW)).is_ok_and(|made| made.opened));
        }
        assert_eq!(books.make(&enter(3, Some(here), NOW)), Err(Unmade::TooMany), "one network");
        assert!(books.make(&enter(3, Some(there), NOW)).is_ok());
        assert_eq!(books.make(&enter(4, Some(there), NOW)), Err(Unmade::TooMany), "all guests");
        assert!(books.make(&enter(4, None, NOW)).is_ok(), "who has an account is none");
        assert!(
            books.make(&enter(1, Some(there), NOW)).is_ok(),
            "one that is there is entered from anywhere"
        );
        books.make(&Change::Close { mailbox: mailbox(1) }).expect("closed");
        assert!(books.make(&enter(5, Some(here), NOW)).is_ok(), "there is room again");
    }

    #[test]
    fn a_mailbox_that_nobody_enters_any_more_is_closed() {
        let mut books = Books::new(MailLimits::default());
        let network = Some(Network::V4([1, 2, 3]));
        books.make(&enter(1, network, NOW)).expect("a guest");
        books.make(&enter(2, None, NOW)).expect("an account");
        let over = NOW.plus(GUEST_IDLE).plus(Duration::from_millis(1));
        let made = books.make(&Change::Expire { at: over }).expect("expired");
        assert_eq!(made.closed, [mailbox(1)]);
        assert!(books.ledger.newest(&mailbox(1)).is_none() && books.ledger.newest(&mailbox(2)).is_some());
    }

    #[test]
    fn depositors_are_told_apart_by_their_length() {
        let all = [
            Depositor::Contact(Serial::from_bytes([7; 16])),
            Depositor::Stranger(Network::V4([1, 2, 3])),
            Depositor::Stranger(Network::V6([1, 2, 3, 4, 5, 6, 7, 8])),
        ];
        for by in all {
            assert_eq!(depositor_of(&stored_depositor(&by)), Some(by));
        }
        assert_eq!(depositor_of(&[1; 4]), None);
    }
}
