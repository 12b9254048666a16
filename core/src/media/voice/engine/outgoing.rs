//! From the microphone to packets.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use offhook_proto::rate::Steering;
use offhook_proto::redundancy::MAX_DISTANCE;
use offhook_proto::rtp::{self, LossTrace, OPUS_PAYLOAD_TYPE, RED_PAYLOAD_TYPE, RtpPacket, VOICE_FLOW, red};

use super::{EngineEvent, MAX_CATCH_UP, Mic, STALL, Watch};
use crate::audio::{
    AudioError, AudioSource, BLOCK_LEN, BLOCK_TIME, Block, FRAME, Nothing, Processor, VoiceEncoder,
};

/// After a microphone was dry for this long, the stream's timestamps leave the gap out as the clock does, or the
/// other end would believe that the network had become slow. What is missing for less may still come.
const GAP: Duration = Duration::from_millis(200);
/// Time of a frame.
const FRAME_TIME: Duration = Duration::from_millis(20);

pub(super) struct Outgoing {
    pub(super) source: Option<Mic>,
    watch: Watch,
    encoder: VoiceEncoder,
    frame: [f32; FRAME],
    filled: usize,
    sequence: u16,
    pub(super) timestamp: u32,
    /// Whether the next packet is the first after a gap (RFC 3551 section 4.1).
    marker: bool,
    pub(super) ssrc: u32,
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) remote_loss: f32,
    steering: Steering,
    /// The packet after the last one that the other end has told of.
    told: u16,
    /// The last frames without a gap between them, the latest first.
    said: VecDeque<Vec<u8>>,
}

impl Outgoing {
    pub(super) fn new(encoder: VoiceEncoder, seed: u64) -> Outgoing {
        Outgoing {
            source: None,
            watch: Watch::default(),
            encoder,
            frame: [0.0; FRAME],
            filled: 0,
            sequence: seed as u16,
            timestamp: (seed >> 16) as u32,
            marker: true,
            ssrc: (seed >> 32) as u32,
            packets: 0,
            bytes: 0,
            remote_loss: 0.0,
            steering: Steering::default(),
            told: seed as u16,
            said: VecDeque::new(),
        }
    }

    pub(super) fn set_source(&mut self, source: Mic) {
        self.source = Some(source);
        self.watch = Watch::default();
    }

    /// Sends all that has been spoken by `now`, as `say` changes it. Tells if the microphone is lost.
    pub(super) fn speak(
        &mut self,
        now: Instant,
        say: &mut dyn FnMut(&mut Block),
        mut processor: Option<&mut Processor>,
        send: &mut dyn FnMut(Vec<u8>),
    ) -> Option<EngineEvent> {
        let mut source = self.source.take()?;
        let mut block: Block = [0.0; BLOCK_LEN];
        for count in 0..MAX_CATCH_UP {
            match source.read(now, &mut block) {
                Ok(true) if count == 0 => self.leave_out(self.watch.idle),
                Ok(true) => {}
                Ok(false) => {
                    let idle = self.watch.tick(now, count > 0);
                    if idle < STALL {
                        break;
                    }
                    self.leave_out(idle);
                    return self.lose(AudioError::Stalled, source, now);
                }
                Err(error) => return self.lose(error, source, now),
            }
            // Even if nobody is to hear it: what it learns of the room is needed later.
            if let Some(processor) = &mut processor {
                processor.spoken(&mut block);
            }
            say(&mut block);
            if let Some(datagram) = self.push(&block) {
                send(datagram);
            }
        }
        self.source = Some(source);
        None
    }

    /// Silence keeps time until another microphone comes; it cannot fail to start.
    fn lose(&mut self, error: AudioError, source: Mic, now: Instant) -> Option<EngineEvent> {
        let mut nothing = Nothing::default();
        let _ = AudioSource::start(&mut nothing, now);
        self.set_source(Box::new(nothing));
        Some(EngineEvent::SourceLost(error, source))
    }

    fn leave_out(&mut self, idle: Duration) {
        if idle >= GAP {
            // One block of it was not late yet.
            let frames = (idle - BLOCK_TIME).as_millis() / FRAME_TIME.as_millis();
            self.timestamp = self.timestamp.wrapping_add(frames as u32 * FRAME as u32);
            self.marker = true;
            // Copies are told apart by their distance alone.
            self.said.clear();
        }
    }

    /// Tells how much of it the other end misses, 0 to 1, which packets, and what it says is not to be exceeded, bits per second.
    pub(super) fn take_report(&mut self, share: f32, trace: Option<&LossTrace>, limit: Option<u32>) {
        self.remote_loss = share;
        let news = trace.filter(|trace| self.is_news(trace));
        if let Some(trace) = news {
            self.told = trace.begin.wrapping_add(trace.received.len() as u16);
        }
        self.steering.take(news, limit);
        self.encoder.set_bitrate(self.steering.plan().bitrate);
        if news.is_some() {
            // What copies repair needs no bits of the codec's own.
            self.encoder.expect_loss(self.steering.left());
        } else if trace.is_none() {
            self.encoder.expect_loss(share);
        }
    }

    /// Whether a trace tells of packets that were sent, and that none has told of before. Each of them is worth a calculation; what
    /// is made up is not.
    fn is_news(&self, trace: &LossTrace) -> bool {
        let end = trace.begin.wrapping_add(trace.received.len() as u16);
        let at_most = |one: u16, other: u16| other.wrapping_sub(one) as i16 >= 0;
        !trace.received.is_empty() && at_most(self.told, trace.begin) && at_most(end, self.sequence)
    }

    /// Adds a block; returns a packet as soon as a frame is full.
    fn push(&mut self, block: &Block) -> Option<Vec<u8>> {
        self.frame[self.filled..self.filled + BLOCK_LEN].copy_from_slice(block);
        self.filled += BLOCK_LEN;
        if self.filled < FRAME {
            return None;
        }
        self.filled = 0;
        let packet = self.encoder.encode(&self.frame).ok().map(|frame| self.packet(frame));
        if packet.is_none() {
            self.said.clear();
        }
        self.packets += 1;
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(FRAME as u32);
        packet
    }

    /// The next packet: a frame, and copies of earlier ones as far as they are needed.
    fn packet(&mut self, frame: Vec<u8>) -> Vec<u8> {
        let distances = self.steering.plan().distances;
        let copy = |distance: usize| {
            let payload = self.said.get(distance - 1)?;
            Some(red::Copy { offset: (distance * FRAME) as u32, payload })
        };
        // The oldest first, as RFC 2198 has it.
        let mut copies: Vec<_> = distances.iter().filter_map(copy).collect();
        copies.reverse();
        let (payload_type, payload) = match copies.is_empty() {
            true => (OPUS_PAYLOAD_TYPE, frame.clone()),
            false => (RED_PAYLOAD_TYPE, red::encode(&frame, &copies)),
        };
        let packet = RtpPacket {
            payload_type,
            marker: std::mem::take(&mut self.marker),
            sequence: self.sequence,
            timestamp: self.timestamp,
            ssrc: self.ssrc,
            payload: &payload,
        };
        let datagram = rtp::encode_rtp(VOICE_FLOW, &packet);
        self.bytes += payload.len() as u64;
        self.said.truncate(MAX_DISTANCE - 1);
        self.said.push_front(frame);
        datagram
    }
}
