//! The store without a network: what it takes, what it refuses, what survives.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use libp2p::kad;
use libp2p::kad::store::RecordStore;
use offhook_proto::number::NodeAddr;
use offhook_proto::record::{self, RecordError, RecordSet};
use offhook_proto::wire::UnixMillis;
use sqlx::ConnectOptions as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use super::{Disk, Loaded, Met, Offer, Records, Refused, Verdicts};
use crate::net::addr::Source;
use crate::net::config::{Limits, Role};
use crate::net::fixture::{Party, now};

const HERE: Source = Source::V4([192, 0, 2]);

fn limits() -> Limits {
    Limits::for_role(Role::Server)
}

fn store(limits: &Limits) -> Records {
    Records::new(limits, Verdicts::default(), None, Loaded::default())
}

/// Does all work that waits.
fn settle(records: &mut Records, now: UnixMillis) {
    while let Some(work) = records.next_work(now) {
        let worked = work.run();
        records.worked(worked, now);
    }
}

/// Offers and waits for the verdict.
fn offer(records: &mut Records, party: &Party, set: &RecordSet, source: Source) -> Result<(), Refused> {
    offer_at(records, party, set, source, now())
}

/// The same by another clock.
fn offer_at(
    records: &mut Records,
    party: &Party,
    set: &RecordSet,
    source: Source,
    now: UnixMillis,
) -> Result<(), Refused> {
    let verdict = Arc::new(Mutex::new(None));
    let told = verdict.clone();
    let reply = Box::new(move |result| *told.lock().unwrap() = Some(result));
    let (key, bytes) = (party.key(), set.encode());
    records.offer(Offer { key, bytes, source, own: false, reply }, now);
    settle(records, now);
    let verdict = verdict.lock().unwrap().take();
    verdict.expect("an offer without a verdict")
}

/// The same where there is a disk to wait for.
async fn offer_to_disk(records: &mut Records, party: &Party, set: &RecordSet) -> Result<(), Refused> {
    offer_to_disk_at(records, party, set, now()).await
}

async fn offer_to_disk_at(
    records: &mut Records,
    party: &Party,
    set: &RecordSet,
    now: UnixMillis,
) -> Result<(), Refused> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let reply = Box::new(move |result| sender.send(result).unwrap());
    let (key, bytes) = (party.key(), set.encode());
    records.offer(Offer { key, bytes, source: HERE, own: false, reply }, now);
    settle(records, now);
    receiver.await.unwrap()
}

async fn on_disk(dir: &Path) -> (Disk, Records) {
    let (disk, loaded) = Disk::open(dir).await.unwrap();
    let records = Records::new(&limits(), Verdicts::default(), Some(disk.clone()), loaded);
    (disk, records)
}

/// Another look at the file.
async fn raw(dir: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(dir.join("net.sqlite"));
    options.connect().await.unwrap()
}

async fn rows(raw: &mut SqliteConnection) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM records").fetch_one(raw).await.unwrap()
}

const DAY: Duration = Duration::from_secs(86_400);

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
    settle(&mut records, now());
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
    let (verdicts, party) = (Verdicts::default(), Party::new(0));
    let mut records = Records::new(&limits(), verdicts.clone(), None, Loaded::default());
    let mut record = party.account_record(now());
    record.proof = Party::new(1).proof;
    let set = RecordSet { account: Some(record.sign(&party.identity)), terminals: Vec::new() };
    let task = record::check(&party.key(), &set.encode(), now()).unwrap().proof_task().unwrap();
    assert_eq!(offer(&mut records, &party, &set, HERE), Err(Refused::Proof));
    assert_eq!(verdicts.get(&task), Some(false));
    // Whatever is known is believed: the proof itself would fail.
    verdicts.set(task, true);
    assert_eq!(offer(&mut records, &party, &set, HERE), Ok(()));
}

#[test]
fn what_is_replicated_unchanged_costs_nothing() {
    let (mut records, party) = (store(&limits()), Party::new(0));
    let set = party.set(now(), &[addr(1)]);
    assert_eq!(offer(&mut records, &party, &set, HERE), Ok(()));
    let (key, bytes, source) = (party.key(), set.encode(), HERE);
    let reply = Box::new(|result: Result<(), Refused>| assert_eq!(result, Ok(())));
    records.offer(Offer { key, bytes, source, own: false, reply }, now());
    assert!(records.next_work(now()).is_none());
}

#[test]
fn garbage_takes_nobodys_turn() {
    let (mut records, party) = (store(&limits()), Party::new(0));
    let reply = Box::new(|result: Result<(), Refused>| assert!(matches!(result, Err(Refused::Record(_)))));
    let bytes = vec![0xff; 500];
    records.offer(Offer { key: party.key(), bytes, source: HERE, own: false, reply }, now());
    assert!(records.next_work(now()).is_none());
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
fn a_refresh_that_does_not_fit_leaves_what_was_there() {
    let (party, before) = (Party::new(0), UnixMillis(now().0 - 1_000));
    let old = party.set(before, &[addr(1)]);
    let mut limits = limits();
    limits.record_bytes = old.encode().len() + 20;
    let mut records = store(&limits);
    assert_eq!(offer(&mut records, &party, &old, HERE), Ok(()));
    let longer = party.set(now(), &[addr(1), addr(2), addr(3)]);
    assert_eq!(offer(&mut records, &party, &longer, HERE), Err(Refused::Full));
    assert_eq!(records.find(&party.key(), now()).unwrap().0.to_set(), old);
    // It still counts, and one that fits is taken.
    assert_eq!(records.totals().1, old.encode().len());
    let newer = party.set(now(), &[addr(4)]);
    assert_eq!(offer(&mut records, &party, &newer, HERE), Ok(()));
    assert_eq!(records.find(&party.key(), now()).unwrap().0.to_set(), newer);
}

#[test]
fn what_is_over_is_not_served_and_goes_after_a_day() {
    let (mut records, party) = (store(&limits()), Party::new(0));
    let (kad_key, start) = (kad::RecordKey::new(&party.key().0), Instant::now());
    assert_eq!(offer(&mut records, &party, &party.set(now(), &[addr(1)]), HERE), Ok(()));
    let (held, _) = records.find(&party.key(), now().plus(Duration::from_secs(7_200))).unwrap();
    assert!(held.terminals.is_empty() && held.account.is_some());
    // The account record is valid for a day.
    let later = now().plus(DAY + DAY / 2);
    records.sweep(later, start);
    assert!(records.find(&party.key(), later).is_none());
    records.sweep(later, start + DAY / 2);
    assert_eq!(records.totals().0, 1);
    records.sweep(later, start + DAY);
    assert_eq!(records.totals(), (0, 0, 0));
    assert!(records.get(&kad_key).is_none());
}

#[test]
fn a_clock_that_was_wrong_for_a_while_erases_nothing() {
    let (mut records, party) = (store(&limits()), Party::new(0));
    let (set, start) = (party.set(now(), &[addr(1)]), Instant::now());
    assert_eq!(offer(&mut records, &party, &set, HERE), Ok(()));
    for wrong in [now().plus(DAY * 900), UnixMillis(1_000)] {
        for hour in 0..23 {
            records.sweep(wrong, start + Duration::from_secs(3_600 * hour));
            assert!(records.find(&party.key(), wrong).is_none());
        }
        records.sweep(now(), start + DAY);
        assert_eq!(records.find(&party.key(), now()).unwrap().0.to_set(), set);
    }
}

#[test]
fn a_number_goes_to_nobody_else_because_the_clock_is_wrong() {
    let mut records = store(&limits());
    let (holder, taker) = (Party::chosen(0), Party::chosen(1));
    assert_eq!(holder.key(), taker.key());
    let set = holder.set(now(), &[addr(1)]);
    assert_eq!(offer(&mut records, &holder, &set, HERE), Ok(()));
    let refused = Err(Refused::Record(RecordError::Incumbent));
    assert_eq!(offer(&mut records, &taker, &taker.set(now(), &[]), HERE), refused);
    let (wrong, start) = (now().plus(DAY * 30), Instant::now());
    records.sweep(wrong, start);
    assert_eq!(offer_at(&mut records, &taker, &taker.set(wrong, &[]), HERE, wrong), refused);
    assert_eq!(records.find(&holder.key(), now()).unwrap().0.to_set(), set);
    // After a day of that, the number is free.
    records.sweep(wrong, start + DAY);
    assert_eq!(offer_at(&mut records, &taker, &taker.set(wrong, &[]), HERE, wrong), Ok(()));
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
        let (disk, mut records) = on_disk(dir.path()).await;
        for party in [&party, &other] {
            assert_eq!(offer_to_disk(&mut records, party, &party.set(now(), &[addr(1)])).await, Ok(()));
        }
        let others = vec!["/ip4/192.0.2.9/tcp/443".to_owned(), "/ip4/192.0.2.9/tcp/443/tls/ws".to_owned()];
        disk.remember(Met { addr: "/ip4/192.0.2.9/udp/1/quic-v1".to_owned(), chosen: false, others }, now());
        disk.flush().await;
    }
    // Somebody tampers with one record on disk.
    let mut raw = raw(dir.path()).await;
    sqlx::query("UPDATE records SET value = zeroblob(100) WHERE key = ?")
        .bind(&other.key().0[..])
        .execute(&mut raw)
        .await
        .unwrap();
    let (disk, loaded) = Disk::open(dir.path()).await.unwrap();
    let [met] = &loaded.peers[..] else { panic!("one peer: {:?}", loaded.peers) };
    assert_eq!((met.addr.as_str(), met.chosen), ("/ip4/192.0.2.9/udp/1/quic-v1", false));
    assert_eq!(met.others, ["/ip4/192.0.2.9/tcp/443", "/ip4/192.0.2.9/tcp/443/tls/ws"]);
    let verdicts = Verdicts::default();
    let mut records = Records::new(&limits(), verdicts.clone(), Some(disk.clone()), loaded);
    let (found, _) = records.find(&party.key(), now()).unwrap();
    assert!(records.find(&other.key(), now()).is_none());
    disk.flush().await;
    assert_eq!(rows(&mut raw).await, 1);
    // Its proof need not be run again.
    assert_eq!(verdicts.get(&found.proof_task().unwrap()), Some(true));
    let newer = party.set(now().plus(Duration::from_millis(10)), &[addr(2)]);
    assert_eq!(offer_to_disk(&mut records, &party, &newer).await, Ok(()));
    assert_eq!(records.find(&party.key(), now()).unwrap().0.to_set(), newer);
}

#[tokio::test]
async fn peers_of_the_version_before_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    drop(Disk::open(dir.path()).await.unwrap());
    let mut raw = raw(dir.path()).await;
    let older = "DROP TABLE peers; PRAGMA user_version = 1;
                 CREATE TABLE peers (addr TEXT PRIMARY KEY, seen INTEGER NOT NULL, chosen INTEGER NOT NULL)
                 WITHOUT ROWID; INSERT INTO peers VALUES ('/ip4/192.0.2.9/tcp/1', 1, 1)";
    sqlx::raw_sql(older).execute(&mut raw).await.unwrap();
    for _ in 0..2 {
        let (_, loaded) = Disk::open(dir.path()).await.unwrap();
        let met = Met { addr: "/ip4/192.0.2.9/tcp/1".to_owned(), chosen: true, others: Vec::new() };
        assert_eq!(loaded.peers, [met]);
    }
}

#[tokio::test]
async fn a_start_with_a_wrong_clock_erases_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let party = Party::new(0);
    let long_ago = UnixMillis(now().0 - 20 * 86_400_000);
    {
        // A clock that is behind; what it takes is over by ours. (A clock ahead is the same the other way round.)
        let (_, mut records) = on_disk(dir.path()).await;
        let set = party.set(long_ago, &[addr(1)]);
        assert_eq!(offer_to_disk_at(&mut records, &party, &set, long_ago).await, Ok(()));
    }
    for _ in 0..2 {
        let (disk, mut records) = on_disk(dir.path()).await;
        assert!(records.find(&party.key(), now()).is_none(), "over by this clock");
        records.sweep(now(), Instant::now());
        disk.flush().await;
        assert_eq!(rows(&mut raw(dir.path()).await).await, 1);
        let (found, _) = records.find(&party.key(), long_ago).expect("right by that clock");
        assert_eq!(found.terminals.len(), 1);
        assert!(records.find(&party.key(), UnixMillis(long_ago.0 - 86_400_000)).is_none(), "from the future");
    }
}

#[tokio::test]
async fn nothing_is_acknowledged_that_the_disk_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, mut records) = on_disk(dir.path()).await;
    let (one, two) = (Party::new(0), Party::new(1));
    let sets = [one.set(now(), &[addr(1)]), two.set(now(), &[addr(2)])];
    let mut raw = raw(dir.path()).await;
    let fill = "CREATE TRIGGER full BEFORE INSERT ON records BEGIN SELECT RAISE(ABORT, 'disk full'); END";
    sqlx::raw_sql(fill).execute(&mut raw).await.unwrap();
    // Asked again, the answer is the same, though the record is held and served meanwhile.
    for _ in 0..3 {
        assert_eq!(offer_to_disk(&mut records, &one, &sets[0]).await, Err(Refused::Disk));
        assert!(records.find(&one.key(), now()).is_some());
    }
    assert_eq!(offer_to_disk(&mut records, &two, &sets[1]).await, Err(Refused::Disk));
    sqlx::raw_sql("DROP TRIGGER full").execute(&mut raw).await.unwrap();
    assert_eq!(offer_to_disk(&mut records, &one, &sets[0]).await, Ok(()));
    assert_eq!(rows(&mut raw).await, 1);
    // The other one, whose sender never came back, is written with the next sweep.
    records.sweep(now(), Instant::now());
    disk.flush().await;
    assert_eq!(rows(&mut raw).await, 2);
    assert_eq!(offer_to_disk(&mut records, &two, &sets[1]).await, Ok(()));
}

#[tokio::test]
async fn a_file_that_is_damaged_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let (party, garbage) = (Party::new(0), vec![0x5a; 10_000]);
    std::fs::write(dir.path().join("net.sqlite"), &garbage).unwrap();
    let (_, mut records) = on_disk(dir.path()).await;
    assert_eq!(records.totals().0, 0);
    assert_eq!(offer_to_disk(&mut records, &party, &party.set(now(), &[])).await, Ok(()));
    assert_eq!(std::fs::read(dir.path().join("net.sqlite.damaged")).unwrap(), garbage);
    assert_eq!(rows(&mut raw(dir.path()).await).await, 1);
}
