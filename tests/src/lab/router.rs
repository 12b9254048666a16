//! Routers, their NATs and LANs.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::access::Link;
use super::address::{Addresses, LanPrefixes};
use super::host::Host;
use super::interface::{Interface, Shared, lock};
use super::nat::Rules;
use super::sys::Namespace;
use super::{Lab, LabError, Nat};

/// Which outside ports a NAT gives to the connections that it has forgotten, when their hosts go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// Those they had.
    Same,
    /// Others.
    New,
}

/// A router, its NAT and its LAN.
#[derive(Clone, Debug)]
pub struct Router {
    name: String,
    core: Arc<RouterCore>,
    lab: Lab,
}

/// What the hosts behind a router keep alive: its namespace holds their way out.
#[derive(Debug)]
pub(super) struct RouterCore {
    namespace: Arc<Namespace>,
    wan: Shared,
    lan: Mutex<LanPrefixes>,
    rules: Mutex<Rules>,
    /// The number of the machine that was plugged in last.
    numbers: AtomicU32,
    plugs: Mutex<Vec<Weak<Mutex<Interface>>>>,
}

impl RouterCore {
    pub(super) fn namespace(&self) -> &Arc<Namespace> {
        &self.namespace
    }

    pub(super) fn lan(&self) -> LanPrefixes {
        *held(&self.lan)
    }

    pub(super) fn public(&self) -> Addresses {
        lock(&self.wan).public()
    }

    pub(super) fn link(&self) -> Link {
        lock(&self.wan).link()
    }

    pub(super) fn next_number(&self) -> Result<u8, LabError> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        u8::try_from(number).ok().filter(|number| *number < 255).ok_or(LabError::Full)
    }

    /// Lays a cable from the LAN's bridge to a new device of another namespace, which gets addresses and a route.
    pub(super) fn plug(
        self: &Arc<Self>,
        other: &Arc<Namespace>,
        device: &str,
        rank: u32,
    ) -> Result<Shared, LabError> {
        let number = self.next_number()?;
        if self.lan().v6.is_some() {
            other.enable_ipv6()?;
        }
        self.namespace.ip(&format!(
            "link add p{number} type veth peer name {device} netns {}\nlink set p{number} master lan0\nlink set p{number} up\n",
            other.name()
        ))?;
        let interface = Interface::lan(Arc::clone(self), number, other, device, rank)?;
        self.namespace.wait_up(&[&format!("p{number}"), "lan0"])?;
        other.wait_up(&[device])?;
        let shared = Arc::new(Mutex::new(interface));
        held(&self.plugs).push(Arc::downgrade(&shared));
        Ok(shared)
    }

    /// Loads rules that are changed so, and forgets all connections.
    pub(super) fn change_rules(&self, change: impl FnOnce(&mut Rules)) -> Result<(), LabError> {
        let mut rules = held(&self.rules);
        change(&mut rules);
        self.namespace.nft(&rules.script())?;
        self.namespace.forget_connections()
    }

    /// The LAN is renumbered after the router's own IPv6 address.
    fn renumber_lan(&self) -> Result<(), LabError> {
        let Some(new) = lock(&self.wan).addresses().v6.map(LanPrefixes::v6_behind) else { return Ok(()) };
        let Some(old) = held(&self.lan).v6.replace(new) else { return Ok(()) };
        if old == new {
            return Ok(());
        }
        let gateway = |v6| LanPrefixes { v4: None, v6: Some(v6) }.machine(1).main();
        self.namespace.ip(&format!(
            "addr del {}/64 dev lan0\naddr add {}/64 nodad dev lan0\n",
            gateway(old),
            gateway(new)
        ))?;
        let plugs: Vec<Shared> = held(&self.plugs).iter().filter_map(Weak::upgrade).collect();
        plugs.iter().try_for_each(|plug| lock(plug).follow_lan())
    }
}

/// Nothing panics while it holds one of these.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Router {
    /// A router whose way out is up, with an empty LAN.
    pub(super) fn new(
        lab: &Lab,
        name: &str,
        nat: Nat,
        wan: Shared,
        lan: LanPrefixes,
        namespace: Arc<Namespace>,
    ) -> Result<Self, LabError> {
        namespace.write_sysctl("net/ipv4/ip_forward", "1")?;
        if lan.v6.is_some() {
            namespace.write_sysctl("net/ipv6/conf/all/forwarding", "1")?;
        }
        namespace.ip("link add lan0 type bridge forward_delay 0\nlink set lan0 up\n")?;
        for ip in lan.machine(1).all() {
            let (bits, option) = if ip.is_ipv4() { (24, "") } else { (64, "nodad") };
            namespace.ip(&format!("addr add {ip}/{bits} dev lan0 {option}\n"))?;
        }
        let public = lock(&wan).addresses().v4;
        let rules = Rules { nat, hairpin: false, shift: 0, opens: None, public };
        namespace.nft(&rules.script())?;
        let core = RouterCore {
            namespace,
            wan,
            lan: Mutex::new(lan),
            rules: Mutex::new(rules),
            numbers: AtomicU32::new(1),
            plugs: Mutex::default(),
        };
        Ok(Self { name: name.to_owned(), core: Arc::new(core), lab: lab.clone() })
    }

    /// A host on the router's LAN, as device `eth0`; hosts of one LAN see each other's broadcasts and multicasts.
    ///
    /// # Errors
    /// When a namespace or device can't be made.
    pub fn host(&self, name: &str) -> Result<Host, LabError> {
        let namespace = self.lab.namespace(name)?;
        let interface = self.core.plug(&namespace, "eth0", 0)?;
        Ok(Host::new(&self.lab, name, namespace, interface))
    }

    /// A home router behind this one, which then is a carrier's: two NATs in a row. IPv4 only.
    ///
    /// # Errors
    /// As [`Lab::router`].
    pub fn router(&self, name: &str, nat: Nat) -> Result<Router, LabError> {
        let namespace = self.lab.namespace(name)?;
        let wan = self.core.plug(&namespace, "wan0", 0)?;
        let lan = LanPrefixes { v4: Some(self.lab.next_lan()?.private()), v6: None };
        Router::new(&self.lab, name, nat, wan, lan, namespace)
    }

    /// Replaces the NAT and forgets every connection that it knew, as a router does that starts again.
    ///
    /// # Errors
    /// When the rules don't load.
    pub fn set_nat(&self, nat: Nat) -> Result<(), LabError> {
        self.core.change_rules(|rules| rules.nat = nat)
    }

    /// From now on hosts of its LAN reach each other at their outside addresses, or not, as at first (RFC 4787 section 6;
    /// UDP over IPv4, and not if the NAT is symmetric). Forgets every connection.
    ///
    /// # Errors
    /// When the rules don't load.
    pub fn set_hairpin(&self, on: bool) -> Result<(), LabError> {
        self.core.change_rules(|rules| rules.hairpin = on)
    }

    /// Forgets every connection. The next packet of a host makes a new one, from the outside port that it had before or
    /// from another (UDP over IPv4).
    ///
    /// # Errors
    /// When the rules don't load.
    pub fn forget(&self, ports: Ports) -> Result<(), LabError> {
        self.core.change_rules(|rules| {
            if ports == Ports::New {
                // 1 to 0x0fff: ports above 4096 stay above it.
                rules.shift = rules.shift % 0x0fff + 1;
            }
        })
    }

    /// The internet gives the router other addresses (a home behind a carrier: the carrier does), and, over IPv6,
    /// other addresses to all hosts of its LAN. Forgets every connection.
    ///
    /// # Errors
    /// When the address plan is used up.
    pub fn readdress(&self) -> Result<(), LabError> {
        let public = {
            let mut wan = lock(&self.core.wan);
            wan.readdress()?;
            wan.addresses().v4
        };
        self.core.renumber_lan()?;
        self.core.change_rules(|rules| rules.public = public)
    }

    /// The access link.
    pub fn link(&self) -> Link {
        self.core.link()
    }

    /// The address under which the internet sees the router: that of IPv4, if it has one.
    pub fn public(&self) -> IpAddr {
        self.public_addresses().main()
    }

    /// The addresses under which the internet sees the router.
    pub fn public_addresses(&self) -> Addresses {
        self.core.public()
    }

    /// The name given to it.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn core(&self) -> &Arc<RouterCore> {
        &self.core
    }
}
