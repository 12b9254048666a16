//! Tests of pauses and of the STUN servers that are told.

use super::*;

#[test]
fn pauses_double_up_to_a_minute() {
    let now = Instant::now();
    let addr: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
    let mut link = Link::new(addr::text(&addr).unwrap(), addr, Kind::Entry, now);
    let mut pauses = Vec::new();
    for _ in 0..12 {
        link.back_off(BACKOFF_MAX, now);
        let State::Idle { until } = link.state else { panic!("not idle") };
        pauses.push(until - now);
    }
    assert!(pauses[0] >= BACKOFF_MIN / 2 && pauses[0] <= BACKOFF_MIN);
    assert!(pauses[3] >= BACKOFF_MIN * 4 && pauses[3] <= BACKOFF_MIN * 8);
    assert!(pauses.iter().all(|pause| *pause <= BACKOFF_MAX));
    assert!(pauses[11] >= BACKOFF_MAX / 2);
}

#[test]
fn stun_servers_come_from_port_and_list_once() {
    let named = ["8.8.8.8:3478".to_owned(), "nonsense".to_owned(), "8.8.4.4:3478".to_owned()];
    let servers = stun_servers(&named, Some(3478), Some("8.8.8.8".parse().unwrap()), false);
    assert_eq!(servers, ["8.8.8.8:3478".parse().unwrap(), "8.8.4.4:3478".parse().unwrap()]);
    assert_eq!(stun_servers(&[], None, None, false), []);
}

#[test]
fn a_directory_names_no_stun_servers_inside_its_terminals_networks() {
    let named = ["127.0.0.1:53", "10.0.0.1:3478", "[::1]:1", "[fe80::1]:1"].map(str::to_owned);
    let own = "192.168.1.2".parse().unwrap();
    assert_eq!(stun_servers(&named, Some(3478), Some(own), false), ["192.168.1.2:3478".parse().unwrap()]);
    assert_eq!(stun_servers(&named, None, None, true).len(), 4);
}
