//! Microphones and loudspeakers of the embedding program.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::{AudioError, AudioSink, AudioSource, Block, Pace};

/// A microphone or loudspeaker of the embedding program.
#[derive(Clone)]
pub struct CustomDevice(Arc<dyn AudioProvider>);

/// Makes a source or sink for each call that uses a [`CustomDevice`], a sink for each tone that is played there, and another one when
/// that is gone. What is made
/// is started and dropped on the thread that asks for it; each of this may take its time.
pub trait AudioProvider: Send + Sync {
    /// A microphone, or `None` if this is not one.
    fn source(&self) -> Option<Box<dyn AudioSource>> {
        None
    }

    /// A loudspeaker, or `None` if this is not one.
    fn sink(&self) -> Option<Box<dyn AudioSink>> {
        None
    }
}

impl CustomDevice {
    /// Wraps a provider, for devices with a clock of their own.
    pub fn new(provider: Arc<dyn AudioProvider>) -> CustomDevice {
        CustomDevice(provider)
    }

    /// A microphone that keeps time by the system's clock. For each call `begin` gives a function, which is then
    /// asked for every 10 ms of sound. It runs on the thread of the voice: it must not block.
    ///
    /// ```
    /// use offhook::audio::{Block, CustomDevice, DeviceSpec, SAMPLE_RATE};
    ///
    /// let tone = CustomDevice::microphone(|| {
    ///     let mut sample = 0u32;
    ///     move |block: &mut Block| {
    ///         for out in block.iter_mut() {
    ///             let turns = f64::from(sample) * 440.0 / f64::from(SAMPLE_RATE);
    ///             *out = 0.3 * (turns * std::f64::consts::TAU).sin() as f32;
    ///             sample = (sample + 1) % SAMPLE_RATE;
    ///         }
    ///     }
    /// });
    /// let mic = DeviceSpec::Custom(tone);
    /// # assert_eq!(mic.to_string(), "custom");
    /// ```
    pub fn microphone<F>(begin: impl Fn() -> F + Send + Sync + 'static) -> CustomDevice
    where
        F: FnMut(&mut Block) + Send + 'static,
    {
        CustomDevice(Arc::new(Microphone(begin)))
    }

    /// A loudspeaker that keeps time by the system's clock. For each call and each tone `begin` gives a function, which is then
    /// given every 10 ms of sound. It runs on the thread of the voice: it must not block.
    pub fn loudspeaker<F>(begin: impl Fn() -> F + Send + Sync + 'static) -> CustomDevice
    where
        F: FnMut(&Block) + Send + 'static,
    {
        CustomDevice(Arc::new(Loudspeaker(begin)))
    }

    pub(super) fn source(&self) -> Option<Box<dyn AudioSource>> {
        self.0.source()
    }

    pub(super) fn sink(&self) -> Option<Box<dyn AudioSink>> {
        self.0.sink()
    }
}

impl fmt::Debug for CustomDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CustomDevice")
    }
}

/// The same provider.
impl PartialEq for CustomDevice {
    fn eq(&self, other: &CustomDevice) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

struct Microphone<B>(B);

impl<F, B> AudioProvider for Microphone<B>
where
    F: FnMut(&mut Block) + Send + 'static,
    B: Fn() -> F + Send + Sync,
{
    fn source(&self) -> Option<Box<dyn AudioSource>> {
        Some(Box::new(Clocked { pace: Pace::default(), act: (self.0)() }))
    }
}

struct Loudspeaker<B>(B);

impl<F, B> AudioProvider for Loudspeaker<B>
where
    F: FnMut(&Block) + Send + 'static,
    B: Fn() -> F + Send + Sync,
{
    fn sink(&self) -> Option<Box<dyn AudioSink>> {
        Some(Box::new(Clocked { pace: Pace::default(), act: (self.0)() }))
    }
}

/// A function at the pace of the clock.
struct Clocked<F> {
    pace: Pace,
    act: F,
}

impl<F: FnMut(&mut Block) + Send> AudioSource for Clocked<F> {
    fn start(&mut self, now: Instant) -> Result<Instant, AudioError> {
        Ok(self.pace.start(now))
    }

    fn read(&mut self, now: Instant, block: &mut Block) -> Result<bool, AudioError> {
        let spoken = self.pace.take_spoken(now);
        if spoken {
            (self.act)(block);
        }
        Ok(spoken)
    }

    fn next_ready(&self, _now: Instant) -> Option<Instant> {
        self.pace.next_spoken()
    }
}

impl<F: FnMut(&Block) + Send> AudioSink for Clocked<F> {
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
        (self.act)(block);
        self.pace.given();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{BLOCK_LEN, BLOCK_TIME};
    use std::sync::Mutex;

    #[test]
    fn functions_are_asked_at_the_pace_of_the_clock() {
        let mic = CustomDevice::microphone(|| {
            let mut next = 0.0;
            move |block: &mut Block| {
                next += 0.1;
                block.fill(next);
            }
        });
        assert!(mic.sink().is_none());
        let start = Instant::now();
        let mut block = [0.0; BLOCK_LEN];
        for _call in 0..2 {
            let mut source = mic.source().unwrap();
            source.start(start).unwrap();
            assert_eq!(source.read(start, &mut block), Ok(false), "not spoken yet");
            for expected in [0.1, 0.2] {
                assert_eq!(source.read(start + BLOCK_TIME * 2, &mut block), Ok(true));
                assert!((block[7] - expected).abs() < 1e-6, "each call begins anew");
            }
            assert_eq!(source.read(start + BLOCK_TIME * 2, &mut block), Ok(false));
        }
        let heard = Arc::new(Mutex::new(Vec::new()));
        let speaker = CustomDevice::loudspeaker({
            let heard = heard.clone();
            move || {
                let heard = heard.clone();
                move |block: &Block| heard.lock().unwrap().push(block[0])
            }
        });
        let mut sink = speaker.sink().unwrap();
        sink.start(start).unwrap();
        assert_eq!(sink.wanted(start + BLOCK_TIME), 2);
        sink.write(&[0.5; BLOCK_LEN]).unwrap();
        assert_eq!(sink.wanted(start + BLOCK_TIME), 1);
        assert_eq!(*heard.lock().unwrap(), [0.5]);
    }
}
