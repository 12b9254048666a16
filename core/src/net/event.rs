//! What the network tells its owner unasked.

use offhook_proto::identity::TerminalId;
use offhook_proto::mailbox::protocol::Notice;
use offhook_proto::number::NodeAddr;

/// An event from the network. The channel is bounded: packets that find it full are answered with "busy", and anything
/// else is lost. What must not be missed is in the [status](super::Net::watch).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetEvent {
    /// A signalling packet arrived. It is neither opened nor verified.
    Signal {
        /// Whom the node that passed it on has it from: its sender, or a directory. Who signed it is in the sealed
        /// packet itself.
        from: TerminalId,
        /// The connected node it came through; `from` itself when it came straight.
        via: TerminalId,
        /// The sealed packet, at most [`MAX_BLOB_BYTES`](offhook_proto::signalling::MAX_BLOB_BYTES) bytes.
        blob: Vec<u8>,
    },
    /// A node says that something has come into a mailbox. Only a directory that keeps one of this terminal's account is of interest.
    Mail {
        /// The node's key, proven.
        from: TerminalId,
        /// What it says.
        notice: Notice,
    },
    /// An entry point is connected, and registered there if this is a terminal.
    EntryUp {
        /// As configured, or as remembered.
        addr: NodeAddr,
        /// Its key.
        node: TerminalId,
    },
    /// The connection to an entry point is lost, and is being tried again; or one that stood in for another is not needed
    /// any more.
    EntryDown {
        /// As configured, or as remembered.
        addr: NodeAddr,
    },
    /// A listener is up.
    Listening {
        /// The address, without `/p2p`.
        addr: NodeAddr,
    },
}
