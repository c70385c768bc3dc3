//! The network of the host, as far as it matters to a CLAT.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::addr::Nat64Prefix;

/// What there is of the network, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Every device but our own.
    pub links: Vec<Link>,
}

/// A network device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
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
    /// Whether it leads to something that is reached through another device: a TUN, TAP, WireGuard device, a tunnel.
    pub is_tunnel: bool,
    /// Those that are not link-local.
    pub addresses: Vec<Address>,
    /// Metric of its best IPv6 default route.
    pub default_v6: Option<u32>,
    /// Whether it has an IPv4 default route with a gateway.
    pub default_v4: bool,
    /// IPv4 addresses that are for CLATs ([`is_clat_address`]).
    pub clat_addresses: Vec<Ipv4Addr>,
}

/// Whether it is of 192.0.0.0/29, the IPv4 Service Continuity Prefix (RFC 7335).
pub fn is_clat_address(address: Ipv4Addr) -> bool {
    CONTINUITY.as_flattened().contains(&address)
}

/// Every address of 192.0.0.0/29 that a host can have: two for each CLAT.
pub(super) const CONTINUITY: [[Ipv4Addr; 2]; 3] = [
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
