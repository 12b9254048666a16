use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::identity::IdentityKey;
use crate::number::RecordKey;
use crate::proof::tests::{ALICE, BOB, ISSUED, directory_key};
use crate::proof::{CHOSEN_LIFETIME, TransferError};
use crate::record::ACCOUNT_LIFETIME;
use crate::request::{Action, RequestError};

const DAY: Duration = Duration::from_secs(86_400);

fn directory() -> DirectoryId {
    directory_key().public()
}

fn number(name: &str) -> Number {
    format!("{name}@directory.example").parse().unwrap()
}

fn day(day: u32) -> UnixMillis {
    ISSUED.plus(DAY * day)
}

fn key_of(name: &str) -> RecordKey {
    number(name).record_key(Some(&directory())).unwrap()
}

fn issued(name: &str, to: &IdentityKey, at: u32) -> Change {
    Change::Issued { number: number(name), identity: to.public(), expires: day(at).plus(CHOSEN_LIFETIME) }
}

fn renewed(name: &str, of: &IdentityKey, at: u32) -> Change {
    Change::Renewed { number: number(name), identity: of.public(), expires: day(at).plus(CHOSEN_LIFETIME) }
}

fn released(name: &str, by: &IdentityKey, at: u32) -> Change {
    let action = Action::Release { number: number(name) };
    let request = SignedRequest::sign(by, directory(), day(at), action);
    Change::Released { number: number(name), identity: by.public(), request }
}

fn transferred(name: &str, from: &IdentityKey, to: &IdentityKey, at: u32) -> Change {
    let transfer = SignedTransfer::sign(from, key_of(name), to.public(), day(at));
    let expires = day(at).plus(CHOSEN_LIFETIME);
    Change::Transferred { number: number(name), identity: to.public(), expires, transfer }
}

/// A list of these changes, each with the day on which it happened.
fn list(changes: Vec<(u32, Change)>) -> (Chain, Vec<Vec<u8>>) {
    let mut chain = Chain::new(directory());
    let entries = changes.into_iter().map(|(at, change)| chain.append(day(at), change)).collect();
    (chain, entries)
}

/// What an audit finds in a list of these changes.
fn problems(changes: Vec<(u32, Change)>) -> Vec<(u64, Problem)> {
    let (_, entries) = list(changes);
    let mut audit = Audit::new(directory(), &[]);
    let findings = entries.iter().filter_map(|entry| audit.take(entry).err());
    findings.map(|finding| (finding.index, finding.problem)).collect()
}

fn keys() -> (IdentityKey, IdentityKey) {
    (ALICE.key(), BOB.key())
}

/// A list with one of everything.
fn everything() -> Vec<(u32, Change)> {
    let (alice, bob) = keys();
    vec![
        (0, issued("ada", &alice, 0)),
        (1, issued("홍길동", &bob, 1)),
        (100, renewed("ada", &alice, 100)),
        (120, transferred("ada", &alice, &bob, 120)),
        (130, released("홍길동", &bob, 130)),
    ]
}

#[test]
fn an_honest_list_passes() {
    let (alice, bob) = keys();
    let (chain, entries) = list(everything());
    let mut audit = Audit::new(directory(), &[]);
    for (entry, (_, change)) in entries.iter().zip(everything()) {
        assert_eq!(audit.take(entry).unwrap().change, change);
    }
    let head = SignedHead::sign(&directory_key(), &chain.head(day(140)));
    let head = head.verify(&directory(), day(140)).unwrap();
    assert_eq!(audit.conclude(&head), Ok(()));
    let Number::Chosen(ada) = number("ada") else { panic!("chosen") };
    let held = audit.holding(&ada).unwrap();
    assert_eq!((held.identity, held.released, audit.numbers()), (bob.public(), None, 2));
    assert_ne!(held.identity, alice.public());
}

#[test]
fn a_writer_goes_on_after_the_last_entry() {
    let (chain, entries) = list(everything());
    let resumed = Chain::after(directory(), entries.last().unwrap()).unwrap();
    assert_eq!(resumed, chain);
    let mut resumed = resumed;
    let late = resumed.append(day(1), issued("eva", &ALICE.key(), 130));
    let mut reader = chain;
    assert_eq!(reader.follow(&late).unwrap().at, day(130), "a clock that was set back");
    assert_eq!(reader, resumed);
}

#[test]
fn a_number_cannot_be_given_to_two() {
    let (alice, bob) = keys();
    let taken = vec![(0, issued("ada", &alice, 0)), (5, issued("ada", &bob, 5))];
    assert_eq!(problems(taken), [(1, Problem::TakenFromHolder)]);
    let expired = vec![(0, issued("ada", &alice, 0)), (200, issued("ada", &bob, 200))];
    assert_eq!(problems(expired), [(1, Problem::TakenFromHolder)], "the certificate's expiry frees nothing");
    let last = 180 + 400;
    let lapsed = vec![(0, issued("ada", &alice, 0)), (last + 1, issued("ada", &bob, last + 1))];
    assert_eq!(problems(lapsed), []);
    let again = vec![(0, issued("ada", &alice, 0)), (200, issued("ada", &alice, 200))];
    assert_eq!(problems(again), []);
}

#[test]
fn a_shorter_certificate_frees_a_number_no_earlier() {
    let (alice, bob) = keys();
    let (number, identity, expires) = (number("ada"), alice.public(), day(2));
    let shorter = [
        Change::Renewed { number: number.clone(), identity, expires },
        Change::Issued { number, identity, expires },
    ];
    for shorter in shorter {
        let reissued = |at: u32| {
            vec![(0, issued("ada", &alice, 0)), (1, shorter.clone()), (at, issued("ada", &bob, at))]
        };
        assert_eq!(problems(reissued(2 + 401)), [(2, Problem::TakenFromHolder)]);
        assert_eq!(problems(reissued(180 + 401)), []);
    }
}

#[test]
fn a_released_number_is_free_when_the_last_record_has_lapsed() {
    let (alice, bob) = keys();
    let lasting = CHOSEN_LIFETIME + ACCOUNT_LIFETIME;
    let days = u32::try_from(lasting.as_secs() / 86_400).unwrap();
    let reissued = |at: u32| {
        vec![(0, issued("ada", &alice, 0)), (1, released("ada", &alice, 1)), (at, issued("ada", &bob, at))]
    };
    assert_eq!(problems(reissued(days)), [(2, Problem::TakenFromHolder)]);
    assert_eq!(problems(reissued(days + 1)), [], "the release voids no certificate");
    let renewed = vec![
        (0, issued("ada", &alice, 0)),
        (1, released("ada", &alice, 1)),
        (2, renewed("ada", &alice, 2)),
        (3, issued("ada", &alice, 3)),
    ];
    assert_eq!(problems(renewed), [(2, Problem::NotHolder)]);
}

#[test]
fn only_the_owner_moves_or_frees_a_number() {
    let (alice, bob) = keys();
    let first = || (0, issued("ada", &alice, 0));
    assert_eq!(problems(vec![first(), (1, renewed("ada", &bob, 1))]), [(1, Problem::NotHolder)]);
    assert_eq!(problems(vec![first(), (1, released("ada", &bob, 1))]), [(1, Problem::NotHolder)]);
    assert_eq!(problems(vec![(0, renewed("ada", &bob, 0))]), [(0, Problem::NotHolder)]);
    let stolen = transferred("ada", &bob, &alice, 1);
    assert_eq!(problems(vec![first(), (1, stolen)]), [(1, Problem::NotHolder)]);
    let other = transferred("eva", &alice, &bob, 1);
    let Change::Transferred { identity, expires, transfer, .. } = other else { panic!("transferred") };
    let other = Change::Transferred { number: number("ada"), identity, expires, transfer: transfer.clone() };
    assert_eq!(problems(vec![first(), (1, other)]), [(1, Problem::OtherTransfer)]);
    let old = SignedTransfer::sign(&alice, key_of("ada"), bob.public(), day(1));
    let old = Change::Transferred { number: number("ada"), identity, expires: day(60), transfer: old };
    assert_eq!(problems(vec![first(), (50, old)]), [(1, Problem::Transfer(TransferError::Untimely))]);
}

#[test]
fn a_transfer_counts_once() {
    let (alice, bob) = keys();
    let gift = transferred("ada", &alice, &bob, 0);
    let back = || (1, transferred("ada", &bob, &alice, 1));
    let first = || vec![(0, issued("ada", &alice, 0)), (0, gift.clone()), back()];
    let with = |more: Vec<(u32, Change)>| problems(first().into_iter().chain(more).collect());
    assert_eq!(with(vec![(2, gift.clone())]), [(3, Problem::Replayed)]);
    let reissued = vec![
        (2, renewed("ada", &alice, 2)),
        (2, released("ada", &alice, 2)),
        (2, issued("ada", &alice, 2)),
        (2, gift.clone()),
    ];
    assert_eq!(with(reissued), [(6, Problem::Replayed)]);
    assert_eq!(with(vec![(2, transferred("ada", &alice, &bob, 2))]), []);
}

#[test]
fn a_release_needs_the_owners_request_for_it() {
    let alice = ALICE.key();
    let with = |directory: DirectoryId, at: u32, action: Action| {
        let request = SignedRequest::sign(&alice, directory, day(at), action);
        let change = Change::Released { number: number("ada"), identity: alice.public(), request };
        problems(vec![(0, issued("ada", &alice, 0)), (1, change)])
    };
    let release = |name: &str| Action::Release { number: number(name) };
    assert_eq!(with(directory(), 1, release("ada")), []);
    assert_eq!(with(directory(), 1, release("eva")), [(1, Problem::OtherRequest)]);
    assert_eq!(with(directory(), 1, Action::Recover), [(1, Problem::OtherRequest)]);
    assert_eq!(with(directory(), 0, release("ada")), [(1, Problem::Request(RequestError::TooOld))]);
    let elsewhere = DirectoryId::from_bytes([1; 32]);
    assert_eq!(with(elsewhere, 1, release("ada")), [(1, Problem::Request(RequestError::OtherDirectory))]);
}

#[test]
fn a_request_to_release_counts_once() {
    let alice = ALICE.key();
    let once = released("ada", &alice, 0);
    let claimed = || (0, issued("ada", &alice, 0));
    let first = vec![claimed(), (0, once.clone()), claimed()];
    let with = |more: Vec<(u32, Change)>| problems(first.clone().into_iter().chain(more).collect());
    assert_eq!(with(vec![(0, once.clone())]), [(3, Problem::Replayed)]);
    assert_eq!(with(vec![(1, released("ada", &alice, 1)), (1, issued("ada", &alice, 1))]), []);
}

#[test]
fn numbers_and_lifetimes_are_looked_at() {
    let alice = ALICE.key();
    let with = |number: &str, expires: UnixMillis| {
        let change = Change::Issued { number: number.parse().unwrap(), identity: alice.public(), expires };
        problems(vec![(0, change)])
    };
    assert_eq!(with("ada@directory.example", day(180)), []);
    assert_eq!(with("ada", day(180)), [(0, Problem::NumberKind)]);
    assert_eq!(with("387245519274", day(180)), [(0, Problem::NumberKind)]);
    assert_eq!(with("ada@directory.example", day(0)), [(0, Problem::Lifetime)]);
    assert_eq!(with("ada@directory.example", day(800)), [(0, Problem::Lifetime)]);
}

#[test]
fn entries_that_are_left_out_changed_or_swapped_break_the_chain() {
    let (_, entries) = list(everything());
    let mut audit = Audit::new(directory(), &[]);
    let chain_error = |audit: &mut Audit, entry: &[u8]| match audit.take(entry) {
        Err(Finding { problem: Problem::Chain(error), .. }) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(chain_error(&mut audit, &entries[1]), ListError::Index { expected: 0, found: 1 });
    assert!(audit.take(&entries[0]).is_ok(), "the right one may still come");
    let (_, mut others) = list(vec![(0, issued("eva", &BOB.key(), 0)), everything().remove(1)]);
    assert_eq!(chain_error(&mut audit, &others.remove(1)), ListError::Broken);
    let back = Entry {
        index: 1,
        previous: EntryHash::of(&entries[0]),
        at: UnixMillis(0),
        change: issued("eva", &BOB.key(), 0),
    };
    assert_eq!(chain_error(&mut audit, &wire::encode(&back)), ListError::TimeGoesBack);
    assert_eq!(
        chain_error(&mut audit, &vec![0; MAX_ENTRY_BYTES + 1]),
        ListError::TooLarge(MAX_ENTRY_BYTES + 1)
    );
    assert_eq!(chain_error(&mut audit, b""), ListError::Malformed);
    assert_eq!(audit.length(), 1);
    let mut elsewhere = Audit::new(DirectoryId::from_bytes([1; 32]), &[]);
    assert_eq!(chain_error(&mut elsewhere, &entries[0]), ListError::Broken, "another directory's list");
}

/// The whole list, audited by somebody who has seen these heads.
fn concluded(entries: &[Vec<u8>], seen: &[Head], head: &Head) -> Result<(), HeadFinding> {
    let mut audit = Audit::new(directory(), seen);
    for entry in entries {
        audit.take(entry).unwrap();
    }
    audit.conclude(head)
}

#[test]
fn a_list_is_held_against_its_head_and_those_seen_before() {
    let (chain, entries) = list(everything());
    let head = chain.head(day(140));
    let (early, _) = list(everything().into_iter().take(3).collect());
    let early = early.head(day(110));
    assert_eq!(concluded(&entries, &[early, head], &head), Ok(()));
    assert_eq!(concluded(&entries[..3], &[], &head), Err(HeadFinding::Short { promised: 5, found: 3 }));
    assert_eq!(concluded(&entries, &[], &early), Err(HeadFinding::Unsigned { promised: 3, found: 5 }));
    assert_eq!(concluded(&entries[..3], &[head], &early), Err(HeadFinding::Shrunk { seen: 5, found: 3 }));
    let (other, _) = list(vec![(0, issued("eva", &BOB.key(), 0))]);
    let fork = other.head(day(1));
    assert_eq!(concluded(&entries, &[fork], &head), Err(HeadFinding::Forked { length: 1 }));
    let different = Head { hash: fork.hash, ..head };
    assert_eq!(concluded(&entries, &[], &different), Err(HeadFinding::Different));
    assert_eq!(concluded(&entries, &[head, different], &head), Err(HeadFinding::Forked { length: 5 }));
    let forked = Err(HeadFinding::Forked { length: 5 });
    assert_eq!(concluded(&entries[..4], &[head], &different), forked, "although it is short, too");
    let elsewhere = Head { directory: DirectoryId::from_bytes([1; 32]), ..head };
    assert_eq!(concluded(&entries, &[], &elsewhere), Err(HeadFinding::OtherDirectory));
    assert_eq!(concluded(&entries, &[elsewhere], &head), Ok(()), "another directory's head says nothing");
    let early_signature = Head { at: day(1), ..head };
    assert_eq!(concluded(&entries, &[], &early_signature), Err(HeadFinding::EntryFromTheFuture));
    assert!(head.contradicts(&different) && !head.contradicts(&early) && !head.contradicts(&elsewhere));
    let empty = Chain::new(directory()).head(day(0));
    assert_eq!(concluded(&[], &[empty], &empty), Ok(()));
}

#[test]
fn heads_are_signed_by_their_directory() {
    let (chain, _) = list(everything());
    let head = chain.head(day(140));
    let verdict = |key: &DirectoryKey, head: &Head, now: UnixMillis| {
        SignedHead::sign(key, head).verify(&directory(), now).err()
    };
    assert_eq!(verdict(&directory_key(), &head, day(140)), None);
    assert_eq!(verdict(&DirectoryKey::from_seed([1; 32]), &head, day(140)), Some(HeadError::BadSignature));
    let elsewhere = Head { directory: DirectoryId::from_bytes([1; 32]), ..head };
    assert_eq!(verdict(&directory_key(), &elsewhere, day(140)), Some(HeadError::OtherDirectory));
    assert_eq!(verdict(&directory_key(), &head, day(139)), Some(HeadError::FromTheFuture));
    let long = SignedHead(directory_key().sign(domain::LIST_HEAD, &[0; MAX_HEAD_BYTES]));
    assert_eq!(long.verify(&directory(), day(140)), Err(HeadError::Malformed));
}

#[test]
fn the_longest_entry_fits_its_limit() {
    let label = "d".repeat(63);
    let long = format!("{}@{}", "홍".repeat(32), [&label[..], &label, &label, &label[..61]].join("."));
    let long: Number = long.parse().unwrap();
    let alice = ALICE.key();
    let request = SignedRequest::sign(&alice, directory(), day(0), Action::Release { number: long.clone() });
    let change = Change::Released { number: long.clone(), identity: alice.public(), request };
    let mut chain = Chain::new(directory());
    assert!(chain.append(day(0), change).len() <= MAX_ENTRY_BYTES);
    let transfer = SignedTransfer::sign(&alice, key_of("ada"), BOB.key().public(), day(0));
    let change = Change::Transferred { number: long, identity: alice.public(), expires: day(1), transfer };
    assert!(chain.append(day(0), change).len() <= MAX_ENTRY_BYTES);
}

/// Bytes as version 1 wrote them; the fuzzer begins with the same ones.
#[test]
fn lists_of_version_1_can_be_read() {
    let seeds: [&[u8]; 5] = [
        include_bytes!("../../../../fuzz/seeds/list/0_issued"),
        include_bytes!("../../../../fuzz/seeds/list/1_issued"),
        include_bytes!("../../../../fuzz/seeds/list/2_renewed"),
        include_bytes!("../../../../fuzz/seeds/list/3_transferred"),
        include_bytes!("../../../../fuzz/seeds/list/4_released"),
    ];
    let (chain, entries) = list(everything());
    assert_eq!(entries, seeds);
    let head = SignedHead::sign(&directory_key(), &chain.head(day(140)));
    assert_eq!(wire::encode(&head), include_bytes!("../../../../fuzz/seeds/list/head"));
}

proptest! {
    #[test]
    fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Audit::new(directory(), &[]).take(&bytes).is_err());
        if let Ok(head) = wire::decode::<SignedHead>(&bytes, 4096) {
            prop_assert!(head.verify(&directory(), ISSUED).is_err());
        }
    }

    #[test]
    fn every_damaged_entry_is_found(which in 0_usize..5, at in 0_usize..4096, bit in 0_u8..8) {
        let (chain, mut entries) = list(everything());
        let len = entries[which].len();
        entries[which][at % len] ^= 1 << bit;
        let mut audit = Audit::new(directory(), &[]);
        let broken = entries.iter().any(|entry| audit.take(entry).is_err());
        prop_assert!(broken || audit.conclude(&chain.head(day(140))).is_err());
    }

    #[test]
    fn whatever_a_directory_does_nobody_loses_a_number_unnoticed(
        steps in proptest::collection::vec((0_u8..3, any::<bool>(), any::<bool>(), 0_u32..60), 1..20),
    ) {
        // A directory that issues and renews as it likes: as long as nothing is found, the first owner has the number.
        let (alice, bob) = keys();
        let mut at = 0;
        let changes: Vec<(u32, Change)> = steps
            .into_iter()
            .map(|(kind, to_alice, by_alice, days)| {
                at += days;
                let (to, by) = (if to_alice { &alice } else { &bob }, if by_alice { &alice } else { &bob });
                match kind {
                    0 => (at, issued("ada", to, at)),
                    1 => (at, renewed("ada", to, at)),
                    _ => (at, transferred("ada", by, to, at)),
                }
            })
            .collect();
        let (_, entries) = list(changes);
        let mut audit = Audit::new(directory(), &[]);
        let Number::Chosen(ada) = number("ada") else { panic!("chosen") };
        for entry in &entries {
            let before = audit.holding(&ada).copied();
            let Ok(entry) = audit.take(entry) else { break };
            let now = *audit.holding(&ada).unwrap();
            let moved = before.is_some_and(|before| before.identity != now.identity);
            let given = matches!(&entry.change, Change::Transferred { transfer, .. }
                if transfer.verify().unwrap().from == before.unwrap().identity);
            prop_assert!(!moved || given || before.is_some_and(|before| entry.at > before.held_until));
        }
    }
}
