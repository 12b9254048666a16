//! The voice of a hostile peer, from the datagram to the loudspeaker: RTP, RTCP, jitter buffer, Opus.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use offhook::media;
use offhook_proto::rtp::{OPUS_PAYLOAD_TYPE, RtpPacket, VOICE_FLOW, encode_rtp};

#[derive(Arbitrary, Debug)]
enum Datagram {
    /// Whatever it is.
    Raw(Vec<u8>),
    /// Well packed, whatever the payload is.
    Packed { skipped: u8, stretched: u8, source: bool, payload: Vec<u8> },
}

/// Datagrams, each some milliseconds after the one before.
fn packed(input: Vec<(u8, Datagram)>) -> Vec<(Duration, Vec<u8>)> {
    let (mut sequence, mut timestamp) = (0u16, 0u32);
    let mut bytes = |datagram| match datagram {
        Datagram::Raw(bytes) => bytes,
        Datagram::Packed { skipped, stretched, source, payload } => {
            sequence = sequence.wrapping_add(1 + u16::from(skipped));
            timestamp = timestamp.wrapping_add(960 * (1 + u32::from(skipped)) + u32::from(stretched));
            let packet = RtpPacket {
                payload_type: OPUS_PAYLOAD_TYPE,
                marker: false,
                sequence,
                timestamp,
                ssrc: u32::from(source),
                payload: &payload,
            };
            encode_rtp(VOICE_FLOW, &packet)
        }
    };
    input.into_iter().map(|(ms, datagram)| (Duration::from_millis(ms.into()), bytes(datagram))).collect()
}

fuzz_target!(|input: Vec<(u8, Datagram)>| {
    let datagrams = packed(input);
    let sent = datagrams.len() as u64;
    assert!(media::fuzz::voice(datagrams) <= sent);
});
