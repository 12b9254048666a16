//! A directory's list: an entry after those of the seeds' list, and heads with a good signature over any payload.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook_proto::identity::{DirectoryId, DirectoryKey};
use offhook_proto::list::{Audit, Chain, Entry, Head, MAX_ENTRY_BYTES, Problem, SignedHead};
use offhook_proto::wire::{self, UnixMillis, domain};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
const BEFORE: [&[u8]; 2] =
    [include_bytes!("../seeds/list/0_issued"), include_bytes!("../seeds/list/1_issued")];

fn entry(bytes: &[u8], directory: DirectoryId) {
    let mut audit = Audit::new(directory, &[]);
    for before in BEFORE {
        audit.take(before).expect("an entry of the seeds' list");
    }
    let (length, numbers) = (audit.length(), audit.numbers());
    let refused = match audit.take(bytes) {
        Ok(_) => false,
        Err(finding) => matches!(finding.problem, Problem::Chain(_) | Problem::TooManyNumbers),
    };
    assert_eq!(audit.length(), length + u64::from(!refused));
    assert!(audit.numbers() <= numbers + 1);
    if !refused {
        assert!(bytes.len() <= MAX_ENTRY_BYTES && Chain::after(directory, bytes).is_ok());
    }
}

/// Any change, put where the chain wants it.
fn change(bytes: &[u8], directory: DirectoryId) {
    let Ok(read) = wire::decode::<Entry>(bytes, MAX_ENTRY_BYTES) else { return };
    let mut chain = Chain::after(directory, BEFORE[1]).expect("an entry of the seeds' list");
    entry(&chain.append(read.at, read.change), directory);
}

fn head(envelope: &[u8], directory: &DirectoryId) {
    let Ok(signed) = wire::decode::<SignedHead>(envelope, 4096) else { return };
    let Ok(head) = signed.verify(directory, NOW) else { return };
    assert!(head.directory == *directory && !head.contradicts(&head));
    let other = Head { hash: Chain::new(*directory).hash(), ..head };
    assert_eq!(head.contradicts(&other), head.hash != other.hash);
    let _ = Audit::new(*directory, &[head, other]).conclude(&head);
}

fuzz_target!(|data: &[u8]| {
    let key = DirectoryKey::from_seed([77; 32]);
    entry(data, key.public());
    change(data, key.public());
    head(data, &key.public());
    head(&wire::encode(&key.sign(domain::LIST_HEAD, data)), &key.public());
});
