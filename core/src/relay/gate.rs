//! Who may use the relay: tickets and nonces (RFC 8489 section 9.2). Pure, and without memory: before a request shows a
//! ticket nothing is kept of whoever sent it, so that there is nothing to be filled.
//!
//! A nonce is the time and a MAC of it; any client may use any, so that one which comes with a new address needs no new
//! challenge. Whoever hears a request can repeat it for as long as its nonce is good, but not alter it: he can take
//! the user's place in the quotas, which he could deny him anyway.

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use offhook_proto::identity::TerminalId;
use offhook_proto::relay::{RelayClass, TicketIssuer};
use offhook_proto::wire::UnixMillis;
use sha2::{Digest, Sha256};
use stun_types::attribute::{MessageIntegrity, MessageIntegritySha256, Nonce, Realm, Username};
use stun_types::message::{IntegrityAlgorithm, IntegrityKey, LongTermKeyCredentials, Message};
use stun_types::prelude::AttributeStaticType;

use super::request::No;

/// The realm of every directory's relay. Which of them it is, the terminal knows from the address.
pub(super) const REALM: &str = "offhook";

/// How long a nonce is good (RFC 8656 section 5 wants a new one every hour).
const NONCE_LIFETIME: Duration = Duration::from_secs(3_600);

/// Bytes of the MAC in a nonce.
const MAC_BYTES: usize = 15;

/// The holder of a ticket, as far as the relay knows him.
#[derive(Clone)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) password: String,
    pub(super) class: RelayClass,
    pub(super) terminal: TerminalId,
    pub(super) key: IntegrityKey,
}

/// See the [module](self).
pub(super) struct Gate {
    issuer: TicketIssuer,
    secret: [u8; 32],
}

impl Gate {
    /// `secret` is for nonces, and need not survive a restart.
    pub(super) fn new(issuer: TicketIssuer, secret: [u8; 32]) -> Self {
        Self { issuer, secret }
    }

    /// A nonce for a challenge.
    pub(super) fn nonce(&self, now: UnixMillis) -> String {
        self.nonce_of(now.0 / 1_000)
    }

    fn nonce_of(&self, seconds: u64) -> String {
        // The secret first and input of one length: nothing can be appended that this would take for a nonce.
        let mac = Sha256::new().chain_update(self.secret).chain_update(seconds.to_be_bytes()).finalize();
        format!("{seconds:x}.{}", BASE64URL_NOPAD.encode(&mac[..MAC_BYTES]))
    }

    fn is_good(&self, nonce: &str, now: UnixMillis) -> bool {
        let seconds = nonce.split_once('.').and_then(|(seconds, _)| u64::from_str_radix(seconds, 16).ok());
        seconds.is_some_and(|seconds| {
            let made = UnixMillis(seconds.saturating_mul(1_000));
            made <= now && now < made.plus(NONCE_LIFETIME) && self.nonce_of(seconds) == nonce
        })
    }

    /// Who sent a request. `known` is the user whose allocation the sender's address has, with the nonce that answers to him
    /// carry: his ticket may be over by now.
    ///
    /// # Errors
    /// [`No::Unauthorized`], [`No::StaleNonce`], [`No::Malformed`].
    pub(super) fn admit(
        &self,
        request: &Message<'_>,
        known: Option<(&User, &str)>,
        now: UnixMillis,
    ) -> Result<User, No> {
        let signed = request.has_attribute(MessageIntegrity::TYPE)
            || request.has_attribute(MessageIntegritySha256::TYPE);
        if !signed {
            return Err(No::Unauthorized);
        }
        let name = request.attribute::<Username>().map_err(|_| No::Malformed)?;
        let nonce = request.attribute::<Nonce>().map_err(|_| No::Malformed)?;
        request.attribute::<Realm>().map_err(|_| No::Malformed)?;
        let user = match known {
            Some((user, _)) if user.name == name.username() => user.clone(),
            Some(_) | None => self.user(name.username(), now)?,
        };
        request.validate_integrity_with_key(&user.key).map_err(|_| No::Unauthorized)?;
        let answered = known.is_some_and(|(_, answered)| answered == nonce.nonce());
        if answered || self.is_good(nonce.nonce(), now) { Ok(user) } else { Err(No::StaleNonce) }
    }

    /// The holder of a ticket by that name, if it is good now; whether the sender knows its password is another question.
    pub(super) fn user(&self, name: &str, now: UnixMillis) -> Result<User, No> {
        let admission = self.issuer.admit(name, now).map_err(|_| No::Unauthorized)?;
        let (class, terminal, password) = (admission.class, admission.terminal, admission.password);
        let credentials = LongTermKeyCredentials::new(name.to_owned(), password.clone(), REALM.to_owned());
        let key = credentials.make_key(IntegrityAlgorithm::Sha1);
        Ok(User { name: name.to_owned(), password, class, terminal, key })
    }
}

#[cfg(test)]
mod tests;
