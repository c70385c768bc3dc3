//! Resources of the system that a plan wants to be there, and what takes each of them back.

use std::{fmt, net::Ipv6Addr};

use super::{Before, NextHopObject, Route, Rule, Sysctl, Table, conf_path};
use crate::{addr::IpPrefix, config::is_name_format, link::LinkRef};

/// Something that is to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// The TUN device: an existing one of this name, or a new one.
    Device {
        /// Its name, or a [format](is_name_format) of it.
        name: String,
    },
    /// A device that is administratively up.
    LinkUp(LinkRef),
    /// The length of a device's transmit queue, in packets.
    QueueLength(LinkRef, u32),
    /// The MTU of a device, in octets.
    Mtu(LinkRef, u32),
    /// An address of a device; its prefix length also makes a route to the neighbours.
    Address(LinkRef, IpPrefix),
    /// An address that no program uses, for the kernel to detect a duplicate (RFC 4862).
    TestAddress(LinkRef, Ipv6Addr),
    /// A next hop, before its routes.
    NextHopObject(NextHopObject),
    /// A route.
    Route(Route),
    /// A routing rule.
    Rule(Rule),
    /// A setting of the kernel.
    Sysctl(Sysctl),
    /// IPv6 forwarding between all devices, for kernels that cannot forward by device. Whether a
    /// device is a host's or a router's stays as it is.
    Forwarding,
    /// A rule of ufw(8) that lets pass what is forwarded from one device to another.
    UfwRule {
        /// The device that packets come in by.
        from: String,
        /// The device that they leave by.
        to: String,
    },
    /// A table of nftables.
    Ruleset {
        /// Its name.
        name: Table,
        /// Its chains, in the language of nft(8).
        text: String,
    },
}

/// What takes a resource back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undo {
    /// Sets a device administratively down.
    SetDown(LinkRef),
    /// Sets a queue to its length of before, in packets.
    RestoreQueueLength(LinkRef, u32),
    /// Removes an address.
    RemoveAddress(LinkRef, IpPrefix),
    /// Removes a next hop, which nothing leads to any more.
    RemoveNextHopObject(NextHopObject),
    /// Removes a route.
    RemoveRoute(Route),
    /// Removes a routing rule.
    RemoveRule(Rule),
    /// Sets a setting back to its value of before, if it still has the value that was set.
    RestoreSysctl {
        /// As it was set.
        set: Sysctl,
        /// Its value before that.
        before: String,
    },
    /// Ends the forwarding of IPv6, unless another program has made a router of a device since.
    StopForwarding {
        /// Devices that were routers before.
        routers: Vec<String>,
    },
    /// Deletes a rule of ufw(8).
    DeleteUfwRule {
        /// As it was added.
        from: String,
        /// As it was added.
        to: String,
    },
    /// Deletes a table of nftables.
    DeleteRuleset(Table),
}

impl Resource {
    /// What takes the resource back, given what was there before. `None` for the TUN device, which
    /// goes with its descriptor and takes addresses and routes along, unless it is persistent; and
    /// for a value that cannot be restored since it is not known.
    pub fn undo(&self, before: Before) -> Option<Undo> {
        Some(match (self.clone(), before) {
            (Self::LinkUp(link), _) => Undo::SetDown(link),
            (Self::QueueLength(link, _), Before::QueueLength(length)) => {
                Undo::RestoreQueueLength(link, length)
            }
            (Self::Address(link, address), _) => Undo::RemoveAddress(link, address),
            (Self::TestAddress(link, address), _) => {
                Undo::RemoveAddress(link, IpPrefix::V6(address, 128))
            }
            (Self::NextHopObject(next_hop), _) => Undo::RemoveNextHopObject(next_hop),
            (Self::Route(route), _) => Undo::RemoveRoute(route),
            (Self::Rule(rule), _) => Undo::RemoveRule(rule),
            (Self::Sysctl(set), Before::Value(before)) => Undo::RestoreSysctl { set, before },
            (Self::Forwarding, Before::NotForwarding(routers)) => Undo::StopForwarding { routers },
            (Self::UfwRule { from, to }, _) => Undo::DeleteUfwRule { from, to },
            (Self::Ruleset { name, .. }, _) => Undo::DeleteRuleset(name),
            (
                Self::Device { .. }
                | Self::QueueLength(..)
                | Self::Mtu(..)
                | Self::Sysctl(_)
                | Self::Forwarding,
                _,
            ) => return None,
        })
    }

    /// Whether this one is there once the other one is applied: there is one TUN device, and the
    /// kernel may have given it another name.
    pub fn is_met_by(&self, applied: &Self) -> bool {
        match (self, applied) {
            (Self::Device { .. }, Self::Device { .. }) => true,
            _ => self == applied,
        }
    }

    /// Whether applying this resource replaces another one, which needs no undo before.
    pub fn replaces(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Ruleset { name, .. }, Self::Ruleset { name: other, .. }) => name == other,
            // The device may have been renamed: its settings stay.
            (Self::Sysctl(set), Self::Sysctl(other)) => set.is_same(other),
            (Self::Route(route), Self::Route(other)) => route.replaces(other),
            _ => false,
        }
    }

    /// Whether the device needs IPv6 for it.
    pub fn needs_ipv6(&self) -> bool {
        let address = match self {
            Self::Address(_, address) => address,
            Self::Route(route) => &route.destination,
            _ => return false,
        };
        matches!(address, IpPrefix::V6(..))
    }

    /// The command by which an administrator applies it (ip(8)).
    pub fn command(&self) -> String {
        self.words().1
    }

    /// What is done, in the imperative, and the command for it.
    fn words(&self) -> (String, String) {
        match self {
            Self::Device { name } => (
                match is_name_format(name) {
                    true => format!("create {name}, with a number from the kernel"),
                    false => format!("attach to {name}, or create it"),
                },
                format!("ip tuntap add dev {name} mode tun"),
            ),
            Self::LinkUp(link) => (
                format!("set {link} up"),
                format!("ip link set dev {link} up"),
            ),
            Self::QueueLength(link, packets) => (
                format!("set the queue length of {link} to {packets}"),
                format!("ip link set dev {link} txqueuelen {packets}"),
            ),
            Self::Mtu(link, octets) => (
                format!("set the MTU of {link} to {octets}"),
                format!("ip link set dev {link} mtu {octets}"),
            ),
            Self::Address(link, address) => (
                format!("add address {address} to {link}"),
                format!("ip address add {address} dev {link}"),
            ),
            Self::TestAddress(link, address) => (
                format!("add address {address} to {link} for a test"),
                format!("ip address add {address}/128 dev {link} preferred_lft 0 noprefixroute"),
            ),
            Self::NextHopObject(NextHopObject { id, link }) => (
                format!("add next hop {id} to {link}"),
                format!("ip nexthop add id {id} dev {link}"),
            ),
            Self::Route(route) => (
                format!("route {route}"),
                format!("ip route add {}", route.arguments()),
            ),
            Self::Rule(rule) => (format!("add rule {rule}"), format!("ip rule add {rule}")),
            Self::Sysctl(sysctl) => (
                format!("set {} to {}", sysctl.path(), sysctl.value),
                format!("sysctl -w {}={}", sysctl.path(), sysctl.value),
            ),
            Self::Forwarding => (
                "forward IPv6 between all devices".to_owned(),
                format!("sysctl -w {}=1", conf_path("all", "forwarding")),
            ),
            Self::UfwRule { from, to } => (
                format!("allow forwarding from {from} to {to} in ufw"),
                format!("ufw route prepend allow in on {from} out on {to}"),
            ),
            Self::Ruleset { name, .. } => (
                format!("load the nftables table {name}"),
                format!("nft list table {name}"),
            ),
        }
    }
}

impl fmt::Display for Resource {
    /// For people, in the imperative: `add address 192.0.2.1/24 to nat64`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words().0)
    }
}

impl Undo {
    /// Whether several CLATs may need what this would take away.
    pub fn is_shared(&self) -> bool {
        matches!(
            self,
            Self::RestoreSysctl { .. } | Self::StopForwarding { .. }
        )
    }

    /// Whether both are about the same shared resource.
    pub fn shares(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::RestoreSysctl { set, .. }, Self::RestoreSysctl { set: other, .. }) => {
                set.is_same(other)
            }
            (Self::StopForwarding { .. }, Self::StopForwarding { .. }) => true,
            _ => false,
        }
    }

    /// Whether there is something to restore: not if the value was the same before.
    pub fn changes(&self) -> bool {
        match self {
            Self::RestoreSysctl { set, before } => set.value != *before,
            _ => true,
        }
    }
}

impl fmt::Display for Undo {
    /// For people, in the imperative.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetDown(link) => write!(f, "set {link} down"),
            Self::RestoreQueueLength(link, packets) => {
                write!(f, "set the queue length of {link} to {packets}")
            }
            Self::RemoveAddress(link, address) => {
                write!(f, "remove address {address} from {link}")
            }
            Self::RemoveNextHopObject(NextHopObject { id, .. }) => {
                write!(f, "remove next hop {id}")
            }
            Self::RemoveRoute(route) => write!(f, "remove the route {route}"),
            Self::RemoveRule(rule) => write!(f, "remove rule {rule}"),
            Self::RestoreSysctl { set, before } => write!(f, "set {} to {before}", set.path()),
            Self::StopForwarding { .. } => f.write_str("stop to forward IPv6 between all devices"),
            Self::DeleteUfwRule { from, to } => {
                write!(f, "delete the rule of ufw from {from} to {to}")
            }
            Self::DeleteRuleset(name) => write!(f, "delete the nftables table {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;
    use crate::plan::{Family, Protocol, Target, route::MAIN_TABLE};

    fn setting(link: LinkRef, name: &str) -> Resource {
        Resource::Sysctl(Sysctl {
            link,
            name: name.to_owned(),
            value: "1".to_owned(),
        })
    }

    fn route(destination: IpPrefix) -> Resource {
        Resource::Route(Route {
            destination,
            target: Target::Device(LinkRef::tun("nat64")),
            table: MAIN_TABLE,
            metric: 0,
            mtu: None,
            advmss: None,
            protocol: Protocol::Static,
        })
    }

    /// A device without IPv6 (`disable_ipv6`) refuses IPv6 addresses and routes, and nothing else.
    #[test]
    fn ipv6_addresses_and_routes_need_ipv6() {
        let v4 = IpPrefix::V4([192, 0, 2, 0].into(), 24);
        let v6 = IpPrefix::V6("2001:db8::".parse().unwrap(), 32);
        let link = || LinkRef::tun("nat64");
        for (resource, needs_ipv6) in [
            (Resource::Address(link(), v6), true),
            (Resource::Address(link(), v4), false),
            (route(v6), true),
            (route(v4), false),
            (Resource::LinkUp(link()), false),
            (Resource::Forwarding, false),
        ] {
            assert_eq!(resource.needs_ipv6(), needs_ipv6, "{resource}");
        }
    }

    /// A setting or a ruleset replaces one of the same name, without an undo of that in between.
    #[test]
    fn a_resource_replaces_another_state_of_itself() {
        let ruleset = |name: &str, text: &str| Resource::Ruleset {
            name: Table::new(Family::Inet, name),
            text: text.to_owned(),
        };
        let [eth0, lan0, eth1] = [(2, "eth0"), (2, "lan0"), (3, "eth1")]
            .map(|(index, name)| setting(LinkRef::new(index, name), "force_forwarding"));
        let other_setting = setting(LinkRef::new(2, "eth0"), "disable_ipv6");
        for (one, other, replaces) in [
            (ruleset("a", "x"), ruleset("a", "y"), true),
            (ruleset("a", "x"), ruleset("b", "x"), false),
            (eth0.clone(), lan0, true),
            (eth0.clone(), eth1, false),
            (eth0.clone(), other_setting, false),
            (eth0, ruleset("a", "x"), false),
            // Addresses may be beside each other.
            (Resource::Forwarding, Resource::Forwarding, false),
        ] {
            assert_eq!(one.replaces(&other), replaces, "{one}, {other}");
        }
    }

    /// What several CLATs may need is known to each of them; the rest is of one.
    #[test]
    fn settings_of_the_host_are_shared() {
        let link = || LinkRef::new(2, "eth0");
        let undo_of = |resource: Resource| resource.undo(Before::Value("0".to_owned())).unwrap();
        for (undo, is_shared) in [
            (undo_of(setting(link(), "force_forwarding")), true),
            (Undo::StopForwarding { routers: vec![] }, true),
            (undo_of(Resource::LinkUp(link())), false),
            (Undo::DeleteRuleset(Table::new(Family::Inet, "a")), false),
        ] {
            assert_eq!(undo.is_shared(), is_shared, "{undo}");
            assert_eq!(undo.shares(&undo), is_shared, "{undo}");
        }
    }

    #[test]
    fn what_was_not_read_is_not_restored() {
        let link = LinkRef::tun("nat64");
        let queue = Resource::QueueLength(link.clone(), 1000);
        assert_eq!(queue.undo(Before::Unknown), None);
        assert_eq!(
            queue.undo(Before::QueueLength(77)),
            Some(Undo::RestoreQueueLength(link.clone(), 77))
        );
        let setting = Resource::Sysctl(Sysctl {
            link,
            name: "addr_gen_mode".to_owned(),
            value: "1".to_owned(),
        });
        assert_eq!(setting.undo(Before::Unknown), None);
        assert_eq!(Resource::Forwarding.undo(Before::Unknown), None);
        let before = Before::NotForwarding(vec!["br0".to_owned()]);
        let routers = vec!["br0".to_owned()];
        let undo = Undo::StopForwarding { routers };
        assert_eq!(Resource::Forwarding.undo(before), Some(undo));
    }
}
