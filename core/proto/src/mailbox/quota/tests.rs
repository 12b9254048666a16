#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;

use super::*;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

/// Room for ten blobs of 1 KiB: strangers two, one contact five, one network of strangers one.
fn small() -> Limits {
    Limits {
        mailbox: Amount { bytes: 100 << 10, count: 100 },
        total: Amount { bytes: 150 << 10, count: 150 },
        network: Amount { bytes: 8 << 10, count: 8 },
        mailboxes: 3,
    }
}

fn mailbox(n: u8) -> MailboxId {
    MailboxId::from_bytes([n; 32])
}

fn id(n: u32) -> BlobId {
    BlobId::of(&n.to_be_bytes())
}

fn contact(n: u8) -> Depositor {
    Depositor::Contact(Serial::from_bytes([n; 16]))
}

fn stranger(n: u8) -> Depositor {
    Depositor::Stranger(Network::V4([203, 0, n]))
}

fn terminal(n: u8) -> TerminalId {
    TerminalId::from_bytes([n; 32])
}

fn until() -> UnixMillis {
    NOW.plus(days(200))
}

fn deposit(by: Depositor, n: u32) -> Deposit {
    Deposit { mailbox: mailbox(1), id: id(n), size: 1024, by, days: 30 }
}

fn ledger() -> Ledger {
    let mut ledger = Ledger::new(small());
    ledger.open(mailbox(1), 0).unwrap();
    ledger
}

/// Deposits 1 KiB blobs from number `from` on, until one is refused; says how many were taken and why no more.
fn fill(ledger: &mut Ledger, by: Depositor, from: u32) -> (u32, QuotaError) {
    for n in 0.. {
        if let Err(error) = ledger.deposit(&deposit(by, from + n), NOW) {
            return (n, error);
        }
    }
    panic!("nothing is without end");
}

fn numbers(ledger: &Ledger) -> Vec<u64> {
    ledger.list(&mailbox(1), 0, 1000).0.into_iter().map(|item| item.number).collect()
}

#[test]
fn blobs_are_listed_in_the_order_in_which_they_came() {
    let mut ledger = ledger();
    assert_eq!(
        ledger.deposit(&Deposit { mailbox: mailbox(9), ..deposit(contact(1), 1) }, NOW),
        Err(QuotaError::NoMailbox)
    );
    for n in 1..=5 {
        let by = if n == 2 { stranger(1) } else { contact(1) };
        let admitted = ledger.deposit(&deposit(by, n), NOW).unwrap();
        assert_eq!((admitted.number, admitted.is_new), (u64::from(n), true));
    }
    let (items, more) = ledger.list(&mailbox(1), 1, 3);
    assert_eq!(
        items.iter().map(|item| (item.number, item.contact)).collect::<Vec<_>>(),
        [(2, false), (3, true), (4, true)]
    );
    assert!(more && !ledger.list(&mailbox(1), 4, 3).1);
    assert_eq!(ledger.list(&mailbox(1), u64::MAX, 3), (Vec::new(), false));
    assert_eq!(ledger.newest(&mailbox(1)), Some(5));
    assert_eq!(ledger.get(&mailbox(1), &id(2)).unwrap().arrived, NOW);
}

#[test]
fn a_deposit_that_is_repeated_counts_once() {
    let mut ledger = ledger();
    ledger.deposit(&deposit(contact(1), 1), NOW).unwrap();
    let again = ledger.deposit(&deposit(stranger(1), 1), NOW).unwrap();
    assert_eq!(again, Admitted { number: 1, is_new: false, evicted: Vec::new() });
    assert_eq!(ledger.report(&mailbox(1)).unwrap().contacts, Amount { bytes: 1024, count: 1 });
}

#[test]
fn one_contact_takes_half_and_all_together_take_everything() {
    let mut ledger = ledger();
    assert_eq!(fill(&mut ledger, contact(1), 0), (50, QuotaError::Share));
    assert_eq!(fill(&mut ledger, contact(2), 1000), (50, QuotaError::Share));
    assert_eq!(fill(&mut ledger, contact(3), 2000), (0, QuotaError::MailboxFull));
    assert_eq!(fill(&mut ledger, stranger(3), 2000), (0, QuotaError::MailboxFull));
    // Another mailbox has a limit of its own, but the directory is full.
    ledger.open(mailbox(2), 0).unwrap();
    let there = |n| Deposit { mailbox: mailbox(2), ..deposit(contact(1), n) };
    for n in 0..50 {
        ledger.deposit(&there(n), NOW).unwrap();
    }
    let other = Deposit { by: contact(2), ..there(51) };
    assert_eq!(ledger.deposit(&other, NOW), Err(QuotaError::DirectoryFull));
    assert_eq!(QuotaError::DirectoryFull.refusal(), QuotaError::Share.refusal());
}

#[test]
fn p14_strangers_fill_a_fifth_and_each_network_a_quarter_of_that() {
    let mut ledger = ledger();
    for n in 0..4 {
        assert_eq!(fill(&mut ledger, stranger(n), 100 * u32::from(n)), (5, QuotaError::Share));
    }
    assert_eq!(ledger.report(&mailbox(1)).unwrap().strangers.count, 20);
    assert_eq!(ledger.report(&mailbox(1)).unwrap().stranger_limit.count, 20);
    // Whoever comes now takes places of those who hold more, the newest ones, until all hold alike.
    let (taken, why) = fill(&mut ledger, stranger(9), 1000);
    assert_eq!((taken, why), (4, QuotaError::MailboxFull));
    assert_eq!(ledger.report(&mailbox(1)).unwrap().strangers.count, 20);
    assert!(numbers(&ledger).contains(&1) && !numbers(&ledger).contains(&20), "the oldest stay");
}

#[test]
fn contacts_take_the_room_that_strangers_hold() {
    let mut ledger = ledger();
    for n in 0..4 {
        fill(&mut ledger, stranger(n), 100 * u32::from(n));
    }
    assert_eq!(fill(&mut ledger, contact(1), 1000), (50, QuotaError::Share));
    assert_eq!(ledger.report(&mailbox(1)).unwrap().strangers.count, 20, "there was room beside them");
    for n in 0..50 {
        let admitted = ledger.deposit(&deposit(contact(2), 2000 + n), NOW).unwrap();
        assert_eq!(admitted.evicted.len(), usize::from(n >= 30));
    }
    assert_eq!(ledger.report(&mailbox(1)).unwrap().strangers, Amount::default());
}

#[test]
fn strangers_in_other_mailboxes_give_way_when_the_directory_is_full() {
    let mut limits = small();
    limits.total = Amount { bytes: 20 << 10, count: 20 };
    let mut ledger = Ledger::new(limits);
    ledger.open(mailbox(1), 0).unwrap();
    ledger.open(mailbox(2), 0).unwrap();
    let there = |by, n| Deposit { mailbox: mailbox(2), ..deposit(by, n) };
    for n in 0..4 {
        ledger.deposit(&there(stranger(1), n), NOW).unwrap();
    }
    assert_eq!(ledger.deposit(&there(stranger(2), 9), NOW), Err(QuotaError::DirectoryFull), "a fifth of 20");
    let mut evicted = Vec::new();
    for n in 100..120 {
        evicted.extend(ledger.deposit(&deposit(contact(1), n), NOW).unwrap().evicted);
    }
    assert_eq!(evicted, [3, 2, 1, 0].map(|n| (mailbox(2), id(n))));
    assert_eq!(ledger.held(), (Amount { bytes: 20 << 10, count: 20 }, Amount::default()));
}

#[test]
fn one_network_of_strangers_is_bounded_in_all_mailboxes_together() {
    let mut ledger = ledger();
    ledger.open(mailbox(2), 0).unwrap();
    assert_eq!(fill(&mut ledger, stranger(1), 0), (5, QuotaError::Share));
    let there = |n| Deposit { mailbox: mailbox(2), ..deposit(stranger(1), n) };
    let taken = (0..10).filter(|n| ledger.deposit(&there(*n), NOW).is_ok()).count();
    assert_eq!(taken, 3);
}

#[test]
fn p14_a_blob_goes_when_all_terminals_have_it() {
    let mut ledger = ledger();
    ledger.deposit(&deposit(contact(1), 1), NOW).unwrap();
    let key = (mailbox(1), id(1));
    assert_eq!(ledger.acknowledge(&mailbox(1), &terminal(1), &[id(1)]), [], "it has not entered");
    for n in [1, 2] {
        assert_eq!(ledger.enter(&mailbox(1), terminal(n), until()), []);
    }
    assert_eq!(ledger.acknowledge(&mailbox(1), &terminal(1), &[id(1), id(7)]), []);
    assert_eq!(ledger.acknowledge(&mailbox(1), &terminal(1), &[id(1)]), [], "one terminal is one");
    assert_eq!(ledger.acknowledge(&mailbox(1), &terminal(2), &[id(1)]), [key]);
    assert_eq!((numbers(&ledger), ledger.newest(&mailbox(1))), (vec![], Some(1)));
    // Numbers are never used again.
    assert_eq!(ledger.deposit(&deposit(contact(1), 2), NOW).unwrap().number, 2);
}

#[test]
fn a_terminal_that_is_revoked_or_no_longer_certified_holds_nothing_up() {
    let mut ledger = ledger();
    ledger.enter(&mailbox(1), terminal(1), until());
    ledger.enter(&mailbox(1), terminal(2), until());
    ledger.enter(&mailbox(1), terminal(3), NOW.plus(days(1)));
    ledger.deposit(&deposit(contact(1), 1), NOW).unwrap();
    ledger.acknowledge(&mailbox(1), &terminal(1), &[id(1)]);
    assert_eq!(ledger.revoke(&mailbox(1), &terminal(2)), []);
    assert_eq!(ledger.poll_timeout(), Some(UnixMillis(NOW.plus(days(1)).0 + 1)));
    assert_eq!(ledger.expire(NOW.plus(days(1))), []);
    assert_eq!(ledger.expire(ledger.poll_timeout().unwrap()), [(mailbox(1), id(1))]);
}

#[test]
fn terminals_of_a_mailbox_are_bounded() {
    let mut ledger = ledger();
    for n in 0..100 {
        ledger.enter(&mailbox(1), terminal(n), until().plus(days(n)));
        ledger.enter(&mailbox(1), terminal(n), until().plus(days(n)));
    }
    assert_eq!(ledger.report(&mailbox(1)).unwrap().terminals, 8);
    assert_eq!(ledger.certs.len(), 8);
    assert!(ledger.enter(&mailbox(9), terminal(1), until()).is_empty());
}

#[test]
fn blobs_expire_after_thirty_days_at_most_and_others_earlier() {
    let mut ledger = ledger();
    ledger.deposit(&Deposit { days: 1, ..deposit(contact(1), 1) }, NOW).unwrap();
    ledger.deposit(&Deposit { days: 200, ..deposit(stranger(1), 2) }, NOW).unwrap();
    assert_eq!(ledger.expire(NOW.plus(days(1))), []);
    let soon = UnixMillis(NOW.plus(days(1)).0 + 1);
    assert_eq!(ledger.poll_timeout(), Some(soon));
    assert_eq!(ledger.expire(soon), [(mailbox(1), id(1))]);
    assert_eq!(ledger.expire(NOW.plus(days(30))), []);
    assert_eq!(ledger.expire(NOW.plus(days(31))), [(mailbox(1), id(2))]);
    assert_eq!(ledger.poll_timeout(), None);
}

#[test]
fn what_is_erased_or_closed_is_gone() {
    let mut ledger = ledger();
    for n in 1..=3 {
        ledger.deposit(&deposit(stranger(1), n), NOW).unwrap();
    }
    ledger.enter(&mailbox(1), terminal(1), until());
    assert_eq!(ledger.erase(&mailbox(1), &[id(2), id(9), id(2)]), [(mailbox(1), id(2))]);
    assert_eq!(ledger.close(&mailbox(1)), [(mailbox(1), id(1)), (mailbox(1), id(3))]);
    assert_eq!((ledger.mailboxes(), ledger.held().1, ledger.poll_timeout()), (0, Amount::default(), None));
    assert!(ledger.close(&mailbox(1)).is_empty() && ledger.report(&mailbox(1)).is_none());
    assert!(ledger.heaps.is_empty() && ledger.networks.is_empty() && ledger.certs.is_empty());
}

#[test]
fn mailboxes_are_bounded_and_books_come_back_from_the_store() {
    let mut first = ledger();
    for n in [2, 3, 3] {
        assert_eq!(first.open(mailbox(n), 0), Ok(()));
    }
    assert_eq!(first.open(mailbox(4), 0), Err(TooManyMailboxes));
    first.enter(&mailbox(1), terminal(1), until());
    for n in 1..=5 {
        first.deposit(&deposit(stranger(1), n), NOW).unwrap();
        first.deposit(&deposit(contact(1), 100 + n), NOW).unwrap();
    }
    first.enter(&mailbox(1), terminal(2), until());
    first.acknowledge(&mailbox(1), &terminal(1), &[id(1)]);
    let mut second = Ledger::new(small());
    let held = first.holdings.values().cloned().collect::<Vec<_>>();
    assert!(!second.restore(held[0].clone()), "its mailbox is not open");
    second.open(mailbox(1), 10).unwrap();
    assert!(held.iter().all(|holding| second.restore(holding.clone())));
    assert!(!second.restore(held[0].clone()));
    assert_eq!(second.list(&mailbox(1), 0, 99), first.list(&mailbox(1), 0, 99));
    assert_eq!((second.held(), second.newest(&mailbox(1))), (first.held(), Some(10)));
    second.enter(&mailbox(1), terminal(1), until());
    second.enter(&mailbox(1), terminal(2), until());
    assert_eq!(second.acknowledge(&mailbox(1), &terminal(2), &[id(1)]), [(mailbox(1), id(1))]);
    let huge = Deposit { size: u32::MAX, ..deposit(contact(1), 999) };
    assert_eq!(second.deposit(&huge, NOW), Err(QuotaError::TooLarge));
}

#[test]
fn amounts_stay_within_their_range() {
    let most = Amount { bytes: u64::MAX, count: u64::MAX };
    assert_eq!((most.plus(Amount::one(1)), most.percent(100)), (most, most));
    assert_eq!(Amount::one(1).minus(most), Amount::default());
    assert_eq!(Amount { bytes: 250, count: 49 }.percent(20), Amount { bytes: 50, count: 9 });
    assert!(!Amount { bytes: 1, count: 2 }.fits(Amount { bytes: 1, count: 1 }));
}

/// What a test does to the books.
#[derive(Clone, Debug)]
enum Step {
    Deposit(Deposit),
    Acknowledge(u8, u8, u32),
    Erase(u8, u32),
    Enter(u8, u8),
    Revoke(u8, u8),
    Pass(u64),
    Close(u8),
    Open(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let by = prop_oneof![(0_u8..4).prop_map(contact), (0_u8..6).prop_map(stranger)];
    let size = prop::sample::select(&[1024_u32, 4096, 16_384][..]);
    let new = (1_u8..4, 0_u32..400, size, by, 1_u8..31).prop_map(|(n, id, size, by, days)| Deposit {
        mailbox: mailbox(n),
        id: self::id(id),
        size,
        by,
        days,
    });
    prop_oneof![
        12 => new.prop_map(Step::Deposit),
        2 => (1_u8..4, 0_u8..3, 0_u32..400).prop_map(|(m, t, id)| Step::Acknowledge(m, t, id)),
        1 => (1_u8..4, 0_u32..400).prop_map(|(m, id)| Step::Erase(m, id)),
        1 => (1_u8..4, 0_u8..3).prop_map(|(m, t)| Step::Enter(m, t)),
        1 => (1_u8..4, 0_u8..3).prop_map(|(m, t)| Step::Revoke(m, t)),
        1 => (0_u64..5).prop_map(Step::Pass),
        1 => (1_u8..4).prop_map(Step::Close),
        2 => (1_u8..4).prop_map(Step::Open),
    ]
}

/// Counts everything anew, and holds it against the books and the limits.
fn audit(ledger: &Ledger) {
    let limits = ledger.limits;
    let sum = |chosen: &dyn Fn(&Holding) -> bool| {
        let chosen = ledger.holdings.values().filter(|holding| chosen(holding));
        chosen.fold(Amount::default(), |sum, holding| sum.plus(Amount::one(holding.size)))
    };
    let strange = |holding: &Holding| matches!(holding.by, Depositor::Stranger(_));
    assert_eq!(ledger.held(), (sum(&|h| !strange(h)), sum(&strange)));
    assert!(sum(&|_| true).fits(limits.total) && sum(&strange).fits(limits.total.percent(STRANGER_PERCENT)));
    for (id, books) in &ledger.mailboxes {
        let here = |h: &Holding| h.mailbox == *id;
        assert_eq!(books.contacts, sum(&|h| here(h) && !strange(h)));
        assert_eq!(books.strangers, sum(&|h| here(h) && strange(h)));
        assert!(sum(&here).fits(limits.mailbox) && books.strangers.fits(limits.strangers()));
        for (serial, held) in &books.serials {
            assert_eq!(*held, sum(&|h| here(h) && h.by == Depositor::Contact(*serial)));
            assert!(held.fits(limits.contact()) && held.count > 0);
        }
        for (network, heap) in &books.networks {
            assert_eq!(heap.held, sum(&|h| here(h) && h.by == Depositor::Stranger(*network)));
            assert!(heap.held.fits(limits.network_in_mailbox()) && heap.held.count > 0);
        }
        let numbers = books.numbers.iter().all(|(number, blob)| {
            ledger.holdings.get(&(*id, *blob)).is_some_and(|holding| holding.number == *number)
        });
        assert!(numbers && books.numbers.keys().all(|number| *number <= books.newest));
        assert!(books.terminals.len() <= MAX_TERMINALS);
        assert!(ledger.heaps.contains(&(books.strangers.bytes, *id)));
    }
    for (network, held) in &ledger.networks {
        assert_eq!(*held, sum(&|h| h.by == Depositor::Stranger(*network)));
        assert!(held.fits(limits.network) && held.count > 0);
    }
    let numbered: usize = ledger.mailboxes.values().map(|books| books.numbers.len()).sum();
    assert_eq!((ledger.expiry.len(), numbered), (ledger.holdings.len(), ledger.holdings.len()));
    assert_eq!(ledger.heaps.len(), ledger.mailboxes.len());
    let certs: usize = ledger.mailboxes.values().map(|books| books.terminals.len()).sum();
    assert_eq!(ledger.certs.len(), certs);
}

/// What a store does that is told only what comes and what goes.
fn carry_out(ledger: &mut Ledger, store: &mut BTreeSet<Key>, step: &Step, now: &mut UnixMillis) {
    let gone = match step {
        Step::Deposit(deposit) => match ledger.deposit(deposit, *now) {
            Ok(admitted) => {
                assert_eq!(store.insert((deposit.mailbox, deposit.id)), admitted.is_new);
                let foreign = |key: &Key| ledger.get(&key.0, &key.1).is_none();
                assert!(admitted.evicted.iter().all(foreign));
                admitted.evicted
            }
            Err(_) => Vec::new(),
        },
        Step::Acknowledge(m, t, id) => ledger.acknowledge(&mailbox(*m), &terminal(*t), &[self::id(*id)]),
        Step::Erase(m, id) => ledger.erase(&mailbox(*m), &[self::id(*id)]),
        Step::Enter(m, t) => ledger.enter(&mailbox(*m), terminal(*t), now.plus(days(20))),
        Step::Revoke(m, t) => ledger.revoke(&mailbox(*m), &terminal(*t)),
        Step::Close(m) => ledger.close(&mailbox(*m)),
        Step::Open(m) => {
            ledger.open(mailbox(*m), 0).unwrap();
            Vec::new()
        }
        Step::Pass(n) => {
            *now = now.plus(days(u8::try_from(*n).unwrap()));
            let gone = ledger.expire(*now);
            assert!(ledger.poll_timeout().is_none_or(|next| next > *now));
            gone
        }
    };
    for key in gone {
        assert!(store.remove(&key), "what goes was there");
    }
}

#[test]
fn a_mailbox_may_have_a_limit_of_its_own() {
    let mut ledger = ledger();
    assert!(ledger.set_limit(&mailbox(1), Some(Amount { bytes: 20 << 10, count: 100 })));
    assert_eq!(fill(&mut ledger, contact(1), 0), (10, QuotaError::Share));
    assert_eq!(ledger.report(&mailbox(1)).unwrap().limit.bytes, 20 << 10);
    assert!(ledger.set_limit(&mailbox(1), None));
    assert_eq!(fill(&mut ledger, contact(1), 100), (40, QuotaError::Share));
    assert!(!ledger.set_limit(&mailbox(2), None), "there is no such one");
    assert_eq!(ledger.terminals(&mailbox(1)), []);
    ledger.enter(&mailbox(1), terminal(1), until());
    assert_eq!(ledger.terminals(&mailbox(1)), [(terminal(1), until())]);
}

/// Whether a contact's deposit fits if there were no strangers in the world.
fn fits_without_strangers(ledger: &Ledger, deposit: &Deposit) -> bool {
    let Depositor::Contact(serial) = deposit.by else { return false };
    ledger.mailboxes.get(&deposit.mailbox).is_some_and(|books| {
        let size = Amount::one(deposit.size);
        let own = books.serials.get(&serial).copied().unwrap_or_default();
        own.plus(size).fits(ledger.limits.contact())
            && books.contacts.plus(size).fits(ledger.limits.mailbox)
            && ledger.contacts.plus(size).fits(ledger.limits.total)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever comes in whatever order: no bound is exceeded, the books are right, a store that is told what goes holds the
    /// same, contacts are refused nothing for the sake of strangers, and nothing of a contact's is evicted.
    #[test]
    fn no_sequence_exceeds_the_bounds(steps in prop::collection::vec(step(), 1..250)) {
        let mut ledger = Ledger::new(small());
        let (mut store, mut now) = (BTreeSet::new(), NOW);
        for n in 1..4 {
            ledger.open(mailbox(n), 0).unwrap();
        }
        for step in &steps {
            let before = ledger.held().0;
            let promised = if let Step::Deposit(deposit) = step {
                fits_without_strangers(&ledger, deposit).then_some(deposit)
            } else {
                None
            };
            carry_out(&mut ledger, &mut store, step, &mut now);
            if let Some(deposit) = promised {
                prop_assert!(ledger.get(&deposit.mailbox, &deposit.id).is_some());
            }
            if matches!(step, Step::Deposit(_)) {
                prop_assert!(before.fits(ledger.held().0), "nothing of a contact's went");
            }
            audit(&ledger);
            prop_assert!(store.iter().eq(ledger.holdings.keys()));
        }
    }

    /// The same inputs give the same books.
    #[test]
    fn books_are_deterministic(steps in prop::collection::vec(step(), 1..120)) {
        let run = || {
            let mut ledger = Ledger::new(small());
            let (mut store, mut now) = (BTreeSet::new(), NOW);
            for step in &steps {
                carry_out(&mut ledger, &mut store, step, &mut now);
            }
            format!("{ledger:?}")
        };
        prop_assert_eq!(run(), run());
    }
}
