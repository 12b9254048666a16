//! Which media relays a leg uses.
//!
//! Both ends allocate while it rings, and sound flows at once when the call is answered. It takes one detour only if both
//! use the same relay, which is to be one of the *callee's* directories: the callee has tickets there, and the caller, who
//! has dialled somebody there, asks for a guest's. A callee never turns to a relay that a caller names, who could else see
//! its address.

use offhook_proto::call::{LegId, Role};
use offhook_proto::identity::TerminalId;
use offhook_proto::number::{NodeAddr, Number};
use offhook_proto::relay::{GuestClaim, RelayTicket, RelayTransport};

use super::{Engine, Internal};
use crate::TurnServer;
use crate::media::{MAX_RELAYS, Relay};

/// Directories of a callee that are asked for a guest's ticket, one after another.
const MAX_ASKED: usize = 2;

impl Engine {
    /// The relays that a leg can use from the start: those that there are tickets for.
    pub(super) fn relays_at_hand(&self, leg: &LegId, role: Role) -> Vec<Relay> {
        let (mut held, over) = (self.net.relay_tickets(), self.net.reached_over());
        let (via, theirs) = (self.legs.via(leg), self.directories_of(leg));
        let is_shared = |directory: &TerminalId| match role {
            Role::Caller => is_among(&theirs, directory),
            Role::Callee => via == Some(*directory),
        };
        // The directory that both ends have in common is the first.
        held.sort_by_key(|(directory, _)| !is_shared(directory));
        let places = if self.turn.is_empty() { MAX_RELAYS } else { MAX_RELAYS - 1 };
        // A guest's ticket is still to come, and worth more than a relay that the other end does not use.
        let guest = role == Role::Caller && !held.first().is_some_and(|(directory, _)| is_shared(directory));
        let places = if guest && !theirs.is_empty() { places - 1 } else { places };
        let relay = |(directory, ticket)| relay_of(&directory, ticket, is_shared(&directory), over);
        held.into_iter().take(places).map(relay).collect()
    }

    /// Has further relays found for a leg that has begun: the callee's, if we are the caller and have no ticket there,
    /// and the user's own TURN servers.
    pub(super) fn find_relays(&self, leg: LegId, role: Role) {
        for server in self.turn.clone() {
            let (internal, over) = (self.internal.clone(), self.net.reached_over());
            self.jobs.spawn(async move {
                if let Some(relay) = own_relay(&server, over).await {
                    // An error means that the engine has ended.
                    let _ = internal.send(Internal::Relay(leg, relay)).await;
                }
            });
        }
        let theirs = self.directories_of(&leg);
        let has_ticket = self.net.relay_tickets().iter().any(|(directory, _)| is_among(&theirs, directory));
        let (Role::Caller, false, Some(claim)) = (role, has_ticket, self.guest_claim()) else { return };
        let (net, internal) = (self.net.clone(), self.internal.clone());
        self.jobs.spawn(async move {
            for (directory, addrs) in theirs.into_iter().take(MAX_ASKED) {
                match net.relay_ticket(&addrs, claim.clone()).await {
                    Ok(ticket) => {
                        let relay = relay_of(&directory, ticket, true, net.reached_over());
                        let _ = internal.send(Internal::Relay(leg, relay)).await;
                        return;
                    }
                    Err(error) => tracing::debug!(%error, "a directory gives no ticket for its relay"),
                }
            }
        });
    }

    /// The directories through which the other terminal of a leg is reached, each once with all its addresses, in its own
    /// order.
    fn directories_of(&self, leg: &LegId) -> Vec<(TerminalId, Vec<NodeAddr>)> {
        let Some(peer) = self.calls.peer_of(leg) else { return Vec::new() };
        let relays = peer.routes.iter().filter_map(NodeAddr::relay);
        let named = relays.filter_map(|addr| Some((TerminalId::from_peer_id(addr.peer_id()?).ok()?, addr)));
        let mut directories: Vec<(TerminalId, Vec<NodeAddr>)> = Vec::new();
        for (node, addr) in named {
            match directories.iter_mut().find(|(known, _)| *known == node) {
                Some((_, addrs)) => addrs.push(addr),
                None => directories.push((node, vec![addr])),
            }
        }
        directories
    }

    /// What shows that this terminal has a plain number. Nobody gives guests' tickets for chosen ones.
    fn guest_claim(&self) -> Option<GuestClaim> {
        match self.account.number() {
            Number::Plain(_) => Some(GuestClaim {
                number: self.account.number().clone(),
                proof: self.account.proof().clone(),
                identity: self.account.identity(),
                cert: self.account.cert(),
            }),
            Number::Chosen(_) => None,
        }
    }
}

fn is_among(directories: &[(TerminalId, Vec<NodeAddr>)], directory: &TerminalId) -> bool {
    directories.iter().any(|(node, _)| node == directory)
}

fn relay_of(
    directory: &TerminalId,
    ticket: RelayTicket,
    shared: bool,
    reached_over: RelayTransport,
) -> Relay {
    let RelayTicket { servers, username, password, lifetime_s: _, nonce } = ticket;
    let (label, courier) = (directory.to_peer_id(), true);
    Relay { label, servers, username, password, nonce, shared, courier, reached_over }
}

/// A TURN server of the user's own, with its name looked up.
async fn own_relay(server: &TurnServer, reached_over: RelayTransport) -> Option<Relay> {
    match server.resolve().await {
        Ok(servers) if !servers.is_empty() => {
            let (username, password) = server.credentials();
            let (label, nonce, shared, courier) = (server.host().to_owned(), None, false, false);
            Some(Relay { label, servers, username, password, nonce, shared, courier, reached_over })
        }
        Ok(_) => None,
        Err(error) => {
            tracing::warn!(%error, "a TURN server's name could not be looked up");
            None
        }
    }
}
