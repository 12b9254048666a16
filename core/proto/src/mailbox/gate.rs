//! Who may deposit at a directory, and what strangers pay.
//!
//! A contact shows a token, and is let in. A stranger asks the price and works. The price is the higher of two: what follows
//! from the deposits of its network lately, so that a flood pays for itself, and what follows from those of all strangers
//! into the same mailbox, more slowly, so that a flood from many networks does, too. Nothing is remembered of a price that
//! was asked, and a deposit counts when it is paid.

use std::time::{Duration, Instant};

use super::contacts::{DepositRules, Serial};
use super::protocol::{Admission, Refusal};
use super::{BlobId, MailboxId};
use crate::knock::Network;
use crate::puzzle::{Challenge, Paces, Purpose, PuzzleKey, PuzzleTask, Subject, Tariff};
use crate::wire::UnixMillis;

/// What a network pays: a third of a second of work for each of the first blobs (a voice message of three minutes has five),
/// doubling with their number.
pub const NETWORK_TARIFF: Tariff = Tariff { base: 6, max: 16, free: 8, half_life: Duration::from_secs(600) };
/// What strangers of all networks together pay for one mailbox.
pub const MAILBOX_TARIFF: Tariff = Tariff { base: 6, max: 14, free: 64, half_life: Duration::from_secs(600) };
/// Networks whose pace is remembered; one with little is forgotten for one that comes.
pub const MAX_NETWORKS: usize = 4_096;
/// Mailboxes of which it is.
pub const MAX_MAILBOXES: usize = 4_096;

/// Who is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// A contact.
    Contact(Serial),
    /// A stranger, if this work is found to be done. The task is for a worker, with those of numbers; then [`Gate::paid`].
    Stranger(PuzzleTask),
}

/// Somebody wants to deposit.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// What the owner of the mailbox wants.
    pub rules: &'a DepositRules,
    /// The mailbox.
    pub mailbox: MailboxId,
    /// Where it comes from.
    pub network: Network,
    /// The blob.
    pub blob: BlobId,
    /// What is to let it in.
    pub admission: Admission,
}

/// A directory's gate. Bounded: two maps of paces.
#[derive(Debug)]
pub struct Gate {
    key: PuzzleKey,
    networks: Paces<Network>,
    mailboxes: Paces<MailboxId>,
}

impl Gate {
    /// A gate before which nobody has come. All processes of a directory share the key.
    #[must_use]
    pub fn new(key: PuzzleKey) -> Self {
        Self {
            key,
            networks: Paces::new(NETWORK_TARIFF, MAX_NETWORKS),
            mailboxes: Paces::new(MAILBOX_TARIFF, MAX_MAILBOXES),
        }
    }

    /// What a stranger in `network` pays for a blob in `mailbox` now. `time` is the same moment as `now`.
    #[must_use]
    pub fn price(&self, mailbox: &MailboxId, network: &Network, now: Instant, time: UnixMillis) -> Challenge {
        self.key.challenge(&Subject::deposit(mailbox, network), self.bits(mailbox, network, now), time)
    }

    /// Whether a deposit is let in. `time` is the same moment as `now`.
    ///
    /// # Errors
    /// [`Refusal::Token`], [`Refusal::Work`] or [`Refusal::NoStrangers`].
    pub fn admit(&self, attempt: &Attempt<'_>, now: Instant, time: UnixMillis) -> Result<Admitted, Refusal> {
        let Attempt { rules, mailbox, network, blob, admission } = attempt;
        match admission {
            Admission::Token(token) => {
                rules.admit(token, time).map(Admitted::Contact).map_err(|_| Refusal::Token)
            }
            Admission::Work(_) if !rules.strangers => Err(Refusal::NoStrangers),
            Admission::Work(solution) => {
                let subject = Subject::deposit(mailbox, network);
                let purpose = Purpose::deposit(mailbox, blob);
                let price = self.bits(mailbox, network, now);
                let task = self.key.check(&subject, solution, &purpose, price, time);
                task.map(Admitted::Stranger).map_err(|_| Refusal::Work)
            }
        }
    }

    /// A stranger's blob was paid for and is kept: the next one is dearer. One that was there before is not counted again.
    pub fn paid(&mut self, mailbox: &MailboxId, network: &Network, now: Instant) {
        self.networks.came(network, now);
        self.mailboxes.came(mailbox, now);
    }

    fn bits(&self, mailbox: &MailboxId, network: &Network, now: Instant) -> u8 {
        self.networks.price(network, now).max(self.mailboxes.price(mailbox, now))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    #![allow(clippy::disallowed_methods, reason = "the virtual clock has to begin somewhere")]

    use super::*;
    use crate::identity::{DirectoryId, IdentityId};
    use crate::mailbox::contacts::TokenSecret;
    use crate::proof::Miner;
    use crate::puzzle::Solution;

    const TIME: UnixMillis = UnixMillis(1_800_000_000_000);

    fn mailbox(n: u8) -> MailboxId {
        MailboxId::from_bytes([n; 32])
    }

    fn network(n: u16) -> Network {
        let [high, low] = n.to_be_bytes();
        Network::V4([198, high, low])
    }

    fn rules() -> DepositRules {
        let directory = DirectoryId::from_bytes([1; 32]);
        let keys = vec![TokenSecret::from_seed([5; 32]).deposit_key(&directory)];
        DepositRules { keys, revoked: Vec::new(), strangers: true }
    }

    struct World {
        gate: Gate,
        now: Instant,
    }

    impl World {
        fn new() -> Self {
            Self { gate: Gate::new(PuzzleKey::from_seed([3; 32])), now: Instant::now() }
        }

        fn bits(&self, to: u8, from: u16) -> u8 {
            self.gate.price(&mailbox(to), &network(from), self.now, TIME).bits
        }

        fn pay(&mut self, to: u8, from: u16, times: usize) {
            for _ in 0..times {
                self.gate.paid(&mailbox(to), &network(from), self.now);
            }
        }

        fn admit(&self, rules: &DepositRules, admission: Admission) -> Result<Admitted, Refusal> {
            let blob = BlobId::of(b"blob");
            let attempt = Attempt { rules, mailbox: mailbox(1), network: network(1), blob, admission };
            self.gate.admit(&attempt, self.now, TIME)
        }
    }

    #[test]
    fn q8_a_stranger_works_and_a_contact_shows_a_token() {
        let world = World::new();
        let challenge = world.gate.price(&mailbox(1), &network(1), world.now, TIME);
        assert_eq!(challenge.bits, NETWORK_TARIFF.base);
        let purpose = Purpose::deposit(&mailbox(1), &BlobId::of(b"blob"));
        let solution = challenge.solve(&purpose, 0..5_000, &mut Miner::new()).unwrap();
        let admitted = world.admit(&rules(), Admission::Work(solution)).unwrap();
        let Admitted::Stranger(task) = admitted else { panic!("{admitted:?}") };
        assert!(task.run_with(&mut Miner::new()));
        let lazy = Solution { nonce: solution.nonce + 1, ..solution };
        assert_ne!(world.admit(&rules(), Admission::Work(lazy)), Ok(Admitted::Stranger(task)));
        let closed = DepositRules { strangers: false, ..rules() };
        assert_eq!(world.admit(&closed, Admission::Work(solution)), Err(Refusal::NoStrangers));
        let (directory, contact) = (DirectoryId::from_bytes([1; 32]), IdentityId::from_bytes([8; 32]));
        let grant = TokenSecret::from_seed([5; 32]).grant(&directory, &contact, 0, TIME);
        let serial = grant.token.serial;
        let admission = Admission::Token(grant.token);
        assert_eq!(world.admit(&closed, admission), Ok(Admitted::Contact(serial)));
        assert_eq!(world.admit(&DepositRules::default(), admission), Err(Refusal::Token));
    }

    #[test]
    fn a_network_that_floods_pays_for_it_and_others_do_not() {
        let mut world = World::new();
        world.pay(1, 1, 64);
        assert_eq!((world.bits(1, 1), world.bits(9, 1)), (10, 10), "wherever it deposits");
        assert_eq!((world.bits(1, 2), world.bits(9, 2)), (7, 6), "a little, in the mailbox that is flooded");
        world.now += Duration::from_secs(3 * 3_600);
        assert_eq!((world.bits(1, 1), world.bits(1, 2)), (6, 6));
    }

    #[test]
    fn a_flood_from_many_networks_pays_more_and_more_and_has_a_bound() {
        let mut world = World::new();
        for from in 0..20_000 {
            world.pay(1, from, 1);
        }
        assert_eq!((world.bits(1, 30_000), world.bits(2, 30_000)), (MAILBOX_TARIFF.max, NETWORK_TARIFF.base));
        assert!(world.gate.networks.len() <= MAX_NETWORKS);
        for to in 0..=255 {
            world.pay(to, 1, 100);
        }
        assert!(world.gate.mailboxes.len() <= MAX_MAILBOXES);
        assert_eq!(world.bits(3, 1), NETWORK_TARIFF.max);
    }
}
