//! RTP and RTCP as they come out of a QUIC datagram.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use offhook_proto::rtp::{
    Completer, Frame, MAX_DATAGRAM, MAX_REPORT_BLOCKS, MAX_TRACE, OPUS_CLOCK_HZ, Reception, RtpPacket,
    decode, encode_rtcp, encode_rtp, red,
};

fuzz_target!(|data: &[u8]| {
    let Ok((flow, frame)) = decode(data) else { return };
    assert!(data.len() <= MAX_DATAGRAM);
    match frame {
        Frame::Rtp(packet) => {
            // What was read says the same again, now without padding, extensions and sources. Payload types
            // 64 to 95 with a marker look like RTCP (RFC 5761 section 4), but those were not read as RTP.
            let again = encode_rtp(flow, &packet);
            assert_eq!(decode(&again), Ok((flow, Frame::Rtp(packet))));
            let mut reception = Reception::new(OPUS_CLOCK_HZ);
            reception.on_packet(Duration::ZERO, packet.sequence, packet.timestamp, packet.payload.len());
            assert_eq!((reception.lost(), reception.received()), (0, 1));
            if let Ok(read) = red::decode(packet.payload) {
                assert!(read.copies.len() <= red::MAX_COPIES);
                assert_eq!(red::decode(&red::encode(read.primary, &read.copies)), Ok(read));
            }
        }
        Frame::Short(short) => {
            let mut completer = Completer::default();
            assert_eq!(completer.expand(&short), None, "nothing is known yet");
            let (payload_type, payload) = (short.payload_type, short.payload);
            let first =
                RtpPacket { payload_type, marker: true, sequence: 1, timestamp: u32::MAX, ssrc: 7, payload };
            completer.complete(&first);
            let whole = completer.expand(&short);
            let kept = whole.map(|whole| (whole.ssrc, whole.timestamp & 0xff_ffff, whole.payload));
            assert_eq!(kept, Some((7, short.timestamp, payload)), "it is known now");
        }
        Frame::Rtcp(reports) => {
            for report in reports {
                assert!(report.blocks.len() <= MAX_REPORT_BLOCKS);
                assert!(report.trace.as_ref().is_none_or(|trace| trace.received.len() <= MAX_TRACE));
                let again = encode_rtcp(flow, &report);
                assert_eq!(decode(&again), Ok((flow, Frame::Rtcp(vec![report]))));
            }
        }
    }
});
