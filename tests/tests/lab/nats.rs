//! Every kind of network is what it is called.

use std::net::UdpSocket;

use offhook_tests::lab::Behaviour::{AddressAndPortDependent, AddressDependent, EndpointIndependent};
use offhook_tests::lab::{
    Access, Impairment, Lab, Nat, NatClass, Network, classify, classify_v6, hairpins, multicast_reaches,
    tcp_reaches,
};

use crate::{class_of, open};

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
fn where_udp_is_blocked_tcp_passes_and_behind_the_strictest_router_only_to_port_443() {
    let lab = Lab::new("blocked").unwrap();
    let access = Impairment::delay_ms(2);
    let (first, second) = (lab.host("d1", access.clone()).unwrap(), lab.host("d2", access.clone()).unwrap());
    for (nat, other_ports) in [(Nat::UdpBlocked, true), (Nat::OnlyTcp443, false)] {
        let router = lab.router(&format!("{nat:?}"), nat, access.clone()).unwrap();
        let host = router.host(&format!("h{nat:?}")).unwrap();
        assert_eq!(classify(&host, &first, &second).unwrap(), NatClass::Blocked, "{nat:?}");
        assert!(tcp_reaches(&host, &first, 443).unwrap(), "{nat:?}");
        assert_eq!(tcp_reaches(&host, &first, 4001).unwrap(), other_ports, "{nat:?}");
    }
}

/// What a home NAT of one kind does behind a carrier's of another.
fn class_behind_carrier(carrier: Nat, home: Nat) -> NatClass {
    let lab = Lab::new("cgnat").unwrap();
    let access = Impairment::delay_ms(2);
    let (first, second) = (lab.host("d1", access.clone()).unwrap(), lab.host("d2", access.clone()).unwrap());
    let carrier = lab.carrier("cg", carrier, access).unwrap();
    let home = carrier.router("home", home).unwrap();
    let host = home.host("h").unwrap();
    assert_eq!((host.public(), home.public()), (carrier.public(), carrier.public()));
    let std::net::IpAddr::V4(wan) = host.address() else { panic!("IPv4") };
    assert!(wan.is_private());
    classify(&host, &first, &second).unwrap()
}

#[test]
fn two_nats_in_a_row_behave_like_the_stricter_one() {
    let strict = AddressAndPortDependent;
    assert_eq!(
        class_behind_carrier(Nat::FullCone, Nat::FullCone),
        open(EndpointIndependent, EndpointIndependent)
    );
    assert_eq!(class_behind_carrier(Nat::PortRestricted, Nat::FullCone), open(EndpointIndependent, strict));
    let NatClass::Open { mapping, filtering, .. } = class_behind_carrier(Nat::Symmetric, Nat::PortRestricted)
    else {
        panic!("UDP passes")
    };
    assert_eq!((mapping, filtering), (strict, strict));
}

#[test]
fn an_ipv6_only_network_has_no_ipv4_and_a_stateful_firewall() {
    let lab = Lab::new("six").unwrap();
    let link = Impairment::delay_ms(2);
    let public = |name| lab.host(name, Access::dual(link.clone())).unwrap();
    let (first, second) = (public("d1"), public("d2"));
    let router = lab.router("home", Nat::PortRestricted, Access::v6(link.clone())).unwrap();
    let host = router.host("h").unwrap();
    assert_eq!(host.addresses().v4, None);
    assert_eq!(host.public_addresses(), host.addresses(), "nothing is translated");
    assert_eq!(classify(&host, &first, &second).unwrap(), open(EndpointIndependent, AddressAndPortDependent));
    assert!(tcp_reaches(&host, &first, 4001).unwrap());
    let ipv4 = host.run(|| UdpSocket::bind("0.0.0.0:0")?.connect((first.address(), 1))).unwrap();
    assert_eq!(ipv4.unwrap_err().kind(), std::io::ErrorKind::NetworkUnreachable);
    // Without a router in front, nothing is filtered.
    let bare = lab.host("bare", Access::v6(link)).unwrap();
    assert_eq!(classify(&bare, &first, &second).unwrap(), open(EndpointIndependent, EndpointIndependent));
}

#[test]
fn a_dual_stack_home_translates_ipv4_and_only_filters_ipv6() {
    let lab = Lab::new("dual").unwrap();
    let link = Impairment::delay_ms(2);
    let public = |name| lab.host(name, Access::dual(link.clone())).unwrap();
    let (first, second) = (public("d1"), public("d2"));
    let router = lab.router("home", Nat::Symmetric, Access::dual(link.clone())).unwrap();
    let host = router.host("h").unwrap();
    assert_eq!(host.public_addresses().v4, router.public_addresses().v4);
    assert_eq!(host.public_addresses().v6, host.addresses().v6);
    let NatClass::Open { mapping, .. } = classify(&host, &first, &second).unwrap() else {
        panic!("UDP passes")
    };
    assert_eq!(mapping, AddressAndPortDependent);
    assert_eq!(
        classify_v6(&host, &first, &second).unwrap(),
        open(EndpointIndependent, AddressAndPortDependent)
    );
    let (left, right) = (host.udp6(0).unwrap(), first.udp6(0).unwrap());
    let counted = router.link().counters();
    left.send_to(b"12345", right.local_addr().unwrap()).unwrap();
    right.recv_from(&mut [0; 8]).unwrap();
    assert_eq!(router.link().counters().since(&counted).up.bytes, 40 + 8 + 5, "IPv6, UDP, payload");
    // What blocks UDP blocks that of IPv6, too.
    router.set_nat(Nat::UdpBlocked).unwrap();
    assert_eq!(classify_v6(&host, &first, &second).unwrap(), NatClass::Blocked);
    router.set_nat(Nat::OnlyTcp443).unwrap();
    let only_v6 = lab.router("v6", Nat::OnlyTcp443, Access::v6(link)).unwrap().host("h6").unwrap();
    for host in [&host, &only_v6] {
        assert!(tcp_reaches(host, &first, 443).unwrap() && !tcp_reaches(host, &first, 4001).unwrap());
    }
}

#[test]
fn hosts_behind_one_nat_reach_each_other_outside_only_with_hairpin() {
    let lab = Lab::new("hairpin").unwrap();
    let link = Impairment::delay_ms(2);
    let server = lab.host("s", link.clone()).unwrap();
    let strict = AddressAndPortDependent;
    let of = |nat: Nat, filtering| {
        let router = lab.router(&format!("r{nat:?}"), nat, link.clone()).unwrap();
        let (a, b) = (router.host(&format!("a{nat:?}")).unwrap(), router.host(&format!("b{nat:?}")).unwrap());
        assert!(!hairpins(&a, &b, &server).unwrap(), "{nat:?}");
        router.set_hairpin(true).unwrap();
        assert!(hairpins(&a, &b, &server).unwrap(), "{nat:?}");
        let other = lab.host(&format!("s{nat:?}"), link.clone()).unwrap();
        let class = classify(&a, &server, &other).unwrap();
        assert_eq!(class, open(EndpointIndependent, filtering), "{nat:?}: the same for everybody else");
        router.set_hairpin(false).unwrap();
        assert!(!hairpins(&a, &b, &server).unwrap(), "{nat:?}");
    };
    std::thread::scope(|scope| {
        scope.spawn(|| of(Nat::FullCone, EndpointIndependent));
        scope.spawn(|| of(Nat::AddressRestricted, AddressDependent));
        scope.spawn(|| of(Nat::PortRestricted, strict));
    });
    // Two homes of one carrier: its hairpin is all that leads from one to the other.
    let carrier = lab.carrier("cg", Nat::PortRestricted, link).unwrap();
    let home =
        |name: &str| carrier.router(name, Nat::PortRestricted).unwrap().host(&format!("h{name}")).unwrap();
    let (a, b) = (home("one"), home("two"));
    assert!(!hairpins(&a, &b, &server).unwrap());
    carrier.set_hairpin(true).unwrap();
    assert!(hairpins(&a, &b, &server).unwrap());
}

#[test]
fn a_lan_without_internet_carries_multicast() {
    let lab = Lab::new("island").unwrap();
    let outside = lab.host("o", Impairment::default()).unwrap();
    let router = lab.router("home", Nat::PortRestricted, Impairment::cut()).unwrap();
    let (a, b) = (router.host("a").unwrap(), router.host("b").unwrap());
    assert!(multicast_reaches(&a, &b).unwrap() && multicast_reaches(&b, &a).unwrap());
    assert!(!multicast_reaches(&a, &outside).unwrap());
    assert!(!tcp_reaches(&a, &outside, 443).unwrap());
    assert!(tcp_reaches(&a, &b, 443).unwrap());
}

/// The matrix of all networks rests on this.
#[test]
fn every_network_is_of_its_class() {
    let lab = Lab::new("networks").unwrap();
    let link = Impairment::delay_ms(2);
    let public = |name| lab.host(name, Access::dual(link.clone())).unwrap();
    let (first, second) = (public("d1"), public("d2"));
    let check = |network: Network| {
        let host = network.host(&lab, network.name(), link.clone()).unwrap();
        let (v4, v6) = (host.addresses().v4.is_some(), host.addresses().v6.is_some());
        assert_eq!((v4, v6), (network.families().has_v4(), network.families().has_v6()), "{network:?}");
        let class = classify(&host, &first, &second).unwrap();
        match (network.class(), class) {
            // Probes for filtering are early packets.
            (NatClass::Open { filtering: wanted, .. }, NatClass::Open { filtering, .. })
                if network == Network::Rejecting =>
            {
                assert_eq!(filtering, wanted);
            }
            (
                NatClass::Open { mapping: AddressAndPortDependent, filtering: wanted, .. },
                NatClass::Open { mapping, filtering, .. },
            ) => assert_eq!((mapping, filtering), (AddressAndPortDependent, wanted), "{network:?}"),
            (wanted, class) => assert_eq!(class, wanted, "{network:?}"),
        }
        if v6 {
            let filtered = open(EndpointIndependent, AddressAndPortDependent);
            assert_eq!(classify_v6(&host, &first, &second).unwrap(), filtered, "{network:?}");
        }
    };
    std::thread::scope(|scope| {
        for network in Network::ALL {
            scope.spawn(move || check(network));
        }
    });
}
