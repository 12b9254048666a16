//! The addresses of this machine at which the media socket can be reached.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::socket::MediaSocket;
use super::types::MediaConfig;

/// Addresses told at most; a machine with many containers has dozens, of which one or two lead anywhere.
const MAX_HOSTS: usize = 8;

/// Our addresses, and whether loopback takes part: if it is asked for, or if there is nothing else. A directory can't
/// ask for it by naming a STUN server there.
pub(super) fn host_addresses(config: &MediaConfig, socket: &MediaSocket) -> (Vec<SocketAddr>, bool) {
    let ips = match config.bind {
        Some(ip) => vec![ip],
        None => usable(interfaces()),
    };
    let loopback = takes_loopback(config, &ips);
    let extra: &[IpAddr] = match config.bind {
        None if loopback => &[IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)],
        None | Some(_) => &[],
    };
    let mut hosts = Vec::new();
    for ip in ips.iter().take(MAX_HOSTS).chain(extra) {
        let port = socket.bound().find(|bound| bound.is_ipv4() == ip.is_ipv4()).map(|bound| bound.port());
        hosts.extend(port.map(|port| SocketAddr::new(*ip, port)));
    }
    (hosts, loopback)
}

fn takes_loopback(config: &MediaConfig, ips: &[IpAddr]) -> bool {
    config.allow_loopback || ips.iter().all(IpAddr::is_loopback)
}

fn interfaces() -> Vec<IpAddr> {
    if_addrs::get_if_addrs().into_iter().flatten().map(|interface| interface.ip()).collect()
}

/// Without loopback, and without link-local addresses, which mean nothing without their interface.
fn usable(ips: Vec<IpAddr>) -> Vec<IpAddr> {
    let leads_out = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local() && !ip.is_unspecified(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local() && !ip.is_unspecified(),
    };
    ips.into_iter().filter(leads_out).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_takes_part_where_it_is_asked_for_or_where_there_is_nothing_else() {
        let mut config = MediaConfig::new(super::super::types::Role::Caller);
        config.stun_servers = vec!["127.0.0.1:3478".parse().unwrap()];
        let lan = ["10.1.2.3".parse().unwrap()];
        assert!(!takes_loopback(&config, &lan), "whatever STUN servers a directory names");
        assert!(takes_loopback(&config, &[]));
        config.allow_loopback = true;
        assert!(takes_loopback(&config, &lan));
    }

    #[test]
    fn only_addresses_that_lead_out_are_usable() {
        let ips = ["127.0.0.1", "169.254.1.1", "10.1.2.3", "::1", "fe80::1", "2001:db8::1", "0.0.0.0"];
        let left = usable(ips.iter().map(|ip| ip.parse().unwrap()).collect());
        assert_eq!(left, ["10.1.2.3".parse::<IpAddr>().unwrap(), "2001:db8::1".parse().unwrap()]);
    }
}
