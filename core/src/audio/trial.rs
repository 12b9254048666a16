//! A test of microphone and loudspeaker before a call: tones are played and looked for in what is recorded, the user says something,
//! and that is played back.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::level::{Level, Meter, decibels};
use super::{
    AudioError, AudioSink, AudioSource, BLOCK_LEN, BLOCK_TIME, Block, DeviceSpec, Nothing, SAMPLE_RATE,
    open_sink, open_source,
};

/// Blocks of the microphone that are not looked at: some devices begin with a click.
const WARM_UP: usize = 20;
/// Blocks in which nothing is played: half a second.
const QUIET: usize = 50;
/// Blocks of each tone: half a second.
const TONE: usize = 50;
/// Blocks that a device may keep before they are heard: 400 ms.
const ON_THE_WAY: usize = 40;
/// Blocks in which the user speaks: three seconds.
const SPEECH: usize = 300;
/// The tones, Hz: multiples of ten, so that a tenth of a second has whole periods of them.
const TONES: [f32; 3] = [500.0, 700.0, 900.0];
/// Amplitude of a tone, 1 being full scale.
const LEVEL: f32 = 0.2;
/// A device that gives or takes nothing for this long has stalled.
const STALL: Duration = Duration::from_secs(2);
/// Blocks of which a microphone's levels are told.
const WINDOW: usize = 10;

/// Below this peak a microphone hears nothing at all, dBFS: its own noise is louder.
const SILENT: f32 = -75.0;
/// The loudest tenth of a second of speech that is hard to understand, dBFS.
const FAINT: f32 = -45.0;
/// Noise of a room that is heard all the time, dBFS.
const NOISY: f32 = -40.0;
/// Amplitude from which a sample counts as clipped, and the share of such samples that is heard.
const CLIPPED: (f32, f32) = (0.985, 0.001);
/// How much louder a tone must be than what there was of it before, to be said to be heard.
const HEARD: f32 = 4.0;
/// Amplitude below which an echo bothers nobody: -80 dBFS.
const NO_ECHO: f32 = 1e-4;

/// What is going on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TrialStep {
    /// The microphone listens to the room.
    Listening,
    /// Tones are played.
    Playing,
    /// The user should say something, for three seconds.
    Speak,
    /// How loud that is, ten times a second.
    Level(Level),
    /// What was said is played.
    Replaying,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
pub enum Finding {
    /// The microphone cannot be used.
    MicFailed {
        /// Why, in words.
        reason: String,
    },
    /// The loudspeaker cannot be used.
    SpeakerFailed {
        /// Why, in words.
        reason: String,
    },
    /// The microphone hears nothing at all: it is muted, or another one.
    MicSilent,
    /// What was said is faint, or nothing was.
    MicFaint,
    /// What was said is too loud, and distorted by that.
    MicLoud,
    /// The room, or the microphone itself, is noisy.
    Noisy,
    /// The microphone hears the loudspeaker: without echo cancellation the other end would hear itself.
    Echo,
}

impl Finding {
    /// Whether calls cannot be made like this.
    pub fn is_fault(&self) -> bool {
        match self {
            Finding::MicFailed { .. } | Finding::SpeakerFailed { .. } | Finding::MicSilent => true,
            Finding::MicFaint | Finding::MicLoud | Finding::Noisy | Finding::Echo => false,
        }
    }
}

/// The outcome of [`sound_test`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SoundTest {
    /// How loud the room was while nothing was played.
    pub noise: Level,
    /// The loudest tenth of a second of what was said.
    pub speech: Level,
    /// How much fainter the tones were in the microphone than they were played, dB, if they were heard there.
    pub echo_loss: Option<f32>,
    /// What is to be known of it; nothing if all is well.
    pub findings: Vec<Finding>,
}

impl SoundTest {
    /// Whether calls can be made like this.
    pub fn passed(&self) -> bool {
        !self.findings.iter().any(Finding::is_fault)
    }
}

/// Tests both devices, which takes about nine seconds, or as long as a sound system takes to answer. `tell` is told what is
/// going on.
pub fn sound_test(mic: &DeviceSpec, speaker: &DeviceSpec, mut tell: impl FnMut(TrialStep)) -> SoundTest {
    let (now, mut findings) = (Instant::now(), Vec::new());
    let started = open_source(mic).and_then(|mut mic| mic.start(now).map(|_| mic));
    let mut source = started.unwrap_or_else(|error| {
        findings.push(Finding::MicFailed { reason: error.to_string() });
        silent_source(now)
    });
    let started = open_sink(speaker).and_then(|mut speaker| speaker.start(now).map(|_| speaker));
    let mut sink = started.unwrap_or_else(|error| {
        findings.push(Finding::SpeakerFailed { reason: error.to_string() });
        silent_sink(now)
    });
    let mut trial = Trial::new(now);
    while !trial.is_over() {
        let now = Instant::now();
        if let Err(error) = trial.listen(now, source.as_mut(), &mut tell) {
            findings.push(Finding::MicFailed { reason: error.to_string() });
            source = silent_source(now);
        }
        if let Err(error) = trial.play(now, sink.as_mut()) {
            findings.push(Finding::SpeakerFailed { reason: error.to_string() });
            sink = silent_sink(now);
        }
        std::thread::sleep(BLOCK_TIME / 2);
    }
    trial.judge(findings)
}

/// Keeps time in the place of a microphone that does not work; it cannot fail to start.
fn silent_source(now: Instant) -> Box<dyn AudioSource> {
    let mut nothing = Nothing::default();
    let _ = AudioSource::start(&mut nothing, now);
    Box::new(nothing)
}

/// The same for a loudspeaker.
fn silent_sink(now: Instant) -> Box<dyn AudioSink> {
    let mut nothing = Nothing::default();
    let _ = AudioSink::start(&mut nothing, now);
    Box::new(nothing)
}

/// The test as a machine without clock and devices. The microphone's blocks tell the time.
struct Trial {
    heard: Vec<f32>,
    /// Blocks of the loudspeaker since the tones, or what was said, have begun.
    played: usize,
    told: Option<TrialStep>,
    meter: Meter,
    last: [Instant; 2],
}

/// Blocks of the microphone at which the tones begin, the user speaks, and that is played.
const TONES_AT: usize = WARM_UP + QUIET;
const SPEAK_AT: usize = TONES_AT + TONES.len() * TONE + ON_THE_WAY;
const REPLAY_AT: usize = SPEAK_AT + SPEECH;

impl Trial {
    fn new(now: Instant) -> Trial {
        Trial { heard: Vec::new(), played: 0, told: None, meter: Meter::default(), last: [now; 2] }
    }

    fn blocks(&self) -> usize {
        self.heard.len() / BLOCK_LEN
    }

    fn is_over(&self) -> bool {
        self.blocks() >= REPLAY_AT && self.played >= SPEECH + ON_THE_WAY
    }

    fn step(&self) -> TrialStep {
        match self.blocks() {
            ..TONES_AT => TrialStep::Listening,
            TONES_AT..SPEAK_AT => TrialStep::Playing,
            SPEAK_AT..REPLAY_AT => TrialStep::Speak,
            REPLAY_AT.. => TrialStep::Replaying,
        }
    }

    /// Takes what the microphone has.
    fn listen(
        &mut self,
        now: Instant,
        mic: &mut dyn AudioSource,
        tell: &mut dyn FnMut(TrialStep),
    ) -> Result<(), AudioError> {
        let mut block: Block = [0.0; BLOCK_LEN];
        loop {
            let step = self.step();
            if self.told != Some(step) {
                // Whatever is played begins with its step.
                (self.told, self.played) = (Some(step), 0);
                tell(step);
            }
            if !mic.read(now, &mut block)? {
                break;
            }
            self.last[0] = now;
            // What is said after the end is nobody's business.
            if step == TrialStep::Replaying {
                continue;
            }
            self.heard.extend_from_slice(&block);
            let level = self.meter.take(&block).filter(|_| step == TrialStep::Speak);
            level.into_iter().for_each(|level| tell(TrialStep::Level(level)));
        }
        alive(self.last[0], now)
    }

    /// Gives the loudspeaker what it wants.
    fn play(&mut self, now: Instant, speaker: &mut dyn AudioSink) -> Result<(), AudioError> {
        for _ in 0..speaker.wanted(now).min(SPEECH) {
            self.last[1] = now;
            let block = self.next_block();
            self.played += 1;
            speaker.write(&block)?;
        }
        alive(self.last[1], now)
    }

    fn next_block(&self) -> Block {
        let mut block: Block = [0.0; BLOCK_LEN];
        match self.step() {
            TrialStep::Listening | TrialStep::Speak | TrialStep::Level(_) => {}
            TrialStep::Playing => {
                if let Some(hz) = TONES.get(self.played / TONE) {
                    let begin = self.played % TONE * BLOCK_LEN;
                    block.iter_mut().enumerate().for_each(|(n, sample)| *sample = tone(*hz, begin + n));
                }
            }
            TrialStep::Replaying => {
                let from = (SPEAK_AT + self.played) * BLOCK_LEN;
                if let Some(said) = self.heard.get(from..from + BLOCK_LEN) {
                    block.copy_from_slice(said);
                }
            }
        }
        block
    }

    fn judge(self, mut findings: Vec<Finding>) -> SoundTest {
        let part = |from: usize, to: usize| &self.heard[from * BLOCK_LEN..to * BLOCK_LEN];
        let (quiet, tones, speech) =
            (part(WARM_UP, TONES_AT), part(TONES_AT, SPEAK_AT), part(SPEAK_AT, REPLAY_AT));
        let noise = Level::of(quiet);
        let loudest = speech.chunks(WINDOW * BLOCK_LEN).map(Level::of);
        let loudest = loudest.max_by(|a, b| a.rms.total_cmp(&b.rms)).unwrap_or(Level::SILENCE);
        let clipped = speech.iter().filter(|sample| sample.abs() >= CLIPPED.0).count();
        let echo_loss = echo_loss(quiet, tones);
        let mic_works = !findings.iter().any(|finding| matches!(finding, Finding::MicFailed { .. }));
        let mut add = |holds: bool, finding| findings.extend((mic_works && holds).then_some(finding));
        let silent = Level::of(part(WARM_UP, REPLAY_AT)).peak < SILENT;
        add(silent, Finding::MicSilent);
        add(!silent && loudest.rms < FAINT, Finding::MicFaint);
        add(clipped as f32 > CLIPPED.1 * speech.len() as f32, Finding::MicLoud);
        add(noise.rms > NOISY, Finding::Noisy);
        add(echo_loss.is_some(), Finding::Echo);
        SoundTest { noise, speech: loudest, echo_loss, findings }
    }
}

fn alive(last: Instant, now: Instant) -> Result<(), AudioError> {
    if now.saturating_duration_since(last) < STALL { Ok(()) } else { Err(AudioError::Stalled) }
}

/// The sample of a tone so many samples after its beginning. It comes and goes in 5 ms, or it would click.
fn tone(hz: f32, at: usize) -> f32 {
    let ramp = BLOCK_LEN / 2;
    let edge = at.min(TONE * BLOCK_LEN - 1 - at).min(ramp) as f32 / ramp as f32;
    let turns = at as f32 * hz / SAMPLE_RATE as f32;
    LEVEL * edge * (turns.fract() * std::f32::consts::TAU).sin()
}

/// How much fainter the tones were heard than they were played, if most of them were.
fn echo_loss(quiet: &[f32], tones: &[f32]) -> Option<f32> {
    let mut heard: Vec<f32> = TONES
        .iter()
        .filter_map(|hz| {
            let (before, then) = (loudest_of(*hz, quiet), loudest_of(*hz, tones));
            (then > NO_ECHO && then > HEARD * before).then_some(then)
        })
        .collect();
    heard.sort_by(f32::total_cmp);
    (heard.len() * 2 > TONES.len()).then(|| decibels(LEVEL) - decibels(heard[heard.len() / 2]))
}

/// The largest amplitude of a tone in any tenth of a second (Goertzel's algorithm).
fn loudest_of(hz: f32, samples: &[f32]) -> f32 {
    let amplitude = |window: &[f32]| {
        let coefficient = 2.0 * (std::f64::consts::TAU * f64::from(hz) / f64::from(SAMPLE_RATE)).cos();
        let (a, b) = window
            .iter()
            .fold((0.0f64, 0.0f64), |(a, b), sample| (f64::from(*sample) + coefficient * a - b, a));
        let power = a * a + b * b - coefficient * a * b;
        (2.0 * power.max(0.0).sqrt() / window.len() as f64) as f32
    };
    samples.chunks_exact(WINDOW * BLOCK_LEN).map(amplitude).fold(0.0, f32::max)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::audio::Pace;

    /// A microphone and a loudspeaker in one room.
    #[derive(Default)]
    struct Room {
        played: Vec<f32>,
        /// How much of what is played the microphone hears, 60 ms later.
        echo: f32,
        /// Amplitude of the noise of the room.
        noise: f32,
        /// Amplitude of what is said when the user is asked to.
        voice: f32,
        at: usize,
        pace: [Pace; 2],
        /// Blocks after which the microphone gives nothing any more.
        ends: Option<usize>,
    }

    #[derive(Clone)]
    struct Shared(Arc<Mutex<Room>>);

    impl AudioSource for Shared {
        fn start(&mut self, now: Instant) -> Result<Instant, AudioError> {
            Ok(self.0.lock().unwrap().pace[0].start(now))
        }

        fn read(&mut self, now: Instant, block: &mut Block) -> Result<bool, AudioError> {
            let room = &mut *self.0.lock().unwrap();
            if room.ends.is_some_and(|ends| room.at >= ends * BLOCK_LEN) || !room.pace[0].take_spoken(now) {
                return Ok(false);
            }
            for (n, sample) in block.iter_mut().enumerate() {
                let at = room.at + n;
                let late = at.checked_sub(2_880).and_then(|at| room.played.get(at)).copied().unwrap_or(0.0);
                let said = (SPEAK_AT..REPLAY_AT).contains(&(at / BLOCK_LEN));
                let voice = if said { room.voice * (at as f32 * 0.02).sin() } else { 0.0 };
                let noise = (at as u32).wrapping_mul(2_654_435_761) as f32 / u32::MAX as f32 - 0.5;
                *sample = (late * room.echo + voice + 2.0 * noise * room.noise).clamp(-1.0, 1.0);
            }
            room.at += BLOCK_LEN;
            Ok(true)
        }
    }

    impl AudioSink for Shared {
        fn start(&mut self, now: Instant) -> Result<Instant, AudioError> {
            Ok(self.0.lock().unwrap().pace[1].start(now))
        }

        fn wanted(&mut self, now: Instant) -> usize {
            self.0.lock().unwrap().pace[1].begun(now)
        }

        fn write(&mut self, block: &Block) -> Result<(), AudioError> {
            let room = &mut *self.0.lock().unwrap();
            room.pace[1].given();
            room.played.extend_from_slice(block);
            Ok(())
        }
    }

    /// In virtual time. Answers what was found, what was told and what was played.
    fn tried(room: Room) -> (SoundTest, Vec<TrialStep>, Vec<f32>) {
        let (origin, room) = (Instant::now(), Shared(Arc::new(Mutex::new(room))));
        AudioSource::start(&mut room.clone(), origin).unwrap();
        AudioSink::start(&mut room.clone(), origin).unwrap();
        let (mut trial, mut told, mut findings) = (Trial::new(origin), Vec::new(), Vec::new());
        let (mut mic, mut now): (Box<dyn AudioSource>, _) = (Box::new(room.clone()), origin);
        while !trial.is_over() {
            now += BLOCK_TIME;
            if let Err(error) = trial.listen(now, mic.as_mut(), &mut |step| told.push(step)) {
                findings.push(Finding::MicFailed { reason: error.to_string() });
                mic = silent_source(now);
            }
            trial.play(now, &mut room.clone()).unwrap();
        }
        let played = room.0.lock().unwrap().played.clone();
        (trial.judge(findings), told, played)
    }

    #[test]
    fn p10_a_headset_in_order_is_found_to_be_in_order() {
        let (found, told, played) = tried(Room { noise: 0.001, voice: 0.3, ..Room::default() });
        assert_eq!(found.findings, [], "{found:?}");
        assert!(found.passed() && found.echo_loss.is_none());
        assert!((found.speech.rms + 13.5).abs() < 1.0 && found.noise.rms < -60.0, "{found:?}");
        let steps: Vec<_> = told.iter().filter(|step| !matches!(step, TrialStep::Level(_))).collect();
        use TrialStep::{Listening, Playing, Replaying, Speak};
        assert_eq!(steps, [&Listening, &Playing, &Speak, &Replaying]);
        assert_eq!(told.len() - steps.len(), SPEECH / WINDOW, "a meter for three seconds");
        // Three tones, and what was said.
        for (hz, loud) in [(500.0, 0.15), (700.0, 0.15), (900.0, 0.15), (150.0, 0.2)] {
            assert!(loudest_of(hz, &played) > loud, "{hz} Hz: {}", loudest_of(hz, &played));
        }
    }

    #[test]
    fn p10_what_is_wrong_is_found() {
        let of = |room| tried(room).0;
        let good = || Room { noise: 0.001, voice: 0.3, ..Room::default() };
        let echo = of(Room { echo: 0.1, ..good() });
        assert_eq!(echo.findings, [Finding::Echo]);
        assert!((echo.echo_loss.unwrap() - 20.0).abs() < 1.0, "{echo:?}");
        assert!(echo.passed(), "that is what the canceller is for");
        assert_eq!(of(Room { voice: 3.0, ..good() }).findings, [Finding::MicLoud]);
        assert_eq!(of(Room { voice: 0.0, ..good() }).findings, [Finding::MicFaint]);
        assert_eq!(of(Room { noise: 0.1, ..good() }).findings, [Finding::Noisy]);
        let silent = of(Room::default());
        assert!(silent.findings == [Finding::MicSilent] && !silent.passed(), "{silent:?}");
        let stalls = of(Room { ends: Some(100), ..good() });
        assert!(matches!(stalls.findings[..], [Finding::MicFailed { .. }]) && !stalls.passed(), "{stalls:?}");
    }

    #[test]
    fn devices_that_are_not_there_are_told() {
        let gone = DeviceSpec::Id("nonsense".into());
        let found = sound_test(&gone, &gone, |_| ());
        assert!(
            matches!(found.findings[..], [Finding::MicFailed { .. }, Finding::SpeakerFailed { .. }]),
            "{found:?}"
        );
    }
}
