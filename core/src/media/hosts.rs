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
        None => usable(&interfaces()),
    };
    let loopback = takes_loopback(config, &ips);
    let extra: &[IpAddr] = match config.bind {
        None if loopback => &[IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)],
        None | Some(_) => &[],
    };
    let mut hosts = Vec::new();
    for ip in ips.iter().chain(extra) {
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

/// What an address is good for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    V4,
    V6,
    /// Where a network has no others.
    LastResort,
    /// It leads nowhere; or nowhere without its interface, as IPv6's link-local ones.
    Nothing,
}

fn use_of(ip: IpAddr) -> Use {
    match ip {
        IpAddr::V4(ip) if ip.is_loopback() || ip.is_unspecified() => Use::Nothing,
        IpAddr::V4(ip) if ip.is_link_local() => Use::LastResort,
        IpAddr::V4(_) => Use::V4,
        IpAddr::V6(ip) if ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local() => {
            Use::Nothing
        }
        IpAddr::V6(_) => Use::V6,
    }
}

/// Those that lead out, at most [`MAX_HOSTS`], of both families in turn (RFC 8421).
fn usable(ips: &[IpAddr]) -> Vec<IpAddr> {
    let pick = |wanted| ips.iter().copied().filter(move |ip| use_of(*ip) == wanted);
    let (v4, v6): (Vec<_>, Vec<_>) = (pick(Use::V4).collect(), pick(Use::V6).collect());
    if v4.is_empty() && v6.is_empty() {
        return pick(Use::LastResort).take(MAX_HOSTS).collect();
    }
    let in_turn = (0..v4.len().max(v6.len())).flat_map(|n| [v4.get(n), v6.get(n)]);
    in_turn.flatten().copied().take(MAX_HOSTS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usable_of(ips: &[&str]) -> Vec<String> {
        let ips: Vec<IpAddr> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        usable(&ips).iter().map(IpAddr::to_string).collect()
    }

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
        assert_eq!(usable_of(&ips), ["10.1.2.3", "2001:db8::1"]);
        assert_eq!(
            usable_of(&["127.0.0.1", "169.254.1.1", "fe80::1"]),
            ["169.254.1.1"],
            "better than nothing"
        );
    }

    #[test]
    fn a_machine_with_many_addresses_of_one_family_tells_the_other_too() {
        let mut ips: Vec<String> = (0..20).map(|n| format!("172.{n}.0.1")).collect();
        ips.push("2001:db8::1".into());
        let ips: Vec<&str> = ips.iter().map(String::as_str).collect();
        let told = usable_of(&ips);
        assert_eq!((told.len(), told[0].as_str(), told[1].as_str()), (MAX_HOSTS, "172.0.0.1", "2001:db8::1"));
    }
}
