//! Single steps that tasks ask of the driver.

use std::time::Instant;

use libp2p::{Multiaddr, PeerId};
use offhook_proto::identity::{DirectoryId, IdentityId, SignedCert, TerminalId};
use offhook_proto::mailbox::protocol::{Notice, Request as MailRequest};
use offhook_proto::number::RecordKey;
use offhook_proto::record::CheckedSet;
use offhook_proto::wire::UnixMillis;
use tokio::sync::{mpsc, oneshot};

use super::client::RequestError;
use super::codec::{Request, Response};
use super::mailbox::MailAnswer;
use super::store::Refused;

/// A step. Every reply channel may be dropped: then nobody is interested any more.
pub(super) enum Command {
    /// Send a request, connecting first if that takes no more than trying `addrs`.
    Request {
        to: PeerId,
        addrs: Vec<Multiaddr>,
        request: Box<Request>,
        reply: oneshot::Sender<Result<Response, RequestError>>,
    },
    /// Ask a directory about a mailbox, connecting first if that takes no more than trying `addrs`.
    Mail { to: PeerId, addrs: Vec<Multiaddr>, request: Box<MailRequest>, reply: MailAnswer },
    /// Tell a terminal that has entered its mailbox here of what has come.
    MailNotice { to: TerminalId, notice: Notice },
    /// Terminals that an account revokes, as far as its records are held here.
    Revoked { identity: IdentityId, reply: oneshot::Sender<Vec<TerminalId>> },
    /// Keep the connection to a peer for some minutes, because answers will come through it.
    Linger(PeerId),
    /// Ask the DHT for records. The query ends when the receiver is dropped, and half a second after `until`.
    Get { key: RecordKey, answers: mpsc::Sender<DhtAnswer>, until: Instant },
    /// Find the nodes closest to a key.
    Closest { key: RecordKey, reply: oneshot::Sender<Vec<Holder>> },
    /// Put a record set to nodes, without waiting for their answers.
    Put { key: RecordKey, value: Vec<u8>, to: Vec<PeerId> },
    /// What is held here.
    Local { key: RecordKey, reply: oneshot::Sender<Option<(CheckedSet, UnixMillis)>> },
    /// The same in its encoding, a descriptor as well.
    LocalValue { key: RecordKey, reply: oneshot::Sender<Option<Vec<u8>>> },
    /// Hold one of this node's own record sets, or its descriptor.
    Own { key: RecordKey, value: Vec<u8>, reply: oneshot::Sender<Result<(), Refused>> },
    /// Whom to ask beside the DHT.
    Neighbours(oneshot::Sender<Neighbours>),
    /// Keep connections to these directories, instead of the ones named before.
    Keep(Vec<Multiaddr>),
    /// Enter the network through these nodes if there is no other way.
    Enter(Vec<Multiaddr>),
    /// Be at home with these nodes of a directory as with the configured entry points.
    Homes(DirectoryId, Vec<Multiaddr>),
    /// Register with this certificate from now on.
    Certificate(Box<SignedCert>),
    /// Close everything.
    Shutdown(oneshot::Sender<()>),
}

/// A node that a record belongs on.
#[derive(Clone, Debug)]
pub(super) struct Holder {
    pub(super) peer: PeerId,
    pub(super) addrs: Vec<Multiaddr>,
}

/// What a query brings.
pub(super) enum DhtAnswer {
    /// One node's record set, unchecked.
    Record(Vec<u8>),
    /// The query is over.
    End {
        /// Whether enough of the nodes asked have answered to say that there is nothing more.
        complete: bool,
        /// How many nodes answered.
        answered: usize,
    },
}

/// Nodes known without the DHT.
#[derive(Default)]
pub(super) struct Neighbours {
    /// Directories and servers that are this node's entry points, connected.
    pub(super) directories: Vec<Holder>,
    /// Of these, those that may do a terminal's DHT work. None for a serving node, which does its own.
    pub(super) delegates: Vec<Holder>,
    /// Whether this terminal has directories, but none is connected at the moment.
    pub(super) expecting: bool,
    /// Other connected peers that speak the signalling protocol.
    pub(super) connected: Vec<Holder>,
    /// Peers on the local network.
    pub(super) lan: Vec<Holder>,
    /// All connected peers.
    pub(super) peers: Vec<PeerId>,
    /// Whether any node of the DHT is known.
    pub(super) dht: bool,
}

impl Neighbours {
    /// Whether there is a connection to the peer.
    pub(super) fn is_connected(&self, peer: &PeerId) -> bool {
        self.peers.contains(peer)
    }
}
