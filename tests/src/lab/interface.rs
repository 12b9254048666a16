//! Devices of hosts and routers, their addresses and routes.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::access::Link;
use super::address::{Access, AccessNumber, Addresses, Families, is_public};
use super::router::RouterCore;
use super::sys::Namespace;
use super::{Lab, LabError};

/// Metric of the default route through the device that a host prefers, and of those through its others, to which their
/// ranks are added: of two routes with one metric the kernel would keep one.
const PREFERRED: u32 = 100;
const SPARE: u32 = 600;

/// A device that leads out of a namespace.
#[derive(Debug)]
pub(super) struct Interface {
    namespace: Arc<Namespace>,
    device: String,
    way: Way,
    addresses: Addresses,
    rank: u32,
    metric: u32,
    connected: bool,
}

/// Where it leads.
#[derive(Debug)]
enum Way {
    /// Straight into the internet.
    Internet { link: Link, families: Families, number: AccessNumber },
    /// Into the LAN of a router, as the machine of this number there.
    Lan { router: Arc<RouterCore>, number: u8 },
}

/// The interface as its owner and the router that it is plugged into share it.
pub(super) type Shared = Arc<Mutex<Interface>>;

/// Locks an interface; nothing panics while it holds one.
pub(super) fn lock(interface: &Mutex<Interface>) -> MutexGuard<'_, Interface> {
    interface.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Interface {
    /// An access link of its own, as device `wan0`.
    pub(super) fn internet(lab: &Lab, namespace: &Arc<Namespace>, access: &Access) -> Result<Self, LabError> {
        let families = access.families;
        if families.has_v6() {
            namespace.enable_ipv6()?;
        }
        let number = lab.next_access()?;
        let device = "wan0".to_owned();
        let tun = namespace.tun(&device)?;
        namespace.ip("link set wan0 addrgenmode none mtu 1500 txqueuelen 2000\n")?;
        let link = Link { lab: lab.clone(), port: lab.cloud().attach(tun, &access.link) };
        let addresses = number.addresses(families);
        let way = Way::Internet { link, families, number };
        let namespace = Arc::clone(namespace);
        let mut interface =
            Self { namespace, device, way, addresses, rank: 0, metric: PREFERRED, connected: false };
        interface.route_to(number, true);
        interface.connect()?;
        Ok(interface)
    }

    /// A device that is plugged into a router's LAN already. The first of its namespace, of rank 0, is preferred.
    pub(super) fn lan(
        router: Arc<RouterCore>,
        number: u8,
        namespace: &Arc<Namespace>,
        device: &str,
        rank: u32,
    ) -> Result<Self, LabError> {
        let addresses = router.lan().machine(number);
        let way = Way::Lan { router, number };
        let (namespace, device) = (Arc::clone(namespace), device.to_owned());
        let metric = if rank == 0 { PREFERRED } else { SPARE + rank };
        let mut interface = Self { namespace, device, way, addresses, rank, metric, connected: false };
        interface.connect()?;
        Ok(interface)
    }

    pub(super) fn device(&self) -> &str {
        &self.device
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected
    }

    pub(super) fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The addresses under which the internet sees what it sends.
    pub(super) fn public(&self) -> Addresses {
        match &self.way {
            Way::Internet { .. } => self.addresses,
            Way::Lan { router, .. } => Addresses {
                v4: self
                    .addresses
                    .v4
                    .and_then(|own| if is_public(own) { Some(own) } else { router.public().v4 }),
                v6: self.addresses.v6,
            },
        }
    }

    /// The access link that its packets pass.
    pub(super) fn link(&self) -> Link {
        match &self.way {
            Way::Internet { link, .. } => link.clone(),
            Way::Lan { router, .. } => router.link(),
        }
    }

    /// The cable is in, and there are addresses and a route.
    pub(super) fn connect(&mut self) -> Result<(), LabError> {
        self.namespace.ip(&format!("link set {} up\n{}", self.device, self.configuration()))?;
        self.connected = true;
        Ok(())
    }

    /// The cable is out: no addresses, no routes.
    pub(super) fn disconnect(&mut self) -> Result<(), LabError> {
        self.connected = false;
        self.namespace.ip(&format!("addr flush dev {0}\nlink set {0} down\n", self.device))
    }

    /// Another address in the same network.
    pub(super) fn readdress(&mut self) -> Result<(), LabError> {
        let addresses = match &mut self.way {
            Way::Internet { link, families, number } => {
                let next = link.lab.next_access()?;
                let (old, families) = (std::mem::replace(number, next), *families);
                self.route_to(old, false);
                self.route_to(next, true);
                next.addresses(families)
            }
            Way::Lan { router, number } => {
                *number = router.next_number()?;
                router.lan().machine(*number)
            }
        };
        self.set_addresses(addresses)
    }

    /// Its LAN has other prefixes.
    pub(super) fn follow_lan(&mut self) -> Result<(), LabError> {
        match &self.way {
            Way::Internet { .. } => Ok(()),
            Way::Lan { router, number } => {
                let addresses = router.lan().machine(*number);
                self.set_addresses(addresses)
            }
        }
    }

    /// Its default routes are the best of its namespace, or not. No two may be so at a time.
    pub(super) fn prefer(&mut self, preferred: bool) -> Result<(), LabError> {
        let metric = if preferred { PREFERRED } else { SPARE + self.rank };
        if metric == self.metric {
            return Ok(());
        }
        let old = self.default_routes("del");
        self.metric = metric;
        if self.connected {
            self.namespace.ip(&format!("{}{old}", self.default_routes("replace")))
        } else {
            Ok(())
        }
    }

    /// An address that stays is left alone, so that its connections go on.
    fn set_addresses(&mut self, addresses: Addresses) -> Result<(), LabError> {
        let old = std::mem::replace(&mut self.addresses, addresses);
        if !self.connected {
            return Ok(());
        }
        let mut lines = String::new();
        for gone in old.all().filter(|ip| !addresses.all().any(|new| new == *ip)) {
            let bits = self.bits(gone.is_ipv4());
            let _ = writeln!(lines, "addr del {gone}/{bits} dev {}", self.device);
        }
        lines.push_str(&self.configuration());
        self.namespace.ip(&lines)
    }

    fn bits(&self, v4: bool) -> u8 {
        match (&self.way, v4) {
            (Way::Internet { .. }, true) => 32,
            (Way::Internet { .. }, false) => 128,
            (Way::Lan { .. }, true) => 24,
            (Way::Lan { .. }, false) => 64,
        }
    }

    /// Lines of `ip` for addresses and routes.
    fn configuration(&self) -> String {
        let mut lines = String::new();
        for ip in self.addresses.all() {
            let options = if ip.is_ipv4() { "brd +" } else { "nodad" };
            let bits = self.bits(ip.is_ipv4());
            let _ = writeln!(lines, "addr replace {ip}/{bits} {options} dev {}", self.device);
        }
        lines.push_str(&self.default_routes("replace"));
        lines
    }

    fn default_routes(&self, action: &str) -> String {
        let gateways = match &self.way {
            Way::Internet { .. } => Addresses::default(),
            Way::Lan { router, .. } => router.lan().machine(1),
        };
        let via =
            |gateway: Option<String>| gateway.map_or_else(String::new, |gateway| format!("via {gateway} "));
        let ways = [
            self.addresses.v4.map(|_| ("0.0.0.0/0", via(gateways.v4.map(|ip| ip.to_string())))),
            self.addresses.v6.map(|_| ("::/0", via(gateways.v6.map(|ip| ip.to_string())))),
        ];
        let line = |(everywhere, via)| {
            format!("route {action} {everywhere} {via}dev {} metric {}\n", self.device, self.metric)
        };
        ways.into_iter().flatten().map(line).collect()
    }

    /// The internet finds the link under the addresses of a number, or no longer.
    fn route_to(&self, number: AccessNumber, to_here: bool) {
        let Way::Internet { link, families, .. } = &self.way else { return };
        for (prefix, bits) in number.prefixes(*families) {
            if to_here {
                link.lab.cloud().route(prefix, bits, link.port);
            } else {
                link.lab.cloud().unroute(prefix, bits);
            }
        }
    }
}
