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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;
    use crate::clat::prefix::nat64;

    fn setup(host_v4: [u8; 4]) -> HostSetup {
        let source = "2001:db8::2".parse().unwrap();
        HostSetup {
            uplink: LinkRef::new(2, "eth0"),
            mtu: 1500,
            addresses: [host_v4.into(), [192, 0, 0, 9].into()],
            prefix: nat64("64:ff9b::".parse().unwrap(), 96).unwrap(),
            source,
            way: Way::Direct(NextHop::Peer),
            on_link: true,
            default_route: true,
            rule_priority: 1,
            link_local_default: None,
            links_v4: Vec::new(),
            others: Vec::new(),
        }
    }

    /// Instances on one machine do not collide: each has a table and a metric of its own, by its
    /// address of 192.0.0.0/29 (RFC 7335). A configured table is for the configured addresses.
    #[test]
    fn instances_have_tables_and_metrics_of_their_own() {
        let settings = Settings::default();
        let configured = Settings {
            table: 100,
            ..Settings::default()
        };
        for (host_v4, instance, in_configured) in [
            ([192, 0, 0, 1], 0, 100),
            ([192, 0, 0, 3], 2, 102),
            ([192, 0, 0, 5], 4, 104),
            ([192, 0, 2, 5], 0, 100),
        ] {
            let setup = setup(host_v4);
            assert_eq!(setup.instance(), instance, "{host_v4:?}");
            assert_eq!(setup.table(&settings), 0xc1a7 + instance);
            assert_eq!(setup.table(&configured), in_configured, "{host_v4:?}");
            assert_eq!(setup.metric(&settings), 2048 + instance);
        }
        let third = Settings {
            host_v4: [192, 0, 0, 3].into(),
            table: 100,
            ..Settings::default()
        };
        assert_eq!(setup([192, 0, 0, 3]).table(&third), 100);
    }

    /// RFC 3927: a default route that leads nowhere is worse than that of each instance, which
    /// keep their order; unless it is worse already, or there is no room before it.
    #[test]
    fn the_metric_goes_before_a_default_route_that_leads_nowhere() {
        let settings = Settings::default();
        for (other, first, third) in [
            (1003, 995, 997),
            (2048, 2040, 2042),
            (2049, 2048, 2042 + 1),
            (3000, 2048, 2050),
            (8, 0, 2),
            (7, 2048, 2050),
        ] {
            for (last, expected) in [(1, first), (3, third)] {
                let setup = HostSetup {
                    link_local_default: Some(other),
                    ..setup([192, 0, 0, last])
                };
                assert_eq!(setup.metric(&settings), expected, "{other} {last}");
            }
        }
        let replaces = Settings {
            replaces: true,
            ..Settings::default()
        };
        assert_eq!(setup([192, 0, 0, 3]).metric(&replaces), 0);
    }

    /// The kernel answers for the host's addresses, and we for ours while it is in use.
    #[test]
    fn neighbours_are_answered_for_the_clat_address() {
        let forwarding = Forwarding {
            router: None,
            rule_priority: 1,
        };
        for (way, on_link, answers) in [
            (Way::Direct(NextHop::Peer), true, true),
            (Way::Direct(NextHop::Peer), false, false),
            (Way::Forwarded(forwarding), true, true),
            (Way::Shared(forwarding), true, false),
        ] {
            let setup = HostSetup {
                way,
                on_link,
                ..setup([192, 0, 0, 1])
            };
            let expected = answers.then_some((2, setup.source));
            assert_eq!(setup.answers_for(), expected, "{:?} {on_link}", setup.way);
            let is_direct = matches!(setup.way, Way::Direct(_));
            assert_eq!(setup.way.is_forwarded(), !is_direct);
        }
    }

    /// `v4-defaultroute-mtu`; otherwise packets fit with an IPv6 header and a Fragment Header (RFC
    /// 7915 section 1.4).
    #[test]
    fn packets_of_the_route_fit_the_uplink() {
        let setup = setup([192, 0, 0, 1]);
        assert_eq!(setup.route_mtu(&Settings::default()), 1500 - 40 + 20 - 8);
        let mtu = Some(1260);
        let settings = Settings {
            mtu,
            ..Settings::default()
        };
        assert_eq!(setup.route_mtu(&settings), 1260);
    }

    /// An IPv4 address is the end of its private one.
    #[test]
    fn private_addresses_stand_for_ipv4_addresses() {
        let address = private([192, 0, 0, 1].into());
        assert_eq!(address.to_string(), "fdc1:a700:464::c000:1");
    }
}
