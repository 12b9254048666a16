//! Sets under examination.

use crate::net::fixture::{Party, now};
use offhook_proto::record::RecordSet;

use super::*;

/// A claim to Alice's number by a key whose proof does not fit.
fn claimed(alice: &Party, by: &Party) -> Vec<u8> {
    let mut record = by.account_record(now());
    record.number = alice.number.clone();
    RecordSet { account: Some(record.sign(&by.identity)), terminals: Vec::new() }.encode()
}

#[tokio::test]
async fn slow_and_bad_proofs_do_not_hold_up_a_good_one() {
    let alice = Party::new(0);
    let verdicts = Verdicts::default();
    let good = alice.set(now(), &[]).encode();
    let mut finds = Finds::new(alice.key(), verdicts.clone());
    // Whose proof was run for another call; the others' proofs take their time.
    let task = record::check(&alice.key(), &good, now()).unwrap().proof_task().unwrap();
    verdicts.set(task, true);
    for n in 1..6 {
        finds.offer(&claimed(&alice, &Party::new(n)), "liar").unwrap();
    }
    finds.offer(&good, "honest").unwrap();
    let first = finds.next().await.unwrap();
    assert!(first.valid, "a bad proof was waited for");
    assert_eq!(first.sets[0].1, "honest");
    let mut bad = 0;
    while let Some(proved) = finds.next().await {
        assert!(!proved.valid);
        bad += proved.sets.len();
    }
    assert_eq!(bad, 5);
    assert!(finds.is_idle());
}

#[tokio::test]
async fn a_proof_runs_once_for_all_who_sent_the_same() {
    let alice = Party::new(0);
    let mut finds = Finds::new(alice.key(), Verdicts::default());
    for n in 0..10 {
        finds.offer(&alice.set(now(), &[]).encode(), n).unwrap();
    }
    assert_eq!(finds.proving.len(), 1);
    let proved = finds.next().await.unwrap();
    assert!(proved.valid);
    assert_eq!(proved.sets.len(), 10);
    assert!(finds.next().await.is_none());
}

#[tokio::test]
async fn what_strangers_send_is_bounded() {
    let alice = Party::new(0);
    let mut finds = Finds::new(alice.key(), Verdicts::default());
    let good = alice.set(now(), &[]).encode();
    let taken = (0..1_000).filter(|n| finds.offer(&good, *n).is_ok()).count();
    assert_eq!(taken, MAX_WAITING);
    let claim = |n: u64| {
        let mut record = alice.account_record(now());
        record.proof =
            offhook_proto::proof::NumberProof::Plain(offhook_proto::proof::PlainProof { nonce: n });
        RecordSet { account: Some(record.sign(&alice.identity)), terminals: Vec::new() }.encode()
    };
    let taken = (0..200).filter(|n| finds.offer(&claim(*n), 0).is_ok()).count();
    assert!(taken < MAX_PROOFS, "{taken} more proofs");
    assert_eq!(finds.proving.len(), MAX_PROOFS);
}

#[tokio::test]
async fn a_proof_known_to_fail_is_refused_at_first_sight() {
    let (alice, mallory) = (Party::new(0), Party::new(1));
    let mut finds = Finds::new(alice.key(), Verdicts::default());
    let claim = claimed(&alice, &mallory);
    finds.offer(&claim, ()).unwrap();
    assert!(!finds.next().await.unwrap().valid);
    assert_eq!(finds.offer(&claim, ()), Err(Unfit::Proof));
    let lone = RecordSet { account: None, terminals: vec![alice.record(now(), &[])] };
    assert_eq!(finds.offer(&lone.encode(), ()), Err(Unfit::NoAccount));
}
