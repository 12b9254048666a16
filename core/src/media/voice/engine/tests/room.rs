//! A microphone that hears the loudspeaker.

use super::*;

/// A room: what the loudspeaker plays comes back to the microphone, 20 ms to 80 ms later, beside what is said there.
#[derive(Clone)]
struct Room(Arc<Mutex<Sounds>>);

struct Sounds {
    played: Vec<f32>,
    said: Vec<f32>,
    /// What the microphone has recorded.
    recorded: Vec<f32>,
    impulse: Vec<(usize, f32)>,
    pace: [Pace; 2],
}

impl Room {
    fn new(said: Vec<f32>) -> Room {
        // Reflections every 0.5 ms or so that die away, ten decibels below what is played altogether.
        let mut random = StdRng::seed_from_u64(3);
        let impulse = (0..120)
            .map(|n| {
                let gain = 0.155 * (-f64::from(n) / 25.0).exp() * random.random_range(-1.0..1.0);
                (960 + n as usize * 24 + random.random_range(0..24), gain as f32)
            })
            .collect();
        let sounds =
            Sounds { played: Vec::new(), said, recorded: Vec::new(), impulse, pace: Default::default() };
        Room(Arc::new(Mutex::new(sounds)))
    }
}

impl AudioSink for Room {
    fn start(&mut self, now: Instant) -> Result<Instant, AudioError> {
        Ok(self.0.lock().unwrap().pace[0].start(now))
    }

    fn wanted(&mut self, now: Instant) -> usize {
        self.0.lock().unwrap().pace[0].begun(now)
    }

    fn write(&mut self, block: &Block) -> Result<(), AudioError> {
        let mut sounds = self.0.lock().unwrap();
        sounds.pace[0].given();
        sounds.played.extend_from_slice(block);
        Ok(())
    }
}

impl AudioSource for Room {
    fn start(&mut self, now: Instant) -> Result<Instant, AudioError> {
        Ok(self.0.lock().unwrap().pace[1].start(now))
    }

    fn read(&mut self, now: Instant, block: &mut Block) -> Result<bool, AudioError> {
        let sounds = &mut *self.0.lock().unwrap();
        let spoken = sounds.pace[1].take_spoken(now);
        if spoken {
            let from = sounds.recorded.len();
            let at = |samples: &[f32], n: usize| samples.get(n).copied().unwrap_or(0.0);
            for (n, sample) in block.iter_mut().enumerate() {
                let now = from + n;
                let echo = sounds.impulse.iter().filter(|(later, _)| *later <= now);
                *sample = echo.map(|(later, gain)| at(&sounds.played, now - later) * gain).sum::<f32>()
                    + at(&sounds.said, now);
            }
            sounds.recorded.extend_from_slice(block);
        }
        Ok(spoken)
    }
}

/// One end talks or not, `said` is said in the room of the other, whose microphone hears its loudspeaker. Answers what was recorded
/// there and what the talker hears of it.
fn in_a_room(talks: bool, said: Vec<f32>, parts: Processing) -> (Vec<f32>, Vec<f32>) {
    with_headphones_until(0, talks, said, parts)
}

/// The same, but the other one wears headphones until that tick: the microphone hears nothing of what is played.
fn with_headphones_until(last: u32, talks: bool, said: Vec<f32>, parts: Processing) -> (Vec<f32>, Vec<f32>) {
    let samples = Arc::new(if talks { score::read(&speech("speech-a.wav")) } else { Vec::new() });
    let heard = Arc::new(Mutex::new(Vec::new()));
    let origin = Instant::now();
    let mic = VirtualMic::new(&samples, Fate::Works);
    let mut talker = engine(mic, VirtualSpeaker::new(&heard), origin, 1);
    let room = Room::new(said);
    let mut other = processing(origin, 2, parts);
    AudioSource::start(&mut room.clone(), origin).unwrap();
    AudioSink::start(&mut room.clone(), origin).unwrap();
    other.set_source(Box::new(room.clone()));
    other.set_sink(Box::new(room.clone()), origin);
    let reflections = std::mem::take(&mut room.0.lock().unwrap().impulse);
    for tick in 0..SECONDS * 100 {
        if tick == last {
            room.0.lock().unwrap().impulse.clone_from(&reflections);
        }
        let now = origin + BLOCK_TIME * tick;
        let mut wire = [Vec::new(), Vec::new()];
        talker.tick(now, &mut |datagram| wire[0].push(datagram));
        other.tick(now, &mut |datagram| wire[1].push(datagram));
        wire[0].iter().for_each(|datagram| other.receive(now, datagram));
        wire[1].iter().for_each(|datagram| talker.receive(now, datagram));
    }
    let recorded = room.0.lock().unwrap().recorded.clone();
    let heard = heard.lock().unwrap().clone();
    (recorded, heard)
}

fn decibels(samples: &[f32]) -> f32 {
    10.0 * (samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len() as f32)
        .max(1e-12)
        .log10()
}

const ECHO: Processing = Processing { echo: true, noise: false, gain: false };

#[test]
fn a_talker_does_not_hear_an_echo() {
    let later = 3 * 48_000..6 * 48_000;
    let (recorded, with_it) = in_a_room(true, Vec::new(), Processing::NONE);
    let loss = decibels(&recorded[later.clone()]) - decibels(&with_it[later.clone()]);
    assert!(loss.abs() < 2.0, "without the canceller the echo is heard: {loss} dB");
    for processing in [ECHO, Processing::ALL] {
        let (recorded, heard) = in_a_room(true, Vec::new(), processing);
        // Echo return loss enhancement (ITU-T G.168).
        let erle = decibels(&recorded[later.clone()]) - decibels(&heard[later.clone()]);
        println!("{processing}: ERLE {erle:.1} dB");
        assert!(erle >= 30.0, "{processing}: {erle} dB");
    }
}

/// How alike the loudness of both is from moment to moment, at whichever delay up to 200 ms it is most. The waveform says little:
/// filters bend it.
fn as_loud(said: &[f32], heard: &[f32]) -> f32 {
    let moments = |samples: &[f32]| samples.chunks(960).map(decibels).collect::<Vec<_>>();
    let (said, heard) = (moments(said), moments(heard));
    let at = |lag: usize| {
        let pairs: Vec<_> =
            said.iter().zip(&heard[lag..]).map(|(a, b)| (a.max(-60.0), b.max(-60.0))).collect();
        let count = pairs.len() as f32;
        let [a, b] =
            [pairs.iter().map(|p| p.0).sum::<f32>() / count, pairs.iter().map(|p| p.1).sum::<f32>() / count];
        let covariance = |f: fn((f32, f32)) -> f32| pairs.iter().map(|p| f((p.0 - a, p.1 - b))).sum::<f32>();
        covariance(|p| p.0 * p.1) / (covariance(|p| p.0 * p.0) * covariance(|p| p.1 * p.1)).sqrt()
    };
    (0..10).map(at).fold(0.0, f32::max)
}

#[test]
fn who_talks_at_the_same_time_is_heard() {
    // From the third second on the other one speaks, too.
    let speech = score::read(&speech("speech-b.wav"));
    let said: Vec<f32> = std::iter::repeat_n(0.0, 3 * 48_000).chain(speech.iter().copied()).collect();
    let part = 3 * 48_000..7 * 48_000;
    let (_, alone) = in_a_room(false, said.clone(), Processing::NONE);
    let (_, together) = in_a_room(true, said.clone(), ECHO);
    let kept = decibels(&together[part.clone()]) - decibels(&alone[part.clone()]);
    let alike = as_loud(&said[part], &together[3 * 48_000..]);
    println!("near speech kept: {kept:.1} dB, loudness alike by {alike:.2}");
    assert!(kept.abs() <= 3.0, "{kept} dB");
    assert!(alike > 0.8, "{alike}");
}

#[test]
fn with_headphones_who_talks_at_the_same_time_is_heard_as_if_alone() {
    let said = score::read(&speech("speech-b.wav"));
    let parts = Processing { gain: false, ..Processing::ALL };
    let (_, together) = with_headphones_until(u32::MAX, true, said.clone(), parts);
    let (_, untouched) = with_headphones_until(u32::MAX, true, said, Processing::NONE);
    let later = 3 * 48_000..7 * 48_000;
    let (together, untouched) = (&together[later.clone()], &untouched[later]);
    let difference: Vec<f32> = together.iter().zip(untouched).map(|(a, b)| a - b).collect();
    let below = decibels(untouched) - decibels(&difference);
    println!("differs by {below:.1} dB less");
    assert!(below > 15.0, "{below} dB");
}

#[test]
fn an_echo_that_begins_later_is_not_heard_for_long() {
    let (recorded, heard) = with_headphones_until(300, true, Vec::new(), ECHO);
    // From a second after the headphones were taken off.
    let later = 4 * 48_000..7 * 48_000;
    let erle = decibels(&recorded[later.clone()]) - decibels(&heard[later]);
    println!("ERLE {erle:.1} dB");
    assert!(decibels(&recorded[..2 * 48_000]) < -100.0, "nothing is recorded before");
    assert!(erle >= 20.0, "{erle} dB");
}
