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
//! test runs have left behind when it starts.
//!
//! Hosts speak IPv4 unless an [`Access`] says otherwise; who may do what is in [`Nat`]. While programs run, a lab changes:
//!
//! | what happens | how |
//! |---|---|
//! | a link gets better or worse | [`Link::set`] |
//! | an outage, of a terminal's or a directory's link | [`Link::cut`], until its answer is dropped |
//! | a host gets another address | [`Host::readdress`] |
//! | its router does | [`Router::readdress`] |
//! | a NAT forgets its mappings, and gives the same or other ports | [`Router::forget`] |
//! | a router opens ports for its LAN | [`Router::open_ports`] |
//! | a router starts again as one of another kind | [`Router::set_nat`] |
//! | Wi-Fi beside the cable, a cable beside the mobile network | [`Host::join`], then [`Host::prefer`] |
//! | a cable is pulled out, put in | [`Host::disconnect`], [`Host::connect`] |
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

mod access;
mod address;
mod classify;
mod cloud;
mod host;
mod interface;
mod link;
mod nat;
mod network;
mod opener;
mod router;
mod sys;
mod topology;

pub use access::{Link, Outage};
pub use address::{Access, Addresses, Families};
pub use classify::{Behaviour, NatClass, classify, classify_v6, hairpins, multicast_reaches, tcp_reaches};
pub use cloud::{Counters, LinkCounters};
pub use host::Host;
pub use link::{Channel, Fate, Impairment};
pub use nat::Nat;
pub use network::Network;
pub use opener::{Opener, Opening};
pub use router::{Ports, Router};
pub(crate) use sys::die_with_parent;
pub use sys::monotonic_ns;
pub use topology::{Mesh, Pair};

use std::fs::{File, TryLockError};
use std::net::{IpAddr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use address::{AccessNumber, LanNumber, LanPrefixes};
use cloud::Cloud;
use interface::{Interface, Shared, lock};
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
    /// A host has no device of this name.
    #[error("the host has no device {0}")]
    NoDevice(String),
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

    /// A host with public addresses and an access link of its own, device `wan0`.
    ///
    /// # Errors
    /// When a namespace or device can't be made.
    pub fn host(&self, name: &str, access: impl Into<Access>) -> Result<Host, LabError> {
        let namespace = self.namespace(name)?;
        let wan = self.access(&namespace, &access.into())?;
        Ok(Host::new(self, name, namespace, wan))
    }

    /// A router with public addresses, an access link and an empty LAN. Over IPv6 hosts of the LAN have public
    /// addresses, too, whatever the NAT.
    ///
    /// # Errors
    /// When a namespace or device can't be made, or the rules don't load.
    pub fn router(&self, name: &str, nat: Nat, access: impl Into<Access>) -> Result<Router, LabError> {
        let access = access.into();
        let namespace = self.namespace(name)?;
        let wan = self.access(&namespace, &access)?;
        let number = self.next_lan()?;
        let v4 = if nat.translates() { number.private() } else { number.public() };
        if access.families.has_v4() && !nat.translates() {
            self.cloud().route(IpAddr::V4(v4), 24, lock(&wan).link().port);
        }
        let v6 = lock(&wan).addresses().v6.map(LanPrefixes::v6_behind);
        let lan = LanPrefixes { v4: access.families.has_v4().then_some(v4), v6 };
        Router::new(self, name, nat, wan, lan, namespace)
    }

    /// A carrier's router whose customers, themselves routers, get addresses of 100.64.0.0/10 (RFC 6598). IPv4 only.
    ///
    /// # Errors
    /// As [`Lab::router`].
    pub fn carrier(&self, name: &str, nat: Nat, access: Impairment) -> Result<Router, LabError> {
        let namespace = self.namespace(name)?;
        let wan = self.access(&namespace, &access.into())?;
        let lan = LanPrefixes { v4: Some(self.next_lan()?.carrier()), v6: None };
        Router::new(self, name, nat, wan, lan, namespace)
    }

    /// Bytes sent so far from one public address to another, IP headers included.
    pub fn flow_bytes(&self, from: IpAddr, to: IpAddr) -> u64 {
        self.inner.cloud.flow(from, to)
    }

    /// Packets so far whose destination is nobody's.
    pub fn unroutable(&self) -> u64 {
        self.inner.cloud.unroutable()
    }

    /// Keeps the newest UDP datagrams that are sent from one public address to another from now on, as somebody could who sits
    /// on the way.
    pub fn overhear(&self, from: IpAddr, to: IpAddr) {
        self.inner.cloud.overhear(from, to);
    }

    /// The payloads of what was overheard, the newest first.
    pub fn overheard(&self, from: IpAddr, to: IpAddr) -> Vec<Vec<u8>> {
        self.inner.cloud.overheard(from, to)
    }

    /// Sends a UDP datagram with a forged sender into the internet.
    pub fn inject_udp(&self, from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) {
        self.inner.cloud.inject(cloud::udp_packet(from, to, payload));
    }

    fn cloud(&self) -> &Cloud {
        &self.inner.cloud
    }

    fn namespace(&self, name: &str) -> Result<Arc<Namespace>, LabError> {
        Namespace::create(format!("{}.{name}", self.inner.id)).map(Arc::new)
    }

    fn access(&self, namespace: &Arc<Namespace>, access: &Access) -> Result<Shared, LabError> {
        Ok(Arc::new(Mutex::new(Interface::internet(self, namespace, access)?)))
    }

    fn next_access(&self) -> Result<AccessNumber, LabError> {
        AccessNumber::new(self.inner.accesses.fetch_add(1, Ordering::Relaxed))
    }

    fn next_lan(&self) -> Result<LanNumber, LabError> {
        LanNumber::new(self.inner.lans.fetch_add(1, Ordering::Relaxed))
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
