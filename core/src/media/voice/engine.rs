//! The voice of one call as a machine: no thread, no socket, no clock. Each [`VoiceEngine::tick`] takes what
//! the microphone has, sends what is complete, and gives the loudspeaker what it wants.
//!
//! Devices may come later than the call and may be replaced. Without a microphone nothing is sent; what arrives
//! before the loudspeaker waits in the jitter buffer. A device that fails is given back, and silence takes its place
//! to keep time; so is one that has stalled without a word.

mod incoming;
mod keys;
mod outgoing;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use offhook_proto::rate::Plan;
use offhook_proto::rtp::{self, Frame, LossBursts, RateLimit, Rtcp, SenderInfo, VOICE_FLOW};

use super::{Mic, Speaker};
use crate::audio::{
    AudioError, BLOCK_LEN, BLOCK_TIME, Block, Level, Meter, Processing, Processor, VoiceDecoder, VoiceEncoder,
};
use crate::recording::Tap;
use incoming::Incoming;
use keys::Keys;
use outgoing::Outgoing;

/// How often we report what we receive. RFC 3550 section 6.2 would allow 5 s; the sender's error correction
/// should follow sooner.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// The same where voice has to be thrifty: on a narrow link each report makes a packet of voice late.
const RARE_REPORT_EVERY: Duration = Duration::from_secs(3);
/// Blocks that are caught up with in one tick after the thread was held up; more are left for the next.
const MAX_CATCH_UP: usize = 50;
/// A device that has neither given nor taken a sample for this long has stalled.
///
/// With opening another one it is to be a second at most until there is sound again; devices that work are never silent for a
/// fifth of it.
const STALL: Duration = Duration::from_millis(600);
/// The same of one that has done nothing yet: some have to wake up.
const WAKE_UP: Duration = Duration::from_millis(1_500);
/// In which sound begins and ends where the voice is not there before or after, or comes of another device: 5 ms.
const RAMP: usize = BLOCK_LEN / 2;

/// What the engine reports.
pub(super) enum EngineEvent {
    /// The first sound of the other end is heard at this time.
    FirstAudio(Instant),
    /// The microphone does not work any more; silence is sent.
    SourceLost(AudioError, Mic),
    /// The loudspeaker does not work any more.
    SinkLost(AudioError, Speaker),
}

/// What the engine counts.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::media) struct VoiceStats {
    pub(in crate::media) sent: u64,
    pub(in crate::media) received: u64,
    pub(in crate::media) lost: i64,
    pub(in crate::media) bursts: LossBursts,
    pub(in crate::media) remote_loss: f32,
    /// How many of ours the other end has missed in all.
    pub(in crate::media) remote_lost: i32,
    pub(in crate::media) jitter: Duration,
    pub(in crate::media) buffer_delay: Duration,
    pub(in crate::media) concealed: f64,
    pub(in crate::media) restored: u64,
    /// Frames that were due, those of them that were concealed, and in how many rows.
    pub(in crate::media) frames: u64,
    pub(in crate::media) frames_concealed: u64,
    pub(in crate::media) gaps: u64,
    /// Frames heard that were loud enough to be a voice, and their bytes.
    pub(in crate::media) voice_frames: u64,
    pub(in crate::media) voice_bytes: u64,
    /// What is done with our own frames at present.
    pub(in crate::media) plan: Plan,
}

/// Both halves of the codec, which may be made before the call is answered.
pub(super) struct Codec {
    encoder: VoiceEncoder,
    decoder: VoiceDecoder,
}

impl Codec {
    pub(super) fn new() -> Result<Codec, AudioError> {
        Ok(Codec { encoder: VoiceEncoder::new()?, decoder: VoiceDecoder::new()? })
    }
}

/// What an engine needs to begin.
pub(super) struct Start {
    pub(super) codec: Codec,
    /// What works on the microphone's sound.
    pub(super) processor: Option<Processor>,
    pub(super) now: Instant,
    /// Wall clock at `now`, 32.32 fixed point seconds since 1900 (RFC 3550 section 4).
    pub(super) ntp: u64,
    /// For the stream's identifiers, which must be hard to guess (RFC 3550 section 5.1).
    pub(super) seed: u64,
}

/// See the module's documentation.
pub(super) struct VoiceEngine {
    outgoing: Outgoing,
    incoming: Incoming,
    processor: Option<Processor>,
    started: Instant,
    /// NTP time at `started`.
    ntp: u64,
    report_due: Instant,
    /// Whether our own voice is replaced by silence.
    pub(super) muted: bool,
    /// Whether the call is on hold: the other end hears music, and we hear nothing of it.
    pub(super) held: bool,
    /// Where both voices are recorded.
    pub(super) tap: Option<Tap>,
    keys: Keys,
    events: VecDeque<EngineEvent>,
}

impl VoiceEngine {
    /// An engine that has no devices yet.
    pub(super) fn start(start: Start) -> VoiceEngine {
        let Codec { encoder, decoder } = start.codec;
        VoiceEngine {
            outgoing: Outgoing::new(encoder, start.seed),
            incoming: Incoming::new(decoder, start.now),
            processor: start.processor,
            started: start.now,
            ntp: start.ntp,
            report_due: start.now + REPORT_EVERY,
            muted: false,
            held: false,
            tap: None,
            keys: Keys::default(),
            events: VecDeque::new(),
        }
    }

    /// Takes a microphone that has been started.
    pub(super) fn set_source(&mut self, source: Mic) {
        self.outgoing.set_source(source);
        self.forget_room();
    }

    /// Goes on with another microphone; gives the one before back.
    pub(super) fn change_source(&mut self, source: Mic) -> Option<Mic> {
        self.outgoing.set_source(source)
    }

    /// Goes on with another loudspeaker, whose next sample is heard at `heard`; gives the one before back.
    pub(super) fn change_sink(&mut self, sink: Speaker, heard: Instant) -> Option<Speaker> {
        self.incoming.change_sink(sink, heard)
    }

    /// Works on the microphone's sound as `wanted` from now on.
    pub(super) fn set_processing(&mut self, wanted: Processing) {
        if wanted == Processing::NONE {
            self.processor = None;
        } else if self.processor.is_none() {
            self.processor = Processor::new(wanted);
        }
    }

    /// Measures how loud microphone and loudspeaker are, or not any more.
    pub(super) fn measure(&mut self, on: bool) {
        if on != self.incoming.meter.is_some() {
            self.outgoing.meter = on.then(Meter::default);
            self.incoming.meter = on.then(Meter::default);
            (self.outgoing.level, self.incoming.level) = (None, None);
        }
    }

    /// How loud both are, each tenth of a second while that is measured.
    pub(super) fn poll_levels(&mut self) -> Option<(Level, Level)> {
        // The loudspeaker always runs. A microphone that gives nothing is silent.
        let speaker = self.incoming.level.take()?;
        Some((self.outgoing.level.take().unwrap_or(Level::SILENCE), speaker))
    }

    /// Takes a loudspeaker whose next sample is heard at `heard`.
    pub(super) fn set_sink(&mut self, sink: Speaker, heard: Instant) {
        self.incoming.set_sink(sink, heard);
        self.forget_room();
    }

    fn forget_room(&mut self) {
        if let Some(processor) = &mut self.processor {
            processor.forget_room();
        }
    }

    /// Gives the devices back.
    pub(super) fn take_devices(&mut self) -> (Option<Mic>, Option<Speaker>) {
        (self.outgoing.source.take(), self.incoming.sink.take())
    }

    /// Takes a media datagram that arrived at `at`. Whatever is wrong with it, it is only dropped.
    pub(super) fn receive(&mut self, at: Instant, datagram: &[u8]) {
        match rtp::decode(datagram) {
            Ok((VOICE_FLOW, Frame::Rtp(packet))) => {
                self.incoming.receive(at, self.started, &packet);
            }
            Ok((VOICE_FLOW, Frame::Short(packet))) => {
                self.incoming.receive_short(at, self.started, &packet);
            }
            Ok((VOICE_FLOW, Frame::Rtcp(reports))) => {
                reports.iter().for_each(|report| self.take_report(at, report));
            }
            // Other flows belong to media that this version does not know.
            Ok(_) | Err(_) => {}
        }
    }

    /// Does all that is due at `now`; datagrams to be sent go to `send`.
    pub(super) fn tick(&mut self, now: Instant, send: &mut dyn FnMut(Vec<u8>)) {
        let keys = &mut self.keys;
        let mut say = |block: &mut Block| keys.say(self.muted, self.held, block);
        self.events.extend(self.outgoing.speak(
            now,
            &mut say,
            self.processor.as_mut(),
            self.tap.as_mut(),
            send,
        ));
        self.listen(now);
        // A queue on the way grows until the other end knows of it, and what gets lost is missed.
        let urgent = self.incoming.bottleneck.take_urgent() || self.incoming.reception.has_news();
        if urgent || self.report_due <= now {
            let narrow = self.outgoing.plan().frames > 1;
            self.report_due = now + if narrow { RARE_REPORT_EVERY } else { REPORT_EVERY };
            let report = self.report(now);
            send(rtp::encode_rtcp(VOICE_FLOW, &report));
        }
    }

    /// When the devices will next have or want something, if both know that; otherwise every 10 ms.
    pub(super) fn next_tick(&self, now: Instant) -> Option<Instant> {
        let ready = self.outgoing.source.as_ref()?.next_ready(now)?;
        let wanted = self.incoming.sink.as_ref()?.next_wanted(now)?;
        Some(ready.min(wanted))
    }

    /// Takes the share of a processor that the last second's ticks took.
    pub(super) fn take_load(&mut self, share: f32) {
        self.outgoing.take_load(share);
    }

    /// What has happened since the last call.
    pub(super) fn poll_event(&mut self) -> Option<EngineEvent> {
        self.events.pop_front()
    }

    /// What has been counted.
    pub(super) fn stats(&self) -> VoiceStats {
        let jitter = self.incoming.jitter.stats();
        VoiceStats {
            sent: self.outgoing.packets,
            received: self.incoming.reception.received(),
            lost: self.incoming.reception.lost(),
            bursts: self.incoming.reception.bursts(),
            remote_loss: self.outgoing.remote_loss,
            remote_lost: self.outgoing.remote_lost,
            jitter: self.incoming.reception.jitter(),
            buffer_delay: jitter.delay,
            concealed: jitter.concealed_share(),
            restored: jitter.restored,
            frames: jitter.frames(),
            frames_concealed: jitter.concealed,
            gaps: jitter.gaps,
            voice_frames: self.incoming.voice_frames,
            voice_bytes: self.incoming.voice_bytes,
            plan: self.outgoing.plan(),
        }
    }

    fn listen(&mut self, now: Instant) {
        let mut block: Block = [0.0; BLOCK_LEN];
        let wanted = self.incoming.wanted(now);
        for behind in (0..wanted).rev() {
            // When the thread is late it makes up for several blocks at once. Each is given the time at which it
            // was due, or the buffer would believe that the network had become slow.
            let due = now.checked_sub(BLOCK_TIME * behind).unwrap_or(now);
            let first = self.incoming.next_block(due, &mut block);
            self.events.extend(first.map(EngineEvent::FirstAudio));
            if let Some(tap) = &mut self.tap {
                let silence = [0.0; BLOCK_LEN];
                tap.other(due, if self.held { &silence } else { &block });
            }
            self.keys.hear(self.held, &mut block);
            if let Some(processor) = &mut self.processor {
                processor.heard(&block);
            }
            if let Some(lost) = self.incoming.write(now, &mut block) {
                self.events.push_back(lost);
                return;
            }
        }
        self.events.extend(self.incoming.check(now, wanted > 0));
    }

    fn report(&mut self, now: Instant) -> Rtcp {
        let elapsed = now.saturating_duration_since(self.started);
        let ntp = self.ntp.wrapping_add(((elapsed.as_nanos() << 32) / 1_000_000_000) as u64);
        let sender = SenderInfo {
            ntp,
            rtp_timestamp: self.outgoing.timestamp,
            packets: self.outgoing.packets as u32,
            bytes: self.outgoing.bytes as u32,
        };
        let incoming = &mut self.incoming;
        let last = incoming.last_report.map(|(ntp, at)| (ntp, now.saturating_duration_since(at)));
        let blocks = incoming.ssrc.map(|ssrc| incoming.reception.report(ssrc, last)).into_iter().collect();
        let before = incoming.reception.bursts().lost;
        let trace = incoming.ssrc.and_then(|ssrc| incoming.reception.trace(ssrc));
        if incoming.reception.bursts().lost > before {
            self.outgoing.suspect();
        }
        let limit = incoming
            .ssrc
            .zip(incoming.bottleneck.limit())
            .map(|(ssrc, bits_per_second)| RateLimit { ssrc, bits_per_second });
        Rtcp { ssrc: self.outgoing.ssrc, sender: Some(sender), blocks, trace, limit }
    }

    fn take_report(&mut self, at: Instant, report: &Rtcp) {
        if let Some(sender) = &report.sender {
            self.incoming.last_report = Some((sender.ntp, at));
        }
        let ours = report.blocks.iter().find(|block| block.ssrc == self.outgoing.ssrc);
        // Those that only keep a path open tell of nothing.
        if report.sender.is_some() {
            self.outgoing.reported(ours.is_some());
        }
        if let Some(block) = ours {
            let trace = report.trace.as_ref().filter(|trace| trace.ssrc == self.outgoing.ssrc);
            let limit = report.limit.filter(|limit| limit.ssrc == self.outgoing.ssrc);
            let limit = limit.map(|limit| limit.bits_per_second);
            self.outgoing.remote_lost = block.cumulative_lost;
            self.outgoing.take_report(f32::from(block.fraction_lost) / 256.0, trace, limit);
        }
    }
}

/// Notices that a device has stopped working without a word.
#[derive(Default)]
struct Watch {
    idle: Duration,
    last: Option<Instant>,
    /// Whether it has ever done something.
    awake: bool,
}

impl Watch {
    /// Whether the device has done something by `now`. Answers for how long it had not.
    fn tick(&mut self, now: Instant, active: bool) -> Duration {
        // A thread that was late itself does not blame the device.
        let step = self.last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        self.last = Some(now);
        let idle = self.idle + step.min(BLOCK_TIME * 2);
        self.idle = if active { Duration::ZERO } else { idle };
        self.awake |= active;
        idle
    }

    /// Whether a device that has done nothing for this long has stalled.
    fn has_stalled(&self, idle: Duration) -> bool {
        idle >= if self.awake { STALL } else { WAKE_UP }
    }
}

#[cfg(test)]
mod tests;
