//! Which packets arrived and which did not: the loss RLE block of RTCP extended reports (RFC 3611 sections 2 and 4.1).
//!
//! A share of lost packets does not tell bursts from single losses, and these ask for different repairs. The trace of one
//! second's packets takes 24 bytes and a few for each loss.

use super::{RtpError, be32};

/// Packets in one trace; what is older is left out, what claims more is refused.
pub const MAX_TRACE: usize = 512;

/// RTCP packet type of extended reports.
pub(super) const EXTENDED_REPORT: u8 = 207;

const LOSS_RLE: u8 = 1;
/// Bits of a bit vector chunk, and the longest run of a run length chunk.
const VECTOR: usize = 15;
const MAX_RUN: usize = (1 << 14) - 1;

/// What became of packets in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LossTrace {
    /// The source of the packets.
    pub ssrc: u32,
    /// Sequence number of the first.
    pub begin: u16,
    /// Whether each has arrived; at most [`MAX_TRACE`].
    pub received: Vec<bool>,
}

impl LossTrace {
    /// Appends an extended report of `reporter` with this trace alone.
    pub(super) fn write(&self, reporter: u32, out: &mut Vec<u8>) {
        let received = &self.received[..self.received.len().min(MAX_TRACE)];
        let mut chunks = chunks_of(received);
        if chunks.len() % 2 == 1 {
            // A null chunk fills up to 32 bits.
            chunks.push(0);
        }
        let words = 3 + chunks.len() / 2;
        out.extend_from_slice(&[2 << 6, EXTENDED_REPORT]);
        out.extend_from_slice(&(words as u16 + 1).to_be_bytes());
        out.extend_from_slice(&reporter.to_be_bytes());
        out.extend_from_slice(&[LOSS_RLE, 0]);
        out.extend_from_slice(&(words as u16 - 1).to_be_bytes());
        out.extend_from_slice(&self.ssrc.to_be_bytes());
        out.extend_from_slice(&self.begin.to_be_bytes());
        out.extend_from_slice(&self.begin.wrapping_add(received.len() as u16).to_be_bytes());
        chunks.iter().for_each(|chunk| out.extend_from_slice(&chunk.to_be_bytes()));
    }

    /// Reads the traces in the body of an extended report, which begins with the reporter's SSRC. Other blocks are skipped.
    pub(super) fn read_all(body: &[u8]) -> Result<Vec<LossTrace>, RtpError> {
        let mut traces = Vec::new();
        let mut bytes = body.get(4..).ok_or(RtpError::Truncated)?;
        while !bytes.is_empty() {
            let head = bytes.get(..4).ok_or(RtpError::Truncated)?;
            let length = 4 * (1 + usize::from(u16::from_be_bytes([head[2], head[3]])));
            let block = bytes.get(..length).ok_or(RtpError::Truncated)?;
            // A thinned one (the low bits of the second byte) does not say of every packet what became of it.
            if head[0] == LOSS_RLE && head[1] & 0x0f == 0 {
                match LossTrace::read(block) {
                    Ok(trace) => traces.push(trace),
                    // Longer than this one reads.
                    Err(RtpError::TooLong) => {}
                    Err(error @ (RtpError::Truncated | RtpError::Version | RtpError::Padding)) => {
                        return Err(error);
                    }
                }
            }
            bytes = &bytes[length..];
        }
        Ok(traces)
    }

    fn read(block: &[u8]) -> Result<LossTrace, RtpError> {
        if block.len() < 12 {
            return Err(RtpError::Truncated);
        }
        let [begin, end] = [8, 10].map(|at| u16::from_be_bytes([block[at], block[at + 1]]));
        let count = usize::from(end.wrapping_sub(begin));
        if count > MAX_TRACE {
            return Err(RtpError::TooLong);
        }
        let mut received = Vec::with_capacity(count);
        for chunk in block[12..].chunks_exact(2).map(|chunk| u16::from_be_bytes([chunk[0], chunk[1]])) {
            let left = count - received.len();
            if chunk & 0x8000 == 0 {
                let run = usize::from(chunk & 0x3fff).min(left);
                received.extend(std::iter::repeat_n(chunk & 0x4000 != 0, run));
            } else {
                received.extend((0..VECTOR.min(left)).map(|bit| chunk >> (14 - bit) & 1 == 1));
            }
        }
        // What the chunks do not tell of is not known to be lost: the trace ends there.
        Ok(LossTrace { ssrc: be32(block, 4), begin, received })
    }
}

/// Runs where they are longer than a bit vector, bit vectors elsewhere.
fn chunks_of(received: &[bool]) -> Vec<u16> {
    let (mut chunks, mut rest) = (Vec::new(), received);
    while let Some(&first) = rest.first() {
        let run = rest.iter().take_while(|next| **next == first).count().min(MAX_RUN);
        let taken = if run >= VECTOR || run == rest.len() {
            chunks.push(u16::from(first) << 14 | run as u16);
            run
        } else {
            let bits = rest.iter().take(VECTOR).enumerate();
            chunks
                .push(bits.fold(0x8000, |chunk, (bit, received)| chunk | u16::from(*received) << (14 - bit)));
            VECTOR.min(rest.len())
        };
        rest = &rest[taken..];
    }
    chunks
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn body(trace: &LossTrace) -> Vec<u8> {
        let mut bytes = Vec::new();
        trace.write(9, &mut bytes);
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), bytes.len() / 4 - 1);
        bytes.split_off(4)
    }

    #[test]
    fn the_layout_is_rfc_3611_s() {
        let mut received = vec![true; 20];
        received.extend([false, true, true]);
        let trace = LossTrace { ssrc: 0x0102_0304, begin: 65_530, received };
        let body = body(&trace);
        assert_eq!(body[..4], [0, 0, 0, 9], "the reporter");
        assert_eq!(body[4..8], [1, 0, 0, 3], "loss RLE, three more words");
        assert_eq!(
            body[8..16],
            [1, 2, 3, 4, 0xff, 0xfa, 0, 17],
            "the source, the first, the one after the last"
        );
        assert_eq!(body[16..], [0x40, 20, 0x80 | 0x30, 0], "twenty received, then 011");
    }

    #[test]
    fn a_quiet_second_takes_few_bytes() {
        let trace = LossTrace { ssrc: 1, begin: 0, received: vec![true; 50] };
        assert_eq!(body(&trace).len(), 20);
    }

    #[test]
    fn what_claims_too_much_is_refused() {
        let trace = LossTrace { ssrc: 1, begin: 0, received: vec![true; 50] };
        let mut long = body(&trace);
        long[14..16].copy_from_slice(&(MAX_TRACE as u16 + 1).to_be_bytes());
        assert_eq!(LossTrace::read_all(&long), Ok(Vec::new()));
        let mut short = body(&trace);
        short.truncate(18);
        assert_eq!(LossTrace::read_all(&short), Err(RtpError::Truncated));
        assert_eq!(LossTrace::read_all(&[0; 3]), Err(RtpError::Truncated));
        assert_eq!(LossTrace::read_all(&[0, 0, 0, 0, LOSS_RLE, 0, 0, 0]), Err(RtpError::Truncated));
    }

    proptest! {
        #[test]
        fn traces_survive_the_wire(
            begin in any::<u16>(),
            runs in proptest::collection::vec((any::<bool>(), 1usize..40), 0..12),
        ) {
            let received = runs.iter().flat_map(|(received, run)| std::iter::repeat_n(*received, *run)).collect();
            let trace = LossTrace { ssrc: 3, begin, received };
            prop_assert_eq!(LossTrace::read_all(&body(&trace)), Ok(vec![trace]));
        }

        #[test]
        fn nonsense_is_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for trace in LossTrace::read_all(&bytes).unwrap_or_default() {
                prop_assert!(trace.received.len() <= MAX_TRACE);
            }
        }
    }
}
