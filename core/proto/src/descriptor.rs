//! Descriptors: what a directory says of itself.
//!
//! Under `https://NAME/.well-known/offhook` lies who NAME is (a key) and where it is reached, signed by that key. Whoever has read it once
//! remembers the key, and from then on needs neither DNS nor a certificate authority to be right: the same descriptor lies in the DHT
//! under the [hash of the key](Descriptor::key), and serves while the web site is down.

use std::time::Duration;

use minicbor::{Decode, Encode};
use thiserror::Error;

use crate::identity::{DirectoryId, DirectoryKey};
use crate::number::{ChosenNumber, NodeAddr, RecordKey};
use crate::wire::{self, BadSignature, MAX_CLOCK_AHEAD, Signed, UnixMillis, WireError, domain};

/// Most bytes of an encoded descriptor.
pub const MAX_DESCRIPTOR_BYTES: usize = 4 * 1024;
/// How long a directory's own descriptor is valid: as long as it may be off line before callers forget where it was.
pub const DESCRIPTOR_LIFETIME: Duration = Duration::from_secs(90 * 86_400);
/// Longest validity of a descriptor: that of an account record.
pub const DESCRIPTOR_MAX_LIFETIME: Duration = Duration::from_secs(400 * 86_400);
/// Most addresses of nodes. A directory may be several processes, each with a few addresses.
pub const MAX_NODES: usize = 16;
/// Most addresses of STUN, and most of TURN.
pub const MAX_SERVERS: usize = 8;
/// Most bytes of the web site's address.
pub const MAX_WEB_BYTES: usize = 256;

/// What a directory says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub struct Descriptor {
    /// Its DNS name in lower case, which stands behind the `@` of its numbers.
    #[n(0)]
    pub name: String,
    /// Its key. Signs, and issues the numbers.
    #[n(1)]
    pub directory: DirectoryId,
    /// Where its nodes are reached, at most [`MAX_NODES`].
    #[n(2)]
    pub nodes: Vec<NodeAddr>,
    /// Where it answers STUN, `/dns/NAME/udp/3478`, at most [`MAX_SERVERS`].
    #[n(3)]
    pub stun: Vec<NodeAddr>,
    /// Where it relays media for its terminals, `/dns/NAME/udp/3478`, `/dns/NAME/tcp/443/tls`, at most [`MAX_SERVERS`].
    #[n(4)]
    pub turn: Vec<NodeAddr>,
    /// Its web site, `https://NAME`, without a slash at the end; none: people are signed up elsewhere.
    #[n(5)]
    pub web: Option<String>,
    /// Whether it keeps messages for people who are away.
    #[n(6)]
    pub mailbox: bool,
    /// Time of signing. Of two descriptors the later one counts.
    #[n(7)]
    pub issued: UnixMillis,
    /// Last moment of validity, at most [`DESCRIPTOR_MAX_LIFETIME`] after `issued`.
    #[n(8)]
    pub expires: UnixMillis,
}

/// Why a descriptor is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DescriptorError {
    /// Longer than [`MAX_DESCRIPTOR_BYTES`].
    #[error("descriptor of {0} bytes")]
    TooLarge(usize),
    /// It cannot be decoded.
    #[error("malformed descriptor")]
    Malformed,
    /// Not a DNS name in its normal form, or not the one that was asked for.
    #[error("descriptor of another name")]
    Name,
    /// More addresses than permitted.
    #[error("descriptor with too many addresses")]
    TooManyEntries,
    /// The web site's address is none.
    #[error("descriptor with a bad web address")]
    Web,
    /// Of another directory than the one that is remembered for the name.
    #[error("descriptor of another directory")]
    OtherDirectory,
    /// Not signed by the key that it names.
    #[error("descriptor with a bad signature")]
    BadSignature,
    /// The validity ends before it begins or is longer than permitted.
    #[error("descriptor with a lifetime that is not permitted")]
    Lifetime,
    /// Its time lies ahead of ours by more than clocks may differ.
    #[error("descriptor is not valid yet")]
    NotYetValid,
    /// Its time is over.
    #[error("descriptor has expired")]
    Expired,
}

impl Descriptor {
    /// Where the descriptor of a directory lies in the DHT.
    #[must_use]
    pub fn key(directory: &DirectoryId) -> RecordKey {
        RecordKey(wire::hash(domain::DESCRIPTOR_KEY, &[directory.as_bytes()]))
    }

    /// Whether it counts in the place of `other`, which is of the same directory: the later one does.
    #[must_use]
    pub fn is_newer_than(&self, other: &Self) -> bool {
        self.directory == other.directory && self.issued > other.issued
    }

    /// Whether it is valid at `now`: neither over, nor from the future.
    #[must_use]
    pub fn is_live(&self, now: UnixMillis) -> bool {
        now <= self.expires && self.issued <= now.plus(MAX_CLOCK_AHEAD)
    }

    /// Whether it is time for the directory to sign a new one: a tenth of its validity is over.
    #[must_use]
    pub fn renewal_due(&self, now: UnixMillis) -> bool {
        now.since(self.issued) >= self.expires.since(self.issued) / 10
    }

    fn check(&self) -> Result<(), DescriptorError> {
        if !is_dns_name(&self.name) {
            return Err(DescriptorError::Name);
        }
        if self.nodes.len() > MAX_NODES || self.stun.len() > MAX_SERVERS || self.turn.len() > MAX_SERVERS {
            return Err(DescriptorError::TooManyEntries);
        }
        if !self.web.as_deref().is_none_or(is_web_address) {
            return Err(DescriptorError::Web);
        }
        if self.expires <= self.issued || self.expires.since(self.issued) > DESCRIPTOR_MAX_LIFETIME {
            return Err(DescriptorError::Lifetime);
        }
        Ok(())
    }
}

/// Whether it is a DNS name as it stands behind the `@` of a number.
fn is_dns_name(name: &str) -> bool {
    ChosenNumber::new("a", Some(name)).is_ok_and(|number| number.directory() == Some(name))
}

/// Whether it is the address of a web site's root, with nothing in it that could end or quote it where it is shown. Without TLS only
/// laboratories have one.
fn is_web_address(web: &str) -> bool {
    let authority = web.strip_prefix("https://").or_else(|| web.strip_prefix("http://"));
    web.len() <= MAX_WEB_BYTES
        && authority.is_some_and(|rest| {
            let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']');
            !rest.is_empty() && rest.bytes().all(is_plain)
        })
}

/// A [`Descriptor`] under the directory's signature.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct SignedDescriptor(#[n(0)] Signed);

impl SignedDescriptor {
    /// Signs a descriptor that keeps the limits. `key` is the one whose public half it names.
    ///
    /// # Errors
    /// A [`DescriptorError`] if nobody would take it.
    pub fn sign(key: &DirectoryKey, descriptor: &Descriptor) -> Result<Self, DescriptorError> {
        descriptor.check()?;
        if descriptor.directory != key.public() {
            return Err(DescriptorError::OtherDirectory);
        }
        let signed = Self(key.sign(domain::DESCRIPTOR, &wire::encode(descriptor)));
        match signed.0.encoded_len() {
            len if len > MAX_DESCRIPTOR_BYTES => Err(DescriptorError::TooLarge(len)),
            _ => Ok(signed),
        }
    }

    /// The encoding that [`SignedDescriptor::from_bytes`] takes, and that is served.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        wire::encode(self)
    }

    /// Decodes without checking anything but the length.
    ///
    /// # Errors
    /// [`DescriptorError::TooLarge`] or [`DescriptorError::Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DescriptorError> {
        wire::decode(bytes, MAX_DESCRIPTOR_BYTES).map_err(|error| match error {
            WireError::TooLarge { len, .. } => DescriptorError::TooLarge(len),
            WireError::Malformed | WireError::Trailing(_) => DescriptorError::Malformed,
        })
    }

    /// Checks everything that a descriptor says of itself. Anybody can make one that passes, with a key of his own: whom to believe
    /// is decided by where it came from ([`SignedDescriptor::verify_named`]) or by the key remembered
    /// ([`SignedDescriptor::verify_pinned`]).
    ///
    /// # Errors
    /// A [`DescriptorError`]; the untimely ones come last.
    pub fn verify(&self, now: UnixMillis) -> Result<Descriptor, DescriptorError> {
        let len = self.0.encoded_len();
        if len > MAX_DESCRIPTOR_BYTES {
            return Err(DescriptorError::TooLarge(len));
        }
        let descriptor: Descriptor = wire::decode(self.0.payload_unverified(), MAX_DESCRIPTOR_BYTES)
            .map_err(|_| DescriptorError::Malformed)?;
        descriptor.check()?;
        self.0
            .verify(descriptor.directory.as_bytes(), domain::DESCRIPTOR)
            .map_err(|BadSignature| DescriptorError::BadSignature)?;
        if descriptor.issued > now.plus(MAX_CLOCK_AHEAD) {
            return Err(DescriptorError::NotYetValid);
        }
        if now > descriptor.expires {
            return Err(DescriptorError::Expired);
        }
        Ok(descriptor)
    }

    /// The same for one that lies in the DHT, as every node does that stores it: nobody but the directory can put anything under the
    /// [hash of its key](Descriptor::key).
    ///
    /// # Errors
    /// A [`DescriptorError`]; [`DescriptorError::OtherDirectory`] if its place is elsewhere.
    pub fn verify_stored(&self, key: &RecordKey, now: UnixMillis) -> Result<Descriptor, DescriptorError> {
        let descriptor = self.verify(now)?;
        if Descriptor::key(&descriptor.directory) != *key {
            return Err(DescriptorError::OtherDirectory);
        }
        Ok(descriptor)
    }

    /// The same for one that this node had verified before it stored it, when its clock may have been wrong, as it may be now:
    /// everything but the times.
    ///
    /// # Errors
    /// A [`DescriptorError`].
    pub fn verify_kept(&self, key: &RecordKey) -> Result<Descriptor, DescriptorError> {
        let peek: Descriptor = wire::decode(self.0.payload_unverified(), MAX_DESCRIPTOR_BYTES)
            .map_err(|_| DescriptorError::Malformed)?;
        self.verify_stored(key, peek.issued)
    }

    /// The same for one that came from the web site of `name` for the first time.
    ///
    /// # Errors
    /// A [`DescriptorError`]; [`DescriptorError::Name`] if it is of another name.
    pub fn verify_named(&self, name: &str, now: UnixMillis) -> Result<Descriptor, DescriptorError> {
        let descriptor = self.verify(now)?;
        if descriptor.name != name {
            return Err(DescriptorError::Name);
        }
        Ok(descriptor)
    }

    /// The same for `name` where its key is remembered, wherever the descriptor came from.
    ///
    /// # Errors
    /// A [`DescriptorError`]; [`DescriptorError::OtherDirectory`] if the key has changed.
    pub fn verify_pinned(
        &self,
        name: &str,
        directory: &DirectoryId,
        now: UnixMillis,
    ) -> Result<Descriptor, DescriptorError> {
        let descriptor = self.verify_named(name, now)?;
        if descriptor.directory != *directory {
            return Err(DescriptorError::OtherDirectory);
        }
        Ok(descriptor)
    }
}

#[cfg(test)]
mod tests;
