//! Cards whose clocks are not ours, for half an hour.

use offhook_proto::rtp::encode_rtp;

use super::*;

/// A card that is this much faster than the system's clock, parts of a million.
struct Card {
    start: Instant,
    blocks: u32,
    faster: i64,
    /// The last sample, and the largest step between two.
    last: f32,
    step: f32,
}

impl Card {
    fn new(start: Instant, faster: i64) -> Card {
        Card { start, blocks: 0, faster, last: 0.0, step: 0.0 }
    }

    /// When this block begins by our clock.
    fn begins(&self, block: u32) -> Instant {
        self.start + Duration::from_nanos((i64::from(block) * 10 * (1_000_000 - self.faster)) as u64)
    }
}

#[derive(Clone)]
struct Shared(Arc<Mutex<Card>>);

impl AudioSink for Shared {
    fn start(&mut self, now: Instant) -> Result<Instant, AudioError> {
        Ok(now)
    }

    fn wanted(&mut self, now: Instant) -> usize {
        let card = self.0.lock().unwrap();
        (0..).take_while(|n| card.begins(card.blocks + n) <= now).count()
    }

    fn write(&mut self, block: &Block) -> Result<(), AudioError> {
        let mut card = self.0.lock().unwrap();
        card.blocks += 1;
        for sample in block {
            card.step = card.step.max((sample - card.last).abs());
            card.last = *sample;
        }
        Ok(())
    }
}

/// Packets of a few seconds of speech, and the largest step between two samples of it.
fn spoken(seconds: u32) -> (Vec<Vec<u8>>, f32) {
    let (origin, heard) = (Instant::now(), Arc::default());
    let samples = Arc::new(score::read(&speech("speech-a.wav")));
    let mut talker = engine(VirtualMic::new(&samples, Fate::Works), VirtualSpeaker::new(&heard), origin, 1);
    let mut packets = Vec::new();
    for tick in 1..=seconds * 100 {
        talker.tick(origin + BLOCK_TIME * tick, &mut |datagram| {
            if let Ok((VOICE_FLOW, Frame::Rtp(packet))) = rtp::decode(&datagram) {
                packets.push(packet.payload.to_vec());
            }
        });
    }
    let step = samples.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max);
    (packets, step)
}

/// Ten minutes in which the talker's microphone is that much faster than the clock, and the listener's loudspeaker that much
/// slower. The network is perfect.
/// Answers the share of frames that were concealed.
fn ten_minutes(faster: i64) -> f64 {
    let (packets, loudest_step) = spoken(8);
    let origin = Instant::now();
    let card = Shared(Arc::new(Mutex::new(Card::new(origin, -faster))));
    let mut ear = bare(origin, 2);
    ear.set_sink(Box::new(card.clone()), origin);
    let microphone = Card::new(origin, faster);
    let mut sent = 0u32;
    let mut longest = Duration::ZERO;
    for tick in 1..=10 * 60 * 100 {
        let now = origin + BLOCK_TIME * tick;
        // Packet `n` is complete when its second block is.
        while microphone.begins(2 * sent + 2) <= now {
            let packet = RtpPacket {
                payload_type: OPUS_PAYLOAD_TYPE,
                marker: sent == 0,
                sequence: sent as u16,
                timestamp: sent.wrapping_mul(960),
                ssrc: 7,
                payload: &packets[sent as usize % packets.len()],
            };
            ear.receive(microphone.begins(2 * sent + 2), &encode_rtp(VOICE_FLOW, &packet));
            sent += 1;
        }
        ear.tick(now, &mut |_| ());
        if tick > 500 {
            longest = longest.max(ear.stats().buffer_delay);
        }
    }
    let (stats, step) = (ear.stats(), card.0.lock().unwrap().step);
    println!(
        "{faster} ppm: {sent} packets, delay at most {longest:?}, concealed {}, step {step}",
        stats.concealed
    );
    assert!(sent.abs_diff(30_000) >= 25, "the clocks differ: {sent}");
    assert!(longest <= Duration::from_millis(80), "{longest:?}");
    assert!(step < loudest_step * 1.5 + 0.05, "nothing clicks: {step} after {loudest_step}");
    stats.concealed
}

#[test]
fn q7_a_faster_card_at_the_other_end_does_not_make_the_delay_grow() {
    let concealed = ten_minutes(1_000);
    assert!(concealed < 0.000_1, "{concealed}");
}

#[test]
fn q7_a_slower_card_at_the_other_end_costs_two_concealed_frames_for_a_block_at_most() {
    // A loudspeaker that is faster than the clock asks for two blocks at once now and then, 60 times in ten minutes, and for each
    // a frame may not have come yet, or two.
    let concealed = ten_minutes(-1_000);
    assert!(concealed < 120.0 / 30_000.0, "{concealed}");
}
