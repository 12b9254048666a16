#![allow(clippy::unwrap_used, clippy::panic)]
#![allow(clippy::disallowed_methods, reason = "the virtual clock has to begin somewhere")]

use std::time::Instant;

use proptest::prelude::*;

use super::*;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn key() -> PuzzleKey {
    PuzzleKey::from_seed([3; 32])
}

fn network(n: u8) -> Network {
    Network::V4([203, 0, n])
}

fn mailbox(n: u8) -> MailboxId {
    MailboxId::from_bytes([n; 32])
}

fn subject() -> Subject {
    Subject::deposit(&mailbox(1), &network(1))
}

fn purpose(n: u8) -> Purpose {
    Purpose::deposit(&mailbox(1), &BlobId::from_bytes([n; 32]))
}

fn solved(bits: u8) -> Solution {
    key().challenge(&subject(), bits, NOW).solve(&purpose(1), 0..10_000, &mut Miner::new()).unwrap()
}

fn check(solution: &Solution, price: u8, now: UnixMillis) -> Result<bool, PuzzleError> {
    key().check(&subject(), solution, &purpose(1), price, now).map(|task| task.run_with(&mut Miner::new()))
}

#[test]
fn q8_who_has_done_the_work_is_let_in() {
    let solution = solved(3);
    assert_eq!(check(&solution, 3, NOW), Ok(true));
    let bytes = wire::encode(&solution);
    assert_eq!(wire::decode(&bytes, 64), Ok(solution));
    // The one before it was tried, and does not do.
    let lazy = (0..100).map(|nonce| Solution { nonce, ..solution });
    let done = lazy.filter(|solution| check(solution, 3, NOW) == Ok(true)).count();
    assert!((1..50).contains(&done), "{done} of 100 nonces where an eighth is expected");
    assert_eq!(key().challenge(&subject(), 4, NOW).solve(&purpose(1), 5..5, &mut Miner::new()), None);
}

#[test]
fn work_is_good_for_one_thing_and_by_one_network() {
    let solution = solved(3);
    let other = key().check(&subject(), &solution, &purpose(2), 3, NOW).unwrap();
    let tasks = [other, key().check(&subject(), &solution, &purpose(1), 3, NOW).unwrap()];
    assert_ne!(tasks[0], tasks[1], "another blob is another puzzle");
    for subject in [Subject::deposit(&mailbox(1), &network(2)), Subject::deposit(&mailbox(2), &network(1))] {
        let verdict = key().check(&subject, &solution, &purpose(1), 3, NOW);
        assert_eq!(verdict, Err(PuzzleError::NotOurs));
    }
    let elsewhere = PuzzleKey::from_seed([4; 32]).check(&subject(), &solution, &purpose(1), 3, NOW);
    assert_eq!(elsewhere, Err(PuzzleError::NotOurs));
    let callee = IdentityId::from_bytes([1; 32]);
    let call = Subject::call(&callee, &IdentityId::from_bytes([2; 32]));
    assert!(call != Subject::call(&IdentityId::from_bytes([2; 32]), &callee));
    let from = TerminalId::from_bytes([1; 32]);
    assert!(
        Purpose::call(&CallId::from_bytes([1; 16]), &from)
            != Purpose::call(&CallId::from_bytes([2; 16]), &from)
    );
}

#[test]
fn nobody_sets_the_price_but_who_asks_it() {
    let mut cheap = solved(3);
    cheap.challenge.bits = 0;
    assert_eq!(check(&cheap, 3, NOW), Err(PuzzleError::NotOurs));
    let mut later = solved(3);
    later.challenge.at = NOW.plus(Duration::from_secs(1));
    assert_eq!(check(&later, 3, NOW), Err(PuzzleError::NotOurs));
    assert_eq!(key().challenge(&subject(), 200, NOW).bits, MAX_BITS);
    assert!(key().challenge(&subject(), 200, NOW).is_sound());
}

#[test]
fn cheap_puzzles_laid_in_for_a_flood_are_void_when_it_has_begun() {
    let solution = solved(3);
    assert_eq!(check(&solution, 3 + MAX_RISE, NOW), Ok(true));
    assert_eq!(check(&solution, 4 + MAX_RISE, NOW), Err(PuzzleError::TooCheap));
    let end = NOW.plus(CHALLENGE_LIFETIME);
    assert_eq!(check(&solution, 3, end), Ok(true));
    assert_eq!(check(&solution, 3, UnixMillis(end.0 + 1)), Err(PuzzleError::Expired));
    assert_eq!(check(&solution, 3, UnixMillis(0)), Err(PuzzleError::Expired));
}

fn tariff() -> Tariff {
    Tariff { base: 6, max: 12, free: 8, half_life: Duration::from_secs(60) }
}

#[test]
fn the_price_rises_with_what_comes_and_falls_when_it_is_over() {
    let start = Instant::now();
    let mut pace = Pace::default();
    let mut prices = Vec::new();
    for _ in 0..600 {
        prices.push(pace.price(&tariff(), start));
        pace.came(&tariff(), start);
    }
    assert_eq!((prices[0], prices[7], prices[8], prices[16], prices[32], prices[599]), (6, 6, 7, 8, 9, 12));
    // However long the flood was, a bit goes in each half-life.
    for _ in 0..1_000_000 {
        pace.came(&tariff(), start);
    }
    let after = |minutes: u64| pace.price(&tariff(), start + Duration::from_secs(60 * minutes));
    assert_eq!((after(0), after(1), after(2), after(4), after(20)), (12, 12, 11, 9, 6));
    assert_eq!(after(60 * 24 * 365 * 1000), 6);
}

#[test]
fn paces_of_many_are_bounded_and_the_heaviest_stay() {
    let start = Instant::now();
    let mut paces = Paces::new(tariff(), 100);
    for _ in 0..100 {
        paces.came(&u64::MAX, start);
    }
    for n in 0..10_000_u64 {
        paces.came(&n, start);
        assert!(paces.len() <= 100);
    }
    assert_eq!(paces.price(&u64::MAX, start), 10);
    assert_eq!(paces.price(&5, start), 6);
    // Later nothing is left of any, and they go.
    let later = start + Duration::from_secs(3_600);
    paces.came(&1, later);
    assert!(paces.len() <= 2 && !paces.is_empty());
}

#[test]
fn secrets_are_not_shown() {
    assert_eq!(format!("{:?}", key()), "PuzzleKey(..)");
}

proptest! {
    #[test]
    fn decoding_never_panics_and_nothing_random_is_ours(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(solution) = wire::decode::<Solution>(&bytes, 64) {
            prop_assert!(key().check(&subject(), &solution, &purpose(1), 0, NOW).is_err());
        }
    }

    /// More never makes it cheaper, and time never makes it dearer.
    #[test]
    fn prices_are_monotonic(steps in prop::collection::vec((0_u64..300, 0_u32..40), 1..40)) {
        let mut pace = Pace::default();
        let mut now = Instant::now();
        for (pause, count) in steps {
            let before = pace.price(&tariff(), now);
            now += Duration::from_secs(pause);
            prop_assert!(pace.price(&tariff(), now) <= before);
            for _ in 0..count {
                let before = pace.price(&tariff(), now);
                pace.came(&tariff(), now);
                let price = pace.price(&tariff(), now);
                prop_assert!(price >= before && price <= tariff().max);
            }
        }
    }
}
