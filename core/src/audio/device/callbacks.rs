//! The callbacks of sound devices, for the test that counts what they allocate.

use cpal::{Error, ErrorKind, FromSample, Sample};

use super::ring::{on_error, player, recorder, ring};

/// What a device calls: with what was recorded, for what is to be played (here the same, through one ring of `samples`), and with an
/// error that ends the stream or not.
#[allow(clippy::type_complexity, reason = "functions have no names")]
pub fn callbacks<T>(
    channels: usize,
    samples: usize,
) -> (impl FnMut(&[T], &()) + Send, impl FnMut(&mut [T], &()) + Send, impl FnMut(bool) + Send)
where
    T: Sample + Copy + FromSample<f32> + Send + 'static,
    f32: FromSample<T>,
{
    let (producer, consumer, flags) = ring(samples);
    let mut fail = on_error(&flags);
    let told =
        move |ends| fail(Error::new(if ends { ErrorKind::DeviceNotAvailable } else { ErrorKind::Xrun }));
    (recorder(channels, producer, &flags), player(channels, consumer, &flags), told)
}
