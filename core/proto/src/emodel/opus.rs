//! What Opus takes away on the fullband scale.
//!
//! The ITU publishes no values for Opus (G.113 has G.711 to EVS). These are M. Alahmadi, P. Počta and H. Melvin's, "An Adaptive
//! Bitrate Switching Algorithm for Speech Applications in Context of WebRTC", ACM TOMM 17(4), article 133, 2021
//! (doi:10.1145/3458751): `Ie` and `Bpl` for random loss in the variable-rate mode, which is ours. They are measured on three
//! scales, by the bandwidth that Opus chooses at the rate: narrowband to 9 kbit/s, wideband to 13, super-wideband above. Those of
//! the narrower ones are brought to the fullband scale by the differences of the scales' ends (148 - 129 = 19, as in G.113 appendix V,
//! and 148 - 93.2 = 54.8).
//!
//! Assumed: between measured rates the values lie on a line, and what was measured of single losses goes for what our own repair
//! leaves. For comparison, EVS at 32 kbit/s has 8.7 and 9.3 (G.113 appendix V), Opus at 31 here 16.8 and 10.4.

/// How a codec sounds, and how it stands losses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Codec {
    /// Equipment impairment factor without loss, on the fullband scale.
    pub ie: f64,
    /// Packet-loss robustness factor, percent.
    pub bpl: f64,
}

/// From the wideband scale to the fullband one, and from the narrowband one.
const WIDE: f64 = 19.0;
const NARROW: f64 = 54.8;

/// Bits per second, `Ie` on the fullband scale, `Bpl`; ascending.
const MEASURED: [(u32, f64, f64); 18] = [
    (6_000, 23.00 + NARROW, 24.56),
    (7_000, 21.26 + NARROW, 22.46),
    (8_000, 16.02 + NARROW, 20.26),
    (9_000, 11.74 + NARROW, 18.91),
    (11_000, 28.41 + WIDE, 23.94),
    (12_000, 23.30 + WIDE, 22.22),
    (13_000, 19.96 + WIDE, 19.50),
    (14_000, 38.06, 16.51),
    (15_000, 34.12, 15.00),
    (16_000, 30.16, 11.83),
    (19_000, 23.81, 10.67),
    (22_000, 20.22, 10.47),
    (25_000, 20.21, 11.28),
    (28_000, 18.48, 10.63),
    (31_000, 16.83, 10.44),
    (34_000, 14.76, 10.12),
    (37_000, 12.08, 10.38),
    (40_000, 10.67, 9.79),
];

/// The values at a rate, those of the nearest measured one outside of what was measured.
pub(super) fn at(bitrate: u32) -> Codec {
    let above = MEASURED.iter().position(|(rate, ..)| *rate >= bitrate).unwrap_or(MEASURED.len() - 1);
    let (high, low) = (MEASURED[above], MEASURED[above.saturating_sub(1)]);
    let between = f64::from(bitrate.saturating_sub(low.0)) / f64::from(high.0.saturating_sub(low.0).max(1));
    let share = between.clamp(0.0, 1.0);
    Codec { ie: low.1 + (high.1 - low.1) * share, bpl: low.2 + (high.2 - low.2) * share }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_the_published_ones_and_lie_on_lines_between() {
        assert_eq!(at(31_000), Codec { ie: 16.83, bpl: 10.44 });
        let between = at(32_500);
        assert!((between.ie - 15.795).abs() < 1e-9 && (between.bpl - 10.28).abs() < 1e-9, "{between:?}");
        assert_eq!(at(0), at(6_000));
        assert_eq!(at(u32::MAX), at(40_000));
        assert!((at(13_000).ie - 38.96).abs() < 1e-9);
    }

    #[test]
    fn more_bits_never_sound_worse_though_the_scales_meet() {
        assert!(MEASURED.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 >= pair[1].1));
    }
}
