//! The set-up of the host: what it takes for programs to have IPv4.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{NextHop, Settings, is_clat_address};
use crate::{
    addr::{Nat64Prefix, Prefix4},
    link::LinkRef,
};

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
    /// How packets get from the translator to the uplink, and back.
    pub way: Way,
    /// Whether the source can be used: neighbours find us by it.
    pub on_link: bool,
    /// Whether programs are led to the CLAT by a default route.
    pub default_route: bool,
    /// Priority of the rule of our IPv4 address: before those of others.
    pub rule_priority: u32,
    /// The metric of a default route that leads nowhere, and is not to be used.
    pub link_local_default: Option<u32>,
    /// The IPv4 networks of the host's links.
    pub links_v4: Vec<Prefix4>,
    /// Devices of other CLATs on this host.
    pub others: Vec<String>,
}

/// The way of IPv6 packets between the translator and the uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// A packet socket on the uplink, for the CLAT address: no route, rule or firewall of the host
    /// has a say. Packets are sent to this next hop.
    Direct(NextHop),
    /// Forwarding by the kernel, for the CLAT address.
    Forwarded(Forwarding),
    /// Forwarding by the kernel, which translates private addresses to the host's.
    Shared(Forwarding),
}

/// How the kernel forwards between the TUN device and the uplink, whatever is routed elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwarding {
    /// The router of the uplink, if it has one.
    pub router: Option<Ipv6Addr>,
    /// Priority of the IPv6 rules: before those of others.
    pub rule_priority: u32,
}

impl Way {
    /// Whether the source is the CLAT address, and not the host's.
    pub fn is_dedicated(&self) -> bool {
        !matches!(self, Self::Shared(_))
    }

    /// Whether the kernel forwards: routes, rules and firewalls of the host decide then.
    pub fn is_forwarded(&self) -> bool {
        !matches!(self, Self::Direct(_))
    }
}

impl HostSetup {
    /// The number of this instance on the machine, by its place in 192.0.0.0/29; one with other
    /// addresses is the first one.
    pub fn instance(&self) -> u32 {
        let [host_v4, _] = self.addresses;
        let [.., last] = host_v4.octets();
        match is_clat_address(host_v4) {
            true => u32::from(last.saturating_sub(1)),
            false => 0,
        }
    }

    /// The routing table of this instance: others on this host have their own. A table that was
    /// configured belongs to the addresses that were.
    pub fn table(&self, settings: &Settings) -> u32 {
        let [host_v4, _] = self.addresses;
        let is_as_configured = host_v4 == settings.host_v4;
        if is_as_configured && settings.table != Settings::default().table {
            return settings.table;
        }
        settings.table.saturating_add(self.instance())
    }

    /// The link and the address for which solicitations of neighbours are to be answered, since the
    /// kernel does not know the address.
    pub fn answers_for(&self) -> Option<(u32, Ipv6Addr)> {
        (self.way.is_dedicated() && self.on_link).then_some((self.uplink.index, self.source))
    }

    /// Metric of the IPv4 default route of programs: the configured one, or one that is better
    /// than that of a default route that leads nowhere.
    pub fn metric(&self, settings: &Settings) -> u32 {
        /// More than instances can differ by.
        const ROOM: u32 = 8;
        if settings.replaces {
            return 0;
        }
        let instance = self.instance();
        let metric = settings.metric.saturating_add(instance);
        match self.link_local_default {
            Some(other @ ROOM..) if other <= metric => other - ROOM + instance,
            _ => metric,
        }
    }

    /// MTU of the IPv4 route, in octets: packets of it fit the uplink also as IPv6 fragments.
    pub fn route_mtu(&self, settings: &Settings) -> u32 {
        settings.mtu.unwrap_or(self.mtu - OVERHEAD)
    }
}
