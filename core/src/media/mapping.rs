//! Ports that a router opens for legs: PCP (RFC 6887), NAT-PMP (RFC 6886) and UPnP-IGD.
//!
//! What the router offers is found out once, and again when the network changes, because a search takes up to a second. A leg
//! only asks in a way that is known to work, waits for nothing, and gives the port back when it ends. All of it runs
//! beside the legs, whose own runtimes end with them.

mod open;
mod packets;
mod upnp;

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU16;
use std::time::Duration;

use if_watch::tokio::IfWatcher;
use if_watch::{IfEvent, IpNet};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use open::{Open, Way};

/// Ports that are open at a time, as many as two calls to eight terminals each need. A router's table is small, and who
/// rings us makes an entry in it; further legs do without.
const MAX_MAPPINGS: usize = 16;
/// Legs whose wishes have not been looked at.
const WISHES: usize = MAX_MAPPINGS;
/// An interface that comes has several addresses, and its routes come last.
const SETTLE: Duration = Duration::from_millis(300);
/// Least time between two searches, however the network flickers.
const PAUSE: Duration = Duration::from_secs(5);

/// What asks the router. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct PortMapper {
    wishes: mpsc::Sender<Wish>,
}

/// A leg's wish for a port; it has ended when nobody looks at `told` any more.
#[derive(Debug)]
struct Wish {
    port: NonZeroU16,
    told: watch::Sender<Option<Mapped>>,
}

/// Where the router takes packets for a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mapped {
    pub(super) external: SocketAddr,
    /// Which of our addresses it passes them on to.
    pub(super) local: IpAddr,
}

impl PortMapper {
    /// A handle, and what has to run for it on a runtime that outlives the legs. That ends, with all ports given back,
    /// when the last handle and the last leg are gone.
    pub fn new() -> (PortMapper, impl Future<Output = ()> + Send + 'static) {
        let (wishes, wishes_rx) = mpsc::channel(WISHES);
        (PortMapper { wishes }, serve(wishes_rx))
    }

    /// Asks for a port for this one, until the answer is dropped.
    pub(super) fn map(&self, port: u16) -> Mapping {
        let (told, mapped) = watch::channel(None);
        if let Some(port) = NonZeroU16::new(port)
            && self.wishes.try_send(Wish { port, told }).is_err()
        {
            tracing::debug!("no port of the router is asked for: too many legs begin at once");
        }
        Mapping { mapped: Some(mapped) }
    }
}

/// A leg's port at the router, if it gets one.
#[derive(Debug)]
pub(super) struct Mapping {
    mapped: Option<watch::Receiver<Option<Mapped>>>,
}

impl Mapping {
    /// Of a leg that asks for none.
    pub(super) fn none() -> Mapping {
        Mapping { mapped: None }
    }

    /// Waits until there is a port, or another one.
    pub(super) async fn opened(&mut self) -> Mapped {
        while let Some(mapped) = &mut self.mapped {
            match mapped.changed().await {
                Ok(()) => {
                    if let Some(mapped) = *mapped.borrow_and_update() {
                        return mapped;
                    }
                }
                Err(_) => self.mapped = None,
            }
        }
        std::future::pending().await
    }
}

async fn serve(mut wishes: mpsc::Receiver<Wish>) {
    let (offers, offered) = watch::channel(Offer::default());
    let mut search = std::pin::pin!(keep_searching(offers));
    let mut mappings = JoinSet::new();
    loop {
        tokio::select! {
            wish = wishes.recv() => match wish {
                Some(wish) if mappings.len() < MAX_MAPPINGS => drop(mappings.spawn(fulfil(wish, offered.clone()))),
                Some(_) => tracing::debug!("no port of the router is asked for: there are enough"),
                None => break,
            },
            Some(_) = mappings.join_next() => {}
            never = &mut search => match never {},
        }
    }
    while mappings.join_next().await.is_some() {}
}

/// What the router offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Offer {
    /// Our address in its network.
    home: Option<Ipv4Addr>,
    /// Counts the networks: two may give us the same address.
    network: u64,
    ways: Vec<Way>,
}

/// Tells what the router offers, at first and after each change of the network. An interface that comes or goes beside the one
/// in use, as containers' do, changes nothing: a call may depend on its port.
async fn keep_searching(offers: watch::Sender<Offer>) -> Infallible {
    let mut watcher = IfWatcher::new()
        .inspect_err(|error| tracing::debug!(kind = %error.kind(), "changes of the network go unnoticed"))
        .ok();
    let mut known = Offer::default();
    let mut left = false;
    loop {
        // The addresses that there are come as changes, too.
        let settle = async {
            loop {
                left |= stirs(&mut watcher).await == known.home;
            }
        };
        let _ = timeout(SETTLE, settle).await;
        let home = way_out().filter(|ip| is_behind_nat(*ip));
        if left || home != known.home || known.ways.is_empty() {
            let ways = search(home).await;
            tracing::debug!(?ways, "ways in which the router opens ports");
            let network = known.network + u64::from(left || home != known.home);
            known = Offer { home, network, ways };
            offers.send_if_modified(|told| std::mem::replace(told, known.clone()) != known);
        }
        tokio::time::sleep(PAUSE).await;
        left = stirs(&mut watcher).await == known.home;
    }
}

/// Waits until an IPv4 address comes or goes; the one that has gone. Does not come back where the system does not tell.
async fn stirs(watcher: &mut Option<IfWatcher>) -> Option<Ipv4Addr> {
    while let Some(watching) = watcher {
        match std::future::poll_fn(|cx| watching.poll_if_event(cx)).await {
            Ok(IfEvent::Up(IpNet::V4(_))) => return None,
            Ok(IfEvent::Down(IpNet::V4(gone))) => return Some(gone.addr()),
            Ok(IfEvent::Up(IpNet::V6(_)) | IfEvent::Down(IpNet::V6(_))) => {}
            Err(_) => *watcher = None,
        }
    }
    std::future::pending().await
}

/// Asks the router in all ways, unless there is none between us and the internet.
async fn search(home: Option<Ipv4Addr>) -> Vec<Way> {
    let Some(home) = home else {
        return Vec::new();
    };
    let (packets, router) = tokio::join!(packets::search(), upnp::search(home));
    packets.into_iter().map(Way::Packets).chain(router.map(Way::Upnp)).collect()
}

/// From which of our addresses packets go to the internet.
fn way_out() -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // Sends nothing; any public address will do.
    socket.connect((Ipv4Addr::new(1, 1, 1, 1), 9)).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}

/// Private addresses, and those of a carrier's customers (RFC 6598).
fn is_behind_nat(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    ip.is_private() || (a == 100 && b & 0xc0 == 64)
}

/// Has a port opened for a leg, anew on each network, until the leg ends.
async fn fulfil(wish: Wish, mut offered: watch::Receiver<Offer>) {
    let Wish { port, told } = wish;
    loop {
        let offer = offered.borrow_and_update().clone();
        // Not broken off, whatever happens meanwhile: a port that is asked for and comes later would stay.
        let mut open = open(port, &offer, &told).await;
        let tell = |external: Option<SocketAddr>| {
            let external = external.filter(leads_here);
            let local = offer.home.map(IpAddr::V4);
            told.send_replace(external.zip(local).map(|(external, local)| Mapped { external, local }));
        };
        let hold = async {
            match &mut open {
                Some(open) => open.hold(tell).await,
                None => std::future::pending().await,
            }
        };
        let ended = tokio::select! {
            () = told.closed() => true,
            // Nobody searches any more when the program ends; the leg ends soon.
            Ok(()) = offered.changed() => false,
            never = hold => match never {},
        };
        told.send_replace(None);
        if let Some(open) = open {
            open.close().await;
        }
        if ended {
            return;
        }
    }
}

/// Opens a port in the first way that works.
async fn open(port: NonZeroU16, offer: &Offer, told: &watch::Sender<Option<Mapped>>) -> Option<Open> {
    for way in &offer.ways {
        if told.is_closed() {
            return None;
        }
        let open = match offer.home {
            Some(home) => way.open(home, port).await,
            None => None,
        };
        tracing::debug!(?way, opened = open.is_some(), "the router was asked for a port");
        if open.is_some() {
            return open;
        }
    }
    None
}

/// A router without a connection tells nonsense.
fn leads_here(external: &SocketAddr) -> bool {
    let ip = external.ip();
    ip.is_ipv4() && !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::DeviceSpec;
    use crate::media::{AudioConfig, MediaConfig, MediaLeg, Role};

    fn leg(ports: &PortMapper, relay_only: bool) -> MediaLeg {
        let config = MediaConfig {
            bind: Some(Ipv4Addr::LOCALHOST.into()),
            ports: Some(ports.clone()),
            relay_only,
            audio: AudioConfig { mic: DeviceSpec::None, speaker: DeviceSpec::None, ..AudioConfig::default() },
            ..MediaConfig::new(Role::Caller)
        };
        MediaLeg::start(config, mpsc::channel(64).0).unwrap()
    }

    #[tokio::test]
    async fn a_leg_wants_a_port_until_it_ends_and_none_if_it_uses_relays_only() {
        let (wishes, mut wished) = mpsc::channel(WISHES);
        let ports = PortMapper { wishes };
        leg(&ports, true).close().await;
        assert!(wished.try_recv().is_err());
        let leg = leg(&ports, false);
        let wish = wished.try_recv().unwrap();
        assert!(!wish.told.is_closed());
        leg.close().await;
        assert!(timeout(PAUSE, wish.told.closed()).await.is_ok());
    }

    #[tokio::test]
    async fn a_port_is_told_when_it_is_there_and_a_wish_too_many_waits_for_nothing() {
        let (wishes, mut wished) = mpsc::channel(1);
        let ports = PortMapper { wishes };
        let (mut first, mut second) = (ports.map(4_000), ports.map(4_001));
        let wish = wished.recv().await.unwrap();
        let mapped = Mapped { external: ([192, 0, 2, 1], 5_000).into(), local: [10, 0, 0, 2].into() };
        wish.told.send_replace(Some(mapped));
        assert_eq!(first.opened().await, mapped);
        wish.told.send_replace(None);
        assert!(timeout(SETTLE, first.opened()).await.is_err(), "a port that is gone is not told");
        assert!(timeout(SETTLE, second.opened()).await.is_err());
    }

    #[test]
    fn only_private_addresses_and_a_carriers_lie_behind_a_nat() {
        let behind = |ip: [u8; 4]| is_behind_nat(ip.into());
        assert!(behind([192, 168, 1, 2]) && behind([10, 0, 0, 2]) && behind([100, 127, 0, 1]));
        assert!(!behind([100, 128, 0, 1]) && !behind([11, 0, 0, 2]) && !behind([169, 254, 0, 1]));
    }

    #[tokio::test]
    async fn its_work_ends_with_the_last_handle() {
        let (ports, work) = PortMapper::new();
        let work = tokio::spawn(work);
        drop(ports);
        assert!(timeout(PAUSE, work).await.unwrap().is_ok());
    }
}
