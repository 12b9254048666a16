//! A STUN server: answers binding requests (RFC 8489 section 6.3.1) and nothing else.
//!
//! An answer is 12 or 24 bytes longer than the smallest request, so it amplifies nothing worth a spoofed source;
//! and each address gets a bounded number of answers per second.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use offhook_proto::wire::canonical;
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use stun_types::attribute::XorMappedAddress;
use stun_types::message::{BINDING, Message, MessageClass, MessageWrite, MessageWriteExt, MessageWriteVec};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tracing::debug;

use super::addr::Host;
use super::limit::Limiter;
use super::metrics::Metrics;

/// Longest request looked at, in bytes. Binding requests with every attribute clients send are far shorter.
const MAX_REQUEST: usize = 548;

/// After an error of the socket; doubled with every further one in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What the system says when it has no IPv6.
const NO_IPV6: [i32; 2] = [Errno::AFNOSUPPORT.raw_os_error(), Errno::ADDRNOTAVAIL.raw_os_error()];

/// A running STUN server.
pub(super) struct Stun {
    task: JoinHandle<()>,
    /// Where it answers.
    pub(super) addr: SocketAddr,
}

impl Stun {
    /// Binds the socket and starts answering. Called within a runtime.
    pub(super) fn start(listen: SocketAddr, per_source: u32, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let socket = bind(listen)?;
        let addr = socket.local_addr()?;
        let task = tokio::spawn(serve(socket, per_source, metrics));
        Ok(Self { task, addr })
    }
}

impl Drop for Stun {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A UDP socket. `[::]` takes both families; where the host has no IPv6, IPv4 alone.
pub(crate) fn bind(listen: SocketAddr) -> std::io::Result<UdpSocket> {
    let any = listen.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let bound = open(listen, any);
    match bound {
        Err(error) if any && error.raw_os_error().is_some_and(|code| NO_IPV6.contains(&code)) => {
            open(SocketAddr::from((Ipv4Addr::UNSPECIFIED, listen.port())), false)
        }
        Ok(_) | Err(_) => bound,
    }
}

/// A UDP socket on an address; `dual`: for both families.
pub(crate) fn open(listen: SocketAddr, dual: bool) -> std::io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(listen), Type::DGRAM, Some(Protocol::UDP))?;
    if dual {
        // The host's own default may be otherwise.
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&listen.into())?;
    UdpSocket::from_std(socket.into())
}

async fn serve(socket: UdpSocket, per_source: u32, metrics: Arc<Metrics>) {
    let mut limiter = Limiter::new(per_source);
    let mut buffer = [0; MAX_REQUEST + 1];
    let mut pause = FIRST_PAUSE;
    loop {
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // ICMP errors of earlier answers appear here, and are no reason to stop; a socket that has broken down
            // fails every time.
            Err(error) => {
                debug!(%error, "STUN socket");
                metrics.stun_failed.inc();
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
        };
        pause = FIRST_PAUSE;
        let answer = limiter
            .permit(Host::of(from.ip()), Instant::now())
            .then(|| answer(&buffer[..length], from))
            .flatten();
        match answer {
            Some(answer) => match socket.send_to(&answer, from).await {
                Ok(_) => metrics.stun_answered.inc(),
                Err(error) => {
                    debug!(%error, "STUN answer");
                    metrics.stun_dropped.inc()
                }
            },
            None => metrics.stun_dropped.inc(),
        };
    }
}

/// The success response with the sender's address; nothing to what is no well-formed binding request.
pub(crate) fn answer(request: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
    if request.len() > MAX_REQUEST {
        return None;
    }
    let request = Message::from_bytes(request).ok()?;
    if !request.has_method(BINDING) || !request.has_class(MessageClass::Request) {
        return None;
    }
    let mapped = canonical(from);
    let mut response = Message::builder_success(&request, MessageWriteVec::new());
    let address = XorMappedAddress::new(mapped, request.transaction_id());
    response.add_attribute(&address).ok()?;
    Some(response.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::registry::Registry;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    #[tokio::test]
    async fn a_broken_socket_is_not_asked_without_pause() {
        // What is received here has no address, so every receiving fails at once.
        let (broken, other) = UnixStream::pair().unwrap();
        drop(other);
        broken.set_nonblocking(true).unwrap();
        let socket = UdpSocket::from_std(std::net::UdpSocket::from(OwnedFd::from(broken))).unwrap();
        let metrics = Arc::new(Metrics::new(Registry::default()));
        let task = tokio::spawn(serve(socket, 1, metrics.clone()));
        let failed = || metrics.stun_failed.get();
        let started = Instant::now();
        while failed() < 7 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // The pauses before the seventh failure are 1, 2, 4 ms and so on: a busy machine only makes them longer.
        assert!(started.elapsed() >= Duration::from_millis(63), "{} failures at once", failed());
        task.abort();
    }
}
