//! From packets to the loudspeaker.

use std::time::{Duration, Instant};

use offhook_proto::jitter::{Inserted, JitterBuffer, JitterConfig, Playout, Tempo};
use offhook_proto::rate::Bottleneck;
use offhook_proto::rtp::{
    Completer, OPUS_CLOCK_HZ, OPUS_PAYLOAD_TYPE, PAIR_PAYLOAD_TYPE, RED_PAYLOAD_TYPE, Reception, RtpPacket,
    ShortPacket, red,
};

use super::{EngineEvent, MAX_CATCH_UP, RAMP, Speaker, Watch};
use crate::audio::{
    AudioError, AudioSink, BLOCK_LEN, BLOCK_TIME, Block, FRAME, Level, Meter, Nothing, SAMPLE_RATE,
    VoiceDecoder, is_pause, mean_square, stretch,
};

/// Mean square from which on a frame may be a voice: -50 dBFS.
const VOICE: f32 = 1e-5;

pub(super) struct Incoming {
    pub(super) sink: Option<Speaker>,
    watch: Watch,
    decoder: VoiceDecoder,
    pub(super) jitter: JitterBuffer,
    pub(super) reception: Reception,
    pub(super) bottleneck: Bottleneck,
    /// The source that is heard; another one starts everything anew.
    pub(super) ssrc: Option<u32>,
    /// Knows what packets with a short header do not say.
    completer: Completer,
    pub(super) last_report: Option<(u64, Instant)>,
    /// Frames that were loud enough to be a voice, and their bytes.
    pub(super) voice_frames: u64,
    pub(super) voice_bytes: u64,
    /// What has been decoded and is still to be heard: less than a block when a frame is decoded, so never more than that, a
    /// frame and what it is stretched by.
    decoded: Vec<f32>,
    /// Whether silence was heard last.
    silent: bool,
    /// When the next block will be heard.
    next_heard: Instant,
    heard: bool,
    /// The last sample that the loudspeaker was given.
    last: f32,
    /// Whether it is a new one, which was given nothing yet.
    fresh: bool,
    /// Measures what it is given, while somebody wants to know.
    pub(super) meter: Option<Meter>,
    /// What that has told last.
    pub(super) level: Option<Level>,
}

impl Incoming {
    pub(super) fn new(decoder: VoiceDecoder, now: Instant) -> Incoming {
        Incoming {
            sink: None,
            watch: Watch::default(),
            decoder,
            jitter: JitterBuffer::new(JitterConfig::default()),
            reception: Reception::new(OPUS_CLOCK_HZ),
            bottleneck: Bottleneck::new(OPUS_CLOCK_HZ),
            ssrc: None,
            completer: Completer::default(),
            last_report: None,
            voice_frames: 0,
            voice_bytes: 0,
            decoded: Vec::with_capacity(BLOCK_LEN + FRAME + stretch::MAX_PERIOD),
            silent: true,
            next_heard: now,
            heard: false,
            last: 0.0,
            fresh: false,
            meter: None,
            level: None,
        }
    }

    pub(super) fn set_sink(&mut self, sink: Speaker, heard: Instant) {
        self.sink = Some(sink);
        self.next_heard = heard;
        self.watch = Watch::default();
        // What has been waiting for a loudspeaker is old by now.
        self.jitter.restart();
        self.decoded.clear();
        self.silent = true;
    }

    /// Takes a packet with a short header. What it belongs to is known after the first complete one.
    pub(super) fn receive_short(&mut self, at: Instant, started: Instant, short: &ShortPacket<'_>) {
        if !is_voice(short.payload_type) {
            return;
        }
        if let Some(packet) = self.completer.expand(short) {
            self.take_packet(at, started, &packet);
        }
    }

    /// Takes a packet of Opus, with copies of earlier frames or without. Anything else is dropped.
    pub(super) fn receive(&mut self, at: Instant, started: Instant, packet: &RtpPacket<'_>) {
        if is_voice(packet.payload_type) {
            self.completer.complete(packet);
            self.take_packet(at, started, packet);
        }
    }

    fn take_packet(&mut self, at: Instant, started: Instant, packet: &RtpPacket<'_>) {
        let (primary, mut copies) = match packet.payload_type {
            OPUS_PAYLOAD_TYPE => (packet.payload, Vec::new()),
            RED_PAYLOAD_TYPE | PAIR_PAYLOAD_TYPE => match red::decode(packet.payload) {
                Ok(redundant) => (redundant.primary, redundant.copies),
                Err(_) => return,
            },
            _ => return,
        };
        if self.ssrc.replace(packet.ssrc) != Some(packet.ssrc) {
            self.jitter = JitterBuffer::new(JitterConfig::default());
            self.reception = Reception::new(OPUS_CLOCK_HZ);
            self.bottleneck = Bottleneck::new(OPUS_CLOCK_HZ);
        }
        let since = at.saturating_duration_since(started);
        if packet.payload_type == PAIR_PAYLOAD_TYPE
            && let Some(before) = copies.pop_if(|copy| copy.offset == FRAME as u32)
        {
            self.take_companion(at, packet, before.payload);
        }
        self.reception.on_packet(since, packet.sequence, packet.timestamp, packet.payload.len());
        self.bottleneck.on_packet(since, packet.timestamp, packet.payload.len());
        if self.bottleneck.take_cleared() {
            self.jitter.forget_lateness();
        }
        if self.jitter.insert(at, packet.sequence, packet.timestamp, primary) == Inserted::Refused {
            return;
        }
        for copy in copies {
            // Another offset than whole frames belongs to a sender whose packets are of another length.
            if copy.offset.is_multiple_of(FRAME as u32) {
                let distance = (copy.offset / FRAME as u32) as u16;
                self.jitter.insert_copy(packet.sequence, packet.timestamp, distance, copy.payload);
            }
        }
    }

    /// Takes the frame before a packet's own, which has come with it for the first time. It has waited for it, so that playout has to
    /// wait as long.
    fn take_companion(&mut self, at: Instant, packet: &RtpPacket<'_>, payload: &[u8]) {
        let (sequence, timestamp) =
            (packet.sequence.wrapping_sub(1), packet.timestamp.wrapping_sub(FRAME as u32));
        self.reception.on_companion(sequence);
        self.jitter.insert(at, sequence, timestamp, payload);
    }

    /// Goes on with another loudspeaker, without a gap: gives the one before back, in which the sound fades away.
    pub(super) fn change_sink(&mut self, sink: Speaker, heard: Instant) -> Option<Speaker> {
        let mut before = self.sink.replace(sink);
        if let Some(before) = &mut before {
            let mut end: Block = [0.0; BLOCK_LEN];
            let last = self.last;
            end.iter_mut()
                .take(RAMP)
                .enumerate()
                .for_each(|(n, s)| *s = last * (RAMP - n) as f32 / RAMP as f32);
            // One that does not work any more clicks, if it does anything.
            let _ = before.write(&end);
        }
        (self.next_heard, self.watch, self.fresh) = (heard, Watch::default(), true);
        before
    }

    /// Blocks that are to be written now.
    pub(super) fn wanted(&mut self, now: Instant) -> u32 {
        self.sink.as_mut().map_or(0, |sink| sink.wanted(now).min(MAX_CATCH_UP)) as u32
    }

    /// Gives the loudspeaker a block. Tells if it is lost.
    pub(super) fn write(&mut self, now: Instant, block: &mut Block) -> Option<EngineEvent> {
        self.next_heard += BLOCK_TIME;
        if std::mem::take(&mut self.fresh) {
            block.iter_mut().take(RAMP).enumerate().for_each(|(n, sample)| *sample *= n as f32 / RAMP as f32);
        }
        self.last = block[BLOCK_LEN - 1];
        let level = self.meter.as_mut().and_then(|meter| meter.take(block));
        self.level = level.or(self.level);
        let error = self.sink.as_mut()?.write(block).err()?;
        self.lose(error, now)
    }

    /// Whether the loudspeaker still works, which may have wanted something in this tick. Tells if it is lost.
    pub(super) fn check(&mut self, now: Instant, active: bool) -> Option<EngineEvent> {
        self.sink.as_ref()?;
        let idle = self.watch.tick(now, active);
        if active || !self.watch.has_stalled(idle) {
            return None;
        }
        self.lose(AudioError::Stalled, now)
    }

    /// A loudspeaker that nobody hears keeps time until another one comes; it cannot fail to start.
    fn lose(&mut self, error: AudioError, now: Instant) -> Option<EngineEvent> {
        let lost = self.sink.take()?;
        let mut nothing = Nothing::default();
        let _ = AudioSink::start(&mut nothing, now);
        self.set_sink(Box::new(nothing), now);
        Some(EngineEvent::SinkLost(error, lost))
    }

    /// Fills the next block for the loudspeaker. Answers when it is heard if it begins with the very first sound.
    pub(super) fn next_block(&mut self, now: Instant, block: &mut Block) -> Option<Instant> {
        let mut first = None;
        while self.decoded.len() < BLOCK_LEN {
            let mut frame = [0.0; FRAME];
            let (mut tempo, mut len) = (Tempo::Keep, FRAME);
            // Nobody misses what is left out of a pause: what follows it waits for a whole block at most, and for nothing before it.
            let rest = BLOCK_LEN - self.decoded.len();
            match self.jitter.next(now) {
                Playout::Decode(payload) => {
                    self.decoder.decode(&payload, &mut frame);
                    self.count_voice(&payload, &frame);
                    let known = std::mem::replace(&mut self.heard, true);
                    first = (!known).then_some(self.next_heard);
                    if is_pause(&payload) {
                        self.jitter.pause();
                        len = rest;
                    } else {
                        tempo = self.jitter.tempo(duration_of(self.decoded.len()));
                    }
                }
                Playout::DecodeFec(payload) => {
                    self.decoder.repair(&payload, &mut frame);
                }
                Playout::Conceal => self.decoder.conceal(&mut frame),
                Playout::Comfort => {
                    // The codec's concealment ends in the noise that was behind the voice.
                    self.decoder.conceal(&mut frame);
                    len = rest;
                }
                Playout::Silence => {
                    self.fall_silent(block);
                    return None;
                }
            }
            if std::mem::replace(&mut self.silent, false) {
                frame
                    .iter_mut()
                    .take(RAMP)
                    .enumerate()
                    .for_each(|(n, sample)| *sample *= n as f32 / RAMP as f32);
            }
            self.take(&frame[..len], tempo);
        }
        block.copy_from_slice(&self.decoded[..BLOCK_LEN]);
        self.decoded.drain(..BLOCK_LEN);
        first
    }

    /// Counts a frame with a voice. A codec needs little for a quiet room, which says nothing of what it has for a voice.
    fn count_voice(&mut self, payload: &[u8], frame: &[f32; FRAME]) {
        if mean_square(frame) > VOICE {
            self.voice_frames += 1;
            self.voice_bytes += payload.len() as u64;
        }
    }

    /// Adds a frame to what is to be heard, in its own time or a little faster or slower.
    fn take(&mut self, frame: &[f32], tempo: Tempo) {
        let ahead = self.decoded.len();
        let mut frame = frame.to_vec();
        match tempo {
            Tempo::Keep => {}
            Tempo::Faster(spare) => {
                // What is ahead can go without the next frame being needed earlier. To take more makes it needed a block earlier.
                let spare = if spare < BLOCK_TIME { ahead } else { ahead + BLOCK_LEN };
                match stretch::squeeze(&mut frame, spare) {
                    0 => {}
                    by => self.jitter.squeezed(duration_of(by)),
                }
            }
            Tempo::Slower => match stretch::stretch(&mut frame) {
                0 => {}
                by => self.jitter.stretched(duration_of(by)),
            },
        }
        self.decoded.extend_from_slice(&frame);
    }

    /// What is left fades away.
    fn fall_silent(&mut self, block: &mut Block) {
        let left = self.decoded.len();
        let ramp = left.min(RAMP);
        block.fill(0.0);
        block[..left].copy_from_slice(&self.decoded);
        block[left - ramp..left]
            .iter_mut()
            .rev()
            .enumerate()
            .for_each(|(n, sample)| *sample *= n as f32 / ramp as f32);
        self.decoded.clear();
        self.silent = true;
    }
}

/// Whether a payload is of a kind that is known; another one is another stream.
fn is_voice(payload_type: u8) -> bool {
    matches!(payload_type, OPUS_PAYLOAD_TYPE | RED_PAYLOAD_TYPE | PAIR_PAYLOAD_TYPE)
}

fn duration_of(samples: usize) -> Duration {
    Duration::from_secs(1) * samples as u32 / SAMPLE_RATE
}
