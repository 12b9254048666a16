//! Tickets for media relays: short-lived credentials of a TURN server (RFC 8656), which a directory issues and the TURN
//! server beside it checks without keeping a list.
//!
//! The user name of a ticket is `EXPIRES:CLASS:PEER`: seconds since 1970, `f` for a terminal of this directory or `g`
//! for a guest, and the terminal's PeerId. The password is the HMAC-SHA256 (RFC 2104) of the user name under a secret
//! that never leaves the directory, in base64url. This is the scheme of `draft-uberti-behave-turn-rest` with a class.
//!
//! A ticket brings a nonce with it (RFC 8489 section 9.2): the time and a MAC of it under the same secret. So its holder needs no
//! challenge, which would cost him a round trip while it rings. Whoever overhears a request that is not inside TLS can repeat it for as
//! long as its nonce is good, but not alter it: he can take the user's places in the quotas, and send to the peers that the user has
//! named. He has none of the call's keys, so they take nothing of it; and the places are few.

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
/// The realm of every directory's relay (RFC 8489 section 9.2). Which of them it is, the terminal knows from the address.
pub const REALM: &str = "offhook";
/// How long a ticket of a registered terminal is good: longer than a call, and than the pause between registrations.
pub const FULL_LIFETIME: Duration = Duration::from_secs(12 * 3_600);
/// How long a guest's ticket is good: to begin a call. Allocations made with it are refreshed as long as the call lasts.
pub const GUEST_LIFETIME: Duration = Duration::from_secs(600);

/// How long a nonce is good: as long as any ticket, which brings one. RFC 8656 section 5 would have a new one every hour.
pub const NONCE_LIFETIME: Duration = FULL_LIFETIME;

/// What carries TURN between a terminal and the relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum RelayTransport {
    /// UDP, the best for voice.
    #[default]
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
    /// A nonce that the relay takes in the realm [`REALM`] without having challenged.
    #[n(4)]
    pub nonce: Option<String>,
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
            && self.nonce.as_deref().is_none_or(credential)
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
        let password = self.mac(&username);
        let lifetime_s = u32::try_from(class.lifetime().as_secs()).unwrap_or(u32::MAX);
        RelayTicket { servers, username, password, lifetime_s, nonce: Some(self.nonce(now)) }
    }

    /// A nonce that is good from `now` on for [`NONCE_LIFETIME`], for any client.
    #[must_use]
    pub fn nonce(&self, now: UnixMillis) -> String {
        self.nonce_of(now.0 / 1_000)
    }

    /// Whether a nonce is one of this issuer's and not too old.
    #[must_use]
    pub fn is_good_nonce(&self, nonce: &str, now: UnixMillis) -> bool {
        let seconds = nonce.split_once('.').and_then(|(seconds, _)| u64::from_str_radix(seconds, 16).ok());
        seconds.is_some_and(|seconds| {
            let made = UnixMillis(seconds.saturating_mul(1_000));
            made <= now && now < made.plus(NONCE_LIFETIME) && self.nonce_of(seconds) == nonce
        })
    }

    fn nonce_of(&self, seconds: u64) -> String {
        // No user name of a ticket begins like this, so that no password is a nonce's MAC.
        format!("{seconds:x}.{}", self.mac(&format!("nonce:{seconds:x}")))
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
        Ok(Admission { class, terminal, expires, password: self.mac(username) })
    }

    fn mac(&self, text: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("HMAC takes keys of any length");
        mac.update(text.as_bytes());
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
    fn a_nonce_is_its_issuers_and_no_older_than_the_longest_ticket() {
        let (issuer, nonce) = (TicketIssuer::new([7; 32]), ticket(RelayClass::Guest).nonce.unwrap());
        assert_eq!(nonce, issuer.nonce(NOW));
        let last = NOW.plus(NONCE_LIFETIME - Duration::from_millis(1));
        assert!(issuer.is_good_nonce(&nonce, NOW) && issuer.is_good_nonce(&nonce, last));
        assert!(!issuer.is_good_nonce(&nonce, NOW.plus(NONCE_LIFETIME)), "too old");
        let ahead = issuer.nonce(NOW.plus(Duration::from_secs(60)));
        assert!(!issuer.is_good_nonce(&ahead, NOW), "of the future");
        let (time, mac) = nonce.split_once('.').unwrap();
        let later = format!("{:x}.{mac}", u64::from_str_radix(time, 16).unwrap() + 1);
        let foreign = TicketIssuer::new([8; 32]).nonce(NOW);
        let forged = [later, foreign, format!("0{nonce}"), format!("{nonce}A"), time.into(), String::new()];
        for forged in forged {
            assert!(!issuer.is_good_nonce(&forged, NOW), "{forged}");
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
