//! What a NAT does, found out from inside (RFC 4787 sections 4.1 and 5).

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use super::{Host, LabError};

/// How a NAT maps or filters, in RFC 4787's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// The same for every other end.
    EndpointIndependent,
    /// One for each address.
    AddressDependent,
    /// One for each address and port.
    AddressAndPortDependent,
}

/// A NAT as its users meet it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatClass {
    /// No UDP answer at all.
    Blocked,
    /// UDP passes.
    Open {
        /// Whether the outside port depends on the destination.
        mapping: Behaviour,
        /// Whose packets come in.
        filtering: Behaviour,
        /// Whether the outside port is the inside port.
        port_kept: bool,
    },
}

/// How long a packet may take that is expected not to come.
const PATIENCE: Duration = Duration::from_millis(600);

/// Classifies the NAT in front of `inside` with two public hosts as the other ends, over IPv4 or, if `inside` has no such
/// address, IPv6.
///
/// # Errors
/// When a socket can't be made; a packet that does not come is an answer, not an error.
pub fn classify(inside: &Host, first: &Host, second: &Host) -> Result<NatClass, LabError> {
    classify_with([inside, first, second], if inside.addresses().v4.is_some() { udp4 } else { udp6 })
}

/// Classifies the firewall in front of `inside` over IPv6.
///
/// # Errors
/// As [`classify`].
pub fn classify_v6(inside: &Host, first: &Host, second: &Host) -> Result<NatClass, LabError> {
    classify_with([inside, first, second], udp6)
}

/// Whether a host reaches another one behind the same NAT at the address under which the internet sees that, and is
/// seen there under such an address itself (RFC 4787 section 6). Each has spoken with `server`, and with the other, in vain
/// or not, before.
///
/// # Errors
/// As [`classify`].
pub fn hairpins(one: &Host, other: &Host, server: &Host) -> Result<bool, LabError> {
    let (one, other, server) = (udp4(one)?, udp4(other)?, udp4(server)?);
    let (Some(seen_one), Some(seen_other)) = (seen_by(&one, &server)?, seen_by(&other, &server)?) else {
        return Ok(false);
    };
    arrival(&one, seen_other, &other)?;
    Ok(arrival(&other, seen_one, &one)? == Some(seen_other)
        && arrival(&one, seen_other, &other)? == Some(seen_one))
}

/// Whether a TCP connection comes about to a port of a public host.
///
/// # Errors
/// As [`classify`].
pub fn tcp_reaches(inside: &Host, server: &Host, port: u16) -> Result<bool, LabError> {
    let ip = if inside.addresses().v4.is_some() {
        server.address()
    } else {
        server.addresses().v6.map_or(server.address(), IpAddr::V6)
    };
    let _listener = server.run(|| TcpListener::bind((ip, port)))??;
    let connected = inside.run(|| TcpStream::connect_timeout(&(ip, port).into(), PATIENCE))?;
    connected.map(|_| true).or_else(|error| missed(error).map(|()| false))
}

/// Whether what one host says to all of its LAN, as mDNS does (RFC 6762), is heard by another.
///
/// # Errors
/// As [`classify`].
pub fn multicast_reaches(from: &Host, to: &Host) -> Result<bool, LabError> {
    const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
    let (Some(own), Some(from_own)) = (to.addresses().v4, from.addresses().v4) else { return Ok(false) };
    let listener = to.run(|| -> io::Result<UdpSocket> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.join_multicast_v4(&GROUP, &own)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    })??;
    let speaker = from.run(|| UdpSocket::bind((from_own, 0)))??;
    speaker.send_to(b"anybody there", (GROUP, listener.local_addr()?.port()))?;
    listener.recv_from(&mut [0; 64]).map(|_| true).or_else(|error| missed(error).map(|()| false))
}

fn udp4(host: &Host) -> Result<UdpSocket, LabError> {
    patient(host.udp(0)?)
}

fn udp6(host: &Host) -> Result<UdpSocket, LabError> {
    patient(host.udp6(0)?)
}

fn patient(socket: UdpSocket) -> Result<UdpSocket, LabError> {
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn classify_with(
    [inside, first, second]: [&Host; 3],
    socket: impl Fn(&Host) -> Result<UdpSocket, LabError>,
) -> Result<NatClass, LabError> {
    let client = socket(inside)?;
    let (near, near_other) = (socket(first)?, socket(first)?);
    let far = socket(second)?;
    let Some(mapped) = seen_by(&client, &near)? else { return Ok(NatClass::Blocked) };
    // Filtering first: so far only `near` has been spoken to.
    let filtering = if arrives(&far, mapped, &client)? {
        Behaviour::EndpointIndependent
    } else if arrives(&near_other, mapped, &client)? {
        Behaviour::AddressDependent
    } else {
        Behaviour::AddressAndPortDependent
    };
    let (same_address, other_address) = (seen_by(&client, &near_other)?, seen_by(&client, &far)?);
    let mapping = if other_address == Some(mapped) {
        Behaviour::EndpointIndependent
    } else if same_address == Some(mapped) {
        Behaviour::AddressDependent
    } else {
        Behaviour::AddressAndPortDependent
    };
    let port_kept = mapped.port() == client.local_addr()?.port();
    Ok(NatClass::Open { mapping, filtering, port_kept })
}

/// The address from which `server` sees `client`.
fn seen_by(client: &UdpSocket, server: &UdpSocket) -> Result<Option<SocketAddr>, LabError> {
    if let Err(error) = client.send_to(b"who am I", server.local_addr()?) {
        return missed(error).map(|()| None);
    }
    let mut buffer = [0; 64];
    match server.recv_from(&mut buffer) {
        Ok((_, from)) => Ok(Some(from)),
        Err(error) => missed(error).map(|()| None),
    }
}

fn arrives(server: &UdpSocket, to: SocketAddr, client: &UdpSocket) -> Result<bool, LabError> {
    Ok(arrival(server, to, client)?.is_some())
}

/// From where `client` sees what `server` sends there, if it arrives.
fn arrival(server: &UdpSocket, to: SocketAddr, client: &UdpSocket) -> Result<Option<SocketAddr>, LabError> {
    server.send_to(b"are you there", to)?;
    let mut buffer = [0; 64];
    match client.recv_from(&mut buffer) {
        Ok((_, from)) => Ok(Some(from)),
        Err(error) => missed(error).map(|()| None),
    }
}

/// Time-outs and ICMP refusals mean that nothing came; anything else is an error.
fn missed(error: io::Error) -> Result<(), LabError> {
    let nothing_came = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut, io::ErrorKind::ConnectionRefused];
    if nothing_came.contains(&error.kind()) { Ok(()) } else { Err(LabError::Io(error)) }
}
