//! What changes while programs run.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use offhook_tests::lab::{Access, Host, Impairment, Lab, Nat, NatClass, Ports, Router, classify};

use crate::{class_of, exchange, sockets};

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
    assert_eq!(mapped.ip(), router.public());
    outside.send_to(b"hello", mapped).unwrap();
    inside.recv_from(&mut buffer).unwrap();
    router.set_nat(Nat::PortRestricted).unwrap();
    outside.send_to(b"still there?", mapped).unwrap();
    inside.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(inside.recv_from(&mut buffer).is_err());
}

/// A host behind a NAT, and what it and a public one have to do with each other.
struct Talk {
    lab: Lab,
    router: Router,
    host: Host,
    server: Host,
    inside: UdpSocket,
    outside: UdpSocket,
}

impl Talk {
    fn start(name: &str, nat: Nat) -> Self {
        let lab = Lab::new(name).unwrap();
        let server = lab.host("s", Access::dual(Impairment::default())).unwrap();
        let router = lab.router("home", nat, Access::dual(Impairment::default())).unwrap();
        let host = router.host("h").unwrap();
        let (inside, outside) = sockets(&host, &server);
        for socket in [&inside, &outside] {
            socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        }
        Self { lab, router, host, server, inside, outside }
    }

    /// From where the server sees what the host says; the answer comes back there.
    fn seen(&self) -> SocketAddr {
        exchange(&self.inside, &self.outside).expect("the server is reached")
    }

    /// Whether what the server sends there arrives.
    fn hears(&self, mapped: SocketAddr) -> bool {
        self.outside.send_to(b"still there?", mapped).unwrap();
        self.inside.recv_from(&mut [0; 64]).is_ok()
    }
}

#[test]
fn a_nat_forgets_its_mappings_and_gives_the_same_ports_or_others() {
    for nat in [Nat::FullCone, Nat::AddressRestricted, Nat::PortRestricted] {
        let talk = Talk::start("forget", nat);
        let first = talk.seen();
        talk.router.forget(Ports::Same).unwrap();
        assert!(!talk.hears(first), "{nat:?}");
        assert_eq!(talk.seen(), first, "{nat:?}");
        let mut ports = vec![first.port()];
        for _ in 0..3 {
            talk.router.forget(Ports::New).unwrap();
            assert!(!talk.hears(first), "{nat:?}");
            let next = talk.seen();
            assert_eq!(next.ip(), first.ip());
            assert!(talk.hears(next), "{nat:?}");
            assert!(!ports.contains(&next.port()), "{nat:?}: {next} after {ports:?}");
            ports.push(next.port());
        }
        // It is the same kind of NAT as before, only that it keeps no ports.
        let other = talk.lab.host("o", Impairment::default()).unwrap();
        let NatClass::Open { mapping, filtering, port_kept: true } = class_of(nat) else { panic!("{nat:?}") };
        let class = classify(&talk.host, &talk.server, &other).unwrap();
        assert_eq!(class, NatClass::Open { mapping, filtering, port_kept: false }, "{nat:?}");
    }
}

#[test]
fn a_host_gets_another_address_of_its_lan() {
    let talk = Talk::start("lanaddr", Nat::PortRestricted);
    let (before, mapped) = (talk.host.addresses(), talk.seen());
    talk.host.readdress().unwrap();
    let after = talk.host.addresses();
    assert!(before.v4 != after.v4 && before.v6 != after.v6, "{before:?} {after:?}");
    assert_eq!(talk.host.public_addresses().v4, talk.router.public_addresses().v4);
    assert!(!talk.hears(mapped), "nobody has the old address");
    assert!(talk.inside.send_to(b"from nowhere", talk.outside.local_addr().unwrap()).is_err());
    let inside = talk.host.udp(0).unwrap();
    assert_eq!(exchange(&inside, &talk.outside).unwrap().ip(), talk.router.public());
    let (six, server) = (talk.host.udp6(0).unwrap(), talk.server.udp6(0).unwrap());
    assert_eq!(exchange(&six, &server), six.local_addr().ok());
}

#[test]
fn a_public_host_gets_another_address() {
    let talk = Talk::start("pubaddr", Nat::PortRestricted);
    let (old_outside, before) = (talk.outside.local_addr().unwrap(), talk.server.addresses());
    talk.seen();
    talk.server.readdress().unwrap();
    let after = talk.server.public_addresses();
    assert!(before.v4 != after.v4 && before.v6 != after.v6);
    let unroutable = talk.lab.unroutable();
    talk.inside.send_to(b"anybody?", old_outside).unwrap();
    let end = Instant::now() + Duration::from_secs(2);
    while talk.lab.unroutable() == unroutable {
        assert!(Instant::now() < end, "the old address is still somebody's");
        std::thread::yield_now();
    }
    assert!(exchange(&talk.inside, &talk.server.udp(0).unwrap()).is_some());
    assert!(exchange(&talk.host.udp6(0).unwrap(), &talk.server.udp6(0).unwrap()).is_some());
}

#[test]
fn a_router_gets_another_public_address_and_its_lan_another_prefix() {
    let talk = Talk::start("wanaddr", Nat::PortRestricted);
    let (mapped, before) = (talk.seen(), talk.host.public_addresses());
    let inner = talk.host.address();
    talk.router.readdress().unwrap();
    let after = talk.host.public_addresses();
    assert!(before.v4 != after.v4 && before.v6 != after.v6, "{before:?} {after:?}");
    assert_eq!(talk.host.address(), inner, "inside, IPv4 stays as it was");
    assert!(!talk.hears(mapped));
    let moved = talk.seen();
    assert_eq!((Some(moved.ip()), moved.port()), (after.v4.map(Into::into), mapped.port()));
    let (six, server) = (talk.host.udp6(0).unwrap(), talk.server.udp6(0).unwrap());
    assert_eq!(exchange(&six, &server).map(|seen| seen.ip()), after.v6.map(Into::into));
    // Hosts that come later are of the new network, too.
    let late = talk.router.host("late").unwrap();
    assert!(exchange(&late.udp6(0).unwrap(), &server).is_some());
}

#[test]
fn a_home_behind_a_carrier_is_moved_by_its_carrier() {
    let lab = Lab::new("cgmove").unwrap();
    let server = lab.host("s", Impairment::default()).unwrap();
    let carrier = lab.carrier("cg", Nat::PortRestricted, Impairment::default()).unwrap();
    let home = carrier.router("home", Nat::PortRestricted).unwrap();
    let host = home.host("h").unwrap();
    let (inside, outside) = sockets(&host, &server);
    let first = exchange(&inside, &outside).unwrap();
    home.readdress().unwrap();
    assert_eq!(exchange(&inside, &outside).unwrap().ip(), first.ip(), "the carrier's address stays");
    carrier.readdress().unwrap();
    let moved = exchange(&inside, &outside).unwrap();
    assert_ne!(moved.ip(), first.ip());
    assert_eq!(moved.ip(), host.public());
}

#[test]
fn a_host_goes_from_cable_to_wifi_to_mobile_with_other_families() {
    let talk = Talk::start("roam", Nat::PortRestricted);
    let link = Impairment::default();
    let wifi = talk.lab.router("wifi", Nat::Symmetric, link.clone()).unwrap();
    let mobile = talk.lab.router("mobile", Nat::PortRestricted, Access::v6(link)).unwrap();
    let cable = talk.seen();
    talk.host.join(&wifi, "wlan0").unwrap();
    talk.host.join(&mobile, "wwan0").unwrap();
    let six = talk.server.udp6(0).unwrap();
    // The kernel chooses, as it does for programs.
    let leaves_from = || {
        let socket = talk.host.run(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        exchange(&socket, &talk.outside).map(|seen| seen.ip())
    };
    let leaves_from_v6 = || {
        let socket = talk.host.run(|| UdpSocket::bind("[::]:0")).unwrap().unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        exchange(&socket, &six).map(|seen| seen.ip())
    };
    assert_eq!(leaves_from(), Some(cable.ip()), "a new device changes nothing by itself");
    let on_cable = talk.host.addresses();
    talk.host.prefer("wlan0").unwrap();
    assert_eq!(leaves_from(), Some(wifi.public()));
    assert_eq!(talk.host.public(), wifi.public());
    assert_eq!(leaves_from_v6(), on_cable.v6.map(Into::into), "there is no other IPv6 yet");
    talk.host.disconnect("eth0").unwrap();
    talk.host.disconnect("wlan0").unwrap();
    assert_eq!(leaves_from(), None, "the mobile network has IPv6 only");
    assert_eq!(leaves_from_v6(), talk.host.addresses().v6.map(Into::into));
    assert_eq!(talk.host.link().counters(), mobile.link().counters());
    talk.host.connect("eth0").unwrap();
    talk.host.prefer("eth0").unwrap();
    assert_eq!(talk.host.addresses(), on_cable);
    assert_eq!(leaves_from(), Some(cable.ip()));
    assert!(matches!(talk.host.prefer("usb0"), Err(offhook_tests::lab::LabError::NoDevice(_))));
}
