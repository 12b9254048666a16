//! A device's stream as source or sink.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use cpal::traits::{DeviceTrait, StreamTrait};
use cpal::{
    BufferSize, Device, Error, ErrorKind, FromSample, I24, SampleFormat, SizedSample, Stream, StreamConfig,
    SupportedStreamConfig,
};
use rtrb::{Consumer, Producer};

use super::ring::{Flags, on_error, player, push_all, recorder, ring};
use super::timing::{Demand, Grid, Lead, OVERDUE, next_ready, period};
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
    rate: u32,
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
                rate: config.sample_rate,
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
        if let Ok(recorded) = self.ring.read_chunk(self.ring.slots()) {
            self.piece.extend(recorded);
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

    fn next_ready(&self, now: Instant) -> Option<Instant> {
        let latest = self.flags.latest()?;
        let period = period(self.flags.frames.load(Relaxed), self.rate)?;
        next_ready(latest, period, self.ready.len(), now)
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
    lead: Lead,
    /// The latest callback that was heeded, and what follows from it.
    called: Option<Instant>,
    /// Frames of the last callbacks, which may vary; the first ones, which fill the device's own buffer, are soon forgotten.
    sizes: [usize; 8],
    grid: Grid,
    demand: Option<Demand>,
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
                lead: Lead::default(),
                called: None,
                sizes: [0; 8],
                grid: Grid::default(),
                demand: None,
            })
        })
    }

    /// Heeds a callback that there has been meanwhile.
    fn follow(&mut self) {
        let Some(called) = self.flags.latest() else { return };
        if self.called != Some(called) {
            self.called = Some(called);
            self.sizes.rotate_right(1);
            self.sizes[0] = self.flags.frames.load(Relaxed);
            let frames = self.sizes.into_iter().max().unwrap_or(0);
            let Some(period) = period(frames, self.rate) else { return };
            let latest = self.grid.take(called, period);
            self.demand = Some(Demand { latest, frames, period });
        }
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

    fn wanted(&mut self, now: Instant) -> usize {
        self.lead.heed(now, self.flags.dry.load(Relaxed));
        let capacity = self.ring.buffer().capacity();
        let filled = capacity - self.ring.slots();
        self.follow();
        self.demand.map_or(usize::from(filled == 0), |demand| {
            let needed = demand.by(now + self.lead.time()).min(capacity);
            needed.saturating_sub(filled).div_ceil(self.block())
        })
    }

    fn next_wanted(&self, now: Instant) -> Option<Instant> {
        let filled = self.ring.buffer().capacity() - self.ring.slots();
        let at = self.demand?.beyond(filled).checked_sub(self.lead.time())?;
        // A device that is late for long may be asleep.
        (at + OVERDUE > now).then_some(at)
    }

    fn write(&mut self, block: &Block) -> Result<(), AudioError> {
        if self.flags.lost.load(Relaxed) {
            return Err(lost(&self.name));
        }
        let ring = &mut self.ring;
        // Beyond the hard cap samples are lost.
        self.resampler.push(block, |made| push_all(ring, made.len(), made.iter().copied()));
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

// The enum is cpal's, and may grow; these five cover what PulseAudio, PipeWire and ALSA default to.
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
        SampleFormat::I24 => input::<I24>(device, config, ring, flags),
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
        SampleFormat::I24 => output::<I24>(device, config, ring, flags),
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
