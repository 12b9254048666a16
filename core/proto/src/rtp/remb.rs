//! What a sender should not exceed: the receiver estimated maximum bit rate (draft-alvestrand-rmcat-remb-03 section 2.2), an
//! application layer feedback message (RFC 4585 section 6.4) that browsers speak as well.

use super::{RtpError, be32};

/// RTCP packet type of payload-specific feedback, and the message type in it.
pub(super) const PAYLOAD_FEEDBACK: u8 = 206;
pub(super) const APPLICATION: usize = 15;

const NAME: &[u8; 4] = b"REMB";
const MANTISSA_BITS: u32 = 18;

/// The most that one source should send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// The source.
    pub ssrc: u32,
    /// Bits per second of whole packets. Its 18 highest bits survive the wire.
    pub bits_per_second: u32,
}

impl RateLimit {
    /// Appends a message of `reporter`.
    pub(super) fn write(&self, reporter: u32, out: &mut Vec<u8>) {
        let exponent = (u32::BITS - self.bits_per_second.leading_zeros()).saturating_sub(MANTISSA_BITS);
        let mantissa = self.bits_per_second >> exponent;
        out.extend_from_slice(&[2 << 6 | APPLICATION as u8, PAYLOAD_FEEDBACK, 0, 5]);
        out.extend_from_slice(&reporter.to_be_bytes());
        out.extend_from_slice(&[0; 4]); // of no one source
        out.extend_from_slice(NAME);
        out.extend_from_slice(&(1 << 24 | exponent << MANTISSA_BITS | mantissa).to_be_bytes());
        out.extend_from_slice(&self.ssrc.to_be_bytes());
    }

    /// Reads the body of such a message, which begins with the reporter's SSRC. `None` if it is another one, or names another
    /// number of sources than one.
    pub(super) fn read(body: &[u8]) -> Result<Option<RateLimit>, RtpError> {
        if body.get(8..12).is_none_or(|name| name != NAME) {
            return Ok(None);
        }
        if body.len() < 16 {
            return Err(RtpError::Truncated);
        }
        let word = be32(body, 12);
        let (count, exponent) = (word >> 24, word >> MANTISSA_BITS & 0x3f);
        let mantissa = u64::from(word & ((1 << MANTISSA_BITS) - 1));
        if count != 1 {
            return Ok(None);
        }
        if body.len() < 20 {
            return Err(RtpError::Truncated);
        }
        let bits = mantissa.checked_shl(exponent).filter(|_| exponent < 32).unwrap_or(u64::MAX);
        Ok(Some(RateLimit { ssrc: be32(body, 16), bits_per_second: u32::try_from(bits).unwrap_or(u32::MAX) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(bits_per_second: u32) -> Vec<u8> {
        let mut out = Vec::new();
        RateLimit { ssrc: 0x0102_0304, bits_per_second }.write(9, &mut out);
        out
    }

    #[test]
    fn limits_survive_the_wire_but_for_their_lowest_bits() {
        for bits in [0, 1, 48_000, 262_143, 262_144, 262_145, 1_000_001, u32::MAX] {
            let bytes = written(bits);
            assert_eq!(bytes.len(), 24);
            let limit = RateLimit::read(&bytes[4..]).unwrap().unwrap();
            assert_eq!(limit.ssrc, 0x0102_0304);
            assert!(
                limit.bits_per_second <= bits && bits - limit.bits_per_second <= bits >> 17,
                "{bits}: {limit:?}"
            );
        }
        // The draft's layout, by hand: exponent 1, mantissa 0x20000.
        assert_eq!(written(262_144)[12..20], [b'R', b'E', b'M', b'B', 1, 0x06, 0, 0]);
    }

    #[test]
    fn other_messages_are_skipped_and_short_ones_refused() {
        let bytes = written(48_000);
        assert_eq!(RateLimit::read(&bytes[4..20]), Err(RtpError::Truncated));
        assert_eq!(RateLimit::read(&bytes[4..12]), Ok(None), "another message of the kind");
        let mut other = bytes.clone();
        other[12] = b'X';
        assert_eq!(RateLimit::read(&other[4..]), Ok(None));
        let mut many = bytes.clone();
        many[16] = 2;
        assert_eq!(RateLimit::read(&many[4..]), Ok(None));
        let mut huge = bytes;
        huge[17] = 0xff;
        let limit = RateLimit::read(&huge[4..]).unwrap().unwrap();
        assert_eq!(limit.bits_per_second, u32::MAX);
    }
}
