//! Which directory a node belongs to: entries and tokens are for directories, and account records name nodes.

use minicbor::{Decode, Encode};

use crate::identity::{DirectoryId, DirectoryKey, TerminalId};
use crate::wire::{self, BadSignature, Signed, WireError, domain};

/// Most bytes of an encoded statement.
pub const MAX_NODE_BYTES: usize = 256;

#[derive(Encode, Decode)]
#[cbor(map)]
struct Node {
    #[n(0)]
    directory: DirectoryId,
    #[n(1)]
    node: TerminalId,
}

/// Says by a directory's signature that a node is one of its own, so that no other gets a token or an entry that is for it. It
/// has no end: a directory whose node's key is lost has a new key for its node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct SignedNode(#[n(0)] Signed);

impl SignedNode {
    /// Signed by the directory whose node has the key `node`.
    #[must_use]
    pub fn sign(key: &DirectoryKey, node: &TerminalId) -> Self {
        let payload = wire::encode(&Node { directory: key.public(), node: *node });
        Self(key.sign(domain::MAILBOX_NODE, &payload))
    }

    pub(super) fn is_sound(&self) -> bool {
        self.0.encoded_len() <= MAX_NODE_BYTES
    }

    /// The directory of the node with the key `node`, with which we are connected.
    ///
    /// # Errors
    /// [`WireError::Malformed`]: it is none of that directory, or of another node.
    pub fn verify(&self, node: &TerminalId) -> Result<DirectoryId, WireError> {
        let said: Node = wire::decode(self.0.payload_unverified(), MAX_NODE_BYTES)?;
        let signed = self.0.verify(said.directory.as_bytes(), domain::MAILBOX_NODE);
        match signed {
            Ok(_) if said.node == *node => Ok(said.directory),
            Ok(_) | Err(BadSignature) => Err(WireError::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_of_the_directory_that_signed_for_it() {
        let key = DirectoryKey::from_seed([1; 32]);
        let (node, other) = (TerminalId::from_bytes([2; 32]), TerminalId::from_bytes([3; 32]));
        let signed = SignedNode::sign(&key, &node);
        assert!(signed.is_sound());
        assert_eq!(signed.verify(&node), Ok(key.public()));
        assert!(signed.verify(&other).is_err(), "shown by another node");
        let forged = Node { directory: key.public(), node: other };
        let forger = DirectoryKey::from_seed([9; 32]);
        let forged = SignedNode(forger.sign(domain::MAILBOX_NODE, &wire::encode(&forged)));
        assert!(forged.verify(&other).is_err(), "signed by somebody else");
    }
}
