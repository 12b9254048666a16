//! How fast may be sent: a receiver that notices that packets queue up on their way says what rate would not
//! ([`Bottleneck`]), and a sender makes the best of it ([`Steering`]).
//!
//! Voice is thin, and its rate is what it is: nothing is gained by sending more on a wide link, so nobody looks for a link's
//! capacity as long as nothing queues. What matters is the narrow one (a mobile phone at the edge, an upload that somebody else
//! fills): there the delay grows by a fifth of a second each second until calls make no sense. Delay shows this long before
//! loss does, and loss alone says little: on radio it has nothing to do with the rate, and is best answered by sending
//! [more](crate::redundancy).
//!
//! Rates are bits per second of whole IP packets.

mod bottleneck;
mod steering;

pub use bottleneck::Bottleneck;
pub use steering::{MAX_BITRATE, MAX_COMPLEXITY, MIN_BITRATE, Plan, Steering};

/// Bytes of a packet beside RTP's payload: IPv4 20, UDP 8, QUIC's header, frame and tag 23, flow 1, RTP's short header 6.
pub const OVERHEAD: usize = 58;
/// Frames of voice per second.
const FRAMES: u32 = 50;

/// The rate of a stream of packets with so many frames and this many bytes of payload each.
fn rate_of(frames: u32, payload: f64) -> f64 {
    (payload + OVERHEAD as f64) * 8.0 * f64::from(FRAMES) / f64::from(frames)
}
