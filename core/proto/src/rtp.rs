//! RTP and RTCP packets as they travel in a call, and what a receiver learns from them.
//!
//! Packets follow RFC 3550. Each travels in one QUIC DATAGRAM, prefixed by a flow identifier
//! (draft-ietf-avtcore-rtp-over-quic, section 5.1: a QUIC variable-length integer, RFC 9000 section 16),
//! so that a bridge to WebRTC or SIP can pass them on, once it has [completed](Completer) those with a short header. RTP and RTCP share
//! a flow and are told apart by the payload type (RFC 5761 section 4).
//!
//! Everything here is pure: bytes in, values out, time as an argument.

pub mod red;
mod remb;
mod rtcp;
mod short;
mod stats;
mod trail;
mod xr;

pub use red::{PAIR_PAYLOAD_TYPE, RED_PAYLOAD_TYPE};
pub use remb::RateLimit;
pub use rtcp::{MAX_REPORT_BLOCKS, ReportBlock, Rtcp, SenderInfo};
pub use short::{Completer, ShortPacket, Shortener};
pub use stats::{LossBursts, Reception, SequenceUnwrap};
pub use xr::{LossTrace, MAX_TRACE};

/// Dynamic RTP payload type under which Opus travels (RFC 7587; the number itself is our own choice).
pub const OPUS_PAYLOAD_TYPE: u8 = 111;
/// RTP clock of Opus in Hz, whatever the audio bandwidth (RFC 7587 section 4.1).
pub const OPUS_CLOCK_HZ: u32 = 48_000;
/// Flow identifier of the voice flow.
pub const VOICE_FLOW: u64 = 0;
/// Largest datagram that we accept in bytes: what fits in a QUIC packet of 1500 bytes.
pub const MAX_DATAGRAM: usize = 1_452;

const VERSION: u8 = 2;
const HEADER: usize = 12;

/// Why a media datagram was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RtpError {
    /// It ends before its own lengths say so.
    #[error("media packet is cut short")]
    Truncated,
    /// It is longer than [`MAX_DATAGRAM`].
    #[error("media packet is too long")]
    TooLong,
    /// Its version is neither 2 nor that of a [short header](ShortPacket).
    #[error("media packet has another RTP version")]
    Version,
    /// Its padding is longer than the packet.
    #[error("media packet has impossible padding")]
    Padding,
}

/// One RTP packet. The payload is borrowed from the datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpPacket<'a> {
    /// What the payload is, 0 to 127.
    pub payload_type: u8,
    /// First packet after a silence (RFC 3551 section 4.1).
    pub marker: bool,
    /// Counts packets, wraps.
    pub sequence: u16,
    /// Sampling instant of the first sample in clock units, wraps.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
    /// The encoded frame.
    pub payload: &'a [u8],
}

/// What a media datagram carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Media.
    Rtp(RtpPacket<'a>),
    /// Media without what the stream's other packets say.
    Short(ShortPacket<'a>),
    /// Reports about media.
    Rtcp(Vec<Rtcp>),
}

/// Prefixes `packet` with its flow and writes it as one datagram.
pub fn encode_rtp(flow: u64, packet: &RtpPacket<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + HEADER + packet.payload.len());
    put_varint(&mut out, flow);
    out.push(VERSION << 6);
    out.push(u8::from(packet.marker) << 7 | packet.payload_type & 0x7f);
    out.extend_from_slice(&packet.sequence.to_be_bytes());
    out.extend_from_slice(&packet.timestamp.to_be_bytes());
    out.extend_from_slice(&packet.ssrc.to_be_bytes());
    out.extend_from_slice(packet.payload);
    out
}

/// Prefixes a report with its flow and writes it, with its limit and trace after it (RFC 3550 section 6.1), as one datagram.
pub fn encode_rtcp(flow: u64, packet: &Rtcp) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    put_varint(&mut out, flow);
    packet.write(&mut out);
    out
}

/// Reads one datagram: its flow and what it carries.
///
/// # Errors
/// See [`RtpError`]. Never panics, whatever the bytes.
pub fn decode(datagram: &[u8]) -> Result<(u64, Frame<'_>), RtpError> {
    if datagram.len() > MAX_DATAGRAM {
        return Err(RtpError::TooLong);
    }
    let (flow, rest) = take_varint(datagram)?;
    let (&first, &second) = match rest {
        [first, second, ..] => (first, second),
        [] | [_] => return Err(RtpError::Truncated),
    };
    if first >> 6 == short::SHORT_VERSION {
        return Ok((flow, Frame::Short(short::read(rest)?)));
    }
    if first >> 6 != VERSION {
        return Err(RtpError::Version);
    }
    // RFC 5761 section 4: packet types 192 to 223 are RTCP.
    if (192..=223).contains(&second) {
        return Ok((flow, Frame::Rtcp(rtcp::read_all(rest)?)));
    }
    Ok((flow, Frame::Rtp(decode_rtp(rest)?)))
}

fn decode_rtp(bytes: &[u8]) -> Result<RtpPacket<'_>, RtpError> {
    if bytes.len() < HEADER {
        return Err(RtpError::Truncated);
    }
    let (padding, extension, csrcs) =
        (bytes[0] & 0x20 != 0, bytes[0] & 0x10 != 0, usize::from(bytes[0] & 0x0f));
    let mut start = HEADER + 4 * csrcs;
    if extension {
        let head = bytes.get(start..start + 4).ok_or(RtpError::Truncated)?;
        start += 4 + 4 * usize::from(u16::from_be_bytes([head[2], head[3]]));
    }
    let mut payload = bytes.get(start..).ok_or(RtpError::Truncated)?;
    if padding {
        let count = usize::from(*payload.last().ok_or(RtpError::Padding)?);
        let kept = payload.len().checked_sub(count).filter(|_| count > 0).ok_or(RtpError::Padding)?;
        payload = &payload[..kept];
    }
    Ok(RtpPacket {
        payload_type: bytes[1] & 0x7f,
        marker: bytes[1] & 0x80 != 0,
        sequence: u16::from_be_bytes([bytes[2], bytes[3]]),
        timestamp: be32(bytes, 4),
        ssrc: be32(bytes, 8),
        payload,
    })
}

/// Reads four bytes; the caller has checked the length.
fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn put_varint(out: &mut Vec<u8>, value: u64) {
    match value {
        0..=0x3f => out.push(value as u8),
        0x40..=0x3fff => out.extend_from_slice(&(value as u16 | 0x4000).to_be_bytes()),
        0x4000..=0x3fff_ffff => out.extend_from_slice(&(value as u32 | 0x8000_0000).to_be_bytes()),
        // The top two bits carry the length, so larger values than 2^62 - 1 do not exist on the wire.
        0x4000_0000.. => {
            out.extend_from_slice(&(value & (u64::MAX >> 2) | 0xc000_0000_0000_0000).to_be_bytes())
        }
    }
}

fn take_varint(bytes: &[u8]) -> Result<(u64, &[u8]), RtpError> {
    let first = *bytes.first().ok_or(RtpError::Truncated)?;
    let length = 1usize << (first >> 6);
    if bytes.len() < length {
        return Err(RtpError::Truncated);
    }
    let (head, rest) = bytes.split_at(length);
    let value = head[1..].iter().fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte));
    Ok((value, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(payload: &[u8]) -> RtpPacket<'_> {
        RtpPacket {
            payload_type: OPUS_PAYLOAD_TYPE,
            marker: true,
            sequence: 65_535,
            timestamp: 7,
            ssrc: 9,
            payload,
        }
    }

    #[test]
    fn csrcs_extension_and_padding_are_skipped() {
        let mut bytes = vec![0u8, 0xb2, 111, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        bytes.extend_from_slice(&[1; 8]); // two CSRCs
        bytes.extend_from_slice(&[0xbe, 0xde, 0, 1, 9, 9, 9, 9]); // extension of one word
        bytes.extend_from_slice(b"voice");
        bytes.extend_from_slice(&[0, 0, 3]); // padding
        let (flow, frame) = decode(&bytes).unwrap();
        assert_eq!(flow, 0);
        let Frame::Rtp(packet) = frame else { panic!("RTP expected") };
        assert_eq!(
            (packet.payload, packet.sequence, packet.timestamp, packet.ssrc),
            (&b"voice"[..], 1, 2, 3)
        );
    }

    #[test]
    fn impossible_packets_are_refused() {
        assert_eq!(decode(&[]), Err(RtpError::Truncated));
        assert_eq!(decode(&[0, 0x80]), Err(RtpError::Truncated));
        assert_eq!(decode(&[0, 0xc0, 111, 0]), Err(RtpError::Version));
        let mut padded = vec![0u8, 0xa0, 111, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0];
        assert_eq!(decode(&padded), Err(RtpError::Padding));
        padded[13] = 200;
        assert_eq!(decode(&padded), Err(RtpError::Padding));
        assert_eq!(decode(&[0x80; MAX_DATAGRAM + 1]), Err(RtpError::TooLong));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(flow in 0u64..(1 << 62), payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            let bytes = encode_rtp(flow, &packet(&payload));
            prop_assert_eq!(decode(&bytes).unwrap(), (flow, Frame::Rtp(packet(&payload))));
        }

        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes);
        }
    }
}
