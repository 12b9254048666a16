//! How calls go: for the status, for who follows it, and for the history when they are over.

use super::Engine;
use super::calls::CallView;
use super::legs::path_told;
use crate::api::{CallStats, CallSummary, Event, PathKind, RelayUse, TimedEvent, monotonic_ns, share};
use crate::media::MediaStats;
use std::time::{Duration, Instant};
use tokio::sync::broadcast;

/// How often followers are told.
const EVERY: Duration = Duration::from_secs(1);

/// How many of these events a follower may fall behind before it misses the oldest: half a minute of two calls.
const BACKLOG: usize = 64;

/// Who follows how calls go. Nothing is done while nobody does.
#[derive(Debug)]
pub(super) struct Followers {
    events: broadcast::Sender<TimedEvent>,
    due: Instant,
}

impl Followers {
    pub fn new(now: Instant) -> Self {
        Self { events: broadcast::channel(BACKLOG).0, due: now }
    }

    /// One more, who is told at once.
    pub fn follow(&mut self, now: Instant) -> broadcast::Receiver<TimedEvent> {
        self.due = now;
        self.events.subscribe()
    }
}

impl Engine {
    /// When followers are to be told next.
    pub(super) fn stats_due(&self) -> Option<Instant> {
        let wanted = self.followers.events.receiver_count() > 0;
        let any = || self.views.live().any(|(_, view)| view.leg.is_some());
        (wanted && any()).then_some(self.followers.due)
    }

    /// Tells followers, if it is time to.
    pub(super) fn tell_stats(&mut self, now: Instant) {
        if self.stats_due().is_none_or(|due| now < due) {
            return;
        }
        self.followers.due = now + EVERY;
        for (call, view) in self.views.live().filter(|(_, view)| view.leg.is_some()) {
            let event = Event::Stats { call: call.to_string(), stats: Box::new(self.stats_of(view)) };
            // An error means that the last one has just gone.
            let _ = self.followers.events.send(TimedEvent { t_ns: monotonic_ns(), event });
        }
    }

    /// How a call goes; nothing is known before it is connected.
    pub(super) fn stats_of(&self, view: &CallView) -> CallStats {
        let Some(leg) = view.leg else { return CallStats::default() };
        let stats = self.legs.stats(&leg).unwrap_or_default();
        told(&stats, self.legs.path(&leg))
    }

    /// How a call went that is over, if anything was sent or received.
    pub(super) fn summary_of(&self, view: &CallView) -> Option<CallSummary> {
        let stats = self.legs.stats(&view.leg?)?;
        (stats.packets_sent + stats.packets_received > 0).then(|| summary(&stats))
    }
}

/// What is measured, in the API's words.
fn told(stats: &MediaStats, path: Option<(PathKind, Option<RelayUse>)>) -> CallStats {
    let (path, relay) = path.unzip();
    let there = u64::try_from(stats.remote_lost).unwrap_or(0);
    CallStats {
        path,
        relay: relay.flatten(),
        rtt_ms: Some(millis(stats.rtt)),
        packets_sent: stats.packets_sent,
        packets_received: stats.packets_received,
        packets_lost: stats.packets_lost,
        packets_lost_there: stats.remote_lost,
        loss: rounded(share(stats.packets_lost, stats.packets_received)),
        loss_there: rounded(share(stats.remote_lost, stats.packets_sent.saturating_sub(there))),
        bursts: stats.bursts.count,
        burst_mean: rounded(stats.bursts.mean()),
        burst_longest: stats.bursts.longest,
        jitter_ms: millis(stats.jitter),
        buffer_ms: millis(stats.buffer_delay),
        concealed: rounded(stats.concealed),
        restored: stats.restored,
        copies: stats.plan.distances.iter().filter_map(|distance| u8::try_from(distance).ok()).collect(),
        frames_per_packet: stats.plan.frames,
        complexity: stats.plan.complexity,
        codec_bps: stats.plan.bitrate,
        codec_bps_there: stats.remote_bitrate,
        sent_bps: stats.sending,
        received_bps: stats.receiving,
        estimate: stats.rating.map(Into::into),
    }
}

fn summary(stats: &MediaStats) -> CallSummary {
    CallSummary {
        path: stats.path.carries_voice().then(|| path_told(&stats.path).0),
        rtt_ms: millis(stats.mean_rtt),
        packets_sent: stats.packets_sent,
        packets_received: stats.packets_received,
        packets_lost: stats.packets_lost,
        packets_lost_there: stats.remote_lost,
        burst_mean: rounded(stats.bursts.mean()),
        burst_longest: stats.bursts.longest,
        jitter_ms: millis(stats.jitter),
        buffer_ms: millis(stats.mean_buffer),
        concealed: rounded(stats.concealed),
        restored: stats.restored,
        estimate: stats.overall.map(Into::into),
    }
}

fn millis(time: Duration) -> f64 {
    rounded(time.as_secs_f64() * 1000.0)
}

/// To thousandths: more digits have no meaning, and some do not come back as they were from JSON.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_other_end_misses_is_a_share_of_what_was_sent() {
        let stats = MediaStats {
            packets_sent: 200,
            remote_lost: 50,
            packets_received: 90,
            packets_lost: 10,
            rtt: Duration::from_micros(12_500),
            ..MediaStats::default()
        };
        let told = told(&stats, Some((PathKind::Direct, None)));
        assert_eq!((told.loss_there, told.loss, told.rtt_ms), (0.25, 0.1, Some(12.5)));
        assert_eq!((told.path, told.estimate), (Some(PathKind::Direct), None));
        assert_eq!(summary(&stats).path, None, "nothing carried sound");
    }
}
