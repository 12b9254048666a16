//! What the fuzzer reaches of this module. Each function does with its input what a node does with it, and asserts what
//! must hold of the outcome.
#![allow(clippy::panic, reason = "a panic is what the fuzzer reports")]

use std::net::{Ipv4Addr, SocketAddr};

use offhook_proto::number::NodeAddr;
use stun_types::attribute::XorMappedAddress;
use stun_types::message::{Message, MessageClass};

use super::{addr, stun};

/// Bytes by which an answer may be longer than the shortest request (RFC 8489 sections 5 and 14.2, over IPv4).
const STUN_GAIN: usize = 12;
/// The shortest request: a header without attributes.
const STUN_HEADER: usize = 20;

/// A datagram at the STUN server.
pub fn stun_request(datagram: &[u8]) {
    let from = SocketAddr::from((Ipv4Addr::new(203, 0, 113, 9), 4_242));
    let Some(bytes) = stun::answer(datagram, from) else { return };
    assert!(bytes.len() <= STUN_HEADER + STUN_GAIN, "an answer amplifies nothing");
    let (request, answer) = (Message::from_bytes(datagram), Message::from_bytes(&bytes));
    let (Ok(request), Ok(answer)) = (request, answer) else { panic!("an answer to what is no request") };
    assert!(answer.has_class(MessageClass::Success));
    assert_eq!(answer.transaction_id(), request.transaction_id());
    let mapped = answer.attribute::<XorMappedAddress>().map(|mapped| mapped.addr(answer.transaction_id()));
    assert_eq!(mapped.ok(), Some(from));
}

/// The text of an address, from a record or a message.
pub fn address(text: &str) {
    let Ok(address) = text.parse::<NodeAddr>() else { return };
    let Ok(parsed) = addr::parse(&address) else { return };
    if let Some(text) = addr::text(&parsed) {
        assert_eq!(addr::parse(&text), Ok(parsed.clone()));
    }
    assert_eq!(address.is_relayed(), addr::is_relayed(&parsed));
    if let Some((relay, way)) = addr::relay_of(&parsed) {
        assert!(addr::is_relayed(&parsed) && !addr::is_relayed(&way));
        assert_eq!(addr::last_peer(&way), Some(relay));
        assert_eq!(addr::is_public(&way), addr::is_public(&parsed), "a relayed address is its relay's");
    }
    let without = addr::without_peer(parsed.clone());
    assert!(addr::last_peer(&parsed).is_none() || without.len() < parsed.len());
    for strangers in addr::usable(vec![parsed.clone()], false) {
        assert!(addr::is_public(&strangers) && !addr::is_loopback(&strangers));
    }
    if let Some(terminal) = addr::last_peer(&parsed).and_then(|peer| addr::terminal_of(&peer)) {
        let peer = addr::peer_of(&terminal);
        assert!(peer.is_none_or(|peer| addr::terminal_of(&peer) == Some(terminal)));
    }
}
