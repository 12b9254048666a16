//! RTP with a header of 6 bytes instead of 12, for who knows the stream already: half of the packets' header says nothing new.
//!
//! What is left out is the source, and the timestamp's upper byte: the listener puts back those of the last packet that had them, as
//! header compression does (RFC 5795 section 3: static fields, and least significant bits for those that change). The header is
//! complete at the beginning, at each marker, in one of 50 packets, and until the other end has reported that it receives
//! the stream.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! | 1 |M|   PT    |        sequence number        |   timestamp
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//!         (lowest 24 bits)        |   payload …
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! PT is the payload type less 96: the dynamic ones of RFC 3551 section 6. The version field, 1, was that of RTP's first draft and is
//! never used again (RFC 3550 section 5.1).

use super::{RtpError, RtpPacket};

/// What the version field of such a packet says.
pub(super) const SHORT_VERSION: u8 = 1;
const HEADER: usize = 6;
/// The payload types that fit: dynamic ones.
const FIRST_TYPE: u8 = 96;
const TYPES: u8 = 0x1f;
/// Packets until the next complete header: a second of 20 ms frames, each in one of its own.
const COMPLETE_EVERY: u16 = 50;
/// Bits of the timestamp that are sent.
const BITS: u32 = 24;

/// A packet without what its stream's other packets say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShortPacket<'a> {
    /// What the payload is, 96 to 127.
    pub payload_type: u8,
    /// First packet after a silence.
    pub marker: bool,
    /// Counts packets, wraps.
    pub sequence: u16,
    /// The lowest 24 bits of the sampling instant.
    pub timestamp: u32,
    /// The encoded frame.
    pub payload: &'a [u8],
}

pub(super) fn read(bytes: &[u8]) -> Result<ShortPacket<'_>, RtpError> {
    let (&[first, s0, s1, t0, t1, t2], payload) =
        bytes.split_first_chunk::<HEADER>().ok_or(RtpError::Truncated)?;
    Ok(ShortPacket {
        payload_type: FIRST_TYPE + (first & TYPES),
        marker: first & 0x20 != 0,
        sequence: u16::from_be_bytes([s0, s1]),
        timestamp: u32::from_be_bytes([0, t0, t1, t2]),
        payload,
    })
}

fn write(out: &mut Vec<u8>, packet: &RtpPacket<'_>) {
    out.push(SHORT_VERSION << 6 | u8::from(packet.marker) << 5 | (packet.payload_type - FIRST_TYPE));
    out.extend_from_slice(&packet.sequence.to_be_bytes());
    out.extend_from_slice(&packet.timestamp.to_be_bytes()[1..]);
    out.extend_from_slice(packet.payload);
}

/// The sender's half: chooses each packet's header.
#[derive(Debug, Default)]
pub struct Shortener {
    /// Whether the other end has reported that it receives the stream.
    known: bool,
    /// Packets that went without a complete header.
    without: u16,
}

impl Shortener {
    /// The other end has sent a report, which tells of our stream or does not.
    pub fn reported(&mut self, known: bool) {
        self.known = known;
    }

    /// Prefixes `packet` with its flow and writes it as one datagram.
    pub fn encode(&mut self, flow: u64, packet: &RtpPacket<'_>) -> Vec<u8> {
        let dynamic = (FIRST_TYPE..=FIRST_TYPE + TYPES).contains(&packet.payload_type);
        if !self.known || packet.marker || !dynamic || self.without + 1 >= COMPLETE_EVERY {
            self.without = 0;
            return super::encode_rtp(flow, packet);
        }
        self.without += 1;
        let mut out = Vec::with_capacity(8 + HEADER + packet.payload.len());
        super::put_varint(&mut out, flow);
        write(&mut out, packet);
        out
    }
}

/// The listener's half: puts back what was left out.
#[derive(Debug, Default)]
pub struct Completer {
    /// Source and timestamp of the last packet.
    last: Option<(u32, u32)>,
}

impl Completer {
    /// A packet with a complete header has come.
    pub fn complete(&mut self, packet: &RtpPacket<'_>) {
        self.last = Some((packet.ssrc, packet.timestamp));
    }

    /// A packet without one has come: `None` if there has been no complete one yet.
    ///
    /// Its timestamp is taken for the one nearest to the packet's before, which is right as long as they are less than 174 s of a 48
    /// kHz clock apart.
    pub fn expand<'a>(&mut self, short: &ShortPacket<'a>) -> Option<RtpPacket<'a>> {
        let (ssrc, last) = self.last?;
        let step = (short.timestamp.wrapping_sub(last) << (32 - BITS)) as i32 >> (32 - BITS);
        let timestamp = last.wrapping_add_signed(step);
        self.last = Some((ssrc, timestamp));
        let ShortPacket { payload_type, marker, sequence, payload, .. } = *short;
        Some(RtpPacket { payload_type, marker, sequence, timestamp, ssrc, payload })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Frame, OPUS_PAYLOAD_TYPE, decode};
    use super::*;

    fn packet(sequence: u16, timestamp: u32) -> RtpPacket<'static> {
        RtpPacket {
            payload_type: OPUS_PAYLOAD_TYPE,
            marker: false,
            sequence,
            timestamp,
            ssrc: 0xdead_beef,
            payload: b"voice",
        }
    }

    /// What a listener makes of a datagram.
    fn listen<'a>(completer: &mut Completer, datagram: &'a [u8]) -> Option<RtpPacket<'a>> {
        match decode(datagram).unwrap() {
            (_, Frame::Rtp(packet)) => {
                completer.complete(&packet);
                Some(packet)
            }
            (_, Frame::Short(short)) => completer.expand(&short),
            (_, Frame::Rtcp(_)) => None,
        }
    }

    #[test]
    fn six_bytes_are_saved_once_the_other_end_has_told_that_it_receives() {
        let (mut shortener, mut completer) = (Shortener::default(), Completer::default());
        let whole = shortener.encode(0, &packet(1, 960)).len();
        shortener.reported(true);
        // The timestamp wraps on the way.
        for n in 2..500u16 {
            let sent = packet(n, 0xffff_0000u32.wrapping_add(u32::from(n) * 960));
            let datagram = shortener.encode(0, &sent);
            if n == 2 {
                listen(&mut completer, &super::super::encode_rtp(0, &sent));
            }
            assert_eq!(datagram.len(), if n % COMPLETE_EVERY == 1 { whole } else { whole - 6 }, "{n}");
            assert_eq!(listen(&mut completer, &datagram), Some(sent), "{n}");
        }
        shortener.reported(false);
        assert_eq!(shortener.encode(0, &packet(500, 0)).len(), whole);
    }

    #[test]
    fn a_marker_and_types_that_do_not_fit_are_sent_in_full() {
        let mut shortener = Shortener::default();
        shortener.reported(true);
        let marked = RtpPacket { marker: true, ..packet(1, 2) };
        let fixed = RtpPacket { payload_type: 0, ..packet(1, 2) };
        for sent in [marked, fixed] {
            let datagram = shortener.encode(0, &sent);
            assert_eq!(decode(&datagram).unwrap().1, Frame::Rtp(sent));
        }
    }

    #[test]
    fn without_a_complete_one_nothing_is_made_up() {
        let (mut shortener, mut completer) = (Shortener::default(), Completer::default());
        shortener.reported(true);
        let datagram = shortener.encode(0, &packet(1, 2));
        assert_eq!(listen(&mut completer, &datagram), None);
        assert!(matches!(decode(&datagram[..6]), Err(RtpError::Truncated)));
    }

    proptest! {
        #[test]
        fn whatever_is_lost_or_late_timestamps_are_whole(
            start: u32,
            steps in proptest::collection::vec((-50i32..100, any::<bool>()), 1..80),
        ) {
            let (mut shortener, mut completer) = (Shortener::default(), Completer::default());
            let (mut at, mut known) = (start, false);
            shortener.reported(true);
            for (n, (frames, lost)) in steps.into_iter().enumerate() {
                at = at.wrapping_add_signed(frames * 960);
                let sent = packet(n as u16, at);
                let datagram = shortener.encode(0, &sent);
                if lost {
                    continue;
                }
                match listen(&mut completer, &datagram) {
                    Some(heard) if known => prop_assert_eq!(heard, sent),
                    Some(heard) => {
                        prop_assert_eq!(heard, sent);
                        known = true;
                    }
                    None => prop_assert!(!known),
                }
            }
        }
    }
}
