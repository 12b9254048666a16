//! Prometheus text: the network's counters, and the telephone's own. Calls are told apart by their places among the present ones, not
//! by anything that would say who talks with whom.

use super::Engine;
use crate::api::{CallStats, CallSummary, EndReason, LineState, PathKind, Quality, is_missed};
use std::fmt::Write as _;
use std::time::Duration;

/// Calls that are over, since the start.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Not answered and answered: dialled here, dialled there.
    ended: [[u64; 2]; 2],
    missed: u64,
    talked: Duration,
    /// By quality: poor, fair, good.
    rated: [u64; 3],
}

impl Tally {
    /// One more is over.
    pub fn count(
        &mut self,
        outgoing: bool,
        duration: Option<Duration>,
        reason: EndReason,
        summary: Option<&CallSummary>,
    ) {
        self.ended[usize::from(!outgoing)][usize::from(duration.is_some())] += 1;
        self.missed += u64::from(duration.is_none() && is_missed(outgoing, 0, reason));
        self.talked = self.talked.saturating_add(duration.unwrap_or_default());
        if let Some(estimate) = summary.and_then(|summary| summary.estimate) {
            self.rated[estimate.quality as usize] += 1;
        }
    }
}

impl Engine {
    pub(super) fn metrics(&self) -> String {
        let calls: Vec<CallStats> = self.views.live().map(|(_, view)| self.stats_of(view)).collect();
        let mut text = Text::default();
        text.family("offhook_calls", "gauge", "Calls that have not ended");
        text.sample("offhook_calls", "", calls.len() as f64);
        text.family("offhook_online", "gauge", "Whether this telephone can be called");
        text.sample("offhook_online", "", f64::from(u8::from(self.publisher.line == LineState::Online)));
        text.tally(&self.tally);
        text.calls(&calls);
        let own = text.0;
        // OpenMetrics text ends with a marker; our own belong before it.
        let net = self.net.metrics();
        match net.strip_suffix("# EOF\n") {
            Some(body) => format!("{body}{own}# EOF\n"),
            None => format!("{net}{own}"),
        }
    }
}

/// A value that every present call has, or not.
type Of = fn(&CallStats) -> Option<f64>;

/// Name of a family, what it is, and by which labels its values are told apart.
type Family = (&'static str, &'static str, &'static [(&'static str, Of)]);

/// Gauges of the present calls.
const GAUGES: &[Family] = &[
    (
        "offhook_call_path",
        "How a present call's packets travel",
        &[
            ("path=\"direct\"", |c| on_path(c, PathKind::Direct)),
            ("path=\"relayed\"", |c| on_path(c, PathKind::Relayed)),
        ],
    ),
    ("offhook_call_round_trip_seconds", "Round trip of a present call", &[("", |c| c.rtt_ms.map(seconds))]),
    (
        "offhook_call_jitter_seconds",
        "Interarrival jitter (RFC 3550)",
        &[("", |c| Some(seconds(c.jitter_ms)))],
    ),
    ("offhook_call_buffer_seconds", "Delay of the jitter buffer", &[("", |c| Some(seconds(c.buffer_ms)))]),
    (
        "offhook_call_loss_ratio",
        "Share of packets lost on the way here and there",
        &[("way=\"here\"", |c| Some(c.loss)), ("way=\"there\"", |c| Some(c.loss_there))],
    ),
    (
        "offhook_call_burst_packets",
        "Packets lost in a row on the way here",
        &[("row=\"mean\"", |c| Some(c.burst_mean)), ("row=\"longest\"", |c| Some(c.burst_longest as f64))],
    ),
    ("offhook_call_concealed_ratio", "Share of frames that were concealed", &[("", |c| Some(c.concealed))]),
    ("offhook_call_copies", "Copies that are sent of each frame", &[("", |c| Some(c.copies.len() as f64))]),
    (
        "offhook_call_frames_per_packet",
        "Frames of 20 ms that are sent in a packet",
        &[("", |c| Some(f64::from(c.frames_per_packet)))],
    ),
    (
        "offhook_call_codec_complexity",
        "How hard the codec tries, 0 to 10",
        &[("", |c| Some(f64::from(c.complexity)))],
    ),
    (
        "offhook_call_codec_bits",
        "Bits per second of the codecs",
        &[
            ("end=\"here\"", |c| Some(f64::from(c.codec_bps))),
            ("end=\"there\"", |c| c.codec_bps_there.map(f64::from)),
        ],
    ),
    (
        "offhook_call_wire_bits",
        "Bits per second of whole IP packets",
        &[("way=\"there\"", |c| Some(c.sent_bps as f64)), ("way=\"here\"", |c| Some(c.received_bps as f64))],
    ),
    ("offhook_call_rating", "R of ITU-T G.107.2, 0 to 148", &[("", |c| c.estimate.map(|e| e.r))]),
    (
        "offhook_call_mos",
        "Mean opinion score that is estimated, 1 to 4.5",
        &[("", |c| c.estimate.map(|e| e.mos))],
    ),
];

/// Counters of the present calls, in the same form.
const COUNTERS: &[Family] = &[
    (
        "offhook_call_packets",
        "RTP packets of a present call",
        &[
            ("what=\"sent\"", |c| Some(c.packets_sent as f64)),
            ("what=\"received\"", |c| Some(c.packets_received as f64)),
            ("what=\"lost_here\"", |c| Some(c.packets_lost.max(0) as f64)),
            ("what=\"lost_there\"", |c| Some(c.packets_lost_there.max(0) as f64)),
        ],
    ),
    ("offhook_call_bursts", "Rows of lost packets", &[("", |c| Some(c.bursts as f64))]),
    ("offhook_call_restored", "Frames played from copies", &[("", |c| Some(c.restored as f64))]),
];

fn on_path(call: &CallStats, path: PathKind) -> Option<f64> {
    call.path.map(|now| f64::from(u8::from(now == path)))
}

fn seconds(millis: f64) -> f64 {
    millis / 1000.0
}

/// OpenMetrics text. All samples of a family follow its head.
#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String can't fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: f64) {
        let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn tally(&mut self, tally: &Tally) {
        self.family("offhook_calls_ended", "counter", "Calls that are over, since the start");
        for (way, ended) in ["outgoing", "incoming"].iter().zip(tally.ended) {
            for (answered, count) in ["no", "yes"].iter().zip(ended) {
                let labels = format!("direction=\"{way}\",answered=\"{answered}\"");
                self.sample("offhook_calls_ended_total", &labels, count as f64);
            }
        }
        self.family("offhook_calls_missed", "counter", "Calls that rang here and nobody took or declined");
        self.sample("offhook_calls_missed_total", "", tally.missed as f64);
        self.family("offhook_talking_seconds", "counter", "Time of calls that were answered");
        self.sample("offhook_talking_seconds_total", "", tally.talked.as_secs_f64());
        self.family(
            "offhook_calls_rated",
            "counter",
            "Answered calls by their estimated quality on the whole",
        );
        for quality in [Quality::Poor, Quality::Fair, Quality::Good] {
            let name = match quality {
                Quality::Poor => "poor",
                Quality::Fair => "fair",
                Quality::Good => "good",
            };
            let count = tally.rated[quality as usize] as f64;
            self.sample("offhook_calls_rated_total", &format!("quality=\"{name}\""), count);
        }
    }

    fn calls(&mut self, calls: &[CallStats]) {
        for (families, kind, suffix) in [(GAUGES, "gauge", ""), (COUNTERS, "counter", "_total")] {
            for (name, help, samples) in families {
                self.family(name, kind, help);
                for (place, call) in calls.iter().enumerate() {
                    for (labels, of) in *samples {
                        let comma = if labels.is_empty() { "" } else { "," };
                        if let Some(value) = of(call) {
                            let labels = format!("call=\"{place}\"{comma}{labels}");
                            self.sample(&format!("{name}{suffix}"), &labels, value);
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Estimate;

    #[test]
    fn calls_are_told_by_place_and_without_what_is_not_known() {
        let estimate = Estimate { r: 130.0, mos: 4.3, quality: Quality::Good };
        let known = CallStats {
            path: Some(PathKind::Relayed),
            rtt_ms: Some(50.0),
            copies: vec![1, 2],
            packets_lost: -3,
            estimate: Some(estimate),
            ..CallStats::default()
        };
        let mut text = Text::default();
        text.calls(&[CallStats::default(), known]);
        let has = |line: &str| text.0.lines().any(|known| known == line);
        assert!(has("offhook_call_mos{call=\"1\"} 4.3") && !text.0.contains("offhook_call_mos{call=\"0\"}"));
        assert!(has("offhook_call_round_trip_seconds{call=\"1\"} 0.05"), "{}", text.0);
        assert!(has("offhook_call_path{call=\"1\",path=\"relayed\"} 1"), "{}", text.0);
        assert!(has("offhook_call_copies{call=\"1\"} 2") && has("offhook_call_copies{call=\"0\"} 0"));
        assert!(has("offhook_call_packets_total{call=\"1\",what=\"lost_here\"} 0"));
        // A family's head stands once, before all of its samples.
        let heads = text.0.lines().filter(|line| line.starts_with("# TYPE")).count();
        assert_eq!(heads, GAUGES.len() + COUNTERS.len());
    }

    #[test]
    fn ended_calls_are_counted_by_how_they_ended() {
        let mut tally = Tally::default();
        let minute = Some(Duration::from_secs(60));
        tally.count(true, minute, EndReason::HungUp, None);
        tally.count(false, None, EndReason::Cancelled, None);
        tally.count(false, None, EndReason::Declined, None);
        let mut text = Text::default();
        text.tally(&tally);
        for line in [
            "offhook_calls_ended_total{direction=\"outgoing\",answered=\"yes\"} 1",
            "offhook_calls_ended_total{direction=\"incoming\",answered=\"no\"} 2",
            "offhook_calls_missed_total 1",
            "offhook_talking_seconds_total 60",
            "offhook_calls_rated_total{quality=\"good\"} 0",
        ] {
            assert!(text.0.lines().any(|known| known == line), "{line}: {}", text.0);
        }
    }
}
