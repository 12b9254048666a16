//! Tickets for media relays: short-lived credentials of a TURN server (RFC 8656), which a directory issues and the TURN
//! server beside it checks without keeping a list.
//!
//! The user name of a ticket is `EXPIRES:CLASS:PEER`: seconds since 1970, `f` for a terminal of this directory or `g`
//! for a guest, and the terminal's PeerId. The password is the HMAC-SHA256 (RFC 2104) of the user name under a secret
//! that never leaves the directory, in base64url. This is the scheme of `draft-uberti-behave-turn-rest` with a class.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use minicbor::decode::{self, Decoder};
use minicbor::encode::{self, Encoder, Write};
use minicbor::{Decode, Encode};
use sha2::Sha256;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::identity::{IdentityId, SignedCert, TerminalId};
use crate::number::Number;
use crate::proof::NumberProof;
use crate::wire::UnixMillis;

/// Most servers in one ticket; further ones make it malformed.
pub const MAX_RELAY_SERVERS: usize = 8;
/// Longest user name and password of a ticket, bytes.
pub const MAX_CREDENTIAL: usize = 160;
/// How long a ticket of a registered terminal is good: longer than a call, and than the pause between registrations.
pub const FULL_LIFETIME: Duration = Duration::from_secs(12 * 3_600);
/// How long a guest's ticket is good: to begin a call. Allocations made with it are refreshed as long as the call lasts.
pub const GUEST_LIFETIME: Duration = Duration::from_secs(600);

/// What carries TURN between a terminal and the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum RelayTransport {
    /// UDP, the best for voice.
    #[n(0)]
    Udp,
    /// TCP, where UDP is blocked.
    #[n(1)]
    Tcp,
    /// TLS over TCP, with the ALPN name `stun.turn` (RFC 7443).
    #[n(2)]
    Tls,
}

impl RelayTransport {
    /// `udp`, `tcp` or `tls`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

/// Where a relay listens.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RelayServer {
    /// What carries TURN to it.
    pub transport: RelayTransport,
    /// Its address.
    pub addr: SocketAddr,
    /// For TLS: SHA-256 of the DER encoding of the certificate that it shows. Without it, any certificate will do: what
    /// is inside is encrypted between the terminals, and the credentials never go over the wire.
    pub pin: Option<[u8; 32]>,
}

impl fmt::Debug for RelayServer {
    /// Without the address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RelayServer({})", self.transport.name())
    }
}

impl<C> Encode<C> for RelayServer {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, c: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.array(3)?;
        self.transport.encode(e, c)?;
        e.str(&self.addr.to_string())?;
        match &self.pin {
            Some(pin) => e.bytes(pin)?.ok(),
            None => e.null()?.ok(),
        }
    }
}

impl<'b, C> Decode<'b, C> for RelayServer {
    fn decode(d: &mut Decoder<'b>, c: &mut C) -> Result<Self, decode::Error> {
        if d.array()? != Some(3) {
            return Err(decode::Error::message("not a relay server"));
        }
        let transport = RelayTransport::decode(d, c)?;
        let addr = d.str()?.parse().map_err(|_| decode::Error::message("not an address and port"))?;
        let pin = if d.datatype()? == minicbor::data::Type::Null {
            d.null()?;
            None
        } else {
            Some(d.bytes()?.try_into().map_err(|_| decode::Error::message("not a SHA-256"))?)
        };
        Ok(Self { transport, addr, pin })
    }
}

/// Credentials for relays, to be used until they are over.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct RelayTicket {
    /// One relay, under several addresses and transports; at most [`MAX_RELAY_SERVERS`].
    #[n(0)]
    pub servers: Vec<RelayServer>,
    /// TURN user name.
    #[n(1)]
    pub username: String,
    /// TURN password.
    #[n(2)]
    pub password: String,
    /// How long they are good from now on, seconds.
    #[n(3)]
    pub lifetime_s: u32,
}

impl RelayTicket {
    /// Checks the sizes of a ticket that came in.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let credential = |text: &str| !text.is_empty() && text.len() <= MAX_CREDENTIAL;
        !self.servers.is_empty()
            && self.servers.len() <= MAX_RELAY_SERVERS
            && credential(&self.username)
            && credential(&self.password)
    }
}

impl fmt::Debug for RelayTicket {
    /// Without addresses and credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RelayTicket({:?}, {} s)", self.servers, self.lifetime_s)
    }
}

/// What a guest shows to be given a ticket: that its terminal belongs to a plain number, which costs work to make.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct GuestClaim {
    /// The guest's number.
    #[n(0)]
    pub number: Number,
    /// Proof that the number belongs to `identity`.
    #[n(1)]
    pub proof: NumberProof,
    /// The guest's account.
    #[n(2)]
    pub identity: IdentityId,
    /// Says that the terminal at the other end of the connection belongs to `identity`.
    #[n(3)]
    pub cert: SignedCert,
}

impl fmt::Debug for GuestClaim {
    /// Without the number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GuestClaim")
    }
}

/// How much the holder of a ticket may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RelayClass {
    /// A terminal of this directory.
    Full,
    /// Anybody else with a plain number.
    Guest,
}

impl RelayClass {
    const fn letter(self) -> &'static str {
        match self {
            Self::Full => "f",
            Self::Guest => "g",
        }
    }

    /// How long tickets of this class are good.
    #[must_use]
    pub const fn lifetime(self) -> Duration {
        match self {
            Self::Full => FULL_LIFETIME,
            Self::Guest => GUEST_LIFETIME,
        }
    }
}

/// Why a user name is not one of a ticket that is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TicketError {
    /// Not of the form `EXPIRES:CLASS:PEER`.
    #[error("not the user name of a ticket")]
    Malformed,
    /// Its time is over, or lies further ahead than any ticket's.
    #[error("the ticket is over")]
    Expired,
}

/// What a user name that is good says. Whoever presents it must show that he knows [`Admission::password`].
#[derive(Clone, PartialEq, Eq)]
pub struct Admission {
    /// How much he may use.
    pub class: RelayClass,
    /// Whose ticket it is.
    pub terminal: TerminalId,
    /// When the ticket is over.
    pub expires: UnixMillis,
    /// The password that belongs to the user name.
    pub password: String,
}

impl fmt::Debug for Admission {
    /// Without terminal and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("class", &self.class).finish_non_exhaustive()
    }
}

/// Issues tickets and knows them again. A directory and the TURN server beside it share one.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct TicketIssuer {
    secret: [u8; 32],
}

impl TicketIssuer {
    /// With a secret from a random source. Whoever knows it can make tickets.
    #[must_use]
    pub const fn new(secret: [u8; 32]) -> Self {
        Self { secret }
    }

    /// A ticket for `terminal` that is good from `now` on for the time of its class.
    #[must_use]
    pub fn issue(
        &self,
        class: RelayClass,
        terminal: &TerminalId,
        servers: Vec<RelayServer>,
        now: UnixMillis,
    ) -> RelayTicket {
        let expires = now.plus(class.lifetime()).0 / 1_000;
        let username = format!("{expires}:{}:{}", class.letter(), terminal.to_peer_id());
        let password = self.password(&username);
        let lifetime_s = u32::try_from(class.lifetime().as_secs()).unwrap_or(u32::MAX);
        RelayTicket { servers, username, password, lifetime_s }
    }

    /// Reads a user name that somebody presents.
    ///
    /// # Errors
    /// [`TicketError`].
    pub fn admit(&self, username: &str, now: UnixMillis) -> Result<Admission, TicketError> {
        if username.len() > MAX_CREDENTIAL {
            return Err(TicketError::Malformed);
        }
        let mut parts = username.split(':');
        let (Some(expires), Some(class), Some(peer), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TicketError::Malformed);
        };
        let class = match class {
            "f" => RelayClass::Full,
            "g" => RelayClass::Guest,
            _ => return Err(TicketError::Malformed),
        };
        let seconds: u64 = expires.parse().map_err(|_| TicketError::Malformed)?;
        let peer = bs58::decode(peer).into_vec().map_err(|_| TicketError::Malformed)?;
        let terminal = TerminalId::from_peer_id_bytes(&peer).map_err(|_| TicketError::Malformed)?;
        let expires = UnixMillis(seconds.saturating_mul(1_000));
        if expires <= now || expires > now.plus(class.lifetime()) {
            return Err(TicketError::Expired);
        }
        Ok(Admission { class, terminal, expires, password: self.password(username) })
    }

    fn password(&self, username: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("HMAC takes keys of any length");
        mac.update(username.as_bytes());
        BASE64URL_NOPAD.encode(&mac.finalize().into_bytes())
    }
}

impl fmt::Debug for TicketIssuer {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketIssuer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn terminal() -> TerminalId {
        TerminalId::from_bytes(ed25519_dalek::SigningKey::from_bytes(&[5; 32]).verifying_key().to_bytes())
    }

    fn ticket(class: RelayClass) -> RelayTicket {
        let server = |transport, pin| RelayServer { transport, addr: ([203, 0, 113, 1], 3_478).into(), pin };
        let servers = vec![server(RelayTransport::Udp, None), server(RelayTransport::Tls, Some([9; 32]))];
        TicketIssuer::new([7; 32]).issue(class, &terminal(), servers, NOW)
    }

    #[test]
    fn a_ticket_is_known_again_until_it_is_over() {
        for class in [RelayClass::Full, RelayClass::Guest] {
            let (issuer, ticket) = (TicketIssuer::new([7; 32]), ticket(class));
            let admitted = issuer.admit(&ticket.username, NOW).unwrap();
            assert_eq!((admitted.class, admitted.terminal), (class, terminal()));
            assert_eq!(admitted.password, ticket.password);
            let last = NOW.plus(class.lifetime() - Duration::from_secs(1));
            assert!(issuer.admit(&ticket.username, last).is_ok());
            let over = NOW.plus(class.lifetime());
            assert_eq!(issuer.admit(&ticket.username, over), Err(TicketError::Expired));
        }
    }

    #[test]
    fn a_user_name_of_ones_own_has_a_password_that_nobody_knows() {
        let guest = ticket(RelayClass::Guest);
        let forged = guest.username.replace(":g:", ":f:");
        let admitted = TicketIssuer::new([7; 32]).admit(&forged, NOW).unwrap();
        assert_ne!(admitted.password, guest.password);
        let elsewhere = TicketIssuer::new([8; 32]).admit(&guest.username, NOW).unwrap();
        assert_ne!(elsewhere.password, guest.password);
    }

    #[test]
    fn malformed_and_endless_user_names_are_refused() {
        let issuer = TicketIssuer::new([7; 32]);
        let good = ticket(RelayClass::Full).username;
        let peer = terminal().to_peer_id();
        for bad in [
            "",
            "::",
            "1",
            &format!("{good}:x"),
            &good.replace(":f:", ":x:"),
            &good.replace(&peer, "12D3"),
            &"9".repeat(MAX_CREDENTIAL + 1),
        ] {
            assert_eq!(issuer.admit(bad, NOW), Err(TicketError::Malformed), "{bad}");
        }
        let endless = format!("{}:f:{peer}", u64::MAX);
        assert_eq!(issuer.admit(&endless, NOW), Err(TicketError::Expired));
    }

    #[test]
    fn tickets_survive_the_round_trip_and_hide_in_debug() {
        let ticket = ticket(RelayClass::Full);
        let bytes = wire::encode(&ticket);
        assert!(ticket.is_sound());
        assert_eq!(wire::decode::<RelayTicket>(&bytes, 4_096), Ok(ticket.clone()));
        let shown = format!("{ticket:?}");
        assert!(
            !shown.contains("203") && !shown.contains(&ticket.username) && !shown.contains(&ticket.password)
        );
        let many = RelayTicket { servers: vec![ticket.servers[0]; MAX_RELAY_SERVERS + 1], ..ticket.clone() };
        assert!(!many.is_sound() && !RelayTicket { servers: Vec::new(), ..ticket }.is_sound());
    }
}
