//! What the past arrivals say about the network.

use std::collections::VecDeque;

/// Packets that are remembered: 8 s of 20 ms frames. Shorter forgets rare spikes, longer clings to a bad past.
const WINDOW: usize = 400;

/// Transit times of the last packets in microseconds.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    window: VecDeque<i64>,
    scratch: Vec<i64>,
    fastest: i64,
    spread: i64,
}

impl Arrivals {
    pub(super) fn record(&mut self, transit: i64) {
        if self.window.len() == WINDOW {
            self.window.pop_front();
        }
        self.window.push_back(transit);
        self.scratch.clear();
        self.scratch.extend(&self.window);
        let rank = (self.scratch.len() - 1) * 97 / 100;
        let (faster, high, _) = self.scratch.select_nth_unstable(rank);
        self.fastest = faster.iter().copied().min().unwrap_or(*high);
        self.spread = *high - self.fastest;
    }

    /// The smallest transit in the window.
    pub(super) fn fastest(&self) -> i64 {
        self.fastest
    }

    /// How much longer than the fastest the 97th percentile takes.
    pub(super) fn spread(&self) -> i64 {
        self.spread
    }
}

/// Share of lost frames, smoothed over about 128 of them, with a decision that does not flutter.
#[derive(Debug, Default)]
pub(super) struct LossRate {
    rate: f32,
    high: bool,
}

impl LossRate {
    pub(super) fn record(&mut self, lost: bool) {
        self.rate += (f32::from(u8::from(lost)) - self.rate) / 128.0;
        self.high = self.rate > if self.high { 0.005 } else { 0.015 };
    }

    /// Whether a frame of delay is worth paying so that lost frames can be repaired.
    pub(super) fn is_high(&self) -> bool {
        self.high
    }
}
