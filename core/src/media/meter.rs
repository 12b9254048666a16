//! What becomes of a leg's counters over time: rates, and how good it is to talk (sans-IO).
//!
//! Counters only grow. Once a second they are written down; what is told of *now* is the difference from what was written down a
//! second ago for rates, and ten seconds ago for the quality, as long as people remember what they heard. Of the whole call the
//! means of delay and codec are kept.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use offhook_proto::emodel::{self, Heard, Rating};
use offhook_proto::rate::MAX_BITRATE;

/// How often counters are written down.
const STEP: Duration = Duration::from_secs(1);
/// How many times they are looked back: ten seconds.
const STEPS: usize = 10;
/// What Opus takes before a frame can be sent: 20 ms of sound and a look-ahead of 6.5 ms (RFC 6716 section 2). What sound devices
/// keep is not known.
const CODEC_DELAY: Duration = Duration::from_micros(26_500);
/// Headers of IPv4 and UDP, which sockets do not count.
const HEADERS: u64 = 28;
/// Frames a second.
const FRAMES: u64 = 50;

/// Counters since the beginning of the leg, and what is measured at the moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sample {
    /// Bytes of UDP payload sent and received, and QUIC packets.
    pub(super) bytes: [u64; 2],
    pub(super) packets: [u64; 2],
    /// RTP packets received.
    pub(super) received: u64,
    /// Frames heard with a voice in them, and their bytes.
    pub(super) voice_frames: u64,
    pub(super) voice_bytes: u64,
    /// Frames that were due, those of them that were missing, and in how many rows.
    pub(super) frames: u64,
    pub(super) concealed: u64,
    pub(super) gaps: u64,
    /// From here to the other end and back.
    pub(super) rtt: Duration,
    /// What the jitter buffer adds.
    pub(super) buffer: Duration,
}

/// What has become of them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Reading {
    /// Bits per second on the wire, sent and received.
    pub(super) rates: [u64; 2],
    /// Bits per second that the other end's codec has, once something was heard of it.
    pub(super) remote_bitrate: Option<u32>,
    /// How good the last ten seconds were, once something was heard.
    pub(super) now: Option<Rating>,
    /// How good all of it was.
    pub(super) overall: Option<Rating>,
    /// Means of all seconds.
    pub(super) mean_rtt: Duration,
    pub(super) mean_buffer: Duration,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// The latest last.
    written: VecDeque<(Instant, Sample)>,
    /// What the other end's codec had in each second of them in which somebody spoke.
    bitrates: VecDeque<u32>,
    /// Seconds with sound, and the sums of what was measured in them.
    seconds: u32,
    rtt: Duration,
    buffer: Duration,
    bitrate: u64,
}

impl Meter {
    /// Takes what has been counted by `now`.
    pub(super) fn take(&mut self, now: Instant, sample: Sample) -> Reading {
        if self.written.back().is_none_or(|(at, _)| now.saturating_duration_since(*at) >= STEP) {
            self.write_down(now, sample);
        }
        // The last one that is a second old, or the first of all.
        let recent = self.written.iter().rev().find(|(at, _)| now.saturating_duration_since(*at) >= STEP);
        let recent = recent.or(self.written.front());
        let rates =
            recent.map_or([0; 2], |(at, before)| rates(now.saturating_duration_since(*at), before, &sample));
        let remote_bitrate = self.bitrates.iter().max().copied();
        let oldest = self.written.front().map_or(Sample::default(), |(_, before)| *before);
        let bitrate = remote_bitrate.unwrap_or(MAX_BITRATE);
        // A leg of less than a second has no older counters: all that it has is of now.
        let oldest = if self.written.len() > 1 { oldest } else { Sample::default() };
        Reading {
            rates,
            remote_bitrate,
            now: rating(&oldest, &sample, sample.rtt, sample.buffer, bitrate),
            overall: rating(
                &Sample::default(),
                &sample,
                self.mean(self.rtt).unwrap_or(sample.rtt),
                self.mean(self.buffer).unwrap_or(sample.buffer),
                u32::try_from(self.bitrate.checked_div(u64::from(self.seconds)).unwrap_or(0))
                    .ok()
                    .filter(|bitrate| *bitrate > 0)
                    .unwrap_or(bitrate),
            ),
            mean_rtt: self.mean(self.rtt).unwrap_or(sample.rtt),
            mean_buffer: self.mean(self.buffer).unwrap_or(sample.buffer),
        }
    }

    fn write_down(&mut self, now: Instant, sample: Sample) {
        if let Some((_, before)) = self.written.back() {
            let packets = sample.received.saturating_sub(before.received);
            let voice = sample.voice_frames.saturating_sub(before.voice_frames);
            let bytes = sample.voice_bytes.saturating_sub(before.voice_bytes);
            // Fewer may be a noise.
            if voice >= FRAMES / 4
                && let Some(bitrate) = (bytes * 8 * FRAMES).checked_div(voice)
            {
                self.bitrates.push_back(u32::try_from(bitrate).unwrap_or(u32::MAX));
                self.bitrates.drain(..self.bitrates.len().saturating_sub(STEPS));
            }
            if packets > 0 {
                self.seconds = self.seconds.saturating_add(1);
                self.rtt = self.rtt.saturating_add(sample.rtt);
                self.buffer = self.buffer.saturating_add(sample.buffer);
                self.bitrate += u64::from(self.bitrates.iter().max().copied().unwrap_or(MAX_BITRATE));
            }
        }
        self.written.push_back((now, sample));
        self.written.drain(..self.written.len().saturating_sub(STEPS + 1));
    }

    fn mean(&self, sum: Duration) -> Option<Duration> {
        sum.checked_div(self.seconds)
    }
}

/// The rates on the wire between two samples.
fn rates(time: Duration, before: &Sample, after: &Sample) -> [u64; 2] {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    [0, 1].map(|way| {
        let bytes = after.bytes[way].saturating_sub(before.bytes[way]);
        let packets = after.packets[way].saturating_sub(before.packets[way]);
        let bits = bytes.saturating_add(packets.saturating_mul(HEADERS)).saturating_mul(8);
        bits.saturating_mul(1000).checked_div(millis).unwrap_or(0)
    })
}

/// How good it was from one sample to another; nothing if no frame was due.
fn rating(before: &Sample, after: &Sample, rtt: Duration, buffer: Duration, bitrate: u32) -> Option<Rating> {
    // Who begins anew with a new source begins to count anew.
    let grown = |part: fn(&Sample) -> u64| part(after).saturating_sub(part(before)) as f64;
    let (frames, concealed, gaps) = (grown(|s| s.frames), grown(|s| s.concealed), grown(|s| s.gaps));
    if frames <= 0.0 {
        return None;
    }
    let delay = (rtt / 2).saturating_add(buffer).saturating_add(CODEC_DELAY);
    // A row that began before counts for what is left of it.
    let burst = if concealed > 0.0 { concealed / gaps.max(1.0) } else { 0.0 };
    Some(emodel::rate(&Heard { delay, bitrate, lost: concealed / frames, burst }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use offhook_proto::emodel::Grade;

    /// A call of so many seconds, looked at four times a second; `concealed` says how many frames of a second are missing, which come
    /// in rows of five. Answers what was read at the end of each second.
    fn call(seconds: u64, bitrate: u64, concealed: impl Fn(u64) -> u64) -> Vec<Reading> {
        let (mut meter, start) = (Meter::default(), Instant::now());
        let mut sample =
            Sample { rtt: Duration::from_millis(60), buffer: Duration::from_millis(20), ..Sample::default() };
        let mut readings = Vec::new();
        for quarter in 0..=seconds * 4 {
            let now = start + Duration::from_millis(250) * quarter as u32;
            if quarter > 0 && quarter % 4 == 0 {
                let missing = concealed(quarter / 4);
                sample.frames += 50;
                sample.concealed += missing;
                sample.gaps += missing.div_ceil(5);
                sample.received += 50 - missing;
                sample.voice_frames += 50 - missing;
                sample.voice_bytes += (50 - missing) * bitrate / 400;
                sample.bytes = sample.bytes.map(|bytes| bytes + 50 * 120);
                sample.packets = sample.packets.map(|packets| packets + 50);
            }
            let reading = meter.take(now, sample);
            if quarter > 0 && quarter % 4 == 0 {
                readings.push(reading);
            }
        }
        assert!(meter.written.len() <= STEPS + 1 && meter.bitrates.len() <= STEPS);
        readings
    }

    #[test]
    fn rates_are_those_of_the_last_second_with_all_headers() {
        let readings = call(12, 32_000, |_| 0);
        let last = readings.last().unwrap();
        assert_eq!(last.rates, [148 * 50 * 8; 2]);
        assert_eq!(last.remote_bitrate, Some(32_000));
        assert_eq!((last.mean_rtt, last.mean_buffer), (Duration::from_millis(60), Duration::from_millis(20)));
    }

    #[test]
    fn a_bad_quarter_minute_is_forgotten_in_ten_seconds_but_not_by_the_whole() {
        let readings = call(40, 32_000, |second| if second <= 15 { 15 } else { 0 });
        let grade = |second: usize| readings[second - 1].now.unwrap().grade();
        assert_eq!((grade(5), grade(15), grade(30)), (Grade::Poor, Grade::Poor, Grade::Good));
        let last = readings.last().unwrap();
        assert!(last.overall.unwrap() < last.now.unwrap(), "{last:?}");
        assert!(last.overall.unwrap() > readings[10].now.unwrap(), "{last:?}");
    }

    #[test]
    fn silence_does_not_make_the_codec_worse_and_a_narrow_link_does() {
        let (mut meter, start) = (Meter::default(), Instant::now());
        let mut sample = Sample::default();
        let mut read = |second: u32, bytes: u64, voice: u64| {
            sample.received += 50;
            sample.frames += 50;
            sample.voice_frames += voice;
            sample.voice_bytes += bytes * voice;
            meter.take(start + Duration::from_secs(1) * second, sample)
        };
        let spoken = (0..5).map(|n| read(n, 80, 50)).last().unwrap();
        let silent = (5..30).map(|n| read(n, 20, 5)).last().unwrap();
        assert_eq!((spoken.remote_bitrate, silent.remote_bitrate), (Some(32_000), Some(32_000)));
        assert_eq!(silent.now, spoken.now);
        let narrow = (30..45).map(|n| read(n, 30, 40)).last().unwrap();
        assert_eq!(narrow.remote_bitrate, Some(12_000));
        assert!(narrow.now < spoken.now && narrow.overall < spoken.overall);
    }

    #[test]
    fn of_what_was_not_heard_nothing_is_said() {
        let (mut meter, start) = (Meter::default(), Instant::now());
        for second in 0..20 {
            let reading = meter.take(start + Duration::from_secs(1) * second, Sample::default());
            assert_eq!(reading, Reading::default());
        }
    }

    #[test]
    fn counters_that_begin_anew_are_no_trouble() {
        let (mut meter, start) = (Meter::default(), Instant::now());
        let much = Sample {
            frames: 5_000,
            received: 5_000,
            voice_frames: 5_000,
            voice_bytes: 400_000,
            concealed: 900,
            gaps: 900,
            ..Sample::default()
        };
        meter.take(start, much);
        let anew =
            Sample { frames: 50, received: 50, voice_frames: 50, voice_bytes: 4_000, ..Sample::default() };
        let reading = meter.take(start + STEP, anew);
        assert_eq!(reading.now, None, "there are fewer than before");
        let later = Sample { frames: 5_100, ..anew };
        assert_eq!(meter.take(start + STEP * 2, later).now.map(Rating::grade), Some(Grade::Good));
    }
}
