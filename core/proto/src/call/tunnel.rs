//! How much may travel through signalling.

use std::time::{Duration, Instant};

/// Datagrams of the media connection that may travel through signalling on one leg, in one direction.
///
/// The handshake and what keeps the connection alive while it rings fit, however long that is: each end sends an empty
/// report every 5 s and acknowledges the other's, 0.4 datagrams a second. Voice, 50 a second, does not.
///
/// ```
/// # use std::time::{Duration, Instant};
/// # use offhook_proto::call::TunnelBudget;
/// let (mut budget, now) = (TunnelBudget::default(), Instant::now());
/// assert_eq!((0..1000).filter(|_| budget.take(now)).count(), 64);
/// assert!(budget.take(now + Duration::from_secs(2)));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct TunnelBudget {
    left: u32,
    /// When it was filled up to `left`; `None` before the first datagram.
    filled: Option<Instant>,
}

impl TunnelBudget {
    /// Datagrams at a time: a handshake needs about ten, with losses twice as many.
    pub const BURST: u32 = 64;
    /// Afterwards one more in this time.
    pub const REFILL: Duration = Duration::from_secs(2);

    /// Counts a datagram; false if it must not be carried. `now` never goes back.
    pub fn take(&mut self, now: Instant) -> bool {
        let filled = self.filled.unwrap_or(now);
        let steps = now.saturating_duration_since(filled).as_millis() / Self::REFILL.as_millis();
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(steps).min(Self::BURST);
        // What is over the brim is lost: nobody saves up for a stretch of voice.
        let full = self.left == Self::BURST;
        self.filled = Some(if full { now } else { filled + Self::REFILL.saturating_mul(steps) });
        let granted = self.left > 0;
        self.left = self.left.saturating_sub(1);
        granted
    }
}

impl Default for TunnelBudget {
    fn default() -> Self {
        Self { left: Self::BURST, filled: None }
    }
}
