//! Routers with real kernel NATs, as nftables rules.

use std::net::Ipv4Addr;

use super::opener::Opening;

/// How a router treats what passes between its LAN and the internet, in the words of RFC 4787 and RFC 3489.
///
/// IPv6 is never translated: [`Nat::None`] lets everything pass, those that block UDP or all but port 443 do so there
/// too, and all others are a stateful firewall (RFC 6092).
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

    fn masquerade(self) -> &'static str {
        match self {
            Self::None | Self::Firewall => "",
            Self::Symmetric => "oifname wan0 meta nfproto ipv4 masquerade fully-random",
            Self::FullCone
            | Self::AddressRestricted
            | Self::PortRestricted
            | Self::PortRestrictedReject
            | Self::UdpBlocked
            | Self::OnlyTcp443 => "oifname wan0 meta nfproto ipv4 masquerade",
        }
    }

    fn cone(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::FullCone => (
                "map mapped { type inet_service : ipv4_addr; flags dynamic,timeout; timeout 120s; }",
                "iifname lan0 meta nfproto ipv4 meta l4proto udp update @mapped { udp sport : ip saddr }",
                "iifname wan0 meta nfproto ipv4 dnat ip to udp dport map @mapped",
            ),
            Self::AddressRestricted => (
                "map mapped { type ipv4_addr . inet_service : ipv4_addr; flags dynamic,timeout; timeout 120s; }",
                "iifname lan0 meta nfproto ipv4 meta l4proto udp update @mapped { ip daddr . udp sport : ip saddr }",
                "iifname wan0 meta nfproto ipv4 dnat ip to ip saddr . udp dport map @mapped",
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

/// All that a router does to packets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) nat: Nat,
    /// Whether hosts of the LAN reach each other at their outside addresses (RFC 4787 section 6); UDP. Nothing to a
    /// symmetric NAT, which has no address of a host to be reached at.
    pub(super) hairpin: bool,
    /// By which outside ports differ from inside ports (exclusive or), UDP; 0 keeps them.
    pub(super) shift: u16,
    /// How hosts of the LAN may have ports opened: `miniupnpd` does that, in chains of its own.
    pub(super) opens: Option<Opening>,
    /// The outside address.
    pub(super) public: Option<Ipv4Addr>,
}

impl Rules {
    /// The nftables script of a router between `wan0` and `lan0`. It replaces all earlier rules.
    ///
    /// Plain masquerade keeps the port (endpoint-independent in effect) as long as no early packet from outside
    /// has made a conntrack entry; dropping those in `input` prevents that. The cones add a dynamic map from the
    /// outside port to the inside host, filled by what goes out. Ports are shifted before conntrack sees a packet and
    /// after it has last seen it, so that a NAT of any kind keeps a port that is not the host's.
    pub(super) fn script(self) -> String {
        let nat = self.nat;
        let (map, learn, translate) = nat.cone();
        let (hairpin_map, hairpin_learn, hairpin_in, hairpin_out) = self.hairpin_rules();
        let (shift, unshift) = self.shift_rules();
        let (opener, opened_in, opened, opened_out, asked) = self.opener_rules();
        let (input, forward, masquerade) = (nat.input(), nat.forward(), nat.masquerade());
        format!(
            "flush ruleset
table inet lab {{
  {map}
  {hairpin_map}
  {opener}
  chain c_shift {{ type filter hook prerouting priority raw;
    {shift}
  }}
  chain c_pre {{ type nat hook prerouting priority dstnat;
    {hairpin_in}
    {opened_in}
    {translate}
  }}
  chain c_learn {{ type filter hook forward priority filter - 5;
    {learn}
    {hairpin_learn}
  }}
  chain c_forward {{ type filter hook forward priority filter;
    {opened}
    {forward}
  }}
  chain c_input {{ type filter hook input priority filter;
    {asked}
    {input}
  }}
  chain c_post {{ type nat hook postrouting priority srcnat;
    {hairpin_out}
    {opened_out}
    {masquerade}
  }}
  chain c_unshift {{ type filter hook postrouting priority srcnat + 10;
    {unshift}
  }}
}}
"
        )
    }

    /// A map of all that has gone out, its learning, and the translation of destination and source.
    fn hairpin_rules(self) -> (&'static str, &'static str, String, String) {
        let Some(public) = self.public.filter(|_| self.hairpin) else {
            return ("", "", String::new(), String::new());
        };
        (
            "map inside { type inet_service : ipv4_addr; flags dynamic,timeout; timeout 120s; }",
            "iifname lan0 meta nfproto ipv4 meta l4proto udp update @inside { udp sport : ip saddr }",
            format!("iifname lan0 ip daddr {public} meta mark set 1 dnat ip to udp dport map @inside"),
            format!("meta mark 1 oifname lan0 meta nfproto ipv4 snat ip to {public}"),
        )
    }

    /// The chains that `miniupnpd` fills, the ways into them, and a counter of what it is asked: by SSDP, and by NAT-PMP and PCP.
    fn opener_rules(self) -> (&'static str, &'static str, &'static str, &'static str, String) {
        let Some(opening) = self.opens else {
            return ("", "", "", "", String::new());
        };
        (
            "counter asked {}; chain miniupnpd {}; chain prerouting_miniupnpd {}; chain postrouting_miniupnpd {}",
            "jump prerouting_miniupnpd",
            "jump miniupnpd",
            "jump postrouting_miniupnpd",
            format!("iifname lan0 udp dport {{ 1900, 5351 }} counter name asked\n    {}", opening.deafness()),
        )
    }

    fn shift_rules(self) -> (String, String) {
        match self.shift {
            0 => (String::new(), String::new()),
            mask => (
                format!("iifname lan0 meta nfproto ipv4 udp sport set udp sport ^ {mask:#x}"),
                format!("oifname lan0 meta nfproto ipv4 udp dport set udp dport ^ {mask:#x}"),
            ),
        }
    }
}
