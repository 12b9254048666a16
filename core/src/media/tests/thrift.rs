//! What does not go through a directory, because something cheaper is about to come.

use std::net::UdpSocket;

use offhook_proto::relay::RelayTransport;

use super::relayed::{allocations, both_at, is_relayed, server};
use super::*;
use crate::media::socket::MediaSocket;

fn connected(ends: &[End; 2]) -> bool {
    ends.iter().all(|end| exporter(end).is_some() && is_direct(end))
}

/// Two ends that show each other their addresses, each with an address at a relay to be had.
fn open(server: &crate::relay::Relay) -> Call {
    let [a, b] = both_at(server, RelayTransport::Udp);
    let config = |role, relay| MediaConfig { relays: vec![relay], ..on_loopback(role) };
    Call::new(config(Role::Caller, a), config(Role::Callee, b))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_direct_path_comes_neither_tunnel_nor_relay_is_used() {
    let server = server().await;
    let mut call = open(&server);
    call.run("a direct connection", connected).await;
    call.ends.iter().for_each(|end| end.leg.start_audio());
    call.run("the answer to be dealt with", |ends| {
        ends.iter().all(|end| {
            end.find(|event| matches!(event, MediaEvent::AudioStarted { .. }).then_some(())).is_some()
        })
    })
    .await;
    assert_eq!(call.carried, [0, 0], "packets went through the tunnel");
    assert_eq!(allocations(&server), 0, "nobody has asked the relay for an address");
    call.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_none_comes_both_are_used_before_the_answer() {
    let server = server().await;
    let mut call = open(&server);
    call.only_relayed = true;
    call.run("a connection through the relay", |ends| ends.iter().all(is_relayed)).await;
    assert_eq!(allocations(&server), 2);
    call.close().await;
}

/// A fresh socket has not yet been told by the system that it may be written to; all the same it must not swallow what is
/// sent first, since the repetition comes a tenth of a second later.
#[tokio::test]
async fn the_very_first_packet_of_a_leg_is_sent() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let (stun, _) = mpsc::channel(1);
    let (tunnel, _) = mpsc::channel(1);
    let socket = MediaSocket::bind(Some(Ipv4Addr::LOCALHOST.into()), stun, tunnel).unwrap();
    socket.send_aside(None, server.local_addr().unwrap(), b"hello");
    let mut buffer = [0; 8];
    assert_eq!(server.recv(&mut buffer).unwrap(), 5);
}
