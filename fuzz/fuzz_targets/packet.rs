//! Signalling packets: as payloads, as envelopes, as sealed blobs, and well signed by a hostile terminal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook_proto::identity::{SealKey, TerminalKey};
use offhook_proto::signalling::{MAX_BLOB_BYTES, Packet, open, open_envelope};
use offhook_proto::wire::{self, UnixMillis, domain};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fuzz_target!(|data: &[u8]| {
    if let Ok(packet) = wire::decode::<Packet>(data, MAX_BLOB_BYTES) {
        let _ = (packet.check(), format!("{packet:?}"));
        let again = packet.payload();
        assert_eq!(wire::decode::<Packet>(&again, usize::MAX).as_ref(), Ok(&packet));
        assert_eq!(wire::decode::<Packet>(&again, usize::MAX).map(|packet| packet.payload()), Ok(again));
    }
    let me = TerminalKey::from_seed([12; 32]).public();
    let known = |_: &_, _: &_| true;
    let _ = open(data, &SealKey::from_seed([13; 32]), &me, &known, NOW);
    let _ = open_envelope(data, &me, &known, NOW);
    let signed = TerminalKey::from_seed([2; 32]).sign(domain::SIGNAL, data);
    if let Ok(opened) = open_envelope(&wire::encode(&signed), &me, &known, NOW) {
        assert_eq!(opened.packet.check(), Ok(()));
        assert_eq!(opened.intro.is_some(), opened.packet.intro.is_some());
    }
});
