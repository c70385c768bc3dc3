//! The set-up of the host: what it takes for programs to have IPv4.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Settings;
use crate::{addr::Nat64Prefix, link::LinkRef};

/// The octets that an IPv4 packet has to leave: IPv6 makes it 20 longer, a Fragment Header 8 more.
const OVERHEAD: u32 = 28;

/// The network of the translator's private addresses behind the device: unique local (RFC 4193),
/// and no network to which anybody would route.
pub const PRIVATE: Ipv6Addr = Ipv6Addr::new(0xfdc1, 0xa700, 0x464, 0, 0, 0, 0, 0);

/// The private IPv6 address that stands for an IPv4 address of ours.
pub fn private(address: Ipv4Addr) -> Ipv6Addr {
    (PRIVATE.to_bits() | u128::from(address.to_bits())).into()
}

/// The set-up of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSetup {
    /// The uplink.
    pub uplink: LinkRef,
    /// MTU of the TUN device, in octets: that of the uplink.
    pub mtu: u32,
    /// The IPv4 address of programs, and the translator's own.
    pub addresses: [Ipv4Addr; 2],
    /// The NAT64 prefix.
    pub prefix: Nat64Prefix,
    /// The source that packets leave with on the uplink.
    pub source: Ipv6Addr,
    /// Whether the source is the CLAT address, and not the host's.
    pub dedicated: bool,
    /// Whether the source can be used: neighbours find us by it.
    pub on_link: bool,
    /// Whether programs are led to the CLAT by a default route.
    pub default_route: bool,
    /// Devices of other CLATs on this host.
    pub others: Vec<String>,
}

impl HostSetup {
    /// The number of this instance on the machine: the first one has the addresses as configured.
    pub fn instance(&self, settings: &Settings) -> u32 {
        let [host_v4, _] = self.addresses;
        host_v4.to_bits().wrapping_sub(settings.host_v4.to_bits()) & 7
    }

    /// MTU of the IPv4 route, in octets: packets of it fit the uplink also as IPv6 fragments.
    pub fn route_mtu(&self, settings: &Settings) -> u32 {
        settings.mtu.unwrap_or(self.mtu - OVERHEAD)
    }
}
