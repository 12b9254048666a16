//! HeldTickets for the media relays of directories: kept fresh for those where this terminal is registered, fetched for one
//! call from others.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use libp2p::PeerId;
use offhook_proto::identity::TerminalId;
use offhook_proto::number::NodeAddr;
use offhook_proto::relay::{FULL_LIFETIME, GuestClaim, RelayTicket};
use thiserror::Error;
use tracing::debug;

use super::addr::{self, AddrError};
use super::client::{Client, RequestError};
use super::codec::{Refusal, Request, Response};
use super::driver::Driver;
use super::requests::{Asker, REQUEST_TIME};

/// HeldTickets kept; beyond it the one that is over first gives way. A terminal has a few homes at a time.
const MAX_TICKETS: usize = 16;

/// A ticket is renewed after half its life, but not more often than this, whatever life a directory gives it.
const RENEW_MIN: Duration = Duration::from_secs(30);

/// A directory that had too much to do, or broke off, is asked again after this.
const ASK_BUSY: Duration = Duration::from_secs(30);

/// The same for one that refused: it has no relay, or does not hold this terminal's records. It is asked at once when it
/// has taken them.
const ASK_REFUSED: Duration = Duration::from_secs(600);

/// Why there is no ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RelayError {
    /// The directory's address.
    #[error(transparent)]
    Addr(#[from] AddrError),
    /// The directory is not where one may connect to on a stranger's word.
    #[error("a private address is not dialled for a stranger")]
    Private,
    /// The directory says no, and asking again does not help.
    #[error("the directory refuses: {0:?}")]
    Refused(Refusal),
    /// The directory has too much to do.
    #[error("the directory has too much to do")]
    Busy,
    /// The directory's answer is none to this question, or names no relay that may be used.
    #[error("the directory's answer is not a ticket")]
    Malformed,
    /// No answer.
    #[error(transparent)]
    Request(RequestError),
}

/// A ticket and when it is over.
struct Held {
    ticket: RelayTicket,
    until: Instant,
}

/// The tickets of the directories where this terminal is registered. Clones share them.
#[derive(Clone, Default)]
pub(super) struct HeldTickets {
    held: Arc<Mutex<HashMap<PeerId, Held>>>,
}

impl HeldTickets {
    /// Those that are good at `now`, each with the time that is left to it. The one that is good longest is the first:
    /// a directory that has been lost renews none.
    pub(super) fn good(&self, now: Instant) -> Vec<(TerminalId, RelayTicket)> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let mut good: Vec<_> = held.iter().filter(|(_, held)| held.until > now).collect();
        good.sort_by_key(|(peer, held)| (std::cmp::Reverse(held.until), **peer));
        let left = |held: &Held| held.until.saturating_duration_since(now).as_secs();
        let listed = good.into_iter().filter_map(|(peer, held)| {
            let lifetime_s = u32::try_from(left(held)).unwrap_or(u32::MAX);
            Some((addr::terminal_of(peer)?, RelayTicket { lifetime_s, ..held.ticket.clone() }))
        });
        listed.collect()
    }

    /// The one of a directory.
    fn of(&self, peer: &PeerId, now: Instant) -> Option<RelayTicket> {
        let terminal = addr::terminal_of(peer)?;
        self.good(now).into_iter().find_map(|(of, ticket)| (of == terminal).then_some(ticket))
    }

    /// Keeps a ticket; when to renew it.
    fn keep(&self, peer: PeerId, ticket: RelayTicket, now: Instant) -> Instant {
        let life = Duration::from_secs(ticket.lifetime_s.into()).min(FULL_LIFETIME);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|_, held| held.until > now);
        held.insert(peer, Held { ticket, until: now + life });
        while held.len() > MAX_TICKETS {
            let first = held.iter().min_by_key(|(_, held)| held.until).map(|(peer, _)| *peer);
            first.map(|peer| held.remove(&peer));
        }
        now + (life / 2).max(RENEW_MIN)
    }

    /// The directory has nothing to do with this terminal any more.
    pub(super) fn forget(&self, peer: &PeerId) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(peer);
    }
}

impl Driver {
    /// Asks a directory where this terminal is registered for a ticket.
    pub(super) fn ask_ticket(&mut self, index: usize) {
        let link = &mut self.links.all[index];
        link.ticket_again = None;
        if let (Some(peer), true) = (link.peer, link.registered) {
            self.request(peer, Vec::new(), Request::Relay { claim: None }, Asker::Ticket);
        }
    }

    /// A directory holds this terminal's records now, which it may have missed when it was asked for a ticket.
    pub(super) fn on_records_held(&mut self, peer: PeerId) {
        let index = self.links.all.iter().position(|link| link.peer == Some(peer) && link.registered);
        if let Some(index) = index
            && self.held_tickets.of(&peer, Instant::now()).is_none()
        {
            self.ask_ticket(index);
        }
    }

    /// The answer to [`Driver::ask_ticket`].
    pub(super) fn on_ticket(&mut self, peer: PeerId, result: Result<Response, RequestError>) {
        let now = Instant::now();
        let remote = self.peers.get(&peer).and_then(|state| state.direct()).and_then(addr::ip_of);
        let again = match checked(result, self.private.allowed(), remote.as_slice()) {
            Ok(ticket) => self.held_tickets.keep(peer, ticket, now),
            Err(RelayError::Busy | RelayError::Request(_)) => now + ASK_BUSY,
            Err(
                error @ (RelayError::Refused(_)
                | RelayError::Malformed
                | RelayError::Addr(_)
                | RelayError::Private),
            ) => {
                debug!(%error, "no ticket");
                self.held_tickets.forget(&peer);
                now + ASK_REFUSED
            }
        };
        for link in self.links.all.iter_mut().filter(|link| link.registered && link.peer == Some(peer)) {
            link.ticket_again = Some(again);
        }
    }
}

/// A ticket for one call, from the directory of somebody else. One that is held for that directory is as good.
pub(super) async fn fetch(
    client: &Client,
    tickets: &HeldTickets,
    directory: &[NodeAddr],
    claim: GuestClaim,
) -> Result<RelayTicket, RelayError> {
    // One that this version does not know is no reason to use none.
    let addrs = directory.iter().filter_map(|addr| addr::parse(addr).ok());
    let addrs = addrs.map(|addr| addr::relay_of(&addr).map_or(addr, |(_, relay)| relay));
    let mut addrs: Vec<_> = addrs.collect();
    let peer = addrs.first().and_then(addr::last_peer).ok_or(AddrError::NoPeer)?;
    if let Some(ticket) = tickets.of(&peer, Instant::now()) {
        return Ok(ticket);
    }
    addrs.retain(|addr| client.private.permits(addr));
    if addrs.is_empty() {
        return Err(RelayError::Private);
    }
    let remotes: Vec<IpAddr> = addrs.iter().filter_map(addr::ip_of).collect();
    let request = Request::Relay { claim: Some(claim) };
    let result = client.request(peer, addrs, request, REQUEST_TIME).await;
    checked(result, client.private.allowed(), &remotes)
}

/// The ticket in an answer, with those of its servers that may be used.
fn checked(
    result: Result<Response, RequestError>,
    allow_private: bool,
    remotes: &[IpAddr],
) -> Result<RelayTicket, RelayError> {
    let mut ticket = match result {
        Ok(Response::Ticket(ticket)) => ticket,
        Ok(Response::Refused { reason }) => return Err(RelayError::Refused(reason)),
        Ok(Response::Busy) | Err(RequestError::Busy) => return Err(RelayError::Busy),
        Ok(
            Response::Welcome { .. }
            | Response::Delivered
            | Response::NotConnected
            | Response::Found { .. }
            | Response::Stored
            | Response::Sought(_)
            | Response::Published { .. }
            | Response::Knocking,
        ) => return Err(RelayError::Malformed),
        Err(error) => return Err(RelayError::Request(error)),
    };
    if !ticket.is_sound() {
        return Err(RelayError::Malformed);
    }
    ticket.servers.retain(|server| may_use(server.addr, allow_private, remotes));
    if ticket.servers.is_empty() { Err(RelayError::Malformed) } else { Ok(ticket) }
}

/// A directory must not make terminals send datagrams into their own networks; only under its own address may it be in
/// one of them.
fn may_use(server: SocketAddr, allow_private: bool, remotes: &[IpAddr]) -> bool {
    let ip = server.ip().to_canonical();
    let usable = server.port() != 0 && !ip.is_unspecified() && !ip.is_multicast();
    let same = remotes.iter().any(|remote| remote.to_canonical() == ip);
    usable && (allow_private || same || addr::is_global(ip))
}

#[cfg(test)]
mod tests {
    use offhook_proto::relay::{RelayServer, RelayTransport};

    use super::*;

    fn ticket(servers: &[&str], lifetime_s: u32) -> RelayTicket {
        let server = |addr: &&str| RelayServer {
            transport: RelayTransport::Udp,
            addr: addr.parse().unwrap(),
            pin: None,
        };
        let servers = servers.iter().map(server).collect();
        let (username, password, nonce) = ("u".to_owned(), "p".to_owned(), None);
        RelayTicket { servers, username, password, lifetime_s, nonce }
    }

    fn peer(n: u8) -> PeerId {
        libp2p::identity::Keypair::ed25519_from_bytes([n; 32]).unwrap().public().to_peer_id()
    }

    #[test]
    fn tickets_are_renewed_at_half_their_life_and_listed_until_they_are_over() {
        let (tickets, now) = (HeldTickets::default(), Instant::now());
        let day = ticket(&["8.8.8.8:3478"], 86_400);
        assert_eq!(tickets.keep(peer(1), day, now), now + FULL_LIFETIME / 2, "no ticket lives longer");
        let hour = ticket(&["8.8.4.4:3478"], 3_600);
        assert_eq!(tickets.keep(peer(2), hour, now), now + Duration::from_secs(1_800));
        assert_eq!(tickets.keep(peer(3), ticket(&["8.8.4.4:1"], 0), now), now + RENEW_MIN);
        let later = now + Duration::from_secs(600);
        let left: Vec<u32> = tickets.good(later).iter().map(|(_, ticket)| ticket.lifetime_s).collect();
        assert_eq!(left, [12 * 3_600 - 600, 3_000]);
        tickets.forget(&peer(1));
        assert_eq!(tickets.good(later).len(), 1);
        assert_eq!(tickets.good(now + Duration::from_secs(3_600)), []);
    }

    #[test]
    fn there_are_only_so_many_tickets() {
        let (tickets, now) = (HeldTickets::default(), Instant::now());
        for n in 0..100_u8 {
            tickets.keep(peer(n), ticket(&["8.8.8.8:3478"], 1_000 + u32::from(n)), now);
        }
        let good = tickets.good(now);
        assert_eq!(good.len(), MAX_TICKETS);
        assert!(good.iter().all(|(_, ticket)| ticket.lifetime_s >= 1_084), "the one over first gives way");
    }

    #[test]
    fn relays_inside_the_terminals_networks_are_left_out() {
        let named = ["127.0.0.1:53", "10.0.0.1:3478", "[::ffff:10.0.0.1]:1", "[fe80::1]:1", "8.8.8.8:0"];
        let answer = |servers: &[&str]| Ok(Response::Ticket(ticket(servers, 60)));
        assert_eq!(checked(answer(&named), false, &[]), Err(RelayError::Malformed));
        let own: IpAddr = "192.168.1.2".parse().unwrap();
        let servers = [named[1], "8.8.8.8:3478", "192.168.1.2:3478"];
        let left = checked(answer(&servers), false, &[own]).unwrap().servers;
        assert_eq!(left.iter().map(|server| server.addr.to_string()).collect::<Vec<_>>(), servers[1..]);
        assert_eq!(checked(answer(&named), true, &[]).unwrap().servers.len(), 4);
        assert_eq!(checked(answer(&["0.0.0.0:1", "224.0.0.1:1"]), true, &[]), Err(RelayError::Malformed));
    }
}
