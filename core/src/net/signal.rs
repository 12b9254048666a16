//! Getting a sealed packet to a terminal by whichever way is first.
//!
//! The ways, in the order in which they are tried, each starting when the one before has failed or after a head start, which
//! is short if both have to connect first, since a record may name many nodes that are long gone: a connection to the terminal
//! itself; a connected directory of its own; another of its directories, or its own address, connecting first; its directory
//! by way of ours. The callee drops what comes twice.
//!
//! A node that says it has delivered a packet may have thrown it away. Only the terminal's own acknowledgement, which is sealed,
//! says that it has come: what has to be sent again goes through two nodes, and no way counts as good then.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::stream::{FuturesUnordered, StreamExt};
use libp2p::{Multiaddr, PeerId};
use offhook_proto::identity::TerminalId;
use offhook_proto::number::NodeAddr;
use offhook_proto::relay::RelayTransport;
use offhook_proto::signalling::MAX_BLOB_BYTES;
use thiserror::Error;
use tracing::debug;

use super::addr;
use super::client::{Client, RequestError};
use super::codec::{Request, Response};
use super::command::Command;

/// Addresses of a target looked at.
const MAX_ADDRS: usize = 16;

/// Ways tried: one for each address, and those by way of our directories.
const MAX_WAYS: usize = 20;

/// The head start of a way before the next one is tried too. One that was good the last time has half as long again as that
/// took, but not more than the second: with two directories and a round trip of 100 ms to each, an answer takes 200 ms.
const HEAD_START: Duration = Duration::from_millis(200);
const MAX_HEAD_START: Duration = Duration::from_millis(400);

/// The same if both have to connect first, or the first over TCP. Sixteen of them that lead nowhere cost 80 ms.
const CONNECTING_HEAD_START: Duration = Duration::from_millis(5);

/// After this the packet is undeliverable.
const GIVE_UP: Duration = Duration::from_secs(5);

/// When connections broke under the packet, which says nothing about the terminal, all ways are tried again after this, so often.
const AGAIN: Duration = Duration::from_millis(250);
const TIMES_AGAIN: usize = 2;

/// What is sent again has been delivered when so many nodes say so, or all that answer within [`SECOND`] of the first.
const DELIVERIES_AGAIN: usize = 2;
const SECOND: Duration = Duration::from_secs(1);

/// Ways that worked, remembered for terminals written to lately.
const MAX_REMEMBERED: usize = 256;
const REMEMBERED_FOR: Duration = Duration::from_secs(300);

/// Whom this node may connect to for a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Any of the target's addresses: whoever runs those nodes learns this host's address. For numbers that the user
    /// dialled.
    Open,
    /// Only nodes connected already; what is further away is left to this terminal's own directories. For answers to
    /// strangers, who could else name a node of theirs and see who connects.
    Discreet,
}

/// Where a packet is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalTarget {
    /// The terminal.
    pub terminal: TerminalId,
    /// Its addresses, relayed or direct, and addresses of directories through which it is reached.
    pub addrs: Vec<NodeAddr>,
    /// The node that the last packet from it came through.
    pub via: Option<TerminalId>,
    /// Whom this node may connect to for it.
    pub reach: Reach,
    /// Whether this was said before and seems not to have come.
    pub again: bool,
}

/// Why a packet was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SignalError {
    /// Every way failed: the terminal is off, or its directories are.
    #[error("the terminal cannot be reached")]
    NotReachable,
    /// A node on the way, or the terminal, has too much to do.
    #[error("too much is on its way to the terminal")]
    Busy,
    /// Longer than [`MAX_BLOB_BYTES`].
    #[error("a packet of {0} bytes is too long")]
    TooLong(usize),
    /// This side has been shut down.
    #[error("the network is shut down")]
    Stopped,
}

/// One way to the target.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Way {
    /// The node to send to.
    node: PeerId,
    /// How to reach it, if it isn't connected.
    addrs: Vec<Multiaddr>,
    /// Whether the node is the target itself, passes on to it, or passes on to another directory.
    hop: Hop,
}

impl Way {
    /// Whether it leads through the same node in the same manner.
    fn is(&self, other: &Self) -> bool {
        self.node == other.node && self.hop == other.hop
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hop {
    Straight,
    Directory,
    Next(String),
}

/// Ways that worked lately.
#[derive(Clone, Default)]
pub(super) struct GoodWays {
    ways: Arc<Mutex<HashMap<TerminalId, Good>>>,
}

/// A way that worked.
#[derive(Clone)]
struct Good {
    way: Way,
    /// How long the acknowledgement took.
    took: Duration,
    at: Instant,
}

impl GoodWays {
    fn get(&self, terminal: &TerminalId, now: Instant) -> Option<Good> {
        let ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |good: &&Good| now.saturating_duration_since(good.at) < REMEMBERED_FOR;
        ways.get(terminal).filter(fresh).cloned()
    }

    fn set(&self, terminal: TerminalId, good: Option<Good>) {
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        match good {
            Some(good) => {
                if ways.len() >= MAX_REMEMBERED {
                    let now = good.at;
                    ways.retain(|_, known| now.saturating_duration_since(known.at) < REMEMBERED_FOR / 10);
                }
                if ways.len() < MAX_REMEMBERED {
                    ways.insert(terminal, good);
                }
            }
            None => {
                ways.remove(&terminal);
            }
        }
    }
}

/// Delivers a packet; returns when a node says that it has brought it to the terminal.
pub(super) async fn signal(
    client: &Client,
    good: &GoodWays,
    target: SignalTarget,
    blob: Vec<u8>,
) -> Result<(), SignalError> {
    if blob.len() > MAX_BLOB_BYTES {
        return Err(SignalError::TooLong(blob.len()));
    }
    if target.again {
        good.set(target.terminal, None);
    }
    let delivery = async {
        for _ in 0..=TIMES_AGAIN {
            let (ways, head_start) = best_ways(client, good, &target).await;
            match race(client, &target, ways, head_start, &blob).await {
                Ok(good) => return Ok(good),
                Err(Miss::Broken) => tokio::time::sleep(AGAIN).await,
                Err(Miss::NotThere) => return Err(SignalError::NotReachable),
                Err(Miss::Busy) => return Err(SignalError::Busy),
                Err(Miss::Stopped) => return Err(SignalError::Stopped),
            }
        }
        Err(SignalError::NotReachable)
    };
    let outcome = tokio::time::timeout(GIVE_UP, delivery).await.unwrap_or(Err(SignalError::NotReachable));
    match outcome {
        Ok(known) => {
            // Answers come back over the connection to that node.
            let _ = client.commands.send(Command::Linger(known.way.node)).await;
            if !target.again {
                good.set(target.terminal, Some(known));
            }
            Ok(())
        }
        Err(error) => {
            good.set(target.terminal, None);
            Err(error)
        }
    }
}

/// Why a way failed, or all; the last that holds for any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Miss {
    /// The terminal is not there, as far as can be told this way.
    NotThere,
    /// The connection broke, or nothing came back.
    Broken,
    Busy,
    Stopped,
}

/// The ways to a target, the one that was good the last time first, and the head start of the first.
async fn best_ways(client: &Client, good: &GoodWays, target: &SignalTarget) -> (VecDeque<Way>, Duration) {
    let mut ways = ways(client, target).await;
    let mut head_start = HEAD_START;
    if let Some(Good { way, took, .. }) = good.get(&target.terminal, Instant::now())
        && let Some(index) = ways.iter().position(|known| known.is(&way))
    {
        ways.swap(0, index);
        head_start = head_start_of(took);
    }
    ways.truncate(MAX_WAYS);
    (ways.into(), head_start)
}

fn head_start_of(took: Duration) -> Duration {
    (took * 3 / 2).clamp(HEAD_START, MAX_HEAD_START)
}

/// Tries the ways one after another, each with a head start; the first delivery wins. What is sent again has to be delivered by
/// two nodes, as far as that is possible soon.
async fn race(
    client: &Client,
    target: &SignalTarget,
    mut ways: VecDeque<Way>,
    first: Duration,
    blob: &[u8],
) -> Result<Good, Miss> {
    let mut running = FuturesUnordered::new();
    let (mut worst, mut delivered) = (Miss::NotThere, Vec::<Good>::new());
    let needed = if target.again { DELIVERIES_AGAIN } else { 1 };
    let mut head_start = first;
    let connects = |way: &Way| !way.addrs.is_empty();
    // Over TCP that takes longer than any head start.
    let slowly = client.status.borrow().reached_over != RelayTransport::Udp;
    let mut next = tokio::time::Instant::now();
    let mut late = std::pin::pin!(tokio::time::sleep(GIVE_UP));
    loop {
        // A node that has said it once says it again.
        ways.retain(|way| delivered.iter().all(|good| good.way.node != way.node));
        if ways.is_empty() && running.is_empty() {
            return delivered.into_iter().next().ok_or(worst);
        }
        if running.len() + delivered.len() < needed {
            next = tokio::time::Instant::now();
        }
        tokio::select! {
            () = tokio::time::sleep_until(next), if !ways.is_empty() => {
                let Some(way) = ways.pop_front() else { continue };
                let hopeless = connects(&way) && (slowly || ways.front().is_some_and(connects));
                next += if hopeless { CONNECTING_HEAD_START } else { head_start };
                head_start = HEAD_START;
                running.push(try_way(client, target.terminal, way, blob.to_vec()));
            }
            Some(result) = running.next() => match result {
                Ok(good) if delivered.iter().any(|known| known.way.node == good.way.node) => {}
                Ok(good) => {
                    delivered.push(good);
                    if delivered.len() == needed {
                        return delivered.into_iter().next().ok_or(worst);
                    }
                    late.as_mut().reset(tokio::time::Instant::now() + SECOND);
                }
                Err(Miss::Stopped) => return Err(Miss::Stopped),
                Err(miss @ (Miss::NotThere | Miss::Broken | Miss::Busy)) => {
                    worst = worst.max(miss);
                    // Whatever is still to come, the next way need not wait for it.
                    next = tokio::time::Instant::now();
                }
            },
            () = &mut late, if !delivered.is_empty() => return delivered.into_iter().next().ok_or(worst),
        }
    }
}

async fn try_way(client: &Client, to: TerminalId, way: Way, blob: Vec<u8>) -> Result<Good, Miss> {
    let start = Instant::now();
    let request = match &way.hop {
        Hop::Straight => Request::Deliver { blob, origin: None },
        Hop::Directory => Request::Forward { to, blob, next: None, origin: None },
        Hop::Next(next) => Request::Forward { to, blob, next: Some(next.clone()), origin: None },
    };
    match client.request(way.node, way.addrs.clone(), request, GIVE_UP).await {
        Ok(Response::Delivered) => Ok(Good { way, took: start.elapsed(), at: Instant::now() }),
        Ok(Response::Busy) | Err(RequestError::Busy) => Err(Miss::Busy),
        Ok(
            Response::Welcome { .. }
            | Response::NotConnected
            | Response::Found { .. }
            | Response::Stored
            | Response::Sought(_)
            | Response::Published { .. }
            | Response::Ticket(_)
            | Response::Knocking
            | Response::Refused { .. },
        ) => Err(Miss::NotThere),
        Err(RequestError::Stopped) => Err(Miss::Stopped),
        Err(error @ (RequestError::Timeout | RequestError::Broken)) => {
            debug!(%error, "a way to the terminal failed");
            Err(Miss::Broken)
        }
        Err(error @ (RequestError::Unreachable | RequestError::Unsupported)) => {
            debug!(%error, "a way to the terminal failed");
            Err(Miss::NotThere)
        }
    }
}

/// The ways to a target, best first.
async fn ways(client: &Client, target: &SignalTarget) -> Vec<Way> {
    let Some(peer) = addr::peer_of(&target.terminal) else { return Vec::new() };
    let neighbours = client.neighbours().await;
    let connected = |peer: &PeerId| neighbours.is_connected(peer);
    // What would not be dialled is no way, and would only cost the others their head start.
    let permitted = |addr: &Multiaddr| client.private.permits(addr);
    let mut ways = Vec::new();
    let mut add = |node: PeerId, addrs: Vec<Multiaddr>, hop: Hop| {
        let same = |way: &&mut Way| way.node == node && way.hop == hop;
        match ways.iter_mut().find(same) {
            Some(way) => way.addrs.extend(addrs),
            None => ways.push(Way { node, addrs, hop }),
        }
    };
    if connected(&peer) {
        add(peer, Vec::new(), Hop::Straight);
    }
    let addrs: Vec<_> =
        target.addrs.iter().take(MAX_ADDRS).filter_map(|addr| addr::parse(addr).ok()).collect();
    let relays: Vec<_> = addrs.iter().filter_map(|addr| directory_of(addr, &peer)).collect();
    if let Some(via) = target.via.as_ref().and_then(addr::peer_of).filter(|via| *via != peer) {
        // If the target isn't connected there, its packet came from another directory. Which one, it has signed.
        let elsewhere = relays.iter().find(|(relay, _)| *relay != via);
        let known = relays.iter().any(|(relay, _)| *relay == via);
        let hop = match elsewhere.filter(|_| !known) {
            Some((_, next)) => Hop::Next(next.to_string()),
            None => Hop::Directory,
        };
        add(via, Vec::new(), hop);
    }
    for (relay, _) in relays.iter().filter(|(relay, _)| connected(relay)) {
        add(*relay, Vec::new(), Hop::Directory);
    }
    if target.reach == Reach::Open {
        for (relay, addr) in relays.iter().filter(|(relay, addr)| !connected(relay) && permitted(addr)) {
            add(*relay, vec![addr.clone()], Hop::Directory);
        }
        let direct = |addr: &&Multiaddr| !addr::is_relayed(addr) && addr::last_peer(addr) == Some(peer);
        for addr in addrs.iter().filter(direct).filter(|addr| permitted(addr)) {
            add(peer, vec![addr.clone()], Hop::Straight);
        }
    }
    for (relay, addr) in elsewhere(&relays, connected).take(2) {
        for own in neighbours.directories.iter().filter(|own| own.peer != *relay).take(2) {
            add(own.peer, Vec::new(), Hop::Next(addr.to_string()));
        }
    }
    // The last resort: a circuit through a relay that doesn't speak our protocol.
    if target.reach == Reach::Open {
        for addr in addrs.iter().filter(|addr| addr::is_relayed(addr) && permitted(addr)) {
            add(peer, vec![addr.clone()], Hop::Straight);
        }
    }
    ways
}

/// Directories of the target that this node is not connected with, each by its best address.
fn elsewhere<'a>(
    relays: &'a [(PeerId, Multiaddr)],
    connected: impl Fn(&PeerId) -> bool + 'a,
) -> impl Iterator<Item = &'a (PeerId, Multiaddr)> {
    let mut seen = HashSet::new();
    relays.iter().filter(move |(relay, _)| !connected(relay) && seen.insert(*relay))
}

/// The directory that an address of the target leads through: the relay of a relayed address, or the node itself
/// where a directory is named as a route.
fn directory_of(addr: &Multiaddr, target: &PeerId) -> Option<(PeerId, Multiaddr)> {
    addr::relay_of(addr).or_else(|| {
        let node = addr::last_peer(addr).filter(|node| node != target)?;
        Some((node, addr.clone()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_through_two_directories_is_not_doubled() {
        let ms = Duration::from_millis;
        let starts = [0, 100, 220, 2_000].map(|took| head_start_of(ms(took)));
        assert_eq!(starts, [ms(200), ms(200), ms(330), ms(400)]);
    }
}
