//! Two engines on a simulated network, in virtual time: the same run gives the same result on any machine.

use std::sync::{Arc, Mutex};

use super::*;
use crate::audio::Pace;
use crate::media::tests::score::{self, Score};
use crate::media::tests::speech;

struct VirtualMic {
    samples: Arc<Vec<f32>>,
    at: usize,
    pace: Pace,
    /// Breaks after this many blocks.
    lasts: usize,
}

impl AudioSource for VirtualMic {
    fn start(&mut self, now: Instant) -> Result<Instant, AudioError> {
        Ok(self.pace.start(now))
    }

    fn read(&mut self, now: Instant, block: &mut Block) -> Result<bool, AudioError> {
        if self.at / BLOCK_LEN >= self.lasts {
            return Err(AudioError::NoDevice("virtual".into()));
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

/// What the network does to packet `n`: its one-way delay, or `None` if it is lost.
type Network = Box<dyn FnMut(u64) -> Option<Duration>>;

struct Talk {
    score: Score,
    talker: VoiceStats,
    listener: VoiceStats,
    first_audio: Option<Duration>,
}

const SECONDS: u32 = 8;

/// One end talks, the other listens, whose ticks come `phase` later.
fn talk(
    phase: Duration,
    mut network: Network,
    mut each_tick: impl FnMut(u32, &mut [VoiceEngine; 2]),
) -> Talk {
    let samples = Arc::new(score::read(&speech("speech-a.wav")));
    let heard = Arc::new(Mutex::new(Vec::new()));
    let origin = Instant::now();
    let engine = |talks: bool, now: Instant, seed: u64| {
        let samples = if talks { samples.clone() } else { Arc::default() };
        let source = Box::new(VirtualMic { samples, at: 0, pace: Pace::default(), lasts: usize::MAX });
        let heard = if talks { Arc::default() } else { heard.clone() };
        let sink = Box::new(VirtualSpeaker { heard, pace: Pace::default() });
        VoiceEngine::start(Start { source, sink, now, ntp: 1 << 60, seed }).unwrap().0
    };
    let starts = [origin, origin + phase];
    let mut engines = [engine(true, starts[0], 0xffff_fffe_0000_fff0), engine(false, starts[1], 77)];
    let mut wire: Vec<(Instant, usize, Vec<u8>)> = Vec::new();
    let (mut count, mut first_audio) = (0, None);
    for tick in 0..SECONDS * 100 {
        for n in 0..2 {
            let now = starts[n] + BLOCK_TIME * tick;
            wire.sort_by_key(|packet| packet.0);
            let due = wire.partition_point(|packet| packet.0 <= now);
            for (at, to, datagram) in wire.drain(..due) {
                engines[to].receive(at, &datagram);
            }
            engines[n].tick(now, &mut |datagram| {
                count += u64::from(n == 0);
                if let Some(delay) = if n == 0 { network(count) } else { Some(Duration::from_millis(50)) } {
                    wire.push((now + delay, 1 - n, datagram));
                }
            });
        }
        while let Some(event) = engines[1].poll_event() {
            if let EngineEvent::FirstAudio(at) = event {
                first_audio = Some(at - origin);
            }
        }
        each_tick(tick, &mut engines);
    }
    let heard = heard.lock().unwrap();
    let score = score::compare_samples(&samples, &heard, phase.as_nanos() as i64);
    Talk { score, talker: engines[0].stats(), listener: engines[1].stats(), first_audio }
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

#[test]
fn loss_is_reported_back_and_repaired() {
    let lossy = || -> Network {
        let mut seed = 7u32;
        Box::new(move |_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 16 > 6_554).then_some(Duration::from_millis(50)) // 10 %
        })
    };
    let talk = talk(Duration::from_millis(4), lossy(), every_tick);
    println!("{:?} {:?}", talk.score, talk.listener);
    assert!(talk.talker.remote_loss > 0.03, "the talker knows: {:?}", talk.talker);
    assert!(talk.listener.lost > 20);
    assert!(talk.listener.concealed < 0.05, "most losses are repaired: {:?}", talk.listener);
    assert!(talk.score.correlation > 0.7, "{:?}", talk.score);
    assert!(talk.score.delay_ms < 130.0, "{:?}", talk.score);
}

#[test]
fn mute_and_hold_silence_the_right_ends() {
    let clean = || -> Network { Box::new(|_| Some(Duration::from_millis(20))) };
    let muted = talk(Duration::ZERO, clean(), |_, engines| engines[0].muted = true);
    assert!(muted.score.correlation < 0.1, "{:?}", muted.score);
    assert!(muted.listener.received > 390, "the stream itself goes on");
    let held = talk(Duration::ZERO, clean(), |_, engines| engines[1].held = true);
    assert!(held.score.correlation < 0.1, "{:?}", held.score);
}

#[test]
fn a_broken_microphone_turns_to_silence_and_may_be_replaced() {
    let samples = Arc::new(vec![0.5; 48_000]);
    let mic = |lasts| Box::new(VirtualMic { samples: samples.clone(), at: 0, pace: Pace::default(), lasts });
    let sink = Box::new(Nothing::default());
    let origin = Instant::now();
    let start = Start { source: mic(10), sink, now: origin, ntp: 0, seed: 1 };
    let (mut engine, ..) = VoiceEngine::start(start).unwrap();
    let mut sent = 0;
    for tick in 0..100 {
        let now = origin + BLOCK_TIME * tick;
        engine.tick(now, &mut |_| sent += 1);
        if tick == 50 {
            engine.set_source(mic(1_000), now).unwrap();
        }
    }
    assert_eq!(engine.poll_event(), Some(EngineEvent::SourceLost(AudioError::NoDevice("virtual".into()))));
    assert_eq!(engine.poll_event(), None);
    assert!((47..=50).contains(&sent), "packets go on at their pace: {sent}");
}

#[test]
fn garbage_is_only_dropped() {
    let start = Start {
        source: Box::new(Nothing::default()),
        sink: Box::new(Nothing::default()),
        now: Instant::now(),
        ntp: 0,
        seed: 1,
    };
    let (mut engine, now, _) = VoiceEngine::start(start).unwrap();
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
    let source = Box::new(Nothing::default());
    let sink = Box::new(VirtualSpeaker { heard: heard.clone(), pace: Pace::default() });
    let origin = Instant::now();
    let (mut ear, ..) = VoiceEngine::start(Start { source, sink, now: origin, ntp: 0, seed: 1 }).unwrap();
    let mic =
        Box::new(VirtualMic { samples: samples.clone(), at: 0, pace: Pace::default(), lasts: usize::MAX });
    let sink = Box::new(Nothing::default());
    let (mut mouth, ..) =
        VoiceEngine::start(Start { source: mic, sink, now: origin, ntp: 0, seed: 2 }).unwrap();
    let mut network = network;
    let mut wire = Vec::new();
    for tick in 0..600 {
        let now = origin + BLOCK_TIME * tick;
        mouth.tick(now, &mut |datagram| wire.extend(network(0).map(|delay| (now + delay, datagram))));
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
