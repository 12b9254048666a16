//! What links do to packets.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use offhook_tests::lab::{Impairment, Lab, Nat};

use crate::{exchange, round_trip, sockets, two_hosts};

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
fn hosts_of_one_lan_reach_each_other_past_the_internet() {
    let lab = Lab::new("lan").unwrap();
    let router = lab.router("home", Nat::PortRestricted, Impairment::delay_ms(20)).unwrap();
    let (a, b) = (router.host("a").unwrap(), router.host("b").unwrap());
    let before = router.link().counters();
    assert!(round_trip(&a, &b) < Duration::from_millis(20));
    assert_eq!(router.link().counters(), before);
}

#[test]
fn an_outage_ends_when_it_is_dropped_and_leaves_the_link_as_it_was() {
    let (_lab, a, b) = two_hosts("outage", &Impairment::delay_ms(10));
    let (left, right) = sockets(&a, &b);
    right.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    left.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(exchange(&left, &right).is_some());
    let (first, second) = (b.link().cut(), b.link().cut());
    for (from, to) in [(&left, &right), (&right, &left)] {
        from.send_to(b"lost", to.local_addr().unwrap()).unwrap();
        assert!(to.recv_from(&mut [0; 8]).is_err());
    }
    drop(first);
    assert!(exchange(&left, &right).is_none(), "the other outage goes on");
    drop(second);
    assert!(exchange(&left, &right).is_some());
    assert!(round_trip(&a, &b) >= Duration::from_millis(40));
}
