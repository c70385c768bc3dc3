//! How a host is to be set up.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Settings;
use crate::addr::Nat64Prefix;

/// The IPv4 packet that becomes an IPv6 packet is 20 octets shorter, and 8 more are left for a Fragment Header.
const OVERHEAD: u32 = 28;

/// The network of the translator's private addresses behind the device: unique local (RFC 4193), and not a network's that
/// anybody would route to.
pub const PRIVATE: Ipv6Addr = Ipv6Addr::new(0xfdc1, 0xa700, 0x464, 0, 0, 0, 0, 0);

/// The private IPv6 address that stands for an IPv4 address of ours.
pub fn private(address: Ipv4Addr) -> Ipv6Addr {
    (PRIVATE.to_bits() | u128::from(address.to_bits())).into()
}

/// How the host is to be set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSetup {
    /// Name and index of the uplink.
    pub uplink: (String, u32),
    /// MTU of the TUN device, in octets: that of the uplink.
    pub mtu: u32,
    /// The IPv4 address of programs, and the translator's own.
    pub addresses: [Ipv4Addr; 2],
    /// Of the PLAT.
    pub prefix: Nat64Prefix,
    /// Our address on the uplink, by which the PLAT knows us.
    pub source: Ipv6Addr,
    /// Whether it is for the CLAT alone, and not the host's.
    pub dedicated: bool,
    /// Whether we are to be found on the uplink by it.
    pub on_link: bool,
    /// Whether programs are to use it.
    pub default_route: bool,
    /// Devices of other CLATs on this host.
    pub others: Vec<String>,
}

impl HostSetup {
    /// Which of the instances on this machine it is: the first has the addresses as configured.
    pub fn instance(&self, settings: &Settings) -> u32 {
        let [host_v4, _] = self.addresses;
        host_v4.to_bits().wrapping_sub(settings.host_v4.to_bits()) & 7
    }

    /// MTU of the IPv4 route, in octets (CL-13).
    pub fn route_mtu(&self, settings: &Settings) -> u32 {
        settings.mtu.unwrap_or(self.mtu - OVERHEAD)
    }
}
