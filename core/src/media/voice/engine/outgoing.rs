//! From the microphone to packets.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use offhook_proto::rate::{Plan, Steering};
use offhook_proto::redundancy::{Distances, MAX_DISTANCE};
use offhook_proto::rtp::{
    LossTrace, OPUS_PAYLOAD_TYPE, PAIR_PAYLOAD_TYPE, RED_PAYLOAD_TYPE, RtpPacket, Shortener, VOICE_FLOW, red,
};

use super::{EngineEvent, MAX_CATCH_UP, Mic, RAMP, Watch};
use crate::audio::{
    AudioError, AudioSource, BLOCK_LEN, BLOCK_TIME, Block, FRAME, Level, Meter, Nothing, Processor,
    VoiceEncoder, is_pause,
};
use crate::recording::Tap;

/// After a microphone was dry for this long, the stream's timestamps leave the gap out as the clock does, or the
/// other end would believe that the network had become slow. What is missing for less may still come.
const GAP: Duration = Duration::from_millis(200);
/// What the codec is told to expect while packets get lost, however many: copies do the rest, and more took too much from the voice.
const WITH_COPIES: f32 = 0.1;
/// While nothing is said every second frame is sent all the same, 25 a second: the other end knows that the line is up, and this one what
/// gets lost on it before there is something to lose. One in five told too late.
const PAUSE_EVERY: u32 = 2;
/// Time of a frame.
const FRAME_TIME: Duration = Duration::from_millis(20);

pub(super) struct Outgoing {
    pub(super) source: Option<Mic>,
    watch: Watch,
    /// The last sample that it gave.
    last: f32,
    /// The same of the microphone before, until the present one gives something.
    join: Option<f32>,
    /// Measures what it gives, while somebody wants to know.
    pub(super) meter: Option<Meter>,
    /// What that has told last.
    pub(super) level: Option<Level>,
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
    pub(super) remote_lost: i32,
    steering: Steering,
    /// The packet after the last one that the other end has told of.
    told: u16,
    shortener: Shortener,
    /// The last frames without a gap between them, the latest first.
    said: VecDeque<Vec<u8>>,
    /// Whether the latest of them has not been sent, since it travels with the next one.
    waits: bool,
    /// Frames since nothing is said.
    pause: u32,
}

impl Outgoing {
    pub(super) fn new(encoder: VoiceEncoder, seed: u64) -> Outgoing {
        Outgoing {
            source: None,
            watch: Watch::default(),
            last: 0.0,
            join: None,
            meter: None,
            level: None,
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
            remote_lost: 0,
            steering: Steering::default(),
            told: seed as u16,
            shortener: Shortener::default(),
            said: VecDeque::new(),
            waits: false,
            pause: 0,
        }
    }

    /// What is done with the next frames.
    pub(super) fn plan(&self) -> Plan {
        self.steering.plan()
    }

    /// Takes a microphone; gives the one before back.
    pub(super) fn set_source(&mut self, source: Mic) -> Option<Mic> {
        self.watch = Watch::default();
        self.join = Some(self.last);
        self.source.replace(source)
    }

    /// What one microphone has said last fades away while the next one begins, or it would click.
    fn join(&mut self, block: &mut Block) {
        if let Some(last) = self.join.take() {
            for (n, sample) in block.iter_mut().take(RAMP).enumerate() {
                *sample = last + (*sample - last) * n as f32 / RAMP as f32;
            }
        }
        self.last = block[BLOCK_LEN - 1];
    }

    /// Sends all that has been spoken by `now`, as `say` changes it. Tells if the microphone is lost.
    pub(super) fn speak(
        &mut self,
        now: Instant,
        say: &mut dyn FnMut(&mut Block),
        mut processor: Option<&mut Processor>,
        mut tap: Option<&mut Tap>,
        send: &mut dyn FnMut(Vec<u8>),
    ) -> Option<EngineEvent> {
        let mut source = self.source.take()?;
        let mut block: Block = [0.0; BLOCK_LEN];
        for count in 0..MAX_CATCH_UP {
            match source.read(now, &mut block) {
                Ok(true) if count == 0 => self.leave_out(),
                Ok(true) => {}
                Ok(false) => {
                    let idle = self.watch.tick(now, count > 0);
                    if idle >= FRAME_TIME {
                        self.flush().into_iter().for_each(&mut *send);
                    }
                    if !self.watch.has_stalled(idle) {
                        break;
                    }
                    self.leave_out();
                    return self.lose(AudioError::Stalled, source, now);
                }
                Err(error) => return self.lose(error, source, now),
            }
            // One NaN would silence the processing and the codec for good.
            block.iter_mut().filter(|sample| !sample.is_finite()).for_each(|sample| *sample = 0.0);
            self.join(&mut block);
            let level = self.meter.as_mut().and_then(|meter| meter.take(&block));
            self.level = level.or(self.level);
            // Even if nobody is to hear it: what it learns of the room is needed later.
            if let Some(processor) = &mut processor {
                processor.spoken(&mut block);
            }
            say(&mut block);
            if let Some(tap) = &mut tap {
                tap.own(now, &mut block);
            }
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

    fn leave_out(&mut self) {
        let idle = std::mem::take(&mut self.watch.idle);
        // From a microphone that has not given anything yet, nothing is missing.
        if idle >= if self.watch.awake { GAP } else { FRAME_TIME + BLOCK_TIME } {
            // One block of it was not late yet.
            let frames = (idle - BLOCK_TIME).as_millis() / FRAME_TIME.as_millis();
            self.timestamp = self.timestamp.wrapping_add(frames as u32 * FRAME as u32);
            self.marker = true;
            self.forget();
        }
    }

    /// The frame that waits for one to travel with, by itself: there may be none for long.
    fn flush(&mut self) -> Option<Vec<u8>> {
        let frame = std::mem::take(&mut self.waits).then(|| self.said.front())??;
        let packet = RtpPacket {
            payload_type: OPUS_PAYLOAD_TYPE,
            marker: false,
            sequence: self.sequence.wrapping_sub(1),
            timestamp: self.timestamp.wrapping_sub(FRAME as u32),
            ssrc: self.ssrc,
            payload: frame,
        };
        self.bytes += frame.len() as u64;
        Some(self.shortener.encode(VOICE_FLOW, &packet))
    }

    /// What was said cannot be copied any more: copies are told apart by their distance alone.
    fn forget(&mut self) {
        self.said.clear();
        self.waits = false;
    }

    /// The other end has reported, and whether it receives anything of ours.
    pub(super) fn reported(&mut self, received: bool) {
        self.shortener.reported(received);
    }

    /// Takes the share of a processor that the last second took.
    pub(super) fn take_load(&mut self, share: f32) {
        self.steering.take_load(share);
        self.encoder.set_complexity(self.steering.plan().complexity);
    }

    /// What the codec was told of it.
    #[cfg(test)]
    pub(super) fn complexity(&self) -> u8 {
        self.encoder.complexity()
    }

    /// Tells how much of it the other end misses, 0 to 1, which packets, and what it says is not to be exceeded, bits per second.
    pub(super) fn take_report(&mut self, share: f32, trace: Option<&LossTrace>, limit: Option<u32>) {
        self.remote_loss = share;
        let news = trace.and_then(|trace| self.news(trace));
        if let Some(trace) = &news {
            self.told = trace.begin.wrapping_add(trace.received.len() as u16);
        }
        self.steering.take(news.as_ref(), limit);
        self.follow_plan();
        if news.is_none() && trace.is_none() {
            self.encoder.expect_loss(share);
        }
    }

    /// Packets from the other end were lost: so may be what is sent there.
    pub(super) fn suspect(&mut self) {
        self.steering.suspect();
        self.follow_plan();
    }

    fn follow_plan(&mut self) {
        let plan = self.steering.plan();
        self.encoder.set_bitrate(plan.bitrate);
        // Where packets get lost, each of the few that are left in a pause would be missed, and silence taken for an outage.
        self.encoder.set_pauses(self.remote_loss == 0.0 && plan.distances == Distances::NONE);
        self.encoder.expect_loss(if self.steering.lossy() { WITH_COPIES } else { 0.0 });
    }

    /// What a trace tells of packets that were sent and that none has told of before. Each of them is worth a calculation; what is made
    /// up is not.
    fn news(&self, trace: &LossTrace) -> Option<LossTrace> {
        let end = trace.begin.wrapping_add(trace.received.len() as u16);
        let fresh = end.wrapping_sub(self.told);
        if fresh == 0 || fresh > self.sequence.wrapping_sub(self.told) {
            return None;
        }
        // Others may lie between what was told and these.
        let known = trace.received.len().saturating_sub(usize::from(fresh));
        let received = trace.received.get(known..)?.to_vec();
        Some(LossTrace { begin: trace.begin.wrapping_add(known as u16), received, ..*trace })
    }

    /// Adds a block; returns a packet as soon as a frame is full.
    fn push(&mut self, block: &Block) -> Option<Vec<u8>> {
        self.frame[self.filled..self.filled + BLOCK_LEN].copy_from_slice(block);
        self.filled += BLOCK_LEN;
        if self.filled < FRAME {
            return None;
        }
        self.filled = 0;
        let frame = self.encoder.encode(&self.frame).ok();
        if frame.is_none() {
            // A frame that waits would be taken for this one.
            self.forget();
        }
        let nothing = frame.as_deref().is_none_or(is_pause);
        if !nothing && std::mem::take(&mut self.pause) > 0 {
            self.marker = true;
        }
        let skipped = nothing && frame.is_some() && !self.pause.is_multiple_of(PAUSE_EVERY);
        let packet = frame.filter(|_| !skipped).and_then(|frame| self.packet(frame, nothing));
        self.pause += u32::from(nothing);
        if !skipped {
            self.packets += 1;
            self.sequence = self.sequence.wrapping_add(1);
        }
        self.timestamp = self.timestamp.wrapping_add(FRAME as u32);
        packet
    }

    /// The next packet: a frame, the one before it if that has waited, and copies of earlier ones as far as they are needed. `None` if
    /// the frame is to wait for the next one.
    fn packet(&mut self, frame: Vec<u8>, pause: bool) -> Option<Vec<u8>> {
        let paired = std::mem::take(&mut self.waits);
        if !paired && self.steering.plan().frames > 1 && !pause && !self.marker {
            self.say(frame);
            self.waits = true;
            return None;
        }
        let copy = |distance: &usize| {
            let payload = self.said.get(distance - 1)?;
            Some(red::Copy { offset: (distance * FRAME) as u32, payload })
        };
        // The oldest first, as RFC 2198 has it.
        let copies: Vec<_> = self.distances(paired).iter().rev().filter_map(copy).collect();
        let (payload_type, payload) = match copies.is_empty() {
            true => (OPUS_PAYLOAD_TYPE, frame.clone()),
            false if paired => (PAIR_PAYLOAD_TYPE, red::encode(&frame, &copies)),
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
        let datagram = self.shortener.encode(VOICE_FLOW, &packet);
        self.bytes += payload.len() as u64;
        // Copies are told apart by their distance alone, so a pause ends what may be copied.
        if pause {
            self.said.clear()
        } else {
            self.say(frame)
        }
        Some(datagram)
    }

    /// How far back the frames are that a packet brings beside its own, the nearest first.
    fn distances(&self, paired: bool) -> Vec<usize> {
        let planned = self.steering.plan().distances;
        if !paired {
            return planned.iter().collect();
        }
        let first = planned.first(1);
        // Copies travel with pairs, too: both frames of one so many pairs ago, which is up to two frames later than alone. There is room
        // for those of one distance, as long as a pair is planned, and while the last one is sent.
        let copies = first.iter().map(|distance| distance.div_ceil(2) * 2);
        std::iter::once(1).chain(copies.flat_map(|distance| [distance, distance + 1])).collect()
    }

    fn say(&mut self, frame: Vec<u8>) {
        self.said.truncate(MAX_DISTANCE);
        self.said.push_front(frame);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p10_another_microphone_does_not_click() {
        let mut outgoing = Outgoing::new(VoiceEncoder::new().unwrap(), 0);
        outgoing.set_source(Box::new(Nothing::default()));
        let [mut before, mut first, mut second]: [Block; 3] =
            [[0.8; BLOCK_LEN], [-0.8; BLOCK_LEN], [-0.8; BLOCK_LEN]];
        outgoing.join(&mut before);
        outgoing.join(&mut before);
        assert!(outgoing.set_source(Box::new(Nothing::default())).is_some(), "the one before is given back");
        outgoing.join(&mut first);
        outgoing.join(&mut second);
        let all = [before, first, second].concat();
        let step = all[BLOCK_LEN / 2..].windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max);
        assert!(step < 1.7 / RAMP as f32, "{step}");
        assert_eq!(second, [-0.8; BLOCK_LEN]);
    }
}
