//! Notices within a quarter of a second that nothing comes any more while voice should.
//!
//! Networks do not tell: a NAT that has forgotten us, or a cable that was pulled at the other end, is silence. Voice
//! comes 50 times a second, muted or not, so silence is a strong sign. Sans-IO.

use std::time::{Duration, Instant};

/// Without any packet for so long, something is to be done.
const SILENCE: Duration = Duration::from_millis(250);
/// The same if packets come, but not on the path that ours take: the other end has left it. At most so long; as a rule
/// two round trips longer than silence, in which two ends agree on a path.
const ONE_SIDED: Duration = Duration::from_secs(1);
/// Pause after something was done, doubled up to the last: answers to new checks must be able to come back.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(4);

/// When packets came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heard {
    /// From anywhere that is the other end.
    pub(super) any: Instant,
    /// On the path in use.
    pub(super) on_path: Instant,
    /// The round-trip time.
    pub(super) rtt: Duration,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Watchdog {
    /// When it may bark again, and the pause after that.
    again: Option<(Instant, Duration)>,
}

impl Watchdog {
    /// Whether something should be done about the path.
    pub(super) fn barks(&mut self, now: Instant, heard: Heard) -> bool {
        if now < Watchdog::limit(heard) {
            self.again = None;
            return false;
        }
        let (at, pause) = self.again.unwrap_or((now, FIRST_PAUSE));
        if now < at {
            return false;
        }
        self.again = Some((now + pause, (pause * 2).min(LAST_PAUSE)));
        true
    }

    /// When to ask next.
    pub(super) fn due(&self, heard: Heard) -> Instant {
        self.again.map_or(Watchdog::limit(heard), |(at, _)| at)
    }

    fn limit(heard: Heard) -> Instant {
        (heard.any + SILENCE).min(heard.on_path + (SILENCE + heard.rtt * 2).min(ONE_SIDED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(100);

    /// When it barks within ten seconds, in ms, while packets come as `heard` says.
    fn barks(rtt: Duration, heard: impl Fn(Duration) -> (Duration, Duration)) -> Vec<u128> {
        let (mut dog, start) = (Watchdog::default(), Instant::now());
        let mut times = Vec::new();
        for ms in 0..10_000 {
            let now = Duration::from_millis(ms);
            let (any, on_path) = heard(now);
            let heard = Heard { any: start + any, on_path: start + on_path, rtt };
            if dog.barks(start + now, heard) {
                times.push(now.as_millis());
                assert!(dog.due(heard) > start + now);
            }
        }
        times
    }

    #[test]
    fn silence_is_noticed_after_a_quarter_of_a_second_and_then_ever_more_seldom() {
        assert_eq!(barks(RTT, |_| (Duration::ZERO, Duration::ZERO)), [250, 1_250, 3_250, 7_250]);
    }

    #[test]
    fn voice_keeps_it_quiet_and_so_does_a_short_gap() {
        assert_eq!(barks(RTT, |now| (now, now)), []);
        let gap = |now: Duration| {
            now.min(Duration::from_secs(1).max(now.saturating_sub(Duration::from_millis(240))))
        };
        assert_eq!(barks(RTT, |now| (gap(now), gap(now))), []);
    }

    #[test]
    fn packets_from_elsewhere_only_are_noticed_when_the_ends_should_agree() {
        for (rtt, first) in [(0, 250), (100, 450), (2_000, 1_000)] {
            let elsewhere = barks(Duration::from_millis(rtt), |now| (now, Duration::ZERO));
            assert_eq!(elsewhere[..2], [first, first + 1_000]);
        }
    }
}
