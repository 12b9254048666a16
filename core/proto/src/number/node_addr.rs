//! Addresses of nodes in text form.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use minicbor::decode::{self, Decoder};
use minicbor::encode::{self, Encoder, Write};
use minicbor::{Decode, Encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

use crate::identity::TerminalId;

/// Most bytes of a node's address.
pub const MAX_NODE_ADDR_BYTES: usize = 256;

/// Protocols of multiaddrs that are followed by a value (<https://github.com/multiformats/multiaddr/blob/master/protocols.csv>).
/// Without the list a value could pass for a protocol, as the name in `/dns/p2p-circuit/tcp/1`.
const WITH_VALUE: [&str; 25] = [
    "ip4",
    "ip6",
    "ip6zone",
    "ipcidr",
    "dns",
    "dns4",
    "dns6",
    "dnsaddr",
    "tcp",
    "udp",
    "dccp",
    "sctp",
    "p2p",
    "ipfs",
    "unix",
    "onion",
    "onion3",
    "garlic64",
    "garlic32",
    "certhash",
    "sni",
    "memory",
    "http-path",
    "x-parity-ws",
    "x-parity-wss",
];

/// A libp2p multiaddr as text, `/ip4/192.0.2.1/udp/4001/quic-v1/p2p/12D3KooW…`.
///
/// The syntax is checked only so far that nothing else can hide in it: a multiaddr library has the last word
/// where it is dialled. `Debug` shows the protocols and leaves the values out; `Display` and serde show all.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeAddr(String);

/// Why a text is not a node's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NodeAddrError {
    /// Longer than [`MAX_NODE_ADDR_BYTES`].
    #[error("That address is too long.")]
    TooLong,
    /// Doesn't begin with a slash and a protocol that can begin an address.
    #[error("An address looks like /ip4/192.0.2.1/udp/4001/quic-v1/p2p/12D3KooW….")]
    Syntax,
    /// An IP address or a port that cannot be read.
    #[error("That address contains an IP address or port that is none.")]
    Value,
}

impl NodeAddr {
    /// Only who the node is, `/p2p/12D3KooW…`: an address for those who are connected with it.
    #[must_use]
    pub fn of_peer(id: &TerminalId) -> Self {
        Self(format!("/p2p/{}", id.to_peer_id()))
    }

    /// Whether it says nothing but who the node is.
    #[must_use]
    pub fn is_peer_only(&self) -> bool {
        self.protocols().next().is_some_and(|(protocol, _)| protocol == "p2p")
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The IP address with which it begins, if it does.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self.protocols().next()? {
            ("ip4", Some(ip)) => ip.parse().ok().map(IpAddr::V4),
            ("ip6", Some(ip)) => ip.parse().ok().map(IpAddr::V6),
            (_, _) => None,
        }
    }

    /// The last peer id in it: the node that is meant, behind a relay if there is one.
    #[must_use]
    pub fn peer_id(&self) -> Option<&str> {
        self.protocols().filter(|(protocol, _)| *protocol == "p2p").last().and_then(|(_, id)| id)
    }

    /// Whether it leads through a relay, so that it doesn't tell where the node itself is.
    #[must_use]
    pub fn is_relayed(&self) -> bool {
        self.protocols().any(|(protocol, _)| protocol == "p2p-circuit")
    }

    /// The node through which it leads: what comes before `/p2p-circuit`, if that ends in `/p2p/ID`.
    #[must_use]
    pub fn relay(&self) -> Option<Self> {
        let mut relay = String::new();
        let mut last = "";
        for (protocol, value) in self.protocols() {
            if protocol == "p2p-circuit" {
                return (last == "p2p").then_some(Self(relay));
            }
            last = protocol;
            for part in [Some(protocol), value].into_iter().flatten() {
                relay.extend(["/", part]);
            }
        }
        None
    }

    /// Each protocol with its value, if it is of those that have one.
    fn protocols(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let mut parts = self.0.split('/').skip(1);
        std::iter::from_fn(move || {
            let protocol = parts.next()?;
            Some((protocol, if WITH_VALUE.contains(&protocol) { parts.next() } else { None }))
        })
    }
}

impl FromStr for NodeAddr {
    type Err = NodeAddrError;

    fn from_str(text: &str) -> Result<Self, NodeAddrError> {
        let text = text.trim();
        if text.len() > MAX_NODE_ADDR_BYTES {
            return Err(NodeAddrError::TooLong);
        }
        let Some(parts) = text.strip_prefix('/') else { return Err(NodeAddrError::Syntax) };
        if parts.split('/').any(|part| part.is_empty() || !part.bytes().all(|b| b.is_ascii_graphic())) {
            return Err(NodeAddrError::Syntax);
        }
        let addr = Self(text.to_owned());
        let mut protocols = addr.protocols();
        let (first, value) = protocols.next().ok_or(NodeAddrError::Syntax)?;
        check_host(first, value.ok_or(NodeAddrError::Syntax)?)?;
        for (protocol, value) in protocols {
            if matches!(protocol, "tcp" | "udp") {
                let port = value.ok_or(NodeAddrError::Syntax)?;
                port.parse::<u16>().map_err(|_| NodeAddrError::Value)?;
            }
        }
        Ok(addr)
    }
}

/// Checks what an address begins with.
fn check_host(protocol: &str, value: &str) -> Result<(), NodeAddrError> {
    match protocol {
        "ip4" => value.parse::<Ipv4Addr>().map(|_| ()).map_err(|_| NodeAddrError::Value),
        "ip6" => value.parse::<Ipv6Addr>().map(|_| ()).map_err(|_| NodeAddrError::Value),
        "dns" | "dns4" | "dns6" | "dnsaddr" | "p2p" | "memory" => Ok(()),
        _ => Err(NodeAddrError::Syntax),
    }
}

impl fmt::Display for NodeAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: [&str; 16] = [
            "ip4",
            "ip6",
            "dns",
            "dns4",
            "dns6",
            "dnsaddr",
            "memory",
            "tcp",
            "udp",
            "quic",
            "quic-v1",
            "ws",
            "wss",
            "tls",
            "p2p",
            "p2p-circuit",
        ];
        f.write_str("NodeAddr(")?;
        for (protocol, value) in self.protocols() {
            write!(f, "/{}", if SHOWN.contains(&protocol) { protocol } else { "…" })?;
            f.write_str(if value.is_some() { "/…" } else { "" })?;
        }
        f.write_str(")")
    }
}

impl Serialize for NodeAddr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for NodeAddr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl<C> Encode<C> for NodeAddr {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.str(&self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for NodeAddr {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        d.str()?.parse().map_err(|_| decode::Error::message("not a node address"))
    }
}
