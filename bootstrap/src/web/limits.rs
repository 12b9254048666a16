//! How often somebody may try something: of one account, of one network, and all together.
//!
//! With OPAQUE a password is tried by `login/start` already: its answer tells whoever asked whether it was right. So that is what is
//! counted, and a log-in that succeeds gives it back. The first step of a registration evaluates the same function of ID and
//! password. Done for an ID that nobody has yet, it would help whoever steals the ID's password file later; so it counts the same.
//!
//! ```text
//! ID and network    tight     guesses from one place, also counted with its neighbours
//! ID                loose     guesses from everywhere, of a botnet
//! network           loose     one guess each for many IDs, also counted with its neighbours
//! ```
//!
//! With its neighbours, since whoever has an IPv6 /48, which costs nothing, has 65,536 networks.
//!
//! If only the ID counted, or counted tightly, anybody could lock its owner out by guessing. So it counts loosely, and not at all for who
//! comes from where the owner has logged in lately, or with a session of the owner's: those are bounded by the limits for network and account,
//! and no botnet uses them up. Who comes from a new place while the ID is under attack gets in by the recovery words.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use offhook_proto::identity::IdentityId;
use offhook_proto::wire::UnixMillis;

use super::error::ApiError;
use crate::store::{Limit, Memory, Subject};

/// Passwords for one ID from one network: so many at once, then one in so much time, 1,440 a day.
const LOGIN_ID_NETWORK: (u32, Duration) = (20, Duration::from_secs(60));
/// Passwords for one ID from a network and its neighbours.
const LOGIN_ID_WIDE: (u32, Duration) = (40, Duration::from_secs(60));
/// Passwords for one ID from wherever, 4,320 a day: five neighbourhoods at once do not stop the owner, and the password that the site calls weak
/// (a million guesses) lasts most of a year.
const LOGIN_ID: (u32, Duration) = (200, Duration::from_secs(20));
/// From how many networks an account is known to log in: so many at once, then one more in so much time. Each is remembered
/// for [`KNOWN_TIME`].
const LOGIN_KNOWN: (u32, Duration) = (16, Duration::from_secs(86_400));
/// How long a network is known from which somebody has logged in.
const KNOWN_TIME: Duration = Duration::from_secs(60 * 86_400);
/// Passwords from one network. A company behind one address logs in at eight.
const LOGIN_NETWORK: (u32, Duration) = (60, Duration::from_secs(10));
/// Passwords from a network and its neighbours.
const LOGIN_WIDE: (u32, Duration) = (240, Duration::from_secs(3));
/// Sign-ups from one network.
const SIGN_UP_NETWORK: (u32, Duration) = (20, Duration::from_secs(120));
/// Steps of sign-ups, two each, from a network and its neighbours: 360 accounts a day.
const SIGN_UP_WIDE: (u32, Duration) = (100, Duration::from_secs(120));
/// Numbers looked up from one network, as somebody does who types one.
const LOOK_UP_NETWORK: (u32, Duration) = (120, Duration::from_millis(500));
/// Numbers looked up from a network and its neighbours.
const LOOK_UP_WIDE: (u32, Duration) = (480, Duration::from_millis(125));

/// Changes by one account. Its terminals keep its backup as it changes.
const CHANGE_ACCOUNT: (u32, Duration) = (60, Duration::from_secs(10));
/// Numbers issued to one account. One that is released is kept from others for more than a year, so that whoever claimed and released
/// without end would take all of them.
const ISSUE_ACCOUNT: (u32, Duration) = (16, Duration::from_secs(86_400));
/// Numbers issued to those in a network and its neighbours, so that many accounts of one make no difference.
const ISSUE_WIDE: (u32, Duration) = (64, Duration::from_secs(600));

/// A client, as far as its address tells it from others: an IPv4 address, or the /64 that a subscriber of IPv6 has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Network([u8; 16]);

impl Network {
    pub(super) fn of(address: IpAddr) -> Self {
        let v6 = match address.to_canonical() {
            IpAddr::V4(address) => return Self(address.to_ipv6_mapped().octets()),
            IpAddr::V6(address) => address,
        };
        Self(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).octets())
    }

    /// With its neighbours: the /24 of an IPv4 address, the /48 that a site of IPv6 has.
    pub(super) fn wide(&self) -> Self {
        let address = Ipv6Addr::from(self.0);
        let bits = if address.to_ipv4_mapped().is_some() { 8 } else { 80 };
        Self(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << bits)).octets())
    }

    pub(super) const fn bytes(&self) -> &[u8; 16] {
        &self.0
    }

    pub(super) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl Default for Network {
    fn default() -> Self {
        Self::of(Ipv4Addr::UNSPECIFIED.into())
    }
}

/// What an evaluation of OPAQUE's function costs, for an ID that somebody has or not.
pub(super) fn evaluate(id: &str, network: &Network, is_known: bool) -> Vec<Limit> {
    let with_id = |network: &Network| [network.bytes(), id.as_bytes()].concat();
    let mut limits = recover(network);
    limits.push(limit(Subject::LoginIdNetwork, &with_id(network), LOGIN_ID_NETWORK));
    if !is_known {
        limits.push(limit(Subject::LoginIdWide, &with_id(&network.wide()), LOGIN_ID_WIDE));
        limits.push(limit(Subject::LoginId, id.as_bytes(), LOGIN_ID));
    }
    limits
}

fn limit(subject: Subject, key: &[u8], (at_once, every): (u32, Duration)) -> Limit {
    Limit::new(subject, key, at_once, every)
}

/// That somebody has logged in from a network, by a hash that only the directory can make.
pub(super) fn known(identity: &IdentityId, hash: [u8; 32]) -> Memory {
    let limit = limit(Subject::LoginKnown, identity.as_bytes(), LOGIN_KNOWN);
    Memory::new(hash, KNOWN_TIME, limit)
}

/// What getting in without a password costs.
pub(super) fn recover(network: &Network) -> Vec<Limit> {
    vec![
        limit(Subject::LoginNetwork, network.bytes(), LOGIN_NETWORK),
        limit(Subject::LoginWide, network.wide().bytes(), LOGIN_WIDE),
    ]
}

/// What a change by an account costs.
pub(super) fn change(identity: &IdentityId) -> Vec<Limit> {
    vec![limit(Subject::ChangeAccount, identity.as_bytes(), CHANGE_ACCOUNT)]
}

/// What a number costs that an account did not have.
pub(super) fn issue(identity: &IdentityId, network: &Network) -> Vec<Limit> {
    vec![
        limit(Subject::IssueAccount, identity.as_bytes(), ISSUE_ACCOUNT),
        limit(Subject::IssueWide, network.wide().bytes(), ISSUE_WIDE),
    ]
}

/// What a step of signing up costs.
pub(super) fn sign_up(network: &Network) -> Vec<Limit> {
    vec![
        limit(Subject::SignUpNetwork, network.bytes(), SIGN_UP_NETWORK),
        limit(Subject::SignUpWide, network.wide().bytes(), SIGN_UP_WIDE),
    ]
}

/// What looking up a number costs.
pub(super) fn look_up(network: &Network) -> Vec<Limit> {
    vec![
        limit(Subject::LookUpNetwork, network.bytes(), LOOK_UP_NETWORK),
        limit(Subject::LookUpWide, network.wide().bytes(), LOOK_UP_WIDE),
    ]
}

/// What the paces in memory are called where their refusals are counted: of a network, of one with its neighbours, of all together.
pub(super) const PACES: [&str; 3] = [ONE_NETWORK, NEIGHBOURS, TOGETHER];
pub(super) const ONE_NETWORK: &str = "network pace";
pub(super) const NEIGHBOURS: &str = "wide pace";
pub(super) const TOGETHER: &str = "total pace";

/// A pace in memory: so many at once, and each second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) at_once: u32,
    pub(super) per_second: u32,
}

/// The pace of all together, of this process: a flood from many networks finds an end before the database's.
const ALL: Pace = Pace { at_once: 4_000, per_second: 2_000 };

/// What of a pace is taken and has not yet run off, in thousandths of an attempt, and when that was.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket {
    level: u64,
    at: UnixMillis,
}

impl Bucket {
    /// Takes one attempt, if there is one.
    pub(super) fn take(&mut self, pace: Pace, now: UnixMillis) -> Result<(), ApiError> {
        let level = self.level(pace, now);
        // A clock that is put back gives nothing.
        *self = Self { level, at: now.max(self.at) };
        if level + 1_000 > u64::from(pace.at_once) * 1_000 {
            return Err(ApiError::TooMany(Duration::from_secs(1)));
        }
        self.level += 1_000;
        Ok(())
    }

    /// Whether all of it has run off.
    pub(super) fn is_empty(&self, pace: Pace, now: UnixMillis) -> bool {
        self.level(pace, now) == 0
    }

    fn level(&self, pace: Pace, now: UnixMillis) -> u64 {
        let passed = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX);
        self.level.saturating_sub(passed.saturating_mul(u64::from(pace.per_second)))
    }
}

/// How fast all together may ask for what costs the database or a calculation.
#[derive(Debug, Default)]
pub(super) struct Together(Mutex<Bucket>);

impl Together {
    /// Makes one attempt of all.
    pub(super) fn attempt(&self, now: UnixMillis) -> Result<(), ApiError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take(ALL, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_an_ipv4_address_or_a_subscribers_ipv6_prefix() {
        let network = |text: &str| Network::of(text.parse().expect("an address"));
        assert_eq!(network("192.0.2.1"), network("::ffff:192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("192.0.2.1").wide(), network("192.0.2.255").wide());
        assert_ne!(network("192.0.2.1").wide(), network("192.0.3.1").wide());
        assert_eq!(network("2001:db8::1").wide(), network("2001:db8:0:ffff::1").wide());
        assert_ne!(network("2001:db8::1").wide(), network("2001:db8:1::1").wide());
    }

    #[test]
    fn all_together_have_a_pace() {
        let pace = Together::default();
        let now = UnixMillis(1_800_000_000_000);
        let tries = |at| (0..10_000).filter(|_| pace.attempt(at).is_ok()).count();
        assert_eq!(tries(now), 4_000);
        assert_eq!(tries(UnixMillis(now.0 + 500)), 1_000);
        assert_eq!(tries(UnixMillis(now.0 - 5_000)), 0, "a clock that is put back gives nothing");
        assert_eq!(tries(UnixMillis(now.0 + 60_000)), 4_000);
    }
}
