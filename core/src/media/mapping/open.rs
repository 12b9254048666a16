//! One port of a router, however it was opened.

use std::convert::Infallible;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;

use super::{packets, upnp};

/// A way to ask a router.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Way {
    Packets(packets::Protocol),
    Upnp(upnp::Router),
}

impl Way {
    /// Has a port opened that leads to this one of ours.
    pub(super) async fn open(&self, home: Ipv4Addr, port: NonZeroU16) -> Option<Open> {
        match self {
            Way::Packets(protocol) => packets::Port::open(*protocol, port).await.map(Open::Packets),
            Way::Upnp(router) => upnp::Port::open(router, home, port).await.map(Open::Upnp),
        }
    }
}

impl fmt::Debug for Way {
    /// Without addresses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Way::Packets(protocol) => protocol.fmt(f),
            Way::Upnp(_) => f.write_str("Upnp"),
        }
    }
}

/// A port that is open.
pub(super) enum Open {
    Packets(packets::Port),
    Upnp(upnp::Port),
}

impl Open {
    /// Keeps it open, and tells where it is: now, and whenever that changes.
    pub(super) async fn hold(&mut self, tell: impl Fn(Option<SocketAddr>)) -> Infallible {
        match self {
            Open::Packets(port) => port.hold(tell).await,
            Open::Upnp(port) => port.hold(tell).await,
        }
    }

    /// Gives it back.
    pub(super) async fn close(self) {
        match self {
            Open::Packets(port) => port.close().await,
            Open::Upnp(port) => port.close().await,
        }
    }
}
