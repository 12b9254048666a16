//! The voice of a call over a made-up network, in virtual time, for the benchmark `traces`: the same network gives the same result.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::engine::{Codec, Start, VoiceEngine};
use crate::audio::{
    AudioError, AudioSink, AudioSource, BLOCK_LEN, BLOCK_TIME, Block, DeviceSpec, Pace, open_source,
};

/// Ticks of a second.
const TICKS: u32 = 100;
/// How much later than the talker's the listener's ticks come. Any phase is as good as another.
const PHASE: Duration = Duration::from_millis(4);
/// What goes on the wire beside a datagram, bytes: Ethernet's 14, and what a packet has beside its payload but flow and RTP's short header.
pub(super) const OVERHEAD: usize = 14 + offhook_proto::rate::OVERHEAD - 7;

/// A packet that enters the network.
#[derive(Debug, Clone, Copy)]
pub struct Passing {
    /// Since the beginning.
    pub at: Duration,
    /// On the wire.
    pub bytes: usize,
    /// Whether it goes from the listener to the talker.
    pub back: bool,
}

/// What the listener has heard, and what it took.
#[derive(Debug)]
pub struct Heard {
    /// 48 kHz, full scale 1.
    pub samples: Vec<f32>,
    /// By how much later than speaking, hearing began.
    pub later: Duration,
    /// Share of frames that were concealed, 0 to 1.
    pub concealed: f64,
    /// Frames that came by copies alone.
    pub restored: u64,
    /// Bytes on the wire from the talker.
    pub bytes: usize,
}

/// A WAV file as a microphone would say it: 48 kHz, of which `seconds`, silence after its end.
///
/// # Errors
/// The file cannot be read.
pub fn speech(path: &Path, seconds: u32) -> Result<Vec<f32>, AudioError> {
    let mut source = open_source(&DeviceSpec::File(path.to_owned()))?;
    let start = source.start(Instant::now())?;
    let over = start + BLOCK_TIME * (seconds * TICKS + 1);
    let (mut samples, mut block) = (Vec::new(), [0.0; BLOCK_LEN]);
    for _ in 0..seconds * TICKS {
        source.read(over, &mut block)?;
        samples.extend_from_slice(&block);
    }
    Ok(samples)
}

/// One end says all of `said` (48 kHz), the other listens and says nothing. `network` answers the delay of a packet, or `None` if it is
/// lost.
///
/// # Errors
/// The codec cannot be made.
pub fn talk(
    said: &Arc<Vec<f32>>,
    mut network: impl FnMut(Passing) -> Option<Duration>,
) -> Result<Heard, AudioError> {
    let origin = Instant::now();
    let starts = [origin, origin + PHASE];
    let heard = Arc::new(Mutex::new(Vec::new()));
    let mut engines = [talker(said, starts[0])?, listener(&heard, starts[1])?];
    let mut wire: Vec<(Instant, usize, Vec<u8>)> = Vec::new();
    let mut bytes = 0;
    for tick in 0..(said.len() / BLOCK_LEN) as u32 {
        for (n, engine_start) in starts.iter().enumerate() {
            let now = *engine_start + BLOCK_TIME * tick;
            wire.sort_by_key(|packet| packet.0);
            let due = wire.partition_point(|packet| packet.0 <= now);
            for (at, to, datagram) in wire.drain(..due) {
                engines[to].receive(at, &datagram);
            }
            engines[n].tick(now, &mut |datagram| {
                let passing = Passing { at: now - origin, bytes: datagram.len() + OVERHEAD, back: n == 1 };
                bytes += if n == 0 { passing.bytes } else { 0 };
                if let Some(delay) = network(passing) {
                    wire.push((now + delay, 1 - n, datagram));
                }
            });
        }
        while engines[1].poll_event().is_some() {}
    }
    let stats = engines[1].stats();
    let samples = std::mem::take(&mut *heard.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Heard { samples, later: PHASE, concealed: stats.concealed, restored: stats.restored, bytes })
}

fn bare(now: Instant, seed: u64) -> Result<VoiceEngine, AudioError> {
    Ok(VoiceEngine::start(Start { codec: Codec::new()?, processor: None, now, ntp: 1 << 60, seed }))
}

fn talker(said: &Arc<Vec<f32>>, now: Instant) -> Result<VoiceEngine, AudioError> {
    let mut engine = bare(now, 1)?;
    let mut mouth = Mouth { said: said.clone(), at: 0, pace: Pace::default() };
    mouth.start(now)?;
    engine.set_source(Box::new(mouth));
    Ok(engine)
}

fn listener(heard: &Arc<Mutex<Vec<f32>>>, now: Instant) -> Result<VoiceEngine, AudioError> {
    let mut engine = bare(now, 2)?;
    let mut ear = Ear { heard: heard.clone(), pace: Pace::default() };
    let first = ear.start(now)?;
    engine.set_sink(Box::new(ear), first);
    let mut silence = Mouth { said: Arc::default(), at: 0, pace: Pace::default() };
    silence.start(now)?;
    engine.set_source(Box::new(silence));
    Ok(engine)
}

struct Mouth {
    said: Arc<Vec<f32>>,
    at: usize,
    pace: Pace,
}

impl AudioSource for Mouth {
    fn start(&mut self, now: Instant) -> Result<Instant, AudioError> {
        Ok(self.pace.start(now))
    }

    fn read(&mut self, now: Instant, block: &mut Block) -> Result<bool, AudioError> {
        let spoken = self.pace.take_spoken(now);
        if spoken {
            block.fill(0.0);
            for (sample, said) in block.iter_mut().zip(self.said.iter().skip(self.at)) {
                *sample = *said;
            }
            self.at += BLOCK_LEN;
        }
        Ok(spoken)
    }
}

struct Ear {
    heard: Arc<Mutex<Vec<f32>>>,
    pace: Pace,
}

impl AudioSink for Ear {
    fn start(&mut self, now: Instant) -> Result<Instant, AudioError> {
        Ok(self.pace.start(now))
    }

    fn wanted(&mut self, now: Instant) -> usize {
        self.pace.begun(now)
    }

    fn write(&mut self, block: &Block) -> Result<(), AudioError> {
        self.pace.given();
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(block);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_network_gives_the_same_result() {
        let said = Arc::new((0..96_000).map(|n| (n as f32 * 0.03).sin() * 0.3).collect::<Vec<f32>>());
        let run = |every: u32| {
            let mut count = 0;
            talk(&said, |_| {
                count += 1;
                (every == 0 || count % every != 0).then_some(Duration::from_millis(30))
            })
            .unwrap()
        };
        let (clean, lossy, again) = (run(0), run(5), run(5));
        assert_eq!((clean.concealed, clean.restored), (0.0, 0));
        assert!(lossy.concealed > 0.0 && lossy.bytes > 0);
        assert!(lossy.samples == again.samples && lossy.bytes == again.bytes);
    }
}
