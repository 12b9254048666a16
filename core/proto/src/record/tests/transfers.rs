//! Chosen numbers that change hands.

use proptest::prelude::*;

use super::sample::*;
use crate::identity::IdentityId;
use crate::number::{Number, RecordKey};
use crate::proof::tests::{ALICE, BOB, ISSUED, Vector, chosen_cert, chosen_proof, directory_key};
use crate::proof::{MAX_TRANSFERS, SignedTransfer, TransferError, lengthen};
use crate::record::*;
use crate::wire::UnixMillis;

const NUMBER: &str = "ada@directory.example";
/// Whose number nobody proves here: the slow hash plays no part in merging.
const CAROL: Vector = Vector { seed: 9, nonce: 1, number: "387245519274" };

fn number_key() -> RecordKey {
    let number: Number = NUMBER.parse().unwrap();
    number.record_key(Some(&directory_key().public())).unwrap()
}

/// `owner`'s record of the chosen number, signed so many days after the certificate was issued.
fn record(owner: &Vector, day: u32, transfers: &[SignedTransfer]) -> AccountRecord {
    let cert = chosen_cert(NUMBER, owner);
    let seq = ISSUED.plus(DAY * day);
    AccountRecord {
        number: cert.number.clone(),
        proof: chosen_proof(&cert, owner),
        identity: cert.identity,
        seq,
        expires: seq.plus(ACCOUNT_LIFETIME),
        transfers: transfers.to_vec(),
        ..account()
    }
}

/// What becomes of it when it has just been signed.
fn verdict(record: &AccountRecord, owner: &Vector) -> Result<CheckedSet, RecordError> {
    let set = RecordSet { account: Some(record.sign(&owner.key())), terminals: Vec::new() };
    check(&number_key(), &set.encode(), record.seq)
}

fn held(owner: &Vector, day: u32, transfers: &[SignedTransfer]) -> CheckedSet {
    verdict(&record(owner, day, transfers), owner).unwrap()
}

fn give(from: &Vector, to: &Vector, day: u32) -> SignedTransfer {
    SignedTransfer::sign(&from.key(), number_key(), to.key().public(), ISSUED.plus(DAY * day))
}

fn owner(set: &CheckedSet) -> IdentityId {
    set.account.as_ref().unwrap().identity
}

#[test]
fn a_transfer_moves_the_number_and_nothing_else_does() {
    let alice = held(&ALICE, 1, &[]);
    let thief = held(&BOB, 2, &[]);
    assert_eq!(merge(Some(&alice), &thief, NOW), Err(RecordError::Incumbent));
    let bob = held(&BOB, 2, &[give(&ALICE, &BOB, 2)]);
    let merged = merge(Some(&alice), &bob, NOW).unwrap();
    assert_eq!((merged.changed, merged.set), (true, bob.clone()));
    // Her terminals may go on publishing for a while.
    let stubborn = held(&ALICE, 3, &[]);
    assert_eq!(merge(Some(&bob), &stubborn, NOW), Err(RecordError::Incumbent));
    assert_eq!(merge(Some(&stubborn), &bob, NOW).map(|merged| owner(&merged.set)), Ok(BOB.key().public()));
}

#[test]
fn the_former_owners_terminals_go() {
    let chosen = TerminalRecord { number: NUMBER.parse().unwrap(), ..terminal(1) };
    let set = RecordSet {
        account: Some(record(&ALICE, 1, &[]).sign(&ALICE.key())),
        terminals: vec![chosen.sign(&terminal_key(1))],
    };
    let alice = check(&number_key(), &set.encode(), NOW).unwrap();
    let bob = held(&BOB, 2, &[give(&ALICE, &BOB, 2)]);
    assert_eq!(merge(Some(&alice), &bob, NOW).map(|merged| merged.set), Ok(bob.clone()));
    let lone = RecordSet { account: None, ..set };
    let lone = check(&number_key(), &lone.encode(), NOW).unwrap();
    assert_eq!(merge(Some(&bob), &lone, NOW), Err(RecordError::OtherIdentity));
}

#[test]
fn the_expiry_of_the_certificate_alone_moves_nothing() {
    let after_certificate = ISSUED.plus(DAY * 380);
    let alice = held(&ALICE, 364, &[]);
    let thief = held(&BOB, 365, &[]);
    assert_eq!(merge(Some(&alice), &thief, after_certificate), Err(RecordError::Incumbent));
    let lapsed = ISSUED.plus(DAY * 765);
    let late = AccountRecord { expires: lapsed, ..record(&BOB, 365, &[]) };
    let late = verdict(&late, &BOB).unwrap();
    assert_eq!(merge(Some(&alice), &late, lapsed).map(|merged| owner(&merged.set)), Ok(BOB.key().public()));
}

#[test]
fn an_old_transfer_is_void_once_the_number_came_back() {
    let (there, back) = (give(&ALICE, &BOB, 2), give(&BOB, &ALICE, 3));
    let bob = held(&BOB, 2, std::slice::from_ref(&there));
    let alice = held(&ALICE, 3, &lengthen(std::slice::from_ref(&there), back));
    assert_eq!(merge(Some(&bob), &alice, NOW).map(|merged| merged.set), Ok(alice.clone()));
    let replayed = held(&BOB, 9, &[there]);
    assert_eq!(merge(Some(&alice), &replayed, NOW), Err(RecordError::Incumbent));
}

#[test]
fn who_has_given_the_number_away_voids_that_by_nothing_of_his_own() {
    let bob = held(&BOB, 9, &[give(&ALICE, &BOB, 2)]);
    // Carol may be an invention of Alice's.
    let alice = held(&ALICE, 9, &[give(&CAROL, &ALICE, 8)]);
    let round = held(&ALICE, 9, &[give(&ALICE, &CAROL, 7), give(&CAROL, &ALICE, 8)]);
    for alice in [alice, round] {
        assert_eq!(merge(Some(&alice), &bob, NOW).map(|merged| merged.set), Ok(bob.clone()));
        assert_eq!(merge(Some(&bob), &alice, NOW), Err(RecordError::Incumbent));
    }
}

#[test]
fn a_node_that_slept_through_several_transfers_catches_up() {
    let chain = [give(&ALICE, &BOB, 2), give(&BOB, &CAROL, 3)];
    let alice = held(&ALICE, 1, &[]);
    let carol = held(&CAROL, 3, &chain);
    assert_eq!(merge(Some(&alice), &carol, NOW).map(|merged| merged.set), Ok(carol.clone()));
    let bob = held(&BOB, 5, &chain[..1]);
    assert_eq!(merge(Some(&carol), &bob, NOW), Err(RecordError::Incumbent), "she has it from him");
    assert_eq!(merge(Some(&alice), &held(&CAROL, 3, &chain[1..]), NOW), Err(RecordError::Incumbent));
}

#[test]
fn transfers_that_do_not_lead_to_the_holder_are_refused() {
    let refusal = |transfers: &[SignedTransfer]| verdict(&record(&BOB, 5, transfers), &BOB).err();
    let because = |error: TransferError| Some(RecordError::Transfer(error));
    assert_eq!(refusal(&[give(&ALICE, &BOB, 2)]), None);
    assert_eq!(refusal(&[give(&ALICE, &CAROL, 2)]), because(TransferError::Mismatch));
    assert_eq!(refusal(&[give(&BOB, &ALICE, 2), give(&CAROL, &BOB, 3)]), because(TransferError::Chain));
    assert_eq!(refusal(&[give(&BOB, &ALICE, 3), give(&ALICE, &BOB, 3)]), because(TransferError::Chain));
    assert_eq!(refusal(&[give(&ALICE, &BOB, 6)]), because(TransferError::Untimely));
    let other = SignedTransfer::sign(&ALICE.key(), key(), BOB.key().public(), ISSUED);
    assert_eq!(refusal(&[other]), because(TransferError::Mismatch), "of another number");
    let many: Vec<_> =
        (0..=2).flat_map(|i| [give(&ALICE, &BOB, i * 2), give(&BOB, &ALICE, i * 2 + 1)]).collect();
    assert_eq!(refusal(&many[..5]), because(TransferError::Chain), "too many");
    let plain = AccountRecord { transfers: vec![give(&BOB, &ALICE, 1)], ..account() };
    let set = RecordSet { account: Some(plain.sign(&ALICE.key())), terminals: Vec::new() };
    assert_eq!(check_set(&set).err(), because(TransferError::Mismatch), "of a plain number");
    assert!(RecordError::Transfer(TransferError::Chain).is_misbehaviour());
}

#[test]
fn the_longest_account_record_fits_its_envelope() {
    let label = "d".repeat(63);
    let long = format!("{}@{}", "홍".repeat(32), [&label[..], &label, &label, &label[..61]].join("."));
    let cert = chosen_cert(&long, &BOB);
    let key = cert.number.record_key(Some(&cert.directory)).unwrap();
    let give = |from: &Vector, to: &Vector, at: u64| {
        SignedTransfer::sign(&from.key(), key, to.key().public(), UnixMillis(ISSUED.0 + at))
    };
    let transfers: Vec<_> =
        (0..2).flat_map(|i| [give(&BOB, &ALICE, i * 2), give(&ALICE, &BOB, i * 2 + 1)]).collect();
    assert_eq!(transfers.len(), MAX_TRANSFERS);
    let full = AccountRecord {
        number: cert.number.clone(),
        proof: chosen_proof(&cert, &BOB),
        mailboxes: vec![addr(&format!("/dns4/{}", "x".repeat(250))); MAX_MAILBOXES],
        revoked: (0..32).map(terminal_id).collect(),
        transfers,
        backups: vec![BackupAt { place: [0xff; 16], version: u64::MAX }; MAX_BACKUPS],
        seq: ISSUED.plus(DAY),
        ..account_of(&BOB)
    };
    let full = AccountRecord { expires: full.seq.plus(ACCOUNT_LIFETIME), ..full };
    let set = RecordSet { account: Some(full.sign(&BOB.key())), terminals: Vec::new() };
    let checked = check(&key, &set.encode(), NOW).unwrap();
    assert_eq!(checked.account.unwrap().backups.len(), MAX_BACKUPS);
}

/// All histories of four transfers between three people, as each of them would show it.
fn histories() -> impl Strategy<Value = Vec<CheckedSet>> {
    let people = [&ALICE, &BOB, &CAROL];
    proptest::collection::vec(1..3_usize, 0..6).prop_map(move |steps| {
        let (mut at, mut chain) = (0_usize, Vec::new());
        let mut sets = vec![held(people[at], 1, &chain)];
        for (day, step) in steps.into_iter().enumerate() {
            let to = (at + step) % people.len();
            let day = u32::try_from(day).unwrap() + 2;
            chain = lengthen(&chain, give(people[at], people[to], day));
            at = to;
            sets.push(held(people[at], day, &chain));
        }
        sets
    })
}

proptest! {
    #[test]
    fn whoever_got_the_number_last_has_it_in_whatever_order_the_records_come(
        (sets, shuffled) in histories().prop_flat_map(|sets| (Just(sets.clone()), Just(sets).prop_shuffle())),
    ) {
        // A node that hears of every step ends with the last owner, and so does one that meets old records later.
        let last = sets.last().unwrap();
        let mut node: Option<CheckedSet> = None;
        for set in sets.iter().chain(&shuffled) {
            node = merge(node.as_ref(), set, NOW).map(|merged| merged.set).ok().or(node);
        }
        prop_assert_eq!(node.as_ref(), Some(last));
        // And one that hears of them in any order, if no more than a record carries were slept through.
        if sets.len() <= MAX_TRANSFERS + 1 {
            let mut node: Option<CheckedSet> = None;
            for set in shuffled.iter().chain([last]) {
                node = merge(node.as_ref(), set, NOW).map(|merged| merged.set).ok().or(node);
            }
            prop_assert_eq!(node.as_ref(), Some(last));
        }
    }

    #[test]
    fn of_two_records_at_most_one_takes_over(sets in histories()) {
        for (a, b) in sets.iter().flat_map(|a| sets.iter().map(move |b| (a, b))) {
            let (a, b) = (a.account.as_ref().unwrap(), b.account.as_ref().unwrap());
            prop_assert!(!(a.takes_over_from(b) && b.takes_over_from(a)));
        }
    }
}
