//! Where on a track's time line a block belongs. Blocks come at the pace of devices, which stop and start, are
//! late and then hurry, and have clocks of their own; both tracks of a recording are to stay in step for hours.

use std::time::{Duration, Instant};

use crate::audio::BLOCK_TIME;

/// Blocks by which a track may be ahead of the time: what is more is left out.
const AHEAD: i64 = 6;
/// Blocks by which a track may be behind: the voice thread makes up for 50 at once after it was held up, those
/// that are missing longer will not come.
const BEHIND: i64 = 60;
/// Blocks that are watched until a track that was behind all the time is believed to have a gap.
const WATCHED: u32 = 100;
/// So much behind all the time is no gap.
const USUAL: i64 = 2;

/// What is to be done with a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    /// It comes next.
    Next,
    /// It comes after so many blocks of silence.
    After(u64),
    /// It is one too many.
    Nowhere,
}

/// One track's.
#[derive(Debug, Clone)]
pub(super) struct Place {
    origin: Instant,
    /// Whether the next block is the first one, or the first after silence that was written in its track's place.
    anew: bool,
    /// The least that the track was behind since it was looked at last, and how many blocks that were.
    least: i64,
    watched: u32,
}

impl Place {
    /// A track that begins at `origin`.
    pub(super) fn new(origin: Instant) -> Place {
        Place { origin, anew: true, least: i64::MAX, watched: 0 }
    }

    /// A block was heard at `at`, when the track had `blocks` blocks.
    pub(super) fn put(&mut self, at: Instant, blocks: u64) -> Put {
        let since = at.saturating_duration_since(self.origin) + BLOCK_TIME / 2;
        let due = i64::try_from(since.as_nanos() / Duration::as_nanos(&BLOCK_TIME)).unwrap_or(i64::MAX);
        let behind = due.saturating_sub(i64::try_from(blocks).unwrap_or(i64::MAX));
        if behind < -AHEAD {
            return Put::Nowhere;
        }
        let anew = std::mem::replace(&mut self.anew, false);
        let gap = if anew || behind > BEHIND { behind } else { self.watch(behind) };
        match u64::try_from(gap) {
            Ok(gap) if gap > 0 => {
                self.least = i64::MAX;
                self.watched = 0;
                Put::After(gap)
            }
            Ok(_) | Err(_) => Put::Next,
        }
    }

    /// Silence was written because nothing came.
    pub(super) fn padded(&mut self) {
        self.anew = true;
    }

    /// The blocks that are missing for good.
    fn watch(&mut self, behind: i64) -> i64 {
        self.least = self.least.min(behind);
        self.watched += 1;
        if self.watched < WATCHED {
            return 0;
        }
        let gap = if self.least > USUAL { self.least - 1 } else { 0 };
        self.least = i64::MAX;
        self.watched = 0;
        gap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Puts a block at each of these times (in blocks since the beginning), and answers where each came.
    fn placed(times: impl IntoIterator<Item = f64>) -> Vec<Option<u64>> {
        let origin = Instant::now();
        let (mut place, mut blocks) = (Place::new(origin), 0);
        let mut put = |at: f64| {
            let put = place.put(origin + BLOCK_TIME.mul_f64(at), blocks);
            let silence = match put {
                Put::Next => 0,
                Put::After(silence) => silence,
                Put::Nowhere => return None,
            };
            blocks += silence + 1;
            Some(blocks - 1)
        };
        times.into_iter().map(&mut put).collect()
    }

    #[test]
    fn blocks_that_come_on_time_or_in_bursts_follow_each_other() {
        let in_order: Vec<_> = (0..500).map(Some).collect();
        assert_eq!(placed((0..500).map(f64::from)), in_order);
        // Five at a time, and once half a second late.
        assert_eq!(
            placed((0..500).map(|n| f64::from(n / 5 * 5 + 4))),
            in_order[..500].iter().map(|at| at.map(|at| at + 4)).collect::<Vec<_>>()
        );
        let held_up = |n: i32| f64::from(if (200..250).contains(&n) { 250 } else { n });
        assert_eq!(placed((0..500).map(held_up)), in_order);
    }

    #[test]
    fn a_track_that_begins_later_begins_there() {
        assert_eq!(placed([1_234.0, 1_235.0]), [Some(1_234), Some(1_235)]);
    }

    #[test]
    fn gaps_become_silence_and_what_is_too_much_is_left_out() {
        let long = placed((0..300).map(|n| f64::from(if n < 100 { n } else { n + 400 })));
        assert_eq!(long[100], Some(500));
        // A short one is noticed when it does not go away.
        let short = placed((0..600).map(|n| f64::from(if n < 150 { n } else { n + 30 })));
        assert_eq!(short[599].unwrap().abs_diff(629), 1);
        // A clock that is a per mille too fast or too slow, for a minute.
        for pace in [0.999, 1.001] {
            let last = placed((0..60_000).map(|n| f64::from(n) * pace)).into_iter().flatten().last().unwrap();
            let due = (59_999.0 * pace) as u64;
            assert!(last.abs_diff(due) < 10, "{last} instead of {due}");
        }
    }
}
