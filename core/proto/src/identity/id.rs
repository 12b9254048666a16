//! Public keys as identifiers.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, HEXLOWER_PERMISSIVE};
use minicbor::{Decode, Encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// A text is not an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum IdError {
    /// Not 64 hexadecimal digits.
    #[error("a key has 64 hexadecimal digits")]
    Hex,
    /// Not a key fingerprint.
    #[error("a key fingerprint has 26 letters and digits")]
    Fingerprint,
    /// Not the peer id of an Ed25519 key.
    #[error("not a peer id of the kind 12D3KooW…")]
    PeerId,
}

macro_rules! public_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// `Debug` shows the first four bytes only; [`Display`](fmt::Display) and serde use 64 hexadecimal
        /// digits.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        #[cbor(transparent)]
        pub struct $name(#[cbor(n(0), with = "minicbor::bytes")] [u8; 32]);

        impl $name {
            /// Takes any 32 bytes; that they are a usable key shows when a signature or a sealing is tried.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The bytes of the key.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({}…)"), HEXLOWER_PERMISSIVE.encode(&self.0[..4]))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER_PERMISSIVE.encode(&self.0))
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let bytes = HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes()).map_err(|_| IdError::Hex)?;
                Ok(Self(bytes.try_into().map_err(|_| IdError::Hex)?))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

public_id! {
    /// Public identity key of an account (Ed25519). This is who somebody *is*; numbers point to it.
    IdentityId
}
public_id! {
    /// Public key of a terminal (Ed25519), equivalent to its libp2p peer id.
    TerminalId
}
public_id! {
    /// Public key under which a directory issues chosen numbers (Ed25519).
    DirectoryId
}
public_id! {
    /// Public X25519 key of a terminal or mailbox.
    SealPublic
}

impl IdentityId {
    /// The short form of the key for links and for comparing.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let hash: [u8; 32] = Sha256::digest(self.0).into();
        let mut short = [0; 16];
        short.copy_from_slice(&hash[..16]);
        Fingerprint(short)
    }
}

/// What precedes an Ed25519 key in a libp2p peer id: the identity multihash (code 0, 36 bytes) of the
/// protobuf message {1: key type 1 = Ed25519, 2: 32 bytes} (libp2p specification, peer-ids).
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

impl TerminalId {
    /// The libp2p peer id of the key in its usual text form, `12D3KooW…`.
    #[must_use]
    pub fn to_peer_id(&self) -> String {
        let mut bytes = [0; 38];
        bytes[..6].copy_from_slice(&PEER_ID_PREFIX);
        bytes[6..].copy_from_slice(&self.0);
        bs58::encode(bytes).into_string()
    }

    /// The key inside a libp2p peer id in text form.
    ///
    /// # Errors
    /// [`IdError::PeerId`] if it is none, or of another kind of key than Ed25519.
    pub fn from_peer_id(text: &str) -> Result<Self, IdError> {
        let mut bytes = [0; 38];
        let len = bs58::decode(text).onto(&mut bytes).map_err(|_| IdError::PeerId)?;
        Self::from_peer_id_bytes(&bytes[..len])
    }

    /// The key inside a libp2p peer id in binary form.
    ///
    /// # Errors
    /// As [`Self::from_peer_id`].
    pub fn from_peer_id_bytes(bytes: &[u8]) -> Result<Self, IdError> {
        let key = bytes.strip_prefix(&PEER_ID_PREFIX).and_then(|key| key.try_into().ok());
        key.map(Self).ok_or(IdError::PeerId)
    }
}

/// The first 16 bytes of the SHA-256 of an identity key: 26 characters of base32 (RFC 4648 section 6, lower
/// case, no padding). Finding another key with the same fingerprint takes 2^128 tries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Fingerprint(#[cbor(n(0), with = "minicbor::bytes")] [u8; 16]);

impl Fingerprint {
    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({}…)", HEXLOWER_PERMISSIVE.encode(&self.0[..4]))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl FromStr for Fingerprint {
    type Err = IdError;

    /// Takes upper and lower case.
    fn from_str(text: &str) -> Result<Self, IdError> {
        let upper = text.trim().to_ascii_uppercase();
        let bytes = BASE32_NOPAD.decode(upper.as_bytes()).map_err(|_| IdError::Fingerprint)?;
        Ok(Self(bytes.try_into().map_err(|_| IdError::Fingerprint)?))
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
