//! WAV files that behave like devices: they play and record at the pace of the clock.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

use hound::{SampleFormat, WavReader, WavSpec, WavWriter};

use super::resample::Resampler;
use super::{AudioError, AudioSink, AudioSource, BLOCK_LEN, Block, Pace, SAMPLE_RATE};

/// Blocks after which the header is brought up to date, so that a killed process leaves a playable file.
const FLUSH_EVERY: u32 = 25;
/// Samples that are read from the file at a time.
const PIECE: usize = 1_024;

fn failed(path: &Path, reason: impl ToString) -> AudioError {
    AudioError::File { path: path.to_owned(), reason: reason.to_string() }
}

/// Pipes and devices are refused: opening them may wait for ever.
pub(super) fn check_kind(path: &Path) -> Result<(), AudioError> {
    match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => Err(failed(path, "it is not a file")),
        // What does not exist is for the one who opens it to judge.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// A WAV file as microphone: sample `i` is spoken `i / 48 kHz` after the start; silence after its end.
pub(super) struct WavSource<R = BufReader<File>> {
    path: PathBuf,
    reader: WavReader<R>,
    resampler: Resampler,
    ready: VecDeque<f32>,
    pace: Pace,
    ended: bool,
}

impl WavSource {
    /// Opens a file of 8 to 192 kHz, 8 to 32 bits or float, up to 8 channels, which are mixed.
    pub(super) fn open(path: &Path) -> Result<WavSource, AudioError> {
        check_kind(path)?;
        let file = File::open(path).map_err(|error| failed(path, error))?;
        Self::from_reader(path, BufReader::new(file))
    }
}

impl<R: Read> WavSource<R> {
    /// The same from what was opened; `path` is for errors.
    pub(super) fn from_reader(path: &Path, file: R) -> Result<WavSource<R>, AudioError> {
        let reader = WavReader::new(file).map_err(|error| failed(path, error))?;
        let spec = reader.spec();
        if !(8_000..=192_000).contains(&spec.sample_rate) || !(1..=8).contains(&spec.channels) {
            return Err(failed(path, "only 8 to 192 kHz and 1 to 8 channels can be played"));
        }
        let resampler = Resampler::new(spec.sample_rate, SAMPLE_RATE, true)
            .ok_or_else(|| failed(path, "its sample rate cannot be converted"))?;
        let mut source = WavSource {
            path: path.to_owned(),
            reader,
            resampler,
            ready: VecDeque::new(),
            pace: Pace::default(),
            ended: false,
        };
        // The first blocks are prepared now, so that a broken file is noticed and the start costs nothing.
        source.fill()?;
        Ok(source)
    }

    /// The whole file at 48 kHz, but at most so many samples.
    pub(super) fn into_samples(mut self, most: usize) -> Result<Vec<f32>, AudioError> {
        let mut samples = Vec::new();
        while samples.len() < most && self.reader.duration() > 0 {
            self.fill()?;
            let ready = self.ready.len();
            if ready == 0 {
                break;
            }
            samples.extend(self.ready.drain(..ready.min(most - samples.len())));
        }
        Ok(samples)
    }

    /// Reads on until a block is ready or the file has ended.
    fn fill(&mut self) -> Result<(), AudioError> {
        while self.ready.len() < BLOCK_LEN && !self.ended {
            let mut samples = self.read_mono().map_err(|error| failed(&self.path, error))?;
            if samples.is_empty() {
                self.ended = true;
                // What is still inside the resampler comes out behind a little silence.
                samples = if self.resampler.converts() { vec![0.0; PIECE] } else { Vec::new() };
            }
            let ready = &mut self.ready;
            self.resampler.push(&samples, |made| ready.extend(made));
        }
        Ok(())
    }

    fn read_mono(&mut self) -> Result<Vec<f32>, hound::Error> {
        let spec = self.reader.spec();
        let channels = usize::from(spec.channels);
        let count = PIECE * channels;
        let samples: Result<Vec<f32>, _> = match spec.sample_format {
            SampleFormat::Float => self.reader.samples::<f32>().take(count).collect(),
            SampleFormat::Int => {
                let scale = 1.0 / (1u64 << (spec.bits_per_sample.clamp(1, 32) - 1)) as f32;
                self.reader.samples::<i32>().take(count).map(|s| s.map(|s| s as f32 * scale)).collect()
            }
        };
        // A file of floats may hold anything; one NaN would silence the resampler and the codec for good.
        let sound = |sample: &f32| if sample.is_finite() { sample.clamp(-1.0, 1.0) } else { 0.0 };
        let mix = |frame: &[f32]| frame.iter().map(sound).sum::<f32>() / frame.len() as f32;
        Ok(samples?.chunks(channels).map(mix).collect())
    }
}

impl<R: Read + Send> AudioSource for WavSource<R> {
    fn start(&mut self, now: Instant) -> Result<Instant, AudioError> {
        Ok(self.pace.start(now))
    }

    fn read(&mut self, now: Instant, block: &mut Block) -> Result<bool, AudioError> {
        if !self.pace.take_spoken(now) {
            return Ok(false);
        }
        self.fill()?;
        for sample in block.iter_mut() {
            *sample = self.ready.pop_front().unwrap_or(0.0).clamp(-1.0, 1.0);
        }
        Ok(true)
    }

    fn next_ready(&self, _now: Instant) -> Option<Instant> {
        self.pace.next_spoken()
    }
}

/// A WAV file of 48 kHz, 16 bits, one channel as loudspeaker.
pub(super) struct WavSink {
    path: PathBuf,
    writer: WavWriter<BufWriter<File>>,
    pace: Pace,
}

impl WavSink {
    /// Creates the file, or empties it.
    pub(super) fn create(path: &Path) -> Result<WavSink, AudioError> {
        check_kind(path)?;
        let spec = WavSpec {
            channels: 1,
            sample_rate: SAMPLE_RATE,
            bits_per_sample: 16,
            sample_format: SampleFormat::Int,
        };
        let mut writer = WavWriter::create(path, spec).map_err(|error| failed(path, error))?;
        writer.flush().map_err(|error| failed(path, error))?;
        Ok(WavSink { path: path.to_owned(), writer, pace: Pace::default() })
    }
}

impl AudioSink for WavSink {
    fn start(&mut self, now: Instant) -> Result<Instant, AudioError> {
        Ok(self.pace.start(now))
    }

    fn wanted(&mut self, now: Instant) -> usize {
        self.pace.begun(now)
    }

    fn next_wanted(&self, _now: Instant) -> Option<Instant> {
        self.pace.next_start()
    }

    fn write(&mut self, block: &Block) -> Result<(), AudioError> {
        let write = |writer: &mut WavWriter<BufWriter<File>>| {
            let mut samples = writer.get_i16_writer(BLOCK_LEN as u32);
            for sample in block {
                samples.write_sample((sample.clamp(-1.0, 1.0) * f32::from(i16::MAX)).round() as i16);
            }
            samples.flush()
        };
        write(&mut self.writer).map_err(|error| failed(&self.path, error))?;
        if self.pace.given().is_multiple_of(FLUSH_EVERY) {
            self.writer.flush().map_err(|error| failed(&self.path, error))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::audio::BLOCK_TIME;

    fn write_wav(path: &Path, spec: WavSpec, seconds: f32) {
        let mut writer = WavWriter::create(path, spec).unwrap();
        for i in 0..(spec.sample_rate as f32 * seconds) as usize {
            let value = (i as f32 / spec.sample_rate as f32 * 300.0 * std::f32::consts::TAU).sin() * 0.5;
            for _ in 0..spec.channels {
                match spec.sample_format {
                    SampleFormat::Float => writer.write_sample(value).unwrap(),
                    SampleFormat::Int => {
                        let scale = (1u64 << (spec.bits_per_sample - 1)) as f32 - 1.0;
                        writer.write_sample((value * scale) as i32).unwrap();
                    }
                }
            }
        }
        writer.finalize().unwrap();
    }

    #[test]
    fn files_of_any_kind_are_spoken_on_time_and_end_in_silence() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("speech.wav");
        let kinds = [
            (48_000, 1, 16, SampleFormat::Int),
            (16_000, 1, 16, SampleFormat::Int),
            (44_100, 2, 24, SampleFormat::Int),
            (8_000, 1, 8, SampleFormat::Int),
            (22_050, 2, 32, SampleFormat::Float),
        ];
        for (sample_rate, channels, bits_per_sample, sample_format) in kinds {
            write_wav(&path, WavSpec { channels, sample_rate, bits_per_sample, sample_format }, 1.0);
            let mut source = WavSource::open(&path).unwrap();
            let start = source.start(Instant::now()).unwrap();
            let (mut heard, mut block) = (Vec::new(), [0.0; BLOCK_LEN]);
            assert!(!source.read(start + Duration::from_millis(9), &mut block).unwrap());
            while source.read(start + Duration::from_millis(1_200), &mut block).unwrap() {
                heard.extend_from_slice(&block);
            }
            assert_eq!(heard.len(), 120 * BLOCK_LEN);
            let truth = |i: usize| (i as f32 / 48_000.0 * 300.0 * std::f32::consts::TAU).sin() * 0.5;
            let worst = (2_000..46_000).map(|i| (heard[i] - truth(i)).abs()).fold(0.0, f32::max);
            assert!(worst < 0.03, "{sample_rate} Hz {bits_per_sample} bits: off by {worst}");
            assert!(heard[50_000..].iter().all(|sample| sample.abs() < 0.001));
        }
    }

    #[test]
    fn what_is_no_sound_in_a_file_of_floats_is_silence() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("odd.wav");
        let spec = WavSpec {
            channels: 1,
            sample_rate: 16_000,
            bits_per_sample: 32,
            sample_format: SampleFormat::Float,
        };
        let mut writer = WavWriter::create(&path, spec).unwrap();
        for sample in
            [f32::NAN, f32::INFINITY, 1e30, f32::NEG_INFINITY].repeat(400).into_iter().chain([0.5; 1_600])
        {
            writer.write_sample(sample).unwrap();
        }
        writer.finalize().unwrap();
        let mut source = WavSource::open(&path).unwrap();
        let start = source.start(Instant::now()).unwrap();
        let (mut heard, mut block) = (Vec::new(), [0.0; BLOCK_LEN]);
        while source.read(start + BLOCK_TIME * 20, &mut block).unwrap() {
            assert!(block.iter().all(|sample| (-1.0..=1.0).contains(sample)));
            heard.extend_from_slice(&block);
        }
        assert!(
            heard[6_000..9_000].iter().all(|sample| (sample - 0.5).abs() < 0.05),
            "what follows is heard"
        );
    }

    #[test]
    fn a_file_that_is_not_closed_can_be_played() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("heard.wav");
        let mut sink = WavSink::create(&path).unwrap();
        assert_eq!(WavReader::open(&path).unwrap().len(), 0, "even empty");
        let start = sink.start(Instant::now()).unwrap();
        let wanted = sink.wanted(start + BLOCK_TIME * 99);
        assert_eq!(wanted, 100);
        for _ in 0..wanted {
            sink.write(&[0.5; BLOCK_LEN]).unwrap();
        }
        std::mem::forget(sink); // as kill -9 would
        let mut reader = WavReader::open(&path).unwrap();
        assert_eq!((reader.len(), reader.spec().sample_rate), (48_000, SAMPLE_RATE));
        assert!(reader.samples::<i16>().all(|sample| sample.unwrap() == 16_384));
    }

    #[test]
    fn what_is_not_a_wav_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("text.wav");
        assert!(WavSource::open(&path).is_err());
        std::fs::write(&path, b"RIFF\x04\0\0\0WAVE").unwrap();
        let error = WavSource::open(&path).err().unwrap();
        assert!(error.to_string().contains("text.wav"), "{error}");
        assert!(WavSink::create(directory.path()).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_refused_instead_of_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe.wav");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        for error in [WavSource::open(&path).err(), WavSink::create(&path).err()] {
            assert!(error.unwrap().to_string().contains("it is not a file"));
        }
    }
}
