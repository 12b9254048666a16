//! Hosts: where programs run, and what changes under them.

use std::net::{IpAddr, UdpSocket};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::access::Link;
use super::address::Addresses;
use super::interface::{Shared, lock};
use super::router::Router;
use super::sys::{self, Namespace};
use super::{Lab, LabError};

/// A host: a network namespace in which programs run.
#[derive(Debug)]
pub struct Host {
    name: String,
    namespace: Arc<Namespace>,
    /// Never empty; the preferred one first.
    interfaces: Mutex<Vec<Shared>>,
    lab: Lab,
}

impl Host {
    pub(super) fn new(lab: &Lab, name: &str, namespace: Arc<Namespace>, first: Shared) -> Self {
        Self { name: name.to_owned(), namespace, interfaces: Mutex::new(vec![first]), lab: lab.clone() }
    }

    /// Starts a program on this host. It dies with the thread that calls this.
    ///
    /// # Errors
    /// When the program can't be started.
    pub fn spawn(&self, command: &mut Command) -> Result<Child, LabError> {
        self.namespace.enter(command);
        command.spawn().map_err(|error| sys::spawn_error(command, error))
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

    /// A UDP socket on this host, at its address; port 0 takes any.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn udp(&self, port: u16) -> Result<UdpSocket, LabError> {
        self.run(|| UdpSocket::bind((self.address(), port)))?.map_err(LabError::Io)
    }

    /// The same at its IPv6 address.
    ///
    /// # Errors
    /// When the port is taken, or the host has no such address.
    pub fn udp6(&self, port: u16) -> Result<UdpSocket, LabError> {
        let ip =
            self.addresses().v6.ok_or(std::io::ErrorKind::AddrNotAvailable).map_err(std::io::Error::from)?;
        self.run(|| UdpSocket::bind((ip, port)))?.map_err(LabError::Io)
    }

    /// Plugs a new device of this host into another router, as one joins a Wi-Fi beside the cable. What it sends goes on
    /// through the preferred device.
    ///
    /// # Errors
    /// When the device can't be made.
    pub fn join(&self, router: &Router, device: &str) -> Result<(), LabError> {
        let mut interfaces = self.interfaces();
        let rank = u32::try_from(interfaces.len()).map_err(|_| LabError::Full)?;
        interfaces.push(router.core().plug(&self.namespace, device, rank)?);
        Ok(())
    }

    /// Moves the default route to a device.
    ///
    /// # Errors
    /// [`LabError::NoDevice`].
    pub fn prefer(&self, device: &str) -> Result<(), LabError> {
        let mut interfaces = self.interfaces();
        let at = position(&interfaces, device)?;
        interfaces[..=at].rotate_right(1);
        interfaces.iter().skip(1).try_for_each(|interface| lock(interface).prefer(false))?;
        lock(&interfaces[0]).prefer(true)
    }

    /// Takes the cable out of a device: it loses its addresses and routes.
    ///
    /// # Errors
    /// [`LabError::NoDevice`].
    pub fn disconnect(&self, device: &str) -> Result<(), LabError> {
        let interfaces = self.interfaces();
        let at = position(&interfaces, device)?;
        lock(&interfaces[at]).disconnect()
    }

    /// Puts it back in: the device has the same addresses again.
    ///
    /// # Errors
    /// [`LabError::NoDevice`].
    pub fn connect(&self, device: &str) -> Result<(), LabError> {
        let interfaces = self.interfaces();
        let at = position(&interfaces, device)?;
        lock(&interfaces[at]).connect()
    }

    /// Gives the device that leads out other addresses, of the same network or, if that is the internet itself, of another.
    ///
    /// # Errors
    /// When the address plan is used up.
    pub fn readdress(&self) -> Result<(), LabError> {
        lock(&self.way_out()).readdress()
    }

    /// From now on no TCP comes in from elsewhere, nor UDP for this port: as if whatever listens there hung.
    ///
    /// # Errors
    /// When the kernel takes no rules.
    pub fn stall(&self, port: u16) -> Result<(), LabError> {
        self.namespace.nft(&format!(
            "table inet stall {{
                chain input {{
                    type filter hook input priority 0
                    iifname lo accept
                    meta l4proto tcp drop
                    udp dport {port} drop
                }}
            }}"
        ))
    }

    /// The address of the host itself, that of IPv4 if it has one; private behind a NAT.
    pub fn address(&self) -> IpAddr {
        self.addresses().main()
    }

    /// The addresses of the device that leads out.
    pub fn addresses(&self) -> Addresses {
        lock(&self.way_out()).addresses()
    }

    /// The address under which the internet sees the host: that of IPv4, if it has one.
    pub fn public(&self) -> IpAddr {
        self.public_addresses().main()
    }

    /// The addresses under which the internet sees the host.
    pub fn public_addresses(&self) -> Addresses {
        lock(&self.way_out()).public()
    }

    /// The access link through which it is in the internet, shared by all hosts behind one router.
    pub fn link(&self) -> Link {
        lock(&self.way_out()).link()
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

    fn interfaces(&self) -> MutexGuard<'_, Vec<Shared>> {
        self.interfaces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The best device with a cable in it; if there is none, the preferred one.
    fn way_out(&self) -> Shared {
        let interfaces = self.interfaces();
        let connected = interfaces.iter().find(|interface| lock(interface).is_connected());
        Arc::clone(connected.unwrap_or(&interfaces[0]))
    }
}

fn position(interfaces: &[Shared], device: &str) -> Result<usize, LabError> {
    let found = interfaces.iter().position(|interface| lock(interface).device() == device);
    found.ok_or_else(|| LabError::NoDevice(device.to_owned()))
}
