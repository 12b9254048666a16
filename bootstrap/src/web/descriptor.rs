//! What the directory says of itself, signed: who it is and where it is reached.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use offhook_proto::descriptor::{DESCRIPTOR_LIFETIME, Descriptor, MAX_NODES, MAX_SERVERS, SignedDescriptor};
use offhook_proto::identity::DirectoryId;
use offhook_proto::number::NodeAddr;
use offhook_proto::wire::UnixMillis;

use super::App;
use super::error::ApiError;

/// What a descriptor is.
const CBOR: &str = "application/cbor";

/// Where a directory is reached, as far as it knows by now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Addresses of its node.
    pub nodes: Vec<NodeAddr>,
    /// UDP port on which it answers STUN.
    pub stun: Option<u16>,
    /// UDP port of its media relay.
    pub turn: Option<u16>,
    /// TCP port on which it relays media, too, with TLS.
    pub front: Option<u16>,
    /// Whether its nodes keep mailboxes.
    pub mailbox: bool,
}

impl Reach {
    /// The hosts of its addresses, each once: `/ip4/192.0.2.1`.
    fn hosts(&self) -> BTreeSet<String> {
        let host = |addr: &NodeAddr| {
            let mut parts = addr.as_str().split('/').skip(1);
            Some(format!("/{}/{}", parts.next()?, parts.next()?))
        };
        self.nodes.iter().filter(|addr| !addr.is_relayed()).filter_map(host).collect()
    }

    /// Addresses of a service on a port of all hosts.
    fn servers(&self, ports: &[(Option<u16>, &str, &str)]) -> Vec<NodeAddr> {
        let hosts = self.hosts();
        let ports = ports.iter().filter_map(|(port, kind, end)| port.map(|port| (port, *kind, *end)));
        let addresses = ports
            .flat_map(|(port, kind, end)| hosts.iter().map(move |host| format!("{host}/{kind}/{port}{end}")));
        addresses.filter_map(|addr| addr.parse().ok()).take(MAX_SERVERS).collect()
    }
}

/// What there is to say of a directory of that name that is reached like this.
pub(crate) fn describe(
    name: String,
    web: Option<String>,
    directory: DirectoryId,
    reach: Reach,
    now: UnixMillis,
) -> Descriptor {
    Descriptor {
        name,
        directory,
        stun: reach.servers(&[(reach.stun, "udp", "")]),
        turn: reach.servers(&[(reach.turn, "udp", ""), (reach.turn.and(reach.front), "tcp", "/tls")]),
        nodes: reach.nodes.into_iter().take(MAX_NODES).collect(),
        web,
        mailbox: reach.mailbox,
        issued: now,
        expires: now.plus(DESCRIPTOR_LIFETIME),
    }
}

/// The descriptor of this moment. Without a name there is none.
pub(super) async fn descriptor(State(app): State<App>) -> Result<Response, ApiError> {
    let now = app.now();
    app.in_pace()?;
    let config = &app.0.config;
    let name = config.name.clone().ok_or(ApiError::NotFound)?;
    let reach = config.reach.borrow().clone();
    let descriptor = describe(name, config.url.clone(), *app.0.issuer.directory(), reach, now);
    let signed = app.0.issuer.describe(&descriptor).map_err(|error| {
        tracing::error!(%error, "the directory's descriptor cannot be signed");
        ApiError::NotFound
    })?;
    Ok(([(header::CONTENT_TYPE, CBOR)], SignedDescriptor::to_bytes(&signed)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_at_the_hosts_of_the_node() {
        let nodes = ["/ip4/192.0.2.1/udp/1/quic-v1", "/ip4/192.0.2.1/tcp/1", "/dns/example.org/tcp/443/ws"];
        let nodes = nodes.map(|addr| addr.parse().expect("an address")).to_vec();
        let reach = Reach { nodes, stun: Some(3478), turn: None, front: Some(443), mailbox: false };
        let text = |addrs: Vec<NodeAddr>| addrs.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            text(reach.servers(&[(reach.stun, "udp", "")])),
            ["/dns/example.org/udp/3478", "/ip4/192.0.2.1/udp/3478"]
        );
        assert_eq!(text(reach.servers(&[(reach.turn, "udp", "")])), Vec::<String>::new());
    }
}
