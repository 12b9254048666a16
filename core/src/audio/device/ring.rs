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
    let frames = data.len() / channels;
    flags.called(frames);
    let mixed = data.chunks_exact(channels).map(|frame| {
        let sum: f32 = frame.iter().map(|sample| f32::from_sample(*sample)).sum();
        // One NaN would silence the resampler for good.
        if sum.is_finite() { sum / channels as f32 } else { 0.0 }
    });
    push_all(ring, frames, mixed);
}

/// Pushes so many samples, or as many as there is room for; to publish them one by one takes longer than all else that is done to them.
pub(super) fn push_all(ring: &mut Producer<f32>, count: usize, samples: impl Iterator<Item = f32>) {
    let room = ring.slots().min(count);
    if let Ok(chunk) = ring.write_chunk_uninit(room) {
        chunk.fill_from_iter(samples);
    }
}

/// The body of a playing callback: the same sample on all channels, silence when the ring is empty.
pub(super) fn play<T>(data: &mut [T], channels: usize, ring: &mut Consumer<f32>, flags: &Flags)
where
    T: Sample + FromSample<f32>,
{
    let channels = channels.max(1);
    let frames = data.len() / channels;
    flags.called(frames);
    let there = ring.slots().min(frames);
    if there < frames {
        flags.dry.fetch_add(1, Relaxed);
    }
    let silence = T::from_sample(0.0);
    let samples = ring.read_chunk(there).into_iter().flatten().map(T::from_sample);
    let samples = samples.chain(std::iter::repeat(silence));
    data.chunks_mut(channels).zip(samples).for_each(|(frame, sample)| frame.fill(sample));
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
    fn what_is_recorded_is_played_in_order_however_often_the_ring_wraps() {
        let (mut producer, mut consumer, flags) = ring(7);
        let (mut said, mut heard) = (0i16, Vec::new());
        for n in 0..200 {
            // Two channels of the same, of 0 to 4 frames.
            let frames: Vec<i16> = (0..n % 5).flat_map(|k| [said + k; 2]).collect();
            said += n % 5;
            record(&frames, 2, &mut producer, &flags);
            let mut played = vec![0i16; (n % 5) as usize];
            play(&mut played, 1, &mut consumer, &flags);
            heard.extend(played);
        }
        assert_eq!(heard, (0..said).collect::<Vec<_>>());
        assert_eq!(flags.dry.load(Relaxed), 0);
        record(&[f32::NAN, 0.0], 2, &mut producer, &flags);
        assert_eq!(consumer.pop(), Ok(0.0), "and what is no number is silence");
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
