//! What accounts ask of a directory, as received and with a good signature over any payload.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook_proto::identity::{DirectoryId, DirectoryKey, IdentityKey};
use offhook_proto::request::{MAX_REQUEST_BYTES, REQUEST_WINDOW, SignedRequest};
use offhook_proto::wire::{self, UnixMillis, domain};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn examine(bytes: &[u8], directory: &DirectoryId) {
    let Ok(signed) = SignedRequest::from_bytes(bytes) else { return };
    let Ok(verified) = signed.verify(directory, NOW) else { return };
    let request = &verified.request;
    assert!(signed.to_bytes().len() <= MAX_REQUEST_BYTES && request.directory == *directory);
    assert!(NOW.since(request.at) <= REQUEST_WINDOW && request.at.since(NOW) <= REQUEST_WINDOW);
    let again = signed.verify_from(&request.identity, directory, NOW);
    assert_eq!(again.as_ref(), Ok(&verified));
    assert!(signed.verify(&DirectoryId::from_bytes([0; 32]), NOW).is_err());
}

fuzz_target!(|data: &[u8]| {
    let directory = DirectoryKey::from_seed([77; 32]).public();
    examine(data, &directory);
    let signed = IdentityKey::from_seed([7; 32]).sign(domain::DIRECTORY_REQUEST, data);
    examine(&wire::encode(&signed), &directory);
});
