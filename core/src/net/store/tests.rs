//! The store without a network: what it takes, what it refuses, what survives.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use libp2p::kad;
use libp2p::kad::store::RecordStore;
use offhook_proto::number::NodeAddr;
use offhook_proto::record::{RecordError, RecordSet};
use offhook_proto::wire::UnixMillis;

use super::{Disk, Loaded, Offer, Records, Refused, Verdicts};
use crate::net::addr::Source;
use crate::net::config::{Limits, Role};
use crate::net::fixture::{Party, now};

const HERE: Source = Source::V4([192, 0, 2]);

fn limits() -> Limits {
    Limits::for_role(Role::Server)
}

fn store(limits: &Limits) -> Records {
    Records::new(limits, Verdicts::default(), None, Loaded::default(), now())
}

/// Runs all waiting proofs.
fn settle(records: &mut Records) {
    while let Some(task) = records.next_proof(now()) {
        let valid = task.run();
        records.proved(valid, now());
    }
}

/// Offers and waits for the verdict.
fn offer(records: &mut Records, party: &Party, set: &RecordSet, source: Source) -> Result<(), Refused> {
    let verdict = Arc::new(Mutex::new(None));
    let told = verdict.clone();
    let reply = Box::new(move |result| *told.lock().unwrap() = Some(result));
    let (key, bytes) = (party.key(), set.encode());
    records.offer(Offer { key, bytes, source, own: false, reply }, now());
    settle(records);
    let verdict = verdict.lock().unwrap().take();
    verdict.expect("an offer without a verdict")
}

fn addr(port: u16) -> NodeAddr {
    format!("/ip4/192.0.2.1/udp/{port}/quic-v1").parse().unwrap()
}

#[test]
fn a_valid_set_is_held_and_served_only_once_proven() {
    let (mut records, party) = (store(&limits()), Party::new(0));
    let bytes = party.set(now(), &[addr(1)]).encode();
    let reply = Box::new(|result: Result<(), Refused>| assert_eq!(result, Ok(())));
    let (key, source) = (party.key(), HERE);
    records.offer(Offer { key, bytes: bytes.clone(), source, own: false, reply }, now());
    let kad_key = kad::RecordKey::new(&party.key().0);
    assert!(records.find(&party.key(), now()).is_none(), "served before its proof was run");
    assert!(records.get(&kad_key).is_none());
    settle(&mut records);
    assert!(records.find(&party.key(), now()).is_some());
    assert_eq!(records.get(&kad_key).unwrap().value, bytes);
}

#[test]
fn forged_expired_future_and_oversized_ones_are_refused() {
    let (mut records, party, other) = (store(&limits()), Party::new(0), Party::new(1));
    let mut try_account = |set: RecordSet| offer(&mut records, &party, &set, HERE).unwrap_err();
    let only = |account| RecordSet { account: Some(account), terminals: Vec::new() };

    // Signed by another key.
    let forged = party.account_record(now()).sign(&other.identity);
    assert_eq!(try_account(only(forged)), Refused::Record(RecordError::BadSignature));
    // A proof that doesn't fit.
    let mut record = party.account_record(now());
    record.proof = other.proof.clone();
    assert_eq!(try_account(only(record.sign(&party.identity))), Refused::Proof);
    // Another number's records under this key.
    assert_eq!(try_account(other.set(now(), &[])), Refused::Record(RecordError::WrongKey));
    // Expired.
    let old = UnixMillis(now().0 - 90_000_000);
    assert_eq!(try_account(only(party.account(old))), Refused::Record(RecordError::Expired));
    // From the future.
    let future = now().plus(Duration::from_secs(1_200));
    assert_eq!(try_account(only(party.account(future))), Refused::Record(RecordError::FutureSequence));
    // A terminal that the identity never certified.
    let mut set = party.set(now(), &[]);
    let mut stranger = party.terminal_record(now(), &[]);
    stranger.cert = other.cert(now());
    set.terminals = vec![stranger.sign(&other.terminal)];
    assert_eq!(try_account(set), Refused::Record(RecordError::OtherIdentity));
    // Too long.
    let verdict = Arc::new(Mutex::new(None));
    let told = verdict.clone();
    let reply = Box::new(move |result| *told.lock().unwrap() = Some(result));
    let bytes = vec![0; 13 * 1024];
    records.offer(Offer { key: party.key(), bytes, source: HERE, own: false, reply }, now());
    assert_eq!(*verdict.lock().unwrap(), Some(Err(Refused::Record(RecordError::SetTooLarge(13 * 1024)))));
    assert!(records.find(&party.key(), now()).is_none());
}

#[test]
fn replayed_older_records_change_nothing() {
    let (mut records, party) = (store(&limits()), Party::new(0));
    let (t1, t2) = (UnixMillis(now().0 - 5_000), now());
    let (old, new) = (party.set(t1, &[addr(1)]), party.set(t2, &[addr(2)]));
    assert_eq!(offer(&mut records, &party, &new, HERE), Ok(()));
    let replayed = offer(&mut records, &party, &old, HERE);
    assert_eq!(replayed, Err(Refused::Record(RecordError::Stale)));
    let (held, _) = records.find(&party.key(), now()).unwrap();
    assert_eq!(held.to_set(), new);
    // The same again is as good as held.
    assert_eq!(offer(&mut records, &party, &new, HERE), Ok(()));
}

#[test]
fn two_terminals_of_one_account_are_merged() {
    let (mut records, one, two) = (store(&limits()), Party::new(0), Party::with_terminal(0, 77));
    let t = now();
    assert_eq!(offer(&mut records, &one, &one.set(t, &[addr(1)]), HERE), Ok(()));
    assert_eq!(offer(&mut records, &two, &two.set(t, &[addr(2)]), HERE), Ok(()));
    assert_eq!(records.find(&one.key(), now()).unwrap().0.terminals.len(), 2);
    // A terminal record alone is enough once the account record is held.
    let alone =
        RecordSet { account: None, terminals: vec![one.record(t.plus(Duration::from_millis(5)), &[])] };
    assert_eq!(offer(&mut records, &one, &alone, HERE), Ok(()));
    let stranger = Party::new(3);
    let alone = RecordSet { account: None, terminals: vec![stranger.record(t, &[])] };
    let refused = offer(&mut records, &stranger, &alone, HERE);
    assert_eq!(refused, Err(Refused::Record(RecordError::NoAccount)));
}

#[test]
fn a_bad_proof_is_run_once() {
    let (mut records, party) = (store(&limits()), Party::new(0));
    let mut record = party.account_record(now());
    record.proof = Party::new(1).proof;
    let set = RecordSet { account: Some(record.sign(&party.identity)), terminals: Vec::new() };
    assert_eq!(offer(&mut records, &party, &set, HERE), Err(Refused::Proof));
    let reply = Box::new(|result: Result<(), Refused>| assert_eq!(result, Err(Refused::Proof)));
    let (key, bytes) = (party.key(), set.encode());
    records.offer(Offer { key, bytes, source: HERE, own: false, reply }, now());
    assert!(records.next_proof(now()).is_none());
}

#[test]
fn a_flood_of_unproven_records_is_bounded() {
    let mut limits = limits();
    limits.proof_queue_per_source = 16;
    let mut records = store(&limits);
    let verdicts = Arc::new(Mutex::new(Vec::new()));
    for n in 0..1_000u64 {
        let party = Party::new(0);
        let mut record = party.account_record(UnixMillis(now().0 - n));
        record.proof =
            offhook_proto::proof::NumberProof::Plain(offhook_proto::proof::PlainProof { nonce: 1_000 + n });
        let set = RecordSet { account: Some(record.sign(&party.identity)), terminals: Vec::new() };
        let told = verdicts.clone();
        let reply = Box::new(move |result| told.lock().unwrap().push(result));
        let (key, bytes) = (party.key(), set.encode());
        records.offer(Offer { key, bytes, source: HERE, own: false, reply }, now());
    }
    assert_eq!(records.totals().2, 16);
    assert_eq!(verdicts.lock().unwrap().len(), 984);
    assert!(verdicts.lock().unwrap().iter().all(|verdict| *verdict == Err(Refused::Full)));
}

#[test]
fn a_full_store_lets_the_biggest_source_give_way() {
    let mut limits = limits();
    limits.records = 3;
    let mut records = store(&limits);
    for n in 0..3 {
        let party = Party::new(n);
        assert_eq!(offer(&mut records, &party, &party.set(now(), &[]), HERE), Ok(()));
    }
    let (elsewhere, fourth) = (Source::V4([198, 51, 100]), Party::new(3));
    assert_eq!(offer(&mut records, &fourth, &fourth.set(now(), &[]), elsewhere), Ok(()));
    assert!(records.find(&Party::new(0).key(), now()).is_none(), "the oldest of the biggest source stays");
    assert!(records.find(&fourth.key(), now()).is_some());
    assert_eq!(records.totals().0, 3);
}

#[test]
fn what_expires_goes_at_the_sweep() {
    let (mut records, party) = (store(&limits()), Party::new(0));
    assert_eq!(offer(&mut records, &party, &party.set(now(), &[addr(1)]), HERE), Ok(()));
    records.sweep(now().plus(Duration::from_secs(7_200)));
    let (held, _) = records.find(&party.key(), now()).unwrap();
    assert!(held.terminals.is_empty() && held.account.is_some());
    records.sweep(now().plus(Duration::from_secs(90_000)));
    assert_eq!(records.totals(), (0, 0, 0));
}

#[test]
fn kademlias_own_put_takes_nothing_unproven() {
    let (mut records, party) = (store(&limits()), Party::new(0));
    let bytes = party.set(now(), &[addr(1)]).encode();
    let record = || kad::Record::new(party.key().0.to_vec(), bytes.clone());
    assert!(records.put(record()).is_err());
    assert_eq!(offer(&mut records, &party, &party.set(now(), &[]), HERE), Ok(()));
    assert!(records.put(kad::Record::new(vec![1, 2, 3], bytes.clone())).is_err());
    assert!(records.put(kad::Record::new(party.key().0.to_vec(), vec![0xff; 40])).is_err());
    let provider = kad::ProviderRecord::new(vec![1; 32], libp2p::PeerId::random(), Vec::new());
    assert!(records.add_provider(provider).is_err());
}

#[tokio::test]
async fn what_was_acknowledged_survives_and_damage_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let (party, other) = (Party::new(0), Party::new(1));
    {
        let (disk, loaded) = Disk::open(dir.path()).await.unwrap();
        let mut records = Records::new(&limits(), Verdicts::default(), Some(disk.clone()), loaded, now());
        for party in [&party, &other] {
            let (sender, receiver) = tokio::sync::oneshot::channel();
            let reply = Box::new(move |result| sender.send(result).unwrap());
            let (key, bytes) = (party.key(), party.set(now(), &[addr(1)]).encode());
            records.offer(Offer { key, bytes, source: HERE, own: false, reply }, now());
            settle(&mut records);
            assert_eq!(receiver.await.unwrap(), Ok(()));
        }
        disk.remember("/ip4/192.0.2.9/udp/1/quic-v1".to_owned(), now());
        disk.flush().await;
    }
    // Somebody tampers with one record on disk.
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(dir.path().join("net.sqlite"));
    let mut raw = sqlx::ConnectOptions::connect(&options).await.unwrap();
    sqlx::query("UPDATE records SET value = zeroblob(100) WHERE key = ?")
        .bind(&other.key().0[..])
        .execute(&mut raw)
        .await
        .unwrap();
    let (disk, loaded) = Disk::open(dir.path()).await.unwrap();
    assert_eq!(loaded.peers, ["/ip4/192.0.2.9/udp/1/quic-v1"]);
    let mut records = Records::new(&limits(), Verdicts::default(), Some(disk), loaded, now());
    assert!(records.find(&party.key(), now()).is_some());
    assert!(records.find(&other.key(), now()).is_none());
    // Its proof need not be run again.
    let newer = party.set(now().plus(Duration::from_millis(10)), &[addr(2)]);
    let reply = Box::new(|_: Result<(), Refused>| ());
    let (key, bytes) = (party.key(), newer.encode());
    records.offer(Offer { key, bytes, source: HERE, own: false, reply }, now());
    assert!(records.next_proof(now()).is_none());
    assert_eq!(records.find(&party.key(), now()).unwrap().0.to_set(), newer);
}
