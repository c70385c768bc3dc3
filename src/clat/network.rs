//! The network of the host, as far as it matters to a CLAT.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{
    NextHop,
    ipv6_route::{Ipv6Route, Lead},
};
use crate::addr::{Nat64Prefix, Prefix4};

/// The network of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Every network interface but our own.
    pub interfaces: Vec<Interface>,
    /// The priorities of the first routing rules of others, for IPv4 and IPv6. The kernel's for
    /// the host's own addresses, which none can go before, is not one of them.
    pub first_rules: FirstRules,
}

/// The priorities of the first routing rules: the lowest goes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FirstRules {
    /// For IPv4; `None` if there is none.
    pub v4: Option<u32>,
    /// For IPv6; `None` if there is none.
    pub v6: Option<u32>,
}

impl Network {
    /// The interface with this index.
    pub fn interface(&self, index: u32) -> Option<&Interface> {
        self.interfaces.iter().find(|one| one.index == index)
    }

    /// Whether packets can be sent by an interface.
    pub(super) fn is_running(&self, index: u32) -> bool {
        self.interface(index).is_some_and(|one| one.running)
    }

    /// Whether packets could be sent by an interface all the time since it was as in `before`: a
    /// carrier that was lost for a moment may lead to another network.
    pub(super) fn has_stayed(&self, index: u32, before: &Self) -> bool {
        let downs = |network: &Self| network.interface(index).map(|one| one.carrier_downs);
        self.is_running(index) && downs(before).is_none_or(|before| downs(self) == Some(before))
    }

    /// Whether a prefix overlaps with a network of this host: then it is no NAT64 prefix.
    pub(super) fn overlaps(&self, prefix: &Nat64Prefix) -> bool {
        let prefix = prefix.prefix();
        let mut addresses = self.interfaces.iter().flat_map(|one| &one.addresses);
        addresses.any(|own| {
            let shortest = u32::from(own.length.min(prefix.length()));
            let differs = own.address.to_bits() ^ prefix.address().to_bits();
            differs.leading_zeros() >= shortest
        })
    }

    /// The possible uplinks, the best first: the interface of this name, or else those with a route
    /// that may lead to a NAT64 with one of these prefixes. Among equals, the one with the index
    /// `current` is best.
    pub(super) fn uplinks(
        &self,
        name: Option<&str>,
        prefixes: &[Nat64Prefix],
        current: Option<u32>,
    ) -> Vec<&Interface> {
        let running = self.interfaces.iter().filter(|one| one.running);
        let mut uplinks: Vec<_> = running
            .filter_map(|one| {
                let lead = match name {
                    Some(name) if name != one.name => None,
                    Some(_) => one.lead(prefixes).or(Some((Lead::Name, 0, 0))),
                    // Who routes to a tunnel by a table of its own may carry it over the CLAT.
                    None => one
                        .lead(prefixes)
                        .filter(|(lead, ..)| !one.is_tunnel() || *lead != Lead::OtherTable),
                };
                Some((one, lead?))
            })
            .collect();
        uplinks.sort_by_key(|(one, lead)| {
            let is_other = Some(one.index) != current;
            (one.is_tunnel(), *lead, is_other, one.index)
        });
        // A tunnel may run over the CLAT.
        if uplinks.first().is_some_and(|(best, _)| !best.is_tunnel()) {
            uplinks.retain(|(one, _)| !one.is_tunnel());
        }
        uplinks.into_iter().map(|(one, _)| one).collect()
    }

    /// An interface with native IPv4. A tunnel has none: it may run over the CLAT.
    pub(super) fn native(&self) -> Option<&Interface> {
        let mut interfaces = self.interfaces.iter();
        interfaces.find(|one| one.running && one.default_v4 && !one.is_tunnel())
    }

    /// The IPv4 networks of the host's links, in order: nobody there is behind a NAT64.
    pub(super) fn links_v4(&self) -> Vec<Prefix4> {
        let mut networks: Vec<_> = self
            .interfaces
            .iter()
            .flat_map(|one| &one.networks_v4)
            .collect();
        let is_clats = |one: &Prefix4| CONTINUITY.as_flattened().iter().any(|ip| one.contains(*ip));
        networks.retain(|one| matches!(one.length(), 1..=31) && !is_clats(one));
        networks.sort_by_key(|one| (one.address(), one.length()));
        networks.dedup();
        networks.into_iter().copied().collect()
    }

    /// The metric of an IPv4 default route that leads nowhere: by a link of which the host knows
    /// nothing but link-local addresses (RFC 3927), as programs that assign these add it.
    pub(super) fn link_local_default(&self) -> Option<u32> {
        let is_link_local = |one: &Prefix4| one.address().is_link_local();
        let interfaces = self.interfaces.iter().filter(|one| {
            let networks = &one.networks_v4;
            !networks.is_empty() && networks.iter().all(is_link_local)
        });
        interfaces.filter_map(|one| one.on_link_default_v4).min()
    }

    /// An interface of another CLAT for the same uplink: NetworkManager's has its address on the
    /// uplink, systemd-networkd's on a device named after it.
    pub(super) fn another_clat(&self, uplink: &Interface) -> Option<&Interface> {
        let name = format!("cl-{}", uplink.name);
        let mut interfaces = self.interfaces.iter();
        interfaces.find(|one| {
            (one.index == uplink.index || one.name == name) && !one.clat_addresses.is_empty()
        })
    }

    /// Devices of other CLATs, by name. A tunnel of another kind with such an address is that of a
    /// DS-Lite B4 (RFC 6333 section 5.7).
    pub(super) fn other_clats(&self) -> Vec<String> {
        let interfaces = self.interfaces.iter();
        let clats = interfaces.filter(|one| one.kind == "tun" && !one.clat_addresses.is_empty());
        clats.map(|one| one.name.clone()).collect()
    }

    /// Two addresses for a CLAT: the wanted ones, or the next two of 192.0.0.0/29 of which no other
    /// interface has one (RFC 7335). A translator's own address is on no interface, but comes with
    /// the other one of its pair.
    pub(super) fn free_addresses(&self, wanted: [Ipv4Addr; 2]) -> Option<[Ipv4Addr; 2]> {
        let interfaces = self.interfaces.iter();
        let taken: Vec<_> = interfaces.flat_map(|one| &one.clat_addresses).collect();
        let all = [wanted].into_iter().chain(CONTINUITY);
        let mut free = all.filter(|pair| !pair.iter().any(|one| taken.contains(&one)));
        free.next()
    }
}

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its index, which stays while it exists.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether packets can be sent by it.
    pub running: bool,
    /// How often its carrier was lost (IFLA_CARRIER_DOWN_COUNT).
    pub carrier_downs: u32,
    /// Its MTU, in octets.
    pub mtu: u32,
    /// Its link-layer address, if that is one as of Ethernet.
    pub mac: Option<[u8; 6]>,
    /// The header before each packet on its link.
    pub link_layer: LinkLayer,
    /// Its kind, as the kernel names it (IFLA_INFO_KIND); empty for physical devices.
    pub kind: String,
    /// Its IPv6 addresses that are not link-local.
    pub addresses: Vec<Address>,
    /// Its IPv6 routes that may lead to a NAT64 ([`may_lead`](super::may_lead)).
    pub routes_v6: Vec<Ipv6Route>,
    /// Whether it has an IPv4 default route with a gateway.
    pub default_v4: bool,
    /// The metric of its best IPv4 default route without a gateway.
    pub on_link_default_v4: Option<u32>,
    /// The networks of its IPv4 addresses.
    pub networks_v4: Vec<Prefix4>,
    /// Its IPv4 addresses that are for CLATs ([`is_clat_address`]).
    pub clat_addresses: Vec<Ipv4Addr>,
}

/// The link layer of an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkLayer {
    /// Ethernet, or what looks like it, as Wi-Fi does. Neighbours are resolved.
    #[default]
    Ethernet,
    /// Ethernet by its form, but neighbours are not resolved (NOARP).
    EthernetWithoutNeighbours,
    /// No header: WWAN and others with one peer.
    Bare,
    /// Another one.
    Other,
}

impl Interface {
    /// Why it may be the uplink by its routes, and how good the best of them is: the least is best.
    pub(super) fn lead(&self, prefixes: &[Nat64Prefix]) -> Option<(Lead, u32, i8)> {
        let routes = self.routes_v6.iter();
        let leads = routes.filter_map(|one| {
            let lead = one.lead(prefixes)?;
            Some((lead, one.metric, -one.preference))
        });
        leads.min()
    }

    /// Whether packets are sent to a router by its link-layer address.
    pub(super) fn needs_router(&self) -> bool {
        !matches!(
            self.link_layer,
            LinkLayer::Bare | LinkLayer::EthernetWithoutNeighbours
        )
    }

    /// Where packets are to be sent to by a packet socket, if to a router, then to one of these.
    /// `None` if one cannot serve.
    pub(super) fn next_hop(&self, routers: &[Ipv6Addr]) -> Option<NextHop> {
        match (self.link_layer, self.mac) {
            (LinkLayer::Bare, _) => Some(NextHop::Peer),
            (LinkLayer::EthernetWithoutNeighbours, Some(mac)) => Some(NextHop::Unresolved(mac)),
            (LinkLayer::Ethernet, Some(mac)) => {
                let routers = routers.to_vec();
                (!routers.is_empty()).then_some(NextHop::Router { mac, routers })
            }
            _ => None,
        }
    }

    /// Whether it carries packets within packets of another interface.
    pub fn is_tunnel(&self) -> bool {
        TUNNELS.contains(&self.kind.as_str())
    }

    /// The best source for the NAT64 among its usable addresses (RFC 6724 section 5). `ours`, which
    /// may be on it to be tested, does not count.
    pub(super) fn best_source(
        &self,
        prefix: Nat64Prefix,
        ours: Option<Ipv6Addr>,
    ) -> Option<Ipv6Addr> {
        let usable = self.addresses_but(ours).filter(|one| one.is_usable());
        best(usable, prefix).map(|one| one.address)
    }

    /// Its addresses, without `ours`.
    pub(super) fn addresses_but(&self, ours: Option<Ipv6Addr>) -> impl Iterator<Item = &Address> {
        let addresses = self.addresses.iter();
        addresses.filter(move |one| Some(one.address) != ours)
    }
}

/// Kinds of devices that carry packets within packets of another one, as the kernel names them. PPP
/// is not one of them: it is the way to many access networks.
const TUNNELS: [&str; 22] = [
    "amt",
    "bareudp",
    "erspan",
    "geneve",
    "gre",
    "gretap",
    "gtp",
    "ip6erspan",
    "ip6gre",
    "ip6gretap",
    "ip6tnl",
    "ipip",
    "ovpn",
    "ovpn-dco", // of OpenVPN, before the kernel had it
    "sit",
    "tun", // also TAP
    "vti",
    "vti6",
    "vxlan",
    "wireguard",
    "amneziawg", // a WireGuard that is not in the kernel
    "xfrm",
];

/// Whether an address is in 192.0.0.0/29, the IPv4 Service Continuity Prefix (RFC 7335).
pub fn is_clat_address(address: Ipv4Addr) -> bool {
    CONTINUITY.as_flattened().contains(&address)
}

/// The addresses of 192.0.0.0/29 that a host can have: two for each CLAT.
const CONTINUITY: [[Ipv4Addr; 2]; 3] = [
    [Ipv4Addr::new(192, 0, 0, 1), Ipv4Addr::new(192, 0, 0, 2)],
    [Ipv4Addr::new(192, 0, 0, 3), Ipv4Addr::new(192, 0, 0, 4)],
    [Ipv4Addr::new(192, 0, 0, 5), Ipv4Addr::new(192, 0, 0, 6)],
];

/// An IPv6 address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address; not link-local.
    pub address: Ipv6Addr,
    /// The length of its prefix, in bits.
    pub length: u8,
    /// Whether its preferred lifetime is over: it is not for new connections.
    pub deprecated: bool,
    /// Whether it is a temporary one (RFC 8981).
    pub temporary: bool,
    /// Whether duplicate address detection is not over yet (RFC 4862 section 5.4).
    pub tentative: bool,
    /// Whether another host has it.
    pub duplicate: bool,
}

impl Address {
    /// Whether packets can be sent from it.
    pub fn is_usable(&self) -> bool {
        !self.tentative && !self.duplicate
    }
}

/// The best source for the NAT64 (RFC 6724 section 5): of the same kind (unique local or not), not
/// deprecated, not temporary, with the longest common prefix.
pub(super) fn best<'a>(
    addresses: impl Iterator<Item = &'a Address>,
    prefix: Nat64Prefix,
) -> Option<&'a Address> {
    let to = prefix.prefix().address();
    addresses.max_by_key(|one| {
        (
            one.address.is_unique_local() == to.is_unique_local(),
            !one.deprecated,
            !one.temporary,
            (one.address.to_bits() ^ to.to_bits()).leading_zeros(),
        )
    })
}

/// The first 64 bits.
pub(super) fn network_of(address: Ipv6Addr) -> Ipv6Addr {
    (address.to_bits() >> 64 << 64).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    fn network(interface: Interface) -> Network {
        Network {
            interfaces: vec![interface],
            ..Network::default()
        }
    }

    /// RFC 7335: a TUN device with an address of 192.0.0.0/29 is that of a CLAT. A DS-Lite B4 has
    /// such an address as well (RFC 6333 section 5.7), on a tunnel of IPv4 in IPv6.
    #[test]
    fn devices_of_other_clats_have_an_address_for_clats() {
        for (kind, last, is_clat) in [
            ("tun", Some(1), true),
            ("tun", None, false),
            ("ip6tnl", Some(2), false),
            ("", None, false),
        ] {
            let name = "other".to_owned();
            let expected = is_clat.then(|| name.clone());
            let address = last.map(|last| Ipv4Addr::new(192, 0, 0, last));
            let other = network(Interface {
                name,
                kind: kind.to_owned(),
                clat_addresses: address.into_iter().collect(),
                ..Interface::default()
            });
            assert_eq!(other.other_clats(), expected.as_slice(), "{kind} {last:?}");
        }
    }

    /// RFC 3927: link-local addresses only, and not none at all: links may be unnumbered.
    #[test]
    fn a_default_route_by_link_local_addresses_leads_nowhere() {
        for (networks, expected) in [
            (&[][..], None),
            (&["169.254.7.0/24"][..], Some(5)),
            (&["198.51.100.0/24"][..], None),
            (&["169.254.7.0/24", "198.51.100.0/24"][..], None),
        ] {
            let network = network(Interface {
                networks_v4: networks.iter().map(|one| one.parse().unwrap()).collect(),
                on_link_default_v4: Some(5),
                ..Interface::default()
            });
            assert_eq!(network.link_local_default(), expected, "{networks:?}");
        }
    }

    /// A packet socket needs to know where packets go.
    #[test]
    fn where_there_is_no_next_hop_the_kernel_forwards() {
        const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
        const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
        let to_router = NextHop::Router {
            mac: MAC,
            routers: vec![ROUTER],
        };
        for (link_layer, mac, router, expected) in [
            (
                LinkLayer::Ethernet,
                Some(MAC),
                Some(ROUTER),
                Some(to_router),
            ),
            (LinkLayer::Ethernet, Some(MAC), None, None),
            (LinkLayer::Ethernet, None, Some(ROUTER), None),
            (
                LinkLayer::EthernetWithoutNeighbours,
                Some(MAC),
                None,
                Some(NextHop::Unresolved(MAC)),
            ),
            (LinkLayer::Bare, None, None, Some(NextHop::Peer)),
            (LinkLayer::Other, Some(MAC), Some(ROUTER), None),
        ] {
            let interface = Interface {
                link_layer,
                mac,
                ..Interface::default()
            };
            let next_hop = interface.next_hop(router.as_slice());
            assert_eq!(next_hop, expected, "{link_layer:?}");
        }
    }
}
