//! A small internet on one machine: network namespaces, real kernel NATs, emulated links.
//!
//! ```text
//!  host a ── veth ── router (nftables NAT) ── TUN ─┐
//!                                                  ├─ cloud: one thread; delay, jitter, loss, rate, queue
//!  public host (directory, DHT node) ──────── TUN ─┘
//! ```
//!
//! The two halves of the truth come from two places: NATs are the kernel's own (so that a router does what
//! routers do), links are ours, in user space ([`Impairment`]), because not every kernel has `sch_netem`.
//! An access link counts in both directions: with 25 ms on each of two links, the round trip between their hosts
//! takes 100 ms.
//!
//! A [`Lab`] needs root, or a user namespace in which it is root: `cargo xtask test` arranges for that. Names are
//! unique, so labs run side by side; a lab removes its namespaces when dropped, and those that killed
//! test runs have left behind when it starts. Hosts speak IPv4 only.
//!
//! ```no_run
//! use offhook_tests::lab::{Impairment, Lab, Nat};
//! # fn main() -> Result<(), offhook_tests::lab::LabError> {
//! let lab = Lab::new("call")?;
//! let directory = lab.host("dir", Impairment::delay_ms(5))?;
//! let router = lab.router("home", Nat::PortRestricted, Impairment::delay_ms(25))?;
//! let ada = router.host("ada")?;
//! let mut program = std::process::Command::new("true");
//! ada.spawn(&mut program)?;
//! router.link().set(&Impairment::delay_ms(25).with_loss(0.2)); // while it runs
//! # Ok(()) }
//! ```

mod classify;
mod cloud;
mod link;
mod nat;
mod sys;
mod topology;

pub use classify::{Behaviour, NatClass, classify};
pub use cloud::{Counters, LinkCounters};
pub use link::{Channel, Fate, Impairment};
pub use nat::Nat;
pub(crate) use sys::die_with_parent;
pub use sys::monotonic_ns;
pub use topology::{Mesh, Pair};

use std::fs::{File, TryLockError};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cloud::{Cloud, PortId};
use sys::Namespace;

/// Why a lab could not be built.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Only root may make network namespaces.
    #[error(
        "the network lab needs root (or `unshare --map-root-user --net --mount`): run `cargo xtask test`"
    )]
    NotRoot,
    /// A tool failed or is missing.
    #[error("{command} failed: {message}")]
    Command {
        /// What was run.
        command: String,
        /// What it said, and its input.
        message: String,
    },
    /// A system call failed.
    #[error("network lab: {0}")]
    Io(#[from] std::io::Error),
    /// The address plan is used up.
    #[error("the network lab has no more addresses")]
    Full,
}

/// A small internet. Hosts and routers keep it alive as long as they need it.
#[derive(Clone, Debug)]
pub struct Lab {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: String,
    cloud: Cloud,
    accesses: AtomicU32,
    lans: AtomicU32,
    // Held locked while the lab lives; tells other labs that its namespaces are in use.
    lock: Mutex<Option<(PathBuf, File)>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some((path, file)) = self.lock.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = std::fs::remove_file(path);
            drop(file);
        }
    }
}

impl Lab {
    /// An empty internet; `name` shows in its thread's name only.
    ///
    /// # Errors
    /// [`LabError::NotRoot`] without the privilege to make namespaces.
    pub fn new(name: &str) -> Result<Self, LabError> {
        Self::with_seed(name, 1)
    }

    /// The same with another seed for losses and jitter.
    ///
    /// # Errors
    /// As [`Lab::new`].
    pub fn with_seed(name: &str, seed: u64) -> Result<Self, LabError> {
        static LABS: AtomicU32 = AtomicU32::new(0);
        // SAFETY: no memory involved.
        if unsafe { libc::geteuid() } != 0 {
            return Err(LabError::NotRoot);
        }
        std::fs::create_dir_all(lock_folder())?;
        remove_leftovers();
        let id = format!("oh{:x}.{:x}", std::process::id(), LABS.fetch_add(1, Ordering::Relaxed));
        let path = lock_folder().join(&id);
        let file = File::create(&path)?;
        file.lock()?;
        let inner = Inner {
            id,
            cloud: Cloud::start(name, seed)?,
            accesses: AtomicU32::new(0),
            lans: AtomicU32::new(0),
            lock: Mutex::new(Some((path, file))),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A host with a public address and an access link of its own.
    ///
    /// # Errors
    /// When a namespace or device can't be made.
    pub fn host(&self, name: &str, access: Impairment) -> Result<Host, LabError> {
        let namespace = self.namespace(name)?;
        let (link, address) = self.access(&namespace, &access)?;
        let name = name.to_owned();
        Ok(Host { name, namespace, address, public: address, link, _router: None, lab: self.clone() })
    }

    /// A router with a public address, an access link and an empty LAN.
    ///
    /// # Errors
    /// When a namespace or device can't be made, or the rules don't load.
    pub fn router(&self, name: &str, nat: Nat, access: Impairment) -> Result<Router, LabError> {
        let namespace = self.namespace(name)?;
        let (link, public) = self.access(&namespace, &access)?;
        let lan = self.next_lan()?;
        let prefix = if nat.translates() { lan.private() } else { lan.public() };
        if !nat.translates() {
            self.inner.cloud.route(prefix, 24, link.port);
        }
        self.finish_router(name, nat, link, RouterPlan { namespace, public, prefix, carrier: None })
    }

    /// A carrier's router whose customers, themselves routers, get addresses of 100.64.0.0/10 (RFC 6598).
    ///
    /// # Errors
    /// As [`Lab::router`].
    pub fn carrier(&self, name: &str, nat: Nat, access: Impairment) -> Result<Router, LabError> {
        let namespace = self.namespace(name)?;
        let (link, public) = self.access(&namespace, &access)?;
        let prefix = self.next_lan()?.carrier();
        self.finish_router(name, nat, link, RouterPlan { namespace, public, prefix, carrier: None })
    }

    /// Bytes sent so far from one public address to another, IP headers included.
    pub fn flow_bytes(&self, from: Ipv4Addr, to: Ipv4Addr) -> u64 {
        self.inner.cloud.flow(from, to)
    }

    /// Packets so far whose destination is nobody's.
    pub fn unroutable(&self) -> u64 {
        self.inner.cloud.unroutable()
    }

    /// Keeps the newest UDP datagrams that are sent from one public address to another from now on, as somebody could who sits
    /// on the way.
    pub fn overhear(&self, from: Ipv4Addr, to: Ipv4Addr) {
        self.inner.cloud.overhear(from, to);
    }

    /// The payloads of what was overheard, the newest first.
    pub fn overheard(&self, from: Ipv4Addr, to: Ipv4Addr) -> Vec<Vec<u8>> {
        self.inner.cloud.overheard(from, to)
    }

    /// Sends a UDP datagram with a forged sender into the internet.
    pub fn inject_udp(&self, from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) {
        self.inner.cloud.inject(cloud::udp_packet(from, to, payload));
    }

    fn namespace(&self, name: &str) -> Result<Namespace, LabError> {
        Namespace::create(format!("{}.{name}", self.inner.id))
    }

    fn access(&self, namespace: &Namespace, access: &Impairment) -> Result<(Link, Ipv4Addr), LabError> {
        let number = self.inner.accesses.fetch_add(1, Ordering::Relaxed);
        let [hi, lo] = u16::try_from(number).map_err(|_| LabError::Full)?.to_be_bytes();
        if hi >= 128 {
            return Err(LabError::Full);
        }
        let address = Ipv4Addr::new(11, hi, lo, 2);
        let device = namespace.tun("wan0")?;
        namespace.ip(&format!(
            "link set wan0 mtu 1500 txqueuelen 2000 up\naddr add {address}/32 dev wan0\nroute add default dev wan0\n"
        ))?;
        let port = self.inner.cloud.attach(device, access);
        self.inner.cloud.route(Ipv4Addr::new(11, hi, lo, 0), 24, port);
        Ok((Link { lab: self.clone(), port }, address))
    }

    fn next_lan(&self) -> Result<LanNumber, LabError> {
        let number = self.inner.lans.fetch_add(1, Ordering::Relaxed);
        u8::try_from(number).map(LanNumber).map_err(|_| LabError::Full)
    }

    fn finish_router(&self, name: &str, nat: Nat, link: Link, plan: RouterPlan) -> Result<Router, LabError> {
        let RouterPlan { namespace, public, prefix, carrier } = plan;
        namespace.write_sysctl("net/ipv4/ip_forward", "1")?;
        let gateway = Ipv4Addr::from(u32::from(prefix) + 1);
        namespace.ip(&format!(
            "link add lan0 type bridge forward_delay 0\nlink set lan0 up\naddr add {gateway}/24 dev lan0\n"
        ))?;
        namespace.nft(&nat.script())?;
        let core = RouterCore { namespace, prefix, public, hosts: AtomicU32::new(2), _carrier: carrier };
        Ok(Router { name: name.to_owned(), core: Arc::new(core), link, lab: self.clone() })
    }
}

/// What makes a router of a namespace whose `wan0` is up.
struct RouterPlan {
    namespace: Namespace,
    public: Ipv4Addr,
    prefix: Ipv4Addr,
    carrier: Option<Arc<RouterCore>>,
}

/// Which of the 256 LANs of a lab; tells its prefixes apart.
#[derive(Clone, Copy)]
struct LanNumber(u8);

impl LanNumber {
    fn private(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, self.0, 0)
    }

    fn public(self) -> Ipv4Addr {
        Ipv4Addr::new(11, 200, self.0, 0)
    }

    fn carrier(self) -> Ipv4Addr {
        Ipv4Addr::new(100, 64, self.0, 0)
    }
}

/// Beside the names of the namespaces: whoever may make those may write here.
fn lock_folder() -> PathBuf {
    PathBuf::from("/run/offhook-lab")
}

/// Removes the namespaces of labs whose process is gone: their lock can be had.
fn remove_leftovers() {
    let Ok(entries) = std::fs::read_dir(lock_folder()) else { return };
    for entry in entries.flatten() {
        let Ok(file) = File::open(entry.path()) else { continue };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => continue,
        }
        let prefix = format!("{}.", entry.file_name().to_string_lossy());
        for name in sys::namespaces().iter().filter(|name| name.starts_with(&prefix)) {
            sys::remove_namespace(name);
        }
        let _ = std::fs::remove_file(entry.path());
    }
}

/// An access link into the internet of the lab.
#[derive(Clone, Debug)]
pub struct Link {
    lab: Lab,
    port: PortId,
}

impl Link {
    /// Changes both directions, at once and while packets are under way.
    pub fn set(&self, impairment: &Impairment) {
        self.lab.inner.cloud.impair(self.port, Some(impairment), Some(impairment));
    }

    /// Changes the direction from the host into the internet.
    pub fn set_up(&self, impairment: &Impairment) {
        self.lab.inner.cloud.impair(self.port, Some(impairment), None);
    }

    /// Changes the direction from the internet to the host.
    pub fn set_down(&self, impairment: &Impairment) {
        self.lab.inner.cloud.impair(self.port, None, Some(impairment));
    }

    /// What has passed so far.
    pub fn counters(&self) -> LinkCounters {
        self.lab.inner.cloud.counters(self.port)
    }
}

/// A router, its NAT and its LAN.
#[derive(Clone, Debug)]
pub struct Router {
    name: String,
    core: Arc<RouterCore>,
    link: Link,
    lab: Lab,
}

/// What the hosts behind a router keep alive: its namespace holds their way out.
#[derive(Debug)]
struct RouterCore {
    namespace: Namespace,
    prefix: Ipv4Addr,
    public: Ipv4Addr,
    hosts: AtomicU32,
    // The carrier's router in front of this one.
    _carrier: Option<Arc<RouterCore>>,
}

impl Router {
    /// A host on the router's LAN; hosts of one LAN see each other's broadcasts.
    ///
    /// # Errors
    /// When a namespace or device can't be made.
    pub fn host(&self, name: &str) -> Result<Host, LabError> {
        let namespace = self.lab.namespace(name)?;
        let address = self.plug(&namespace, "eth0")?;
        // A host with an address of its own is seen under it; the others under their router's.
        let public = if address.octets()[0] == 11 { address } else { self.core.public };
        let router = Some(Arc::clone(&self.core));
        let (name, link, lab) = (name.to_owned(), self.link.clone(), self.lab.clone());
        Ok(Host { name, namespace, address, public, link, _router: router, lab })
    }

    /// A home router behind this one, which then is a carrier's: two NATs in a row.
    ///
    /// # Errors
    /// As [`Lab::router`].
    pub fn router(&self, name: &str, nat: Nat) -> Result<Router, LabError> {
        let namespace = self.lab.namespace(name)?;
        self.plug(&namespace, "wan0")?;
        let prefix = self.lab.next_lan()?.private();
        let carrier = Some(Arc::clone(&self.core));
        let plan = RouterPlan { namespace, public: self.core.public, prefix, carrier };
        self.lab.finish_router(name, nat, self.link.clone(), plan)
    }

    /// Replaces the NAT and forgets every connection that it knew, as a router does that starts again.
    ///
    /// # Errors
    /// When the rules don't load.
    pub fn set_nat(&self, nat: Nat) -> Result<(), LabError> {
        self.core.namespace.nft(&nat.script())?;
        let mut flush = Command::new("conntrack");
        flush.arg("-F").stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        self.core.namespace.enter(&mut flush);
        flush.status().map_err(|error| LabError::Command {
            command: "conntrack".to_owned(),
            message: error.to_string(),
        })?;
        Ok(())
    }

    /// The access link.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// The address under which the internet sees the router.
    pub fn public(&self) -> Ipv4Addr {
        self.core.public
    }

    /// The name given to it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Lays a cable from the LAN's bridge to a device of another namespace and gives that an address and a route.
    fn plug(&self, other: &Namespace, device: &str) -> Result<Ipv4Addr, LabError> {
        let number = self.core.hosts.fetch_add(1, Ordering::Relaxed);
        if number > 254 {
            return Err(LabError::Full);
        }
        let address = Ipv4Addr::from(u32::from(self.core.prefix) + number);
        let gateway = Ipv4Addr::from(u32::from(self.core.prefix) + 1);
        self.core.namespace.ip(&format!(
            "link add p{number} type veth peer name {device} netns {}\nlink set p{number} master lan0\nlink set p{number} up\n",
            other.name()
        ))?;
        other.ip(&format!(
            "link set {device} up\naddr add {address}/24 brd + dev {device}\nroute add default via {gateway}\n"
        ))?;
        Ok(address)
    }
}

/// A host: a network namespace in which programs run.
#[derive(Debug)]
pub struct Host {
    name: String,
    namespace: Namespace,
    address: Ipv4Addr,
    public: Ipv4Addr,
    link: Link,
    _router: Option<Arc<RouterCore>>,
    lab: Lab,
}

impl Host {
    /// Starts a program on this host. It dies with the thread that calls this.
    ///
    /// # Errors
    /// When the program can't be started.
    pub fn spawn(&self, command: &mut Command) -> Result<Child, LabError> {
        self.namespace.enter(command);
        command.spawn().map_err(|error| LabError::Command {
            command: format!("{command:?}"),
            message: error.to_string(),
        })
    }

    /// Makes a command start on this host, for callers that spawn it themselves, while this host lives.
    pub fn prepare(&self, command: &mut Command) {
        self.namespace.enter(command);
    }

    /// Runs a closure on this host, on a thread of its own; sockets made there stay on the host.
    ///
    /// # Errors
    /// When the namespace can't be entered.
    pub fn run<T: Send>(&self, task: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        self.namespace.inside(task)
    }

    /// A UDP socket on this host; port 0 takes any.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn udp(&self, port: u16) -> Result<UdpSocket, LabError> {
        self.run(|| UdpSocket::bind((self.address, port)))?.map_err(LabError::Io)
    }

    /// The address of the host itself; private behind a NAT.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The address under which the internet sees the host.
    pub fn public(&self) -> Ipv4Addr {
        self.public
    }

    /// The access link, shared by all hosts behind one router.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// The lab it belongs to.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The name given to it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of its namespace, for `ip netns exec`.
    pub fn namespace(&self) -> &str {
        self.namespace.name()
    }
}
