//! Ports that are asked for with one packet: PCP (RFC 6887) and NAT-PMP (RFC 6886), by `portmapper`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use portmapper::{Client, Config};
use tokio::time::timeout;

/// How long a search may take: each question waits for half a second.
const SEARCH: Duration = Duration::from_secs(1);
/// How long a router may take to open a port: NAT-PMP asks twice, each time for half a second.
const OPENING: Duration = Duration::from_millis(1_100);
/// And to close one.
const CLOSING: Duration = Duration::from_secs(2);
/// Requests before it is given up: packets get lost.
const ATTEMPTS: u32 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Pcp,
    NatPmp,
}

impl Protocol {
    /// What asks in this way only.
    fn client(self) -> Client {
        Client::new(Config {
            enable_pcp: self == Protocol::Pcp,
            enable_nat_pmp: self == Protocol::NatPmp,
            ..without_upnp()
        })
    }
}

/// Its UPnP reads whatever comes, so it is never used; see `upnp`.
fn without_upnp() -> Config {
    Config { enable_upnp: false, ..Config::default() }
}

/// What the router speaks, the best first.
pub(super) async fn search() -> Vec<Protocol> {
    let client = Client::new(without_upnp());
    match timeout(SEARCH, client.probe()).await {
        Ok(Ok(Ok(found))) => {
            let protocols = [(Protocol::Pcp, found.pcp), (Protocol::NatPmp, found.nat_pmp)];
            protocols.into_iter().filter_map(|(protocol, there)| there.then_some(protocol)).collect()
        }
        // No router, or no IPv4.
        Ok(Ok(Err(_)) | Err(_)) | Err(_) => Vec::new(),
    }
}

/// A port that is open.
pub(super) struct Port {
    client: Client,
}

impl Port {
    pub(super) async fn open(protocol: Protocol, port: NonZeroU16) -> Option<Port> {
        let open = Port { client: protocol.client() };
        let mut external = open.client.watch_external_address();
        for _ in 0..ATTEMPTS {
            // Begins anew each time, unless it has one.
            open.client.update_local_port(port);
            if timeout(OPENING, external.wait_for(Option::is_some)).await.is_ok_and(|found| found.is_ok()) {
                return Some(open);
            }
        }
        open.close().await;
        None
    }

    /// Tells where it is, now and whenever that changes. The client renews it.
    pub(super) async fn hold(&mut self, tell: impl Fn(Option<SocketAddr>)) -> Infallible {
        let mut external = self.client.watch_external_address();
        loop {
            let address = *external.borrow_and_update();
            tell(address.map(SocketAddr::from));
            if external.changed().await.is_err() {
                // The client works no more, which it does not do by itself.
                tell(None);
                return std::future::pending().await;
            }
        }
    }

    pub(super) async fn close(self) {
        self.client.deactivate();
        // Its task does one thing after the other: when it answers this, the port has been given back. Without waiting
        // the end of the client would be the end of that task.
        let _ = timeout(CLOSING, self.client.probe()).await;
    }
}
