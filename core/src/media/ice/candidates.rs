//! Candidates: which of the other end are of use, how ours are told, and which of them come first.

use std::net::{IpAddr, SocketAddr};

use is::{Candidate, CandidateKind, default_local_preference};

/// Where a check may be sent to: one host, with a port, and loopback only if we use it ourselves. IPv6's
/// link-local addresses mean nothing without their interface, and IPv4's are written as such only.
pub(super) fn is_usable(address: SocketAddr, allow_loopback: bool) -> bool {
    let single = match address.ip() {
        IpAddr::V4(ip) => !ip.is_broadcast() && !ip.is_multicast() && !ip.is_unspecified(),
        IpAddr::V6(ip) => {
            !ip.is_multicast()
                && !ip.is_unspecified()
                && !ip.is_unicast_link_local()
                && ip.to_ipv4_mapped().is_none()
        }
    };
    single && address.port() != 0 && (allow_loopback || !address.ip().is_loopback())
}

/// A candidate as the other end is told; at a relay with an address and port that mean nothing (RFC 8839 section 5.1).
pub(super) fn line(candidate: &Candidate) -> String {
    candidate.to_sdp_string().replacen(" rport 0", " rport 9", 1)
}

/// As the agent does by itself, except among relays: there the address that [`add_relayed`](super::Ice::add_relayed) gives tells the rank.
pub(super) fn local_preference(candidate: &Candidate, same_kind: usize) -> u32 {
    match candidate.kind() {
        CandidateKind::Relayed => {
            let best = default_local_preference(candidate, 0);
            best.saturating_sub(u32::from(candidate.local().port()) * 2)
        }
        CandidateKind::Host | CandidateKind::PeerReflexive | CandidateKind::ServerReflexive => {
            default_local_preference(candidate, same_kind)
        }
    }
}
