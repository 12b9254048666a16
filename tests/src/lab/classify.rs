//! What a NAT does, found out from inside (RFC 4787 sections 4.1 and 5).

use std::io;
use std::net::{SocketAddr, UdpSocket};
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

/// Classifies the NAT in front of `inside` with two public hosts as the other ends.
///
/// # Errors
/// When a socket can't be made; a packet that does not come is an answer, not an error.
pub fn classify(inside: &Host, first: &Host, second: &Host) -> Result<NatClass, LabError> {
    let socket = |host: &Host, port| -> Result<UdpSocket, LabError> {
        let socket = host.udp(port)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    };
    let client = socket(inside, 0)?;
    let (near, near_other) = (socket(first, 0)?, socket(first, 0)?);
    let far = socket(second, 0)?;
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
    client.send_to(b"who am I", server.local_addr()?)?;
    let mut buffer = [0; 64];
    match server.recv_from(&mut buffer) {
        Ok((_, from)) => Ok(Some(from)),
        Err(error) => missed(error).map(|()| None),
    }
}

fn arrives(server: &UdpSocket, to: SocketAddr, client: &UdpSocket) -> Result<bool, LabError> {
    server.send_to(b"are you there", to)?;
    let mut buffer = [0; 64];
    match client.recv_from(&mut buffer) {
        Ok(_) => Ok(true),
        Err(error) => missed(error).map(|()| false),
    }
}

/// Time-outs and ICMP refusals mean that nothing came; anything else is an error.
fn missed(error: io::Error) -> Result<(), LabError> {
    let nothing_came = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut, io::ErrorKind::ConnectionRefused];
    if nothing_came.contains(&error.kind()) { Ok(()) } else { Err(LabError::Io(error)) }
}
