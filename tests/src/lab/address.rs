//! Who has which addresses.
//!
//! ```text
//!  access link n    11.h.l.2, and the /48 2a11:0:n::/48 with 2a11:0:n::2 on the link    (n = 256 h + l)
//!  LAN m            10.h.l.0/24 behind a NAT, 11.(200+h).l.0/24 without, 100.(64+h).l.0/24 of a carrier (m = 256 h + l)
//!                   and, where its router has IPv6, 2a11:0:n:1::/64
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Impairment, LabError};

/// Which protocols a network speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Families {
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// Both.
    Dual,
}

impl Families {
    /// Whether IPv4 is among them.
    pub fn has_v4(self) -> bool {
        match self {
            Self::V4 | Self::Dual => true,
            Self::V6 => false,
        }
    }

    /// Whether IPv6 is among them.
    pub fn has_v6(self) -> bool {
        match self {
            Self::V6 | Self::Dual => true,
            Self::V4 => false,
        }
    }
}

/// An access into the internet: a link, and what is spoken over it. A bare [`Impairment`] is one over IPv4.
#[derive(Clone, Debug, PartialEq)]
pub struct Access {
    /// What is spoken over it.
    pub families: Families,
    /// What it does to packets, in both directions at first.
    pub link: Impairment,
}

impl Access {
    /// One over IPv6 only.
    pub fn v6(link: Impairment) -> Self {
        Self { families: Families::V6, link }
    }

    /// One over IPv4 and IPv6.
    pub fn dual(link: Impairment) -> Self {
        Self { families: Families::Dual, link }
    }
}

impl From<Impairment> for Access {
    fn from(link: Impairment) -> Self {
        Self { families: Families::V4, link }
    }
}

/// At most one address of each family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// IPv4.
    pub v4: Option<Ipv4Addr>,
    /// IPv6.
    pub v6: Option<Ipv6Addr>,
}

impl Addresses {
    /// All there are, IPv4 first.
    pub fn all(self) -> impl Iterator<Item = IpAddr> {
        self.v4.map(IpAddr::V4).into_iter().chain(self.v6.map(IpAddr::V6))
    }

    /// The IPv4 address; that of IPv6 where there is none.
    pub(super) fn main(self) -> IpAddr {
        self.all().next().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }
}

/// Which access link of a lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AccessNumber(u16);

impl AccessNumber {
    pub(super) fn new(number: u32) -> Result<Self, LabError> {
        u16::try_from(number).ok().filter(|number| *number < 0x8000).map(Self).ok_or(LabError::Full)
    }

    /// On the link itself.
    pub(super) fn addresses(self, families: Families) -> Addresses {
        let [hi, lo] = self.0.to_be_bytes();
        Addresses {
            v4: families.has_v4().then(|| Ipv4Addr::new(11, hi, lo, 2)),
            v6: families.has_v6().then(|| Ipv6Addr::new(0x2a11, 0, self.0, 0, 0, 0, 0, 2)),
        }
    }

    /// What the internet sends to this link: prefixes and their bits.
    pub(super) fn prefixes(self, families: Families) -> impl Iterator<Item = (IpAddr, u8)> {
        let [hi, lo] = self.0.to_be_bytes();
        let v4 = families.has_v4().then(|| (IpAddr::V4(Ipv4Addr::new(11, hi, lo, 0)), 24));
        let v6 = families.has_v6().then(|| (IpAddr::V6(Ipv6Addr::new(0x2a11, 0, self.0, 0, 0, 0, 0, 0)), 48));
        v4.into_iter().chain(v6)
    }
}

/// Which LAN of a lab; tells its IPv4 prefixes apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct LanNumber(u8, u8);

impl LanNumber {
    pub(super) fn new(number: u32) -> Result<Self, LabError> {
        let [hi, lo] = u16::try_from(number).map_err(|_| LabError::Full)?.to_be_bytes();
        if hi < 56 { Ok(Self(hi, lo)) } else { Err(LabError::Full) }
    }

    pub(super) fn private(self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.0, self.1, 0)
    }

    pub(super) fn public(self) -> Ipv4Addr {
        Ipv4Addr::new(11, 200 + self.0, self.1, 0)
    }

    pub(super) fn carrier(self) -> Ipv4Addr {
        Ipv4Addr::new(100, 64 + self.0, self.1, 0)
    }
}

/// The prefixes of a LAN: a /24 and a /64.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LanPrefixes {
    pub(super) v4: Option<Ipv4Addr>,
    pub(super) v6: Option<Ipv6Addr>,
}

impl LanPrefixes {
    /// The /64 of the LAN behind a router with this address.
    pub(super) fn v6_behind(router: Ipv6Addr) -> Ipv6Addr {
        let [a, b, c, ..] = router.segments();
        Ipv6Addr::new(a, b, c, 1, 0, 0, 0, 0)
    }

    /// The addresses of the machine with this number, 1 to 254; the router is 1.
    pub(super) fn machine(self, number: u8) -> Addresses {
        Addresses {
            v4: self.v4.map(|prefix| Ipv4Addr::from(u32::from(prefix) + u32::from(number))),
            v6: self.v6.map(|prefix| Ipv6Addr::from(u128::from(prefix) + u128::from(number))),
        }
    }
}

/// Whether the internet of the lab has a way to an address.
pub(super) fn is_public(ip: Ipv4Addr) -> bool {
    ip.octets()[0] == 11
}
