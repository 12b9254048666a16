//! Invitation links: `offhook:NUMBER?key=FINGERPRINT&via=MULTIADDR&via=…`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

use super::{NodeAddr, NodeAddrError, Number, NumberError, parse};
use crate::identity::{Fingerprint, IdError};

/// Most bytes of a link. With the most and longest addresses, every byte %-encoded, it stays below.
pub const MAX_LINK_BYTES: usize = 8192;
/// Most entry points in a link.
pub const MAX_VIA: usize = 8;

/// What an invitation link says: whom to dial, who must answer, and where to enter the network.
///
/// A bare number, or a `tel:` URI, parses as an invitation that says nothing more, so that whoever dials can
/// take either.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Invitation {
    /// Whom to dial.
    pub number: Number,
    /// The identity key that must be behind the number. It counts like a pinned key.
    pub key: Option<Fingerprint>,
    /// Nodes through which the number can be found, at most [`MAX_VIA`].
    pub via: Vec<NodeAddr>,
}

/// Why a text is not an invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvitationError {
    /// Longer than [`MAX_LINK_BYTES`].
    #[error("That link is too long.")]
    TooLong,
    /// The number in it is none.
    #[error(transparent)]
    Number(#[from] NumberError),
    /// The key fingerprint in it is none.
    #[error("The key in that link is damaged.")]
    Key(#[from] IdError),
    /// An address in it is none.
    #[error("An address in that link is damaged.")]
    Via(#[from] NodeAddrError),
    /// It has more than [`MAX_VIA`] addresses or more than one key.
    #[error("That link contains more than it may.")]
    TooMany,
}

impl FromStr for Invitation {
    type Err = InvitationError;

    /// Parameters that it doesn't know are passed over.
    fn from_str(text: &str) -> Result<Self, InvitationError> {
        if text.len() > MAX_LINK_BYTES {
            return Err(InvitationError::TooLong);
        }
        let text = parse::trim(text);
        let Some(rest) = parse::strip_scheme(text, "offhook:") else {
            return Ok(Self { number: text.parse()?, key: None, via: Vec::new() });
        };
        let mut invitation = Self {
            number: format!("offhook:{}", parse::offhook_path(rest)).parse()?,
            key: None,
            via: Vec::new(),
        };
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        if let Some((_, query)) = rest.split_once('?') {
            for parameter in query.split('&') {
                invitation.take_parameter(parameter)?;
            }
        }
        Ok(invitation)
    }
}

impl Invitation {
    fn take_parameter(&mut self, parameter: &str) -> Result<(), InvitationError> {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let decoded = || parse::percent_decode(value).map_err(NumberError::Refused);
        match name {
            "key" if self.key.is_some() => return Err(InvitationError::TooMany),
            "key" => self.key = Some(decoded()?.parse()?),
            "via" if self.via.len() == MAX_VIA => return Err(InvitationError::TooMany),
            "via" => self.via.push(decoded()?.parse()?),
            _ => {}
        }
        Ok(())
    }
}

impl fmt::Display for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offhook:{}", percent_encode(&self.number.canonical()))?;
        let key = self.key.map(|key| format!("key={key}"));
        let via = self.via.iter().map(|via| format!("via={}", percent_encode(via.as_str())));
        for (i, parameter) in key.into_iter().chain(via).enumerate() {
            write!(f, "{}{parameter}", if i == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

/// %-encodes all but what may stand both in the path and in the query of a URI (RFC 3986 sections 3.3 and
/// 3.4).
fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => out.push(char::from(byte)),
            b'-' | b'.' | b'_' | b'~' | b'/' | b':' | b'@' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

impl Serialize for Invitation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Invitation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
