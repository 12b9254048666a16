//! Rings between a device's callback and the voice thread. A callback touches nothing else: no lock, no
//! allocation, no log. `core/tests/callbacks.rs` fails if one does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use cpal::{Error, ErrorKind, FromSample, Sample};
use rtrb::{Consumer, Producer, RingBuffer};

/// What a callback reports besides samples.
#[derive(Debug)]
pub(super) struct Flags {
    /// When the ring was made, and the time of the latest callback since, nanoseconds; 0 before the first one.
    made: Instant,
    latest: AtomicU64,
    /// The stream is over.
    pub(super) lost: AtomicBool,
    /// Frames of the latest callback.
    pub(super) frames: AtomicUsize,
    /// Playing callbacks that found too little.
    pub(super) dry: AtomicUsize,
}

impl Flags {
    fn new() -> Flags {
        Flags {
            made: Instant::now(),
            latest: AtomicU64::new(0),
            lost: AtomicBool::new(false),
            frames: AtomicUsize::new(0),
            dry: AtomicUsize::new(0),
        }
    }

    /// A callback for so many frames has begun.
    fn called(&self, frames: usize) {
        self.frames.store(frames, Relaxed);
        self.latest.store(self.made.elapsed().as_nanos() as u64, Relaxed);
    }

    /// When the latest callback was, if there has been one.
    pub(super) fn latest(&self) -> Option<Instant> {
        let latest = self.latest.load(Relaxed);
        (latest > 0).then(|| self.made + Duration::from_nanos(latest))
    }
}

/// A ring for `samples` samples, with flags for both ends.
pub(super) fn ring(samples: usize) -> (Producer<f32>, Consumer<f32>, Arc<Flags>) {
    let (producer, consumer) = RingBuffer::new(samples);
    (producer, consumer, Arc::new(Flags::new()))
}

/// A recording callback.
pub(super) fn recorder<T, I>(
    channels: usize,
    mut ring: Producer<f32>,
    flags: &Arc<Flags>,
) -> impl FnMut(&[T], &I) + Send + 'static + use<T, I>
where
    T: Sample + Copy,
    f32: FromSample<T>,
{
    let flags = flags.clone();
    move |data, _| record(data, channels, &mut ring, &flags)
}

/// A playing callback.
pub(super) fn player<T, I>(
    channels: usize,
    mut ring: Consumer<f32>,
    flags: &Arc<Flags>,
) -> impl FnMut(&mut [T], &I) + Send + 'static + use<T, I>
where
    T: Sample + FromSample<f32>,
{
    let flags = flags.clone();
    move |data, _| play(data, channels, &mut ring, &flags)
}

/// An error callback. A stream survives overruns and changes of route; anything that ends it is noted for the voice thread.
pub(super) fn on_error(flags: &Arc<Flags>) -> impl FnMut(Error) + Send + 'static + use<> {
    let flags = flags.clone();
    move |error| {
        let survives = matches!(
            error.kind(),
            ErrorKind::Xrun | ErrorKind::DeviceChanged | ErrorKind::RealtimeDenied | ErrorKind::BackendError
        );
        if !survives {
            flags.lost.store(true, Relaxed);
        }
    }
}

/// The body of a recording callback: mixes the channels and pushes. When the ring is full, because nobody
/// reads, new samples are lost.
pub(super) fn record<T>(data: &[T], channels: usize, ring: &mut Producer<f32>, flags: &Flags)
where
    T: Sample + Copy,
    f32: FromSample<T>,
{
    let channels = channels.max(1);
    flags.called(data.len() / channels);
    for frame in data.chunks_exact(channels) {
        let sum: f32 = frame.iter().map(|sample| f32::from_sample(*sample)).sum();
        if ring.push(sum / channels as f32).is_err() {
            return;
        }
    }
}

/// The body of a playing callback: the same sample on all channels, silence when the ring is empty.
pub(super) fn play<T>(data: &mut [T], channels: usize, ring: &mut Consumer<f32>, flags: &Flags)
where
    T: Sample + FromSample<f32>,
{
    let channels = channels.max(1);
    flags.called(data.len() / channels);
    if ring.slots() < data.len() / channels {
        flags.dry.fetch_add(1, Relaxed);
    }
    for frame in data.chunks_mut(channels) {
        frame.fill(T::from_sample(ring.pop().unwrap_or(0.0)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_mixed_and_a_full_ring_loses_the_new() {
        let (mut producer, mut consumer, flags) = ring(3);
        record(&[i16::MAX, 0, 0, i16::MIN, 0, 0, i16::MAX, i16::MAX], 2, &mut producer, &flags);
        let heard: Vec<f32> = std::iter::from_fn(|| consumer.pop().ok()).collect();
        assert_eq!(heard.len(), 3);
        assert!((heard[0] - 0.5).abs() < 0.001 && (heard[1] + 0.5).abs() < 0.001 && heard[2] == 0.0);
        assert_eq!(flags.frames.load(Relaxed), 4);
    }

    #[test]
    fn an_empty_ring_plays_silence() {
        let (mut producer, mut consumer, flags) = ring(8);
        producer.push(1.0).unwrap();
        let mut out = [7u8; 4];
        play(&mut out, 2, &mut consumer, &flags);
        assert_eq!(out, [255, 255, 128, 128]);
        assert_eq!(flags.dry.load(Relaxed), 1, "and that is told");
        producer.push(1.0).unwrap();
        play(&mut out[..2], 2, &mut consumer, &flags);
        assert_eq!(flags.dry.load(Relaxed), 1, "one frame was wanted and there");
    }
}
