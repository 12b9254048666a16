//! Certificates: of terminals and of chosen numbers, as received and with a good signature over any payload.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook_proto::identity::{CERT_LIFETIME, DirectoryKey, IdentityKey, SignedCert};
use offhook_proto::proof::{CHOSEN_MAX_LIFETIME, SignedChosenCert};
use offhook_proto::wire::{self, UnixMillis, domain};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn terminal_cert(envelope: &[u8]) {
    let Ok(signed) = wire::decode::<SignedCert>(envelope, 4096) else { return };
    let Ok(cert) = signed.verify(NOW) else { return };
    assert!(cert.not_after >= NOW && cert.not_after.since(cert.not_before) <= CERT_LIFETIME);
}

fn chosen_cert(envelope: &[u8]) {
    let Ok(signed) = wire::decode::<SignedChosenCert>(envelope, 4096) else { return };
    let Ok(cert) = signed.verify(NOW) else { return };
    assert!(cert.issued <= NOW && NOW <= cert.expires);
    assert!(cert.expires.since(cert.issued) <= CHOSEN_MAX_LIFETIME);
    assert!(cert.number.record_key(Some(&cert.directory)).is_some());
}

fuzz_target!(|data: &[u8]| {
    terminal_cert(data);
    chosen_cert(data);
    let identity = IdentityKey::from_seed([7; 32]);
    terminal_cert(&wire::encode(&identity.sign(domain::TERMINAL_CERT, data)));
    let directory = DirectoryKey::from_seed([77; 32]);
    chosen_cert(&wire::encode(&directory.sign(domain::CHOSEN_CERT, data)));
});
