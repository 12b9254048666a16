//! The networks in which people are.

use super::Behaviour::{AddressAndPortDependent, AddressDependent, EndpointIndependent};
use super::{Access, Families, Host, Impairment, Lab, LabError, Nat, NatClass};

/// The network of one terminal: every kind that the lab has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Network {
    /// An address of its own, nothing in front.
    Public,
    /// A stateful firewall in front of a public address.
    Firewall,
    /// A full-cone NAT.
    FullCone,
    /// A NAT that lets in who was spoken to.
    AddressRestricted,
    /// A NAT that lets in the ports that were spoken to.
    PortRestricted,
    /// The same, answering the others.
    Rejecting,
    /// A NAT that shows another port to everybody.
    Symmetric,
    /// A port-restricted NAT at home, a full-cone one at the carrier.
    CarrierCone,
    /// A port-restricted NAT at home, a symmetric one at the carrier.
    CarrierSymmetric,
    /// No UDP.
    UdpBlocked,
    /// Nothing but TCP to port 443.
    OnlyTcp443,
    /// IPv6 behind a stateful firewall, no IPv4.
    Ipv6Only,
    /// IPv6 behind a stateful firewall, IPv4 behind a port-restricted NAT.
    DualStack,
}

impl Network {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Public,
        Self::Firewall,
        Self::FullCone,
        Self::AddressRestricted,
        Self::PortRestricted,
        Self::Rejecting,
        Self::Symmetric,
        Self::CarrierCone,
        Self::CarrierSymmetric,
        Self::UdpBlocked,
        Self::OnlyTcp443,
        Self::Ipv6Only,
        Self::DualStack,
    ];

    /// A short name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Firewall => "firewall",
            Self::FullCone => "full-cone",
            Self::AddressRestricted => "restricted",
            Self::PortRestricted => "port-restricted",
            Self::Rejecting => "rejecting",
            Self::Symmetric => "symmetric",
            Self::CarrierCone => "carrier-cone",
            Self::CarrierSymmetric => "carrier-symmetric",
            Self::UdpBlocked => "udp-blocked",
            Self::OnlyTcp443 => "only-443",
            Self::Ipv6Only => "ipv6-only",
            Self::DualStack => "dual-stack",
        }
    }

    /// A host in a network of this kind that is made for it; `name` is that of the host.
    ///
    /// # Errors
    /// As [`Lab::router`].
    pub fn host(self, lab: &Lab, name: &str, link: Impairment) -> Result<Host, LabError> {
        let router = format!("{name}-r");
        let behind = |nat, access: Access| lab.router(&router, nat, access)?.host(name);
        let carrier = |nat, link| {
            let carrier = lab.carrier(&format!("{name}-c"), nat, link)?;
            carrier.router(&router, Nat::PortRestricted)?.host(name)
        };
        match self {
            Self::Public => lab.host(name, link),
            Self::Firewall => behind(Nat::Firewall, link.into()),
            Self::FullCone => behind(Nat::FullCone, link.into()),
            Self::AddressRestricted => behind(Nat::AddressRestricted, link.into()),
            Self::PortRestricted => behind(Nat::PortRestricted, link.into()),
            Self::Rejecting => behind(Nat::PortRestrictedReject, link.into()),
            Self::Symmetric => behind(Nat::Symmetric, link.into()),
            Self::CarrierCone => carrier(Nat::FullCone, link),
            Self::CarrierSymmetric => carrier(Nat::Symmetric, link),
            Self::UdpBlocked => behind(Nat::UdpBlocked, link.into()),
            Self::OnlyTcp443 => behind(Nat::OnlyTcp443, link.into()),
            Self::Ipv6Only => behind(Nat::PortRestricted, Access::v6(link)),
            Self::DualStack => behind(Nat::PortRestricted, Access::dual(link)),
        }
    }

    /// What it speaks.
    pub fn families(self) -> Families {
        match self {
            Self::Ipv6Only => Families::V6,
            Self::DualStack => Families::Dual,
            Self::Public
            | Self::Firewall
            | Self::FullCone
            | Self::AddressRestricted
            | Self::PortRestricted
            | Self::Rejecting
            | Self::Symmetric
            | Self::CarrierCone
            | Self::CarrierSymmetric
            | Self::UdpBlocked
            | Self::OnlyTcp443 => Families::V4,
        }
    }

    /// What [`classify`](super::classify) finds in it, but for ports that early senders spoil (rejecting routers) and
    /// whether ports are kept.
    pub fn class(self) -> NatClass {
        let open = |mapping, filtering| NatClass::Open { mapping, filtering, port_kept: true };
        match self {
            Self::Public | Self::FullCone => open(EndpointIndependent, EndpointIndependent),
            Self::AddressRestricted => open(EndpointIndependent, AddressDependent),
            Self::Firewall
            | Self::PortRestricted
            | Self::Rejecting
            | Self::CarrierCone
            | Self::Ipv6Only
            | Self::DualStack => open(EndpointIndependent, AddressAndPortDependent),
            Self::Symmetric | Self::CarrierSymmetric => {
                open(AddressAndPortDependent, AddressAndPortDependent)
            }
            Self::UdpBlocked | Self::OnlyTcp443 => NatClass::Blocked,
        }
    }

    /// Whether UDP can pass straight between hosts in two networks of these kinds, each of its own: they speak the same,
    /// and not one shows a port that cannot be foreseen to another that must know it.
    pub fn can_meet(self, other: Self) -> bool {
        let (mine, others) = (self.families(), other.families());
        let (
            NatClass::Open { mapping: m1, filtering: f1, .. },
            NatClass::Open { mapping: m2, filtering: f2, .. },
        ) = (self.class(), other.class())
        else {
            return false;
        };
        let hidden =
            |mapping, filtering| mapping == AddressAndPortDependent && filtering == AddressAndPortDependent;
        let share = mine.has_v4() && others.has_v4() || mine.has_v6() && others.has_v6();
        share && !hidden(m1, f2) && !hidden(m2, f1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_can_meet_is_symmetric_and_as_the_classes_say() {
        for a in Network::ALL {
            for b in Network::ALL {
                assert_eq!(a.can_meet(b), b.can_meet(a), "{a:?} {b:?}");
            }
        }
        assert!(Network::PortRestricted.can_meet(Network::PortRestricted));
        assert!(Network::Symmetric.can_meet(Network::AddressRestricted));
        assert!(!Network::Symmetric.can_meet(Network::PortRestricted));
        assert!(!Network::Symmetric.can_meet(Network::CarrierSymmetric));
        assert!(!Network::Public.can_meet(Network::UdpBlocked));
        assert!(!Network::Public.can_meet(Network::Ipv6Only));
        assert!(Network::DualStack.can_meet(Network::Ipv6Only));
    }
}
