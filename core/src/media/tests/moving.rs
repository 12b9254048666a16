//! Legs whose network changes under a call: a forwarder between them plays the NATs.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

use super::relayed::{both_at, goes_direct, is_relayed, received, server};
use super::*;
use offhook_proto::identity::TerminalKey;
use offhook_proto::relay::RelayTransport;
use offhook_proto::signalling::CallId;

/// Two ports: what one end sends to its port comes to the other end from the other port.
struct Nat {
    ports: [u16; 2],
    /// Where the ends are.
    behind: Arc<[AtomicU16; 2]>,
    /// What is done with packets of either end: 0 forwards them from the told port, 1 from another one, 2 drops them.
    mode: Arc<AtomicU16>,
}

const REBOUND: u16 = 1;
const BROKEN: u16 = 2;

impl Nat {
    fn new() -> Nat {
        let sockets: [UdpSocket; 2] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let ports = sockets.each_ref().map(|socket| socket.local_addr().unwrap().port());
        let behind = Arc::new([AtomicU16::new(0), AtomicU16::new(0)]);
        let mode = Arc::new(AtomicU16::new(0));
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        for n in 0..2 {
            let from = sockets[n].try_clone().unwrap();
            forward(n, from, sockets[1 - n].try_clone().unwrap(), other.try_clone().unwrap(), &behind, &mode);
        }
        // What comes to the new port is for the end whose port was changed.
        forward(1, other.try_clone().unwrap(), sockets[0].try_clone().unwrap(), other, &behind, &mode);
        Nat { ports, behind, mode }
    }

    /// Learns where the ends are.
    fn learn(&self, call: &Call) {
        for n in 0..2 {
            let own = call.ends[n].leg.socket().bound().next().unwrap().port();
            self.behind[n].store(own, Relaxed);
        }
    }

    /// What end `n` is told of the other one.
    fn line(&self, n: usize) -> String {
        format!("candidate:1 1 udp 2130706431 127.0.0.1 {} typ host", self.ports[n])
    }

    /// Tells both ends the other one's address as the forwarder shows it.
    fn tell(&self, call: &Call) {
        self.learn(call);
        for n in 0..2 {
            call.ends[n].leg.add_remote_candidates(vec![self.line(n)]);
        }
    }
}

/// Passes on what end `n` sends to `from`.
fn forward(
    n: usize,
    from: UdpSocket,
    told: UdpSocket,
    other: UdpSocket,
    behind: &Arc<[AtomicU16; 2]>,
    mode: &Arc<AtomicU16>,
) {
    from.set_read_timeout(Some(PATIENCE * 2)).unwrap();
    let (behind, mode) = (behind.clone(), mode.clone());
    std::thread::spawn(move || {
        let mut packet = [0; 2_000];
        while let Ok((length, _)) = from.recv_from(&mut packet) {
            let to = SocketAddr::from((Ipv4Addr::LOCALHOST, behind[1 - n].load(Relaxed)));
            // What can't be sent is lost.
            let _ = match (mode.load(Relaxed), n) {
                (BROKEN, _) => continue,
                // The first end shows itself from a new port; packets to its old one are lost.
                (REBOUND, 0) => other.send_to(&packet[..length], to),
                (REBOUND, _) if from.local_addr().unwrap().port() != other.local_addr().unwrap().port() => {
                    continue;
                }
                (_, _) => told.send_to(&packet[..length], to),
            };
        }
    });
}

/// Both ends find each other through the forwarder, and talk.
async fn talk(call: &mut Call, nat: &Nat) {
    nat.tell(call);
    call.ends.iter().for_each(|end| end.leg.start_audio());
    call.run("talking", |ends| ends.iter().all(|end| goes_direct(end) && received(end) > 50)).await;
}

async fn talks_on(call: &mut Call, what: &str) {
    let by_now = call.ends.each_ref().map(received);
    call.run(what, |[a, b]| received(a) > by_now[0] + 50 && received(b) > by_now[1] + 50).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nat_that_gives_another_port_is_followed() {
    let nat = Nat::new();
    let mut call = Call::new(on_loopback(Role::Caller), on_loopback(Role::Callee));
    call.candidates = false;
    talk(&mut call, &nat).await;
    nat.mode.store(REBOUND, Relaxed);
    let begun = std::time::Instant::now();
    talks_on(&mut call, "talking after the change").await;
    println!("second of voice after {:?}", begun.elapsed());
    assert!(call.ends.iter().all(goes_direct));
    call.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_direct_path_dies_the_relay_takes_over() {
    let (server, nat) = (server().await, Nat::new());
    let [a, b] = both_at(&server, RelayTransport::Udp);
    // As between strangers: they have met at the relay before.
    let config = |role, relay| MediaConfig { disclose: false, relays: vec![relay], ..on_loopback(role) };
    let mut call = Call::new(config(Role::Caller, a), config(Role::Callee, b));
    call.only_relayed = true;
    call.run("a relayed path", |ends| ends.iter().all(is_relayed)).await;
    (0..2).for_each(|n| call.disclose(n));
    talk(&mut call, &nat).await;
    nat.mode.store(BROKEN, Relaxed);
    let (begun, known) = (std::time::Instant::now(), call.ends.each_ref().map(|end| end.log.len()));
    talks_on(&mut call, "talking through the relay").await;
    println!("second of voice after {:?}", begun.elapsed());
    // They had left their addresses at the relay when the direct path was stable, and ask for others. Each end's checks come
    // through the other one's relay and show its real address, so on one host the two may find another direct path at once.
    for (end, known) in call.ends.iter().zip(known) {
        let by_relay = |event: &MediaEvent| {
            if let MediaEvent::Candidates(lines) = event {
                return lines.iter().any(|line| line.contains(" typ relay "));
            }
            matches!(event, MediaEvent::PathChanged(Path::Relayed { .. }))
        };
        assert!(end.log[known..].iter().any(by_relay), "{:?}", &end.log[known..]);
    }
    call.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_tells_new_candidates_is_reached_at_those() {
    let nat = Nat::new();
    let mut call = Call::new(on_loopback(Role::Caller), on_loopback(Role::Callee));
    call.candidates = false;
    talk(&mut call, &nat).await;
    nat.mode.store(BROKEN, Relaxed);
    let again = Nat::new();
    again.learn(&call);
    for n in 0..2 {
        call.ends[n].leg.replace_remote_candidates(vec![again.line(n)]);
    }
    talks_on(&mut call, "talking at the new place").await;
    call.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nothing_else_brings_across_comes_by_the_courier() {
    let server = server().await;
    let [a, b] = both_at(&server, RelayTransport::Udp);
    let party =
        |n| Party { call: CallId::from_bytes([7; 16]), terminal: TerminalKey::from_seed([n; 32]).public() };
    let config = |role, relay, other| MediaConfig {
        relays: vec![relay],
        party: Some(party(other)),
        ..on_loopback(role)
    };
    let mut call = Call::new(config(Role::Caller, a, 2), config(Role::Callee, b, 1));
    // There is no path at all between the two.
    call.candidates = false;
    call.ends[0].leg.pass(vec![1; 1_000]);
    call.ends[1].leg.pass(vec![2; 1_000]);
    let has = |end: &End, n| {
        end.log.iter().any(|event| matches!(event, MediaEvent::Passed(packet) if *packet == [n; 1_000]))
    };
    call.run("packets by the courier", |[a, b]| has(a, 2) && has(b, 1)).await;
    call.close().await;
}
