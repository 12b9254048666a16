//! Whether a call may be recorded: what the two ends say to each other about it.
//!
//! Whoever wants to record asks, and records only when the other end has said that it may: an end that does not
//! know these messages never says so. The other end may refuse at any time. Each direction is for itself: both may
//! record. This is good manners, not a lock: whoever hears somebody can keep what is heard.
//!
//! ```text
//!           record                 allowed
//!   Off ------------> Asked(until) ---------> On
//!    ^  <-------------- |  refused, time-out   |
//!    |                     stopped             |  refused, stopped, it ended by itself
//!    +-----------------------------------------+
//! ```
//!
//! [`Consent`] has no clock: [`Consent::record`] and [`Consent::handle_timeout`] are told the time. Everything else
//! may come in any order. Each input answers what is to be done, in order.

use std::time::{Duration, Instant};

use crate::signalling::RecordingState;

/// How long the other end may take to answer. It does so by itself, and a lost message is repeated within 2 s.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);

/// Why a recording of ours is over, or did not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// The user wanted no more.
    Stopped,
    /// The other end refused.
    Refused,
    /// The other end said nothing: it may not know what was asked.
    Unanswered,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Tell the other end.
    Send(RecordingState),
    /// Begin to record.
    Start,
    /// End the recording that was begun.
    Stop(Halt),
    /// What was asked for did not begin.
    Fail(Halt),
    /// Tell the user whether the other end records.
    Told(bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ours {
    Off,
    Asked(Instant),
    On,
}

/// What is agreed in one call. See the module's documentation.
#[derive(Clone, Debug)]
pub struct Consent {
    /// Whether the other end may record.
    may: bool,
    ours: Ours,
    /// Whether the other end records, as far as it says.
    theirs: bool,
}

impl Consent {
    /// Nobody records. `may`: the user is willing to be recorded.
    #[must_use]
    pub fn new(may: bool) -> Self {
        Self { may, ours: Ours::Off, theirs: false }
    }

    /// Whether the user is willing to be recorded.
    #[must_use]
    pub fn is_willing(&self) -> bool {
        self.may
    }

    /// Whether the other end records.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.theirs
    }

    /// Whether this end may record now: it has asked, and the other end has allowed it.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.ours == Ours::On
    }

    /// The user wants to record.
    pub fn record(&mut self, now: Instant) -> Vec<Act> {
        match self.ours {
            Ours::Off => {
                self.ours = Ours::Asked(now + ANSWER_TIMEOUT);
                vec![Act::Send(RecordingState::Wanted)]
            }
            Ours::Asked(_) | Ours::On => Vec::new(),
        }
    }

    /// The user wants to record no more.
    pub fn stop(&mut self) -> Vec<Act> {
        self.halt(Halt::Stopped)
    }

    /// The recording has ended by itself: the disk is full, say.
    pub fn ended(&mut self) -> Vec<Act> {
        match std::mem::replace(&mut self.ours, Ours::Off) {
            Ours::On => vec![Act::Send(RecordingState::Off)],
            // Another one has been asked for since.
            Ours::Asked(until) => {
                self.ours = Ours::Asked(until);
                Vec::new()
            }
            Ours::Off => Vec::new(),
        }
    }

    /// The user is willing to be recorded, or not.
    pub fn allow(&mut self, may: bool) -> Vec<Act> {
        self.may = may;
        // That it has ended is told when the other end says so.
        if !may && self.theirs { vec![Act::Send(RecordingState::Refused)] } else { Vec::new() }
    }

    /// The other end has said this.
    pub fn heard(&mut self, state: RecordingState) -> Vec<Act> {
        match state {
            RecordingState::Wanted if self.may => {
                let mut acts = vec![Act::Send(RecordingState::Allowed)];
                acts.extend(self.set_theirs(true));
                acts
            }
            RecordingState::Wanted => vec![Act::Send(RecordingState::Refused)],
            RecordingState::Off => self.set_theirs(false).into_iter().collect(),
            RecordingState::Allowed => match self.ours {
                Ours::Asked(_) => {
                    self.ours = Ours::On;
                    vec![Act::Start]
                }
                // Nobody asked, or not any more.
                Ours::Off | Ours::On => Vec::new(),
            },
            RecordingState::Refused => self.halt(Halt::Refused),
            RecordingState::Other(_) => Vec::new(),
        }
    }

    /// When [`Consent::handle_timeout`] is to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.ours {
            Ours::Asked(until) => Some(until),
            Ours::Off | Ours::On => None,
        }
    }

    /// It is `now`.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<Act> {
        match self.ours {
            Ours::Asked(until) if until <= now => self.halt(Halt::Unanswered),
            Ours::Asked(_) | Ours::Off | Ours::On => Vec::new(),
        }
    }

    fn halt(&mut self, why: Halt) -> Vec<Act> {
        match std::mem::replace(&mut self.ours, Ours::Off) {
            Ours::Off => Vec::new(),
            // The other end may believe that it is recorded.
            Ours::Asked(_) => vec![Act::Send(RecordingState::Off), Act::Fail(why)],
            Ours::On => vec![Act::Stop(why), Act::Send(RecordingState::Off)],
        }
    }

    fn set_theirs(&mut self, on: bool) -> Option<Act> {
        (std::mem::replace(&mut self.theirs, on) != on).then_some(Act::Told(on))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "the virtual clock has to begin somewhere")]

    use super::*;
    use proptest::prelude::*;

    /// Two ends, and what each was told to do; messages arrive at once.
    struct Pair {
        ends: [Consent; 2],
        done: [Vec<Act>; 2],
    }

    impl Pair {
        fn new(may: [bool; 2]) -> Self {
            Self { ends: may.map(Consent::new), done: [Vec::new(), Vec::new()] }
        }

        fn act(&mut self, at: usize, input: impl FnOnce(&mut Consent) -> Vec<Act>) {
            let acts = input(&mut self.ends[at]);
            self.carry_out(at, acts);
        }

        fn carry_out(&mut self, at: usize, acts: Vec<Act>) {
            for act in acts {
                match act {
                    Act::Send(state) => {
                        let answers = self.ends[1 - at].heard(state);
                        self.carry_out(1 - at, answers);
                    }
                    Act::Start | Act::Stop(_) | Act::Fail(_) | Act::Told(_) => self.done[at].push(act),
                }
            }
        }
    }

    #[test]
    fn it_begins_when_the_other_end_allows_it_and_both_know_when_it_ends() {
        let now = Instant::now();
        let mut pair = Pair::new([true, true]);
        pair.act(0, |end| end.record(now));
        pair.act(0, |end| end.record(now));
        assert_eq!(pair.done, [vec![Act::Start], vec![Act::Told(true)]]);
        assert!(pair.ends[1].is_recorded() && pair.ends[0].poll_timeout().is_none());
        pair.act(0, Consent::stop);
        assert_eq!(pair.done[0].last(), Some(&Act::Stop(Halt::Stopped)));
        assert_eq!(pair.done[1].last(), Some(&Act::Told(false)));
        // And what ends by itself is told, too.
        pair.act(0, |end| end.record(now));
        pair.act(0, Consent::ended);
        assert_eq!(pair.done[1][2..], [Act::Told(true), Act::Told(false)]);
    }

    #[test]
    fn who_refuses_is_not_recorded_and_may_do_so_at_any_time() {
        let now = Instant::now();
        let mut pair = Pair::new([true, false]);
        pair.act(0, |end| end.record(now));
        assert_eq!(pair.done, [vec![Act::Fail(Halt::Refused)], vec![]]);
        pair.act(1, |end| end.allow(true));
        pair.act(0, |end| end.record(now));
        pair.act(1, |end| end.allow(false));
        assert_eq!(pair.done[0][1..], [Act::Start, Act::Stop(Halt::Refused)]);
        assert_eq!(pair.done[1], [Act::Told(true), Act::Told(false)]);
        pair.act(0, |end| end.record(now));
        assert_eq!(pair.done[0].last(), Some(&Act::Fail(Halt::Refused)), "as long as it is not taken back");
    }

    #[test]
    fn an_end_that_does_not_answer_is_not_recorded() {
        let now = Instant::now();
        let mut consent = Consent::new(true);
        assert_eq!(consent.record(now), [Act::Send(RecordingState::Wanted)]);
        assert_eq!(consent.poll_timeout(), Some(now + ANSWER_TIMEOUT));
        assert_eq!(consent.handle_timeout(now), []);
        let acts = consent.handle_timeout(now + ANSWER_TIMEOUT);
        assert_eq!(acts, [Act::Send(RecordingState::Off), Act::Fail(Halt::Unanswered)]);
        assert_eq!(consent.heard(RecordingState::Allowed), [], "too late");
        assert_eq!(consent.heard(RecordingState::Other(7)), []);
    }

    proptest! {
        /// Whatever the two ends do in whatever order: nobody records who was not told that it may, or was refused since.
        #[test]
        fn nobody_is_recorded_who_has_refused(inputs in prop::collection::vec((0..2usize, 0..5u8), 0..60)) {
            let now = Instant::now();
            let mut pair = Pair::new([true, true]);
            for (at, input) in inputs {
                pair.act(at, |end| match input {
                    0 => end.record(now),
                    1 => end.stop(),
                    2 => end.allow(true),
                    3 => end.allow(false),
                    _ => end.ended(),
                });
                for n in 0..2 {
                    let records = pair.ends[n].ours == Ours::On;
                    prop_assert_eq!(records, pair.ends[1 - n].is_recorded());
                    prop_assert!(!records || pair.ends[1 - n].may);
                    let count = |wanted: fn(&&Act) -> bool| pair.done[n].iter().filter(wanted).count();
                    let begun = count(|act| matches!(act, Act::Start));
                    let over = count(|act| matches!(act, Act::Stop(_)));
                    prop_assert!(begun >= over);
                }
            }
        }
    }
}
