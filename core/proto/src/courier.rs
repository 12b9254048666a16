//! The courier: small packets between the two parties of a live call, passed on by a directory over UDP. It is where they
//! find each other again when the addresses of both have changed at the same moment.
//!
//! A packet is the byte [`FIRST_BYTE`], a CBOR value, and a MAC of all that under the password of a
//! [ticket](crate::relay), HMAC-SHA256 (RFC 2104). Each packet *binds* its sender's address to his side of the call and is
//! answered with where he is seen; with a blob in it, that is passed on to where the other side is bound. The blob is
//! an ordinary signalling packet, sealed and signed: the courier is believed nothing but the address, and that only as a
//! hint.
//!
//! Both sides hold tickets of one directory: as its terminal, or as a guest.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use minicbor::decode::{self, Decoder};
use minicbor::encode::{self, Encoder, Write};
use minicbor::{Decode, Encode};
use sha2::Sha256;
use thiserror::Error;

use crate::identity::TerminalId;
use crate::relay::MAX_CREDENTIAL;
use crate::signalling::CallId;
use crate::wire::{self, UnixMillis};

/// What a courier's packet begins with. On the socket that it shares, STUN begins with 0 to 3 and TURN's data with 64 to 79
/// (RFC 7983).
pub const FIRST_BYTE: u8 = 4;
/// Longest blob, bytes.
pub const MAX_BLOB: usize = 1_024;
/// Longest packet, bytes: the longest blob with everything around it.
pub const MAX_PACKET: usize = 1_400;
/// How long an address is bound without a further packet from there.
pub const BINDING_LIFE: Duration = Duration::from_secs(60);
/// How often an idle side says where it is, so that the courier knows its ticket when that is over: more often than a guest's
/// lasts. NATs need not keep the way back open, since who hears nothing says so.
pub const RENEWAL: Duration = Duration::from_secs(240);
/// Packets that one side of a call may send each second (bursts: as many); more are dropped.
pub const PACKETS_PER_SECOND: u32 = 20;

/// Bytes of the MAC.
const MAC: usize = 32;

/// Why a packet is none, or none for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CourierError {
    /// Not of the form.
    #[error("not a courier's packet")]
    Malformed,
    /// Made with another password.
    #[error("a courier's packet with a wrong MAC")]
    Forged,
}

/// What is left of [`PACKETS_PER_SECOND`]; both the courier and its client count what comes.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    left: f64,
    /// When it was counted; `None` before the first packet.
    counted: Option<Instant>,
}

impl Allowance {
    /// Counts a packet; false if it is one too many. `now` never goes back.
    pub fn take(&mut self, now: Instant) -> bool {
        let rate = f64::from(PACKETS_PER_SECOND);
        let passed = self.counted.map_or(Duration::ZERO, |counted| now.saturating_duration_since(counted));
        (self.left, self.counted) = ((self.left + passed.as_secs_f64() * rate).min(rate), Some(now));
        let enough = self.left >= 1.0;
        if enough {
            self.left -= 1.0;
        }
        enough
    }
}

impl Default for Allowance {
    fn default() -> Self {
        Self { left: f64::from(PACKETS_PER_SECOND), counted: None }
    }
}

/// What one side of a call sends.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Post {
    /// The user name of the sender's ticket, which says who he is.
    #[n(0)]
    pub username: String,
    /// The call.
    #[n(1)]
    pub call: CallId,
    /// The other side.
    #[n(2)]
    pub to: TerminalId,
    /// The time by the sender's clock, later in each packet of the call: an earlier one is a copy.
    #[n(3)]
    pub time: UnixMillis,
    /// What to pass on; at most [`MAX_BLOB`] bytes.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub blob: Option<Vec<u8>>,
}

impl fmt::Debug for Post {
    /// Not who.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Post({} bytes)", self.blob.as_ref().map_or(0, Vec::len))
    }
}

/// What the courier answers to each packet: shorter than it, so that it amplifies nothing.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Bound {
    /// The time in the packet that is answered.
    #[n(0)]
    pub time: UnixMillis,
    /// Where the sender is seen.
    #[n(1)]
    pub observed: Observed,
    /// Whether the other side is bound; a blob has been passed on then.
    #[n(2)]
    pub met: bool,
}

impl fmt::Debug for Bound {
    /// Without the address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bound").field("met", &self.met).finish_non_exhaustive()
    }
}

/// An address: 4 or 16 bytes and the port's two. Not the text, which some NATs would rewrite.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Observed(pub SocketAddr);

/// Every byte of an address is changed by this, for the same reason as in XOR-MAPPED-ADDRESS (RFC 8489 section 14.2).
const MASK: u8 = 0xa5;

impl<C> Encode<C> for Observed {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        let mut bytes = match self.0.ip() {
            std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
            std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        bytes.extend(self.0.port().to_be_bytes());
        bytes.iter_mut().for_each(|byte| *byte ^= MASK);
        e.bytes(&bytes)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Observed {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        let bytes: Vec<u8> = d.bytes()?.iter().map(|byte| byte ^ MASK).collect();
        let malformed = || decode::Error::message("not an address and port");
        let (ip, port) = bytes.split_last_chunk::<2>().ok_or_else(malformed)?;
        let port = u16::from_be_bytes(*port);
        match (<[u8; 4]>::try_from(ip), <[u8; 16]>::try_from(ip)) {
            (Ok(ip), _) => Ok(Self(SocketAddr::from((ip, port)))),
            (_, Ok(ip)) => Ok(Self(SocketAddr::from((ip, port)))),
            (Err(_), Err(_)) => Err(malformed()),
        }
    }
}

/// What the courier sends.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub enum FromCourier {
    /// The answer to a packet.
    #[n(0)]
    Bound(#[n(0)] Bound),
    /// What the other side has sent. Whose it is, the blob itself says.
    #[n(1)]
    Passed {
        /// The call.
        #[n(0)]
        call: CallId,
        /// A signalling packet.
        #[cbor(n(1), with = "minicbor::bytes")]
        blob: Vec<u8>,
    },
}

impl fmt::Debug for FromCourier {
    /// Without content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bound(bound) => bound.fmt(f),
            Self::Passed { blob, .. } => write!(f, "Passed({} bytes)", blob.len()),
        }
    }
}

impl Post {
    /// The packet, made with the password of the sender's ticket.
    #[must_use]
    pub fn write(&self, password: &str) -> Vec<u8> {
        write(&wire::encode(self), password)
    }

    /// Reads a packet, whose MAC is still to be [checked](Unproven::prove): the password follows from the user name.
    ///
    /// # Errors
    /// [`CourierError::Malformed`].
    pub fn read(packet: &[u8]) -> Result<Unproven<'_, Self>, CourierError> {
        let unproven: Unproven<'_, Self> = read(packet)?;
        let blob = unproven.value.blob.as_ref().map_or(0, Vec::len);
        let sound = blob <= MAX_BLOB && unproven.value.username.len() <= MAX_CREDENTIAL;
        if sound { Ok(unproven) } else { Err(CourierError::Malformed) }
    }
}

impl FromCourier {
    /// The packet, made with the password of the receiver's ticket.
    #[must_use]
    pub fn write(&self, password: &str) -> Vec<u8> {
        write(&wire::encode(self), password)
    }

    /// Reads a packet of the courier's.
    ///
    /// # Errors
    /// A [`CourierError`].
    pub fn read(packet: &[u8], password: &str) -> Result<Self, CourierError> {
        read(packet)?.prove(password)
    }
}

/// What a packet says if its MAC is right.
#[derive(Debug)]
pub struct Unproven<'a, T> {
    value: T,
    said: &'a [u8],
    mac: &'a [u8],
}

impl<T> Unproven<'_, T> {
    /// What it says, to find the password by.
    pub const fn claimed(&self) -> &T {
        &self.value
    }

    /// What it says, if it was made with the password.
    ///
    /// # Errors
    /// [`CourierError::Forged`].
    pub fn prove(self, password: &str) -> Result<T, CourierError> {
        hmac(self.said, password).verify_slice(self.mac).map_err(|_| CourierError::Forged)?;
        Ok(self.value)
    }
}

fn hmac(said: &[u8], password: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(password.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(said);
    mac
}

fn write(value: &[u8], password: &str) -> Vec<u8> {
    let mut packet = vec![FIRST_BYTE];
    packet.extend_from_slice(value);
    let mac = hmac(&packet, password).finalize().into_bytes();
    packet.extend_from_slice(&mac);
    packet
}

fn read<'a, T: Decode<'a, ()>>(packet: &'a [u8]) -> Result<Unproven<'a, T>, CourierError> {
    if packet.len() > MAX_PACKET {
        return Err(CourierError::Malformed);
    }
    let (said, mac) = packet.split_last_chunk::<MAC>().ok_or(CourierError::Malformed)?;
    let value = said.strip_prefix(&[FIRST_BYTE]).ok_or(CourierError::Malformed)?;
    let value = wire::decode(value, MAX_PACKET).map_err(|_| CourierError::Malformed)?;
    Ok(Unproven { value, said, mac })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(blob: Option<usize>) -> Post {
        Post {
            username: "1800000000:f:12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp".to_owned(),
            call: CallId::from_bytes([1; 16]),
            to: TerminalId::from_bytes([2; 32]),
            time: UnixMillis(1_800_000_000_000),
            blob: blob.map(|length| vec![3; length]),
        }
    }

    fn bound(observed: &str) -> FromCourier {
        let observed = Observed(observed.parse().unwrap());
        FromCourier::Bound(Bound { time: UnixMillis(u64::MAX), observed, met: true })
    }

    #[test]
    fn packets_survive_the_round_trip_and_hide_in_debug() {
        for post in [post(None), post(Some(0)), post(Some(MAX_BLOB))] {
            let packet = post.write("secret");
            assert!(packet.len() <= MAX_PACKET && packet[0] == FIRST_BYTE);
            let read = Post::read(&packet).unwrap();
            assert_eq!(read.claimed(), &post);
            assert_eq!(read.prove("secret"), Ok(post.clone()));
            assert!(!format!("{post:?}").contains("12D3"));
        }
        for answer in [bound("192.0.2.1:7"), bound("[2001:db8::1]:65535")] {
            let packet = answer.write("secret");
            assert_eq!(FromCourier::read(&packet, "secret"), Ok(answer.clone()));
            assert!(!format!("{answer:?}").contains("192"));
        }
    }

    #[test]
    fn a_wrong_password_and_a_changed_byte_are_forgeries() {
        let packet = post(Some(7)).write("secret");
        assert_eq!(Post::read(&packet).unwrap().prove("other"), Err(CourierError::Forged));
        for at in 0..packet.len() {
            let mut changed = packet.clone();
            changed[at] ^= 1;
            let read = Post::read(&changed).and_then(|read| read.prove("secret"));
            assert!(read.is_err(), "byte {at}");
        }
        let answer = bound("192.0.2.1:7").write("secret");
        assert_eq!(FromCourier::read(&answer, "other"), Err(CourierError::Forged));
    }

    #[test]
    fn what_is_too_long_or_short_is_malformed() {
        for length in [0, 1, MAC, MAC + 1, MAX_PACKET + 1] {
            let packet = vec![FIRST_BYTE; length];
            assert!(matches!(Post::read(&packet), Err(CourierError::Malformed)), "{length}");
        }
        let long = post(Some(MAX_BLOB + 1)).write("secret");
        assert!(matches!(Post::read(&long), Err(CourierError::Malformed)));
        let other = {
            let mut packet = post(None).write("secret");
            packet[0] = 5;
            packet
        };
        assert!(matches!(Post::read(&other), Err(CourierError::Malformed)));
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "the virtual clock has to begin somewhere")]
    fn an_allowance_is_its_rate_after_its_burst() {
        let (mut allowance, start) = (Allowance::default(), Instant::now());
        let taken = |allowance: &mut Allowance, now| (0..100).filter(|_| allowance.take(now)).count();
        assert_eq!(taken(&mut allowance, start), 20);
        assert_eq!(taken(&mut allowance, start + Duration::from_millis(500)), 10);
        assert_eq!(taken(&mut allowance, start + Duration::from_secs(60)), 20);
    }

    #[test]
    fn an_answer_is_no_longer_than_the_packet() {
        let answer = bound("[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535").write("secret");
        assert!(answer.len() <= post(None).write("secret").len());
        let passed = FromCourier::Passed { call: CallId::from_bytes([1; 16]), blob: vec![3; MAX_BLOB] };
        assert!(passed.write("secret").len() <= post(Some(MAX_BLOB)).write("secret").len());
    }
}
