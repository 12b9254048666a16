//! What a client asks of the TURN server (RFC 8656), read from a message; and the answers that say no. Pure.

use std::net::SocketAddr;

use stun_types::attribute::{
    AttributeType, ErrorCode, Fingerprint, MessageIntegrity, MessageIntegritySha256, Nonce,
    PasswordAlgorithm, PasswordAlgorithms, Realm, Software, UnknownAttributes, Userhash, Username,
};
use stun_types::message::{
    IntegrityAlgorithm, IntegrityKey, Message, MessageClass, MessageType, MessageWrite, MessageWriteVec,
    TransactionId,
};
use stun_types::prelude::{
    Attribute, AttributeFromRaw, AttributeStaticType, AttributeWrite, MessageWriteExt,
};
use turn_types::AddressFamily;
use turn_types::attribute::{
    AdditionalAddressFamily, ChannelNumber, DontFragment, EvenPort, Lifetime, RequestedAddressFamily,
    RequestedTransport, ReservationToken, XorPeerAddress,
};
use turn_types::message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, REFRESH};

/// Longest life of an allocation without a refresh, in seconds: the recommended one (RFC 8656 section 3.2).
pub(super) const MAX_LIFETIME: u32 = 600;

/// Peers in one request for permissions; more make it malformed.
const MAX_PEERS: usize = 16;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// An allocation (section 7).
    Allocate {
        family: Option<AddressFamily>,
        /// IPv6 beside IPv4.
        additional: bool,
        lifetime: Option<u32>,
    },
    /// To keep it, or with a lifetime of 0 to end it (section 8).
    Refresh { family: Option<AddressFamily>, lifetime: Option<u32> },
    /// Permissions (section 10).
    Permit { peers: Vec<SocketAddr> },
    /// A channel (section 12).
    Bind { channel: u16, peer: SocketAddr },
}

/// Why a request is turned down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum No {
    /// No credentials, or wrong ones; a ticket that is over.
    Unauthorized,
    /// The nonce is not one of this relay, or too old.
    StaleNonce,
    /// Not by the RFC.
    Malformed,
    /// Attributes that must be understood and are not.
    Unknown(Vec<AttributeType>),
    /// There is no allocation, or there is one already.
    Mismatch,
    /// The allocation is somebody else's.
    WrongUser,
    /// TCP towards peers (RFC 6062), or another protocol than UDP.
    Transport,
    /// Addresses of a family that the relay does not have.
    Family,
    /// A peer that the policy forbids.
    Forbidden,
    /// The user's or his network's quota is used up.
    Quota,
    /// The relay is full; an even port or a reserved one, which are not offered.
    Capacity,
}

impl No {
    /// The error code (RFC 8489 section 14.8, RFC 8656 section 19).
    const fn code(&self) -> u16 {
        match self {
            Self::Unauthorized => ErrorCode::UNAUTHORIZED,
            Self::StaleNonce => ErrorCode::STALE_NONCE,
            Self::Malformed => ErrorCode::BAD_REQUEST,
            Self::Unknown(_) => ErrorCode::UNKNOWN_ATTRIBUTE,
            Self::Mismatch => ErrorCode::ALLOCATION_MISMATCH,
            Self::WrongUser => ErrorCode::WRONG_CREDENTIALS,
            Self::Transport => ErrorCode::UNSUPPORTED_TRANSPORT_PROTOCOL,
            Self::Family => ErrorCode::ADDRESS_FAMILY_NOT_SUPPORTED,
            Self::Forbidden => ErrorCode::FORBIDDEN,
            Self::Quota => ErrorCode::ALLOCATION_QUOTA_REACHED,
            Self::Capacity => ErrorCode::INSUFFICIENT_CAPACITY,
        }
    }

    /// The name in the metrics.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::StaleNonce => "stale_nonce",
            Self::Malformed | Self::Unknown(_) => "malformed",
            Self::Mismatch => "mismatch",
            Self::WrongUser => "wrong_user",
            Self::Transport => "transport",
            Self::Family => "family",
            Self::Forbidden => "forbidden_peer",
            Self::Quota => "quota",
            Self::Capacity => "capacity",
        }
    }

    /// The answer, signed if the asker has shown who he is. With a challenge where one is due.
    pub(super) fn answer(
        &self,
        request: &Message<'_>,
        challenge: Option<(&str, &str)>,
        key: Option<&IntegrityKey>,
    ) -> Vec<u8> {
        let mut answer = Message::builder_error(request, MessageWriteVec::new());
        add(&mut answer, &ErrorCode::builder(self.code()).build().expect("a code between 300 and 699"));
        if let Self::Unknown(types) = self {
            add(&mut answer, &UnknownAttributes::new(types));
        }
        if let Some((realm, nonce)) = challenge {
            add(&mut answer, &Realm::new(realm).expect("a short realm"));
            add(&mut answer, &Nonce::new(nonce).expect("a short nonce"));
        }
        seal(answer, key)
    }
}

/// Adds an attribute to a message that is being made.
fn add(message: &mut MessageWriteVec, attribute: &dyn AttributeWrite) {
    message
        .add_attribute(attribute)
        .expect("each attribute once, none after the signature, all of them short");
}

fn seal(mut message: MessageWriteVec, key: Option<&IntegrityKey>) -> Vec<u8> {
    if let Some(key) = key {
        let signed = message.add_message_integrity_with_key(key, IntegrityAlgorithm::Sha1);
        signed.expect("a message that is not signed yet");
    }
    message.finish()
}

impl Ask {
    /// Reads a request.
    ///
    /// # Errors
    /// [`No::Malformed`], [`No::Unknown`], [`No::Transport`], [`No::Capacity`].
    pub(super) fn read(message: &Message<'_>) -> Result<Self, No> {
        let fields = Fields::read(message)?;
        match message.method() {
            ALLOCATE => fields.allocate(),
            REFRESH => Ok(Self::Refresh { family: fields.family, lifetime: fields.lifetime }),
            CREATE_PERMISSION if !fields.peers.is_empty() => Ok(Self::Permit { peers: fields.peers }),
            CHANNEL_BIND => match (fields.channel, &fields.peers[..]) {
                // The range of RFC 8656; the first bytes beyond it are for other protocols (RFC 7983).
                (Some(channel @ 0x4000..=0x4fff), [peer]) => Ok(Self::Bind { channel, peer: *peer }),
                _ => Err(No::Malformed),
            },
            _ => Err(No::Malformed),
        }
    }

    /// The same request as the state machine is to have it: nothing in it that has not been looked at, signed with the user's
    /// key and with the machine's own nonce.
    pub(super) fn write(
        &self,
        id: TransactionId,
        name: &str,
        realm: &str,
        nonce: &str,
        key: &IntegrityKey,
    ) -> Vec<u8> {
        let method = match self {
            Self::Allocate { .. } => ALLOCATE,
            Self::Refresh { .. } => REFRESH,
            Self::Permit { .. } => CREATE_PERMISSION,
            Self::Bind { .. } => CHANNEL_BIND,
        };
        let kind = MessageType::from_class_method(MessageClass::Request, method);
        let mut message = Message::builder(kind, id, MessageWriteVec::new());
        match self {
            Self::Allocate { family, additional, lifetime } => {
                add(&mut message, &RequestedTransport::new(RequestedTransport::UDP));
                if let Some(family) = family {
                    add(&mut message, &RequestedAddressFamily::new(*family));
                }
                if *additional {
                    add(&mut message, &AdditionalAddressFamily::new(AddressFamily::IPV6));
                }
                add(&mut message, &Lifetime::new(capped(*lifetime)));
            }
            Self::Refresh { family, lifetime } => {
                if let Some(family) = family {
                    add(&mut message, &RequestedAddressFamily::new(*family));
                }
                add(&mut message, &Lifetime::new(capped(*lifetime)));
            }
            Self::Permit { peers } => {
                for peer in peers {
                    // The same kind of attribute more than once, which the checked way of adding refuses.
                    message.push_attribute_unchecked(&XorPeerAddress::new(*peer, id));
                }
            }
            Self::Bind { channel, peer } => {
                add(&mut message, &ChannelNumber::new(*channel));
                add(&mut message, &XorPeerAddress::new(*peer, id));
            }
        }
        add(&mut message, &Username::new(name).expect("the name of a ticket is short"));
        add(&mut message, &Realm::new(realm).expect("a short realm"));
        add(&mut message, &Nonce::new(nonce).expect("the machine's own nonce"));
        seal(message, Some(key))
    }
}

fn capped(lifetime: Option<u32>) -> u32 {
    lifetime.unwrap_or(MAX_LIFETIME).min(MAX_LIFETIME)
}

/// The attributes of a request.
#[derive(Default)]
struct Fields {
    transport: Option<u8>,
    family: Option<AddressFamily>,
    additional: Option<AddressFamily>,
    lifetime: Option<u32>,
    channel: Option<u16>,
    peers: Vec<SocketAddr>,
    reservation: bool,
}

impl Fields {
    fn read(message: &Message<'_>) -> Result<Self, No> {
        let (mut fields, mut unknown) = (Self::default(), Vec::new());
        let id = message.transaction_id();
        for (_, raw) in message.iter_attributes() {
            match raw.get_type() {
                RequestedTransport::TYPE => {
                    fields.transport = Some(read::<RequestedTransport>(raw)?.protocol());
                }
                RequestedAddressFamily::TYPE => {
                    fields.family = Some(read::<RequestedAddressFamily>(raw)?.family())
                }
                AdditionalAddressFamily::TYPE => {
                    fields.additional = Some(read::<AdditionalAddressFamily>(raw)?.family());
                }
                Lifetime::TYPE => fields.lifetime = Some(read::<Lifetime>(raw)?.seconds()),
                ChannelNumber::TYPE => fields.channel = Some(read::<ChannelNumber>(raw)?.channel()),
                XorPeerAddress::TYPE if fields.peers.len() == MAX_PEERS => return Err(No::Malformed),
                XorPeerAddress::TYPE => fields.peers.push(read::<XorPeerAddress>(raw)?.addr(id)),
                EvenPort::TYPE | ReservationToken::TYPE => fields.reservation = true,
                known if is_known(known) => {}
                other if other.comprehension_required() && !unknown.contains(&other) => unknown.push(other),
                _ => {}
            }
        }
        if unknown.is_empty() { Ok(fields) } else { Err(No::Unknown(unknown)) }
    }

    fn allocate(self) -> Result<Ask, No> {
        match self.transport {
            Some(RequestedTransport::UDP) => {}
            Some(_) => return Err(No::Transport),
            None => return Err(No::Malformed),
        }
        if self.reservation {
            return Err(No::Capacity);
        }
        let (family, additional) = match (self.family, self.additional) {
            (family, None) => (family, false),
            (None, Some(AddressFamily::IPV6)) => (None, true),
            // Section 7.2, both in one request, or IPv4 beside IPv4.
            (Some(_), Some(_)) | (None, Some(AddressFamily::IPV4)) => return Err(No::Malformed),
        };
        Ok(Ask::Allocate { family, additional, lifetime: self.lifetime })
    }
}

fn read<'a, A: AttributeFromRaw<'a>>(raw: stun_types::attribute::RawAttribute<'a>) -> Result<A, No> {
    A::from_raw(raw).map_err(|_| No::Malformed)
}

/// Attributes that have been looked at elsewhere, or that ask for nothing.
fn is_known(attribute: AttributeType) -> bool {
    [
        Username::TYPE,
        Userhash::TYPE,
        Realm::TYPE,
        Nonce::TYPE,
        MessageIntegrity::TYPE,
        MessageIntegritySha256::TYPE,
        PasswordAlgorithm::TYPE,
        PasswordAlgorithms::TYPE,
        Fingerprint::TYPE,
        Software::TYPE,
        // Relayed packets are not fragmented here, either way.
        DontFragment::TYPE,
    ]
    .contains(&attribute)
}
