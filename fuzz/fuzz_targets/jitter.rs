//! The jitter buffer under any sequence of packets and playouts: each step is six bytes.
#![no_main]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use offhook_proto::jitter::{Inserted, JitterBuffer, JitterConfig, Playout};

fuzz_target!(|data: &[u8]| {
    let mut buffer = JitterBuffer::new(JitterConfig::default());
    let mut now = Instant::now();
    let mut held = 0u64;
    let mut decoded = BTreeSet::new();
    for (id, step) in data.chunks_exact(6).enumerate() {
        now += Duration::from_millis(u64::from(step[0] >> 1));
        if step[0] & 1 == 0 {
            let sequence = u16::from_be_bytes([step[1], step[2]]);
            let timestamp = u32::from_be_bytes([step[3], step[4], step[5], 0]);
            // Every packet has its own payload, so that it can be seen whether one is played twice.
            let inserted = buffer.insert(now, sequence, timestamp, &(id as u64).to_be_bytes());
            held += u64::from(inserted == Inserted::Held);
            // Every third packet brings a copy of an earlier one.
            if step[5] % 3 == 0 {
                let copy = [(id as u64).to_be_bytes(), *b"  a copy"].concat();
                let inserted = buffer.insert_copy(sequence, timestamp, u16::from(step[5]), &copy);
                held += u64::from(inserted == Inserted::Held);
            }
        } else {
            match buffer.next(now) {
                Playout::Decode(payload) => assert!(decoded.insert(payload), "played twice"),
                Playout::DecodeFec(payload) => assert!(!payload.is_empty() && !decoded.contains(&payload)),
                Playout::Conceal | Playout::Comfort | Playout::Silence => {}
            }
        }
        assert!(buffer.len() <= JitterConfig::default().capacity);
    }
    assert!(decoded.len() as u64 <= held);
    assert_eq!(buffer.stats().played, decoded.len() as u64);
});
