//! Redundant audio data (RFC 2198): frames that were sent before, again in a later packet.
//!
//! A payload of this kind holds the packet's own frame (the *primary*) and copies of earlier ones. A copy says by how much it
//! is older, at most [`MAX_OFFSET`] clock units, so the loss of a few packets in a row is made good when the next one comes.

use super::OPUS_PAYLOAD_TYPE;

/// Dynamic RTP payload type under which such payloads travel (the number is our own choice).
pub const RED_PAYLOAD_TYPE: u8 = 112;
/// The same for payloads whose latest earlier frame is no copy but sent for the first time: it has a sequence number, the one before the
/// packet's, and no packet of its own. So two frames share the headers of a packet where these would take too much of a narrow link.
pub const PAIR_PAYLOAD_TYPE: u8 = 113;
/// Copies read from one payload; more are refused.
pub const MAX_COPIES: usize = 4;
/// How much older than its packet a copy can be, in clock units: 14 bits, 341 ms at 48 kHz.
pub const MAX_OFFSET: u32 = (1 << 14) - 1;
/// How long a copy can be in bytes: 10 bits.
pub const MAX_COPY: usize = (1 << 10) - 1;

/// The bit that says that another header follows.
const MORE: u8 = 0x80;
const COPY_HEADER: usize = 4;

/// An earlier frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copy<'a> {
    /// By how much it is older than the packet's timestamp, clock units.
    pub offset: u32,
    /// The frame, as it was sent.
    pub payload: &'a [u8],
}

/// What a redundant payload holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redundant<'a> {
    /// The packet's own frame.
    pub primary: &'a [u8],
    /// Earlier ones, at most [`MAX_COPIES`].
    pub copies: Vec<Copy<'a>>,
}

/// Why a redundant payload was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RedError {
    /// It ends before its own lengths say so.
    #[error("redundant audio is cut short")]
    Truncated,
    /// It holds more than [`MAX_COPIES`].
    #[error("redundant audio has too many copies")]
    TooMany,
    /// It holds another kind of payload than Opus.
    #[error("redundant audio of another kind")]
    Kind,
}

/// Writes a payload. Copies that are too old or too long for the format are left out, as are those beyond [`MAX_COPIES`].
pub fn encode(primary: &[u8], copies: &[Copy<'_>]) -> Vec<u8> {
    let fits = |copy: &&Copy<'_>| copy.offset <= MAX_OFFSET && copy.payload.len() <= MAX_COPY;
    let copies: Vec<_> = copies.iter().filter(fits).take(MAX_COPIES).collect();
    let bytes: usize = copies.iter().map(|copy| COPY_HEADER + copy.payload.len()).sum();
    let mut out = Vec::with_capacity(bytes + 1 + primary.len());
    for copy in &copies {
        out.push(MORE | OPUS_PAYLOAD_TYPE);
        let rest = copy.offset << 10 | copy.payload.len() as u32;
        out.extend_from_slice(&rest.to_be_bytes()[1..]);
    }
    out.push(OPUS_PAYLOAD_TYPE);
    copies.iter().for_each(|copy| out.extend_from_slice(copy.payload));
    out.extend_from_slice(primary);
    out
}

/// Reads a payload.
///
/// # Errors
/// See [`RedError`]. Never panics, whatever the bytes.
pub fn decode(payload: &[u8]) -> Result<Redundant<'_>, RedError> {
    let (mut headers, mut rest) = (Vec::new(), payload);
    loop {
        let (&first, after) = rest.split_first().ok_or(RedError::Truncated)?;
        if first & !MORE != OPUS_PAYLOAD_TYPE {
            return Err(RedError::Kind);
        }
        if first & MORE == 0 {
            rest = after;
            break;
        }
        let (header, after) = after.split_first_chunk::<3>().ok_or(RedError::Truncated)?;
        if headers.len() == MAX_COPIES {
            return Err(RedError::TooMany);
        }
        let bits = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        headers.push((bits >> 10, (bits & MAX_COPY as u32) as usize));
        rest = after;
    }
    let mut copies = Vec::with_capacity(headers.len());
    for (offset, length) in headers {
        let (payload, after) = rest.split_at_checked(length).ok_or(RedError::Truncated)?;
        copies.push(Copy { offset, payload });
        rest = after;
    }
    Ok(Redundant { primary: rest, copies })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_layout_is_rfc_2198_s() {
        let bytes = encode(&[7, 8], &[Copy { offset: 1_920, payload: &[1, 2, 3] }]);
        // F=1, type 111; 1920 in 14 bits, 3 in 10; F=0, type 111.
        assert_eq!(bytes, [0x80 | 111, 0x1e, 0x00, 0x03, 111, 1, 2, 3, 7, 8]);
    }

    #[test]
    fn what_does_not_fit_is_left_out_or_refused() {
        let long = [0; MAX_COPY + 1];
        let copies = [Copy { offset: MAX_OFFSET + 1, payload: &[1] }, Copy { offset: 1, payload: &long }];
        assert_eq!(decode(&encode(&[9], &copies)), Ok(Redundant { primary: &[9], copies: Vec::new() }));
        assert_eq!(decode(&[]), Err(RedError::Truncated));
        assert_eq!(decode(&[0x80 | 111, 0, 0]), Err(RedError::Truncated));
        assert_eq!(decode(&[0x80 | 111, 0, 0, 2, 111, 1]), Err(RedError::Truncated));
        assert_eq!(decode(&[96, 1]), Err(RedError::Kind));
        let many = [[0x80 | 111, 0, 0, 0]; MAX_COPIES + 1].concat();
        assert_eq!(decode(&many), Err(RedError::TooMany));
    }

    proptest! {
        #[test]
        fn payloads_survive_the_wire(
            primary in proptest::collection::vec(any::<u8>(), 0..200),
            copies in proptest::collection::vec((0..=MAX_OFFSET, proptest::collection::vec(any::<u8>(), 0..200)), 0..=MAX_COPIES),
        ) {
            let copies: Vec<_> = copies.iter().map(|(offset, payload)| Copy { offset: *offset, payload }).collect();
            let bytes = encode(&primary, &copies);
            prop_assert_eq!(decode(&bytes), Ok(Redundant { primary: &primary, copies }));
        }

        #[test]
        fn nonsense_is_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(read) = decode(&bytes) {
                prop_assert!(read.copies.len() <= MAX_COPIES);
            }
        }
    }
}
