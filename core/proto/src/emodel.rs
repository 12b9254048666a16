//! How good a call is to talk in, by the E-model of the ITU-T: delay, loss and codec to one figure, the rating `R`.
//!
//! `R = Ro - Is - Id - Ie,eff + A` (Recommendation G.107 section 7.1): from what an undisturbed connection has, impairments are
//! taken away. There are three scales, which must not be mixed: narrowband (G.107, 93.2 at best), wideband (G.107.1, 129) and
//! fullband (G.107.2, 148). Opus at its usual rate carries more than wideband, so [`rate`] uses the fullband one. The narrowband
//! model is in [`narrowband`], with all that a line has beside delay and loss.
//!
//! What is taken from where:
//!
//! | part | from |
//! |---|---|
//! | `Ro` 148, `Is` 0, `A` 0, `Ie,eff` with 132 in the place of 95, delays 1.48 times as heavy, MOS from `R / 1.48` | G.107.2 (06/2019) sections 7.1 to 7.5 and annex A |
//! | `Idd`, the absolute delay's part | G.107 section 7.4 with the default sensitivity (`sT` 1, `mT` 100 ms) |
//! | `BurstR` in `Ie,eff` | G.107 section 7.5; G.107.2 knows independent losses only, so that this is our addition |
//! | MOS | G.107 annex B |
//! | `Ie` and `Bpl` of Opus | [`opus`]: measured by others, not the ITU's |
//!
//! What is assumed: no echo is heard (terminals cancel it, and there is no hybrid), so that of the delay only `Idd` is left; rooms,
//! levels and devices are as they should be. The model was made for planning networks: it tells what most people would say of calls
//! like this one, and what a codec made of this voice it does not know.

pub mod narrowband;
mod opus;

use std::time::Duration;

/// `R` of a fullband connection without any impairment (G.107.2 section 7.2).
pub const BEST: f64 = 148.0;
/// The most that codec and loss take away on the fullband scale (G.107.2 section 7.5).
const WORST_EQUIPMENT: f64 = 132.0;
/// How much longer the fullband scale is than that of G.107's annex B (G.107.2 annex A).
const SCALE: f64 = 1.48;
/// From when on delay is noticed: `mT` of G.107 section 7.4, milliseconds.
const NOTICED_MS: f64 = 100.0;

/// What one end has heard of a call, and how late.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heard {
    /// From mouth to ear: network, jitter buffer and codec.
    pub delay: Duration,
    /// Bits per second that Opus has for the voice, copies not counted.
    pub bitrate: u32,
    /// Share of frames that were missing when they were due, after all repair, 0 to 1.
    pub lost: f64,
    /// How many were missing in a row, on average.
    pub burst: f64,
}

/// The rating of a call on the fullband scale.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Rating(f64);

/// A rating in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// Many or nearly all users are dissatisfied: below G.109's "low".
    Poor,
    /// Some to many users are dissatisfied: G.109's "medium" and "low", 60 to 80 of 100.
    Fair,
    /// Users are satisfied: G.109's "high" and "best", from 80 of 100 on.
    Good,
}

impl Rating {
    /// `R`, 0 to [`BEST`].
    pub fn r(self) -> f64 {
        self.0
    }

    /// The opinion that people have on average, 1 to 4.5.
    pub fn mos(self) -> f64 {
        mos(self.0 / SCALE)
    }

    /// In a word, by the categories of G.109.
    pub fn grade(self) -> Grade {
        match self.0 / SCALE {
            r if r >= 80.0 => Grade::Good,
            r if r >= 60.0 => Grade::Fair,
            _ => Grade::Poor,
        }
    }
}

/// The rating of what was heard.
pub fn rate(heard: &Heard) -> Rating {
    let codec = opus::at(heard.bitrate);
    let lost = finite(heard.lost).clamp(0.0, 1.0);
    // Independent losses come in bursts of 1 / (1 - lost) (G.107 section 7.5).
    let ratio = finite(heard.burst) * (1.0 - lost);
    let equipment = equipment(codec.ie, codec.bpl, lost, ratio, WORST_EQUIPMENT);
    let delay = SCALE * absolute_delay(heard.delay);
    Rating((BEST - equipment - delay).clamp(0.0, BEST))
}

/// `Ie,eff`: what a codec takes away at this share of losses, when these come in bursts `ratio` times as long as independent
/// ones do; `worst` when everything is lost.
fn equipment(ie: f64, bpl: f64, lost: f64, ratio: f64, worst: f64) -> f64 {
    let percent = lost * 100.0;
    // What is spread more evenly than by chance is repaired no better than that.
    let spread = percent / ratio.max(1.0);
    let effective = ie + (worst - ie) * percent / (spread + bpl);
    effective.min(worst)
}

/// `Idd`: what the delay itself takes away, on G.107's scale.
fn absolute_delay(delay: Duration) -> f64 {
    let delay = delay.as_secs_f64() * 1000.0;
    if delay <= NOTICED_MS {
        return 0.0;
    }
    let x = (delay / NOTICED_MS).log2();
    let bend = |x: f64| (1.0 + x.powi(6)).powf(1.0 / 6.0);
    25.0 * (bend(x) - 3.0 * bend(x / 3.0) + 2.0)
}

/// The mean opinion score of a rating from 0 to 100 (G.107 annex B).
pub fn mos(r: f64) -> f64 {
    match r {
        r if r >= 100.0 => 4.5,
        // Below 6.5 the polynomial falls under its value at 0.
        r if r > 0.0 => (1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6).max(1.0),
        _ => 1.0,
    }
}

/// What is no number tells nothing.
fn finite(value: f64) -> f64 {
    if value.is_finite() { value } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLEAN: Heard = Heard { delay: Duration::from_millis(80), bitrate: 32_000, lost: 0.0, burst: 0.0 };

    fn after(ms: u64) -> f64 {
        absolute_delay(Duration::from_millis(ms))
    }

    #[test]
    fn opinions_are_those_of_annex_b() {
        // Table B.1: the lower limits of R for its categories of users.
        for (r, expected) in [(90.0, 4.34), (80.0, 4.03), (70.0, 3.60), (60.0, 3.10), (50.0, 2.58)] {
            assert!((mos(r) - expected).abs() < 0.01, "{r}: {}", mos(r));
        }
        assert_eq!((mos(-3.0), mos(0.0), mos(3.0), mos(100.0), mos(148.0)), (1.0, 1.0, 1.0, 4.5, 4.5));
    }

    #[test]
    fn delay_counts_from_a_tenth_of_a_second_on() {
        assert_eq!((after(0), after(100)), (0.0, 0.0));
        // The formula of section 7.4 by hand.
        for (ms, expected) in [(150, 0.17), (200, 3.04), (300, 14.76), (400, 24.07)] {
            assert!((after(ms) - expected).abs() < 0.02, "{ms}: {}", after(ms));
        }
    }

    #[test]
    fn a_clean_call_is_good_and_a_late_or_broken_one_is_not() {
        let clean = rate(&CLEAN);
        assert!(clean.grade() == Grade::Good && clean.mos() > 4.2, "{clean:?} {}", clean.mos());
        let late = |ms| rate(&Heard { delay: Duration::from_millis(ms), ..CLEAN });
        assert_eq!(late(200).grade(), Grade::Good, "{:?}", late(200));
        assert_eq!(late(350).grade(), Grade::Fair, "{:?}", late(350));
        assert_eq!(late(600).grade(), Grade::Poor, "{:?}", late(600));
        let broken = |lost| rate(&Heard { lost, burst: 1.0, ..CLEAN });
        assert_eq!(broken(0.01).grade(), Grade::Good, "{:?}", broken(0.01));
        assert_eq!(broken(0.04).grade(), Grade::Fair, "{:?}", broken(0.04));
        assert_eq!(broken(0.15).grade(), Grade::Poor, "{:?}", broken(0.15));
        let narrow = rate(&Heard { bitrate: 12_000, ..CLEAN });
        assert_eq!(narrow.grade(), Grade::Fair, "{narrow:?}");
    }

    #[test]
    fn losses_in_a_row_are_worse_than_single_ones() {
        let bursts = |burst| rate(&Heard { lost: 0.05, burst, ..CLEAN }).r();
        assert!(bursts(4.0) < bursts(2.0) && bursts(2.0) < bursts(1.0), "{} {}", bursts(4.0), bursts(1.0));
        assert_eq!(bursts(0.5), bursts(1.0), "no better than by chance");
        // G.107 section 7.5 with G.711's values of G.113 appendix I (Ie 0, Bpl 4.3) at 5 % of independent losses.
        let effective = equipment(0.0, 4.3, 0.05, 1.0, 95.0);
        assert!((effective - 95.0 * 5.0 / 9.3).abs() < 1e-9, "{effective}");
    }

    proptest! {
        #[test]
        fn worse_conditions_never_give_a_better_rating(
            ms in 0u64..5_000, bitrate in 0u32..100_000, lost in 0.0..1.0f64, burst in 0.0..50.0f64,
        ) {
            let heard = Heard { delay: Duration::from_millis(ms), bitrate, lost, burst };
            let now = rate(&heard);
            prop_assert!((0.0..=BEST).contains(&now.r()) && (1.0..=4.5).contains(&now.mos()));
            let later = rate(&Heard { delay: heard.delay * 2, ..heard });
            prop_assert!(later <= now);
            let single = |lost| rate(&Heard { lost, burst: 1.0, ..heard });
            prop_assert!(single((lost + 0.05).min(1.0)) <= single(lost));
        }

        #[test]
        fn nonsense_does_no_harm(lost in proptest::num::f64::ANY, burst in proptest::num::f64::ANY, bitrate in any::<u32>()) {
            let rating = rate(&Heard { delay: Duration::MAX, bitrate, lost, burst });
            prop_assert!((0.0..=BEST).contains(&rating.r()), "{rating:?}");
        }
    }
}
