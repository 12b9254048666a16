//! The leg's port at the router.

use std::net::SocketAddr;

use super::Driver;
use crate::media::mapping::{Mapped, Mapping};
use crate::media::socket::MediaSocket;
use crate::media::types::MediaConfig;

/// Asks for a port, unless our addresses are of no use.
pub(super) fn ask_router(config: &MediaConfig, socket: &MediaSocket) -> Mapping {
    let ports = config.ports.as_ref().filter(|_| !config.relay_only);
    let port = socket.bound().find(SocketAddr::is_ipv4).map(|bound| bound.port());
    ports.zip(port).map_or_else(Mapping::none, |(ports, port)| ports.map(port))
}

impl Driver {
    /// The router takes packets for us at an address of its own.
    pub(super) async fn on_mapped(&mut self, mapped: Mapped) {
        let port = self.socket.bound().find(SocketAddr::is_ipv4).map(|bound| bound.port());
        let base = port.map(|port| SocketAddr::new(mapped.local, port));
        if let Some(base) = base.filter(|base| self.network.has(base)) {
            self.candidates.extend(self.ice.add_reflexive(mapped.external, base));
            self.tell_candidates().await;
        }
    }
}
