//! Directories that are hostile, against the real parts of both ends: letters, books, what has been seen.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::letter::tests::{NOW, open_at, seal, text};
use super::letter::{Letter, MessageId, Part, Received, Seen, Sighting};
use super::quota::{Deposit, Depositor, Key, Ledger, Limits};
use super::{BlobId, MailboxId};
use crate::identity::{IdentityId, TerminalId};
use crate::mailbox::contacts::Serial;
use crate::wire::UnixMillis;

/// What a directory does with what it is asked for.
#[derive(Clone, Debug)]
enum Trick {
    Honest,
    /// Withholds the nth.
    Drop(usize),
    /// Hands everything out twice, whatever was acknowledged.
    Repeat,
    /// The last one first.
    Reorder,
    /// Changes a bit of the nth.
    Alter(usize, usize),
    /// Hands out somebody else's instead.
    Swap,
}

/// Keeps the mailboxes of Bob and of Carol.
struct Directory {
    ledger: Ledger,
    blobs: BTreeMap<Key, Vec<u8>>,
    /// All that ever came, in order.
    ever: Vec<(MailboxId, Vec<u8>)>,
    trick: Trick,
}

fn bob() -> IdentityId {
    text("").to
}

fn carol() -> IdentityId {
    IdentityId::from_bytes([55; 32])
}

fn terminal() -> TerminalId {
    TerminalId::from_bytes([21; 32])
}

impl Directory {
    fn new(trick: Trick) -> Self {
        let mut ledger = Ledger::new(Limits::default());
        for owner in [bob(), carol()] {
            ledger.open(MailboxId::of(&owner), 0).unwrap();
            ledger.enter(&MailboxId::of(&owner), terminal(), UnixMillis(u64::MAX));
        }
        Self { ledger, blobs: BTreeMap::new(), ever: Vec::new(), trick }
    }

    fn deposit(&mut self, owner: &IdentityId, blob: &[u8]) {
        let (mailbox, id) = (MailboxId::of(owner), BlobId::of(blob));
        let by = Depositor::Contact(Serial::from_bytes([1; 16]));
        let size = u32::try_from(blob.len()).unwrap();
        let admitted = self.ledger.deposit(&Deposit { mailbox, id, size, by, days: 30 }, NOW).unwrap();
        if admitted.is_new {
            self.blobs.insert((mailbox, id), blob.to_vec());
            self.ever.push((mailbox, blob.to_vec()));
        }
    }

    fn fetch(&self, owner: &IdentityId) -> Vec<Vec<u8>> {
        let mailbox = MailboxId::of(owner);
        let (items, more) = self.ledger.list(&mailbox, 0, 100);
        assert!(!more);
        let mut blobs: Vec<Vec<u8>> =
            items.iter().map(|item| self.blobs[&(mailbox, item.id)].clone()).collect();
        let ever = |mine: bool| {
            let chosen = self.ever.iter().filter(move |(of, _)| (*of == mailbox) == mine);
            chosen.map(|(_, blob)| blob.clone()).collect::<Vec<_>>()
        };
        let last = blobs.len().max(1);
        match &self.trick {
            Trick::Honest => {}
            Trick::Drop(n) if !blobs.is_empty() => drop(blobs.remove(n % last)),
            Trick::Alter(n, bit) if !blobs.is_empty() => blobs[n % last][bit / 8 % 1024] ^= 1 << (bit % 8),
            Trick::Drop(_) | Trick::Alter(..) => {}
            Trick::Repeat => blobs = [ever(true), ever(true)].concat(),
            Trick::Reorder => blobs.reverse(),
            Trick::Swap => blobs = ever(false),
        }
        blobs
    }

    fn acknowledge(&mut self, owner: &IdentityId, id: BlobId) {
        for key in self.ledger.acknowledge(&MailboxId::of(owner), &terminal(), &[id]) {
            self.blobs.remove(&key).unwrap();
        }
    }
}

/// Bob's terminal.
#[derive(Default)]
struct Receiver {
    seen: Seen,
    got: Vec<Received>,
}

impl Receiver {
    fn fetch(&mut self, directory: &mut Directory) {
        for blob in directory.fetch(&bob()) {
            let Ok(received) = open_at(&blob, NOW) else { continue };
            let (sender, id, at) = (received.from.identity, received.id, received.at);
            if self.seen.look(true, &sender, &id, at) == Sighting::New {
                self.seen.take(true, sender, id, at, NOW);
                self.got.push(received);
            }
            directory.acknowledge(&bob(), BlobId::of(&blob));
        }
        self.got.sort_by_key(|received| received.at);
    }

    fn bodies(&self) -> Vec<String> {
        let body = |received: &Received| {
            let Part::Text { body } = &received.part else { panic!("{received:?} is no text") };
            body.clone()
        };
        self.got.iter().map(body).collect()
    }

    /// Whether something shows that a letter is missing.
    fn misses_one(&self) -> bool {
        let missing = |received: &&Received| {
            received.after.is_some_and(|before| !self.seen.has(&received.from.identity, &before))
        };
        self.got.iter().any(|received| missing(&received))
    }
}

/// Alice's letters to Bob: `count`, one after the other.
fn letters(count: u8) -> Vec<Letter> {
    let id = |n: u8| MessageId::from_bytes([n; 16]);
    let letter = |n: u8| Letter {
        id: id(n),
        at: UnixMillis(NOW.0 - 1_000 + u64::from(n)),
        after: (n > 1).then(|| id(n - 1)),
        ..text(&format!("letter {n}"))
    };
    (1..=count).map(letter).collect()
}

fn trick() -> impl Strategy<Value = Trick> {
    prop_oneof![
        Just(Trick::Honest),
        (0_usize..8).prop_map(Trick::Drop),
        Just(Trick::Repeat),
        Just(Trick::Reorder),
        (0_usize..8, 0_usize..8192).prop_map(|(n, bit)| Trick::Alter(n, bit)),
        Just(Trick::Swap),
    ]
}

fn deposit_all(directory: &mut Directory, letters: &[Letter]) {
    for letter in letters {
        directory.deposit(&bob(), &seal(letter));
    }
    // Somebody else's, for the swapper to hand out.
    directory.deposit(&carol(), &seal(&Letter { to: carol(), ..text("for Carol") }));
}

#[test]
fn q2_a_letter_that_a_directory_drops_is_missed() {
    let letters = letters(3);
    for (dropped, noticed) in [(0, true), (1, true), (2, false)] {
        let mut directory = Directory::new(Trick::Drop(dropped));
        deposit_all(&mut directory, &letters);
        let mut receiver = Receiver::default();
        receiver.fetch(&mut directory);
        // The newest is missed when the next one comes.
        assert_eq!((receiver.got.len(), receiver.misses_one()), (2, noticed));
    }
}

#[test]
fn q2_somebody_elses_letters_are_nothing_to_this_one() {
    let mut directory = Directory::new(Trick::Swap);
    deposit_all(&mut directory, &letters(2));
    let mut receiver = Receiver::default();
    receiver.fetch(&mut directory);
    assert!(receiver.got.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Two directories, one of them honest: everything comes, once, as it was written, in order; however often both are
    /// asked, in whatever order, and though the sender repeats its deposits.
    #[test]
    fn p12_nothing_is_lost_or_doubled_with_one_honest_directory(
        trick in trick(),
        count in 1_u8..6,
        again in any::<bool>(),
        order in prop::collection::vec(any::<bool>(), 0..4),
    ) {
        let letters = letters(count);
        let mut directories = [Directory::new(trick), Directory::new(Trick::Honest)];
        let mut receiver = Receiver::default();
        for directory in &mut directories {
            deposit_all(directory, &letters);
        }
        for honest in order.into_iter().chain([true]) {
            receiver.fetch(&mut directories[usize::from(honest)]);
            if again {
                deposit_all(&mut directories[1], &letters);
            }
        }
        let expected = (1..=count).map(|n| format!("letter {n}")).collect::<Vec<_>>();
        prop_assert_eq!(receiver.bodies(), expected);
        prop_assert!(!receiver.misses_one());
    }

    /// A hostile one alone: whatever comes was written so, comes once, and in order.
    #[test]
    fn q3_a_hostile_directory_adds_and_changes_nothing(trick in trick(), count in 1_u8..6, fetches in 1_usize..4) {
        let letters = letters(count);
        let mut directory = Directory::new(trick);
        deposit_all(&mut directory, &letters);
        let mut receiver = Receiver::default();
        for _ in 0..fetches {
            receiver.fetch(&mut directory);
        }
        let bodies = receiver.bodies();
        let expected = (1..=count).map(|n| format!("letter {n}")).collect::<Vec<_>>();
        prop_assert!(bodies.iter().all(|body| expected.contains(body)));
        prop_assert!(bodies.is_sorted_by(|a, b| a < b));
        if bodies.len() < expected.len() && bodies.last() == expected.last() {
            prop_assert!(receiver.misses_one());
        }
    }
}
