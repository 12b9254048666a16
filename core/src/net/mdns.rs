//! Peers on the local network (RFC 6762).

use libp2p::{Multiaddr, PeerId, mdns};
use tracing::debug;

use super::addr;
use super::codec::Request;
use super::driver::Driver;
use super::requests::Asker;

/// Peers of the local network kept in mind; further ones are not.
const MAX_LAN: usize = 64;

/// Addresses kept of one of them.
const MAX_ADDRS: usize = 8;

/// How many of them are greeted without need, to learn whether one of them serves the DHT.
const GREETED: usize = 4;

impl Driver {
    pub(super) fn on_mdns(&mut self, event: mdns::Event) {
        match event {
            mdns::Event::Discovered(found) => {
                for (peer, addr) in found {
                    self.on_lan_peer(peer, addr);
                }
            }
            mdns::Event::Expired(gone) => {
                for (peer, addr) in gone {
                    if let Some(addrs) = self.lan.get_mut(&peer) {
                        addrs.retain(|known| *known != addr);
                        self.private.remove_neighbour(&addr);
                        if addrs.is_empty() {
                            self.lan.remove(&peer);
                            self.dirty = true;
                        }
                    }
                }
            }
        }
    }

    fn on_lan_peer(&mut self, peer: PeerId, addr: Multiaddr) {
        // Announcements are not signed: they may lead to the local network, but not to this host's own services.
        if addr::is_loopback(&addr) && !self.private.allowed() {
            return;
        }
        let new = !self.lan.contains_key(&peer);
        if new && self.lan.len() >= MAX_LAN {
            return;
        }
        self.dirty |= new;
        let addrs = self.lan.entry(peer).or_default();
        if addrs.len() < MAX_ADDRS && !addrs.contains(&addr) {
            self.private.add_neighbour(&addr);
            addrs.push(addr);
        }
        if new && self.lan.len() <= GREETED {
            debug!("a peer on the local network");
            let addrs = self.lan.get(&peer).cloned().unwrap_or_default();
            self.request(peer, addrs, Request::Hello, Asker::Greeting);
        }
    }
}
