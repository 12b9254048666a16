//! Descriptors of directories, as received and with a good signature over any payload.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook_proto::descriptor::{
    DESCRIPTOR_MAX_LIFETIME, Descriptor, MAX_DESCRIPTOR_BYTES, MAX_NODES, MAX_SERVERS, SignedDescriptor,
};
use offhook_proto::identity::DirectoryKey;
use offhook_proto::number::RecordKey;
use offhook_proto::record::RecordSet;
use offhook_proto::wire::{self, UnixMillis, domain};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn examine(bytes: &[u8], key: &DirectoryKey) {
    let Ok(signed) = SignedDescriptor::from_bytes(bytes) else { return };
    // A node tells descriptors and records of numbers apart by what can be decoded.
    assert!(RecordSet::decode(bytes).is_err());
    let Ok(read) = signed.verify(NOW) else { return };
    let place = Descriptor::key(&read.directory);
    assert_eq!(signed.verify_stored(&place, NOW), Ok(read.clone()));
    assert!(signed.verify_stored(&RecordKey([0; 32]), NOW).is_err());
    assert_eq!(signed.verify_kept(&place), Ok(read.clone()));
    assert!(signed.to_bytes().len() <= MAX_DESCRIPTOR_BYTES);
    assert!(read.nodes.len() <= MAX_NODES && read.stun.len().max(read.turn.len()) <= MAX_SERVERS);
    assert!(read.expires >= NOW && read.expires.since(read.issued) <= DESCRIPTOR_MAX_LIFETIME);
    assert_eq!(signed.verify_pinned(&read.name, &read.directory, NOW), Ok(read.clone()));
    if read.directory == key.public() {
        let again = SignedDescriptor::sign(key, &read).and_then(|again| again.verify(NOW));
        assert_eq!(again, Ok(read));
    }
}

fuzz_target!(|data: &[u8]| {
    let key = DirectoryKey::from_seed([77; 32]);
    examine(data, &key);
    examine(&wire::encode(&key.sign(domain::DESCRIPTOR, data)), &key);
});
