//! Two engines on a simulated network, in virtual time: the same run gives the same result on any machine.

use std::sync::{Arc, Mutex};

use offhook_proto::jitter::JitterConfig;
use offhook_proto::rtp::{OPUS_PAYLOAD_TYPE, RtpPacket};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::audio::{AudioSink, AudioSource, Nothing, Pace, Processing};
use crate::media::tests::score::{self, Score};
use crate::media::tests::speech;
use crate::media::voice::trial::OVERHEAD;

mod change;
mod drift;
mod loss;
mod room;

/// What a microphone does after a while.
#[derive(Clone, Copy)]
enum Fate {
    Works,
    /// Reports an error after this many blocks.
    Breaks(usize),
    /// Gives nothing after this many blocks, without an error and for this long. What is spoken meanwhile is lost.
    Stalls(usize, Duration),
}

struct VirtualMic {
    samples: Arc<Vec<f32>>,
    at: usize,
    pace: Pace,
    fate: Fate,
    stalled: Option<Instant>,
}

impl VirtualMic {
    fn new(samples: &Arc<Vec<f32>>, fate: Fate) -> VirtualMic {
        VirtualMic { samples: samples.clone(), at: 0, pace: Pace::default(), fate, stalled: None }
    }
}

impl AudioSource for VirtualMic {
    fn start(&mut self, now: Instant) -> Result<Instant, AudioError> {
        Ok(self.pace.start(now))
    }

    fn read(&mut self, now: Instant, block: &mut Block) -> Result<bool, AudioError> {
        match self.fate {
            Fate::Breaks(after) if self.at / BLOCK_LEN >= after => {
                return Err(AudioError::NoDevice("virtual".into()));
            }
            Fate::Stalls(after, time) if self.at / BLOCK_LEN >= after => {
                let lasted = now - *self.stalled.get_or_insert(now);
                if lasted < time {
                    return Ok(false);
                }
                let lost = (lasted.as_millis() / BLOCK_TIME.as_millis()) as u32;
                for _ in 0..lost {
                    self.pace.given();
                }
                self.at += BLOCK_LEN * lost as usize;
                self.fate = Fate::Works;
            }
            Fate::Works | Fate::Breaks(_) | Fate::Stalls(..) => {}
        }
        let spoken = self.pace.take_spoken(now);
        if spoken {
            block.fill(0.0);
            let rest = &self.samples[self.at.min(self.samples.len())..];
            let count = rest.len().min(BLOCK_LEN);
            block[..count].copy_from_slice(&rest[..count]);
            self.at += BLOCK_LEN;
        }
        Ok(spoken)
    }
}

struct VirtualSpeaker {
    heard: Arc<Mutex<Vec<f32>>>,
    pace: Pace,
}

impl VirtualSpeaker {
    fn new(heard: &Arc<Mutex<Vec<f32>>>) -> VirtualSpeaker {
        VirtualSpeaker { heard: heard.clone(), pace: Pace::default() }
    }
}

impl AudioSink for VirtualSpeaker {
    fn start(&mut self, now: Instant) -> Result<Instant, AudioError> {
        Ok(self.pace.start(now))
    }

    fn wanted(&mut self, now: Instant) -> usize {
        self.pace.begun(now)
    }

    fn write(&mut self, block: &Block) -> Result<(), AudioError> {
        self.pace.given();
        self.heard.lock().unwrap().extend_from_slice(block);
        Ok(())
    }
}

/// A loudspeaker that takes nothing.
struct Deaf;

impl AudioSink for Deaf {
    fn start(&mut self, now: Instant) -> Result<Instant, AudioError> {
        Ok(now)
    }

    fn wanted(&mut self, _now: Instant) -> usize {
        0
    }

    fn write(&mut self, _block: &Block) -> Result<(), AudioError> {
        Ok(())
    }
}

fn bare(now: Instant, seed: u64) -> VoiceEngine {
    processing(now, seed, Processing::NONE)
}

fn processing(now: Instant, seed: u64, processing: Processing) -> VoiceEngine {
    let (codec, processor) = (Codec::new().unwrap(), Processor::new(processing));
    VoiceEngine::start(Start { codec, processor, now, ntp: 1 << 60, seed })
}

/// An engine that has both devices from the beginning.
fn engine(
    mut mic: impl AudioSource + 'static,
    mut speaker: impl AudioSink + 'static,
    now: Instant,
    seed: u64,
) -> VoiceEngine {
    let mut engine = bare(now, seed);
    mic.start(now).unwrap();
    let heard = speaker.start(now).unwrap();
    engine.set_source(Box::new(mic));
    engine.set_sink(Box::new(speaker), heard);
    engine
}

/// A packet on the wire: when it is sent since the beginning, and with how many bytes.
#[derive(Clone, Copy)]
struct Sent {
    at: Duration,
    bytes: usize,
    /// The version field of its RTP header.
    header: u8,
}

/// What the network does to a packet: its one-way delay, or `None` if it is lost.
type Network = Box<dyn FnMut(Sent) -> Option<Duration>>;

struct Talk {
    score: Score,
    talker: VoiceStats,
    listener: VoiceStats,
    first_audio: Option<Duration>,
    /// In which tick the listener's loudspeaker was lost.
    sink_lost: Option<u32>,
    /// Bytes on the wire of what the talker sent in the last half.
    bytes: usize,
}

const SECONDS: u32 = 8;

/// One end talks, the other listens, whose ticks come `phase` later.
fn talk(phase: Duration, network: Network, each_tick: impl FnMut(u32, &mut [VoiceEngine; 2])) -> Talk {
    talk_with(Fate::Works, SECONDS, phase, network, each_tick)
}

fn talk_with(
    fate: Fate,
    seconds: u32,
    phase: Duration,
    mut network: Network,
    mut each_tick: impl FnMut(u32, &mut [VoiceEngine; 2]),
) -> Talk {
    let mut samples = score::read(&speech("speech-a.wav"));
    samples = samples.repeat(seconds.div_ceil(SECONDS) as usize);
    let samples = Arc::new(samples);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let origin = Instant::now();
    let starts = [origin, origin + phase];
    let mic = VirtualMic::new(&samples, fate);
    let mouth = engine(mic, Nothing::default(), starts[0], 0xffff_fffe_0000_fff0);
    let ear = engine(Nothing::default(), VirtualSpeaker::new(&heard), starts[1], 77);
    let mut engines = [mouth, ear];
    let mut wire: Vec<(Instant, usize, Vec<u8>)> = Vec::new();
    let (mut bytes, mut first_audio, mut sink_lost) = (0, None, None);
    for tick in 0..seconds * 100 {
        for n in 0..2 {
            let now = starts[n] + BLOCK_TIME * tick;
            wire.sort_by_key(|packet| packet.0);
            let due = wire.partition_point(|packet| packet.0 <= now);
            for (at, to, datagram) in wire.drain(..due) {
                engines[to].receive(at, &datagram);
            }
            engines[n].tick(now, &mut |datagram| {
                let sent =
                    Sent { at: now - origin, bytes: datagram.len() + OVERHEAD, header: datagram[1] >> 6 };
                bytes += if n == 0 && tick >= seconds * 50 { sent.bytes } else { 0 };
                if let Some(delay) = if n == 0 { network(sent) } else { Some(Duration::from_millis(50)) } {
                    wire.push((now + delay, 1 - n, datagram));
                }
            });
        }
        while let Some(event) = engines[1].poll_event() {
            match event {
                EngineEvent::FirstAudio(at) => first_audio = Some(at - origin),
                EngineEvent::SinkLost(error, _) => {
                    assert_eq!(error, AudioError::Stalled);
                    sink_lost = Some(tick);
                }
                EngineEvent::SourceLost(error, _) => panic!("{error}"),
            }
        }
        each_tick(tick, &mut engines);
    }
    let heard = heard.lock().unwrap();
    let score = score::compare_samples(&samples, &heard, phase.as_nanos() as i64);
    Talk { score, talker: engines[0].stats(), listener: engines[1].stats(), first_audio, sink_lost, bytes }
}

fn every_tick(_: u32, _: &mut [VoiceEngine; 2]) {}

#[test]
fn speech_arrives_soon_and_whole_on_a_clean_network() {
    for (one_way, limit) in [(0, 50.0), (50, 100.0)] {
        for phase in [0, 3, 9] {
            let network: Network = Box::new(move |_| Some(Duration::from_millis(one_way)));
            let talk = talk(Duration::from_millis(phase), network, every_tick);
            println!("one_way_ms={one_way} phase_ms={phase} {:?}", talk.score);
            assert!(talk.score.correlation > 0.95, "{:?}", talk.score);
            assert!(talk.score.delay_ms < limit, "{:?}", talk.score);
            assert_eq!((talk.listener.lost, talk.listener.concealed), (0, 0.0));
            let first = talk.first_audio.unwrap().as_millis() as u64;
            assert!((one_way + 20..one_way + 50).contains(&first), "{first}");
        }
    }
}

/// Long enough for a bad beginning to be forgotten.
const LONGER: u32 = 3 * SECONDS;

/// A link of so many bits per second. Packets wait in a queue of `queue`; what finds no room there is lost. Tells how long the
/// longest wait of the last half was.
fn narrow(bits_per_second: f64, queue: f64) -> (Network, Arc<Mutex<f64>>) {
    let (mut free_at, longest) = (0.0_f64, Arc::new(Mutex::new(0.0)));
    let worst = longest.clone();
    let network = move |sent: Sent| {
        let at = sent.at.as_secs_f64();
        let wait = free_at.max(at) - at;
        if wait > queue {
            return None;
        }
        free_at = at + wait + sent.bytes as f64 * 8.0 / bits_per_second;
        if at > f64::from(LONGER) / 2.0 {
            let mut worst = worst.lock().unwrap();
            *worst = wait.max(*worst);
        }
        Some(Duration::from_secs_f64(free_at - at) + Duration::from_millis(50))
    };
    (Box::new(network), longest)
}

#[test]
fn a_link_of_48_kbit_carries_speech_without_a_queue() {
    for queue in [2.0, 0.15] {
        let (network, longest) = narrow(48_000.0, queue);
        let talk = talk_with(Fate::Works, LONGER, Duration::from_millis(4), network, every_tick);
        let longest = *longest.lock().unwrap();
        let rate = talk.bytes as f64 * 8.0 / f64::from(LONGER / 2);
        println!("queue={queue} longest={longest:.3} rate={rate:.0} {:?} {:?}", talk.score, talk.listener);
        assert!(longest < if queue < 1.0 { queue } else { 0.1 }, "{longest}");
        assert!((30_000.0..48_000.0).contains(&rate), "{rate}");
        assert!(talk.talker.plan.bitrate >= 22_000 && talk.talker.plan.frames == 2, "{:?}", talk.talker.plan);
        assert!(talk.score.correlation > 0.4 && talk.score.delay_ms < 300.0, "{:?}", talk.score);
    }
}

#[test]
fn p10_on_a_narrower_link_two_frames_share_a_packet() {
    let (network, longest) = narrow(36_000.0, 2.0);
    let talk = talk_with(Fate::Works, LONGER, Duration::from_millis(4), network, every_tick);
    let longest = *longest.lock().unwrap();
    println!("longest={longest:.3} {:?} {:?} {:?}", talk.score, talk.talker.plan, talk.listener);
    assert!(longest < 0.15, "{longest}");
    assert_eq!(talk.talker.plan.frames, 2);
    // With a packet for each frame it would be the least there is.
    assert!(talk.talker.plan.bitrate >= 11_500, "{:?}", talk.talker.plan);
    assert!(talk.listener.lost == 0 && talk.listener.concealed < 0.05, "{:?}", talk.listener);
    assert!(talk.score.correlation > 0.4 && talk.score.delay_ms < 300.0, "{:?}", talk.score);
}

#[test]
fn a_spike_is_forgotten_by_a_faster_pace_and_nothing_is_left_out() {
    let stall = Duration::from_millis(1_500)..Duration::from_millis(1_600);
    let network = move |sent: Sent| {
        let held = if stall.contains(&sent.at) { stall.end - sent.at } else { Duration::ZERO };
        Some(held + Duration::from_millis(50))
    };
    let mut delay = [Duration::ZERO; 2];
    let mut stats = None;
    let talk = talk(Duration::from_millis(4), Box::new(network), |tick, [_, ear]| {
        let jitter = ear.incoming.jitter.stats();
        match tick {
            170 => delay[0] = jitter.delay,
            400 => delay[1] = jitter.delay,
            _ => {}
        }
        stats = Some(jitter);
    });
    let stats = stats.unwrap();
    println!("{delay:?} {stats:?} {:?}", talk.score);
    assert!(delay[0] > Duration::from_millis(60), "it was longer: {delay:?}");
    assert!(delay[1] < Duration::from_millis(40), "and is not any more: {delay:?}");
    assert_eq!(stats.dropped, 0, "{stats:?}");
    assert!(stats.faster >= delay[0] - delay[1] - BLOCK_TIME, "{stats:?}");
    assert!(talk.score.correlation > 0.9, "{:?}", talk.score);
}

#[test]
fn headers_are_short_when_the_other_end_has_told_that_it_listens() {
    let headers = Arc::new(Mutex::new(Vec::new()));
    let seen = headers.clone();
    let network = move |sent: Sent| {
        seen.lock().unwrap().push(sent.header);
        Some(Duration::from_millis(50))
    };
    let talk = talk(Duration::from_millis(4), Box::new(network), every_tick);
    assert!(talk.score.correlation > 0.95 && talk.listener.lost == 0, "{:?} {:?}", talk.score, talk.listener);
    let headers = headers.lock().unwrap();
    let (first, rest) = headers.split_at(50);
    assert!(first.iter().all(|version| *version == 2), "{first:?}");
    let short = rest.iter().filter(|version| **version == 1).count();
    // But for reports and what begins after a pause.
    assert!(short * 100 > rest.len() * 85, "{short} of {}", rest.len());
}

#[test]
fn mute_and_hold_silence_the_right_ends() {
    let clean = || -> Network { Box::new(|_| Some(Duration::from_millis(20))) };
    let muted = talk(Duration::ZERO, clean(), |_, engines| engines[0].muted = true);
    assert!(muted.score.correlation < 0.1, "{:?}", muted.score);
    let packets = muted.listener.received;
    assert!((200..260).contains(&packets), "25 a second, which tell of the line: {packets}");
    assert_eq!(muted.listener.concealed, 0.0, "nothing is missing");
    let held = talk(Duration::ZERO, clean(), |_, engines| engines[1].held = true);
    assert!(held.score.correlation < 0.1, "{:?}", held.score);
}

/// Ticks an engine whose microphone has this fate for two seconds; a new one comes half a second after the loss.
fn lose_microphone(fate: Fate) -> (Vec<Vec<u8>>, AudioError, Instant) {
    let samples = Arc::new(vec![0.5; 96_000]);
    let origin = Instant::now();
    let mut engine = engine(VirtualMic::new(&samples, fate), Nothing::default(), origin, 1);
    let (mut sent, mut lost) = (Vec::new(), None);
    for tick in 0..200 {
        let now = origin + BLOCK_TIME * tick;
        engine.tick(now, &mut |datagram| sent.push(datagram));
        while let Some(event) = engine.poll_event() {
            if let EngineEvent::SourceLost(error, _) = event {
                assert!(lost.replace((error, tick)).is_none(), "lost once");
            }
        }
        if lost.as_ref().is_some_and(|(_, at)| tick == at + 50) {
            let mut mic = VirtualMic::new(&samples, Fate::Works);
            mic.start(now).unwrap();
            engine.set_source(Box::new(mic));
        }
    }
    let (error, tick) = lost.expect("the loss is told");
    (sent, error, origin + BLOCK_TIME * tick)
}

/// Timestamps of the voice packets, from the first on.
fn timestamps(sent: &[Vec<u8>]) -> Vec<u32> {
    let of = |datagram: &Vec<u8>| match rtp::decode(datagram) {
        Ok((VOICE_FLOW, Frame::Rtp(packet))) => Some(packet.timestamp),
        Ok(_) | Err(_) => None,
    };
    let all: Vec<u32> = sent.iter().filter_map(of).collect();
    all.iter().map(|timestamp| timestamp.wrapping_sub(all[0])).collect()
}

#[test]
fn a_broken_microphone_turns_to_silence_and_may_be_replaced() {
    let (sent, error, _) = lose_microphone(Fate::Breaks(10));
    assert_eq!(error, AudioError::NoDevice("virtual".into()));
    let timestamps = timestamps(&sent);
    let last = timestamps[timestamps.len() - 1] / 960;
    assert!((94..=100).contains(&last), "the clock of the stream goes on: {last}");
    assert!(timestamps.windows(2).all(|pair| pair[1] - pair[0] <= PAUSE));
}

/// Samples between two packets at most, also while nobody speaks.
const PAUSE: u32 = 960 * 5;

#[test]
fn a_stalled_microphone_is_noticed_within_a_second_and_its_silence_is_left_out() {
    let (sent, error, _) = lose_microphone(Fate::Stalls(10, Duration::MAX));
    assert_eq!(error, AudioError::Stalled);
    let timestamps = timestamps(&sent);
    // 5 frames, 600 ms of nothing, then silence and the new microphone.
    let steps: Vec<u32> = timestamps.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let gaps: Vec<u32> = steps.into_iter().filter(|step| *step > PAUSE).collect();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert!(gaps[0].abs_diff(960 * 30) <= PAUSE, "the clock of the stream goes on: {gaps:?}");
}

#[test]
fn a_microphone_that_pauses_for_half_a_second_does_not_make_the_rest_late() {
    let network: Network = Box::new(|_| Some(Duration::from_millis(50)));
    let pauses = Fate::Stalls(200, Duration::from_millis(500));
    let talk = talk_with(pauses, SECONDS, Duration::ZERO, network, every_tick);
    println!("{:?} {:?}", talk.score, talk.listener);
    assert!(talk.score.correlation > 0.95 && talk.score.delay_ms < 110.0, "{:?}", talk.score);
    assert!(talk.listener.buffer_delay < Duration::from_millis(40), "{:?}", talk.listener);
}

#[test]
fn a_late_thread_does_not_blame_the_devices() {
    let samples = Arc::new(vec![0.5; 480_000]);
    let origin = Instant::now();
    let mic = VirtualMic::new(&samples, Fate::Works);
    let mut engine = engine(mic, VirtualSpeaker::new(&Arc::default()), origin, 1);
    let mut sent = Vec::new();
    // Stopped for three seconds again and again.
    for step in 0..5 {
        for tick in 0..20 {
            let now = origin + Duration::from_secs(3) * step + BLOCK_TIME * tick;
            engine.tick(now, &mut |datagram| sent.push(datagram));
        }
    }
    assert!(engine.poll_event().is_none());
    assert!(timestamps(&sent).windows(2).all(|pair| pair[1] - pair[0] <= PAUSE), "nothing is left out");
}

#[test]
fn a_stalled_loudspeaker_is_noticed_and_what_has_waited_for_another_is_not_played() {
    let network: Network = Box::new(|_| Some(Duration::from_millis(50)));
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (mut since, later) = (None, heard.clone());
    let talk = talk(Duration::ZERO, network, |tick, [_, ear]| {
        let now = ear.started + BLOCK_TIME * tick;
        if tick == 100 {
            ear.set_sink(Box::new(Deaf), now);
        } else if tick == 300 {
            let mut speaker = VirtualSpeaker::new(&later);
            let at = AudioSink::start(&mut speaker, now).unwrap();
            ear.set_sink(Box::new(speaker), at);
            since = Some(at - ear.started);
        }
    });
    let noticed = talk.sink_lost.unwrap();
    assert!((245..=255).contains(&noticed), "after {noticed} blocks");
    let said = score::read(&speech("speech-a.wav"));
    let score = score::compare_samples(&said, &heard.lock().unwrap(), since.unwrap().as_nanos() as i64);
    println!("{score:?} {:?}", talk.listener);
    assert!(score.correlation > 0.9 && score.delay_ms < 110.0, "{score:?}");
}

#[test]
fn a_loudspeaker_that_comes_late_begins_with_what_is_said_then() {
    let samples = Arc::new(score::read(&speech("speech-a.wav")));
    let heard = Arc::new(Mutex::new(Vec::new()));
    let origin = Instant::now();
    let mut mouth = engine(VirtualMic::new(&samples, Fate::Works), Nothing::default(), origin, 1);
    let mut ear = bare(origin, 2);
    let mut first = None;
    for tick in 0..700 {
        let now = origin + BLOCK_TIME * tick;
        mouth.tick(now, &mut |datagram| ear.receive(now, &datagram));
        if tick == 90 {
            let mut speaker = VirtualSpeaker::new(&heard);
            let at = AudioSink::start(&mut speaker, now).unwrap();
            ear.set_sink(Box::new(speaker), at);
        }
        ear.tick(now, &mut |_| {});
        while let Some(event) = ear.poll_event() {
            if let EngineEvent::FirstAudio(at) = event {
                first = Some(at - origin);
            }
        }
    }
    assert!(first.unwrap() < Duration::from_millis(900 + 30), "at once: {first:?}");
    let score = score::compare_samples(&samples, &heard.lock().unwrap(), 900_000_000);
    println!("{score:?}");
    // 45 frames had been waiting.
    assert!(score.correlation > 0.95 && score.delay_ms < 60.0, "{score:?}");
}

#[test]
fn garbage_is_only_dropped() {
    let now = Instant::now();
    let mut engine = engine(Nothing::default(), Nothing::default(), now, 1);
    let packet = |payload: &[u8], n: u16, ssrc| {
        let sequence = n.wrapping_mul(3_001);
        let timestamp = u32::from(n).wrapping_mul(77_777_777);
        let packet =
            RtpPacket { payload_type: OPUS_PAYLOAD_TYPE, marker: false, sequence, timestamp, ssrc, payload };
        rtp::encode_rtp(VOICE_FLOW, &packet)
    };
    for n in 0..2_000u16 {
        let at = now + Duration::from_millis(u64::from(n));
        let noise: Vec<u8> = (0..n % 200).map(|i| ((i * 31) ^ n) as u8).collect();
        engine.receive(at, &noise);
        engine.receive(at, &packet(&noise, n, u32::from(n / 100)));
        engine.tick(at, &mut |_| {});
    }
    assert!(engine.incoming.jitter.len() <= JitterConfig::default().capacity);
}

#[test]
fn a_late_listener_does_not_mistake_itself_for_a_slow_network() {
    let network: Network = Box::new(|_| Some(Duration::from_millis(20)));
    let samples = Arc::new(score::read(&speech("speech-a.wav")));
    let heard = Arc::new(Mutex::new(Vec::new()));
    let origin = Instant::now();
    let mut ear = engine(Nothing::default(), VirtualSpeaker::new(&heard), origin, 1);
    let mut mouth = engine(VirtualMic::new(&samples, Fate::Works), Nothing::default(), origin, 2);
    let mut network = network;
    let mut wire = Vec::new();
    for tick in 0..600 {
        let now = origin + BLOCK_TIME * tick;
        mouth.tick(now, &mut |datagram| {
            wire.extend(
                network(Sent { at: now - origin, bytes: datagram.len(), header: datagram[1] >> 6 })
                    .map(|delay| (now + delay, datagram)),
            )
        });
        // Every second the listener's thread gets no time for 80 ms.
        if tick % 100 >= 8 {
            let due = wire.iter().position(|(at, _)| *at > now).unwrap_or(wire.len());
            wire.drain(..due).for_each(|(at, datagram)| ear.receive(at, &datagram));
            ear.tick(now, &mut |_| {});
        }
    }
    let score = score::compare_samples(&samples, &heard.lock().unwrap(), 0);
    println!("{score:?} {:?}", ear.stats());
    assert!(score.correlation > 0.95 && score.delay_ms < 70.0, "{score:?}");
    assert_eq!(ear.stats().concealed, 0.0);
}
