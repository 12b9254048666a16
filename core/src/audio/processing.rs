//! What makes a microphone's sound fit to be sent: the loudspeaker's echo is taken out of it, noise is suppressed, and the level is
//! made even. The work is WebRTC's, in Rust (`sonora`).

mod background;
mod echo_path;

use std::fmt;
use std::str::FromStr;

use sonora::config::{
    AdaptiveDigital, EchoCanceller, GainController2, HighPassFilter, MaxProcessingRate, NoiseSuppression,
    Pipeline,
};
use sonora::{AudioProcessing, Config, StreamConfig};

use super::{BLOCK_LEN, Block, SAMPLE_RATE};
use background::Background;
use echo_path::EchoPath;

/// What is done to a microphone's sound before it is sent. Nothing is ever done to a file's.
///
/// Written `all`, `none`, or the names of what is on: `echo,noise`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Processing {
    /// What the loudspeaker plays is taken out of it. Needed wherever the microphone hears the loudspeaker.
    pub echo: bool,
    /// Steady noise is suppressed by about 12 dB.
    pub noise: bool,
    /// The level of speech is brought to one that is pleasant to hear, and peaks are limited.
    pub gain: bool,
}

impl Processing {
    /// Everything.
    pub const ALL: Processing = Processing { echo: true, noise: true, gain: true };
    /// The microphone's sound as it is.
    pub const NONE: Processing = Processing { echo: false, noise: false, gain: false };
}

impl Default for Processing {
    fn default() -> Processing {
        Processing::ALL
    }
}

/// Text that names no processing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no processing of sound; say all, none, or some of echo,noise,gain")]
pub struct UnknownProcessing(String);

impl FromStr for Processing {
    type Err = UnknownProcessing;

    fn from_str(text: &str) -> Result<Processing, UnknownProcessing> {
        match text {
            "all" => return Ok(Processing::ALL),
            "none" => return Ok(Processing::NONE),
            _ => {}
        }
        let mut processing = Processing::NONE;
        for name in text.split(',') {
            match name.trim() {
                "echo" => processing.echo = true,
                "noise" => processing.noise = true,
                "gain" => processing.gain = true,
                other => return Err(UnknownProcessing(other.chars().take(40).collect())),
            }
        }
        Ok(processing)
    }
}

impl fmt::Display for Processing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Processing::ALL {
            return f.write_str("all");
        }
        let names = [(self.echo, "echo"), (self.noise, "noise"), (self.gain, "gain")];
        let names: Vec<_> = names.into_iter().filter(|(on, _)| *on).map(|(_, name)| name).collect();
        f.write_str(if names.is_empty() { "none" } else { "" })?;
        f.write_str(&names.join(","))
    }
}

/// Does it, block by block. What is heard and what is spoken must come in turn, as the devices ask for it.
///
/// Each part is at work only while there is something for it to do, since none of them leaves a voice as it was: without an echo the
/// canceller suppresses who talks at the same time, and suppressed noise takes some of the voice with it. That saves half of the work
/// in a quiet place with headphones, too.
pub(crate) struct Processor {
    parts: Processing,
    /// Against echo and noise.
    cleaner: AudioProcessing,
    /// What that does now.
    cleaning: Cleaning,
    /// How much of what is sent comes out of it: nothing, all, or between while that changes.
    share: f32,
    /// Whether it has not been given anything yet since it does something.
    begins: bool,
    leveller: Option<AudioProcessing>,
    echo_path: EchoPath,
    background: Background,
    scratch: Block,
}

/// What is taken out of the microphone's sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cleaning {
    echo: bool,
    noise: bool,
}

impl Cleaning {
    const NOTHING: Cleaning = Cleaning { echo: false, noise: false };

    fn config(self) -> Config {
        Config {
            // Its filter bank for 48 kHz has three bands and does not put them together well: clean speech scores 3.3 (PESQ-WB)
            // behind it and 3.95 behind the one for 32 kHz, which leaves out what is above 16 kHz.
            pipeline: Pipeline {
                maximum_internal_processing_rate: MaxProcessingRate::Rate32kHz,
                ..Pipeline::default()
            },
            // What is below speech is noise, and takes room from it.
            high_pass_filter: self.noise.then(HighPassFilter::default),
            echo_canceller: self.echo.then(EchoCanceller::default),
            noise_suppression: self.noise.then(NoiseSuppression::default),
            ..Config::default()
        }
    }
}

impl fmt::Debug for Processor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Processor").field("cleaning", &self.cleaning).finish_non_exhaustive()
    }
}

impl Processor {
    /// `None` if nothing is to be done.
    pub(crate) fn new(parts: Processing) -> Option<Processor> {
        if parts == Processing::NONE {
            return None;
        }
        let cleaning = Cleaning { echo: false, noise: parts.noise };
        let leveller = parts.gain.then(|| {
            let gain =
                GainController2 { adaptive_digital: Some(AdaptiveDigital::default()), ..Default::default() };
            pipeline(Config { gain_controller2: Some(gain), ..Config::default() })
        });
        Some(Processor {
            parts,
            cleaner: pipeline(cleaning.config()),
            cleaning,
            share: if cleaning == Cleaning::NOTHING { 0.0 } else { 1.0 },
            begins: false,
            leveller,
            echo_path: EchoPath::new(),
            background: Background::new(),
            scratch: [0.0; BLOCK_LEN],
        })
    }

    /// Another device is spoken into or played through: what is known of the room is not true any more.
    pub(crate) fn forget_room(&mut self) {
        self.echo_path.forget();
        self.background = Background::new();
    }

    /// Takes a block that the loudspeaker is given.
    pub(crate) fn heard(&mut self, block: &Block) {
        if self.parts.echo {
            self.echo_path.heard(block);
        }
        if self.cleaning.echo {
            // It refuses streams of another shape than it was built for, which these are not.
            let _ = self.cleaner.process_render_f32(&[block], &mut [&mut self.scratch]);
        }
    }

    /// Works on a block of the microphone.
    pub(crate) fn spoken(&mut self, block: &mut Block) {
        self.look(block);
        self.clean(block);
        if let Some(leveller) = &mut self.leveller
            && leveller.process_capture_f32(&[&block[..]], &mut [&mut self.scratch]).is_ok()
        {
            *block = self.scratch;
        }
    }

    /// Finds out what there is to be done.
    fn look(&mut self, block: &Block) {
        if self.parts.echo {
            self.echo_path.spoken(block);
        }
        if self.parts.noise {
            self.background.spoken(block);
        }
        let needed = self.needed();
        // While it fades out it goes on as it was.
        let fading = needed == Cleaning::NOTHING && self.share > 0.0;
        if needed != self.cleaning && !fading {
            self.cleaner.apply_config(needed.config());
            self.begins = self.cleaning == Cleaning::NOTHING;
            self.cleaning = needed;
        }
    }

    fn needed(&self) -> Cleaning {
        let echo = self.parts.echo && self.echo_path.may_be();
        Cleaning {
            echo,
            // What is left of an echo is noise, too.
            noise: self.parts.noise && (echo || self.background.noisy()),
        }
    }

    /// Takes out what there is, fading from what is recorded to what is left of it within a block, or back.
    fn clean(&mut self, block: &mut Block) {
        if self.cleaning == Cleaning::NOTHING
            || self.cleaner.process_capture_f32(&[&block[..]], &mut [&mut self.scratch]).is_err()
        {
            return;
        }
        // The first that comes out of it is empty.
        let stays = std::mem::take(&mut self.begins);
        let wanted = if self.needed() == Cleaning::NOTHING { 0.0 } else { 1.0 };
        let (from, to) = (self.share, if stays { self.share } else { wanted });
        let step = (to - from) / BLOCK_LEN as f32;
        for (n, (sample, cleaned)) in block.iter_mut().zip(&self.scratch).enumerate() {
            *sample += (cleaned - *sample) * (from + step * n as f32);
        }
        self.share = to;
    }
}

fn pipeline(config: Config) -> AudioProcessing {
    let stream = StreamConfig::new(SAMPLE_RATE, 1);
    AudioProcessing::builder().config(config).capture_config(stream).render_config(stream).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let of = |echo, noise, gain| Processing { echo, noise, gain };
        for (text, processing) in [
            ("all", Processing::ALL),
            ("none", Processing::NONE),
            ("echo", of(true, false, false)),
            ("noise,gain", of(false, true, true)),
        ] {
            assert_eq!(text.parse(), Ok(processing));
            assert_eq!(processing.to_string(), text);
        }
        assert_eq!(" gain, noise".parse(), Ok(of(false, true, true)));
        assert!("".parse::<Processing>().is_err());
        assert_eq!(
            "echo,nois".parse::<Processing>().unwrap_err().to_string(),
            "\"nois\" is no processing of sound; say all, none, or some of echo,noise,gain"
        );
    }

    fn power(samples: &[f32]) -> f32 {
        samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len() as f32
    }

    fn decibels(ratio: f32) -> f32 {
        10.0 * ratio.log10()
    }

    /// What becomes of a microphone's samples while nothing is heard.
    fn processed(processing: Processing, samples: &[f32]) -> Vec<f32> {
        let mut processor = Processor::new(processing).unwrap();
        let mut out = Vec::new();
        for chunk in samples.as_chunks::<BLOCK_LEN>().0 {
            let mut block = *chunk;
            processor.heard(&[0.0; BLOCK_LEN]);
            processor.spoken(&mut block);
            out.extend_from_slice(&block);
        }
        out
    }

    fn noise(count: usize, amplitude: f32) -> impl Iterator<Item = f32> {
        let mut seed = 1u32;
        (0..count).map(move |_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((seed >> 16) as f32 / 32_768.0 - 1.0) * amplitude
        })
    }

    #[test]
    fn steady_noise_becomes_quieter() {
        let noise: Vec<f32> = noise(5 * SAMPLE_RATE as usize, 0.02).collect();
        let last_second = |samples: &[f32]| power(&samples[samples.len() - SAMPLE_RATE as usize..]);
        let only = |noise, gain| Processing { echo: false, noise, gain };
        let suppressed = decibels(last_second(&processed(only(true, false), &noise)) / last_second(&noise));
        assert!(suppressed < -8.0, "{suppressed} dB");
        assert!(Processor::new(Processing::NONE).is_none());
    }

    /// Six seconds of somebody talking.
    fn speech() -> Vec<f32> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/speech-a.wav");
        let mut file = crate::audio::open_source(&format!("file:{path}").parse().unwrap()).unwrap();
        let start = file.start(std::time::Instant::now()).unwrap();
        let (mut speech, mut block) = (Vec::new(), [0.0; BLOCK_LEN]);
        for blocks in 1..600 {
            assert!(file.read(start + crate::audio::BLOCK_TIME * blocks, &mut block).unwrap());
            speech.extend_from_slice(&block);
        }
        speech
    }

    #[test]
    fn a_clean_voice_is_left_as_it_is_and_a_noisy_one_is_not() {
        let speech = speech();
        let last_half = |samples: &[f32]| samples[samples.len() / 2..].to_vec();
        let parts = Processing { echo: true, noise: true, gain: false };
        assert!(last_half(&processed(parts, &speech)) == last_half(&speech), "not a sample differs");
        let noisy: Vec<f32> = speech.iter().zip(noise(speech.len(), 0.02)).map(|(a, b)| a + b).collect();
        let cleaned = last_half(&processed(parts, &noisy));
        // What is least is noise alone.
        let least = |samples: &[f32]| samples.chunks(2_400).map(power).fold(f32::INFINITY, f32::min);
        let suppressed = decibels(least(&cleaned) / least(&last_half(&noisy)));
        assert!(suppressed < -8.0, "{suppressed} dB");
    }

    #[test]
    fn a_quiet_voice_becomes_louder_and_a_loud_one_does_not_clip() {
        let speech = speech();
        let gain = Processing { echo: false, noise: false, gain: true };
        let quiet: Vec<f32> = speech.iter().map(|sample| sample * 0.05).collect();
        let louder = decibels(power(&processed(gain, &quiet)) / power(&quiet));
        assert!(louder > 6.0, "{louder} dB");
        let loud: Vec<f32> = speech.iter().map(|sample| (sample * 4.0).clamp(-1.0, 1.0)).collect();
        let peak = processed(gain, &loud).iter().fold(0.0_f32, |peak, sample| peak.max(sample.abs()));
        assert!(peak <= 1.0, "{peak}");
    }
}
