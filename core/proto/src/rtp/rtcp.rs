//! RTCP sender and receiver reports (RFC 3550 section 6.4), with a [limit](RateLimit) and a [loss trace](LossTrace) after them.
//! Other packet types are skipped.

use super::remb::{APPLICATION, PAYLOAD_FEEDBACK, RateLimit};
use super::xr::{EXTENDED_REPORT, LossTrace};
use super::{RtpError, be32};

/// Most report blocks that one packet can carry (its count has five bits).
pub const MAX_REPORT_BLOCKS: usize = 31;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const BLOCK: usize = 24;

/// One sender or receiver report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rtcp {
    /// Who reports.
    pub ssrc: u32,
    /// Present in a sender report: what the reporter has sent itself.
    pub sender: Option<SenderInfo>,
    /// What the reporter has received, per source; at most [`MAX_REPORT_BLOCKS`].
    pub blocks: Vec<ReportBlock>,
    /// What became of the packets of one source since the last report.
    pub trace: Option<LossTrace>,
    /// What one source should not exceed.
    pub limit: Option<RateLimit>,
}

/// The sender's part of a sender report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderInfo {
    /// Wall clock when the report was made, 32.32 fixed point seconds since 1900.
    pub ntp: u64,
    /// The same instant on the RTP clock.
    pub rtp_timestamp: u32,
    /// Packets sent so far, wraps.
    pub packets: u32,
    /// Payload bytes sent so far, wraps.
    pub bytes: u32,
}

/// What a receiver says about one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportBlock {
    /// The source that is reported on.
    pub ssrc: u32,
    /// Share of packets lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Packets lost so far; negative when duplicates arrived. 24 bits.
    pub cumulative_lost: i32,
    /// Highest sequence number, with the count of wraps in the upper half.
    pub highest_sequence: u32,
    /// Interarrival jitter in RTP clock units.
    pub jitter: u32,
    /// Middle 32 bits of the NTP time of the last sender report, 0 when there was none.
    pub last_report: u32,
    /// Delay since that report in 1/65536 s.
    pub delay_since_report: u32,
}

impl Rtcp {
    /// Appends the packet to `out`.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let blocks = &self.blocks[..self.blocks.len().min(MAX_REPORT_BLOCKS)];
        let words = 1 + if self.sender.is_some() { 5 } else { 0 } + blocks.len() * BLOCK / 4;
        out.push(2 << 6 | blocks.len() as u8);
        out.push(if self.sender.is_some() { SENDER_REPORT } else { RECEIVER_REPORT });
        out.extend_from_slice(&(words as u16).to_be_bytes());
        out.extend_from_slice(&self.ssrc.to_be_bytes());
        if let Some(sender) = &self.sender {
            out.extend_from_slice(&sender.ntp.to_be_bytes());
            out.extend_from_slice(&sender.rtp_timestamp.to_be_bytes());
            out.extend_from_slice(&sender.packets.to_be_bytes());
            out.extend_from_slice(&sender.bytes.to_be_bytes());
        }
        blocks.iter().for_each(|block| block.write(out));
        if let Some(limit) = &self.limit {
            limit.write(self.ssrc, out);
        }
        if let Some(trace) = &self.trace {
            trace.write(self.ssrc, out);
        }
    }

    fn read(kind: u8, count: usize, body: &[u8]) -> Result<Rtcp, RtpError> {
        let head = if kind == SENDER_REPORT { 24 } else { 4 };
        if body.len() < head + count * BLOCK {
            return Err(RtpError::Truncated);
        }
        let sender = (kind == SENDER_REPORT).then(|| SenderInfo {
            ntp: u64::from(be32(body, 4)) << 32 | u64::from(be32(body, 8)),
            rtp_timestamp: be32(body, 12),
            packets: be32(body, 16),
            bytes: be32(body, 20),
        });
        let blocks = body[head..head + count * BLOCK].chunks_exact(BLOCK).map(ReportBlock::read).collect();
        Ok(Rtcp { ssrc: be32(body, 0), sender, blocks, trace: None, limit: None })
    }
}

impl ReportBlock {
    fn write(&self, out: &mut Vec<u8>) {
        let lost = self.cumulative_lost.clamp(-0x80_0000, 0x7f_ffff) as u32 & 0xff_ffff;
        out.extend_from_slice(&self.ssrc.to_be_bytes());
        out.extend_from_slice(&(u32::from(self.fraction_lost) << 24 | lost).to_be_bytes());
        out.extend_from_slice(&self.highest_sequence.to_be_bytes());
        out.extend_from_slice(&self.jitter.to_be_bytes());
        out.extend_from_slice(&self.last_report.to_be_bytes());
        out.extend_from_slice(&self.delay_since_report.to_be_bytes());
    }

    fn read(block: &[u8]) -> ReportBlock {
        let loss = be32(block, 4);
        ReportBlock {
            ssrc: be32(block, 0),
            fraction_lost: (loss >> 24) as u8,
            cumulative_lost: ((loss << 8) as i32) >> 8, // extends the sign of the 24 bits
            highest_sequence: be32(block, 8),
            jitter: be32(block, 12),
            last_report: be32(block, 16),
            delay_since_report: be32(block, 20),
        }
    }
}

/// Reads a compound packet. The number of reports is bounded by the datagram's length.
pub(super) fn read_all(mut bytes: &[u8]) -> Result<Vec<Rtcp>, RtpError> {
    let mut reports = Vec::new();
    while !bytes.is_empty() {
        let head = bytes.get(..4).ok_or(RtpError::Truncated)?;
        if head[0] >> 6 != 2 {
            return Err(RtpError::Version);
        }
        let length = 4 * (1 + usize::from(u16::from_be_bytes([head[2], head[3]])));
        let packet = bytes.get(..length).ok_or(RtpError::Truncated)?;
        if matches!(head[1], SENDER_REPORT | RECEIVER_REPORT) {
            reports.push(Rtcp::read(head[1], usize::from(head[0] & 0x1f), &packet[4..])?);
        } else if head[1] == PAYLOAD_FEEDBACK && usize::from(head[0] & 0x1f) == APPLICATION {
            let limit = RateLimit::read(&packet[4..])?;
            if let Some(report) = reports.last_mut() {
                report.limit = limit.or(report.limit);
            }
        } else if head[1] == EXTENDED_REPORT
            && let Some(trace) = LossTrace::read_all(&packet[4..])?.into_iter().next()
            && let Some(report) = reports.last_mut()
        {
            // It belongs to the report that it comes with (RFC 3550 section 6.1: those come first).
            report.trace = Some(trace);
        }
        bytes = &bytes[length..];
    }
    Ok(reports)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::{Frame, decode, encode_rtcp};

    fn block(lost: i32) -> ReportBlock {
        ReportBlock {
            ssrc: 5,
            fraction_lost: 64,
            cumulative_lost: lost,
            highest_sequence: 0x0001_0002,
            jitter: 33,
            last_report: 1,
            delay_since_report: 2,
        }
    }

    #[test]
    fn reports_survive_the_wire() {
        let info = SenderInfo { ntp: 0x0102_0304_0506_0708, rtp_timestamp: 1, packets: 2, bytes: 3 };
        for sender in [None, Some(info)] {
            let trace = LossTrace { ssrc: 5, begin: 65_535, received: vec![true, false, true] };
            let trace = sender.is_some().then_some(trace);
            let limit = sender.is_none().then_some(RateLimit { ssrc: 5, bits_per_second: 48_000 });
            let report = Rtcp { ssrc: 1, sender, blocks: vec![block(-3), block(70_000)], trace, limit };
            let bytes = encode_rtcp(300, &report);
            assert_eq!(decode(&bytes), Ok((300, Frame::Rtcp(vec![report]))));
        }
    }

    #[test]
    fn other_types_are_skipped_and_short_ones_refused() {
        let mut bytes = vec![0u8, 0x80, 202, 0, 1, 0, 0, 0, 9]; // SDES without items
        let report = Rtcp { ssrc: 1, sender: None, blocks: vec![block(0)], trace: None, limit: None };
        report.write(&mut bytes);
        assert_eq!(decode(&bytes), Ok((0, Frame::Rtcp(vec![report]))));
        bytes.pop();
        assert_eq!(decode(&bytes), Err(RtpError::Truncated));
        // A count of blocks that the length does not cover.
        assert_eq!(decode(&[0, 0x85, 201, 0, 1, 0, 0, 0, 1]), Err(RtpError::Truncated));
    }
}
