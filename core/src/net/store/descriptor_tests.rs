//! Descriptors in the store: whose, how many, and for how long.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use libp2p::kad;
use libp2p::kad::store::RecordStore;
use offhook_proto::descriptor::{Descriptor, DescriptorError};
use offhook_proto::identity::DirectoryKey;
use offhook_proto::number::RecordKey;
use offhook_proto::record::RecordError;
use offhook_proto::wire::UnixMillis;

use super::{Disk, Loaded, Offer, Records, Refused, Verdicts};
use crate::net::addr::Source;
use crate::net::config::{Limits, Role};
use crate::net::fixture::{Party, descriptor, now};

const HERE: Source = Source::V4([192, 0, 2]);
const DAY: Duration = Duration::from_secs(86_400);

fn limits() -> Limits {
    Limits::for_role(Role::Server)
}

fn store(limits: &Limits) -> Records {
    Records::new(limits, Verdicts::default(), None, Loaded::default())
}

fn key(n: u8) -> DirectoryKey {
    DirectoryKey::from_seed([n; 32])
}

fn place(n: u8) -> RecordKey {
    Descriptor::key(&key(n).public())
}

fn signed(n: u8, issued: UnixMillis) -> Vec<u8> {
    descriptor(&key(n), issued).to_bytes()
}

fn offer(records: &mut Records, key: RecordKey, bytes: Vec<u8>, source: Source) -> Result<(), Refused> {
    let verdict = Arc::new(Mutex::new(None));
    let told = verdict.clone();
    let reply = Box::new(move |result| *told.lock().unwrap() = Some(result));
    records.offer(Offer { key, bytes, source, own: false, reply }, now());
    while let Some(work) = records.next_work(now()) {
        let worked = work.run();
        records.worked(worked, now());
    }
    let verdict = verdict.lock().unwrap().take();
    verdict.expect("an offer without a verdict")
}

fn refused(error: DescriptorError) -> Result<(), Refused> {
    Err(Refused::Descriptor(error))
}

#[test]
fn q3_a_node_takes_a_descriptor_at_its_own_place_and_in_its_time_only() {
    let mut records = store(&limits());
    let good = signed(1, now());
    assert_eq!(offer(&mut records, place(2), good.clone(), HERE), refused(DescriptorError::OtherDirectory));
    assert_eq!(
        offer(&mut records, Party::new(0).key(), good.clone(), HERE),
        refused(DescriptorError::OtherDirectory)
    );
    let over = signed(1, UnixMillis(now().0 - 91 * 86_400_000));
    assert_eq!(offer(&mut records, place(1), over, HERE), refused(DescriptorError::Expired));
    let early = signed(1, now().plus(DAY));
    assert_eq!(offer(&mut records, place(1), early, HERE), refused(DescriptorError::NotYetValid));
    // The signature ends the bytes.
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(offer(&mut records, place(1), forged, HERE), refused(DescriptorError::BadSignature));
    let mut long = good.clone();
    long.resize(5 * 1024, 0);
    assert!(matches!(
        offer(&mut records, place(1), long, HERE),
        Err(Refused::Record(RecordError::Malformed))
    ));
    assert_eq!(records.totals(), (0, 0, 0));
    assert_eq!(offer(&mut records, place(1), good.clone(), HERE), Ok(()));
    assert_eq!((records.totals().0, records.descriptors()), (0, 1), "a descriptor is no number's record");
    assert_eq!(records.value(&place(1), now()).unwrap().0, good);
    assert!(records.find(&place(1), now()).is_none(), "it is nobody's number");
}

#[test]
fn q3_the_later_descriptor_of_a_directory_counts() {
    let mut records = store(&limits());
    let (old, new) = (signed(1, UnixMillis(now().0 - 60_000)), signed(1, now()));
    assert_eq!(offer(&mut records, place(1), old.clone(), HERE), Ok(()));
    assert_eq!(offer(&mut records, place(1), new.clone(), HERE), Ok(()));
    assert_eq!(offer(&mut records, place(1), new.clone(), HERE), Ok(()), "the same again");
    assert_eq!(offer(&mut records, place(1), old, HERE), Err(Refused::Record(RecordError::Stale)));
    assert_eq!(records.value(&place(1), now()).unwrap().0, new);
    let served = records.get(&kad::RecordKey::new(&place(1).0)).unwrap().into_owned();
    assert_eq!(served.value, new);
    assert_eq!(records.records().count(), 1, "it is handed on to nodes that are closer");
}

#[test]
fn q3_made_up_directories_displace_directories_and_nobodys_number() {
    let mut limits = limits();
    (limits.descriptors, limits.descriptors_per_source) = (4, 3);
    let mut records = store(&limits);
    let party = Party::new(0);
    assert_eq!(offer(&mut records, party.key(), party.set(now(), &[]).encode(), HERE), Ok(()));
    let honest = Source::V4([198, 51, 100]);
    assert_eq!(offer(&mut records, place(200), signed(200, now()), honest), Ok(()));
    for n in 1..100 {
        assert_eq!(offer(&mut records, place(n), signed(n, now()), HERE), Ok(()));
    }
    assert!(records.value(&place(200), now()).is_some(), "a source displaces its own");
    assert!(records.value(&place(1), now()).is_none() && records.value(&place(99), now()).is_some());
    assert_eq!((records.totals().0, records.descriptors()), (1, 4));
    assert!(records.find(&party.key(), now()).is_some());
    let mut terminal = store(&Limits::for_role(Role::Terminal));
    assert_eq!(offer(&mut terminal, place(1), signed(1, now()), HERE), Err(Refused::Full));
}

#[tokio::test]
async fn a_descriptor_survives_a_restart_and_goes_when_it_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let open = async || {
        let (disk, loaded) = Disk::open(dir.path()).await.unwrap();
        (disk.clone(), Records::new(&limits(), Verdicts::default(), Some(disk), loaded))
    };
    let value = signed(1, now());
    {
        let (disk, mut records) = open().await;
        let reply = Box::new(|_: Result<(), Refused>| ());
        let (key, bytes) = (place(1), value.clone());
        records.offer(Offer { key, bytes, source: HERE, own: false, reply }, now());
        let worked = records.next_work(now()).expect("work").run();
        records.worked(worked, now());
        disk.flush().await;
    }
    let (disk, mut records) = open().await;
    assert_eq!(records.value(&place(1), now()).unwrap().0, value);
    let (later, start) = (now().plus(DAY * 91), Instant::now());
    records.sweep(later, start);
    assert!(records.value(&place(1), later).is_none());
    assert_eq!(records.descriptors(), 1, "the clock may be wrong");
    records.sweep(later, start + DAY);
    assert_eq!((records.descriptors(), records.totals()), (0, (0, 0, 0)));
    disk.flush().await;
    drop(records);
    assert_eq!(open().await.1.descriptors(), 0);
}
