//! Directories that the engine wants connections with, for contacts' sake.

use std::time::Instant;

use libp2p::Multiaddr;

use super::addr;
use super::driver::Driver;
use super::links::{Kind, Link};

/// Kept directories at a time; further ones are not kept.
const MAX_KEPT: usize = 8;

impl Driver {
    /// Replaces the kept directories.
    pub(super) fn keep_links(&mut self, addrs: Vec<Multiaddr>) {
        let now = Instant::now();
        let wanted: Vec<_> = addrs
            .into_iter()
            .filter(|addr| {
                addr::last_peer(addr).is_some() && !addr::is_relayed(addr) && !addr::is_peer_only(addr)
            })
            .filter(|addr| self.private.permits(addr))
            .take(MAX_KEPT)
            .collect();
        for link in &mut self.links.all {
            link.contact =
                wanted.iter().any(|addr| link.peer.is_some() && addr::last_peer(addr) == link.peer);
            if link.contact && link.leaving().is_some() {
                link.kind = Kind::Kept;
            }
        }
        let gone: Vec<_> = self
            .links
            .all
            .extract_if(.., |link| link.kind == Kind::Kept && !wanted.contains(&link.addr))
            .filter_map(|link| link.peer)
            .collect();
        for peer in gone {
            self.refresh_hold(peer);
        }
        for addr in wanted {
            // A contact's directory on the internet: so this is no network of its own.
            self.links.found |= addr::is_public(&addr);
            self.not_private_if_public(&addr);
            let known =
                self.links.all.iter().any(|link| link.addr == addr || link.peer == addr::last_peer(&addr));
            if let Some(name) = addr::text(&addr).filter(|_| !known) {
                self.links.all.push(Link::new(name, addr, Kind::Kept, now));
            }
        }
        // At once: somebody may be waiting to dial.
        self.tick_links(now);
        self.dirty = true;
    }
}
