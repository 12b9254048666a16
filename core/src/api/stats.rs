//! How a call goes, and how it went.

use super::{PathKind, RelayUse};
use offhook_proto::emodel::{Grade, Rating};
use serde::{Deserialize, Serialize};

/// How good a call is to talk in, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quality {
    /// Many people would be dissatisfied.
    Poor,
    /// Some people would be.
    Fair,
    /// People are satisfied.
    Good,
}

impl From<Grade> for Quality {
    fn from(grade: Grade) -> Quality {
        match grade {
            Grade::Poor => Quality::Poor,
            Grade::Fair => Quality::Fair,
            Grade::Good => Quality::Good,
        }
    }
}

/// An estimate of the quality by the E-model ([`offhook_proto::emodel`]).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The rating on the fullband scale, 0 to 148 (ITU-T G.107.2).
    pub r: f64,
    /// The opinion that people have on average, 1 to 4.5.
    pub mos: f64,
    /// The same in a word.
    pub quality: Quality,
}

impl From<Rating> for Estimate {
    /// With as many digits as there is meaning in.
    fn from(rating: Rating) -> Estimate {
        let tenths = |value: f64| (value * 10.0).round() / 10.0;
        let hundredths = |value: f64| (value * 100.0).round() / 100.0;
        Estimate { r: tenths(rating.r()), mos: hundredths(rating.mos()), quality: rating.grade().into() }
    }
}

/// How a call goes at the moment, as far as this end can tell; told once a second to who [follows](crate::phone::Phone::stats). Counts are
/// since the beginning. *There* is the other end, as it last reported.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CallStats {
    /// How media travel, once connected.
    pub path: Option<PathKind>,
    /// Through which relay, if through one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay: Option<RelayUse>,
    /// Round trip, milliseconds.
    pub rtt_ms: Option<f64>,
    /// RTP packets sent.
    pub packets_sent: u64,
    /// RTP packets received.
    pub packets_received: u64,
    /// RTP packets lost on the way here; negative when some came twice.
    pub packets_lost: i64,
    /// RTP packets lost on the way there; negative when some came twice.
    pub packets_lost_there: i64,
    /// Share of packets lost on the way here, 0 to 1.
    pub loss: f64,
    /// Share of packets lost on the way there, 0 to 1.
    pub loss_there: f64,
    /// How often packets were lost on the way here, a row of them counting once. The last second is not in this and the next two.
    pub bursts: u64,
    /// How many in a row on average.
    pub burst_mean: f64,
    /// How many in the longest row.
    pub burst_longest: u64,
    /// Interarrival jitter (RFC 3550, section 6.4.1), milliseconds.
    pub jitter_ms: f64,
    /// Delay of the jitter buffer, milliseconds.
    pub buffer_ms: f64,
    /// Share of played frames that were concealed, because nothing made up for their loss in time, 0 to 1.
    pub concealed: f64,
    /// Frames that were played from a copy in a later packet, because their own was lost.
    pub restored: u64,
    /// Where the copies of our frames travel at present: in which packets after them. Empty while none are sent.
    pub copies: Vec<u8>,
    /// How many of our frames of 20 ms travel in a packet at present: 1, or 2 on a narrow link. Each counts as a packet above.
    pub frames_per_packet: u32,
    /// How hard our codec tries at present, 0 to 10 (Opus' complexity): less than 9 on a machine that is too slow.
    pub complexity: u8,
    /// Bits per second of our codec at present.
    pub codec_bps: u32,
    /// Bits per second that the other end's codec seems to have, once it was heard.
    pub codec_bps_there: Option<u32>,
    /// Bits per second on the wire in the last second, sent: whole IP packets (IPv4's headers assumed), everything included.
    pub sent_bps: u64,
    /// The same of what was received.
    pub received_bps: u64,
    /// How good what was heard in the last ten seconds was; none before anything was.
    #[serde(flatten)]
    pub estimate: Option<Estimate>,
}

/// How a call went: with its end ([`Event::Ended`](super::Event::Ended)), and in the history. Without addresses or names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallSummary {
    /// How media travelled last.
    pub path: Option<PathKind>,
    /// Mean round trip, milliseconds.
    pub rtt_ms: f64,
    /// RTP packets sent.
    pub packets_sent: u64,
    /// RTP packets received.
    pub packets_received: u64,
    /// RTP packets lost on the way here; negative when some came twice.
    pub packets_lost: i64,
    /// RTP packets lost on the way there, as the other end last reported.
    pub packets_lost_there: i64,
    /// How many packets were lost in a row on average.
    pub burst_mean: f64,
    /// How many in the longest row.
    pub burst_longest: u64,
    /// Interarrival jitter at the end, milliseconds.
    pub jitter_ms: f64,
    /// Mean delay of the jitter buffer, milliseconds.
    pub buffer_ms: f64,
    /// Share of played frames that were concealed, 0 to 1.
    pub concealed: f64,
    /// Frames that were played from a copy in a later packet.
    pub restored: u64,
    /// How good it was on the whole; none if nothing was heard.
    #[serde(flatten)]
    pub estimate: Option<Estimate>,
}

/// The share of packets that were lost. Some may have come twice, which makes the count of lost ones negative.
pub(crate) fn share(lost: i64, received: u64) -> f64 {
    let lost = lost.max(0) as f64;
    let all = lost + received as f64;
    if all > 0.0 { lost / all } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_left_out_and_read_as_nothing() {
        let nothing = serde_json::to_value(CallStats::default()).unwrap();
        assert!(nothing.get("mos").is_none() && nothing.get("relay").is_none(), "{nothing}");
        assert_eq!(serde_json::from_value::<CallStats>(nothing).unwrap(), CallStats::default());
        // What an earlier version says is not all that there is.
        let earlier = r#"{"path":"direct","rtt_ms":12.5,"packets_sent":9,"concealed":0.5}"#;
        let stats: CallStats = serde_json::from_str(earlier).unwrap();
        assert_eq!((stats.path, stats.packets_sent, stats.estimate), (Some(PathKind::Direct), 9, None));
        let estimate = Estimate { r: 131.5, mos: 4.33, quality: Quality::Good };
        let stats = CallStats { estimate: Some(estimate), ..stats };
        let json = serde_json::to_value(&stats).unwrap();
        assert_eq!((json["quality"].as_str(), json["mos"].as_f64()), (Some("good"), Some(4.33)));
        assert_eq!(serde_json::from_value::<CallStats>(json).unwrap(), stats);
    }

    #[test]
    fn packets_that_come_twice_are_no_loss() {
        assert_eq!((share(-3, 100), share(0, 0), share(1, 3)), (0.0, 0.0, 0.25));
    }
}
