//! Routers with real kernel NATs, as nftables rules.

/// How a router treats what passes between its LAN and the internet, in the words of RFC 4787 and RFC 3489.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Nat {
    /// No translation and no filter: hosts behind it have public addresses.
    None,
    /// Public addresses behind a stateful filter that lets only answers in.
    Firewall,
    /// Endpoint-independent mapping and filtering ("full cone").
    FullCone,
    /// Endpoint-independent mapping, address-dependent filtering ("restricted cone").
    AddressRestricted,
    /// Endpoint-independent mapping, address-and-port-dependent filtering: what Linux home routers do.
    PortRestricted,
    /// The same, but unsolicited packets are answered with ICMP instead of silence, and make the router
    /// choose another port for the later packet of ours to that sender.
    PortRestrictedReject,
    /// Address-and-port-dependent mapping and filtering ("symmetric"): every destination sees another port.
    Symmetric,
    /// Port-restricted for TCP; all UDP is dropped.
    UdpBlocked,
    /// Only TCP to port 443 gets out.
    OnlyTcp443,
}

impl Nat {
    /// Whether hosts behind the router have private addresses.
    pub fn translates(self) -> bool {
        match self {
            Self::None | Self::Firewall => false,
            Self::FullCone
            | Self::AddressRestricted
            | Self::PortRestricted
            | Self::PortRestrictedReject
            | Self::Symmetric
            | Self::UdpBlocked
            | Self::OnlyTcp443 => true,
        }
    }

    /// The nftables script of a router between `wan0` and `lan0`. It replaces all earlier rules.
    ///
    /// Plain masquerade keeps the port (endpoint-independent in effect) as long as no early packet from outside
    /// has made a conntrack entry; dropping those in `input` prevents that. The cones add a dynamic map from the
    /// outside port to the inside host, filled by what goes out.
    pub(super) fn script(self) -> String {
        let masquerade = match self {
            Self::None | Self::Firewall => "",
            Self::Symmetric => "oifname wan0 masquerade fully-random",
            Self::FullCone
            | Self::AddressRestricted
            | Self::PortRestricted
            | Self::PortRestrictedReject
            | Self::UdpBlocked
            | Self::OnlyTcp443 => "oifname wan0 masquerade",
        };
        let (map, learn, translate) = self.cone();
        let (input, forward) = (self.input(), self.forward());
        format!(
            "flush ruleset
table ip lab {{
  {map}
  chain c_pre {{ type nat hook prerouting priority dstnat;
    {translate}
  }}
  chain c_learn {{ type filter hook forward priority filter - 5;
    {learn}
  }}
  chain c_forward {{ type filter hook forward priority filter;
    {forward}
  }}
  chain c_input {{ type filter hook input priority filter;
    {input}
  }}
  chain c_post {{ type nat hook postrouting priority srcnat;
    {masquerade}
  }}
}}
"
        )
    }

    fn cone(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::FullCone => (
                "map mapped { type inet_service : ipv4_addr; flags dynamic,timeout; timeout 120s; }",
                "iifname lan0 meta l4proto udp update @mapped { udp sport : ip saddr }",
                "iifname wan0 dnat to udp dport map @mapped",
            ),
            Self::AddressRestricted => (
                "map mapped { type ipv4_addr . inet_service : ipv4_addr; flags dynamic,timeout; timeout 120s; }",
                "iifname lan0 meta l4proto udp update @mapped { ip daddr . udp sport : ip saddr }",
                "iifname wan0 dnat to ip saddr . udp dport map @mapped",
            ),
            Self::None
            | Self::Firewall
            | Self::PortRestricted
            | Self::PortRestrictedReject
            | Self::Symmetric
            | Self::UdpBlocked
            | Self::OnlyTcp443 => ("", "", ""),
        }
    }

    fn input(self) -> &'static str {
        match self {
            Self::None | Self::PortRestrictedReject => "",
            Self::Firewall
            | Self::FullCone
            | Self::AddressRestricted
            | Self::PortRestricted
            | Self::Symmetric
            | Self::UdpBlocked
            | Self::OnlyTcp443 => "iifname wan0 ct state established,related accept; iifname wan0 drop;",
        }
    }

    fn forward(self) -> &'static str {
        match self {
            Self::None => "",
            Self::FullCone | Self::AddressRestricted => {
                "ct state established,related accept; ct status dnat accept; iifname wan0 drop;"
            }
            Self::UdpBlocked => {
                "meta l4proto udp drop; ct state established,related accept; iifname wan0 drop;"
            }
            Self::OnlyTcp443 => {
                "ct state established,related accept; iifname lan0 tcp dport 443 accept; drop;"
            }
            Self::Firewall | Self::PortRestricted | Self::PortRestrictedReject | Self::Symmetric => {
                "ct state established,related accept; iifname wan0 drop;"
            }
        }
    }
}
