//! The voice of one call as a machine: no thread, no socket, no clock. Each [`VoiceEngine::tick`] takes what
//! the microphone has, sends what is complete, and gives the loudspeaker what it wants.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use offhook_proto::jitter::{JitterBuffer, JitterConfig, Playout};
use offhook_proto::rtp::{
    self, Frame, OPUS_CLOCK_HZ, OPUS_PAYLOAD_TYPE, Reception, Rtcp, RtpPacket, SenderInfo, VOICE_FLOW,
};

use crate::audio::{
    AudioError, AudioSink, AudioSource, BLOCK_LEN, BLOCK_TIME, Block, FRAME, Nothing, VoiceDecoder,
    VoiceEncoder,
};

/// How often we report what we receive. RFC 3550 section 6.2 would allow 5 s; the sender's error correction
/// should follow sooner.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// Blocks that are caught up with in one tick after the thread was held up; more are left for the next.
const MAX_CATCH_UP: usize = 50;

/// What the engine reports.
#[derive(Debug, PartialEq)]
pub(super) enum EngineEvent {
    /// The first sound of the other end is heard at this time.
    FirstAudio(Instant),
    /// The microphone does not work any more; silence is sent.
    SourceLost(AudioError),
    /// The loudspeaker does not work any more.
    SinkLost(AudioError),
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
}

/// See the module's documentation.
pub(super) struct VoiceEngine {
    outgoing: Outgoing,
    incoming: Incoming,
    started: Instant,
    /// NTP time at `started`.
    ntp: u64,
    report_due: Instant,
    /// Whether our own voice is replaced by silence.
    pub(super) muted: bool,
    /// Whether neither side is passed on.
    pub(super) held: bool,
    events: VecDeque<EngineEvent>,
}

struct Outgoing {
    source: Box<dyn AudioSource>,
    encoder: VoiceEncoder,
    frame: [f32; FRAME],
    filled: usize,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
    packets: u64,
    bytes: u64,
    remote_loss: f32,
}

struct Incoming {
    sink: Box<dyn AudioSink>,
    decoder: VoiceDecoder,
    jitter: JitterBuffer,
    reception: Reception,
    /// The source that is heard; another one starts everything anew.
    ssrc: Option<u32>,
    last_report: Option<(u64, Instant)>,
    frame: [f32; FRAME],
    /// Samples of `frame` that were played.
    played: usize,
    /// When the next block will be heard.
    next_heard: Instant,
    heard: bool,
}

/// What an engine needs to begin.
pub(super) struct Start {
    pub(super) source: Box<dyn AudioSource>,
    pub(super) sink: Box<dyn AudioSink>,
    pub(super) now: Instant,
    /// Wall clock at `now`, 32.32 fixed point seconds since 1900 (RFC 3550 section 4).
    pub(super) ntp: u64,
    /// For the stream's identifiers, which must be hard to guess (RFC 3550 section 5.1).
    pub(super) seed: u64,
}

impl VoiceEngine {
    /// Starts source and sink. Also returns when their first samples are spoken and heard.
    pub(super) fn start(mut start: Start) -> Result<(VoiceEngine, Instant, Instant), AudioError> {
        let spoken = start.source.start(start.now)?;
        let heard = start.sink.start(start.now)?;
        let engine = VoiceEngine {
            outgoing: Outgoing {
                source: start.source,
                encoder: VoiceEncoder::new()?,
                frame: [0.0; FRAME],
                filled: 0,
                sequence: start.seed as u16,
                timestamp: (start.seed >> 16) as u32,
                ssrc: (start.seed >> 32) as u32,
                packets: 0,
                bytes: 0,
                remote_loss: 0.0,
            },
            incoming: Incoming {
                sink: start.sink,
                decoder: VoiceDecoder::new()?,
                jitter: JitterBuffer::new(JitterConfig::default()),
                reception: Reception::new(OPUS_CLOCK_HZ),
                ssrc: None,
                last_report: None,
                frame: [0.0; FRAME],
                played: FRAME,
                next_heard: heard,
                heard: false,
            },
            started: start.now,
            ntp: start.ntp,
            report_due: start.now + REPORT_EVERY,
            muted: false,
            held: false,
            events: VecDeque::new(),
        };
        Ok((engine, spoken, heard))
    }

    /// When it was started.
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// Takes a media datagram that arrived at `at`. Whatever is wrong with it, it is only dropped.
    pub(super) fn receive(&mut self, at: Instant, datagram: &[u8]) {
        match rtp::decode(datagram) {
            Ok((VOICE_FLOW, Frame::Rtp(packet))) if packet.payload_type == OPUS_PAYLOAD_TYPE => {
                self.incoming.receive(at, self.started, &packet);
            }
            Ok((VOICE_FLOW, Frame::Rtcp(reports))) => {
                reports.iter().for_each(|report| self.take_report(at, report));
            }
            // Other flows and payloads belong to media that this version does not know.
            Ok(_) | Err(_) => {}
        }
    }

    /// Does all that is due at `now`; datagrams to be sent go to `send`.
    pub(super) fn tick(&mut self, now: Instant, send: &mut dyn FnMut(Vec<u8>)) {
        self.speak(now, send);
        self.listen(now);
        if self.report_due <= now {
            self.report_due = now + REPORT_EVERY;
            let report = self.report(now);
            send(rtp::encode_rtcp(VOICE_FLOW, &report));
        }
    }

    /// What has happened since the last call.
    pub(super) fn poll_event(&mut self) -> Option<EngineEvent> {
        self.events.pop_front()
    }

    /// Takes another microphone, after the last was lost.
    pub(super) fn set_source(
        &mut self,
        mut source: Box<dyn AudioSource>,
        now: Instant,
    ) -> Result<(), AudioError> {
        source.start(now)?;
        self.outgoing.source = source;
        Ok(())
    }

    /// Takes another loudspeaker.
    pub(super) fn set_sink(&mut self, mut sink: Box<dyn AudioSink>, now: Instant) -> Result<(), AudioError> {
        self.incoming.next_heard = sink.start(now)?;
        self.incoming.sink = sink;
        Ok(())
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
        }
    }

    fn speak(&mut self, now: Instant, send: &mut dyn FnMut(Vec<u8>)) {
        let mut block: Block = [0.0; BLOCK_LEN];
        for _ in 0..MAX_CATCH_UP {
            match self.outgoing.source.read(now, &mut block) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    // Silence keeps time until another microphone comes; it cannot fail to start.
                    self.outgoing.source = Box::new(Nothing::default());
                    let _ = self.outgoing.source.start(now);
                    self.events.push_back(EngineEvent::SourceLost(error));
                    return;
                }
            }
            if self.muted || self.held {
                block.fill(0.0);
            }
            if let Some(datagram) = self.outgoing.push(&block) {
                send(datagram);
            }
        }
    }

    fn listen(&mut self, now: Instant) {
        let mut block: Block = [0.0; BLOCK_LEN];
        let wanted = self.incoming.sink.wanted(now).min(MAX_CATCH_UP) as u32;
        for behind in (0..wanted).rev() {
            // When the thread is late it makes up for several blocks at once. Each is given the time at which it
            // was due, or the buffer would believe that the network had become slow.
            let due = now.checked_sub(BLOCK_TIME * behind).unwrap_or(now);
            let first = self.incoming.next_block(due, &mut block);
            if first {
                self.events.push_back(EngineEvent::FirstAudio(self.incoming.next_heard));
            }
            self.incoming.next_heard += BLOCK_TIME;
            if self.held {
                block.fill(0.0);
            }
            if let Err(error) = self.incoming.sink.write(&block) {
                self.incoming.sink = Box::new(Nothing::default());
                let _ = self.incoming.sink.start(now);
                self.events.push_back(EngineEvent::SinkLost(error));
                return;
            }
        }
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
        Rtcp { ssrc: self.outgoing.ssrc, sender: Some(sender), blocks }
    }

    fn take_report(&mut self, at: Instant, report: &Rtcp) {
        if let Some(sender) = &report.sender {
            self.incoming.last_report = Some((sender.ntp, at));
        }
        let ours = report.blocks.iter().find(|block| block.ssrc == self.outgoing.ssrc);
        if let Some(block) = ours {
            self.outgoing.remote_loss = f32::from(block.fraction_lost) / 256.0;
            self.outgoing.encoder.expect_loss(self.outgoing.remote_loss);
        }
    }
}

impl Outgoing {
    /// Adds a block; returns a packet as soon as a frame is full.
    fn push(&mut self, block: &Block) -> Option<Vec<u8>> {
        self.frame[self.filled..self.filled + BLOCK_LEN].copy_from_slice(block);
        self.filled += BLOCK_LEN;
        if self.filled < FRAME {
            return None;
        }
        self.filled = 0;
        let encoded = self.encoder.encode(&self.frame);
        let packet = encoded.ok().map(|payload| {
            let packet = RtpPacket {
                payload_type: OPUS_PAYLOAD_TYPE,
                marker: self.packets == 0,
                sequence: self.sequence,
                timestamp: self.timestamp,
                ssrc: self.ssrc,
                payload: &payload,
            };
            self.bytes += payload.len() as u64;
            rtp::encode_rtp(VOICE_FLOW, &packet)
        });
        self.packets += 1;
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(FRAME as u32);
        packet
    }
}

impl Incoming {
    fn receive(&mut self, at: Instant, started: Instant, packet: &RtpPacket<'_>) {
        if self.ssrc.replace(packet.ssrc) != Some(packet.ssrc) {
            self.jitter = JitterBuffer::new(JitterConfig::default());
            self.reception = Reception::new(OPUS_CLOCK_HZ);
        }
        let since = at.saturating_duration_since(started);
        self.reception.on_packet(since, packet.sequence, packet.timestamp, packet.payload.len());
        self.jitter.insert(at, packet.sequence, packet.timestamp, packet.payload);
    }

    /// Fills the next block for the loudspeaker; true if it begins with the very first sound.
    fn next_block(&mut self, now: Instant, block: &mut Block) -> bool {
        let mut first = false;
        if self.played == FRAME {
            match self.jitter.next(now) {
                Playout::Decode(payload) => {
                    self.decoder.decode(&payload, &mut self.frame);
                    first = !std::mem::replace(&mut self.heard, true);
                }
                Playout::DecodeFec(payload) => {
                    self.decoder.repair(&payload, &mut self.frame);
                }
                Playout::Conceal => self.decoder.conceal(&mut self.frame),
                Playout::Silence => {
                    block.fill(0.0);
                    return false;
                }
            }
            self.played = 0;
        }
        block.copy_from_slice(&self.frame[self.played..self.played + BLOCK_LEN]);
        self.played += BLOCK_LEN;
        first
    }
}

#[cfg(test)]
mod tests;
