//! The lab itself is measured before anything is measured with it.
#![allow(clippy::unwrap_used, clippy::panic)]

mod changes;
mod links;
mod nats;

use std::io::Read;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use offhook_tests::lab::{Behaviour, Host, Impairment, Lab, Nat, NatClass, classify};

fn two_hosts(name: &str, access: &Impairment) -> (Lab, Host, Host) {
    let lab = Lab::new(name).unwrap();
    let a = lab.host("a", access.clone()).unwrap();
    let b = lab.host("b", access.clone()).unwrap();
    (lab, a, b)
}

fn sockets(a: &Host, b: &Host) -> (UdpSocket, UdpSocket) {
    let (left, right) = (a.udp(0).unwrap(), b.udp(0).unwrap());
    for socket in [&left, &right] {
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    }
    (left, right)
}

/// The median of round trips of single packets.
fn round_trip(a: &Host, b: &Host) -> Duration {
    let (left, right) = sockets(a, b);
    let mut buffer = [0; 64];
    let mut times: Vec<Duration> = (0..15)
        .map(|_| {
            let start = Instant::now();
            left.send_to(b"ping", right.local_addr().unwrap()).unwrap();
            let (_, from) = right.recv_from(&mut buffer).unwrap();
            right.send_to(b"pong", from).unwrap();
            left.recv_from(&mut buffer).unwrap();
            start.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

#[test]
fn programs_run_on_their_host_only() {
    let (_lab, a, _b) = two_hosts("spawn", &Impairment::default());
    let mut command = Command::new("ip");
    command.args(["-4", "-o", "addr"]).stdout(Stdio::piped());
    let mut child = a.spawn(&mut command).unwrap();
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(text.contains(&a.address().to_string()), "{text}");
    assert_eq!(text.lines().count(), 2, "loopback and the access link: {text}");
}

#[test]
fn a_lab_cleans_up_behind_itself_and_behind_the_killed() {
    let lab = Lab::new("clean").unwrap();
    let host = lab.host("a", Impairment::default()).unwrap();
    let name = host.namespace().to_owned();
    let mut sleeper = host.spawn(Command::new("sleep").arg("600")).unwrap();
    drop((lab, host));
    assert!(!std::path::Path::new("/run/netns").join(&name).exists());
    assert!(!sleeper.wait().unwrap().success(), "what still runs on a host ends with it");

    // A lab of a killed process: its namespace is there, its lock can be had.
    let folder = std::path::Path::new("/run/offhook-lab");
    let dead = format!("ohdead{:x}", std::process::id());
    std::fs::write(folder.join(&dead), "").unwrap();
    assert!(Command::new("ip").args(["netns", "add", &format!("{dead}.x")]).status().unwrap().success());
    let _lab = Lab::new("next").unwrap();
    assert!(!std::path::Path::new("/run/netns").join(format!("{dead}.x")).exists());
    assert!(!folder.join(&dead).exists());
}

fn class_of(nat: Nat) -> NatClass {
    let lab = Lab::new("nat").unwrap();
    let access = Impairment::delay_ms(2);
    let (first, second) = (lab.host("d1", access.clone()).unwrap(), lab.host("d2", access.clone()).unwrap());
    let router = lab.router("nat", nat, access).unwrap();
    classify(&router.host("h").unwrap(), &first, &second).unwrap()
}

fn open(mapping: Behaviour, filtering: Behaviour) -> NatClass {
    NatClass::Open { mapping, filtering, port_kept: true }
}

/// A word and its answer; the address from which the word came, if it did.
fn exchange(from: &UdpSocket, to: &UdpSocket) -> Option<SocketAddr> {
    let mut buffer = [0; 64];
    from.send_to(b"hello", to.local_addr().unwrap()).ok()?;
    let (_, seen) = to.recv_from(&mut buffer).ok()?;
    to.send_to(b"hello", seen).unwrap();
    from.recv_from(&mut buffer).unwrap();
    Some(seen)
}

/// Root in a user namespace can do to the lab all that root can, and nothing to the machine.
#[test]
fn a_lab_needs_no_root_but_a_user_namespace() {
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("rootless.sh");
    let mut command = Command::new(script);
    command.arg(std::env::current_exe().unwrap()).args([
        "--exact",
        "nats::cones_are_what_they_are_called",
        "changes::a_host_goes_from_cable_to_wifi_to_mobile_with_other_families",
    ]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("2 passed"), "{said}{complained}");
}
