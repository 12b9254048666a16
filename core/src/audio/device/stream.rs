//! A device's stream as source or sink.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use cpal::traits::{DeviceTrait, StreamTrait};
use cpal::{
    BufferSize, Device, Error, ErrorKind, FromSample, SampleFormat, SizedSample, Stream, StreamConfig,
    SupportedStreamConfig,
};
use rtrb::{Consumer, Producer};

use super::ring::{Flags, on_error, player, recorder, ring};
use crate::audio::resample::Resampler;
use crate::audio::{AudioError, AudioSink, AudioSource, BLOCK_LEN, Block, SAMPLE_RATE};

/// Hard cap of what has been recorded and not read, as a part of a second: 500 ms, as much as a late thread makes up
/// for. What is more is lost.
const RECORDED_PART: u32 = 2;
/// The same for what is to be played: 200 ms.
const TO_PLAY_PART: u32 = 5;

/// A recording device.
pub(super) struct DeviceSource {
    name: String,
    /// Recording stops when it is dropped.
    _stream: Stream,
    ring: Consumer<f32>,
    flags: Arc<Flags>,
    resampler: Resampler,
    ready: VecDeque<f32>,
    piece: Vec<f32>,
}

impl DeviceSource {
    /// Opens `device` at 48 kHz if it can, else at its own rate.
    pub(super) fn open(device: &Device, supported: &SupportedStreamConfig) -> Result<DeviceSource, Error> {
        for_each_config(supported, |config| {
            let (producer, consumer, flags) = ring((config.sample_rate / RECORDED_PART) as usize);
            let resampler =
                Resampler::new(config.sample_rate, SAMPLE_RATE, false).ok_or(ErrorKind::UnsupportedConfig)?;
            let stream = build_input(device, supported.sample_format(), config, producer, &flags)?;
            Ok(DeviceSource {
                name: super::name(device),
                _stream: stream,
                ring: consumer,
                flags,
                resampler,
                ready: VecDeque::new(),
                piece: Vec::new(),
            })
        })
    }
}

impl AudioSource for DeviceSource {
    fn start(&mut self, now: Instant) -> Result<Instant, AudioError> {
        self._stream
            .play()
            .map_err(|error| AudioError::Device { name: self.name.clone(), reason: error.to_string() })?;
        while self.ring.pop().is_ok() {}
        Ok(now)
    }

    fn read(&mut self, _now: Instant, block: &mut Block) -> Result<bool, AudioError> {
        if self.flags.lost.load(Relaxed) {
            return Err(lost(&self.name));
        }
        self.piece.clear();
        while let Ok(sample) = self.ring.pop() {
            self.piece.push(sample);
        }
        let ready = &mut self.ready;
        self.resampler.push(&self.piece, |made| ready.extend(made));
        if self.ready.len() < BLOCK_LEN {
            return Ok(false);
        }
        for (to, from) in block.iter_mut().zip(self.ready.drain(..BLOCK_LEN)) {
            *to = from;
        }
        Ok(true)
    }
}

/// What is kept ready for a playing device beyond its largest callback, in quarters of a block: the thread that fills it may be
/// late. Each time that it was too little there is more from then on.
#[derive(Debug, Clone, Copy, Default)]
struct Spare {
    quarters: usize,
    /// Dry callbacks that it has been raised for.
    dry: usize,
}

impl Spare {
    /// Two quarters are 5 ms.
    const LEAST: usize = 2;
    /// Two blocks more than the device takes at once: 20 ms.
    const MOST: usize = 8;

    /// Takes the count of dry callbacks, and answers how many quarters of silence are to be written, since blocks are whole: at the
    /// beginning, when what came before does not count, and whenever it is raised.
    fn heed(&mut self, dry: usize) -> usize {
        let before = self.quarters;
        if self.quarters == 0 {
            self.quarters = Spare::LEAST;
        } else if self.dry < dry {
            self.quarters = (self.quarters + 1).min(Spare::MOST);
        }
        self.dry = dry;
        self.quarters - before
    }

    /// Blocks that are to be written when so many samples wait, the largest callback took so many, and a block has so many. What is
    /// missing less than a quarter of a block is not worth a whole one.
    fn wanted(self, filled: usize, largest: usize, block: usize, capacity: usize) -> usize {
        let level = (largest.max(block) + self.quarters * block / 4).min(capacity);
        (level.saturating_sub(filled) + block - block / 4) / block
    }
}

/// A playing device.
pub(super) struct DeviceSink {
    name: String,
    /// Playing stops when it is dropped.
    _stream: Stream,
    ring: Producer<f32>,
    flags: Arc<Flags>,
    resampler: Resampler,
    rate: u32,
    spare: Spare,
}

impl DeviceSink {
    /// Opens `device` at 48 kHz if it can, else at its own rate.
    pub(super) fn open(device: &Device, supported: &SupportedStreamConfig) -> Result<DeviceSink, Error> {
        for_each_config(supported, |config| {
            let (producer, consumer, flags) = ring((config.sample_rate / TO_PLAY_PART) as usize);
            let resampler =
                Resampler::new(SAMPLE_RATE, config.sample_rate, false).ok_or(ErrorKind::UnsupportedConfig)?;
            let stream = build_output(device, supported.sample_format(), config, consumer, &flags)?;
            Ok(DeviceSink {
                name: super::name(device),
                _stream: stream,
                ring: producer,
                flags,
                resampler,
                rate: config.sample_rate,
                spare: Spare::default(),
            })
        })
    }

    /// Device samples per block.
    fn block(&self) -> usize {
        (self.rate / 100).max(1) as usize
    }
}

impl AudioSink for DeviceSink {
    fn start(&mut self, now: Instant) -> Result<Instant, AudioError> {
        self._stream
            .play()
            .map_err(|error| AudioError::Device { name: self.name.clone(), reason: error.to_string() })?;
        Ok(now)
    }

    fn wanted(&mut self, _now: Instant) -> usize {
        let block = self.block();
        let silence = self.spare.heed(self.flags.dry.load(Relaxed)) * block / 4;
        for _ in 0..silence.min(self.ring.slots()) {
            // There is room, as has just been seen.
            let _ = self.ring.push(0.0);
        }
        let capacity = self.ring.buffer().capacity();
        let filled = capacity - self.ring.slots();
        self.spare.wanted(filled, self.flags.largest.load(Relaxed), block, capacity)
    }

    fn write(&mut self, block: &Block) -> Result<(), AudioError> {
        if self.flags.lost.load(Relaxed) {
            return Err(lost(&self.name));
        }
        let ring = &mut self.ring;
        self.resampler.push(block, |made| {
            for sample in made {
                // Beyond the hard cap samples are lost.
                if ring.push(*sample).is_err() {
                    break;
                }
            }
        });
        Ok(())
    }
}

fn lost(name: &str) -> AudioError {
    AudioError::Device { name: name.to_owned(), reason: "it went away".to_owned() }
}

/// Tries 48 kHz before the device's own rate, and blocks of 10 ms before the device's own size.
fn for_each_config<T>(
    supported: &SupportedStreamConfig,
    open: impl Fn(StreamConfig) -> Result<T, Error>,
) -> Result<T, Error> {
    let base = supported.config();
    let mut last = Error::new(ErrorKind::UnsupportedConfig);
    for rate in [SAMPLE_RATE, base.sample_rate] {
        for buffer_size in [BufferSize::Fixed(rate / 100), BufferSize::Default] {
            match open(StreamConfig { sample_rate: rate, buffer_size, ..base }) {
                Ok(opened) => return Ok(opened),
                Err(error) => last = error,
            }
        }
    }
    Err(last)
}

// The enum is cpal's, and may grow; these four cover what PulseAudio, PipeWire and ALSA default to.
#[allow(clippy::wildcard_enum_match_arm)]
fn build_input(
    device: &Device,
    format: SampleFormat,
    config: StreamConfig,
    ring: Producer<f32>,
    flags: &Arc<Flags>,
) -> Result<Stream, Error> {
    match format {
        SampleFormat::F32 => input::<f32>(device, config, ring, flags),
        SampleFormat::I16 => input::<i16>(device, config, ring, flags),
        SampleFormat::I32 => input::<i32>(device, config, ring, flags),
        SampleFormat::U8 => input::<u8>(device, config, ring, flags),
        _ => Err(ErrorKind::UnsupportedConfig.into()),
    }
}

#[allow(clippy::wildcard_enum_match_arm)] // as above
fn build_output(
    device: &Device,
    format: SampleFormat,
    config: StreamConfig,
    ring: Consumer<f32>,
    flags: &Arc<Flags>,
) -> Result<Stream, Error> {
    match format {
        SampleFormat::F32 => output::<f32>(device, config, ring, flags),
        SampleFormat::I16 => output::<i16>(device, config, ring, flags),
        SampleFormat::I32 => output::<i32>(device, config, ring, flags),
        SampleFormat::U8 => output::<u8>(device, config, ring, flags),
        _ => Err(ErrorKind::UnsupportedConfig.into()),
    }
}

fn input<T>(
    device: &Device,
    config: StreamConfig,
    ring: Producer<f32>,
    flags: &Arc<Flags>,
) -> Result<Stream, Error>
where
    T: SizedSample + Send + 'static,
    f32: FromSample<T>,
{
    let on_data = recorder::<T, _>(usize::from(config.channels), ring, flags);
    device.build_input_stream(config, on_data, on_error(flags), None)
}

fn output<T>(
    device: &Device,
    config: StreamConfig,
    ring: Consumer<f32>,
    flags: &Arc<Flags>,
) -> Result<Stream, Error>
where
    T: SizedSample + FromSample<f32> + Send + 'static,
{
    let on_data = player::<T, _>(usize::from(config.channels), ring, flags);
    device.build_output_stream(config, on_data, on_error(flags), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device that takes `callback` samples each `period` of 1/10 ms, filled each 10 ms by a thread that is late by so much at each
    /// time. Answers how often it was dry in the last half and what waited before each callback then, on average.
    fn play(callback: usize, period: u32, late: impl Fn(u32) -> u32) -> (usize, f64) {
        let (mut filled, mut dry, mut spare) = (0usize, 0usize, Spare::default());
        let (mut waited, mut callbacks, mut before) = (0usize, 0usize, 0usize);
        const TICKS: u32 = 2_000;
        let mut due = Vec::new();
        (0..TICKS).for_each(|tick| due.push(tick * 100 + late(tick)));
        let mut ticks = due.into_iter().peekable();
        for n in 1..TICKS * 100 / period {
            let now = n * period + 37;
            while ticks.next_if(|at| *at <= now).is_some() {
                filled += spare.heed(dry) * 480 / 4;
                filled += spare.wanted(filled, callback, 480, 9_600) * 480;
            }
            if n > TICKS * 50 / period {
                (waited, callbacks) = (waited + filled, callbacks + 1);
            } else {
                before = dry;
            }
            dry += usize::from(filled < callback);
            filled = filled.saturating_sub(callback);
        }
        (dry - before, waited as f64 / callbacks as f64)
    }

    #[test]
    fn little_is_kept_ready_for_a_thread_that_is_on_time_and_more_for_a_late_one() {
        let (dry, waited) = play(480, 100, |_| 0);
        assert_eq!(dry, 0);
        assert!(waited <= 480.0 * 1.5, "{waited}");
        let (dry, late) = play(480, 100, |tick| if tick % 10 == 0 { 90 } else { 0 });
        assert_eq!(dry, 0, "it has learned");
        assert!(late > waited && late <= 480.0 * 4.0, "{late}");
        // Callbacks of another size than ours, and one that takes two blocks at once.
        for (callback, period) in [(320, 67), (960, 200), (1_024, 213)] {
            let (dry, waited) = play(callback, period, |_| 0);
            assert_eq!(dry, 0, "{callback}");
            assert!(waited < callback as f64 + 480.0 * 2.0, "{callback}: {waited}");
        }
    }
}
