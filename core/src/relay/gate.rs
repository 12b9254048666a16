//! Who may use the relay: tickets and nonces (RFC 8489 section 9.2). Pure, and without memory: before a request shows a
//! ticket nothing is kept of whoever sent it, so that there is nothing to be filled.

use offhook_proto::identity::TerminalId;
use offhook_proto::relay::{REALM, RelayClass, TicketIssuer};
use offhook_proto::wire::UnixMillis;
use stun_types::attribute::{MessageIntegrity, MessageIntegritySha256, Nonce, Realm, Username};
use stun_types::message::{IntegrityAlgorithm, IntegrityKey, LongTermKeyCredentials, Message};
use stun_types::prelude::AttributeStaticType;

use super::request::No;

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
}

impl Gate {
    /// `issuer` is whoever issues the tickets.
    pub(super) fn new(issuer: TicketIssuer) -> Self {
        Self { issuer }
    }

    /// A nonce for a challenge.
    pub(super) fn nonce(&self, now: UnixMillis) -> String {
        self.issuer.nonce(now)
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
        if answered || self.issuer.is_good_nonce(nonce.nonce(), now) { Ok(user) } else { Err(No::StaleNonce) }
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
