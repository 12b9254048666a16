//! Ports that are asked for over HTTP: UPnP-IGD, by `igd-next`.
//!
//! Whoever on the local network answers a search is believed. So only what answers is asked, at its own address, and an answer
//! has 1 MiB and ten seconds at the most; both is the library's.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::num::NonZeroU16;
use std::time::Duration;

use igd_next::aio::Gateway;
use igd_next::aio::tokio::{Tokio, search_gateway};
use igd_next::{GatewayIpVersion, PortMappingProtocol, SearchOptions};
use tokio::time::{sleep, timeout};

/// How long a router has to answer a search and to say what it can.
const SEARCH: Duration = Duration::from_secs(1);
/// How long it may take to open a port, two requests, and perhaps another search.
const OPENING: Duration = Duration::from_secs(3);
/// And to close one.
const CLOSING: Duration = Duration::from_secs(2);
/// After how many seconds the router closes a port by itself, and how often that is put off. A renewal that fails is not
/// the last one.
const LEASE: u32 = 2 * 60 * 60;
const RENEWAL: Duration = Duration::from_secs(30 * 60);
/// How it is called in the router's lists.
const DESCRIPTION: &str = "Offhook";

/// What answered a search.
pub(super) type Router = Gateway<Tokio>;

/// Searches for a router in the network in which this is our address.
pub(super) async fn search(home: Ipv4Addr) -> Option<Router> {
    let mut options = SearchOptions::default();
    options.bind_addr = SocketAddr::new(home.into(), 0);
    options.timeout = Some(SEARCH);
    options.gateway_ip_version = GatewayIpVersion::V4;
    search_gateway(options).await.ok()
}

/// A port that is open.
pub(super) struct Port {
    router: Router,
    external: SocketAddr,
    local: SocketAddr,
}

impl Port {
    pub(super) async fn open(known: &Router, home: Ipv4Addr, port: NonZeroU16) -> Option<Port> {
        let local = SocketAddr::V4(SocketAddrV4::new(home, port.get()));
        let open = async {
            if let Some(open) = Port::ask(known.clone(), local).await {
                return Some(open);
            }
            // It may have started again and listen elsewhere.
            let router = search(home).await.filter(|router| router != known)?;
            Port::ask(router, local).await
        };
        timeout(OPENING, open).await.ok().flatten()
    }

    async fn ask(router: Router, local: SocketAddr) -> Option<Port> {
        let external =
            router.get_any_address(PortMappingProtocol::UDP, local, LEASE, DESCRIPTION).await.ok()?;
        Some(Port { router, external, local })
    }

    /// Tells where it is, and renews it.
    pub(super) async fn hold(&mut self, tell: impl Fn(Option<SocketAddr>)) -> Infallible {
        tell(Some(self.external));
        loop {
            sleep(RENEWAL).await;
            let port = self.external.port();
            let renew =
                self.router.add_port(PortMappingProtocol::UDP, port, self.local, LEASE, DESCRIPTION).await;
            tracing::debug!(renewed = renew.is_ok(), "a port of the router");
        }
    }

    pub(super) async fn close(self) {
        let close = self.router.remove_port(PortMappingProtocol::UDP, self.external.port());
        let _ = timeout(CLOSING, close).await;
    }
}
