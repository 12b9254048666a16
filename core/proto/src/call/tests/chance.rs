//! Random numbers, and how the network behaves.

use std::time::Duration;

/// SplitMix64 (Steele et al. 2014): small, seeded, good enough to draw schedules.
#[derive(Clone, Debug)]
pub(super) struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// True with a probability of `permille` / 1000.
    pub fn chance(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    pub fn ms(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from + 1))
    }

    pub fn bytes(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.next().to_be_bytes());
        bytes[8..].copy_from_slice(&self.next().to_be_bytes());
        bytes
    }
}

/// How the network behaves. Probabilities in permille.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    pub loss: u64,
    pub duplicate: u64,
    /// One way, milliseconds.
    pub delay: (u64, u64),
    /// A packet meets "not connected" although the terminal is there.
    pub refuse: u64,
    /// The media connection of a leg cannot be made.
    pub no_media: u64,
    /// A media connection breaks at some time.
    pub breaks: u64,
    /// Our own media cannot be prepared.
    pub no_device: u64,
    /// A text that arrived cannot be kept.
    pub no_disk: u64,
}

impl Weather {
    pub const FINE: Self = Self {
        loss: 0,
        duplicate: 0,
        delay: (20, 20),
        refuse: 0,
        no_media: 0,
        breaks: 0,
        no_device: 0,
        no_disk: 0,
    };
}
