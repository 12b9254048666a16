//! The lab itself is measured before anything is measured with it.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::Read;
use std::net::{SocketAddrV4, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use offhook_tests::lab::{Behaviour, Host, Impairment, Lab, Nat, NatClass, classify};

use Behaviour::{AddressAndPortDependent, AddressDependent, EndpointIndependent};

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
fn delays_add_up_and_can_change_while_running() {
    let (_lab, a, b) = two_hosts("delay", &Impairment::delay_ms(10));
    let near = round_trip(&a, &b);
    a.link().set(&Impairment::delay_ms(40));
    let far = round_trip(&a, &b);
    // 2 x (10 + 10) ms, then 2 x (40 + 10) ms: judged by their ratio, so that a busy machine may add a little.
    let ratio = far.as_secs_f64() / near.as_secs_f64();
    assert!(near >= Duration::from_millis(40), "{near:?}");
    assert!((2.2..=2.6).contains(&ratio), "{near:?} and {far:?}");
}

#[test]
fn losses_hit_the_share_asked_for_and_are_counted() {
    let (_lab, a, b) = two_hosts("loss", &Impairment::default());
    let (left, right) = sockets(&a, &b);
    a.link().set_up(&Impairment::default().with_loss(0.3));
    let before = a.link().counters();
    let mut buffer = [0; 64];
    let mut received = 0;
    for _ in 0..20 {
        for _ in 0..50 {
            left.send_to(b"x", right.local_addr().unwrap()).unwrap();
        }
        right.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        while right.recv_from(&mut buffer).is_ok() {
            received += 1;
        }
    }
    let link = a.link().counters().since(&before);
    assert_eq!(link.up.packets, 1_000);
    assert_eq!(link.up.bytes, 29_000, "20 bytes of IP, 8 of UDP, 1 of payload each");
    assert_eq!(received, 1_000 - link.up.lost);
    assert!((220..380).contains(&link.up.lost), "{link:?}");
    assert_eq!(b.lab().flow_bytes(a.public(), b.public()), received * 29);
}

#[test]
fn a_cut_link_passes_nothing_until_it_is_mended() {
    let (_lab, a, b) = two_hosts("cut", &Impairment::default());
    let (left, right) = sockets(&a, &b);
    let mut buffer = [0; 64];
    b.link().set(&Impairment::cut());
    left.send_to(b"lost", right.local_addr().unwrap()).unwrap();
    right.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(right.recv_from(&mut buffer).is_err());
    b.link().set(&Impairment::default());
    left.send_to(b"heard", right.local_addr().unwrap()).unwrap();
    assert_eq!(right.recv_from(&mut buffer).unwrap().0, 5);
}

#[test]
fn forged_senders_can_be_injected_and_addresses_of_nobody_are_counted() {
    let (lab, a, b) = two_hosts("forge", &Impairment::default());
    let (_, right) = sockets(&a, &b);
    let std::net::SocketAddr::V4(to) = right.local_addr().unwrap() else { panic!("the lab speaks IPv4") };
    let forged = SocketAddrV4::new([11, 9, 9, 9].into(), 4242);
    lab.inject_udp(forged, to, b"trust me");
    let mut buffer = [0; 64];
    let (len, from) = right.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..len], from), (&b"trust me"[..], forged.into()));
    right.send_to(b"who are you", forged).unwrap();
    let end = Instant::now() + Duration::from_secs(2);
    while lab.unroutable() == 0 {
        assert!(Instant::now() < end, "the answer to nobody was not counted");
        std::thread::yield_now();
    }
}

#[test]
fn who_sits_on_the_way_hears_one_direction_of_a_flow() {
    let (lab, a, b) = two_hosts("overhear", &Impairment::default());
    let (left, right) = sockets(&a, &b);
    left.send_to(b"too early", right.local_addr().unwrap()).unwrap();
    let mut buffer = [0; 64];
    right.recv_from(&mut buffer).unwrap();
    lab.overhear(a.public(), b.public());
    for word in [&b"one"[..], b"two"] {
        left.send_to(word, right.local_addr().unwrap()).unwrap();
        let (_, from) = right.recv_from(&mut buffer).unwrap();
        right.send_to(b"yes", from).unwrap();
        left.recv_from(&mut buffer).unwrap();
    }
    assert_eq!(lab.overheard(a.public(), b.public()), [b"two", b"one"]);
    assert!(lab.overheard(b.public(), a.public()).is_empty());
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
fn hosts_of_one_lan_reach_each_other_past_the_internet() {
    let lab = Lab::new("lan").unwrap();
    let router = lab.router("home", Nat::PortRestricted, Impairment::delay_ms(20)).unwrap();
    let (a, b) = (router.host("a").unwrap(), router.host("b").unwrap());
    let before = router.link().counters();
    assert!(round_trip(&a, &b) < Duration::from_millis(20));
    assert_eq!(router.link().counters(), before);
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

#[test]
fn public_hosts_and_firewalls_map_nothing() {
    assert_eq!(class_of(Nat::None), open(EndpointIndependent, EndpointIndependent));
    assert_eq!(class_of(Nat::Firewall), open(EndpointIndependent, AddressAndPortDependent));
}

#[test]
fn cones_are_what_they_are_called() {
    assert_eq!(class_of(Nat::FullCone), open(EndpointIndependent, EndpointIndependent));
    assert_eq!(class_of(Nat::AddressRestricted), open(EndpointIndependent, AddressDependent));
    assert_eq!(class_of(Nat::PortRestricted), open(EndpointIndependent, AddressAndPortDependent));
}

#[test]
fn a_symmetric_nat_shows_another_port_to_everybody() {
    let NatClass::Open { mapping, filtering, .. } = class_of(Nat::Symmetric) else { panic!("UDP passes") };
    assert_eq!((mapping, filtering), (AddressAndPortDependent, AddressAndPortDependent));
}

#[test]
fn a_router_that_rejects_changes_the_port_for_early_senders() {
    // Here the probes for filtering are early packets; those ports are then seen from elsewhere.
    let NatClass::Open { mapping, filtering, .. } = class_of(Nat::PortRestrictedReject) else {
        panic!("UDP passes")
    };
    assert_eq!(filtering, AddressAndPortDependent);
    assert_ne!(mapping, EndpointIndependent);
}

#[test]
fn blocked_udp_is_blocked() {
    assert_eq!(class_of(Nat::UdpBlocked), NatClass::Blocked);
    assert_eq!(class_of(Nat::OnlyTcp443), NatClass::Blocked);
}

#[test]
fn two_nats_in_a_row_filter_like_the_stricter_one() {
    let lab = Lab::new("cgnat").unwrap();
    let access = Impairment::delay_ms(2);
    let (first, second) = (lab.host("d1", access.clone()).unwrap(), lab.host("d2", access.clone()).unwrap());
    let carrier = lab.carrier("cg", Nat::PortRestricted, access).unwrap();
    let host = carrier.router("home", Nat::FullCone).unwrap().host("h").unwrap();
    assert_eq!(host.public(), carrier.public());
    assert_eq!(classify(&host, &first, &second).unwrap(), open(EndpointIndependent, AddressAndPortDependent));
}

#[test]
fn a_router_that_starts_again_forgets_its_connections() {
    let lab = Lab::new("reboot").unwrap();
    let server = lab.host("s", Impairment::default()).unwrap();
    let router = lab.router("home", Nat::PortRestricted, Impairment::default()).unwrap();
    let host = router.host("h").unwrap();
    let (inside, outside) = sockets(&host, &server);
    let mut buffer = [0; 64];
    inside.send_to(b"hello", outside.local_addr().unwrap()).unwrap();
    let (_, mapped) = outside.recv_from(&mut buffer).unwrap();
    assert_eq!(mapped.ip(), std::net::IpAddr::V4(router.public()));
    outside.send_to(b"hello", mapped).unwrap();
    inside.recv_from(&mut buffer).unwrap();
    router.set_nat(Nat::PortRestricted).unwrap();
    outside.send_to(b"still there?", mapped).unwrap();
    inside.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(inside.recv_from(&mut buffer).is_err());
}
