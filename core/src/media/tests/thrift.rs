//! What does not go through a directory, because something cheaper is about to come.

use std::net::UdpSocket;
use std::time::Instant;

use offhook_proto::relay::RelayTransport;
use quinn::AsyncUdpSocket;
use quinn::udp::Transmit;

use super::relayed::{allocations, both_at, is_relayed, server};
use super::*;
use crate::media::socket::{MediaSocket, PEER};

fn connected(ends: &[End; 2]) -> bool {
    ends.iter().all(|end| exporter(end).is_some() && is_direct(end))
}

/// Two ends that show each other their addresses, each with an address at a relay to be had.
fn open(server: &crate::relay::Relay, direct_patience: Duration) -> Call {
    let [a, b] = both_at(server, RelayTransport::Udp);
    let config = |role, relay| MediaConfig { relays: vec![relay], direct_patience, ..on_loopback(role) };
    Call::new(config(Role::Caller, a), config(Role::Callee, b))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_direct_path_comes_neither_tunnel_nor_relay_is_used() {
    let server = server().await;
    let mut call = open(&server, PATIENCE);
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
    let mut call = open(&server, Duration::from_millis(100));
    call.only_relayed = true;
    call.run("a connection through the relay", |ends| ends.iter().all(is_relayed)).await;
    assert_eq!(allocations(&server), 2);
    assert!(call.carried.iter().all(|packets| *packets > 0), "{:?}", call.carried);
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

/// What went through the tunnel in vain is not left to QUIC's patience once there is a path.
#[tokio::test]
async fn what_the_tunnel_has_swallowed_is_sent_again_on_the_first_path_unless_something_came_back() {
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let (stun, _) = mpsc::channel(1);
    let (tunnel, mut tunnelled) = mpsc::channel(8);
    let socket = MediaSocket::bind(Some(Ipv4Addr::LOCALHOST.into()), stun, tunnel).unwrap();
    let send = |packet: &[u8]| {
        let transmit =
            Transmit { destination: PEER, ecn: None, contents: packet, segment_size: None, src_ip: None };
        socket.try_send(&transmit).unwrap();
    };
    send(b"@answered");
    socket.tunnel_in(b"@answer".to_vec());
    send(b"@in vain");
    assert_eq!(
        (tunnelled.recv().await.unwrap(), tunnelled.recv().await.unwrap()),
        (b"@answered".to_vec(), b"@in vain".to_vec())
    );
    let local = socket.bound().next().unwrap();
    socket.set_path(Path::Direct { local, remote: peer.local_addr().unwrap() });
    let mut buffer = [0; 32];
    let length = peer.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"@in vain");
    send(b"@later");
    let length = peer.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"@later", "and nothing else before");
}

#[tokio::test]
async fn through_a_relay_goes_again_only_what_the_tunnel_leaves_unanswered() {
    for answered in [true, false] {
        let ((stun, _), (tunnel, _tunnelled)) = (mpsc::channel(1), mpsc::channel(8));
        let socket = MediaSocket::bind(Some(Ipv4Addr::LOCALHOST.into()), stun, tunnel).unwrap();
        let initial = [0xc0; 20];
        let transmit =
            Transmit { destination: PEER, ecn: None, contents: &initial, segment_size: None, src_ip: None };
        socket.try_send(&transmit).unwrap();
        let (relay, local) = ("relay".into(), socket.bound().next().unwrap());
        let (before, transport) = (Instant::now(), RelayTransport::Udp);
        socket.set_path(Path::Relayed { relay, transport, local, remote: PEER });
        let due = socket.handshake_due().unwrap();
        assert!(due > before + Duration::from_millis(100), "an answer takes as long as by the relay");
        if answered {
            socket.tunnel_in(b"@answer".to_vec());
        }
        socket.repeat_handshake(due);
        assert_eq!(socket.handshake_due().is_none(), answered, "what has been sent is watched over");
    }
}
