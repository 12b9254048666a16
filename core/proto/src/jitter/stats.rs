//! What a buffer counts.

use std::time::Duration;

/// What a buffer has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JitterStats {
    /// Delay that is aimed at.
    pub target: Duration,
    /// Delay beyond the fastest packet at the last frame played.
    pub delay: Duration,
    /// Frames decoded from their own packet.
    pub played: u64,
    /// Frames decoded from the packet after them.
    pub repaired: u64,
    /// Frames concealed.
    pub concealed: u64,
    /// Rows of concealed frames: how often something was missing.
    pub gaps: u64,
    /// Frames decoded from a copy of their packet (also counted in `played`).
    pub restored: u64,
    /// Packets that came after their turn.
    pub late: u64,
    /// Packets that came twice.
    pub duplicates: u64,
    /// How often the sender had nothing to say.
    pub comfort: u64,
    /// Frames left out to shorten the delay, or because the buffer was full.
    pub dropped: u64,
    /// Frames concealed only to lengthen the delay (also counted in `concealed`).
    pub inserted: u64,
    /// By how much playout was shortened by a faster pace.
    pub faster: Duration,
    /// By how much playout was lengthened by a slower pace.
    pub slower: Duration,
}

impl JitterStats {
    /// Frames that playout was told of, concealed ones included.
    pub fn frames(&self) -> u64 {
        self.played + self.repaired + self.concealed
    }

    /// Share of frames that could not be decoded, 0 to 1.
    pub fn concealed_share(&self) -> f64 {
        let all = self.frames();
        if all == 0 { 0.0 } else { self.concealed as f64 / all as f64 }
    }
}
