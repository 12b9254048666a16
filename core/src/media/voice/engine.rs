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

use offhook_proto::rtp::{self, Frame, RateLimit, Rtcp, SenderInfo, VOICE_FLOW};

use super::{Mic, Speaker};
use crate::audio::{AudioError, BLOCK_LEN, BLOCK_TIME, Block, Processor, VoiceDecoder, VoiceEncoder};
use incoming::Incoming;
use keys::Keys;
use outgoing::Outgoing;

/// How often we report what we receive. RFC 3550 section 6.2 would allow 5 s; the sender's error correction
/// should follow sooner.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// Blocks that are caught up with in one tick after the thread was held up; more are left for the next.
const MAX_CATCH_UP: usize = 50;
/// A device that has neither given nor taken a sample for this long has stalled.
const STALL: Duration = Duration::from_secs(1);

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
    pub(in crate::media) remote_loss: f32,
    pub(in crate::media) jitter: Duration,
    pub(in crate::media) buffer_delay: Duration,
    pub(in crate::media) concealed: f64,
    pub(in crate::media) restored: u64,
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
            keys: Keys::default(),
            events: VecDeque::new(),
        }
    }

    /// Takes a microphone that has been started.
    pub(super) fn set_source(&mut self, source: Mic) {
        self.outgoing.set_source(source);
    }

    /// Takes a loudspeaker whose next sample is heard at `heard`.
    pub(super) fn set_sink(&mut self, sink: Speaker, heard: Instant) {
        self.incoming.set_sink(sink, heard);
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
        self.events.extend(self.outgoing.speak(now, &mut say, self.processor.as_mut(), send));
        self.listen(now);
        // A queue on the way grows until the other end knows of it.
        let urgent = self.incoming.bottleneck.take_urgent();
        if urgent || self.report_due <= now {
            self.report_due = now + REPORT_EVERY;
            let report = self.report(now);
            send(rtp::encode_rtcp(VOICE_FLOW, &report));
        }
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
            remote_loss: self.outgoing.remote_loss,
            jitter: self.incoming.reception.jitter(),
            buffer_delay: jitter.delay,
            concealed: jitter.concealed_share(),
            restored: jitter.restored,
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
            self.keys.hear(self.held, &mut block);
            if let Some(processor) = &mut self.processor {
                processor.heard(&block);
            }
            if let Some(lost) = self.incoming.write(now, &block) {
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
        let trace = incoming.ssrc.and_then(|ssrc| incoming.reception.trace(ssrc));
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
        if let Some(block) = ours {
            let trace = report.trace.as_ref().filter(|trace| trace.ssrc == self.outgoing.ssrc);
            let limit = report.limit.filter(|limit| limit.ssrc == self.outgoing.ssrc);
            let limit = limit.map(|limit| limit.bits_per_second);
            self.outgoing.take_report(f32::from(block.fraction_lost) / 256.0, trace, limit);
        }
    }
}

/// Notices that a device has stopped working without a word.
#[derive(Default)]
struct Watch {
    idle: Duration,
    last: Option<Instant>,
}

impl Watch {
    /// Whether the device has done something by `now`. Answers for how long it had not.
    fn tick(&mut self, now: Instant, active: bool) -> Duration {
        // A thread that was late itself does not blame the device.
        let step = self.last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        self.last = Some(now);
        let idle = self.idle + step.min(BLOCK_TIME * 2);
        self.idle = if active { Duration::ZERO } else { idle };
        idle
    }
}

#[cfg(test)]
mod tests;
