//! How calls go and went, in words.

use super::{caller, duration, padded, path, reason, widest};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use offhook::api::{CallStats, CallStatus, CallSummary, EndReason, Estimate, PastCall, PathKind, Quality};
use std::fmt::Write as _;

/// A call's row of `status`: what matters most.
pub(super) fn call_line(call: &CallStatus) -> String {
    let direction = if call.outgoing { "to" } else { "from" };
    let mut line = format!("{direction} {}, {}", call.number, call.state);
    let keys = [
        (call.keys.held, "on hold"),
        (call.keys.remote_held, "put on hold by the other end"),
        (call.keys.muted, "muted"),
        (call.keys.remote_muted, "muted by the other end"),
        (call.recording, "recorded"),
        (call.remote_recording, "recorded by the other end"),
    ];
    for (_, what) in keys.into_iter().filter(|(on, _)| *on) {
        // Writing to a String can't fail.
        let _ = write!(line, ", {what}");
    }
    let stats = &call.stats;
    if let Some(by) = stats.path {
        let _ = write!(line, ", {}", path(by, stats.relay.as_ref()));
    }
    if let Some(estimate) = stats.estimate {
        let _ = write!(line, ", {}", graded(estimate));
    }
    if let Some(rtt) = stats.rtt_ms {
        let _ = write!(line, ", round trip {rtt:.0} ms");
    }
    if stats.packets_received > 0 {
        let _ = write!(line, ", loss {}", percent(stats.loss));
        if stats.restored > 0 {
            let lost = stats.packets_lost.max(1) as f64;
            let repaired = (100.0 * stats.restored as f64 / lost).min(100.0);
            let _ = write!(line, " ({repaired:.0} % of it said again in time)");
        }
        let _ = write!(line, ", jitter {:.0} ms, {}", stats.jitter_ms, rates(stats));
    }
    let _ = write!(line, " [{}]", call.call);
    line
}

/// A second of a call: all that is measured.
pub fn stats(stats: &CallStats) -> String {
    let quality = stats.estimate.map_or_else(|| "not heard yet".into(), graded);
    let by = match stats.path {
        Some(PathKind::Direct) => "direct",
        Some(PathKind::Relayed) => "relayed",
        Some(PathKind::Signalling) | None => "no path",
    };
    let over =
        stats.relay.as_ref().map_or_else(String::new, |relay| format!(" over {}", relay.over.to_uppercase()));
    let bursts = match stats.bursts {
        0 => String::new(),
        _ => format!(" in bursts of {:.1}, at most {}", stats.burst_mean, stats.burst_longest),
    };
    let copies: Vec<String> = stats.copies.iter().map(ToString::to_string).collect();
    let copies = if copies.is_empty() { "none".into() } else { format!("+{}", copies.join(" +")) };
    let shared = if stats.frames_per_packet > 1 { ", two frames a packet" } else { "" };
    let heard = stats.codec_bps_there.map_or_else(|| "-".into(), |bps| kbit(bps.into()));
    format!(
        "{quality} | {by}{over} | round trip {:.0} ms | loss here {}{bursts}, there {} | jitter {:.0} ms, buffer {:.0} ms \
         | concealed {}, restored {} | copies {copies}{shared} | codec {} out, {heard} in | {}",
        stats.rtt_ms.unwrap_or(0.0),
        percent(stats.loss),
        percent(stats.loss_there),
        stats.jitter_ms,
        stats.buffer_ms,
        percent(stats.concealed),
        stats.restored,
        kbit(stats.codec_bps.into()),
        rates(stats),
    )
}

/// How a call went, as a sentence; nothing if nothing was heard.
pub(super) fn summary(summary: &CallSummary) -> String {
    let Some(estimate) = summary.estimate else { return String::new() };
    let mut text = format!(" It sounded {}: round trip {:.0} ms", graded(estimate), summary.rtt_ms);
    let received = summary.packets_received as f64;
    let lost = summary.packets_lost.max(0) as f64;
    let _ = write!(text, ", loss {}", percent(lost / (lost + received).max(1.0)));
    let _ = write!(text, ", concealed {}.", percent(summary.concealed));
    text
}

/// Past calls as a table, in the time of this place.
pub(super) fn history(calls: &[PastCall]) -> String {
    table(calls, &TimeZone::system())
}

fn table(calls: &[PastCall], zone: &TimeZone) -> String {
    if calls.is_empty() {
        return "No calls yet.".into();
    }
    let who: Vec<String> = calls.iter().map(|call| caller(call.name.as_deref(), &call.number)).collect();
    let width = widest(&who);
    let line = |(call, who): (&PastCall, &String)| {
        let way = match (call.missed, call.outgoing) {
            (true, _) => "missed",
            (false, true) => "to",
            (false, false) => "from",
        };
        let row = format!("  {}  {way:<6}  {}  {}", when(call.started, zone), padded(who, width), how(call));
        row.trim_end().to_owned()
    };
    calls.iter().zip(&who).map(line).collect::<Vec<_>>().join("\n")
}

/// How a past call ended, and how it went.
fn how(call: &PastCall) -> String {
    let mut text = match (call.duration_ms, call.reason, call.outgoing) {
        (0, EndReason::Cancelled, false) => "the caller gave up".into(),
        (0, EndReason::Cancelled, true) => "you gave up".into(),
        (0, EndReason::NoAnswer, false) => "nobody answered".into(),
        (0, why, _) => reason(why).to_owned(),
        (ms, EndReason::HungUp, _) => duration(ms),
        (ms, why, _) => format!("{}, then {}", duration(ms), reason(why)),
    };
    if let Some(estimate) = call.summary.as_ref().and_then(|summary| summary.estimate) {
        let _ = write!(text, ", {}", graded(estimate));
    }
    text
}

/// A time on this computer's clock, to the minute.
pub fn local_time(unix_ms: u64) -> String {
    when(unix_ms, &TimeZone::system())
}

fn when(unix_ms: u64, zone: &TimeZone) -> String {
    let time = i64::try_from(unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    // The widest that a clock can tell is no date.
    time.map_or_else(
        || "????-??-?? ??:??".into(),
        |time| time.to_zoned_datetime(zone.clone()).strftime("%Y-%m-%d %H:%M").to_string(),
    )
}

fn graded(estimate: Estimate) -> String {
    let word = match estimate.quality {
        Quality::Good => "good",
        Quality::Fair => "fair",
        Quality::Poor => "poor",
    };
    format!("{word} ({:.1} of 4.5)", estimate.mos)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn kbit(bits: u64) -> String {
    format!("{:.0} kbit/s", bits as f64 / 1000.0)
}

fn rates(stats: &CallStats) -> String {
    format!("{} out, {} in on the wire", kbit(stats.sent_bps), kbit(stats.received_bps))
}

#[cfg(test)]
mod tests {
    use super::*;
    use offhook::api::CallKeys;
    use offhook::api::RelayUse;
    use offhook::proto::number::{Number, PlainNumber};

    fn number() -> Number {
        Number::Plain(PlainNumber::from_index(48_210_937_556))
    }

    fn good() -> Option<Estimate> {
        Some(Estimate { r: 131.2, mos: 4.32, quality: Quality::Good })
    }

    fn going() -> CallStats {
        CallStats {
            path: Some(PathKind::Direct),
            rtt_ms: Some(100.4),
            packets_sent: 500,
            packets_received: 450,
            packets_lost: 50,
            packets_lost_there: 10,
            loss: 0.1,
            loss_there: 0.02,
            bursts: 20,
            burst_mean: 2.5,
            burst_longest: 5,
            jitter_ms: 2.6,
            buffer_ms: 30.0,
            concealed: 0.01,
            restored: 45,
            copies: vec![1, 5],
            codec_bps: 32_000,
            codec_bps_there: Some(31_400),
            sent_bps: 81_400,
            received_bps: 47_600,
            estimate: good(),
            ..CallStats::default()
        }
    }

    #[test]
    fn q11_the_line_of_a_call_says_how_good_it_is() {
        let call = CallStatus {
            call: "c1".into(),
            number: number(),
            outgoing: true,
            state: "active".into(),
            keys: CallKeys::default(),
            recording: false,
            remote_recording: false,
            stats: going(),
        };
        assert_eq!(
            call_line(&call),
            format!(
                "to {}, active, directly, good (4.3 of 4.5), round trip 100 ms, loss 10.0 % (90 % of it said again in time), \
                 jitter 3 ms, 81 kbit/s out, 48 kbit/s in on the wire [c1]",
                number()
            )
        );
        let stats = CallStats { loss: 0.0, packets_lost: -2, restored: 0, ..going() };
        let whole = CallStatus { outgoing: false, stats, ..call.clone() };
        assert!(call_line(&whole).contains("from ") && call_line(&whole).contains("loss 0.0 %, jitter"));
        let rings = CallStatus { state: "ringing".into(), stats: CallStats::default(), ..call };
        assert_eq!(call_line(&rings), format!("to {}, ringing [c1]", number()));
        let keys = CallKeys { held: true, remote_muted: true, ..CallKeys::default() };
        let held = CallStatus { keys, ..rings.clone() };
        assert_eq!(
            call_line(&held),
            format!("to {}, ringing, on hold, muted by the other end [c1]", number())
        );
        let recorded = CallStatus { recording: true, remote_recording: true, ..rings };
        assert!(call_line(&recorded).contains(", recorded, recorded by the other end [c1]"));
    }

    #[test]
    fn q11_a_second_of_a_call_says_all_that_is_measured() {
        assert_eq!(
            stats(&going()),
            "good (4.3 of 4.5) | direct | round trip 100 ms | loss here 10.0 % in bursts of 2.5, at most 5, there 2.0 % \
             | jitter 3 ms, buffer 30 ms | concealed 1.0 %, restored 45 | copies +1 +5 | codec 32 kbit/s out, 31 kbit/s in \
             | 81 kbit/s out, 48 kbit/s in on the wire"
        );
        let relay = Some(RelayUse { through: "12D3KooW".into(), over: "tls".into() });
        let clean =
            stats(&CallStats { path: Some(PathKind::Relayed), relay, bursts: 0, copies: vec![], ..going() });
        assert!(
            clean.contains("| relayed over TLS |") && clean.contains("loss here 10.0 %, there"),
            "{clean}"
        );
        assert!(clean.contains("copies none |"), "{clean}");
        let narrow = stats(&CallStats { frames_per_packet: 2, ..going() });
        assert!(narrow.contains("copies +1 +5, two frames a packet |"), "{narrow}");
        assert!(stats(&CallStats::default()).starts_with("not heard yet | no path |"));
    }

    fn past(n: u64) -> PastCall {
        PastCall {
            call: "c".into(),
            number: number(),
            name: None,
            outgoing: n == 1,
            missed: false,
            started: n * 86_400_000,
            duration_ms: 0,
            reason: EndReason::HungUp,
            summary: None,
        }
    }

    #[test]
    fn q13_the_history_tells_when_with_whom_how_long_and_how_good() {
        let talk = CallSummary {
            path: Some(PathKind::Direct),
            rtt_ms: 52.4,
            packets_sent: 3_600,
            packets_received: 3_590,
            packets_lost: 10,
            packets_lost_there: 0,
            burst_mean: 1.0,
            burst_longest: 1,
            jitter_ms: 1.0,
            buffer_ms: 20.0,
            concealed: 0.001,
            restored: 0,
            estimate: good(),
        };
        assert_eq!(
            summary(&talk),
            " It sounded good (4.3 of 4.5): round trip 52 ms, loss 0.3 %, concealed 0.1 %."
        );
        assert_eq!(summary(&CallSummary { estimate: None, ..talk.clone() }), "");
        let calls = [
            PastCall { name: Some("Zoe".into()), duration_ms: 72_400, summary: Some(talk), ..past(1) },
            PastCall { missed: true, reason: EndReason::Cancelled, ..past(2) },
            PastCall { reason: EndReason::Declined, name: Some("e\u{1b}vil".into()), ..past(0) },
        ];
        let table = table(&calls, &TimeZone::UTC);
        let number = number().to_string();
        let lines: Vec<&str> = table.lines().collect();
        let first = format!("  1970-01-02 00:00  to      Zoe ({number})    1 min 12 s, good (4.3 of 4.5)");
        assert_eq!(lines[0], first);
        assert!(
            lines[1].starts_with("  1970-01-03 00:00  missed  ")
                && lines[1].ends_with("  the caller gave up")
        );
        assert!(
            lines[2].contains("from") && lines[2].contains("e\u{fffd}vil") && lines[2].ends_with("declined")
        );
        assert!(history(&[]).starts_with("No calls"));
        assert_eq!(when(u64::MAX, &TimeZone::UTC), "????-??-?? ??:??");
    }
}
