//! Networks out of seeds.

use std::time::Duration;

use crate::draws::Draws;

/// What a network does to packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Loses 0 to 30 % at random.
    Random,
    /// Loses 0 to 20 % in bursts of 2 to 8 packets (Gilbert).
    Bursts,
    /// Delays each packet by up to 5 to 80 ms more; none overtakes.
    Jitter,
    /// Holds everything for 50 to 300 ms, once in 1 to 4 s, as Wi-Fi does while it looks around.
    Spikes,
    /// Becomes 10 to 100 ms slower or quicker, once in 1 to 4 s, as when the way changes.
    Steps,
    /// All of it at once, each half as much.
    Combined,
}

pub(super) const KINDS: [Kind; 6] =
    [Kind::Random, Kind::Bursts, Kind::Jitter, Kind::Spikes, Kind::Steps, Kind::Combined];

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Bursts => "bursts",
            Self::Jitter => "jitter",
            Self::Spikes => "spikes",
            Self::Steps => "steps",
            Self::Combined => "combined",
        }
    }
}

/// One direction of a network.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    draws: Draws,
    /// One way at the quickest, ms.
    base: f64,
    /// Share lost at random, 0 to 1.
    loss: f64,
    /// The same for bursts, and their mean length in packets.
    burst_loss: f64,
    burst: f64,
    in_burst: bool,
    /// At most, ms.
    jitter: f64,
    /// When everything is held, and until when; ms since the beginning.
    spikes: Vec<(f64, f64)>,
    /// From when on the way takes so much longer; ms.
    steps: Vec<(f64, f64)>,
    /// When the last packet arrived, ms.
    last: f64,
}

impl Trace {
    /// The network of a kind and seed, for a call of that length.
    pub(super) fn new(kind: Kind, seed: u64, length: Duration) -> Self {
        let mut draws = Draws::new(seed);
        let draws_at = &mut draws;
        // What a kind does not do takes its draws, too, so that one setting does not move another.
        let part = |kinds: &[Kind]| {
            let own = kinds.contains(&kind);
            if own {
                1.0
            } else if kind == Kind::Combined {
                0.5
            } else {
                0.0
            }
        };
        let base = draws_at.between(10.0, 150.0);
        let loss = draws_at.between(0.0, 0.3) * part(&[Kind::Random]);
        let burst_loss = draws_at.between(0.0, 0.2) * part(&[Kind::Bursts]);
        let burst = draws_at.between(2.0, 8.0);
        let jitter = draws_at.between(5.0, 80.0) * part(&[Kind::Jitter]);
        let length = length.as_secs_f64() * 1e3;
        let spike_part = part(&[Kind::Spikes]);
        let spikes = moments(draws_at, length)
            .into_iter()
            .map(|at| (at, at + draws_at.between(50.0, 300.0) * spike_part))
            .collect();
        let step_part = part(&[Kind::Steps]);
        let steps = moments(draws_at, length)
            .into_iter()
            .map(|at| (at, draws_at.between(10.0, 100.0) * step_part))
            .collect();
        Self { draws, base, loss, burst_loss, burst, in_burst: false, jitter, spikes, steps, last: 0.0 }
    }

    /// The delay of a packet that is sent at `at`, or `None` if it is lost.
    pub(super) fn pass(&mut self, at: Duration) -> Option<Duration> {
        let (lost, burst, jitter) = (self.draws.unit(), self.draws.unit(), self.draws.unit());
        let ends = 1.0 / self.burst;
        let begins = ends * self.burst_loss / (1.0 - self.burst_loss);
        self.in_burst = if self.in_burst { burst >= ends } else { burst < begins };
        if lost < self.loss || self.in_burst {
            return None;
        }
        let sent = at.as_secs_f64() * 1e3;
        let step = self.steps.iter().rev().find(|(from, _)| *from <= sent).map_or(0.0, |step| step.1);
        let mut arrives = sent + self.base + step + jitter * self.jitter;
        for (from, until) in &self.spikes {
            if (*from..*until).contains(&sent) {
                arrives = arrives.max(until + self.base);
            }
        }
        self.last = self.last.max(arrives);
        Some(Duration::from_secs_f64((self.last - sent) / 1e3))
    }
}

/// Times with 1 to 4 s between them, ms.
fn moments(draws: &mut Draws, length: f64) -> Vec<f64> {
    let mut at = draws.between(500.0, 4_000.0);
    let mut all = Vec::new();
    while at < length {
        all.push(at);
        at += draws.between(1_000.0, 4_000.0);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What calculating in milliseconds leaves.
    const ROUNDING: Duration = Duration::from_micros(1);

    fn pass_all(kind: Kind, seed: u64) -> Vec<Option<Duration>> {
        let mut trace = Trace::new(kind, seed, Duration::from_secs(10));
        (0..500).map(|n| trace.pass(Duration::from_millis(20 * n))).collect()
    }

    #[test]
    fn the_same_seed_is_the_same_network_and_another_is_another() {
        for kind in KINDS {
            assert_eq!(pass_all(kind, 7), pass_all(kind, 7));
            assert_ne!(pass_all(kind, 7), pass_all(kind, 8));
        }
    }

    #[test]
    fn only_those_that_should_lose_packets_or_delay_them_unequally() {
        for seed in 0..50 {
            for kind in KINDS {
                let passed = pass_all(kind, seed);
                let arrived: Vec<Duration> = passed.iter().flatten().copied().collect();
                let loses = matches!(kind, Kind::Random | Kind::Bursts | Kind::Combined);
                assert!(loses || arrived.len() == passed.len(), "{kind:?}");
                let (least, most) = (arrived.iter().min().unwrap(), arrived.iter().max().unwrap());
                let equal = *most - *least < ROUNDING;
                assert!(equal || !matches!(kind, Kind::Random | Kind::Bursts), "{kind:?}");
            }
        }
    }

    #[test]
    fn no_packet_overtakes() {
        for kind in KINDS {
            let arrivals: Vec<Duration> = pass_all(kind, 3)
                .iter()
                .zip(0..)
                .filter_map(|(delay, n)| Some(Duration::from_millis(20 * n) + (*delay)?))
                .collect();
            assert!(arrivals.windows(2).all(|pair| pair[0] <= pair[1] + ROUNDING), "{kind:?}");
        }
    }
}
