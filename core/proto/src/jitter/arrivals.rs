//! What the past arrivals say about the network.

use std::collections::VecDeque;

/// Packets that are remembered: 8 s of 20 ms frames. Shorter forgets rare spikes, longer clings to a bad past.
const WINDOW: usize = 400;
/// A way that has become shorter is one by which so many packets in a row have come sooner by so much, microseconds, than most of those
/// before: a call that begins through a relay and goes straight a moment later.
const SHORTER_FOR: usize = 25;
const SHORTER_BY: i64 = 15_000;
/// Packets of the shorter way that come before the last ones of the longer: as many as there are in 80 ms.
const OVERTAKING: usize = 4;

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
        self.judge();
        if self.forget_longer_way() {
            self.judge();
        }
    }

    /// Forgets all but the last packets, which are what the way is like from now on.
    pub(super) fn forget(&mut self) {
        self.window.drain(..self.window.len().saturating_sub(SHORTER_FOR));
        if !self.window.is_empty() {
            self.judge();
        }
    }

    fn judge(&mut self) {
        self.scratch.clear();
        self.scratch.extend(&self.window);
        let rank = (self.scratch.len() - 1) * 97 / 100;
        let (faster, high, _) = self.scratch.select_nth_unstable(rank);
        self.fastest = faster.iter().copied().min().unwrap_or(*high);
        self.spread = *high - self.fastest;
    }

    /// What came by a longer way says nothing of the present one. Answers whether there was such a way: nearly all were slow until a
    /// moment ago, by about as much, and none has been since. Where the way is the same and only crowded at times, a queue grows first, and
    /// what has waited for a stall to end is ever less late.
    fn forget_longer_way(&mut self) -> bool {
        if self.spread < SHORTER_BY {
            return false;
        }
        let limit = self.fastest + self.spread / 4;
        let sooner = self.window.iter().rev().take_while(|transit| **transit <= limit).count();
        let before = self.window.len() - sooner;
        let slow = || self.window.iter().take(before).copied().filter(|transit| *transit > limit);
        let alike =
            slow().max().zip(slow().min()).is_some_and(|(most, least)| most - least <= self.spread / 2);
        // Around the change the two ways overtake each other.
        let faster = before - slow().count();
        let shorter = sooner >= SHORTER_FOR && alike && (faster <= OVERTAKING || faster * 20 <= before);
        if shorter {
            self.window.drain(..before);
        }
        shorter
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

/// The share that a first loss is taken for: just too little to wait for repairs. A second one within two seconds is enough.
const FIRST_LOSS: f32 = 0.0145;

/// Share of lost frames, smoothed over about 128 of them, with a decision that does not flutter.
#[derive(Debug, Default)]
pub(super) struct LossRate {
    rate: f32,
    high: bool,
}

impl LossRate {
    pub(super) fn record(&mut self, lost: bool) {
        self.rate += (f32::from(u8::from(lost)) - self.rate) / 128.0;
        if lost {
            self.rate = self.rate.max(FIRST_LOSS);
        }
        self.high = self.rate > if self.high { 0.005 } else { 0.015 };
    }

    /// Whether a frame of delay is worth paying so that lost frames can be repaired.
    pub(super) fn is_high(&self) -> bool {
        self.high
    }
}
