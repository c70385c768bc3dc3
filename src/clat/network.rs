//! The network of the host, as far as it matters to a CLAT.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::addr::Nat64Prefix;

/// What there is of the network, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Every device but our own.
    pub interfaces: Vec<Interface>,
}

impl Network {
    /// What is known of a device.
    pub fn link(&self, index: u32) -> Option<&Interface> {
        self.interfaces.iter().find(|link| link.index == index)
    }

    /// Whether packets can be sent by a device.
    pub(super) fn is_running(&self, index: u32) -> bool {
        self.link(index).is_some_and(|link| link.running)
    }

    /// Whether a prefix has a network of this host in it, or is in one: then it is nobody's NAT64.
    pub(super) fn has(&self, prefix: &Nat64Prefix) -> bool {
        let prefix = prefix.prefix();
        let mut addresses = self.interfaces.iter().flat_map(|link| &link.addresses);
        addresses.any(|own| {
            let shortest = u32::from(own.length.min(prefix.length()));
            let differs = own.address.to_bits() ^ prefix.address().to_bits();
            differs.leading_zeros() >= shortest
        })
    }

    /// By which packets go to the NAT64: the device of this name, or that of the best IPv6 default route.
    pub(super) fn uplink(&self, name: Option<&str>) -> Option<&Interface> {
        let links = self.interfaces.iter().filter(|link| link.running);
        match name {
            Some(name) => links
                .filter(|link| link.default_v6.is_some())
                .find(|link| link.name == name),
            None => links
                .filter_map(|link| Some((link.default_v6?, link)))
                // A tunnel may be one that needs us.
                .min_by_key(|(metric, link)| (link.is_tunnel(), *metric, link.index))
                .map(|(_, link)| link),
        }
    }

    /// A device with native IPv4. One that a tunnel leads to is none: it may be one that needs us.
    pub(super) fn native(&self) -> Option<&Interface> {
        let mut links = self.interfaces.iter();
        links.find(|link| link.running && link.default_v4 && !link.is_tunnel())
    }

    /// A device with another CLAT for the same uplink: NetworkManager's has its address there, systemd-networkd's on a
    /// device that it names after it.
    pub(super) fn another_clat(&self, uplink: &Interface) -> Option<&Interface> {
        let name = format!("cl-{}", uplink.name);
        let mut links = self.interfaces.iter();
        links.find(|link| {
            (link.index == uplink.index || link.name == name) && !link.clat_addresses.is_empty()
        })
    }

    /// Devices of CLATs, by name. A tunnel of another kind with such an address is that of a
    /// DS-Lite B4 (RFC 6333 section 5.7).
    pub(super) fn other_clats(&self) -> Vec<String> {
        let links = self.interfaces.iter();
        let clats = links.filter(|link| link.kind == "tun" && !link.clat_addresses.is_empty());
        clats.map(|link| link.name.clone()).collect()
    }

    /// Two addresses for a CLAT: those that are wanted, or the next two of 192.0.0.0/29 of which nobody else has one (CL-11):
    /// the translator's is on no device, but belongs to the other one.
    pub(super) fn free_addresses(&self, wanted: [Ipv4Addr; 2]) -> Option<[Ipv4Addr; 2]> {
        let links = self.interfaces.iter();
        let taken: Vec<_> = links.flat_map(|link| &link.clat_addresses).collect();
        let all = [wanted].into_iter().chain(CONTINUITY);
        let mut free = all.filter(|pair| !pair.iter().any(|one| taken.contains(&one)));
        free.next()
    }
}

/// A network device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Does not change while it exists.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether packets can be sent.
    pub running: bool,
    /// In octets.
    pub mtu: u32,
    /// Its link-layer address, if it has one as Ethernet has.
    pub mac: Option<[u8; 6]>,
    /// Its kind, by the kernel's name for it (IFLA_INFO_KIND); physical devices have none.
    pub kind: String,
    /// Those that are not link-local.
    pub addresses: Vec<Address>,
    /// Metric of its best IPv6 default route.
    pub default_v6: Option<u32>,
    /// Whether it has an IPv4 default route with a gateway.
    pub default_v4: bool,
    /// IPv4 addresses that are for CLATs ([`is_clat_address`]).
    pub clat_addresses: Vec<Ipv4Addr>,
}

impl Interface {
    /// Whether it leads to something that is reached through another device.
    pub(super) fn is_tunnel(&self) -> bool {
        TUNNELS.contains(&self.kind.as_str())
    }
}

/// Every kind of device that carries packets within packets of another one, by the kernel's name
/// for it. A PPP device is none: it is how many an access network is reached.
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

/// Whether it is of 192.0.0.0/29, the IPv4 Service Continuity Prefix (RFC 7335).
pub fn is_clat_address(address: Ipv4Addr) -> bool {
    CONTINUITY.as_flattened().contains(&address)
}

/// Every address of 192.0.0.0/29 that a host can have: two for each CLAT.
const CONTINUITY: [[Ipv4Addr; 2]; 3] = [
    [Ipv4Addr::new(192, 0, 0, 1), Ipv4Addr::new(192, 0, 0, 2)],
    [Ipv4Addr::new(192, 0, 0, 3), Ipv4Addr::new(192, 0, 0, 4)],
    [Ipv4Addr::new(192, 0, 0, 5), Ipv4Addr::new(192, 0, 0, 6)],
];

/// An IPv6 address of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Not link-local.
    pub address: Ipv6Addr,
    /// Of its prefix, in bits.
    pub length: u8,
    /// Whether it is not for new connections any more.
    pub deprecated: bool,
    /// Whether it is one of those that change every day (RFC 8981).
    pub temporary: bool,
    /// Whether it is not known yet that no other host has it (RFC 4862 section 5.4).
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

/// The address that is best for the NAT64 (RFC 6724 section 5): of the same kind (unique local or not), not deprecated, one
/// that stays, with the longest common prefix.
pub(super) fn best<'a>(
    addresses: impl Iterator<Item = &'a Address>,
    prefix: Nat64Prefix,
) -> Option<&'a Address> {
    let to = prefix.prefix().address();
    let is_local = |address: Ipv6Addr| address.octets()[0] & 0xfe == 0xfc;
    addresses.max_by_key(|one| {
        (
            is_local(one.address) == is_local(to),
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
