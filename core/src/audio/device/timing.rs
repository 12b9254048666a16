//! When a device's callbacks come, so that nothing waits for them longer than it has to: what is recorded is fetched right after a
//! callback, and what is played written shortly before one.
//!
//! The alternative, a fixed step of 10 ms, has both directions wait for half of it on average, and needs more kept ready: 15 ms
//! altogether.

use std::time::{Duration, Instant};

/// How long after a recording callback has begun its samples are surely in the ring.
const SETTLE: Duration = Duration::from_micros(400);
/// A callback that is later than this is not waited for any more: steps are fixed again.
pub(super) const OVERDUE: Duration = Duration::from_millis(8);

/// Time between callbacks for so many frames each; `None` before there has been one.
pub(super) fn period(frames: usize, rate: u32) -> Option<Duration> {
    (frames > 0 && rate > 0).then(|| Duration::from_secs(1) * frames as u32 / rate)
}

/// When the next block of a recording device will be there, whose latest callback was then, when so many samples of 48 kHz wait.
pub(super) fn next_ready(latest: Instant, period: Duration, waiting: usize, now: Instant) -> Option<Instant> {
    let missing = super::super::BLOCK_LEN.saturating_sub(waiting) as u32;
    let missing = Duration::from_secs(1) * missing / super::super::SAMPLE_RATE;
    let callbacks = missing.as_nanos().div_ceil(period.as_nanos().max(1)).clamp(1, 100) as u32;
    let at = latest + period * callbacks + SETTLE;
    (at + OVERDUE > now).then_some(at)
}

/// When callbacks come by the device's own clock: they begin late now and then, but never early.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Grid {
    at: Option<Instant>,
}

impl Grid {
    /// Takes the time of the latest callback, and answers when it should have been.
    pub(super) fn take(&mut self, latest: Instant, period: Duration) -> Instant {
        let at = self.at.map_or(latest, |at| {
            let passed = latest.saturating_duration_since(at).as_nanos() + period.as_nanos() / 2;
            let expected = at + period * (passed / period.as_nanos().max(1)).min(1_000) as u32;
            match latest.checked_duration_since(expected) {
                // The two clocks run apart: it follows slowly.
                Some(late) if late < period => expected + late / 32,
                Some(_) | None => latest,
            }
        });
        self.at = Some(at);
        at
    }
}

/// What a playing device's callbacks take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Demand {
    /// When the latest one was, by the device's clock.
    pub(super) latest: Instant,
    /// Frames that each takes.
    pub(super) frames: usize,
    /// Time between them.
    pub(super) period: Duration,
}

impl Demand {
    /// Frames that they will have taken from now on by `until`.
    pub(super) fn by(self, until: Instant) -> usize {
        let callbacks =
            until.saturating_duration_since(self.latest).as_nanos() / self.period.as_nanos().max(1);
        self.frames.saturating_mul(usize::try_from(callbacks).unwrap_or(usize::MAX))
    }

    /// When they will have taken more than so many frames.
    pub(super) fn beyond(self, filled: usize) -> Instant {
        let callbacks = filled / self.frames.max(1) + 1;
        self.latest + self.period * u32::try_from(callbacks).unwrap_or(u32::MAX)
    }
}

/// How long before a callback the thread that fills the ring wants to be done: as late as it was lately, and more each time that the ring
/// was dry all the same.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lead {
    /// Dry callbacks so far.
    dry: usize,
    steps: u32,
    /// When it was asked first. What was dry soon after does not count: a device fills its own buffer in the beginning.
    first: Option<Instant>,
    /// When it was asked last, and the longest that took more than a step, forgotten slowly.
    asked: Option<Instant>,
    late: Duration,
}

impl Lead {
    const LEAST: Duration = Duration::from_millis(2);
    const STEP: Duration = Duration::from_micros(2_500);
    const MOST: Duration = Duration::from_millis(25);
    const BEGINS: Duration = Duration::from_millis(200);
    /// Two questions are not further apart than this, if the thread is on time.
    const BETWEEN: Duration = Duration::from_millis(10);

    /// Takes the count of dry callbacks.
    pub(super) fn heed(&mut self, now: Instant, dry: usize) {
        let begun = *self.first.get_or_insert(now) + Lead::BEGINS <= now;
        if begun && self.dry < dry && self.time() < Lead::MOST {
            self.steps += 1;
        }
        self.dry = dry;
        let step =
            self.asked.replace(now).map_or(Duration::ZERO, |asked| now.saturating_duration_since(asked));
        let late = step.saturating_sub(Lead::BETWEEN);
        // Half of it is left after three seconds or so.
        self.late = late.max(self.late - self.late / 512);
    }

    /// How long it is.
    pub(super) fn time(self) -> Duration {
        (Lead::LEAST + Lead::STEP * self.steps + self.late).min(Lead::MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A playing device with callbacks of so many frames at 48 kHz, filled by a thread that is late by so many tenths of a millisecond
    /// at each of its turns. Answers how many callbacks of the last half were dry, and how long samples waited then, on average.
    fn play(frames: usize, late: impl Fn(u32) -> u32) -> (usize, f64) {
        let start = Instant::now();
        let period = period(frames, 48_000).unwrap();
        let (mut filled, mut dry, mut lead) = (frames, 0, Lead::default());
        let (mut before, mut waited, mut counted) = (0, Duration::ZERO, 0u32);
        let (mut turn, mut turns) = (start, 0);
        let callbacks = 3_000;
        for n in 0..callbacks {
            let called = start + period * n;
            let demand = |latest| Demand { latest, frames, period };
            while n > 0 && turn <= called {
                lead.heed(turn, dry);
                let latest = start + period * (n - 1);
                let wanted = demand(latest).by(turn + lead.time()).saturating_sub(filled).div_ceil(480);
                filled += wanted * 480;
                if n > callbacks / 2 && wanted > 0 {
                    waited += called - turn;
                    counted += 1;
                }
                turns += 1;
                let next = demand(latest).beyond(filled) - lead.time();
                turn = next.clamp(turn + MS / 2, turn + MS * 10) + MS * late(turns) / 10;
            }
            if n == callbacks / 2 {
                before = dry;
            }
            dry += usize::from(filled < frames);
            filled = filled.saturating_sub(frames);
        }
        (dry - before, waited.as_secs_f64() * 1_000.0 / f64::from(counted))
    }

    #[test]
    fn little_waits_for_a_thread_that_is_on_time_and_more_for_a_late_one() {
        let (dry, waited) = play(480, |_| 0);
        assert_eq!(dry, 0);
        assert!(waited <= 3.0, "{waited}");
        let (dry, late) = play(480, |turn| if turn % 10 == 0 { 90 } else { 0 });
        assert_eq!(dry, 0, "it has learned");
        assert!(late > waited && late <= 30.0, "{late}");
        // Callbacks of another size than ours, and one that takes two blocks at once.
        for frames in [240, 320, 960, 1_024] {
            let (dry, waited) = play(frames, |_| 0);
            assert_eq!(dry, 0, "{frames}");
            assert!(waited < 25.0, "{frames}: {waited}");
        }
    }

    #[test]
    fn callbacks_that_begin_late_do_not_move_the_grid_but_a_slow_clock_does() {
        let start = Instant::now();
        let (mut grid, period) = (Grid::default(), MS * 10);
        for n in 0..1_000u32 {
            // A tenth of a per cent slower, and every fifth is late by 3 ms.
            let true_time = start + Duration::from_micros(10_010) * n;
            let at = grid.take(true_time + MS * if n % 5 == 0 { 3 } else { 0 }, period);
            if n > 100 {
                let off =
                    at.saturating_duration_since(true_time).max(true_time.saturating_duration_since(at));
                assert!(off < MS * 3 / 2, "{n}: {off:?}");
            }
        }
    }

    #[test]
    fn a_block_is_fetched_after_the_callback_that_completes_it() {
        let start = Instant::now();
        let of = |frames: usize, waiting: usize| {
            let at = next_ready(start, period(frames, 48_000).unwrap(), waiting, start);
            at.map(|at| (at - start - SETTLE).as_micros())
        };
        assert_eq!(of(480, 0), Some(10_000));
        assert_eq!(of(240, 0), Some(10_000), "two callbacks make one");
        assert_eq!(of(240, 240), Some(5_000));
        assert_eq!(of(1_024, 64), Some(21_333));
        assert_eq!(next_ready(start, MS * 10, 0, start + MS * 30), None, "it has stopped");
    }
}
