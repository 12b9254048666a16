//! The voice of a hostile peer, from the datagram to the loudspeaker: RTP, RTCP, jitter buffer, Opus.
//!
//! Each step of the input is six bytes and as many more as their last two say: milliseconds since the step before,
//! whether it is packed as voice (bit 0), by the second source (bit 1), as redundant audio (bit 2) or a pair (bit 3), with a short header (bit
//! 4), packets left out, by how much its time is
//! stretched, length.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use offhook::media;
use offhook_proto::rtp::{
    OPUS_PAYLOAD_TYPE, PAIR_PAYLOAD_TYPE, RED_PAYLOAD_TYPE, RtpPacket, Shortener, VOICE_FLOW, encode_rtp,
};

/// Samples of a frame of 20 ms at 48 kHz.
const FRAME: u32 = 960;

/// Datagrams, each some milliseconds after the one before.
fn datagrams(mut input: &[u8]) -> Vec<(Duration, Vec<u8>)> {
    let (mut sequence, mut timestamp, mut all) = (0u16, 0u32, Vec::new());
    while let Some((&[ms, kind, skipped, stretched, high, low], rest)) = input.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([high, low])).min(rest.len());
        let (payload, rest) = rest.split_at(length);
        input = rest;
        let datagram = if kind & 1 == 0 {
            payload.to_vec()
        } else {
            sequence = sequence.wrapping_add(1 + u16::from(skipped));
            timestamp = timestamp.wrapping_add(FRAME * (1 + u32::from(skipped)) + u32::from(stretched));
            let payload_type = match kind & 12 {
                0 => OPUS_PAYLOAD_TYPE,
                4 => RED_PAYLOAD_TYPE,
                _ => PAIR_PAYLOAD_TYPE,
            };
            let ssrc = u32::from(kind >> 1 & 1);
            let packet = RtpPacket { payload_type, marker: false, sequence, timestamp, ssrc, payload };
            let mut shortener = Shortener::default();
            shortener.reported(true);
            if kind & 16 == 0 {
                encode_rtp(VOICE_FLOW, &packet)
            } else {
                shortener.encode(VOICE_FLOW, &packet)
            }
        };
        all.push((Duration::from_millis(ms.into()), datagram));
    }
    all
}

fuzz_target!(|data: &[u8]| {
    let datagrams = datagrams(data);
    let sent = datagrams.len() as u64;
    // A pair counts twice.
    assert!(media::fuzz::voice(datagrams) <= 2 * sent);
});
