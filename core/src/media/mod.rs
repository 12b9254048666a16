//! The media of one call: an own UDP socket, ICE to find a way, QUIC over it, voice as RTP over QUIC datagrams.
//!
//! A [`MediaLeg`] is one end of the media between two terminals. It knows nothing of numbers, records or
//! signalling: whoever owns it carries its offer, its candidates and its tunnel packets to the other end by
//! signed signalling, and tells it when its addresses may be shown and when the voice may start.
//!
//! ```text
//!   leg ── the owner's handle, and a thread for what is behind it
//!    │
//!   driver ── one task that owns the parts below
//!    ├── candidates, handshake, report: what it does with them
//!    ├── socket   UDP + virtual peer address; tells STUN from QUIC; knows the current path
//!    ├── gather   STUN client: how others see our address          (sans-IO)
//!    ├── ice      connectivity checks, which addresses are genuine (sans-IO)
//!    ├── courier  signalling packets past everything else         (sans-IO)
//!    ├── relay    TURN client: addresses that show nothing of us  (sans-IO)
//!    ├── quic     pinned certificates, transport settings
//!    ├── watchdog silence where voice should be                   (sans-IO)
//!    ├── meter    rates and quality from counters                 (sans-IO)
//!    ├── session  what runs over the QUIC connection: control stream and datagrams
//!    └── voice    one thread: microphone -> Opus -> RTP, RTP -> jitter buffer -> loudspeaker
//! ```
//!
//! QUIC sees one constant, virtual peer address. The socket maps it to the current [`Path`], so the keys can be
//! agreed while it rings through packets carried by signalling ([`Path::Tunnel`]) or by a relay ([`Path::Relayed`]),
//! and the connection moves to a direct path without noticing. Only authenticated STUN and signed signalling can change the path.

mod courier;
mod driver;
#[doc(hidden)]
pub mod fuzz;
mod gather;
mod hosts;
mod ice;
mod leg;
mod mapping;
mod meter;
mod quic;
mod relay;
mod session;
mod socket;
#[doc(hidden)]
pub mod trial;
mod types;
mod urgency;
mod voice;
mod watchdog;

pub use leg::MediaLeg;
pub use mapping::PortMapper;
pub use relay::MAX_RELAYS;
pub use types::{
    AudioConfig, DeviceNews, MediaConfig, MediaError, MediaEvent, MediaStats, Party, Path, Relay, Role,
};

#[cfg(test)]
mod tests;
